//! What a member does on the Raft thread beside consensus itself: it finds out who leads, looks
//! after the disk and the log, and, while it leads, after leases, compaction and new members.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{Instant as Tick, Interval, MissedTickBehavior};

use crate::config::AutoCompaction;
use crate::fatal::end_process;
use crate::mutants::is_planted;
use crate::node::compactor::Schedule;
use crate::node::corruption::{self, Comparison};
use crate::node::directory::MemberDirectory;
use crate::node::door::Door;
use crate::node::growth::LogGrowth;
use crate::node::held_up::HeldUp;
use crate::node::late::Lateness;
use crate::node::lessor::Expired;
use crate::node::membership::Membership;
use crate::node::no_space::Raising;
use crate::node::parts::{Parts, Routine};
use crate::node::reclaim::Reclaimer;
use crate::node::route::LeaderRoute;
use crate::node::space::leaves_no_quorum;
use crate::node::{successor, told, verdict};
use crate::propose::{self, ProposeError};
use crate::raft::Consensus;
use crate::threads::{Pulse, spawn_endless};
use crate::types::auth::Identity;
use crate::types::request::{Alarm, AlarmType, Asked, Compact, MemberAttributes, Op};
use crate::types::result::Outcome;
use crate::wal::Keep;

/// How often consensus, the store's size and the log's length are looked at.
const LOOK_EVERY: Duration = propose::SWEEP_EVERY;
/// How often a member that knows of no leader asks whether it is a member still, and one that does
/// asks those who are not in touch; and how long it waits for the answers. A learner that was removed asks for no votes, so nobody else tells it; and
/// the others hear so where it is reached, if that is elsewhere than they know.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Every how many times all are asked, whose clocks are compared then: 30 s, as etcd's prober.
const ASK_ALL_TURNS: u64 = 15;
/// See [`ASK_EVERY`].
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How often consensus is asked to come round.
const FEEL_EVERY: Duration = Duration::from_secs(1);
/// Every how many looks the size of a store that nobody writes to is measured.
const IDLE_LOOKS: u64 = 10;
/// How often leases are looked at, and how many are revoked at once. Source: etcd's lessor revokes
/// up to 1,000 a second, in steps of 500 ms.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// The most leases revoked a step: one batch.
const EXPIRE_MAX: usize = 4000;
/// How much of the log a member keeps that replicates to nobody: what is in memory anyway. Bytes.
const LOG_KEPT_ALONE: u64 = 8 << 20;
/// How often a leader whose disk does not bear it tries to hand leadership over.
const HAND_OVER_EVERY: Duration = Duration::from_secs(5);
/// How long to rest after publishing this member, or hearing of the leader, failed.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// What the duties are done with.
#[derive(Clone)]
pub struct Duties {
    pub parts: Parts,
    pub attributes: MemberAttributes,
    pub cluster_version: String,
    pub election_timeout: Duration,
    pub routine: Routine,
    pub membership: Membership,
    pub reclaimer: Reclaimer,
    pub directory: Arc<MemberDirectory>,
    pub door: Door,
    pub lateness: Lateness,
    /// See [`Duties::looks`].
    pub looks_from: Tick,
}

/// Has `/livez` know whether consensus comes round. What it waits for may be on its way to the disk.
async fn feel_pulse(consensus: &Consensus) -> Infallible {
    let pulse = Pulse::leaning_on_disk("consensus");
    loop {
        tokio::time::sleep(FEEL_EVERY).await;
        pulse.turn();
        consensus.turn().await;
        pulse.idle();
    }
}

/// What the looks remember: bytes and entries in the log when it was last cut, and when the store
/// was last measured.
struct LogWatch {
    growth: LogGrowth,
    measured_at: Option<u64>,
    looks: u64,
    /// When this member last tried to hand leadership over because of its disk.
    handed_over: Option<Instant>,
    /// The own log, where the others have more than it.
    held_up: HeldUp,
    /// The NOSPACE alarm, where it is being decided on.
    raising: Raising,
}

