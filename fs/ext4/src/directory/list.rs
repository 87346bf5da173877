//! Listing a directory.
//!
//! Key functions: [`list`], [`inline_entries`].
//!
//! Where the index is by hash, a listing is too, as on Linux: an entry's position is its hash, which stays the same whatever comes and goes,
//! and splitting a leaf moves no name to another place of the order. Positions have 31 bits of the major hash, the upper 24 of the minor, and
//! in the low 8 a number that tells apart the few that are equal so far. A directory of several blocks without an index is listed by
//! offset: a name that moved within its block is found again because what is at or behind the offset counts.
//!
//! Locks: a leaf's names are copied before any is given, so that nothing is held while user memory is written.

use super::index::Walk;
use super::{bad, block_count, is_indexed, names_of, next_block, read_block};
use crate::body::Body;
use crate::format::CORRUPTED;
use crate::format::dirent::{self, OwnedEntry};
use crate::format::hash::{Hasher, NameHash};
use crate::inline;
use abi::errno::Result;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;
use vfs::{DirectoryEntry, DirectorySink, SinkState};

/// The position behind everything.
const END: u64 = i64::MAX as u64;
/// Bits of a position that tell apart what has the same hash.
const ORDINAL_BITS: u32 = 8;
/// The first of them: 0 and 1 are `.` and `..`.
const FIRST_ORDINAL: u64 = 2;
/// How many leaves may go on with the same hash before a listing gives up keeping them together.
const MAX_TOGETHER: usize = 16;

/// A name and its position.
struct Placed {
    position: u64,
    entry: OwnedEntry,
}

/// The names of an inline directory but `.` and `..`: behind the parent's number, and in the attribute.
pub fn inline_entries(body: &Body) -> Result<Vec<OwnedEntry>> {
    let size = body.disk_size.load(Ordering::Acquire) as usize;
    let content = inline::read(body, size.min(body.fs.geometry.block_size as usize))?;
    const IN_INODE: usize = crate::format::inode::MAP_SIZE;
    const PARENT: usize = 4;
    let (first, second) = content.split_at(content.len().min(IN_INODE));
    let mut names = names_of(first.get(PARENT..).ok_or(CORRUPTED)?).map_err(|error| bad(body, 0, error))?;
    names.extend(names_of(second).map_err(|error| bad(body, 0, error))?);
    Ok(names)
}

/// The parent of an inline directory.
pub fn inline_parent(body: &Body) -> Result<u32> {
    let content = inline::read(body, 4)?;
    content.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(CORRUPTED)
}

fn base_of(hash: NameHash) -> u64 {
    u64::from(hash.major >> 1) << 32 | u64::from(hash.minor) & !((1 << ORDINAL_BITS) - 1)
}

/// Gives names their positions by hash, in order.
fn place(names: Vec<OwnedEntry>, hasher: &Hasher) -> Vec<Placed> {
    let mut hashed: Vec<(NameHash, OwnedEntry)> = names
        .into_iter()
        .filter(|entry| !matches!(entry.name.as_slice(), b"." | b".."))
        .map(|entry| (hasher.hash(&entry.name), entry))
        .collect();
    hashed.sort_unstable_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    let mut placed: Vec<Placed> = Vec::with_capacity(hashed.len());
    for (hash, entry) in hashed {
        let base = base_of(hash);
        let last = placed
            .last()
            .map(|last| last.position)
            .filter(|last| last >> ORDINAL_BITS == base >> ORDINAL_BITS);
        let position =
            last.map_or(base + FIRST_ORDINAL, |last| (last + 1).min(base | ((1 << ORDINAL_BITS) - 1)));
        placed.push(Placed { position, entry });
    }
    placed
}

