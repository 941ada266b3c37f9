//! What replication reads from the log: bounded, and from memory while a follower is not far behind.

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use tempfile::TempDir;

use super::cluster::{batch, open_log};
use crate::peer::APPEND_BYTES_MAX;
use crate::raft::fixture::{Entry, LogStore, TypeConfig, entry};

async fn append(log: &mut LogStore, indexes: std::ops::Range<u64>, value: &Bytes) {
    let entries = indexes.map(|index| Entry {
        log_id: entry::log_id(1, index),
        payload: EntryPayload::Normal(batch(index, value)),
    });
    let (told, flushed) = TypeConfig::oneshot();
    let entries: Vec<Entry> = entries.collect();
    log.append(entries, IOFlushed::signal(told))
        .await
        .expect("appended");
    flushed.await.expect("told").expect("flushed");
}

fn bytes(entries: &[Entry]) -> usize {
    let payload = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(batch) => batch.encoded().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    entries.iter().map(payload).sum()
}

#[tokio::test]
async fn a_read_is_bounded_in_bytes_but_never_empty() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut log = open_log(dir.path());
    append(&mut log, 1..41, &Bytes::from(vec![7; 256 << 10])).await;
    append(&mut log, 41..42, &Bytes::from(vec![7; 5 << 20])).await;
    let mut next = 1;
    let mut reads = 0;
    while next < 42 {
        let read = log
            .limited_get_log_entries(next, 42)
            .await
            .expect("readable");
        let alone = read.len() == 1;
        assert!(
            alone || bytes(&read) <= APPEND_BYTES_MAX,
            "{} bytes",
            bytes(&read)
        );
        assert_eq!(read.first().map(|entry| entry.log_id.index()), Some(next));
        next += read.len() as u64;
        reads += 1;
    }
    assert_eq!((next, reads), (42, 4));
    let all = log.try_get_log_entries(1..42).await.expect("readable");
    assert_eq!(all.len(), 41, "what is not limited is whole");
}

#[tokio::test]
async fn recent_entries_are_read_without_the_disk() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut log = open_log(dir.path());
    append(&mut log, 1..101, &Bytes::from(vec![7; 10 << 10])).await;
    // Without its segments only memory can answer.
    for name in crate::fs::file_names(&dir.path().join("wal")).expect("readable") {
        let path = dir.path().join("wal").join(name);
        if path.is_file() {
            let file = crate::fs::DataFile::open(&path).expect("a segment");
            file.write_zeros_at(file.bytes().expect("a size"), 0)
                .expect("zeroed");
        }
    }
    let read = log
        .limited_get_log_entries(1, 101)
        .await
        .expect("from memory");
    assert_eq!(read.len(), 100);
}

/// A leader's stream waits to read from a slow disk, and the leader has become a follower by then, which purges: that
/// is no reason to end. For whoever has to have the entries it is one.
#[tokio::test]
async fn what_is_purged_before_it_is_sent_is_nothing() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut log = open_log(dir.path());
    append(&mut log, 1..41, &Bytes::from_static(b"value")).await;
    log.purge(entry::log_id(1, 20)).await.expect("purged");
    log.sync().await.expect("synced");
    let sent = log.limited_get_log_entries(7, 41).await;
    assert_eq!(sent.expect("no reason to end").len(), 0);
    let sent = log.limited_get_log_entries(21, 41).await;
    assert_eq!(sent.expect("they are there").len(), 20);
    let applied = log.try_get_log_entries(7..41).await;
    let refused = applied.expect_err("they are gone").to_string();
    assert_eq!(refused, "log entry 7 was purged; the first one is 21");
}
