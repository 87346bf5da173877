//! The system file system: /sys.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
