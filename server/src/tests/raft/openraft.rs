//! openraft itself over the store: a follower, led by hand.

use std::ffi::OsString;

use ::openraft::raft::AppendEntriesRequest;
use ::openraft::storage::Snapshot;

use super::*;
use crate::codec::entry::BatchHeader;
use crate::config::{Config, Outcome};
use crate::node::boot;
use crate::peer::fixture::Book;
use crate::peer::{self, Clients, Dial, PlainTcp};
use crate::raft::fixture::{Applied, Consensus, ConsensusOptions, LogId, Peers, Vote};
use crate::state::Event;
use crate::storage::Identity;
use crate::storage::place::incoming_dir;
use crate::types::result;

/// Longer than a test: the follower asks nobody for a vote.
const ELECTION: Duration = Duration::from_secs(60);
const WAIT: Option<Duration> = Some(Duration::from_secs(10));

/// Nobody wants to know.
struct Quiet;

impl Applied for Quiet {
    fn replaced(&self, _: &Store) {}

    fn events(&self, _: Revision, _: Vec<Event>) {}

    fn members_changed(&self) {}

    fn outcomes(&self, _: &BatchHeader, _: &[Op], _: Vec<result::Outcome>) {}
}

/// A member under openraft.
pub(super) struct Follower {
    pub(super) store: Arc<Store>,
    pub(super) log: LogStore,
    consensus: Consensus,
    apply: ApplyThread,
}

impl Follower {
    /// Boots a data directory as `engram` does, and starts consensus over it.
    pub(super) async fn boot(data_dir: &Path) -> Follower {
        identify(data_dir);
        let booted = boot::open(&config(data_dir), &dial()).unwrap();
        let (store, log) = (booted.store, booted.log);
        let apply =
            ApplyThread::start(store.clone(), Arc::new(Quiet), booted.metrics, SLOW_APPLY).unwrap();
        let options = ConsensusOptions {
            member: MemberId(2),
            heartbeat: ELECTION / 10,
            election_timeout: ELECTION,
        };
        let book = Book::of(options.member);
        let clients = Clients::new(book, Arc::new(PlainTcp), peer::Limits::default());
        let peers = Peers::new(clients, options.member, log.metrics().clone());
        let consensus = Consensus::start(&options, log.clone(), store.clone(), &apply, peers);
        let consensus = consensus.await.unwrap();
        Follower {
            store,
            log,
            consensus,
            apply,
        }
    }

    /// Has it append `entries` after `previous`, as a leader of `term` would, all committed or none.
    pub(super) async fn append(&self, term: u64, entries: &[Entry], committed: bool) {
        let first = entries[0].log_id.index();
        let previous = first.checked_sub(1).map(|index| self.known(term, index));
        let last = entries.last().unwrap().log_id;
        let request = AppendEntriesRequest {
            vote: vote(term),
            prev_log_id: previous,
            entries: entries.to_vec(),
            leader_commit: if committed { Some(last) } else { previous },
        };
        let answer = self
            .consensus
            .openraft()
            .append_entries(request)
            .await
            .unwrap();
        assert!(answer.is_success(), "{answer:?}");
        if committed {
            let wait = self.consensus.openraft().wait(WAIT);
            let applied = wait.applied_index(Some(last.index()), "applied");
            applied.await.unwrap();
        }
    }

    /// What a leader of `term` says of the entry before its own: the histories here begin a term
    /// where they leave another.
    fn known(&self, term: u64, index: u64) -> LogId {
        let applied = self.store.engine().applied().unwrap().log_position;
        match applied {
            Some(position) if position.index == index => entry::log_id(position.term, index),
            _ => entry::log_id(term, index),
        }
    }

    async fn install(&self, term: u64, meta: Meta, received: Received) {
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotData::Received(received),
        };
        let installing = self
            .consensus
            .openraft()
            .install_full_snapshot(vote(term), snapshot);
        installing.await.unwrap();
    }

    pub(super) async fn stop(self) {
        self.consensus.stop().await;
        drop((self.consensus, self.log, self.store));
        self.apply.join();
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        leader_id: ::openraft::impls::leader_id_std::LeaderId { term, voted_for: 1 },
        committed: true,
    }
}

