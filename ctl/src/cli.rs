//! The command line: etcdctl's verbs and flags, and Engram's own.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// etcdctl's and etcdutl's verbs for Engram and etcd, and Engram's backups.
#[derive(Debug, Parser)]
#[command(name = "engramctl", disable_version_flag = true)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people and simple scripts.
    Simple,
    /// For programs.
    Json,
    /// A table, where there are rows and columns.
    Table,
}

/// What holds for every verb.
#[derive(Args, Debug)]
pub struct Global {
    /// gRPC endpoints
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    pub endpoints: Vec<String>,
    /// Verify certificates of TLS-enabled servers using this CA bundle
    #[arg(long, global = true, env = "ETCDCTL_CACERT")]
    pub cacert: Option<PathBuf>,
    /// Identify this client using this TLS certificate file
    #[arg(long, global = true, env = "ETCDCTL_CERT", requires = "tls_key")]
    pub cert: Option<PathBuf>,
    /// Identify this client using this TLS key file
    #[arg(
        id = "tls_key",
        long = "key",
        global = true,
        env = "ETCDCTL_KEY",
        requires = "cert"
    )]
    pub key: Option<PathBuf>,
    /// Skip verification of the server's certificate (for tests only)
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY")]
    pub insecure_skip_tls_verify: bool,
    /// Dial timeout for client connections
    #[arg(long, global = true, env = "ETCDCTL_DIAL_TIMEOUT", default_value = "2s", value_parser = duration)]
    pub dial_timeout: Duration,
    /// Timeout for short running commands (excluding dial timeout)
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub command_timeout: Duration,
    /// The output format
    #[arg(
        short,
        long,
        global = true,
        env = "ETCDCTL_WRITE_OUT",
        default_value = "simple"
    )]
    pub write_out: Format,
    /// Write the result as JSON to this file as well (a pod's termination log)
    #[arg(long, global = true)]
    pub result_file: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Get the key or a range of keys
    Get(Get),
    /// Put the given key into the store
    Put(Put),
    /// Remove the specified key or range of keys
    Del(Del),
    /// Process all the requests of standard input in one transaction
    Txn,
    /// Watch events on keys
    Watch(Watch),
    /// Lease related commands
    Lease {
        /// Which.
        #[command(subcommand)]
        command: Lease,
    },
    /// Compact the event history
    Compaction(Compaction),
    /// Defragment the storage of the members with the given endpoints
    Defrag,
    /// Alarm related commands
    Alarm {
        /// Which.
        #[command(subcommand)]
        command: Alarm,
    },
    /// Transfer leadership to another member
    MoveLeader {
        /// The member's id, hexadecimal
        target: String,
    },
    /// Endpoint related commands
    Endpoint {
        /// Which.
        #[command(subcommand)]
        command: Endpoint,
    },
    /// Membership related commands
    Member {
        /// Which.
        #[command(subcommand)]
        command: Member,
    },
    /// Snapshots in etcd's own format
    Snapshot {
        /// Which.
        #[command(subcommand)]
        command: Snapshot,
    },
    /// Backups in an object store or a directory
    Backup {
        /// Which.
        #[command(subcommand)]
        command: Backup,
    },
    /// Make a member's data directory out of a backup
    Restore(Restore),
    /// Print the version
    Version,
}

/// `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// The key
    pub key: Option<String>,
    /// The end of the range, exclusive
    pub range_end: Option<String>,
    /// Get keys with matching prefix
    #[arg(long)]
    pub prefix: bool,
    /// Get keys that are greater than or equal to the given key
    #[arg(long)]
    pub from_key: bool,
    /// Specify the revision
    #[arg(long, default_value_t = 0)]
    pub rev: i64,
    /// Maximum number of results
    #[arg(long, default_value_t = 0)]
    pub limit: i64,
    /// Get only the keys
    #[arg(long)]
    pub keys_only: bool,
    /// Get only the count
    #[arg(long)]
    pub count_only: bool,
    /// Only write values when using the "simple" output format
    #[arg(long)]
    pub print_value_only: bool,
    /// Linearizable (l) or serializable (s)
    #[arg(long, default_value = "l", value_parser = ["l", "s"])]
    pub consistency: String,
}

/// `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// The key
    pub key: String,
    /// The value; standard input if there is none
    #[arg(allow_hyphen_values = true)]
    pub value: Option<String>,
    /// Lease ID (in hexadecimal) to attach to the key
    #[arg(long, default_value = "0")]
    pub lease: String,
    /// Return the previous key-value pair before modification
    #[arg(long)]
    pub prev_kv: bool,
    /// Updates the key using its current value
    #[arg(long)]
    pub ignore_value: bool,
    /// Updates the key using its current lease
    #[arg(long)]
    pub ignore_lease: bool,
}

/// `del`.
#[derive(Args, Debug)]
pub struct Del {
    /// The key
    pub key: String,
    /// The end of the range, exclusive
    pub range_end: Option<String>,
    /// Delete keys with matching prefix
    #[arg(long)]
    pub prefix: bool,
    /// Delete keys that are greater than or equal to the given key
    #[arg(long)]
    pub from_key: bool,
    /// Return deleted key-value pairs
    #[arg(long)]
    pub prev_kv: bool,
}

