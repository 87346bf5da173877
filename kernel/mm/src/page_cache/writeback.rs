//! Writing dirty pages back.
//!
//! A run of neighbours is first made clean (mark and write permissions gone, so that a store during the transfer makes a page dirty
//! again), then given to the pager as one batch. The frames have `WRITEBACK` until the pager completes them, which may happen in an interrupt: the
//! index's mark of the same name stays then and is cleared by the next who looks in a thread ([`PageCache::settle`]). So a page is being written, or has
//! been and nobody has looked, while the index marks it.
//!
//! If writing fails the pages count as clean, as on Linux, and the error is kept for every open file ([`super::ErrorSequence`]).

use super::pager::{WriteBack, WriteBackMode};
use super::{CacheState, FRAME_POSTPONED, PageCache, Seen, pages_for, waiting_for};
use crate::stats;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use linnet_lib::radix_tree::Mark;
use machine::PAGE_SIZE;
use machine::memory::{Frame, FrameFlags};
use machine::sync::{SpinLock, WaitKind};

/// The longest run given to a pager at once: 1 MiB.
const MAX_RUN: usize = 256;
/// Marks cleared under one hold of the index's lock.
const SETTLED_AT_ONCE: usize = 64;

/// The numbers of the pages that a range of bytes touches.
fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_SIZE as u64..pages_for(range.end)
}

impl PageCache {
    /// Writes all dirty pages that `range` of bytes touches to the backing store and waits for them, and for those that were being
    /// written already.
    ///
    /// Errors: the pager's of pages written meanwhile, `EIO` or `ENOSPC`; `ENOMEM`. All pages are tried.
    pub fn sync(&self, range: Range<u64>) -> Result<()> {
        self.sync_as(range, WriteBackMode::Sync)
    }

    /// [`PageCache::sync`] for a journal that commits: what has no place on the device yet stays dirty.
    ///
    /// Errors: as [`PageCache::sync`].
    pub fn sync_allotted(&self, range: Range<u64>) -> Result<()> {
        self.sync_as(range, WriteBackMode::Allotted)
    }

