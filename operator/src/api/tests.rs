//! The rules that the API server applies, applied here: what is refused, and what it says.

use kube::core::cel::ValidationErrors;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: &Value) -> K {
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": name, "namespace": "data" },
        "spec": spec,
    });
    serde_json::from_value(object).expect("an object of ours")
}

fn said(result: Result<(), ValidationErrors>) -> String {
    result.map_or_else(|errors| errors.to_string(), |()| String::new())
}

fn cluster(name: &str, spec: &Value) -> EngramCluster {
    object("EngramCluster", name, spec)
}

#[test]
fn clusters_that_cannot_work_are_refused_with_advice() {
    assert_eq!(said(cluster("demo", &json!({})).validate_cel()), "");
    let long = "a".repeat(41);
    for (name, spec, part) in [
        (
            "demo",
            json!({ "replicas": 2 }),
            "replicas has to be 0, 1, 3, 5 or 7",
        ),
        (long.as_str(), json!({}), "at most 40 characters"),
        ("1demo", json!({}), "begins with a letter"),
        (
            "demo",
            json!({ "config": { "heartbeatIntervalMilliseconds": 100, "electionTimeoutMilliseconds": 400 } }),
            "at least 5 times",
        ),
        (
            "demo",
            json!({ "config": { "autoCompaction": { "mode": "Periodic" } } }),
            "retention is needed",
        ),
        (
            "demo",
            json!({ "tls": { "client": { "mode": "Secret" } } }),
            "secretName is needed",
        ),
        (
            "demo",
            json!({ "tls": { "peer": { "secretName": "mine" } } }),
            "secretName",
        ),
        (
            "demo",
            json!({ "config": { "autoCompaction": { "mode": "Revision", "retention": "1h" } } }),
            "number",
        ),
    ] {
        let text = said(cluster(name, &spec).validate_cel());
        assert!(text.contains(part), "{spec}: {text:?}");
    }
}

#[test]
fn users_and_roles_are_whose_they_are_and_none_of_the_operators() {
    let user = |name: &str, more: Value| -> EngramUser {
        let mut spec = json!({ "clusterRef": { "name": "demo" } });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        object("EngramUser", name, &spec)
    };
    assert_eq!(
        said(user("app", json!({ "roles": ["root"] })).validate_cel()),
        ""
    );
    for refused in [
        user("root", json!({})),
        user("engram-operator", json!({})),
        user("app", json!({ "name": "root" })),
    ] {
        let text = said(refused.validate_cel());
        assert!(text.contains("the operator's own users"), "{text:?}");
    }
    let both = json!({ "withoutPassword": true, "passwordSecretRef": { "name": "s" } });
    let text = said(user("app", both).validate_cel());
    assert!(text.contains("no passwordSecretRef"), "{text:?}");
    let change = |before: Value, after: Value| {
        said(user("app", after).validate_cel_update(&user("app", before)))
    };
    assert_eq!(
        change(json!({ "roles": ["a"] }), json!({ "roles": ["b"] })),
        ""
    );
    let text = change(json!({}), json!({ "name": "other" }));
    assert!(text.contains("make another one"), "{text:?}");
    let text = change(json!({}), json!({ "withoutPassword": true }));
    assert!(
        text.contains("withoutPassword cannot be changed"),
        "{text:?}"
    );
    let role = |permission: Value| {
        let spec = json!({ "clusterRef": { "name": "demo" }, "permissions": [permission] });
        said(object::<EngramRole>("EngramRole", "app", &spec).validate_cel())
    };
    assert_eq!(role(json!({ "access": "Read", "prefix": "" })), "");
    assert_eq!(
        role(json!({ "access": "Read", "key": "a", "rangeEnd": "b" })),
        ""
    );
    let text = role(json!({ "access": "Read" }));
    assert!(text.contains("exactly one of key and prefix"), "{text:?}");
    let text = role(json!({ "access": "Read", "prefix": "a", "rangeEnd": "b" }));
    assert!(text.contains("rangeEnd goes with key"), "{text:?}");
    let plain = json!({ "auth": { "enabled": true }, "tls": { "client": { "mode": "Disabled" } } });
    let text = said(cluster("demo", &plain).validate_cel());
    assert!(text.contains("auth needs TLS"), "{text:?}");
}

