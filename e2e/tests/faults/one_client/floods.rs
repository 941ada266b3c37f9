//! Frames that say nothing, as fast as they can be sent: after a bound a second the connection ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use engram_e2e::http2::{PREFACE, frame, frame_type};

use super::Scene;
use crate::case;

const PRIORITY: u8 = 2;
const GOAWAY: u8 = 7;
/// How long it may take until the server has enough of it.
const FLOOD_LIMIT: Duration = Duration::from_secs(5);
/// In one write.
const FRAMES: usize = 500;

#[test]
fn window_updates() {
    // On the connection, one byte each: never beyond what a window may be.
    let update = frame(frame_type::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    flood("flood of window updates", update);
}

#[test]
fn priorities() {
    flood(
        "flood of priorities",
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]),
    );
}

#[test]
fn settings() {
    flood("flood of settings", frame(frame_type::SETTINGS, 0, 0, &[]));
}

#[test]
fn pings() {
    flood("flood of pings", frame(frame_type::PING, 0, 0, &[7; 8]));
}

fn flood(name: &'static str, one: Vec<u8>) {
    let case = case::begin(name);
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let beside = scene.beside(async {
        let flooder = tokio::task::spawn_blocking(move || send(address, &one));
        flooder.await.expect("no panic")
    });
    let ended = scene.judge(&case, beside);
    case.saw(match &ended {
        Some((took, goaway)) => format!("ended after {took:.1?}, with GOAWAY: {goaway}"),
        None => format!("goes on after {FLOOD_LIMIT:?}"),
    });
    assert!(ended.is_some(), "the connection goes on");
}

/// Sends the frame again and again; how long the server bore it, and whether it said GOAWAY.
fn send(address: SocketAddr, one: &[u8]) -> Option<(Duration, bool)> {
    let mut connection = TcpStream::connect(address).expect("a connection");
    let short = Some(Duration::from_millis(1));
    connection
        .set_read_timeout(short)
        .expect("a timeout can be set");
    connection
        .set_write_timeout(Some(FLOOD_LIMIT))
        .expect("a timeout can be set");
    let settings = frame(frame_type::SETTINGS, 0, 0, &[]);
    connection
        .write_all(&[PREFACE, &settings].concat())
        .expect("the beginning is sent");
    let many = one.repeat(FRAMES);
    let began = Instant::now();
    let mut received = Vec::new();
    let mut block = [0; 64 * 1024];
    while began.elapsed() < FLOOD_LIMIT {
        let sent = connection.write_all(&many);
        let read = connection.read(&mut block);
        let is_over = match &read {
            Ok(0) => true,
            Ok(count) => {
                received.extend(&block[..*count]);
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if is_over || sent.is_err() {
            return Some((began.elapsed(), has_goaway(&received)));
        }
        if has_goaway(&received) {
            return Some((began.elapsed(), true));
        }
    }
    None
}

/// Whether there is a GOAWAY among the frames.
fn has_goaway(mut bytes: &[u8]) -> bool {
    const HEAD: usize = 9;
    while bytes.len() >= HEAD {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        let length = usize::try_from(length).expect("24 bits");
        if bytes[3] == GOAWAY {
            return true;
        }
        bytes = bytes.get(HEAD + length..).unwrap_or_default();
    }
    false
}
