//! Clocks and sleeping: clock_gettime(2), clock_settime(2), clock_nanosleep(2), gettimeofday(2), times(2).
//!
//! Neighbours: `sched::clock` (the wall clock), `machine::time` (the monotonic one), `task` (processor time).

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::time::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_ALARM, CLOCK_REALTIME_COARSE, CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID, NSEC_PER_SEC, TIMER_ABSTIME, Timespec, Timeval, USER_HZ,
};
use machine::sync::WaitKind;
use mm::user::UserPtr;
use security::Capability;
use task::calls::{self, UsageOf};
use task::namespaces::OffsetClock;
use task::restart::RestartBlock;

/// The monotonic deadline `timeout` from now; `None` for a null pointer. Errors: `EFAULT`, `EINVAL`.
pub fn deadline_after(timeout: UserPtr<Timespec>) -> Result<Option<u64>> {
    let Some(timeout) = timeout.optional() else { return Ok(None) };
    let ns = timeout.read()?.to_nanoseconds()?;
    Ok(Some(machine::time::now_ns().saturating_add(ns)))
}

/// What a clock shows in the caller's time namespace when the machine's shows `ns`.
fn shown_ns(context: &Context<'_>, clock: u32, ns: u64) -> Result<u64> {
    let clocks = &context.task.live_namespaces()?.time;
    Ok(OffsetClock::of_clock(clock).map_or(ns, |offset| clocks.to_namespace_ns(offset, ns)))
}

/// What the machine's clock shows when the caller's shows `ns`: for absolute times that programs give.
pub fn machine_ns(context: &Context<'_>, clock: u32, ns: u64) -> Result<u64> {
    let clocks = &context.task.live_namespaces()?.time;
    Ok(OffsetClock::of_clock(clock).map_or(ns, |offset| clocks.to_machine_ns(offset, ns)))
}

/// What the clock shows, in nanoseconds. Errors: `EINVAL` for a clock there is not.
fn clock_ns(context: &Context<'_>, clock: i32) -> Result<u64> {
    if clock < 0 {
        return task::clock::cpu_clock_ns(context.task, clock);
    }
    Ok(match clock as u32 {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM | CLOCK_TAI => {
            sched::clock::realtime_ns()
        }
        clock if OffsetClock::of_clock(clock).is_some() => shown_ns(context, clock, machine::time::now_ns())?,
        CLOCK_PROCESS_CPUTIME_ID => calls::getrusage(context.task, UsageOf::Process).cpu_time_ns(),
        CLOCK_THREAD_CPUTIME_ID => context.task.cpu_time_ns(),
        _ => return Err(Errno::EINVAL),
    })
}

/// clock_gettime(2). Errors: `EINVAL`, `EFAULT`.
pub fn clock_gettime(context: &mut Context<'_>, clock: i32, time: UserPtr<Timespec>) -> Result<usize> {
    time.write(&Timespec::from_nanoseconds(clock_ns(context, clock)?))?;
    Ok(0)
}

/// clock_getres(2): every clock here counts nanoseconds. Errors: `EINVAL`, `EFAULT`.
pub fn clock_getres(context: &mut Context<'_>, clock: i32, resolution: UserPtr<Timespec>) -> Result<usize> {
    clock_ns(context, clock)?;
    resolution.write_optional(&Timespec { tv_sec: 0, tv_nsec: 1 })?;
    Ok(0)
}

/// clock_settime(2), for the wall clock only. Errors: `EINVAL`, `EPERM`, `EFAULT`.
pub fn clock_settime(context: &mut Context<'_>, clock: i32, time: UserPtr<Timespec>) -> Result<usize> {
    if clock as u32 != CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    let ns = time.read()?.to_nanoseconds()?;
    context.require_global(Capability::SysTime)?;
    sched::clock::set_realtime_ns(ns);
    Ok(0)
}

/// gettimeofday(2). Errors: `EFAULT`.
pub fn gettimeofday(
    _context: &mut Context<'_>,
    time: UserPtr<Timeval>,
    zone: UserPtr<[i32; 2]>,
) -> Result<usize> {
    time.write_optional(&Timeval::from_nanoseconds(sched::clock::realtime_ns()))?;
    zone.write_optional(&[0, 0])?;
    Ok(0)
}

