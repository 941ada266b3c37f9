//! `--force-new-cluster`, done to a data directory before its member starts, and once: a start with that
//! flag would leave the others out again.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use super::held::{self, HeldError};
use crate::config::{self, Outcome};
use crate::fs;
use crate::node::boot::{self, BootError};
use crate::peer::{BoxedIo, Dial};

/// In the data directory: the word for which it was done last.
pub const FILE: &str = "ALONE";
/// The longest word.
pub const WORD_MAX: usize = 128;

/// Why a member cannot go on alone.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// The word is too long, or none.
    #[error("the word has to have 1 to {WORD_MAX} bytes")]
    Word,
    /// The flags cannot be read.
    #[error("{0}")]
    Flags(String),
    /// What it holds cannot be told.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// The directory does not open.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The word cannot be read or written.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

/// Makes the member of `data_dir` the only one of its cluster, with all that its log holds, unless that
/// was done for this `word` before. Whether it was done now. Durable on return.
///
/// # Errors
/// See [`AloneError`]; nothing is changed then, or it can be done again.
pub fn go_alone(data_dir: &Path, wal_dir: Option<&Path>, word: &str) -> Result<bool, AloneError> {
    if word.is_empty() || word.len() > WORD_MAX {
        return Err(AloneError::Word);
    }
    let identity = held::identity(data_dir)?;
    let note = data_dir.join(FILE);
    if fs::read_if_exists(&note)?.is_some_and(|before| before == word.as_bytes()) {
        return Ok(false);
    }
    let mut arguments = vec![
        OsString::from("--force-new-cluster"),
        flag("data-dir", data_dir),
    ];
    arguments.extend(wal_dir.map(|dir| flag("wal-dir", dir)));
    // Where the store on disk does not know it yet, the log does.
    let members = held::look(data_dir, wal_dir)?.members;
    let own = members.iter().find(|one| one.id == identity.member);
    if let Some(own) = own.filter(|own| !own.peer_urls.is_empty()) {
        let urls = own.peer_urls.join(",");
        arguments.push(format!("--initial-advertise-peer-urls={urls}").into());
    }
    let no_file = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let config = match config::parse(arguments.into_iter(), std::iter::empty(), &no_file) {
        Outcome::Run { config, .. } => config,
        Outcome::Fail(failure) => return Err(AloneError::Flags(failure.message)),
        Outcome::Print { text, .. } => return Err(AloneError::Flags(text)),
    };
    let nobody: Arc<dyn Dial> = Arc::new(Nobody);
    let booted = boot::open(&config, &nobody)?;
    fs::write_durably(&note, word.as_bytes())?;
    drop(booted);
    Ok(true)
}

fn flag(name: &str, dir: &Path) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(dir);
    flag
}

/// Nobody is asked: the directory says who its member is.
struct Nobody;

impl Dial for Nobody {
    fn dial<'a>(
        &'a self,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::NotConnected)) })
    }
}
