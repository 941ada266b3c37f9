//! Years of renewals, with a clock that is an argument; and what is made is really trusted.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

const DAY: i64 = 86_400;
const NAME: &str = "demo members";

fn request(lifetime: i64) -> LeafRequest {
    LeafRequest {
        name: "demo".into(),
        hosts: vec!["*.demo-peers.data.svc".into(), "127.0.0.1".into()],
        server: true,
        client: true,
        lifetime,
    }
}

/// Whether who trusts `bundle` trusts the certificate at that time.
fn trusted(bundle: &[u8], leaf: &Files, now: i64) -> bool {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let certificate = CertificateDer::from_pem_slice(&leaf["tls.crt"]).unwrap();
    let name = ServerName::try_from("demo-7.demo-peers.data.svc").unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.try_into().unwrap()));
    verifier
        .verify_server_cert(&certificate, &[], &name, &[], now)
        .is_ok()
}

#[test]
fn what_is_made_is_trusted_and_ends_when_it_says() {
    let now = 1_800_000_000;
    let ring = renew_ring(&Files::new(), NAME, 1000 * DAY, now).unwrap();
    let leaf = renew_leaf(&Files::new(), &ring, NAME, &request(90 * DAY), now).unwrap();
    assert_eq!(not_after(&leaf["tls.crt"]), Some(now + 90 * DAY));
    assert!(trusted(&leaf["ca.crt"], &leaf, now + 80 * DAY));
    assert!(!trusted(&leaf["ca.crt"], &leaf, now + 91 * DAY));
}

#[test]
fn whose_a_certificate_is_can_be_read() {
    let now = 1_800_000_000;
    let ring = renew_ring(&Files::new(), NAME, 1000 * DAY, now).unwrap();
    let mut request = request(90 * DAY);
    request.name = "engram-operator".into();
    let leaf = renew_leaf(&Files::new(), &ring, NAME, &request, now).unwrap();
    let name = common_name(&leaf["tls.crt"]);
    assert_eq!(name.as_deref(), Some("engram-operator"));
    for garbage in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ] {
        assert_eq!(common_name(garbage), None);
    }
}

#[test]
fn nothing_changes_until_it_is_due() {
    let now = 1_800_000_000;
    let ring = renew_ring(&Files::new(), NAME, 1000 * DAY, now).unwrap();
    let leaf = renew_leaf(&Files::new(), &ring, NAME, &request(90 * DAY), now).unwrap();
    let later = now + 59 * DAY;
    assert_eq!(
        renew_ring(&ring.files, NAME, 1000 * DAY, later).unwrap(),
        ring
    );
    assert_eq!(
        renew_leaf(&leaf, &ring, NAME, &request(90 * DAY), later).unwrap(),
        leaf
    );
    let due = renew_leaf(&leaf, &ring, NAME, &request(90 * DAY), now + 61 * DAY).unwrap();
    assert_ne!(due["tls.crt"], leaf["tls.crt"]);
    let mut other = request(90 * DAY);
    other.hosts.push("db.example.org".into());
    assert_ne!(
        renew_leaf(&leaf, &ring, NAME, &other, later).unwrap()["tls.crt"],
        leaf["tls.crt"]
    );
}

/// Ten years, looked at every ten minutes around changes: whoever has the bundle of the last look
/// or of this one trusts the certificate of either.
#[test]
fn through_every_rotation_old_and_new_trust_each_other() {
    let (mut now, mut ring, mut leaf) = (
        1_800_000_000,
        Ring {
            files: Files::new(),
        },
        Files::new(),
    );
    let mut authorities = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        let next_ring = renew_ring(&ring.files, NAME, 365 * DAY, now).unwrap();
        let next_leaf = renew_leaf(&leaf, &next_ring, NAME, &request(30 * DAY), now).unwrap();
        authorities.insert(next_ring.certificate());
        assert!(trusted(&next_leaf["ca.crt"], &next_leaf, now));
        if !leaf.is_empty() {
            assert!(
                trusted(&leaf["ca.crt"], &next_leaf, now),
                "the old bundle, the new certificate"
            );
            assert!(
                trusted(&next_leaf["ca.crt"], &leaf, now),
                "the new bundle, the old certificate"
            );
        }
        // A day, or right after a change ten minutes and a bit.
        now += if next_ring == ring { DAY } else { 601 };
        (ring, leaf) = (next_ring, next_leaf);
    }
    assert!(authorities.len() > 5, "{} authorities", authorities.len());
}

