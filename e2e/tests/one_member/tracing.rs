//! `--enable-distributed-tracing`: the spans of calls, held against those of a real etcd.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::collector::{Collector, Taken, said};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{http2, ports, turn};
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::{self as pb, request_op, watch_request};
use engram_proto::v3lockpb::{LockRequest, lock_client::LockClient};
use tonic::Request;
use tonic::codegen::tokio_stream::{self, Stream};

/// What a span says that differs from run to run.
const OF_THE_RUN: [&str; 1] = ["server.port"];

/// Answers of a call whose spans are looked for by the call's number, which is in its trace's id.
struct Caller {
    client: Client,
    calls: u64,
}

impl Caller {
    /// A request within a span of the caller's, which is sampled.
    fn traced<T>(&mut self, request: T) -> Request<T> {
        self.calls += 1;
        let mut request = Request::new(request);
        let parent = format!("00-{0:032x}-{0:016x}-01", self.calls);
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", parent.parse().unwrap());
        metadata.insert("tracestate", "here=1".parse().unwrap());
        request
    }
}

fn range(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..pb::RangeRequest::default()
    }
}

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        ..pb::PutRequest::default()
    }
}

fn op(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn compare(key: &'static str) -> pb::Compare {
    pb::Compare {
        key: key.into(),
        target: pb::compare::CompareTarget::Version.into(),
        target_union: Some(pb::compare::TargetUnion::Version(1)),
        ..pb::Compare::default()
    }
}

/// Requests that come while the client still listens.
fn then_silence<T: Send + 'static>(requests: Vec<T>) -> impl Stream<Item = T> + Send + 'static {
    use tokio_stream::StreamExt as _;
    tokio_stream::iter(requests).chain(tokio_stream::pending())
}

/// A client's life, each call in a trace of its own. Whether a call succeeds is in its spans.
async fn live(server: &Server) -> u64 {
    let client = Client::connect(server.address()).await;
    let mut caller = Caller { client, calls: 0 };
    let mut kv = caller.client.kv.clone();
    let _ = kv.put(caller.traced(put("k", "v"))).await;
    let _ = kv.put(caller.traced(put("", "v"))).await;
    let _ = kv.range(caller.traced(range("k", ""))).await;
    let limited = pb::RangeRequest {
        limit: 3,
        keys_only: true,
        ..range("a", "z")
    };
    let _ = kv.range(caller.traced(limited)).await;
    let counted = pb::RangeRequest {
        count_only: true,
        ..range("a", "\0")
    };
    let _ = kv.range(caller.traced(counted)).await;
    let future = pb::RangeRequest {
        revision: 1_000_000,
        ..range("k", "")
    };
    let _ = kv.range(caller.traced(future)).await;
    let writing = pb::TxnRequest {
        compare: vec![compare("k")],
        success: vec![
            op(request_op::Request::RequestPut(put("t", "1"))),
            op(request_op::Request::RequestRange(range("k", ""))),
        ],
        failure: vec![op(request_op::Request::RequestDeleteRange(
            pb::DeleteRangeRequest {
                key: "k".into(),
                ..pb::DeleteRangeRequest::default()
            },
        ))],
    };
    let _ = kv.txn(caller.traced(writing)).await;
    let reading = pb::TxnRequest {
        success: vec![op(request_op::Request::RequestRange(range("k", "")))],
        ..pb::TxnRequest::default()
    };
    let _ = kv.txn(caller.traced(reading)).await;
    let _ = kv.txn(caller.traced(pb::TxnRequest::default())).await;
    let deleting = pb::DeleteRangeRequest {
        key: "t".into(),
        range_end: "u".into(),
        ..pb::DeleteRangeRequest::default()
    };
    let _ = kv.delete_range(caller.traced(deleting)).await;
    let compacting = pb::CompactionRequest {
        revision: 2,
        physical: true,
    };
    let _ = kv.compact(caller.traced(compacting)).await;
    let _ = kv.compact(caller.traced(compacting)).await;
    if let Ok(chunks) = kv.range_stream(caller.traced(range("a", "z"))).await {
        let mut chunks = chunks.into_inner();
        while let Ok(Some(_)) = chunks.message().await {}
    }
    live_with_leases(&mut caller).await;
    live_with_watches(&mut caller).await;
    live_with_others(&mut caller).await;
    caller.calls
}

async fn live_with_leases(caller: &mut Caller) {
    let mut lease = caller.client.lease.clone();
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    let _ = lease.lease_grant(caller.traced(grant)).await;
    let _ = lease.lease_grant(caller.traced(grant)).await;
    let renewals = tokio_stream::iter(vec![pb::LeaseKeepAliveRequest { id: 7 }; 2]);
    if let Ok(answers) = lease.lease_keep_alive(caller.traced(renewals)).await {
        let mut answers = answers.into_inner();
        while let Ok(Some(_)) = answers.message().await {}
    }
    let asked = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let _ = lease.lease_time_to_live(caller.traced(asked)).await;
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    let _ = lease.lease_revoke(caller.traced(revoke)).await;
    let _ = lease.lease_revoke(caller.traced(revoke)).await;
}

async fn live_with_watches(caller: &mut Caller) {
    let request = |union| pb::WatchRequest {
        request_union: Some(union),
    };
    let create = |key: &'static str, end: &'static [u8], watch_id| {
        request(watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: key.into(),
                range_end: end.into(),
                watch_id,
                prev_kv: true,
                ..pb::WatchCreateRequest::default()
            },
        ))
    };
    let cancel = watch_request::RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 5 });
    let requests = vec![
        create("w", b"", 5),
        create("w", b"x", 6),
        create("", b"\0", 7),
        // Taken: no watch, and no span.
        create("w", b"", 6),
        request(cancel),
    ];
    let answers = requests.len();
    let mut watch = caller.client.watch.clone();
    let requests = caller.traced(then_silence(requests));
    let mut stream = watch.watch(requests).await.expect("a watch").into_inner();
    for _ in 0..answers {
        let _ = stream.message().await.expect("an answer");
    }
}

