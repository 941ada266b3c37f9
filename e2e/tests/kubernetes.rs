//! An unmodified Kubernetes control plane lives on the server: the real kube-apiserver and
//! kube-controller-manager, with no special flags, go through an ordinary day and a bad moment.
//!
//! `ENGRAM_BIN=~/.cache/engram/tools/bin/etcd` runs the same story on the real etcd: whatever
//! fails there too is no fault of ours. Needs `openssl`, and the binaries that
//! `e2e/tools/build.sh` builds. About a minute on two idle cores.

#[path = "kubernetes/api.rs"]
mod api;
#[path = "kubernetes/backups.rs"]
mod backups;
#[path = "kubernetes/cluster.rs"]
mod cluster;
#[path = "kubernetes/failover.rs"]
mod failover;
#[path = "kubernetes/many.rs"]
mod many;
#[path = "kubernetes/paging.rs"]
mod paging;
#[path = "kubernetes/played_members.rs"]
mod played_members;
#[path = "kubernetes/process.rs"]
mod process;
#[path = "kubernetes/restart.rs"]
mod restart;
#[path = "kubernetes/users.rs"]
mod users;
#[path = "kubernetes/watcher.rs"]
mod watcher;

use std::time::{Duration, Instant};

use engram_e2e::server::Setup;
use serde_json::{Value, json};

use api::{Api, Body, items, name, resource_version};
use cluster::Cluster;
use process::wait_for;
use watcher::{Event, Watcher};

/// How long a controller or a watch may take. Seconds are usual; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
const NAMESPACE: &str = "story";
const CORE: &str = "/api/v1/namespaces/story";
const APPS: &str = "/apis/apps/v1/namespaces/story";
const WIDGETS: &str = "/apis/tests.example.org/v1/namespaces/story/widgets";
/// How often objects of a collection are created, changed and deleted under a watch.
const WIDGET_COUNT: usize = 20;

#[test]
fn a_kubernetes_control_plane_lives_on_the_server() {
    let started = Instant::now();
    let mut cluster = step("apiserver is ready", Cluster::start);
    let api = cluster.api();
    step("namespace gets its service account", || {
        namespace_is_furnished(&cluster)
    });
    step("deployment becomes replica set and pods", || {
        deployment_becomes_pods(&cluster)
    });
    step("a custom resource lives its whole life", || {
        custom_resources(&cluster)
    });
    step("server-side apply", || server_side_apply(api));
    step("paged lists while objects change", || {
        paging::pages_are_one_moment(api, CORE)
    });
    step("the operator's backups, with played pods", || {
        backups::are_made_and_tried_again(&cluster)
    });
    step("datastore killed and restarted", || {
        restart::nothing_is_lost(&mut cluster, CORE)
    });
    step("controllers go on after that", || {
        controllers_go_on(&mut cluster)
    });
    step("namespace is deleted to the end", || {
        namespace_is_emptied(&cluster)
    });
    cluster.must_run();
    let [datastore, apiserver, controllers] = cluster.cpu_seconds();
    println!(
        "{:.1} s in all; CPU seconds: datastore {datastore:.1}, apiserver {apiserver:.1}, \
         controllers {controllers:.1}",
        started.elapsed().as_secs_f64()
    );
}

/// An apiserver that was filled on a real etcd goes on where engram takes the etcd's directory over,
/// killed under writes: nothing is lost, no version goes back or is used twice, watches go on.
#[test]
#[ignore = "takes long: make chaos"]
fn a_control_plane_moves_from_etcd_in_place() {
    let mut cluster = step("apiserver is ready on etcd", || {
        Cluster::start_on(Setup::etcd())
    });
    step("namespace gets its service account", || {
        namespace_is_furnished(&cluster)
    });
    step("deployment becomes replica set and pods", || {
        deployment_becomes_pods(&cluster)
    });
    cluster.move_to_engram();
    let listed = watch_caches_begun(cluster.api());
    let relisted = step(
        "etcd killed under writes, engram started on its directory",
        || restart::nothing_is_lost(&mut cluster, CORE),
    );
    assert!(!relisted, "a watch had to begin anew");
    assert_eq!(
        watch_caches_begun(cluster.api()),
        listed,
        "an informer of the apiserver's had to list again"
    );
    step("controllers go on after that", || {
        controllers_go_on(&mut cluster)
    });
    cluster.must_run();
}

/// 500 clusters of three members each, on one operator: idle, at its start, and when a pod goes.
#[test]
#[ignore = "takes long: make bench-operator"]
fn one_operator_looks_after_many_clusters() {
    many::are_looked_after();
}

/// How often the apiserver has filled its cache of each resource by a list.
fn watch_caches_begun(api: Api) -> Vec<String> {
    let metrics = api.text("/metrics");
    let begun = "apiserver_watch_cache_initializations_total";
    let lines = metrics.lines().filter(|line| line.starts_with(begun));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(lines.len() > 20, "{lines:?}");
    lines.sort();
    lines
}

