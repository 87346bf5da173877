//! The process file system: /proc.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
