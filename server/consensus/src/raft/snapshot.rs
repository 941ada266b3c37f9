//! Snapshots as openraft knows them.
//!
//! When openraft asks, and what it gets (read in its source, alpha.37):
//! - It *builds* one only because `Consensus::snapshot` asks, to cut the log: the store is flushed
//!   and described, no file is made. Nobody waits for that: what is applied meanwhile goes to memory.
//! - At its start it looks at the *current* one twice: described.
//! - Its transmitter takes the current one for each try to send it to a member that lags behind the
//!   purged log: that one is a checkpoint, shared by all who ask while one is being sent. Nothing is
//!   applied until it is answered: where a checkpoint takes long, because the store's disk stands still,
//!   the answer is a description, and the checkpoint is there for the next try.
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
use tokio::sync::oneshot;

use super::apply::{ApplyHandle, Task};
use super::{LogStore, StoredMembership, TypeConfig, entry};
use crate::mutants::is_planted;
use crate::snapshot::install::Prepared;
use crate::snapshot::transfer::Received;
use crate::storage::{Applied, Checkpoint, Checkpoints, Offer};
use crate::store::Store;
use crate::threads::{self, Pulse, steps};

/// How long after its snapshot a member may take to ask for the log that follows it.
const LOG_AWAITED: Duration = Duration::from_secs(5);

/// How long a checkpoint is waited for: links and a few small syncs. Once: whoever asks while one is being made
/// does not wait.
const MADE_IN: Duration = Duration::from_millis(500);
/// How long one that took longer is kept for who asks next: longer than between two tries to send one.
const LATE_KEPT: Duration = Duration::from_secs(10);

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
        let Some(checkpoint) = self.checkpoint().await else {
            return Ok(Some(described(self.store.engine().persisted())?));
        };
        Ok(Some(Snapshot {
            meta: describe(checkpoint.contents().applied.clone())?,
            snapshot: SnapshotData::Sending(checkpoint),
        }))
    }

    /// A checkpoint to be sent. Openraft applies nothing while it waits for it: one that takes long is left to
    /// whoever asks next.
    async fn checkpoint(&self) -> Option<Arc<Checkpoint>> {
        let wanted = match self.checkpoints.offer(self.log.purged_index()) {
            Offer::There(checkpoint) => return Some(checkpoint),
            Offer::BeingMade => return None,
            Offer::Wanted(wanted) => wanted,
        };
        let engine = self.store.engine();
        let making = threads::spawn_blocking(move || {
            Pulse::new("a checkpoint of the store").on_disk(|| wanted.make(&engine))
        });
        let (made, awaited) = oneshot::channel();
        tokio::spawn(async move {
            let ready = making.await.map_err(io::Error::other);
            match ready.and_then(|ready| ready.map_err(io::Error::other)) {
                Ok(checkpoint) => {
                    if let Err(late) = made.send(checkpoint) {
                        tokio::time::sleep(LATE_KEPT).await;
                        drop(late);
                    }
                }
                Err(error) => {
                    crate::log!(warn, "a member that lags cannot be sent a snapshot", error = %error);
                }
            }
        });
        match tokio::time::timeout(MADE_IN, awaited).await {
            Ok(made) => made.ok(),
            Err(_) => {
                crate::log!(
                    warn,
                    "a member that lags is sent a snapshot later: the disk of the store is slow"
                );
                None
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
    let (store, meta) = (store.clone(), meta.clone());
    let preparing = threads::spawn_blocking(move || {
        // Here, since one that is refused is removed.
        check(&received.contents().applied, &meta)?;
        Prepared::new(&store, received).map_err(io::Error::other)
    });
    let prepared = preparing.await.map_err(io::Error::other)?;
    Ok(Box::new(prepared?))
}

fn check(applied: &Applied, meta: &SnapshotMetaOf<TypeConfig>) -> io::Result<()> {
    let found = describe(applied.clone())?;
    if found == *meta {
        return Ok(());
    }
    let text = format!("the snapshot was said to be {meta} and is {found}");
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Makes a snapshot by flushing the store, beside what is applied meanwhile.
pub struct SnapshotBuilder {
    store: Arc<Store>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        if is_planted("snapshot-unflushed") {
            return described(self.store.engine().applied().map_err(io::Error::other)?);
        }
        let store = self.store.clone();
        let flushing = threads::spawn_blocking(move || flush(&store));
        flushing.await.map_err(io::Error::other)?;
        if is_planted("snapshot-ahead") {
            return described(self.store.engine().applied().map_err(io::Error::other)?);
        }
        described(self.store.engine().persisted())
    }
}

/// Makes what is applied by now durable. Without room that would fail, and a failed flush ends the process:
/// a member that stops meanwhile, and one on a stage, where nobody can wait, leave it.
fn flush(store: &Store) {
    let headroom = store.headroom();
    let has_room = match steps::is_on_stage() {
        true => headroom.may_apply(),
        false => headroom.wait_to_apply(),
    };
    if has_room {
        Pulse::new("a flush of the store").on_disk(|| store.engine().flush());
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
