//! A disk that syncs slowly: a library that stands before the C library's `fdatasync` and `fsync`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tools;

/// Slows the syncs of one kind of file of the members that are started with
/// [`SlowSync::environment`], while it is switched on.
pub struct SlowSync {
    library: PathBuf,
    switch: PathBuf,
    suffix: &'static str,
    delay: Duration,
}

impl SlowSync {
    /// Files whose names end with `suffix` take `delay` longer to sync. Library and switch lie in
    /// `directory`. Begins switched off.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn of(directory: &Path, suffix: &'static str, delay: Duration) -> Self {
        let library = directory.join("slow_sync.so");
        let source = tools::directory().join("preload/slow_sync.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]);
        compile.arg(&library).arg(source).arg("-ldl");
        tools::must_succeed(&mut compile);
        Self {
            library,
            switch: directory.join("slow"),
            suffix,
            delay,
        }
    }

    /// What a member has to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        let of = |name: &str, value: String| (name.to_owned(), value);
        vec![
            of("LD_PRELOAD", self.library.display().to_string()),
            of("SLOW_SYNC_SUFFIX", self.suffix.to_owned()),
            of("SLOW_SYNC_MILLIS", self.delay.as_millis().to_string()),
            of("SLOW_SYNC_WHILE", self.switch.display().to_string()),
        ]
    }

    /// Slow from now on.
    ///
    /// # Panics
    /// If the switch cannot be written.
    pub fn on(&self) {
        fs::write(&self.switch, "").expect("writing the switch");
    }

    /// As fast as the disk is.
    ///
    /// # Panics
    /// If the switch cannot be removed.
    pub fn off(&self) {
        fs::remove_file(&self.switch).expect("removing the switch");
    }
}
