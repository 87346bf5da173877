//! The bodies of the signal system calls: kill(2), sigaction(2), sigprocmask(2), sigsuspend(2), sigwaitinfo(2), sigaltstack(2)
//! and their relatives. Arguments come decoded, results go back as values; user memory is the caller's business.

use super::action::Action;
use super::deliver::{set_blocked, take_signal, update_flag};
use super::info::{Cause, SIGINFO_SIZE, SignalInfo, code};
use super::send::{from_program, may_signal, may_signal_locked};
use super::{AlternateStack, MIN_STACK_SIZE, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, Signal, SignalSet};
use crate::pid;
use crate::process::{Process, ProcessTree, TREE};
use crate::task::Task;
use abi::errno::{Errno, Result};
use abi::signalfd::SignalfdSiginfo;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use machine::sync::{WaitKind, WakeReason};

/// Whether a signal is pending for the running thread: what interruptible work asks.
pub fn signal_pending() -> bool {
    sched::try_current().is_some_and(|thread| thread.signal_pending.load(Ordering::Relaxed))
}

/// A signal argument: 0 only asks whether sending would be allowed.
fn signal_argument(number: i32) -> Result<Option<Signal>> {
    if number == 0 {
        return Ok(None);
    }
    Signal::new(number).map(Some).ok_or(Errno::EINVAL)
}

fn own_info(task: &Task, signal: Signal, code: i32) -> SignalInfo {
    let credentials = task.credentials();
    let uid = credentials.user_namespace.from_kuid_munged(credentials.ruid);
    SignalInfo { signal, errno: 0, code, cause: Cause::Sender { pid: task.process_id(), uid } }
}

/// Checks and sends to one process.
fn send_checked(
    task: &Task,
    target: &Process,
    signal: Option<Signal>,
    info: Option<&SignalInfo>,
) -> Result<()> {
    let Some(leader) = target.leader() else { return Ok(()) };
    may_signal(task, &leader, signal)?;
    match info {
        Some(info) => from_program(task, &leader, false, info.clone()),
        None => Ok(()),
    }
}

/// kill(2). `pid`: positive a process, 0 the caller's group, -1 everybody but init and itself, else a group.
///
/// # Errors
/// EINVAL, ESRCH, EPERM.
pub fn kill(task: &Task, pid: i32, signal: i32) -> Result<()> {
    let signal = signal_argument(signal)?;
    let info = signal.map(|signal| own_info(task, signal, code::SI_USER));
    match pid {
        1.. => {
            let target = task.process().namespace().find_process(pid).ok_or(Errno::ESRCH)?;
            send_checked(task, &target, signal, info.as_ref())
        }
        -1 => kill_everybody(task, signal, info.as_ref()),
        i32::MIN => Err(Errno::ESRCH),
        0 => kill_group(task, task.process().group(), signal, info.as_ref()),
        _ => {
            let group = crate::job::find_group(task, -pid).ok_or(Errno::ESRCH)?;
            kill_group(task, group, signal, info.as_ref())
        }
    }
}

/// Sends to each of `targets` under the tree's lock, so that no fork slips through: success when one took it.
fn send_to_each<'a>(
    task: &Task,
    tree: &ProcessTree,
    targets: impl Iterator<Item = &'a Arc<Process>>,
    signal: Option<Signal>,
    info: Option<&SignalInfo>,
) -> Result<()> {
    let mut outcome = Err(Errno::ESRCH);
    for target in targets {
        let result = match target.leader() {
            None => Ok(()),
            Some(leader) => may_signal_locked(tree, task, &leader, signal).and_then(|()| match info {
                Some(info) => from_program(task, &leader, false, info.clone()),
                None => Ok(()),
            }),
        };
        if outcome.is_err() {
            outcome = result;
        }
    }
    outcome
}

fn kill_group(task: &Task, group: u32, signal: Option<Signal>, info: Option<&SignalInfo>) -> Result<()> {
    let tree = TREE.lock();
    send_to_each(task, &tree, tree.members(group).map(|(_, process)| process), signal, info)
}