/// Runs a part of the story and prints what it took.
fn step<T>(what: &str, part: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = part();
    println!("{:6.1} s  {what}", started.elapsed().as_secs_f64());
    result
}

fn namespace_is_furnished(cluster: &Cluster) {
    cluster.kubectl(&["create", "namespace", NAMESPACE], "");
    let api = cluster.api();
    for wanted in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
        let path = format!("{CORE}/{wanted}");
        wait_for(wanted, LIMIT, || api.answers(&path).then_some(()));
    }
    let list = api.get("/api/v1/namespaces");
    let names: Vec<&str> = items(&list).iter().map(name).collect();
    for wanted in [
        NAMESPACE,
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ] {
        assert!(names.contains(&wanted), "{wanted} is not in {names:?}");
    }
}

fn deployment_becomes_pods(cluster: &Cluster) {
    let api = cluster.api();
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": NAMESPACE },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "registry.invalid/web:1" }] },
            },
        },
    });
    cluster.kubectl(&["apply", "-f", "-"], &deployment.to_string());
    let pods = wait_for_pods(api, 3);
    let sets = api.get(&format!("{APPS}/replicasets"));
    assert_eq!(items(&sets).len(), 1, "{sets}");
    assert_eq!(owner(&items(&sets)[0]), ("Deployment", "web"));
    for pod in &pods {
        assert_eq!(owner(pod), ("ReplicaSet", name(&items(&sets)[0])));
        assert_eq!(
            pod["status"]["phase"], "Pending",
            "there is no scheduler and no kubelet"
        );
    }

    cluster.kubectl(
        &["-n", NAMESPACE, "scale", "deployment/web", "--replicas=5"],
        "",
    );
    wait_for_pods(api, 5);
    let gone = name(&pods[0]).to_owned();
    api.request("DELETE", &format!("{CORE}/pods/{gone}"), None)
        .ok("delete a pod");
    wait_for("the pod's successor", LIMIT, || {
        let pods = api.get(&format!("{CORE}/pods"));
        let successors = items(&pods).iter().filter(|pod| name(pod) != gone).count();
        (successors == 5 && items(&pods).len() == 5).then_some(())
    });
    wait_for("the deployment's status", LIMIT, || {
        let deployment = api.get(&format!("{APPS}/deployments/web"));
        (deployment["status"]["replicas"] == 5).then_some(())
    });
}

fn wait_for_pods(api: Api, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} pods"), LIMIT, || {
        let pods = api.get(&format!("{CORE}/pods?labelSelector=app%3Dweb"));
        (items(&pods).len() == count).then(|| items(&pods).to_vec())
    })
}

fn owner(object: &Value) -> (&str, &str) {
    let reference = &object["metadata"]["ownerReferences"][0];
    (
        reference["kind"].as_str().unwrap_or_default(),
        reference["name"].as_str().unwrap_or_default(),
    )
}

/// Create, list, watch, update, patch and delete objects of a kind that the apiserver learns now.
fn custom_resources(cluster: &Cluster) {
    let api = cluster.api();
    cluster.kubectl(&["create", "-f", "-"], &widget_definition().to_string());
    let list = wait_for("the new resource", LIMIT, || {
        let answer = api.send("GET", WIDGETS, None).ok()?;
        (answer.status == 200).then_some(answer.body)
    });
    assert_eq!(items(&list), [] as [Value; 0]);
    let before = resource_version(&list);
    let live = Watcher::start(api, WIDGETS, before);

    let expected = widgets_live_and_die(api);
    assert_eq!(live.wait(expected.len(), LIMIT), expected, "the live watch");
    let replay = Watcher::start(api, WIDGETS, before);
    assert_eq!(
        replay.wait(expected.len(), LIMIT),
        expected,
        "the watch of the past"
    );

    let list = api.get(WIDGETS);
    assert_eq!(items(&list).len(), WIDGET_COUNT / 2);
    let printed = cluster.kubectl(&["-n", NAMESPACE, "get", "widgets", "-o", "name"], "");
    assert_eq!(printed.lines().count(), WIDGET_COUNT / 2, "{printed}");
}

