//! Every object is built, and what it promises is looked at.

mod tools;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::core::ObjectMeta;
use serde_json::json;

use super::*;
use crate::api::{EngramBackupStore, EngramCluster, EngramMember, MemberOrigin, Recovery, TlsMode};

/// What a test says in JSON.
fn shaped<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("the shape of an object")
}

fn cluster(spec: serde_json::Value) -> EngramCluster {
    shaped(json!({
        "apiVersion": "engram.dev/v1alpha1",
        "kind": "EngramCluster",
        "metadata": { "name": "demo", "namespace": "data", "uid": "u-1" },
        "spec": spec,
    }))
}

pub(super) fn member() -> EngramMember {
    let spec = crate::api::EngramMemberSpec {
        cluster_ref: crate::api::LocalRef {
            name: "demo".into(),
        },
        origin: MemberOrigin::Seed,
        peer_url: "https://demo-1.demo-peers.data.svc:2380".into(),
        volume_claim: None,
    };
    let mut member = EngramMember::new("demo-1", spec);
    member.metadata = ObjectMeta {
        namespace: Some("data".into()),
        uid: Some("0a1b2c3d-4e5f".into()),
        ..member.metadata
    };
    member
}

fn pod(spec: serde_json::Value) -> serde_json::Value {
    let plain = MemberPod {
        name: "demo-1".into(),
        initial_cluster: "demo-1=https://demo-1.demo-peers.data.svc:2380".into(),
        founds: true,
        ..MemberPod::default()
    };
    let built = member_pod(&cluster(spec), &member(), &plain, "engram:1", None);
    json!(built.unwrap())
}

fn command(pod: &serde_json::Value) -> Vec<String> {
    shaped(pod["spec"]["containers"][0]["command"].clone())
}

