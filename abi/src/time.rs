//! Clocks, timers and the structures that carry time.

pub use linux_raw_sys::general::{
    CLOCK_AUX, CLOCK_AUX_LAST, CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_ALARM,
    CLOCK_REALTIME_COARSE, CLOCK_SGI_CYCLE, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, ITIMER_PROF, ITIMER_REAL,
    ITIMER_VIRTUAL, TIMER_ABSTIME, UTIME_NOW, UTIME_OMIT,
};

use crate::errno::{Errno, Result};

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;
/// Microseconds in a second.
pub const USEC_PER_SEC: u64 = 1_000_000;
/// Ticks per second as user space sees them (`AT_CLKTCK`, `times(2)`, `/proc/*/stat`).
pub const USER_HZ: u64 = 100;

abi_struct! {
    /// `struct timespec`.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    pub struct Timespec: 16 {
        /// Seconds.
        pub tv_sec: i64,
        /// Nanoseconds.
        pub tv_nsec: i64,
    }
}

impl Timespec {
    /// The time that is `nanoseconds` after zero.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self { tv_sec: (nanoseconds / NSEC_PER_SEC) as i64, tv_nsec: (nanoseconds % NSEC_PER_SEC) as i64 }
    }

    /// Is it a duration or time that system calls take: no negative part, less than a second of nanoseconds?
    pub const fn is_valid(&self) -> bool {
        self.tv_sec >= 0 && self.tv_nsec >= 0 && (self.tv_nsec as u64) < NSEC_PER_SEC
    }

    /// Nanoseconds, saturating at `i64::MAX` as Linux's `ktime_t` does.
    ///
    /// # Errors
    /// `EINVAL` if the time is not valid.
    pub fn to_nanoseconds(&self) -> Result<u64> {
        if !self.is_valid() {
            return Err(Errno::EINVAL);
        }
        let whole = (self.tv_sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.tv_nsec as u64);
        Ok(whole.min(i64::MAX as u64))
    }
}

abi_struct! {
    /// `struct timeval`.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    pub struct Timeval: 16 {
        /// Seconds.
        pub tv_sec: i64,
        /// Microseconds.
        pub tv_usec: i64,
    }
}

impl Timeval {
    /// The time that is `nanoseconds` after zero, rounded down.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self {
            tv_sec: (nanoseconds / NSEC_PER_SEC) as i64,
            tv_usec: (nanoseconds % NSEC_PER_SEC / 1_000) as i64,
        }
    }

    /// Is it a time that system calls take?
    pub const fn is_valid(&self) -> bool {
        self.tv_sec >= 0 && self.tv_usec >= 0 && (self.tv_usec as u64) < USEC_PER_SEC
    }

    /// Nanoseconds, saturating at `i64::MAX`.
    ///
    /// # Errors
    /// `EINVAL` if the time is not valid.
    pub fn to_nanoseconds(&self) -> Result<u64> {
        if !self.is_valid() {
            return Err(Errno::EINVAL);
        }
        let whole =
            (self.tv_sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.tv_usec as u64 * 1_000);
        Ok(whole.min(i64::MAX as u64))
    }
}

abi_struct! {
    /// `struct itimerspec`.
    #[derive(PartialEq, Eq)]
    pub struct Itimerspec: 32 {
        /// Period; zero is one shot.
        pub it_interval: Timespec,
        /// First expiry; zero disarms.
        pub it_value: Timespec,
    }
}

abi_struct! {
    /// `struct itimerval`.
    #[derive(PartialEq, Eq)]
    pub struct Itimerval: 32 {
        /// Period; zero is one shot.
        pub it_interval: Timeval,
        /// First expiry; zero disarms.
        pub it_value: Timeval,
    }
}

abi_struct! {
    /// `struct timezone`.
    #[derive(PartialEq, Eq)]
    pub struct Timezone: 8 {
        /// Minutes west of Greenwich.
        pub tz_minuteswest: i32,
        /// Unused.
        pub tz_dsttime: i32,
    }
}

abi_struct! {
    /// `struct tms` of `times(2)`, in units of 1/[`USER_HZ`] second.
    pub struct Tms: 32 {
        /// User time.
        pub tms_utime: i64,
        /// System time.
        pub tms_stime: i64,
        /// User time of children waited for.
        pub tms_cutime: i64,
        /// System time of children waited for.
        pub tms_cstime: i64,
    }
}

abi_struct! {
    /// `struct __kernel_timex` of `adjtimex(2)`.
    pub struct Timex: 208 {
        /// `ADJ_*`.
        pub modes: u32,
        /// Explicit padding.
        pub pad0: u32,
        /// Offset.
        pub offset: i64,
        /// Frequency offset, scaled ppm.
        pub freq: i64,
        /// Maximum error, microseconds.
        pub maxerror: i64,
        /// Estimated error, microseconds.
        pub esterror: i64,
        /// `STA_*`.
        pub status: i32,
        /// Explicit padding.
        pub pad1: u32,
        /// PLL time constant.
        pub constant: i64,
        /// Clock precision.
        pub precision: i64,
        /// Frequency tolerance.
        pub tolerance: i64,
        /// The time.
        pub time: Timeval,
        /// Microseconds between ticks.
        pub tick: i64,
        /// Pulse-per-second frequency.
        pub ppsfreq: i64,
        /// Pulse-per-second jitter.
        pub jitter: i64,
        /// Interval duration.
        pub shift: i32,
        /// Explicit padding.
        pub pad2: u32,
        /// Pulse-per-second stability.
        pub stabil: i64,
        /// Jitter limit exceeded.
        pub jitcnt: i64,
        /// Calibration intervals.
        pub calcnt: i64,
        /// Calibration errors.
        pub errcnt: i64,
        /// Stability limit exceeded.
        pub stbcnt: i64,
        /// TAI offset, seconds.
        pub tai: i32,
        /// Reserved.
        pub reserved: [u32; 11],
    }
}
