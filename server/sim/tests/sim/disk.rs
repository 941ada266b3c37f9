//! What a disk keeps when the power goes: a copy of a member's directory without what was not synced.

use std::path::{Path, PathBuf};

use engram_disk::fs::power::{Named, SECTOR_BYTES, Unkept, Unsynced};

use crate::faults::Spoilt;
use crate::formats;
use crate::random::Random;

/// Where a log lies in a data directory.
const LOG: &str = "wal";

/// Makes `new` of `old`: what was synced, and of the rest what `random` says.
pub fn without_power(old: &Path, new: &Path, unkept: &Unkept, random: &mut Random) {
    copy_tree(old, new);
    lose(&unkept.writes, old, new, random);
    lose_names(&unkept.names, old, new, random);
}

/// What has become of a directory, and how it was.
#[derive(Debug)]
pub struct Spoiling {
    what: Spoilt,
    /// The directory as it was.
    sound: PathBuf,
    /// The file and the bit of it that is another.
    bit: Option<(PathBuf, usize)>,
    /// The format's number before.
    format: Option<u8>,
}

impl Spoiling {
    /// Spoils a member's directory, which nobody uses. `other` is another member's, or an older copy of its own.
    /// None where there is nothing that could be spoilt so.
    pub fn spoil(dir: &Path, what: Spoilt, other: &Path, random: &mut Random) -> Option<Spoiling> {
        let mut format = None;
        if let Spoilt::Format(carrier, number) = what {
            format = Some(formats::set(dir, carrier, number)?);
        }
        let sound = dir.with_extension("sound");
        copy_tree(dir, &sound);
        let mut bit = None;
        match what {
            Spoilt::Format(..) => {}
            Spoilt::Bit => bit = another_bit(dir, random),
            Spoilt::LogLost => remove(&dir.join(LOG)),
            Spoilt::StoreLost => remove(&store_of(dir).expect("there is one")),
            Spoilt::LogForeign | Spoilt::LogOlder => take(dir, other, is_of_log),
            Spoilt::StoreForeign | Spoilt::StoreOlder => take(dir, other, is_of_store),
            Spoilt::IdentityForeign => take(dir, other, is_identity),
        }
        Some(Spoiling {
            what,
            sound,
            bit,
            format,
        })
    }

    /// What was spoilt.
    pub fn what(&self) -> Spoilt {
        self.what
    }

    /// Puts back what was there. A bit, or a number, is put back where it was: whoever refused to start has
    /// changed nothing.
    pub fn mend(self, dir: &Path) {
        match (self.what, &self.bit) {
            (Spoilt::Bit, Some((file, bit))) => flip(&dir.join(file), *bit),
            (Spoilt::Bit, None) => {}
            (Spoilt::Format(carrier, _), _) => {
                let before = self.format.expect("it was another");
                formats::set(dir, carrier, before).expect("it was set");
            }
            (Spoilt::StoreLost | Spoilt::StoreOlder | Spoilt::StoreForeign, _) => {
                take(dir, &self.sound, is_of_store);
            }
            (Spoilt::IdentityForeign, _) => take(dir, &self.sound, is_identity),
            _ => take(dir, &self.sound, is_of_log),
        }
    }
}

impl Drop for Spoiling {
    fn drop(&mut self) {
        remove(&self.sound);
    }
}

fn is_of_log(name: &str) -> bool {
    name == LOG
}

fn is_of_store(name: &str) -> bool {
    name.starts_with("store") || name == "SWITCH"
}

fn is_identity(name: &str) -> bool {
    name == "IDENTITY"
}

fn remove_if_there(path: &Path) {
    if path.exists() {
        remove(path);
    }
}

fn remove(path: &Path) {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    removed.expect("nobody uses it");
}

