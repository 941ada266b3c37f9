//! A client's watch that goes on for ever: where the connection ends it opens the next from the
//! last resource version it saw, as every Kubernetes client does.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, items, name, resource_version};
use crate::process::wait_for;

/// How long a read waits before it looks whether the watch is to stop.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
const HTTP_GONE: u64 = 410;

/// What a watch says happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `ADDED`, `MODIFIED` or `DELETED`; `LISTED` for an object found after the apiserver said
    /// that the version to resume from is too old.
    pub kind: String,
    pub name: String,
    pub version: u64,
}

/// A watch and what it has seen. Dropping it ends it.
pub struct Watcher {
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches the collection at `path` for everything after `version`.
    pub fn start(api: Api, path: &str, version: u64) -> Watcher {
        let events = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let session = Session {
            api,
            path: path.to_owned(),
            version,
            events: Arc::clone(&events),
            stop: Arc::clone(&stop),
        };
        let thread = Some(thread::spawn(move || session.run()));
        Watcher {
            events,
            stop,
            thread,
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no holder panics").clone()
    }

    /// Waits until `count` events have come.
    pub fn wait(&self, count: usize, limit: Duration) -> Vec<Event> {
        wait_for(&format!("{count} watch events"), limit, || {
            let events = self.events();
            (events.len() >= count).then_some(events)
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is joined only here");
        if thread.join().is_err() && !thread::panicking() {
            panic!("the watch failed, see above");
        }
    }
}

/// The thread's side.
struct Session {
    api: Api,
    path: String,
    version: u64,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
}

impl Session {
    fn run(mut self) {
        while !self.stopped() {
            // An error is a connection that ended: the next one goes on from the same version.
            drop(self.read_one_stream());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn read_one_stream(&mut self) -> io::Result<()> {
        let path = format!("{}?watch=1&resourceVersion={}", self.path, self.version);
        let (status, mut reader) = self.api.open("GET", &path, None, READ_TIMEOUT)?;
        if u64::from(status) == HTTP_GONE {
            return self.list_again();
        }
        if status != 200 {
            return Err(io::Error::other(format!("status {status}")));
        }
        let mut line = Vec::new();
        while !self.stopped() {
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) if line.ends_with(b"\n") => self.take(&line)?,
                Ok(_) => return Ok(()), // the connection ended within a line
                // What was read so far stays in `line`.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e),
            }
            line.clear();
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> io::Result<()> {
        let event: Value = serde_json::from_slice(line)?;
        let object = &event["object"];
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "ERROR" {
            if object["code"].as_u64() == Some(HTTP_GONE) {
                return self.list_again();
            }
            return Err(io::Error::other(object.to_string()));
        }
        self.version = resource_version(object);
        self.push(kind, object);
        Ok(())
    }

    /// Kubernetes' answer to "too old": read the whole state, and go on from there.
    fn list_again(&mut self) -> io::Result<()> {
        let answer = self.api.send("GET", &self.path, None)?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("status {}", answer.status)));
        }
        let known: BTreeSet<String> = {
            let events = self.events.lock().expect("no holder panics");
            events.iter().map(|event| event.name.clone()).collect()
        };
        for object in items(&answer.body) {
            if !known.contains(name(object)) {
                self.push("LISTED", object);
            }
        }
        self.version = resource_version(&answer.body);
        Ok(())
    }

    fn push(&self, kind: &str, object: &Value) {
        self.events.lock().expect("no holder panics").push(Event {
            kind: kind.to_owned(),
            name: name(object).to_owned(),
            version: resource_version(object),
        });
    }
}
