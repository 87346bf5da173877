//! Directories: finding, adding, removing and listing names.
//!
//! Key functions: [`find`], [`add`], [`remove`], [`replace`], [`is_empty`]; listing is in `list`, the index of large directories in `index`.
//!
//! A directory is a file of blocks with names. A small one is looked through; when the first block is full it becomes the root of an index by
//! hash (`dir_index`), and nothing then costs more than O(log n) in the number of names. Index blocks look like empty blocks to who goes
//! through all of them, which is how a directory with a broken index is still read.
//!
//! Locks: the VFS holds the directory's inode lock, to write for changes.

mod index;
pub mod list;

use crate::body::Body;
use crate::buffer::Buffer;
use crate::extents;
use crate::format::dirent::{self, OwnedEntry};
use crate::format::extent::Extent;
use crate::format::htree;
use crate::format::inode::flag;
use crate::format::{CORRUPTED, Incompatible};
use crate::groups::{Claim, Contents};
use crate::indirect;
use crate::inline;
use crate::journal::Handle;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;
use vfs::{FileKind, Inode};

/// The most blocks that adding a name changes: a leaf and two levels of index are split, each new block is allotted and put into the tree.
pub const ADD_CREDITS: u32 = 4 * (extents::INSERT_CREDITS + 3) + 8;
/// The most blocks that removing or replacing a name changes.
pub const REMOVE_CREDITS: u32 = 3;

/// The most blocks that moving names out of an inode changes.
pub const MOVE_CREDITS: u32 = extents::INSERT_CREDITS + 4;

/// What a block of a directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It has names.
    Leaf,
    /// The index, with its entries from here on.
    Index(usize),
}

/// A name found: the block of the directory, and what it stands for.
pub struct Found {
    /// The inode.
    pub number: u32,
    block: u32,
}

fn has_checksums(body: &Body) -> bool {
    body.fs.geometry.has_checksums()
}

