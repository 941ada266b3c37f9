//! Changes of the membership, on the leader: etcd's rules of what is wise, then the change.
//!
//! Source of the rules: `AddMember`, `RemoveMember`, `PromoteMember`, `mayAddMember` and
//! `mayRemoveMember` of etcd's server.go, `IsReadyTo…` of its membership package.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::peers::PeerCalls;
use crate::api::backend::{MemberChange, MemberError};
use crate::metrics::Metrics;
use crate::node::contacts::Contacts;
use crate::node::leadership::LeadershipCell;
use crate::raft::{Configuration, Consensus, ReconfigureError, Replication};
use crate::state::MemberRecord;
use crate::store::Store;
use crate::types::MemberId;

/// How long to rest while an earlier change is not committed yet.
const IN_PROGRESS_PAUSE: Duration = Duration::from_millis(50);
/// A learner is ready for its vote when it has this share of the leader's log, percent (etcd's).
const READY_PERCENT: u64 = 90;
/// A member that shall vote gets its vote when it lacks at most this many entries.
const CAUGHT_UP_ENTRIES: u64 = 100;

/// Changes the members of the cluster that this member leads. Clones share it.
#[derive(Clone)]
pub struct Membership {
    member: MemberId,
    store: Arc<Store>,
    leadership: Arc<LeadershipCell>,
    peers: PeerCalls,
    rules: Rules,
    /// Changes come one after the other.
    turn: Arc<Mutex<()>>,
    /// Since when the others are in touch.
    contacts: Arc<parking_lot::Mutex<Contacts>>,
    metrics: Arc<Metrics>,
}

/// What holds for changes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `--strict-reconfig-check`.
    pub strict: bool,
    /// `--max-learners`.
    pub learners_max: usize,
    /// A member not heard of for this long counts as down.
    pub silence_max: Duration,
    /// For how long the others must have been in touch without a break (etcd's `HealthInterval`).
    pub in_touch_min: Duration,
    /// How long a change may take.
    pub timeout: Duration,
}

type Changed = Result<Vec<MemberRecord>, MemberError>;

impl Membership {
    /// The changes of the cluster whose table is in `store`.
    pub fn new(
        member: MemberId,
        store: Arc<Store>,
        leadership: Arc<LeadershipCell>,
        peers: PeerCalls,
        rules: Rules,
        metrics: Arc<Metrics>,
    ) -> Membership {
        Membership {
            member,
            store,
            leadership,
            peers,
            rules,
            turn: Arc::default(),
            contacts: Arc::default(),
            metrics,
        }
    }

