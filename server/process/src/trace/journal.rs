//! The systemd journal, in its own protocol: a datagram a line.
//!
//! Source: systemd's "Native Journal Protocol"; the fields are etcd's (`logutil/zap_journal.go`).

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Level;

/// Where a journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// What lines are said to come from where the process does not know its own name.
const IDENTIFIER: &str = "engram";

/// See the module. What the journal does not take goes to standard error.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    identifier: String,
}

impl Journal {
    /// The journal at `path`, be somebody there or not.
    ///
    /// # Errors
    /// The system has no socket to give.
    pub(super) fn open(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        // A journal that stands still must not hold up who logs.
        socket.set_nonblocking(true)?;
        let program = std::env::args_os().next().map(PathBuf::from);
        let name = program.as_deref().and_then(Path::file_name);
        let identifier = name.map(|name| name.to_string_lossy().into_owned());
        Ok(Journal {
            socket,
            path: path.to_owned(),
            identifier: identifier.unwrap_or_else(|| IDENTIFIER.to_owned()),
        })
    }

    /// Whether somebody listens there.
    pub(super) fn is_there(&self) -> bool {
        UnixDatagram::unbound().is_ok_and(|asking| asking.connect(&self.path).is_ok())
    }

    /// Writes a line, with its level and the room that it comes from.
    ///
    /// # Errors
    /// Neither the journal nor standard error takes it.
    pub(super) fn write_line(&self, level: Level, room: &str, line: &[u8]) -> io::Result<()> {
        let entry = self.entry(level, room, line);
        // Not a connected socket: a journal that is started again listens at a new one.
        match self.socket.send_to(&entry, &self.path) {
            Ok(_) => Ok(()),
            Err(_) => io::stderr().write_all(line),
        }
    }

    fn entry(&self, level: Level, room: &str, line: &[u8]) -> Vec<u8> {
        let message = line.strip_suffix(b"\n").unwrap_or(line);
        let mut entry = Vec::with_capacity(message.len() + 128);
        append(&mut entry, "PRIORITY", priority(level).as_bytes());
        append(&mut entry, "SYSLOG_IDENTIFIER", self.identifier.as_bytes());
        append(&mut entry, "PACKAGE", room.as_bytes());
        append(&mut entry, "MESSAGE", message);
        entry
    }
}

/// Appends a field. A value with line breaks is preceded by its length.
fn append(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// syslog's priority of a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Debug => "7",
        Level::Info => "6",
        Level::Warn => "4",
        Level::Error => "3",
        Level::Dpanic | Level::Panic | Level::Fatal => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_datagram_with_etcds_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = Journal::open(&path).unwrap();
        assert!(!journal.is_there());
        // Nobody listens yet: standard error has it.
        journal.write_line(Level::Info, "node", b"early\n").unwrap();
        // And again: a journal that was started anew.
        for _ in 0..2 {
            let listener = UnixDatagram::bind(&path).unwrap();
            assert!(journal.is_there());
            let line = b"{\"level\":\"warn\",\"msg\":\"m\"}\n";
            journal.write_line(Level::Warn, "node", line).unwrap();
            let mut heard = [0; 1024];
            let length = listener.recv(&mut heard).unwrap();
            let fields: Vec<&str> = str::from_utf8(&heard[..length]).unwrap().lines().collect();
            let identifier = format!("SYSLOG_IDENTIFIER={}", journal.identifier);
            let wanted = [
                "PRIORITY=4",
                &identifier,
                "PACKAGE=node",
                "MESSAGE={\"level\":\"warn\",\"msg\":\"m\"}",
            ];
            assert_eq!(fields, wanted);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_value_with_line_breaks_keeps_them() {
        let mut entry = Vec::new();
        append(&mut entry, "MESSAGE", b"two\nlines");
        assert_eq!(entry, b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n");
    }
}
