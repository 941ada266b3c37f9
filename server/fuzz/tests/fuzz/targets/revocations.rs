//! Revocation lists: a list that is read names each serial number without leading zeros, and none is read of a
//! list that is cut short.

use engram_net::tls::fixture;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::Target;

pub const TARGET: Target = Target {
    name: "revocations",
    run,
    seeds,
    cases: 40_000,
};

fn run(bytes: &[u8]) {
    let Some(serials) = fixture::revoked(bytes) else {
        return;
    };
    assert!(serials.iter().all(|serial| serial.first() != Some(&0)));
    assert!(serials.iter().map(Vec::len).sum::<usize>() <= bytes.len());
    for cut in [1, bytes.len() / 2] {
        let part = &bytes[..bytes.len() - cut.max(1)];
        assert_eq!(fixture::revoked(part), None, "a part of it is read");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    vec![list(&[]), list(&[1, 0x80, 500])]
}

fn list(serials: &[u64]) -> Vec<u8> {
    let key = super::certificates::key();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::CrlSign];
    let issuer = Issuer::from_params(&authority, &key);
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2026, 1, 2),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2027, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(&issuer).expect("a list");
    list.der().to_vec()
}
