//! Watchers that outlive the server: they resume after the last revision they saw, and everything
//! they see is held against the history.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engram_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::ledger::Event;
use crate::client::Client;

/// Between two attempts to reach a server that is not there.
const RETRY: Duration = Duration::from_millis(20);

/// One watcher of a prefix.
pub struct Watcher {
    prefix: String,
    shared: Arc<Shared>,
    /// Events of the history that have not been compared yet.
    expected: VecDeque<Event>,
    /// Events it saw that have not been compared yet.
    seen: VecDeque<Event>,
    compared: u64,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<VecDeque<Event>>,
    last: AtomicI64,
    resumed: AtomicI64,
    failure: Mutex<Option<String>>,
}

impl Watcher {
    /// Starts a watcher of all keys that begin with `prefix` (not empty, not ending in 0xff), from
    /// the first revision on.
    pub fn spawn(runtime: &Handle, address: SocketAddr, prefix: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let watching = watch_for_ever(address, prefix.to_owned(), shared.clone());
        Self {
            prefix: prefix.to_owned(),
            shared,
            expected: VecDeque::new(),
            seen: VecDeque::new(),
            compared: 0,
            task: runtime.spawn(watching),
        }
    }

    /// The last revision it saw; 0 at first. Nothing above may be compacted.
    pub fn last_revision(&self) -> i64 {
        self.shared.last.load(Ordering::Acquire)
    }

    /// How often it had to resume.
    pub fn resumed(&self) -> i64 {
        self.shared.resumed.load(Ordering::Relaxed)
    }

    /// How many of its events were compared with the history.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Tells what really happened.
    pub fn expect(&mut self, events: &[Event]) {
        let ours = events
            .iter()
            .filter(|event| event.change.key().starts_with(&self.prefix));
        self.expected.extend(ours.cloned());
    }

    /// Compares what it saw with what really happened, as far as both are known. Returns whether
    /// it has seen all.
    ///
    /// # Errors
    /// A gap, a repetition, a wrong order or a wrong event, as a sentence.
    pub fn compare(&mut self) -> Result<bool, String> {
        if let Some(failure) = lock(&self.shared.failure).take() {
            return Err(format!("watch of {}: {failure}", self.prefix));
        }
        self.seen.append(&mut lock(&self.shared.seen));
        while !self.seen.is_empty()
            && let Some(expected) = self.expected.pop_front()
        {
            let seen = self.seen.pop_front().expect("it is not empty");
            if seen != expected {
                return Err(format!(
                    "watch of {}: {seen:?} came where {expected:?} was due",
                    self.prefix
                ));
            }
            self.compared += 1;
        }
        Ok(self.expected.is_empty())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch_for_ever(address: SocketAddr, prefix: String, shared: Arc<Shared>) {
    while lock(&shared.failure).is_none() {
        // Any error of the connection means that the server was killed: resume.
        let _ = watch_until_broken(address, &prefix, &shared).await;
        shared.resumed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch_until_broken(
    address: SocketAddr,
    prefix: &str,
    shared: &Shared,
) -> Result<(), String> {
    let mut client = Client::try_connect(address).await?;
    let create = WatchCreateRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: end_of_prefix(prefix).into(),
        start_revision: shared.last.load(Ordering::Acquire) + 1,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let opened = client.watch_range(create).await;
    let mut responses = opened.map_err(|status| status.to_string())?;
    while let Some(response) = responses
        .message()
        .await
        .map_err(|status| status.to_string())?
    {
        if let Err(sentence) = note(&response, shared) {
            *lock(&shared.failure) = Some(sentence);
            return Ok(());
        }
    }
    Ok(())
}

fn note(response: &WatchResponse, shared: &Shared) -> Result<(), String> {
    if response.canceled {
        return Err(format!("the server cancelled it: {response:?}"));
    }
    let events = Event::all_of(response);
    let Some(last) = events.last().map(|event| event.revision) else {
        return Ok(());
    };
    let resumed_after = shared.last.load(Ordering::Acquire);
    let first = events[0].revision;
    if first <= resumed_after {
        return Err(format!("revision {first} came after {resumed_after}"));
    }
    lock(&shared.seen).extend(events);
    shared.last.store(last, Ordering::Release);
    Ok(())
}

/// The first key behind all keys with this prefix.
pub fn end_of_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut().expect("the prefix is not empty");
    *last = last
        .checked_add(1)
        .expect("the prefix does not end in 0xff");
    end
}
