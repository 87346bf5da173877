//! Pressure stall information: how much time is lost because threads wait for a CPU, for devices, or for memory
//! (`Documentation/accounting/psi` describes what programs see).
//!
//! Each CPU notes, whenever its run queue changes, which of the [states](State) hold: whether somebody waits (*some*), and whether nobody who could
//! work does not wait (*full*). Nearly always none has changed, and a comparison is all it costs; else the time since the last change is added to those
//! that held. From these times the machine's are put together now and then and whenever somebody asks: what a CPU lost counts by how much
//! of the time it had anything to do.
//! Averages are kept with the load averages' timer, so that an idle machine wakes for nothing more, and triggers have a timer as long as there are any.
//!
//! Key types: [`Resource`], [`Line`], [`Trigger`]; [`MemoryStall`] is held by whoever waits for memory. Neighbours: [`crate::cpu`], which notes.
//!
//! Locks: a CPU's times are written under its queue's lock; what is put together has a spin lock, and triggers have another inside it; leaves.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::errno::{Errno, Result};
use machine::cpu::CpuId;
use machine::sync::{IrqSpinLock, SpinLock, WaitQueue};
use machine::{cpu as machine_cpu, time};

use crate::account::add;
use crate::timer::{Timer, TimerAction, TimerCallback};
use crate::{cpu, thread};

/// In which steps averages go.
const PERIOD_NS: u64 = 2_000_000_000;
/// The longest window of a trigger.
const LONGEST_WINDOW_NS: u64 = 10_000_000_000;
/// How often a trigger looks, in each of its windows, but not more often than this.
const LOOKS: u64 = 10;
const SHORTEST_PAUSE_NS: u64 = 10_000_000;
/// 1.0 in the fixed point of averages, which are percents.
const FIXED_SHIFT: u32 = 11;
/// exp(-2 s / 10, 60 and 300 s) in that fixed point.
const DECAY: [u64; 3] = [1677, 1981, 2034];

/// What threads wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// A CPU.
    Cpu,
    /// A device.
    Io,
    /// Memory.
    Memory,
}

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Some thread, at least.
    Some,
    /// All that are not idle.
    Full,
}

/// What can hold of a CPU, by the number of its time.
#[derive(Clone, Copy)]
enum State {
    CpuSome = 0,
    IoSome = 1,
    IoFull = 2,
    MemorySome = 3,
    MemoryFull = 4,
    NotIdle = 5,
}

pub(crate) const STATES: usize = 6;
/// All but [`State::NotIdle`].
const LOSSES: usize = 5;

/// The number of a loss; `None`: there is no such (all threads of a machine cannot wait for a CPU at once).
fn loss(resource: Resource, severity: Severity) -> Option<usize> {
    let state = match (resource, severity) {
        (Resource::Cpu, Severity::Some) => State::CpuSome,
        (Resource::Cpu, Severity::Full) => return None,
        (Resource::Io, Severity::Some) => State::IoSome,
        (Resource::Io, Severity::Full) => State::IoFull,
        (Resource::Memory, Severity::Some) => State::MemorySome,
        (Resource::Memory, Severity::Full) => State::MemoryFull,
    };
    Some(state as usize)
}

/// What one CPU notes.
pub(crate) struct Noted {
    /// Threads that began to wait for memory here and still do, and how many of them sleep.
    stalled: AtomicU32,
    stalled_asleep: AtomicU32,
    /// The states that hold, a bit for each, since `since_ns`.
    holds: AtomicU32,
    since_ns: AtomicU64,
    times_ns: [AtomicU64; STATES],
}

impl Noted {
    pub(crate) const fn new() -> Noted {
        Noted {
            stalled: AtomicU32::new(0),
            stalled_asleep: AtomicU32::new(0),
            holds: AtomicU32::new(0),
            since_ns: AtomicU64::new(0),
            times_ns: [const { AtomicU64::new(0) }; STATES],
        }
    }

    /// As after boot.
    pub(crate) fn reset(&self) {
        for count in [&self.stalled, &self.stalled_asleep, &self.holds] {
            count.store(0, Ordering::Relaxed);
        }
        self.since_ns.store(0, Ordering::Relaxed);
        self.times_ns.iter().for_each(|time| time.store(0, Ordering::Relaxed));
    }

