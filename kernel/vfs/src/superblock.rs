//! File systems: one mounted instance ([`SuperBlock`]) and the types that can be mounted ([`FileSystemType`]).
//!
//! Neighbours: `mount` (where in the tree an instance is seen). Locks: the registry and the list of instances are
//! short spin locks;
//! [`SuperBlock::rename_lock`] (sleeping) is the outermost lock of a rename that moves a directory.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;

use abi::errno::{Errno, Result};
use abi::fs::Statfs;
use abi::mount::MountFlags;
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Mutex, RwLock, RwSpinLock, SpinLock};
use mm::page_cache::ErrorSequence;
use security::{Credentials, UserNamespace};

use crate::dentry::Dentry;
use crate::freeze::Freezer;
use crate::inode::Inode;
use crate::mount::{ActiveSuperBlock, Mount};
use crate::notify::WatchSet;
use crate::reaper;
use crate::types::{DeviceId, NAME_MAX, TimeLimits};

/// One instance of a file system.
pub struct SuperBlock {
    device: DeviceId,
    type_name: &'static str,
    magic: u32,
    block_size: u32,
    max_file_size: u64,
    time_limits: TimeLimits,
    /// `MountFlags` that concern the whole instance (`RDONLY`, `SYNCHRONOUS`, `LAZYTIME`).
    flags: AtomicU32,
    operations: Box<dyn SuperBlockOperations>,
    root: Mutex<Weak<Dentry>>,
    user_namespace: Arc<UserNamespace>,
    /// Held around every rename that moves a directory to another parent: the tree's shape stands still.
    pub rename_lock: Mutex<()>,
    /// All watches on its inodes, by their addresses.
    watches: WatchSet,
    /// Errors of write-back of any of its files, for syncfs(2).
    errors: Arc<ErrorSequence>,
    /// Only on a device.
    freezer: Option<Freezer>,
    /// Inodes in memory (only counted on a device).
    inodes: AtomicUsize,
    /// Inodes without a name that are not evicted yet.
    unnamed: AtomicUsize,
    /// Inodes that the reaper has to do with.
    reaping: AtomicUsize,
    retiring: reaper::Link<SuperBlock>,
    /// Set once nothing is written any more.
    is_shut_down: AtomicBool,
    /// Held for reading by those who write it to its device, for writing at its end.
    end_lock: RwLock<()>,
    /// The count of its mounts, if it was ever mounted.
    active: SpinLock<Option<Weak<ActiveSuperBlock>>>,
    /// All mounts that show it, by their numbers.
    mounts: SpinLock<BTreeMap<u64, Weak<Mount>>>,
}

/// What a new instance is like.
pub struct SuperBlockAttributes {
    /// The type's name as in `/proc/filesystems`.
    pub type_name: &'static str,
    /// `*_MAGIC` for statfs.
    pub magic: u32,
    /// Preferred size of a transfer, bytes.
    pub block_size: u32,
    /// No file can be longer than this, bytes.
    pub max_file_size: u64,
    /// The times that it keeps.
    pub time_limits: TimeLimits,
    /// Flags of the whole instance.
    pub flags: MountFlags,
    /// The device it is on; `None` for one that is on none (a number is made up, and nothing of it sleeps at its end). One that must send
    /// word to somebody else at the end of a file is on a device, too: on [`anonymous_device`].
    pub device: Option<DeviceId>,
}

