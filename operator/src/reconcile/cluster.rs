//! A cluster: look, decide, do, say.

mod adopt;
mod archive;
mod catalog;
mod fill;
mod glance;
mod growth;
mod import;
mod restoring;
mod rollback;
mod steps;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource as _, ResourceExt as _};

use crate::api::{
    CLUSTER_FINALIZER, EngramCluster, EngramClusterStatus, HOLDER_ANNOTATION, Reason,
    UpdateStrategy, parse_duration,
};
use crate::observe::{Objects, Sight, observe};
use crate::plan::{Observed, Wanted, plan};

use super::certificates::{self, Certificates};
use super::{
    Context, Error, Version, access, calm, children, claims, cluster_status, has_finalizer,
    is_overtaken, labels, maintenance, member_status, owners, restore, set_finalizer,
    write_cluster_status,
};
pub(super) use catalog::find as listed;
pub(super) use growth::Asked;

/// How often a cluster that is another operator's is looked at.
pub(super) const HELD_PAUSE: Duration = Duration::from_secs(300);

/// Kubernetes' own finalizer of what is deleted with `--cascade=orphan`.
const ORPHANS: &str = "orphan";

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
    if glance::glance(&context, &seen).await? {
        return Ok(Next::requeue(LATER));
    }
    let namespace = seen.namespace().unwrap_or_default();
    // Before anything is read: what is heard meanwhile may not have been seen.
    let heard = context.calm.heard(&calm::key_of(&seen));
    let api: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    // What the watch brought may be old: decisions are made on what is.
    let Some(cluster) = api.get_opt(&seen.name_any()).await? else {
        context.forget(&seen);
        return Ok(Next::await_change());
    };
    if let Some(holder) = held_by_another(&context, &cluster) {
        tell_of_holder(&context, &cluster, &holder).await;
        return Ok(Next::requeue(HELD_PAUSE));
    }
    let mut status = cluster.status.clone().unwrap_or_default();
    let before = status.clone();
    let version = Version::of(&cluster);
    let result = Box::pin(pass(&context, &cluster, &version, &mut status)).await;
    match &result {
        // What was read is old: nothing is said by that.
        Err(error) if is_overtaken(error) => return Ok(Next::requeue(SOON)),
        Err(error) => cluster_status::failed(&cluster, error, &mut status),
        Ok(_) => {}
    }
    let changed = cluster_status::has_changed(&before, &status);
    let gone =
        cluster.meta().deletion_timestamp.is_some() && result.as_ref().is_ok_and(|pass| pass.over);
    if changed && !gone {
        match write_cluster_status(&context, &cluster, &version, &status).await {
            // Somebody has changed it meanwhile: the next pass looks at that.
            Err(error) if is_overtaken(&error) => return Ok(Next::requeue(SOON)),
            written => written?,
        }
    }
    let pass = result?;
    Ok(if gone {
        context.forget(&cluster);
        Next::await_change()
    } else {
        let next = if pass.busy { SOON } else { LATER };
        glance::keep(&context, &cluster, heard, &version, &status, pass);
        Next::requeue(next)
    })
}

/// Another installation of the operator that looks after a cluster. An annotation says whose it is to be,
/// and otherwise whoever came first.
/// What is asked for in a cluster is its as well: two that answer would undo each other's words.
pub(super) fn held_by_another(context: &Context, cluster: &EngramCluster) -> Option<String> {
    let said = cluster.annotations().get(HOLDER_ANNOTATION);
    let first = cluster
        .status
        .as_ref()
        .and_then(|status| status.held_by.as_ref());
    let holder = said.or(first)?;
    (*holder != context.settings.installation()).then(|| holder.clone())
}

async fn tell_of_holder(context: &Context, cluster: &EngramCluster, holder: &str) {
    let own = context.settings.installation();
    let note = format!(
        "the operator {holder} looks after this cluster, and {own} leaves it alone: where that one is gone, \
         kubectl annotate engramcluster {} {HOLDER_ANNOTATION}={own}",
        cluster.name_any()
    );
    tracing::warn!(cluster = cluster.name_any(), note, "another operator's");
    context.event(cluster, true, "HeldByAnother", &note).await;
}

