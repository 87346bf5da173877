//! Signals: kill(2), sigaction(2), sigprocmask(2), sigsuspend(2), sigtimedwait(2), sigaltstack(2), sigreturn(2).
//!
//! Decoding; the queues, rules and frames are in `task::signal`. A `sigset_t` of the kernel has 8 bytes; calls that are
//! told another size fail with `EINVAL`.

use crate::decode::{Context, Fd};
use crate::time;
use abi::errno::{Errno, Result};
use abi::signal::StackT;
use abi::time::Timespec;
use mm::user::UserPtr;
use task::restart::RestartBlock;
use task::signal::{Action, AlternateStack, SIGINFO_SIZE, SignalSet, calls, frame};

/// Bytes of the kernel's `sigset_t`.
const SIGSET_SIZE: usize = 8;

/// A `sigset_t` argument. Errors: `EINVAL` for a wrong size, `EFAULT`.
pub fn read_set(set: UserPtr<u64>, size: usize) -> Result<Option<SignalSet>> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(set.optional().map(UserPtr::read).transpose()?.map(SignalSet::from_bits))
}

/// rt_sigaction(2). Errors: `EINVAL`, `EFAULT`.
pub fn rt_sigaction(
    context: &mut Context<'_>,
    signal: i32,
    new: UserPtr<[u64; 4]>,
    old: UserPtr<[u64; 4]>,
    size: usize,
) -> Result<usize> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let new = new.optional().map(UserPtr::read).transpose()?.map(Action::from_words);
    let before = calls::set_action(context.task, signal, new)?;
    old.write_optional(&before.to_words())?;
    Ok(0)
}

/// rt_sigprocmask(2). Errors: `EINVAL`, `EFAULT`.
pub fn rt_sigprocmask(
    context: &mut Context<'_>,
    how: i32,
    new: UserPtr<u64>,
    old: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let new = read_set(new, size)?;
    let before = calls::set_mask(context.task, how, new)?;
    old.write_optional(&before.bits())?;
    Ok(0)
}

/// rt_sigpending(2). Errors: `EINVAL`, `EFAULT`.
pub fn rt_sigpending(context: &mut Context<'_>, set: UserPtr<u64>, size: usize) -> Result<usize> {
    if size > SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let bytes = calls::pending(context.task).bits().to_ne_bytes();
    machine::user::write_bytes(set.address(), bytes.get(..size).unwrap_or_default())?;
    Ok(0)
}

/// rt_sigsuspend(2). Errors: `EINTR` always, `EINVAL`, `EFAULT`.
pub fn rt_sigsuspend(context: &mut Context<'_>, set: UserPtr<u64>, size: usize) -> Result<usize> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let set = SignalSet::from_bits(set.read()?);
    Err(calls::suspend(context.task, set))
}

/// pause(2). Errors: `EINTR` always.
pub fn pause(_context: &mut Context<'_>) -> Result<usize> {
    Err(calls::pause())
}

/// rt_sigtimedwait(2): the signal's number. Errors: `EAGAIN`, `EINTR`, `EINVAL`, `EFAULT`.
pub fn rt_sigtimedwait(
    context: &mut Context<'_>,
    set: UserPtr<u64>,
    info: UserPtr<[u8; SIGINFO_SIZE]>,
    timeout: UserPtr<Timespec>,
    size: usize,
) -> Result<usize> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let set = SignalSet::from_bits(set.read()?);
    let deadline = time::deadline_after(timeout)?;
    let taken = calls::timed_wait(context.task, set, deadline)?;
    info.write_optional(&taken.to_bytes())?;
    Ok(taken.signal.number() as usize)
}

/// rt_sigreturn(2): the registers of the interrupted program come back, `rax` among them.
pub fn rt_sigreturn(context: &mut Context<'_>) -> Result<usize> {
    Ok(frame::sigreturn(context.task, context.registers) as usize)
}

/// kill(2). Errors: `EINVAL`, `EPERM`, `ESRCH`.
pub fn kill(context: &mut Context<'_>, pid: i32, signal: i32) -> Result<usize> {
    calls::kill(context.task, pid, signal).map(|()| 0)
}

/// tkill(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EAGAIN`.
pub fn tkill(context: &mut Context<'_>, tid: i32, signal: i32) -> Result<usize> {
    calls::tkill(context.task, None, tid, signal).map(|()| 0)
}

/// tgkill(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EAGAIN`.
pub fn tgkill(context: &mut Context<'_>, process: i32, tid: i32, signal: i32) -> Result<usize> {
    calls::tkill(context.task, Some(process), tid, signal).map(|()| 0)
}

/// rt_sigqueueinfo(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EAGAIN`, `EFAULT`.
pub fn rt_sigqueueinfo(
    context: &mut Context<'_>,
    pid: i32,
    signal: i32,
    info: UserPtr<[u8; SIGINFO_SIZE]>,
) -> Result<usize> {
    calls::sigqueue(context.task, pid, signal, &info.read()?).map(|()| 0)
}

/// rt_tgsigqueueinfo(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EAGAIN`, `EFAULT`.
pub fn rt_tgsigqueueinfo(
    context: &mut Context<'_>,
    process: i32,
    tid: i32,
    signal: i32,
    info: UserPtr<[u8; SIGINFO_SIZE]>,
) -> Result<usize> {
    calls::tgsigqueue(context.task, process, tid, signal, &info.read()?).map(|()| 0)
}

/// pidfd_send_signal(2). Errors: `EBADF`, `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn pidfd_send_signal(
    context: &mut Context<'_>,
    pidfd: Fd,
    signal: i32,
    info: UserPtr<[u8; SIGINFO_SIZE]>,
    flags: u32,
) -> Result<usize> {
    let info = info.optional().map(UserPtr::read).transpose()?;
    calls::pidfd_send_signal(context.task, pidfd.0, signal, info, flags).map(|()| 0)
}

/// sigaltstack(2). Errors: `EINVAL`, `EPERM`, `ENOMEM`, `EFAULT`.
pub fn sigaltstack(context: &mut Context<'_>, new: UserPtr<StackT>, old: UserPtr<StackT>) -> Result<usize> {
    let new = new.optional().map(UserPtr::read).transpose()?.map(|stack| AlternateStack {
        address: stack.ss_sp,
        size: stack.ss_size,
        flags: stack.ss_flags,
    });
    let before = calls::alternate_stack(context.task, context.registers.rsp, new)?;
    let mut answer = StackT::default();
    (answer.ss_sp, answer.ss_size, answer.ss_flags) = (before.address, before.size, before.flags);
    old.write_optional(&answer)?;
    Ok(0)
}

/// restart_syscall(2): goes on with a call that a stop interrupted. Errors: `EINTR` if there is none; as that call.
pub fn restart_syscall(context: &mut Context<'_>) -> Result<usize> {
    match context.task.take_restart() {
        RestartBlock::None => Err(Errno::EINTR),
        RestartBlock::Sleep { clock: _, deadline_ns, remaining } => {
            time::restart_nanosleep(context, deadline_ns, remaining)
        }
        RestartBlock::Poll { descriptors, count, deadline_ns } => {
            crate::poll::restart_poll(context, UserPtr::new(descriptors), count, deadline_ns)
        }
        RestartBlock::Futex { address, value, deadline_ns, operation, bitset } => {
            crate::futex::restart_wait(context, address, value, deadline_ns, operation, bitset)
        }
    }
}
