//! The log: one line per event, in the shape etcd writes, so that what reads etcd's log reads ours.
//!
//! A JSON line is `{"level":…,"ts":…,"caller":…,"msg":…,<fields>}`. `ts` is UTC with microseconds
//! (`2026-11-23T05:42:00.123456Z`), `caller` is `room/file.rs:line`, durations are Go-style
//! strings (`"100ms"`). The console format carries the same facts separated by tabs.
//!
//! This room owns the log's outputs (stderr, stdout, files, the systemd journal) and reads the wall clock for `ts`.
//! It depends on no other room, but for the thread that compresses old files, and every room may log.
//!
//! Invariants:
//! - A line that is below the configured level costs one relaxed atomic load and formats nothing.
//! - A line reaches an output in one write, under one lock: lines never interleave.
//! - A failed write is counted in [`lines_lost`] and otherwise ignored: the log never panics and
//!   never stops the server. An output that blocks (a full pipe) does block the writer, as in etcd.
//! - One call site emits at most 100 lines a second and from there on every 100th, the sampling
//!   that etcd's logger applies, so that a hot loop cannot flood the disk.
//!
//! ```ignore
//! crate::log!(info, "serving client traffic", traffic = "grpc", address = %addr);
//! crate::log!(warn, "slow fdatasync", took = elapsed, "expected-duration" = limit);
//! ```

mod duration;
mod field;
mod journal;
mod level;
mod output;
mod record;
mod rotation;
mod timestamp;

pub use duration::GoDuration;
pub use field::Field;
pub use level::{Format, Level};
pub use output::{InitError, Options, Output, init, lines_lost};
pub use record::{Record, Site};
pub use rotation::Rotation;

/// Whether a line of `level` would be written now.
#[inline]
#[must_use]
pub fn enabled(level: Level) -> bool {
    output::enabled(level)
}

/// Writes one line to the log.
///
/// `log!(level, message, key = value, …)` with a level of `debug`, `info`, `warn`, `error`,
/// `dpanic`, `panic` or `fatal`. No level ends the process: that is the caller's decision.
/// A value implements [`Field`]; `key = %value` uses its `Display` and `key = ?value` its `Debug`.
/// A key is an identifier (each `_` is written as `-`, the way etcd spells its keys) or a string
/// literal, which is written as it is. Nothing is evaluated when the level is off.
#[macro_export]
macro_rules! log {
    (@level debug) => { $crate::trace::Level::Debug };
    (@level info) => { $crate::trace::Level::Info };
    (@level warn) => { $crate::trace::Level::Warn };
    (@level error) => { $crate::trace::Level::Error };
    (@level dpanic) => { $crate::trace::Level::Dpanic };
    (@level panic) => { $crate::trace::Level::Panic };
    (@level fatal) => { $crate::trace::Level::Fatal };

    (@fields $record:ident,) => {};
    (@fields $record:ident, $key:ident = %$value:expr $(, $($rest:tt)*)?) => {
        $record.display(stringify!($key), &$value);
        $crate::log!(@fields $record, $($($rest)*)?);
    };
    (@fields $record:ident, $key:ident = ?$value:expr $(, $($rest:tt)*)?) => {
        $record.debug(stringify!($key), &$value);
        $crate::log!(@fields $record, $($($rest)*)?);
    };
    (@fields $record:ident, $key:ident = $value:expr $(, $($rest:tt)*)?) => {
        $record.field(stringify!($key), &$value);
        $crate::log!(@fields $record, $($($rest)*)?);
    };
    (@fields $record:ident, $key:literal = %$value:expr $(, $($rest:tt)*)?) => {
        $record.display($key, &$value);
        $crate::log!(@fields $record, $($($rest)*)?);
    };
    (@fields $record:ident, $key:literal = ?$value:expr $(, $($rest:tt)*)?) => {
        $record.debug($key, &$value);
        $crate::log!(@fields $record, $($($rest)*)?);
    };
    (@fields $record:ident, $key:literal = $value:expr $(, $($rest:tt)*)?) => {
        $record.field($key, &$value);
        $crate::log!(@fields $record, $($($rest)*)?);
    };

    ($level:ident, $message:expr $(, $($fields:tt)*)?) => {{
        if $crate::trace::enabled($crate::log!(@level $level)) {
            static SITE: $crate::trace::Site = $crate::trace::Site::new(file!(), line!());
            if let Some(admitted) = SITE.admit() {
                #[allow(unused_mut)]
                let mut record = $crate::trace::Record::new(
                    $crate::log!(@level $level),
                    &SITE,
                    admitted,
                    $message,
                );
                $crate::log!(@fields record, $($($fields)*)?);
                record.submit();
            }
        }
    }};
}

#[cfg(test)]
mod tests;
