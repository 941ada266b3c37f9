//! The JSON gateway and a real etcd's, asked the same, one request after another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;

/// No answer takes as long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An answer: the status, the headers that say something of it, the body.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: String,
    pub headers: Vec<String>,
    pub body: String,
}

/// Sends a request; what the answer is read from.
fn send(server: &Server, request: &str, headers: &str, body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

pub fn line(from: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// The status line, and the headers that are the gateway's.
fn head(from: &mut BufReader<TcpStream>) -> (String, Vec<String>) {
    let status = line(from);
    let lines = std::iter::repeat_with(|| line(from).to_lowercase());
    let mut headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    headers.retain(|line| {
        let name = line.split(':').next().unwrap_or_default();
        name.starts_with("access-control") || name.contains("content-type") || name == "location"
    });
    headers.sort();
    (status, headers)
}

pub fn ask(server: &Server, request: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("Connection: close\r\n{headers}");
    let mut from = send(server, request, &headers, body);
    let (status, headers) = head(&mut from);
    let mut body = String::new();
    from.read_to_string(&mut body).unwrap();
    // The sizes of chunks come and go with the width of ids.
    let is_size = |line: &str| !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
    let lines: Vec<_> = body
        .split('\n')
        .filter(|line| !is_size(line.trim_end()))
        .collect();
    let body = neutral(&lines.join("\n"));
    Answer {
        status,
        headers,
        body,
    }
}

/// The text without what differs from server to server.
pub fn neutral(text: &str) -> String {
    ["cluster_id", "member_id", "raft_term"]
        .iter()
        .fold(text.to_owned(), |text, name| {
            let key = format!("\"{name}\":\"");
            let mut parts = text.split(&key);
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |out, part| {
                let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{out}{key}_{rest}")
            })
        })
}

/// The code of an error's body.
fn code(body: &str) -> i64 {
    let error: serde_json::Value = serde_json::from_str(body).unwrap();
    error["code"].as_i64().unwrap()
}

/// Path and body of requests that are answered to the letter as etcd answers them, in an order in
/// which each means something. The first five are those of etcd's documentation.
const TO_THE_LETTER: &[(&str, &str)] = &[
    ("kv/put", r#"{"key": "Zm9v", "value": "YmFy"}"#),
    ("kv/range", r#"{"key": "Zm9v"}"#),
    ("kv/range", r#"{"key": "Zm9v", "range_end": "Zm9w"}"#),
    (
        "kv/txn",
        r#"{"compare":[{"createRevision":"2","target":"CREATE","key":"Zm9v"}],"success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}]}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"version":"4","result":"EQUAL","target":"VERSION","key":"Zm9v"}],"success":[{"requestRange":{"key":"Zm9v"}}]}"#,
    ),
    (
        "kv/put",
        r#"{"key":"Zm9v","value":"YmFy","prevKv":true,"lease":"0"}"#,
    ),
    ("kv/put", r#"{"key":"_-8=","value":"PD4m"}"#),
    ("kv/range", r#"{"key":"/+8"}"#),
    (
        "kv/range",
        r#"{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sortTarget":2,"limit":"1"}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v","count_only":true,"foo":{"a":1}}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v","sort_order":"WHAT","limit":1e0}"#,
    ),
    ("kv/range", r#"{"key":"Zm9v","sort_order":77}"#),
    ("kv/range", r#"{"key":"Zm9v","revision":99}"#),
    ("kv/range", r#"{"key":"Zm9v"} {"key":"AA=="} and more"#),
    ("kv/range", ""),
    ("kv/range", "{}"),
    ("kv/range", r#"{"key":null}"#),
    ("kv/range", r#"{"KEY":"Zm9v"}"#),
    ("kv/range", r#"{"key":"Zm9v""#),
    ("kv/put", r#"{"key":"Zm9v","lease":"5"}"#),
    (
        "kv/txn",
        r#"{"failure":[{"request_range":{"key":"Zm9v"}}],"compare":[{"version":"9","key":"Zm9v"}]}"#,
    ),
    (
        "kv/txn",
        r#"{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}"#,
    ),
    (
        "kv/txn",
        r#"{"success":[{"request_txn":{"success":[{"request_delete_range":{"key":"YQ=="}},{"request_put":{"key":"Yg==","prev_kv":true}}]}}]}"#,
    ),
    ("lease/grant", r#"{"TTL":100,"ID":"77"}"#),
    ("lease/grant", r#"{"TTL":100,"ID":"77"}"#),
    ("kv/put", r#"{"key":"bGVhc2U=","lease":"77"}"#),
    ("kv/range", r#"{"key":"bGVhc2U="}"#),
    ("lease/timetolive", r#"{"ID":"78"}"#),
    ("kv/lease/timetolive", r#"{"ID":"78"}"#),
    ("lease/leases", "{}"),
    ("kv/lease/leases", "{}"),
    ("lease/keepalive", r#"{"ID":77}"#),
    ("lease/keepalive", r#"{"ID":77}{"ID":"78"}"#),
    ("lease/revoke", r#"{"ID":"77"}"#),
    ("kv/lease/revoke", r#"{"ID":"77"}"#),
    ("kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#),
    ("kv/compaction", r#"{"revision":"3"}"#),
    ("kv/compaction", r#"{"revision":"3"}"#),
    ("kv/compaction", r#"{"revision":"900"}"#),
    ("kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
    ("lease/grant", r#"{"TTL":100,"ID":"99"}"#),
    ("lock/lock", r#"{"name":"bQ==","lease":"99"}"#),
    ("lock/lock", r#"{"name":"bQ==","lease":"5"}"#),
    ("lock/unlock", r#"{"key":"bS82Mw=="}"#),
    ("election/leader", r#"{"name":"ZQ=="}"#),
    (
        "election/campaign",
        r#"{"name":"ZQ==","lease":"99","value":"dg=="}"#,
    ),
    ("election/leader", r#"{"name":"ZQ=="}"#),
    ("election/proclaim", "{}"),
    ("maintenance/alarm", r#"{"action":"GET"}"#),
    ("maintenance/downgrade", r#"{"version":"x"}"#),
    ("maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    ("cluster/member/remove", r#"{"ID":"1"}"#),
    ("cluster/member/promote", r#"{"ID":"1"}"#),
    ("auth/status", "{}"),
    ("auth/enable", "{}"),
    ("auth/user/add", "{}"),
    ("auth/user/list", "{}"),
    ("auth/user/get", r#"{"name":"x"}"#),
    ("auth/role/list", "{}"),
    ("auth/authenticate", r#"{"name":"a","password":"b"}"#),
    ("kv/nothing", "{}"),
    ("kv/range/", "{}"),
    ("", "{}"),
];

/// Requests that etcd refuses as no messages: in words of its own reader, so only the code is compared.
const UNREADABLE: &[&str] = &[
    r#"{"key":"***"}"#,
    r#"{"key":"Z"}"#,
    r#"{"key":1}"#,
    r#"{"key":"Zm9v","key":"Zm9w"}"#,
    r#"{"keys_only":true,"keysOnly":true}"#,
    r#"{"limit":"x"}"#,
    r#"{"limit":1.5}"#,
    r#"{"limit":99999999999999999999}"#,
    r#"{"serializable":"true"}"#,
    "[]",
    "null",
    "{bad",
    r#"{"key":"Zm9v",}"#,
];

#[test]
fn the_gateway_answers_as_a_real_etcds_does() {
    let _turn = turn::take("gateway");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for (path, body) in TO_THE_LETTER {
        let request = format!("POST /v3/{path}");
        let [wanted, got] = [&etcd, &server].map(|server| ask(server, &request, "", body));
        assert_eq!(got, wanted, "{path} {body}");
    }
    for body in UNREADABLE {
        let [wanted, got] =
            [&etcd, &server].map(|server| ask(server, "POST /v3/kv/range", "", body));
        assert_eq!(got.status, wanted.status, "{body}");
        assert_eq!(code(&got.body), code(&wanted.body), "{body}");
    }
    for (request, headers) in [
        ("GET /v3/kv/range", ""),
        ("PUT /v3/kv/range", ""),
        ("GET /v3", ""),
        ("OPTIONS /v3/kv/range", ""),
        ("POST /v3beta/auth/status", ""),
        ("POST /v3beta", ""),
        ("POST /v3/kv/range?key=Zm9v", ""),
        ("POST /v3/auth/status", "Content-Type: text/plain\r\n"),
        (
            "POST /v3/auth/status",
            "Origin: http://a\r\nAuthorization: x\r\n",
        ),
        ("POST /v3/kv/put", "Grpc-Timeout: x\r\n"),
        ("POST /v3/kv/range", "Grpc-Timeout: 1n\r\n"),
        ("POST /v3/kv/range", "Grpc-Timeout: -1S\r\n"),
        ("POST /v3/auth/status", "Grpc-Timeout: 000000000005S\r\n"),
        ("POST /v3/auth/status", "Grpc-Metadata-Foo-Bin: YQ\r\n"),
        ("POST /v3/auth/status", "Grpc-Metadata-Foo-Bin: ***\r\n"),
    ] {
        let [wanted, got] = [&etcd, &server].map(|server| ask(server, request, headers, ""));
        assert_eq!(got, wanted, "{request} {headers}");
    }
    // A form that says that it is another method.
    for (path, method) in [
        ("auth/status", "GET"),
        ("auth/status", "post"),
        ("kv/range", "POST"),
        ("kv/range", "what is this"),
        ("kv/nothing", "GET"),
    ] {
        let headers = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override: {method}\r\n"
        );
        let request = format!("POST /v3/{path}");
        let form = r#"{"key":"Zm9v"}"#;
        let [wanted, got] = [&etcd, &server].map(|server| ask(server, &request, &headers, form));
        assert_eq!(got, wanted, "{path} as {method}");
    }
    // etcd words it in one of two ways.
    let late = "Grpc-Timeout: 200m\r\n";
    let [wanted, got] = [&etcd, &server].map(|server| ask(server, "POST /v3/watch", late, ""));
    assert_eq!((got.status, got.headers), (wanted.status, wanted.headers));
    let text = r#"{"error":{"code":4,"message":"context deadline exceeded"}}"#;
    assert_eq!(got.body.trim_end(), text);
}

/// The first lines of a stream, each of which comes in a chunk of its own.
fn lines(server: &Server, path: &str, body: &str, count: usize) -> Vec<String> {
    let mut from = send(server, &format!("POST /v3/{path}"), "", body);
    let (status, headers) = head(&mut from);
    let lines = std::iter::repeat_with(|| line(&mut from)).filter(|line| line.starts_with('{'));
    let lines = lines.take(count).map(|line| neutral(&line));
    [status, headers.join("\n")]
        .into_iter()
        .chain(lines)
        .collect()
}

#[test]
fn streams_of_the_gateway_come_line_by_line() {
    let _turn = turn::take("streams of the gateway");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for server in [&etcd, &server] {
        for value in ["YQ==", "Yg==", "Yw=="] {
            let body = format!(r#"{{"key":"Zm9v","value":"{value}"}}"#);
            ask(server, "POST /v3/kv/put", "", &body);
        }
        ask(server, "POST /v3/kv/deleterange", "", r#"{"key":"Zm9v"}"#);
        ask(server, "POST /v3/kv/compaction", "", r#"{"revision":"3"}"#);
    }
    for (body, count) in [
        (r#"{"create_request": {"key":"Zm9v"} }"#, 1),
        (
            r#"{"createRequest":{"key":"Zm9v","startRevision":"3","prev_kv":true}}"#,
            2,
        ),
        (r#"{"create_request":{"key":"Zm9v","start_revision":1}}"#, 2),
        (
            r#"{"create_request":{"key":"Zm9v"}}{"create_request":{"key":"YQ==","watch_id":"7"}}{"cancel_request":{"watch_id":7}}"#,
            3,
        ),
    ] {
        let [wanted, got] = [&etcd, &server].map(|server| lines(server, "watch", body, count));
        assert_eq!(got, wanted, "{body}");
    }
    let [wanted, got] = [&etcd, &server].map(|server| {
        ask(
            server,
            "POST /v3/lease/grant",
            "",
            r#"{"TTL":100,"ID":"99"}"#,
        );
        let campaign = r#"{"name":"ZQ==","lease":"99","value":"dg=="}"#;
        ask(server, "POST /v3/election/campaign", "", campaign);
        lines(server, "election/observe", r#"{"name":"ZQ=="}"#, 1)
    });
    assert_eq!(got, wanted);
    // What is put while a watch is open is told at once.
    let [wanted, got] = [&etcd, &server].map(|server| {
        let body = r#"{"create_request":{"key":"bGl2ZQ=="}}"#;
        let mut from = send(server, "POST /v3/watch", "", body);
        let created = std::iter::repeat_with(|| line(&mut from)).find(|line| line.starts_with('{'));
        ask(
            server,
            "POST /v3/kv/put",
            "",
            r#"{"key":"bGl2ZQ==","value":"YQ=="}"#,
        );
        let told = std::iter::repeat_with(|| line(&mut from)).find(|line| line.starts_with('{'));
        [created, told].map(|line| neutral(&line.unwrap()))
    });
    assert_eq!(got, wanted);
    // A snapshot is a database in pieces, and ends.
    let snapshot = ask(&server, "POST /v3/maintenance/snapshot", "", "{}");
    assert_eq!(snapshot.status, "HTTP/1.1 200 OK");
    let results = snapshot.body.lines().filter(|line| line.starts_with('{'));
    let results: Vec<serde_json::Value> = results
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        results
            .iter()
            .all(|piece| piece["result"]["blob"].is_string())
    );
    assert!(results.len() > 1, "{}", snapshot.body.len());
}

#[test]
fn what_the_gateway_is_sent_is_bounded() {
    let _turn = turn::take("bounds of the gateway");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    // As large as etcd takes it, a little larger, and more than JSON can need for that.
    for (bytes, status) in [
        (3 << 19, "HTTP/1.1 400 Bad Request"),
        (3_000_000, "HTTP/1.1 429 Too Many Requests"),
    ] {
        let body = format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "AAAA".repeat(bytes / 3));
        let [wanted, got] =
            [&etcd, &server].map(|server| ask(server, "POST /v3/kv/put", "", &body));
        assert_eq!(got.status, status);
        assert_eq!(got, wanted, "{bytes} bytes");
    }
    let taken = format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "AAAA".repeat(499_000));
    let put = ask(&server, "POST /v3/kv/put", "", &taken);
    assert_eq!(put.status, "HTTP/1.1 200 OK", "{}", put.body);
    let read = ask(&server, "POST /v3/kv/range", "", r#"{"key":"Zm9v"}"#);
    assert!(read.body.contains(&"AAAA".repeat(499_000)));
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let refused = ask(&server, "POST /v3/kv/range", "", &deep);
    assert_eq!(refused.status, "HTTP/1.1 400 Bad Request");
    // A stream whose message cannot be read ends and says why.
    let refused = ask(&server, "POST /v3/watch", "", "{bad");
    assert_eq!(refused.status, "HTTP/1.1 400 Bad Request");
    assert!(
        refused.body.contains(r#"{"error":{"code":3,"#),
        "{}",
        refused.body
    );
    let without = Setup::engram().flag("--enable-grpc-gateway=false").start();
    let refused = ask(&without, "POST /v3/kv/range", "", "{}");
    assert_eq!(refused.status, "HTTP/1.1 404 Not Found");
}

#[test]
fn streams_of_one_client_of_the_gateway_are_not_counted_with_anothers() {
    let _turn = turn::take("streams of the gateway");
    // etcd's gateway is one client of its own server: two watches through it, whoever makes them, and
    // nobody else is answered there.
    let limit = "--max-concurrent-streams=2";
    let server = Setup::engram().flag(limit).start();
    let watch = || {
        let body = r#"{"create_request":{"key":"bGl2ZQ=="}}"#;
        let mut from = send(&server, "POST /v3/watch", "", body);
        let (status, _) = head(&mut from);
        assert_eq!(status, "HTTP/1.1 200 OK");
        let mut lines = std::iter::repeat_with(|| line(&mut from));
        let created = lines.find(|line| line.starts_with('{')).unwrap();
        assert!(created.contains(r#""created":true"#), "{created}");
        from
    };
    let mut watches: Vec<_> = std::iter::repeat_with(watch).take(4).collect();
    let put = r#"{"key":"bGl2ZQ==","value":"YQ=="}"#;
    assert_eq!(
        ask(&server, "POST /v3/kv/put", "", put).status,
        "HTTP/1.1 200 OK"
    );
    for from in &mut watches {
        let mut lines = std::iter::repeat_with(|| line(from));
        let told = lines.find(|line| line.starts_with('{')).unwrap();
        assert!(told.contains(r#""value":"YQ==""#), "{told}");
    }
}
