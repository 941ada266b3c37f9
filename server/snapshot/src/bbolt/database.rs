//! Reads a bbolt file: what etcd, `etcdctl snapshot save` or this crate's own writer made.
//!
//! Owns the walk over meta, branch and leaf pages. One page a level of one tree is in memory at a
//! time, whatever the file's size. Trusts nothing: lengths, offsets and page numbers are checked
//! against the file, keys must ascend strictly over the whole bucket, and the depth is bounded, so
//! that a damaged file is an error and never a panic, an endless walk or a page read twice.

use std::io;
use std::path::Path;

use super::page::{
    BRANCH_PAGE, ELEMENT_BYTES, LEAF_PAGE, MAGIC, META_PAGE, PAGE_HEADER_BYTES, VERSION, fnv1a,
};
use crate::fs::DataFile;

/// bbolt takes the system's page size: 4 KiB on most machines, 64 KiB on some.
const PAGE_BYTES_RANGE: std::ops::RangeInclusive<u64> = 512..=65_536;
/// Levels of a tree that are walked. A page of the smallest size has many children, so that a sound
/// file of any size stays far below.
const DEPTH_MAX: usize = 32;
/// Buckets that are read. etcd has ten.
const BUCKETS_MAX: usize = 1_000;
/// Bytes of a meta page that are looked at.
const META_BYTES: usize = PAGE_HEADER_BYTES + 64;
/// The bucket's header in the root bucket: root page and sequence.
const BUCKET_HEADER_BYTES: usize = 16;
/// The flag of an element that is a bucket.
const BUCKET_ELEMENT: u32 = 1;

/// Why a bbolt file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither meta page is sound.
    #[error("invalid database")]
    NoMeta,
    /// The file ends before its last page.
    #[error("file size too small: {found} bytes, {expected} are named by its meta page")]
    TooShort {
        /// The file's bytes.
        found: u64,
        /// What the meta page says.
        expected: u64,
    },
    /// A page is not what leads to it says it is.
    #[error("the file is damaged: page {page}: {what}")]
    Page {
        /// Its number.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// An open bbolt file.
#[derive(Debug)]
pub struct Database {
    file: DataFile,
    page_bytes: u64,
    page_count: u64,
    root_page: u64,
}

/// What is done with each key and value of a bucket; an error ends the walk.
pub type PairReader<'r, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'r;

/// Where a bucket's pairs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: Vec<u8>,
    /// The value in the root bucket: the header, and the page itself where it is inline.
    header: Vec<u8>,
}

/// A page with its continuation.
struct Page {
    id: u64,
    flags: u16,
    count: usize,
    bytes: Vec<u8>,
}

/// One element of a page.
struct Element<'p> {
    flags: u32,
    key: &'p [u8],
    value: &'p [u8],
    child: u64,
}

impl Database {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// It is no bbolt file, or shorter than it says.
    pub fn open(path: &Path) -> Result<Database, DatabaseError> {
        let file = DataFile::open_to_read(path)?;
        let bytes = file.bytes()?;
        let meta = newest_meta(&file).ok_or(DatabaseError::NoMeta)?;
        let expected = meta.page_count.saturating_mul(meta.page_bytes);
        if bytes < expected {
            return Err(DatabaseError::TooShort {
                found: bytes,
                expected,
            });
        }
        Ok(Database {
            file,
            page_bytes: meta.page_bytes,
            page_count: meta.page_count,
            root_page: meta.root_page,
        })
    }

    /// The bytes of all pages, which is what etcd's tools call the total size.
    pub fn total_bytes(&self) -> u64 {
        self.page_count * self.page_bytes
    }

    /// The buckets, in the order of their names.
    ///
    /// # Errors
    /// The file is damaged, cannot be read, or has more buckets than any etcd.
    pub fn buckets(&self) -> Result<Vec<Bucket>, DatabaseError> {
        let mut buckets = Vec::new();
        let root = self.root_page;
        self.walk(Root::Page(root), &mut |element| {
            if element.flags != BUCKET_ELEMENT || element.value.len() < BUCKET_HEADER_BYTES {
                return Err(damaged(root, "the root bucket holds something else"));
            }
            if buckets.len() == BUCKETS_MAX {
                return Err(damaged(root, "there are too many buckets"));
            }
            buckets.push(Bucket {
                name: element.key.to_vec(),
                header: element.value.to_vec(),
            });
            Ok(())
        })?;
        Ok(buckets)
    }

    /// Calls `visit` with every pair of a bucket, in ascending order of the keys' bytes.
    ///
    /// # Errors
    /// The file is damaged or cannot be read, or `visit` failed.
    pub fn pairs<E: From<DatabaseError>>(
        &self,
        bucket: &Bucket,
        visit: &mut PairReader<'_, E>,
    ) -> Result<(), E> {
        let root = u64_at(&bucket.header, 0);
        let start = match root {
            0 => Root::Inline(&bucket.header[BUCKET_HEADER_BYTES..]),
            page => Root::Page(page),
        };
        self.walk(start, &mut |element| {
            if element.flags & BUCKET_ELEMENT != 0 {
                return Err(damaged(root, "a bucket lies in a bucket").into());
            }
            visit(element.key, element.value)
        })
    }