#[test]
fn what_cannot_change_is_held() {
    let change = |before: Value, after: Value| {
        said(cluster("demo", &after).validate_cel_update(&cluster("demo", &before)))
    };
    let size = |size: &str| json!({ "storage": { "size": size } });
    assert_eq!(change(size("1Gi"), size("2Gi")), "");
    assert!(change(size("2Gi"), size("1536Mi")).contains("cannot shrink"));
    let recovery = json!({ "bootstrap": { "recovery": { "storeRef": { "name": "s" } } } });
    assert!(change(json!({}), recovery.clone()).contains("neither be added nor taken away"));
    let other = json!({ "bootstrap": { "recovery": { "storeRef": { "name": "t" } } } });
    assert!(change(recovery, other).contains("bootstrap cannot be changed"));
    let import = |endpoint: &str, cut_over: bool| json!({ "bootstrap": { "import": { "endpoints": [endpoint], "cutOver": cut_over } } });
    let running = import("https://a:2379", false);
    assert_eq!(change(running.clone(), import("https://a:2379", true)), "");
    assert!(change(running, import("https://b:2379", true)).contains("but import.cutOver"));
    let class = json!({ "storage": { "storageClassName": "fast" } });
    assert!(change(json!({}), class.clone()).contains("storageClassName can neither"));
    let slow = json!({ "storage": { "storageClassName": "slow" } });
    assert!(change(class, slow).contains("storageClassName cannot be changed"));
    for side in ["client", "peer"] {
        let mode = |mode: &str| json!({ "tls": { (side): { "mode": mode } } });
        let text = change(mode("SelfSigned"), mode("Disabled"));
        assert!(text.contains("mode cannot be changed"), "{side}: {text:?}");
    }
}

#[test]
fn what_was_asked_for_once_is_not_asked_for_otherwise() {
    let member = |cluster: &str| -> EngramMember {
        let spec = json!({
            "clusterRef": { "name": cluster }, "origin": "Join", "peerURL": "https://demo-1:2380",
        });
        object("EngramMember", "demo-1", &spec)
    };
    let text = said(member("other").validate_cel_update(&member("demo")));
    assert!(text.contains("cannot be changed"), "{text:?}");
    let operation = |spec: Value| -> EngramOperation { object("EngramOperation", "o", &spec) };
    let before = operation(json!({ "clusterRef": { "name": "demo" }, "compact": {} }));
    let after = operation(json!({ "clusterRef": { "name": "demo" }, "moveLeader": {} }));
    let text = said(after.validate_cel_update(&before));
    assert!(text.contains("make another"), "{text:?}");
    let schedule = |cluster: &str| -> EngramBackupSchedule {
        let spec = json!({
            "clusterRef": { "name": cluster }, "storeRef": { "name": "s" }, "schedule": "@daily",
        });
        object("EngramBackupSchedule", "nightly", &spec)
    };
    let text = said(schedule("other").validate_cel_update(&schedule("demo")));
    assert!(text.contains("clusterRef cannot be changed"), "{text:?}");
}

#[test]
fn retention_has_a_rule() {
    let schedule = |retention: Value| -> String {
        let spec = json!({
            "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "schedule": "@daily",
            "retention": retention,
        });
        said(
            object::<EngramBackupSchedule>("EngramBackupSchedule", "nightly", &spec).validate_cel(),
        )
    };
    assert!(schedule(json!({})).contains("at least one rule is needed"));
    for rule in [
        json!({ "keepLast": 1 }),
        json!({ "keepWithin": "1h" }),
        json!({ "hourly": 1 }),
        json!({ "daily": 1 }),
        json!({ "weekly": 1 }),
        json!({ "monthly": 1 }),
    ] {
        assert_eq!(schedule(rule.clone()), "", "{rule}");
    }
}

#[test]
fn a_restore_says_from_where_and_to_where() {
    let restore = |name: &str, source: Value, target: Value| {
        let spec = json!({ "source": source, "target": target });
        said(object::<EngramRestore>("EngramRestore", name, &spec).validate_cel())
    };
    let target = json!({ "name": "again", "spec": {} });
    let backup = json!({ "backupRef": { "name": "b" } });
    assert_eq!(restore("r", backup.clone(), target.clone()), "");
    let text = restore("r", json!({}), target.clone());
    assert!(text.contains("exactly one of"), "{text:?}");
    let text = restore("r", json!({ "storeRef": { "name": "s" } }), target.clone());
    assert!(text.contains("cluster"), "{text:?}");
    let recovery = json!({ "bootstrap": { "recovery": { "storeRef": { "name": "s" } } } });
    let inner = json!({ "name": "again", "spec": recovery });
    let text = restore("r", backup.clone(), inner);
    assert!(text.contains("bootstrap"), "{text:?}");
    let text = restore(&"r".repeat(64), backup, target);
    assert!(text.contains("at most 63"), "{text:?}");
}

