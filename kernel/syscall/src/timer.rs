//! Timers that send signals: setitimer(2), alarm(2), timer_create(2) and what belongs to it.
//!
//! Decoding; the timers are in `task::timers`.

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::signal::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID};
use abi::time::{Itimerspec, Itimerval, NSEC_PER_SEC, TIMER_ABSTIME, Timespec, Timeval};
use mm::user::UserPtr;
use task::signal::Signal;
use task::timers::posix::{self, Notify, Start};
use task::timers::{self, IntervalTimer, TimerValue};

fn to_itimerval(value: TimerValue) -> Itimerval {
    Itimerval {
        it_interval: Timeval::from_nanoseconds(value.interval_ns),
        // A timer that runs must not look as if it had stopped: round up to a microsecond.
        it_value: Timeval::from_nanoseconds(value.remaining_ns.next_multiple_of(1000)),
    }
}

/// getitimer(2). Errors: `EINVAL`, `EFAULT`.
pub fn getitimer(context: &mut Context<'_>, which: i32, value: UserPtr<Itimerval>) -> Result<usize> {
    let which = IntervalTimer::new(which)?;
    value.write(&to_itimerval(timers::get_interval(context.task, which)))?;
    Ok(0)
}

/// setitimer(2). Errors: `EINVAL`, `EFAULT`, `ENOMEM`.
pub fn setitimer(
    context: &mut Context<'_>,
    which: i32,
    new: UserPtr<Itimerval>,
    old: UserPtr<Itimerval>,
) -> Result<usize> {
    let which = IntervalTimer::new(which)?;
    let new = match new.optional() {
        // A null pointer stops the timer, as Linux has always done.
        None => TimerValue::default(),
        Some(new) => {
            let new = new.read()?;
            let remaining_ns = new.it_value.to_nanoseconds()?;
            TimerValue { remaining_ns, interval_ns: new.it_interval.to_nanoseconds()? }
        }
    };
    let before = timers::set_interval(context.task, which, new)?;
    old.write_optional(&to_itimerval(before))?;
    Ok(0)
}

/// alarm(2): seconds that were left, rounded to the nearest, at least 1 if any.
pub fn alarm(context: &mut Context<'_>, seconds: u32) -> Result<usize> {
    let new = TimerValue { remaining_ns: u64::from(seconds) * NSEC_PER_SEC, interval_ns: 0 };
    let left = timers::set_interval(context.task, IntervalTimer::Real, new)?.remaining_ns;
    let rounded = (left + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
    Ok(if left > 0 { rounded.max(1) as usize } else { 0 })
}

/// `struct sigevent` up to the fields the kernel reads: value, signal, kind, thread.
type Sigevent = [u32; 5];

/// What a timer does when it expires. Errors: `EINVAL`, `EFAULT`.
fn notification(event: UserPtr<Sigevent>) -> Result<Option<Notify>> {
    let Some(event) = event.optional() else { return Ok(None) };
    let [low, high, signal, kind, thread] = event.read()?;
    let value = u64::from(high) << 32 | u64::from(low);
    let signal = || Signal::new(signal as i32).ok_or(Errno::EINVAL);
    Ok(Some(match kind {
        SIGEV_NONE => Notify::Nothing,
        SIGEV_SIGNAL | SIGEV_THREAD => Notify::Process(signal()?, value),
        kind if kind == SIGEV_THREAD_ID | SIGEV_SIGNAL => Notify::Thread(signal()?, value, thread as i32),
        _ => return Err(Errno::EINVAL),
    }))
}

/// timer_create(2). Errors: `EAGAIN`, `EINVAL`, `EFAULT`, `ENOMEM`.
pub fn timer_create(
    context: &mut Context<'_>,
    clock: i32,
    event: UserPtr<Sigevent>,
    id: UserPtr<i32>,
) -> Result<usize> {
    let notify = notification(event)?;
    let number = posix::create(context.task, clock, notify)?;
    if let Err(error) = id.write(&number) {
        posix::delete(context.task, number)?;
        return Err(error);
    }
    Ok(0)
}

fn to_itimerspec(value: TimerValue) -> Itimerspec {
    Itimerspec {
        it_interval: Timespec::from_nanoseconds(value.interval_ns),
        it_value: Timespec::from_nanoseconds(value.remaining_ns),
    }
}

/// timer_settime(2). Errors: `EINVAL`, `EFAULT`.
pub fn timer_settime(
    context: &mut Context<'_>,
    id: i32,
    flags: u32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> Result<usize> {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let new = new.read()?;
    let value = TimerValue {
        remaining_ns: new.it_value.to_nanoseconds()?,
        interval_ns: new.it_interval.to_nanoseconds()?,
    };
    let start = if flags & TIMER_ABSTIME != 0 { Start::Absolute } else { Start::Relative };
    let before = posix::set_time(context.task, id, start, value)?;
    old.write_optional(&to_itimerspec(before))?;
    Ok(0)
}

/// timer_gettime(2). Errors: `EINVAL`, `EFAULT`.
pub fn timer_gettime(context: &mut Context<'_>, id: i32, value: UserPtr<Itimerspec>) -> Result<usize> {
    value.write(&to_itimerspec(posix::get_time(context.task, id)?))?;
    Ok(0)
}

/// timer_getoverrun(2). Errors: `EINVAL`.
pub fn timer_getoverrun(context: &mut Context<'_>, id: i32) -> Result<usize> {
    posix::overrun(context.task, id).map(|count| count as usize)
}

/// timer_delete(2). Errors: `EINVAL`.
pub fn timer_delete(context: &mut Context<'_>, id: i32) -> Result<usize> {
    posix::delete(context.task, id).map(|()| 0)
}
