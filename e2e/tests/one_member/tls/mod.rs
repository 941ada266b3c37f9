//! TLS with the real etcdctl: who is let in, rotation under running clients, certificates that the
//! server makes itself.

mod advisories;
mod kubeadm;
mod rotation;
mod users;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::certificates::{Authority, Certificate};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{ports, tools, turn};

/// How long a line may take to appear: changed files are seen within a second; the rest is a busy
/// machine.
const LOG_LIMIT: Duration = Duration::from_secs(20);
/// What etcd logs when it refuses somebody.
const REJECTED: &str = "rejected connection on client endpoint";

/// What a client trusts and presents.
#[derive(Clone)]
struct Credentials {
    authorities: PathBuf,
    certificate: Option<Certificate>,
}

impl Credentials {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--cacert={}", self.authorities.display())];
        if let Some(own) = &self.certificate {
            arguments.push(format!("--cert={}", own.certificate.display()));
            arguments.push(format!("--key={}", own.key.display()));
        }
        arguments
    }
}

/// `etcdctl` over TLS.
fn etcdctl(server: &Server, credentials: &Credentials) -> Command {
    let mut command = over_tls(server);
    command.args(credentials.arguments());
    command
}

fn over_tls(server: &Server) -> Command {
    let mut command = tools::command(&tools::tool("etcdctl"));
    command.arg(format!("--endpoints=https://{}", server.address()));
    command
}

fn must(command: &mut Command, arguments: &[&str]) -> String {
    tools::must_succeed(command.args(arguments))
}

/// The command has to fail, and soon.
fn must_fail(command: &mut Command, arguments: &[&str]) -> String {
    command.arg("--command-timeout=2s").args(arguments);
    let finished = tools::run(command, tools::TOOL_LIMIT);
    assert!(!finished.status.success(), "{}", finished.text());
    finished.text()
}

/// A server with TLS for clients, not started.
fn with_tls(flags: &[String]) -> Server {
    let mut server = Setup::engram().prepare();
    server.speak_tls(flags.iter().cloned());
    server
}

/// A server that asks for certificates of `bundle`.
fn with_client_auth(own: &Certificate, bundle: &Path) -> Server {
    with_tls(&own.for_known_clients(bundle))
}

