//! Makes segments of what the store holds and the journal noted.

use engram_archive::{Builder, Built, Cut, Head, Target, Writer, digest};
use engram_proto::backup as pb;
use engram_state::{Auth, RevisionRecord};
use engram_types::{Revision, RevisionPair};

use crate::journal::{Journal, Moment, Note, Tables};
use crate::progress::shipped;
use crate::store::Store;

/// What segments are made of.
pub(crate) struct Source<'a> {
    pub(crate) store: &'a Store,
    pub(crate) journal: &'a Journal,
    pub(crate) writer: Writer,
    /// Bytes of records after which a segment ends with the revision.
    pub(crate) bytes_max: usize,
    pub(crate) auth_rows: fn(&Auth) -> Vec<pb::AuthRow>,
}

/// How often whole tables may take the place of what is forgotten while a segment is made.
const MAKE_UPS_MAX: usize = 8;

/// A revision that should be there is not: it was reclaimed, and nobody held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reclaimed;

impl Source<'_> {
    /// The next segment after `last`: up to the newest moment, or until it is full. `now_ms` is the time
    /// where nothing has happened since.
    pub(crate) fn next(&self, last: &Head, now_ms: i64) -> Result<Built, Reclaimed> {
        let done = shipped(last);
        if !self.journal.knows_since(done.index) {
            self.journal.make_up(self.tables());
        }
        let newest = self.journal.newest();
        let mut builder = Builder::after(&self.writer, &last.header, &last.hash);
        let is_full = self.records(&mut builder, newest.revision)?;
        let cut = match is_full {
            true => Cut {
                revision: builder.revision(),
                // All that was applied at that revision was applied by then.
                index: self.journal.first_at(builder.revision() + 1).index,
            },
            false => Cut {
                revision: newest.revision,
                index: newest.index.max(done.index),
            },
        };
        let to = Target {
            revision: cut.revision,
            index: cut.index,
        };
        let (moments, notes) = self.between(done, to).ok_or(Reclaimed)?;
        for note in notes {
            builder.note(&note.message(self.auth_rows));
        }
        for moment in &moments {
            builder.moment(message(*moment));
        }
        if moments.is_empty() && !is_full {
            builder.moment(message(Moment {
                unix_ms: now_ms,
                index: cut.index,
                revision: cut.revision,
            }));
        }
        Ok(builder.finish(cut))
    }

    /// Moments and notes after what is shipped. Where notes are forgotten meanwhile the tables come in their place: here,
    /// or in the next segment where they are of later than this one's end. None where that happens again and again.
    fn between(&self, done: Target, to: Target) -> Option<(Vec<Moment>, Vec<Note>)> {
        let known = |attempt: usize| {
            if attempt > 0 {
                self.journal.make_up(self.tables());
            }
            self.journal.between(done, to)
        };
        (0..MAKE_UPS_MAX).find_map(known)
    }

    /// The first segment of a new chain: it says where the chain begins, and holds nothing.
    pub(crate) fn first(&self, run: u32) -> Built {
        let newest = self.journal.newest();
        let start = Cut {
            revision: newest.revision,
            index: newest.index,
        };
        let before = self.digest_at(newest.revision);
        let mut builder = Builder::first(&self.writer, run, start, newest.unix_ms, before);
        builder.moment(message(newest));
        builder.finish(start)
    }

    /// SHA-256 of the records of a revision; none where there are none.
    pub(crate) fn digest_at(&self, revision: i64) -> Option<String> {
        let mut records = Vec::new();
        self.scan(revision, |record| {
            let is_it = record.pair.main.0 == revision;
            if is_it {
                records.push(record.encoded);
            }
            is_it
        });
        let parts = records.iter().map(AsRef::as_ref);
        (!records.is_empty()).then(|| digest(parts))
    }

    fn scan(&self, from: i64, mut visit: impl FnMut(RevisionRecord) -> bool) {
        let from = RevisionPair {
            main: Revision(from),
            sub: 0,
        };
        self.store.engine().scan_once(from, &mut visit);
    }

    /// Takes records up to `to`; whether it became full before.
    fn records(&self, builder: &mut Builder, to: i64) -> Result<bool, Reclaimed> {
        let (mut is_full, mut is_whole) = (false, true);
        self.scan(builder.revision() + 1, |record| {
            let revision = record.pair.main.0;
            if revision > to {
                return false;
            }
            is_full = revision != builder.revision() && builder.raw_bytes() >= self.bytes_max;
            if is_full {
                return false;
            }
            is_whole = builder.record(&pb::Record {
                revision,
                sub: record.pair.sub,
                tombstone: record.tombstone,
                key_value: record.encoded,
            });
            is_whole
        });
        match is_whole && (is_full || builder.revision() == to) {
            true => Ok(is_full),
            false => Err(Reclaimed),
        }
    }

    /// What the store holds beside its records.
    fn tables(&self) -> Tables {
        let _whole = self.store.between_batches();
        let state = self.store.read();
        let compacted = state.mvcc.compact_revision().0;
        Tables {
            at: self.journal.newest(),
            leases: state.leases.iter().collect(),
            compacted: if compacted > 0 { compacted } else { -1 },
            auth: state.auth.clone(),
        }
    }
}

fn message(moment: Moment) -> pb::Moment {
    pb::Moment {
        revision: moment.revision,
        index: moment.index,
        unix_ms: moment.unix_ms,
    }
}
