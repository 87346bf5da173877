//! What of a disk can be opened: the whole, and each partition.
//!
//! Key types: [`BlockDevice`], [`Partition`]. A transfer is checked here, moved to its place on the disk, put in order with flushes, cut to what the
//! device takes, and handed to the plug of the thread or the queues of the disk.
//! Locks: none here; see `disk`, `flush`, `plug`, `node`.

use crate::bio::{Bio, BioFlags, Operation, Segment};
use crate::disk::Disk;
use crate::driver::{Owner, Request};
use crate::flush::Then;
use crate::plug::PlugList;
use crate::statistics::Statistics;
use crate::{SECTOR_SIZE, merge};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};
use mm::BackingDevice;
use vfs::DeviceId;

/// How many sectors one step of a long discard or zeroing covers: between two of them the caller can be killed.
const STEP_SECTORS: u64 = 1 << 20;
/// The most pages of zeros in one transfer.
const ZERO_SEGMENTS: usize = 256;

/// What a partition is beside its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// The first sector, of the disk.
    pub first_sector: u64,
    /// How many sectors.
    pub sectors: u64,
    /// What `PARTUUID=` means, in lower case.
    pub uuid: Option<String>,
    /// What `PARTLABEL=` means.
    pub label: Option<String>,
}

/// A disk or a partition: what a file system reads and writes.
pub struct BlockDevice {
    me: Weak<BlockDevice>,
    disk: Arc<Disk>,
    number: DeviceId,
    name: String,
    partition: Option<Partition>,
    /// The disk, of a partition.
    whole: Option<Arc<BlockDevice>>,
    /// How many sectors a partition has.
    sectors: AtomicU64,
    read_only: AtomicBool,
    gone: AtomicBool,
    statistics: Statistics,
    backing: Arc<BackingDevice>,
    soft_block_size: AtomicU32,
    pub(crate) contents: crate::contents::Contents,
}

impl BlockDevice {
    /// All of a disk.
    pub fn whole(disk: Arc<Disk>, number: DeviceId) -> Arc<BlockDevice> {
        BlockDevice::make(disk, number, None, None)
    }

    /// A part of a disk.
    pub(crate) fn part(whole: &Arc<BlockDevice>, number: DeviceId, partition: Partition) -> Arc<BlockDevice> {
        BlockDevice::make(whole.disk.clone(), number, Some(partition), Some(whole.clone()))
    }

    fn make(
        disk: Arc<Disk>,
        number: DeviceId,
        partition: Option<Partition>,
        whole: Option<Arc<BlockDevice>>,
    ) -> Arc<BlockDevice> {
        let name = match &partition {
            None => String::from(disk.name()),
            Some(partition) if disk.name().ends_with(|end: char| end.is_ascii_digit()) => {
                format!("{}p{}", disk.name(), partition.number)
            }
            Some(partition) => format!("{}{}", disk.name(), partition.number),
        };
        // Parts of one disk share its flusher.
        let backing = whole.as_ref().map(|whole| whole.backing.clone());
        let backing =
            backing.unwrap_or_else(|| BackingDevice::new(&format!("{}:{}", number.major, number.minor)));
        let block_size = disk.limits().logical_block_size.max(PAGE_SIZE as u32);
        Arc::new_cyclic(|me| BlockDevice {
            me: me.clone(),
            disk,
            number,
            name,
            sectors: AtomicU64::new(partition.as_ref().map_or(0, |partition| partition.sectors)),
            partition,
            whole,
            read_only: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            statistics: Statistics::new(),
            backing,
            soft_block_size: AtomicU32::new(block_size),
            contents: crate::contents::Contents::new(),
        })
    }

    /// Its number, as a device node has it.
    pub fn number(&self) -> DeviceId {
        self.number
    }

    /// Its name, as in `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// What it is as a partition, if it is one.
    pub fn partition(&self) -> Option<&Partition> {
        self.partition.as_ref()
    }

    /// The number of the partition; 0 for all of a disk.
    pub fn partition_number(&self) -> u32 {
        self.partition.as_ref().map_or(0, |partition| partition.number)
    }

    /// All of its disk: itself, or what it is a partition of.
    pub fn whole_disk(&self) -> Option<Arc<BlockDevice>> {
        self.whole.clone().or_else(|| self.me.upgrade())
    }

