//! Frames and page tables of the host backend: RAM is one anonymous mapping, tables are walked in software.

use crate::frames::MemoryRegion;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::Once;

pub(crate) const PTE_PRESENT: u64 = 1;
pub(crate) const PTE_WRITE: u64 = 2;
pub(crate) const PTE_USER: u64 = 4;
pub(crate) const PTE_ACCESSED: u64 = 1 << 5;
pub(crate) const PTE_DIRTY: u64 = 1 << 6;
pub(crate) const PTE_NO_EXEC: u64 = 1 << 63;
pub(crate) const PTE_ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Bytes of simulated RAM; the host gives pages as they are touched.
const RAM_BYTES: usize = 512 << 20;
/// Where it begins is a multiple of this, as of real RAM.
const ALIGNMENT: usize = 2 << 20;
static BASE: AtomicUsize = AtomicUsize::new(0);
static ROOT: AtomicUsize = AtomicUsize::new(0);
static STARTED: Once = Once::new();

/// Gives the allocators their RAM at the first use.
pub(crate) fn ensure_memory() {
    STARTED.call_once(|| {
        // More than the host's heap aligns to would make it write zeroes over all of it.
        let layout = Layout::from_size_align(RAM_BYTES + ALIGNMENT, 16).unwrap_or(Layout::new::<u8>());
        // SAFETY: the layout has a size.
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null(), "no memory for the simulated RAM");
        BASE.store(base.expose_provenance().next_multiple_of(ALIGNMENT), Ordering::Release);
        let region = MemoryRegion { start: 0x1000, end: RAM_BYTES as u64 };
        // SAFETY: the mapping is ours, never given back, and known to nobody else.
        unsafe { crate::boot::init_memory(&[region]) };
    });
}

pub(crate) fn direct_map_base() -> usize {
    BASE.load(Ordering::Relaxed)
}

/// The root of a kernel half that has no entries.
pub(crate) fn kernel_root() -> u64 {
    ensure_memory();
    static MADE: Once = Once::new();
    MADE.call_once(|| ROOT.store(crate::frames::alloc_raw().unwrap_or(0) as usize, Ordering::Release));
    ROOT.load(Ordering::Acquire) as u64
}

/// # Safety
/// As on every backend: `physical` is a root table that outlives its use here.
pub(crate) unsafe fn load_root(physical: u64, _pcid: u16, _keep: bool) {
    super::processor::here().root.store(physical, Ordering::Relaxed);
}
pub(crate) fn max_pcid() -> u16 {
    0
}
pub(crate) fn flush_page(_address: usize) {}
pub(crate) fn flush_user_all() {}

/// Where `address` is in the active page table, with these bits set in its entry; marks it accessed (and dirty).
pub(super) fn translate(address: usize, needed: u64) -> Option<*mut u8> {
    let mut table = super::processor::here().root.load(Ordering::Relaxed);
    if table == 0 {
        return None;
    }
    for level in (0..4).rev() {
        let index = address >> (12 + 9 * level) & 511;
        let place = (direct_map_base() + table as usize + index * 8) as *const core::sync::atomic::AtomicU64;
        // SAFETY: tables are pages of the simulated RAM, changed only atomically; they are freed by RCU, and the caller has
        // preemption off.
        let entry = unsafe { &*place };
        let value = entry.load(Ordering::Acquire);
        if value & PTE_PRESENT == 0 || level == 0 && value & needed != needed {
            return None;
        }
        if level == 0 {
            let dirty = if needed & PTE_WRITE != 0 { PTE_DIRTY } else { 0 };
            entry.fetch_or(PTE_ACCESSED | dirty, Ordering::AcqRel);
        }
        table = value & PTE_ADDRESS_MASK;
    }
    Some((direct_map_base() + table as usize + (address & 0xfff)) as *mut u8)
}
