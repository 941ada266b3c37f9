//! An open engine and its directory, which it outlives or takes with it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::engine::EngineOptions;
use super::rows::Engines;
use crate::{fs, threads};

/// See the module.
pub(super) struct Handle {
    /// Present until it is dropped.
    engines: Option<Engines>,
    dir: PathBuf,
    options: EngineOptions,
    condemned: AtomicBool,
    /// Failures of flushes and compactions that it has got over.
    pub(super) got_over: AtomicU64,
    /// Writes wait while it is taken.
    #[cfg(any(test, feature = "fixtures"))]
    pub(super) gate: parking_lot::RwLock<()>,
    /// Flushes and checkpoints wait while it is taken.
    #[cfg(any(test, feature = "fixtures"))]
    pub(super) syncs: parking_lot::RwLock<()>,
}

impl Handle {
    /// Takes over an engine that was opened in `dir`.
    pub(super) fn new(engines: Engines, dir: &Path, options: EngineOptions) -> Handle {
        Handle {
            engines: Some(engines),
            dir: dir.to_path_buf(),
            options,
            condemned: AtomicBool::new(false),
            got_over: AtomicU64::new(0),
            #[cfg(any(test, feature = "fixtures"))]
            gate: parking_lot::RwLock::default(),
            #[cfg(any(test, feature = "fixtures"))]
            syncs: parking_lot::RwLock::default(),
        }
    }

    /// Where it was opened.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it was opened.
    pub(super) fn options(&self) -> EngineOptions {
        self.options
    }

    /// Has the directory removed once the engine is closed.
    pub(super) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }
}

impl Deref for Handle {
    type Target = Engines;

    fn deref(&self) -> &Engines {
        self.engines.as_ref().expect("open until it is dropped")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let engines = self.engines.take();
        if !self.condemned.load(Ordering::Acquire) {
            return;
        }
        // Closing flushes and removing frees extents: not on the thread of the last reader.
        let dir = std::mem::take(&mut self.dir);
        let remove = move || {
            drop(engines);
            if let Err(error) = fs::remove_tree(&dir) {
                crate::log!(warn, "a store that was replaced could not be removed; the next start \
                    does", dir = %dir.display(), error = %error);
            }
        };
        // Without a thread, `remove` is dropped, which closes the engine here.
        drop(threads::spawn("engram-remove", remove));
    }
}
