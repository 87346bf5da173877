//! The scheduler: threads, run queues, policies, timers and deferred work.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod fair;
pub mod policy;
pub mod runqueue;
pub mod tree;
