//! Certificates that the member makes itself.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn it_is_made_once_and_members_with_it_believe_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let fixtures = directory.path().join("fixtures/peer");
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = self_signed(&fixtures, &hosts, 1).unwrap();
    let key = std::fs::metadata(&made.key).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let content = std::fs::read(&made.certificate).unwrap();
    assert_eq!(self_signed(&fixtures, &hosts, 1).unwrap(), made);
    assert_eq!(std::fs::read(&made.certificate).unwrap(), content);

    let files = TlsFiles {
        cert: Some(made.certificate),
        key: Some(made.key),
        self_signed: true,
        ..TlsFiles::default()
    };
    let acceptor = Acceptor::new(Side::Peer, &files, &policy()).unwrap();
    let (secured, stream) = meet(&acceptor, &connector(&files)).await;
    assert!(secured.is_ok(), "{}", text(secured));
    stream.unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let left = acceptor.certificate_ends() - now.unwrap().as_secs().cast_signed();
    let year = 365 * 24 * 3600;
    assert!((year - 60..=year).contains(&left), "{left} s");
    let stranger = TlsFiles {
        self_signed: false,
        trusted_ca: Some(Authority::new().path("ca.pem")),
        ..files
    };
    assert!(Connector::new(Side::Peer, &stranger, &policy()).is_err());
}

#[test]
fn a_validity_of_nothing_is_refused_in_etcds_words() {
    let directory = tempfile::tempdir().unwrap();
    let error = self_signed(directory.path(), &[], 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "selfSignedCertValidity is invalid,it should be greater than 0"
    );
}
