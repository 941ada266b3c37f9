//! The store's rules, in a directory.

use super::*;
use crate::format::{Manifest, Selector, Verification, Whose};
use crate::prune::{PruneError, Pruned, Scope, prune};
use crate::retention::Retention;
use tempfile::TempDir;

fn open() -> (TempDir, BackupStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = BackupStore::open(&format!("file://{}", dir.path().display()));
    (dir, store.expect("the directory is there"))
}

fn manifest(cluster: &str, id: &str, created_at: &str) -> Manifest {
    let mut manifest = crate::format::sample(id, created_at);
    manifest.cluster = cluster.parse().expect("a name");
    manifest.chunks = vec![crate::format::sample_chunk()];
    manifest
}

async fn put_chunks(store: &BackupStore, manifest: &Manifest) {
    for chunk in &manifest.chunks {
        let bytes = Bytes::from_static(b"chunk");
        let put = store.put_chunk(&manifest.cluster, &manifest.id, &chunk.path, bytes);
        put.await.expect("a put");
    }
}

/// Puts a backup into the store, whole.
async fn made(store: &BackupStore, manifest: &Manifest) {
    put_chunks(store, manifest).await;
    store.publish(manifest).await.expect("published");
}

async fn latest(store: &BackupStore, whose: &[&str]) -> Result<String, StoreError> {
    let selectors = selectors(whose);
    let cluster = "demo".parse().expect("a name");
    let found = store.find(Some(&cluster), &selectors, "latest").await?;
    Ok(found.manifest.id.to_string())
}

fn selectors(whose: &[&str]) -> Vec<Selector> {
    let parsed = whose.iter().map(|one| one.parse().expect("it names one"));
    parsed.collect()
}

/// What is pruned of the last one's rule.
async fn keep_last(store: &BackupStore, whose: &[&str], owner: Option<&str>) -> Pruned {
    keep_last_of(store, whose, owner).await.expect("pruned")
}

async fn keep_last_of(
    store: &BackupStore,
    whose: &[&str],
    owner: Option<&str>,
) -> Result<Pruned, PruneError> {
    let scope = Scope {
        selectors: selectors(whose),
        owner: owner.map(str::to_owned),
        rules: Retention {
            keep_last: 1,
            ..Retention::default()
        },
    };
    let cluster = "demo".parse().expect("a name");
    prune(store, &cluster, &scope, false).await
}

async fn ids(store: &BackupStore, cluster: &str) -> Vec<String> {
    let cluster = cluster.parse().expect("a name");
    let listing = store.list(&cluster).await.expect("a list");
    let backups = listing.backups.iter();
    backups
        .map(|listed| listed.manifest.id.to_string())
        .collect()
}

