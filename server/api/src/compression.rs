//! Messages that a client has compressed: gzip, as etcd takes it. Answers to calls are not compressed,
//! which every client takes; the page of metrics is, for who asks for it.
//!
//! Invariant: what a message becomes is bounded before it is made, whatever its bytes say.

use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use http_body::{Body, Frame as HttpFrame};
use tonic::Status;

use super::error::Refusal;
use crate::codec::PREFIX_LEN;

/// The header that names it.
pub(super) const HEADER: &str = "grpc-encoding";

/// How a call's messages may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// Each message that says so, with gzip.
    Gzip,
}

impl Encoding {
    /// What a request's headers say.
    ///
    /// # Errors
    /// They name one that is not known.
    pub(super) fn of(headers: &HeaderMap) -> Result<Encoding, Refusal> {
        match headers.get(HEADER).map(|value| value.as_bytes()) {
            None | Some(b"" | b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => Err(Refusal::unknown_encoding(&String::from_utf8_lossy(other))),
        }
    }

    /// A message with its prefix's first byte, as it was before it was compressed.
    ///
    /// # Errors
    /// It is compressed in no way that was named, damaged, or larger than `max` when it is whole.
    pub(super) fn open(self, flag: u8, message: Bytes, max: usize) -> Result<Bytes, Refusal> {
        match (flag, self) {
            (0, _) => Ok(message),
            (1, Encoding::Gzip) => inflate(&message, max),
            (1, Encoding::Identity) => Err(Refusal::COMPRESSED_WITHOUT_ENCODING),
            (flag, _) => Err(Refusal::unexpected_payload_format(flag)),
        }
    }
}

/// Whether a page may be compressed for whoever sent these headers.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let named = headers.get_all(ACCEPT_ENCODING);
    let named = named.iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|text| text.split(',')).any(|part| {
        let (name, weight) = part.split_once(';').unwrap_or((part, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim() == "gzip"
            && weight
                .trim()
                .parse::<f64>()
                .is_ok_and(|weight| weight > 0.0)
    })
}

/// A page, compressed quickly.
pub(super) fn gzip(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(page).and_then(|()| encoder.finish());
    written.expect("memory takes what is written to it")
}

fn inflate(message: &[u8], max: usize) -> Result<Bytes, Refusal> {
    let mut whole = Vec::new();
    // One byte more than is allowed tells that there are more.
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut source = MultiGzDecoder::new(message).take(bound);
    source
        .read_to_end(&mut whole)
        .map_err(|error| Refusal::undecompressible(&error))?;
    if whole.len() > max {
        return Err(Refusal::too_large_when_decompressed(whole.len(), max));
    }
    Ok(whole.into())
}

/// A stream's messages, not compressed any more. What comes in is gathered up to one message.
pub(super) struct Opened<B> {
    body: B,
    encoding: Encoding,
    max: usize,
    gathered: BytesMut,
    ended: bool,
}

impl<B> Opened<B> {
    /// The messages in `body`, each of at most `max` bytes.
    pub(super) fn new(body: B, encoding: Encoding, max: usize) -> Opened<B> {
        Opened {
            body,
            encoding,
            max,
            gathered: BytesMut::new(),
            ended: false,
        }
    }

    /// The next whole message with its prefix, if it is there.
    fn next_message(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(mut prefix) = self.gathered.get(..PREFIX_LEN) else {
            return Ok(None);
        };
        let flag = prefix.get_u8();
        let len = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(Refusal::message_too_large(len, self.max));
        }
        if self.gathered.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let message = self.gathered.split_to(PREFIX_LEN + len).freeze();
        let message = message.slice(PREFIX_LEN..);
        let message = self.encoding.open(flag, message, self.max)?;
        let mut framed = BytesMut::with_capacity(PREFIX_LEN + message.len());
        framed.put_u8(0);
        // `max` is less than what a message can carry.
        framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        framed.extend_from_slice(&message);
        Ok(Some(framed.freeze()))
    }
}

/// What broke a body: a refusal of whoever looked at it before, or the connection.
fn of_body(error: impl std::error::Error + 'static) -> Status {
    let refused = (&error as &dyn std::error::Error).downcast_ref::<Status>();
    let refused = refused.map(|status| Status::new(status.code(), status.message()));
    refused.unwrap_or_else(|| Refusal::transport(&error).into_status())
}

impl<B> Body for Opened<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, Status>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.next_message() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(HttpFrame::data(message)))),
                Ok(None) => {}
                Err(refusal) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(refusal.into_status())));
                }
            }
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.ended = true;
                    let rest = std::mem::take(&mut self.gathered).freeze();
                    // A message that broke off: tonic says of it what it says of every one.
                    let rest = (!rest.is_empty()).then(|| Ok(HttpFrame::data(rest)));
                    return Poll::Ready(rest);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(of_body(error))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.gathered.extend_from_slice(&data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut out = vec![flag];
        out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        out.extend_from_slice(message);
        out
    }

    #[test]
    fn a_message_is_whole_again_up_to_the_limit() {
        let message = vec![7; 1000];
        let open = |flag, bytes: Vec<u8>, max| Encoding::Gzip.open(flag, bytes.into(), max);
        assert_eq!(open(1, gzip(&message), 1000).unwrap(), message);
        assert_eq!(open(0, message.clone(), 1000).unwrap(), message);
        let refused = open(1, gzip(&message), 999).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        for damaged in [
            b"no gzip".to_vec(),
            gzip(&message)[..20].to_vec(),
            Vec::new(),
        ] {
            let refused = open(1, damaged, 1000).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Internal);
        }
        let refused = Encoding::Identity.open(1, gzip(&message).into(), 1000);
        assert_eq!(refused, Err(Refusal::COMPRESSED_WITHOUT_ENCODING));
    }

    #[test]
    fn a_bomb_is_not_blown_up() {
        // 64 MiB of zeroes in 64 kB.
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        let refused = Encoding::Gzip.open(1, bomb.into(), 2 << 20).unwrap_err();
        let text = format!("({} vs. {})", (2 << 20) + 1, 2 << 20);
        assert!(refused.to_string().contains(&text), "{refused}");
    }

    #[tokio::test]
    async fn a_stream_is_opened_message_by_message_wherever_it_is_cut() {
        let mixed = [
            framed(1, &gzip(b"first")),
            framed(0, b"second"),
            framed(1, &gzip(b"")),
        ]
        .concat();
        let wanted = [framed(0, b"first"), framed(0, b"second"), framed(0, b"")].concat();
        for piece in [1, 3, 7, mixed.len()] {
            let pieces = mixed.chunks(piece).map(Bytes::copy_from_slice);
            let frames: Vec<_> = pieces
                .map(|piece| Ok::<_, std::io::Error>(HttpFrame::data(piece)))
                .collect();
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let opened = Opened::new(body, Encoding::Gzip, 100);
            assert_eq!(opened.collect().await.unwrap().to_bytes(), wanted);
        }
        let large = framed(1, &gzip(&[1; 500]));
        let frames = vec![Ok::<_, std::io::Error>(HttpFrame::data(large.into()))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let refused = Opened::new(body, Encoding::Gzip, 100).collect().await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
}
