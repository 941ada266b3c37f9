//! A history with everything in it, and the comparison of two servers by all that clients can see.

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{leased, tools};
use engram_proto::etcdserverpb::{CompactionRequest, HashKvRequest, RangeResponse};
use serde_json::Value;

/// Keys of the history.
const KEYS: usize = 200;
/// Where it is compacted.
const COMPACTED: i64 = 300;

/// Writes the history: overwritten, deleted and made again, large values, a lease; compacted in the
/// middle. Returns the revision.
pub fn fill(server: &Server) -> i64 {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        for round in 0..3 {
            for key in 0..KEYS {
                let value = format!("{round}-{}", "v".repeat(key * round * 40));
                let put = client.put(format!("key/{key:03}"), value).await;
                put.expect("a put");
            }
        }
        for key in (0..KEYS).step_by(5) {
            client
                .delete(format!("key/{key:03}"))
                .await
                .expect("a delete");
        }
        leased::write(&mut client).await;
        let compaction = CompactionRequest {
            revision: COMPACTED,
            physical: true,
        };
        client.kv.compact(compaction).await.expect("a compaction");
        client.put("key/005", "again").await.expect("a put")
    })
}

/// Everything that clients see at a revision (0: the latest).
pub fn everything(server: &Server, revision: i64) -> RangeResponse {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        client.everything_at(revision).await.expect("a read")
    })
}

/// HashKV at a revision: the hash, and the compact revision it was taken at.
pub fn hash(server: &Server, revision: i64) -> (u32, i64) {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        let answer = client.maintenance.hash_kv(HashKvRequest { revision }).await;
        let answer = answer.expect("a hash").into_inner();
        (answer.hash, answer.compact_revision)
    })
}

/// Every key has the value, lease, version, create and mod revision that it had, now and in what
/// is left of the past; the lease is there; HashKV is the same.
pub fn must_equal(before: &Server, after: &Server, revision: i64) {
    for at in [COMPACTED, COMPACTED + 1, revision - 1, revision] {
        let [was, is] = [before, after].map(|server| everything(server, at).kvs);
        assert!(!was.is_empty());
        assert_eq!(was, is, "at revision {at}");
    }
    assert_eq!(hash(before, revision), hash(after, revision));
    must_have_the_lease(after);
}

/// The lease is there with its key and its time to live.
pub fn must_have_the_lease(server: &Server) {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        leased::must_be_there(&mut client).await;
    });
}

/// Runs `engramctl` and returns its standard output.
pub fn engramctl(arguments: &[&str]) -> String {
    tools::must_succeed(tools::command(&tools::engramctl()).args(arguments))
}

/// Runs `engramctl -w json` and parses its answer.
pub fn engramctl_json(arguments: &[&str]) -> Value {
    let text = engramctl(&[&["-w", "json"], arguments].concat());
    serde_json::from_str(text.trim())
        .unwrap_or_else(|error| panic!("{arguments:?} answered no JSON ({error}): {text}"))
}

/// Runs `engramctl`, which must fail; returns what it said.
pub fn engramctl_fails(arguments: &[&str]) -> String {
    let mut command = tools::command(&tools::engramctl());
    let finished = tools::run(command.args(arguments), tools::TOOL_LIMIT);
    let said = finished.text();
    assert!(
        !finished.status.success(),
        "{arguments:?} succeeded: {said}"
    );
    assert!(finished.stderr.contains("Error: "), "{said}");
    said
}

/// A member that is about to be restored: `restore` gets the flags that say so.
pub fn restored(restore: impl FnOnce(&[&str])) -> Server {
    let mut server = Setup::engram().prepare();
    let flags = restore_flags(&server);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    restore(&flags);
    server.start();
    server
}

/// The flags of a restore into a server's data directory, as its only member.
pub fn restore_flags(server: &Server) -> Vec<String> {
    let (name, peer) = (server.name(), server.peer_url());
    vec![
        format!("--data-dir={}", server.data_dir().display()),
        format!("--name={name}"),
        format!("--initial-cluster={name}={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    ]
}
