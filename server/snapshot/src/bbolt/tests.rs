//! The writer against a reader of the tests' own. bbolt itself has read such files too: its
//! `Check`, etcdutl's `snapshot status` and `restore`, and etcd serving the result.

mod reader;

use std::ops::ControlFlow;

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;

use super::*;
use reader::{Pairs, Walk, walk};

/// Plans and writes; the file must have the length planned.
fn file_of(buckets: &mut [&mut dyn BucketSource]) -> Vec<u8> {
    let layout = plan(buckets).expect("planned");
    let mut file = Vec::new();
    write(&layout, buckets, &mut file).expect("written");
    assert_eq!(file.len() as u64, layout.file_bytes());
    file
}

fn bucket(name: &str, pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> MemoryBucket {
    MemoryBucket {
        name: name.into(),
        pairs: pairs.into_iter().collect(),
    }
}

/// Writes one bucket, reads it back and compares.
fn round_trip(source: &mut MemoryBucket) -> Walk {
    let walk = walk(&file_of(&mut [source]));
    let pairs: Pairs = source.pairs.clone().into_iter().collect();
    assert_eq!(walk.buckets.len(), 1);
    assert!(
        walk.buckets[0] == (source.name.clone(), pairs),
        "the pairs read are those written"
    );
    walk
}

fn numbered(count: u64, value_bytes: impl Fn(u64) -> usize) -> MemoryBucket {
    bucket(
        "key",
        (0..count).map(|i| {
            let mut key = i.to_be_bytes().to_vec();
            key.extend_from_slice(b"_00000000");
            (key, vec![i as u8; value_bytes(i)])
        }),
    )
}

#[test]
fn a_file_without_buckets_is_metas_freelist_and_an_empty_root() {
    let file = file_of(&mut []);
    assert_eq!(file.len(), 4 * 4096);
    assert_eq!(walk(&file).buckets, vec![]);
}

#[test]
fn an_empty_bucket_takes_no_page() {
    let file = file_of(&mut [
        &mut MemoryBucket::new(b"alarm"),
        &mut MemoryBucket::new(b"auth"),
    ]);
    assert_eq!(file.len(), 4 * 4096);
    let names: Vec<_> = walk(&file)
        .buckets
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, [b"alarm".to_vec(), b"auth".to_vec()]);
}

#[test]
fn one_pair_takes_one_leaf() {
    let walk = round_trip(&mut numbered(1, |_| 3));
    assert_eq!(
        (walk.leaf_pages, walk.branch_pages, walk.depth_max),
        (2, 0, 1)
    );
}

#[test]
fn a_thousand_pairs_take_a_branch_over_full_leaves() {
    let walk = round_trip(&mut numbered(1000, |_| 100));
    // 30 pairs of 16 + 17 + 100 bytes fit a page: 34 leaves, and the root bucket's one.
    assert_eq!(
        (walk.leaf_pages, walk.branch_pages, walk.depth_max),
        (35, 1, 2)
    );
}

#[test]
fn two_hundred_thousand_pairs_take_two_branch_levels() {
    let walk = round_trip(&mut numbered(200_000, |i| (i % 500) as usize));
    assert_eq!(walk.depth_max, 3);
    assert_eq!(walk.overflow_pages, 0);
}

#[test]
fn values_of_every_size_to_two_mebibytes_come_back() {
    let sizes = [
        0,
        1,
        4046,
        4047,
        4048,
        4049,
        8142,
        8143,
        8144,
        65_535,
        65_536,
        1 << 20,
        2 << 20,
    ];
    for filler in [0, 1, 5] {
        let source = &mut numbered(sizes.len() as u64 * 8, |i| {
            if i % 8 < filler {
                10
            } else {
                sizes[i as usize / 8]
            }
        });
        round_trip(source);
    }
}

#[test]
fn a_pair_that_fills_a_page_exactly_needs_no_second_one() {
    let exact = 4096 - 16 - 16 - 17;
    assert_eq!(round_trip(&mut numbered(1, |_| exact)).overflow_pages, 0);
    assert_eq!(
        round_trip(&mut numbered(1, |_| exact + 1)).overflow_pages,
        1
    );
}

