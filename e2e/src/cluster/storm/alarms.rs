//! Alarms for want of space: raised where the voters with room are no quorum, cleared by people.

use std::time::{Duration, Instant};

use engram_proto::etcdserverpb::alarm_request::AlarmAction;
use engram_proto::etcdserverpb::{AlarmRequest, AlarmType};

use super::ask;
use crate::cluster::Cluster;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The one who clears them once there is room.
#[derive(Default)]
pub(super) struct Attendant {
    looked: Option<Instant>,
    /// How often somebody was asked: they take turns.
    asked: usize,
}

impl Attendant {
    /// Looks now and then whether there are alarms, and clears them; whether there was an answer, and none.
    pub(super) fn look(&mut self, cluster: &Cluster) -> bool {
        let is_early = self
            .looked
            .is_some_and(|looked| looked.elapsed() < LOOK_EVERY);
        let awake = cluster.awake();
        if is_early || awake.is_empty() {
            return false;
        }
        self.looked = Some(Instant::now());
        self.asked += 1;
        let mut client = cluster.client(awake[self.asked % awake.len()]);
        let request = AlarmRequest {
            action: AlarmAction::Get.into(),
            ..AlarmRequest::default()
        };
        let Some(told) = ask(cluster, client.maintenance.alarm(request)) else {
            return false;
        };
        let has_none = told.alarms.is_empty();
        for alarm in told.alarms {
            let request = AlarmRequest {
                action: AlarmAction::Deactivate.into(),
                member_id: alarm.member_id,
                alarm: AlarmType::Nospace.into(),
            };
            ask(cluster, client.maintenance.alarm(request));
        }
        has_none
    }
}