    /// Checks and makes a change; the members after it.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn change(&self, consensus: &Consensus, change: MemberChange) -> Changed {
        let promotes = matches!(change, MemberChange::Promote { .. });
        let changed = self.change_in_time(consensus, change).await;
        if promotes {
            self.count_promotion(&changed);
        }
        changed
    }

    fn count_promotion(&self, changed: &Changed) {
        let operations = &self.metrics.operations;
        match changed {
            Ok(_) => operations.learners_promoted.inc(),
            Err(error) => {
                let failures = &operations.learners_not_promoted;
                failures.with_label_values(&[error.to_string()]).inc();
            }
        }
    }

    async fn change_in_time(&self, consensus: &Consensus, change: MemberChange) -> Changed {
        let made = tokio::time::timeout(self.rules.timeout, async {
            let _turn = self.turn.lock().await;
            while let Made::NotYet = self.try_change(consensus, &change).await? {
                tokio::time::sleep(IN_PROGRESS_PAUSE).await;
            }
            Ok::<(), MemberError>(())
        });
        made.await.map_err(|_| MemberError::Timeout)??;
        Ok(self.members())
    }

    /// Checks and makes a change on top of one configuration.
    async fn try_change(
        &self,
        consensus: &Consensus,
        change: &MemberChange,
    ) -> Result<Made, MemberError> {
        let on = consensus.configuration().ok_or(MemberError::NotLeader)?;
        if on.is_joint() {
            return made(consensus.finish(&on).await).map(|_| Made::NotYet);
        }
        // What is checked is the table: it must be that of the configuration.
        if self.store.applied_index() < on.index() {
            return Ok(Made::NotYet);
        }
        self.check(consensus, change)?;
        // From here on this member may not be the only one: reads ask before they answer.
        self.leadership.note_others();
        made(self.make(consensus, &on, change.clone()).await)
    }

    /// Whether this member, which knows of no leader, would refuse to have members added or removed as etcd's
    /// members do, each by its own connections: they do not reach a quorum. Whoever asks need not wait.
    pub fn is_cut_off(&self) -> bool {
        let members = self.members();
        let voters = members.iter().filter(|member| !member.learner);
        let is_reached = |member: &&MemberRecord| {
            member.id == self.member || self.peers.active_since(member.id).is_some()
        };
        self.rules.strict && voters.clone().filter(is_reached).count() < quorum(voters.count())
    }

    /// Whether a change is under way: then who votes may be known too late.
    pub fn is_changing(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// Takes note of who is in touch with this member, where it leads. To be called more often than
    /// once in [`Rules::silence_max`].
    pub fn note_contacts(&self, own_term: Option<u64>, consensus: &Consensus) {
        let heard = own_term.map(|_| consensus.replication().silent_for);
        let heard = heard.unwrap_or_default();
        let (now, silence_max) = (Instant::now(), self.rules.silence_max);
        let mut contacts = self.contacts.lock();
        contacts.note(own_term, &heard, now, silence_max);
    }

    /// What the leader sees to: that no configuration stays joint, and that members which were added
    /// as voters get their votes. Returns when it is done, without a quorum when there is one.
    pub async fn look_after(&self, consensus: &Consensus) {
        if !self.leadership.leads() {
            return;
        }
        let (Some(on), Ok(_turn)) = (consensus.configuration(), self.turn.try_lock()) else {
            return;
        };
        if on.is_joint() {
            match consensus.finish(&on).await {
                Ok(()) => crate::log!(
                    info,
                    "finished a change of the membership that was left half made"
                ),
                Err(error) => {
                    crate::log!(warn, "a half made change of the membership could not be finished yet", error = %error);
                }
            }
            return;
        }
        self.promote_caught_up(consensus, &on).await;
    }

    /// Gives a member that was added as a voter its vote, once it has caught up and said which data
    /// directory it is: a vote is promised for good.
    async fn promote_caught_up(&self, consensus: &Consensus, on: &Configuration) {
        let found = consensus.replication();
        let caught_up = found.pending_voters.iter().find(|id| {
            let matched = found.matched.get(*id).copied().unwrap_or(0);
            matched > 0
                && matched + CAUGHT_UP_ENTRIES >= found.last_index
                && self.is_published(**id)
        });
        let Some(id) = caught_up else {
            return;
        };
        self.leadership.note_others();
        match consensus.promote(on, *id).await {
            Ok(()) => crate::log!(info, "a new member has caught up and votes", member = %id),
            Err(error) => {
                crate::log!(warn, "a new member could not get its vote yet", member = %id, error = %error);
            }
        }
    }

    fn is_published(&self, id: MemberId) -> bool {
        let cluster = self.store.cluster();
        let member = cluster.members.get(id);
        member.is_some_and(|member| member.incarnation != 0)
    }

    /// Who is in touch for long enough.
    fn in_touch(&self, members: &[MemberRecord]) -> BTreeSet<MemberId> {
        let (now, long) = (Instant::now(), self.rules.in_touch_min);
        let contacts = self.contacts.lock();
        let lasts = |id: &MemberId| {
            let connected = self.peers.active_since(*id);
            contacts.is_lasting(*id, connected, now, long)
        };
        let ids = members.iter().map(|member| member.id);
        ids.filter(lasts).collect()
    }

    fn members(&self) -> Vec<MemberRecord> {
        self.store.cluster().members.iter().cloned().collect()
    }

    fn check(&self, consensus: &Consensus, change: &MemberChange) -> Result<(), MemberError> {
        let members = self.members();
        let mut heard = consensus.replication();
        // Whose connections have ended is down, however lately it was heard.
        heard
            .silent_for
            .retain(|id, _| self.peers.active_since(*id).is_some());
        self.note_contacts(consensus.leadership().own_term, consensus);
        let in_touch = self.in_touch(&members);
        let view = View {
            members: &members,
            own: self.member,
            heard: &heard,
            in_touch: &in_touch,
            rules: self.rules,
        };
        match change {
            MemberChange::Add {
                id,
                learner,
                peer_urls,
            } => {
                if self.store.cluster().members.is_removed(*id) || view.find(*id).is_ok() {
                    return Err(MemberError::Exists);
                }
                view.check_add(*learner, peer_urls)
            }
            MemberChange::Remove { id } => view.check_remove(*id),
            MemberChange::Update { id, peer_urls } => {
                view.find(*id)?;
                view.check_urls(Some(*id), peer_urls)
            }
            MemberChange::Promote { id } => view.check_promote(*id),
        }
    }

    async fn make(
        &self,
        consensus: &Consensus,
        on: &Configuration,
        change: MemberChange,
    ) -> Result<(), ReconfigureError> {
        match change {
            MemberChange::Add {
                id,
                peer_urls,
                learner,
            } => consensus.add_learner(on, id, peer_urls, !learner).await,
            MemberChange::Remove { id } => consensus.remove(on, id).await,
            MemberChange::Update { id, peer_urls } => consensus.relocate(on, id, peer_urls).await,
            MemberChange::Promote { id } => consensus.promote(on, id).await,
        }
    }
}

