//! Timers that send signals: setitimer(2), alarm(2), the processor-time limit, and POSIX timers ([`posix`]).
//!
//! A wall-clock timer is one [`sched::timer::Timer`]. A timer on processor time is one too: it fires when the time could be used up at the
//! earliest, looks, and waits for the rest, so that no periodic tick is needed. Callbacks run in interrupts and take
//! only interrupt-safe locks (the process's `shared` and below).

pub mod posix;

use crate::limits::Resource;
use crate::process::Process;
use crate::signal::send::to_process;
use crate::signal::{Signal, SignalInfo};
use crate::task::Task;
use crate::usage;
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use machine::sync::{IrqSpinLock, SpinLock};
use machine::time::now_ns;
use sched::timer::{Timer, TimerAction, TimerCallback};

/// Shortest period: a program cannot keep a CPU busy with its own timer interrupts.
pub const SHORTEST_PERIOD_NS: u64 = 20_000;

/// Which clock an interval timer runs on; the values are Linux's.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum IntervalTimer {
    /// Time; SIGALRM.
    Real = 0,
    /// Processor time in the program; SIGVTALRM.
    Virtual = 1,
    /// Processor time in the program and in the kernel for it; SIGPROF.
    Profiling = 2,
}

impl IntervalTimer {
    /// The timer that `which` names.
    ///
    /// # Errors
    /// EINVAL.
    pub fn new(which: i32) -> Result<IntervalTimer> {
        match which {
            0 => Ok(IntervalTimer::Real),
            1 => Ok(IntervalTimer::Virtual),
            2 => Ok(IntervalTimer::Profiling),
            _ => Err(Errno::EINVAL),
        }
    }

    fn signal(self) -> Signal {
        match self {
            IntervalTimer::Real => Signal::SIGALRM,
            IntervalTimer::Virtual => Signal::SIGVTALRM,
            IntervalTimer::Profiling => Signal::SIGPROF,
        }
    }
}

/// Time to the next expiry and the period; 0 is "not armed" and "once".
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct TimerValue {
    /// Nanoseconds to go.
    pub remaining_ns: u64,
    /// Nanoseconds between expiries.
    pub interval_ns: u64,
}

/// What an interval timer counts and where it stands.
#[derive(Copy, Clone, Default)]
struct Progress {
    /// Reading of the clock at which it fires; `None` when it is not armed.
    target_ns: Option<u64>,
    interval_ns: u64,
}

struct Interval {
    which: IntervalTimer,
    process: Weak<Process>,
    progress: IrqSpinLock<Progress>,
}

impl Interval {
    /// Reading of its clock and how many threads advance it at once.
    fn clock(&self, process: &Process) -> (u64, u64) {
        match self.which {
            IntervalTimer::Real => (now_ns(), 1),
            IntervalTimer::Virtual => {
                let times = usage::of_process(process);
                (times.user_ns, process.thread_count() as u64)
            }
            IntervalTimer::Profiling => {
                let times = usage::of_process(process);
                (times.cpu_time_ns(), process.thread_count() as u64)
            }
        }
    }
}

impl TimerCallback for Interval {
    fn expire(&self, now: u64) -> TimerAction {
        let Some(process) = self.process.upgrade() else { return TimerAction::Done };
        let (reading, speed) = self.clock(&process);
        let next = {
            let mut progress = self.progress.lock();
            let Some(target) = progress.target_ns else { return TimerAction::Done };
            if reading < target {
                return TimerAction::RearmAt(
                    now.saturating_add((target - reading).div_ceil(speed.max(1)).max(SHORTEST_PERIOD_NS)),
                );
            }
            progress.target_ns = next_target(target, progress.interval_ns, reading);
            progress.target_ns
        };
        let _ = to_process(&process, SignalInfo::from_kernel(self.which.signal()));
        match next {
            Some(target) => {
                TimerAction::RearmAt(now.saturating_add((target - reading).div_ceil(speed.max(1))))
            }
            None => TimerAction::Done,
        }
    }
}

/// The first expiry after `reading` of a timer that was to fire at `target`; `None` for one without period.
fn next_target(target: u64, interval: u64, reading: u64) -> Option<u64> {
    if interval == 0 {
        return None;
    }
    let interval = interval.max(SHORTEST_PERIOD_NS);
    let periods = (reading - target) / interval + 1;
    Some(target.saturating_add(periods.saturating_mul(interval)))
}

/// RLIMIT_CPU: SIGXCPU each second past the soft limit, SIGKILL at the hard one.
struct CpuLimit {
    process: Weak<Process>,
}

const SECOND_NS: u64 = 1_000_000_000;

