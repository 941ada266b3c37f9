//! What a member notes of what it applies, beside the records that its store keeps anyway: when it
//! stood where, and what changed without a revision of its own.
//!
//! Every member keeps it, since any may lead next. It is kept in memory and bounded: moments are thinned
//! out where the archive lags, and where notes are too many they are forgotten, upon which the leader
//! writes the whole tables instead (they are then known as of later than they were).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engram_archive::Target;
use engram_proto::backup as pb;
use engram_state::{Auth, Change};
use engram_types::{LeaseId, Revision};
use parking_lot::Mutex;

/// Moments kept: a minute of them at full load, 2 MiB. Beyond it every second one goes.
const MOMENTS_MAX: usize = 1 << 16;
/// Notes kept: some 30 MiB.
const NOTES_MAX: usize = 1 << 18;
/// States of users and roles kept.
const AUTH_MAX: usize = 64;

/// By this time the store was here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The last entry applied.
    pub index: u64,
    /// The store's revision.
    pub revision: i64,
    /// Milliseconds since 1970.
    pub unix_ms: i64,
}

/// A change that has no revision of its own.
#[derive(Clone, Debug)]
pub struct Note {
    /// The entry that made it.
    pub index: u64,
    /// The store's revision once it was made.
    pub revision: i64,
    /// What.
    pub what: What,
}

/// See [`Note`].
#[derive(Clone, Debug)]
pub enum What {
    /// A lease, and its time to live in seconds.
    Granted(LeaseId, i64),
    /// A lease is gone.
    Revoked(LeaseId),
    /// Compacted at this revision; -1: never.
    Compacted(i64),
    /// Users, roles and the switch, all of them.
    Auth(Arc<Auth>),
    /// Every lease.
    Leases(Vec<(LeaseId, i64)>),
}

impl Note {
    /// As the archive holds it; `rows` are users and roles as etcd's buckets hold them.
    pub fn message(&self, rows: fn(&Auth) -> Vec<pb::AuthRow>) -> pb::Note {
        use pb::note::Change;
        let lease = |(id, ttl_seconds): &(LeaseId, i64)| pb::Lease {
            id: id.0,
            ttl_seconds: *ttl_seconds,
            remaining_seconds: 0,
        };
        let change = match &self.what {
            What::Granted(id, ttl) => Change::Granted(lease(&(*id, *ttl))),
            What::Revoked(id) => Change::Revoked(id.0),
            What::Compacted(revision) => Change::Compacted(*revision),
            What::Auth(auth) => Change::Auth(pb::AuthTable { rows: rows(auth) }),
            What::Leases(all) => Change::Leases(pb::LeaseTable {
                leases: all.iter().map(lease).collect(),
            }),
        };
        pb::Note {
            index: self.index,
            revision: self.revision,
            change: Some(change),
        }
    }
}

/// What the store holds beside its records, at one moment.
#[derive(Clone, Debug)]
pub struct Tables {
    /// When.
    pub at: Moment,
    /// Every lease.
    pub leases: Vec<(LeaseId, i64)>,
    /// Where it is compacted; -1: never.
    pub compacted: i64,
    /// Users and roles.
    pub auth: Arc<Auth>,
}

/// A moment, and since when by the clock that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Stood {
    moment: Moment,
    since: Instant,
}

#[derive(Debug, Default)]
struct Kept {
    moments: VecDeque<Stood>,
    notes: VecDeque<Note>,
    auths: usize,
    /// Of entries up to this one some notes were forgotten.
    forgotten: u64,
    replaced: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Journal {
    kept: Mutex<Kept>,
}

impl Journal {
    /// That of a member that begins at this moment.
    pub fn new(at: Moment) -> Journal {
        let journal = Journal::default();
        journal.replaced(at);
        journal
    }