#[tokio::test]
async fn what_has_no_manifest_is_not_listed() {
    let (dir, store) = open();
    assert_eq!(ids(&store, "demo").await, Vec::<String>::new());
    let whole = manifest("demo", "whole", "2026-01-02T00:00:00Z");
    let half = manifest("demo", "half", "2026-01-03T00:00:00Z");
    put_chunks(&store, &half).await;
    assert_eq!(ids(&store, "demo").await, Vec::<String>::new());
    put_chunks(&store, &whole).await;
    store.publish(&whole).await.expect("published");
    assert_eq!(ids(&store, "demo").await, ["whole"]);
    let listing = store.list(&half.cluster).await.expect("a list");
    assert_eq!(listing.unfinished, std::slice::from_ref(&half.id));
    let none = store.find(None, &[], "half").await;
    assert!(matches!(none, Err(StoreError::NoBackup { .. })));
    // It is removed in the order that keeps this true: the manifest first.
    let chunk = dir.path().join("demo/whole/attempt/00000000.chunk");
    assert!(chunk.is_file());
    store
        .remove(&whole.cluster, &whole.id)
        .await
        .expect("removed");
    assert!(!chunk.exists());
    assert_eq!(ids(&store, "demo").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_name_is_given_once() {
    let (_dir, store) = open();
    let first = manifest("demo", "a", "2026-01-02T00:00:00Z");
    let mut second = first.clone();
    second.revision += 1;
    made(&store, &first).await;
    let refused = store.publish(&second).await;
    assert!(matches!(refused, Err(StoreError::Exists(_))));
    let found = store.find(None, &[], "a").await.expect("found");
    assert_eq!(found.manifest, first);
}

#[tokio::test]
async fn the_latest_is_found_and_clusters_are_told_apart() {
    let (_dir, store) = open();
    for (cluster, id, at) in [
        ("one", "a", "2026-01-03T00:00:00Z"),
        ("one", "b", "2026-01-02T00:00:00Z"),
        ("two", "a", "2026-01-01T00:00:00Z"),
    ] {
        made(&store, &manifest(cluster, id, at)).await;
    }
    assert_eq!(ids(&store, "one").await, ["b", "a"], "oldest first");
    let one = "one".parse().expect("a name");
    let latest = store.find(Some(&one), &[], "latest").await.expect("found");
    assert_eq!(latest.manifest.id.as_ref(), "a");
    let found = store.find(None, &[], "b").await.expect("found");
    assert_eq!(found.manifest.cluster, one);
    for wanted in ["a", "latest"] {
        let ambiguous = store.find(None, &[], wanted).await;
        assert!(
            matches!(ambiguous, Err(StoreError::Ambiguous { .. })),
            "{wanted}"
        );
    }
}

#[tokio::test]
async fn a_damaged_or_displaced_manifest_is_reported_and_counts_for_nothing() {
    let (dir, store) = open();
    let good = manifest("demo", "good", "2026-01-02T00:00:00Z");
    let bad = manifest("demo", "bad", "2026-01-03T00:00:00Z");
    made(&store, &good).await;
    made(&store, &bad).await;
    let path = dir.path().join("demo/bad/MANIFEST");
    // Whole, but another backup's.
    std::fs::copy(dir.path().join("demo/good/MANIFEST"), &path).expect("copied");
    let listing = store.list(&good.cluster).await.expect("a list");
    assert_eq!(listing.damaged.len(), 1);
    assert_eq!(ids(&store, "demo").await, ["good"]);
    let rules = Retention {
        max_age: Some(std::time::Duration::from_secs(1)),
        ..Retention::default()
    };
    let scope = Scope {
        rules,
        ..Scope::default()
    };
    let pruned = prune(&store, &good.cluster, &scope, false).await;
    let pruned = pruned.expect("pruned");
    assert!(pruned.removed.is_empty(), "the newest good one stays");
    assert_eq!(pruned.damaged, [bad.id]);
    assert_eq!(ids(&store, "demo").await, ["good"]);
}

/// Those of a cluster of that id, by their days in January.
async fn made_of(store: &BackupStore, cluster_id: &str, days: &[u32]) {
    for day in days {
        let id = format!("{cluster_id}-{day}");
        let mut manifest = manifest("demo", &id, &format!("2026-01-{day:02}T00:00:00Z"));
        manifest.cluster_id = cluster_id.into();
        made(store, &manifest).await;
    }
}

#[tokio::test]
async fn a_cluster_of_the_same_name_neither_prunes_nor_is_restored_by_accident() {
    let (_dir, store) = open();
    made_of(&store, "aa", &[1, 2, 3]).await;
    made_of(&store, "bb", &[4, 5]).await;
    let refused = latest(&store, &[])
        .await
        .expect_err("it is a mix")
        .to_string();
    for part in ["aa/0", "bb/0", "2026-01-03", "--cluster-id"] {
        assert!(refused.contains(part), "{refused}");
    }
    let refused = keep_last_of(&store, &[], None).await;
    assert!(matches!(
        refused,
        Err(PruneError::Store(StoreError::Mixed { .. }))
    ));
    assert_eq!(ids(&store, "demo").await.len(), 5, "nothing was removed");
    assert_eq!(latest(&store, &["aa"]).await.expect("found"), "aa-3");
    let pruned = keep_last(&store, &["bb"], None).await;
    assert_eq!(pruned.removed, ["bb-4".parse().expect("a name")]);
    assert_eq!(pruned.others.len(), 3);
    assert_eq!(ids(&store, "demo").await, ["aa-1", "aa-2", "aa-3", "bb-5"]);
    let by_id = store.find(None, &selectors(&["bb"]), "aa-3").await;
    assert!(matches!(by_id, Err(StoreError::Another { .. })));
}

#[tokio::test]
async fn incarnations_of_one_id_are_told_apart() {
    let (_dir, store) = open();
    made_of(&store, "aa", &[1, 2]).await;
    let mut again = manifest("demo", "again", "2026-01-03T00:00:00Z");
    again.cluster_id = "aa".into();
    again.incarnation = "18ec".into();
    made(&store, &again).await;
    for whose in [&[][..], &["aa"]] {
        let refused = latest(&store, whose).await;
        assert!(
            matches!(refused, Err(StoreError::Mixed { .. })),
            "{whose:?}"
        );
    }
    assert_eq!(latest(&store, &["aa/18ec"]).await.expect("found"), "again");
    assert_eq!(latest(&store, &["aa/0"]).await.expect("found"), "aa-2");
    let pruned = keep_last(&store, &["aa/18ec"], None).await;
    assert_eq!(pruned.removed, []);
}

#[tokio::test]
async fn a_restored_cluster_goes_on_with_what_it_was_restored_from() {
    let (_dir, store) = open();
    made_of(&store, "aa", &[1, 2]).await;
    let mut restored = manifest("demo", "restored", "2026-01-03T00:00:00Z");
    restored.cluster_id = "bb".into();
    restored.continues = vec![Whose::try_from("aa/0".to_owned()).expect("one")];
    made(&store, &restored).await;
    assert_eq!(latest(&store, &[]).await.expect("found"), "restored");
    let pruned = keep_last(&store, &["bb/0"], None).await;
    assert_eq!(pruned.removed.len(), 2, "{pruned:?}");
    assert_eq!(ids(&store, "demo").await, ["restored"]);
}

#[tokio::test]
async fn each_prunes_what_it_made() {
    let (_dir, store) = open();
    for (day, owner) in [
        (1, None),
        (2, Some("hourly")),
        (3, Some("hourly")),
        (4, Some("monthly")),
    ] {
        let id = format!("d{day}");
        let mut manifest = manifest("demo", &id, &format!("2026-01-{day:02}T00:00:00Z"));
        manifest.owner = owner.map(str::to_owned);
        made(&store, &manifest).await;
    }
    let pruned = keep_last(&store, &[], Some("hourly")).await;
    assert_eq!(pruned.removed, ["d2".parse().expect("a name")]);
    assert_eq!(keep_last(&store, &[], None).await.removed, []);
    assert_eq!(ids(&store, "demo").await, ["d1", "d3", "d4"]);
}

#[tokio::test]
async fn one_that_was_not_good_counts_for_no_rule_and_is_never_the_latest() {
    let (dir, store) = open();
    made_of(&store, "aa", &[1, 2, 3]).await;
    let find = |id: &'static str| {
        let store = store.clone();
        async move { store.find(None, &[], id).await.expect("found") }
    };
    let bad = find("aa-3").await.manifest;
    let at = || "2026-01-04T00:00:00Z".to_owned();
    let refuted = Verification::of(&bad, at(), Some("chunk 7 is damaged".into()));
    store.put_verification(&bad, &refuted).await.expect("kept");
    let found = find("latest").await;
    assert_eq!(found.manifest.id.as_ref(), "aa-2");
    assert_eq!(found.passed_over, std::slice::from_ref(&bad.id));
    let by_name = find("aa-3").await.refuted;
    assert_eq!(by_name.as_deref(), Some("chunk 7 is damaged"));
    let pruned = keep_last(&store, &[], None).await;
    assert_eq!(pruned.removed, ["aa-1".parse().expect("a name")]);
    assert_eq!(
        (pruned.kept.len(), &pruned.refuted),
        (1, &vec![bad.id.clone()])
    );
    // What the verification said is damaged itself: nobody knows that the backup is good.
    let path = dir.path().join("demo/aa-3/VERIFICATION");
    std::fs::write(&path, "{").expect("written");
    assert_eq!(find("latest").await.manifest.id.as_ref(), "aa-2");
    let good = Verification::of(&bad, at(), None);
    store.put_verification(&bad, &good).await.expect("kept");
    assert_eq!(find("latest").await.manifest.id.as_ref(), "aa-3");
    // Made again under its name it is another backup.
    store.put_verification(&bad, &refuted).await.expect("kept");
    let path = dir.path().join("demo/aa-3/MANIFEST");
    let mut again = bad.clone();
    again.chunks[0].path = "second/00000000.chunk".into();
    put_chunks(&store, &again).await;
    std::fs::remove_file(path).expect("removed");
    store.publish(&again).await.expect("published");
    assert_eq!(find("latest").await.manifest.id.as_ref(), "aa-3");
}

#[tokio::test]
async fn the_last_mark_of_a_verification_counts() {
    let (dir, store) = open();
    made_of(&store, "aa", &[1, 2]).await;
    let bad = store.find(None, &[], "aa-2").await.expect("found").manifest;
    let mark = |refusal: Option<&str>| {
        let at = "2026-01-04T00:00:00Z".to_owned();
        Verification::of(&bad, at, refusal.map(str::to_owned))
    };
    store
        .put_verification(&bad, &mark(None))
        .await
        .expect("kept");
    assert_eq!(latest(&store, &[]).await.expect("found"), "aa-2");
    // As it is where a store kept the first one as it was: it is said beside it.
    let second = dir.path().join("demo/aa-2/VERIFICATION-2");
    std::fs::write(&second, mark(Some("damaged")).encode()).expect("written");
    assert_eq!(latest(&store, &[]).await.expect("found"), "aa-1");
    // The next one is written over the last, where it can be.
    store
        .put_verification(&bad, &mark(None))
        .await
        .expect("kept");
    assert_eq!(latest(&store, &[]).await.expect("found"), "aa-2");
    assert_eq!(std::fs::read(&second).expect("there"), mark(None).encode());
    store.remove(&bad.cluster, &bad.id).await.expect("removed");
    assert!(!second.exists());
}

#[tokio::test]
async fn a_key_that_the_archive_needs_is_asked_for_before_anything_is_removed() {
    use engram_objects::{FIRST, Keys};
    let (dir, store) = open();
    let keyed = |seed: u8| store.clone().with_keys(Keys::of(&[[seed; 32]]));
    for (day, revision) in [(1, 2), (2, 9)] {
        let id = format!("d{day}");
        let mut manifest = manifest("demo", &id, &format!("2026-01-{day:02}T00:00:00Z"));
        (manifest.cluster_id, manifest.revision) = ("aa".into(), revision);
        made(&store, &manifest).await;
    }
    // The backups can be read by anybody; of the archive nothing is known but that it is encrypted.
    let run = dir.path().join(format!("demo/_archive/aa-{FIRST}/000000"));
    std::fs::create_dir_all(&run).expect("a directory");
    let name = format!("demo/_archive/aa-{FIRST}/000000/000000000000.segment");
    let keys = Keys::of(&[[7; 32]]);
    let segment = keys.encrypt(&name, Bytes::from_static(b"a segment"));
    std::fs::write(dir.path().join(&name), segment).expect("written");
    let refused = keep_last_of(&keyed(8), &[], None).await;
    let Err(PruneError::Archive(refused)) = refused else {
        panic!("{refused:?}")
    };
    assert!(refused.is_locked(), "{refused}");
    assert_eq!(
        ids(&store, "demo").await,
        ["d1", "d2"],
        "nothing was removed"
    );
}

#[tokio::test]
async fn what_is_removed_while_it_is_made_is_not_listed() {
    let (dir, store) = open();
    let whole = manifest("demo", "a", "2026-01-02T00:00:00Z");
    let chunk = dir.path().join("demo/a/attempt/00000000.chunk");
    let refused = store.publish(&whole).await;
    assert!(
        matches!(refused, Err(StoreError::Vanished(_))),
        "{refused:?}"
    );
    put_chunks(&store, &whole).await;
    std::fs::write(&chunk, "short").expect("written");
    std::fs::write(&chunk, "cut").expect("written");
    let refused = store.publish(&whole).await;
    assert!(
        matches!(refused, Err(StoreError::Vanished(_))),
        "{refused:?}"
    );
    assert_eq!(ids(&store, "demo").await, Vec::<String>::new());
    // A publication whose answer was lost is tried again, and meets itself.
    made(&store, &whole).await;
    store.publish(&whole).await.expect("it is the same");
}

#[tokio::test]
async fn a_backup_of_format_1_is_found_and_told_apart() {
    let place = format!("file://{}", crate::format::store_of_format_1().display());
    let store = BackupStore::open(&place).expect("a store");
    let found = store.find(None, &[], "latest").await.expect("found");
    assert_eq!(found.manifest.whose().to_string(), "970c2fcc56acff62/0");
    let other = store.find(None, &selectors(&["aa"]), "first").await;
    assert!(matches!(other, Err(StoreError::Another { .. })));
}

#[test]
fn urls_that_name_no_store_are_refused() {
    for (url, wanted) in [
        ("nothing", "relative URL"),
        ("ftp://x", "ftp:// is not known"),
        ("file:///no/such/directory", "must be there"),
        ("file:///tmp?x=y", "without host and options"),
        ("s3://bucket?color=red", "option color is not known"),
        ("s3://bucket?allow_http=maybe", "true or false"),
        ("s3:///prefix", "names no bucket"),
        ("gs:///prefix", "names no bucket"),
        ("gs://bucket?region=r", "option region is not known"),
        ("az://account", "names no account and container"),
        ("https://example.com/a", "no cloud that is known here"),
    ] {
        let error = BackupStore::open(url).expect_err(url).to_string();
        assert!(error.contains(wanted), "{url}: {error}");
    }
    for url in [
        "az://account/container/prefix",
        "https://account.blob.core.windows.net/container/prefix",
    ] {
        let opened = BackupStore::open(url).expect("a store");
        assert_eq!(opened.objects().prefix().as_ref(), "prefix", "{url}");
    }
    let secret = "s3://bucket/prefix/?region=r&endpoint=http://e";
    let store = BackupStore::open(secret).expect("a store");
    assert_eq!(store.url(), "s3://bucket/prefix", "options are not shown");
}

/// Makes everything below a directory three days old.
fn make_old(directory: &std::path::Path) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 86_400);
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            make_old(&path);
        }
        let file = std::fs::File::open(&path).expect("opened");
        file.set_modified(then).expect("set");
    }
}

