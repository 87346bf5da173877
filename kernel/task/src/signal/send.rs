//! Sending a signal: which are dropped, what stop and continue signals undo, who is woken.
//!
//! [`to_process`], [`to_task`] and [`to_group`] send without asking for permission; [`may_signal`] is the rule of kill(2).
//! The first two work from interrupts; the last takes the process tree and is for threads only.

use super::info::{Cause, SignalInfo};
use super::queue::{PendingSignals, Pushed};
use super::set::{DefaultAction, Signal, SignalSet};
use super::{Action, Disposition};
use crate::process::{Process, ProcessTree, Shared, StopState, TREE};
use crate::status::{ChildEvent, ExitStatus};
use crate::task::Task;
use crate::tree::Number;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use security::{Capability, Credentials};

/// Where a signal comes from, which matters to the first process of a pid namespace (pid_namespaces(7)): SIGKILL and SIGSTOP
/// reach it from above only.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A process of the receiver's pid namespace or below.
    Within,
    /// A process that the receiver's namespace does not see, or the kernel.
    Above,
}

impl Origin {
    /// Of a signal that no process sends by name.
    fn of(info: &SignalInfo) -> Origin {
        if info.code == super::info::code::SI_KERNEL { Origin::Above } else { Origin::Within }
    }
}

/// Sends a signal to a process; any of its threads may take it.
///
/// # Errors
/// EAGAIN: too many queued real-time signals.
pub fn to_process(process: &Process, info: SignalInfo) -> Result<()> {
    let origin = Origin::of(&info);
    send_locked(process, &mut process.shared.lock(), None, info, origin)
}

/// What `sender` says of itself, as `receiver` sees it: ids of other namespaces mean nothing there.
fn translated(sender: &Task, receiver: &Task, mut info: SignalInfo) -> (SignalInfo, Origin) {
    let visible = sender.process().number_in(receiver.process().namespace());
    let (from, to) = (sender.credentials(), receiver.credentials());
    match &mut info.cause {
        Cause::Sender { pid, uid } => {
            (*pid, *uid) = (visible, to.user_namespace.from_kuid_munged(from.ruid));
        }
        // What the program says of itself, in its own numbers.
        Cause::Queued { pid, uid, .. } => {
            if !Arc::ptr_eq(&from.user_namespace, &to.user_namespace) {
                let user = from.user_namespace.make_kuid(*uid);
                *uid = user.map_or(security::OVERFLOW_ID, |user| to.user_namespace.from_kuid_munged(user));
            }
            *pid = if visible == 0 { 0 } else { *pid };
        }
        _ => {}
    }
    (info, if visible == 0 { Origin::Above } else { Origin::Within })
}

/// Sends what a program sends to a process with the thread `receiver`, or with `alone` to that thread.
///
/// # Errors
/// EAGAIN: too many queued real-time signals. ESRCH: the thread is ending.
pub(crate) fn from_program(sender: &Task, receiver: &Task, alone: bool, info: SignalInfo) -> Result<()> {
    let (info, origin) = translated(sender, receiver, info);
    let process = receiver.process();
    send_locked(process, &mut process.shared.lock(), alone.then_some(receiver), info, origin)
}

/// Sends a signal to one thread.
///
/// # Errors
/// EAGAIN: too many queued real-time signals. ESRCH: the thread is ending.
pub fn to_task(task: &Task, info: SignalInfo) -> Result<()> {
    let process = task.process();
    let origin = Origin::of(&info);
    send_locked(process, &mut process.shared.lock(), Some(task), info, origin)
}

/// Sends a signal to all processes of a group. Thread context, [`TREE`] not held.
///
/// # Errors
/// ESRCH: no such group. EAGAIN: when no process took it.
pub fn to_group(group: Number, info: &SignalInfo) -> Result<()> {
    to_group_locked(&TREE.lock(), group, info)
}

pub(crate) fn to_group_locked(tree: &ProcessTree, group: Number, info: &SignalInfo) -> Result<()> {
    let mut outcome = Err(Errno::ESRCH);
    for (_, process) in tree.members(group) {
        let result = to_process(process, info.clone());
        if outcome.is_err() {
            outcome = result;
        }
    }
    outcome
}

