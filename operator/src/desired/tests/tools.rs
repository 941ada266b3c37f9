//! Stores, and the pods that read or write them.

use super::*;

fn store(spec: serde_json::Value) -> EngramBackupStore {
    shaped(json!({
        "apiVersion": "engram.dev/v1alpha1",
        "kind": "EngramBackupStore",
        "metadata": { "name": "s", "namespace": "data" },
        "spec": spec,
    }))
}

#[test]
fn a_bucket_and_a_volume_are_reached() {
    let bucket = access(&store(json!({ "s3": {
        "bucket": "backups", "prefix": "a/b", "endpoint": "http://s3.local:9000", "allowHTTP": true,
        "credentialsSecretRef": { "name": "key" },
    } })));
    assert_eq!(
        bucket.url,
        "s3://backups/a/b?region=us-east-1&endpoint=http://s3.local:9000&allow_http=true"
    );
    assert_eq!(bucket.env.len(), 3);
    let own = json!({ "s3": { "bucket": "backups", "caSecretRef": { "name": "authorities" } } });
    let own = access(&store(own));
    let file = own.env[0].value.as_deref();
    assert_eq!(file, Some("/etc/engram/store-ca/ca.crt"));
    let secret = own.volumes[0].secret.clone().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("authorities"));
    assert_eq!(secret.items.unwrap()[0].key, "ca.crt");
    assert_eq!(own.needs[0].secret, "authorities");
    let volume = access(&store(json!({ "pvc": { "claimName": "c", "path": "x" } })));
    assert_eq!(volume.url, "file:///var/lib/engram-backups/x");
    // engramctl wants a directory that is there: the kubelet makes it.
    assert_eq!(volume.mounts[0].sub_path.as_deref(), Some("x"));
    assert_eq!((volume.mounts.len(), volume.volumes.len()), (1, 1));
}

#[test]
fn a_bucket_of_googles_and_a_container_of_azures_are_reached() {
    let google = access(&store(json!({ "gcs": {
        "bucket": "backups", "prefix": "a/b", "credentialsSecretRef": { "name": "account" },
    } })));
    assert_eq!(google.url, "gs://backups/a/b");
    assert_eq!(google.env[0].name, "GOOGLE_SERVICE_ACCOUNT_KEY");
    let azure = access(&store(json!({ "azure": {
        "account": "engram", "container": "backups", "endpoint": "https://blob.local",
        "caSecretRef": { "name": "authorities" },
    } })));
    assert_eq!(azure.url, "az://engram/backups?endpoint=https://blob.local");
    assert_eq!(
        azure.env.len(),
        1,
        "the pod's own identity, and the authorities"
    );
    let pods = json!({ "serviceAccountName": "backups", "labels": {
        "azure.workload.identity/use": "true", "engram.dev/cluster": "another",
    } });
    let spec = json!({ "azure": { "account": "engram", "container": "backups" }, "pods": pods });
    let pod = tool_of(&cluster(json!({})), spec, Job::Probe);
    assert_eq!(pod["spec"]["serviceAccountName"], "backups");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["azure.workload.identity/use"], "true");
    assert_eq!(
        labels["engram.dev/cluster"], "demo",
        "what it is known by stays"
    );
}

#[test]
fn a_pod_that_works_for_no_cluster_pulls_its_image_and_finds_a_node() {
    let pods = json!({
        "imagePullSecrets": [{ "name": "registry" }, { "name": "own" }],
        "tolerations": [{ "key": "db", "operator": "Exists" }],
    });
    let place = store(json!({ "pvc": { "claimName": "c" }, "pods": pods }));
    let reach = access(&place);
    let demo = cluster(json!({ "imagePullSecrets": [{ "name": "registry" }] }));
    let spec = |of: Option<&EngramCluster>| {
        let tool = Tool {
            name: "t".into(),
            namespace: "data".into(),
            cluster_name: "none",
            cluster: of,
            image: "engram:1",
            job: Job::Probe,
            access: &reach,
            deadline: 60,
            owner: None,
        };
        json!(tool_pod(&tool))["spec"].clone()
    };
    let both = json!([{ "name": "registry" }, { "name": "own" }]);
    for of in [None, Some(&demo)] {
        let spec = spec(of);
        assert_eq!(spec["imagePullSecrets"], both);
        assert_eq!(spec["tolerations"][0]["key"], "db");
    }
}