/// Says that this installation looks after a cluster, before anything is done to it. Whether that is new.
async fn take(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    status: &mut EngramClusterStatus,
) -> Result<bool, Error> {
    let own = context.settings.installation();
    if status.held_by.as_ref() == Some(&own) {
        return Ok(false);
    }
    status.held_by = Some(own);
    write_cluster_status(context, cluster, version, status).await?;
    Ok(true)
}

/// A pass's part in an import: nobody answers on a played API server.
#[cfg(test)]
pub(super) async fn import_once(context: &Context, cluster: &EngramCluster) -> Result<(), Error> {
    let version = Version::of(cluster);
    let mut status = cluster.status.clone().unwrap_or_default();
    import::advance(context, cluster, &version, &mut status).await?;
    write_cluster_status(context, cluster, &version, &status).await
}

/// How a pass ended.
#[derive(Default)]
struct Pass {
    /// Whether something is under way.
    busy: bool,
    /// Whether the cluster is gone.
    over: bool,
    /// What Kubernetes has of it; none where not all of it could be looked at.
    objects: Option<Arc<Objects>>,
}

async fn pass(
    context: &Arc<Context>,
    cluster: &EngramCluster,
    version: &Version,
    status: &mut EngramClusterStatus,
) -> Result<Pass, Error> {
    let deleting = cluster.meta().deletion_timestamp.is_some();
    if deleting && has_finalizer(cluster, ORPHANS) {
        // Who deleted it wants its members left as they are.
        set_finalizer(context, cluster, CLUSTER_FINALIZER, false).await?;
        return Ok(Pass {
            over: true,
            ..Pass::default()
        });
    }
    // What it would run is nothing to a cluster that goes.
    let (archive, catalog) = match deleting {
        true => (Ok(None), Ok(None)),
        false => (
            archive::find(context, cluster).await,
            catalog::find(context, cluster).await,
        ),
    };
    // Each of these changes the object that was read: the next pass reads it again.
    if take(context, cluster, version, status).await?
        || (!deleting
            && (set_finalizer(context, cluster, CLUSTER_FINALIZER, true).await?
                || archive::keep(context, cluster, version, &archive, status).await?
                || catalog::keep(context, cluster, version, &catalog, status).await?
                || adopt::ensure(context, cluster, version, status).await?))
    {
        return Ok(Pass {
            busy: true,
            ..Pass::default()
        });
    }
    let offered = &context.settings.image;
    let applied = catalog::applied(cluster);
    let catalog = match (&applied, catalog) {
        // It never ran anything: nothing is started before it is known what.
        (None, Err(error)) => return Err(error),
        (_, catalog) => catalog,
    };
    let cluster = applied.as_ref().unwrap_or(cluster);
    let (asked, back) = (cluster, rollback::effective(cluster, offered, status));
    let cluster = back.as_ref().unwrap_or(asked);
    let chosen = upgrade::choose(context, cluster, status);
    let form = chosen.form(fill::fill(context, cluster).await?);
    let image = &chosen.image;
    let mut certificates = match deleting {
        true => Certificates::default(),
        false => certificates::ensure(context, cluster).await,
    };
    // Somebody else makes them at this moment.
    if let Some(error) = certificates.failure.take_if(|error| is_overtaken(error)) {
        return Err(error);
    }
    let mut sight = observe(context, cluster, certificates.client.as_ref(), &form).await?;
    let owners = match deleting {
        true => Ok(false),
        false => owners::repair(context, cluster, &sight).await,
    };
    if let Ok(true) = owners {
        // They are looked at again as its own.
        return Ok(Pass {
            busy: true,
            ..Pass::default()
        });
    }
    let mut pods = sight
        .observed
        .members
        .iter()
        .filter_map(|one| one.pod.as_ref());
    let rolls = pods.any(|pod| pod.outdated);
    upgrade::settle(context, cluster, rolls);
    // Pods mount their certificates: without them none starts.
    sight.observed.lacking = certificates.failure.is_some();
    let told = match member_status::write(context, &sight).await {
        // Whoever has written it acts as well, or did.
        Err(error) if is_overtaken(&error) => return Err(error),
        told => told,
    };
    // Kept, whatever becomes of that pod.
    if cluster.recovery().is_some() && status.restored.is_none() {
        let in_force = |pod: &&Pod| sight.observed.member(&pod.name_any()).is_some();
        let mut pods = sight.objects.pods.values().filter(in_force);
        status.restored = pods.find_map(restore::restored);
    }
    tell_of_foreign(context, cluster, &sight).await;
    latch(context, cluster, version, &sight, status).await?;
    let claims = claims::repair(context, cluster, &sight).await;
    let labels = labels::repair(context, cluster, &sight).await;
    // A Service that is refused does not keep members from being healed.
    let children = match deleting {
        true => Ok(None),
        false => {
            let votes = votes(&sight.observed);
            children::ensure(context, cluster, votes).await
        }
    };
    if let Ok(Some(families)) = &children {
        status.ip_families.clone_from(families);
    }
    let wanted = match deleting {
        true => Wanted::default(),
        false => wanted(cluster)?,
    };
    let mut planned = plan(sight.as_of_now(), &wanted);
    let small = growth::put_off(context, cluster, &sight, &mut planned);
    rollback::remember(cluster, image, &sight.observed, &planned, status);
    if rollback::begin(asked, offered, &planned, status) {
        let note = "what was changed does not start: it is taken back";
        context.event(cluster, true, "RolledBack", note).await;
    }
    planned.blocked = planned.blocked.or_else(|| rollback::note(status));
    let stuck = restoring::stuck(cluster, &sight, status);
    planned.blocked = stuck.or(planned.blocked);
    let done = steps::carry_out(context, cluster, version, &sight, &planned, image, status).await;
    let mut failure = done.failure.or(claims.err()).or(labels.err());
    failure = failure.or(owners.err());
    failure = failure.or(children.err());
    failure = failure.or(told.err());
    failure = failure.or(archive.err());
    failure = failure.or(catalog.err());
    if !deleting {
        let access = access::settle(context, cluster, version, &sight, status).await;
        failure = failure.or(access.err());
    }
    if !deleting && sight.observed.roster.is_some() {
        let import = import::advance(context, cluster, version, status).await;
        failure = failure.or(import.err());
    }
    if let (Some(why), Some(progress)) = (done.waits, planned.progress.as_mut()) {
        progress.message = why;
    }
    let restored = restoring::settle(context, cluster, &sight, failure.is_none(), status).await;
    failure = failure.or(restored.err());
    let may_begin = planned.leaves_members() && !cluster.spec.paused && !deleting;
    let space = maintenance::clear_no_space(context, cluster, &sight, may_begin);
    let over = deleting && sight.objects.members.is_empty();
    let mut backups = Ok(());
    if over {
        set_finalizer(context, cluster, CLUSTER_FINALIZER, false).await?;
    } else {
        let report = cluster_status::Report {
            sight: &sight,
            plan: &planned,
            certificates: &certificates,
            space,
            failure: failure.as_ref().or(certificates.failure.as_ref()),
            refused: done.refused.as_ref().or(small.as_ref()),
            runs: &chosen.runs,
        };
        backups = cluster_status::report(context, cluster, &report, status).await;
    }
    match failure.or(backups.err()) {
        Some(error) => Err(error),
        None => Ok(Pass {
            busy: !planned.leaves_members() || planned.progress.is_some(),
            over,
            objects: certificates.failure.is_none().then_some(sight.objects),
        }),
    }
}

