//! A cluster: look, decide, do, say.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action as Next;
use kube::{Api, Resource as _, ResourceExt as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::act::{Scene, act};
use crate::api::{
    AntiAffinity, CLUSTER_FINALIZER, EngramCluster, EngramClusterStatus, Reason, UpdateStrategy,
    parse_duration,
};
use crate::observe::{Sight, observe};
use crate::plan::{Action, Cause, Plan, Wanted, plan};

use super::certificates::{self, Certificates};
use super::{
    Context, Error, children, cluster_status, maintenance, member_status, now, restore,
    set_finalizer, write_status,
};

/// The next look while something is under way.
const SOON: Duration = Duration::from_secs(2);
/// The next look while all is well: how long a member that hangs, or a node that is lost, may go
/// unseen.
const LATER: Duration = Duration::from_secs(15);

/// One pass.
///
/// # Errors
/// What ended it early; it is written into the status as well.
pub(super) async fn reconcile(
    seen: Arc<EngramCluster>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    // What the watch brought may be old: decisions are made on what is.
    let Some(cluster) = api.get_opt(&seen.name_any()).await? else {
        context.metrics.forget(&namespace, &seen.name_any());
        return Ok(Next::await_change());
    };
    let mut status = cluster.status.clone().unwrap_or_default();
    let before = status.clone();
    let result = pass(&context, &cluster, &mut status).await;
    if let Err(error) = &result {
        cluster_status::failed(&cluster, error, &mut status);
    }
    let changed = cluster_status::has_changed(&before, &status);
    let gone =
        cluster.meta().deletion_timestamp.is_some() && result.as_ref().is_ok_and(|pass| pass.over);
    if changed && !gone {
        write_status(&context, &cluster, &status).await?;
    }
    let pass = result?;
    Ok(if gone {
        context.metrics.forget(&namespace, &seen.name_any());
        Next::await_change()
    } else {
        Next::requeue(if pass.busy { SOON } else { LATER })
    })
}

/// How a pass ended.
struct Pass {
    /// Whether something is under way.
    busy: bool,
    /// Whether the cluster is gone.
    over: bool,
}

async fn pass(
    context: &Context,
    cluster: &EngramCluster,
    status: &mut EngramClusterStatus,
) -> Result<Pass, Error> {
    let deleting = cluster.meta().deletion_timestamp.is_some();
    if !deleting {
        set_finalizer(context, cluster, CLUSTER_FINALIZER, true).await?;
    }
    let image = cluster
        .spec
        .image
        .as_deref()
        .unwrap_or(&context.settings.image);
    let certificates = match deleting {
        true => Certificates::default(),
        false => certificates::ensure(context, cluster).await?,
    };
    let sight = observe(context, cluster, certificates.client.as_ref(), image).await?;
    member_status::write(context, &sight).await?;
    // Kept, whatever becomes of that pod.
    if cluster.spec.bootstrap.is_some() && status.restored.is_none() {
        status.restored = sight.pods.values().find_map(restore::restored);
    }
    latch(context, cluster, &sight, status).await?;
    // A Service that is refused does not keep members from being healed.
    let children = match deleting {
        true => Ok(()),
        false => {
            let roster = sight.observed.roster.as_ref();
            let voters = roster.map_or(0, |roster| roster.voters().count());
            children::ensure(context, cluster, voters).await
        }
    };
    let planned = plan(&sight.observed, &wanted(cluster)?);
    let done = carry_out(context, cluster, &sight, &planned, image, status).await;
    let failure = done.err().or(children.err());
    let mut space = None;
    if planned.actions.is_empty() && !cluster.spec.paused && !deleting {
        space = maintenance::clear_no_space(context, cluster, &sight).await?;
    }
    let over = deleting && sight.members.is_empty();
    if over {
        set_finalizer(context, cluster, CLUSTER_FINALIZER, false).await?;
    } else {
        let report = cluster_status::Report {
            sight: &sight,
            plan: &planned,
            certificates: &certificates,
            space,
            failure: failure.as_ref(),
            image,
        };
        cluster_status::report(context, cluster, &report, status).await?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Pass {
            busy: !planned.actions.is_empty() || planned.progress.is_some(),
            over,
        }),
    }
}

/// Once the cluster's ID is known it is written down, before anything else is decided: from then on
/// no member is started as the first of a new cluster.
async fn latch(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let Some(answer) = sight
        .asked
        .answers
        .values()
        .find(|answer| answer.leader != 0)
    else {
        return Ok(());
    };
    if status.cluster_id.is_some() || sight.observed.roster.is_none() {
        return Ok(());
    }
    status.cluster_id = Some(format!("{:x}", answer.cluster_id));
    write_status(context, cluster, status).await?;
    context
        .event(cluster, false, "Bootstrapped", "the first member serves")
        .await;
    Ok(())
}

