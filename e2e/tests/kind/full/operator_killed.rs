//! The operator is killed at random moments while it scales 3 → 5 → 3: what it was at goes on where
//! it stopped, and clients notice nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use engram_e2e::kind::Kind;
use engram_e2e::kind::traffic::Traffic;
use engram_e2e::random::Random;
use serde_json::json;

use crate::ci::{audit, scale};
use crate::lab::{Lab, OPERATOR_NAMESPACE};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "killed";
/// Between two kills, in milliseconds: less than a member needs to join, more than a new operator
/// needs to begin.
const BETWEEN: (u64, u64) = (4_000, 24_000);
/// How often the killer looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(200);
/// Kills without which the story has shown nothing.
const KILLS_LEAST: usize = 3;

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({}));
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let killer = Killer::start(lab.kind());
    step_under(&traffic, "scale 3 → 5, operators killed", || {
        scale::to(&demo, 5);
    });
    step_under(&traffic, "scale 5 → 3, operators killed", || {
        scale::to(&demo, 3);
    });
    let kills = killer.stop();
    println!("          operators killed {kills} times");
    assert!(kills >= KILLS_LEAST, "only {kills} kills");
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// Kills every operator, again and again.
pub struct Killer {
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Killer {
    /// Begins.
    pub fn start(kind: &Arc<Kind>) -> Killer {
        let mut random = Random::new(Random::seed_from("ENGRAM_E2E_SEED"));
        let (stop, kills) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (kind, stopped, count) = (kind.clone(), stop.clone(), kills.clone());
        let thread = thread::spawn(move || {
            while pause(&mut random, &stopped) {
                kind.must(&[
                    "-n",
                    OPERATOR_NAMESPACE,
                    "delete",
                    "pod",
                    "-l",
                    "app.kubernetes.io/name=engram-operator",
                    "--grace-period=0",
                    "--force",
                    "--wait=false",
                ]);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Killer {
            stop,
            kills,
            thread,
        }
    }

    /// Ends; how often it killed.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("operators can be killed");
        self.kills.load(Ordering::Relaxed)
    }
}

/// Waits a random while; whether to go on.
fn pause(random: &mut Random, stop: &AtomicBool) -> bool {
    let (least, most) = BETWEEN;
    let mut left = Duration::from_millis(least + random.below(most - least));
    while !left.is_zero() {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(LOOK.min(left));
        left = left.saturating_sub(LOOK);
    }
    true
}
