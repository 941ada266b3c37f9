//! What this room builds of clusters and stores that use all there is, byte by byte as the release before built it
//! (`golden.jsonl`). A pod that is built otherwise has another template: every cluster's members are restarted when the
//! operator is upgraded. Where that is meant, the file is replaced, and the change log says so.

use serde_json::{Value, json};

use super::tests::member;
use super::*;
use crate::api::{EngramBackupStore, EngramCluster, Recovery};

const BEFORE: &str = include_str!("golden.jsonl");
const IMAGE: &str = "engram:1";

fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &Value, more: &Value) -> T {
    let mut object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": "data", "uid": "u-1" },
        "spec": spec,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    serde_json::from_value(object).expect("an object")
}

fn stores() -> Vec<(&'static str, EngramBackupStore)> {
    let keys = json!({ "keys": [{ "secretRef": { "name": "new" } }, { "secretRef": { "name": "old" }, "key": "k" }] });
    let secret = json!({ "name": "credentials" });
    let authority = json!({ "name": "authorities" });
    let s3 = json!({
        "bucket": "b", "prefix": "p", "region": "eu-1", "endpoint": "http://s3:9000", "allowHTTP": true,
        "credentialsSecretRef": secret, "caSecretRef": authority,
    });
    let gcs = json!({ "bucket": "b", "credentialsSecretRef": secret });
    let azure = json!({ "account": "a", "container": "c", "credentialsSecretRef": secret });
    let pods = json!({
        "resources": { "requests": { "memory": "1Gi" } }, "serviceAccountName": "backups",
        "labels": { "team": "a" }, "securityContext": { "runAsNonRoot": true },
        "scratch": { "size": "30Gi", "claim": true, "storageClassName": "slow" },
    });
    let all = [
        ("s3", json!({ "s3": s3, "encryption": keys })),
        ("gcs", json!({ "gcs": gcs, "pods": pods })),
        ("azure", json!({ "azure": azure })),
        (
            "volume",
            json!({ "pvc": { "claimName": "c", "path": "x" } }),
        ),
        ("plain", json!({ "pvc": { "claimName": "c" } })),
    ];
    let store = |(name, spec)| (name, object("EngramBackupStore", name, &spec, &json!({})));
    all.map(store).into()
}

/// A cluster that uses all that a specification has for its objects.
fn full() -> Value {
    json!({
        "replicas": 5,
        "imagePullPolicy": "Always", "imagePullSecrets": [{ "name": "registry" }],
        "storage": { "size": "20Gi", "storageClassName": "fast" },
        "config": {
            "quotaBytes": "8Gi", "heartbeatIntervalMilliseconds": 200, "metrics": "Extensive",
            "autoCompaction": { "mode": "Periodic", "retention": "1h" },
        },
        "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "128Mi" } },
        "scheduling": {
            "antiAffinity": "Required", "spread": "Required", "topologyKeys": ["zone", "host"],
            "nodeSelector": { "disk": "fast" }, "priorityClassName": "high",
            "tolerations": [{ "key": "db", "operator": "Exists", "effect": "NoSchedule" }],
            "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["nvme"] }] },
            ] } },
        },
        "podTemplate": {
            "labels": { "team": "data" }, "annotations": { "a": "b" },
            "env": [{ "name": "TZ", "value": "UTC" }],
            "volumes": [{ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" }, "unheardOf": { "a": null, "b": 1 } }],
            "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
            "sidecars": [{ "name": "logs", "image": "logs:1", "restartPolicy": "Always" }],
            "serviceAccountName": "members", "runtimeClassName": "kata",
            "securityContext": { "runAsNonRoot": true }, "containerSecurityContext": { "privileged": false },
        },
        "clientService": {
            "type": "LoadBalancer", "annotations": { "lb": "x" },
            "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"],
        },
        "networkPolicy": { "from": [
            { "podSelector": { "matchLabels": { "a": "b" } } }, { "ipBlock": { "cidr": "10.0.0.0/8" } },
        ] },
    })
}