#[test]
fn a_cluster_begins_with_a_backup_or_with_volumes() {
    let bootstrap =
        |bootstrap: Value| said(cluster("demo", &json!({ "bootstrap": bootstrap })).validate_cel());
    let adopt = json!({ "clusterID": "c", "members": [
        { "name": "demo-1", "memberID": "1", "volumeClaim": "v" },
    ] });
    assert_eq!(bootstrap(json!({ "adopt": adopt })), "");
    let both = json!({ "adopt": adopt, "recovery": { "storeRef": { "name": "s" } } });
    assert!(bootstrap(both).contains("exactly one of"));
    let restore = |more: Value| {
        let mut spec = json!({ "kind": "AdoptVolumes", "target": { "name": "demo", "spec": {} } });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        said(object::<EngramRestore>("EngramRestore", "r", &spec).validate_cel())
    };
    assert_eq!(restore(json!({ "volumes": ["v"] })), "");
    assert!(restore(json!({ "decision": "Accept" })).contains("simply deleted"));
    assert!(restore(json!({ "target": { "name": "demo" } })).contains("target.spec"));
    let quorum =
        json!({ "kind": "QuorumRecovery", "target": { "name": "demo" }, "volumes": ["v"] });
    assert!(restore(quorum).contains("AdoptVolumes takes"));
}

#[test]
fn a_schedule_has_five_fields() {
    let schedule = |text: &str| -> String {
        let spec = json!({
            "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "schedule": text,
        });
        said(
            object::<EngramBackupSchedule>("EngramBackupSchedule", "nightly", &spec).validate_cel(),
        )
    };
    for good in ["0 3 * * *", "*/15 * * * 1-5", "@daily"] {
        assert_eq!(schedule(good), "", "{good}");
    }
    for bad in ["0 0 3 * * *", "0 3 * *", "@sometimes"] {
        assert!(
            schedule(bad).contains("exactly five fields"),
            "{bad}: {}",
            schedule(bad)
        );
    }
}

#[test]
fn exactly_one_of_many_is_given() {
    let operation = |more: Value| {
        let mut spec = json!({ "clusterRef": { "name": "demo" } });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        said(object::<EngramOperation>("EngramOperation", "o", &spec).validate_cel())
    };
    assert_eq!(operation(json!({ "compact": {} })), "");
    assert!(operation(json!({})).contains("exactly one of"));
    assert!(operation(json!({ "compact": {}, "moveLeader": {} })).contains("exactly one of"));
    let store = |spec: Value| {
        said(object::<EngramBackupStore>("EngramBackupStore", "s", &spec).validate_cel())
    };
    assert_eq!(store(json!({ "pvc": { "claimName": "c" } })), "");
    assert!(store(json!({})).contains("exactly one of s3, gcs, azure and pvc"));
    let azure = json!({ "account": "engram", "container": "backups" });
    assert_eq!(store(json!({ "azure": azure })), "");
    let two = json!({ "azure": azure, "gcs": { "bucket": "backups" } });
    assert!(store(two).contains("exactly one of"));
    let plain = json!({ "s3": { "bucket": "backups", "endpoint": "http://s3:9000" } });
    assert!(store(plain).contains("allowHTTP"));
}

#[test]
fn of_a_restore_the_dry_run_ends_with_a_confirmation_and_nothing_else_changes() {
    let restore = |bump: i64, more: Value| -> EngramRestore {
        let mut spec = json!({
            "source": { "backupRef": { "name": "b" } }, "revisionBump": bump,
            "target": { "name": "again", "spec": {} },
        });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        object("EngramRestore", "r", &spec)
    };
    let dry = restore(1, json!({ "dryRun": true }));
    let confirmed = restore(1, json!({ "confirm": "0123456789abcdef" }));
    assert_eq!(said(confirmed.validate_cel_update(&dry)), "");
    let other = restore(2, json!({ "dryRun": true }));
    let text = said(other.validate_cel_update(&dry));
    assert!(
        text.contains("nothing but dryRun, confirm and decision"),
        "{text:?}"
    );
}

