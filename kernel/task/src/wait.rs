//! Waiting for children: wait4(2), waitid(2).
//!
//! [`wait`] looks for a child with something to report, sleeps on the parent's queue when there is none, and reaps what
//! has ended. The tree's lock makes sure that one waiter alone gets each event.

use crate::pid::release_numbers;
use crate::process::{Process, ProcessTree, TREE};
use crate::signal::{Cause, Signal, SignalInfo};
use crate::status::ChildEvent;
use crate::task::Task;
use crate::tree::{Freed, Number};
use crate::usage::{self, Usage};
use abi::errno::{Errno, Result};
use abi::wait::WaitOptions;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use machine::sync::WaitKind;

/// Which children.
#[derive(Clone, Debug)]
pub enum WaitTarget {
    /// Any.
    Any,
    /// This process id, as the caller sees it.
    Pid(i32),
    /// The members of this process group, as the caller sees it; 0 is its own.
    Group(i32),
    /// The process that this descriptor of the caller names.
    PidFd(i32),
}

/// A wait as asked for. `options` must hold at least one of EXITED, UNTRACED, CONTINUED: wait4 adds EXITED itself.
#[derive(Clone, Debug)]
pub struct WaitRequest {
    /// Which children.
    pub target: WaitTarget,
    /// What to wait for and how.
    pub options: u32,
}

/// What happened to which child.
#[derive(Clone, Debug)]
pub struct WaitResult {
    /// The child, as the caller sees it.
    pub pid: i32,
    /// Its real user id as the caller sees it.
    pub uid: u32,
    /// What happened.
    pub event: ChildEvent,
    /// What the child and its children have used.
    pub usage: Usage,
}

impl WaitResult {
    /// What waitid(2) fills in.
    pub fn signal_info(&self) -> SignalInfo {
        let (code, status) = self.event.signal_fields();
        let cause = Cause::Child { pid: self.pid, uid: self.uid, status, user_ticks: 0, system_ticks: 0 };
        SignalInfo { signal: Signal::SIGCHLD, errno: 0, code, cause }
    }
}

/// A target with its numbers resolved.
enum Wanted {
    Any,
    One(Number),
    Group(Number),
}

/// Waits; `None` when WNOHANG found nothing to report.
///
/// # Errors
/// ECHILD: no such child. ERESTARTSYS: a signal came. EINVAL: nothing to wait for.
pub fn wait(task: &Task, request: &WaitRequest) -> Result<Option<WaitResult>> {
    let events = WaitOptions::EXITED | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    let options = WaitOptions::from_bits(request.options).ok_or(Errno::EINVAL)?;
    if !options.intersects(events) {
        return Err(Errno::EINVAL);
    }
    let process = task.process();
    let wanted = resolve(task, &request.target)?;
    let mut found = None;
    let mut look = || match scan(process, &wanted, options) {
        Ok(None) => None,
        Ok(Some(result)) => {
            found = Some(result);
            Some(Ok(()))
        }
        Err(error) => Some(Err(error)),
    };
    let outcome = if options.contains(WaitOptions::NOHANG) {
        look().unwrap_or(Ok(()))
    } else {
        match process.child_wait.wait_until(WaitKind::Interruptible, None, look) {
            Ok(result) => result,
            Err(_) => Err(Errno::ERESTARTSYS),
        }
    };
    outcome?;
    let Some((child, number, event, counts)) = found else { return Ok(None) };
    let credentials = task.credentials();
    Ok(Some(WaitResult {
        pid: number,
        uid: credentials.user_namespace.from_kuid_munged(child.real_user()),
        event,
        usage: counts,
    }))
}

fn resolve(task: &Task, target: &WaitTarget) -> Result<Wanted> {
    let namespace = task.process().namespace();
    let number = |pid: i32| namespace.find(pid).map(|pid| pid.number()).ok_or(Errno::ECHILD);
    Ok(match target {
        WaitTarget::Any => Wanted::Any,
        WaitTarget::Pid(pid) => Wanted::One(number(*pid)?),
        WaitTarget::Group(0) => Wanted::Group(task.process().group()),
        WaitTarget::Group(group) => Wanted::Group(number(*group)?),
        WaitTarget::PidFd(descriptor) => Wanted::One(crate::pidfd::find(task, *descriptor)?.number()),
    })
}

