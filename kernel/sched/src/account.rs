//! Where CPU time goes: per thread in user mode and in the kernel, per CPU, and the load averages.
//!
//! How long a thread has run is exact: it is charged at each switch. How much of that was in user mode is sampled: while a
//! CPU has something to run it looks every 4 ms what it is at, and a thread's time is split as its samples are. Reading the
//! clock at each way in and out of the kernel, to be exact there too, would double the price of a short system call.
//! Only the CPU that runs a thread writes its times, with plain stores; readers elsewhere may see a value that is
//! some nanoseconds old, never a torn one, and never one that is less than what was read before.
//!
//! Neighbours: [`crate::cpu`] switches and ticks, `task` says which threads run programs. Locks: what was reported of a
//! thread and the load averages have a leaf lock each.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use machine::cpu::CpuId;
use machine::hooks::Interrupted;
use machine::sync::IrqSpinLock;
use machine::time;

use crate::cpu;
use crate::policy::{Class, Parameters};
use crate::thread::{ThreadTimes, current};

/// Adds to a counter that only this CPU writes: no locked instruction needed.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// The times of one thread.
pub(crate) struct Times {
    /// Time on a CPU until `stamp_ns`.
    run_ns: AtomicU64,
    stamp_ns: AtomicU64,
    running: AtomicBool,
    /// Ticks that found it in user mode.
    user_ticks: AtomicU64,
    /// Ticks that found it in the kernel.
    system_ticks: AtomicU64,
    runs_program: AtomicBool,
    /// What was last said of it: neither part may fall.
    reported: IrqSpinLock<ThreadTimes>,
}

impl Times {
    pub(crate) const fn new() -> Self {
        Self {
            run_ns: AtomicU64::new(0),
            stamp_ns: AtomicU64::new(0),
            running: AtomicBool::new(false),
            user_ticks: AtomicU64::new(0),
            system_ticks: AtomicU64::new(0),
            runs_program: AtomicBool::new(false),
            reported: IrqSpinLock::new(ThreadTimes { user_ns: 0, system_ns: 0 }),
        }
    }

    /// Charges the time since the last stamp and gives it.
    fn charge(&self, now_ns: u64) -> u64 {
        let lap_ns = now_ns.saturating_sub(self.stamp_ns.load(Ordering::Relaxed));
        // In this order: who reads in between misses the lap rather than counting it twice.
        self.stamp_ns.store(now_ns, Ordering::Relaxed);
        self.run_ns.store(self.run_ns.load(Ordering::Relaxed) + lap_ns, Ordering::Release);
        lap_ns
    }

    /// The thread is switched to.
    pub(crate) fn begin(&self, now_ns: u64) {
        self.stamp_ns.store(now_ns, Ordering::Relaxed);
        self.running.store(true, Ordering::Release);
    }

    /// The thread is switched away from. Gives the nanoseconds since the last charge.
    pub(crate) fn end(&self, now_ns: u64) -> u64 {
        let lap_ns = self.charge(now_ns);
        self.running.store(false, Ordering::Relaxed);
        lap_ns
    }

    pub(crate) fn read(&self, now_ns: u64) -> ThreadTimes {
        let mut run_ns = self.run_ns.load(Ordering::Acquire);
        if self.running.load(Ordering::Acquire) {
            run_ns += now_ns.saturating_sub(self.stamp_ns.load(Ordering::Relaxed));
        }
        let split = if self.runs_program.load(Ordering::Relaxed) {
            let ticks = (&self.user_ticks, &self.system_ticks);
            split(run_ns, ticks.0.load(Ordering::Relaxed), ticks.1.load(Ordering::Relaxed))
        } else {
            ThreadTimes { user_ns: 0, system_ns: run_ns }
        };
        let mut reported = self.reported.lock();
        *reported = advance(*reported, split);
        *reported
    }
}

/// A time split as the ticks were. Without any in the kernel (or none at all) it was all in user mode, as Linux has it.
fn split(run_ns: u64, user_ticks: u64, system_ticks: u64) -> ThreadTimes {
    let ticks = u128::from(user_ticks) + u128::from(system_ticks);
    // At most `run_ns`.
    let system_ns = (u128::from(run_ns) * u128::from(system_ticks)).checked_div(ticks).unwrap_or(0) as u64;
    ThreadTimes { user_ns: run_ns - system_ns, system_ns }
}

