//! Operators that are killed between any two of their calls: whoever comes after one ends where it would have. And
//! calls that go wrong, each in every way: whoever makes them ends there as well.

mod restores;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab, MEMBERS};
use crate::played::{Fault, Played};

/// Passes until nothing is left to do.
const PASSES: usize = 8;
/// Calls in a row that go wrong: more than a pass makes of one kind.
const SPELL: usize = 9;

/// What is there in the end. Who made it, when, and which number it took makes no difference: a number is spent
/// before it is used, and a pod of the first member is counted before it is made.
fn settled(server: &Played) -> BTreeMap<String, Value> {
    let all = server.all();
    let mut names: Vec<(String, String)> = Vec::new();
    let mut members = 0;
    for (path, object) in &all {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        names.push((uid.to_owned(), format!("(uid of {})", kind(path))));
        let tail: String = uid
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(8)
            .collect();
        if tail.len() == 8 {
            // As names end with it: a revision may have the same digits.
            names.push((format!("-{tail}"), "-(uid)".to_owned()));
        }
        if path.contains("/engrammembers/") {
            members += 1;
            names.push((last(path).to_owned(), format!("(member {members})")));
        }
    }
    let plain = |text: &str| {
        let one = |text: String, (from, to): &(String, String)| match from.is_empty() {
            true => text,
            false => text.replace(from.as_str(), to),
        };
        names.iter().fold(text.to_owned(), one)
    };
    let kept = all
        .into_iter()
        .filter(|(path, _)| !path.contains("/events/"));
    kept.map(|(path, mut object)| {
        if path.contains("/secrets/") {
            let keys = object["data"].as_object().cloned().unwrap_or_default();
            object["data"] = json!(keys.keys().collect::<Vec<_>>());
        }
        // Of what it was built, owners' uids among it.
        if let Some(built) = object.pointer_mut("/metadata/annotations/engram.dev~1built") {
            *built = "(digest)".into();
        }
        timeless(&mut object);
        let object = serde_json::from_str(&plain(&object.to_string()));
        (plain(&path), object.expect("it is JSON still"))
    })
    .collect()
}

fn kind(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap_or_default()
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Takes off what depends on when and by how many writes something was made.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in [
                "resourceVersion",
                "lastMemberNumber",
                // Of what has its cluster's UID in it.
                "engram.dev/template",
                "hash",
                "rendered",
                "foundingPods",
                "message",
                "lastTransitionTime",
            ] {
                fields.remove(field);
            }
            fields.values_mut().for_each(timeless);
        }
        Value::Array(all) => all.iter_mut().for_each(timeless),
        Value::String(text) if is_time(text) => *text = "(time)".to_owned(),
        _ => {}
    }
}

fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z')
}

/// One operator's passes, until it is killed or has done all of them. Whether it was killed.
async fn passes(server: &Played) -> bool {
    let lab = Lab::on(server.clone());
    let work = async {
        for _ in 0..PASSES {
            if lab.server.object(CLUSTER).is_none() {
                return;
            }
            // What fails is tried again.
            drop(lab.pass().await);
        }
    };
    tokio::select! {
        () = work => false,
        () = server.kills() => true,
    }
}

/// Has an operator be killed after each of its calls, and another one go on.
async fn whoever_is_killed_is_followed(what: &str, begin: impl Fn() -> Played) {
    let server = begin();
    server.requests();
    assert!(!passes(&server).await, "{what}: nobody was to be killed");
    let calls = server.requests().len();
    let wanted = settled(&server);
    assert!(calls > 10, "{what}: {calls} calls");
    for killed in 0..calls {
        let server = begin();
        server.kills_after(Some(killed));
        assert!(
            passes(&server).await,
            "{what}, after {killed} calls: it went on"
        );
        server.kills_after(None);
        assert!(
            !passes(&server).await,
            "{what}, killed after {killed} calls"
        );
        let found = settled(&server);
        for (path, object) in &wanted {
            let other = found.get(path);
            assert_eq!(
                other,
                Some(object),
                "{what}, killed after {killed} calls: {path}"
            );
        }
        let more: Vec<_> = found
            .keys()
            .filter(|path| !wanted.contains_key(*path))
            .collect();
        assert!(
            more.is_empty(),
            "{what}, killed after {killed} calls: {more:?}"
        );
    }
}

