//! A client's connection, whole: frames of HTTP/2 with any call's headers and messages, HTTP/1.1 for pages, the
//! gateway and websockets, and whatever else comes, against a fake core with and without users. Nothing
//! panics, and what is sent back is whole frames.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic;
use std::sync::{Arc, Once};

use engram_api::fixture::Fake;
use engram_api::table::ROWS;
use engram_api::{Config, Edge};
use engram_net::{Limits, PeerAddress, PeerInfo, serve_connection};
use engram_proto::etcdserverpb as pb;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "connection",
    run,
    seeds,
    cases: 4_000,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a connection holds that the other end has not read.
const PIPE_BYTES: usize = 256 << 10;
/// Turns without a byte from the server, after which it waits for more from its client.
const QUIET_TURNS: usize = 12;
/// A watch or an election goes on for ever.
const TURNS_MAX: usize = 2_000;

/// Headers that mean something to somebody.
const NAMES: [&str; 24] = [
    ":authority",
    ":method",
    ":scheme",
    "accept",
    "accept-encoding",
    "access-control-request-method",
    "authorization",
    "client-api-version",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "hasleader",
    "host",
    "origin",
    "sec-websocket-protocol",
    "te",
    "token",
    "traceparent",
    "user-agent",
    "engram-snapshot",
];
/// Pages of HTTP, and paths that are not clean.
const PAGES: [&str; 16] = [
    "/health",
    "/livez?verbose",
    "/readyz?exclude=serializable_read",
    "/metrics",
    "/version",
    "/debug/vars",
    "/config/local/log",
    "/debug/pprof/profile",
    "/v3/kv/range",
    "/v3/watch",
    "/v3/lease/keepalive",
    "/v3/auth/authenticate",
    "/v3/kv/txn",
    "/a/../%68ealth/.",
    "/v2/keys",
    "*",
];

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let mut sent = match kind % 8 {
        0..=3 => http2(&mut input),
        4 | 5 => http1(&mut input),
        6 => [PREFACE, input.rest()].concat(),
        _ => input.rest().to_vec(),
    };
    // The pipe takes it, whatever its other end does.
    sent.truncate(PIPE_BYTES);
    let has_users = kind & 0x80 != 0;
    // In how many bytes it comes.
    let piece = [usize::MAX, 1 << 12, 67, 9][usize::from(kind >> 4) % 4];
    let (panics, answer) = (panics(), converse(has_users, &sent, piece));
    assert_eq!(panics, self::panics(), "a call panicked");
    if sent.starts_with(PREFACE) {
        assert!(is_whole_frames(&answer), "half a frame is sent");
    }
}

/// What the server says to what a client sends.
fn converse(has_users: bool, sent: &[u8], piece: usize) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let fake = match has_users {
            true => Fake::with_users(),
            false => Fake::default(),
        };
        let edge = Edge::new(Arc::new(fake), Config::default());
        let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 2379));
        let peer = PeerInfo::new(PeerAddress::Tcp(local), Some(local), false, None);
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let serving = tokio::spawn(async move {
            serve_connection(server, edge, peer, &Limits::default(), stopped).await
        });
        let mut answer = Vec::new();
        for piece in sent.chunks(piece) {
            if client.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        read_until_quiet(&mut client, &mut answer).await;
        // A client that is gone is heard of.
        let _ = client.shutdown().await;
        read_until_quiet(&mut client, &mut answer).await;
        serving.abort();
        if let Err(ended) = serving.await {
            assert!(!ended.is_panic(), "the connection panicked");
        }
        answer
    })
}

async fn read_until_quiet(client: &mut DuplexStream, answer: &mut Vec<u8>) {
    let (mut quiet, mut turns) = (0, 0);
    let mut piece = [0; 4096];
    while quiet < QUIET_TURNS && turns < TURNS_MAX {
        turns += 1;
        quiet += 1;
        tokio::select! {
            biased;
            read = client.read(&mut piece) => match read {
                Ok(bytes @ 1..) => {
                    answer.extend_from_slice(&piece[..bytes]);
                    quiet = 0;
                }
                _ => return,
            },
            () = tokio::task::yield_now() => {}
        }
    }
}

