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
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsq", "mov ecx, {tail:e}", "rep movsb",
            tail = in(reg) length & 7,
            inout("rcx") length >> 3 => _, inout("rdi") destination => _, inout("rsi") source => _,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..length {
        // SAFETY: the caller's contract.
        unsafe { destination.add(i).write_volatile(source.add(i).read_volatile()) };
    }
}

/// Fills `length` bytes with zeros.
///
/// # Safety
/// As [`copy`], for the destination.
#[inline]
pub(crate) unsafe fn zero(destination: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep stosq", "mov ecx, {tail:e}", "rep stosb",
            tail = in(reg) length & 7,
            inout("rcx") length >> 3 => _, inout("rdi") destination => _, in("rax") 0,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..length {
        // SAFETY: the caller's contract.
        unsafe { destination.add(i).write_volatile(0) };
    }
}
