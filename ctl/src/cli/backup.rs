//! What is asked of snapshots and backups: etcdutl's flags, and Engram's own.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use engram_backup::format::{Selector, Whose, WhoseError};

use super::duration;

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Store a member's snapshot in a file
    Save {
        /// The file
        filename: PathBuf,
    },
    /// Get the status of a snapshot file
    Status {
        /// The file
        filename: PathBuf,
    },
    /// Make a member's data directory out of a snapshot file of etcd or Engram
    Restore {
        /// The file
        filename: PathBuf,
        /// As whom, and where to.
        #[command(flatten)]
        target: RestoreTarget,
        /// Ignore snapshot integrity hash value (required if copied from data directory)
        #[arg(long)]
        skip_hash_check: bool,
        /// Taken as etcdutl takes it; there is no memory map
        #[arg(long, default_value_t = 0)]
        initial_memory_map_size: u64,
    },
}

/// Whose data directory a restore makes, in etcdutl's words.
#[derive(Args, Debug)]
pub struct RestoreTarget {
    /// Path to the output data directory (default: NAME.etcd)
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Path to the WAL directory; must not be there yet
    #[arg(long)]
    pub wal_dir: Option<PathBuf>,
    /// Human-readable name for this member
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Initial cluster configuration for restore bootstrap
    #[arg(long, default_value = "default=http://localhost:2380")]
    pub initial_cluster: String,
    /// Initial cluster token for the cluster during restore bootstrap
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// List of this member's peer URLs to advertise to the rest of the cluster
    #[arg(long, default_value = "http://localhost:2380")]
    pub initial_advertise_peer_urls: String,
    /// How much to increase the latest revision after restore
    #[arg(long, default_value_t = 0)]
    pub bump_revision: u64,
    /// Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)
    #[arg(long)]
    pub mark_compacted: bool,
}

/// Which store.
#[derive(Args, Debug)]
pub struct StoreFlag {
    /// s3://bucket/prefix?endpoint=…&region=…&allow_http=true (credentials from AWS_*), gs://bucket/prefix
    /// (GOOGLE_*), az://account/container/prefix (AZURE_*), or file:///path
    #[arg(long)]
    pub store: String,
    /// The cluster's name in the store
    #[arg(long)]
    pub cluster: Option<String>,
    /// Which of the clusters of that name: ID, or ID/INCARNATION, as `backup list` shows them
    #[arg(long, value_delimiter = ',', value_parser = str::parse::<Selector>)]
    pub cluster_id: Vec<Selector>,
    /// A file with a key, 32 random bytes in base64 or hexadecimal; may be repeated. The first encrypts
    /// what is written, each decrypts what is read
    #[arg(long)]
    pub encryption_key_file: Vec<PathBuf>,
}

