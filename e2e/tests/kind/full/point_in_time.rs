//! A cluster that archives its log goes back to the moment before somebody's mistake, in place; and to a moment half a
//! minute ago while a client writes to it throughout.

use std::path::Path;
use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use engram_e2e::tools;
use engram_proto::mvccpb::KeyValue;
use serde_json::json;

use super::restore_in_place::{change, claim, confirm, phase, taken, taken_as};
use crate::ci::backups::object;
use crate::ci::content;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "moment";
/// The store.
const STORE: &str = "volume";
/// How far the archive is behind at most (`--archive-max-delay`), and a little.
const BEHIND: Duration = Duration::from_secs(15);
/// Time goes by between what is kept and the mistake.
const PAUSE: Duration = Duration::from_secs(2);
/// How long ago the moment is to which a cluster under load goes back.
const AGO: Duration = Duration::from_secs(30);
/// What a restore adds to the revision, unless it is told otherwise.
const BUMP: i64 = 1_000_000_000;

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = declare(lab);
    content::fill(&demo);
    step("a backup, and the log behind it", || {
        taken(&demo, STORE, &[])
    });
    content::put(&demo, "good");
    let (kept, revision) = content::everything(&demo, 0).expect("a read");
    std::thread::sleep(PAUSE);
    let moment = now();
    std::thread::sleep(PAUSE);
    content::put(&demo, "mistake");
    std::thread::sleep(BEHIND);
    step("a moment that no archive has changes nothing", || {
        restore(&demo, "early", "2001-01-01T00:00:00Z");
        let failed = phase(&demo, "early", "Failed");
        let said = failed["status"]["conditions"].to_string();
        assert!(said.contains("MomentNotFound"), "{failed:#}");
        assert!(demo.object().expect("it is there")["status"]["restoring"].is_null());
    });
    step("the moment before it is found, and what is lost", || {
        restore(&demo, "before", &moment);
        let planned = phase(&demo, "before", "Planned");
        let plan = planned["status"]["plan"].to_string();
        let up_to = format!("the log archive behind it up to {moment}, revision {revision}");
        assert!(plan.contains(&up_to), "{planned:#}");
        let loss = planned["status"]["loss"].to_string();
        assert!(loss.contains("at least 1 revisions"), "{loss}");
    });
    step("the cluster goes back to it", || {
        confirm(&demo, "before");
        phase(&demo, "before", "Completed");
        demo.ready(1, READY_LIMIT);
        holds(&demo, &kept, revision);
        change(&demo, "before", &json!({ "decision": "Accept" }));
        wait_for("it is over", READY_LIMIT, || {
            let object = demo.object()?;
            object["status"]["restoring"].is_null().then_some(())
        });
        demo.ready(1, READY_LIMIT);
    });
    under_load(&demo);
    lab.clear(NAMESPACE);
}

/// A client writes before, during and after: what it was told and is not there is what the plan said would be lost.
fn under_load(demo: &Declared) {
    // The history began anew: the next moment needs a backup of it.
    step("a backup of what goes on", || {
        taken_as(demo, "onward", STORE, &[]);
    });
    let mut traffic = Traffic::start(&demo.access(), &demo.node_ports());
    std::thread::sleep(PAUSE);
    let moment = now();
    step_under(&traffic, "half a minute of writes", || {
        std::thread::sleep(AGO)
    });
    let (revision, least) = step_under(&traffic, "what would be lost is said", || {
        restore(demo, "load", &moment);
        let planned = phase(demo, "load", "Planned");
        let plan = planned["status"]["plan"].to_string();
        let from = format!("up to {moment}, revision ");
        let revision = number_after(&plan, &from);
        let loss = planned["status"]["loss"].to_string();
        (revision, number_after(&loss, "at least "))
    });
    step_under(&traffic, "done while it writes", || {
        confirm(demo, "load");
        phase(demo, "load", "Completed");
        demo.ready(1, READY_LIMIT);
        wait_for("writes are acknowledged again", READY_LIMIT, || {
            let told = traffic.acknowledged();
            let is_new = |at: &i64| *at > revision + BUMP;
            told.values().any(is_new).then_some(())
        });
    });
    traffic.pause();
    step("what is not there is what was written after it", || {
        let (told, there) = (traffic.acknowledged(), traffic.there());
        let (kept, rest): (Vec<_>, Vec<_>) = told.iter().partition(|(_, at)| **at <= revision);
        // What the new history acknowledged is beyond all that the old one ever was at.
        let (after, lost): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(_, at)| **at > revision + BUMP);
        println!(
            "          acknowledged: {} before, {} lost (at least {least} were said), {} after",
            kept.len(),
            lost.len(),
            after.len()
        );
        assert!(!kept.is_empty() && !lost.is_empty() && !after.is_empty());
        for (key, at) in kept.iter().chain(&after) {
            assert_eq!(there.get(*key), Some(*at), "{key} was acknowledged at {at}");
        }
        for (key, at) in &lost {
            assert_eq!(there.get(*key), None, "{key} is of {at}, after {revision}");
        }
        assert!(i64::try_from(lost.len()).expect("few") >= least);
        // Whoever watched from before lists anew.
        let old = content::everything(demo, revision).expect_err("it is compacted");
        assert!(old.contains("compacted"), "{old}");
    });
}

/// The number behind some words.
fn number_after(text: &str, words: &str) -> i64 {
    let (_, rest) = text
        .split_once(words)
        .unwrap_or_else(|| panic!("{words:?} is not in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// As `date` writes it, to the second.
fn now() -> String {
    let mut date = tools::command(Path::new("date"));
    let said = tools::must_succeed(date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]));
    said.trim().to_owned()
}

fn holds(demo: &Declared, kept: &[KeyValue], revision: i64) {
    let (now, at) = content::everything(demo, 0).expect("a read");
    let keys = |all: &[KeyValue]| -> Vec<String> {
        let names = all.iter().map(|one| String::from_utf8_lossy(&one.key));
        names.map(|name| name.into_owned()).collect()
    };
    assert_eq!(keys(&now), keys(kept));
    assert!(now == kept, "the keys are not those of revision {revision}");
    assert!(at > revision, "revision {at} after {revision}");
}

/// A member that archives to the volume on which the backups are.
fn declare(lab: &Lab) -> Declared {
    let kind = lab.with_operator();
    lab.namespace(NAMESPACE);
    let store = json!({ "pvc": { "claimName": "backups" } });
    let store = object("EngramBackupStore", STORE, &store);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [claim("backups"), store] });
    kind.apply(NAMESPACE, &list.to_string());
    let spec = json!({
        "replicas": 1, "storage": { "size": "1Gi" }, "clientService": { "type": "NodePort" },
        "archive": { "storeRef": { "name": STORE } },
    });
    let demo = Declared::declare(kind, NAMESPACE, "demo", &spec);
    step("a cluster that archives its log", || {
        demo.ready(1, READY_LIMIT)
    });
    demo
}

fn restore(demo: &Declared, name: &str, moment: &str) {
    let source = json!({ "storeRef": { "name": STORE }, "cluster": "demo", "targetTime": moment });
    let spec = json!({
        "kind": "InPlace", "source": source, "target": { "name": "demo" }, "dryRun": true,
    });
    let restore = object("EngramRestore", name, &spec);
    demo.kind().apply(demo.namespace(), &restore.to_string());
}
