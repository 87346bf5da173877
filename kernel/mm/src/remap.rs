//! `mremap(2)`: shrink, grow in place, or move a mapping.
//!
//! A move takes the VMA out (faults wait), carries the page-table entries over while the file's reverse map is frozen
//! (so that truncation finds each page in the one place or the other), and puts the VMA in at its new place.

use crate::commit;
use crate::map::page_align;
use crate::space::{AddressSpace, Edit, IsData, Limits};
use crate::vma::{Vma, VmaFlags};
use abi::errno::{Errno, Result};
use abi::mman;
use alloc::sync::Arc;
use core::ops::Range;
use machine::memory::TlbBatch;
use machine::{PAGE_SIZE, USER_END};

/// The arguments of `mremap(2)`, lengths page aligned.
struct Request {
    old: usize,
    old_len: usize,
    new_len: usize,
    flags: u32,
    new_address: usize,
}

impl Request {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

impl AddressSpace {
    /// `mremap(2)`; returns where the mapping is then.
    ///
    /// Errors: `EINVAL` for bad flags, lengths and addresses; `EFAULT` if the old range is not one mapping; `ENOMEM` if it
    /// cannot grow where it is and may not move, and for limits; `EAGAIN` over `RLIMIT_MEMLOCK`.
    pub fn mremap(
        &self,
        old: usize,
        old_len: usize,
        new_len: usize,
        flags: u32,
        new_address: usize,
        limits: &Limits,
    ) -> Result<usize> {
        let old_len = page_align(old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_align(new_len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        let request = Request { old, old_len, new_len, flags, new_address };
        check(&request)?;
        let mut edit = self.edit();
        let at = edit.remap(&request, limits)?;
        let locked = edit.state.map.get(at).is_some_and(|(_, vma)| {
            vma.flags() & (VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT) == VmaFlags::LOCKED
        });
        drop(edit);
        if locked && new_len > old_len {
            let _ = self.populate_mapped(at + old_len..at + new_len);
        }
        Ok(at)
    }
}

/// What can be seen to be wrong without the map. Errors: `EINVAL`.
fn check(request: &Request) -> Result<()> {
    let known = mman::MREMAP_MAYMOVE | mman::MREMAP_FIXED | mman::MREMAP_DONTUNMAP;
    let moves = request.has(mman::MREMAP_MAYMOVE);
    let fixed = request.has(mman::MREMAP_FIXED);
    let dont_unmap = request.has(mman::MREMAP_DONTUNMAP);
    let bad_flags = request.flags & !known != 0
        || (fixed || dont_unmap) && !moves
        || dont_unmap && request.old_len != request.new_len;
    let bad_old =
        !request.old.is_multiple_of(PAGE_SIZE) || request.old.checked_add(request.old_len).is_none();
    if bad_flags || bad_old || request.new_len > USER_END {
        return Err(Errno::EINVAL);
    }
    if fixed {
        let new = request.new_address;
        let bad_new = !new.is_multiple_of(PAGE_SIZE) || new > USER_END - request.new_len;
        let overlaps =
            request.old < new.saturating_add(request.new_len) && new < request.old + request.old_len;
        if bad_new || overlaps {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

impl Edit<'_> {
    fn remap(&mut self, request: &Request, limits: &Limits) -> Result<usize> {
        let vma = self.state.map.get(request.old).map(|(_, vma)| vma.clone()).ok_or(Errno::EFAULT)?;
        if request.has(mman::MREMAP_FIXED) || request.has(mman::MREMAP_DONTUNMAP) {
            return self.remap_to(&vma, request, limits);
        }
        if request.old_len >= request.new_len {
            // Linux lets the tail run over several mappings here.
            self.unmap(request.old + request.new_len..request.old + request.old_len)?;
            return Ok(request.old);
        }
        check_resize(&vma, request)?;
        let at_end = vma.end() == request.old + request.old_len;
        if at_end && request.old_len > 0 && self.grow_in_place(&vma, request, limits)? {
            return Ok(request.old);
        }
        if !request.has(mman::MREMAP_MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        self.check_growth(&vma, request.new_len - request.old_len, limits)?;
        let to = self.choose_address(0, request.new_len, 0, limits)?;
        self.move_mapping(request, to)
    }

    /// `MREMAP_FIXED` and `MREMAP_DONTUNMAP`.
    fn remap_to(&mut self, vma: &Vma, request: &Request, limits: &Limits) -> Result<usize> {
        self.check_map_count(3)?;
        let old_end = request.old + request.old_len;
        let request = &Request { old_len: request.old_len.min(request.new_len), ..*request };
        check_resize(vma, request)?;
        let to = if request.has(mman::MREMAP_FIXED) {
            // The lowest addresses need a privilege here too.
            self.choose_address(request.new_address, request.new_len, mman::MAP_FIXED, limits)?
        } else {
            self.choose_address(request.new_address, request.new_len, 0, limits)?
        };
        if request.has(mman::MREMAP_FIXED) {
            self.unmap(to..to + request.new_len)?;
        }
        self.unmap(request.old + request.old_len..old_end)?;
        let kept = if request.has(mman::MREMAP_DONTUNMAP) { request.old_len } else { 0 };
        self.check_growth(vma, request.new_len - request.old_len + kept, limits)?;
        self.move_mapping(request, to)
    }

    /// Whether `more` bytes of a mapping like `vma` are allowed. Errors: `ENOMEM`, `EAGAIN`.
    fn check_growth(&self, vma: &Vma, more: usize, limits: &Limits) -> Result<()> {
        self.check_map_count(3)?;
        self.check_lock_limit(more / PAGE_SIZE, vma.flags(), 0, limits)?;
        self.check_expansion(more / PAGE_SIZE, IsData::of(vma), limits)
    }

    /// Grows `vma` at its end if there is room; returns whether it did. Errors: `ENOMEM`, `EAGAIN`.
    fn grow_in_place(&mut self, vma: &Arc<Vma>, request: &Request, limits: &Limits) -> Result<bool> {
        let more = request.new_len - request.old_len;
        let Some(end) = vma.end().checked_add(more).filter(|end| *end <= USER_END) else { return Ok(false) };
        if self.state.map.overlaps(vma.end()..end) {
            return Ok(false);
        }
        self.check_growth(vma, more, limits)?;
        if vma.flags().contains(VmaFlags::ACCOUNTED) {
            commit::charge(more / PAGE_SIZE)?;
        }
        self.take(vma);
        self.put(vma.with_range(vma.start()..end));
        self.publish();
        Ok(true)
    }

    /// Moves (or, from length 0, duplicates) the range to the free place `to`, with its new length.
    fn move_mapping(&mut self, request: &Request, to: usize) -> Result<usize> {
        let old = request.old..request.old + request.old_len;
        let keeps_old = request.has(mman::MREMAP_DONTUNMAP) || request.old_len == 0;
        let charge_len = if keeps_old { request.new_len } else { request.new_len - request.old_len };
        let vma = self.state.map.get(request.old).map(|(_, vma)| vma.clone()).ok_or(Errno::EFAULT)?;
        let charged = if vma.flags().contains(VmaFlags::ACCOUNTED) { charge_len / PAGE_SIZE } else { 0 };
        commit::charge(charged)?;
        self.isolate(&old).inspect_err(|_| commit::uncharge(charged))?;
        let vma = self.state.map.get(request.old).map(|(_, vma)| vma.clone()).ok_or(Errno::EFAULT)?;
        let moved = vma.with_range(old.start..old.start + request.new_len).moved_to(to);
        if request.old_len == 0 {
            self.put(moved);
            self.publish();
            return Ok(to);
        }
        self.take(&vma);
        self.publish();
        if let Err(error) = self.carry_pages(&vma, &moved, old.clone()) {
            commit::uncharge(charged);
            self.put(vma.with_rights(vma.protection(), vma.flags()));
            self.publish();
            return Err(error);
        }
        self.space.unregister(&vma);
        if request.has(mman::MREMAP_DONTUNMAP) {
            let flags = vma.flags() - (VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
            self.put(vma.with_rights(vma.protection(), flags));
        }
        self.put(moved);
        self.publish();
        Ok(to)
    }

    /// Carries the page-table entries of `old` over to where `moved` will be. Errors: `ENOMEM`; they are back then.
    fn carry_pages(&self, vma: &Vma, moved: &Vma, old: Range<usize>) -> Result<()> {
        let to = moved.start();
        let len = old.end - old.start;
        self.space.register(moved);
        let frozen = vma.page_of(vma.start()).map(|(cache, _)| cache.clone());
        let guard = frozen.as_ref().map(|cache| cache.freeze_mappings());
        let table = self.space.page_table();
        let mut batch = TlbBatch::new(table);
        let result = table.move_range(old.clone(), to, &mut batch);
        if result.is_err() {
            // The tables on this side exist: this cannot fail for want of memory.
            let _ = table.move_range(to..to + len, old.start, &mut batch);
        }
        drop(guard);
        batch.flush();
        if result.is_err() {
            self.space.unregister(moved);
        }
        Ok(result?)
    }
}

/// Whether the range is one mapping that may get the new length. Errors: `EINVAL`, `EFAULT`.
fn check_resize(vma: &Vma, request: &Request) -> Result<()> {
    if request.old_len == 0 && !vma.is_shared() {
        return Err(Errno::EINVAL);
    }
    let special = vma.flags().contains(VmaFlags::SPECIAL);
    if request.has(mman::MREMAP_DONTUNMAP) && special {
        return Err(Errno::EINVAL);
    }
    if request.old_len > vma.end() - request.old || special && request.new_len > request.old_len {
        return Err(Errno::EFAULT);
    }
    let first = vma.file_offset() / PAGE_SIZE as u64;
    if first.checked_add((request.new_len / PAGE_SIZE) as u64).is_none() {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