fn wanted(cluster: &EngramCluster) -> Result<Wanted, Error> {
    let spec = &cluster.spec;
    let duration = |text: &str| {
        parse_duration(text).map_err(|error| Error::input(Reason::InvalidSpec, error.to_string()))
    };
    Ok(Wanted {
        replicas: usize::try_from(spec.replicas).unwrap_or_default(),
        paused: spec.paused,
        rolling: spec.update.strategy == UpdateStrategy::Rolling,
        min_ready: Duration::from_secs(spec.update.min_ready_seconds.into()),
        healing: spec.healing.enabled,
        unhealthy_after: duration(&spec.healing.unhealthy_after)?,
        node_lost_after: duration(&spec.healing.node_lost_after)?,
        replacements_per_hour: spec.healing.max_per_hour as usize,
        node_each: spec.scheduling.anti_affinity == AntiAffinity::Required,
    })
}

/// Does what is planned. After a step that fails nothing more is disturbed; what disturbs nobody is
/// done all the same. Returns the first failure.
async fn carry_out(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    planned: &Plan,
    image: &str,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let mut result = Ok(());
    for action in &planned.actions {
        if result.is_err() && action.is_disruptive() {
            continue;
        }
        if matches!(action, Action::CreateMember { .. }) {
            // The number is spent before it is used: none is ever used twice.
            let highest = sight
                .observed
                .members
                .iter()
                .map(|member| member.number)
                .max();
            status.last_member_number = status.last_member_number.max(highest.unwrap_or(0)) + 1;
            write_status(context, cluster, status).await?;
        }
        let next_number = status.last_member_number;
        let scene = Scene {
            context,
            cluster,
            sight,
            image,
            next_number,
        };
        match act(&scene, action).await {
            Ok(()) => done(context, cluster, planned, action, status).await,
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

/// Says and counts what was done.
async fn done(
    context: &Context,
    cluster: &EngramCluster,
    planned: &Plan,
    action: &Action,
    status: &mut EngramClusterStatus,
) {
    let names = crate::build::Names::of(cluster);
    let labels = [names.namespace.as_str(), names.cluster.as_str()];
    if let Action::DeleteMember { cause, .. } = action
        && cause.is_replacement()
    {
        status.replacements.push(Time(now()));
        let labels = [labels[0], labels[1], cause.as_str()];
        context
            .metrics
            .replacements
            .with_label_values(&labels)
            .inc();
    }
    if matches!(action, Action::MoveLeader { .. }) {
        context
            .metrics
            .leader_moves
            .with_label_values(&labels)
            .inc();
    }
    if matches!(action, Action::FinishRemoval { .. }) {
        // It is done a little each pass; what was told of is the member's deletion.
        return;
    }
    let warning = matches!(action, Action::DeleteMember { cause, .. } if cause.is_replacement());
    let (reason, mut note) = told(action);
    tracing::info!(
        namespace = labels[0],
        cluster = labels[1],
        reason,
        note,
        "done"
    );
    if let Some(progress) = planned.progress.as_ref().filter(|_| action.is_disruptive()) {
        note = format!("{note}: {}", progress.message);
    }
    context.event(cluster, warning, reason, &note).await;
}

fn told(action: &Action) -> (&'static str, String) {
    match action {
        Action::CreateMember { seed: true } => {
            ("FoundingCluster", "the first member is made".into())
        }
        Action::CreateMember { seed: false } => ("CreatingMember", "a member is made".into()),
        Action::AddLearner { member } => ("LearnerAdded", format!("{member} joins")),
        Action::StartPod { member } => ("StartingPod", format!("{member} is started")),
        Action::StopPod { member } => ("StoppingPod", format!("{member} is stopped")),
        Action::RestartPod { member } => ("RestartingPod", format!("{member} is restarted")),
        Action::Promote { member, .. } => ("LearnerPromoted", format!("{member} votes")),
        Action::MoveLeader { to, .. } => ("LeaderMoved", format!("{to} leads")),
        Action::RemoveMember { id, member } => {
            let name = member.clone().unwrap_or_else(|| format!("{id:x}"));
            ("MemberRemoved", format!("{name} is no member any more"))
        }
        Action::DeleteMember { member, cause } => {
            let reason = match cause {
                Cause::ScaleDown | Cause::RemovedElsewhere => "RemovingMember",
                Cause::Teardown => "DeletingMember",
                _ => "ReplacingMember",
            };
            (reason, format!("{member} goes ({})", cause.as_str()))
        }
        Action::FinishRemoval { member } => ("PuttingAway", format!("{member} is put away")),
        Action::ExpandVolume { member } => {
            ("ExpandingVolume", format!("the volume of {member} grows"))
        }
    }
}