async fn live_with_others(caller: &mut Caller) {
    let mut maintenance = caller.client.maintenance.clone();
    let _ = maintenance
        .status(caller.traced(pb::StatusRequest {}))
        .await;
    let disarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate.into(),
        alarm: pb::AlarmType::Nospace.into(),
        ..pb::AlarmRequest::default()
    };
    let _ = maintenance.alarm(caller.traced(disarm)).await;
    let mut cluster = caller.client.cluster.clone();
    let list = pb::MemberListRequest::default();
    let _ = cluster.member_list(caller.traced(list)).await;
    let nobody = pb::MemberRemoveRequest { id: 1 };
    let _ = cluster.member_remove(caller.traced(nobody)).await;
    let mut auth = AuthClient::new(caller.client.channel.clone());
    let user = pb::AuthUserAddRequest {
        name: "u".into(),
        password: "p".into(),
        ..pb::AuthUserAddRequest::default()
    };
    let _ = auth.user_add(caller.traced(user.clone())).await;
    let _ = auth.user_add(caller.traced(user)).await;
    let mut lock = LockClient::new(caller.client.channel.clone());
    let mut lease = caller.client.lease.clone();
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 9 };
    let _ = lease.lease_grant(caller.traced(grant)).await;
    let wanted = LockRequest {
        name: "l".into(),
        lease: 9,
    };
    let _ = lock.lock(caller.traced(wanted)).await;
    // Nobody's call has no span.
    let nobodys = http2::call(caller.client.channel.clone(), "/no.Service/No", Vec::new());
    let _ = nobodys.await;
}

/// What is compared of a span: all but ids and times.
fn told(taken: &Taken, names: &BTreeMap<Vec<u8>, String>) -> String {
    let span = &taken.span;
    let mut attributes = said(&span.attributes);
    attributes.retain(|name, _| !OF_THE_RUN.contains(&name.as_str()));
    let status = span.status.clone().unwrap_or_default();
    let events: Vec<_> = span.events.iter().map(|event| &event.name).collect();
    let parent = match span.parent_span_id.as_slice() {
        [] => "nobody",
        parent => names.get(parent).map_or("the caller", String::as_str),
    };
    format!(
        "{} in {parent}, kind {}, by {}, flags {:#x}, state {:?}, status {} {:?}, events {events:?}, {attributes:?}",
        span.name,
        span.kind,
        taken.scope,
        span.flags,
        span.trace_state,
        status.code,
        status.message,
    )
}

/// Spans by the number of the call that they are of.
fn by_call(taken: &[Taken]) -> BTreeMap<u128, Vec<String>> {
    let ids = taken.iter().map(|taken| &taken.span);
    let names = ids
        .map(|span| (span.span_id.clone(), span.name.clone()))
        .collect();
    let mut calls: BTreeMap<u128, Vec<String>> = BTreeMap::new();
    for taken in taken {
        let call = taken.span.trace_id.as_slice().try_into();
        let call = u128::from_be_bytes(call.expect("16 bytes"));
        calls.entry(call).or_default().push(told(taken, &names));
    }
    calls.values_mut().for_each(|spans| spans.sort());
    calls
}

