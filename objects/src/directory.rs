//! A store that is a directory, where it is not read and written as any other.
//!
//! Large objects are written and read without the system's page cache, and without fresh memory for each: what copies
//! cost there is a third of a backup. What is neither a file nor a directory is no object, and never opened: a pipe
//! would keep whoever opens it waiting for ever. A directory is listed by itself, so that links that lead round in
//! circles below it are nobody's concern.
//!
//! An object is written in its place. Who dies meanwhile leaves half of it, which nobody takes for whole: chunks
//! count by their manifest alone, which is stored after them, and by their checksums.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::buffer::{ALIGNMENT, Buffer};

/// Bytes from which on an object is large.
const LARGE_BYTES: usize = 1 << 20;

/// Whether what lies there can be no object: a pipe, a socket or a device. What cannot be looked at says so when it is
/// opened.
pub(crate) fn is_no_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The names of the directories right in a directory, ascending; none where it is not there.
///
/// # Errors
/// It cannot be read.
pub(crate) fn directories(path: &Path) -> io::Result<Vec<String>> {
    let directories = entries(path)?.into_iter().filter(|(_, is)| is.is_dir());
    Ok(directories.map(|(name, _)| name).collect())
}

/// The files right in a directory, ascending, with their bytes; none where it is not there.
///
/// # Errors
/// It cannot be read.
pub(crate) fn files(path: &Path) -> io::Result<Vec<(String, u64)>> {
    let files = entries(path)?.into_iter().filter(|(_, is)| is.is_file());
    Ok(files.map(|(name, is)| (name, is.len())).collect())
}

/// What lies in a directory and has a name in letters, by names; what links lead to, too.
fn entries(path: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let found = match std::fs::read_dir(path) {
        Err(error) if is_nothing(&error) => return Ok(Vec::new()),
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match std::fs::metadata(entry.path()) {
            Ok(is) => entries.push((name, is)),
            // It went meanwhile, or a link leads nowhere or in circles.
            Err(error) if is_nothing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries)
}

fn is_nothing(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    let is_circle = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_circle || kinds.contains(&error.kind())
}

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

    #[test]
    fn a_directory_is_listed_whatever_lies_in_it() {
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("b")).expect("made");
        std::fs::write(at("d"), "four").expect("written");
        symlink(root.path(), at("c")).expect("linked");
        symlink(at("e"), at("e")).expect("linked");
        symlink(at("nowhere"), at("f")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at("g")).expect("bound");
        symlink("/dev/zero", at("h")).expect("linked");
        assert_eq!(directories(root.path()).expect("listed"), ["b", "c"]);
        let listed = files(root.path()).expect("listed");
        assert_eq!(listed, [("d".to_owned(), 4)]);
        let is_no_file = |name: &str| is_no_file(&at(name));
        assert!(is_no_file("g") && is_no_file("h"));
        assert!(!is_no_file("b") && !is_no_file("d") && !is_no_file("nowhere"));
        assert_eq!(files(&at("nowhere")).expect("none"), []);
    }
}