/// Whether someone with `sender`'s credentials may send `signal` to `target` (kill(2)).
///
/// # Errors
/// EPERM.
pub fn may_signal(sender: &Task, target: &Task, signal: Option<Signal>) -> Result<()> {
    if is_trusted(sender, target) {
        return Ok(());
    }
    may_signal_locked(&TREE.lock(), sender, target, signal)
}

/// [`may_signal`] for who holds the tree.
pub(crate) fn may_signal_locked(
    tree: &ProcessTree,
    sender: &Task,
    target: &Task,
    signal: Option<Signal>,
) -> Result<()> {
    let session = |task: &Task| tree.session_of(task.process().number());
    let continues = signal == Some(Signal::SIGCONT) && session(sender) == session(target);
    if continues || is_trusted(sender, target) { Ok(()) } else { Err(Errno::EPERM) }
}

fn is_trusted(sender: &Task, target: &Task) -> bool {
    Arc::ptr_eq(sender.process(), target.process())
        || identities_allow(&sender.credentials(), &target.credentials())
}

fn identities_allow(from: &Credentials, to: &Credentials) -> bool {
    from.euid == to.suid
        || from.euid == to.ruid
        || from.ruid == to.suid
        || from.ruid == to.ruid
        || from.capable(&to.user_namespace, Capability::Kill)
}

/// Puts a signal where it belongs; `thread` is the receiver when it is for one thread alone.
pub(crate) fn send_locked(
    process: &Process,
    shared: &mut Shared,
    thread: Option<&Task>,
    info: SignalInfo,
    origin: Origin,
) -> Result<()> {
    let signal = info.signal;
    if shared.threads.is_empty() {
        return if thread.is_some() { Err(Errno::ESRCH) } else { Ok(()) };
    }
    if shared.group_exit.is_some() && signal != Signal::SIGKILL {
        return Ok(());
    }
    undo_opposites(process, shared, signal);
    if is_ignored(process, shared, thread, signal, origin) {
        return Ok(());
    }
    let limit = process.limits().soft(crate::limits::Resource::PendingSignals);
    let room = (shared.account.signals() as u64) < limit;
    let pushed = match thread {
        None => shared.pending.push(info, room),
        Some(task) => task.own.lock().pending.push(info, room),
    };
    match pushed {
        Pushed::Refused => return Err(Errno::EAGAIN),
        Pushed::AlreadyPending => return Ok(()),
        Pushed::Queued => shared.account.add_signals(1),
        Pushed::WithoutInformation => {}
    }
    wake_receiver(process, shared, thread, signal);
    process.signal_wait.wake_all();
    Ok(())
}

/// SIGCONT drops pending stop signals and lets a stopped process go on; a stop signal drops a pending SIGCONT.
fn undo_opposites(process: &Process, shared: &mut Shared, signal: Signal) {
    let opposites = if signal == Signal::SIGCONT {
        SignalSet::STOP
    } else if SignalSet::STOP.contains(signal) {
        SignalSet::of(&[Signal::SIGCONT])
    } else {
        return;
    };
    let mut dropped = discard(&mut shared.pending, opposites);
    for task in &shared.threads {
        dropped += discard(&mut task.own.lock().pending, opposites);
    }
    shared.account.remove_signals(dropped);
    if signal != Signal::SIGCONT || !shared.stop.is_active() {
        return;
    }
    resume(shared);
    shared.notify = Some(ChildEvent::Continued);
    shared.report.stopped = None;
    shared.report.continued = true;
    // Somebody on the way to user mode tells the parent; make sure there is somebody.
    for task in &shared.threads {
        task.interrupt();
    }
    process.stop_wait.wake_all();
}

fn discard(pending: &mut PendingSignals, set: SignalSet) -> usize {
    pending.discard(set)
}

/// Ends a stop: threads that wait in it go on.
pub(crate) fn resume(shared: &mut Shared) {
    shared.stop = StopState::Running;
    for task in &shared.threads {
        task.own.lock().stop_counted = false;
    }
}

