//! What is: objects straight from the API server (no cache, so nothing is old), and the members'
//! own account, read linearizably. Everything of one pass, or an error.

mod aside;
mod asked;
mod pod_state;

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node as KubeNode, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};

use crate::api::{EngramCluster, EngramMember, EngramMemberStatus, MemberRole};
use crate::build::{self, Names, TEMPLATE_ANNOTATION};
use crate::etcd::{Status as Answer, TlsClient};
use crate::plan::{Entry, Member, Node, Observed, Pod as PodView, Roster, Volume};
use crate::reconcile::{Context, Error};

pub use asked::{Asked, names_corrupt};
pub(crate) use pod_state::{last_exit, last_words, stuck};

/// A view older than this is not acted upon, in seconds.
const FRESH_SECONDS: u64 = 20;

/// Everything that one pass saw.
pub struct Sight {
    /// When it began to look.
    began: Instant,
    /// For the planner.
    pub observed: Observed,
    /// Members' objects, by number; those that a restore has set aside as well.
    pub members: Vec<EngramMember>,
    /// Their pods, by name.
    pub pods: BTreeMap<String, Pod>,
    /// Their volumes' claims, by name.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// What they said.
    pub asked: Asked,
}

impl Sight {
    /// One that was seen just now, for tests.
    #[cfg(test)]
    pub fn of(observed: Observed, pods: BTreeMap<String, Pod>) -> Self {
        Self {
            began: Instant::now(),
            observed,
            members: Vec::new(),
            pods,
            claims: BTreeMap::new(),
            asked: Asked::default(),
        }
    }

    /// The same, seen so long ago.
    #[cfg(test)]
    pub fn aged(self, by: std::time::Duration) -> Self {
        let began = self.began.checked_sub(by).expect("a clock that old");
        Self { began, ..self }
    }

    /// Whether it may still be acted upon.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        is_fresh(self.began)
    }

    /// What the planner is shown at this moment: what was seen may have become old since.
    pub fn as_of_now(&mut self) -> &Observed {
        self.observed.fresh = self.is_fresh();
        &self.observed
    }
}

/// What pods should be made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Hashes of templates: a pod of any of these is as wanted.
    pub templates: Vec<String>,
    /// What the first member's volume is to be filled from, before the cluster is founded.
    pub fill: Option<String>,
}

/// Looks at a cluster.
///
/// # Errors
/// The API server did not answer.
pub async fn observe(
    context: &Context,
    cluster: &EngramCluster,
    tls: Option<&TlsClient>,
    form: &Form,
) -> Result<Sight, Error> {
    let began = Instant::now();
    let names = Names::of(cluster);
    let labels = ListParams::default().labels(&format!(
        "engram.dev/cluster={},app.kubernetes.io/component=member",
        names.cluster
    ));
    // Labels are for finding, and anybody may change them: members are told by their owner, and what is
    // theirs by its name and owner.
    let client = &context.client;
    let all = ListParams::default();
    let (members, pods, claims) = tokio::try_join!(
        list::<EngramMember>(client, &names.namespace, &all),
        list::<Pod>(client, &names.namespace, &labels),
        list::<PersistentVolumeClaim>(client, &names.namespace, &labels),
    )?;
    let ours = |member: &EngramMember| is_owned_by(member, cluster);
    let mut members: Vec<EngramMember> = members.into_iter().filter(ours).collect();
    members.sort_by_key(|member| number(&names, member));
    let mut pods = by_name(pods);
    let mut claims = by_name(claims);
    for member in &members {
        find(client, &names.namespace, &member.name_any(), &mut pods).await?;
        if own_pod(member, &pods).is_none() {
            pods.remove(&member.name_any());
        }
        let claim = build::claim_name(member);
        find(client, &names.namespace, &claim, &mut claims).await?;
    }
    let (aside, in_force) = aside::split(cluster, &names, &members);
    let asked = asked::ask(&names, &in_force, &pods, tls, known_id(cluster)).await;
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let roster = asked
        .listed
        .as_ref()
        .map(|listed| roster(&names, listed, asked.leader));
    let mut views = Vec::new();
    for member in &in_force {
        let pod = own_pod(member, &pods);
        let claim = claims.get(&build::claim_name(member));
        let node = node(context, member, pod, now).await?;
        let facts = Facts {
            cluster,
            form,
            claim,
            node,
            pod,
            shares_node: pod.is_some_and(|pod| shares_node(pod, &pods)),
            asked: &asked,
            now,
        };
        views.push(view(&names, member, &facts, roster.as_ref()));
    }
    let status = cluster.status.clone().unwrap_or_default();
    let hour_ago = now - 3600;
    let recent = status
        .replacements
        .iter()
        .filter(|time| time.0.as_second() > hour_ago);
    let stuck = status.stuck_learners.iter();
    let observed = Observed {
        now,
        fresh: is_fresh(began),
        bootstrapped: status.cluster_id.is_some() || roster.is_some(),
        deleting: cluster.meta().deletion_timestamp.is_some(),
        members: views,
        roster,
        replacements: recent.count(),
        learners_out: stuck.map(|time| time.0.as_second()).collect(),
        lacking: false,
        foreign: asked.foreign.clone(),
        aside: aside::views(cluster, &aside, &in_force, &pods),
        aside_goes: aside::cause(cluster),
    };
    Ok(Sight {
        began,
        observed,
        members,
        pods,
        claims,
        asked,
    })
}