/// `backup`.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Take a full backup
    Create {
        /// Where to.
        #[command(flatten)]
        store: StoreFlag,
        /// The backup's id (default: time and revision)
        #[arg(long)]
        name: Option<String>,
        /// A whole backup of that name that is there already is the result, and no error
        #[arg(long, requires = "name")]
        or_existing: bool,
        /// Who makes it: only `backup prune` with the same owner removes it
        #[arg(long)]
        owner: Option<String>,
        /// A cluster (ID/INCARNATION) that this one began as a restore of: its backups are this one's
        #[arg(long, value_delimiter = ',', value_parser = whose)]
        continues: Vec<Whose>,
        /// Where the snapshot is kept meanwhile (default: the system's temporary directory)
        #[arg(long)]
        scratch_dir: Option<PathBuf>,
    },
    /// List the whole backups
    List {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
    },
    /// Say which backup is meant, and what it is
    Show {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
        /// Its id, or "latest"
        #[arg(long, default_value = "latest")]
        backup: String,
    },
    /// Download a backup, restore it into a scratch directory, compare HashKV with its manifest
    Verify {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
        /// Its id, or "latest"
        #[arg(long, default_value = "latest")]
        backup: String,
        /// Where it is restored (default: the system's temporary directory)
        #[arg(long)]
        scratch_dir: Option<PathBuf>,
    },
    /// Say which keys the backups are encrypted with, and which of these are not given
    Keys {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
    },
    /// Copy a backup to another store, under its name; one that is there already is left alone
    Copy {
        /// Where from.
        #[command(flatten)]
        store: StoreFlag,
        /// Its id, or "latest"
        #[arg(long, default_value = "latest", conflicts_with = "all")]
        backup: String,
        /// Every whole backup, but for those that were not good when they were read back
        #[arg(long)]
        all: bool,
        /// Where to, as --store; with the credentials of variables that begin with TO_ (TO_AWS_ACCESS_KEY_ID),
        /// else with the same ones
        #[arg(long)]
        to: String,
        /// The keys there, as --encryption-key-file (default: the same ones)
        #[arg(long)]
        to_encryption_key_file: Vec<PathBuf>,
        /// What is encrypted here is written there as it was before
        #[arg(long, conflicts_with = "to_encryption_key_file")]
        to_unencrypted: bool,
    },
    /// Remove the backups of one owner and one cluster that the rules do not keep, never the newest
    Prune {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
        /// What is kept.
        #[command(flatten)]
        rules: PruneRules,
        /// Whose backups: those that were made with this owner (default: those made without)
        #[arg(long)]
        owner: Option<String>,
        /// Only tell
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a backup
    Delete {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
        /// Its id
        #[arg(long)]
        backup: String,
    },
}

fn whose(text: &str) -> Result<Whose, WhoseError> {
    Whose::try_from(text.to_owned())
}

/// What `backup prune` keeps.
#[derive(Args, Debug)]
pub struct PruneRules {
    /// Keep the newest N
    #[arg(long, default_value_t = 0)]
    pub keep_last: usize,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, default_value_t = 0)]
    pub hourly: usize,
    /// The same by days
    #[arg(long, default_value_t = 0)]
    pub daily: usize,
    /// The same by weeks
    #[arg(long, default_value_t = 0)]
    pub weekly: usize,
    /// The same by months
    #[arg(long, default_value_t = 0)]
    pub monthly: usize,
    /// Keep all that are not older (72h, 30d)
    #[arg(long, value_parser = duration)]
    pub keep_within: Option<Duration>,
    /// Remove what is older (72h, 30d), whatever else would keep it
    #[arg(long, value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Never go below the newest N
    #[arg(long, default_value_t = 1)]
    pub min_keep: usize,
}

/// A moment in a cluster's history.
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub struct Moment {
    /// The last moment at this revision, out of a full backup and the log archive behind it
    #[arg(long)]
    pub to_revision: Option<i64>,
    /// The last moment not after this time (RFC 3339, 2026-11-29T14:30:00Z), likewise
    #[arg(long, value_parser = time)]
    pub to_time: Option<DateTime<Utc>>,
    /// The last moment in the log archive, likewise
    #[arg(long)]
    pub to_end: bool,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|error| format!("{error}: a time is written like 2026-11-29T14:30:00Z"))
}

/// `archive`.
#[derive(Debug, Subcommand)]
pub enum Archive {
    /// List what can be restored: the chains of the archive, from where to where each goes
    List {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
    },
    /// Read every segment, and compare each with its checksums and with the one before it
    Verify {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
    },
    /// Say which backup and which revision a restore to a moment would make; change nothing
    Plan {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
        /// The full backup to begin with, or "latest": the last one that fits
        #[arg(long, default_value = "latest")]
        backup: String,
        /// Which moment.
        #[command(flatten)]
        moment: Moment,
    },
}

/// `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// Where from.
    #[command(flatten)]
    pub store: StoreFlag,
    /// Its id, or "latest"
    #[arg(long, default_value = "latest")]
    pub backup: String,
    /// Which moment, if not the backup's own.
    #[command(flatten)]
    pub moment: Moment,
    /// As whom, and where to.
    #[command(flatten)]
    pub target: RestoreTarget,
}
