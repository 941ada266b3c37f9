//! The leader's writing over a real store and a directory, without Raft.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use engram_applied::storage::{Applied, Engine, EngineOptions};
use engram_archive::{Archive, Segment, SegmentError, Span};
use engram_objects::{BackupId, Keys, Objects};
use engram_proto::backup as pb;
use engram_state::{Effects, Limits, RevisionRecord, Values as _};
use engram_types::request::{Compact, LeaseGrant, Op, Put, Txn, TxnOp};
use engram_types::{LeaseId, Revision, RevisionPair};
use tempfile::TempDir;

use crate::hold::Holding;
use crate::journal::{Journal, Moment};
use crate::meters::Meters;
use crate::shipper::{Member, Settings, Shipper, now_ms};
use crate::store::{self, Store};

/// A member that leads when it is told to.
#[derive(Default)]
struct Told {
    term: AtomicU64,
    written: AtomicU64,
    /// Another one leads, of which it has not heard.
    is_deposed: AtomicBool,
}

impl Member for Told {
    fn leads(&self) -> Option<u64> {
        let term = self.term.load(Ordering::Relaxed);
        (term > 0).then_some(term)
    }

    fn confirm(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { self.leads().is_some() && !self.is_deposed.load(Ordering::Relaxed) })
    }

    fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn is_filling(&self) -> bool {
        false
    }
}

/// A store that entries are applied to, with the journal beside it.
struct Applying {
    store: Arc<Store>,
    journal: Arc<Journal>,
    told: Arc<Told>,
    index: AtomicU64,
    now: AtomicI64,
    dir: TempDir,
}

impl Applying {
    fn new() -> Applying {
        let dir = tempfile::tempdir().expect("a directory");
        let applying = Applying::on(dir, 0, now_ms() - 1_000_000);
        applying.told.term.store(1, Ordering::Relaxed);
        applying
    }

    /// A member that has just started on what lies there.
    fn on(dir: TempDir, index: u64, now: i64) -> Applying {
        let engine = Engine::open(dir.path(), EngineOptions::default()).expect("an engine");
        let limits = Limits {
            value_cache_bytes: 1 << 20,
        };
        let tables = engine.tables().expect("tables");
        let state = store::load(limits, tables, &engine);
        let store = Arc::new(Store::new(state.expect("a state"), engine, index));
        Applying {
            journal: Arc::new(Journal::new(Moment {
                index,
                revision: store.revision().0,
                unix_ms: now,
            })),
            store,
            told: Arc::default(),
            index: AtomicU64::new(index),
            now: AtomicI64::new(now),
            dir,
        }
    }

    /// The same member, started again: nothing is left of what it had in memory. Whoever shipped for it is gone.
    fn restarted(self) -> Applying {
        let Applying {
            store,
            index,
            now,
            dir,
            ..
        } = self;
        store.engine().flush();
        drop(Arc::into_inner(store).expect("nobody else has it"));
        Applying::on(dir, index.into_inner(), now.into_inner())
    }

    fn apply(&self, op: &Op) {
        let mut effects = Effects::default();
        let engine = self.store.engine();
        let index = self.index.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.store.revision();
        let mut writing = self.store.begin();
        let outcome = engram_state::apply(&mut writing, op, &engine, &mut effects);
        outcome.result.expect("it is applied");
        let after = writing.commit(&engine, &effects.changes, &Applied::default(), index);
        let at = Moment {
            index,
            revision: after.0,
            unix_ms: self.now.fetch_add(1, Ordering::Relaxed) + 1,
        };
        self.journal
            .written(before, at, &effects.changes, Arc::default);
        self.told.written.fetch_add(100, Ordering::Relaxed);
    }

