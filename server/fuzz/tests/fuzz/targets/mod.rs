//! What is fuzzed: each a function that takes any bytes and panics where something does not hold.

use std::path::Path;

pub mod answers;
pub mod batch;
pub mod bbolt;
pub mod certificates;
pub mod chunks;
pub mod config_file;
pub mod connection;
pub mod etcd_log;
pub mod etcd_requests;
pub mod flags;
pub mod json;
pub mod load;
pub mod log;
pub mod manifests;
pub mod peer_messages;
pub mod permissions;
pub mod requests;
pub mod revocations;
pub mod snapshot_pieces;
pub mod state;
pub mod store;
pub mod texts;
pub mod tokens;

/// One of them.
pub struct Target {
    /// Its name: that of its module and of its corpus.
    pub name: &'static str,
    /// Reads the bytes.
    ///
    /// # Panics
    /// Something does not hold.
    pub run: fn(&[u8]),
    /// Inputs that get far, made by what is tested: they follow its formats.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Inputs that `make fuzz-quick` makes of those and of the corpus: what takes some seconds.
    pub cases: usize,
}

/// All of them.
pub const ALL: [&Target; 23] = [
    &answers::TARGET,
    &batch::TARGET,
    &bbolt::TARGET,
    &certificates::TARGET,
    &chunks::TARGET,
    &config_file::TARGET,
    &connection::TARGET,
    &etcd_log::TARGET,
    &etcd_requests::TARGET,
    &flags::TARGET,
    &json::TARGET,
    &load::TARGET,
    &log::TARGET,
    &manifests::TARGET,
    &peer_messages::TARGET,
    &permissions::TARGET,
    &requests::TARGET,
    &revocations::TARGET,
    &snapshot_pieces::TARGET,
    &state::TARGET,
    &store::TARGET,
    &texts::TARGET,
    &tokens::TARGET,
];

impl Target {
    /// The seeds, and the inputs in `corpus`: a line of hexadecimal digits each, which a fuzzer has found.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        // Cargo says where this crate is as tests run; libFuzzer is run without it, where it was built.
        let here = std::env::var_os("CARGO_MANIFEST_DIR");
        let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let file = Path::new(&here).join(format!("corpus/{}.hex", self.name));
        let lines = std::fs::read_to_string(&file);
        let lines = lines.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut inputs = (self.seeds)();
        inputs.extend(
            lines
                .lines()
                .map(|line| bytes(line).expect("hexadecimal digits")),
        );
        inputs
    }
}

/// The bytes of so many hexadecimal digits.
pub fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Messages behind their kind, which is the place of each.
fn numbered<M: AsRef<[u8]>>(messages: impl IntoIterator<Item = M>) -> Vec<Vec<u8>> {
    let numbered = messages.into_iter().enumerate();
    numbered
        .map(|(kind, message)| [&[kind as u8][..], message.as_ref()].concat())
        .collect()
}

/// For a target that damages what is sound where the first byte is zero (`Input::damage`): a change of the
/// kind `then[0]` at `offset`, and what else it takes.
fn damage_at(offset: usize, then: &[u8]) -> Vec<u8> {
    let offset = u16::try_from(offset).expect("what is sound is short");
    [&[0, then[0]], &offset.to_le_bytes()[..], &then[1..]].concat()
}
