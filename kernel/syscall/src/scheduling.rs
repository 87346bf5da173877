//! Scheduling: sched_setscheduler(2), sched_setattr(2), sched_setaffinity(2), setpriority(2), sched_yield(2), getcpu(2),
//! ioprio_set(2).
//!
//! Decoding and permission; policies and queues are in crate `sched`.

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::resource::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER};
use abi::sched::{
    SCHED_ATTR_SIZE_VER0, SCHED_BATCH, SCHED_DEADLINE, SCHED_EXT, SCHED_FIFO, SCHED_FLAG_KEEP_PARAMS,
    SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_RESET_ON_FORK, SCHED_IDLE, SCHED_NORMAL, SCHED_RESET_ON_FORK,
    SCHED_RR, SchedAttr,
};
use abi::time::Timespec;
use alloc::sync::Arc;
use machine::cpu::{self, CpuSet, MAX_CPUS};
use mm::user::UserPtr;
use sched::{Attributes, Policy, ResetOnFork};
use security::Capability;
use task::Task;
use task::limits::Resource;
use zerocopy::{FromZeros, IntoBytes};

/// sched_yield(2).
pub fn sched_yield(_context: &mut Context<'_>) -> Result<usize> {
    sched::yield_now();
    Ok(0)
}

/// getcpu(2). Errors: `EFAULT`.
pub fn getcpu(_context: &mut Context<'_>, cpu: UserPtr<u32>, node: UserPtr<u32>) -> Result<usize> {
    cpu.write_optional(&(cpu::current().index() as u32))?;
    node.write_optional(&0)?;
    Ok(0)
}

/// The thread that a `pid` argument names: 0 is the caller. Errors: `EINVAL` if negative, `ESRCH`.
fn target(context: &Context<'_>, pid: i32) -> Result<Arc<Task>> {
    match pid {
        0 => Ok(context.task.clone()),
        pid if pid < 0 => Err(Errno::EINVAL),
        pid => context.find_task(pid),
    }
}

