//! What etcd's listeners did not all hold to, at every listener here.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engram_e2e::certificates::{Authority, Certificate};
use engram_e2e::server::Server;
use engram_e2e::{ports, tools, turn};

use super::with_client_auth;

/// How long a handshake may take, and the rest is a busy machine.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(12);
/// Half of them say nothing, half begin and do not go on.
const UNFINISHED: usize = 32;

/// A server, each of whose listeners asks for certificates that are not on a list.
struct Secured {
    server: Server,
    authority: Authority,
    /// A page at each listener: clients', clients' without gRPC, metrics, peers'.
    pages: [(SocketAddr, &'static str); 4],
}

impl Secured {
    fn start(scratch: &Path) -> Secured {
        let authority = Authority::new(scratch);
        let own = authority.issue("server", 1);
        let crl = scratch.join("crl");
        authority.revoke(&[66], &crl);
        let mut server = with_client_auth(&own, &authority.bundle());
        let listener = || SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let (http, metrics) = (listener(), listener());
        let peer = format!("https://{}", server.peer_address());
        let bundle = authority.bundle();
        let (bundle, crl) = (bundle.display(), crl.display());
        for flag in [
            format!("--client-crl-file={crl}"),
            format!("--listen-client-http-urls=https://{http}"),
            format!("--listen-metrics-urls=https://{metrics}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}={peer}", server.name()),
            format!("--peer-cert-file={}", own.certificate.display()),
            format!("--peer-key-file={}", own.key.display()),
            format!("--peer-trusted-ca-file={bundle}"),
            "--peer-client-cert-auth".to_owned(),
            format!("--peer-crl-file={crl}"),
        ] {
            server.add_flag(flag);
        }
        server.start();
        let pages = [
            (server.address(), "version"),
            (http, "health"),
            (metrics, "metrics"),
            (server.peer_address(), "version"),
        ];
        Secured {
            server,
            authority,
            pages,
        }
    }

    /// Whether a page is served to who shows this certificate.
    fn serves(&self, (address, page): (SocketAddr, &str), shown: &Certificate) -> bool {
        let mut ask = tools::command(&PathBuf::from("curl"));
        ask.args(["-sS", "--max-time", "10", "--http1.1"])
            .arg("--cacert")
            .arg(self.authority.bundle())
            .arg("--cert")
            .arg(&shown.certificate)
            .arg("--key")
            .arg(&shown.key)
            .arg(format!("https://{address}/{page}"));
        let finished = tools::run(&mut ask, tools::TOOL_LIMIT);
        finished.status.success() && !finished.stdout.is_empty()
    }
}

/// CVE-2026-59818: a revoked certificate was let in at one of two listeners.
#[test]
fn a_revoked_certificate_is_refused_at_every_listener() {
    let _turn = turn::take("revoked at every listener");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let secured = Secured::start(scratch.path());
    let good = secured.authority.issue("good", 2);
    let revoked = secured.authority.issue("revoked", 66);
    for page in secured.pages {
        assert!(secured.serves(page, &good), "{page:?}");
        assert!(!secured.serves(page, &revoked), "{page:?}, revoked");
    }
    // Only a member has to come from where its certificate says.
    let elsewhere = ["elsewhere.invalid".to_owned()];
    let elsewhere = secured.authority.issue_for(&elsewhere, "elsewhere", 3);
    let [clients @ .., peers] = secured.pages;
    for page in clients {
        assert!(secured.serves(page, &elsewhere), "{page:?}, elsewhere");
    }
    assert!(!secured.serves(peers, &elsewhere), "peers, elsewhere");
}

/// CVE-2026-73500: who began a handshake and never ended it was waited for, for ever.
#[test]
fn who_never_ends_a_handshake_is_let_go_at_every_listener() {
    let _turn = turn::take("unfinished handshakes");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let secured = Secured::start(scratch.path());
    let good = secured.authority.issue("good", 2);
    let began = Instant::now();
    let begin = |address: SocketAddr, place: usize| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        if place.is_multiple_of(2) {
            // A record's header, and the first bytes of a hello of 512.
            let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
            stream.write_all(&hello).expect("a few bytes");
        }
        stream
    };
    let opened = secured.pages.iter().flat_map(|(address, _)| {
        (0..UNFINISHED).map(move |place| (*address, begin(*address, place)))
    });
    let opened: Vec<(SocketAddr, TcpStream)> = opened.collect();
    for page in secured.pages {
        assert!(secured.serves(page, &good), "{page:?}, meanwhile");
    }
    for (address, mut stream) in opened {
        let left = HANDSHAKE_LIMIT.saturating_sub(began.elapsed());
        let left = left.max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).expect("a limit");
        let mut rest = Vec::new();
        // An alert may come before the end.
        if let Err(error) = stream.read_to_end(&mut rest) {
            let is_waited_for = matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            );
            assert!(!is_waited_for, "{address} still waits");
        }
    }
    assert!(secured.server.has_process());
}
