//! Faults for tests: makes operations on files below a directory fail.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creating a file.
    Create,
    /// Allocating blocks.
    Allocate,
    /// A write.
    Write,
    /// A data sync.
    Sync,
}

struct Fault {
    id: u64,
    below: PathBuf,
    operation: Operation,
    errno: i32,
    /// Operations that still succeed before the fault sets in.
    successes: u64,
}

static FAULTS: Mutex<(u64, Vec<Fault>)> = Mutex::new((0, Vec::new()));

/// A fault that lasts until it is dropped.
#[must_use]
pub struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        FAULTS.lock().1.retain(|fault| fault.id != self.0);
    }
}

/// Lets `operation` fail with `errno` on files below `below`, after `successes` that go well.
pub fn inject(below: &Path, operation: Operation, errno: i32, successes: u64) -> Guard {
    let mut faults = FAULTS.lock();
    faults.0 += 1;
    let id = faults.0;
    faults.1.push(Fault {
        id,
        below: below.to_path_buf(),
        operation,
        errno,
        successes,
    });
    Guard(id)
}

pub(super) fn check(path: &Path, operation: Operation) -> io::Result<()> {
    let mut faults = FAULTS.lock();
    for fault in &mut faults.1 {
        if fault.operation != operation || !path.starts_with(&fault.below) {
            continue;
        }
        if fault.successes == 0 {
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        fault.successes -= 1;
    }
    Ok(())
}
