//! Inputs made of others, by a seed: what a fuzzer does, without looking at what comes of it.

/// Numbers that programs treat in another way than their neighbours.
const INTERESTING: [u64; 14] = [
    0,
    1,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];
/// No input grows longer.
const BYTES_MAX: usize = 16 << 10;
/// The most changes of one input.
const CHANGES_MAX: u64 = 5;

/// Draws inputs.
pub struct Mutator(u64);

impl Mutator {
    /// Those of a seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One of these with some changes; bytes of another one among them.
    pub fn input(&mut self, of: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = of[self.below(of.len())].clone();
        for _ in 0..=self.next() % CHANGES_MAX {
            let at = self.below(bytes.len() + 1);
            self.change(&mut bytes, at, of);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, at: usize, of: &[Vec<u8>]) {
        let left = bytes.len() - at;
        match self.next() % 9 {
            0 if left > 0 => bytes[at] ^= 1 << self.below(8),
            1 if left > 0 => bytes[at] = self.next() as u8,
            2 => {
                let new: Vec<u8> = (0..=self.below(8)).map(|_| self.next() as u8).collect();
                bytes.splice(at..at, new);
            }
            3 if left > 0 => drop(bytes.drain(at..at + 1 + self.below(left.min(32)))),
            4 => bytes.truncate(at),
            5 => {
                let number = INTERESTING[self.below(INTERESTING.len())].to_le_bytes();
                let width = 1 << self.below(4);
                let mut number = number[..width].to_vec();
                if self.next().is_multiple_of(2) {
                    number.reverse();
                }
                bytes.splice(at..at + width.min(left), number);
            }
            6 => {
                let other = &of[self.below(of.len())];
                let from = self.below(other.len());
                let piece = other[from..].iter().take(1 + self.below(64)).copied();
                bytes.splice(at..at, piece.collect::<Vec<_>>());
            }
            7 if left > 0 => {
                let piece = bytes[at..at + 1 + self.below(left.min(64))].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &of[self.below(of.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len())..]);
            }
        }
    }
}