/// The times to report after `before`: the newer total, split as nearly as `split` says as can be without either part
/// falling.
fn advance(before: ThreadTimes, split: ThreadTimes) -> ThreadTimes {
    let run_ns = split.run_ns().max(before.run_ns());
    let system_ns = split.system_ns.clamp(before.system_ns, run_ns - before.user_ns);
    ThreadTimes { user_ns: run_ns - system_ns, system_ns }
}

/// The current thread will run a program: its time is split between user mode and the kernel from now on.
pub fn note_program() {
    current().times.runs_program.store(true, Ordering::Relaxed);
}

/// Where a CPU's time went since boot, as the `cpuN` lines of `/proc/stat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// User mode at nice 0 or better.
    pub user_ns: u64,
    /// User mode at nice 1 to 19.
    pub nice_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Nothing to do.
    pub idle_ns: u64,
    /// Nothing to do while a thread of this CPU waited for a device.
    pub iowait_ns: u64,
}

/// The times of one CPU.
pub(crate) struct CpuClock {
    user_ns: AtomicU64,
    nice_ns: AtomicU64,
    system_ns: AtomicU64,
    idle_ns: AtomicU64,
    iowait_ns: AtomicU64,
    /// When the idle thread was switched to; 0 while another runs.
    idle_since_ns: AtomicU64,
    /// Time of threads that no tick has assigned yet.
    unsampled_ns: AtomicU64,
    /// Threads that block on a device and ran here last.
    pub(crate) io_waiters: AtomicU64,
    pub(crate) switches: AtomicU64,
}

impl CpuClock {
    pub(crate) const fn new() -> Self {
        Self {
            user_ns: AtomicU64::new(0),
            nice_ns: AtomicU64::new(0),
            system_ns: AtomicU64::new(0),
            idle_ns: AtomicU64::new(0),
            iowait_ns: AtomicU64::new(0),
            idle_since_ns: AtomicU64::new(0),
            unsampled_ns: AtomicU64::new(0),
            io_waiters: AtomicU64::new(0),
            switches: AtomicU64::new(0),
        }
    }