#[test]
fn a_pair_one_byte_too_long_for_the_rest_of_a_page_begins_the_next_leaf() {
    // The first pair leaves 67 bytes, of which the second needs 33 and its value.
    let two = |value_bytes| round_trip(&mut numbered(2, |i| [3980, value_bytes][i as usize]));
    let [fits, too_long] = [two(34), two(35)];
    assert_eq!((fits.leaf_pages, fits.overflow_pages), (1 + 1, 0));
    assert_eq!((too_long.leaf_pages, too_long.overflow_pages), (2 + 1, 0));
}

#[test]
fn small_pairs_fill_the_rest_of_a_large_pairs_last_page() {
    let walk = round_trip(&mut numbered(20, |i| if i == 0 { 5000 } else { 10 }));
    assert_eq!((walk.leaf_pages, walk.overflow_pages), (2, 1));
}

#[test]
fn pairs_that_fit_a_page_badly_leave_at_most_an_eighth_unused() {
    for value_bytes in [1400, 2000, 2080, 3000, 4063, 4064, 4100, 5000, 9000] {
        let walk = round_trip(&mut numbered(2000, |_| value_bytes));
        let pages = walk.leaf_pages + walk.overflow_pages - 1;
        let used = 2000 * (16 + 17 + value_bytes);
        assert!(
            used * 8 > (pages - 8) * 4096 * 7,
            "{value_bytes}: {used} bytes in {pages} pages"
        );
        assert!(
            pages <= 8 * walk.leaf_pages,
            "{value_bytes}: leaves are 8 pages at most"
        );
    }
}

#[test]
fn keys_of_the_greatest_length_come_back_from_branch_pages_that_overflow() {
    for count in 1..40u8 {
        let pairs = (0..count).map(|i| {
            let mut key = vec![i; 32_768];
            key.truncate(if i % 7 == 3 { 9 } else { 32_768 });
            (key, vec![i; 5])
        });
        round_trip(&mut bucket("key", pairs));
    }
}

#[test]
fn every_small_count_of_leaves_keeps_two_children_in_each_branch() {
    // 113 children with 20-byte keys fill a branch page, so this crosses both of its limits, where
    // a last page with one child would be the easy mistake. The reader checks it.
    for count in (1..30).chain(100..350) {
        let pairs = (0..count).map(|i: u32| (format!("{i:020}").into_bytes(), vec![7; 4000]));
        let walk = round_trip(&mut bucket("key", pairs));
        assert_eq!(walk.leaf_pages, count as usize + 1);
    }
}

#[test]
fn many_buckets_make_a_root_bucket_of_many_pages() {
    let mut all: Vec<MemoryBucket> = (0..2000)
        .map(|i| numbered_name(i, if i % 3 == 0 { 0 } else { i }))
        .collect();
    let mut sources: Vec<&mut dyn BucketSource> = all
        .iter_mut()
        .map(|bucket| bucket as &mut dyn BucketSource)
        .collect();
    let walk = walk(&file_of(&mut sources));
    assert_eq!(walk.buckets.len(), 2000);
    for (found, written) in walk.buckets.iter().zip(&all) {
        assert_eq!(found.0, written.name);
        assert!(found.1.iter().map(|(k, v)| (k, v)).eq(written.pairs.iter()));
    }
}

fn numbered_name(index: u64, pairs: u64) -> MemoryBucket {
    MemoryBucket {
        name: format!("bucket-{index:05}").into(),
        ..numbered(pairs % 11, |_| 1)
    }
}

/// A source that yields what it is told, the second time something else.
struct Script {
    readings: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
    error: bool,
}

impl BucketSource for Script {
    fn name(&self) -> &[u8] {
        b"script"
    }

    fn pairs(&mut self, visitor: &mut PairVisitor<'_>) -> Result<(), SourceError> {
        let pairs = if self.readings.len() > 1 {
            self.readings.remove(0)
        } else {
            self.readings[0].clone()
        };
        for (key, value) in pairs {
            // Goes on after a break, as no source should.
            let _: ControlFlow<()> = visitor(&key, &value);
        }
        if self.error {
            Err("disk on fire".into())
        } else {
            Ok(())
        }
    }
}