    /// An entry was applied: `before` is the revision before it, `changes` what it left behind in order.
    /// Called by the apply thread, once readers see it.
    pub fn written(
        &self,
        before: Revision,
        at: Moment,
        changes: &[Change],
        auth: impl Fn() -> Arc<Auth>,
    ) {
        let mut revision = before.0;
        let mut notes = Vec::new();
        for change in changes {
            let what = match change {
                Change::SetRevision(next) => {
                    revision = next.0;
                    continue;
                }
                Change::PutLease(id, ttl) => What::Granted(*id, *ttl),
                Change::DeleteLease(id) => What::Revoked(*id),
                Change::SetCompactScheduled(at) => What::Compacted(at.0),
                Change::SetAuth { .. } => What::Auth(auth()),
                _ => continue,
            };
            notes.push(Note {
                index: at.index,
                revision,
                what,
            });
        }
        let mut kept = self.kept.lock();
        kept.stand(at);
        kept.note(notes, at.index);
    }

    /// The store was replaced by another member's: what happened between is not known one by one.
    pub fn replaced(&self, at: Moment) {
        let mut kept = self.kept.lock();
        kept.moments.clear();
        kept.forget(at.index);
        kept.stand(at);
        kept.replaced += 1;
    }

    /// How often the store was replaced.
    pub fn replacements(&self) -> u64 {
        self.kept.lock().replaced
    }

    /// Whether what happened after this entry is known one by one. It may not be by the time that it is asked for.
    pub fn knows_since(&self, index: u64) -> bool {
        self.kept.lock().forgotten <= index
    }

    /// The whole tables take the place of what was forgotten.
    pub fn make_up(&self, tables: Tables) {
        let at = tables.at;
        let note = |what| Note {
            index: at.index,
            revision: at.revision,
            what,
        };
        let mut kept = self.kept.lock();
        kept.drop_notes(|note| note.index <= at.index);
        for what in [
            What::Auth(tables.auth),
            What::Compacted(tables.compacted),
            What::Leases(tables.leases),
        ] {
            kept.notes.push_front(note(what));
        }
        kept.auths += 1;
        kept.forgotten = 0;
    }

    /// Where the store was last seen to stand; the first moment is that of the beginning.
    pub fn newest(&self) -> Moment {
        let kept = self.kept.lock();
        kept.moments.back().expect("one is always kept").moment
    }

    /// How long the oldest of what `shipped` does not cover has waited; none where it covers everything. Of two clocks
    /// the one counts that says more: the system's may have been set back, and then nothing would ever be old.
    pub fn waits(&self, shipped: Target, now_ms: i64) -> Option<Duration> {
        let kept = self.kept.lock();
        let oldest = kept.moments.get(kept.first_after(shipped))?;
        let told = now_ms.saturating_sub(oldest.moment.unix_ms);
        let told = Duration::from_millis(u64::try_from(told).unwrap_or(0));
        Some(told.max(oldest.since.elapsed()))
    }

    /// The first moment at this revision or behind it.
    pub fn first_at(&self, revision: i64) -> Moment {
        let kept = self.kept.lock();
        let is_before = |one: &Stood| one.moment.revision < revision;
        let at = kept.moments.partition_point(is_before);
        let last = kept.moments.len() - 1;
        kept.moments[at.min(last)].moment
    }

    /// Moments and notes after what is shipped, up to `to`; none where some of the notes were forgotten.
    pub fn between(&self, shipped: Target, to: Target) -> Option<(Vec<Moment>, Vec<Note>)> {
        let kept = self.kept.lock();
        // Asked before, the answer could be another one by now: what is applied meanwhile may be too much.
        if kept.forgotten > shipped.index {
            return None;
        }
        let moments = kept.moments.range(kept.first_after(shipped)..);
        let moments = moments.map(|one| one.moment);
        let moments = moments.take_while(|one| to.covers(one.revision, one.index));
        let is_new = |note: &&Note| !shipped.covers(note.revision, note.index);
        let notes = kept.notes.iter().filter(is_new);
        let notes = notes.take_while(|note| to.covers(note.revision, note.index));
        Some((moments.collect(), notes.cloned().collect()))
    }

    /// Whether there is a note that is not shipped.
    pub fn has_notes_after(&self, shipped: Target) -> bool {
        let kept = self.kept.lock();
        let newest = kept.notes.back();
        newest.is_some_and(|note| !shipped.covers(note.revision, note.index))
    }

