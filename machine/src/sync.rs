//! Locks, wait queues, RCU and the atomics they are made of.
//!
//! | type | for | held |
//! |---|---|---|
//! | [`SpinLock`] | short sections in threads | preemption off |
//! | [`IrqSpinLock`] | the same, shared with interrupt handlers | interrupts off |
//! | [`RwSpinLock`] | read-mostly short sections | preemption off |
//! | [`SeqLock`] | small values read very often | readers hold nothing |
//! | [`Mutex`], [`RwLock`] | sections that may sleep | thread |
//! | [`rcu`] | pointers read without locks | preemption off |
//!
//! No guard is `Send`. Debug builds check the order of locks (see [`LockClass`]).

pub mod class;
pub(crate) mod grace;
pub mod once;
pub(crate) mod raw;
pub mod rcu;
pub mod rcu_slot;
pub mod seq;
pub mod sleep;
pub mod slot;
pub mod spin;
pub mod wait;
pub(crate) mod words;

pub use class::LockClass;
pub use once::{Lazy, Once};
pub use rcu::{RcuArc, RcuGuard};
pub use seq::SeqLock;
pub use sleep::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use slot::ParkSlot;
pub use spin::{
    IrqSpinLock, IrqSpinLockGuard, RwSpinLock, RwSpinLockReadGuard, RwSpinLockWriteGuard, SpinLock,
    SpinLockGuard,
};
pub use wait::{
    Registration, SleepHooks, WaitError, WaitKind, WaitQueue, Waiter, WakeCallback, WakeReason,
    register_sleep_hooks,
};

/// The atomics of what loom explores: `core`'s here; in `machine/loom`, which takes those files in, loom's.
pub mod atomic {
    pub use core::sync::atomic::*;
}