    /// Where it begins on its disk.
    pub fn first_sector(&self) -> u64 {
        self.partition.as_ref().map_or(0, |partition| partition.first_sector)
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        match self.partition {
            None => self.disk.sectors(),
            Some(_) => self.sectors.load(Ordering::Acquire),
        }
    }

    /// A partition has another length now.
    pub(crate) fn store_sectors(&self, sectors: u64) {
        self.sectors.store(sectors, Ordering::Release);
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.sectors().saturating_mul(SECTOR_SIZE as u64)
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed) || self.disk.is_read_only()
    }

    /// Says that it must not be written (`BLKROSET`).
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// Whether it does not exist any more.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.disk.is_gone()
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// How many have it, or a partition of it, open or mounted.
    pub fn users(&self) -> usize {
        self.contents.users()
    }

    /// What was counted.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Its flusher and read-ahead, for pagers of files on it.
    pub fn backing(&self) -> &Arc<BackingDevice> {
        &self.backing
    }

    /// The block size that `BLKBSZSET` set, bytes.
    pub fn soft_block_size(&self) -> u32 {
        self.soft_block_size.load(Ordering::Relaxed)
    }

    /// Sets it. Errors: `EINVAL`: no power of two from the logical block size to a page.
    pub fn set_soft_block_size(&self, bytes: u32) -> Result<()> {
        let least = self.disk.limits().logical_block_size;
        if !bytes.is_power_of_two() || bytes < least.max(SECTOR_SIZE as u32) || bytes > PAGE_SIZE as u32 {
            return Err(Errno::EINVAL);
        }
        self.soft_block_size.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// What is wrong with a transfer. Errors: `EIO` beyond the end, `EROFS`, `EOPNOTSUPP`, `EINVAL` if it is not in whole blocks.
    fn check(&self, bio: &Bio) -> Result<()> {
        if self.is_gone() {
            return Err(Errno::EIO);
        }
        let end = bio.sector.checked_add(bio.sectors);
        if end.is_none_or(|end| end > self.sectors()) {
            return Err(Errno::EIO);
        }
        if self.is_read_only() && !matches!(bio.operation, Operation::Read | Operation::Flush) {
            return Err(Errno::EROFS);
        }
        self.disk.check_supported(bio.operation)?;
        let block = u64::from(self.disk.limits().logical_block_size) / SECTOR_SIZE as u64;
        let sector = bio.sector.wrapping_add(self.first_sector());
        let whole = sector.is_multiple_of(block.max(1)) && bio.sectors.is_multiple_of(block.max(1));
        let length = |segment: &Segment| u64::from(segment.length);
        let moves = matches!(bio.operation, Operation::Read | Operation::Write);
        let memory = bio.segments.iter().map(length).sum::<u64>() / SECTOR_SIZE as u64;
        let inside = |segment: &Segment| {
            segment.length.is_multiple_of(SECTOR_SIZE as u32)
                && u64::from(segment.offset) + length(segment) <= PAGE_SIZE as u64
        };
        let fits = memory == if moves { bio.sectors } else { 0 };
        if whole && fits && bio.segments.iter().all(inside) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Starts a transfer. Its completion is called with `EIO` if it lies beyond the end, `EROFS`, `EOPNOTSUPP`, `EINVAL` if it is not in whole
    /// blocks, `ENOMEM`, or the driver's error. In thread context it waits while too many wait already.
    pub fn submit(&self, mut bio: Bio) {
        if let Err(error) = self.check(&bio) {
            return bio.complete(Err(error));
        }
        let limits = self.disk.limits();
        let preflush = bio.flags.contains(BioFlags::PREFLUSH) || bio.operation == Operation::Flush;
        let writes = bio.operation == Operation::Write && bio.sectors > 0;
        bio.flush_after = bio.flags.contains(BioFlags::FUA) && writes && limits.write_cache && !limits.fua;
        bio.flags -= BioFlags::PREFLUSH;
        if !limits.write_cache || !limits.fua {
            bio.flags -= BioFlags::FUA;
        }
        let empty = bio.sectors == 0;
        if preflush && limits.write_cache {
            let then = if empty { Then::Complete } else { Then::Write };
            return match self.me.upgrade() {
                Some(own) => self.disk.flushes.add(own, bio, then),
                None => bio.complete(Err(Errno::EIO)),
            };
        }
        if empty {
            return bio.complete(Ok(()));
        }
        self.start(bio);
    }

    /// The part of [`Self::submit`] after checks and flushes: off to the queues.
    pub(crate) fn start(&self, bio: Bio) {
        let Some(own) = self.me.upgrade() else { return bio.complete(Err(Errno::EIO)) };
        if bio.operation == Operation::Flush {
            self.enqueue(&own, bio);
        } else {
            merge::split(bio, &self.disk.limits(), &mut |piece| self.enqueue(&own, piece));
        }
    }

    fn enqueue(&self, own: &Arc<BlockDevice>, bio: Bio) {
        let flags = bio.flags;
        if bio.operation != Operation::Flush
            && let Err(error) = self.disk.throttle(flags)
        {
            return bio.complete(Err(error));
        }
        let Ok(mut request) = Request::of(bio, own) else { return };
        let now_ns = request.owner.as_ref().map_or(0, |owner| owner.began_ns);
        self.for_counters(|counters| counters.note_begun(request.operation, now_ns));
        if merge::is_mergeable(request.operation, flags)
            && let Some(plug) = PlugList::current()
        {
            match plug.add(request) {
                Ok(()) => return,
                Err(back) => request = back,
            }
        }
        let queue = self.disk.insert(request);
        self.disk.work_off_submitted(queue);
    }

    /// The counters of the device, and those of its disk.
    fn for_counters(&self, each: impl Fn(&Statistics)) {
        each(&self.statistics);
        if let Some(whole) = &self.whole {
            each(&whole.statistics);
        }
    }

    /// A request has become part of another.
    pub(crate) fn note_merged(&self, operation: Operation) {
        self.for_counters(|counters| counters.note_merged(operation));
    }

    /// A request has ended. Any context.
    pub(crate) fn note_done(&self, request: &Request, owner: &Owner) {
        let Request { operation, sectors, .. } = *request;
        self.for_counters(|counters| counters.note_done(operation, sectors, owner.began_ns));
        self.disk.note_completed(owner.dispatched);
    }

    /// A write has completed that must be on stable storage.
    pub(crate) fn flush_for(&self, mut bio: Bio) {
        bio.flush_after = false;
        match self.me.upgrade() {
            Some(own) => self.disk.flushes.add(own, bio, Then::Complete),
            None => bio.complete(Err(Errno::EIO)),
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
        let mut own = Vec::new();
        own.try_reserve_exact(segments.len()).map_err(|_| Errno::ENOMEM)?;
        own.extend_from_slice(segments);
        self.transfer_all(operation, flags, sector, own)
    }

    /// The same, with segments that need not be copied.
    pub(crate) fn transfer_all(
        &self,
        operation: Operation,
        flags: BioFlags,
        sector: u64,
        segments: Vec<Segment>,
    ) -> Result<()> {
        let wait = Waiting::new();
        let mut bio = Bio::new(operation, sector, wait.completion());
        bio.flags = flags | BioFlags::SYNC;
        bio.set_segments(segments);
        self.submit(bio);
        wait.wait()
    }

    /// Writes what its page cache has dirty and drops what nobody maps. Thread context. Errors: `EIO` and the like.
    pub fn write_cache_out(&self) -> Result<()> {
        if let Some(cache) = self.contents.cache() {
            cache.sync(0..u64::MAX)?;
        }
        self.contents.drop_clean();
        Ok(())
    }

    /// Waits until what was written before is on stable storage.
    pub fn flush(&self) -> Result<()> {
        if !self.disk.limits().write_cache {
            return Ok(());
        }
        self.transfer(Operation::Flush, BioFlags::empty(), 0, &[])
    }

    /// The contents of these sectors are not needed any more. Thread context. Errors: `EOPNOTSUPP`: the device cannot know; `EIO` and the like.
    pub fn discard(&self, sector: u64, sectors: u64) -> Result<()> {
        self.disk.check_supported(Operation::Discard)?;
        self.in_steps(sector, sectors, |sector, sectors| {
            self.transfer_nothing(Operation::Discard, sector, sectors)
        })
    }

    /// Makes these sectors read as zeros, by writing them if the device has no shorter way. Thread context. Errors: `EIO` and the like.
    pub fn write_zeroes(&self, sector: u64, sectors: u64) -> Result<()> {
        let shorter = self.disk.check_supported(Operation::WriteZeroes).is_ok();
        self.in_steps(sector, sectors, |sector, sectors| {
            let done = match shorter {
                true => self.transfer_nothing(Operation::WriteZeroes, sector, sectors),
                false => Err(Errno::EOPNOTSUPP),
            };
            match done {
                Err(Errno::EOPNOTSUPP) => self.write_zero_pages(sector, sectors),
                done => done,
            }
        })
    }

    /// Calls `step` for pieces of a range; a fatal signal ends it. Errors: `EINTR`, and what `step` gives.
    fn in_steps(
        &self,
        sector: u64,
        sectors: u64,
        mut step: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let end = sector.checked_add(sectors).filter(|end| *end <= self.sectors()).ok_or(Errno::EINVAL)?;
        let mut at = sector;
        while at < end {
            let count = (end - at).min(STEP_SECTORS);
            step(at, count)?;
            at += count;
            if at < end
                && sched::thread::try_current().is_some_and(|own| own.is_interrupted(WaitKind::Killable))
            {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }

    /// A transfer without memory. Thread context.
    fn transfer_nothing(&self, operation: Operation, sector: u64, sectors: u64) -> Result<()> {
        let wait = Waiting::new();
        let mut bio = Bio::new(operation, sector, wait.completion());
        (bio.sectors, bio.flags) = (sectors, BioFlags::SYNC);
        self.submit(bio);
        wait.wait()
    }

    fn write_zero_pages(&self, sector: u64, sectors: u64) -> Result<()> {
        let zero = machine::memory::zero_frame();
        let mut at = sector;
        while at < sector + sectors {
            let mut segments = Vec::new();
            let mut left = (sector + sectors - at) * SECTOR_SIZE as u64;
            segments.try_reserve_exact(ZERO_SEGMENTS).map_err(|_| Errno::ENOMEM)?;
            while left > 0 && segments.len() < ZERO_SEGMENTS {
                let length = left.min(PAGE_SIZE as u64) as u32;
                segments.push(Segment { frame: zero.clone(), offset: 0, length });
                left -= u64::from(length);
            }
            self.transfer(Operation::Write, BioFlags::empty(), at, &segments)?;
            at = sector + sectors - left / SECTOR_SIZE as u64;
        }
        Ok(())
    }

    /// Reads bytes from any place, past every cache: for partition tables and superblocks. Thread context. Errors: `EIO`, also beyond the
    /// end; `ENOMEM`.
    pub fn read_bytes(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let block = u64::from(self.disk.limits().logical_block_size.max(SECTOR_SIZE as u32));
        let mut done = 0;
        while done < into.len() {
            let at = offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let first = at - at % block;
            let inside = (at - first) as usize;
            let wanted = (into.len() - done).min(PAGE_SIZE - inside);
            let length = ((inside + wanted) as u64).next_multiple_of(block) as u32;
            let frame = Frame::alloc(AllocFlags::empty())?;
            let segment = Segment { frame: frame.clone(), offset: 0, length };
            let sector = first / SECTOR_SIZE as u64;
            self.transfer(Operation::Read, BioFlags::empty(), sector, &[segment])?;
            frame.read(inside, into.get_mut(done..done + wanted).unwrap_or_default());
            done += wanted;
        }
        Ok(())
    }
}

/// Where somebody waits for a transfer.
pub(crate) struct Waiting(Arc<Outcome>);

struct Outcome {
    result: IrqSpinLock<Option<Result<()>>>,
    done: WaitQueue,
}

impl Waiting {
    pub(crate) fn new() -> Waiting {
        Waiting(Arc::new(Outcome { result: IrqSpinLock::new(None), done: WaitQueue::new() }))
    }

    /// What the transfer is to call.
    pub(crate) fn completion(&self) -> crate::Completion {
        let told = self.0.clone();
        Box::new(move |result| {
            *told.result.lock() = Some(result);
            told.done.wake_all();
        })
    }

    /// Its result, when it is there.
    pub(crate) fn wait(&self) -> Result<()> {
        let _io = sched::thread::try_current().map(|_| sched::sleep::io_wait());
        let there = || *self.0.result.lock();
        let waited = self.0.done.wait_until(WaitKind::Uninterruptible, None, there);
        waited.unwrap_or(Err(Errno::EIO))
    }
}
