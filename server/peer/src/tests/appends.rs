//! Append streams: order, bounds, giving up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engram_proto::raft;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::fake::Pair;
use crate::message::{AppendRequest, append_response::Result as Appended};
use crate::{CallError, Limits};

fn request(index: u64, batch: Bytes) -> AppendRequest {
    AppendRequest {
        prev: Some(raft::LogId { term: 1, index }),
        entries: vec![raft::Entry {
            term: 1,
            index: index + 1,
            payload: Some(raft::entry::Payload::Batch(batch)),
        }],
        ..AppendRequest::default()
    }
}

fn matched(answer: crate::message::AppendResponse) -> u64 {
    let Some(Appended::Matched(matched)) = answer.result else {
        panic!("not a match: {answer:?}");
    };
    matched.last.expect("the request had a predecessor").index
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let pair = Pair::start().await;
    let requests = stream::iter((0..1000).map(|n| request(n, Bytes::from_static(b"batch"))));
    let mut answers = pair.client().append(requests.boxed()).await.expect("opens");
    for expected in 0..1000 {
        let answer = answers.next().await.expect("one answer a request");
        assert_eq!(matched(answer.expect("it is answered")), expected);
    }
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn no_more_than_64_are_unanswered() {
    let pair = Pair::start().await;
    let permits = &pair.handler.permits;
    permits.forget_permits(usize::MAX);
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = pulled.clone();
    let requests = stream::iter(0..).map(move |n| {
        counter.fetch_add(1, Ordering::SeqCst);
        request(n, Bytes::from_static(b"batch"))
    });
    let mut answers = pair.client().append(requests.boxed()).await.expect("opens");
    let received = pair.handler.received.clone();
    for answered in 0..10 {
        while received.load(Ordering::SeqCst) < 64 + answered {
            tokio::task::yield_now().await;
        }
        assert_eq!(pulled.load(Ordering::SeqCst), 64 + answered);
        permits.add_permits(1);
        answers.next().await.expect("goes on").expect("answered");
    }
}

#[tokio::test]
async fn unanswered_bytes_are_bounded() {
    let pair = Pair::start().await;
    pair.handler.permits.forget_permits(usize::MAX);
    let batch = Bytes::from(vec![7; 3 << 20]);
    let requests = stream::iter(0..).map(move |n| request(n, batch.clone()));
    let answers = pair.client().append(requests.boxed()).await.expect("opens");
    let received = pair.handler.received.clone();
    // Six of 3 MiB are the first to reach 16 MiB.
    while received.load(Ordering::SeqCst) < 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    pair.client()
        .read_index(Duration::from_secs(5))
        .await
        .expect("control is not held up");
    assert_eq!(received.load(Ordering::SeqCst), 6);
    drop(answers);
}

#[tokio::test]
async fn dropped_answers_drop_the_requests_at_once() {
    let pair = Pair::start().await;
    let (sender, mut receiver) = mpsc::channel::<AppendRequest>(1);
    let requests = stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed();
    let mut answers = pair.client().append(requests).await.expect("opens");
    let first = request(0, Bytes::new());
    sender.send(first).await.expect("it is read");
    answers.next().await.expect("goes on").expect("answered");
    assert!(!sender.is_closed());
    drop(answers);
    assert!(sender.is_closed());
}

#[tokio::test]
async fn heartbeats_take_turns_on_one_stream() {
    let pair = Pair::start().await;
    let mut turns = pair.client().append_turns().await.expect("opens");
    for n in 0..100 {
        let (answer, again) = turns
            .turn(request(n, Bytes::new()))
            .await
            .expect("answered");
        assert_eq!(matched(answer), n);
        turns = again.expect("a match ends nothing");
    }
}

#[tokio::test]
async fn promises_are_asked_for_on_one_stream() {
    let pair = Pair::start().await;
    let mut promises = pair.client().promises().await.expect("opens");
    for asked in 1..100 {
        let (answer, again) = promises.ask().await.expect("answered");
        let vote = answer.vote.expect("the fake has voted");
        assert_eq!(vote.term, asked, "each question has an answer of its own");
        promises = again;
    }
}

#[tokio::test]
async fn an_oversized_message_is_an_error_on_either_side() {
    let small = Limits {
        message_bytes: 1024,
    };
    let pair = Pair::with_limits(small).await;
    let limit = Duration::from_secs(5);
    let proposed = pair
        .client()
        .propose(Bytes::from(vec![0; 2048]), limit)
        .await;
    assert!(
        matches!(proposed, Err(CallError::Broken(_))),
        "{proposed:?}"
    );
    // A sender with other limits meets the receiver's.
    let large = crate::Clients::new(
        pair.caller.clone(),
        Arc::new(crate::PlainTcp),
        Limits::default(),
    );
    let client = large.member(super::fake::SERVED, std::slice::from_ref(&pair.url));
    let proposed = client.propose(Bytes::from(vec![0; 2048]), limit).await;
    assert!(
        matches!(proposed, Err(CallError::Broken(_))),
        "{proposed:?}"
    );
    assert_eq!(pair.handler.batch_bytes.load(Ordering::SeqCst), 0);
    client
        .propose(Bytes::from(vec![0; 512]), limit)
        .await
        .expect("it fits");
    let requests = stream::iter([request(0, Bytes::from(vec![0; 2048]))]);
    let mut answers = client.append(requests.boxed()).await.expect("opens");
    let answer = answers.next().await.expect("an end");
    assert!(matches!(answer, Err(CallError::Broken(_))), "{answer:?}");
    assert_eq!(pair.handler.received.load(Ordering::SeqCst), 0);
}
