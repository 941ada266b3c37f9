//! What is asked of members and leases: etcdctl's flags.

use clap::{Args, Subcommand};

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
    Health,
    /// Print out the status of endpoints
    Status,
    /// Print the KV history hash for each endpoint
    Hashkv {
        /// Maximum revision to hash (default: latest revision)
        #[arg(long, default_value_t = 0)]
        rev: i64,
    },
}

/// Which endpoints.
#[derive(Args, Debug)]
pub struct ClusterScope {
    /// Use all endpoints from the cluster member list
    #[arg(long, global = true)]
    pub cluster: bool,
}

/// `downgrade`.
#[derive(Debug, Subcommand)]
pub enum Downgrade {
    /// Validate downgrade capability before starting downgrade
    Validate {
        /// To which version, as 3.6
        target_version: String,
    },
    /// Start a downgrade action to cluster
    Enable {
        /// To which version, as 3.6
        target_version: String,
    },
    /// Cancel the ongoing downgrade action to cluster
    Cancel,
}

/// `member`.
#[derive(Debug, Subcommand)]
pub enum Member {
    /// List all members in the cluster
    List {
        /// Linearizable (l) or serializable (s)
        #[arg(long, default_value = "l", value_parser = ["l", "s"])]
        consistency: String,
    },
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