    fn put(&self, key: &str, value: &str) {
        self.apply(&Op::Put(Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }));
    }

    fn compact(&self) {
        let revision = self.store.revision().0;
        self.apply(&Op::Compact(Compact { revision }));
    }

    /// Reclaims all that may go.
    fn reclaim(&self) {
        for _ in 0..100 {
            let mut effects = Effects::default();
            let mut state = self.store.write();
            let done = state.compact_step(1000, &mut effects);
            self.store.engine().write_unlogged(&effects.changes);
            if done {
                return;
            }
        }
    }

    fn records(&self) -> Vec<RevisionRecord> {
        let mut records = Vec::new();
        let from = RevisionPair {
            main: Revision(0),
            sub: 0,
        };
        self.store.scan(from, &mut |record| {
            records.push(record);
            true
        });
        records
    }

    fn shipper(&self, at: &Place) -> Shipper {
        let settings = Settings {
            url: at.url.clone(),
            cluster: at.cluster.clone(),
            cluster_id: "cdf8".into(),
            member_id: "8e9e".into(),
            version: "0.1.0".into(),
            delay_max: Duration::from_millis(200),
            segment_bytes: 64,
            key_files: at.key_files.clone(),
            backlog_bytes: 10_000,
            auth_rows: |_| Vec::new(),
        };
        let meters = Meters::new(&prometheus::Registry::new());
        let holding = Holding::with(&self.store, self.journal.clone());
        let store = self.store.clone();
        Shipper::new(settings, store, holding, self.told.clone(), meters)
    }
}

/// Where the archive lies.
struct Place {
    dir: TempDir,
    url: String,
    cluster: BackupId,
    key_files: Vec<PathBuf>,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        Place {
            url: format!("file://{}", dir.path().display()),
            cluster: "demo".parse().expect("a name"),
            key_files: Vec::new(),
            dir,
        }
    }

    /// Makes it one that is encrypted with this key from now on.
    fn encrypt(&mut self, byte: u8) {
        let path = self.dir.path().join(format!("key-{byte}"));
        std::fs::write(&path, format!("{byte:02x}").repeat(32)).expect("written");
        self.key_files.insert(0, path);
    }

    fn archive(&self) -> Archive {
        let keys = Keys::read(&self.key_files).expect("keys");
        let objects = Objects::open(&self.url).expect("a store").with_keys(keys);
        Archive::new(objects, &self.cluster)
    }

    async fn spans(&self) -> Vec<Span> {
        let archive = self.archive();
        let mut spans = Vec::new();
        for whose in archive.owners().await.expect("listed") {
            spans.extend(archive.spans(&whose).await.expect("read").known);
        }
        spans
    }

    /// Everything in a chain, every link of it checked.
    async fn contents(&self, span: &Span) -> (Vec<pb::Record>, Vec<pb::Note>) {
        let archive = self.archive();
        archive.verify(span, |_| {}).await.expect("it is whole");
        let (mut records, mut notes) = (Vec::new(), Vec::new());
        for sequence in span.first.sequence..=span.last.sequence {
            let segment = archive.segment(&span.place(sequence)).await;
            let segment: Segment = segment.expect("read").expect("there");
            let take = |record| {
                records.push(record);
                Ok::<_, SegmentError>(())
            };
            segment.records(take).expect("records");
            let take = |note| {
                notes.push(note);
                Ok::<_, SegmentError>(())
            };
            segment.notes(take).expect("notes");
        }
        (records, notes)
    }
}

/// Turns until everything is shipped.
async fn ship(shipper: &mut Shipper) {
    for _ in 0..3 {
        shipper.turn().await.expect("the directory is there");
    }
}

fn same(records: &[pb::Record], store: &[RevisionRecord]) {
    let of_store: Vec<_> = store
        .iter()
        .map(|one| (one.pair.main.0, one.pair.sub, one.tombstone, &one.encoded))
        .collect();
    let archived: Vec<_> = records
        .iter()
        .map(|one| (one.revision, one.sub, one.tombstone, &one.key_value))
        .collect();
    assert_eq!(archived, of_store);
}

