//! Requests that are not quite what today's clients send, beside a real etcd.

use std::io::{Read, Write};
use std::net::TcpStream;

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use tonic_prost::prost::bytes::Bytes;

use super::gateway::{PATIENCE, ask};

/// A request over HTTP/2.
struct Call<'a> {
    method: &'a str,
    path: &'a str,
    content_type: &'a str,
    /// Headers besides.
    headers: &'a [(&'a str, &'a str)],
    /// Bytes of a header besides.
    metadata: usize,
    body: &'static [u8],
}

impl Call<'_> {
    /// A range of the key "a", in order.
    const RANGE: Call<'static> = Call {
        method: "POST",
        path: RANGE,
        content_type: GRPC,
        headers: &[],
        metadata: 1,
        body: OF_A,
    };
}

/// A call's end: HTTP's status, the content type, gRPC's status and message.
type End = (u16, String, String, String);

const GRPC: &str = "application/grpc";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// A range of the key "a", framed.
const OF_A: &[u8] = b"\0\0\0\0\x03\x0a\x01a";

fn end(server: &Server, call: &Call<'_>) -> Result<End, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let answered = tokio::time::timeout(PATIENCE, answer(server, call)).await;
        answered.unwrap().map_err(|error| error.to_string())
    })
}

async fn answer(server: &Server, call: &Call<'_>) -> Result<End, h2::Error> {
    let stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let mut builder = h2::client::Builder::new();
    builder.max_header_list_size(1 << 20);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await?;
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(call.method)
        .uri(format!("http://localhost{}", call.path))
        .header("te", "trailers")
        .header("content-type", call.content_type)
        .header("x", "a".repeat(call.metadata));
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let mut sender = sender.ready().await?;
    let (answer, mut body) = sender.send_request(request, false)?;
    // It may have been answered already.
    let _ = body.send_data(Bytes::from_static(call.body), true);
    let (head, mut body) = answer.await?.into_parts();
    while let Some(data) = body.data().await {
        let _ = body.flow_control().release_capacity(data?.len());
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let text = |name: &str| {
        let value = head.headers.get(name).or_else(|| trailers.get(name));
        value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    // grpc-go encodes less of a message than it may.
    let message = text("grpc-message")
        .replace("%20", " ")
        .replace("%22", "\"")
        .replace("%3F", "?");
    Ok((
        head.status.as_u16(),
        text("content-type"),
        text("grpc-status"),
        message,
    ))
}

#[test]
fn odd_calls_end_as_on_a_real_etcd() {
    let _turn = turn::take("odd clients");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    let grpc = GRPC;
    for (path, content_type) in [
        (RANGE, grpc),
        (RANGE, "application/grpc+proto"),
        (RANGE, "application/grpc;proto"),
        (RANGE, "application/grpc+"),
        (RANGE, "application/grpcx"),
        (RANGE, "text/plain"),
        ("/etcdserverpb.KV", grpc),
        ("/etcdserverpb.KV/", grpc),
        ("/etcdserverpb.KV/Nothing", grpc),
        ("/nothing.KV/Range", grpc),
        ("/a/etcdserverpb.KV/Range", grpc),
        ("/grpc.health.v1.Health/List", grpc),
        ("//etcdserverpb.KV/Range", grpc),
        ("/etcdserverpb.KV/Range?a=b", grpc),
    ] {
        let call = Call {
            path,
            content_type,
            ..Call::RANGE
        };
        let [wanted, got] = [&etcd, &server].map(|server| end(server, &call));
        assert_eq!(got, wanted, "{path} {content_type}");
    }
    for metadata in [100_000, 300_000] {
        let call = Call {
            metadata,
            ..Call::RANGE
        };
        let [wanted, got] = [&etcd, &server].map(|server| end(server, &call));
        assert_eq!(got, wanted, "{metadata} bytes of metadata");
        assert_eq!(got.unwrap().2, "0", "{metadata} bytes of metadata");
    }
    for request in [
        "OPTIONS /health",
        "OPTIONS /metrics",
        "GET /config/local/log",
    ] {
        let [wanted, got] = [&etcd, &server].map(|server| ask(server, request, "", ""));
        assert_eq!(got, wanted, "{request}");
    }
}

#[test]
fn calls_with_an_odd_head_or_body_end_as_on_a_real_etcd() {
    let _turn = turn::take("odd clients");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    let alike = |call: &Call<'_>, what: &str| {
        let [wanted, got] = [&etcd, &server].map(|server| end(server, call));
        assert_eq!(got, wanted, "{what}");
    };
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let call = Call {
            method,
            ..Call::RANGE
        };
        alike(&call, method);
    }
    for timeout in [
        "1",
        "1X",
        "999999999S",
        "1.5S",
        "+1S",
        "-1S",
        "S",
        "99999999S",
        "1H",
    ] {
        let call = Call {
            headers: &[("grpc-timeout", timeout)],
            ..Call::RANGE
        };
        alike(&call, &format!("a time limit of {timeout}"));
    }
    // etcd ends this one so, or by a reset, as it happens.
    let call = Call {
        headers: &[("grpc-timeout", "1n")],
        ..Call::RANGE
    };
    let late = ("4".to_owned(), "context deadline exceeded".to_owned());
    let ended = end(&server, &call).unwrap();
    assert_eq!((ended.2, ended.3), late);
    for value in ["YQ==", "YQ", "YQ=", "***", "YQ==YQ==", "Y"] {
        let call = Call {
            headers: &[("foo-bin", value)],
            ..Call::RANGE
        };
        alike(&call, &format!("binary metadata of {value}"));
    }
    for (body, what) in [
        (&b""[..], "nothing"),
        (b"\0\0", "half a prefix"),
        (b"\0\0\0\0\x20abc", "half a message"),
        (b"\0\0\0\0\x03\xff\xff\xff", "no message"),
        (b"\x01\0\0\0\x03\x0a\x01a", "compressed in no way"),
        (b"\x02\0\0\0\x03\x0a\x01a", "a prefix that means nothing"),
    ] {
        for path in [RANGE, "/etcdserverpb.KV/Txn", "/etcdserverpb.Watch/Watch"] {
            // A stream that says nothing is none's fault, and waits.
            if path.ends_with("/Watch") && what != "no message" {
                continue;
            }
            let call = Call {
                path,
                body,
                ..Call::RANGE
            };
            alike(&call, &format!("{what} to {path}"));
        }
    }
    let call = Call {
        path: "/etcdserverpb.Maintenance/Snapshot",
        body: b"",
        ..Call::RANGE
    };
    alike(&call, "a snapshot that is not asked for");
    let call = Call {
        path: "/etcdserverpb.Auth/UserGet",
        body: b"\0\0\0\0\x04\x0a\x02\xff\xfe",
        ..Call::RANGE
    };
    alike(&call, "a name that is no text");
    let call = Call {
        headers: &[("grpc-encoding", "gzip")],
        body: b"\x01\0\0\0\x03\x0a\x01a",
        ..Call::RANGE
    };
    alike(&call, "a message that is not gzip's");
}

