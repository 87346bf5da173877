//! Ranges of a file as fallocate(2) changes them: room allotted, holes, and contents moved down or up in whole blocks.
//!
//! Key functions: [`allot`], [`punch_hole`], [`collapse`], [`insert`], [`hold_still`]; key type: [`Reads`].
//!
//! Moving contents changes no block of them, only where in the file each extent is. What is in memory from the range on goes first: it is written, so
//! that everything has its place, and dropped, since its numbers are about to mean something else. Then the extents are moved within one
//! handle, which is renewed only where a transaction cannot hold all of it: so a cut finds the file as it was before or after, and with very many
//! extents at worst some of them moved already and others not, which is a file all the same. The size is never less than what is there.
//!
//! Locks: the caller holds the inode's lock for writing. [`Body::layout`] (sleeping) is held to write by whoever takes blocks out of the map, moves them,
//! or puts some in that hold nothing yet, and to read by the pager while it decides where contents go: below the inode's lock, above
//! handles. The pager waits for it with pages locked or being written: who holds it to write must not wait for pages.

use crate::body::{Body, State};
use crate::extents::{self, Shift};
use crate::flight;
use crate::format::extent::{Extent, MAX_UNWRITTEN};
use crate::journal::Handle;
use crate::truncate;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::sync::atomic::{AtomicU32, Ordering};
use machine::sync::{RwLockWriteGuard, WaitKind, WaitQueue};
use mm::PageCache;

/// The most blocks that a step of moving changes: the ways to two places of the tree, and the inode.
const MOVE_CREDITS: u32 = 2 * extents::INSERT_CREDITS + 1;

/// How many reads of contents are under way whose place was found in the map.
#[derive(Default)]
pub struct Reads {
    count: AtomicU32,
    ended: WaitQueue,
}

/// One of them; dropping it, in any context, ends it.
pub struct Reading(Arc<Reads>);

impl Reads {
    /// One more begins. [`Body::layout`] is held to read.
    pub fn begin(self: &Arc<Self>) -> Reading {
        self.count.fetch_add(1, Ordering::Relaxed);
        Reading(self.clone())
    }

    /// Waits until none is under way. [`Body::layout`] is held to write: none begins.
    fn wait(&self) {
        let none = || (self.count.load(Ordering::Acquire) == 0).then_some(());
        let _ = self.ended.wait_until(WaitKind::Uninterruptible, None, none);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Release) == 1 {
            self.0.ended.wake_all();
        }
    }
}

/// Whether a page of `pages` is in memory and complete.
fn has_complete(cache: &PageCache, pages: &Range<u64>) -> bool {
    let mut from = pages.start;
    while let Some(index) = cache.next_resident(from).filter(|index| *index < pages.end) {
        if cache.lookup(index).is_some() {
            return true;
        }
        from = index + 1;
    }
    false
}

/// Holds the map still at a moment when nothing of `pages` is in memory. `let_go` drops them, waiting for what is under way: without the lock, so
/// programs may bring some back before it is taken, and that is then done again. A page that waits to be read is no obstacle: where it is read from
/// is found out afterwards.
///
/// Errors: `EINTR`: a signal came while programs touched the pages faster than they could be dropped; those of `let_go`.
fn hold_still<'a>(
    body: &'a Body,
    cache: &PageCache,
    pages: &Range<u64>,
    mut let_go: impl FnMut() -> Result<()>,
) -> Result<RwLockWriteGuard<'a, ()>> {
    loop {
        let_go()?;
        let layout = body.layout.write();
        body.reads.wait();
        cache.invalidate(pages.clone());
        if !has_complete(cache, pages) {
            return Ok(layout);
        }
        drop(layout);
        if sched::signal_pending() {
            return Err(Errno::EINTR);
        }
    }
}

