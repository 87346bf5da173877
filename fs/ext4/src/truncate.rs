//! Taking blocks away from files: truncation, holes, and the end of a file.
//!
//! Key functions: [`release`], [`shrink`], [`remove`], [`clean_orphan`]. Each goes in steps of bounded size, each of which leaves a
//! consistent file; an inode that is being cut is an orphan meanwhile, so that a crash is followed by the rest of it.
//!
//! Locks: the caller holds the inode's lock, or nobody else knows the inode any more.

use crate::body::Body;
use crate::extents;
use crate::filesystem::{FileSystem, now_seconds};
use crate::format::CORRUPTED;
use crate::format::inode::InodeRef;
use crate::groups::Contents;
use crate::indirect;
use crate::journal::{Handle, OrderedData};
use crate::{allocate, orphans, xattrs};
use abi::errno::Result;
use alloc::sync::Arc;
use core::ops::Range;
use machine::sync::atomic::Ordering;
use vfs::{FileKind, SuperBlock};

/// Extents cut in one step.
const EXTENTS_A_STEP: usize = 4;
/// The longest piece of an extent that is revoked in one step: a few blocks of revoke records have all of the step's.
const REVOKED_AT_ONCE: u32 = 512;
/// Blocks of a block map removed in one step.
const BLOCKS_A_STEP: usize = 16;
/// The most blocks that a step changes: the tree, and bitmaps and descriptors of the groups that the extents lie in.
pub const STEP_CREDITS: u32 =
    extents::INSERT_CREDITS + EXTENTS_A_STEP as u32 * (2 * 5 + REVOKED_AT_ONCE / 100) + 2;

/// Takes one step of freeing `blocks` of a file; says whether there may be more. What the blocks held is `kind`.
fn step(body: &Body, handle: &mut Handle, blocks: &Range<u64>, kind: Contents) -> Result<bool> {
    let mut map = body.map.write();
    if !body.has_extents() {
        let removed = indirect::remove_last(body, &mut map, handle, blocks.clone(), kind, BLOCKS_A_STEP)?;
        body.write_map(handle, &map)?;
        return Ok(removed > 0);
    }
    let from = u32::try_from(blocks.start).unwrap_or(u32::MAX);
    // What is revoked takes room in the log.
    let longest = if kind == Contents::Metadata { REVOKED_AT_ONCE } else { u32::MAX };
    let cut = extents::cut_some(body, &mut map, handle, from, blocks.end, EXTENTS_A_STEP, longest)?;
    for extent in &cut.extents {
        map.sectors = map.sectors.saturating_sub(body.sectors_of(u64::from(extent.length)));
    }
    body.write_map(handle, &map)?;
    for extent in &cut.extents {
        body.fs.free_run(handle, extent.start, extent.length, kind)?;
    }
    Ok(!cut.extents.is_empty())
}

/// Whether the inode's map is one at all.
fn has_blocks(body: &Body, kind: FileKind) -> bool {
    let mapped = matches!(kind, FileKind::Regular | FileKind::Directory)
        || kind == FileKind::Symlink && body.map.read().sectors > 0;
    mapped && !body.is_inline()
}

/// Frees the `blocks` of a file. Errors: `EUCLEAN`, `EIO`, `EROFS`.
pub fn release(body: &Body, blocks: Range<u64>, kind: Contents) -> Result<()> {
    let mut handle = body.fs.start(STEP_CREDITS)?;
    release_in(body, &mut handle, blocks, kind)
}

/// The same as part of an operation whose handle has [`STEP_CREDITS`]; it is restarted where a transaction cannot hold all of it.
pub fn release_in(body: &Body, handle: &mut Handle, blocks: Range<u64>, kind: Contents) -> Result<()> {
    while step(body, handle, &blocks, kind)? {
        if !handle.extend(STEP_CREDITS)? {
            handle.restart(STEP_CREDITS)?;
        }
    }
    Ok(())
}

