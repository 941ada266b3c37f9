//! What is done about a member's space: alarms, history, what lies unused.

use std::time::Duration;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::kv_client::KvClient;

use super::{CALL_LIMIT, EtcdError, MemberClient, refused};

/// What works through the whole data.
const LONG_LIMIT: Duration = Duration::from_secs(600);

impl MemberClient {
    /// Alarms: the kind (1: NOSPACE, 2: CORRUPT) and the member.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn alarms(&self) -> Result<Vec<(i32, u64)>, EtcdError> {
        let request = self.timed(pb::AlarmRequest::default(), CALL_LIMIT);
        let answer = self
            .maintenance()
            .alarm(request)
            .await
            .map_err(refused("alarm list"))?;
        Ok(answer
            .into_inner()
            .alarms
            .iter()
            .map(|alarm| (alarm.alarm, alarm.member_id))
            .collect())
    }

    /// Clears an alarm for lack of space.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn disarm_no_space(&self, member: u64) -> Result<(), EtcdError> {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate as i32,
            member_id: member,
            alarm: pb::AlarmType::Nospace as i32,
        };
        let request = self.timed(request, CALL_LIMIT);
        self.maintenance()
            .alarm(request)
            .await
            .map_err(refused("alarm disarm"))
            .map(drop)
    }

    /// Forgets history below `revision`, and waits until it is gone from the disk's account.
    ///
    /// # Errors
    /// The cluster refused: the revision is compacted already, or in the future.
    pub async fn compact(&self, revision: i64) -> Result<(), EtcdError> {
        let request = self.timed(
            pb::CompactionRequest {
                revision,
                physical: true,
            },
            LONG_LIMIT,
        );
        let mut kv = KvClient::new(self.channel.clone());
        kv.compact(request)
            .await
            .map_err(refused("compact"))
            .map(drop)
    }

    /// Has this member give its unused space back; returns how many bytes smaller its data is.
    ///
    /// # Errors
    /// It failed.
    pub async fn defragment(&self) -> Result<u64, EtcdError> {
        let before = self.status().await?.db_size;
        let request = self.timed(pb::DefragmentRequest::default(), LONG_LIMIT);
        self.maintenance()
            .defragment(request)
            .await
            .map_err(refused("defragment"))?;
        let reclaimed = before - self.status().await?.db_size;
        Ok(u64::try_from(reclaimed).unwrap_or_default())
    }
}
