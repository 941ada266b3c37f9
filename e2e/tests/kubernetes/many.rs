//! One operator and many clusters, before the real kube-apiserver on Engram: what passes cost when nothing
//! happens, what a start costs, and how soon a pod that was deleted is there again. The test plays the
//! scheduler and the kubelets, and all members ([`crate::played_members`]).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::ports;
use engram_e2e::process::{Usage, usage};
use engram_e2e::raise::RaiseOnDrop;
use serde_json::{Value, json};

use crate::api::{Api, Body, items, name};
use crate::cluster::Cluster;
use crate::played_members::{MEMBERS, Member, serve};
use crate::process::{Program, wait_for};

/// How many threads ask at once.
const HANDS: usize = 4;
/// How long all may take to be looked at for the first time.
const LIMIT: Duration = Duration::from_secs(900);
/// How long is measured when nothing happens.
const IDLE: Duration = Duration::from_secs(120);
/// What the issue allows: bytes, and calls of the API server for each cluster and minute (two a pass).
const MEMORY_MAX: u64 = 256 << 20;
const CALLS_MAX: f64 = 8.0;
const OURS: &str = "/apis/engram.dev/v1alpha1";

/// An operator before the apiserver, and where it tells of itself.
struct Operator {
    program: Program,
    own: Api,
}

impl Operator {
    fn usage(&self) -> Usage {
        usage(self.program.id()).expect("the process runs")
    }
}

/// All of it; what was measured is printed, and written to the file that `ENGRAM_BENCH_REPORT` names.
pub fn are_looked_after() {
    let count = std::env::var("ENGRAM_BENCH_CLUSTERS").ok();
    let count: u16 = count.map_or(500, |text| text.parse().expect("ENGRAM_BENCH_CLUSTERS"));
    serve();
    let mut cluster = Cluster::start();
    prepare(&mut cluster, count);
    let api = cluster.api();
    let made = Instant::now();
    each(count, |number| make(api, number));
    println!(
        "{count} clusters are made: {:.0} s",
        made.elapsed().as_secs_f64()
    );
    let quiet = calls(api);
    thread::sleep(Duration::from_secs(20));
    let others = (calls(api) - quiet) / 20.0;
    let mut report = Report::of(count, others);

    let mut operator = start(&cluster);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = RaiseOnDrop(&stop);
        scope.spawn(|| kubelets(api, &stop));
        let began = Instant::now();
        all_ready(operator.own, count);
        report.add("pods of all made, and all ready", seconds(began.elapsed()));
    });
    // What was made is looked at again.
    thread::sleep(Duration::from_secs(90));
    report.idle(api, &operator, IDLE);
    operator.program.kill();

    let operator = start(&cluster);
    report.start(api, &operator, count);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = RaiseOnDrop(&stop);
        scope.spawn(|| kubelets(api, &stop));
        report.add("a pod deleted, until the next one", replaced(api, count));
    });
    report.finish();
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Has `part` done for each number, by some hands.
fn each(count: u16, part: impl Fn(u16) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let number = u16::try_from(number).expect("fewer than that");
                    if number >= count {
                        return;
                    }
                    part(number);
                }
            });
        }
    });
}

/// Namespaces, nodes and CRDs. Kubernetes' controllers end: nobody else is to ask.
fn prepare(cluster: &mut Cluster, count: u16) {
    let api = cluster.api();
    cluster.create_kinds();
    each(count.div_ceil(10), |number| {
        let of = Member {
            cluster: number * 10,
            number: 1,
        };
        let namespace = of.namespace();
        api.create(
            "/api/v1/namespaces",
            &json!({ "metadata": { "name": namespace } }),
        );
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        wait_for(&account, LIMIT, || api.answers(&account).then_some(()));
    });
    for number in 1..=MEMBERS {
        let node = json!({ "metadata": { "name": format!("node-{number}") } });
        api.create("/api/v1/nodes", &node);
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        status(api, &format!("/api/v1/nodes/node-{number}"), &ready);
    }
    wait_for("the operator's kinds", LIMIT, || {
        api.answers(&format!("{OURS}/engramclusters")).then_some(())
    });
    cluster.stop_controllers();
}