/// The cluster's recorded ID. One that is no number is nobody's: then nobody is believed.
fn known_id(cluster: &EngramCluster) -> Option<u64> {
    let recorded = cluster.status.as_ref()?.cluster_id.as_ref()?;
    Some(u64::from_str_radix(recorded, 16).unwrap_or_default())
}

fn is_fresh(began: Instant) -> bool {
    began.elapsed().as_secs() < FRESH_SECONDS
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
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    if among.contains_key(name) {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    if let Some(one) = api.get_opt(name).await? {
        among.insert(name.to_owned(), one);
    }
    Ok(())
}

async fn list<K>(client: &kube::Client, namespace: &str, by: &ListParams) -> Result<Vec<K>, Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    Ok(api.list(by).await?.items)
}

fn is_owned_by(member: &EngramMember, cluster: &EngramCluster) -> bool {
    let owners = member.owner_references();
    owners
        .iter()
        .any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref())
}

/// A member's own pod; one of the same name that is not is somebody else's.
fn own_pod<'a>(member: &EngramMember, pods: &'a BTreeMap<String, Pod>) -> Option<&'a Pod> {
    let pod = pods.get(&member.name_any())?;
    let owners = pod.owner_references();
    let owned = owners
        .iter()
        .any(|owner| Some(&owner.uid) == member.metadata.uid.as_ref());
    owned.then_some(pod)
}

fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Whether another one of these pods is on the same node.
fn shares_node(pod: &Pod, pods: &BTreeMap<String, Pod>) -> bool {
    let others = pods.values().filter(|one| one.name_any() != pod.name_any());
    node_name(pod).is_some_and(|node| others.into_iter().any(|one| node_name(one) == Some(node)))
}

fn number(names: &Names, member: &EngramMember) -> u32 {
    let name = member.name_any();
    let tail = name.strip_prefix(&format!("{}-", names.cluster));
    tail.and_then(|tail| tail.parse().ok()).unwrap_or_default()
}

fn roster(names: &Names, listed: &[crate::etcd::Listed], leader: Option<u64>) -> Roster {
    let entry = |one: &crate::etcd::Listed| {
        let member = names.member_of(&one.peer_url);
        Entry {
            id: one.id,
            ours: member.is_some(),
            member: member.unwrap_or_else(|| one.peer_url.clone()),
            learner: one.learner,
        }
    };
    Roster {
        entries: listed.iter().map(entry).collect(),
        leader,
    }
}

