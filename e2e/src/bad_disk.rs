//! Disks that misbehave: libraries that stand before the C library's calls to files. One slows syncs or
//! fails them, the other strikes at one call of all that change files.

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
        Self {
            library: compile(directory, "bad_sync", &["bad_sync.c"]),
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

/// One call that changes a file, counted from the start of a process: the process ends there, or the call
/// fails.
pub struct BadCall {
    library: PathBuf,
    told: PathBuf,
}

/// What happens at that call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The process is killed before it.
    Kill,
    /// The process is killed; of a write the first half was written.
    Torn,
    /// It fails with EIO, once.
    Eio,
    /// It fails with ENOSPC, once.
    NoSpace,
    /// The power goes: what was not synced is lost, as the seed draws it.
    Power(u64),
}

impl Strike {
    fn name(self) -> &'static str {
        match self {
            Strike::Kill => "kill",
            Strike::Torn => "torn",
            Strike::Eio => "eio",
            Strike::NoSpace => "enospc",
            Strike::Power(_) => "power",
        }
    }
}

/// Where the library tells the name of the call, and how long its file is.
const NAME_AT: usize = 8;
const TOLD_BYTES: usize = 4096;

impl BadCall {
    /// The library lies in `directory`.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn prepare(directory: &Path) -> Self {
        Self {
            library: compile(directory, "bad_call", &["bad_call.c", "unsynced.c"]),
            told: directory.join("told"),
        }
    }

    /// Arguments for `env` of a process whose call number `at` (from 1; 0 is none) to files below `under`
    /// is struck.
    ///
    /// # Panics
    /// If the library's file cannot be written.
    pub fn environment(&self, under: &Path, at: u64, strike: Strike) -> Vec<String> {
        fs::write(&self.told, [0; TOLD_BYTES]).expect("writing the library's file");
        let seed = match strike {
            Strike::Power(seed) => seed,
            _ => 0,
        };
        vec![
            format!("BAD_CALL_SEED={seed}"),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("BAD_CALL_UNDER={}", under.display()),
            format!("BAD_CALL_AT={at}"),
            format!("BAD_CALL_WHAT={}", strike.name()),
            format!("BAD_CALL_TOLD={}", self.told.display()),
        ]
    }

    /// How many calls the process has made, and which was struck.
    ///
    /// # Panics
    /// If the library's file cannot be read.
    pub fn told(&self) -> (u64, Option<String>) {
        let told = fs::read(&self.told).expect("reading the library's file");
        let (count, name) = told.split_at(NAME_AT);
        let count = u64::from_ne_bytes(count.try_into().expect("eight bytes"));
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        (count, (!name.is_empty()).then_some(name))
    }
}

/// Compiles a library from sources of `preload/` into `directory`.
fn compile(directory: &Path, name: &str, sources: &[&str]) -> PathBuf {
    let library = directory.join(format!("{name}.so"));
    let sources = sources
        .iter()
        .map(|source| tools::directory().join("preload").join(source));
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    compile
        .arg(&library)
        .args(sources)
        .args(["-ldl", "-lpthread"]);
    tools::must_succeed(&mut compile);
    library
}
