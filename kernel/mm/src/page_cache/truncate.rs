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
use machine::memory::{AllocFlags, Frame, FrameFlags};

/// Pages taken out of the index under one hold of its lock.
const BATCH: usize = 64;

/// Whether a page holds nothing yet but zeros that were promised.
fn is_reserved(frame: &Frame) -> bool {
    frame.state().flags().contains(super::FRAME_RESERVED)
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
            let page = self.get_page(size / PAGE_SIZE as u64, Access::Read)?;
            if !page.is_same(&machine::memory::zero_frame()) {
                page.zero_range(offset, PAGE_SIZE - offset);
                self.mark_dirty(size / PAGE_SIZE as u64);
            }
        }
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

    /// Zeroes bytes within one page, if the page is more than a hole.
    fn zero_part(&self, range: Range<u64>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let index = range.start / PAGE_SIZE as u64;
        let page = self.get_page(index, Access::Read)?;
        if !page.is_same(&machine::memory::zero_frame()) {
            page.zero_range((range.start % PAGE_SIZE as u64) as usize, (range.end - range.start) as usize);
            self.mark_dirty(index);
        }
        Ok(())
    }

    /// Takes the pages with these numbers out, dirty or not, and unmaps them everywhere.
    fn drop_pages(&self, range: Range<u64>, scope: ZapScope) {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else { return };
        let mut from = range.start;
        loop {
            let (removed, dirty) = self.take_batch(from, last);
            let Some(next) =
                removed.last().and_then(|frame| frame.state().index.load(Ordering::Relaxed).checked_add(1))
            else {
                break;
            };
            from = next;
            crate::stats::DIRTY_PAGES.sub(dirty);
            self.disown(&removed);
            // Sleepers on a page that is being read in see that it has left.
            removed.iter().for_each(|frame| super::waiting_for(frame).wake_all());
        }
        self.unmap_pages(range.start..=last, scope);
    }

    /// Up to [`BATCH`] pages out of the index, and how many of them were dirty. (Frames are dropped by the caller,
    /// with no lock held.)
    fn take_batch(&self, from: u64, last: u64) -> (Vec<Frame>, u64) {
        let mut pages = self.pages.write();
        if from > last {
            return (Vec::new(), 0);
        }
        let dirty = pages.iter_range(from..=last, None).take(BATCH);
        let dirty = dirty.filter(|(index, _)| pages.has_mark(*index, Mark::Dirty)).count() as u64;
        let removed = pages.remove_range(from..=last, BATCH);
        (removed.into_iter().map(|(_, frame)| frame).collect(), dirty)
    }

    /// Drops clean, unmapped pages of `range` (page numbers); returns how many. Nothing is lost: they can be read again.
    pub fn invalidate(&self, range: Range<u64>) -> u64 {
        if self.retention == Retention::OnlyCopy {
            return 0;
        }
        let mut dropped = 0;
        let mut from = range.start;
        loop {
            let next = self.pages.read().next(from, None).map(|(index, frame)| (index, frame.clone()));
            let Some((index, frame)) = next.filter(|(index, _)| *index < range.end) else { return dropped };
            dropped += u64::from(self.drop_if_unused(index, frame));
            from = index + 1;
        }
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
        let (index, _) = there.find(|(_, frame)| !is_reserved(frame))?;
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
        let absent = pages.next_hole(first)?;
        let mut there =
            pages.iter_range(first..=absent.saturating_sub(1), None).take_while(|_| absent > first);
        let hole = there.find(|(_, frame)| is_reserved(frame)).map_or(absent, |(index, _)| index);
        Some(hole.saturating_mul(PAGE_SIZE as u64).max(offset).min(size))
    }
}
