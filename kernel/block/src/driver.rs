//! What a driver of disks implements.
//!
//! Key types: [`Driver`], [`Request`], [`Limits`].

use crate::bio::{Bio, BioFlags, Operation, Segment};
use crate::device::BlockDevice;
use crate::disk::Disk;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
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
    /// What it gives back at least, bytes: discards should be of whole ones. 0: a logical block.
    pub discard_granularity: u32,
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
    pub(crate) segments: usize,
    /// How often its driver has given it back.
    pub(crate) retries: u8,
    /// Whom it counts for; `None` outside a disk's queues.
    pub(crate) owner: Option<Owner>,
}

/// Whom a request counts for.
pub(crate) struct Owner {
    pub(crate) device: Arc<BlockDevice>,
    /// When it was submitted, of [`machine::time::now_ns`].
    pub(crate) began_ns: u64,
    /// The driver has it, or had it.
    pub(crate) dispatched: bool,
}

impl Request {
    /// One transfer of a device, its place on the disk worked out. Errors: `ENOMEM` (with which the transfer has then completed).
    pub(crate) fn of(bio: Bio, device: &Arc<BlockDevice>) -> Result<Request> {
        let mut bios = Vec::new();
        if bios.try_reserve(1).is_err() {
            bio.complete(Err(Errno::ENOMEM));
            return Err(Errno::ENOMEM);
        }
        let mut request = Request {
            operation: bio.operation,
            flags: bio.flags,
            sector: bio.sector.saturating_add(device.first_sector()),
            sectors: bio.sectors,
            segments: bio.segments.len(),
            retries: 0,
            bios,
            owner: Some(Owner {
                device: device.clone(),
                began_ns: machine::time::now_ns(),
                dispatched: false,
            }),
        };
        request.bios.push(bio);
        Ok(request)
    }

    /// The memory of all transfers, in order.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.bios.iter().flat_map(|bio| bio.segments.iter())
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments
    }

    /// The disk whose queues it goes through.
    pub(crate) fn disk(&self) -> Option<Arc<Disk>> {
        self.owner.as_ref().map(|owner| owner.device.disk().clone())
    }

    /// A number that orders requests by disk.
    pub(crate) fn disk_address(&self) -> usize {
        self.owner.as_ref().map_or(0, |owner| Arc::as_ptr(owner.device.disk()).addr())
    }

    /// The sector after the last.
    pub(crate) fn end(&self) -> u64 {
        self.sector.saturating_add(self.sectors)
    }

    /// It is done, all of it. Any context; the caller holds no lock that [`Driver::queue`] takes, because what waits for this transfer
    /// may start another one at once.
    pub fn complete(mut self, result: Result<()>) {
        self.finish(result);
    }

    /// The driver could not do it through no fault of the request's (the device was reset): it is tried again, five times at most (Linux's
    /// `nvme_max_retries`), then it fails with `EIO`. As for [`Request::complete`].
    pub fn retry(mut self) {
        const MOST: u8 = 5;
        self.retries += 1;
        match self.disk().filter(|_| self.retries <= MOST) {
            Some(disk) => disk.requeue(self),
            None => self.complete(Err(Errno::EIO)),
        }
    }

    fn finish(&mut self, result: Result<()>) {
        let owner = self.owner.take();
        if let Some(owner) = &owner {
            owner.device.note_done(self, owner);
        }
        for bio in core::mem::take(&mut self.bios) {
            match &owner {
                Some(owner) if bio.flush_after && result.is_ok() => owner.device.flush_for(bio),
                _ => bio.complete(result),
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.bios.is_empty() || self.owner.is_some() {
            self.finish(Err(Errno::EIO));
        }
    }
}

/// A driver's side of one disk. Methods are called with preemption off, perhaps in an interrupt handler (a completion that starts the next
/// transfer), never twice at a time for one queue, and must not sleep.
pub trait Driver: Send + Sync {
    /// What the device can do. Asked once.
    fn limits(&self) -> Limits;
    /// How many queues it has; each CPU uses one of them.
    fn queues(&self) -> usize {
        1
    }
    /// Puts a request into a queue without telling the device yet. `Err`: the queue is full; it is tried again after the
    /// driver called [`Disk::run_queue`](crate::Disk::run_queue), which it does when requests have completed. So a queue is full only
    /// while it has requests.
    fn queue(&self, queue: usize, request: Request) -> core::result::Result<(), Request>;
    /// Tells the device of what was queued since the last time.
    fn kick(&self, queue: usize);
    /// Whether the device is still there. If not, what it has will not complete before the driver ends it. Thread context.
    fn is_present(&self) -> bool {
        true
    }
    /// Nobody uses the disk any more: nothing of it is open or mounted. Thread context; may sleep.
    fn released(&self) {}
    /// A call of ioctl(2) on the disk or a partition that the block layer does not know. Thread context; may sleep. `ENOTTY`: neither does
    /// the driver.
    fn ioctl(
        &self,
        device: &Arc<BlockDevice>,
        file: &vfs::File,
        command: u32,
        argument: usize,
    ) -> Result<usize> {
        let _ = (device, file, command, argument);
        Err(Errno::ENOTTY)
    }
    /// Heads and sectors of a track that `HDIO_GETGEO` tells, where that means anything.
    fn geometry(&self) -> Option<(u8, u8)> {
        Some((64, 32))
    }
}
