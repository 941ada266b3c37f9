//! Checkpoints of the store: what a member that lags too far is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Contents, Engine, LogPosition, OpenError, Place};
use crate::fs;

/// The most checkpoints at a time: each keeps files from being reclaimed. Members that ask for more
/// share the newest.
const LIVE_MAX: usize = 2;

/// What a file of a store is. Ascending in the order of sending: `CURRENT`, without which nobody
/// takes the directory for a store, comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Sorted keys and values, never changed once written.
    Table,
    /// The engine's options.
    Options,
    /// Which tables there are.
    Manifest,
    /// Which manifest counts.
    Current,
}

/// A file of a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreFile {
    /// What it is.
    pub kind: FileKind,
    /// Its name in the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl StoreFile {
    /// What a file of this name is; none where no store that is sent has such a file. A name that
    /// passes is a plain name: ASCII digits and letters, a dash or a dot within, no separator.
    pub fn kind_of(name: &str) -> Option<FileKind> {
        let is_number = |text: &str| {
            (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if name == "CURRENT" {
            return Some(FileKind::Current);
        }
        let numbered = [
            (name.strip_suffix(".sst"), FileKind::Table),
            (name.strip_prefix("MANIFEST-"), FileKind::Manifest),
            (name.strip_prefix("OPTIONS-"), FileKind::Options),
        ];
        numbered
            .into_iter()
            .find_map(|(number, kind)| number.is_some_and(is_number).then_some(kind))
    }
}

/// A directory with the store as it was at one entry. Dropping it removes the directory.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<StoreFile>,
    contents: Contents,
    position: LogPosition,
}

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The engine refuses.
    #[error("the checkpoint could not be made: {0}")]
    Engine(String),
    /// The file system refuses.
    #[error("the checkpoint could not be made: {0}")]
    Io(#[from] io::Error),
    /// What was made cannot be read.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
    /// There is nothing in the store.
    #[error("nothing was applied yet, so there is nothing to send")]
    Empty,
}

impl Checkpoint {
    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its files, in the order of sending.
    pub fn files(&self) -> &[StoreFile] {
        &self.files
    }

    /// What it holds, read from itself.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The last entry applied in it.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        let dir = std::mem::take(&mut self.dir);
        let remove = move || {
            if let Err(error) = fs::remove_tree(&dir) {
                crate::log!(warn, "a checkpoint could not be removed; the next start does",
                    dir = %dir.display(), error = %error);
            }
        };
        // The last files of a store that has moved on are freed here: not on a thread that serves.
        // Without a thread the next start removes it.
        drop(crate::threads::spawn("engram-remove", remove));
    }
}

impl Engine {
    /// Makes a checkpoint of what is persisted in `dir`, which must not exist and whose parent must.
    /// What lies in memtables is left out: the log still has it. An engine that has persisted
    /// nothing yet is flushed first.
    ///
    /// Costs a link for each file and a few syncs. The directory goes with the checkpoint.
    ///
    /// # Errors
    /// The file system refuses, or nothing was applied yet.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, CheckpointError> {
        if self.persisted().log_position.is_none() {
            self.flush();
        }
        let described = self
            .copy_persisted(dir)
            .map_err(|error| CheckpointError::Engine(error.to_string()))
            .and_then(|()| describe(dir));
        if described.is_err() {
            // What is left of it is removed at the next start, if not now.
            drop(fs::remove_tree(dir));
        }
        described
    }
}

fn describe(dir: &Path) -> Result<Checkpoint, CheckpointError> {
    let contents = Engine::inspect(dir)?;
    let Some(position) = contents.applied.log_position else {
        return Err(CheckpointError::Empty);
    };
    let mut files = Vec::new();
    for (name, bytes) in fs::file_sizes(dir)? {
        if let Some(kind) = StoreFile::kind_of(&name) {
            files.push(StoreFile { kind, name, bytes });
        }
    }
    files.sort_unstable();
    Ok(Checkpoint {
        dir: dir.to_path_buf(),
        files,
        contents,
        position,
    })
}

/// The checkpoints that are being sent, and the one that is being made. Nobody who looks at them waits
/// for a disk.
#[derive(Debug, Default)]
pub struct Checkpoints {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    made: u64,
    is_making: bool,
    checkpoints: Vec<Weak<Checkpoint>>,
}

/// What there is for a member that lags.
#[derive(Debug)]
pub enum Offer {
    /// This one, from which it can go on with the log.
    There(Arc<Checkpoint>),
    /// None: whoever gets this makes one.
    Wanted(Wanted),
    /// None yet: another one makes it.
    BeingMade,
}

impl Checkpoints {
    /// A checkpoint from which a member can go on with the log, which holds what comes after
    /// `purged_index`, where one is being sent; else the task to make one, for one alone.
    pub fn offer(self: &Arc<Checkpoints>, purged_index: u64) -> Offer {
        let mut live = self.live.lock();
        live.checkpoints.retain(|held| held.strong_count() > 0);
        let held = live.checkpoints.iter().filter_map(Weak::upgrade);
        if let Some(newest) = held.max_by_key(|held| held.position().index) {
            let continues = newest.position().index >= purged_index;
            if continues || live.checkpoints.len() >= LIVE_MAX {
                return Offer::There(newest);
            }
        }
        if live.is_making {
            return Offer::BeingMade;
        }
        live.is_making = true;
        live.made += 1;
        Offer::Wanted(Wanted {
            number: live.made,
            checkpoints: self.clone(),
        })
    }

    /// Whether one is being sent, or made to be.
    pub fn is_sending(&self) -> bool {
        let live = self.live.lock();
        live.is_making || live.checkpoints.iter().any(|held| held.strong_count() > 0)
    }
}

/// The task to make a checkpoint. Dropping it leaves it to the next who asks.
#[derive(Debug)]
pub struct Wanted {
    number: u64,
    checkpoints: Arc<Checkpoints>,
}

impl Wanted {
    /// Makes it. Blocks for as long as the store's disk takes.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn make(self, engine: &Engine) -> Result<Arc<Checkpoint>, CheckpointError> {
        let checkpoint = Arc::new(engine.checkpoint(&next_dir(engine, self.number)?)?);
        let mut live = self.checkpoints.live.lock();
        live.checkpoints.push(Arc::downgrade(&checkpoint));
        Ok(checkpoint)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.checkpoints.live.lock().is_making = false;
    }
}

fn next_dir(engine: &Engine, number: u64) -> io::Result<PathBuf> {
    let place = Place::of(engine.dir()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the store does not lie in a data directory",
        )
    })?;
    let dir = place.checkpoints_dir();
    fs::create_private_dir(&dir).map_err(io::Error::other)?;
    Ok(dir.join(number.to_string()))
}
