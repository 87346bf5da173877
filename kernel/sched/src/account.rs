//! Where CPU time goes: per thread in user mode and in the kernel, per CPU, and the load averages.
//!
//! Exact, not sampled: there is no tick to sample with. Each thread has a stamp of when it was last charged;
//! `enter_user`, `leave_user` and the context switch charge the time since then to what the thread was doing.
//! Only the CPU that runs a thread writes its times, with plain stores; readers elsewhere may see a value that is
//! some nanoseconds old, never a torn one.
//!
//! Neighbours: [`crate::cpu`] switches, `task` calls [`enter_user`] and [`leave_user`]. Locks: the load averages
//! have a leaf lock of their own.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use machine::cpu::CpuId;
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
    user_ns: AtomicU64,
    system_ns: AtomicU64,
    stamp_ns: AtomicU64,
    in_user: AtomicBool,
    running: AtomicBool,
}

impl Times {
    pub(crate) const fn new() -> Self {
        Self {
            user_ns: AtomicU64::new(0),
            system_ns: AtomicU64::new(0),
            stamp_ns: AtomicU64::new(0),
            in_user: AtomicBool::new(false),
            running: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the last stamp; sets the stamp.
    #[inline]
    fn lap(&self, now_ns: u64) -> u64 {
        let lap_ns = now_ns.saturating_sub(self.stamp_ns.load(Ordering::Relaxed));
        self.stamp_ns.store(now_ns, Ordering::Relaxed);
        lap_ns
    }

    /// The thread is switched to.
    pub(crate) fn begin(&self, now_ns: u64) {
        self.stamp_ns.store(now_ns, Ordering::Relaxed);
        self.running.store(true, Ordering::Relaxed);
    }

    /// The thread is switched away from (in the kernel, as always).
    pub(crate) fn end(&self, now_ns: u64) {
        add(&self.system_ns, self.lap(now_ns));
        self.running.store(false, Ordering::Relaxed);
    }

    /// Both totals so far, without what is not charged yet.
    pub(crate) fn charged(&self) -> ThreadTimes {
        ThreadTimes {
            user_ns: self.user_ns.load(Ordering::Relaxed),
            system_ns: self.system_ns.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn read(&self, now_ns: u64) -> ThreadTimes {
        let mut times = self.charged();
        if self.running.load(Ordering::Relaxed) {
            let since_ns = now_ns.saturating_sub(self.stamp_ns.load(Ordering::Relaxed));
            let running =
                if self.in_user.load(Ordering::Relaxed) { &mut times.user_ns } else { &mut times.system_ns };
            *running += since_ns;
        }
        times
    }
}

/// The current thread is about to enter user mode.
#[inline]
pub fn enter_user() {
    let thread = current();
    let now_ns = time::now_ns();
    add(&thread.times.system_ns, thread.times.lap(now_ns));
    thread.times.in_user.store(true, Ordering::Relaxed);
}

/// The current thread came back from user mode.
#[inline]
pub fn leave_user() {
    let thread = current();
    let now_ns = time::now_ns();
    add(&thread.times.user_ns, thread.times.lap(now_ns));
    thread.times.in_user.store(false, Ordering::Relaxed);
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
    /// What the running thread had used when it was switched to.
    at_switch_user_ns: AtomicU64,
    at_switch_system_ns: AtomicU64,
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
            at_switch_user_ns: AtomicU64::new(0),
            at_switch_system_ns: AtomicU64::new(0),
            io_waiters: AtomicU64::new(0),
            switches: AtomicU64::new(0),
        }
    }

    /// As after boot.
    pub(crate) fn reset(&self) {
        let counters = [&self.user_ns, &self.nice_ns, &self.system_ns, &self.idle_ns, &self.iowait_ns];
        let marks = [&self.idle_since_ns, &self.at_switch_user_ns, &self.at_switch_system_ns];
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

    /// A thread with these totals begins.
    pub(crate) fn begin_thread(&self, totals: ThreadTimes) {
        self.at_switch_user_ns.store(totals.user_ns, Ordering::Relaxed);
        self.at_switch_system_ns.store(totals.system_ns, Ordering::Relaxed);
    }

    /// The thread ends with these totals.
    pub(crate) fn end_thread(&self, totals: ThreadTimes, parameters: Parameters) {
        let user_ns = totals.user_ns.saturating_sub(self.at_switch_user_ns.load(Ordering::Relaxed));
        let system_ns = totals.system_ns.saturating_sub(self.at_switch_system_ns.load(Ordering::Relaxed));
        let niced = parameters.class == Class::Idle || (!parameters.is_realtime() && parameters.nice > 0);
        add(if niced { &self.nice_ns } else { &self.user_ns }, user_ns);
        add(&self.system_ns, system_ns);
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

/// Where the time of a CPU went. What the thread that runs there now has used since it was switched to is included.
pub fn cpu_times(cpu: CpuId) -> CpuTimes {
    let now_ns = time::now_ns();
    let data = cpu::data(cpu);
    let mut times = data.times.read(now_ns);
    if let Some((totals, parameters)) = cpu::running_times(cpu, now_ns) {
        let scratch = CpuClock::new();
        scratch.begin_thread(ThreadTimes {
            user_ns: data.times.at_switch_user_ns.load(Ordering::Relaxed),
            system_ns: data.times.at_switch_system_ns.load(Ordering::Relaxed),
        });
        scratch.end_thread(totals, parameters);
        let more = scratch.read(now_ns);
        times.user_ns += more.user_ns;
        times.nice_ns += more.nice_ns;
        times.system_ns += more.system_ns;
    }
    times
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
    fn a_minute_of_load_gives_two_thirds() {
        let average = (0..12).fold(0, |average, _| decayed(average, DECAY[0], FIXED_ONE));
        assert!((60..68).contains(&(average * 100 / FIXED_ONE)), "{average}");
    }
}
