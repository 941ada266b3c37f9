//! A cluster of real processes on loopback, whose peers reach each other through the gates of
//! [`crate::proxy`].
//!
//! Members go by their places, from 0; the one at place 0 is named `m1`. Clients reach every
//! member directly: faults of the network are between members. When a test fails, each member's
//! directory is kept with its data and the output of all its lives, and its path is printed.

mod consistency;
mod faults;
mod health;
mod membership;
mod nemesis;
pub mod storm;

pub use health::Leader;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};

use crate::proxy::Network;
use crate::server::{Server, Setup};
use crate::users::Caller;
use crate::wallet::Wallet;
use crate::{client, ports, tools};

/// `--election-timeout` of every member: etcd's default.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);
/// `--heartbeat-interval` of every member: etcd's default. Milliseconds.
const HEARTBEAT_MS: u64 = 100;
/// How long a cluster may take to have a leader where nothing is wrong. The CI machine is busy.
pub const LEADER_LIMIT: Duration = Duration::from_secs(20);

/// How a cluster is to be started.
pub struct Plan {
    size: usize,
    flags: Vec<String>,
    own: BTreeMap<usize, Own>,
    is_secure: bool,
}

/// What only one member is started with.
#[derive(Default)]
struct Own {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
}

impl Plan {
    /// `size` members with etcd's default timing.
    pub fn of(size: usize) -> Self {
        let flags = vec![
            format!("--heartbeat-interval={HEARTBEAT_MS}"),
            format!("--election-timeout={}", ELECTION_TIMEOUT.as_millis()),
        ];
        Self {
            size,
            flags,
            own: BTreeMap::new(),
            is_secure: false,
        }
    }

    /// One more argument for every member.
    pub fn flag(mut self, argument: impl Into<String>) -> Self {
        self.flags.push(argument.into());
        self
    }

    /// One more argument for the member at `place`, after everybody's.
    pub fn flag_of(mut self, place: usize, argument: impl Into<String>) -> Self {
        let own = self.own.entry(place).or_default();
        own.flags.push(argument.into());
        self
    }

    /// Variables of the environment of the member at `place`, in every life of it.
    pub fn environment_of(mut self, place: usize, variables: Vec<(String, String)>) -> Self {
        let own = self.own.entry(place).or_default();
        own.environment.extend(variables);
        self
    }

    /// The data directory of the member at `place`, instead of one that goes with it.
    pub fn data_dir_of(mut self, place: usize, path: PathBuf) -> Self {
        self.own.entry(place).or_default().data_dir = Some(path);
        self
    }

    /// Mutual TLS between members, and for the clients of [`Cluster::secure_addresses`]. The plain
    /// listener of [`Cluster::addresses`] stays, for the harness itself.
    pub fn secured_by(mut self, wallet: &Wallet) -> Self {
        self.flags.extend(wallet.member_flags());
        self.is_secure = true;
        self
    }

    /// Starts the members and waits until all of them serve and agree on a leader.
    ///
    /// # Panics
    /// If they do not.
    pub fn start(self) -> Cluster {
        let mut cluster = Cluster {
            members: Vec::new(),
            network: Network::new(),
            flags: self.flags,
            own: self.own,
            is_secure: self.is_secure,
            paused: BTreeSet::new(),
            administrator: None,
            runtime: client::runtime(),
        };
        for _ in 0..self.size {
            cluster.prepare_member();
        }
        let everybody = cluster.initial_cluster();
        for place in 0..self.size {
            cluster.members[place].initial = Some(("new", everybody.clone()));
            cluster.launch(place);
        }
        for place in 0..self.size {
            cluster.members[place].server.must_become_ready();
        }
        cluster.wait_for_leader(LEADER_LIMIT);
        cluster
    }
}

/// One member.
struct Member {
    server: Server,
    /// Where its peers dial it.
    gate: SocketAddr,
    /// `http` or `https`.
    scheme: &'static str,
    /// Where clients with TLS reach it, if there is TLS.
    secure: Option<SocketAddr>,
    /// `--initial-cluster-state` and `--initial-cluster` of the next start.
    initial: Option<(&'static str, String)>,
}

impl Member {
    fn peer_url(&self) -> String {
        format!("{}://{}", self.scheme, self.gate)
    }
}

/// The members, the network between them, and a runtime for clients. Dropped, it kills them.
pub struct Cluster {
    // Members first: they are ended first.
    members: Vec<Member>,
    network: Network,
    flags: Vec<String>,
    own: BTreeMap<usize, Own>,
    is_secure: bool,
    paused: BTreeSet<usize>,
    administrator: Option<Caller>,
    runtime: Runtime,
}

impl Cluster {
    /// How many members were ever started: places are below it.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// A member's process.
    pub fn server(&self, place: usize) -> &Server {
        &self.members[place].server
    }