    fn walk<E: From<DatabaseError>>(
        &self,
        start: Root<'_>,
        visit: &mut dyn FnMut(&Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = match start {
            Root::Page(id) => self.page(id)?,
            Root::Inline(bytes) => inline_page(bytes)?,
        };
        let mut last: Option<Vec<u8>> = None;
        let mut path: Vec<(Page, usize)> = vec![(root, 0)];
        let mut pages = 1;
        while let Some((page, next)) = path.last_mut() {
            if *next == page.count {
                path.pop();
                continue;
            }
            let element = page.element(*next)?;
            *next += 1;
            if page.flags == BRANCH_PAGE {
                let (child, depth) = (element.child, path.len());
                if depth == DEPTH_MAX {
                    return Err(damaged(child, "the tree is too deep").into());
                }
                // Empty leaves have no keys that could tell.
                pages += 1;
                if pages > self.page_count {
                    return Err(damaged(child, "a page is read twice").into());
                }
                path.push((self.page(child)?, 0));
                continue;
            }
            if last.as_deref().is_some_and(|last| last >= element.key) {
                return Err(damaged(page.id, "keys do not ascend").into());
            }
            visit(&element)?;
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(element.key);
        }
        Ok(())
    }

    fn page(&self, id: u64) -> Result<Page, DatabaseError> {
        if id < 2 || id >= self.page_count {
            return Err(damaged(id, "it lies outside the file"));
        }
        let mut header = [0; PAGE_HEADER_BYTES];
        let offset = id * self.page_bytes;
        self.file.read_exact_at(&mut header, offset)?;
        let overflow = u64::from(u32_at(&header, 12));
        if u64_at(&header, 0) != id {
            return Err(damaged(id, "it has another number"));
        }
        if overflow >= self.page_count - id {
            return Err(damaged(id, "it goes on behind the file's end"));
        }
        let bytes = usize::try_from((overflow + 1) * self.page_bytes);
        let bytes = bytes.map_err(|_| damaged(id, "it is larger than memory"))?;
        let mut page = vec![0; bytes];
        self.file.read_exact_at(&mut page, offset)?;
        Page::parse(id, page)
    }
}

/// Where a tree begins.
enum Root<'b> {
    /// At a page of the file.
    Page(u64),
    /// In the bytes of its bucket's header.
    Inline(&'b [u8]),
}

fn inline_page(bytes: &[u8]) -> Result<Page, DatabaseError> {
    let page = Page::parse(0, bytes.to_vec())?;
    match page.flags {
        LEAF_PAGE => Ok(page),
        _ => Err(damaged(0, "an inline bucket is no leaf")),
    }
}

impl Page {
    fn parse(id: u64, bytes: Vec<u8>) -> Result<Page, DatabaseError> {
        if bytes.len() < PAGE_HEADER_BYTES {
            return Err(damaged(id, "it has no header"));
        }
        let (flags, count) = (u16_at(&bytes, 8), usize::from(u16_at(&bytes, 10)));
        if flags != BRANCH_PAGE && flags != LEAF_PAGE {
            return Err(damaged(id, "it is neither branch nor leaf"));
        }
        if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(damaged(id, "it has more elements than room"));
        }
        Ok(Page {
            id,
            flags,
            count,
            bytes,
        })
    }

    fn element(&self, index: usize) -> Result<Element<'_>, DatabaseError> {
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let word = |place: usize| u32_at(&self.bytes, at + place * 4);
        if self.flags == BRANCH_PAGE {
            return Ok(Element {
                flags: 0,
                key: self.slice(at, word(0), 0, word(1))?,
                value: &[],
                child: u64_at(&self.bytes, at + 8),
            });
        }
        let (position, key_bytes, value_bytes) = (word(1), word(2), word(3));
        Ok(Element {
            flags: word(0),
            key: self.slice(at, position, 0, key_bytes)?,
            value: self.slice(at, position, key_bytes, value_bytes)?,
            child: 0,
        })
    }

    /// `bytes` bytes, `position + skip` behind the element at `at`.
    fn slice(
        &self,
        at: usize,
        position: u32,
        skip: u32,
        bytes: u32,
    ) -> Result<&[u8], DatabaseError> {
        let wide = |word: u32| usize::try_from(word).expect("a u32 fits");
        let start = at + wide(position) + wide(skip);
        let slice = self.bytes.get(start..start + wide(bytes));
        slice.ok_or_else(|| damaged(self.id, "an element lies outside of it"))
    }
}

struct Meta {
    page_bytes: u64,
    page_count: u64,
    root_page: u64,
    txid: u64,
}

/// The sound meta page with the higher transaction id. The second one lies a page behind the first,
/// and how long a page is only a meta page tells: where the first is damaged, all sizes are tried.
fn newest_meta(file: &DataFile) -> Option<Meta> {
    let first = meta_at(file, 0);
    let sizes = match &first {
        Some(meta) => vec![meta.page_bytes],
        None => (9..=16).map(|shift| 1 << shift).collect(),
    };
    let second = sizes
        .into_iter()
        .find_map(|bytes| meta_at(file, bytes).filter(|meta| meta.page_bytes == bytes));
    match (first, second) {
        (Some(first), Some(second)) if second.txid > first.txid => Some(second),
        (Some(first), _) => Some(first),
        (None, second) => second,
    }
}

fn meta_at(file: &DataFile, offset: u64) -> Option<Meta> {
    let mut page = [0; META_BYTES];
    file.read_exact_at(&mut page, offset).ok()?;
    let meta = &page[PAGE_HEADER_BYTES..];
    let is_meta = u16_at(&page, 8) == META_PAGE
        && u32_at(meta, 0) == MAGIC
        && u32_at(meta, 4) == VERSION
        && u64_at(meta, 56) == fnv1a(&meta[..56]);
    let page_bytes = u64::from(u32_at(meta, 8));
    let is_sound = is_meta && PAGE_BYTES_RANGE.contains(&page_bytes);
    is_sound.then(|| Meta {
        page_bytes,
        root_page: u64_at(meta, 16),
        page_count: u64_at(meta, 40),
        txid: u64_at(meta, 48),
    })
}

fn damaged(page: u64, what: &'static str) -> DatabaseError {
    DatabaseError::Page { page, what }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
