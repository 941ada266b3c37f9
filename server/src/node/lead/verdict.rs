//! What only the leader decides: that leases have expired, where to compact by itself, whose data is
//! wrong.
//!
//! A member that was paused goes on as a leader for a moment, with everything it looked at long ago.
//! So a verdict is worth something only if a quorum confirms, in a round that begins after the look,
//! that this member still leads the term it looked in; and the entry is of that term, or there is
//! none. It is never forwarded: another leader has to look for itself.

use crate::propose::{ProposeError, Proposer};
use crate::raft::Consensus;
use crate::types::request::Op;
use crate::types::result::Outcome;

/// Decides `ops` as the leader of `term`, which the caller led when it looked at what it decides by.
///
/// # Errors
/// `NotLeader`: this member does not lead that term (any more), or no quorum said so; nothing has
/// happened. Else see [`ProposeError`].
pub async fn decide(
    consensus: &Consensus,
    proposer: &Proposer,
    term: u64,
    ops: Vec<Op>,
) -> Result<Vec<Outcome>, ProposeError> {
    let confirmed = consensus.confirm_lead().await;
    if !confirmed.is_ok_and(|position| position.term == term) {
        return Err(ProposeError::NotLeader);
    }
    proposer
        .decide(ops, |batch| consensus.propose_in(term, batch))
        .await
}
