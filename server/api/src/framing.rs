//! Unary calls on the wire: reading the one request, sending the one answer.
//!
//! tonic's codec would copy every answer into its own buffer, split it from its trailers and word
//! the limits in its own way. Here an answer is the frame that `codec` wrote, and its trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as HttpBody, Frame as HttpFrame, SizeHint};
use http_body_util::BodyExt;
use tonic::body::Body;

use super::charged::Memory;
use super::compression::Encoding;
use super::error::Refusal;
use crate::codec::{BrokenOff, Frame, PREFIX_LEN, Pages, Piece};

/// Reads the one message of a unary call, of at most `max` bytes, compressed and whole. One that
/// came in one piece and is not compressed is not copied; any other is charged before it is gathered.
///
/// # Errors
/// It is larger, compressed in a way that was not named, missing, there is no memory for it, or the
/// connection broke.
pub(super) async fn read_unary<B>(
    mut body: B,
    encoding: Encoding,
    max: usize,
    memory: &Memory,
) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error,
{
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    let mut charge = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::transport(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.is_empty() && gathered.is_empty() {
            first = data;
        } else {
            gathered.extend_from_slice(&first);
            first = Bytes::new();
            gathered.extend_from_slice(&data);
        }
        let so_far = if gathered.is_empty() {
            &first[..]
        } else {
            &gathered[..]
        };
        // Checked with every piece: a message beyond the limit is never gathered.
        let Some(len) = message_len(so_far, max)? else {
            continue;
        };
        let missing = (PREFIX_LEN + len).saturating_sub(so_far.len());
        if missing == 0 {
            break;
        }
        if charge.is_none() {
            charge = Some(memory.take(len).await.map_err(|_| Refusal::OVERLOADED)?);
            gathered.reserve(missing + first.len());
        }
    }
    let whole = match gathered.is_empty() {
        true => first,
        false => gathered.freeze(),
    };
    let len = message_len(&whole, max)?.ok_or(Refusal::REQUEST_MISSING)?;
    if whole.len() < PREFIX_LEN + len {
        return Err(Refusal::REQUEST_CUT_SHORT);
    }
    let flag = whole[0];
    encoding.open(flag, whole.slice(PREFIX_LEN..PREFIX_LEN + len), max)
}

/// The message's length, once its prefix is there.
fn message_len(bytes: &[u8], max: usize) -> Result<Option<usize>, Refusal> {
    let Some(mut prefix) = bytes.get(..PREFIX_LEN) else {
        return Ok(None);
    };
    // Whether it is compressed: looked at once it is there.
    prefix.advance(1);
    let len = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
    if len > max {
        return Err(Refusal::message_too_large(len, max));
    }
    Ok(Some(len))
}

/// A successful unary answer.
pub(super) fn answer(frame: Frame) -> Response<Body> {
    let (first, more, pages) = frame.into_pieces();
    let body = UnaryBody {
        first: Some(first),
        more,
        pages,
        run_left: 0,
        trailers: true,
    };
    let mut response = Response::new(Body::new(body));
    let content_type = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, content_type);
    response
}

/// An answer's pieces, then the trailers that say all went well. What its runs hold is asked for
/// when the client has room for it.
struct UnaryBody {
    first: Option<Bytes>,
    more: std::vec::IntoIter<Piece>,
    pages: Option<Pages>,
    /// What is to come of the run under way, bytes.
    run_left: usize,
    trailers: bool,
}

impl UnaryBody {
    /// The next bytes; none at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        while self.run_left == 0 {
            match self.more.next() {
                None => return Poll::Ready(None),
                Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Piece::Run(bytes)) => self.run_left = bytes,
            }
        }
        let Some(Pages(pages)) = &mut self.pages else {
            return Poll::Ready(Some(Err(BrokenOff)));
        };
        let page = match ready!(pages.as_mut().poll_next(cx)) {
            Some(Ok(page)) => page,
            Some(Err(_)) | None => return Poll::Ready(Some(Err(BrokenOff))),
        };
        // The length was promised before the first byte: a page too many would be taken for the
        // next field.
        match self.run_left.checked_sub(page.len()) {
            Some(left) => self.run_left = left,
            None => return Poll::Ready(Some(Err(BrokenOff))),
        }
        Poll::Ready(Some(Ok(page)))
    }
}

impl HttpBody for UnaryBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, BrokenOff>>> {
        if let Some(piece) = ready!(self.poll_piece(cx)) {
            return Poll::Ready(Some(piece.map(HttpFrame::data)));
        }
        if !std::mem::take(&mut self.trailers) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(HttpFrame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        !self.trailers
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Digits of a time limit at most, with its unit.
const TIMEOUT_LEN_MAX: usize = 9;

/// The client's deadline (`grpc-timeout`), where it set one.
pub(super) fn deadline(headers: &HeaderMap) -> Option<Duration> {
    time_limit(headers.get("grpc-timeout")?.as_bytes()).ok()
}

/// A time limit: up to eight digits and a unit. Else what is wrong with it, in grpc-go's words (`decodeTimeout`).
pub(super) fn time_limit(given: &[u8]) -> Result<Duration, String> {
    let wrong = |how: &str| {
        let text = String::from_utf8_lossy(given);
        Err(format!("transport: timeout {how}: {text:?}"))
    };
    if given.len() > TIMEOUT_LEN_MAX {
        return wrong("string is too long");
    }
    let Some((unit, digits @ [_, ..])) = given.split_last() else {
        return wrong("string is too short");
    };
    let of: fn(u64) -> Duration = match unit {
        b'H' => |count| Duration::from_secs(count * 3600),
        b'M' => |count| Duration::from_secs(count * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return wrong("unit is not recognized"),
    };
    let digits = String::from_utf8_lossy(digits);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(count) if is_number => Ok(of(count)),
        _ => Err(format!(
            "strconv.ParseUint: parsing {digits:?}: invalid syntax"
        )),
    }
}
