//! Choosing the address of a new mapping.
//!
//! A hint is taken if the place is free; else the highest hole below the mapping base, else the lowest above it. A hole
//! right below a growing stack loses the guard gap. O(log n) in the number of mappings. Locks: the caller's `Edit`.

use crate::layout::{MMAP_MINIMUM_ADDRESS, STACK_GUARD_BYTES};
use crate::space::{Edit, Limits, Privileges};
use crate::vma::VmaFlags;
use abi::errno::{Errno, Result};
use abi::mman;
use core::ops::Range;
use machine::{PAGE_SIZE, USER_END};

/// End of what `MAP_32BIT` may use, and its start.
const LOW_RANGE: Range<usize> = 0x4000_0000..0x8000_0000;

impl Edit<'_> {
    /// The address for `len` bytes (page aligned, not 0), by the rules of `mmap(2)` for `hint` and `flags`.
    ///
    /// Errors: `ENOMEM` if nothing is free or the range leaves the user half; `EINVAL` for a fixed address that is not
    /// page aligned; `EPERM` for one below the minimum; `EEXIST` if `MAP_FIXED_NOREPLACE` meets something.
    pub fn choose_address(&self, hint: usize, len: usize, flags: u32, limits: &Limits) -> Result<usize> {
        if len > USER_END {
            return Err(Errno::ENOMEM);
        }
        if flags & (mman::MAP_FIXED | mman::MAP_FIXED_NOREPLACE) != 0 {
            return self.check_fixed(hint, len, flags, limits);
        }
        let hint = if hint == 0 { 0 } else { hint.max(MMAP_MINIMUM_ADDRESS) };
        let hint = hint.checked_add(PAGE_SIZE - 1).unwrap_or(0) & !(PAGE_SIZE - 1);
        if hint != 0 && hint <= USER_END - len && self.is_free_with_guard(hint..hint + len) {
            return Ok(hint);
        }
        if flags & mman::MAP_32BIT != 0 {
            return self.gap_up(LOW_RANGE, len).ok_or(Errno::ENOMEM);
        }
        let base = self.state.layout.mmap_base;
        self.gap_down(MMAP_MINIMUM_ADDRESS..base, len)
            .or_else(|| self.gap_up(base..USER_END, len))
            .ok_or(Errno::ENOMEM)
    }

    fn check_fixed(&self, address: usize, len: usize, flags: u32, limits: &Limits) -> Result<usize> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if address > USER_END - len {
            return Err(Errno::ENOMEM);
        }
        if address < MMAP_MINIMUM_ADDRESS && !limits.privileges.contains(Privileges::RAW_IO) {
            return Err(Errno::EPERM);
        }
        if flags & mman::MAP_FIXED_NOREPLACE != 0 && self.state.map.overlaps(address..address + len) {
            return Err(Errno::EEXIST);
        }
        Ok(address)
    }

    fn is_free_with_guard(&self, range: Range<usize>) -> bool {
        match self.state.map.find(range.start) {
            None => true,
            Some((next, vma)) => {
                let guard = if vma.flags().contains(VmaFlags::GROWS_DOWN) { STACK_GUARD_BYTES } else { 0 };
                range.end <= next.start.saturating_sub(guard)
            }
        }
    }

    fn gap_down(&self, mut within: Range<usize>, len: usize) -> Option<usize> {
        loop {
            let at = self.state.map.find_gap_down(within.clone(), len, PAGE_SIZE)?;
            if self.is_free_with_guard(at..at + len) {
                return Some(at);
            }
            // Too close below a stack: leave its guard out of what is searched.
            let (stack, _) = self.state.map.find(at)?;
            let end = stack.start.checked_sub(STACK_GUARD_BYTES)?;
            if end >= within.end {
                return None;
            }
            within.end = end;
        }
    }

    fn gap_up(&self, mut within: Range<usize>, len: usize) -> Option<usize> {
        loop {
            let at = self.state.map.find_gap_up(within.clone(), len, PAGE_SIZE)?;
            if self.is_free_with_guard(at..at + len) {
                return Some(at);
            }
            within.start = self.state.map.find(at)?.0.end;
        }
    }
}