fn kill_everybody(task: &Task, signal: Option<Signal>, info: Option<&SignalInfo>) -> Result<()> {
    let own = task.process().number();
    let namespace = task.process().namespace();
    let tree = TREE.lock();
    // Its own namespace's init does not count, nor what the namespace does not see.
    let others = tree.iter().filter(|(number, process)| *number != own && process.number_in(namespace) > 1);
    send_to_each(task, &tree, others.map(|(_, process)| process), signal, info)
}

/// tkill(2) and tgkill(2): one thread; `process` is checked when given.
///
/// # Errors
/// EINVAL, ESRCH, EPERM, EAGAIN.
pub fn tkill(task: &Task, process: Option<i32>, thread: i32, signal: i32) -> Result<()> {
    let signal = signal_argument(signal)?;
    let info = signal.map(|signal| own_info(task, signal, code::SI_TKILL));
    send_to_thread(task, process, thread, signal, info)
}

fn send_to_thread(
    task: &Task,
    process: Option<i32>,
    thread: i32,
    signal: Option<Signal>,
    info: Option<SignalInfo>,
) -> Result<()> {
    if thread <= 0 || process.is_some_and(|process| process <= 0) {
        return Err(Errno::EINVAL);
    }
    let namespace = task.process().namespace();
    let target = namespace.find_task(thread).ok_or(Errno::ESRCH)?;
    if process.is_some_and(|process| target.process().number_in(namespace) != process) {
        return Err(Errno::ESRCH);
    }
    may_signal(task, &target, signal)?;
    match info {
        Some(info) => from_program(task, &target, true, info),
        None => Ok(()),
    }
}

/// What a program may say about itself in rt_sigqueueinfo: the kernel's own codes only to itself.
fn queued_info(
    to_self: bool,
    signal: Option<Signal>,
    bytes: &[u8; SIGINFO_SIZE],
) -> Result<Option<SignalInfo>> {
    // Also who sends nothing must not pretend to be the kernel.
    let info = SignalInfo::from_bytes(signal.unwrap_or(Signal::SIGCONT), bytes);
    if (info.code >= 0 || info.code == code::SI_TKILL) && !to_self {
        return Err(Errno::EPERM);
    }
    Ok(signal.map(|_| info))
}

/// rt_sigqueueinfo(2).
///
/// # Errors
/// EINVAL, ESRCH, EPERM, EAGAIN.
pub fn sigqueue(task: &Task, pid: i32, signal: i32, bytes: &[u8; SIGINFO_SIZE]) -> Result<()> {
    let signal = signal_argument(signal)?;
    let info = queued_info(pid == task.process_id(), signal, bytes)?;
    let target = task.process().namespace().find_process(pid).ok_or(Errno::ESRCH)?;
    send_checked(task, &target, signal, info.as_ref())
}

/// rt_tgsigqueueinfo(2).
///
/// # Errors
/// EINVAL, ESRCH, EPERM, EAGAIN.
pub fn tgsigqueue(
    task: &Task,
    process: i32,
    thread: i32,
    signal: i32,
    bytes: &[u8; SIGINFO_SIZE],
) -> Result<()> {
    if process <= 0 || thread <= 0 {
        return Err(Errno::EINVAL);
    }
    let signal = signal_argument(signal)?;
    let info = queued_info(process == task.process_id(), signal, bytes)?;
    send_to_thread(task, Some(process), thread, signal, info)
}

/// pidfd_send_signal(2); flags must be 0.
///
/// # Errors
/// EBADF, EINVAL, ESRCH, EPERM, EAGAIN.
pub fn pidfd_send_signal(
    task: &Task,
    descriptor: i32,
    signal: i32,
    bytes: Option<[u8; SIGINFO_SIZE]>,
    flags: u32,
) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let target = crate::pidfd::find(task, descriptor)?;
    send_to_pid(task, &target, signal, bytes.as_ref())
}

