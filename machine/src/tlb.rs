//! The backend's TLB shootdown interrupt; the work is in [`crate::memory::table`].

/// Another CPU changed the page table that this one uses. Interrupt context, interrupts off.
pub(crate) fn on_ipi_tlb() {
    crate::memory::table::catch_up();
}
