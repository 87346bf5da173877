//! Regular files as programs open them: reading, writing, syncing, sizes.
//!
//! Key types: [`RegularFile`]. Neighbours: `pager` (contents), `flight` (what follows a write), `truncate` (blocks cut off), `ranges` (room
//! allotted, given back and moved).
//!
//! Locks: a writer holds the inode's lock for writing.

use crate::body::{Body, State};
use crate::journal::OrderedData;
use crate::node::Node;
use crate::{direct, extents, indirect, inline, ranges, swap, truncate};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use alloc::sync::{Arc, Weak};
use block::direct_memory::check_blocks;
use block::{BioFlags, Operation, Segment};
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::atomic::Ordering;
use mm::io::{IoReader, IoWriter, Limited};
use mm::swap::SwapStore;
use mm::{PageCache, WriteBackMode};
use security::{Capability, Credentials};
use vfs::{Allocate, File, FileOperations, Inode, SeekFrom, SyncKind, attributes};

/// An open regular file.
pub struct RegularFile;

/// The node and the pages of an inode. Errors: `EINVAL`: no regular file of this type.
pub(crate) fn parts(inode: &Inode) -> Result<(&Node, &Arc<PageCache>)> {
    let node = inode.private::<Node>().ok_or(Errno::EINVAL)?;
    Ok((node, inode.operations().page_cache().ok_or(Errno::EINVAL)?))
}

impl FileOperations for RegularFile {
    /// Errors: `EINVAL`: with `O_DIRECT`, and not in whole blocks of the device.
    fn read(&self, file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let inode = file.inode()?;
        let (node, cache) = parts(inode)?;
        if is_direct(file) && !node.body().is_inline() && !node.body().journals_data() {
            return read_directly(inode, node.body(), cache, to, offset);
        }
        cache.read_ahead_of(file.read_ahead(), offset, to)
    }

