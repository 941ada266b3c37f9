//! A backup is read back, restored in a scratch process and compared.

use crate::api::{BackupPhase, ConditionKind, EngramBackup, EngramBackupStatus, Reason, condition};
use crate::desired::Job;

use super::super::tool::{Run, Verified};
use super::super::{Context, Error};
use super::{execute, retry, say};

/// The pod that reads a backup back.
const PART: &str = "verify";
const GOOD: &str = "restored in a scratch process: HashKV is the manifest's";
const NOT_AGREED: &str = "it holds what one member had: when it was taken no majority of the members could \
    be asked whether they have the same; make another backup while they answer";

/// Whether it was completed without.
pub(super) fn is_open(status: &EngramBackupStatus) -> bool {
    let verified = condition(&status.conditions, ConditionKind::Verified);
    verified.is_none_or(|one| one.reason == Reason::NotRequested.as_str())
}

/// Says that it is being verified.
pub(super) fn begin(backup: &EngramBackup, status: &mut EngramBackupStatus) {
    status.phase = Some(BackupPhase::Verifying);
    let message = retry::attempt(status, "the backup is being read back");
    say::verified(status, backup, false, Reason::Running, &message);
}

/// Begins, or looks how it stands.
pub(super) async fn verify(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    if retry::rests(context, backup, status, PART).await? {
        return Ok(());
    }
    let id = status.backup_id.clone().unwrap_or_default();
    match execute(context, backup, PART, Job::Verify { id }).await {
        Ok(run) => ended(backup, status, run),
        // The backup is none the worse for it.
        Err(Error::Input { reason, message }) => {
            ended(backup, status, Run::Failed { reason, message });
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What came of it.
pub(super) fn ended(backup: &EngramBackup, status: &mut EngramBackupStatus, run: Run) {
    match run {
        Run::Running => begin(backup, status),
        Run::Waiting { reason, message } => {
            status.phase = Some(BackupPhase::Verifying);
            say::verified(status, backup, false, reason, &message);
        }
        Run::Done(text) => {
            status.phase = Some(BackupPhase::Completed);
            retry::done(status);
            let said: Verified = serde_json::from_str(text.trim()).unwrap_or_default();
            match said.agreed {
                Some(false) => say::verified(status, backup, false, Reason::NotAgreed, NOT_AGREED),
                _ => say::verified(status, backup, true, Reason::Succeeded, GOOD),
            }
        }
        Run::Failed { reason, message } if is_damage(reason) => {
            retry::done(status);
            say::verified(status, backup, false, reason, &message);
            say::failed(status, backup, reason, &message);
        }
        Run::Failed { reason, message } => {
            if let Some(message) = retry::again(status, reason, &message) {
                status.phase = Some(BackupPhase::Verifying);
                say::verified(status, backup, false, Reason::Retrying, &message);
                return;
            }
            status.phase = Some(BackupPhase::Completed);
            let message = format!("it is in the store, but could not be read back: {message}");
            say::verified(status, backup, false, reason, &message);
        }
    }
}

/// Whether a failure is the backup's own, and not of what was to read it.
fn is_damage(reason: Reason) -> bool {
    matches!(reason, Reason::VerificationFailed | Reason::BackupNotFound)
}
