//! Backups in a real S3 server, with what goes wrong there.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::certificates::{Authority, Certificate};
use engram_e2e::server::Setup;
use engram_e2e::{ports, tools, turn};
use tempfile::TempDir;

use crate::content::{fill, must_equal, restored};

const START_LIMIT: Duration = Duration::from_secs(20);
pub const KEY: (&str, &str) = ("engram-key", "engram-secret");

/// versitygw over a directory: buckets are directories in it.
pub struct S3 {
    scheme: &'static str,
    port: u16,
    child: Child,
    _directory: TempDir,
}

impl S3 {
    pub fn start() -> S3 {
        S3::start_with("http", None)
    }

    /// Over TLS, with this certificate.
    fn start_tls(certificate: &Certificate) -> S3 {
        S3::start_with("https", Some(certificate))
    }

    fn start_with(scheme: &'static str, certificate: Option<&Certificate>) -> S3 {
        let port = ports::free();
        let directory = TempDir::with_prefix("engram-s3-").expect("a temporary directory");
        std::fs::create_dir(directory.path().join("backups")).expect("a bucket");
        let mut command = tools::command(&tools::tool("versitygw"));
        command
            .args(["--access", KEY.0, "--secret", KEY.1, "--port"])
            .arg(format!("127.0.0.1:{port}"));
        if let Some(Certificate { certificate, key }) = certificate {
            command.arg("--cert").arg(certificate);
            command.arg("--key").arg(key);
        }
        command
            .arg("posix")
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("versitygw starts");
        let s3 = S3 {
            scheme,
            port,
            child,
            _directory: directory,
        };
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "versitygw does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        s3
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn store(&self, bucket: &str) -> String {
        self.store_at(bucket, self.address())
    }

    /// The same where it is reached at another address.
    pub fn store_at(&self, bucket: &str, address: SocketAddr) -> String {
        let scheme = self.scheme;
        let plain = scheme == "http";
        format!(
            "--store=s3://{bucket}/some/prefix?endpoint={scheme}://{address}&region=us-east-1&allow_http={plain}"
        )
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // Our own child, whatever became of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn engramctl(secret: &str, arguments: &[&str]) -> Command {
    let mut command = tools::command(&tools::engramctl());
    command
        .env("AWS_ACCESS_KEY_ID", KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .args(arguments);
    command
}

fn succeed(arguments: &[&str]) -> String {
    tools::must_succeed(&mut engramctl(KEY.1, arguments))
}

fn fail(secret: &str, arguments: &[&str]) -> String {
    let finished = tools::run(&mut engramctl(secret, arguments), tools::TOOL_LIMIT);
    assert!(!finished.status.success(), "{}", finished.text());
    finished.text()
}

#[test]
fn a_backup_in_s3_is_verified_restored_and_pruned() {
    let _turn = turn::take("S3");
    let s3 = S3::start();
    let server = Setup::engram().start();
    let revision = fill(&server);
    let (store, endpoints) = (
        s3.store("backups"),
        format!("--endpoints={}", server.address()),
    );
    let create = |name: &str| {
        let name = format!("--name={name}");
        let arguments = [
            endpoints.as_str(),
            "backup",
            "create",
            &store,
            "--cluster=demo",
            &name,
        ];
        arguments.map(str::to_owned)
    };
    let run = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        succeed(&arguments)
    };
    run(&create("one"));
    run(&create("two"));
    let again: Vec<String> = create("two").to_vec();
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let taken = fail(KEY.1, &again);
    assert!(taken.contains("there is a backup two already"), "{taken}");
    let listed = succeed(&["backup", "list", &store]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let elsewhere = TempDir::with_prefix("engram-copies-").expect("a temporary directory");
    let elsewhere = format!("file://{}", elsewhere.path().display());
    let to = format!("--to={elsewhere}");
    let copied = succeed(&["backup", "copy", &store, "--all", &to]);
    assert_eq!(copied.matches("copied to").count(), 2, "{copied}");
    let again = succeed(&["backup", "copy", &store, &to]);
    assert!(again.contains("demo/two is there already"), "{again}");
    succeed(&["backup", "verify", &format!("--store={elsewhere}")]);
    succeed(&["backup", "verify", &store, "--backup=two"]);
    let same = restored(|flags| {
        succeed(&[&["restore", &store, "--backup=two"], flags].concat());
    });
    must_equal(&server, &same, revision);
    succeed(&["backup", "prune", &store, "--cluster=demo", "--keep-last=1"]);
    let listed = succeed(&["backup", "list", &store]);
    assert!(
        listed.lines().count() == 1 && listed.starts_with("two"),
        "{listed}"
    );
    succeed(&["backup", "delete", &store, "--backup=two"]);
    assert_eq!(succeed(&["backup", "list", &store]), "");
}

#[test]
fn what_is_wrong_with_the_store_is_said() {
    let _turn = turn::take("S3's refusals");
    let s3 = S3::start();
    let server = Setup::engram().start();
    let endpoints = format!("--endpoints={}", server.address());
    let create = |store: &str| {
        let arguments = [
            endpoints.as_str(),
            "backup",
            "create",
            store,
            "--cluster=demo",
        ];
        arguments.map(str::to_owned)
    };
    let failed = |secret: &str, store: &str| {
        let arguments = create(store);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fail(secret, &arguments)
    };
    let credentials = failed("wrong", &s3.store("backups"));
    assert!(
        credentials.contains("does not know these credentials"),
        "{credentials}"
    );
    let bucket = failed(KEY.1, &s3.store("missing"));
    assert!(bucket.contains("there is no such bucket"), "{bucket}");
}

#[test]
fn a_store_over_tls_is_believed_by_its_authority_alone() {
    let _turn = turn::take("S3 over TLS");
    let directory = TempDir::with_prefix("engram-ca-").expect("a temporary directory");
    let authority = Authority::new(directory.path());
    let s3 = S3::start_tls(&authority.issue("s3", 1));
    let store = s3.store("backups");
    let unknown = fail(KEY.1, &["backup", "list", &store]);
    let advice = "the store's certificate is not accepted: set SSL_CERT_FILE";
    assert!(unknown.contains(advice), "{unknown}");
    let none = directory.path().join("none.pem");
    std::fs::write(&none, "no certificate").expect("writing a file");
    let list = || engramctl(KEY.1, &["backup", "list", &store]);
    let useless = tools::run(list().env("SSL_CERT_FILE", none), tools::TOOL_LIMIT).text();
    assert!(useless.contains(advice), "{useless}");
    let mut command = list();
    let listed = tools::must_succeed(command.env("SSL_CERT_FILE", authority.bundle()));
    assert_eq!(listed, "");
}