/// Whether the caller may change how `target` is scheduled: same user, or `CAP_SYS_NICE`. Errors: `EPERM`.
fn may_change(context: &Context<'_>, target: &Task) -> Result<()> {
    let (own, other) = (context.credentials(), target.credentials());
    if own.euid == other.euid
        || own.euid == other.ruid
        || own.capable(&other.user_namespace, Capability::SysNice)
    {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Whether the caller may give `target` these attributes (sched(7), "Privileges and resource limits"). Errors: `EPERM`.
fn may_set(context: &Context<'_>, target: &Task, new: &Attributes) -> Result<()> {
    may_change(context, target)?;
    if context.require_global(Capability::SysNice).is_ok() {
        return Ok(());
    }
    let old = target.thread().attributes();
    let process = target.process();
    let nice_floor = 20 - process.limit(Resource::Nice).min(40) as i32;
    let real_time = matches!(new.policy, Policy::Fifo | Policy::RoundRobin);
    let ceiling = process.limit(Resource::RealTimePriority);
    let raises_nice = i32::from(new.nice) < i32::from(old.nice) && i32::from(new.nice) < nice_floor;
    let raises_real_time = real_time
        && (new.policy != old.policy && ceiling == 0
            || u64::from(new.realtime_priority) > ceiling && new.realtime_priority > old.realtime_priority);
    let clears_reset =
        matches!(old.reset_on_fork, ResetOnFork::Yes) && matches!(new.reset_on_fork, ResetOnFork::No);
    // Idle counts as the nicest of all: leaving it is a raise to the nice value there is.
    let leaves_idle =
        old.policy == Policy::Idle && new.policy != Policy::Idle && i32::from(old.nice) < nice_floor;
    if raises_nice || raises_real_time || clears_reset || leaves_idle {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Checks and applies. Errors: `EPERM`, `EINVAL`.
fn set(context: &Context<'_>, target: &Task, new: &Attributes) -> Result<usize> {
    may_set(context, target, new)?;
    target.thread().set_attributes(new)?;
    ipc::futex::pi::priority_changed(target.thread());
    Ok(0)
}

/// The attributes that the old interface asks for. Errors: `EINVAL`.
fn attributes_of(old: &Attributes, policy: i32, priority: i32) -> Result<Attributes> {
    let reset = policy as u32 & SCHED_RESET_ON_FORK != 0;
    let policy = Policy::from_linux(policy as u32 & !SCHED_RESET_ON_FORK).ok_or(Errno::EINVAL)?;
    let real_time = matches!(policy, Policy::Fifo | Policy::RoundRobin);
    let valid = if real_time { (1..=99).contains(&priority) } else { priority == 0 };
    if !valid {
        return Err(Errno::EINVAL);
    }
    let reset_on_fork = if reset { ResetOnFork::Yes } else { ResetOnFork::No };
    Ok(Attributes { policy, realtime_priority: priority as u8, reset_on_fork, nice: old.nice, slice_ns: 0 })
}

/// sched_setscheduler(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn sched_setscheduler(
    context: &mut Context<'_>,
    pid: i32,
    policy: i32,
    parameter: UserPtr<i32>,
) -> Result<usize> {
    if policy < 0 || parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = parameter.read()?;
    let target = target(context, pid)?;
    let new = attributes_of(&target.thread().attributes(), policy, priority)?;
    set(context, &target, &new)
}

/// sched_setparam(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn sched_setparam(context: &mut Context<'_>, pid: i32, parameter: UserPtr<i32>) -> Result<usize> {
    if parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = parameter.read()?;
    let target = target(context, pid)?;
    let old = target.thread().attributes();
    let mut new = attributes_of(&old, old.policy.as_linux() as i32, priority)?;
    new.reset_on_fork = old.reset_on_fork;
    set(context, &target, &new)
}

/// sched_getscheduler(2). Errors: `EINVAL`, `ESRCH`.
pub fn sched_getscheduler(context: &mut Context<'_>, pid: i32) -> Result<usize> {
    let attributes = target(context, pid)?.thread().attributes();
    let reset = match attributes.reset_on_fork {
        ResetOnFork::Yes => SCHED_RESET_ON_FORK as usize,
        ResetOnFork::No => 0,
    };
    Ok(attributes.policy.as_linux() as usize | reset)
}

/// sched_getparam(2). Errors: `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sched_getparam(context: &mut Context<'_>, pid: i32, parameter: UserPtr<i32>) -> Result<usize> {
    if parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let attributes = target(context, pid)?.thread().attributes();
    parameter.write(&i32::from(attributes.realtime_priority))?;
    Ok(0)
}

/// sched_setattr(2). Errors: `EINVAL`, `E2BIG`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn sched_setattr(
    context: &mut Context<'_>,
    pid: i32,
    attr: UserPtr<SchedAttr>,
    flags: u32,
) -> Result<usize> {
    if attr.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let asked: SchedAttr = crate::extensible::read(attr.address(), SCHED_ATTR_SIZE_VER0, |size| {
        attr.offset_bytes(0).write(&size).map_or(Errno::EFAULT, |()| Errno::E2BIG)
    })?;
    let target = target(context, pid)?;
    let old = target.thread().attributes();
    let keep = |flag: u32| asked.sched_flags & u64::from(flag) != 0;
    let known = SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_KEEP_POLICY | SCHED_FLAG_KEEP_PARAMS;
    if asked.sched_flags & !u64::from(known) != 0 {
        return Err(Errno::EINVAL);
    }
    let policy =
        if keep(SCHED_FLAG_KEEP_POLICY) { old.policy.as_linux() as i32 } else { asked.sched_policy as i32 };
    let (priority, nice) = if keep(SCHED_FLAG_KEEP_PARAMS) {
        (i32::from(old.realtime_priority), i32::from(old.nice))
    } else {
        (i32::try_from(asked.sched_priority).map_err(|_| Errno::EINVAL)?, asked.sched_nice)
    };
    let nice = nice.clamp(-20, 19);
    if policy < 0 {
        return Err(Errno::EINVAL);
    }
    let mut new = attributes_of(&old, policy, priority)?;
    new.nice = nice as i8;
    new.slice_ns = asked.sched_runtime;
    new.reset_on_fork = if keep(SCHED_FLAG_RESET_ON_FORK) { ResetOnFork::Yes } else { ResetOnFork::No };
    set(context, &target, &new)
}

/// sched_getattr(2). Errors: `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sched_getattr(
    context: &mut Context<'_>,
    pid: i32,
    attr: UserPtr<SchedAttr>,
    size: u32,
    flags: u32,
) -> Result<usize> {
    if attr.is_null() || pid < 0 || flags != 0 || !(SCHED_ATTR_SIZE_VER0..=4096).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let attributes = target(context, pid)?.thread().attributes();
    let mut answer = SchedAttr::new_zeroed();
    let length = (size as usize).min(size_of::<SchedAttr>());
    answer.size = length as u32;
    answer.sched_policy = attributes.policy.as_linux() as u32;
    if matches!(attributes.reset_on_fork, ResetOnFork::Yes) {
        answer.sched_flags = u64::from(SCHED_FLAG_RESET_ON_FORK);
    }
    answer.sched_nice = i32::from(attributes.nice);
    answer.sched_priority = u32::from(attributes.realtime_priority);
    answer.sched_runtime = attributes.slice_ns;
    answer.sched_util_max = 1024;
    machine::user::write_bytes(attr.address(), answer.as_bytes().get(..length).unwrap_or_default())?;
    Ok(0)
}

