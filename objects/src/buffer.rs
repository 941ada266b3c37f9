//! Memory for chunks that is used again: fresh pages for each of them cost as much as hashing it.

use std::sync::Mutex;

use bytes::Bytes;

/// Where the bytes begin: as a disk takes them without a copy.
pub(crate) const ALIGNMENT: usize = 4096;
/// What buffers are kept for: a chunk, as it is and as it is stored.
const KEPT_BYTES: usize = 9 << 20;
/// What is smaller has memory of its own, which costs little.
const SHARED_MIN: usize = 1 << 20;
/// Buffers kept while nobody uses them: as many as a backup or a restore has at a time.
const IDLE_MAX: usize = 6;

static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Some bytes to be written to, of whatever they held before.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    begin: usize,
    length: usize,
}

impl Buffer {
    /// So many bytes.
    pub(crate) fn of(length: usize) -> Buffer {
        let wanted = length + ALIGNMENT;
        let memory = match (SHARED_MIN..=KEPT_BYTES).contains(&wanted) {
            true => idle().pop().unwrap_or_else(|| vec![0; KEPT_BYTES]),
            false => vec![0; wanted],
        };
        let begin = memory.as_ptr().align_offset(ALIGNMENT);
        Buffer {
            // The hint may be none at all.
            begin: if begin < ALIGNMENT { begin } else { 0 },
            memory,
            length,
        }
    }

    /// The bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.length]
    }

    /// The first so many of them, to be kept by whoever wants them.
    pub(crate) fn freeze(mut self, length: usize) -> Bytes {
        self.length = length.min(self.length);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.memory.len() == KEPT_BYTES {
            let mut idle = idle();
            if idle.len() < IDLE_MAX {
                idle.push(std::mem::take(&mut self.memory));
            }
        }
    }
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Vec<u8>>> {
    // Whoever panicked left whole buffers.
    IDLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_hold_what_was_written() {
        for length in [0, 10, SHARED_MIN, 8 << 20, KEPT_BYTES, 20 << 20] {
            let mut buffer = Buffer::of(length);
            assert_eq!(buffer.bytes_mut().len(), length);
            buffer.bytes_mut().fill(7);
            assert_eq!(buffer.as_ref().as_ptr().align_offset(ALIGNMENT), 0);
            let bytes = buffer.freeze(length / 2);
            assert_eq!(bytes.len(), length / 2);
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }
}
