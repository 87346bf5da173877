//! User mode: entering it, its registers, and copies from and to its memory.
//!
//! Key types: [`UserRegisters`], [`UserExit`], [`Fault`]. Copies run in the address space that is active on this CPU and
//! check that the range is below [`crate::USER_END`]. A missing page calls the `page_fault` hook, except with
//! preemption off: then the copy fails at once.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch;
use crate::cpu::CpuId;
use zerocopy::{FromBytes, Immutable, IntoBytes};

bitflags::bitflags! {
    /// How memory was touched.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FaultAccess: u8 {
        /// Read.
        const READ = 1;
        /// Written.
        const WRITE = 2;
        /// Fetched as an instruction.
        const EXEC = 4;
        /// Refused by the rights of the page's protection key, whatever the page allows.
        const KEY = 8;
    }
}

/// User memory was not accessible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A user program's registers. Any value is safe: what would harm the kernel is corrected on the way to user mode (flags
/// masked, segments fixed; a non-canonical `rip` faults in user mode as on Linux).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct UserRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call's number at entry (`rax` becomes the result); `u64::MAX` if not in a system call.
    pub orig_rax: u64,
    pub rip: u64,
    /// Ignored; a constant at exits.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    /// Ignored; a constant at exits.
    pub ss: u64,
}

/// Where a program's FS and GS segments begin. Programs change them with instructions of their own, so they live in the
/// processor while the thread runs: see [`crate::thread::KernelThread::bases`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserBases {
    /// Thread-local storage.
    pub fs: u64,
    /// Free for the program's use.
    pub gs: u64,
}

/// Why user mode was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserExit {
    /// A `syscall` instruction; number in `orig_rax`, arguments in the registers.
    Syscall,
    /// A page fault.
    PageFault {
        /// The address touched.
        address: usize,
        /// How.
        access: FaultAccess,
        /// Whether a page was there.
        present: bool,
    },
    /// Another exception.
    Exception {
        /// The processor's vector (0 divide error, 6 invalid opcode, 13 protection …).
        vector: u8,
        /// The error code, or 0.
        error_code: u64,
        /// The address that the exception is about (for a debug or alignment exception), or 0.
        address: usize,
    },
    /// An interrupt came and has been handled: look for signals and need-resched.
    Interrupt,
}

/// Runs the user program with these registers in the active page table until its next exit. Thread context, no guard
/// held (panics otherwise). Comes back at once, as from an interrupt, while a reschedule is due, if `work_pending` is set,
/// or if this is not `cpu` any more. All three are looked at with interrupts off, so that whoever sets the flag and then
/// sends this CPU an interrupt is heard, and what the program was told about its CPU holds when it starts.
#[inline]
pub fn run_user(registers: &mut UserRegisters, work_pending: &AtomicBool, cpu: CpuId) -> UserExit {
    assert!(arch::preempt_count() == 0, "run_user() with a guard held");
    if crate::thread::prepare_fpu().is_err() {
        // As if the processor had no floating-point unit: the program gets a signal.
        return UserExit::Exception { vector: 7, error_code: 0, address: 0 };
    }
    arch::irq_disable();
    if arch::need_resched() || work_pending.load(Ordering::Acquire) || crate::cpu::current() != cpu {
        arch::irq_enable();
        return UserExit::Interrupt;
    }
    arch::enter_user(registers)
}

/// How much of a range of user memory lies below the end of user space.
#[inline(always)]
fn clamp(address: usize, length: usize) -> usize {
    length.min(crate::USER_END.saturating_sub(address))
}

/// Copies from user memory; all or [`Fault`] (the buffer's contents are then unspecified).
#[inline]
pub fn read_bytes(address: usize, destination: &mut [u8]) -> Result<(), Fault> {
    if read_bytes_partial(address, destination) == destination.len() { Ok(()) } else { Err(Fault) }
}

/// Copies to user memory; all or [`Fault`] (a part may have been written).
#[inline]
pub fn write_bytes(address: usize, source: &[u8]) -> Result<(), Fault> {
    if write_bytes_partial(address, source) == source.len() { Ok(()) } else { Err(Fault) }
}

/// Copies from user memory and says how many bytes came before a fault.
pub fn read_bytes_partial(address: usize, destination: &mut [u8]) -> usize {
    let length = clamp(address, destination.len());
    // SAFETY: the buffer has that many bytes, and the range is in user space.
    length - unsafe { arch::copy_from_user(destination.as_mut_ptr(), address, length) }
}

