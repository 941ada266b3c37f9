//! What is asked of keys: etcdctl's flags.

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use super::switches;

/// `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// The key
    pub key: Option<OsString>,
    /// The end of the range, exclusive
    pub range_end: Option<OsString>,
    /// Get keys with matching prefix
    #[arg(long)]
    pub prefix: bool,
    /// Get keys that are greater than or equal to the given key
    #[arg(long)]
    pub from_key: bool,
    /// Specify the revision
    #[arg(long, default_value_t = 0)]
    pub rev: i64,
    /// Order of results; ASCEND or DESCEND (ASCEND by default)
    #[arg(long, ignore_case = true)]
    pub order: Option<Order>,
    /// Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION
    #[arg(long, ignore_case = true)]
    pub sort_by: Option<SortBy>,
    /// Maximum number of results
    #[arg(long, default_value_t = 0)]
    pub limit: i64,
    /// Get only the keys
    #[arg(long)]
    pub keys_only: bool,
    /// Get only the count
    #[arg(long)]
    pub count_only: bool,
    /// Minimum create revision
    #[arg(long, default_value_t = 0)]
    pub min_create_rev: i64,
    /// Maximum create revision
    #[arg(long, default_value_t = 0)]
    pub max_create_rev: i64,
    /// Minimum modification revision
    #[arg(long, default_value_t = 0)]
    pub min_mod_rev: i64,
    /// Maximum modification revision
    #[arg(long, default_value_t = 0)]
    pub max_mod_rev: i64,
    /// Only write values when using the "simple" output format
    #[arg(long)]
    pub print_value_only: bool,
    /// Linearizable (l) or serializable (s)
    #[arg(long, default_value = "l", value_parser = ["l", "s"])]
    pub consistency: String,
    /// Use the RangeStream RPC
    #[arg(long)]
    pub stream: bool,
}

/// `--order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Order {
    /// The smallest first.
    Ascend,
    /// The largest first.
    Descend,
}

/// `--sort-by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum SortBy {
    /// The revision of the key's creation.
    Create,
    /// The key.
    Key,
    /// The revision of the key's last change.
    Modify,
    /// The value.
    Value,
    /// How often the key was changed since its creation.
    Version,
}

/// `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// The key
    pub key: OsString,
    /// The value; standard input if there is none
    #[arg(allow_hyphen_values = true)]
    pub value: Option<OsString>,
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
    pub key: OsString,
    /// The end of the range, exclusive
    pub range_end: Option<OsString>,
    /// Delete keys with matching prefix
    #[arg(long)]
    pub prefix: bool,
    /// Delete keys that are greater than or equal to the given key
    #[arg(long)]
    pub from_key: bool,
    /// Delete a range of keys without two seconds to think about it
    #[arg(long)]
    pub range: bool,
    /// Return deleted key-value pairs
    #[arg(long)]
    pub prev_kv: bool,
}

/// `txn`.
#[derive(Args, Debug)]
pub struct Txn {
    /// Say what is read next
    #[arg(short, long)]
    pub interactive: bool,
}

/// A request within a transaction, with the flags that it has outside.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub enum Request {
    /// Get the key or a range of keys
    Get(Get),
    /// Put the given key into the store
    Put(Put),
    /// Remove the specified key or range of keys
    Del(Del),
}

impl Request {
    /// Reads the words of a transaction's line.
    ///
    /// # Errors
    /// What they cannot mean.
    pub fn read(words: Vec<OsString>) -> Result<Request, clap::Error> {
        let command = switches::as_in_go(Request::command());
        let matches = command.try_get_matches_from(words)?;
        Request::from_arg_matches(&matches)
    }
}

/// `watch`.
#[derive(Args, Clone, Debug, Default)]
pub struct Watch {
    /// The key (default: ETCDCTL_WATCH_KEY)
    pub key: Option<OsString>,
    /// The end of the range, exclusive (default: ETCDCTL_WATCH_RANGE_END)
    pub range_end: Option<OsString>,
    /// Read watches, and requests for progress, from standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Watch on a prefix
    #[arg(long)]
    pub prefix: bool,
    /// Revision to start watching
    #[arg(long, default_value_t = 0)]
    pub rev: i64,
    /// Get the previous key-value pair before the event happens
    #[arg(long)]
    pub prev_kv: bool,
    /// Get periodic watch progress notifications from the server
    #[arg(long)]
    pub progress_notify: bool,
    /// What is executed for every event
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// A line of `watch --interactive`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub enum WatchLine {
    /// Watch events on keys
    Watch(Watch),
    /// Ask how far the watches are
    Progress,
}

impl WatchLine {
    /// Reads the words of a line.
    ///
    /// # Errors
    /// What they cannot mean.
    pub fn read(words: Vec<OsString>) -> Result<WatchLine, clap::Error> {
        let command = switches::as_in_go(WatchLine::command());
        let matches = command.try_get_matches_from(words)?;
        WatchLine::from_arg_matches(&matches)
    }
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
