//! What archiving costs a server in memory, beside one that does not archive.

use engram_e2e::client::{self, Client};
use engram_e2e::process;
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use engram_proto::etcdserverpb as pb;

use super::{Ctl, directory};

/// What is written: 128 MiB of values, several segments' worth.
const KEYS: usize = 32_000;
const VALUE_BYTES: usize = 4 << 10;
/// Keys of a transaction.
const BATCH: usize = 64;
/// What it may take more. Seen: 100 to 112 MiB. The engine's block cache (32), which reading history fills, and three
/// times a segment (24) are known of it, the rest is not accounted for.
const MORE_MAX: u64 = 128 << 20;

#[test]
fn who_archives_takes_little_more_memory() {
    let _turn = turn::take("archive, memory");
    let plain = Setup::engram().start();
    fill(&plain);
    let without = peak(&plain);
    drop(plain);
    let (_dir, url) = directory();
    // Segments as large as they are by default.
    let server = Setup::engram()
        .flag(format!("--archive-url={url}"))
        .flag("--archive-cluster=demo")
        .flag("--archive-max-delay=1s")
        .start();
    let last = fill(&server);
    Ctl(url).must_archive(last);
    let with = peak(&server);
    println!(
        "{} MiB at most without an archive, {} MiB with one",
        without >> 20,
        with >> 20
    );
    assert!(without > 0 && with <= without + MORE_MAX, "{with} bytes");
}

fn peak(server: &Server) -> u64 {
    process::usage(server.pid()).expect("it runs").peak
}

/// Writes all keys; the last revision.
fn fill(server: &Server) -> i64 {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        let mut random = Random::new(9);
        let mut revision = 0;
        for batch in 0..KEYS / BATCH {
            let success = (0..BATCH).map(|number| {
                let put = pb::PutRequest {
                    key: format!("key/{batch:04}/{number:02}").into(),
                    value: random.bytes(VALUE_BYTES).into(),
                    ..pb::PutRequest::default()
                };
                pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestPut(put)),
                }
            });
            let txn = pb::TxnRequest {
                success: success.collect(),
                ..pb::TxnRequest::default()
            };
            let answer = client.kv.txn(txn).await.expect("a transaction");
            revision = client::revision_of(answer.into_inner().header.as_ref());
        }
        revision
    })
}