#[tokio::test]
async fn every_revision_is_shipped_with_what_changed_beside_it() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    for n in 0..50 {
        applying.put(&format!("key-{}", n % 7), "value");
    }
    let id = LeaseId(7);
    applying.apply(&Op::LeaseGrant(LeaseGrant {
        id,
        ttl_seconds: 60,
    }));
    applying.apply(&Op::LeaseRevoke(id));
    ship(&mut shipper).await;
    let spans = place.spans().await;
    let [span] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert!(span.segments > 5, "a segment ends when it is full");
    assert_eq!(span.last.last_revision, applying.store.revision().0);
    let (records, notes) = place.contents(span).await;
    same(&records, &applying.records());
    use pb::note::Change;
    let changes: Vec<_> = notes.into_iter().filter_map(|note| note.change).collect();
    assert!(
        matches!(&changes[..], [Change::Granted(_), Change::Revoked(7)]),
        "{changes:?}"
    );
}

#[tokio::test]
async fn two_that_think_they_lead_write_one_chain() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut first = applying.shipper(&place);
    let mut second = applying.shipper(&place);
    ship(&mut first).await;
    for round in 0..20 {
        applying.put("a", &format!("{round}"));
        ship(&mut first).await;
        applying.put("b", &format!("{round}"));
        ship(&mut second).await;
    }
    let spans = place.spans().await;
    let [span] = &spans[..] else {
        panic!("{spans:?}")
    };
    let (records, _) = place.contents(span).await;
    same(&records, &applying.records());
}

#[tokio::test]
async fn history_is_held_until_it_is_shipped_and_within_bounds() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    let overwrite = || (0..20).for_each(|n| applying.put("key", &format!("{n}")));
    overwrite();
    applying.compact();
    applying.reclaim();
    ship(&mut shipper).await;
    let spans = place.spans().await;
    let (records, notes) = place.contents(&spans[0]).await;
    assert_eq!((spans.len(), records.len(), notes.len()), (1, 20, 1));
    assert!(!shipper.progress.hold.look(), "little is held");
    overwrite();
    // The store of objects is away for long.
    applying.told.written.fetch_add(20_000, Ordering::Relaxed);
    assert!(shipper.progress.hold.look(), "it is let go");
    applying.compact();
    applying.reclaim();
    assert_eq!(applying.records().len(), 1);
    ship(&mut shipper).await;
    assert_eq!(shipper.progress.meters.gaps.get(), 1);
    overwrite();
    ship(&mut shipper).await;
    let spans = place.spans().await;
    assert_eq!(spans.len(), 2, "a gap begins a chain");
    assert_eq!(
        (spans[0].last.last_revision, spans[1].begins_after()),
        (21, 41)
    );
    let (records, _) = place.contents(&spans[1]).await;
    assert_eq!(records.len(), 20);
}

#[tokio::test]
async fn a_member_that_starts_goes_on_where_the_archive_ends() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    drop(shipper);
    // Applied, and never shipped before the crash.
    applying.put("a", "1");
    let grant = |id| {
        applying.apply(&Op::LeaseGrant(LeaseGrant {
            id: LeaseId(id),
            ttl_seconds: 60,
        }));
    };
    grant(7);
    grant(8);
    let applying = applying.restarted();
    applying.told.term.store(2, Ordering::Relaxed);
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    let spans = place.spans().await;
    assert_eq!(spans.len(), 1, "no revision is missing");
    let (records, notes) = place.contents(&spans[0]).await;
    same(&records, &applying.records());
    use pb::note::Change;
    let tables = notes.iter().find_map(|note| match &note.change {
        Some(Change::Leases(table)) => Some(table.leases.len()),
        _ => None,
    });
    assert_eq!(tables, Some(2), "{notes:?}");
}

#[tokio::test]
async fn a_crash_after_a_compaction_loses_nothing_that_was_held() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    let overwrite = |applying: &Applying| {
        (0..20).for_each(|n| applying.put("key", &format!("{n}")));
    };
    overwrite(&applying);
    ship(&mut shipper).await;
    // The store of objects is away; what is compacted is held, and what was shipped of it goes.
    overwrite(&applying);
    applying.compact();
    applying.reclaim();
    assert_eq!(applying.records().len(), 21);
    drop(shipper);
    let applying = applying.restarted();
    applying.told.term.store(2, Ordering::Relaxed);
    let mut shipper = applying.shipper(&place);
    // It goes on reclaiming before it knows how far the archive is.
    applying.reclaim();
    applying.put("other", "1");
    ship(&mut shipper).await;
    assert_eq!(shipper.progress.meters.gaps.get(), 0);
    let spans = place.spans().await;
    assert_eq!(spans.len(), 1, "no gap");
    let (records, notes) = place.contents(&spans[0]).await;
    let revisions: Vec<i64> = records.iter().map(|record| record.revision).collect();
    assert_eq!(revisions, (2..=42).collect::<Vec<_>>());
    use pb::note::Change;
    let mut compacted = notes.iter().filter_map(|note| match &note.change {
        Some(Change::Compacted(revision)) => Some(*revision),
        _ => None,
    });
    assert_eq!(compacted.next_back(), Some(41), "{notes:?}");
    // It is not held for ever.
    applying.reclaim();
    assert_eq!(applying.records().len(), 2);
}

