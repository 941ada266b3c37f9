//! What is said of a cluster.

mod backups;
mod conditions;
mod figures;
mod metrics;

use crate::api::{
    ConditionKind as Kind, EngramCluster, EngramClusterStatus, Reason, same_conditions,
    set_condition,
};
use crate::observe::Sight;
use crate::plan::Plan;

use super::certificates::Certificates;
use super::{Context, Error, now};

/// The revision and the size are written when they have changed by more than a hundredth: a busy
/// cluster's status is not rewritten every few seconds.
const NOTEWORTHY: i64 = 100;

/// What a pass found.
pub(super) struct Report<'a> {
    pub sight: &'a Sight,
    pub plan: &'a Plan,
    pub certificates: &'a Certificates,
    pub space: Option<String>,
    pub failure: Option<&'a Error>,
    /// A wish that Kubernetes does not grant.
    pub refused: Option<&'a Error>,
    /// What members run, and do not run yet.
    pub runs: &'a str,
}

/// Whether a status has to be written.
pub(super) fn has_changed(before: &EngramClusterStatus, after: &EngramClusterStatus) -> bool {
    has_grown(before, after) || says_more(before, after)
}

/// Whether a cluster's figures have moved by what is worth a write.
pub(super) fn has_grown(before: &EngramClusterStatus, after: &EngramClusterStatus) -> bool {
    let moved = |before: Option<i64>, after: Option<i64>| match (before, after) {
        (Some(before), Some(after)) => (after - before).abs() > before.abs() / NOTEWORTHY,
        (before, after) => before != after,
    };
    moved(before.revision, after.revision) || moved(before.db_size_bytes, after.db_size_bytes)
}

/// Whether a status says anything else than it did, figures and times apart.
pub(super) fn says_more(before: &EngramClusterStatus, after: &EngramClusterStatus) -> bool {
    let mut same = after.clone();
    same.conditions.clone_from(&before.conditions);
    same.revision = before.revision;
    same.db_size_bytes = before.db_size_bytes;
    same != *before || !same_conditions(&before.conditions, &after.conditions)
}

/// A pass ended early.
pub(super) fn failed(cluster: &EngramCluster, error: &Error, status: &mut EngramClusterStatus) {
    let reason = error.reason();
    let generation = cluster.metadata.generation;
    let mut set = |kind, holds| {
        let text = error.to_string();
        set_condition(
            &mut status.conditions,
            kind,
            holds,
            reason,
            text,
            generation,
            now(),
        );
    };
    set(Kind::Degraded, true);
    if reason == Reason::CertificateInvalid {
        set(Kind::TLSReady, false);
    }
    set(Kind::Stalled, reason.needs_person());
    if reason.needs_person() {
        // Whoever waits for it would wait for ever.
        set(Kind::Reconciling, false);
    }
    if matches!(error, Error::Input { .. }) {
        set(Kind::Ready, false);
        status.observed_generation = generation;
    }
}

/// Says what was found.
///
/// # Errors
/// Nobody says what backups there are; the rest is said all the same.
pub(super) async fn report(
    context: &Context,
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let backups = backups::backups(context, cluster, status).await;
    say(context, cluster, report, status);
    backups
}

/// The same, of what its objects and members tell: nobody is asked anything.
pub(super) fn say(
    context: &Context,
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &mut EngramClusterStatus,
) {
    figures::figures(cluster, report, status);
    conditions::conditions(cluster, report, status);
    metrics::measure(context, cluster, report, status);
    status.observed_generation = cluster.metadata.generation;
}
