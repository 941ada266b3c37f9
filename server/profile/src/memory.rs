//! What the process's memory is, as the system counts it: how much of it is resident, by what it is of. The
//! allocator keeps no samples of who took it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::format::{Line, Profile};

/// How many areas there are of one kind, and how many bytes of them are resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Areas {
    count: i64,
    resident: i64,
}

/// For people: the largest first.
pub fn text() -> String {
    let all = areas(&mappings());
    let total: i64 = all.values().map(|areas| areas.resident).sum();
    let mut text = format!("resident memory: {total} bytes, by what it is of\n");
    let mut largest: Vec<_> = all.iter().collect();
    largest.sort_by_key(|(_, areas)| std::cmp::Reverse(areas.resident));
    for (name, Areas { count, resident }) in largest {
        writeln!(text, "{resident}\tin {count}\t{name}")
            .expect("a string takes what is written to it");
    }
    text
}

/// As a profile.
pub fn profile() -> Vec<u8> {
    let mut profile = Profile::of(&[("inuse_objects", "count"), ("inuse_space", "bytes")]);
    profile.sampled(1, SystemTime::now(), Duration::ZERO);
    for (name, Areas { count, resident }) in areas(&mappings()) {
        profile.add(&[vec![Line::named(&name)]], vec![count, resident], None);
    }
    profile.encode()
}

fn mappings() -> String {
    crate::fs::read_text("/proc/self/smaps").unwrap_or_default()
}

/// By name, of the text of `/proc/PID/smaps`: a line that names an area, then lines of `What: 1 kB`.
fn areas(text: &str) -> BTreeMap<String, Areas> {
    let mut all: BTreeMap<String, Areas> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if !first.ends_with(':') {
            // Its addresses, what may be done with it, where in which file, and the file's name.
            name = words.skip(4).collect::<Vec<_>>().join(" ");
            if name.is_empty() {
                name.push_str("anonymous memory");
            }
            all.entry(name.clone()).or_default().count += 1;
        } else if first == "Rss:" {
            let kibibytes = words.next().and_then(|word| word.parse::<i64>().ok());
            let bytes = kibibytes.unwrap_or_default().saturating_mul(1024);
            all.entry(name.clone()).or_default().resident += bytes;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_one_name_are_added() {
        let text = "\
55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0 \nSize: 132 kB\nRss:  8 kB\nVmFlags: rd wr\n\
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0 \nSize: 132 kB\nRss:  4 kB\n\
7f0000000000-7f0000001000 r--p 00000000 08:01 77   /a file (deleted)\nRss:  4 kB\n";
        let wanted = [
            ("/a file (deleted)", 1, 4096),
            ("anonymous memory", 2, 12288),
        ];
        let wanted =
            wanted.map(|(name, count, resident)| (name.to_owned(), Areas { count, resident }));
        assert_eq!(areas(text), BTreeMap::from(wanted));
    }

    #[test]
    fn this_process_has_memory() {
        let samples = crate::format::told(&profile());
        let anonymous = samples
            .iter()
            .find(|sample| sample.0 == ["anonymous memory"]);
        assert!(anonymous.unwrap().1[1] > 4096, "{samples:#?}");
        assert!(text().contains("anonymous memory\n"));
    }
}
