//! What no well-behaved client sends: calls with arbitrary bytes for a message, and HTTP/2 frames
//! written by hand on a TCP connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::prost::bytes::{Buf as _, BufMut as _};

/// What every HTTP/2 client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types of RFC 9113.
pub mod frame_type {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}
/// Flag of DATA and HEADERS: the stream ends.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION: the header block ends.
pub const END_HEADERS: u8 = 4;

/// How long a server may take to end a connection that broke the protocol.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A unary call whose message is `message` as it stands, valid or not; returns the answer's bytes.
///
/// # Errors
/// The server's or the transport's.
pub async fn call(channel: Channel, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let path = path.parse().expect("the path of a method");
    let answer = grpc.unary(Request::new(message), path, Verbatim).await?;
    Ok(answer.into_inner())
}

/// Messages are bytes, passed on unread.
struct Verbatim;

impl Codec for Verbatim {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Verbatim {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; source.remaining()];
        source.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

/// One HTTP/2 frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length has 24 bits");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block in HPACK's plainest form: every field a literal, never indexed, not compressed.
pub fn header_block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        push_string(&mut block, name.as_bytes());
        push_string(&mut block, value);
    }
    block
}

/// HPACK's string: a length with a prefix of 7 bits, then the bytes.
fn push_string(block: &mut Vec<u8>, bytes: &[u8]) {
    const PREFIX_MAX: usize = 127;
    if bytes.len() < PREFIX_MAX {
        block.push(u8::try_from(bytes.len()).expect("less than 127"));
    } else {
        block.push(127);
        let mut rest = bytes.len() - PREFIX_MAX;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).expect("less than 128") | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).expect("less than 128"));
    }
    block.extend(bytes);
}

/// The fields of a gRPC call of `path`, with `more` after them.
pub fn grpc_fields<'a>(path: &'a str, more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    let mut fields: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    fields.extend(more);
    fields
}

/// Preface, settings, and one gRPC call on stream 1, whose body is `body` as it stands.
pub fn grpc_call(path: &str, more: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let fields = header_block(&grpc_fields(path, more));
    [
        PREFACE.to_vec(),
        frame(frame_type::SETTINGS, 0, 0, &[]),
        frame(frame_type::HEADERS, END_HEADERS, 1, &fields),
        frame(frame_type::DATA, END_STREAM, 1, body),
    ]
    .concat()
}

/// What became of a connection.
#[derive(Debug)]
pub struct Exchange {
    /// What the server sent.
    pub received: Vec<u8>,
    /// Whether it ended the connection within the time.
    pub closed: bool,
}

/// Sends bytes and reads until the server closes the connection or `patience` is over.
///
/// # Panics
/// If no connection is to be had.
pub fn send_raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> Exchange {
    let connection = TcpStream::connect_timeout(&address, CLOSE_LIMIT);
    let mut connection = connection.unwrap_or_else(|error| panic!("{address}: {error}"));
    let short = Some(Duration::from_millis(50));
    connection
        .set_read_timeout(short)
        .expect("a timeout can be set");
    connection
        .set_write_timeout(Some(CLOSE_LIMIT))
        .expect("a timeout can be set");
    // The server may hang up before it has read everything: that is an answer, not our error.
    let _ = connection.write_all(bytes);
    let deadline = Instant::now() + patience;
    let mut received = Vec::new();
    let mut block = [0; 16 * 1024];
    while Instant::now() < deadline {
        match connection.read(&mut block) {
            Ok(0) => {
                return Exchange {
                    received,
                    closed: true,
                };
            }
            Ok(count) => received.extend(&block[..count]),
            Err(error) if is_timeout(&error) => {}
            Err(_) => {
                return Exchange {
                    received,
                    closed: true,
                };
            }
        }
    }
    Exchange {
        received,
        closed: false,
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
