//! A member whose store is known to differ from the others' serves nobody.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::state::Alarms;
use crate::types::MemberId;
use crate::types::request::AlarmType;
use crate::types::result::ApplyError;

/// Whether the CORRUPT alarm names this member: looked at with every request, without a lock.
#[derive(Debug)]
pub struct Fence {
    member: MemberId,
    raised: AtomicBool,
    changes: watch::Sender<bool>,
}

impl Fence {
    /// The fence of `member`, as the alarms are now.
    pub fn new(member: MemberId, alarms: &Alarms) -> Fence {
        let fence = Fence {
            member,
            raised: AtomicBool::new(false),
            changes: watch::channel(false).0,
        };
        fence.look(alarms);
        fence
    }

    /// Takes over what the alarms say.
    pub fn look(&self, alarms: &Alarms) {
        let raised = alarms.is_raised_by(self.member, AlarmType::Corrupt);
        if raised && !self.raised.swap(raised, Ordering::AcqRel) {
            crate::log!(error, "this member's data differs from the others': nobody is served from it; remove the member and add it anew", member = %self.member);
        }
        self.raised.store(raised, Ordering::Release);
        self.changes.send_replace(raised);
    }

    /// Resolves once nobody is let through.
    pub async fn closed(&self) {
        let mut changes = self.changes.subscribe();
        // The sender lives as long as this.
        let _ = changes.wait_for(|closed| *closed).await;
    }

    /// Lets a request through.
    ///
    /// # Errors
    /// The member's data is corrupt.
    pub fn pass(&self) -> Result<(), ApplyError> {
        match self.raised.load(Ordering::Acquire) {
            true => Err(ApplyError::Corrupt),
            false => Ok(()),
        }
    }
}
