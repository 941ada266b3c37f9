//! Whether a store's history goes on where a chain ends. Pure.
//!
//! A cluster that was made again with the same flags has the same id, and so has one that was set back
//! to an earlier state: its records, and the positions of its log, tell them apart.

use crate::segment::Header;

/// What a leader's store shows of its history, once it has applied all that was committed before it
/// led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its term.
    pub term: u64,
    /// The last entry applied.
    pub index: u64,
    /// Its revision.
    pub revision: i64,
    /// Up to where it is compacted; -1 if it never was.
    pub compacted: i64,
    /// SHA-256 of its records at the chain's last revision; none where there are none.
    pub records: Option<String>,
}

/// Whether a history goes on where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Continuity {
    /// It does not: it is another cluster's.
    Broken,
    /// It may: the records that would tell were compacted.
    Possible,
    /// It does.
    Proven,
}

/// See [`Continuity`].
pub fn continuity(end: &Header, history: &History) -> Continuity {
    let is_behind = end.term > history.term
        || end.last_index > history.index
        || end.last_revision > history.revision;
    if is_behind {
        return Continuity::Broken;
    }
    match (&end.last_records, &history.records) {
        (Some(archived), Some(found)) if archived == found => Continuity::Proven,
        // A compaction may have taken some of them, or all.
        _ if end.last_revision <= history.compacted => Continuity::Possible,
        // Of the first revision there are no records.
        (None, None) => Continuity::Possible,
        _ => Continuity::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::sample;

    #[test]
    fn a_history_goes_on_only_where_the_chain_ends() {
        let end = sample().header;
        let own = History {
            term: 2,
            index: 15,
            revision: 6,
            compacted: -1,
            records: end.last_records.clone(),
        };
        let is = |change: fn(&mut History)| {
            let mut history = own.clone();
            change(&mut history);
            continuity(&end, &history)
        };
        assert_eq!(is(|_| {}), Continuity::Proven);
        assert_eq!(is(|own| own.revision = 60), Continuity::Proven);
        assert_eq!(is(|own| own.revision = 5), Continuity::Broken);
        assert_eq!(is(|own| own.index = 14), Continuity::Broken);
        assert_eq!(is(|own| own.term = 1), Continuity::Broken);
        let other = |own: &mut History| own.records = Some("other".into());
        assert_eq!(is(other), Continuity::Broken);
        assert_eq!(is(|own| own.records = None), Continuity::Broken);
        let compacted = |own: &mut History| (own.records, own.compacted) = (None, 6);
        assert_eq!(is(compacted), Continuity::Possible);
    }
}