/// What became of a change.
enum Made {
    /// It is in force.
    InForce,
    /// Nothing happened yet, and it may be tried again.
    NotYet,
}

fn made(result: Result<(), ReconfigureError>) -> Result<Made, MemberError> {
    match result {
        Ok(()) => Ok(Made::InForce),
        Err(ReconfigureError::InProgress | ReconfigureError::Changed) => Ok(Made::NotYet),
        Err(error) => Err(unmade(error)),
    }
}

/// Why a change of members was not made, in the edge's words.
pub(in crate::node) fn unmade(error: ReconfigureError) -> MemberError {
    match error {
        ReconfigureError::NotLeader => MemberError::NotLeader,
        ReconfigureError::InProgress | ReconfigureError::Changed | ReconfigureError::Unknown => {
            MemberError::Timeout
        }
        ReconfigureError::Refused(text) => MemberError::Internal(text),
        ReconfigureError::Stopped => MemberError::Stopped,
    }
}

/// What the rules look at.
struct View<'a> {
    members: &'a [MemberRecord],
    own: MemberId,
    heard: &'a Replication,
    /// Who was in touch for [`Rules::in_touch_min`].
    in_touch: &'a BTreeSet<MemberId>,
    rules: Rules,
}

impl View<'_> {
    fn find(&self, id: MemberId) -> Result<&MemberRecord, MemberError> {
        let found = self.members.iter().find(|member| member.id == id);
        found.ok_or(MemberError::NotFound)
    }

    fn check_urls(&self, own: Option<MemberId>, urls: &[String]) -> Result<(), MemberError> {
        let mut others = self.members.iter().filter(|member| Some(member.id) != own);
        if others.any(|member| member.peer_urls.iter().any(|url| urls.contains(url))) {
            return Err(MemberError::UrlExists);
        }
        Ok(())
    }

    fn check_add(&self, learner: bool, urls: &[String]) -> Result<(), MemberError> {
        if self.rules.strict {
            // One voter that starts a second is the way to grow: nothing else could be asked of it.
            let grows_from_one = self.started() == 1 && self.voters() == 1;
            let wanted = quorum(self.voters() + 1);
            if !learner && !grows_from_one && self.started() < wanted {
                self.tell_few_started(
                    "rejecting member add; started member will be less than quorum",
                    self.started(),
                    wanted,
                );
                return Err(MemberError::NotEnoughStarted);
            }
            // The new member is counted as one that is down, a learner too.
            let in_touch = self.voters_in_touch();
            if self.voters() > 1 && in_touch < quorum(self.voters() + 1) {
                crate::log!(warn, "rejecting member add request; local member has not been connected to majority peers, reconfigure breaks active quorum",
                    "local-member-id" = %self.own, "active-peers" = in_touch);
                return Err(MemberError::Unhealthy);
            }
        }
        self.check_urls(None, urls)?;
        let learners = self.members.iter().filter(|member| member.learner).count();
        if learner && learners >= self.rules.learners_max {
            return Err(MemberError::TooManyLearners);
        }
        Ok(())
    }

    fn check_remove(&self, id: MemberId) -> Result<(), MemberError> {
        let member = self.find(id)?;
        if member.learner {
            return Ok(());
        }
        let is_last = self.voters() == 1;
        if !is_last && !self.rules.strict {
            return Ok(());
        }
        let started = self.started() - usize::from(is_started(member));
        let wanted = quorum(self.voters() - 1);
        if is_last || started < wanted {
            self.tell_few_started(
                "rejecting member remove; started member will be less than quorum",
                started,
                wanted,
            );
            return Err(MemberError::NotEnoughStarted);
        }
        // A member that is down is no part of the quorum at work.
        if id != self.own && !self.is_up(id) {
            return Ok(());
        }
        let in_touch = self.voters_in_touch();
        if in_touch < wanted + 1 {
            crate::log!(warn, "rejecting member remove request; local member has not been connected to all peers, reconfigure breaks active quorum",
                "local-member-id" = %self.own, "requested-member-remove" = %id, "active-peers" = in_touch);
            return Err(MemberError::Unhealthy);
        }
        Ok(())
    }

    fn check_promote(&self, id: MemberId) -> Result<(), MemberError> {
        let learner = self.find(id)?;
        if !learner.learner {
            return Err(MemberError::NotLearner);
        }
        // A vote is promised for good: until it has said which data directory it is, a wiped one
        // could come back under its id.
        let is_known = learner.incarnation != 0;
        let matched = self.heard.matched.get(&id).copied().unwrap_or(0);
        let has_come_up = matched * 100 >= self.heard.last_index * READY_PERCENT;
        if !is_known || !self.is_up(id) || !has_come_up {
            crate::log!(
                error,
                "rejecting promote learner: learner is not ready",
                "learner-matched-index" = matched,
                "leader-last-index" = self.heard.last_index,
                "ready-percent-threshold" = READY_PERCENT
            );
            return Err(MemberError::LearnerNotReady);
        }
        // The learner is counted as started: it has been heard of.
        let (started, wanted) = (self.started() + 1, quorum(self.voters() + 1));
        if self.rules.strict && started < wanted {
            self.tell_few_started(
                "rejecting member promote; started member will be less than quorum",
                started,
                wanted,
            );
            return Err(MemberError::NotEnoughStarted);
        }
        Ok(())
    }

    fn tell_few_started(&self, message: &'static str, started: usize, wanted: usize) {
        crate::log!(warn, message, "number-of-started-member" = started, quorum = wanted,
            "local-member-id" = %self.own);
    }

    fn is_up(&self, id: MemberId) -> bool {
        let silent_for = self.heard.silent_for.get(&id);
        id == self.own || silent_for.is_some_and(|silent| *silent < self.rules.silence_max)
    }

    fn is_in_touch(&self, id: MemberId) -> bool {
        id == self.own || self.in_touch.contains(&id)
    }

    fn voters_in_touch(&self) -> usize {
        let voters = self.members.iter().filter(|member| !member.learner);
        voters.filter(|member| self.is_in_touch(member.id)).count()
    }

    fn voters(&self) -> usize {
        self.members.iter().filter(|member| !member.learner).count()
    }

    fn started(&self) -> usize {
        let voters = self.members.iter().filter(|member| !member.learner);
        voters.filter(|member| is_started(member)).count()
    }
}

