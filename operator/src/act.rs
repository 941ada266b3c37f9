//! Does one step of a plan. Each may be done again: what is done already is no error.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::api::{
    EngramBackupStore, EngramCluster, EngramMember, EngramMemberSpec, EngramMemberStatus, LocalRef,
    MEMBER_FINALIZER, MemberOrigin, MemberRole, Reason,
};
use crate::desired::{self, KEEP_ANNOTATION, MemberPod, Names};
use crate::etcd::MemberClient;
use crate::observe::{Sight, is_owned_by, names_corrupt};
use crate::plan::{Action, Cause};
use crate::reconcile::{
    Context, Error, FIELD_MANAGER, as_seen, follow_policy, gone, has_finalizer, is_gone,
    missing_secrets, overtaken, this_one,
};

/// A pod that is being deleted for longer than this, and whose member the cluster does not list any
/// more, is not waited for: its node is gone. In seconds, beyond the pod's own time to end.
const FORCE_AFTER_SECONDS: i64 = 30;

/// What a step needs to know.
pub struct Scene<'a> {
    /// The controllers' things.
    pub context: &'a Context,
    /// The cluster.
    pub cluster: &'a EngramCluster,
    /// What was seen.
    pub sight: &'a Sight,
    /// What its members should run.
    pub image: &'a str,
    /// The number of the next member.
    pub next_number: u32,
}

impl Scene<'_> {
    fn names(&self) -> Names {
        Names::of(self.cluster)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &self.names().namespace)
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), &self.names().namespace)
    }

    fn members(&self) -> Api<EngramMember> {
        Api::namespaced(self.context.client.clone(), &self.names().namespace)
    }

    fn member(&self, name: &str) -> Result<&EngramMember, Error> {
        let found = self
            .sight
            .objects
            .members
            .iter()
            .find(|member| member.name_any() == name);
        found.ok_or_else(|| Error::input(Reason::NotFound, format!("there is no member {name}")))
    }

    /// Who changes the members' list: any member that has a quorum behind it.
    fn speaker(&self) -> Result<&MemberClient, Error> {
        let speaker = self.sight.asked.speaker();
        speaker.ok_or_else(|| Error::input(Reason::QuorumLost, "no quorum answers"))
    }

    fn leader(&self) -> Result<&MemberClient, Error> {
        let leading = self.sight.asked.leading().map(|(_, client)| client);
        leading.ok_or_else(|| Error::input(Reason::QuorumLost, "nobody leads"))
    }
}

/// Does one step.
///
/// # Errors
/// The API server or the cluster refused; the next pass looks again.
pub async fn act(scene: &Scene<'_>, action: &Action) -> Result<(), Error> {
    match action {
        Action::CreateMember { seed } => create_member(scene, *seed).await,
        Action::AddLearner { member } => {
            let url = scene.member(member)?.spec.peer_url.clone();
            Ok(scene.speaker()?.add_learner(&url).await?)
        }
        Action::StartPod { member } => start_pod(scene, member).await,
        Action::StopPod { member } => delete_pod(scene, member, None).await,
        Action::RestartPod { member } => restart_pod(scene, member).await,
        Action::Promote { id, member } => promote(scene, member, *id).await,
        Action::MoveLeader { id, .. } => Ok(scene.leader()?.move_leader(*id).await?),
        Action::RemoveMember { id, .. } => Ok(scene.speaker()?.remove(*id).await?),
        Action::DeleteMember { member, cause } => delete_member(scene, member, *cause).await,
        Action::FinishRemoval { member } => finish_removal(scene, member).await,
        Action::ExpandVolume { member } => expand_volume(scene, member).await,
    }
}

async fn create_member(scene: &Scene<'_>, seed: bool) -> Result<(), Error> {
    let names = scene.names();
    let name = names.member(scene.next_number);
    let spec = EngramMemberSpec {
        cluster_ref: LocalRef {
            name: names.cluster.clone(),
        },
        origin: if seed {
            MemberOrigin::Seed
        } else {
            MemberOrigin::Join
        },
        peer_url: names.peer_url(&name),
        volume_claim: None,
    };
    let member = desired::member(scene.cluster, &name, spec);
    scene
        .members()
        .create(&PostParams::default(), &member)
        .await?;
    Ok(())
}