#[test]
fn a_member_keeps_to_the_restricted_profile() {
    let pod = pod(json!({}));
    let spec = &pod["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        spec["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(spec["automountServiceAccountToken"], false);
    let container = &spec["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
}

#[test]
fn both_ports_have_tls_unless_it_is_switched_off() {
    let flags = command(&pod(json!({})));
    for flag in [
        "--client-cert-auth=true",
        "--peer-client-cert-auth=true",
        "--listen-client-urls=https://0.0.0.0:2379",
        "--initial-advertise-peer-urls=https://demo-1.demo-peers.data.svc:2380",
        "--initial-cluster-token=data-demo-u-1",
        "--corrupt-check-time=4h",
        "--compact-hash-check-time=1h",
        "--feature-gates=CompactHashCheck=true",
        "--initial-cluster-state=new",
    ] {
        assert!(flags.iter().any(|one| one == flag), "{flag} in {flags:?}");
    }
    let off =
        json!({ "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } } });
    let pod = pod(off);
    let flags = command(&pod).join(" ");
    assert!(
        !flags.contains("-cert") && !flags.contains("tls"),
        "{flags}"
    );
    assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_must_reach_a_running_member_changes_the_template_and_nothing_else_does() {
    let hash = |spec| template_hash(&cluster(spec), "engram:1");
    let plain = hash(json!({}));
    assert_eq!(plain.len(), 16);
    for same in [
        json!({ "replicas": 5 }),
        json!({ "storage": { "size": "9Gi" } }),
        json!({ "paused": true }),
        json!({ "healing": { "nodeLostAfter": "30s" } }),
    ] {
        assert_eq!(hash(same.clone()), plain, "{same}");
    }
    for other in [
        json!({ "config": { "maxTxnOps": 64 } }),
        json!({ "resources": { "requests": { "cpu": "1" } } }),
        json!({ "podTemplate": { "labels": { "team": "a" } } }),
        json!({ "tls": { "peer": { "mode": "Disabled" } } }),
    ] {
        assert_ne!(hash(other.clone()), plain, "{other}");
    }
    assert_ne!(template_hash(&cluster(json!({})), "engram:2"), plain);
}

#[test]
fn settings_become_flags() {
    let flags = command(&pod(json!({ "config": {
        "quotaBytes": "2Gi",
        "electionTimeoutMilliseconds": 2000,
        "metrics": "Extensive",
        "autoCompaction": { "mode": "Periodic", "retention": "1h" },
    } })));
    for flag in [
        "--quota-backend-bytes=2147483648",
        "--election-timeout=2000",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        "--metrics=extensive",
    ] {
        assert!(flags.iter().any(|one| one == flag), "{flag}");
    }
}

#[test]
fn a_volume_is_never_that_of_another_member_of_the_name() {
    let first = member();
    let mut second = member();
    second.metadata.uid = Some("ffffffff-0000".into());
    assert_eq!(claim_name(&first), "data-demo-1-0a1b2c3d");
    assert_ne!(claim_name(&first), claim_name(&second));
    // Whose it was is told by its name.
    let of = |cluster: &str, claim: &str| member_of_claim(cluster, claim);
    assert_eq!(of("demo", &claim_name(&first)).as_deref(), Some("demo-1"));
    assert_eq!(
        of("demo-1", "data-demo-1-2-0a1b2c3d").as_deref(),
        Some("demo-1-2")
    );
    for (cluster, claim) in [
        ("demo", "data-demo-1-2-0a1b2c3d"),
        ("dem", "data-demo-1-0a1b2c3d"),
        ("demo", "data-demo-1"),
        ("demo", "backups"),
        ("demo", "data-demo--0a1b2c3d"),
    ] {
        assert_eq!(of(cluster, claim), None, "{claim} of {cluster}");
    }
    let claim = volume_claim(&cluster(json!({})), &first);
    assert_eq!(
        claim.metadata.owner_references.map(|owners| owners.len()),
        Some(1)
    );
    let kept = cluster(json!({ "storage": { "size": "1Gi", "reclaimPolicy": "Retain" } }));
    let claim = volume_claim(&kept, &first);
    assert_eq!(claim.metadata.owner_references.unwrap_or_default(), []);
}

#[test]
fn a_peer_url_leads_back_to_its_member_and_no_other_does() {
    let names = Names::of(&cluster(json!({})));
    assert_eq!(
        names.member_of(&names.peer_url("demo-7")).as_deref(),
        Some("demo-7")
    );
    for foreign in [
        "https://demo-7.other-peers.data.svc:2380",
        "https://10.0.0.1:2380",
        "x",
        "",
    ] {
        assert_eq!(names.member_of(foreign), None, "{foreign}");
    }
}

#[test]
fn a_replacement_need_not_keep_away_from_whom_it_replaces() {
    let built = |policy: &str, leaving: &[&str]| {
        let plain = MemberPod {
            name: "demo-4".into(),
            leaving: leaving.iter().map(|name| (*name).to_owned()).collect(),
            ..MemberPod::default()
        };
        let cluster = cluster(json!({ "scheduling": { "antiAffinity": policy } }));
        let pod = member_pod(&cluster, &member(), &plain, "engram:1", None);
        let pod = json!(pod.unwrap());
        pod["spec"]["affinity"]["podAntiAffinity"].clone()
    };
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let usual = built("Preferred", &[]);
    let selector = &usual[preferred][0]["podAffinityTerm"]["labelSelector"];
    assert_eq!(selector["matchLabels"]["engram.dev/cluster"], "demo");
    assert!(selector.get("matchExpressions").is_none());
    let replacing = built("Required", &["demo-2"]);
    assert_eq!(
        replacing[required][0]["labelSelector"]["matchExpressions"],
        json!([{ "key": "engram.dev/member", "operator": "NotIn", "values": ["demo-2"] }])
    );
}

#[test]
fn a_spread_that_is_required_leaves_a_member_waiting_and_does_not_count_whoever_leaves() {
    let built = |scheduling: serde_json::Value| {
        let plain = MemberPod {
            name: "demo-4".into(),
            leaving: vec!["demo-2".into()],
            ..MemberPod::default()
        };
        let cluster = cluster(json!({ "scheduling": scheduling }));
        let pod = member_pod(&cluster, &member(), &plain, "engram:1", None);
        let pod = json!(pod.unwrap());
        pod["spec"]["topologySpreadConstraints"].clone()
    };
    let usual = built(json!({}));
    assert_eq!(usual[1]["topologyKey"], "topology.kubernetes.io/zone");
    assert_eq!(usual[1]["whenUnsatisfiable"], "ScheduleAnyway");
    assert!(usual[1]["labelSelector"].get("matchExpressions").is_none());
    let hard =
        built(json!({ "spread": "Required", "topologyKeys": ["topology.kubernetes.io/zone"] }));
    let expected = json!([{
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {
            "matchLabels": usual[1]["labelSelector"]["matchLabels"],
            "matchExpressions": [
                { "key": "engram.dev/member", "operator": "NotIn", "values": ["demo-2"] },
            ],
        },
    }]);
    assert_eq!(hard, expected);
}

#[test]
fn the_operator_shows_what_is_its_own_as_long_as_clients_are_asked_who_they_are() {
    let shown = |spec: serde_json::Value, on: bool| {
        let mut cluster = cluster(spec);
        let status = crate::api::EngramClusterStatus {
            auth_enabled: on,
            ..crate::api::EngramClusterStatus::default()
        };
        cluster.status = Some(status);
        Names::of(&cluster).operator_secret()
    };
    let auth = |enabled: bool| json!({ "auth": { "enabled": enabled } });
    assert_eq!(
        shown(auth(false), false).as_deref(),
        Some("demo-client-tls")
    );
    assert_eq!(
        shown(auth(true), false).as_deref(),
        Some("demo-operator-tls")
    );
    // Not turned off yet.
    assert_eq!(
        shown(auth(false), true).as_deref(),
        Some("demo-operator-tls")
    );
    let own = json!({ "mode": "Secret", "secretName": "mine" });
    let own = json!({ "auth": { "enabled": true }, "tls": { "client": own } });
    assert_eq!(shown(own, true).as_deref(), Some("mine"));
}

#[test]
fn evictions_are_held_to_the_quorum_and_one_member_may_be_drained() {
    let with = |replicas: i32, voters, others| {
        let cluster = cluster(json!({ "replicas": replicas }));
        let budget = disruption_budget(&cluster, voters, others)?;
        Some(json!(budget)["spec"]["minAvailable"].as_u64())
    };
    let minimum = |replicas, voters| with(replicas, voters, 0);
    assert_eq!(minimum(3, 3), Some(Some(2)));
    assert_eq!(
        minimum(3, 5),
        Some(Some(3)),
        "on the way down the larger one counts"
    );
    assert_eq!(minimum(5, 1), Some(Some(3)));
    assert_eq!(
        minimum(5, 3),
        Some(Some(2)),
        "on the way up one of those that vote may still be restarted"
    );
    assert_eq!(
        with(5, 3, 1),
        Some(Some(3)),
        "a learner that is ready stands in for no voter"
    );
    assert_eq!(minimum(1, 1), None);
    assert_eq!(minimum(0, 3), None);
}

#[test]
fn only_members_reach_the_members_port() {
    let given = json!({ "networkPolicy": { "from": [{ "podSelector": { "matchLabels": { "a": "b" } } }] } });
    let policy = json!(network_policy(&cluster(given), "engram-system"));
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    let of = |port: u16| {
        rules
            .iter()
            .find(|rule| rule["ports"][0]["port"] == port)
            .unwrap()
    };
    assert_eq!(of(2380)["from"].as_array().unwrap().len(), 1);
    let clients = of(2379)["from"].as_array().unwrap();
    assert_eq!(clients.len(), 3);
    // Not whoever calls his pod so in a namespace of his own.
    let operator = &clients[2]["namespaceSelector"]["matchLabels"];
    assert_eq!(operator["kubernetes.io/metadata.name"], "engram-system");
    assert!(
        json!(network_policy(&cluster(json!({})), "engram-system"))["spec"]["ingress"][0]
            .get("from")
            .is_none()
    );
    assert!(
        network_policy(
            &cluster(json!({ "networkPolicy": { "enabled": false } })),
            "engram-system"
        )
        .is_none()
    );
}

#[test]
fn services_are_built() {
    let cluster =
        cluster(json!({ "clientService": { "type": "NodePort", "annotations": { "a": "b" } } }));
    let peers = json!(peer_service(&cluster));
    assert_eq!(peers["spec"]["clusterIP"], "None");
    assert_eq!(peers["spec"]["publishNotReadyAddresses"], true);
    let client = json!(client_service(&cluster));
    assert_eq!(client["metadata"]["name"], "demo-client");
    assert_eq!(client["spec"]["type"], "NodePort");
    assert_eq!(client["metadata"]["annotations"]["a"], "b");
}

#[test]
fn what_a_template_adds_reaches_the_pod_as_it_is() {
    let own = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    let keeps = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["nvme"] }] },
    ] } });
    let pod = pod(json!({
        "scheduling": { "nodeAffinity": keeps },
        "podTemplate": {
            "env": [{ "name": "TZ", "value": "UTC" }],
            "volumes": [{ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } }],
            "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
            "sidecars": [{ "name": "logs", "image": "logs:1", "restartPolicy": "Always" }],
            "serviceAccountName": "members", "runtimeClassName": "kata",
            "securityContext": own, "containerSecurityContext": { "privileged": false },
        },
    }));
    let spec = &pod["spec"];
    assert_eq!(spec["securityContext"], own);
    assert_eq!(spec["serviceAccountName"], "members");
    assert_eq!(spec["runtimeClassName"], "kata");
    assert_eq!(spec["affinity"]["nodeAffinity"], keeps);
    assert!(spec["affinity"]["podAntiAffinity"].is_object());
    let member = &spec["containers"][0];
    assert_eq!(member["name"], "engram");
    assert_eq!(member["env"], json!([{ "name": "TZ", "value": "UTC" }]));
    assert_eq!(member["securityContext"], json!({ "privileged": false }));
    let mounts = member["volumeMounts"].as_array().expect("mounts");
    assert!(mounts.contains(&json!({ "name": "tmp", "mountPath": "/tmp" })));
    let sidecar = &spec["containers"][1];
    assert_eq!(
        (&sidecar["name"], &sidecar["image"]),
        (&json!("logs"), &json!("logs:1"))
    );
    let volumes = spec["volumes"].as_array().expect("volumes");
    assert!(volumes.contains(&json!({ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } })));
    assert!(volumes.iter().any(|volume| volume["name"] == "data"));
}

