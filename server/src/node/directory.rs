//! Who is who among the members, out of the member table.

use std::sync::Arc;

use crate::peer::{Directory, Local, Refusal, Standing};
use crate::store::Store;
use crate::types::MemberId;

/// The member table, as the peer room asks it.
pub struct MemberDirectory {
    local: Local,
    store: Arc<Store>,
}

impl MemberDirectory {
    /// The directory of the member `local`.
    pub fn new(local: Local, store: Arc<Store>) -> MemberDirectory {
        MemberDirectory { local, store }
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
        crate::log!(error, "a peer refuses to hear this member", peer = %by, error = %refusal);
    }
}
