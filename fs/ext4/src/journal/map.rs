//! Where the journal's blocks are on the device.
//!
//! Key type: [`JournalMap`]. Pure, no locks.

use abi::errno::{Errno, Result};
use alloc::vec::Vec;

/// The runs of blocks of the journal's inode, in order and without holes.
#[derive(Clone, Default, Debug)]
pub struct JournalMap {
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    blocks: u32,
    place: u64,
}

impl JournalMap {
    /// Nothing yet.
    pub fn new() -> JournalMap {
        JournalMap::default()
    }

    /// Adds the next run: `blocks` blocks that begin at the device's block `place`. Errors: `EUCLEAN`: more than a journal can have; `ENOMEM`.
    pub fn push(&mut self, blocks: u32, place: u64) -> Result<()> {
        let first = self.blocks();
        let fits = first.checked_add(blocks).is_some() && place.checked_add(u64::from(blocks)).is_some();
        if !fits || blocks == 0 {
            return Err(Errno::EUCLEAN);
        }
        self.runs.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.runs.push(Run { first, blocks, place });
        Ok(())
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u32 {
        self.runs.last().map_or(0, |last| last.first + last.blocks)
    }

    /// Where a block of the journal is, and how many follow it there, itself included. Errors: `EUCLEAN`: it has no such block.
    pub fn find(&self, block: u32) -> Result<(u64, u32)> {
        let after = self.runs.partition_point(|run| run.first <= block);
        let run = after.checked_sub(1).and_then(|index| self.runs.get(index)).ok_or(Errno::EUCLEAN)?;
        let within = block - run.first;
        if within >= run.blocks {
            return Err(Errno::EUCLEAN);
        }
        Ok((run.place + u64::from(within), run.blocks - within))
    }
}
