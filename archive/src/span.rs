//! What can be restored of a chain: from where to where, what is missing in it, and where in it a
//! revision or a time lies.
//!
//! A segment that is damaged or gone costs what it held, and nothing else: a chain is as long as what can be read
//! of it, and whoever looks for a moment looks past it, to where a later full backup goes on from.

use engram_objects::Whose;

use crate::chain::{Archive, ArchiveError, Head, Place};
use crate::segment::Header;

/// A chain from its first segment to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first segment; earlier ones may have been pruned.
    pub first: Header,
    /// Its last one.
    pub last: Header,
    /// How many segments are there.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments between them that are not there, the first few.
    pub missing: Vec<u64>,
    /// Segments before its first and behind its last one that are there and cannot be read, and why: they are no
    /// part of it.
    pub unreadable: Vec<(u64, String)>,
}

/// The chains of an archive.
#[derive(Debug, Default)]
pub struct Spans {
    /// Those of which something can be read, oldest first.
    pub known: Vec<Span>,
    /// What is wrong with those of which nothing can.
    pub lost: Vec<ArchiveError>,
}

/// How often a chain is listed again whose first segments are pruned while it is read.
pub(crate) const LISTS_MAX: usize = 64;
/// Missing segments that are told of by their names.
const MISSING_TOLD: usize = 10;
/// Segments in a row that cannot be read and are looked past.
const PASSED_MAX: u64 = 64;

/// A moment in a cluster's history: everything up to this revision, and of what was applied at this
/// revision that up to this entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The revision.
    pub revision: i64,
    /// The entry; `u64::MAX`: the last moment at that revision.
    pub index: u64,
}

impl Target {
    /// Whether something that was applied then is before the moment.
    pub fn covers(&self, revision: i64, index: u64) -> bool {
        revision < self.revision || (revision == self.revision && index <= self.index)
    }
}

impl Span {
    /// What cannot be read behind its last segment, the first of it.
    pub fn cut_off(&self) -> Option<ArchiveError> {
        let behind = |(sequence, _): &&(u64, String)| *sequence > self.last.sequence;
        let first = self.unreadable.iter().find(behind);
        first.map(|found| self.lost(found))
    }

    fn lost(&self, (sequence, why): &(u64, String)) -> ArchiveError {
        ArchiveError::Unreadable {
            place: self.place(*sequence).to_string(),
            why: why.clone(),
        }
    }

    /// Whether all that is there of it can be read, by the looks of its ends.
    ///
    /// # Errors
    /// What cannot.
    pub(crate) fn must_be_whole(&self) -> Result<(), ArchiveError> {
        match self.unreadable.first() {
            Some(found) => Err(self.lost(found)),
            None => Ok(()),
        }
    }

    /// The revision after which it begins: a full backup there, or later, can be gone on from.
    pub fn begins_after(&self) -> i64 {
        self.first.first_revision - 1
    }

    /// A place in it.
    pub fn place(&self, sequence: u64) -> Place {
        Place {
            sequence,
            ..Place::of(&self.first)
        }
    }
}

