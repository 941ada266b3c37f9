//! What is measured of a cluster.

use crate::api::{ConditionKind, EngramCluster, EngramClusterStatus, condition, is_true};
use crate::desired::Names;
use crate::reconcile::Context;

use super::Report;

/// Sets it.
pub(super) fn measure(
    context: &Context,
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &EngramClusterStatus,
) {
    let names = Names::of(cluster);
    let labels = [names.namespace.as_str(), names.cluster.as_str()];
    let metrics = &context.metrics;
    let ready = is_true(&status.conditions, ConditionKind::Ready);
    metrics
        .cluster_ready
        .with_label_values(&labels)
        .set(i64::from(ready));
    metrics
        .wanted_members
        .with_label_values(&labels)
        .set(i64::from(cluster.spec.replicas));
    let members = report.sight.observed.members.iter();
    let shared = members.filter(|member| member.shares_node);
    metrics
        .members_on_shared_node
        .with_label_values(&labels)
        .set(i64::try_from(shared.count()).unwrap_or_default());
    let degraded = condition(&status.conditions, ConditionKind::Degraded);
    let degraded = degraded.filter(|one| one.status == "True");
    metrics.degrade(labels, degraded.map(|one| one.reason.as_str()));
    let version = status.version.as_deref().unwrap_or_default();
    if let Some(id) = &status.cluster_id {
        metrics.describe(labels, id, version);
    }
    let margin = status
        .quorum
        .as_ref()
        .map_or(-1, |quorum| quorum.healthy - (quorum.voters / 2 + 1));
    metrics
        .quorum_margin
        .with_label_values(&labels)
        .set(i64::from(margin));
    let learners = report
        .sight
        .observed
        .roster
        .as_ref()
        .map_or(0, |roster| roster.learners().count());
    let states = [
        ("ready", i64::from(status.ready_members)),
        ("unready", i64::from(status.members - status.ready_members)),
        ("learner", i64::try_from(learners).unwrap_or_default()),
    ];
    for (state, value) in states {
        metrics
            .cluster_members
            .with_label_values(&[labels[0], labels[1], state])
            .set(value);
    }
    for (number, name) in [(1, "NOSPACE"), (2, "CORRUPT")] {
        let raised = report
            .sight
            .asked
            .alarms
            .iter()
            .filter(|(kind, _)| *kind == number)
            .count();
        let labels = [labels[0], labels[1], name];
        metrics
            .alarms
            .with_label_values(&labels)
            .set(i64::try_from(raised).unwrap_or_default());
    }
    if let Some(last) = &status.last_backup {
        let seconds = last.completed_at.0.as_duration().as_secs_f64();
        metrics
            .backup_success
            .with_label_values(&labels)
            .set(seconds);
        let revisions = status.revision.zip(last.revision);
        let lag = revisions.map_or(0, |(now, then)| (now - then).max(0));
        metrics
            .backup_revision_lag
            .with_label_values(&labels)
            .set(lag);
    }
    if let Some(verified) = &status.last_verified_at {
        let seconds = verified.0.as_duration().as_secs_f64();
        metrics
            .backup_verified
            .with_label_values(&labels)
            .set(seconds);
    }
}
