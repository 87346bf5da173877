//! ext4, and with it ext3 and ext2: the file system of disks.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod buffer;
pub mod format;
pub mod journal;