fn wait_for(server: &Server, what: &str, is_there: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + LOG_LIMIT;
    while !is_there(&server.output()) {
        assert!(
            Instant::now() < deadline,
            "{what} is not in the log:\n{}",
            server.last_words()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn clients_with_certificates_are_served_and_others_are_not() {
    let _turn = turn::take("TLS clients");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(&scratch.path().join("ours"));
    let other = Authority::new(&scratch.path().join("others"));
    let mut server = with_client_auth(&authority.issue("server", 1), &authority.bundle());
    let crl = scratch.path().join("crl");
    authority.revoke(&[66], &crl);
    server.add_flag(format!("--client-crl-file={}", crl.display()));
    let metrics = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    server.add_flag(format!("--listen-metrics-urls=http://{metrics}"));
    server.start();
    let with = |certificate| Credentials {
        authorities: authority.bundle(),
        certificate,
    };
    let alice = with(Some(authority.issue("alice", 2)));
    assert_eq!(
        must(&mut etcdctl(&server, &alice), &["put", "foo", "bar"]),
        "OK\n"
    );
    assert_eq!(
        must(&mut etcdctl(&server, &alice), &["get", "foo"]),
        "foo\nbar\n"
    );
    a_watch_sees_a_put(&server, &alice);
    if !tools::engram_is_etcd() {
        expiry_is_measured(metrics);
    }

    let refused = [
        with(None),
        with(Some(other.issue("mallory", 3))),
        with(Some(authority.issue("revoked", 66))),
        Credentials {
            authorities: other.bundle(),
            ..alice.clone()
        },
    ];
    for credentials in &refused {
        must_fail(&mut etcdctl(&server, credentials), &["get", "foo"]);
    }
    must_fail(&mut server.etcdctl_command(), &["get", "foo"]);
    wait_for(&server, REJECTED, |log| log.contains(REJECTED));
    assert_eq!(
        must(&mut etcdctl(&server, &alice), &["get", "foo"]),
        "foo\nagain\n"
    );
}

fn a_watch_sees_a_put(server: &Server, credentials: &Credentials) {
    let mut watch = Watch::begin(server, credentials, "foo");
    watch.must_see("bar");
    must(&mut etcdctl(server, credentials), &["put", "foo", "again"]);
    watch.must_see("again");
}

/// `etcdctl watch` of one key from its beginning. Dropped, it is killed.
struct Watch {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watch {
    fn begin(server: &Server, credentials: &Credentials, key: &str) -> Self {
        let mut command = etcdctl(server, credentials);
        command
            .args(["watch", key, "--rev=1"])
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl starts");
        let output = child.stdout.take().expect("it is piped");
        Self {
            child,
            lines: BufReader::new(output).lines(),
        }
    }

    /// Reads up to the event that sets the key to `value`.
    fn must_see(&mut self, value: &str) {
        let mut lines = self
            .lines
            .by_ref()
            .map(|line| line.expect("etcdctl writes text"));
        assert!(lines.any(|line| line == value), "the watch ended");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }
}

fn expiry_is_measured(metrics: SocketAddr) {
    let mut stream = TcpStream::connect(metrics).expect("the metrics listener");
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let name = "engram_tls_certificate_expiry_timestamp_seconds{endpoint=\"client\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let ends: i64 = line
        .unwrap_or_else(|| panic!("no {name}in\n{text}"))
        .parse()
        .expect("a number");
    let in_2026 = 1_767_225_600;
    assert!(ends > in_2026, "{ends}");
}

#[test]
fn a_server_makes_its_own_certificate_and_keeps_it() {
    let _turn = turn::take("auto TLS");
    let mut server = with_tls(&["--auto-tls".to_owned()]);
    server.start();
    let trusting = |server: &Server| {
        let mut command = over_tls(server);
        command.args(["--insecure-transport=false", "--insecure-skip-tls-verify"]);
        command
    };
    assert_eq!(must(&mut trusting(&server), &["put", "foo", "bar"]), "OK\n");
    let certificate = server.data_dir().join("fixtures/client/cert.pem");
    let made = fs::read(&certificate).expect("the certificate is where etcd has it");
    must_fail(&mut over_tls(&server), &["get", "foo"]);
    server.terminate();
    server.start();
    assert_eq!(must(&mut trusting(&server), &["get", "foo"]), "foo\nbar\n");
    assert_eq!(fs::read(&certificate).expect("it is still there"), made);
}

#[test]
fn listeners_with_tls_and_without_stand_side_by_side() {
    let _turn = turn::take("TLS and plain");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(scratch.path());
    let own = authority.issue("server", 1);
    let mut server = Setup::engram().prepare();
    let address = server.address();
    let only_tls = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    server.add_flag(format!(
        "--listen-client-urls=http://{address},https://{address},https://{only_tls}"
    ));
    server.add_flag(format!("--advertise-client-urls=https://{address}"));
    server.add_flag(format!("--cert-file={}", own.certificate.display()));
    server.add_flag(format!("--key-file={}", own.key.display()));
    server.start();
    let trusting = Credentials {
        authorities: authority.bundle(),
        certificate: None,
    };
    must(&mut etcdctl(&server, &trusting), &["put", "foo", "bar"]);
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nbar\n");
    let at = |url: &str| {
        let mut command = tools::command(&tools::tool("etcdctl"));
        command.arg(format!("--endpoints={url}"));
        command.args(trusting.arguments());
        command
    };
    let over_tls = must(
        &mut at(&format!("https://{only_tls}")),
        &["put", "foo", "tls"],
    );
    assert_eq!(over_tls, "OK\n");
    must_fail(&mut at(&format!("http://{only_tls}")), &["get", "foo"]);
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\ntls\n");
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let _turn = turn::take("TLS settings");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(scratch.path());
    let own = authority.issue("server", 1);
    let bad_crl = scratch.path().join("bad.crl");
    fs::write(&bad_crl, "no list").expect("writing a file");
    let refusal = |flags: &[String]| {
        let (_, said) = with_tls(flags).must_refuse();
        said
    };
    let pair = [
        format!("--cert-file={}", own.certificate.display()),
        format!("--key-file={}", own.key.display()),
    ];
    let with_pair = |flags: &[&str]| {
        let flags = flags.iter().map(ToString::to_string);
        refusal(&pair.iter().cloned().chain(flags).collect::<Vec<_>>())
    };
    let said = refusal(&[]);
    let wanted = "TLS key/cert (--cert-file, --key-file) must be provided for client url";
    assert!(said.contains(wanted), "{said}");
    if tools::engram_is_etcd() {
        println!("etcd reads the files when it serves already");
        return;
    }
    let said = refusal(&pair[..1]);
    assert!(
        said.contains("KeyFile and CertFile must both be present"),
        "{said}"
    );
    let said = refusal(&["--cert-file=/nowhere".to_owned(), pair[1].clone()]);
    assert!(said.contains("open /nowhere: "), "{said}");
    let said = with_pair(&["--cipher-suites=TLS_NO_SUCH_SUITE"]);
    assert!(said.contains("unexpected TLS cipher suite"), "{said}");
    let said = with_pair(&["--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"]);
    assert!(said.contains("unexpected TLS cipher suite"), "{said}");
    let said = with_pair(&["--client-cert-auth"]);
    assert!(said.contains("--trusted-ca-file"), "{said}");
    let said = with_pair(&["--client-cert-auth", "--trusted-ca-file=/dev/null"]);
    assert!(said.contains("/dev/null: tls: "), "{said}");
    let crl = format!("--client-crl-file={}", bad_crl.display());
    assert!(with_pair(&[&crl]).contains("malformed crl"));
}
