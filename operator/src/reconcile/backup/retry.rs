//! What failed and may pass is tried again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::api::{EngramBackup, EngramBackupStatus, Reason};

use super::super::{Context, Error, now, tool};
use super::pod_name;

/// Whether the next attempt is still to come. The pod of the last one stays until then, for whoever
/// reads its log, and goes first.
pub(super) async fn rests(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
    part: &str,
) -> Result<bool, Error> {
    let Some(at) = &status.retry_at else {
        return Ok(false);
    };
    if now() < at.0 {
        return Ok(true);
    }
    let namespace = backup.namespace().unwrap_or_default();
    if !tool::clear(context, &namespace, &pod_name(backup, part)).await? {
        return Ok(true);
    }
    status.retry_at = None;
    Ok(false)
}

/// Notes a failure that is tried again, and says so; none where it is not. What is done begins with
/// the backup, or once it is complete with that.
pub(super) fn again(
    status: &mut EngramBackupStatus,
    reason: Reason,
    message: &str,
) -> Option<String> {
    let began = status.completed_at.as_ref().or(status.started_at.as_ref());
    let began = began.map_or(now(), |time| time.0);
    let failed = status.attempts + 1;
    let Some(wait) = tool::wait(reason, failed, began, now()) else {
        status.retry_at = None;
        return None;
    };
    let at = now() + wait;
    status.attempts = failed;
    status.retry_at = Some(Time(at));
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    Some(format!(
        "attempt {failed} failed ({}): {message}; it is tried again at {at}",
        reason.as_str()
    ))
}

/// What is being done, and for the how manieth time.
pub(super) fn attempt(status: &EngramBackupStatus, what: &str) -> String {
    match status.attempts {
        0 => what.to_owned(),
        failed => format!("{what}, attempt {}", failed + 1),
    }
}

/// It is done.
pub(super) fn done(status: &mut EngramBackupStatus) {
    status.attempts = 0;
    status.retry_at = None;
}
