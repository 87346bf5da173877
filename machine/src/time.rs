//! Clocks and the per-CPU one-shot timer.

use crate::arch;

/// Nanoseconds since boot; monotonic, the same on all CPUs.
#[inline]
pub fn now_ns() -> u64 {
    arch::now_ns()
}

/// The wall clock (nanoseconds since 1970 UTC) at the moment when [`now_ns`] was 0, as the RTC said it.
pub fn boot_realtime_ns() -> u64 {
    arch::boot_realtime_ns()
}

/// Arms this CPU's timer: the `timer` hook runs at or soon after `deadline_ns` (of [`now_ns`]). Replaces the previous
/// deadline. A deadline in the past fires at once.
pub fn set_timer(deadline_ns: u64) {
    arch::set_timer(deadline_ns);
}

/// Disarms this CPU's timer.
pub fn cancel_timer() {
    arch::cancel_timer();
}

/// How user space can compute [`now_ns`] itself from the time-stamp counter:
/// `ns = base_ns + ((tsc - base_cycles) * multiplier >> shift)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VdsoClock {
    /// Counter value at `base_ns`.
    pub base_cycles: u64,
    /// [`now_ns`] at `base_cycles`.
    pub base_ns: u64,
    /// Nanoseconds per cycle, times 2^`shift`.
    pub multiplier: u32,
    /// See `multiplier`.
    pub shift: u32,
}

/// The parameters for the vDSO, or `None` if user space cannot read the clock (the vDSO then makes the system call).
pub fn vdso_clock() -> Option<VdsoClock> {
    let (base_cycles, multiplier, shift) = arch::clock_parameters()?;
    Some(VdsoClock { base_cycles, base_ns: 0, multiplier, shift })
}

/// The rate of the time-stamp counter in kHz; 0 if user space cannot read the clock.
pub fn counter_khz() -> u64 {
    let rate = |clock: VdsoClock| (1_000_000_u128 << clock.shift).checked_div(u128::from(clock.multiplier));
    vdso_clock().and_then(rate).map_or(0, |khz| khz as u64)
}
