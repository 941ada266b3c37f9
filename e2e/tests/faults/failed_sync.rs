//! A sync fails with EIO: what it was to make durable may be gone from the page cache though a later
//! sync succeeds. The process ends and says so, and its next start holds all that was acknowledged.

use std::time::Duration;

use engram_e2e::bad_disk::BadSync;
use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_proto::etcdserverpb::DefragmentRequest;

use crate::case;

const WRITERS: usize = 8;
const VALUE_BYTES: usize = 4_000;
/// While all is well.
const WELL: Duration = Duration::from_millis(500);
/// The status of a process that ended itself because going on could lose data.
const FATAL: i32 = 134;
const END_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_failed_sync_of_the_log_ends_the_process() {
    fails("EIO at the log's sync", "*.wal");
}

#[test]
fn a_failed_sync_of_the_engine_s_tables_ends_the_process() {
    fails("EIO at a table's sync", "*.sst");
}

#[test]
fn a_failed_sync_of_the_engine_s_manifest_ends_the_process() {
    fails("EIO at the manifest's sync", "*/MANIFEST-*");
}

fn fails(name: &'static str, files: &'static str) {
    let case = case::begin(name);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let bad = BadSync::failing(scratch.path(), files);
    let mut setup = Setup::engram();
    for (name, value) in bad.environment() {
        setup = setup.environment(&name, &value);
    }
    let mut server = setup.start();
    let runtime = client::runtime();
    let address = server.address();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| runtime.spawn(write(address, writer)))
        .collect();
    std::thread::sleep(WELL);
    bad.on();
    // Has the store put on the disk what was applied.
    drop(runtime.spawn(async move {
        let mut client = Client::lazy(address);
        client.maintenance.defragment(DefragmentRequest {}).await
    }));
    let ended = server.ended_within(END_LIMIT);
    bad.off();
    let said = server.last_line();
    let acknowledged: Vec<u64> = writers
        .into_iter()
        .map(|writer| runtime.block_on(writer).expect("no panic"))
        .collect();
    let total: u64 = acknowledged.iter().sum();
    case.saw(format!("{total} writes acknowledged; {ended:?}: {said}"));
    let ended = ended.expect("a member whose sync failed goes on");
    assert_eq!(ended.code(), Some(FATAL), "{ended:?}");
    assert!(said.contains("Input/output error"), "{said}");
    assert!(total > 0, "nothing was written");
    server.start();
    runtime.block_on(holds(&server, &acknowledged));
    assert_eq!(server.etcdctl(&["put", "a", "b"]), "OK\n");
}

/// Writes its own keys, one after the other, until one is not acknowledged; how many were.
async fn write(address: std::net::SocketAddr, writer: usize) -> u64 {
    let mut client = Client::lazy(address);
    let mut number = 0;
    loop {
        let key = format!("{writer}/{number}");
        if client.put(key, vec![b'v'; VALUE_BYTES]).await.is_err() {
            return number;
        }
        number += 1;
    }
}

async fn holds(server: &Server, acknowledged: &[u64]) {
    let mut client = Client::connect(server.address()).await;
    for (writer, count) in acknowledged.iter().enumerate() {
        for number in 0..*count {
            let key = format!("{writer}/{number}");
            let found = client.get(key.clone(), 0).await.expect("it serves");
            assert_eq!(found.count, 1, "{key} of {count} is lost");
        }
    }
}
