//! Where segments lie, and how a chain of them grows.
//!
//! ```text
//! <prefix>/<cluster>/_archive/<cluster id>-<incarnation>/<run>/<sequence>.segment
//! ```
//!
//! No backup has a name that begins with `_`. A segment's name says only its place, so that of two
//! who want to write the same place one is refused. A gap begins a new run.

use std::fmt;

use bytes::Bytes;
use engram_objects::{BackupId, Created, KeyError, KeyId, ObjectError, Objects, Path, Whose};

use crate::segment::{Built, HEAD_BYTES_MAX, Header, Segment, SegmentError, read_head};

/// The archives' directory in a cluster's.
const DIRECTORY: &str = "_archive";
/// How a segment's name ends.
const ENDING: &str = ".segment";
/// The object in that directory by which it is tried whether a store keeps what is there.
const PROBE: &str = "EXCLUSIVE";
const PROBE_TEXT: &str = "A member created this to see whether it can be created twice: then segments would write over each other.\n";

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store refuses.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// What should be a key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A segment cannot be read.
    #[error(
        "segment {place}: {source}: nothing behind it can be restored until a later full backup"
    )]
    Segment {
        /// Which.
        place: String,
        /// What is wrong with it.
        source: SegmentError,
    },
    /// A segment at an end of a chain cannot be read, nor can those between it and that end.
    #[error(
        "{place}: it cannot be read, nor can what lies between it and that end of its chain: {why}"
    )]
    Unreadable {
        /// The first of them.
        place: String,
        /// What is wrong with one of them.
        why: String,
    },
    /// The store does not answer.
    #[error("{place}: no answer within {} s: the store is slow, or away", limit.as_secs())]
    Slow {
        /// What was asked of.
        place: String,
        /// How long was waited.
        limit: std::time::Duration,
    },
    /// It writes over what is there, though it was asked not to.
    #[error(
        "{0} was created twice: the store knows no conditional writes (If-None-Match), so that two members could write over each other's segments, and no log archive is written there: take a store that does, or a directory"
    )]
    Overwrites(String),
    /// A segment is not there.
    #[error("segment {0} is missing: nothing behind it can be restored until a later full backup")]
    Missing(String),
    /// It is pruned faster than it can be looked at.
    #[error(
        "segment {0} went while it was looked at: somebody prunes this archive; try again when that is over"
    )]
    Pruned(String),
    /// A segment is another one than its place says, or follows another one.
    #[error(
        "segment {0} does not follow the one before it: the archive was changed, and nothing behind it can be restored until a later full backup"
    )]
    Broken(String),
}

impl ArchiveError {
    /// Whether a key is missing.
    pub fn is_locked(&self) -> bool {
        match self {
            ArchiveError::Key(_) => true,
            ArchiveError::Object(ObjectError::Cipher { source, .. }) => !source.is_damage(),
            _ => false,
        }
    }

    /// Whether the archive itself is not what it should be.
    pub fn is_damage(&self) -> bool {
        match self {
            ArchiveError::Object(error) => error.is_damage(),
            ArchiveError::Key(_)
            | ArchiveError::Slow { .. }
            | ArchiveError::Overwrites(_)
            | ArchiveError::Pruned(_) => false,
            ArchiveError::Segment { .. }
            | ArchiveError::Unreadable { .. }
            | ArchiveError::Missing(_)
            | ArchiveError::Broken(_) => true,
        }
    }
}

/// A place in a cluster's archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub whose: Whose,
    /// Which chain.
    pub run: u32,
    /// Which segment of it.
    pub sequence: u64,
}

impl Place {
    /// The one after it.
    pub fn next(&self) -> Place {
        Place {
            sequence: self.sequence + 1,
            ..self.clone()
        }
    }

    /// The one before it; none before the first.
    fn before(&self) -> Option<Place> {
        let sequence = self.sequence.checked_sub(1)?;
        Some(Place {
            sequence,
            ..self.clone()
        })
    }

    /// The first one of the next run.
    pub fn next_run(&self) -> Place {
        Place {
            run: self.run + 1,
            sequence: 0,
            ..self.clone()
        }
    }

