//! Rows in memory, for simulators: what was written and not flushed is gone with the process, and what was
//! flushed lies in files that are written and synced as all others are, so that a simulated disk can lose,
//! refuse or tear them. No threads, and nothing that depends on anything but the calls.
//!
//! A directory holds one table of all rows and `CURRENT`, which names it:
//! rows, each family (1 byte), the key's and the value's length (4 bytes, little endian) and both; then
//! CRC32C of all before it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::rocksdb::Part;
use super::rows::{Amount, Batch, EngineError, Family, Read, Rows};
use crate::fs::{self, DataFile};

const CURRENT: &str = "CURRENT";

/// Whether stores are opened in memory.
static CHOSEN: AtomicBool = AtomicBool::new(false);

/// Has every store that this process opens from now on be one in memory.
pub fn keep_in_memory() {
    CHOSEN.store(true, Ordering::Relaxed);
}

pub(super) fn is_chosen() -> bool {
    CHOSEN.load(Ordering::Relaxed)
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> EngineError {
        EngineError(error.to_string())
    }
}

type Sorted = BTreeMap<Vec<u8>, Bytes>;

/// All rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    revisions: Sorted,
    tables: Sorted,
}

impl Content {
    fn family(&self, family: Family) -> &Sorted {
        match family {
            Family::Revisions => &self.revisions,
            Family::Tables => &self.tables,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut Sorted {
        match family {
            Family::Revisions => &mut self.revisions,
            Family::Tables => &mut self.tables,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for family in [Family::Revisions, Family::Tables] {
            for (key, value) in self.family(family) {
                out.push(u8::from(family == Family::Tables));
                for bytes in [&key[..], &value[..]] {
                    let len = u32::try_from(bytes.len()).expect("a request's bytes");
                    out.extend(len.to_le_bytes());
                }
                out.extend_from_slice(key);
                out.extend_from_slice(value);
            }
        }
        let checksum = crc32c::crc32c(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Content> {
        let (mut rest, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut content = Content::default();
        while let Some((family, after)) = rest.split_first() {
            let family = match family {
                0 => Family::Revisions,
                _ => Family::Tables,
            };
            let (key_len, after) = after.split_first_chunk::<4>()?;
            let (value_len, after) = after.split_first_chunk::<4>()?;
            let (key, after) = after.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
            let value = Bytes::copy_from_slice(value);
            content.family_mut(family).insert(key.to_vec(), value);
            rest = after;
        }
        Some(content)
    }
}

/// The rows of one moment.
pub(super) type View = Arc<Content>;

impl Read for View {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.family(family).get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        _amount: Amount,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        for (key, value) in self.family(family).range(from.to_vec()..) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// An open one.
pub(super) struct Memory {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written: Arc<Content>,
    persisted: Arc<Content>,
    /// Of the table that is persisted; 0 where there is none.
    number: u64,
    /// Bytes of it.
    file_bytes: u64,
    /// Bytes written since.
    unflushed: u64,
    /// How often a flush of its own has failed.
    failed: u64,
}

impl State {
    /// Makes what is written the table of a directory.
    fn flush(&mut self, dir: &Path) -> Result<(), EngineError> {
        if self.number > 0 && Arc::ptr_eq(&self.written, &self.persisted) {
            return Ok(());
        }
        let (before, number) = (self.number, self.number + 1);
        self.file_bytes = store(dir, number, &self.written)?;
        self.persisted = self.written.clone();
        self.number = number;
        self.unflushed = 0;
        if before > 0 {
            fs::remove_durably(&dir.join(table(before)))?;
        }
        Ok(())
    }
}

fn table(number: u64) -> String {
    format!("{number:06}.sst")
}

impl Memory {
    /// Opens what lies in a directory, or nothing yet.
    pub(super) fn open(dir: &Path) -> Result<Memory, EngineError> {
        fs::create_private_dir(dir).map_err(io::Error::other)?;
        let state = load(dir)?.unwrap_or_default();
        for name in fs::file_names(dir)? {
            if name.ends_with(".sst") && name != table(state.number) {
                fs::remove_durably(&dir.join(name))?;
            }
        }
        Ok(Memory::of(dir, state))
    }

    /// Opens what lies in a directory.
    pub(super) fn open_to_read(dir: &Path) -> Result<Memory, EngineError> {
        let state = load(dir)?.ok_or_else(|| EngineError("there is no store".into()))?;
        Ok(Memory::of(dir, state))
    }

    fn of(dir: &Path, state: State) -> Memory {
        Memory {
            dir: dir.to_path_buf(),
            state: Mutex::new(state),
        }
    }

    fn written(&self) -> View {
        self.state.lock().written.clone()
    }
}

fn load(dir: &Path) -> Result<Option<State>, EngineError> {
    let Some(current) = fs::read_if_exists(&dir.join(CURRENT))? else {
        return Ok(None);
    };
    let damaged = || EngineError(format!("Corruption: {} is damaged", dir.display()));
    let name = std::str::from_utf8(&current).map_err(|_| damaged())?;
    let number = name.strip_suffix(".sst").and_then(|text| text.parse().ok());
    let number = number.ok_or_else(damaged)?;
    let bytes = fs::read_if_exists(&dir.join(table(number)))?.ok_or_else(damaged)?;
    let content = Arc::new(Content::decode(&bytes).ok_or_else(damaged)?);
    Ok(Some(State {
        written: content.clone(),
        persisted: content,
        number,
        file_bytes: bytes.len() as u64,
        ..State::default()
    }))
}

/// Writes rows as a directory's table of a number, durably, before `CURRENT` names it.
fn store(dir: &Path, number: u64, content: &Content) -> io::Result<u64> {
    let bytes = content.encode();
    let path = dir.join(table(number));
    let file = DataFile::create(&path)?;
    let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // Whoever tries again begins anew, and has the room that this took.
        drop(fs::remove_durably(&path));
        return Err(error);
    }
    fs::write_durably(&dir.join(CURRENT), table(number).as_bytes())?;
    Ok(bytes.len() as u64)
}

impl Read for Memory {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.written().get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        amount: Amount,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        self.written().scan(family, from, amount, visit)
    }
}

impl Rows for Memory {
    type Batch<'a> = Changes;
    type View<'a> = View;

    fn batch(&self, _: usize) -> Changes {
        Changes::default()
    }

    fn write(&self, batch: Changes) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.unflushed += batch.bytes();
        let written = Arc::make_mut(&mut state.written);
        for (family, key, value) in batch.0 {
            match value {
                Some(value) => drop(written.family_mut(family).insert(key, value)),
                None => drop(written.family_mut(family).remove(&key)),
            }
        }
        Ok(())
    }

    fn view(&self) -> View {
        self.written()
    }

    fn get_many(
        &self,
        keys: &[[u8; 12]],
    ) -> impl Iterator<Item = Result<Option<Bytes>, EngineError>> {
        let rows = self.written();
        keys.iter().map(move |key| rows.get(Family::Revisions, key))
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let persisted = self.state.lock().persisted.clone();
        persisted.get(Family::Tables, key)
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        match state.failed {
            0 => state.flush(&self.dir),
            // As RocksDB refuses everything once it holds a failure for no passing one.
            _ => Err(EngineError("a flush has failed before".to_owned())),
        }
    }

    fn flush_by_itself(&self) {
        let mut state = self.state.lock();
        if state.flush(&self.dir).is_err() {
            state.failed += 1;
        }
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        let persisted = self.state.lock().persisted.clone();
        fs::claim_dir(dir)?;
        store(dir, 1, &persisted)?;
        Ok(())
    }

    fn file_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.state.lock().file_bytes)
    }

    fn memory_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.state.lock().unflushed)
    }