#[test]
fn where_members_run_and_what_they_are_called_is_the_users() {
    let affinity = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["nvme"] }] },
    ] } });
    let toleration = json!({ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" });
    let spread = json!({
        "maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "a": "b" } },
    });
    let pod = pod(json!({
        "scheduling": {
            "nodeAffinity": affinity, "tolerations": [toleration],
            "topologySpreadConstraints": [spread], "nodeSelector": { "arch": "arm64" },
            "priorityClassName": "system-cluster-critical",
        },
        "podTemplate": {
            "labels": { "team": "data", "engram.dev/cluster": "another" },
            "annotations": { "sidecar.istio.io/inject": "false" },
        },
        "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "2Gi" } },
        "imagePullSecrets": [{ "name": "registry" }],
    }));
    let spec = &pod["spec"];
    assert_eq!(spec["affinity"]["nodeAffinity"], affinity);
    assert_eq!(spec["tolerations"], json!([toleration]));
    assert_eq!(spec["topologySpreadConstraints"], json!([spread]));
    assert_eq!(spec["nodeSelector"], json!({ "arch": "arm64" }));
    assert_eq!(spec["priorityClassName"], "system-cluster-critical");
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(
        spec["containers"][0]["resources"]["limits"]["memory"],
        "2Gi"
    );
    let meta = &pod["metadata"];
    assert_eq!(meta["labels"]["team"], "data");
    assert_eq!(
        meta["labels"]["engram.dev/cluster"], "demo",
        "that one is the operator's"
    );
    assert_eq!(meta["annotations"]["sidecar.istio.io/inject"], "false");
}

/// What OpenShift's restricted-v2 lets in: users, groups and files' groups are its own to give.
#[test]
fn no_user_is_fixed_where_kubernetes_gives_them() {
    let own = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    let pod = pod(json!({ "podTemplate": { "securityContext": own } }));
    let text = pod.to_string();
    for field in [
        "runAsUser",
        "runAsGroup",
        "fsGroup",
        "hostPath",
        "hostNetwork",
        "privileged\":true",
    ] {
        assert!(!text.contains(field), "{field}: {text}");
    }
    let container = &pod["spec"]["containers"][0]["securityContext"];
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["allowPrivilegeEscalation"], false);
}

