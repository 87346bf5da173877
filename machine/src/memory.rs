//! Memory: page frames, the buddy allocator beneath them, the kernel heap, and page tables.
//!
//! Key types: [`Frame`], [`FrameState`], [`FrameRun`], [`PageTable`], [`TlbBatch`].

pub mod frame;
pub mod heap;
pub mod table;

pub use frame::{AllocFlags, Frame, FrameFlags, FrameRun, FrameState, zero_frame};
pub use table::{CopyMode, EntryAction, Mapping, MappingRef, PageTable, Perms, TlbBatch};

/// A physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// There is no memory left (the reclaim hook, where it may be called, did not help).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// Orders of the buddy allocator: blocks of 2^0 to 2^10 pages.
pub const ORDERS: usize = 11;

/// Figures of physical memory, in pages unless the name says bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Pages that the kernel manages.
    pub total_pages: usize,
    /// Free pages, those in per-CPU caches too.
    pub free_pages: usize,
    /// Pages of RAM that are not managed: kernel image, frame metadata, firmware.
    pub reserved_pages: usize,
    /// Pages used by the heap.
    pub heap_pages: usize,
    /// Pages used by page tables.
    pub table_pages: usize,
    /// Pages used by kernel stacks.
    pub stack_pages: usize,
    /// Free blocks per order.
    pub free_per_order: [usize; ORDERS],
}

/// Today's figures.
pub fn stats() -> MemoryStats {
    todo!()
}

/// Called when a sleepable allocation finds no memory: should free about that many pages and say how many it freed
/// (0 = give up). Thread context, may sleep. Once.
pub fn set_reclaim_hook(hook: fn(usize) -> usize) {
    let _ = hook;
    todo!()
}

/// Allocations fail (with [`OutOfMemory`]) as if memory were exhausted after `count` more successes; for tests.
#[cfg(not(target_os = "none"))]
pub fn fail_after(count: Option<usize>) {
    let _ = count;
    todo!()
}

impl From<OutOfMemory> for abi::errno::Errno {
    fn from(_: OutOfMemory) -> Self {
        abi::errno::Errno::ENOMEM
    }
}
