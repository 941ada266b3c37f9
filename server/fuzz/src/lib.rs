//! See `tests/fuzz`: what is fuzzed is what tests of the crates below look into.