async fn start_pod(scene: &Scene<'_>, name: &str) -> Result<(), Error> {
    let member = scene.member(name)?;
    let seen = scene.sight.observed.member(name);
    let initialized = seen.is_some_and(|seen| seen.initialized);
    let claim = scene.claims().get_opt(&desired::claim_name(member)).await?;
    let begins = claim.is_none();
    if begins {
        if initialized {
            return Err(Error::input(
                Reason::DataLost,
                format!("the volume of {name} is gone"),
            ));
        }
        let claim = desired::volume_claim(scene.cluster, member);
        created(scene.claims().create(&PostParams::default(), &claim).await)?;
    }
    let founds = !scene.sight.observed.bootstrapped && member.spec.origin == MemberOrigin::Seed;
    if founds {
        // Counted before it is made: whoever looks later knows whether this pod is the first on its volume.
        let count = |before: &EngramMemberStatus| match begins {
            true => 1,
            false => before.founding_pods.saturating_add(1),
        };
        write(
            scene,
            member,
            |before| json!({ "foundingPods": count(before) }),
        )
        .await?;
    }
    let shape = MemberPod {
        name: name.to_owned(),
        initial_cluster: initial_cluster(scene, member, founds),
        founds,
        leaving: leaving(scene, name),
        alone: alone(scene, name),
    };
    let restore = restore_of(scene, founds && !initialized).await?;
    let restore = scene.cluster.recovery().zip(restore.as_ref());
    let pod = desired::member_pod(scene.cluster, member, &shape, scene.image, restore);
    let pod = pod.map_err(|unfit| invalid(&unfit))?;
    created(scene.pods().create(&PostParams::default(), &pod).await)?;
    is_its_own(scene, member).await
}

fn invalid(unfit: &desired::Unfit) -> Error {
    Error::input(Reason::InvalidSpec, unfit.to_string())
}

/// Writes a part of a member's status that has to be there before what follows is done, by what its status says now.
/// Nothing is done to one that goes, or is gone.
async fn write(
    scene: &Scene<'_>,
    member: &EngramMember,
    part: impl FnOnce(&EngramMemberStatus) -> Value,
) -> Result<(), Error> {
    let (members, name) = (scene.members(), member.name_any());
    let now = members.get_opt(&name).await?;
    let stays =
        |now: &EngramMember| now.uid() == member.uid() && now.metadata.deletion_timestamp.is_none();
    let Some(now) = now.filter(stays) else {
        let message = format!("EngramMember {name} was deleted meanwhile: it is looked at again");
        return Err(Error::NotNow(message));
    };
    let status = part(&now.status.clone().unwrap_or_default());
    let metadata = json!({ "uid": now.uid(), "resourceVersion": now.resource_version() });
    let patch = Patch::Merge(json!({ "metadata": metadata, "status": status }));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    match members.patch_status(&name, &params, &patch).await {
        Ok(_) => Ok(()),
        Err(error) => Err(overtaken(&now, error)),
    }
}

/// Lets a learner vote that still answers and is still sound: with others away the list with it may need it
/// at once. That it votes is written before, so that without a quorum nobody takes it for a learner.
async fn promote(scene: &Scene<'_>, name: &str, id: u64) -> Result<(), Error> {
    let not_now = |why| Err(Error::NotNow(format!("{name} does not vote yet: {why}")));
    let client = scene.sight.asked.clients.get(name);
    let answer = match client {
        Some(client) => client.status().await.ok(),
        None => None,
    };
    if answer.is_none_or(|answer| answer.leader == 0) {
        return not_now("it does not answer any more");
    }
    let speaker = scene.speaker()?;
    if names_corrupt(&speaker.alarms().await?, id) {
        return not_now("its data differs from the others'");
    }
    let member = scene.member(name)?;
    write(scene, member, |_| json!({ "role": MemberRole::Follower })).await?;
    Ok(speaker.promote(id).await?)
}

/// Refuses a pod of the member's name that is another one's, unless that is about to go.
async fn is_its_own(scene: &Scene<'_>, member: &EngramMember) -> Result<(), Error> {
    let name = member.name_any();
    let Some(pod) = scene.pods().get_opt(&name).await? else {
        return Ok(());
    };
    if pod.meta().deletion_timestamp.is_some() || is_owned_by(&pod, member) {
        return Ok(());
    }
    let message = format!("Pod {name} exists and is not this cluster's: delete or rename it");
    Err(Error::input(Reason::AlreadyExists, message))
}

/// For which restore it goes on alone, if it does.
fn alone(scene: &Scene<'_>, name: &str) -> Option<String> {
    let restoring = scene.cluster.restoring()?;
    let survives = restoring.survivor.as_deref() == Some(name);
    survives.then(|| restoring.restore_uid.clone())
}

