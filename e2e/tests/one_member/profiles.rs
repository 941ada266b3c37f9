//! `--enable-pprof`: profiles that `go tool pprof` reads, of a member that goes on serving.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};

/// Writers and readers while a profile is taken.
const CLIENTS: usize = 4;
/// How long a profile may take beyond its time: the names of what was seen are looked up then.
const BEYOND: Duration = Duration::from_secs(60);

/// Go builds its tool where it was not asked for before.
const TOOL_LIMIT: Duration = Duration::from_secs(300);

/// A page's status and body.
fn page(server: &Server, request: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(BEYOND)).unwrap();
    let request = format!("{request} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer.split_off(end.expect("a head ends") + 4);
    let head = String::from_utf8(answer).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body)
}

fn text(server: &Server, path: &str) -> (u16, String) {
    let (status, body) = page(server, &format!("GET {path}"));
    (status, String::from_utf8(body).unwrap())
}

/// What `go tool pprof` says of a profile.
fn pprof(arguments: &[&str], profile: &Path) -> String {
    // Where its archive puts it, if it is nowhere else.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("go");
    command
        .env("PATH", format!("{path}:/usr/local/go/bin"))
        .env("GOTOOLCHAIN", "local")
        .args(["tool", "pprof"])
        .args(arguments)
        .arg(profile);
    let finished = tools::run(&mut command, TOOL_LIMIT);
    assert!(finished.status.success(), "{}", finished.text());
    finished.stdout
}

fn keep(server: &Server, name: &str, profile: &[u8]) -> PathBuf {
    let path = server.scratch().join(name);
    std::fs::write(&path, profile).unwrap();
    path
}

#[test]
fn without_the_flag_there_are_none_as_on_a_real_etcd() {
    let _turn = turn::take("no profiles");
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    for path in ["/debug/pprof/", "/debug/pprof/profile", "/debug/pprof"] {
        let [wanted, got] = [&etcd, &server].map(|server| text(server, path));
        assert_eq!(got, wanted, "{path}");
        assert_eq!(got.0, 404, "{path}");
    }
}

#[test]
fn what_is_asked_for_by_mistake_is_refused_as_by_a_real_etcd() {
    let _turn = turn::take("profiles asked for by mistake");
    let [etcd, server] =
        [Setup::etcd(), Setup::engram()].map(|setup| setup.flag("--enable-pprof").start());
    let [wanted, got] = [&etcd, &server].map(|server| text(server, "/debug/pprof/nothing"));
    assert_eq!(got, wanted);
    for server in [&etcd, &server] {
        let (status, index) = text(server, "/debug/pprof/");
        assert_eq!(status, 200, "{index}");
        for page in ["goroutine?debug=2", "heap", "profile", "cmdline"] {
            assert!(index.contains(page), "{page}: {index}");
        }
        let (status, arguments) = text(server, "/debug/pprof/cmdline");
        assert_eq!(status, 200);
        assert!(arguments.contains("\0--enable-pprof"), "{arguments}");
        assert_eq!(page(server, "POST /debug/pprof/symbol").0, 200);
        assert!(server.output().contains("pprof is enabled"));
    }
    // etcd sends to the index, Engram answers with it.
    assert_eq!(text(&etcd, "/debug/pprof").0, 307);
    let index = text(&server, "/debug/pprof/");
    assert_eq!(text(&server, "/debug/pprof"), index);
    let (status, said) = text(&server, "/debug/pprof/profile?seconds=301");
    assert_eq!(
        (status, said.contains("300 seconds")),
        (400, true),
        "{said}"
    );
    assert_eq!(text(&server, "/debug/pprof/trace").0, 501);
}

/// Clients that put and read until they are told to stop; how much they got done.
struct Busy {
    stop: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<usize>>,
}

impl Busy {
    fn with(server: &Server) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number| {
            let (stop, address) = (stop.clone(), server.address());
            thread::spawn(move || {
                client::runtime().block_on(async {
                    let mut client = Client::connect(address).await;
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let key = format!("{number}/{}", done % 200);
                        client.put(key, "v".repeat(400)).await.expect("a write");
                        client.everything().await.expect("a read");
                        done += 1;
                    }
                    done
                })
            })
        };
        Busy {
            clients: (0..CLIENTS).map(client).collect(),
            stop,
        }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let done = self
            .clients
            .into_iter()
            .map(|client| client.join().unwrap());
        done.sum()
    }
}

#[test]
fn the_processors_time_is_told_while_clients_are_served() {
    let _turn = turn::take("a profile under load");
    let server = Setup::engram().flag("--enable-pprof").start();
    let busy = Busy::with(&server);
    let began = Instant::now();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| page(&server, "GET /debug/pprof/profile?seconds=5"));
        thread::sleep(Duration::from_secs(3));
        let second = text(&server, "/debug/pprof/profile?seconds=1");
        (first.join().unwrap(), second)
    });
    assert!(began.elapsed() < BEYOND, "{:?}", began.elapsed());
    let in_use = "Could not enable CPU profiling: cpu profiling already in use\n";
    assert_eq!(second, (500, in_use.into()));
    // Those who go away before its end leave nothing behind.
    drop(TcpStream::connect(server.address()).and_then(|mut stream| {
        stream.write_all(b"GET /debug/pprof/profile?seconds=300 HTTP/1.1\r\nHost: x\r\n\r\n")?;
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }));
    let third = loop {
        let (status, body) = page(&server, "GET /debug/pprof/profile?seconds=1");
        if status == 200 {
            break body;
        }
        assert!(began.elapsed() < 2 * BEYOND, "the first one never ends");
        thread::sleep(Duration::from_millis(50));
    };
    let done = busy.end();
    println!("profiles: {done} rounds of {CLIENTS} clients meanwhile");
    assert!(done > CLIENTS, "the clients were served");
    assert_eq!(first.0, 200);
    let path = keep(&server, "cpu.pb.gz", &first.1);
    let top = pprof(&["-top", "-nodecount=500"], &path);
    assert!(top.contains("Type: cpu"), "{top}");
    for module in ["codec::", "state::"] {
        assert!(top.contains(module), "functions have names: {top}");
    }
    let threads = pprof(&["-tags"], &path);
    assert!(threads.contains("engram-io-0"), "{threads}");
    pprof(&["-top"], &keep(&server, "third.pb.gz", &third));
    server.etcdctl(&["put", "it", "serves"]);
}

#[test]
fn memory_and_threads_are_told() {
    let _turn = turn::take("memory and threads");
    let server = Setup::engram().flag("--enable-pprof").start();
    server.etcdctl(&["put", "a", "b"]);
    let (status, heap) = page(&server, "GET /debug/pprof/heap");
    assert_eq!(status, 200);
    let top = pprof(&["-top"], &keep(&server, "heap.pb.gz", &heap));
    assert!(top.contains("Type: inuse_space"), "{top}");
    assert!(top.contains("anonymous memory"), "{top}");
    let (_, heap) = text(&server, "/debug/pprof/heap?debug=1");
    assert!(heap.contains("anonymous memory\n"), "{heap}");
    let (_, threads) = page(&server, "GET /debug/pprof/goroutine");
    let top = pprof(&["-top"], &keep(&server, "threads.pb.gz", &threads));
    assert!(top.contains("engram-apply"), "{top}");
    let (status, threads) = text(&server, "/debug/pprof/goroutine?debug=2");
    assert_eq!(status, 200);
    assert!(threads.contains("\nengram-raft\n\tran "), "{threads}");
}
