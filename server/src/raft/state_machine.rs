//! openraft's state machine, as thin as it can be: committed entries go to the apply thread, and
//! the answer comes back when they are applied.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};

use super::apply::{ApplyHandle, Task};
use super::{Entry, LogId, StoredMembership, TypeConfig, entry};
use crate::snapshot::transfer::{Checkpoint, Received};
use crate::store::Store;

/// The most entries handed to the apply thread at once.
const ENTRIES_MAX: usize = 256;

/// A snapshot is the store itself: making one flushes it. What a follower receives is a checkpoint
/// made when it needs one, not a file kept ready.
#[derive(Debug)]
pub enum SnapshotData {
    /// To be sent to a follower.
    Sending(Arc<Checkpoint>),
    /// Received from the leader, to be installed.
    Received(Received),
}

/// See the module.
pub struct StateMachine {
    store: Arc<Store>,
    apply: ApplyHandle,
}

impl StateMachine {
    /// An adapter over the apply thread.
    pub fn new(store: Arc<Store>, apply: ApplyHandle) -> StateMachine {
        StateMachine { store, apply }
    }
}

fn stored(store: &Store) -> io::Result<(Option<LogId>, StoredMembership)> {
    let applied = store.engine().applied().map_err(io::Error::other)?;
    describe(applied)
}

fn describe(applied: crate::storage::Applied) -> io::Result<(Option<LogId>, StoredMembership)> {
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
    Ok((applied.log_position.map(to_log_id), membership))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        stored(&self.store)
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = pin!(entries.ready_chunks(ENTRIES_MAX));
        while let Some(chunk) = chunks.next().await {
            let mut entries: Vec<Entry> = Vec::with_capacity(chunk.len());
            let mut responders: Vec<Option<ApplyResponder<TypeConfig>>> = Vec::new();
            for item in chunk {
                let (entry, responder) = item?;
                entries.push(entry);
                responders.push(responder);
            }
            self.apply.run(|done| Task::Apply { entries, done }).await?;
            for responder in responders.into_iter().flatten() {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: self.store.clone(),
            apply: self.apply.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        _snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        Err(io::Error::other(format!(
            "a cluster of one has nobody to send it {meta}"
        )))
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        let persisted = self.store.engine().persisted();
        if persisted.log_position.is_none() {
            return Ok(None);
        }
        let (last_log_id, last_membership) = describe(persisted)?;
        let meta = SnapshotMeta {
            last_log_id,
            last_membership,
        };
        Ok(Some(Snapshot {
            meta,
            snapshot: SnapshotData::Sending(Arc::default()),
        }))
    }
}

/// Makes a snapshot by flushing the store.
pub struct SnapshotBuilder {
    store: Arc<Store>,
    apply: ApplyHandle,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        self.apply.run(|done| Task::Flush { done }).await?;
        let (last_log_id, last_membership) = describe(self.store.engine().persisted())?;
        let meta = SnapshotMeta {
            last_log_id,
            last_membership,
        };
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Sending(Arc::default()),
        })
    }
}
