//! Pages of programs, and of files in memory, leave it.
//!
//! There is no map from a private page to its entries: reclaim goes through address spaces instead, in blocks of 64 pages that stand in the queues of
//! [`crate::reclaim::generations`] beside those of files. A block is found when it is first looked for, by a walk over the page tables ([`discover`]), so that faults
//! pay nothing. A page that the processor has not noted as used since the last look gets a slot, and the entry stands for the slot from then on. If others map the
//! page too, it stays in memory until their blocks have had their turn. See ADR 115.
//!
//! Nothing here waits for memory: slots are there since swapon, and what the block layer needs comes from the last reserve. Only `kswapd` and
//! `MADV_PAGEOUT` write; an allocation waits for what `kswapd` gets done.
//!
//! Locks: [`ROUND`] (sleeping): one at a time. Inside, leaf locks of page tables, and an area's slots.

use super::area::Area;
use super::{Direction, TRANSFER_PAGES, Transfer, is_in_use, slot_of, store};
use crate::page_cache::{PageCache, Retention};
use crate::reclaim::generations::{self, BLOCK_PAGES, MemoryBlock};
use crate::space::AddressSpace;
use crate::stats::FrameKind;
use crate::vma::{Backing, Vma, VmaFlags};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::PAGE_SIZE;
use machine::memory::{EntryAction, Frame, FrameFlags, MappingRef, SwapSlot, TlbBatch};
use machine::sync::Mutex;

/// The most pages of one round: they are written together, and waited for together.
const ROUND_PAGES: usize = 256;
/// Blocks that are looked at between walks over address spaces, at least.
const LEAST_LOOKS: usize = 32;
/// `vm.page-cluster`.
static PAGE_CLUSTER: AtomicU32 = AtomicU32::new(3);
static ROUND: Mutex<Round> = Mutex::new(Round { gone: ArrayVec::new_const(), until_discovery: 0 });

/// `vm.page-cluster`: the logarithm of how many neighbours are read together.
pub fn page_cluster() -> u32 {
    PAGE_CLUSTER.load(Ordering::Relaxed)
}

/// Sets it. Errors: `EINVAL` above 31 (Linux's limit; more than a transfer has makes no difference).
pub fn set_page_cluster(value: u32) -> abi::errno::Result<()> {
    if value > 31 {
        return Err(abi::errno::Errno::EINVAL);
    }
    PAGE_CLUSTER.store(value, Ordering::Relaxed);
    Ok(())
}

/// Which pages leave.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Choice {
    /// Those that were not used since the last look.
    Unused,
    /// All.
    All,
}

/// What left memory in one go.
struct Round {
    /// Slots whose frames are to be dropped when they are written.
    gone: ArrayVec<SwapSlot, ROUND_PAGES>,
    /// How many blocks are to be looked at before address spaces are walked over again: as many as were listed then, so that walking costs no more
    /// than looking.
    until_discovery: usize,
}

impl Round {
    fn has_room(&self) -> bool {
        self.gone.len() + TRANSFER_PAGES <= ROUND_PAGES
    }

    /// Waits until what left is written, and drops it from memory. Returns how many pages went.
    fn finish(&mut self) -> usize {
        if self.gone.is_empty() {
            return 0;
        }
        store::wait_until_written();
        let gone = core::mem::take(&mut self.gone);
        gone.iter().filter(|slot| super::with_area(**slot, Area::drop_frame) == Some(true)).count()
    }
}

/// Whether pages of a mapping may leave memory.
fn may_leave(vma: &Vma) -> bool {
    let stays = VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT | VmaFlags::SPECIAL;
    vma.may_hold_anonymous()
        && !vma.flags().intersects(stays)
        && !matches!(vma.backing(), Backing::Special { .. })
}

/// Frees about `wanted` pages of programs, looking at up to `looks` blocks. Returns how many went. Thread context, in a scope that frees memory.
pub(crate) fn shrink(wanted: usize, looks: usize) -> usize {
    if !is_in_use() {
        return 0;
    }
    let mut freed = super::drop_clean(wanted);
    let mut round = ROUND.lock();
    for _ in 0..looks {
        if freed + round.gone.len() >= wanted {
            break;
        }
        if !round.has_room() {
            freed += round.finish();
        }
        if round.until_discovery == 0 || generations::listed_anonymous() == 0 {
            discover();
            round.until_discovery = generations::listed_anonymous().max(LEAST_LOOKS);
        }
        round.until_discovery -= 1;
        let Some(block) = generations::take_anonymous() else { break };
        look_at(&mut round, block);
    }
    freed + round.finish()
}

