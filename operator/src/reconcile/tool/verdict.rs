//! What a run's pod says: how it stands, and what a failure means. Pure.

use k8s_openapi::api::core::v1::Pod;

use crate::api::Reason;

use super::Run;

/// How much of its words is kept.
const WORDS_MAX: usize = 1000;
/// How long a pod may wait for what its user has to give, which may be on its way with it.
const MISSING_MAX_SECONDS: i64 = 60;
/// How long a pod may wait for anything else: a node, a volume, an image.
const PENDING_MAX_SECONDS: i64 = 600;

/// How long a pod may take to end beyond its own time, before its node is taken for lost.
const ENDING_MAX_SECONDS: i64 = 60;

/// Whether a pod should have ended long ago: its node does not answer.
pub(super) fn is_left_behind(pod: &Pod, now: i64) -> bool {
    let ending = pod.metadata.deletion_timestamp.as_ref();
    ending.is_some_and(|time| now - time.0.as_second() > ENDING_MAX_SECONDS)
}

/// Whether a pod should have been ended by its kubelet long ago, which alone looks at its deadline: where its tolerations
/// keep it on a node that is lost nobody else does.
pub(super) fn is_overdue(pod: &Pod, now: i64) -> bool {
    let begun = pod.status.as_ref().and_then(|one| one.start_time.as_ref());
    let deadline = pod
        .spec
        .as_ref()
        .and_then(|one| one.active_deadline_seconds);
    let ends = begun
        .zip(deadline)
        .map(|(begun, deadline)| begun.0.as_second() + deadline);
    phase(pod) == Some("Running") && ends.is_some_and(|ends| now - ends > ENDING_MAX_SECONDS)
}

/// How a run stands at `now` (in seconds). `missing` says what the pod does not tell of itself: the
/// Secret of a volume that is not there.
pub(super) fn read(pod: &Pod, missing: Option<String>, now: i64) -> Run {
    match phase(pod) {
        Some("Succeeded") => Run::Done(words(pod)),
        Some("Failed") => failed(pod),
        Some("Running") if is_overdue(pod, now) => Run::Failed {
            reason: Reason::DeadlineExceeded,
            message: "it runs for longer than it may, and nobody ends it: its node does not answer"
                .to_owned(),
        },
        Some("Running") => Run::Running,
        _ => pending(pod, missing, now),
    }
}

/// Whether it has not begun, and may yet.
pub(super) fn may_begin(pod: &Pod) -> bool {
    !matches!(phase(pod), Some("Succeeded" | "Failed" | "Running"))
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// The result, or the end of the log.
fn words(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let ended = container.and_then(|one| one.state.as_ref()?.terminated.as_ref());
    ended
        .and_then(|ended| ended.message.clone())
        .unwrap_or_default()
}

fn failed(pod: &Pod) -> Run {
    let status = pod.status.as_ref();
    let word = status.and_then(|status| status.reason.clone());
    let said = words(pod);
    let said = essence(&said);
    let message = match (said.is_empty(), status) {
        (true, Some(status)) => status.message.clone().or_else(|| word.clone()),
        _ => Some(said),
    };
    let message = message.unwrap_or_default();
    let reason = match (word.as_deref(), ended_by(pod)) {
        (Some("DeadlineExceeded"), _) => Reason::DeadlineExceeded,
        (_, Some("OOMKilled")) => Reason::OutOfMemory,
        // The kubelet's words for a volume that has outgrown its limit, and the disk's own.
        _ if is_full(&message) => Reason::ScratchFull,
        _ => classify(&message),
    };
    let message = match reason {
        Reason::OutOfMemory => format!("it used more memory than it may {message}"),
        _ => message,
    };
    Run::Failed {
        reason,
        message: with_advice(reason, &message),
    }
}

/// Why its container ended, in Kubernetes' word.
fn ended_by(pod: &Pod) -> Option<&str> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = containers.first()?.state.as_ref()?.terminated.as_ref()?;
    ended.reason.as_deref()
}

