//! Something made of files that is made anew when they change, without a restart and without a
//! thread of its own: who needs it looks, at most once a second.
//!
//! Invariants:
//! - What cannot be read at the start is an error; later the last good state stays in use, and the
//!   log and a counter say so until the files are good again.
//! - Files that replace each other one after the other (certificate, then key) are never mixed:
//!   they do not fit, so the old pair stays until both are there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::TlsError;
use super::material::{Content, PerFile};
use crate::fs::{self, Stamp};

/// How often files are looked at. etcd reads certificates at every handshake.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file's time has to be this old before an unchanged time means an unchanged file: clocks of
/// file systems tick slowly. Seconds.
const SETTLED_AFTER: i64 = 2;
/// The largest file: a revocation list of some hundred thousand certificates. Bytes.
const FILE_BYTES_MAX: u64 = 32 << 20;

type Build<T> = dyn Fn(&PerFile<Option<Content>>) -> Result<T, TlsError> + Send + Sync;

/// A value made of files.
pub(super) struct Reloading<T> {
    /// Whose files they are, for the log: `client` or `peer`.
    side: &'static str,
    paths: PerFile<Option<PathBuf>>,
    build: Box<Build<T>>,
    state: Mutex<State<T>>,
    failures: AtomicU64,
}

struct State<T> {
    value: Arc<T>,
    seen: Seen,
    looked_at: Instant,
    /// Somebody is looking: the others take what is there.
    looking: bool,
    /// Why the files are not in use, if they are not.
    failing: Option<String>,
}

/// What the files were when they were read last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    stamps: PerFile<Option<Stamp>>,
    /// The files are old enough for equal stamps to mean equal bytes.
    settled: bool,
    /// SHA-256 of each, so that keys are not kept twice.
    digests: PerFile<Option<[u8; 32]>>,
}

impl<T> Reloading<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// One cannot be read, or `build` refuses them.
    pub(super) fn open(
        side: &'static str,
        paths: PerFile<Option<PathBuf>>,
        build: impl Fn(&PerFile<Option<Content>>) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Reloading<T>, TlsError> {
        let (seen, contents) = read(&paths)?;
        let value = Arc::new(build(&contents)?);
        Ok(Reloading {
            side,
            paths,
            build: Box::new(build),
            state: Mutex::new(State {
                value,
                seen,
                looked_at: Instant::now(),
                looking: false,
                failing: None,
            }),
            failures: AtomicU64::new(0),
        })
    }

    /// The value, of files not older than a second. A file system that hangs holds up one caller,
    /// not the connections of its thread.
    pub(super) async fn fresh(self: &Arc<Self>) -> Arc<T>
    where
        T: Send + Sync + 'static,
    {
        if self.is_due() {
            let this = Arc::clone(self);
            // It fails only where the runtime ends, and the connection with it.
            let _ = crate::threads::spawn_blocking(move || this.look()).await;
        }
        self.last()
    }

    /// The same without a runtime; the caller waits for the disk.
    pub(super) fn fresh_blocking(&self) -> Arc<T> {
        if self.is_due() {
            self.look();
        }
        self.last()
    }

    fn is_due(&self) -> bool {
        let state = self.state.lock();
        !state.looking && state.looked_at.elapsed() >= LOOK_EVERY
    }

    fn last(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().value)
    }

    /// How often changed files could not be used.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Looks at the files now, unless somebody does already. The lock is not held meanwhile.
    pub(super) fn look(&self) {
        let before = {
            let mut state = self.state.lock();
            if state.looking {
                return;
            }
            state.looking = true;
            state.looked_at = Instant::now();
            (state.failing.is_none()).then(|| state.seen.clone())
        };
        let outcome = self.reread(before.as_ref());
        let mut state = self.state.lock();
        state.looking = false;
        match outcome {
            Ok(None) => {}
            Ok(Some((seen, fresh))) => self.take(&mut state, seen, fresh),
            Err(error) => self.keep_old(&mut state, &error.to_string()),
        }
    }

    /// What the files hold now: nothing if they are as `before`, no value if only their times
    /// differ.
    #[allow(clippy::type_complexity)] // One use, and both parts have names.
    fn reread(&self, before: Option<&Seen>) -> Result<Option<(Seen, Option<T>)>, TlsError> {
        if let Some(before) = before
            && before.settled
            && stamps(&self.paths)? == before.stamps
        {
            return Ok(None);
        }
        let (seen, contents) = read(&self.paths)?;
        if before.is_some_and(|before| before.digests == seen.digests) {
            return Ok(Some((seen, None)));
        }
        let value = (self.build)(&contents)?;
        Ok(Some((seen, Some(value))))
    }

    fn take(&self, state: &mut State<T>, seen: Seen, fresh: Option<T>) {
        state.seen = seen;
        state.failing = None;
        if let Some(value) = fresh {
            state.value = Arc::new(value);
            crate::log!(info, "loaded changed TLS files", endpoint = self.side);
        }
    }

    fn keep_old(&self, state: &mut State<T>, error: &str) {
        if state.failing.as_deref() == Some(error) {
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        crate::log!(
            warn,
            "changed TLS files cannot be used; the last good ones stay in use",
            endpoint = self.side,
            error = error
        );
        state.failing = Some(error.to_owned());
    }
}

fn stamps(paths: &PerFile<Option<PathBuf>>) -> Result<PerFile<Option<Stamp>>, TlsError> {
    paths.try_map(|path| {
        let stamp = |path: &PathBuf| fs::stamp(path).map_err(|source| unreadable(path, source));
        path.as_ref().map(stamp).transpose()
    })
}

fn unreadable(path: &std::path::Path, source: std::io::Error) -> TlsError {
    TlsError::Read {
        path: path.to_owned(),
        source,
    }
}

/// Stamps first: a file that changes while it is read is read again next time.
fn read(paths: &PerFile<Option<PathBuf>>) -> Result<(Seen, PerFile<Option<Content>>), TlsError> {
    let stamps = stamps(paths)?;
    let contents = paths.try_map(|path| path.as_deref().map(read_one).transpose())?;
    let digest = |content: &Option<Content>| {
        let content = content.as_ref();
        Ok::<_, TlsError>(content.map(|content| Sha256::digest(&content.bytes).into()))
    };
    let seen = Seen {
        settled: is_settled(&stamps),
        stamps,
        digests: contents.try_map(digest)?,
    };
    Ok((seen, contents))
}

fn read_one(path: &std::path::Path) -> Result<Content, TlsError> {
    let bytes = fs::read_at_most(path, FILE_BYTES_MAX);
    Ok(Content {
        path: path.to_owned(),
        bytes: bytes.map_err(|source| unreadable(path, source))?,
    })
}

fn is_settled(stamps: &PerFile<Option<Stamp>>) -> bool {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 tells nothing: read again each time.
    let now = since_epoch.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let is_old = |stamp: &Option<Stamp>| {
        stamp.is_none_or(|stamp| stamp.changed_seconds() <= now - SETTLED_AFTER)
    };
    [
        &stamps.certificate,
        &stamps.key,
        &stamps.authorities,
        &stamps.revoked,
    ]
    .into_iter()
    .all(is_old)
}
