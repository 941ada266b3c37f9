//! Entries of another log of the same cluster, taken over: an etcd's, by who adopts its directory.
//!
//! They keep their terms and indexes, and the term that was promised is promised here, so that the
//! members go on electing and replicating as one cluster, wherever each of them stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::EntryPayload;

use super::{Batch, Entry, LogStore, Membership, Peer, Vote, entry};
use crate::codec::entry::BatchHeader;
use crate::state::MemberNode;
use crate::storage::LogPosition;
use crate::types::MemberId;
use crate::types::request::Op;
use crate::wal::Record;

/// Entries that are made durable at once.
const ENTRIES_A_WRITE: usize = 256;

/// An entry to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its term and index.
    pub position: LogPosition,
    /// What it holds.
    pub payload: Payload,
}

/// What an entry to take over holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing for the store.
    Nothing,
    /// One operation. Nobody waits for its outcome.
    Operation(Op),
    /// All members from here on; one at least votes.
    Members(Vec<MemberNode>),
}

impl LogStore {
    /// Appends entries behind the log's end, those before it left out (an attempt that a crash ended
    /// wrote them), and promises `term`: no other member is given a vote in it. Durable on return;
    /// blocks. For the start, before consensus.
    ///
    /// # Errors
    /// The log was closed, an entry is too large for it, or they do not follow its end.
    pub fn carry(&self, member: MemberId, term: u64, entries: Vec<Carried>) -> io::Result<()> {
        let has = self.last_index();
        let wanted = entries
            .into_iter()
            .filter(|carried| carried.position.index > has);
        let made: Vec<Entry> = wanted.map(made).collect::<io::Result<_>>()?;
        for some in made.chunks(ENTRIES_A_WRITE) {
            self.append_carried(some)?;
        }
        self.promise(Vote::new(term, member.0))
    }

    fn append_carried(&self, entries: &[Entry]) -> io::Result<()> {
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let position = entry::position(&entry.log_id);
            let payload = entry::encode(entry);
            if payload.len() > self.entry_bytes_max() {
                return Err(io::Error::other(format!(
                    "entry {} has {} bytes, and this log takes {}: raise --max-request-bytes to what etcd had",
                    position.index,
                    payload.len(),
                    self.entry_bytes_max()
                )));
            }
            records.push(Record::Entry {
                index: position.index,
                term: position.term,
                payload,
            });
        }
        self.append_made(records, entries)
    }
}

fn made(carried: Carried) -> io::Result<Entry> {
    let payload = match carried.payload {
        Payload::Nothing => EntryPayload::Blank,
        Payload::Operation(op) => {
            EntryPayload::Normal(Batch::new(BatchHeader::default(), vec![op]))
        }
        Payload::Members(nodes) => EntryPayload::Membership(configuration(&nodes)?),
    };
    Ok(Entry {
        log_id: entry::log_id(carried.position.term, carried.position.index),
        payload,
    })
}

fn configuration(nodes: &[MemberNode]) -> io::Result<Membership> {
    let voters = nodes.iter().filter(|node| !node.learner);
    let voters: BTreeSet<u64> = voters.map(|node| node.id.0).collect();
    let peer = |node: &MemberNode| Peer {
        peer_urls: node.peer_urls.clone(),
        pending_voter: false,
    };
    let nodes: BTreeMap<u64, Peer> = nodes.iter().map(|node| (node.id.0, peer(node))).collect();
    Membership::new(vec![voters], nodes).map_err(io::Error::other)
}
