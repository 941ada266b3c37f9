//! Another client, beside one that misbehaves: it writes and reads one key at a time and notes how
//! long each answer took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::client::Client;

/// What a client of Kubernetes or etcd waits for before it gives up: etcdctl's default.
const PATIENCE: Duration = Duration::from_secs(5);
/// A call is due this often, and its time counts from then on: who waited for the call before waited
/// too. (Otherwise a halt of a second would count as one slow call.)
const EVERY: Duration = Duration::from_millis(10);

/// How long calls took.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Sorted.
    took: Vec<Duration>,
    /// Calls that failed or had no answer within [`PATIENCE`].
    pub failed: usize,
}

impl Latencies {
    fn of(mut took: Vec<Duration>, failed: usize) -> Self {
        took.sort();
        Self { took, failed }
    }

    /// The time within which 99 of 100 answers came.
    ///
    /// # Panics
    /// If there was no answer at all.
    pub fn p99(&self) -> Duration {
        assert!(!self.took.is_empty(), "not one answer");
        self.took[(self.took.len() - 1) * 99 / 100]
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.took.last().copied().unwrap_or_default()
    }

    /// How many answers came.
    pub fn count(&self) -> usize {
        self.took.len()
    }
}

/// What a probe saw of puts and gets.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Puts.
    pub puts: Latencies,
    /// Linearizable gets.
    pub gets: Latencies,
}

impl Seen {
    /// A line.
    pub fn describe(&self) -> String {
        let of = |name: &str, seen: &Latencies| {
            let p99 = if seen.count() == 0 {
                PATIENCE
            } else {
                seen.p99()
            };
            format!(
                "{name} p99 {:.1} ms, longest {:.1} ms, {} answers, {} failed",
                millis(p99),
                millis(seen.longest()),
                seen.count(),
                seen.failed
            )
        };
        format!("{}; {}", of("puts", &self.puts), of("gets", &self.gets))
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Two clients at work, one that puts and one that gets, each on its own connection.
pub struct Probe {
    stop: Arc<AtomicBool>,
    puts: JoinHandle<Latencies>,
    gets: JoinHandle<Latencies>,
}

impl Probe {
    /// Begins.
    pub fn begin(runtime: &Handle, address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        Self {
            puts: runtime.spawn(ask(address, true, stop.clone())),
            gets: runtime.spawn(ask(address, false, stop.clone())),
            stop,
        }
    }

    /// Probes for as long as given.
    pub fn during(runtime: &Handle, address: SocketAddr, time: Duration) -> Seen {
        let probe = Self::begin(runtime, address);
        std::thread::sleep(time);
        probe.end(runtime)
    }

    /// Ends; returns what was seen.
    ///
    /// # Panics
    /// If a client of the probe did.
    pub fn end(self, runtime: &Handle) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let wait =
            |task: JoinHandle<Latencies>| runtime.block_on(task).expect("a probe does not panic");
        Seen {
            puts: wait(self.puts),
            gets: wait(self.gets),
        }
    }
}

async fn ask(address: SocketAddr, writes: bool, stop: Arc<AtomicBool>) -> Latencies {
    let mut client = Client::lazy(address);
    let (mut took, mut failed) = (Vec::new(), 0);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let call = async {
            match writes {
                true => client.put("probe", "value").await.map(drop),
                false => client.get("probe", 0).await.map(drop),
            }
        };
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(())) => took.push(due.elapsed()),
            _ => failed += 1,
        }
        due += EVERY;
        tokio::time::sleep_until(due.into()).await;
    }
    Latencies::of(took, failed)
}
