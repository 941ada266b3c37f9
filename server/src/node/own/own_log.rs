//! The one log of a data directory: whose it is, and how large an entry it takes.

use std::path::Path;

use crate::node::boot::BootError;
use crate::storage::Identity;
use crate::wal;

/// A segment of the log. Two exist from the start, so small volumes do. Larger where one request may
/// be larger ([`segment_bytes`]).
const SEGMENT_BYTES: u64 = 16 << 20;
/// What of a segment is not one record's payload, and then some: its header, what it restates.
const SEGMENT_OVERHEAD: u64 = 64 << 10;

/// Refuses a start without the log that the member had begun, as if it had promised nothing, and one
/// with another's. Looked at before anything is touched.
///
/// # Errors
/// See above; or the directory cannot be read.
pub fn refuse_other(
    dir: &Path,
    wal_dir: &Path,
    identity: Option<&Identity>,
) -> Result<(), BootError> {
    match identity {
        Some(identity) if wal::exists(wal_dir)? => Ok(wal::check_owner(wal_dir, owner(identity))?),
        Some(_) if Identity::log_is_begun(dir)? => Err(BootError::LogLost(wal_dir.to_path_buf())),
        None if wal::exists(wal_dir)? => Err(BootError::LogWithoutData {
            log: wal_dir.to_path_buf(),
            data: dir.to_path_buf(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// How the log's segments name their owner.
pub fn owner(identity: &Identity) -> wal::Owner {
    wal::Owner {
        cluster: identity.cluster.0,
        member: identity.member.0,
        incarnation: identity.incarnation,
    }
}

/// Bytes of a segment that holds an entry of `entry` bytes: no message that a peer is let send holds
/// one that the log could not take.
pub fn segment_bytes(entry: usize) -> u64 {
    let entry = u64::try_from(entry).unwrap_or(u64::MAX);
    let needed = entry.saturating_add(SEGMENT_OVERHEAD);
    let whole_pages = needed.div_ceil(4096).saturating_mul(4096);
    whole_pages.clamp(SEGMENT_BYTES, wal::Options::SEGMENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::sync::Arc;

    use super::*;
    use crate::config::{self, Config, Outcome};
    use crate::node::boot;
    use crate::peer::{self, Dial, PlainTcp};
    use crate::types::{ClusterId, MemberId};

    fn config(data_dir: &Path, wal_dir: &Path) -> Config {
        config_with(data_dir, wal_dir, &[])
    }

    fn config_with(data_dir: &Path, wal_dir: &Path, more: &[&str]) -> Config {
        let mut args = vec![
            format!("--data-dir={}", data_dir.display()),
            format!("--wal-dir={}", wal_dir.display()),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let args = args.iter().map(OsString::from);
        match config::parse(args, std::iter::empty(), &no_file) {
            Outcome::Run { config, .. } => *config,
            other => panic!("expected to run, got {other:?}"),
        }
    }

    /// Opens the two directories as a start does, and closes them.
    fn start(data_dir: &Path, wal_dir: &Path) -> Result<(), BootError> {
        let dial: Arc<dyn Dial> = Arc::new(PlainTcp);
        boot::open(&config(data_dir, wal_dir), &dial).map(drop)
    }

    fn names(dir: &Path) -> Vec<String> {
        crate::fs::file_names(dir).unwrap()
    }

    #[test]
    fn a_member_does_not_start_without_the_log_it_had_begun() {
        let parent = tempfile::tempdir().unwrap();
        let (data, log) = (parent.path().join("data"), parent.path().join("log"));
        let away = parent.path().join("away");
        start(&data, &log).unwrap();
        assert!(Identity::log_is_begun(&data).unwrap());
        start(&data, &log).unwrap();
        std::fs::rename(&log, &away).unwrap();
        let before = names(&data);
        for how in ["missing", "an empty mount point"] {
            let error = start(&data, &log).unwrap_err();
            assert!(matches!(error, BootError::LogLost(_)), "{how}: {error}");
            assert!(error.to_string().contains("--wal-dir"), "{error}");
            assert_eq!(names(&data), before, "{how}: nothing is changed");
            std::fs::create_dir_all(log.join("lost+found")).unwrap();
        }
        assert_eq!(names(&log), ["lost+found"]);
        std::fs::remove_dir_all(&log).unwrap();
        std::fs::rename(&away, &log).unwrap();
        start(&data, &log).unwrap();
    }

    /// The simulator found it: the others were asked, and what they said was told instead.
    #[test]
    fn a_damaged_identity_is_told_without_asking_others() {
        let parent = tempfile::tempdir().unwrap();
        let (data, log) = (parent.path().join("data"), parent.path().join("log"));
        start(&data, &log).unwrap();
        let path = data.join(crate::storage::IDENTITY_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[2] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let joins = [
            "--initial-cluster-state=existing",
            "--initial-cluster=default=http://localhost:2380,other=http://127.0.0.1:1",
        ];
        let dial: Arc<dyn Dial> = Arc::new(PlainTcp);
        let refused = boot::open(&config_with(&data, &log, &joins), &dial).map(drop);
        let said = refused.unwrap_err().to_string();
        assert!(
            said.contains("IDENTITY") && said.contains("is damaged"),
            "{said}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_member_does_not_start_with_anothers_log() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        start(&path("a"), &path("a-log")).unwrap();
        start(&path("b"), &path("b-log")).unwrap();
        let error = start(&path("a"), &path("b-log")).unwrap_err().to_string();
        assert!(error.contains("was written by member"), "{error}");
        // Nor does a new member with a log that was there before it.
        let error = start(&path("new"), &path("b-log")).unwrap_err();
        assert!(matches!(error, BootError::LogWithoutData { .. }), "{error}");
        assert!(!path("new").exists());
        start(&path("a"), &path("a-log")).unwrap();
        start(&path("b"), &path("b-log")).unwrap();
    }

    #[test]
    fn a_directory_that_was_made_without_a_log_begins_one() {
        let parent = tempfile::tempdir().unwrap();
        let (data, log) = (parent.path().join("data"), parent.path().join("log"));
        start(&data, &log).unwrap();
        let identity = Identity::load(&data).unwrap().unwrap();
        std::fs::remove_dir_all(&log).unwrap();
        // As a restore leaves it, and a directory of the version before.
        identity.store(&data).unwrap();
        start(&data, &log).unwrap();
        assert!(Identity::log_is_begun(&data).unwrap());
        assert_eq!(Identity::load(&data).unwrap(), Some(identity));
    }

    /// Writes a record behind a log's end, as an earlier release did.
    fn add(data: &Path, log: &Path, record: wal::Record) {
        let identity = Identity::load(data).unwrap().unwrap();
        let options = wal::Options {
            owner: owner(&identity),
            ..wal::Options::default()
        };
        let (wal, _) = wal::open(log, options).unwrap();
        wal.append(vec![record], true, Box::new(|| {}));
        wal.close();
    }

    #[test]
    fn a_log_from_which_nobody_can_count_on_is_refused_at_every_start() {
        use engram_proto::raft::{LogId, Vote};
        use prost::Message;
        let encoded = |index| LogId { term: 1, index }.encode_to_vec().into();
        let vote = Vote {
            term: u64::MAX,
            node: 9,
            committed: true,
        };
        let cases = [
            (
                wal::Record::Vote(vote.encode_to_vec().into()),
                "18446744073709551615",
            ),
            (
                wal::Record::Committed(encoded(u64::MAX)),
                "what is committed",
            ),
            (wal::Record::Committed(encoded(3)), "entry 3 is committed"),
            (
                wal::Record::Purge {
                    index: u64::MAX - 1,
                    payload: encoded(u64::MAX - 1),
                },
                "what was purged",
            ),
        ];
        for (record, what) in cases {
            let parent = tempfile::tempdir().unwrap();
            let (data, log) = (parent.path().join("data"), parent.path().join("log"));
            start(&data, &log).unwrap();
            add(&data, &log, record);
            let before = names(&data);
            for _ in 0..2 {
                let error = start(&data, &log).unwrap_err();
                assert!(matches!(error, BootError::LogRefused(_)), "{error}");
                let said = error.to_string();
                assert!(said.contains(what), "{said}");
                assert!(said.contains("add it anew"), "what to do: {said}");
                assert_eq!(names(&data), before);
            }
        }
    }

    #[test]
    fn an_owner_is_the_whole_identity() {
        let identity = Identity {
            cluster: ClusterId(1),
            member: MemberId(2),
            incarnation: 3,
        };
        let owner = owner(&identity);
        assert_eq!((owner.cluster, owner.member, owner.incarnation), (1, 2, 3));
    }

    #[test]
    fn a_segment_takes_the_largest_entry_that_a_peer_may_send() {
        assert_eq!(
            segment_bytes(peer::Limits::default().message_bytes),
            16 << 20
        );
        for request in [0, 10 << 20, 17 << 20, 33_554_432, 90 << 20, 128 << 20] {
            let entry = peer::Limits::for_requests_of(request).message_bytes;
            let options = wal::Options {
                segment_bytes: segment_bytes(entry),
                ..wal::Options::default()
            };
            assert!(options.record_bytes_max() >= entry, "{request}");
        }
    }
}
