//! How much memory a backup and a restore take: as much for many keys as for few.

use std::process::Stdio;
use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{process, tools};
use engram_proto::etcdserverpb::{
    CompactionRequest, PutRequest, RequestOp, TxnRequest, request_op,
};
use tempfile::TempDir;

use crate::content::{hash, restored};

/// Keys: 77 MB of values, and an index of 140 MB for whoever makes one.
const KEYS: usize = 300_000;
const VALUE_BYTES: usize = 256;
/// Keys of a transaction.
const BATCH: usize = 100;
/// Memory that is no file's.
const MEMORY_MAX: u64 = 128 << 20;

/// Puts every key, and every third again after a compaction. Returns the revision.
fn fill(server: &Server) -> i64 {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        put_all(&mut client, 1).await;
        let revision = put_all(&mut client, 7).await;
        let compaction = CompactionRequest {
            revision,
            physical: true,
        };
        client.kv.compact(compaction).await.expect("a compaction");
        put_all(&mut client, 3).await
    })
}

async fn put_all(client: &mut Client, step: usize) -> i64 {
    let mut random = Random::new(step as u64);
    let keys: Vec<usize> = (0..KEYS).step_by(step).collect();
    let mut revision = 0;
    for batch in keys.chunks(BATCH) {
        let success = batch.iter().map(|key| {
            let put = PutRequest {
                key: format!("a key with a name of some length/{key:08}").into(),
                value: random.bytes(VALUE_BYTES).into(),
                ..PutRequest::default()
            };
            RequestOp {
                request: Some(request_op::Request::RequestPut(put)),
            }
        });
        let txn = TxnRequest {
            success: success.collect(),
            ..TxnRequest::default()
        };
        let answer = client.kv.txn(txn).await.expect("a transaction");
        revision = client::revision_of(answer.into_inner().header.as_ref());
    }
    revision
}

/// Runs engramctl; returns the most memory it was seen to have that is no file's.
fn memory_of(arguments: &[&str]) -> u64 {
    let mut command = tools::command(&tools::engramctl());
    let command = command.args(arguments).stdout(Stdio::null());
    let mut child = command.spawn().expect("engramctl");
    let mut most = 0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        let seen = process::usage(child.id()).unwrap_or_default();
        most = most.max(seen.anonymous);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{arguments:?}: {status}");
    most
}

#[test]
fn a_store_of_many_keys_is_backed_up_and_restored_in_little_memory() {
    let server = Setup::engram().start();
    let revision = fill(&server);
    let directory = TempDir::with_prefix("engram-backups-").expect("a temporary directory");
    let store = format!("--store=file://{}", directory.path().display());
    let endpoints = format!("--endpoints={}", server.address());
    let create = [&endpoints, "backup", "create", &store, "--cluster=demo"];
    let create = memory_of(&create);
    let mut restore = 0;
    let other = restored(|flags| {
        let arguments = [&["restore", &store, "--cluster=demo"][..], flags].concat();
        restore = memory_of(&arguments);
    });
    println!("backup {} MiB, restore {} MiB", create >> 20, restore >> 20);
    assert_eq!(hash(&server, revision), hash(&other, revision));
    assert!(create > 0 && create <= MEMORY_MAX, "backup: {create} bytes");
    assert!(
        restore > 0 && restore <= MEMORY_MAX,
        "restore: {restore} bytes"
    );
}