/// Takes what was not used lately out of a block, and lists it again if something is left.
fn look_at(round: &mut Round, block: MemoryBlock) {
    match &block {
        MemoryBlock::Private(space, number) => {
            let (Some(space), number) = (space.upgrade(), *number) else { return };
            let taken = take_pages(round, &space, generations::addresses_of(number), Choice::Unused);
            if !taken.left || !generations::put_back_anonymous(block, taken.used) {
                space.listed_blocks.lock().remove(number);
            }
            generations::let_go(space);
        }
        MemoryBlock::File(cache, number) => {
            let (Some(cache), number) = (cache.upgrade(), *number) else { return };
            let used = take_file_pages(round, &cache, number, &(0..u64::MAX), Choice::Unused);
            if !cache.forget_empty_block(number) && !generations::put_back_anonymous(block, used) {
                cache.forget_block(number);
            }
            generations::let_go(cache);
        }
    }
}

/// Takes pages of a block of a file in memory out of it and starts writing them. Returns whether some page was used.
fn take_file_pages(
    round: &mut Round,
    cache: &PageCache,
    number: u64,
    only: &Range<u64>,
    choice: Choice,
) -> bool {
    let mut pages = ArrayVec::<(u64, Frame), TRANSFER_PAGES>::new();
    cache.pages_of_block(number, &mut pages);
    pages.retain(|(index, _)| only.contains(index));
    if pages.is_empty() || !cache.note_swapping() {
        return false;
    }
    let reserved = super::reserve(pages.len());
    let Some((area, run)) = reserved else { return false };
    let (first, mut slots) = (run.start, run);
    let mut frames = ArrayVec::<Frame, TRANSFER_PAGES>::new();
    let mut used = false;
    for (index, frame) in pages {
        if choice == Choice::Unused
            && frame.state().clear_flags(FrameFlags::REFERENCED).contains(FrameFlags::REFERENCED)
        {
            used = true;
            continue;
        }
        if frame.ref_count() > 2 && !cache.try_unmap_page(index, &frame) {
            used = true;
            continue;
        }
        let moved = !slots.is_empty()
            && !round.gone.is_full()
            && cache.move_to_slot(index, &frame, || {
                let flags = FrameFlags::UPTODATE | FrameFlags::WRITEBACK;
                area.put_frame(slots.start, &frame, flags).then(|| area.slot(slots.start)).flatten()
            });
        if moved && let Some(slot) = area.slot(slots.start) {
            slots.start += 1;
            round.gone.push(slot);
            frames.push(frame);
        }
    }
    area.give_back(slots);
    if !frames.is_empty() {
        area.store().start(Transfer::new(Direction::Out, u64::from(first), frames));
    }
    used
}

/// What became of a range.
#[derive(Default)]
struct Taken {
    /// Some page was used.
    used: bool,
    /// Some page is left.
    left: bool,
}

/// Takes the pages of a range of addresses out of a page table and starts writing them.
fn take_pages(round: &mut Round, space: &AddressSpace, range: Range<usize>, choice: Choice) -> Taken {
    let mut taken = Taken::default();
    for (mapped, vma) in space.snapshot().iter_range(range.clone()) {
        if !may_leave(vma) {
            continue;
        }
        let end = mapped.end.min(range.end);
        let mut at = mapped.start.max(range.start);
        while at < end {
            let part = at..end.min(at + TRANSFER_PAGES * PAGE_SIZE);
            at = take_run(round, space, vma, part, choice, &mut taken);
            if !round.has_room() && choice == Choice::All {
                round.finish();
            }
        }
    }
    taken
}

