//! Copies of page contents that others (user programs, devices, other CPUs) may write at the same time.
//!
//! To Rust such a copy is a data race, so it is done where the compiler does not look: in assembly. What comes out is
//! some mix of old and new bytes.

/// Copies `length` bytes.
///
/// # Safety
/// `source` is valid for reads and `destination` for writes of `length` bytes as far as the processor is concerned, they
/// do not overlap, and whoever else writes either at the same time does so in the sense of this module.
#[inline]
pub(crate) unsafe fn copy(destination: *mut u8, source: *const u8, length: usize) {
    #[cfg(target_os = "none")]
    // SAFETY: the caller's contract.
    unsafe {
        crate::arch::copy_raw(destination, source, length);
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") length => _, inout("rdi") destination => _, inout("rsi") source => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Fills `length` bytes with zeros.
///
/// # Safety
/// As [`copy`], for the destination.
#[inline]
pub(crate) unsafe fn zero(destination: *mut u8, length: usize) {
    #[cfg(target_os = "none")]
    // SAFETY: the caller's contract.
    unsafe {
        crate::arch::fill_raw(destination, 0, length);
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") length => _, inout("rdi") destination => _, in("al") 0u8,
            options(nostack, preserves_flags)
        );
    }
}
