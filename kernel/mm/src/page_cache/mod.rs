//! The page cache: the pages of one file, whoever uses them.
//!
//! A [`PageCache`] holds a file's contents by page number. `read(2)`, `write(2)`, mappings and the filesystem all meet
//! here, so they always agree. It also owns the file's **size**. Where the contents come from is a [`Pager`]'s affair:
//! with [`Retention::Reloadable`] pages are read on demand, written back when dirty and dropped under memory pressure;
//! with [`Retention::OnlyCopy`] (tmpfs, memfd, shared anonymous memory) the cache *is* the file, and a page that is
//! not there is zeros.
//!
//! # Locks
//! * `pages` (reader-writer spinlock): the index. Look-ups share it. The size changes only with it held to write, so
//!   a page can be put in only below the size that counts.
//! * `mappings` (mutex): the reverse map, who maps which part. Taken inside an address space's lock, outside leaf
//!   locks of page tables, which in turn are taken outside `pages`.
//! * `next_listed` belongs to the lock of the device's list of dirty caches ([`crate::write_back`]), taken inside `pages`.
//! * `LOCKED` of a frame: it is being read, or room is being reserved for it; truncation waits for it. Taken before `pages`.
//! * A page being read in has `LOCKED` and lacks `UPTODATE`; whoever wants it waits in `WAITING`.
//!
//! A page that has left the cache has `mapping == 0` in its frame state: a page fault tests that inside the leaf lock,
//! which closes the race against truncation the same way as [`crate::vma::Vma::is_current`] closes that against unmapping.

mod dirty;
mod errors;
mod fill;
mod pager;
mod read_ahead;
mod reverse_map;
mod swapped;
mod transfer;
mod truncate;
mod writeback;

pub use errors::{ErrorSequence, Seen};
pub use pager::{Fill, Pager, WriteBack, WriteBackMode};
pub use read_ahead::{Pattern, ReadAhead};

pub(crate) use reverse_map::MappingKey;
pub use reverse_map::ZapScope;
pub(crate) use swapped::for_each_cache;

pub use crate::vma::{FileAccess, MappedFile, Sharing};

use crate::stats;
use crate::write_back::BackingDevice;
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::ops::{ControlFlow, RangeInclusive};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use linnet_lib::radix_tree::{Mark, RadixTree};
use machine::PAGE_SIZE;
use machine::memory::{Frame, FrameFlags, SwapSlot};
use machine::sync::{Mutex, RwSpinLock, SpinLock, WaitQueue};

/// The frame belongs to a file with [`Retention::OnlyCopy`].
pub(crate) const FRAME_SHMEM: FrameFlags = FrameFlags::OWNER_1;
/// The frame belongs to a file with [`Retention::Reloadable`].
pub(crate) const FRAME_FILE: FrameFlags = FrameFlags::OWNER_2;

/// The page was only promised (`fallocate(2)`): it reads as zeros and counts as a hole until somebody writes to it.
pub(crate) const FRAME_RESERVED: FrameFlags = FrameFlags::OWNER_3;
/// Reading the page failed.
pub(crate) const FRAME_FAILED: FrameFlags = FrameFlags::OWNER_4;
/// The pager could not write the page now: it is to be dirty again.
const FRAME_POSTPONED: FrameFlags = FrameFlags::OWNER_5;
/// Who comes to this page finds that more should be read ahead.
pub(crate) const FRAME_READ_AHEAD: FrameFlags = FrameFlags::OWNER_6;

/// Where who waits for a page that is being read or written sleeps. Shared by many pages, so that one costs nothing.
static WAITING: [WaitQueue; WAIT_QUEUES] = [const { WaitQueue::new() }; WAIT_QUEUES];
const WAIT_QUEUES: usize = 64;

pub(crate) fn waiting_for(frame: &Frame) -> &'static WaitQueue {
    &WAITING[frame.number() as usize % WAIT_QUEUES]
}

/// Whether the pages of a cache can be had again.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Retention {
    /// The pager can read them again: clean ones may be dropped.
    Reloadable,
    /// The cache has the only copy; a missing page is a hole of zeros.
    OnlyCopy,
}

/// What a lookup may do when the page is not there.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Access {
    /// A hole reads as the shared page of zeros.
    Read,
    /// A hole gets a page of its own.
    Create,
}

/// The pager of memory that no filesystem limits.
struct PlainMemory;

impl Pager for PlainMemory {}

/// The pages and the size of one file; see the head of this module.
pub struct PageCache {
    id: u64,
    pager: Arc<dyn Pager>,
    retention: Retention,
    /// `Some` where there is something to be read from and written to ([`Retention::Reloadable`]).
    state: Option<Arc<CacheState>>,
    /// Changed only with `pages` held to write.
    size: AtomicU64,
    pages: RwSpinLock<RadixTree<Frame>>,
    mappings: Mutex<reverse_map::Mappings>,
    /// This, for lists.
    me: Weak<PageCache>,
    next_listed: SpinLock<Option<Arc<PageCache>>>,
    /// Blocks of pages that reclaim has in its queues, by number; a leaf.
    listed_blocks: SpinLock<RadixTree<()>>,
    /// Pages in swap space; see `swapped`.
    swapped: SpinLock<RadixTree<SwapSlot>>,
    /// Whether some have been there.
    has_swapped: AtomicBool,
}

