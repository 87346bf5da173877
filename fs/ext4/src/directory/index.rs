//! The index of a large directory: finding the leaf of a name, and splitting what is full.
//!
//! Key functions: [`find`], [`add`], [`make`], [`Walk`]. A split leaf's second half gets an entry behind the first's; a full node is split the
//! same way, a full root moves into a node below it. Names whose hashes are equal may lie in two leaves: the second's entry then has bit 0 set.

use super::{Found, Kind, append, bad, block_count, change_leaf, has_checksums, names_of, need_block};
use crate::body::Body;
use crate::buffer::Buffer;
use crate::format::dirent::{self, OwnedEntry};
use crate::format::hash::{Hasher, NameHash};
use crate::format::htree::{self, Entry, NodeMut, NodeRef, Root};
use crate::format::inode::flag;
use crate::format::{CORRUPTED, Incompatible};
use crate::journal::Handle;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::Inode;

/// One level of the way to a leaf.
pub(crate) struct Level {
    buffer: Arc<Buffer>,
    start: usize,
    /// The entry that was taken.
    at: usize,
}

impl Level {
    fn look<R>(&self, look: impl FnOnce(NodeRef<'_>) -> Result<R>) -> Result<R> {
        look(NodeRef { bytes: &self.buffer.read(), start: self.start })
    }
}

/// The way from the root of an index to a leaf.
pub(crate) struct Walk<'a> {
    body: &'a Body,
    pub(crate) hasher: Hasher,
    levels: Vec<Level>,
}

/// Levels of nodes below the root, at most one fewer than this.
fn max_levels(body: &Body) -> u8 {
    if body.fs.geometry.incompatible.contains(Incompatible::LARGEDIR) { 3 } else { 2 }
}

impl<'a> Walk<'a> {
    /// The root, at its first entry. Errors: `EUCLEAN`, `EIO`.
    fn root(body: &'a Body) -> Result<(Walk<'a>, Root)> {
        let buffer = need_block(body, 0)?;
        let root = Root::read(&buffer.read(), max_levels(body)).map_err(|error| bad(body, 0, error))?;
        let hasher =
            Hasher::new(&body.fs.geometry, root.hash_version).map_err(|error| bad(body, 0, error))?;
        let level = Level { buffer, start: htree::ROOT_ENTRIES, at: 0 };
        Ok((Walk { body, hasher, levels: alloc::vec![level] }, root))
    }

    /// The way to the leaf with names of this hash. `hash` gets the directory's hasher.
    pub(crate) fn to(body: &'a Body, hash: impl FnOnce(&Hasher) -> u32) -> Result<Walk<'a>> {
        let (mut walk, root) = Walk::root(body)?;
        let hash = hash(&walk.hasher);
        for below in (0..=root.levels).rev() {
            let level = walk.levels.last_mut().ok_or(CORRUPTED)?;
            level.at = level.look(|node| node.find(hash)).map_err(|error| bad(body, 0, error))?;
            if below > 0 {
                walk.descend()?;
            }
        }
        Ok(walk)
    }

    /// Goes one level down from the entry taken, to the first entry there.
    fn descend(&mut self) -> Result<()> {
        let block = self.leaf()?;
        if block == 0 {
            return Err(bad(self.body, 0, CORRUPTED));
        }
        let buffer = need_block(self.body, block)?;
        let kind = super::kind_of(self.body, block, &buffer.read());
        if kind != Kind::Index(htree::NODE_ENTRIES) {
            return Err(bad(self.body, block, CORRUPTED));
        }
        self.levels.push(Level { buffer, start: htree::NODE_ENTRIES, at: 0 });
        Ok(())
    }

    /// The block that the last entry taken leads to.
    pub(crate) fn leaf(&self) -> Result<u32> {
        let level = self.levels.last().ok_or(CORRUPTED)?;
        let entry = level.look(|node| node.entry(level.at))?;
        if entry.block < block_count(self.body) {
            Ok(entry.block)
        } else {
            Err(bad(self.body, entry.block, CORRUPTED))
        }
    }

    /// Goes on to the next leaf; gives the hash that it begins with and whether names of the same hash are in the leaf before. `None`: there
    /// is none.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, bool)>> {
        let depth = self.levels.len();
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let (count, _) = level.look(|node| node.counts())?;
            if level.at + 1 < count {
                level.at += 1;
                break;
            }
            self.levels.pop();
        }
        let level = self.levels.last().ok_or(CORRUPTED)?;
        let hash = level.look(|node| node.entry(level.at))?.hash;
        while self.levels.len() < depth {
            self.descend()?;
        }
        Ok(Some((hash & !1, hash & 1 != 0)))
    }
}

