//! A power cut for tests: remembers what was written to files below a directory and not synced, and which
//! names were given or taken since their directory was synced, so that a copy of the directory can be made
//! into what a disk would hold. Like `faults` idle in a program that is built together with tests: one look
//! at a flag.
//!
//! What is removed with all that is in it (`remove_tree`) is not modelled: nobody counts on it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Bytes that a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A write that was not synced.
#[derive(Clone, Debug)]
pub struct Unsynced {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What was there before.
    pub before: Vec<u8>,
}

/// A name that was given or taken, and whose directory was not synced since.
#[derive(Clone, Debug)]
pub enum Named {
    /// A file or a directory was made.
    Made(PathBuf),
    /// One got another name.
    Moved {
        /// The name that it had.
        from: PathBuf,
        /// The one it has.
        to: PathBuf,
        /// What the file held that had the name before.
        before: Option<Vec<u8>>,
    },
    /// A file that held this was removed.
    Removed(PathBuf, Vec<u8>),
}

impl Named {
    /// The name by whose directory it becomes durable.
    fn path(&self) -> &Path {
        match self {
            Named::Made(path) | Named::Removed(path, _) => path,
            Named::Moved { to, .. } => to,
        }
    }
}

/// What a disk need not hold without power, each in the order in which it was done.
#[derive(Clone, Debug, Default)]
pub struct Unkept {
    /// Writes.
    pub writes: Vec<Unsynced>,
    /// Names.
    pub names: Vec<Named>,
}

static IN_USE: AtomicBool = AtomicBool::new(false);
static WATCHED: Mutex<Vec<(PathBuf, Unkept)>> = Mutex::new(Vec::new());

/// Begins to remember what is not synced below a directory.
pub fn watch(below: &Path) {
    IN_USE.store(true, Ordering::Relaxed);
    let unkept = Unkept::default();
    WATCHED.lock().push((below.to_path_buf(), unkept));
}

/// Forgets the directory; what was not synced in it.
pub fn take(below: &Path) -> Unkept {
    let mut watched = WATCHED.lock();
    let at = watched.iter().position(|(dir, _)| dir == below);
    at.map_or(Unkept::default(), |at| watched.swap_remove(at).1)
}

/// A power cut to come.
struct Cut {
    below: PathBuf,
    /// Whether it waits until a file that is open gets another name.
    awaits_name: bool,
    calls: u64,
    then: Box<dyn FnOnce(Unkept) + Send>,
}

static CUTS: Mutex<Vec<Cut>> = Mutex::new(Vec::new());

/// Cuts the power in the midst of something: before one of the next writes or syncs, of files or of their names,
/// below a directory, after so many calls, `then` is given what is not synced by then. What is written afterwards
/// is remembered no more.
pub fn cut_in(below: &Path, calls: u64, then: impl FnOnce(Unkept) + Send + 'static) {
    cut(below, false, calls, Box::new(then));
}

/// The same, counted from the next moment on in which a file that is open gets another name: such as a segment
/// of a log when it is begun.
pub fn cut_after_name(below: &Path, calls: u64, then: impl FnOnce(Unkept) + Send + 'static) {
    cut(below, true, calls, Box::new(then));
}

fn cut(below: &Path, awaits_name: bool, calls: u64, then: Box<dyn FnOnce(Unkept) + Send>) {
    CUTS.lock().push(Cut {
        below: below.to_path_buf(),
        awaits_name,
        calls,
        then,
    });
}

/// The power below a directory stays.
pub fn uncut(below: &Path) {
    CUTS.lock().retain(|cut| cut.below != below);
}

/// Something is about to be written or synced.
pub(super) fn passing(path: &Path) {
    if !IN_USE.load(Ordering::Relaxed) {
        return;
    }
    let due = {
        let mut cuts = CUTS.lock();
        let at = cuts
            .iter()
            .position(|cut| !cut.awaits_name && path.starts_with(&cut.below));
        match at {
            Some(at) if cuts[at].calls == 0 => Some(cuts.swap_remove(at)),
            Some(at) => {
                cuts[at].calls -= 1;
                None
            }
            None => None,
        }
    };
    if let Some(cut) = due {
        (cut.then)(take(&cut.below));
    }
}

/// Whether a file lies on a simulated disk: memory, which is not to be filled with blocks that hold nothing.
pub(super) fn is_watched(path: &Path) -> bool {
    with(path, |_| ()).is_some()
}

fn with<R>(path: &Path, tell: impl FnOnce(&mut Unkept) -> R) -> Option<R> {
    if !IN_USE.load(Ordering::Relaxed) {
        return None;
    }
    let mut watched = WATCHED.lock();
    let found = watched.iter_mut().find(|(dir, _)| path.starts_with(dir));
    found.map(|(_, unkept)| tell(unkept))
}

/// So many bytes are about to be written.
pub(super) fn writing(path: &Path, file: &File, offset: u64, bytes: usize) -> io::Result<()> {
    let told = with(path, |unkept| {
        let before = held(file, offset, bytes)?;
        unkept.writes.push(Unsynced {
            path: path.to_path_buf(),
            offset,
            before,
        });
        Ok(())
    });
    told.unwrap_or(Ok(()))
}

/// What a file holds from an offset on: fewer bytes where it ends before.
fn held(file: &File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut before = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        let at = offset + u64::try_from(filled).expect("it is in memory");
        match file.read_at(&mut before[filled..], at)? {
            0 => break,
            read => filled += read,
        }
    }
    before.truncate(filled);
    Ok(before)
}

pub(super) fn synced(path: &Path) {
    with(path, |unkept| {
        unkept.writes.retain(|write| write.path != path)
    });
}

/// A file or directory was made.
pub(super) fn made(path: &Path) {
    with(path, |unkept| {
        unkept.names.push(Named::Made(path.to_path_buf()))
    });
}

/// What a file holds whose name is about to be taken. None where nobody asks, or there is no such file.
pub(super) fn content(path: &Path) -> Option<Vec<u8>> {
    with(path, |_| std::fs::read(path).ok()).flatten()
}

/// A file was removed that held this.
pub(super) fn removed(path: &Path, content: Option<Vec<u8>>) {
    if let Some(content) = content {
        let removed = Named::Removed(path.to_path_buf(), content);
        with(path, |unkept| unkept.names.push(removed));
    }
}

/// Something has another name, in whose place a file had held `before`.
pub(super) fn moved(from: &Path, to: &Path, before: Option<Vec<u8>>) {
    with(to, |unkept| {
        for write in &mut unkept.writes {
            match write.path.strip_prefix(from) {
                Ok(below) if below.as_os_str().is_empty() => write.path = to.to_path_buf(),
                Ok(below) => write.path = to.join(below),
                Err(_) => {}
            }
        }
        unkept.names.push(Named::Moved {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            before,
        });
    });
}

/// The names in a directory are durable.
pub(super) fn names_synced(dir: &Path) {
    with(dir, |unkept| {
        let of_it = |named: &Named| named.path().parent() == Some(dir);
        unkept.names.retain(|named| !of_it(named));
    });
}

/// A file that is open has another name, for good.
pub(super) fn renamed(to: &Path) {
    if IN_USE.load(Ordering::Relaxed) {
        let mut cuts = CUTS.lock();
        let of_it = cuts.iter_mut().filter(|cut| to.starts_with(&cut.below));
        of_it.for_each(|cut| cut.awaits_name = false);
    }
}
