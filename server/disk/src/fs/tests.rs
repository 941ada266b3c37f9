//! Tests of directories, locks, durable names and the reserve.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::faults::{Operation, inject, leave};
use super::*;

const ENOSPC: i32 = 28;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_directory_and_its_parents_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("a").join("b");
    assert_eq!(create_private_dir(&inner).unwrap(), DirMode::Created);
    assert_eq!((mode(&inner), mode(&dir.path().join("a"))), (0o700, 0o700));
    assert_eq!(create_private_dir(&inner).unwrap(), DirMode::Private);
}

#[test]
fn an_own_directory_that_others_may_enter_is_narrowed() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        create_private_dir(dir.path()).unwrap(),
        DirMode::Tightened { from: 0o755 }
    );
    assert_eq!(mode(dir.path()), 0o700);
}

#[test]
fn a_file_in_the_directorys_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, b"").unwrap();
    let error = create_private_dir(&path).unwrap_err().to_string();
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn a_lock_is_exclusive_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let error = DirLock::acquire(dir.path()).unwrap_err().to_string();
    assert!(error.contains("used by another process"), "{error}");
    assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
    drop(lock);
    DirLock::acquire(dir.path()).unwrap();
}

#[test]
fn a_durable_write_replaces_the_file_and_survives_a_leftover_of_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_durably(&path, b"one, longer").unwrap();
    fs::write(dir.path().join("state.tmp"), b"half").unwrap();
    write_durably(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(
        (mode(&path), file_names(dir.path()).unwrap().len()),
        (0o600, 1)
    );
    remove_durably(&path).unwrap();
    assert!(remove_durably(&path).is_err());
}

#[test]
fn a_failed_durable_write_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_durably(&path, b"old").unwrap();
    let fault = inject(dir.path(), Operation::Sync, ENOSPC, 0);
    assert!(is_out_of_space(&write_durably(&path, b"new").unwrap_err()));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(fault);
    write_durably(&path, b"new").unwrap();
}

#[test]
fn a_reserve_holds_space_and_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reserve");
    let mut reserve = Reserve::ensure(&path, 1 << 20).unwrap();
    assert!(reserve.held());
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    reserve.release().unwrap();
    assert!(!path.exists() && !reserve.held());
    reserve.restore().unwrap();
    drop(reserve);
    assert!(
        Reserve::ensure(&path, 1 << 20).unwrap().held(),
        "one of an earlier run is taken over"
    );
}

#[test]
fn a_reserve_on_a_full_disk_is_not_held_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reserve");
    let fault = inject(dir.path(), Operation::Allocate, ENOSPC, 0);
    let mut reserve = Reserve::ensure(&path, 1 << 20).unwrap();
    assert!(!reserve.held() && !path.exists());
    assert!(is_out_of_space(&reserve.restore().unwrap_err()));
    drop(fault);
    reserve.restore().unwrap();
    assert!(reserve.held());
}

#[test]
fn free_space_is_no_more_than_all_space() {
    let space = space(Path::new("/")).unwrap();
    assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
}

#[test]
fn a_disk_has_the_room_that_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let left = leave(dir.path(), 12_345);
    assert_eq!(space(&dir.path().join("")).unwrap().free_bytes, 12_345);
    assert_ne!(space(Path::new("/")).unwrap().free_bytes, 12_345);
    drop(left);
    assert_ne!(space(dir.path()).unwrap().free_bytes, 12_345);
}

/// What was written before the name and not synced is there for a simulator to take away.
#[test]
fn power_is_cut_at_a_call_after_a_file_has_got_its_name() {
    use std::sync::{Arc, Mutex};
    let dir = tempfile::tempdir().unwrap();
    power::watch(dir.path());
    let cut: Arc<Mutex<Option<power::Unkept>>> = Arc::default();
    let into = cut.clone();
    let told = move |unkept| *into.lock().unwrap() = Some(unkept);
    power::cut_after_name(dir.path(), 1, told);
    let file = DataFile::create(&dir.path().join("spare")).unwrap();
    file.write_all_at(b"header", 0).unwrap();
    file.write_all_at(b"frame", 600).unwrap();
    let named = file.rename(&dir.path().join("segment")).unwrap();
    named.write_all_at(b"first", 700).unwrap();
    assert!(cut.lock().unwrap().is_none());
    named.sync_data().unwrap();
    let unkept = cut.lock().unwrap().take().unwrap();
    let (writes, names) = (unkept.writes, unkept.names);
    assert_eq!(writes.len(), 3, "{writes:?}");
    assert!(writes.iter().all(|write| write.path.ends_with("segment")));
    assert!(names.is_empty(), "{names:?}");
}

/// A name is there for a simulator to take away until its directory is synced.
#[test]
fn power_is_cut_before_a_directory_is_synced() {
    use power::Named;
    use std::sync::{Arc, Mutex};
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_durably(&path("table"), b"old").unwrap();
    write_durably(&path("gone"), b"held").unwrap();
    power::watch(dir.path());
    let cut: Arc<Mutex<Option<power::Unkept>>> = Arc::default();
    let into = cut.clone();
    // The file's write and its sync, then that of its name.
    power::cut_in(dir.path(), 2, move |unkept| {
        *into.lock().unwrap() = Some(unkept)
    });
    write_durably(&path("table"), b"new").unwrap();
    let names = cut.lock().unwrap().take().unwrap().names;
    let [Named::Made(made), Named::Moved { from, to, before }] = &names[..] else {
        panic!("{names:?}");
    };
    assert_eq!((made, to), (from, &path("table")));
    assert_eq!(before.as_deref(), Some(&b"old"[..]));
    // Whoever syncs has what was given and taken before.
    power::watch(dir.path());
    drop(DataFile::create(&path("made")).unwrap());
    remove_durably(&path("gone")).unwrap();
    claim_dir(&path("claimed")).unwrap();
    let names = power::take(dir.path()).names;
    assert!(matches!(&names[..], [Named::Made(made)] if *made == path("claimed")));
}