/// The server ends a connection where it likes, but within no frame that it has begun.
fn is_whole_frames(mut bytes: &[u8]) -> bool {
    while let Some((header, rest)) = bytes.split_at_checked(FRAME_HEADER) {
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        match rest.get(len..) {
            Some(next) => bytes = next,
            None => return false,
        }
    }
    bytes.is_empty()
}

/// How often something has panicked on this thread.
fn panics() -> usize {
    thread_local! {
        static PANICS: Cell<usize> = const { Cell::new(0) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.get()
}

/// A client that speaks HTTP/2: calls, and frames of any kind among theirs.
fn http2(input: &mut Input<'_>) -> Vec<u8> {
    let mut sent = PREFACE.to_vec();
    let mut stream = 1;
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    while !input.is_empty() {
        match input.byte() % 8 {
            0..=3 => {
                let at = usize::from(input.short()) % ROWS.len();
                sent.extend(call(ROWS[at].path, stream, input));
                stream += 2;
            }
            4 => {
                let path = PAGES[input.below(PAGES.len())];
                sent.extend(call(path, stream, input));
                stream += 2;
            }
            // To a stream that is open, perhaps.
            5 => {
                let (flags, of) = (input.byte() % 2, input.byte());
                sent.extend(frame(DATA, flags, u32::from(of), &message(input)));
            }
            _ => {
                let (kind, flags, of) = (input.byte() % 12, input.byte(), input.byte());
                sent.extend(frame(kind, flags, u32::from(of), input.piece()));
            }
        }
    }
    sent
}

fn call(path: &str, stream: u32, input: &mut Input<'_>) -> Vec<u8> {
    let mut headers = Vec::new();
    let shape = input.byte();
    let method = if shape & 1 == 0 { "POST" } else { "GET" };
    literal(&mut headers, ":method", method.as_bytes());
    literal(&mut headers, ":scheme", b"http");
    literal(&mut headers, ":path", path.as_bytes());
    literal(&mut headers, "content-type", b"application/grpc");
    literal(&mut headers, "te", b"trailers");
    for _ in 0..(shape >> 1) % 4 {
        match input.byte() {
            name @ 0..0xf0 => {
                let name = NAMES[usize::from(name) % NAMES.len()];
                literal(&mut headers, name, input.piece());
            }
            // As old clients have it: remembered, by a name of the static table.
            0xf0..0xf8 => {
                headers.push(0x41);
                string(&mut headers, input.piece());
            }
            _ => headers.extend_from_slice(input.piece()),
        }
    }
    let is_empty = shape & 0x40 != 0;
    let flags = END_HEADERS | if is_empty { END_STREAM } else { 0 };
    let mut sent = frame(HEADERS, flags, stream, &headers);
    if !is_empty {
        let messages = 1 + usize::from(shape >> 3) % 3;
        for left in (0..messages).rev() {
            let ends = left == 0 && shape & 0x80 == 0;
            sent.extend(frame(DATA, u8::from(ends), stream, &message(input)));
        }
    }
    sent
}

/// A message behind gRPC's prefix, mostly of the right length.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let (flag, odd) = (input.byte(), input.byte());
    let message = input.piece();
    let said = match odd {
        0xf0.. => u32::from(odd & 0xf) << (odd % 28),
        _ => message.len() as u32,
    };
    [&[flag % 3][..], &said.to_be_bytes(), message].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    let mut frame = len.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header that nobody remembers, by its name.
fn literal(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    string(block, name.as_bytes());
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut len = text.len();
    match len {
        0..0x7f => block.push(len as u8),
        _ => {
            block.push(0x7f);
            len -= 0x7f;
            while len >= 0x80 {
                block.push(len as u8 | 0x80);
                len >>= 7;
            }
            block.push(len as u8);
        }
    }
    block.extend_from_slice(text);
}

/// A client that speaks HTTP/1.1: pages, the gateway, a websocket with frames.
fn http1(input: &mut Input<'_>) -> Vec<u8> {
    let mut sent = Vec::new();
    while !input.is_empty() {
        let shape = input.byte();
        let method = ["GET", "POST", "HEAD", "OPTIONS", "PUT"][usize::from(shape) % 5];
        let path = PAGES[input.below(PAGES.len())];
        sent.extend(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n").bytes());
        for _ in 0..(shape >> 4) % 4 {
            let name = NAMES[3 + input.below(NAMES.len() - 3)];
            sent.extend(format!("{name}: ").bytes());
            let value = input.piece().iter().filter(|byte| **byte >= b' ');
            sent.extend(value);
            sent.extend(b"\r\n");
        }
        if shape & 0xc0 == 0xc0 {
            sent.extend(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
            while !input.is_empty() {
                sent.extend(websocket_frame(input));
            }
            return sent;
        }
        let body = input.piece();
        match shape & 0x40 {
            0 => sent.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes()),
            _ => sent
                .extend(format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()).bytes()),
        }
        sent.extend(body);
        if shape & 0x40 != 0 {
            sent.extend(b"\r\n0\r\n\r\n");
        }
    }
    sent
}

/// A frame as a client has to send it: masked, here by zeros.
fn websocket_frame(input: &mut Input<'_>) -> Vec<u8> {
    let (first, payload) = (input.byte(), input.piece());
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn seeds() -> Vec<Vec<u8>> {
    let range = pb::RangeRequest {
        key: "k00".into(),
        range_end: "k1".into(),
        limit: 3,
        ..pb::RangeRequest::default()
    };
    let create = pb::WatchCreateRequest {
        key: "k".into(),
        ..pb::WatchCreateRequest::default()
    };
    let watch = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let login = pb::AuthenticateRequest {
        name: "user".into(),
        password: "pw".into(),
    };
    let piece = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    // Each call with a message that fits it, or nearly so.
    let mut seeds: Vec<Vec<u8>> = (0..ROWS.len())
        .map(|at| {
            let message = match ROWS[at].path {
                "/etcdserverpb.KV/Range" | "/etcdserverpb.KV/RangeStream" => range.encode_to_vec(),
                "/etcdserverpb.Watch/Watch" => watch.encode_to_vec(),
                "/etcdserverpb.Auth/Authenticate" => login.encode_to_vec(),
                _ => b"\x0a\x01a\x12\x01b".to_vec(),
            };
            let kind = if at % 3 == 0 { 0x80 } else { 0 };
            let call = [
                &[kind, 0, at as u8, 0, 2, 20][..],
                &piece(b"root."),
                &[0, 0],
            ]
            .concat();
            [call, piece(&message)].concat()
        })
        .collect();
    let upgraded = |text: &[u8]| [&[4, 0xc3, 9][..], &[0x81], &piece(text)].concat();
    seeds.extend([
        // Pages, the gateway with a body, in chunks too, and a token; a websocket.
        vec![4, 0, 0, 0, 5, 3, 0, 10, 5, 0],
        [&[4, 1, 8][..], &piece(br#"{"key":"azAwMA=="}"#)].concat(),
        [&[4, 0x42, 8][..], &piece(br#"{"key":"azAwMA=="}"#)].concat(),
        [
            &[0x84, 0x10, 8, 3][..],
            &piece(b"user."),
            &piece(br#"{"key":"azAwMA=="}"#),
        ]
        .concat(),
        upgraded(br#"{"create_request":{"key":"aw=="}}"#),
        [upgraded(b"{"), vec![0x89, 0, 0x88, 2, 3, 0xe8]].concat(),
        // An authority of an old client; headers that go on in another frame.
        [
            &[0, 0, 1, 0, 2, 0xf1][..],
            &piece(b"#initially=[a:1]"),
            &[0, 0],
            &piece(b"\x0a\x01a"),
        ]
        .concat(),
        vec![0, 6, 1, 0, 1, 3, 0x82, 0x84, 0x86, 6, 9, 4, 1, 1, 0x41],
        // Settings, a ping, a reset, a window.
        [
            &[0, 6, 4, 0, 0][..],
            &piece(&[0, 4, 0, 0, 0, 0]),
            &[6, 6, 0, 0],
            &piece(&[0; 8]),
        ]
        .concat(),
        [
            &[0, 6, 3, 0, 1][..],
            &piece(&[0, 0, 0, 8]),
            &[6, 8, 0, 0],
            &piece(&[0, 0, 1, 0]),
        ]
        .concat(),
        b"\x07GET /health HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"\x07\x16\x03\x01\x00\x05".to_vec(),
    ]);
    seeds
}
