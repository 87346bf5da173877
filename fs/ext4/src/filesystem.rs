//! One mounted file system: everything that its inodes share.
//!
//! Key types: [`FileSystem`]. Neighbours: `mount` (makes it), `groups` (free space), `inodes` (who is in memory),
//! `buffer` and `journal` (metadata blocks and how they change), `worker` (its thread).
//!
//! Locks: [`FileSystem::options`], [`FileSystem::late_times`] and the journal's place are leaves. The counters are atomics that may disagree for a moment.

use crate::body::Body;
use crate::buffer::{Buffer, Buffers};
use crate::format::group::Descriptor;
use crate::format::inode::InodeMut;
use crate::format::superblock::{self, RawSuperBlock};
use crate::format::{self, CORRUPTED, Geometry};
use crate::groups::Group;
use crate::inodes::InodeCache;
use crate::journal::{Handle, Journal, Tid};
use crate::options::{ErrorPolicy, Options};
use crate::orphans::Orphans;
use crate::worker::Worker;
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{BioFlags, BlockDevice, Operation, Segment};
use core::fmt;
use machine::memory::{AllocFlags, Frame};
use machine::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use machine::sync::{Mutex, RwSpinLock, SpinLock};
use vfs::{Times, Timestamp};

/// A mounted file system.
pub struct FileSystem {
    /// The numbers of the superblock that do not change.
    pub geometry: Geometry,
    /// The device.
    pub device: Arc<BlockDevice>,
    /// Its metadata.
    pub buffers: Arc<Buffers>,
    /// How metadata changes, while anything may.
    journal: RwSpinLock<Option<Arc<Journal>>>,
    /// Its thread, while anything may change.
    pub worker: Worker,
    /// The block groups.
    pub groups: Vec<Group>,
    /// Group descriptors by block, so that no look-up is needed to change one.
    descriptor_blocks: Vec<Arc<Buffer>>,
    /// Options.
    pub options: RwSpinLock<Options>,
    /// Inodes in memory.
    pub inodes: InodeCache,
    /// Inodes without a name, or being cut.
    pub orphans: Orphans,
    /// The superblock's block.
    super_buffer: Arc<Buffer>,
    /// Blocks free and not held by anybody.
    pub free_blocks: AtomicI64,
    /// Blocks that dirty pages will need.
    pub delayed_blocks: AtomicI64,
    /// Inodes free.
    pub free_inodes: AtomicI64,
    /// Blocks that the file system itself takes, for statfs.
    pub overhead: u64,
    /// Blocks kept for the trees of delayed writes.
    pub metadata_pool: i64,
    /// Where the next directory below the root goes.
    pub next_directory_group: AtomicU32,
    /// Bodies whose times are newer in memory than in their inode.
    pub late_times: SpinLock<BTreeMap<u32, Arc<Body>>>,
    /// When the first of them became late, [`machine::time::now_ns`].
    late_since_ns: AtomicU64,
    /// Nothing is written: mounted so, or after an error.
    read_only: AtomicBool,
    /// An error was found since it was mounted.
    has_error: AtomicBool,
    /// It is in the superblock.
    error_noted: AtomicBool,
    /// Groups by their largest free run, those that are loaded.
    pub by_largest: Mutex<alloc::collections::BTreeSet<(u32, u32)>>,
}

/// What [`FileSystem::new`] is given.
pub struct Parts {
    /// Checked numbers.
    pub geometry: Geometry,
    /// The device.
    pub device: Arc<BlockDevice>,
    /// Its metadata.
    pub buffers: Arc<Buffers>,
    /// Options.
    pub options: Options,
    /// Mounted read-only.
    pub read_only: bool,
}

