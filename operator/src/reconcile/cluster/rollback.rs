//! A change with which nobody works is taken back where that is asked for: pods are made from what all
//! members last worked with, until the specification says something else.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::api::{
    EngramCluster, EngramClusterStatus, HandedOn, ROLLBACK_ANNOTATION, Reason, Rollback,
    RolledBack, WorkedWith,
};
use crate::desired;
use crate::plan::{Member, Note, Observed, Plan};

use super::super::now;

/// What of a specification pods are made from.
const FIELDS: [&str; 7] = [
    "image",
    "imagePullPolicy",
    "imagePullSecrets",
    "config",
    "scheduling",
    "resources",
    "podTemplate",
];

/// What pods are made from; with `image` where the specification names none.
fn inputs(cluster: &EngramCluster, image: &str) -> HandedOn {
    let Value::Object(mut spec) = json!(cluster.spec) else {
        return HandedOn::new();
    };
    spec.retain(|field, _| FIELDS.contains(&field.as_str()));
    spec.entry("image").or_insert_with(|| json!(image));
    spec
}

/// The cluster as its pods are to be made while a change is taken back; none where none is. `offered` is the
/// operator's image.
pub(super) fn effective(
    cluster: &EngramCluster,
    offered: &str,
    status: &mut EngramClusterStatus,
) -> Option<EngramCluster> {
    let back = status.rolled_back.as_ref()?;
    let good = status.last_good.as_ref()?;
    if back.from != desired::digest(&json!(inputs(cluster, offered))) {
        // It was corrected, or taken back by a person.
        status.rolled_back = None;
        return None;
    }
    let Value::Object(mut spec) = json!(cluster.spec) else {
        return None;
    };
    spec.retain(|field, _| !FIELDS.contains(&field.as_str()));
    spec.extend(good.inputs.clone());
    let mut cluster = cluster.clone();
    cluster.spec = serde_json::from_value(Value::Object(spec)).ok()?;
    Some(cluster)
}

/// Remembers what members work with, once all do.
pub(super) fn remember(
    cluster: &EngramCluster,
    image: &str,
    seen: &Observed,
    planned: &Plan,
    status: &mut EngramClusterStatus,
) {
    let still = planned.actions.is_empty() && planned.progress.is_none();
    let works = |member: &Member| {
        let pod = member.pod.as_ref();
        member.is_ready() && pod.is_some_and(|pod| !pod.outdated)
    };
    let all = !seen.members.is_empty() && seen.members.iter().all(works);
    if !still || planned.blocked.is_some() || !all || status.rolled_back.is_some() {
        return;
    }
    let inputs = inputs(cluster, image);
    let hash = desired::digest(&json!(inputs));
    if status.last_good.as_ref().map(|good| &good.hash) != Some(&hash) {
        status.last_good = Some(WorkedWith { hash, inputs });
    }
}

/// Takes a change back where it does not start and that is wished, or where a person asks for it. Whether it
/// is taken back from now on.
pub(super) fn begin(
    cluster: &EngramCluster,
    offered: &str,
    planned: &Plan,
    status: &mut EngramClusterStatus,
) -> bool {
    let blocked = planned.blocked.as_ref();
    let failed = blocked.is_some_and(|note| note.reason == Reason::RolloutFailed);
    let automatic = cluster.spec.update.rollback == Rollback::Automatic;
    let generation = cluster.metadata.generation.map(|number| number.to_string());
    let asked = cluster.annotations().get(ROLLBACK_ANNOTATION);
    let asked = asked.is_some() && asked == generation.as_ref();
    let from = desired::digest(&json!(inputs(cluster, offered)));
    let good = status.last_good.as_ref().filter(|good| good.hash != from);
    if status.rolled_back.is_some() || good.is_none() || !((failed && automatic) || asked) {
        return false;
    }
    status.rolled_back = Some(RolledBack {
        from,
        at: Time(now()),
    });
    true
}

