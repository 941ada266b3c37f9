//! Who opens connections and is no member.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake::{Pair, SERVED};
use crate::fixture::Book;
use crate::limits::CONNECTIONS_MAX;
use crate::types::MemberId;
use crate::{Clients, PlainTcp, Standing};

const LIMIT: Duration = Duration::from_secs(5);

/// What a stranger says at first.
const SAID: [&[u8]; 4] = [
    b"",
    // As the beginning of a TLS handshake that does not go on.
    b"PRI * HT",
    // HTTP/2, with empty settings, and no call ever.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
];

async fn stranger(pair: &Pair, number: usize) -> TcpStream {
    let address = pair.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("accepted");
    let said = SAID[number % SAID.len()];
    stream.write_all(said).await.expect("written");
    stream
}

/// Whether the other end has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let ended = async {
        let mut read = [0; 1024];
        loop {
            if !matches!(stream.read(&mut read).await, Ok(bytes) if bytes > 0) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_millis(50), ended)
        .await
        .is_ok()
}

#[tokio::test]
async fn strangers_that_fill_the_port_keep_no_member_out() {
    let pair = Pair::start().await;
    let first = pair.client();
    assert_eq!(first.read_index(LIMIT).await, Ok(7));
    let mut strangers = Vec::new();
    for number in 0..CONNECTIONS_MAX * 2 {
        strangers.push(stranger(&pair, number).await);
    }
    // A member that is there already has kept its connection.
    assert_eq!(first.read_index(LIMIT).await, Ok(7));
    let lost = || pair.clients.activity(SERVED).lost;
    assert_eq!(lost(), 0, "its connection broke");
    // One that comes now is let in: here, who starts again.
    let again = Clients::new(
        pair.caller.clone(),
        std::sync::Arc::new(PlainTcp),
        Default::default(),
    );
    let again = again.member(SERVED, std::slice::from_ref(&pair.url));
    assert_eq!(again.read_index(LIMIT).await, Ok(7));
    // So is one that joins, and asks who the members are.
    let joining = Clients::new(
        Book::of(MemberId(0)),
        std::sync::Arc::new(PlainTcp),
        Default::default(),
    );
    pair.served.record(MemberId(0), Standing::Unknown);
    let joining = joining.anyone(std::slice::from_ref(&pair.url));
    assert!(joining.members(LIMIT).await.is_ok());
    assert!(is_closed(&mut strangers[0]).await, "who came first");
    let last = strangers.last_mut().expect("there are many");
    assert!(!is_closed(last).await, "who came last");
    // However many more come, those two stay as long as they are members.
    for number in 0..CONNECTIONS_MAX * 2 {
        strangers.push(stranger(&pair, number).await);
    }
    assert_eq!(first.read_index(LIMIT).await, Ok(7));
    assert_eq!(again.read_index(LIMIT).await, Ok(7));
    assert_eq!(lost(), 0, "its connection broke");
    assert!(pair.caller.refusals.lock().is_empty());
}
