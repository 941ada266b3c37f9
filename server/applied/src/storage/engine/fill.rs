//! A store that is filled once and closed: its records ascend, and nobody reads it meanwhile.
//!
//! Records go to sorted files right away, on a thread of their own, and the engine takes the files in whole at the end: its
//! memory, where they would be sorted once more and copied three times, sees none of them. On a simulator's stage, and
//! in the engine that has no files, they are batches like any other.
//!
//! Whoever fills a store is told what went wrong: it is nobody's yet, and of no use then.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Engine, EngineError, EngineOptions, OpenError, schema};
use crate::state::{Change, RevisionRecord};
use crate::storage::Applied;
use crate::storage::rocksdb::SortedFiles;
use crate::storage::rows::{Engines, Rows as _, ask};
use crate::threads::{self, steps};

/// Batches of records that wait for the thread that writes them.
const WAITING_MAX: usize = 2;

impl EngineOptions {
    /// Nothing but the tables passes through its memory.
    fn to_fill(dir: &Path, compresses: bool) -> EngineOptions {
        EngineOptions {
            write_buffer_bytes: 1 << 20,
            block_cache_bytes: 1 << 20,
            past_page_cache: crate::fs::takes_direct_io(dir),
            compresses,
        }
    }
}

/// See the module. Dropped unfinished, it leaves what is no store.
pub struct Filling {
    engine: Engine,
    /// None where records are batches.
    writer: Option<Writer>,
}

impl Filling {
    /// Begins a store at `path`, whose parent is there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn begin(path: &Path, compresses: bool) -> Result<Filling, OpenError> {
        let options = EngineOptions::to_fill(path.parent().unwrap_or(path), compresses);
        let engine = Engine::open(path, options)?;
        let has_files = matches!(&**engine.rows, Engines::Disk(_)) && !steps::is_on_stage();
        let writer = match has_files {
            true => Some(Writer::begin(path.with_extension("sorted"), options)?),
            false => None,
        };
        Ok(Filling { engine, writer })
    }

    /// Takes in the next records, ascending.
    ///
    /// # Errors
    /// These or earlier ones could not be written.
    pub fn records(&mut self, records: Vec<RevisionRecord>) -> Result<(), EngineError> {
        match &mut self.writer {
            Some(writer) => writer.take(records),
            None => {
                let changes: Vec<_> = records.into_iter().map(Change::PutRevision).collect();
                self.engine.try_commit(&changes, None).map(drop)
            }
        }
    }

    /// Writes the tables, and how far the log is applied by all of it, durably, and closes the store.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn finish(mut self, tables: &[Change], applied: &Applied) -> Result<(), EngineError> {
        if let Some(writer) = self.writer.take() {
            let files = writer.finish()?;
            ask!(&**self.engine.rows, rows => rows.take_in(&files))?;
        }
        let applied = schema::encode_applied(applied);
        self.engine.try_commit(tables, Some(&applied))?;
        self.engine.try_flush()
    }
}

/// The thread that writes records to sorted files.
struct Writer {
    /// Present until it ends.
    records: Option<SyncSender<Vec<RevisionRecord>>>,
    thread: Option<JoinHandle<Result<Vec<PathBuf>, EngineError>>>,
}

impl Writer {
    fn begin(dir: PathBuf, options: EngineOptions) -> Result<Writer, EngineError> {
        let refused = |error| EngineError(format!("{}: {error}", dir.display()));
        crate::fs::claim_dir(&dir).map_err(refused)?;
        let (records, queue) = sync_channel(WAITING_MAX);
        let write = move || write(&dir, options, &queue);
        let thread = threads::spawn("engram-fill", write)
            .map_err(|error| EngineError(format!("the system has no thread to write: {error}")))?;
        Ok(Writer {
            records: Some(records),
            thread: Some(thread),
        })
    }

    fn take(&mut self, records: Vec<RevisionRecord>) -> Result<(), EngineError> {
        let taken = self.records.as_ref().map(|queue| queue.send(records));
        match taken {
            Some(Ok(())) => Ok(()),
            // It has ended, and says why.
            _ => match self.end() {
                Err(error) => Err(error),
                Ok(_) => Err(EngineError("records came after the last".to_owned())),
            },
        }
    }

    fn finish(mut self) -> Result<Vec<PathBuf>, EngineError> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<PathBuf>, EngineError> {
        self.records = None;
        match self.thread.take() {
            // A panic has ended the process.
            Some(thread) => thread.join().expect("the writer has not panicked"),
            None => Err(EngineError("an earlier record was refused".to_owned())),
        }
    }
}

