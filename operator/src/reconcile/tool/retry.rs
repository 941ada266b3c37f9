//! Which failures are tried again, and when. Pure.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::Reason;

/// The wait after the first failure; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// For how long something is tried: a backup that is due at night has the night.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// How long to wait before the next attempt, after so many that failed, the last one for `reason`. None
/// where it was refused, and nothing but a person's doing changes that, or where it was tried for long
/// enough since it began.
pub(in crate::reconcile) fn wait(
    reason: Reason,
    failed: u32,
    began: Timestamp,
    now: Timestamp,
) -> Option<Duration> {
    let doubled = FIRST.saturating_mul(1 << failed.saturating_sub(1).min(10));
    let wait = doubled.min(LONGEST);
    let tried = Duration::try_from(now.duration_since(began)).unwrap_or_default();
    (!is_refusal(reason) && tried + wait <= PATIENCE).then_some(wait)
}

/// Whether trying it again is of no use: somebody has to change something, or the backup is not good.
fn is_refusal(reason: Reason) -> bool {
    use Reason::*;
    matches!(
        reason,
        AccessDenied
            | KeyMissing
            | BucketNotFound
            | BackupNotFound
            | BackupAmbiguous
            | VerificationFailed
            | NotFound
            | InvalidSpec
            | WrongCluster
            | Corrupt
            | ScratchFull
            | Deleting
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).expect("a time")
    }

    #[test]
    fn a_fault_that_may_pass_is_tried_again_later_and_later() {
        let wait = |failed| wait(Reason::StoreUnreachable, failed, at(0), at(60));
        let seconds = |failed| wait(failed).map(|wait| wait.as_secs());
        let waits: Vec<_> = (1..=8).map(seconds).collect();
        let expected = [30, 60, 120, 240, 480, 960, 1800, 1800].map(Some);
        assert_eq!(waits, expected);
        assert_eq!(seconds(u32::MAX), Some(1800));
    }

    #[test]
    fn it_ends_with_a_refusal_or_with_patience() {
        for reason in [
            Reason::AccessDenied,
            Reason::BucketNotFound,
            Reason::VerificationFailed,
            Reason::NotFound,
        ] {
            assert_eq!(wait(reason, 1, at(0), at(1)), None, "{reason:?}");
        }
        for reason in [
            Reason::Failed,
            Reason::StoreUnreachable,
            Reason::MemberNotReady,
            Reason::Unschedulable,
            Reason::OutOfMemory,
            Reason::DeadlineExceeded,
        ] {
            assert!(wait(reason, 1, at(0), at(1)).is_some(), "{reason:?}");
            assert_eq!(wait(reason, 1, at(0), at(6 * 3600)), None, "{reason:?}");
        }
    }
}
