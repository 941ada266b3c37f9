//! Files: copies, fingerprints, and file systems small enough to fill.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Copies a directory with everything in it. Stretches of zeros, of which a preallocated log is
/// full, become holes.
///
/// # Panics
/// If something cannot be read or written.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creating a directory");
    let mode = fs::metadata(from)
        .expect("the directory to copy is there")
        .permissions();
    fs::set_permissions(to, mode).expect("setting a mode");
    for entry in fs::read_dir(from).expect("the directory to copy can be read") {
        let entry = entry.expect("the directory to copy can be read");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_directory(&entry.path(), &target),
            false => copy_file(&entry.path(), &target),
        }
    }
}

fn copy_file(from: &Path, to: &Path) {
    const BLOCK: usize = 64 * 1024;
    let mut source = File::open(from).expect("opening a file to copy");
    let mut target = File::create(to).expect("creating a copy");
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let count = source.read(&mut block).expect("reading a file to copy");
        if count == 0 {
            break;
        }
        let bytes = &block[..count];
        if bytes.iter().any(|byte| *byte != 0) {
            target
                .seek(SeekFrom::Start(length))
                .expect("seeking in a copy");
            target.write_all(bytes).expect("writing a copy");
        }
        length += u64::try_from(count).expect("a block is small");
    }
    target
        .set_len(length)
        .expect("setting the length of a copy");
    let mode = source
        .metadata()
        .expect("an open file has metadata")
        .permissions();
    target.set_permissions(mode).expect("setting a mode");
}

/// Every file and directory below `root` with its mode and bytes: equal if nothing was changed.
///
/// # Panics
/// If something cannot be read.
pub fn fingerprint(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let mode = mode_of(&directory);
        found.insert(directory.clone(), (mode, Vec::new()));
        for entry in fs::read_dir(&directory).expect("reading a directory") {
            let path = entry.expect("reading a directory").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("reading a file");
            found.insert(path.clone(), (mode_of(&path), bytes));
        }
    }
    found
}

/// The permission bits of a file.
///
/// # Panics
/// If it is not there.
pub fn mode_of(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("the file is there");
    metadata.permissions().mode() & 0o7777
}

/// A file system in memory of its own size, unmounted on drop.
pub struct SmallFileSystem {
    path: PathBuf,
}

impl SmallFileSystem {
    /// Mounts one with room for `bytes` at `path`, an existing directory.
    ///
    /// # Panics
    /// If the system refuses, which it does to all but root.
    pub fn mount(path: &Path, bytes: u64) -> Self {
        mount(path, &format!("size={bytes},mode=700"), 0);
        Self {
            path: path.to_owned(),
        }
    }

    /// Gives it room for `bytes`.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn resize(&self, bytes: u64) {
        mount(&self.path, &format!("size={bytes}"), libc::MS_REMOUNT);
    }

    /// Bytes that are free.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn free(&self) -> u64 {
        let target = c_path(&self.path);
        // SAFETY: statvfs is numbers only, for which zeros are valid.
        let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path is a C string and `told` a place to write to; both outlive the call.
        let result = unsafe { libc::statvfs(target.as_ptr(), &raw mut told) };
        assert_eq!(result, 0, "{}: no statvfs", self.path.display());
        told.f_bavail * told.f_frsize
    }

    /// Makes it read-only.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn make_read_only(&self) {
        mount(&self.path, "", libc::MS_REMOUNT | libc::MS_RDONLY);
    }

    /// The directory where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let target = c_path(&self.path);
        // SAFETY: the path is a C string that outlives the call. A process that still uses the file
        // system keeps it alive; it goes with it (MNT_DETACH).
        let result = unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        if result != 0 {
            eprintln!("{} stays mounted", self.path.display());
        }
    }
}

fn mount(path: &Path, options: &str, flags: libc::c_ulong) {
    let target = c_path(path);
    let options = CString::new(options).expect("options hold no NUL");
    // SAFETY: all four strings are C strings that outlive the call.
    let result = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            target.as_ptr(),
            c"tmpfs".as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(
        result,
        0,
        "a small file system cannot be mounted at {} ({}): this test needs root",
        path.display(),
        std::io::Error::last_os_error()
    );
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("paths hold no NUL")
}
