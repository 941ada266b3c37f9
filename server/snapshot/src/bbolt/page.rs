//! The bytes of bbolt's pages: headers, elements, the two meta pages and the empty freelist.
//!
//! Owns the on-disk format, version 2, and nothing else: no IO, no decision where a page ends.
//! bbolt maps its structs onto the file, so integers have the machine's byte order; every machine
//! etcd supports is little endian, and so is what is written here.
//!
//! ```text
//! page     = id u64 | flags u16 | element count u16 | overflow u32 | elements | data | zeros
//! leaf     element = flags u32 | pos u32 | key bytes u32 | value bytes u32    data: key, value
//! branch   element = pos u32 | key bytes u32 | child page id u64              data: key
//! pos      = bytes from the element's own first byte to its key
//! meta     = magic u32 | version u32 | page bytes u32 | flags u32 | root page u64 |
//!            root sequence u64 | freelist page u64 | page count u64 | txid u64 | FNV-1a u64
//! bucket   = root page u64 | sequence u64 | (root page 0: a page header and its elements)
//! ```

/// Bytes in a page. bbolt takes it from the meta page, so a reader with larger pages copes.
pub(super) const PAGE_BYTES: usize = 4096;

/// [`PAGE_BYTES`] as a file offset counts.
pub(super) const PAGE_BYTES_U64: u64 = 4096;

/// Bytes of a page's header.
pub(super) const PAGE_HEADER_BYTES: usize = 16;

/// Bytes of one element, in leaf and branch pages alike.
pub(super) const ELEMENT_BYTES: usize = 16;

/// The page of the freelist: the first one behind the two meta pages.
pub(super) const FREELIST_PAGE: u64 = 2;

/// The first page of the first bucket.
pub(super) const FIRST_DATA_PAGE: u64 = 3;

/// bbolt's `MaxKeySize`, which bounds bucket names as well.
pub(super) const KEY_BYTES_MAX: usize = 32_768;

/// bbolt's `MaxValueSize`.
pub(super) const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// Page flags. Exactly one is set.
pub(super) const BRANCH_PAGE: u16 = 0x01;
pub(super) const LEAF_PAGE: u16 = 0x02;
pub(super) const META_PAGE: u16 = 0x04;
const FREELIST_PAGE_FLAG: u16 = 0x10;

/// The first word of a meta page.
pub(super) const MAGIC: u32 = 0xED0C_DAED;
/// The file format.
pub(super) const VERSION: u32 = 2;

/// The transaction id in meta page 0. Meta page 1 carries the one before it, as in a file that
/// bbolt copied out: a reader takes the higher one and may fall back to the other.
const TXID: u64 = 2;

/// What the elements of a leaf page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    /// Keys and values.
    Pairs,
    /// Names and headers of buckets: the root bucket's elements.
    Buckets,
}

impl LeafKind {
    fn element_flags(self) -> u32 {
        match self {
            LeafKind::Pairs => 0,
            LeafKind::Buckets => 1,
        }
    }
}

/// A page's place and extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSpan {
    /// The page's id: its offset in pages.
    pub(super) id: u64,
    /// How many pages follow it as its continuation.
    pub(super) overflow: u32,
}

impl PageSpan {
    /// The bytes of the page with its continuation.
    pub(super) fn bytes(self) -> usize {
        (usize::try_from(self.overflow).expect("u32 fits usize") + 1) * PAGE_BYTES
    }
}

/// Appends a leaf page's header and elements. The keys and values follow them, one behind the other.
pub(super) fn put_leaf_front(
    out: &mut Vec<u8>,
    span: PageSpan,
    kind: LeafKind,
    lengths: &[(u32, u32)],
) {
    put_header(out, span, LEAF_PAGE, lengths.len());
    let mut pos = u32_of(lengths.len() * ELEMENT_BYTES);
    for &(key_bytes, value_bytes) in lengths {
        put_u32s(out, [kind.element_flags(), pos, key_bytes, value_bytes]);
        pos = pos - u32_of(ELEMENT_BYTES) + key_bytes + value_bytes;
    }
}

/// Appends a branch page's header, elements and keys.
pub(super) fn put_branch<K: AsRef<[u8]>>(out: &mut Vec<u8>, span: PageSpan, children: &[(K, u64)]) {
    put_header(out, span, BRANCH_PAGE, children.len());
    let mut pos = u32_of(children.len() * ELEMENT_BYTES);
    for (key, child) in children {
        let key_bytes = u32_of(key.as_ref().len());
        put_u32s(out, [pos, key_bytes]);
        out.extend_from_slice(&child.to_le_bytes());
        pos = pos - u32_of(ELEMENT_BYTES) + key_bytes;
    }
    for (key, _) in children {
        out.extend_from_slice(key.as_ref());
    }
}

/// The two meta pages and the empty freelist: the first three pages of the file.
pub(super) fn front_pages(root_page: u64, page_count: u64) -> Vec<u8> {
    assert!(
        root_page < page_count,
        "the root bucket's page lies inside the file"
    );
    let mut out = Vec::with_capacity(3 * PAGE_BYTES);
    for id in [0, 1] {
        put_header(&mut out, PageSpan { id, overflow: 0 }, META_PAGE, 0);
        put_meta(&mut out, root_page, page_count, TXID - id);
        pad_to_page(&mut out);
    }
    put_header(
        &mut out,
        PageSpan {
            id: FREELIST_PAGE,
            overflow: 0,
        },
        FREELIST_PAGE_FLAG,
        0,
    );
    pad_to_page(&mut out);
    out
}

/// The value a bucket has in the root bucket: its root page, or an empty inline page if it is
/// `None`. bbolt gives an empty bucket the same bytes.
pub(super) fn bucket_header(root_page: Option<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(EMPTY_BUCKET_BYTES);
    out.extend_from_slice(&root_page.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&0u64.to_le_bytes());
    if root_page.is_none() {
        put_header(&mut out, PageSpan { id: 0, overflow: 0 }, LEAF_PAGE, 0);
    }
    out
}

/// Bytes of the longest [`bucket_header`].
const EMPTY_BUCKET_BYTES: usize = 16 + PAGE_HEADER_BYTES;

fn put_header(out: &mut Vec<u8>, span: PageSpan, flags: u16, elements: usize) {
    // 0xFFFF means something else to bbolt. Elements take 17 bytes or more, so that the pages
    // `shape` plans hold a few hundred.
    assert!(elements < 0xFFFF, "a page holds fewer than 65,535 elements");
    let count = u16::try_from(elements).expect("asserted above");
    out.extend_from_slice(&span.id.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&span.overflow.to_le_bytes());
}

fn put_meta(out: &mut Vec<u8>, root_page: u64, page_count: u64, txid: u64) {
    let start = out.len();
    put_u32s(out, [MAGIC, VERSION, u32_of(PAGE_BYTES), 0]);
    for word in [root_page, 0, FREELIST_PAGE, page_count, txid] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let checksum = fnv1a(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

fn put_u32s<const N: usize>(out: &mut Vec<u8>, words: [u32; N]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn pad_to_page(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(PAGE_BYTES), 0);
}

/// 64-bit FNV-1a.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn u32_of(count: usize) -> u32 {
    u32::try_from(count).expect("keys and values are checked to fit bbolt's 32-bit lengths")
}