#[test]
fn a_tool_runs_the_image_that_its_cluster_has_from_a_catalog() {
    let image = |spec: serde_json::Value, status: serde_json::Value| {
        let mut cluster = cluster(spec);
        cluster.status = Some(serde_json::from_value(status).unwrap());
        let place = json!({ "pvc": { "claimName": "c" } });
        let pod = tool_of(&cluster, place, Job::Delete { id: "b".into() });
        pod["spec"]["containers"][0]["image"].clone()
    };
    let listed = json!({ "catalog": { "catalog": "own", "version": "1.2.3", "image": "own.local/engram:1" } });
    let asked = json!({ "imageCatalog": { "name": "own", "version": "1.2.3" } });
    assert_eq!(image(asked, listed.clone()), "own.local/engram:1");
    let default = image(json!({}), json!({}));
    // One that it had once is not asked for any more.
    assert_eq!(image(json!({}), listed), default);
}

#[test]
fn a_second_store_of_the_same_cloud_never_asks_with_the_firsts_credentials() {
    let secret = json!({ "name": "key" });
    let s3 = |with: bool| match with {
        true => store(json!({ "s3": { "bucket": "b", "credentialsSecretRef": secret } })),
        false => store(json!({ "s3": { "bucket": "b" } })),
    };
    let gcs = |with: bool| match with {
        true => store(json!({ "gcs": { "bucket": "b", "credentialsSecretRef": secret } })),
        false => store(json!({ "gcs": { "bucket": "b" } })),
    };
    let azure = |with: bool| match with {
        true => {
            let place = json!({ "account": "a", "container": "c", "credentialsSecretRef": secret });
            store(json!({ "azure": place }))
        }
        false => store(json!({ "azure": { "account": "a", "container": "c" } })),
    };
    for pair in [
        (s3(true), s3(false)),
        (gcs(true), gcs(false)),
        (azure(true), azure(false)),
    ] {
        assert!(would_borrow(&pair.0, &pair.1), "{:?}", pair.1.spec);
        // What the second one has is its own.
        assert!(!would_borrow(&pair.1, &pair.0), "{:?}", pair.0.spec);
        assert!(!would_borrow(&pair.0, &pair.0), "{:?}", pair.0.spec);
        assert!(!would_borrow(&pair.1, &pair.1), "{:?}", pair.1.spec);
    }
    assert!(!would_borrow(&s3(true), &gcs(false)));
}

#[test]
fn two_stores_are_reached_by_one_pod_and_share_nothing() {
    let spec = |secret: &str| {
        json!({ "s3": {
            "bucket": "backups", "credentialsSecretRef": { "name": secret }, "caSecretRef": { "name": secret },
        }, "encryption": { "keys": [{ "secretRef": { "name": secret } }] } })
    };
    let (from, to) = (
        access(&store(spec("a"))),
        access(&store(spec("b"))).beside(),
    );
    let both = from.clone().with(&to);
    let apart = |names: Vec<&String>| {
        let all: std::collections::BTreeSet<&String> = names.iter().copied().collect();
        assert_eq!(all.len(), names.len(), "{names:?}");
    };
    apart(both.env.iter().map(|one| &one.name).collect());
    apart(both.mounts.iter().map(|one| &one.mount_path).collect());
    apart(both.volumes.iter().map(|one| &one.name).collect());
    let value = |name: &str| {
        let found = both.env.iter().find(|one| one.name == name);
        found.and_then(|one| one.value.as_deref())
    };
    assert_eq!(
        value("TO_SSL_CERT_FILE"),
        Some("/to/etc/engram/store-ca/ca.crt")
    );
    assert_eq!(value("SSL_CERT_DIR"), Some("/etc/ssl/certs"));
    assert_eq!(to.key_files, ["/to/etc/engram/store-keys/0/key"]);
    let volume = access(&store(json!({ "pvc": { "claimName": "c" } }))).beside();
    assert_eq!(volume.url, "file:///to/var/lib/engram-backups");
    let place = volume.mounts[0].mount_path.as_str();
    assert_eq!(place, "/to/var/lib/engram-backups");
}

#[test]
fn the_keys_of_a_store_are_files_of_which_the_first_one_writes() {
    let keys =
        json!([{ "secretRef": { "name": "new" } }, { "secretRef": { "name": "old" }, "key": "k" }]);
    let spec = json!({ "pvc": { "claimName": "c" }, "encryption": { "keys": keys } });
    let cluster = cluster(json!({}));
    let pod = tool_of(&cluster, spec, Job::Verify { id: "b".into() });
    let flags = command(&pod).join(" ");
    let wanted = "--encryption-key-file=/etc/engram/store-keys/0/key --encryption-key-file=/etc/engram/store-keys/1/key";
    assert!(flags.contains(wanted), "{flags}");
    let volumes: Vec<serde_json::Value> = shaped(pod["spec"]["volumes"].clone());
    let secrets = volumes.iter().filter(|one| one["secret"].is_object());
    let secrets: Vec<_> = secrets
        .map(|one| {
            (
                &one["secret"]["secretName"],
                &one["secret"]["items"][0]["key"],
            )
        })
        .collect();
    let [new, old, key, k] = ["new", "old", "key", "k"].map(|word| json!(word));
    assert_eq!(secrets, [(&new, &key), (&old, &k)]);
}

