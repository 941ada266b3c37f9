//! Who is let in, who is not, and what each end is told.

use sha2::{Digest as _, Sha256};

use super::*;

#[tokio::test]
async fn a_client_with_a_certificate_is_let_in_and_known() {
    let authority = Authority::new();
    let names = ["client.example", "127.0.0.1", "::1"];
    let wanted = Wanted {
        common_name: "alice",
        names: &names,
        ..Wanted::default()
    };
    let client = connector(&authority.client_files(&wanted));
    let (secured, stream) = meet(&acceptor(&authority.server_files()), &client).await;
    let identity = secured.unwrap().identity.unwrap();
    assert_eq!(identity.common_name, "alice");
    assert_eq!(identity.dns_names, ["client.example"]);
    let addresses: Vec<String> = identity
        .ip_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["127.0.0.1", "::1"]);
    assert_eq!(identity.serial, [0x12, 0x67]);
    let pem = std::fs::read(authority.path("client.pem")).unwrap();
    let der = {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()
    };
    assert_eq!(identity.fingerprint[..], Sha256::digest(&der)[..]);
    stream.unwrap();
}

#[tokio::test]
async fn without_client_auth_nobody_is_asked() {
    let authority = Authority::new();
    let mut files = authority.server_files();
    (files.client_cert_auth, files.trusted_ca) = (false, None);
    let client = connector(&authority.client_files(&Wanted::default()));
    let (secured, stream) = meet(&acceptor(&files), &client).await;
    assert_eq!(secured.unwrap().identity, None);
    stream.unwrap();
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_and_told_so() {
    let authority = Authority::new();
    // As in etcd, the CA alone asks for it.
    let mut files = authority.server_files();
    files.client_cert_auth = false;
    let acceptor = acceptor(&files);
    let (secured, stream) = meet(&acceptor, &connector(&authority.anonymous_files())).await;
    assert_eq!(text(secured), "tls: client didn't provide a certificate");
    assert_eq!(text(stream), "remote error: tls: certificate required");
    assert_eq!(acceptor.handshakes_failed(), 1);
}

#[tokio::test]
async fn certificates_of_others_and_of_yesterday_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let acceptor = acceptor(&authority.server_files());
    let mut foreign = other.client_files(&Wanted::default());
    foreign.trusted_ca = Some(authority.path("ca.pem"));
    let (secured, stream) = meet(&acceptor, &connector(&foreign)).await;
    assert_eq!(
        text(secured),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert_eq!(
        text(stream),
        "remote error: tls: unknown certificate authority"
    );
    let ended = Wanted {
        ended: true,
        ..Wanted::default()
    };
    let ended = connector(&authority.client_files(&ended));
    let (secured, stream) = meet(&acceptor, &ended).await;
    assert_eq!(
        text(secured),
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
    );
    assert_eq!(text(stream), "remote error: tls: expired certificate");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let authority = Authority::new();
    let wanted = Wanted::default();
    let client = connector(&authority.client_files(&wanted));
    let list = authority.revoke(&[1, wanted.serial]);
    let mut files = authority.server_files();
    files.crl = Some(authority.path("crl"));
    for bytes in [list.der().to_vec(), list.pem().unwrap().into_bytes()] {
        std::fs::write(authority.path("crl"), bytes).unwrap();
        let (secured, stream) = meet(&acceptor(&files), &client).await;
        assert_eq!(text(secured), "transport: certificate revoked");
        assert_eq!(text(stream), "remote error: tls: revoked certificate");
    }
    std::fs::write(authority.path("crl"), authority.revoke(&[1]).der()).unwrap();
    let (secured, _) = meet(&acceptor(&files), &client).await;
    assert!(secured.is_ok(), "another one's revocation is not its own");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_lets_nobody_in() {
    let authority = Authority::new();
    let mut files = authority.server_files();
    files.crl = Some(authority.path("crl"));
    let start = |files| Acceptor::new(Side::Client, files, &policy());
    assert!(matches!(start(&files), Err(TlsError::Read { .. })));
    std::fs::write(authority.path("crl"), "no list").unwrap();
    assert!(matches!(start(&files), Err(TlsError::Content { .. })));
    let mut asking_nobody = files.clone();
    asking_nobody.trusted_ca = None;
    asking_nobody.client_cert_auth = false;
    let started = start(&asking_nobody);
    assert!(matches!(started, Err(TlsError::Content { .. })));
    let mut padded = authority.revoke(&[1]).der().to_vec();
    padded.push(0);
    std::fs::write(authority.path("crl"), padded).unwrap();
    assert!(matches!(start(&files), Err(TlsError::Content { .. })));
}

#[tokio::test]
async fn only_allowed_names_are_let_in() {
    let authority = Authority::new();
    let client = connector(&authority.client_files(&Wanted::default()));
    let with = |common_names: &[&str], hostnames: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let mut files = authority.server_files();
        files.allowed_common_names = owned(common_names);
        files.allowed_hostnames = owned(hostnames);
        acceptor(&files)
    };
    for (common_names, hostnames) in [
        (&["other", "member"][..], &[][..]),
        (&[], &["other.example", "localhost"]),
        (&[], &["127.0.0.1"]),
    ] {
        let (secured, _) = meet(&with(common_names, hostnames), &client).await;
        assert!(secured.is_ok(), "{common_names:?} {hostnames:?}");
    }
    for (common_names, hostnames) in [
        (&["other", "Member"][..], &[][..]),
        (&[], &["member", "10.0.0.1"]),
    ] {
        let (secured, stream) = meet(&with(common_names, hostnames), &client).await;
        assert_eq!(text(secured), "client certificate authentication failed");
        assert_eq!(text(stream), "remote error: tls: bad certificate");
    }
}

#[tokio::test]
async fn a_member_has_to_connect_from_where_its_certificate_says() {
    let authority = Authority::new();
    let mut files = authority.server_files();
    let at = |files: &TlsFiles| Acceptor::new(Side::Peer, files, &policy()).unwrap();
    let client = |names: &[&str]| {
        let wanted = Wanted {
            names,
            ..Wanted::default()
        };
        connector(&authority.client_files(&wanted))
    };
    for names in [&[][..], &["127.0.0.1"], &["10.0.0.7", "localhost"]] {
        let (secured, _) = meet(&at(&files), &client(names)).await;
        assert!(secured.is_ok(), "{names:?}: {}", text(secured));
    }
    let (secured, _) = meet(&at(&files), &client(&["10.0.0.7"])).await;
    assert_eq!(
        text(secured),
        "x509: certificate is valid for 10.0.0.7, not 127.0.0.1"
    );
    let (secured, _) = meet(&at(&files), &client(&["nowhere.invalid"])).await;
    assert_eq!(
        text(secured),
        "tls: \"127.0.0.1\" does not match any of DNSNames [\"nowhere.invalid\"]"
    );
    files.skip_client_san_verification = true;
    let (secured, _) = meet(&at(&files), &client(&["10.0.0.7"])).await;
    assert!(secured.is_ok());
}

#[tokio::test]
async fn versions_and_suites_bound_both_ends() {
    let authority = Authority::new();
    let files = authority.client_files(&Wanted::default());
    let mut only_13 = policy();
    only_13.version_min = TlsVersion::V1_3;
    let mut only_12 = policy();
    only_12.version_max = Some(TlsVersion::V1_2);
    let server = authority.server_files();
    let at = |policy| Acceptor::new(Side::Client, &server, policy).unwrap();
    let client = Connector::new(Side::Peer, &files, &only_12).unwrap();
    let (secured, stream) = meet(&at(&only_13), &client).await;
    assert!(matches!(secured, Err(HandshakeError::Refused(_))));
    assert_eq!(
        text(stream),
        "remote error: tls: protocol version not supported"
    );
    let (secured, _) = meet(&at(&only_12), &client).await;
    assert!(secured.is_ok(), "{}", text(secured));
    // The certificate has an ECDSA key, so that suites of RSA alone leave nothing for TLS 1.2.
    let mut only_rsa = only_12.clone();
    only_rsa.cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
    let (secured, _) = meet(&at(&only_rsa), &client).await;
    assert_eq!(
        text(secured),
        "tls: no cipher suite supported by both client and server"
    );
}

#[test]
fn what_is_missing_at_the_start_is_said() {
    let authority = Authority::new();
    let good = authority.server_files();
    let start = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        text(Acceptor::new(Side::Client, &files, &policy()))
    };
    let (_, other_key) = authority.issue("other", &Wanted::default());
    let mismatch = start(&|files| files.key = Some(other_key.clone()));
    let end = ": tls: private key does not match public key";
    assert!(mismatch.ends_with(end), "{mismatch}");
    let absent = start(&|files| files.cert = Some("/nowhere/cert.pem".into()));
    assert!(absent.starts_with("open /nowhere/cert.pem: "), "{absent}");
    let half = start(&|files| files.key = None);
    let begin = "KeyFile and CertFile must both be present[key: , cert: ";
    assert!(half.starts_with(begin), "{half}");
    let no_authority = start(&|files| files.trusted_ca = None);
    assert!(no_authority.contains("--trusted-ca-file"), "{no_authority}");
    let empty_bundle = start(&|files| files.trusted_ca = Some(other_key.clone()));
    assert!(
        empty_bundle.contains("failed to find certificate PEM data"),
        "{empty_bundle}"
    );
}
