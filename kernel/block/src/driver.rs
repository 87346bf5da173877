//! What a driver of disks implements.
//!
//! Key types: [`Driver`], [`Request`], [`Limits`].

use crate::bio::{Bio, BioFlags, Operation, Segment};
use abi::errno::Result;
use alloc::vec::Vec;

/// What a device can do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The smallest transfer, bytes: a power of two from 512 to 4096.
    pub logical_block_size: u32,
    /// What the device writes at once, bytes.
    pub physical_block_size: u32,
    /// The most sectors of one request.
    pub max_sectors: u32,
    /// The most segments of one request.
    pub max_segments: u16,
    /// The most bytes of one segment.
    pub max_segment_size: u32,
    /// The most sectors of one discard; 0: cannot discard.
    pub max_discard_sectors: u32,
    /// The most sectors of one write of zeros; 0: cannot.
    pub max_write_zeroes_sectors: u32,
    /// It has a volatile cache: flushes mean something.
    pub write_cache: bool,
    /// It knows [`BioFlags::FUA`]; else the block layer flushes afterwards.
    pub fua: bool,
    /// It turns (only a hint, `queue/rotational`).
    pub rotational: bool,
}

/// Transfers that follow each other on the disk, given to the driver as one.
pub struct Request {
    /// The same for all of them.
    pub operation: Operation,
    /// Their flags; `PREFLUSH` never reaches a driver, `FUA` only one that knows it.
    pub flags: BioFlags,
    /// The first sector of the disk.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    pub(crate) bios: Vec<Bio>,
}

impl Request {
    /// The memory of all transfers, in order.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.bios.iter().flat_map(|bio| bio.segments.iter())
    }

    /// It is done, all of it. Any context.
    pub fn complete(self, result: Result<()>) {
        for bio in self.bios {
            bio.complete(result);
        }
    }
}

/// A driver's side of one disk. Methods are called with preemption off and must not sleep.
pub trait Driver: Send + Sync {
    /// What the device can do. Asked once.
    fn limits(&self) -> Limits;
    /// How many queues it has; each CPU uses one of them.
    fn queues(&self) -> usize {
        1
    }
    /// Puts a request into a queue without telling the device yet. `Err`: the queue is full; it is tried again after the
    /// driver called [`Disk::run_queue`](crate::Disk::run_queue), which it does when requests have completed.
    fn queue(&self, queue: usize, request: Request) -> core::result::Result<(), Request>;
    /// Tells the device of what was queued since the last time.
    fn kick(&self, queue: usize);
}
