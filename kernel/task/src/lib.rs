//! Processes and threads: fork, exec, exit, wait, signals, job control, limits.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