/// The spans of a client's life, and whose they are said to be.
fn life(setup: Setup) -> (BTreeMap<u128, Vec<String>>, BTreeMap<String, String>) {
    let collector = Collector::start();
    let mut server = setup
        .flag("--enable-distributed-tracing")
        .flag(format!(
            "--distributed-tracing-address={}",
            collector.address()
        ))
        .flag("--distributed-tracing-instance-id=here")
        .flag("--bcrypt-cost=4")
        .environment("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        .start();
    let calls = client::runtime().block_on(live(&server));
    let of_all = |taken: &[Taken]| by_call(taken).len() as u64 >= calls;
    collector.taken_until(of_all);
    // The rest is sent when it stops.
    server.terminate();
    let taken = collector.taken_until(of_all);
    let resource = taken.first().expect("a span").resource.clone();
    (by_call(&taken), resource)
}

#[test]
fn spans_are_those_of_a_real_etcd() {
    let _turn = turn::take("spans");
    let (wanted, whose) = life(Setup::etcd());
    let (here, whose_here) = life(Setup::engram());
    assert_eq!(whose_here, whose);
    assert!(wanted.len() > 25, "{wanted:#?}");
    let inner = wanted.values().filter(|spans| spans.len() > 1).count();
    assert!(inner > 12, "{wanted:#?}");
    let mut differences = Vec::new();
    for (call, wanted) in &wanted {
        let here = here.get(call).cloned().unwrap_or_default();
        if here != *wanted {
            differences.push(format!("call {call}, etcd:\n{wanted:#?}\nhere:\n{here:#?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(here.len(), wanted.len());
}

#[test]
fn the_caller_decides_and_else_the_rate() {
    let _turn = turn::take("sampling");
    let collector = Collector::start();
    let traced = |rate: u32| {
        Setup::engram()
            .flag("--enable-distributed-tracing=true")
            .flag(format!(
                "--distributed-tracing-address={}",
                collector.address()
            ))
            .flag(format!("--distributed-tracing-sampling-rate={rate}"))
            .flag(format!("--distributed-tracing-service-name=rate-{rate}"))
    };
    for rate in [0, 1_000_000] {
        let mut server = traced(rate).start();
        client::runtime().block_on(async {
            let mut client = Client::connect(server.address()).await;
            client.put("free", "1").await.expect("a put");
            let mut refused = Request::new(put("unsampled", "1"));
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
            let metadata = refused.metadata_mut();
            metadata.insert("traceparent", parent.parse().unwrap());
            client.kv.put(refused).await.expect("a put");
        });
        if rate > 0 {
            collector.taken_until(|taken| taken.len() >= 2);
        }
        server.terminate();
    }
    let taken = collector.taken_until(|taken| taken.len() >= 2);
    let names: Vec<_> = taken.iter().map(|taken| taken.span.name.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.contains(&"put") && names.contains(&"etcdserverpb.KV/Put"),
        "{names:?}"
    );
    for taken in &taken {
        assert_eq!(taken.resource["service.name"], "\"rate-1000000\"");
    }
}

/// Two spans a put: more than wait and are being sent.
const PUTS: u32 = 2_000;

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let _turn = turn::take("no collector");
    let mut server = Setup::engram()
        .flag("--enable-distributed-tracing")
        .flag(format!(
            "--distributed-tracing-address=127.0.0.1:{}",
            ports::free()
        ))
        .flag("--distributed-tracing-sampling-rate=1000000")
        .start();
    let started = Instant::now();
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        for put in 0..PUTS {
            client.put("k", put.to_string()).await.expect("a put");
        }
    });
    let took = started.elapsed();
    let dropped = server.metric("engram_spans_dropped_total");
    let dropped = dropped.expect("a metric");
    assert!(dropped > 0.0, "{dropped}");
    assert_eq!(server.metric("engram_spans_sent_total"), Some(0.0));
    let output = server.output();
    assert!(output.contains("spans cannot be sent"), "{output}");
    let (status, stop) = server.terminate();
    println!("{PUTS} puts took {took:?}, {dropped} spans dropped, the stop {stop:?}");
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}");
    assert!(stop < Duration::from_secs(5), "{stop:?}");
}
