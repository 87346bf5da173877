//! `madvise(2)`.
//!
//! Advice that would need what is not built (same-page merging, guard markers, collapsing into huge pages) is `EINVAL`,
//! as on a Linux built without it. Whether a mapping wants huge pages is kept with it; there are none. Locks: see `crate::space`.

use crate::fault::FaultError;
use crate::lock::Holes;
use crate::map::page_align;
use crate::space::AddressSpace;
use crate::stats::FrameKind;
use crate::swap;
use crate::vma::{Protection, Vma, VmaFlags};
use abi::errno::{Errno, Result};
use abi::mman;
use alloc::sync::Arc;
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::{EntryAction, TlbBatch};
use machine::user::FaultAccess;

impl AddressSpace {
    /// `madvise(2)`: `MADV_*` in `advice` for the pages of `len` bytes from `address`.
    ///
    /// Errors: `EINVAL` for an unaligned address, unknown advice, or advice that does not suit the mapping; `ENOMEM` for
    /// holes (the rest is done); `EACCES` for `MADV_REMOVE` without write access; `EFAULT` from `MADV_POPULATE_*`.
    pub fn madvise(&self, address: usize, len: usize, advice: u32) -> Result<()> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let Some(action) = Action::of(advice) else { return Err(Errno::EINVAL) };
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = address.checked_add(len).ok_or(Errno::EINVAL)?;
        if len == 0 {
            return Ok(());
        }
        match action {
            Action::Flags(change) => self.advise_flags(address..end, change),
            Action::Populate(access) => self.advise_populate(address..end, access),
            Action::Pages(act) => self.advise_pages(address..end, act),
        }
    }

    fn advise_flags(&self, range: Range<usize>, change: FlagChange) -> Result<()> {
        let mut edit = self.edit();
        if edit.mappings_in(&range).iter().any(|vma| !change.suits(vma)) {
            return Err(Errno::EINVAL);
        }
        edit.change_flags(range, Holes::SkipAndReport, |vma| (vma.flags() - change.remove) | change.add)
    }

    fn advise_populate(&self, range: Range<usize>, access: FaultAccess) -> Result<()> {
        let map = self.snapshot();
        let mut at = range.start;
        while at < range.end {
            let Some((mapped, vma)) = map.get(at) else { return Err(Errno::ENOMEM) };
            if vma.flags().contains(VmaFlags::SPECIAL) {
                return Err(Errno::EINVAL);
            }
            let part = at..mapped.end.min(range.end);
            at = part.end;
            self.fault_in_range(part, access).map_err(|error| match error {
                FaultError::AccessDenied => Errno::EINVAL,
                FaultError::OutOfMemory | FaultError::NotMapped => Errno::ENOMEM,
                FaultError::Interrupted => Errno::EINTR,
                FaultError::BusError => Errno::EFAULT,
            })?;
        }
        Ok(())
    }

    /// Does something to the pages of each mapping. The map may change meanwhile, as on Linux: each step tests again.
    fn advise_pages(&self, range: Range<usize>, act: PageAction) -> Result<()> {
        let state = self.state.read();
        let mut at = range.start;
        let mut result = Ok(());
        let mut holes_to_punch = alloc::vec::Vec::new();
        for (mapped, vma) in state.map.iter_range(range.clone()) {
            if mapped.start > at {
                result = Err(Errno::ENOMEM);
            }
            let part = mapped.start.max(range.start)..mapped.end.min(range.end);
            at = mapped.end;
            match act {
                PageAction::Drop(Locked::Refuse) | PageAction::Free if is_locked(vma) => {
                    return Err(Errno::EINVAL);
                }
                _ if vma.flags().contains(VmaFlags::SPECIAL) => return Err(Errno::EINVAL),
                PageAction::Drop(_) => self.zap(part),
                PageAction::Free if !vma.is_anonymous() => return Err(Errno::EINVAL),
                PageAction::Free => self.zap(part),
                PageAction::Cool => self.cool(part),
                PageAction::PageOut => self.page_out(vma, part),
                PageAction::Remove => {
                    may_remove(vma)?;
                    holes_to_punch.push((vma.clone(), part));
                }
                PageAction::ReadAhead => self.read_ahead(vma, part),
            }
        }
        if at < range.end {
            result = Err(Errno::ENOMEM);
        }
        drop(state);
        for (vma, part) in holes_to_punch {
            punch(&vma, part)?;
        }
        result
    }

    /// `MADV_COLD`: forgets that the pages have been used.
    fn cool(&self, range: Range<usize>) {
        let mut batch = TlbBatch::new(self.page_table());
        self.page_table().update_range(range, &mut batch, |_, mapping| {
            if mapping.accessed { EntryAction::Age } else { EntryAction::Keep }
        });
    }

    /// `MADV_PAGEOUT`: unmaps what can be faulted in again from its file, and has private pages leave memory.
    fn page_out(&self, vma: &Vma, range: Range<usize>) {
        let mut batch = TlbBatch::new(self.page_table());
        self.page_table().update_range(range.clone(), &mut batch, |_, mapping| {
            if FrameKind::of(mapping.frame) != FrameKind::File {
                return EntryAction::Keep;
            }
            self.count_unmapped(mapping.frame);
            EntryAction::Unmap
        });
        drop(batch);
        match vma.page_of(range.start) {
            Some((cache, first)) if vma.is_shared() => {
                swap::out::page_out_file(cache, first..first + (range.len() / PAGE_SIZE) as u64);
            }
            _ => swap::out::page_out(self, range),
        }
    }

    /// `MADV_WILLNEED`: brings file pages into the cache, and begins to bring private pages back from swap space. Errors are left for the
    /// access to find.
    fn read_ahead(&self, vma: &Vma, range: Range<usize>) {
        if vma.may_hold_anonymous() {
            let _ = swap::entries::for_each(
                self,
                range.clone(),
                |_| true,
                |_, slot| {
                    swap::read_ahead(slot);
                    Ok(())
                },
            );
        }
        let Some((cache, first)) = vma.page_of(range.start) else { return };
        let start = first * PAGE_SIZE as u64;
        cache.will_need(start..start + (range.end - range.start) as u64);
    }
}

