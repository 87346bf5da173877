//! Scheduling policies and their parameters: what `sched_setattr(2)` and `nice(2)` set, checked once here.
//!
//! [`Attributes`] is what user space asked for. [`Parameters`] is what a run queue works with: the class, the
//! real-time priority after priority inheritance, the weight and the slice. `Parameters` pack into one
//! `u64`, so that a thread publishes them with a single atomic store and a run queue notices a change with a
//! single comparison (see [`crate::thread`]).
//!
//! Neighbours: [`crate::thread`] keeps them, [`crate::runqueue`] obeys them. No locks.

use abi::errno::{Errno, Result};

/// `SCHED_*` of sched(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// `SCHED_OTHER`: fair sharing by weight.
    Normal,
    /// `SCHED_FIFO`: runs until it blocks, yields or something more urgent comes.
    Fifo,
    /// `SCHED_RR`: `SCHED_FIFO` with turns among equals.
    RoundRobin,
    /// `SCHED_BATCH`: fair, and a wake-up of it never preempts.
    Batch,
    /// `SCHED_IDLE`: fair with the least weight; anything normal preempts it.
    Idle,
}

impl Policy {
    /// The policy with this number, without `SCHED_RESET_ON_FORK`. `None` for unknown ones and for
    /// `SCHED_DEADLINE`, which is not there yet.
    pub fn from_linux(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Normal,
            1 => Self::Fifo,
            2 => Self::RoundRobin,
            3 => Self::Batch,
            5 => Self::Idle,
            _ => return None,
        })
    }

    /// The number Linux gives it.
    pub fn as_linux(self) -> u32 {
        match self {
            Self::Normal => 0,
            Self::Fifo => 1,
            Self::RoundRobin => 2,
            Self::Batch => 3,
            Self::Idle => 5,
        }
    }

    /// Whether it is scheduled by real-time priority rather than by weight.
    pub fn is_realtime(self) -> bool {
        matches!(self, Self::Fifo | Self::RoundRobin)
    }
}

/// Urgency for priority inheritance: 0 for everything fair, 1..=99 for real-time; greater is more urgent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Priority(u8);

impl Priority {
    /// Everything that is scheduled by weight.
    pub const FAIR: Self = Self(0);

    /// A real-time priority; values above 99 count as 99.
    pub const fn realtime(priority: u8) -> Self {
        Self(if priority > 99 { 99 } else { priority })
    }

    /// 1..=99, or 0 for fair threads.
    pub const fn level(self) -> u8 {
        self.0
    }
}

/// Whether children start with default attributes (`SCHED_FLAG_RESET_ON_FORK`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ResetOnFork {
    /// Children inherit.
    #[default]
    No,
    /// Real-time children become normal, negative nice becomes 0.
    Yes,
}

/// The shortest slice that may be asked for (`sched_attr.sched_runtime`).
pub const SLICE_MIN_NS: u64 = 100_000;
/// The longest slice that may be asked for.
pub const SLICE_MAX_NS: u64 = 100_000_000;
/// The slice of a fair thread that did not ask for one.
pub const SLICE_DEFAULT_NS: u64 = 3_000_000;
/// The turn of a `SCHED_RR` thread among its equals (`sched_rr_get_interval(2)`), Linux's default.
pub const ROUND_ROBIN_NS: u64 = 100_000_000;

/// What user space asked for one thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// The policy.
    pub policy: Policy,
    /// -20..=19; remembered but without effect under a real-time policy.
    pub nice: i8,
    /// 1..=99 under a real-time policy, else 0.
    pub realtime_priority: u8,
    /// What children get.
    pub reset_on_fork: ResetOnFork,
    /// The slice of a fair thread; 0 is the default.
    pub slice_ns: u64,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            policy: Policy::Normal,
            nice: 0,
            realtime_priority: 0,
            reset_on_fork: ResetOnFork::No,
            slice_ns: 0,
        }
    }
}

impl Attributes {
    /// Attributes of a kernel thread that must not wait for user programs.
    pub fn fifo(realtime_priority: u8) -> Self {
        Self { policy: Policy::Fifo, realtime_priority, ..Self::default() }
    }

    /// Checks the combination as `sched_setattr(2)` does, and clamps nice and slice.
    ///
    /// # Errors
    /// `EINVAL`: a real-time policy with priority 0 or above 99, or another policy with a priority.
    pub fn validated(mut self) -> Result<Self> {
        let valid = if self.policy.is_realtime() {
            (1..=99).contains(&self.realtime_priority)
        } else {
            self.realtime_priority == 0
        };
        if !valid {
            return Err(Errno::EINVAL);
        }
        self.nice = self.nice.clamp(-20, 19);
        if self.slice_ns != 0 {
            self.slice_ns = self.slice_ns.clamp(SLICE_MIN_NS, SLICE_MAX_NS);
        }
        Ok(self)
    }

    /// What a child of a thread with these attributes starts with.
    pub fn inherited(&self) -> Self {
        if self.reset_on_fork == ResetOnFork::No {
            return *self;
        }
        let policy = if self.policy.is_realtime() { Policy::Normal } else { self.policy };
        Self { policy, nice: self.nice.max(0), slice_ns: self.slice_ns, ..Self::default() }
    }

