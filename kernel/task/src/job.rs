//! Sessions, process groups and their terminal: setsid(2), setpgid(2) and what a terminal driver asks about job control.
//!
//! The rules themselves are in [`crate::tree`]; here they meet processes, namespaces and signals. A terminal is known
//! only as [`ControllingTerminal`], which the terminal layer implements. All of this is for thread context: [`TREE`] is taken.

use crate::pid::{PidNamespace, release_numbers};
use crate::process::{INIT, Process, ProcessTree, TREE};
use crate::signal::send::to_group_locked;
use crate::signal::{Disposition, Signal, SignalInfo};
use crate::task::Task;
use crate::tree::Number;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;

/// The terminal that controls a session.
///
/// Called with the process tree locked: implementations must not sleep and must not call into this module.
pub trait ControllingTerminal: Send + Sync {
    /// The foreground process group (root namespace); 0 for none.
    fn foreground(&self) -> Number;
    /// Makes a group the foreground one.
    fn set_foreground(&self, group: Number);
    /// The session it controlled is gone or has left it: forget session and foreground group.
    fn release_session(&self);
    /// Major and minor device number.
    fn device(&self) -> (u32, u32);
}

/// setsid(2): the caller leads a new session without a terminal.
///
/// # Errors
/// EPERM: it leads a group already. ENOMEM.
pub fn setsid(task: &Task) -> Result<i32> {
    let process = task.process();
    let freed = TREE.lock().new_session(process.number())?;
    release_numbers(&freed);
    Ok(task.process_id())
}

/// setpgid(2); 0 means the caller, and the target's own id.
///
/// # Errors
/// EINVAL: negative group. ESRCH, EPERM, EACCES as the manual page says.
pub fn setpgid(task: &Task, pid: i32, group: i32) -> Result<()> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let target = resolve(task, pid)?;
    let group = match group {
        0 => target.number(),
        _ if group == target.number_in(task.process().namespace()) => target.number(),
        _ => task.process().namespace().find(group).ok_or(Errno::EPERM)?.number(),
    };
    let freed = TREE.lock().set_group(task.process().number(), target.number(), group)?;
    release_numbers(&freed);
    Ok(())
}

fn resolve(task: &Task, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 {
        return Ok(task.process().clone());
    }
    task.process().namespace().find_process(pid).ok_or(Errno::ESRCH)
}

/// getpgid(2).
///
/// # Errors
/// ESRCH.
pub fn getpgid(task: &Task, pid: i32) -> Result<i32> {
    let target = resolve(task, pid)?;
    let group = TREE.lock().group_of(target.number()).ok_or(Errno::ESRCH)?;
    Ok(number_in(group, task.process().namespace()))
}

/// getsid(2).
///
/// # Errors
/// ESRCH.
pub fn getsid(task: &Task, pid: i32) -> Result<i32> {
    let target = resolve(task, pid)?;
    let session = TREE.lock().session_of(target.number()).ok_or(Errno::ESRCH)?;
    Ok(number_in(session, task.process().namespace()))
}

/// A group's or session's number as a program in `namespace` sees it; 0 when it does not.
pub fn number_in(number: Number, namespace: &PidNamespace) -> i32 {
    if namespace.level() == 0 {
        return number as i32;
    }
    let pid = crate::pid::root().find(number as i32);
    pid.map_or(0, |pid| pid.number_in(namespace))
}

/// The group that a program means by `number`, if there is such a group.
pub fn find_group(task: &Task, number: i32) -> Option<Number> {
    let number = task.process().namespace().find(number)?.number();
    TREE.lock().session_of_group(number).map(|_| number)
}

/// The session of a group.
pub fn session_of_group(group: Number) -> Option<Number> {
    TREE.lock().session_of_group(group)
}

/// Whether nobody could continue the group if it stopped.
pub fn is_orphaned(group: Number) -> bool {
    TREE.lock().is_orphaned(group, None, INIT)
}

/// Whether the process leads its session.
pub fn leads_session(process: &Process) -> bool {
    TREE.lock().leads_session(process.number())
}

/// Whether a terminal that controls another session may be taken over.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Steal {
    /// No.
    No,
    /// Yes: the caller has CAP_SYS_ADMIN and asked for it.
    Yes,
}

