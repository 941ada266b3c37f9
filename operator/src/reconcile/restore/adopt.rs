//! Volumes whose cluster's objects are gone: whose they are, and the cluster that goes on with them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    Adopt, AdoptedMember, Bootstrap, EngramMember, EngramRestore, EngramRestoreStatus, KeptVolume,
    Reason,
};
use crate::desired::{Names, member_query};

use super::super::{Context, Error};
use super::look::{self, Found, Holds, Listed, Look, When};
use super::plan;
use super::state::State;
use super::{stays, wished};

/// What comes of looking.
pub(super) enum Adoption {
    /// It is not known yet, or cannot be done.
    Not(State),
    /// This is what the cluster begins with.
    Made(Box<Bootstrap>),
}

/// Finds out what would be adopted, and whether that was confirmed.
///
/// # Errors
/// The API server refused.
pub(super) async fn prepare(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
    obstacle: &str,
) -> Result<Adoption, Error> {
    let mut target = wished(restore);
    target.metadata.namespace = restore.namespace();
    let claims = claims(context, restore).await?;
    let volumes: Vec<KeptVolume> = claims
        .iter()
        .map(|claim| KeptVolume {
            member: claim.clone(),
            volume_claim: claim.clone(),
        })
        .collect();
    if !restore.spec.dry_run {
        let namespace = restore.namespace().unwrap_or_default();
        if let Some(message) = look::used(context, &namespace, &volumes).await? {
            let state = State::Pending(Reason::WaitingForTurn, message);
            return Ok(Adoption::Not(state));
        }
    }
    let found = match look::at(context, restore, &target, &volumes, When::First).await? {
        Look::Not(state) => return Ok(Adoption::Not(state)),
        Look::Done(found) => found,
    };
    let chosen = match choose(&Names::of(&target), &found) {
        Ok(chosen) => chosen,
        Err((reason, message)) => return Ok(Adoption::Not(State::Failed(reason, message))),
    };
    status.plan = chosen.plan(restore, &found);
    status.plan_hash = Some(plan::hash(&status.plan));
    status.loss = Some(chosen.loss());
    if let Some(state) = stays(restore, status, obstacle) {
        return Ok(Adoption::Not(state));
    }
    Ok(Adoption::Made(Box::new(Bootstrap {
        adopt: Some(chosen.adopt),
        ..Bootstrap::default()
    })))
}

/// The claims that are meant: by name, or by the label of their cluster. None of a member that is there.
async fn claims(context: &Context, restore: &EngramRestore) -> Result<Vec<String>, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let name = &restore.spec.target.name;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let members: Api<EngramMember> = Api::namespaced(context.client.clone(), &namespace);
    let all = match &restore.spec.volumes {
        Some(named) => {
            let mut all = Vec::new();
            for claim in named {
                let missing = || {
                    let message =
                        format!("there is no PersistentVolumeClaim {claim}: correct volumes");
                    Error::input(Reason::NotFound, message)
                };
                all.push(claims.get_opt(claim).await?.ok_or_else(missing)?);
            }
            all
        }
        None => {
            let labels = member_query(name);
            claims
                .list(&ListParams::default().labels(&labels))
                .await?
                .items
        }
    };
    let mut free = Vec::new();
    for claim in all {
        let owners = claim.owner_references().to_vec();
        for owner in owners
            .iter()
            .filter(|one| one.kind == EngramMember::kind(&()))
        {
            let member = members.get_opt(&owner.name).await?;
            if member.is_some_and(|member| member.metadata.uid.as_ref() == Some(&owner.uid)) {
                let message = format!(
                    "the volume {} is that of EngramMember {}, which is there: its cluster has to be gone first; \
                     where that has left it behind (--cascade=orphan), delete it: its volume stays",
                    claim.name_any(),
                    owner.name
                );
                return Err(Error::input(Reason::AlreadyExists, message));
            }
        }
        free.push(claim.name_any());
    }
    if free.is_empty() {
        let message = format!(
            "no PersistentVolumeClaim is labelled as EngramCluster {name}'s: name them in volumes"
        );
        return Err(Error::input(Reason::NotFound, message));
    }
    Ok(free)
}

/// What is adopted.
struct Chosen {
    adopt: Adopt,
    /// The members without a volume.
    missing: Vec<String>,
    voters: usize,
    voters_there: usize,
    /// The furthest log's revision, and the most that it may be.
    revision: (i64, i64),
}