/// What transfers that are under way touch when they end, in any context; it may outlive the cache.
struct CacheState {
    device: Arc<BackingDevice>,
    errors: ErrorSequence,
    file_system_errors: Option<Arc<ErrorSequence>>,
    /// Pages being written.
    in_flight: AtomicUsize,
    /// On the device's list of dirty caches; changed with `pages` held to write.
    listed: AtomicBool,
    dirtied_ns: AtomicU64,
    /// Writers that are about to move the end of the file; held while the rest of the last page is zeroed. A leaf.
    extending: SpinLock<u32>,
    needs_stable_pages: bool,
}

impl CacheState {
    fn new(pager: &dyn Pager) -> Arc<CacheState> {
        Arc::new(CacheState {
            device: pager.device().unwrap_or_else(BackingDevice::nameless),
            errors: ErrorSequence::new(),
            file_system_errors: pager.file_system_errors(),
            in_flight: AtomicUsize::new(0),
            listed: AtomicBool::new(false),
            dirtied_ns: AtomicU64::new(0),
            extending: SpinLock::new(0),
            needs_stable_pages: pager.needs_stable_pages(),
        })
    }

    fn note_started(&self, pages: usize) {
        self.in_flight.fetch_add(pages, Ordering::Relaxed);
        self.device.note_started(pages);
    }

    fn note_written(&self, pages: usize) {
        self.in_flight.fetch_sub(pages, Ordering::AcqRel);
        self.device.note_written(pages);
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A page holds more than zeros now.
pub(crate) fn note_written(frame: &Frame) {
    if frame.state().flags().contains(FRAME_RESERVED) {
        frame.state().clear_flags(FRAME_RESERVED);
    }
}

/// A page has been used once more: reclaim goes by it.
#[inline]
pub(crate) fn note_used(frame: &Frame) {
    if !frame.state().flags().contains(FrameFlags::REFERENCED) {
        frame.state().set_flags(FrameFlags::REFERENCED);
    }
}

/// How many pages `bytes` take.
pub(crate) fn pages_for(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE as u64)
}

impl PageCache {
    /// The cache of a file of `size` bytes.
    pub fn new(pager: Arc<dyn Pager>, size: u64) -> Arc<PageCache> {
        let retention = pager.retention();
        let state = (retention == Retention::Reloadable).then(|| CacheState::new(&*pager));
        if let Some(state) = &state {
            state.device.start_flusher();
        }
        Arc::new_cyclic(|me| PageCache {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            retention,
            me: me.clone(),
            state,
            pager,
            size: AtomicU64::new(size),
            pages: RwSpinLock::new(RadixTree::new()),
            mappings: Mutex::new(reverse_map::Mappings::new()),
            next_listed: SpinLock::new(None),
            listed_blocks: SpinLock::new(RadixTree::new()),
            swapped: SpinLock::new(RadixTree::new()),
            has_swapped: AtomicBool::new(false),
        })
    }

    /// A file of `size` zeros in memory, without a limit: shared anonymous memory, memfd.
    pub fn new_in_memory(size: u64) -> Arc<PageCache> {
        PageCache::new(Arc::new(PlainMemory), size)
    }

    /// A number that no other cache ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether pages can be read again.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// How many pages there are, in memory or in swap space.
    pub fn page_count(&self) -> u64 {
        let pages = self.pages.read();
        pages.len() + self.swapped_count()
    }

    /// Whether page `index` lies within the size.
    pub fn contains_page(&self, index: u64) -> bool {
        index < pages_for(self.size())
    }

    /// The page, if it is there and complete.
    pub fn lookup(&self, index: u64) -> Option<Frame> {
        let pages = self.pages.read();
        pages.get(index).filter(|frame| frame.state().flags().contains(FrameFlags::UPTODATE)).cloned()
    }

    /// The page, if it is there, complete or not.
    fn peek(&self, index: u64) -> Option<Frame> {
        self.pages.read().get(index).cloned()
    }

    /// Shows `visit` the pages with numbers in `range` that are there and complete, in order, until it breaks off. The index is locked meanwhile: a
    /// page that is shown belongs to the file, and who takes it away afterwards finds what `visit` did with it. `visit` must not sleep; it
    /// may be called inside a leaf lock.
    pub(crate) fn visit_complete(
        &self,
        range: RangeInclusive<u64>,
        mut visit: impl FnMut(u64, &Frame, FrameFlags) -> ControlFlow<()>,
    ) {
        let pages = self.pages.read();
        let _ = pages.visit_range(range, |index, frame| {
            let flags = frame.state().flags();
            if flags.contains(FrameFlags::UPTODATE) {
                visit(index, frame, flags)
            } else {
                ControlFlow::Continue(())
            }
        });
    }