/// Cuts a file to `size` bytes on the disk; the page cache has been cut already. `tail`: its last page, where the end is within a block.
///
/// Errors: `EUCLEAN`, `EIO`, `EROFS`.
pub fn shrink(body: &Body, size: u64, tail: Option<Arc<dyn OrderedData>>) -> Result<()> {
    let fs = &body.fs;
    let first = body.blocks_of(size);
    body.wait_for_flights(u32::try_from(first).unwrap_or(u32::MAX));
    {
        let mut handle = fs.start(orphans::CREDITS + 2)?;
        fs.orphans.add(fs, &mut handle, body.number)?;
        // With the map locked: a write that ends now does not make it longer again.
        let map = body.map.write();
        body.write_size(&mut handle, size)?;
        drop(map);
        if let Some(tail) = tail {
            handle.order(tail)?;
        }
    }
    if !body.is_inline() {
        release(body, first..1 << 32, body.contents_kind())?;
    }
    let mut handle = fs.start(orphans::CREDITS + 1)?;
    fs.orphans.remove(fs, &mut handle, body.number)?;
    fs.change_inode(&mut handle, body.number, |inode| inode.set_deleted(0))?;
    body.note_change(&handle);
    Ok(())
}

/// Removes an inode that has no name and is not open: its blocks, its attributes and itself. Errors: `EUCLEAN`, `EIO`, `EROFS`.
pub fn remove(body: &Body, kind: FileKind) -> Result<()> {
    let fs = &body.fs;
    body.wait_for_flights(0);
    let contents = if kind == FileKind::Regular { body.contents_kind() } else { Contents::Metadata };
    if has_blocks(body, kind) {
        release(body, 0..1 << 32, contents)?;
    }
    let mut handle = fs.start(xattrs::CREDITS + orphans::CREDITS + allocate::CREDITS + 1)?;
    xattrs::release_block(body, &mut handle)?;
    fs.orphans.remove(fs, &mut handle, body.number)?;
    fs.inodes.forget(body.number);
    body.late_times.lock().take();
    fs.late_times.lock().remove(&body.number);
    fs.change_inode(&mut handle, body.number, |inode| {
        inode.set_links(0)?;
        inode.set_size(0)?;
        inode.set_deleted((now_seconds() as u32).max(1))
    })?;
    fs.free_inode(&mut handle, body.number, kind == FileKind::Directory)
}

/// Does what an orphan of the last mount was left for. One that cannot be read is left for fsck. Errors: `EIO`, `EROFS`.
pub fn clean_orphan(fs: &Arc<FileSystem>, superblock: &Arc<SuperBlock>, number: u32) -> Result<()> {
    let inode = match fs.inodes.get(fs, superblock, number) {
        Ok(inode) => inode,
        Err(error) => {
            log::error!("ext4: orphan inode {number} cannot be read: {error:?}");
            return Ok(());
        }
    };
    let node = inode.private::<crate::node::Node>().ok_or(CORRUPTED)?;
    let body = node.body();
    if inode.link_count() == 0 {
        // It is evicted when it is dropped.
        return Ok(());
    }
    if inode.kind() == FileKind::Regular {
        return shrink(body, body.disk_size.load(Ordering::Acquire), None);
    }
    let mut handle = fs.start(orphans::CREDITS + 1)?;
    fs.orphans.remove(fs, &mut handle, number)?;
    fs.change_inode(&mut handle, number, |inode| inode.set_deleted(0))
}

/// The bytes of an inode as they are on the disk now.
pub fn raw_inode(fs: &FileSystem, number: u32) -> Result<alloc::vec::Vec<u8>> {
    let (block, offset) = fs.inode_place(number)?;
    let buffer = fs.read_block(block)?;
    let bytes = buffer.read();
    let end = offset + usize::from(fs.geometry.inode_size);
    let raw = bytes.get(offset..end).ok_or(CORRUPTED)?.to_vec();
    InodeRef(&raw).extra_size()?;
    Ok(raw)
}
