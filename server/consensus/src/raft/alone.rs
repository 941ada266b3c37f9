//! Whether this member is the whole cluster: one voter, and no learner.
//!
//! Then nobody else commits anything or is told of a commit, and openraft may hear at once that requests are in the
//! log: it has them applied as soon as they are durable ([`super::durable`]), for which the log's writer need wake nobody. Beside
//! another member a commit is told before this disk has it only if that member's quorum has it: a crash here would
//! take back what a learner has applied. So this ends before the entry that adds somebody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openraft::{RaftState, ServerState};

use super::{Consensus, ReconfigureError, TypeConfig};

/// See the module. Changed on openraft's thread alone, on which entries are appended: none is on its way
/// meanwhile. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Alone(Arc<Known>);

#[derive(Default)]
struct Known {
    is_alone: AtomicBool,
    /// It was so since the log was last synced for a change: what was told early may not be durable.
    owes_sync: AtomicBool,
    /// Changes of the membership under way.
    changes: AtomicUsize,
}

/// A change of the membership under way: until this is dropped nobody is alone.
pub(super) struct Changing(Alone);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.0.changes.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Alone {
    /// Whether openraft may hear of requests before they are durable.
    pub fn is_so(&self) -> bool {
        self.0.is_alone.load(Ordering::Acquire)
    }

    fn set(&self, is_alone: bool) {
        if is_alone {
            self.0.owes_sync.store(true, Ordering::Release);
        }
        self.0.is_alone.store(is_alone, Ordering::Release);
    }

    fn changing(&self) -> Changing {
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        Changing(self.clone())
    }

    fn is_changing(&self) -> bool {
        self.0.changes.load(Ordering::Acquire) > 0
    }
}

/// Whether a member leads, and its configuration in force, which is committed, has nobody else.
fn is_alone(state: &RaftState<TypeConfig>, member: u64) -> bool {
    let memberships = &state.membership_state;
    let membership = memberships.effective().membership();
    state.server_state == ServerState::Leader
        && memberships.effective().log_id() == memberships.committed().log_id()
        && membership.nodes().all(|(id, _)| *id == member)
        && membership.voter_ids().eq([member])
}

impl Consensus {
    /// Looks whether this member has become alone: to be asked whenever who leads or votes may have changed.
    pub async fn look_whether_alone(&self) {
        let (alone, member) = (self.log.alone().clone(), self.member.0);
        if alone.is_so() || alone.is_changing() {
            return;
        }
        // A change that has been handed to openraft is before this in its queue.
        let look = move |state: &RaftState<TypeConfig>| {
            alone.set(!alone.is_changing() && is_alone(state, member));
        };
        // A consensus that has stopped appends nothing.
        let _ = self.raft.with_raft_state(look).await;
    }

    /// Has what was told early be durable, and nothing more be told so: somebody may come.
    pub(super) async fn cease_to_be_alone(&self) -> Result<Changing, ReconfigureError> {
        let alone = self.log.alone().clone();
        let changing = alone.changing();
        // Not whether it is alone: an earlier change may have ended that, and its caller given up before the sync.
        if !alone.0.owes_sync.load(Ordering::Acquire) {
            return Ok(changing);
        }
        let ceasing = alone.clone();
        let cease = (self.raft).with_raft_state(move |_| ceasing.set(false));
        let cease = cease.await;
        cease.map_err(|_| ReconfigureError::Stopped)?;
        let synced = self.log.sync().await;
        synced.map_err(|_| ReconfigureError::Stopped)?;
        // Nobody is alone again before `changing` is dropped.
        alone.0.owes_sync.store(false, Ordering::Release);
        Ok(changing)
    }
}
