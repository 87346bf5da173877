//! `msync(2)` and `mincore(2)`. Locks: see `crate::space`; writing back holds none.

use crate::map::page_align;
use crate::space::AddressSpace;
use crate::vma::{Vma, VmaFlags};
use abi::errno::{Errno, Result};
use abi::mman;
use core::ops::Range;
use machine::{PAGE_SIZE, USER_END};

/// How many pages `mincore` reports at a time.
const MINCORE_BATCH: usize = 256;

impl AddressSpace {
    /// `msync(2)`: writes shared file pages back (with `MS_SYNC`).
    ///
    /// Errors: `EINVAL` for bad flags or an unaligned address; `ENOMEM` for holes (the rest is done); `EBUSY` for
    /// `MS_INVALIDATE` on locked pages; `EIO` and the like from the file.
    pub fn msync(&self, address: usize, len: usize, flags: u32) -> Result<()> {
        let known = mman::MS_ASYNC | mman::MS_INVALIDATE | mman::MS_SYNC;
        let both = mman::MS_ASYNC | mman::MS_SYNC;
        if flags & !known != 0 || flags & both == both || !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = page_align(len).and_then(|len| address.checked_add(len)).ok_or(Errno::ENOMEM)?;
        let map = self.snapshot();
        let mut at = address;
        let mut result = Ok(());
        for (mapped, vma) in map.iter_range(address..end) {
            if mapped.start > at {
                result = Err(Errno::ENOMEM);
            }
            let part = mapped.start.max(address)..mapped.end.min(end);
            at = mapped.end;
            let locked = vma.flags().intersects(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
            if flags & mman::MS_INVALIDATE != 0 && locked {
                return Err(Errno::EBUSY);
            }
            if flags & mman::MS_SYNC != 0 && vma.is_shared() {
                sync_part(vma, part)?;
            }
        }
        if at < end { Err(Errno::ENOMEM) } else { result }
    }

    /// `mincore(2)`: hands `report` one byte for each page, 1 for resident, in batches.
    ///
    /// Errors: `EINVAL` for an unaligned address; `ENOMEM` for a hole or a range beyond the user half; what `report` says.
    pub fn mincore(
        &self,
        address: usize,
        len: usize,
        report: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = page_align(len)
            .and_then(|len| address.checked_add(len))
            .filter(|end| *end <= USER_END)
            .ok_or(Errno::ENOMEM)?;
        let mut at = address;
        while at < end {
            let vma = self.find_vma(at).ok_or(Errno::ENOMEM)?;
            let part_end = end.min(vma.end()).min(at + MINCORE_BATCH * PAGE_SIZE);
            let mut residency = [0; MINCORE_BATCH];
            for (place, page) in residency.iter_mut().zip((at..part_end).step_by(PAGE_SIZE)) {
                *place = u8::from(self.is_resident(&vma, page));
            }
            report(residency.get(..(part_end - at) / PAGE_SIZE).unwrap_or_default())?;
            at = part_end;
        }
        Ok(())
    }

    fn is_resident(&self, vma: &Vma, page: usize) -> bool {
        if let Some(slot) = self.page_table().swapped_at(page) {
            return crate::swap::is_in_memory(slot);
        }
        self.page_table().query(page).is_some()
            || vma.page_of(page).is_some_and(|(cache, index)| cache.lookup(index).is_some())
    }
}

fn sync_part(vma: &Vma, part: Range<usize>) -> Result<()> {
    let (Some(file), Some((_, first))) = (vma.file(), vma.page_of(part.start)) else { return Ok(()) };
    let start = first * PAGE_SIZE as u64;
    file.sync(start..start + (part.end - part.start) as u64)
}
