//! One mounted file system: everything that its inodes share.
//!
//! Key types: [`FileSystem`], [`ErrorPolicy`], [`Options`]. Neighbours: `mount` (makes it), `groups` (free space), `inodes` (who is in memory),
//! `buffer` and `journal` (metadata blocks and how they change).
//!
//! Locks: [`FileSystem::options`] is a leaf. The counters are atomics that may disagree for a moment.

use crate::body::Body;
use crate::buffer::{Buffer, Buffers};
use crate::format::group::Descriptor;
use crate::format::inode::InodeMut;
use crate::format::superblock::{self, RawSuperBlock};
use crate::format::{self, CORRUPTED, Geometry};
use crate::groups::Group;
use crate::inodes::InodeCache;
use crate::journal::{Handle, Journal};
use crate::orphans::Orphans;
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::BlockDevice;
use core::fmt;
use machine::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use machine::sync::{Mutex, Once, RwSpinLock, SpinLock};
use mm::BackingDevice;
use vfs::Timestamp;

/// What is done when the file system is found to contradict itself (`errors=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorPolicy {
    /// Goes on.
    Continue,
    /// Nothing is written any more.
    ReadOnly,
    /// The machine stops.
    Panic,
}

/// How contents of files and the journal are in order (`data=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataMode {
    /// Contents are on the disk before what names them.
    Ordered,
    /// In no order.
    Writeback,
    /// Contents go through the journal.
    Journal,
}

/// Mount options that can change with a remount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// `errors=`.
    pub errors: ErrorPolicy,
    /// `data=`; cannot change.
    pub data: DataMode,
    /// `barrier`.
    pub barrier: bool,
    /// `discard`: what is freed is told to the device.
    pub discard: bool,
    /// `commit=`, seconds.
    pub commit_seconds: u32,
    /// `delalloc`.
    pub delayed_allocation: bool,
    /// `acl`.
    pub acl: bool,
    /// `user_xattr`.
    pub user_xattr: bool,
    /// `grpid`: a new file has its directory's group.
    pub directory_group: bool,
    /// `noload`: the journal is not looked at.
    pub no_load: bool,
    /// `resuid=`: who may use the reserved blocks.
    pub reserved_uid: u32,
    /// `resgid=`.
    pub reserved_gid: u32,
    /// `min_batch_time` and the like are accepted and do nothing: there is nothing here that they could change.
    pub ignored: bool,
}

/// A mounted file system.
pub struct FileSystem {
    /// The numbers of the superblock that do not change.
    pub geometry: Geometry,
    /// The device.
    pub device: Arc<BlockDevice>,
    /// For the page cache: whose flusher writes.
    pub backing: Arc<BackingDevice>,
    /// Its metadata.
    pub buffers: Arc<Buffers>,
    /// How metadata changes.
    journal: Once<Arc<Journal>>,
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
    /// Nothing is written: mounted so, or after an error.
    read_only: AtomicBool,
    /// An error was noted in the superblock.
    error_noted: AtomicBool,
    /// Groups by their largest free run, those that are loaded.
    pub by_largest: Mutex<alloc::collections::BTreeSet<(u32, u32)>>,
    /// Sectors written at mount time, for `s_kbytes_written`.
    pub lifetime_writes: AtomicU64,
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
        let name = alloc::format!("{}:{}", device.number().major, device.number().minor);
        const POOL: i64 = 4096;
        Ok(Arc::new(FileSystem {
            metadata_pool: POOL.min(geometry.blocks as i64 / 50),
            inodes: InodeCache::new(),
            orphans: Orphans::new(),
            backing: BackingDevice::new(&name),
            journal: Once::new(),
            options: RwSpinLock::new(options),
            free_blocks: AtomicI64::new(free_blocks),
            delayed_blocks: AtomicI64::new(0),
            free_inodes: AtomicI64::new(free_inodes),
            next_directory_group: AtomicU32::new(0),
            late_times: SpinLock::new(BTreeMap::new()),
            read_only: AtomicBool::new(read_only),
            error_noted: AtomicBool::new(false),
            by_largest: Mutex::new(alloc::collections::BTreeSet::new()),
            lifetime_writes: AtomicU64::new(0),
            geometry,
            device,
            buffers,
            groups,
            descriptor_blocks,
            super_buffer,
            overhead,
        }))
    }

    /// Sets the journal, once, before anything changes.
    pub fn set_journal(&self, journal: Arc<Journal>) {
        let _ = self.journal.set(journal);
    }

    /// How metadata changes. Errors: `EROFS`: there is nothing that could be changed.
    pub fn journal(&self) -> Result<&Arc<Journal>> {
        self.journal.get().ok_or(Errno::EROFS)
    }

    /// Begins an operation that changes at most `credits` blocks. Errors: `EROFS`, `ENOMEM`.
    pub fn start(&self, credits: u32) -> Result<Handle> {
        if self.is_read_only() {
            return Err(Errno::EROFS);
        }
        self.journal()?.start(credits)
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
            log::error!("ext4 ({}:{}): remounted read-only", number.major, number.minor);
            self.set_read_only(true);
            if let Ok(journal) = self.journal() {
                journal.abort(error);
            }
        }
        error
    }

    /// Leaves word for fsck. Not from within a handle's `modify`, and once only: a worker does it, since the caller may hold any lock.
    fn note_error(&self) {
        self.error_noted.store(true, Ordering::Release);
    }

    /// Whether an error has been found since the file system was mounted.
    pub fn has_error(&self) -> bool {
        self.error_noted.load(Ordering::Acquire)
    }
}

/// The wall clock, whole seconds.
pub fn now_seconds() -> u64 {
    Timestamp::now().seconds.max(0) as u64
}
