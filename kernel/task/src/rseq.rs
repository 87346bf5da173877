//! Restartable sequences (rseq(2)): a program's per-CPU critical sections that the kernel aborts when the thread moves.
//!
//! A thread registers one [`RseqRegistration`]. Whenever it comes back to its program after it may have been moved or a signal handler
//! is to run, [`resume`] or [`fix_up`] write the CPU number and, when the program was inside a critical section, send it to the
//! section's abort address. A structure that cannot be read or is wrong is answered by SIGSEGV. No locks beyond the task's own.

use crate::signal::send::force;
use crate::signal::{Signal, SignalInfo};
use crate::task::Task;
use abi::errno::{Errno, Result};
use abi::rseq::{ORIG_RSEQ_SIZE, RSEQ_CPU_ID_UNINITIALIZED, RSEQ_FLAG_UNREGISTER, RseqCs};
use core::sync::atomic::Ordering;
use machine::user::{self, UserRegisters};

/// What rseq(2) was given.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct RseqRegistration {
    /// Address of the thread's structure.
    pub address: usize,
    /// Its size.
    pub length: u32,
    /// What stands before every abort address.
    pub signature: u32,
}

/// Offsets in `struct rseq`.
const CPU_ID_START: usize = 0;
const CPU_ID: usize = 4;
const CRITICAL_SECTION: usize = 8;
const NODE_ID: usize = 20;
const MM_CID: usize = 24;
const ALIGNMENT: usize = 32;

/// rseq(2).
///
/// # Errors
/// EINVAL: bad flags, size, alignment. EBUSY: registered already. EPERM: wrong signature. EFAULT.
pub fn register(task: &Task, address: usize, length: u32, flags: u32, signature: u32) -> Result<()> {
    let current = *task.rseq.lock();
    if flags & RSEQ_FLAG_UNREGISTER != 0 {
        if flags != RSEQ_FLAG_UNREGISTER {
            return Err(Errno::EINVAL);
        }
        let registered = current.filter(|known| known.address == address).ok_or(Errno::EINVAL)?;
        if registered.length != length {
            return Err(Errno::EINVAL);
        }
        if registered.signature != signature {
            return Err(Errno::EPERM);
        }
        user::write_value(address + CPU_ID_START, &0u32)?;
        user::write_value(address + CPU_ID, &RSEQ_CPU_ID_UNINITIALIZED)?;
        task.set_rseq(None);
        return Ok(());
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(known) = current {
        if known.address != address || known.length != length {
            return Err(Errno::EINVAL);
        }
        return Err(if known.signature == signature { Errno::EBUSY } else { Errno::EPERM });
    }
    if length < ORIG_RSEQ_SIZE || !address.is_multiple_of(ALIGNMENT) {
        return Err(Errno::EINVAL);
    }
    user::write_value(address + CRITICAL_SECTION, &0u64)?;
    task.set_rseq(Some(RseqRegistration { address, length, signature }));
    task.rseq_event.store(true, Ordering::Relaxed);
    Ok(())
}

/// The thread was interrupted or moved: remember it for the way back.
pub(crate) fn note_exit(task: &Task) {
    if task.has_rseq.load(Ordering::Relaxed) {
        task.rseq_event.store(true, Ordering::Relaxed);
    }
}

/// Brings the structure up to date before the program runs on.
pub(crate) fn resume(task: &Task, registers: &mut UserRegisters) {
    task.rseq_event.store(false, Ordering::Relaxed);
    fix_up(task, registers);
}

/// The same before a signal handler: the critical section must not be entered again behind it.
pub(crate) fn fix_up(task: &Task, registers: &mut UserRegisters) {
    let Some(registration) = *task.rseq.lock() else { return };
    if update(&registration, registers).is_err() {
        force(task, SignalInfo::from_kernel(Signal::SIGSEGV));
    }
}

fn update(registration: &RseqRegistration, registers: &mut UserRegisters) -> Result<()> {
    let address = registration.address;
    let section: u64 = user::read_value(address + CRITICAL_SECTION)?;
    if section != 0 {
        let section_data: RseqCs = user::read_value(section as usize)?;
        if section_data.version != 0 {
            return Err(Errno::EINVAL);
        }
        let offset = registers.rip.wrapping_sub(section_data.start_ip);
        if offset < section_data.post_commit_offset {
            let signature: u32 = user::read_value((section_data.abort_ip as usize).wrapping_sub(4))?;
            if signature != registration.signature || section_data.abort_ip >= machine::USER_END as u64 {
                return Err(Errno::EINVAL);
            }
            registers.rip = section_data.abort_ip;
        }
        user::write_value(address + CRITICAL_SECTION, &0u64)?;
    }
    let cpu = machine::cpu::current().index() as u32;
    user::write_value(address + CPU_ID_START, &cpu)?;
    user::write_value(address + CPU_ID, &cpu)?;
    user::write_value(address + NODE_ID, &0u32)?;
    user::write_value(address + MM_CID, &cpu)?;
    Ok(())
}
