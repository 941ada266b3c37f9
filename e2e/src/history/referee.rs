//! The history in the layout of etcd's robustness tests, and their verdict on it.
//!
//! `client-N/operations.json` and `client-N/watch.json` hold JSON objects one after the other, with
//! the field names of etcd's Go structures (`tests/robustness/model`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::observer::{Event, Watch};
use super::timeline::Timeline;
use super::{Action, Answer, Kv, Operation, Outcome};
use crate::tools;

/// etcd's own search for a linearization may take five minutes.
const VERDICT_LIMIT: Duration = Duration::from_secs(400);

/// Which writes without an answer had happened, and at which revision: their places in the history
/// of all workers, one after the other. The others had not.
pub type Settled = BTreeMap<usize, i64>;

/// Writes a history into `dir`.
///
/// With `settled` the referee does not search for what had happened: what it finds right is right
/// for the whole history too, since an operation without an answer may be left out.
///
/// # Panics
/// If it cannot be written.
pub fn write(
    dir: &Path,
    timeline: &Timeline,
    history: &[Vec<Operation>],
    watches: &[Watch],
    settled: Option<&Settled>,
) {
    let mut before = 0;
    for (number, operations) in history.iter().enumerate() {
        let places = before..before + operations.len();
        let lines = places
            .zip(operations)
            .filter_map(|(place, operation)| match settled {
                Some(settled) if operation.is_open() => {
                    Some(happened(operation, *settled.get(&place)?))
                }
                _ => line(operation),
            });
        write_values(
            &dir.join(format!("client-{number}")),
            "operations.json",
            lines,
        );
        before += operations.len();
    }
    let watchers = watches
        .iter()
        .map(|watch| watch.watcher)
        .max()
        .map_or(0, |last| last + 1);
    for watcher in 0..watchers {
        let of_watcher = watches.iter().filter(|watch| watch.watcher == watcher);
        let place = dir.join(format!("client-{}", history.len() + watcher));
        write_values(&place, "watch.json", of_watcher.map(watch_operation));
    }
    write_values(
        dir,
        "persisted.json",
        persisted(timeline, history).into_iter(),
    );
}

/// Has etcd's model and validators judge what [`write`] wrote; returns what they say.
///
/// # Errors
/// Their verdict, if the history is not strictly serializable or a watch broke a promise.
pub fn judge(dir: &Path) -> Result<String, String> {
    let mut command = tools::command(&tools::tool("referee"));
    let finished = tools::run(command.arg(dir), VERDICT_LIMIT);
    match finished.status.success() {
        true => Ok(finished.stdout.trim().to_owned()),
        false => Err(format!("etcd's own validators: {}", finished.text())),
    }
}

fn write_values(dir: &Path, name: &str, values: impl Iterator<Item = Value>) {
    fs::create_dir_all(dir).expect("making a directory for the history");
    let file = fs::File::create(dir.join(name)).expect("making a file of the history");
    let mut file = std::io::BufWriter::new(file);
    for value in values {
        writeln!(file, "{value}").expect("writing the history");
    }
    file.flush().expect("writing the history");
}

/// A write without an answer that took effect at `revision`, whenever that was.
fn happened(operation: &Operation, revision: i64) -> Value {
    json!({
        "ClientId": operation.client,
        "Input": input(&operation.action),
        "Call": operation.call,
        "Output": { "Persisted": true, "PersistedRevision": revision },
        "Return": i64::MAX,
    })
}

/// `None` for what the model has no use for: refusals, reads without an answer or of the past.
fn line(operation: &Operation) -> Option<Value> {
    let output = match &operation.outcome {
        Outcome::Done(answer) => output(&operation.action, answer),
        Outcome::Unknown(why) if operation.is_open() => json!({ "Error": why }),
        _ => return None,
    };
    let input = input(&operation.action)?;
    Some(json!({
        "ClientId": operation.client,
        "Input": input,
        "Call": operation.call,
        "Output": output,
        "Return": operation.back,
    }))
}

fn input(action: &Action) -> Option<Value> {
    Some(match action {
        Action::Put { key, value, lease } => txn(&[put(key, value, *lease)]),
        Action::Delete { key } => txn(&[delete(key)]),
        Action::Get { key } => range(key, ""),
        Action::List { from, to } => range(from, to),
        Action::Peek { .. } => return None,
        Action::Grant { lease } => grant(*lease),
        Action::Revoke { lease } => {
            json!({ "Type": "leaseRevoke", "LeaseRevoke": { "LeaseID": lease } })
        }
        Action::Swap {
            key,
            expected,
            value,
            other,
        } => {
            let puts = std::iter::once(key)
                .chain(other)
                .map(|key| put(key, value, 0));
            let mut request = txn(&puts.collect::<Vec<_>>());
            request["Txn"]["Conditions"] = json!([{ "Key": key, "ExpectedRevision": expected }]);
            let read = json!({ "Type": "range-operation", "Range": { "Start": key } });
            request["Txn"]["OperationsOnFailure"] = json!([read]);
            request
        }
    })
}

