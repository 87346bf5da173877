//! Scheduling policies and `sched_attr`.

pub use linux_raw_sys::general::{
    SCHED_BATCH, SCHED_DEADLINE, SCHED_EXT, SCHED_FIFO, SCHED_FLAG_ALL, SCHED_FLAG_DL_OVERRUN,
    SCHED_FLAG_KEEP_ALL, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_RECLAIM,
    SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_UTIL_CLAMP, SCHED_FLAG_UTIL_CLAMP_MAX, SCHED_FLAG_UTIL_CLAMP_MIN,
    SCHED_IDLE, SCHED_NORMAL, SCHED_RESET_ON_FORK, SCHED_RR,
};

use bitflags::bitflags;

/// The default policy under its POSIX name.
pub const SCHED_OTHER: u32 = SCHED_NORMAL;

bitflags! {
    /// `sched_attr.sched_flags`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SchedFlags: u64 {
        /// Children start with the default policy.
        const RESET_ON_FORK = SCHED_FLAG_RESET_ON_FORK as u64;
        /// Reclaim unused bandwidth (deadline).
        const RECLAIM = SCHED_FLAG_RECLAIM as u64;
        /// Signal overruns (deadline).
        const DL_OVERRUN = SCHED_FLAG_DL_OVERRUN as u64;
        /// Keep the policy.
        const KEEP_POLICY = SCHED_FLAG_KEEP_POLICY as u64;
        /// Keep the parameters.
        const KEEP_PARAMS = SCHED_FLAG_KEEP_PARAMS as u64;
        /// Set the lower utilisation clamp.
        const UTIL_CLAMP_MIN = SCHED_FLAG_UTIL_CLAMP_MIN as u64;
        /// Set the upper utilisation clamp.
        const UTIL_CLAMP_MAX = SCHED_FLAG_UTIL_CLAMP_MAX as u64;
    }
}

/// Size of the first published `sched_attr`.
pub const SCHED_ATTR_SIZE_VER0: u32 = 48;
/// Size with the utilisation clamps.
pub const SCHED_ATTR_SIZE_VER1: u32 = 56;

abi_struct! {
    /// `struct sched_attr`.
    pub struct SchedAttr: 56 {
        /// Size of the structure the caller knows.
        pub size: u32,
        /// `SCHED_*`.
        pub sched_policy: u32,
        /// [`SchedFlags`].
        pub sched_flags: u64,
        /// -20 to 19.
        pub sched_nice: i32,
        /// 1 to 99 for FIFO and RR.
        pub sched_priority: u32,
        /// Deadline (or fair slice): nanoseconds of run time.
        pub sched_runtime: u64,
        /// Deadline: relative deadline, nanoseconds.
        pub sched_deadline: u64,
        /// Deadline: period, nanoseconds.
        pub sched_period: u64,
        /// Lower utilisation clamp.
        pub sched_util_min: u32,
        /// Upper utilisation clamp.
        pub sched_util_max: u32,
    }
}

abi_struct! {
    /// `struct sched_param`.
    pub struct SchedParam: 4 {
        /// 1 to 99 for FIFO and RR, else 0.
        pub sched_priority: i32,
    }
}
