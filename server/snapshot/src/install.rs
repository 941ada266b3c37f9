//! A received store in the place of this member's own.
//!
//! In two steps. [`Prepared::new`] opens it beside the old one and builds its index, which takes as
//! long as a start does and holds up nobody. [`Prepared::install`] runs on the apply thread: the
//! switch record makes it the store that counts, durably, and then memory follows.
//!
//! A crash before the record is durable leaves the old store, one after it the new; the next start
//! removes the other. The log is purged after that, so it never lacks what the store needs (I3).

use std::io;
use std::sync::Arc;

use super::transfer::Received;
use crate::fs;
use crate::mutants::is_planted;
use crate::state::{Limits, LoadError, State};
use crate::storage::{Applied, Engine, LogPosition, OpenError, Place, PlaceError};
use crate::store::{self, Replaced, Store};
use crate::threads;

/// Why a received store is not installed. The store in force is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It holds nothing.
    #[error("the snapshot is empty")]
    Empty,
    /// The file system refuses.
    #[error("the snapshot could not be moved into place: {0}")]
    Io(#[from] io::Error),
    /// It is damaged.
    #[error("the snapshot: {0}")]
    Open(#[from] OpenError),
    /// It is damaged.
    #[error("the snapshot: {0}")]
    Load(#[from] LoadError),
}

/// A store that can come into force at once. Dropping it closes and removes it, on a thread of its own:
/// both take as long as it is large.
pub struct Prepared {
    loaded: Option<Loaded>,
    /// Dropped once it is in force, or gone.
    turn: Option<Box<dyn Send + Sync>>,
    /// Whether its directory is none of its business: the switch record may name it, or it is gone.
    stays: bool,
    place: Place,
    applied: Applied,
    position: LogPosition,
}

struct Loaded {
    state: State,
    engine: Engine,
}

impl Prepared {
    /// Opens what was received, beside the store in force, and builds its index. Blocks for as long
    /// as a start would; needs memory for a second index.
    ///
    /// # Errors
    /// See [`InstallError`]. What was received is gone then.
    pub fn new(store: &Store, received: Received) -> Result<Prepared, InstallError> {
        let applied = received.contents().applied.clone();
        let position = applied.log_position.ok_or(InstallError::Empty)?;
        let current = store.engine();
        let place = Place::of(current.dir()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the store does not lie in a data directory",
            )
        })?;
        // A directory is never renamed under an open engine: it gets its last name first.
        let place = received.move_beside(&place)?;
        let mut prepared = Prepared {
            loaded: None,
            turn: None,
            stays: false,
            place,
            applied,
            position,
        };
        let limits = Limits {
            value_cache_bytes: store.read().mvcc.value_cache_budget(),
        };
        match load(&prepared.place, &current, limits) {
            Ok(loaded) => prepared.loaded = Some(loaded),
            Err(error) => {
                // Here, where nobody is held up: who hears of it may let the next one in at once.
                prepared.stays = true;
                remove(&prepared.place);
                return Err(error);
            }
        }
        Ok(prepared)
    }

    /// Keeps what lets one be received at a time until this one is in force, or gone: the next would lie at
    /// the same place.
    pub fn keep(&mut self, turn: impl Send + Sync + 'static) {
        self.turn = Some(Box::new(turn));
    }

    /// How far the log is applied in it.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Its last entry.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Puts it in force: durably first, then for every reader in one step. For the apply thread.
    /// The old one is returned to be dropped where it holds nobody up.
    ///
    /// # Errors
    /// The switch record could not be written: which store counts is then told by the next start,
    /// so the process must end.
    pub fn install(mut self, store: &Store) -> Result<Arc<Replaced>, PlaceError> {
        // The record may name the directory from here on, even where writing it failed.
        self.stays = true;
        let Loaded { state, engine } = self.loaded.take().expect("installed once");
        if !is_planted("install-unswitched") {
            self.place.switch(self.position)?;
        }
        Ok(store.replace(state, engine, self.position.index))
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Prepared {
            place, position, ..
        } = self;
        write!(f, "Prepared({place:?}, {position})")
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let (loaded, turn, place) = (self.loaded.take(), self.turn.take(), self.place.clone());
        let closing = move || {
            // Not installed, loaded or not: closed before its directory goes.
            drop(loaded);
            remove(&place);
            drop(turn);
        };
        // Without a thread it is closed here, and removed before the next takes its place.
        drop(threads::spawn("engram-remove", closing));
    }
}

fn remove(place: &Place) {
    if let Err(error) = fs::remove_tree(&place.dir()) {
        crate::log!(warn, "a snapshot that was not installed could not be removed",
            dir = %place.dir().display(), error = %error);
    }
}

fn load(place: &Place, current: &Engine, limits: Limits) -> Result<Loaded, InstallError> {
    let engine = Engine::open(&place.dir(), current.options())?;
    let tables = engine.tables()?;
    let state = store::load(limits, tables, &engine)?;
    // What opening wrote is named in the directory for good before the record names the directory.
    fs::sync_dir(&place.dir())?;
    Ok(Loaded { state, engine })
}