    /// The place that a segment says it has.
    pub fn of(header: &Header) -> Place {
        Place {
            whose: header.whose.clone(),
            run: header.run,
            sequence: header.sequence,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Whose {
            cluster_id,
            incarnation,
        } = &self.whose;
        let (run, sequence) = (self.run, self.sequence);
        write!(
            f,
            "{cluster_id}-{incarnation}/{run:06}/{sequence:012}{ENDING}"
        )
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its header.
    pub header: Header,
    /// SHA-256 of it, by which its successor names it.
    pub hash: String,
}

/// What became of a segment that was to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It lies there.
    Done,
    /// Another one lies there.
    Other(Box<Head>),
}

/// The archives of clusters of one name in a store.
#[derive(Clone, Debug)]
pub struct Archive {
    objects: Objects,
    directory: Path,
}

impl Archive {
    /// Those of clusters that have this name in the store.
    pub fn new(objects: Objects, cluster: &BackupId) -> Archive {
        let directory = objects.prefix().clone();
        let directory = directory.join(cluster.as_ref()).join(DIRECTORY);
        Archive { objects, directory }
    }

    fn run(&self, whose: &Whose, run: u32) -> Path {
        let Whose {
            cluster_id,
            incarnation,
        } = whose;
        let archive = format!("{cluster_id}-{incarnation}");
        let directory = self.directory.clone().join(archive.as_str());
        directory.join(format!("{run:06}").as_str())
    }

    /// The key that the segment at a place is encrypted with, whether it is given or not; within, none: it is not
    /// encrypted. None where there is none.
    ///
    /// # Errors
    /// The store refuses, or it ends within its first bytes.
    pub(crate) async fn key_of(
        &self,
        place: &Place,
    ) -> Result<Option<Option<KeyId>>, ArchiveError> {
        Ok(self.objects.key_of(&self.path(place)).await?)
    }

    fn path(&self, place: &Place) -> Path {
        let name = format!("{:012}{ENDING}", place.sequence);
        self.run(&place.whose, place.run).join(name.as_str())
    }

    /// Where a segment lies, as a URL.
    pub fn show(&self, place: &Place) -> String {
        self.objects.show(&self.path(place))
    }

    /// Whose archives there are, ascending.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn owners(&self) -> Result<Vec<Whose>, ArchiveError> {
        let names = self.objects.directories(&self.directory).await?;
        let whose = |name: &String| {
            let (id, incarnation) = name.split_once('-')?;
            Whose::try_from(format!("{id}/{incarnation}")).ok()
        };
        Ok(names.iter().filter_map(whose).collect())
    }