/// A page's head and body over HTTP/1.1, without its date; the names of headers as they are written.
fn written(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head
        .lines()
        .filter(|line| !line.starts_with("Date: "))
        .collect();
    lines.sort_unstable();
    format!("{}\n\n{body}", lines.join("\n"))
}

#[test]
fn pages_are_written_and_found_as_on_a_real_etcd() {
    let _turn = turn::take("odd clients");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for request in [
        "GET /health",
        "HEAD /health",
        "GET /version",
        "GET /nothing",
        "GET //health",
        "POST //health",
        "GET /a/../version?b=c",
        "GET /%68ealth",
        "GET /health%2f",
        "GET /v3",
        "POST /v3",
        "POST /v3/kv//range",
        "GET /v3/kv/%72ange",
    ] {
        let [wanted, got] = [&etcd, &server].map(|server| written(server, request));
        assert_eq!(got, wanted, "{request}");
    }
}

/// The status, whether the connection ends with it, and the body, of a request as it stands.
fn refusal(server: &Server, request: &str) -> (String, bool, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (
        status.to_owned(),
        head.contains("Connection: close"),
        body.to_owned(),
    )
}

#[test]
fn what_is_no_request_is_refused_as_on_a_real_etcd() {
    let _turn = turn::take("odd clients");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for head in [
        "GET /version HTTP/1.1\r\n",
        "GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET /version HTTP/1.1\r\nHost: a b\r\n",
        "GET /version HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n",
        "GET /version HTTP/1.0\r\nHost: a/b\r\n",
    ] {
        let request = format!("{head}\r\n");
        let [wanted, got] = [&etcd, &server].map(|server| refusal(server, &request));
        assert_eq!(got, wanted, "{head}");
    }
    // Each says in its own words what the chunk is not.
    let chunked =
        "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    for server in [&etcd, &server] {
        let (status, _, body) = refusal(server, chunked);
        assert_eq!(status, "400");
        assert!(body.starts_with(r#"{"code":3,"message":"#), "{body}");
    }
}

/// A page as it came, and whether its head says that it is compressed.
fn page(server: &Server, path: &str, headers: &str) -> (bool, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = answer.split_off(end + 4);
    (head.contains("content-encoding: gzip"), body)
}

#[test]
fn pages_for_machines_have_what_a_real_etcds_have() {
    let _turn = turn::take("pages");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for asked in ["", "gzip", "deflate, gzip;q=0.5", "gzip;q=0", "identity"] {
        let headers = format!("Accept-Encoding: {asked}\r\n");
        let [wanted, got] = [&etcd, &server].map(|server| page(server, "/metrics", &headers));
        assert_eq!(got.0, wanted.0, "{asked}");
        assert_eq!(got.1.starts_with(&[0x1f, 0x8b]), got.0, "{asked}");
    }
    // Who asks for protobuf is given text, and has to take it.
    let protobuf = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                    encoding=delimited,text/plain;q=0.5\r\n";
    let (_, text) = page(&server, "/metrics", protobuf);
    assert!(text.starts_with(b"# HELP "), "{}", text.escape_ascii());
    let families = |server: &Server| {
        let text = String::from_utf8(page(server, "/metrics", "").1).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let ours = families(&server);
    let missing: Vec<_> = families(&etcd)
        .into_iter()
        .filter(|family| !ours.contains(family))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("go_info{version=\"none (Engram "),
        "it names no Go"
    );
    let variables = |server: &Server| -> Vec<String> {
        let text = page(server, "/debug/vars", "").1;
        let variables: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(variables["file_descriptor_limit"].as_u64() > Some(100));
        assert!(variables["raft.status"]["raftState"] == "StateLeader");
        variables.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(variables(&server), variables(&etcd));
}

/// Frames on a call's stream until it ends, by their types; `authority` is a string of HPACK, with its
/// length before it.
fn frames(stream: &mut TcpStream, id: u8, authority: &[u8]) -> Vec<u8> {
    let path = RANGE.as_bytes();
    let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path);
    block.extend_from_slice(authority);
    block.extend_from_slice(b"\x0f\x10\x10application/grpc\x00\x02te\x08trailers");
    let frame = |kind, flags, payload: &[u8]| {
        let len = u8::try_from(payload.len()).unwrap();
        [&[0, 0, len, kind, flags, 0, 0, 0, id][..], payload].concat()
    };
    let sent = [frame(1, 4, &block), frame(0, 1, OF_A)].concat();
    stream.write_all(&sent).unwrap();
    let mut kinds = Vec::new();
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).unwrap();
        let [_, a, b, kind, flags, .., of] = header;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([a, b]))];
        stream.read_exact(&mut payload).unwrap();
        if of == id && matches!(kind, 0 | 1 | 3) {
            kinds.push(kind);
            if kind == 3 || flags & 1 != 0 {
                return kinds;
            }
        }
    }
}

