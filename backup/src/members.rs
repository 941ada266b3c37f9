//! The members that can be asked: which one a backup is taken from, and what the others make of it.

use std::time::Duration;

use crate::channel::Channel;
use futures_util::future::join_all;

use crate::source::{self, MemberHash, MemberStatus, SourceError};

/// How long a member may think about a short question.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a member.
#[derive(Clone, Debug)]
pub struct Reached {
    /// What was connected to, for messages.
    pub endpoint: String,
    /// The connection.
    pub channel: Channel,
}

/// A member that answers, and may vote.
#[derive(Clone, Debug)]
pub(crate) struct Voter {
    pub(crate) endpoint: String,
    pub(crate) channel: Channel,
    pub(crate) status: MemberStatus,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// Nobody answers.
    #[error("no endpoint answers: {0}")]
    Nobody(String),
    /// Not one cluster.
    #[error("the endpoints are of several clusters ({0}): name those of one")]
    SeveralClusters(String),
}

/// Who answers of those that were reached: each voter once, followers first, so that the leader has
/// its hands free.
pub(crate) async fn voters(reached: &[Reached]) -> Result<Vec<Voter>, MembersError> {
    let asked = join_all(reached.iter().map(async |one| {
        let status = tokio::time::timeout(ANSWER_LIMIT, source::status(&one.channel)).await;
        (one, status)
    }));
    let mut voters: Vec<Voter> = Vec::new();
    let mut failures = Vec::new();
    for (one, answer) in asked.await {
        let endpoint = &one.endpoint;
        let status = match answer {
            Ok(Ok(status)) if status.is_learner => {
                failures.push(format!("{endpoint}: it is a learner"));
                continue;
            }
            Ok(Ok(status)) => status,
            Ok(Err(error)) => {
                failures.push(format!("{endpoint}: {error}"));
                continue;
            }
            Err(_) => {
                failures.push(format!("{endpoint}: it does not answer"));
                continue;
            }
        };
        let is_known = |voter: &Voter| voter.status.member_id == status.member_id;
        if !voters.iter().any(is_known) {
            voters.push(Voter {
                endpoint: endpoint.clone(),
                channel: one.channel.clone(),
                status,
            });
        }
    }
    let first = voters.first().map(|voter| voter.status.cluster_id);
    let Some(first) = first else {
        return Err(MembersError::Nobody(failures.join("; ")));
    };
    if voters.iter().any(|voter| voter.status.cluster_id != first) {
        let ids = voters
            .iter()
            .map(|voter| format!("{} {:x}", voter.endpoint, voter.status.cluster_id));
        let ids: Vec<String> = ids.collect();
        return Err(MembersError::SeveralClusters(ids.join(", ")));
    }
    voters.sort_by_key(|voter| voter.status.is_leader);
    Ok(voters)
}

/// What the others make of a member's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// These have it too, the member itself first. Not necessarily a majority: others do not answer.
    Same(Vec<u64>),
    /// A compaction came between.
    Moved,
    /// A majority has another one: the member is wrong.
    Odd,
    /// They differ, and no majority says who is wrong.
    Split(String),
}

/// What another member answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its hash, with the same history.
    Hash(u32),
    /// A compaction came between.
    Moved,
    /// None.
    Silent,
}

/// Asks every other voter for its hash at that revision.
pub(crate) async fn ask(others: &[&Voter], revision: i64, compacted: i64) -> Vec<(u64, Answer)> {
    join_all(others.iter().map(async |voter| {
        let answer = hash_at(&voter.channel, revision, compacted).await;
        let answer = match answer {
            Ok(Some(hash)) if hash.compact_revision == compacted => Answer::Hash(hash.hash),
            Ok(_) => Answer::Moved,
            Err(_) => Answer::Silent,
        };
        (voter.status.member_id, answer)
    }))
    .await
}

async fn hash_at(
    channel: &Channel,
    revision: i64,
    compacted: i64,
) -> Result<Option<MemberHash>, SourceError> {
    // It may not have come as far as the revision yet.
    source::catch_up(channel).await?;
    source::hash_kv(channel, revision, compacted).await
}

/// What follows of the answers, with `voters` members in all.
pub(crate) fn judge(own: (u64, u32), answers: &[(u64, Answer)], voters: usize) -> Verdict {
    let (id, hash) = own;
    let has = |wanted: u32| {
        answers
            .iter()
            .filter(move |(_, it)| *it == Answer::Hash(wanted))
    };
    let same: Vec<u64> = std::iter::once(id)
        .chain(has(hash).map(|(id, _)| *id))
        .collect();
    if same.len() * 2 > voters {
        return Verdict::Same(same);
    }
    if answers.iter().any(|(_, answer)| *answer == Answer::Moved) {
        return Verdict::Moved;
    }
    let others = answers.iter().filter_map(|(_, answer)| match answer {
        Answer::Hash(other) if *other != hash => Some(*other),
        _ => None,
    });
    let others: Vec<u32> = others.collect();
    if others.is_empty() {
        return Verdict::Same(same);
    }
    if others.iter().any(|other| has(*other).count() * 2 > voters) {
        return Verdict::Odd;
    }
    let told = answers.iter().filter_map(|(id, answer)| match answer {
        Answer::Hash(hash) => Some(format!("{id:x} {hash}")),
        _ => None,
    });
    let told: Vec<String> = told.collect();
    Verdict::Split(format!("{id:x} {hash}, {}", told.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::Answer::{Hash, Moved, Silent};
    use super::*;

    #[test]
    fn a_majority_decides_and_without_one_nobody_is_believed() {
        let judged = |answers: &[Answer], voters| {
            let ids = (2..).zip(answers.iter().copied());
            judge((1, 7), &ids.collect::<Vec<_>>(), voters)
        };
        assert_eq!(judged(&[], 1), Verdict::Same(vec![1]));
        assert_eq!(judged(&[Hash(7), Silent], 3), Verdict::Same(vec![1, 2]));
        assert_eq!(judged(&[Hash(9), Hash(7)], 3), Verdict::Same(vec![1, 3]));
        assert_eq!(judged(&[Hash(9), Hash(9)], 3), Verdict::Odd);
        assert!(matches!(judged(&[Hash(9), Silent], 3), Verdict::Split(_)));
        assert!(matches!(judged(&[Hash(9)], 2), Verdict::Split(_)));
        assert_eq!(judged(&[Moved, Hash(9)], 3), Verdict::Moved);
        assert_eq!(judged(&[Moved, Hash(7)], 3), Verdict::Same(vec![1, 3]));
        // Nobody else is reached: it is taken, and said not to be agreed.
        assert_eq!(judged(&[Silent, Silent], 3), Verdict::Same(vec![1]));
        assert_eq!(
            judged(&[Hash(8), Hash(9), Hash(9), Hash(9)], 5),
            Verdict::Odd
        );
    }
}