/// The other members that are being taken out.
fn leaving(scene: &Scene<'_>, but: &str) -> Vec<String> {
    let members = scene.sight.observed.members.iter();
    let leaving = members.filter(|member| member.deleting && member.name != but);
    leaving.map(|member| member.name.clone()).collect()
}

/// `--initial-cluster`: the members that the cluster lists; for the first one, itself.
fn initial_cluster(scene: &Scene<'_>, member: &EngramMember, founds: bool) -> String {
    let own = format!("{}={}", member.name_any(), member.spec.peer_url);
    let Some(listed) = scene.sight.asked.listed.as_ref().filter(|_| !founds) else {
        return own;
    };
    let names = scene.names();
    let entry = |one: &crate::etcd::Listed| {
        let name = names
            .member_of(&one.peer_url)
            .unwrap_or_else(|| format!("{:x}", one.id));
        format!("{name}={}", one.peer_url)
    };
    listed.iter().map(entry).collect::<Vec<_>>().join(",")
}

async fn restore_of(
    scene: &Scene<'_>,
    wanted: bool,
) -> Result<Option<desired::StoreAccess>, Error> {
    let Some(recovery) = scene.cluster.recovery().filter(|_| wanted) else {
        return Ok(None);
    };
    let name = &recovery.store_ref.name;
    let stores: Api<EngramBackupStore> =
        Api::namespaced(scene.context.client.clone(), &scene.names().namespace);
    let store = stores.get_opt(name).await?;
    let missing = || {
        Error::input(
            Reason::NotFound,
            format!("there is no EngramBackupStore {name}"),
        )
    };
    let access = desired::access(&store.ok_or_else(missing)?);
    // A pod that waits for a volume tells nobody what for.
    match missing_secrets(scene.context, &scene.names().namespace, &access).await? {
        Some(message) => Err(Error::input(Reason::NotFound, message)),
        None => Ok(Some(access)),
    }
}

