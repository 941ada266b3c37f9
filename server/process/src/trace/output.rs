//! Where lines go: the process-wide level, format and outputs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::journal::{self, Journal};
use super::rotation::RotatingFile;
use super::{Format, Level, Rotation};

/// Of a log that is made: what the umask leaves of it, so that whoever collects logs can be given it.
const MODE: u32 = 0o666;

/// One place that log lines are written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// The process's standard error.
    Stderr,
    /// The process's standard output.
    Stdout,
    /// The systemd journal; standard error where none listens.
    Journal,
    /// A file that is appended to. Where it does not exist it is made, for whoever the umask allows to read it; one
    /// that is rotated for its owner alone: as etcd's.
    /// `/dev/null` as one of the outputs discards the log.
    File(PathBuf),
}

/// How and where to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The lowest level that is written.
    pub level: Level,
    /// The shape of a line.
    pub format: Format,
    /// Where lines go; each distinct output gets each line once. Empty means standard error.
    pub outputs: Vec<Output>,
    /// When files are rotated; `None` lets them grow.
    pub rotation: Option<Rotation>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Json,
            outputs: vec![Output::Stderr],
            rotation: None,
        }
    }
}

/// The log could not be set up. The log that was in use before stays in use.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A log file could not be opened for appending.
    #[error("couldn't open log output {path:?}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The system has no socket to give for the journal.
    #[error("couldn't open log output systemd/journal: {0}")]
    Journal(io::Error),
}

enum Sink {
    Stderr,
    Stdout,
    Journal(Journal),
    File(File),
    Rotating(Box<RotatingFile>),
    #[cfg(test)]
    Memory(std::sync::Arc<Mutex<Vec<u8>>>),
}

impl Sink {
    fn open(path: &Path, rotation: Option<Rotation>) -> Result<Self, InitError> {
        let open = || match rotation {
            Some(rotation) => {
                RotatingFile::open(path, rotation).map(|file| Self::Rotating(Box::new(file)))
            }
            None => open_for_appending(path, MODE).map(Self::File),
        };
        open().map_err(|source| InitError::Open {
            path: path.to_path_buf(),
            source,
        })
    }

    fn write_line(&mut self, level: Level, room: &str, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Journal(journal) => journal.write_line(level, room, line),
            Self::Stderr => io::stderr().write_all(line),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(line),
            Self::Rotating(file) => file.write_line(line),
            #[cfg(test)]
            Self::Memory(lines) => lines.lock().unwrap().write_all(line),
        }
    }
}

/// `None` until [`init`]: lines then go to standard error.
static SINKS: Mutex<Option<Vec<Sink>>> = Mutex::new(None);
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static FORMAT: AtomicU8 = AtomicU8::new(Format::Json as u8);
static LINES_LOST: AtomicU64 = AtomicU64::new(0);

/// Opens the outputs and makes them, the level and the format the process's log. Before the first
/// call the log is `info`, JSON, standard error; a later call replaces what an earlier one set.
///
/// # Errors
/// A file that cannot be opened; nothing is changed then.
pub fn init(options: &Options) -> Result<(), InitError> {
    let sinks = open_sinks(options)?;
    let is_alone = |sink: &Sink| matches!(sink, Sink::Journal(journal) if !journal.is_there());
    let is_alone = sinks.iter().any(is_alone);
    *lock_sinks() = Some(sinks);
    LEVEL.store(options.level as u8, Ordering::Relaxed);
    FORMAT.store(options.format as u8, Ordering::Relaxed);
    if is_alone {
        crate::log!(
            warn,
            "no systemd journal listens, logging to standard error",
            socket = journal::SOCKET
        );
    }
    Ok(())
}

/// Lines that an output refused since the process began.
#[must_use]
pub fn lines_lost() -> u64 {
    LINES_LOST.load(Ordering::Relaxed)
}

/// Opens the file for appending; `mode` is its where it is made.
pub(super) fn open_for_appending(path: &Path, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
}

fn open_sinks(options: &Options) -> Result<Vec<Sink>, InitError> {
    let discard = Output::File(PathBuf::from("/dev/null"));
    if options.outputs.contains(&discard) {
        return Ok(Vec::new());
    }
    let mut outputs = options.outputs.clone();
    if outputs.is_empty() {
        outputs.push(Output::Stderr);
    }
    outputs.sort();
    outputs.dedup();
    let open = |output| match output {
        Output::Stderr => Ok(Sink::Stderr),
        Output::Stdout => Ok(Sink::Stdout),
        Output::Journal => Journal::open(Path::new(journal::SOCKET))
            .map(Sink::Journal)
            .map_err(InitError::Journal),
        Output::File(path) => Sink::open(&path, options.rotation),
    };
    outputs.into_iter().map(open).collect()
}

#[inline]
pub(super) fn enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

pub(super) fn format() -> Format {
    if FORMAT.load(Ordering::Relaxed) == Format::Console as u8 {
        return Format::Console;
    }
    Format::Json
}

/// Writes the line to each output, one write each. What cannot be written is counted and dropped.
pub(super) fn write_line(level: Level, room: &str, line: &[u8]) {
    let mut sinks = lock_sinks();
    let sinks = sinks.get_or_insert_with(|| vec![Sink::Stderr]);
    for sink in sinks {
        if sink.write_line(level, room, line).is_err() {
            LINES_LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A panic while the lock was held leaves at worst a cut line: the log goes on.
fn lock_sinks() -> MutexGuard<'static, Option<Vec<Sink>>> {
    SINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the log to memory, for tests of this room.
#[cfg(test)]
pub(super) fn capture(level: Level, format: Format) -> std::sync::Arc<Mutex<Vec<u8>>> {
    let lines = std::sync::Arc::new(Mutex::new(Vec::new()));
    *lock_sinks() = Some(vec![Sink::Memory(std::sync::Arc::clone(&lines))]);
    LEVEL.store(level as u8, Ordering::Relaxed);
    FORMAT.store(format as u8, Ordering::Relaxed);
    lines
}
