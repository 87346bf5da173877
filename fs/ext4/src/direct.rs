//! `O_DIRECT` on regular files: past the page cache, in agreement with it.
//!
//! What the cache has dirty in the range is written first; what it has of the range is dropped before and after a write. Only blocks that have
//! their place and hold something are written so: what makes a file longer or fills a hole gets its place from the cache's write-back, and is
//! synced there by `regular`.
//!
//! Locks: the caller holds the inode's, to read at least: blocks are only added to the map meanwhile, none is taken away. [`Body::layout`] is not
//! held: copying from and to a program may fault on a page of this very file, which takes it.

use crate::body::{Body, Mapping, State};
use abi::errno::{Errno, Result};
use block::Operation;
use block::direct_memory::{DirectMemory, progress_or};
use core::ops::Range;
use mm::PageCache;
use mm::io::{IoReader, IoWriter};

/// A run of bytes that lie together on the device, or nowhere.
struct Run {
    state: State,
    /// The first byte's distance from the start of its block.
    within: u64,
    bytes: u64,
}

/// What is at the start of a range of bytes.
fn run_at(body: &Body, range: &Range<u64>) -> Result<Run> {
    let bits = body.fs.geometry.block_bits;
    let block = u32::try_from(range.start >> bits).map_err(|_| Errno::EFBIG)?;
    let most = body.blocks_of(range.end) - u64::from(block);
    let Mapping { length, state, .. } = body.find(block, u32::try_from(most).unwrap_or(u32::MAX))?;
    let within = range.start - (u64::from(block) << bits);
    let bytes = (u64::from(length.max(1)) << bits) - within;
    Ok(Run { state, within, bytes: bytes.min(range.end - range.start) })
}

/// Whether all of a range has its place and holds something.
pub fn can_overwrite(body: &Body, cache: &PageCache, range: Range<u64>) -> Result<bool> {
    if body.is_inline() || body.journals_data() || range.end > cache.size() {
        return Ok(false);
    }
    let mut left = range;
    while !left.is_empty() {
        let run = run_at(body, &left)?;
        if !matches!(run.state, State::Written(_)) {
            return Ok(false);
        }
        left.start += run.bytes;
    }
    Ok(true)
}

/// Moves a range of bytes between memory and the device, run by run; what has no place reads as zeros.
fn transfer(body: &Body, memory: &DirectMemory, operation: Operation, range: Range<u64>) -> Result<()> {
    let bits = body.fs.geometry.block_bits;
    let mut left = range.clone();
    while !left.is_empty() {
        let run = run_at(body, &left)?;
        let first = (left.start - range.start) as usize;
        let bytes = first..first + run.bytes as usize;
        match run.state {
            State::Written(place) => {
                let sector = (place << (bits - 9)) + (run.within >> 9);
                memory.transfer(&body.fs.device, operation, sector, bytes)?;
            }
            _ if operation == Operation::Read => memory.zero(bytes),
            _ => return Err(Errno::EUCLEAN),
        }
        left.start += run.bytes;
    }
    Ok(())
}

/// Reads whole blocks of the device at `offset`, up to the file's end. Errors: `EFAULT`, `ENOMEM`, `EIO`, `EUCLEAN` if nothing was read.
pub fn read(body: &Body, cache: &PageCache, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
    let block = u64::from(body.fs.device.disk().limits().logical_block_size);
    let mut done = 0;
    loop {
        let at = offset + done as u64;
        let left = usize::try_from(cache.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let part = to.remaining().min(left).min(DirectMemory::MOST_BYTES);
        if part == 0 {
            return Ok(done);
        }
        let range = at..(at + part as u64).next_multiple_of(block);
        let bytes = (range.end - range.start) as usize;
        let memory = cache.sync(range.clone()).and_then(|()| DirectMemory::to_read(to, bytes));
        let given = memory.and_then(|memory| {
            transfer(body, &memory, Operation::Read, range)?;
            // What lies behind the file's end is nobody's business.
            memory.zero(part..bytes);
            memory.give(to, part)
        });
        match given {
            Ok(count) if count == part => done += count,
            Ok(count) => return Ok(done + count),
            Err(error) => return progress_or(done, error),
        }
    }
}

/// Writes over what [can be written over](can_overwrite). Errors: `EFAULT`, `ENOMEM`, `EIO`, `EROFS` if nothing was written.
pub fn overwrite(body: &Body, cache: &PageCache, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
    let mut done = 0;
    loop {
        let part = from.remaining().min(DirectMemory::MOST_BYTES);
        if part == 0 {
            return Ok(done);
        }
        let at = offset + done as u64;
        if let Err(error) = overwrite_part(body, cache, from, at..at + part as u64) {
            return progress_or(done, error);
        }
        done += part;
    }
}

fn overwrite_part(body: &Body, cache: &PageCache, from: &mut dyn IoReader, range: Range<u64>) -> Result<()> {
    let memory = DirectMemory::to_write(from, (range.end - range.start) as usize)?;
    cache.sync(range.clone())?;
    // What is stored through a mapping meanwhile stays: whichever of the two comes to the device last is what it has.
    let _ = cache.evict(range.clone());
    let written = transfer(body, &memory, Operation::Write, range.clone());
    let _ = cache.evict(range);
    written
}
