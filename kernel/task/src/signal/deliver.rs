//! Signals on the way back to user mode.
//!
//! [`exit_work`] is called by the thread's loop whenever the scheduler's signal flag is up: it ends the thread when the
//! process ends, stops it, tells the parent what changed, takes the next signal and either acts by default or
//! sets the registers up so that the program's handler runs. The fast path never comes here.

use super::frame;
use super::info::SignalInfo;
use super::send::{begin_group_exit, protects_init};
use super::set::{DefaultAction, Signal, SignalSet};
use super::{Action, Disposition};
use crate::limits::Resource;
use crate::process::{INIT, Process, Shared, StopState, TREE};
use crate::restart::{Decision, Handler, decide};
use crate::status::{ChildEvent, ExitStatus};
use crate::task::Task;
use alloc::sync::Arc;
use machine::sync::WaitKind;
use machine::user::UserRegisters;

/// What the loop does next.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AfterWork {
    /// Back to the program.
    Resume,
    /// The thread ends.
    End(ExitStatus),
}

/// One step of what there is to do.
enum Step {
    End(ExitStatus),
    Stop,
    Notify(ChildEvent),
    Deliver(SignalInfo, Action),
    Done,
}

/// Handles everything pending. `registers.orig_rax` is the number of the system call that was left, or `u64::MAX`.
pub fn exit_work(task: &Arc<Task>, registers: &mut UserRegisters) -> AfterWork {
    loop {
        match next_step(task) {
            Step::End(status) => return AfterWork::End(status),
            Step::Stop => wait_while_stopped(task),
            Step::Notify(event) => notify_parent_of(task.process(), event),
            Step::Deliver(info, action) => {
                if deliver(task, registers, &info, action) {
                    return AfterWork::Resume;
                }
            }
            Step::Done => {
                restart_without_handler(registers);
                restore_mask_if_saved(task);
                return AfterWork::Resume;
            }
        }
    }
}

fn next_step(task: &Task) -> Step {
    let process = task.process();
    let mut shared = process.shared.lock();
    if let Some(status) = shared.group_exit {
        return Step::End(status);
    }
    if shared.exec_owner.is_some_and(|owner| owner != task.number()) {
        return Step::End(ExitStatus::Killed(Signal::SIGKILL));
    }
    if task.is_ending() {
        return Step::End(ExitStatus::Exited(task.exit_value()));
    }
    if shared.stop.is_active() {
        return Step::Stop;
    }
    if let Some(event) = shared.notify.take() {
        return Step::Notify(event);
    }
    match take_signal(task, &mut shared, task.blocked()) {
        Some(info) => {
            let action = shared.handlers.get(info.signal);
            if action.has(super::action::flags::SA_RESETHAND)
                && action.disposition(info.signal) == Disposition::Handle
            {
                shared.handlers.set(info.signal, Action::DEFAULT);
            }
            Step::Deliver(info, action)
        }
        None => {
            update_flag(task, &shared);
            Step::Done
        }
    }
}

/// Takes the next signal outside `blocked`: first the thread's own, then the process's.
pub(crate) fn take_signal(task: &Task, shared: &mut Shared, blocked: SignalSet) -> Option<SignalInfo> {
    let mut own = task.own.lock();
    let before = own.pending.instances() + shared.pending.instances();
    let info = own.pending.pop(blocked).or_else(|| shared.pending.pop(blocked));
    let after = own.pending.instances() + shared.pending.instances();
    drop(own);
    shared.account.remove_signals(before - after);
    let info = info?;
    crate::timers::posix::note_delivery(task.process(), shared, info)
}

/// Sets the scheduler's flag to whether there is anything to do. Both queues are locked, so no wake-up is lost.
pub(crate) fn update_flag(task: &Task, shared: &Shared) {
    let own = task.own.lock();
    let waiting = own.pending.set().union(shared.pending.set()).without(task.blocked());
    let busy = !waiting.is_empty()
        || shared.stop.is_active()
        || shared.notify.is_some()
        || shared.group_exit.is_some()
        || shared.exec_owner.is_some_and(|owner| owner != task.number());
    if busy {
        task.interrupt();
    } else {
        task.thread().clear_signal_pending();
    }
}

/// Acts on one signal. True when the program's handler is set up and the thread should go there.
fn deliver(task: &Arc<Task>, registers: &mut UserRegisters, info: &SignalInfo, action: Action) -> bool {
    match action.disposition(info.signal) {
        Disposition::Ignore => false,
        Disposition::Handle => {
            let handler = if action.has(super::action::flags::SA_RESTART) {
                Handler::Restarting
            } else {
                Handler::Interrupting
            };
            apply_restart(registers, handler);
            crate::rseq::fix_up(task, registers);
            run_handler(task, registers, info, action);
            // More signals may be deliverable: they nest on top, the last one runs first, as on Linux.
            false
        }
        Disposition::Default(_) if protects_init(task.process(), action, info.signal) => false,
        Disposition::Default(default) => {
            act_by_default(task, info.signal, default);
            false
        }
    }
}

fn run_handler(task: &Arc<Task>, registers: &mut UserRegisters, info: &SignalInfo, action: Action) {
    let mask = task.own.lock().saved_mask.take().unwrap_or(task.blocked());
    match frame::push(task, registers, info, action, mask) {
        Ok(()) => {
            let mut blocked = task.blocked().union(action.mask);
            if !action.has(super::action::flags::SA_NODEFER) {
                blocked.insert(info.signal);
            }
            set_blocked(task, blocked);
        }
        Err(_) => {
            // No stack for the handler: SIGSEGV, and by default when it was SIGSEGV itself (sigaction(2)).
            if info.signal == Signal::SIGSEGV {
                let shared = task.process().shared.lock();
                shared.handlers.set(Signal::SIGSEGV, Action::DEFAULT);
            }
            super::send::force(task, SignalInfo::from_kernel(Signal::SIGSEGV));
        }
    }
}