/// The child, its number as the parent sees it (which it loses when it is reaped), what happened, and its usage.
type Found = (Arc<Process>, i32, ChildEvent, Usage);

/// Looks once. ECHILD when no child could ever match.
fn scan(parent: &Process, wanted: &Wanted, options: WaitOptions) -> Result<Option<Found>> {
    let mut tree = TREE.lock();
    let mut candidates = false;
    let mut hit = None;
    match wanted {
        Wanted::One(number) => {
            let child = tree.get(*number).filter(|_| tree.parent_number(*number) == parent.number());
            if let Some(child) = child.filter(|child| is_eligible(child, options)) {
                candidates = true;
                hit = event_of(child, options).map(|event| (child.clone(), event));
            }
        }
        Wanted::Any | Wanted::Group(_) => {
            for (number, child) in tree.children(parent.number()) {
                let group_matches = match wanted {
                    Wanted::Group(group) => tree.group_of(number) == Some(*group),
                    _ => true,
                };
                if !group_matches || !is_eligible(child, options) {
                    continue;
                }
                candidates = true;
                if let Some(event) = event_of(child, options) {
                    hit = Some((child.clone(), event));
                    break;
                }
            }
        }
    }
    let Some((child, event)) = hit else {
        return if candidates { Ok(None) } else { Err(Errno::ECHILD) };
    };
    let counts = total(&child);
    let number = child.number_in(parent.namespace());
    if !options.contains(WaitOptions::NOWAIT) {
        let (gone, freed) = consume(&mut tree, &child, event);
        drop(tree);
        if let ChildEvent::Ended(_) = event {
            account(parent, &counts);
        }
        finish_reaping(gone, &freed);
    }
    Ok(Some((child, number, event, counts)))
}

/// wait(2), "Linux notes": children made with another signal than SIGCHLD are seen only with __WCLONE or __WALL.
fn is_eligible(child: &Process, options: WaitOptions) -> bool {
    if options.contains(WaitOptions::ALL) {
        return true;
    }
    let is_clone = child.exit_signal.load(Ordering::Relaxed) != Signal::SIGCHLD.number() as u32;
    options.contains(WaitOptions::CLONE) == is_clone
}

fn event_of(child: &Process, options: WaitOptions) -> Option<ChildEvent> {
    if let Some(status) = child.exit_status() {
        return options.contains(WaitOptions::EXITED).then_some(ChildEvent::Ended(status));
    }
    if !options.intersects(WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
        return None;
    }
    let report = child.shared.lock().report;
    if options.contains(WaitOptions::UNTRACED)
        && let Some(signal) = report.stopped
    {
        return Some(ChildEvent::Stopped(signal));
    }
    (options.contains(WaitOptions::CONTINUED) && report.continued).then_some(ChildEvent::Continued)
}

/// Takes the event away, so that nobody sees it again.
fn consume(tree: &mut ProcessTree, child: &Process, event: ChildEvent) -> (Option<Arc<Process>>, Freed) {
    match event {
        ChildEvent::Ended(_) => tree.remove(child.number()),
        ChildEvent::Stopped(_) => {
            child.shared.lock().report.stopped = None;
            (None, Freed::new())
        }
        ChildEvent::Continued => {
            child.shared.lock().report.continued = false;
            (None, Freed::new())
        }
    }
}

/// What remains to be done without the tree's lock once a process is out of it.
pub(crate) fn finish_reaping(gone: Option<Arc<Process>>, freed: &Freed) {
    if let Some(process) = &gone {
        process.pid().set_process(alloc::sync::Weak::new());
    }
    release_numbers(freed);
}

fn total(child: &Process) -> Usage {
    let mut counts = usage::of_process(child);
    counts.add(&usage::of_children(child));
    counts
}

/// Adds a reaped child's usage to its parent.
pub(crate) fn account(parent: &Process, counts: &Usage) {
    parent.usage.lock().children.add(counts);
}