#[tokio::test]
async fn what_was_let_go_before_a_crash_is_a_gap_after_it() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    let id = |n: u64| format!("key-{}", n % 2);
    // Each revision has a record that stays: which of them went cannot be told by counting.
    (0..40).for_each(|n| {
        let put = |key: String| {
            let put = Put {
                key: key.into(),
                value: format!("{n}").into(),
                lease: LeaseId::NONE,
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            };
            TxnOp::Put(put)
        };
        let success = vec![put(format!("stays-{n}")), put(id(n))];
        applying.apply(&Op::Txn(Txn {
            success,
            ..Txn::default()
        }));
    });
    applying.told.written.fetch_add(20_000, Ordering::Relaxed);
    assert!(shipper.progress.hold.look(), "it is let go");
    applying.compact();
    // It crashes in the middle of it.
    let mut effects = Effects::default();
    assert!(!applying.store.write().compact_step(5, &mut effects));
    applying.store.engine().write_unlogged(&effects.changes);
    drop(shipper);
    let applying = applying.restarted();
    applying.told.term.store(2, Ordering::Relaxed);
    let mut shipper = applying.shipper(&place);
    applying.put("other", "1");
    ship(&mut shipper).await;
    assert_eq!(shipper.progress.meters.gaps.get(), 1, "it is told");
    assert_eq!(place.spans().await.len(), 2);
}

/// It said that there was no write up to a time at which the next leader had acknowledged some.
#[tokio::test]
async fn who_is_not_confirmed_says_nothing_of_the_time() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    applying.put("a", "1");
    ship(&mut shipper).await;
    let before = place.spans().await;
    applying.told.is_deposed.store(true, Ordering::Relaxed);
    // Something is due all the same.
    applying.apply(&Op::LeaseGrant(LeaseGrant {
        id: LeaseId(7),
        ttl_seconds: 60,
    }));
    ship(&mut shipper).await;
    assert_eq!(place.spans().await, before);
    applying.told.is_deposed.store(false, Ordering::Relaxed);
    ship(&mut shipper).await;
    let spans = place.spans().await;
    assert_eq!(spans.len(), 1);
    assert!(spans[0].last.sequence > before[0].last.sequence);
}

/// What is due by its age was never due where the system's clock had been set back: not before that clock was where it
/// had been.
#[tokio::test]
async fn a_clock_that_is_set_back_holds_up_no_segment() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    // An hour ahead, and back again.
    let now = applying.now.load(Ordering::Relaxed);
    applying.now.store(now_ms() + 3_600_000, Ordering::Relaxed);
    applying.put("a", "ahead");
    ship(&mut shipper).await;
    applying.now.store(now, Ordering::Relaxed);
    let written = applying.told.written.load(Ordering::Relaxed);
    applying.put("a", "back");
    // It is not for its size.
    applying.told.written.store(written, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(120)).await;
    ship(&mut shipper).await;
    let spans = place.spans().await;
    assert_eq!(
        spans[0].last.last_revision,
        applying.store.revision().0,
        "it is shipped when it is half of the delay old"
    );
    let (records, _) = place.contents(&spans[0]).await;
    same(&records, &applying.records());
}