/// How many entries a voter may be behind and still count as one that has caught up: members are not
/// asked all at the same moment, and at ten thousand writes a second this is one of them.
const VOTER_LAG_MAX: u64 = 10_000;

/// What is known of one member.
struct Facts<'a> {
    cluster: &'a EngramCluster,
    form: &'a Form,
    claim: Option<&'a PersistentVolumeClaim>,
    node: Node,
    pod: Option<&'a Pod>,
    shares_node: bool,
    asked: &'a Asked,
    now: i64,
}

fn view(
    names: &Names,
    member: &EngramMember,
    facts: &Facts<'_>,
    roster: Option<&Roster>,
) -> Member {
    let name = member.name_any();
    let status = member.status.clone().unwrap_or_default();
    let answer = facts.asked.answers.get(&name);
    let volume = match facts.claim {
        None => Volume::None,
        Some(claim) if claim.meta().deletion_timestamp.is_some() => Volume::Terminating,
        // Its volume is gone.
        Some(claim) if phase(claim) == Some("Lost") => Volume::None,
        Some(_) => Volume::Present,
    };
    // Nothing was promised yet from a volume that is still being filled: it may be from elsewhere.
    let refilled = |pod: &Pod| {
        let fill = facts.form.fill.as_ref().filter(|_| !status.initialized);
        let from = pod.annotations().get(build::FILL_ANNOTATION);
        fill.is_some_and(|fill| from.is_some_and(|from| from != fill))
    };
    let pod = facts.pod.map(|pod| {
        let state = pod_state::state(pod, facts.now);
        let template = pod.annotations().get(TEMPLATE_ANNOTATION);
        // A pod that has failed never starts again, and a restore that was done never has to.
        let spent = pod_state::is_over(pod)
            || (status.initialized && pod_state::restores(pod) && !pod_state::is_up(pod));
        PodView {
            state,
            outdated: spent
                || !template.is_some_and(|one| facts.form.templates.contains(one))
                || refilled(pod),
            spent,
        }
    });
    let listed = roster.and_then(|roster| roster.of(&name));
    let applied = facts.asked.applied;
    let id = listed.map(|entry| entry.id);
    let id = id.or_else(|| u64::from_str_radix(status.member_id.as_deref()?, 16).ok());
    let corrupt = id.is_some_and(|id| facts.asked.is_corrupt(id));
    let healthy = !corrupt && answer.is_some_and(|answer| answer.leader != 0);
    let seconds = |time: &Time| time.0.as_second();
    // A pod has its own time: a cluster that has rested for months was away all along.
    let made = facts.pod.and_then(created);
    let away_since = status.away_since.as_ref().map_or(facts.now, seconds);
    let away_since = away_since.max(made.unwrap_or(away_since));
    let learns = listed.is_some_and(|entry| entry.learner);
    let ran = match facts.pod {
        None => status.founding_pods > 0,
        Some(pod) => {
            let first = status.founding_pods <= 1;
            status.founding_pods > 0 && (!first || pod_state::has_run(pod))
        }
    };
    let was_ready = pod.as_ref().is_some_and(|pod| pod.state.is_ready());
    Member {
        number: number(names, member),
        deleting: member.meta().deletion_timestamp.is_some(),
        listed_before: status.member_id.is_some() || listed.is_some(),
        // Whoever Kubernetes found ready has been led clients to, though the operator never reached it.
        initialized: status.initialized || answer.is_some() || was_ready,
        ran,
        votes: match (listed, status.role) {
            (Some(entry), _) => !entry.learner,
            (None, Some(role)) => role != MemberRole::Learner,
            (None, None) => status.initialized,
        },
        runs_since: facts.pod.and_then(pod_state::runs_since),
        pod,
        volume,
        node: facts.node,
        shares_node: facts.shares_node,
        healthy,
        caught_up: answer.is_some_and(|answer| match listed {
            Some(entry) if !entry.learner => {
                applied.saturating_sub(answer.applied) <= VOTER_LAG_MAX
            }
            // The same measure as etcd's own for promotion: nine tenths of what the leader has.
            _ => answer.applied >= applied / 10 * 9,
        }),
        volume_small: facts
            .claim
            .is_some_and(|claim| is_small(facts.cluster, claim)),
        corrupt,
        away_since: (!healthy).then_some(away_since),
        stalled_since: learns.then(|| stalled_since(&status, answer, facts.now)),
        name,
    }
}

