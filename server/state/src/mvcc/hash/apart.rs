//! Records hashed by themselves, and put together once it is known which of them count.
//!
//! CRC-32C is linear: what bytes and others behind them come to is what the first ones come to with as many zeros
//! behind them, and what the others come to, one bit against the other.

use super::{Hashing, append};
use crate::effects::RecordRef;

static ZEROS: [u8; 4096] = [0; 4096];

/// What one record comes to, whatever is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHash {
    crc: u32,
    /// How many bytes of it are hashed.
    bytes: u32,
}

impl RecordHash {
    /// Bytes of one, where it is kept.
    pub const BYTES: usize = 8;

    /// Of a record.
    pub fn of(record: RecordRef<'_>) -> RecordHash {
        let (crc, bytes) = append(0, record);
        RecordHash {
            crc,
            bytes: u32::try_from(bytes).expect("a message has less than 2 GiB"),
        }
    }

    /// As it is kept.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        ((u64::from(self.crc) << 32) | u64::from(self.bytes)).to_le_bytes()
    }

    /// One that was kept.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> RecordHash {
        let word = u64::from_le_bytes(bytes);
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).expect("32 bits");
        RecordHash {
            crc: low(word >> 32),
            bytes: low(word),
        }
    }
}

impl Hashing {
    /// Takes in the next record that counts, ascending, of which the hash is known.
    pub fn add_apart(&mut self, record: RecordHash) {
        let mut left = usize::try_from(record.bytes).expect("a u32 fits");
        // The library inverts all bits before and after.
        let mut crc = !self.0;
        while left > 0 {
            let zeros = &ZEROS[..left.min(ZEROS.len())];
            crc = crc32c::crc32c_append(crc, zeros);
            left -= zeros.len();
        }
        self.0 = !crc ^ record.crc;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::RevisionRecord;
    use crate::types::{Revision, RevisionPair};

    #[test]
    fn records_hashed_by_themselves_come_to_what_they_come_to_one_after_the_other() {
        let (mut together, mut apart) = (Hashing::default(), Hashing::default());
        for (revision, bytes) in [
            (1, 0),
            (2, 1),
            (3, 4000),
            (300, 4079),
            (7, 4080),
            (8, 70_001),
        ] {
            let byte = |at: usize| u8::try_from(at * 31 % 251).expect("small");
            let record = RevisionRecord {
                pair: RevisionPair {
                    main: Revision(revision),
                    sub: 3,
                },
                tombstone: bytes % 2 == 1,
                encoded: (0..bytes).map(byte).collect::<Vec<u8>>().into(),
            };
            together.add(record.lent());
            let hash = RecordHash::of(record.lent());
            assert_eq!(RecordHash::from_bytes(hash.to_bytes()), hash);
            apart.add_apart(hash);
            assert_eq!(apart.finish(), together.finish(), "{bytes} bytes");
        }
    }
}
