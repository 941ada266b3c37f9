//! Cuts a snapshot into the blobs of etcd's `Maintenance.Snapshot` stream.
//!
//! Owns blob sizes, the SHA-256 digest at the end, and `remaining_bytes`. Must never buffer more
//! than one blob: the receiver of the blobs blocks when the stream is slow, and with it the writer.

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};

/// Bytes of a blob, as etcd cuts them (`snapshotSendBufferSize`). The file's last one is shorter.
pub const BLOB_BYTES: usize = 32 * 1024;

/// Bytes of the digest, which follows the file as a blob of its own. etcd's tools know a snapshot
/// with a digest by its length: 32 modulo 512.
pub const DIGEST_BYTES: usize = 32;

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// `blob`: the next bytes of the file, or the digest.
    pub bytes: Bytes,
    /// `remaining_bytes`: how many of the file's bytes follow. The digest is not counted.
    pub remaining_bytes: u64,
}

/// The receiver wants no more blobs.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the snapshot's receiver is gone")]
pub struct Closed;

/// Gives what is written to it to `send`, in blobs. `send` may block: that is the back-pressure.
pub struct BlobWriter<F> {
    send: F,
    blob: BytesMut,
    digest: Context,
    remaining_bytes: u64,
}

impl<F: FnMut(Blob) -> Result<(), Closed>> BlobWriter<F> {
    /// A writer for a file of exactly `file_bytes`, which is [`Layout::file_bytes`].
    ///
    /// [`Layout::file_bytes`]: super::Layout::file_bytes
    pub fn new(file_bytes: u64, send: F) -> BlobWriter<F> {
        BlobWriter {
            send,
            blob: BytesMut::with_capacity(BLOB_BYTES),
            digest: Context::new(&SHA256),
            remaining_bytes: file_bytes,
        }
    }

    /// Sends the rest of the file and the digest. Must be called only when the file is complete: a
    /// stream without its digest is how the receiver learns that a snapshot failed.
    ///
    /// # Errors
    /// The receiver is gone.
    pub fn finish(mut self) -> Result<(), Closed> {
        if !self.blob.is_empty() {
            self.send_blob()?;
        }
        assert_eq!(
            self.remaining_bytes, 0,
            "the file has the length its layout announced"
        );
        let bytes = Bytes::copy_from_slice(self.digest.finish().as_ref());
        assert_eq!(bytes.len(), DIGEST_BYTES, "SHA-256 has 32 bytes");
        (self.send)(Blob {
            bytes,
            remaining_bytes: 0,
        })
    }

    fn send_blob(&mut self) -> Result<(), Closed> {
        let next = BytesMut::with_capacity(BLOB_BYTES);
        let bytes = std::mem::replace(&mut self.blob, next).freeze();
        self.digest.update(&bytes);
        let sent = u64::try_from(bytes.len()).expect("a blob's length fits u64");
        self.remaining_bytes = self
            .remaining_bytes
            .checked_sub(sent)
            .expect("the file has the length its layout announced");
        (self.send)(Blob {
            bytes,
            remaining_bytes: self.remaining_bytes,
        })
    }
}

impl<F: FnMut(Blob) -> Result<(), Closed>> Write for BlobWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOB_BYTES - self.blob.len());
        self.blob.extend_from_slice(&bytes[..taken]);
        if self.blob.len() == BLOB_BYTES {
            self.send_blob()
                .map_err(|closed| io::Error::new(io::ErrorKind::BrokenPipe, closed))?;
        }
        Ok(taken)
    }

    /// Does nothing: a blob goes out when it is full, or at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
