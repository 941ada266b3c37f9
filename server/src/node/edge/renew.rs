//! Renewing a lease, on the leader: who leads is confirmed first, since another member may have let it go.

use std::time::Duration;

use crate::mutants::is_planted;
use crate::node::barrier::Barrier;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::{Lessor, Renewal};
use crate::raft::Consensus;
use crate::types::LeaseId;

/// How long what was acknowledged may take to be applied here before a lease that is known is renewed
/// without it: clients lose what hangs on their leases otherwise, for as long as one engine stands still.
const APPLIED_IN: Duration = Duration::from_millis(500);

/// Seconds that a lease lives from when this was called, 0 where there is none; none where this member
/// cannot say.
pub async fn renewed(
    lessor: &Lessor,
    barrier: &Barrier,
    consensus: &Consensus,
    id: LeaseId,
) -> Option<i64> {
    let asked = lessor.now();
    if is_planted("lease-unconfirmed") {
        return told(lessor.renew(lessor.term()?, id, asked));
    }
    if let Ok(Ok(passed)) = tokio::time::timeout(APPLIED_IN, barrier.pass_leading()).await {
        return told(lessor.renew(passed?, id, asked));
    }
    let term = barrier.confirm_leading().await.ok()??;
    // One that is revoked in what is not applied yet is gone for whoever has applied it.
    if consensus.is_revoking(id) {
        return None;
    }
    // One that is not known may be in what is not applied yet.
    told(lessor.renew(term, id, asked)).filter(|ttl| *ttl > 0)
}

/// The same at once, by a member that is alone, whom nobody has to confirm. None beside others, or where it cannot say.
pub fn renewed_alone(lessor: &Lessor, leadership: &LeadershipCell, id: LeaseId) -> Option<i64> {
    let is_alone = leadership.answers_alone();
    is_alone.then(|| told(lessor.renew(leadership.term(), id, lessor.now())))?
}

fn told(renewal: Renewal) -> Option<i64> {
    match renewal {
        Renewal::Lives(ttl) => Some(ttl),
        Renewal::Gone => Some(0),
        Renewal::Unsure => None,
    }
}