/// What a file system implements as a whole.
pub trait SuperBlockOperations: Any + Send + Sync {
    /// Space and inodes: fills in what [`SuperBlock::statfs`] has not (type, block size, flags are filled in already).
    fn statfs(&self, superblock: &SuperBlock, status: &mut Statfs) -> Result<()> {
        let _ = (superblock, status);
        Ok(())
    }
    /// Writes everything to the device and waits for it: sync(2), syncfs(2), before going read-only, before [`shut_down`](Self::shut_down).
    fn sync(&self, superblock: &SuperBlock) -> Result<()> {
        let _ = superblock;
        Ok(())
    }
    /// Whether [`freeze`](Self::freeze) works (only on a device).
    fn can_freeze(&self) -> bool {
        false
    }
    /// No call changes anything any more, and everything was [written](Self::sync): keeps back what the file system itself would change, so that the device is
    /// as after an unmount (an empty journal) until [`thaw`](Self::thaw). Stores through mappings may still make pages dirty; those
    /// wait. Not called when mounted read-only. Errors: `EIO` and the like: it is not frozen then.
    fn freeze(&self, superblock: &SuperBlock) -> Result<()> {
        let _ = superblock;
        Err(Errno::EOPNOTSUPP)
    }
    /// Ends [`freeze`](Self::freeze).
    fn thaw(&self, superblock: &SuperBlock) -> Result<()> {
        let _ = superblock;
        Ok(())
    }
    /// `FITRIM`: tells the device of free space, in whole runs of at least `least` bytes within `range` (bytes of the device). Gives the bytes told.
    /// `EOPNOTSUPP`: the device has no discard; `EINVAL`, `EIO`; `EINTR`. A change of the file system is under way.
    fn trim(&self, superblock: &SuperBlock, range: Range<u64>, least: u64) -> Result<u64> {
        let _ = (superblock, range, least);
        Err(Errno::ENOTTY)
    }
    /// The volume's label, without NUL. `ENOTTY`: it has none.
    fn label(&self, superblock: &SuperBlock) -> Result<Vec<u8>> {
        let _ = superblock;
        Err(Errno::ENOTTY)
    }
    /// Sets the label. `EINVAL`: too long; `ENOTTY`. A change of the file system is under way.
    fn set_label(&self, superblock: &SuperBlock, label: &[u8]) -> Result<()> {
        let _ = (superblock, label);
        Err(Errno::ENOTTY)
    }
    /// Its options as in `/proc/mounts`, each preceded by a comma.
    fn show_options(&self, superblock: &SuperBlock, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let _ = (superblock, out);
        Ok(())
    }
    /// `mount -o remount` with new options. Going read-only (`RDONLY` in `flags`, not yet in [`SuperBlock::flags`]), nobody writes any more, no file
    /// without a name is left, and everything was [written](Self::sync): the device must be clean when this comes back. `EINVAL`.
    fn remount(&self, superblock: &Arc<SuperBlock>, flags: MountFlags, data: &[u8]) -> Result<()> {
        let _ = (superblock, flags, data);
        Ok(())
    }
    /// Whether it has stopped writing by itself, after an error: it is read-only then whatever it was mounted as. Asked often.
    fn has_stopped(&self) -> bool {
        false
    }
    /// Whether the device nodes in it are the type's own, so that also a user namespace may mount and use them.
    fn makes_own_devices(&self) -> bool {
        false
    }
    /// The last mount is gone and nothing is open. Called once, in thread context. On a device, everything was [written](Self::sync) before, if it was
    /// mounted writable, and all inodes are gone from memory; umount(2) comes back when this does. So whatever another mount or a program
    /// that opens the device needs (that the journal is empty, that the device is not claimed any more) is done here: the memory of the
    /// file system may go later. It is also called, without all that, for one that could not be mounted.
    fn shut_down(&self, superblock: &SuperBlock) {
        let _ = superblock;
    }
}

/// All instances, for sync(2).
static SUPERBLOCKS: SpinLock<Vec<Weak<SuperBlock>>> = SpinLock::new(Vec::new());

/// sync(2): writes every file system to its device. Those that have a device begin at once, so that the devices work side by side. What fails is
/// reported by the next fsync or syncfs of who has it open.
pub fn sync_all() {
    mm::write_back::write_all(mm::write_back::Wait::No);
    let all: Vec<Arc<SuperBlock>> = SUPERBLOCKS.lock().iter().filter_map(Weak::upgrade).collect();
    for superblock in all {
        let _ = superblock.sync();
    }
    // What is written to device nodes has no file system of its own.
    mm::write_back::write_all(mm::write_back::Wait::ForAll);
}

