//! Websockets of the JSON gateway, Engram's and a real etcd's asked the same.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use tungstenite::protocol::{Message, Role, WebSocket};

use super::gateway::{Answer, PATIENCE, ask, line, neutral};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const ASKED: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";

/// A websocket, and the head of the answer that granted it.
fn open(server: &Server, path: &str, headers: &str) -> (WebSocket<TcpStream>, Vec<String>) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("GET /v3/{path} HTTP/1.1\r\nHost: x\r\n{ASKED}{KEY}{VERSION}{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut from = BufReader::new(stream.try_clone().unwrap());
    let lines = std::iter::repeat_with(|| line(&mut from).to_lowercase());
    let mut head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    head.retain(|line| !line.starts_with("date:"));
    head.sort();
    // Nobody has to be asked to say that there is no such path.
    let more = from.buffer().to_vec();
    let socket = WebSocket::from_partially_read(stream, more, Role::Client, None);
    (socket, head)
}

fn say(socket: &mut WebSocket<TcpStream>, text: &str) {
    socket.send(Message::text(text)).unwrap();
}

/// The next message; none where the server has ended the connection.
fn hear(socket: &mut WebSocket<TcpStream>) -> Option<String> {
    match socket.read() {
        Ok(Message::Text(text)) => Some(neutral(&text)),
        Ok(Message::Close(_)) => None,
        // etcd closes without a word of the protocol.
        Err(tungstenite::Error::Protocol(_) | tungstenite::Error::ConnectionClosed) => None,
        other => panic!("{other:?}"),
    }
}

/// What a watch is told over its life.
fn watched(server: &Server) -> Vec<Option<String>> {
    let (mut socket, head) = open(server, "watch", "");
    let mut told = vec![Some(head.join("\n"))];
    say(
        &mut socket,
        r#"{"create_request":{"key":"Zm9v","watch_id":"7"}}"#,
    );
    told.push(hear(&mut socket));
    for value in ["YQ==", "Yg=="] {
        let body = format!(r#"{{"key":"Zm9v","value":"{value}"}}"#);
        ask(server, "POST /v3/kv/put", "", &body);
        told.push(hear(&mut socket));
    }
    // In two frames, and two requests in one.
    let more =
        r#"{"create_request":{"key":"YQ==","watch_id":"8"}}{"cancel_request":{"watch_id":"7"}}"#;
    socket
        .send(Message::binary(more.as_bytes().to_vec()))
        .unwrap();
    told.push(hear(&mut socket));
    told.push(hear(&mut socket));
    socket.close(None).unwrap();
    told.push(hear(&mut socket));
    told
}

#[test]
fn a_watch_over_a_websocket_is_told_what_a_real_etcds_is() {
    let _turn = turn::take("websockets of the gateway");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    let [wanted, got] = [&etcd, &server].map(watched);
    assert_eq!(got, wanted);
    assert!(
        got.iter().filter(|told| told.is_some()).count() == 6,
        "{got:?}"
    );
    // etcd waits for the end of such a request, which a websocket has not.
    for (path, body, answer) in [
        ("kv/range", r#"{"key":"Zm9v"}"#, r#""value":"Yg==""#),
        (
            "kv/range",
            r#"{"key":"Zm9v","revision":"99"}"#,
            r#"{"code":11,"#,
        ),
        ("kv/nothing", "{}", r#"{"code":5,"message":"Not Found"}"#),
        ("lease/leases", "{}", r#"{"header":"#),
    ] {
        let (mut socket, _) = open(&server, path, "");
        say(&mut socket, body);
        let told = hear(&mut socket).unwrap();
        assert!(told.contains(answer), "{path} {body}: {told}");
        assert_eq!(hear(&mut socket), None, "{path} {body}");
    }
    let [wanted, got] = [&etcd, &server].map(|server| {
        let bearer = "Sec-WebSocket-Protocol: Bearer, x.1\r\nOrigin: http://a\r\n";
        open(server, "watch", bearer).1
    });
    assert_eq!(got, wanted);
}

#[test]
fn a_websocket_is_refused_as_a_real_etcd_refuses_it() {
    let _turn = turn::take("refused websockets of the gateway");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for (request, headers) in [
        ("POST /v3/watch", format!("{KEY}{VERSION}")),
        ("GET /v3/watch", KEY.to_owned()),
        ("GET /v3/watch", VERSION.to_owned()),
        (
            "GET /v3/watch",
            format!("{KEY}Sec-WebSocket-Version: 8\r\n"),
        ),
        (
            "GET /v3/watch",
            format!("{VERSION}Sec-WebSocket-Key: abc\r\n"),
        ),
        ("GET /health", format!("{KEY}{VERSION}")),
    ] {
        let headers = format!("{headers}Upgrade: websocket\r\nConnection: Upgrade\r\n");
        let [wanted, got]: [Answer; 2] =
            [&etcd, &server].map(|server| ask(server, request, &headers, ""));
        assert_eq!(got, wanted, "{request} {headers}");
    }
}

#[test]
fn what_a_websocket_is_sent_is_bounded() {
    let _turn = turn::take("bounds of websockets");
    let server = Setup::engram().start();
    let (mut socket, _) = open(&server, "watch", "");
    socket.send(Message::Ping("a".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("a".into()));
    // It may be ended before all of it was sent.
    let _ = socket.send(Message::text("x".repeat(200 << 10)));
    while let Ok(message) = socket.read() {
        assert!(matches!(message, Message::Close(_)), "{message:?}");
    }
    // The server serves on.
    let answer = ask(&server, "POST /v3/kv/range", "", r#"{"key":"Zm9v"}"#);
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
}
