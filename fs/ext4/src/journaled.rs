//! Contents of files that go through the journal (`data=journal`, `chattr +j`): they and what names them survive a cut together.
//!
//! Key functions: [`Body::journals_data`], [`write()`], [`leading_uncached`]. A block of contents is a buffer then, as metadata is, in the transaction that puts it into
//! the map and makes the file longer. write(2) comes here before it returns, so that what programs write is kept in the order in
//! which they wrote it. Until a checkpoint the device does not have it: who reads looks for a buffer first. A block that is freed is revoked, as
//! metadata is.
//!
//! Locks: as `flight` and `pager`: the layout, to read, then a handle, then the body's map. A commit that waits for contents gets none from
//! here: what is to be in a transaction is put into it, not before it.

use crate::body::{Body, State};
use crate::extents;
use crate::flight;
use crate::format::Compatible;
use crate::format::extent::Extent;
use crate::format::inode::flag;
use crate::groups::Contents;
use crate::journal::Handle;
use crate::options::DataMode;
use abi::errno::{Errno, Result};
use machine::PAGE_SIZE;
use machine::memory::Frame;
use machine::sync::atomic::Ordering;
use mm::{WriteBack, WriteBackMode};

/// The most pages whose contents are in one handle.
const PAGES_AT_ONCE: usize = 16;
/// The most blocks of a run: of an extent, and of a block map.
const RUN: u32 = 64;
const MAPPED_RUN: u32 = 8;
/// The most blocks that a run changes besides its contents.
const RUN_CREDITS: u32 =
    if flight::CREDITS > MAPPED_RUN * 9 + 4 { flight::CREDITS } else { MAPPED_RUN * 9 + 4 };

impl Body {
    /// Whether its contents go through the journal.
    pub fn journals_data(&self) -> bool {
        let wanted = self.has_flags(flag::JOURNAL_DATA) || self.fs.options.read().data == DataMode::Journal;
        wanted && self.fs.geometry.compatible.contains(Compatible::HAS_JOURNAL)
    }

    /// What is to be done with its blocks when they are freed.
    pub fn contents_kind(&self) -> Contents {
        if self.journals_data() { Contents::Metadata } else { Contents::Data }
    }
}

/// How many of `pages` pages that lie together from block `place` on have no block in memory that the device may not have yet.
pub fn leading_uncached(body: &Body, place: u64, pages: usize) -> usize {
    let per_page = PAGE_SIZE as u64 >> body.fs.geometry.block_bits;
    let is_cached = |page: &usize| {
        let first = place + *page as u64 * per_page;
        (first..first + per_page).any(|block| body.fs.buffers.peek(block).is_some())
    };
    (0..pages).find(is_cached).unwrap_or(pages)
}

/// Reads blocks of contents into a page, from memory as far as they are there. Errors: `EIO`, `EUCLEAN`, `ENOMEM`.
pub fn read(body: &Body, frame: &Frame, offset: usize, place: u64, blocks: u32) -> Result<()> {
    let bits = body.fs.geometry.block_bits;
    for block in 0..blocks {
        let buffer = body.fs.read_block(place + u64::from(block))?;
        frame.write(offset + ((block as usize) << bits), &buffer.read());
    }
    Ok(())
}

/// Writes pages: into the running transaction, where they join what else the file system does.
pub fn write(body: &Body, mut batch: WriteBack) {
    if batch.mode() == WriteBackMode::Allotted {
        return batch.postpone();
    }
    let _layout = body.layout.read();
    loop {
        let rest = batch.split_off(PAGES_AT_ONCE);
        let result = write_pages(body, &batch);
        batch.complete(result);
        if rest.frames().is_empty() {
            return;
        }
        batch = rest;
    }
}

fn write_pages(body: &Body, batch: &WriteBack) -> Result<()> {
    let bits = body.fs.geometry.block_bits;
    let per_page = (PAGE_SIZE >> bits) as u32;
    let first = u32::try_from(batch.first() * u64::from(per_page)).map_err(|_| Errno::EFBIG)?;
    let behind = u64::from(first) + batch.frames().len() as u64 * u64::from(per_page);
    let mut handle = body.fs.start(RUN_CREDITS + RUN)?;
    let mut at = first;
    loop {
        if !handle.extend(RUN_CREDITS + RUN)? {
            handle.restart(RUN_CREDITS + RUN)?;
        }
        let Some((place, length)) = give_place(body, &mut handle, batch, at, behind)? else { break };
        for block in 0..length {
            let place = place + u64::from(block);
            let within = ((at + block - first) as usize) << bits;
            let frame = batch.frames().get(within / PAGE_SIZE).ok_or(Errno::EIO)?;
            let buffer = handle.create(place)?;
            handle.modify(&buffer, |bytes| frame.read(within % PAGE_SIZE, bytes))?;
        }
        body.unreserve_blocks(at, length);
        at += length;
    }
    body.unreserve_blocks(first, (behind - u64::from(first)) as u32);
    Ok(())
}

/// Puts the first of the blocks `at..behind` into the map as far as they lie together, and makes the file as long; `None`: the file ends before.
fn give_place(
    body: &Body,
    handle: &mut Handle,
    batch: &WriteBack,
    at: u32,
    behind: u64,
) -> Result<Option<(u64, u32)>> {
    let mut map = body.map.write();
    // It may have been cut since the write began.
    let size = body.within_file(batch.file_size());
    let end = body.blocks_of(size).min(behind);
    let most = end.saturating_sub(u64::from(at)).min(u64::from(RUN)) as u32;
    if most == 0 {
        return Ok(None);
    }
    let mapping = body.find_locked(&map, at, most)?;
    let (place, length) = match mapping.state {
        State::Written(place) => (place, mapping.length),
        State::Unwritten(_) => {
            let stop = u64::from(at) + u64::from(mapping.length);
            let extent = extents::convert_last(body, &mut map, handle, at, stop)?;
            let extent = extent.filter(|extent| extent.block == at).ok_or(Errno::EUCLEAN)?;
            (extent.start, extent.length)
        }
        State::Hole => {
            let most = if body.has_extents() { mapping.length } else { mapping.length.min(MAPPED_RUN) };
            let claim = body.fs.claim(body.goal_for(&map, at), most)?;
            let (start, length) = (claim.start(), claim.length());
            claim.take(handle)?;
            if body.has_extents() {
                map.sectors += body.sectors_of(u64::from(length));
                let extent = Extent { block: at, length, start, unwritten: false };
                if let Err(error) = extents::insert(body, &mut map, handle, extent) {
                    body.give_back(&mut map, handle, start, length);
                    return Err(error);
                }
            } else {
                body.put_mapped(&mut map, handle, at, start, length)?;
            }
            body.goal.store(start + u64::from(length), Ordering::Relaxed);
            (start, length)
        }
    };
    let end = size.min((u64::from(at) + u64::from(length)) << body.fs.geometry.block_bits);
    body.write_map_and_size(handle, &map, end)?;
    Ok(Some((place, length)))
}