/// A cluster that has archived, and a later one of the same id that has beside it.
async fn two_of_one_id(place: &Place) -> [(Applying, Shipper); 2] {
    let old = Applying::new();
    let mut shipper = old.shipper(place);
    (0..5).for_each(|_| old.put("a", "old"));
    ship(&mut shipper).await;
    let new = Applying::new();
    (0..9).for_each(|_| new.put("a", "new"));
    let mut other = new.shipper(place);
    ship(&mut other).await;
    [(old, shipper), (new, other)]
}

#[tokio::test]
async fn another_history_of_the_same_id_is_another_archive() {
    let place = Place::new();
    let [(old, mut shipper), (new, mut other)] = two_of_one_id(&place).await;
    new.put("a", "new");
    ship(&mut other).await;
    let spans = place.spans().await;
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[0].first.whose.incarnation, "0");
    assert_ne!(spans[1].first.whose.incarnation, "0");
    assert_eq!(spans[1].last.last_revision, new.store.revision().0);
    // Each goes on with its own.
    old.put("a", "old");
    ship(&mut shipper).await;
    let spans = place.spans().await;
    assert_eq!(spans[0].last.last_revision, old.store.revision().0);
}

#[tokio::test]
async fn a_damaged_archive_of_an_earlier_cluster_is_no_gap_in_this_ones() {
    let place = Place::new();
    let [(old, mut shipper), (new, mut other)] = two_of_one_id(&place).await;
    let spans = place.spans().await;
    let end = spans[0].place(spans[0].last.sequence);
    let cluster = place.dir.path().join(place.cluster.as_ref());
    let end = cluster.join(format!("_archive/{end}"));
    std::fs::write(end, "nonsense").expect("written");
    // Another one leads from here on.
    new.told.term.store(2, Ordering::Relaxed);
    new.put("a", "newer");
    ship(&mut other).await;
    assert_eq!(other.progress.meters.gaps.get(), 0, "no gap");
    let archive = place.archive();
    let owners = archive.owners().await.expect("listed");
    let own = owners.last().expect("two");
    let own = archive.spans(own).await.expect("read").known;
    let [own] = &own[..] else { panic!("{own:?}") };
    assert_eq!(own.last.last_revision, new.store.revision().0);
    // The earlier cluster's goes on in a chain of its own.
    old.told.term.store(2, Ordering::Relaxed);
    old.put("a", "old");
    ship(&mut shipper).await;
    assert_eq!(shipper.progress.meters.gaps.get(), 1, "it is told");
}

#[tokio::test]
async fn a_store_that_is_away_loses_nothing() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    let away = place.dir.path().with_extension("away");
    std::fs::rename(place.dir.path(), &away).expect("renamed");
    std::fs::write(place.dir.path(), "no directory").expect("written");
    applying.put("a", "1");
    assert!(shipper.turn().await.is_err());
    std::fs::remove_file(place.dir.path()).expect("removed");
    std::fs::rename(&away, place.dir.path()).expect("renamed");
    ship(&mut shipper).await;
    let spans = place.spans().await;
    let (records, _) = place.contents(&spans[0]).await;
    same(&records, &applying.records());
}

/// A volume is unmounted below the member: what is left is the empty directory that it was mounted on.
#[tokio::test]
async fn what_follows_nothing_is_not_shipped_and_what_comes_back_is_gone_on_with() {
    let (applying, place) = (Applying::new(), Place::new());
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    applying.put("a", "1");
    ship(&mut shipper).await;
    let at = |name: &str| place.dir.path().join(name);
    let fails = async |shipper: &mut Shipper| {
        let error = shipper.turn().await.expect_err("its end is not there");
        assert!(error.to_string().contains("is missing"), "{error}");
        shipper.failed(&error);
    };
    std::fs::rename(at("demo"), at("away")).expect("renamed");
    applying.apply(&Op::LeaseGrant(LeaseGrant {
        id: LeaseId(7),
        ttl_seconds: 60,
    }));
    applying.put("a", "2");
    fails(&mut shipper).await;
    ship(&mut shipper).await;
    assert_eq!(shipper.progress.meters.gaps.get(), 1, "it is told");
    let spans = place.spans().await;
    assert_eq!((spans.len(), spans[0].begins_after()), (1, 3));
    applying.put("a", "3");
    ship(&mut shipper).await;
    // It is there again.
    std::fs::rename(at("demo"), at("below")).expect("renamed");
    std::fs::rename(at("away"), at("demo")).expect("renamed");
    applying.put("a", "4");
    fails(&mut shipper).await;
    ship(&mut shipper).await;
    let spans = place.spans().await;
    assert_eq!((spans.len(), spans[0].begins_after()), (1, 1));
    let (records, notes) = place.contents(&spans[0]).await;
    same(&records, &applying.records());
    // What was shipped in between is not known one by one any more.
    use pb::note::Change;
    let leases = notes.iter().find_map(|note| match &note.change {
        Some(Change::Leases(table)) => Some(table.leases.len()),
        _ => None,
    });
    assert_eq!(leases, Some(1), "{notes:?}");
}

