//! Swap space on a device: all of it, or the blocks of a file on it.
//!
//! Key types: [`SwapBlocks`] (a [`SwapStore`]), [`Extent`]. A transfer becomes one bio, or one for each extent that it touches. Locks: none here.

use crate::SECTOR_SIZE;
use crate::bio::{Bio, BioFlags, Operation, Segment};
use crate::claim::Claim;
use crate::device::BlockDevice;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use machine::PAGE_SIZE;
use mm::swap::{Direction, SwapStore, Transfer};

const PAGE_SECTORS: u64 = (PAGE_SIZE / SECTOR_SIZE) as u64;

/// Neighbouring pages that are neighbours on the device too.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first page, of the swap area.
    pub first: u64,
    /// How many.
    pub pages: u64,
    /// Where the first is on the device.
    pub sector: u64,
}

/// Where swap space lies on a device.
pub struct SwapBlocks {
    device: Arc<BlockDevice>,
    /// In the order of the pages, without holes.
    extents: Vec<Extent>,
    /// What keeps the place from being used otherwise: a claim, or an open file.
    _holder: Box<dyn Any + Send + Sync>,
}

impl SwapBlocks {
    /// All of a device, which is nobody else's from now on. Errors: `EBUSY`, `ENXIO`, `EACCES`: it cannot be written; `ENOMEM`.
    pub fn of_device(device: &Arc<BlockDevice>) -> Result<SwapBlocks> {
        if device.is_read_only() {
            return Err(Errno::EACCES);
        }
        let claim: Claim = device.claim("swap")?;
        let extent = Extent { first: 0, pages: device.sectors() / PAGE_SECTORS, sector: 0 };
        let mut extents = Vec::new();
        extents.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        extents.push(extent);
        Ok(SwapBlocks { device: device.clone(), extents, _holder: Box::new(claim) })
    }

    /// The blocks of a file: `extents` in the order of its pages, from page 0 on without holes; `holder` keeps them the file's, and where they are.
    /// Errors: `EINVAL`: there are holes.
    pub fn of_file(
        device: &Arc<BlockDevice>,
        extents: Vec<Extent>,
        holder: Box<dyn Any + Send + Sync>,
    ) -> Result<SwapBlocks> {
        let mut next = 0;
        for extent in &extents {
            if extent.first != next || extent.pages == 0 {
                return Err(Errno::EINVAL);
            }
            next += extent.pages;
        }
        Ok(SwapBlocks { device: device.clone(), extents, _holder: holder })
    }

    /// The extent that a page is in.
    fn extent_of(&self, page: u64) -> Option<&Extent> {
        let after = self.extents.partition_point(|extent| extent.first <= page);
        self.extents.get(after.checked_sub(1)?).filter(|extent| page < extent.first + extent.pages)
    }

    fn start_one(&self, sector: u64, transfer: Transfer) {
        let operation = match transfer.direction() {
            Direction::In => Operation::Read,
            Direction::Out => Operation::Write,
        };
        let mut segments = Vec::new();
        if segments.try_reserve_exact(transfer.frames().len()).is_err() {
            return transfer.complete(Err(Errno::ENOMEM));
        }
        let whole = |frame: &machine::memory::Frame| Segment {
            frame: frame.clone(),
            offset: 0,
            length: PAGE_SIZE as u32,
        };
        segments.extend(transfer.frames().iter().map(whole));
        let mut bio = Bio::new(operation, sector, Box::new(move |result| transfer.complete(result)));
        bio.set_segments(segments);
        bio.flags = BioFlags::SYNC;
        self.device.submit(bio);
    }
}

impl SwapStore for SwapBlocks {
    fn pages(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.first + last.pages)
    }

    fn start(&self, mut transfer: Transfer) {
        while !transfer.frames().is_empty() {
            let first = transfer.first();
            let Some(extent) = self.extent_of(first) else { return transfer.complete(Err(Errno::EIO)) };
            let inside = first - extent.first;
            let here = usize::try_from(extent.pages - inside).unwrap_or(usize::MAX);
            let rest = transfer.split_off(here);
            self.start_one(extent.sector + inside * PAGE_SECTORS, transfer);
            transfer = rest;
        }
    }

    fn discard(&self, pages: Range<u64>) {
        let mut at = pages.start;
        while at < pages.end
            && let Some(extent) = self.extent_of(at)
        {
            let end = pages.end.min(extent.first + extent.pages);
            let sector = extent.sector + (at - extent.first) * PAGE_SECTORS;
            // A device that cannot is none the worse.
            let _ = self.device.discard(sector, (end - at) * PAGE_SECTORS);
            at = end;
        }
    }
}
