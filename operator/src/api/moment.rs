//! A moment in a cluster's history, out of a full backup and the log archive behind it.

/// Which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment<'a> {
    /// The last one not after this time (RFC 3339).
    Time(&'a str),
    /// The last one at this revision.
    Revision(i64),
}

impl<'a> Moment<'a> {
    /// The moment that a specification names; none: a backup's own. Its schema lets no more than one be named.
    #[must_use]
    pub fn of(time: Option<&'a String>, revision: Option<i64>) -> Option<Self> {
        let time = time.map(|time| Self::Time(time));
        time.or_else(|| revision.map(Self::Revision))
    }

    /// It, in engramctl's words.
    #[must_use]
    pub fn flag(self) -> String {
        match self {
            Self::Time(time) => format!("--to-time={time}"),
            Self::Revision(revision) => format!("--to-revision={revision}"),
        }
    }
}

/// The schema of a time: RFC 3339, with its zone.
pub(super) fn time_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "format": "date-time", "maxLength": 64,
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    })
}
