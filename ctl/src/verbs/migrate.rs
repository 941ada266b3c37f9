//! `migrate`: etcdutl's, for a directory of Engram's, whose format is one for every version of etcd.

use std::path::Path;

use engram_server::adopt::ETCD_DIR;
use engram_server::storage::Identity;

use crate::cli::Migrate;
use crate::failure::Failure;

/// The version of etcd whose format is spoken.
const OURS: (u64, u64) = (3, 7);
/// The oldest version that etcdutl migrates to.
const OLDEST: (u64, u64) = (3, 5);

/// `migrate`. Changes nothing: says that there is nothing to change, or the way to go.
pub fn migrate(migrate: &Migrate) -> Result<(), Failure> {
    let target = version(&migrate.target_version)?;
    let dir = &migrate.data_dir;
    if !is_ours(dir)? {
        return Err(Failure::new(match dir.join(ETCD_DIR).is_dir() {
            true => format!(
                "{} is an etcd's: migrate it with etcdutl, or start engram on it",
                dir.display()
            ),
            false => format!("{} is no data directory of engram's", dir.display()),
        }));
    }
    if target == OURS {
        eprintln!("storage version up-to-date: {}.{}", target.0, target.1);
        return Ok(());
    }
    Err(Failure::new(format!(
        "engram's directory has one format, and no etcd reads it: for an etcd {}.{}, `engramctl snapshot save` \
         on the running member, then `etcdutl snapshot restore` and `etcdutl migrate` there",
        target.0, target.1
    )))
}

fn is_ours(dir: &Path) -> Result<bool, Failure> {
    std::fs::metadata(dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    Ok(Identity::load(dir).map_err(Failure::new)?.is_some())
}

fn version(text: &str) -> Result<(u64, u64), Failure> {
    let malformed = || {
        Failure::arguments(format!(
            "wrong target version format, expected \"X.Y\", got {text:?}"
        ))
    };
    let (major, minor) = text.split_once('.').ok_or_else(malformed)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| malformed());
    let version = (number(major)?, number(minor)?);
    match version < OLDEST {
        true => Err(Failure::arguments(format!(
            "target version {text:?} not supported. Minimal \"3.5\""
        ))),
        false => Ok(version),
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_etcdutls() {
        assert_eq!(version("3.6").ok(), Some((3, 6)));
        for bad in ["3", "3.6.0", "3.x", "", "3.4", "2.9"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }
}
