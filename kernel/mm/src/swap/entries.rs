//! Walks over the entries of page tables that stand for slots. Locks: leaf locks, not over what is done with what was found.

use crate::space::AddressSpace;
use abi::errno::Result;
use arrayvec::ArrayVec;
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::{EntryAction, EntryRef, SwapSlot, TlbBatch};

/// Entries that are gathered before something is done.
const BATCH: usize = 32;
/// What one leaf table maps, bytes.
const REGION: usize = 512 * PAGE_SIZE;

/// Calls `f` with the address and the slot of each entry in a range whose slot is `wanted`, until it fails. The entry may have changed by then.
pub(crate) fn for_each(
    space: &AddressSpace,
    range: Range<usize>,
    wanted: impl Fn(SwapSlot) -> bool,
    mut f: impl FnMut(usize, SwapSlot) -> Result<()>,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end && space.page_table().swapped_pages() > 0 {
        let Some(next) = space.page_table().next_populated(at..range.end) else { break };
        let end = range.end.min((next | (REGION - 1)) + 1);
        let found = gather(space, next..end, &wanted);
        found.iter().try_for_each(|(address, slot)| f(*address, *slot))?;
        at = match found.last() {
            Some((address, _)) if found.is_full() => address + PAGE_SIZE,
            _ => end,
        };
    }
    Ok(())
}

/// The first such entries.
fn gather(
    space: &AddressSpace,
    range: Range<usize>,
    wanted: &impl Fn(SwapSlot) -> bool,
) -> ArrayVec<(usize, SwapSlot), BATCH> {
    let mut found = ArrayVec::new();
    let mut batch = TlbBatch::new(space.page_table());
    space.page_table().update_entries(range, &mut batch, |address, entry| {
        if let EntryRef::Swapped(slot) = entry
            && wanted(slot)
            && !found.is_full()
        {
            found.push((address, slot));
        }
        EntryAction::Keep
    });
    found
}
