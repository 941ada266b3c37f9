//! Which of the clusters that had an id one after the other a backup is of. Pure.
//!
//! A cluster's id comes from its members' names and addresses and its token: made again with the same
//! flags it has the same one, and so has a member that was set back to an older state. Its history
//! tells them apart: it holds the very records that the last backup ended with, or it is another one.

use std::collections::BTreeMap;

use crate::format::{FIRST, Manifest, Whose};

/// What a backup that is being taken shows of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Its revision.
    pub(crate) revision: i64,
    /// Up to where it is compacted; -1 if it never was.
    pub(crate) compacted: i64,
    /// SHA-256 of the records of revisions that were asked for, by revision.
    pub(crate) digests: BTreeMap<i64, String>,
}

/// Whether a history goes on where a backup's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Continuity {
    /// It does not.
    Broken,
    /// It may: the records that would tell were compacted, or the backup does not know its own.
    Possible,
    /// It does.
    Proven,
}

impl History {
    fn continues(&self, backup: &Manifest) -> Continuity {
        if backup.revision > self.revision {
            return Continuity::Broken;
        }
        let Some(records) = backup.last_records.as_ref() else {
            return Continuity::Possible;
        };
        match self.digests.get(&backup.revision) {
            Some(found) if found == records => Continuity::Proven,
            _ if backup.revision > self.compacted => Continuity::Broken,
            // A compaction may have taken some of them, or all.
            _ => Continuity::Possible,
        }
    }
}

/// The backups that end the known histories of a cluster's id: the newest of each incarnation.
pub(crate) fn ends<'m>(
    backups: impl IntoIterator<Item = &'m Manifest>,
    cluster_id: &str,
) -> Vec<&'m Manifest> {
    let mut newest: BTreeMap<&str, &Manifest> = BTreeMap::new();
    for backup in backups
        .into_iter()
        .filter(|one| one.cluster_id == cluster_id)
    {
        let end = newest.entry(&backup.incarnation).or_insert(backup);
        if (backup.revision, &backup.created_at) > (end.revision, &end.created_at) {
            *end = backup;
        }
    }
    newest.into_values().collect()
}

/// Whose a backup with this history is, after the [`ends`] of the known ones; `fresh` names an
/// incarnation of its own. With it, what it is known to be a restore of.
pub(crate) fn whose(
    cluster_id: &str,
    ends: &[&Manifest],
    history: &History,
    fresh: &str,
) -> (Whose, Vec<Whose>) {
    let graded = ends.iter().map(|end| (history.continues(end), *end));
    let fitting = graded.filter(|(continuity, _)| *continuity > Continuity::Broken);
    let best = fitting.max_by_key(|(continuity, end)| (*continuity, end.created_at.clone()));
    let (incarnation, continues) = match best {
        Some((_, end)) => (end.incarnation.clone(), end.continues.clone()),
        None if ends.is_empty() => (FIRST.to_owned(), vec![]),
        None => (fresh.to_owned(), vec![]),
    };
    let whose = Whose {
        cluster_id: cluster_id.to_owned(),
        incarnation,
    };
    (whose, continues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::sample;

    fn backup(incarnation: &str, revision: i64, records: Option<&str>) -> Manifest {
        let mut manifest = sample("a", &format!("2026-01-02T00:{:02}:00Z", revision % 60));
        manifest.incarnation = incarnation.into();
        manifest.revision = revision;
        manifest.last_records = records.map(str::to_owned);
        manifest
    }

    fn history(revision: i64, compacted: i64, digests: &[(i64, &str)]) -> History {
        let digests = digests.iter();
        History {
            revision,
            compacted,
            digests: digests.map(|(at, sum)| (*at, (*sum).to_owned())).collect(),
        }
    }

    fn incarnation(backups: &[Manifest], history: &History) -> String {
        let id = "cdf818194e3a8c32";
        whose(id, &ends(backups, id), history, "new").0.incarnation
    }

    #[test]
    fn a_history_that_goes_on_is_the_same_clusters() {
        let one = [backup("0", 40, Some("x"))];
        assert_eq!(incarnation(&[], &history(40, -1, &[])), "0");
        assert_eq!(incarnation(&one, &history(40, -1, &[(40, "x")])), "0");
        assert_eq!(incarnation(&one, &history(60, -1, &[(40, "x")])), "0");
        assert_eq!(
            incarnation(&one, &history(60, 50, &[])),
            "0",
            "compacted since"
        );
        let half = history(60, 50, &[(40, "y")]);
        assert_eq!(incarnation(&one, &half), "0", "one of two was compacted");
        let old_format = [backup("0", 40, None)];
        assert_eq!(incarnation(&old_format, &history(60, -1, &[])), "0");
    }

    #[test]
    fn a_cluster_that_was_made_again_or_set_back_is_another_one() {
        let one = [backup("0", 40, Some("x"))];
        assert_eq!(
            incarnation(&one, &history(3, -1, &[])),
            "new",
            "it is younger"
        );
        assert_eq!(incarnation(&one, &history(60, -1, &[(40, "y")])), "new");
        assert_eq!(
            incarnation(&one, &history(60, -1, &[])),
            "new",
            "revision 40 was jumped over"
        );
        // Of two, the one whose records it has; one that merely may be does not win by its age.
        let two = [backup("0", 50, Some("x")), backup("b", 41, Some("y"))];
        assert_eq!(
            incarnation(&two, &history(60, -1, &[(50, "z"), (41, "y")])),
            "b"
        );
        assert_eq!(incarnation(&two, &history(60, 41, &[(41, "y")])), "b");
        let unsure = [backup("0", 30, Some("x")), backup("b", 41, Some("y"))];
        assert_eq!(incarnation(&unsure, &history(60, 40, &[(41, "y")])), "b");
    }

    #[test]
    fn another_id_tells_nothing() {
        let one = [backup("0", 40, Some("x"))];
        let (whose, _) = whose("other", &ends(&one, "other"), &history(3, -1, &[]), "new");
        assert_eq!(whose.to_string(), "other/0");
    }
}
