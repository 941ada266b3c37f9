//! What a log says of itself when it is opened, held against what consensus can go on with.
//!
//! An earlier release took whatever a peer said into its log. openraft counts on from what it finds
//! there, and would end the process at an election or at the first entry, at every start again.

use super::entry::{self, EntryError};
use super::{LogId, Vote, sane};
use crate::wal::Recovered;

/// What to do about a log that cannot be gone on with.
const ADVICE: &str = "nothing was changed; if the other members start, remove this one and add it \
                      anew with an empty --data-dir; if none does, restore a backup into new \
                      directories (`engramctl snapshot restore` or `engramctl backup restore`), and \
                      look at who can reach the peers' port without a certificate";

/// Why a log is not gone on with.
#[derive(Debug, thiserror::Error)]
pub enum LogRefused {
    /// A record cannot be decoded.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A number from which nobody can count on.
    #[error(
        "the log says that {what} is of term {term} and index {index}, which no cluster reaches: the disk is damaged, or a peer that is no member of this cluster said so to an earlier release; {ADVICE}"
    )]
    OutOfReach {
        /// What is there.
        what: &'static str,
        /// Its term.
        term: u64,
        /// Its index; 0 for a vote.
        index: u64,
    },
    /// Committed, and not there.
    #[error(
        "the log says that entry {committed} is committed, and ends at entry {last}: the disk is damaged, or a peer that is no member of this cluster said so to an earlier release; {ADVICE}"
    )]
    Beyond {
        /// The commit mark's index.
        committed: u64,
        /// The last entry's.
        last: u64,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    /// The last entry, or what was purged last.
    pub last: Option<LogId>,
}

impl Marks {
    /// Reads what was recovered.
    ///
    /// # Errors
    /// See [`LogRefused`].
    pub fn read(recovered: Recovered) -> Result<Marks, LogRefused> {
        let purged = recovered.purged.map(|(_, id)| entry::decode_log_id(id));
        let purged = purged.transpose()?;
        let last = recovered.last.map(|id| entry::log_id(id.term, id.index));
        let marks = Marks {
            vote: recovered.vote.map(entry::decode_vote).transpose()?,
            committed: recovered.committed.map(entry::decode_log_id).transpose()?,
            purged,
            last: last.or(purged),
        };
        marks.refuse_out_of_reach()?;
        Ok(marks)
    }

    fn refuse_out_of_reach(&self) -> Result<(), LogRefused> {
        if let Some(vote) = self.vote.filter(|vote| sane::check_term(vote).is_err()) {
            return Err(LogRefused::OutOfReach {
                what: "this member's vote",
                term: vote.leader_id.term,
                index: 0,
            });
        }
        let ids = [
            ("what is committed", self.committed),
            ("what was purged", self.purged),
            ("the last entry", self.last),
        ];
        for (what, id) in ids {
            if let Some(id) = id.filter(|id| sane::check_id(id).is_err()) {
                let at = entry::position(&id);
                return Err(LogRefused::OutOfReach {
                    what,
                    term: at.term,
                    index: at.index,
                });
            }
        }
        Ok(())
    }

    /// See [`super::LogStore::refuse_mark_beyond`].
    pub fn refuse_beyond(committed: Option<LogId>, last: Option<LogId>) -> Result<(), LogRefused> {
        match committed {
            Some(committed) if Some(committed.index()) > last.map(|last| last.index()) => {
                Err(LogRefused::Beyond {
                    committed: committed.index(),
                    last: last.map_or(0, |last| last.index()),
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{encode_log_id, encode_vote, log_id};
    use super::*;
    use crate::wal::EntryId;

    fn refused(recovered: Recovered) -> String {
        Marks::read(recovered).unwrap_err().to_string()
    }

    #[test]
    fn a_number_that_nobody_can_count_on_from_is_refused_with_advice() {
        for number in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 62) + 1] {
            let vote = Recovered {
                vote: Some(encode_vote(&Vote::new(number, 7))),
                ..Recovered::default()
            };
            let said = refused(vote);
            assert!(said.contains(&number.to_string()), "{said}");
            assert!(said.contains("remove this one and add it anew"), "{said}");
            for id in [log_id(number, 3), log_id(3, number)] {
                let committed = Recovered {
                    committed: Some(encode_log_id(&id)),
                    ..Recovered::default()
                };
                assert!(refused(committed).contains("what is committed"));
                let purged = Recovered {
                    purged: Some((id.index(), encode_log_id(&id))),
                    ..Recovered::default()
                };
                assert!(refused(purged).contains("what was purged"));
                let at = entry::position(&id);
                let last = Recovered {
                    last: Some(EntryId {
                        index: at.index,
                        term: at.term,
                    }),
                    ..Recovered::default()
                };
                assert!(refused(last).contains("the last entry"));
            }
        }
        let sound = Recovered {
            vote: Some(encode_vote(&Vote::new(1 << 62, 7))),
            committed: Some(encode_log_id(&log_id(9, 1 << 62))),
            ..Recovered::default()
        };
        Marks::read(sound).unwrap();
    }

    #[test]
    fn what_is_committed_is_in_the_log() {
        let beyond = |committed, last| {
            let of = |index: Option<u64>| index.map(|index| log_id(2, index));
            Marks::refuse_beyond(of(committed), of(last)).is_err()
        };
        assert!(beyond(Some(5), Some(4)) && beyond(Some(0), None));
        assert!(!beyond(Some(5), Some(5)) && !beyond(None, None) && !beyond(None, Some(3)));
    }
}