/// Frees the whole blocks of a range and makes the rest zeros. Errors: `EIO`, `EROFS`, `EUCLEAN`, `EINTR`.
pub fn punch_hole(body: &Arc<Body>, cache: &PageCache, range: Range<u64>) -> Result<()> {
    let bits = body.fs.geometry.block_bits;
    let block_size = 1_u64 << bits;
    // Up to the end of the file's last block, if it reaches that far.
    let end = if range.end >= cache.size() {
        range.end.max(cache.size().next_multiple_of(block_size))
    } else {
        range.end
    };
    let blocks = range.start.div_ceil(block_size)..(end >> bits);
    if blocks.is_empty() {
        return cache.punch_hole(range);
    }
    let page = PAGE_SIZE as u64;
    let whole = range.start.div_ceil(page)..end / page;
    let _layout = hold_still(body, cache, &whole, || {
        cache.punch_hole(range.start..end)?;
        // The pages at the edges are not written again for this, and what waits for a commit is there already.
        cache.sync(range.start..range.start + 1)?;
        cache.sync(end.saturating_sub(1)..end)?;
        cache.sync(cache.size().saturating_sub(1)..cache.size())
    })?;
    body.wait_for_flights(u32::try_from(blocks.start).unwrap_or(u32::MAX));
    truncate::release(body, blocks, body.contents_kind())
}

