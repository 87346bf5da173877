//! What ioctl(2) asks of files and file systems: extents, flags, discarding what is free, labels.
//!
//! Neighbours: `node` and `mount`, whose operations these are; `vfs::control` checks rights and copies. Locks: a file's map while it is looked at; the VFS
//! holds the inode's lock while flags change.

use crate::body::{Body, State};
use crate::filesystem::FileSystem;
use crate::format::inode::flag;
use crate::node::write_attributes;
use abi::errno::{Errno, Result};
use abi::fs::{
    FIEMAP_EXTENT_DATA_INLINE, FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_NOT_ALIGNED, FIEMAP_EXTENT_UNWRITTEN,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use machine::sync::atomic::Ordering;
use vfs::inode::{ExtentSink, FileFlags};
use vfs::{FileExtent, Inode, SinkState, Timestamp};

/// Longest label, bytes.
const LABEL_MAX: usize = 16;

/// Gives the extents of a file that touch `range` of bytes. What has no place yet has been given one by the caller.
pub fn extents(body: &Body, size: u64, range: Range<u64>, sink: &mut ExtentSink<'_>) -> Result<()> {
    let bits = body.fs.geometry.block_bits;
    if body.is_inline() {
        let (block, offset) = body.fs.inode_place(body.number)?;
        let physical = (block << bits) + offset as u64 + 40;
        let flags = FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_LAST;
        sink(&FileExtent { logical: 0, physical, length: size, flags })?;
        return Ok(());
    }
    // One is kept back, to be told that it is the last.
    let mut kept: Option<FileExtent> = None;
    let mut block = 0_u32;
    let end = u64::from(u32::MAX).min(body.blocks_of(size).max(range.end >> bits).saturating_add(1));
    while u64::from(block) < end {
        let mapping = body.find(block, u32::MAX - block)?;
        block = block.saturating_add(mapping.length.max(1));
        let (Some(place), length) = (mapping.state.place(), u64::from(mapping.length) << bits) else {
            continue;
        };
        let flags = if matches!(mapping.state, State::Unwritten(_)) { FIEMAP_EXTENT_UNWRITTEN } else { 0 };
        let logical = u64::from(mapping.block) << bits;
        let next = FileExtent { logical, physical: place << bits, length, flags };
        if let Some(before) = kept.replace(next)
            && before.logical < range.end
            && before.logical + before.length > range.start
            && sink(&before)? == SinkState::Full
        {
            return Ok(());
        }
    }
    match kept.filter(|last| last.logical < range.end && last.logical + last.length > range.start) {
        Some(last) => sink(&FileExtent { flags: last.flags | FIEMAP_EXTENT_LAST, ..last }).map(drop),
        None => Ok(()),
    }
}

/// Where a block of a file is; 0: a hole.
pub fn block_of(body: &Body, block: u64) -> Result<u64> {
    let block = u32::try_from(block).map_err(|_| Errno::EINVAL)?;
    Ok(match body.find(block, 1)?.state {
        State::Written(place) => place,
        State::Hole | State::Unwritten(_) => 0,
    })
}

/// What programs see of `i_flags`.
pub fn flags(body: &Body) -> FileFlags {
    FileFlags { flags: body.flags.load(Ordering::Relaxed) & flag::VISIBLE, project: 0 }
}

/// Changes those that can be. Errors: `EOPNOTSUPP`: another, or a project.
pub fn set_flags(body: &Body, inode: &Arc<Inode>, new: FileFlags, now: Timestamp) -> Result<()> {
    let before = flags(body).flags;
    if (before ^ new.flags) & !flag::CHANGEABLE != 0 || new.project != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut handle = body.fs.start(1)?;
    body.set_flags(new.flags & flag::CHANGEABLE, !new.flags & flag::CHANGEABLE);
    inode.apply_flags(new.flags);
    inode.update_times(|times| times.changed = now);
    let all = body.flags.load(Ordering::Relaxed);
    body.fs.change_inode(&mut handle, body.number, |raw| raw.set_flags(all))?;
    write_attributes(&mut handle, inode)
}

/// Tells the device of free space in `range` of bytes, in runs of at least `least`. Gives the bytes told.
///
/// Errors: `EOPNOTSUPP`: the device has no discard; `EINTR`; `EIO`.
pub fn trim(fs: &Arc<FileSystem>, range: Range<u64>, least: u64) -> Result<u64> {
    let bits = fs.geometry.block_bits;
    if fs.device.disk().limits().max_discard_sectors == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let blocks = range.start.div_ceil(1 << bits)..range.end >> bits;
    let least = u32::try_from((least >> bits).max(1)).unwrap_or(u32::MAX);
    let mut told = 0;
    for number in 0..fs.geometry.groups {
        let first = fs.geometry.group_start(number);
        let last = first + u64::from(fs.geometry.group_blocks(number));
        if last <= blocks.start || first >= blocks.end {
            continue;
        }
        if sched::signal_pending() {
            return Err(Errno::EINTR);
        }
        fs.each_free_run(number, least, |claim| {
            let start = claim.start().max(blocks.start);
            let end = (claim.start() + u64::from(claim.length())).min(blocks.end);
            if end.saturating_sub(start) >= u64::from(least) {
                fs.device.discard(start << (bits - 9), (end - start) << (bits - 9))?;
                told += (end - start) << bits;
            }
            Ok(())
        })?;
    }
    Ok(told)
}

/// The volume's label.
pub fn label(fs: &FileSystem) -> Result<Vec<u8>> {
    let name = fs.with_super(|raw| raw.volume_name)?;
    Ok(name.iter().copied().take_while(|byte| *byte != 0).collect())
}

/// Sets it. Errors: `EINVAL`: it is too long.
pub fn set_label(fs: &FileSystem, label: &[u8]) -> Result<()> {
    let mut name = [0; LABEL_MAX];
    name.get_mut(..label.len()).ok_or(Errno::EINVAL)?.copy_from_slice(label);
    let mut handle = fs.start(1)?;
    fs.change_super(&mut handle, |raw| raw.volume_name = name)
}