fn script(readings: &[&[(&str, usize)]]) -> Script {
    let reading = |pairs: &&[(&str, usize)]| {
        pairs
            .iter()
            .map(|(key, bytes)| (key.as_bytes().to_vec(), vec![0; *bytes]))
            .collect()
    };
    Script {
        readings: readings.iter().map(reading).collect(),
        error: false,
    }
}

fn fault_of(pairs: &[(&str, usize)]) -> (u64, PairFault) {
    match plan(&mut [&mut script(&[pairs])]) {
        Err(ReadError::Pair { index, fault, .. }) => (index, fault),
        other => panic!("planned {other:?}"),
    }
}

#[test]
fn keys_out_of_order_twice_empty_or_too_long_are_refused() {
    assert_eq!(fault_of(&[("b", 1), ("a", 1)]), (1, PairFault::OutOfOrder));
    assert_eq!(
        fault_of(&[("a", 1), ("b", 1), ("b", 1)]),
        (2, PairFault::OutOfOrder)
    );
    assert_eq!(fault_of(&[("", 1)]), (0, PairFault::EmptyKey));
    let long = "k".repeat(32_769);
    assert_eq!(
        fault_of(&[(&long, 1)]),
        (0, PairFault::KeyTooLong { bytes: 32_769 })
    );
}

#[test]
fn bucket_names_out_of_order_are_refused() {
    let [mut a, mut b] = [MemoryBucket::new(b"a"), MemoryBucket::new(b"b")];
    let refused = plan(&mut [&mut b, &mut a]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"bucket "a" cannot be stored: its key is not greater than the key before it"#
    );
    assert!(plan(&mut [&mut a, &mut b]).is_ok());
    assert!(plan(&mut [&mut MemoryBucket::new(b"")]).is_err());
}

#[test]
fn a_sources_error_is_passed_on_in_both_passes() {
    let mut broken = Script {
        error: true,
        ..script(&[&[("a", 1)]])
    };
    let error = plan(&mut [&mut broken]).unwrap_err();
    assert_eq!(error.to_string(), r#"bucket "script" cannot be read"#);
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "disk on fire"
    );

    broken.error = false;
    let layout = plan(&mut [&mut broken]).unwrap();
    broken.error = true;
    let error = write(&layout, &mut [&mut broken], &mut Vec::new()).unwrap_err();
    assert!(
        matches!(error, WriteError::Read(ReadError::Source { .. })),
        "{error:?}"
    );
}

#[test]
fn a_source_that_changes_between_the_passes_is_an_error_and_never_a_longer_file() {
    let big = 3 * 4096;
    let cases: [[&[(&str, usize)]; 2]; 7] = [
        [&[("a", 1)], &[]],
        [&[], &[("a", 1)]],
        [&[("a", 1)], &[("a", 1), ("b", 1)]],
        [&[("a", 1), ("b", 1)], &[("a", 1)]],
        [&[("a", 1)], &[("a", big)]],
        [&[("a", big), ("b", big)], &[("a", big), ("b", big * 2)]],
        [&[("a", big)], &[("a", 1)]],
    ];
    for readings in cases {
        let mut source = script(&readings);
        let layout = plan(&mut [&mut source]).unwrap();
        let mut file = Vec::new();
        match write(&layout, &mut [&mut source], &mut file) {
            Err(WriteError::Changed { bucket }) => assert_eq!(bucket, "script"),
            other => panic!("{readings:?}: {other:?}"),
        }
        assert!(file.len() as u64 <= layout.file_bytes(), "{readings:?}");
    }
}

