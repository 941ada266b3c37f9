//! A disk that syncs slowly, or fails to: a library that stands before the C library's `fdatasync` and
//! `fsync`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tools;

/// Makes the syncs of one kind of file bad, of the members that are started with
/// [`BadSync::environment`], while it is switched on.
pub struct BadSync {
    library: PathBuf,
    switch: PathBuf,
    files: &'static str,
    what: String,
}

impl BadSync {
    /// Files whose path matches the pattern `files` (as a shell's, `*` takes slashes) take `delay` longer
    /// to sync. Library and switch lie in `directory`. Begins switched off.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn slow(directory: &Path, files: &'static str, delay: Duration) -> Self {
        Self::with(directory, files, delay.as_millis().to_string())
    }

    /// As [`BadSync::slow`], but they fail with EIO.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn failing(directory: &Path, files: &'static str) -> Self {
        Self::with(directory, files, "eio".to_owned())
    }

    fn with(directory: &Path, files: &'static str, what: String) -> Self {
        let library = directory.join("bad_sync.so");
        let source = tools::directory().join("preload/bad_sync.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]);
        compile.arg(&library).arg(source).arg("-ldl");
        tools::must_succeed(&mut compile);
        Self {
            library,
            switch: directory.join("bad"),
            files,
            what,
        }
    }

    /// What a member has to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        let of = |name: &str, value: String| (name.to_owned(), value);
        vec![
            of("LD_PRELOAD", self.library.display().to_string()),
            of("BAD_SYNC_FILES", self.files.to_owned()),
            of("BAD_SYNC_MILLIS", self.what.clone()),
            of("BAD_SYNC_WHILE", self.switch.display().to_string()),
        ]
    }

    /// Bad from now on.
    ///
    /// # Panics
    /// If the switch cannot be written.
    pub fn on(&self) {
        fs::write(&self.switch, "").expect("writing the switch");
    }

    /// As good as the disk is.
    ///
    /// # Panics
    /// If the switch cannot be removed.
    pub fn off(&self) {
        fs::remove_file(&self.switch).expect("removing the switch");
    }
}
