//! The fewest faults with which a seed still fails.

use crate::children;

/// Names the faults that are left out, in a seed's environment.
pub const WITHOUT: &str = "ENGRAM_SIM_WITHOUT";
/// Runs that shrinking may take.
const RUNS_MAX: usize = 60;

/// The numbers of faults that can be left out of a seed that failed so: it fails all the same.
pub fn without(seed: u64, error: &str) -> String {
    let mut said = error.to_owned();
    let mut without: Vec<u64> = Vec::new();
    for number in came(error).into_iter().rev().take(RUNS_MAX) {
        without.push(number);
        match children::run_with(seed, &[(WITHOUT, &listed(&without))]) {
            Err(error) => said = error,
            Ok(_) => drop(without.pop()),
        }
    }
    let why = said.lines().next().unwrap_or_default();
    println!("without {} of its faults it fails so: {why}", without.len());
    listed(&without)
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
