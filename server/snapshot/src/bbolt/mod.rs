//! Writes a bbolt file as a stream: what `Maintenance.Snapshot` serves, so that unmodified
//! `etcdctl snapshot save` and `etcdutl snapshot status|restore` work on Engram's snapshots. Reads
//! such a file page by page ([`Database`]), be it Engram's or etcd's.
//!
//! Owns the file format (bbolt's version 2, as bbolt 1.5 in etcd 3.7 reads it), its layout, and the
//! cut into etcd's blobs. Knows buckets of pairs only: what etcd keeps in them is `etcd_schema`'s
//! knowledge. Must never name the storage engine, use an async runtime, or hold more than a few
//! pages and the largest pair in memory.
//!
//! The meta pages at the front name the root page and the page count, which are known at the end.
//! So the buckets are read twice: [`plan`] counts pages, [`write()`] writes them.
//!
//! ```text
//! page 0, 1   meta: root bucket's page, page count, freelist's page, checksum
//! page 2      freelist, empty
//! page 3 …    bucket by bucket: leaves as the pairs come, each branch page right behind the last
//!             page it leads to; the last page of a bucket is its root
//! last        the root bucket: name → root page of each bucket
//! ```
//!
//! Leaves are filled to the brim. etcd appends to its `key` bucket and deletes from it but never
//! inserts in between, so that room left in a page would stay empty; etcd fills to 90 % itself.
//! Where pairs do not fit a page well, or not at all, a leaf has several pages (bbolt's overflow).
//! An empty bucket has no page, only an empty inline one in the root bucket, as bbolt does it; small
//! buckets are not inlined, which bbolt does to save a page and reads either way.
//!
//! Invariants:
//! - I1: the file has exactly [`Layout::file_bytes`], a multiple of 4,096. etcd's tools tell a
//!   snapshot with a digest from one without by the length modulo 512.
//! - I2: every page belongs to one tree, the metas or the freelist: bbolt's own `Check` passes.
//! - I3: where a source's second reading does not fit the plan, that is an error, and never more is
//!   written than was planned.

mod blob;
mod database;
mod page;
mod shape;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::convert::Infallible;
use std::io::{self, Write};
use std::ops::Range;

pub use blob::{BLOB_BYTES, Blob, BlobWriter, Closed, DIGEST_BYTES};
pub use database::{Bucket, Database, DatabaseError};
pub use source::{BucketSource, MemoryBucket, PairFault, PairVisitor, ReadError, SourceError};

use page::{FIRST_DATA_PAGE, LeafKind, PAGE_BYTES_U64, bucket_header, front_pages};
use shape::{Closed as ClosedPage, Shape};
use source::{check_names, read_checked};
use tree::{TreeError, TreeWriter};

/// Where everything will lie in the file. Its size depends on the number of buckets alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    buckets: Vec<BucketLayout>,
    root_page: u64,
    page_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct BucketLayout {
    name: Vec<u8>,
    pair_count: u64,
    /// `None`: the bucket is empty and has no page.
    root_page: Option<u64>,
    /// The bucket's pages.
    pages: Range<u64>,
}

impl Layout {
    /// The file's length, without the digest that follows it in the stream.
    pub fn file_bytes(&self) -> u64 {
        self.page_count * PAGE_BYTES_U64
    }

    /// How many pairs all buckets have together.
    pub fn pair_count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.pair_count).sum()
    }
}

/// Why a snapshot could not be written. What has been written then is worthless.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A bucket could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output failed or, as [`io::ErrorKind::BrokenPipe`], wants no more.
    #[error("the snapshot cannot be written")]
    Output(#[from] io::Error),
    /// A bucket did not yield the pairs it was planned with. This is a defect of the source, which
    /// must read from one snapshot of the store.
    #[error("bucket {bucket:?} changed while the snapshot was made; take it again")]
    Changed {
        /// The bucket's name.
        bucket: String,
    },
}

