//! The simulator is a test (`tests/sim`): only tests may ask for what it uses of the product's crates.
