//! What ends a pass early.

use std::time::Duration;

use crate::api::Reason;
use crate::etcd::EtcdError;
use crate::pki::PkiError;

/// What ends a pass early. It is tried again, later and later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("Kubernetes: {}", said(.0))]
    Kube(Box<kube::Error>),
    /// A member refused or did not answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// What disturbs somebody has to wait: no failure.
    #[error("{0}")]
    NotNow(String),
    /// What was read is not as it was read any more: it is looked at again, and no failure.
    #[error("{0}")]
    Overtaken(String),
    /// The pass took too long; what it had begun is looked at anew.
    #[error("not done within {0:?}")]
    Late(Duration),
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
        match &error {
            // Whatever is missing there is not to be made again.
            kube::Error::Api(status) if status.message.contains("is being terminated") => {
                Self::input(Reason::Deleting, "the namespace is being deleted")
            }
            _ => Self::Kube(Box::new(error)),
        }
    }
}

/// A refusal in the API server's own words, without the object that carries them.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
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
            Self::NotNow(_) => "NotNow",
            Self::Overtaken(_) => "Overtaken",
            Self::Late(_) => "Late",
            Self::Input { .. } => "Input",
        }
    }

    /// As conditions name it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Input { reason, .. } => *reason,
            Self::Pki(_) | Self::Etcd(EtcdError::Tls(_)) => Reason::CertificateInvalid,
            Self::NotNow(_) => Reason::WaitingForTurn,
            Self::Kube(_) | Self::Etcd(_) | Self::Late(_) | Self::Overtaken(_) => Reason::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refusal(message: &str) -> Error {
        let status = Status::failure(message, "Forbidden").with_code(403);
        kube::Error::Api(status.boxed()).into()
    }

    #[test]
    fn a_refusal_is_said_in_its_own_words() {
        let text = refusal("pods \"a\" is forbidden: exceeded quota").to_string();
        assert_eq!(text, "Kubernetes: pods \"a\" is forbidden: exceeded quota");
        let ending = refusal(
            "pods \"a\" is forbidden: unable to create new content in namespace x because it is being terminated",
        );
        assert_eq!(ending.reason(), Reason::Deleting);
    }
}