/// Gives the sink what is at or behind `position`; says where to go on, and whether there is room.
fn emit(placed: &[Placed], position: u64, sink: &mut dyn DirectorySink) -> Result<(u64, SinkState)> {
    let mut next = position;
    for one in placed.iter().filter(|one| one.position >= position) {
        let entry = dirent::Entry {
            offset: 0,
            length: 0,
            inode: one.entry.inode,
            kind: one.entry.kind,
            name: &one.entry.name,
        };
        let told = DirectoryEntry {
            name: entry.name,
            inode_number: u64::from(entry.inode),
            kind: entry.file_kind(),
            next: one.position + 1,
        };
        if sink.add(&told)? == SinkState::Full {
            return Ok((one.position, SinkState::Full));
        }
        next = one.position + 1;
    }
    Ok((next, SinkState::Taken))
}

/// Gives names from `position` (at least 2) on to the sink; gives the position to go on from. Errors: `EUCLEAN`, `EIO`, the sink's.
pub fn list(body: &Body, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
    if position >= END {
        return Ok(position);
    }
    let by_hash =
        body.fs.geometry.has_index() && (is_indexed(body) || body.is_inline() || block_count(body) <= 1);
    if is_indexed(body) {
        return list_index(body, sink, position);
    }
    if !by_hash {
        return list_blocks(body, sink, position);
    }
    let names = if body.is_inline() {
        inline_entries(body)?
    } else {
        match read_block(body, 0)? {
            Some(buffer) => names_of(&buffer.read()).map_err(|error| bad(body, 0, error))?,
            None => Vec::new(),
        }
    };
    let placed = place(names, &Hasher::default_of(&body.fs.geometry)?);
    match emit(&placed, position, sink)? {
        (next, SinkState::Full) => Ok(next),
        (_, SinkState::Taken) => Ok(END),
    }
}

/// Leaf by leaf along the index.
fn list_index(body: &Body, sink: &mut dyn DirectorySink, from: u64) -> Result<u64> {
    let mut position = from;
    let mut walk = Walk::to(body, |_| ((position >> 32) as u32) << 1)?;
    let mut more = true;
    // An index that leads in a circle gives no more leaves than there are blocks.
    let mut left = u64::from(block_count(body)) + 1;
    while more {
        let mut names = Vec::new();
        for together in 0.. {
            left = left.checked_sub(1).ok_or_else(|| bad(body, 0, CORRUPTED))?;
            let block = walk.leaf()?;
            if let Some(buffer) = read_block(body, block)? {
                names.extend(names_of(&buffer.read()).map_err(|error| bad(body, block, error))?);
            }
            let next = walk.next()?;
            more = next.is_some();
            if !next.is_some_and(|(_, goes_on)| goes_on) || together >= MAX_TOGETHER {
                break;
            }
        }
        let placed = place(names, &walk.hasher);
        let (next, state) = emit(&placed, position, sink)?;
        position = position.max(next);
        if state == SinkState::Full {
            return Ok(position);
        }
    }
    Ok(END)
}

/// Block by block, by offset.
fn list_blocks(body: &Body, sink: &mut dyn DirectorySink, from: u64) -> Result<u64> {
    let bits = body.fs.geometry.block_bits;
    let mut position = from;
    let mut at = u32::try_from(from >> bits).unwrap_or(u32::MAX);
    while let Some((block, buffer)) = next_block(body, at)? {
        at = block + 1;
        let start = u64::from(block) << bits;
        let mut placed = Vec::new();
        {
            let bytes = buffer.read();
            for entry in dirent::Entries::new(&bytes) {
                let entry = entry.map_err(|error| bad(body, block, error))?;
                if entry.inode != 0 && !entry.is_dot() {
                    let owned =
                        OwnedEntry { inode: entry.inode, kind: entry.kind, name: entry.name.to_vec() };
                    placed.push(Placed { position: start + entry.offset as u64, entry: owned });
                }
            }
        }
        let (next, state) = emit(&placed, position, sink)?;
        if state == SinkState::Full {
            return Ok(next);
        }
        position = position.max(start + (1 << bits));
    }
    Ok(position)
}
