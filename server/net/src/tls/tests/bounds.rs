//! Clients that say nothing, too many of them, and such that speak something else.

use tokio::net::TcpStream;

use super::*;

/// The client sees an end, never a reset: what was said before arrives.
async fn reads_to_the_end(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let reading = stream.read_to_end(&mut said);
    let read = tokio::time::timeout(LIMIT, reading).await.unwrap();
    read.unwrap();
    said
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let authority = Authority::new();
    let short = Duration::from_millis(100);
    let acceptor = acceptor(&authority.server_files()).with_bounds(1, short);
    let (listener, url) = listen().await;
    let silent = TcpStream::connect(address(&url)).await.unwrap();
    let refused = accept_one(&listener, &acceptor).await;
    assert!(matches!(refused, Err(HandshakeError::TimedOut)));
    assert_eq!(reads_to_the_end(silent).await, b"");
}

#[tokio::test]
async fn handshakes_under_way_are_bounded_and_those_done_do_not_count() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.server_files()).with_bounds(1, LIMIT);
    let client = connector(&authority.client_files(&Wanted::default()));
    let (listener, url) = listen().await;
    let silent = TcpStream::connect(address(&url)).await.unwrap();
    let (stream, from) = listener.accept().await.unwrap();
    let mut under_way = Box::pin(acceptor.accept(Socket::Tcp(stream), PeerAddress::Tcp(from)));
    assert!(futures_util::poll!(&mut under_way).is_pending());
    let too_many = TcpStream::connect(address(&url)).await.unwrap();
    let refused = accept_one(&listener, &acceptor).await;
    assert!(matches!(refused, Err(HandshakeError::Busy)));
    assert_eq!(reads_to_the_end(too_many).await, b"");
    drop(silent);
    assert!(matches!(under_way.await, Err(HandshakeError::Gone)));
    let (first, _) = meet(&acceptor, &client).await;
    let (second, _) = meet(&acceptor, &client).await;
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_client_without_tls_reads_an_end() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.server_files());
    let (listener, url) = listen().await;
    let mut plain = TcpStream::connect(address(&url)).await.unwrap();
    plain
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let client = reads_to_the_end(plain);
    let (refused, said) = tokio::join!(accept_one(&listener, &acceptor), client);
    assert_eq!(
        text(refused),
        "tls: first record does not look like a TLS handshake"
    );
    assert!(!said.starts_with(b"HTTP"), "an alert, if anything");
}

fn address(url: &ListenUrl) -> String {
    let crate::config::Address::Tcp { host, port } = &url.address else {
        panic!("{url} is not one of TCP");
    };
    format!("{host}:{port}")
}
