//! Disks and what of them can be opened: the whole, and each partition.
//!
//! Key types: [`Disk`], [`BlockDevice`]. Locks: none yet that outlives a call.

use crate::SECTOR_SIZE;
use crate::bio::{Bio, BioFlags, Operation, Segment};
use crate::driver::{Driver, Limits, Request};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::sync::{SpinLock, WaitKind, WaitQueue};
use vfs::DeviceId;

/// A device with its driver.
pub struct Disk {
    name: String,
    driver: Arc<dyn Driver>,
    limits: Limits,
    sectors: AtomicU64,
    read_only: bool,
}

impl Disk {
    /// A disk of `sectors` sectors, not known to anybody yet.
    pub fn new(name: String, driver: Arc<dyn Driver>, sectors: u64, read_only: bool) -> Arc<Disk> {
        let limits = driver.limits();
        Arc::new(Disk { name, driver, limits, sectors: AtomicU64::new(sectors), read_only })
    }

    /// Its name, as in `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it can do.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many sectors it has now.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// The driver has room in a queue again. Any context.
    pub fn run_queue(&self, queue: usize) {
        let _ = queue;
    }
}

/// A disk or a partition: what a file system reads and writes.
pub struct BlockDevice {
    disk: Arc<Disk>,
    number: DeviceId,
    first_sector: u64,
    sectors: u64,
}

impl BlockDevice {
    /// All of a disk.
    pub fn whole(disk: Arc<Disk>, number: DeviceId) -> Arc<BlockDevice> {
        let sectors = disk.sectors();
        Arc::new(BlockDevice { disk, number, first_sector: 0, sectors })
    }

    /// Its number, as a device node has it.
    pub fn number(&self) -> DeviceId {
        self.number
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.disk.read_only
    }

    /// Starts a transfer. Its completion is called with `EIO` if it lies beyond the end, `EROFS`, or the driver's error.
    pub fn submit(&self, bio: Bio) {
        let end = bio.sector.checked_add(bio.sectors);
        if end.is_none_or(|end| end > self.sectors) {
            return bio.complete(Err(Errno::EIO));
        }
        if self.is_read_only() && !matches!(bio.operation, Operation::Read | Operation::Flush) {
            return bio.complete(Err(Errno::EROFS));
        }
        let request = Request {
            operation: bio.operation,
            flags: bio.flags,
            sector: bio.sector + self.first_sector,
            sectors: bio.sectors,
            bios: vec![bio],
        };
        match self.disk.driver.queue(0, request) {
            Ok(()) => self.disk.driver.kick(0),
            Err(full) => full.complete(Err(Errno::EAGAIN)),
        }
    }

    /// Starts a transfer and waits for its end. Thread context.
    ///
    /// Errors: the transfer's.
    pub fn transfer(
        &self,
        operation: Operation,
        flags: BioFlags,
        sector: u64,
        segments: &[Segment],
    ) -> Result<()> {
        let outcome = Arc::new(Outcome { result: SpinLock::new(None), done: WaitQueue::new() });
        let told = outcome.clone();
        let completion = Box::new(move |result| {
            *told.result.lock() = Some(result);
            told.done.wake_all();
        });
        let mut bio = Bio::new(operation, sector, completion);
        bio.flags = flags | BioFlags::SYNC;
        for segment in segments {
            bio.push(segment.clone())?;
        }
        self.submit(bio);
        let waited = outcome.done.wait_until(WaitKind::Uninterruptible, None, || *outcome.result.lock());
        waited.unwrap_or(Err(Errno::EIO))
    }

    /// Waits until what was written before is on stable storage.
    pub fn flush(&self) -> Result<()> {
        if !self.disk.limits.write_cache {
            return Ok(());
        }
        self.transfer(Operation::Flush, BioFlags::empty(), 0, &[])
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR_SIZE as u64)
    }
}

/// Where somebody waits for a transfer.
struct Outcome {
    result: SpinLock<Option<Result<()>>>,
    done: WaitQueue,
}