/// Everything that goes through the blob writer, and the blobs' sizes.
fn blobs_of(file_bytes: u64, writes: &[&[u8]]) -> Vec<Blob> {
    let mut blobs = Vec::new();
    let mut writer = BlobWriter::new(file_bytes, |blob| {
        blobs.push(blob);
        Ok(())
    });
    for bytes in writes {
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
    blobs
}

#[test]
fn blobs_are_32_kib_then_the_rest_then_the_digest() {
    let file: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let blobs = blobs_of(100_000, &[&file[..5], &file[5..70_000], &file[70_000..]]);
    let sizes: Vec<_> = blobs
        .iter()
        .map(|b| (b.bytes.len(), b.remaining_bytes))
        .collect();
    let first_three = [(32_768, 67_232), (32_768, 34_464), (32_768, 1_696)];
    assert_eq!(sizes[..3], first_three);
    assert_eq!(sizes[3..], [(1_696, 0), (32, 0)]);
    let joined: Vec<u8> = blobs[..4]
        .iter()
        .flat_map(|blob| blob.bytes.to_vec())
        .collect();
    assert!(joined == file);
    assert_eq!(blobs[4].bytes, digest(&SHA256, &file).as_ref());
}

#[test]
fn a_file_of_whole_blobs_has_no_empty_blob_before_the_digest() {
    let sizes: Vec<_> = blobs_of(65_536, &[&[1; 65_536]])
        .iter()
        .map(|blob| blob.bytes.len())
        .collect();
    assert_eq!(sizes, [32_768, 32_768, 32]);
}

#[test]
fn a_receiver_that_is_gone_stops_the_writer() {
    let mut source = numbered(10_000, |_| 100);
    let layout = plan(&mut [&mut source]).unwrap();
    let mut taken = 0;
    let mut writer = BlobWriter::new(layout.file_bytes(), |_| {
        taken += 1;
        if taken < 3 { Ok(()) } else { Err(Closed) }
    });
    let error = write(&layout, &mut [&mut source], &mut writer).unwrap_err();
    assert!(matches!(error, WriteError::Output(e) if e.kind() == io::ErrorKind::BrokenPipe));
    drop(writer);
    assert_eq!(taken, 3);
}

#[test]
fn the_stream_is_the_file_and_has_the_length_etcdctl_asks_for() {
    let mut source = numbered(5000, |_| 200);
    let file = file_of(&mut [&mut source]);
    let layout = plan(&mut [&mut source]).unwrap();
    let mut stream = Vec::new();
    let mut writer = BlobWriter::new(layout.file_bytes(), |blob: Blob| {
        stream.extend_from_slice(&blob.bytes);
        Ok(())
    });
    write(&layout, &mut [&mut source], &mut writer).unwrap();
    writer.finish().unwrap();
    assert_eq!(stream.len() % 512, 32);
    assert!(stream[..file.len()] == file);
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 1..40),
        1 => (any::<u8>(), 1..=32_768usize).prop_map(|(byte, bytes)| vec![byte; bytes]),
    ]
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![20 => 0..300usize, 3 => 0..9000usize, 1 => 0..70_000usize];
    (any::<u8>(), bytes).prop_map(|(byte, bytes)| vec![byte; bytes])
}

fn any_buckets() -> impl Strategy<Value = Vec<MemoryBucket>> {
    let name = prop::collection::vec(any::<u8>(), 1..20);
    let pairs = prop::collection::btree_map(any_key(), any_value(), 0..300);
    prop::collection::btree_map(name, pairs, 0..6).prop_map(|buckets| {
        buckets
            .into_iter()
            .map(|(name, pairs)| MemoryBucket { name, pairs })
            .collect()
    })
}

/// A file on disk, for the reader of production.
fn on_disk(file: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, file).unwrap();
    (dir, path)
}

/// Everything in a file, as the reader of production finds it.
fn contents(path: &std::path::Path) -> Result<Vec<(Vec<u8>, Pairs)>, DatabaseError> {
    let database = Database::open(path)?;
    let mut contents = Vec::new();
    for bucket in database.buckets()? {
        let mut pairs = Pairs::new();
        database.pairs(&bucket, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            Ok::<_, DatabaseError>(())
        })?;
        contents.push((bucket.name, pairs));
    }
    Ok(contents)
}