#[tokio::test]
async fn what_no_attempt_left_behind_is_not_pruned() {
    let (dir, store) = open();
    made(&store, &manifest("demo", "whole", "2026-01-02T00:00:00Z")).await;
    let abandoned = manifest("demo", "abandoned", "2026-01-02T00:00:00Z");
    put_chunks(&store, &abandoned).await;
    let place = |name: &str| dir.path().join("demo").join(name);
    for name in [
        "somebodys/notes.txt",
        "mixed/attempt/00000000.chunk",
        "mixed/db",
        "cut/attempt/00000000.chunk#1",
        "deep/a/b/00000000.chunk",
    ] {
        let path = place(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, "bytes").expect("written");
    }
    let pruned = keep_last(&store, &[], None).await;
    assert_eq!((pruned.abandoned.len(), pruned.staged), (0, 0), "too young");
    make_old(dir.path());
    let pruned = keep_last(&store, &[], None).await;
    assert_eq!(pruned.abandoned, [abandoned.id]);
    assert_eq!(pruned.staged, 1, "no list shows it");
    assert!(!place("abandoned").exists() && !place("cut/attempt/00000000.chunk#1").exists());
    for name in ["somebodys/notes.txt", "mixed/db", "deep/a/b/00000000.chunk"] {
        assert!(place(name).exists(), "{name}");
    }
    assert_eq!(ids(&store, "demo").await, ["whole"]);
}

