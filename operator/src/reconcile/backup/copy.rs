//! A backup is copied to a second store, once it is known to be good.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::api::{
    ConditionKind, EngramBackup, EngramBackupStatus, Reason, condition, is_true, set_condition,
};
use crate::build::{self, Job};

use super::super::tool::{self, Run};
use super::super::{Context, Error, now};
use super::{OBJECT_MAX_SECONDS, execute_with, retry, store_of};

/// The pod that copies a backup.
const PART: &str = "copy";

/// Whether it is to be copied, and neither was nor was given up.
pub(super) fn is_open(backup: &EngramBackup, status: &EngramBackupStatus) -> bool {
    let copied = condition(&status.conditions, ConditionKind::Copied);
    let goes_on = |one: &Condition| {
        let open = [Reason::Running, Reason::Retrying, Reason::NotFound];
        let is_open = open.iter().any(|open| open.as_str() == one.reason);
        // Whoever has changed something wants it tried again.
        one.status != "True" && (is_open || one.observed_generation != backup.metadata.generation)
    };
    backup.spec.copy_to.is_some() && copied.is_none_or(goes_on)
}

/// Begins, or looks how it stands.
pub(super) async fn copy(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    let Some(wanted) = &backup.spec.copy_to else {
        return Ok(());
    };
    let verified = condition(&status.conditions, ConditionKind::Verified);
    let is_unsure = backup.spec.verify
        && !is_true(&status.conditions, ConditionKind::Verified)
        && verified.is_none_or(|one| one.reason != Reason::NotAgreed.as_str());
    if is_unsure {
        let message = "it was not verified, and is not copied";
        say(backup, status, false, Reason::VerificationFailed, message);
        return Ok(());
    }
    if retry::rests(context, backup, status, PART).await? {
        return Ok(());
    }
    let run = match run(context, backup, status, &wanted.store_ref.name).await {
        // The backup is none the worse for it.
        Err(Error::Input { reason, message }) => Run::Failed { reason, message },
        run => run?,
    };
    ended(backup, status, &wanted.store_ref.name, run);
    Ok(())
}

async fn run(
    context: &Context,
    backup: &EngramBackup,
    status: &EngramBackupStatus,
    to: &str,
) -> Result<Run, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let other = tool::store(context, &namespace, to).await?;
    let other = build::access(&other).beside();
    let access = build::access(&store_of(context, backup).await?).with(&other);
    let job = Job::Copy {
        id: status.backup_id.clone().unwrap_or_default(),
        to: other.url,
        keys: other.key_files,
    };
    execute_with(context, backup, PART, job, &access).await
}

/// What came of it.
fn ended(backup: &EngramBackup, status: &mut EngramBackupStatus, to: &str, run: Run) {
    match run {
        Run::Running => {
            let message = retry::attempt(status, &format!("it is being copied to {to}"));
            say(backup, status, false, Reason::Running, &message);
        }
        Run::Waiting { message, .. } => say(backup, status, false, Reason::Running, &message),
        Run::Done(_) => {
            retry::done(status);
            let message = format!("it is in EngramBackupStore {to} as well");
            say(backup, status, true, Reason::Succeeded, &message);
        }
        Run::Failed {
            reason: Reason::NotFound,
            message,
        } if is_new(status) => say(backup, status, false, Reason::NotFound, &message),
        Run::Failed { reason, message } => match retry::again(status, reason, &message) {
            Some(message) => say(backup, status, false, Reason::Retrying, &message),
            None => {
                retry::done(status);
                let message = format!("it could not be copied to {to}: {message}");
                // What is missing was waited for.
                let reason = match reason {
                    Reason::NotFound => Reason::Failed,
                    reason => reason,
                };
                say(backup, status, false, reason, &message);
            }
        },
    }
}

/// Whether what it names may be on its way with it.
fn is_new(status: &EngramBackupStatus) -> bool {
    let done = status.completed_at.as_ref().map_or(now(), |time| time.0);
    now().as_second() - done.as_second() < OBJECT_MAX_SECONDS
}

fn say(
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    let generation = backup.metadata.generation;
    let (kind, conditions) = (ConditionKind::Copied, &mut status.conditions);
    set_condition(conditions, kind, holds, reason, message, generation, now());
}
