//! Kernel stacks with unmapped guard pages.
//!
//! They lie in an area of their own, one slot each; the lower part of a slot is never mapped. Freed stacks stay mapped in
//! a small cache; beyond that they are unmapped, and their slots and frames come back after every CPU has flushed its
//! TLB, which the next [`Stack::new`] does for a batch. Locks: [`POOL`] (leaf, but the frame allocator is below it).

use super::lock::RawLock;
use super::paging::{self, STACK_AREA};
use alloc::vec::Vec;

/// Bytes of a kernel stack. Builds with checks use more of it.
pub(crate) const STACK_BYTES: usize = crate::thread::STACK_BYTES * if cfg!(debug_assertions) { 2 } else { 1 };
const SLOT_BYTES: usize = 2 * STACK_BYTES;
const SLOTS: usize = (64 << 30) / SLOT_BYTES;
const PAGES: usize = STACK_BYTES / 4096;
const CACHED: usize = 32;

/// A kernel stack.
#[derive(Debug)]
pub(crate) struct Stack {
    slot: u32,
}

struct Pool {
    next: usize,
    /// Free slots that are still mapped.
    mapped: [u32; CACHED],
    mapped_count: usize,
    /// Free slots that are not mapped and in no TLB.
    clean: Vec<u32>,
    /// Slots whose entries are gone but may be in some TLB, with their frames.
    stale: Vec<(u32, [u64; PAGES])>,
}

static POOL: RawLock<Pool> = RawLock::new(Pool {
    next: 0,
    mapped: [0; CACHED],
    mapped_count: 0,
    clean: Vec::new(),
    stale: Vec::new(),
});

fn top_of(slot: u32) -> usize {
    STACK_AREA + (slot as usize + 1) * SLOT_BYTES
}

impl Stack {
    /// A stack, or `None` without memory. Thread context.
    pub(crate) fn new() -> Option<Stack> {
        Stack::flush_stale(CACHED);
        let mut pool = POOL.lock();
        if pool.mapped_count > 0 {
            pool.mapped_count -= 1;
            return Some(Stack { slot: pool.mapped[pool.mapped_count] });
        }
        let slot = match pool.clean.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(pool.next).ok().filter(|_| pool.next < SLOTS)?;
                // So that dropping never needs memory.
                let wanted = pool.next + 1;
                reserve(&mut pool, wanted)?;
                pool.next += 1;
                slot
            }
        };
        if map_slot(slot).is_none() {
            pool.clean.push(slot);
            return None;
        }
        Some(Stack { slot })
    }

    /// One past the highest address; 16-aligned.
    pub(crate) fn top(&self) -> usize {
        top_of(self.slot)
    }

    /// Gives back what is unmapped if it is at least `least` stacks: flushes all TLBs, then frees. Thread context.
    pub(crate) fn flush_stale(least: usize) {
        if !super::irq_enabled() || super::preempt_count() != 0 {
            return;
        }
        let stale = {
            let mut pool = POOL.lock();
            if pool.stale.len() < least.max(1) {
                return;
            }
            core::mem::take(&mut pool.stale)
        };
        super::hooks::flush_kernel_everywhere();
        for frame in stale.iter().flat_map(|(_, frames)| frames) {
            // SAFETY: the frame was a stack's, no entry leads to it and no TLB has it.
            unsafe { super::hooks::free_raw(*frame) };
        }
        let mut pool = POOL.lock();
        pool.clean.extend(stale.iter().map(|(slot, _)| *slot));
        let wanted = pool.next;
        // The list that was taken had the room; the new one needs it again. Without memory stacks are then leaked.
        let _ = reserve(&mut pool, wanted);
    }
}

fn reserve(pool: &mut Pool, wanted: usize) -> Option<()> {
    let (clean, stale) = (pool.clean.len(), pool.stale.len());
    pool.clean.try_reserve(wanted.saturating_sub(clean)).ok()?;
    pool.stale.try_reserve(wanted.saturating_sub(stale)).ok()
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut pool = POOL.lock();
        if pool.mapped_count < CACHED {
            let place = pool.mapped_count;
            pool.mapped[place] = self.slot;
            pool.mapped_count += 1;
            return;
        }
        if pool.stale.len() < pool.stale.capacity() {
            let frames = unmap_slot(self.slot);
            pool.stale.push((self.slot, frames));
        }
    }
}

/// Maps fresh pages into the upper part of a slot; the caller holds the pool.
fn map_slot(slot: u32) -> Option<()> {
    for page in 0..PAGES {
        let address = top_of(slot) - (page + 1) * 4096;
        // SAFETY: the slot belongs to the caller, who holds the lock of the area.
        unsafe {
            let done = paging::leaf_entry(address).and_then(|entry| {
                super::hooks::alloc_raw().map(|frame| entry.write(paging::stack_entry(frame)))
            });
            if done.is_none() {
                for earlier in 0..page {
                    // Never used: no TLB has these.
                    if let Some(entry) = paging::leaf_entry(top_of(slot) - (earlier + 1) * 4096) {
                        super::hooks::free_raw(entry.replace(0) & paging::PTE_ADDRESS_MASK);
                    }
                }
                return None;
            }
        }
    }
    Some(())
}

/// Takes the pages out of a slot; the caller holds the pool.
fn unmap_slot(slot: u32) -> [u64; PAGES] {
    core::array::from_fn(|page| {
        // SAFETY: the slot is mapped and nobody's; the lock of the area is held.
        unsafe {
            let entry = paging::leaf_entry(top_of(slot) - (page + 1) * 4096);
            entry.map_or(0, |entry| entry.replace(0) & paging::PTE_ADDRESS_MASK)
        }
    })
}

/// Whether the address is in a guard: the unmapped part of a slot, or the boot stack's.
pub(super) fn is_guard(address: usize) -> bool {
    unsafe extern "C" {
        static __boot_stack_guard: u8;
    }
    let boot = &raw const __boot_stack_guard as usize;
    let in_area = (STACK_AREA..STACK_AREA + SLOTS * SLOT_BYTES).contains(&address);
    in_area && (address - STACK_AREA) % SLOT_BYTES < SLOT_BYTES - STACK_BYTES
        || (boot..boot + 4096).contains(&address)
}
