//! The calls from this backend up to the generic code, in one place.

pub(super) use crate::frames::{MemoryRegion, alloc_raw};
pub(super) use crate::hooks::{page_fault, preempt, timer};
pub(super) use crate::irq::{on_ipi_call as ipi_call, on_message as message};
pub(super) use crate::tlb::on_ipi_tlb as ipi_tlb;

/// Gives a page of [`alloc_raw`] back.
///
/// # Safety
/// Nobody uses it any more.
pub(super) unsafe fn free_raw(page: u64) {
    // SAFETY: the caller's contract.
    unsafe { crate::frames::free_raw(page) }
}

/// Makes every CPU forget its translations of the kernel half. Thread context, interrupts on, no lock held.
pub(super) fn flush_kernel_everywhere() {
    crate::cpu::call_on(&crate::cpu::CpuSet::all_online(), &super::flush_all);
}