    /// Something has changed: so many are runnable now, so many wait for devices. The queue is locked.
    #[inline]
    pub(crate) fn note(&self, now_ns: u64, runnable: u64, io_waiters: u64) {
        let stalled = u64::from(self.stalled.load(Ordering::Relaxed));
        let bit = |state: State, holds: bool| u32::from(holds) << state as u32;
        let mut holds = bit(State::CpuSome, runnable > 1)
            | bit(State::IoSome, io_waiters > 0)
            | bit(State::IoFull, io_waiters > 0 && runnable == 0)
            | bit(State::NotIdle, runnable + io_waiters + stalled > 0);
        if stalled > 0 {
            let asleep = u64::from(self.stalled_asleep.load(Ordering::Relaxed));
            let full = runnable <= stalled.saturating_sub(asleep);
            holds |= bit(State::MemorySome, true) | bit(State::MemoryFull, full);
        }
        let before = self.holds.load(Ordering::Relaxed);
        if holds != before {
            self.change(now_ns, before, holds);
        }
    }

    #[inline(never)]
    fn change(&self, now_ns: u64, before: u32, holds: u32) {
        let lap_ns = now_ns.saturating_sub(self.since_ns.load(Ordering::Relaxed));
        for (number, time) in self.times_ns.iter().enumerate() {
            if before >> number & 1 != 0 {
                add(time, lap_ns);
            }
        }
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.holds.store(holds, Ordering::Relaxed);
    }

    /// The times up to now. The queue is locked.
    pub(crate) fn read(&self, now_ns: u64) -> [u64; STATES] {
        let holds = self.holds.load(Ordering::Relaxed);
        let lap_ns = now_ns.saturating_sub(self.since_ns.load(Ordering::Relaxed));
        let mut times = self.times_ns.each_ref().map(|time| time.load(Ordering::Relaxed));
        for (number, time) in times.iter_mut().enumerate() {
            *time += if holds >> number & 1 != 0 { lap_ns } else { 0 };
        }
        times
    }

