//! The scheduler: threads, run queues, policies, timers and deferred work.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
