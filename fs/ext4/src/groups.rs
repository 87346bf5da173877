//! Block groups: which blocks are free, and the claims on them.
//!
//! Key types: [`Group`], [`Free`] (a group's free runs, by place and by length), [`Claim`] (blocks that somebody will use).
//!
//! Blocks are given out in memory first ([`FileSystem::claim`]): the claim's blocks are out of the index of free runs, but the bitmap on the
//! disk is as before. So contents of files are written to claimed blocks before anything on the disk names them, and only then the
//! claim is [taken](Claim::take): bitmap, descriptor and the file's map change in one handle. A claim that is dropped gives its blocks back.
//! Nothing that crashes in between leaves a trace, and nobody ever reads what a block held before.
//!
//! The other way round, a freed block is free in the bitmap at once, but comes back to the index only when the transaction has
//! committed: until then a crash would give it back to its old owner.
//!
//! Every group's index is loaded from its bitmap at the first use. What is to be found by length is a sorted set: no step is worse than
//! O(log n) in the free runs of a group, and the group is found by its largest run in a sorted set of groups.
//!
//! Locks: `Group::free` (sleeping: it reads the bitmap) → `FileSystem::by_largest` → a buffer. `Group::descriptor` is a leaf.

use crate::filesystem::FileSystem;
use crate::format::group::{self, Descriptor};
use crate::format::{self, CORRUPTED};
use crate::journal::Handle;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::ops::Range;
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::{Mutex, MutexGuard, SpinLock};

/// A block group.
pub struct Group {
    number: u32,
    descriptor: SpinLock<Descriptor>,
    free: Mutex<Index>,
    /// Held while inodes of the group are allotted and freed.
    pub inodes: Mutex<()>,
    /// No inode below this one is free, within the group.
    pub first_free_inode: AtomicU32,
    /// Its bitmap cannot be believed: nothing is allotted there.
    corrupt: AtomicBool,
}

/// The state of a group's index.
#[derive(Default)]
struct Index {
    loaded: bool,
    free: Free,
    /// Blocks that are free in the bitmap but not to be given out: claimed, or freed by a transaction that has not committed.
    held: BTreeMap<u32, u32>,
}

/// Free runs: blocks within a group.
#[derive(Default)]
struct Free {
    by_place: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
}

impl Free {
    fn largest(&self) -> u32 {
        self.by_length.last().map_or(0, |(length, _)| *length)
    }

    fn put(&mut self, start: u32, length: u32) {
        self.by_place.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn take_run(&mut self, start: u32, length: u32) {
        self.by_place.remove(&start);
        self.by_length.remove(&(length, start));
    }

    /// Adds free blocks, joined with what is next to them.
    fn insert(&mut self, start: u32, length: u32) {
        let (mut first, mut end) = (start, start + length);
        if let Some((&before, &size)) = self.by_place.range(..start).next_back()
            && before + size >= start
        {
            self.take_run(before, size);
            first = before;
            end = end.max(before + size);
        }
        while let Some((&after, &size)) = self.by_place.range(first..=end).next() {
            self.take_run(after, size);
            end = end.max(after + size);
        }
        self.put(first, end - first);
    }

    /// Takes blocks out, as many of them as are there.
    fn remove(&mut self, range: Range<u32>) {
        while let Some((&start, &size)) = self.by_place.range(..range.end).next_back()
            && start + size > range.start
        {
            self.take_run(start, size);
            let end = start + size;
            if end > range.end {
                self.put(range.end, end - range.end);
            }
            if start < range.start {
                self.put(start, range.start - start);
                return;
            }
        }
    }

    /// The best run for `wanted` blocks: at `goal` if something is free there, then the first behind it that is long enough within reach, then
    /// the shortest that is long enough, then the longest.
    fn choose(&self, goal: Option<u32>, wanted: u32) -> Option<(u32, u32)> {
        /// How many runs behind the goal are looked at.
        const REACH: usize = 16;
        if let Some(goal) = goal {
            if let Some((&start, &size)) = self.by_place.range(..=goal).next_back()
                && start + size > goal
            {
                return Some((goal, (start + size - goal).min(wanted)));
            }
            let mut near = self.by_place.range(goal..).take(REACH);
            if let Some((&start, _)) = near.find(|(_, size)| **size >= wanted) {
                return Some((start, wanted));
            }
        }
        let fitting = self.by_length.range((wanted, 0)..).next();
        let (size, start) = fitting.or(self.by_length.last())?;
        Some((*start, (*size).min(wanted)))
    }
}

impl Group {
    /// A group whose index is not loaded.
    pub fn new(number: u32, descriptor: Descriptor) -> Group {
        Group {
            number,
            descriptor: SpinLock::new(descriptor),
            free: Mutex::new(Index::default()),
            inodes: Mutex::new(()),
            first_free_inode: AtomicU32::new(0),
            corrupt: AtomicBool::new(false),
        }
    }