/// Writes the file systems on a device that is about to go: nothing can be written afterwards. What fails is reported as with [`sync_all`]. Thread
/// context; no lock held that a file system takes.
pub fn sync_device(device: DeviceId) {
    let all: Vec<Arc<SuperBlock>> = SUPERBLOCKS.lock().iter().filter_map(Weak::upgrade).collect();
    for superblock in all.iter().filter(|superblock| superblock.device == device) {
        if let Err(error) = superblock.sync() {
            log::error!("VFS: {} was not written before its device goes: {error:?}", superblock.type_name);
        }
    }
}

/// The device numbers of instances without a device: major 0, minors from 1.
static NEXT_ANONYMOUS_MINOR: AtomicU64 = AtomicU64::new(1);

/// A number for an instance that is on no device with a number of its own.
pub fn anonymous_device() -> DeviceId {
    let minor = NEXT_ANONYMOUS_MINOR.fetch_add(1, Ordering::Relaxed);
    DeviceId::new(0, (minor & 0xf_ffff) as u32)
}

impl SuperBlock {
    /// A new instance.
    pub fn new(
        attributes: SuperBlockAttributes,
        operations: Box<dyn SuperBlockOperations>,
        user_namespace: Arc<UserNamespace>,
    ) -> Arc<SuperBlock> {
        let superblock = Arc::new(SuperBlock {
            device: attributes.device.unwrap_or_else(anonymous_device),
            type_name: attributes.type_name,
            magic: attributes.magic,
            block_size: attributes.block_size,
            max_file_size: attributes.max_file_size,
            time_limits: attributes.time_limits,
            flags: AtomicU32::new(attributes.flags.bits()),
            operations,
            root: Mutex::new(Weak::new()),
            user_namespace,
            rename_lock: Mutex::new(()),
            watches: WatchSet::new(),
            errors: Arc::new(ErrorSequence::new()),
            freezer: attributes.device.map(|_| Freezer::new()),
            inodes: AtomicUsize::new(0),
            unnamed: AtomicUsize::new(0),
            reaping: AtomicUsize::new(0),
            retiring: reaper::Link::new(),
            is_shut_down: AtomicBool::new(false),
            end_lock: RwLock::new(()),
            active: SpinLock::new(None),
            mounts: SpinLock::new(BTreeMap::new()),
        });
        let mut all = SUPERBLOCKS.lock();
        if all.len() == all.capacity() {
            all.retain(|known| known.strong_count() > 0);
        }
        all.push(Arc::downgrade(&superblock));
        drop(all);
        superblock
    }

    /// The errors of write-back that were not in vain: pagers of its files give them on, so that syncfs(2) tells them.
    pub fn errors(&self) -> &Arc<ErrorSequence> {
        &self.errors
    }

    /// Writes everything to the device and waits for it: syncfs(2), and sync(2) for each. Errors: `EIO` and the like.
    pub fn sync(&self) -> Result<()> {
        let _end = self.end_lock.read();
        if self.is_read_only() || self.is_shut_down() {
            return Ok(());
        }
        self.operations.sync(self)
    }

    /// Writes everything and ends it, once.
    pub(crate) fn shut_down(&self) {
        let _end = self.end_lock.write();
        if !self.is_read_only()
            && let Err(error) = self.operations.sync(self)
        {
            log::error!("VFS: {} was not written completely: {error:?}", self.type_name);
        }
        self.operations.shut_down(self);
        self.is_shut_down.store(true, Ordering::Release);
    }