    /// Forgets what is shipped; the newest moment stays. Whoever goes on from before that, because the archive has lost
    /// it, gets the whole tables instead.
    pub fn trim(&self, shipped: Target) {
        let mut kept = self.kept.lock();
        let last = kept.moments.len().saturating_sub(1);
        let shipped_moments = kept.first_after(shipped).min(last);
        kept.moments.drain(..shipped_moments);
        let dropped = kept.drop_notes(|note| shipped.covers(note.revision, note.index));
        kept.forgotten = kept.forgotten.max(dropped.min(shipped.index));
    }
}

impl Kept {
    fn first_after(&self, shipped: Target) -> usize {
        self.moments
            .partition_point(|one| shipped.covers(one.moment.revision, one.moment.index))
    }

    /// Moments of one millisecond are one.
    fn stand(&mut self, mut moment: Moment) {
        let count = self.moments.len();
        if let Some(last) = self.moments.back_mut() {
            moment.unix_ms = moment.unix_ms.max(last.moment.unix_ms);
            if moment.unix_ms == last.moment.unix_ms && count > 1 {
                last.moment = moment;
                return;
            }
        }
        self.moments.push_back(Stood {
            moment,
            since: Instant::now(),
        });
        if self.moments.len() > MOMENTS_MAX {
            let mut place = 0;
            let last = self.moments.len() - 1;
            self.moments.retain(|_| {
                place += 1;
                place % 2 == 0 || place > last
            });
        }
    }

    fn note(&mut self, notes: Vec<Note>, index: u64) {
        let is_auth = |note: &Note| matches!(note.what, What::Auth(_));
        self.auths += notes.iter().filter(|note| is_auth(note)).count();
        self.notes.extend(notes);
        if self.notes.len() > NOTES_MAX || self.auths > AUTH_MAX {
            self.forget(index);
        }
    }

    fn forget(&mut self, index: u64) {
        self.notes.clear();
        self.auths = 0;
        self.forgotten = index;
    }