    /// What the descriptor says now.
    pub fn descriptor(&self) -> Descriptor {
        *self.descriptor.lock()
    }

    /// Changes the descriptor in memory; gives what it is then.
    pub fn change(&self, change: impl FnOnce(&mut Descriptor)) -> Descriptor {
        let mut descriptor = self.descriptor.lock();
        change(&mut descriptor);
        *descriptor
    }

    /// Whether its bitmaps cannot be believed.
    pub fn is_corrupt(&self) -> bool {
        self.corrupt.load(Ordering::Relaxed)
    }

    /// Nothing is to be allotted here any more.
    pub fn set_corrupt(&self) {
        self.corrupt.store(true, Ordering::Relaxed);
    }
}

/// The bitmap of a group that was never used: its own metadata.
fn initial_bitmap(fs: &FileSystem, number: u32, bitmap: &mut [u8]) {
    let geometry = &fs.geometry;
    bitmap.fill(0);
    let blocks = geometry.group_blocks(number);
    for index in 0..geometry.base_blocks(number).min(blocks) {
        format::set_bit(bitmap, index as usize, true);
    }
    let Ok(group) = fs.group(number) else { return };
    let descriptor = group.descriptor();
    let table = descriptor.inode_table..descriptor.inode_table + u64::from(geometry.table_blocks());
    for block in [descriptor.block_bitmap, descriptor.inode_bitmap].into_iter().chain(table) {
        if let Some((own, index)) = geometry.group_of(block)
            && own == number
        {
            format::set_bit(bitmap, index as usize, true);
        }
    }
    for index in blocks as usize..bitmap.len() * 8 {
        format::set_bit(bitmap, index, true);
    }
}

/// Calls `found` with every free run of a bitmap.
fn free_runs(bitmap: &[u8], blocks: u32, mut found: impl FnMut(u32, u32)) {
    let end = blocks as usize;
    let mut at = 0;
    while let Some(start) = format::find_bit(bitmap, false, at, end) {
        let stop = format::find_bit(bitmap, true, start, end).unwrap_or(end);
        found(start as u32, (stop - start) as u32);
        at = stop;
    }
}

/// Blocks that somebody will use; see the head of this file.
pub struct Claim {
    fs: Arc<FileSystem>,
    group: u32,
    start: u32,
    length: u32,
}

impl Claim {
    /// The first block.
    pub fn start(&self) -> u64 {
        self.fs.geometry.group_start(self.group) + u64::from(self.start)
    }

    /// How many.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Leaves the first `length` blocks here and gives the others.
    pub fn split_off(&mut self, length: u32) -> Claim {
        let kept = length.min(self.length);
        let rest = Claim {
            fs: self.fs.clone(),
            group: self.group,
            start: self.start + kept,
            length: self.length - kept,
        };
        self.length = kept;
        rest
    }

    /// The blocks are used from now on: they are marked in the bitmap, in this handle. Changes two blocks.
    ///
    /// Errors: the handle's; the blocks are then free again.
    pub fn take(mut self, handle: &mut Handle) -> Result<()> {
        let fs = self.fs.clone();
        let group = fs.group(self.group)?;
        let mut index = group.free.lock();
        fs.mark(handle, group, self.start..self.start + self.length, true)?;
        index.release(self.start, self.length);
        self.length = 0;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.length > 0 {
            self.fs.give_back(self.group, self.start, self.length);
        }
    }
}

impl Index {
    /// Notes that blocks are not to be given out although the bitmap says so.
    fn hold(&mut self, start: u32, length: u32) {
        self.held.insert(start, length);
    }