/// How many vote, and how many pods are ready of members that do not; none where nobody says.
fn votes(seen: &Observed) -> Option<(usize, usize)> {
    let roster = seen.roster.as_ref()?;
    let votes = |name: &str| roster.of(name).is_some_and(|entry| !entry.learner);
    let idle = seen.members.iter();
    let idle = idle.filter(|member| !votes(&member.name) && member.has_ready_pod());
    Some((roster.voters().count(), idle.count()))
}

/// Says once that another cluster answers: until the condition says otherwise it is known.
async fn tell_of_foreign(context: &Context, cluster: &EngramCluster, sight: &Sight) {
    let word = Reason::WrongCluster.as_str();
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    if sight.asked.foreign.is_empty() || conditions.any(|one| one.reason == word) {
        return;
    }
    let names = sight.asked.foreign.join(", ");
    let note = format!("{names}: another cluster answers there; it is not believed");
    context.event(cluster, true, word, &note).await;
}

/// Once the cluster's ID is known it is written down, before anything else is decided: from then on
/// no member is started as the first of a new cluster.
async fn latch(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
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
    write_cluster_status(context, cluster, version, status).await?;
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
        stuck_after: duration(&spec.healing.stuck_after)?,
        replacements_per_hour: spec.healing.max_per_hour as usize,
    })
}
