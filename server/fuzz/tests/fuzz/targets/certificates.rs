//! Certificates: what is read of one is read in the same way again, and none is read that is cut short.

use engram_net::tls::{PeerIdentity, fixture, verify_hostname};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};

use super::Target;

pub const TARGET: Target = Target {
    name: "certificates",
    run,
    seeds,
    cases: 40_000,
};

fn run(bytes: &[u8]) {
    let read = |bytes: &[u8]| PeerIdentity::read(&bytes.into());
    let _ = fixture::ends(bytes);
    let Ok(identity) = read(bytes) else {
        return;
    };
    assert_eq!(read(bytes).as_ref(), Ok(&identity));
    assert!(
        identity.serial.first() != Some(&0),
        "a serial number has leading zeros"
    );
    for name in identity.dns_names.iter().take(4) {
        drop(verify_hostname(&identity, name));
    }
    drop(verify_hostname(&identity, "host.example"));
    for address in identity.ip_addresses.iter().take(4) {
        assert_eq!(verify_hostname(&identity, &address.to_string()), Ok(()));
    }
    for cut in [1, bytes.len() / 2] {
        assert!(
            read(&bytes[..bytes.len() - cut.max(1)]).is_err(),
            "a part of it is read"
        );
    }
}

/// One key for all runs, so that they try the same: Ed25519, PKCS #8, whose signatures are no random ones.
pub fn key() -> KeyPair {
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    key.extend([7; 32]);
    KeyPair::try_from(key).expect("a key")
}

fn seeds() -> Vec<Vec<u8>> {
    let key = key();
    let made = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        change(&mut params);
        let certificate = params.self_signed(&key).expect("a certificate");
        certificate.der().to_vec()
    };
    let text = |text: &str| Ia5String::try_from(text).expect("ASCII");
    vec![
        made(&|_| ()),
        made(&|params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "a member");
            params
                .distinguished_name
                .push(DnType::OrganizationName, "engram");
            params.serial_number = Some(SerialNumber::from(vec![0, 0x80, 1]));
            params.subject_alt_names = vec![
                SanType::DnsName(text("*.example")),
                SanType::IpAddress([127, 0, 0, 1].into()),
                SanType::IpAddress("::1".parse().expect("an address")),
                SanType::URI(text("spiffe://engram/member")),
                SanType::Rfc822Name(text("who@example")),
            ];
        }),
    ]
}
