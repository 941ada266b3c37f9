//! Comparing the members' stores: at start, on schedule, after compactions.
//!
//! Source: etcd's corrupt.go. Two stores differ where their hashes differ at one revision and one
//! compact revision. Unlike etcd, who is wrong is decided by majority: one bad member is told to
//! serve nobody, and the others go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::node::door::Door;
use crate::node::reads;
use crate::peer::CallError;
use crate::store::Store;
use crate::types::request::{Alarm, AlarmType, Op};
use crate::types::{MemberId, Revision};

/// How long a member may take to hash its store: 10 GB at 200 MB/s take 50 s.
const HASH_LIMIT: Duration = Duration::from_secs(60);

/// A member's store at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Whose.
    pub member: MemberId,
    /// The revision it was last compacted at.
    pub compact_revision: Revision,
    /// The hash.
    pub hash: u32,
}

/// What comparing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that could be compared differs.
    Same,
    /// These differ from what more than half of the voters have.
    Minority(Vec<MemberId>),
    /// They differ, and no side is a majority: all that were compared are suspect.
    Undecided(Vec<MemberId>),
}

/// Compares samples taken at one revision. Samples of another compact revision are not compared.
pub fn judge(samples: &[Sample], voters: usize) -> Verdict {
    let mut compacted: BTreeMap<Revision, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        compacted
            .entry(sample.compact_revision)
            .or_default()
            .push(sample);
    }
    let mut minority = Vec::new();
    for group in compacted.values() {
        let mut sides: BTreeMap<u32, Vec<MemberId>> = BTreeMap::new();
        for sample in group {
            sides.entry(sample.hash).or_default().push(sample.member);
        }
        if sides.len() == 1 {
            continue;
        }
        let majority = sides.iter().find(|(_, members)| members.len() * 2 > voters);
        let Some((right, _)) = majority else {
            return Verdict::Undecided(group.iter().map(|sample| sample.member).collect());
        };
        let wrong = group.iter().filter(|sample| sample.hash != *right);
        minority.extend(wrong.map(|sample| sample.member));
    }
    match minority.is_empty() {
        true => Verdict::Same,
        false => Verdict::Minority(minority),
    }
}

/// When stores are compared; none is off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    /// Before this member serves (`InitialCorruptCheck`).
    pub at_start: bool,
    /// `--corrupt-check-time`.
    pub every: Option<Duration>,
    /// `--compact-hash-check-time`, where `CompactHashCheck` is on: looked at so often, compared
    /// where something was compacted since.
    pub after_compactions: Option<Duration>,
}

/// Compares this member's store with the others'. Clones share everything.
#[derive(Clone)]
pub struct Comparison {
    pub member: MemberId,
    pub store: Arc<Store>,
    pub door: Door,
}

impl Verdict {
    /// Whether the verdict suspects `member`.
    pub fn suspects(&self, member: MemberId) -> bool {
        match self {
            Verdict::Same => false,
            Verdict::Minority(members) | Verdict::Undecided(members) => members.contains(&member),
        }
    }
}

impl Comparison {
    /// The compact revision, which a comparison after compactions goes by.
    pub fn compact_revision(&self) -> Revision {
        self.store.compact_revision()
    }

    /// Compares the voters' stores at this member's revision. Whoever does not answer is left out.
    pub async fn compare(&self) -> Verdict {
        let (voters, others) = {
            let cluster = self.store.cluster();
            let members = cluster.members.iter();
            let others: Vec<MemberId> = members
                .map(|member| member.id)
                .filter(|id| *id != self.member)
                .collect();
            let voters = cluster
                .members
                .iter()
                .filter(|member| !member.learner)
                .count();
            (voters, others)
        };
        let store = self.store.clone();
        let own = crate::threads::spawn_blocking(move || reads::hash_kv_now(&store, 0)).await;
        let Ok(Ok(own)) = own else {
            return Verdict::Same;
        };
        let mut samples = vec![Sample {
            member: self.member,
            compact_revision: own.compact_revision,
            hash: own.hash,
        }];
        for member in others {
            match self
                .door
                .peers
                .hash_kv(member, own.hash_revision, HASH_LIMIT)
                .await
            {
                Ok(answer) => samples.push(Sample {
                    member,
                    compact_revision: Revision(answer.compact_revision),
                    hash: answer.hash,
                }),
                Err(error) => unanswered(member, &error),
            }
        }
        let verdict = judge(&samples, voters);
        if verdict != Verdict::Same {
            crate::log!(
                error,
                "the members' stores differ",
                revision = own.hash_revision.0,
                samples = format!("{samples:?}"),
                verdict = format!("{verdict:?}")
            );
        }
        verdict
    }
}

fn unanswered(member: MemberId, error: &CallError) {
    crate::log!(warn, "a member's store could not be compared", peer = %member, error = %error);
}

/// The alarms that follow from a verdict.
pub fn alarms(verdict: Verdict) -> impl Iterator<Item = Op> {
    let members = match verdict {
        Verdict::Same => Vec::new(),
        Verdict::Minority(members) | Verdict::Undecided(members) => members,
    };
    members
        .into_iter()
        .map(|member| Op::Alarm(Alarm::Activate(member, AlarmType::Corrupt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(hashes: &[(i64, u32)]) -> Vec<Sample> {
        let numbered = (1..).zip(hashes);
        numbered
            .map(|(id, (compacted, hash))| Sample {
                member: MemberId(id),
                compact_revision: Revision(*compacted),
                hash: *hash,
            })
            .collect()
    }

    #[test]
    fn the_member_that_differs_from_the_majority_is_wrong() {
        assert_eq!(judge(&samples(&[(1, 7), (1, 7), (1, 7)]), 3), Verdict::Same);
        let wrong = Verdict::Minority(vec![MemberId(1)]);
        assert_eq!(judge(&samples(&[(1, 8), (1, 7), (1, 7)]), 3), wrong);
        let wrong = Verdict::Minority(vec![MemberId(2), MemberId(5)]);
        let five = [(1, 7), (1, 8), (1, 7), (1, 7), (1, 9)];
        assert_eq!(judge(&samples(&five), 5), wrong);
    }

    #[test]
    fn without_a_majority_all_are_suspect() {
        let all = Verdict::Undecided(vec![MemberId(1), MemberId(2)]);
        assert_eq!(judge(&samples(&[(1, 8), (1, 7)]), 2), all);
        // One of three did not answer.
        assert_eq!(judge(&samples(&[(1, 8), (1, 7)]), 3), all);
    }

    #[test]
    fn stores_compacted_at_different_revisions_are_not_compared() {
        assert_eq!(judge(&samples(&[(1, 7), (2, 8)]), 2), Verdict::Same);
        let wrong = Verdict::Minority(vec![MemberId(3)]);
        let some = [(1, 7), (1, 7), (1, 8), (2, 9)];
        assert_eq!(judge(&samples(&some), 3), wrong);
    }
}
