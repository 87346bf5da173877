//! What of an inode outlives the VFS's view of it: where its blocks are.
//!
//! Key types: [`Body`], [`Map`], [`Mapping`]. A page cache that is being written back lives longer than the inode that it came from, and
//! needs the body to do it; so the body knows nothing of the inode. It holds no reference to the page cache that keeps it.
//!
//! Everything that changes is written to the inode's block in the same handle: the copy of the map here only saves looking there.
//!
//! Locks: [`Body::map`] (sleeping): read to look up, written to change; below a handle, above groups and buffers. The others are leaves.

use crate::extents;
use crate::filesystem::FileSystem;
use crate::format::CORRUPTED;
use crate::format::inode::{self, InodeRef, MAP_SIZE, flag};
use crate::indirect;
use crate::journal::Handle;
use crate::ranges::Reads;
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::sync::{Mutex, RwLock, SpinLock, WaitQueue};
use mm::PageCache;
use vfs::Times;

/// Where the blocks are, as the inode has it.
pub struct Map {
    /// The root of the tree, or the pointers, or inline data.
    pub root: [u8; MAP_SIZE],
    /// Space taken, in units of 512 bytes.
    pub sectors: u64,
}

/// What is known of some of a file's blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The first block, in the file.
    pub block: u32,
    /// How many have this state.
    pub length: u32,
    /// Which.
    pub state: State,
}

/// The state of blocks of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing is allotted.
    Hole,
    /// They are at this block of the device and the next.
    Written(u64),
    /// They have a place, but read as zeros.
    Unwritten(u64),
}

impl State {
    /// Where the blocks are, if they have a place.
    pub fn place(self) -> Option<u64> {
        match self {
            State::Hole => None,
            State::Written(start) | State::Unwritten(start) => Some(start),
        }
    }
}

/// See the head of this file.
pub struct Body {
    /// The file system.
    pub fs: Arc<FileSystem>,
    /// The inode's number.
    pub number: u32,
    /// Tells it from others that had the number.
    pub generation: u32,
    /// What checksums of its metadata begin with.
    pub checksum_seed: u32,
    /// `i_flags`.
    pub flags: AtomicU32,
    /// Where its blocks are.
    pub map: RwLock<Map>,
    /// The size that the inode has on the disk.
    pub disk_size: AtomicU64,
    /// The page cache, while it is in memory.
    pub cache: SpinLock<Weak<PageCache>>,
    /// Blocks that dirty pages will need and room is reserved for: start and length.
    pub reserved: SpinLock<Reserved>,
    /// Runs of blocks that are being written and not yet in the map: truncation waits for them.
    pub in_flight: SpinLock<BTreeMap<u32, u32>>,
    /// Woken when one of them is done.
    pub landed: WaitQueue,
    /// The transaction that last changed the inode.
    pub changed_in: AtomicU64,
    /// Times that are newer than the inode's on the disk.
    pub late_times: SpinLock<Option<Times>>,
    /// Held while a small file's contents move out of its inode.
    pub moving: Mutex<()>,
    /// See `ranges`.
    pub layout: RwLock<()>,
    /// Reads of contents under way.
    pub reads: Arc<Reads>,
    /// It was cut to nothing and is being written again: the new contents are not kept waiting.
    pub was_replaced: AtomicBool,
    /// Where the next blocks may well be, when the file grows: behind the last that were allotted.
    pub goal: AtomicU64,
}

/// Which blocks have room reserved.
#[derive(Default)]
pub struct Reserved {
    runs: BTreeMap<u32, u32>,
    count: u64,
    /// Of a block map: blocks of pointers that some of the blocks need, with how many have to be made for each.
    nodes: BTreeMap<u32, u32>,
}

impl Reserved {
    /// Adds a run; gives how many of its blocks are new.
    pub fn insert(&mut self, start: u32, length: u32) -> u32 {
        let end = start.saturating_add(length);
        let (mut first, mut last, mut known) = (start, end, 0);
        while let Some((&at, &size)) = self.runs.range(..=last).next_back() {
            let stop = at + size;
            if stop < first {
                break;
            }
            known += stop.min(end).saturating_sub(at.max(start));
            self.runs.remove(&at);
            first = first.min(at);
            last = last.max(stop);
        }
        self.runs.insert(first, last - first);
        let added = (end - start) - known;
        self.count += u64::from(added);
        added
    }