/// sched_get_priority_max(2). Errors: `EINVAL`.
pub fn sched_get_priority_max(_context: &mut Context<'_>, policy: u32) -> Result<usize> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(99),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE | SCHED_EXT => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_get_priority_min(2). Errors: `EINVAL`.
pub fn sched_get_priority_min(context: &mut Context<'_>, policy: u32) -> Result<usize> {
    sched_get_priority_max(context, policy).map(|max| usize::from(max != 0))
}

/// sched_rr_get_interval(2). Errors: `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sched_rr_get_interval(
    context: &mut Context<'_>,
    pid: i32,
    interval: UserPtr<Timespec>,
) -> Result<usize> {
    let ns = target(context, pid)?.thread().round_robin_interval_ns();
    interval.write(&Timespec::from_nanoseconds(ns))?;
    Ok(0)
}

/// sched_setaffinity(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn sched_setaffinity(context: &mut Context<'_>, pid: i32, len: u32, mask: UserPtr<u8>) -> Result<usize> {
    let mut bytes = [0_u8; MAX_CPUS / 8];
    let len = (len as usize).min(bytes.len());
    machine::user::read_bytes(mask.address(), bytes.get_mut(..len).unwrap_or_default())?;
    let target = target(context, pid)?;
    may_change(context, &target)?;
    target.thread().set_affinity(&CpuSet::from_bytes(&bytes))?;
    Ok(0)
}

/// sched_getaffinity(2): the result is how many bytes were written. Errors: `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sched_getaffinity(context: &mut Context<'_>, pid: i32, len: u32, mask: UserPtr<u8>) -> Result<usize> {
    let len = len as usize;
    if !len.is_multiple_of(size_of::<u64>()) || len.saturating_mul(8) < cpu::count() {
        return Err(Errno::EINVAL);
    }
    let affinity = target(context, pid)?.thread().affinity();
    let mut online = CpuSet::new();
    cpu::online().for_each(|cpu| online.insert(cpu));
    let bytes = affinity.intersect(&online).to_bytes();
    // Linux writes as many bytes as its own mask has, which is what fits all CPUs the machine could have.
    let written = len.min(cpu::count().div_ceil(64) * 8);
    machine::user::write_bytes(mask.address(), bytes.get(..written).unwrap_or_default())?;
    Ok(written)
}

