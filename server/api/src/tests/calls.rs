//! Calls and what they answer: the goldens' texts, chunks and headers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use http_body_util::{BodyExt as _, Full};
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request as OpRequest;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Server, raw_call, refusal};
use crate::Config;
use crate::backend::ServeError;
use crate::fake::HEADER;
use crate::table::{Kind, ROWS};
use crate::types::MemberId;
use crate::types::request::{Alarm, AlarmType, Op};

fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: HEADER.cluster.0,
        member_id: HEADER.member.0,
        revision,
        raft_term: HEADER.term,
    }
}

fn range_of(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..pb::RangeRequest::default()
    }
}

fn put_of(key: &str, len: usize) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), vec![b'x'; len].into());
    pb::PutRequest {
        key,
        value,
        ..pb::PutRequest::default()
    }
}

fn put_op(key: &str) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(OpRequest::RequestPut(put_of(key, 1))),
    }
}

#[test]
fn a_call_that_panics_is_answered_with_an_error_and_the_connection_goes_on() {
    let server = Server::start();
    server.fake.panics.store(true, Ordering::SeqCst);
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel);
        let refused = kv.range(range_of("panic", "")).await.unwrap_err();
        let text = "etcdserver: the call panicked: the server's log says why";
        assert_eq!((refused.code(), refused.message()), (Code::Internal, text));
        let mut stream = kv
            .range_stream(range_of("panic", ""))
            .await
            .unwrap()
            .into_inner();
        let refused = stream.message().await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Internal, text));
        kv.range(range_of("k000", "")).await.unwrap();
    });
}

#[test]
fn refusals_have_etcds_codes_and_texts() {
    let server = Server::start();
    server.calls(async |channel| {
        let invalid = |text: &str| (Code::InvalidArgument, format!("etcdserver: {text}"));
        let mut kv = KvClient::new(channel.clone());
        assert_eq!(
            refusal(kv.range(range_of("", "")).await),
            invalid("key is not provided")
        );
        let sorted = pb::RangeRequest {
            sort_order: 9,
            ..range_of("a", "")
        };
        assert_eq!(
            refusal(kv.range(sorted).await),
            invalid("invalid sort option")
        );
        assert_eq!(
            refusal(kv.put(put_of("", 1)).await),
            invalid("key is not provided")
        );
        let valued = pb::PutRequest {
            ignore_value: true,
            ..put_of("q", 1)
        };
        assert_eq!(refusal(kv.put(valued).await), invalid("value is provided"));
        let future = pb::RangeRequest {
            revision: 99_999,
            ..range_of("a", "")
        };
        let text = "etcdserver: mvcc: required revision is a future revision".to_owned();
        assert_eq!(refusal(kv.range(future).await), (Code::OutOfRange, text));
        let duplicate = pb::TxnRequest {
            success: vec![put_op("x"), put_op("x")],
            ..Default::default()
        };
        let text = "duplicate key given in txn request";
        assert_eq!(refusal(kv.txn(duplicate).await), invalid(text));
        let many = (0..129).map(|n| put_op(&n.to_string())).collect();
        let many = pb::TxnRequest {
            success: many,
            ..Default::default()
        };
        let text = "too many operations in txn request";
        assert_eq!(refusal(kv.txn(many).await), invalid(text));
        let mut lease = LeaseClient::new(channel.clone());
        let long = pb::LeaseGrantRequest {
            ttl: 9_000_000_001,
            id: 0,
        };
        let text = "etcdserver: too large lease TTL".to_owned();
        assert_eq!(
            refusal(lease.lease_grant(long).await),
            (Code::OutOfRange, text)
        );
        let text = "etcdserver: requested lease not found".to_owned();
        let revoke = pb::LeaseRevokeRequest { id: 999 };
        assert_eq!(
            refusal(lease.lease_revoke(revoke).await),
            (Code::NotFound, text)
        );
    });
    assert!(
        server
            .fake
            .proposed
            .lock()
            .iter()
            .all(|op| matches!(op, Op::LeaseRevoke(_)))
    );
}

