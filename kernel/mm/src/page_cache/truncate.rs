//! Changing what a file holds other than by writing: size, holes, allocation, and where data is.
//!
//! Shrinking goes in the order that leaves no stale page behind: the size first (no page can be put in beyond it any
//! more), then the pages out of the index (their frames' `mapping` becomes 0), then out of every page table.

use super::{Access, PageCache, Retention, ZapScope, pages_for};
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use linnet_lib::radix_tree::Mark;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame, FrameFlags, SwapSlot};
use machine::sync::WaitKind;

/// Pages taken out of the index under one hold of its lock.
const BATCH: usize = 64;

/// Whether a page holds nothing yet but zeros that were promised.
fn is_reserved(frame: &Frame) -> bool {
    frame.state().flags().contains(super::FRAME_RESERVED)
}

/// What was taken out of the index at once.
struct Batch {
    /// Locked, if the file has a backing store.
    removed: Vec<Frame>,
    /// The numbers of those that were dirty.
    dirty: Vec<u64>,
    /// The page after them cannot be taken yet: it is being read or written.
    busy: Option<Frame>,
    /// The slots of those that were in swap space.
    slots: Vec<(u64, SwapSlot)>,
    /// Where to go on; `None`: nothing was left.
    next: Option<u64>,
}

/// Whether part of a page holds zeros only.
fn is_zero(frame: &Frame, offset: usize, length: usize) -> bool {
    let mut buffer = [0; 256];
    (offset..offset + length).step_by(buffer.len()).all(|at| {
        let part = (offset + length - at).min(buffer.len());
        let Some(piece) = buffer.get_mut(..part) else { return false };
        frame.read(at, piece);
        piece.iter().all(|byte| *byte == 0)
    })
}

impl PageCache {
    /// Sets the file's size. Shrinking drops the pages behind the end, zeroes the rest of the last one and unmaps
    /// them all, private copies included: programs that touch them get SIGBUS. The caller holds the inode's write lock.
    ///
    /// Errors: `EFBIG` beyond 2^63-1; `EIO` and the like if the last page must be read to be cut.
    pub fn truncate(&self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let old = self.size();
        let offset = (size % PAGE_SIZE as u64) as usize;
        if size < old && offset != 0 {
            let end = (size - size % PAGE_SIZE as u64).saturating_add(PAGE_SIZE as u64);
            self.zero_part(size..end)?;
        }
        self.clear_tail(size)?;
        {
            let _pages = self.pages.write();
            self.size.store(size, Ordering::Release);
        }
        if size < old {
            self.drop_pages(pages_for(size)..u64::MAX, ZapScope::WithPrivateCopies);
        }
        Ok(())
    }

