//! POSIX timers: timer_create(2) and its relatives.
//!
//! A [`PosixTimer`] queues its signal once; while that is pending, expiries only count. A periodic timer is armed again when its signal is
//! delivered ([`note_delivery`]), which also computes the overruns (timer_getoverrun(2)), so that a short period cannot
//! flood anything. Locks: the process's table, then the timer's state; both interrupt-safe leaves below `shared`.

use super::{ProcessTimers, SHORTEST_PERIOD_NS, TimerValue};
use crate::namespaces::OffsetClock;
use crate::pid::map::{AllocateError, IdMap};
use crate::process::{Process, Shared};
use crate::signal::send::{to_process, to_task};
use crate::signal::{Cause, Signal, SignalInfo, code};
use crate::task::Task;
use crate::usage;
use abi::errno::{Errno, Result};
use abi::time::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID,
};
use alloc::sync::{Arc, Weak};
use machine::sync::{IrqSpinLock, Once};
use machine::time::now_ns;
use sched::timer::{Timer, TimerAction, TimerCallback};

/// The timers of a process by id.
pub type Table = IdMap<Arc<PosixTimer>>;
/// Most timers of one process.
pub const MAX_TIMERS: u32 = 1 << 16;

/// What a timer does when it expires.
#[derive(Clone, Debug)]
pub enum Notify {
    /// Nothing (SIGEV_NONE).
    Nothing,
    /// A signal with this value to the process (SIGEV_SIGNAL, SIGEV_THREAD).
    Process(Signal, u64),
    /// A signal with this value to one thread (SIGEV_THREAD_ID).
    Thread(Signal, u64, i32),
}

/// How the time given to [`set_time`] counts.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// From now.
    Relative,
    /// TIMER_ABSTIME: a reading of the timer's clock.
    Absolute,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Clock {
    Real,
    Monotonic,
    ProcessTime,
    ThreadTime,
}

/// One timer.
pub struct PosixTimer {
    id: i32,
    clock: Clock,
    /// Which offset of a time namespace its absolute times have.
    offset: Option<OffsetClock>,
    notify: Notify,
    process: Weak<Process>,
    thread: Weak<Task>,
    state: IrqSpinLock<State>,
    timer: Once<Timer>,
}

#[derive(Default)]
struct State {
    /// Reading of the clock at the next expiry.
    target_ns: Option<u64>,
    interval_ns: u64,
    /// Its signal is queued.
    queued: bool,
    /// Overruns of the last delivered signal.
    overrun: i32,
}

impl PosixTimer {
    fn reading(&self) -> u64 {
        match self.clock {
            Clock::Real => sched::clock::realtime_ns(),
            Clock::Monotonic => now_ns(),
            Clock::ProcessTime => {
                self.process.upgrade().map_or(0, |process| usage::of_process(&process).cpu_time_ns())
            }
            Clock::ThreadTime => self.thread.upgrade().map_or(0, |task| task.times().total_ns()),
        }
    }

    /// How many seconds of its clock may pass in one second. Not with the state locked.
    fn speed(&self) -> u64 {
        match self.clock {
            Clock::ProcessTime => {
                self.process.upgrade().map_or(1, |process| process.thread_count().max(1) as u64)
            }
            Clock::Real | Clock::Monotonic | Clock::ThreadTime => 1,
        }
    }

    fn info(&self, signal: Signal, value: u64) -> SignalInfo {
        SignalInfo {
            signal,
            errno: 0,
            code: code::SI_TIMER,
            cause: Cause::Timer { id: self.id, overrun: 0, value },
        }
    }

    fn send(&self) -> bool {
        match &self.notify {
            Notify::Nothing => false,
            Notify::Process(signal, value) => {
                let Some(process) = self.process.upgrade() else { return false };
                to_process(&process, self.info(*signal, *value)).is_ok()
            }
            Notify::Thread(signal, value, _) => {
                let Some(task) = self.thread.upgrade() else { return false };
                to_task(&task, self.info(*signal, *value)).is_ok()
            }
        }
    }

    fn value(&self) -> TimerValue {
        let reading = self.reading();
        let state = self.state.lock();
        let target = match state.target_ns {
            Some(target) if target <= reading && state.interval_ns != 0 => {
                Some(advance(target, state.interval_ns, reading).0)
            }
            other => other,
        };
        TimerValue {
            remaining_ns: target.map_or(0, |target| target.saturating_sub(reading).max(1)),
            interval_ns: state.interval_ns,
        }
    }
}

