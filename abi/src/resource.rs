//! Resource limits, resource usage and priorities.

pub use linux_raw_sys::general::{
    PRIO_MAX, PRIO_MIN, PRIO_PGRP, PRIO_PROCESS, PRIO_USER, RLIM_NLIMITS, RLIM64_INFINITY, RLIMIT_AS,
    RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_LOCKS, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE,
    RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RSS, RLIMIT_RTPRIO, RLIMIT_RTTIME, RLIMIT_SIGPENDING,
    RLIMIT_STACK, RUSAGE_BOTH, RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD,
};

use crate::time::Timeval;

abi_struct! {
    /// `struct rlimit` and `struct rlimit64`.
    #[derive(PartialEq, Eq)]
    pub struct Rlimit: 16 {
        /// Soft limit.
        pub rlim_cur: u64,
        /// Hard limit.
        pub rlim_max: u64,
    }
}

/// No limit.
pub const RLIM_INFINITY: u64 = u64::MAX;

abi_struct! {
    /// `struct rusage`.
    pub struct Rusage: 144 {
        /// User time.
        pub ru_utime: Timeval,
        /// System time.
        pub ru_stime: Timeval,
        /// Largest resident set, KiB.
        pub ru_maxrss: i64,
        /// Unused.
        pub ru_ixrss: i64,
        /// Unused.
        pub ru_idrss: i64,
        /// Unused.
        pub ru_isrss: i64,
        /// Page faults without I/O.
        pub ru_minflt: i64,
        /// Page faults with I/O.
        pub ru_majflt: i64,
        /// Unused.
        pub ru_nswap: i64,
        /// Block input operations.
        pub ru_inblock: i64,
        /// Block output operations.
        pub ru_oublock: i64,
        /// Unused.
        pub ru_msgsnd: i64,
        /// Unused.
        pub ru_msgrcv: i64,
        /// Unused.
        pub ru_nsignals: i64,
        /// Voluntary context switches.
        pub ru_nvcsw: i64,
        /// Involuntary context switches.
        pub ru_nivcsw: i64,
    }
}
