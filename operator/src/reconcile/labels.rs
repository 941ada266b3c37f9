//! The labels by which Services, budgets and people find members and their pods: put back where somebody has
//! taken them off. Nothing that is decided goes by them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};

use crate::api::{EngramCluster, EngramMember};
use crate::desired;
use crate::observe::Sight;

use super::{Context, Error, merge};

/// Repairs those that were seen.
///
/// # Errors
/// The API server refused; the others are repaired all the same.
pub(super) async fn repair(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
) -> Result<(), Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let members: Api<EngramMember> = Api::namespaced(context.client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let mut result = Ok(());
    for member in &sight.objects.members {
        let name = member.name_any();
        let wanted = desired::member_labels(&cluster.name_any(), &name);
        if let Some(patch) = missing(member, &wanted) {
            result = result.and(merge(&members, member, &patch).await);
        }
        let Some(pod) = sight.objects.pods.get(&name) else {
            continue;
        };
        if let Some(patch) = missing(pod, &wanted) {
            result = result.and(merge(&pods, pod, &patch).await);
        }
    }
    result
}

/// What is to be merged into an object that has not all of these labels.
fn missing(object: &impl ResourceExt, wanted: &BTreeMap<String, String>) -> Option<Value> {
    let labels = object.labels();
    let all = wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    (!all).then(|| json!({ "metadata": { "uid": object.uid(), "labels": wanted } }))
}
