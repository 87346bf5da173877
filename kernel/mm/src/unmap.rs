//! `munmap(2)`.
//!
//! Order: cut at the ends, take the mappings out, publish, take the pages out of the page table in one batch with one
//! TLB shootdown, and only then forget the reverse mappings and the promises. Locks: see `crate::space`.

use crate::space::{AddressSpace, Edit};
use abi::errno::{Errno, Result};
use core::ops::Range;
use machine::memory::TlbBatch;
use machine::{PAGE_SIZE, USER_END};

/// What one table page of the lowest level maps.
const TABLE_SPAN: usize = 2 << 20;

impl AddressSpace {
    /// Unmaps every page of `len` bytes from `address`; holes are no error.
    ///
    /// Errors: `EINVAL` for an unaligned address, length 0, or a range that leaves the user half; `ENOMEM` if cutting a
    /// mapping in two would make too many.
    pub fn munmap(&self, address: usize, len: usize) -> Result<()> {
        if !address.is_multiple_of(PAGE_SIZE) || address > USER_END || len > USER_END - address {
            return Err(Errno::EINVAL);
        }
        let len = super::map::page_align(len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        let end = address + len;
        if end > USER_END {
            return Err(Errno::EINVAL);
        }
        self.edit().unmap(address..end)
    }
}

impl Edit<'_> {
    /// Unmaps page-aligned `range`, and publishes. Errors: `ENOMEM` as [`AddressSpace::munmap`].
    pub fn unmap(&mut self, range: Range<usize>) -> Result<()> {
        if range.is_empty() || !self.state.map.overlaps(range.clone()) {
            return Ok(());
        }
        self.isolate(&range)?;
        let gone = self.mappings_in(&range);
        for vma in &gone {
            self.take(vma);
        }
        self.publish();
        // Only where something was mapped: a hole has no pages.
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            let hole = first.start()..last.end();
            self.space.zap(hole.clone());
            self.free_tables(hole);
        }
        self.release(&gone);
        Ok(())
    }

    /// Frees the table pages that served `hole` and serve nothing now: those whose 2 MiB lie between its neighbours.
    fn free_tables(&self, hole: Range<usize>) {
        let below = self.state.map.find_before(hole.start).map_or(0, |(range, _)| range.end);
        let above = self.state.map.find(hole.end - 1).map_or(USER_END, |(range, _)| range.start);
        let start = (hole.start & !(TABLE_SPAN - 1)).max(below.next_multiple_of(TABLE_SPAN));
        let end = hole.end.next_multiple_of(TABLE_SPAN).min(above & !(TABLE_SPAN - 1));
        if start < end {
            let table = self.space.page_table();
            table.free_tables(start..end, &mut TlbBatch::new(table));
        }
    }
}
