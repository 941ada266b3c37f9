//! The leader's engine syncs its tables slowly: neither heartbeats nor readers wait for the engine, and
//! it goes on leading. Writes of its own clients wait, as long as a request may; those through other members
//! do not, and leases are renewed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engram_e2e::bad_disk::BadSync;
use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, ELECTION_TIMEOUT, LEADER_LIMIT, Plan};
use engram_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, MemberRemoveRequest, RangeRequest,
};
use tonic::codegen::tokio_stream;

use crate::calls;
use crate::case;

const DELAY: Duration = Duration::from_secs(6);
const VALUE_BYTES: usize = 1_000_000;
const WRITES: usize = 90;
const TIME: Duration = Duration::from_secs(40);
/// An engine that stands still.
const STANDS_STILL: Duration = Duration::from_secs(60);
/// What a renewal, or a write through another member, may take then.
const AWAY_MAX: Duration = Duration::from_secs(4);
/// How long an answer is awaited that may not come.
const REVOKED_ASKED: Duration = Duration::from_millis(1500);
/// See `HealthInterval` of etcd.
const IN_TOUCH: Duration = Duration::from_secs(6);

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_leader_whose_engine_stalls_goes_on_leading() {
    let case = case::begin("slow engine of the leader");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.sst", DELAY);
    let cluster = Plan::of(3).environment_of(0, slow.environment()).start();
    cluster.have_lead(0);
    let before = cluster.wait_for_leader(LEADER_LIMIT);
    let first = calls::put(&cluster, 0, "stall/first", b"there", calls::PATIENCE);
    first.expect("nothing is slow yet");
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (address, stop) = (cluster.server(0).address(), stop.clone());
        cluster.runtime().spawn(read_on(address, stop))
    };
    slow.on();
    let value = calls::incompressible(VALUE_BYTES);
    let (started, mut longest, mut failed) = (Instant::now(), Duration::ZERO, Vec::new());
    let mut acknowledged = Vec::new();
    for number in 0..WRITES {
        let began = Instant::now();
        let key = format!("stall/{number}");
        match calls::put(&cluster, 0, &key, &value, calls::PATIENCE) {
            Ok(_) => acknowledged.push(key),
            Err(status) => failed.push(status.message().to_owned()),
        }
        longest = longest.max(began.elapsed());
        if started.elapsed() > TIME {
            break;
        }
    }
    slow.off();
    stop.store(true, Ordering::Relaxed);
    let longest_read = cluster.runtime().block_on(reader).expect("no panic");
    std::thread::sleep(ELECTION_TIMEOUT);
    let after = cluster.wait_for_leader(LEADER_LIMIT);
    let terms = after.term - before.term;
    case.saw(format!(
        "{terms} elections, longest read {longest_read:.1?}, {} puts, longest {longest:.1?}, not in \
         time: {failed:?}",
        acknowledged.len()
    ));
    cluster.must(after == before, || format!("{before:?} became {after:?}"));
    cluster.must(longest_read < Duration::from_secs(1), || {
        format!("a read took {longest_read:?}")
    });
    let timed_out = |text: &String| text.starts_with("etcdserver: request timed out");
    cluster.must(failed.iter().all(timed_out), || format!("{failed:?}"));
    calls::must_take_a_write(&cluster, 0, DELAY * 3);
    for key in &acknowledged {
        let found = calls::get_local(&cluster, 0, key).expect("an answer");
        cluster.must(found.as_deref() == Some(&value), || {
            format!("{key} is lost")
        });
    }
}

/// Its clients were told by the other voter, which has applied it. The leader has it in its log, and does
/// not serve without it because it is the only voter by now.
#[test]
#[ignore = "takes long: `make faults` runs it"]
fn what_the_other_voter_acknowledged_is_read_where_it_is_left_alone() {
    let case = case::begin("slow engine of the leader, and the other voter is removed");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.sst", STANDS_STILL);
    let cluster = Plan::of(2).environment_of(0, slow.environment()).start();
    cluster.have_lead(0);
    let other = cluster.member_id(1);
    // Members are changed where all have been in touch for so long.
    std::thread::sleep(IN_TOUCH);
    slow.on();
    let began = Instant::now();
    stall(&cluster);
    let written = calls::put(&cluster, 1, "n", b"acknowledged", calls::PATIENCE);
    cluster.must(written.is_ok(), || format!("n: {written:?}"));
    let address = cluster.server(0).address();
    let removed = cluster.runtime().block_on(async {
        let mut client = Client::lazy(address);
        let remove = client
            .cluster
            .member_remove(MemberRemoveRequest { id: other });
        tokio::time::timeout(calls::PATIENCE, remove).await
    });
    let mut reads = Vec::new();
    for _ in 0..3 {
        let read = cluster.runtime().block_on(async {
            let mut client = Client::lazy(address);
            tokio::time::timeout(Duration::from_secs(2), client.get("n", 0)).await
        });
        // Whoever gets no answer has not read anything wrong.
        let answer = read.ok().and_then(Result::ok);
        reads.push(answer.map(|answer| answer.count));
    }
    let removed = removed.map(|answer| answer.map(drop).map_err(|status| status.code()));
    case.saw(format!(
        "removal {removed:?}; found by reads at the voter that is left: {reads:?}, {:.1?} after its engine \
         was slowed",
        began.elapsed()
    ));
    cluster.must(!reads.contains(&Some(0)), || format!("stale: {reads:?}"));
}

