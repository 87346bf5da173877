//! Bringing pages in: runs of missing pages are given to the pager at once, and who wants one of them waits for it.
//!
//! A page that is on its way is in the index, `LOCKED` and not `UPTODATE`; one whose reading failed is there too, neither locked nor
//! complete ([`FRAME_FAILED`]), and the next who wants it tries again, as on Linux. So everyone who waits for a page that cannot be read
//! gets `EIO` from a try of his own, and a failed read-ahead harms nobody.
//!
//! Locks: see [`super`].

use super::{
    Access, CacheState, FRAME_FAILED, FRAME_FILE, FRAME_READ_AHEAD, Growth, PageCache, Retention, pages_for,
    waiting_for,
};
use crate::stats;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::memory::{AllocFlags, Frame, FrameFlags, zero_frame};
use machine::sync::WaitKind;

use super::pager::Fill;

impl PageCache {
    /// The page, complete; brings it in if it is not there.
    ///
    /// Errors: `EFAULT` if `index` is beyond the size; `ENOMEM`; `ENOSPC`, `EIO` and the like from the pager; `EINTR`
    /// if a fatal signal came while the page was being read.
    pub fn get_page(&self, index: u64, access: Access) -> Result<Frame> {
        loop {
            let present = self.pages.read().get(index).cloned();
            match present {
                Some(frame) if frame.state().flags().contains(FrameFlags::UPTODATE) => return Ok(frame),
                Some(frame) => {
                    if self.wait_or_retry(index, &frame)? {
                        return Ok(frame);
                    }
                    continue;
                }
                None => {}
            }
            if !self.contains_page(index) {
                return Err(Errno::EFAULT);
            }
            if let Some(slot) = self.swapped_at(index) {
                self.bring_in(index, slot)?;
                continue;
            }
            let made = match (&self.state, access) {
                (None, Access::Read) => return Ok(zero_frame()),
                (None, Access::Create) => self.create_zeroed(index)?,
                (Some(state), _) => {
                    self.start_fill(state, index, 1, None, Haste::Awaited)?;
                    None
                }
            };
            if let Some(frame) = made {
                return Ok(frame);
            }
        }
    }

    /// Makes a page of zeros; `None` if another thread was faster.
    fn create_zeroed(&self, index: u64) -> Result<Option<Frame>> {
        let frame = Frame::alloc(AllocFlags::ZEROED)?;
        let placed = self.insert(index, &frame, FrameFlags::UPTODATE, Growth::WithinSize)?;
        Ok(placed.then_some(frame))
    }

    /// Waits for a page that is there and not complete, or tries once more to read it if nobody does. Returns whether it is complete now;
    /// if not, it has gone.
    ///
    /// Errors: `EIO` if reading it failed; `EINTR`, `ENOMEM`.
    fn wait_or_retry(&self, index: u64, frame: &Frame) -> Result<bool> {
        self.wait_until_filled(frame)?;
        let state = frame.state();
        if state.flags().contains(FrameFlags::UPTODATE) {
            return Ok(true);
        }
        let Some(cache_state) = self.state.as_ref().filter(|_| self.owns(frame)) else { return Ok(false) };
        if state.set_flags(FrameFlags::LOCKED).contains(FrameFlags::LOCKED) {
            // Another one tries already.
            return Ok(false);
        }
        if state.flags().contains(FrameFlags::UPTODATE) || !self.owns(frame) {
            state.clear_flags(FrameFlags::LOCKED);
            waiting_for(frame).wake_all();
            return Ok(false);
        }
        state.clear_flags(FRAME_FAILED);
        let mut frames = Vec::new();
        let fill = frames.try_reserve_exact(1).map_err(|_| Errno::ENOMEM).and_then(|()| {
            frames.push(frame.clone());
            Fill::new(cache_state, index, frames)
        });
        match fill {
            Ok(fill) => self.pager.read_pages(fill),
            Err(error) => {
                state.set_flags(FRAME_FAILED);
                state.clear_flags(FrameFlags::LOCKED);
                waiting_for(frame).wake_all();
                return Err(error);
            }
        }
        self.wait_until_filled(frame)?;
        if state.flags().contains(FRAME_FAILED) && self.owns(frame) { Err(Errno::EIO) } else { Ok(false) }
    }