#[test]
fn an_inline_bucket_is_read() {
    // As bbolt writes small buckets: the page lies in the bucket's header.
    let mut page = Vec::new();
    page.extend_from_slice(&[0; 16]);
    let span = page::PageSpan { id: 0, overflow: 0 };
    page::put_leaf_front(&mut page, span, LeafKind::Pairs, &[(1, 2)]);
    page.extend_from_slice(b"kvv");
    let mut root = Vec::new();
    let span = page::PageSpan { id: 3, overflow: 0 };
    let lengths = [(4, u32::try_from(page.len()).unwrap())];
    page::put_leaf_front(&mut root, span, LeafKind::Buckets, &lengths);
    root.extend_from_slice(b"name");
    root.extend_from_slice(&page);
    let mut file = front_pages(3, 4);
    file.extend_from_slice(&root);
    file.resize(4 * 4096, 0);
    let (_dir, path) = on_disk(&file);
    let pair = (b"k".to_vec(), b"vv".to_vec());
    assert_eq!(contents(&path).unwrap(), [(b"name".to_vec(), vec![pair])]);
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let mut source = numbered(200, |i| usize::try_from(i % 50).unwrap() * 9);
    let whole = file_of(&mut [&mut source]);
    let (_dir, path) = on_disk(&whole);
    let sound = contents(&path).unwrap();
    let mut noticed = 0;
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        // Values have no checksum of their own (the digest behind a snapshot covers them).
        noticed += usize::from(contents(&path).map_or(true, |found| found != sound));
    }
    assert!(noticed > 1_000, "{noticed}");
    for bytes in [0, 10, 4096, whole.len() - 4096] {
        std::fs::write(&path, &whole[..bytes]).unwrap();
        assert!(contents(&path).is_err(), "{bytes} bytes");
    }
}

#[test]
fn one_damaged_meta_page_is_survived() {
    let mut source = numbered(10, |_| 10);
    let mut file = file_of(&mut [&mut source]);
    file[20] ^= 1;
    let (_dir, path) = on_disk(&file);
    assert_eq!(contents(&path).unwrap()[0].1.len(), 10);
    file[4096 + 20] ^= 1;
    std::fs::write(&path, &file).unwrap();
    assert!(matches!(contents(&path), Err(DatabaseError::NoMeta)));
}

/// Pages of branches each of which leads to the next one 200 times, and in the end to no key that could tell.
#[test]
fn pages_that_are_led_to_again_and_again_are_not_walked_for_ever() {
    let (first, last) = (3u64, 30u64);
    let mut file = super::page::front_pages(first, last + 1);
    for id in first..=last {
        let (flags, count): (u16, u16) = if id == last { (2, 0) } else { (1, 200) };
        file.extend(id.to_le_bytes());
        file.extend(flags.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for _ in 0..count {
            // An empty key, and the child.
            file.extend([0; 8]);
            file.extend((id + 1).to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(4096), 0);
    }
    let (_dir, path) = on_disk(&file);
    let refused = contents(&path).expect_err("it is damaged");
    assert!(refused.to_string().contains("read twice"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_buckets_are_read_back_from_disk(mut buckets in any_buckets()) {
        let mut sources: Vec<&mut dyn BucketSource> =
            buckets.iter_mut().map(|bucket| bucket as &mut dyn BucketSource).collect();
        let (_dir, path) = on_disk(&file_of(&mut sources));
        let expected: Vec<(Vec<u8>, Pairs)> = buckets
            .into_iter()
            .map(|bucket| (bucket.name, bucket.pairs.into_iter().collect()))
            .collect();
        prop_assert!(contents(&path).unwrap() == expected);
    }

    #[test]
    fn any_buckets_come_back_as_they_were(mut buckets in any_buckets()) {
        let mut sources: Vec<&mut dyn BucketSource> =
            buckets.iter_mut().map(|bucket| bucket as &mut dyn BucketSource).collect();
        let walk = walk(&file_of(&mut sources));
        let expected: Vec<(Vec<u8>, Pairs)> = buckets
            .into_iter()
            .map(|bucket| (bucket.name, bucket.pairs.into_iter().collect()))
            .collect();
        prop_assert!(walk.buckets == expected);
    }
}