#[test]
fn sizes_are_limited_as_in_etcd() {
    let server = Server::start();
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel);
        assert!(kv.put(put_of("big", (3 << 19) - 100)).await.is_ok());
        let text = "etcdserver: request is too large".to_owned();
        let refused = kv.put(put_of("big", 3 << 19)).await;
        assert_eq!(refusal(refused), (Code::InvalidArgument, text));
        let text = "grpc: received message larger than max (3145738 vs. 2097152)".to_owned();
        let refused = kv.put(put_of("big", 3 << 20)).await;
        assert_eq!(refusal(refused), (Code::ResourceExhausted, text));
    });
}

#[test]
fn unknown_methods_and_services_are_named() {
    let server = Server::start();
    server.calls(async |channel| {
        let nope = raw_call(&channel, "/etcdserverpb.KV/Nope", Bytes::new()).await;
        let text = "unknown method Nope for service etcdserverpb.KV".to_owned();
        assert_eq!(refusal(nope), (Code::Unimplemented, text));
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let text = "unknown service grpc.reflection.v1.ServerReflection".to_owned();
        let nope = raw_call(&channel, path, Bytes::new()).await;
        assert_eq!(refusal(nope), (Code::Unimplemented, text));
        let proclaim = "/v3electionpb.Election/Proclaim";
        let text = "\"leader\" field must be provided".to_owned();
        let proclaimed = raw_call(&channel, proclaim, Bytes::new()).await;
        assert_eq!(refusal(proclaimed), (Code::Unknown, text));
        let text = "etcdserver: key is not provided".to_owned();
        let unlocked = raw_call(&channel, "/v3lockpb.Lock/Unlock", Bytes::new()).await;
        assert_eq!(refusal(unlocked), (Code::Unknown, text));
        let garbage = Bytes::from_static(b"\xff\xff\xff");
        let undecodable = raw_call(&channel, "/etcdserverpb.KV/Range", garbage).await;
        assert_eq!(refusal(undecodable).0, Code::Internal);
    });
}

#[test]
fn answers_carry_their_headers() {
    let server = Server::start();
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel.clone());
        let limited = pb::RangeRequest {
            limit: 3,
            ..range_of("k", "l")
        };
        let range = kv.range(limited).await.unwrap().into_inner();
        assert_eq!((range.header, range.kvs.len()), (Some(header(9)), 3));
        assert_eq!((range.more, range.count), (true, 128));
        assert_eq!(range.kvs[0].key.as_ref(), b"k000");
        let put = kv.put(put_of("a", 1)).await.unwrap().into_inner();
        assert_eq!(put.header, Some(header(10)));
        let txn = kv
            .txn(pb::TxnRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((txn.header, txn.succeeded), (Some(header(9)), true));
        let mut cluster = ClusterClient::new(channel);
        let list = pb::MemberListRequest { linearizable: true };
        let list = cluster.member_list(list).await.unwrap().into_inner();
        assert_eq!((list.header, list.members.len()), (Some(header(0)), 1));
    });
}

#[test]
fn large_answers_arrive_whole() {
    let server = Server::start();
    *server.fake.value_len.lock() = 40_000;
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel).max_decoding_message_size(usize::MAX);
        let range = kv.range(range_of("k", "l")).await.unwrap().into_inner();
        assert_eq!(range.kvs.len(), 128);
        assert!(range.kvs.iter().all(|kv| kv.value.len() == 40_000));
    });
}

async fn chunks(channel: &Channel, query: pb::RangeRequest) -> Vec<pb::RangeResponse> {
    let mut stream = KvClient::new(channel.clone())
        .range_stream(query)
        .await
        .unwrap()
        .into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        chunks.push(chunk.range_response.expect("every message holds a range"));
    }
    chunks
}

fn shape(chunks: &[pb::RangeResponse]) -> Vec<(usize, bool, bool, i64)> {
    let of = |chunk: &pb::RangeResponse| {
        (
            chunk.kvs.len(),
            chunk.header.is_some(),
            chunk.more,
            chunk.count,
        )
    };
    chunks.iter().map(of).collect()
}

