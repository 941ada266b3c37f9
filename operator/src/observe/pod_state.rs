//! How a pod is, from its status.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition};

use crate::desired::{ALONE_CONTAINER, MEMBER_CONTAINER, RESTORE_CONTAINER, TOOL_CONTAINER};
use crate::plan::{Lack, PodState};

/// Reasons for which a container waits in vain, and whether a new member would as well.
const STUCK: [(&str, bool); 8] = [
    ("CrashLoopBackOff", false),
    ("RunContainerError", false),
    ("CreateContainerError", false),
    ("ErrImagePull", true),
    ("ImagePullBackOff", true),
    ("InvalidImageName", true),
    ("ErrImageNeverPull", true),
    ("CreateContainerConfigError", true),
];

/// What a member says that a new one would say as well: the disk is full (in the words of the system),
/// or its certificates are of no use (by the place they are mounted at).
const NOT_ITS_OWN: [&str; 3] = [
    "No space left on device",
    "Disk quota exceeded",
    crate::desired::TLS_DIRECTORY,
];
/// How much of its last words is looked at.
const WORDS_MAX: usize = 4096;

/// What marks the line in which engram and engramctl say why they end. The lines before it name the same
/// files and disks for other reasons.
const FINAL: [&str; 2] = ["\"level\":\"fatal\"", "Error: "];

fn lacks_what_a_new_one_would(words: &str) -> bool {
    let mut last = words
        .lines()
        .filter(|line| FINAL.iter().any(|mark| line.contains(mark)));
    last.any(|line| NOT_ITS_OWN.iter().any(|known| line.contains(known)))
}

/// Containers that the operator makes, those of its tools among them.
const OPERATORS: [&str; 4] = [
    MEMBER_CONTAINER,
    RESTORE_CONTAINER,
    ALONE_CONTAINER,
    TOOL_CONTAINER,
];

/// Its containers, the one that prepares the volume included. What a person has put beside them says nothing
/// of the member.
fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    let all = init.into_iter().chain(main).flatten();
    all.filter(|one| OPERATORS.contains(&one.name.as_str()))
}

/// Whether the member's own container runs.
pub(crate) fn is_up(pod: &Pod) -> bool {
    let main = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let running = |one: &ContainerStatus| {
        let state = one.state.as_ref();
        one.name == MEMBER_CONTAINER && state.is_some_and(|state| state.running.is_some())
    };
    pod.metadata.deletion_timestamp.is_none() && main.is_some_and(|all| all.iter().any(running))
}

/// Since when the member's own container runs, if it does.
pub(crate) fn runs_since(pod: &Pod) -> Option<i64> {
    if !is_up(pod) {
        return None;
    }
    let own = containers(pod).find(|one| one.name == MEMBER_CONTAINER)?;
    let running = own.state.as_ref()?.running.as_ref()?;
    Some(running.started_at.as_ref()?.0.as_second())
}

/// Since when Kubernetes finds it not ready, if it does.
pub(crate) fn unready_since(pod: &Pod) -> Option<i64> {
    condition(pod, "Ready", "False")
}

/// Whether the member's own container has ever run in it.
pub(crate) fn has_run(pod: &Pod) -> bool {
    let began = |one: &ContainerStatus| {
        let states = [one.state.as_ref(), one.last_state.as_ref()];
        let mut states = states.into_iter().flatten();
        let begun = states.any(|state| state.running.is_some() || state.terminated.is_some());
        one.restart_count > 0 || begun
    };
    containers(pod).any(|one| one.name == MEMBER_CONTAINER && began(one))
}

/// Whether it has ended for good, as evicted pods have.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether it begins with a restore.
pub(crate) fn restores(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let mut prepare = spec.iter().flat_map(|spec| &spec.init_containers).flatten();
    prepare.any(|one| one.name == RESTORE_CONTAINER)
}

/// How a container ended, where it failed: now, or before it was started again.
fn last_failure(one: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let states = [one.state.as_ref(), one.last_state.as_ref()];
    let mut ended = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref());
    ended.next().filter(|ended| ended.exit_code != 0)
}

/// How it ended the last time, as `exit 134 (Error)`.
pub(crate) fn last_exit(pod: &Pod) -> Option<String> {
    containers(pod).find_map(|one| {
        let ended = last_failure(one)?;
        let reason = ended.reason.as_deref().unwrap_or("unknown");
        Some(format!("{}: exit {} ({reason})", one.name, ended.exit_code))
    })
}

