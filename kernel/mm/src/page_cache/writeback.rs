//! Writing dirty pages back.
//!
//! A page is first made clean (mark and write permissions gone, so that a store during the transfer makes it dirty
//! again), then written. If writing fails it is dirty again and the error goes to the caller.

use super::pager::{WriteBack, WriteBackMode};
use super::{FRAME_POSTPONED, PageCache, Retention, Seen};
use crate::stats;
use abi::errno::Result;
use alloc::vec;
use core::ops::Range;
use linnet_lib::radix_tree::Mark;
use machine::PAGE_SIZE;
use machine::memory::{Frame, FrameFlags};
use machine::sync::WaitKind;

impl PageCache {
    /// Writes all dirty pages that `range` of bytes touches to the backing store and waits for it.
    ///
    /// Errors: the pager's first, `EIO` or `ENOSPC`; later pages are tried all the same.
    pub fn sync(&self, range: Range<u64>) -> Result<()> {
        if self.retention == Retention::OnlyCopy {
            return Ok(());
        }
        let mut from = range.start / PAGE_SIZE as u64;
        let mut result = Ok(());
        loop {
            let next = self.pages.read().next(from, Some(Mark::Dirty)).map(|(i, frame)| (i, frame.clone()));
            let Some((index, frame)) = next.filter(|(i, _)| i.saturating_mul(PAGE_SIZE as u64) < range.end)
            else {
                return result;
            };
            let written = self.write_back(index, &frame);
            if result.is_ok() {
                result = written;
            }
            from = index + 1;
        }
    }

    /// Writes one page back, if it is dirty, and waits for it.
    pub(crate) fn write_back(&self, index: u64, frame: &Frame) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let batch = WriteBack::new(state, index, vec![frame.clone()], self.size(), WriteBackMode::Sync)?;
        {
            let mut pages = self.pages.write();
            if pages.clear_mark(index, Mark::Dirty) != Some(true) {
                batch.forget();
                return Ok(());
            }
            pages.set_mark(index, Mark::Writeback);
            frame.state().set_flags(FrameFlags::WRITEBACK);
        }
        stats::DIRTY_PAGES.sub(1);
        stats::WRITEBACK_PAGES.add(1);
        state.note_started(1);
        self.write_protect_page(index, frame);
        let seen = Seen::new();
        state.errors.sample(&seen);
        self.pager.write_pages(batch);
        self.wait_until_written(frame);
        let mut pages = self.pages.write();
        pages.clear_mark(index, Mark::Writeback);
        drop(pages);
        if frame.state().clear_flags(FRAME_POSTPONED).contains(FRAME_POSTPONED) {
            self.mark_dirty(index);
        }
        state.errors.check(&seen)
    }

    /// Waits while the page is being written.
    pub(super) fn wait_until_written(&self, frame: &Frame) {
        let _ = super::waiting_for(frame).wait_until(WaitKind::Uninterruptible, None, || {
            (!frame.state().flags().contains(FrameFlags::WRITEBACK)).then_some(())
        });
    }
}
