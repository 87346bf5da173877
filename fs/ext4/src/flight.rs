//! Contents of files on their way to the device, and what follows when they have arrived.
//!
//! Contents go first, what names them later: blocks are *claimed* in memory, written, and only then marked as used and put into the file's map, in
//! one handle. So a cut never shows what a block held before, and nothing has to be written when a transaction commits. The same handle
//! takes the file's size on the disk along.
//!
//! Key types: [`Flight`] (a run that is one piece of the device), [`Target`]. Neighbours: `pager` sends them, `worker` lands them.
//!
//! Locks: landing starts a handle, then takes the body's map. Nothing is held while a flight is under way but its note in
//! [`Body::in_flight`], which truncation waits for.

use crate::body::{Body, Map};
use crate::extents;
use crate::format::extent::Extent;
use crate::groups::{Claim, Contents};
use crate::indirect;
use crate::journal::Handle;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use machine::sync::atomic::Ordering;
use mm::WriteBack;

/// What the blocks are that are written to.
pub enum Target {
    /// In the map, and written before.
    InPlace,
    /// In the map, but read as zeros until now.
    Unwritten,
    /// Not in the map yet.
    Claimed(Claim),
}

/// See the head of this file.
pub struct Flight {
    /// Whose contents they are.
    pub body: Arc<Body>,
    /// The pages; `None` for a part of a page, whose sender waits.
    pub batch: Option<WriteBack>,
    /// The first block, in the file.
    pub block: u32,
    /// How many.
    pub length: u32,
    /// What they are.
    pub target: Target,
    /// The file is at least so long, bytes.
    pub end: u64,
    /// How the transfer ended.
    pub result: Result<()>,
    /// The next in the worker's list.
    pub next: Option<Box<Flight>>,
}

/// Blocks of a block map that are put in with one handle.
const MAPPED_AT_ONCE: u32 = 8;
/// The most blocks that landing a run changes: cutting and putting in an extent, a bitmap and its descriptor, the inode.
pub const CREDITS: u32 = 2 * extents::INSERT_CREDITS + 4;
/// As many for each block of a block map: three levels, each with a bitmap and descriptor.
const MAPPED_CREDITS: u32 = 3 * 3;

impl Flight {
    /// Brings it home: the map, the size, and word to those who wait. Thread context; the caller has no handle.
    pub fn land(mut self) -> Result<()> {
        let block = self.block;
        let (body, batch) = (self.body.clone(), self.batch.take());
        let result = self.result.and_then(|()| self.enter());
        body.end_flight(block);
        if let Err(error) = result {
            log::error!("ext4: inode {}: writing failed: {}", body.number, error.name());
        }
        if let Some(batch) = batch {
            batch.complete(result);
        }
        result
    }

    /// Puts the blocks into the map.
    fn enter(self) -> Result<()> {
        let Flight { body, mut block, length, target, end, .. } = self;
        match target {
            Target::InPlace => {}
            Target::Unwritten => return body.convert(block, length, end),
            Target::Claimed(claim) if body.has_extents() => return body.add_extent(block, claim, end),
            Target::Claimed(mut claim) => {
                while claim.length() > 0 {
                    let rest = claim.split_off(MAPPED_AT_ONCE);
                    let count = claim.length();
                    body.add_blocks(block, claim)?;
                    (block, claim) = (block + count, rest);
                }
            }
        }
        body.grow_to(end)
    }
}

/// Lands flights, the first to arrive first.
pub fn land_all(first: Box<Flight>) {
    let mut next = Some(first);
    while let Some(mut flight) = next {
        next = flight.next.take();
        // Who waits is told by the pages.
        let _ = flight.land();
    }
}

