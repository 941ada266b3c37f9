//! A pass of a calm cluster: its members are asked, and where nothing new comes of that, that was all. The API
//! server is asked nothing, and told nothing but figures. Whatever there is to do or to say is left to a pass that
//! reads everything: nothing is decided by what may be old.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    ConditionKind, EngramCluster, EngramClusterStatus, TlsMode, is_true, parse_duration,
};
use crate::observe::{Objects, Sight, ask_again};
use crate::plan::{Plan, plan};

use super::super::{
    Context, Error, Version, calm, certificates, cluster_status, is_overtaken, member_status,
    start, write_cluster_status,
};
use super::{Pass, catalog, growth, rollback, upgrade, wanted};

/// How long a cluster that is well is gone by what was seen of it: the watches tell of what changes, this is
/// for what they do not tell.
const LONG: Duration = Duration::from_secs(300);
/// Where something is not as it should be, or users keep Secrets that nobody watches.
const SHORT: Duration = Duration::from_secs(60);
/// Certificates are looked at so often in their lifetime.
const LOOKS: u32 = 24;

/// Whether that was the pass. A write of figures that comes too late is one for the next pass.
///
/// # Errors
/// The API server refused the figures.
pub(super) async fn glance(context: &Context, cluster: &EngramCluster) -> Result<bool, Error> {
    let key = calm::key_of(cluster);
    let Some(objects) = context.calm.seen(&key, cluster) else {
        return Ok(false);
    };
    let before = cluster.status.clone().unwrap_or_default();
    let found = Box::pin(look(context, cluster, objects)).await;
    let Some(status) = found.filter(|after| !cluster_status::says_more(&before, after)) else {
        context.calm.read_again(&key);
        return Ok(false);
    };
    if !cluster_status::has_grown(&before, &status) {
        return Ok(true);
    }
    let version = Version::of(cluster);
    match write_cluster_status(context, cluster, &version, &status).await {
        Err(error) if is_overtaken(&error) => {
            context.calm.read_again(&key);
            Ok(false)
        }
        Ok(()) => {
            context.calm.moved(&key, version.last());
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// What is to be said of it; none where something is to be done, or a member is otherwise than was known.
async fn look(
    context: &Context,
    asked: &EngramCluster,
    objects: Arc<Objects>,
) -> Option<EngramClusterStatus> {
    let offered = &context.settings.image;
    let mut status = asked.status.clone().unwrap_or_default();
    let applied = catalog::applied(asked);
    let asked = applied.as_ref().unwrap_or(asked);
    let back = rollback::effective(asked, offered, &mut status);
    let cluster = back.as_ref().unwrap_or(asked);
    let chosen = upgrade::choose(context, cluster, &mut status);
    let certificates = certificates::known(context, cluster)?;
    let tls = certificates.client.as_ref();
    let mut sight = ask_again(cluster, tls, &chosen.form(None), objects).await;
    let mut planned = plan(sight.as_of_now(), &wanted(cluster).ok()?);
    let small = growth::put_off(context, cluster, &sight, &mut planned);
    if !is_still(&sight, &planned) {
        return None;
    }
    let image = &chosen.image;
    rollback::remember(cluster, image, &sight.observed, &planned, &mut status);
    planned.blocked = planned.blocked.or_else(|| rollback::note(&status));
    let report = cluster_status::Report {
        sight: &sight,
        plan: &planned,
        certificates: &certificates,
        space: None,
        failure: None,
        refused: small.as_ref(),
        runs: &chosen.runs,
    };
    cluster_status::say(context, cluster, &report, &mut status);
    Some(status)
}

/// Whether nothing is to be done, nothing waits, and no member is otherwise than was known.
fn is_still(sight: &Sight, planned: &Plan) -> bool {
    planned.actions.is_empty()
        && planned.progress.is_none()
        && sight.asked.foreign.is_empty()
        && sight.asked.alarms.is_empty()
        && member_status::is_known(sight)
}

/// Keeps what a pass saw that found nothing to do.
pub(super) fn keep(
    context: &Context,
    cluster: &EngramCluster,
    heard: calm::Heard,
    version: &Version,
    status: &EngramClusterStatus,
    pass: Pass,
) {
    let Some(objects) = pass.objects.filter(|_| !pass.busy && may_be_calm(status)) else {
        return;
    };
    let key = calm::key_of(cluster);
    let version = version.last();
    let seen = (objects, lasts(cluster, status));
    context.calm.keep(&key, heard, cluster, version, seen);
}

/// Whether nothing goes on in a cluster that is looked after beside its members.
fn may_be_calm(status: &EngramClusterStatus) -> bool {
    let imports = status.import.as_ref();
    status.cluster_id.is_some()
        && status.restoring.is_none()
        && imports.is_none_or(|import| import.completed_at.is_some())
}

/// How long what was seen of a cluster is good.
fn lasts(cluster: &EngramCluster, status: &EngramClusterStatus) -> Duration {
    let spec = &cluster.spec;
    let made = |mode| matches!(mode, TlsMode::SelfSigned | TlsMode::Disabled);
    let well = is_true(&status.conditions, ConditionKind::Ready);
    if !well || spec.auth.enabled || !made(spec.tls.client.mode) || !made(spec.tls.peer.mode) {
        return SHORT;
    }
    let lifetimes = [&spec.tls.certificate_lifetime, &spec.tls.authority_lifetime];
    let lifetimes = lifetimes.into_iter().flat_map(|text| parse_duration(text));
    let shortest = lifetimes.min().unwrap_or(LONG) / LOOKS;
    // Not all that were read together are read again together.
    let long = LONG - start::share(cluster).mul_f64(LONG.as_secs_f64() / 5.0);
    long.min(shortest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(spec: &Value, ready: &str) -> Duration {
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data", "uid": "u" }, "spec": spec,
        }))
        .unwrap();
        let status = serde_json::from_value(json!({ "conditions": [{
            "type": "Ready", "status": ready, "reason": "AsExpected", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] }));
        lasts(&cluster, &status.unwrap())
    }

    #[test]
    fn what_nobody_watches_is_looked_at_sooner() {
        let well = of(&json!({}), "True");
        assert!(well > Duration::from_secs(239) && well <= LONG, "{well:?}");
        assert_eq!(of(&json!({}), "False"), SHORT);
        assert_eq!(of(&json!({ "auth": { "enabled": true } }), "True"), SHORT);
        let own = json!({ "tls": { "client": { "mode": "Secret", "secretName": "mine" } } });
        assert_eq!(of(&own, "True"), SHORT);
        // An authority is shown a twelfth of its life before it signs.
        let brief = json!({ "tls": { "authorityLifetime": "24m" } });
        assert_eq!(of(&brief, "True"), Duration::from_secs(60));
    }
}