impl Archive {
    /// The chains of an archive, as far as they can be read.
    ///
    /// # Errors
    /// The store refuses, or a key is missing.
    pub async fn spans(&self, whose: &Whose) -> Result<Spans, ArchiveError> {
        let mut spans = Spans::default();
        for run in self.runs(whose).await? {
            match self.span(whose, run).await {
                Ok(span) => spans.known.extend(span),
                Err(error) if error.is_damage() => spans.lost.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(spans)
    }

    /// A chain of an archive, as much of it as can be read; none where nothing is there.
    ///
    /// # Errors
    /// The store refuses, or none of its first or last segments can be read.
    async fn span(&self, whose: &Whose, run: u32) -> Result<Option<Span>, ArchiveError> {
        let Some(Beginning {
            first,
            there,
            mut unreadable,
        }) = self.first(whose, run).await?
        else {
            return Ok(None);
        };
        let mut last = None;
        for (sequence, _) in there.iter().rev() {
            let place = Place {
                sequence: *sequence,
                ..Place::of(&first)
            };
            match self.must_have(&place).await {
                Ok(head) => {
                    last = Some(head.header);
                    break;
                }
                Err(error) => pass(&mut unreadable, *sequence, error)?,
            }
        }
        let last = last.unwrap_or_else(|| first.clone());
        unreadable.sort();
        let within = first.sequence..=last.sequence;
        let there = there.iter().filter(|(one, _)| within.contains(one));
        let there: Vec<(u64, u64)> = there.copied().collect();
        let pairs = there.windows(2);
        let missing = pairs.flat_map(|pair| pair[0].0 + 1..pair[1].0);
        Ok(Some(Span {
            missing: missing.take(MISSING_TOLD).collect(),
            first,
            last,
            segments: u64::try_from(there.len()).unwrap_or(u64::MAX),
            bytes: there.iter().map(|(_, bytes)| bytes).sum(),
            unreadable,
        }))
    }

    /// The first segment of a chain that can be read, and what there is of the chain; none where nothing is there.
    /// What is pruned between the list and the look at its first is no gap: it is listed again.
    async fn first(&self, whose: &Whose, run: u32) -> Result<Option<Beginning>, ArchiveError> {
        let mut gone = None;
        'listed: for _ in 0..LISTS_MAX {
            let there = self.sequences(whose, run).await?;
            if there.is_empty() {
                return Ok(None);
            }
            let mut unreadable = Vec::new();
            for (sequence, _) in &there {
                let place = Place {
                    whose: whose.clone(),
                    run,
                    sequence: *sequence,
                };
                match self.head(&place).await {
                    Ok(Some(Head { header, .. })) => {
                        return Ok(Some(Beginning {
                            first: header,
                            there,
                            unreadable,
                        }));
                    }
                    Ok(None) if gone.as_ref() == Some(&place) => {
                        return Err(ArchiveError::Missing(self.show(&place)));
                    }
                    Ok(None) => {
                        gone = Some(place);
                        continue 'listed;
                    }
                    Err(error) => pass(&mut unreadable, *sequence, error)?,
                }
            }
            let last = unreadable.pop().map(|(_, why)| why).unwrap_or_default();
            return Err(ArchiveError::Unreadable {
                place: self.show(&Place {
                    whose: whose.clone(),
                    run,
                    sequence: there[0].0,
                }),
                why: last,
            });
        }
        let gone = gone.map(|place| self.show(&place));
        Err(ArchiveError::Pruned(gone.unwrap_or_default()))
    }

    /// The chain of a span as it is now, where the segment at `sequence` has been pruned since it was listed; none
    /// where it has not: if it is not there, it is missing.
    ///
    /// # Errors
    /// The store refuses, or none of its segments can be read.
    pub(crate) async fn shortened(
        &self,
        span: &Span,
        sequence: u64,
    ) -> Result<Option<Span>, ArchiveError> {
        let now = self.span(&span.first.whose, span.first.run).await?;
        Ok(now.filter(|now| now.first.sequence > sequence))
    }

    /// The revision after which a segment's chain begins.
    ///
    /// # Errors
    /// The store refuses, or none of its first segments can be read.
    pub async fn begins_after(&self, of: &Header) -> Result<i64, ArchiveError> {
        let first = match self.first(&of.whose, of.run).await? {
            Some(Beginning { first, .. }) => first,
            None => self.must_have(&Place::of(of)).await?.header,
        };
        Ok(first.first_revision - 1)
    }

    async fn must_have(&self, place: &Place) -> Result<Head, ArchiveError> {
        let head = self.head(place).await?;
        head.ok_or_else(|| ArchiveError::Missing(self.show(place)))
    }

    /// The first segment of a span of which `is_late` is true; none where it is of none. It is false
    /// of some first segments, and then true of the rest. Of one that cannot be read, what its successor tells is
    /// asked: where it ends.
    ///
    /// # Errors
    /// The store refuses, or too many segments on the way cannot be read.
    pub async fn search(
        &self,
        span: &Span,
        is_late: impl Fn(&Header) -> bool,
    ) -> Result<Option<u64>, ArchiveError> {
        if !is_late(&span.last) {
            return Ok(None);
        }
        let (mut early, mut late) = (span.first.sequence, span.last.clone());
        // The answer is in early..=late.
        while early < late.sequence {
            let middle = early + (late.sequence - early) / 2;
            if let Some(before) = self.readable(span, (early..=middle).rev()).await? {
                match is_late(&before) {
                    true => late = before,
                    false => early = before.sequence + 1,
                }
                continue;
            }
            // Nothing can be read of early..=middle.
            let behind = self.readable(span, middle + 1..=late.sequence).await?;
            let behind = behind.unwrap_or_else(|| late.clone());
            if is_late(&behind) {
                return Ok(Some(match is_late(&ends_before(&behind)) {
                    true => early,
                    false => behind.sequence,
                }));
            }
            early = behind.sequence + 1;
        }
        Ok(Some(late.sequence))
    }

    /// What the first of some segments says of itself that can be read; none where none can.
    async fn readable(
        &self,
        span: &Span,
        sequences: impl Iterator<Item = u64>,
    ) -> Result<Option<Header>, ArchiveError> {
        let mut passed = 0;
        for sequence in sequences {
            match self.must_have(&span.place(sequence)).await {
                Ok(head) => return Ok(Some(head.header)),
                Err(error) if is_passed(&error) && passed < PASSED_MAX => passed += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The last moment of a span that is not after `unix_ms`; none where there is none.
    ///
    /// # Errors
    /// The store refuses, or a segment on the way cannot be read.
    pub async fn moment(&self, span: &Span, unix_ms: i64) -> Result<Option<Target>, ArchiveError> {
        let after = self
            .search(span, |header| header.first_ms > unix_ms)
            .await?;
        let behind = after.unwrap_or(span.last.sequence + 1);
        // Segments that were written in haste have no moments of their own.
        for sequence in (span.first.sequence..behind).rev() {
            let place = span.place(sequence);
            let segment = self.segment(&place).await?;
            let segment = segment.ok_or_else(|| ArchiveError::Missing(self.show(&place)))?;
            let moments = segment.moments();
            let moments = moments.map_err(|source| self.damaged(&place, source))?;
            let last = moments.iter().rfind(|moment| moment.unix_ms <= unix_ms);
            if let Some(last) = last {
                return Ok(Some(Target {
                    revision: last.revision,
                    index: last.index,
                }));
            }
        }
        Ok(None)
    }
}

/// A chain's first segment that can be read.
struct Beginning {
    first: Header,
    /// What there is of the chain, with bytes.
    there: Vec<(u64, u64)>,
    /// What lies before it and cannot be read.
    unreadable: Vec<(u64, String)>,
}

/// Looks past a segment that cannot be read, where it is the segment's own fault.
fn pass(
    unreadable: &mut Vec<(u64, String)>,
    sequence: u64,
    error: ArchiveError,
) -> Result<(), ArchiveError> {
    let is_enough = unreadable.len() as u64 >= PASSED_MAX;
    if is_enough || !is_passed(&error) {
        return Err(error);
    }
    unreadable.push((sequence, error.to_string()));
    Ok(())
}

/// Whether it is the segment's own fault: one of a newer format is whole, for who can read it.
fn is_passed(error: &ArchiveError) -> bool {
    let is_newer = matches!(
        error,
        ArchiveError::Segment {
            source: crate::SegmentError::Format(_),
            ..
        }
    );
    error.is_damage() && !is_newer
}

/// What is known of a segment that cannot be read, by the one behind it: where it ends. Its times are not: it
/// counts as one that may hold any, so that nothing of it is passed over in silence.
fn ends_before(behind: &Header) -> Header {
    Header {
        last_revision: behind.first_revision - 1,
        first_ms: i64::MIN,
        ..behind.clone()
    }
}

#[cfg(test)]
mod tests {
    use engram_objects::Objects;
    use engram_proto::backup as pb;

    use super::*;
    use crate::chain::Appended;
    use crate::segment::tests::{record, writer};
    use crate::segment::{Builder, Built, Cut};

    fn moment(revision: i64, unix_ms: i64) -> pb::Moment {
        pb::Moment {
            revision,
            index: u64::try_from(revision).expect("positive") + 10,
            unix_ms,
        }
    }

    /// A segment of one revision; of every second one the time is known.
    fn next(last: Option<&Built>) -> Built {
        let start = Cut {
            revision: 4,
            index: 10,
        };
        let mut builder = match last {
            None => Builder::first(&writer(), 0, start, 1_000, None),
            Some(last) => Builder::after(&writer(), &last.header, &last.hash),
        };
        let revision = builder.revision() + 1;
        assert!(builder.record(&record(revision, 0, b"a")));
        if revision % 2 == 1 {
            builder.moment(moment(revision, revision * 1_000));
        }
        let index = u64::try_from(revision).expect("positive") + 10;
        builder.finish(Cut { revision, index })
    }

    async fn chain(dir: &tempfile::TempDir, segments: usize) -> (Archive, Vec<Built>) {
        let objects = Objects::open(&format!("file://{}", dir.path().display()));
        let cluster = "demo".parse().expect("a name");
        let archive = Archive::new(objects.expect("a store"), &cluster);
        let mut built: Vec<Built> = Vec::new();
        for _ in 0..segments {
            let one = next(built.last());
            assert_eq!(archive.append(&one).await.expect("stored"), Appended::Done);
            built.push(one);
        }
        (archive, built)
    }

    #[tokio::test]
    async fn of_two_that_write_one_place_one_is_told_of_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let (archive, built) = chain(&dir, 3).await;
        let again = archive.append(&built[2]).await.expect("it is there");
        assert_eq!(again, Appended::Done, "a lost answer");
        let mut other = Builder::after(&writer(), &built[1].header, &built[1].hash);
        assert!(other.record(&record(7, 0, b"other")));
        let other = other.finish(Cut {
            revision: 7,
            index: 17,
        });
        let refused = archive.append(&other).await.expect("told");
        let Appended::Other(there) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(there.hash, built[2].hash);
        let first = Head {
            header: built[0].header.clone(),
            hash: built[0].hash.clone(),
        };
        let end = archive.follow(first.clone(), 100).await.expect("read");
        assert_eq!(end.hash, built[2].hash);
        let step = archive.follow(first, 1).await.expect("read");
        assert_eq!(step.hash, built[1].hash);
        let whose = writer().whose;
        let owners = archive.owners().await.expect("listed");
        assert_eq!(owners, std::slice::from_ref(&whose));
        assert_eq!(archive.end(&whose).await.expect("read"), Some(end));
    }

    #[tokio::test]
    async fn revisions_and_times_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (archive, _) = chain(&dir, 10).await;
        let spans = archive.spans(&writer().whose).await.expect("listed");
        let [span] = &spans.known[..] else {
            panic!("{spans:?}")
        };
        assert_eq!((span.begins_after(), span.last.last_revision), (4, 14));
        assert_eq!((span.segments, span.missing.len()), (10, 0));
        for revision in 5..=14 {
            let found = archive.search(span, |one| one.last_revision >= revision);
            let sequence = u64::try_from(revision - 5).expect("positive");
            assert_eq!(found.await.expect("read"), Some(sequence));
        }
        let none = archive.search(span, |one| one.last_revision >= 15).await;
        assert_eq!(none.expect("read"), None);
        let at = async |ms| archive.moment(span, ms).await.expect("read");
        assert_eq!(at(4_999).await, None, "before the first moment");
        for (ms, revision) in [
            (5_000, 5),
            (6_999, 5),
            (7_000, 7),
            (13_500, 13),
            (99_000, 13),
        ] {
            let target = at(ms).await.expect("a moment");
            assert_eq!(target.revision, revision, "{ms}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_or_damaged_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let (archive, built) = chain(&dir, 5).await;
        let place = Place::of(&built[2].header);
        let file = dir.path().join(format!("demo/_archive/{place}"));
        std::fs::write(&file, &built[1].bytes).expect("written");
        let moved = archive.segment(&place).await.expect_err("another one");
        assert!(matches!(&moved, ArchiveError::Broken(_)), "{moved}");
        assert!(
            moved.to_string().contains("000000000002.segment"),
            "{moved}"
        );
        let mut bytes = built[2].bytes.to_vec();
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(&file, bytes).expect("written");
        let damaged = archive.segment(&place).await.expect_err("damaged");
        assert!(damaged.is_damage(), "{damaged}");
        assert!(
            damaged.to_string().contains("000000000002.segment"),
            "{damaged}"
        );
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(archive.segment(&place).await.expect("gone"), None);
        let spans = archive.spans(&writer().whose).await.expect("listed");
        assert_eq!(spans.known[0].missing, [2]);
    }

    #[tokio::test]
    async fn what_is_pruned_while_it_is_read_is_not_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (archive, built) = chain(&dir, 6).await;
        let spans = archive.spans(&writer().whose).await.expect("listed");
        let listed = &spans.known[0];
        let remove = async |index: usize| {
            let place = Place::of(&built[index].header);
            archive.remove(&place).await.expect("removed");
        };
        // Two go before they are read, and one more while the rest is.
        remove(0).await;
        remove(1).await;
        let verified = archive.verify(listed, |_| {}).await.expect("it is whole");
        assert_eq!((verified.segments, verified.begins_after), (4, 6));
        let file = dir
            .path()
            .join(format!("demo/_archive/{}", Place::of(&built[2].header)));
        let once = std::cell::Cell::new(false);
        let prune = |_| {
            if !once.replace(true) {
                std::fs::remove_file(&file).expect("removed");
                let next = file.with_file_name("000000000003.segment");
                std::fs::remove_file(next).expect("removed");
            }
        };
        let verified = archive.verify(listed, prune).await.expect("it is whole");
        assert_eq!((verified.segments, verified.begins_after), (2, 8));
        // Another one that prunes meanwhile, by what it listed before, goes on too.
        let pruned = archive.prune(listed, 10, false).await.expect("pruned");
        assert_eq!(pruned, 1);
    }

    #[tokio::test]
    async fn one_that_is_gone_from_the_middle_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (archive, built) = chain(&dir, 5).await;
        let spans = archive.spans(&writer().whose).await.expect("listed");
        let place = Place::of(&built[2].header);
        archive.remove(&place).await.expect("removed");
        let missing = archive.verify(&spans.known[0], |_| {}).await;
        let missing = missing.expect_err("it is missing");
        assert!(
            missing.is_damage() && missing.to_string().contains("000000000002"),
            "{missing}"
        );
        // What comes before it is of no more use than ever.
        let pruned = archive.prune(&spans.known[0], 7, false).await;
        assert_eq!(pruned.expect("pruned"), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_read_costs_what_it_held_and_nothing_else() {
        let revision_of = |sequence: usize| i64::try_from(sequence).expect("few") + 5;
        for (victims, gone) in [
            (vec![0], false),
            (vec![4], false),
            (vec![4], true),
            (vec![8], false),
            (vec![3, 4, 5], false),
            (vec![3, 4, 5], true),
            (vec![0, 1, 4, 7, 8], false),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let (archive, built) = chain(&dir, 9).await;
            for victim in &victims {
                let place = Place::of(&built[*victim].header);
                let file = dir.path().join(format!("demo/_archive/{place}"));
                match gone {
                    true => std::fs::remove_file(file).expect("removed"),
                    false if *victim == 4 => std::fs::write(file, "").expect("written"),
                    false => std::fs::write(file, "nonsense").expect("written"),
                }
            }
            let spans = archive.spans(&writer().whose).await.expect("listed");
            let span = &spans.known[0];
            let readable: Vec<usize> = (0..9).filter(|one| !victims.contains(one)).collect();
            let (first, last) = (readable[0], readable[readable.len() - 1]);
            let ends = (span.begins_after() + 1, span.last.last_revision);
            assert_eq!(ends, (revision_of(first), revision_of(last)), "{victims:?}");
            assert!(archive.verify(span, |_| {}).await.is_err(), "{victims:?}");
            assert_eq!(span.cut_off().is_some(), last < 8, "{victims:?}");
            for wanted in readable {
                let revision = revision_of(wanted);
                let found = archive.search(span, |one| one.last_revision >= revision);
                let found = found.await.expect("looked past").expect("it is there");
                // What cannot be read may hold it too, where several in a row cannot.
                let is_exact = usize::try_from(found).expect("few") == wanted;
                assert!(is_exact, "{revision} of {victims:?}: {found}");
            }
            for wanted in (first..=last).filter(|one| victims.contains(one)) {
                let revision = revision_of(wanted);
                let found = archive.search(span, |one| one.last_revision >= revision);
                let found = found.await.expect("looked past").expect("it is there");
                assert!(victims.contains(&usize::try_from(found).expect("few")));
                // Nor is its time passed over in silence.
                let ms = revision * 1_000 + 1;
                let told = archive.moment(span, ms).await;
                assert!(told.is_err(), "{ms} of {victims:?}: {told:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_keys_that_segments_need_are_told_whether_they_are_given_or_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = "demo".parse().expect("a name");
        let with = |seeds: &[u8]| {
            let objects = Objects::open(&format!("file://{}", dir.path().display()));
            let keys: Vec<[u8; 32]> = seeds.iter().map(|seed| [*seed; 32]).collect();
            let keys = engram_objects::Keys::of(&keys);
            let archive = Archive::new(objects.expect("a store").with_keys(keys.clone()), &cluster);
            (archive, keys.writing())
        };
        let mut last: Option<Built> = None;
        for seeds in [&[][..], &[1], &[1], &[2, 1]] {
            let one = next(last.as_ref());
            let stored = with(seeds).0.append(&one).await.expect("stored");
            assert_eq!(stored, Appended::Done);
            last = Some(one);
        }
        let (archive, new) = with(&[2]);
        let found = archive.keys().await.expect("read");
        let wanted = [(None, 1), (with(&[1]).1, 2), (new.clone(), 1)];
        assert_eq!(found.by_key, std::collections::BTreeMap::from(wanted));
        assert_eq!(found.untold, Vec::<String>::new());
        // One that is empty, and one that ends within its header, say nothing of the others.
        let whose = archive.owners().await.expect("listed").remove(0);
        let place = |sequence| {
            let shown = archive.show(&Place {
                whose: whose.clone(),
                run: 0,
                sequence,
            });
            std::path::PathBuf::from(shown.strip_prefix("file://").expect("a directory"))
        };
        std::fs::write(place(0), b"").expect("written");
        let second = std::fs::read(place(1)).expect("it is there");
        std::fs::write(place(1), &second[..20]).expect("written");
        let found = archive.keys().await.expect("the others are told");
        let wanted = [(with(&[1]).1, 1), (new, 1)];
        assert_eq!(found.by_key, std::collections::BTreeMap::from(wanted));
        let untold = found.untold.join("\n");
        assert!(untold.lines().count() == 2, "{untold}");
        for sequence in ["000000000000.segment", "000000000001.segment"] {
            assert!(untold.contains(sequence), "{untold}");
        }
    }
}
