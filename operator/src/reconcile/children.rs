//! Services, disruption budget and network policy of a cluster.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, Patch};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{EngramCluster, Reason};
use crate::desired::{self, Names};

use super::calm::{self, News};
use super::mutant::{Mutant, planted};
use super::owner::{Owner, owner, taken};
use super::{Context, Error, Namespaced, apply_params, is_gone, overtaken, this_one};

/// Has them as they should be. `votes` is how many members vote now, and how many pods are ready of members that do
/// not; none where nobody says. The families of addresses that the Services have, where they were looked at.
///
/// # Errors
/// The API server refused, or one of their names is somebody else's; the others are as they should be all the same.
pub(super) async fn ensure(
    context: &Context,
    cluster: &EngramCluster,
    votes: Option<(usize, usize)>,
) -> Result<Option<Vec<String>>, Error> {
    // Whatever becomes of one of them has them looked at again.
    let heard = context.calm.heard(&calm::key_of(cluster));
    let heard = heard.of(News::Children);
    let name = Names::of(cluster).cluster;
    let (peers, clients) = (
        desired::peer_service(cluster),
        desired::client_service(cluster),
    );
    let policy = desired::network_policy(cluster, &context.settings.namespace);
    let (voters, others) = votes.unwrap_or_default();
    let budget = desired::disruption_budget(cluster, voters, others);
    let spec = &cluster.spec;
    let may_stay = spec.pod_disruption_budget.enabled && spec.replicas > 0;
    let form = json!([peers, clients, policy, budget, votes, may_stay, heard]).to_string();
    let uid = cluster.uid().unwrap_or_default();
    if context.is_in_order("children", &uid, &form) {
        return Ok(None);
    }
    let services = [
        put(context, cluster, &peers).await,
        put(context, cluster, &clients).await,
    ];
    let policy = match policy {
        Some(policy) => put(context, cluster, &policy).await.map(drop),
        None => remove::<NetworkPolicy>(context, cluster, &format!("{name}-members")).await,
    };
    let keeps = match votes {
        Some(_) => Ok(false),
        None => keeps_budget(context, cluster, &name).await,
    };
    let budget = match (keeps, budget) {
        (Ok(false), Some(budget)) => put(context, cluster, &budget).await.map(drop),
        (Ok(false), None) => remove::<PodDisruptionBudget>(context, cluster, &name).await,
        (keeps, _) => keeps.map(drop),
    };
    let services: Result<Vec<Service>, Error> = services.into_iter().collect();
    let services = services?;
    policy?;
    budget?;
    context.found_in_order("children", &uid, &form);
    Ok(Some(families(&services)))
}

/// Whether there is a budget that stays as it is as long as nobody says who votes: fewer may be wanted by now than there
/// are, and what held evictions to their quorum would not any more.
async fn keeps_budget(
    context: &Context,
    cluster: &EngramCluster,
    name: &str,
) -> Result<bool, Error> {
    if !cluster.spec.pod_disruption_budget.enabled || cluster.spec.replicas == 0 {
        return Ok(false);
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &namespace);
    let there = api.get_opt(name).await?;
    Ok(there.is_some_and(|there| owner(&there, cluster) == Owner::This))
}

/// The families of addresses that these have, in Kubernetes' words.
fn families(services: &[Service]) -> Vec<String> {
    let specs = services.iter().filter_map(|service| service.spec.as_ref());
    let named = specs.filter_map(|spec| spec.ip_families.as_ref()).flatten();
    let all: BTreeSet<&String> = named.collect();
    all.into_iter().cloned().collect()
}

/// On what has to be as it is built: the digest of how it was built last.
const BUILT_ANNOTATION: &str = "engram.dev/built";

/// An object with a mark of how it is built. What is taken out of it later is no difference to what [`has`] looks
/// for, and is one of the mark; the API server then takes away what the operator applied before.
pub(super) fn marked(built: &impl Serialize) -> Value {
    let mut built = json!(built);
    let digest = desired::digest(&built);
    if !planted(Mutant::BuiltUnmarked) {
        built["metadata"]["annotations"][BUILT_ANNOTATION] = digest.into();
    }
    built
}

/// Whether `whole` has all that `part` says: what others added to it is theirs.
pub(super) fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| {
            let found = whole.get(key).unwrap_or(&Value::Null);
            let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty);
            (is_empty && found.is_null()) || has(found, value)
        }),
        (Value::Array(whole), Value::Array(part)) => {
            let mut pairs = whole.iter().zip(part);
            whole.len() == part.len() && pairs.all(|(whole, part)| has(whole, part))
        }
        (whole, part) => whole == part,
    }
}

/// Has one as it is built, unless its name is somebody else's.
async fn put<K>(context: &Context, cluster: &EngramCluster, object: &K) -> Result<K, Error>
where
    K: Namespaced + Serialize,
{
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let (name, mut built) = (object.name_any(), marked(object));
    let there = api.get_opt(&name).await?;
    if let Some(there) = there {
        if owner(&there, cluster) == Owner::Other {
            return Err(taken::<K>(&name, Reason::AlreadyExists));
        }
        if has(&json!(there), &built) {
            return Ok(there);
        }
        // Nothing that has taken its name since.
        built["metadata"]["uid"] = json!(there.uid());
    }
    let patched = api
        .patch(&name, &apply_params(), &Patch::Apply(&built))
        .await;
    patched.map_err(|error| overtaken(object, error))
}

/// Has none of this cluster's.
async fn remove<K>(context: &Context, cluster: &EngramCluster, name: &str) -> Result<(), Error>
where
    K: Namespaced,
{
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let there = api.get_opt(name).await?;
    let Some(ours) = there.filter(|there| owner(there, cluster) != Owner::Other) else {
        return Ok(());
    };
    match api.delete(name, &this_one(&ours)).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(overtaken(&ours, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_added_is_no_difference_and_what_they_changed_is() {
        let built = json!({ "a": { "b": [{ "c": 1 }] }, "annotations": {} });
        assert!(has(
            &json!({ "a": { "b": [{ "c": 1, "d": 2 }] }, "e": 3 }),
            &built
        ));
        for other in [
            json!({ "a": { "b": [{ "c": 2 }] } }),
            json!({ "a": { "b": [{ "c": 1 }, { "c": 3 }] } }),
            json!({ "a": {} }),
        ] {
            assert!(!has(&other, &built), "{other}");
        }
    }
}