    /// The network between the members.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The runtime of the clients.
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// The clients of the member at `place`, which connect when they are used.
    fn client(&self, place: usize) -> client::Client {
        let _guard = self.runtime.enter();
        client::Client::lazy(self.server(place).address())
    }

    /// Where clients reach the members, in the order of the places.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |member: &Member| member.server.address();
        self.members.iter().map(address).collect()
    }

    /// Where clients with TLS reach the members; empty without TLS.
    pub fn secure_addresses(&self) -> Vec<SocketAddr> {
        self.members
            .iter()
            .filter_map(|member| member.secure)
            .collect()
    }

    /// An `etcdctl` command with the endpoints of the members at `places`.
    pub fn etcdctl_command(&self, places: &[usize]) -> Command {
        let endpoint = |place: &usize| self.members[*place].server.address().to_string();
        let endpoints: Vec<String> = places.iter().map(endpoint).collect();
        let mut command = tools::command(&tools::tool("etcdctl"));
        command.arg(format!("--endpoints={}", endpoints.join(",")));
        command
    }

    /// Runs `etcdctl` with the endpoints of all members; returns its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let everybody: Vec<usize> = (0..self.size()).collect();
        self.etcdctl_at(&everybody, arguments)
    }

    /// [`Cluster::etcdctl`] with the endpoints of the members at `places`.
    ///
    /// # Panics
    /// If it fails.
    pub fn etcdctl_at(&self, places: &[usize], arguments: &[&str]) -> String {
        let finished = tools::run(
            self.etcdctl_command(places).args(arguments),
            tools::TOOL_LIMIT,
        );
        if !finished.status.success() {
            self.fail(&format!("etcdctl {arguments:?}: {}", finished.text()));
        }
        finished.stdout
    }

    /// [`Cluster::etcdctl`] with `-w json`, parsed.
    ///
    /// # Panics
    /// If it fails or answers no JSON.
    pub fn etcdctl_json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.etcdctl(&[&["-w", "json"], arguments].concat());
        serde_json::from_str(text.trim())
            .unwrap_or_else(|error| panic!("{arguments:?} answered no JSON ({error}): {text}"))
    }

    /// Ends the test with a sentence, and says of each member how it stands and where its files are.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, sentence: &str) -> ! {
        panic!("{sentence}\n{}", self.describe());
    }

    /// Fails with a sentence unless a condition holds.
    ///
    /// # Panics
    /// If it does not hold.
    pub fn must(&self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.fail(&sentence());
        }
    }

    /// Chooses ports and directories of one more member.
    fn prepare_member(&mut self) -> usize {
        let place = self.members.len();
        let mut setup = Setup::engram().name(&format!("m{}", place + 1));
        let own = self.own.remove(&place).unwrap_or_default();
        for flag in self.flags.iter().chain(&own.flags) {
            setup = setup.flag(flag.clone());
        }
        for (name, value) in &own.environment {
            setup = setup.environment(name, value);
        }
        if let Some(path) = &own.data_dir {
            setup = setup.data_dir(path);
        }
        let mut server = setup.prepare();
        let gate = self.network.open_gate(place, server.peer_address());
        let scheme = if self.is_secure { "https" } else { "http" };
        server.add_flag(format!("--initial-advertise-peer-urls={scheme}://{gate}"));
        let secure = self.is_secure.then(|| listen_securely(&mut server));
        self.members.push(Member {
            server,
            gate,
            scheme,
            secure,
            initial: None,
        });
        place
    }

    /// Every member with its peer URL, as `--initial-cluster` wants it.
    fn initial_cluster(&self) -> String {
        let entry = |member: &Member| format!("{}={}", member.server.name(), member.peer_url());
        let entries: Vec<String> = self.members.iter().map(entry).collect();
        entries.join(",")
    }

    /// Starts a member's process and does not wait for it.
    fn launch(&mut self, place: usize) {
        let member = &mut self.members[place];
        if let Some((state, everybody)) = member.initial.take() {
            let server = &mut member.server;
            server.add_flag(format!("--initial-cluster={everybody}"));
            server.add_flag(format!("--initial-cluster-state={state}"));
        }
        member.server.launch();
        self.network.runs_as(place, member.server.pid());
    }
}

/// Gives a member a client listener with TLS beside the plain one, and TLS on that for peers;
/// returns where clients reach it.
fn listen_securely(server: &mut Server) -> SocketAddr {
    let secure = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let plain = server.client_url();
    server.add_flag(format!("--listen-client-urls={plain},https://{secure}"));
    server.add_flag(format!("--advertise-client-urls=https://{secure}"));
    server.add_flag(format!(
        "--listen-peer-urls=https://{}",
        server.peer_address()
    ));
    secure
}
