//! The traffic of etcd's own robustness tests under our faults, judged by their validators.
//!
//! CI has a kill and a pause befall the members; `make robustness RUNS=n SEED=s` everything at once, and
//! writes a line a run to the file that `ENGRAM_ROBUSTNESS_REPORT` names. `make robustness RUN=n SEED=s` repeats
//! the faults of one run; what the clients ask, etcd's suite draws anew.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use engram_e2e::cluster::storm::{Disks, Fault};
use engram_e2e::cluster::{Cluster, Plan};
use engram_e2e::etcd_traffic::{LIES, PROFILES, Recorded, Traffic};
use engram_e2e::random::{Random, number_from};
use engram_e2e::turn;

/// What CI's form has befall the members, and for how long.
const FAULTS_CI: [Fault; 2] = [Fault::Kill, Fault::Pause];
const LENGTH_CI: Duration = Duration::from_secs(8);
const LENGTH: Duration = Duration::from_secs(15);
const RUNS: u64 = 100;
/// After the last fault: what was broken has to be seen whole. Clients try to connect every few seconds.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// Fewer operations than that would say nothing.
const SERVED: u64 = 50;
/// How long clients are lied to.
const LIE_LENGTH: Duration = Duration::from_secs(6);
/// `--snapshot-count`, as in etcd's scenarios, so that members need snapshots.
const SNAPSHOT_COUNTS: [u64; 3] = [50, 100, 1_000];

#[test]
fn etcds_traffic_is_served_right_under_a_kill_and_a_pause() {
    let _turn = turn::take("robustness");
    let mut random = Random::new(Random::seed_from("ENGRAM_CHAOS_SEED"));
    for profile in &PROFILES[..2] {
        let disks = Disks::default();
        let cluster = plan(&mut random, &disks).start();
        let ran = run(cluster, &mut random, profile, &FAULTS_CI, &disks, LENGTH_CI);
        println!("{profile}: {ran}");
    }
}

#[test]
#[ignore = "takes long: `make robustness` runs it"]
fn etcds_traffic_is_served_right_under_all_faults_at_once() {
    let _turn = turn::take("robustness in full");
    let first = number_from("ENGRAM_ROBUSTNESS_FIRST").unwrap_or(0);
    let seed = Random::seed_from("ENGRAM_ROBUSTNESS_SEED");
    let runs = number_from("ENGRAM_ROBUSTNESS_RUNS").unwrap_or(RUNS);
    let mut failed = Vec::new();
    for number in first..first + runs {
        let profile = PROFILES[usize::try_from(number).expect("it is small") % PROFILES.len()];
        let began = Instant::now();
        // A run that fails is told of, and the next one begins.
        let ran = catch_unwind(AssertUnwindSafe(|| one(seed, number, profile)));
        let seconds = began.elapsed().as_secs();
        let (result, seen) = match &ran {
            Ok(seen) => ("right", seen.as_str()),
            Err(_) => ("WRONG", "see what it printed"),
        };
        write_down(&format!(
            "| {number} of {seed} | {profile} | {result} | {seconds} s | {seen} |"
        ));
        if ran.is_err() {
            println!("again: make robustness RUN={number} SEED={seed}");
            failed.push(number);
        }
    }
    assert!(failed.is_empty(), "runs {failed:?} of seed {seed} failed");
}

/// Run `number` of a seed: what happened, in a line.
fn one(seed: u64, number: u64, profile: &str) -> String {
    let mut random = Random::new(seed.wrapping_add(number));
    let disks = Disks::draw(&mut random, 3);
    let cluster = plan(&mut random, &disks).start();
    run(cluster, &mut random, profile, Fault::ALL, &disks, LENGTH)
}

/// The judges are judged: faults of a server that are planted between it and the clients.
#[test]
#[ignore = "takes long: `make robustness` runs it"]
fn lies_are_found() {
    let _turn = turn::take("lies");
    for lie in LIES {
        let began = Instant::now();
        let verdict = verdict_on(lie);
        let seconds = began.elapsed().as_secs();
        let profile = PROFILES[0];
        write_down(&format!(
            "| {lie} | {profile} | found | {seconds} s | {verdict} |"
        ));
    }
}

/// How the judges refuse a lie, in a line.
fn verdict_on(lie: &str) -> String {
    let mut cluster = plan(&mut Random::new(1), &Disks::default()).start();
    let traffic = Traffic::begin(&cluster, PROFILES[0], Some(lie));
    // A member that lags, for reads that are stale.
    cluster.pause(2);
    std::thread::sleep(LIE_LENGTH / 2);
    cluster.resume(2);
    std::thread::sleep(LIE_LENGTH / 2);
    match traffic.end(&cluster).judge() {
        Ok(verdict) => cluster.fail(&format!("{lie} passed: {verdict}")),
        Err(verdict) => verdict.lines().last().unwrap_or_default().to_owned(),
    }
}

fn plan(random: &mut Random, disks: &Disks) -> Plan {
    let count = SNAPSHOT_COUNTS[random.place(SNAPSHOT_COUNTS.len())];
    let plan = Plan::of(3)
        .flag(format!("--snapshot-count={count}"))
        .flag("--snapshot-catchup-entries=50")
        .flag("--watch-progress-notify-interval=100ms");
    disks.fit(plan)
}

fn run(
    mut cluster: Cluster,
    random: &mut Random,
    profile: &str,
    faults: &[Fault],
    disks: &Disks,
    length: Duration,
) -> String {
    let traffic = Traffic::begin(&cluster, profile, None);
    let happened = cluster.weather(random, faults, disks, length);
    std::thread::sleep(AFTERWARDS);
    let recorded = traffic.end(&cluster);
    cluster.must_hold_the_same();
    let numbers = numbers_of(&recorded);
    let served = recorded.summary["operations"].as_u64().unwrap_or_default();
    cluster.must(served >= SERVED, || {
        format!("hardly anything was served: {numbers}")
    });
    let verdict = recorded.must_be_right(&cluster);
    println!("  {verdict}");
    format!("{} faults: {}; {numbers}", happened.len(), kinds(&happened))
}

fn numbers_of(recorded: &Recorded) -> String {
    let summary = &recorded.summary;
    format!(
        "{} operations answered ({:.0} a second), {} not; {} revisions, {} compactions, {} watches of {} events",
        summary["operations"],
        summary["per_second"].as_f64().unwrap_or_default(),
        summary["failures"],
        summary["revisions"],
        summary["compactions"],
        summary["watches"],
        summary["events"]
    )
}

/// What happened without when and how long: `Kill m1, Pause m3`.
fn kinds(happened: &[String]) -> String {
    let kind = |line: &String| {
        let what = line
            .split_once(": ")
            .map_or(line.as_str(), |(_, what)| what);
        let words: Vec<&str> = what.split(' ').collect();
        format!("{} {}", words[0], words.last().expect("a split has a part"))
    };
    happened.iter().map(kind).collect::<Vec<_>>().join(", ")
}

fn write_down(line: &str) {
    println!("{line}");
    let Some(report) = std::env::var_os("ENGRAM_ROBUSTNESS_REPORT") else {
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(report);
    file.and_then(|mut file| writeln!(file, "{line}"))
        .expect("writing the report");
}
