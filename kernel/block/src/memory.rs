//! A disk in memory, which does everything at once: for tests of what is above.
//!
//! Key type: [`MemoryDisk`]. Locks: the contents have one spin lock, a leaf.

use crate::SECTOR_SIZE;
use crate::bio::Operation;
use crate::driver::{Driver, Limits, Request};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::SpinLock;

/// The contents of a disk.
pub struct MemoryDisk {
    bytes: SpinLock<Vec<u8>>,
}

impl MemoryDisk {
    /// A disk with these contents, whose length is a multiple of a sector's.
    pub fn new(bytes: Vec<u8>) -> Arc<MemoryDisk> {
        Arc::new(MemoryDisk { bytes: SpinLock::new(bytes) })
    }

    /// A copy of the contents.
    pub fn contents(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    fn carry_out(&self, request: &Request) -> Result<()> {
        let mut bytes = self.bytes.lock();
        let first = request.sector as usize * SECTOR_SIZE;
        let end = first + request.sectors as usize * SECTOR_SIZE;
        let place = bytes.get_mut(first..end).ok_or(Errno::EIO)?;
        let mut at = 0;
        for segment in request.segments() {
            let piece = place.get_mut(at..at + segment.length as usize).ok_or(Errno::EIO)?;
            match request.operation {
                Operation::Read => segment.frame.write(segment.offset as usize, piece),
                _ => segment.frame.read(segment.offset as usize, piece),
            }
            at += piece.len();
        }
        if matches!(request.operation, Operation::WriteZeroes | Operation::Discard) {
            place.fill(0);
        }
        Ok(())
    }
}

impl Driver for MemoryDisk {
    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: 512,
            physical_block_size: 4096,
            max_sectors: 2048,
            max_segments: 256,
            max_segment_size: 4096,
            max_discard_sectors: u32::MAX,
            discard_granularity: 0,
            max_write_zeroes_sectors: u32::MAX,
            write_cache: false,
            fua: true,
            rotational: false,
        }
    }

    fn queue(&self, _queue: usize, request: Request) -> core::result::Result<(), Request> {
        let result = self.carry_out(&request);
        request.complete(result);
        Ok(())
    }

    fn kick(&self, _queue: usize) {}
}
