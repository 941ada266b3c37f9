//! What engramctl says is meant: a backup, or a moment behind one. Pure.

use serde::Deserialize;

use crate::api::{Moment, Recovery};

use super::super::tool::Summary;

/// The backup that is meant, and the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// The backup's ID.
    pub backup: String,
    /// The cluster that was backed up, by its ID.
    pub cluster_id: String,
    /// The same, with its incarnation; the archive behind it is found by the ID alone.
    pub whose: String,
    /// The moment's revision.
    pub revision: i64,
    /// The moment, in words.
    pub at: String,
    /// What is read, in words that change with it and with nothing else.
    pub what: String,
}

/// What `engramctl archive plan` says; only what is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Way {
    backup: String,
    backup_of: String,
    backup_revision: i64,
    to_revision: i64,
}

/// Reads what it said of this.
pub(super) fn read(recovery: &Recovery, said: &str) -> Option<Meant> {
    match recovery.moment() {
        None => serde_json::from_str(said).ok().map(of_backup),
        Some(moment) => of_moment(moment, &serde_json::from_str(said).ok()?),
    }
}

fn of_backup(summary: Summary) -> Meant {
    let (revision, taken) = (summary.revision, &summary.created_at);
    Meant {
        whose: format!("{}/{}", summary.cluster_id, summary.incarnation),
        at: format!("revision {revision}, {taken}"),
        what: format!(
            "revision {revision}, taken {taken}, {} bytes, HashKV {}",
            summary.size, summary.hash_kv
        ),
        backup: summary.id,
        cluster_id: summary.cluster_id,
        revision,
    }
}

fn of_moment(moment: Moment<'_>, way: &Way) -> Option<Meant> {
    let revision = way.to_revision;
    let at = match moment {
        Moment::Time(time) => format!("{time}, revision {revision}"),
        Moment::Revision(_) => format!("revision {revision}"),
    };
    Some(Meant {
        backup: way.backup.clone(),
        cluster_id: way.backup_of.split('/').next()?.to_owned(),
        whose: way.backup_of.clone(),
        revision,
        what: format!(
            "revision {}, and the log archive behind it up to {at}",
            way.backup_revision
        ),
        at,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn recovery(more: Value) -> Recovery {
        let mut recovery = json!({ "storeRef": { "name": "s" } });
        let more = more.as_object().unwrap().clone();
        recovery.as_object_mut().unwrap().extend(more);
        serde_json::from_value(recovery).unwrap()
    }

    #[test]
    fn a_backup_is_its_own_moment() {
        let said = r#"{"id":"n-1","cluster":"demo","clusterID":"cdf8","incarnation":"18ec","revision":40,"compactRevision":-1,"hashKV":9,"size":5,"createdAt":"2026-01-02T03:00:00Z","engramVersion":"0.1.0","path":"s3://b/demo/n-1"}"#;
        let recovery = recovery(json!({}));
        let meant = read(&recovery, said).unwrap();
        assert_eq!((meant.backup.as_str(), meant.revision), ("n-1", 40));
        assert_eq!(meant.whose, "cdf8/18ec");
        assert_eq!(meant.at, "revision 40, 2026-01-02T03:00:00Z");
        assert!(meant.what.contains("HashKV 9"), "{}", meant.what);
        assert_eq!(read(&recovery, r#"{"id":"n-1"}"#), None);
    }

    #[test]
    fn a_moment_is_behind_the_backup_that_engramctl_found() {
        let said = r#"{"backup":"n-1","cluster":"demo","backupOf":"cdf8/18ec","backupRevision":40,"toRevision":57,"archive":{"toRevision":90}}"#;
        let time = recovery(json!({ "targetTime": "2026-01-02T03:04:05Z" }));
        let meant = read(&time, said).unwrap();
        assert_eq!((meant.backup.as_str(), meant.revision), ("n-1", 57));
        assert_eq!(meant.at, "2026-01-02T03:04:05Z, revision 57");
        // What the archive has behind the moment is more with every second.
        assert!(!meant.what.contains("90"), "{}", meant.what);
        assert_eq!(
            (meant.cluster_id.as_str(), meant.whose.as_str()),
            ("cdf8", "cdf8/18ec")
        );
        let revision = recovery(json!({ "targetRevision": 57 }));
        assert_eq!(read(&revision, said).unwrap().at, "revision 57");
    }
}