/// Whoever opened the pipe waited for ever, and the link that leads round in a circle ended a prune.
#[tokio::test]
async fn what_is_no_file_keeps_nobody_waiting() {
    let (dir, store) = open();
    made(&store, &manifest("demo", "whole", "2026-01-02T00:00:00Z")).await;
    let mut torn = manifest("demo", "torn", "2026-01-02T00:00:00Z");
    torn.chunks[0].path = "attempt/00000000.chunk".into();
    made(&store, &torn).await;
    let place = |name: &str| dir.path().join("demo").join(name);
    std::fs::create_dir(place("piped")).expect("made");
    std::fs::remove_file(place("torn/attempt/00000000.chunk")).expect("removed");
    for name in [
        "piped/MANIFEST",
        "whole/VERIFICATION",
        "torn/attempt/00000000.chunk",
    ] {
        let made = std::process::Command::new("mkfifo")
            .arg(place(name))
            .status();
        assert!(made.expect("mkfifo").success());
    }
    std::os::unix::fs::symlink(dir.path(), place("around")).expect("linked");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).expect("linked");
    let soon = std::time::Duration::from_secs(20);
    let looked = async {
        assert_eq!(ids(&store, "demo").await, ["torn", "whole"]);
        let there = store.chunk(&torn, &torn.chunks[0].path).await;
        assert!(matches!(there, Err(StoreError::Gone(_))), "{there:?}");
        let cluster = "demo".parse().expect("a name");
        let pruned = prune(&store, &cluster, &Scope::default(), false).await;
        assert_eq!(pruned.expect("pruned").abandoned, []);
        assert_eq!(store.clusters().await.expect("listed").len(), 2);
    };
    let looked = tokio::time::timeout(soon, looked).await;
    looked.expect("nobody waits for whoever writes to a pipe");
    assert!(place("piped/MANIFEST").exists() && place("around").exists());
}

