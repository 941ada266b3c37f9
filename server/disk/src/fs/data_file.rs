//! A file that is read and written at positions, with syncs that the caller asks for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::durable::rename_durably;
#[cfg(any(test, feature = "fixtures"))]
use super::{
    faults::{self, Operation},
    power,
};

const FILE_MODE: u32 = 0o600;
/// Bytes of zeros written at once.
const ZEROS_BYTES: usize = 256 * 1024;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// An open file and the path under which it was opened; `rename` keeps it right.
#[derive(Debug)]
pub struct DataFile {
    file: File,
    path: PathBuf,
}

impl DataFile {
    /// Creates a file that does not exist yet, mode 0600. The name is not durable before its
    /// directory is synced.
    pub fn create(path: &Path) -> io::Result<Self> {
        #[cfg(any(test, feature = "fixtures"))]
        faults::check(path, Operation::Create)?;
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE);
        let file = options.open(path)?;
        #[cfg(any(test, feature = "fixtures"))]
        power::made(path);
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    /// Opens an existing file for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    /// Opens an existing file for reading.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            path: path.to_path_buf(),
        })
    }

    /// The path it was opened under.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the file durably; it stays open.
    pub fn rename(self, to: &Path) -> io::Result<Self> {
        rename_durably(&self.path, to)?;
        #[cfg(any(test, feature = "fixtures"))]
        power::renamed(to);
        Ok(Self {
            path: to.to_path_buf(),
            ..self
        })
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffer` from `offset` on; a shorter file is `UnexpectedEof`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Writes all of `bytes` at `offset`. Not durable before a sync.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(any(test, feature = "fixtures"))]
        {
            power::passing(&self.path);
            faults::tell(&self.path, (Operation::Write, offset, bytes.len()));
            faults::check(&self.path, Operation::Write)?;
            faults::grow(&self.path, &self.file, offset + bytes.len() as u64)?;
            power::writing(&self.path, &self.file, offset, bytes.len())?;
        }
        self.file.write_all_at(bytes, offset)
    }

    /// Writes `bytes` zeros at `offset`. Not durable before a sync.
    pub fn write_zeros_at(&self, bytes: u64, offset: u64) -> io::Result<()> {
        let (mut offset, end) = (offset, offset + bytes);
        while offset < end {
            let chunk = usize::try_from(end - offset)
                .unwrap_or(ZEROS_BYTES)
                .min(ZEROS_BYTES);
            self.write_all_at(&ZEROS[..chunk], offset)?;
            offset += u64::try_from(chunk).expect("at most ZEROS_BYTES");
        }
        Ok(())
    }

    /// Gives the file `bytes` of blocks and that length, so that a full disk shows now and not at a
    /// later write. Where the filesystem cannot allocate, zeros are written.
    pub fn allocate(&self, bytes: u64) -> io::Result<()> {
        #[cfg(any(test, feature = "fixtures"))]
        {
            faults::check(&self.path, Operation::Allocate)?;
            faults::grow(&self.path, &self.file, bytes)?;
            if power::is_watched(&self.path) {
                return self.file.set_len(bytes);
            }
        }
        // A signal (a profile's, a hundred a second) may interrupt it.
        let allocate = || rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes);
        match rustix::io::retry_on_intr(allocate) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros_at(bytes, 0),
            Err(error) => Err(error.into()),
        }
    }

    /// `fdatasync`: the bytes and the length are durable. After an error what is durable is
    /// unknown, also after a later success: end the process.
    pub fn sync_data(&self) -> io::Result<()> {
        #[cfg(any(test, feature = "fixtures"))]
        {
            power::passing(&self.path);
            faults::tell(&self.path, (Operation::Sync, 0, 0));
            faults::check(&self.path, Operation::Sync)?;
        }
        self.file.sync_data()?;
        #[cfg(any(test, feature = "fixtures"))]
        power::synced(&self.path);
        Ok(())
    }
}