impl FileSystem {
    /// Reads the group descriptors. Errors: `EIO`, `EUCLEAN`, `EBADMSG`, `ENOMEM`.
    pub fn new(parts: Parts) -> Result<Arc<FileSystem>> {
        let Parts { geometry, device, buffers, options, read_only } = parts;
        let super_buffer = buffers.read(u64::from(geometry.first_data_block))?;
        let mut groups = Vec::new();
        groups.try_reserve_exact(geometry.groups as usize).map_err(|_| Errno::ENOMEM)?;
        let mut descriptor_blocks: Vec<Arc<Buffer>> = Vec::new();
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for number in 0..geometry.groups {
            let (block, offset) = geometry.descriptor_place(number);
            if offset == 0 {
                let in_device = block < geometry.blocks;
                descriptor_blocks.push(if in_device { buffers.read(block)? } else { return Err(CORRUPTED) });
            }
            let buffer = descriptor_blocks.last().ok_or(CORRUPTED)?;
            let bytes = buffer.read();
            let descriptor = Descriptor::read(&geometry, number, bytes.get(offset..).ok_or(CORRUPTED)?)?;
            free_blocks += i64::from(descriptor.free_blocks);
            free_inodes += i64::from(descriptor.free_inodes);
            groups.push(Group::new(number, descriptor));
        }
        let overhead = crate::statfs::overhead(&geometry);
        const POOL: i64 = 4096;
        Ok(Arc::new(FileSystem {
            metadata_pool: POOL.min(geometry.blocks as i64 / 50),
            inodes: InodeCache::new(),
            orphans: Orphans::new(),
            journal: RwSpinLock::new(None),
            worker: Worker::new(),
            options: RwSpinLock::new(options),
            free_blocks: AtomicI64::new(free_blocks),
            delayed_blocks: AtomicI64::new(0),
            free_inodes: AtomicI64::new(free_inodes),
            next_directory_group: AtomicU32::new(0),
            late_times: SpinLock::new(BTreeMap::new()),
            late_since_ns: AtomicU64::new(0),
            read_only: AtomicBool::new(read_only),
            has_error: AtomicBool::new(false),
            error_noted: AtomicBool::new(false),
            by_largest: Mutex::new(alloc::collections::BTreeSet::new()),
            geometry,
            device,
            buffers,
            groups,
            descriptor_blocks,
            super_buffer,
            overhead,
        }))
    }

    /// Sets the journal, or takes it away.
    pub fn set_journal(&self, journal: Option<Arc<Journal>>) {
        let old = core::mem::replace(&mut *self.journal.write(), journal);
        drop(old);
    }

    /// How metadata changes. Errors: `EROFS`: there is nothing that could be changed.
    pub fn journal(&self) -> Result<Arc<Journal>> {
        self.journal.read().clone().ok_or(Errno::EROFS)
    }

    /// Begins an operation that changes at most `credits` blocks. Errors: `EROFS`, `ENOMEM`.
    pub fn start(&self, credits: u32) -> Result<Handle> {
        if self.is_read_only() {
            return Err(Errno::EROFS);
        }
        self.journal()?.start(credits).inspect_err(|error| {
            if *error == Errno::EROFS {
                self.note_abort();
            }
        })
    }

    /// The journal writes nothing any more, so neither does the file system, whatever `errors=` says.
    fn note_abort(&self) {
        self.complain(Errno::EROFS, format_args!("the journal is aborted"));
        self.stop(Errno::EROFS);
    }

    /// Nothing is written from now on.
    fn stop(&self, error: Errno) {
        if self.read_only.swap(true, Ordering::AcqRel) {
            return;
        }
        log::error!("ext4 ({}): read-only from now on", self.device.name());
        if let Ok(journal) = self.journal() {
            journal.abort(error);
        }
    }

    /// Whether nothing is written.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// Sets that.
    pub fn set_read_only(&self, value: bool) {
        self.read_only.store(value, Ordering::Release);
    }

    /// A block of metadata. Errors: `EUCLEAN`: it is not within the file system; `EIO`.
    pub fn read_block(&self, block: u64) -> Result<Arc<Buffer>> {
        if !self.geometry.contains(block, 1) {
            return Err(self.complain(CORRUPTED, format_args!("block {block} is out of range")));
        }
        self.buffers.read(block)
    }

    /// A group. Errors: `EUCLEAN`.
    pub fn group(&self, number: u32) -> Result<&Group> {
        self.groups.get(number as usize).ok_or(CORRUPTED)
    }

    /// Changes a group's descriptor, in memory and in its block.
    pub fn change_descriptor(
        &self,
        handle: &mut Handle,
        number: u32,
        change: impl FnOnce(&mut Descriptor),
    ) -> Result<()> {
        let group = self.group(number)?;
        let index = number / self.geometry.descriptors_per_block();
        let (_, offset) = self.geometry.descriptor_place(number);
        let buffer = self.descriptor_blocks.get(index as usize).ok_or(CORRUPTED)?;
        // The buffer's lock puts changes of one descriptor in order.
        handle.modify(buffer, |bytes| {
            let descriptor = group.change(change);
            descriptor.write(&self.geometry, number, bytes.get_mut(offset..).ok_or(CORRUPTED)?)
        })?
    }

