//! Processes and threads: fork, exec, exit, wait, signals, job control, limits.
//!
//! | module | what |
//! |---|---|
//! | [`task`], [`process`] | one thread; what a thread group shares |
//! | [`pid`], [`tree`], [`job`], [`namespaces`], [`users`] | ids; relations; sessions and terminals; namespace sets; per-user counts |
//! | [`fork`], [`exec`], [`exit`], [`wait`] | the life cycle |
//! | [`run`], [`fault`], [`signal`], [`restart`] | the loop between program and kernel; exceptions; signals; restarted calls |
//! | [`timers`], [`rseq`], [`membarrier`], [`futex`], [`vdso`] | what hangs off a thread or process |
//! | [`limits`], [`usage`], [`calls`], [`stat`], [`oom`] | limits and accounts |
//! | [`syslog`] | the kernel's log for those who read it |
//! | [`pidfd`], [`files`], `network` | descriptors of processes; what exec needs from files; what sockets ask of tasks |
//! | [`boot`] | the first program |
//!
//! # Lock order
//!
//! 1. [`process::TREE`]: relations between processes. Thread context only.
//! 2. [`process::Process`]'s `shared`: pending signals, threads, stop and exit state. Interrupt-safe.
//! 3. [`task::Task`]'s `own`: the thread's queue, its scheduler thread. Interrupt-safe. Never two at once.
//! 4. The action table, a process's `usage` and timers: interrupt-safe leaves.
//! 5. All others here (`space`, `files`, `credentials`, ...) are leaves held for the length of a clone.
//!
//! The scheduler's and the wait queues' locks come after all of these. Nothing here sleeps with one of them held.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod calls;
pub mod clock;
pub mod exec;
pub mod exit;
pub mod fault;
pub mod files;
pub mod fork;
pub mod futex;
pub mod job;
pub mod limits;
pub mod membarrier;
pub mod namespaces;
mod network;
pub mod oom;
pub mod pid;
pub mod pidfd;
pub mod process;
pub mod restart;
pub mod rseq;
pub mod run;
pub mod signal;
pub mod stat;
pub mod status;
pub mod syslog;
pub mod task;
pub mod timers;
pub mod tree;
pub mod usage;
pub mod users;
pub mod vdso;
pub mod wait;

pub use process::{Process, for_each_in_group, for_each_process};
pub use restart::RestartBlock;
pub use task::Task;
pub use usage::Usage;

/// Registers with the layers below; once, before the first program.
pub fn init() {
    namespaces::set_first_limits();
    mm::oom::register(&oom::Victims);
    futex::register();
    files::register_size_limit();
    signal::descriptor::register();
    network::register();
}