/// Has each call of an operator go wrong, and a spell of them from there on.
async fn what_goes_wrong_is_done_once(what: &str, begin: impl Fn() -> Played) {
    let server = begin();
    server.requests();
    passes(&server).await;
    let calls = server.requests();
    let wanted = settled(&server);
    for (at, (method, path)) in calls.iter().enumerate() {
        let each = Fault::of(method).iter().map(|fault| (*fault, 1));
        for (fault, many) in each.chain([(Fault::Refused(429), SPELL)]) {
            let when = format!("{what}, {many} × {fault:?} after {at} calls, at {method} {path}");
            let server = begin();
            server.goes_wrong(at, many, fault);
            passes(&server).await;
            passes(&server).await;
            // Of a spell in the end not all is met.
            let met = many > 1 || server.went_wrong();
            assert!(met, "{when}: it was not asked any more");
            let found = settled(&server);
            for path in wanted.keys().chain(found.keys()) {
                assert_eq!(found.get(path), wanted.get(path), "{when}: {path}");
            }
        }
    }
}

/// A cluster that was just made.
fn new() -> Played {
    // Pods of the played server are made long ago, and nobody runs them: that is not waited for here.
    let patient = json!({ "stuckAfter": "99999h", "unhealthyAfter": "99999h" });
    let lab = Lab::new(json!({ "replicas": 3, "healing": patient }));
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["metadata"]["finalizers"] = json!([]);
    cluster["status"] = json!({});
    lab.server.put(CLUSTER, cluster);
    lab.server
}

/// A founded one whose pods are gone.
fn without_pods() -> Played {
    let lab = Lab::new(json!({}));
    (1..=3).for_each(|number| lab.member(number));
    lab.server
}

#[tokio::test]
async fn a_cluster_is_founded_once_whatever_goes_wrong() {
    what_goes_wrong_is_done_once("founding", new).await;
}

#[tokio::test]
async fn pods_that_are_gone_are_made_again_once_whatever_goes_wrong() {
    what_goes_wrong_is_done_once("pods", without_pods).await;
}

#[tokio::test]
async fn a_cluster_that_is_deleted_goes_to_the_end_whatever_goes_wrong() {
    for policy in ["Delete", "Retain"] {
        let begin = || going(json!({ "storage": { "reclaimPolicy": policy } }), true);
        what_goes_wrong_is_done_once(policy, begin).await;
    }
}

#[tokio::test]
async fn a_cluster_is_founded_once_whoever_begins_it() {
    whoever_is_killed_is_followed("founding", new).await;
}

#[tokio::test]
async fn pods_that_are_gone_are_made_again_whoever_begins_it() {
    whoever_is_killed_is_followed("pods", without_pods).await;
}

/// A cluster with two members, all of which, or one of which, goes.
fn going(spec: Value, all: bool) -> Played {
    let lab = Lab::new(spec);
    (1..=2).for_each(|number| lab.member(number));
    let mut go = vec![format!("{MEMBERS}/demo-2")];
    if all {
        go.push(CLUSTER.to_owned());
    }
    for path in go {
        lab.server.deletes(&path);
    }
    lab.server
}

#[tokio::test]
async fn a_cluster_that_is_deleted_goes_to_the_end_whoever_begins_it() {
    let delete = || going(json!({ "storage": { "reclaimPolicy": "Delete" } }), true);
    whoever_is_killed_is_followed("deleting", delete).await;
    let retain = || going(json!({ "storage": { "reclaimPolicy": "Retain" } }), true);
    whoever_is_killed_is_followed("retaining", retain).await;
    let server = retain();
    passes(&server).await;
    assert_eq!(server.paths("/engrammembers/").len(), 0);
    assert_eq!(server.paths("/persistentvolumeclaims/").len(), 2);
    let server = delete();
    passes(&server).await;
    assert_eq!(server.paths("/persistentvolumeclaims/").len(), 0);
}

#[tokio::test]
async fn an_authority_that_was_lost_is_followed_whoever_begins_it() {
    let lab = Lab::new(json!({}));
    lab.member(1);
    passes(&lab.server).await;
    let authority = format!("{CORE}/secrets/demo-peer-ca");
    lab.server.remove(&authority).unwrap();
    whoever_is_killed_is_followed("authority", || lab.server.copy()).await;
}
