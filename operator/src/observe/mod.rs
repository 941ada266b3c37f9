//! What is: objects straight from the API server (no cache, so nothing is old), and the members'
//! own account, read linearizably. Everything of one pass, or an error. Objects of which nothing was heard
//! since may be looked at again, beside what the members say now: for telling that there is nothing to do.

mod aside;
mod asked;
mod objects;
mod pod_state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt};

use crate::api::{EngramCluster, EngramMember, EngramMemberStatus, MemberRole};
use crate::clock;
use crate::desired::{self, Names, TEMPLATE_ANNOTATION};
use crate::etcd::{Status as Answer, TlsClient};
use crate::plan::{Entry, Member, Node, Observed, Pod as PodView, Roster, Volume};
use crate::reconcile::{Context, Error};

pub use asked::{Asked, names_corrupt};
pub use objects::Objects;
pub(crate) use pod_state::{last_exit, last_words, stuck, unplaced};

/// A view older than this is not acted upon, in seconds.
const FRESH_SECONDS: u64 = 20;

/// Everything that one pass saw.
pub struct Sight {
    /// When it began to look.
    began: Instant,
    /// For the planner.
    pub observed: Observed,
    /// What Kubernetes has.
    pub objects: Arc<Objects>,
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
            objects: Arc::new(Objects::of(pods)),
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
    let objects = Objects::read(context, cluster, clock::now().as_second()).await?;
    Ok(regard(cluster, tls, form, Arc::new(objects), began).await)
}

/// Asks the members alone, beside objects that were read before.
pub async fn ask_again(
    cluster: &EngramCluster,
    tls: Option<&TlsClient>,
    form: &Form,
    objects: Arc<Objects>,
) -> Sight {
    regard(cluster, tls, form, objects, Instant::now()).await
}

async fn regard(
    cluster: &EngramCluster,
    tls: Option<&TlsClient>,
    form: &Form,
    objects: Arc<Objects>,
    began: Instant,
) -> Sight {
    let names = Names::of(cluster);
    let pods = &objects.pods;
    let (aside, in_force) = aside::split(cluster, &names, &objects.members);
    let asked = asked::ask(&names, &in_force, pods, tls, known_id(cluster)).await;
    let now = clock::now().as_second();
    let roster = asked
        .listed
        .as_ref()
        .map(|listed| roster(&names, listed, asked.leader));
    let of_member = |member| {
        let pod = own_pod(member, pods);
        let facts = Facts {
            cluster,
            form,
            claim: objects.claims.get(&desired::claim_name(member)),
            node: objects.node(&member.name_any()),
            pod,
            shares_node: pod.is_some_and(|pod| shares_node(pod, pods)),
            asked: &asked,
            now,
        };
        view(&names, member, &facts, roster.as_ref())
    };
    let views = in_force.iter().map(of_member).collect();
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
        strangers: objects.strangers.iter().map(|one| one.name_any()).collect(),
        aside: aside::views(cluster, &aside, &in_force, &objects),
        aside_goes: aside::cause(cluster),
        held: aside::holds(cluster),
    };
    Sight {
        began,
        observed,
        objects,
        asked,
    }
}

/// The cluster's recorded ID. One that is no number is nobody's: then nobody is believed.
fn known_id(cluster: &EngramCluster) -> Option<u64> {
    let recorded = cluster.status.as_ref()?.cluster_id.as_ref()?;
    Some(u64::from_str_radix(recorded, 16).unwrap_or_default())
}

fn is_fresh(began: Instant) -> bool {
    began.elapsed().as_secs() < FRESH_SECONDS
}

/// Whether an object is owned by this very one, and not by another of its name.
pub(crate) fn is_owned_by(object: &impl ResourceExt, owner: &impl ResourceExt) -> bool {
    let uid = owner.meta().uid.as_ref();
    let mut owners = object.owner_references().iter();
    owners.any(|one| Some(&one.uid) == uid)
}

/// A member's own pod; one of the same name that is not is somebody else's.
fn own_pod<'a>(member: &EngramMember, pods: &'a BTreeMap<String, Pod>) -> Option<&'a Pod> {
    let pod = pods.get(&member.name_any())?;
    is_owned_by(pod, member).then_some(pod)
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
    names.number(&member.name_any()).unwrap_or_default()
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
        let from = pod.annotations().get(desired::FILL_ANNOTATION);
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
    // And it was ready until Kubernetes found it not to be, though no operator was there to see it.
    // By a clock of its own: one that is ahead would have it away from then on only.
    let unready = facts.pod.and_then(pod_state::unready_since);
    let unready = unready.filter(|since| *since <= facts.now);
    let away_since = made.into_iter().chain(unready).fold(away_since, i64::max);
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
    let has = requests.and_then(|requests| desired::bytes(&requests.get("storage")?.0));
    let wanted = desired::bytes(&cluster.spec.storage.size);
    has.zip(wanted).is_some_and(|(has, wanted)| has < wanted)
}

fn created(pod: &Pod) -> Option<i64> {
    let made = pod.metadata.creation_timestamp.as_ref()?;
    Some(made.0.as_second())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