/// The threads that `which` and `who` mean in getpriority(2) and setpriority(2). Errors: `EINVAL`, `ESRCH`.
fn for_each_target(context: &Context<'_>, which: i32, who: i32, f: &mut dyn FnMut(&Arc<Task>)) -> Result<()> {
    match which as u32 {
        PRIO_PROCESS => match who {
            0 => f(context.task),
            pid => f(&context.find_task(pid)?),
        },
        PRIO_PGRP => {
            let group = if who == 0 { context.task.process().pgid_for_user() } else { who };
            task::for_each_in_group(context.task, group, &mut |process| process.for_each_task(f))?;
        }
        PRIO_USER => {
            let own = context.credentials();
            let user = match who {
                0 => own.ruid,
                uid => own.user_namespace.make_kuid(uid as u32).ok_or(Errno::ESRCH)?,
            };
            task::for_each_process(context.task, &mut |process| {
                process.for_each_task(&mut |task| {
                    if task.credentials().ruid == user {
                        f(task);
                    }
                });
            });
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// getpriority(2): 20 minus the lowest nice value, so that it is never negative. Errors: `EINVAL`, `ESRCH`.
pub fn getpriority(context: &mut Context<'_>, which: i32, who: i32) -> Result<usize> {
    let mut best: Option<i32> = None;
    for_each_target(context, which, who, &mut |task| {
        let value = 20 - task.thread().nice();
        best = Some(best.map_or(value, |best| best.max(value)));
    })?;
    best.map(|value| value as usize).ok_or(Errno::ESRCH)
}

/// setpriority(2). Errors: `EINVAL`, `ESRCH`, `EACCES`, `EPERM`.
pub fn setpriority(context: &mut Context<'_>, which: i32, who: i32, nice: i32) -> Result<usize> {
    let nice = nice.clamp(-20, 19);
    let own = context.credentials();
    let mut outcome = Err(Errno::ESRCH);
    for_each_target(context, which, who, &mut |task| {
        let result = set_nice(&own, task, nice);
        outcome = match (outcome, result) {
            (Err(Errno::ESRCH), result) => result,
            (Ok(_), Err(error)) => Err(error),
            (outcome, _) => outcome,
        };
    })?;
    outcome
}

/// Sets one thread's nice value. Errors: `EPERM` (another's), `EACCES` (lower than allowed).
fn set_nice(own: &security::Credentials, task: &Arc<Task>, nice: i32) -> Result<usize> {
    let other = task.credentials();
    let privileged = security::capable_anywhere_above(own, Capability::SysNice);
    let same = own.euid == other.euid || own.euid == other.ruid;
    if !same && !own.capable(&other.user_namespace, Capability::SysNice) {
        return Err(Errno::EPERM);
    }
    let floor = 20 - task.process().limit(Resource::Nice).min(40) as i32;
    if nice < task.thread().nice() && nice < floor && !privileged {
        return Err(Errno::EACCES);
    }
    task.thread().set_nice(nice);
    Ok(0)
}

/// Where the class begins in a priority of ioprio_set(2); below are eight levels.
const IO_CLASS_SHIFT: u32 = 13;
const IO_LEVEL_MASK: u32 = 7;
const IO_CLASS_NONE: u32 = 0;
const IO_CLASS_REAL_TIME: u32 = 1;
const IO_CLASS_BEST_EFFORT: u32 = 2;
const IO_CLASS_IDLE: u32 = 3;
/// `which` of ioprio_set(2) is that of setpriority(2) and one more.
const IO_WHICH_OFFSET: i32 = 1;

/// What a thread without a priority of its own has: a best-effort level that follows its nice value (ioprio_set(2)).
fn effective_io_priority(task: &Task) -> u32 {
    match task.io_priority() {
        0 => {
            let attributes = task.thread().attributes();
            let class = match attributes.policy {
                Policy::Idle => IO_CLASS_IDLE,
                Policy::Fifo | Policy::RoundRobin => IO_CLASS_REAL_TIME,
                Policy::Normal | Policy::Batch => IO_CLASS_BEST_EFFORT,
            };
            let level = (i32::from(attributes.nice) + 20) as u32 / 5;
            class << IO_CLASS_SHIFT | level
        }
        own => own,
    }
}

/// ioprio_get(2): of several threads the most urgent. Errors: `EINVAL`, `ESRCH`.
pub fn ioprio_get(context: &mut Context<'_>, which: i32, who: i32) -> Result<usize> {
    let which = which.wrapping_sub(IO_WHICH_OFFSET);
    let alone = which as u32 == PRIO_PROCESS;
    let mut best: Option<u32> = None;
    for_each_target(context, which, who, &mut |task| {
        let value = if alone { task.io_priority() } else { effective_io_priority(task) };
        best = Some(best.map_or(value, |best| best.min(value)));
    })?;
    best.map(|value| value as usize).ok_or(Errno::ESRCH)
}

/// ioprio_set(2): kept for each thread and inherited; nothing here queues for a disk. Errors: `EINVAL`, `EPERM`, `ESRCH`.
pub fn ioprio_set(context: &mut Context<'_>, which: i32, who: i32, priority: i32) -> Result<usize> {
    let priority = priority as u32;
    match priority >> IO_CLASS_SHIFT {
        IO_CLASS_REAL_TIME => {
            let own = context.credentials();
            if !own.has(Capability::SysAdmin) && !own.has(Capability::SysNice) {
                return Err(Errno::EPERM);
            }
        }
        IO_CLASS_BEST_EFFORT | IO_CLASS_IDLE => {}
        IO_CLASS_NONE if priority & IO_LEVEL_MASK == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    let own = context.credentials();
    let mut outcome = Err(Errno::ESRCH);
    for_each_target(context, which.wrapping_sub(IO_WHICH_OFFSET), who, &mut |task| {
        let other = task.credentials();
        let may = other.ruid == own.euid || other.ruid == own.ruid || own.has(Capability::SysNice);
        if may {
            task.set_io_priority(priority);
        }
        let result = if may { Ok(0) } else { Err(Errno::EPERM) };
        outcome = if outcome == Err(Errno::ESRCH) || result.is_err() { result } else { outcome };
    })?;
    outcome
}
