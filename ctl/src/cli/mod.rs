//! The command line: etcdctl's verbs and flags, and Engram's own.
//!
//! As etcdctl does, it takes a verb by as much of its beginning as is not another's (`compact`), and
//! a flag that is true or false with or without its value (`--prefix`, `--prefix=false`).

mod adopt;
mod auth;
mod backup;
mod check;
mod cluster;
mod directory;
mod duration;
mod endpoints;
mod global;
mod import;
mod kv;
mod mirror;
mod offline;
mod session;
mod switches;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

pub use self::adopt::Adopt;
pub use self::auth::{Auth, Keys, Permission, Role, Secret, User};
pub use self::backup::{
    Archive, Backup, Moment, PruneRules, Restore, RestoreTarget, Snapshot, StoreFlag,
};
pub use self::check::{Check, Load, Workload};
pub use self::cluster::{Alarm, ClusterScope, Downgrade, Endpoint, Lease, Member};
pub use self::directory::{ForceNewCluster, Inspect};
pub use self::duration::duration;
pub use self::global::{Format, Global};
pub use self::import::Import;
pub use self::kv::{Compaction, Del, Get, Order, Put, Request, SortBy, Txn, Watch, WatchLine};
pub use self::mirror::Mirror;
pub use self::offline::{Defrag, HashKv, Migrate};
pub use self::session::{Elect, Lock};

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
        let words = words.into_iter().map(Into::into).collect();
        let matches = Cli::words().try_get_matches_from(endpoints::gathered(words))?;
        Cli::from_arg_matches(&matches)
    }

    /// The verbs and flags there are.
    pub fn words() -> clap::Command {
        switches::as_in_go(Cli::command())
    }
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
    /// Defragment the storage of the members with the given endpoints, or of a directory
    Defrag(Defrag),
    /// Alarm related commands
    Alarm {
        /// Which.
        #[command(subcommand)]
        command: Alarm,
    },
    /// Acquire a named lock
    Lock(Lock),
    /// Observe and participate in a leader election
    Elect(Elect),
    /// Make a mirror at the destination cluster
    MakeMirror(Mirror),
    /// Check properties of the cluster
    Check {
        /// Which.
        #[command(subcommand)]
        command: Check,
    },
    /// Downgrade related commands
    Downgrade {
        /// Which.
        #[command(subcommand)]
        command: Downgrade,
    },
    /// Print the KV history hash of a snapshot file
    Hashkv(HashKv),
    /// Tell what a data directory's format is to another version of etcd
    Migrate(Migrate),
    /// Transfer leadership to another member
    MoveLeader {
        /// The member's id, hexadecimal
        target: String,
    },
    /// Endpoint related commands
    Endpoint {
        /// Which endpoints.
        #[command(flatten)]
        scope: ClusterScope,
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
    /// Copy the keys of a cluster that runs, and follow it until both are equal
    Import(Import),
    /// Tell what a member's data directory holds, without changing it
    Inspect(Inspect),
    /// Make a member that does not run the only one of its cluster, with all that its log holds
    ForceNewCluster(ForceNewCluster),
    /// Generate a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
    /// Show the global command-line flags
    Options,
    /// Print the version
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::words().debug_assert();
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
        assert_eq!(
            parse("engramctl --endpoints=a:1 get k --endpoints=b:2").ok(),
            Some(vec!["a:1".to_owned(), "b:2".to_owned()])
        );
        assert!(
            parse("engramctl --cert=x get k").is_err(),
            "a certificate needs its key"
        );
    }

    #[test]
    fn too_many_arguments_and_verbs_that_are_none_are_refused() {
        for line in [
            "engramctl get a b c",
            "engramctl put k v w",
            "engramctl defrag x",
            "engramctl lease",
            "engramctl lease foo",
        ] {
            assert!(Cli::read(line.split(' ')).is_err(), "{line}");
        }
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
                command: Endpoint::Status,
                ..
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
        let is_plain = |value: &str| {
            let line = format!("engramctl get k --insecure-transport={value}");
            Cli::read(line.split(' ')).map(|cli| cli.global.insecure_transport)
        };
        assert_eq!(is_plain("0").ok(), Some(false));
        assert_eq!(is_plain("T").ok(), Some(true));
        assert!(is_plain("no").is_err());
        let skips =
            |line: &str| Cli::read(line.split(' ')).map(|cli| cli.global.insecure_skip_tls_verify);
        assert_eq!(
            skips("engramctl get k --insecure-skip-tls-verify=true").ok(),
            Some(true)
        );
        assert_eq!(skips("engramctl get k").ok(), Some(false));
    }
}