    /// Where an inode is: block and offset. Errors: `EUCLEAN`: there is no such inode.
    pub fn inode_place(&self, number: u32) -> Result<(u64, usize)> {
        let (group, index) = self.geometry.inode_place(number).ok_or(CORRUPTED)?;
        let bytes = u64::from(index) * u64::from(self.geometry.inode_size);
        let block_size = u64::from(self.geometry.block_size);
        Ok((self.group(group)?.descriptor().inode_table + bytes / block_size, (bytes % block_size) as usize))
    }

    /// Changes an inode on the disk, and puts its checksum in.
    pub fn change_inode<R>(
        &self,
        handle: &mut Handle,
        number: u32,
        change: impl FnOnce(&mut InodeMut<'_>) -> Result<R>,
    ) -> Result<R> {
        let (block, offset) = self.inode_place(number)?;
        let buffer = self.read_block(block)?;
        handle.modify(&buffer, |bytes| {
            let end = offset + usize::from(self.geometry.inode_size);
            let mut inode = InodeMut(bytes.get_mut(offset..end).ok_or(CORRUPTED)?);
            let result = change(&mut inode)?;
            inode.seal(&self.geometry, number)?;
            Ok(result)
        })?
    }

    fn super_offset(&self) -> usize {
        if self.geometry.block_size == 1024 { 0 } else { superblock::OFFSET as usize }
    }

    /// Looks at the superblock as it is now.
    pub fn with_super<R>(&self, look: impl FnOnce(&RawSuperBlock) -> R) -> Result<R> {
        let bytes = self.super_buffer.read();
        format::at::<RawSuperBlock>(&bytes, self.super_offset()).map(look)
    }

    /// Changes the superblock, and puts its checksum in.
    pub fn change_super(&self, handle: &mut Handle, change: impl FnOnce(&mut RawSuperBlock)) -> Result<()> {
        handle.modify(&self.super_buffer, |bytes| {
            let raw: &mut RawSuperBlock = format::at_mut(bytes, self.super_offset())?;
            change(raw);
            superblock::seal(raw);
            Ok(())
        })?
    }

    /// Writes what the superblock says of free space and of when it was written.
    pub fn update_super(&self, handle: &mut Handle) -> Result<()> {
        let free: u64 = self.groups.iter().map(|group| u64::from(group.descriptor().free_blocks)).sum();
        let inodes: u64 = self.groups.iter().map(|group| u64::from(group.descriptor().free_inodes)).sum();
        let now = now_seconds();
        self.change_super(handle, |raw| {
            raw.free_blocks_count_lo = (free as u32).into();
            raw.free_blocks_count_hi = ((free >> 32) as u32).into();
            raw.free_inodes_count = (inodes as u32).into();
            raw.wtime = (now as u32).into();
            raw.wtime_hi = (now >> 32) as u8;
        })
    }

    /// The file system contradicts itself: says so and does what `errors=` asks for. Gives the error back.
    pub fn complain(&self, error: Errno, what: fmt::Arguments<'_>) -> Errno {
        let number = self.device.number();
        log::error!("ext4 ({}:{}): {what}", number.major, number.minor);
        let policy = self.options.read().errors;
        if policy == ErrorPolicy::Panic {
            panic!("ext4 ({}:{}): errors=panic: {what}", number.major, number.minor);
        }
        if self.is_read_only() {
            return error;
        }
        self.note_error();
        if policy == ErrorPolicy::ReadOnly {
            self.stop(error);
        }
        error
    }

    /// Whether an error was found since it was mounted.
    pub fn has_error(&self) -> bool {
        self.has_error.load(Ordering::Acquire)
    }

    /// The last use ended with an error of the journal.
    pub fn has_been_wrong(&self, error: i32) {
        log::error!("ext4 ({}): error {error} ended the last use", self.device.name());
        self.note_error();
    }

    /// Leaves word for fsck. Whoever complains may hold any lock: the worker does it.
    fn note_error(&self) {
        self.has_error.store(true, Ordering::Release);
        self.worker.shared().ring();
    }

    /// What the worker does besides landing flights; when it is to look again, [`machine::time::now_ns`].
    pub fn do_late_work(self: &Arc<Self>) -> Option<u64> {
        if self.has_error.load(Ordering::Acquire) && !self.error_noted.swap(true, Ordering::AcqRel) {
            self.write_error();
        }
        let since = self.late_since_ns.load(Ordering::Acquire);
        if since == 0 {
            return None;
        }
        let due = since + u64::from(self.options.read().commit_seconds.max(1)) * 1_000_000_000;
        if due > machine::time::now_ns() {
            return Some(due);
        }
        // What fails is told by whoever asks for it to be kept.
        let _ = self.write_late_times();
        None
    }

    /// Says in the superblock that fsck is wanted.
    fn write_error(&self) {
        let change = |raw: &mut RawSuperBlock| {
            raw.state = (raw.state.get() | superblock::STATE_ERROR).into();
            raw.error_count = raw.error_count.get().saturating_add(1).into();
            raw.last_error_time = (now_seconds() as u32).into();
            if raw.first_error_time.get() == 0 {
                raw.first_error_time = raw.last_error_time;
            }
        };
        let written = match self.start(1) {
            Ok(mut handle) => self.change_super(&mut handle, change),
            Err(_) => self.write_super_now(change),
        };
        if let Err(error) = written {
            log::error!("ext4 ({}): an error could not be noted: {}", self.device.name(), error.name());
        }
    }

    /// Changes the superblock in its place on the disk at once, past the journal: only what has to be there whether or not transactions
    /// survive. Sleeps. Errors: `EIO`, `ENOMEM`, `EROFS`: the device cannot be written.
    pub fn write_super_now(&self, change: impl FnOnce(&mut RawSuperBlock)) -> Result<()> {
        let frame = Frame::alloc(AllocFlags::ZEROED).map_err(Errno::from)?;
        {
            let mut bytes = self.super_buffer.write();
            let raw: &mut RawSuperBlock = format::at_mut(&mut bytes, self.super_offset())?;
            change(raw);
            superblock::seal(raw);
            frame.write(0, &bytes);
        }
        let segment = Segment { frame, offset: 0, length: self.geometry.block_size };
        let sector = self.buffers.sector(self.super_buffer.block());
        self.device.transfer(Operation::Write, BioFlags::FUA | BioFlags::SYNC, sector, &[segment])
    }

    /// Notes that a body's times are late.
    pub fn note_late(&self, body: &Arc<Body>) {
        let first = {
            let mut late = self.late_times.lock();
            late.insert(body.number, body.clone());
            late.len() == 1
        };
        if first {
            self.late_since_ns.store(machine::time::now_ns().max(1), Ordering::Release);
            self.worker.shared().ring();
        }
    }

    /// Writes all times that are late. Errors: `EROFS`, `EIO`.
    pub fn write_late_times(self: &Arc<Self>) -> Result<()> {
        loop {
            let next = {
                let mut late = self.late_times.lock();
                let next = late.pop_first();
                if next.is_none() {
                    self.late_since_ns.store(0, Ordering::Release);
                }
                next
            };
            let Some((_, body)) = next else { return Ok(()) };
            body.write_late_times()?;
        }
    }

    /// Ends a freeze of the journal.
    pub fn thaw(&self) {
        if let Ok(journal) = self.journal() {
            journal.thaw();
        }
    }

    /// Writes everything there is to the device, and waits. Errors: `EIO` and the like.
    pub fn sync(self: &Arc<Self>) -> Result<()> {
        self.device.backing().write_all(mm::write_back::Wait::ForAll);
        if self.is_read_only() {
            return Ok(());
        }
        self.write_late_times()?;
        let journal = self.journal()?;
        let (newest, committed) = journal.newest();
        if newest == committed { self.device.flush() } else { journal.force_commit() }
    }
}

impl Body {
    /// The times are newer than the inode's on the disk; they are written some time.
    pub fn note_times(self: &Arc<Self>, times: Times) {
        let was_late = self.late_times.lock().replace(times).is_some();
        if !was_late {
            self.fs.note_late(self);
        }
    }

    /// Writes late times to the inode; gives the transaction. Errors: `EROFS`, `EIO`.
    pub fn write_late_times(&self) -> Result<Option<Tid>> {
        if self.late_times.lock().is_none() {
            return Ok(None);
        }
        let mut handle = self.fs.start(1)?;
        let Some(times) = self.late_times.lock().take() else { return Ok(Some(handle.tid())) };
        self.fs.change_inode(&mut handle, self.number, |inode| inode.set_times(&times))?;
        Ok(Some(handle.tid()))
    }
}

/// The wall clock, whole seconds.
pub fn now_seconds() -> u64 {
    Timestamp::now().seconds.max(0) as u64
}