/// Copies to user memory and says how many bytes went before a fault.
pub fn write_bytes_partial(address: usize, source: &[u8]) -> usize {
    let length = clamp(address, source.len());
    // SAFETY: as in `read_bytes_partial`.
    length - unsafe { arch::copy_to_user(address, source.as_ptr(), length) }
}

/// Copies to user memory from memory that may change meanwhile.
///
/// # Safety
/// `source` is valid for reading `length` bytes.
pub(crate) unsafe fn write_raw(address: usize, source: *const u8, length: usize) -> Result<(), Fault> {
    if clamp(address, length) < length {
        return Err(Fault);
    }
    // SAFETY: the caller's contract, and the range is in user space.
    if unsafe { arch::copy_to_user(address, source, length) } == 0 { Ok(()) } else { Err(Fault) }
}

/// Zeroes user memory and says how many bytes it could.
pub fn zero_partial(address: usize, length: usize) -> usize {
    let length = clamp(address, length);
    // SAFETY: the range is in user space.
    length - unsafe { arch::zero_user(address, length) }
}

/// Zeroes user memory; all or [`Fault`].
pub fn zero(address: usize, length: usize) -> Result<(), Fault> {
    if zero_partial(address, length) == length { Ok(()) } else { Err(Fault) }
}

/// Reads a value of a plain type.
#[inline]
pub fn read_value<T: FromBytes + IntoBytes>(address: usize) -> Result<T, Fault> {
    let mut value = T::new_zeroed();
    read_bytes(address, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a value of a plain type.
#[inline]
pub fn write_value<T: IntoBytes + Immutable>(address: usize, value: &T) -> Result<(), Fault> {
    write_bytes(address, value.as_bytes())
}

/// Why a string could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CstrError {
    /// User memory was not accessible.
    Fault,
    /// No NUL within the buffer.
    TooLong,
}

/// Copies a NUL-terminated string; gives its length without the NUL (which is also copied).
pub fn read_cstr(address: usize, buffer: &mut [u8]) -> Result<usize, CstrError> {
    let most = clamp(address, buffer.len());
    // SAFETY: the buffer has that many bytes, and the range is in user space.
    match unsafe { arch::user_strncpy(buffer.as_mut_ptr(), address, most) } {
        Ok(length) if length < most => Ok(length),
        Ok(_) if most == buffer.len() => Err(CstrError::TooLong),
        _ => Err(CstrError::Fault),
    }
}

/// Reads a futex word atomically. Misaligned addresses give [`Fault`] (callers check alignment before).
pub fn read_u32_atomic(address: usize) -> Result<u32, Fault> {
    if clamp(address, 4) < 4 || !address.is_multiple_of(4) {
        return Err(Fault);
    }
    // SAFETY: aligned and in user space.
    unsafe { arch::user_load_u32(address) }
}

/// Compares and exchanges a futex word; gives the value that was there (equal to `old` = exchanged).
pub fn compare_exchange_u32(address: usize, old: u32, new: u32) -> Result<u32, Fault> {
    if clamp(address, 4) < 4 || !address.is_multiple_of(4) {
        return Err(Fault);
    }
    // SAFETY: aligned and in user space.
    unsafe { arch::user_cmpxchg_u32(address, old, new) }
}

/// Changes a futex word atomically (`FUTEX_WAKE_OP`); gives the old value.
pub fn fetch_update_u32(address: usize, update: impl Fn(u32) -> u32) -> Result<u32, Fault> {
    let mut old = read_u32_atomic(address)?;
    loop {
        let seen = compare_exchange_u32(address, old, update(old))?;
        if seen == old {
            return Ok(old);
        }
        old = seen;
    }
}

impl From<Fault> for abi::errno::Errno {
    fn from(_: Fault) -> Self {
        abi::errno::Errno::EFAULT
    }
}

/// What the processor offers programs: the words of `AT_HWCAP` and `AT_HWCAP2`. Zeros on the host.
pub fn hardware_capabilities() -> (u64, u64) {
    #[cfg(target_os = "none")]
    return crate::arch::elf_hwcap();
    #[cfg(not(target_os = "none"))]
    (0, 0)
}
