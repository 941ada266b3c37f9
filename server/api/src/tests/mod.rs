//! The edge over real HTTP/2, with a fake core.

mod calls;
mod pages;
mod surface;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Config, Edge};
use crate::fake::Fake;
use crate::home::Homes;
use crate::net::{Address, BindOptions, Limits, Listener, Runtimes};

/// A server of a fake core.
struct Server {
    runtimes: Option<Runtimes>,
    address: SocketAddr,
    fake: Arc<Fake>,
    client: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Server {
        Server::with(Config::default())
    }

    fn with(config: Config) -> Server {
        Server::of(config, |edge, runtimes, listener| {
            runtimes.serve(listener, edge);
        })
    }

    /// A server whose listener is served as `serve` does it.
    fn of(config: Config, serve: impl FnOnce(Edge<Fake>, &Runtimes, Listener)) -> Server {
        let (_, inboxes) = Homes::new(1);
        let runtimes = Runtimes::start(inboxes, Limits::default(), |_| {}).unwrap();
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = runtimes.bind(&any, BindOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Arc::new(Fake::default());
        serve(Edge::new(Arc::clone(&fake), config), &runtimes, listener);
        let client = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Server {
            runtimes: Some(runtimes),
            address,
            fake,
            client,
        }
    }

    /// Runs a client's calls.
    fn calls<T>(&self, calls: impl AsyncFnOnce(Channel) -> T) -> T {
        self.client.block_on(async {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
            calls(endpoint.connect().await.unwrap()).await
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtimes) = self.runtimes.take() {
            runtimes.shutdown();
        }
    }
}

/// A codec of plain bytes.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = source.remaining();
        Ok(Some(source.copy_to_bytes(len)))
    }
}

/// Makes a unary call by its path.
async fn raw_call(channel: &Channel, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    Ok(client
        .unary(tonic::Request::new(message), path, Raw)
        .await?
        .into_inner())
}

/// The code and the text of a refusal.
fn refusal<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("a refusal");
    (status.code(), status.message().to_owned())
}
