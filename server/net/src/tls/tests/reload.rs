//! Files that change under a running server.

use super::*;

fn serial_of(certificate: &Path) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    let pem = std::fs::read(certificate).unwrap();
    let der = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
    PeerIdentity::read(&der).unwrap().serial
}

/// The serial number of the certificate that the server shows.
fn shown(stream: &Stream) -> Vec<u8> {
    let Stream::Tls(stream) = stream else {
        panic!("the connection has no TLS");
    };
    let presented = stream.get_ref().1.peer_certificates().unwrap();
    PeerIdentity::read(&presented[0]).unwrap().serial
}

/// Both ends still hear each other.
async fn still_talk(server: &mut Stream, client: &mut Stream) {
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut *server, &mut *client];
        ends[from].write_all(b"ping").await.unwrap();
        ends[from].flush().await.unwrap();
        let mut heard = [0; 4];
        ends[to].read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_from_the_next_handshake_on() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.server_files());
    let client = connector(&authority.client_files(&Wanted::default()));
    let (before, mut before_client) = meet(&acceptor, &client).await;
    let fresh = Wanted {
        serial: 9,
        ..Wanted::default()
    };
    authority.issue("server", &fresh);
    acceptor.reload();
    let (after, after_client) = meet(&acceptor, &client).await;
    assert_eq!(shown(before_client.as_ref().unwrap()), [0x12, 0x67]);
    assert_eq!(shown(after_client.as_ref().unwrap()), [9]);
    after.unwrap();
    still_talk(&mut before.unwrap().stream, before_client.as_mut().unwrap()).await;
}

#[tokio::test]
async fn a_new_authority_counts_and_the_old_one_no_more() {
    let (old, new) = (Authority::new(), Authority::new());
    let acceptor = acceptor(&old.server_files());
    let old_client = connector(&old.client_files(&Wanted::default()));
    let mut files = new.client_files(&Wanted::default());
    files.trusted_ca = Some(old.path("both.pem"));
    std::fs::write(old.path("both.pem"), &old.bundle).unwrap();
    let new_client = connector(&files);
    let (before, before_client) = meet(&acceptor, &old_client).await;
    assert!(meet(&acceptor, &new_client).await.0.is_err());

    // Both during the change, then the new one alone.
    replace(&old.path("ca.pem"), format!("{}{}", old.bundle, new.bundle));
    acceptor.reload();
    assert!(meet(&acceptor, &old_client).await.0.is_ok());
    assert!(meet(&acceptor, &new_client).await.0.is_ok());
    replace(&old.path("ca.pem"), &new.bundle);
    acceptor.reload();
    let (refused, _) = meet(&acceptor, &old_client).await;
    assert!(text(refused).ends_with("signed by unknown authority"));
    assert!(meet(&acceptor, &new_client).await.0.is_ok());
    still_talk(&mut before.unwrap().stream, &mut before_client.unwrap()).await;
    assert_eq!(acceptor.reloads_failed(), 0);
}

#[tokio::test]
async fn a_list_that_revokes_counts_without_a_restart() {
    let authority = Authority::new();
    let wanted = Wanted::default();
    let mut files = authority.server_files();
    files.crl = Some(authority.path("crl"));
    std::fs::write(authority.path("crl"), authority.revoke(&[]).der()).unwrap();
    let acceptor = acceptor(&files);
    let client = connector(&authority.client_files(&wanted));
    assert!(meet(&acceptor, &client).await.0.is_ok());
    replace(
        &authority.path("crl"),
        authority.revoke(&[wanted.serial]).der(),
    );
    acceptor.reload();
    let (refused, _) = meet(&acceptor, &client).await;
    assert_eq!(text(refused), "transport: certificate revoked");
}

#[tokio::test]
async fn broken_files_leave_the_last_good_ones_in_use() {
    let authority = Authority::new();
    let files = authority.server_files();
    let acceptor = acceptor(&files);
    let client = connector(&authority.client_files(&Wanted::default()));
    let (certificate, key) = (files.cert.unwrap(), files.key.unwrap());
    let good = std::fs::read(&certificate).unwrap();
    let fresh = Wanted {
        serial: 9,
        ..Wanted::default()
    };
    let (fresh_certificate, fresh_key) = authority.issue("fresh", &fresh);

    std::fs::remove_file(&certificate).unwrap();
    acceptor.reload();
    replace(&certificate, &good[..good.len() / 2]);
    acceptor.reload();
    // A certificate without its key, as it is for a moment in many a rotation.
    std::fs::copy(&fresh_certificate, &certificate).unwrap();
    acceptor.reload();
    acceptor.reload();
    assert_eq!(acceptor.reloads_failed(), 3, "each kind of breakage once");
    let (secured, stream) = meet(&acceptor, &client).await;
    assert!(secured.is_ok());
    assert_eq!(shown(&stream.unwrap()), [0x12, 0x67]);

    std::fs::copy(&fresh_key, &key).unwrap();
    acceptor.reload();
    let (_, stream) = meet(&acceptor, &client).await;
    assert_eq!(shown(&stream.unwrap()), serial_of(&fresh_certificate));
}

#[tokio::test]
async fn nobody_has_to_ask_for_a_reload() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.server_files());
    let client = connector(&authority.client_files(&Wanted::default()));
    let fresh = Wanted {
        serial: 9,
        ..Wanted::default()
    };
    authority.issue("server", &fresh);
    let until_shown = async {
        loop {
            let (_, stream) = meet(&acceptor, &client).await;
            if shown(&stream.unwrap()) == [9] {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, until_shown).await.unwrap();
}

#[tokio::test]
async fn a_connector_takes_its_new_files_too() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = acceptor(&new.server_files());
    let mut files = old.client_files(&Wanted::default());
    let client = connector(&files);
    assert!(meet(&server, &client).await.1.is_err());
    let fresh = new.client_files(&Wanted::default());
    for (from, to) in [
        (fresh.cert, files.cert.take()),
        (fresh.key, files.key.take()),
        (fresh.trusted_ca, files.trusted_ca.take()),
    ] {
        replace(&to.unwrap(), std::fs::read(from.unwrap()).unwrap());
    }
    client.reload();
    let (secured, stream) = meet(&server, &client).await;
    assert_eq!(secured.unwrap().identity.unwrap().common_name, "member");
    stream.unwrap();
}
