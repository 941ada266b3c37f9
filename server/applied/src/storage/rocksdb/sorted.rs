//! Sorted files of records, written beside the engine and taken in by it whole.

use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyRef, DB, IngestExternalFileOptions, Options, SstFileWriter};

use super::super::engine::EngineOptions;
use super::super::rows::EngineError;

/// Writes files, each of whose keys are behind those of the one before.
pub(in super::super) struct SortedFiles<'o> {
    dir: &'o Path,
    options: &'o Options,
    /// The one that is being written.
    open: Option<SstFileWriter<'o>>,
    files: Vec<PathBuf>,
    /// A row's value, for as long as it takes to write it.
    value: Vec<u8>,
}

impl<'o> SortedFiles<'o> {
    /// A file of so many bytes is closed.
    pub(in super::super) const FILE_BYTES: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

    /// As the family of records is written.
    pub(in super::super) fn options(asked: EngineOptions) -> Options {
        super::family_options(&super::cache(asked), asked.write_buffer_bytes, asked)
    }

    /// None yet, in a directory of their own.
    pub(in super::super) fn new(dir: &'o Path, options: &'o Options) -> SortedFiles<'o> {
        SortedFiles {
            dir,
            options,
            open: None,
            files: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Writes a row, whose value is a byte and others.
    ///
    /// # Errors
    /// The file system refuses, or its key is not behind the one before.
    pub(in super::super) fn put(
        &mut self,
        key: &[u8],
        first: u8,
        rest: &[u8],
    ) -> Result<(), EngineError> {
        self.value.clear();
        self.value.push(first);
        self.value.extend_from_slice(rest);
        let mut file = match self.open.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        file.put(key, &self.value)?;
        match usize::try_from(file.file_size()).unwrap_or(usize::MAX) < Self::FILE_BYTES {
            true => self.open = Some(file),
            false => file.finish()?,
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<SstFileWriter<'o>, EngineError> {
        let path = self.dir.join(format!("{:06}.sst", self.files.len()));
        let file = SstFileWriter::create(self.options);
        file.open(&path)?;
        self.files.push(path);
        Ok(file)
    }

    /// Closes the last file; all of them.
    ///
    /// # Errors
    /// The file system refuses.
    pub(in super::super) fn finish(mut self) -> Result<Vec<PathBuf>, EngineError> {
        if let Some(mut file) = self.open.take() {
            file.finish()?;
        }
        Ok(self.files)
    }
}

/// Has a family take files in, which are its own from then on.
///
/// # Errors
/// One is none, or the file system refuses.
pub(super) fn take_in(
    db: &DB,
    family: &ColumnFamilyRef<'_>,
    files: &[PathBuf],
) -> Result<(), EngineError> {
    if files.is_empty() {
        return Ok(());
    }
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    Ok(db.ingest_external_file_cf_opts(family, &options, files.to_vec())?)
}
