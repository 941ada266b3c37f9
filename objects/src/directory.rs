//! Large objects of a store that is a directory, written and read without the system's page cache, and without
//! fresh memory for each: what copies cost there is a third of a backup.
//!
//! An object is written in its place. Who dies meanwhile leaves half of it, which nobody takes for whole: chunks
//! count by their manifest alone, which is stored after them, and by their checksums.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::buffer::{ALIGNMENT, Buffer};

/// Bytes from which on an object is large.
const LARGE_BYTES: usize = 1 << 20;

/// Whether these bytes can be written so.
pub(crate) fn takes(bytes: &Bytes) -> bool {
    bytes.len() >= LARGE_BYTES && bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

/// Writes an object durably, over what is there. False where the file system takes no such writes: what is there then
/// is to be written over.
///
/// # Errors
/// It cannot be written.
pub(crate) fn put(path: &Path, bytes: &Bytes) -> io::Result<bool> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut direct = match options.custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
        direct => direct?,
    };
    let (whole, rest) = bytes.split_at(bytes.len() / ALIGNMENT * ALIGNMENT);
    match direct.write_all(whole) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
        written => written?,
    }
    if !rest.is_empty() {
        // Less than a page.
        OpenOptions::new()
            .append(true)
            .open(path)?
            .write_all(rest)?;
    }
    direct.sync_all()?;
    File::open(parent)?.sync_all()?;
    Ok(true)
}

/// Reads an object that was opened, of so many bytes: a large one past the page cache, where the file system takes
/// such reads.
///
/// # Errors
/// It cannot be read, or is shorter.
pub(crate) fn read(mut file: File, length: usize) -> io::Result<Bytes> {
    let mut buffer = Buffer::of(length.next_multiple_of(ALIGNMENT));
    let mut whole = 0;
    if length >= LARGE_BYTES && past_page_cache(&file, true) {
        whole = read_direct(&mut file, buffer.bytes_mut())?.min(length);
        if whole < length {
            past_page_cache(&file, false);
        }
    }
    file.read_exact(&mut buffer.bytes_mut()[whole..length])?;
    Ok(buffer.freeze(length))
}

/// Turns reads past the page cache on or off; false where the file system has none.
fn past_page_cache(file: &File, on: bool) -> bool {
    let set = |flags: OFlags| fcntl_setfl(file, flags).is_ok();
    let flags = fcntl_getfl(file);
    flags.is_ok_and(|mut flags| {
        flags.set(OFlags::DIRECT, on);
        set(flags)
    })
}

/// Reads what comes in whole pages, and what is left at the end; returns how much that is. What the file system does
/// not give so (an end within a page is where some stop) is for the other way.
fn read_direct(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read(&mut bytes[done..]) {
            Ok(0) => break,
            // What is not whole pages is the end: nothing behind it could be read so.
            Ok(read) if read % ALIGNMENT != 0 => return Ok(done + read),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a/b/object");
        for length in [LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES + 4095] {
            let mut buffer = Buffer::of(length);
            for (at, byte) in buffer.bytes_mut().iter_mut().enumerate() {
                *byte = u8::try_from(at % 251).expect("small");
            }
            let bytes = buffer.freeze(length);
            assert!(takes(&bytes));
            if !put(&path, &bytes).expect("written") {
                // A file system without such writes: nothing to be seen here.
                continue;
            }
            assert_eq!(std::fs::read(&path).expect("read"), bytes);
            let file = File::open(&path).expect("opened");
            assert_eq!(read(file, length).expect("read"), bytes);
            let file = File::open(&path).expect("opened");
            let longer = read(file, length + 1).expect_err("it ends before");
            assert_eq!(longer.kind(), io::ErrorKind::UnexpectedEof);
            let file = File::open(&path).expect("opened");
            let begin = read(file, LARGE_BYTES).expect("read");
            assert_eq!(begin, bytes[..LARGE_BYTES]);
        }
        assert!(!takes(&Bytes::from_static(b"small")));
    }
}
