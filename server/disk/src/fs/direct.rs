//! Whether a file system takes reads and writes past the page cache.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The file that is tried. It is gone afterwards.
const PROBE: &str = "direct-io.probe";
/// What every disk takes, by place, length and memory.
const BLOCK_BYTES: usize = 4096;
const PATTERN: u8 = 0xa5;

/// Whether files in `dir` can be written and read past the page cache. Some file systems refuse, some
/// refuse at the first write: it is tried.
pub fn takes_direct_io(dir: &Path) -> bool {
    let path = dir.join(PROBE);
    let same = write_and_read(&path);
    let removed = std::fs::remove_file(&path);
    removed.is_ok() && same.unwrap_or(false)
}

fn write_and_read(path: &Path) -> io::Result<bool> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.custom_flags(flags).open(path)?;
    let mut room = vec![0; 2 * BLOCK_BYTES];
    let start = room.as_ptr().align_offset(BLOCK_BYTES);
    let block = room.get_mut(start..start.saturating_add(BLOCK_BYTES));
    let block = block.ok_or(io::ErrorKind::OutOfMemory)?;
    block.fill(PATTERN);
    file.write_all_at(block, 0)?;
    block.fill(0);
    file.read_exact_at(block, 0)?;
    Ok(block.iter().all(|byte| *byte == PATTERN))
}
