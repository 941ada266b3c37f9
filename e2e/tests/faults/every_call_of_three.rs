//! One member of three is struck at a call that changes a file, while it comes back and follows the others: the others
//! write on, and it returns with all that was acknowledged.
//!
//! CI strikes once of each kind, where the seed says; `make faults` at each of the first calls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engram_e2e::bad_disk::{BadCall, Strike};
use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, Plan};
use engram_e2e::disk::SmallFileSystem;
use engram_e2e::random::Random;

use crate::case;
use crate::ci_or_full;

/// How many calls are struck of each kind.
const SAMPLE: usize = 1;
const FIRST: usize = 60;
const DISK_BYTES: u64 = 2 << 30;
/// Written while a member is down, and while it is struck.
const MISSED: usize = 30;
const WRITES: usize = 90;
const VALUE_BYTES: usize = 2_000;
/// A write is acknowledged by then though a member is gone: an election may be in between.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// A member that was struck has ended by then, or goes on.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Nothing is struck: to count.
const NO_CALL: u64 = 0;

#[test]
fn a_member_of_three_that_is_struck_at_a_call_comes_back() {
    let case = case::begin("one of three struck at a call to its disk");
    let mut random = Random::new(Random::seed_from("ENGRAM_FAULTS_SEED"));
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mount_point = scratch.path().join("disk");
    std::fs::create_dir(&mount_point).expect("creating a directory");
    let disk = SmallFileSystem::mount(&mount_point, DISK_BYTES);
    let mut plan = Plan::of(3).flag("--snapshot-count=20");
    for place in 0..3 {
        plan = plan.data_dir_of(place, disk.path().join(format!("m{place}")));
    }
    let mut struck = Struck {
        bad: BadCall::prepare(scratch.path()),
        cluster: plan.start(),
        wrote: BTreeMap::new(),
        written: 0,
    };
    let (all, _) = struck.round(0, NO_CALL, Strike::Kill);
    assert!(all > 0, "it makes calls to its disk when it comes back");
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let (mut tried, mut hit) = (0, 0);
    let strikes = [
        Strike::Kill,
        Strike::Torn,
        Strike::Power(1),
        Strike::Eio,
        Strike::NoSpace,
    ];
    for strike in strikes {
        for number in 0..ci_or_full(SAMPLE, FIRST) {
            let at = match ci_or_full(true, false) {
                // Not each comes back with as many calls as the first one.
                true => 1 + random.below(all.div_ceil(4) * 3),
                false => 1 + number as u64,
            };
            let place = usize::try_from(random.below(3)).expect("three");
            let (made, end) = struck.round(place, at, strike);
            tried += 1;
            hit += usize::from(made >= at);
            println!("  {strike:?} at call {at} of member {place}: {end}");
            *ends.entry(format!("{strike:?}: {end}")).or_default() += 1;
        }
    }
    let revision = struck.cluster.must_hold_the_same();
    case.saw(format!(
        "of {all} calls, {} writes, revision {revision}, {hit} of {tried} struck: {ends:?}",
        struck.wrote.len()
    ));
    assert!(2 * hit > tried, "most calls are struck: {ends:?}");
}

/// The cluster, and what it has acknowledged.
struct Struck {
    bad: BadCall,
    cluster: Cluster,
    wrote: BTreeMap<String, usize>,
    written: usize,
}

impl Struck {
    /// A member is killed, misses something, and comes back with a call to be struck: how many calls it made,
    /// and what came of it.
    fn round(&mut self, place: usize, at: u64, strike: Strike) -> (u64, String) {
        self.cluster.kill(place);
        let other = (place + 1) % 3;
        self.write(other, MISSED);
        let under = self.cluster.server(place).data_dir().to_path_buf();
        let environment = self.bad.environment(&under, at, strike);
        let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
        self.cluster.relaunch_through(place, "env", &environment);
        self.write(other, WRITES);
        let (ended, calls, name) = self.wait(place);
        let said = self.cluster.server(place).output();
        self.cluster.must(!said.contains("panicked"), || {
            format!("struck at {name:?}: {said}")
        });
        let end = match (ended, name) {
            (Some(status), Some(name)) => format!("ended by {status} at {name}"),
            (Some(status), None) if at == NO_CALL => {
                self.cluster.fail(&format!("it ended by {status}"))
            }
            (Some(status), None) => format!("ended by {status}"),
            (None, Some(name)) => format!("goes on after {name}"),
            (None, None) => "not reached".to_owned(),
        };
        if ended.is_none() {
            // Nothing more is to be struck.
            self.cluster.kill(place);
        }
        self.cluster.restart(place);
        self.must_hold(place);
        (calls, end)
    }

    /// Waits until a member that comes back has ended or has caught up: how it ended, its calls, which was
    /// struck.
    fn wait(&mut self, place: usize) -> (Option<std::process::ExitStatus>, u64, Option<String>) {
        let began = Instant::now();
        let wanted = self.cluster.revision((place + 1) % 3);
        let mut ended = None;
        while ended.is_none() && began.elapsed() < END_LIMIT {
            ended = self.cluster.ended_within(place, Duration::from_millis(20));
            let is_there = ended.is_none() && self.cluster.revision(place) >= wanted;
            if is_there && wanted.is_some() {
                break;
            }
        }
        let (calls, name) = self.bad.told();
        (ended, calls, name)
    }

    /// Writes at a member, each until it is acknowledged.
    fn write(&mut self, place: usize, count: usize) {
        let address = self.cluster.server(place).address();
        for _ in 0..count {
            self.written += 1;
            let (key, length) = (format!("key-{}", self.written), self.written % VALUE_BYTES);
            let began = Instant::now();
            let put = async {
                let mut client = Client::lazy(address);
                while client.put(key.clone(), vec![b'v'; length]).await.is_err() {
                    assert!(
                        began.elapsed() < WRITE_LIMIT,
                        "{key} is not written: one of three members is gone"
                    );
                }
            };
            self.cluster.runtime().block_on(put);
            self.wrote.insert(key, length);
        }
    }

    /// A member has all that was acknowledged.
    fn must_hold(&self, place: usize) {
        let address = self.cluster.server(place).address();
        let check = async {
            let mut client = Client::lazy(address);
            for (key, length) in &self.wrote {
                let found = client.get(key.clone(), 0).await.expect("it serves");
                let value = found.kvs.first().map(|kv| kv.value.len());
                assert_eq!(value, Some(*length), "{key} at member {place}");
            }
        };
        self.cluster.runtime().block_on(check);
    }
}
