//! Mounting: the types `ext4`, `ext3` and `ext2`; what is done to a device at the beginning and the end, and when it becomes writable or ceases to be.
//!
//! Key types: [`Ext4`], `Instance`. As long as the file system may change, the superblock says so (`RECOVER`, or not `VALID` where there is no
//! journal): who finds it so later recovers it.
//!
//! Locks: `Instance::changing` (sleeping) is held by a remount; everything else is inside it. `Instance::claim` is a leaf.

use crate::body::{Body, State};
use crate::buffer::Buffers;
use crate::filesystem::{FileSystem, Parts, now_seconds};
use crate::format::inode::{InodeRef, ROOT, time_limits};
use crate::format::superblock::{self, OFFSET, RawSuperBlock, SIZE};
use crate::format::{BAD_CHECKSUM, CORRUPTED, Compatible, Geometry, Incompatible, ReadOnlyCompatible};
use crate::journal::{Journal, JournalMap, JournalOptions};
use crate::options::{DataMode, Options};
use crate::torn::read_super;
use crate::{control, indirect, statfs, truncate};
use abi::errno::{Errno, Result};
use abi::fs::Statfs;
use abi::mount::MountFlags;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::BlockDevice;
use core::fmt;
use core::ops::Range;
use machine::sync::Mutex;
use mm::reclaim::Shrinker;
use security::Credentials;
use vfs::{FileSystemType, Inode, MountRequest, SuperBlock, SuperBlockAttributes, SuperBlockOperations};

/// `EXT4_SUPER_MAGIC`, which all three have.
const MAGIC: u32 = 0xef53;

/// The file system type.
pub struct Ext4 {
    name: &'static str,
}

/// One mount's operations.
struct Instance {
    fs: Arc<FileSystem>,
    usual: Options,
    changing: Mutex<()>,
    /// Nobody else may have the device meanwhile.
    claim: Mutex<Option<block::Claim>>,
}

impl SuperBlockOperations for Instance {
    fn statfs(&self, _superblock: &SuperBlock, status: &mut Statfs) -> Result<()> {
        statfs::fill(&self.fs, status);
        Ok(())
    }

    fn sync(&self, _superblock: &SuperBlock) -> Result<()> {
        self.fs.sync()
    }

    fn show_options(&self, _superblock: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let options = *self.fs.options.read();
        options.show(&self.usual, out)
    }

    /// Errors: `EINVAL`; `EROFS`: it cannot be written; `EIO`.
    fn remount(&self, superblock: &Arc<SuperBlock>, flags: MountFlags, data: &[u8]) -> Result<()> {
        let _one = self.changing.lock();
        let fs = &self.fs;
        let before = *fs.options.read();
        let options = before.parse(data)?;
        if options.data != before.data {
            log::error!("ext4: data= cannot be changed by a remount");
            return Err(Errno::EINVAL);
        }
        let read_only = flags.contains(MountFlags::RDONLY);
        *fs.options.write() = options;
        if let Ok(journal) = fs.journal() {
            journal.set_commit_interval(options.commit_seconds);
        }
        match (fs.is_read_only(), read_only) {
            (true, false) if fs.has_error() => Err(Errno::EROFS),
            (true, false) => {
                check_writable(fs)?;
                begin_writing(fs)?;
                fs.orphans.clean(fs, superblock)
            }
            (false, true) => end_writing(fs),
            _ => Ok(()),
        }
    }

    fn has_stopped(&self) -> bool {
        self.fs.is_read_only()
    }

    fn can_freeze(&self) -> bool {
        true
    }

    fn freeze(&self, _superblock: &SuperBlock) -> Result<()> {
        let fs = &self.fs;
        fs.start(1).and_then(|mut handle| fs.update_super(&mut handle))?;
        fs.journal()?.freeze()?;
        fs.write_super_now(say_clean).inspect_err(|_| fs.thaw())
    }

