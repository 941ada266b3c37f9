//! The gathering IO under a hostile socket, and whole servers over real ones.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::calls::{Begun, Calls};
use super::driven::Driven;
use super::home::Homes;
use super::round::Round;
use super::*;

/// What the socket does with each write: takes up to so many bytes, or none for now.
#[derive(Clone, Debug)]
enum Step {
    Take(usize),
    Wait,
}

#[derive(Default)]
struct Socket {
    steps: Vec<Step>,
    next: usize,
    written: Vec<u8>,
    writes: usize,
    waiting: Option<Waker>,
    shut: bool,
}

#[derive(Clone, Default)]
struct Hostile(Arc<Mutex<Socket>>);

impl AsyncRead for Hostile {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Hostile {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock();
        let at = socket.next;
        socket.next += 1;
        match socket
            .steps
            .get(at)
            .cloned()
            .unwrap_or(Step::Take(usize::MAX))
        {
            Step::Wait => {
                socket.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Step::Take(most) => {
                let taken = buf.len().min(most);
                socket.written.extend_from_slice(&buf[..taken]);
                socket.writes += 1;
                Poll::Ready(Ok(taken))
            }
        }
    }

    /// Takes bytes over the slices' bounds, as a socket does.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let joined: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.poll_write(cx, &joined)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// A connection that writes what it is told, some of it a poll, and ends with a shutdown if asked.
struct Talker {
    io: Coalesced<Hostile>,
    /// What to write in each poll: slices that go out as one vectored write.
    polls: Vec<Vec<Vec<u8>>>,
    at: (usize, usize),
    ends: bool,
}

impl Future for Talker {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while let Some(poll) = this.polls.get(this.at.0) {
            let whole = poll.concat();
            while this.at.1 < whole.len() {
                // Halves, to exercise vectored writes.
                let rest = &whole[this.at.1..];
                let (a, b) = rest.split_at(rest.len() / 2);
                let slices = [IoSlice::new(a), IoSlice::new(b)];
                let io = Pin::new(&mut this.io);
                this.at.1 += ready!(io.poll_write_vectored(cx, &slices))?;
            }
            this.at = (this.at.0 + 1, 0);
            if this.at.0 < this.polls.len() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if !this.ends {
            return Poll::Pending;
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Polls only when woken: a lost wake-up shows as a stall. Returns whether it ended.
fn run(socket: &Hostile, polls: Vec<Vec<Vec<u8>>>, ends: bool) -> bool {
    let runtime = current_thread();
    let _timers = runtime.enter();
    let io = Coalesced::new(socket.clone(), Vec::new(), &Round::default());
    let mut driven = Driven::new(
        Talker {
            io: io.clone(),
            polls,
            at: (0, 0),
            ends,
        },
        Calls::new(Begun::default()),
        io,
    );
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..100_000 {
        if !flag.0.swap(false, Ordering::SeqCst) {
            match socket.0.lock().waiting.take() {
                Some(writable) => writable.wake(),
                None => return false,
            }
        }
        if Pin::new(&mut driven).poll(&mut cx).is_ready() {
            return true;
        }
    }
    panic!("the connection spins");
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..200usize).prop_map(Step::Take),
        2 => (1000..60_000usize).prop_map(Step::Take),
        3 => Just(Step::Wait),
    ]
}

/// Writes of every class: small, past the threshold of copying, past the bound of the buffer.
fn write() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![6 => 0..300usize, 2 => 10_000..40_000usize, 1 => 100_000..200_000usize];
    (len, any::<u8>()).prop_map(|(len, seed)| {
        (0..len)
            .map(|at| seed.wrapping_add((at % 251) as u8))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes_arrive_complete_and_in_order_whatever_the_socket_does(
        steps in vec(step(), 0..60),
        polls in vec(vec(write(), 0..5), 0..6),
        ends in any::<bool>(),
    ) {
        let socket = Hostile::default();
        socket.0.lock().steps = steps;
        let expected: Vec<u8> = polls.iter().flatten().flatten().copied().collect();
        let ended = run(&socket, polls, ends);
        prop_assert_eq!(ended, ends);
        let socket = socket.0.lock();
        prop_assert!(socket.written == expected, "{} of {} bytes", socket.written.len(), expected.len());
        prop_assert_eq!(socket.shut, ends);
    }
}

#[test]
fn small_writes_of_one_poll_leave_in_one_send() {
    let socket = Hostile::default();
    let polls = vec![vec![vec![1; 100], vec![2; 50]], vec![vec![3; 30]]];
    assert!(!run(&socket, polls, false));
    let socket = socket.0.lock();
    assert_eq!((socket.writes, socket.written.len()), (1, 180));
}

#[test]
fn a_write_waits_when_the_socket_takes_nothing_and_much_is_gathered() {
    let socket = Hostile::default();
    socket.0.lock().steps = vec![Step::Wait; 1000];
    let mut io = Coalesced::new(socket, Vec::new(), &Round::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut gathered = 0;
    while let Poll::Ready(written) = Pin::new(&mut io).poll_write(&mut cx, &[0; 8192]) {
        gathered += written.unwrap();
        assert!(gathered < 1 << 20, "the buffer has no bound");
    }
    assert_eq!(io.gathered(), gathered);
}

/// Answers with the peer and the path; `/slow` takes its time.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicUsize>,
}

impl Handler for Echo {
    fn call(
        &self,
        request: http::Request<hyper::body::Incoming>,
        peer: &PeerInfo,
    ) -> impl Future<Output = http::Response<tonic::body::Body>> + Send + 'static + use<> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let text = format!(
            "{} {:?} {}",
            peer.address,
            request.version(),
            request.uri().path()
        );
        async move {
            if request.uri().path() == "/slow" {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            http::Response::new(tonic::body::Body::new(http_body_util::Full::from(text)))
        }
    }
}

type Notices = Arc<Mutex<Vec<Notice>>>;

fn start(limits: Limits) -> (Runtimes, Notices) {
    let (_, inboxes) = Homes::new(2);
    let notices = Notices::default();
    let sink = Arc::clone(&notices);
    let runtimes =
        Runtimes::start(inboxes, limits, move |notice| sink.lock().push(notice)).unwrap();
    (runtimes, notices)
}

fn listen(runtimes: &Runtimes) -> std::net::SocketAddr {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = runtimes.bind(&any, BindOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    runtimes.serve(listener, Echo::default());
    address
}

fn http1(mut stream: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn both_protocols_share_a_port() {
    let (runtimes, _) = start(Limits::default());
    let address = listen(&runtimes);
    let answer = http1(std::net::TcpStream::connect(address).unwrap(), "/one");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("HTTP/1.1 /one"),
        "{answer}"
    );
    let text = current_thread().block_on(http2(address, "/two"));
    assert!(text.ends_with("HTTP/2.0 /two"), "{text}");
    assert_eq!(runtimes.traffic().accepted(), 2);
    runtimes.shutdown();
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn who_floods_a_connection_with_frames_that_ask_for_nothing_is_told_to_calm_down() {
    let (runtimes, _) = start(Limits::default());
    let address = listen(&runtimes);
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    stream.write_all(&settings).unwrap();
    // The server may have said goodbye before all is sent.
    let _ = stream.write_all(&window.repeat(11_000));
    let timeout = Some(Duration::from_secs(10));
    stream.set_read_timeout(timeout).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let goodbye = super::frames::CALM_DOWN;
    assert!(answer.ends_with(&goodbye), "{answer:?}");
    let text = current_thread().block_on(http2(address, "/other"));
    assert!(text.ends_with("/other"), "others are served: {text}");
    runtimes.shutdown();
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn http2(address: std::net::SocketAddr, path: &str) -> String {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://x{path}"))
        .body(Empty::<bytes::Bytes>::new().map_err(|never: Infallible| match never {}))
        .unwrap();
    let body = sender.send_request(request).await.unwrap().into_body();
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// What comes back on a connection that begins with a preface and settings and sends `frame` so often.
fn answer_to(limits: Limits, frame: &[u8], times: usize) -> Vec<u8> {
    let (runtimes, _) = start(limits);
    let address = listen(&runtimes);
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&frame.repeat(times));
    // A server that has had enough closes before all is sent.
    let _ = stream.write_all(&bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    runtimes.shutdown();
    answer
}

#[test]
fn a_client_that_pings_too_often_is_told_so_and_cut_off() {
    let limits = |interval| Limits {
        ping_interval_min: interval,
        ..Limits::default()
    };
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let told = |answer: &[u8], text: &str| {
        let mut windows = answer.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    };
    let strict = limits(Duration::from_secs(60));
    let answer = answer_to(strict.clone(), &ping, 10);
    assert!(told(&answer, "too_many_pings"), "{answer:?}");
    let answer = answer_to(strict, &ping, 3);
    assert!(!told(&answer, "too_many_pings"), "{answer:?}");
    let answer = answer_to(limits(Duration::ZERO), &ping, 10);
    assert!(!told(&answer, "too_many_pings"), "{answer:?}");
}

#[test]
fn all_addresses_are_those_of_both_families() {
    let (runtimes, _) = start(Limits::default());
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for any in ["0.0.0.0:0", "[::]:0"] {
        let any = Address::Tcp(any.parse().unwrap());
        let listener = runtimes.bind(&any, BindOptions::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtimes.serve(listener, Echo::default());
        for (host, served) in [("127.0.0.1", true), ("[::1]", has_ipv6)] {
            let connected = std::net::TcpStream::connect(format!("{host}:{port}"));
            assert_eq!(connected.is_ok(), served, "{any:?} by {host}");
            if let Ok(stream) = connected {
                let answer = http1(stream, "/family");
                assert!(answer.contains(&format!("{host}:")), "{answer}");
            }
        }
    }
    runtimes.shutdown();
}

#[test]
fn a_unix_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("client.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (runtimes, _) = start(Limits::default());
    let address = Address::Unix(path.clone());
    let listener = runtimes.bind(&address, BindOptions::default()).unwrap();
    runtimes.serve(listener, Echo::default());
    let answer = http1(
        std::os::unix::net::UnixStream::connect(&path).unwrap(),
        "/unix",
    );
    assert!(answer.contains("@ HTTP/1.1 /unix"), "{answer}");
    let taken = runtimes
        .bind(&address, BindOptions::default())
        .err()
        .unwrap();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    runtimes.shutdown();
    assert!(!path.exists(), "the socket's file goes with the listener");
    std::fs::write(&path, "not a socket").unwrap();
    let (runtimes, _) = start(Limits::default());
    assert!(runtimes.bind(&address, BindOptions::default()).is_err());
    assert!(path.exists(), "a file that is no socket is left alone");
    runtimes.shutdown();
}

#[test]
fn a_connection_too_many_is_closed_and_told_of() {
    let (runtimes, notices) = start(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let address = listen(&runtimes);
    let mut first = std::net::TcpStream::connect(address).unwrap();
    first
        .write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut chunk = [0; 64];
    assert!(first.read(&mut chunk).unwrap() > 0);
    let mut second = std::net::TcpStream::connect(address).unwrap();
    let refused = second.read(&mut chunk);
    assert!(matches!(refused, Ok(0)) || refused.is_err());
    assert!(matches!(
        notices.lock()[..],
        [Notice::Refused { open: 1, .. }]
    ));
    assert_eq!(
        (runtimes.traffic().open(), runtimes.traffic().refused()),
        (1, 1)
    );
    runtimes.shutdown();
}

#[test]
fn shutdown_lets_calls_finish_and_ends_idle_connections_in_bounded_time() {
    let (runtimes, _) = start(Limits::default());
    let address = listen(&runtimes);
    let idle = std::net::TcpStream::connect(address).unwrap();
    let slow = std::thread::spawn(move || current_thread().block_on(http2(address, "/slow")));
    while runtimes.traffic().accepted() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    runtimes.shutdown();
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(slow.join().unwrap().ends_with("/slow"));
    drop(idle);
}

#[test]
fn connections_are_spread_over_the_threads() {
    #[derive(Clone, Default)]
    struct Where(Arc<Mutex<Vec<Option<String>>>>);
    impl Handler for Where {
        fn call(
            &self,
            _: http::Request<hyper::body::Incoming>,
            _: &PeerInfo,
        ) -> impl Future<Output = http::Response<tonic::body::Body>> + Send + 'static + use<>
        {
            self.0
                .lock()
                .push(std::thread::current().name().map(str::to_owned));
            assert!(
                home::current().is_some(),
                "a connection thread knows which it is"
            );
            async { http::Response::new(tonic::body::Body::empty()) }
        }
    }
    let (runtimes, _) = start(Limits::default());
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = runtimes.bind(&any, BindOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Where::default();
    runtimes.serve(listener, seen.clone());
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert!(stream.read(&mut [0; 512]).unwrap() > 0);
        held.push(stream);
    }
    let mut names = seen.0.lock().clone();
    names.sort();
    let on = |index: usize| Some(format!("engram-io-{index}"));
    assert_eq!(names, [on(0), on(0), on(1), on(1)]);
    runtimes.shutdown();
}