impl Drop for Writer {
    /// By then nobody works in the directory any more.
    fn drop(&mut self) {
        if self.thread.is_some() {
            drop(self.end());
        }
    }
}

/// Writes what comes until nothing more does; the files, ascending.
fn write(
    dir: &Path,
    options: EngineOptions,
    queue: &Receiver<Vec<RevisionRecord>>,
) -> Result<Vec<PathBuf>, EngineError> {
    let sorting = SortedFiles::options(options);
    let mut files = SortedFiles::new(dir, &sorting);
    loop {
        threads::idle();
        let came = queue.recv();
        threads::turn();
        let Ok(records) = came else {
            break;
        };
        threads::on_disk(|| {
            records.iter().try_for_each(|record| {
                let key = schema::revision_key(record.pair);
                files.put(&key, schema::revision_flag(record), &record.encoded)
            })
        })?;
    }
    threads::on_disk(|| files.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Revision, RevisionPair};

    fn record(revision: i64, bytes: usize) -> RevisionRecord {
        RevisionRecord {
            pair: RevisionPair::new(revision, 0),
            tombstone: revision % 3 == 0,
            encoded: vec![u8::try_from(revision % 251).unwrap(); bytes].into(),
        }
    }

    fn read(engine: &Engine) -> Vec<(RevisionPair, bool, Vec<u8>)> {
        let mut found = Vec::new();
        let mut take = |record: crate::state::RecordRef<'_>| {
            found.push((record.pair, record.tombstone, record.encoded.to_vec()));
            Ok(())
        };
        engine.records(&mut take).unwrap();
        found
    }

    /// Over several files, with a record larger than any; and what a member then does with such a store: writes on,
    /// deletes, reclaims.
    #[test]
    fn what_is_filled_is_a_store_like_any_other() {
        for compresses in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            let mut filling = Filling::begin(&path, compresses).unwrap();
            let sizes = (1..200).map(|revision| match revision {
                100 => SortedFiles::FILE_BYTES + 1,
                _ => SortedFiles::FILE_BYTES / 50,
            });
            let records: Vec<_> = (1..)
                .zip(sizes)
                .map(|(at, size)| record(at, size))
                .collect();
            for batch in records.chunks(7) {
                filling.records(batch.to_vec()).unwrap();
            }
            let applied = Applied::default();
            let tables = [Change::SetRevision(Revision(199))];
            filling.finish(&tables, &applied).unwrap();
            let expected: Vec<_> = records
                .iter()
                .map(|it| (it.pair, it.tombstone, it.encoded.to_vec()))
                .collect();
            let engine = Engine::open(&path, EngineOptions::default()).unwrap();
            assert!(read(&engine) == expected);
            assert_eq!(engine.revision().unwrap(), Some(Revision(199)));
            let names = crate::fs::file_names(&path).unwrap();
            let files = names.iter().filter(|name| name.ends_with(".sst")).count();
            assert!(files > 2 || compresses, "there are several: {files}");
            let changes = [
                Change::DeleteRevision(records[0].pair),
                Change::PutRevision(record(200, 10)),
            ];
            engine.write(&changes, &applied);
            engine.flush();
            engine.reclaim();
            let found = read(&engine);
            assert_eq!(found.len(), 199);
            assert!(found[..198] == expected[1..]);
        }
    }

    #[test]
    fn a_store_without_records_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let filling = Filling::begin(&path, true).unwrap();
        filling.finish(&[], &Applied::default()).unwrap();
        assert!(Engine::inspect(&path).is_ok());
    }

    #[test]
    fn what_cannot_be_written_is_told_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut filling = Filling::begin(&path, true).unwrap();
        std::fs::remove_dir_all(path.with_extension("sorted")).unwrap();
        let mut refused = || {
            let filled = (1..1_000).try_for_each(|at| filling.records(vec![record(at, 10)]));
            filled.unwrap_err().to_string()
        };
        let said = refused();
        assert!(said.contains("No such file"), "{said}");
        let said = refused();
        assert!(said.contains("earlier record"), "{said}");
    }

    #[test]
    fn what_does_not_ascend_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut filling = Filling::begin(&dir.path().join("store"), true).unwrap();
        filling.records(vec![record(2, 10), record(1, 10)]).unwrap();
        let refused = filling.finish(&[], &Applied::default());
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("ascending"), "{said}");
    }
}