/// What a failed container said last, at most so many characters.
pub(crate) fn last_words(pod: &Pod, most: usize) -> Option<String> {
    containers(pod).find_map(|one| {
        let ended = last_failure(one)?;
        let words = ended.message.as_deref()?.trim();
        let skip = words.chars().count().saturating_sub(most);
        Some(words.chars().skip(skip).collect())
    })
}

/// Why a container waits, where it waits in vain.
pub(crate) fn stuck(pod: &Pod) -> Option<(String, String)> {
    containers(pod).find_map(|one| {
        let waiting = one.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        STUCK.iter().find(|(known, _)| *known == reason)?;
        Some((reason, waiting.message.clone().unwrap_or_default()))
    })
}

/// Why no node takes it, in the scheduler's words.
pub(crate) fn unplaced(pod: &Pod) -> Option<String> {
    let one = scheduled(pod).filter(|one| one.status == "False")?;
    let reason = one.reason.as_deref().unwrap_or("not scheduled");
    let words = one.message.as_deref()?;
    Some(format!("{reason}: {words}"))
}

/// How it is.
pub(crate) fn state(pod: &Pod, now: i64) -> PodState {
    // Its time to end is in it.
    if let Some(ending) = &pod.metadata.deletion_timestamp {
        return PodState::Terminating {
            since: ending.0.as_second(),
        };
    }
    let created = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0.as_second());
    // A node's clock may be any: nothing of a pod is older than it.
    let since = |kind, status| condition(pod, kind, status).map(|since| since.max(created));
    let unready = since("ContainersReady", "False").unwrap_or(created);
    if is_over(pod) {
        return PodState::Broken {
            since: unready,
            starved: true,
        };
    }
    if is_up(pod) {
        return PodState::Running {
            ready_since: since("Ready", "True"),
        };
    }
    let oom = containers(pod).any(|one| {
        let states = [one.state.as_ref(), one.last_state.as_ref()];
        let ended = states
            .into_iter()
            .flatten()
            .filter_map(|state| state.terminated.as_ref());
        ended
            .into_iter()
            .any(|ended| ended.reason.as_deref() == Some("OOMKilled"))
    });
    let lacks = oom || lacks_what_a_new_one_would(&last_words(pod, WORDS_MAX).unwrap_or_default());
    if let Some((reason, _)) = stuck(pod) {
        let starved = STUCK
            .iter()
            .any(|(known, starved)| *known == reason && *starved);
        return PodState::Broken {
            since: unready,
            starved: starved || lacks,
        };
    }
    let restarts = containers(pod).any(|one| one.restart_count > 0);
    if restarts {
        return PodState::Broken {
            since: unready,
            starved: lacks,
        };
    }
    if let Some(since) = since("PodScheduled", "False") {
        let lack = lack(pod);
        return PodState::Unplaced { since, lack };
    }
    // A restore may take its time.
    let prepares = containers(pod).any(|one| {
        let state = one.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    });
    let placed = since("PodScheduled", "True").unwrap_or(created);
    PodState::Starting {
        since: if prepares { now } else { placed },
    }
}

/// What the scheduler says of a volume that is where the pod cannot run, or is gone.
const OF_VOLUMES: [&str; 4] = [
    "volume node affinity conflict",
    "PersistentVolume's node affinity",
    "non-existent pv",
    "non-existent persistentvolume",
];
/// And of pods that it has to keep away from.
const OF_DISTANCE: [&str; 2] = ["anti-affinity", "topology spread"];

/// What the scheduler says of it.
fn scheduled(pod: &Pod) -> Option<&PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|one| one.type_ == "PodScheduled")
}

/// Why no node takes it.
fn lack(pod: &Pod) -> Lack {
    let words = scheduled(pod).and_then(|one| one.message.as_deref());
    let words = words.unwrap_or_default();
    let names = |all: &[&str]| all.iter().any(|known| words.contains(known));
    match (names(&OF_VOLUMES), names(&OF_DISTANCE)) {
        (true, _) => Lack::Volume,
        (false, true) => Lack::Distance,
        (false, false) => Lack::Other,
    }
}

