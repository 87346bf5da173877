//! One transfer between memory and a block device.
//!
//! Key types: [`Bio`], [`Segment`]. A bio that is dropped without having been completed completes with `EIO`, so that nobody waits for ever.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bitflags::bitflags;
use machine::memory::Frame;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// From the device into the segments.
    Read,
    /// From the segments to the device.
    Write,
    /// What was written before and completed is on stable storage afterwards.
    Flush,
    /// The contents are not needed any more.
    Discard,
    /// Zeros, without segments.
    WriteZeroes,
}

bitflags! {
    /// How it is to be done.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct BioFlags: u32 {
        /// The device's cache is flushed before the write.
        const PREFLUSH = 1;
        /// The write is on stable storage when it completes.
        const FUA = 2;
        /// Somebody waits for it.
        const SYNC = 4;
        /// It is a file system's metadata.
        const METADATA = 8;
        /// Nobody has asked for it yet: it may fail when the queue is full.
        const READ_AHEAD = 16;
    }
}

/// A part of a page of memory.
#[derive(Clone)]
pub struct Segment {
    /// The page.
    pub frame: Frame,
    /// Where the part begins, bytes.
    pub offset: u32,
    /// How long it is, bytes; a multiple of the device's logical block size.
    pub length: u32,
}

/// Called once with the outcome, in any context, interrupts perhaps off: must not sleep.
pub type Completion = Box<dyn FnOnce(Result<()>) + Send>;

/// A transfer.
pub struct Bio {
    /// What is to be done.
    pub operation: Operation,
    /// How.
    pub flags: BioFlags,
    /// The first sector, of the device that it is given to.
    pub sector: u64,
    /// How many sectors; 0 for a flush.
    pub sectors: u64,
    /// The memory, in the order of the sectors; empty for what moves none.
    pub segments: Vec<Segment>,
    /// The device cannot do what `FUA` asks for: its cache is flushed before this completes.
    pub(crate) flush_after: bool,
    completion: Option<Completion>,
}

impl Bio {
    /// A transfer of nothing yet.
    pub fn new(operation: Operation, sector: u64, completion: Completion) -> Bio {
        let flags = BioFlags::empty();
        let completion = Some(completion);
        Bio { operation, flags, sector, sectors: 0, segments: Vec::new(), flush_after: false, completion }
    }

    /// Adds memory at the end. Errors: `ENOMEM`.
    pub fn push(&mut self, segment: Segment) -> Result<()> {
        self.segments.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.sectors += u64::from(segment.length) / crate::SECTOR_SIZE as u64;
        self.segments.push(segment);
        Ok(())
    }

    /// Its memory, all at once.
    pub fn set_segments(&mut self, segments: Vec<Segment>) {
        let bytes: u64 = segments.iter().map(|segment| u64::from(segment.length)).sum();
        self.sectors = bytes / crate::SECTOR_SIZE as u64;
        self.segments = segments;
    }

    /// It is done.
    pub fn complete(mut self, result: Result<()>) {
        if let Some(completion) = self.completion.take() {
            completion(result);
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        if let Some(completion) = self.completion.take() {
            completion(Err(Errno::EIO));
        }
    }
}