/// The first expiry after `reading` and how many lie between.
fn advance(target: u64, interval: u64, reading: u64) -> (u64, u64) {
    let interval = interval.max(1);
    let periods = reading.saturating_sub(target) / interval + 1;
    (target.saturating_add(periods.saturating_mul(interval)), periods)
}

impl TimerCallback for PosixTimer {
    fn expire(&self, now: u64) -> TimerAction {
        let reading = self.reading();
        let speed = self.speed();
        {
            let mut state = self.state.lock();
            let Some(target) = state.target_ns else { return TimerAction::Done };
            if reading < target {
                let wait = ((target - reading) / speed).max(SHORTEST_PERIOD_NS);
                return TimerAction::RearmAt(now.saturating_add(wait));
            }
            if state.interval_ns == 0 {
                state.target_ns = None;
            }
            if state.queued {
                return TimerAction::Done;
            }
            state.queued = true;
        }
        let sent = self.send();
        if sent {
            return TimerAction::Done;
        }
        // Nobody takes it (SIGEV_NONE, or the thread has ended): a periodic timer just goes on.
        let mut state = self.state.lock();
        state.queued = false;
        match state.target_ns.filter(|_| state.interval_ns != 0) {
            Some(target) if matches!(self.notify, Notify::Nothing) => {
                let (next, _) = advance(target, state.interval_ns.max(SHORTEST_PERIOD_NS), reading);
                state.target_ns = Some(next);
                TimerAction::RearmAt(now.saturating_add((next - reading) / speed))
            }
            _ => TimerAction::Done,
        }
    }
}

/// Called with `shared` locked when a signal is taken from a queue: a timer's gets its overrun count, and the timer
/// goes on. `None` when the timer has been deleted meanwhile.
pub(crate) fn note_delivery(process: &Process, _shared: &mut Shared, info: SignalInfo) -> Option<SignalInfo> {
    let Cause::Timer { id, value, .. } = info.cause else { return Some(info) };
    let timer = process.timers.posix.lock().get(u32::try_from(id).ok()?).cloned()?;
    let mut state = timer.state.lock();
    state.queued = false;
    state.overrun = 0;
    if let Some(target) = state.target_ns.filter(|_| state.interval_ns != 0) {
        // Not the process's clock reading: `shared` is locked here. Those timers count no overruns.
        let reading = match timer.clock {
            Clock::Real | Clock::Monotonic => timer.reading(),
            Clock::ProcessTime | Clock::ThreadTime => target,
        };
        if reading >= target {
            let (next, periods) = advance(target, state.interval_ns, reading);
            state.overrun = i32::try_from(periods - 1).unwrap_or(i32::MAX);
            state.target_ns = Some(next);
            if let Some(clock) = timer.timer.get() {
                clock.arm(now_ns().saturating_add(next.saturating_sub(reading)));
            }
        }
    }
    let overrun = state.overrun;
    drop(state);
    Some(SignalInfo { cause: Cause::Timer { id, overrun, value }, ..info })
}

fn clock_of(id: i32) -> Result<Clock> {
    match u32::try_from(id).map_err(|_| Errno::EINVAL)? {
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM | CLOCK_TAI => Ok(Clock::Real),
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Ok(Clock::Monotonic),
        CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::ProcessTime),
        CLOCK_THREAD_CPUTIME_ID => Ok(Clock::ThreadTime),
        _ => Err(Errno::EINVAL),
    }
}

/// timer_create(2); gives the id. `notify` of `None` is the default: SIGALRM with the id as its value.
///
/// # Errors
/// EINVAL: no such clock or thread. EAGAIN: too many. ENOMEM.
pub fn create(task: &Arc<Task>, clock: i32, notify: Option<Notify>) -> Result<i32> {
    let offset = u32::try_from(clock).ok().and_then(OffsetClock::of_clock);
    let clock = clock_of(clock)?;
    let process = task.process();
    let thread = match &notify {
        Some(Notify::Thread(_, _, id)) => {
            let other = process.namespace().find_task(*id).ok_or(Errno::EINVAL)?;
            if !Arc::ptr_eq(other.process(), process) {
                return Err(Errno::EINVAL);
            }
            other
        }
        _ => task.clone(),
    };
    // The id is part of the timer, so a place is found first; only this process's threads race for it.
    loop {
        let free = process.timers.posix.lock().next_free(0, MAX_TIMERS).ok_or(Errno::EAGAIN)?;
        let id = i32::try_from(free).map_err(|_| Errno::EAGAIN)?;
        let timer = Arc::new(PosixTimer {
            id,
            clock,
            offset,
            notify: notify.clone().unwrap_or(Notify::Process(Signal::SIGALRM, id as u64)),
            process: Arc::downgrade(process),
            thread: Arc::downgrade(&thread),
            state: IrqSpinLock::new(State::default()),
            timer: Once::new(),
        });
        let refused = process.timers.posix.lock().insert(free, timer).map_err(Errno::from)?;
        if refused.is_none() {
            return Ok(id);
        }
    }
}

