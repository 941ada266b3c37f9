//! Snapshots as openraft knows them.
//!
//! When openraft asks, and what it gets (read in its source, alpha.37):
//! - It *builds* one only because `Consensus::snapshot` asks, to cut the log: the store is flushed
//!   and described, no file is made.
//! - At its start it looks at the *current* one twice: described.
//! - Its transmitter takes the current one for each try to send it to a member that lags behind the
//!   purged log: that one is a checkpoint, shared by all who ask while one is being sent.
//!
//! A checkpoint costs the store no flush, so it may end before entries that the log has purged by
//! the time a follower has installed it. Therefore the log is not purged while one is being sent,
//! unless it grows beyond bounds (`Consensus::purge`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::storage::{RaftSnapshotBuilder, Snapshot, SnapshotMeta};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use parking_lot::Mutex;

use super::apply::{ApplyHandle, Task};
use super::{LogStore, StoredMembership, TypeConfig, entry};
use crate::mutants::is_planted;
use crate::snapshot::install::Prepared;
use crate::snapshot::transfer::Received;
use crate::storage::{Applied, Checkpoint, Checkpoints};
use crate::store::Store;

/// How long after its snapshot a member may take to ask for the log that follows it.
const LOG_AWAITED: Duration = Duration::from_secs(5);

/// What openraft moves around as a snapshot.
#[derive(Debug)]
pub enum SnapshotData {
    /// The store itself, described: nothing that could be sent. A transport that is handed one tells
    /// openraft that the member is unreachable, and is asked again later.
    Described,
    /// To be sent.
    Sending(Arc<Checkpoint>),
    /// To be installed.
    Received(Received),
    /// The same, opened already: openraft answers neither heartbeats nor votes while it installs, so
    /// what takes long is done before it is told.
    Prepared(Box<Prepared>),
}

/// Whether openraft has started: told by `Consensus`, asked by the state machine.
#[derive(Clone, Debug, Default)]
pub struct Serving(Arc<AtomicBool>);

impl Serving {
    /// It has: whoever asks for a snapshot now wants to send it.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What is being sent to members that lag.
#[derive(Clone)]
pub struct Sending {
    checkpoints: Arc<Checkpoints>,
    /// When a transfer was last seen that had been seen before.
    seen: Arc<Mutex<Option<Instant>>>,
    was_sending: Arc<AtomicBool>,
}

impl Sending {
    fn new(checkpoints: Arc<Checkpoints>) -> Sending {
        Sending {
            checkpoints,
            seen: Arc::default(),
            was_sending: Arc::default(),
        }
    }

    /// Whether a member is being sent a snapshot, or was a moment ago and is about to ask for the log
    /// after it. A transfer that was refused at once counts for nothing. Asked about every second.
    pub fn is_lately(&self) -> bool {
        let is_sending = self.checkpoints.is_sending();
        let mut seen = self.seen.lock();
        if self.was_sending.swap(is_sending, Ordering::Relaxed) {
            *seen = Some(Instant::now());
        }
        is_sending || seen.is_some_and(|at| at.elapsed() < LOG_AWAITED)
    }
}

/// What the state machine does about snapshots.
pub struct Snapshots {
    store: Arc<Store>,
    apply: ApplyHandle,
    log: LogStore,
    checkpoints: Arc<Checkpoints>,
    serving: Serving,
}

impl Snapshots {
    /// Nothing is being sent yet.
    pub fn new(store: Arc<Store>, apply: ApplyHandle, log: LogStore) -> Snapshots {
        Snapshots {
            store,
            apply,
            log,
            checkpoints: Arc::default(),
            serving: Serving::default(),
        }
    }

    /// The mark that turns descriptions into checkpoints.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }

    /// What is being sent.
    pub fn sending(&self) -> Sending {
        Sending::new(self.checkpoints.clone())
    }

