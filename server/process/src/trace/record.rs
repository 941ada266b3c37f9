//! One line in the making, and the call site it comes from.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::field::{append_debug, append_display, append_string};
use super::timestamp::{append_timestamp, since_epoch};
use super::{Field, Format, Level, output};

/// Lines a second that a call site may write before it is thinned out (etcd's logger: 100).
const LINES_BEFORE_SAMPLING: u64 = 100;
/// From then on one line in so many is written (etcd's logger: 100).
const SAMPLING_INTERVAL: u64 = 100;
/// Bits of [`Site::seen`] that count lines; the rest hold the second they were counted in.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// A place in the source that logs. It remembers how often it has done so in this second.
#[derive(Debug)]
pub struct Site {
    file: &'static str,
    line: u32,
    /// The second in the upper 40 bits, the lines seen in it in the lower 24.
    seen: AtomicU64,
}

/// Proof that [`Site::admit`] let a line pass, with the moment it did.
#[derive(Clone, Copy, Debug)]
pub struct Admitted(Duration);

impl Site {
    /// The site at `file!()` and `line!()`.
    #[must_use]
    pub const fn new(file: &'static str, line: u32) -> Self {
        Self {
            file,
            line,
            seen: AtomicU64::new(0),
        }
    }

    /// Counts a line; `None` when it is to be left out because this site writes too many.
    #[must_use]
    pub fn admit(&self) -> Option<Admitted> {
        let now = since_epoch();
        self.admit_at(now.as_secs()).then_some(Admitted(now))
    }

    /// Lets a line pass uncounted, for lines whose number is bounded by what they report.
    #[must_use]
    pub fn admit_unsampled(&self) -> Admitted {
        Admitted(since_epoch())
    }

    /// [`Site::admit`] with the second as an argument. Two threads that race in the same instant
    /// may lose a count: the limit is a protection, not a meter.
    fn admit_at(&self, second: u64) -> bool {
        let window = second << COUNT_BITS;
        let seen = self.seen.load(Ordering::Relaxed);
        let count = if seen & !COUNT_MASK == window {
            (seen & COUNT_MASK) + 1
        } else {
            1
        };
        self.seen
            .store(window | count.min(COUNT_MASK), Ordering::Relaxed);
        count <= LINES_BEFORE_SAMPLING
            || (count - LINES_BEFORE_SAMPLING).is_multiple_of(SAMPLING_INTERVAL)
    }

    /// `room/file.rs`: the last two parts of the path.
    fn short_file(&self) -> String {
        match (self.room(), self.file.rsplit('/').next()) {
            (Some(room), Some(name)) => format!("{room}/{name}"),
            _ => self.file.to_owned(),
        }
    }

    /// The folder; a file right in a crate's `src` has the crate's name for its room.
    fn room(&self) -> Option<&'static str> {
        let mut above = self.file.rsplit('/').skip(1);
        match (above.next(), above.next()) {
            (Some("src"), Some(of_crate)) => Some(of_crate),
            (folder, _) => folder,
        }
    }
}

/// A line being built. It is written by [`Record::submit`] and is lost if dropped before.
#[derive(Debug)]
#[must_use = "a record is written by submit"]
pub struct Record {
    level: Level,
    room: &'static str,
    line: Vec<u8>,
    format: Format,
    fields: usize,
    /// Where the fields begin.
    fields_at: usize,
}

impl Record {
    /// Begins a line in the configured format.
    pub fn new(level: Level, site: &Site, admitted: Admitted, message: impl AsRef<str>) -> Self {
        Self::with_format(output::format(), level, site, admitted, message.as_ref())
    }

