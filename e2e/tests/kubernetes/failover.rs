//! An unmodified control plane on three members over mutual TLS: their leader is killed again and
//! again while Deployments scale. No object is lost, and controllers recover.
//!
//! CI kills one leader; with `ENGRAM_CHAOS=1` one is killed every 20 seconds for five minutes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::certificates::Authority;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::raise::RaiseOnDrop;
use engram_e2e::turn;
use engram_e2e::wallet::Wallet;
use serde_json::json;
use tempfile::TempDir;

use crate::api::{Api, Body, items, resource_version};
use crate::cluster::ControlPlane;
use crate::process::wait_for;
use crate::restart::{Ledger, check_state, check_watch, write};
use crate::watcher::Watcher;

const LIMIT: Duration = Duration::from_secs(90);
const NAMESPACE: &str = "failover";
const CORE: &str = "/api/v1/namespaces/failover";
const APPS: &str = "/apis/apps/v1/namespaces/failover";
const DEPLOYMENTS: usize = 3;
/// Between two kills.
const INTERVAL: Duration = Duration::from_secs(20);
/// How many, in CI and at full length.
const KILLS: (usize, usize) = (1, 15);

#[test]
fn a_control_plane_survives_its_datastores_leaders() {
    let _turn = turn::take("kube-apiserver on three members");
    let files = TempDir::with_prefix("engram-tls-").expect("a temporary directory");
    let authority = Authority::new(&files.path().join("ca"));
    let mut wallet = Wallet::create(&files.path().join("wallet"));
    wallet.fill(&authority, "member", &[&authority]);
    let mut members = Plan::of(3).secured_by(&wallet).start();
    let mut plane = ControlPlane::start(&etcd_flags(&members, &wallet));
    plane.kubectl(&["create", "namespace", NAMESPACE], "");
    for number in 0..DEPLOYMENTS {
        plane.kubectl(&["apply", "-f", "-"], &deployment(number).to_string());
    }
    let is_long = std::env::var_os("ENGRAM_CHAOS").is_some_and(|value| value == "1");
    let kills = if is_long { KILLS.1 } else { KILLS.0 };
    lose_leaders(&mut members, plane.api(), kills);
    if plane.revive_controllers() {
        println!("the controller manager had given up its lock and was restarted");
    }
    for number in 0..DEPLOYMENTS {
        scale(plane.api(), number, number + 1);
    }
    wait_for_pods(plane.api(), DEPLOYMENTS * (DEPLOYMENTS + 1) / 2);
    plane.must_run();
    members.must_hold_the_same();
}

fn etcd_flags(members: &Cluster, wallet: &Wallet) -> Vec<String> {
    let addresses = members.secure_addresses();
    let urls: Vec<String> = addresses
        .iter()
        .map(|address| format!("https://{address}"))
        .collect();
    vec![
        format!("--etcd-servers={}", urls.join(",")),
        format!("--etcd-cafile={}", wallet.bundle().display()),
        format!("--etcd-certfile={}", wallet.certificate().display()),
        format!("--etcd-keyfile={}", wallet.key().display()),
    ]
}

fn deployment(number: usize) -> serde_json::Value {
    let name = format!("web-{number}");
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "registry.invalid/web:1" }] },
            },
        },
    })
}

/// Kills leader after leader while config maps are written and Deployments scale, and checks that
/// every acknowledged config map is there and that a watch told of each once.
fn lose_leaders(members: &mut Cluster, api: Api, kills: usize) {
    let path = format!("{CORE}/configmaps");
    let list = wait_for("the list before", LIMIT, || Some(api.get(&path)));
    let watch = Watcher::start(api, &path, resource_version(&list));
    let ledger = Mutex::new(Ledger::default());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = RaiseOnDrop(&stop);
        for writer in ["left", "right"] {
            let (path, stop, ledger) = (&path, &stop, &ledger);
            scope.spawn(move || write(api, path, writer, stop, ledger));
        }
        scope.spawn(|| scale_for_ever(api, &stop));
        for kill in 0..kills {
            let leader = members.wait_for_leader(LEADER_LIMIT).place;
            let killed = Instant::now();
            let before = ledger.lock().expect("no holder panics").acknowledged.len();
            members.kill(leader);
            wait_for("writes after the leader's death", LIMIT, || {
                let now = ledger.lock().expect("no holder panics").acknowledged.len();
                (now > before + 20).then_some(())
            });
            println!(
                "leader {kill} killed; writes went on after {:?}",
                killed.elapsed()
            );
            members.restart(leader);
            thread::sleep(INTERVAL.saturating_sub(killed.elapsed()));
        }
    });
    let ledger = ledger.into_inner().expect("no holder panics");
    println!(
        "{} config maps were acknowledged",
        ledger.acknowledged.len()
    );
    check_state(api, &path, &ledger);
    check_watch(&watch, &ledger);
}

fn scale_for_ever(api: Api, stop: &AtomicBool) {
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let patch = json!({ "spec": { "replicas": round % 5 } });
        let path = format!("{APPS}/deployments/web-{}/scale", round % DEPLOYMENTS);
        // While there is no leader it may fail; the next round scales again.
        let _ = api.send("PATCH", &path, Some((Body::MergePatch, &patch)));
        thread::sleep(Duration::from_millis(500));
    }
}

fn scale(api: Api, number: usize, replicas: usize) {
    let patch = json!({ "spec": { "replicas": replicas } });
    let path = format!("{APPS}/deployments/web-{number}/scale");
    api.request("PATCH", &path, Some((Body::MergePatch, &patch)))
        .ok("scale");
}

fn wait_for_pods(api: Api, count: usize) {
    wait_for(&format!("{count} pods"), LIMIT, || {
        let pods = api.get(&format!("{CORE}/pods"));
        (items(&pods).len() == count).then_some(())
    });
}