/// `watch`.
#[derive(Args, Debug)]
pub struct Watch {
    /// The key
    pub key: String,
    /// The end of the range, exclusive
    pub range_end: Option<String>,
    /// Watch on a prefix
    #[arg(long)]
    pub prefix: bool,
    /// Revision to start watching
    #[arg(long, default_value_t = 0)]
    pub rev: i64,
    /// Get the previous key-value pair before the event happens
    #[arg(long)]
    pub prev_kv: bool,
}

/// `lease`.
#[derive(Debug, Subcommand)]
pub enum Lease {
    /// Create leases
    Grant {
        /// The time to live in seconds
        ttl: i64,
    },
    /// Revoke leases
    Revoke {
        /// The lease's id, hexadecimal
        id: String,
    },
    /// Keep leases alive (renew)
    KeepAlive {
        /// The lease's id, hexadecimal
        id: String,
        /// Resets the keep-alive time to its original value and exits immediately
        #[arg(long)]
        once: bool,
    },
    /// Get lease information
    Timetolive {
        /// The lease's id, hexadecimal
        id: String,
        /// Get keys attached to this lease
        #[arg(long)]
        keys: bool,
    },
    /// List all active leases
    List,
}

/// `compaction`.
#[derive(Args, Debug)]
pub struct Compaction {
    /// The revision
    pub revision: i64,
    /// Wait until the space is reclaimed
    #[arg(long)]
    pub physical: bool,
}

/// `alarm`.
#[derive(Debug, Subcommand)]
pub enum Alarm {
    /// List all alarms
    List,
    /// Disarm all alarms
    Disarm,
}

/// `endpoint`.
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Check the healthiness of endpoints
    Health(EndpointScope),
    /// Print out the status of endpoints
    Status(EndpointScope),
    /// Print the KV history hash for each endpoint
    Hashkv {
        /// Which endpoints.
        #[command(flatten)]
        scope: EndpointScope,
        /// Maximum revision to hash (default: latest revision)
        #[arg(long, default_value_t = 0)]
        rev: i64,
    },
}

/// Which endpoints.
#[derive(Args, Debug)]
pub struct EndpointScope {
    /// Use all endpoints from the cluster member list
    #[arg(long)]
    pub cluster: bool,
}

/// `member`.
#[derive(Debug, Subcommand)]
pub enum Member {
    /// List all members in the cluster
    List,
    /// Add a member into the cluster
    Add {
        /// Its name
        name: String,
        /// Comma separated peer URLs for the new member
        #[arg(long, value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
        /// The new member is a learner
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member from the cluster
    Remove {
        /// Its id, hexadecimal
        id: String,
    },
    /// Update a member in the cluster
    Update {
        /// Its id, hexadecimal
        id: String,
        /// Comma separated peer URLs for the updated member
        #[arg(long, value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
    },
    /// Promote a non-voting member in the cluster
    Promote {
        /// Its id, hexadecimal
        id: String,
    },
}

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
    /// s3://bucket/prefix?endpoint=…&region=…&allow_http=true (credentials from AWS_*), or file:///path
    #[arg(long)]
    pub store: String,
    /// The cluster's name in the store
    #[arg(long)]
    pub cluster: Option<String>,
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
    /// Remove the backups that the rules do not keep, never the newest
    Prune {
        /// Where.
        #[command(flatten)]
        store: StoreFlag,
        /// What is kept.
        #[command(flatten)]
        rules: PruneRules,
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
    /// Remove what is older (72h, 30d), whatever else would keep it
    #[arg(long, value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Never go below the newest N
    #[arg(long, default_value_t = 1)]
    pub min_keep: usize,
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
    /// As whom, and where to.
    #[command(flatten)]
    pub target: RestoreTarget,
}

/// A duration as Go writes it (`1h30m`, `250ms`), and days (`7d`).
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, behind) = rest.split_at(digits.ok_or_else(invalid)?);
        let unit_end = behind.find(|c: char| c.is_ascii_digit());
        let (unit, next) = behind.split_at(unit_end.unwrap_or(behind.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = next;
    }
    match text.is_empty() {
        true => Err(invalid()),
        false => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in [
            "",
            "5",
            "s",
            "1x",
            "-1s",
            "1e400h",
            "9999999999999999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_stand_before_or_behind_the_verb() {
        let parse =
            |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.global.endpoints);
        let wanted = vec!["a:1".to_owned(), "b:2".to_owned()];
        assert_eq!(
            parse("engramctl --endpoints=a:1,b:2 get k").ok(),
            Some(wanted.clone())
        );
        assert_eq!(
            parse("engramctl get k --endpoints a:1,b:2").ok(),
            Some(wanted)
        );
        assert!(
            parse("engramctl --cert=x get k").is_err(),
            "a certificate needs its key"
        );
    }
}
