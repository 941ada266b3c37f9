//! `import`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Secret, duration};

/// The longest `--wait`.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

fn wait(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        wait if wait <= WAIT_MAX => Ok(wait),
        _ => Err("24h is the longest: begin the import again later instead".into()),
    }
}

/// Copies the keys of a cluster that runs, an etcd's or Engram's, and follows it until both are equal.
///
/// What is copied are keys with their values and leases, as they are; revisions and versions are the
/// target's own, and users and roles stay where they are.
#[derive(Args, Clone, Debug)]
pub struct Import {
    /// Endpoints of the cluster to copy from; --endpoints is the one to copy to
    #[arg(long, value_delimiter = ',', required = true)]
    pub from: Vec<String>,
    /// Verify its certificates with this CA bundle
    #[arg(long)]
    pub from_cacert: Option<PathBuf>,
    /// Show it this TLS certificate
    #[arg(long, requires = "from_key")]
    pub from_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, requires = "from_cert")]
    pub from_key: Option<PathBuf>,
    /// username[:password] there
    #[arg(long)]
    pub from_user: Option<Secret>,
    /// Only keys that begin with this
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// How long to wait until both clusters answer, before anything is done: a day at most. What answers and refuses
    /// (a certificate, a password) is not waited for
    #[arg(long, default_value = "0s", value_parser = wait, value_name = "duration")]
    pub wait: Duration,
    /// Remove what the target has there before; without it a target that has keys is refused
    #[arg(long)]
    pub replace: bool,
    /// End once both are equal. Without it the source is followed until this is interrupted (SIGINT or
    /// SIGTERM), and what it has by then is copied too: stop its clients first
    #[arg(long)]
    pub until_equal: bool,
    /// End once both are equal and this file is there and not empty: what stops the source's clients writes it
    #[arg(long, conflicts_with = "until_equal")]
    pub until_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait("24h"), Ok(WAIT_MAX));
        for absurd in ["25h", "200000000000000h", "5000000000000000h"] {
            assert!(wait(absurd).is_err(), "{absurd}");
        }
    }
}
