//! Writes one bucket's tree as its pairs arrive.
//!
//! Owns the bytes of the open pages: one leaf and one branch page a level. Must never decide where
//! a page ends; `shape` does.

use std::io::{self, Write};
use std::ops::Range;

use super::page::{LeafKind, PAGE_BYTES, PageSpan, put_branch, put_leaf_front};
use super::shape::{Closed, Shape};

/// Why a tree cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    /// The output failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The tree's pages are not those planned. A page beyond the plan is not written.
    #[error("the tree does not fit its plan")]
    OffPlan,
}

/// A tree being written.
pub(super) struct TreeWriter<'w, W: Write + ?Sized> {
    shape: Shape,
    pages: OpenPages<'w, W>,
}

impl<'w, W: Write + ?Sized> TreeWriter<'w, W> {
    /// A tree that has been planned to lie in `planned_pages`; `out` stands at the first of them.
    pub(super) fn new(
        out: &'w mut W,
        planned_pages: Range<u64>,
        kind: LeafKind,
    ) -> TreeWriter<'w, W> {
        let first_page = planned_pages.start;
        let pages = OpenPages {
            out,
            pages_left: planned_pages,
            kind,
            lengths: Vec::new(),
            data: Vec::new(),
            levels: Vec::new(),
            front: Vec::new(),
        };
        TreeWriter {
            shape: Shape::new(first_page),
            pages,
        }
    }

    /// Adds a pair that has been checked.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        let Self { shape, pages } = self;
        shape.push(key.len(), value.len(), &mut |closed| pages.close(closed))?;
        pages.add_pair(key, value);
        Ok(())
    }

    /// Writes what is open and returns the root page.
    pub(super) fn finish(&mut self) -> Result<u64, TreeError> {
        let Self { shape, pages } = self;
        shape.finish(&mut |closed| pages.close(closed))
    }

    /// Whether all the planned pages have been written.
    pub(super) fn is_complete(&self) -> bool {
        self.pages.pages_left.is_empty()
    }
}

/// The bytes of the pages `shape` has open.
struct OpenPages<'w, W: Write + ?Sized> {
    out: &'w mut W,
    /// The planned pages from where `out` stands.
    pages_left: Range<u64>,
    kind: LeafKind,
    /// Key and value lengths of the leaf's pairs.
    lengths: Vec<(u32, u32)>,
    /// The leaf's keys and values. Grows to the largest pair.
    data: Vec<u8>,
    /// First key and page of each level's children that have no branch page yet.
    levels: Vec<Vec<(Box<[u8]>, u64)>>,
    /// Room to build headers and branch pages in, kept from page to page.
    front: Vec<u8>,
}

impl<W: Write + ?Sized> OpenPages<'_, W> {
    fn add_pair(&mut self, key: &[u8], value: &[u8]) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("checked by PairCheck");
        self.lengths.push((length(key), length(value)));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn close(&mut self, closed: Closed) -> Result<(), TreeError> {
        match closed {
            Closed::Leaf(span) => self.close_leaf(span),
            Closed::Branch {
                span,
                level,
                children,
            } => self.close_branch(span, level, children),
        }
    }

    fn close_leaf(&mut self, span: PageSpan) -> Result<(), TreeError> {
        self.front.clear();
        put_leaf_front(&mut self.front, span, self.kind, &self.lengths);
        let first_key_bytes = self.lengths.first().map_or(0, |&(key_bytes, _)| key_bytes);
        let first_key_bytes = usize::try_from(first_key_bytes).expect("u32 fits usize");
        let first_key = Box::from(&self.data[..first_key_bytes]);
        self.write_page(span)?;
        self.lengths.clear();
        self.data.clear();
        self.add_child(0, first_key, span.id);
        Ok(())
    }

    fn close_branch(
        &mut self,
        span: PageSpan,
        level: usize,
        children: usize,
    ) -> Result<(), TreeError> {
        // Branch pages are written whole from `front`, while the leaf's data waits.
        self.front.clear();
        put_branch(&mut self.front, span, &self.levels[level][..children]);
        let data = std::mem::take(&mut self.data);
        self.write_page(span)?;
        self.data = data;
        let first = self.levels[level].drain(..children).next();
        let (first_key, _) = first.expect("a branch page has at least two children");
        self.add_child(level + 1, first_key, span.id);
        Ok(())
    }

    fn add_child(&mut self, level: usize, first_key: Box<[u8]>, page: u64) {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        self.levels[level].push((first_key, page));
    }

    /// Writes `front`, `data` and zeros up to the page's end.
    fn write_page(&mut self, span: PageSpan) -> Result<(), TreeError> {
        assert_eq!(
            span.id, self.pages_left.start,
            "S1: pages are written in their order"
        );
        let end_page = span.id + u64::from(span.overflow) + 1;
        if end_page > self.pages_left.end {
            return Err(TreeError::OffPlan);
        }
        let used = self.front.len() + self.data.len();
        assert!(used <= span.bytes(), "a page holds what was planned for it");
        self.out.write_all(&self.front)?;
        self.out.write_all(&self.data)?;
        self.out.write_all(&ZEROS[..span.bytes() - used])?;
        self.pages_left.start = end_page;
        Ok(())
    }
}

/// What fills up a page. A span is as short as its content allows, so one page of zeros is enough.
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
