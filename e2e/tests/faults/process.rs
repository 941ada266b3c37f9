//! The process as its supervisor sees it: readiness told, signals as etcd takes them, and an exit
//! status that means what it says.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use engram_e2e::server::Setup;

use crate::case;
use crate::ci_or_full;

const NOTICE_LIMIT: Duration = Duration::from_secs(20);
const END_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let case = case::begin("NOTIFY_SOCKET");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let path = scratch.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("binding a socket");
    socket
        .set_read_timeout(Some(NOTICE_LIMIT))
        .expect("a timeout can be set");
    let receive = || {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes);
        length.map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned())
    };
    let mut server = Setup::engram()
        .environment("NOTIFY_SOCKET", &path.display().to_string())
        .start();
    let ready = receive();
    case.saw(format!("after the start {ready:?}"));
    assert!(matches!(&ready, Ok(text) if text.lines().any(|line| line == "READY=1")));
    server.terminate();
    let stopping = receive();
    case.saw(format!("after SIGTERM {stopping:?}"));
    assert!(matches!(&stopping, Ok(text) if text.lines().any(|line| line == "STOPPING=1")));
}

#[test]
fn signals_mean_what_they_mean_to_etcd() {
    let case = case::begin("SIGUSR1, SIGUSR2, SIGQUIT");
    let mut server = Setup::engram().start();
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGUSR1] {
        server.signal(signal);
        let ended = server.ended_within(Duration::from_millis(500));
        case.saw(format!("signal {signal}: {ended:?}"));
        assert!(ended.is_none(), "signal {signal} ended it: {ended:?}");
        assert_eq!(server.etcdctl(&["put", "a", "b"]), "OK\n");
    }
    server.signal(libc::SIGQUIT);
    let ended = server.ended_within(END_LIMIT);
    case.saw(format!("SIGQUIT: {ended:?}"));
    assert!(ended.is_some(), "SIGQUIT does not end it");
    server.start();
    assert_eq!(server.etcdctl(&["get", "a"]), "a\nb\n");
}

#[test]
fn a_start_that_fails_ends_with_1_always() {
    let case = case::begin("starts on a taken port");
    let tries = ci_or_full(20, 300);
    let mut other = Vec::new();
    for number in 0..tries {
        // The first start on a fresh directory and those on one with data, each port in turn.
        let mut server = Setup::engram().prepare();
        if number % 4 == 3 {
            server.start();
            server.terminate();
        }
        let taken = match number % 2 {
            0 => server.address(),
            _ => server.peer_address(),
        };
        let listener = TcpListener::bind(taken).expect("the port is free");
        server.launch();
        let ended = server.ended_within(END_LIMIT);
        drop(listener);
        let is_right = ended.is_some_and(|ended| ended.code() == Some(1));
        if !is_right {
            let signal = ended.and_then(|ended| ended.signal());
            other.push(format!(
                "{ended:?} (signal {signal:?}): {}",
                server.last_line()
            ));
        }
    }
    case.saw(format!(
        "{} of {tries} ended otherwise: {other:?}",
        other.len()
    ));
    assert!(other.is_empty(), "{other:?}");
}
