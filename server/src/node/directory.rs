//! Who is who among the members, out of the member table; and what it means when a peer refuses to
//! hear this one.

use std::sync::Arc;

use tokio::sync::watch;

use crate::peer::{Directory, Local, Refusal, Standing};
use crate::store::Store;
use crate::types::MemberId;

/// The member table, as the peer room asks it.
pub struct MemberDirectory {
    local: Local,
    store: Arc<Store>,
    expelled: watch::Sender<Option<Refusal>>,
}

impl MemberDirectory {
    /// The directory of the member `local`.
    pub fn new(local: Local, store: Arc<Store>) -> MemberDirectory {
        MemberDirectory {
            local,
            store,
            expelled: watch::channel(None).0,
        }
    }

    /// Tells when this member is one no more, and why.
    pub fn expelled(&self) -> watch::Receiver<Option<Refusal>> {
        self.expelled.subscribe()
    }

    /// Looks into the table: a member that is named there as removed is one no more.
    pub fn look(&self) {
        if self.store.read().members.is_removed(self.local.member) {
            self.expelled.send_replace(Some(Refusal::SenderRemoved));
        }
    }
}

impl Directory for MemberDirectory {
    fn local(&self) -> Local {
        self.local
    }

    fn standing(&self, member: MemberId) -> Standing {
        let state = self.store.read();
        if state.members.is_removed(member) {
            return Standing::Removed;
        }
        match state.members.get(member) {
            Some(record) => Standing::Member {
                incarnation: record.incarnation,
            },
            None => Standing::Unknown,
        }
    }

    fn admit(&self, _sender: MemberId) -> bool {
        true
    }

    fn refused(&self, by: MemberId, refusal: Refusal) {
        match refusal {
            Refusal::SenderRemoved | Refusal::SenderReplaced => {
                self.expelled.send_replace(Some(refusal));
            }
            other => {
                crate::log!(warn, "a peer refuses to hear this member", peer = %by, error = %other);
            }
        }
    }
}