fn created<K>(result: Result<K, kube::Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        // Made by a pass that did not live to see it.
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One that serves nobody is deleted. One that works is evicted, so that a drain at the same moment counts
/// it, and only once enough of the others have said again that they are there.
async fn restart_pod(scene: &Scene<'_>, name: &str) -> Result<(), Error> {
    // Nothing would come after it.
    desired::fits(scene.cluster).map_err(|unfit| invalid(&unfit))?;
    let works = scene.sight.observed.member(name);
    let Some(pod) = scene.sight.objects.pods.get(name) else {
        return Ok(());
    };
    if !works.is_some_and(|member| member.healthy) {
        if works.is_some_and(|member| !member.corrupt) && knows_leader(scene, name).await {
            return Err(Error::NotNow(format!(
                "{name} has come to know a leader since it was seen"
            )));
        }
        // As it was seen: one that has become ready since is counted on by now.
        return match scene.pods().delete(name, &as_seen(pod)).await {
            Err(kube::Error::Api(refused)) if refused.code == 409 => Err(Error::NotNow(format!(
                "the pod of {name} has changed since it was seen"
            ))),
            deleted => gone(deleted),
        };
    }
    if let Some(why) = cannot_be_missed(scene, name).await {
        return Err(Error::NotNow(why));
    }
    let params = EvictParams {
        delete_options: Some(this_one(pod)),
        ..EvictParams::default()
    };
    match scene.pods().evict(name, &params).await {
        Err(kube::Error::Api(refused)) if refused.code == 429 => {
            let said = &refused.message;
            Err(Error::NotNow(format!(
                "{name} is not restarted yet: {said}"
            )))
        }
        evicted => gone(evicted),
    }
}

/// Asks one that answered before, and knew no leader, once more: a quorum may have come together since.
async fn knows_leader(scene: &Scene<'_>, name: &str) -> bool {
    let Some(client) = scene.sight.asked.clients.get(name) else {
        return false;
    };
    client.status().await.is_ok_and(|answer| answer.leader != 0)
}

/// Asks the other voters once more: what was seen may be some seconds old, and somebody else may have taken
/// one down since.
async fn cannot_be_missed(scene: &Scene<'_>, name: &str) -> Option<String> {
    let roster = scene.sight.observed.roster.as_ref()?;
    let voters: Vec<&str> = roster.voters().map(|entry| entry.member.as_str()).collect();
    if voters == [name] {
        return None;
    }
    let others = voters.iter().filter(|voter| **voter != name);
    let clients = others.filter_map(|voter| scene.sight.asked.clients.get(*voter));
    let answers = join_all(clients.map(MemberClient::status)).await;
    let there = answers.iter().flatten().filter(|answer| answer.leader != 0);
    let (there, needed) = (there.count(), voters.len() / 2 + 1);
    (there < needed).then(|| {
        format!("{name} is not restarted yet: {there} of the others answer, and {needed} have to")
    })
}

/// Deletes the pod that was seen, never one that has taken its name since.
async fn delete_pod(scene: &Scene<'_>, name: &str, grace: Option<u32>) -> Result<(), Error> {
    let Some(pod) = scene.sight.objects.pods.get(name) else {
        return Ok(());
    };
    let params = DeleteParams {
        grace_period_seconds: grace,
        ..this_one(pod)
    };
    gone(scene.pods().delete(name, &params).await)
}

async fn delete_member(scene: &Scene<'_>, name: &str, cause: Cause) -> Result<(), Error> {
    let member = scene.member(name)?;
    if matches!(cause, Cause::Corrupt | Cause::LetGo) {
        // Somebody will want to know what went wrong in it, or has not decided yet.
        let patch = json!({ "metadata": {
            "uid": member.uid(),
            "annotations": { KEEP_ANNOTATION: cause.as_str() },
        } });
        let patch = Patch::Merge(&patch);
        let members = scene.members();
        gone(members.patch(name, &PatchParams::default(), &patch).await)?;
    }
    gone(scene.members().delete(name, &this_one(member)).await)
}

/// Pod first, then the claim, then the object: each pass as far as it goes.
async fn finish_removal(scene: &Scene<'_>, name: &str) -> Result<(), Error> {
    let member = scene.member(name)?;
    if let Some(pod) = scene.sight.objects.pods.get(name) {
        let ending = pod.meta().deletion_timestamp.as_ref();
        let overdue = ending.is_some_and(|time| {
            scene.sight.observed.now - time.0.as_second() > FORCE_AFTER_SECONDS
        });
        return match (ending, overdue) {
            (None, _) => delete_pod(scene, name, None).await,
            (Some(_), true) => delete_pod(scene, name, Some(0)).await,
            (Some(_), false) => Ok(()),
        };
    }
    // As it is now: its status was written since it was seen, and somebody may want its volume kept.
    let now = scene.members().get_opt(name).await?;
    let Some(member) = now.filter(|now| now.uid() == member.uid()) else {
        return Ok(());
    };
    if !has_finalizer(&member, MEMBER_FINALIZER) {
        // Somebody else's finalizer holds it.
        return Ok(());
    }
    put_claim_away(scene, &member).await?;
    let rest = member
        .finalizers()
        .iter()
        .filter(|one| *one != MEMBER_FINALIZER);
    let patch = json!({ "metadata": {
        "finalizers": rest.collect::<Vec<_>>(),
        "resourceVersion": member.resource_version(),
    } });
    let (members, patch) = (scene.members(), Patch::Merge(&patch));
    match members.patch(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(overtaken(&member, error)),
    }
}

/// By the policy of this moment, not of when the pass began: with the member's object garbage collection
/// takes whatever it owns.
async fn put_claim_away(scene: &Scene<'_>, member: &EngramMember) -> Result<(), Error> {
    let claims = scene.claims();
    let Some(claim) = claims.get_opt(&desired::claim_name(member)).await? else {
        return Ok(());
    };
    let names = scene.names();
    let clusters: Api<EngramCluster> =
        Api::namespaced(scene.context.client.clone(), &names.namespace);
    let now = clusters.get_opt(&names.cluster).await?;
    let same = |cluster: &EngramCluster| cluster.metadata.uid == scene.cluster.metadata.uid;
    let now = now.filter(same);
    let cluster = now.as_ref().unwrap_or(scene.cluster);
    match desired::keeps_volume(cluster, member) {
        true => follow_policy(&scene.context.client, cluster, member, &claim).await,
        false => {
            let deleted = claims.delete(&claim.name_any(), &as_seen(&claim)).await;
            match deleted {
                Ok(_) => Ok(()),
                Err(error) if is_gone(&error) => Ok(()),
                Err(error) => Err(overtaken(&claim, error)),
            }
        }
    }
}

const CANNOT_GROW: &str = ": set allowVolumeExpansion in it, where it can do that, or restore a backup \
    into a new cluster";

async fn expand_volume(scene: &Scene<'_>, name: &str) -> Result<(), Error> {
    let claim = desired::claim_name(scene.member(name)?);
    let size = &scene.cluster.spec.storage.size;
    let mut patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
    if let Some(seen) = scene.sight.objects.claims.get(&claim) {
        patch["metadata"] = json!({ "uid": seen.uid() });
    }
    let patch = Patch::Merge(&patch);
    let claims = scene.claims();
    match claims.patch(&claim, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        // A storage class whose volumes do not grow, or a quota.
        Err(kube::Error::Api(refused)) if matches!(refused.code, 403 | 422) => {
            let advice = match refused.message.contains("storageclass") {
                true => CANNOT_GROW,
                false => "",
            };
            let said = &refused.message;
            let message = format!(
                "the volume of {name} cannot grow to {size}: {said}{advice}; it is asked again every minute"
            );
            Err(Error::input(Reason::InvalidSpec, message))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use hyper::Method;

    use super::*;
    use crate::plan::{Entry, Member, Observed, Roster};
    use crate::played::Played;

    const POD: &str = "/api/v1/namespaces/data/pods/demo-1";

    /// What becomes of a restart of `demo-1`, which works or not, among so many voters.
    async fn restart(server: &Played, healthy: bool, voters: u64) -> Result<(), Error> {
        restart_to(server, healthy, voters, json!({})).await
    }

    /// The same, where pods are to be made from this specification.
    async fn restart_to(
        server: &Played,
        healthy: bool,
        voters: u64,
        spec: Value,
    ) -> Result<(), Error> {
        let context = server.context();
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data", "uid": "u" }, "spec": spec,
        }))
        .unwrap();
        let entry = |id: u64| Entry {
            id,
            member: format!("demo-{id}"),
            ours: true,
            learner: false,
        };
        let observed = Observed {
            members: vec![Member {
                name: "demo-1".into(),
                healthy,
                ..Member::default()
            }],
            roster: Some(Roster {
                entries: (1..=voters).map(entry).collect(),
                leader: Some(1),
            }),
            ..Observed::default()
        };
        let pod: Pod = serde_json::from_value(server.object(POD).unwrap()).unwrap();
        let sight = Sight::of(observed, BTreeMap::from([("demo-1".to_owned(), pod)]));
        let scene = Scene {
            context: &Arc::new(context),
            cluster: &cluster,
            sight: &sight,
            image: "engram:1",
            next_number: 2,
        };
        let member = "demo-1".to_owned();
        act(&scene, &Action::RestartPod { member }).await
    }

    #[tokio::test]
    async fn a_member_that_works_is_evicted_and_a_budget_is_waited_for() {
        let server = Played::default();
        server.put(POD, json!({}));
        server.budget(true);
        let refused = restart(&server, true, 1).await;
        assert!(matches!(refused, Err(Error::NotNow(_))), "{refused:?}");
        assert!(server.object(POD).is_some());
        server.budget(false);
        restart(&server, true, 1).await.unwrap();
        assert_eq!(server.object(POD), None);
        let asked = server.requests();
        let evicted = asked.iter().filter(|(_, path)| path.contains("/eviction"));
        assert_eq!(evicted.count(), 2, "{asked:?}");
        // One that serves nobody takes nothing from a budget.
        server.put(POD, json!({}));
        server.budget(true);
        restart(&server, false, 3).await.unwrap();
        assert_eq!(server.object(POD), None);
    }

    #[tokio::test]
    async fn a_pod_that_changed_since_it_was_seen_is_looked_at_again() {
        let server = Played::default();
        server.put(POD, json!({}));
        // The kubelet finds it ready after it was seen.
        server.meanwhile(Method::DELETE, POD, |server| {
            server.change(POD, |pod| pod["status"] = json!({ "phase": "Running" }));
        });
        let refused = restart(&server, false, 3).await;
        assert!(matches!(refused, Err(Error::NotNow(_))), "{refused:?}");
        assert!(server.object(POD).is_some());
    }

    #[tokio::test]
    async fn a_member_that_works_is_left_alone_where_the_others_do_not_answer_any_more() {
        let server = Played::default();
        server.put(POD, json!({}));
        let refused = restart(&server, true, 3).await.unwrap_err().to_string();
        assert!(
            refused.contains("0 of the others answer, and 2 have to"),
            "{refused}"
        );
        assert!(server.object(POD).is_some());
    }

    #[tokio::test]
    async fn nobody_is_restarted_for_a_pod_that_cannot_be_made() {
        let server = Played::default();
        server.put(POD, json!({}));
        for healthy in [true, false] {
            let sidecar = json!({ "name": "agent", "image": 5 });
            let spec = json!({ "podTemplate": { "sidecars": [sidecar] } });
            let refused = restart_to(&server, healthy, 1, spec).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::InvalidSpec);
            assert!(refused.to_string().contains("agent"), "{refused}");
            assert!(server.object(POD).is_some());
        }
    }
}