    pub(super) fn with_format(
        format: Format,
        level: Level,
        site: &Site,
        Admitted(now): Admitted,
        message: &str,
    ) -> Self {
        let mut line = Vec::with_capacity(256);
        match format {
            Format::Json => {
                write_infallibly(&mut line, format_args!("{{\"level\":\"{level}\",\"ts\":\""));
                append_timestamp(&mut line, now);
                let (file, number) = (site.short_file(), site.line);
                write_infallibly(&mut line, format_args!("\",\"caller\":\"{file}:{number}\""));
                line.extend_from_slice(b",\"msg\":");
                append_string(&mut line, message);
            }
            Format::Console => {
                append_timestamp(&mut line, now);
                let (file, number) = (site.short_file(), site.line);
                write_infallibly(&mut line, format_args!("\t{level}\t{file}:{number}\t"));
                append_single_line(&mut line, message);
            }
        }
        Self {
            level,
            room: site.room().unwrap_or_default(),
            fields_at: line.len(),
            line,
            format,
            fields: 0,
        }
    }

    /// Adds a field. Each `_` of the key is written as `-`.
    pub fn field(&mut self, key: &str, value: &(impl Field + ?Sized)) {
        self.key(key);
        value.encode(&mut self.line);
    }

    /// Adds a field with what `Display` prints.
    pub fn display(&mut self, key: &str, value: &dyn fmt::Display) {
        self.key(key);
        append_display(&mut self.line, value);
    }

    /// Adds a field with what `Debug` prints.
    pub fn debug(&mut self, key: &str, value: &dyn fmt::Debug) {
        self.key(key);
        append_debug(&mut self.line, value);
    }

    /// Ends the line and writes it to every output.
    pub fn submit(self) {
        let (level, room) = (self.level, self.room);
        output::write_line(level, room, &self.finish());
    }

    fn key(&mut self, key: &str) {
        let opener: &[u8] = match (self.format, self.fields) {
            (Format::Console, 0) => b"\t{",
            _ => b",",
        };
        self.line.extend_from_slice(opener);
        append_string(&mut self.line, &key.replace('_', "-"));
        self.line.push(b':');
        self.fields += 1;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.format == Format::Json || self.fields > 0 {
            self.line.push(b'}');
        }
        if self.format == Format::Console {
            let fields = self.line.split_off(self.fields_at);
            append_spaced(&mut self.line, &fields);
        }
        self.line.push(b'\n');
        self.line
    }
}

fn write_infallibly(line: &mut Vec<u8>, arguments: fmt::Arguments<'_>) {
    line.write_fmt(arguments)
        .expect("writing to a Vec cannot fail");
}

/// JSON with a space behind each colon and comma, as etcd's console has it (`{"name": "default"}`): scripts look for it.
fn append_spaced(line: &mut Vec<u8>, json: &[u8]) {
    let (mut is_text, mut is_escaped) = (false, false);
    for &byte in json {
        line.push(byte);
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b',' | b':' if !is_text => line.push(b' '),
            _ => {}
        }
    }
}

/// The console format has no quoting, so a line break inside a message is shown as `\n`.
fn append_single_line(line: &mut Vec<u8>, message: &str) {
    for character in message.chars() {
        match character {
            '\n' => line.extend_from_slice(b"\\n"),
            '\r' => line.extend_from_slice(b"\\r"),
            other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_thinned_out_after_a_hundred_lines_a_second() {
        let site = Site::new("server/src/raft/mod.rs", 1);
        let admitted = (0..1_000).filter(|_| site.admit_at(7)).count();
        assert_eq!(admitted, 100 + 9);
        let next_second = (0..50).filter(|_| site.admit_at(8)).count();
        assert_eq!(next_second, 50);
    }

    #[test]
    fn the_caller_is_the_room_and_the_file() {
        let short = |file| Site::new(file, 1).short_file();
        assert_eq!(short("server/src/raft/mod.rs"), "raft/mod.rs");
        assert_eq!(
            short("/work/main/server/src/wal/segment/read.rs"),
            "segment/read.rs"
        );
        assert_eq!(short("main.rs"), "main.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
        assert_eq!(short("server/net/src/listener.rs"), "net/listener.rs");
    }
}
