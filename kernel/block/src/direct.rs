//! `O_DIRECT` on a device: past the page cache, in agreement with it.
//!
//! What the cache has dirty in the range is written first; what it has of the range is dropped after a write. Memory of
//! programs is not lent to the device: bytes go through pages of the kernel's own, up to [`PAGES_AT_ONCE`] at a time
//! ([ADR 97](../../../docs/adr/0097-direct-transfers-bounce.md)). Locks: a writer holds the device's (see `node`).

use crate::SECTOR_SIZE;
use crate::bio::{BioFlags, Operation, Segment};
use crate::device::BlockDevice;
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use mm::PageCache;
use mm::io::{IoReader, IoWriter};

/// The most pages that one transfer moves.
const PAGES_AT_ONCE: usize = 256;

/// Memory for `bytes`. Errors: `ENOMEM`.
fn allocate(bytes: usize) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    segments.try_reserve_exact(bytes.div_ceil(PAGE_SIZE)).map_err(|_| Errno::ENOMEM)?;
    let mut left = bytes;
    while left > 0 {
        let length = left.min(PAGE_SIZE);
        let frame = Frame::alloc(AllocFlags::empty())?;
        segments.push(Segment { frame, offset: 0, length: length as u32 });
        left -= length;
    }
    Ok(segments)
}

/// Errors: `EINVAL`: not in whole blocks.
fn check_blocks(device: &BlockDevice, offset: u64, bytes: usize) -> Result<()> {
    let block = u64::from(device.disk().limits().logical_block_size);
    let whole = offset.is_multiple_of(block) && (bytes as u64).is_multiple_of(block);
    if whole { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Drops what the cache has of a range of bytes, mapped or not. It is clean, or has been written elsewhere. What is stored through a mapping
/// meanwhile stays: whichever of the two comes to the device last is what it has.
pub(crate) fn forget(cache: &PageCache, range: Range<u64>) {
    let _ = cache.evict(range);
}

/// What is left to do after an error: nothing if something was done.
fn progress_or(done: usize, error: Errno) -> Result<usize> {
    if done > 0 { Ok(done) } else { Err(error) }
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
        let part = (wanted - done).min(PAGES_AT_ONCE * PAGE_SIZE);
        let at = offset + done as u64;
        match read_part(device, cache, to, at, part) {
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
    let segments = allocate(bytes)?;
    device.transfer(Operation::Read, BioFlags::empty(), at / SECTOR_SIZE as u64, &segments)?;
    let mut done = 0;
    for segment in &segments {
        match to.write_frame(&segment.frame, 0, segment.length as usize) {
            Ok(count) if count == segment.length as usize => done += count,
            Ok(count) => return Ok(done + count),
            Err(error) => return progress_or(done, error),
        }
    }
    Ok(done)
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
        let part = (wanted - done).min(PAGES_AT_ONCE * PAGE_SIZE);
        let at = offset + done as u64;
        match write_part(device, cache, from, at, part) {
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
    let segments = allocate(bytes)?;
    for segment in &segments {
        let length = segment.length as usize;
        if from.read_frame(&segment.frame, 0, length)? < length {
            return Err(Errno::EFAULT);
        }
    }
    let range = at..at + bytes as u64;
    cache.sync(range.clone())?;
    forget(cache, range.clone());
    let written = device.transfer(Operation::Write, BioFlags::empty(), at / SECTOR_SIZE as u64, &segments);
    forget(cache, range);
    written
}