/// Reads the buckets a first time and computes the layout. Buckets come in strictly ascending order
/// of their names' bytes.
///
/// # Errors
/// A bucket cannot be read, or yields what bbolt cannot hold.
pub fn plan(buckets: &mut [&mut dyn BucketSource]) -> Result<Layout, ReadError> {
    check_names(buckets)?;
    let mut next_page = FIRST_DATA_PAGE;
    let mut planned = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        let layout = plan_bucket(*bucket, next_page)?;
        next_page = layout.pages.end;
        planned.push(layout);
    }
    let mut shape = Shape::new(next_page);
    for bucket in &planned {
        let header_bytes = bucket_header(bucket.root_page).len();
        let Ok(()) = shape.push(bucket.name.len(), header_bytes, &mut no_output);
    }
    let Ok(root_page) = shape.finish(&mut no_output);
    Ok(Layout {
        buckets: planned,
        root_page,
        page_count: shape.next_page(),
    })
}

fn plan_bucket(bucket: &mut dyn BucketSource, first_page: u64) -> Result<BucketLayout, ReadError> {
    let mut shape = Shape::new(first_page);
    let pair_count = read_checked(bucket, |key, value| -> Result<(), ReadError> {
        let Ok(()) = shape.push(key.len(), value.len(), &mut no_output);
        Ok(())
    })?;
    let mut root_page = None;
    if pair_count > 0 {
        let Ok(root) = shape.finish(&mut no_output);
        root_page = Some(root);
    }
    let pages = first_page..shape.next_page();
    Ok(BucketLayout {
        name: bucket.name().to_vec(),
        pair_count,
        root_page,
        pages,
    })
}

/// The first pass writes nothing.
fn no_output(_closed: ClosedPage) -> Result<(), Infallible> {
    Ok(())
}

/// Reads the buckets a second time and writes the file to `out`, front to back, in a few calls a
/// page: `out` should gather them. `buckets` are those the layout was planned with.
///
/// # Errors
/// A bucket cannot be read, yields other pairs than before, or `out` fails.
pub fn write<W: Write + ?Sized>(
    layout: &Layout,
    buckets: &mut [&mut dyn BucketSource],
    out: &mut W,
) -> Result<(), WriteError> {
    assert_eq!(
        buckets.len(),
        layout.buckets.len(),
        "the buckets are those of the layout"
    );
    out.write_all(&front_pages(layout.root_page, layout.page_count))?;
    let mut next_page = FIRST_DATA_PAGE;
    for (bucket, planned) in buckets.iter_mut().zip(&layout.buckets) {
        assert_eq!(
            bucket.name(),
            planned.name,
            "the buckets are those of the layout"
        );
        write_bucket(*bucket, planned, out)?;
        next_page = planned.pages.end;
    }
    let mut root = TreeWriter::new(out, next_page..layout.page_count, LeafKind::Buckets);
    // The names and headers have the lengths they were planned with, so only `out` can fail here.
    let of_root = |error: TreeError| error.in_bucket(b"");
    for planned in &layout.buckets {
        root.push(&planned.name, &bucket_header(planned.root_page))
            .map_err(of_root)?;
    }
    let root_page = root.finish().map_err(of_root)?;
    assert_eq!(
        root_page, layout.root_page,
        "I1: the root bucket lies where it was planned"
    );
    assert!(
        root.is_complete(),
        "I1: the file is as long as it was planned"
    );
    Ok(out.flush()?)
}

fn write_bucket<W: Write + ?Sized>(
    bucket: &mut dyn BucketSource,
    planned: &BucketLayout,
    out: &mut W,
) -> Result<(), WriteError> {
    let name = &planned.name;
    let mut tree = TreeWriter::new(out, planned.pages.clone(), LeafKind::Pairs);
    let pair_count = read_checked(bucket, |key, value| -> Result<(), WriteError> {
        tree.push(key, value).map_err(|error| error.in_bucket(name))
    })?;
    let mut root_page = None;
    if pair_count > 0 {
        root_page = Some(tree.finish().map_err(|error| error.in_bucket(name))?);
    }
    let is_as_planned =
        pair_count == planned.pair_count && root_page == planned.root_page && tree.is_complete();
    if is_as_planned {
        Ok(())
    } else {
        Err(TreeError::OffPlan.in_bucket(name))
    }
}

impl TreeError {
    fn in_bucket(self, name: &[u8]) -> WriteError {
        match self {
            TreeError::Output(error) => WriteError::Output(error),
            TreeError::OffPlan => WriteError::Changed {
                bucket: String::from_utf8_lossy(name).into_owned(),
            },
        }
    }
}