/// Whether sending would do nothing: ignored and not blocked, or a default action on init.
fn is_ignored(
    process: &Process,
    shared: &Shared,
    thread: Option<&Task>,
    signal: Signal,
    origin: Origin,
) -> bool {
    let receiver = thread.or(shared.threads.first().map(|task| &**task));
    let Some(receiver) = receiver else { return true };
    let waited = SignalSet::from_bits(receiver.waiting_for.load(Ordering::Relaxed));
    if receiver.blocked().union(waited).contains(signal) {
        return false;
    }
    let action = shared.handlers.get(signal);
    let forced = origin == Origin::Above && SignalSet::UNBLOCKABLE.contains(signal);
    process.is_init() && by_default(action, signal) && !forced || action.discards(signal)
}

fn by_default(action: Action, signal: Signal) -> bool {
    matches!(action.disposition(signal), Disposition::Default(_))
}

/// init gets no signal that it has no handler for (kill(2), "Notes"). SIGKILL and SIGSTOP that have come so far come from above.
pub(crate) fn protects_init(process: &Process, action: Action, signal: Signal) -> bool {
    process.is_init() && by_default(action, signal) && !SignalSet::UNBLOCKABLE.contains(signal)
}

/// Whether `task` would take `signal` now. A stopped thread takes nothing but SIGKILL: the rest waits for SIGCONT.
fn wants(task: &Task, shared: &Shared, signal: Signal) -> bool {
    if task.is_ending() {
        return false;
    }
    if signal == Signal::SIGKILL {
        return true;
    }
    let stopped = shared.stop.is_active() && task.own.lock().stop_counted;
    let waited = SignalSet::from_bits(task.waiting_for.load(Ordering::Relaxed));
    !stopped && (!task.blocked().contains(signal) || waited.contains(signal))
}

/// Finds a thread that takes the signal and wakes it; a signal that surely kills ends the whole process at once.
fn wake_receiver(process: &Process, shared: &mut Shared, thread: Option<&Task>, signal: Signal) {
    let action = shared.handlers.get(signal);
    let chosen = match thread {
        Some(task) => wants(task, shared, signal).then_some(task),
        None => shared.threads.iter().map(|task| &**task).find(|task| wants(task, shared, signal)),
    };
    let Some(chosen) = chosen else { return };
    let blocked = chosen.blocked().contains(signal) && signal != Signal::SIGKILL;
    let fatal = matches!(action.disposition(signal), Disposition::Default(DefaultAction::Terminate));
    if fatal && !blocked && (!process.is_init() || signal == Signal::SIGKILL) {
        begin_group_exit(process, shared, ExitStatus::Killed(signal));
        return;
    }
    chosen.interrupt();
}

/// Makes every thread of the process end with `status`; the first caller decides.
pub(crate) fn begin_group_exit(process: &Process, shared: &mut Shared, status: ExitStatus) {
    if shared.group_exit.is_none() {
        shared.group_exit = Some(status);
    }
    resume(shared);
    for task in &shared.threads {
        task.kill();
    }
    process.stop_wait.wake_all();
}

/// Sends a signal that the receiving thread cannot escape: when it is blocked or ignored the default action is forced.
/// For exceptions of the running instruction.
pub fn force(task: &Task, info: SignalInfo) {
    let process = task.process();
    let mut shared = process.shared.lock();
    let signal = info.signal;
    let action = shared.handlers.get(signal);
    if task.blocked().contains(signal) || action.is_explicitly_ignored() {
        shared.handlers.set(signal, Action::DEFAULT);
        let own = task.own.lock();
        let mut blocked = task.blocked();
        blocked.remove(signal);
        task.store_blocked(blocked);
        drop(own);
    }
    let action = shared.handlers.get(signal);
    if matches!(action.disposition(signal), Disposition::Default(_)) && process.is_init() {
        // Even init dies of its own faults.
        begin_group_exit(process, &mut shared, ExitStatus::Killed(signal));
        return;
    }
    match task.own.lock().pending.push(info, true) {
        Pushed::Queued => shared.account.add_signals(1),
        Pushed::AlreadyPending | Pushed::WithoutInformation | Pushed::Refused => {}
    }
    task.interrupt();
}
