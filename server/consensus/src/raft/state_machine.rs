//! openraft's state machine, as thin as it can be: committed entries go to the apply thread as soon
//! as they are durable here, and the answer comes back when they are applied.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use tokio::sync::oneshot;

use super::apply::{ApplyHandle, Task, stopped};
use super::durable::Reached;
use super::snapshot::{Sending, Serving, SnapshotBuilder, SnapshotData, Snapshots, describe};
use super::{Entry, LogId, LogStore, StoredMembership, TypeConfig};
use crate::mutants::is_planted;
use crate::store::Store;

/// The most entries handed to the apply thread at once.
const ENTRIES_MAX: usize = 256;

/// See the module.
pub struct StateMachine {
    store: Arc<Store>,
    log: LogStore,
    apply: ApplyHandle,
    snapshots: Snapshots,
}

impl StateMachine {
    /// An adapter over the apply thread. `log` is the one that openraft appends to.
    pub fn new(store: Arc<Store>, apply: ApplyHandle, log: LogStore) -> StateMachine {
        let snapshots = Snapshots::new(store.clone(), apply.clone(), log.clone());
        StateMachine {
            store,
            log,
            apply,
            snapshots,
        }
    }

    /// What is being sent.
    pub(super) fn sending(&self) -> Sending {
        self.snapshots.sending()
    }

    /// Applies entries in order, each as soon as it is durable here. openraft asks for it as soon as
    /// they are committed; others may have committed them while this member's disk still writes. Where
    /// they wait for that, the log's writer hands them on, or applies them in passing: the Raft thread need
    /// not be woken for it.
    async fn apply_durable(&self, mut entries: Vec<Entry>) -> io::Result<()> {
        while let Some((first, last)) = entries.first().zip(entries.last()) {
            let (first, last) = (first.log_id.index(), last.log_id.index());
            let (apply, (done, finished)) = (self.apply.clone(), oneshot::channel());
            let later = self.log.later().clone();
            let (left, rest) = oneshot::channel();
            let waiting = self
                .log
                .when_durable(first..=last, move |durable, reached| {
                    let ready = usize::try_from(durable - first + 1).unwrap_or(usize::MAX);
                    // Whoever waits for either is gone only when openraft is shutting down.
                    let _ = left.send(entries.split_off(ready.min(entries.len())));
                    let _ = match reached {
                        Reached::Before => apply.send(Task::Apply { entries, done }),
                        Reached::ByFlush => apply.apply_in_passing(entries, done, &later),
                    };
                });
            finished.await.map_err(|_| stopped())?;
            drop(waiting);
            entries = rest.await.map_err(|_| stopped())?;
        }
        Ok(())
    }

    /// To be told once openraft has started.
    pub fn serving(&self) -> Serving {
        self.snapshots.serving()
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.store.engine().applied().map_err(io::Error::other)?;
        let meta = describe(applied)?;
        self.log.note_applied(meta.last_log_id);
        if is_planted("members-forgotten") {
            return Ok((meta.last_log_id, StoredMembership::default()));
        }
        Ok((meta.last_log_id, meta.last_membership))
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
            self.apply_durable(entries).await?;
            for responder in responders.into_iter().flatten() {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.snapshots.builder())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.snapshots.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        self.snapshots.install(meta, snapshot).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        self.snapshots.current().await
    }
}
