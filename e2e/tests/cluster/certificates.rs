//! Certificates and the authority behind them are replaced while clients and members use them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use engram_e2e::certificates::Authority;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::wallet::Wallet;
use engram_e2e::{tools, turn};
use tempfile::TempDir;

/// etcdctl processes at a time; each makes a connection of its own, with the files of the moment.
const CLIENTS: usize = 2;
/// Requests between two steps.
const REQUESTS: u64 = 20;
/// How soon new files must be in use.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn certificates_and_their_authority_are_rotated_under_load() {
    let _turn = turn::take("rotation of certificates and CA");
    let files = TempDir::with_prefix("engram-tls-").expect("a temporary directory");
    let old = Authority::new(&files.path().join("old-ca"));
    let new = Authority::new(&files.path().join("new-ca"));
    let mut members = Wallet::create(&files.path().join("members"));
    let mut clients = Wallet::create(&files.path().join("clients"));
    members.fill(&old, "member", &[&old]);
    clients.fill(&old, "client", &[&old]);
    let mut cluster = Plan::of(3).secured_by(&members).start();
    strangers_are_refused(&cluster, &clients);

    let load = Load::begin(&cluster, &clients);
    load.must_progress(&cluster);
    // A new certificate of the old authority.
    members.fill(&old, "member", &[&old]);
    load.must_progress(&cluster);
    // Both authorities are trusted, everywhere, before anybody shows a certificate of the new one.
    members.fill(&old, "member", &[&old, &new]);
    clients.fill(&old, "client", &[&old, &new]);
    bundles_are_reread(&mut cluster);
    let mut probe = Wallet::create(&files.path().join("probe"));
    probe.fill(&new, "client", &[&old, &new]);
    everybody_accepts(&cluster, &probe);
    load.must_progress(&cluster);
    members.fill(&new, "member", &[&old, &new]);
    clients.fill(&new, "client", &[&old, &new]);
    load.must_progress(&cluster);
    // The old authority is trusted no longer.
    clients.fill(&new, "client", &[&new]);
    members.fill(&new, "member", &[&new]);
    bundles_are_reread(&mut cluster);
    probe.fill(&old, "client", &[&new]);
    everybody_refuses(&cluster, &probe);
    load.must_progress(&cluster);
    let served = load.end(&cluster);
    println!("{served} requests were served, each over a connection of its own");
    // The peers too: a member that comes back now shakes hands with new certificates only.
    cluster.kill(1);
    cluster.restart(1);
    cluster.wait_for_leader(LEADER_LIMIT);
    cluster.must_hold_the_same();
}

/// etcd reads its CA bundles at start only.
fn bundles_are_reread(cluster: &mut Cluster) {
    if !tools::engram_is_etcd() {
        return;
    }
    for place in 0..3 {
        let _ = cluster.terminate(place);
        cluster.restart(place);
        cluster.wait_for_leader(LEADER_LIMIT);
    }
}

fn etcdctl(cluster: &Cluster, place: usize, flags: &[String]) -> std::process::Command {
    let mut command = tools::command(&tools::tool("etcdctl"));
    let address = cluster.secure_addresses()[place];
    command
        .arg(format!("--endpoints=https://{address}"))
        .args(flags);
    command
}

fn is_served(cluster: &Cluster, place: usize, flags: &[String]) -> bool {
    let mut command = etcdctl(cluster, place, flags);
    let arguments = [
        "--command-timeout=2s",
        "--dial-timeout=1s",
        "get",
        "nothing",
    ];
    tools::run(command.args(arguments), tools::TOOL_LIMIT)
        .status
        .success()
}

/// Without a certificate, or without TLS, nobody is served.
fn strangers_are_refused(cluster: &Cluster, clients: &Wallet) {
    let only_trust = [format!("--cacert={}", clients.bundle().display())];
    for place in 0..3 {
        assert!(is_served(cluster, place, &clients.client_flags()));
        cluster.must(!is_served(cluster, place, &only_trust), || {
            format!(
                "{} served a client without a certificate",
                cluster.server(place).name()
            )
        });
    }
}

fn everybody_accepts(cluster: &Cluster, wallet: &Wallet) {
    for place in 0..3 {
        let what = format!("m{} trusts the new authority", place + 1);
        cluster.wait_for(RELOAD_LIMIT, &what, || {
            is_served(cluster, place, &wallet.client_flags()).then_some(())
        });
    }
}

fn everybody_refuses(cluster: &Cluster, wallet: &Wallet) {
    for place in 0..3 {
        let what = format!("m{} trusts the old authority no longer", place + 1);
        cluster.wait_for(RELOAD_LIMIT, &what, || {
            (!is_served(cluster, place, &wallet.client_flags())).then_some(())
        });
    }
}

/// etcdctl after etcdctl, each with all endpoints.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(cluster: &Cluster, wallet: &Wallet) -> Self {
        let endpoints: Vec<String> = cluster
            .secure_addresses()
            .iter()
            .map(|address| format!("https://{address}"))
            .collect();
        let mut load = Self {
            stop: Arc::default(),
            served: Arc::default(),
            failures: Arc::default(),
            clients: Vec::new(),
        };
        for number in 0..CLIENTS {
            let (stop, served) = (load.stop.clone(), load.served.clone());
            let failures = load.failures.clone();
            let mut flags = wallet.client_flags();
            flags.push(format!("--endpoints={}", endpoints.join(",")));
            load.clients.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut command = tools::command(&tools::tool("etcdctl"));
                    command
                        .args(&flags)
                        .args(["put", &format!("load/{number}"), "x"]);
                    let finished = tools::run(&mut command, tools::TOOL_LIMIT);
                    match finished.status.success() {
                        true => drop(served.fetch_add(1, Ordering::Relaxed)),
                        false => failures.lock().expect("no panic").push(finished.text()),
                    }
                }
            }));
        }
        load
    }

    fn must_progress(&self, cluster: &Cluster) {
        let goal = self.served.load(Ordering::Relaxed) + REQUESTS;
        cluster.wait_for(LEADER_LIMIT, "etcdctl's requests are served", || {
            (self.served.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    fn end(mut self, cluster: &Cluster) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in std::mem::take(&mut self.clients) {
            client.join().expect("clients do not panic");
        }
        let failures = self.failures.lock().expect("no panic").clone();
        // etcd had to be restarted for its bundles, which a request may notice.
        let allowed = tools::engram_is_etcd() || failures.is_empty();
        cluster.must(allowed, || {
            format!(
                "{} requests failed during the rotation: {}",
                failures.len(),
                failures[0]
            )
        });
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
