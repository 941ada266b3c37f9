//! A backup is read back, restored in a scratch process and compared.

use crate::api::{BackupPhase, EngramBackup, EngramBackupStatus, Reason};
use crate::build::Job;

use super::super::tool::Run;
use super::super::{Context, Error};
use super::{execute, say};

/// Whether it was completed without.
pub(super) fn is_open(status: &EngramBackupStatus) -> bool {
    let verified = status.conditions.iter().find(|one| one.type_ == "Verified");
    verified.is_none_or(|one| one.reason == Reason::NotRequested.as_str())
}

/// Says that it is being verified.
pub(super) fn begin(backup: &EngramBackup, status: &mut EngramBackupStatus) {
    status.phase = Some(BackupPhase::Verifying);
    let message = "the backup is being read back";
    say::verified(status, backup, false, Reason::Running, message);
}

/// Begins, or looks how it stands.
pub(super) async fn verify(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    let id = status.backup_id.clone().unwrap_or_default();
    match execute(context, backup, "verify", Job::Verify { id }).await {
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
        Run::Done(_) => {
            status.phase = Some(BackupPhase::Completed);
            let message = "restored in a scratch process: HashKV is the manifest's";
            say::verified(status, backup, true, Reason::Succeeded, message);
        }
        Run::Failed { reason, message } if is_damage(reason) => {
            say::verified(status, backup, false, reason, &message);
            say::failed(status, backup, reason, &message);
        }
        Run::Failed { reason, message } => {
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
