//! What Kubernetes has of a cluster: straight from the API server, all of one moment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node as KubeNode, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt as _};

use crate::api::{EngramCluster, EngramMember, MEMBER_FINALIZER};
use crate::desired::{self, Names};
use crate::plan::Node;
use crate::reconcile::{Context, Error, Namespaced, has_finalizer, of_cluster};

use super::{created, is_owned_by, node_name, number, own_pod};

/// What Kubernetes has of a cluster.
#[derive(Default)]
pub struct Objects {
    /// Members' objects, by number; those that a restore has set aside as well.
    pub members: Vec<EngramMember>,
    /// Members' objects that name this cluster and are not its own: its owner was taken off, or they are of a
    /// cluster of this name that is gone.
    pub strangers: Vec<EngramMember>,
    /// The members' pods, by name.
    pub pods: BTreeMap<String, Pod>,
    /// Their volumes' claims, by name.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// How the nodes are that they run on, or ran on last, by member.
    nodes: BTreeMap<String, Node>,
}

impl Objects {
    /// Pods alone, for tests.
    #[cfg(test)]
    pub(super) fn of(pods: BTreeMap<String, Pod>) -> Self {
        Self {
            pods,
            ..Self::default()
        }
    }

    /// How a member's node is.
    pub(super) fn node(&self, member: &str) -> Node {
        self.nodes.get(member).copied().unwrap_or_default()
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// The API server did not answer.
    pub(super) async fn read(
        context: &Context,
        cluster: &EngramCluster,
        now: i64,
    ) -> Result<Self, Error> {
        let names = Names::of(cluster);
        let labels = ListParams::default().labels(&desired::member_query(&names.cluster));
        // Labels are for finding, and anybody may change them: members are told by their owner, and what is
        // theirs by its name and owner. Which cluster a member names, nobody can change.
        let client = &context.client;
        let own = of_cluster(&names.cluster);
        let (members, pods, claims) = tokio::try_join!(
            list::<EngramMember>(client, &names.namespace, &own),
            list::<Pod>(client, &names.namespace, &labels),
            list::<PersistentVolumeClaim>(client, &names.namespace, &labels),
        )?;
        let (members, others): (Vec<EngramMember>, Vec<EngramMember>) = members
            .into_iter()
            .partition(|member| is_owned_by(member, cluster));
        let members = members.into_iter().filter(|one| !is_let_go(one)).collect();
        let names_it = |member: &EngramMember| member.spec.cluster_ref.name == names.cluster;
        let mut found = Self {
            members,
            strangers: others.into_iter().filter(names_it).collect(),
            pods: by_name(pods),
            claims: by_name(claims),
            nodes: BTreeMap::new(),
        };
        found.members.sort_by_key(|member| number(&names, member));
        found.find_unlabelled(client, &names.namespace).await?;
        found.read_nodes(context, now).await?;
        Ok(found)
    }

    /// Asks by name for what its labels did not bring, and leaves out pods that are somebody else's: a copy that
    /// a person made of one has its labels.
    async fn find_unlabelled(&mut self, client: &kube::Client, space: &str) -> Result<(), Error> {
        let mut labelled = std::mem::take(&mut self.pods);
        for member in &self.members {
            let name = member.name_any();
            find(client, space, &name, &mut labelled).await?;
            if let Some(pod) = own_pod(member, &labelled) {
                self.pods.insert(name, pod.clone());
            }
            let claim = desired::claim_name(member);
            find(client, space, &claim, &mut self.claims).await?;
        }
        Ok(())
    }

    /// Each node is asked for once, where it may be asked for.
    async fn read_nodes(&mut self, context: &Context, now: i64) -> Result<(), Error> {
        let mut seen: BTreeMap<String, Option<KubeNode>> = BTreeMap::new();
        for member in &self.members {
            let pod = own_pod(member, &self.pods);
            let Some(name) = node_of(member, pod) else {
                continue;
            };
            if !seen.contains_key(name) {
                let api: Api<KubeNode> = Api::all(context.client.clone());
                let found = match api.get_opt(name).await {
                    // Without rights over nodes (an install for namespaces alone) none of them is ever lost.
                    Err(kube::Error::Api(refused)) if refused.code == 403 => continue,
                    found => found?,
                };
                seen.insert(name.to_owned(), found);
            }
            let found = seen.get(name).and_then(Option::as_ref);
            let state = state_of(name, found, member, pod, now);
            self.nodes.insert(member.name_any(), state);
        }
        Ok(())
    }
}

/// Whether everything was put away of a member, and only somebody else's finalizer holds its object yet.
fn is_let_go(member: &EngramMember) -> bool {
    let goes = member.metadata.deletion_timestamp.is_some();
    goes && !has_finalizer(member, MEMBER_FINALIZER)
}

/// The node that a member runs on, or ran on last.
fn node_of<'a>(member: &'a EngramMember, pod: Option<&'a Pod>) -> Option<&'a str> {
    let last = || member.status.as_ref()?.node.as_deref();
    pod.and_then(node_name).or_else(last)
}

/// How the node of that name is, for a member.
fn state_of(
    name: &str,
    found: Option<&KubeNode>,
    member: &EngramMember,
    pod: Option<&Pod>,
    now: i64,
) -> Node {
    let Some(node) = found else {
        let known = member.status.as_ref().and_then(|status| {
            // A pod on another node says nothing of when this one was lost.
            let same = status.node.as_deref() == Some(name);
            status.node_lost_since.as_ref().filter(|_| same)
        });
        let since = known.map_or(now, |time| time.0.as_second());
        // One that waits for a node may get another one.
        let waits = pod.filter(|pod| node_name(pod).is_none()).and_then(created);
        return Node::Lost {
            since: waits.map_or(since, |made| made.max(since)),
        };
    };
    let conditions = node.status.as_ref().and_then(|one| one.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    match conditions.find(|one| one.type_ == "Ready") {
        Some(ready) if ready.status != "True" => Node::Lost {
            since: ready
                .last_transition_time
                .as_ref()
                .map_or(now, |time| time.0.as_second()),
        },
        _ => Node::Ready,
    }
}

fn by_name<K: kube::ResourceExt>(all: Vec<K>) -> BTreeMap<String, K> {
    all.into_iter().map(|one| (one.name_any(), one)).collect()
}

/// Asks for one by its name that its labels did not bring.
async fn find<K>(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    among: &mut BTreeMap<String, K>,
) -> Result<(), Error>
where
    K: Namespaced,
{
    if among.contains_key(name) {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    if let Some(one) = api.get_opt(name).await? {
        among.insert(name.to_owned(), lean(one));
    }
    Ok(())
}

async fn list<K>(client: &kube::Client, namespace: &str, by: &ListParams) -> Result<Vec<K>, Error>
where
    K: Namespaced,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api.list(by).await?.items;
    Ok(found.into_iter().map(lean).collect())
}

/// Without who wrote which field: that is most of an object, and it is kept.
fn lean<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::task::{Context as Waker, Poll};

    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server whose one object has no labels: lists by label are empty.
    struct Unlabelled;

    impl tower_service::Service<Request<Body>> for Unlabelled {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Waker<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let path = request.uri().path();
            let (code, body) = match path.rsplit('/').next() {
                Some("data-demo-1-0a1b2c3d") => (
                    200,
                    json!({ "metadata": { "name": "data-demo-1-0a1b2c3d", "uid": "c" } }),
                ),
                Some("persistentvolumeclaims") => (200, json!({ "metadata": {}, "items": [] })),
                _ => (
                    404,
                    json!({ "status": "Failure", "reason": "NotFound", "code": 404, "message": path }),
                ),
            };
            let answer = Response::builder().status(code);
            let answer = answer.body(Full::new(Bytes::from(body.to_string())));
            ready(Ok(answer.expect("an answer")))
        }
    }

    #[tokio::test]
    async fn a_claim_whose_labels_were_taken_off_is_not_gone() {
        let client = kube::Client::new(Unlabelled, "data");
        let by = ListParams::default().labels("engram.dev/cluster=demo");
        let listed: Vec<PersistentVolumeClaim> = list(&client, "data", &by).await.unwrap();
        let mut claims = by_name(listed);
        for name in ["data-demo-1-0a1b2c3d", "data-demo-2-0a1b2c3d"] {
            find(&client, "data", name, &mut claims).await.unwrap();
        }
        let names: Vec<&String> = claims.keys().collect();
        assert_eq!(names, ["data-demo-1-0a1b2c3d"]);
    }
}
