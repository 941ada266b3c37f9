//! `snapshot`: etcd's own files, from and to etcd and Engram.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engram_backup::source::{self, SourceError};
use engram_server::node::offline;
use engram_server::snapshot::file::{DigestCheck, FileError, SnapshotFile, auth_tables};
use engram_server::snapshot::restore::{Restore, RestoreError, Totals};
use engram_server::types::Revision;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::restore::{Destination, value};
use crate::cli::{Global, HashKv, RestoreTarget, Snapshot};
use crate::connect::one;
use crate::failure::Failure;
use crate::output::{self, Answer};
use crate::progress::Bars;

/// Bytes of the digest behind a snapshot.
const DIGEST_BYTES: usize = 32;

/// `snapshot`.
pub async fn snapshot(global: &Global, command: Snapshot) -> Result<(), Failure> {
    match command {
        Snapshot::Save { filename } => save(global, &filename).await.map_err(Failure::interrupted),
        Snapshot::Status { filename } => status(global, filename).await,
        Snapshot::Restore {
            filename,
            target,
            skip_hash_check,
            initial_memory_map_size: _,
        } => {
            let check = match skip_hash_check {
                true => DigestCheck::Skipped,
                false => DigestCheck::Required,
            };
            restore(global, filename, &target, check).await
        }
    }
}

/// A file under a name of its own until it is whole and on the disk.
struct Part {
    file: File,
    path: PathBuf,
    digest: Sha256,
    /// What came last: the digest is known to be one only at the end.
    held: Vec<u8>,
}

impl Part {
    fn create(filename: &Path) -> std::io::Result<Part> {
        let mut path = filename.as_os_str().to_owned();
        path.push(".part");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        Ok(Part {
            file: options.open(&path)?,
            path: path.into(),
            digest: Sha256::new(),
            held: Vec::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.held.extend_from_slice(bytes);
        let settled = self.held.len().saturating_sub(DIGEST_BYTES);
        self.digest.update(&self.held[..settled]);
        self.held.drain(..settled);
        Ok(())
    }

    /// Gives it its name, if it is what the member sent.
    fn finish(self, filename: &Path) -> Result<(), Failure> {
        if self.digest.finalize()[..] != self.held[..] {
            let _ = fs::remove_file(&self.path);
            return Err(Failure::new(
                "the snapshot was damaged on its way: save it again",
            ));
        }
        self.file.sync_all()?;
        fs::rename(&self.path, filename)?;
        let directory = filename
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    }
}

async fn save(global: &Global, filename: &Path) -> Result<(), Failure> {
    // A snapshot is one member's state.
    let [endpoint] = &global.endpoints[..] else {
        return Err(Failure::new(format!(
            "snapshot must be requested to one selected node, not multiple {:?}",
            global.endpoints
        )));
    };
    let channel = one(global, endpoint).await?.channel;
    let mut part = Part::create(filename)?;
    let bars = Bars::new();
    let mut write = |bytes: &[u8]| {
        part.write(bytes).map_err(|source| SourceError::Spool {
            place: filename.display().to_string(),
            source,
        })
    };
    let version = source::stream(&channel, &bars, &mut write).await?;
    part.finish(filename)?;
    drop(bars);
    let shown = filename.display();
    output::text(&format!("Snapshot saved at {shown}\n"))?;
    if !version.is_empty() {
        output::text(&format!("Server version {version}\n"))?;
    }
    output::result(global, &json!({ "path": filename, "version": version }))
}

async fn status(global: &Global, filename: PathBuf) -> Result<(), Failure> {
    let read = tokio::task::spawn_blocking(move || {
        // As etcdutl: a file without a digest has a status too.
        SnapshotFile::open(&filename, DigestCheck::Skipped)?.status()
    });
    let status = read.await??;
    let row = vec![
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_keys.to_string(),
        output::humanize(status.total_bytes),
        status.version.clone(),
    ];
    let header = ["hash", "revision", "total keys", "total size", "version"];
    let value = StatusValue {
        hash: status.hash,
        revision: status.revision.0,
        total_key: status.total_keys,
        total_size: status.total_bytes,
        version: &status.version,
    };
    Answer::rows(&header, &[row])
        .value(|| &value)
        .fields(global, |fields| {
            fields.line("Hash", value.hash);
            fields.line("Revision", value.revision);
            fields.line("Keys", value.total_key);
            fields.line("Size", value.total_size);
            fields.line("Version", value.version);
        })
        .write(global)?;
    output::result(global, &value)
}

/// A snapshot's status in etcdutl's JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusValue<'a> {
    hash: u32,
    revision: i64,
    total_key: u64,
    total_size: u64,
    version: &'a str,
}

/// `hashkv`, of a file.
pub async fn hash_kv(global: &Global, hash: HashKv) -> Result<(), Failure> {
    let revision = Revision(hash.rev);
    let read = tokio::task::spawn_blocking(move || {
        // As etcdutl: of the database of an etcd too, which has no digest.
        SnapshotFile::open(&hash.filename, DigestCheck::Skipped)?.hash_kv(revision)
    });
    let hash = read.await??;
    let value = HashValue {
        hash: hash.hash,
        hash_revision: hash.hash_revision.0,
        compact_revision: hash.compact_revision.0,
    };
    let row = vec![
        value.hash.to_string(),
        value.hash_revision.to_string(),
        value.compact_revision.to_string(),
    ];
    let header = ["hash", "hash revision", "compact revision"];
    Answer::rows(&header, &[row])
        .value(|| &value)
        .fields(global, |fields| {
            fields.line("Hash", value.hash);
            fields.line("Hash revision", value.hash_revision);
            fields.line("Compact revision", value.compact_revision);
        })
        .write(global)
}

/// A hash in etcdutl's JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashValue {
    hash: u32,
    hash_revision: i64,
    compact_revision: i64,
}

async fn restore(
    global: &Global,
    filename: PathBuf,
    target: &RestoreTarget,
    check: DigestCheck,
) -> Result<(), Failure> {
    let destination = Destination::of(target)?;
    let shown = filename.display().to_string();
    let written = destination.clone();
    let restoring = tokio::task::spawn_blocking(move || write(&filename, &written, check));
    let restored = restoring.await??;
    eprintln!(
        "restored snapshot {shown} to {}",
        destination.data_dir.display()
    );
    output::result(global, &value(&restored, &destination, &shown))
}

fn write(
    filename: &Path,
    destination: &Destination,
    check: DigestCheck,
) -> Result<engram_server::snapshot::restore::Restored, Failure> {
    let member = offline::new_member(&destination.member)?;
    let file = SnapshotFile::open(filename, check)?;
    let tables = file.tables()?;
    let mut restore = Restore::begin(&destination.data_dir, member)?;
    let read = file.records(&mut |record| {
        let taken = restore.record(record);
        taken.map_err(|error: RestoreError| FileError::Taker(error.into()))
    })?;
    let leases = tables.leases.iter();
    let totals = Totals {
        revision: read.last.max(tables.compacted().unwrap_or_default()),
        compact_scheduled: tables.compact_scheduled,
        compact_finished: tables.compact_finished,
        leases: leases.map(|lease| (lease.id, lease.ttl_seconds)).collect(),
        auth: auth_tables(&tables.auth)?,
        ..Totals::default()
    };
    let origin = filename.display().to_string();
    Ok(restore.finish(&totals, destination.bump, &origin)?)
}