/// Since when a learner has applied nothing more.
fn stalled_since(status: &EngramMemberStatus, answer: Option<&Answer>, now: i64) -> i64 {
    let Some(before) = &status.catching_up else {
        return now;
    };
    match answer {
        Some(answer) if answer.applied > before.applied => now,
        _ => before.since.0.as_second(),
    }
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

/// Whether a volume is smaller than wanted. One that is not there yet cannot grow.
fn is_small(cluster: &EngramCluster, claim: &PersistentVolumeClaim) -> bool {
    if phase(claim) != Some("Bound") {
        return false;
    }
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let has = requests.and_then(|requests| build::bytes(&requests.get("storage")?.0));
    let wanted = build::bytes(&cluster.spec.storage.size);
    has.zip(wanted).is_some_and(|(has, wanted)| has < wanted)
}

fn created(pod: &Pod) -> Option<i64> {
    let made = pod.metadata.creation_timestamp.as_ref()?;
    Some(made.0.as_second())
}

/// How the node is that a member runs on, or ran on last.
async fn node(
    context: &Context,
    member: &EngramMember,
    pod: Option<&Pod>,
    now: i64,
) -> Result<Node, Error> {
    let scheduled = pod.and_then(node_name);
    let last = || member.status.as_ref()?.node.as_deref();
    let Some(name) = scheduled.or_else(last) else {
        return Ok(Node::None);
    };
    let api: Api<KubeNode> = Api::all(context.client.clone());
    let known = member.status.as_ref().and_then(|status| {
        // A pod on another node says nothing of when this one was lost.
        let same = status.node.as_deref() == Some(name);
        status.node_lost_since.as_ref().filter(|_| same)
    });
    let found = match api.get_opt(name).await {
        // Without rights over nodes (an install for namespaces alone) none of them is ever lost.
        Err(kube::Error::Api(refused)) if refused.code == 403 => return Ok(Node::None),
        found => found?,
    };
    let Some(node) = found else {
        let since = known.map_or(now, |time| time.0.as_second());
        // One that waits for a node may get another one.
        let waits = pod.filter(|_| scheduled.is_none()).and_then(created);
        return Ok(Node::Lost {
            since: waits.map_or(since, |made| made.max(since)),
        });
    };
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let ready = conditions.into_iter().find(|one| one.type_ == "Ready");
    Ok(match ready {
        Some(ready) if ready.status != "True" => Node::Lost {
            since: ready
                .last_transition_time
                .map_or(now, |time| time.0.as_second()),
        },
        _ => Node::Ready,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::task::{Context as Waker, Poll};

    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::{Request, Response};
    use kube::client::Body;

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

    #[test]
    fn members_on_one_node_are_known() {
        let pod = |name: &str, node: Option<&str>| {
            let pod = json!({
                "metadata": { "name": name },
                "spec": { "containers": [], "nodeName": node },
            });
            (name.to_owned(), serde_json::from_value(pod).unwrap())
        };
        let pods = BTreeMap::from([
            pod("alone", Some("one")),
            pod("first", Some("two")),
            pod("second", Some("two")),
            pod("waits", None),
            pod("waits-too", None),
        ]);
        let shares = pods.values().filter(|pod| shares_node(pod, &pods));
        let shares: Vec<String> = shares.map(|pod| pod.name_any()).collect();
        assert_eq!(shares, ["first", "second"]);
    }
}