/// Changes the mask of the running task.
pub(crate) fn set_blocked(task: &Task, blocked: SignalSet) {
    let mut shared = task.process().shared.lock();
    let newly = blocked.blockable().without(task.blocked());
    {
        let _own = task.own.lock();
        task.store_blocked(blocked);
    }
    retarget(task, &mut shared, newly);
    update_flag(task, &shared);
}

/// When a thread blocks signals that are pending for the process, another thread that wants them must hear of it.
fn retarget(task: &Task, shared: &mut Shared, newly_blocked: SignalSet) {
    let waiting = shared.pending.set().intersection(newly_blocked);
    if waiting.is_empty() || shared.threads.len() < 2 {
        return;
    }
    for other in &shared.threads {
        if other.number() != task.number() && !waiting.without(other.blocked()).is_empty() {
            other.interrupt();
        }
    }
}

pub(crate) fn hand_over_pending(task: &Task, shared: &mut Shared) {
    let waiting = shared.pending.set();
    for other in &shared.threads {
        if other.number() != task.number() && !waiting.without(other.blocked()).is_empty() {
            other.interrupt();
        }
    }
}

fn act_by_default(task: &Task, signal: Signal, default: DefaultAction) {
    let process = task.process();
    match default {
        DefaultAction::Ignore | DefaultAction::Continue => {}
        DefaultAction::Stop => begin_stop(task, signal),
        DefaultAction::Terminate => {
            begin_group_exit(process, &mut process.shared.lock(), ExitStatus::Killed(signal));
        }
        DefaultAction::CoreDump => {
            let wanted = process.limits().soft(Resource::Core) >= machine::PAGE_SIZE as u64;
            let dumps = wanted && process.dumpable() == 1;
            let status = if dumps { ExitStatus::Dumped(signal) } else { ExitStatus::Killed(signal) };
            begin_group_exit(process, &mut process.shared.lock(), status);
        }
    }
}

/// Starts stopping all threads. A stop from the terminal does nothing to an orphaned group (setpgid(2)).
fn begin_stop(task: &Task, signal: Signal) {
    let process = task.process();
    if signal != Signal::SIGSTOP {
        let tree = TREE.lock();
        let group = tree.group_of(process.number());
        if group.is_some_and(|group| tree.is_orphaned(group, None, INIT)) {
            return;
        }
    }
    let mut shared = process.shared.lock();
    if shared.group_exit.is_some() || shared.stop.is_active() {
        return;
    }
    // A SIGCONT that came since the signal was taken wins.
    let continued = shared.pending.set().contains(Signal::SIGCONT);
    if continued && signal != Signal::SIGSTOP {
        return;
    }
    shared.stop = StopState::Stopping { signal, remaining: shared.threads.len() };
    for other in &shared.threads {
        other.own.lock().stop_counted = false;
        other.interrupt();
    }
}

/// Takes part in the stop: counts itself, tells the parent if it was the last, sleeps until continued or killed.
fn wait_while_stopped(task: &Task) {
    let process = task.process();
    // A statement of its own: the lock must be gone before the parent is told.
    let completed = count_as_stopped(task, &mut process.shared.lock());
    if let Some(signal) = completed {
        notify_parent_of(process, ChildEvent::Stopped(signal));
    }
    let running = || {
        let shared = process.shared.lock();
        let goes_on = !shared.stop.is_active()
            || shared.group_exit.is_some()
            || shared.exec_owner.is_some_and(|owner| owner != task.number());
        goes_on.then_some(())
    };
    let _ = process.stop_wait.wait_until(WaitKind::Killable, None, running);
}

/// Counts `task` for the current stop; gives the signal when that completes it.
pub(crate) fn count_as_stopped(task: &Task, shared: &mut Shared) -> Option<Signal> {
    let StopState::Stopping { signal, remaining } = shared.stop else { return None };
    {
        let mut own = task.own.lock();
        if own.stop_counted {
            return None;
        }
        own.stop_counted = true;
    }
    if remaining > 1 {
        shared.stop = StopState::Stopping { signal, remaining: remaining - 1 };
        return None;
    }
    shared.stop = StopState::Stopped(signal);
    shared.report.stopped = Some(signal);
    shared.report.continued = false;
    Some(signal)
}

pub(crate) fn notify_parent_of(process: &Process, event: ChildEvent) {
    let tree = TREE.lock();
    crate::exit::notify_parent(&tree, process, event);
}

/// Sets the registers of an interrupted call for a restart or EINTR.
fn apply_restart(registers: &mut UserRegisters, handler: Handler) {
    if registers.orig_rax == u64::MAX {
        return;
    }
    match decide(registers.rax as i64, handler) {
        Decision::Keep => {}
        Decision::Interrupted => registers.rax = abi::errno::Errno::EINTR.as_return() as u64,
        Decision::Repeat => {
            registers.rax = registers.orig_rax;
            registers.rip -= SYSCALL_LENGTH;
        }
        Decision::RestartSyscall => {
            registers.rax = abi::nr::x86_64::RESTART_SYSCALL as u64;
            registers.rip -= SYSCALL_LENGTH;
        }
    }
    registers.orig_rax = u64::MAX;
}

/// Bytes of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

fn restart_without_handler(registers: &mut UserRegisters) {
    apply_restart(registers, Handler::None);
}

/// After sigsuspend or ppoll without a handler the old mask comes back.
fn restore_mask_if_saved(task: &Task) {
    let saved = task.own.lock().saved_mask.take();
    if let Some(mask) = saved {
        set_blocked(task, mask);
    }
}
