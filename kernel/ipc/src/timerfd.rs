//! timerfd_create(2): timers that one reads and waits for as files.
//!
//! Key type: [`TimerFd`]. A high-resolution timer counts expirations; a read takes the count. Timers on the wall clock
//! are armed for the monotonic time that their moment means now, and armed anew whenever the wall clock is set
//! ([`clock_was_set`]); those that asked for it (`TFD_TIMER_CANCEL_ON_SET`) are cancelled by that.
//!
//! Locks: `REALTIME` (the list of those on the wall clock), a timer's `state`, the scheduler's timer locks.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use machine::sync::{IrqSpinLock, Once, SpinLock, WaitKind, WaitQueue};
use machine::time;
use mm::io::IoWriter;
use sched::timer::{Timer, TimerAction, TimerCallback};
use vfs::{File, FileOperations, PollTable, Positioning};

/// `TFD_IOC_SET_TICKS`, `_IOW('T', 0, u64)`.
const TFD_IOC_SET_TICKS: u32 = 0x4008_5400;

/// Which clock a timer follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`, `CLOCK_BOOTTIME` (the machine does not suspend) and their alarm kin.
    Monotonic {
        /// The number it was made with, for `/proc`.
        number: i32,
    },
    /// `CLOCK_REALTIME` and `CLOCK_REALTIME_ALARM`.
    Realtime {
        /// The number it was made with, for `/proc`.
        number: i32,
    },
}

impl Clock {
    /// The clock with this number. `EINVAL`.
    pub fn from_linux(number: i32) -> Result<Self> {
        match number {
            0 | 8 => Ok(Self::Realtime { number }),
            1 | 7 | 9 => Ok(Self::Monotonic { number }),
            _ => Err(Errno::EINVAL),
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Monotonic { number } | Self::Realtime { number } => number,
        }
    }

    fn now_ns(self) -> u64 {
        match self {
            Self::Monotonic { .. } => time::now_ns(),
            Self::Realtime { .. } => sched::clock::realtime_ns(),
        }
    }

    /// The time of [`time::now_ns`] that a time of this clock means now.
    fn to_monotonic_ns(self, time_ns: u64) -> u64 {
        match self {
            Self::Monotonic { .. } => time_ns,
            Self::Realtime { .. } => sched::clock::realtime_to_monotonic_ns(time_ns),
        }
    }
}

/// How the first expiration is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// From now.
    Relative,
    /// A time of the clock (`TFD_TIMER_ABSTIME`).
    Absolute,
    /// The same, cancelled when the clock is set (`TFD_TIMER_CANCEL_ON_SET`).
    AbsoluteCancelOnSet,
}

/// `struct itimerspec` in nanoseconds; all zero is disarmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// The first expiration, or the time left until the next; 0: disarmed.
    pub value_ns: u64,
    /// Between expirations; 0: only one.
    pub interval_ns: u64,
}

struct State {
    /// Expirations that were not read.
    ticks: u64,
    interval_ns: u64,
    /// The next expiration on the timer's clock; `None`: disarmed.
    next_ns: Option<u64>,
    start: Start,
    cancelled: bool,
}

struct Shared {
    clock: Clock,
    state: IrqSpinLock<State>,
    queue: Arc<WaitQueue>,
    timer: Once<Timer>,
}

impl Shared {
    /// Counts the expirations up to now; the next time to be called, of [`time::now_ns`].
    fn expire_until_now(&self, state: &mut State) -> Option<u64> {
        let next_ns = state.next_ns?;
        let now_ns = self.clock.now_ns();
        if now_ns < next_ns {
            return Some(self.clock.to_monotonic_ns(next_ns));
        }
        if state.interval_ns == 0 {
            state.ticks = state.ticks.saturating_add(1);
            state.next_ns = None;
            return None;
        }
        let missed = (now_ns - next_ns) / state.interval_ns + 1;
        state.ticks = state.ticks.saturating_add(missed);
        let next_ns = next_ns.saturating_add(missed.saturating_mul(state.interval_ns));
        state.next_ns = Some(next_ns);
        Some(self.clock.to_monotonic_ns(next_ns))
    }

    fn wake(&self) {
        self.queue.wake_with(usize::MAX, PollEvents::READABLE.bits());
    }

    /// The wall clock was set.
    fn clock_was_set(&self) {
        let mut state = self.state.lock();
        let cancelled = state.start == Start::AbsoluteCancelOnSet && state.next_ns.is_some();
        state.cancelled |= cancelled;
        let next_ns = self.expire_until_now(&mut state);
        let has_ticks = state.ticks > 0;
        drop(state);
        if let (Some(timer), Some(next_ns)) = (self.timer.get(), next_ns) {
            timer.arm(next_ns);
        }
        if cancelled || has_ticks {
            self.wake();
        }
    }
}

/// The callback owns nothing, so that closing the file ends the timer.
struct Expiry(Weak<Shared>);

impl TimerCallback for Expiry {
    fn expire(&self, _now_ns: u64) -> TimerAction {
        let Some(shared) = self.0.upgrade() else { return TimerAction::Done };
        let mut state = shared.state.lock();
        let before = state.ticks;
        let next_ns = shared.expire_until_now(&mut state);
        let ticked = state.ticks != before;
        drop(state);
        if ticked {
            shared.wake();
        }
        next_ns.map_or(TimerAction::Done, TimerAction::RearmAt)
    }
}

static REALTIME: SpinLock<Vec<Weak<Shared>>> = SpinLock::new(Vec::new());