    /// Puts `frame` at `index` unless a page is there; returns whether it did.
    ///
    /// Errors: `ENOSPC` from the pager; `EFAULT` if the page would be beyond the size and must not.
    pub(crate) fn insert(
        &self,
        index: u64,
        frame: &Frame,
        flags: FrameFlags,
        growth: Growth,
    ) -> Result<bool> {
        if self.retention == Retention::OnlyCopy {
            self.pager.charge(1)?;
        }
        let placed = self.insert_charged(index, frame, flags, growth);
        if !matches!(placed, Ok(true)) {
            if self.retention == Retention::OnlyCopy {
                self.pager.uncharge(1);
            }
            return placed;
        }
        stats::cached_pages(self.retention).add(1);
        self.list_blocks(index, 1);
        placed
    }

    fn insert_charged(&self, index: u64, frame: &Frame, flags: FrameFlags, growth: Growth) -> Result<bool> {
        let state = frame.state();
        let mut pages = self.pages.write();
        match growth {
            Growth::WithinSize if index >= pages_for(self.size.load(Ordering::Relaxed)) => {
                return Err(Errno::EFAULT);
            }
            Growth::WithinSize | Growth::Anywhere => {}
        }
        if pages.get(index).is_some() || self.swapped_at(index).is_some() {
            return Ok(false);
        }
        state.index.store(index, Ordering::Relaxed);
        state.mapping.store(self.id, Ordering::Relaxed);
        let owner = if self.retention == Retention::OnlyCopy { FRAME_SHMEM } else { FRAME_FILE };
        state.set_flags(flags | owner);
        pages.insert(index, frame.clone());
        if let Some(state) = &self.state {
            // It was not read, so the backing store does not have it.
            pages.set_mark(index, Mark::Dirty);
            self.count_dirty(state);
        }
        Ok(true)
    }

    /// Puts a page with contents into the file, growing it if it lies beyond the end: for unpacking archives and for
    /// read-ahead. `frame` must be the caller's alone.
    ///
    /// Errors: `EEXIST` if a page is there; `ENOSPC` from the pager.
    pub fn add_page(&self, index: u64, frame: Frame) -> Result<()> {
        if !self.insert(index, &frame, FrameFlags::UPTODATE, Growth::Anywhere)? {
            return Err(Errno::EEXIST);
        }
        Ok(())
    }

    /// Whether the frame is (still) a page of this cache. Like [`crate::vma::Vma::is_current`], for leaf locks.
    pub(crate) fn owns(&self, frame: &Frame) -> bool {
        fence(Ordering::SeqCst);
        frame.state().mapping.load(Ordering::Relaxed) == self.id
    }

    /// Takes a page out if it is `frame`.
    pub(crate) fn remove_if_same(&self, index: u64, frame: &Frame) -> Option<Frame> {
        let mut pages = self.pages.write();
        pages.get(index).filter(|there| there.is_same(frame))?;
        let removed = pages.remove(index);
        drop(pages);
        self.disown(removed.as_slice());
        removed
    }

    /// Books pages out that were just taken from the index. Mappings of them must be removed afterwards.
    fn disown(&self, removed: &[Frame]) {
        for frame in removed {
            frame.state().mapping.store(0, Ordering::Relaxed);
            frame.state().clear_flags(FrameFlags::DIRTY);
        }
        fence(Ordering::SeqCst);
        if removed.is_empty() {
            return;
        }
        stats::cached_pages(self.retention).sub(removed.len() as u64);
        if self.retention == Retention::OnlyCopy {
            self.pager.uncharge(removed.len() as u64);
        }
    }
}

/// Where a page may be put.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Growth {
    /// Only below the end of the file.
    WithinSize,
    /// Anywhere: the caller is about to extend the file.
    Anywhere,
}

impl Drop for PageCache {
    fn drop(&mut self) {
        let pages = core::mem::take(self.pages.get_mut());
        for (_, frame) in pages.iter() {
            frame.state().mapping.store(0, Ordering::Relaxed);
        }
        if let Some(state) = &self.state {
            // Only of a cache whose file is gone: others are on their device's list while they are dirty.
            let dirty = pages.iter_range(0..=u64::MAX, Some(Mark::Dirty)).count();
            state.device.note_cleaned(dirty);
            stats::DIRTY_PAGES.sub(dirty as u64);
        }
        let swapped = core::mem::take(self.swapped.get_mut());
        for (_, slot) in swapped.iter() {
            crate::swap::drop_count(*slot);
        }
        if !swapped.is_empty() {
            self.pager.uncharge(swapped.len());
        }
        stats::cached_pages(self.retention).sub(pages.len());
        if self.retention == Retention::OnlyCopy && !pages.is_empty() {
            self.pager.uncharge(pages.len());
        }
    }
}
