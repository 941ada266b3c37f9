//! A cluster that archives its log goes back to the moment before somebody's mistake, in place.

use std::path::Path;
use std::time::Duration;

use engram_e2e::kind::Declared;
use engram_e2e::tools;
use engram_proto::mvccpb::KeyValue;
use serde_json::json;

use super::restore_in_place::{claim, confirm, phase, taken};
use crate::ci::backups::object;
use crate::ci::content;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "moment";
/// The store.
const STORE: &str = "volume";
/// How far the archive is behind at most (`--archive-max-delay`), and a little.
const BEHIND: Duration = Duration::from_secs(15);
/// Time goes by between what is kept and the mistake.
const PAUSE: Duration = Duration::from_secs(2);

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
    });
    lab.clear(NAMESPACE);
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