#[test]
fn range_streams_come_in_etcds_chunks() {
    let server = Server::start();
    server.calls(async |channel| {
        let all = chunks(&channel, range_of("k", "l")).await;
        let quiet = |len| (len, false, false, 0);
        assert_eq!(
            shape(&all),
            [quiet(10), quiet(20), quiet(40), (58, true, false, 128)]
        );
        assert_eq!(all[3].header, Some(header(9)));
        let limited = pb::RangeRequest {
            limit: 25,
            ..range_of("k", "l")
        };
        assert_eq!(
            shape(&chunks(&channel, limited).await),
            [quiet(10), (15, true, true, 128)]
        );
        let count = pb::RangeRequest {
            count_only: true,
            ..range_of("k", "l")
        };
        assert_eq!(
            shape(&chunks(&channel, count).await),
            [(0, true, false, 128)]
        );
        let empty = chunks(&channel, range_of("z", "zz")).await;
        assert_eq!(shape(&empty), [(0, true, false, 0)]);
    });
}

#[test]
fn range_streams_take_any_target_unsorted() {
    let server = Server::start();
    server.calls(async |channel| {
        for sort_target in 0..5 {
            let unsorted = pb::RangeRequest {
                sort_target,
                ..range_of("k", "l")
            };
            assert_eq!(chunks(&channel, unsorted).await.len(), 4);
        }
    });
}

#[test]
fn range_streams_refuse_what_etcd_refuses() {
    let server = Server::start();
    server.calls(async |channel| {
        let ask = async |query| -> Result<(), Status> {
            let mut kv = KvClient::new(channel.clone());
            kv.range_stream(query)
                .await?
                .into_inner()
                .message()
                .await
                .map(drop)
        };
        let sorted = pb::RangeRequest {
            sort_order: 2,
            sort_target: 3,
            ..range_of("k", "l")
        };
        let text = "RangeStream does not support custom sort orders".to_owned();
        assert_eq!(refusal(ask(sorted).await), (Code::Unimplemented, text));
        let filtered = pb::RangeRequest {
            min_mod_revision: 2,
            ..range_of("k", "l")
        };
        let text = "RangeStream does not support revision filters".to_owned();
        assert_eq!(refusal(ask(filtered).await), (Code::Unimplemented, text));
        let compacted = pb::RangeRequest {
            revision: 3,
            ..range_of("k", "l")
        };
        let text = "etcdserver: mvcc: required revision has been compacted".to_owned();
        assert_eq!(refusal(ask(compacted).await), (Code::OutOfRange, text));
        let text = "etcdserver: key is not provided".to_owned();
        assert_eq!(
            refusal(ask(range_of("", "")).await),
            (Code::InvalidArgument, text)
        );
    });
}

#[test]
fn reads_that_take_long_are_counted_as_slow_and_writes_are_not() {
    let slow = Config {
        warning_apply: Duration::from_millis(20),
        ..Config::default()
    };
    let server = Server::with(slow);
    *server.fake.delay.lock() = Duration::from_millis(100);
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel);
        assert!(kv.put(put_of("a", 1)).await.is_ok());
        assert_eq!(server.fake.slow_reads.load(Ordering::SeqCst), 0);
        assert!(kv.range(range_of("k", "l")).await.is_ok());
        assert_eq!(server.fake.slow_reads.load(Ordering::SeqCst), 1);
        let read = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(range_of("k", "l"))),
        };
        let txn = pb::TxnRequest {
            success: vec![read],
            ..Default::default()
        };
        assert!(kv.txn(txn).await.is_ok());
        assert_eq!(server.fake.slow_reads.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_deadline_ends_a_call_that_is_stuck() {
    let server = Server::start();
    server.fake.stuck.store(true, Ordering::SeqCst);
    // tonic's own client gives up by itself, so the deadline is sent by hand.
    let status = server.client.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let message = put_of("a", 1).encode_to_vec();
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0], &len[..], &message].concat();
        let request = http::Request::post("http://x/etcdserverpb.KV/Put")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "30m")
            .body(http_body_util::Full::<Bytes>::from(body))
            .unwrap();
        Status::from_header_map(sender.send_request(request).await.unwrap().headers()).unwrap()
    });
    let text = "context deadline exceeded";
    assert_eq!(
        (status.code(), status.message()),
        (Code::DeadlineExceeded, text)
    );
    assert_eq!(server.fake.waiting.load(Ordering::SeqCst), 0);
}

