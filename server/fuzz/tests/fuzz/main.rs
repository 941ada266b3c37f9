//! Whatever bytes come from outside, read as the server reads them: nothing panics, nothing is read that was
//! not written, and what is understood is understood in the same way again.
//!
//! Here each target runs over its seeds, its corpus and some thousand inputs that a seed makes of them, which
//! `make fuzz-quick` does in a minute. `make fuzz` runs the same functions with libFuzzer, guided by coverage
//! (`tests/libfuzzer.rs`), and adds what it found to `corpus`. `ENGRAM_FUZZ_SEED` draws other inputs,
//! `ENGRAM_FUZZ_CASES` has so many times as many of them.

mod input;
mod mutate;
mod scratch;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mutate::Mutator;
use targets::Target;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

/// Runs a target over everything that there is for it.
fn holds(target: &Target) {
    let corpus = target.corpus();
    corpus.iter().for_each(|input| tried(target, input));
    let named = crc32c::crc32c(target.name.as_bytes());
    let mut mutator = Mutator::new(u64::from(named) ^ number("ENGRAM_FUZZ_SEED", 0));
    let times = usize::try_from(number("ENGRAM_FUZZ_CASES", 1)).expect("it fits");
    for _ in 0..target.cases * times {
        tried(target, &mutator.input(&corpus));
    }
}

/// Runs a target over one input, and says which it was where it fails.
fn tried(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!(
            "{} fails with a line of corpus/{0}.hex:\n{digits}",
            target.name
        );
        resume_unwind(panic);
    }
}

macro_rules! every_one_of {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            holds(&targets::$name::TARGET);
        })*

        #[test]
        fn every_target_is_run_here_under_the_name_of_its_corpus() {
            let run = [$(stringify!($name)),*];
            assert_eq!(run.as_slice(), targets::ALL.map(|target| target.name));
        }
    };
}

every_one_of! {
    answers batch bbolt certificates chunks config_file connection etcd_log etcd_requests flags json load log manifests
    peer_messages permissions requests revocations snapshot_pieces state store texts tokens
}