#[test]
fn members_listen_by_the_families_of_their_services() {
    let listens = |families: &[&str]| {
        let mut cluster = cluster(json!({}));
        let status = json!({ "ipFamilies": families });
        cluster.status = Some(shaped(status));
        let plain = MemberPod::default();
        let pod = member_pod(&cluster, &member(), &plain, "engram:1", None);
        let pod = json!(pod.unwrap());
        let command = command(&pod);
        let mut listens = command.iter().filter(|word| word.starts_with("--listen-"));
        let all = listens.clone().count();
        (all, listens.all(|word| word.contains("://[::]:")))
    };
    assert_eq!(listens(&[]), (3, false));
    assert_eq!(listens(&["IPv4"]), (3, false));
    assert_eq!(listens(&["IPv6"]), (3, true));
    assert_eq!(listens(&["IPv4", "IPv6"]), (3, true));
}

#[test]
fn certificates_may_be_the_users() {
    let cluster =
        cluster(json!({ "tls": { "client": { "mode": "Secret", "secretName": "mine" } } }));
    assert_eq!(cluster.spec.tls.client.mode, TlsMode::Secret);
    let names = Names::of(&cluster);
    assert_eq!(names.server_secret().as_deref(), Some("mine"));
    assert_eq!(names.peer_secret().as_deref(), Some("demo-peer-tls"));
}

