//! What a disk keeps when the power goes: a copy of a member's directory without what was not synced.

use std::path::{Path, PathBuf};

use engram_disk::fs::power::{SECTOR_BYTES, Unsynced};

use crate::random::Random;

/// Makes `new` of `old`: what was synced, and of the rest what `random` says.
pub fn without_power(old: &Path, new: &Path, unsynced: &[Unsynced], random: &mut Random) {
    copy_tree(old, new);
    lose(unsynced, old, new, random);
}

/// Copies a directory as it is at one moment: RocksDB's own threads tidy up when they like to, so what
/// they have changed meanwhile is copied again.
fn copy_tree(from: &Path, to: &Path) {
    loop {
        let before = files(from);
        if copied(from, to).is_ok() && files(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).expect("it was made above");
    }
}

/// The files below a directory and their lengths, but for RocksDB's own log.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&entry.path())),
            Ok(metadata) if entry.file_name() != "LOG" => {
                found.push((entry.path(), metadata.len()))
            }
            _ => {}
        }
    }
    found.sort();
    found
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().expect("it has a name");
        let target = to.join(name);
        if path.is_dir() {
            copied(&path, &target)?;
        } else if name != "RESERVE" && name != "LOCK" {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Takes from a copy what a disk without power need not have written: of each unsynced write nothing,
/// all, or any of its sectors.
fn lose(unsynced: &[Unsynced], old: &Path, new: &Path, random: &mut Random) {
    use std::os::unix::fs::FileExt as _;
    for write in unsynced.iter().rev() {
        let of_it = write.path.strip_prefix(old).expect("it is below");
        let Ok(file) = std::fs::OpenOptions::new()
            .write(true)
            .open(new.join(of_it))
        else {
            continue;
        };
        let kind = random.below(3);
        for (number, sector) in write.before.chunks(SECTOR_BYTES).enumerate() {
            if kind == 0 || (kind == 1 && random.once_in(2)) {
                let at = write.offset + (number * SECTOR_BYTES) as u64;
                file.write_all_at(sector, at)
                    .expect("memory can be written");
            }
        }
    }
}
