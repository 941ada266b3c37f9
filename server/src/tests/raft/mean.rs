//! A mean peer: whatever it says, no member ends, none takes up what it could not apply, and all
//! start again and go on.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prost::Message;

use super::Numbers;
use super::cluster::{Cluster, Member, eventually, write};
use crate::peer::Declined;
use crate::peer::message::{
    self as pb, AppendRequest, SnapshotBegin, SnapshotPart, TransferLeaderRequest, VoteRequest,
    snapshot_part::Part,
};
use crate::storage::place::incoming_dir;
use crate::types::MemberId;
use engram_proto::raft::{Batch, Blank, Entry, LogId, Membership, Node, Vote, VoterSet, entry};

const EXTREMES: [u64; 8] = [
    0,
    1,
    (1 << 32) + 1000,
    (1 << 62) + 1,
    1 << 63,
    u64::MAX - 2,
    u64::MAX - 1,
    u64::MAX,
];

pub(super) fn id(term: u64, index: u64) -> Option<LogId> {
    Some(LogId { term, index })
}

pub(super) fn vote(term: u64, node: u64, committed: bool) -> Option<Vote> {
    Some(Vote {
        term,
        node,
        committed,
    })
}

pub(super) fn blank(term: u64, index: u64) -> Entry {
    Entry {
        term,
        index,
        payload: Some(entry::Payload::Blank(Blank {})),
    }
}

fn with_batch(term: u64, index: u64, batch: Vec<u8>) -> Entry {
    Entry {
        term,
        index,
        payload: Some(entry::Payload::Batch(batch.into())),
    }
}

pub(super) fn with_members(term: u64, index: u64, configs: &[&[u64]], nodes: &[u64]) -> Entry {
    let nodes = nodes.iter().map(|id| Node {
        id: *id,
        ..Node::default()
    });
    let configs = configs.iter().map(|ids| VoterSet { ids: ids.to_vec() });
    Entry {
        term,
        index,
        payload: Some(entry::Payload::Membership(Membership {
            configs: configs.collect(),
            nodes: nodes.collect(),
        })),
    }
}

/// Sends one append on a stream of its own, and waits for its answer or the stream's end.
pub(super) async fn append(member: &Member, request: AppendRequest) -> Option<pb::AppendResponse> {
    let mut answers = member
        .consensus
        .serve_append(stream::iter([request]).boxed());
    answers.next().await
}

/// Votes that no election has given.
fn votes(member: MemberId) -> Vec<Option<Vote>> {
    let mut votes = vec![None];
    for term in EXTREMES {
        for node in [0, 1, 2, 3, member.0, 99, u64::MAX] {
            votes.push(vote(term, node, true));
            votes.push(vote(term, node, false));
        }
    }
    votes
}

async fn ask_for_votes(member: &Member) {
    for vote in votes(member.id) {
        for last in [
            None,
            id(0, u64::MAX),
            id(u64::MAX, u64::MAX),
            id(1 << 61, 1 << 61),
        ] {
            for pre_vote in [false, true] {
                let request = VoteRequest {
                    vote,
                    last,
                    pre_vote,
                    leadership_transfer: true,
                };
                // A vote that could be counted on from may be given.
                let is_insane = vote.is_none_or(|vote| vote.term > 1 << 62);
                let answer = member.consensus.serve_vote(request).await;
                assert!(!is_insane || answer == Err(Declined::Invalid), "{vote:?}");
            }
        }
    }
}

/// Appends in the leader's own name, each of which openraft or a later start would die of.
fn lethal(term: u64, last: u64, leader: u64) -> Vec<AppendRequest> {
    let next = last + 1;
    let request = |prev, committed, entries| AppendRequest {
        vote: vote(term, leader, true),
        prev,
        committed,
        entries,
    };
    let newer = Batch {
        apply_version: 77,
        ..Batch::default()
    };
    let follows = |entry| request(id(term, last), None, vec![entry]);
    let mut lethal = vec![
        follows(with_batch(term, next, b"\xff\xff\xff not a batch".to_vec())),
        follows(with_batch(term, next, newer.encode_to_vec())),
        follows(Entry {
            term,
            index: next,
            payload: None,
        }),
        follows(with_members(term, next, &[], &[])),
        follows(with_members(term, next, &[&[]], &[])),
        follows(with_members(term, next, &[&[7]], &[])),
        follows(with_members(term, next, &[&[7], &[8], &[9]], &[7, 8, 9])),
        follows(blank(term + 1, next)),
        follows(blank(term, next + 1)),
        follows(blank(u64::MAX, next)),
        // What is committed here, with another term.
        request(id(term + 1, 0), None, vec![]),
        request(None, None, vec![blank(term, 0)]),
        // Another one than the last, under its very number.
        request(id(term, last - 1), None, vec![blank(term, last)]),
        request(id(term, last), id(term + 1, last), vec![]),
        request(id(term, last), id(0, 1 << 60), vec![]),
    ];
    for index in EXTREMES.into_iter().skip(3) {
        lethal.push(request(id(term, index), None, vec![]));
        lethal.push(request(id(index, index), None, vec![]));
        lethal.push(request(id(term, index - 1), None, vec![blank(term, index)]));
        lethal.push(request(id(term, last), id(term, index), vec![]));
        lethal.push(request(id(term, last), id(index, last), vec![]));
    }
    lethal
}