/// settimeofday(2). A time zone is accepted only if it is null or zero. Errors: `EINVAL`, `EPERM`, `EFAULT`.
pub fn settimeofday(
    context: &mut Context<'_>,
    time: UserPtr<Timeval>,
    zone: UserPtr<[i32; 2]>,
) -> Result<usize> {
    let ns = time.optional().map(|time| time.read()?.to_nanoseconds()).transpose()?;
    let zone = zone.optional().map(UserPtr::read).transpose()?;
    context.require_global(Capability::SysTime)?;
    if zone.is_some_and(|zone| zone != [0, 0]) {
        return Err(Errno::EINVAL);
    }
    if let Some(ns) = ns {
        sched::clock::set_realtime_ns(ns);
    }
    Ok(0)
}

/// time(2). Errors: `EFAULT`.
pub fn time(_context: &mut Context<'_>, time: UserPtr<i64>) -> Result<usize> {
    let seconds = sched::clock::realtime_ns() / NSEC_PER_SEC;
    time.write_optional(&(seconds as i64))?;
    Ok(seconds as usize)
}

/// times(2): processor time of the process and its waited-for children, in 1/100 s; the result is the time since boot.
pub fn times(context: &mut Context<'_>, buffer: UserPtr<[u64; 4]>) -> Result<usize> {
    let ticks = |ns: u64| ns / (NSEC_PER_SEC / USER_HZ);
    if let Some(buffer) = buffer.optional() {
        let own = calls::getrusage(context.task, UsageOf::Process);
        let children = calls::getrusage(context.task, UsageOf::Children);
        let all = [own.user_ns, own.system_ns, children.user_ns, children.system_ns].map(ticks);
        buffer.write(&all)?;
    }
    Ok(ticks(machine::time::now_ns()) as usize)
}

/// nanosleep(2). Errors: `EINTR` (with the rest in `remaining`), `EINVAL`, `EFAULT`.
pub fn nanosleep(
    context: &mut Context<'_>,
    request: UserPtr<Timespec>,
    remaining: UserPtr<Timespec>,
) -> Result<usize> {
    let ns = request.read()?.to_nanoseconds()?;
    sleep_for(context, machine::time::now_ns().saturating_add(ns), remaining)
}

/// clock_nanosleep(2). Errors: `EINTR`, `EINVAL`, `EFAULT`, `EOPNOTSUPP` for a clock that cannot be slept on.
pub fn clock_nanosleep(
    context: &mut Context<'_>,
    clock: i32,
    flags: u32,
    request: UserPtr<Timespec>,
    remaining: UserPtr<Timespec>,
) -> Result<usize> {
    let realtime = match clock as u32 {
        CLOCK_REALTIME | CLOCK_TAI | CLOCK_REALTIME_ALARM => true,
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => false,
        CLOCK_MONOTONIC_RAW
        | CLOCK_MONOTONIC_COARSE
        | CLOCK_REALTIME_COARSE
        | CLOCK_PROCESS_CPUTIME_ID
        | CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    };
    let ns = request.read()?.to_nanoseconds()?;
    if flags & TIMER_ABSTIME == 0 {
        return sleep_for(context, machine::time::now_ns().saturating_add(ns), remaining);
    }
    let ns = machine_ns(context, clock as u32, ns)?;
    loop {
        // Setting the clock moves the deadline; look again at least every second while it is the wall clock.
        let now = machine::time::now_ns();
        let deadline = if realtime { sched::clock::realtime_to_monotonic_ns(ns) } else { ns };
        if deadline <= now {
            return Ok(0);
        }
        let until = if realtime { deadline.min(now.saturating_add(NSEC_PER_SEC)) } else { deadline };
        sched::sleep_until(until, WaitKind::Interruptible).map_err(|_| Errno::ERESTARTNOHAND)?;
    }
}

/// Sleeps until `deadline`; when a signal ends it, says what is left and arranges that a restart waits only for that.
fn sleep_for(context: &mut Context<'_>, deadline: u64, remaining: UserPtr<Timespec>) -> Result<usize> {
    match sched::sleep_until(deadline, WaitKind::Interruptible) {
        Ok(()) => Ok(0),
        Err(_) => {
            let left = deadline.saturating_sub(machine::time::now_ns());
            if left == 0 {
                return Ok(0);
            }
            remaining.write_optional(&Timespec::from_nanoseconds(left))?;
            let remaining = remaining.address();
            context.task.set_restart(RestartBlock::Sleep {
                clock: CLOCK_MONOTONIC as i32,
                deadline_ns: deadline,
                remaining,
            });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
    }
}

/// Goes on with a sleep that a stop and SIGCONT interrupted; restart_syscall(2) comes here.
pub fn restart_nanosleep(context: &mut Context<'_>, deadline_ns: u64, remaining: usize) -> Result<usize> {
    sleep_for(context, deadline_ns, UserPtr::new(remaining))
}
