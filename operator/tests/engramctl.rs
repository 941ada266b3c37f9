//! The operator's command lines are held to the flags that engramctl takes, and what the operator
//! reads to the words that engramctl says: the two are built apart.

use engram_backup::store::{BackupStore, StoreError};
use engram_objects::ObjectError;
use engram_operator::api::{EngramBackupStore, EngramCluster, EngramMember, Recovery, Retention};
use engram_operator::desired::{self, Create, Import, Job, MemberPod, Prune, Tool};
use serde_json::{Value, json};

/// engramctl's own, which is a program and no library; the test reads what it parses, not all of it.
#[allow(dead_code, unused_imports)]
#[path = "../../ctl/src/cli/mod.rs"]
mod cli;

use cli::{Archive, Backup, Cli, Command};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the object's shape")
}

fn cluster() -> EngramCluster {
    read(json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
        "metadata": { "name": "demo", "namespace": "data", "uid": "u-1" }, "spec": {},
    }))
}

fn stores() -> [EngramBackupStore; 2] {
    let store = |spec: Value| {
        read(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "metadata": { "name": "s", "namespace": "data" }, "spec": spec,
        }))
    };
    [
        store(json!({ "pvc": { "claimName": "c", "path": "a/b" } })),
        store(json!({ "s3": {
            "bucket": "backups", "prefix": "a/b", "endpoint": "http://s3.data.svc:7070", "allowHTTP": true,
            "credentialsSecretRef": { "name": "key" },
        } })),
    ]
}