/// Finds a name by the index. Errors: `EUCLEAN`, `EIO`.
pub(super) fn find(body: &Body, name: &[u8]) -> Result<Option<Found>> {
    let mut wanted = 0;
    let mut walk = Walk::to(body, |hasher| {
        wanted = hasher.hash(name).major;
        wanted
    })?;
    // More leaves than the directory has blocks are not looked at, whatever the index says.
    for _ in 0..=block_count(body) {
        let block = walk.leaf()?;
        let buffer = need_block(body, block)?;
        let found = dirent::find(&buffer.read(), name)
            .map_err(|error| bad(body, block, error))?
            .map(|entry| entry.inode);
        if let Some(number) = found {
            return Ok(Some(Found { number, block }));
        }
        match walk.next()? {
            Some((hash, true)) if hash == wanted => {}
            _ => return Ok(None),
        }
    }
    Err(bad(body, 0, CORRUPTED))
}

/// Changes an index block; the checksum follows.
pub(super) fn change<R>(
    body: &Body,
    handle: &mut Handle,
    buffer: &Arc<Buffer>,
    start: usize,
    change: impl FnOnce(&mut NodeMut<'_>) -> Result<R>,
) -> Result<R> {
    let result = handle.modify(buffer, |bytes| {
        let mut node = NodeMut { bytes, start };
        let result = change(&mut node)?;
        if has_checksums(body) {
            node.seal(body.checksum_seed)?;
        }
        Ok(result)
    })?;
    body.note_change(handle);
    result
}

/// Makes the only block of a directory the root of an index: its names move to a second one.
pub(super) fn make(directory: &Inode, body: &Body, handle: &mut Handle) -> Result<()> {
    let hasher = Hasher::default_of(&body.fs.geometry)?;
    let first = need_block(body, 0)?;
    let (names, dots) = {
        let bytes = first.read();
        let all = names_of(&bytes).map_err(|error| bad(body, 0, error))?;
        all.into_iter().partition::<Vec<_>, _>(|entry| !matches!(entry.name.as_slice(), b"." | b".."))
    };
    let [own, parent] = dots.as_slice() else { return Err(bad(body, 0, CORRUPTED)) };
    let (block, leaf) = append(directory, body, handle)?;
    change_leaf(body, handle, &leaf, |bytes| dirent::fill(bytes, names.iter()))?;
    body.set_flags(flag::INDEX, 0);
    change(body, handle, &first, htree::ROOT_ENTRIES, |root| {
        dirent::put_dots(root.bytes, own.inode, parent.inode, own.kind)?;
        Root { hash_version: hasher.version(), levels: 0 }.write(root.bytes)?;
        root.format(block, has_checksums(body))
    })?;
    let map = body.map.read();
    body.write_map(handle, &map)
}

/// Adds a name. Errors: `ENOSPC`: the index is full; and as `super::add`.
pub(super) fn add(directory: &Inode, body: &Body, handle: &mut Handle, entry: &OwnedEntry) -> Result<()> {
    let mut hash = NameHash::default();
    let mut walk = Walk::to(body, |hasher| {
        hash = hasher.hash(&entry.name);
        hash.major
    })?;
    let block = walk.leaf()?;
    let leaf = need_block(body, block)?;
    let put = |handle: &mut Handle, leaf: &Arc<Buffer>| {
        change_leaf(body, handle, leaf, |bytes| dirent::insert(bytes, &entry.name, entry.inode, entry.kind))
    };
    let room =
        super::has_room(dirent::body(&leaf.read(), has_checksums(body)), dirent::needed(entry.name.len()));
    if room.map_err(|error| bad(body, block, error))? {
        put(handle, &leaf)?;
        return Ok(());
    }
    make_room(directory, &mut walk, handle)?;
    let (second, split_hash) = split_leaf(directory, &walk, handle, &leaf)?;
    let target = if hash.major >= split_hash { &second } else { &leaf };
    if put(handle, target)? { Ok(()) } else { Err(bad(body, block, CORRUPTED)) }
}

/// Makes sure that the last node of a walk has room for an entry more, by splitting what is full.
fn make_room(directory: &Inode, walk: &mut Walk<'_>, handle: &mut Handle) -> Result<()> {
    let body = walk.body;
    let is_full = |level: &Level| level.look(|node| node.counts()).map(|(count, limit)| count >= limit);
    // From the last level up: how many are full?
    let mut full = 0;
    for level in walk.levels.iter().rev() {
        if !is_full(level)? {
            break;
        }
        full += 1;
    }
    if full == walk.levels.len() {
        if walk.levels.len() >= usize::from(max_levels(body)) {
            log::warn!("ext4: directory inode {}: the index is full", body.number);
            return Err(Errno::ENOSPC);
        }
        deepen(directory, walk, handle)?;
        // The new node has all entries of the root, so it is as full as that was.
    }
    let first = walk.levels.len() - full;
    for place in first..walk.levels.len() {
        split_node(directory, walk, handle, place)?;
    }
    Ok(())
}

/// Moves the root's entries into a new node below it.
fn deepen(directory: &Inode, walk: &mut Walk<'_>, handle: &mut Handle) -> Result<()> {
    let body = walk.body;
    let (block, buffer) = append(directory, body, handle)?;
    let root = walk.levels.first_mut().ok_or(CORRUPTED)?;
    let entries = root.look(|node| {
        let (count, _) = node.counts()?;
        (0..count).map(|index| node.entry(index)).collect::<Result<Vec<_>>>()
    })?;
    format_node(body, handle, &buffer, &entries)?;
    change(body, handle, &root.buffer, htree::ROOT_ENTRIES, |node| {
        let was = Root::read(node.bytes, u8::MAX)?;
        Root { levels: was.levels + 1, ..was }.write(node.bytes)?;
        node.format(block, has_checksums(body))
    })?;
    let at = core::mem::replace(&mut root.at, 0);
    walk.levels.insert(1, Level { buffer, start: htree::NODE_ENTRIES, at });
    Ok(())
}

/// Makes a block a node with these entries.
fn format_node(body: &Body, handle: &mut Handle, buffer: &Arc<Buffer>, entries: &[Entry]) -> Result<()> {
    change(body, handle, buffer, htree::NODE_ENTRIES, |node| {
        // To who goes through all blocks it is a block without names. (The entry's head comes before the index.)
        dirent::clear(node.bytes)?;
        node.format(0, has_checksums(body))?;
        node.fill(entries)
    })
}

/// Splits the full node at level `place`, whose parent has room; the walk goes on through the half with its entry.
fn split_node(directory: &Inode, walk: &mut Walk<'_>, handle: &mut Handle, place: usize) -> Result<()> {
    let body = walk.body;
    let (block, second) = append(directory, body, handle)?;
    let level = walk.levels.get_mut(place).ok_or(CORRUPTED)?;
    let (count, _) = level.look(|node| node.counts())?;
    let kept = if level.at + 1 == count { count - 1 } else { count / 2 };
    let first_buffer = level.buffer.clone();
    let moved = change(body, handle, &first_buffer, level.start, |node| node.split_off(kept))?;
    let hash = moved.first().ok_or(CORRUPTED)?.hash;
    format_node(body, handle, &second, &moved)?;
    if level.at >= kept {
        level.at -= kept;
        level.buffer = second;
    }
    let in_second = !Arc::ptr_eq(&level.buffer, &first_buffer);
    let parent = place.checked_sub(1).and_then(|above| walk.levels.get_mut(above)).ok_or(CORRUPTED)?;
    let at = parent.at;
    change(body, handle, &parent.buffer, parent.start, |node| node.insert_after(at, Entry { hash, block }))?;
    if in_second {
        parent.at += 1;
    }
    Ok(())
}

/// After how many things of these sizes the two parts differ least.
fn balance(sizes: impl Iterator<Item = usize> + Clone) -> usize {
    let total: usize = sizes.clone().sum();
    let mut size = 0;
    let differences = sizes.map(|own| {
        size += own;
        (2 * size).abs_diff(total)
    });
    differences.enumerate().min_by_key(|(_, difference)| *difference).map_or(0, |(place, _)| place + 1)
}

/// Moves the half of a leaf with the higher hashes to a new one; gives that and the hash that it begins with.
fn split_leaf(
    directory: &Inode,
    walk: &Walk<'_>,
    handle: &mut Handle,
    leaf: &Arc<Buffer>,
) -> Result<(Arc<Buffer>, u32)> {
    let body = walk.body;
    let mut names: Vec<(NameHash, OwnedEntry)> = names_of(dirent::body(&leaf.read(), has_checksums(body)))?
        .into_iter()
        .map(|entry| (walk.hasher.hash(&entry.name), entry))
        .collect();
    names.sort_unstable_by_key(|(hash, _)| *hash);
    let kept = balance(names.iter().map(|(_, entry)| dirent::needed(entry.name.len())));
    let upper = names.split_off(kept.min(names.len().saturating_sub(1)));
    let (Some((last, _)), Some((first, _))) = (names.last(), upper.first()) else {
        return Err(bad(body, 0, CORRUPTED));
    };
    let goes_on = u32::from(last.major == first.major);
    let split_hash = first.major;
    let (block, second) = append(directory, body, handle)?;
    change_leaf(body, handle, &second, |bytes| dirent::fill(bytes, upper.iter().map(|(_, entry)| entry)))?;
    change_leaf(body, handle, leaf, |bytes| dirent::fill(bytes, names.iter().map(|(_, entry)| entry)))?;
    let level = walk.levels.last().ok_or(CORRUPTED)?;
    let entry = Entry { hash: split_hash | goes_on, block };
    change(body, handle, &level.buffer, level.start, |node| node.insert_after(level.at, entry))?;
    Ok((second, split_hash))
}
