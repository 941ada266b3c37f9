//! Planted faults, each of which has to be found.

use crate::children;

/// Their names, and what each is.
const MUTANTS: &[(&str, &str)] = &[
    (
        "wal-unsynced",
        "the log does not sync what it says is durable",
    ),
    (
        "append-unflushed",
        "openraft is told at once that an append is durable",
    ),
    ("vote-unsynced", "a vote is given before it is durable"),
    (
        "apply-undurable",
        "an entry is applied before the own log has it durably",
    ),
    (
        "mark-late",
        "what was applied is noted an entry too low in its batch",
    ),
    ("propose-twice", "a batch of unknown fate is sent again"),
    (
        "read-unconfirmed",
        "a leader answers reads without asking a quorum",
    ),
    ("watch-drops", "the hub is not told of every event"),
];
/// Seeds that a fault may take.
const SEEDS: u64 = 60;

/// Runs seeds with each planted until one fails.
pub fn find_all() {
    let mut missed = Vec::new();
    for (name, what) in MUTANTS {
        let environment = [("ENGRAM_SIM_MUTANT", *name)];
        let mut attempts = (1..=SEEDS).map(|seed| (seed, children::run_with(seed, &environment)));
        let found = attempts.find_map(|(seed, run)| Some((seed, run.err()?)));
        match found {
            Some((seed, why)) => {
                let why: String = why.trim().chars().take(100).collect();
                println!("| {name} | {what} | {seed} | {why} |");
            }
            None => {
                println!("| {name} | {what} | not in {SEEDS} seeds | |");
                missed.push(*name);
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
