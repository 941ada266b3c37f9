//! A client that writes without a pause, and knows what it was told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engram_e2e::kind::Kind;

/// How long one write may wait for an answer; the apiserver gives up on its own much earlier.
const WRITE_LIMIT: Duration = Duration::from_secs(40);
/// Far more than a story has time for.
const MOST_WRITES: usize = 5_000;

/// Creates ConfigMaps, one after the other, until it is stopped or dropped: a story that fails leaves nobody who
/// holds its cluster.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Acknowledged>>,
}

/// What a [`Writer`] was told.
struct Acknowledged {
    /// Names of the objects whose creation was acknowledged.
    names: Vec<String>,
    /// Writes that failed: nothing was promised for them.
    failed: usize,
    /// The longest time between two acknowledged writes.
    longest_gap: Duration,
}

impl Writer {
    /// Starts writing to a namespace that is there.
    pub fn start(kind: &Arc<Kind>, namespace: &str) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (kind, namespace, stopped) = (kind.clone(), namespace.to_owned(), stop.clone());
        let thread = thread::spawn(move || write(&kind, &namespace, &stopped));
        Writer {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops it, and has all that was acknowledged be there: how many that are.
    ///
    /// # Panics
    /// If one is not.
    pub fn audit(mut self, kind: &Kind, namespace: &str) -> usize {
        let told = self.ended().expect("it is stopped once");
        let told = told.expect("the writer does not panic");
        let list = kind.get(namespace, &["configmaps"]).expect("a list");
        let items = list["items"].as_array().expect("items").iter();
        let there: BTreeSet<&str> = items
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect();
        let is_lost = |name: &&String| !there.contains(name.as_str());
        let lost: Vec<_> = told.names.iter().filter(is_lost).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        println!(
            "          {} writes acknowledged, none lost; {} failed; longest gap {:.1} s",
            told.names.len(),
            told.failed,
            told.longest_gap.as_secs_f64()
        );
        told.names.len()
    }

    fn ended(&mut self) -> Option<thread::Result<Acknowledged>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A panic of its own would hide the story's.
        let _ = self.ended();
    }
}

fn write(kind: &Kind, namespace: &str, stopped: &AtomicBool) -> Acknowledged {
    let mut told = Acknowledged {
        names: Vec::new(),
        failed: 0,
        longest_gap: Duration::ZERO,
    };
    let mut last = Instant::now();
    for number in 0..MOST_WRITES {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("written-{number}");
        let create = ["-n", namespace, "create", "configmap", &name];
        let finished = kind.kubectl_within(WRITE_LIMIT, &create);
        if !finished.status.success() {
            told.failed += 1;
            continue;
        }
        told.longest_gap = told.longest_gap.max(last.elapsed());
        last = Instant::now();
        told.names.push(name);
    }
    told
}
