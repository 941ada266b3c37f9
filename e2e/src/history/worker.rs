//! A client that does one thing after the other and writes its history.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::perform::perform;
use super::{Action, Clock, Operation, Outcome};
use crate::client::Client;
use crate::random::Random;

/// Keys that all clients share.
const SHARED_KEYS: u64 = 10;
/// Keys of its own that a client hangs on leases.
const LEASED_KEYS: u64 = 2;
/// How long a client waits for an answer before it goes on without.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long it rests after an answer that helped nobody.
const REST: Duration = Duration::from_millis(50);

/// What all workers of a recording share.
#[derive(Debug)]
pub struct Board {
    /// The recording's clock.
    pub clock: Clock,
    /// Set when they are to finish.
    pub stop: AtomicBool,
    /// Operations served so far.
    pub served: AtomicU64,
    /// The next free client number.
    pub next_client: AtomicUsize,
    /// Where the members are.
    pub addresses: Vec<SocketAddr>,
}

/// A read before anything else, which shows that the store was empty: the referee's model begins
/// there. `None` if it was not served.
pub async fn first_read(board: &Board) -> Option<Operation> {
    let member = 0;
    let mut connection = Client::lazy(board.addresses[member]);
    let key = "key/0".to_owned();
    let action = Action::Get { key };
    let call = board.clock.now();
    let outcome = perform(&mut connection, &action).await;
    let operation = Operation {
        client: board.next_client.fetch_add(1, Ordering::Relaxed),
        member,
        action,
        call,
        back: board.clock.now(),
        outcome,
    };
    operation.answer().is_some().then_some(operation)
}

/// One worker.
pub struct Worker {
    board: Arc<Board>,
    random: Random,
    /// Makes its values, leases and leased keys its own.
    number: u64,
    client: usize,
    member: usize,
    connection: Client,
    /// Pause between two operations.
    pace: Duration,
    count: u64,
    /// Modification revisions of keys as last seen.
    seen: BTreeMap<String, i64>,
    lease: Option<i64>,
    leases: i64,
    history: Vec<Operation>,
}

impl Worker {
    /// A worker. `number` is unique among those of the recording.
    pub fn new(board: Arc<Board>, random: Random, number: usize, pace: Duration) -> Self {
        let member = number % board.addresses.len();
        Self {
            client: board.next_client.fetch_add(1, Ordering::Relaxed),
            connection: Client::lazy(board.addresses[member]),
            board,
            random,
            number: u64::try_from(number).expect("workers are few"),
            member,
            pace,
            count: 0,
            seen: BTreeMap::new(),
            lease: None,
            leases: 0,
            history: Vec::new(),
        }
    }

    /// Works until told to stop; returns the history.
    pub async fn work(mut self) -> Vec<Operation> {
        while !self.board.stop.load(Ordering::Relaxed) {
            let action = self.choose();
            self.perform(action).await;
            tokio::time::sleep(self.pace).await;
        }
        self.history
    }

    fn choose(&mut self) -> Action {
        self.count += 1;
        let key = self.shared_key();
        match self.random.below(100) {
            0..28 => Action::Put {
                key,
                value: self.unique_value(),
                lease: 0,
            },
            28..48 => Action::Get { key },
            48..55 => Action::List {
                from: "key".to_owned(),
                to: "kez".to_owned(),
            },
            55..63 => Action::Delete { key },
            63..83 => self.swap(key),
            83..88 => Action::Peek { key },
            _ => self.use_lease(),
        }
    }

    fn swap(&mut self, key: String) -> Action {
        let second = self.shared_key();
        let other = (self.random.percent(40) && second != key).then_some(second);
        Action::Swap {
            expected: self.seen.get(&key).copied().unwrap_or(0),
            value: self.unique_value(),
            key,
            other,
        }
    }

    fn use_lease(&mut self) -> Action {
        let Some(lease) = self.lease else {
            self.leases += 1;
            let own = i64::try_from(self.number + 1).expect("workers are few") * 1_000_000;
            let lease = own + self.leases;
            self.lease = Some(lease);
            return Action::Grant { lease };
        };
        if self.random.percent(25) {
            self.lease = None;
            return Action::Revoke { lease };
        }
        let (number, which) = (self.number, self.random.below(LEASED_KEYS));
        Action::Put {
            key: format!("lease/{number}/{which}"),
            value: self.unique_value(),
            lease,
        }
    }

    fn shared_key(&mut self) -> String {
        format!("key/{}", self.random.below(SHARED_KEYS))
    }

    /// Short: etcd's model holds values of 20 bytes and more as a hash of 32 bits.
    fn unique_value(&self) -> String {
        format!("{}.{}", self.number, self.count)
    }

    async fn perform(&mut self, action: Action) {
        let call = self.board.clock.now();
        let waiting = tokio::time::timeout(PATIENCE, perform(&mut self.connection, &action));
        let outcome = waiting.await;
        let outcome =
            outcome.unwrap_or_else(|_| Outcome::Unknown(format!("none for {PATIENCE:?}")));
        let operation = Operation {
            client: self.client,
            member: self.member,
            action,
            call,
            back: self.board.clock.now(),
            outcome,
        };
        let is_done = self.learn_from(&operation);
        if operation.is_open() {
            self.client = self.board.next_client.fetch_add(1, Ordering::Relaxed);
        }
        self.history.push(operation);
        if !is_done {
            self.rest().await;
        }
    }

    /// Notes what an answer says; returns whether there was one.
    fn learn_from(&mut self, operation: &Operation) -> bool {
        let Some(answer) = operation.answer() else {
            // Whether the lease exists is open, so nothing more is hung on it.
            if matches!(operation.action, Action::Grant { .. }) {
                self.lease = None;
            }
            return false;
        };
        self.board.served.fetch_add(1, Ordering::Relaxed);
        for kv in &answer.kvs {
            self.seen.insert(kv.key.clone(), kv.modified);
        }
        match &operation.action {
            Action::Get { key } | Action::Delete { key } if answer.kvs.is_empty() => {
                self.seen.remove(key);
            }
            Action::Put { key, .. } => {
                self.seen.insert(key.clone(), answer.revision);
            }
            Action::Swap { key, .. } if answer.succeeded => {
                self.seen.insert(key.clone(), answer.revision);
            }
            Action::Swap { key, .. } if answer.kvs.is_empty() => {
                self.seen.remove(key);
            }
            _ => {}
        }
        true
    }

    /// Waits a little, and at times tries another member, over a new connection.
    async fn rest(&mut self) {
        tokio::time::sleep(REST).await;
        if self.random.percent(50) {
            self.member = self.random.place(self.board.addresses.len());
            self.connection = Client::lazy(self.board.addresses[self.member]);
        }
    }
}
