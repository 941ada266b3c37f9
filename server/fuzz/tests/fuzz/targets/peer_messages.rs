//! What members say to each other, and the records of the log: what is understood is said in the same way again.

use bytes::Bytes;
use engram_consensus::raft::fixture::wire::{KINDS, heard};
use engram_proto::{peer, raft};
use prost::Message as _;

use super::{Target, numbered};

pub const TARGET: Target = Target {
    name: "peer_messages",
    run,
    seeds,
    cases: 60_000,
};

fn run(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else {
        return;
    };
    let kind = usize::from(*kind);
    if let Some(once) = heard(kind, Bytes::copy_from_slice(message)) {
        let again = heard(kind, once.clone().into());
        assert_eq!(again, Some(once), "message {}", kind % KINDS);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let own = raft::Vote {
        term: 5,
        node: 1,
        committed: true,
    };
    let vote = Some(own);
    let id = |index| Some(raft::LogId { term: 5, index });
    let voters = raft::VoterSet { ids: vec![1, 2, 3] };
    let node = |id| raft::Node {
        id,
        peer_urls: vec!["http://127.0.0.1:2380".into()],
        learner: false,
        pending_voter: id == 3,
    };
    let membership = raft::Membership {
        configs: vec![voters.clone(), voters],
        nodes: vec![node(1), node(2), node(3)],
    };
    let entry = |index, payload| raft::Entry {
        term: 5,
        index,
        payload: Some(payload),
    };
    let entries = vec![
        entry(8, raft::entry::Payload::Blank(raft::Blank {})),
        entry(9, raft::entry::Payload::Batch("a batch".into())),
        entry(10, raft::entry::Payload::Membership(membership.clone())),
    ];
    let append = peer::AppendRequest {
        vote,
        prev: id(7),
        committed: id(6),
        entries: entries.clone(),
    };
    let matched = peer::AppendResponse {
        result: Some(peer::append_response::Result::Matched(peer::Matched {
            last: id(10),
        })),
        short_of_room: true,
    };
    let vote_request = peer::VoteRequest {
        vote,
        last: id(10),
        pre_vote: true,
        leadership_transfer: true,
    };
    let vote_response = peer::VoteResponse {
        vote,
        granted: true,
        last: id(3),
    };
    let transfer = peer::TransferLeaderRequest {
        from: vote,
        to: 2,
        last: id(10),
    };
    let changed = peer::VoteChanged {
        expected: vote,
        actual: vote,
    };
    let transferred = peer::TransferLeaderResponse {
        result: Some(peer::transfer_leader_response::Result::VoteChanged(changed)),
    };
    let begin = peer::SnapshotBegin {
        vote,
        last: id(10),
        membership_at: id(2),
        membership: Some(membership.clone()),
        bytes: 1000,
    };
    let messages = [
        append.encode_to_vec(),
        matched.encode_to_vec(),
        vote_request.encode_to_vec(),
        vote_response.encode_to_vec(),
        transfer.encode_to_vec(),
        transferred.encode_to_vec(),
        begin.encode_to_vec(),
        entries[2].encode_to_vec(),
        membership.encode_to_vec(),
        own.encode_to_vec(),
        id(4).expect("one").encode_to_vec(),
    ];
    numbered(messages)
}
