//! The texts of symbolic links: in the inode if they are short, else in a block. They never change, and are kept in memory with the inode.
//!
//! Key function: [`read`].

use crate::body::Body;
use crate::format::CORRUPTED;
use crate::format::inode::MAP_SIZE;
use abi::errno::Result;
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
