//! Requests that no client should send: a clear error each, and the server serves on.

use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::http2::{
    self, END_HEADERS, END_STREAM, PREFACE, frame, frame_type, grpc_call, header_block, send_raw,
};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};
use engram_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};
use tonic::{Code, Status};

const REQUEST_BYTES_MAX: usize = 1536 * 1024;

fn put_of(key: &[u8], value_bytes: usize) -> PutRequest {
    PutRequest {
        key: key.to_vec().into(),
        value: vec![b'v'; value_bytes].into(),
        ..PutRequest::default()
    }
}

fn serves(server: &Server) {
    assert_eq!(server.etcdctl(&["put", "foo", "bar"]), "OK\n");
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nbar\n");
}

#[track_caller]
fn expect<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.expect_err(message);
    assert_eq!(status.code(), code, "{status}");
    assert!(
        status.message().contains(message),
        "{status} should say {message}"
    );
}

#[test]
fn empty_and_oversized_requests_are_refused_with_etcds_words() {
    let _turn = turn::take("bad requests");
    let server = Setup::engram().start();
    client::runtime().block_on(ask_bad_requests(&server));
    serves(&server);
}

async fn ask_bad_requests(server: &Server) {
    let mut client = Client::connect(server.address()).await;
    let no_key = "etcdserver: key is not provided";
    expect(client.put("", "v").await, Code::InvalidArgument, no_key);
    expect(client.get("", 0).await, Code::InvalidArgument, no_key);
    expect(client.delete("").await, Code::InvalidArgument, no_key);
    let too_large = "etcdserver: request is too large";
    let put = client.kv.put(put_of(b"key", REQUEST_BYTES_MAX)).await;
    expect(put, Code::InvalidArgument, too_large);
    let put = client
        .kv
        .put(put_of(&vec![b'k'; REQUEST_BYTES_MAX], 1))
        .await;
    expect(put, Code::InvalidArgument, too_large);
    let put = client.kv.put(put_of(b"key", REQUEST_BYTES_MAX - 100)).await;
    put.expect("a request just below the limit is taken");
    let put = client.kv.put(put_of(b"key", 3 << 20)).await;
    expect(
        put,
        Code::ResourceExhausted,
        "grpc: received message larger than max (",
    );

    let operation = |request| RequestOp {
        request: Some(request),
    };
    let ranges = (0..129).map(|_| {
        operation(request_op::Request::RequestRange(RangeRequest {
            key: "k".into(),
            ..RangeRequest::default()
        }))
    });
    let txn = TxnRequest {
        success: ranges.collect(),
        ..TxnRequest::default()
    };
    let too_many = "etcdserver: too many operations in txn request";
    expect(client.kv.txn(txn).await, Code::InvalidArgument, too_many);
    let delete = DeleteRangeRequest {
        key: "k".into(),
        ..DeleteRangeRequest::default()
    };
    let twice = vec![
        operation(request_op::Request::RequestPut(put_of(b"k", 1))),
        operation(request_op::Request::RequestDeleteRange(delete)),
    ];
    let txn = TxnRequest {
        success: twice,
        ..TxnRequest::default()
    };
    let duplicate = "etcdserver: duplicate key given in txn request";
    expect(client.kv.txn(txn).await, Code::InvalidArgument, duplicate);
    expect(
        client.get("k", 1 << 40).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
}

#[test]
fn malformed_messages_and_unknown_methods_are_refused() {
    let _turn = turn::take("malformed messages");
    let server = Setup::engram().start();
    client::runtime().block_on(ask_malformed(&server));
    serves(&server);
}

async fn ask_malformed(server: &Server) {
    let client = Client::connect(server.address()).await;
    let call =
        |path: &'static str, message: Vec<u8>| http2::call(client.channel.clone(), path, message);
    // A length beyond the end; a varint without end; a field number 0; a group that is not closed.
    let broken: [&[u8]; 4] = [
        &[0x0a, 0x7f, 1],
        &[0x18, 0xff, 0xff],
        &[0x00, 1],
        &[0x0b, 0x08, 1],
    ];
    let methods = [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/DeleteRange",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.KV/Compact",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Maintenance/Alarm",
        "/etcdserverpb.Cluster/MemberList",
    ];
    for path in methods {
        for message in broken {
            let answer = call(path, message.to_vec()).await;
            let status = answer.expect_err("a malformed message is refused");
            assert_eq!(
                status.code(),
                Code::Internal,
                "{path} {message:x?}: {status}"
            );
        }
    }
    // Transactions in transactions, deeper than any stack.
    let mut nested = Vec::new();
    while nested.len() < REQUEST_BYTES_MAX / 2 {
        let operation = wrapped(0x22, &nested);
        nested = wrapped(0x12, &operation);
        if nested.len() > 100_000 {
            break;
        }
    }
    call("/etcdserverpb.KV/Txn", nested)
        .await
        .expect_err("a bottomless transaction is refused");

    expect(
        call("/etcdserverpb.KV/Nope", Vec::new()).await,
        Code::Unimplemented,
        "unknown method Nope for service etcdserverpb.KV",
    );
    expect(
        call("/no.such.Service/Method", Vec::new()).await,
        Code::Unimplemented,
        "unknown service no.such.Service",
    );
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    expect(
        call(reflection, Vec::new()).await,
        Code::Unimplemented,
        "unknown service",
    );
}

/// A protobuf field of bytes around `inner`.
fn wrapped(tag: u8, inner: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    let mut rest = inner.len();
    while rest >= 128 {
        message.push(u8::try_from(rest % 128).expect("less than 128") | 128);
        rest /= 128;
    }
    message.push(u8::try_from(rest).expect("less than 128"));
    message.extend(inner);
    message
}

#[test]
fn broken_http2_costs_its_own_connection_and_nothing_else() {
    let _turn = turn::take("broken HTTP/2");
    let server = Setup::engram().start();
    let settings = frame(frame_type::SETTINGS, 0, 0, &[]);
    let begin = [PREFACE, &settings].concat();
    let after = |more: Vec<u8>| [begin.clone(), more].concat();
    let range = "/etcdserverpb.KV/Range";
    let huge = vec![b'h'; 64 * 1024];
    let huge_block = header_block(&http2::grpc_fields(range, &[("huge", &huge)]));
    let first = &huge_block[..16_000];
    let oversized_header = [
        frame(frame_type::HEADERS, END_STREAM, 1, first),
        huge_block[16_000..]
            .chunks(16_000)
            .flat_map(|part| frame(frame_type::CONTINUATION, 0, 1, part))
            .collect(),
        frame(frame_type::CONTINUATION, END_HEADERS, 1, &[]),
    ];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "garbage",
            b"\x00\xff\x13\x37 this is no protocol \r\n\r\n".repeat(100),
        ),
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface and garbage", [PREFACE, &[0xa5; 500]].concat()),
        (
            "a frame of 16 MiB",
            after(vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        ),
        (
            "DATA on stream 0",
            after(frame(frame_type::DATA, 0, 0, b"data")),
        ),
        (
            "DATA on an idle stream",
            after(frame(frame_type::DATA, END_STREAM, 9, b"data")),
        ),
        (
            "SETTINGS of 5 bytes",
            after(frame(frame_type::SETTINGS, 0, 0, &[0; 5])),
        ),
        (
            "PING of 3 bytes",
            after(frame(frame_type::PING, 0, 0, &[0; 3])),
        ),
        (
            "WINDOW_UPDATE of 0",
            after(frame(frame_type::WINDOW_UPDATE, 0, 0, &[0; 4])),
        ),
        (
            "an even stream",
            after(frame(frame_type::HEADERS, END_HEADERS, 2, &[0x82])),
        ),
        (
            "HPACK garbage",
            after(frame(frame_type::HEADERS, END_HEADERS, 1, &[0xff; 60])),
        ),
        (
            "CONTINUATION first",
            after(frame(frame_type::CONTINUATION, 0, 1, &[0x82])),
        ),
        ("an oversized header", after(oversized_header.concat())),
        ("endless CONTINUATION", after(endless_continuation())),
        (
            "HTTP/1 garbage",
            b"GET /health HTTP/9.9\r\nno colon\r\n\r\n".to_vec(),
        ),
        (
            "an endless HTTP/1 header",
            [b"GET / HTTP/1.1\r\nA: ", &huge.repeat(20)[..]].concat(),
        ),
        (
            "a length beyond the body",
            grpc_call(range, &[], &[0, 0, 0, 0, 99, 1]),
        ),
        (
            "a message of 4 GiB",
            grpc_call(range, &[], &[0, 0xff, 0xff, 0xff, 0xff, 1]),
        ),
        (
            "compression nobody agreed on",
            grpc_call(range, &[], &[1, 0, 0, 0, 1, 1]),
        ),
        ("a body of one byte", grpc_call(range, &[], &[0])),
        (
            "metadata that is no text",
            grpc_call(range, &[("token", b"\xff\xfe\x80")], &[0; 5]),
        ),
        (
            "a control character",
            grpc_call(range, &[("token", b"a\x00b")], &[0; 5]),
        ),
        (
            "bad binary metadata",
            grpc_call(range, &[("x-bin", b"*not base64*")], &[0; 5]),
        ),
        (
            "an impossible timeout",
            grpc_call(range, &[("grpc-timeout", b"9999999999Y")], &[0; 5]),
        ),
        (
            "a foreign content type",
            grpc_call(range, &[("content-type", b"text/x")], &[0; 5]),
        ),
    ];
    for (name, bytes) in cases {
        let exchange = send_raw(server.address(), &bytes, Duration::from_millis(300));
        // Something is answered, or the connection ends, or the server waits for the rest of it.
        let waits_for_more = matches!(name, "half a preface" | "an endless HTTP/1 header");
        assert!(
            exchange.closed || !exchange.received.is_empty() || waits_for_more,
            "{name}: no answer, and the connection stays open"
        );
        let health = server.try_etcdctl(&["get", "foo"]);
        assert!(health.status.success(), "after {name}: {}", health.text());
    }
    let output = server.output();
    assert!(!output.contains("panic"), "{output}");
    serves(&server);
}

