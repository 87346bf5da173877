//! Pages of files in memory ([`Retention::OnlyCopy`](super::Retention)) that are in swap space.
//!
//! `swapped` has the slot of each such page, by number; a page is there or in `pages`, never in both, and moves between them only with `pages` held to
//! write. The room that the pager was charged stays charged. A page that comes back leaves its slot at once, so that a frame is known to a file or to swap
//! space, never to both.
//!
//! Locks: `swapped` is a leaf inside `pages`, outside an area's slots. [`CACHES`] is a leaf.

use super::{FRAME_SHMEM, PageCache, Retention, waiting_for};
use crate::stats;
use crate::swap;
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};
use machine::memory::{Frame, FrameFlags, SwapSlot};
use machine::sync::{SpinLock, WaitKind};

/// Caches that have had pages in swap space.
static CACHES: SpinLock<Vec<Weak<PageCache>>> = SpinLock::new(Vec::new());

/// Calls `f` for each cache that may have pages in swap space, until it fails.
pub(crate) fn for_each_cache(f: &mut dyn FnMut(&Arc<PageCache>) -> Result<()>) -> Result<()> {
    let mut number = 0;
    loop {
        let cache = match CACHES.lock().get(number) {
            None => return Ok(()),
            Some(cache) => cache.upgrade(),
        };
        if let Some(cache) = cache {
            let result = f(&cache);
            crate::reclaim::generations::let_go(cache);
            result?;
        }
        number += 1;
    }
}

impl PageCache {
    /// The slot of page `index`, if it is in swap space.
    pub(crate) fn swapped_at(&self, index: u64) -> Option<SwapSlot> {
        if self.retention == Retention::Reloadable {
            return None;
        }
        self.swapped.lock().get(index).copied()
    }

    /// How many pages are in swap space.
    pub fn swapped_count(&self) -> u64 {
        self.swapped.lock().len()
    }

    /// The first page at or after `from` that is in swap space.
    pub(super) fn next_swapped(&self, from: u64) -> Option<(u64, SwapSlot)> {
        self.swapped.lock().next(from, None).map(|(index, slot)| (index, *slot))
    }

    /// Makes the cache known as one with pages in swap space, once. Returns false if there is no memory to do so.
    pub(crate) fn note_swapping(&self) -> bool {
        if self.has_swapped.load(Ordering::Acquire) {
            return true;
        }
        let mut caches = CACHES.lock();
        if caches.len() == caches.capacity() {
            caches.retain(|cache| cache.strong_count() > 0);
        }
        if caches.try_reserve(1).is_err() {
            return false;
        }
        if !self.has_swapped.swap(true, Ordering::AcqRel) {
            caches.push(self.me.clone());
        }
        true
    }

    /// Moves page `index`, if it is `frame` and nobody else has it (but the caller, by this handle), to the slot that `place` makes for
    /// it with one count. Returns whether it did. The cache is [known](Self::note_swapping).
    pub(crate) fn move_to_slot(
        &self,
        index: u64,
        frame: &Frame,
        place: impl FnOnce() -> Option<SwapSlot>,
    ) -> bool {
        let mut pages = self.pages.write();
        let stays = FrameFlags::LOCKED | FrameFlags::WRITEBACK | super::FRAME_RESERVED;
        let may_go = pages.get(index).is_some_and(|there| there.is_same(frame))
            && frame.ref_count() == 2
            && frame.state().flags().contains(FrameFlags::UPTODATE)
            && !frame.state().flags().intersects(stays);
        if !may_go {
            return false;
        }
        let removed = pages.remove(index);
        let state = frame.state();
        state.mapping.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let Some(slot) = place() else {
            state.mapping.store(self.id, Ordering::Relaxed);
            state.index.store(index, Ordering::Relaxed);
            if let Some(frame) = removed {
                pages.insert(index, frame);
            }
            return false;
        };
        self.swapped.lock().insert(index, slot);
        drop(pages);
        stats::cached_pages(self.retention).sub(1);
        true
    }

    /// Brings page `index` back from `slot`, if it is still there.
    ///
    /// Errors: `EIO`, `ENOMEM`, `EINTR`.
    pub(crate) fn bring_in(&self, index: u64, slot: SwapSlot) -> Result<()> {
        let Some(frame) = swap::read_in(slot)? else { return Ok(()) };
        // The slot becomes free, and must not be given to another while this page is on its way there.
        let written = || (!frame.state().flags().contains(FrameFlags::WRITEBACK)).then_some(());
        waiting_for(&frame).wait_until(WaitKind::Killable, None, written).map_err(|_| Errno::EINTR)?;
        let mut pages = self.pages.write();
        let mut swapped = self.swapped.lock();
        if swapped.get(index) != Some(&slot) || !swap::take_back(slot, &frame) {
            return Ok(());
        }
        swapped.remove(index);
        drop(swapped);
        let state = frame.state();
        state.index.store(index, Ordering::Relaxed);
        state.mapping.store(self.id, Ordering::Relaxed);
        state.set_flags(FrameFlags::UPTODATE | FrameFlags::REFERENCED | FRAME_SHMEM);
        pages.insert(index, frame);
        drop(pages);
        stats::cached_pages(self.retention).add(1);
        self.list_blocks(index, 1);
        Ok(())
    }

    /// Brings everything back that `wanted` says. Errors: as [`Self::bring_in`], but not `EIO`: who wants such a page will find out.
    pub(crate) fn bring_all_in(&self, wanted: impl Fn(SwapSlot) -> bool) -> Result<()> {
        let mut from = 0;
        while let Some((index, slot)) = self.next_swapped(from) {
            if wanted(slot) {
                match self.bring_in(index, slot) {
                    Ok(()) | Err(Errno::EIO) => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(next) = index.checked_add(1) else { break };
            from = next;
        }
        Ok(())
    }

    /// Gives the slots up that were taken out of `swapped`, and the room of their pages.
    pub(super) fn give_slots_up(&self, slots: impl ExactSizeIterator<Item = SwapSlot>) {
        let count = slots.len() as u64;
        slots.for_each(swap::drop_count);
        if count > 0 {
            self.pager.uncharge(count);
        }
    }
}
