//! Where pages begin and end: a B+ tree over pairs that arrive in key order, laid out from the
//! pairs' lengths alone.
//!
//! Owns every decision about page boundaries. Both passes drive the same [`Shape`], the first with
//! lengths only and the second with the bytes beside it, so that the plan and the file agree by
//! construction. Must never see a key or a value.
//!
//! A branch page is closed as soon as it is full, right behind the last page it leads to. No level
//! is ever held back as a whole, so that memory is one open page a level whatever the file's size,
//! and no spool file is needed.
//!
//! Invariants:
//! - S1: page ids are handed out in the order of the calls to `emit`, without gaps.
//! - S2: every branch page has at least two children. bbolt asserts this when it rebalances a page
//!   after a delete; it would panic in the process that restored the snapshot.
//! - S3: a leaf with more than one page has one because of a pair that would not fit, or fit badly;
//!   a branch page because of two or three children's long keys. So an open page is bounded by 8
//!   pages and the largest pair.

use super::page::{ELEMENT_BYTES, PAGE_BYTES, PAGE_HEADER_BYTES, PageSpan};

/// A leaf is closed when no more than this part of it, 1/8, stays unused; until then it grows by
/// further pages. Objects of Kubernetes have a few KiB: pairs of 2.1 KB, one a page, would make the
/// file twice as large as what is in it, and the etcd that restores it would start at twice the
/// size against its quota. What is unused is less than a page, so that a leaf never grows beyond 8
/// pages and one pair.
const UNUSED_SHARE_MAX: usize = 8;

/// A page that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// A leaf with all the pairs pushed since the last one.
    Leaf(PageSpan),
    /// A branch page with the oldest `children` of those that `level` still holds. Level 0 leads
    /// to leaves.
    Branch {
        /// The page.
        span: PageSpan,
        /// The level it lies on.
        level: usize,
        /// How many children it takes.
        children: usize,
    },
}

/// One tree under construction.
#[derive(Debug)]
pub(super) struct Shape {
    next_page: u64,
    leaf: OpenLeaf,
    levels: Vec<OpenBranch>,
}

#[derive(Debug, Default)]
struct OpenLeaf {
    pairs: usize,
    data_bytes: usize,
    first_key_bytes: usize,
}

impl OpenLeaf {
    fn bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.pairs * ELEMENT_BYTES + self.data_bytes
    }

    /// Whether the pair joins this leaf: it fits, or the leaf would be left too empty without it.
    fn takes(&self, pair_bytes: usize) -> bool {
        let capacity = self.bytes().next_multiple_of(PAGE_BYTES);
        let unused = capacity - self.bytes();
        self.pairs == 0
            || ELEMENT_BYTES + pair_bytes <= unused
            || unused * UNUSED_SHARE_MAX > capacity
    }
}

#[derive(Debug, Default)]
struct OpenBranch {
    children: usize,
    key_bytes: usize,
    first_key_bytes: usize,
    /// The key lengths of the last two children, which stay behind when a full page is closed.
    last_key_bytes: [usize; 2],
    /// Whether a page of this level has been closed.
    has_closed: bool,
    /// The page of the child that came last.
    last_child: u64,
}

impl OpenBranch {
    fn bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.children * ELEMENT_BYTES + self.key_bytes
    }

    fn push(&mut self, child: Child) {
        if self.children == 0 {
            self.first_key_bytes = child.key_bytes;
        }
        self.children += 1;
        self.key_bytes += child.key_bytes;
        self.last_key_bytes = [self.last_key_bytes[1], child.key_bytes];
        self.last_child = child.page;
    }

    /// A page is closed when it no longer fits and two children can stay behind for the next (S2).
    fn is_overfull(&self) -> bool {
        self.children >= 4 && self.bytes() > PAGE_BYTES
    }

    /// Takes out all children but the last two.
    fn split(&mut self) -> OpenBranch {
        let kept: usize = self.last_key_bytes.iter().sum();
        let full = OpenBranch {
            children: self.children - 2,
            key_bytes: self.key_bytes - kept,
            first_key_bytes: self.first_key_bytes,
            ..OpenBranch::default()
        };
        self.children = 2;
        self.key_bytes = kept;
        self.first_key_bytes = self.last_key_bytes[0];
        self.has_closed = true;
        full
    }
}

