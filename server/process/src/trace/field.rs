//! What can be the value of a log field, and how it is written in JSON.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::GoDuration;
use super::timestamp::append_timestamp;

/// A value that a log line can carry.
pub trait Field {
    /// Appends the value as JSON.
    fn encode(&self, line: &mut Vec<u8>);
}

/// Appends `text` as a JSON string, escaped.
pub(super) fn append_string(line: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(line, text).expect("a string always serialises into a Vec");
}

/// Appends what `Display` prints, as a JSON string. A `Display` that fails leaves what it wrote.
pub(super) fn append_display(line: &mut Vec<u8>, value: &dyn fmt::Display) {
    let mut text = String::new();
    let _ = write!(text, "{value}");
    append_string(line, &text);
}

/// Appends what `Debug` prints, as a JSON string.
pub(super) fn append_debug(line: &mut Vec<u8>, value: &dyn fmt::Debug) {
    let mut text = String::new();
    let _ = write!(text, "{value:?}");
    append_string(line, &text);
}

impl Field for str {
    fn encode(&self, line: &mut Vec<u8>) {
        append_string(line, self);
    }
}

impl Field for String {
    fn encode(&self, line: &mut Vec<u8>) {
        append_string(line, self);
    }
}

impl Field for Path {
    fn encode(&self, line: &mut Vec<u8>) {
        append_string(line, &self.to_string_lossy());
    }
}

impl Field for PathBuf {
    fn encode(&self, line: &mut Vec<u8>) {
        self.as_path().encode(line);
    }
}

/// A Go-style string such as `"100ms"`.
impl Field for Duration {
    fn encode(&self, line: &mut Vec<u8>) {
        append_display(line, &GoDuration(*self));
    }
}

/// As the line's own `ts`.
impl Field for SystemTime {
    fn encode(&self, line: &mut Vec<u8>) {
        line.push(b'"');
        append_timestamp(line, self.duration_since(UNIX_EPOCH).unwrap_or_default());
        line.push(b'"');
    }
}

impl Field for f64 {
    /// JSON has no NaN and no infinity: they become strings.
    fn encode(&self, line: &mut Vec<u8>) {
        if !self.is_finite() {
            return append_display(line, self);
        }
        write!(line, "{self}").expect("writing to a Vec cannot fail");
    }
}

macro_rules! fields_that_print_as_json {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn encode(&self, line: &mut Vec<u8>) {
                write!(line, "{self}").expect("writing to a Vec cannot fail");
            }
        }
    )*};
}

fields_that_print_as_json!(
    bool, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

macro_rules! fields_that_print_as_strings {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn encode(&self, line: &mut Vec<u8>) {
                append_display(line, self);
            }
        }
    )*};
}

fields_that_print_as_strings!(IpAddr, SocketAddr, fmt::Arguments<'_>);

impl<T: Field + ?Sized> Field for &T {
    fn encode(&self, line: &mut Vec<u8>) {
        (**self).encode(line);
    }
}

/// `None` is JSON's `null`.
impl<T: Field> Field for Option<T> {
    fn encode(&self, line: &mut Vec<u8>) {
        match self {
            Some(value) => value.encode(line),
            None => line.extend_from_slice(b"null"),
        }
    }
}

impl<T: Field> Field for [T] {
    fn encode(&self, line: &mut Vec<u8>) {
        line.push(b'[');
        for (position, value) in self.iter().enumerate() {
            if position > 0 {
                line.push(b',');
            }
            value.encode(line);
        }
        line.push(b']');
    }
}

impl<T: Field> Field for Vec<T> {
    fn encode(&self, line: &mut Vec<u8>) {
        self.as_slice().encode(line);
    }
}

impl<T: Field, const N: usize> Field for [T; N] {
    fn encode(&self, line: &mut Vec<u8>) {
        self.as_slice().encode(line);
    }
}
