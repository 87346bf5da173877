//! Device nodes: a disk or a partition as an open file.
//!
//! Key types: [`Nodes`] (what open(2) finds by number), [`Opened`] (an open file). Reads and writes go through the page cache of the
//! device (`contents`), or past it with `O_DIRECT` (`direct`). Neighbours: `ioctl`. Locks: a write holds the device's writer lock
//! (sleeping), inside the offset's, outside the cache's.

use crate::claim::Claim;
use crate::contents::User;
use crate::device::BlockDevice;
use crate::swap::SwapBlocks;
use crate::{SECTOR_SIZE, direct, ioctl, registry};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use alloc::sync::Arc;
use mm::PageCache;
use mm::io::{IoReader, IoWriter, Limited};
use mm::page_cache::MappedFile;
use mm::swap::SwapStore;
use vfs::chardev::Device;
use vfs::{Allocate, DeviceId, File, FileOperations, SeekFrom, SyncKind};

/// The driver of a major number's nodes.
pub(crate) struct Nodes(&'static str);

impl Nodes {
    pub(crate) fn new(name: &'static str) -> Nodes {
        Nodes(name)
    }
}

impl Device for Nodes {
    fn name(&self) -> &str {
        self.0
    }

    /// Errors: `ENXIO`: no such device; `EBUSY`: `O_EXCL`, and a file system has it.
    fn open(&self, id: DeviceId, file: &File) -> Result<Arc<dyn FileOperations>> {
        let device = registry::find(id).ok_or(Errno::ENXIO)?;
        let user = User::new(&device)?;
        let alone = file.flags().contains(OpenFlags::EXCL);
        let claim = if alone { Some(device.claim("exclusive open")?) } else { None };
        let cache = user.cache();
        Ok(Arc::new(Opened { device, cache, claim, _user: user }))
    }
}

/// An open disk or partition.
pub(crate) struct Opened {
    pub(crate) device: Arc<BlockDevice>,
    pub(crate) cache: Arc<PageCache>,
    /// With `O_EXCL`.
    pub(crate) claim: Option<Claim>,
    _user: User,
}

impl Opened {
    /// Writes what is dirty, and waits until it is on stable storage.
    pub(crate) fn write_out(&self) -> Result<()> {
        let written = self.cache.sync(0..u64::MAX);
        let flushed = self.device.flush();
        written.and(flushed)
    }
}

/// Whether a description goes past the page cache.
fn is_direct(file: &File) -> bool {
    file.flags().contains(OpenFlags::DIRECT)
}

impl FileOperations for Opened {
    fn page_cache<'a>(&'a self, _file: &'a File) -> Option<&'a Arc<PageCache>> {
        Some(&self.cache)
    }

    fn read(&self, file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        if is_direct(file) {
            return direct::read(&self.device, &self.cache, to, offset);
        }
        self.cache.read_ahead_of(file.read_ahead(), offset, to)
    }

    /// Errors: `EPERM`: it is read-only; `ENOSPC`: at the end.
    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        if self.device.is_read_only() {
            return Err(Errno::EPERM);
        }
        if from.remaining() == 0 {
            return Ok(0);
        }
        let size = self.device.size();
        let room = size.checked_sub(offset).filter(|room| *room > 0).ok_or(Errno::ENOSPC)?;
        let left = from.remaining().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut from = Limited { from, left };
        let _writer = self.device.contents.writer.lock();
        if is_direct(file) {
            direct::write(&self.device, &self.cache, &mut from, offset)
        } else {
            self.cache.write(offset, &mut from)
        }
    }

    /// There is nothing beyond the end, and there are no holes.
    fn seek(&self, _file: &File, from: SeekFrom, current: u64) -> Result<u64> {
        let size = self.device.size();
        let (base, offset) = match from {
            SeekFrom::Start(offset) => (0, offset),
            SeekFrom::Current(offset) => (current, offset),
            SeekFrom::End(offset) => (size, offset),
            SeekFrom::Data(_) | SeekFrom::Hole(_) => return Err(Errno::EINVAL),
        };
        base.checked_add_signed(offset).filter(|position| *position <= size).ok_or(Errno::EINVAL)
    }

    fn can_poll(&self) -> bool {
        false
    }

    fn map(&self, file: &Arc<File>) -> Result<Arc<dyn MappedFile>> {
        Ok(vfs::mapping::map_cache(file, self.cache.clone()))
    }

    fn sync(&self, _file: &File, _kind: SyncKind) -> Result<()> {
        self.write_out()
    }

    /// Errors: `EBUSY`: it is somebody's; `EACCES`: it cannot be written.
    fn swap_store(&self, _file: &File) -> Result<Arc<dyn SwapStore>> {
        Ok(machine::memory::try_arc(SwapBlocks::of_device(&self.device)?)?)
    }

    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        ioctl::ioctl(self, file, command, argument)
    }

    /// Zeros by whatever way the device has, or a hole if it has a command for zeros. Errors: `EOPNOTSUPP`; `EINVAL`: not in whole blocks, or beyond the end.
    fn allocate(&self, _file: &File, what: Allocate, offset: u64, length: u64) -> Result<()> {
        if !matches!(what, Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize) {
            return Err(Errno::EOPNOTSUPP);
        }
        if what == Allocate::PunchHole {
            // Zeros that are written are no hole.
            self.device.disk().check_supported(crate::Operation::WriteZeroes)?;
        }
        let size = self.device.size();
        let mut end = offset.checked_add(length).ok_or(Errno::EINVAL)?;
        if offset >= size || end > size && what == Allocate::Zero {
            return Err(Errno::EINVAL);
        }
        end = end.min(size);
        let block = u64::from(self.device.disk().limits().logical_block_size);
        if !offset.is_multiple_of(block) || !end.is_multiple_of(block) {
            return Err(Errno::EINVAL);
        }
        self.change_past_cache(offset..end, |device, sector, sectors| device.write_zeroes(sector, sectors))
    }
}

impl Opened {
    /// Changes a range of bytes, in whole sectors, on the device itself, so that the cache knows nothing older afterwards.
    pub(crate) fn change_past_cache(
        &self,
        range: core::ops::Range<u64>,
        change: impl FnOnce(&BlockDevice, u64, u64) -> Result<()>,
    ) -> Result<()> {
        const SECTOR: u64 = SECTOR_SIZE as u64;
        if self.device.is_read_only() {
            return Err(Errno::EPERM);
        }
        let _writer = self.device.contents.writer.lock();
        self.cache.sync(range.clone())?;
        direct::forget(&self.cache, range.clone());
        let done = change(&self.device, range.start / SECTOR, (range.end - range.start) / SECTOR);
        direct::forget(&self.cache, range);
        done
    }
}
