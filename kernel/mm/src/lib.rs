//! Virtual memory: address spaces, faults, the page cache, reclaim and the OOM killer.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