/// Whatever a clock that was ahead by years has made is followed by what is believed, within the time that an authority
/// is shown.
#[test]
fn what_a_clock_that_was_ahead_has_made_is_not_waited_for() {
    let now = 1_800_000_000;
    let ahead = now + 900 * DAY;
    let sound = renew_ring(&Files::new(), NAME, 365 * DAY, now).unwrap();
    let leaf = renew_leaf(&Files::new(), &sound, NAME, &request(30 * DAY), ahead).unwrap();
    assert!(!trusted(&leaf["ca.crt"], &leaf, now));
    let again = renew_leaf(&leaf, &sound, NAME, &request(30 * DAY), now).unwrap();
    assert!(trusted(&again["ca.crt"], &again, now));
    // The authority as well, or the next one, which was to sign long after.
    let made = renew_ring(&Files::new(), NAME, 365 * DAY, ahead).unwrap();
    let next = renew_ring(&sound.files, NAME, 365 * DAY, ahead).unwrap();
    for mut ring in [made, next] {
        let mut leaf = Files::new();
        for look in 0..6 {
            ring = renew_ring(&ring.files, NAME, 365 * DAY, now + look * 601).unwrap();
            leaf = renew_leaf(&leaf, &ring, NAME, &request(30 * DAY), now + look * 601).unwrap();
        }
        let then = now + 6 * 601;
        assert!(trusted(&leaf["ca.crt"], &leaf, then), "{ring:?}");
    }
}

#[test]
fn a_damaged_secret_is_an_error_and_not_a_new_authority() {
    let now = 1_800_000_000;
    let ring = renew_ring(&Files::new(), NAME, 365 * DAY, now).unwrap();
    let mut damaged = ring.files.clone();
    damaged.insert("tls.crt".into(), b"nonsense".to_vec());
    assert!(renew_ring(&damaged, NAME, 365 * DAY, now).is_err());
    for missing in ["tls.key", "tls.crt"] {
        let mut damaged = ring.files.clone();
        damaged.remove(missing);
        let refused = renew_ring(&damaged, NAME, 365 * DAY, now).unwrap_err();
        assert!(refused.to_string().contains(missing), "{refused}");
    }
    for garbage in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ] {
        assert_eq!(not_after(garbage), None);
    }
}

#[test]
fn an_authority_that_was_lost_is_followed_by_one_that_is_shown_before_it_signs() {
    let mut now = 1_800_000_000;
    let lost = renew_ring(&Files::new(), NAME, 365 * DAY, now).unwrap();
    let leaf = renew_leaf(&Files::new(), &lost, NAME, &request(30 * DAY), now).unwrap();
    let mut ring = replace_lost_ring(&leaf["ca.crt"], NAME, 365 * DAY, now).unwrap();
    let mut before = leaf.clone();
    let mut signed = 0;
    for _ in 0..4 {
        ring = renew_ring(&ring.files, NAME, 365 * DAY, now).unwrap();
        let after = renew_leaf(&before, &ring, NAME, &request(30 * DAY), now).unwrap();
        assert!(
            trusted(&before["ca.crt"], &after, now),
            "the old bundle, the new certificate"
        );
        assert!(
            trusted(&after["ca.crt"], &leaf, now),
            "the new bundle, the first certificate"
        );
        signed += usize::from(after["tls.crt"] != before["tls.crt"]);
        before = after;
        now += 301;
    }
    assert_eq!(signed, 1);
    // Who has no certificate gets one at once.
    let ring = replace_lost_ring(&leaf["ca.crt"], NAME, 365 * DAY, now).unwrap();
    let new = renew_leaf(&Files::new(), &ring, NAME, &request(30 * DAY), now).unwrap();
    assert!(trusted(&new["ca.crt"], &new, now));
}