/// Writes through member 1 until member 0, whose engine stands still, applies nothing any more.
fn stall(cluster: &Cluster) {
    let value = calls::incompressible(VALUE_BYTES);
    let is_behind = (0..WRITES * 2).any(|number| {
        let key = format!("stall/{number}");
        let written = calls::put(cluster, 1, &key, &value, calls::PATIENCE);
        cluster.must(written.is_ok(), || format!("{key}: {written:?}"));
        std::thread::sleep(Duration::from_millis(100));
        calls::get_local(cluster, 0, &key).is_ok_and(|found| found.is_none())
    });
    cluster.must(is_behind, || "its engine stalls nothing".to_owned());
}

/// Nobody loses what hangs on a lease, and nobody's write waits, because one member's engine stands still.
#[test]
fn leases_and_the_others_writes_go_on_while_the_leaders_engine_stands_still() {
    let case = case::begin("engine of the leader that stands still, leases and writes");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.sst", STANDS_STILL);
    let cluster = Plan::of(3).environment_of(0, slow.environment()).start();
    cluster.have_lead(0);
    let before = cluster.wait_for_leader(LEADER_LIMIT);
    let address = cluster.server(1).address();
    let (id, ttl) = (77, 30);
    let granted = cluster.runtime().block_on(async {
        let grant = LeaseGrantRequest { id, ttl };
        Client::lazy(address).lease.lease_grant(grant).await
    });
    granted.expect("nothing is slow yet");
    let renew = || {
        cluster.runtime().block_on(async {
            let asks = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
            let mut client = Client::lazy(address);
            let mut answers = client.lease.lease_keep_alive(asks).await?.into_inner();
            answers.message().await
        })
    };
    slow.on();
    stall(&cluster);
    let (mut longest_put, mut longest_renewal) = (Duration::ZERO, Duration::ZERO);
    for number in 0..10 {
        let began = Instant::now();
        let written = calls::put(&cluster, 2, &format!("after/{number}"), b"v", AWAY_MAX);
        cluster.must(written.is_ok(), || format!("{number}: {written:?}"));
        longest_put = longest_put.max(began.elapsed());
        let began = Instant::now();
        let renewed = renew();
        let lives = matches!(&renewed, Ok(Some(answer)) if answer.ttl == ttl);
        cluster.must(lives, || format!("{number}: {renewed:?}"));
        longest_renewal = longest_renewal.max(began.elapsed());
    }
    let after = cluster.wait_for_leader(LEADER_LIMIT);
    case.saw(format!(
        "longest put through another member {longest_put:.1?}, longest renewal {longest_renewal:.1?}"
    ));
    cluster.must(after == before, || format!("{before:?} became {after:?}"));
    cluster.must(longest_renewal < AWAY_MAX, || {
        format!("a renewal took {longest_renewal:?}")
    });
    // The others have let it go, and said so; the leader has it in its log alone.
    let revoked = cluster.runtime().block_on(async {
        let mut client = Client::lazy(address);
        let revoke = client.lease.lease_revoke(LeaseRevokeRequest { id });
        tokio::time::timeout(AWAY_MAX, revoke).await
    });
    let is_revoked = matches!(revoked, Ok(Ok(_)));
    cluster.must(is_revoked, || format!("not revoked: {revoked:?}"));
    for member in 0..3 {
        let renewed = cluster.runtime().block_on(async {
            let asks = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
            let mut client = Client::lazy(cluster.server(member).address());
            let asked = async {
                let mut answers = client.lease.lease_keep_alive(asks).await?.into_inner();
                answers.message().await
            };
            tokio::time::timeout(REVOKED_ASKED, asked).await
        });
        let lives = matches!(&renewed, Ok(Ok(Some(answer))) if answer.ttl > 0);
        cluster.must(!lives, || format!("member {member} renews what is revoked"));
    }
}

/// Reads what the member has, again and again; the longest time that took.
async fn read_on(address: SocketAddr, stop: Arc<AtomicBool>) -> Duration {
    let mut client = Client::lazy(address);
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let request = RangeRequest {
            key: b"stall/first".to_vec().into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let began = Instant::now();
        let found = client.kv.range(request).await.expect("an answer");
        longest = longest.max(began.elapsed());
        assert_eq!(found.into_inner().count, 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    longest
}