/// How often these bytes lie in the archive.
fn found(dir: &Path, wanted: &[u8]) -> usize {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let found = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found(&path, wanted),
            false => {
                let bytes = std::fs::read(&path).expect("read");
                bytes
                    .windows(wanted.len())
                    .filter(|part| *part == wanted)
                    .count()
            }
        }
    });
    found.sum()
}

#[tokio::test]
async fn an_encrypted_archive_is_gone_on_with_by_whoever_has_its_keys() {
    let (applying, mut place) = (Applying::new(), Place::new());
    // Begun without a key, then with one, then with a newer one.
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    applying.put("a", "unencrypted");
    ship(&mut shipper).await;
    let is_told = |place: &Place| found(&place.dir.path().join("demo"), b"\"firstRevision\"");
    let told = is_told(&place);
    assert!(told > 0, "the header can be read");
    for byte in [1, 2] {
        place.encrypt(byte);
        let mut shipper = applying.shipper(&place);
        applying.put("a", "secret");
        ship(&mut shipper).await;
    }
    assert_eq!(is_told(&place), told, "nothing is told any more");
    let spans = place.spans().await;
    let (records, _) = place.contents(&spans[0]).await;
    same(&records, &applying.records());
    // A member whose keys are other ones writes nothing, and says which key it needs.
    let newer = place.key_files.remove(0);
    let mut shipper = applying.shipper(&place);
    applying.put("a", "secret");
    let refused = shipper.turn().await.expect_err("its key is missing");
    let key = Keys::read(&[&newer]).expect("a key").ids().remove(0);
    assert!(refused.to_string().contains(key.as_ref()), "{refused}");
    shipper.failed(&refused);
    place.key_files.insert(0, newer);
    let spans = place.spans().await;
    assert!(spans[0].last.last_revision < applying.store.revision().0);
    assert_eq!((spans.len(), shipper.progress.meters.gaps.get()), (1, 0));
    let mut shipper = applying.shipper(&place);
    ship(&mut shipper).await;
    let spans = place.spans().await;
    let (records, _) = place.contents(&spans[0]).await;
    same(&records, &applying.records());
}

#[tokio::test]
async fn followers_hold_what_the_leader_has_not_shipped() {
    let (leader, follower, place) = (Applying::new(), Applying::new(), Place::new());
    follower.told.term.store(0, Ordering::Relaxed);
    let mut writing = leader.shipper(&place);
    let mut following = follower.shipper(&place);
    let both = |value: &str| {
        leader.put("key", value);
        follower.put("key", value);
    };
    ship(&mut writing).await;
    both("1");
    ship(&mut writing).await;
    ship(&mut following).await;
    both("2");
    both("3");
    for one in [&leader, &follower] {
        one.compact();
        one.reclaim();
    }
    // The leader is gone before it ships; the follower leads.
    drop(writing);
    follower.told.term.store(2, Ordering::Relaxed);
    ship(&mut following).await;
    let spans = place.spans().await;
    assert_eq!(spans.len(), 1, "no gap");
    let (records, notes) = place.contents(&spans[0]).await;
    let revisions: Vec<i64> = records.iter().map(|record| record.revision).collect();
    assert_eq!(revisions, [2, 3, 4]);
    assert_eq!(notes.len(), 1, "the compaction");
}
