//! Certificates and authorities that are exchanged while clients come and go.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::certificates::{Authority, Certificate, replace};
use engram_e2e::raise::RaiseOnDrop;
use engram_e2e::server::Server;
use engram_e2e::{tools, turn};

use super::{Credentials, LOG_LIMIT, Watch, etcdctl, must, must_fail, wait_for, with_client_auth};

/// What the server logs when it took changed files.
const RELOADED: &str = "loaded changed TLS files";

/// Writes through new connections until it is told to stop; every one has to succeed.
#[derive(Default)]
struct Writing {
    stop: AtomicBool,
    written: AtomicUsize,
    /// Held while a client reads its own files: that a client finds half of a pair of its own is
    /// not the server's failure.
    own_files: Mutex<()>,
}

impl Writing {
    /// The files change meanwhile: each command reads them anew, as a client does that starts.
    fn run(&self, server: &Server, credentials: &Credentials) {
        while !self.stop.load(Ordering::Relaxed) {
            let own_files = self.own_files.lock().expect("nobody panics with it");
            let count = self.written.load(Ordering::Relaxed).to_string();
            must(&mut etcdctl(server, credentials), &["put", "count", &count]);
            self.written.fetch_add(1, Ordering::Relaxed);
            drop(own_files);
            // The lock is not fair: who waits for it needs a moment to take it.
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until so many more writes were done.
    fn wait_for_more(&self, more: usize) {
        let goal = self.written.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + LOG_LIMIT;
        while self.written.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "writes stopped");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn certificates_and_authorities_rotate_without_a_failed_request() {
    let _turn = turn::take("TLS rotation");
    if tools::engram_is_etcd() {
        println!("etcd reads its CA bundle at the start only");
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let old = Authority::new(&scratch.path().join("old"));
    let new = Authority::new(&scratch.path().join("new"));
    let (own, alice) = (old.issue("server", 1), old.issue("alice", 2));
    let bundle = scratch.path().join("bundle.pem");
    fs::write(&bundle, old.pem()).expect("writing a bundle");
    let mut server = with_client_auth(&own, &bundle);
    server.start();
    let credentials = Credentials {
        authorities: bundle.clone(),
        certificate: Some(alice.clone()),
    };
    let stranger = Credentials {
        authorities: bundle.clone(),
        certificate: Some(old.issue("left behind", 3)),
    };
    let mut watch = Watch::begin(&server, &credentials, "watched");
    must(
        &mut etcdctl(&server, &stranger),
        &["put", "watched", "before"],
    );
    watch.must_see("before");
    let writing = Writing::default();
    thread::scope(|scope| {
        let writer = scope.spawn(|| writing.run(&server, &credentials));
        // Stops the writer when a step below fails, too.
        let _stopper = RaiseOnDrop(&writing.stop);
        let reloads = |count| {
            wait_for(&server, RELOADED, |log| {
                log.matches(RELOADED).count() >= count
            });
            writing.wait_for_more(5);
        };
        // The order of every rotation: trust both, change certificates, trust the new one.
        replace(&bundle, format!("{}{}", old.pem(), new.pem()));
        reloads(1);
        rotate(&own, &new.issue("server", 4));
        reloads(2);
        {
            let _own_files = writing.own_files.lock().expect("the writer runs");
            rotate(&alice, &new.issue("alice", 5));
        }
        replace(&bundle, new.pem());
        reloads(3);
        assert!(!writer.is_finished(), "a write failed");
    });
    let written = writing.written.load(Ordering::Relaxed);
    println!("{written} writes over new connections");
    must_fail(&mut etcdctl(&server, &stranger), &["get", "watched"]);
    must(
        &mut etcdctl(&server, &credentials),
        &["put", "watched", "after"],
    );
    watch.must_see("after");
}

/// Puts a pair in the place of another, one file after the other: in between they do not fit.
fn rotate(place: &Certificate, fresh: &Certificate) {
    let content = |path: &Path| fs::read(path).expect("reading a file");
    replace(&place.certificate, content(&fresh.certificate));
    replace(&place.key, content(&fresh.key));
}
