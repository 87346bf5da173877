//! The end of threads and processes.
//!
//! exit(2) and exit_group(2) only mark the task; the thread's loop then calls [`finish_thread`], which gives everything back in an
//! order that others can rely on: user memory is told first (robust futexes, `clear_child_tid`, vfork), then files close, then
//! the thread leaves its process. The last thread makes the process a zombie: its children get a new parent, orphaned
//! groups are told, the session may lose its terminal, and the parent is notified (or the zombie is gone at once when nobody cares).

use crate::job::disassociate_locked;
use crate::process::{INIT, Process, ProcessTree, StopState, TREE};
use crate::signal::action::flags::{SA_NOCLDSTOP, SA_NOCLDWAIT};
use crate::signal::deliver::{count_as_stopped, hand_over_pending, notify_parent_of};
use crate::signal::send::{begin_group_exit, to_group_locked, to_process};
use crate::signal::{Cause, Signal, SignalInfo};
use crate::status::{ChildEvent, ExitStatus};
use crate::task::Task;
use crate::tree::{Freed, Number};
use crate::usage;
use crate::wait::finish_reaping;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use machine::sync::Once;

/// Nanoseconds of one `clock_t` tick (USER_HZ is 100).
pub const TICK_NS: u64 = 10_000_000;

/// exit(2): the calling thread ends when its system call returns.
pub fn exit_thread(task: &Task, status: i32) {
    task.set_exit_value(status as u8);
    task.ending.store(true, Ordering::Relaxed);
    task.interrupt();
}

/// exit_group(2): all threads end.
pub fn exit_group(task: &Task, status: i32) {
    let process = task.process();
    begin_group_exit(process, &mut process.shared.lock(), ExitStatus::Exited(status as u8));
}

type InitEnd = fn(ExitStatus) -> !;
static INIT_END: Once<InitEnd> = Once::new();

/// Says what happens when the first process ends; by default the kernel panics, as Linux does.
pub fn on_init_end(end: InitEnd) -> bool {
    INIT_END.set(end).is_ok()
}

/// The thread's last act; the caller's loop returns afterwards and the scheduler frees its stack.
pub(crate) fn finish_thread(task: &Arc<Task>, status: ExitStatus) {
    let process = task.process().clone();
    task.ending.store(true, Ordering::Relaxed);
    release_user_memory(task);
    drop(task.replace_files(None));
    drop(task.replace_fs(None));
    // Whoever waits for the end of the process finds that what it had open last is gone.
    sched::errand::run_taken_on(&sched::current());
    task.leave_namespaces();
    task.set_rseq(None);
    let (last, stopped) = leave_process(task, &process, status);
    if let Some(signal) = stopped {
        notify_parent_of(&process, ChildEvent::Stopped(signal));
    }
    if let Some(status) = last {
        process.timers.cancel_all();
        sched::current().set_page_table(None);
        let space = process.replace_space(None);
        if let Some(space) = &space {
            process.usage.lock().ended_threads.peak_rss_kib = usage::peak_rss_kib(space);
        }
        drop(space);
        drop(process.replace_executable(None));
        sched::errand::run_taken_on(&sched::current());
        end_process(&process, status);
    } else {
        sched::current().set_page_table(None);
    }
    process.thread_wait.wake_all();
    let pid = task.pid();
    pid.set_task(alloc::sync::Weak::new());
    if pid.number() != process.number() {
        pid.release();
    }
}

/// Ends the running thread, which has met a bug of the kernel in the middle of whatever it did: a program's thread as if killed
/// by SIGSEGV, without its process's other threads. Comes back for the first process and an idle thread, which
/// nothing can do without.
pub fn end_after_oops() {
    let Some(thread) = sched::try_current() else { return };
    if let Some(task) = thread.extension_arc::<Task>() {
        if task.process().is_global_init() {
            return;
        }
        // The bug may have come while another address space was in use; what follows wants the program's own.
        if let Some(space) = task.process().space() {
            thread.set_page_table(Some(space.page_table().clone()));
        }
        finish_thread(&task, ExitStatus::Killed(Signal::SIGSEGV));
    }
    if machine::thread::may_end() {
        sched::exit_current();
    }
    // Somebody may still look at this stack: it must stay.
    loop {
        let _ = sched::sleep_until(u64::MAX, machine::sync::WaitKind::Uninterruptible);
    }
}

/// Tells user memory that the thread is gone.
pub(crate) fn release_user_memory(task: &Task) {
    crate::futex::release_owned(task);
    let address = task.clear_child_tid();
    if address != 0 {
        task.set_clear_child_tid(0);
        if machine::user::write_value(address, &0u32).is_ok() {
            crate::futex::wake_one(task, address);
        }
    }
    complete_vfork(task);
}

