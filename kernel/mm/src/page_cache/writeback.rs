//! Writing dirty pages back.
//!
//! A page is first made clean (mark and write permissions gone, so that a store during the transfer makes it dirty
//! again), then written. If writing fails it is dirty again and the error goes to the caller.

use super::{PageCache, Retention};
use crate::stats;
use abi::errno::Result;
use core::ops::Range;
use linnet_lib::radix_tree::Mark;
use machine::PAGE_SIZE;
use machine::memory::Frame;

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

    /// Writes one page back, if it is dirty.
    pub(crate) fn write_back(&self, index: u64, frame: &Frame) -> Result<()> {
        {
            let mut pages = self.pages.write();
            if pages.clear_mark(index, Mark::Dirty) != Some(true) {
                return Ok(());
            }
            pages.set_mark(index, Mark::Writeback);
        }
        stats::DIRTY_PAGES.sub(1);
        stats::WRITEBACK_PAGES.add(1);
        self.write_protect_page(index, frame);
        let result = self.pager.write_page(index, frame);
        self.pages.write().clear_mark(index, Mark::Writeback);
        stats::WRITEBACK_PAGES.sub(1);
        if result.is_err() {
            self.mark_dirty(index);
        }
        result
    }
}