/// Has the entries of a directory whose names are chosen be those of another one.
fn take(dir: &Path, other: &Path, is_chosen: fn(&str) -> bool) {
    let is_chosen = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| is_chosen(&name.to_string_lossy()))
    };
    let chosen = |dir: &Path| -> Vec<PathBuf> {
        let files = files_of(dir).into_iter();
        files.filter(is_chosen).collect()
    };
    chosen(dir).iter().for_each(|path| remove(path));
    for path in chosen(other) {
        let target = dir.join(path.file_name().expect("it has a name"));
        match path.is_dir() {
            true => copy_tree(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("memory can be written")),
        }
    }
}

/// The directory of the store in force: the one of the greatest number.
pub fn store_of(dir: &Path) -> Option<PathBuf> {
    let numbers = files_of(dir).into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let number = match name.strip_prefix("store.") {
            Some(number) => number.parse::<u64>().ok()?,
            None => 0,
        };
        (name.starts_with("store") && path.is_dir()).then_some((number, path))
    });
    Some(numbers.max()?.1)
}

/// What lies in a directory.
pub fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Changes a bit of some file's content: of a segment, a store's table, or the identity.
fn another_bit(dir: &Path, random: &mut Random) -> Option<(PathBuf, usize)> {
    let is_content = |(path, bytes): &(PathBuf, u64)| {
        let name = path.to_string_lossy();
        let is_checked = [".wal", ".sst", "IDENTITY", "SWITCH"]
            .iter()
            .any(|end| name.ends_with(end));
        is_checked && *bytes > 0
    };
    let files: Vec<_> = files(dir).into_iter().filter(is_content).collect();
    let (path, _) = files.get(random.index(files.len().max(1)))?;
    let bytes = std::fs::read(path).expect("it can be read");
    // Among the zeros behind a log there is little to find.
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let bit = random.index((end + 64).min(bytes.len()) * 8);
    flip(path, bit);
    let file = path.strip_prefix(dir).expect("it is below");
    Some((file.to_path_buf(), bit))
}

fn flip(path: &Path, bit: usize) {
    // One that the log needed no more, or a spare, may be gone.
    let Ok(mut bytes) = std::fs::read(path) else {
        return;
    };
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).expect("memory can be written");
}

/// Copies a directory as it is at one moment: RocksDB's own threads tidy up when they like to, so what
/// they have changed meanwhile is copied again.
pub fn copy_tree(from: &Path, to: &Path) {
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
        for (at, share) in shares(write) {
            if kind == 0 || (kind == 1 && random.once_in(2)) {
                file.write_all_at(share, at).expect("memory can be written");
            }
        }
    }
}

/// Takes from a copy the names that were given or taken last, any number of them: a file system keeps the order
/// of those that it keeps.
fn lose_names(names: &[Named], old: &Path, new: &Path, random: &mut Random) {
    let copied = |path: &Path| new.join(path.strip_prefix(old).expect("it is below"));
    for named in names.iter().rev() {
        if random.once_in(2) {
            return;
        }
        match named {
            Named::Made(path) => remove_if_there(&copied(path)),
            Named::Moved { from, to, before } => {
                let (from, to) = (copied(from), copied(to));
                if to.exists() {
                    std::fs::rename(&to, from).expect("memory can be written");
                }
                put_back(&to, before.as_deref());
            }
            Named::Removed(path, content) => put_back(&copied(path), Some(content)),
        }
    }
}

/// Has a file hold what it held, where its directory is there.
fn put_back(path: &Path, content: Option<&[u8]>) {
    let is_there = path.parent().is_some_and(Path::is_dir);
    if let Some(content) = content.filter(|_| is_there) {
        std::fs::write(path, content).expect("memory can be written");
    }
}

/// What was there before a write, by the sectors of the file that it reaches into, and where.
fn shares(write: &Unsynced) -> impl Iterator<Item = (u64, &[u8])> {
    let sector = SECTOR_BYTES as u64;
    let first = (write.offset.next_multiple_of(sector) - write.offset) as usize;
    let (head, rest) = write.before.split_at(first.min(write.before.len()));
    let after = write.offset.next_multiple_of(sector);
    let rest = (after..)
        .step_by(SECTOR_BYTES)
        .zip(rest.chunks(SECTOR_BYTES));
    std::iter::once((write.offset, head)).chain(rest)
}
