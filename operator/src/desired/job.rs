//! What engramctl is asked to do, in its own words. `operator/tests/engramctl.rs` holds them to what
//! it takes.

use crate::api::Retention;

use super::pod::DATA_DIRECTORY;

/// One thing that engramctl does in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Asks whether the store can be read.
    Probe,
    /// The same, and whether all that is in it can be decrypted.
    Keys,
    /// Says which backup is meant, and what it is.
    Show {
        /// Its ID, or `latest`.
        id: String,
        /// Which of the clusters of that name, where it is said.
        cluster_id: Option<String>,
    },
    /// Says which backup a moment is gone on to from, and what that moment is.
    Plan {
        /// Its ID, or `latest`: the last one that fits.
        id: String,
        /// Which of the clusters of that name, where it is said.
        cluster_id: Option<String>,
        /// The moment, as a flag.
        moment: String,
    },
    /// Takes a backup.
    Create(Create),
    /// Reads a backup back, restores it in a scratch directory and compares it with its manifest.
    Verify {
        /// The ID.
        id: String,
    },
    /// Reads the log archive back.
    VerifyArchive {
        /// Which of the clusters of that name, where it is known.
        cluster_id: Option<String>,
    },
    /// Copies a backup to another store.
    Copy {
        /// The ID.
        id: String,
        /// The other store's URL.
        to: String,
        /// The files with its keys.
        keys: Vec<String>,
    },
    /// Deletes a backup.
    Delete {
        /// The ID.
        id: String,
    },
    /// Deletes what retention does not keep.
    Prune(Prune),
    /// Copies another cluster's keys and follows it.
    Import(Import),
    /// Says what a member's volume holds, which is mounted read-only. It needs no store.
    Inspect {
        /// The claim.
        claim: String,
        /// The node that has it mounted, if any: elsewhere it might not be to be had.
        node: Option<String>,
    },
}

/// What is backed up, by whom, and under what name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// The backup's ID.
    pub id: String,
    /// Members and the Service in front of them: a follower is taken where one answers.
    pub endpoints: Vec<String>,
    /// The schedule that makes it; none: a person.
    pub owner: Option<String>,
    /// The cluster's ID, where it is known: another one that answers there is not backed up.
    pub cluster_id: Option<String>,
    /// The cluster that it was restored from, with its incarnation.
    pub continues: Option<String>,
}

/// What is copied, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The other cluster's endpoints.
    pub from: Vec<String>,
    /// The Secret with how it is spoken to, where it has TLS.
    pub secret: Option<String>,
    /// What the keys begin with.
    pub prefix: String,
    /// The cluster's endpoint.
    pub to: String,
    /// Whether what is there goes before.
    pub replace: bool,
    /// Whether it ends, once both are equal.
    pub cut_over: bool,
}

/// Whose backups are pruned, and what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// The schedule that made them.
    pub owner: String,
    /// The cluster's ID and incarnation, where they are known.
    pub cluster_id: Option<String>,
    /// What is kept.
    pub retention: Retention,
}

/// The program, in the image.
pub const PROGRAM: &str = "/usr/local/bin/engramctl";
/// Where a result is written: Kubernetes keeps it with the pod (the last 4 KiB of it). It is written
/// only where all went well; what went wrong is the log's end.
pub(super) const RESULT: &str = "--result-file=/dev/termination-log";
/// A member's name may be new to DNS, and a node busy: engramctl's own default is 2 s.
const DIAL_TIMEOUT: &str = "--dial-timeout=10s";
/// How long a member may think about a short question: engramctl's own default is 5 s.
const COMMAND_TIMEOUT: &str = "--command-timeout=30s";

/// How long an import waits for both clusters to answer: the Service of one that was made just now has no endpoint
/// yet, and that there is none may be remembered for half a minute.
const IMPORT_WAIT: &str = "--wait=2m";

/// On pods that import: it ends, once both are equal.
pub const CUT_OVER_ANNOTATION: &str = "engram.dev/cut-over";
/// Where that is mounted, as a file.
pub(super) const CUT_OVER: &str = "/etc/engram/import";
pub(super) const CUT_OVER_FILE: &str = "cut-over";
/// Where the files for the cluster that is copied are.
pub(super) const SOURCE_TLS: &str = "/etc/engram/tls/source";

