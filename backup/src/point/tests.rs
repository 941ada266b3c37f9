//! Which moment is which, over archives in a directory whose segments say what a test has them say.

use bytes::Bytes;
use engram_archive::{Builder, Built, Cut, Writer};
use engram_objects::Whose;
use engram_proto::backup as pb;
use tempfile::TempDir;

use super::*;

/// What a cluster wrote, and where.
struct Scene {
    _dir: TempDir,
    store: BackupStore,
    archive: Archive,
    cluster: BackupId,
    writer: Writer,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let store = BackupStore::open(&format!("file://{}", dir.path().display()));
        let store = store.expect("the directory is there");
        let cluster = "demo".parse().expect("a name");
        Scene {
            archive: Archive::new(store.objects(), &cluster),
            writer: Writer {
                whose: Whose {
                    cluster_id: crate::format::sample("a", "2026-01-02T00:00:00Z").cluster_id,
                    incarnation: "0".into(),
                },
                term: 1,
                member_id: "8e9e".into(),
                version: "0.1.0".into(),
            },
            _dir: dir,
            store,
            cluster,
        }
    }

    /// A backup at a revision, whole as far as anybody here looks.
    async fn backup(&self, id: &str, revision: i64) {
        let mut manifest = crate::format::sample(id, "2026-01-02T00:00:00Z");
        manifest.cluster = self.cluster.clone();
        manifest.revision = revision;
        manifest.last_records = None;
        manifest.chunks = vec![crate::format::sample_chunk()];
        let path = &manifest.chunks[0].path;
        let bytes = Bytes::from_static(b"chunk");
        let put = self
            .store
            .put_chunk(&self.cluster, &manifest.id, path, bytes);
        put.await.expect("a put");
        self.store.publish(&manifest).await.expect("published");
    }

    /// Begins a chain after a revision.
    async fn begin(&self, run: u32, revision: i64, unix_ms: i64) -> Built {
        let cut = Cut {
            revision,
            index: index(revision),
        };
        let mut builder = Builder::first(&self.writer, run, cut, unix_ms, None);
        builder.moment(pb::Moment {
            revision,
            index: cut.index,
            unix_ms,
        });
        let built = builder.finish(cut);
        self.archive.append(&built).await.expect("stored");
        built
    }

    /// Goes on with one revision that was made at a time.
    async fn go_on(&self, last: &Built, unix_ms: i64) -> Built {
        let mut builder = Builder::after(&self.writer, &last.header, &last.hash);
        let revision = builder.revision() + 1;
        assert!(builder.record(&pb::Record {
            revision,
            sub: 0,
            tombstone: false,
            key_value: Bytes::from(format!("record {revision}")),
        }));
        let index = index(revision);
        builder.moment(pb::Moment {
            revision,
            index,
            unix_ms,
        });
        let built = builder.finish(Cut { revision, index });
        self.archive.append(&built).await.expect("stored");
        built
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            cluster: Some(&self.cluster),
            selectors: &[],
            backup: LATEST,
        }
    }

    async fn find(&self, when: When) -> Result<i64, PointError> {
        let found = find(&self.store, self.asked(), when).await;
        found.map(|point| point.revision)
    }
}

fn index(revision: i64) -> u64 {
    u64::try_from(revision).expect("positive") + 10
}

fn at(unix_ms: i64) -> When {
    When::Time(DateTime::from_timestamp_millis(unix_ms).expect("a time"))
}

const HOUR: i64 = 3_600_000;

