//! Filling pages of files from the device.
//!
//! Key type: [`FilePager`]. A run of pages that lies in one piece goes to the device as one transfer; a page in pieces (blocks smaller than
//! pages) is read piece by piece. Locks: the body's map, to read, not held during a transfer.

use crate::body::{Body, State};
use abi::errno::Result;
use alloc::sync::Arc;
use block::{BioFlags, Operation, Segment};
use machine::PAGE_SIZE;
use machine::memory::Frame;
use mm::{BackingDevice, Fill, Pager, Retention};

/// The pager of a regular file.
pub struct FilePager {
    body: Arc<Body>,
}

impl FilePager {
    /// That of a body.
    pub fn new(body: Arc<Body>) -> FilePager {
        FilePager { body }
    }

    /// Fills one page, piece by piece, and waits.
    fn fill_page(&self, index: u64, frame: &Frame) -> Result<()> {
        let body = &self.body;
        let size = crate::node::disk_size(body);
        let start = index * PAGE_SIZE as u64;
        if body.is_inline() {
            frame.zero();
            if index == 0 {
                let length = size.min(PAGE_SIZE as u64).min(u64::from(body.fs.geometry.block_size));
                frame.write(0, &crate::inline::read(body, length as usize)?);
            }
            return Ok(());
        }
        let bits = body.fs.geometry.block_bits;
        let per_page = (PAGE_SIZE >> bits) as u32;
        let first = (start >> bits) as u32;
        let mut at = 0;
        while at < per_page {
            let mapping = body.find(first + at, per_page - at)?;
            let (offset, length) = ((at as usize) << bits, (mapping.length as usize) << bits);
            match mapping.state {
                State::Written(place) => {
                    let segment =
                        Segment { frame: frame.clone(), offset: offset as u32, length: length as u32 };
                    let sector = place << (bits - 9);
                    body.fs.device.transfer(Operation::Read, BioFlags::empty(), sector, &[segment])?;
                }
                State::Hole | State::Unwritten(_) => frame.zero_range(offset, length),
            }
            at += mapping.length.max(1);
        }
        let end = size.saturating_sub(start);
        if end < PAGE_SIZE as u64 {
            frame.zero_range(end as usize, PAGE_SIZE - end as usize);
        }
        Ok(())
    }
}

impl Pager for FilePager {
    fn retention(&self) -> Retention {
        Retention::Reloadable
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        Some(self.body.fs.backing.clone())
    }

    fn read_pages(&self, mut fill: Fill) {
        while !fill.frames().is_empty() {
            let rest = fill.split_off(1);
            let result = fill.frames().first().map_or(Ok(()), |frame| self.fill_page(fill.first(), frame));
            fill.complete(result);
            fill = rest;
        }
    }
}
