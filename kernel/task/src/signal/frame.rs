//! The stack frame of a signal handler on x86-64, and the way back from it.
//!
//! The layout is ABI: `rt_sigframe` of the psABI with Linux's `ucontext` and the XSAVE image above it, which programs, unwinders
//! and debuggers read. [`push`] builds it below the red zone or on the alternate stack, [`sigreturn`] trusts nothing in it: the
//! machine layer sanitises registers and floating-point state on the way in.

use super::action::{Action, flags};
use super::info::SignalInfo;
use super::{AlternateStack, SS_AUTODISARM, Signal, SignalSet};
use crate::task::Task;
use abi::errno::{Errno, Result};
use abi::signal::{
    FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FPSTATE_SIZE, FPSTATE_SW_BYTES_OFFSET, FpxSwBytes, RtSigframe,
    SigContext, SigSet, StackT, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, Ucontext,
};
use machine::thread;
use machine::user::{self, Fault, UserRegisters};
use zerocopy::FromBytes;

/// Bytes below the stack pointer that belong to the interrupted function (psABI 3.2.2).
const RED_ZONE: u64 = 128;
/// Code and stack segment of 64-bit programs.
const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;
/// Direction, trap, resume: cleared when a handler starts.
const FLAGS_CLEARED: u64 = 1 << 10 | 1 << 8 | 1 << 16;
/// The rights by protection key (PKRU) that allow everything.
const ALL_KEY_RIGHTS: u32 = 0;
/// The second magic number closes the image.
const FP_XSTATE_MAGIC2_SIZE: u64 = 4;
/// Legacy area and XSAVE header.
const XSAVE_HEADER_END: usize = FPSTATE_SIZE + 64;

/// Sets the frame up and points `registers` at the handler. `mask` is what sigreturn goes back to.
///
/// # Errors
/// EFAULT: no room or no memory on the stack, or the program gave no restorer.
pub fn push(
    task: &Task,
    registers: &mut UserRegisters,
    info: &SignalInfo,
    action: Action,
    mask: SignalSet,
) -> Result<()> {
    if !action.has(flags::SA_RESTORER) {
        return Err(Errno::EFAULT);
    }
    let stack = task.alternate_stack();
    let on_stack = stack.contains(registers.rsp);
    let switch = action.has(flags::SA_ONSTACK) && stack.size != 0 && !on_stack;
    let top =
        if switch { stack.address.wrapping_add(stack.size) } else { registers.rsp.wrapping_sub(RED_ZONE) };
    let fpu_at = top.wrapping_sub(thread::fpu_state_size() as u64 + FP_XSTATE_MAGIC2_SIZE) & !63;
    // At a function's first instruction the stack pointer is 8 below a multiple of 16.
    let frame_at = (fpu_at.wrapping_sub(size_of::<RtSigframe>() as u64) & !15).wrapping_sub(8);
    if (switch || (on_stack && stack.size != 0)) && (frame_at <= stack.address || frame_at > top) {
        return Err(Errno::EFAULT);
    }
    let mut frame = RtSigframe { pretcode: action.restorer, ..RtSigframe::default() };
    frame.uc = context(task, registers, &stack, mask);
    frame.info = abi::signal::SigInfo::read_from_bytes(&info.to_bytes()).map_err(|_| Errno::EFAULT)?;
    frame.uc.uc_flags |= UC_FP_XSTATE;
    frame.uc.uc_mcontext.fpstate = fpu_at;
    with_enough_rights(|programs_rights| {
        write_floating_point(fpu_at as usize, programs_rights)?;
        user::write_value(frame_at as usize, &frame)
    })?;
    // The handler starts with the default rights; what the program had is in the image.
    thread::exchange_key_rights(thread::DEFAULT_KEY_RIGHTS);
    if stack.flags & SS_AUTODISARM != 0 {
        task.set_alternate_stack(AlternateStack::NONE);
    }
    enter_handler(registers, info.signal, action, frame_at);
    Ok(())
}

fn enter_handler(registers: &mut UserRegisters, signal: Signal, action: Action, frame_at: u64) {
    let context_at = frame_at + core::mem::offset_of!(RtSigframe, uc) as u64;
    let info_at = frame_at + core::mem::offset_of!(RtSigframe, info) as u64;
    registers.rdi = signal.number() as u64;
    registers.rsi = info_at;
    registers.rdx = context_at;
    registers.rax = 0;
    registers.rip = action.handler;
    registers.rsp = frame_at;
    registers.rflags &= !FLAGS_CLEARED;
    registers.orig_rax = u64::MAX;
}

