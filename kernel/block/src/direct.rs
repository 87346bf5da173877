//! `O_DIRECT` on a device: past the page cache, in agreement with it.
//!
//! What the cache has dirty in the range is written first; what it has of the range is dropped after a write. Memory of
//! programs is lent to the device where that can be: see [`DirectMemory`]. Locks: a writer holds the device's (see `node`).

use crate::SECTOR_SIZE;
use crate::bio::Operation;
use crate::device::BlockDevice;
use crate::direct_memory::{DirectMemory, check_blocks, progress_or};
use abi::errno::Result;
use core::ops::Range;
use mm::PageCache;
use mm::io::{IoReader, IoWriter};

/// Drops what the cache has of a range of bytes, mapped or not. It is clean, or has been written elsewhere. What is stored through a mapping
/// meanwhile stays: whichever of the two comes to the device last is what it has.
pub(crate) fn forget(cache: &PageCache, range: Range<u64>) {
    let _ = cache.evict(range);
}

/// Reads at `offset`. Errors: `EINVAL`: not in whole blocks; `EFAULT`, `ENOMEM`, `EIO` if nothing was read.
pub(crate) fn read(
    device: &BlockDevice,
    cache: &PageCache,
    to: &mut dyn IoWriter,
    offset: u64,
) -> Result<usize> {
    let wanted = to.remaining();
    check_blocks(device, offset, wanted)?;
    let left = usize::try_from(device.size().saturating_sub(offset)).unwrap_or(usize::MAX);
    let wanted = wanted.min(left);
    let mut done = 0;
    while done < wanted {
        let part = (wanted - done).min(DirectMemory::MOST_BYTES);
        match read_part(device, cache, to, offset + done as u64, part) {
            Ok(count) => {
                done += count;
                if count < part {
                    break;
                }
            }
            Err(error) => return progress_or(done, error),
        }
    }
    Ok(done)
}

fn read_part(
    device: &BlockDevice,
    cache: &PageCache,
    to: &mut dyn IoWriter,
    at: u64,
    bytes: usize,
) -> Result<usize> {
    cache.sync(at..at + bytes as u64)?;
    let memory = DirectMemory::to_read(to, bytes)?;
    memory.transfer(device, Operation::Read, at / SECTOR_SIZE as u64, 0..bytes)?;
    memory.give(to, bytes)
}

/// Writes at `offset`; the caller holds the device's writer lock. Errors: `EINVAL`: not in whole blocks; `EFAULT`, `ENOMEM`, `EIO` if nothing was
/// written.
pub(crate) fn write(
    device: &BlockDevice,
    cache: &PageCache,
    from: &mut dyn IoReader,
    offset: u64,
) -> Result<usize> {
    let wanted = from.remaining();
    check_blocks(device, offset, wanted)?;
    let mut done = 0;
    while done < wanted {
        let part = (wanted - done).min(DirectMemory::MOST_BYTES);
        match write_part(device, cache, from, offset + done as u64, part) {
            Ok(()) => done += part,
            Err(error) => return progress_or(done, error),
        }
    }
    Ok(done)
}

fn write_part(
    device: &BlockDevice,
    cache: &PageCache,
    from: &mut dyn IoReader,
    at: u64,
    bytes: usize,
) -> Result<()> {
    let memory = DirectMemory::to_write(from, bytes)?;
    let range = at..at + bytes as u64;
    cache.sync(range.clone())?;
    forget(cache, range.clone());
    let written = memory.transfer(device, Operation::Write, at / SECTOR_SIZE as u64, 0..bytes);
    forget(cache, range);
    written
}
