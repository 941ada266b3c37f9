//! Free loopback ports.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range (32768 and up on Linux) from which the system takes ports for outgoing
/// connections, so that no connection of a test can take a port between two starts of a server.
/// Not from 20,000 on: etcd's own test framework takes those (`e2e/etcd-common`).
const FIRST: u16 = 20_100;
const COUNT: u16 = 11_900;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that nobody listens on and that this process has not handed out before.
///
/// # Panics
/// If there is none.
pub fn free() -> u16 {
    // Another test process starts elsewhere in the range.
    let own_start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("COUNT is a u16");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (own_start.wrapping_add(step)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 from {FIRST} on is free");
}