    /// Removes what of a run is there; gives how many blocks that was.
    pub fn remove(&mut self, start: u32, length: u32) -> u32 {
        let end = start.saturating_add(length);
        let mut removed = 0;
        while let Some((&at, &size)) = self.runs.range(..end).next_back() {
            let stop = at + size;
            if stop <= start {
                break;
            }
            self.runs.remove(&at);
            if stop > end {
                self.runs.insert(end, stop - end);
            }
            if at < start {
                self.runs.insert(at, start - at);
            }
            removed += stop.min(end) - at.max(start);
        }
        self.count -= u64::from(removed);
        removed
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first reserved block at or after `block`, and how many follow it.
    pub fn next(&self, block: u32) -> Option<(u32, u32)> {
        if let Some((&at, &size)) = self.runs.range(..=block).next_back()
            && at + size > block
        {
            return Some((block, at + size - block));
        }
        self.runs.range(block..).next().map(|(at, size)| (*at, *size))
    }
}

impl Body {
    /// The body of the inode with these bytes. Errors: `EUCLEAN`.
    pub fn new(fs: &Arc<FileSystem>, number: u32, raw: InodeRef<'_>) -> Result<Arc<Body>> {
        let generation = raw.generation()?;
        let body = Body {
            fs: fs.clone(),
            number,
            generation,
            checksum_seed: inode::checksum_seed(&fs.geometry, number, generation),
            flags: AtomicU32::new(raw.flags()?),
            map: RwLock::new(Map { root: raw.map()?, sectors: raw.blocks(&fs.geometry)? }),
            disk_size: AtomicU64::new(raw.size()?),
            cache: SpinLock::new(Weak::new()),
            reserved: SpinLock::new(Reserved::default()),
            in_flight: SpinLock::new(BTreeMap::new()),
            landed: WaitQueue::new(),
            // What an earlier life of the inode changed may not be committed yet.
            changed_in: AtomicU64::new(fs.journal().map_or(0, |journal| u64::from(journal.newest().0))),
            moving: Mutex::new(()),
            layout: RwLock::new(()),
            reads: machine::memory::try_arc(Reads::default()).map_err(Errno::from)?,
            was_replaced: AtomicBool::new(false),
            late_times: SpinLock::new(None),
            goal: AtomicU64::new(0),
        };
        machine::memory::try_arc(body).map_err(Errno::from)
    }