fn config(data_dir: &Path) -> Config {
    let args = [
        format!("--data-dir={}", data_dir.display()),
        "--initial-cluster-state=existing".into(),
    ];
    let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    match crate::config::parse(
        args.iter().map(OsString::from),
        std::iter::empty(),
        &no_file,
    ) {
        Outcome::Run { config, .. } => *config,
        other => panic!("expected to run, got {other:?}"),
    }
}

fn dial() -> Arc<dyn Dial> {
    Arc::new(PlainTcp)
}

/// Gives a data directory that these tests made the identity that their logs name.
fn identify(data_dir: &Path) {
    if Identity::load(data_dir).unwrap().is_none() {
        let identity = Identity {
            cluster: ClusterId(0),
            member: MemberId(0),
            incarnation: 0,
        };
        identity.store(data_dir).unwrap();
    }
}

/// Why a data directory does not boot.
pub(super) fn boot_error(data_dir: &Path) -> String {
    identify(data_dir);
    match boot::open(&config(data_dir), &dial()) {
        Ok(_) => panic!("it should be refused"),
        Err(error) => error.to_string(),
    }
}

/// `entries` as a leader of term 2 would have made them.
fn in_term_2(entries: &[Entry]) -> Vec<Entry> {
    let renewed = entries.iter().map(|old| Entry {
        log_id: entry::log_id(2, old.log_id.index()),
        payload: old.payload.clone(),
    });
    renewed.collect()
}

#[tokio::test]
async fn a_follower_with_another_end_of_the_log_takes_a_snapshot_and_goes_on_and_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let follower = Follower::boot(dir.path()).await;
    let shared = history(10, 40);
    follower.append(1, &shared, true).await;
    // Entries that the leader of term 1 never had committed, beyond what the snapshot covers.
    let lost: Vec<Entry> = history(11, 70)[40..].to_vec();
    follower.append(1, &lost, false).await;
    assert_eq!(follower.log.last_index(), 69);

    let (leader, whole) = (Member::new(), Member::new());
    let renewed = in_term_2(&history(12, 60)[40..]);
    leader.apply(&shared).await;
    leader.apply(&renewed[..11]).await;
    let (meta, checkpoint) = leader.snapshot().await;
    assert_eq!(meta.last_log_id, Some(entry::log_id(2, 50)));
    let mut incoming = Incoming::begin(&incoming_dir(dir.path())).unwrap();
    for piece in pieces(&checkpoint) {
        incoming.accept(&piece).unwrap();
    }
    let received = incoming.finish().unwrap();
    follower.install(2, meta, received).await;
    assert_eq!(follower.store.applied_index(), 50);
    // The log's purge rides on the next append: a crash now finds a log that ends at entry 39.
    let crashed = copy_dir(dir.path());
    follower.append(2, &renewed[11..], true).await;
    assert_eq!(
        (follower.log.purged_index(), follower.log.last_index()),
        (50, 59)
    );
    follower.stop().await;

    whole.apply(&shared).await;
    whole.apply(&renewed).await;
    for image in [crashed, dir] {
        let follower = Follower::boot(image.path()).await;
        assert!(follower.log.purged_index() >= 50 && follower.store.applied_index() >= 50);
        let rest = usize::try_from(follower.store.applied_index()).unwrap() - 39;
        if rest < renewed.len() {
            follower.append(2, &renewed[rest..], true).await;
        }
        follower.stop().await;
        // The apply thread has not flushed: what is in the log is applied by the next start.
        let again = Follower::boot(image.path()).await;
        let applied = again.consensus.openraft().wait(WAIT);
        applied
            .applied_index_at_least(Some(59), "replayed")
            .await
            .unwrap();
        again.store.engine().flush();
        again.stop().await;
        assert_eq!(Member::open(image).everything(), whole.everything());
    }
}