fn status(api: Api, path: &str, patch: &Value) {
    api.request(
        "PATCH",
        &format!("{path}/status"),
        Some((Body::MergePatch, patch)),
    )
    .ok(path);
}

/// A cluster that was founded long ago, whose pods are gone.
fn make(api: Api, number: u16) {
    let first = Member {
        cluster: number,
        number: 1,
    };
    let (namespace, cluster) = (first.namespace(), first.cluster_name());
    let ours = format!("{OURS}/namespaces/{namespace}");
    let plain = json!({ "mode": "Disabled" });
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
        "metadata": { "name": cluster, "finalizers": ["engram.dev/cluster"] },
        "spec": {
            "replicas": MEMBERS, "storage": { "size": "1Gi" },
            "tls": { "client": plain, "peer": plain },
        },
    });
    let made = api.create(&format!("{ours}/engramclusters"), &object);
    let known = json!({ "status": {
        "clusterID": format!("{:x}", first.cluster_id()), "lastMemberNumber": MEMBERS,
    } });
    status(api, &format!("{ours}/engramclusters/{cluster}"), &known);
    for number in 1..=MEMBERS {
        make_member(api, Member { number, ..first }, &made);
    }
}

fn owner(kind: &str, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([{
        "apiVersion": "engram.dev/v1alpha1", "kind": kind, "controller": true,
        "name": meta["name"], "uid": meta["uid"],
    }])
}

/// A member that was listed, with its volume.
fn make_member(api: Api, member: Member, cluster: &Value) {
    let (namespace, of) = (member.namespace(), member.cluster_name());
    let labels = json!({
        "app.kubernetes.io/name": "engram", "app.kubernetes.io/instance": of,
        "app.kubernetes.io/component": "member", "app.kubernetes.io/part-of": "engram",
        "app.kubernetes.io/managed-by": "engram-operator",
        "engram.dev/cluster": of, "engram.dev/member": member.name(),
    });
    let members = format!("{OURS}/namespaces/{namespace}/engrammembers");
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
        "metadata": {
            "name": member.name(), "labels": labels, "finalizers": ["engram.dev/member"],
            "ownerReferences": owner("EngramCluster", cluster),
        },
        "spec": {
            "clusterRef": { "name": of }, "origin": "Join", "peerURL": member.peer_url(),
        },
    });
    let made = api.create(&members, &object);
    let known = json!({ "status": {
        "memberID": format!("{:x}", member.id()), "initialized": true,
    } });
    status(api, &format!("{members}/{}", member.name()), &known);
    let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
    let claim = format!("data-{}-{}", member.name(), &uid[..8]);
    let claims = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
    let object = json!({
        "metadata": {
            "name": claim, "labels": labels, "ownerReferences": owner("EngramMember", &made),
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    api.create(&claims, &object);
    let bound = json!({ "status": {
        "phase": "Bound", "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
    } });
    status(api, &format!("{claims}/{claim}"), &bound);
}

/// Finds each new pod a node, and says that it runs.
fn kubelets(api: Api, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let pods = api.get("/api/v1/pods?fieldSelector=status.phase%3DPending");
        let pods = items(&pods);
        let count = u16::try_from(pods.len()).expect("fewer pods than that");
        each(count, |number| run(api, &pods[usize::from(number)]));
        thread::sleep(Duration::from_millis(if pods.is_empty() {
            500
        } else {
            100
        }));
    }
}

/// The member that a pod is, by its name.
fn member_of(pod: &Value) -> Option<Member> {
    let (cluster, number) = name(pod).rsplit_once('-')?;
    Some(Member {
        cluster: cluster.strip_prefix('c')?.parse().ok()?,
        number: number.parse().ok()?,
    })
}

fn run(api: Api, pod: &Value) {
    let Some(member) = member_of(pod) else { return };
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        member.namespace(),
        name(pod)
    );
    let target = json!({ "kind": "Node", "name": format!("node-{}", member.number) });
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": name(pod) }, "target": target,
    });
    // Another pass over the list may have seen it as well.
    drop(api.request(
        "POST",
        &format!("{path}/binding"),
        Some((Body::Object, &binding)),
    ));
    let address = member.address().to_string();
    let now = "2026-01-01T00:00:00Z";
    let status = json!({ "status": {
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "startTime": now,
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now }],
        "containerStatuses": [{
            "name": "engram", "image": "engram:1", "imageID": "", "ready": true, "started": true,
            "restartCount": 0, "state": { "running": { "startedAt": now } },
        }],
    } });
    let path = format!("{path}/status");
    drop(api.request("PATCH", &path, Some((Body::MergePatch, &status))));
}

