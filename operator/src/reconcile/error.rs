//! What ends a pass early.

use crate::api::Reason;
use crate::etcd::EtcdError;
use crate::pki::PkiError;

/// What ends a pass early. It is tried again, later and later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("Kubernetes: {0}")]
    Kube(Box<kube::Error>),
    /// A member refused or did not answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// What the user wrote, or refers to, cannot be worked with.
    #[error("{message}")]
    Input {
        /// In a word, for the condition.
        reason: Reason,
        /// What to do about it.
        message: String,
    },
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

impl Error {
    /// Something of the user's.
    pub fn input(reason: Reason, message: impl Into<String>) -> Self {
        Self::Input {
            reason,
            message: message.into(),
        }
    }

    /// As metrics name it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Kube(_) => "Kubernetes",
            Self::Etcd(_) => "Member",
            Self::Pki(_) => "Certificates",
            Self::Input { .. } => "Input",
        }
    }

    /// As conditions name it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Input { reason, .. } => *reason,
            Self::Pki(_) | Self::Etcd(EtcdError::Tls(_)) => Reason::CertificateInvalid,
            Self::Kube(_) | Self::Etcd(_) => Reason::Failed,
        }
    }
}