#[test]
fn a_restore_in_place_takes_the_cluster_as_it_is_and_is_decided_once() {
    let restore = |more: Value| -> EngramRestore {
        let mut spec = json!({
            "source": { "backupRef": { "name": "b" } }, "target": { "name": "demo" }, "kind": "InPlace",
        });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        object("EngramRestore", "r", &spec)
    };
    let one = restore(json!({}));
    assert_eq!(said(one.validate_cel()), "");
    let with_spec = restore(json!({ "target": { "name": "demo", "spec": {} } }));
    assert!(said(with_spec.validate_cel()).contains("target.spec is what a new cluster"));
    let without = restore(json!({ "kind": "NewCluster" }));
    assert!(said(without.validate_cel()).contains("target.spec is what a new cluster"));
    let undo = restore(json!({ "decision": "Undo" }));
    assert_eq!(said(undo.validate_cel_update(&one)), "");
    let accept = restore(json!({ "decision": "Accept" }));
    for after in [&accept, &one] {
        let text = said(after.validate_cel_update(&undo));
        assert!(text.contains("make another restore"), "{text:?}");
    }
    let recovery = |more: Value| {
        let mut spec = json!({ "kind": "QuorumRecovery", "target": { "name": "demo" } });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        said(object::<EngramRestore>("EngramRestore", "r", &spec).validate_cel())
    };
    assert_eq!(recovery(json!({ "decision": "Accept" })), "");
    assert!(recovery(json!({ "decision": "Undo" })).contains("there is no Undo"));
    let source = json!({ "source": { "backupRef": { "name": "b" } } });
    assert!(recovery(source).contains("goes on with what is there"));
    let kind = restore(json!({ "kind": "NewCluster", "target": { "name": "demo", "spec": {} } }));
    let text = said(kind.validate_cel_update(&one));
    assert!(text.contains("nothing but"), "{text:?}");
    let new = json!({ "kind": "NewCluster", "target": { "name": "demo", "spec": {} }, "decision": "Undo" });
    assert!(said(restore(new).validate_cel()).contains("simply deleted"));
}

#[test]
fn a_bump_and_its_mark_belong_together() {
    let restore = |more: Value| {
        let mut spec = json!({
            "source": { "backupRef": { "name": "b" } },
            "target": { "name": "again", "spec": {} },
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        said(object::<EngramRestore>("EngramRestore", "r", &spec).validate_cel())
    };
    assert_eq!(restore(json!({})), "");
    assert_eq!(
        restore(json!({ "revisionBump": 0, "markCompacted": false })),
        ""
    );
    for half in [
        json!({ "revisionBump": 0 }),
        json!({ "markCompacted": false }),
    ] {
        let text = restore(half.clone());
        assert!(text.contains("belong together"), "{half}: {text:?}");
        let mut recovery = json!({ "storeRef": { "name": "s" } });
        recovery
            .as_object_mut()
            .unwrap()
            .extend(half.as_object().unwrap().clone());
        let spec = json!({ "bootstrap": { "recovery": recovery } });
        let text = said(cluster("demo", &spec).validate_cel());
        assert!(text.contains("belong together"), "{half}: {text:?}");
    }
    let inner = json!({ "target": { "name": "again", "spec": { "replicas": 2 } } });
    assert!(restore(inner).contains("replicas has to be"));
}

#[test]
fn a_backup_may_be_verified_and_let_go_of_later_and_nothing_else() {
    let backup = |more: Value| -> EngramBackup {
        let mut spec = json!({ "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" } });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object("EngramBackup", "b", &spec)
    };
    let change = |after: Value| said(backup(after).validate_cel_update(&backup(json!({}))));
    assert_eq!(
        change(json!({ "verify": true, "deletionPolicy": "Delete" })),
        ""
    );
    let other = json!({ "storeRef": { "name": "t" } });
    assert!(change(other).contains("make another backup"));
}

#[test]
fn names_that_others_are_made_from_are_not_too_long() {
    let references = json!({
        "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "schedule": "@daily",
        "pvc": { "claimName": "c" },
    });
    let name = |length| "a".repeat(length);
    let backup = object::<EngramBackup>("EngramBackup", &name(53), &references);
    assert!(said(backup.validate_cel()).contains("at most 52"));
    let schedule = object::<EngramBackupSchedule>("EngramBackupSchedule", &name(39), &references);
    assert!(said(schedule.validate_cel()).contains("at most 38"));
    let store = object::<EngramBackupStore>("EngramBackupStore", &name(49), &references);
    assert!(said(store.validate_cel()).contains("at most 48"));
}

#[test]
fn defaults_are_what_the_types_say() {
    let spec = cluster("demo", &json!({})).spec;
    assert_eq!((spec.replicas, spec.storage.size.as_str()), (3, "8Gi"));
    assert_eq!(spec.tls.client.mode, TlsMode::SelfSigned);
    assert!(spec.network_policy.enabled && spec.pod_disruption_budget.enabled);
    assert_eq!(spec.scheduling.topology_keys.len(), 2);
}