    /// A builder, which flushes the store.
    pub fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: self.store.clone(),
            apply: self.apply.clone(),
        }
    }

    /// The current snapshot: see the module.
    ///
    /// # Errors
    /// The store holds a membership that cannot be decoded. That a checkpoint cannot be made is no
    /// error, which would end consensus: the member that lags is told later.
    pub async fn current(&self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        if !self.serving.0.load(Ordering::Acquire) {
            let persisted = self.store.engine().persisted();
            return match persisted.log_position {
                None => Ok(None),
                Some(_) => Ok(Some(described(persisted)?)),
            };
        }
        let (engine, checkpoints) = (self.store.engine(), self.checkpoints.clone());
        let purged = self.log.purged_index();
        let making = crate::threads::spawn_blocking(move || checkpoints.get(&engine, purged));
        match making.await.map_err(io::Error::other)? {
            Ok(checkpoint) => Ok(Some(Snapshot {
                meta: describe(checkpoint.contents().applied.clone())?,
                snapshot: SnapshotData::Sending(checkpoint),
            })),
            Err(error) => {
                crate::log!(warn, "a member that lags cannot be sent a snapshot", error = %error);
                Ok(Some(described(self.store.engine().persisted())?))
            }
        }
    }

    /// Installs a snapshot. Returns once it is in force.
    ///
    /// # Errors
    /// It is not what `meta` says, or damaged: openraft stops then, and the store is as it was.
    pub async fn install(
        &self,
        meta: &SnapshotMetaOf<TypeConfig>,
        data: SnapshotData,
    ) -> io::Result<()> {
        let prepared = match data {
            SnapshotData::Received(received) => prepare(&self.store, meta, received).await?,
            SnapshotData::Prepared(prepared) => prepared,
            SnapshotData::Described | SnapshotData::Sending(_) => {
                return Err(io::Error::other("only what was received can be installed"));
            }
        };
        check(prepared.applied(), meta)?;
        // A conflicting end of the log that openraft has truncated must be gone before the store is
        // ahead of it: a start would find entries of an older term beyond what was applied.
        if !is_planted("install-unsynced") {
            self.log.sync().await?;
        }
        self.apply
            .run(|done| Task::Install { prepared, done })
            .await
    }
}

/// Opens what was received, beside the store in force, and builds its index: as long as a start takes.
///
/// # Errors
/// It is not what `meta` says, or damaged. What was received is gone then, the store as it was.
pub async fn prepare(
    store: &Arc<Store>,
    meta: &SnapshotMetaOf<TypeConfig>,
    received: Received,
) -> io::Result<Box<Prepared>> {
    check(&received.contents().applied, meta)?;
    let store = store.clone();
    let preparing = crate::threads::spawn_blocking(move || Prepared::new(&store, received));
    let prepared = preparing.await.map_err(io::Error::other)?;
    Ok(Box::new(prepared.map_err(io::Error::other)?))
}

fn check(applied: &Applied, meta: &SnapshotMetaOf<TypeConfig>) -> io::Result<()> {
    let found = describe(applied.clone())?;
    if found == *meta {
        return Ok(());
    }
    let text = format!("the snapshot was said to be {meta} and is {found}");
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Makes a snapshot by flushing the store.
pub struct SnapshotBuilder {
    store: Arc<Store>,
    apply: ApplyHandle,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        if is_planted("snapshot-unflushed") {
            return described(self.store.engine().applied().map_err(io::Error::other)?);
        }
        self.apply.run(|done| Task::Flush { done }).await?;
        described(self.store.engine().persisted())
    }
}

fn described(applied: Applied) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
    Ok(Snapshot {
        meta: describe(applied)?,
        snapshot: SnapshotData::Described,
    })
}

/// What the store says of itself, in openraft's words.
pub fn describe(applied: Applied) -> io::Result<SnapshotMetaOf<TypeConfig>> {
    let to_log_id =
        |position: crate::storage::LogPosition| entry::log_id(position.term, position.index);
    let membership = match applied.membership_position {
        None => StoredMembership::default(),
        Some(position) => {
            let membership =
                entry::decode_membership(applied.membership).map_err(io::Error::other)?;
            StoredMembership::new(Some(to_log_id(position)), membership)
        }
    };
    Ok(SnapshotMeta {
        last_log_id: applied.log_position.map(to_log_id),
        last_membership: membership,
    })
}
