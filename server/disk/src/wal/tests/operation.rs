//! The running log: order of acknowledgements, rotation, recycling, a full disk, a failing disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::super::writer::UNSYNCED_BYTES_MAX;
use super::*;
use crate::fs::faults::{Operation, inject, inject_times};
use crate::wal::{FatalError, Space, dump};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_new_log_is_private_and_empty() {
    let parent = temporary();
    let dir = parent.path().join("member").join("wal");
    let (wal, recovered) = reopen(&dir);
    assert_eq!(recovered, Recovered::default());
    assert_eq!((wal.last(), wal.purged(), wal.term(0)), (None, None, None));
    assert!(wal.read(0..100, usize::MAX).unwrap().is_empty());
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let mode = fs::metadata(segment_path(&dir, 1))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn two_processes_cannot_use_one_log() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    let error = open(dir.path(), small()).unwrap_err().to_string();
    assert!(error.contains("is used by another process"), "{error}");
    wal.close();
    reopen(dir.path());
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = temporary();
    let segment_bytes = [0, 8192, 16 * 1024 + 1, 2 << 30];
    let wrong_size = segment_bytes.map(|segment_bytes| Options {
        segment_bytes,
        ..small()
    });
    let wrong_count = [0, 17].map(|spare_segments| Options {
        spare_segments,
        ..small()
    });
    for options in wrong_size.into_iter().chain(wrong_count) {
        assert!(matches!(
            open(dir.path(), options),
            Err(RecoverError::Options(_))
        ));
    }
}

#[test]
fn acknowledgements_come_in_the_order_of_the_appends() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 1..=200 {
        let order = Arc::clone(&order);
        let done = Box::new(move || order.lock().push(index));
        wal.append(vec![entry(index, &payload(index, 300))], true, done);
    }
    wal.close();
    assert_eq!(*order.lock(), (1..=200).collect::<Vec<_>>());
    let (wal, _) = reopen(dir.path());
    assert_eq!(all_entries(&wal).len(), 200);
}

#[test]
fn appends_that_wait_together_share_a_frame() {
    let dir = temporary();
    let (wal, _) = open(
        dir.path(),
        Options {
            segment_bytes: 1 << 20,
            ..small()
        },
    )
    .unwrap();
    for index in 1..=500 {
        wal.append(vec![entry(index, b"small")], true, Box::new(|| {}));
    }
    wal.close();
    let mut frames = 0;
    dump(dir.path(), &mut |line| {
        frames += usize::from(line.contains(" frame "))
    })
    .unwrap();
    assert!(frames < 400, "{frames} frames for 500 appends");
}

#[test]
fn what_needs_no_sync_rides_on_the_next_sync_or_on_close() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    let called = Arc::new(AtomicU64::new(0));
    for mark in 0..1000u32 {
        let counter = Arc::clone(&called);
        let record = Record::Committed(Bytes::copy_from_slice(&mark.to_le_bytes()));
        let done = Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        wal.append(vec![record], false, done);
        assert_eq!(called.load(Ordering::SeqCst), u64::from(mark) + 1);
    }
    assert_eq!(inspect(dir.path()).unwrap().restated.committed, None);
    append(&wal, vec![vote("v")]);
    let log = inspect(dir.path()).unwrap();
    assert_eq!(
        log.restated.committed.as_deref(),
        Some(&999u32.to_le_bytes()[..])
    );
    assert_eq!(log.current.unwrap().1.sequence, 2, "one frame holds both");
    wal.append(
        vec![Record::Committed(Bytes::from_static(b"end"))],
        false,
        Box::new(|| {}),
    );
    wal.close();
    let log = inspect(dir.path()).unwrap();
    assert_eq!(log.restated.committed.as_deref(), Some(&b"end"[..]));
}

#[test]
fn queued_entries_can_be_read_before_they_are_written() {
    let dir = temporary();
    let stuck = stuck_options(dir.path());
    let (wal, _) = open(dir.path(), stuck.options.clone()).unwrap();
    stuck.fill(&wal);
    let first = wal.last().unwrap().index + 1;
    wal.append(vec![entry(first, b"queued")], true, Box::new(|| {}));
    assert_eq!(
        wal.read(first..first + 5, 100).unwrap()[0].payload,
        "queued"
    );
    assert_eq!(wal.term(first), Some(1 + first / 10));
    wal.append(
        vec![Record::TruncateAfter {
            index: Some(first - 1),
        }],
        true,
        Box::new(|| {}),
    );
    wal.append(vec![entry(first, b"replaced")], true, Box::new(|| {}));
    assert_eq!(
        wal.read(first..first + 5, 100).unwrap()[0].payload,
        "replaced"
    );
    drop(stuck.fault);
    append(&wal, vec![vote("written")]);
    assert_eq!(
        wal.read(first..first + 5, 100).unwrap()[0].payload,
        "replaced"
    );
}

