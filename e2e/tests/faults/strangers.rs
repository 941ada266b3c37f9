//! Strangers that reach the peer ports: they take every connection there is, ask for `/version` now and then,
//! and never say who they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engram_e2e::cluster::{LEADER_LIMIT, Plan};

use crate::calls;
use crate::case;

/// More than a peer port takes (`CONNECTIONS_MAX` of `engram-peer`).
const STRANGERS: usize = 160;
/// How often each says something: no connection is idle for long.
const SAID_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to serve again.
const BACK_MAX: Duration = Duration::from_secs(10);

/// Strangers at one door, as long as this lives.
struct Crowd {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    fn gather(door: SocketAddr) -> Crowd {
        let (stop, open) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&open));
        let thread = std::thread::spawn(move || {
            let mut strangers: Vec<TcpStream> = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                strangers.retain_mut(|stranger| speak(stranger).is_ok());
                let missing = STRANGERS - strangers.len();
                strangers.extend((0..missing).map_while(|_| connect(door).ok()));
                count.store(strangers.len(), Ordering::Relaxed);
                std::thread::sleep(SAID_EVERY);
            }
        });
        Crowd {
            stop,
            open,
            thread: Some(thread),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics nowhere; if it did, the story has said so.
            let _ = thread.join();
        }
    }
}

fn connect(door: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&door, SAID_EVERY)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Says something and reads what was answered; an error where the other end has hung up.
fn speak(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: peer\r\n\r\n")?;
    let mut answer = [0; 4096];
    match stream.read(&mut answer) {
        Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

#[test]
fn a_member_comes_back_while_strangers_fill_the_others_peer_ports() {
    let case = case::begin("strangers at the peer ports");
    let mut cluster = Plan::of(3).start();
    cluster.have_lead(0);
    cluster.kill(2);
    let doors = [0, 1].map(|place| cluster.server(place).peer_address());
    let crowds = doors.map(Crowd::gather);
    cluster.wait_for(LEADER_LIMIT, "the doors are full", || {
        let all = crowds.iter();
        let mut all = all.map(|crowd| crowd.open.load(Ordering::Relaxed));
        all.all(|open| open > STRANGERS / 2).then_some(())
    });
    // Those who are there already hear each other.
    let before = cluster.wait_for_leader(LEADER_LIMIT);
    std::thread::sleep(SAID_EVERY * 2);
    calls::must_take_a_write(&cluster, 1, BACK_MAX);
    let began = Instant::now();
    cluster.restart(2);
    calls::must_take_a_write(&cluster, 2, BACK_MAX);
    let back = began.elapsed();
    let after = cluster.wait_for_leader(LEADER_LIMIT);
    case.saw(format!(
        "a member was killed and serves again {back:.1?} after it was started"
    ));
    cluster.must(back < BACK_MAX, || format!("it took {back:?}"));
    cluster.must(before == after, || format!("{before:?} became {after:?}"));
    drop(crowds);
}
