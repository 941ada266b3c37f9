//! The keys of a cluster that runs, under load, into another one: none is lost, and the cut-over is told.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup, send_signal};
use engram_e2e::{tools, turn};
use serde_json::Value;

use crate::content::{engramctl_fails, engramctl_json, everything, fill, must_have_the_lease};

/// For how long the source is written to while it is copied.
const LOAD: Duration = Duration::from_secs(3);
/// SIGINT: the clients of the source have stopped.
const INTERRUPT: i32 = 2;

/// Every key with its value and lease.
fn keys(server: &Server) -> BTreeMap<Vec<u8>, (Vec<u8>, i64)> {
    let all = everything(server, 0).kvs.into_iter();
    all.map(|kv| (kv.key.to_vec(), (kv.value.to_vec(), kv.lease)))
        .collect()
}

/// Puts and deletes until it is stopped; every key that was acknowledged, with its value or gone.
fn write(server: &Server, stop: &Arc<AtomicBool>) -> JoinHandle<BTreeMap<String, Option<String>>> {
    let (address, stop) = (server.address(), stop.clone());
    thread::spawn(move || {
        client::runtime().block_on(async {
            let mut client = Client::connect(address).await;
            let mut told = BTreeMap::new();
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("load/{:03}", number * 7 % 500);
                if number % 5 == 4 {
                    client.delete(key.clone()).await.expect("a delete");
                    told.insert(key, None);
                } else {
                    let value = format!("{number}");
                    client.put(key.clone(), value.clone()).await.expect("a put");
                    told.insert(key, Some(value));
                }
            }
            told
        })
    })
}

fn follow(from: &Server, to: &Server) -> Child {
    let mut import = tools::command(&tools::engramctl());
    import
        .args(["-w", "json", "import", "--from", &from.client_url()])
        .args(["--endpoints", &to.client_url()])
        .stdout(Stdio::piped());
    import.spawn().expect("engramctl starts")
}

fn under_load(from: &Server) {
    fill(from);
    let to = Setup::engram().start();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(from, &stop);
    let import = follow(from, &to);
    thread::sleep(LOAD);
    stop.store(true, Ordering::Relaxed);
    let told = writer.join().expect("the writer is told of everything");
    assert!(told.len() > 100, "{} keys", told.len());
    send_signal(import.id(), INTERRUPT);
    let ended = import.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
    let said: Value = serde_json::from_str(said.trim()).expect("it says so in JSON");
    let last = everything(from, 0).header.map(|header| header.revision);
    assert_eq!(said["sourceRevision"].as_i64(), last, "{said}");
    let there = keys(&to);
    for (key, value) in &told {
        let found = there.get(key.as_bytes());
        let found = found.map(|(value, _)| String::from_utf8_lossy(value).into_owned());
        assert_eq!(&found, value, "{key}");
    }
    assert_eq!(keys(from), there);
    assert_eq!(said["keys"].as_u64(), Some(there.len() as u64));
    must_have_the_lease(&to);
}

#[test]
fn an_etcd_under_load_is_imported_and_no_key_is_lost() {
    let _turn = turn::take("import from etcd");
    under_load(&Setup::etcd().start());
}

#[test]
fn an_engram_under_load_is_imported_and_no_key_is_lost() {
    let _turn = turn::take("import from engram");
    under_load(&Setup::engram().start());
}

#[test]
fn a_target_with_keys_is_refused_unless_they_are_to_go() {
    let _turn = turn::take("import into keys");
    let (from, to) = (Setup::engram().start(), Setup::engram().start());
    from.etcdctl(&["put", "a", "1"]);
    from.etcdctl(&["put", "b/1", "1"]);
    to.etcdctl(&["put", "b/2", "2"]);
    to.etcdctl(&["put", "c", "3"]);
    let (url, target) = (from.client_url(), to.client_url());
    let import = [
        "import",
        "--from",
        &url,
        "--endpoints",
        &target,
        "--until-equal",
    ];
    let said = engramctl_fails(&import);
    assert!(
        said.contains("2 keys") && said.contains("--replace"),
        "{said}"
    );
    let itself = [
        "import",
        "--from",
        &url,
        "--endpoints",
        &url,
        "--until-equal",
        "--replace",
    ];
    let said = engramctl_fails(&itself);
    assert!(said.contains("are one cluster"), "{said}");
    assert_eq!(keys(&from).len(), 2, "and nothing was replaced");
    assert_eq!(keys(&to).len(), 2);
    // Below a prefix: the other keys are nobody's business.
    let below = [&import[..], &["--prefix", "b/", "--replace"]].concat();
    assert_eq!(engramctl_json(&below)["keys"], 1);
    let there: Vec<Vec<u8>> = keys(&to).into_keys().collect();
    assert_eq!(there, [b"b/1".to_vec(), b"c".to_vec()]);
    let replaced = [&import[..], &["--replace"]].concat();
    assert_eq!(engramctl_json(&replaced)["keys"], 2);
    assert_eq!(keys(&from), keys(&to));
}

/// An import of everything at this moment, that waits.
fn waits(from: &str, to: &str, more: &[&str]) -> Child {
    let mut import = tools::command(&tools::engramctl());
    import
        .args(["-w", "json", "import", "--until-equal", "--from", from])
        .args(["--endpoints", to])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    import.spawn().expect("engramctl starts")
}

#[test]
fn a_cluster_that_does_not_answer_yet_is_waited_for() {
    let _turn = turn::take("import that waits");
    let from = Setup::engram().start();
    from.etcdctl(&["put", "a", "1"]);
    let mut to = Setup::engram().prepare();
    let mut import = waits(&from.client_url(), &to.client_url(), &["--wait=30s"]);
    thread::sleep(Duration::from_secs(2));
    let ended = import.try_wait().expect("it is looked at");
    assert_eq!(ended, None, "it waits");
    to.start();
    let ended = import.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("waiting for"), "{said}");
    assert_eq!(keys(&from), keys(&to));
}

#[test]
fn a_cluster_that_never_answers_is_not_waited_for_for_ever() {
    let _turn = turn::take("import that waits in vain");
    let from = Setup::engram().start();
    // It takes connections, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", mute.local_addr().expect("it has an address"));
    let began = Instant::now();
    let more = ["--wait=3s", "--command-timeout=1s"];
    let import = waits(&from.client_url(), &url, &more);
    let ended = import.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    assert!(said.contains("deadline exceeded"), "{said}");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2), "it was waited for: {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn who_answers_and_refuses_is_not_waited_for() {
    let _turn = turn::take("import that is refused");
    let from = Setup::engram().start();
    // It knows nothing of TLS, and says so.
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", plain.local_addr().expect("it has an address"));
    thread::spawn(move || {
        for stream in plain.incoming() {
            let mut stream = stream.expect("a connection");
            // All of it: what is not read would be answered by a reset.
            let mut hello = [0; 16 << 10];
            assert!(stream.read(&mut hello).expect("a hello") > 0);
            let said = b"HTTP/1.0 400 Bad Request\r\n\r\n";
            stream.write_all(said).expect("it is taken");
        }
    });
    let began = Instant::now();
    let import = waits(&from.client_url(), &url, &["--wait=60s"]);
    let ended = import.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    assert!(!said.contains("waiting for"), "{said}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let import = waits(&from.client_url(), &url, &["--wait=5000000000000000h"]);
    let ended = import.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("24h is the longest"), "{said}");
}