#[test]
fn purged_segments_are_recycled_and_the_rest_deleted() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    for index in 1..=40 {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    let full = wal.bytes();
    append(&wal, vec![purge(39)]);
    // The tenth holds entries 37 to 40, the eleventh the purge.
    wait_until("segments are given up", || {
        segment_numbers(dir.path()) == [10, 11]
    });
    wait_until("spares are limited", || wal.bytes() == 3 * 16 * 1024);
    assert!(full >= 10 * 16 * 1024);
    let error = wal.read(39..41, 100).unwrap_err().to_string();
    assert_eq!(error, "log entry 39 was purged; the first one is 40");
    for index in 41..=60 {
        append(
            &wal,
            vec![entry(index, &payload(index, 3000)), purge(index - 2)],
        );
    }
    assert_eq!(all_entries(&wal).len(), 2);
    wal.close();
    let (wal, recovered) = reopen(dir.path());
    assert_eq!(
        (recovered.first_index, recovered.last.unwrap().index),
        (59, 60)
    );
    assert_eq!(
        recovered.purged,
        Some((58, Bytes::from_static(b"purged 58")))
    );
    assert_eq!(all_entries(&wal)[1].payload, payload(60, 3000));
}

#[test]
fn a_reader_keeps_a_purged_segment_readable() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    for index in 1..=6 {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    let held = Arc::clone(&wal.shared.state.lock().segments[&1].file);
    let mut before = vec![0; 16 * 1024];
    held.read_exact_at(&mut before, 0).unwrap();
    append(&wal, vec![purge(6)]);
    wait_until("the segment is given up", || {
        !segment_path(dir.path(), 1).exists()
    });
    let mut after = vec![0; 16 * 1024];
    held.read_exact_at(&mut after, 0).unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_snapshot_beyond_the_log_empties_it_and_it_goes_on_behind() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![entry(1, b"a"), purge(1000)]);
    assert_eq!((wal.last(), wal.first_index()), (None, 1001));
    append(&wal, vec![entry(1001, b"b")]);
    wal.close();
    let (wal, recovered) = reopen(dir.path());
    assert_eq!(
        (recovered.first_index, recovered.last.unwrap().index),
        (1001, 1001)
    );
    assert_eq!(all_entries(&wal)[0].payload, "b");
}

#[test]
fn the_largest_record_fits_and_a_larger_one_is_the_callers_bug() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    let largest = wal.record_bytes_max();
    let state = |byte| Bytes::from(vec![byte; 1024]);
    append(
        &wal,
        vec![Record::Vote(state(1)), Record::Committed(state(2))],
    );
    append(
        &wal,
        vec![Record::Purge {
            index: 0,
            payload: state(3),
        }],
    );
    append(
        &wal,
        vec![
            entry(1, &payload(1, largest)),
            entry(2, &payload(2, largest)),
        ],
    );
    assert_eq!(all_entries(&wal)[1].payload, payload(2, largest));
    let too_large = vec![entry(3, &payload(3, largest + 1))];
    let wal = std::panic::AssertUnwindSafe(wal);
    assert!(std::panic::catch_unwind(|| wal.append(too_large, true, Box::new(|| {}))).is_err());
    let gap = vec![entry(4, b"")];
    assert!(std::panic::catch_unwind(|| wal.append(gap, true, Box::new(|| {}))).is_err());
}

#[test]
fn damage_under_a_running_log_is_told_and_not_returned() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![entry(1, &payload(1, 100)), entry(2, b"next")]);
    append(&wal, vec![vote("v")]);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 32 + 32 + 50] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = wal.read(1..3, 1000).unwrap_err().to_string();
    assert!(error.contains("no longer holds entry 1"), "{error}");
    let mut entries = wal.entries(1);
    assert!(entries.next().unwrap().is_err());
    assert!(entries.next().is_none());
}

/// Options whose fatal callback notes the error and ends the WAL's thread instead of the process.
fn noting_fatal() -> (Options, Arc<Mutex<Vec<String>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&noted);
    let on_fatal = Arc::new(move |error: FatalError| {
        sink.lock().push(error.to_string());
        std::panic::resume_unwind(Box::new("the process would end here"));
    });
    (
        Options {
            on_fatal,
            ..small()
        },
        noted,
    )
}