/// What a person should know while a change is taken back.
pub(super) fn note(status: &EngramClusterStatus) -> Option<Note> {
    let back = status.rolled_back.as_ref()?;
    Some(Note {
        reason: Reason::RolloutFailed,
        message: format!(
            "the change did not start and was taken back at {}: members run what they ran before; correct the \
             specification, or take the change back in it",
            back.at.0
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Pod, PodState};

    fn cluster(memory: &str, rollback: &str, asked: Option<&str>) -> EngramCluster {
        let annotations: HandedOn = asked
            .map(|value| (ROLLBACK_ANNOTATION.to_owned(), json!(value)))
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": {
                "name": "demo", "namespace": "data", "generation": 4, "annotations": annotations,
            },
            "spec": {
                "replicas": 5,
                "resources": { "limits": { "memory": memory } },
                "update": { "rollback": rollback },
            },
        }))
        .unwrap()
    }

    fn all_work() -> Observed {
        let member = Member {
            healthy: true,
            pod: Some(Pod {
                state: PodState::Running {
                    ready_since: Some(1),
                },
                outdated: false,
                spent: false,
            }),
            ..Member::default()
        };
        Observed {
            members: vec![member],
            ..Observed::default()
        }
    }

    fn stopped() -> Plan {
        Plan {
            blocked: Some(Note {
                reason: Reason::RolloutFailed,
                message: String::new(),
            }),
            ..Plan::default()
        }
    }

    const IMAGE: &str = "engram:1";

    #[test]
    fn a_change_that_does_not_start_is_taken_back_until_it_is_corrected() {
        let mut status = EngramClusterStatus::default();
        let good = cluster("1Gi", "Automatic", None);
        remember(&good, IMAGE, &all_work(), &Plan::default(), &mut status);
        let bad = cluster("1Ki", "Automatic", None);
        // As long as it may yet come up nothing is taken back.
        assert!(!begin(&bad, IMAGE, &Plan::default(), &mut status));
        assert!(begin(&bad, IMAGE, &stopped(), &mut status));
        let runs = effective(&bad, IMAGE, &mut status).expect("it is taken back");
        assert_eq!(
            desired::template_hash(&runs, IMAGE),
            desired::template_hash(&good, IMAGE)
        );
        assert_eq!(runs.spec.replicas, 5);
        assert_eq!(
            note(&status).map(|note| note.reason),
            Some(Reason::RolloutFailed)
        );
        // What runs meanwhile is not taken for good anew, and is not taken back once more.
        remember(&bad, IMAGE, &all_work(), &Plan::default(), &mut status);
        assert!(!begin(&bad, IMAGE, &stopped(), &mut status));
        let corrected = cluster("2Gi", "Automatic", None);
        assert_eq!(effective(&corrected, IMAGE, &mut status), None);
        assert_eq!(note(&status), None);
    }

    #[test]
    fn a_bad_image_of_an_operator_is_taken_back_as_well() {
        let mut status = EngramClusterStatus::default();
        let plain = cluster("1Gi", "Automatic", None);
        remember(&plain, IMAGE, &all_work(), &Plan::default(), &mut status);
        assert!(begin(&plain, "engram:2", &stopped(), &mut status));
        let runs = effective(&plain, "engram:2", &mut status).expect("it is taken back");
        assert_eq!(runs.spec.image.as_deref(), Some(IMAGE));
        assert_eq!(effective(&plain, "engram:3", &mut status), None);
    }

    #[test]
    fn otherwise_a_person_asks_for_it_by_the_generation() {
        let good = cluster("1Gi", "Never", None);
        for (asked, taken) in [(None, false), (Some("3"), false), (Some("4"), true)] {
            let mut status = EngramClusterStatus::default();
            remember(&good, IMAGE, &all_work(), &Plan::default(), &mut status);
            let bad = cluster("1Ki", "Never", asked);
            assert_eq!(
                begin(&bad, IMAGE, &stopped(), &mut status),
                taken,
                "{asked:?}"
            );
        }
    }
}
