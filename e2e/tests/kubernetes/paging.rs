//! Lists read page by page are the state of one moment, whatever changes between the pages.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use engram_e2e::raise::RaiseOnDrop;
use serde_json::{Value, json};

use crate::api::{Api, Body, items, name, resource_version};

const STABLE: usize = 300;
const LIMIT: usize = 23;
const WALKS: usize = 4;
/// How many objects the writer creates, changes and deletes in turn.
const CHURN: usize = 40;

/// Walks a collection of config maps below `namespace` while another client changes it.
pub fn pages_are_one_moment(api: Api, namespace: &str) {
    let path = format!("{namespace}/configmaps");
    create_stable(api, &path);
    let stop = AtomicBool::new(false);
    let writes = AtomicUsize::new(0);
    thread::scope(|scope| {
        let _end = RaiseOnDrop(&stop);
        let writer = scope.spawn(|| churn(api, &path, &stop, &writes));
        for _ in 0..WALKS {
            let before = writes.load(Ordering::Relaxed);
            // A write of those has begun and ended behind the first page.
            let written = || writes.load(Ordering::Relaxed) > before + 1;
            walk(api, &path, || {
                while !written() && !writer.is_finished() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            assert!(!writer.is_finished(), "the writer has failed");
        }
    });
}

fn config_map(name: &str, value: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name },
        "data": { "value": value.to_string() },
    })
}

fn create_stable(api: Api, path: &str) {
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for number in (part..STABLE).step_by(4) {
                    api.create(path, &config_map(&format!("stable-{number:03}"), number));
                }
            });
        }
    });
}

/// Objects before, between and behind the stable ones come, change and go.
fn churn(api: Api, path: &str, stop: &AtomicBool, writes: &AtomicUsize) {
    let groups = ["a-first", "stable-150", "z-last"];
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("{}-churn-{}", groups[round % 3], round % CHURN);
        let object = format!("{path}/{name}");
        let answer = match round / CHURN % 3 {
            0 => api.request(
                "POST",
                path,
                Some((Body::Object, &config_map(&name, round))),
            ),
            1 => {
                let patch = json!({ "data": { "value": round.to_string() } });
                api.request("PATCH", &object, Some((Body::MergePatch, &patch)))
            }
            _ => api.request("DELETE", &object, None),
        };
        let expected = [200, 201, 404, 409].contains(&answer.status);
        assert!(expected, "{object}: {} {}", answer.status, answer.body);
        writes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads all pages, with something `meanwhile` behind the first, and compares them with one whole list at the same
/// version.
fn walk(api: Api, path: &str, meanwhile: impl Fn()) {
    let mut found: Vec<(String, u64)> = Vec::new();
    let mut version = None;
    let mut token = String::new();
    loop {
        let page = api.get(&format!("{path}?limit={LIMIT}&continue={token}"));
        assert_eq!(
            *version.get_or_insert(resource_version(&page)),
            resource_version(&page),
            "all pages are of one version"
        );
        found.extend(identities(&page));
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            break;
        }
        if found.len() == LIMIT {
            meanwhile();
        }
        assert_eq!(
            items(&page).len(),
            LIMIT,
            "a page that is not the last is full"
        );
    }
    let version = version.expect("there is at least one page");
    let exact = format!("{path}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(
        found,
        identities(&api.get(&exact)),
        "the pages and the whole at {version}"
    );
    let stable = (0..STABLE).map(|number| format!("stable-{number:03}"));
    for wanted in stable {
        assert!(
            found.iter().any(|(name, _)| *name == wanted),
            "{wanted} is missing"
        );
    }
}

fn identities(list: &Value) -> Vec<(String, u64)> {
    let identity = |object: &Value| (name(object).to_owned(), resource_version(object));
    items(list).iter().map(identity).collect()
}
