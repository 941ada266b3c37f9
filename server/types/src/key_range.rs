//! A normalised range of keys. etcd's `key`/`range_end` pair is read once, here, so that every
//! later room (authorisation above all) sees the same meaning.

use bytes::Bytes;

/// Where a range ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeEnd {
    /// Just the start key (an absent `range_end`).
    SingleKey,
    /// Every key from the start on (`range_end` = "\0").
    Unbounded,
    /// Up to, not including, this key.
    Before(Bytes),
}

/// Keys from `start` on, up to `end`. A `Before` end at or below the start is an empty range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Bytes,
    /// Its end.
    pub end: RangeEnd,
}

impl KeyRange {
    /// Reads etcd's pair. An empty `range_end` is a single key, a lone zero byte is "no end".
    #[inline]
    pub fn from_request(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = match range_end.as_ref() {
            [] => RangeEnd::SingleKey,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        KeyRange { start: key, end }
    }

    /// The range that holds one key.
    #[inline]
    pub fn single(key: Bytes) -> KeyRange {
        KeyRange {
            start: key,
            end: RangeEnd::SingleKey,
        }
    }

    /// Whether the range asks for one key.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::SingleKey
    }

    /// Whether no key can be in the range.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if *end <= self.start)
    }

    /// Whether `key` lies in the range.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::SingleKey => key == self.start.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static [u8], end: &'static [u8]) -> KeyRange {
        KeyRange::from_request(Bytes::from_static(key), Bytes::from_static(end))
    }

    #[test]
    fn a_range_holds_what_etcd_says_it_holds() {
        assert!(range(b"a", b"").contains(b"a"));
        assert!(!range(b"a", b"").contains(b"a\0"));
        assert!(range(b"a", b"\0").contains(b"\xff\xff"));
        assert!(!range(b"b", b"\0").contains(b"a"));
        assert!(range(b"a", b"c").contains(b"b") && !range(b"a", b"c").contains(b"c"));
        assert!(range(b"z", b"a").is_empty() && range(b"a", b"a").is_empty());
        assert!(!range(b"a", b"").is_empty() && range(b"a", b"").is_single());
    }
}