/// Chooses, of one cluster's, the volumes of those that are members by the furthest log.
fn choose(names: &Names, found: &Found) -> Result<Chosen, (Reason, String)> {
    let readable: Vec<(&String, &Holds)> = found
        .iter()
        .filter_map(|(claim, holds)| Some((claim, holds.as_ref().ok()?)))
        .collect();
    let clusters: BTreeSet<&String> = readable
        .iter()
        .map(|(_, holds)| &holds.cluster_id)
        .collect();
    if clusters.len() > 1 {
        let all: Vec<String> = readable
            .iter()
            .map(|(claim, holds)| format!("{claim} of cluster {}", holds.cluster_id))
            .collect();
        let message = format!(
            "the volumes are of several clusters ({}): name those of one of them in volumes",
            all.join(", ")
        );
        return Err((Reason::WrongCluster, message));
    }
    let furthest = readable.iter().max_by_key(|(_, holds)| by_log(holds));
    let Some((_, furthest)) = furthest else {
        let message = format!(
            "no volume holds a member's data ({}): restore a backup",
            look::failures(found).join("; ")
        );
        return Err((Reason::DataLost, message));
    };
    let mut chosen = Chosen {
        adopt: Adopt {
            cluster_id: furthest.cluster_id.clone(),
            members: Vec::new(),
        },
        missing: Vec::new(),
        voters: 0,
        voters_there: 0,
        revision: (
            furthest.revision,
            furthest.revision.saturating_add(furthest.requests_behind),
        ),
    };
    for listed in &furthest.members {
        chosen.add(named(names, listed)?, listed, &readable);
    }
    Ok(chosen)
}

fn by_log(holds: &Holds) -> (u64, u64) {
    (holds.last_term, holds.last_index)
}

/// A member's name, by the URL at which the others reach it: it has no other for life.
fn named(names: &Names, listed: &Listed) -> Result<String, (Reason, String)> {
    let url = listed.peer_urls.first().cloned().unwrap_or_default();
    let name = names
        .member_of(&url)
        .filter(|name| names.peer_url(name) == url);
    name.ok_or_else(|| {
        let wanted = names.peer_url(&names.member(1));
        let message = format!(
            "the others reach member {} at {url}, and in this cluster that would be like {wanted}: adopt it under \
             the name, in the namespace and with the tls.peer.mode that it had",
            listed.id
        );
        (Reason::InvalidSpec, message)
    })
}

impl Chosen {
    fn add(&mut self, name: String, listed: &Listed, readable: &[(&String, &Holds)]) {
        let own = readable.iter().filter(|(_, holds)| listed.is_at(holds));
        let volume = own.max_by_key(|(_, holds)| by_log(holds));
        let votes = usize::from(!listed.learner);
        self.voters += votes;
        let Some((claim, _)) = volume else {
            self.missing.push(name);
            return;
        };
        self.voters_there += votes;
        self.adopt.members.push(AdoptedMember {
            name,
            member_id: listed.id.clone(),
            volume_claim: (*claim).clone(),
        });
    }

    fn plan(&self, restore: &EngramRestore, found: &Found) -> Vec<String> {
        let target = &restore.spec.target.name;
        let mut plan: Vec<String> = self
            .adopt
            .members
            .iter()
            .map(|one| {
                let held = found.get(&one.volume_claim);
                let held = held.and_then(|held| held.as_ref().ok());
                let (index, term) = held.map_or((0, 0), |held| (held.last_index, held.last_term));
                format!(
                    "{} (member {}) goes on with the volume {}: last entry {index} of term {term}",
                    one.name, one.member_id, one.volume_claim
                )
            })
            .collect();
        plan.push(format!(
            "EngramCluster {target} is made with them, and goes on as cluster {}",
            self.adopt.cluster_id
        ));
        let taken = |claim: &&String| {
            self.adopt
                .members
                .iter()
                .any(|one| one.volume_claim == **claim)
        };
        let left: Vec<&str> = found
            .keys()
            .filter(|claim| !taken(claim))
            .map(String::as_str)
            .collect();
        if !left.is_empty() {
            plan.push(format!(
                "left alone, as no member's or not to be read: {}",
                left.join(", ")
            ));
        }
        if !self.missing.is_empty() {
            plan.push(format!(
                "{} has no volume, and is replaced once a quorum answers",
                self.missing.join(", ")
            ));
        }
        plan
    }