    fn sync_as(&self, range: Range<u64>, mode: WriteBackMode) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let failures = state.errors.failures();
        let started = self.start_write_back(range.clone(), mode);
        self.wait(range);
        started?;
        if state.errors.failures() == failures { Ok(()) } else { state.errors.last() }
    }

    /// Starts writing all dirty pages that `range` of bytes touches, without waiting for those it starts. Returns how many it started.
    ///
    /// Errors: `ENOMEM`.
    pub fn start_write_back(&self, range: Range<u64>, mode: WriteBackMode) -> Result<usize> {
        self.write_some(pages_of(&range), mode, usize::MAX).map(|(started, _)| started)
    }

    /// Waits for pages that are being written in `range` of bytes.
    pub fn wait(&self, range: Range<u64>) {
        let pages = pages_of(&range);
        let mut from = pages.start;
        loop {
            let next =
                self.pages.read().next(from, Some(Mark::Writeback)).map(|(i, frame)| (i, frame.clone()));
            let Some((index, frame)) = next.filter(|(index, _)| *index < pages.end) else { return };
            self.wait_until_written(&frame);
            drop(frame);
            self.settle(index..index + 1);
            from = index + 1;
        }
    }

    /// Starts writing up to `budget` dirty pages of `range` (page numbers); returns how many, and the page to go on from.
    ///
    /// Errors: `ENOMEM`.
    pub(crate) fn write_some(
        &self,
        range: Range<u64>,
        mode: WriteBackMode,
        budget: usize,
    ) -> Result<(usize, u64)> {
        let Some(state) = &self.state else { return Ok((0, range.end)) };
        let _scope = crate::reclaim::no_file_system();
        let (mut started, mut from) = (0, range.start);
        while started < budget {
            // What is appended meanwhile is not ours.
            let end = range.end.min(pages_for(self.size()));
            let Some((first, length)) = self.dirty_run(from, end, MAX_RUN.min(budget - started)) else {
                return Ok((started, range.end));
            };
            if length == 0 {
                // The first page is being written, and dirty again.
                if mode != WriteBackMode::Background {
                    self.wait(first * PAGE_SIZE as u64..(first + 1) * PAGE_SIZE as u64);
                } else {
                    from = first + 1;
                }
                continue;
            }
            started += self.write_run(state, first, length, mode)?;
            from = first + length as u64;
        }
        Ok((started, from))
    }

    /// The first dirty page in `from..end`, and how many from it on are dirty and not being written, at most `most`.
    fn dirty_run(&self, from: u64, end: u64, most: usize) -> Option<(u64, usize)> {
        let last = end.checked_sub(1)?;
        let pages = self.pages.read();
        let mut dirty = pages.iter_range(from..=last, Some(Mark::Dirty)).take(most);
        let (first, frame) = dirty.next()?;
        let busy = |frame: &Frame| frame.state().flags().contains(FrameFlags::WRITEBACK);
        if busy(frame) {
            return Some((first, 0));
        }
        let mut length = 1;
        for (index, frame) in dirty {
            if index != first + length as u64 || busy(frame) {
                break;
            }
            length += 1;
        }
        Some((first, length))
    }

    /// Gives a run to the pager, as far as it still is one; returns how many pages.
    fn write_run(
        &self,
        state: &Arc<CacheState>,
        first: u64,
        count: usize,
        mode: WriteBackMode,
    ) -> Result<usize> {
        let mut frames = Vec::new();
        frames.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        frames.extend(self.run_of_pages(first, count));
        let size = self.size();
        let mut batch = WriteBack::new(state, first, frames, size, mode)?;
        let count = self.begin_writing(first, batch.frames());
        batch.keep_first(count);
        if count == 0 {
            return Ok(0);
        }
        stats::DIRTY_PAGES.sub(count as u64);
        stats::WRITEBACK_PAGES.add(count as u64);
        stats::PAGES_WRITTEN.add(count as u64);
        state.note_started(count);
        self.write_protect_pages(first, batch.frames());
        self.zero_tail(state, &batch);
        self.pager.write_pages(batch);
        self.settle_postponed(first..first + count as u64);
        Ok(count)
    }

    /// Up to `count` pages that follow one another.
    fn run_of_pages(&self, first: u64, count: usize) -> Vec<Frame> {
        let pages = self.pages.read();
        let there = pages.iter_range(first..=first + (count as u64 - 1), None);
        (first..)
            .zip(there)
            .take_while(|(wanted, (index, _))| wanted == index)
            .map(|(_, (_, frame))| frame.clone())
            .collect()
    }

    /// Turns dirty pages into pages being written, as long as they are what they were; returns how many.
    fn begin_writing(&self, first: u64, frames: &[Frame]) -> usize {
        let mut pages = self.pages.write();
        for (place, frame) in frames.iter().enumerate() {
            let index = first + place as u64;
            let same = pages.get(index).is_some_and(|there| there.is_same(frame));
            let busy = frame.state().flags().contains(FrameFlags::WRITEBACK);
            if !same || busy || pages.clear_mark(index, Mark::Dirty) != Some(true) {
                return place;
            }
            pages.set_mark(index, Mark::Writeback);
            frame.state().clear_flags(FRAME_POSTPONED);
            frame.state().set_flags(FrameFlags::WRITEBACK);
        }
        frames.len()
    }

    /// Zeroes what lies behind the end of the file in its last page (a program may have stored there), unless a writer is about to move the
    /// end.
    fn zero_tail(&self, state: &CacheState, batch: &WriteBack) {
        let offset = (batch.file_size() % PAGE_SIZE as u64) as usize;
        let last = batch.file_size() / PAGE_SIZE as u64;
        let place = last.checked_sub(batch.first()).and_then(|place| batch.frames().get(place as usize));
        let Some(frame) = place.filter(|_| offset != 0) else { return };
        let extending = state.extending.lock();
        if *extending == 0 && self.size() == batch.file_size() {
            frame.zero_range(offset, PAGE_SIZE - offset);
        }
    }

    /// Clears the marks of pages (page numbers) that have been written, in a thread.
    pub(crate) fn settle(&self, range: Range<u64>) {
        let Some(state) = &self.state else { return };
        let mut from = range.start;
        loop {
            let mut pages = self.pages.write();
            for _ in 0..SETTLED_AT_ONCE {
                let next =
                    pages.next(from, Some(Mark::Writeback)).map(|(index, frame)| (index, frame.clone()));
                let Some((index, frame)) = next.filter(|(index, _)| *index < range.end) else { return };
                from = index + 1;
                if frame.state().flags().contains(FrameFlags::WRITEBACK) {
                    continue;
                }
                pages.clear_mark(index, Mark::Writeback);
                let postponed = frame.state().clear_flags(FRAME_POSTPONED).contains(FRAME_POSTPONED);
                if postponed && pages.set_mark(index, Mark::Dirty) == Some(false) {
                    self.count_dirty(state);
                }
            }
        }
    }

    /// [`PageCache::settle`] if the pager has just refused the first page of the range.
    fn settle_postponed(&self, range: Range<u64>) {
        let postponed = self
            .pages
            .read()
            .iter_range(range.start..=range.end - 1, Some(Mark::Writeback))
            .any(|(_, frame)| frame.state().flags().contains(FRAME_POSTPONED));
        if postponed {
            self.settle(range);
        }
    }

    /// Waits while the page is being written.
    pub(super) fn wait_until_written(&self, frame: &Frame) {
        let _ = waiting_for(frame).wait_until(WaitKind::Uninterruptible, None, || {
            (!frame.state().flags().contains(FrameFlags::WRITEBACK)).then_some(())
        });
    }

    /// For the device's list: whether nothing is dirty or being written any more; the cache is off the list then.
    pub(crate) fn delist_if_clean(&self) -> bool {
        let Some(state) = &self.state else { return true };
        self.settle(0..u64::MAX);
        let pages = self.pages.write();
        if pages.any_marked(Mark::Dirty) || pages.any_marked(Mark::Writeback) {
            return false;
        }
        state.listed.store(false, Ordering::Relaxed);
        true
    }

    /// When the first of its dirty pages became so, [`machine::time::now_ns`].
    pub(crate) fn dirtied_ns(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.dirtied_ns.load(Ordering::Relaxed))
    }

    /// All that was dirty is being written: what becomes dirty from `now_ns` on is that old.
    pub(crate) fn set_dirtied_ns(&self, now_ns: u64) {
        if let Some(state) = &self.state {
            state.dirtied_ns.store(now_ns, Ordering::Relaxed);
        }
    }

    /// The cache that follows this one in its device's list of those that have just become dirty. Under that list's lock.
    pub(crate) fn next_listed(&self) -> &SpinLock<Option<Arc<PageCache>>> {
        &self.next_listed
    }

    /// The errors of write-back, for open files; `None` where nothing is written back.
    pub fn errors(&self) -> Option<&super::ErrorSequence> {
        self.state.as_ref().map(|state| &state.errors)
    }

    /// The error of write-back that `seen` has not seen yet; from now on it has.
    ///
    /// Errors: `EIO`, `ENOSPC` and the like.
    pub fn error_since(&self, seen: &Seen) -> Result<()> {
        self.errors().map_or(Ok(()), |errors| errors.check_and_advance(seen))
    }
}
