//! The calls from this backend up to the generic code, in one place.

use super::serial::SerialPort;
use crate::hooks::{self, PageFaultInfo};
use crate::user::Fault;

/// This CPU's timer fired.
pub(super) fn timer() {
    if let Some(hooks) = hooks::get() {
        (hooks.timer)();
    }
}

/// A preemption is due.
pub(super) fn preempt() {
    if let Some(hooks) = hooks::get() {
        (hooks.preempt)();
    }
}

/// The kernel touched user memory that is not there.
pub(super) fn page_fault(info: &PageFaultInfo) -> Result<(), Fault> {
    hooks::get().map_or(Err(Fault), |hooks| (hooks.page_fault)(info))
}

/// The kernel has a bug.
pub(super) fn oops(what: &str) {
    if let Some(hooks) = hooks::get() {
        (hooks.oops)(what);
    }
}

/// A byte came in.
pub(super) fn serial_input(port: SerialPort, byte: u8) {
    if port == SerialPort::Com1
        && let Some(hooks) = hooks::get()
    {
        (hooks.serial_input)(byte);
    }
}

/// Another CPU asks this one to run its calls.
pub(super) fn ipi_call() {
    super::console_print(format_args!("ipi call on {}\n", super::cpu_id()));
}

/// Another CPU asks this one to flush its TLB.
pub(super) fn ipi_tlb() {
    
}

// ---- bring-up only: replaced when the generic crate has these.
use super::boot::MemoryRegion;
struct Bump;
static BUMP: super::lock::RawLock<(u64, u64)> = super::lock::RawLock::new((0, 0));
#[global_allocator]
static ALLOCATOR: Bump = Bump;
unsafe impl core::alloc::GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
        let mut b = BUMP.lock();
        let start = b.0.next_multiple_of(layout.align() as u64);
        if start + layout.size() as u64 > b.1 { return core::ptr::null_mut(); }
        b.0 = start + layout.size() as u64;
        (start as usize + super::paging::direct_map_base()) as *mut u8
    }
    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}
pub(super) fn init_memory(regions: &[MemoryRegion]) {
    for r in regions { super::console_print(format_args!("  free {:#x}..{:#x}\n", r.start, r.end)); }
    let r = regions.iter().max_by_key(|r| r.end - r.start).unwrap();
    *BUMP.lock() = (r.start, r.end);
}
pub(super) fn alloc_raw() -> Option<u64> {
    let p = unsafe { alloc::alloc::alloc_zeroed(core::alloc::Layout::from_size_align(4096, 4096).unwrap()) };
    if p.is_null() { None } else { Some((p as usize - super::paging::direct_map_base()) as u64) }
}
pub(super) fn free_raw(_: u64) {}
pub(super) fn flush_kernel_everywhere() {}
