//! etcd's own `grpc-proxy` and `gateway` before Engram: what a client is told through them is what it is
//! told through them by a real etcd.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::server::{Server, Setup};
use engram_e2e::{ports, tools, turn};

const START_LIMIT: Duration = Duration::from_secs(20);

/// What a client does, behind either.
const STEPS: &[&str] = &[
    "put a 1",
    "put b 2",
    "get a",
    "get --prefix  -w fields",
    "get b --consistency=s --print-value-only",
    "put a 3 --prev-kv",
    "del b --prev-kv",
    "get b",
    "lease grant 600",
    "put leased v --lease=LEASE",
    "lease keep-alive --once LEASE",
    "lease timetolive LEASE --keys",
    "lease list",
    "lease revoke LEASE",
    "lease revoke LEASE",
    "get leased",
    "compaction 3",
    "compaction 3",
    "get a --rev=2",
    "lock name true",
    "alarm list",
    "move-leader 1",
    "role add r",
    "user add u:p",
    "user grant-role u r",
    "user get u --detail",
    "auth status",
    "user delete u",
    "get a --limit=-1 --sort-by=key",
];

/// One of etcd's proxies before a server. It ends with this.
struct Proxy {
    process: Child,
    address: SocketAddr,
    /// The lease that was granted last.
    lease: String,
}

impl Proxy {
    /// `etcd KIND start` before the server.
    fn before(server: &Server, kind: &str) -> Proxy {
        let address: SocketAddr = ([127, 0, 0, 1], ports::free()).into();
        let mut command = tools::command(&tools::tool("etcd"));
        command
            .args([kind, "start"])
            .arg(format!("--endpoints={}", server.address()))
            .arg(format!("--listen-addr={address}"))
            .current_dir(server.scratch())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("etcd starts");
        let proxy = Proxy {
            process,
            address,
            lease: String::new(),
        };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < START_LIMIT, "{kind} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    fn etcdctl(&self) -> Command {
        let mut command = tools::command(&tools::tool("etcdctl"));
        command.arg(format!("--endpoints={}", self.address));
        command
    }

    /// What is said to a step, without what is another at each server.
    fn say(&mut self, step: &str) -> (bool, String) {
        let step = step.replace("LEASE", &self.lease);
        let said = tools::run(self.etcdctl().args(step.split(' ')), tools::TOOL_LIMIT);
        if let Some(granted) = said.stdout.strip_prefix("lease ")
            && step.starts_with("lease grant")
        {
            self.lease = granted.split(' ').next().unwrap_or_default().to_owned();
        }
        let text = match self.lease.is_empty() {
            true => said.text(),
            false => said.text().replace(&self.lease, "LEASE"),
        };
        let text = tools::whole_lease(&text, 600);
        let lines = text.lines().filter(|line| {
            // etcdctl's own log of its tries; ids, and a term that begins with another number.
            !line.starts_with("{\"level\"")
                && !line.starts_with("\"ClusterID\"")
                && !line.starts_with("\"MemberID\"")
                && !line.starts_with("\"RaftTerm\"")
        });
        let lines: Vec<_> = lines
            .map(|line| line.replace(&self.address.to_string(), "ADDRESS"))
            .collect();
        (said.status.success(), lines.join("\n"))
    }

    /// The first events of a watch from the beginning, and of one that is made before they happen.
    fn watched(&mut self) -> [Vec<String>; 2] {
        let before = self.watch(&["watch", "w"]);
        // The proxy makes it by and by.
        thread::sleep(Duration::from_millis(500));
        for value in ["1", "2"] {
            assert!(self.say(&format!("put w {value}")).0);
        }
        let since = self.watch(&["watch", "a", "--rev=4"]);
        [(before, 6), (since, 3)].map(|(mut watch, lines)| {
            let out = watch.stdout.take().expect("it is piped");
            let lines = BufReader::new(out).lines().take(lines);
            let lines = lines.map(|line| line.expect("a line")).collect();
            watch.kill().expect("it runs");
            watch.wait().expect("it ends");
            lines
        })
    }

    fn watch(&self, arguments: &[&str]) -> Child {
        let mut command = self.etcdctl();
        command.args(arguments).stdout(Stdio::piped());
        command.spawn().expect("etcdctl starts")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself, which a step has said.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn behind(kind: &str) {
    let (etcd, server) = (Setup::etcd().start(), Setup::engram().start());
    let [mut wanted, mut got] = [&etcd, &server].map(|server| Proxy::before(server, kind));
    let mut differ = Vec::new();
    for step in STEPS {
        let (wanted, got) = (wanted.say(step), got.say(step));
        if got != wanted {
            differ.push(format!("{step}: {got:?}, etcd: {wanted:?}"));
        }
    }
    assert!(differ.is_empty(), "{kind}: {differ:#?}");
    assert_eq!(got.watched(), wanted.watched(), "{kind}");
}

#[test]
fn behind_etcds_grpc_proxy_clients_are_told_what_a_real_etcd_tells_them() {
    let _turn = turn::take("grpc-proxy");
    behind("grpc-proxy");
}

#[test]
fn behind_etcds_gateway_clients_are_told_what_a_real_etcd_tells_them() {
    let _turn = turn::take("gateway");
    behind("gateway");
}
