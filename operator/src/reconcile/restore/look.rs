//! What volumes hold: each is looked at by a pod of its own, which mounts it read-only.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::api::{EngramCluster, EngramRestore, KeptVolume, Reason};
use crate::desired::{Job, StoreAccess, Tool};

use super::super::tool::{self, Run};
use super::super::{Context, Error};
use super::image::with_image;
use super::state::State;

/// How long one may take: a log is read to its end.
const DEADLINE_SECONDS: i64 = 900;

/// What `engramctl inspect` says; only what is read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Holds {
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// Which of the directories that this member has had; an engramctl from before that does not say.
    #[serde(default)]
    pub incarnation: String,
    pub last_term: u64,
    pub last_index: u64,
    pub revision: i64,
    pub requests_behind: i64,
    pub members: Vec<Listed>,
}

/// A member, as a volume has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    pub id: String,
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner")]
    pub learner: bool,
    /// Which directory the others know it by; none, or 0, where it has not said so yet.
    #[serde(default)]
    pub incarnation: String,
}

impl Listed {
    /// Whether this is what the others hear as that member. What was restored into its directory, or made anew there,
    /// has its id and another incarnation: they refuse it, and it does not hold what the member acknowledged.
    pub fn is_at(&self, holds: &Holds) -> bool {
        let is_told =
            !["", "0"].contains(&self.incarnation.as_str()) && !holds.incarnation.is_empty();
        self.id == holds.member_id && (!is_told || self.incarnation == holds.incarnation)
    }
}

/// By member: what its volume holds, or why that cannot be told.
pub(super) type Found = BTreeMap<String, Result<Holds, String>>;

/// How the looking stands.
pub(super) enum Look {
    /// It goes on.
    Not(State),
    /// Every volume was looked at, as far as it can be.
    Done(Found),
}

/// When it is looked: an earlier look is no answer to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Members may run.
    First,
    /// Nobody runs.
    Held,
}

/// Who uses one of these volumes, in words: what it holds may change as long as somebody does.
///
/// # Errors
/// The API server refused.
pub(super) async fn used(
    context: &Context,
    namespace: &str,
    volumes: &[KeptVolume],
) -> Result<Option<String>, Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pods = pods.list(&ListParams::default()).await?;
    let claims: Vec<&str> = volumes
        .iter()
        .map(|one| one.volume_claim.as_str())
        .collect();
    let uses = |pod: &Pod| {
        let spec = pod.spec.as_ref()?;
        let mut mounted = spec.volumes.iter().flatten().filter_map(|volume| {
            let claim = volume.persistent_volume_claim.as_ref()?;
            claims.iter().find(|one| **one == claim.claim_name)
        });
        let claim = mounted.next().filter(|_| may_write(pod))?;
        Some(format!(
            "Pod {} uses the volume {claim}, and has to end first",
            pod.name_any()
        ))
    };
    Ok(pods.iter().find_map(uses))
}

/// Whether a pod may yet write to what it mounts. What looks at volumes does not.
fn may_write(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|one| one.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && !tool::is_a_tool(pod)
}

/// Looks at each of these volumes of `target`'s.
///
/// # Errors
/// The API server refused.
pub(super) async fn at(
    context: &Context,
    restore: &EngramRestore,
    target: &EngramCluster,
    volumes: &[KeptVolume],
    when: When,
) -> Result<Look, Error> {
    let target = &match Box::pin(with_image(context, restore, target)).await? {
        Ok(target) => target,
        Err(waits) => return Ok(Look::Not(waits)),
    };
    let mut found = Found::new();
    let mut waits = Vec::new();
    let mut unplaced = Vec::new();
    let mut given_up = false;
    for volume in volumes {
        match one(context, restore, target, volume, when).await? {
            Run::Done(said) => {
                let holds = serde_json::from_str(said.trim());
                let holds = holds.map_err(|_| "engramctl's result cannot be read".to_owned());
                found.insert(volume.member.clone(), holds);
            }
            Run::Failed { reason, message } => {
                given_up |= reason == Reason::Unschedulable;
                found.insert(volume.member.clone(), Err(message));
            }
            Run::Running => waits.push(volume.member.clone()),
            Run::Waiting {
                reason: Reason::Unschedulable,
                message,
            } => unplaced.push((volume.member.clone(), message)),
            Run::Waiting { message, .. } => waits.push(format!("{} ({message})", volume.member)),
        }
    }
    for (member, message) in unplaced {
        // They were made together: one after the other, each would be made anew while the next is waited for.
        match given_up {
            true => drop(found.insert(member, Err(message))),
            false => waits.push(format!("{member} ({message})")),
        }
    }
    if !waits.is_empty() {
        let message = format!("the volume of {} is looked at, read-only", waits.join(", "));
        return Ok(Look::Not(State::Pending(Reason::Running, message)));
    }
    let namespace = restore.namespace().unwrap_or_default();
    for volume in volumes {
        tool::clear(context, &namespace, &pod_name(restore, volume, when)).await?;
    }
    Ok(Look::Done(found))
}

/// Why some cannot be read.
pub(super) fn failures(found: &Found) -> Vec<String> {
    let failed = found.iter().filter_map(|(member, holds)| {
        let why = holds.as_ref().err()?;
        Some(format!("{member}: {why}"))
    });
    failed.collect()
}

fn pod_name(restore: &EngramRestore, volume: &KeptVolume, when: When) -> String {
    let digest = Sha256::digest(&volume.volume_claim);
    let digits: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let stage = match when {
        When::First => "",
        When::Held => "held-",
    };
    format!("{}-look-{stage}{digits}", restore.name_any())
}

async fn one(
    context: &Context,
    restore: &EngramRestore,
    target: &EngramCluster,
    volume: &KeptVolume,
    when: When,
) -> Result<Run, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    if claims.get_opt(&volume.volume_claim).await?.is_none() {
        return Ok(Run::Failed {
            reason: Reason::DataLost,
            message: format!("the claim {} is gone", volume.volume_claim),
        });
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let name = pod_name(restore, volume, when);
    let earlier = pods.get_opt(&name).await?;
    if earlier.is_some_and(|pod| pod.meta().deletion_timestamp.is_some()) {
        // What it saw was taken note of, and may be otherwise by now.
        tool::clear(context, &namespace, &name).await?;
        return Ok(Run::Running);
    }
    let member = pods.get_opt(&volume.member).await?;
    let node = member.and_then(|pod| pod.spec?.node_name);
    let tool = Tool {
        name,
        namespace,
        cluster_name: &restore.spec.target.name,
        cluster: Some(target),
        image: &context.settings.image,
        job: Job::Inspect {
            claim: volume.volume_claim.clone(),
            node,
        },
        access: &StoreAccess::default(),
        deadline: DEADLINE_SECONDS,
        owner: restore.controller_owner_ref(&()),
    };
    tool::run(context, &tool).await
}
