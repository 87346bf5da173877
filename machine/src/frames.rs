//! Raw pages for the backend: stacks and kernel page tables.

use crate::PAGE_SIZE;
use crate::memory::buddy::{self, Urgency};
pub(crate) use crate::memory::buddy::{MemoryRegion, add_region, init};
use crate::memory::{STACK_PAGES, copy};
use core::sync::atomic::Ordering;

/// One zeroed page; its physical address.
pub(crate) fn alloc_raw() -> Option<u64> {
    let number = buddy::alloc_page(Urgency::Normal).ok()?;
    // SAFETY: the page was just handed to us.
    unsafe {
        buddy::state_of(number).reset();
        copy::zero(buddy::page_address(number), PAGE_SIZE);
    }
    STACK_PAGES.fetch_add(1, Ordering::Relaxed);
    Some(u64::from(number) << crate::PAGE_SHIFT)
}

/// Gives a page of [`alloc_raw`] back.
///
/// # Safety
/// The page came from [`alloc_raw`] and nobody uses it any more.
#[cfg(target_os = "none")]
pub(crate) unsafe fn free_raw(address: u64) {
    STACK_PAGES.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the caller's contract.
    unsafe { buddy::free_page((address >> crate::PAGE_SHIFT) as u32) };
}
