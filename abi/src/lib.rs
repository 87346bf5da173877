//! The Linux user-space interface as data: numbers, flags, structures and errno.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
