//! The cluster's version as entries and tables hold it: etcd's (`3.7.0`), marked where a downgrade
//! asked for it. A release from before downgrades shows the mark, and otherwise goes by the version.

/// What stands behind the version of a downgrade, as build metadata does in a semantic version.
const DOWNGRADE: &str = "+downgrade";

/// The version that clients are told.
pub fn plain(held: &str) -> &str {
    held.strip_suffix(DOWNGRADE).unwrap_or(held)
}

/// The version that a downgrade is to; none where the cluster speaks the version of its members.
pub fn downgrade_target(held: &str) -> Option<&str> {
    held.strip_suffix(DOWNGRADE)
}

/// How the version of a downgrade to `target` is held.
pub fn downgraded(target: &str) -> String {
    format!("{target}{DOWNGRADE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downgrade_is_told_from_a_version() {
        let held = downgraded("3.6.0");
        assert_eq!(
            (plain(&held), downgrade_target(&held)),
            ("3.6.0", Some("3.6.0"))
        );
        assert_eq!((plain("3.7.0"), downgrade_target("3.7.0")), ("3.7.0", None));
    }
}