/// Gives the holes of a range blocks that read as zeros. Errors: `ENOSPC`, `EFBIG`, `EIO`, `EROFS`, `EUCLEAN`.
pub fn allot(body: &Arc<Body>, range: Range<u64>) -> Result<()> {
    let bits = body.fs.geometry.block_bits;
    let (mut at, end) = (range.start >> bits, body.blocks_of(range.end));
    let _layout = body.layout.write();
    body.wait_for_flights(u32::try_from(at).unwrap_or(u32::MAX));
    let mut tried = false;
    while at < end {
        let block = u32::try_from(at).map_err(|_| Errno::EFBIG)?;
        let most = (end - at).min(u64::from(MAX_UNWRITTEN)) as u32;
        let mapping = body.find(block, most)?;
        if mapping.state != State::Hole {
            at += u64::from(mapping.length.max(1));
            continue;
        }
        match body.add_unwritten(block, mapping.length) {
            Ok(count) => at += u64::from(count),
            Err(Errno::ENOSPC) if !tried => {
                tried = true;
                body.fs.journal()?.force_commit()?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The blocks of a range that has to begin and end where blocks do. Errors: `EINVAL`, `EFBIG`.
fn whole_blocks(body: &Body, range: &Range<u64>) -> Result<Range<u32>> {
    let bits = body.fs.geometry.block_bits;
    if (range.start | range.end) & ((1 << bits) - 1) != 0 {
        return Err(Errno::EINVAL);
    }
    let block = |offset: u64| u32::try_from(offset >> bits).map_err(|_| Errno::EFBIG);
    Ok(block(range.start)?..block(range.end)?)
}

/// Whether a range can be cut out. Errors: `EINVAL`: not in whole blocks, or not before the end of the file.
pub fn check_collapse(body: &Body, cache: &PageCache, range: &Range<u64>) -> Result<()> {
    whole_blocks(body, range)?;
    if range.end < cache.size() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Whether a hole can be put in. Errors: `EINVAL`: not in whole blocks, or not before the end of the file, or blocks behind that would be moved too
/// far; `EFBIG`.
pub fn check_insert(body: &Body, cache: &PageCache, range: &Range<u64>, longest: u64) -> Result<()> {
    let blocks = whole_blocks(body, range)?;
    let length = range.end - range.start;
    if length > longest.saturating_sub(cache.size()) {
        return Err(Errno::EFBIG);
    }
    let end = extents::end(body, &body.map.read())? + u64::from(blocks.end - blocks.start);
    if range.start < cache.size() && end <= u64::from(u32::MAX) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Lets nothing of a file from `offset` on be in memory, and holds its map still.
fn empty_from<'a>(body: &'a Body, cache: &PageCache, offset: u64) -> Result<RwLockWriteGuard<'a, ()>> {
    let page = PAGE_SIZE as u64;
    let first = offset / page;
    hold_still(body, cache, &(first..u64::MAX), || {
        // All of it, so that a commit waits for nothing that waits for the map.
        cache.sync(0..u64::MAX)?;
        cache.punch_hole(first * page..u64::MAX)
    })
}

/// Moves extents step by step. Errors: those of the handle, `EUCLEAN`, `EIO`.
fn shift(body: &Body, handle: &mut Handle, mut shift: Shift) -> Result<()> {
    loop {
        renew(handle)?;
        let mut map = body.map.write();
        let moved = extents::shift(body, &mut map, handle, &mut shift)?;
        body.write_map(handle, &map)?;
        if !moved {
            return Ok(());
        }
    }
}

/// Has room for another step, in the same transaction if that can be.
fn renew(handle: &mut Handle) -> Result<()> {
    if handle.extend(MOVE_CREDITS)? { Ok(()) } else { handle.restart(MOVE_CREDITS) }
}

/// Cuts a range, which [can be](check_collapse), out of a file: what follows moves down. Errors: `EIO`, `EROFS`, `EUCLEAN`, `EINTR`, `ENOSPC`.
pub fn collapse(body: &Body, cache: &PageCache, range: Range<u64>) -> Result<()> {
    let blocks = whole_blocks(body, &range)?;
    let size = cache.size() - (range.end - range.start);
    {
        let _layout = empty_from(body, cache, range.start)?;
        body.wait_for_flights(blocks.start);
        let mut handle = body.fs.start(truncate::STEP_CREDITS)?;
        let cut = u64::from(blocks.start)..u64::from(blocks.end);
        truncate::release_in(body, &mut handle, cut, body.contents_kind())?;
        shift(body, &mut handle, Shift::down(blocks.end, blocks.end - blocks.start))?;
        renew(&mut handle)?;
        body.write_size(&mut handle, size)?;
    }
    cache.truncate(size)
}

/// Puts a hole into a file, which [can be](check_insert): what is there and behind moves up. Errors: `EIO`, `EROFS`, `EUCLEAN`, `EINTR`, `ENOSPC`.
pub fn insert(body: &Body, cache: &PageCache, range: Range<u64>) -> Result<()> {
    let blocks = whole_blocks(body, &range)?;
    let size = cache.size() + (range.end - range.start);
    let _layout = empty_from(body, cache, range.start)?;
    body.wait_for_flights(blocks.start);
    crate::names::with_room(&body.fs, || {
        let mut handle = body.fs.start(MOVE_CREDITS + 1)?;
        {
            let mut map = body.map.write();
            extents::split(body, &mut map, &mut handle, blocks.start)?;
            body.write_map(&mut handle, &map)?;
        }
        body.write_size(&mut handle, size)?;
        shift(body, &mut handle, Shift::up(blocks.start, blocks.end - blocks.start))
    })?;
    cache.extend_size(size);
    Ok(())
}

impl Body {
    /// Puts up to `wanted` blocks that hold nothing into a hole; gives how many. [`Body::layout`] is held.
    fn add_unwritten(&self, block: u32, wanted: u32) -> Result<u32> {
        let fs = &self.fs;
        let goal = self.goal_for(&self.map.read(), block);
        let claim = fs.claim_spare(goal, wanted)?;
        let extent = Extent { block, length: claim.length(), start: claim.start(), unwritten: true };
        let mut handle = fs.start(flight::CREDITS)?;
        let mut map = self.map.write();
        claim.take(&mut handle)?;
        map.sectors += self.sectors_of(u64::from(extent.length));
        if let Err(error) = extents::insert(self, &mut map, &mut handle, extent) {
            self.give_back(&mut map, &mut handle, extent.start, extent.length);
            return Err(error);
        }
        self.write_map(&mut handle, &map)?;
        // Dirty pages that waited for a place have one.
        self.unreserve_blocks(block, extent.length);
        Ok(extent.length)
    }
}
