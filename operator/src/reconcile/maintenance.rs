//! An alarm for lack of space: compact, reclaim, disarm. It works through all data at every member, so it
//! is done beside the passes: nobody waits for it to be healed.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::api::EngramCluster;
use crate::etcd::MemberClient;
use crate::observe::Sight;

use super::context::Room;
use super::{Context, Error};

/// etcd's number for NOSPACE.
const NO_SPACE: i32 = 1;
/// Data has to be below this share of the quota (in percent) before the alarm is cleared: otherwise
/// it would be back at once.
const ENOUGH_PERCENT: i64 = 90;

/// How long an attempt that left too much data is not made again, in seconds.
const PAUSE_SECONDS: i64 = 600;
/// And one that failed.
const RETRY_SECONDS: i64 = 30;

const ADVICE: &str = "the data has outgrown its quota: delete keys, or raise config.quotaBytes";

/// How making room ended.
#[derive(Clone)]
pub(super) enum RoomMade {
    /// The alarm was cleared; compacted at this revision.
    Enough(i64),
    /// Too much data is left.
    TooLittle,
    /// It could not be done.
    Failed(String),
}

/// Has an alarm for lack of space cleared, where history and unreclaimed space are what lacks. `may_begin`
/// says whether nothing else disturbs members. Returns what a person should know while the alarm stands.
pub(super) fn clear_no_space(
    context: &Arc<Context>,
    cluster: &EngramCluster,
    sight: &Sight,
    may_begin: bool,
) -> Option<String> {
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    let raised = sight.asked.alarms.iter();
    let raised = raised.filter(|(kind, _)| *kind == NO_SPACE);
    let raised: Vec<u64> = raised.map(|(_, id)| *id).collect();
    if raised.is_empty() {
        context.forget_room(&uid);
        return None;
    }
    if !cluster.spec.maintenance.disarm_no_space {
        return Some(format!("{ADVICE}; then disarm the alarm"));
    }
    let now = sight.observed.now;
    let last = context.room(&uid);
    if let Some(words) = last.and_then(|room| standing(&room, now)) {
        return Some(words);
    }
    let leading = sight.asked.leading().filter(|_| may_begin);
    let Some((leader, _)) = leading else {
        return Some(ADVICE.to_owned());
    };
    let job = Job {
        context: context.clone(),
        cluster: cluster.clone(),
        leader: leader.to_owned(),
        clients: sight.asked.clients.clone(),
        raised,
    };
    context.begin_room(&uid, now);
    tokio::spawn(job.run(uid));
    Some(running(now))
}

/// What is to be said of an attempt, for as long as no other one is to be made.
fn standing(room: &Room, now: i64) -> Option<String> {
    let within = |pause: i64| now - room.begun < pause;
    match &room.made {
        None => Some(running(room.begun)),
        Some(RoomMade::Enough(_)) if within(RETRY_SECONDS) => Some(running(room.begun)),
        Some(RoomMade::Enough(_) | RoomMade::TooLittle) if within(PAUSE_SECONDS) => {
            Some(format!("{ADVICE}; compacting left too much"))
        }
        Some(RoomMade::Failed(error)) if within(RETRY_SECONDS) => {
            Some(format!("no room could be made: {error}"))
        }
        Some(_) => None,
    }
}

fn running(since: i64) -> String {
    let since = Timestamp::from_second(since).unwrap_or_default();
    format!("room is made since {since}: history is compacted, and its space given back")
}

/// One attempt, with all that it needs.
struct Job {
    context: Arc<Context>,
    cluster: EngramCluster,
    leader: String,
    clients: BTreeMap<String, MemberClient>,
    raised: Vec<u64>,
}

impl Job {
    async fn run(self, uid: String) {
        let made = match self.make_room().await {
            Ok(Some(revision)) => RoomMade::Enough(revision),
            Ok(None) => RoomMade::TooLittle,
            Err(error) => RoomMade::Failed(error.to_string()),
        };
        if let RoomMade::Enough(revision) = &made {
            let note =
                format!("compacted at revision {revision}, reclaimed space and disarmed NOSPACE");
            let context = &self.context;
            context
                .event(&self.cluster, false, "NoSpaceCleared", &note)
                .await;
        }
        self.context.end_room(&uid, made);
    }

    /// Forgets history and gives its space back, the leader's last, and disarms. The revision, if that
    /// was enough.
    async fn make_room(&self) -> Result<Option<i64>, Error> {
        let Some(client) = self.clients.get(&self.leader) else {
            return Ok(None);
        };
        let revision = client.status().await?.revision;
        // A refusal says that it is compacted already.
        drop(client.compact(revision).await);
        let others = self
            .clients
            .iter()
            .filter(|(name, _)| **name != self.leader);
        for (_, member) in others {
            let reclaimed = member.defragment().await?;
            self.context.reclaimed(&self.cluster, reclaimed);
        }
        self.context
            .reclaimed(&self.cluster, client.defragment().await?);
        let left = client.status().await?;
        if left.db_size > left.db_quota / 100 * ENOUGH_PERCENT {
            return Ok(None);
        }
        for member in &self.raised {
            client.disarm_no_space(*member).await?;
        }
        Ok(Some(revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_said_and_not_made_again_at_once() {
        let said = |made, now| standing(&Room { begun: 1000, made }, now).unwrap_or_default();
        assert!(said(None, 9999).contains("room is made since 1970-01-01T00:16:40Z"));
        assert!(said(Some(RoomMade::TooLittle), 1599).contains("left too much"));
        assert_eq!(said(Some(RoomMade::TooLittle), 1600), "");
        let failed = || Some(RoomMade::Failed("away".into()));
        assert!(said(failed(), 1029).contains("away"));
        assert_eq!(said(failed(), 1030), "");
        // It was disarmed a moment ago, and the answer that says so is older.
        assert!(said(Some(RoomMade::Enough(7)), 1001).contains("room is made"));
    }
}
