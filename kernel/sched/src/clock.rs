//! The wall clock: the monotonic clock plus an offset that clock_settime(2) and adjtimex(2) move.
//!
//! One atomic holds the offset, so reading costs a load and an addition; there is nothing to lock. Who sleeps until a wall
//! clock time subscribes with [`on_set`] and is told when the clock was set (timerfd's `TFD_TIMER_CANCEL_ON_SET`,
//! absolute `CLOCK_REALTIME` timers).
//!
//! Neighbours: `machine::time` (the monotonic clock, the RTC at boot); file times, timers and futexes read it.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use machine::sync::SpinLock;

/// Wall clock minus monotonic clock, in nanoseconds; [`UNSET`] until it is first needed.
static OFFSET_NS: AtomicI64 = AtomicI64::new(UNSET);
const UNSET: i64 = i64::MIN;

/// How often the clock was set.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The most subscribers: they are parts of the kernel, not programs.
const SUBSCRIBERS: usize = 4;
type Subscribers = [Option<fn()>; SUBSCRIBERS];
static ON_SET: SpinLock<Subscribers> = SpinLock::new([None; SUBSCRIBERS]);

/// `CLOCK_REALTIME` in nanoseconds since 1970 UTC.
pub fn realtime_ns() -> u64 {
    machine::time::now_ns().saturating_add_signed(realtime_offset_ns())
}

/// What to add to the monotonic clock to get the wall clock, in nanoseconds.
pub fn realtime_offset_ns() -> i64 {
    match OFFSET_NS.load(Ordering::Relaxed) {
        UNSET => {
            let boot = i64::try_from(machine::time::boot_realtime_ns()).unwrap_or(i64::MAX);
            // Another CPU may set the clock meanwhile: its value wins.
            match OFFSET_NS.compare_exchange(UNSET, boot, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => boot,
                Err(set) => set,
            }
        }
        offset => offset,
    }
}

/// The monotonic deadline that stands for wall clock time `realtime_ns` now.
pub fn realtime_to_monotonic_ns(realtime_ns: u64) -> u64 {
    realtime_ns.saturating_add_signed(realtime_offset_ns().saturating_neg())
}

/// Sets the wall clock and tells the subscribers. The caller has checked `CAP_SYS_TIME`.
pub fn set_realtime_ns(realtime_ns: u64) {
    let now = machine::time::now_ns();
    let offset = i128::from(realtime_ns) - i128::from(now);
    OFFSET_NS.store(i64::try_from(offset).unwrap_or(i64::MAX), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Release);
    let subscribers = *ON_SET.lock();
    subscribers.into_iter().flatten().for_each(|notify| notify());
}

/// Changes whenever the wall clock was set.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// Has `notify` called, in thread context, after each setting of the clock. Returns `false` when there is no place left.
pub fn on_set(notify: fn()) -> bool {
    let mut subscribers = ON_SET.lock();
    match subscribers.iter_mut().find(|place| place.is_none()) {
        Some(place) => {
            *place = Some(notify);
            true
        }
        None => false,
    }
}