    /// Errors: `ENOSPC`, `EFBIG`, `EIO`, `EROFS`; `EINVAL`: with `O_DIRECT`, and not in whole blocks of the device.
    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let inode = file.inode()?;
        let (node, cache) = parts(inode)?;
        if from.remaining() == 0 {
            return Ok(0);
        }
        let append = file.flags().contains(OpenFlags::APPEND) || offset == vfs::file::AT_END;
        if is_direct(file)
            && !append
            && let Some(count) = overwrite_directly(inode, from, offset)?
        {
            return Ok(count);
        }
        let _change = inode.lock.write();
        swap::check(inode)?;
        let offset = if append { cache.size() } else { offset };
        if is_direct(file) {
            check_blocks(&node.body().fs.device, offset, from.remaining())?;
        }
        let left = attributes::limit_write(inode, offset, from.remaining())?;
        let left = limit_by_map(node.body(), offset, left)?;
        attributes::remove_privileges(inode, file.credentials())?;
        check_room(node.body(), file.credentials())?;
        let count = cache.write(offset, &mut Limited { from, left })?;
        inode.touch_modified();
        node.body().note_times(inode.times());
        let range = offset..offset + count as u64;
        if is_direct(file) {
            cache.sync(range)?;
        } else if node.body().journals_data() {
            // It is in the running transaction when this returns.
            cache.start_write_back(range, WriteBackMode::Sync)?;
        } else if !node.body().fs.options.read().delayed_allocation {
            cache.start_write_back(range, WriteBackMode::Background)?;
        }
        Ok(count)
    }

    fn can_poll(&self) -> bool {
        false
    }

    /// Errors: `EIO` and what else the device gives.
    fn sync(&self, file: &File, kind: SyncKind) -> Result<()> {
        let (node, cache) = parts(file.inode()?)?;
        let written = cache.sync(0..u64::MAX);
        let kept = node.body().commit(kind);
        written.and(kept)
    }

    fn sync_range(&self, file: &File, kind: SyncKind, range: Range<u64>) -> Result<()> {
        let (node, cache) = parts(file.inode()?)?;
        let written = cache.sync(range);
        let kept = node.body().commit(kind);
        written.and(kept)
    }

    fn seek(&self, file: &File, from: SeekFrom, current: u64) -> Result<u64> {
        let (data, offset) = match from {
            SeekFrom::Data(offset) => (true, offset),
            SeekFrom::Hole(offset) => (false, offset),
            other => return vfs::file::generic_seek(file, other, current),
        };
        let (node, cache) = parts(file.inode()?)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        seek_for(node.body(), cache, offset, data)
    }

    /// Errors: `EFBIG`, `ENOSPC`; `EOPNOTSUPP`: it has a block map; `EINVAL`: contents cannot be moved so, see [`ranges`].
    fn allocate(&self, file: &File, what: Allocate, offset: u64, length: u64) -> Result<()> {
        let inode = file.inode()?;
        let (node, cache) = parts(inode)?;
        let body = node.body();
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
        if end > inode.superblock().max_file_size() {
            return Err(Errno::EFBIG);
        }
        let _change = inode.lock.write();
        swap::check(inode)?;
        if body.is_inline() {
            move_out(body)?;
        }
        if !body.has_extents() && what != Allocate::PunchHole {
            return Err(Errno::EOPNOTSUPP);
        }
        match what {
            Allocate::Collapse => ranges::check_collapse(body, cache, &(offset..end))?,
            Allocate::Insert => {
                ranges::check_insert(body, cache, &(offset..end), inode.superblock().max_file_size())?;
            }
            _ => {}
        }
        attributes::remove_privileges(inode, file.credentials())?;
        match what {
            Allocate::Collapse => ranges::collapse(body, cache, offset..end)?,
            Allocate::Insert => ranges::insert(body, cache, offset..end)?,
            Allocate::PunchHole => ranges::punch_hole(body, cache, offset..end)?,
            Allocate::Zero | Allocate::ZeroKeepSize => {
                ranges::punch_hole(body, cache, offset..end)?;
                allot(file, body, cache, what, offset..end)?;
            }
            _ => allot(file, body, cache, what, offset..end)?,
        }
        inode.touch_modified();
        body.note_times(inode.times());
        Ok(())
    }

    /// Errors: see [`swap::store`].
    fn swap_store(&self, file: &File) -> Result<Arc<dyn SwapStore>> {
        swap::store(file.inode()?, Some(file.path().clone()))
    }

    fn release(&self, file: &File) {
        let Ok((node, cache)) = file.inode().and_then(|inode| parts(inode)) else { return };
        if node.body().was_replaced.swap(false, Ordering::Relaxed) {
            // Nobody waits; what fails is told by fsync.
            let _ = cache.start_write_back(0..u64::MAX, WriteBackMode::Background);
        }
    }
}

/// Gives a range room; the file grows to its end if `what` says so, as far as there is room for all of it.
fn allot(file: &File, body: &Arc<Body>, cache: &PageCache, what: Allocate, range: Range<u64>) -> Result<()> {
    check_room(body, file.credentials())?;
    let end = range.end;
    ranges::allot(body, range)?;
    if matches!(what, Allocate::Extend | Allocate::Zero | Allocate::Unshare) && end > cache.size() {
        cache.truncate(end)?;
        body.grow_to(end)?;
    }
    Ok(())
}

/// Whether a description goes past the page cache.
fn is_direct(file: &File) -> bool {
    file.flags().contains(OpenFlags::DIRECT)
}

fn read_directly(
    inode: &Inode,
    body: &Body,
    cache: &PageCache,
    to: &mut dyn IoWriter,
    offset: u64,
) -> Result<usize> {
    let _stays = inode.lock.read();
    if offset >= cache.size() {
        return Ok(0);
    }
    check_blocks(&body.fs.device, offset, to.remaining())?;
    direct::read(body, cache, to, offset)
}

