//! Writers that never write a key twice, so that afterwards each acknowledged write must be found as
//! it was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::client::Client;
use crate::cluster::Cluster;

/// How long a writer waits for an answer before it goes to the next member.
const PATIENCE: Duration = Duration::from_millis(400);
/// Between two attempts while nobody serves.
const RETRY: Duration = Duration::from_millis(10);
/// How long the load may need to get something done where nothing is wrong.
const PROGRESS_LIMIT: Duration = Duration::from_secs(20);

/// An acknowledged write.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its key, which is its value too.
    pub key: String,
    /// The revision that was told.
    pub revision: i64,
    /// When it was sent.
    pub sent: Instant,
    /// When it was acknowledged.
    pub acknowledged: Instant,
}

/// A load under way, until [`Load::end`] or until it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<Written>>>,
}

impl Load {
    /// `writers` tasks, which write keys below `label/` at every member of the cluster in turn, each
    /// with a pause of `pace` between two writes.
    pub fn begin(cluster: &Cluster, label: &str, writers: usize, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let writer = |number: usize| {
            let writer = Writer {
                label: format!("{label}/{number}"),
                addresses: cluster.addresses(),
                member: number,
                pace,
                stop: stop.clone(),
                count: count.clone(),
            };
            cluster.runtime().spawn(writer.write())
        };
        let writers = (0..writers).map(writer).collect();
        Self {
            stop,
            count,
            writers,
        }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes are acknowledged.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn must_progress(&self, cluster: &Cluster, more: u64) {
        let goal = self.acknowledged() + more;
        cluster.wait_for(PROGRESS_LIMIT, &format!("{more} more writes"), || {
            (self.acknowledged() >= goal).then_some(())
        });
    }

    /// Stops the writers; returns what was acknowledged.
    ///
    /// # Panics
    /// If a writer did.
    pub fn end(mut self, cluster: &Cluster) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let end = |task: JoinHandle<Vec<Written>>| {
            cluster
                .runtime()
                .block_on(task)
                .expect("writers do not panic")
        };
        std::mem::take(&mut self.writers)
            .into_iter()
            .flat_map(end)
            .collect()
    }

    /// Stops the writers and checks that every acknowledged write is there; returns them.
    ///
    /// # Panics
    /// If one is lost or changed.
    pub fn nothing_is_lost(self, cluster: &Cluster) -> Vec<Written> {
        let written = self.end(cluster);
        all_are_there(cluster, &written);
        written
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Checks that every acknowledged write is there.
///
/// # Panics
/// If one is lost or changed.
pub fn all_are_there(cluster: &Cluster, written: &[Written]) {
    let asked = cluster.awake()[0];
    let address = cluster.server(asked).address();
    let read = cluster
        .runtime()
        .block_on(async { Client::connect(address).await.everything().await });
    let read =
        read.unwrap_or_else(|status| cluster.fail(&format!("no read of all keys: {status}")));
    let there: BTreeMap<&[u8], i64> = read
        .kvs
        .iter()
        .map(|kv| (&kv.key[..], kv.mod_revision))
        .collect();
    for write in written {
        let found = there.get(write.key.as_bytes()).copied();
        cluster.must(found == Some(write.revision), || {
            format!(
                "{} was acknowledged at revision {}; {} has it at {found:?}",
                write.key,
                write.revision,
                cluster.server(asked).name()
            )
        });
    }
}

/// How long nobody was served after `moment`: until the first acknowledgement of a write that was
/// sent after it.
pub fn outage_after(moment: Instant, written: &[Written]) -> Option<Duration> {
    let after = written.iter().filter(|write| write.sent >= moment);
    after.map(|write| write.acknowledged - moment).min()
}

struct Writer {
    label: String,
    addresses: Vec<SocketAddr>,
    member: usize,
    pace: Duration,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Writer {
    async fn write(mut self) -> Vec<Written> {
        let mut written = Vec::new();
        let mut client = self.client();
        for number in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("{}/{number}", self.label);
            let sent = Instant::now();
            let put = client.put(key.as_str(), key.as_str());
            if let Ok(Ok(revision)) = tokio::time::timeout(PATIENCE, put).await {
                self.count.fetch_add(1, Ordering::Relaxed);
                written.push(Written {
                    key,
                    revision,
                    sent,
                    acknowledged: Instant::now(),
                });
                tokio::time::sleep(self.pace).await;
            } else {
                // What became of it is not known; the key is not used again.
                self.member += 1;
                client = self.client();
                tokio::time::sleep(RETRY).await;
            }
        }
        written
    }

    fn client(&self) -> Client {
        Client::lazy(self.addresses[self.member % self.addresses.len()])
    }
}