impl Duties {
    /// Spawns what runs beside the duties for as long as the thread does: following who leads,
    /// confirming reads, sending batches.
    pub fn spawn_tasks(&self, route: LeaderRoute) {
        let duties = self.clone();
        spawn_endless(async move { duties.follow().await });
        let (barrier, door) = (self.parts.barrier.clone(), self.door.clone());
        spawn_endless(async move { barrier.run(&door.consensus, &door.peers).await });
        let proposer = self.parts.proposer.clone();
        spawn_endless(async move { proposer.run(&route).await });
        let proposer = self.parts.proposer.clone();
        spawn_endless(async move { proposer.raise_decided().await });
        let proposer = self.parts.proposer.clone();
        spawn_endless(async move { proposer.tell_when_awaited().await });
        let duties = self.clone();
        spawn_endless(async move { duties.look_after_peers().await });
        let consensus = self.door.consensus.clone();
        spawn_endless(async move { feel_pulse(&consensus).await });
        let duties = self.clone();
        spawn_endless(async move { duties.follow_addresses().await });
        let duties = self.clone();
        spawn_endless(async move { duties.look_after_leases().await });
        let duties = self.clone();
        spawn_endless(async move { duties.look_after_members().await });
        self.spawn_comparisons();
    }

    /// Revokes what has expired while this member leads, one batch after the other.
    async fn look_after_leases(&self) -> Infallible {
        let pulse = Pulse::new("the lessor");
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pulse.rest(expire.tick()).await;
            if self.parts.leadership.leads()
                && let Some(expired) = self.parts.lessor.expired(EXPIRE_MAX)
            {
                // A quorum may be long in coming.
                pulse.rest(self.revoke(expired)).await;
            }
        }
    }

    /// The next look finds what could not be revoked now.
    async fn revoke(&self, expired: Expired) {
        let ops = expired.leases.iter().map(|id| Op::LeaseRevoke(*id));
        let revoked = self.decide(expired.term, ops.collect()).await;
        match revoked {
            Ok(outcomes) => {
                let revoked = outcomes.iter().filter(|outcome| outcome.result.is_ok());
                revoked.for_each(|_| self.parts.lessor.count_expired());
            }
            Err(error) => {
                crate::log!(warn, "leases that have expired could not be revoked yet",
                    count = expired.leases.len(), first = %expired.leases[0], error = %error);
            }
        }
    }

    /// Ticks every [`LOOK_EVERY`], whoever asks at the same moments: an idle member wakes up once for
    /// all that it looks at.
    fn looks(&self) -> Interval {
        let passed = self.looks_from.elapsed().as_millis() / LOOK_EVERY.as_millis();
        let next = u32::try_from(passed + 1).map(|turn| self.looks_from + LOOK_EVERY * turn);
        // After years the moments are others.
        let mut looks = tokio::time::interval_at(next.unwrap_or_else(|_| Tick::now()), LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        looks
    }

    /// Looks after the configuration while this member leads, one change after the other: without a
    /// quorum one takes as long as that lasts.
    async fn look_after_members(&self) -> Infallible {
        let pulse = Pulse::new("the membership");
        let mut look = self.looks();
        loop {
            pulse.rest(look.tick()).await;
            pulse
                .rest(self.membership.look_after(&self.door.consensus))
                .await;
        }
    }

    /// Decides as the leader of `term`.
    async fn decide(&self, term: u64, ops: Vec<Op>) -> Result<Vec<Outcome>, ProposeError> {
        let by_member = |op| {
            let by = Identity::member();
            Op::By(Box::new(Asked { by, op }))
        };
        // Before there are users, members may not know how to read who asks.
        let ops = match self.parts.store.is_auth_enabled() {
            true => ops.into_iter().map(by_member).collect(),
            false => ops,
        };
        verdict::decide(&self.door.consensus, &self.parts.proposer, term, ops).await
    }

    async fn look_after_peers(&self) -> Infallible {
        let peers = &self.door.peers;
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0_u64;
        loop {
            ask.tick().await;
            peers.forget_removed();
            let asks_all =
                self.parts.leadership.leader().is_none() || turn.is_multiple_of(ASK_ALL_TURNS);
            let whom = |id| asks_all || peers.active_since(id).is_none();
            peers
                .ask_standing(self.parts.local.member, ASK_LIMIT, whom)
                .await;
            turn += 1;
        }
    }

    /// Keeps the connections' addresses those of the member table, and of what members say.
    async fn follow_addresses(&self) -> Infallible {
        loop {
            self.door.peers.tell_addresses(self.directory.addresses());
            self.directory.moved().await;
        }
    }

    fn spawn_comparisons(&self) {
        if let Some(every) = self.routine.checks.every {
            let duties = self.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    if duties.compare().await {
                        crate::log!(info, "finished peer corruption check");
                    }
                }
            });
        }
        if let Some(every) = self.routine.checks.after_compactions {
            let duties = self.clone();
            tokio::spawn(async move {
                let mut compared = duties.comparison().compact_revision();
                loop {
                    tokio::time::sleep(every).await;
                    let compacted = duties.comparison().compact_revision();
                    if std::mem::replace(&mut compared, compacted) != compacted {
                        let revision = compacted.0;
                        crate::log!(info, "starting compact hash check", revision = revision);
                        if duties.compare().await {
                            crate::log!(
                                info,
                                "finished compaction hash check",
                                revision = revision
                            );
                        }
                    }
                }
            });
        }
    }

    /// Compares the members' stores with this one's.
    pub fn comparison(&self) -> Comparison {
        Comparison {
            member: self.parts.local.member,
            store: self.parts.store.clone(),
            door: self.door.clone(),
        }
    }

    /// Compares the members' stores where this member leads, and raises the alarm. Whether it does.
    async fn compare(&self) -> bool {
        let Some(term) = self.own_term() else {
            return false;
        };
        let verdict = self.comparison().compare().await;
        let alarms: Vec<Op> = corruption::alarms(verdict).collect();
        if alarms.is_empty() {
            return true;
        }
        if let Err(error) = self.decide(term, alarms).await {
            crate::log!(warn, "the CORRUPT alarm could not be raised: the next comparison does it",
                error = %error);
        }
        true
    }

    /// The term that this member leads, in touch with a quorum.
    fn own_term(&self) -> Option<u64> {
        let term = self.parts.lessor.term();
        term.filter(|_| self.parts.leadership.leads())
    }

    /// Finds out who leads, for as long as it is not dropped.
    async fn follow(&self) -> Infallible {
        let pulse = Pulse::new("following who leads");
        let consensus = &self.door.consensus;
        let mut changes = consensus.leadership_changes();
        let mut look = self.looks();
        loop {
            pulse.turn();
            self.observe().await;
            pulse.idle();
            tokio::select! {
                () = changes.next() => {}
                _ = look.tick() => {}
            }
        }
    }

    /// Takes over who leads now.
    pub async fn observe(&self) {
        let consensus = &self.door.consensus;
        let mut now = consensus.leadership();
        if self.keep_deadlines(now.own_term).await {
            now = consensus.leadership();
        }
        let leads = now.leader == Some(self.parts.local.member);
        let cluster = self.parts.store.cluster();
        let own = cluster.members.get(self.parts.local.member);
        let learner = own.is_some_and(|member| member.learner);
        let before = self.parts.leadership.leader();
        if before != now.leader {
            told::leader_changed(self.parts.local.member, before, now.leader, now.term);
        }
        self.parts.leadership.set(now, learner);
        let is_alone = leads && consensus.is_alone();
        consensus.tick_unless(is_alone);
        if is_alone {
            consensus.look_whether_alone().await;
        }
        if self.membership.is_changing() {
            return;
        }
        let leadership = &self.parts.leadership;
        match is_alone {
            true => leadership.note_alone(
                self.parts.log.last_index(),
                self.parts.store.applied_index(),
            ),
            false => leadership.note_others(),
        }
    }

    /// The deadlines of the term that this member leads are kept from before anybody is told that it
    /// leads: a lease asked for is found. Whether that took a while.
    async fn keep_deadlines(&self, own_term: Option<u64>) -> bool {
        if self.parts.lessor.term() == own_term {
            return false;
        }
        let Some(term) = own_term else {
            self.parts.lessor.demote();
            return false;
        };
        let (lessor, store, extend_ms) = (
            self.parts.lessor.clone(),
            self.parts.store.clone(),
            self.extend_ms(),
        );
        // On another thread: this one waits for nobody who has the state.
        let promoting = move || lessor.promote(term, &store.read().leases, extend_ms);
        // It fails only where the runtime ends.
        let _ = crate::threads::spawn_blocking(promoting).await;
        true
    }

    /// Renewals of the last leader's time are unknown: leases live an election timeout longer than
    /// granted.
    fn extend_ms(&self) -> u64 {
        u64::try_from(self.election_timeout.as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells the cluster this member's attributes where they changed, and the version it speaks.
    /// Tries until it is known: without a quorum it takes as long as that lasts.
    pub async fn publish(&self) {
        while !self.try_publish().await {
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
    }

    async fn try_publish(&self) -> bool {
        let (cluster, known) = {
            let cluster = self.parts.store.cluster();
            let known = cluster.members.get(self.parts.local.member).cloned();
            (cluster, known)
        };
        let is_published = known.is_some_and(|member| {
            member.attributes == self.attributes
                && member.incarnation == self.parts.local.incarnation
        });
        if !is_published {
            let publish = Op::PublishMember {
                member: self.parts.local.member,
                incarnation: self.parts.local.incarnation,
                attributes: self.attributes.clone(),
            };
            if self.parts.proposer.propose(publish).await.is_err() {
                return false;
            }
            crate::log!(
                info,
                "published local member to cluster through raft",
                "local-member-id" = %self.parts.local.member,
                "local-member-attributes" = %told::attributes(&self.attributes),
                "cluster-id" = %self.parts.local.cluster
            );
        }
        // A downgrade is ended by whoever asked for it, and by no start.
        if cluster.downgrade.is_some() || cluster.version.as_ref() == Some(&self.cluster_version) {
            return true;
        }
        match &cluster.version {
            None => crate::log!(
                info,
                "setting up initial cluster version using v3 API",
                "cluster-version" = self.cluster_version
            ),
            Some(before) => crate::log!(
                info,
                "updating cluster version using v3 API",
                from = before,
                to = self.cluster_version
            ),
        }
        let version = Op::SetClusterVersion(self.cluster_version.clone());
        let is_set = self.parts.proposer.propose(version).await.is_ok();
        if is_set {
            crate::log!(info, "cluster version is updated", "cluster-version" = %self.cluster_version);
        }
        is_set
    }

    /// Waits until what was committed when it is called is applied here, so that what clients read
    /// from this member does not go back to before its stop.
    pub async fn catch_up(&self) {
        while let Err(error) = self.parts.barrier.pass().await {
            crate::log!(debug, "no leader has told yet what is committed", error = %error);
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
    }

    /// The periodic duties, for as long as it is not dropped. A consensus that stops by itself ends the process.
    pub async fn attend(&self) -> Infallible {
        tokio::select! {
            never = self.tick() => never,
            failure = self.door.consensus.failed() => end_process(
                failure,
                "start again; if it comes back, restore this member",
            ),
        }
    }

    async fn tick(&self) -> Infallible {
        let mut look = self.looks();
        let mut watch = LogWatch {
            growth: LogGrowth::since(
                self.parts.log.appended_bytes(),
                self.parts.store.applied_index(),
            ),
            measured_at: None,
            looks: 0,
            handed_over: None,
            held_up: HeldUp::default(),
            raising: Raising::default(),
        };
        let mut schedule = Schedule::new(&self.routine.auto_compaction);
        let mut compact_at = schedule
            .as_ref()
            .map(|schedule| Instant::now() + schedule.interval());
        let pulse = Pulse::new("the duties");
        loop {
            pulse.idle();
            look.tick().await;
            pulse.turn();
            self.parts.proposer.sweep(|began| self.lateness.why(began));
            self.look(&mut watch).await;
            if let (Some(at), Some(schedule)) = (compact_at, schedule.as_mut())
                && Instant::now() >= at
            {
                compact_at = Some(at + schedule.interval());
                self.auto_compact(schedule);
            }
        }
    }

    /// Looks after the disk and the log's length.
    async fn look(&self, watch: &mut LogWatch) {
        self.membership
            .note_contacts(self.parts.lessor.term(), &self.door.consensus);
        self.look_for_room(watch);
        self.look_at_log(watch);
        let appended = self.parts.log.appended_bytes();
        watch.looks += 1;
        // An idle member is measured less often: asking the engine costs more than looking.
        if watch.measured_at != Some(appended) || watch.looks.is_multiple_of(IDLE_LOOKS) {
            watch.measured_at = Some(appended);
            self.measure();
        }
        let applied = self.parts.store.applied_index();
        let is_short = self.parts.store.headroom().is_short();
        let entries_max = self.routine.snapshot_count;
        let is_due = watch
            .growth
            .is_due(appended, applied, is_short, entries_max);
        if is_due || (watch.looks.is_multiple_of(IDLE_LOOKS) && self.log_waits_for_a_cut(applied)) {
            watch.growth.cut(appended, applied);
            self.cut_log().await;
        }
        if watch.looks.is_multiple_of(IDLE_LOOKS) {
            self.purge_log().await;
        }
    }

    /// Whether the log has no room for another segment, and holds what is applied and not flushed: it grows no more
    /// before that is purged.
    fn log_waits_for_a_cut(&self, applied: u64) -> bool {
        self.parts.log.is_full() && self.door.consensus.flushed_index() < applied
    }

    /// Where this member leads and voters are short of room: it hands leadership over, or, where those
    /// that have room are no quorum, keeps what is left for writes that free some.
    fn look_for_room(&self, watch: &mut LogWatch) {
        let Some(term) = self.own_term() else {
            return watch.raising.withdraw();
        };
        let consensus = &self.door.consensus;
        let is_short = self.parts.store.headroom().is_short();
        let others_short = consensus.short_members();
        if !is_short && others_short.is_empty() {
            return watch.raising.withdraw();
        }
        let mut replication = consensus.replication();
        let voters = replication.voters.len() + 1;
        replication.voters.retain(|id| !others_short.contains(id));
        let short = voters - 1 - replication.voters.len() + usize::from(is_short);
        let leaves_none = leaves_no_quorum(voters, short) || is_planted("alarm-early");
        let is_raised = self.parts.store.cluster().is_out_of_space();
        watch.raising.look(leaves_none && !is_raised, || {
            self.clone().raise_no_space(term)
        });
        if leaves_none {
            return;
        }
        if is_short {
            self.hand_over(watch, "this member's disk is short of room");
        }
    }

    /// Where this member leads and its log's disk stands still: what the others have committed is answered
    /// by whoever leads next. As long as one that was lost would be missed.
    fn look_at_log(&self, watch: &mut LogWatch) {
        let consensus = &self.door.consensus;
        if self.own_term().is_none() {
            watch.held_up = HeldUp::default();
            return;
        }
        let committed = consensus.leadership().committed_index;
        let durable = self.parts.log.durable_index();
        let stands_for = watch.held_up.note(committed, durable, Instant::now());
        if stands_for >= self.election_timeout * 2 {
            self.hand_over(watch, "the disk of this member's log stands still");
        }
    }

    /// Hands leadership over, now and then, to who is best prepared for it and not short of room.
    fn hand_over(&self, watch: &mut LogWatch, why: &'static str) {
        let tried = watch.handed_over;
        if tried.is_some_and(|at| at.elapsed() < HAND_OVER_EVERY) {
            return;
        }
        let Some(to) = successor::with_room(&self.door, self.election_timeout) else {
            return;
        };
        let consensus = self.door.consensus.clone();
        watch.handed_over = Some(Instant::now());
        crate::log!(warn, "handing leadership over", why = why, to = %to);
        tokio::spawn(async move {
            if let Err(error) = consensus.hand_over(to).await {
                crate::log!(warn, "leadership was not handed over", to = %to, error = %error);
            }
        });
    }

    /// Raises NOSPACE as the leader of a term, or not at all.
    async fn raise_no_space(self, term: u64) {
        let member = self.parts.local.member;
        let alarm = Op::Alarm(Alarm::Activate(member, AlarmType::NoSpace));
        match self.decide(term, vec![alarm.clone()]).await {
            Ok(_) => crate::log!(warn, "alarm raised", alarm = "NOSPACE", member = %member),
            Err(_) if is_planted("alarm-insists") => {
                while self.parts.proposer.propose(alarm.clone()).await.is_err() {}
            }
            Err(error) => {
                crate::log!(warn, "the NOSPACE alarm could not be raised: the next look decides anew",
                    error = %error);
            }
        }
    }

    async fn purge_log(&self) {
        let consensus = &self.door.consensus;
        let alone = consensus.is_alone();
        let is_short = self.parts.store.headroom().is_short() || self.parts.log.is_full();
        let keep = match is_short {
            true => Keep::default(),
            false if alone => Keep {
                bytes: LOG_KEPT_ALONE,
                entries_least: 0,
                ..self.routine.keep
            },
            false => self.routine.keep,
        };
        // Who is short of room holds nothing for others.
        let held = match is_short {
            true => 0,
            false => self.routine.log_held_bytes,
        };
        if consensus.purge(&self.parts.log, keep, held).await.is_err() {
            crate::log!(warn, "the log could not be purged: consensus has stopped");
        }
    }

    /// Tells the quota how full the store is, and has garbage reclaimed where it is much.
    fn measure(&self) {
        let (data, size) = self.parts.store.data_and_size_bytes();
        let quota = self.parts.proposer.quota();
        quota.measured(data, size);
        let limit = u64::try_from(quota.limit_bytes()).unwrap_or(0);
        self.reclaimer.look(size, limit);
    }

    async fn cut_log(&self) {
        if self.door.consensus.snapshot().await.is_err() {
            crate::log!(warn, "the log could not be cut: consensus has stopped");
        }
    }

    fn auto_compact(&self, schedule: &mut Schedule) {
        // Every member keeps the schedule's record of revisions: whoever leads next goes on with it.
        let due = schedule.tick(self.parts.store.revision());
        let (Some(revision), Some(term)) = (due, self.own_term()) else {
            return;
        };
        // etcd's word.
        let mode = match self.routine.auto_compaction {
            AutoCompaction::Periodic(_) => "periodic",
            _ => "revision",
        };
        crate::log!(
            info,
            format!("starting auto {mode} compaction"),
            revision = revision.0
        );
        let op = Op::Compact(Compact {
            revision: revision.0,
        });
        let duties = self.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            match duties.decide(term, vec![op]).await {
                Ok(_) => crate::log!(
                    info,
                    format!("completed auto {mode} compaction"),
                    revision = revision.0,
                    took = began.elapsed()
                ),
                // The next interval does it.
                Err(error) => crate::log!(
                    warn,
                    format!("failed auto {mode} compaction"),
                    revision = revision.0,
                    error = %error
                ),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    /// What others rely on is started as that: a loop that could end would be missed by nobody.
    #[test]
    fn no_loop_of_the_raft_thread_can_end() {
        let text = include_str!("duties.rs");
        let mut lines = text
            .lines()
            .skip_while(|line| !line.contains("pub fn spawn_tasks"));
        let tasks: Vec<&str> = lines.by_ref().take_while(|line| *line != "    }").collect();
        let started = tasks.iter().filter(|line| line.contains("spawn_endless"));
        assert!(started.count() >= 9, "{tasks:#?}");
        assert!(!tasks.iter().any(|line| line.contains("tokio::spawn")));
    }
}
