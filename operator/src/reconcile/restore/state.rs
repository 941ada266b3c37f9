//! How a restore stands, by the status of the cluster that it made; and what the first member's pod
//! says of its backup. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;
use serde::Deserialize;

use crate::api::{ConditionKind, EngramClusterStatus, Reason, RestoredFrom, condition, is_true};
use crate::desired::RESTORE_CONTAINER;

use super::super::tool::{classify, essence, is_full, with_advice};

/// How a restore stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The cluster cannot be made yet.
    Pending(Reason, String),
    /// Nothing was changed: what would be done is known.
    Planned(String),
    /// It comes up.
    Running(Reason, String),
    /// It is ready.
    Completed(String),
    /// The backup cannot be restored.
    Failed(Reason, String),
    /// All is as it was before.
    Undone(String),
}

/// How it stands, by the cluster's status. `advice` is what to do where the backup cannot be restored.
pub(super) fn of(advice: &str, status: &EngramClusterStatus) -> State {
    if is_true(&status.conditions, ConditionKind::Ready) {
        return State::Completed("every member is ready".into());
    }
    let ready = condition(&status.conditions, ConditionKind::Ready);
    let Some(ready) = ready else {
        let message = "the cluster is being made".to_owned();
        return State::Running(Reason::Restoring, message);
    };
    let refusal = Reason::of(&ready.reason).filter(|reason| is_refusal(*reason));
    match refusal {
        Some(reason) => {
            let message = format!("{}; {advice}", ready.message);
            State::Failed(reason, message)
        }
        None => State::Running(Reason::Restoring, ready.message.clone()),
    }
}

/// Whether a quorum answers: reads and writes are served.
pub(super) fn serves(status: &EngramClusterStatus) -> bool {
    is_true(&status.conditions, ConditionKind::QuorumAvailable)
}

/// Whether the first member does not come up.
pub(super) fn is_stuck(status: &EngramClusterStatus) -> bool {
    let ready = condition(&status.conditions, ConditionKind::Ready);
    ready.is_some_and(|one| one.reason == Reason::RestoreStuck.as_str())
}

/// What to do about a new cluster that does not come up.
pub(super) fn to_be_put_right(cluster: &str) -> String {
    format!(
        "it goes on by itself once that is put right; to give it up, delete EngramCluster {cluster}, and make another \
         EngramRestore"
    )
}

/// Whether it does not pass by itself, whatever is tried.
pub(in crate::reconcile) fn is_refusal(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::VerificationFailed
            | Reason::BackupNotFound
            | Reason::MomentNotFound
            | Reason::BackupAmbiguous
            | Reason::RestoreStuck
            | Reason::DataLost
    )
}

/// What `engramctl restore` says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    from: String,
    revision: Option<i64>,
    backup_of: Option<String>,
}

/// What a pod's restore said, where it has come to its good end.
pub(in crate::reconcile) fn restored(pod: &Pod) -> Option<RestoredFrom> {
    let ended = ended(pod).find(|ended| ended.exit_code == 0)?;
    let said: Said = serde_json::from_str(ended.message.as_deref()?.trim()).ok()?;
    // Of a moment its revision is behind the backup's ID, in which no @ can be.
    let backup_id = said.from.rsplit('/').next()?;
    let backup_id = backup_id.split('@').next()?.to_owned();
    Some(RestoredFrom {
        backup_id,
        path: said.from,
        of: said.backup_of,
        revision: said.revision,
    })
}

/// Why a pod's restore failed, where it did the last time.
pub(in crate::reconcile) fn refusal(pod: &Pod) -> Option<(Reason, String)> {
    let failed = ended(pod).next().filter(|ended| ended.exit_code != 0)?;
    let words = essence(failed.message.as_deref().unwrap_or_default());
    let (reason, words) = match is_full(&words) {
        true => {
            let advice = "its volume is full: raise storage.size of the EngramCluster";
            (Reason::NoSpace, format!("{words} ({advice})"))
        }
        false => {
            let reason = classify(&words);
            (reason, with_advice(reason, &words))
        }
    };
    Some((
        reason,
        format!("{} cannot restore: {words}", pod.name_any()),
    ))
}

