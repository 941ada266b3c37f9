//! `make-mirror`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::Secret;

/// What is mirrored, and where to.
#[derive(Args, Debug)]
pub struct Mirror {
    /// The endpoint of the cluster that becomes the mirror
    pub destination: String,
    /// Key-value prefix to mirror
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Specify the kv revision to start to mirror
    #[arg(long, default_value_t = 0)]
    pub rev: i64,
    /// Maximum number of operations permitted in a transaction during syncing updates
    #[arg(long, default_value_t = 128)]
    pub max_txn_ops: usize,
    /// Mirror a prefix to a different prefix in the destination cluster
    #[arg(long, default_value = "")]
    pub dest_prefix: String,
    /// Mirror key-values to the root of the destination cluster
    #[arg(long)]
    pub no_dest_prefix: bool,
    /// Identify secure client using this TLS certificate file for the destination cluster
    #[arg(long, requires = "dest_key")]
    pub dest_cert: Option<PathBuf>,
    /// Identify secure client using this TLS key file
    #[arg(long, requires = "dest_cert")]
    pub dest_key: Option<PathBuf>,
    /// Verify certificates of TLS enabled secure servers using this CA bundle
    #[arg(long)]
    pub dest_cacert: Option<PathBuf>,
    /// Disable transport security for client connections
    #[arg(
        long,
        default_value = "true",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub dest_insecure_transport: bool,
    /// Destination username[:password] for authentication (prompt if password is not supplied)
    #[arg(long)]
    pub dest_user: Option<Secret>,
    /// Destination password for authentication (if this option is used, --dest-user option shouldn't include password)
    #[arg(long)]
    pub dest_password: Option<Secret>,
}
