//! Plain HTTP on the peer port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake::Pair;

async fn ask(pair: &Pair, line: &str) -> String {
    let address = pair.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    answer
}

#[tokio::test]
async fn members_are_listed_as_etcd_lists_them() {
    let pair = Pair::start().await;
    let answer = ask(&pair, "GET /members").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("X-Etcd-Cluster-Id: c\r\n"), "{answer}");
    let expected = "[{\"id\":10,\"peerURLs\":[\"http://127.0.0.1:2380\"],\"name\":\"a\"},\
        {\"id\":11,\"peerURLs\":[\"http://127.0.0.1:2380\"],\"isLearner\":true}]\n";
    assert!(answer.ends_with(expected), "{answer}");
}

#[tokio::test]
async fn the_version_is_told() {
    let pair = Pair::start().await;
    let answer = ask(&pair, "GET /version").await;
    let expected = format!(
        "{{\"etcdserver\":\"{}\",\"etcdcluster\":\"3.7.0\",\"storage\":\"unknown\"}}",
        crate::config::ETCD_VERSION
    );
    assert!(answer.ends_with(&expected), "{answer}");
}

#[tokio::test]
async fn a_downgrade_is_told() {
    let pair = Pair::start().await;
    let answer = ask(&pair, "GET /downgrade/enabled").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("X-Etcd-Cluster-Id: c\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\ntrue"), "{answer}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let pair = Pair::start().await;
    assert!(ask(&pair, "GET /health").await.starts_with("HTTP/1.1 404"));
    assert!(
        ask(&pair, "POST /members")
            .await
            .starts_with("HTTP/1.1 405")
    );
}