fn send_to_pid(
    task: &Task,
    target: &pid::Pid,
    signal: i32,
    bytes: Option<&[u8; SIGINFO_SIZE]>,
) -> Result<()> {
    let signal = signal_argument(signal)?;
    let process = target.process().ok_or(Errno::ESRCH)?;
    let to_self = Arc::ptr_eq(&process, task.process());
    let info = match (bytes, signal) {
        (Some(bytes), Some(signal)) => {
            if i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) != signal.number() {
                return Err(Errno::EINVAL);
            }
            queued_info(to_self, Some(signal), bytes)?
        }
        (None, Some(signal)) => Some(own_info(task, signal, code::SI_USER)),
        (_, None) => None,
    };
    send_checked(task, &process, signal, info.as_ref())
}

/// rt_sigaction(2): gives the old action, sets a new one.
///
/// # Errors
/// EINVAL: no such signal, or SIGKILL and SIGSTOP for a new action.
pub fn set_action(task: &Task, signal: i32, action: Option<Action>) -> Result<Action> {
    let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
    let mut shared = task.process().shared.lock();
    let Some(action) = action else { return Ok(shared.handlers.get(signal)) };
    if SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    let old = shared.handlers.set(signal, action);
    if action.discards(signal) {
        // POSIX: setting a signal to be ignored drops what is pending, even when it is blocked.
        let set = SignalSet::of(&[signal]);
        let mut dropped = shared.pending.discard(set);
        for thread in &shared.threads {
            dropped += thread.own.lock().pending.discard(set);
        }
        shared.account.remove_signals(dropped);
    }
    Ok(old)
}

/// rt_sigprocmask(2): gives the old mask, changes it by `how` (0 block, 1 unblock, 2 set).
///
/// # Errors
/// EINVAL: unknown `how` with a set.
pub fn set_mask(task: &Task, how: i32, set: Option<SignalSet>) -> Result<SignalSet> {
    let old = task.blocked();
    let Some(set) = set else { return Ok(old) };
    let new = match how {
        0 => old.union(set),
        1 => old.without(set),
        2 => set,
        _ => return Err(Errno::EINVAL),
    };
    if new.blockable() != old {
        set_blocked(task, new);
    }
    Ok(old)
}

/// rt_sigpending(2): blocked signals that wait for the thread or its process.
pub fn pending(task: &Task) -> SignalSet {
    let shared = task.process().shared.lock();
    let waiting = shared.pending.set().union(task.own.lock().pending.set());
    waiting.intersection(task.blocked())
}

/// Sets a mask until the next handler has run or the call ends without one (ppoll, pselect, epoll_pwait, sigsuspend).
pub fn set_temporary_mask(task: &Task, mask: SignalSet) {
    let old = task.blocked();
    task.own.lock().saved_mask = Some(old);
    set_blocked(task, mask);
}

/// Ends [`set_temporary_mask`] when the call was not interrupted; else leave it to the way back to user mode.
pub fn restore_mask(task: &Task) {
    let saved = task.own.lock().saved_mask.take();
    if let Some(mask) = saved {
        set_blocked(task, mask);
    }
}

/// rt_sigsuspend(2): sleeps with `mask` until a signal comes. The result is always an error that the way back handles.
pub fn suspend(task: &Task, mask: SignalSet) -> Errno {
    set_temporary_mask(task, mask);
    pause()
}

/// pause(2).
pub fn pause() -> Errno {
    while !signal_pending() {
        if sched::park(None, WaitKind::Interruptible) == WakeReason::Interrupted {
            break;
        }
    }
    Errno::ERESTARTNOHAND
}

/// rt_sigtimedwait(2): takes a signal of `set`, waiting until `deadline_ns`; `Some(0)` does not wait.
///
/// # Errors
/// EAGAIN: none came in time. EINTR: another signal came.
pub fn timed_wait(task: &Task, set: SignalSet, deadline_ns: Option<u64>) -> Result<SignalInfo> {
    let set = set.blockable();
    let others = set.complement();
    let waiting = take_signal(task, &mut task.process().shared.lock(), others);
    if let Some(info) = waiting {
        return Ok(info);
    }
    if deadline_ns == Some(0) {
        return Err(Errno::EAGAIN);
    }
    task.waiting_for.store(set.bits(), Ordering::Release);
    let outcome = wait_for_signal(task, others, deadline_ns);
    task.waiting_for.store(0, Ordering::Release);
    update_flag(task, &task.process().shared.lock());
    outcome
}

