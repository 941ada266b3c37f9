//! Where Engram holds and etcd does not: kept so.

use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::process::{self, Peaks};
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_proto::etcdserverpb::watch_client::WatchClient;
use engram_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchRequest, request_op, watch_request,
};
use tonic::codegen::tokio_stream;
use tonic::transport::Endpoint;

use crate::case;
use crate::ci_or_full;

/// What a client of gRPC takes in one message unless it says otherwise.
const CLIENT_LIMIT: usize = 4 << 20;
const MIB: u64 = 1 << 20;

/// etcd-io/etcd#22376: the deleted range is open at its end, so that no check of overlaps refuses it.
#[test]
fn what_was_deleted_and_put_in_one_revision_survives_its_compaction() {
    let case = case::begin("compaction at the revision that rewrote every key");
    let mut server = Setup::engram().start();
    let runtime = client::runtime();
    let outcome = runtime.block_on(rewrite_and_compact(&server));
    match outcome {
        // etcd means to refuse it, and some day may.
        Err(refusal) => {
            case.saw(format!("refused: {refusal}"));
            assert!(
                refusal.contains("duplicate key given in txn request"),
                "{refusal}"
            );
        }
        Ok(()) => {
            let before = server.etcdctl(&["get", "cfg/", "--prefix"]);
            server.kill();
            server.start();
            let after = server.etcdctl(&["get", "cfg/", "--prefix"]);
            case.saw(format!("{before:?}, after a restart {after:?}"));
            assert_eq!(before, "cfg/a\nnew\ncfg/b\nnew\n");
            assert_eq!(after, before);
        }
    }
}

async fn rewrite_and_compact(server: &Server) -> Result<(), String> {
    let mut client = Client::connect(server.address()).await;
    for key in ["cfg/a", "cfg/b"] {
        client.put(key, "old").await.expect("a put");
    }
    let put = |key: &str| {
        request_op::Request::RequestPut(PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: b"new".to_vec().into(),
            ..PutRequest::default()
        })
    };
    let delete = request_op::Request::RequestDeleteRange(DeleteRangeRequest {
        key: b"cfg/".to_vec().into(),
        range_end: vec![0].into(),
        ..DeleteRangeRequest::default()
    });
    let operations = [delete, put("cfg/a"), put("cfg/b")];
    let txn = TxnRequest {
        success: operations
            .into_iter()
            .map(|request| RequestOp {
                request: Some(request),
            })
            .collect(),
        ..TxnRequest::default()
    };
    let answer = client
        .kv
        .txn(txn)
        .await
        .map_err(|status| status.to_string())?;
    let revision = client::revision_of(answer.into_inner().header.as_ref());
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    client.kv.compact(request).await.expect("a compaction");
    Ok(())
}

#[test]
fn a_watch_of_much_history_fits_a_clients_limit() {
    let case = case::begin("watch of 24 MB of history, client limit 4 MiB");
    let server = Setup::engram().start();
    let (events, largest) = client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        let mut random = Random::new(9);
        for number in 0..24 {
            let written = client
                .put(format!("h/{number}"), random.bytes(1_000_000))
                .await;
            written.expect("a put");
        }
        follow(&server, 24).await
    });
    case.saw(format!("{events} events, at most {largest} in a message"));
    assert_eq!(events, 24);
}

/// Watches from the first revision on with gRPC's default limit; returns events, and the most in one
/// message.
async fn follow(server: &Server, wanted: usize) -> (usize, usize) {
    let endpoint = Endpoint::from_shared(server.client_url()).expect("a URL");
    let channel = endpoint.connect().await.expect("a connection");
    let mut client = WatchClient::new(channel).max_decoding_message_size(CLIENT_LIMIT);
    let mut answers = client
        .watch(everything_from_1())
        .await
        .expect("a watch")
        .into_inner();
    let (mut events, mut largest) = (0, 0);
    while events < wanted {
        let next = tokio::time::timeout(Duration::from_secs(20), answers.message()).await;
        let message = next.expect("an answer in time").expect("within the limit");
        let message = message.expect("the stream goes on");
        events += message.events.len();
        largest = largest.max(message.events.len());
    }
    (events, largest)
}

fn everything_from_1() -> impl tokio_stream::Stream<Item = WatchRequest> + Send + 'static {
    let create = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(
            WatchCreateRequest {
                key: vec![0].into(),
                range_end: vec![0].into(),
                start_revision: 1,
                ..WatchCreateRequest::default()
            },
        )),
    };
    tokio_stream::StreamExt::chain(
        tokio_stream::once(create),
        tokio_stream::pending::<WatchRequest>(),
    )
}

/// etcd needs 2 GB for it.
#[test]
fn streams_of_watches_that_nobody_reads_cost_little() {
    let case = case::begin("stalled watch streams");
    let server = Setup::engram().start();
    let runtime = client::runtime();
    let streams = ci_or_full(100, 400);
    let values = ci_or_full(300, 1_000);
    let before = process::usage(server.pid()).expect("it runs").memory;
    let peaks = Peaks::of(server.pid());
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..streams {
            let mut client = Client::connect(server.address()).await;
            let answers = client
                .watch
                .watch(everything_from_1())
                .await
                .expect("a watch");
            // Never read, and kept.
            held.push((client, answers.into_inner()));
        }
        let mut writer = Client::connect(server.address()).await;
        let mut random = Random::new(11);
        for number in 0..values {
            let key = format!("stalled/{}", number % 50);
            writer.put(key, random.bytes(100_000)).await.expect("a put");
        }
        held
    });
    let (peak, threads) = peaks.end();
    case.saw(format!(
        "{streams} streams, {values} values of 100 kB: {} MiB before, {} at most, {threads} threads",
        before / MIB,
        peak / MIB
    ));
    // The store's own caches are in it: they grow by what was written.
    let own = u64::try_from(values).expect("few") * 100_000;
    assert!(peak < before + own * 2 + 300 * MIB, "{} MiB", peak / MIB);
    drop(held);
}
