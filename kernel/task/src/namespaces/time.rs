//! Clocks that differ by an offset (time_namespaces(7)).
//!
//! Key types: [`TimeNamespace`], [`OffsetClock`]. The offsets can be set until the first task enters; they apply to
//! CLOCK_MONOTONIC and CLOCK_BOOTTIME with their variants. Everything below the system calls uses the machine's clock: only
//! what a program is told, and absolute times that it gives, pass through here. Locks: a leaf spinlock around the offsets.

use abi::errno::{Errno, Result};
use abi::time::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
    NSEC_PER_SEC,
};
use alloc::sync::Arc;
use machine::sync::{Lazy, SpinLock};
use security::{NamespaceHead, NamespaceKind};

/// The largest time in seconds that a 64-bit count of nanoseconds holds (`KTIME_SEC_MAX`).
const SECONDS_MAX: i64 = i64::MAX / NSEC_PER_SEC as i64;

/// A clock that has an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetClock {
    /// CLOCK_MONOTONIC and its raw and coarse variants.
    Monotonic,
    /// CLOCK_BOOTTIME and its alarm clock.
    Boottime,
}

impl OffsetClock {
    /// The offset that a clock follows, if it follows one.
    pub fn of_clock(clock: u32) -> Option<OffsetClock> {
        match clock {
            CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE => Some(OffsetClock::Monotonic),
            CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Some(OffsetClock::Boottime),
            _ => None,
        }
    }

    /// The clock that a line of `/proc/PID/timens_offsets` names.
    pub fn named(name: &str) -> Option<OffsetClock> {
        match name {
            "monotonic" | "1" => Some(OffsetClock::Monotonic),
            "boottime" | "7" => Some(OffsetClock::Boottime),
            _ => None,
        }
    }
}

/// How far ahead of the machine's the clocks are.
#[derive(Clone, Copy, Default)]
struct Offsets {
    monotonic_ns: i64,
    boottime_ns: i64,
    /// Somebody lives by them.
    fixed: bool,
}

/// A set of clocks.
pub struct TimeNamespace {
    head: NamespaceHead,
    offsets: SpinLock<Offsets>,
}

static INITIAL: Lazy<Arc<TimeNamespace>> = Lazy::new(|| {
    Arc::new(TimeNamespace {
        head: NamespaceHead::initial(NamespaceKind::Time),
        offsets: SpinLock::new(Offsets { fixed: true, ..Offsets::default() }),
    })
});

impl TimeNamespace {
    /// The machine's own clocks.
    pub fn initial() -> &'static Arc<TimeNamespace> {
        &INITIAL
    }

    /// Clocks that begin as this one's.
    pub(crate) fn copy(&self, head: NamespaceHead) -> Arc<TimeNamespace> {
        let offsets = Offsets { fixed: false, ..*self.offsets.lock() };
        Arc::new(TimeNamespace { head, offsets: SpinLock::new(offsets) })
    }

    /// Kind, number and owner.
    pub fn head(&self) -> &NamespaceHead {
        &self.head
    }

    /// Whether it is the machine's own.
    pub fn is_initial(&self) -> bool {
        core::ptr::eq(self, Arc::as_ptr(&INITIAL))
    }

    /// How far ahead a clock is, nanoseconds.
    pub fn offset_ns(&self, clock: OffsetClock) -> i64 {
        let offsets = self.offsets.lock();
        match clock {
            OffsetClock::Monotonic => offsets.monotonic_ns,
            OffsetClock::Boottime => offsets.boottime_ns,
        }
    }

    /// What a clock shows when the machine's shows `ns`.
    pub fn to_namespace_ns(&self, clock: OffsetClock, ns: u64) -> u64 {
        ns.saturating_add_signed(self.offset_ns(clock))
    }

    /// What the machine's clock shows when this one's shows `ns`.
    pub fn to_machine_ns(&self, clock: OffsetClock, ns: u64) -> u64 {
        ns.saturating_add_signed(self.offset_ns(clock).saturating_neg())
    }

    /// From now on the offsets stay.
    pub(crate) fn fix(&self) {
        self.offsets.lock().fixed = true;
    }

    /// Sets offsets, all or none (`/proc/PID/timens_offsets`). The caller has checked CAP_SYS_TIME.
    ///
    /// # Errors
    /// EACCES: somebody is in it. ERANGE: a clock would be negative, or leave its range too soon.
    pub fn set_offsets(&self, new: &[(OffsetClock, i64, u32)]) -> Result<()> {
        let now_s = (machine::time::now_ns() / NSEC_PER_SEC) as i64;
        for (_, seconds, _) in new {
            let reading = now_s.checked_add(*seconds).ok_or(Errno::ERANGE)?;
            if !(-SECONDS_MAX..=SECONDS_MAX).contains(seconds) || !(0..=SECONDS_MAX / 2).contains(&reading) {
                return Err(Errno::ERANGE);
            }
        }
        let mut offsets = self.offsets.lock();
        if offsets.fixed {
            return Err(Errno::EACCES);
        }
        for (clock, seconds, nanoseconds) in new {
            let ns = seconds * NSEC_PER_SEC as i64 + i64::from(*nanoseconds);
            match clock {
                OffsetClock::Monotonic => offsets.monotonic_ns = ns,
                OffsetClock::Boottime => offsets.boottime_ns = ns,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_apply_both_ways_and_stay() {
        let head = NamespaceHead::initial(NamespaceKind::Time);
        let clocks = TimeNamespace::initial().copy(head);
        clocks.set_offsets(&[(OffsetClock::Monotonic, 100, 5)]).unwrap();
        assert_eq!(clocks.to_namespace_ns(OffsetClock::Monotonic, 7), 100_000_000_012);
        assert_eq!(clocks.to_machine_ns(OffsetClock::Monotonic, 100_000_000_012), 7);
        assert_eq!(clocks.to_namespace_ns(OffsetClock::Boottime, 7), 7);
        assert_eq!(clocks.set_offsets(&[(OffsetClock::Boottime, i64::MIN, 0)]), Err(Errno::ERANGE));
        assert_eq!(clocks.set_offsets(&[(OffsetClock::Boottime, SECONDS_MAX, 0)]), Err(Errno::ERANGE));
        clocks.fix();
        assert_eq!(clocks.set_offsets(&[(OffsetClock::Boottime, 1, 0)]), Err(Errno::EACCES));
        assert_eq!(TimeNamespace::initial().set_offsets(&[]), Err(Errno::EACCES));
    }
}
