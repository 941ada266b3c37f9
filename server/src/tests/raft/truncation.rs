//! What is committed, applied or purged is never truncated: the process ends first, and says why.

use std::process::{Command, Output, Stdio};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};
use tempfile::TempDir;

use super::cluster::{batch, open_log};
use crate::raft::fixture::{Entry, LogStore, TypeConfig, entry};

/// Tells the copy of the test's process what to do.
const DOES: &str = "ENGRAM_TEST_TRUNCATES";

async fn append(log: &mut LogStore, indexes: std::ops::RangeInclusive<u64>) {
    let entries = indexes.map(|index| Entry {
        log_id: entry::log_id(1, index),
        payload: EntryPayload::Normal(batch(index, &Bytes::from_static(b"value"))),
    });
    let (told, flushed) = TypeConfig::oneshot();
    let entries: Vec<Entry> = entries.collect();
    let flushing = log.append(entries, IOFlushed::signal(told));
    flushing.await.expect("appended");
    flushed.await.expect("told").expect("flushed");
}

/// A log of ten entries, and a truncation in it.
async fn act(what: &str) {
    let dir = TempDir::new().expect("a temporary directory");
    let mut log = open_log(dir.path());
    append(&mut log, 1..=10).await;
    let fifth = entry::log_id(1, 5);
    match what {
        "committed" | "behind it" | "at its end" => log.save_committed(Some(fifth)).await.unwrap(),
        "applied" => log.note_applied(Some(fifth)),
        "purged" => log.purge(fifth).await.unwrap(),
        "committed before the start" => {
            log.save_committed(Some(fifth)).await.unwrap();
            log.sync().await.unwrap();
            drop(log);
            log = open_log(dir.path());
        }
        other => unreachable!("{other}"),
    }
    let last = match what {
        "behind it" => 7,
        "at its end" => 5,
        _ => 4,
    };
    log.truncate_after(Some(entry::log_id(1, last)))
        .await
        .unwrap();
    let left = log.try_get_log_entries(1..11).await.unwrap();
    assert_eq!(left.len() as u64, last, "what is not committed goes");
}

fn run(what: &str) -> Output {
    let name = "tests::raft::truncation::what_is_committed_is_not_truncated";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(DOES, what)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn what_is_committed_is_not_truncated() {
    if let Ok(what) = std::env::var(DOES) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(act(&what));
    }
    for what in [
        "committed",
        "applied",
        "purged",
        "committed before the start",
    ] {
        let ended = run(what);
        assert_eq!(ended.status.code(), Some(134), "{what}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        let why = "entries from 5 on should be truncated, and those up to 5 are committed here";
        assert!(said.contains(why), "{what}: {said}");
        assert!(
            said.contains("keep all data directories"),
            "{what}: what to do: {said}"
        );
    }
    for what in ["behind it", "at its end"] {
        let ended = run(what);
        assert!(ended.status.success(), "{what}: {ended:?}");
    }
}
