//! How the members stand: who leads, in which term, how far each has come.

use std::time::{Duration, Instant};

use engram_proto::etcdserverpb::{MoveLeaderRequest, StatusRequest, StatusResponse};

use super::Cluster;
use crate::client::{Client, revision_of};

/// How long a member may take to say how it stands, before it counts as silent.
const STATUS_LIMIT: Duration = Duration::from_millis(1_000);
/// How long a member that serves may take to answer a status at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take until a chosen member leads.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(30);
/// What a hand-over needs until everybody knows of it.
const BETWEEN_HAND_OVERS: Duration = Duration::from_millis(700);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// A leader as everybody who was asked sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its place.
    pub place: usize,
    /// Its member id.
    pub id: u64,
    /// Its term.
    pub term: u64,
}

impl Cluster {
    /// What a member says of itself; `None` if it does not answer.
    pub fn status(&self, place: usize) -> Option<StatusResponse> {
        let address = self.server(place).address();
        let ask = async move {
            let mut client = Client::lazy(address);
            let answer = client.maintenance.status(StatusRequest {}).await;
            answer.ok().map(tonic::Response::into_inner)
        };
        let limited = async { tokio::time::timeout(STATUS_LIMIT, ask).await };
        self.runtime().block_on(limited).ok().flatten()
    }

    /// The term that a member is in.
    ///
    /// # Panics
    /// If it does not say.
    pub fn term(&self, place: usize) -> u64 {
        let status = self.status(place);
        status.unwrap_or_else(|| self.fail("no status")).raft_term
    }

    /// A member's id.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn member_id(&self, place: usize) -> u64 {
        let answer = self.wait_for(PATIENCE, "a status with a header", || {
            self.status(place)?.header
        });
        answer.member_id
    }

    /// The places of the members that run and are not paused.
    pub fn awake(&self) -> Vec<usize> {
        let is_awake = |place: &usize| {
            self.members[*place].server.has_process() && !self.paused.contains(place)
        };
        (0..self.size()).filter(is_awake).collect()
    }

    /// The leader that all of `places` agree on, if it is one of them.
    pub fn leader_among(&self, places: &[usize]) -> Option<Leader> {
        let mut seen = Vec::new();
        for place in places {
            seen.push((*place, self.status(*place)?));
        }
        let (id, term) = (seen[0].1.leader, seen[0].1.raft_term);
        let agree = |status: &StatusResponse| (status.leader, status.raft_term) == (id, term);
        if id == 0 || !seen.iter().all(|(_, status)| agree(status)) {
            return None;
        }
        let own = |status: &StatusResponse| status.header.as_ref().map_or(0, |head| head.member_id);
        let place = seen.iter().find(|(_, status)| own(status) == id)?.0;
        Some(Leader { place, id, term })
    }

    /// Waits until all members that are awake agree on a leader.
    ///
    /// # Panics
    /// If they do not in time.
    pub fn wait_for_leader(&self, limit: Duration) -> Leader {
        self.wait_for_leader_among(&self.awake(), limit)
    }

    /// Has the member at `place` lead, and waits until everybody who is awake says so.
    ///
    /// # Panics
    /// If it does not come to lead.
    pub fn have_lead(&self, place: usize) {
        let id = self.member_id(place);
        let what = format!("{} leads", self.server(place).name());
        self.wait_for(HAND_OVER_LIMIT, &what, || {
            let leader = self.leader_among(&self.awake())?;
            if leader.place == place {
                return Some(());
            }
            let request = MoveLeaderRequest { target_id: id };
            let address = self.server(leader.place).address();
            // Refused while the target lags: it is asked again.
            let _ = self.runtime().block_on(async move {
                let mut client = Client::lazy(address);
                client.maintenance.move_leader(request).await
            });
            std::thread::sleep(BETWEEN_HAND_OVERS);
            None
        });
    }

    /// Waits until all of `places` agree on a leader among them.
    ///
    /// # Panics
    /// If they do not in time.
    pub fn wait_for_leader_among(&self, places: &[usize], limit: Duration) -> Leader {
        let what = format!("members {places:?} (places) agree on a leader among them");
        self.wait_for(limit, &what, || self.leader_among(places))
    }

    /// Waits until a member has applied all that is committed now.
    ///
    /// # Panics
    /// If it has not in time.
    pub fn wait_for_revision(&self, place: usize, revision: i64, limit: Duration) {
        let what = format!(
            "member {} reaches revision {revision}",
            self.server(place).name()
        );
        self.wait_for(limit, &what, || {
            let status = self.status(place)?;
            (revision_of(status.header.as_ref()) >= revision).then_some(())
        });
    }

    /// Waits until `condition` gives a value.
    ///
    /// # Panics
    /// If it does not within `limit`: with `what`, and how every member stands.
    pub fn wait_for<T>(
        &self,
        limit: Duration,
        what: &str,
        mut condition: impl FnMut() -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = condition() {
                return value;
            }
            if Instant::now() >= deadline {
                self.fail(&format!("waited {limit:?} in vain: {what}"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// How every member stands and where its files are, a line each.
    pub fn describe(&self) -> String {
        let line = |place: usize| {
            let server = self.server(place);
            let standing = match (server.has_process(), self.paused.contains(&place)) {
                (false, _) => "not running".to_owned(),
                (true, true) => "paused".to_owned(),
                (true, false) => self.standing(place),
            };
            format!(
                "{} ({}): {standing}; output in {}/stderr*",
                server.name(),
                server.address(),
                server.scratch().display()
            )
        };
        let lines: Vec<String> = (0..self.size()).map(line).collect();
        lines.join("\n")
    }

    fn standing(&self, place: usize) -> String {
        let Some(status) = self.status(place) else {
            return format!("silent for {STATUS_LIMIT:?}");
        };
        let id = status.header.as_ref().map_or(0, |header| header.member_id);
        format!(
            "id {id:x}, leader {:x}, term {}, index {}, applied {}, revision {}",
            status.leader,
            status.raft_term,
            status.raft_index,
            status.raft_applied_index,
            revision_of(status.header.as_ref())
        )
    }
}