    fn thaw(&self, _superblock: &SuperBlock) -> Result<()> {
        let said = self.fs.write_super_now(|raw| say_in_use(&self.fs, raw));
        self.fs.thaw();
        said
    }

    fn trim(&self, _superblock: &SuperBlock, range: Range<u64>, least: u64) -> Result<u64> {
        control::trim(&self.fs, range, least)
    }

    fn label(&self, _superblock: &SuperBlock) -> Result<Vec<u8>> {
        control::label(&self.fs)
    }

    fn set_label(&self, _superblock: &SuperBlock, label: &[u8]) -> Result<()> {
        control::set_label(&self.fs, label)
    }

    fn shut_down(&self, _superblock: &SuperBlock) {
        if let Err(error) = end_writing(&self.fs) {
            log::error!("ext4 ({}): unmounting: {}", self.fs.device.name(), error.name());
        }
        self.fs.buffers.shrink(usize::MAX);
        let claim = self.claim.lock().take();
        drop(claim);
    }
}

/// Whether this kernel can write it at all. Errors: `EROFS`.
fn check_writable(fs: &FileSystem) -> Result<()> {
    if let Some(unknown) = fs.geometry.read_only_features() {
        log::error!("ext4 ({}): cannot be written: features {unknown:?}", fs.device.name());
        return Err(Errno::EROFS);
    }
    if fs.device.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

/// Where the journal is. Errors: `EUCLEAN`, `EIO`.
fn journal_map(fs: &Arc<FileSystem>) -> Result<JournalMap> {
    let number = fs.geometry.journal_inode;
    let raw = truncate::raw_inode(fs, number)?;
    let raw = InodeRef(&raw);
    raw.check(&fs.geometry, number)?;
    let body = Body::new(fs, number, raw)?;
    let blocks = u32::try_from(body.blocks_of(raw.size()?)).map_err(|_| CORRUPTED)?;
    let mut map = JournalMap::new();
    let mut at = 0;
    while at < blocks {
        let mapping = body.find(at, blocks - at)?;
        let State::Written(place) = mapping.state else { return Err(CORRUPTED) };
        map.push(mapping.length, place)?;
        at += mapping.length;
    }
    Ok(map)
}

/// Opens the journal, which brings what is in it to where it belongs.
fn open_journal(fs: &Arc<FileSystem>, read_only: bool) -> Result<Arc<Journal>> {
    let mounted = *fs.options.read();
    let options = JournalOptions {
        name: alloc::format!("{}-{}", fs.device.name(), fs.geometry.journal_inode),
        read_only,
        checksums: fs.geometry.has_checksums(),
        wide: fs.geometry.incompatible.contains(Incompatible::BIT64),
        barriers: mounted.barrier,
        commit_seconds: mounted.commit_seconds,
    };
    if !fs.geometry.compatible.contains(Compatible::HAS_JOURNAL) {
        return Journal::none(fs.buffers.clone(), options);
    }
    let map = journal_map(fs).inspect_err(|error| {
        log::error!("ext4 ({}): the journal cannot be found: {}", fs.device.name(), error.name());
    })?;
    Journal::open(fs.buffers.clone(), map, options)
}

/// From here on the file system may change. Errors: `EIO`, `ENOMEM` and the journal's.
fn begin_writing(fs: &Arc<FileSystem>) -> Result<()> {
    let journal = open_journal(fs, false)?;
    let begun = fs.write_super_now(|raw| {
        say_in_use(fs, raw);
        raw.mnt_count = raw.mnt_count.get().saturating_add(1).into();
        set_time(&mut raw.mtime, &mut raw.mtime_hi);
        set_time(&mut raw.wtime, &mut raw.wtime_hi);
    });
    begun.and_then(|()| fs.worker.start(fs)).inspect_err(|_| {
        let _ = journal.shut_down();
    })?;
    if journal.recorded_error() != 0 {
        fs.has_been_wrong(journal.recorded_error());
    }
    fs.set_journal(Some(journal));
    fs.set_read_only(false);
    Ok(())
}

fn set_time(low: &mut zerocopy::little_endian::U32, high: &mut u8) {
    let now = now_seconds();
    *low = (now as u32).into();
    *high = (now >> 32) as u8;
}

/// Brings everything to the disk; nothing changes any more. Errors: `EIO` and the like; it has ended all the same.
fn end_writing(fs: &Arc<FileSystem>) -> Result<()> {
    let Ok(journal) = fs.journal() else { return Ok(()) };
    let mut result = if fs.is_read_only() { Err(Errno::EIO) } else { fs.sync() };
    if result.is_ok() {
        result = fs.start(1).and_then(|mut handle| fs.update_super(&mut handle));
    }
    fs.set_read_only(true);
    let emptied = journal.shut_down();
    fs.worker.stop();
    fs.set_journal(None);
    // What could not be written is lost with the mount.
    let late = core::mem::take(&mut *fs.late_times.lock());
    drop(late);
    result.and(emptied)?;
    fs.write_super_now(say_clean)?;
    fs.device.flush()
}

/// The superblock of a file system that must be recovered if it is found so.
fn say_in_use(fs: &FileSystem, raw: &mut RawSuperBlock) {
    if fs.geometry.compatible.contains(Compatible::HAS_JOURNAL) {
        raw.feature_incompat = (raw.feature_incompat.get() | Incompatible::RECOVER.bits()).into();
    } else {
        raw.state = (raw.state.get() & !superblock::STATE_VALID).into();
    }
}

/// The superblock of a file system that needs no recovery.
fn say_clean(raw: &mut RawSuperBlock) {
    raw.feature_incompat = (raw.feature_incompat.get() & !Incompatible::RECOVER.bits()).into();
    if raw.state.get() & superblock::STATE_ERROR == 0 {
        raw.state = (raw.state.get() | superblock::STATE_VALID).into();
    }
}

/// What is read of a device before anything else. Errors: `EINVAL`: no such file system, or no room for one; `EUCLEAN`, `EBADMSG`, `EIO`.
fn read_geometry(device: &BlockDevice) -> Result<Geometry> {
    Geometry::new(superblock::parse(&read_super(device)?)?, device.size())
}

/// The same of a superblock that the journal may mend. Errors: as [`Geometry::of_torn`].
fn read_torn_geometry(device: &BlockDevice) -> Result<Geometry> {
    let mut bytes = [0; SIZE];
    device.read_bytes(OFFSET, &mut bytes)?;
    Geometry::of_torn(superblock::parse(&bytes)?, device.size())
}

/// Whether a file system has nothing that the older type did not have. Errors: `EINVAL`.
fn check_type(type_name: &str, geometry: &Geometry) -> Result<()> {
    let incompatible = match type_name {
        "ext2" => Incompatible::FILETYPE | Incompatible::META_BG,
        "ext3" => Incompatible::FILETYPE | Incompatible::META_BG | Incompatible::RECOVER,
        _ => return Ok(()),
    };
    let writable =
        ReadOnlyCompatible::SPARSE_SUPER | ReadOnlyCompatible::LARGE_FILE | ReadOnlyCompatible::BTREE_DIR;
    let has_journal = geometry.compatible.contains(Compatible::HAS_JOURNAL);
    let fits = incompatible.contains(geometry.incompatible)
        && writable.contains(geometry.read_only_compatible)
        && (type_name == "ext2" || has_journal);
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Reads a file system, and recovers it if it was not unmounted. Nothing may change yet.
fn open(device: &Arc<BlockDevice>, geometry: Geometry, data: &[u8]) -> Result<(Arc<FileSystem>, Options)> {
    let buffers = Buffers::new(device.clone(), geometry.block_size)?;
    let shrinker: Arc<dyn Shrinker> = buffers.clone();
    mm::reclaim::add_shrinker(Arc::downgrade(&shrinker));
    let usual = Options::defaults(superblock::parse(&read_super(device)?)?);
    let options = usual.parse(data)?;
    if options.data == DataMode::Journal && !geometry.compatible.contains(Compatible::HAS_JOURNAL) {
        log::error!("ext4 ({}): data=journal without a journal", device.name());
        return Err(Errno::EINVAL);
    }
    let recover = geometry.incompatible.contains(Incompatible::RECOVER) && !options.no_load;
    let make = |geometry| {
        let (device, buffers) = (device.clone(), buffers.clone());
        FileSystem::new(Parts { geometry, device, buffers, options, read_only: true })
    };
    if !recover {
        // A torn superblock stays so.
        read_geometry(device)?;
    }
    let fs = make(geometry)?;
    if !recover {
        return Ok((fs, usual));
    }
    log::info!("ext4 ({}): recovering the journal", device.name());
    let journal = open_journal(&fs, true)?;
    let error = journal.recorded_error();
    drop(journal);
    // What was read before may have been older.
    let fs = make(read_geometry(device)?)?;
    if error != 0 {
        fs.has_been_wrong(error);
    }
    fs.write_super_now(|raw| {
        say_clean(raw);
        raw.state = (raw.state.get() | if error == 0 { 0 } else { superblock::STATE_ERROR }).into();
    })?;
    Ok((fs, usual))
}

/// Mounts a device; gives the root. Errors: `EROFS`: it cannot be written; `EINVAL`, `EUCLEAN`, `EBADMSG`, `EBUSY`, `EIO`.
pub fn mount_device(
    type_name: &'static str,
    device: &Arc<BlockDevice>,
    flags: MountFlags,
    data: &[u8],
    credentials: &Credentials,
) -> Result<Arc<Inode>> {
    let claim = device.claim(type_name)?;
    let geometry = read_geometry(device).or_else(|error| match error {
        BAD_CHECKSUM => read_torn_geometry(device),
        other => Err(other),
    })?;
    check_type(type_name, &geometry)?;
    let block_size = geometry.block_size;
    let max_file_size = if geometry.incompatible.contains(Incompatible::EXTENTS) {
        geometry.max_extent_file_size()
    } else {
        indirect::max_blocks(block_size) << geometry.block_bits
    };
    let (fs, usual) = open(device, geometry, data)?;
    let read_only = flags.contains(MountFlags::RDONLY);
    if !read_only {
        if fs.options.read().no_load && fs.geometry.compatible.contains(Compatible::HAS_JOURNAL) {
            log::error!("ext4 ({}): noload goes with ro only", device.name());
            return Err(Errno::EINVAL);
        }
        check_writable(&fs)?;
    }
    let state = fs.with_super(|raw| raw.state.get())?;
    if state & superblock::STATE_ERROR != 0 {
        log::warn!("ext4 ({}): has errors, e2fsck is recommended", device.name());
    }
    let lists = if fs.options.read().acl { MountFlags::POSIXACL } else { MountFlags::empty() };
    let attributes = SuperBlockAttributes {
        type_name,
        magic: MAGIC,
        block_size,
        max_file_size,
        time_limits: time_limits(fs.geometry.inode_size),
        flags: flags | lists,
        device: Some(device.number()),
    };
    let instance = Box::new(Instance {
        fs: fs.clone(),
        usual,
        changing: Mutex::new(()),
        claim: Mutex::new(Some(claim)),
    });
    let superblock = SuperBlock::new(attributes, instance, credentials.user_namespace.clone());
    if !read_only {
        begin_writing(&fs)?;
        fs.orphans.clean(&fs, &superblock)?;
    }
    let root = fs.inodes.get(&fs, &superblock, ROOT)?;
    if root.is_directory() { Ok(root) } else { Err(CORRUPTED) }
}

impl FileSystemType for Ext4 {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs_device(&self) -> bool {
        true
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let device = block::device_of_mount_source(request)?;
        mount_device(self.name, &device, request.flags, request.data, request.credentials)
    }
}

/// Makes the types known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    for name in ["ext3", "ext2", "ext4"] {
        vfs::register_filesystem(Arc::new(Ext4 { name }))?;
    }
    Ok(())
}
