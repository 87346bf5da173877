//! A file system in memory; also the root that the initramfs is unpacked into.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
