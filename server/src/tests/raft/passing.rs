//! Who applies: the log's writer in passing, or the apply thread.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;
use crate::raft::Later;
use crate::raft::fixture::Applied;
use crate::state::Event;
use crate::types::result::Outcome;

const WRITER: &str = "the log's writer";

/// Tells the thread on which each batch was applied; the first waits until it may go on.
struct Witness {
    told: Mutex<Sender<String>>,
    held: Mutex<Option<Receiver<()>>>,
}

impl Applied for Witness {
    fn replaced(&self, _: &Store) {}

    fn events(&self, _: Revision, _: Vec<Event>) {}

    fn members_changed(&self) {}

    fn outcomes(&self, _: &BatchHeader, _: &[Op], _: Vec<Outcome>) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = self.told.lock().send(name);
        if let Some(held) = self.held.lock().take() {
            let _ = held.recv();
        }
    }
}

/// A store whose membership has these members vote, and who applies to it.
struct Applying {
    store: Arc<Store>,
    apply: ApplyThread,
    told: Receiver<String>,
    _dir: TempDir,
}

impl Applying {
    fn start(voters: &[u64], held: Option<Receiver<()>>) -> Applying {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open_store(dir.path()));
        let (tell, told) = channel();
        let witness = Witness {
            told: Mutex::new(tell),
            held: Mutex::new(held),
        };
        let metrics = Arc::new(Metrics::new());
        let apply =
            ApplyThread::start(store.clone(), Arc::new(witness), metrics, SLOW_APPLY).unwrap();
        let nodes: BTreeMap<u64, Peer> = voters.iter().map(|id| (*id, Peer::default())).collect();
        let membership = Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap();
        let applying = Applying {
            store,
            apply,
            told,
            _dir: dir,
        };
        applying.hand_over(Entry {
            log_id: entry::log_id(0, 0),
            payload: EntryPayload::Membership(membership),
        });
        applying
    }

    /// To the apply thread, and waits.
    fn hand_over(&self, entry: Entry) {
        let (done, finished) = oneshot::channel();
        let entries = vec![entry];
        let task = Task::Apply { entries, done };
        self.apply.handle().send(task).unwrap();
        finished.blocking_recv().unwrap();
    }

    /// As the log's writer does: returns once it may write on.
    fn pass(&self, entry: Entry) -> oneshot::Receiver<()> {
        self.pass_with(entry, &Arc::default())
    }

    fn pass_with(&self, entry: Entry, later: &Arc<Later>) -> oneshot::Receiver<()> {
        let (handle, later) = (self.apply.handle(), later.clone());
        let (done, finished) = oneshot::channel();
        let writer = std::thread::Builder::new().name(WRITER.to_owned());
        let passing = move || handle.apply_in_passing(vec![entry], done, &later);
        writer.spawn(passing).unwrap().join().unwrap().unwrap();
        finished
    }

    /// Has the log's writer pass an operation; the thread that applied it.
    fn applied_by(&self, index: u64, op: Op) -> String {
        self.pass(batch(index, vec![op])).blocking_recv().unwrap();
        assert_eq!(self.store.applied_index(), index);
        self.told.recv().unwrap()
    }

    fn end(self) {
        drop(self.store);
        self.apply.join();
    }
}

#[test]
fn the_writer_of_a_cluster_of_one_applies_what_is_short() {
    let applying = Applying::start(&[2], None);
    let all = DeleteRange {
        range: all_keys().range,
        prev_kv: false,
    };
    let swap = |op: TxnOp| Txn {
        success: vec![op],
        ..Txn::default()
    };
    assert_eq!(applying.applied_by(1, put("a", "1")), WRITER);
    assert_eq!(
        applying.applied_by(2, Op::DeleteRange(all.clone())),
        "engram-apply"
    );
    let put_b = TxnOp::Put(put_with_lease("b", "1", LeaseId::NONE));
    assert_eq!(applying.applied_by(3, Op::Txn(swap(put_b))), WRITER);
    let within = Op::Txn(swap(TxnOp::DeleteRange(all)));
    assert_eq!(applying.applied_by(4, within), "engram-apply");
    let large = "x".repeat(300 << 10);
    assert_eq!(applying.applied_by(5, put("c", &large)), "engram-apply");
    assert_eq!(applying.applied_by(6, compact(3)), "engram-apply");
    applying.end();
}

#[test]
fn the_writer_of_a_member_with_others_applies_nothing() {
    let applying = Applying::start(&[1, 2, 3], None);
    assert_eq!(applying.applied_by(1, put("a", "1")), "engram-apply");
    applying.end();
}

#[test]
fn the_writer_applies_nothing_without_room() {
    let applying = Applying::start(&[2], None);
    applying.store.headroom().allow(0);
    let waiting = applying.pass(batch(1, vec![put("a", "1")]));
    assert_eq!(applying.store.applied_index(), 0, "the writer went on");
    applying.store.headroom().allow(u64::MAX);
    waiting.blocking_recv().unwrap();
    assert_eq!(applying.told.recv().unwrap(), "engram-apply");
    applying.end();
}

#[test]
fn the_writer_waits_for_nobody_who_applies() {
    let (release, held) = sync_channel(1);
    let applying = Applying::start(&[2], Some(held));
    let (done, first) = oneshot::channel();
    let entries = vec![batch(1, vec![put("a", "1")])];
    let task = Task::Apply { entries, done };
    applying.apply.handle().send(task).unwrap();
    assert_eq!(applying.told.recv().unwrap(), "engram-apply");
    // It holds still in the middle: the writer hands on and returns.
    let second = applying.pass(batch(2, vec![put("a", "2")]));
    release.send(()).unwrap();
    first.blocking_recv().unwrap();
    second.blocking_recv().unwrap();
    assert_eq!(applying.told.recv().unwrap(), "engram-apply");
    assert_eq!(applying.store.applied_index(), 2);
    applying.end();
}

#[test]
fn the_raft_thread_hears_later_of_what_nobody_waits_for() {
    let applying = Applying::start(&[2], None);
    let later = Arc::new(Later::default());
    let mut entry = batch(1, vec![put("a", "1")]);
    if let EntryPayload::Normal(batch) = entry.payload {
        entry.payload = EntryPayload::Normal(batch.answered_when_applied());
    }
    let mut finished = applying.pass_with(entry, &later);
    assert_eq!(
        applying.told.recv().unwrap(),
        WRITER,
        "its caller heard at once"
    );
    assert!(finished.try_recv().is_err());
    later.tell();
    finished.try_recv().unwrap();
    let told = applying.pass_with(batch(2, vec![put("a", "2")]), &later);
    told.blocking_recv().unwrap();
    applying.end();
}
