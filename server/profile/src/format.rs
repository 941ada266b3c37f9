//! The form of profiles: `profile.proto` of <https://github.com/google/pprof>, compressed by gzip.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

/// The messages, as far as they are used here.
mod message {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub sample: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub string_table: Vec<String>,
        #[prost(int64, tag = "9")]
        pub time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub period: i64,
        #[prost(int64, tag = "14")]
        pub default_sample_type: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct ValueType {
        #[prost(int64, tag = "1")]
        pub kind: i64,
        #[prost(int64, tag = "2")]
        pub unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub label: Vec<Label>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(int64, tag = "1")]
        pub key: i64,
        #[prost(int64, tag = "2")]
        pub text: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Location {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(message, repeated, tag = "4")]
        pub line: Vec<Line>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct Line {
        #[prost(uint64, tag = "1")]
        pub function_id: u64,
        #[prost(int64, tag = "2")]
        pub line: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Function {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(int64, tag = "2")]
        pub name: i64,
        #[prost(int64, tag = "3")]
        pub system_name: i64,
        #[prost(int64, tag = "4")]
        pub filename: i64,
    }
}

/// A line of code, or what stands for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The function's name.
    pub function: String,
    /// The file that it is in; empty where that is not known.
    pub file: String,
    /// 0 where it is not known.
    pub line: u32,
}

impl Line {
    /// Something that is no function.
    pub fn named(name: &str) -> Line {
        Line {
            function: name.to_owned(),
            ..Line::default()
        }
    }
}

/// A profile that is being written.
pub struct Profile {
    message: message::Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<Vec<message::Line>, u64>,
}

impl Profile {
    /// Without samples. Each has a value of each of `types` (what, and in which unit), of which the last
    /// is what is shown unless another is asked for.
    pub fn of(types: &[(&str, &str)]) -> Profile {
        let mut profile = Profile {
            message: message::Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        // The form asks for it to be the first.
        profile.string("");
        for (kind, unit) in types {
            let (kind, unit) = (profile.string(kind), profile.string(unit));
            profile.message.default_sample_type = kind;
            let of = message::ValueType { kind, unit };
            profile.message.sample_type.push(of);
        }
        profile.message.period_type = profile.message.sample_type.last().copied();
        profile
    }

    /// One sample stands for so much of the last type, taken from `start` on for `duration`.
    pub fn sampled(&mut self, period: i64, start: SystemTime, duration: Duration) {
        let since = start.duration_since(SystemTime::UNIX_EPOCH);
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        self.message.time_nanos = nanos(since.unwrap_or_default());
        self.message.duration_nanos = nanos(duration);
        self.message.period = period;
    }

    /// Adds what was seen of a thread: `stack` from the innermost frame outwards, in each the functions
    /// that were inlined from the innermost outwards.
    pub fn add(&mut self, stack: &[Vec<Line>], values: Vec<i64>, thread: Option<&str>) {
        let location_id = stack.iter().map(|frame| self.location(frame)).collect();
        let label = thread.map(|thread| message::Label {
            key: self.string("thread"),
            text: self.string(thread),
        });
        self.message.sample.push(message::Sample {
            location_id,
            value: values,
            label: label.into_iter().collect(),
        });
    }

    /// The bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let written = encoder.write_all(&self.message.encode_to_vec());
        written
            .and_then(|()| encoder.finish())
            .expect("memory takes what is written to it")
    }

    fn location(&mut self, frame: &[Line]) -> u64 {
        let lines: Vec<_> = frame.iter().map(|line| self.line(line)).collect();
        if let Some(id) = self.locations.get(&lines) {
            return *id;
        }
        let id = self.message.location.len() as u64 + 1;
        self.locations.insert(lines.clone(), id);
        let location = message::Location { id, line: lines };
        self.message.location.push(location);
        id
    }

    fn line(&mut self, line: &Line) -> message::Line {
        let (name, filename) = (self.string(&line.function), self.string(&line.file));
        let next = self.message.function.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.message.function.push(message::Function {
                id,
                name,
                system_name: name,
                filename,
            });
        }
        message::Line {
            function_id: id,
            line: line.line.into(),
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(at) = self.strings.get(text) {
            return *at;
        }
        let at = i64::try_from(self.strings.len()).expect("strings are in memory");
        self.strings.insert(text.to_owned(), at);
        self.message.string_table.push(text.to_owned());
        at
    }
}

/// A sample's functions, values and thread.
#[cfg(test)]
pub type Told = (Vec<String>, Vec<i64>, Option<String>);

/// What a profile says, for tests.
#[cfg(test)]
pub fn told(bytes: &[u8]) -> Vec<Told> {
    use std::io::Read as _;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .unwrap();
    let profile = message::Profile::decode(&plain[..]).unwrap();
    assert_eq!(profile.string_table[0], "");
    let text = |at: i64| profile.string_table[usize::try_from(at).unwrap()].clone();
    let function = |id: u64| text(profile.function[usize::try_from(id - 1).unwrap()].name);
    let location = |id: u64| profile.location[usize::try_from(id - 1).unwrap()].clone();
    let samples = profile.sample.iter().map(|sample| {
        let lines = sample.location_id.iter().flat_map(|id| location(*id).line);
        let functions = lines.map(|line| function(line.function_id)).collect();
        let thread = sample.label.first().map(|label| text(label.text));
        (functions, sample.value.clone(), thread)
    });
    samples.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_the_same_is_written_once() {
        let mut profile = Profile::of(&[("samples", "count"), ("cpu", "nanoseconds")]);
        let inlined = vec![Line::named("inner"), Line::named("outer")];
        let main = vec![Line::named("main")];
        profile.add(&[inlined.clone(), main.clone()], vec![1, 10], Some("a"));
        profile.add(std::slice::from_ref(&main), vec![2, 20], None);
        profile.add(&[inlined, main], vec![3, 30], Some("b"));
        assert_eq!(profile.message.location.len(), 2);
        assert_eq!(profile.message.function.len(), 3);
        let all = ["inner", "outer", "main"].map(str::to_owned).to_vec();
        let wanted = vec![
            (all.clone(), vec![1, 10], Some("a".to_owned())),
            (vec!["main".to_owned()], vec![2, 20], None),
            (all, vec![3, 30], Some("b".to_owned())),
        ];
        assert_eq!(told(&profile.encode()), wanted);
    }
}