    /// Notes ascend, so that those to be dropped come first. The entry of the last of them; 0: none is dropped.
    fn drop_notes(&mut self, is_done: impl Fn(&Note) -> bool) -> u64 {
        let mut last = 0;
        while let Some(note) = self.notes.pop_front_if(|note| is_done(note)) {
            self.auths -= usize::from(matches!(note.what, What::Auth(_)));
            last = note.index;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, revision: i64, unix_ms: i64) -> Moment {
        Moment {
            index,
            revision,
            unix_ms,
        }
    }

    fn target(revision: i64, index: u64) -> Target {
        Target { revision, index }
    }

    fn none() -> Arc<Auth> {
        Arc::default()
    }

    #[test]
    fn notes_lie_at_the_revision_that_made_them() {
        let journal = Journal::new(at(1, 4, 100));
        let changes = [
            Change::PutLease(LeaseId(7), 60),
            Change::SetRevision(Revision(5)),
            Change::DeleteLease(LeaseId(7)),
            Change::SetRevision(Revision(6)),
            Change::SetCompactScheduled(Revision(3)),
        ];
        journal.written(Revision(4), at(2, 6, 103), &changes, none);
        let between = |from, to| journal.between(from, to).expect("all is known");
        let (moments, notes) = between(target(4, 1), target(6, 2));
        assert_eq!(moments, [at(2, 6, 103)]);
        let places: Vec<i64> = notes.iter().map(|note| note.revision).collect();
        assert_eq!(places, [4, 5, 6]);
        // A cut between: each note is on one side of it.
        let (moments, first) = between(target(4, 1), target(5, 2));
        assert_eq!((moments.len(), first.len()), (0, 2));
        let (_, second) = between(target(5, 2), target(6, 2));
        assert_eq!(second.len(), 1);
        journal.trim(target(5, 2));
        assert!(journal.has_notes_after(target(5, 2)));
        journal.trim(target(6, 2));
        assert!(!journal.has_notes_after(target(6, 2)));
        assert_eq!(journal.newest(), at(2, 6, 103));
        assert_eq!(journal.waits(target(6, 2), 103), None);
    }

    #[test]
    fn what_was_forgotten_is_made_up_for_by_whole_tables() {
        let journal = Journal::new(at(1, 1, 0));
        assert!(journal.knows_since(1) && !journal.knows_since(0));
        let grants: Vec<Change> = (0..1000)
            .map(|id| Change::PutLease(LeaseId(id), 60))
            .collect();
        for index in 2..400 {
            journal.written(Revision(1), at(index, 1, 0), &grants, none);
        }
        assert!(!journal.knows_since(1), "there were too many");
        journal.make_up(Tables {
            at: at(399, 1, 0),
            leases: vec![(LeaseId(5), 60)],
            compacted: -1,
            auth: none(),
        });
        assert!(journal.knows_since(1));
        let known = journal.between(target(1, 1), target(1, 399));
        let (_, notes) = known.expect("it was made up for");
        assert_eq!(notes.len(), 3);
        assert!(matches!(&notes[0].what, What::Leases(all) if all.len() == 1));
    }

    /// The notes were all there when a segment was begun, too many when its end was looked for, and gone when they were
    /// taken: the segment had none of them, its end was after what was forgotten, and no later one made up for it.
    #[test]
    fn what_is_forgotten_while_a_segment_is_made_is_in_it_or_in_the_next() {
        let journal = Journal::new(at(1, 1, 0));
        let change = |index: u64| {
            let lease = [Change::PutLease(LeaseId(index.cast_signed()), 60)];
            journal.written(Revision(1), at(index, 1, 0), &lease, none);
            let table = Note {
                index,
                revision: 1,
                what: What::Auth(none()),
            };
            journal.kept.lock().note(vec![table], index);
        };
        let auth_max = u64::try_from(AUTH_MAX).expect("few");
        (2..2 + auth_max).for_each(&change);
        assert!(journal.knows_since(1), "a segment is begun");
        (2 + auth_max..5 + auth_max).for_each(&change);
        let end = journal.newest();
        let to = target(end.revision, end.index);
        assert!(journal.kept.lock().forgotten < end.index);
        assert!(journal.between(target(1, 1), to).is_none());
        journal.make_up(Tables {
            at: end,
            leases: vec![(LeaseId(5), 60)],
            compacted: -1,
            auth: none(),
        });
        let (_, notes) = journal.between(target(1, 1), to).expect("made up for");
        assert_eq!(notes.len(), 3);
    }

    #[test]
    fn moments_are_bounded_and_never_go_back() {
        let journal = Journal::new(at(0, 1, 1_000));
        for step in 1..200_000_u32 {
            let moment = at(
                u64::from(step),
                i64::from(step) + 1,
                1_000 + i64::from(step),
            );
            journal.written(Revision(moment.revision - 1), moment, &[], none);
        }
        let kept = journal.kept.lock().moments.len();
        assert!((1000..=MOMENTS_MAX).contains(&kept), "{kept}");
        assert_eq!(journal.newest().index, 199_999);
        journal.written(Revision(200_000), at(200_000, 200_001, 5), &[], none);
        assert_eq!(journal.newest().revision, 200_001);
        assert!(
            journal.newest().unix_ms >= 200_999,
            "the clock was set back"
        );
    }

    #[test]
    fn what_waits_grows_old_though_the_clock_was_set_back() {
        let long = Duration::from_millis(20);
        let journal = Journal::new(at(0, 1, 1_000));
        journal.written(Revision(1), at(1, 2, 9_000), &[], none);
        assert_eq!(
            journal.waits(target(1, 0), 10_500),
            Some(Duration::from_millis(1_500)),
            "as the clock tells"
        );
        // It is set back by an hour: everything is of one moment from now on.
        journal.written(Revision(2), at(2, 3, 5), &[], none);
        std::thread::sleep(long);
        let waits = |shipped| journal.waits(shipped, 5);
        assert!(waits(target(1, 0)).is_some_and(|waits| waits >= long));
        journal.trim(target(3, 2));
        assert_eq!(waits(target(3, 2)), None);
        let shipped = Instant::now();
        journal.written(Revision(3), at(3, 4, 6), &[], none);
        let newest = *journal.kept.lock().moments.back().expect("just noted");
        assert!(newest.since >= shipped, "it waits from then on");
        assert_eq!(newest.moment, at(3, 4, 9_000));
    }
}
