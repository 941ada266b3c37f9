//! Clients that write and read without a pause while a story goes on, and keep the books of what
//! they were told: the longest time without an answer, and every acknowledged write.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engram_proto::etcdserverpb::RangeRequest;

use super::Access;
use crate::client::Client;

/// How long a call may take before the client asks elsewhere: an election takes 1.25 to 1.5 s.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two calls, of the writer and of the prober: enough for a gap to be measured, little
/// enough for the two cores that three nodes share.
const PACE: Duration = Duration::from_millis(20);
/// Between two attempts after one has failed.
const RETRY: Duration = Duration::from_millis(50);
/// Far more writes than a story has time for.
const MOST_WRITES: usize = 500_000;
/// Keys of one page when the books are compared.
const PAGE: i64 = 1_000;
/// How long reading a page may take.
const READ_LIMIT: Duration = Duration::from_secs(20);
/// Where the writer's keys begin, and where they end.
const KEYS: (&str, &str) = ("traffic/", "traffic0");

/// The longest times without an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gaps {
    /// Between two acknowledged writes.
    pub write: Duration,
    /// Between two linearizable reads.
    pub read: Duration,
}

/// What a client was told.
struct Book {
    /// Key and revision of each acknowledged write.
    acknowledged: BTreeMap<String, i64>,
    /// Calls that failed: nothing was promised for them.
    failed: usize,
    /// The last answer.
    last: Instant,
    /// The longest gap since the last [`Traffic::lap`], and of all time.
    lap: Duration,
    longest: Duration,
}

impl Book {
    fn new() -> Arc<Mutex<Book>> {
        Arc::new(Mutex::new(Book {
            acknowledged: BTreeMap::new(),
            failed: 0,
            last: Instant::now(),
            lap: Duration::ZERO,
            longest: Duration::ZERO,
        }))
    }

    fn answered(&mut self, written: Option<(String, i64)>) {
        self.look();
        self.last = Instant::now();
        self.acknowledged.extend(written);
    }

    /// Counts the time since the last answer, which may not be over.
    fn look(&mut self) {
        let gap = self.last.elapsed();
        self.lap = self.lap.max(gap);
        self.longest = self.longest.max(gap);
    }

    fn lap(&mut self) -> Duration {
        self.look();
        std::mem::take(&mut self.lap)
    }
}

/// A writer and a prober under way, until [`Traffic::stop`] or until it is dropped.
pub struct Traffic {
    access: Access,
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Book>>,
    reads: Arc<Mutex<Book>>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of it all.
#[derive(Clone, Copy, Debug)]
pub struct Audited {
    /// Acknowledged writes, every one of which was found as it was acknowledged.
    pub acknowledged: usize,
    /// Calls that failed.
    pub failed: usize,
    /// The longest gaps.
    pub longest: Gaps,
}

impl Traffic {
    /// Starts both clients, which ask these addresses in turn. Returns once both were answered.
    ///
    /// # Panics
    /// If they are not answered within a minute.
    pub fn start(access: &Access, addresses: &[SocketAddr]) -> Traffic {
        let mut traffic = Traffic {
            access: access.clone(),
            addresses: addresses.to_vec(),
            stop: Arc::new(AtomicBool::new(false)),
            writes: Book::new(),
            reads: Book::new(),
            threads: Vec::new(),
        };
        traffic
            .threads
            .push(traffic.client(Write { number: 0 }, &traffic.writes));
        traffic.threads.push(traffic.client(Read, &traffic.reads));
        let begun = |book: &Mutex<Book>| held(book).longest > Duration::ZERO;
        super::wait_for(
            "reads and writes are answered",
            super::KUBECTL_LIMIT,
            || (begun(&traffic.writes) && begun(&traffic.reads)).then_some(()),
        );
        traffic.lap();
        traffic
    }

    /// The longest gaps since the last lap.
    pub fn lap(&self) -> Gaps {
        Gaps {
            write: held(&self.writes).lap(),
            read: held(&self.reads).lap(),
        }
    }

    /// Has both clients call no more; what they were told stays in the books.
    pub fn pause(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
    }

    /// Key and revision of each write that was acknowledged so far.
    pub fn acknowledged(&self) -> BTreeMap<String, i64> {
        held(&self.writes).acknowledged.clone()
    }

