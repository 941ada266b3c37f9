//! Certificates for tests: an authority, and what it signs, as PEM files in a directory. A directory
//! of them that is replaced as a whole is a `wallet`.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A certificate with its key, on disk.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Certificate {
    /// The arguments of a server that shows it to clients, and wants one of `bundle`'s of each.
    pub fn for_known_clients(&self, bundle: &Path) -> [String; 4] {
        [
            format!("--cert-file={}", self.certificate.display()),
            format!("--key-file={}", self.key.display()),
            format!("--trusted-ca-file={}", bundle.display()),
            "--client-cert-auth".to_owned(),
        ]
    }
}

/// A certificate authority.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Makes an authority; what it signs goes to `directory`, and its own certificate as `ca.pem`.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("making a directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "engram e2e authority");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let authority = Self {
            directory: directory.to_owned(),
            issuer: Issuer::new(params, key),
            pem,
        };
        fs::write(authority.bundle(), &authority.pem).expect("writing a certificate");
        authority
    }

    /// Its own certificate's file.
    pub fn bundle(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for both ends of a connection on this machine.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn issue(&self, common_name: &str, serial: u64) -> Certificate {
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.issue_for(&hosts, common_name, serial)
    }

    /// Signs a certificate for these hosts.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn issue_for(&self, hosts: &[String], common_name: &str, serial: u64) -> Certificate {
        let mut params = CertificateParams::new(hosts).expect("good names");
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |end: &str| self.directory.join(format!("{common_name}-{serial}{end}"));
        let issued = Certificate {
            certificate: path(".pem"),
            key: path("-key.pem"),
        };
        fs::write(&issued.certificate, signed.pem()).expect("writing a certificate");
        fs::write(&issued.key, key.serialize_pem()).expect("writing a key");
        issued
    }

    /// Writes a revocation list as etcd wants it (DER) to `path`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn revoke(&self, serials: &[u64], path: &Path) {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a revocation list");
        replace(path, list.der());
    }
}

/// Replaces a file in one step, as programs that rotate certificates do.
///
/// # Panics
/// If it cannot be written.
pub fn replace(path: &Path, bytes: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, bytes).expect("writing a file");
    fs::rename(&fresh, path).expect("renaming a file");
}