impl TimerCallback for CpuLimit {
    fn expire(&self, now: u64) -> TimerAction {
        let Some(process) = self.process.upgrade() else { return TimerAction::Done };
        let limit = process.limits().get(Resource::Cpu);
        if limit.soft == u64::MAX {
            return TimerAction::Done;
        }
        let used = usage::of_process(&process).cpu_time_ns();
        let (soft, hard) = (limit.soft.saturating_mul(SECOND_NS), limit.hard.saturating_mul(SECOND_NS));
        if used >= hard {
            let _ = to_process(&process, SignalInfo::from_kernel(Signal::SIGKILL));
            return TimerAction::Done;
        }
        let threads = (process.thread_count() as u64).max(1);
        if used < soft {
            return TimerAction::RearmAt(
                now.saturating_add(((soft - used) / threads).max(SHORTEST_PERIOD_NS)),
            );
        }
        let _ = to_process(&process, SignalInfo::from_kernel(Signal::SIGXCPU));
        TimerAction::RearmAt(now + SECOND_NS / threads)
    }
}

/// The timers of one process.
pub struct ProcessTimers {
    intervals: [Arc<Interval>; 3],
    armed: SpinLock<[Option<Arc<Timer>>; 3]>,
    process: Weak<Process>,
    cpu_limit: SpinLock<Option<Arc<Timer>>>,
    pub(crate) posix: IrqSpinLock<posix::Table>,
}

impl ProcessTimers {
    pub(crate) fn new(process: Weak<Process>) -> ProcessTimers {
        let interval = |which| {
            Arc::new(Interval {
                which,
                process: process.clone(),
                progress: IrqSpinLock::new(Progress::default()),
            })
        };
        ProcessTimers {
            intervals: [
                interval(IntervalTimer::Real),
                interval(IntervalTimer::Virtual),
                interval(IntervalTimer::Profiling),
            ],
            armed: SpinLock::new([None, None, None]),
            process,
            cpu_limit: SpinLock::new(None),
            posix: IrqSpinLock::new(posix::Table::new(posix::MAX_TIMERS)),
        }
    }

    /// The process has ended.
    pub(crate) fn cancel_all(&self) {
        let timers = core::mem::take(&mut *self.armed.lock());
        let limit = self.cpu_limit.lock().take();
        for timer in timers.iter().flatten().chain(limit.iter()) {
            timer.cancel();
        }
        posix::delete_all(self);
    }

    /// The scheduler's timer of slot `which`, made at its first use.
    fn timer(&self, which: IntervalTimer) -> Result<Arc<Timer>> {
        if let Some(timer) = &self.armed.lock()[which as usize] {
            return Ok(timer.clone());
        }
        let timer = Arc::new(Timer::new(self.intervals[which as usize].clone())?);
        let mut armed = self.armed.lock();
        Ok(armed[which as usize].get_or_insert(timer).clone())
    }

    fn value(&self, process: &Process, which: IntervalTimer) -> TimerValue {
        let interval = &self.intervals[which as usize];
        let (reading, _) = interval.clock(process);
        let progress = *interval.progress.lock();
        TimerValue {
            remaining_ns: progress.target_ns.map_or(0, |target| target.saturating_sub(reading).max(1)),
            interval_ns: progress.interval_ns,
        }
    }

    /// Starts watching RLIMIT_CPU when it is finite.
    pub(crate) fn watch_cpu_limit(&self, soft_seconds: u64) -> Result<()> {
        if soft_seconds == u64::MAX {
            return Ok(());
        }
        let known = self.cpu_limit.lock().clone();
        let timer = match known {
            Some(timer) => timer,
            None => Arc::new(Timer::new(Arc::new(CpuLimit { process: self.process.clone() }))?),
        };
        timer.arm(now_ns() + SHORTEST_PERIOD_NS);
        *self.cpu_limit.lock() = Some(timer);
        Ok(())
    }
}

/// getitimer(2).
pub fn get_interval(task: &Task, which: IntervalTimer) -> TimerValue {
    let process = task.process();
    process.timers.value(process, which)
}

/// setitimer(2); gives the old value. A remaining time of 0 disarms.
///
/// # Errors
/// ENOMEM.
pub fn set_interval(task: &Task, which: IntervalTimer, new: TimerValue) -> Result<TimerValue> {
    let process = task.process();
    let old = process.timers.value(process, which);
    let interval = &process.timers.intervals[which as usize];
    if new.remaining_ns == 0 {
        *interval.progress.lock() = Progress::default();
        let timer = process.timers.armed.lock()[which as usize].clone();
        if let Some(timer) = timer {
            timer.cancel();
        }
        return Ok(old);
    }
    let timer = process.timers.timer(which)?;
    timer.cancel();
    let (reading, speed) = interval.clock(process);
    *interval.progress.lock() =
        Progress { target_ns: Some(reading.saturating_add(new.remaining_ns)), interval_ns: new.interval_ns };
    timer.arm(now_ns().saturating_add(new.remaining_ns / speed.max(1)));
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_periods_are_skipped() {
        assert_eq!(next_target(1_000_000, 0, 2_000_000), None);
        assert_eq!(next_target(1_000_000, 1_000_000, 1_000_000), Some(2_000_000));
        assert_eq!(next_target(1_000_000, 1_000_000, 3_500_000), Some(4_000_000));
        assert_eq!(next_target(1_000_000, 1, 1_000_000), Some(1_000_000 + SHORTEST_PERIOD_NS));
    }
}