fn txn(operations: &[Value]) -> Value {
    json!({ "Type": "txn", "Txn": { "OperationsOnSuccess": operations } })
}

fn put(key: &str, value: &str, lease: i64) -> Value {
    let put = json!({ "Key": key, "Value": { "Value": value }, "LeaseID": lease });
    json!({ "Type": "put-operation", "Put": put })
}

fn delete(key: &str) -> Value {
    json!({ "Type": "delete-operation", "Delete": { "Key": key } })
}

fn range(start: &str, end: &str) -> Value {
    json!({ "Type": "range", "Range": { "Start": start, "End": end } })
}

fn grant(lease: i64) -> Value {
    json!({ "Type": "leaseGrant", "LeaseGrant": { "LeaseID": lease } })
}

fn output(action: &Action, answer: &Answer) -> Value {
    let seen: Vec<Value> = answer.kvs.iter().map(key_value).collect();
    let read = json!({ "KVs": seen, "Count": seen.len() });
    let mut output = match action {
        Action::Put { .. } => json!({ "Txn": { "Results": [{}] } }),
        Action::Delete { .. } => json!({ "Txn": { "Results": [{ "Deleted": answer.deleted }] } }),
        Action::Swap { other, .. } if answer.succeeded => {
            json!({ "Txn": { "Results": vec![json!({}); 1 + usize::from(other.is_some())] } })
        }
        Action::Swap { .. } => json!({ "Txn": { "Failure": true, "Results": [read] } }),
        Action::Get { .. } | Action::List { .. } | Action::Peek { .. } => json!({ "Range": read }),
        Action::Grant { .. } => json!({ "LeaseGrant": {} }),
        Action::Revoke { .. } => json!({ "LeaseRevoke": {} }),
    };
    output["Revision"] = json!(answer.revision);
    output
}

fn key_value(kv: &Kv) -> Value {
    let mut value = value_revision(kv);
    value["Key"] = json!(kv.key);
    value
}

fn value_revision(kv: &Kv) -> Value {
    json!({
        "Value": { "Value": kv.value },
        "ModRevision": kv.modified,
        "Version": kv.version,
    })
}

fn watch_operation(watch: &Watch) -> Value {
    let responses = watch.messages.iter().map(|message| {
        json!({
            "Events": message.events.iter().map(watch_event).collect::<Vec<_>>(),
            "IsProgressNotify": message.is_progress(),
            "Revision": message.revision,
            "Time": message.at,
        })
    });
    json!({
        "Request": {
            "Key": watch.key.as_deref().unwrap_or(""),
            "Revision": watch.start,
            "WithPrefix": watch.key.is_none(),
            "WithProgressNotify": true,
            "WithPrevKV": true,
        },
        "Responses": responses.collect::<Vec<_>>(),
    })
}

fn watch_event(event: &Event) -> Value {
    let kind = if event.is_delete {
        "delete-operation"
    } else {
        "put-operation"
    };
    json!({
        "Type": kind,
        "Key": event.kv.key,
        "Value": if event.is_delete { json!({}) } else { json!({ "Value": event.kv.value }) },
        "Revision": event.revision,
        "IsCreate": !event.is_delete && event.kv.created == event.kv.modified,
        "PrevValue": event.before.as_ref().map(value_revision),
    })
}

/// The requests that took effect, in their order: what etcd's tests read from write-ahead logs.
fn persisted(timeline: &Timeline, history: &[Vec<Operation>]) -> Vec<Value> {
    // Grants have no events. To the model it is all one how early a lease is granted.
    let granted = history
        .iter()
        .flatten()
        .filter_map(|operation| match operation.action {
            Action::Grant { lease } if !matches!(operation.outcome, Outcome::Refused(_)) => {
                Some(lease)
            }
            _ => None,
        });
    let mut requests: Vec<Value> = granted.map(grant).collect();
    timeline.replay(|_, before, events| {
        let Some(first) = events.first() else {
            return;
        };
        let lease = before.get(&first.kv.key).map_or(0, |kv| kv.lease);
        // Keys with a lease are deleted by revoking it only.
        requests.push(if first.is_delete && lease != 0 {
            json!({ "Type": "leaseRevoke", "LeaseRevoke": { "LeaseID": lease } })
        } else {
            txn(&events.iter().map(effect).collect::<Vec<_>>())
        });
    });
    requests
}

fn effect(event: &Event) -> Value {
    match event.is_delete {
        true => delete(&event.kv.key),
        false => put(&event.kv.key, &event.kv.value, event.kv.lease),
    }
}
