//! The texts of symbolic links: in the inode if they are short, else in a block. They never change, and are kept in memory with the inode.
//!
//! Key functions: [`read`], [`write()`]. Locks: the body's map.

use crate::body::Body;
use crate::format::extent::Extent;
use crate::format::inode::{MAP_SIZE, flag};
use crate::format::{CORRUPTED, Incompatible};
use crate::journal::Handle;
use crate::{extents, indirect};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;

/// The text of a link of `size` bytes. Errors: `EUCLEAN`, `EIO`.
pub fn read(body: &Body, size: u64) -> Result<Box<[u8]>> {
    let bad = || body.fs.complain(CORRUPTED, format_args!("inode {}: a link of {size} bytes", body.number));
    let length = usize::try_from(size).map_err(|_| bad())?;
    if length == 0 || length > body.fs.geometry.block_size as usize || length >= vfs::PATH_MAX {
        return Err(bad());
    }
    if body.is_inline() {
        return crate::inline::read(body, length).map(Into::into);
    }
    if length < MAP_SIZE && (!body.has_extents() || body.map.read().sectors == 0) {
        return Ok(Box::from(body.map.read().root.get(..length).ok_or_else(bad)?));
    }
    let place = body.place_of(0)?;
    let buffer = body.fs.read_block(place)?;
    let bytes = buffer.read();
    Ok(Box::from(bytes.get(..length).ok_or_else(bad)?))
}

/// Stores the text of a new link. Errors: `ENAMETOOLONG`, `ENOSPC`, `EIO`.
pub fn write(body: &Body, handle: &mut Handle, text: &[u8]) -> Result<()> {
    let fs = &body.fs;
    if text.len() >= fs.geometry.block_size as usize || text.len() >= vfs::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut map = body.map.write();
    if text.len() < MAP_SIZE {
        if let Some(place) = map.root.get_mut(..text.len()) {
            place.copy_from_slice(text);
        }
    } else {
        let goal = body.goal_for(&map, 0);
        let claim = fs.claim_spare(goal, 1)?;
        let start = claim.start();
        claim.take(handle)?;
        map.sectors += body.sectors_of(1);
        if fs.geometry.incompatible.contains(Incompatible::EXTENTS) {
            body.set_flags(flag::EXTENTS, 0);
            map.root = extents::empty_root();
            extents::insert(body, &mut map, handle, Extent { block: 0, length: 1, start, unwritten: false })?;
        } else {
            indirect::insert(body, &mut map, handle, 0, start)?;
        }
        let buffer = handle.create(start)?;
        handle.modify(&buffer, |bytes| {
            if let Some(place) = bytes.get_mut(..text.len()) {
                place.copy_from_slice(text);
            }
        })?;
    }
    body.write_map(handle, &map)?;
    body.write_size(handle, text.len() as u64)
}
