//! Free loopback ports.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Below the range (32768 and up on Linux) from which the system takes ports for outgoing
/// connections, so that no connection of a test can take a port between two starts of a server.
/// Not from 20,000 on: etcd's own test framework takes those (`e2e/etcd-common`).
const FIRST: u16 = 20_100;
/// Ports that a test process takes for itself at once.
const BLOCK: u16 = 100;
const BLOCKS: u16 = 119;

/// The blocks that a process has taken: no other one has a port of them as long as it runs, also none that nobody
/// listens on at the moment, because its server is between two starts.
struct Taken {
    next: Range<u16>,
    /// Blocks up to here were tried.
    tried: u16,
    locks: Vec<File>,
}

static TAKEN: Mutex<Taken> = Mutex::new(Taken {
    next: 0..0,
    tried: 0,
    locks: Vec::new(),
});

/// A port of 127.0.0.1 that nobody listens on, that this process has not handed out before, and that no other test
/// process hands out while this one runs.
///
/// # Panics
/// If there is none.
pub fn free() -> u16 {
    // Who panicked over it has left it whole.
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = std::env::temp_dir().join("engram-ports");
    std::fs::create_dir_all(&dir).expect("a directory for the locks of ports");
    loop {
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if let Some(port) = taken.next.find(free) {
            return port;
        }
        taken.next = taken.take_block(&dir);
    }
}

impl Taken {
    /// Takes the next block that no other process has.
    fn take_block(&mut self, dir: &Path) -> Range<u16> {
        while self.tried < BLOCKS {
            let first = FIRST + self.tried * BLOCK;
            self.tried += 1;
            if let Some(lock) = lock(&dir.join(first.to_string())) {
                self.locks.push(lock);
                return first..first + BLOCK;
            }
        }
        panic!("no ports of 127.0.0.1 from {FIRST} on are left: {BLOCKS} times {BLOCK} are taken");
    }
}

/// A lock that ends with this process, unless another one has it.
fn lock(path: &Path) -> Option<File> {
    // The file stays: who removed it would let two processes lock two files of its name.
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let file = opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => panic!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock is the open file's, as it is another process's.
    #[test]
    fn a_block_has_one_owner_for_as_long_as_it_runs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let process = || Taken {
            next: 0..0,
            tried: 0,
            locks: Vec::new(),
        };
        let (mut one, mut other) = (process(), process());
        assert_eq!(one.take_block(dir.path()).start, FIRST);
        assert_eq!(other.take_block(dir.path()).start, FIRST + BLOCK);
        assert_eq!(one.take_block(dir.path()).start, FIRST + 2 * BLOCK);
        drop(one);
        assert_eq!(process().take_block(dir.path()).start, FIRST);
    }

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: std::collections::BTreeSet<u16> = (0..150).map(|_| free()).collect();
        assert_eq!(ports.len(), 150);
        assert!(ports.iter().all(|port| (FIRST..32_000).contains(port)));
    }
}