    /// Whether it has ended.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// Whether it is on a device: what ends its files sleeps ([`reaper`]).
    #[inline]
    pub fn is_on_device(&self) -> bool {
        self.freezer.is_some()
    }
    pub(crate) fn freezer(&self) -> Option<&Freezer> {
        self.freezer.as_ref()
    }

    /// An inode is made.
    pub(crate) fn note_inode(&self, unnamed: bool) {
        if self.is_on_device() {
            self.inodes.fetch_add(1, Ordering::Relaxed);
        }
        if unnamed {
            self.unnamed.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// An inode's memory goes.
    pub(crate) fn note_inode_gone(&self) {
        if self.is_on_device() {
            self.inodes.fetch_sub(1, Ordering::AcqRel);
        }
    }
    /// How many inodes are in memory, on a device.
    pub(crate) fn inodes(&self) -> usize {
        self.inodes.load(Ordering::Acquire)
    }
    /// The link count of an inode has changed.
    pub(crate) fn note_links(&self, before: u32, after: u32) {
        match (before, after) {
            (0, 1..) => drop(self.unnamed.fetch_sub(1, Ordering::Relaxed)),
            (1.., 0) => drop(self.unnamed.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
    /// The reaper has one inode more to do with.
    pub(crate) fn note_reaping(&self) {
        self.reaping.fetch_add(1, Ordering::Relaxed);
    }
    /// The reaper is done with an inode. Whether that was the last one.
    pub(crate) fn note_reaped(&self) -> bool {
        self.reaping.fetch_sub(1, Ordering::AcqRel) == 1
    }
    /// Whether the reaper has nothing to do with it now.
    pub(crate) fn is_reaped(&self) -> bool {
        self.reaping.load(Ordering::Acquire) == 0
    }
    pub(crate) fn retiring(&self) -> &reaper::Link<SuperBlock> {
        &self.retiring
    }
    pub(crate) fn active(&self) -> &SpinLock<Option<Weak<ActiveSuperBlock>>> {
        &self.active
    }
    /// A mount shows it.
    pub(crate) fn add_mount(&self, id: u64, mount: Weak<Mount>) {
        self.mounts.lock().insert(id, mount);
    }
    /// A mount goes.
    pub(crate) fn remove_mount(&self, id: u64) {
        let removed = self.mounts.lock().remove(&id);
        drop(removed);
    }
    /// All mounts that show it.
    pub(crate) fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts.lock().values().filter_map(Weak::upgrade).collect()
    }
    /// Whether some file has no name any more but is still in use.
    pub(crate) fn has_unnamed(&self) -> bool {
        self.unnamed.load(Ordering::Acquire) > 0
    }

    /// The device number that stat(2) tells.
    #[inline]
    pub fn device(&self) -> DeviceId {
        self.device
    }
    /// The type's name.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }
    /// `*_MAGIC`.
    pub fn magic(&self) -> u32 {
        self.magic
    }
    /// Preferred size of a transfer, bytes.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }
    /// No file can be longer than this, bytes (`EFBIG`).
    pub fn max_file_size(&self) -> u64 {
        self.max_file_size
    }
    /// The times that it keeps.
    #[inline]
    pub fn time_limits(&self) -> &TimeLimits {
        &self.time_limits
    }
    /// The user namespace that it was mounted in: identifiers and capabilities count there.
    pub fn user_namespace(&self) -> &Arc<UserNamespace> {
        &self.user_namespace
    }
    /// Whether its device nodes can be believed: those of a file system that a user namespace made are nobody's word, unless the
    /// type makes the nodes itself.
    pub fn has_trusted_devices(&self) -> bool {
        self.user_namespace.level() == 0 || self.operations.makes_own_devices()
    }

    /// The watches on its inodes.
    #[inline]
    pub(crate) fn watches(&self) -> &WatchSet {
        &self.watches
    }
    /// What its type does.
    pub fn operations(&self) -> &dyn SuperBlockOperations {
        &*self.operations
    }
    /// The type's own data behind the operations.
    pub fn private<T: 'static>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.operations;
        any.downcast_ref()
    }
    /// Flags of the whole instance.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
    /// Sets the flags of the whole instance (remount).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }
    /// Whether the instance is read-only: mounted so, or stopped by an error.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY) || self.operations.has_stopped()
    }

    /// The dentry of its root; made from `inode` if there is none now.
    pub fn root_dentry(self: &Arc<Self>, inode: &Arc<Inode>) -> Arc<Dentry> {
        let mut root = self.root.lock();
        if let Some(dentry) = root.upgrade() {
            return dentry;
        }
        let dentry = Dentry::new_root(inode.clone());
        *root = Arc::downgrade(&dentry);
        dentry
    }

    /// What statfs(2) tells, without the flags of a mount.
    pub fn statfs(&self) -> Result<Statfs> {
        let device = self.device.encode();
        let mut status = Statfs {
            f_type: i64::from(self.magic),
            f_bsize: i64::from(self.block_size),
            f_frsize: i64::from(self.block_size),
            f_namelen: NAME_MAX as i64,
            f_fsid: [device as i32, (device >> 32) as i32],
            ..Statfs::default()
        };
        self.operations.statfs(self, &mut status)?;
        Ok(status)
    }
}

impl Drop for SuperBlock {
    fn drop(&mut self) {
        if !self.is_shut_down() {
            self.operations.shut_down(self);
        }
    }
}

/// A mount request, as mount(2) gives it.
pub struct MountRequest<'a> {
    /// What to mount: a device's path or any word.
    pub source: &'a [u8],
    /// Flags; only those of the instance matter to a file system.
    pub flags: MountFlags,
    /// Options of the file system, separated by commas.
    pub data: &'a [u8],
    /// Who mounts.
    pub credentials: &'a Credentials,
    /// The block device that `source` names, for a type that [needs one](FileSystemType::needs_device).
    pub device: Option<DeviceId>,
}

/// A type of file system that can be mounted.
pub trait FileSystemType: Send + Sync {
    /// Its name for mount(2) and `/proc/filesystems`.
    fn name(&self) -> &'static str;
    /// Whether it needs a block device (`nodev` in `/proc/filesystems` if not).
    fn needs_device(&self) -> bool {
        false
    }
    /// Whether the owner of a user namespace may mount it there (`FS_USERNS_MOUNT`).
    fn user_mountable(&self) -> bool {
        false
    }
    /// Whether a user namespace may mount it only if it sees all of one already (`SB_I_USERNS_VISIBLE`).
    fn must_be_visible(&self) -> bool {
        false
    }
    /// The user namespace that an instance belongs to: who may mount it there must be privileged in it. By default the mounter's.
    fn owner(&self, credentials: &Credentials) -> Arc<UserNamespace> {
        credentials.user_namespace.clone()
    }
    /// Makes (or finds) an instance and gives its root. `EINVAL`: bad options; `ENOMEM`.
    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>>;
}

static TYPES: RwSpinLock<Vec<Arc<dyn FileSystemType>>> = RwSpinLock::new(Vec::new());

/// Makes a type known. `EBUSY`: the name is taken.
pub fn register_filesystem(kind: Arc<dyn FileSystemType>) -> Result<()> {
    let mut types = TYPES.write();
    if types.iter().any(|known| known.name() == kind.name()) {
        return Err(Errno::EBUSY);
    }
    types.push(kind);
    Ok(())
}

/// The type of that name. `ENODEV`: there is none.
pub fn find_filesystem(name: &[u8]) -> Result<Arc<dyn FileSystemType>> {
    let types = TYPES.read();
    types.iter().find(|known| known.name().as_bytes() == name).cloned().ok_or(Errno::ENODEV)
}

/// All types, in the order of registration (`/proc/filesystems`).
pub fn filesystems() -> Vec<Arc<dyn FileSystemType>> {
    TYPES.read().clone()
}
