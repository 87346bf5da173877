//! What memory is used for: the figures behind `/proc/meminfo` and each process's resident set.
//!
//! The fault path pays for one relaxed addition to a counter of its own CPU, nothing shared. Key types: [`Counter`],
//! [`FrameKind`], [`MemInfo`]. Locks: none.

use crate::page_cache::{FRAME_FILE, FRAME_SHMEM, Retention};
use core::sync::atomic::{AtomicI64, Ordering};
use machine::memory::{self, Frame, FrameFlags};

/// A global count that many CPUs change and few read.
pub struct Counter(AtomicI64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Counter(AtomicI64::new(0))
    }
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count as i64, Ordering::Relaxed);
    }
    /// Subtracts.
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count as i64, Ordering::Relaxed);
    }
    /// The value, 0 if additions have been seen later than subtractions.
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// Pages in caches of files that can be read again.
pub static FILE_PAGES: Counter = Counter::new();
/// Pages of tmpfs, memfd and shared anonymous memory.
pub static SHMEM_PAGES: Counter = Counter::new();
/// Pages that differ from their backing store.
pub static DIRTY_PAGES: Counter = Counter::new();
/// Pages on their way to the backing store.
pub static WRITEBACK_PAGES: Counter = Counter::new();
/// Pages that were asked for from pagers so far.
pub static PAGES_READ: Counter = Counter::new();
/// Pages given to pagers to be written so far (`nr_written`).
pub static PAGES_WRITTEN: Counter = Counter::new();
/// Times that a page became dirty (`nr_dirtied`).
pub static PAGES_DIRTIED: Counter = Counter::new();
/// Pages in `mlock`ed mappings.
pub static LOCKED_PAGES: Counter = Counter::new();

/// The counter of cached pages of one sort.
pub(crate) fn cached_pages(retention: Retention) -> &'static Counter {
    match retention {
        Retention::Reloadable => &FILE_PAGES,
        Retention::OnlyCopy => &SHMEM_PAGES,
    }
}

/// What a mapped frame counts as in a process's resident set.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// Private memory (`RssAnon`).
    Anonymous,
    /// A page of a file (`RssFile`).
    File,
    /// A page of tmpfs, memfd or shared anonymous memory (`RssShmem`).
    Shmem,
    /// Nothing: the page of zeros and the kernel's own pages.
    Uncounted,
}

/// The mark of frames that count as nothing: both owners.
pub(crate) const FRAME_UNCOUNTED: FrameFlags = FrameFlags::OWNER_1.union(FrameFlags::OWNER_2);

/// Makes the page of zeros count as nothing.
pub(crate) fn mark_zero_page() {
    let zero = memory::zero_frame();
    if !zero.state().flags().contains(FRAME_UNCOUNTED) {
        zero.state().set_flags(FRAME_UNCOUNTED);
    }
}

impl FrameKind {
    /// The kind of `frame`.
    pub fn of(frame: &Frame) -> FrameKind {
        let owner = frame.state().flags() & FRAME_UNCOUNTED;
        if owner.is_empty() {
            FrameKind::Anonymous
        } else if owner == FRAME_FILE {
            FrameKind::File
        } else if owner == FRAME_SHMEM {
            FrameKind::Shmem
        } else {
            FrameKind::Uncounted
        }
    }
}

/// Frames counted by kind, to be added to a resident set once for all.
#[derive(Default)]
pub(crate) struct Tally {
    anonymous: usize,
    file: usize,
    shmem: usize,
}

impl Tally {
    /// Counts one.
    #[inline]
    pub fn add(&mut self, frame: &Frame) {
        match FrameKind::of(frame) {
            FrameKind::Anonymous => self.anonymous += 1,
            FrameKind::File => self.file += 1,
            FrameKind::Shmem => self.shmem += 1,
            FrameKind::Uncounted => {}
        }
    }

    /// How many of each kind.
    pub fn counts(&self) -> [(FrameKind, usize); 3] {
        [(FrameKind::Anonymous, self.anonymous), (FrameKind::File, self.file), (FrameKind::Shmem, self.shmem)]
    }
}

/// `/proc/meminfo`'s figures, in KiB, named as its lines.
#[derive(Copy, Clone, Debug, Default)]
pub struct MemInfo {
    /// `MemTotal`.
    pub total: u64,
    /// `MemFree`.
    pub free: u64,
    /// `MemAvailable`: free, and what can be dropped without writing.
    pub available: u64,
    /// `Cached`: all pages of files, `Shmem` included.
    pub cached: u64,
    /// `Shmem`.
    pub shmem: u64,
    /// `Dirty`.
    pub dirty: u64,
    /// `Writeback`.
    pub writeback: u64,
    /// `AnonPages`: what is neither free nor anything else that is counted.
    pub anonymous: u64,
    /// `Mlocked`, and `Unevictable`.
    pub locked: u64,
    /// `Slab`: the kernel heap.
    pub slab: u64,
    /// `KernelStack`.
    pub kernel_stack: u64,
    /// `PageTables`.
    pub page_tables: u64,
    /// `CommitLimit`.
    pub commit_limit: u64,
    /// `Committed_AS`.
    pub committed: u64,
}

/// Pages that can be had without writing any.
pub(crate) fn available_pages() -> u64 {
    memory::stats().free_pages as u64 + FILE_PAGES.get().saturating_sub(DIRTY_PAGES.get())
}

/// The figures now.
pub fn meminfo() -> MemInfo {
    let machine = memory::stats();
    let (file, shmem) = (FILE_PAGES.get(), SHMEM_PAGES.get());
    let kernel = (machine.heap_pages + machine.table_pages + machine.stack_pages) as u64;
    let free = machine.free_pages as u64;
    let clean = file.saturating_sub(DIRTY_PAGES.get());
    let kib = |pages: u64| pages * (machine::PAGE_SIZE as u64 / 1024);
    MemInfo {
        total: kib(machine.total_pages as u64),
        free: kib(free),
        available: kib(free + clean),
        cached: kib(file + shmem),
        shmem: kib(shmem),
        dirty: kib(DIRTY_PAGES.get()),
        writeback: kib(WRITEBACK_PAGES.get()),
        anonymous: kib((machine.total_pages as u64).saturating_sub(free + kernel + file + shmem)),
        locked: kib(LOCKED_PAGES.get()),
        slab: kib(machine.heap_pages as u64),
        kernel_stack: kib(machine.stack_pages as u64),
        page_tables: kib(machine.table_pages as u64),
        commit_limit: kib(crate::commit::limit_pages()),
        committed: kib(crate::commit::committed_pages()),
    }
}
