//! Certificate authorities and certificates for tests, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools;

/// Days that certificates are good for.
const DAYS: &str = "30";

/// A certificate authority with its files in a directory.
pub struct Authority {
    dir: PathBuf,
    name: String,
}

impl Authority {
    /// Makes an authority called `name`, with its files in `dir`.
    ///
    /// # Panics
    /// If `openssl` fails.
    pub fn create(dir: &Path, name: &str) -> Self {
        let authority = Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
        };
        let (key, certificate) = (authority.key(), authority.certificate());
        let subject = format!("/CN={name}");
        openssl(&[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &text(&key),
        ]);
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-sha256",
            "-key",
            &text(&key),
            "-subj",
            &subject,
            "-days",
            DAYS,
            "-out",
            &text(&certificate),
        ]);
        authority
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join(format!("{}.crt", self.name))
    }

    fn key(&self) -> PathBuf {
        self.dir.join(format!("{}.key", self.name))
    }

    /// Makes `cert.pem` and `key.pem` in `dir`: for servers and clients on loopback alike.
    ///
    /// # Panics
    /// If `openssl` fails or a file cannot be written.
    pub fn issue(&self, dir: &Path, common_name: &str) {
        let (key, request) = (dir.join("key.pem"), dir.join("request.pem"));
        let extensions = dir.join("extensions");
        fs::write(
            &extensions,
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n",
        )
        .expect("writing the extensions");
        let subject = format!("/CN={common_name}");
        openssl(&[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &text(&key),
        ]);
        openssl(&[
            "req",
            "-new",
            "-key",
            &text(&key),
            "-subj",
            &subject,
            "-out",
            &text(&request),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-sha256",
            "-in",
            &text(&request),
            "-CA",
            &text(&self.certificate()),
            "-CAkey",
            &text(&self.key()),
            "-CAcreateserial",
            "-days",
            DAYS,
            "-extfile",
            &text(&extensions),
            "-out",
            &text(&dir.join("cert.pem")),
        ]);
    }
}

/// A directory of TLS files that is replaced as a whole, as Kubernetes replaces a mounted Secret:
/// programs read `live/…`, and `live` is a symbolic link.
pub struct Wallet {
    dir: PathBuf,
    generation: u32,
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
        issuer.issue(&dir, common_name);
        let read = |authority: &&Authority| fs::read(authority.certificate()).expect("it is made");
        let bundle: Vec<u8> = trusted.iter().flat_map(read).collect();
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

    /// etcdctl's flags.
    pub fn client_flags(&self) -> Vec<String> {
        vec![
            format!("--cert={}", text(&self.certificate())),
            format!("--key={}", text(&self.key())),
            format!("--cacert={}", text(&self.bundle())),
        ]
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are text").to_owned()
}

fn openssl(arguments: &[&str]) {
    tools::must_succeed(tools::command(Path::new("openssl")).args(arguments));
}