#[test]
fn without_a_leader_calls_that_require_one_are_refused_and_streams_end() {
    let server = Server::start();
    server.calls(async |channel| {
        let requiring = |message| {
            let mut request = Request::new(message);
            request
                .metadata_mut()
                .insert("hasleader", "true".parse().unwrap());
            request
        };
        let text = "etcdserver: no leader".to_owned();
        let (sender, receiver) = tokio::sync::mpsc::channel::<pb::LeaseKeepAliveRequest>(1);
        let mut lease = LeaseClient::new(channel.clone());
        let receiver = futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        let mut request = Request::new(Box::pin(receiver));
        request
            .metadata_mut()
            .insert("hasleader", "true".parse().unwrap());
        sender
            .send(pb::LeaseKeepAliveRequest { id: 77 })
            .await
            .unwrap();
        let mut stream = lease.lease_keep_alive(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(
            (first.header, first.id, first.ttl),
            (Some(header(9)), 77, 100)
        );
        sender
            .send(pb::LeaseKeepAliveRequest { id: 999 })
            .await
            .unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap().ttl, 0);
        server.fake.leaderless.store(true, Ordering::SeqCst);
        assert_eq!(
            refusal(stream.message().await),
            (Code::Unavailable, text.clone())
        );
        let put = KvClient::new(channel.clone())
            .put(requiring(put_of("a", 1)))
            .await;
        assert_eq!(refusal(put), (Code::Unavailable, text));
        assert!(KvClient::new(channel).put(put_of("a", 1)).await.is_ok());
    });
}