/// A store that takes no notice of a condition.
#[derive(Debug)]
struct Careless(object_store::memory::InMemory);

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[tonic::async_trait]
impl object_store::ObjectStore for Careless {
    async fn put_opts(
        &self,
        location: &Path,
        payload: object_store::PutPayload,
        _: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        let options = object_store::PutOptions::default();
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures_util::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>>
    {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn no_archive_is_written_to_a_store_that_writes_over_what_is_there() {
    use object_store::memory::InMemory;
    use std::sync::Arc;

    let cluster = "demo".parse().expect("a name");
    let archive = |store: Arc<dyn object_store::ObjectStore>| {
        let objects = Objects::new(store, Path::default(), "s3://bucket".into());
        engram_archive::Archive::new(objects, &cluster)
    };
    let careful = archive(Arc::new(InMemory::new()));
    for _ in 0..2 {
        careful.must_be_exclusive().await.expect("it is");
    }
    let careless = archive(Arc::new(Careless(InMemory::new())));
    for _ in 0..2 {
        let refused = careless.must_be_exclusive().await.expect_err("it is not");
        assert!(!refused.is_damage() && !refused.is_locked());
        let said = refused.to_string();
        assert!(
            said.contains("s3://bucket/demo/_archive/EXCLUSIVE was created twice")
                && said.contains("If-None-Match"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_was_wrong_once_makes_no_old_backup_the_latest() {
    let (_dir, store) = open();
    for (id, revision, at) in [
        ("first", 10, "2026-01-01T00:00:00Z"),
        ("ahead", 20, "2099-01-01T00:00:00Z"),
        ("behind", 30, "1970-01-01T00:00:00Z"),
        ("newest", 40, "2026-01-03T00:00:00Z"),
    ] {
        let mut one = manifest("demo", id, at);
        one.revision = revision;
        made(&store, &one).await;
    }
    let order = ["first", "ahead", "behind", "newest"];
    assert_eq!(ids(&store, "demo").await, order);
    assert_eq!(latest(&store, &[]).await.expect("found"), "newest");
    let pruned = keep_last(&store, &[], None).await;
    let newest: BackupId = "newest".parse().expect("a name");
    assert_eq!(pruned.kept, [newest]);
}

#[tokio::test]
async fn of_several_attempts_under_one_name_one_is_left() {
    let (dir, store) = open();
    let mut won = manifest("demo", "one", "2026-01-02T00:00:00Z");
    let mut killed = won.clone();
    killed.chunks[0].path = "dead/00000000.chunk".into();
    put_chunks(&store, &killed).await;
    won.chunks[0].path = "alive/00000000.chunk".into();
    made(&store, &won).await;
    store.remove_other_attempts(&won).await.expect("removed");
    let place = |name: &str| dir.path().join("demo/one").join(name);
    assert!(place("alive/00000000.chunk").exists() && place("MANIFEST").exists());
    assert!(!place("dead").exists());
    let late = store.publish(&killed).await;
    assert!(matches!(late, Err(StoreError::Exists(_))), "{late:?}");
}