    /// Whether any of these `i_flags` is set.
    pub fn has_flags(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    /// Whether its contents are in the inode itself.
    pub fn is_inline(&self) -> bool {
        self.has_flags(flag::INLINE_DATA)
    }

    /// Whether it has an extent tree.
    pub fn has_extents(&self) -> bool {
        self.has_flags(flag::EXTENTS)
    }

    /// The page cache, if it is in memory.
    pub fn page_cache(&self) -> Option<Arc<PageCache>> {
        self.cache.lock().upgrade()
    }

    /// Where `block` of the file is, and as many after it as have the same state, up to `max`. Errors: `EUCLEAN`, `EIO`.
    pub fn find(&self, block: u32, max: u32) -> Result<Mapping> {
        let map = self.map.read();
        self.find_locked(&map, block, max)
    }

    /// The same with the map locked.
    pub fn find_locked(&self, map: &Map, block: u32, max: u32) -> Result<Mapping> {
        let mapping = if self.is_inline() {
            Mapping { block, length: max, state: State::Hole }
        } else if self.has_extents() {
            extents::find(self, map, block)?
        } else {
            indirect::find(self, map, block, max)?
        };
        Ok(Mapping { length: mapping.length.min(max), ..mapping })
    }

    /// Blocks of the file that its size covers.
    pub fn blocks_of(&self, size: u64) -> u64 {
        size.div_ceil(u64::from(self.fs.geometry.block_size))
    }

    /// The device block of `block`, which must be there. Errors: `EUCLEAN`: it is a hole.
    pub fn place_of(&self, block: u32) -> Result<u64> {
        match self.find(block, 1)?.state {
            State::Written(place) => Ok(place),
            _ => Err(self
                .fs
                .complain(CORRUPTED, format_args!("inode {}: block {block} is a hole", self.number))),
        }
    }

    /// Writes map and space to the inode. The map is locked.
    pub fn write_map(&self, handle: &mut Handle, map: &Map) -> Result<()> {
        let flags = self.flags.load(Ordering::Relaxed);
        self.fs.change_inode(handle, self.number, |inode| {
            inode.set_map(&map.root)?;
            inode.set_flags(flags)?;
            inode.set_blocks(&self.fs.geometry, map.sectors)
        })?;
        self.note_change(handle);
        Ok(())
    }

    /// Writes the size to the inode.
    pub fn write_size(&self, handle: &mut Handle, size: u64) -> Result<()> {
        self.fs.change_inode(handle, self.number, |inode| inode.set_size(size))?;
        self.disk_size.store(size, Ordering::Release);
        self.note_change(handle);
        Ok(())
    }

    /// Notes which transaction `fsync` has to wait for.
    pub fn note_change(&self, handle: &Handle) {
        self.changed_in.fetch_max(u64::from(handle.tid()), Ordering::AcqRel);
    }

    /// Changes `i_flags` in memory.
    pub fn set_flags(&self, set: u32, clear: u32) {
        let change = |flags: u32| Some((flags & !clear) | set);
        let _ = self.flags.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// Blocks of 512 bytes that `blocks` blocks take.
    pub fn sectors_of(&self, blocks: u64) -> u64 {
        blocks << (self.fs.geometry.block_bits - 9)
    }

    /// Where new blocks had best be: behind what is before them, or at the inode's own group.
    pub fn goal_for(&self, map: &Map, block: u32) -> u64 {
        if let Some(before) = block.checked_sub(1)
            && let Ok(mapping) = self.find_locked(map, before, 1)
            && let Some(place) = mapping.state.place()
        {
            return place + 1;
        }
        let (group, index) = self.fs.geometry.inode_place(self.number).unwrap_or((0, 0));
        // Files of one group begin at different places of it.
        let spread = (index % 16) * (self.fs.geometry.blocks_per_group / 16);
        self.fs.geometry.group_start(group) + u64::from(spread)
    }

    /// Reserves room for a block that has none, and for the blocks of pointers that it needs; says whether it had no room reserved before.
    ///
    /// Errors: `ENOSPC`, `EUCLEAN`, `EIO`.
    pub fn reserve_block(&self, block: u32) -> Result<bool> {
        let node = if self.has_extents() { None } else { indirect::node_of(self, block) };
        let missing = match node {
            Some(_) => indirect::missing_nodes(self, &self.map.read(), block)?,
            None => 0,
        };
        let mut reserved = self.reserved.lock();
        if reserved.insert(block, 1) == 0 {
            return Ok(false);
        }
        let node = node.filter(|node| missing > 0 && !reserved.nodes.contains_key(node));
        if let Err(error) = self.fs.reserve(1 + node.map_or(0, |_| missing)) {
            reserved.remove(block, 1);
            return Err(error);
        }
        if let Some(node) = node {
            reserved.nodes.insert(node, missing);
        }
        Ok(true)
    }

    /// Takes the reservation of blocks back, as far as there is one.
    pub fn unreserve_blocks(&self, block: u32, length: u32) {
        let mut reserved = self.reserved.lock();
        let mut removed = reserved.remove(block, length);
        let end = block.saturating_add(length);
        if let Some(last) = end.checked_sub(1).and_then(|last| indirect::node_of(self, last)) {
            let mut from = indirect::node_of(self, block).unwrap_or(0);
            while from <= last
                && let Some((&node, &count)) = reserved.nodes.range(from..=last).next()
            {
                let blocks = indirect::blocks_of_node(self, node);
                let first = u32::try_from(blocks.start).unwrap_or(u32::MAX);
                if reserved.next(first).is_none_or(|(next, _)| u64::from(next) >= blocks.end) {
                    reserved.nodes.remove(&node);
                    removed += count;
                }
                from = node.saturating_add(1);
            }
        }
        drop(reserved);
        self.fs.unreserve(removed);
    }

    /// Whether this block is being written and not yet in the map.
    pub fn is_in_flight(&self, block: u32) -> bool {
        let flights = self.in_flight.lock();
        flights.range(..=block).next_back().is_some_and(|(start, length)| block - start < *length)
    }

    /// Something is being written to blocks that are not in the map yet.
    pub fn begin_flight(&self, block: u32, length: u32) {
        self.in_flight.lock().insert(block, length);
    }

    /// They are in the map now, or given up.
    pub fn end_flight(&self, block: u32) {
        self.in_flight.lock().remove(&block);
        self.landed.wake_all();
    }

    /// Waits until nothing at or behind `block` is being written. The caller keeps new ones from beginning.
    pub fn wait_for_flights(&self, block: u32) {
        let _ = self.landed.wait_until(machine::sync::WaitKind::Uninterruptible, None, || {
            let flights = self.in_flight.lock();
            let last = flights.last_key_value();
            last.is_none_or(|(start, length)| start + length <= block).then_some(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reservations_agree_with_bits(steps in prop::collection::vec((any::<bool>(), 0_u32..100, 1_u32..30), 0..80)) {
            let mut reserved = Reserved::default();
            let mut bits = [false; 140];
            for (add, start, length) in steps {
                let place = &mut bits[start as usize..(start + length) as usize];
                let differ = place.iter().filter(|bit| **bit != add).count() as u32;
                place.fill(add);
                let changed = if add { reserved.insert(start, length) } else { reserved.remove(start, length) };
                prop_assert_eq!(changed, differ);
                prop_assert_eq!(reserved.count(), bits.iter().filter(|bit| **bit).count() as u64);
                let first = bits.iter().position(|bit| *bit).map(|at| at as u32);
                prop_assert_eq!(reserved.next(0).map(|(at, _)| at), first);
            }
        }
    }
}
