//! Exceptions of user programs, and page faults of the kernel on user memory.
//!
//! A page fault goes to the address space; what that cannot resolve, and every other exception, becomes a signal that the program
//! cannot block away (signal(7), sigaction(2) for the codes). Numbers are the processor's (Intel SDM volume 3, 6.15).

use crate::limits::Resource;
use crate::process::Process;
use crate::signal::send::force;
use crate::signal::{Cause, Signal, SignalInfo, code};
use crate::task::{Task, Trap, with_current};
use machine::hooks::PageFaultInfo;
use machine::user::{Fault, FaultAccess, UserRegisters};
use mm::{FaultError, FaultInfo};

const VECTOR_PAGE_FAULT: u64 = 14;

/// A page fault of the program.
pub(crate) fn page_fault(task: &Task, address: usize, access: FaultAccess, present: bool) {
    let error = match resolve(task, &FaultInfo { address, access, present }) {
        Ok(()) => return,
        Err(error) => error,
    };
    let mut error_code = 4 | u64::from(present);
    if access.contains(FaultAccess::WRITE) {
        error_code |= 2;
    }
    if access.contains(FaultAccess::EXEC) {
        error_code |= 16;
    }
    if access.contains(FaultAccess::KEY) {
        error_code |= 32;
    }
    task.set_last_trap(Trap { vector: VECTOR_PAGE_FAULT, error_code, address: address as u64 });
    if access.contains(FaultAccess::KEY) && error == FaultError::AccessDenied {
        let vma = task.process().space().and_then(|space| space.find_vma(address));
        let key = vma.map_or(0, |vma| u32::from(vma.protection().key()));
        let cause = Cause::KeyFault { address: address as u64, key };
        return force(task, SignalInfo { signal: Signal::SIGSEGV, errno: 0, code: code::SEGV_PKUERR, cause });
    }
    let (signal, code) = match error {
        FaultError::NotMapped => (Signal::SIGSEGV, code::SEGV_MAPERR),
        FaultError::AccessDenied => (Signal::SIGSEGV, code::SEGV_ACCERR),
        FaultError::BusError => (Signal::SIGBUS, code::BUS_ADRERR),
        FaultError::OutOfMemory => return out_of_memory(task),
        FaultError::Interrupted => return,
    };
    force(task, SignalInfo::from_fault(signal, code, address as u64));
}

/// No memory for the fault: the killer has chosen a victim, perhaps this one. Let others run, then the access faults again.
fn out_of_memory(task: &Task) {
    if task.process().group_exit().is_none() {
        sched::yield_now();
    }
}

fn resolve(task: &Task, info: &FaultInfo) -> core::result::Result<(), FaultError> {
    task.counters.count_fault();
    let space = task.process().space().ok_or(FaultError::NotMapped)?;
    space.handle_fault(info, || memory_limits(task.process(), task))
}

/// The limits that mapping and growing memory are held to.
pub fn memory_limits(process: &Process, task: &Task) -> mm::Limits {
    let limits = process.limits();
    let credentials = task.credentials();
    let mut privileges = mm::Privileges::empty();
    if security::capable_anywhere_above(&credentials, security::Capability::IpcLock) {
        privileges |= mm::Privileges::IPC_LOCK;
    }
    if security::capable_anywhere_above(&credentials, security::Capability::SysRawio) {
        privileges |= mm::Privileges::RAW_IO;
    }
    mm::Limits {
        address_space: limits.soft(Resource::AddressSpace),
        data: limits.soft(Resource::Data),
        stack: limits.soft(Resource::Stack),
        memlock: limits.soft(Resource::LockedMemory),
        privileges,
    }
}

/// For [`machine::hooks::Hooks::page_fault`]: the kernel touched user memory of the running program.
pub fn page_fault_hook(info: &PageFaultInfo) -> core::result::Result<(), Fault> {
    let fault = FaultInfo { address: info.address, access: info.access, present: info.present };
    loop {
        let outcome = with_current(|task| {
            let result = resolve(task, &fault);
            let dying =
                matches!(result, Err(FaultError::OutOfMemory)) && task.process().group_exit().is_some();
            (result, dying)
        });
        match outcome {
            Some((Ok(()), _)) => return Ok(()),
            Some((Err(FaultError::OutOfMemory), false)) => sched::yield_now(),
            _ => return Err(Fault),
        }
    }
}

/// Another exception of the program.
pub(crate) fn exception(task: &Task, registers: &UserRegisters, vector: u8, error_code: u64, address: usize) {
    task.set_last_trap(Trap { vector: u64::from(vector), error_code, address: 0 });
    let here = registers.rip;
    let info = match vector {
        0 => SignalInfo::from_fault(Signal::SIGFPE, code::FPE_INTDIV, here),
        1 => SignalInfo::from_fault(Signal::SIGTRAP, code::TRAP_TRACE, here),
        3 => SignalInfo { signal: Signal::SIGTRAP, errno: 0, code: code::SI_KERNEL, cause: Cause::None },
        6 => SignalInfo::from_fault(Signal::SIGILL, code::ILL_ILLOPN, here),
        16 => SignalInfo::from_fault(Signal::SIGFPE, x87_code(), here),
        17 => SignalInfo::from_fault(Signal::SIGBUS, code::BUS_ADRALN, address as u64),
        19 => SignalInfo::from_fault(Signal::SIGFPE, simd_code(), here),
        11 | 12 => SignalInfo { signal: Signal::SIGBUS, errno: 0, code: code::SI_KERNEL, cause: Cause::None },
        // Overflow, bounds, protection and whatever is left.
        _ => SignalInfo { signal: Signal::SIGSEGV, errno: 0, code: code::SI_KERNEL, cause: Cause::None },
    };
    force(task, info);
}

/// Bytes of the XSAVE image up to MXCSR.
const LEGACY_HEAD: usize = 32;

fn legacy_state() -> Option<[u8; LEGACY_HEAD]> {
    let mut bytes = alloc::vec::Vec::new();
    sched::current().kernel()?.read_fpu(&mut bytes).ok()?;
    bytes.get(..LEGACY_HEAD)?.try_into().ok()
}

/// The cause in the x87 status word, of the exceptions that the control word does not mask.
fn x87_code() -> i32 {
    let Some(state) = legacy_state() else { return 0 };
    let control = u16::from_le_bytes([state[0], state[1]]);
    let status = u16::from_le_bytes([state[2], state[3]]);
    floating_point_code(status & !control)
}

/// The cause in MXCSR: flags in bits 0 to 5, masks in bits 7 to 12.
fn simd_code() -> i32 {
    let Some(state) = legacy_state() else { return 0 };
    let mxcsr = u16::from_le_bytes([state[24], state[25]]);
    floating_point_code(mxcsr & !(mxcsr >> 7))
}

fn floating_point_code(raised: u16) -> i32 {
    match raised {
        bits if bits & 0x01 != 0 => code::FPE_FLTINV,
        bits if bits & 0x04 != 0 => code::FPE_FLTDIV,
        bits if bits & 0x08 != 0 => code::FPE_FLTOVF,
        bits if bits & 0x12 != 0 => code::FPE_FLTUND,
        bits if bits & 0x20 != 0 => code::FPE_FLTRES,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_point_causes() {
        assert_eq!(floating_point_code(0x04), code::FPE_FLTDIV);
        assert_eq!(floating_point_code(0x20), code::FPE_FLTRES);
        assert_eq!(floating_point_code(0x05), code::FPE_FLTINV);
        assert_eq!(floating_point_code(0), 0);
    }
}