/// What a piece of advice asks for.
enum Action {
    Flags(FlagChange),
    Populate(FaultAccess),
    Pages(PageAction),
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Locked {
    Refuse,
    Include,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum PageAction {
    /// Unmap: anonymous memory becomes zeros, files are read again.
    Drop(Locked),
    /// `MADV_FREE`: the same, at once (Linux may do it later).
    Free,
    Cool,
    PageOut,
    Remove,
    ReadAhead,
}

/// Flags to take and to give, and for which mappings that makes sense.
struct FlagChange {
    remove: VmaFlags,
    add: VmaFlags,
    only: Suits,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Suits {
    Everything,
    NotSpecial,
    PrivateAnonymous,
    NotDroppable,
}

impl FlagChange {
    fn suits(&self, vma: &Vma) -> bool {
        match self.only {
            Suits::Everything => true,
            Suits::NotSpecial => !vma.flags().contains(VmaFlags::SPECIAL),
            Suits::PrivateAnonymous => vma.is_anonymous(),
            Suits::NotDroppable => !vma.flags().contains(VmaFlags::DROPPABLE),
        }
    }
}

impl Action {
    fn of(advice: u32) -> Option<Action> {
        let none = VmaFlags::empty();
        let reading = VmaFlags::SEQUENTIAL_READ | VmaFlags::RANDOM_READ;
        let flags = |remove, add, only| Some(Action::Flags(FlagChange { remove, add, only }));
        match advice {
            mman::MADV_NORMAL => flags(reading, none, Suits::Everything),
            mman::MADV_RANDOM => flags(reading, VmaFlags::RANDOM_READ, Suits::Everything),
            mman::MADV_SEQUENTIAL => flags(reading, VmaFlags::SEQUENTIAL_READ, Suits::Everything),
            mman::MADV_DONTFORK => flags(none, VmaFlags::DONT_FORK, Suits::Everything),
            mman::MADV_DOFORK => flags(VmaFlags::DONT_FORK, none, Suits::NotSpecial),
            mman::MADV_WIPEONFORK => flags(none, VmaFlags::WIPE_ON_FORK, Suits::PrivateAnonymous),
            mman::MADV_KEEPONFORK => flags(VmaFlags::WIPE_ON_FORK, none, Suits::NotDroppable),
            mman::MADV_DONTDUMP => flags(none, VmaFlags::DONT_DUMP, Suits::Everything),
            mman::MADV_DODUMP => flags(VmaFlags::DONT_DUMP, none, Suits::NotSpecial),
            mman::MADV_HUGEPAGE => flags(VmaFlags::NO_HUGE_PAGES, VmaFlags::HUGE_PAGES, Suits::Everything),
            mman::MADV_NOHUGEPAGE => flags(VmaFlags::HUGE_PAGES, VmaFlags::NO_HUGE_PAGES, Suits::Everything),
            mman::MADV_POPULATE_READ => Some(Action::Populate(FaultAccess::READ)),
            mman::MADV_POPULATE_WRITE => Some(Action::Populate(FaultAccess::WRITE)),
            mman::MADV_DONTNEED => Some(Action::Pages(PageAction::Drop(Locked::Refuse))),
            mman::MADV_DONTNEED_LOCKED => Some(Action::Pages(PageAction::Drop(Locked::Include))),
            mman::MADV_FREE => Some(Action::Pages(PageAction::Free)),
            mman::MADV_COLD => Some(Action::Pages(PageAction::Cool)),
            mman::MADV_PAGEOUT => Some(Action::Pages(PageAction::PageOut)),
            mman::MADV_REMOVE => Some(Action::Pages(PageAction::Remove)),
            mman::MADV_WILLNEED => Some(Action::Pages(PageAction::ReadAhead)),
            _ => None,
        }
    }
}

fn is_locked(vma: &Vma) -> bool {
    vma.flags().intersects(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT)
}

/// Whether `MADV_REMOVE` may free pages of the file. Errors: `EINVAL`, `EACCES`.
fn may_remove(vma: &Vma) -> Result<()> {
    if is_locked(vma) || vma.file().is_none() {
        return Err(Errno::EINVAL);
    }
    if !vma.is_shared() || !vma.protection().contains(Protection::WRITE) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

fn punch(vma: &Arc<Vma>, part: Range<usize>) -> Result<()> {
    let Some((cache, first)) = vma.page_of(part.start) else { return Err(Errno::EINVAL) };
    let start = first * PAGE_SIZE as u64;
    cache.punch_hole(start..start + (part.end - part.start) as u64)
}