impl From<AllocateError> for Errno {
    fn from(error: AllocateError) -> Errno {
        match error {
            AllocateError::Full => Errno::EAGAIN,
            AllocateError::NoMemory => Errno::ENOMEM,
        }
    }
}

fn find(task: &Task, id: i32) -> Result<Arc<PosixTimer>> {
    let id = u32::try_from(id).map_err(|_| Errno::EINVAL)?;
    task.process().timers.posix.lock().get(id).cloned().ok_or(Errno::EINVAL)
}

/// timer_settime(2); gives the old value.
///
/// # Errors
/// EINVAL: no such timer. ENOMEM.
pub fn set_time(task: &Task, id: i32, start: Start, new: TimerValue) -> Result<TimerValue> {
    let timer = find(task, id)?;
    let old = timer.value();
    if timer.timer.get().is_none() {
        let callback: Arc<dyn TimerCallback> = Arc::new(Forward(Arc::downgrade(&timer)));
        let _ = timer.timer.set(Timer::new(callback)?);
    }
    let Some(clock) = timer.timer.get() else { return Err(Errno::ENOMEM) };
    clock.cancel();
    let clocks = task.live_namespaces()?.time.clone();
    let absolute = timer.offset.map_or(new.remaining_ns, |of| clocks.to_machine_ns(of, new.remaining_ns));
    let reading = timer.reading();
    let mut state = timer.state.lock();
    state.overrun = 0;
    state.interval_ns = new.interval_ns;
    if new.remaining_ns == 0 {
        *state = State { queued: state.queued, ..State::default() };
        return Ok(old);
    }
    let target = match start {
        Start::Relative => reading.saturating_add(new.remaining_ns),
        Start::Absolute => absolute,
    };
    state.target_ns = Some(target);
    drop(state);
    clock.arm(now_ns().saturating_add(target.saturating_sub(reading) / timer.speed()));
    Ok(old)
}

/// What the scheduler's timer holds: no cycle keeps a deleted timer alive.
struct Forward(Weak<PosixTimer>);

impl TimerCallback for Forward {
    fn expire(&self, now: u64) -> TimerAction {
        self.0.upgrade().map_or(TimerAction::Done, |timer| timer.expire(now))
    }
}

/// timer_gettime(2).
///
/// # Errors
/// EINVAL: no such timer.
pub fn get_time(task: &Task, id: i32) -> Result<TimerValue> {
    Ok(find(task, id)?.value())
}

/// timer_getoverrun(2).
///
/// # Errors
/// EINVAL: no such timer.
pub fn overrun(task: &Task, id: i32) -> Result<i32> {
    Ok(find(task, id)?.state.lock().overrun)
}

/// timer_delete(2).
///
/// # Errors
/// EINVAL: no such timer.
pub fn delete(task: &Task, id: i32) -> Result<()> {
    let number = u32::try_from(id).map_err(|_| Errno::EINVAL)?;
    let timer = task.process().timers.posix.lock().remove(number).ok_or(Errno::EINVAL)?;
    disarm(&timer);
    Ok(())
}

fn disarm(timer: &PosixTimer) {
    if let Some(clock) = timer.timer.get() {
        clock.cancel();
    }
}

/// exec(2) and exit: all timers of the process go.
pub(crate) fn delete_all(timers: &ProcessTimers) {
    loop {
        let timer = {
            let mut table = timers.posix.lock();
            let Some(id) = table.next_used(0).map(|(id, _)| id) else { return };
            table.remove(id)
        };
        if let Some(timer) = timer {
            disarm(&timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overruns_are_the_periods_in_between() {
        assert_eq!(advance(100, 10, 100), (110, 1));
        assert_eq!(advance(100, 10, 135), (140, 4));
        assert_eq!(advance(100, 0, 135), (136, 36));
    }

    #[test]
    fn clocks() {
        assert_eq!(clock_of(0), Ok(Clock::Real));
        assert_eq!(clock_of(7), Ok(Clock::Monotonic));
        assert_eq!(clock_of(4), Err(Errno::EINVAL));
        assert_eq!(clock_of(-1), Err(Errno::EINVAL));
    }
}