fn start(cluster: &Cluster) -> Operator {
    let port = ports::free();
    let mut command = cluster.operator(port);
    command.env("RUST_LOG", "warn");
    let program = Program::start("engram-operator", &mut command, cluster.log("operator"));
    let own = Api { port };
    wait_for("the operator's metrics", LIMIT, || {
        own.answers("/metrics").then_some(())
    });
    Operator { program, own }
}

/// The sum of a metric's values whose labels have this in them.
fn sum(text: &str, metric: &str, part: &str) -> f64 {
    let of = |line: &&str| {
        let rest = line.strip_prefix(metric);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(part)
    };
    let values = text.lines().filter(of);
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// What the apiserver has answered, watches apart.
fn calls(api: Api) -> f64 {
    let text = api.text("/metrics");
    sum(&text, "apiserver_request_total", "")
        - sum(&text, "apiserver_request_total", "verb=\"WATCH\"")
}

fn all_ready(own: Api, count: u16) {
    wait_for("all clusters are ready", LIMIT, || {
        let ready = sum(&own.text("/metrics"), "engram_cluster_ready", "");
        (ready >= f64::from(count)).then_some(())
    });
}

/// How long it takes until a pod that was deleted is made again.
fn replaced(api: Api, count: u16) -> String {
    let member = Member {
        cluster: count / 2,
        number: 2,
    };
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        member.namespace(),
        member.name()
    );
    let before = api.get(&path)["metadata"]["uid"].clone();
    let now = format!("{path}?gracePeriodSeconds=0");
    api.request("DELETE", &now, None).ok("delete a pod");
    let began = Instant::now();
    wait_for("the next pod", LIMIT, || {
        let answer = api.request("GET", &path, None);
        (answer.status == 200 && answer.body["metadata"]["uid"] != before).then_some(())
    });
    seconds(began.elapsed())
}

/// What was measured.
struct Report {
    clusters: f64,
    /// What others ask of the apiserver, in calls a second.
    others: f64,
    text: String,
}

impl Report {
    fn of(count: u16, others: f64) -> Self {
        let mut report = Self {
            clusters: f64::from(count),
            others,
            text: "| measured | value |\n|---|---|\n".to_owned(),
        };
        report.add("clusters of three members", count.to_string());
        report.add(
            "calls of others a minute, taken off",
            format!("{:.0}", others * 60.0),
        );
        report
    }

    fn add(&mut self, what: &str, value: impl std::fmt::Display) {
        println!("{what}: {value}");
        writeln!(self.text, "| {what} | {value} |").expect("a String takes everything");
    }