    fn background_errors(&self) -> Result<u64, EngineError> {
        Ok(self.state.lock().failed)
    }

    fn take_in(&self, files: &[PathBuf]) -> Result<(), EngineError> {
        match files {
            [] => Ok(()),
            [file, ..] => Err(EngineError(format!("{}: it has no files", file.display()))),
        }
    }

    fn reclaim_parts(&self) -> Result<Vec<Part>, EngineError> {
        Ok(vec![Part::default()])
    }

    /// What is deleted takes no room.
    fn reclaim_part(&self, _part: &Part) {}

    fn compact_by_itself(&self, _may: bool) -> Result<(), EngineError> {
        Ok(())
    }

    fn compression(&self) -> Result<f64, EngineError> {
        Ok(1.0)
    }
}

/// A batch: families, keys, and values where they are not deleted.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<(Family, Vec<u8>, Option<Bytes>)>);

impl Batch for Changes {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        self.0.push((family, key.to_vec(), Some(value)));
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        self.0.push((family, key.to_vec(), None));
    }

    fn bytes(&self) -> u64 {
        let bytes = |(_, key, value): &(_, Vec<u8>, Option<Bytes>)| {
            key.len() + value.as_ref().map_or(0, Bytes::len)
        };
        self.0.iter().map(bytes).sum::<usize>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::rocksdb::RocksDb;
    use super::*;
    use crate::fs::faults::{self, Operation};
    use crate::storage::EngineOptions;

    const EIO: i32 = 5;

    /// All rows, and whether one is there for good.
    type Shown = (Vec<(Vec<u8>, Vec<u8>)>, Vec<(Vec<u8>, Vec<u8>)>);

    fn shown(rows: &impl Read) -> Shown {
        let all = |family| {
            let mut all = Vec::new();
            let visit = |key: &[u8], value: &[u8]| {
                all.push((key.to_vec(), value.to_vec()));
                true
            };
            rows.scan(family, b"", Amount::All, visit).unwrap();
            all
        };
        (all(Family::Revisions), all(Family::Tables))
    }

    fn write(rows: &impl Rows, seed: u64) {
        let mut batch = rows.batch(0);
        for step in 0..=seed % 7 {
            let number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ step;
            let family = match number % 3 {
                0 => Family::Revisions,
                _ => Family::Tables,
            };
            let mut key = [0; 12];
            key[11] = (number >> 8) as u8 % 20;
            match number % 4 {
                0 => batch.delete(family, &key),
                _ => batch.put(family, &key, &number.to_be_bytes()),
            }
        }
        rows.write(batch).unwrap();
    }

    /// Whatever is written, flushed, lost and copied: both engines show the same.
    #[test]
    fn it_shows_what_rocksdb_shows() {
        let dir = tempfile::tempdir().unwrap();
        let [disk_dir, memory_dir] = ["disk", "memory"].map(|name| dir.path().join(name));
        let options = EngineOptions::default();
        let mut disk = RocksDb::open(&disk_dir, options).unwrap();
        let mut memory = Memory::open(&memory_dir).unwrap();
        for seed in 1..400 {
            write(&disk, seed);
            write(&memory, seed);
            assert_eq!(shown(&disk), shown(&memory), "{seed}");
            if seed % 29 == 0 {
                disk.flush().unwrap();
                memory.flush().unwrap();
            }
            for key in (0..20u8).map(|last| [[0; 11].as_slice(), &[last]].concat()) {
                let persisted = [disk.get_persisted(&key), memory.get_persisted(&key)];
                let [on_disk, in_memory] = persisted.map(Result::unwrap);
                assert_eq!(on_disk, in_memory, "{seed}");
            }
            if seed % 97 == 0 {
                let copies = ["d", "m"].map(|name| dir.path().join(format!("{name}-{seed}")));
                disk.checkpoint(&copies[0]).unwrap();
                memory.checkpoint(&copies[1]).unwrap();
                let on_disk = RocksDb::open_to_read(&copies[0], options).unwrap();
                let in_memory = Memory::open_to_read(&copies[1]).unwrap();
                assert_eq!(shown(&on_disk), shown(&in_memory), "{seed}");
            }
            if seed % 61 == 0 {
                // What was not flushed is lost in a crash, and a flush is all that a close may add.
                disk.flush().unwrap();
                memory.flush().unwrap();
                drop((disk, memory));
                disk = RocksDb::open(&disk_dir, options).unwrap();
                memory = Memory::open(&memory_dir).unwrap();
                assert_eq!(shown(&disk), shown(&memory), "{seed}");
            }
        }
    }

    #[test]
    fn what_was_not_flushed_is_lost_and_views_stay() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(dir.path()).unwrap();
        write(&memory, 5);
        memory.flush().unwrap();
        let (view, kept) = (memory.view(), shown(&memory));
        write(&memory, 6);
        assert_ne!(shown(&memory), kept);
        assert_eq!(shown(&view), kept);
        drop(memory);
        assert_eq!(shown(&Memory::open(dir.path()).unwrap()), kept);
    }

    /// A flush of its own that fails is counted, keeps what there was, and the next one can succeed.
    #[test]
    fn a_flush_that_fails_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(dir.path()).unwrap();
        write(&memory, 5);
        memory.flush().unwrap();
        let kept = shown(&memory);
        write(&memory, 6);
        let refused = faults::inject(dir.path(), Operation::Sync, EIO, 0);
        memory.flush_by_itself();
        assert_eq!(memory.background_errors().unwrap(), 1);
        assert_eq!(shown(&Memory::open_to_read(dir.path()).unwrap()), kept);
        drop(refused);
        let written = shown(&memory);
        memory.flush_by_itself();
        assert_eq!(memory.background_errors().unwrap(), 1);
        assert_eq!(shown(&Memory::open_to_read(dir.path()).unwrap()), written);
    }

    /// A flush that is interrupted leaves what there was; damage is refused.
    #[test]
    fn a_table_is_taken_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(dir.path()).unwrap();
        write(&memory, 5);
        memory.flush().unwrap();
        let kept = shown(&memory);
        std::fs::write(dir.path().join(table(2)), b"half of it").unwrap();
        let again = Memory::open(dir.path()).unwrap();
        assert_eq!(shown(&again), kept);
        assert!(!dir.path().join(table(2)).exists());
        let mut bytes = std::fs::read(dir.path().join(table(1))).unwrap();
        bytes[3] ^= 1;
        std::fs::write(dir.path().join(table(1)), bytes).unwrap();
        assert!(Memory::open(dir.path()).is_err());
    }
}
