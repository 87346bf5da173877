//! Places in swap space, as page tables keep them for pages that are not in memory.
//!
//! An entry of a page table that stands for a slot owns one of the slot's counts, as one that maps a page owns a reference of its frame. Tables copy and
//! drop entries by themselves (fork, exit), so they tell the owner of the counts through [`SwapHooks`].
//!
//! Key types: [`SwapSlot`], [`SwapHooks`]. Locks: the hooks are called under leaf locks of page tables, and take only leaves.

use crate::sync::Once;

/// How many slots there can be.
const LIMIT: u64 = 1 << 40;
/// Where an entry has the number: where other entries have the address of their page.
const SHIFT: u32 = 12;
const MASK: u64 = (LIMIT - 1) << SHIFT;
/// The entry stands for a slot. (The processor looks at nothing of an entry that is not present.)
const SWAPPED: u64 = 1 << 11;

/// A page-sized place in swap space. What the number means is its owner's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwapSlot(u64);

impl SwapSlot {
    /// The slot with this number; `None` if the number is too large for a page table.
    pub const fn new(number: u64) -> Option<SwapSlot> {
        if number < LIMIT { Some(SwapSlot(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The entry that stands for it. The number is kept inverted, so that a processor that looks ahead with it as an address (L1TF) finds
    /// none that exists.
    pub(super) const fn encode(self) -> u64 {
        SWAPPED | !(self.0 << SHIFT) & MASK
    }

    /// The slot that an entry stands for, if it stands for one.
    pub(super) const fn decode(entry: u64) -> Option<SwapSlot> {
        if entry & SWAPPED == 0 { None } else { Some(SwapSlot((!entry & MASK) >> SHIFT)) }
    }
}

/// Who counts the entries of page tables that stand for slots.
pub struct SwapHooks {
    /// There is one entry more.
    pub copied: fn(SwapSlot),
    /// There is one entry less.
    pub dropped: fn(SwapSlot),
}

static HOOKS: Once<SwapHooks> = Once::new();

/// Registers who counts. Once; before that no entry stands for a slot.
pub fn set_swap_hooks(hooks: SwapHooks) {
    let _ = HOOKS.set(hooks);
}

pub(super) fn note_copied(slot: SwapSlot) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.copied)(slot);
    }
}

pub(super) fn note_dropped(slot: SwapSlot) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.dropped)(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_the_number_and_are_not_present() {
        for number in [0, 1, 0x1234_5678, LIMIT - 1] {
            let slot = SwapSlot::new(number).unwrap();
            assert_eq!(SwapSlot::decode(slot.encode()), Some(slot));
            assert_eq!(slot.encode() & crate::arch::PTE_PRESENT, 0);
            assert_ne!(slot.encode(), 0);
        }
        assert_eq!(SwapSlot::new(LIMIT), None);
        assert_eq!(SwapSlot::decode(0), None);
    }
}
