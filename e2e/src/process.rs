//! What the kernel says of a process: its memory, threads, and the time it has used.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at a process.
const POLL: Duration = Duration::from_millis(20);

/// A moment of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory in use (resident), bytes.
    pub memory: u64,
    /// What of it is no file's, bytes.
    pub anonymous: u64,
    /// The most memory that was ever in use, bytes.
    pub peak: u64,
    /// Threads.
    pub threads: u64,
    /// Time on processors, user and system.
    pub busy: Duration,
}

/// How a process stands; `None` if it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything; utime and stime are the 12th and 13th
    // field after it, in hundredths of a second.
    let (_, after) = stat.rsplit_once(')')?;
    let ticks = after.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|text| text.parse().unwrap_or(0)).sum();
    Some(Usage {
        memory: field("VmRSS:")? << 10,
        anonymous: field("RssAnon:")? << 10,
        peak: field("VmHWM:")? << 10,
        threads: field("Threads:")?,
        busy: Duration::from_millis(ticks * 10),
    })
}

/// Follows a process until it is asked for the peaks.
pub struct Peaks {
    stop: Arc<AtomicBool>,
    memory: Arc<AtomicU64>,
    threads: Arc<AtomicU64>,
    follower: Option<JoinHandle<()>>,
}

impl Peaks {
    /// Begins to look.
    pub fn of(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let memory = Arc::new(AtomicU64::new(0));
        let threads = Arc::new(AtomicU64::new(0));
        let (ended, most, count) = (stop.clone(), memory.clone(), threads.clone());
        let follower = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let seen = usage(pid).unwrap_or_default();
                most.fetch_max(seen.memory, Ordering::Relaxed);
                count.fetch_max(seen.threads, Ordering::Relaxed);
                std::thread::sleep(POLL);
            }
        });
        Self {
            stop,
            memory,
            threads,
            follower: Some(follower),
        }
    }

    /// The most memory (bytes) and the most threads that were seen.
    pub fn end(mut self) -> (u64, u64) {
        self.stop();
        let told = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (told(&self.memory), told(&self.threads))
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(follower) = self.follower.take() {
            follower.join().expect("the follower does not panic");
        }
    }
}

impl Drop for Peaks {
    fn drop(&mut self) {
        self.stop();
    }
}