#[test]
fn the_cores_refusals_keep_their_texts() {
    let server = Server::start();
    let cases = [
        (
            ServeError::TooManyRequests,
            Code::Unknown,
            "etcdserver: too many requests",
        ),
        (
            ServeError::Timeout,
            Code::Unavailable,
            "etcdserver: request timed out",
        ),
        (
            ServeError::NoSpace,
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        (
            ServeError::LeaderChanged,
            Code::Unavailable,
            "etcdserver: leader changed",
        ),
    ];
    server.calls(async |channel| {
        for (error, code, text) in cases {
            *server.fake.refuses.lock() = Some(error);
            let refused = refusal(KvClient::new(channel.clone()).put(put_of("a", 1)).await);
            assert_eq!(refused, (code, text.to_owned()));
        }
        let serializable = pb::RangeRequest {
            serializable: true,
            ..range_of("k", "l")
        };
        assert!(
            KvClient::new(channel.clone())
                .range(serializable)
                .await
                .is_ok()
        );
        assert!(
            KvClient::new(channel)
                .range(range_of("k", "l"))
                .await
                .is_err()
        );
    });
}

#[test]
fn a_learner_serves_little() {
    let server = Server::start();
    server.fake.learner.store(true, Ordering::SeqCst);
    server.calls(async |channel| {
        let text = "etcdserver: rpc not supported for learner".to_owned();
        let refused = (Code::FailedPrecondition, text);
        let mut kv = KvClient::new(channel.clone());
        assert_eq!(refusal(kv.put(put_of("a", 1)).await), refused);
        assert_eq!(refusal(kv.range(range_of("k", "l")).await), refused);
        let stream = kv.range_stream(range_of("k", "l")).await;
        assert_eq!(refusal(stream.map(drop)), refused);
        let serializable = pb::RangeRequest {
            serializable: true,
            ..range_of("k", "l")
        };
        assert!(kv.range(serializable).await.is_ok());
        let mut maintenance = MaintenanceClient::new(channel);
        assert!(maintenance.status(pb::StatusRequest {}).await.is_ok());
        assert!(maintenance.snapshot(pb::SnapshotRequest {}).await.is_ok());
    });
}

#[test]
fn a_snapshot_counts_down_to_its_digest() {
    let server = Server::start();
    server.calls(async |channel| {
        let mut maintenance = MaintenanceClient::new(channel);
        let stream = maintenance.snapshot(pb::SnapshotRequest {}).await;
        let mut stream = stream.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(piece) = stream.message().await.unwrap() {
            assert_eq!((piece.header, piece.version.as_str()), (None, "3.7.0"));
            seen.push((piece.blob.len(), piece.remaining_bytes));
        }
        assert_eq!(seen, [(32_768, 4096), (4096, 0), (32, 0)]);
    });
}

#[test]
fn a_snapshot_is_in_records_for_whoever_asks_for_them() {
    let server = Server::start();
    server.calls(async |channel| {
        let mut maintenance = MaintenanceClient::new(channel);
        for (asked, version) in [("records", "engram.backup.v1"), ("others", "3.7.0")] {
            let mut request = Request::new(pb::SnapshotRequest {});
            let metadata = request.metadata_mut();
            metadata.insert("engram-snapshot", asked.parse().unwrap());
            let stream = maintenance.snapshot(request).await;
            let mut stream = stream.unwrap().into_inner();
            let piece = stream.message().await.unwrap().expect("a piece");
            assert_eq!(piece.version, version);
            assert_eq!(piece.blob == "piece", asked == "records");
        }
    });
}

#[test]
fn watch_requests_reach_the_hub_and_its_frames_come_back() {
    let server = Server::start();
    server.calls(async |channel| {
        let create = pb::WatchCreateRequest {
            key: "a".into(),
            watch_id: 5,
            ..Default::default()
        };
        let cancel = pb::WatchCancelRequest { watch_id: 5 };
        let requests = [
            RequestUnion::CreateRequest(create),
            RequestUnion::CancelRequest(cancel),
        ]
        .map(|request| pb::WatchRequest {
            request_union: Some(request),
        });
        let requests = futures_util::stream::iter(requests);
        let stream = WatchClient::new(channel).watch(requests).await;
        let mut stream = stream.unwrap().into_inner();
        // The client has finished sending and goes on receiving.
        let created = stream.message().await.unwrap().unwrap();
        assert!(created.created && created.watch_id == 5 && created.header == Some(header(9)));
        let canceled = stream.message().await.unwrap().unwrap();
        assert!(canceled.canceled && canceled.watch_id == 5);
    });
}

#[test]
fn what_is_not_of_this_release_answers_as_etcd_does_where_nothing_changes() {
    let server = Server::start();
    server.calls(async |channel| {
        let failed = |text: &str| (Code::FailedPrecondition, format!("etcdserver: {text}"));
        let mut auth = AuthClient::new(channel.clone());
        let status = auth
            .auth_status(pb::AuthStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!((status.header, status.auth_revision), (Some(header(9)), 1));
        let user = auth
            .user_get(pb::AuthUserGetRequest { name: "u".into() })
            .await;
        assert_eq!(refusal(user), failed("user name not found"));
        let password = pb::AuthUserAddRequest {
            name: "u".into(),
            password: "p".repeat(73),
            ..Default::default()
        };
        let text = "bcrypt: password length exceeds 72 bytes".to_owned();
        assert_eq!(
            refusal(auth.user_add(password).await),
            (Code::Unknown, text)
        );
        let mut cluster = ClusterClient::new(channel.clone());
        let add = |url: &str| pb::MemberAddRequest {
            peer_ur_ls: vec![url.to_owned()],
            is_learner: false,
        };
        let text = "etcdserver: given member URLs are invalid".to_owned();
        let refused = refusal(cluster.member_add(add("127.0.0.1:1")).await);
        assert_eq!(refused, (Code::InvalidArgument, text));
        let refused = refusal(cluster.member_add(add("http://127.0.0.1:32380")).await);
        assert_eq!(refused, failed("Peer URLs already exists"));
        let remove = pb::MemberRemoveRequest {
            id: HEADER.member.0,
        };
        let text = "etcdserver: re-configuration failed due to not enough started members";
        let refused = refusal(cluster.member_remove(remove).await);
        assert_eq!(refused, (Code::Unknown, text.to_owned()));
        let promote = pb::MemberPromoteRequest {
            id: HEADER.member.0,
        };
        let text = "can only promote a learner member";
        assert_eq!(refusal(cluster.member_promote(promote).await), failed(text));
        downgrades(MaintenanceClient::new(channel)).await;
    });
}

async fn downgrades(mut maintenance: MaintenanceClient<Channel>) {
    let ask = |action, version: &str| pb::DowngradeRequest {
        action,
        version: version.into(),
    };
    let invalid = |text: &str| (Code::InvalidArgument, format!("etcdserver: {text}"));
    let valid = maintenance
        .downgrade(ask(0, "3.6"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (valid.header, valid.version.as_str()),
        (Some(header(9)), "3.7")
    );
    let text = "invalid downgrade target version";
    assert_eq!(
        refusal(maintenance.downgrade(ask(0, "3.5")).await),
        invalid(text)
    );
    let text = "wrong downgrade target version format";
    assert_eq!(
        refusal(maintenance.downgrade(ask(0, "x")).await),
        invalid(text)
    );
    assert!(maintenance.downgrade(ask(2, "")).await.is_ok());
    let text = "etcdserver: unknown method".to_owned();
    assert_eq!(
        refusal(maintenance.downgrade(ask(9, "")).await),
        (Code::Unknown, text)
    );
    let transferee = maintenance
        .move_leader(pb::MoveLeaderRequest { target_id: 1 })
        .await;
    let text = "etcdserver: bad leader transferee".to_owned();
    assert_eq!(refusal(transferee), (Code::FailedPrecondition, text));
}

#[test]
fn every_unary_row_answers_garbage_with_an_error_or_an_answer() {
    let server = Server::start();
    server.calls(async |channel| {
        for row in ROWS.iter().filter(|row| row.kind == Kind::Unary) {
            for message in [
                &b""[..],
                b"\x0a\x05ab",
                b"\x08\x96\x01",
                b"\x1a\x03\x0a\x01x",
            ] {
                let answer = raw_call(&channel, row.path, Bytes::from_static(message)).await;
                if let Err(status) = answer {
                    assert_ne!(status.code(), Code::Cancelled, "{}: {status}", row.path);
                }
            }
        }
        assert!(
            raw_call(&channel, "/grpc.health.v1.Health/Check", Bytes::new())
                .await
                .is_ok()
        );
    });
}

/// A message as a client sends it that compresses with gzip, or one that claims to.
fn compressed(encoding: &'static str, message: &[u8]) -> http::Request<Full<Bytes>> {
    let mut body = vec![1];
    let len = u32::try_from(message.len()).unwrap();
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(message);
    http::Request::post("http://x/etcdserverpb.KV/Put")
        .header("content-type", "application/grpc")
        .header("grpc-encoding", encoding)
        .body(Full::from(body))
        .unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_requests_are_taken_as_in_etcd() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let server = Server::start();
    let put = put_of("a", 1000).encode_to_vec();
    let bomb = put_of("a", 16 << 20).encode_to_vec();
    server.client.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        for (request, code) in [
            (compressed("gzip", &gzip(&put)), Code::Ok),
            (compressed("gzip", &gzip(&bomb)), Code::ResourceExhausted),
            (compressed("gzip", &put), Code::Internal),
            (compressed("identity", &gzip(&put)), Code::Internal),
            (compressed("zstd", &gzip(&put)), Code::Unimplemented),
        ] {
            let answer = sender.send_request(request).await.unwrap();
            let in_headers = answer.headers().get("grpc-status").cloned();
            let collected = answer.into_body().collect().await.unwrap();
            let trailers = collected
                .trailers()
                .and_then(|all| all.get("grpc-status").cloned());
            let status = in_headers.or(trailers).unwrap();
            assert_eq!(Code::from_bytes(status.as_bytes()), code);
        }
    });
    assert_eq!(server.fake.proposed.lock().len(), 1);
}

#[test]
fn an_alarm_of_nobody_is_of_the_member_that_is_asked() {
    let server = Server::start();
    server.calls(async |channel| {
        let mut client = MaintenanceClient::new(channel);
        for (action, member_id) in [(1, 0), (1, 9), (2, 0)] {
            let alarm = 1;
            let request = pb::AlarmRequest {
                action,
                member_id,
                alarm,
            };
            client.alarm(request).await.unwrap();
        }
    });
    let proposed = server.fake.proposed.lock().clone();
    let own = HEADER.member;
    let wanted = [
        Alarm::Activate(own, AlarmType::NoSpace),
        Alarm::Activate(MemberId(9), AlarmType::NoSpace),
        Alarm::Deactivate(own, AlarmType::NoSpace),
    ];
    assert_eq!(proposed, wanted.map(Op::Alarm));
}

#[test]
fn a_client_that_gives_up_frees_its_call() {
    let server = Server::start();
    server.fake.stuck.store(true, Ordering::SeqCst);
    server.calls(async |channel| {
        let mut kv = KvClient::new(channel);
        let given_up = tokio::time::timeout(Duration::from_secs(1), kv.put(put_of("a", 1)));
        assert!(given_up.await.is_err(), "the call was stuck");
        for _ in 0..500 {
            if server.fake.waiting.load(Ordering::SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the call is still there");
    });
}
