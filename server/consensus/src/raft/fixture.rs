//! What tests of whole members, a floor above, look into: they stand for openraft over the log, the
//! apply thread and the snapshots, and for a peer that sends what it should not.

pub use super::apply::{ApplyHandle, Task};
pub use super::snapshot::Snapshots;
pub use super::*;

/// A log's position, as openraft names it.
pub type LogId = super::LogId;
/// An entry of the log.
pub type Entry = super::Entry;
/// What a member has promised.
pub type Vote = super::Vote;
/// Who votes and who learns.
pub type Membership = super::Membership;
/// The same with the entry that said so.
pub type StoredMembership = super::StoredMembership;

/// Entries as bytes.
pub mod entry {
    pub use super::super::entry::*;
}
/// Which appends are answered at once.
pub mod following {
    pub use super::super::following::stands;
}
/// A snapshot that comes in.
pub mod incoming {
    pub use super::super::incoming::*;
}
/// What a snapshot is said to be.
pub mod snapshot {
    pub use super::super::snapshot::*;
}
/// Messages between members.
pub mod wire {
    pub use super::super::wire::snapshot_begin;

    use bytes::Bytes;
    use engram_proto::{peer, raft};
    use prost::Message;

    use super::super::{entry, wire};

    /// How many kinds of messages [`heard`] knows.
    pub const KINDS: usize = 11;

    /// What is understood of a message or of a record of the log, said again; none where it is refused.
    #[must_use]
    pub fn heard(kind: usize, bytes: Bytes) -> Option<Vec<u8>> {
        match kind % KINDS {
            0 => again(bytes, wire::read_append_request, wire::append_request),
            1 => again(bytes, wire::read_append_response, wire::append_response),
            2 => {
                let pre_vote = peer::VoteRequest::decode(bytes.clone()).ok()?.pre_vote;
                let say = |request| wire::vote_request(&request, pre_vote);
                again(bytes, wire::read_vote_request, say)
            }
            3 => again(bytes, wire::read_vote_response, |it| {
                wire::vote_response(&it)
            }),
            4 => again(bytes, wire::read_transfer_request, |it| {
                wire::transfer_request(&it)
            }),
            5 => again(bytes, wire::read_transfer_response, |it| {
                wire::transfer_response(&it)
            }),
            6 => {
                let size = peer::SnapshotBegin::decode(bytes.clone()).ok()?.bytes;
                let say = |(vote, meta)| wire::snapshot_begin(&vote, &meta, size);
                again(bytes, wire::read_snapshot_begin, say)
            }
            7 => again(bytes, entry::from_message, |it| entry::to_message(&it)),
            8 => again(bytes, entry::read_membership, |it| {
                entry::membership_message(&it)
            }),
            9 => {
                let read = |vote: raft::Vote| Ok::<_, ()>(entry::read_vote(&vote));
                again(bytes, read, |it| entry::vote_message(&it))
            }
            _ => {
                let read = |id: raft::LogId| Ok::<_, ()>(entry::log_id(id.term, id.index));
                again(bytes, read, |it| entry::log_id_message(&it))
            }
        }
    }

    fn again<M: Message + Default, T, E>(
        bytes: Bytes,
        read: impl FnOnce(M) -> Result<T, E>,
        say: impl FnOnce(T) -> M,
    ) -> Option<Vec<u8>> {
        let message = M::decode(bytes).ok()?;
        Some(say(read(message).ok()?).encode_to_vec())
    }
}

impl Consensus {
    /// openraft itself.
    #[must_use]
    pub fn openraft(&self) -> &Raft {
        &self.raft
    }
}
