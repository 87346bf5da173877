//! The journal's blocks on the device: where they are, and its superblock.
//!
//! Key type: [`Log`]. Locks: [`Log::superblock`] (sleeping) keeps writes of it in order.

use super::batch::page;
use super::format::{Features, Layout, SuperBlock};
use super::{JournalMap, JournalOptions};
use crate::buffer::Buffers;
use abi::errno::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;
use block::{BioFlags, Operation, Segment};
use machine::memory::{AllocFlags, Frame};
use machine::sync::Mutex;

/// How many blocks recovery reads at once.
const WINDOW: u32 = 64;

/// A journal on a device.
pub struct Log {
    map: JournalMap,
    barriers: bool,
    /// The superblock as it is on the device.
    pub superblock: Mutex<Super>,
    /// How its blocks are written.
    pub layout: Layout,
    first: u32,
    end: u32,
}

/// A superblock and its bytes.
pub struct Super {
    /// What it says.
    pub parsed: SuperBlock,
    bytes: Vec<u8>,
}

impl Log {
    /// Reads the superblock. Errors: as [`SuperBlock::parse`]; `EUCLEAN`: the journal is longer than its file; `EIO`.
    pub fn open(buffers: &Buffers, map: JournalMap, barriers: bool) -> Result<Log> {
        let block_size = buffers.block_size();
        let mut bytes = vec![0; block_size as usize];
        let frames = read_run(buffers, map.find(0)?.0, 1)?;
        frames.first().ok_or(Errno::EIO)?.read(0, &mut bytes);
        let parsed = SuperBlock::parse(&bytes, block_size)?;
        if parsed.blocks > map.blocks() {
            return Err(Errno::EUCLEAN);
        }
        let (layout, first, end) = (parsed.layout(block_size), parsed.first, parsed.end);
        Ok(Log { map, barriers, superblock: Mutex::new(Super { parsed, bytes }), layout, first, end })
    }

    /// The block of the log after this one.
    pub fn after(&self, block: u32) -> u32 {
        if block + 1 >= self.end { self.first } else { block + 1 }
    }

    /// How many blocks of the log are between two places.
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { to + (self.end - self.first) - from }
    }

    /// How many blocks of the log a transaction of so many blocks takes at most.
    pub fn blocks_for(&self, blocks: u32) -> u32 {
        // Descriptors, the last of them not full, and the commit block.
        blocks + blocks / self.layout.tags() as u32 + 2
    }

    /// The log has something from `start` on, if the device does not know that it has. The commit block's flush comes after.
    pub fn begin_at(&self, buffers: &Buffers, start: u32, sequence: u32) -> Result<()> {
        if self.superblock.lock().parsed.start != 0 {
            return Ok(());
        }
        self.update(buffers, |parsed| (parsed.start, parsed.sequence) = (start, sequence))
    }

    /// Where a block of the log is on the device.
    pub fn place(&self, block: u32) -> Result<u64> {
        Ok(self.map.find(block)?.0)
    }

    /// The flags of a write that comes after everything before it and is on the disk when it ends.
    pub fn durable(&self) -> BioFlags {
        let order = if self.barriers { BioFlags::PREFLUSH | BioFlags::FUA } else { BioFlags::empty() };
        order | BioFlags::METADATA
    }

    /// Changes the superblock, on the device too. Everything written before is on the disk before it. Errors: `EIO`, `ENOMEM`.
    pub fn update(&self, buffers: &Buffers, change: impl FnOnce(&mut SuperBlock)) -> Result<()> {
        let mut guard = self.superblock.lock();
        let Super { parsed, bytes } = &mut *guard;
        change(parsed);
        parsed.write(bytes);
        self.write_block(buffers, 0, bytes)
    }

    /// Writes one block with [`Log::durable`].
    pub fn write_block(&self, buffers: &Buffers, block: u32, bytes: &[u8]) -> Result<()> {
        let frame = page()?;
        frame.write(0, bytes);
        let sector = buffers.sector(self.place(block)?);
        let segment = Segment { frame, offset: 0, length: buffers.block_size() };
        buffers.device().transfer(Operation::Write, self.durable(), sector, &[segment])
    }

    /// Puts in the features that the file system wants its journal to have. The log is empty. Errors: `EIO`, `ENOMEM`.
    pub fn set_features(&mut self, buffers: &Buffers, options: &JournalOptions) -> Result<()> {
        let has = self.superblock.lock().parsed.features;
        let mut wanted = has | Features::REVOKE;
        if options.wide {
            wanted |= Features::WIDE;
        }
        if options.checksums {
            wanted = (wanted - Features::CHECKSUM_2) | Features::CHECKSUM_3;
        }
        // Written here with a flush before every commit block; the mark would say otherwise.
        wanted -= Features::ASYNC_COMMIT;
        if wanted == has {
            return Ok(());
        }
        self.update(buffers, |parsed| parsed.features = wanted)?;
        self.layout = self.superblock.lock().parsed.layout(buffers.block_size());
        Ok(())
    }
}

/// Reads neighbouring blocks, each into a page.
fn read_run(buffers: &Buffers, block: u64, blocks: usize) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    let mut segments = Vec::new();
    for _ in 0..blocks {
        let frame = Frame::alloc(AllocFlags::empty()).map_err(|_| Errno::ENOMEM)?;
        segments.push(Segment { frame: frame.clone(), offset: 0, length: buffers.block_size() });
        frames.push(frame);
    }
    buffers.device().transfer(Operation::Read, BioFlags::METADATA, buffers.sector(block), &segments)?;
    Ok(frames)
}

/// Reads the log in order, some blocks ahead.
pub struct Reader<'a> {
    buffers: &'a Buffers,
    log: &'a Log,
    first: u32,
    frames: Vec<Frame>,
}

impl<'a> Reader<'a> {
    /// Has read nothing.
    pub fn new(buffers: &'a Buffers, log: &'a Log) -> Reader<'a> {
        Reader { buffers, log, first: 0, frames: Vec::new() }
    }

    /// Copies a block of the log. Errors: `EUCLEAN`: it has none such; `EIO`, `ENOMEM`.
    pub fn read(&mut self, block: u32, into: &mut [u8]) -> Result<()> {
        let within = |reader: &Reader<'_>| block.checked_sub(reader.first).map(|index| index as usize);
        if within(self).is_none_or(|index| index >= self.frames.len()) {
            let (place, follow) = self.log.map.find(block)?;
            let most = WINDOW.min(self.buffers.longest_run() as u32);
            self.frames = read_run(self.buffers, place, follow.min(most) as usize)?;
            self.first = block;
        }
        let frame = within(self).and_then(|index| self.frames.get(index)).ok_or(Errno::EIO)?;
        frame.read(0, into);
        Ok(())
    }
}