impl Body {
    /// Puts claimed blocks that have been written into the map, as one extent.
    fn add_extent(&self, block: u32, claim: Claim, end: u64) -> Result<()> {
        let mut handle = self.fs.start(CREDITS)?;
        let mut map = self.map.write();
        let extent = Extent { block, length: claim.length(), start: claim.start(), unwritten: false };
        claim.take(&mut handle)?;
        map.sectors += self.sectors_of(u64::from(extent.length));
        if let Err(error) = extents::insert(self, &mut map, &mut handle, extent) {
            self.give_back(&mut map, &mut handle, extent.start, extent.length);
            return Err(error);
        }
        self.goal.store(extent.start + u64::from(extent.length), Ordering::Relaxed);
        self.write_map_and_size(&mut handle, &map, end)
    }

    /// The same for a file with a block map; `claim` is short.
    fn add_blocks(&self, block: u32, claim: Claim) -> Result<()> {
        let (start, length) = (claim.start(), claim.length());
        let mut handle = self.fs.start(MAPPED_CREDITS * length + 4)?;
        let mut map = self.map.write();
        claim.take(&mut handle)?;
        self.put_mapped(&mut map, &mut handle, block, start, length)?;
        self.goal.store(start + u64::from(length), Ordering::Relaxed);
        self.write_map(&mut handle, &map)
    }

    /// Puts blocks that have been taken into a block map. What found no room there is freed; the caller writes the map only if all did.
    pub fn put_mapped(
        &self,
        map: &mut Map,
        handle: &mut Handle,
        block: u32,
        start: u64,
        length: u32,
    ) -> Result<()> {
        map.sectors += self.sectors_of(u64::from(length));
        for index in 0..length {
            let place = start + u64::from(index);
            if let Err(error) = indirect::insert(self, map, handle, block + index, place) {
                self.give_back(map, handle, place, length - index);
                // Some blocks, and blocks of pointers, have been put in.
                self.write_map(handle, map)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Frees blocks that found no place in the map.
    pub fn give_back(&self, map: &mut Map, handle: &mut Handle, start: u64, length: u32) {
        map.sectors = map.sectors.saturating_sub(self.sectors_of(u64::from(length)));
        if let Err(error) = self.fs.free_run(handle, start, length, Contents::Data) {
            self.fs.complain(error, format_args!("blocks {start}+{length} are lost"));
        }
    }

    /// What was unwritten has been written. Extent by extent, from the end: the map is whole between the steps.
    pub fn convert(&self, block: u32, length: u32, end: u64) -> Result<()> {
        let mut stop = u64::from(block) + u64::from(length);
        loop {
            let mut handle = self.fs.start(CREDITS)?;
            let mut map = self.map.write();
            let first = extents::convert_last(self, &mut map, &mut handle, block, stop)?;
            match first.filter(|extent| extent.block > block) {
                Some(extent) => stop = u64::from(extent.block),
                None => return self.write_map_and_size(&mut handle, &map, end),
            }
            self.write_map(&mut handle, &map)?;
        }
    }

    /// As much of `end` as the file has now: it may have been cut while it was written. The map is locked, as it is when a cut reaches the disk.
    pub fn within_file(&self, end: u64) -> u64 {
        self.page_cache().map_or(end, |cache| end.min(cache.size()))
    }

    /// Writes map, and size if the file grew. The map is locked.
    pub fn write_map_and_size(&self, handle: &mut Handle, map: &Map, end: u64) -> Result<()> {
        self.write_map(handle, map)?;
        let end = self.within_file(end);
        if end > self.disk_size.load(Ordering::Acquire) {
            self.write_size(handle, end)?;
        }
        Ok(())
    }

    /// The file is at least `end` bytes long on the disk.
    pub fn grow_to(&self, end: u64) -> Result<()> {
        if end <= self.disk_size.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut handle = self.fs.start(1)?;
        let _map = self.map.write();
        let end = self.within_file(end);
        if end > self.disk_size.load(Ordering::Acquire) {
            self.write_size(&mut handle, end)?;
        }
        Ok(())
    }
}
