//! Block devices: what lies between a file system and a driver of disks.
//!
//! Key types: [`Bio`] (a transfer that somebody wants), [`Request`] (neighbouring transfers that go to a driver as one), [`Driver`] (what
//! a driver implements), [`Disk`] (one device with its partitions), [`BlockDevice`] (a disk or a partition of one: what a file
//! system reads and writes). Neighbours: `drivers/*` below [`Driver`], `fs/*` above [`BlockDevice`], `vfs` for device nodes.
//!
//! A transfer ends by calling its completion exactly once, from any context. Whoever wants to wait uses the methods of
//! [`BlockDevice`] that do.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bio;
mod device;
mod driver;
pub mod memory;
#[cfg(not(target_os = "none"))]
pub mod simulate;

pub use bio::{Bio, BioFlags, Completion, Operation, Segment};
pub use device::{BlockDevice, Disk};
pub use driver::{Driver, Limits, Request};

/// The unit of places and lengths on a disk, whatever its own block size is.
pub const SECTOR_SIZE: usize = 512;
