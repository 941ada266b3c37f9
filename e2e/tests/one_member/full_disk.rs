//! Full: first the quota, which is meant to come first, then the disk itself.

use std::fs;
use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::disk::SmallFileSystem;
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use tonic::{Code, Status};

const QUOTA: u64 = 24 << 20;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// Room for the log's first two segments of 64 MiB, some data, and what is removed later.
const DISK_BYTES: u64 = 256 << 20;
const FILLER_BYTES: usize = 96 << 20;
const VALUE_BYTES: usize = 256 << 10;
/// Puts over 100 keys of 100 kB: nearly five times the quota.
const OVERWRITES: usize = 3_000;
/// More values than the disk has room for.
const WRITES_MAX: usize = 2_000;
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_quota_stops_writes_that_add_and_nothing_else_until_space_is_freed() {
    let _turn = turn::take("quota");
    let server = Setup::engram()
        .flag(format!("--quota-backend-bytes={QUOTA}"))
        .start();
    let runtime = client::runtime();
    let (written, refusal) = runtime.block_on(fill(&server));
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert_eq!(refusal.message(), NO_SPACE);
    assert!(written > 10, "only {written} values fitted into the quota");

    assert!(server.etcdctl(&["alarm", "list"]).contains("alarm:NOSPACE"));
    let status = &server.etcdctl_json(&["endpoint", "status"])[0]["Status"];
    let errors = status["errors"].to_string();
    assert!(errors.contains("NOSPACE"), "{status}");
    let put = server.try_etcdctl(&["put", "small", "value"]);
    assert!(put.stderr.contains(NO_SPACE), "{}", put.text());
    let grant = server.try_etcdctl(&["lease", "grant", "60"]);
    assert!(grant.stderr.contains(NO_SPACE), "{}", grant.text());
    assert_eq!(runtime.block_on(count_keys(&server)), written);

    server.etcdctl(&["del", "fill/", "--prefix"]);
    let revision = server.etcdctl_json(&["get", "any"])["header"]["revision"].to_string();
    server.etcdctl(&["compact", &revision, "--physical"]);
    server.etcdctl(&["defrag"]);
    assert!(
        server
            .etcdctl(&["alarm", "disarm"])
            .contains("alarm:NOSPACE")
    );
    assert_eq!(server.etcdctl(&["put", "small", "value"]), "OK\n");
    assert_eq!(server.etcdctl(&["alarm", "list"]), "");
    let (again, _) = runtime.block_on(fill(&server));
    assert!(
        again * 2 > written,
        "{again} values fitted after the space was freed, {written} before"
    );
}

/// What etcd does with 30 MB: garbage is reclaimed before the quota speaks.
#[test]
fn keys_that_are_overwritten_and_compacted_never_reach_the_quota() {
    let _turn = turn::take("quota");
    let mut server = Setup::engram()
        .flag("--quota-backend-bytes=67108864".to_owned())
        .start();
    let runtime = client::runtime();
    let mut random = Random::new(11);
    let mut client = runtime.block_on(Client::connect(server.address()));
    for put in 1..=OVERWRITES {
        let key = format!("key/{:03}", put % 100);
        let written = runtime.block_on(client.put(key, random.bytes(100_000)));
        let written = written.unwrap_or_else(|status| panic!("put {put}: {status}"));
        if put % 200 == 0 {
            server.etcdctl(&["compact", &written.to_string()]);
        }
    }
    assert_eq!(server.etcdctl(&["alarm", "list"]), "");
    server.kill();
}

#[test]
fn a_full_disk_loses_nothing_and_is_served_again_after_space_is_freed() {
    let _turn = turn::take("full disk");
    let mut server = Setup::engram().prepare();
    let mount_point = server.scratch().join("disk");
    fs::create_dir(&mount_point).expect("creating a directory");
    let disk = SmallFileSystem::mount(&mount_point, DISK_BYTES);
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; FILLER_BYTES]).expect("writing the filler");
    let data_dir = disk.path().join("data");
    server.add_flag(format!("--data-dir={}", data_dir.display()));
    server.start();

    let runtime = client::runtime();
    let (written, failure) = runtime.block_on(fill(&server));
    // A server that ends does so at once; the client may have been told before.
    let ended = server.ended_within(Duration::from_secs(2));
    let said = server.output();
    println!("full disk: {written} writes, then {failure:?}; the server: {ended:?}");
    assert!(!said.contains("panicked"), "{said}");
    match ended {
        None => assert_eq!(failure.code(), Code::ResourceExhausted, "{failure}\n{said}"),
        Some(_) => {
            let text = said.to_lowercase();
            let clear = ["no space left", "disk is full", "out of space"];
            assert!(
                clear.iter().any(|words| text.contains(words)),
                "no clear message:\n{said}"
            );
        }
    }

    fs::remove_file(&filler).expect("freeing space");
    if ended.is_some() {
        server.start();
    }
    serves_with_all(&server, written);
    if ended.is_none() {
        server.kill();
        server.start();
        serves_with_all(&server, written);
    }
    server.kill();
}

/// Waits until the server takes writes, then looks for everything that was acknowledged.
fn serves_with_all(server: &Server, written: usize) {
    let deadline = Instant::now() + RECOVERY_LIMIT;
    loop {
        server.etcdctl(&["alarm", "disarm"]);
        let put = server.try_etcdctl(&["put", "small", "value"]);
        if put.status.success() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "no write {RECOVERY_LIMIT:?} after space was freed: {}\n{}",
            put.text(),
            server.last_words()
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    let found = client::runtime().block_on(count_keys(server));
    // The write that failed may have happened.
    assert!(
        (written..=written + 1).contains(&found),
        "{written} were written, {found} are there"
    );
}

/// Writes values that no compression shortens until one is refused. Returns how many were taken,
/// and the refusal.
async fn fill(server: &Server) -> (usize, Status) {
    let mut client = Client::connect(server.address()).await;
    let mut random = Random::new(7);
    for index in 0..WRITES_MAX {
        let written = client
            .put(format!("fill/{index:05}"), random.bytes(VALUE_BYTES))
            .await;
        if let Err(status) = written {
            return (index, status);
        }
    }
    panic!("{WRITES_MAX} values of {VALUE_BYTES} bytes were taken: nothing is full");
}

/// Counts the keys of [`fill`] and checks their values.
async fn count_keys(server: &Server) -> usize {
    let mut client = Client::connect(server.address()).await;
    let mut random = Random::new(7);
    for index in 0..WRITES_MAX {
        let read = client
            .get(format!("fill/{index:05}"), 0)
            .await
            .expect("a served read");
        let Some(kv) = read.kvs.first() else {
            return index;
        };
        assert!(
            kv.value == random.bytes(VALUE_BYTES),
            "the value of key {index} changed"
        );
    }
    WRITES_MAX
}