    /// A thread that waits for memory goes to sleep, or is back. Its CPU notes that with the change of its queue.
    pub(crate) fn count_asleep(&self, begins: bool) {
        if begins {
            self.stalled_asleep.fetch_add(1, Ordering::Relaxed);
        } else {
            self.stalled_asleep.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// While one lives, the calling thread loses time because memory is short: it frees some, waits for some, or reads back what should not have
/// left. Inner ones change nothing.
pub struct MemoryStall {
    cpu: Option<CpuId>,
}

/// See [`MemoryStall`].
pub fn memory_stall() -> MemoryStall {
    let Some(own) = thread::try_current() else { return MemoryStall { cpu: None } };
    if own.in_memory_stall.swap(true, Ordering::Relaxed) {
        return MemoryStall { cpu: None };
    }
    let _irq = machine::irq::disable();
    let id = machine_cpu::current();
    let data = cpu::data(id);
    data.pressure.stalled.fetch_add(1, Ordering::Relaxed);
    data.note_pressure();
    MemoryStall { cpu: Some(id) }
}

impl Drop for MemoryStall {
    fn drop(&mut self) {
        let Some(id) = self.cpu else { return };
        if let Some(own) = thread::try_current() {
            own.in_memory_stall.store(false, Ordering::Relaxed);
        }
        let data = cpu::data(id);
        data.pressure.stalled.fetch_sub(1, Ordering::Relaxed);
        data.note_pressure();
    }
}

/// What was put together of all CPUs.
struct Summary {
    /// What each CPU had noted when it was last asked.
    seen: Vec<[u64; STATES]>,
    totals_ns: [u64; LOSSES],
    /// The totals when averages were last brought up to date, and when that was.
    averaged_ns: [u64; LOSSES],
    averaged_at_ns: u64,
    averages: [[u64; 3]; LOSSES],
}

static SUMMARY: SpinLock<Summary> = SpinLock::new(Summary {
    seen: Vec::new(),
    totals_ns: [0; LOSSES],
    averaged_ns: [0; LOSSES],
    averaged_at_ns: 0,
    averages: [[0; 3]; LOSSES],
});
static TRIGGERS: SpinLock<Vec<Weak<Trigger>>> = SpinLock::new(Vec::new());
static TIMER: SpinLock<Option<Timer>> = SpinLock::new(None);

impl Summary {
    /// Brings totals up to date. A CPU's losses count by its share of the time in which CPUs were not idle.
    fn gather(&mut self) {
        let mut weighted = [0u128; LOSSES];
        let mut not_idle = 0u128;
        for id in machine_cpu::online() {
            let number = id.index();
            if self.seen.len() <= number {
                if self.seen.try_reserve(number + 1 - self.seen.len()).is_err() {
                    return;
                }
                self.seen.resize(number + 1, [0; STATES]);
            }
            let times = cpu::data(id).pressure_times();
            let Some(seen) = self.seen.get_mut(number) else { continue };
            let deltas: [u64; STATES] =
                core::array::from_fn(|state| times[state].saturating_sub(seen[state]));
            *seen = times;
            let weight = u128::from(deltas[State::NotIdle as usize]);
            not_idle += weight;
            for (sum, delta) in weighted.iter_mut().zip(deltas) {
                *sum += u128::from(delta) * weight;
            }
        }
        for (total, sum) in self.totals_ns.iter_mut().zip(weighted) {
            *total += sum.checked_div(not_idle).unwrap_or(0) as u64;
        }
    }

    /// Brings averages up to date if a period is over; several that were missed count as one after another.
    fn average(&mut self, now_ns: u64) {
        let periods = now_ns.saturating_sub(self.averaged_at_ns) / PERIOD_NS;
        if periods == 0 {
            return;
        }
        for loss in 0..LOSSES {
            let lost_ns = self.totals_ns[loss].saturating_sub(self.averaged_ns[loss]);
            let percent = (((lost_ns / periods).min(PERIOD_NS) * 100) << FIXED_SHIFT) / PERIOD_NS;
            for (average, decay) in self.averages[loss].iter_mut().zip(DECAY) {
                // More make no difference.
                (0..periods.min(1000)).for_each(|_| *average = decayed(*average, decay, percent));
            }
            self.averaged_ns[loss] = self.totals_ns[loss];
        }
        self.averaged_at_ns += periods * PERIOD_NS;
    }
}

/// One step of the exponential average; rounds up while rising.
fn decayed(average: u64, decay: u64, percent: u64) -> u64 {
    let one = 1 << FIXED_SHIFT;
    let sum = average * decay + percent * (one - decay);
    if percent >= average { sum.div_ceil(one) } else { sum / one }
}

/// The figures of a line of `/proc/pressure/*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Line {
    /// Averages over 10, 60 and 300 seconds, hundredths of a percent.
    pub averages: [u64; 3],
    /// Microseconds since boot.
    pub total_us: u64,
}

/// The figures now. Thread context.
pub fn line(resource: Resource, severity: Severity) -> Line {
    let Some(loss) = loss(resource, severity) else { return Line::default() };
    let mut summary = SUMMARY.lock();
    summary.gather();
    summary.average(time::now_ns());
    let hundredths = |average: u64| (average * 100) >> FIXED_SHIFT;
    Line { averages: summary.averages[loss].map(hundredths), total_us: summary.totals_ns[loss] / 1000 }
}

/// Who wants to be told when too much is lost within a window.
pub struct Trigger {
    loss: Option<usize>,
    threshold_ns: u64,
    window_ns: u64,
    window: IrqSpinLock<Window>,
    fired: AtomicBool,
    /// Woken when it fires.
    pub queue: Arc<WaitQueue>,
}

struct Window {
    began_ns: u64,
    total_at_begin_ns: u64,
    /// What the window before lost, the older the less.
    previous_ns: u64,
    fired_ns: Option<u64>,
}

impl Trigger {
    /// As `some 150000 1000000` asks for: microseconds lost in a window of microseconds. Thread context.
    ///
    /// Errors: `EINVAL`: it is no such text, the window is longer than ten seconds, or the threshold not within it; or the caller is not
    /// `privileged` and the window no multiple of two seconds; `ENOMEM`.
    pub fn new(resource: Resource, text: &str, privileged: bool) -> Result<Arc<Trigger>> {
        let mut words = text.trim_end_matches(['\0', '\n']).split(' ');
        let severity = match words.next() {
            Some("some") => Severity::Some,
            Some("full") => Severity::Full,
            _ => return Err(Errno::EINVAL),
        };
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok()).ok_or(Errno::EINVAL);
        let (threshold_ns, window_ns) = (u64::from(number()?) * 1000, u64::from(number()?) * 1000);
        let fits = window_ns <= LONGEST_WINDOW_NS && (1..=window_ns).contains(&threshold_ns);
        if !fits || !privileged && !window_ns.is_multiple_of(PERIOD_NS) {
            return Err(Errno::EINVAL);
        }
        let loss = loss(resource, severity);
        let began_ns = time::now_ns();
        let total_at_begin_ns = loss.map_or(0, |loss| {
            let mut summary = SUMMARY.lock();
            summary.gather();
            summary.totals_ns[loss]
        });
        let window = Window { began_ns, total_at_begin_ns, previous_ns: 0, fired_ns: None };
        let trigger = Trigger {
            loss,
            threshold_ns,
            window_ns,
            window: IrqSpinLock::new(window),
            fired: AtomicBool::new(false),
            queue: machine::memory::try_arc(WaitQueue::new())?,
        };
        let trigger = machine::memory::try_arc(trigger)?;
        let mut triggers = TRIGGERS.lock();
        triggers.retain(|known| known.strong_count() > 0);
        triggers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        triggers.push(Arc::downgrade(&trigger));
        drop(triggers);
        SHORTEST_WINDOW_NS.fetch_min(window_ns, Ordering::Relaxed);
        if let Some(timer) = TIMER.lock().as_ref() {
            timer.arm(began_ns + window_ns / LOOKS);
        }
        Ok(trigger)
    }

    /// Whether it has fired since this was last asked.
    pub fn take(&self) -> bool {
        self.fired.swap(false, Ordering::Relaxed)
    }

    /// Looks at a total; fires at most once in a window.
    fn look(&self, totals_ns: &[u64; LOSSES], now_ns: u64) {
        let Some(total_ns) = self.loss.map(|loss| totals_ns[loss]) else { return };
        let mut window = self.window.lock();
        let elapsed_ns = now_ns.saturating_sub(window.began_ns);
        let mut lost_ns = total_ns.saturating_sub(window.total_at_begin_ns);
        if elapsed_ns > self.window_ns {
            *window = Window {
                began_ns: now_ns,
                total_at_begin_ns: total_ns,
                previous_ns: lost_ns,
                fired_ns: window.fired_ns,
            };
        } else {
            let rest_ns = self.window_ns - elapsed_ns;
            let share = u128::from(window.previous_ns) * u128::from(rest_ns) / u128::from(self.window_ns);
            lost_ns += share as u64;
        }
        let rests = window.fired_ns.is_some_and(|fired| now_ns < fired + self.window_ns);
        if lost_ns < self.threshold_ns || rests {
            return;
        }
        window.fired_ns = Some(now_ns);
        drop(window);
        if !self.fired.swap(true, Ordering::Relaxed) {
            self.queue.wake_all();
        }
    }
}

struct Averager;

impl TimerCallback for Averager {
    /// Goes on as long as there are triggers.
    fn expire(&self, now_ns: u64) -> TimerAction {
        sample();
        match SHORTEST_WINDOW_NS.load(Ordering::Relaxed) {
            u64::MAX => TimerAction::Done,
            window_ns => TimerAction::RearmAt(now_ns + (window_ns / LOOKS).max(SHORTEST_PAUSE_NS)),
        }
    }
}

/// Has averages brought up to date, and triggers looked at, soon. Any context.
pub(crate) fn sample() {
    // Without memory it is done the next time.
    let _ = crate::work::queue(look_again);
}

/// The shortest window of all triggers; `u64::MAX`: there are none.
static SHORTEST_WINDOW_NS: AtomicU64 = AtomicU64::new(u64::MAX);

/// What the timer is for; in a worker.
fn look_again() {
    let now_ns = time::now_ns();
    let totals_ns = {
        let mut summary = SUMMARY.lock();
        summary.gather();
        summary.average(now_ns);
        summary.totals_ns
    };
    let mut shortest_ns = u64::MAX;
    let mut number = 0;
    loop {
        let trigger = match TRIGGERS.lock().get(number) {
            None => break,
            Some(trigger) => trigger.upgrade(),
        };
        if let Some(trigger) = trigger {
            shortest_ns = shortest_ns.min(trigger.window_ns);
            trigger.look(&totals_ns, now_ns);
        }
        number += 1;
    }
    SHORTEST_WINDOW_NS.store(shortest_ns, Ordering::Relaxed);
}

/// Begins to keep averages. Once, at boot.
pub(crate) fn start() -> Result<()> {
    let timer = Timer::new(Arc::new(Averager))?;
    {
        // The simulator boots many times in one process.
        let mut summary = SUMMARY.lock();
        summary.seen.clear();
        summary.averaged_at_ns = time::now_ns();
    }
    TRIGGERS.lock().clear();
    SHORTEST_WINDOW_NS.store(u64::MAX, Ordering::Relaxed);
    let old = TIMER.lock().replace(timer);
    drop(old);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_rise_to_what_is_lost_and_fall_again() {
        let mut average = 0;
        for _ in 0..200 {
            average = decayed(average, DECAY[0], 50 << FIXED_SHIFT);
        }
        assert_eq!(average >> FIXED_SHIFT, 50);
        for _ in 0..200 {
            average = decayed(average, DECAY[0], 0);
        }
        assert_eq!(average, 0);
    }

    #[test]
    fn times_go_to_the_states_that_hold() {
        let noted = Noted::new();
        noted.note(0, 0, 0);
        noted.note(100, 2, 0);
        noted.note(150, 1, 1);
        noted.note(170, 0, 1);
        noted.note(200, 0, 0);
        let times = noted.read(1000);
        assert_eq!(times, [50, 50, 30, 0, 0, 100]);
        noted.stalled.store(2, Ordering::Relaxed);
        noted.count_asleep(true);
        noted.note(1000, 1, 0);
        noted.note(1010, 2, 0);
        assert_eq!(noted.read(1015)[3..5], [15, 10]);
    }
}
