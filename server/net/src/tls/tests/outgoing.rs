//! Whom a connector believes.

use super::*;

#[tokio::test]
async fn a_server_has_to_be_the_one_that_was_asked_for() {
    let authority = Authority::new();
    let mut files = authority.server_files();
    let elsewhere = Wanted {
        names: &["elsewhere.example"],
        ..Wanted::default()
    };
    let (cert, key) = authority.issue("elsewhere", &elsewhere);
    (files.cert, files.key) = (Some(cert), Some(key));
    let client = connector(&authority.client_files(&Wanted::default()));
    let (secured, stream) = meet(&acceptor(&files), &client).await;
    assert_eq!(text(secured), "remote error: tls: bad certificate");
    let refusal = text(stream);
    assert!(refusal.contains("elsewhere.example"), "{refusal}");
    assert!(refusal.starts_with("tls: failed to verify certificate"));
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut files = authority.client_files(&Wanted::default());
    files.trusted_ca = Some(other.path("ca.pem"));
    let server = acceptor(&authority.server_files());
    let (_, stream) = meet(&server, &connector(&files)).await;
    assert_eq!(
        text(stream),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    files.trusted_ca = Some(authority.path("ca.pem"));
    files.allowed_common_names = vec!["somebody else".to_owned()];
    let (_, stream) = meet(&server, &connector(&files)).await;
    assert_eq!(text(stream), "client certificate authentication failed");
    files.allowed_common_names = vec!["member".to_owned()];
    meet(&server, &connector(&files)).await.1.unwrap();
}

#[tokio::test]
async fn a_revoked_server_is_not_believed() {
    let authority = Authority::new();
    let mut files = authority.client_files(&Wanted::default());
    files.crl = Some(authority.path("crl"));
    let revoked = authority.revoke(&[Wanted::default().serial]);
    std::fs::write(authority.path("crl"), revoked.der()).unwrap();
    let server = acceptor(&authority.server_files());
    let (_, stream) = meet(&server, &connector(&files)).await;
    assert_eq!(text(stream), "transport: certificate revoked");
}

#[tokio::test]
async fn a_certificate_for_connections_is_preferred() {
    let authority = Authority::new();
    let mut files = authority.client_files(&Wanted::default());
    let own = Wanted {
        common_name: "for connections",
        ..Wanted::default()
    };
    let (cert, key) = authority.issue("outgoing", &own);
    (files.client_cert, files.client_key) = (Some(cert), Some(key));
    let server = acceptor(&authority.server_files());
    let (secured, _) = meet(&server, &connector(&files)).await;
    let identity = secured.unwrap().identity.unwrap();
    assert_eq!(identity.common_name, "for connections");
}

#[tokio::test]
async fn a_plain_connector_connects_without_tls_and_not_with_it() {
    let (listener, url) = listen().await;
    let refused = Connector::plain().connect(&url).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    let plain = ListenUrl::parse(&url.to_string().replace("https", "http")).unwrap();
    let stream = Connector::plain().connect(&plain).await.unwrap();
    assert!(matches!(stream, Stream::Plain(Socket::Tcp(_))));
    drop(listener);
}
