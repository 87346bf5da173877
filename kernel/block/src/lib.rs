//! Block devices: what lies between a file system and a driver of disks.
//!
//! Key types: [`Bio`] (a transfer that somebody wants), [`Request`] (neighbouring transfers that go to a driver as one), [`Driver`] (what
//! a driver implements), [`Disk`] (one device with its partitions), [`BlockDevice`] (a disk or a partition of one: what a file
//! system reads and writes), [`Plug`] (holds a thread's transfers back while it submits more). Neighbours: `drivers/*` below [`Driver`],
//! `fs/*` above [`BlockDevice`], `vfs` for device nodes.
//!
//! | file | what |
//! |---|---|
//! | `bio`, `driver` | transfers and requests; what a driver implements |
//! | `device`, `plug`, `merge`, `flush`, `disk`, `deadline` | the way of a transfer, in this order |
//! | `statistics` | what is counted |
//! | `registry`, `partition`, `claim` | which devices there are; who has one for himself |
//! | `contents`, `node`, `direct`, `ioctl` | devices as files |
//! | `direct_memory` | memory for transfers past a page cache, of devices and of files |
//! | `attributes`, `source` | what `/proc` and `/sys` show; from mount(2)'s source or `root=` to a device |
//! | `memory` | a disk in memory, for tests |
//!
//! A transfer ends by calling its completion exactly once, from any context. Whoever wants to wait uses the methods of
//! [`BlockDevice`] that do.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attributes;
mod bio;
mod claim;
mod contents;
mod deadline;
mod device;
mod direct;
pub mod direct_memory;
mod disk;
mod driver;
mod flush;
mod ioctl;
pub mod memory;
mod merge;
mod node;
mod partition;
mod plug;
mod registry;
#[cfg(not(target_os = "none"))]
pub mod simulate;
pub mod source;
mod statistics;
mod swap;

#[cfg(test)]
mod tests;

pub use bio::{Bio, BioFlags, Completion, Operation, Segment};
pub use claim::Claim;
pub use device::{BlockDevice, Partition};
pub use disk::{Disk, Scheduler};
pub use driver::{Driver, Limits, Request};
pub use plug::Plug;
pub use registry::{Observer, all, find, find_by_name, observe};
pub use source::device_of_mount_source;
pub use statistics::{Kind, Statistics, Totals};
pub use swap::{Extent, SwapBlocks};

/// The unit of places and lengths on a disk, whatever its own block size is.
pub const SECTOR_SIZE: usize = 512;