fn widget_definition() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": { "type": "object", "properties": { "size": { "type": "integer" } } },
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.tests.example.org" },
        "spec": {
            "group": "tests.example.org",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// What is done to the widgets, and the events that have to tell of it.
fn widgets_live_and_die(api: Api) -> Vec<Event> {
    let mut events = Vec::new();
    let mut note = |kind: &str, object: &Value| {
        let (name, version) = (name(object).to_owned(), resource_version(object));
        events.push(Event {
            kind: kind.to_owned(),
            name,
            version,
        });
    };
    for number in 0..WIDGET_COUNT {
        let mut widget = json!({
            "apiVersion": "tests.example.org/v1",
            "kind": "Widget",
            "metadata": { "name": format!("widget-{number:02}") },
            "spec": { "size": number },
        });
        let created = api.create(WIDGETS, &widget);
        note("ADDED", &created);

        let path = format!("{WIDGETS}/{}", name(&created));
        widget["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
        widget["spec"]["size"] = json!(number + 100);
        let updated = api
            .request("PUT", &path, Some((Body::Object, &widget)))
            .ok("update");
        note("MODIFIED", &updated);
        let stale = api.request("PUT", &path, Some((Body::Object, &widget)));
        assert_eq!(
            stale.status, 409,
            "an update of a version that is past: {}",
            stale.body
        );

        let patch = json!({ "spec": { "size": number + 200 } });
        let patched = api
            .request("PATCH", &path, Some((Body::MergePatch, &patch)))
            .ok("patch");
        note("MODIFIED", &patched);
        assert_eq!(api.get(&path)["spec"]["size"], number + 200);
        if number % 2 == 0 {
            api.request("DELETE", &path, None).ok("delete");
            assert_eq!(api.request("GET", &path, None).status, 404);
            // The answer to a delete does not say its version: the next write's bounds it.
            note("DELETED", &patched);
        }
    }
    fill_in_deletions(api, events)
}

/// Gives the deletions the versions that the apiserver's history says, after checking that each
/// lies between its neighbours.
fn fill_in_deletions(api: Api, mut events: Vec<Event>) -> Vec<Event> {
    let history = Watcher::start(api, WIDGETS, events[0].version - 1);
    let seen = history.wait(events.len(), LIMIT);
    for index in 0..events.len() {
        if events[index].kind != "DELETED" {
            continue;
        }
        let version = seen[index].version;
        assert!(version > events[index - 1].version, "{:?}", seen[index]);
        if let Some(next) = events.get(index + 1) {
            assert!(version < next.version, "{:?}", seen[index]);
        }
        events[index].version = version;
    }
    events
}

/// Two managers own fields of one object; one cannot take the other's unasked.
fn server_side_apply(api: Api) {
    let path = |manager: &str, options: &str| {
        format!("{CORE}/configmaps/applied?fieldManager={manager}{options}")
    };
    let config = |data: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "applied" },
            "data": data,
        })
    };
    let apply = |manager: &str, options: &str, data: Value| {
        let body = config(data);
        api.request(
            "PATCH",
            &path(manager, options),
            Some((Body::ApplyPatch, &body)),
        )
    };
    apply("one", "", json!({ "a": "1", "b": "1" })).ok("the first apply");
    apply("two", "", json!({ "c": "2" })).ok("another manager's apply");
    let refused = apply("two", "", json!({ "a": "2", "c": "2" }));
    assert_eq!(refused.status, 409, "{}", refused.body);
    apply("two", "&force=true", json!({ "a": "2", "c": "2" })).ok("a forced apply");
    // What a manager no longer names, and nobody else owns, goes.
    let merged = apply("one", "", json!({})).ok("an apply of less");
    assert_eq!(merged["data"], json!({ "a": "2", "c": "2" }));
    let again = apply("one", "", json!({})).ok("an apply of nothing new");
    assert_eq!(
        resource_version(&again),
        resource_version(&merged),
        "it is not written"
    );
}

fn controllers_go_on(cluster: &mut Cluster) {
    if cluster.revive_controllers() {
        println!("          (the controller manager had given up its lock and was restarted)");
    }
    let api = cluster.api();
    let patch = json!({ "spec": { "replicas": 2 } });
    let path = format!("{APPS}/deployments/web/scale");
    api.request("PATCH", &path, Some((Body::MergePatch, &patch)))
        .ok("scale down");
    wait_for_pods(api, 2);
}

fn namespace_is_emptied(cluster: &Cluster) {
    let stored = || {
        let keys = cluster.stored_keys("/registry/");
        assert!(
            keys.len() > 100,
            "the apiserver's own objects are many more than {}",
            keys.len()
        );
        let of_namespace = format!("/{NAMESPACE}/");
        let own = format!("/registry/namespaces/{NAMESPACE}");
        let is_of_namespace = |key: &String| key.contains(&of_namespace) || *key == own;
        keys.into_iter().filter(is_of_namespace).collect::<Vec<_>>()
    };
    assert!(
        stored().len() > 300,
        "deployment, pods, widgets, config maps, service account"
    );
    cluster.kubectl(
        &[
            "delete",
            "namespace",
            NAMESPACE,
            "--wait=true",
            "--timeout=120s",
        ],
        "",
    );
    assert_eq!(cluster.api().request("GET", CORE, None).status, 404);
    assert_eq!(stored(), [] as [String; 0]);
}
