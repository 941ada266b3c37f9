//! Members of a cluster, each with its directories, its listener and its connections.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::SLOW_APPLY;
use super::partition::{Partition, PartitionedDial};
use crate::codec::entry::BatchHeader;
use crate::metrics::Metrics;
use crate::net::Security;
use crate::peer::fixture::{Book, listen};
use crate::peer::message::{self, AppendRequest, AppendResponse};
use crate::peer::{
    CallError, Clients, Declined, Dial, Limits, PeerHandler, PlainTcp, Server, serve,
};
use crate::raft::fixture::{
    Applied, ApplyThread, Batch, Consensus, ConsensusOptions, LogStore, Peers, ProposeRefused,
};
use crate::state;
use crate::storage::place::incoming_dir;
use crate::store::Store;
use crate::types::request::{Op, Put};
use crate::types::{LeaseId, MemberId, Revision};
use crate::wal;

/// How long anything may take before a test has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Proposals that wait for each other's commit at once.
const AT_ONCE: usize = 64;
pub const HEARTBEAT: Duration = Duration::from_millis(50);
/// Without a leader an election begins after 1.25 times this.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(400);
/// The same for what a busy machine must not disturb.
pub const PATIENT_ELECTION_TIMEOUT: Duration = Duration::from_millis(1600);

/// Nobody wants to know what was applied.
struct Deaf;

impl Applied for Deaf {
    fn replaced(&self, _: &Store) {}

    fn events(&self, _: Revision, _: Vec<state::Event>) {}

    fn members_changed(&self) {}

    fn outcomes(&self, _: &BatchHeader, _: &[Op], _: Vec<crate::types::result::Outcome>) {}
}

/// What a member of these tests does for its peers: consensus, nothing else.
struct Served {
    consensus: Consensus,
    incoming: PathBuf,
}

impl PeerHandler for Served {
    fn append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, AppendResponse> {
        self.consensus.serve_append(requests)
    }

    fn promised(&self) -> message::PromisedResponse {
        self.consensus.serve_promised()
    }

    async fn vote(&self, request: message::VoteRequest) -> Result<message::VoteResponse, Declined> {
        self.consensus.serve_vote(request).await
    }

    async fn install_snapshot(
        &self,
        parts: BoxStream<'static, Result<message::SnapshotPart, CallError>>,
    ) -> Result<message::SnapshotAnswer, Declined> {
        self.consensus.serve_snapshot(parts, &self.incoming).await
    }

    async fn transfer_leader(
        &self,
        request: message::TransferLeaderRequest,
    ) -> Result<message::TransferLeaderResponse, Declined> {
        self.consensus.serve_transfer_leader(request).await
    }

    async fn propose(&self, batch: Bytes) -> Result<(), Declined> {
        self.consensus.serve_propose(batch).await
    }

    async fn read_index(&self) -> Result<u64, Declined> {
        self.consensus.read_index().await
    }

    async fn lease_keep_alive(&self, _: LeaseId) -> Result<i64, Declined> {
        Err(Declined::Invalid)
    }

