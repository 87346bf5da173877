//! The scheduler: threads, run queues, policies, timers and deferred work.
//!
//! Where to look: *what runs next* is pure and tested as such: [`fair`] (EEVDF), [`runqueue`] (all policies of
//! one CPU), `linnet_lib::tree` (the structure under both), [`policy`] (what user space may ask for), [`timer_queue`].
//! *Making it so* is `cpu` (switch, wake, preempt), `place` (which CPU), [`sleep`] (park, deadlines), [`timer`],
//! [`thread`], [`account`] (times, load), [`pressure`] (what waiting costs), [`work`] (deferred work), [`errand`] (work that who causes it does), [`plug`] (what a thread hands over before it sleeps), [`boot`] (start, idle loop), [`clock`] (wall
//! time).
//!
//! Lock order: wait queues and timers of `machine::sync` → a thread's attributes → a timer's state → a timer
//! queue; a run queue's lock last. All are held with interrupts off and never while anything sleeps.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod account;
pub mod boot;
pub mod clock;
mod cpu;
pub mod errand;
pub mod fair;
#[cfg(not(target_os = "none"))]
pub mod host;
mod place;
pub mod plug;
pub mod policy;
pub mod pressure;
pub mod runqueue;
pub mod sleep;
pub mod thread;
pub mod timer;
pub mod timer_queue;
pub mod work;

#[cfg(test)]
mod tests;

pub use account::{Counts, CpuTimes, counts, cpu_times, load_averages, note_program};
pub use boot::{init, run_idle, start_cpu, start_kernel_threads};
pub use cpu::{exit_current, preempt, schedule_if_needed, timer_interrupt, yield_now};
pub use linnet_lib::tree;
pub use machine::sync::{WaitKind, WakeReason};
pub use policy::{Attributes, Policy, Priority, ResetOnFork};
pub use sleep::{IoWaitGuard, SyncWakes, hint as wake_hint, io_wait, park, sleep_until, sync_wakes};
pub use thread::{
    Current, SpawnOptions, State, Thread, ThreadTimes, WakeHint, current, current_arc, signal_pending, spawn,
    try_current,
};
