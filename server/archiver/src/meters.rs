//! What the archiver tells of itself.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// See the module.
#[derive(Clone)]
pub(crate) struct Meters {
    /// Whether this member leads and writes.
    pub(crate) writes: IntGauge,
    /// How old the oldest write is that is not in the archive, seconds.
    pub(crate) lag_seconds: Gauge,
    /// The last revision in the archive.
    pub(crate) last_revision: IntGauge,
    /// The revision after which the current chain begins.
    pub(crate) begins_after: IntGauge,
    /// Bytes of the log written since what is held was the newest.
    pub(crate) backlog_bytes: IntGauge,
    /// Segments written.
    pub(crate) segments: IntCounter,
    /// Their bytes.
    pub(crate) bytes: IntCounter,
    /// Attempts that failed.
    pub(crate) failures: IntCounter,
    /// Gaps.
    pub(crate) gaps: IntCounter,
}

impl Meters {
    /// All of them, registered.
    ///
    /// # Panics
    /// Never: the names are valid and unique.
    pub(crate) fn new(registry: &Registry) -> Meters {
        macro_rules! add {
            ($kind:ident, $name:literal, $help:literal) => {{
                let made = $kind::new($name, $help).expect("a valid name");
                let registered = registry.register(Box::new(made.clone()));
                registered.expect("a name of its own");
                made
            }};
        }
        Meters {
            writes: add!(
                IntGauge,
                "engram_archive_writes",
                "Whether this member writes the log archive: 1 where it leads, else 0."
            ),
            lag_seconds: add!(
                Gauge,
                "engram_archive_lag_seconds",
                "Age of the oldest write that is not in the log archive, where this member writes it."
            ),
            last_revision: add!(
                IntGauge,
                "engram_archive_last_revision",
                "The last revision in the log archive, as far as this member knows."
            ),
            begins_after: add!(
                IntGauge,
                "engram_archive_begins_after_revision",
                "The revision after which the log archive has no gap: a full backup there or later can be gone on from."
            ),
            backlog_bytes: add!(
                IntGauge,
                "engram_archive_backlog_bytes",
                "Bytes written to the log since the last archived revision was the newest."
            ),
            segments: add!(
                IntCounter,
                "engram_archive_segments_total",
                "Segments written to the log archive."
            ),
            bytes: add!(
                IntCounter,
                "engram_archive_bytes_total",
                "Bytes written to the log archive."
            ),
            failures: add!(
                IntCounter,
                "engram_archive_failures_total",
                "Attempts to write the log archive, or to read how far it is, that failed."
            ),
            gaps: add!(
                IntCounter,
                "engram_archive_gaps_total",
                "Gaps in the log archive: after each a new full backup is needed."
            ),
        }
    }
}