async fn send_appends(member: &Member, leader: MemberId, term: u64) {
    for vote in votes(member.id) {
        let is_insane = vote.is_none_or(|vote| vote.term > 1 << 62 || !vote.committed);
        let request = AppendRequest {
            vote,
            prev: None,
            committed: id(1, u64::MAX),
            entries: vec![],
        };
        let answer = append(member, request).await;
        assert!(!is_insane || answer.is_none(), "{vote:?}: {answer:?}");
    }
    let last = member.log.last_index();
    for request in lethal(term, last, leader.0) {
        let text = format!("{request:?}");
        let answer = append(member, request).await;
        assert!(answer.is_none(), "{text}: {answer:?}");
        assert_eq!(member.log.last_index(), last, "{text}");
    }
    // Not in this log, and beyond it, but what a leader may say.
    let ahead = AppendRequest {
        vote: vote(term, leader.0, true),
        prev: id(term, last + 1000),
        committed: id(term, last + 1000),
        entries: vec![],
    };
    assert!(append(member, ahead).await.is_some());
    let mark = AppendRequest {
        vote: vote(term, leader.0, true),
        prev: id(term, last),
        committed: id(term, 1 << 60),
        entries: vec![],
    };
    assert!(append(member, mark).await.is_some());
}

async fn send_snapshots(member: &Member, term: u64) {
    let members = with_members(0, 0, &[&[1]], &[1]).payload;
    let Some(entry::Payload::Membership(members)) = members else {
        unreachable!("a membership was made")
    };
    let mut begins = vec![SnapshotBegin::default()];
    for vote in votes(member.id) {
        for last in EXTREMES.map(|index| id(1, index)) {
            begins.push(SnapshotBegin {
                vote,
                last,
                membership_at: id(0, 0),
                membership: Some(members.clone()),
                bytes: u64::MAX,
            });
        }
    }
    begins.push(SnapshotBegin {
        vote: vote(term, 1, true),
        last: id(term, 1),
        membership_at: id(0, 0),
        membership: Some(members),
        bytes: 1,
    });
    for begin in begins {
        let parts = stream::iter([Ok(SnapshotPart {
            part: Some(Part::Begin(begin)),
        })]);
        let dir = incoming_dir(member.data_dir());
        let answer = member.consensus.serve_snapshot(parts.boxed(), &dir).await;
        // One that could be a leader's is so large that it has no room.
        let is_refused = matches!(answer, Err(Declined::Invalid | Declined::NoRoom));
        assert!(is_refused, "{answer:?}");
    }
}

async fn ask_for_leadership(member: &Member) {
    for from in votes(member.id) {
        for last in [None, id(u64::MAX, u64::MAX), id(0, 1 << 61)] {
            let request = TransferLeaderRequest { from, to: 99, last };
            // Of another leader, or of nobody: nothing is done.
            let _ = member.consensus.serve_transfer_leader(request).await;
        }
    }
    for to in [0, 99, u64::MAX, member.id.0] {
        let moved = member.consensus.serve_move_leader(MemberId(to)).await;
        assert_eq!(moved, Err(Declined::BadTransferee), "{to}");
    }
    let garbage = [&b""[..], b"\xff", b"\x08\x4d", b"\x2a\x02\xff\xff"];
    for batch in garbage.into_iter().skip(1) {
        let proposed = member.consensus.serve_propose(Bytes::from_static(batch));
        assert_eq!(proposed.await, Err(Declined::Invalid), "{batch:?}");
    }
}