    /// What passes cost while nothing happens.
    fn idle(&mut self, api: Api, operator: &Operator, time: Duration) {
        let (asked, before) = (calls(api), operator.own.text("/metrics"));
        thread::sleep(time);
        let (answered, after) = (calls(api), operator.own.text("/metrics"));
        let minutes = time.as_secs_f64() / 60.0;
        let of_operator = (answered - asked) - self.others * time.as_secs_f64();
        let a_minute = of_operator / minutes;
        let kind = "kind=\"EngramCluster\"";
        let metric = "engram_operator_reconcile_duration_seconds_count";
        let passes = sum(&after, metric, kind) - sum(&before, metric, kind);
        let (half, most) = (
            quantile(&before, &after, 0.5),
            quantile(&before, &after, 0.99),
        );
        let memory = operator.usage().memory;
        self.add(
            "idle: passes of clusters a minute",
            format!("{:.0}", passes / minutes),
        );
        self.add(
            "idle: a pass, p50 and p99 at most",
            format!("{half}, {most}"),
        );
        self.add(
            "idle: calls of the API server a minute",
            format!("{a_minute:.0}"),
        );
        self.add(
            "idle: the same for each cluster",
            format!("{:.2}", a_minute / self.clusters),
        );
        self.add("idle: calls a pass", format!("{:.2}", of_operator / passes));
        self.add("idle: memory (RSS)", format!("{} MiB", memory >> 20));
        assert!(memory <= MEMORY_MAX, "{memory} bytes");
        assert!(
            a_minute / self.clusters <= CALLS_MAX,
            "{a_minute} calls a minute"
        );
    }

    /// What a start costs where all is well.
    fn start(&mut self, api: Api, operator: &Operator, count: u16) {
        let (began, mut last, mut peak) = (Instant::now(), calls(api), 0.0_f64);
        let mut looked = Instant::now();
        wait_for("all clusters were looked at", LIMIT, || {
            thread::sleep(Duration::from_secs(1));
            let now = calls(api);
            let rate = (now - last) / looked.elapsed().as_secs_f64();
            (peak, last, looked) = (peak.max(rate), now, Instant::now());
            let text = operator.own.text("/metrics");
            (sum(&text, "engram_cluster_ready", "") >= f64::from(count)).then_some(())
        });
        self.add("start: until all were looked at", seconds(began.elapsed()));
        self.add("start: most calls in a second", format!("{peak:.0}"));
        let peak = operator.usage().peak;
        self.add("start: most memory", format!("{} MiB", peak >> 20));
        assert!(peak <= MEMORY_MAX, "{peak} bytes");
    }

    fn finish(self) {
        println!("\n{}", self.text);
        if let Some(path) = std::env::var_os("ENGRAM_BENCH_REPORT") {
            let mut all = std::fs::read_to_string(&path).unwrap_or_default();
            all.push_str(&self.text);
            std::fs::write(&path, all)
                .unwrap_or_else(|error| panic!("ENGRAM_BENCH_REPORT={}: {error}", path.display()));
        }
    }
}

/// Below which bound so many of the passes of clusters stayed that ended between two looks.
fn quantile(before: &str, after: &str, share: f64) -> String {
    let metric = "engram_operator_reconcile_duration_seconds_bucket";
    let bound = |line: &str| {
        let (_, rest) = line.split_once("le=\"")?;
        Some(rest.split('"').next()?.to_owned())
    };
    let of = |line: &&str| line.starts_with(metric) && line.contains("kind=\"EngramCluster\"");
    let bounds: Vec<String> = after.lines().filter(of).filter_map(bound).collect();
    let count = |text: &str, bound: &str| {
        let lines = text.lines().filter(of);
        let part = format!("le=\"{bound}\"");
        let found: Vec<&str> = lines.filter(|line| line.contains(&part)).collect();
        sum(&found.join("\n"), metric, "")
    };
    let within = |bound: &str| count(after, bound) - count(before, bound);
    let all = within("+Inf");
    let found = bounds.iter().find(|bound| within(bound) >= all * share);
    found.map_or_else(|| "?".to_owned(), |bound| format!("{bound} s"))
}
