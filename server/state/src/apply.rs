//! Dispatch of one operation of the log.
//!
//! Owns which room an operation goes to and the revision its answer carries. Every check comes
//! before the first change, so that an error leaves nothing behind.

use std::sync::Arc;

use crate::types::auth::{AuthOp, Identity};
use crate::types::result::{Applied, ApplyError, Outcome};
use crate::types::{KeyRange, LeaseId, Revision, request};

use super::hold::look;
use super::mvcc::Writer;
use super::{Change, Effects, Hold, MemberNode, Meter, State, Values, auth, txn};

/// Applies one operation and appends what it leaves behind to `effects`. On an error nothing has
/// changed. `values` reads what earlier batches stored; what the current batch wrote is found in the
/// state itself until [`State::take_unwritten`]. Readers see it after [`State::show`].
///
/// # Panics
/// The index names a revision that storage does not hold: the data directory is damaged.
pub fn apply(
    hold: &mut dyn Hold,
    op: &request::Op,
    values: &dyn Values,
    effects: &mut Effects,
) -> Outcome {
    let mut meter = Meter::OPERATION;
    let (by, op) = (op.by(), op.bare());
    let result = admit(hold.state(), by, op);
    let result = result.and_then(|()| apply_admitted(hold, op, values, effects, &mut meter));
    Outcome {
        revision: hold.state().mvcc.newest().revision,
        result,
        later: meter.later,
        kept: None,
    }
}

/// Whether alarms let an operation through, and users and roles as they are now. In etcd's order.
fn admit(state: &State, by: Option<&Identity>, op: &request::Op) -> Result<(), ApplyError> {
    auth::authorise(&state.auth, &state.leases, by, op)?;
    state.alarms.admit(op, &state.members)
}

fn apply_admitted(
    hold: &mut dyn Hold,
    op: &request::Op,
    values: &dyn Values,
    effects: &mut Effects,
    meter: &mut Meter,
) -> Result<Applied, ApplyError> {
    use request::Op;
    match op {
        Op::Put(put) => {
            txn::check_put(hold.state(), put)?;
            let mut writer = Writer::new(hold, values, effects);
            let answer = txn::put(&mut writer, put);
            writer.finish();
            Ok(Applied::Put(answer))
        }
        Op::DeleteRange(delete) => {
            let mut writer = Writer::new(hold, values, effects);
            let answer = txn::delete_range(&mut writer, delete, meter);
            writer.finish();
            Ok(Applied::DeleteRange(answer))
        }
        Op::Txn(txn) => txn::write(hold, txn, values, effects, meter).map(Applied::Txn),
        Op::LeaseRevoke(id) => revoke(hold, *id, values, effects),
        op => hold.state().apply_small(op, effects),
    }
}

/// Deletes the lease and its keys, in key order and in one revision.
fn revoke(
    hold: &mut dyn Hold,
    id: LeaseId,
    values: &dyn Values,
    effects: &mut Effects,
) -> Result<Applied, ApplyError> {
    let keys = look(hold, true, |state| state.leases.keys(id))?;
    let mut writer = Writer::new(hold, values, effects);
    for key in keys {
        writer.delete_range(&KeyRange::single(key));
    }
    writer.finish();
    hold.state().leases.remove(id);
    effects.changes.push(Change::DeleteLease(id));
    Ok(Applied::Done)
}

impl State {
    /// Applies an operation where nobody else is there, and shows it. See [`apply()`].
    #[cfg(any(test, feature = "fixtures"))]
    pub fn apply(
        &mut self,
        op: &request::Op,
        values: &dyn Values,
        effects: &mut Effects,
    ) -> Outcome {
        let outcome = apply(self, op, values, effects);
        self.show();
        outcome
    }

    /// Applies an operation that touches no keys.
    fn apply_small(
        &mut self,
        op: &request::Op,
        effects: &mut Effects,
    ) -> Result<Applied, ApplyError> {
        use request::Op;
        match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::LeaseRevoke(_) => {
                unreachable!("it touches keys")
            }
            Op::By(_) => unreachable!("who asks was taken off"),
            Op::Auth(op) => {
                auth::apply(Arc::make_mut(&mut self.auth), op, effects)?;
                Ok(match op {
                    AuthOp::Authenticate { token_prefix, .. } => {
                        Applied::Token(token_prefix.clone())
                    }
                    _ => Applied::Done,
                })
            }
            Op::Compact(compact) => {
                self.mvcc.compact(Revision(compact.revision), effects)?;
                Ok(Applied::Done)
            }
            Op::LeaseGrant(grant) => {
                self.leases.grant(grant.id, grant.ttl_seconds)?;
                effects
                    .changes
                    .push(Change::PutLease(grant.id, grant.ttl_seconds));
                Ok(Applied::LeaseGrant {
                    id: grant.id,
                    ttl_seconds: grant.ttl_seconds,
                })
            }
            Op::Alarm(change) => {
                let changed = self.alarms.change(*change, &self.members, effects)?;
                Ok(Applied::Alarm(changed))
            }
            Op::PublishMember {
                member,
                incarnation,
                attributes,
            } => {
                self.members
                    .publish(*member, *incarnation, attributes, effects);
                Ok(Applied::Done)
            }
            Op::SetClusterVersion(version) => {
                self.cluster_version = Some(version.clone());
                effects
                    .changes
                    .push(Change::SetClusterVersion(version.clone()));
                Ok(Applied::Done)
            }
        }
    }

    /// Takes over the members that a Raft configuration names, in the entry that names them: the
    /// table never differs from who votes. The alarms of who is named no more go.
    pub fn reconfigure(&mut self, nodes: &[MemberNode], effects: &mut Effects) {
        self.members.reconfigure(nodes, effects);
        self.alarms.keep_members(&self.members, effects);
    }
}
