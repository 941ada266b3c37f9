//! A whole answer on its way: what is large goes slice by slice, and a client that takes none for
//! twenty seconds loses it, so that nobody holds memory by not reading.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame as HttpFrame;
use http_body_util::{Full, StreamBody};
use tokio::sync::mpsc;
use tonic::body::Body;

use crate::budget::Charge;

/// Copied, so that what the connection still holds of an answer is no more than two.
const SLICE: usize = 64 << 10;
/// As a page of a gRPC answer.
const STALL_MAX: Duration = Duration::from_secs(20);

/// The answer's body. One that is charged goes in slices, and its charge with the last.
pub(super) fn body(json: Bytes, charge: Option<Charge>) -> Body {
    match charge {
        None => Body::new(Full::new(json)),
        Some(charge) => sliced(json, charge, STALL_MAX),
    }
}

fn sliced(json: Bytes, charge: Charge, patience: Duration) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let len = json.len();
    tokio::spawn(async move {
        let _charge = charge;
        for slice in json.chunks(SLICE) {
            let sent = sender.send(Bytes::copy_from_slice(slice));
            if !matches!(tokio::time::timeout(patience, sent).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    let slices = stream::unfold((receiver, len), |(mut receiver, left)| async move {
        match receiver.recv().await {
            Some(slice) => {
                let left = left - slice.len();
                Some((Ok(HttpFrame::data(slice)), (receiver, left)))
            }
            None if left == 0 => None,
            // The end of a body would say that this was all.
            None => Some((Err(io::Error::from(io::ErrorKind::TimedOut)), (receiver, 0))),
        }
    });
    Body::new(StreamBody::new(slices))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::budget::Budget;

    async fn charged(patience: Duration) -> (Budget, Body, Bytes) {
        let budget = Budget::new(1 << 20, 1, patience);
        let json: Bytes = (0..300_000).map(|n| b'a' + (n % 26) as u8).collect();
        let charge = budget.take(json.len()).await.unwrap();
        let body = sliced(json.clone(), charge, patience);
        (budget, body, json)
    }

    #[tokio::test]
    async fn an_answer_comes_whole_and_gives_its_memory_back() {
        let (budget, body, json) = charged(Duration::from_secs(20)).await;
        assert!(budget.taken_bytes() > 0);
        assert_eq!(body.collect().await.unwrap().to_bytes(), json);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[tokio::test]
    async fn who_does_not_read_loses_the_answer_and_is_not_told_it_was_all() {
        let (budget, body, _) = charged(Duration::from_millis(20)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(budget.taken_bytes(), 0);
        assert!(body.collect().await.is_err());
    }
}