/// How many blocks the directory has.
pub(crate) fn block_count(body: &Body) -> u32 {
    let blocks = body.blocks_of(body.disk_size.load(Ordering::Acquire));
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

/// Whether names are found by the index.
pub(crate) fn is_indexed(body: &Body) -> bool {
    body.has_flags(flag::INDEX) && body.fs.geometry.has_index()
}

/// What a block is, by its looks.
fn kind_of(body: &Body, block: u32, bytes: &[u8]) -> Kind {
    if block == 0 {
        return if is_indexed(body) { Kind::Index(htree::ROOT_ENTRIES) } else { Kind::Leaf };
    }
    let first = dirent::Entries::new(bytes).next();
    let whole = matches!(first, Some(Ok(entry)) if entry.inode == 0 && entry.length == bytes.len());
    if whole && is_indexed(body) { Kind::Index(htree::NODE_ENTRIES) } else { Kind::Leaf }
}

/// Reads a block of the directory and checks its checksum; `None`: it is a hole, which has no names.
pub(crate) fn read_block(body: &Body, block: u32) -> Result<Option<Arc<Buffer>>> {
    let fs = &body.fs;
    let Some(place) = body.find(block, 1)?.state.place() else { return Ok(None) };
    let buffer = fs.read_block(place)?;
    if !buffer.is_verified() && has_checksums(body) {
        let checked = {
            let bytes = buffer.read();
            match kind_of(body, block, &bytes) {
                Kind::Leaf => dirent::check(&bytes, body.checksum_seed),
                Kind::Index(start) => htree::NodeRef { bytes: &bytes, start }.check(body.checksum_seed),
            }
        };
        checked.map_err(|error| bad(body, block, error))?;
        buffer.set_verified();
    }
    Ok(Some(buffer))
}

/// The first block from `from` on that is there, with its number. Holes, which only a damaged directory has, are passed at once however long they are.
pub(crate) fn next_block(body: &Body, from: u32) -> Result<Option<(u32, Arc<Buffer>)>> {
    let count = block_count(body);
    let mut block = from;
    while block < count {
        let mapping = body.find(block, count - block)?;
        if mapping.state.place().is_some() {
            return Ok(read_block(body, block)?.map(|buffer| (block, buffer)));
        }
        block = block.saturating_add(mapping.length.max(1));
    }
    Ok(None)
}

/// The same as [`read_block`] for a block that must be there.
fn need_block(body: &Body, block: u32) -> Result<Arc<Buffer>> {
    read_block(body, block)?.ok_or_else(|| bad(body, block, CORRUPTED))
}

/// Says that a block is wrong.
pub(crate) fn bad(body: &Body, block: u32, error: Errno) -> Errno {
    body.fs.complain(error, format_args!("directory inode {}: block {block} is wrong", body.number))
}

/// Changes a leaf; the checksum follows.
fn change_leaf<R>(
    body: &Body,
    handle: &mut Handle,
    buffer: &Arc<Buffer>,
    change: impl FnOnce(&mut [u8]) -> Result<R>,
) -> Result<R> {
    let result = handle.modify(buffer, |bytes| {
        let result = change(dirent::body_mut(bytes, has_checksums(body)))?;
        if has_checksums(body) {
            dirent::seal(bytes, body.checksum_seed)?;
        }
        Ok(result)
    })?;
    body.note_change(handle);
    result
}

/// What the name stands for. Errors: `EUCLEAN`, `EBADMSG`, `EIO`, `ENAMETOOLONG`.
pub fn find(body: &Body, name: &[u8]) -> Result<Option<Found>> {
    if name.len() > dirent::NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if body.is_inline() {
        let entries = list::inline_entries(body)?;
        let found = entries.iter().find(|entry| entry.name == name);
        return Ok(found.map(|entry| Found { number: entry.inode, block: 0 }));
    }
    if is_indexed(body) && !matches!(name, b"." | b"..") {
        match index::find(body, name) {
            Err(error) if error == CORRUPTED => {}
            answer => return answer,
        }
    }
    let mut at = 0;
    while let Some((block, buffer)) = next_block(body, at)? {
        let found = dirent::find(&buffer.read(), name)
            .map_err(|error| bad(body, block, error))?
            .map(|entry| entry.inode);
        if let Some(number) = found {
            return Ok(Some(Found { number, block }));
        }
        at = block + 1;
    }
    Ok(None)
}

/// Adds a name that is not there. Changes at most [`ADD_CREDITS`] blocks. The directory's times are the caller's.
///
/// Errors: `ENOSPC`: no blocks, or the index is full; `EUCLEAN`, `EIO`.
pub fn add(
    directory: &Inode,
    body: &Body,
    handle: &mut Handle,
    name: &[u8],
    number: u32,
    kind: FileKind,
) -> Result<()> {
    let has_kinds = body.fs.geometry.incompatible.contains(Incompatible::FILETYPE);
    let entry = OwnedEntry { inode: number, kind: dirent::stored_kind(kind, has_kinds), name: name.to_vec() };
    move_out(directory, body, handle)?;
    if is_indexed(body) {
        return index::add(directory, body, handle, &entry);
    }
    let blocks = block_count(body);
    for block in 0..blocks {
        let buffer = need_block(body, block)?;
        // A look first: most blocks are full, and nothing of them should go to the journal.
        let needed = dirent::needed(name.len());
        if has_room(dirent::body(&buffer.read(), has_checksums(body)), needed)
            .map_err(|error| bad(body, block, error))?
        {
            change_leaf(body, handle, &buffer, |bytes| {
                dirent::insert(bytes, &entry.name, number, entry.kind)
            })?;
            return Ok(());
        }
    }
    if blocks == 1 && body.fs.geometry.has_index() {
        index::make(directory, body, handle)?;
        return index::add(directory, body, handle, &entry);
    }
    let (_, buffer) = append(directory, body, handle)?;
    change_leaf(body, handle, &buffer, |bytes| {
        dirent::clear(bytes)?;
        dirent::insert(bytes, &entry.name, number, entry.kind)
    })?;
    Ok(())
}

/// Whether some entry of a block has room behind it.
fn has_room(bytes: &[u8], needed: usize) -> Result<bool> {
    for entry in dirent::Entries::new(bytes) {
        let entry = entry?;
        let used = if entry.inode == 0 { 0 } else { dirent::needed(entry.name.len()) };
        if entry.length >= used + needed {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A block that the directory may grow by, nobody else's but not taken yet. Errors: `ENOSPC`.
fn claim_next(body: &Body) -> Result<Claim> {
    let goal = body.goal_for(&body.map.read(), block_count(body));
    body.fs.claim_spare(goal, 1)
}

/// A new block at the end of the directory, zeros.
fn append(directory: &Inode, body: &Body, handle: &mut Handle) -> Result<(u32, Arc<Buffer>)> {
    let claim = claim_next(body)?;
    append_claimed(directory, body, handle, claim)
}

fn append_claimed(
    directory: &Inode,
    body: &Body,
    handle: &mut Handle,
    claim: Claim,
) -> Result<(u32, Arc<Buffer>)> {
    let fs = &body.fs;
    let block = block_count(body);
    let size = (u64::from(block) + 1) << fs.geometry.block_bits;
    if block >= u32::MAX >> fs.geometry.block_bits
        && !fs.geometry.incompatible.contains(Incompatible::LARGEDIR)
    {
        return Err(Errno::ENOSPC);
    }
    let place = {
        let mut map = body.map.write();
        let place = claim.start();
        claim.take(handle)?;
        map.sectors += body.sectors_of(1);
        let put = if body.has_extents() {
            extents::insert(
                body,
                &mut map,
                handle,
                Extent { block, length: 1, start: place, unwritten: false },
            )
        } else {
            indirect::insert(body, &mut map, handle, block, place)
        };
        if let Err(error) = put {
            map.sectors = map.sectors.saturating_sub(body.sectors_of(1));
            fs.free_run(handle, place, 1, Contents::Data)?;
            // Blocks of pointers may have been put in.
            body.write_map(handle, &map)?;
            directory.set_blocks(map.sectors);
            return Err(error);
        }
        body.write_map(handle, &map)?;
        directory.set_blocks(map.sectors);
        place
    };
    body.write_size(handle, size)?;
    directory.set_size(size);
    let buffer = handle.create(place)?;
    buffer.set_verified();
    Ok((block, buffer))
}

/// The first block of a new directory, with `.` and `..`.
pub fn create(directory: &Inode, body: &Body, handle: &mut Handle, parent: u32) -> Result<()> {
    let claim = claim_next(body)?;
    create_claimed(directory, body, handle, parent, claim).map(drop)
}

fn create_claimed(
    directory: &Inode,
    body: &Body,
    handle: &mut Handle,
    parent: u32,
    claim: Claim,
) -> Result<Arc<Buffer>> {
    let (_, buffer) = append_claimed(directory, body, handle, claim)?;
    let has_kinds = body.fs.geometry.incompatible.contains(Incompatible::FILETYPE);
    let kind = dirent::stored_kind(FileKind::Directory, has_kinds);
    change_leaf(body, handle, &buffer, |bytes| dirent::put_dots(bytes, body.number, parent, kind))?;
    Ok(buffer)
}

/// Moves the names of a directory that has them in its inode into a block: before anything else of an operation that changes more than this
/// directory, since there may be no room for it. Changes at most [`MOVE_CREDITS`] blocks. Errors: `ENOSPC`, `EUCLEAN`, `EIO`.
pub fn move_out(directory: &Inode, body: &Body, handle: &mut Handle) -> Result<()> {
    if !body.is_inline() {
        return Ok(());
    }
    let entries = list::inline_entries(body)?;
    let parent = list::inline_parent(body)?;
    let claim = claim_next(body)?;
    inline::convert(body, handle, None)?;
    body.write_size(handle, 0)?;
    let buffer = create_claimed(directory, body, handle, parent, claim)?;
    change_leaf(body, handle, &buffer, |bytes| {
        for entry in entries.iter().filter(|entry| !matches!(entry.name.as_slice(), b"." | b"..")) {
            if !dirent::insert(bytes, &entry.name, entry.inode, entry.kind)? {
                return Err(CORRUPTED);
            }
        }
        Ok(())
    })
}

/// Removes a name. Changes at most [`REMOVE_CREDITS`] blocks (more if the directory was inline). Errors: `ENOENT`, `EUCLEAN`, `EIO`.
pub fn remove(directory: &Inode, body: &Body, handle: &mut Handle, name: &[u8]) -> Result<()> {
    let buffer = find_to_change(directory, body, handle, name)?;
    let removed = change_leaf(body, handle, &buffer, |bytes| dirent::remove(bytes, name))?;
    if removed { Ok(()) } else { Err(Errno::ENOENT) }
}

/// Lets a name stand for another inode. As [`remove`].
pub fn replace(
    directory: &Inode,
    body: &Body,
    handle: &mut Handle,
    name: &[u8],
    number: u32,
    kind: FileKind,
) -> Result<()> {
    let has_kinds = body.fs.geometry.incompatible.contains(Incompatible::FILETYPE);
    let stored = dirent::stored_kind(kind, has_kinds);
    let buffer = find_to_change(directory, body, handle, name)?;
    let replaced = change_leaf(body, handle, &buffer, |bytes| dirent::replace(bytes, name, number, stored))?;
    if replaced { Ok(()) } else { Err(Errno::ENOENT) }
}

fn find_to_change(directory: &Inode, body: &Body, handle: &mut Handle, name: &[u8]) -> Result<Arc<Buffer>> {
    move_out(directory, body, handle)?;
    let found = find(body, name)?.ok_or(Errno::ENOENT)?;
    need_block(body, found.block)
}

/// Lets `..` stand for another directory.
pub fn set_parent(directory: &Inode, body: &Body, handle: &mut Handle, parent: u32) -> Result<()> {
    move_out(directory, body, handle)?;
    let has_kinds = body.fs.geometry.incompatible.contains(Incompatible::FILETYPE);
    let kind = dirent::stored_kind(FileKind::Directory, has_kinds);
    let buffer = need_block(body, 0)?;
    if !is_indexed(body) {
        let replaced =
            change_leaf(body, handle, &buffer, |bytes| dirent::replace(bytes, b"..", parent, kind))?;
        return if replaced { Ok(()) } else { Err(bad(body, 0, CORRUPTED)) };
    }
    index::change(body, handle, &buffer, htree::ROOT_ENTRIES, |node| {
        if dirent::replace(node.bytes, b"..", parent, kind)? { Ok(()) } else { Err(CORRUPTED) }
    })
}

/// Whether it has no names but `.` and `..`. Errors: `EUCLEAN`, `EIO`.
pub fn is_empty(body: &Body) -> Result<bool> {
    if body.is_inline() {
        return Ok(list::inline_entries(body)?
            .iter()
            .all(|entry| matches!(entry.name.as_slice(), b"." | b"..")));
    }
    let mut at = 0;
    while let Some((block, buffer)) = next_block(body, at)? {
        at = block + 1;
        let bytes = buffer.read();
        for entry in dirent::Entries::new(&bytes) {
            let entry = entry.map_err(|error| bad(body, block, error))?;
            if entry.inode != 0 && !entry.is_dot() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The names of a leaf, away from it.
fn names_of(bytes: &[u8]) -> Result<Vec<OwnedEntry>> {
    let mut names = Vec::new();
    for entry in dirent::Entries::new(bytes) {
        let entry = entry?;
        if entry.inode != 0 {
            names.push(OwnedEntry { inode: entry.inode, kind: entry.kind, name: entry.name.to_vec() });
        }
    }
    Ok(names)
}
