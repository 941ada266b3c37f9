//! The quota is for live data: what the engine keeps of the past is reclaimed before it speaks, and
//! freed space can be written to without `defrag`.

use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_proto::etcdserverpb::CompactionRequest;

use crate::case;
use crate::ci_or_full;

const KEYS: usize = 100;
const VALUE_BYTES: usize = 100_000;
const COMPACT_EVERY: usize = 200;
/// Engram's live data is 10 MB; what is still kept of history up to 30.
const OVERWRITE_QUOTA: u64 = 64 << 20;
/// What the files may take at any time: garbage that a burst left is reclaimed within a second.
const OUTGROWN: u64 = 3 * OVERWRITE_QUOTA;
const SMALL_QUOTA: u64 = 16 << 20;
const BURST_KEYS: usize = 1_500;
const BURST_ROUNDS: usize = 5;
const IDLE_MAX: u64 = 256 << 20;
const RECLAIM_LIMIT: Duration = Duration::from_secs(120);
const SPACE_AGAIN_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn steady_overwriting_never_meets_the_quota() {
    let case = case::begin("quota under steady overwriting");
    let server = Setup::engram()
        .flag(format!("--quota-backend-bytes={OVERWRITE_QUOTA}"))
        .start();
    let writes = ci_or_full(1_500, 20_000);
    let outcome = client::runtime().block_on(overwrite(&server, writes));
    let (at_end, in_use) = sizes(&server);
    // Writes come first: what they outran is reclaimed once they rest.
    let rested = Instant::now();
    let mut size = at_end;
    while size >= OVERWRITE_QUOTA && rested.elapsed() < SPACE_AGAIN_LIMIT {
        std::thread::sleep(Duration::from_millis(250));
        size = sizes(&server).0;
    }
    let sizes = format!(
        "size {at_end}, in use {in_use}; after {:.1?} {size}",
        rested.elapsed()
    );
    case.saw(match &outcome {
        Ok(()) => format!("{writes} puts, {sizes}"),
        Err((number, said)) => format!("put {number}: {said}; {sizes}"),
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(server.etcdctl(&["alarm", "list"]), "");
    assert!(at_end < OUTGROWN, "{at_end} bytes");
    assert!(size < OVERWRITE_QUOTA, "{size} bytes");
}

/// The bytes of the store's files, and of what is in use.
fn sizes(server: &Server) -> (u64, u64) {
    let status = &server.etcdctl_json(&["endpoint", "status"])[0]["Status"];
    let bytes = |name: &str| status[name].as_u64().expect("a size");
    (bytes("dbSize"), bytes("dbSizeInUse"))
}

async fn overwrite(server: &Server, writes: usize) -> Result<(), (usize, String)> {
    let mut client = Client::connect(server.address()).await;
    let mut random = Random::new(3);
    for number in 1..=writes {
        let key = format!("over/{}", number % KEYS);
        let written = client.put(key, random.bytes(VALUE_BYTES)).await;
        let revision = written.map_err(|status| (number, status.to_string()))?;
        if number % COMPACT_EVERY == 0 {
            let request = CompactionRequest {
                revision,
                physical: false,
            };
            let compacted = client.kv.compact(request).await;
            compacted.map_err(|status| (number, status.to_string()))?;
        }
    }
    Ok(())
}

/// Idle space above half of the data and 256 MiB goes by itself, with nobody near the quota.
#[test]
#[ignore = "takes long: `make faults` runs it"]
fn what_a_burst_left_is_reclaimed_without_a_defragmentation() {
    let case = case::begin("idle space after a burst that was compacted");
    let server = Setup::engram().start();
    client::runtime().block_on(burst(&server));
    let (before, in_use) = sizes(&server);
    let bound = in_use + (in_use / 2).max(IDLE_MAX);
    let compacted = Instant::now();
    let mut size = before;
    while size > bound && compacted.elapsed() < RECLAIM_LIMIT {
        std::thread::sleep(Duration::from_millis(500));
        size = sizes(&server).0;
    }
    case.saw(format!(
        "size {before}, in use {in_use}; {:.1?} later {size}, bound {bound}",
        compacted.elapsed()
    ));
    assert!(before > bound, "the burst left too little: {before} bytes");
    assert!(size <= bound, "{size} bytes stay");
}

/// Overwrites [`BURST_KEYS`] values a few times, and compacts.
async fn burst(server: &Server) {
    let mut client = Client::connect(server.address()).await;
    let mut random = Random::new(5);
    let mut revision = 0;
    for number in 0..BURST_KEYS * BURST_ROUNDS {
        let key = format!("burst/{}", number % BURST_KEYS);
        let written = client.put(key, random.bytes(VALUE_BYTES)).await;
        revision = written.expect("there is room");
    }
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    client.kv.compact(request).await.expect("it compacts");
}

#[test]
fn after_delete_compact_and_disarm_one_can_write_without_defrag() {
    let case = case::begin("NOSPACE, delete, compact, disarm, no defrag");
    let server = Setup::engram()
        .flag(format!("--quota-backend-bytes={SMALL_QUOTA}"))
        .start();
    let written = client::runtime().block_on(fill(&server));
    server.etcdctl(&["del", "--prefix", "big/"]);
    let revision = server.etcdctl_json(&["get", "x"])["header"]["revision"].to_string();
    server.etcdctl(&["compact", &revision, "--physical"]);
    let freed = Instant::now();
    let mut taken = false;
    while !taken && freed.elapsed() < SPACE_AGAIN_LIMIT {
        server.etcdctl(&["alarm", "disarm"]);
        taken = server.try_etcdctl(&["put", "a", "1"]).status.success();
        std::thread::sleep(Duration::from_millis(250));
    }
    case.saw(match taken {
        true => format!(
            "{written} values fitted; a put goes through after {:.1?}",
            freed.elapsed()
        ),
        false => format!("{written} values fitted; still no space after {SPACE_AGAIN_LIMIT:?}"),
    });
    assert!(taken, "no write after the space was freed");
    // And not one only.
    let again = client::runtime().block_on(fill(&server));
    assert!(
        again * 2 > written,
        "{again} values fitted afterwards, {written} before"
    );
}

/// Writes until the quota speaks; returns how many values fitted.
async fn fill(server: &Server) -> usize {
    let mut client = Client::connect(server.address()).await;
    let mut random = Random::new(5);
    for number in 0..1_000 {
        let written = client
            .put(format!("big/{number}"), random.bytes(200_000))
            .await;
        if let Err(status) = written {
            assert_eq!(
                status.message(),
                "etcdserver: mvcc: database space exceeded"
            );
            return number;
        }
    }
    panic!("no quota spoke");
}