    /// Makes `range` of bytes read as zeros and frees its whole pages; the size stays.
    ///
    /// Errors: `EIO` and the like if an edge page must be read.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        let page = PAGE_SIZE as u64;
        let end = range.end.min(pages_for(self.size()) * page);
        if range.start >= end {
            return Ok(());
        }
        let first_whole = range.start.div_ceil(page);
        let last_whole = end / page;
        if first_whole > last_whole {
            return self.zero_part(range.start..end);
        }
        self.zero_part(range.start..first_whole * page)?;
        self.zero_part(last_whole * page..end)?;
        self.drop_pages(first_whole..last_whole, ZapScope::FilePagesOnly);
        // On Linux a page that was only promised counts as data once a hole ends at it.
        if let Some(frame) = self.lookup(last_whole) {
            super::note_written(&frame);
        }
        Ok(())
    }

    /// The file is about to grow, and what was behind its end, up to `until`, to be seen: a program may have stored there through a mapping. It
    /// becomes zeros. The caller holds the inode's write lock.
    ///
    /// Errors: `EIO` and the like if a page in swap space must be read.
    pub(super) fn clear_tail(&self, until: u64) -> Result<()> {
        let size = self.size();
        let end = until.min(size.next_multiple_of(PAGE_SIZE as u64));
        if size >= end {
            return Ok(());
        }
        // What is not in memory was zeroed when it was written, or is when it is read.
        let index = size / PAGE_SIZE as u64;
        let in_memory = self.lookup(index).is_some() || self.swapped_at(index).is_some();
        if in_memory { self.zero_part(size..end) } else { Ok(()) }
    }

    /// Zeroes bytes within one page, if the page is more than a hole. Nothing becomes dirty that holds zeros already: a hole stays one.
    fn zero_part(&self, range: Range<u64>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let index = range.start / PAGE_SIZE as u64;
        let (offset, length) =
            ((range.start % PAGE_SIZE as u64) as usize, (range.end - range.start) as usize);
        loop {
            let page = self.get_page(index, Access::Read)?;
            if page.is_zero_frame() || self.tracks_stores() && is_zero(&page, offset, length) {
                return Ok(());
            }
            if self.make_dirty(index, &page)? {
                page.zero_range(offset, length);
                self.mark_dirty(index);
                return Ok(());
            }
        }
    }

    /// Takes the pages with these numbers out, dirty or not, and unmaps them everywhere. Waits for those that are being read or written:
    /// nothing is on its way to where the file does not reach any more when this returns.
    fn drop_pages(&self, range: Range<u64>, scope: ZapScope) {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else { return };
        let mut from = range.start;
        loop {
            let batch = self.take_batch(from, last);
            let Some(next) = batch.next else { break };
            self.give_up(&batch);
            if let Some(busy) = batch.busy {
                self.wait_until_written(&busy);
                let _ = super::dirty::lock_page(&busy, WaitKind::Uninterruptible);
                super::dirty::unlock_page(&busy);
            }
            from = next;
        }
        self.unmap_pages(range.start..=last, scope);
    }

    /// Books pages out that [`PageCache::take_batch`] has taken.
    fn give_up(&self, batch: &Batch) {
        crate::stats::DIRTY_PAGES.sub(batch.dirty.len() as u64);
        self.disown(&batch.removed);
        self.give_slots_up(batch.slots.iter().map(|(_, slot)| *slot));
        if let Some(state) = &self.state {
            state.device.note_cleaned(batch.dirty.len());
            for index in &batch.dirty {
                self.pager.unreserve(*index);
            }
            for frame in &batch.removed {
                super::dirty::unlock_page(frame);
            }
        }
    }

    /// Up to [`BATCH`] pages out of the index. (Frames are dropped by the caller, with no lock held.)
    fn take_batch(&self, from: u64, last: u64) -> Batch {
        let mut batch =
            Batch { removed: Vec::new(), dirty: Vec::new(), slots: Vec::new(), busy: None, next: None };
        let mut pages = self.pages.write();
        if from > last {
            return batch;
        }
        let Some(state) = &self.state else {
            // Both under one lock: no page moves from one to the other meanwhile.
            batch.slots = self.swapped.lock().remove_range(from..=last, BATCH);
            let end = batch.slots.get(BATCH - 1).map_or(last, |(index, _)| *index);
            let removed = pages.remove_range(from..=end, BATCH);
            let done = removed.get(BATCH - 1).map_or(end, |(index, _)| *index);
            let found = !removed.is_empty() || !batch.slots.is_empty();
            batch.next = done.checked_add(1).filter(|_| found);
            batch.removed = removed.into_iter().map(|(_, frame)| frame).collect();
            return batch;
        };
        let mut at = from;
        while batch.removed.len() < BATCH {
            let next = pages.next(at, None).map(|(index, frame)| (index, frame.clone()));
            let Some((index, frame)) = next.filter(|(index, _)| *index <= last) else { break };
            let writing = frame.state().flags().contains(FrameFlags::WRITEBACK);
            if writing || !super::dirty::try_lock_page(&frame) {
                batch.busy = Some(frame);
                batch.next = Some(index);
                return batch;
            }
            if frame.state().clear_flags(super::FRAME_POSTPONED).contains(super::FRAME_POSTPONED)
                && pages.set_mark(index, Mark::Dirty) == Some(false)
            {
                self.count_dirty(state);
            }
            if pages.has_mark(index, Mark::Dirty) {
                batch.dirty.push(index);
            }
            batch.removed.extend(pages.remove(index));
            let Some(next) = index.checked_add(1) else { break };
            at = next;
            batch.next = Some(at);
        }
        batch
    }

    /// Drops clean, unmapped pages of `range` (page numbers); returns how many. Nothing is lost: they can be read again.
    pub fn invalidate(&self, range: Range<u64>) -> u64 {
        if self.retention == Retention::OnlyCopy {
            return 0;
        }
        let mut dropped = 0;
        let mut from = range.start;
        loop {
            let Some((index, frame)) = self.next_page(from).filter(|(index, _)| *index < range.end) else {
                return dropped;
            };
            dropped += u64::from(self.drop_if_unused(index, frame));
            let Some(next) = index.checked_add(1) else { return dropped };
            from = next;
        }
    }

    /// Takes the pages that `range` of bytes touches out, also those that are mapped, because the device is about to be or has been written past
    /// the cache (`O_DIRECT`). The caller has synced the range; what has become dirty since stays.
    ///
    /// Errors: `EBUSY` if a page is dirty or in use.
    pub fn evict(&self, range: Range<u64>) -> Result<()> {
        if self.state.is_none() {
            return Ok(());
        }
        let (first, end) = (range.start / PAGE_SIZE as u64, pages_for(range.end));
        let mut from = first;
        let mut result = Ok(());
        while let Some((index, frame)) = self.next_page(from).filter(|(index, _)| *index < end) {
            self.wait_until_written(&frame);
            self.wait_until_filled(&frame)?;
            if frame.ref_count() > 2 {
                self.unmap_pages(index..=index, ZapScope::FilePagesOnly);
            }
            if !self.drop_if_unused(index, frame) {
                result = Err(Errno::EBUSY);
            }
            let Some(next) = index.checked_add(1) else { break };
            from = next;
        }
        result
    }

    /// Makes sure that every page of `range` of bytes exists (`fallocate(2)`); the size stays.
    ///
    /// Errors: `ENOSPC`, `ENOMEM`; what was made is then given back.
    pub fn allocate_range(&self, range: Range<u64>) -> Result<()> {
        let first = range.start / PAGE_SIZE as u64;
        for index in first..pages_for(range.end) {
            if self.lookup(index).is_some() {
                continue;
            }
            let made = Frame::alloc(AllocFlags::ZEROED).map_err(Errno::from).and_then(|frame| {
                let flags = FrameFlags::UPTODATE | super::FRAME_RESERVED;
                self.insert(index, &frame, flags, super::Growth::Anywhere)
            });
            if let Err(error) = made {
                self.give_back_reserved(first..index);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes out the pages of `range` (page numbers) that are only promised.
    fn give_back_reserved(&self, range: Range<u64>) {
        for index in range {
            if let Some(frame) = self.lookup(index).filter(is_reserved) {
                drop(self.remove_if_same(index, &frame));
                self.unmap_pages(index..=index, ZapScope::FilePagesOnly);
            }
        }
    }

    /// The first page from `index` on that is in memory.
    pub fn next_resident(&self, index: u64) -> Option<u64> {
        self.pages.read().iter_range(index..=u64::MAX, None).next().map(|(index, _)| index)
    }

    /// The first page from `index` on that is not in memory.
    pub fn next_absent(&self, index: u64) -> Option<u64> {
        self.pages.read().next_hole(index)
    }

    /// The first offset at or after `offset` that holds data (`SEEK_DATA`); `None` if there is none below the size.
    pub fn seek_data(&self, offset: u64) -> Option<u64> {
        let size = self.size();
        if offset >= size {
            return None;
        }
        if self.retention == Retention::Reloadable {
            return Some(offset);
        }
        let pages = self.pages.read();
        let mut there = pages.iter_range(offset / PAGE_SIZE as u64..=u64::MAX, None);
        let in_memory = there.find(|(_, frame)| !is_reserved(frame)).map(|(index, _)| index);
        let swapped = self.next_swapped(offset / PAGE_SIZE as u64).map(|(index, _)| index);
        let index = in_memory.into_iter().chain(swapped).min()?;
        Some((index * PAGE_SIZE as u64).max(offset)).filter(|at| *at < size)
    }

    /// The first offset at or after `offset` that lies in a hole or at the end (`SEEK_HOLE`); `None` past the end.
    pub fn seek_hole(&self, offset: u64) -> Option<u64> {
        let size = self.size();
        if offset >= size {
            return None;
        }
        if self.retention == Retention::Reloadable {
            return Some(size);
        }
        let pages = self.pages.read();
        let first = offset / PAGE_SIZE as u64;
        let mut absent = pages.next_hole(first)?;
        let swapped = self.swapped.lock();
        while swapped.get(absent).is_some() {
            absent = pages.next_hole(absent.checked_add(1)?)?;
        }
        drop(swapped);
        let mut there =
            pages.iter_range(first..=absent.saturating_sub(1), None).take_while(|_| absent > first);
        let hole = there.find(|(_, frame)| is_reserved(frame)).map_or(absent, |(index, _)| index);
        Some(hole.saturating_mul(PAGE_SIZE as u64).max(offset).min(size))
    }
}
