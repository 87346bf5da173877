//! swapoff(2): everything that lies in an area comes back into memory.
//!
//! No slot is given out any more; then all address spaces are walked over for entries that stand for the area's slots, each of which gets its page,
//! again and again until no slot is used: a fork may have copied entries to where the walk had been. Locks: the caller holds [`super::CHANGES`].

use super::area::Area;
use super::{entries, is_in_memory};
use crate::page_cache::for_each_cache;
use crate::space::AddressSpace;
use crate::stats;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use machine::sync::WaitKind;
use machine::time::now_ns;

/// How long to wait when a walk found nothing (those who want the pages are being born or dying), or for somebody who looks at an area, ns.
pub(super) const PAUSE_NS: u64 = 5_000_000;

fn is_interrupted() -> bool {
    sched::thread::try_current().is_some_and(|own| own.is_interrupted(WaitKind::Interruptible))
}

/// Empties an area. Errors: see [`super::swap_off`].
pub(super) fn empty_area(area: &Arc<Area>) -> Result<()> {
    area.set_open(false);
    let result = empty(area);
    if result.is_err() {
        area.set_open(true);
    }
    result
}

fn empty(area: &Area) -> Result<()> {
    if area.used_pages() > stats::available_pages() + super::FREE_PAGES.get() {
        return Err(Errno::ENOMEM);
    }
    loop {
        give_up_unwanted(area);
        let before = area.used_pages();
        if before == 0 {
            return Ok(());
        }
        let mut result = Ok(());
        crate::oom::for_each_space(&mut |space| {
            if result.is_ok() {
                result = bring_back(area, &space);
            }
        });
        result?;
        for_each_cache(&mut |cache| cache.bring_all_in(|slot| super::area::parts(slot).0 == area.number()))?;
        give_up_unwanted(area);
        if area.used_pages() == before {
            sched::park(Some(now_ns().saturating_add(PAUSE_NS)), WaitKind::Interruptible);
        }
        if is_interrupted() {
            return Err(Errno::EINTR);
        }
    }
}

/// Slots of which only the frame is left become free.
fn give_up_unwanted(area: &Area) {
    for page in 0..area.pages() {
        drop(area.give_up(page));
    }
}

/// Brings the pages of one address space back. Errors: `ENOMEM`, `EINTR`.
fn bring_back(area: &Area, space: &Arc<AddressSpace>) -> Result<()> {
    let is_here = |slot| super::area::parts(slot).0 == area.number();
    for (mapped, _) in space.snapshot().iter() {
        entries::for_each(space, mapped, is_here, |address, slot| {
            if is_interrupted() && !is_in_memory(slot) {
                return Err(Errno::EINTR);
            }
            match space.bring_in(address, slot) {
                // Who wants it will find out.
                Ok(()) | Err(Errno::EIO) => Ok(()),
                Err(error) => Err(error),
            }
        })?;
    }
    Ok(())
}