async fn all_run(cluster: &Cluster) {
    for member in &cluster.members {
        assert_eq!(member.consensus.failure(), None, "{}", member.id);
    }
    let leader = cluster.leader().await;
    write(leader, 500..520, &Bytes::from_static(b"goes on")).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_peer_says_ends_a_member() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    write(leader, 0..20, &Bytes::from_static(b"a value")).await;
    cluster.converge().await;
    for at in 0..cluster.members.len() {
        let member = &cluster.members[at];
        let leader = cluster.leader().await;
        let (name, term) = (leader.id, leader.consensus.leadership().term);
        if member.id != leader.id {
            send_appends(member, name, term).await;
        }
        send_snapshots(member, term).await;
        ask_for_leadership(member).await;
        all_run(&cluster).await;
    }
    for member in &cluster.members {
        ask_for_votes(member).await;
    }
    all_run(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_spoken_to_so_starts_again() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (name, term) = (leader.id, leader.consensus.leadership().term);
    write(leader, 0..20, &Bytes::from_static(b"a value")).await;
    cluster.converge().await;
    let at = cluster.members.iter().position(|m| m.id != name).unwrap();
    let member = cluster.members.swap_remove(at);
    send_appends(&member, name, term).await;
    ask_for_votes(&member).await;
    let before = member.store.applied_index();
    let restarted = member.restart().await;
    let applied = || restarted.store.applied_index() >= before;
    eventually("it starts, and has what it had", applied).await;
    assert_eq!(restarted.consensus.failure(), None);
    restarted.stop().await;
    cluster.stop().await;
}

/// Bytes of messages with some changed, each decoded as a peer's; what can be decoded is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_bytes_of_messages_end_nobody() {
    let cluster = Cluster::start(1).await;
    let member = cluster.leader().await;
    write(member, 0..5, &Bytes::from_static(b"a value")).await;
    let term = member.consensus.leadership().term;
    let mut numbers = Numbers(0x5eed);
    let requests = lethal(term, member.log.last_index(), 7);
    for _ in 0..3000 {
        let at = usize::try_from(numbers.below(requests.len() as u64)).unwrap();
        let mut bytes = requests[at].encode_to_vec();
        for _ in 0..=numbers.below(4) {
            let place = usize::try_from(numbers.below(bytes.len() as u64)).unwrap();
            bytes[place] = u8::try_from(numbers.below(256)).unwrap();
        }
        bytes.truncate(
            usize::try_from(numbers.below(2 * bytes.len() as u64))
                .unwrap()
                .max(1),
        );
        if let Ok(request) = VoteRequest::decode(&bytes[..]) {
            // A vote that is asked for in a term that makes sense may be given: that is no fault.
            let is_low = request.vote.is_none_or(|vote| vote.term <= term);
            if is_low {
                let _ = member.consensus.serve_vote(request).await;
            }
        }
        if let Ok(request) = TransferLeaderRequest::decode(&bytes[..]) {
            let _ = member.consensus.serve_transfer_leader(request).await;
        }
        if let Ok(request) = AppendRequest::decode(&bytes[..])
            && request
                .vote
                .is_none_or(|vote| vote.term <= term || vote.term > 1 << 62)
        {
            append(member, request).await;
        }
        let _ = member.consensus.serve_propose(Bytes::from(bytes)).await;
    }
    assert_eq!(member.consensus.failure(), None);
    write(member, 5..10, &Bytes::from_static(b"goes on")).await;
    cluster.stop().await;
}

fn random_entry(numbers: &mut Numbers, index: u64, terms: u64) -> Entry {
    let term = numbers.below(terms);
    match numbers.below(6) {
        0 => with_members(term, index, &[&[1, 2, 3]], &[1, 2, 3]),
        1 => with_members(term, index, &[&[1, 2, 3], &[4]], &[1, 2, 3, 4]),
        2 => with_batch(term, index, vec![8, 1]),
        _ => blank(term, index),
    }
}

/// An append of whichever leader, that may or may not fit the log.
fn random_append(numbers: &mut Numbers, last: u64) -> AppendRequest {
    let some_id = |numbers: &mut Numbers, terms| match numbers.below(8) {
        0 => None,
        _ => id(numbers.below(terms), numbers.below(last + 4)),
    };
    let term = 2 + numbers.below(6);
    let prev = some_id(numbers, term + 2);
    let first = prev.map_or(0, |prev| prev.index + 1);
    let count = numbers.below(5);
    let entries = (first..first + count).map(|index| random_entry(numbers, index, term + 1));
    let entries = entries.collect();
    AppendRequest {
        vote: vote(term, 2 + numbers.below(2), true),
        prev,
        entries,
        committed: some_id(numbers, term + 2),
    }
}

/// Leaders that contradict each other and themselves: what they commit is theirs to answer for, but
/// the member runs, and starts again with what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_say_anything_end_no_follower() {
    for seed in 0..8 {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        write(leader, 0..3, &Bytes::from_static(b"a value")).await;
        cluster.converge().await;
        let at = cluster.members.iter().position(|m| m.id.0 == 1).unwrap();
        let member = cluster.members.swap_remove(at);
        cluster.stop().await;
        let mut numbers = Numbers(seed);
        for _ in 0..400 {
            let requests: Vec<AppendRequest> = (0..=numbers.below(3))
                .map(|_| random_append(&mut numbers, member.log.last_index()))
                .collect();
            let answers = member
                .consensus
                .serve_append(stream::iter(requests).boxed());
            answers.for_each(|_| std::future::ready(())).await;
            assert_eq!(member.consensus.failure(), None, "seed {seed}");
        }
        let applied = member.store.applied_index();
        let restarted = member.restart().await;
        assert!(restarted.store.applied_index() >= applied);
        assert_eq!(restarted.consensus.failure(), None, "seed {seed}");
        restarted.stop().await;
    }
}
