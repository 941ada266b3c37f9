//! Another client, beside one that misbehaves: it writes and reads one key at a time and notes how
//! long each answer took. It has a thread of its own: what it measures is the server's time, not how
//! busy the runtime of the misbehaving client is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    /// How late the machine woke a thread that only sleeps. Where it stands still, so do the calls.
    pub machine: Latencies,
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
        format!(
            "{}; {}; the machine p99 {:.1} ms late",
            of("puts", &self.puts),
            of("gets", &self.gets),
            millis(self.machine.p99())
        )
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Two clients at work, one that puts and one that gets, each on its own connection.
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Probe {
    /// Begins.
    ///
    /// # Panics
    /// If the system has no thread to give.
    pub fn begin(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let stopped = told.clone();
            let pulse = std::thread::spawn(move || lateness(&stopped));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime of one thread");
            let both =
                async { tokio::join!(ask(address, true, &told), ask(address, false, &told)) };
            let (puts, gets) = runtime.block_on(both);
            let machine = pulse.join().expect("sleeping does not panic");
            Seen {
                puts,
                gets,
                machine,
            }
        });
        Self { stop, thread }
    }

    /// Probes for as long as given.
    pub fn during(address: SocketAddr, time: Duration) -> Seen {
        let probe = Self::begin(address);
        std::thread::sleep(time);
        probe.end()
    }

    /// Ends; returns what was seen.
    ///
    /// # Panics
    /// If a client of the probe did.
    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a probe does not panic")
    }
}

/// Counted as the calls are: from when each turn was due.
fn lateness(stop: &AtomicBool) -> Latencies {
    let mut late = Vec::new();
    let mut due = Instant::now();
    loop {
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        late.push(due.elapsed());
        if stop.load(Ordering::Relaxed) {
            return Latencies::of(late, 0);
        }
    }
}

async fn ask(address: SocketAddr, writes: bool, stop: &AtomicBool) -> Latencies {
    let mut client = Client::lazy(address);
    let (mut took, mut failed) = (Vec::new(), 0);
    let mut due = Instant::now();
    // Once at least: what it runs beside may be over at once.
    loop {
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
        if stop.load(Ordering::Relaxed) {
            return Latencies::of(took, failed);
        }
        due += EVERY;
        tokio::time::sleep_until(due.into()).await;
    }
}
