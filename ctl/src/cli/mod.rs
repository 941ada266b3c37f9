//! The command line: etcdctl's verbs and flags, and Engram's own.
//!
//! As etcdctl does, it takes a verb by as much of its beginning as is not another's (`compact`), and
//! a flag that is true or false with or without its value (`--prefix`, `--prefix=false`).

mod adopt;
mod auth;
mod backup;
mod cluster;
mod duration;
mod kv;
mod switches;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

pub use self::adopt::Adopt;
pub use self::auth::{Auth, Keys, Permission, Role, Secret, User};
pub use self::backup::{
    Archive, Backup, Moment, PruneRules, Restore, RestoreTarget, Snapshot, StoreFlag,
};
pub use self::cluster::{Alarm, ClusterScope, Endpoint, Lease, Member};
pub use self::duration::duration;
pub use self::kv::{Compaction, Del, Get, Order, Put, Request, SortBy, Txn, Watch};

/// etcdctl's and etcdutl's verbs for Engram and etcd, and Engram's backups.
#[derive(Debug, Parser)]
#[command(
    name = "engramctl",
    disable_version_flag = true,
    infer_subcommands = true
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads a command line whose first word is the program's name.
    ///
    /// # Errors
    /// What it cannot mean, and what it could; or the help that was asked for.
    pub fn read<W>(words: impl IntoIterator<Item = W>) -> Result<Cli, clap::Error>
    where
        W: Into<OsString> + Clone,
    {
        let command = switches::as_in_go(Cli::command());
        let matches = command.try_get_matches_from(words)?;
        Cli::from_arg_matches(&matches)
    }
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
    /// username[:password] for authentication (prompt if password is not supplied)
    #[arg(
        id = "who",
        long = "user",
        global = true,
        env = "ETCDCTL_USER",
        hide_env_values = true
    )]
    pub user: Option<Secret>,
    /// Password for authentication (if this option is used, --user option shouldn't include password)
    #[arg(
        id = "whose_password",
        long = "password",
        global = true,
        env = "ETCDCTL_PASSWORD",
        hide_env_values = true
    )]
    pub password: Option<Secret>,
    /// JWT token used for authentication
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_AUTH_JWT_TOKEN",
        hide_env_values = true,
        conflicts_with = "who"
    )]
    pub auth_jwt_token: Option<Secret>,
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
    Txn(Txn),
    /// Watch events on keys
    Watch(Watch),
    /// Lease related commands
    Lease {
        /// Which.
        #[command(subcommand)]
        command: Lease,
    },
    /// Enable or disable authentication
    Auth {
        /// Which.
        #[command(subcommand)]
        command: Auth,
    },
    /// User related commands
    User {
        /// Which.
        #[command(subcommand)]
        command: User,
    },
    /// Role related commands
    Role {
        /// Which.
        #[command(subcommand)]
        command: Role,
    },
    /// Compact the event history
    Compaction(Compaction),
    /// Defragment the storage of the members with the given endpoints
    Defrag(ClusterScope),
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
    /// The log archive beside the backups: every revision, as members write it with --archive-url
    Archive {
        /// What about it.
        #[command(subcommand)]
        command: Archive,
    },
    /// Backups in an object store or a directory
    Backup {
        /// Which.
        #[command(subcommand)]
        command: Backup,
    },
    /// Make a member's data directory out of a backup
    Restore(Restore),
    /// Tell what was adopted of an etcd's data directory, and remove etcd's files from it
    Adopt(Adopt),
    /// Print the version
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        switches::as_in_go(Cli::command()).debug_assert();
    }

    #[test]
    fn flags_stand_before_or_behind_the_verb() {
        let parse = |line: &str| Cli::read(line.split(' ')).map(|cli| cli.global.endpoints);
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

    #[test]
    fn verbs_may_be_cut_short_where_they_stay_clear() {
        let read = |line: &str| Cli::read(line.split(' ')).map(|cli| cli.command);
        assert!(matches!(
            read("engramctl compact 7"),
            Ok(Command::Compaction(Compaction { revision: 7, .. }))
        ));
        assert!(matches!(
            read("engramctl end stat"),
            Ok(Command::Endpoint {
                command: Endpoint::Status(_)
            })
        ));
        assert!(read("engramctl m list").is_err(), "member or move-leader");
    }

    #[test]
    fn a_switch_may_have_its_value() {
        let is_prefix = |line: &str| match Cli::read(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Get(get)) => Some(get.prefix),
            _ => None,
        };
        assert_eq!(is_prefix("engramctl get k"), Some(false));
        assert_eq!(is_prefix("engramctl get k --prefix"), Some(true));
        assert_eq!(is_prefix("engramctl get --prefix k"), Some(true));
        assert_eq!(is_prefix("engramctl get k --prefix=true"), Some(true));
        assert_eq!(is_prefix("engramctl get k --prefix=0"), Some(false));
        assert_eq!(is_prefix("engramctl get k --prefix=maybe"), None);
        let twice = "engramctl get --prefix k --prefix=false";
        assert_eq!(is_prefix(twice), Some(false), "the last one counts");
        let skips =
            |line: &str| Cli::read(line.split(' ')).map(|cli| cli.global.insecure_skip_tls_verify);
        assert_eq!(
            skips("engramctl get k --insecure-skip-tls-verify=true").ok(),
            Some(true)
        );
        assert_eq!(skips("engramctl get k").ok(), Some(false));
    }
}