pub(crate) fn complete_vfork(task: &Task) {
    let completion = task.vfork.lock().take();
    if let Some(completion) = completion {
        completion.complete();
    }
}

/// Takes the thread off its process's list. Gives the process's status when it was the last, and the stop signal when all
/// others have stopped already.
fn leave_process(
    task: &Arc<Task>,
    process: &Process,
    status: ExitStatus,
) -> (Option<ExitStatus>, Option<Signal>) {
    let counts = usage::of_task(task);
    let mut shared = process.shared.lock();
    let stopped = match shared.stop {
        StopState::Stopping { .. } => count_as_stopped(task, &mut shared),
        _ => None,
    };
    let place = task.place.load(Ordering::Relaxed);
    let mine = if shared.threads.get(place).is_some_and(|other| Arc::ptr_eq(other, task)) {
        let mine = shared.threads.swap_remove(place);
        if let Some(moved) = shared.threads.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
        Some(mine)
    } else {
        None
    };
    let dropped = task.own.lock().pending.discard(crate::signal::SignalSet::ALL);
    shared.account.remove_signals(dropped);
    hand_over_pending(task, &mut shared);
    let last = shared.threads.is_empty().then(|| shared.group_exit.unwrap_or(status));
    drop(shared);
    process.usage.lock().ended_threads.add(&counts);
    if task.is_leader() || last.is_some() {
        process.remember(task.name());
    }
    drop(mine);
    (last, stopped.filter(|_| last.is_none()))
}

fn end_process(process: &Arc<Process>, status: ExitStatus) {
    if process.is_global_init() {
        match INIT_END.get() {
            Some(end) => end(status),
            None => machine::oops::fatal(format_args!(
                "Attempted to kill init! exitcode={:#010x}",
                status.wait_status()
            )),
        }
    }
    let status = if process.is_init() { end_namespace(process, status) } else { status };
    let pending = core::mem::take(&mut process.shared.lock().pending);
    let queued = pending.instances();
    process.shared.lock().account.remove_signals(queued);
    drop(pending);
    let mut tree = TREE.lock();
    tree.set_ended(process.number());
    let terminal = if tree.leads_session(process.number()) {
        disassociate_locked(&mut tree, process.number())
    } else {
        None
    };
    let abandoned = give_children_away(&mut tree, process);
    tell_own_group_if_orphaned(&tree, process);
    process.set_exit_status(status);
    let nobody_waits = notify_parent(&tree, process, ChildEvent::Ended(status));
    let reaped = if nobody_waits { reap(&mut tree, process.number()) } else { (None, Freed::new()) };
    drop(tree);
    drop(terminal);
    finish_reaping(reaped.0, &reaped.1);
    reap_abandoned(abandoned);
    process.pid().ended_queue().wake_all();
}

/// The first process of a pid namespace ends: nobody may come in any more, everybody in it is killed and waited for
/// (pid_namespaces(7)). Gives the status it ends with, which tells how reboot(2) was called in there.
fn end_namespace(process: &Arc<Process>, status: ExitStatus) -> ExitStatus {
    let namespace = process.namespace();
    {
        let _tree = TREE.lock();
        namespace.close();
    }
    // Nobody waits for the children any more; those that end from now on are reaped at once.
    process.handlers().set(Signal::SIGCHLD, crate::signal::Action::IGNORE);
    let mut from = 2;
    while let Some((number, member)) = namespace.next_process(from) {
        from = number + 1;
        let _ = to_process(&member, SignalInfo::from_kernel(Signal::SIGKILL));
    }
    reap_abandoned(Some(process.number()));
    // What is left are the numbers of this process: its own, and that of its last thread if another one.
    let own = if sched::current().extension::<Task>().is_none_or(|task| task.is_leader()) { 1 } else { 2 };
    namespace.wait_until_empty(own);
    match Signal::new(namespace.reboot_signal() as i32) {
        Some(signal) => ExitStatus::Killed(signal),
        None => status,
    }
}

fn reap(tree: &mut ProcessTree, number: Number) -> (Option<Arc<Process>>, Freed) {
    // Children nobody waits for do not count (getrusage(2), RUSAGE_CHILDREN).
    tree.remove(number)
}

