//! What a snapshot is written from: buckets that yield their pairs in key order, twice.
//!
//! Owns the trait, the check of what comes through it, and a bucket held in memory for the small
//! ones. Must never trust a source: an empty, oversized or misplaced key would make a file that
//! bbolt misreads without noticing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::page::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// What went wrong inside a source, e.g. a read error of the storage engine.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A pair's visitor. After [`ControlFlow::Break`] it wants no more pairs.
pub type PairVisitor<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// One bucket's pairs.
pub trait BucketSource {
    /// The bucket's name, e.g. `key`. 1 to 32,768 bytes.
    fn name(&self) -> &[u8];

    /// Shows every pair to `visitor` in strictly ascending order of the keys' bytes, and returns
    /// `Ok` early when it breaks. It is called once to plan the file and once to write it, and must
    /// yield the same pairs both times: read from one snapshot of the store.
    ///
    /// # Errors
    /// The pairs could not be read.
    fn pairs(&mut self, visitor: &mut PairVisitor<'_>) -> Result<(), SourceError>;
}

/// A bucket whose pairs are in memory: leases, members, users and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryBucket {
    /// The bucket's name.
    pub name: Vec<u8>,
    /// Its pairs; the map puts them in bbolt's order, whatever order they are inserted in.
    pub pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryBucket {
    /// A bucket without pairs.
    pub fn new(name: &[u8]) -> MemoryBucket {
        MemoryBucket {
            name: name.to_vec(),
            pairs: BTreeMap::new(),
        }
    }

    /// Sets a pair.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.pairs.insert(key.into(), value.into());
    }
}

impl BucketSource for MemoryBucket {
    fn name(&self) -> &[u8] {
        &self.name
    }

    fn pairs(&mut self, visitor: &mut PairVisitor<'_>) -> Result<(), SourceError> {
        for (key, value) in &self.pairs {
            if visitor(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Why a pair cannot be stored.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PairFault {
    /// bbolt has no empty keys.
    #[error("its key is empty")]
    EmptyKey,
    /// The key is longer than 32,768 bytes.
    #[error("its key of {bytes} bytes is longer than bbolt's limit of {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// The key's length.
        bytes: usize,
    },
    /// The value is longer than 2 GiB - 2.
    #[error("its value of {bytes} bytes is longer than bbolt's limit of {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// The value's length.
        bytes: usize,
    },
    /// The key is not greater than the one before it.
    #[error("its key is not greater than the key before it")]
    OutOfOrder,
}

/// Why a bucket could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source gave up.
    #[error("bucket {bucket:?} cannot be read")]
    Source {
        /// The bucket's name.
        bucket: String,
        /// The source's own error.
        source: SourceError,
    },
    /// The source yielded a pair that bbolt cannot hold. This is a defect of the source.
    #[error("bucket {bucket:?}: pair {index} cannot be stored: {fault}")]
    Pair {
        /// The bucket's name.
        bucket: String,
        /// The pair's place in the bucket, from 0.
        index: u64,
        /// What is wrong with it.
        fault: PairFault,
    },
    /// The bucket's name cannot be a key of the root bucket in its place.
    #[error("bucket {bucket:?} cannot be stored: {fault}")]
    Name {
        /// The bucket's name.
        bucket: String,
        /// What is wrong with the name, seen as a key.
        fault: PairFault,
    },
}

/// Checks pairs one after another.
#[derive(Debug, Default)]
pub(super) struct PairCheck {
    last_key: Vec<u8>,
    pairs: u64,
}

impl PairCheck {
    /// Checks the next pair.
    pub(super) fn admit(&mut self, key: &[u8], value: &[u8]) -> Result<(), PairFault> {
        if key.is_empty() {
            return Err(PairFault::EmptyKey);
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(PairFault::KeyTooLong { bytes: key.len() });
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(PairFault::ValueTooLong { bytes: value.len() });
        }
        // The first key is greater than the empty one, so that it needs no case of its own.
        if key <= self.last_key.as_slice() {
            return Err(PairFault::OutOfOrder);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.pairs += 1;
        Ok(())
    }
}

/// Reads a bucket, checks its pairs and gives them to `each` until that fails. Returns how many
/// pairs there were.
pub(super) fn read_checked<E: From<ReadError>>(
    bucket: &mut dyn BucketSource,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let name = String::from_utf8_lossy(bucket.name()).into_owned();
    let mut check = PairCheck::default();
    let mut outcome: Result<(), E> = Ok(());
    let read = bucket.pairs(&mut |key, value| {
        // A source that goes on after a break gets the same answer again.
        if outcome.is_ok() {
            outcome = match check.admit(key, value) {
                Ok(()) => each(key, value),
                Err(fault) => Err(ReadError::Pair {
                    bucket: name.clone(),
                    index: check.pairs,
                    fault,
                }
                .into()),
            };
        }
        if outcome.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    outcome?;
    read.map_err(|source| ReadError::Source {
        bucket: name,
        source,
    })?;
    Ok(check.pairs)
}

/// Checks that the buckets' names are fit to be the root bucket's keys, in the order given.
pub(super) fn check_names(buckets: &[&mut dyn BucketSource]) -> Result<(), ReadError> {
    let mut check = PairCheck::default();
    for bucket in buckets {
        let name = bucket.name();
        check.admit(name, &[]).map_err(|fault| ReadError::Name {
            bucket: String::from_utf8_lossy(name).into_owned(),
            fault,
        })?;
    }
    Ok(())
}
