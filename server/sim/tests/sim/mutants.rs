//! Planted faults, each of which has to be found.

use crate::children;

/// Their names, and what each is.
const MUTANTS: &[(&str, &str)] = &[
    (
        "wal-unsynced",
        "the log does not sync what it says is durable",
    ),
    ("wal-synced-before", "the log syncs before it writes"),
    (
        "birth-unsynced",
        "a new segment gets its name before it is durable",
    ),
    (
        "torn-accepted",
        "a frame is taken for whole whatever its checksum says",
    ),
    (
        "truncate-unlogged",
        "a truncation of the log's end is not written with what follows it",
    ),
    (
        "vote-not-restated",
        "a new segment does not say again what was voted",
    ),
    (
        "names-unsynced",
        "no directory is synced after a name was given or taken",
    ),
    ("vote-unsynced", "a vote is given before it is durable"),
    ("vote-forgotten", "a start does not know what was voted"),
    (
        "append-unflushed",
        "openraft is told at once that an append is durable",
    ),
    (
        "truncated-counts",
        "what was durable and truncated counts for what takes its place",
    ),
    (
        "commit-mark-ahead",
        "what was appended is noted as committed",
    ),
    (
        "leader-restored",
        "a leader that was killed goes on in its term",
    ),
    (
        "apply-undurable",
        "an entry is applied before the own log has it durably",
    ),
    (
        "mark-late",
        "what was applied is noted an entry too low in its batch",
    ),
    (
        "mark-early",
        "what was applied is noted an entry too high in its batch",
    ),
    (
        "snapshot-unflushed",
        "the log is cut below what the store has not persisted",
    ),
    (
        "snapshot-ahead",
        "the log is cut below what was applied beside a flush of the store",
    ),
    (
        "members-forgotten",
        "a start does not know the members that its store tells of",
    ),
    (
        "quorum-miscounted",
        "a member that does not answer counts for a quorum",
    ),
    (
        "engine-unasked",
        "nobody asks the engine whether it has failed by itself",
    ),
    (
        "install-unsynced",
        "a snapshot is in force before the log's truncation is durable",
    ),
    (
        "install-unswitched",
        "a snapshot is in force in memory alone",
    ),
    ("propose-twice", "a batch of unknown fate is sent again"),
    (
        "forward-again",
        "a forwarded batch that was not answered is sent again",
    ),
    (
        "swap-unchecked",
        "a transaction's compares are not looked at",
    ),
    (
        "read-unconfirmed",
        "a leader answers reads without asking a quorum",
    ),
    (
        "promise-unread",
        "a leader takes whatever the few say that it asks for a promise",
    ),
    (
        "read-unapplied",
        "a read does not wait until what was confirmed is applied",
    ),
    ("read-local", "a follower's read does not ask the leader"),
    (
        "compact-too-much",
        "a compaction takes one revision more than was asked",
    ),
    (
        "reclaim-too-much",
        "what is reclaimed takes the revision after it along",
    ),
    ("lease-early", "a lease expires half a second early"),
    ("lease-untied", "a leader's deadlines outlive its term"),
    (
        "lease-unconfirmed",
        "a lease is renewed by who believes that it leads",
    ),
    (
        "lease-lives-on",
        "after an election leases live for an hour",
    ),
    (
        "alarm-early",
        "NOSPACE is raised as soon as one disk is short of room",
    ),
    (
        "alarm-insists",
        "NOSPACE is raised though there is room again by then",
    ),
    ("watch-drops", "the hub is not told of every event"),
    (
        "watch-starts-late",
        "a watcher of the past begins a revision late",
    ),
    (
        "progress-ahead",
        "a watch's progress is told before its events",
    ),
    (
        "watch-skips-install",
        "watchers are not told that a snapshot took the store's place",
    ),
];
/// Seeds that a fault may take.
const SEEDS: u64 = 60;

/// Runs seeds with each planted until one fails; `only` those whose name holds one of these words.
pub fn find_all(only: &[String]) {
    let chosen =
        |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    let (mut missed, mut found_in_all) = (Vec::new(), 0);
    for (name, what) in MUTANTS.iter().filter(|(name, _)| chosen(name)) {
        match find(name) {
            Some((seed, why)) => {
                found_in_all += 1;
                let why: String = why.trim().replace('\n', " ").chars().take(120).collect();
                println!("| `{name}` | {what} | {seed} | {why} |");
            }
            None => {
                println!("| `{name}` | {what} | not in {SEEDS} seeds | |");
                missed.push(*name);
            }
        }
    }
    println!("{found_in_all} found");
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// The first seed that fails with a fault, and why.
fn find(name: &str) -> Option<(u64, String)> {
    let environment = [("ENGRAM_SIM_MUTANT", name)];
    for first in (1..=SEEDS).step_by(2) {
        let run = |seed| (seed, children::run_with(seed, &environment));
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(first + 1));
            (run(first), other.join().expect("it runs"))
        });
        for (seed, said) in [one, other] {
            if let Err(why) = said {
                return Some((seed, why));
            }
        }
    }
    None
}