/// Takes a pending signal of `set` for a signalfd. Its fields are where signalfd(2) has them.
pub(crate) fn signal_info_for_reading(task: &Task, set: SignalSet) -> Option<SignalfdSiginfo> {
    let info = {
        let mut shared = task.process().shared.lock();
        let info = take_signal(task, &mut shared, set.complement());
        update_flag(task, &shared);
        info
    }?;
    let mut out = SignalfdSiginfo {
        ssi_signo: info.signal.number() as u32,
        ssi_errno: info.errno,
        ssi_code: info.code,
        ..SignalfdSiginfo::default()
    };
    match info.cause {
        Cause::None => {}
        Cause::Sender { pid, uid } => (out.ssi_pid, out.ssi_uid) = (pid as u32, uid),
        Cause::Queued { pid, uid, value } => {
            (out.ssi_pid, out.ssi_uid) = (pid as u32, uid);
            (out.ssi_int, out.ssi_ptr) = (value as i32, value);
        }
        Cause::Timer { id, overrun, value } => {
            (out.ssi_tid, out.ssi_overrun) = (id as u32, overrun as u32);
            (out.ssi_int, out.ssi_ptr) = (value as i32, value);
        }
        Cause::Fault { address } | Cause::KeyFault { address, .. } => out.ssi_addr = address,
        Cause::Child { pid, uid, status, user_ticks, system_ticks } => {
            (out.ssi_pid, out.ssi_uid, out.ssi_status) = (pid as u32, uid, status);
            (out.ssi_utime, out.ssi_stime) = (user_ticks as u64, system_ticks as u64);
        }
        Cause::Poll { band, fd } => (out.ssi_band, out.ssi_fd) = (band as u32, fd),
        Cause::Raw(rest) => {
            // The layout of a queued signal: process, user and value follow the first four words.
            let word =
                |at: usize| rest.get(at..at + 4).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
            (out.ssi_pid, out.ssi_uid, out.ssi_int) = (word(4), word(8), word(12) as i32);
            out.ssi_ptr = u64::from(word(12)) | u64::from(word(16)) << 32;
        }
    }
    Some(out)
}

fn wait_for_signal(task: &Task, others: SignalSet, deadline_ns: Option<u64>) -> Result<SignalInfo> {
    loop {
        {
            let mut shared = task.process().shared.lock();
            if let Some(info) = take_signal(task, &mut shared, others) {
                return Ok(info);
            }
            update_flag(task, &shared);
            // Asked while nobody can send: later the flag may tell of the very signal that is waited for.
            if signal_pending() {
                return Err(Errno::EINTR);
            }
        }
        match sched::park(deadline_ns, WaitKind::Interruptible) {
            WakeReason::TimedOut => {
                let last = take_signal(task, &mut task.process().shared.lock(), others);
                return last.ok_or(Errno::EAGAIN);
            }
            WakeReason::Woken | WakeReason::Interrupted => {}
        }
    }
}

/// sigaltstack(2): gives the old stack, sets a new one. `stack_pointer` is the program's.
///
/// # Errors
/// EPERM: the program runs on the old one. EINVAL: bad flags. ENOMEM: too small.
pub fn alternate_stack(
    task: &Task,
    stack_pointer: u64,
    new: Option<AlternateStack>,
) -> Result<AlternateStack> {
    let old = task.alternate_stack();
    let reported = AlternateStack { flags: old.reported_flags(stack_pointer), ..old };
    let Some(new) = new else { return Ok(reported) };
    if old.size != 0 && old.contains(stack_pointer) {
        return Err(Errno::EPERM);
    }
    let mode = new.flags & !SS_AUTODISARM;
    if mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE {
        return Err(Errno::EINVAL);
    }
    if mode == SS_DISABLE {
        task.set_alternate_stack(AlternateStack::NONE);
        return Ok(reported);
    }
    if new.size < MIN_STACK_SIZE {
        return Err(Errno::ENOMEM);
    }
    task.set_alternate_stack(AlternateStack { flags: new.flags & SS_AUTODISARM, ..new });
    Ok(reported)
}
