//! The datastore is killed while a client writes, and comes back on what it left: nothing that
//! was acknowledged is lost, no version is used twice, and watches tell of everything once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use engram_e2e::raise::RaiseOnDrop;
use serde_json::json;

use crate::api::{Api, Body, items, name, resource_version};
use crate::cluster::Cluster;
use crate::process::wait_for;
use crate::watcher::Watcher;

const LIMIT: Duration = Duration::from_secs(90);
/// How many writes have to be acknowledged before the kill, and after it.
const WRITES: usize = 60;
/// How long the datastore is gone.
const OUTAGE: Duration = Duration::from_secs(1);
const HTTP_CREATED: u16 = 201;

/// What the writer knows.
#[derive(Default)]
pub struct Ledger {
    /// In the order of the acknowledgements.
    pub acknowledged: Vec<(String, u64)>,
    /// Writes that failed: whether they happened is not known.
    pub unknown: BTreeSet<String>,
}

/// Kills and restarts the datastore under a client that creates config maps below `namespace`. Whether
/// the client's watch had to list again.
pub fn nothing_is_lost(cluster: &mut Cluster, namespace: &str) -> bool {
    let api = cluster.api();
    let path = format!("{namespace}/configmaps");
    let list = api.get(&path);
    let watch = Watcher::start(api, &path, resource_version(&list));
    let ledger = Mutex::new(Ledger::default());
    let stop = AtomicBool::new(false);
    let acknowledged = || ledger.lock().expect("no holder panics").acknowledged.len();
    thread::scope(|scope| {
        let _end = RaiseOnDrop(&stop);
        // Two: one may be waiting for an answer that will not come.
        for writer in ["left", "right"] {
            let (path, stop, ledger) = (&path, &stop, &ledger);
            scope.spawn(move || write(api, path, writer, stop, ledger));
        }
        wait_for("writes before the kill", LIMIT, || {
            (acknowledged() >= WRITES).then_some(())
        });
        cluster.kill_datastore();
        thread::sleep(OUTAGE / 2); // answers that were on their way arrive
        let before = acknowledged();
        thread::sleep(OUTAGE / 2);
        assert_eq!(
            acknowledged(),
            before,
            "who acknowledges what nobody stores?"
        );
        cluster.restart_datastore();
        wait_for("writes after the restart", LIMIT, || {
            (acknowledged() >= before + WRITES).then_some(())
        });
    });
    let ledger = ledger.into_inner().expect("no holder panics");
    check_state(api, &path, &ledger);
    check_watch(&watch, &ledger)
}

/// Creates config maps until told to stop, and notes what it is told.
pub fn write(api: Api, path: &str, writer: &str, stop: &AtomicBool, ledger: &Mutex<Ledger>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("restart-{writer}-{number:05}");
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name },
        });
        let answer = api.send("POST", path, Some((Body::Object, &object)));
        let mut ledger = ledger.lock().expect("no holder panics");
        match answer {
            Ok(answer) if answer.status == HTTP_CREATED => {
                ledger
                    .acknowledged
                    .push((name, resource_version(&answer.body)));
            }
            Ok(answer) if answer.status < 500 && answer.status != 429 => {
                panic!("{name}: {} {}", answer.status, answer.body)
            }
            _ => drop(ledger.unknown.insert(name)),
        }
        drop(ledger);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Everything acknowledged is there as it was acknowledged, and nothing else.
pub fn check_state(api: Api, path: &str, ledger: &Ledger) {
    let list = api.get(path);
    let there: BTreeMap<&str, u64> = items(&list)
        .iter()
        .map(|object| (name(object), resource_version(object)))
        .collect();
    for (name, version) in &ledger.acknowledged {
        assert_eq!(
            there.get(name.as_str()),
            Some(version),
            "{name} was acknowledged"
        );
    }
    let versions: BTreeSet<u64> = there.values().copied().collect();
    assert_eq!(versions.len(), there.len(), "a version was used twice");
    let acknowledged: BTreeSet<&str> = ledger
        .acknowledged
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for name in there.keys().filter(|name| name.starts_with("restart-")) {
        let known = acknowledged.contains(name) || ledger.unknown.contains(*name);
        assert!(known, "{name} was never written");
    }
}

/// A watch tells of every write once, in order. Whether it had to list again.
pub fn check_watch(watch: &Watcher, ledger: &Ledger) -> bool {
    let missing = || {
        let events = watch.events();
        let seen: BTreeSet<&str> = events.iter().map(|event| event.name.as_str()).collect();
        let missing = ledger
            .acknowledged
            .iter()
            .find(|(name, _)| !seen.contains(name.as_str()));
        missing.map(|(name, _)| name.clone())
    };
    wait_for("an event for every write", LIMIT, || {
        missing().is_none().then_some(())
    });
    let events = watch.events();
    let mut versions = BTreeMap::new();
    let mut last = 0;
    for event in events
        .iter()
        .filter(|event| event.name.starts_with("restart-"))
    {
        let earlier = versions.insert(event.name.as_str(), event.version);
        assert_eq!(earlier, None, "a second event for {event:?}");
        assert!(
            event.kind == "LISTED" || event.version > last,
            "{event:?} after {last}"
        );
        last = last.max(event.version);
    }
    for (name, version) in &ledger.acknowledged {
        assert_eq!(
            versions.get(name.as_str()),
            Some(version),
            "the event of {name}"
        );
    }
    let relisted = events.iter().any(|event| event.kind == "LISTED");
    if relisted {
        println!("          (the apiserver had the watcher list again, as it may)");
    }
    relisted
}