/// A member's clock was an hour ahead: what was written after that, with the clock set right, counted as made an hour
/// later, so that a restore to any time since gave what was there before, as a success.
#[tokio::test]
async fn no_moment_is_told_by_a_clock_that_was_ahead() {
    let scene = Scene::new();
    scene.backup("base", 4).await;
    let now = Utc::now().timestamp_millis();
    let mut last = scene.begin(0, 4, now - HOUR).await;
    for made in [
        now - HOUR / 2,
        now - 3_000,
        now + HOUR,
        now - 2_000,
        now - 1_000,
    ] {
        last = scene.go_on(&last, made).await;
    }
    // What came before it is told as ever.
    assert_eq!(scene.find(at(now - HOUR / 4)).await.expect("told"), 5);
    let refused = scene.find(at(now)).await.expect_err("it is not known");
    assert!(
        matches!(&refused, PointError::Ahead { from: 6, to: 9, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("--to-revision"), "{refused}");
    assert_eq!(scene.find(When::Revision(8)).await.expect("there"), 8);
    assert_eq!(scene.find(When::End).await.expect("there"), 9);
}

/// The same clock made the chain before a gap a later one than the chain behind it: `--to-end` gave its end.
#[tokio::test]
async fn a_chain_is_never_later_than_one_behind_it() {
    let scene = Scene::new();
    scene.backup("base", 4).await;
    let now = Utc::now().timestamp_millis();
    let first = scene.begin(0, 4, now - HOUR).await;
    scene.go_on(&first, now + HOUR).await;
    let second = scene.begin(1, 7, now - 2_000).await;
    scene.go_on(&second, now - 1_000).await;
    let refused = scene.find(When::End).await.expect_err("no backup is there");
    assert!(
        matches!(&refused, PointError::NoBase { from: 7, to: 8, .. }),
        "{refused}"
    );
    scene.backup("later", 7).await;
    assert_eq!(scene.find(When::End).await.expect("there"), 8);
}

#[tokio::test]
async fn a_moment_that_has_just_passed_is_waited_for() {
    let scene = Scene::new();
    scene.backup("base", 4).await;
    let now = Utc::now().timestamp_millis();
    let first = scene.begin(0, 4, now - 10_000).await;
    let refused = scene.find(at(now)).await;
    assert!(
        matches!(&refused, Err(PointError::Outside { .. })),
        "{refused:?}"
    );
    let told = std::cell::Cell::new(0);
    let tell = |_| told.set(told.get() + 1);
    let found = find_soon(&scene.store, scene.asked(), at(now), tell);
    let written = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut builder = Builder::after(&scene.writer, &first.header, &first.hash);
        builder.moment(pb::Moment {
            revision: 4,
            index: index(4),
            unix_ms: now + 200,
        });
        let built = builder.finish(Cut {
            revision: 4,
            index: index(4),
        });
        scene.archive.append(&built).await.expect("stored");
    };
    let (found, ()) = tokio::join!(found, written);
    assert_eq!(found.expect("it is there by now").revision, 4);
    assert_eq!(told.get(), 1);
    // One that is long gone, or yet to come, is not.
    for outside in [now - 2 * HOUR, now + HOUR] {
        let refused = find_soon(&scene.store, scene.asked(), at(outside), tell).await;
        assert!(
            matches!(&refused, Err(PointError::Outside { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(told.get(), 1, "nobody waited");
}

/// The one backup that would do was damaged, and all that was said is how many there are beside it.
#[tokio::test]
async fn a_backup_of_no_use_is_named_where_none_will_do() {
    let scene = Scene::new();
    scene.backup("base", 4).await;
    let now = Utc::now().timestamp_millis();
    let first = scene.begin(0, 4, now - HOUR).await;
    scene.go_on(&first, now - 1_000).await;
    let manifest = scene._dir.path().join("demo/base/MANIFEST");
    std::fs::write(manifest, "nonsense").expect("written");
    let refused = scene.find(When::Revision(5)).await.expect_err("no base");
    let said = refused.to_string();
    assert!(said.contains("base: the manifest is damaged"), "{said}");
}

/// What wrote a backup was a newer engramctl: this one removed the segments behind it, since none that it could read
/// needed them.
#[tokio::test]
async fn no_segment_is_pruned_that_a_backup_of_a_newer_format_may_need() {
    let scene = Scene::new();
    scene.backup("later", 6).await;
    let now = Utc::now().timestamp_millis();
    let mut last = scene.begin(0, 2, now - HOUR).await;
    for made in 1..6 {
        last = scene.go_on(&last, now - HOUR + made).await;
    }
    let newer = engram_objects::sealed::seal(&serde_json::json!({ "format": 99 }));
    let place = scene._dir.path().join("demo/newer");
    std::fs::create_dir(&place).expect("made");
    std::fs::write(place.join("MANIFEST"), newer).expect("written");
    let scope = crate::prune::Scope::default();
    let prune = async || {
        let pruned = crate::prune::prune(&scene.store, &scene.cluster, &scope, false).await;
        pruned.expect("pruned")
    };
    assert_eq!(prune().await.segments, 0);
    assert_eq!(scene.find(When::Revision(7)).await.expect("there"), 7);
    std::fs::remove_dir_all(place).expect("removed");
    // Those before the segment that ends at the one that is left.
    assert_eq!(prune().await.segments, 4);
}
