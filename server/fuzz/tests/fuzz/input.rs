//! What a target draws from its bytes, in the way that a fuzzer changes them best: nothing is refused, and
//! what is missing is zero.

use bytes::Bytes;

/// Bytes that are taken one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// A number of two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// A number: mostly a small one, now and then any.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::from_le_bytes(self.array()),
            254 => u64::MAX - u64::from(self.byte()),
            small => u64::from(small),
        }
    }

    /// So many, or what is left of them.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece that says how long it is.
    pub fn piece(&mut self) -> &'a [u8] {
        let bytes = match self.byte() {
            255 => usize::from(self.short()),
            small => usize::from(small),
        };
        self.take(bytes)
    }

    /// The same, to be kept.
    pub fn kept(&mut self) -> Bytes {
        Bytes::copy_from_slice(self.piece())
    }

    /// Whatever is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        std::array::from_fn(|at| taken.get(at).copied().unwrap_or(0))
    }

    /// `sound` with some of its bytes others, as the input says: put in place of what is there, zeroed, set,
    /// or cut off. Where every change begins and how long it is.
    pub fn damage(&mut self, sound: &mut Vec<u8>) {
        while !self.is_empty() && !sound.is_empty() {
            let (kind, at) = (self.byte(), usize::from(self.short()) % sound.len());
            let room = &mut sound[at..];
            match kind % 8 {
                0..=3 => {
                    let piece = self.piece();
                    let bytes = piece.len().min(room.len());
                    room[..bytes].copy_from_slice(&piece[..bytes]);
                }
                4 => room[0] ^= 1 << (self.byte() % 8),
                5 => {
                    let bytes = usize::from(self.short()).min(room.len());
                    room[..bytes].fill(0);
                }
                6 => {
                    let (byte, bytes) = (self.byte(), usize::from(self.byte()));
                    let bytes = bytes.min(room.len());
                    room[..bytes].fill(byte);
                }
                _ if kind > 128 => sound.truncate(at),
                _ => {}
            }
        }
    }
}