fn parse(container: &Value) -> Cli {
    let command: Vec<String> = read(container["command"].clone());
    Cli::read(&command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What engramctl understands of a job's pod.
fn understood(job: Job, store: &EngramBackupStore) -> (Cli, Value) {
    let cluster = cluster();
    let tool = Tool {
        name: "b".into(),
        namespace: "data".into(),
        cluster_name: "demo",
        cluster: Some(&cluster),
        image: "engram:1",
        job,
        access: &desired::access(store),
        deadline: 60,
        owner: None,
    };
    let pod = serde_json::to_value(desired::tool_pod(&tool)).unwrap();
    (parse(&pod["spec"]["containers"][0]), pod)
}

fn backup_verb(job: Job, store: &EngramBackupStore) -> Backup {
    match understood(job, store).0.command {
        Command::Backup { command } => command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_backup_is_taken_from_any_member_under_the_given_id() {
    for store in stores() {
        let endpoints = vec!["https://a:2379".into(), "https://b:2379".into()];
        let create = Create {
            id: "n-1".to_owned(),
            endpoints,
            owner: Some("EngramBackupSchedule/data/nightly".into()),
            cluster_id: Some("cdf8".into()),
            continues: Some("cdf7/0".into()),
        };
        let (cli, pod) = understood(Job::Create(create), &store);
        assert_eq!(cli.global.endpoints, ["https://a:2379", "https://b:2379"]);
        let ca = cli.global.cacert.expect("the cluster has TLS");
        assert!(cli.global.cert.is_some() && cli.global.key.is_some());
        assert_eq!(
            cli.global.result_file.unwrap().to_str(),
            Some("/dev/termination-log")
        );
        let Command::Backup {
            command:
                Backup::Create {
                    store,
                    name,
                    or_existing,
                    owner,
                    continues,
                    scratch_dir,
                },
        } = cli.command
        else {
            panic!("it is another verb");
        };
        assert_eq!((name.as_deref(), or_existing), (Some("n-1"), true));
        assert_eq!(store.cluster.as_deref(), Some("demo"));
        let (id, of) = (&store.cluster_id[0].cluster_id, continues[0].to_string());
        let owner = owner.as_deref().unwrap_or_default();
        assert_eq!(
            (id.as_str(), of.as_str(), owner),
            ("cdf8", "cdf7/0", "EngramBackupSchedule/data/nightly")
        );
        // Whatever is read or written lies in a volume: the root file system is read-only.
        let mounts: Vec<Value> = read(pod["spec"]["containers"][0]["volumeMounts"].clone());
        for path in [scratch_dir.expect("it is said"), ca] {
            let mounted = |mount: &Value| path.starts_with(mount["mountPath"].as_str().unwrap());
            assert!(mounts.iter().any(mounted), "{path:?} in {mounts:?}");
        }
    }
}

#[test]
fn every_other_job_is_understood_without_the_cluster() {
    let [directory, bucket] = stores();
    for store in [&directory, &bucket] {
        assert!(matches!(
            backup_verb(Job::Probe, store),
            Backup::List { .. }
        ));
        assert!(matches!(
            backup_verb(Job::Keys, store),
            Backup::Keys { store } if store.cluster.is_none()
        ));
        let Backup::Verify { backup, .. } = backup_verb(Job::Verify { id: "n-1".into() }, store)
        else {
            panic!("it is another verb");
        };
        assert_eq!(backup, "n-1");
        let [keyed, plain] = [vec!["/to/key".to_owned()], vec![]].map(|keys| Job::Copy {
            id: "n-1".into(),
            to: "s3://b".into(),
            keys,
        });
        let Backup::Copy {
            to,
            to_encryption_key_file,
            ..
        } = backup_verb(keyed, store)
        else {
            panic!("it is another verb");
        };
        assert_eq!((to.as_str(), to_encryption_key_file.len()), ("s3://b", 1));
        assert!(matches!(
            backup_verb(plain, store),
            Backup::Copy {
                to_unencrypted: true,
                ..
            }
        ));
        let Backup::Delete { backup, .. } = backup_verb(Job::Delete { id: "n-1".into() }, store)
        else {
            panic!("it is another verb");
        };
        assert_eq!(backup, "n-1");
        let show = Job::Show {
            id: "latest".into(),
            cluster_id: Some("cdf8/0".into()),
        };
        let Backup::Show {
            store: flag,
            backup,
        } = backup_verb(show, store)
        else {
            panic!("it is another verb");
        };
        assert_eq!((backup.as_str(), flag.cluster_id.len()), ("latest", 1));
        let (cli, _) = understood(Job::Probe, store);
        assert!(
            cli.global.cacert.is_none(),
            "a store needs no way to the cluster"
        );
    }
}

#[test]
fn an_archive_is_read_back_of_the_cluster_that_is_meant() {
    for store in stores() {
        let job = Job::VerifyArchive {
            cluster_id: Some("cdf8".into()),
        };
        let Command::Archive {
            command: Archive::Verify { store: flag },
        } = understood(job, &store).0.command
        else {
            panic!("it is another verb");
        };
        assert_eq!(flag.cluster.as_deref(), Some("demo"));
        let whose = &flag.cluster_id[0];
        assert_eq!(
            (whose.cluster_id.as_str(), &whose.incarnation),
            ("cdf8", &None)
        );
    }
}

#[test]
fn retention_becomes_rules_that_keep_what_any_part_keeps() {
    let [store, _] = stores();
    let rules = |retention: Value| {
        let retention: Retention = read(retention);
        let prune = Prune {
            owner: "EngramBackupSchedule/data/nightly".into(),
            cluster_id: Some("cdf8/18ec".into()),
            retention,
        };
        match backup_verb(Job::Prune(prune), &store) {
            Backup::Prune {
                store,
                rules,
                owner,
                dry_run,
            } if !dry_run => {
                assert_eq!(owner.as_deref(), Some("EngramBackupSchedule/data/nightly"));
                let whose = &store.cluster_id[0];
                assert_eq!(whose.incarnation.as_deref(), Some("18ec"));
                assert_eq!((rules.max_age, rules.min_keep), (None, 1));
                let hours = rules.keep_within.map(|age| age.as_secs() / 3600);
                let periods = [rules.hourly, rules.daily, rules.weekly, rules.monthly];
                (rules.keep_last, hours, periods)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rules(json!({ "keepLast": 3 })), (3, None, [0; 4]));
    let both = json!({ "keepLast": 3, "keepWithin": "168h" });
    assert_eq!(rules(both), (3, Some(168), [0; 4]));
    let periods = json!({ "hourly": 24, "daily": 7, "weekly": 4, "monthly": 12 });
    assert_eq!(rules(periods), (0, None, [24, 7, 4, 12]));
}

/// What engramctl understands of the container that fills a first member's volume; and the member's own command.
fn restored(recovery: &Recovery) -> (cli::Restore, Vec<String>) {
    let member: EngramMember = read(json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
        "metadata": { "name": "demo-1", "namespace": "data", "uid": "u-2" },
        "spec": {
            "clusterRef": { "name": "demo" }, "origin": "Seed",
            "peerURL": "https://demo-1.demo-peers.data.svc:2380",
        },
    }));
    let shape = MemberPod {
        name: "demo-1".into(),
        initial_cluster: "demo-1=https://demo-1.demo-peers.data.svc:2380".into(),
        founds: true,
        ..MemberPod::default()
    };
    let access = desired::access(&stores()[1]);
    let restore = Some((recovery, &access));
    let pod = desired::member_pod(&cluster(), &member, &shape, "engram:1", restore);
    let pod = serde_json::to_value(pod.unwrap()).unwrap();
    let Command::Restore(restore) = parse(&pod["spec"]["initContainers"][0]).command else {
        panic!("it is another verb");
    };
    (
        restore,
        read(pod["spec"]["containers"][0]["command"].clone()),
    )
}

#[test]
fn a_restore_is_understood_with_and_without_a_bump() {
    for (more, bump, mark) in [
        (json!({}), 1_000_000_000, true),
        (
            json!({ "revisionBump": 0, "markCompacted": false }),
            0,
            false,
        ),
    ] {
        let mut recovery =
            json!({ "storeRef": { "name": "s" }, "cluster": "old", "clusterID": "cdf8" });
        let more = more.as_object().unwrap().clone();
        recovery.as_object_mut().unwrap().extend(more);
        let (restore, engram) = restored(&read(recovery));
        assert_eq!(
            (restore.target.bump_revision, restore.target.mark_compacted),
            (bump, mark)
        );
        assert_eq!(restore.store.cluster.as_deref(), Some("old"));
        assert_eq!(restore.store.cluster_id[0].cluster_id, "cdf8");
        // The member itself is started with the same: its identity follows from them.
        for flag in [
            format!(
                "--initial-cluster-token={}",
                restore.target.initial_cluster_token
            ),
            format!("--initial-cluster={}", restore.target.initial_cluster),
            format!("--name={}", restore.target.name),
            format!("--data-dir={}", restore.target.data_dir.unwrap().display()),
            format!(
                "--initial-advertise-peer-urls={}",
                restore.target.initial_advertise_peer_urls
            ),
        ] {
            assert!(engram.contains(&flag), "{flag} in {engram:?}");
        }
    }
}

#[test]
fn a_moment_is_asked_for_and_restored_in_the_same_words() {
    let recovery = |more: (&str, Value)| -> Recovery {
        let mut recovery = json!({ "storeRef": { "name": "s" }, "clusterID": "cdf8" });
        recovery[more.0] = more.1;
        read(recovery)
    };
    let time = recovery(("targetTime", json!("2026-11-29T14:30:00.5+01:00")));
    let revision = recovery(("targetRevision", json!(57)));
    for (recovery, time, revision) in [
        (time, Some("2026-11-29 13:30:00.500 UTC"), None),
        (revision, None, Some(57)),
    ] {
        let job = Job::Plan {
            id: "latest".into(),
            cluster_id: recovery.cluster_id.clone(),
            moment: recovery.moment().expect("it names one").flag(),
        };
        let Command::Archive {
            command:
                Archive::Plan {
                    store,
                    backup,
                    moment,
                },
        } = understood(job, &stores()[0]).0.command
        else {
            panic!("it is another verb");
        };
        assert_eq!((backup.as_str(), store.cluster_id.len()), ("latest", 1));
        let (restore, _) = restored(&recovery);
        for moment in [moment, restore.moment] {
            assert_eq!(moment.to_revision, revision);
            let shown = moment.to_time.map(|time| time.to_string());
            assert_eq!(shown.as_deref(), time);
        }
    }
}

#[test]
fn an_import_has_both_clusters_and_what_ends_it() {
    let import = Import {
        from: vec!["https://a:2379".into(), "https://b:2379".into()],
        secret: Some("theirs".into()),
        prefix: "/registry/".into(),
        to: "https://demo-client.data.svc:2379".into(),
        replace: true,
        cut_over: true,
    };
    let (cli, pod) = understood(Job::Import(import), &stores()[0]);
    assert_eq!(cli.global.endpoints, ["https://demo-client.data.svc:2379"]);
    let Command::Import(import) = cli.command else {
        panic!("it is another verb");
    };
    assert_eq!(import.from, ["https://a:2379", "https://b:2379"]);
    assert!(import.replace && !import.until_equal);
    assert_eq!(import.prefix, "/registry/");
    assert_eq!(
        pod["metadata"]["annotations"],
        json!({ "engram.dev/cut-over": "true" })
    );
    // What it reads is mounted, each at a place of its own.
    let mounts: Vec<Value> = read(pod["spec"]["containers"][0]["volumeMounts"].clone());
    let own = cli.global.cacert;
    for path in [own, import.from_cacert, import.from_key, import.until_file] {
        let path = path.expect("it is said");
        let mounted = |mount: &&Value| path.starts_with(mount["mountPath"].as_str().unwrap());
        assert_eq!(mounts.iter().filter(mounted).count(), 1, "{path:?}");
    }
}

#[test]
fn every_store_that_the_operator_names_is_one_that_engramctl_opens() {
    let [directory, bucket] = stores();
    let bucket = desired::access(&bucket).url;
    let opened = BackupStore::open(&bucket).expect("a bucket's URL");
    assert_eq!(opened.url(), "s3://backups/a/b");
    // The claim is not mounted here, and is asked for by name.
    let refused = BackupStore::open(&desired::access(&directory).url).unwrap_err();
    let StoreError::Object(ObjectError::Url { what, .. }) = &refused else {
        panic!("{refused}");
    };
    assert!(what.contains("the directory must be there"), "{what}");
}

#[test]
fn a_volume_is_looked_at_and_a_survivor_is_told_that_it_is_alone() {
    let claim = "data-demo-1-0a1b2c3d".to_owned();
    let job = Job::Inspect { claim, node: None };
    let Command::Inspect(inspect) = understood(job, &stores()[0]).0.command else {
        panic!("it is another verb");
    };
    assert_eq!(inspect.data_dir.to_str(), Some("/var/lib/engram/data"));
    let member: EngramMember = read(json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
        "metadata": { "name": "demo-1", "namespace": "data", "uid": "u-2" },
        "spec": { "clusterRef": { "name": "demo" }, "origin": "Join", "peerURL": "https://demo-1:2380" },
    }));
    let shape = MemberPod {
        name: "demo-1".into(),
        alone: Some("u-3".into()),
        ..MemberPod::default()
    };
    let pod = desired::member_pod(&cluster(), &member, &shape, "engram:1", None);
    let pod = serde_json::to_value(pod.unwrap()).unwrap();
    let Command::ForceNewCluster(force) = parse(&pod["spec"]["initContainers"][0]).command else {
        panic!("it is another verb");
    };
    assert_eq!(force.once, "u-3");
    assert_eq!(force.data_dir, inspect.data_dir);
}
