//! The store's rules, in a directory.

use super::*;
use crate::format::{ChunkEntry, Manifest};
use crate::prune::prune;
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
    manifest.chunks = vec![ChunkEntry {
        path: "attempt/00000000.chunk".into(),
        kind: "records".into(),
        bytes: 5,
        raw_bytes: 5,
        sha256: String::new(),
        messages: 1,
        first_revision: 2,
        last_revision: 2,
    }];
    manifest
}

async fn put_chunks(store: &BackupStore, manifest: &Manifest) {
    for chunk in &manifest.chunks {
        let bytes = Bytes::from_static(b"chunk");
        let put = store.put_chunk(&manifest.cluster, &manifest.id, &chunk.path, bytes);
        put.await.expect("a put");
    }
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
    let none = store.find(None, "half").await;
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
    store.publish(&first).await.expect("published");
    let refused = store.publish(&second).await;
    assert!(matches!(refused, Err(StoreError::Exists(_))));
    let found = store.find(None, "a").await.expect("found");
    assert_eq!(found, first);
}

#[tokio::test]
async fn the_latest_is_found_and_clusters_are_told_apart() {
    let (_dir, store) = open();
    for (cluster, id, at) in [
        ("one", "a", "2026-01-03T00:00:00Z"),
        ("one", "b", "2026-01-02T00:00:00Z"),
        ("two", "a", "2026-01-01T00:00:00Z"),
    ] {
        store
            .publish(&manifest(cluster, id, at))
            .await
            .expect("published");
    }
    assert_eq!(ids(&store, "one").await, ["b", "a"], "oldest first");
    let one = "one".parse().expect("a name");
    let latest = store.find(Some(&one), "latest").await.expect("found");
    assert_eq!(latest.id.as_ref(), "a");
    assert_eq!(store.find(None, "b").await.expect("found").cluster, one);
    for wanted in ["a", "latest"] {
        let ambiguous = store.find(None, wanted).await;
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
    store.publish(&good).await.expect("published");
    store.publish(&bad).await.expect("published");
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
    let pruned = prune(&store, &good.cluster, &rules, false)
        .await
        .expect("pruned");
    assert!(pruned.removed.is_empty(), "the newest good one stays");
    assert_eq!(pruned.damaged, [bad.id]);
    assert_eq!(ids(&store, "demo").await, ["good"]);
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
    ] {
        let error = BackupStore::open(url).expect_err(url).to_string();
        assert!(error.contains(wanted), "{url}: {error}");
    }
    let secret = "s3://bucket/prefix/?region=r&endpoint=http://e";
    let store = BackupStore::open(secret).expect("a store");
    assert_eq!(store.url(), "s3://bucket/prefix", "options are not shown");
}
