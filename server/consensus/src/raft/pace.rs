//! How fast a snapshot is sent: as fast as this member's log disk shows that it bears. While the log's
//! syncs take as long as they did before, more is sent; when they take longer, less.
//!
//! The network needs no measure of its own: what it does not take is not read.

use std::time::{Duration, Instant};

use prometheus::Histogram;

/// The rate that a transfer begins with, bytes a second.
const RATE_FIRST: f64 = (64u64 << 20) as f64;
/// The least: 64 GiB take 34 minutes, and the log of a member that takes 5 MB/s grows by 10 GB
/// meanwhile, which is kept (`docs/catch-up.md`).
const RATE_LEAST: f64 = (32u64 << 20) as f64;
/// The most: beyond it something else is the limit.
const RATE_MOST: f64 = (2u64 << 30) as f64;
/// How often the rate is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Fewer syncs between two looks say nothing.
const SYNCS_LEAST: u64 = 5;
/// How much longer than before syncs may take, as a factor and in seconds.
const SLOWER: (f64, f64) = (1.5, 0.002);
/// What is sent at once however low the rate, seconds of it.
const BURST: f64 = 0.05;

/// Syncs so far: how many, and how long all of them took. Seconds.
type Syncs = (u64, f64);

/// See the module.
pub(super) struct Pace {
    syncs: Histogram,
    seen: Syncs,
    looked: Instant,
    rate: Rate,
    /// Bytes that may be sent now; below 0: owed.
    allowance: f64,
    filled: Instant,
}

/// The rate itself, without a clock.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes_per_second: f64,
    /// What a sync takes without a transfer, as far as is known. Seconds.
    calm: Option<f64>,
}

impl Rate {
    /// From how long syncs took before the transfer.
    fn new(before: Syncs) -> Rate {
        Rate {
            bytes_per_second: RATE_FIRST,
            calm: mean(before),
        }
    }

    /// So many syncs took so long since the last look.
    fn looked(&mut self, syncs: Syncs) {
        let factor = match mean(syncs).filter(|_| syncs.0 >= SYNCS_LEAST) {
            // Nobody writes: nobody is held up.
            None => 1.5,
            Some(took) if self.is_slower(took) => 0.7,
            Some(took) => {
                self.calm = Some(self.calm.map_or(took, |calm| calm.min(took)));
                1.25
            }
        };
        self.bytes_per_second = (self.bytes_per_second * factor).clamp(RATE_LEAST, RATE_MOST);
    }

    fn is_slower(&self, took: f64) -> bool {
        let limit = self.calm.map(|calm| calm * SLOWER.0 + SLOWER.1);
        limit.is_some_and(|limit| took > limit)
    }
}

fn mean(syncs: Syncs) -> Option<f64> {
    (syncs.0 > 0).then(|| syncs.1 / syncs.0 as f64)
}

impl Pace {
    /// For a transfer that begins now beside a log whose syncs are observed in `syncs`.
    pub fn new(syncs: Histogram) -> Pace {
        let seen = (syncs.get_sample_count(), syncs.get_sample_sum());
        let now = Instant::now();
        Pace {
            syncs,
            seen,
            looked: now,
            rate: Rate::new(seen),
            allowance: 0.0,
            filled: now,
        }
    }

    /// Waits until `bytes` more may be sent. Blocks.
    pub fn wait_for(&mut self, bytes: u64) {
        self.look();
        let rate = self.rate.bytes_per_second;
        let since = std::mem::replace(&mut self.filled, Instant::now());
        let filled = self.filled.duration_since(since).as_secs_f64() * rate;
        self.allowance = (self.allowance + filled).min(rate * BURST) - bytes as f64;
        // Short waits cost more than they are worth: the next piece makes up for them.
        let owed = -self.allowance / rate;
        if owed > 0.005 {
            std::thread::sleep(Duration::from_secs_f64(owed));
        }
    }

    fn look(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let now = (self.syncs.get_sample_count(), self.syncs.get_sample_sum());
        let before = std::mem::replace(&mut self.seen, now);
        self.rate.looked((now.0 - before.0, now.1 - before.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1048576.0;

    fn after(looks: usize, syncs: Syncs) -> f64 {
        let mut rate = Rate::new((1000, 1.0));
        (0..looks).for_each(|_| rate.looked(syncs));
        rate.bytes_per_second / MIB
    }

    #[test]
    fn the_rate_rises_where_nobody_is_held_up_and_falls_where_syncs_take_longer() {
        assert_eq!(after(20, (0, 0.0)), RATE_MOST / MIB);
        assert_eq!(after(20, (100, 0.1)), RATE_MOST / MIB);
        assert_eq!(after(20, (100, 2.0)), RATE_LEAST / MIB);
        assert!(after(1, (100, 2.0)) < 64.0 && after(1, (100, 0.1)) > 64.0);
        assert!(after(1, (2, 2.0)) > 64.0, "two syncs say nothing");
    }

    #[test]
    fn what_is_sent_keeps_to_the_rate() {
        let histogram = Histogram::with_opts(prometheus::HistogramOpts::new("t", "t")).unwrap();
        let mut pace = Pace::new(histogram);
        let started = Instant::now();
        for _ in 0..24 {
            pace.wait_for(512 << 10);
        }
        // 12 MiB at 64 MiB/s, and a little at once.
        let took = started.elapsed().as_secs_f64();
        assert!((0.12..1.0).contains(&took), "{took}");
    }
}