impl Job {
    /// The verb and its flags, without those of the store.
    pub(super) fn words(&self, scratch: &str) -> Vec<String> {
        let words = |verb: &str, more: Vec<String>| {
            let verb = ["backup".to_owned(), verb.to_owned()];
            verb.into_iter().chain(more).collect()
        };
        match self {
            Self::Probe => words("list", Vec::new()),
            Self::Keys => words("keys", Vec::new()),
            Self::Show { id, cluster_id } => words("show", meant(id, cluster_id.as_ref())),
            Self::Plan {
                id,
                cluster_id,
                moment,
            } => {
                let verb = ["archive", "plan"].map(str::to_owned).into_iter();
                let meant = meant(id, cluster_id.as_ref());
                verb.chain(meant).chain([moment.clone()]).collect()
            }
            Self::Create(create) => words("create", made(create, scratch)),
            Self::Verify { id } => {
                let more = [format!("--backup={id}"), format!("--scratch-dir={scratch}")];
                words("verify", more.into())
            }
            Self::VerifyArchive { cluster_id } => {
                let verb = ["archive", "verify"].map(str::to_owned).into_iter();
                let whose = cluster_id.as_ref().map(|id| format!("--cluster-id={id}"));
                verb.chain(whose).collect()
            }
            Self::Copy { id, to, keys } => {
                let own = [format!("--backup={id}"), format!("--to={to}")].into_iter();
                let flag = |key: &String| format!("--to-encryption-key-file={key}");
                let plain = keys.is_empty().then(|| "--to-unencrypted".to_owned());
                words(
                    "copy",
                    own.chain(keys.iter().map(flag)).chain(plain).collect(),
                )
            }
            Self::Delete { id } => words("delete", vec![format!("--backup={id}")]),
            Self::Prune(prune) => words("prune", pruned(prune)),
            Self::Import(import) => imported(import),
            Self::Inspect { .. } => {
                vec!["inspect".into(), format!("--data-dir={DATA_DIRECTORY}")]
            }
        }
    }

    /// Whether it needs the room of a member's database.
    pub(super) fn spools(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Verify { .. })
    }

    /// Whether it speaks to the cluster, and not to the store alone.
    pub(super) fn speaks(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Import(_))
    }

    /// Whether it reads or writes a store.
    pub(super) fn stores(&self) -> bool {
        !matches!(self, Self::Inspect { .. } | Self::Import(_))
    }
}

fn imported(import: &Import) -> Vec<String> {
    // No `..`: a new wish does not compile until it reaches engramctl.
    let Import {
        from,
        secret,
        prefix,
        to,
        replace,
        // Of the pod's annotations, which it has mounted.
        cut_over: _,
    } = import;
    let mut words = vec![
        "import".to_owned(),
        format!("--from={}", from.join(",")),
        format!("--endpoints={to}"),
        format!("--prefix={prefix}"),
        format!("--until-file={CUT_OVER}/{CUT_OVER_FILE}"),
        IMPORT_WAIT.to_owned(),
        DIAL_TIMEOUT.to_owned(),
        COMMAND_TIMEOUT.to_owned(),
    ];
    if secret.is_some() {
        words.push(format!("--from-cacert={SOURCE_TLS}/ca.crt"));
        words.push(format!("--from-cert={SOURCE_TLS}/tls.crt"));
        words.push(format!("--from-key={SOURCE_TLS}/tls.key"));
    }
    words.extend(replace.then(|| "--replace".to_owned()));
    words
}

/// Which backup, of which cluster.
fn meant(id: &str, cluster_id: Option<&String>) -> Vec<String> {
    let whose = cluster_id.map(|id| format!("--cluster-id={id}"));
    std::iter::once(format!("--backup={id}"))
        .chain(whose)
        .collect()
}

fn made(create: &Create, scratch: &str) -> Vec<String> {
    // No `..`: a new wish does not compile until it reaches engramctl.
    let Create {
        id,
        endpoints,
        owner,
        cluster_id,
        continues,
    } = create;
    let mut more = vec![
        format!("--name={id}"),
        // The ID is this backup's own: who made it was lost before it could say so.
        "--or-existing".to_owned(),
        format!("--scratch-dir={scratch}"),
        format!("--endpoints={}", endpoints.join(",")),
        DIAL_TIMEOUT.to_owned(),
        COMMAND_TIMEOUT.to_owned(),
    ];
    let flags = [
        ("owner", owner),
        ("cluster-id", cluster_id),
        ("continues", continues),
    ];
    let given = |(flag, value): (&str, &Option<String>)| {
        value.as_ref().map(|value| format!("--{flag}={value}"))
    };
    more.extend(flags.into_iter().filter_map(given));
    more
}

fn pruned(prune: &Prune) -> Vec<String> {
    let Prune {
        owner,
        cluster_id,
        retention,
    } = prune;
    let mut words = vec![format!("--owner={owner}")];
    words.extend(cluster_id.as_ref().map(|id| format!("--cluster-id={id}")));
    words.extend(kept(retention));
    words
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