fn clusters() -> Vec<(&'static str, EngramCluster)> {
    let off = json!({ "mode": "Disabled" });
    let bare = json!({
        "tls": { "client": off, "peer": off }, "imagePullPolicy": "Never",
        "scheduling": { "antiAffinity": "None", "topologyKeys": [] },
        "networkPolicy": { "enabled": false }, "podDisruptionBudget": { "enabled": false },
        "storage": { "reclaimPolicy": "Retain" },
    });
    let own = json!({
        "auth": { "enabled": true },
        "tls": { "client": { "mode": "Secret", "secretName": "mine" } },
        "scheduling": { "topologySpreadConstraints": [{
            "maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        }] },
    });
    let (_, s3) = stores().remove(0);
    let status =
        json!({ "status": { "archiving": archiving(&access(&s3)), "ipFamilies": ["IPv6"] } });
    let cluster = |spec: &Value, more: &Value| object("EngramCluster", "demo", spec, more);
    vec![
        ("plain", cluster(&json!({}), &json!({}))),
        ("bare", cluster(&bare, &json!({}))),
        ("own", cluster(&own, &json!({}))),
        ("full", cluster(&full(), &status)),
    ]
}

/// A member's pod of a cluster.
fn pod(cluster: &EngramCluster, shape: &MemberPod, from: Option<&StoreAccess>) -> Value {
    let recovery: Recovery =
        serde_json::from_value(json!({ "storeRef": { "name": "s" }, "targetRevision": 7 }))
            .expect("a recovery");
    let from = from.map(|access| (&recovery, access));
    json!(member_pod(cluster, &member(), shape, IMAGE, from).expect("it fits"))
}

/// The shapes that a member's pod may have.
fn shapes() -> [(&'static str, MemberPod); 3] {
    let shape = |founds: bool, leaving: &[&str], alone: Option<&str>| MemberPod {
        name: "demo-1".into(),
        initial_cluster: "demo-1=https://demo-1.demo-peers.data.svc:2380".into(),
        founds,
        leaving: leaving.iter().map(|name| (*name).to_owned()).collect(),
        alone: alone.map(str::to_owned),
    };
    [
        ("founds", shape(true, &[], None)),
        ("replaces", shape(false, &["demo-2"], None)),
        ("alone", shape(false, &[], Some("once"))),
    ]
}

/// The pod of a job.
fn tool(cluster: Option<&EngramCluster>, job: Job, access: &StoreAccess) -> Value {
    json!(tool_pod(&Tool {
        name: "tool".into(),
        namespace: "data".into(),
        cluster_name: "demo",
        cluster,
        image: IMAGE,
        job,
        access,
        deadline: 60,
        owner: None,
    }))
}

/// What stands beside the members.
fn children(cluster: &EngramCluster) -> [(&'static str, Value); 5] {
    [
        ("peers", json!(peer_service(cluster))),
        ("clients", json!(client_service(cluster))),
        ("budget", json!(disruption_budget(cluster, 3, 1))),
        ("policy", json!(network_policy(cluster, "engram-system"))),
        ("claim", json!(volume_claim(cluster, &member()))),
    ]
}

fn built() -> Vec<(String, Value)> {
    let mut built = Vec::new();
    let stores: Vec<StoreAccess> = stores().iter().map(|(_, store)| access(store)).collect();
    let clusters = clusters();
    for (of, cluster) in &clusters {
        let template = template_hash(cluster, IMAGE);
        built.push((format!("{of} template"), json!(template)));
    }
    let (_, full) = &clusters[3];
    for (name, shape) in shapes() {
        built.push((format!("full pod {name}"), pod(full, &shape, None)));
    }
    let [(_, founds), ..] = shapes();
    let filled = pod(full, &founds, Some(&stores[0]));
    built.push(("full pod from s3".to_owned(), filled));
    for (name, object) in children(full) {
        built.push((format!("full {name}"), object));
    }
    let verify = || Job::Verify { id: "b-1".into() };
    let import = Job::Import(Import {
        from: vec!["https://etcd:2379".into()],
        secret: Some("source".into()),
        to: "https://demo-client.data.svc:2379".into(),
        cut_over: true,
        ..Import::default()
    });
    let inspect = Job::Inspect {
        claim: "data-demo-1".into(),
        node: Some("n1".into()),
    };
    for (name, cluster, job, store) in [
        ("full tool verify s3", Some(full), verify(), 0),
        ("full tool verify gcs", Some(full), verify(), 1),
        ("full tool import over s3", Some(full), import, 0),
        ("full tool inspect there s3", Some(full), inspect, 0),
        ("nobody tool verify s3", None, verify(), 0),
    ] {
        built.push((name.to_owned(), tool(cluster, job, &stores[store])));
    }
    for (place, one) in stores.iter().enumerate() {
        let both = one.clone().with(&stores[0].beside());
        built.push((format!("store {place}"), json!(archiving(one))));
        built.push((
            format!("store {place} and another"),
            json!(archiving(&both)),
        ));
    }
    built
}

#[test]
fn what_is_built_is_what_was_built_before() {
    let line = |(name, object): &(String, Value)| format!("{name}\t{object}\n");
    let built: Vec<String> = built().iter().map(line).collect();
    let differs = |(now, before): &(&String, &str)| now.trim_end() != *before;
    let pairs = built
        .iter()
        .zip(BEFORE.lines().chain(std::iter::repeat("")));
    let Some((now, before)) = pairs.into_iter().find(differs) else {
        assert_eq!(built.len(), BEFORE.lines().count());
        return;
    };
    let file = module_path!().replace("::", "-");
    let file = std::env::temp_dir().join(format!("{file}.jsonl"));
    std::fs::write(&file, built.concat()).expect("a file");
    panic!(
        "what is built now is in {}; the first that differs, and as it was:\n{now}\n{before}",
        file.display()
    );
}
