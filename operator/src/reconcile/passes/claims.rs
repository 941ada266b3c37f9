//! A volume's policy that is changed at any moment reaches the claims before anything that they hang on goes.

use serde_json::{Value, json};

use super::{CLUSTER, Lab, MEMBERS};

/// Passes until nothing is left to do.
const PASSES: usize = 6;

fn policy(lab: &Lab, policy: &str) {
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["spec"]["storage"]["reclaimPolicy"] = json!(policy);
    lab.server.put(CLUSTER, cluster);
}

/// The owners of each claim.
fn owners(lab: &Lab) -> Vec<usize> {
    let owners = |path: &String| {
        let claim = lab.server.object(path).unwrap();
        claim["metadata"]["ownerReferences"]
            .as_array()
            .map_or(0, Vec::len)
    };
    let claims = lab.server.paths("/persistentvolumeclaims/");
    claims.iter().map(owners).collect()
}

async fn passes(lab: &Lab) {
    for _ in 0..PASSES {
        if lab.server.object(CLUSTER).is_some() {
            // What fails is tried again.
            drop(lab.pass().await);
        }
    }
}

fn deleting() -> Lab {
    let lab = Lab::new(json!({ "storage": { "reclaimPolicy": "Delete" } }));
    (1..=3).for_each(|number| lab.member(number));
    assert_eq!(
        owners(&lab),
        [1, 1, 1],
        "garbage collection would take them"
    );
    lab
}

#[tokio::test]
pub(super) async fn what_is_to_be_retained_outlives_its_members_and_its_cluster() {
    let lab = deleting();
    policy(&lab, "Retain");
    lab.pass().await.unwrap();
    assert_eq!(owners(&lab), [0, 0, 0]);
    lab.server.deletes(CLUSTER);
    for number in 1..=3 {
        lab.server.deletes(&format!("{MEMBERS}/demo-{number}"));
    }
    passes(&lab).await;
    assert_eq!(lab.server.object(CLUSTER), None);
    assert_eq!(owners(&lab), [0, 0, 0]);
}

#[tokio::test]
async fn a_policy_that_comes_while_the_cluster_goes_is_in_time_as_long_as_members_are_there() {
    let lab = deleting();
    lab.server.deletes(CLUSTER);
    for number in 1..=3 {
        lab.server.deletes(&format!("{MEMBERS}/demo-{number}"));
    }
    policy(&lab, "Retain");
    passes(&lab).await;
    assert_eq!(lab.server.object(CLUSTER), None);
    assert_eq!(owners(&lab), [0, 0, 0]);
    // And the other way round: what is not to be kept any more goes with its member.
    let lab = deleting();
    policy(&lab, "Retain");
    lab.pass().await.unwrap();
    policy(&lab, "Delete");
    lab.pass().await.unwrap();
    assert_eq!(owners(&lab), [1, 1, 1]);
    let owner = &lab.server.paths("/persistentvolumeclaims/")[0];
    let owner: Value = lab.server.object(owner).unwrap();
    assert_eq!(
        owner["metadata"]["ownerReferences"][0]["kind"],
        "EngramMember"
    );
}

#[tokio::test]
async fn in_a_namespace_that_goes_a_cluster_and_its_members_do_not_stay_for_ever() {
    let lab = deleting();
    lab.pass().await.unwrap();
    lab.server.goes("data");
    // The namespace's controller deletes whatever is in it, in any order.
    lab.server.deletes(CLUSTER);
    for number in 1..=3 {
        lab.server.deletes(&format!("{MEMBERS}/demo-{number}"));
    }
    lab.server.remove("/api/v1/namespaces/data/pods/demo-2");
    passes(&lab).await;
    assert_eq!(lab.server.object(CLUSTER), None);
    for part in ["/engrammembers/", "/pods/", "/persistentvolumeclaims/"] {
        assert_eq!(lab.server.paths(part), [] as [String; 0]);
    }
}