fn fails_without_acknowledging(operation: Operation) {
    for successes in 0..12 {
        let dir = temporary();
        let (options, noted) = noting_fatal();
        let (wal, _) = open(dir.path(), options).unwrap();
        wait_until("the first spare is ready", || wal.bytes() == 2 * 16 * 1024);
        let fault = inject(dir.path(), operation, EIO, successes);
        let acknowledged = Arc::new(AtomicU64::new(0));
        for index in 1..=20 {
            let acknowledged = Arc::clone(&acknowledged);
            let done = Box::new(move || acknowledged.store(index, Ordering::SeqCst));
            let records = vec![entry(index, &payload(index, 3000))];
            let append = || wal.append(records, true, done);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(append)).is_err() {
                break;
            }
        }
        wait_until("the failure is told", || !noted.lock().is_empty());
        assert!(
            noted.lock()[0].contains("this process ends"),
            "{:?}",
            noted.lock()
        );
        // The writer's failure ends the log at once; a spare's leaves the writer waiting for one.
        let still = || {
            let before = acknowledged.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            wal.shared.state.lock().stopped || before == acknowledged.load(Ordering::SeqCst)
        };
        wait_until("the writer stands still", still);
        let copy = copy_dir(dir.path());
        drop(fault);
        let told = acknowledged.load(Ordering::SeqCst);
        let log = inspect(copy.path()).unwrap();
        let last = log.index.last().map_or(0, |last| last.index);
        assert!(
            last >= told,
            "{told} entries were acknowledged and {last} are there"
        );
        std::mem::forget(wal);
    }
}

#[test]
fn a_failed_sync_ends_the_log_and_loses_nothing_acknowledged() {
    fails_without_acknowledging(Operation::Sync);
}

#[test]
fn a_failed_write_ends_the_log_and_loses_nothing_acknowledged() {
    fails_without_acknowledging(Operation::Write);
}

/// A log on a disk that has no room for another segment.
struct Stuck {
    options: Options,
    fault: crate::fs::faults::Guard,
    told: Arc<Mutex<Vec<Space>>>,
}

fn stuck_options(dir: &Path) -> Stuck {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let options = Options {
        space_retry: Duration::from_millis(20),
        on_space: Arc::new(move |space| sink.lock().push(space)),
        ..small()
    };
    // The first segment and one spare can be made.
    let fault = inject(dir, Operation::Allocate, ENOSPC, 2);
    Stuck {
        options,
        fault,
        told,
    }
}

impl Stuck {
    /// Appends until the writer waits for a segment; every entry before is acknowledged.
    fn fill(&self, wal: &Wal) {
        wait_until("the spare is ready", || wal.bytes() == 2 * 16 * 1024);
        assert_eq!(*self.told.lock(), []);
        for index in 1..=6 {
            append(wal, vec![entry(index, &payload(index, 3000))]);
        }
        wait_until("the full disk is told", || {
            *self.told.lock() == [Space::Exhausted]
        });
        wal.append(vec![entry(7, &payload(7, 9000))], true, Box::new(|| {}));
    }
}

#[test]
fn a_full_disk_is_told_a_segment_early_and_waiting_appends_go_on_when_it_has_room() {
    let dir = temporary();
    let stuck = stuck_options(dir.path());
    let (wal, _) = open(dir.path(), stuck.options.clone()).unwrap();
    stuck.fill(&wal);
    let (sender, receiver) = mpsc::channel();
    wal.append(
        vec![vote("waits")],
        true,
        Box::new(move || sender.send(()).unwrap()),
    );
    assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
    drop(stuck.fault);
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    wait_until("the room is told", || {
        stuck.told.lock().contains(&Space::Recovered)
    });
    wal.close();
    assert_eq!(
        inspect(dir.path()).unwrap().restated.vote.as_deref(),
        Some(&b"waits"[..])
    );
}

/// A member that starts on a full disk goes on with what its last segment has room for.
#[test]
fn what_is_left_of_the_segment_is_known_from_the_start() {
    let dir = temporary();
    let options = Options {
        space_retry: Duration::from_millis(20),
        ..small()
    };
    // The first segment can be made, and no spare.
    let _fault = inject(dir.path(), Operation::Allocate, ENOSPC, 1);
    let (wal, _) = open(dir.path(), options.clone()).unwrap();
    append(&wal, vec![entry(1, &payload(1, 3000))]);
    let before = wal.last_bytes();
    wal.close();
    let (wal, _) = open(dir.path(), options).unwrap();
    wait_until("the full disk is known", || wal.last_bytes().is_some());
    let left = wal.last_bytes().unwrap();
    assert!((9_000..13_384).contains(&left), "{left}, before {before:?}");
    assert!(wal.has_place(9_000) && !wal.has_place(14_000) && !wal.has_spare());
    append(&wal, vec![entry(2, &payload(2, 8000))]);
    wal.close();
}