#[test]
fn a_backup_runs_once_with_the_clusters_certificates() {
    let cluster = cluster(json!({}));
    let access = access(&store(json!({ "pvc": { "claimName": "c" } })));
    let tool = Tool {
        name: "b-backup".into(),
        namespace: "data".into(),
        cluster_name: "demo",
        cluster: Some(&cluster),
        image: "engram:1",
        job: Job::Create(Create {
            id: "b-1".into(),
            endpoints: vec![
                "https://demo-1.x:2379".into(),
                "https://demo-client.x:2379".into(),
            ],
            ..Create::default()
        }),
        access: &access,
        deadline: 60,
        owner: None,
    };
    let pod = json!(tool_pod(&tool));
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    let flags = command(&pod).join(" ");
    for part in [
        "backup create",
        "--store=file:///",
        "--endpoints=https://demo-1.x:2379,https://demo-client.x:2379",
        "--scratch-dir=/scratch",
        "--cacert=",
    ] {
        assert!(flags.contains(part), "{part} in {flags}");
    }
}

/// The pod of a job of `demo`'s.
fn tool_of(cluster: &EngramCluster, store: serde_json::Value, job: Job) -> serde_json::Value {
    let access = access(&self::store(store));
    json!(tool_pod(&Tool {
        name: "b-backup".into(),
        namespace: "data".into(),
        cluster_name: "demo",
        cluster: Some(cluster),
        image: "engram:1",
        job,
        access: &access,
        deadline: 60,
        owner: None,
    }))
}