#[test]
fn a_claim_follows_the_policy_as_it_is_now() {
    let with =
        |policy: &str| cluster(json!({ "storage": { "size": "1Gi", "reclaimPolicy": policy } }));
    let (delete, retain) = (with("Delete"), with("Retain"));
    let mut claim = volume_claim(&delete, &member());
    claim.metadata.uid = Some("c".into());
    claim.metadata.resource_version = Some("7".into());
    assert_eq!(claim_repair(&delete, &member(), &claim), None);
    let other = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "other" });
    let owners = claim.metadata.owner_references.as_mut().unwrap();
    owners.push(shaped(other.clone()));
    // Retain, said later: the member's object owns it no more, others still do.
    let patch = claim_repair(&retain, &member(), &claim).unwrap();
    assert_eq!(patch["metadata"]["ownerReferences"], json!([other]));
    assert_eq!(patch["metadata"]["uid"], "c");
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    // And Delete, said later.
    claim.metadata.owner_references = None;
    assert_eq!(claim_repair(&retain, &member(), &claim), None);
    let patch = claim_repair(&delete, &member(), &claim).unwrap();
    let owner = &patch["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], json!(member().metadata.uid));
    // Labels that were taken off come back.
    claim.metadata.labels = None;
    let patch = claim_repair(&retain, &member(), &claim).unwrap();
    assert_eq!(patch["metadata"]["labels"]["engram.dev/cluster"], "demo");
}

#[test]
fn what_is_handed_on_and_is_no_container_is_refused_by_its_name() {
    let plain = template_hash(&cluster(json!({})), "engram:1");
    let refused = |template: serde_json::Value| {
        let cluster = cluster(json!({ "podTemplate": template }));
        // Whatever it is, the template is another one with it.
        assert_ne!(template_hash(&cluster, "engram:1"), plain);
        let shape = MemberPod::default();
        let built = member_pod(&cluster, &member(), &shape, "engram:1", None);
        built.unwrap_err().to_string()
    };
    let sidecar = refused(json!({ "sidecars": [{ "name": "logs", "image": 5 }] }));
    assert!(
        sidecar.starts_with("podTemplate.sidecars, logs: "),
        "{sidecar}"
    );
    let volume = refused(json!({ "volumes": [{ "name": "tmp", "emptyDir": "big" }] }));
    assert!(volume.starts_with("podTemplate.volumes, tmp: "), "{volume}");
}
