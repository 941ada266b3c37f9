//! Whole servers: TLS below HTTP, both on one port, a client that mistakes the port.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::mpsc;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::home::Homes;
use crate::{Address, BindOptions, Handler, Limits, Notice, PeerInfo, Runtimes, Security};

/// More than sockets and TLS buffer together.
const LARGE: usize = 24 << 20;

/// Answers with who asks; `/large` with more than the socket takes at once.
#[derive(Clone)]
struct WhoAmI;

impl Handler for WhoAmI {
    fn call(
        &self,
        request: http::Request<hyper::body::Incoming>,
        peer: &PeerInfo,
    ) -> impl Future<Output = http::Response<tonic::body::Body>> + Send + 'static + use<> {
        let name = peer.identity.as_ref();
        let name = name.map_or("nobody", |identity| &identity.common_name);
        let text = format!("{name} {}", peer.is_tls);
        async move {
            let body = match request.uri().path() {
                "/large" => vec![7; LARGE],
                _ => text.into_bytes(),
            };
            http::Response::new(tonic::body::Body::new(Full::from(body)))
        }
    }
}

struct Served {
    runtimes: Runtimes,
    notices: mpsc::Receiver<Notice>,
    address: SocketAddr,
}

fn serve(security: Security) -> Served {
    let (_, inboxes) = Homes::new(2);
    let (sender, notices) = mpsc::channel();
    let notify = move |notice| drop(sender.send(notice));
    let runtimes = Runtimes::start(inboxes, Limits::default(), notify).unwrap();
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = runtimes.bind(&any, BindOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    runtimes.serve_secured(listener, security, WhoAmI);
    Served {
        runtimes,
        notices,
        address,
    }
}

async fn get(stream: Stream, path: &str) -> Vec<u8> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("https://x{path}"))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    body.to_bytes().to_vec()
}

fn url(scheme: &str, served: &Served) -> ListenUrl {
    ListenUrl::parse(&format!("{scheme}://{}", served.address)).unwrap()
}

#[tokio::test]
async fn http_knows_who_asks() {
    let authority = Authority::new();
    let served = serve(Security::Tls(acceptor(&authority.server_files())));
    let client = connector(&authority.client_files(&Wanted::default()));
    let stream = client.connect(&url("https", &served)).await.unwrap();
    assert_eq!(get(stream, "/").await, b"member true");
    tokio::task::spawn_blocking(|| served.runtimes.shutdown())
        .await
        .unwrap();
}

/// TLS takes more than the socket does: what it keeps has to be sent on when there is room.
#[tokio::test]
async fn an_answer_larger_than_every_buffer_arrives_whole() {
    let authority = Authority::new();
    let served = serve(Security::Tls(acceptor(&authority.server_files())));
    let client = connector(&authority.client_files(&Wanted::default()));
    for _ in 0..3 {
        let stream = client.connect(&url("https", &served)).await.unwrap();
        let body = tokio::time::timeout(LIMIT, get(stream, "/large")).await;
        let body = body.expect("the answer does not get stuck");
        assert!(body.len() == LARGE && body.iter().all(|byte| *byte == 7));
    }
    tokio::task::spawn_blocking(|| served.runtimes.shutdown())
        .await
        .unwrap();
}

#[tokio::test]
async fn one_port_serves_both() {
    let authority = Authority::new();
    let served = serve(Security::Either(acceptor(&authority.server_files())));
    let client = connector(&authority.client_files(&Wanted::default()));
    let stream = client.connect(&url("https", &served)).await.unwrap();
    assert_eq!(get(stream, "/").await, b"member true");
    let stream = client.connect(&url("http", &served)).await.unwrap();
    assert_eq!(get(stream, "/").await, b"nobody false");
    tokio::task::spawn_blocking(|| served.runtimes.shutdown())
        .await
        .unwrap();
}

#[test]
fn a_tls_client_of_a_plain_port_reads_an_end() {
    let served = serve(Security::Plain);
    let mut stream = std::net::TcpStream::connect(served.address).unwrap();
    // The beginning of a ClientHello, and more than is looked at.
    stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    stream.write_all(&[0; 506]).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("an end, not a reset");
    assert_eq!(said, b"");
    drop(stream);
    let notice = served.notices.recv_timeout(LIMIT).unwrap();
    assert!(
        matches!(&notice, Notice::Ended { error, .. } if error.contains("speaks TLS")),
        "{notice:?}"
    );
    served.runtimes.shutdown();
}

#[test]
fn a_handshake_that_fails_is_told_of() {
    let authority = Authority::new();
    let served = serve(Security::Tls(acceptor(&authority.server_files())));
    let mut stream = std::net::TcpStream::connect(served.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream
        .read_to_end(&mut Vec::new())
        .expect("an end, not a reset");
    drop(stream);
    let notice = served.notices.recv_timeout(LIMIT).unwrap();
    let Notice::HandshakeFailed { side, error, .. } = notice else {
        panic!("{notice:?}");
    };
    assert_eq!(side, Side::Client);
    assert_eq!(
        error.to_string(),
        "tls: first record does not look like a TLS handshake"
    );
    served.runtimes.shutdown();
}