    /// The chains of an archive, ascending.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn runs(&self, whose: &Whose) -> Result<Vec<u32>, ArchiveError> {
        let directory = self.run(whose, 0);
        let mut parts: Vec<_> = directory.parts().collect();
        parts.pop();
        let names = self
            .objects
            .directories(&parts.into_iter().collect())
            .await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The segments that a chain holds, ascending, with their bytes.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn sequences(
        &self,
        whose: &Whose,
        run: u32,
    ) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let files = self.objects.files(&self.run(whose, run)).await?;
        let sequence = |(name, bytes): &(String, u64)| {
            let sequence = name.strip_suffix(ENDING)?.parse().ok()?;
            Some((sequence, *bytes))
        };
        Ok(files.iter().filter_map(sequence).collect())
    }

    /// What the segment at a place says of itself; none where there is none.
    ///
    /// # Errors
    /// The store refuses, or it cannot be read.
    pub async fn head(&self, place: &Place) -> Result<Option<Head>, ArchiveError> {
        let bytes = u64::try_from(HEAD_BYTES_MAX).expect("a constant fits");
        let path = self.path(place);
        let Some(bytes) = self.objects.get_head(&path, bytes).await? else {
            return Ok(None);
        };
        let read = read_head(&bytes);
        let (header, hash, _) = read.map_err(|source| self.damaged(place, source))?;
        self.must_be(place, &header)?;
        Ok(Some(Head { header, hash }))
    }

    /// The segment at a place, whole and checked; none where there is none.
    ///
    /// # Errors
    /// The store refuses, or it cannot be read.
    pub async fn segment(&self, place: &Place) -> Result<Option<Segment>, ArchiveError> {
        let Some(bytes) = self.objects.get(&self.path(place)).await? else {
            return Ok(None);
        };
        let read = Segment::read(&bytes);
        let segment = read.map_err(|source| self.damaged(place, source))?;
        self.must_be(place, &segment.header)?;
        Ok(Some(segment))
    }

    /// What is wrong with the segment at a place.
    pub fn damaged(&self, place: &Place, source: SegmentError) -> ArchiveError {
        ArchiveError::Segment {
            place: self.show(place),
            source,
        }
    }

    /// The store did not answer within `limit` when it was asked for this place.
    pub fn slow(&self, place: &Place, limit: std::time::Duration) -> ArchiveError {
        ArchiveError::Slow {
            place: self.show(place),
            limit,
        }
    }

    fn must_be(&self, place: &Place, header: &Header) -> Result<(), ArchiveError> {
        match Place::of(header) == *place {
            true => Ok(()),
            false => Err(ArchiveError::Broken(self.show(place))),
        }
    }

    /// The last segment of the last chain; none where there is no segment.
    ///
    /// # Errors
    /// The store refuses, or it cannot be read.
    pub async fn end(&self, whose: &Whose) -> Result<Option<Head>, ArchiveError> {
        for run in self.runs(whose).await?.into_iter().rev() {
            let Some((sequence, _)) = self.sequences(whose, run).await?.pop() else {
                continue;
            };
            let place = Place {
                whose: whose.clone(),
                run,
                sequence,
            };
            let head = self.head(&place).await?;
            return head
                .map(Some)
                .ok_or(ArchiveError::Missing(self.show(&place)));
        }
        Ok(None)
    }

    /// What was appended behind `head` since, the last of it; `head` itself where nothing was. At most
    /// `steps` segments further.
    ///
    /// # Errors
    /// The store refuses, or what is there cannot be read.
    pub async fn follow(&self, mut head: Head, steps: usize) -> Result<Head, ArchiveError> {
        for _ in 0..steps {
            let place = Place::of(&head.header);
            let next = match self.head(&place.next()).await? {
                Some(next) => Some(next),
                None => self.head(&place.next_run()).await?,
            };
            match next {
                Some(next) => head = next,
                None => break,
            }
        }
        Ok(head)
    }

    /// Whether the store keeps what is there from whoever would create another object of its name: without that, two
    /// that think they lead would write over each other. It is tried, since stores that do not know the condition take
    /// no notice of it.
    ///
    /// # Errors
    /// It does not, or refuses.
    pub async fn must_be_exclusive(&self) -> Result<(), ArchiveError> {
        let place = self.directory.clone().join(PROBE);
        for _ in 0..2 {
            let text = Bytes::from_static(PROBE_TEXT.as_bytes());
            if self.objects.create_as_is(&place, text).await? == Created::There {
                return Ok(());
            }
        }
        Err(ArchiveError::Overwrites(self.objects.show(&place)))
    }

    /// Appends a segment at its place, where nothing lies there, and the one before it is there.
    ///
    /// # Errors
    /// The store refuses; it may lie there all the same.
    pub async fn append(&self, built: &Built) -> Result<Appended, ArchiveError> {
        let place = Place::of(&built.header);
        // What follows nothing is restored by nobody: somebody removed it, or another directory lies there by now.
        if let Some(before) = place.before()
            && !self.objects.has(&self.path(&before)).await?
        {
            return Err(ArchiveError::Missing(self.show(&before)));
        }
        let bytes: Bytes = built.bytes.clone();
        match self.objects.create(&self.path(&place), bytes).await? {
            Created::Now => Ok(Appended::Done),
            // A put that is tried again after its answer was lost meets itself.
            Created::There => match self.head(&place).await? {
                Some(there) if there.hash == built.hash => Ok(Appended::Done),
                Some(there) => Ok(Appended::Other(Box::new(there))),
                None => Err(ArchiveError::Missing(self.show(&place))),
            },
        }
    }

    /// Removes a segment.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn remove(&self, place: &Place) -> Result<(), ArchiveError> {
        Ok(self.objects.remove(&self.path(place)).await?)
    }
}
