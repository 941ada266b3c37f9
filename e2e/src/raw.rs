//! A gRPC client that is not bound to behave: its calls need not end, its answers need not be read.

use std::net::SocketAddr;

use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic_prost::prost::Message;
use tonic_prost::prost::bytes::{BufMut as _, Bytes, BytesMut};

use crate::wallet::Wallet;

/// What a client that reads grants at once, a stream and a connection. Bytes.
const WIDE_STREAM: u32 = 1 << 20;
const WIDE_CONNECTION: u32 = 16 << 20;

/// One connection.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
}

/// A call that was begun.
pub struct Call {
    answer: ResponseFuture,
    /// Kept, so that the request stays open.
    pub request: SendStream<Bytes>,
}

/// An answer that was read to its end and thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Bytes of messages.
    pub bytes: u64,
    /// gRPC's status code as it was sent, or what broke the call.
    pub status: String,
    /// gRPC's status message.
    pub message: String,
}

async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let set = stream.set_nodelay(true);
    set.map_err(|error| error.to_string())?;
    Ok(stream)
}

impl Connection {
    /// Opens a connection: with small windows (64 KiB, as the protocol has them), or wide ones.
    ///
    /// # Errors
    /// The transport's, as text.
    pub async fn open(address: SocketAddr, is_wide: bool) -> Result<Self, String> {
        Self::over(dial(address).await?, is_wide).await
    }

    /// Opens a connection over TLS, with the wallet's certificate and wide windows.
    ///
    /// # Errors
    /// The transport's, as text.
    pub async fn open_securely(address: SocketAddr, wallet: &Wallet) -> Result<Self, String> {
        let connector = TlsConnector::from(wallet.client());
        let stream = dial(address).await?;
        let secured = connector.connect(address.ip().into(), stream).await;
        Self::over(secured.map_err(|error| error.to_string())?, true).await
    }

    async fn over<IO>(stream: IO, is_wide: bool) -> Result<Self, String>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder.initial_max_send_streams(usize::MAX >> 1);
        if is_wide {
            builder.initial_window_size(WIDE_STREAM);
            builder.initial_connection_window_size(WIDE_CONNECTION);
        }
        let opened = builder.handshake::<_, Bytes>(stream).await;
        let (sender, connection) = opened.map_err(|error| error.to_string())?;
        // It ends with the last handle, or when the server ends it.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Begins a call with these bytes for a body, as they stand. The body ends with them, or is left
    /// open.
    ///
    /// # Errors
    /// The connection's, as text; a server that takes no more streams is waited for.
    pub async fn begin(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        ends: bool,
    ) -> Result<Call, String> {
        let ready = self.sender.clone().ready().await;
        let mut sender = ready.map_err(|error| error.to_string())?;
        let mut request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(()).expect("a well-formed request");
        let sent = sender.send_request(request, false);
        let (answer, mut stream) = sent.map_err(|error| error.to_string())?;
        let sent = stream.send_data(body, ends);
        sent.map_err(|error| error.to_string())?;
        Ok(Call {
            answer,
            request: stream,
        })
    }

    /// Makes a unary call and reads its answer to the end.
    ///
    /// # Errors
    /// The connection's, as text.
    pub async fn call(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        message: &impl Message,
    ) -> Result<Ended, String> {
        let call = self.begin(path, headers, framed(message), true).await?;
        Ok(call.read_to_the_end().await)
    }
}

impl Call {
    /// Waits for the head of the answer and reads nothing after it: keep what is returned.
    ///
    /// # Errors
    /// The connection's, as text.
    pub async fn head(self) -> Result<(RecvStream, SendStream<Bytes>), String> {
        let answer = self.answer.await.map_err(|error| error.to_string())?;
        Ok((answer.into_body(), self.request))
    }

    /// Reads the one message of the answer.
    ///
    /// # Errors
    /// How it ended instead.
    pub async fn message<T: Message + Default>(self) -> Result<T, Ended> {
        let mut whole = Vec::new();
        let ended = self.read(|piece| whole.extend_from_slice(piece)).await;
        // gRPC's frame: whether it is compressed, and the length.
        let message = whole.get(5..).and_then(|bytes| T::decode(bytes).ok());
        message.ok_or(ended)
    }

    /// Reads the answer and throws it away.
    pub async fn read_to_the_end(self) -> Ended {
        self.read(|_| {}).await
    }

    async fn read(self, mut take: impl FnMut(&[u8])) -> Ended {
        let broken = |bytes: u64, error: h2::Error| Ended {
            bytes,
            status: error.to_string(),
            message: String::new(),
        };
        let answer = match self.answer.await {
            Ok(answer) => answer,
            Err(error) => return broken(0, error),
        };
        let mut head = answer.headers().clone();
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(piece) = body.data().await {
            let piece = match piece {
                Ok(piece) => {
                    take(&piece);
                    piece.len()
                }
                Err(error) => return broken(bytes, error),
            };
            bytes += u64::try_from(piece).expect("a piece is small");
            if let Err(error) = body.flow_control().release_capacity(piece) {
                return broken(bytes, error);
            }
        }
        match body.trailers().await {
            Ok(trailers) => head.extend(trailers.unwrap_or_default()),
            Err(error) => return broken(bytes, error),
        }
        let text = |name: &str| {
            let value = head.get(name).map(|value| value.as_bytes().to_vec());
            String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
        };
        Ended {
            bytes,
            status: text("grpc-status"),
            message: text("grpc-message"),
        }
    }
}

/// A message as gRPC frames it.
pub fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    framed_bytes(&encoded)
}

/// Bytes as gRPC frames a message, whatever they are.
///
/// # Panics
/// If there are more than 4 GiB.
pub fn framed_bytes(encoded: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(encoded.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(encoded.len()).expect("a message below 4 GiB"));
    frame.put_slice(encoded);
    frame.freeze()
}