/// TIOCSCTTY: makes `terminal`, which controls session `current` (0 for none), the caller's terminal. Gives the new session and
/// its foreground group.
///
/// # Errors
/// EPERM: not a session leader, has a terminal, or the terminal controls another session.
pub fn set_controlling_terminal(
    process: &Process,
    terminal: &Arc<dyn ControllingTerminal>,
    current: Number,
    steal: Steal,
) -> Result<(Number, Number)> {
    let mut tree = TREE.lock();
    let number = process.number();
    let session = tree.session_of(number).ok_or(Errno::EPERM)?;
    let group = tree.group_of(number).ok_or(Errno::EPERM)?;
    if session == number && current == session && current != 0 {
        return Ok((session, group));
    }
    if session != number || tree.terminal(session).is_some() {
        return Err(Errno::EPERM);
    }
    let mut stolen = None;
    if current != 0 && tree.terminal(current).is_some() {
        if steal == Steal::No {
            return Err(Errno::EPERM);
        }
        stolen = tree.set_terminal(current, None);
    }
    let old = tree.set_terminal(session, Some(terminal.clone()));
    drop(tree);
    drop((old, stolen));
    Ok((session, group))
}

/// TIOCNOTTY: the caller's session loses its terminal when the caller leads it; the foreground group hears of it.
///
/// # Errors
/// ENOTTY: no terminal.
pub fn give_up_terminal(process: &Process) -> Result<()> {
    let mut tree = TREE.lock();
    let session = tree.session_of(process.number()).ok_or(Errno::ENOTTY)?;
    if tree.terminal(session).is_none() {
        return Err(Errno::ENOTTY);
    }
    if session != process.number() {
        // Linux lets one process of a session forget the terminal; here it belongs to the session.
        return Ok(());
    }
    let old = disassociate_locked(&mut tree, session);
    drop(tree);
    drop(old);
    Ok(())
}

/// Takes the terminal from a session: SIGHUP and SIGCONT to its foreground group.
pub(crate) fn disassociate_locked(
    tree: &mut ProcessTree,
    session: Number,
) -> Option<Arc<dyn ControllingTerminal>> {
    let terminal = tree.set_terminal(session, None)?;
    let foreground = terminal.foreground();
    if foreground != 0 {
        for signal in [Signal::SIGHUP, Signal::SIGCONT] {
            let _ = to_group_locked(tree, foreground, &SignalInfo::from_kernel(signal));
        }
    }
    terminal.release_session();
    Some(terminal)
}

/// The terminal hung up: the session's leader gets SIGHUP and SIGCONT, the foreground group too, and the session loses it.
pub fn hang_up(session: Number) {
    let mut tree = TREE.lock();
    if let Some(leader) = tree.get(session).cloned() {
        for signal in [Signal::SIGHUP, Signal::SIGCONT] {
            let _ = crate::signal::send::to_process(&leader, SignalInfo::from_kernel(signal));
        }
    }
    let old = disassociate_locked(&mut tree, session);
    drop(tree);
    drop(old);
}

/// What a background process wants from its terminal.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum BackgroundAccess {
    /// To read: SIGTTIN.
    Read,
    /// To write with TOSTOP, or to change settings: SIGTTOU.
    Write,
}

/// Checks an access of the running task to a terminal that controls `session` with this `foreground` group. A background
/// process is sent SIGTTIN or SIGTTOU, unless it ignores or blocks it.
///
/// # Errors
/// ERESTARTSYS: the signal was sent. EIO: the group is orphaned, or a reader ignores the signal.
pub fn check_background(
    task: &Task,
    session: Number,
    foreground: Number,
    access: BackgroundAccess,
) -> Result<()> {
    let process = task.process();
    let tree = TREE.lock();
    let number = process.number();
    let group = tree.group_of(number).unwrap_or(0);
    if tree.session_of(number) != Some(session) || foreground == 0 || group == foreground {
        return Ok(());
    }
    let signal = match access {
        BackgroundAccess::Read => Signal::SIGTTIN,
        BackgroundAccess::Write => Signal::SIGTTOU,
    };
    let ignored = process.handlers().get(signal).disposition(signal) == Disposition::Ignore;
    if ignored || task.blocked().contains(signal) {
        return match access {
            BackgroundAccess::Read => Err(Errno::EIO),
            BackgroundAccess::Write => Ok(()),
        };
    }
    if tree.is_orphaned(group, None, INIT) {
        return Err(Errno::EIO);
    }
    let _ = to_group_locked(&tree, group, &SignalInfo::from_kernel(signal));
    Err(Errno::ERESTARTSYS)
}
