//! Who is heard and who is not.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::fake::{CALLER, Pair, SERVED};
use crate::fixture::Book;
use crate::message::{self, AppendRequest};
use crate::types::{ClusterId, LeaseId, MemberId, Revision};
use crate::{CallError, Clients, Declined, PlainTcp, Refusal, Standing};

const LIMIT: Duration = Duration::from_secs(5);

/// What calls are refused for. A connection to the wrong member is left, so the next call may have to
/// wait until it may dial.
async fn refusal<T: Debug>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> Refusal {
    loop {
        match call().await {
            Err(CallError::Refused(refusal)) => return refusal,
            Err(CallError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => panic!("the call was not refused: {other:?}"),
        }
    }
}

/// What a question, an append stream and a vote are answered.
async fn refusal_of(pair: &Pair) -> Refusal {
    let client = pair.client();
    let asked = refusal(async || client.read_index(LIMIT).await).await;
    let append = async || {
        let requests = stream::repeat(AppendRequest::default()).boxed();
        client.append(requests).await.map(drop)
    };
    assert_eq!(refusal(append).await, asked);
    let vote = async || client.vote(message::VoteRequest::default(), LIMIT).await;
    assert_eq!(refusal(vote).await, asked);
    assert_eq!(pair.handler.received.load(Ordering::SeqCst), 0);
    assert_eq!(*pair.caller.refusals.lock(), vec![(SERVED, asked); 3]);
    asked
}

#[tokio::test]
async fn members_hear_each_other() {
    let pair = Pair::start().await;
    let client = pair.client();
    assert_eq!(client.read_index(LIMIT).await, Ok(7));
    assert_eq!(client.lease_keep_alive(LeaseId(9), LIMIT).await, Ok(9));
    let life = client.lease_time_to_live(LeaseId(9), true, LIMIT).await;
    assert_eq!(life.map(|life| life.keys.len()), Ok(1));
    let leases = client.leases(LIMIT).await;
    assert_eq!(leases, Ok(vec![LeaseId(1), LeaseId(2)]));
    let hash = client.hash_kv(Revision(5), LIMIT).await;
    assert_eq!(hash.map(|hash| hash.compact_revision), Ok(-1));
    assert!(pair.caller.refusals.lock().is_empty());
}

#[tokio::test]
async fn what_is_declined_says_why() {
    let pair = Pair::start().await;
    let client = pair.client();
    let renewed = client.lease_keep_alive(LeaseId::NONE, LIMIT).await;
    assert_eq!(renewed, Err(CallError::Declined(Declined::LeaseNotFound)));
    let moved = client.move_leader(CALLER, LIMIT).await;
    assert_eq!(moved, Err(CallError::Declined(Declined::BadTransferee)));
    let change = message::ChangeMembersRequest::default();
    let changed = client.change_members(change, LIMIT).await;
    assert_eq!(changed, Err(CallError::Declined(Declined::TooManyLearners)));
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let pair = Pair::start().await;
    pair.caller.local.lock().cluster = ClusterId(0xd);
    assert_eq!(refusal_of(&pair).await, Refusal::OtherCluster);
}

#[tokio::test]
async fn a_call_for_another_member_is_refused() {
    let pair = Pair::start().await;
    pair.served.local.lock().member = MemberId(0xe);
    assert_eq!(refusal_of(&pair).await, Refusal::OtherTarget);
}

#[tokio::test]
async fn a_removed_member_is_told_so() {
    let pair = Pair::start().await;
    pair.served.record(CALLER, Standing::Removed);
    pair.served.admits.store(true, Ordering::Relaxed);
    assert_eq!(refusal_of(&pair).await, Refusal::SenderRemoved);
}

#[tokio::test]
async fn a_wiped_member_is_not_heard() {
    let pair = Pair::start().await;
    pair.caller.local.lock().incarnation = 1;
    assert_eq!(refusal_of(&pair).await, Refusal::SenderReplaced);
}

#[tokio::test]
async fn a_member_that_lost_what_it_acknowledged_is_not_heard() {
    let pair = Pair::start().await;
    pair.served.forgetful.lock().insert(CALLER);
    assert_eq!(refusal_of(&pair).await, Refusal::SenderForgot);
    let members = pair.client().members(LIMIT).await;
    assert_eq!(members, Err(CallError::Refused(Refusal::SenderForgot)));
}

#[tokio::test]
async fn a_wiped_member_does_not_hear() {
    let pair = Pair::start().await;
    pair.served.local.lock().incarnation = 1;
    assert_eq!(refusal_of(&pair).await, Refusal::TargetReplaced);
}

#[tokio::test]
async fn a_stranger_is_heard_where_the_directory_admits_it() {
    let pair = Pair::start().await;
    pair.served.record(CALLER, Standing::Unknown);
    assert_eq!(refusal_of(&pair).await, Refusal::SenderUnknown);
    assert!(pair.client().members(LIMIT).await.is_ok());
    pair.served.admits.store(true, Ordering::Relaxed);
    assert_eq!(pair.client().read_index(LIMIT).await, Ok(7));
}

#[tokio::test]
async fn a_member_that_has_not_published_itself_is_heard() {
    let pair = Pair::start().await;
    let unpublished = Standing::Member { incarnation: 0 };
    pair.served.record(CALLER, unpublished);
    assert_eq!(pair.client().read_index(LIMIT).await, Ok(7));
}

#[tokio::test]
async fn a_joining_member_may_ask_who_the_members_are_and_nothing_else() {
    let pair = Pair::start().await;
    let joining = Book::of(MemberId(0));
    joining.local.lock().cluster = ClusterId(0);
    let clients = Clients::new(joining, Arc::new(PlainTcp), Default::default());
    let client = clients.anyone(std::slice::from_ref(&pair.url));
    let members = client.members(LIMIT).await.expect("it is answered");
    assert_eq!((members.cluster, members.answered_by), (0xc, SERVED.0));
    let asked = client.read_index(LIMIT).await;
    assert_eq!(asked, Err(CallError::Refused(Refusal::OtherCluster)));
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused_before_anything_else() {
    let book = Book::of(SERVED);
    let mut headers = http::HeaderMap::new();
    let check = |headers: &http::HeaderMap| super::super::handshake::check(headers, &*book, true);
    assert_eq!(check(&headers), Err(Refusal::Unidentified));
    headers.insert("engram-protocol", http::HeaderValue::from_static("2"));
    assert_eq!(check(&headers), Err(Refusal::UnknownProtocol));
    headers.insert("engram-protocol", http::HeaderValue::from_static("1"));
    headers.insert(
        "engram-cluster",
        http::HeaderValue::from_static("no number"),
    );
    assert_eq!(check(&headers), Err(Refusal::Unidentified));
}

#[tokio::test]
async fn where_a_member_is_reached_is_heard_of_itself_alone() {
    let pair = Pair::start().await;
    *pair.caller.listens.lock() = "http://127.0.0.1:1,http://127.0.0.1:2".into();
    let heard = async || {
        pair.served.heard.lock().clear();
        // Whether it is answered does not matter.
        drop(pair.client().read_index(LIMIT).await);
        drop(pair.client().members(LIMIT).await);
        pair.served.heard.lock().len()
    };
    assert_eq!(heard().await, 2);
    let told = (CALLER, pair.caller.listens.lock().clone());
    assert_eq!(pair.served.heard.lock()[0], told);
    for stranger in [
        Standing::Unknown,
        Standing::Removed,
        Standing::Member { incarnation: 0 },
        Standing::Member { incarnation: 9 },
    ] {
        pair.served.record(CALLER, stranger);
        assert_eq!(heard().await, 0, "{stranger:?}");
    }
    let incarnation = CALLER.0 * 10;
    pair.served.record(CALLER, Standing::Member { incarnation });
    *pair.caller.listens.lock() = "http://h:1,".repeat(200);
    assert_eq!(heard().await, 0, "more than fits");
}
