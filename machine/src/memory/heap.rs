//! The kernel heap: `alloc`'s global allocator (on bare metal), and its figures.
//!
//! The work is in `slab`. An allocation that fails gives null, so `try_reserve` and its like report it.

use alloc::vec::Vec;

use super::slab;

/// Figures of one size class, for `/proc/slabinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Bytes of an object.
    pub object_bytes: usize,
    /// Objects handed out (those in per-CPU caches count as handed out).
    pub active_objects: usize,
    /// Objects that fit in the slabs there are.
    pub total_objects: usize,
    /// Slabs (each `pages_per_slab` pages).
    pub slabs: usize,
    /// Pages in a slab.
    pub pages_per_slab: usize,
}

/// Figures of all size classes.
pub fn class_stats() -> Vec<ClassStats> {
    slab::class_stats()
}

/// Gives empty slabs and this CPU's cached objects back to the frame allocator; says how many pages that freed.
pub fn shrink() -> usize {
    slab::shrink()
}

#[cfg(target_os = "none")]
mod global {
    use core::alloc::{GlobalAlloc, Layout};

    use super::slab;

    struct KernelHeap;

    #[global_allocator]
    static HEAP: KernelHeap = KernelHeap;

    // SAFETY: `slab` gives memory that is valid and nobody else's for as long as the layout asks, or null.
    unsafe impl GlobalAlloc for KernelHeap {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            slab::allocate(layout)
        }
        #[inline]
        unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
            // SAFETY: the trait's contract is `deallocate`'s.
            unsafe { slab::deallocate(object, layout) }
        }
        #[inline]
        unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the trait's contract is `reallocate`'s.
            unsafe { slab::reallocate(object, layout, new_size) }
        }
    }
}