/// Whether a disk or a bounded volume is full.
pub(in crate::reconcile) fn is_full(message: &str) -> bool {
    message.contains("exceeds the limit") && message.contains("mptyDir")
        || message.contains("No space left on device")
}

/// A pod that has not begun: why, if that is known, and for how long it is borne with.
fn pending(pod: &Pod, missing: Option<String>, now: i64) -> Run {
    let created = pod.metadata.creation_timestamp.as_ref();
    let age = now - created.map_or(now, |time| time.0.as_second());
    let missing = missing.map(|message| (Reason::NotFound, message));
    let hindrance = hindrance(pod).or(missing);
    let limit = match &hindrance {
        Some((Reason::NotFound, _)) => MISSING_MAX_SECONDS,
        _ => PENDING_MAX_SECONDS,
    };
    match hindrance {
        Some((reason, message)) if age > limit => Run::Failed { reason, message },
        Some((reason, message)) => Run::Waiting { reason, message },
        None if age > limit => Run::Failed {
            reason: Reason::DeadlineExceeded,
            message: format!(
                "its pod has not begun for {age} s: kubectl describe pod {} says why",
                pod.metadata.name.as_deref().unwrap_or_default()
            ),
        },
        None => Run::Running,
    }
}

fn hindrance(pod: &Pod) -> Option<(Reason, String)> {
    if let Some((word, message)) = crate::observe::stuck(pod) {
        let missing = word == "CreateContainerConfigError" && message.contains("ecret");
        return Some(match missing {
            true => (
                Reason::NotFound,
                format!(
                    "{message}: make the Secret that credentialsSecretRef names, with the variables that the store asks for (kubectl explain engrambackupstore.spec)"
                ),
            ),
            false => (Reason::Failed, format!("{word}: {message}")),
        });
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unplaced = conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let message = unplaced.message.clone().unwrap_or_default();
    // The scheduler's own words.
    let missing = message.contains("persistentvolumeclaim") && message.contains("not found");
    Some(match missing {
        true => (
            Reason::NotFound,
            format!("{message}: make the claim that pvc.claimName names"),
        ),
        false => (Reason::Unschedulable, message),
    })
}

/// What an engramctl that failed said last, of the end of its log: without the progress before it, and
/// without the page that a store answered with. At most 1000 characters.
pub(in crate::reconcile) fn essence(log: &str) -> String {
    let from = log.rfind("Error: ").map_or(0, |at| at + "Error: ".len());
    let said = log[from..].split("<?xml").next().unwrap_or_default();
    let said = said.trim().trim_end_matches(':');
    let skip = said.chars().count().saturating_sub(WORDS_MAX);
    said.chars().skip(skip).collect()
}

/// What engramctl's refusals mean, by its own words. The first that is found counts.
const MEANINGS: [(&str, Reason); 26] = [
    (
        "the store's retention does not let it be deleted yet",
        Reason::Locked,
    ),
    ("it is encrypted with key", Reason::KeyMissing),
    ("encryption key file", Reason::KeyMissing),
    ("its encryption does not fit", Reason::VerificationFailed),
    ("there is no such bucket", Reason::BucketNotFound),
    ("these credentials", Reason::AccessDenied),
    ("this backup cannot be used", Reason::VerificationFailed),
    (
        "does not hold what was backed up",
        Reason::VerificationFailed,
    ),
    ("manifest is damaged", Reason::VerificationFailed),
    ("it is not there", Reason::VerificationFailed),
    ("there is no backup", Reason::BackupNotFound),
    ("holds no log archive", Reason::MomentNotFound),
    ("is in no part of the log archive", Reason::MomentNotFound),
    ("a member's clock was ahead", Reason::MomentNotFound),
    ("can be gone on from to", Reason::MomentNotFound),
    (
        "nothing behind it can be restored",
        Reason::VerificationFailed,
    ),
    ("of several clusters of that name", Reason::BackupAmbiguous),
    ("which --cluster-id does not name", Reason::BackupAmbiguous),
    ("import into an empty cluster", Reason::InvalidSpec),
    ("no endpoint answers", Reason::MemberNotReady),
    (
        "the endpoints are of several clusters",
        Reason::WrongCluster,
    ),
    ("nothing was backed up; `engramctl", Reason::Corrupt),
    ("and --cluster-id names", Reason::WrongCluster),
    ("the directory must be there", Reason::StoreUnreachable),
    ("the store's certificate", Reason::StoreUnreachable),
    ("the store failed", Reason::StoreUnreachable),
];

/// What a refusal of engramctl's means.
pub(in crate::reconcile) fn classify(message: &str) -> Reason {
    let found = MEANINGS.iter().find(|(words, _)| message.contains(words));
    found.map_or(Reason::Failed, |(_, reason)| *reason)
}

/// A refusal, and what to do about it where the words of engramctl do not say it in Kubernetes' terms.
pub(in crate::reconcile) fn with_advice(reason: Reason, message: &str) -> String {
    let advice = match reason {
        Reason::AccessDenied => {
            " (check the Secret that credentialsSecretRef names, and what its key may do)"
        }
        Reason::KeyMissing => {
            " (encryption.keys of the EngramBackupStore names the Secrets with the keys; put back the one that is missing, or delete what needs it)"
        }
        Reason::BucketNotFound => {
            " (make the bucket or container, or correct the one that the EngramBackupStore names)"
        }
        Reason::StoreUnreachable => {
            " (check the EngramBackupStore: the endpoint, caSecretRef or claim that it names)"
        }
        Reason::OutOfMemory => {
            " (give it more: pods.resources of the EngramBackupStore; by default it may use what a member may)"
        }
        Reason::ScratchFull => {
            " (give it more room: pods.scratch.size of the EngramBackupStore, with claim: true in a volume of its own)"
        }
        Reason::MomentNotFound => {
            " (targetTime and targetRevision of an EngramRestore's source name a moment; members that archive are \
             at most some seconds behind)"
        }
        Reason::BackupAmbiguous => {
            " (clusterID of an EngramRestore's source is what --cluster-id is here)"
        }
        _ => "",
    };
    format!("{message}{advice}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CREATED: i64 = 1_767_225_600;

    fn pod(status: Value) -> Pod {
        let metadata = json!({ "name": "p", "creationTimestamp": "2026-01-01T00:00:00Z" });
        serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
    }

    fn container(state: Value) -> Value {
        json!([{
            "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": state,
        }])
    }

    fn ended(phase: &str, message: &str) -> Pod {
        let state = json!({ "terminated": { "exitCode": 1, "message": message } });
        pod(json!({ "phase": phase, "containerStatuses": container(state) }))
    }

    fn failure(pod: &Pod, now: i64) -> (Reason, String) {
        match read(pod, None, now) {
            Run::Failed { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_runs_end_is_read_and_a_refusal_says_what_to_do() {
        assert_eq!(read(&ended("Running", ""), None, CREATED), Run::Running);
        assert_eq!(
            read(&ended("Succeeded", "{}"), None, CREATED),
            Run::Done("{}".into())
        );
        let said =
            "s3://b/demo: the store does not know these credentials: check AWS_ACCESS_KEY_ID";
        let (reason, message) = failure(&ended("Failed", said), CREATED);
        assert_eq!(reason, Reason::AccessDenied);
        assert!(message.contains("credentialsSecretRef"), "{message}");
    }

    #[test]
    fn what_runs_on_a_lost_node_comes_to_its_end_though_nobody_ends_it() {
        let mut pod = pod(json!({ "phase": "Running", "startTime": "2026-01-01T00:00:00Z" }));
        assert_eq!(
            read(&pod, None, CREATED + 100_000),
            Run::Running,
            "no deadline"
        );
        pod.spec =
            serde_json::from_value(json!({ "activeDeadlineSeconds": 300, "containers": [] }))
                .unwrap();
        assert_eq!(
            read(&pod, None, CREATED + 350),
            Run::Running,
            "it is being ended"
        );
        let (reason, message) = failure(&pod, CREATED + 400);
        assert_eq!(reason, Reason::DeadlineExceeded);
        assert!(message.contains("node does not answer"), "{message}");
    }

    #[test]
    fn of_a_log_the_refusal_is_told() {
        let log = "spool\nrestore: 357 bytes\nError: s3://b: there is no such bucket: 404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket";
        assert_eq!(
            essence(log),
            "s3://b: there is no such bucket: 404 Not Found"
        );
        assert_eq!(essence(" panicked \n"), "panicked");
        assert_eq!(essence(&"ä".repeat(2000)).chars().count(), WORDS_MAX);
    }

    #[test]
    fn a_number_in_a_chunks_name_is_not_taken_for_an_answer_of_the_stores() {
        let said = "Error: backup a: chunk 18403f/00000000.chunk: a checksum does not fit: it is damaged: this backup cannot be used, take another";
        let (reason, message) = failure(&ended("Failed", said), CREATED);
        assert_eq!(reason, Reason::VerificationFailed);
        assert!(message.contains("18403f/00000000.chunk"), "{message}");
    }

    #[test]
    fn engramctls_own_words_are_known() {
        use engram_archive::ArchiveError;
        use engram_backup::create::CreateError;
        use engram_backup::format::ManifestError;
        use engram_backup::point::PointError;
        use engram_backup::read::ReadError;
        use engram_backup::restore::RestoreFailed;
        use engram_backup::store::{BackupStore, StoreError};
        use engram_objects::Keys;
        let (backup, store) = ("n-1".to_owned(), "s3://b".to_owned());
        let missing = BackupStore::open("file:///not/there").unwrap_err();
        let none = StoreError::NoBackup {
            wanted: backup.clone(),
            store,
        };
        let different = RestoreFailed::Different {
            backup: backup.clone(),
            what: "HashKV",
            found: 1,
            expected: 2,
        };
        let mixed = StoreError::Mixed {
            cluster: "demo".parse().unwrap(),
            found: "aa/0; bb/0".into(),
        };
        let theirs = StoreError::Another {
            id: "n-1".parse().unwrap(),
            whose: "bb/0".to_owned().try_into().unwrap(),
        };
        let another = CreateError::AnotherCluster {
            found: 1,
            wanted: "2".into(),
        };
        let split = CreateError::Split {
            revision: 7,
            hashes: "1 5, 2 6".into(),
        };
        let several = engram_backup::MembersError::SeveralClusters("a 1, b 2".into());
        let place = "s3://b/demo".to_owned();
        let unarchived = PointError::NoArchive { place };
        let outside = PointError::Outside {
            wanted: "revision 9".into(),
            spans: "revisions 1 to 7".into(),
        };
        let ahead = PointError::Ahead {
            wanted: "2026-01-02T03:04:05Z".into(),
            until: "2036-01-02T03:04:05Z".into(),
            from: 5,
            to: 9,
        };
        let baseless = PointError::NoBase {
            wanted: "revision 9".into(),
            from: 1,
            to: 9,
            why: "there are 0 of it in all".into(),
        };
        let gap = ArchiveError::Missing("000001/000000000003".into());
        let contents = ReadError::Contents {
            backup,
            what: "a chunk is missing",
        };
        let [ours, others] = [7, 8].map(|byte| Keys::of(&[[byte; 32]]));
        let encrypted = ours.encrypt("n", b"x".to_vec().into());
        let locked = others.decrypt("n", encrypted.clone()).unwrap_err();
        let moved = ours.decrypt("m", encrypted).unwrap_err();
        let no_key = Keys::read(&["/not/there"]).unwrap_err();
        for (said, reason) in [
            (locked.to_string(), Reason::KeyMissing),
            (no_key.to_string(), Reason::KeyMissing),
            (moved.to_string(), Reason::VerificationFailed),
            (missing.to_string(), Reason::StoreUnreachable),
            (another.to_string(), Reason::WrongCluster),
            (split.to_string(), Reason::Corrupt),
            (several.to_string(), Reason::WrongCluster),
            (none.to_string(), Reason::BackupNotFound),
            (unarchived.to_string(), Reason::MomentNotFound),
            (outside.to_string(), Reason::MomentNotFound),
            (ahead.to_string(), Reason::MomentNotFound),
            (baseless.to_string(), Reason::MomentNotFound),
            (gap.to_string(), Reason::VerificationFailed),
            (different.to_string(), Reason::VerificationFailed),
            (mixed.to_string(), Reason::BackupAmbiguous),
            (contents.to_string(), Reason::VerificationFailed),
            (theirs.to_string(), Reason::BackupAmbiguous),
            (
                ManifestError::Damaged.to_string(),
                Reason::VerificationFailed,
            ),
        ] {
            assert_eq!(classify(&format!("Error: {said}")), reason, "{said}");
        }
    }

    #[test]
    fn a_pod_that_does_not_end_is_left_behind() {
        let mut pod = pod(json!({ "phase": "Running" }));
        assert!(!is_left_behind(&pod, CREATED + 9_999));
        pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
        assert!(!is_left_behind(&pod, CREATED + ENDING_MAX_SECONDS));
        assert!(is_left_behind(&pod, CREATED + ENDING_MAX_SECONDS + 1));
    }

    #[test]
    fn a_pod_that_was_evicted_says_so() {
        let evicted =
            pod(json!({ "phase": "Failed", "reason": "Evicted", "message": "low on disk" }));
        assert_eq!(
            failure(&evicted, CREATED),
            (Reason::Failed, "low on disk".into())
        );
        let late = pod(json!({ "phase": "Failed", "reason": "DeadlineExceeded" }));
        assert_eq!(failure(&late, CREATED).0, Reason::DeadlineExceeded);
        let grown = pod(json!({ "phase": "Failed", "reason": "Evicted",
            "message": "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\"." }));
        let killed = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let killed = pod(json!({ "phase": "Failed", "containerStatuses": container(killed) }));
        for (pod, reason, advice) in [
            (&grown, Reason::ScratchFull, "pods.scratch.size"),
            (&killed, Reason::OutOfMemory, "pods.resources"),
        ] {
            let (found, message) = failure(pod, CREATED);
            assert_eq!(found, reason);
            assert!(message.contains(advice), "{message}");
        }
    }

    #[test]
    fn what_a_pod_waits_for_is_said_at_once_and_not_waited_for_for_ever() {
        let state = json!({ "waiting": {
            "reason": "CreateContainerConfigError", "message": "secret \"s3\" not found",
        } });
        let secret = pod(json!({ "phase": "Pending", "containerStatuses": container(state) }));
        let claim = pod(json!({ "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: persistentvolumeclaim \"backups\" not found.",
        }] }));
        for (pod, part) in [(&secret, "credentialsSecretRef"), (&claim, "pvc.claimName")] {
            let Run::Waiting { reason, message } = read(pod, None, CREATED + 5) else {
                panic!("it waits");
            };
            assert_eq!(reason, Reason::NotFound);
            assert!(message.contains(part), "{message}");
            assert_eq!(failure(pod, CREATED + MISSING_MAX_SECONDS + 1).0, reason);
            assert!(may_begin(pod));
        }
        let silent = pod(json!({ "phase": "Pending" }));
        let at_its_end = read(&silent, None, CREATED + PENDING_MAX_SECONDS);
        assert_eq!(at_its_end, Run::Running);
        let (reason, message) = failure(&silent, CREATED + PENDING_MAX_SECONDS + 1);
        assert_eq!(reason, Reason::DeadlineExceeded);
        assert!(message.contains("kubectl describe pod p"), "{message}");
    }

    #[test]
    fn a_volume_that_is_missing_is_told_of_for_the_pod() {
        let silent = pod(json!({ "phase": "Pending" }));
        let reason = Reason::NotFound;
        let message = || "there is no Secret a".to_owned();
        let at = |age| read(&silent, Some(message()), CREATED + age);
        let waits = Run::Waiting {
            reason,
            message: message(),
        };
        assert_eq!(at(MISSING_MAX_SECONDS), waits);
        let failed = Run::Failed {
            reason,
            message: message(),
        };
        assert_eq!(at(MISSING_MAX_SECONDS + 1), failed);
    }
}