/// To be called when the wall clock was set; in thread context.
pub fn clock_was_set() {
    let mut timers = Vec::new();
    {
        let mut list = REALTIME.lock();
        list.retain(|timer| timer.strong_count() > 0);
        timers.extend(list.iter().filter_map(Weak::upgrade));
    }
    for timer in timers {
        timer.clock_was_set();
    }
}

/// The operations of a timerfd.
pub struct TimerFd {
    shared: Arc<Shared>,
}

impl TimerFd {
    /// A disarmed timer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(clock: Clock) -> Result<Arc<Self>> {
        let state =
            State { ticks: 0, interval_ns: 0, next_ns: None, start: Start::Relative, cancelled: false };
        let shared = Arc::new(Shared {
            clock,
            state: IrqSpinLock::new(state),
            queue: Arc::new(WaitQueue::new()),
            timer: Once::new(),
        });
        let timer = Timer::new(Arc::new(Expiry(Arc::downgrade(&shared))))?;
        let _ = shared.timer.set(timer);
        if matches!(clock, Clock::Realtime { .. }) {
            let mut list = REALTIME.lock();
            if list.len() == list.capacity() {
                list.retain(|timer| timer.strong_count() > 0);
            }
            list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            list.push(Arc::downgrade(&shared));
        }
        Ok(Arc::new(Self { shared }))
    }

    /// timerfd_settime(2); gives the setting before. Forgets expirations that were not read.
    ///
    /// # Errors
    /// `ECANCELED`: the clock was set, which [`Start::AbsoluteCancelOnSet`] asked to be told; the new setting holds.
    pub fn set(&self, setting: Setting, start: Start) -> Result<Setting> {
        let shared = &self.shared;
        if let Some(timer) = shared.timer.get() {
            timer.cancel();
        }
        let mut state = shared.state.lock();
        let old = Self::setting_of(shared, &mut state);
        let cancelled = core::mem::take(&mut state.cancelled);
        let first_ns = match start {
            Start::Relative => shared.clock.now_ns().saturating_add(setting.value_ns),
            Start::Absolute | Start::AbsoluteCancelOnSet => setting.value_ns,
        };
        state.next_ns = (setting.value_ns != 0).then_some(first_ns);
        state.ticks = 0;
        state.interval_ns = setting.interval_ns;
        state.start = start;
        // A relative timer on the wall clock is not moved when that is set: it counts on the monotonic clock there.
        let arm_ns = state.next_ns.map(|next_ns| shared.clock.to_monotonic_ns(next_ns));
        drop(state);
        if let (Some(timer), Some(arm_ns)) = (shared.timer.get(), arm_ns) {
            timer.arm(arm_ns);
        }
        if cancelled && start == Start::AbsoluteCancelOnSet { Err(Errno::ECANCELED) } else { Ok(old) }
    }

    /// The number of the clock it was made with.
    pub fn clock_number(&self) -> u32 {
        self.shared.clock.number() as u32
    }

    /// timerfd_gettime(2).
    pub fn setting(&self) -> Setting {
        let mut state = self.shared.state.lock();
        Self::setting_of(&self.shared, &mut state)
    }

    fn setting_of(shared: &Shared, state: &mut State) -> Setting {
        shared.expire_until_now(state);
        let now_ns = shared.clock.now_ns();
        let value_ns = state.next_ns.map_or(0, |next_ns| next_ns.saturating_sub(now_ns).max(1));
        Setting { value_ns, interval_ns: state.interval_ns }
    }

    /// The expirations, if there are any; or that the clock was set.
    fn take(&self) -> Option<Result<u64>> {
        let mut state = self.shared.state.lock();
        if core::mem::take(&mut state.cancelled) {
            return Some(Err(Errno::ECANCELED));
        }
        self.shared.expire_until_now(&mut state);
        let ticks = core::mem::take(&mut state.ticks);
        (ticks > 0).then_some(Ok(ticks))
    }
}

impl FileOperations for TimerFd {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let taken = match self.take() {
            Some(taken) => taken,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self
                .shared
                .queue
                .wait_until(WaitKind::Interruptible, None, || self.take())
                .map_err(|_| Errno::ERESTARTSYS)?,
        };
        to.write_bytes(&taken?.to_ne_bytes())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if command != TFD_IOC_SET_TICKS {
            return Err(Errno::ENOTTY);
        }
        let ticks: u64 = machine::user::read_value(argument).map_err(|_| Errno::EFAULT)?;
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.shared.state.lock();
        if state.cancelled {
            return Err(Errno::ECANCELED);
        }
        state.ticks = ticks;
        drop(state);
        self.shared.wake();
        Ok(0)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.shared.queue);
        let state = self.shared.state.lock();
        if state.ticks > 0 || state.cancelled { PollEvents::IN } else { PollEvents::empty() }
    }

    fn release(&self, _file: &File) {
        if let Some(timer) = self.shared.timer.get() {
            timer.cancel();
        }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let setting = self.setting();
        let (ticks, start) = {
            let state = self.shared.state.lock();
            (state.ticks, state.start)
        };
        let flags = match start {
            Start::Relative => 0,
            Start::Absolute => 1,
            Start::AbsoluteCancelOnSet => 3,
        };
        let split = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000);
        writeln!(out, "clockid: {}\nticks: {ticks}\nsettime flags: 0{flags:o}", self.shared.clock.number())?;
        writeln!(
            out,
            "it_value: {:?}\nit_interval: {:?}",
            split(setting.value_ns),
            split(setting.interval_ns)
        )
    }
}