/// Since when a condition has that status.
fn condition(pod: &Pod, kind: &str, status: &str) -> Option<i64> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|one| one.type_ == kind && one.status == status)?;
    found
        .last_transition_time
        .as_ref()
        .map(|time| time.0.as_second())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        let pod = json!({
            "metadata": { "name": "demo-1", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn container(state: serde_json::Value, last: serde_json::Value) -> serde_json::Value {
        json!({ "containerStatuses": [{
            "name": "engram", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
            "state": state, "lastState": last,
        }] })
    }

    #[test]
    fn a_node_whose_clock_is_behind_makes_no_pod_older_than_it_is() {
        let created = 1_767_225_600;
        let long_ago = |kind: &str, status: &str| json!([{ "type": kind, "status": status, "lastTransitionTime": "2025-12-31T23:50:00Z" }]);
        let mut crash = container(
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            json!({}),
        );
        crash["conditions"] = long_ago("ContainersReady", "False");
        let broken = state(&pod(crash), created + 9);
        assert!(
            matches!(broken, PodState::Broken { since, .. } if since == created),
            "{broken:?}"
        );
        let mut up = container(json!({ "running": {} }), json!({}));
        up["conditions"] = long_ago("Ready", "True");
        let ready_since = Some(created);
        assert_eq!(
            state(&pod(up), created + 9),
            PodState::Running { ready_since }
        );
    }

    #[test]
    fn states_are_told_apart() {
        let created = 1_767_225_600;
        assert_eq!(
            state(&pod(json!({ "phase": "Pending" })), 0),
            PodState::Starting { since: created }
        );
        let waits = json!({ "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:08Z",
        }], "containerStatuses": [{
            "name": "engram", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ContainerCreating" } },
        }] });
        assert_eq!(
            state(&pod(waits), 9),
            PodState::Starting { since: created + 8 }
        );
        let restores = json!({ "phase": "Pending", "initContainerStatuses": [{
            "name": "restore", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "running": {} },
        }] });
        assert_eq!(state(&pod(restores), 9), PodState::Starting { since: 9 });
        for (words, lack) in [
            (
                "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) had volume node affinity conflict.",
                Lack::Volume,
            ),
            (
                "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity.",
                Lack::Volume,
            ),
            (
                "0/3 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
                Lack::Volume,
            ),
            (
                "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
                Lack::Distance,
            ),
            (
                "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints.",
                Lack::Distance,
            ),
            (
                "0/3 nodes are available: 3 Insufficient memory.",
                Lack::Other,
            ),
            (
                "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
                Lack::Other,
            ),
        ] {
            let unplaced = json!({ "phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words,
                "lastTransitionTime": "2026-01-01T00:00:07Z",
            }] });
            assert_eq!(
                state(&pod(unplaced), 9),
                PodState::Unplaced {
                    since: created + 7,
                    lack
                }
            );
        }
        let crash = container(
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            json!({}),
        );
        assert!(matches!(
            state(&pod(crash), 0),
            PodState::Broken { starved: false, .. }
        ));
        let image = container(
            json!({ "waiting": { "reason": "ErrImagePull" } }),
            json!({}),
        );
        assert!(matches!(
            state(&pod(image), 0),
            PodState::Broken { starved: true, .. }
        ));
        let ended = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let oom = container(
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            ended,
        );
        assert!(matches!(
            state(&pod(oom.clone()), 0),
            PodState::Broken { starved: true, .. }
        ));
        assert_eq!(
            last_exit(&pod(oom)).as_deref(),
            Some("engram: exit 137 (OOMKilled)")
        );
        for (words, lacks) in [
            (
                r#"{"level":"fatal","error":"wal: No space left on device (os error 28)"}"#,
                true,
            ),
            (
                r#"{"level":"fatal","error":"open /etc/engram/tls/client/tls.crt: No such file"}"#,
                true,
            ),
            (
                "Error: chunk 3: No space left on device (os error 28)",
                true,
            ),
            (
                "{\"level\":\"info\",\"tls-info\":\"cert = /etc/engram/tls/client/tls.crt\"}\n\
                 {\"level\":\"fatal\",\"error\":\"the log is damaged at 17\"}",
                false,
            ),
        ] {
            let ended = json!({ "terminated": { "exitCode": 134, "message": words } });
            let waits = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
            let said = state(&pod(container(waits, ended)), 0);
            let broken = matches!(said, PodState::Broken { starved, .. } if starved == lacks);
            assert!(broken, "{words}: {said:?}");
        }
        let up = container(json!({ "running": {} }), json!({}));
        assert_eq!(state(&pod(up), 0), PodState::Running { ready_since: None });
        let mut beside = container(
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            json!({}),
        );
        let sidecar = json!({
            "name": "logs", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} },
        });
        let all = beside["containerStatuses"].as_array_mut().unwrap();
        all.insert(0, sidecar);
        assert!(matches!(state(&pod(beside), 0), PodState::Broken { .. }));
        assert!(is_over(&pod(json!({ "phase": "Failed" }))));
    }
}
