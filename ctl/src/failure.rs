//! Why a command failed: one sentence, and etcdctl's exit code.

use std::fmt;

/// etcdctl's exit code of a failure.
const ERROR: u8 = 1;
/// etcdctl's exit code of arguments that make no sense.
pub const BAD_ARGUMENTS: u8 = 128;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something failed.
    pub fn new(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: ERROR,
        }
    }

    /// The arguments make no sense.
    pub fn arguments(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: BAD_ARGUMENTS,
        }
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
        Failure::new(status.message())
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
    std::io::Error,
    tokio::task::JoinError,
    engram_backup::create::CreateError,
    engram_backup::restore::RestoreFailed,
    engram_backup::source::SourceError,
    engram_backup::store::StoreError,
    engram_backup::verify::VerifyError,
    engram_server::node::offline::FlagError,
    engram_server::snapshot::file::FileError,
    engram_server::snapshot::restore::RestoreError
);