    fn loss(&self) -> String {
        let (there, voters, (least, most)) = (self.voters_there, self.voters, self.revision);
        match there > voters / 2 {
            true => format!(
                "nothing that was acknowledged: {there} of {voters} voters have their volumes (revision {least} \
                 to {most})"
            ),
            false => format!(
                "{there} of {voters} voters have their volumes, and that is no quorum: the cluster will not serve \
                 before a restore of kind QuorumRecovery, whose dry run says what is lost"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::EngramCluster;

    fn names() -> Names {
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data" }, "spec": {},
        }))
        .unwrap();
        Names::of(&cluster)
    }

    fn holds(id: &str, last_index: u64, of: &str, namespace: &str) -> Result<Holds, String> {
        let listed = |id: &str| Listed {
            id: id.into(),
            peer_urls: vec![format!("https://demo-{id}.demo-peers.{namespace}.svc:2380")],
            learner: false,
            incarnation: format!("a{id}"),
        };
        Ok(Holds {
            cluster_id: of.into(),
            member_id: id.into(),
            incarnation: format!("a{id}"),
            last_term: 2,
            last_index,
            revision: 40,
            requests_behind: 2,
            members: ["1", "2", "3"].map(listed).into(),
        })
    }

    fn chosen(all: Vec<(&str, Result<Holds, String>)>) -> Result<Chosen, (Reason, String)> {
        let found = all
            .into_iter()
            .map(|(claim, holds)| (claim.to_owned(), holds));
        choose(&names(), &found.collect())
    }

    #[test]
    fn every_member_is_given_its_own_volume_again() {
        let of = |id, index| holds(id, index, "c", "data");
        // One was wiped once, and left an earlier volume; one has none.
        let all = vec![
            ("old", of("1", 3)),
            ("a", of("1", 90)),
            ("b", of("2", 91)),
            ("gone", Err("x".into())),
        ];
        let chosen = chosen(all).ok().unwrap();
        let members: Vec<(&str, &str)> = chosen
            .adopt
            .members
            .iter()
            .map(|one| (one.name.as_str(), one.volume_claim.as_str()))
            .collect();
        assert_eq!(members, [("demo-1", "a"), ("demo-2", "b")]);
        assert_eq!(
            (chosen.adopt.cluster_id.as_str(), &chosen.missing[..]),
            ("c", &["demo-3".to_owned()][..])
        );
        assert!(
            chosen
                .loss()
                .starts_with("nothing that was acknowledged: 2 of 3")
        );
    }

    /// Somebody restored a backup into one member's volume: it has the member's id, and none of what that acknowledged.
    #[test]
    fn a_volume_of_another_incarnation_is_no_members() {
        let of = |id, index| holds(id, index, "c", "data");
        let another = |incarnation: &str| {
            let mut holds = of("2", 5).unwrap();
            holds.incarnation = incarnation.into();
            ("b", Ok(holds))
        };
        let restored = chosen(vec![("a", of("1", 90)), another("ff")])
            .ok()
            .unwrap();
        assert_eq!(restored.adopt.members.len(), 1);
        assert_eq!(restored.missing, ["demo-2", "demo-3"]);
        assert!(
            restored.loss().starts_with("1 of 3 voters"),
            "{}",
            restored.loss()
        );
        // An engramctl from before does not say whose it is.
        let silent = chosen(vec![("a", of("1", 90)), another("")]).ok().unwrap();
        assert_eq!(silent.adopt.members.len(), 2);
    }

    #[test]
    fn too_few_and_others_volumes_are_said() {
        let one = chosen(vec![("a", holds("1", 9, "c", "data"))])
            .ok()
            .unwrap();
        assert!(one.loss().contains("QuorumRecovery"), "{}", one.loss());
        let refused = |all| chosen(all).err().unwrap();
        let two = vec![
            ("a", holds("1", 9, "c", "data")),
            ("b", holds("2", 9, "d", "data")),
        ];
        let (reason, message) = refused(two);
        assert_eq!(reason, Reason::WrongCluster);
        assert!(
            message.contains("a of cluster c") && message.contains("b of cluster d"),
            "{message}"
        );
        let (reason, message) = refused(vec![("a", holds("1", 9, "c", "elsewhere"))]);
        assert_eq!(reason, Reason::InvalidSpec);
        assert!(message.contains("elsewhere"), "{message}");
        assert_eq!(
            refused(vec![("a", Err("damaged".into()))]).0,
            Reason::DataLost
        );
    }
}
