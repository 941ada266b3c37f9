//! What a cluster holds, as clients see it.

use std::time::Duration;

use engram_e2e::client::{self, Client, revision_of};
use engram_e2e::kind::{Declared, wait_for};
use engram_e2e::leased;
use engram_proto::etcdserverpb::HashKvRequest;
use engram_proto::mvccpb::KeyValue;
use serde_json::Value;

use crate::lab::LIMIT;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// Keys that are written in each round, and rounds.
const KEYS: usize = 60;
const ROUNDS: usize = 3;

/// A client of some member, by the client Service.
pub async fn client_of(demo: &Declared) -> Client {
    let addresses = demo.node_ports();
    demo.access().reach(addresses[0], CALL_LIMIT).await
}

/// Keys that are overwritten, deleted and made again, and one with a lease.
pub fn fill(demo: &Declared) {
    client::runtime().block_on(async {
        let mut client = client_of(demo).await;
        for round in 0..ROUNDS {
            for key in 0..KEYS {
                let value = format!("{round}-{}", "v".repeat(key * 20));
                let put = client.put(format!("key/{key:03}"), value).await;
                put.expect("a put");
            }
        }
        for key in (0..KEYS).step_by(5) {
            let deleted = client.delete(format!("key/{key:03}")).await;
            deleted.expect("a delete");
        }
        client.put("key/005", "again").await.expect("a put");
        leased::write(&mut client).await;
    });
}

/// Writes one key; returns the revision.
pub fn put(demo: &Declared, key: &str) -> i64 {
    client::runtime().block_on(async {
        let written = client_of(demo).await.put(key, key).await;
        written.expect("a put")
    })
}

/// Every key with value, lease, version, create and mod revision, at a revision (0: the latest);
/// and the revision of now.
pub fn everything(demo: &Declared, revision: i64) -> Result<(Vec<KeyValue>, i64), String> {
    client::runtime().block_on(async {
        let answer = client_of(demo).await.everything_at(revision).await;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        let now = revision_of(answer.header.as_ref());
        Ok((answer.kvs, now))
    })
}

/// The lease of [`fill`] is there with its key and its time to live.
pub fn must_have_the_lease(demo: &Declared) {
    client::runtime().block_on(async {
        leased::must_be_there(&mut client_of(demo).await).await;
    });
}

/// Members that a restore has set aside: they are stopped, and their volumes kept.
fn set_aside(demo: &Declared) -> Vec<String> {
    let object = demo.object().expect("the cluster is there");
    let kept = object["status"]["restoring"]["kept"].as_array();
    let name = |one: &Value| Some(one["member"].as_str()?.to_owned());
    kept.into_iter().flatten().filter_map(name).collect()
}

/// HashKV of every member at the same revision; all are equal.
pub fn must_agree(demo: &Declared, revision: i64) {
    let aside = set_aside(demo);
    let hashes: Vec<(String, u32, i64)> = demo
        .members()
        .into_iter()
        .filter(|member| !aside.contains(member))
        .map(|member| {
            let (hash, compacted) = hash_of(demo, &member, revision);
            (member, hash, compacted)
        })
        .collect();
    let same = hashes
        .windows(2)
        .all(|pair| (pair[0].1, pair[0].2) == (pair[1].1, pair[1].2));
    assert!(same && !hashes.is_empty(), "the members differ: {hashes:?}");
}

/// A member's HashKV, and the compact revision that it was taken at.
fn hash_of(demo: &Declared, member: &str, revision: i64) -> (u32, i64) {
    let access = demo.access();
    let target = format!("pod/{member}");
    let forward = demo.kind().forward(demo.namespace(), &target, 2379);
    // A member that is behind does not know the revision yet.
    wait_for(
        &format!("{member} hashes revision {revision}"),
        LIMIT,
        || {
            client::runtime().block_on(async {
                let client = access.connect(forward.address(), CALL_LIMIT).await;
                let mut client = client.ok()?;
                let answer = client.maintenance.hash_kv(HashKvRequest { revision }).await;
                let answer = answer.ok()?.into_inner();
                Some((answer.hash, answer.compact_revision))
            })
        },
    )
}