    /// As after boot.
    pub(crate) fn reset(&self) {
        let counters = [&self.user_ns, &self.nice_ns, &self.system_ns, &self.idle_ns, &self.iowait_ns];
        let marks = [&self.idle_since_ns, &self.unsampled_ns];
        for counter in counters.into_iter().chain(marks).chain([&self.io_waiters, &self.switches]) {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// The idle thread begins.
    pub(crate) fn begin_idle(&self, now_ns: u64) {
        self.idle_since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// The idle thread ends.
    pub(crate) fn end_idle(&self, now_ns: u64) {
        let since_ns = self.idle_since_ns.swap(0, Ordering::Relaxed);
        let counter =
            if self.io_waiters.load(Ordering::Relaxed) > 0 { &self.iowait_ns } else { &self.idle_ns };
        if since_ns != 0 {
            add(counter, now_ns.saturating_sub(since_ns));
        }
    }

    /// Whether the idle thread runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle_since_ns.load(Ordering::Relaxed) != 0
    }

    /// A thread ran for so long.
    pub(crate) fn add_busy(&self, ran_ns: u64) {
        add(&self.unsampled_ns, ran_ns);
    }

    /// The running thread was found at something: all time of threads since the last tick is taken to have gone there.
    pub(crate) fn tick(&self, thread: &Times, parameters: Parameters, interrupted: Interrupted, now_ns: u64) {
        let niced = parameters.class == Class::Idle || (!parameters.is_realtime() && parameters.nice > 0);
        let (ticks, counter) = match interrupted {
            Interrupted::User if niced => (&thread.user_ticks, &self.nice_ns),
            Interrupted::User => (&thread.user_ticks, &self.user_ns),
            Interrupted::Kernel => (&thread.system_ticks, &self.system_ns),
        };
        add(ticks, 1);
        let lap_ns = thread.charge(now_ns);
        add(counter, self.unsampled_ns.swap(0, Ordering::Relaxed) + lap_ns);
    }

    fn read(&self, now_ns: u64) -> CpuTimes {
        let mut times = CpuTimes {
            user_ns: self.user_ns.load(Ordering::Relaxed),
            nice_ns: self.nice_ns.load(Ordering::Relaxed),
            system_ns: self.system_ns.load(Ordering::Relaxed),
            idle_ns: self.idle_ns.load(Ordering::Relaxed),
            iowait_ns: self.iowait_ns.load(Ordering::Relaxed),
        };
        let since_ns = self.idle_since_ns.load(Ordering::Relaxed);
        if since_ns != 0 {
            let waiting = self.io_waiters.load(Ordering::Relaxed) > 0;
            let counter = if waiting { &mut times.iowait_ns } else { &mut times.idle_ns };
            *counter += now_ns.saturating_sub(since_ns);
        }
        times
    }
}

/// Where the time of a CPU went, up to its last tick (4 ms ago at most, while it is busy).
pub fn cpu_times(cpu: CpuId) -> CpuTimes {
    cpu::data(cpu).times.read(time::now_ns())
}

/// How many threads do what, for `/proc/stat` and `/proc/loadavg`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Runnable or running.
    pub running: u64,
    /// Waiting for a device.
    pub blocked: u64,
    /// All that were started and have not exited.
    pub threads: u64,
    /// Context switches since boot.
    pub context_switches: u64,
    /// Threads started since boot.
    pub forks: u64,
}

/// The counts now.
pub fn counts() -> Counts {
    let mut counts = Counts { threads: cpu::threads(), forks: cpu::forks(), ..Counts::default() };
    for cpu in machine::cpu::online() {
        let data = cpu::data(cpu);
        counts.running += u64::from(data.runnable.load(Ordering::Relaxed));
        counts.blocked += data.times.io_waiters.load(Ordering::Relaxed);
        counts.context_switches += data.times.switches.load(Ordering::Relaxed);
    }
    counts
}

/// How often the load averages are brought up to date.
pub(crate) const LOAD_PERIOD_NS: u64 = 5_000_000_000;
/// 1.0 in the fixed point of the load averages (`FSHIFT` is 11).
const FIXED_ONE: u64 = 1 << 11;
/// exp(-5 s / 1, 5 and 15 min) in that fixed point.
const DECAY: [u64; 3] = [1884, 2014, 2037];

static LOAD: IrqSpinLock<[u64; 3]> = IrqSpinLock::new([0; 3]);

/// The averages over 1, 5 and 15 minutes of the threads that run or sleep uninterruptibly; fixed point, 11 bits.
pub fn load_averages() -> [u64; 3] {
    *LOAD.lock()
}

/// Takes one sample; called every [`LOAD_PERIOD_NS`].
pub(crate) fn sample_load() {
    let active = (counts().running + cpu::uninterruptible()) * FIXED_ONE;
    let mut load = LOAD.lock();
    for (average, decay) in load.iter_mut().zip(DECAY) {
        *average = decayed(*average, decay, active);
    }
}

/// One step of the exponential average; rounds up while rising, so that it can reach the full value.
fn decayed(average: u64, decay: u64, active: u64) -> u64 {
    let sum = average * decay + active * (FIXED_ONE - decay);
    let sum = if active >= average { sum + FIXED_ONE - 1 } else { sum };
    sum / FIXED_ONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_reaches_the_load_and_forgets_it() {
        let mut average = 0;
        for _ in 0..500 {
            average = decayed(average, DECAY[0], 3 * FIXED_ONE);
        }
        assert_eq!(average, 3 * FIXED_ONE);
        for _ in 0..500 {
            average = decayed(average, DECAY[0], 0);
        }
        assert_eq!(average, 0);
    }

    #[test]
    fn no_time_falls_or_is_lost_when_ticks_come() {
        let mut seed = 1_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut run_ns, mut ticks, mut before) = (0, [0, 0], ThreadTimes::default());
        for _ in 0..100_000 {
            run_ns += next(5_000_000);
            ticks[next(2) as usize] += next(2);
            let now = advance(before, split(run_ns, ticks[0], ticks[1]));
            assert_eq!(now.run_ns(), run_ns);
            assert!(now.user_ns >= before.user_ns && now.system_ns >= before.system_ns);
            before = now;
        }
        // In the long run the ticks decide.
        let share = before.user_ns as f64 / run_ns as f64;
        let ticked = ticks[0] as f64 / (ticks[0] + ticks[1]) as f64;
        assert!((share - ticked).abs() < 0.01, "{share} {ticked}");
    }

    #[test]
    fn without_ticks_a_program_was_in_user_mode() {
        assert_eq!(split(700, 0, 0), ThreadTimes { user_ns: 700, system_ns: 0 });
        assert_eq!(split(700, 0, 3), ThreadTimes { user_ns: 0, system_ns: 700 });
        assert_eq!(split(u64::MAX, 1, u64::MAX).user_ns, 1);
    }

    #[test]
    fn a_minute_of_load_gives_two_thirds() {
        let average = (0..12).fold(0, |average, _| decayed(average, DECAY[0], FIXED_ONE));
        assert!((60..68).contains(&(average * 100 / FIXED_ONE)), "{average}");
    }
}
