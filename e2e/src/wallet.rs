//! TLS files as a member finds them in Kubernetes: all of a Secret, replaced at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::certificates::Authority;

/// A directory of TLS files that is replaced as a whole, as Kubernetes replaces a mounted Secret:
/// programs read `live/…`, and `live` is a symbolic link.
pub struct Wallet {
    dir: PathBuf,
    generation: u64,
}

impl Wallet {
    /// An empty wallet in `dir`, which is created.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn create(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("making a directory for certificates");
        Self {
            dir: dir.to_owned(),
            generation: 0,
        }
    }

    /// Replaces its contents at once: a new certificate of `issuer`, and a bundle of the authorities
    /// that are trusted.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn fill(&mut self, issuer: &Authority, common_name: &str, trusted: &[&Authority]) {
        self.generation += 1;
        let name = format!("generation-{}", self.generation);
        let dir = self.dir.join(&name);
        fs::create_dir(&dir).expect("making a directory for certificates");
        let issued = issuer.issue(common_name, self.generation);
        fs::copy(issued.certificate, dir.join("cert.pem")).expect("copying a certificate");
        fs::copy(issued.key, dir.join("key.pem")).expect("copying a key");
        let bundle: String = trusted.iter().map(|authority| authority.pem()).collect();
        fs::write(dir.join("ca.pem"), bundle).expect("writing the bundle");
        let link = self.dir.join("live.new");
        std::os::unix::fs::symlink(&name, &link).expect("making a link");
        fs::rename(&link, self.dir.join("live")).expect("replacing a link");
    }

    /// The certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("live/cert.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.dir.join("live/key.pem")
    }

    /// The authorities that are trusted.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("live/ca.pem")
    }

    /// etcd's flags for a member: mutual TLS for clients and peers, all with these files.
    pub fn member_flags(&self) -> Vec<String> {
        let (certificate, key) = (self.certificate(), self.key());
        let (certificate, key, bundle) = (text(&certificate), text(&key), text(&self.bundle()));
        vec![
            format!("--cert-file={certificate}"),
            format!("--key-file={key}"),
            format!("--trusted-ca-file={bundle}"),
            "--client-cert-auth".to_owned(),
            format!("--peer-cert-file={certificate}"),
            format!("--peer-key-file={key}"),
            format!("--peer-trusted-ca-file={bundle}"),
            "--peer-client-cert-auth".to_owned(),
        ]
    }

    /// What a client of ours shows and trusts; it speaks HTTP/2.
    ///
    /// # Panics
    /// If a file cannot be read.
    pub fn client(&self) -> Arc<ClientConfig> {
        let certificates = |path: &Path| -> Vec<CertificateDer<'static>> {
            let read = CertificateDer::pem_file_iter(path).expect("reading certificates");
            read.map(|one| one.expect("it is PEM")).collect()
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&self.bundle()));
        let key = PrivateKeyDer::from_pem_file(self.key()).expect("reading a key");
        http2_client(roots, certificates(&self.certificate()), key)
    }

    /// etcdctl's flags.
    pub fn client_flags(&self) -> Vec<String> {
        vec![
            format!("--cert={}", text(&self.certificate())),
            format!("--key={}", text(&self.key())),
            format!("--cacert={}", text(&self.bundle())),
        ]
    }
}

/// What a client over HTTP/2 shows and trusts.
///
/// # Panics
/// If the certificate and the key do not belong together.
pub(crate) fn http2_client(
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    let mut config = config.expect("certificate and key belong together");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are text").to_owned()
}