/// The same for up to [`TRANSFER_PAGES`] pages of one mapping, which go to slots that follow each other. Returns where to go on: before the end if there
/// were fewer slots.
fn take_run(
    round: &mut Round,
    space: &AddressSpace,
    vma: &Vma,
    part: Range<usize>,
    choice: Choice,
    taken: &mut Taken,
) -> usize {
    let pages = part.len() / PAGE_SIZE;
    let reserved = super::reserve(pages);
    let mut slots = reserved.as_ref().map_or(0..0, |(_, run)| run.clone());
    let first = slots.start;
    let mut frames = ArrayVec::<Frame, TRANSFER_PAGES>::new();
    let end = part.end;
    let mut stopped = None;
    space.note_peak_rss();
    let mut batch = TlbBatch::new(space.page_table());
    space.page_table().update_range(part, &mut batch, |address, mapping| {
        let is_private = FrameKind::of(mapping.frame) == FrameKind::Anonymous;
        if stopped.is_some() || !is_private || !vma.is_current() {
            return EntryAction::Keep;
        }
        if choice == Choice::Unused && mapping.accessed {
            (taken.used, taken.left) = (true, true);
            return EntryAction::Age;
        }
        if mapping.frame.state().is_lent() {
            taken.left = true;
            return EntryAction::Keep;
        }
        let is_known = mapping.frame.state().flags().contains(FrameFlags::SWAP_CACHED);
        let mut new_slot = || {
            let (area, _) = reserved.as_ref()?;
            let page = slots.start;
            let flags = FrameFlags::UPTODATE | FrameFlags::WRITEBACK;
            if slots.is_empty() || !area.put_frame(page, mapping.frame, flags) {
                return None;
            }
            slots.start += 1;
            frames.push(mapping.frame.clone());
            area.slot(page)
        };
        let full = round.gone.is_full();
        let slot = if full {
            None
        } else if is_known {
            known_slot(&mapping)
        } else {
            new_slot()
        };
        let Some(slot) = slot else {
            taken.left = true;
            // With the next slots, if there were any.
            stopped = (!full && !is_known && !frames.is_empty()).then_some(address);
            return EntryAction::Keep;
        };
        round.gone.push(slot);
        space.count_out(FrameKind::Anonymous, 1);
        EntryAction::Swap(slot)
    });
    // Nobody can write to the pages any more once this is flushed.
    drop(batch);
    if let Some((area, _)) = reserved {
        area.give_back(slots);
        if !frames.is_empty() {
            area.store().start(Transfer::new(Direction::Out, u64::from(first), frames));
        }
    }
    stopped.unwrap_or(end)
}

/// The slot that has the page already, with one count more; none if writing it failed: it has nothing to lean on.
fn known_slot(mapping: &MappingRef<'_>) -> Option<SwapSlot> {
    let slot = slot_of(mapping.frame)?;
    if mapping.frame.state().flags().contains(FrameFlags::DIRTY) {
        return None;
    }
    super::add_count(slot);
    Some(slot)
}

/// `MADV_PAGEOUT`: all private pages of a range leave memory, as far as there is room. May sleep.
pub(crate) fn page_out(space: &AddressSpace, range: Range<usize>) {
    if !is_in_use() {
        return;
    }
    let mut round = ROUND.lock();
    take_pages(&mut round, space, range, Choice::All);
    round.finish();
}

/// The same for pages of a file in memory, by number.
pub(crate) fn page_out_file(cache: &PageCache, pages: Range<u64>) {
    if !is_in_use() || cache.retention() != Retention::OnlyCopy {
        return;
    }
    let mut round = ROUND.lock();
    for number in pages.start / BLOCK_PAGES..pages.end.div_ceil(BLOCK_PAGES) {
        take_file_pages(&mut round, cache, number, &pages, Choice::All);
        if !round.has_room() {
            round.finish();
        }
    }
    round.finish();
}

/// Lists the blocks of all address spaces that hold private pages and are not listed yet.
fn discover() {
    crate::oom::for_each_space(&mut |space| {
        discover_in(&space);
        generations::let_go(space);
    });
}

fn discover_in(space: &Arc<AddressSpace>) {
    let block_bytes = BLOCK_PAGES as usize * PAGE_SIZE;
    for (mapped, vma) in space.snapshot().iter() {
        let mut at = mapped.start;
        while may_leave(vma)
            && let Some(populated) = space.page_table().next_populated(at..mapped.end)
        {
            // What one leaf table maps is eight blocks.
            let region = 8 * block_bytes;
            let end = mapped.end.min((populated / region + 1) * region);
            let first = (populated / region * 8) as u64;
            at = end;
            if space.has_listed(first..first + 8) {
                continue;
            }
            let mut found = 0u8;
            let mut batch = TlbBatch::new(space.page_table());
            space.page_table().update_range(populated..end, &mut batch, |address, mapping| {
                if FrameKind::of(mapping.frame) == FrameKind::Anonymous {
                    found |= 1 << (address / block_bytes % 8);
                }
                EntryAction::Keep
            });
            drop(batch);
            for number in (first..first + 8).filter(|number| found >> (number - first) & 1 != 0) {
                list(space, number);
            }
        }
    }
}

fn list(space: &Arc<AddressSpace>, number: u64) {
    let mut listed = space.listed_blocks.lock();
    if listed.get(number).is_some() {
        return;
    }
    listed.insert(number, ());
    drop(listed);
    if !generations::add_anonymous(space, number) {
        space.listed_blocks.lock().remove(number);
    }
}