#[test]
fn a_call_that_finds_no_space_once_or_twice_does_not_make_the_disk_full() {
    let dir = temporary();
    let Stuck {
        options,
        fault,
        told,
    } = stuck_options(dir.path());
    drop(fault);
    let _fault = inject_times(dir.path(), Operation::Allocate, ENOSPC, 2, 2);
    let (wal, _) = open(dir.path(), options).unwrap();
    wait_until("the spare is ready", || wal.bytes() == 2 * 16 * 1024);
    for index in 1..=12 {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    assert_eq!(all_entries(&wal).len(), 12);
    assert_eq!(*told.lock(), []);
}

#[test]
fn a_purge_makes_room_on_a_full_disk_without_new_space() {
    let dir = temporary();
    let stuck = stuck_options(dir.path());
    let (wal, _) = open(dir.path(), stuck.options.clone()).unwrap();
    wait_until("the spare is ready", || wal.bytes() == 2 * 16 * 1024);
    for index in 1..=6 {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    wait_until("the full disk is told", || {
        *stuck.told.lock() == [Space::Exhausted]
    });
    append(&wal, vec![purge(5)]);
    wait_until("the room is told", || {
        stuck.told.lock().last() == Some(&Space::Recovered)
    });
    append(&wal, vec![entry(7, &payload(7, 9000))]);
    assert_eq!(all_entries(&wal).len(), 2);
}

#[test]
fn closing_on_a_full_disk_gives_up_what_was_not_acknowledged() {
    let dir = temporary();
    let stuck = stuck_options(dir.path());
    let (wal, _) = open(dir.path(), stuck.options.clone()).unwrap();
    stuck.fill(&wal);
    wal.close();
    drop(stuck.fault);
    let (wal, recovered) = reopen(dir.path());
    assert_eq!((recovered.last.unwrap().index, recovered.cut), (6, None));
    append(&wal, vec![entry(7, b"fits")]);
}

#[test]
fn an_append_waits_for_no_disk_however_much_is_queued() {
    let dir = temporary();
    let stuck = stuck_options(dir.path());
    let (wal, _) = open(dir.path(), stuck.options.clone()).unwrap();
    stuck.fill(&wal);
    let before = wal.queued_bytes();
    let (sender, receiver) = mpsc::channel();
    for index in 8..40 {
        let sender = sender.clone();
        let done = Box::new(move || sender.send(index).unwrap());
        wal.append(vec![entry(index, &payload(index, 3000))], true, done);
    }
    assert!(wal.queued_bytes() >= before + 32 * 3000);
    assert!(receiver.try_recv().is_err(), "nothing of it is durable");
    drop(stuck.fault);
    for index in 8..40 {
        let done = receiver.recv_timeout(Duration::from_secs(30));
        assert_eq!(done, Ok(index), "in the order of the appends");
    }
    assert_eq!(all_entries(&wal).len(), 39);
}

#[test]
fn much_that_needs_no_sync_is_written_all_the_same() {
    let dir = temporary();
    let (wal, _) = open(dir.path(), Options::default()).unwrap();
    for index in 1..=100 {
        wal.append(
            vec![entry(index, &payload(index, 8000))],
            false,
            Box::new(|| {}),
        );
    }
    let begun = std::time::Instant::now();
    while wal.queued_bytes() > UNSYNCED_BYTES_MAX {
        assert!(begun.elapsed() < Duration::from_secs(30), "it waits");
        std::thread::sleep(Duration::from_millis(1));
    }
    append(&wal, vec![entry(101, b"last")]);
    assert_eq!(all_entries(&wal).len(), 101);
}

/// On a stage nobody may wait for a disk, whatever it lacks.
#[test]
fn on_a_stage_a_log_without_room_does_nothing_until_there_is() {
    use crate::threads::steps::{Stage, Step};
    let (stage, dir) = (Stage::default(), temporary());
    let _on_it = stage.enter();
    let options = Options {
        space_retry: Duration::from_millis(5),
        ..small()
    };
    let (wal, _) = open(dir.path(), options).unwrap();
    let step = || {
        let work = stage.work();
        let writer = work.iter().find(|work| work.name() == "wal-writer");
        writer.expect("it was started").step()
    };
    let fault = inject(dir.path(), Operation::Allocate, ENOSPC, 0);
    let done = Arc::new(AtomicU64::new(0));
    let mut full_at = None;
    for index in 0..20 {
        let count = done.clone();
        let told = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        wal.append(
            vec![entry(index, &payload(index, 2_000))],
            true,
            Box::new(told),
        );
        if step() == Step::Nothing {
            full_at.get_or_insert(index);
        }
    }
    let full_at = full_at.expect("a segment has 16 KiB");
    assert_eq!(done.load(Ordering::Relaxed), full_at);
    drop(fault);
    wait_until("it goes on", || {
        step();
        done.load(Ordering::Relaxed) == 20
    });
    assert_eq!(all_entries(&wal).len(), 20);
}
