//! What each kind of link does, with this process at both ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use super::*;

const DIALLER: usize = 0;
const TARGET: usize = 1;
/// Far more than loopback needs.
const SOON: Duration = Duration::from_secs(10);
/// How long something that must not come is waited for.
const NEVER: Duration = Duration::from_millis(200);

/// A target behind a gate; it tells what arrives and sends it back.
struct Scene {
    network: Network,
    gate: SocketAddr,
    arrived: mpsc::Receiver<u8>,
}

impl Scene {
    fn set_up() -> Self {
        let network = Network::new();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = listener.local_addr().expect("it is bound");
        let (sender, arrived) = mpsc::channel();
        // It ends with the process: a test is over before it matters.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                std::thread::spawn(move || echo(stream, &sender));
            }
        });
        network.runs_as(DIALLER, std::process::id());
        let gate = network.open_gate(TARGET, target);
        Self {
            network,
            gate,
            arrived,
        }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.gate).expect("the gate listens");
        stream
            .set_read_timeout(Some(SOON))
            .expect("a timeout can be set");
        stream
    }
}

fn echo(mut stream: TcpStream, told: &mpsc::Sender<u8>) {
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        // The test may be over, or the connection cut.
        let _ = told.send(byte[0]);
        let _ = stream.write_all(&byte);
    }
}

fn read(stream: &mut TcpStream) -> Result<u8, ErrorKind> {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => Err(ErrorKind::UnexpectedEof),
        Ok(_) => Ok(byte[0]),
        Err(error) => Err(error.kind()),
    }
}

fn nothing_comes(stream: &mut TcpStream) {
    stream
        .set_read_timeout(Some(NEVER))
        .expect("a timeout can be set");
    assert_eq!(read(stream), Err(ErrorKind::WouldBlock));
    stream
        .set_read_timeout(Some(SOON))
        .expect("a timeout can be set");
}

#[test]
fn a_held_direction_is_silent_and_late_and_the_other_one_passes() {
    let scene = Scene::set_up();
    let mut stream = scene.dial();
    stream.write_all(b"a").expect("it passes");
    assert_eq!(read(&mut stream), Ok(b'a'));
    assert_eq!(scene.arrived.recv_timeout(SOON), Ok(b'a'));
    scene.network.set(TARGET, DIALLER, Link::Hold);
    stream.write_all(b"b").expect("it passes");
    assert_eq!(scene.arrived.recv_timeout(SOON), Ok(b'b'));
    nothing_comes(&mut stream);
    scene.network.set(DIALLER, TARGET, Link::Hold);
    stream.write_all(b"c").expect("the kernel takes it");
    assert!(scene.arrived.recv_timeout(NEVER).is_err());
    scene.network.heal();
    assert_eq!((read(&mut stream), read(&mut stream)), (Ok(b'b'), Ok(b'c')));
}

#[test]
fn a_connection_opened_while_held_reaches_nobody_until_the_link_passes() {
    let scene = Scene::set_up();
    scene.network.set(DIALLER, TARGET, Link::Hold);
    let mut stream = scene.dial();
    stream.write_all(b"a").expect("the kernel takes it");
    assert!(scene.arrived.recv_timeout(NEVER).is_err());
    scene.network.heal();
    assert_eq!(read(&mut stream), Ok(b'a'));
}

#[test]
fn a_cut_ends_what_is_open_and_a_rejecting_link_what_comes() {
    let scene = Scene::set_up();
    let mut stream = scene.dial();
    stream.write_all(b"a").expect("it passes");
    assert_eq!(read(&mut stream), Ok(b'a'));
    scene.network.cut(DIALLER, TARGET);
    assert!(read(&mut stream).is_err());
    let mut again = scene.dial();
    again.write_all(b"b").expect("it passes again");
    assert_eq!(read(&mut again), Ok(b'b'));
    scene.network.set(TARGET, DIALLER, Link::Reject);
    assert!(read(&mut again).is_err());
    assert!(read(&mut scene.dial()).is_err());
}

#[test]
fn a_slow_link_delays_and_keeps_the_order() {
    let scene = Scene::set_up();
    let (mean, jitter) = (Duration::from_millis(60), Duration::from_millis(30));
    scene
        .network
        .set(DIALLER, TARGET, Link::Delay { mean, jitter });
    let mut stream = scene.dial();
    let started = Instant::now();
    for byte in *b"abc" {
        stream.write_all(&[byte]).expect("it passes");
    }
    assert_eq!(
        [(); 3].map(|()| read(&mut stream)),
        [Ok(b'a'), Ok(b'b'), Ok(b'c')]
    );
    assert!(
        started.elapsed() >= mean - jitter,
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_stranger_is_not_let_in() {
    let scene = Scene::set_up();
    scene.network.runs_as(DIALLER, 1);
    assert!(read(&mut scene.dial()).is_err());
}
