//! Limits and usage: getrlimit(2), setrlimit(2), prlimit(2), getrusage(2).
//!
//! The table of limits is `task::limits`; here are decoding and permission.

use crate::decode::Context;
use abi::errno::Result;
use abi::resource::{Rlimit, Rusage};
use abi::time::Timeval;
use mm::user::UserPtr;
use task::Usage;
use task::calls::{self, UsageOf};
use task::limits::{Limit, Resource};
use zerocopy::FromZeros;

/// getrlimit(2). Errors: `EINVAL`, `EFAULT`.
pub fn getrlimit(context: &mut Context<'_>, resource: u32, limit: UserPtr<Rlimit>) -> Result<usize> {
    prlimit64(context, 0, resource, UserPtr::NULL, limit)
}

/// setrlimit(2). Errors: `EINVAL`, `EPERM`, `EFAULT`.
pub fn setrlimit(context: &mut Context<'_>, resource: u32, limit: UserPtr<Rlimit>) -> Result<usize> {
    let resource = Resource::new(resource)?;
    let new = from_user(limit.read()?);
    calls::prlimit(context.task, 0, resource, Some(new)).map(|_| 0)
}

/// prlimit(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn prlimit64(
    context: &mut Context<'_>,
    pid: i32,
    resource: u32,
    new: UserPtr<Rlimit>,
    old: UserPtr<Rlimit>,
) -> Result<usize> {
    let resource = Resource::new(resource)?;
    let new = new.optional().map(UserPtr::read).transpose()?.map(from_user);
    let before = calls::prlimit(context.task, pid, resource, new)?;
    old.write_optional(&Rlimit { rlim_cur: before.soft, rlim_max: before.hard })?;
    Ok(0)
}

fn from_user(limit: Rlimit) -> Limit {
    Limit { soft: limit.rlim_cur, hard: limit.rlim_max }
}

/// getrusage(2). Errors: `EINVAL`, `EFAULT`.
pub fn getrusage(context: &mut Context<'_>, who: i32, usage: UserPtr<Rusage>) -> Result<usize> {
    let counts = calls::getrusage(context.task, UsageOf::new(who)?);
    usage.write(&usage_to_user(&counts))?;
    Ok(0)
}

/// What wait4(2) and getrusage(2) show of a usage.
pub fn usage_to_user(counts: &Usage) -> Rusage {
    let mut answer = Rusage::new_zeroed();
    answer.ru_utime = Timeval::from_nanoseconds(counts.user_ns);
    answer.ru_stime = Timeval::from_nanoseconds(counts.system_ns);
    answer.ru_maxrss = counts.peak_rss_kib as i64;
    answer.ru_minflt = counts.minor_faults as i64;
    answer.ru_majflt = counts.major_faults as i64;
    answer.ru_nvcsw = counts.voluntary_switches as i64;
    answer.ru_nivcsw = counts.involuntary_switches as i64;
    answer
}