    /// What a run queue needs to know, given what is inherited from waiters.
    pub fn parameters(&self, boost: Priority) -> Parameters {
        let own = if self.policy.is_realtime() { self.realtime_priority } else { 0 };
        let priority = own.max(boost.level());
        let class = match (priority, self.policy) {
            (0, Policy::Batch) => Class::Batch,
            (0, Policy::Idle) => Class::Idle,
            (0, _) => Class::Normal,
            (_, Policy::RoundRobin) => Class::RoundRobin,
            _ => Class::Fifo,
        };
        let slice_ns = if self.slice_ns == 0 { SLICE_DEFAULT_NS } else { self.slice_ns };
        Parameters { class, priority, nice: self.nice, slice_us: (slice_ns / 1000) as u32 }
    }
}

/// How a run queue treats a thread just now. Differs from [`Policy`] while a priority is inherited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// By weight.
    Normal,
    /// By weight, never preempting on wake-up.
    Batch,
    /// By the least weight, preempted by every other.
    Idle,
    /// By priority.
    Fifo,
    /// By priority, in turns.
    RoundRobin,
}

/// What a run queue works with; fits into a `u64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// The class in force.
    pub class: Class,
    /// 1..=99 for the real-time classes, else 0.
    pub priority: u8,
    /// -20..=19.
    pub nice: i8,
    /// The slice in microseconds.
    pub slice_us: u32,
}

impl Parameters {
    /// Packed for an atomic.
    pub fn pack(self) -> u64 {
        u64::from(self.slice_us)
            | (u64::from(self.nice as u8) << 32)
            | (u64::from(self.priority) << 40)
            | ((self.class as u64) << 48)
    }

    /// The reverse of [`Self::pack`].
    pub fn unpack(packed: u64) -> Self {
        let class = match (packed >> 48) as u8 {
            1 => Class::Batch,
            2 => Class::Idle,
            3 => Class::Fifo,
            4 => Class::RoundRobin,
            _ => Class::Normal,
        };
        Self {
            class,
            priority: (packed >> 40) as u8,
            nice: (packed >> 32) as u8 as i8,
            slice_us: packed as u32,
        }
    }

    /// Whether it is queued by priority.
    pub fn is_realtime(&self) -> bool {
        matches!(self.class, Class::Fifo | Class::RoundRobin)
    }

    /// The share of a fair thread, 1024 for nice 0.
    pub fn weight(&self) -> u64 {
        if self.class == Class::Idle { WEIGHT_IDLE } else { weight_of_nice(self.nice) }
    }
}

/// The weight of nice 0.
pub const WEIGHT_NICE_0: u64 = 1024;
/// The weight of `SCHED_IDLE`.
pub const WEIGHT_IDLE: u64 = 3;

/// The share of each nice level: 1024 * 1.25^-nice, rounded, so that one level of nice is about 10 % of CPU
/// between two threads. sched(7) documents the factor 1.25; the values are what `/proc/PID/sched` prints on
/// Linux (`se.load.weight`), which programs compare.
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121,
    2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29,
    23, 18, 15,
];

/// The weight of a nice level; levels outside -20..=19 count as the nearest.
pub fn weight_of_nice(nice: i8) -> u64 {
    let index = (nice.clamp(-20, 19) + 20) as usize;
    WEIGHTS.get(index).map_or(WEIGHT_NICE_0, |weight| u64::from(*weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_packing() {
        for policy in [Policy::Normal, Policy::Batch, Policy::Idle, Policy::Fifo, Policy::RoundRobin] {
            for nice in -20..=19 {
                let realtime_priority = if policy.is_realtime() { 42 } else { 0 };
                let attributes = Attributes { policy, nice, realtime_priority, ..Attributes::default() };
                let parameters = attributes.validated().unwrap().parameters(Priority::FAIR);
                assert_eq!(Parameters::unpack(parameters.pack()), parameters);
            }
        }
    }

    #[test]
    fn wrong_combinations_are_refused() {
        let wrong = Attributes { realtime_priority: 1, ..Attributes::default() };
        assert_eq!(wrong.validated(), Err(Errno::EINVAL));
        assert_eq!(Attributes::fifo(0).validated(), Err(Errno::EINVAL));
        assert_eq!(Attributes::fifo(100).validated(), Err(Errno::EINVAL));
        assert!(Attributes::fifo(99).validated().is_ok());
    }

    #[test]
    fn a_boost_makes_a_fair_thread_fifo() {
        let parameters = Attributes::default().parameters(Priority::realtime(50));
        assert_eq!((parameters.class, parameters.priority), (Class::Fifo, 50));
        let own = Attributes::fifo(60).parameters(Priority::realtime(50));
        assert_eq!(own.priority, 60);
    }

    #[test]
    fn reset_on_fork() {
        let parent = Attributes { nice: -5, reset_on_fork: ResetOnFork::Yes, ..Attributes::fifo(5) };
        let child = parent.inherited();
        assert_eq!((child.policy, child.nice, child.realtime_priority), (Policy::Normal, 0, 0));
        assert_eq!(child.reset_on_fork, ResetOnFork::No);
    }
}