    /// They are not held any more. (A claim may have been split since it was noted.)
    fn release(&mut self, start: u32, length: u32) {
        let Some((&first, &size)) = self.held.range(..=start).next_back() else { return };
        self.held.remove(&first);
        if first < start {
            self.held.insert(first, start - first);
        }
        let (end, whole) = (start + length, first + size);
        if end < whole {
            self.held.insert(end, whole - end);
        }
    }
}

impl FileSystem {
    /// A group's index, loaded. Errors: `EIO`; `EUCLEAN`, `EBADMSG`: the bitmap cannot be believed.
    fn index<'a>(&self, group: &'a Group) -> Result<MutexGuard<'a, Index>> {
        let mut index = group.free.lock();
        if !index.loaded {
            if group.is_corrupt() {
                return Err(CORRUPTED);
            }
            self.load(group, &mut index).map_err(|error| self.not_loaded(group, error))?;
        }
        Ok(index)
    }

    /// A bitmap cannot be believed, or cannot be read now: then it may be the next time. Gives the error back.
    fn not_loaded(&self, group: &Group, error: Errno) -> Errno {
        if error == Errno::ENOMEM {
            return error;
        }
        if error != Errno::EIO {
            group.set_corrupt();
            self.free_blocks.fetch_sub(i64::from(group.descriptor().free_blocks), Ordering::Relaxed);
        }
        self.complain(error, format_args!("the block bitmap of group {} is wrong", group.number))
    }

    fn load(&self, group: &Group, index: &mut Index) -> Result<()> {
        let descriptor = group.descriptor();
        let blocks = self.geometry.group_blocks(group.number);
        let mut free = Free::default();
        let mut count = 0;
        let mut add = |start, length| {
            free.put(start, length);
            count += length;
        };
        if descriptor.has(group::BLOCK_UNINIT) {
            let mut bitmap = alloc::vec![0; self.geometry.block_size as usize];
            initial_bitmap(self, group.number, &mut bitmap);
            free_runs(&bitmap, blocks, &mut add);
        } else {
            let buffer = self.buffers.read(descriptor.block_bitmap)?;
            let bitmap = buffer.read();
            if self.geometry.has_checksums() {
                let sum = group::bitmap_checksum(&self.geometry, &bitmap, self.geometry.blocks_per_group);
                if sum != descriptor.block_bitmap_checksum {
                    return Err(format::BAD_CHECKSUM);
                }
            }
            free_runs(&bitmap, blocks, &mut add);
        }
        if count != descriptor.free_blocks {
            log::error!(
                "ext4: group {} has {count} free blocks, not {}",
                group.number,
                descriptor.free_blocks
            );
            return Err(CORRUPTED);
        }
        for (start, length) in &index.held {
            free.remove(*start..*start + *length);
        }
        self.by_largest.lock().insert((free.largest(), group.number));
        (index.free, index.loaded) = (free, true);
        Ok(())
    }

    /// Changes a loaded index and keeps the order of groups by their largest run.
    fn change_index<R>(&self, group: &Group, index: &mut Index, change: impl FnOnce(&mut Index) -> R) -> R {
        let before = index.free.largest();
        let result = change(index);
        let after = index.free.largest();
        if index.loaded && before != after {
            let mut order = self.by_largest.lock();
            order.remove(&(before, group.number));
            order.insert((after, group.number));
        }
        result
    }

    /// Marks blocks of a group in its bitmap as used or free, with everything that counts them.
    fn mark(&self, handle: &mut Handle, group: &Group, range: Range<u32>, used: bool) -> Result<()> {
        let descriptor = group.descriptor();
        let fresh = descriptor.has(group::BLOCK_UNINIT);
        let buffer = if fresh {
            handle.create(descriptor.block_bitmap)?
        } else {
            self.buffers.read(descriptor.block_bitmap)?
        };
        let (changed, sum) = handle.modify(&buffer, |bitmap| {
            if fresh {
                initial_bitmap(self, group.number, bitmap);
            }
            let mut changed = 0;
            for bit in range.clone() {
                changed += u32::from(format::bit(bitmap, bit as usize) != used);
                format::set_bit(bitmap, bit as usize, used);
            }
            (changed, group::bitmap_checksum(&self.geometry, bitmap, self.geometry.blocks_per_group))
        })?;
        self.change_descriptor(handle, group.number, |descriptor| {
            descriptor.flags &= !group::BLOCK_UNINIT;
            descriptor.block_bitmap_checksum = sum;
            descriptor.free_blocks = match used {
                true => descriptor.free_blocks.saturating_sub(changed),
                false => descriptor.free_blocks + changed,
            };
        })?;
        if changed != range.end - range.start {
            let how = if used { "used" } else { "free" };
            return Err(self.complain(
                CORRUPTED,
                format_args!("blocks {range:?} of group {} were {how} already", group.number),
            ));
        }
        Ok(())
    }

    /// Makes sure that the block bitmap of a group exists.
    pub fn initialise_bitmap(&self, handle: &mut Handle, number: u32) -> Result<()> {
        let group = self.group(number)?;
        let _index = group.free.lock();
        if group.descriptor().has(group::BLOCK_UNINIT) {
            self.mark(handle, group, 0..0, true)
        } else {
            Ok(())
        }
    }

    fn give_back(&self, number: u32, start: u32, length: u32) {
        let Ok(group) = self.group(number) else { return };
        let mut index = group.free.lock();
        self.change_index(group, &mut index, |index| {
            index.release(start, length);
            if index.loaded {
                index.free.insert(start, length);
            }
        });
        drop(index);
        self.free_blocks.fetch_add(i64::from(length), Ordering::Relaxed);
    }

    /// Claims blocks in one group; `None`: it has not so many together, or its bitmap is wrong. Errors: `EIO`, `ENOMEM`: it cannot be read.
    fn claim_in(
        self: &Arc<Self>,
        number: u32,
        goal: Option<u32>,
        wanted: u32,
        least: u32,
    ) -> Result<Option<Claim>> {
        let group = self.group(number)?;
        if group.is_corrupt() || group.descriptor().free_blocks < least {
            return Ok(None);
        }
        let mut index = match self.index(group) {
            Ok(index) => index,
            Err(error @ (Errno::EIO | Errno::ENOMEM)) => return Err(error),
            Err(_) => return Ok(None),
        };
        let chosen = index.free.choose(goal, wanted).filter(|(_, length)| *length >= least);
        let Some((start, length)) = chosen else { return Ok(None) };
        self.change_index(group, &mut index, |index| {
            index.free.remove(start..start + length);
            index.hold(start, length);
        });
        self.free_blocks.fetch_sub(i64::from(length), Ordering::Relaxed);
        Ok(Some(Claim { fs: self.clone(), group: number, start, length }))
    }

    /// Claims up to `wanted` blocks that follow each other, near `goal` if that can be: in its group, in the groups next to it, in the one whose
    /// largest run fits best, anywhere.
    ///
    /// Errors: `ENOSPC`; `EIO`, `ENOMEM`: there may be room where it cannot be looked for.
    pub fn claim(self: &Arc<Self>, goal: u64, wanted: u32) -> Result<Claim> {
        let wanted = wanted.clamp(1, self.geometry.blocks_per_group);
        let (goal_group, place) = self.geometry.group_of(goal).unwrap_or((0, 0));
        // What cannot be read here counts only if there is no room elsewhere: `claim_anywhere` comes to it again.
        if let Ok(Some(claim)) = self.claim_in(goal_group, Some(place), wanted, 1.max(wanted / 4)) {
            return Ok(claim);
        }
        let near = 1_u32 << self.geometry.flex_bits.min(4);
        let first = goal_group & !(near - 1);
        for number in first..first.saturating_add(near.max(4)).min(self.geometry.groups) {
            if let Ok(Some(claim)) = self.claim_in(number, None, wanted, wanted) {
                return Ok(claim);
            }
        }
        let best = self.by_largest.lock().range((wanted, 0)..).next().map(|(_, number)| *number);
        if let Some(Ok(Some(claim))) = best.map(|number| self.claim_in(number, None, wanted, 1)) {
            return Ok(claim);
        }
        self.claim_anywhere(goal_group, wanted)
    }

    /// Goes through the groups, first for enough in one run, then for anything. A group that is loaded is skipped by its largest run.
    fn claim_anywhere(self: &Arc<Self>, from: u32, wanted: u32) -> Result<Claim> {
        let mut error = Errno::ENOSPC;
        for least in [wanted, 1] {
            let order = (from..self.geometry.groups).chain(0..from);
            for number in order {
                match self.claim_in(number, None, wanted, least) {
                    Ok(Some(claim)) => return Ok(claim),
                    Ok(None) => {}
                    Err(unreadable) => error = unreadable,
                }
            }
        }
        Err(error)
    }

    /// The same, but leaves what is reserved for dirty pages and their trees. Errors: `ENOSPC`.
    pub fn claim_spare(self: &Arc<Self>, goal: u64, wanted: u32) -> Result<Claim> {
        let kept = self.metadata_pool + self.delayed_blocks.load(Ordering::Acquire);
        let spare = self.free_blocks.load(Ordering::Relaxed) - kept;
        if spare <= 0 {
            return Err(Errno::ENOSPC);
        }
        self.claim(goal, u32::try_from(spare).map_or(wanted, |spare| spare.min(wanted)))
    }

    /// Claims and takes one block for metadata. Changes two blocks. Errors: `ENOSPC`.
    pub fn allot_block(self: &Arc<Self>, handle: &mut Handle, goal: u64) -> Result<u64> {
        let claim = self.claim(goal, 1)?;
        let block = claim.start();
        claim.take(handle)?;
        Ok(block)
    }

    /// Frees blocks that a file had. Changes two blocks for each group that they touch. They can be used again when the handle's transaction has
    /// committed.
    ///
    /// Errors: `EUCLEAN`: they are not there, or were free.
    pub fn free_run(
        self: &Arc<Self>,
        handle: &mut Handle,
        start: u64,
        count: u32,
        kind: Contents,
    ) -> Result<()> {
        if !self.geometry.contains(start, u64::from(count)) || self.is_metadata(start, count) {
            return Err(
                self.complain(CORRUPTED, format_args!("blocks {start}+{count} to be freed are not a file's"))
            );
        }
        if kind == Contents::Metadata {
            for block in start..start + u64::from(count) {
                handle.forget(block)?;
            }
        }
        let (mut at, mut left) = (start, count);
        while left > 0 {
            let (number, place) = self.geometry.group_of(at).ok_or(CORRUPTED)?;
            let part = left.min(self.geometry.group_blocks(number) - place);
            self.free_in_group(handle, number, place, part)?;
            (at, left) = (at + u64::from(part), left - part);
        }
        Ok(())
    }

    fn free_in_group(
        self: &Arc<Self>,
        handle: &mut Handle,
        number: u32,
        start: u32,
        count: u32,
    ) -> Result<()> {
        let group = self.group(number)?;
        let mut index = self.index(group)?;
        index.hold(start, count);
        // If that fails, what was free already is in the index; what was not stays held: neither is given out twice.
        self.mark(handle, group, start..start + count, false)?;
        drop(index);
        let fs = self.clone();
        handle.on_commit(Box::new(move || fs.freed_for_good(number, start, count)));
        Ok(())
    }

    /// The transaction that freed blocks has committed.
    fn freed_for_good(&self, number: u32, start: u32, count: u32) {
        if self.options.read().discard {
            let per_block = u64::from(self.geometry.block_size) / block::SECTOR_SIZE as u64;
            let first = self.geometry.group_start(number) + u64::from(start);
            // Only a hint: what cannot be discarded is as free.
            let _ = self.device.discard(first * per_block, u64::from(count) * per_block);
        }
        self.give_back(number, start, count);
    }

    /// Whether blocks belong to a group's own metadata.
    fn is_metadata(&self, start: u64, count: u32) -> bool {
        let end = start + u64::from(count);
        let touches = |first: u64, length: u64| length > 0 && first < end && start < first + length;
        let (Some((first, _)), Some((last, _))) =
            (self.geometry.group_of(start), self.geometry.group_of(end - 1))
        else {
            return true;
        };
        // With flexible groups the metadata of a group lies in the first of those that go together.
        let flex = 1_u32 << self.geometry.flex_bits.min(8);
        let range = first & !(flex - 1)..(last | (flex - 1)).saturating_add(1).min(self.geometry.groups);
        let base = (first..=last).any(|number| {
            touches(self.geometry.group_start(number), u64::from(self.geometry.base_blocks(number)))
        });
        base || range.into_iter().any(|number| {
            let Ok(group) = self.group(number) else { return false };
            let descriptor = group.descriptor();
            touches(descriptor.block_bitmap, 1)
                || touches(descriptor.inode_bitmap, 1)
                || touches(descriptor.inode_table, u64::from(self.geometry.table_blocks()))
        })
    }

    /// Calls `each` with the free runs of a group that have at least `least` blocks, one after the other, each claimed meanwhile (FITRIM).
    pub fn each_free_run(
        self: &Arc<Self>,
        number: u32,
        least: u32,
        mut each: impl FnMut(&Claim) -> Result<()>,
    ) -> Result<()> {
        let group = self.group(number)?;
        let mut from = 0;
        loop {
            let claim = {
                let mut index = self.index(group)?;
                let Some((start, length)) = index
                    .free
                    .by_place
                    .range(from..)
                    .find(|(_, length)| **length >= least)
                    .map(|(start, length)| (*start, *length))
                else {
                    return Ok(());
                };
                self.change_index(group, &mut index, |index| {
                    index.free.remove(start..start + length);
                    index.hold(start, length);
                });
                self.free_blocks.fetch_sub(i64::from(length), Ordering::Relaxed);
                Claim { fs: self.clone(), group: number, start, length }
            };
            from = claim.start + claim.length;
            each(&claim)?;
        }
    }

    /// Reserves room for `blocks` blocks that dirty pages will need. Errors: `ENOSPC`.
    pub fn reserve(&self, blocks: u32) -> Result<()> {
        let wanted = i64::from(blocks);
        let delayed = self.delayed_blocks.fetch_add(wanted, Ordering::AcqRel);
        if self.free_blocks.load(Ordering::Relaxed) - self.metadata_pool < delayed + wanted {
            self.unreserve(blocks);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Takes that back.
    pub fn unreserve(&self, blocks: u32) {
        self.delayed_blocks.fetch_sub(i64::from(blocks), Ordering::AcqRel);
    }
}

/// What blocks held that are freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// A file's contents.
    Data,
    /// Something that went through the journal.
    Metadata,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn free_runs_agree_with_bits(steps in prop::collection::vec((any::<bool>(), 0_u32..200, 1_u32..40), 0..100)) {
            let mut free = Free::default();
            let mut bits = [false; 256];
            for (add, start, length) in steps {
                let place = start as usize..(start + length) as usize;
                if add {
                    if bits[place.clone()].iter().any(|bit| *bit) {
                        continue;
                    }
                    free.insert(start, length);
                } else {
                    free.remove(start..start + length);
                }
                bits[place].fill(add);
                let mut listed = [false; 256];
                let mut last_end = None;
                for (start, length) in &free.by_place {
                    prop_assert!(last_end.is_none_or(|end| end < *start), "runs are apart");
                    last_end = Some(start + length);
                    listed[*start as usize..(start + length) as usize].fill(true);
                }
                prop_assert_eq!(listed, bits);
                prop_assert_eq!(free.by_length.len(), free.by_place.len());
                for (length, start) in &free.by_length {
                    prop_assert_eq!(free.by_place.get(start), Some(length));
                }
                if let Some((start, length)) = free.choose(Some(50), 5) {
                    prop_assert!(length <= 5 && bits[start as usize..(start + length) as usize].iter().all(|bit| *bit));
                }
            }
        }
    }
}