/// Writes past the page cache what only replaces contents; many may at a time. `None`: the write does more.
fn overwrite_directly(inode: &Arc<Inode>, from: &mut dyn IoReader, offset: u64) -> Result<Option<usize>> {
    let (node, cache) = parts(inode)?;
    let body = node.body();
    let wanted = from.remaining();
    check_blocks(&body.fs.device, offset, wanted)?;
    let _stays = inode.lock.read();
    swap::check(inode)?;
    let end = offset.checked_add(wanted as u64).ok_or(Errno::EFBIG)?;
    let left = attributes::limit_write(inode, offset, wanted)?;
    if left < wanted || attributes::has_set_id(inode) || !direct::can_overwrite(body, cache, offset..end)? {
        return Ok(None);
    }
    if body.fs.is_read_only() {
        return Err(Errno::EROFS);
    }
    let count = direct::overwrite(body, cache, from, offset)?;
    inode.touch_modified();
    body.note_times(inode.times());
    Ok(Some(count))
}

/// How much of a write a file with a block map can take. Errors: `EFBIG`: nothing.
fn limit_by_map(body: &Body, offset: u64, left: usize) -> Result<usize> {
    let bits = body.fs.geometry.block_bits;
    if body.has_extents() || body.is_inline() {
        return Ok(left);
    }
    let most = indirect::max_blocks(body.fs.geometry.block_size) << bits;
    let room = most.checked_sub(offset).filter(|room| *room > 0).ok_or(Errno::EFBIG)?;
    Ok(left.min(usize::try_from(room).unwrap_or(usize::MAX)))
}

/// The last blocks are for those who administer the machine. Errors: `ENOSPC`.
fn check_room(body: &Body, credentials: &Credentials) -> Result<()> {
    let fs = &body.fs;
    let (user, group) = {
        let options = fs.options.read();
        (options.reserved_uid, options.reserved_gid)
    };
    let free = fs.free_blocks.load(Ordering::Relaxed) - fs.delayed_blocks.load(Ordering::Relaxed);
    let privileged = || {
        credentials.fsuid.0 == user
            || group != 0 && credentials.in_group(security::Kgid(group))
            || security::capable(credentials, security::initial_namespace(), Capability::SysResource)
    };
    let enough = free > fs.geometry.reserved_blocks as i64 + fs.metadata_pool;
    if enough || privileged() { Ok(()) } else { Err(Errno::ENOSPC) }
}

/// Moves the contents of a small file out of its inode. Errors: `ENOSPC`, `EIO`, `EROFS`.
pub fn move_out(body: &Arc<Body>) -> Result<()> {
    let _one = body.moving.lock();
    if !body.is_inline() {
        return Ok(());
    }
    let fs = &body.fs;
    let size = body.disk_size.load(Ordering::Acquire);
    if size == 0 {
        let mut handle = fs.start(extents::INSERT_CREDITS)?;
        return inline::convert(body, &mut handle, None);
    }
    let block_size = fs.geometry.block_size as usize;
    let contents = inline::read(body, usize::try_from(size).map_err(|_| Errno::EUCLEAN)?)?;
    if body.journals_data() {
        return move_out_journaled(body, &contents);
    }
    let frame = Frame::alloc(AllocFlags::ZEROED).map_err(Errno::from)?;
    frame.write(0, &contents);
    let goal = body.goal_for(&body.map.read(), 0);
    let claim = fs.claim_spare(goal, 1)?;
    let place = claim.start();
    let segment = Segment { frame, offset: 0, length: block_size as u32 };
    let sector = place << (fs.geometry.block_bits - 9);
    fs.device.transfer(Operation::Write, BioFlags::SYNC, sector, &[segment])?;
    let mut handle = fs.start(extents::INSERT_CREDITS + 4)?;
    claim.take(&mut handle)?;
    inline::convert(body, &mut handle, Some(place))
}

/// The same in one transaction.
fn move_out_journaled(body: &Arc<Body>, contents: &[u8]) -> Result<()> {
    let goal = body.goal_for(&body.map.read(), 0);
    let claim = body.fs.claim_spare(goal, 1)?;
    let place = claim.start();
    let mut handle = body.fs.start(extents::INSERT_CREDITS + 5)?;
    claim.take(&mut handle)?;
    let buffer = handle.create(place)?;
    handle.modify(&buffer, |bytes| {
        bytes.iter_mut().zip(contents).for_each(|(place, byte)| *place = *byte);
    })?;
    inline::convert(body, &mut handle, Some(place))
}

