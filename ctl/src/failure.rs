//! Why a command failed: one sentence, and etcdctl's exit code.

use std::fmt;

use crate::connect::is_refusal;

/// etcdctl's exit code of a failure.
const ERROR: u8 = 1;
/// etcdctl's exit code of a connection that failed.
const BAD_CONNECTION: u8 = 2;
/// etcdctl's exit code of an input that makes no sense.
const BAD_INPUT: u8 = 3;
/// etcdctl's exit code of a flag's value that it does not know.
const BAD_FEATURE: u8 = 4;
/// etcdctl's exit code of a watch that the server ended, and of a snapshot that was not saved.
const INTERRUPTED: u8 = 5;
/// etcdctl's exit code of arguments that make no sense.
const BAD_ARGUMENTS: u8 = 128;

/// The exit code of a command line that cannot be read.
pub fn unreadable(error: &clap::Error) -> u8 {
    use clap::error::{ContextKind, ContextValue, ErrorKind as Kind};
    let is_no_flag = || match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => !word.starts_with('-'),
        _ => false,
    };
    match error.kind() {
        Kind::DisplayHelp => 0,
        Kind::InvalidValue | Kind::ValueValidation if is_no_flag() => BAD_ARGUMENTS,
        Kind::InvalidValue => BAD_FEATURE,
        Kind::UnknownArgument if is_no_flag() => BAD_ARGUMENTS,
        Kind::UnknownArgument | Kind::InvalidSubcommand | Kind::ValueValidation => ERROR,
        _ => BAD_ARGUMENTS,
    }
}

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    code: u8,
    /// Nobody was there to answer.
    is_unreached: bool,
}

impl Failure {
    /// Something failed.
    pub fn new(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: ERROR,
            is_unreached: false,
        }
    }

    /// Nobody answered: whoever asks again later may be heard.
    pub fn unreached(message: impl fmt::Display) -> Failure {
        Failure {
            is_unreached: true,
            ..Failure::new(message)
        }
    }

    /// The arguments make no sense.
    pub fn arguments(message: impl fmt::Display) -> Failure {
        Failure {
            code: BAD_ARGUMENTS,
            ..Failure::new(message)
        }
    }

    /// A connection, or what is asked over one without a time limit, failed.
    pub fn connection(message: impl fmt::Display) -> Failure {
        Failure {
            code: BAD_CONNECTION,
            ..Failure::new(message)
        }
    }

    /// The server ended a watch, or a snapshot was not saved.
    pub fn interrupted(message: impl fmt::Display) -> Failure {
        Failure {
            code: INTERRUPTED,
            ..Failure::new(message)
        }
    }

    /// A program that was started ended with a code of its own, which becomes ours.
    pub fn exited(message: impl fmt::Display, code: u8) -> Failure {
        Failure {
            code,
            ..Failure::new(message)
        }
    }

    /// Something failed, and all is said.
    pub fn silent() -> Failure {
        Failure::new("")
    }

    /// Whether there is nothing left to say.
    pub fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// What was read from standard input makes no sense.
    pub fn input(message: impl fmt::Display) -> Failure {
        Failure {
            code: BAD_INPUT,
            ..Failure::new(message)
        }
    }

    /// A flag's value is one that cannot be.
    pub fn feature(message: impl fmt::Display) -> Failure {
        Failure {
            code: BAD_FEATURE,
            ..Failure::new(message)
        }
    }

    /// Whether nobody was there to answer.
    pub fn is_unreached(&self) -> bool {
        self.is_unreached
    }

    /// The process's exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Failure {
        match status.code() {
            tonic::Code::Unavailable if !is_refusal(&status) => {
                Failure::unreached(status.message())
            }
            _ => Failure::new(status.message()),
        }
    }
}

macro_rules! failures {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(error)
            }
        }
    )*};
}

failures!(
    engram_server::adopt::AdoptError,
    engram_server::adopt::FinishError,
    std::io::Error,
    tokio::task::JoinError,
    engram_archive::ArchiveError,
    engram_backup::copy::CopyError,
    engram_backup::create::CreateError,
    engram_backup::point::PointError,
    engram_backup::prune::PruneError,
    engram_backup::restore::RestoreFailed,
    engram_backup::source::SourceError,
    engram_backup::store::StoreError,
    engram_backup::verify::VerifyError,
    engram_objects::KeyError,
    engram_server::node::offline::AloneError,
    engram_server::node::offline::FlagError,
    engram_server::node::offline::HeldError,
    engram_server::snapshot::file::FileError,
    engram_server::snapshot::restore::RestoreError
);
