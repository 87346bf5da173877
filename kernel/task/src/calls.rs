//! The bodies of the smaller process calls: limits, resource usage, priorities by id.

use crate::limits::{Authority, Limit, Resource};
use crate::process::Process;
use crate::task::Task;
use crate::usage::{self, Usage};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use security::Capability;

/// `/proc/sys/fs/nr_open`: the highest RLIMIT_NOFILE.
static MAX_OPEN_FILES: AtomicU64 = AtomicU64::new(1 << 20);

/// The highest limit on descriptors.
pub fn max_open_files() -> u64 {
    MAX_OPEN_FILES.load(Ordering::Relaxed)
}

/// The process that `pid` names, 0 for the caller's own.
///
/// # Errors
/// ESRCH.
pub fn find_process(task: &Task, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 {
        return Ok(task.process().clone());
    }
    task.process().namespace().find_process(pid).ok_or(Errno::ESRCH)
}

/// The thread that `tid` names, 0 for the caller.
///
/// # Errors
/// ESRCH.
pub fn find_task(task: &Arc<Task>, tid: i32) -> Result<Arc<Task>> {
    if tid == 0 {
        return Ok(task.clone());
    }
    if tid < 0 {
        return Err(Errno::ESRCH);
    }
    task.process().namespace().find_task(tid).ok_or(Errno::ESRCH)
}

/// prlimit(2): gives the old limit, sets a new one.
///
/// # Errors
/// ESRCH, EPERM (somebody else's, or raising the hard limit), EINVAL.
pub fn prlimit(task: &Arc<Task>, pid: i32, resource: Resource, new: Option<Limit>) -> Result<Limit> {
    let target = find_task(task, pid)?;
    let process = target.process();
    let credentials = task.credentials();
    if !Arc::ptr_eq(process, task.process()) {
        let other = target.credentials();
        let same = credentials.ruid == other.ruid
            && credentials.ruid == other.euid
            && credentials.ruid == other.suid
            && credentials.rgid == other.rgid
            && credentials.rgid == other.egid
            && credentials.rgid == other.sgid;
        if !same && !credentials.capable(&other.user_namespace, Capability::SysResource) {
            return Err(Errno::EPERM);
        }
    }
    let Some(new) = new else { return Ok(process.limits().get(resource)) };
    let authority = if security::capable_anywhere_above(&credentials, Capability::SysResource) {
        Authority::SystemResource
    } else {
        Authority::Ordinary
    };
    let old = process.with_limits(|limits| limits.set(resource, new, authority, max_open_files()))?;
    if resource == Resource::Cpu {
        process.timers.watch_cpu_limit(new.soft)?;
    }
    Ok(old)
}

/// Whose usage.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum UsageOf {
    /// RUSAGE_SELF.
    Process,
    /// RUSAGE_CHILDREN.
    Children,
    /// RUSAGE_THREAD.
    Thread,
}

impl UsageOf {
    /// The argument of getrusage(2).
    ///
    /// # Errors
    /// EINVAL.
    pub fn new(who: i32) -> Result<UsageOf> {
        match who {
            0 => Ok(UsageOf::Process),
            -1 => Ok(UsageOf::Children),
            1 => Ok(UsageOf::Thread),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// getrusage(2).
pub fn getrusage(task: &Task, who: UsageOf) -> Usage {
    match who {
        UsageOf::Process => usage::of_process_with_memory(task.process()),
        UsageOf::Children => usage::of_children(task.process()),
        UsageOf::Thread => {
            let mut counts = usage::of_task(task);
            counts.peak_rss_kib = usage::of_process_with_memory(task.process()).peak_rss_kib;
            counts
        }
    }
}