    /// Waits while the page is being read.
    pub(super) fn wait_until_filled(&self, frame: &Frame) -> Result<()> {
        waiting_for(frame)
            .wait_until(WaitKind::Killable, None, || {
                let busy = frame.state().flags().contains(FrameFlags::LOCKED) && self.owns(frame);
                (!busy).then_some(())
            })
            .map_err(|_| Errno::EINTR)
    }

    /// Starts reading those of `count` pages from `first` on that are neither there nor behind the end, in runs as long as can be; does not
    /// wait. With [`Haste::Ahead`] it stops where memory is short. Who comes to page `mark` finds that more should be read ahead.
    ///
    /// Errors: `ENOMEM` if the first page could not be had.
    pub(super) fn start_fill(
        &self,
        state: &Arc<CacheState>,
        first: u64,
        count: usize,
        mark: Option<u64>,
        haste: Haste,
    ) -> Result<()> {
        let end = first.saturating_add(count as u64).min(pages_for(self.size()));
        let mut from = first;
        while from < end {
            let Some((start, length)) = self.missing_run(from, end) else { return Ok(()) };
            let result = self.fill_run(state, start, length, mark, haste);
            match result {
                Err(error) if haste == Haste::Awaited => return Err(error),
                Err(_) => return Ok(()),
                Ok(()) => {}
            }
            from = start + length as u64;
        }
        Ok(())
    }

    /// The first run of pages in `from..end` that are not there.
    fn missing_run(&self, from: u64, end: u64) -> Option<(u64, usize)> {
        let pages = self.pages.read();
        let start = pages.next_hole(from).filter(|start| *start < end)?;
        let past = pages.next(start, None).map_or(end, |(index, _)| index.min(end));
        Some((start, (past - start) as usize))
    }

    /// Makes pages for a run, puts them in and has the pager fill those that nobody else put in meanwhile.
    fn fill_run(
        &self,
        state: &Arc<CacheState>,
        first: u64,
        count: usize,
        mark: Option<u64>,
        haste: Haste,
    ) -> Result<()> {
        let mut frames = Vec::new();
        frames.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        let flags = if haste == Haste::Ahead { AllocFlags::NO_RECLAIM } else { AllocFlags::empty() };
        for _ in 0..count {
            match Frame::alloc(flags) {
                Ok(frame) => frames.push(frame),
                Err(_) if !frames.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        let marked =
            mark.and_then(|mark| mark.checked_sub(first)).and_then(|place| frames.get(place as usize));
        if let Some(frame) = marked {
            frame.state().set_flags(FRAME_READ_AHEAD);
        }
        let mut fill = Fill::new(state, first, frames)?;
        let placed = self.insert_locked(first, fill.frames());
        fill.keep_first(placed);
        if placed > 0 {
            stats::cached_pages(Retention::Reloadable).add(placed as u64);
            stats::PAGES_READ.add(placed as u64);
            self.list_blocks(first, placed);
            self.pager.read_pages(fill);
        }
        Ok(())
    }

    /// Puts frames in at consecutive indexes, locked, until one is there already or the file ends; returns how many.
    fn insert_locked(&self, first: u64, frames: &[Frame]) -> usize {
        let mut pages = self.pages.write();
        let end = pages_for(self.size.load(Ordering::Relaxed));
        for (place, frame) in frames.iter().enumerate() {
            let index = first + place as u64;
            if index >= end || pages.get(index).is_some() {
                return place;
            }
            let state = frame.state();
            state.index.store(index, Ordering::Relaxed);
            state.mapping.store(self.id, Ordering::Relaxed);
            state.set_flags(FrameFlags::LOCKED | FRAME_FILE);
            pages.insert(index, frame.clone());
        }
        frames.len()
    }
}

/// Whether somebody waits for what is read.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Haste {
    /// Somebody does.
    Awaited,
    /// It may be wanted soon: not worth reclaiming memory for.
    Ahead,
}
