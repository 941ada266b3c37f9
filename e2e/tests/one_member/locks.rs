//! Locks and elections as services, beside etcdctl's own and a real etcd's answers.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup, send_signal};
use engram_e2e::turn;
use engram_proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest,
};
use engram_proto::v3electionpb::election_client::ElectionClient;
use engram_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use engram_proto::v3lockpb::lock_client::LockClient;
use engram_proto::v3lockpb::{LockRequest, UnlockRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How long what should happen may take.
const SOON: Duration = Duration::from_secs(10);
const SIGINT: i32 = 2;

/// One connection's lock and election calls.
#[derive(Clone)]
struct Caller {
    client: Client,
    lock: LockClient<Channel>,
    election: ElectionClient<Channel>,
}

impl Caller {
    async fn of(server: &Server) -> Caller {
        let client = Client::connect(server.address()).await;
        let lock = LockClient::new(client.channel.clone());
        let election = ElectionClient::new(client.channel.clone());
        Caller {
            client,
            lock,
            election,
        }
    }

    async fn lease(&mut self, id: i64, ttl: i64) -> i64 {
        let grant = LeaseGrantRequest { ttl, id };
        let granted = self.client.lease.lease_grant(grant).await;
        granted.expect("a lease").into_inner().id
    }

    async fn revoke(&mut self, id: i64) {
        let revoked = self.client.lease.lease_revoke(LeaseRevokeRequest { id });
        revoked.await.expect("the lease is there");
    }

    async fn lock(&mut self, name: &str, lease: i64) -> Result<Vec<u8>, Status> {
        let name = name.to_owned().into();
        let locked = self.lock.lock(LockRequest { name, lease }).await?;
        Ok(locked.into_inner().key.to_vec())
    }

    async fn unlock(&mut self, key: &[u8]) -> Result<(), Status> {
        let key = key.to_vec().into();
        self.lock.unlock(UnlockRequest { key }).await.map(drop)
    }

    async fn campaign(
        &mut self,
        name: &str,
        value: &str,
        lease: i64,
    ) -> Result<CampaignResponse, Status> {
        let campaign = CampaignRequest {
            name: name.to_owned().into(),
            lease,
            value: value.to_owned().into(),
        };
        Ok(self.election.campaign(campaign).await?.into_inner())
    }

    async fn proclaim(&mut self, leader: Option<LeaderKey>, value: &str) -> Result<(), Status> {
        let value = value.to_owned().into();
        let proclaim = ProclaimRequest { leader, value };
        self.election.proclaim(proclaim).await.map(drop)
    }

    async fn resign(&mut self, leader: Option<LeaderKey>) -> Result<(), Status> {
        self.election
            .resign(ResignRequest { leader })
            .await
            .map(drop)
    }

    async fn leader(&mut self, name: &str) -> Result<String, Status> {
        let name = name.to_owned().into();
        let found = self.election.leader(LeaderRequest { name }).await?;
        let kv = found.into_inner().kv.expect("a leader's key");
        Ok(String::from_utf8_lossy(&kv.value).into_owned())
    }

    /// The keys of a name.
    async fn keys(&mut self, name: &str) -> Vec<String> {
        let range = RangeRequest {
            key: format!("{name}/").into(),
            range_end: format!("{name}0").into(),
            ..RangeRequest::default()
        };
        let found = self.client.kv.range(range).await.expect("a read");
        let kvs = found.into_inner().kvs.into_iter();
        kvs.map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect()
    }

    async fn until_keys(&mut self, name: &str, count: usize) {
        let began = Instant::now();
        while self.keys(name).await.len() != count {
            assert!(began.elapsed() < SOON, "{:?}", self.keys(name).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn lock_and_election_answer_as_a_real_etcd_does() {
    let _turn = turn::take("locks beside etcd");
    let (ours, theirs) = (Setup::engram().start(), Setup::etcd().start());
    let runtime = client::runtime();
    let ours = runtime.block_on(answers(&ours));
    let theirs = runtime.block_on(answers(&theirs));
    assert!(ours.len() > 25, "{} answers", ours.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

/// What a server answers to calls of every kind, as lines.
async fn answers(server: &Server) -> Vec<String> {
    let mut caller = Caller::of(server).await;
    let mut said = Vec::new();
    let mut say = |what: &str, answer: String| said.push(format!("{what}: {answer}"));
    caller.lease(0x1f, 60).await;
    caller.lease(0x2f, 60).await;
    let locked = caller.lock("l", 0x1f).await;
    say("lock", told(locked));
    say("lock again", told(caller.lock("l", 0x1f).await));
    say("lock without name", told(caller.lock("", 0x1f).await));
    say("lock of no lease", told(caller.lock("l", 0x77).await));
    say("lock of a negative lease", told(caller.lock("l", -7).await));
    let large = "n".repeat(2 << 20);
    say("lock of a long name", told(caller.lock(&large, 0x1f).await));
    say("keys", format!("{:?}", caller.keys("l").await));
    say("unlock", told(caller.unlock(b"l/1f").await));
    say("unlock again", told(caller.unlock(b"l/1f").await));
    say("unlock nothing", told(caller.unlock(b"").await));
    let own = caller.lock("own", 0).await.expect("a lease is granted");
    let lease = std::str::from_utf8(&own[4..]).expect("hexadecimal");
    let id = i64::from_str_radix(lease, 16).expect("hexadecimal");
    let asked = LeaseTimeToLiveRequest { id, keys: true };
    let lives = caller.client.lease.lease_time_to_live(asked).await;
    let lives = lives.expect("it is there").into_inner();
    say(
        "a lease of the server's",
        format!("{} s, {} keys", lives.granted_ttl, lives.keys.len()),
    );

    say("no leader", told(caller.leader("e").await));
    say("leader of no name", told(caller.leader("").await));
    let campaign = caller.campaign("e", "x", 0x77).await;
    say("campaign of no lease", told(campaign.map(|_| ())));
    let won = caller.campaign("e", "one", 0x1f).await;
    let won = won.expect("it is alone").leader.expect("a leader's key");
    say("won", format!("{:?} {:?} {}", won.name, won.key, won.lease));
    say("leader", told(caller.leader("e").await));
    let again = caller.campaign("e", "two", 0x1f).await;
    let again = again.expect("it leads").leader.expect("a leader's key");
    say("campaign again", format!("{}", again.rev == won.rev));
    say("leader with another value", told(caller.leader("e").await));
    say(
        "proclaim",
        told(caller.proclaim(Some(won.clone()), "three").await),
    );
    say("leader after it", told(caller.leader("e").await));
    say("proclaim of nobody", told(caller.proclaim(None, "x").await));
    let wrong = |change: fn(&mut LeaderKey)| {
        let mut key = won.clone();
        change(&mut key);
        Some(key)
    };
    let old = wrong(|key| key.rev -= 1);
    say(
        "proclaim of another",
        told(caller.proclaim(old.clone(), "x").await),
    );
    let keyless = wrong(|key| key.key = Vec::new().into());
    say(
        "proclaim without key",
        told(caller.proclaim(keyless.clone(), "x").await),
    );
    let leaseless = wrong(|key| key.lease = 0x77);
    say(
        "proclaim of no lease",
        told(caller.proclaim(leaseless, "x").await),
    );
    say("resign of nobody", told(caller.resign(None).await));
    say("resign of another", told(caller.resign(old).await));
    say("resign without key", told(caller.resign(keyless).await));
    say("still leads", told(caller.leader("e").await));
    say("resign", told(caller.resign(Some(won.clone())).await));
    say("resign again", told(caller.resign(Some(won.clone())).await));
    say("leader after it", told(caller.leader("e").await));
    say(
        "proclaim after it",
        told(caller.proclaim(Some(won), "x").await),
    );
    say(
        "session lost while waiting",
        lost_session(&mut caller).await,
    );
    said
}

async fn lost_session(caller: &mut Caller) -> String {
    let held = caller.lock("s", 0x1f).await.expect("it is free");
    let mut waiter = caller.clone();
    let waiting = tokio::spawn(async move { waiter.lock("s", 0x2f).await });
    caller.until_keys("s", 2).await;
    caller.revoke(0x2f).await;
    caller.until_keys("s", 1).await;
    caller.unlock(&held).await.expect("it is held");
    told(waiting.await.expect("the call ends"))
}

fn told<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(status) => format!("{:?} {:?}", status.code(), status.message()),
    }
}

/// An `etcdctl` that runs until it is told to end.
struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(server: &Server, arguments: &[&str]) -> Running {
        let mut command = server.etcdctl_command();
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl starts");
        let output: ChildStdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Running { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(SOON).expect("etcdctl says a line")
    }

    fn says_nothing(&self) {
        let line = self.lines.recv_timeout(Duration::from_millis(500));
        assert!(line.is_err(), "{line:?}");
    }

    fn end(mut self) {
        send_signal(self.child.id(), SIGINT);
        self.child.wait().expect("our own child can be waited for");
    }
}

#[test]
fn etcdctl_and_the_services_see_each_others_locks_and_elections() {
    let _turn = turn::take("locks beside etcdctl");
    let server = Setup::engram().start();
    let runtime = client::runtime();
    let mut caller = runtime.block_on(Caller::of(&server));

    let held = runtime.block_on(caller.lock("l", 0)).expect("it is free");
    let etcdctl = Running::start(&server, &["lock", "l"]);
    runtime.block_on(caller.until_keys("l", 2));
    etcdctl.says_nothing();
    runtime.block_on(caller.unlock(&held)).expect("it is held");
    assert!(etcdctl.line().starts_with("l/"));
    let mut waiter = caller.clone();
    let waiting = runtime.spawn(async move { waiter.lock("l", 0).await });
    runtime.block_on(caller.until_keys("l", 2));
    assert!(!waiting.is_finished(), "etcdctl holds it");
    etcdctl.end();
    let locked = runtime.block_on(async { tokio::time::timeout(SOON, waiting).await });
    locked.expect("soon").expect("it ends").expect("it is free");

    let etcdctl = Running::start(&server, &["elect", "e", "first"]);
    assert!(etcdctl.line().starts_with("e/"));
    assert_eq!(etcdctl.line(), "first");
    assert_eq!(
        runtime.block_on(caller.leader("e")).expect("etcdctl leads"),
        "first"
    );
    let mut waiter = caller.clone();
    let waiting = runtime.spawn(async move { waiter.campaign("e", "second", 0).await });
    runtime.block_on(caller.until_keys("e", 2));
    let listens = Running::start(&server, &["elect", "-l", "e"]);
    listens.line();
    assert_eq!(listens.line(), "first");
    assert!(!waiting.is_finished(), "etcdctl leads");
    etcdctl.end();
    let won = runtime.block_on(async { tokio::time::timeout(SOON, waiting).await });
    won.expect("soon").expect("it ends").expect("nobody leads");
    listens.line();
    assert_eq!(listens.line(), "second");
    listens.end();
}

#[test]
fn twenty_clients_hold_a_lock_one_at_a_time_and_in_order() {
    let _turn = turn::take("twenty lockers");
    let server = Setup::engram().start();
    client::runtime().block_on(exclude_each_other(&server));
}

async fn exclude_each_other(server: &Server) {
    const CLIENTS: usize = 20;
    let inside = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut first = Caller::of(server).await;
    // Its lease ends, nobody unlocks.
    let lease = first.lease(0, 2).await;
    first.lock("x", lease).await.expect("it is free");
    let mut waiting = Vec::new();
    for number in 0..CLIENTS {
        let (inside, order) = (inside.clone(), order.clone());
        let mut caller = Caller::of(server).await;
        let lease = caller.lease(0, 60).await;
        waiting.push(tokio::spawn(async move {
            let key = caller.lock("x", lease).await.expect("its turn comes");
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
            order.lock().expect("nobody panicked").push(number);
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "alone");
            caller.unlock(&key).await.expect("it is held");
        }));
        first.until_keys("x", number + 2).await;
    }
    for task in waiting {
        task.await.expect("no client failed");
    }
    let order = order.lock().expect("nobody panicked");
    assert_eq!(
        *order,
        (0..CLIENTS).collect::<Vec<_>>(),
        "first come, first served"
    );
}

#[test]
fn a_waiter_whose_caller_goes_away_leaves_the_queue() {
    let _turn = turn::take("lockers that go");
    let server = Setup::engram().start();
    client::runtime().block_on(go_away(&server));
}

async fn go_away(server: &Server) {
    let mut caller = Caller::of(server).await;
    let held = caller.lock("x", 0).await.expect("it is free");
    // One that is cancelled, one whose connection breaks, one whose time is over.
    let mut waiter = caller.clone();
    let cancelled = tokio::spawn(async move { waiter.lock("x", 0).await });
    let mut stranger = Caller::of(server).await;
    let gone = tokio::spawn(async move { stranger.lock("x", 0).await });
    let mut waiter = caller.clone();
    let late = tokio::spawn(async move {
        let name = "x".to_owned().into();
        let mut request = tonic::Request::new(LockRequest { name, lease: 0 });
        request.set_timeout(Duration::from_secs(2));
        waiter.lock.lock(request).await
    });
    caller.until_keys("x", 4).await;
    cancelled.abort();
    caller.until_keys("x", 3).await;
    gone.abort();
    let refused = late.await.expect("it ends").expect_err("it is held");
    assert!(
        matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{refused}"
    );
    caller.until_keys("x", 1).await;
    caller.campaign("y", "a", 0).await.expect("nobody leads");
    let mut waiter = caller.clone();
    let campaign = tokio::spawn(async move { waiter.campaign("y", "b", 0).await });
    caller.until_keys("y", 2).await;
    campaign.abort();
    caller.until_keys("y", 1).await;
    assert_eq!(caller.leader("y").await.expect("it leads still"), "a");
    caller.unlock(&held).await.expect("it is held");
    caller.lock("x", 0).await.expect("it is free");
}

#[test]
fn an_observer_sees_every_leader_though_what_was_is_compacted() {
    let _turn = turn::take("observers");
    let server = Setup::engram().start();
    client::runtime().block_on(observe(&server));
}

async fn observe(server: &Server) {
    let mut caller = Caller::of(server).await;
    let name = || LeaderRequest { name: "o".into() };
    // It waits since before anybody leads, at a revision that is compacted meanwhile.
    let mut seen = caller
        .election
        .observe(name())
        .await
        .expect("a stream")
        .into_inner();
    compact(&mut caller).await;
    let first = caller.campaign("o", "v0", 0).await.expect("nobody leads");
    let header = first.header.expect("a header");
    let told = seen.message().await.expect("it goes on").expect("a leader");
    assert_eq!(told.kv.expect("a key").value, "v0");
    assert_eq!(told.header.expect("a header").revision, header.revision);
    for number in 1..50 {
        let value = format!("v{number}");
        caller
            .proclaim(first.leader.clone(), &value)
            .await
            .expect("it leads");
        if number % 10 == 0 {
            compact(&mut caller).await;
        }
    }
    for number in 1..50 {
        let told = seen.message().await.expect("it goes on").expect("a leader");
        assert_eq!(told.kv.expect("a key").value, format!("v{number}"));
    }
    let mut late = caller
        .election
        .observe(name())
        .await
        .expect("a stream")
        .into_inner();
    let told = late.message().await.expect("it goes on").expect("a leader");
    assert_eq!(told.kv.expect("a key").value, "v49");
    caller.resign(first.leader).await.expect("it leads");
    compact(&mut caller).await;
    caller.campaign("o", "next", 0).await.expect("nobody leads");
    for stream in [&mut seen, &mut late] {
        let told = stream
            .message()
            .await
            .expect("it goes on")
            .expect("a leader");
        assert_eq!(told.kv.expect("a key").value, "next");
    }
}

/// Compacts everything up to now.
async fn compact(caller: &mut Caller) {
    let revision = caller.client.put("filler", "x").await.expect("a write");
    let compaction = CompactionRequest {
        revision,
        physical: true,
    };
    let compacted = caller.client.kv.compact(compaction).await;
    compacted.expect("nothing compacted that before");
}
