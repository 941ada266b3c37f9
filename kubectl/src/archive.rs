//! One file with others in it, as tar writes it (POSIX's ustar): texts below a directory, no more.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::Failure;

/// Everything in it comes in pieces of so many bytes.
const BLOCK: usize = 512;
/// How long a name may be.
const NAME_MAX: usize = 100;

/// An archive that is being written.
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    /// The directory that all of it is below.
    below: String,
    /// When it is written, in seconds since 1970.
    now: i64,
}

impl Archive {
    /// Begins one in a file that is not there yet.
    pub(super) fn make(path: PathBuf, below: &str, now: i64) -> Result<Self, Failure> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self {
                path,
                file,
                below: below.to_owned(),
                now,
            }),
            Err(error) => Err(Failure::File(path, error)),
        }
    }

    /// Adds a text.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let name = format!("{}/{name}", self.below);
        let padding = text.len().next_multiple_of(BLOCK) - text.len();
        let mut bytes = header(&name, text.len(), self.now).to_vec();
        bytes.extend(text.as_bytes());
        bytes.extend(std::iter::repeat_n(0, padding));
        self.append(&bytes)
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Result<PathBuf, Failure> {
        self.append(&[0; 2 * BLOCK])?;
        Ok(self.path)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| Failure::File(self.path.clone(), error))
    }
}

/// What comes before a file of that size, which everybody may read and nobody else write.
fn header(name: &str, size: usize, now: i64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    // A name that is too long loses its beginning: the end says what it is.
    let name = name.as_bytes();
    put(0, &name[name.len().saturating_sub(NAME_MAX)..]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{now:011o}\0").as_bytes());
    // The sum counts its own place as spaces.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let path = std::env::temp_dir().join(format!("engram-report-{}.tar", std::process::id()));
        drop(std::fs::remove_file(&path));
        let mut archive = Archive::make(path.clone(), "engram-report-demo", 1_767_225_600).unwrap();
        archive.add("status.txt", "demo: serves\n").unwrap();
        archive.add("long.log", &"x".repeat(513)).unwrap();
        archive.add("empty.yaml", "").unwrap();
        assert!(
            Archive::make(path.clone(), "again", 0).is_err(),
            "it is there"
        );
        archive.end().unwrap();
        let tar = |flag: &str, more: &[&str]| {
            let mut command = std::process::Command::new("tar");
            let output = command.arg(flag).arg(&path).args(more).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let names = tar("-tf", &[]);
        let below = "engram-report-demo";
        assert_eq!(
            names,
            format!("{below}/status.txt\n{below}/long.log\n{below}/empty.yaml\n")
        );
        let text = tar("-xOf", &[&format!("{below}/status.txt")]);
        assert_eq!(text, "demo: serves\n");
        assert_eq!(tar("-xOf", &[&format!("{below}/long.log")]).len(), 513);
        std::fs::remove_file(&path).unwrap();
    }
}