fn context(task: &Task, registers: &UserRegisters, stack: &AlternateStack, mask: SignalSet) -> Ucontext {
    let trap = task.last_trap();
    Ucontext {
        uc_flags: UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        uc_link: 0,
        uc_stack: StackT {
            ss_sp: stack.address,
            ss_flags: stack.reported_flags(registers.rsp),
            ss_size: stack.size,
            ..StackT::default()
        },
        uc_mcontext: SigContext {
            r8: registers.r8,
            r9: registers.r9,
            r10: registers.r10,
            r11: registers.r11,
            r12: registers.r12,
            r13: registers.r13,
            r14: registers.r14,
            r15: registers.r15,
            rdi: registers.rdi,
            rsi: registers.rsi,
            rbp: registers.rbp,
            rbx: registers.rbx,
            rdx: registers.rdx,
            rax: registers.rax,
            rcx: registers.rcx,
            rsp: registers.rsp,
            rip: registers.rip,
            eflags: registers.rflags,
            cs: USER_CS,
            ss: USER_SS,
            err: trap.error_code,
            trapno: trap.vector,
            oldmask: mask.bits(),
            cr2: trap.address,
            ..SigContext::default()
        },
        uc_sigmask: SigSet { bits: mask.bits() },
    }
}

/// Accesses the stack. It may have a protection key that the program has no rights to just now: then a second try has all rights, and
/// is told which the program's are.
fn with_enough_rights<T>(mut access: impl FnMut(Option<u32>) -> core::result::Result<T, Fault>) -> Result<T> {
    match access(None) {
        Err(Fault) if thread::has_protection_keys() => {
            let rights = thread::exchange_key_rights(ALL_KEY_RIGHTS);
            let result = access(Some(rights));
            thread::exchange_key_rights(rights);
            Ok(result?)
        }
        result => Ok(result?),
    }
}

/// Writes the XSAVE image of the running thread with the software bytes that say how long it is, closed by the second magic number.
/// `key_rights`: what it shall say of them, if not what the register has.
fn write_floating_point(address: usize, key_rights: Option<u32>) -> core::result::Result<(), Fault> {
    let (size, components) = thread::copy_fpu_to_user(address, key_rights)?;
    if size < XSAVE_HEADER_END {
        return Ok(());
    }
    let software = FpxSwBytes {
        magic1: FP_XSTATE_MAGIC1,
        extended_size: size as u32 + FP_XSTATE_MAGIC2_SIZE as u32,
        xfeatures: components | 3,
        xstate_size: size as u32,
        ..FpxSwBytes::default()
    };
    user::write_value(address + FPSTATE_SW_BYTES_OFFSET, &software)?;
    user::write_value(address + size, &FP_XSTATE_MAGIC2)
}

/// rt_sigreturn: goes back to what the frame at the stack pointer says. A bad frame is answered by SIGSEGV.
pub fn sigreturn(task: &Task, registers: &mut UserRegisters) -> isize {
    if restore(task, registers).is_err() {
        super::send::force(task, SignalInfo::from_kernel(Signal::SIGSEGV));
    }
    registers.orig_rax = u64::MAX;
    registers.rax as isize
}

fn restore(task: &Task, registers: &mut UserRegisters) -> Result<()> {
    // The handler's return has popped the restorer's address.
    let at = registers.rsp as usize;
    let uc: Ucontext = with_enough_rights(|_| user::read_value(at))?;
    let saved = &uc.uc_mcontext;
    restore_floating_point(saved.fpstate as usize)?;
    super::deliver::set_blocked(task, SignalSet::from_bits(uc.uc_sigmask.bits));
    *registers = UserRegisters {
        r8: saved.r8,
        r9: saved.r9,
        r10: saved.r10,
        r11: saved.r11,
        r12: saved.r12,
        r13: saved.r13,
        r14: saved.r14,
        r15: saved.r15,
        rdi: saved.rdi,
        rsi: saved.rsi,
        rbp: saved.rbp,
        rbx: saved.rbx,
        rdx: saved.rdx,
        rax: saved.rax,
        rcx: saved.rcx,
        rsp: saved.rsp,
        rip: saved.rip,
        rflags: saved.eflags,
        ..*registers
    };
    let stack =
        AlternateStack { address: uc.uc_stack.ss_sp, size: uc.uc_stack.ss_size, flags: uc.uc_stack.ss_flags };
    // As Linux: a stack that is not valid any more is silently kept as it was.
    let _ = super::calls::alternate_stack(task, registers.rsp, Some(stack));
    Ok(())
}

/// Loads the image that a frame points to; none: the state of a new program.
fn restore_floating_point(address: usize) -> Result<()> {
    let Some(thread) = sched::current().kernel() else { return Ok(()) };
    if address == 0 {
        thread.reset_fpu();
        return Ok(());
    }
    let software: FpxSwBytes =
        with_enough_rights(|_| user::read_value(address.wrapping_add(FPSTATE_SW_BYTES_OFFSET)))?;
    let is_whole = software.magic1 == FP_XSTATE_MAGIC1
        && (FPSTATE_SIZE..=thread::fpu_state_size()).contains(&(software.xstate_size as usize));
    let size = if is_whole { software.xstate_size as usize } else { FPSTATE_SIZE };
    thread.set_fpu(size, |image| with_enough_rights(|_| user::read_bytes(address, image)))
}