/// Where data or a hole begins at or after `offset`. Errors: `ENXIO`: there is none before the end.
fn seek_for(body: &Arc<Body>, cache: &PageCache, offset: u64, data: bool) -> Result<u64> {
    let size = cache.size();
    if offset >= size {
        return Err(Errno::ENXIO);
    }
    if body.is_inline() {
        return Ok(if data { offset } else { size });
    }
    // What has no place yet gets one, so that the map tells everything.
    cache.sync(offset..size)?;
    let bits = body.fs.geometry.block_bits;
    let mut block = (offset >> bits) as u32;
    let end = body.blocks_of(size);
    while u64::from(block) < end {
        let mapping = body.find(block, (end - u64::from(block)).min(u64::from(u32::MAX)) as u32)?;
        let next = block.saturating_add(mapping.length.max(1));
        let run = (u64::from(block) << bits).max(offset)..u64::from(next) << bits;
        let found = match mapping.state {
            State::Unwritten(_) => seek_in_memory(cache, &run, data),
            state => Some(run.start).filter(|_| matches!(state, State::Written(_)) == data),
        };
        if let Some(found) = found {
            return Ok(found.min(size));
        }
        block = next;
    }
    if data { Err(Errno::ENXIO) } else { Ok(size) }
}

/// The same within blocks that read as zeros: as on Linux, pages of theirs that are in memory are data.
fn seek_in_memory(cache: &PageCache, run: &Range<u64>, data: bool) -> Option<u64> {
    let page = PAGE_SIZE as u64;
    let first = run.start / page;
    let found = if data { cache.next_resident(first) } else { cache.next_absent(first) };
    found.map(|index| (index * page).max(run.start)).filter(|at| *at < run.end)
}

/// The last page of a file that was cut: what is behind the end must be zeros on the disk before the file can grow again.
struct Tail {
    cache: Weak<PageCache>,
    at: u64,
}

impl OrderedData for Tail {
    fn write_data(&self) -> Result<()> {
        self.cache.upgrade().map_or(Ok(()), |cache| cache.sync_allotted(self.at..self.at + 1))
    }
}

/// Gives a file another size. The inode's lock is held. Errors: `EFBIG`, `EIO`, `ENOSPC`, `EROFS`; `ETXTBSY`: it is swap space and would be shorter.
pub fn resize(node: &Node, inode: &Arc<Inode>, size: u64) -> Result<()> {
    let (body, cache) = (node.body(), parts(inode)?.1);
    if body.fs.is_read_only() {
        return Err(Errno::EROFS);
    }
    let old = cache.size();
    if size == old {
        return Ok(());
    }
    if body.is_inline() {
        move_out(body)?;
    }
    if size > old {
        limit_by_map(body, size - 1, 1)?;
        cache.truncate(size)?;
        return body.grow_to(size);
    }
    swap::check(inode)?;
    cache.truncate(size)?;
    if size == 0 && body.fs.options.read().write_replacements {
        body.was_replaced.store(true, Ordering::Relaxed);
    }
    let within = !size.is_multiple_of(u64::from(body.fs.geometry.block_size));
    if within && body.journals_data() {
        // What is behind the end is zeros in a transaction before the size is less.
        cache.sync(size..size + 1)?;
    }
    let tail = within.then(|| Arc::new(Tail { cache: Arc::downgrade(cache), at: size }));
    truncate::shrink(body, size, tail.map(|tail| tail as Arc<dyn OrderedData>))
}

impl Body {
    /// Waits until everything about the inode that `kind` asks for survives a cut. The caller has no handle.
    pub fn commit(self: &Arc<Self>, kind: SyncKind) -> Result<()> {
        let fs = &self.fs;
        let Ok(journal) = fs.journal() else { return fs.device.flush() };
        let mut tid = self.changed_in.load(Ordering::Acquire) as u32;
        if kind == SyncKind::All
            && let Some(late) = self.write_late_times()?
        {
            tid = late;
        }
        let (_, committed) = journal.newest();
        if crate::journal::is_newer(tid, committed) {
            journal.commit_and_wait(tid)
        } else {
            fs.device.flush()
        }
    }
}
