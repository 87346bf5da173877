//! Extended attributes of inodes: in the inode as long as there is room, the rest in one block.
//!
//! Key functions: [`get`], [`set`], [`list`], [`release_block`]. A block that Linux lets several inodes share is left to the others when it
//! changes; none is shared here.
//!
//! Locks: the VFS holds the inode's lock for changes; buffers below.

use crate::body::Body;
use crate::filesystem::FileSystem;
use crate::format::inode::InodeRef;
use crate::format::xattr::{self, Attribute, Place};
use crate::format::{CORRUPTED, Compatible};
use crate::groups::Contents;
use crate::journal::Handle;
use crate::truncate::raw_inode;
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use vfs::XattrMode;

/// The most blocks that a change changes.
pub const CREDITS: u32 = 8;

/// The attributes in the block that an inode names.
fn read_block(fs: &FileSystem, number: u32, block: u64) -> Result<Vec<Attribute>> {
    if block == 0 {
        return Ok(Vec::new());
    }
    let buffer = fs.read_block(block)?;
    let bytes = buffer.read();
    let read = || {
        xattr::references(&bytes)?;
        if fs.geometry.has_checksums() {
            xattr::check(&bytes, fs.geometry.checksum_seed, block)?;
        }
        xattr::parse(&bytes, Place::Block)
    };
    read()
        .map_err(|error| fs.complain(error, format_args!("inode {number}: bad attributes in block {block}")))
}

/// All attributes of an inode: those in it, and those in its block. Errors: `EUCLEAN`, `EBADMSG`, `EIO`.
pub fn read_all(fs: &FileSystem, number: u32, raw: InodeRef<'_>) -> Result<(Vec<Attribute>, Vec<Attribute>)> {
    let own = match raw.xattr_area()? {
        Some(area) => xattr::parse(area, Place::Inode).map_err(|error| {
            fs.complain(error, format_args!("inode {number}: bad attributes in the inode"))
        })?,
        None => Vec::new(),
    };
    Ok((own, read_block(fs, number, raw.xattr_block()?)?))
}

/// Whether the name may be used at all. Errors: `EOPNOTSUPP`, `ERANGE`.
fn split<'a>(fs: &FileSystem, name: &'a [u8]) -> Result<(u8, &'a [u8])> {
    let (prefix, rest) = xattr::split_name(name).ok_or(Errno::EOPNOTSUPP)?;
    let options = fs.options.read();
    let forbidden = match prefix {
        1 => !options.user_xattr,
        // Lists are `acl`'s.
        xattr::ACL_ACCESS | xattr::ACL_DEFAULT | xattr::SYSTEM => true,
        _ => false,
    };
    if forbidden { Err(Errno::EOPNOTSUPP) } else { Ok((prefix, rest)) }
}

/// The value of an attribute. Errors: `ENODATA`, `EOPNOTSUPP`, `EUCLEAN`, `EIO`.
pub fn get(body: &Body, name: &[u8]) -> Result<Vec<u8>> {
    let (prefix, rest) = split(&body.fs, name)?;
    let raw = raw_inode(&body.fs, body.number)?;
    let (own, block) = read_all(&body.fs, body.number, InodeRef(&raw))?;
    let found = own.into_iter().chain(block).find(|one| one.prefix == prefix && one.name == rest);
    found.map(|one| one.value).ok_or(Errno::ENODATA)
}

/// All names, each with its NUL; access control lists aside. Errors: `EUCLEAN`, `EIO`.
pub fn list(body: &Body) -> Result<Vec<u8>> {
    let raw = raw_inode(&body.fs, body.number)?;
    let (own, block) = read_all(&body.fs, body.number, InodeRef(&raw))?;
    let mut names = Vec::new();
    for one in own.iter().chain(&block) {
        let Some(prefix) = xattr::prefix(one.prefix).filter(|prefix| !prefix.starts_with(b"system.")) else {
            continue;
        };
        names.extend_from_slice(prefix);
        names.extend_from_slice(&one.name);
        names.push(0);
    }
    Ok(names)
}

/// Sets an attribute by its full name, or removes it. Changes at most [`CREDITS`] blocks.
///
/// Errors: `EEXIST`, `ENODATA` by `mode`; `ENOSPC`, `EOPNOTSUPP`, `ERANGE`, `EUCLEAN`, `EIO`.
pub fn set(
    body: &Body,
    handle: &mut Handle,
    name: &[u8],
    value: Option<&[u8]>,
    mode: XattrMode,
) -> Result<()> {
    let name = split(&body.fs, name)?;
    if name.1.len() > usize::from(u8::MAX) {
        return Err(Errno::ERANGE);
    }
    put(body, handle, name, value, mode)
}

