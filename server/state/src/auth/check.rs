//! The one authoriser: what an operation needs, down to the last transaction within another, held
//! against what its asker may do. What is not said to be allowed is refused.

use crate::Leases;
use crate::types::auth::{AuthError, Identity};
use crate::types::request::{DeleteRange, Op, Put, Txn, TxnOp};
use crate::types::{KeyRange, LeaseId, within};

use super::Auth;
use super::merged::Merged;

/// Whether `by` may have `op` done.
///
/// # Errors
/// It may not.
pub fn authorise(
    auth: &Auth,
    leases: &Leases,
    by: Option<&Identity>,
    op: &Op,
) -> Result<(), AuthError> {
    if !auth.is_enabled() {
        return Ok(());
    }
    let nobody = Identity::default();
    match (op, by) {
        (Op::By(_), _) => unreachable!("who asks was taken off before"),
        // What a member tells of itself carries nobody, nor do its alarms: clients' carry who asks.
        // What it does as the leader carries root ([`Identity::member`]).
        (Op::Alarm(_), None) | (Op::PublishMember { .. } | Op::SetClusterVersion(_), _) => Ok(()),
        (op, by) => authorise_asked(auth, leases, by.unwrap_or(&nobody), op),
    }
}

fn authorise_asked(auth: &Auth, leases: &Leases, by: &Identity, op: &Op) -> Result<(), AuthError> {
    match op {
        Op::Put(put) => check_put(auth, leases, by, put),
        Op::DeleteRange(delete) => check_delete(auth, by, delete),
        Op::Txn(txn) => check_txn(auth, leases, by, txn),
        Op::LeaseRevoke(id) => check_lease_write(auth, leases, by, *id),
        // Anybody who has authenticated. (A grant made just before authentication came is let
        // through, as in etcd.)
        Op::LeaseGrant(_) => Ok(()),
        Op::Auth(crate::types::auth::AuthOp::Authenticate { .. }) => Ok(()),
        Op::Compact(_) | Op::Alarm(_) | Op::Auth(_) => auth.check_admin(by),
        Op::PublishMember { .. } | Op::SetClusterVersion(_) | Op::By(_) => {
            Err(AuthError::PermissionDenied)
        }
    }
}

/// Whether `by` may run a transaction, whichever way it goes.
///
/// # Errors
/// It may not.
pub(super) fn check_txn(
    auth: &Auth,
    leases: &Leases,
    by: &Identity,
    txn: &Txn,
) -> Result<(), AuthError> {
    for compare in &txn.compare {
        auth.may_read(by, &compare.range)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Range(range) => auth.may_read(by, &range.range)?,
            TxnOp::Put(put) => check_put(auth, leases, by, put)?,
            TxnOp::DeleteRange(delete) => check_delete(auth, by, delete)?,
            TxnOp::Txn(inner) => within(|| check_txn(auth, leases, by, inner))?,
        }
    }
    Ok(())
}

fn check_put(auth: &Auth, leases: &Leases, by: &Identity, put: &Put) -> Result<(), AuthError> {
    let key = KeyRange::single(put.key.clone());
    auth.may_write(by, &key)?;
    // Whoever attaches a key to a lease must be able to revoke it.
    check_lease_write(auth, leases, by, put.lease)?;
    match put.prev_kv {
        true => auth.may_read(by, &key),
        false => Ok(()),
    }
}

fn check_delete(auth: &Auth, by: &Identity, delete: &DeleteRange) -> Result<(), AuthError> {
    auth.may_write(by, &delete.range)?;
    match delete.prev_kv {
        true => auth.may_read(by, &delete.range),
        false => Ok(()),
    }
}

/// Whether `by` may write every key attached to a lease.
fn check_lease_write(
    auth: &Auth,
    leases: &Leases,
    by: &Identity,
    id: LeaseId,
) -> Result<(), AuthError> {
    auth.may_write_lease(leases, by, id)
}

impl Auth {
    /// Whether `by` may run a transaction that only reads.
    ///
    /// # Errors
    /// It may not.
    pub fn may_run_read(&self, by: &Identity, txn: &Txn) -> Result<(), AuthError> {
        // It attaches nothing to a lease.
        check_txn(self, &Leases::default(), by, txn)
    }

    /// Whether `by` may read every key attached to a lease.
    ///
    /// # Errors
    /// It may not.
    pub fn may_read_lease(
        &self,
        leases: &Leases,
        by: &Identity,
        id: LeaseId,
    ) -> Result<(), AuthError> {
        self.may_lease(leases, by, id, |merged| {
            merged.may_read_all(|from| leases.key_from(id, from))
        })
    }

    /// Whether `by` may write every key attached to a lease.
    ///
    /// # Errors
    /// It may not.
    pub fn may_write_lease(
        &self,
        leases: &Leases,
        by: &Identity,
        id: LeaseId,
    ) -> Result<(), AuthError> {
        self.may_lease(leases, by, id, |merged| {
            merged.may_write_all(|from| leases.key_from(id, from))
        })
    }

    /// A lease without keys is anybody's, as in etcd.
    fn may_lease(
        &self,
        leases: &Leases,
        by: &Identity,
        id: LeaseId,
        held: impl FnOnce(&Merged) -> bool,
    ) -> Result<(), AuthError> {
        if leases.key_from(id, b"").is_none() || self.check_admin(by).is_ok() {
            return Ok(());
        }
        self.may(by, held)
    }
}