/// A header block that never ends: the server has to stop reading it.
fn endless_continuation() -> Vec<u8> {
    let part = header_block(&[("a", &[b'x'; 100])]).repeat(100);
    let mut frames = frame(frame_type::HEADERS, 0, 1, &part);
    for _ in 0..200 {
        frames.extend(frame(frame_type::CONTINUATION, 0, 1, &part));
    }
    frames
}

#[test]
fn unknown_flags_and_bad_values_end_with_a_sentence() {
    let _turn = turn::take("bad flags");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data_dir = scratch.path().join("data");
    let refused = |argument: &str, code: i32, sentence: &str| {
        let mut command = tools::command(&tools::engram());
        command
            .arg(format!("--data-dir={}", data_dir.display()))
            .args(argument.split(' '));
        let finished = tools::run(&mut command, tools::TOOL_LIMIT);
        let said = finished.text();
        assert_eq!(finished.status.code(), Some(code), "{argument}: {said}");
        assert!(
            said.contains(sentence),
            "{argument} should say {sentence}: {said}"
        );
        assert!(!said.contains("panicked"), "{argument}: {said}");
        assert!(
            !data_dir.exists(),
            "{argument}: a refused start made a data directory"
        );
    };
    let cases = [
        ("--nope", 2, "flag provided but not defined: -nope"),
        (
            "--election-timeout=soon",
            2,
            "invalid value \"soon\" for flag -election-timeout",
        ),
        (
            "--quota-backend-bytes=much",
            2,
            "invalid value \"much\" for flag -quota-backend-bytes",
        ),
        (
            "--listen-client-urls=localhost",
            2,
            "for flag -listen-client-urls",
        ),
        ("--feature-gates=NoSuchGate=true", 2, "NoSuchGate"),
        ("--data-dir", 2, "flag needs an argument: -data-dir"),
        ("stray", 1, "is not a valid flag"),
        (
            "--heartbeat-interval=1000 --election-timeout=1000",
            1,
            "election-timeout",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:1",
            1,
            "--advertise-client-urls is required",
        ),
        (
            "--auto-compaction-mode=sometimes",
            1,
            "auto-compaction-mode",
        ),
        ("--config-file=/no/such/file", 1, "/no/such/file"),
    ];
    for (argument, code, sentence) in cases {
        refused(argument, code, sentence);
    }
}
