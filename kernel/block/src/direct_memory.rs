//! The memory of a transfer past the page cache ([ADR 97](../../../docs/adr/0097-direct-transfers-borrow.md)): the program's own, lent to the
//! device, or where it cannot be lent, pages of the kernel in its place.
//!
//! Key type: [`DirectMemory`]. It belongs to one transfer; nothing here is shared, and no lock is taken.

use crate::SECTOR_SIZE;
use crate::bio::{BioFlags, Operation, Segment};
use crate::device::BlockDevice;
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use mm::Lent;
use mm::io::{IoReader, IoWriter};

/// Pages, seen as a run of bytes.
pub enum DirectMemory {
    /// A program's.
    Lent(Lent),
    /// The kernel's: bytes are copied from or to the program's.
    Own(Vec<Frame>),
}

/// The parts of a range of bytes in its pages: the page, where in it, how many.
fn parts(range: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut at = range.start;
    core::iter::from_fn(move || {
        let offset = at % PAGE_SIZE;
        let length = (PAGE_SIZE - offset).min(range.end.saturating_sub(at));
        let page = at / PAGE_SIZE;
        at += length;
        (length > 0).then_some((page, offset, length))
    })
}

impl DirectMemory {
    /// The most bytes of one: longer transfers are made in steps.
    pub const MOST_BYTES: usize = 256 * PAGE_SIZE;

    /// Memory for the next `bytes` bytes that `to` takes, with whatever was there before. Errors: `ENOMEM`.
    pub fn to_read(to: &mut dyn IoWriter, bytes: usize) -> Result<DirectMemory> {
        match to.lend(bytes) {
            Some(lent) => Ok(DirectMemory::Lent(lent)),
            None => Self::own(bytes),
        }
    }

    /// The next `bytes` bytes of `from`, which are taken. Errors: `ENOMEM`; `EFAULT`, also if there are not as many.
    pub fn to_write(from: &mut dyn IoReader, bytes: usize) -> Result<DirectMemory> {
        if let Some(lent) = from.lend(bytes) {
            from.skip(bytes);
            return Ok(DirectMemory::Lent(lent));
        }
        let own = Self::own(bytes)?;
        for (page, offset, length) in parts(0..bytes) {
            let frame = own.frames().get(page).ok_or(Errno::EFAULT)?;
            if from.read_frame(frame, offset, length)? < length {
                return Err(Errno::EFAULT);
            }
        }
        Ok(own)
    }

    fn own(bytes: usize) -> Result<DirectMemory> {
        let mut frames = Vec::new();
        let pages = bytes.div_ceil(PAGE_SIZE);
        frames.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..pages {
            frames.push(Frame::alloc(AllocFlags::empty())?);
        }
        Ok(DirectMemory::Own(frames))
    }

    fn frames(&self) -> &[Frame] {
        match self {
            DirectMemory::Lent(lent) => lent.frames(),
            DirectMemory::Own(frames) => frames,
        }
    }

    /// Gives the program that it was made for the first `bytes` bytes; says how many it could take. Errors: `EFAULT`, `ENOMEM` if it took none.
    pub fn give(self, to: &mut dyn IoWriter, bytes: usize) -> Result<usize> {
        let frames = match self {
            DirectMemory::Lent(_) => {
                to.skip(bytes);
                return Ok(bytes);
            }
            DirectMemory::Own(frames) => frames,
        };
        let mut done = 0;
        for (page, offset, length) in parts(0..bytes) {
            let Some(frame) = frames.get(page) else { break };
            match to.write_frame(frame, offset, length) {
                Ok(count) if count == length => done += count,
                Ok(count) => return Ok(done + count),
                Err(error) => return progress_or(done, error),
            }
        }
        Ok(done)
    }

    /// Makes a range of its bytes zeros.
    pub fn zero(&self, range: Range<usize>) {
        for (page, offset, length) in parts(range) {
            if let Some(frame) = self.frames().get(page) {
                frame.zero_range(offset, length);
            }
        }
    }

    /// Reads a range of its bytes from `sector` on, or writes it there, and waits. Errors: `ENOMEM`, `EINVAL`: not in whole blocks, and the
    /// device's.
    pub fn transfer(
        &self,
        device: &BlockDevice,
        operation: Operation,
        sector: u64,
        range: Range<usize>,
    ) -> Result<()> {
        let mut segments = Vec::new();
        segments.try_reserve_exact(range.len() / PAGE_SIZE + 2).map_err(|_| Errno::ENOMEM)?;
        for (page, offset, length) in parts(range) {
            let frame = self.frames().get(page).ok_or(Errno::EINVAL)?.clone();
            segments.push(Segment { frame, offset: offset as u32, length: length as u32 });
        }
        device.transfer_all(operation, BioFlags::SYNC, sector, segments)
    }
}

/// What comes of a transfer that an error ends: how far it got, or the error.
pub fn progress_or(done: usize, error: Errno) -> Result<usize> {
    if done > 0 { Ok(done) } else { Err(error) }
}

/// Errors: `EINVAL`: not in whole blocks of the device.
pub fn check_blocks(device: &BlockDevice, offset: u64, bytes: usize) -> Result<()> {
    let block = u64::from(device.disk().limits().logical_block_size).max(SECTOR_SIZE as u64);
    let whole = offset.is_multiple_of(block) && (bytes as u64).is_multiple_of(block);
    if whole { Ok(()) } else { Err(Errno::EINVAL) }
}