/// A page as its parent sees it.
#[derive(Clone, Copy)]
struct Child {
    page: u64,
    key_bytes: usize,
}

impl Shape {
    /// A tree whose pages are numbered from `first_page` on.
    pub(super) fn new(first_page: u64) -> Shape {
        Shape {
            next_page: first_page,
            leaf: OpenLeaf::default(),
            levels: Vec::new(),
        }
    }

    /// The id the next page will get.
    pub(super) fn next_page(&self) -> u64 {
        self.next_page
    }

    /// Adds a pair, which comes behind all others. Pages that were closed before it are given to
    /// `emit` in the order they lie in the file; the pair itself belongs to the leaf then open.
    ///
    /// # Errors
    /// What `emit` returned.
    pub(super) fn push<E>(
        &mut self,
        key_bytes: usize,
        value_bytes: usize,
        emit: &mut impl FnMut(Closed) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.leaf.takes(key_bytes + value_bytes) {
            self.close_leaf(emit)?;
        }
        if self.leaf.pairs == 0 {
            self.leaf.first_key_bytes = key_bytes;
        }
        self.leaf.pairs += 1;
        self.leaf.data_bytes += key_bytes + value_bytes;
        Ok(())
    }

    /// Closes what is open and returns the root page. A tree without pairs is one empty leaf.
    ///
    /// # Errors
    /// What `emit` returned.
    pub(super) fn finish<E>(
        &mut self,
        emit: &mut impl FnMut(Closed) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.close_leaf(emit)?;
        let mut level = 0;
        loop {
            let branch = std::mem::take(&mut self.levels[level]);
            if branch.children == 1 && !branch.has_closed {
                return Ok(branch.last_child);
            }
            let child = self.close_branch(level, &branch, emit)?;
            level += 1;
            self.add_child(level, child, emit)?;
        }
    }

    fn close_leaf<E>(&mut self, emit: &mut impl FnMut(Closed) -> Result<(), E>) -> Result<(), E> {
        let leaf = std::mem::take(&mut self.leaf);
        let span = self.take_pages(leaf.bytes());
        emit(Closed::Leaf(span))?;
        self.add_child(
            0,
            Child {
                page: span.id,
                key_bytes: leaf.first_key_bytes,
            },
            emit,
        )
    }

    fn close_branch<E>(
        &mut self,
        level: usize,
        branch: &OpenBranch,
        emit: &mut impl FnMut(Closed) -> Result<(), E>,
    ) -> Result<Child, E> {
        assert!(
            branch.children >= 2,
            "S2: a branch page has at least two children"
        );
        let span = self.take_pages(branch.bytes());
        emit(Closed::Branch {
            span,
            level,
            children: branch.children,
        })?;
        Ok(Child {
            page: span.id,
            key_bytes: branch.first_key_bytes,
        })
    }

    /// Adds a page to the open branch of `level`, and so on upwards while that fills a branch.
    fn add_child<E>(
        &mut self,
        mut level: usize,
        mut child: Child,
        emit: &mut impl FnMut(Closed) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if level == self.levels.len() {
                self.levels.push(OpenBranch::default());
            }
            let branch = &mut self.levels[level];
            branch.push(child);
            if !branch.is_overfull() {
                return Ok(());
            }
            let full = branch.split();
            child = self.close_branch(level, &full, emit)?;
            level += 1;
        }
    }

    fn take_pages(&mut self, bytes: usize) -> PageSpan {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let overflow = u32::try_from(pages - 1).expect("a page holds little beside one large pair");
        let span = PageSpan {
            id: self.next_page,
            overflow,
        };
        self.next_page += u64::from(overflow) + 1;
        span
    }
}
