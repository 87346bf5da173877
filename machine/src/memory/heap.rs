//! The kernel heap: a slab allocator with per-CPU caches under `alloc`'s global allocator (on bare metal).

use alloc::vec::Vec;

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
    todo!()
}

/// Gives empty slabs and the caches' objects back to the frame allocator; says how many pages that freed.
pub fn shrink() -> usize {
    todo!()
}
