//! Where the apply thread's results go: events to the watch hub, outcomes to the lessor and to the
//! callers.

use std::sync::Arc;
use std::task::Waker;

use engram_archiver::Journal;

use crate::auth::Tokens;
use crate::codec::entry::BatchHeader;
use crate::home::{HomeId, Homes};
use crate::mutants::is_planted;
use crate::node::archive;
use crate::node::directory::MemberDirectory;
use crate::node::fence::Fence;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::Lessor;
use crate::node::told::{self, Told};
use crate::propose::Proposer;
use crate::raft::Applied;
use crate::state::{Change, Event, RevisionRecord, Values};
use crate::store::Store;
use crate::types::request::{Op, Range};
use crate::types::result::Outcome;
use crate::types::{ClusterId, KeyRange, MemberId, Revision, RevisionPair};
use crate::watch::{HeaderSource, Home, Hub};

/// See the module.
pub struct Sink {
    pub hub: Arc<Hub>,
    pub proposer: Proposer,
    pub lessor: Arc<Lessor>,
    pub directory: Arc<MemberDirectory>,
    pub fence: Arc<Fence>,
    pub store: Arc<Store>,
    pub told: Told,
    pub tokens: Arc<Tokens>,
    /// What the log archive needs to know, where there is one.
    pub journal: Option<Arc<Journal>>,
}

impl Sink {
    /// Looks who the members are now and which alarms stand; whether NOSPACE does.
    fn look(&self, store: &Store) -> bool {
        let cluster = store.cluster();
        self.told.look(&cluster);
        self.fence.look(&cluster.alarms);
        cluster.is_out_of_space()
    }
}

impl Applied for Sink {
    fn replaced(&self, store: &Store) {
        let (data, size) = store.data_and_size_bytes();
        self.lessor.replaced(&store.read().leases);
        // Which of them the snapshot went over is not known.
        self.tokens.clear();
        let raised = self.look(store);
        let quota = self.proposer.quota();
        quota.alarm_is(raised);
        quota.measured(data, size);
        if let Some(journal) = &self.journal {
            journal.replaced(archive::moment(store.applied_index(), store.revision()));
        }
        if !is_planted("watch-skips-install") {
            self.hub.reset(store.revision());
        }
        self.directory.look();
    }

    fn users(&self, ops: &[Op], outcomes: &[Outcome]) {
        for (op, outcome) in ops.iter().zip(outcomes) {
            self.tokens.applied(op, outcome);
        }
    }

    fn users_shown(&self) {
        self.told.look(&self.store.cluster());
        self.hub.nudge();
    }

    fn written(&self, before: Revision, after: Revision, index: u64, changes: &[Change]) {
        if let Some(journal) = &self.journal {
            let auth = || self.store.cluster().auth.clone();
            journal.written(before, archive::moment(index, after), changes, auth);
        }
    }

    fn events(&self, revision: Revision, events: Vec<Event>) {
        if is_planted("watch-drops") && revision.0 % 40 == 0 {
            return;
        }
        self.hub.publish(revision, events);
    }

    fn members_changed(&self) {
        self.directory.look();
        // A removed member's alarms went with it.
        let raised = self.look(&self.store);
        self.proposer.quota().alarm_is(raised);
    }

    fn outcomes(&self, header: &BatchHeader, ops: &[Op], outcomes: Vec<Outcome>) {
        for (op, outcome) in ops.iter().zip(&outcomes) {
            self.lessor.applied(op.bare(), outcome);
            if outcome.result.is_ok() {
                told::applied(op.bare());
            }
        }
        if ops.iter().any(|op| matches!(op.bare(), Op::Alarm(_))) {
            self.fence.look(&self.store.cluster().alarms);
        }
        let version = |op: &Op| matches!(op, Op::SetClusterVersion(_));
        if ops.iter().any(version) {
            self.told.look(&self.store.cluster());
        }
        self.proposer.outcomes(header, ops, outcomes);
    }
}

/// The applied state, as the watch hub reads it.
pub struct WatchedStore(pub Arc<Store>);

impl Values for WatchedStore {
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord> {
        self.0.get(pair)
    }

    fn get_many(&self, pairs: &[RevisionPair]) -> Vec<Option<RevisionRecord>> {
        self.0.get_many(pairs)
    }

    fn scan(&self, mut from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        if is_planted("watch-starts-late") {
            from.main = from.main.next();
        }
        self.0.scan(from, visit);
    }
}

impl crate::watch::Store for WatchedStore {
    fn revision(&self) -> Revision {
        self.0.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.0.compact_revision()
    }

    fn previous(&self, key: &[u8], before: Revision) -> Option<bytes::Bytes> {
        let range = KeyRange::single(bytes::Bytes::copy_from_slice(key));
        let query = Range {
            revision: before.0 - 1,
            ..Range::all(range)
        };
        if query.revision <= 0 {
            return None;
        }
        let (_, found) = crate::read::read_now(&self.0, &query).ok()?;
        found
            .items
            .first()
            .map(|item| bytes::Bytes::copy_from_slice(item.as_ref()))
    }
}

/// The ids and the term of watch answers' headers.
pub struct Headers {
    pub cluster: ClusterId,
    pub member: MemberId,
    pub leadership: Arc<LeadershipCell>,
}

impl HeaderSource for Headers {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn member(&self) -> MemberId {
        self.member
    }

    fn raft_term(&self) -> u64 {
        self.leadership.term()
    }
}

/// A connection thread, as the watch hub wakes it.
pub struct WatchHome {
    pub homes: Homes,
    pub home: HomeId,
}

impl Home for WatchHome {
    fn wake(&self, wakers: Vec<Waker>) {
        self.homes.post(
            self.home,
            Box::new(move || wakers.into_iter().for_each(Waker::wake)),
        );
    }
}
