//! A small bbolt reader of the tests' own: knows the format, shares no code with the writer, and
//! checks what bbolt's `Check` checks and some more.

use std::collections::BTreeSet;

const PAGE: usize = 4096;

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a walk over the file found.
#[derive(Debug, Default)]
pub struct Walk {
    pub buckets: Vec<(Vec<u8>, Pairs)>,
    pub branch_pages: usize,
    pub leaf_pages: usize,
    pub overflow_pages: usize,
    pub depth_max: usize,
    seen: BTreeSet<u64>,
}

struct Page<'f> {
    flags: u16,
    count: usize,
    bytes: &'f [u8],
}

struct Element<'f> {
    flags: u32,
    key: &'f [u8],
    value: &'f [u8],
    child: u64,
}

/// Reads the whole file, or panics with what is wrong with it.
pub fn walk(file: &[u8]) -> Walk {
    assert_eq!(file.len() % PAGE, 0, "whole pages");
    let newer = meta(file, 0);
    let older = meta(file, 1);
    assert_eq!(newer[4], older[4] + 1, "transaction ids follow each other");
    assert_eq!(newer[..4], older[..4], "both metas say the same");
    let [root, sequence, freelist, page_count, _] = newer;
    assert_eq!(sequence, 0);
    assert_eq!(
        page_count as usize * PAGE,
        file.len(),
        "the meta knows the length"
    );

    let mut walk = Walk {
        seen: BTreeSet::from([0, 1]),
        ..Walk::default()
    };
    let free = page(file, freelist, &mut walk);
    assert_eq!((free.flags, free.count), (0x10, 0), "an empty freelist");

    let mut buckets = Vec::new();
    tree(file, root, 1, &mut walk, &mut |element| {
        assert_eq!(element.flags, 1, "the root bucket holds buckets");
        buckets.push((element.key.to_vec(), element.value.to_vec()));
    });
    for (name, header) in buckets {
        let root = u64_at(&header, 0);
        assert_eq!(u64_at(&header, 8), 0, "no sequence");
        let mut pairs = Pairs::new();
        if root == 0 {
            assert_eq!(
                header[16..],
                [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
            );
        } else {
            assert_eq!(header.len(), 16);
            tree(file, root, 1, &mut walk, &mut |element| {
                assert_eq!(element.flags, 0, "a bucket holds pairs");
                pairs.push((element.key.to_vec(), element.value.to_vec()));
            });
            assert!(
                pairs.is_sorted_by(|a, b| a.0 < b.0),
                "keys ascend across pages"
            );
        }
        walk.buckets.push((name, pairs));
    }
    assert_eq!(walk.seen.len() as u64, page_count, "no page is lost");
    walk
}

fn meta(file: &[u8], index: usize) -> [u64; 5] {
    let page = &file[index * PAGE..(index + 1) * PAGE];
    assert_eq!(u64_at(page, 0), index as u64);
    assert_eq!(u16_at(page, 8), 0x04);
    let meta = &page[16..80];
    assert_eq!(
        [0, 4, 8, 12].map(|at| u32_at(meta, at)),
        [0xED0C_DAED, 2, 4096, 0]
    );
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in &meta[..56] {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
    }
    assert_eq!(u64_at(meta, 56), hash, "meta checksum");
    [16, 24, 32, 40, 48].map(|at| u64_at(meta, at))
}

/// Walks a tree and returns its first key.
fn tree(
    file: &[u8],
    id: u64,
    depth: usize,
    walk: &mut Walk,
    visit: &mut dyn FnMut(&Element<'_>),
) -> Vec<u8> {
    walk.depth_max = walk.depth_max.max(depth);
    let page = page(file, id, walk);
    let elements: Vec<Element<'_>> = (0..page.count).map(|i| element(&page, i)).collect();
    assert!(
        elements.is_sorted_by(|a, b| a.key < b.key),
        "keys ascend in page {id}"
    );
    assert!(elements.iter().all(|element| !element.key.is_empty()));
    match page.flags {
        0x01 => {
            walk.branch_pages += 1;
            assert!(
                elements.len() >= 2,
                "branch page {id} has {} children",
                elements.len()
            );
            for element in &elements {
                let first = tree(file, element.child, depth + 1, walk, visit);
                assert_eq!(first, element.key, "page {id} names its child's first key");
            }
        }
        0x02 => {
            walk.leaf_pages += 1;
            elements.iter().for_each(visit);
        }
        flags => panic!("page {id} has flags {flags:x}"),
    }
    elements
        .first()
        .map_or(Vec::new(), |element| element.key.to_vec())
}

fn page<'f>(file: &'f [u8], id: u64, walk: &mut Walk) -> Page<'f> {
    let start = id as usize * PAGE;
    assert_eq!(u64_at(file, start), id, "page {id} knows its id");
    let overflow = u32_at(file, start + 12);
    for page in id..=id + u64::from(overflow) {
        assert!(walk.seen.insert(page), "page {page} is reached once");
    }
    walk.overflow_pages += overflow as usize;
    let end = start + (overflow as usize + 1) * PAGE;
    Page {
        flags: u16_at(file, start + 8),
        count: usize::from(u16_at(file, start + 10)),
        bytes: &file[start..end],
    }
}

fn element<'f>(page: &Page<'f>, index: usize) -> Element<'f> {
    let at = 16 + index * 16;
    let word = |i: usize| u32_at(page.bytes, at + i * 4);
    let slice = |from: usize, bytes: usize| &page.bytes[from..from + bytes];
    if page.flags == 0x01 {
        let [pos, key_bytes] = [word(0) as usize, word(1) as usize];
        let child = u64_at(page.bytes, at + 8);
        return Element {
            flags: 0,
            key: slice(at + pos, key_bytes),
            value: &[],
            child,
        };
    }
    let [pos, key_bytes, value_bytes] = [word(1) as usize, word(2) as usize, word(3) as usize];
    let key = slice(at + pos, key_bytes);
    let value = slice(at + pos + key_bytes, value_bytes);
    Element {
        flags: word(0),
        key,
        value,
        child: 0,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
