//! Inter-process communication: pipes, futexes, epoll and the descriptor-based events.
//!
//! [`pipe`] (and `pipe_ring`), [`futex`], [`epoll`], [`eventfd`], [`timerfd`], [`signalfd`], [`inotify`]; [`sysv`] is what an IPC namespace holds. [`user_limit`] counts
//! what users have. Each file says its locks.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod epoll;
pub mod eventfd;
pub mod futex;
pub mod inotify;
pub mod pipe;
mod pipe_ring;
pub mod signalfd;
pub mod sysv;
pub mod timerfd;
pub mod user_limit;

#[cfg(test)]
mod tests;
