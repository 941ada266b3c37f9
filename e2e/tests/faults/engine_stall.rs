//! The leader's engine syncs its tables slowly: neither heartbeats nor readers wait for the engine, and
//! it goes on leading. Writes wait, as long as a request may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engram_e2e::bad_disk::BadSync;
use engram_e2e::client::Client;
use engram_e2e::cluster::{ELECTION_TIMEOUT, LEADER_LIMIT, Plan};
use engram_proto::etcdserverpb::RangeRequest;

use crate::calls;
use crate::case;

const DELAY: Duration = Duration::from_secs(6);
const VALUE_BYTES: usize = 1_000_000;
const WRITES: usize = 90;
const TIME: Duration = Duration::from_secs(40);

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