/// Gives the children to the reaper. Zombies among them whose new parent ignores SIGCHLD are to be reaped: they stay in
/// the tree, and the number of the new parent is given back when there are any.
fn give_children_away(tree: &mut ProcessTree, process: &Process) -> Option<Number> {
    let number = process.number();
    let namespace = process.namespace();
    let reaper = match namespace.init() {
        // The namespace's own init ends: what is still below it goes to the outside.
        init if init == number => tree.parent_number(number).max(INIT),
        init => tree.reaper_for(number, init, |other| Arc::ptr_eq(other.namespace(), namespace)),
    };
    let mut abandoned = None;
    loop {
        let first = tree.children(number).next().map(|(child_number, child)| (child_number, child.clone()));
        let Some((child_number, child)) = first else { break };
        send_parent_death_signal(&child);
        tell_if_orphaned(tree, child_number, number);
        tree.reparent(child_number, reaper);
        if let Some(parent) = tree.get(reaper) {
            child.note_parent(parent);
        }
        child.exit_signal.store(Signal::SIGCHLD.number() as u32, Ordering::Relaxed);
        if let Some(status) = child.exit_status()
            && notify_parent(tree, &child, ChildEvent::Ended(status))
        {
            abandoned = Some(reaper);
        }
    }
    abandoned
}

/// Reaps the zombies of a parent that does not wait for children.
fn reap_abandoned(parent: Option<Number>) {
    let Some(parent) = parent else { return };
    loop {
        let mut tree = TREE.lock();
        let zombie = tree.children(parent).find(|(_, child)| child.is_zombie()).map(|(number, _)| number);
        let Some(zombie) = zombie else { return };
        let (gone, freed) = reap(&mut tree, zombie);
        drop(tree);
        finish_reaping(gone, &freed);
    }
}

fn send_parent_death_signal(child: &Process) {
    for task in child.threads() {
        if let Some(signal) = Signal::new(task.parent_death_signal()) {
            let _ = crate::signal::send::to_task(&task, SignalInfo::from_kernel(signal));
        }
    }
}

/// A stopped group whose last link to its session goes is sent SIGHUP and SIGCONT (setpgid(2), "orphaned process group").
fn tell_if_orphaned(tree: &ProcessTree, child: Number, parent: Number) {
    let group = tree.group_of(child);
    if group == tree.group_of(parent) || tree.session_of(child) != tree.session_of(parent) {
        return;
    }
    if let Some(group) = group {
        wake_if_stopped_and_orphaned(tree, group, None);
    }
}

fn tell_own_group_if_orphaned(tree: &ProcessTree, process: &Process) {
    let number = process.number();
    let parent = tree.parent_number(number);
    let group = tree.group_of(number);
    if group == tree.group_of(parent) || tree.session_of(number) != tree.session_of(parent) {
        return;
    }
    if let Some(group) = group {
        wake_if_stopped_and_orphaned(tree, group, Some(number));
    }
}

fn wake_if_stopped_and_orphaned(tree: &ProcessTree, group: Number, ignored: Option<Number>) {
    if !tree.is_orphaned(group, ignored, INIT) {
        return;
    }
    let stopped = tree.members(group).any(|(_, member)| matches!(member.stop_state(), StopState::Stopped(_)));
    if stopped {
        for signal in [Signal::SIGHUP, Signal::SIGCONT] {
            let _ = to_group_locked(tree, group, &SignalInfo::from_kernel(signal));
        }
    }
}

/// Sends the parent its signal about `process` and wakes its waiters. True when the parent does not care about the zombie, so
/// that it must be reaped now (sigaction(2), SIG_IGN and SA_NOCLDWAIT).
pub(crate) fn notify_parent(tree: &ProcessTree, process: &Process, event: ChildEvent) -> bool {
    let Some(parent) = tree.parent(process.number()) else { return false };
    let ended = matches!(event, ChildEvent::Ended(_));
    let number =
        if ended { process.exit_signal.load(Ordering::Relaxed) as i32 } else { Signal::SIGCHLD.number() };
    let mut nobody_waits = false;
    if let Some(signal) = Signal::new(number) {
        let action = parent.handlers().get(signal);
        let is_child_signal = signal == Signal::SIGCHLD;
        let ignores = is_child_signal && action.is_explicitly_ignored();
        nobody_waits = ended && is_child_signal && (ignores || action.has(SA_NOCLDWAIT));
        if !ignores && (ended || !action.has(SA_NOCLDSTOP)) {
            let _ = to_process(parent, child_info(process, parent, signal, event));
        }
    }
    parent.child_wait.wake_all();
    nobody_waits
}

fn child_info(process: &Process, parent: &Process, signal: Signal, event: ChildEvent) -> SignalInfo {
    let (code, status) = event.signal_fields();
    let times = usage::of_process(process);
    let user = process.real_user();
    let uid =
        parent.leader().map_or(user.0, |leader| leader.credentials().user_namespace.from_kuid_munged(user));
    SignalInfo {
        signal,
        errno: 0,
        code,
        cause: Cause::Child {
            pid: process.number_in(parent.namespace()),
            uid,
            status,
            user_ticks: (times.user_ns / TICK_NS) as i64,
            system_ticks: (times.system_ns / TICK_NS) as i64,
        },
    }
}
