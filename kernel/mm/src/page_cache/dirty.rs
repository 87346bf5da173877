//! Pages that differ from what the device has: how they come to be so.
//!
//! Before a page becomes dirty the pager [reserves](super::Pager::reserve) room for it, under the page's `LOCKED` flag, which truncation
//! waits for: so a reservation and the page it was made for come and go together. A writer marks a page before it copies (no room: nothing is
//! copied) and again afterwards, if it has been written back meanwhile; it holds the frame in between, so reclaim leaves it alone.
//!
//! The mark in the index is the truth. The first mark of a cache puts it on its device's list, which keeps the cache
//! alive until it is clean again ([`crate::write_back`]).

use super::{CacheState, PageCache, waiting_for};
use crate::stats;
use abi::errno::{Errno, Result};
use core::sync::atomic::Ordering;
use linnet_lib::radix_tree::Mark;
use machine::memory::{Frame, FrameFlags};
use machine::sync::WaitKind;

impl PageCache {
    /// Notes that page `index` differs from the backing store; its room is reserved. Any context but interrupts.
    pub fn mark_dirty(&self, index: u64) {
        let Some(state) = &self.state else { return };
        let mut pages = self.pages.write();
        if pages.set_mark(index, Mark::Dirty) == Some(false) {
            self.count_dirty(state);
        }
    }

    /// Books one page that was just marked. With `pages` held to write.
    pub(super) fn count_dirty(&self, state: &CacheState) {
        stats::DIRTY_PAGES.add(1);
        stats::PAGES_DIRTIED.add(1);
        state.device.note_dirtied(1);
        if !state.listed.swap(true, Ordering::Relaxed) {
            match self.me.upgrade() {
                Some(me) => {
                    state.dirtied_ns.store(machine::time::now_ns(), Ordering::Relaxed);
                    state.device.enlist(me);
                }
                // It is being dropped.
                None => state.listed.store(false, Ordering::Relaxed),
            }
        }
    }

    /// Whether page `index` differs from the backing store.
    pub(crate) fn is_dirty(&self, index: u64) -> bool {
        self.pages.read().has_mark(index, Mark::Dirty)
    }

    /// Whether any page differs from the backing store.
    pub fn has_dirty_pages(&self) -> bool {
        self.pages.read().any_marked(Mark::Dirty)
    }

    /// Whether stores to pages must be noticed: the file has a backing store.
    pub(crate) fn tracks_stores(&self) -> bool {
        self.state.is_some()
    }

    /// Reserves room for page `index`, which is `frame`, and marks it dirty; waits until it may change if the pager wants that. Returns
    /// false if the page has left the cache.
    ///
    /// Errors: the pager's, `ENOSPC`; `EINTR`.
    pub(crate) fn make_dirty(&self, index: u64, frame: &Frame) -> Result<bool> {
        let Some(state) = &self.state else { return Ok(true) };
        let being_written =
            || state.needs_stable_pages && frame.state().flags().contains(FrameFlags::WRITEBACK);
        if self.is_dirty(index) && !being_written() && self.owns(frame) {
            return Ok(true);
        }
        lock_page(frame, WaitKind::Killable)?;
        let result = if self.owns(frame) {
            if being_written() {
                self.wait_until_written(frame);
            }
            self.reserve_and_mark(index)
        } else {
            Ok(false)
        };
        unlock_page(frame);
        result
    }

    fn reserve_and_mark(&self, index: u64) -> Result<bool> {
        if !self.is_dirty(index) {
            self.pager.reserve(index)?;
            self.mark_dirty(index);
        }
        Ok(true)
    }

    /// A store through a mapping wants page `index`: brings it in and makes it dirty.
    ///
    /// Errors: those of [`PageCache::get_page`] and [`PageCache::make_dirty`].
    pub(crate) fn prepare_store(&self, index: u64) -> Result<()> {
        loop {
            let frame = self.get_page(index, super::Access::Create)?;
            if self.make_dirty(index, &frame)? {
                break;
            }
        }
        self.balance(1);
        Ok(())
    }

    /// Memory is short: what is dirty in it and its like is to be written soon.
    pub(crate) fn hurry(&self) {
        if let Some(state) = &self.state {
            state.device.hurry();
        }
    }

    /// The caller has made pages dirty: waits if there are too many; see [`crate::write_back`].
    pub(super) fn balance(&self, pages: usize) {
        if let Some(state) = &self.state {
            state.device.balance(pages);
        }
    }
}

/// Takes a page's `LOCKED` flag.
///
/// Errors: `EINTR`, if `kind` allows it.
pub(super) fn lock_page(frame: &Frame, kind: WaitKind) -> Result<()> {
    waiting_for(frame).wait_until(kind, None, || try_lock_page(frame).then_some(())).map_err(|_| Errno::EINTR)
}

pub(super) fn try_lock_page(frame: &Frame) -> bool {
    !frame.state().set_flags(FrameFlags::LOCKED).contains(FrameFlags::LOCKED)
}

pub(super) fn unlock_page(frame: &Frame) {
    frame.state().clear_flags(FrameFlags::LOCKED);
    waiting_for(frame).wake_all();
}