/// The same by its name as it is stored: the prefix's number, and the rest.
pub(crate) fn put(
    body: &Body,
    handle: &mut Handle,
    (prefix, rest): (u8, &[u8]),
    value: Option<&[u8]>,
    mode: XattrMode,
) -> Result<()> {
    let raw = raw_inode(&body.fs, body.number)?;
    let (mut own, mut block) = read_all(&body.fs, body.number, InodeRef(&raw))?;
    let is_it = |one: &Attribute| one.prefix == prefix && one.name == rest;
    let exists = own.iter().chain(&block).any(is_it);
    match (mode, exists) {
        (XattrMode::Create, true) => return Err(Errno::EEXIST),
        (XattrMode::Replace, false) => return Err(Errno::ENODATA),
        _ => {}
    }
    let block_before = block.clone();
    own.retain(|one| !is_it(one));
    block.retain(|one| !is_it(one));
    if let Some(value) = value {
        let new = Attribute { prefix, name: rest.to_vec(), value: value.to_vec() };
        own.push(new.clone());
        let room = InodeRef(&raw).xattr_area()?.map_or(0, |area| area.len());
        if xattr::size_of_list(&own, Place::Inode) > room {
            own.pop();
            block.push(new);
        }
    }
    if block != block_before {
        store_block(body, handle, InodeRef(&raw).xattr_block()?, &block)?;
    }
    body.fs.change_inode(handle, body.number, |inode| match inode.xattr_area()? {
        Some(area) => xattr::store(area, &own, Place::Inode).map(drop),
        None => Ok(()),
    })?;
    if !body.fs.geometry.compatible.contains(Compatible::EXT_ATTR) {
        body.fs.change_super(handle, |raw| {
            let bits = raw.feature_compat.get() | Compatible::EXT_ATTR.bits();
            raw.feature_compat = bits.into();
        })?;
    }
    body.note_change(handle);
    Ok(())
}

/// Writes the list of the block: into the one there is if it is the inode's own, else into a new one.
fn store_block(body: &Body, handle: &mut Handle, block: u64, list: &[Attribute]) -> Result<()> {
    let fs = &body.fs;
    if xattr::size_of_list(list, Place::Block) > fs.geometry.block_size as usize {
        return Err(Errno::ENOSPC);
    }
    if list.is_empty() {
        return release_block(body, handle);
    }
    let own = block != 0 && xattr::references(&fs.read_block(block)?.read())? == 1;
    let (place, buffer) = if own {
        (block, fs.read_block(block)?)
    } else {
        let (group, _) = fs.geometry.inode_place(body.number).ok_or(CORRUPTED)?;
        let claim = fs.claim_spare(fs.geometry.group_start(group), 1)?;
        let place = claim.start();
        claim.take(handle)?;
        release_block(body, handle)?;
        let mut map = body.map.write();
        map.sectors += body.sectors_of(1);
        body.write_map(handle, &map)?;
        fs.change_inode(handle, body.number, |inode| inode.set_xattr_block(place))?;
        (place, handle.create(place)?)
    };
    handle.modify(&buffer, |bytes| {
        xattr::store(bytes, list, Place::Block)?;
        xattr::set_references(bytes, 1)?;
        if fs.geometry.has_checksums() {
            xattr::seal(bytes, fs.geometry.checksum_seed, place)
        } else {
            Ok(())
        }
    })?
}

/// The inode has no block of attributes any more. Changes at most 5 blocks. Errors: `EUCLEAN`, `EIO`.
pub fn release_block(body: &Body, handle: &mut Handle) -> Result<()> {
    let fs = &body.fs;
    let raw = raw_inode(fs, body.number)?;
    let block = InodeRef(&raw).xattr_block()?;
    if block == 0 {
        return Ok(());
    }
    let buffer = fs.read_block(block)?;
    let references = xattr::references(&buffer.read()).map_err(|error| {
        fs.complain(error, format_args!("inode {}: bad attributes in block {block}", body.number))
    })?;
    if references <= 1 {
        fs.free_run(handle, block, 1, Contents::Metadata)?;
    } else {
        handle.modify(&buffer, |bytes| {
            xattr::set_references(bytes, references - 1)?;
            if fs.geometry.has_checksums() {
                xattr::seal(bytes, fs.geometry.checksum_seed, block)
            } else {
                Ok(())
            }
        })??;
    }
    let mut map = body.map.write();
    map.sectors = map.sectors.saturating_sub(body.sectors_of(1));
    fs.change_inode(handle, body.number, |inode| {
        inode.set_xattr_block(0)?;
        inode.set_blocks(&fs.geometry, map.sectors)
    })?;
    body.note_change(handle);
    Ok(())
}