#[test]
fn a_tools_pod_is_bounded_and_like_the_clusters_own() {
    let cluster = cluster(json!({
        "storage": { "size": "7Gi" },
        "imagePullSecrets": [{ "name": "registry" }],
        "resources": { "limits": { "memory": "3Gi", "cpu": "4" } },
        "scheduling": { "priorityClassName": "high", "tolerations": [{ "key": "db" }] },
    }));
    let verify = || Job::Verify { id: "b-1".into() };
    let pvc = || json!({ "pvc": { "claimName": "c" } });
    let spec = &tool_of(&cluster, pvc(), verify())["spec"];
    let container = &spec["containers"][0];
    assert_eq!(
        container["resources"],
        json!({ "requests": { "cpu": "100m", "memory": "256Mi" }, "limits": { "memory": "3Gi" } })
    );
    assert_eq!(
        scratch_of(spec),
        &json!({ "name": "scratch", "emptyDir": { "sizeLimit": "7Gi" } })
    );
    assert_eq!(spec["imagePullSecrets"][0]["name"], "registry");
    assert_eq!(spec["tolerations"][0]["key"], "db");
    assert_eq!(spec["priorityClassName"], "high");
    let away = "preferredDuringSchedulingIgnoredDuringExecution";
    assert!(spec["affinity"]["podAntiAffinity"][away].is_array());
    // What the profile `restricted` asks for.
    let (pod, own) = (&spec["securityContext"], &container["securityContext"]);
    assert_eq!(
        (&pod["runAsNonRoot"], &pod["seccompProfile"]["type"]),
        (&json!(true), &json!("RuntimeDefault"))
    );
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(own["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(spec["automountServiceAccountToken"], false);
    let spec = &tool_of(&cluster, pvc(), Job::Probe)["spec"];
    assert_eq!(scratch_of(spec)["emptyDir"]["sizeLimit"], "64Mi");
}

#[test]
fn a_store_says_what_its_pods_are_like() {
    let small = cluster(json!({ "resources": { "limits": { "memory": "128Mi" } } }));
    let verify = || Job::Verify { id: "b-1".into() };
    let spec = &tool_of(&small, json!({ "pvc": { "claimName": "c" } }), verify())["spec"];
    let resources = &spec["containers"][0]["resources"];
    assert_eq!(
        resources["requests"]["memory"], "128Mi",
        "never above the limit"
    );
    let asked = json!({
        "pvc": { "claimName": "c" },
        "pods": {
            "resources": { "requests": { "memory": "1Gi" } },
            "scratch": { "size": "30Gi", "claim": true, "storageClassName": "slow" },
            "securityContext": { "runAsNonRoot": true },
        },
    });
    let spec = &tool_of(&small, asked, verify())["spec"];
    assert_eq!(
        spec["containers"][0]["resources"],
        json!({ "requests": { "memory": "1Gi" } })
    );
    assert_eq!(spec["securityContext"], json!({ "runAsNonRoot": true }));
    let claim = &scratch_of(spec)["ephemeral"]["volumeClaimTemplate"]["spec"];
    assert_eq!(claim["storageClassName"], "slow");
    assert_eq!(claim["resources"]["requests"]["storage"], "30Gi");
}

fn scratch_of(spec: &serde_json::Value) -> &serde_json::Value {
    let volumes = spec["volumes"].as_array().expect("volumes");
    let scratch = volumes.iter().find(|volume| volume["name"] == "scratch");
    scratch.expect("the scratch space")
}

#[test]
fn a_restore_fills_the_volume_before_the_first_start_and_is_not_part_of_the_template() {
    let cluster = cluster(json!({}));
    let recovery: Recovery = shaped(json!({ "storeRef": { "name": "s" } }));
    let access = access(&store(json!({ "pvc": { "claimName": "c" } })));
    let plain = MemberPod {
        name: "demo-1".into(),
        founds: true,
        ..MemberPod::default()
    };
    let pod = member_pod(
        &cluster,
        &member(),
        &plain,
        "engram:1",
        Some((&recovery, &access)),
    );
    let pod = pod.unwrap();
    let bare = member_pod(&cluster, &member(), &plain, "engram:1", None).unwrap();
    let template = |pod: &Pod| pod.annotations()[TEMPLATE_ANNOTATION].clone();
    assert_eq!(template(&pod), template(&bare));
    // What it was filled from is told, so that a store that is corrected is another one.
    let corrected = StoreAccess {
        url: "s3://right".into(),
        ..access.clone()
    };
    let from = pod.annotations()[FILL_ANNOTATION].clone();
    assert_eq!(from, fill_hash(&recovery, &access));
    assert_ne!(from, fill_hash(&recovery, &corrected));
    let init: Vec<String> = shaped(json!(pod)["spec"]["initContainers"][0]["command"].clone());
    let init = init.join(" ");
    for part in [
        "restore --store=file://",
        "--backup=latest",
        "--bump-revision=1000000000",
        "--mark-compacted",
    ] {
        assert!(init.contains(part), "{part} in {init}");
    }
}

#[test]
fn a_member_archives_to_a_store_and_is_filled_from_it_in_one_pod() {
    let store = access(&store(json!({ "s3": {
        "bucket": "backups", "credentialsSecretRef": { "name": "key" }, "caSecretRef": { "name": "authorities" },
    }, "encryption": { "keys": [{ "secretRef": { "name": "k" } }] } })));
    let mut cluster = cluster(json!({ "archive": { "storeRef": { "name": "s" } } }));
    let plain = template_hash(&cluster, "engram:1");
    cluster.status = Some(shaped(json!({ "archiving": archiving(&store) })));
    assert_ne!(template_hash(&cluster, "engram:1"), plain);
    let recovery: Recovery = shaped(json!({ "storeRef": { "name": "s" } }));
    let shape = MemberPod::default();
    let restore = Some((&recovery, &store));
    let pod = member_pod(&cluster, &member(), &shape, "engram:1", restore);
    let pod = json!(pod.unwrap());
    let command = command(&pod);
    for flag in [
        format!("--archive-url={}", store.url),
        "--archive-cluster=demo".to_owned(),
        "--archive-encryption-key-files=/etc/engram/store-keys/0/key".to_owned(),
    ] {
        assert!(command.contains(&flag), "{flag} in {command:?}");
    }
    let engram = &pod["spec"]["containers"][0];
    assert_eq!(engram["env"], json!(store.env));
    // Every mount has its volume, and no name is there twice.
    let names = |list: &serde_json::Value| -> Vec<String> {
        let list: Vec<serde_json::Value> = shaped(list.clone());
        list.iter().map(|one| shaped(one["name"].clone())).collect()
    };
    let volumes = names(&pod["spec"]["volumes"]);
    let apart: std::collections::BTreeSet<&String> = volumes.iter().collect();
    assert_eq!(apart.len(), volumes.len(), "{volumes:?}");
    for container in [engram, &pod["spec"]["initContainers"][0]] {
        let mounts = names(&container["volumeMounts"]);
        assert!(
            mounts.iter().all(|one| volumes.contains(one)),
            "{mounts:?} in {volumes:?}"
        );
    }
}
