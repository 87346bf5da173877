//! `mlock(2)` and its family, and bringing pages in ahead of use.
//!
//! There is no swap: a locked page differs from others only in that reclaim leaves it mapped. Locks: see
//! `crate::space`; populating takes none and faults page by page.

use crate::fault::{FaultError, FaultInfo};
use crate::map::page_align;
use crate::space::{AddressSpace, Edit, Limits, Privileges};
use crate::vma::{Protection, Vma, VmaFlags};
use abi::errno::{Errno, Result};
use abi::mman;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::Ordering;
use machine::PAGE_SIZE;
use machine::user::FaultAccess;

const LOCK_FLAGS: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCK_ON_FAULT);

/// What to do where nothing is mapped.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Holes {
    /// Stop: `ENOMEM`.
    Stop,
    /// Go on, and end with `ENOMEM`.
    SkipAndReport,
    /// Go on.
    Skip,
}

/// The pages that `len` bytes at `address` touch. Errors: `EINVAL` on overflow.
fn touched_pages(address: usize, len: usize) -> Result<Range<usize>> {
    let start = address & !(PAGE_SIZE - 1);
    let len = page_align(len.checked_add(address - start).ok_or(Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok(start..end)
}

/// Whether the caller may lock anything. Errors: `EPERM`.
fn may_lock(limits: &Limits) -> Result<()> {
    if limits.memlock == 0 && !limits.privileges.contains(Privileges::IPC_LOCK) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

impl AddressSpace {
    /// `mlock2(2)`: locks, with `MLOCK_ONFAULT` in `flags` only what is touched; without it brings everything in.
    ///
    /// Errors: `EINVAL` for unknown flags or overflow; `EPERM` without any right to lock; `ENOMEM` over the limit, for
    /// holes, or if a page cannot be had (`EAGAIN` for want of memory).
    pub fn mlock(&self, address: usize, len: usize, flags: u32, limits: &Limits) -> Result<()> {
        if flags & !mman::MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL);
        }
        may_lock(limits)?;
        let range = touched_pages(address, len)?;
        let mut new_flags = VmaFlags::LOCKED;
        if flags & mman::MLOCK_ONFAULT != 0 {
            new_flags |= VmaFlags::LOCK_ON_FAULT;
        }
        {
            let mut edit = self.edit();
            edit.check_lockable(&range, limits)?;
            edit.change_flags(range.clone(), Holes::Stop, |vma| relocked(vma, new_flags))?;
        }
        if new_flags.contains(VmaFlags::LOCK_ON_FAULT) {
            return Ok(());
        }
        self.populate_mapped(range).map_err(|error| match error {
            FaultError::OutOfMemory => Errno::EAGAIN,
            FaultError::Interrupted => Errno::EINTR,
            _ => Errno::ENOMEM,
        })
    }

    /// `munlock(2)`. Errors: `EINVAL` on overflow; `ENOMEM` at a hole.
    pub fn munlock(&self, address: usize, len: usize) -> Result<()> {
        let range = touched_pages(address, len)?;
        self.edit().change_flags(range, Holes::Stop, |vma| relocked(vma, VmaFlags::empty()))
    }

    /// `mlockall(2)`: `MCL_*` in `flags`.
    ///
    /// Errors: `EINVAL` for bad flags; `EPERM` without any right to lock; `ENOMEM` over the limit.
    pub fn mlockall(&self, flags: u32, limits: &Limits) -> Result<()> {
        let known = mman::MCL_CURRENT | mman::MCL_FUTURE | mman::MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == mman::MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        may_lock(limits)?;
        let mut lock = VmaFlags::LOCKED;
        if flags & mman::MCL_ONFAULT != 0 {
            lock |= VmaFlags::LOCK_ON_FAULT;
        }
        let mut edit = self.edit();
        let current = flags & mman::MCL_CURRENT != 0;
        if current && !limits.privileges.contains(Privileges::IPC_LOCK) {
            let total = self.totals.total.load(Ordering::Relaxed);
            if total as u64 > limits.memlock / PAGE_SIZE as u64 {
                return Err(Errno::ENOMEM);
            }
        }
        edit.state.default_flags = if flags & mman::MCL_FUTURE != 0 { lock } else { VmaFlags::empty() };
        if !current {
            return Ok(());
        }
        edit.change_flags(0..usize::MAX, Holes::Skip, |vma| relocked(vma, lock))?;
        let ranges: alloc::vec::Vec<_> = edit.state.map.iter().map(|(range, _)| range).collect();
        drop(edit);
        if !lock.contains(VmaFlags::LOCK_ON_FAULT) {
            for range in ranges {
                let _ = self.populate_mapped(range);
            }
        }
        Ok(())
    }

    /// `munlockall(2)`. Errors: `ENOMEM` never in practice: joining mappings needs no more of them.
    pub fn munlockall(&self) -> Result<()> {
        let mut edit = self.edit();
        edit.state.default_flags = VmaFlags::empty();
        edit.change_flags(0..usize::MAX, Holes::Skip, |vma| relocked(vma, VmaFlags::empty()))
    }

    /// Faults `range` in: to write where a private mapping may be written, else to read.
    pub(crate) fn populate_mapped(&self, range: Range<usize>) -> core::result::Result<(), FaultError> {
        let mut at = range.start;
        while at < range.end {
            let Some((mapped, vma)) = self.snapshot().find(at).map(|(r, vma)| (r, vma.clone())) else {
                break;
            };
            let part = mapped.start.max(at)..mapped.end.min(range.end);
            at = part.end.max(at + PAGE_SIZE);
            if vma.protection().is_none() || vma.flags().contains(VmaFlags::SPECIAL) {
                continue;
            }
            self.populate(part, vma.protection() - shared_write(&vma))?;
        }
        Ok(())
    }

    /// Faults every page of `range` in, to write if `protection` allows.
    pub(crate) fn populate(
        &self,
        range: Range<usize>,
        protection: Protection,
    ) -> core::result::Result<(), FaultError> {
        let access = if protection.contains(Protection::WRITE) {
            FaultAccess::WRITE
        } else if protection.is_none() {
            return Ok(());
        } else {
            FaultAccess::READ
        };
        self.fault_in_range(range, access)
    }

    /// Faults every page of `range` in for `access`.
    pub(crate) fn fault_in_range(
        &self,
        range: Range<usize>,
        access: FaultAccess,
    ) -> core::result::Result<(), FaultError> {
        for address in range.step_by(PAGE_SIZE) {
            let there = self.page_table().query(address).is_some_and(|mapping| {
                access != FaultAccess::WRITE || mapping.perms.contains(machine::memory::Perms::WRITE)
            });
            if !there {
                let fault = FaultInfo { address, access, present: false };
                self.handle_fault(&fault, || Limits { stack: 0, ..Limits::UNLIMITED })?;
            }
        }
        Ok(())
    }
}

/// The write right, if a store would dirty a file for nothing.
fn shared_write(vma: &Vma) -> Protection {
    if vma.is_shared() { Protection::WRITE } else { Protection::empty() }
}

fn relocked(vma: &Vma, lock: VmaFlags) -> VmaFlags {
    if vma.flags().contains(VmaFlags::SPECIAL) { vma.flags() } else { (vma.flags() - LOCK_FLAGS) | lock }
}

impl Edit<'_> {
    /// Whether `range` may be locked on top of what is. Errors: `ENOMEM`.
    fn check_lockable(&self, range: &Range<usize>, limits: &Limits) -> Result<()> {
        if limits.privileges.contains(Privileges::IPC_LOCK) {
            return Ok(());
        }
        let already: usize = self
            .state
            .map
            .iter_range(range.clone())
            .filter(|(_, vma)| vma.flags().intersects(LOCK_FLAGS))
            .map(|(r, _)| (r.end.min(range.end) - r.start.max(range.start)) / PAGE_SIZE)
            .sum();
        let wanted = self.space.totals.locked.load(Ordering::Relaxed) + (range.end - range.start) / PAGE_SIZE;
        if (wanted - already) as u64 > limits.memlock / PAGE_SIZE as u64 {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    /// Gives every mapping in `range` (cut at its ends) the flags that `change` says, and publishes.
    ///
    /// Errors: `ENOMEM` for holes, as `holes` says, and for too many mappings.
    pub(crate) fn change_flags(
        &mut self,
        range: Range<usize>,
        holes: Holes,
        change: impl Fn(&Vma) -> VmaFlags,
    ) -> Result<()> {
        let mut at = range.start;
        let mut result = Ok(());
        while at < range.end {
            let next: Option<Arc<Vma>> = self.state.map.find(at).map(|(_, vma)| vma.clone());
            let hole = next.as_ref().is_none_or(|vma| vma.start() > at);
            if hole && holes != Holes::Skip {
                result = Err(Errno::ENOMEM);
                if holes == Holes::Stop {
                    break;
                }
            }
            let Some(vma) = next.filter(|vma| vma.start() < range.end) else { break };
            let part = vma.start().max(at)..vma.end().min(range.end);
            at = part.end;
            let flags = change(&vma);
            if flags == vma.flags() {
                continue;
            }
            self.isolate(&part)?;
            let part = self.state.map.get(part.start).map(|(_, vma)| vma.clone());
            if let Some(part) = part {
                self.exchange(&part, part.protection(), flags);
            }
        }
        self.publish();
        result
    }
}
