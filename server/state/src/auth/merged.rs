//! What a user's roles allow together: ranges of keys, merged, so that a range asked for may be
//! covered by several that touch.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::auth::{Allows, Permission};
use crate::types::{KeyRange, RangeEnd};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    read: Spans,
    write: Spans,
}

impl Merged {
    /// Merges permissions. One without a key, or whose end is not beyond it, allows nothing.
    pub fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Merged {
        let mut merged = Merged::default();
        for permission in permissions.filter(|permission| permission.is_valid()) {
            let span = Span::of(&permission.range());
            if permission.allows != Allows::Write {
                merged.read.0.push(span.clone());
            }
            if permission.allows != Allows::Read {
                merged.write.0.push(span);
            }
        }
        merged.read.merge();
        merged.write.merge();
        merged
    }

    /// Whether every key of `range` may be read.
    pub fn may_read(&self, range: &KeyRange) -> bool {
        self.read.cover(range)
    }

    /// Whether every key of `range` may be written.
    pub fn may_write(&self, range: &KeyRange) -> bool {
        self.write.cover(range)
    }
}

/// Keys to be looked up one after the other: the first at `from` or behind it, ascending.
pub trait Keys<'k>: Fn(&[u8]) -> Option<&'k Bytes> {}

impl<'k, F: Fn(&[u8]) -> Option<&'k Bytes>> Keys<'k> for F {}

impl Merged {
    /// Whether every one of some keys may be read. Takes a look-up a range, however many the keys.
    pub fn may_read_all<'k>(&self, keys: impl Keys<'k>) -> bool {
        self.read.hold(keys)
    }

    /// Whether every one of some keys may be written.
    pub fn may_write_all<'k>(&self, keys: impl Keys<'k>) -> bool {
        self.write.hold(keys)
    }
}

/// Keys from `start` up to `end`; none is no end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    fn of(range: &KeyRange) -> Span {
        let end = match &range.end {
            RangeEnd::Unbounded => None,
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::SingleKey => Some(after(&range.start)),
        };
        Span {
            start: range.start.clone(),
            end,
        }
    }
}

/// The key right behind `key`.
fn after(key: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len() + 1);
    out.put_slice(key);
    out.put_u8(0);
    out.freeze()
}

/// Whether `end` is at `key` or beyond it.
fn reaches(end: Option<&Bytes>, key: Option<&Bytes>) -> bool {
    match (end, key) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(end), Some(key)) => end >= key,
    }
}

/// Spans, ascending; merged ones neither meet nor touch.
#[derive(Clone, Debug, Default)]
struct Spans(Vec<Span>);

impl Spans {
    fn merge(&mut self) {
        let mut spans = std::mem::take(&mut self.0);
        spans.sort();
        for span in spans {
            match self.0.last_mut() {
                Some(last) if reaches(last.end.as_ref(), Some(&span.start)) => {
                    if !reaches(last.end.as_ref(), span.end.as_ref()) {
                        last.end = span.end;
                    }
                }
                _ => self.0.push(span),
            }
        }
    }

    /// The last span that begins at `key` or before it.
    fn at(&self, key: &Bytes) -> Option<&Span> {
        let behind = self.0.partition_point(|span| span.start <= *key);
        behind.checked_sub(1).map(|at| &self.0[at])
    }

    fn hold<'k>(&self, keys: impl Keys<'k>) -> bool {
        let mut next = keys(b"");
        while let Some(key) = next {
            let Some(span) = self.at(key) else {
                return false;
            };
            let Some(end) = &span.end else {
                return true;
            };
            if key >= end {
                return false;
            }
            next = keys(end);
        }
        true
    }

    fn cover(&self, range: &KeyRange) -> bool {
        let asked = Span::of(range);
        let Some(span) = self.at(&asked.start) else {
            return false;
        };
        // An end before the start asks for nothing; it is held against the permission all the same.
        let begins = asked.end.as_ref().is_none_or(|end| span.start < *end);
        let holds_start = span.end.as_ref().is_none_or(|end| asked.start < *end);
        begins && holds_start && reaches(span.end.as_ref(), asked.end.as_ref())
    }
}
