//! Who leads, as every thread of this member sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::raft::Leadership;
use crate::types::MemberId;

/// Who leads: read without a lock, and awaited. A leader that has lost its quorum counts as none.
#[derive(Debug)]
pub struct LeadershipCell {
    member: MemberId,
    term: AtomicU64,
    leader: AtomicU64,
    alone: AtomicBool,
    /// The log's last entry when this member was first seen to be alone.
    alone_from: Mutex<Option<u64>>,
    learner: AtomicBool,
    changes: AtomicU64,
    elected_at: Mutex<Option<Instant>>,
    known: watch::Sender<Option<MemberId>>,
}

impl LeadershipCell {
    /// The cell of `member`, which knows of nobody yet.
    pub fn new(member: MemberId) -> LeadershipCell {
        LeadershipCell {
            member,
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            alone_from: Mutex::new(None),
            learner: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            elected_at: Mutex::new(None),
            known: watch::channel(None).0,
        }
    }

    /// Takes over what consensus says.
    pub fn set(&self, leadership: Leadership, learner: bool) {
        self.term.store(leadership.term, Ordering::Release);
        let leader = leadership.leader.map_or(0, |member| member.0);
        if self.leader.swap(leader, Ordering::AcqRel) != leader && leader != 0 {
            self.changes.fetch_add(1, Ordering::Relaxed);
            *self.elected_at.lock() = Some(Instant::now());
        }
        self.learner.store(learner, Ordering::Release);
        self.known.send_if_modified(|known| {
            let differs = *known != leadership.leader;
            *known = leadership.leader;
            differs
        });
    }

    /// This member may not be the only one from now on: its reads need confirmation.
    pub fn note_others(&self) {
        *self.alone_from.lock() = None;
        self.alone.store(false, Ordering::Release);
    }

    /// Nobody votes or learns beside this member, and it leads; `last` is the last entry of its log, `applied`
    /// the last that is applied here. Its reads need nobody's confirmation, once it has applied what was in
    /// its log when there were others last: they may have told their clients of it already. A learner may as
    /// well: it applies what is committed by itself, maybe sooner than this member does.
    pub fn note_alone(&self, last: u64, applied: u64) {
        let from = *self.alone_from.lock().get_or_insert(last);
        self.alone.store(applied >= from, Ordering::Release);
    }

    /// How often another leader was seen.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// When somebody was seen to lead who had not led the moment before; none where nobody was.
    pub fn elected_at(&self) -> Option<Instant> {
        *self.elected_at.lock()
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// The leader, where one is known.
    pub fn leader(&self) -> Option<MemberId> {
        match self.leader.load(Ordering::Acquire) {
            0 => None,
            id => Some(MemberId(id)),
        }
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.leader() == Some(self.member)
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Acquire)
    }

    /// Whether there is no other member, and what was acknowledged anywhere is applied here.
    pub fn answers_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Waits until somebody leads: who.
    pub async fn leader_known(&self) -> MemberId {
        let mut known = self.known.subscribe();
        loop {
            if let Some(leader) = *known.borrow_and_update() {
                return leader;
            }
            // The sender lives as long as this cell.
            let _ = known.changed().await;
        }
    }

    /// Waits until nobody is known to lead.
    pub async fn lost(&self) {
        let mut known = self.known.subscribe();
        // The sender lives as long as this cell.
        let _ = known.wait_for(Option::is_none).await;
    }

    /// Waits until `member` leads.
    pub async fn led_by(&self, member: MemberId) {
        let mut known = self.known.subscribe();
        // The sender lives as long as this cell.
        let _ = known.wait_for(|leader| *leader == Some(member)).await;
    }

    /// Waits until another than `member` leads, or nobody does.
    pub async fn left_by(&self, member: MemberId) {
        let mut known = self.known.subscribe();
        // The sender lives as long as this cell.
        let _ = known.wait_for(|leader| *leader != Some(member)).await;
    }

    /// Resolves once nobody has led for `long` without a break.
    pub async fn leaderless_for(&self, long: Duration) {
        let mut known = self.known.subscribe();
        loop {
            // An error means that the sender is gone, which it is not while this is borrowed.
            let _ = known.wait_for(Option::is_none).await;
            let found = tokio::time::timeout(long, known.wait_for(Option::is_some)).await;
            if found.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led_by(leader: Option<u64>) -> Leadership {
        Leadership {
            term: 1,
            leader: leader.map(MemberId),
            own_term: None,
            committed_index: 0,
        }
    }

    #[tokio::test]
    async fn a_stream_that_requires_a_leader_outlives_a_short_election() {
        let cell = LeadershipCell::new(MemberId(1));
        cell.set(led_by(Some(2)), false);
        let patience = Duration::from_millis(300);
        let waiting = cell.leaderless_for(patience);
        let faults = async {
            cell.set(led_by(None), false);
            tokio::time::sleep(Duration::from_millis(200)).await;
            cell.set(led_by(Some(3)), false);
            tokio::time::sleep(Duration::from_millis(200)).await;
            cell.set(led_by(None), false);
            std::future::pending::<()>().await;
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = waiting => {}
            () = faults => {}
        }
        assert!(began.elapsed() >= Duration::from_millis(700));
        assert_eq!(cell.changes(), 2);
    }

    #[test]
    fn who_is_left_alone_reads_alone_once_it_has_what_others_may_have_acknowledged() {
        let cell = LeadershipCell::new(MemberId(1));
        let alone = |last, applied| {
            cell.note_alone(last, applied);
            cell.answers_alone()
        };
        assert!(!alone(20, 12));
        assert!(!alone(30, 19), "what it has taken since is its own matter");
        assert!(alone(40, 20));
        assert!(alone(60, 30));
        cell.note_others();
        assert!(!cell.answers_alone());
        cell.note_alone(70, 60);
        assert!(!cell.answers_alone(), "it begins anew");
    }

    #[tokio::test]
    async fn a_leader_is_awaited_from_any_thread() {
        let cell = std::sync::Arc::new(LeadershipCell::new(MemberId(7)));
        let waiting = tokio::spawn({
            let cell = cell.clone();
            async move { cell.leader_known().await }
        });
        tokio::task::yield_now().await;
        cell.set(led_by(Some(7)), false);
        assert_eq!(waiting.await.unwrap(), MemberId(7));
        assert!(cell.leads());
    }
}
