//! The parts of a story, each with its time.

use std::time::Instant;

/// Runs a part of a story and prints what it took.
pub fn step<T>(what: &str, part: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = part();
    println!("{:6.1} s  {what}", started.elapsed().as_secs_f64());
    result
}