#[test]
fn authorities_of_old_clients_are_taken() {
    let _turn = turn::take("authorities of old clients");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    let plain = |text: &str| [&[0x41, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // What Go's client 3.5.0 says, in Huffman's code as it sends it.
    let of_3_5_0 = [
        &[0x41, 0x80 | 22][..],
        &[
            0xff, 0xa3, 0x54, 0x64, 0x98, 0x74, 0x51, 0xea, 0x0f, 0xfd, 0x84, 0x4e, 0xae, 0x05,
            0xc0, 0xb8, 0x6e, 0x09, 0x97, 0x5f, 0xff, 0xe7,
        ],
    ]
    .concat();
    for authority in [
        plain("127.0.0.1:2379"),
        plain(""),
        plain("/"),
        plain("#initially=[127.0.0.1:2379]"),
        of_3_5_0,
        plain("%23initially=%5B127.0.0.1:2379%5D"),
        plain("unix:///tmp/etcd.sock"),
        plain("localhost:2379,localhost:22379"),
    ] {
        let [wanted, got] = [&etcd, &server].map(|server| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            stream.write_all(begin).unwrap();
            let first = frames(&mut stream, 1, &authority);
            // The second time the server's table remembers it.
            [first, frames(&mut stream, 3, &[0xbe])]
        });
        let text = String::from_utf8_lossy(&authority);
        assert_eq!(got, wanted, "{text}");
        assert_eq!(got, [[1, 0, 1], [1, 0, 1]], "{text}");
    }
}

#[test]
fn an_answer_that_comes_before_the_requests_end_is_not_followed_by_a_reset() {
    let _turn = turn::take("early answers over HTTP/2");
    let server = Setup::engram().start();
    for path in ["/v3/nothing", "/health"] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend_from_slice(path.as_bytes());
        block.extend_from_slice(b"\x41\x01x");
        let frame = |kind, flags, payload: &[u8]| {
            let len = u8::try_from(payload.len()).unwrap();
            [&[0, 0, len, kind, flags, 0, 0, 0, 1][..], payload].concat()
        };
        let head = frame(1, 4, &block);
        let part = frame(0, 0, &[b'a'; 200]);
        stream
            .write_all(&[&begin[..], &head, &part].concat())
            .unwrap();
        // The next frame of the stream, or the answer to a ping: kind and flags.
        let next = || loop {
            let (mut reader, mut header) = (&stream, [0; 9]);
            reader.read_exact(&mut header).unwrap();
            let [_, a, b, kind, flags, .., of] = header;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([a, b]))];
            reader.read_exact(&mut payload).unwrap();
            if (of == 1 && kind != 8) || kind == 6 {
                break (kind, flags & 1);
            }
        };
        assert_eq!(next(), (1, 0), "{path}");
        while next() != (0, 1) {}
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        let end = frame(0, 1, &[b'a'; 200]);
        let rest = [&part[..], &end, &ping].concat();
        (&stream).write_all(&rest).unwrap();
        assert_eq!(
            next(),
            (6, 1),
            "{path}: nothing comes before the ping's answer"
        );
    }
}