/// A member that has published its name has started once.
fn is_started(member: &MemberRecord) -> bool {
    !member.attributes.name.is_empty()
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::request::MemberAttributes;

    fn member(id: u64, learner: bool, started: bool) -> MemberRecord {
        MemberRecord {
            id: MemberId(id),
            peer_urls: vec![format!("http://m{id}")],
            learner,
            incarnation: u64::from(started) * id * 10,
            attributes: MemberAttributes {
                name: if started {
                    format!("m{id}")
                } else {
                    String::new()
                },
                client_urls: vec![],
                apply_version: 0,
            },
        }
    }

    fn heard(up: &[u64]) -> Replication {
        Replication {
            last_index: 1000,
            matched: up.iter().map(|id| (MemberId(*id), 950)).collect(),
            silent_for: up
                .iter()
                .map(|id| (MemberId(*id), Duration::ZERO))
                .collect(),
            voters: vec![],
            pending_voters: vec![],
        }
    }

    /// Who is up was so for long.
    fn view<'a>(members: &'a [MemberRecord], heard: &'a Replication) -> View<'a> {
        let in_touch: BTreeSet<MemberId> = heard.silent_for.keys().copied().collect();
        View {
            members,
            own: MemberId(1),
            heard,
            in_touch: Box::leak(Box::new(in_touch)),
            rules: Rules {
                strict: true,
                learners_max: 1,
                silence_max: Duration::from_secs(1),
                in_touch_min: Duration::from_secs(5),
                timeout: Duration::from_secs(7),
            },
        }
    }

    fn voters(started: [bool; 3]) -> Vec<MemberRecord> {
        let ids = 1..=3;
        ids.zip(started)
            .map(|(id, is)| member(id, false, is))
            .collect()
    }

    #[test]
    fn a_cluster_of_one_grows_and_does_not_lose_its_last_member() {
        let (members, heard) = ([member(1, false, true)], heard(&[]));
        let view = view(&members, &heard);
        assert_eq!(view.check_add(false, &["http://new".into()]), Ok(()));
        assert_eq!(
            view.check_add(false, &["http://m1".into()]),
            Err(MemberError::UrlExists)
        );
        assert_eq!(
            view.check_remove(MemberId(1)),
            Err(MemberError::NotEnoughStarted)
        );
        assert_eq!(view.check_remove(MemberId(9)), Err(MemberError::NotFound));
    }

    #[test]
    fn what_is_added_is_counted_as_down_beside_who_is() {
        let new = ["http://new".to_owned()];
        // Voters, those of them that are in touch with the leader, and whether one may be added.
        for (voters, up, may) in [
            (1, 0, true),
            (2, 0, false),
            (2, 1, true),
            (3, 1, false),
            (3, 2, true),
            (4, 2, true),
            (5, 2, false),
            (5, 3, true),
        ] {
            let ids = 1..=voters;
            let members: Vec<_> = ids.map(|id| member(id, false, true)).collect();
            let up: Vec<u64> = (2..2 + up).collect();
            let heard = heard(&up);
            let wanted = match may {
                true => Ok(()),
                false => Err(MemberError::Unhealthy),
            };
            for learner in [false, true] {
                let got = view(&members, &heard).check_add(learner, &new);
                assert_eq!(got, wanted, "{voters} voters, in touch with {up:?}");
            }
        }
        // Who does not vote counts for nothing.
        let mut members = voters([true; 3]);
        members.push(member(4, true, true));
        let heard = heard(&[2, 3]);
        let mut view = view(&members, &heard);
        view.rules.learners_max = 2;
        assert_eq!(view.check_add(true, &new), Ok(()));
    }

    #[test]
    fn nothing_is_added_while_a_member_of_three_is_down_or_not_started() {
        let new = ["http://new".to_owned()];
        let (members, all) = (voters([true, true, false]), heard(&[2, 3]));
        assert_eq!(
            view(&members, &all).check_add(false, &new),
            Err(MemberError::NotEnoughStarted)
        );
        let (members, two) = (voters([true; 3]), heard(&[2]));
        assert_eq!(
            view(&members, &two).check_add(false, &new),
            Err(MemberError::Unhealthy)
        );
    }

    #[test]
    fn who_is_down_can_be_removed_and_who_holds_the_quorum_cannot() {
        let (members, heard) = (voters([true; 3]), heard(&[2]));
        let view = view(&members, &heard);
        assert_eq!(view.check_remove(MemberId(3)), Ok(()));
        assert_eq!(view.check_remove(MemberId(2)), Err(MemberError::Unhealthy));
    }

    #[test]
    fn nothing_changes_until_the_others_were_in_touch_for_long_enough() {
        let new = ["http://new".to_owned()];
        let (members, heard) = (voters([true; 3]), heard(&[2, 3]));
        let some = BTreeSet::from([MemberId(2)]);
        let view = View {
            in_touch: &some,
            ..view(&members, &heard)
        };
        assert_eq!(view.check_add(false, &new), Err(MemberError::Unhealthy));
        assert_eq!(view.check_add(true, &new), Err(MemberError::Unhealthy));
        assert_eq!(view.check_remove(MemberId(3)), Err(MemberError::Unhealthy));
        let rules = Rules {
            strict: false,
            ..view.rules
        };
        let lax = View { rules, ..view };
        assert_eq!(lax.check_add(false, &new), Ok(()));
        assert_eq!(lax.check_remove(MemberId(3)), Ok(()));
    }

    #[test]
    fn a_learner_votes_once_it_has_nine_tenths_and_there_is_one_at_a_time() {
        let mut members = voters([true; 3]);
        members.push(member(4, true, true));
        let mut heard = heard(&[2, 3, 4]);
        let new = ["http://new".to_owned()];
        assert_eq!(
            view(&members, &heard).check_add(true, &new),
            Err(MemberError::TooManyLearners)
        );
        assert_eq!(view(&members, &heard).check_promote(MemberId(4)), Ok(()));
        assert_eq!(
            view(&members, &heard).check_promote(MemberId(2)),
            Err(MemberError::NotLearner)
        );
        members[3].incarnation = 0;
        assert_eq!(
            view(&members, &heard).check_promote(MemberId(4)),
            Err(MemberError::LearnerNotReady),
            "it has not said which data directory it is"
        );
        members[3].incarnation = 40;
        heard.matched.insert(MemberId(4), 899);
        assert_eq!(
            view(&members, &heard).check_promote(MemberId(4)),
            Err(MemberError::LearnerNotReady)
        );
    }
}