    /// Key and revision of each of the writer's keys that is there now.
    pub fn there(&self) -> BTreeMap<String, i64> {
        runtime().block_on(everything(&self.access, self.addresses[0]))
    }

    /// Stops both clients and looks for every acknowledged write.
    ///
    /// # Panics
    /// If one is not there, or at another revision than was told.
    pub fn stop(mut self) -> Audited {
        self.pause();
        let writes = held(&self.writes);
        let there = runtime().block_on(everything(&self.access, self.addresses[0]));
        let differs = |(key, revision): &(&String, &i64)| there.get(*key) != Some(revision);
        let lost: Vec<_> = writes
            .acknowledged
            .iter()
            .filter(differs)
            .take(10)
            .collect();
        assert!(lost.is_empty(), "acknowledged and not there: {lost:?}, …");
        let reads = held(&self.reads);
        Audited {
            acknowledged: writes.acknowledged.len(),
            failed: writes.failed + reads.failed,
            longest: Gaps {
                write: writes.longest,
                read: reads.longest,
            },
        }
    }

    fn client<C: Call + Send + 'static>(&self, call: C, book: &Arc<Mutex<Book>>) -> JoinHandle<()> {
        let (access, addresses) = (self.access.clone(), self.addresses.clone());
        let (stop, book) = (self.stop.clone(), book.clone());
        thread::spawn(move || runtime().block_on(go_on(&access, &addresses, call, &book, &stop)))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a client does again and again.
trait Call {
    /// One call; returns what was acknowledged, if it was a write.
    ///
    /// # Errors
    /// The server's or the transport's.
    fn call(
        &mut self,
        client: &mut Client,
    ) -> impl Future<Output = Result<Option<(String, i64)>, tonic::Status>> + Send;
}

struct Write {
    number: usize,
}

impl Call for Write {
    async fn call(&mut self, client: &mut Client) -> Result<Option<(String, i64)>, tonic::Status> {
        // A key is written once, whatever became of the call.
        self.number += 1;
        let key = format!("{}{:08}", KEYS.0, self.number);
        let revision = client.put(key.clone(), key.clone()).await?;
        Ok(Some((key, revision)))
    }
}

struct Read;

impl Call for Read {
    async fn call(&mut self, client: &mut Client) -> Result<Option<(String, i64)>, tonic::Status> {
        client.get(KEYS.0, 0).await?;
        Ok(None)
    }
}

/// Calls until it is told to stop; after a failure at the next address.
async fn go_on<C: Call>(
    access: &Access,
    addresses: &[SocketAddr],
    mut call: C,
    book: &Mutex<Book>,
    stop: &AtomicBool,
) {
    let mut client = None;
    for attempt in 0..MOST_WRITES {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let address = addresses[attempt % addresses.len()];
        if client.is_none() {
            client = access.connect(address, PATIENCE).await.ok();
        }
        let answer = match &mut client {
            Some(client) => call.call(client).await.ok(),
            None => None,
        };
        let Some(written) = answer else {
            client = None;
            held(book).failed += 1;
            tokio::time::sleep(RETRY).await;
            continue;
        };
        held(book).answered(written);
        tokio::time::sleep(PACE).await;
    }
}

/// Key and revision of everything that the writer has written, page by page.
async fn everything(access: &Access, address: SocketAddr) -> BTreeMap<String, i64> {
    let mut client = access.reach(address, READ_LIMIT).await;
    let mut there = BTreeMap::new();
    let mut from = KEYS.0.as_bytes().to_vec();
    for _ in 0..MOST_WRITES {
        let page = RangeRequest {
            key: from.into(),
            range_end: KEYS.1.as_bytes().to_vec().into(),
            limit: PAGE,
            ..RangeRequest::default()
        };
        let page = client.kv.range(page).await.expect("a page").into_inner();
        from = match page.kvs.last() {
            Some(last) => [&last.key[..], &[0]].concat(),
            None => break,
        };
        let entry = |kv: &engram_proto::mvccpb::KeyValue| {
            (
                String::from_utf8_lossy(&kv.key).into_owned(),
                kv.mod_revision,
            )
        };
        there.extend(page.kvs.iter().map(entry));
        if !page.more {
            break;
        }
    }
    there
}

fn held(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().expect("nobody panics with the book in hand")
}

/// A client lives on one thread.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build();
    runtime.expect("a runtime of one thread")
}
