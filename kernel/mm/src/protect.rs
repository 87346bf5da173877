//! `mprotect(2)`.
//!
//! Taking rights away changes page-table entries at once; giving them is left to faults, except where a private page
//! is surely the program's own. Locks: see `crate::space`.

use crate::commit;
use crate::map::{IsSharedAnonymous, needs_commit, page_align};
use crate::page_cache::Retention;
use crate::space::{AddressSpace, Edit, IsData, Limits};
use crate::stats::FrameKind;
use crate::vma::{Protection, Vma, VmaFlags};
use abi::errno::{Errno, Result};
use abi::mman;
use alloc::sync::Arc;
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::{MappingRef, Perms, TlbBatch};

impl AddressSpace {
    /// `mprotect(2)`: gives every page of `len` bytes from `address` the protection `PROT_*` in `protection`.
    ///
    /// Errors: `EINVAL` for an unaligned address, unknown bits, or both or misplaced `PROT_GROWS*`; `ENOMEM` if part of
    /// the range is not mapped (what lies before the hole is changed), for too many mappings, and for limits and
    /// commitment; `EACCES` if the file was not opened for it.
    pub fn mprotect(&self, address: usize, len: usize, protection: u32, limits: &Limits) -> Result<()> {
        self.mprotect_with_key(address, len, protection, None, limits)
    }

    /// `pkey_mprotect(2)`: the same, and with a key the pages get that protection key (without, they keep theirs).
    ///
    /// Errors: those of [`AddressSpace::mprotect`]; `EINVAL` for a key that is not allocated.
    pub fn mprotect_with_key(
        &self,
        address: usize,
        len: usize,
        protection: u32,
        key: Option<u8>,
        limits: &Limits,
    ) -> Result<()> {
        let grows = protection & (mman::PROT_GROWSDOWN | mman::PROT_GROWSUP);
        let bits = protection & !(mman::PROT_GROWSDOWN | mman::PROT_GROWSUP | mman::PROT_SEM);
        if grows == mman::PROT_GROWSDOWN | mman::PROT_GROWSUP || !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = page_align(len).ok_or(Errno::ENOMEM)?;
        let end = address.checked_add(len).filter(|end| *end > address).ok_or(Errno::ENOMEM)?;
        let wanted = Protection::from_bits(bits).filter(|wanted| Protection::ALL.contains(*wanted));
        let wanted = wanted.ok_or(Errno::EINVAL)?;
        let mut edit = self.edit();
        if key.is_some_and(|key| !edit.state.keys.is_allocated(key)) {
            return Err(Errno::EINVAL);
        }
        let start = match edit.state.map.find(address) {
            Some((range, _)) if grows == 0 && range.start > address => return Err(Errno::ENOMEM),
            Some((range, vma)) if grows == mman::PROT_GROWSDOWN => {
                if range.start >= end {
                    return Err(Errno::ENOMEM);
                }
                if !vma.flags().contains(VmaFlags::GROWS_DOWN) {
                    return Err(Errno::EINVAL);
                }
                range.start
            }
            Some(_) if grows == 0 => address,
            Some(_) => return Err(Errno::EINVAL),
            None => return Err(Errno::ENOMEM),
        };
        edit.protect(start..end, wanted, key, limits)
    }
}

impl Edit<'_> {
    fn protect(
        &mut self,
        range: Range<usize>,
        wanted: Protection,
        key: Option<u8>,
        limits: &Limits,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let Some(vma) = self.state.map.get(at).map(|(_, vma)| vma.clone()) else {
                return Err(Errno::ENOMEM);
            };
            let part = at..vma.end().min(range.end);
            at = part.end;
            let wanted = wanted.with_key(key.unwrap_or(vma.protection().key()));
            self.protect_one(&vma, part, wanted, limits)?;
        }
        Ok(())
    }

    /// Protects the part `range` of one mapping.
    fn protect_one(
        &mut self,
        vma: &Arc<Vma>,
        range: Range<usize>,
        wanted: Protection,
        limits: &Limits,
    ) -> Result<()> {
        if vma.protection() == wanted {
            return Ok(());
        }
        let may = [
            (Protection::READ, VmaFlags::MAY_READ),
            (Protection::WRITE, VmaFlags::MAY_WRITE),
            (Protection::EXEC, VmaFlags::MAY_EXEC),
        ];
        if may.iter().any(|(right, flag)| wanted.contains(*right) && !vma.flags().contains(*flag)) {
            return Err(Errno::EACCES);
        }
        let pages = (range.end - range.start) / PAGE_SIZE;
        let mut flags = vma.flags();
        let was_data = vma.is_data();
        let becomes_data = Vma::new(range.clone(), wanted, flags, vma.backing().clone()).is_data();
        if becomes_data && !was_data {
            self.check_expansion_of_data(pages, limits)?;
        }
        self.check_map_count(2)?;
        let accounted = flags.contains(VmaFlags::ACCOUNTED);
        if !accounted && !vma.is_shared() && needs_commit(wanted, flags, IsSharedAnonymous::No) {
            commit::charge(pages)?;
            flags |= VmaFlags::ACCOUNTED;
        }
        self.isolate(&range)?;
        let Some(part) = self.state.map.get(range.start).map(|(_, vma)| vma.clone()) else { return Ok(()) };
        let new = self.exchange(&part, wanted, flags);
        self.publish();
        let mut batch = TlbBatch::new(self.space.page_table());
        self.space.page_table().protect_range(range, &mut batch, |_, mapping| new_perms(&new, &mapping));
        Ok(())
    }

    /// Whether `pages` that are mapped already may become data. Errors: `ENOMEM`.
    fn check_expansion_of_data(&self, pages: usize, limits: &Limits) -> Result<()> {
        let unlimited_size = Limits { address_space: u64::MAX, ..*limits };
        self.check_expansion(pages, IsData::Yes, &unlimited_size)
    }
}

/// What an existing entry allows after `vma` got a new protection.
fn new_perms(vma: &Vma, mapping: &MappingRef<'_>) -> Perms {
    let allowed = vma.protection().perms();
    if !allowed.contains(Perms::WRITE) {
        return allowed;
    }
    let own = match FrameKind::of(mapping.frame) {
        FrameKind::Anonymous => !vma.is_shared() && mapping.frame.ref_count() == 1,
        FrameKind::Shmem => vma.is_shared() && is_only_copy(vma),
        FrameKind::File | FrameKind::Uncounted => false,
    };
    if own { allowed } else { allowed - Perms::WRITE }
}

fn is_only_copy(vma: &Vma) -> bool {
    vma.page_of(vma.start()).is_some_and(|(cache, _)| cache.retention() == Retention::OnlyCopy)
}
