//! What `/proc` tells about processes and threads, gathered in one place.
//!
//! [`of_process`] and [`of_task`] fill a [`Stat`]; nothing is formatted here. Each value is read under its own lock: the whole is
//! not one instant, as on Linux.

use crate::job;
use crate::pid::PidNamespace;
use crate::process::{Process, StopState};
use crate::signal::SignalSet;
use crate::task::Task;
use crate::usage::{self, Usage};
use core::sync::atomic::Ordering;

/// State of one process or thread.
#[derive(Clone, Debug)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, ...
    pub state: char,
    /// Name, at most 15 bytes and a zero.
    pub name: [u8; 16],
    /// Parent, as the reader sees it.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// Device number of the terminal (`major`, `minor`).
    pub terminal: Option<(u32, u32)>,
    /// Foreground group of the terminal, -1 without one.
    pub foreground: i32,
    /// Usage of the thread or process.
    pub counts: Usage,
    /// Usage of children that were waited for.
    pub children: Usage,
    /// Field 18 of `/proc/PID/stat`.
    pub priority: i32,
    /// Nice value.
    pub nice: i32,
    /// Threads in the process.
    pub threads: usize,
    /// When it was made, nanoseconds after boot.
    pub start_ns: u64,
    /// What the parent is sent at the end.
    pub exit_signal: u32,
    /// CPU it ran on last.
    pub cpu: usize,
    /// Real-time priority, 0 for none.
    pub realtime_priority: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// Status word, for zombies.
    pub exit_status: i32,
    /// Pending for this thread.
    pub pending: SignalSet,
    /// Pending for the process.
    pub shared_pending: SignalSet,
    /// Blocked.
    pub blocked: SignalSet,
    /// Ignored.
    pub ignored: SignalSet,
    /// Caught.
    pub caught: SignalSet,
    /// Queued signals of the user and the limit on them.
    pub queued: (usize, u64),
}

/// The whole process, as seen from `namespace`.
pub fn of_process(process: &Process, namespace: &PidNamespace) -> Stat {
    let leader = process.leader();
    gather(process, leader.as_deref(), namespace, usage::of_process(process))
}

/// One thread.
pub fn of_task(task: &Task, namespace: &PidNamespace) -> Stat {
    gather(task.process(), Some(task), namespace, usage::of_task(task))
}

fn gather(process: &Process, task: Option<&Task>, namespace: &PidNamespace, counts: Usage) -> Stat {
    let thread = task.map(Task::thread);
    let terminal = process.controlling_terminal();
    let foreground = terminal.as_ref().map(|terminal| terminal.foreground());
    let attributes = thread.as_ref().map(|thread| thread.attributes());
    let (shared_pending, queued, handlers) = {
        let shared = process.shared.lock();
        (shared.pending.set(), shared.account.signals(), shared.handlers.clone())
    };
    let (ignored, caught) = handlers.ignored_and_caught();
    Stat {
        state: state_letter(process, thread.map(|thread| &**thread)),
        name: thread.as_ref().map_or_else(|| process.name(), |thread| thread.name()),
        parent: process.parent_number_in(namespace),
        group: job::number_in(process.group(), namespace),
        session: job::number_in(process.session(), namespace),
        terminal: terminal.map(|terminal| terminal.device()),
        foreground: foreground.map_or(-1, |group| job::number_in(group, namespace)),
        counts,
        children: usage::of_children(process),
        priority: thread.as_ref().map_or(20, |thread| thread.proc_priority()),
        nice: thread.as_ref().map_or(0, |thread| thread.nice()),
        threads: process.thread_count(),
        start_ns: thread.as_ref().map_or(process.start_time_ns(), |thread| thread.start_time_ns()),
        exit_signal: process.exit_signal.load(Ordering::Relaxed),
        cpu: thread.as_ref().map_or(0, |thread| thread.last_cpu().index()),
        realtime_priority: attributes.as_ref().map_or(0, |a| u32::from(a.realtime_priority)),
        policy: attributes.as_ref().map_or(0, |a| a.policy.as_linux()),
        exit_status: process.exit_status().map_or(0, |status| status.wait_status()),
        pending: task.map_or(SignalSet::EMPTY, Task::own_pending),
        shared_pending,
        blocked: task.map_or(SignalSet::EMPTY, Task::blocked),
        ignored,
        caught,
        queued: (queued, process.limits().soft(crate::limits::Resource::PendingSignals)),
    }
}

fn state_letter(process: &Process, thread: Option<&sched::Thread>) -> char {
    if process.is_zombie() {
        return 'Z';
    }
    let Some(thread) = thread else { return 'X' };
    let letter = thread.state().letter();
    let stopped = matches!(process.stop_state(), StopState::Stopped(_));
    if stopped && letter != 'R' { 'T' } else { letter }
}