    async fn lease_time_to_live(
        &self,
        _: LeaseId,
        _: bool,
    ) -> Result<message::LeaseTimeToLiveResponse, Declined> {
        Err(Declined::Invalid)
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Declined> {
        Err(Declined::Invalid)
    }

    async fn hash_kv(&self, _: Revision) -> Result<message::HashKvResponse, Declined> {
        Err(Declined::Invalid)
    }

    fn members(&self) -> message::MembersResponse {
        message::MembersResponse::default()
    }

    async fn change_members(
        &self,
        _: message::ChangeMembersRequest,
    ) -> Result<Vec<message::Member>, Declined> {
        Err(Declined::Invalid)
    }

    async fn move_leader(&self, _: MemberId) -> Result<(), Declined> {
        Err(Declined::Invalid)
    }

    fn versions(&self) -> (Option<String>, Option<String>) {
        (None, None)
    }

    fn is_downgrading(&self) -> bool {
        false
    }
}

/// A running member.
pub struct Member {
    pub id: MemberId,
    pub consensus: Consensus,
    pub store: Arc<Store>,
    pub log: LogStore,
    pub clients: Clients,
    pub url: String,
    apply: ApplyThread,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    dir: TempDir,
}

/// A log in a directory. It is not synced: these tests cut connections, not the power.
pub fn open_log(dir: &Path) -> LogStore {
    let dir = dir.join("wal");
    crate::fs::create_private_dir(&dir).expect("a temporary directory");
    let options = wal::Options {
        sync: false,
        // The largest entry fits.
        segment_bytes: 16 << 20,
        cache_bytes: 1 << 20,
        ..wal::Options::default()
    };
    let (wal, recovered) = wal::open(&dir, options).expect("a sound log");
    LogStore::new(wal, recovered, Arc::new(Metrics::new())).expect("sound records")
}

impl Member {
    async fn start(
        dir: TempDir,
        id: MemberId,
        (listener, url): (tokio::net::TcpListener, String),
        dial: Arc<dyn Dial>,
        election_timeout: Duration,
    ) -> Member {
        let (store, log) = (
            Arc::new(super::open_store(dir.path())),
            open_log(dir.path()),
        );
        let metrics = Arc::new(Metrics::new());
        let apply = ApplyThread::start(store.clone(), Arc::new(Deaf), metrics, SLOW_APPLY)
            .expect("a thread");
        let book = Book::of(id);
        // Nobody is in the table of members: these tests add none.
        book.admits
            .store(true, std::sync::atomic::Ordering::Relaxed);
        let clients = Clients::new(book.clone(), dial, Limits::default());
        let options = ConsensusOptions {
            member: id,
            heartbeat: HEARTBEAT,
            election_timeout,
        };
        let peers = Peers::new(clients.clone(), id, log.metrics().clone());
        let consensus = Consensus::start(&options, log.clone(), store.clone(), &apply, peers)
            .await
            .expect("consensus starts");
        let served = Served {
            consensus: consensus.clone(),
            incoming: incoming_dir(dir.path()),
        };
        let (stop, stopping) = watch::channel(false);
        let server = Server::new(Arc::new(served), book, Limits::default());
        let serving = tokio::spawn(serve(listener.into(), Security::Plain, server, stopping));
        Member {
            id,
            consensus,
            store,
            log,
            clients,
            url,
            apply,
            stop,
            serving,
            dir,
        }
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its log's.
    pub fn wal_dir(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    /// Stops it, and starts it again on its directory.
    pub async fn restart(self) -> Member {
        let (id, dir) = (self.id, self.stop().await);
        let dial = Arc::new(PlainTcp);
        Member::start(dir, id, listen().await, dial, ELECTION_TIMEOUT).await
    }

    /// Stops it as a process would stop; returns its directory.
    pub async fn stop(self) -> TempDir {
        self.stop.send_replace(true);
        self.consensus.stop().await;
        self.serving.await.expect("the server does not panic");
        drop(self.consensus);
        tokio::task::spawn_blocking(|| self.apply.join())
            .await
            .expect("the apply thread ends");
        self.dir
    }
}

/// A batch that puts one key.
pub fn batch(sequence: u64, value: &Bytes) -> Batch {
    let header = BatchHeader {
        proposer: MemberId(1),
        sequence,
        wall_ms: 0,
    };
    let put = Put {
        key: format!("key-{:05}", sequence % 1000).into(),
        value: value.clone(),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    Batch::new(header, vec![Op::Put(put)])
}

/// The members, in the order of their ids 1, 2, 3, …
pub struct Cluster {
    pub members: Vec<Member>,
    pub partition: Arc<Partition>,
}

impl Cluster {
    /// Starts a cluster and waits for its first leader.
    pub async fn start(size: u64) -> Cluster {
        Cluster::start_behind(size, |_, url| std::future::ready(url)).await
    }

    /// The same with [`PATIENT_ELECTION_TIMEOUT`].
    pub async fn start_patient(size: u64) -> Cluster {
        let advertise = |_, url| std::future::ready(url);
        Cluster::start_with(size, PATIENT_ELECTION_TIMEOUT, advertise).await
    }

    /// Starts a cluster whose members are reached at the URLs that `advertise` makes of theirs.
    pub async fn start_behind<F: Future<Output = String>>(
        size: u64,
        advertise: impl Fn(MemberId, String) -> F,
    ) -> Cluster {
        Cluster::start_with(size, ELECTION_TIMEOUT, advertise).await
    }

    async fn start_with<F: Future<Output = String>>(
        size: u64,
        election_timeout: Duration,
        advertise: impl Fn(MemberId, String) -> F,
    ) -> Cluster {
        let mut bound = BTreeMap::new();
        let mut advertised = BTreeMap::new();
        for id in (1..=size).map(MemberId) {
            let (listener, url) = listen().await;
            advertised.insert(id, advertise(id, url.clone()).await);
            bound.insert(id, (listener, url));
        }
        let ids: BTreeMap<String, MemberId> = advertised
            .iter()
            .map(|(id, url)| (url.clone(), *id))
            .collect();
        let partition = Arc::new(Partition::default());
        let mut members = Vec::new();
        for (id, bound) in bound {
            let dial = PartitionedDial {
                from: id,
                ids: ids.clone(),
                partition: partition.clone(),
            };
            let dir = TempDir::new().expect("a temporary directory");
            let dial = Arc::new(dial);
            members.push(Member::start(dir, id, bound, dial, election_timeout).await);
        }
        let cluster = Cluster { members, partition };
        let table = advertised.into_iter().map(|(id, url)| (id, vec![url]));
        let first = &cluster.members[0].consensus;
        first.initialize(table.collect()).await.expect("pristine");
        cluster.leader().await;
        cluster
    }

    /// The member that leads and that a majority follows, once there is one.
    pub async fn leader(&self) -> &Member {
        let all: Vec<&Member> = self.members.iter().collect();
        leader_among(&all).await
    }

    /// The leader that all but `cut` follow.
    pub async fn leader_without(&self, cut: MemberId) -> &Member {
        let rest: Vec<&Member> = self.members.iter().filter(|m| m.id != cut).collect();
        leader_among(&rest).await
    }

    /// One that does not lead.
    pub fn follower_of(&self, leader: &Member) -> &Member {
        let follower = self.members.iter().find(|member| member.id != leader.id);
        follower.expect("somebody follows")
    }

    pub fn member(&self, id: MemberId) -> &Member {
        let found = self.members.iter().find(|member| member.id == id);
        found.expect("a member of the cluster")
    }

    /// Waits until every member has applied what the leader has, and compares their data.
    pub async fn converge(&self) {
        let leader = self.leader().await;
        let applied = leader.log.last_index();
        for member in &self.members {
            let what = || member.store.applied_index() >= applied;
            eventually("every member has applied everything", what).await;
        }
        let hashes: Vec<u32> = self.members.iter().map(|m| hash(&m.store)).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:x?}");
    }

    /// Stops every member.
    pub async fn stop(self) {
        for member in self.members {
            member.stop().await;
        }
    }
}

async fn leader_among<'a>(members: &[&'a Member]) -> &'a Member {
    let agreed = || {
        let seen = members[0].consensus.leadership();
        let leader = seen.leader?;
        let follows = |member: &&&Member| {
            let leadership = member.consensus.leadership();
            (leadership.leader, leadership.term) == (seen.leader, seen.term)
        };
        let all_follow = members.iter().filter(follows).count() == members.len();
        let found = members.iter().find(|member| member.id == leader);
        found.filter(|_| all_follow).copied()
    };
    let begun = Instant::now();
    loop {
        if let Some(leader) = agreed() {
            return leader;
        }
        assert!(begun.elapsed() < PATIENCE, "no leader is followed by all");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Looks until it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Proposes on a leader until it is taken. One that was elected a moment ago refuses until it has
/// heard from a quorum.
pub async fn propose(leader: &Member, batch: Batch) -> Result<(), ProposeRefused> {
    let begun = Instant::now();
    loop {
        let proposed = tokio::time::timeout(PATIENCE, leader.consensus.propose(batch.clone()));
        match proposed.await.expect("a quorum confirms it in time") {
            Err(ProposeRefused::NotLeader) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            result => return result,
        }
    }
}

/// Proposes a batch for each number, many at a time.
pub async fn write(leader: &Member, sequences: Range<u64>, value: &Bytes) {
    let proposals = stream::iter(sequences).map(|n| propose(leader, batch(n, value)));
    let mut proposals = proposals.buffered(AT_ONCE);
    while let Some(proposed) = proposals.next().await {
        proposed.expect("it leads all the while");
    }
}

/// A checksum over everything a store holds.
fn hash(store: &Store) -> u32 {
    let mut hash = 0;
    let engine = store.engine();
    engine.with_view(|scanner| {
        scanner.records(&mut |record| {
            hash = crc32c::crc32c_append(hash, record.encoded);
            true
        });
    });
    hash
}
