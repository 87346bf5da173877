//! Memory: page frames, the buddy allocator beneath them, the kernel heap, and page tables.
//!
//! Key types: [`Frame`], [`FrameState`], [`FrameRun`], [`PageTable`], [`TlbBatch`].

pub(crate) mod buddy;
pub(crate) mod copy;
mod fallible;
pub mod frame;
pub mod heap;
pub(crate) mod slab;
mod swap_slot;
pub mod table;

pub use fallible::{try_arc, try_box};
pub use frame::{AllocFlags, Frame, FrameFlags, FrameRun, FrameState, zero_frame};
pub use swap_slot::{SwapHooks, SwapSlot, set_swap_hooks};
pub use table::{CopyMode, EntryAction, EntryRef, Mapping, MappingRef, PageTable, Perms, Region, TlbBatch};

use core::sync::atomic::{AtomicUsize, Ordering};

/// A physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// There is no memory left (the reclaim hook, where it may be called, did not help).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for abi::errno::Errno {
    fn from(_: OutOfMemory) -> Self {
        abi::errno::Errno::ENOMEM
    }
}

/// Orders of the buddy allocator: blocks of 2^0 to 2^10 pages.
pub const ORDERS: usize = 11;

/// Figures of physical memory, in pages unless the name says bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Pages that the kernel manages.
    pub total_pages: usize,
    /// Free pages, those in per-CPU caches too.
    pub free_pages: usize,
    /// Of these, how many are kept for the kernel: programs get none of them.
    pub reserve_pages: usize,
    /// Pages used by the heap.
    pub heap_pages: usize,
    /// Pages used by page tables.
    pub table_pages: usize,
    /// Pages used by kernel stacks.
    pub stack_pages: usize,
    /// Free blocks per order.
    pub free_per_order: [usize; ORDERS],
}

pub(crate) static TABLE_PAGES: AtomicUsize = AtomicUsize::new(0);
pub(crate) static STACK_PAGES: AtomicUsize = AtomicUsize::new(0);
/// Pages that an allocation asks to be reclaimed at once.
const RECLAIM_BATCH: usize = 32;
static RECLAIM: crate::sync::Once<fn(usize) -> usize> = crate::sync::Once::new();

/// Today's figures.
pub fn stats() -> MemoryStats {
    let figures = buddy::figures();
    MemoryStats {
        total_pages: figures.total_pages,
        free_pages: figures.free_pages,
        reserve_pages: figures.reserve_pages,
        heap_pages: slab::heap_pages(),
        table_pages: TABLE_PAGES.load(Ordering::Relaxed),
        stack_pages: STACK_PAGES.load(Ordering::Relaxed),
        free_per_order: figures.free_per_order,
    }
}

/// Called when a sleepable allocation finds no memory: should free about that many pages and say how many it freed
/// (0 = give up). Thread context, may sleep. Once.
pub fn set_reclaim_hook(hook: fn(usize) -> usize) {
    let _ = RECLAIM.set(hook);
}

static LOW_MEMORY: crate::sync::Once<fn()> = crate::sync::Once::new();

/// Called in a thread that may sleep when fewer pages are free than the low mark: should have some freed, by another thread. Once.
pub fn set_low_memory_hook(hook: fn()) {
    let _ = LOW_MEMORY.set(hook);
}

/// How far the marks are apart, in ten-thousandths of all memory, if that is more than half the reserve.
static MARK_SCALE: AtomicUsize = AtomicUsize::new(10);
/// All memory, for that: pages.
static TOTAL_PAGES: AtomicUsize = AtomicUsize::new(0);

fn mark_distance(reserve: usize) -> usize {
    let mut total = TOTAL_PAGES.load(Ordering::Relaxed);
    if total == 0 {
        total = buddy::figures().total_pages;
        TOTAL_PAGES.store(total, Ordering::Relaxed);
    }
    (reserve / 2).max(total / 10_000 * MARK_SCALE.load(Ordering::Relaxed))
}

/// How many pages should be free again once memory has been short (fewer than the low mark were free, which lies in the middle between this and
/// the reserve).
pub fn high_mark() -> usize {
    let reserve = buddy::free_and_reserve().1;
    reserve + 2 * mark_distance(reserve)
}

/// How far the marks are apart (`vm.watermark_scale_factor`), ten-thousandths of all memory.
pub fn mark_scale() -> usize {
    MARK_SCALE.load(Ordering::Relaxed)
}

/// Sets it.
pub fn set_mark_scale(scale: usize) {
    MARK_SCALE.store(scale, Ordering::Relaxed);
}

/// Sets how many pages are kept for the kernel (`vm.min_free_kbytes`): at least 64, at most a quarter of all.
pub fn set_reserve_pages(pages: usize) {
    buddy::set_reserve(pages);
}

/// A batch of pages was taken: tells who frees memory in time if few are left.
pub(crate) fn note_allocated() {
    let Some(hook) = LOW_MEMORY.get() else { return };
    let (free, reserve) = buddy::free_and_reserve();
    if free < reserve + mark_distance(reserve) && crate::preempt::may_sleep() {
        hook();
    }
}

/// Frees about that many pages: the heap's empty slabs, then what the hook finds; 0 if nothing can be found, or the
/// caller is itself at work freeing memory. May sleep.
pub(crate) fn reclaim(pages: usize) -> usize {
    crate::thread::while_reclaiming(|| {
        let shrunk = heap::shrink();
        if shrunk > 0 { shrunk } else { RECLAIM.get().map_or(0, |hook| hook(pages)) }
    })
    .unwrap_or(0)
}

/// Makes `attempt` after reclaiming, as often as that frees anything; not at all if the caller may not sleep.
#[cold]
#[inline(never)]
pub(crate) fn retry<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    while crate::preempt::may_sleep() && reclaim(RECLAIM_BATCH) > 0 {
        if let Some(result) = attempt() {
            return Some(result);
        }
    }
    None
}

/// Gives this CPU's cached single pages back, so that they can join larger blocks.
pub fn drain_cpu_caches() {
    buddy::drain_all();
}

/// Allocations fail (with [`OutOfMemory`]) as if memory were exhausted after `count` more successes; for tests.
#[cfg(not(target_os = "none"))]
pub fn fail_after(count: Option<usize>) {
    buddy::fault_injection::set(count);
}
