//! A batch of requests: what one Raft entry carries.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::entry::{self, BatchHeader, DecodeError};
use crate::types::request::Op;

/// A batch, with its bytes and (where it is at hand) what they decode to. The member that made the
/// batch never decodes it; the others do when they apply it. Cloning shares both.
#[derive(Clone)]
pub struct Batch {
    encoded: Bytes,
    decoded: Option<Arc<(BatchHeader, Vec<Op>)>>,
    is_answered_when_applied: bool,
}

impl Batch {
    /// Makes a batch of decoded operations and encodes it.
    pub fn new(header: BatchHeader, ops: Vec<Op>) -> Batch {
        let encoded = entry::encode_batch(&header, &ops);
        Batch {
            encoded,
            decoded: Some(Arc::new((header, ops))),
            is_answered_when_applied: false,
        }
    }

    /// The same, of which nobody waits for more than the callers whom applying answers.
    pub fn answered_when_applied(self) -> Batch {
        Batch {
            is_answered_when_applied: true,
            ..self
        }
    }

    /// Whether that is so. It is not known of what was read or sent.
    pub fn is_answered_when_applied(&self) -> bool {
        self.is_answered_when_applied
    }

    /// Takes a batch as it lies in the log.
    pub fn from_encoded(encoded: Bytes) -> Batch {
        Batch {
            encoded,
            decoded: None,
            is_answered_when_applied: false,
        }
    }

    /// Takes a batch that a peer sent, and decodes it.
    ///
    /// # Errors
    /// The bytes are no batch that this build could apply.
    pub fn parse(encoded: Bytes) -> Result<Batch, DecodeError> {
        let decoded = entry::decode_batch(encoded.clone())?;
        Ok(Batch {
            encoded,
            decoded: Some(Arc::new(decoded)),
            is_answered_when_applied: false,
        })
    }

    /// Its bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Keeps the bytes only, and frees what the requests hold of the buffers they came in.
    pub fn forget_decoded(&mut self) {
        self.decoded = None;
    }

    /// What it holds, where it need not be decoded for that.
    pub fn at_hand(&self) -> Option<&(BatchHeader, Vec<Op>)> {
        self.decoded.as_deref()
    }

    /// What it holds.
    ///
    /// # Errors
    /// The bytes are damaged, or a newer engram wrote them.
    pub fn decoded(&self) -> Result<Arc<(BatchHeader, Vec<Op>)>, DecodeError> {
        match &self.decoded {
            Some(decoded) => Ok(decoded.clone()),
            None => entry::decode_batch(self.encoded.clone()).map(Arc::new),
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.encoded.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.encoded.len())
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Batch) -> bool {
        self.encoded == other.encoded
    }
}
