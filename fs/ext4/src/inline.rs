//! Contents in the inode itself (`inline_data`): 60 bytes in the place of the map, the rest as the value of `system.data`.
//!
//! Key functions: [`read`], [`convert`]. Nothing new is made so; what is there is read, and moved into blocks before it is first changed.

use crate::body::Body;
use crate::extents;
use crate::format::CORRUPTED;
use crate::format::extent::Extent;
use crate::format::inode::{InodeRef, MAP_SIZE, flag};
use crate::format::xattr::{self, Place};
use crate::journal::Handle;
use abi::errno::Result;
use alloc::vec::Vec;

/// The first `length` bytes; what is not stored is zeros. Errors: `EUCLEAN`, `EIO`.
pub fn read(body: &Body, length: usize) -> Result<Vec<u8>> {
    let fs = &body.fs;
    let (block, offset) = fs.inode_place(body.number)?;
    let buffer = fs.read_block(block)?;
    let bytes = buffer.read();
    let end = offset + usize::from(fs.geometry.inode_size);
    let raw = InodeRef(bytes.get(offset..end).ok_or(CORRUPTED)?);
    let mut content = raw.map()?.to_vec();
    if length > MAP_SIZE
        && let Some(area) = raw.xattr_area()?
    {
        let list = xattr::parse(area, Place::Inode)?;
        if let Some(rest) = list.iter().find(|one| one.prefix == xattr::SYSTEM && one.name == b"data") {
            content.extend_from_slice(&rest.value);
        }
    }
    if length > fs.geometry.block_size as usize {
        return Err(fs.complain(CORRUPTED, format_args!("inode {}: {length} bytes inline", body.number)));
    }
    content.resize(length, 0);
    Ok(content)
}

/// Moves the contents out: `block`, claimed and written already, has them now; `None`: there are none that count. Changes the inode only.
///
/// Errors: the handle's.
pub fn convert(body: &Body, handle: &mut Handle, block: Option<u64>) -> Result<()> {
    let mut map = body.map.write();
    map.root = extents::empty_root();
    // A block of attributes is counted already.
    map.sectors += body.sectors_of(u64::from(block.is_some()));
    body.set_flags(flag::EXTENTS, flag::INLINE_DATA);
    if let Some(start) = block {
        extents::insert(body, &mut map, handle, Extent { block: 0, length: 1, start, unwritten: false })?;
    }
    body.fs.change_inode(handle, body.number, |inode| {
        if let Some(area) = inode.xattr_area()? {
            let mut list = xattr::parse(area, Place::Inode)?;
            list.retain(|one| !(one.prefix == xattr::SYSTEM && one.name == b"data"));
            xattr::store(area, &list, Place::Inode)?;
        }
        Ok(())
    })?;
    body.write_map(handle, &map)
}
