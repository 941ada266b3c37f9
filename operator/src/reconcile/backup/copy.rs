//! A backup is copied to a second store, once it is known to be good.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::api::{
    ConditionKind, EngramBackup, EngramBackupStatus, Reason, condition, is_true, set_condition,
};
use crate::desired::{self, Job};

use super::super::tool::{self, Run};
use super::super::{Context, Error, now};
use super::{OBJECT_MAX_SECONDS, execute_with, lies_there, pod_name, retry, store_of};

/// The pod that copies a backup.
const PART: &str = "copy";
/// What is not known to be good.
const NOT_VERIFIED: &str = "it was not verified, and is not copied";

/// Whether it is under way, by what is said of it.
fn goes_on(copied: &Condition) -> bool {
    let open = [Reason::Running, Reason::Retrying, Reason::NotFound];
    open.iter().any(|open| open.as_str() == copied.reason)
}

/// Whether it is to be copied, and neither was nor was given up.
pub(super) fn is_open(backup: &EngramBackup, status: &EngramBackupStatus) -> bool {
    let copied = condition(&status.conditions, ConditionKind::Copied);
    let is_wanted = |one: &Condition| {
        let is_open = goes_on(one);
        // Whoever has changed something wants it tried again; and it may be known to be good by now.
        let changed = one.observed_generation != backup.metadata.generation;
        let known = one.message == NOT_VERIFIED && !is_unsure(backup, status);
        is_of_another(backup, status, one)
            || (one.status != "True" && (is_open || changed || known))
    };
    backup.spec.copy_to.is_some() && copied.is_none_or(is_wanted)
}

/// The store that it is to be copied to.
fn wanted(backup: &EngramBackup) -> Option<&String> {
    backup.spec.copy_to.as_ref().map(|to| &to.store_ref.name)
}

/// Whether what is said of the copy is said of another store than the one that is wanted. What an earlier operator said
/// is of the same one where nothing was changed since.
fn is_of_another(backup: &EngramBackup, status: &EngramBackupStatus, copied: &Condition) -> bool {
    match &status.copy_store {
        Some(store) => wanted(backup) != Some(store),
        None => copied.observed_generation != backup.metadata.generation,
    }
}

/// Whether it was to be verified, and is not known to be good.
fn is_unsure(backup: &EngramBackup, status: &EngramBackupStatus) -> bool {
    let verified = condition(&status.conditions, ConditionKind::Verified);
    backup.spec.verify
        && !is_true(&status.conditions, ConditionKind::Verified)
        && verified.is_none_or(|one| one.reason != Reason::NotAgreed.as_str())
}

/// Why it is not known to be good: what `Verified` says. What was missing is not waited for here.
fn unsure_for(status: &EngramBackupStatus) -> Reason {
    let verified = condition(&status.conditions, ConditionKind::Verified);
    match verified {
        Some(one) if goes_on(one) => Reason::Failed,
        Some(one) => Reason::of(&one.reason).unwrap_or(Reason::Failed),
        None => Reason::VerificationFailed,
    }
}

/// Begins, or looks how it stands.
pub(super) async fn copy(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    let Some(to) = wanted(backup) else {
        return Ok(());
    };
    if !begins_anew(context, backup, status).await? {
        return Ok(());
    }
    if is_unsure(backup, status) {
        let reason = unsure_for(status);
        say(backup, status, false, reason, NOT_VERIFIED);
        return Ok(());
    }
    if retry::rests(context, backup, status, PART).await? {
        return Ok(());
    }
    let run = match Box::pin(run(context, backup, status, to)).await {
        // The backup is none the worse for it.
        Err(Error::Input { reason, message }) => Run::Failed { reason, message },
        run => run?,
    };
    ended(backup, status, to, run);
    Ok(())
}

/// What was given up leaves its pod behind, for whoever reads its log, and so does a copy to another store: where it is
/// begun anew that goes first. Whether it has.
async fn begins_anew(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<bool, Error> {
    let copied = condition(&status.conditions, ConditionKind::Copied);
    let begins = |one: &Condition| {
        let changed = one.observed_generation != backup.metadata.generation;
        is_of_another(backup, status, one) || (changed && !goes_on(one))
    };
    if copied.is_some_and(begins) {
        let namespace = backup.namespace().unwrap_or_default();
        retry::done(status);
        if !tool::clear(context, &namespace, &pod_name(backup, PART)).await? {
            return Ok(false);
        }
    }
    status.copy_store = wanted(backup).cloned();
    Ok(true)
}

async fn run(
    context: &Context,
    backup: &EngramBackup,
    status: &EngramBackupStatus,
    to: &str,
) -> Result<Run, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let other = tool::store(context, &namespace, to).await?;
    let own = store_of(context, backup).await?;
    if desired::would_borrow(&own, &other) {
        let from = own.name_any();
        let message = format!(
            "EngramBackupStore {to} has no credentialsSecretRef, and one pod reaches both: it would be asked with the credentials of {from}; name a Secret there (with a key of its own, or the same one), or take that of {from} away where the service account of its pods may do both; then change this backup, or make another one"
        );
        return Err(Error::input(Reason::InvalidSpec, message));
    }
    let other = desired::access(&other).beside();
    let own = desired::access(&own);
    lies_there(backup, &own)?;
    let access = own.with(&other);
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
