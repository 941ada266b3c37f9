//! What engramctl is asked to do, in its own words. `operator/tests/engramctl.rs` holds them to what
//! it takes.

use crate::api::Retention;

/// One thing that engramctl does in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Asks whether the store can be read.
    Probe,
    /// Takes a backup, by this ID.
    Create {
        /// The ID.
        id: String,
        /// Members and the Service in front of them: a follower is taken where one answers.
        endpoints: Vec<String>,
    },
    /// Reads a backup back, restores it in a scratch directory and compares it with its manifest.
    Verify {
        /// The ID.
        id: String,
    },
    /// Deletes a backup.
    Delete {
        /// The ID.
        id: String,
    },
    /// Deletes what retention does not keep.
    Prune(Retention),
}

/// The program, in the image.
pub(super) const PROGRAM: &str = "/usr/local/bin/engramctl";
/// Where a result is written: Kubernetes keeps it with the pod (the last 4 KiB of it). It is written
/// only where all went well; what went wrong is the log's end.
pub(super) const RESULT: &str = "--result-file=/dev/termination-log";
/// A member's name may be new to DNS, and a node busy: engramctl's own default is 2 s.
const DIAL_TIMEOUT: &str = "--dial-timeout=10s";
/// How long a member may think about a short question: engramctl's own default is 5 s.
const COMMAND_TIMEOUT: &str = "--command-timeout=30s";

impl Job {
    /// The verb and its flags, without those of the store.
    pub(super) fn words(&self, scratch: &str) -> Vec<String> {
        let words = |verb: &str, more: Vec<String>| {
            let verb = ["backup".to_owned(), verb.to_owned()];
            verb.into_iter().chain(more).collect()
        };
        match self {
            Self::Probe => words("list", Vec::new()),
            Self::Create { id, endpoints } => {
                let more = [
                    format!("--name={id}"),
                    // The ID is this backup's own: who made it was lost before it could say so.
                    "--or-existing".to_owned(),
                    format!("--scratch-dir={scratch}"),
                    format!("--endpoints={}", endpoints.join(",")),
                    DIAL_TIMEOUT.to_owned(),
                    COMMAND_TIMEOUT.to_owned(),
                ];
                words("create", more.into())
            }
            Self::Verify { id } => {
                let more = [format!("--backup={id}"), format!("--scratch-dir={scratch}")];
                words("verify", more.into())
            }
            Self::Delete { id } => words("delete", vec![format!("--backup={id}")]),
            Self::Prune(retention) => words("prune", kept(retention)),
        }
    }

    /// Whether it speaks to the cluster, and not to the store alone.
    pub(super) fn speaks(&self) -> bool {
        matches!(self, Self::Create { .. })
    }
}

/// What is kept, in engramctl's words: the same rules, of which each keeps what it keeps.
fn kept(retention: &Retention) -> Vec<String> {
    // No `..`: a new rule does not compile until it reaches engramctl.
    let Retention {
        keep_last,
        keep_within,
        hourly,
        daily,
        weekly,
        monthly,
    } = retention;
    let counts = [
        ("keep-last", keep_last),
        ("hourly", hourly),
        ("daily", daily),
        ("weekly", weekly),
        ("monthly", monthly),
    ];
    let counts = counts
        .into_iter()
        .filter_map(|(flag, count)| count.map(|count| format!("--{flag}={count}")));
    let within = keep_within
        .as_ref()
        .map(|time| format!("--keep-within={time}"));
    counts.chain(within).collect()
}
