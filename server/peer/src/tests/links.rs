//! Connecting and connecting again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::fake::{CALLER, Pair, SERVED};
use crate::fixture::{Book, listen};
use crate::net::Security;
use crate::types::MemberId;
use crate::{BoxedIo, CallError, Clients, Dial, Limits, PlainTcp, Refusal};

const LIMIT: Duration = Duration::from_secs(5);

/// A dial that counts.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Dial for Counting {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        PlainTcp.dial(url)
    }
}

/// A URL at which nobody listens.
async fn nowhere() -> String {
    listen().await.1
}

#[tokio::test]
async fn urls_are_tried_in_turn() {
    let pair = Pair::start().await;
    let urls = [nowhere().await, pair.url.clone()];
    let client = pair.clients.member(SERVED, &urls);
    assert_eq!(client.read_index(LIMIT).await, Ok(7));
}

#[tokio::test]
async fn a_url_at_which_another_member_answers_is_left_for_the_next() {
    let (pair, other) = (Pair::start().await, Pair::start().await);
    other.served.local.lock().member = MemberId(0xe);
    let urls = [other.url.clone(), pair.url.clone()];
    let client = pair.clients.member(SERVED, &urls);
    let refused = Err(CallError::Refused(Refusal::OtherTarget));
    assert_eq!(client.read_index(LIMIT).await, refused);
    let begun = Instant::now();
    while client.read_index(LIMIT).await != Ok(7) {
        assert!(begun.elapsed() < LIMIT, "the other URL is not tried");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(pair.caller.refusals.lock().len(), 1);
}

#[tokio::test]
async fn https_needs_another_dial() {
    let book = Book::of(CALLER);
    let clients = Clients::new(book, Arc::new(PlainTcp), Limits::default());
    let client = clients.member(SERVED, &["https://127.0.0.1:1".into()]);
    let asked = client.read_index(LIMIT).await;
    let Err(CallError::Unreachable(why)) = asked else {
        panic!("{asked:?}");
    };
    assert!(why.contains("without TLS"), "{why}");
}

#[tokio::test]
async fn calls_in_a_row_dial_a_dead_peer_with_growing_pauses() {
    let dial = Arc::new(Counting::default());
    let clients = Clients::new(Book::of(CALLER), dial.clone(), Limits::default());
    let client = clients.member(SERVED, &[nowhere().await]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(800) {
        let asked = client.read_index(LIMIT).await;
        assert!(matches!(asked, Err(CallError::Unreachable(_))), "{asked:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // At 0, 50, 150, 350, 750 ms.
    let dials = dial.0.load(Ordering::SeqCst);
    assert!((2..=5).contains(&dials), "{dials} dials");
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let pair = Pair::start().await;
    let client = pair.client();
    assert_eq!(client.read_index(LIMIT).await, Ok(7));
    let address = pair.url.trim_start_matches("http://").to_owned();
    pair.stop.send_replace(true);
    // The address is free once the server has let go of it.
    let listener = loop {
        match TcpListener::bind(&address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let server = crate::Server::new(pair.handler.clone(), pair.served.clone(), Limits::default());
    tokio::spawn(crate::serve(
        listener.into(),
        Security::Plain,
        server,
        stopping,
    ));
    let begun = Instant::now();
    while client.read_index(LIMIT).await != Ok(7) {
        assert!(begun.elapsed() < LIMIT, "the peer is not reached again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_dial_outlives_the_call_that_began_it() {
    // The connection is made, but nobody answers on it.
    let (listener, url) = listen().await;
    let clients = Clients::new(Book::of(CALLER), Arc::new(PlainTcp), Limits::default());
    let client = clients.member(SERVED, &[url]);
    let brief = Duration::from_nanos(1);
    let asked = client.read_index(brief).await;
    assert_eq!(asked, Err(CallError::TimedOut(brief)));
    let accepted = tokio::time::timeout(LIMIT, listener.accept()).await;
    assert!(accepted.is_ok());
}

#[tokio::test]
async fn a_member_that_moved_is_dialled_where_it_was_told_to_be_at_once() {
    let pair = Pair::start().await;
    let old = [nowhere().await];
    let client = pair.clients.member(SERVED, &old);
    // Long enough for the longest pause between two dials.
    for _ in 0..6 {
        assert!(client.read_index(LIMIT).await.is_err());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let begun = Instant::now();
    pair.clients.tell_urls(SERVED, vec![pair.url.clone()]);
    assert_eq!(client.read_index(LIMIT).await, Ok(7));
    assert!(begun.elapsed() < Duration::from_millis(500));
    // What a caller knows counts no more.
    assert_eq!(
        pair.clients.member(SERVED, &old).read_index(LIMIT).await,
        Ok(7)
    );
}