/// The runs of a pod's restore that have ended: the present one, then the one before.
fn ended(pod: &Pod) -> impl Iterator<Item = &ContainerStateTerminated> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.init_container_statuses.as_ref());
    let ours = all.into_iter().flatten();
    ours.filter(|one| one.name == RESTORE_CONTAINER)
        .flat_map(|one| [one.state.as_ref(), one.last_state.as_ref()])
        .filter_map(|state| state?.terminated.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: &Value, last: &Value) -> Pod {
        let container = json!({
            "name": "restore", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        });
        serde_json::from_value(json!({
            "metadata": { "name": "demo-1" },
            "status": { "initContainerStatuses": [container] },
        }))
        .unwrap()
    }

    fn ended(code: i32, message: &str) -> Value {
        json!({ "terminated": { "exitCode": code, "message": message } })
    }

    fn cluster(status: &str, reason: &str, message: &str) -> EngramClusterStatus {
        let condition = json!({
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({ "conditions": [condition] })).unwrap()
    }

    #[test]
    fn the_result_is_read_whether_the_work_was_done_now_or_before() {
        let said = r#"{"restored":true,"from":"s3://b/p/demo/n-1","dataDir":"/d","revision":1000000007,"records":3,"clusterID":"a","memberID":"b","backupOf":"c/0"}"#;
        let from = restored(&pod(&ended(0, said), &json!({}))).unwrap();
        assert_eq!(from.of.as_deref(), Some("c/0"));
        assert_eq!(
            (from.backup_id.as_str(), from.revision),
            ("n-1", Some(1_000_000_007))
        );
        let said = r#"{"restored":false,"from":"s3://b/p/demo/n-1","dataDir":"/d","clusterID":"a","memberID":"b"}"#;
        let from = restored(&pod(&ended(0, said), &json!({}))).unwrap();
        assert_eq!((from.backup_id.as_str(), from.revision), ("n-1", None));
        assert_eq!(restored(&pod(&ended(1, said), &json!({}))), None);
        let said = said.replace("n-1", "n-1@41");
        let from = restored(&pod(&ended(0, &said), &json!({}))).unwrap();
        assert_eq!(
            (from.backup_id.as_str(), from.path.as_str()),
            ("n-1", "s3://b/p/demo/n-1@41")
        );
    }

    #[test]
    fn a_refusal_is_known_between_two_attempts_too() {
        let words = "Error: backup n-1: chunk 0/00000000.chunk: a checksum does not fit: this backup cannot be used, take another";
        let waits = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        for pod in [
            pod(&ended(1, words), &json!({})),
            pod(&waits, &ended(1, words)),
            pod(&json!({ "running": {} }), &ended(1, words)),
        ] {
            let (reason, message) = refusal(&pod).unwrap();
            assert_eq!(reason, Reason::VerificationFailed);
            assert!(message.contains("00000000.chunk"), "{message}");
        }
        assert_eq!(refusal(&pod(&ended(0, ""), &ended(1, words))), None);
    }

    #[test]
    fn a_volume_that_is_full_is_said_and_what_to_do() {
        let words = "Error: writing of /var/lib/engram/data: No space left on device (os error 28)";
        let (reason, message) = refusal(&pod(&ended(1, words), &json!({}))).unwrap();
        assert_eq!(reason, Reason::NoSpace);
        assert!(message.contains("storage.size"), "{message}");
    }

    #[test]
    fn a_damaged_backup_fails_a_restore_and_a_store_that_is_away_does_not() {
        assert!(matches!(
            of("again", &cluster("True", "AllMembersReady", "")),
            State::Completed(_)
        ));
        let State::Failed(reason, message) =
            of("again", &cluster("False", "VerificationFailed", "chunk 3"))
        else {
            panic!("it has failed");
        };
        assert_eq!(reason, Reason::VerificationFailed);
        assert!(message.contains("chunk 3") && message.contains("again"));
        assert!(matches!(
            of("again", &cluster("False", "StoreUnreachable", "")),
            State::Running(..)
        ));
    }
}
