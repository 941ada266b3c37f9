//! The shortest beginning of a seed, and the fewest faults of it, with which it still fails.

use std::fmt;

use crate::children;
use crate::cluster::Plan;

/// Names the faults that are left out, in a seed's environment.
pub const WITHOUT: &str = "ENGRAM_SIM_WITHOUT";
/// Says when the last fault comes, in virtual milliseconds.
pub const UNTIL: &str = "ENGRAM_SIM_UNTIL";
/// How closely that is looked for. Virtual milliseconds.
const UNTIL_STEP_MS: u64 = 100;
/// Runs that leaving out faults may take.
const RUNS_MAX: usize = 60;

/// What is left of a seed that failed so: it fails all the same.
pub struct Smallest {
    seed: u64,
    until_ms: u64,
    without: Vec<u64>,
}

impl fmt::Display for Smallest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without = listed(&self.without);
        write!(f, "{UNTIL}={} {WITHOUT}=\"{without}\"", self.until_ms)
    }
}

impl Smallest {
    /// What it fails with, if it does.
    fn fails(&self) -> Option<String> {
        let (until, without) = (self.until_ms.to_string(), listed(&self.without));
        children::run_with(self.seed, &[(UNTIL, &until), (WITHOUT, &without)]).err()
    }

    /// Ends it sooner, as long as it fails.
    fn end_sooner(&mut self, said: &mut String) {
        let mut holds_ms = 0;
        while self.until_ms - holds_ms > UNTIL_STEP_MS {
            let fails_ms = self.until_ms;
            self.until_ms = holds_ms.midpoint(fails_ms);
            match self.fails() {
                Some(error) => *said = error,
                None => holds_ms = std::mem::replace(&mut self.until_ms, fails_ms),
            }
        }
    }

    /// Leaves out faults, the last ones first.
    fn leave_out(&mut self, said: &mut String) {
        for number in came(said).into_iter().rev().take(RUNS_MAX) {
            self.without.push(number);
            match self.fails() {
                Some(error) => *said = error,
                None => drop(self.without.pop()),
            }
        }
    }
}

/// Makes a seed that failed so smaller.
pub fn smallest(seed: u64, error: &str) -> Smallest {
    let mut said = error.to_owned();
    let mut smallest = Smallest {
        seed,
        until_ms: Plan::of(seed).until_ms,
        without: Vec::new(),
    };
    smallest.end_sooner(&mut said);
    smallest.leave_out(&mut said);
    let why = said.lines().next().unwrap_or_default();
    let left_out = smallest.without.len();
    println!(
        "with faults up to {} ms, and without {left_out} of these, it fails so: {why}",
        smallest.until_ms
    );
    smallest
}

fn listed(numbers: &[u64]) -> String {
    let numbers = numbers.iter().map(u64::to_string);
    numbers.collect::<Vec<_>>().join(",")
}

/// The faults that a seed says have come. After a panic it says none: all that there can have been are tried.
fn came(error: &str) -> Vec<u64> {
    let said = error
        .lines()
        .find_map(|line| line.strip_prefix(crate::FAULTS_SAID));
    said.map_or((0..40).collect(), |said| {
        said.split(',')
            .filter_map(|number| number.parse().ok())
            .collect()
    })
}
