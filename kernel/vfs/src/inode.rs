//! Inodes: the files themselves, whatever their names.
//!
//! Key types: [`Inode`] (attributes that the whole kernel reads), [`InodeOperations`] (what a file system implements).
//! Neighbours: `dentry` (names), `superblock`, `file` (open files), `directory` (the calls that change directories).
//!
//! Attributes are atomics, so that path walking and stat(2) take no lock. [`Inode::lock`] orders changes: it is held for
//! writing around every change of a directory and of a file's size, for reading around a directory lookup in the file
//! system. Order: rename lock of the superblock → parent directory → child; several directories by
//! ancestry, then by inode address (see `directory`).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;

use abi::errno::{Errno, Result};
use abi::fs::{FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NOATIME_FL};
use machine::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use machine::sync::{Once, RcuArc, RwLock, SeqLock};
use mm::{PageCache, Retention};
use security::{Credentials, Kgid, Kuid};

use crate::acl::{Acl, AclKind};
use crate::file::{File, FileOperations};
use crate::locks::LockContext;
use crate::notify::{LazyWatchSet, WatchSet};
use crate::path::Path;
use crate::readdir::SinkState;
use crate::reaper;
use crate::seals::Seals;
use crate::superblock::SuperBlock;
use crate::types::{AccessMask, DeviceId, FileKind, FileStatus, Times, Timestamp};

/// Bits of [`Inode::has_state`].
pub mod state {
    /// A directory that has been removed: nothing can be made in it.
    pub const DEAD: u32 = 1;
    /// `chattr +i`: nobody changes it.
    pub const IMMUTABLE: u32 = 2;
    /// `chattr +a`: it only grows.
    pub const APPEND_ONLY: u32 = 4;
    /// [`InodeOperations::refresh`](super::InodeOperations::refresh) must be called before attributes are told.
    pub const LIVE_ATTRIBUTES: u32 = 8;
    /// [`InodeOperations::permission`](super::InodeOperations::permission) must be asked.
    pub const OWN_PERMISSIONS: u32 = 16;
    /// No access times (proc, sysfs, pipes).
    pub const NO_ACCESS_TIME: u32 = 32;
    /// There is an access control list that says more than the mode; set by [`Inode::set_acl`](super::Inode::set_acl).
    pub const HAS_ACCESS_LIST: u32 = 64;
    /// It is in use as swap space: its blocks and names stay as they are.
    pub const SWAP_FILE: u32 = 128;
}

/// A file.
pub struct Inode {
    number: u64,
    kind: FileKind,
    special_device: DeviceId,
    superblock: Arc<SuperBlock>,
    operations: Box<dyn InodeOperations>,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    link_count: AtomicU32,
    size: AtomicU64,
    blocks: AtomicU64,
    times: SeqLock<Times>,
    state: AtomicU32,
    /// Who keeps the contents though there may be no name, or [`EVICTED`].
    holds: AtomicU32,
    reaping: reaper::Link<Inode>,
    /// Positive: writers; negative: those who forbid writing (running programs).
    writers: AtomicI32,
    locks: Once<Box<LockContext>>,
    watches: LazyWatchSet,
    /// Access and default list; made when the first is set.
    acls: Once<Box<[RcuArc<Acl>; 2]>>,
    attached: Once<Arc<dyn Any + Send + Sync>>,
    /// Orders changes; see the head of this file.
    pub lock: RwLock<()>,
}

/// In `holds`: the contents are gone.
const EVICTED: u32 = 1 << 31;

/// What a new inode is like.
pub struct InodeAttributes {
    /// Its number, unique in the file system and not 0.
    pub number: u64,
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: Kuid,
    /// Group.
    pub gid: Kgid,
    /// Number of names.
    pub link_count: u32,
    /// Bytes.
    pub size: u64,
    /// The device, of a device node.
    pub special_device: DeviceId,
    /// Initial [`state`] bits.
    pub state: u32,
}

impl InodeAttributes {
    /// One root-owned inode with one name (two for a directory).
    pub fn new(number: u64, kind: FileKind, mode: u32) -> InodeAttributes {
        InodeAttributes {
            number,
            kind,
            mode,
            uid: Kuid::ROOT,
            gid: Kgid::ROOT,
            link_count: if kind == FileKind::Directory { 2 } else { 1 },
            size: 0,
            special_device: DeviceId::default(),
            state: 0,
        }
    }
}

impl Inode {
    /// A new inode of the file system, with all times now.
    pub fn new(
        superblock: &Arc<SuperBlock>,
        attributes: InodeAttributes,
        operations: Box<dyn InodeOperations>,
    ) -> Inode {
        superblock.note_inode(attributes.link_count == 0);
        Inode {
            number: attributes.number,
            kind: attributes.kind,
            special_device: attributes.special_device,
            superblock: superblock.clone(),
            operations,
            mode: AtomicU32::new(attributes.mode & 0o7777),
            uid: AtomicU32::new(attributes.uid.0),
            gid: AtomicU32::new(attributes.gid.0),
            link_count: AtomicU32::new(attributes.link_count),
            size: AtomicU64::new(attributes.size),
            blocks: AtomicU64::new(0),
            times: SeqLock::new(Times::now().fit(superblock.time_limits())),
            state: AtomicU32::new(attributes.state),
            holds: AtomicU32::new(0),
            reaping: reaper::Link::new(),
            writers: AtomicI32::new(0),
            locks: Once::new(),
            watches: LazyWatchSet::new(),
            acls: Once::new(),
            attached: Once::new(),
            lock: RwLock::new(()),
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Its kind.
    #[inline]
    pub fn kind(&self) -> FileKind {
        self.kind
    }
    /// Whether it is a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
    /// The device that a device node stands for.
    pub fn special_device(&self) -> DeviceId {
        self.special_device
    }
    /// The file system it is in.
    #[inline]
    pub fn superblock(&self) -> &Arc<SuperBlock> {
        &self.superblock
    }
    /// What its file system does with it.
    #[inline]
    pub fn operations(&self) -> &dyn InodeOperations {
        &*self.operations
    }
    /// The file system's own type behind the operations, if it is that.
    pub fn private<T: 'static>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.operations;
        any.downcast_ref()
    }
    /// Permission bits (`07777`).
    #[inline]
    pub fn permissions(&self) -> u32 {
        self.mode.load(Ordering::Relaxed)
    }
    /// Kind and permissions, as `st_mode`.
    pub fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.permissions()
    }
    /// Sets the permission bits.
    pub fn set_permissions(&self, mode: u32) {
        self.mode.store(mode & 0o7777, Ordering::Relaxed);
    }
    /// Owner.
    #[inline]
    pub fn uid(&self) -> Kuid {
        Kuid(self.uid.load(Ordering::Relaxed))
    }
    /// Group.
    #[inline]
    pub fn gid(&self) -> Kgid {
        Kgid(self.gid.load(Ordering::Relaxed))
    }
    /// Sets owner and group.
    pub fn set_owner(&self, uid: Kuid, gid: Kgid) {
        self.uid.store(uid.0, Ordering::Relaxed);
        self.gid.store(gid.0, Ordering::Relaxed);
    }
    /// Number of names.
    pub fn link_count(&self) -> u32 {
        self.link_count.load(Ordering::Acquire)
    }
    /// Sets the number of names (under the locks of a directory change).
    pub fn set_link_count(&self, count: u32) {
        let before = self.link_count.swap(count, Ordering::AcqRel);
        self.superblock.note_links(before, count);
    }
    /// One name more.
    pub fn add_link(&self) {
        let before = self.link_count.fetch_add(1, Ordering::AcqRel);
        self.superblock.note_links(before, 1);
    }
    /// One name fewer; gives what is left.
    pub fn drop_link(&self) -> u32 {
        let update = |count: u32| Some(count.saturating_sub(1));
        let before = self.link_count.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).unwrap_or(0);
        let left = before.saturating_sub(1);
        self.superblock.note_links(before, left);
        left
    }
    /// Bytes: the page cache's size where there is one.
    #[inline]
    pub fn size(&self) -> u64 {
        match self.operations.page_cache() {
            Some(cache) => cache.size(),
            None => self.size.load(Ordering::Acquire),
        }
    }
    /// Sets the size of a file that has no page cache.
    pub fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }
    /// Space taken, in units of 512 bytes: the pages of a file that is nowhere else, else what the file system set.
    pub fn blocks(&self) -> u64 {
        const PER_PAGE: u64 = (machine::PAGE_SIZE / 512) as u64;
        match self.operations.page_cache() {
            Some(cache) if cache.retention() == Retention::OnlyCopy => cache.page_count() * PER_PAGE,
            _ => self.blocks.load(Ordering::Relaxed),
        }
    }
    /// Sets the space taken, in units of 512 bytes, of a file that is not only in memory.
    pub fn set_blocks(&self, blocks: u64) {
        self.blocks.store(blocks, Ordering::Relaxed);
    }
    /// The times.
    pub fn times(&self) -> Times {
        self.times.read()
    }
    /// Changes times; they become what the file system can keep of them.
    pub fn update_times(&self, change: impl FnOnce(&mut Times)) {
        let limits = self.superblock.time_limits();
        self.times.write(|times| {
            change(times);
            *times = times.fit(limits);
        });
    }
    /// The contents changed now (a directory's by an entry made or removed).
    pub fn touch_modified(&self) {
        let now = Timestamp::now();
        self.update_times(|times| (times.modified, times.changed) = (now, now));
    }
    /// The inode changed now.
    pub fn touch_changed(&self) {
        let now = Timestamp::now();
        self.update_times(|times| times.changed = now);
    }
    /// Whether any of these [`state`] bits is set.
    #[inline]
    pub fn has_state(&self, bits: u32) -> bool {
        self.state.load(Ordering::Acquire) & bits != 0
    }
    /// Sets [`state`] bits.
    pub fn set_state(&self, bits: u32) {
        self.state.fetch_or(bits, Ordering::AcqRel);
    }
    /// Clears [`state`] bits.
    pub fn clear_state(&self, bits: u32) {
        self.state.fetch_and(!bits, Ordering::AcqRel);
    }
    /// Sets the state that follows from `FS_*_FL` flags.
    pub fn apply_flags(&self, flags: u32) {
        let pairs = [
            (FS_IMMUTABLE_FL, state::IMMUTABLE),
            (FS_APPEND_FL, state::APPEND_ONLY),
            (FS_NOATIME_FL, state::NO_ACCESS_TIME),
        ];
        for (flag, bit) in pairs {
            if flags & flag != 0 { self.set_state(bit) } else { self.clear_state(bit) }
        }
    }
    /// What the kernel keeps with the inode while it is in memory, made at the first use: the pipe of a FIFO, the socket
    /// bound to a name. `make` must not sleep.
    pub fn attached(&self, make: impl FnOnce() -> Arc<dyn Any + Send + Sync>) -> &Arc<dyn Any + Send + Sync> {
        self.attached.get_or_init(make)
    }
    /// The same, if it was made already.
    pub fn attached_if_any(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.attached.get()
    }
    /// One of its access control lists, if it has it. Any context.
    pub fn acl(&self, kind: AclKind) -> Option<Arc<Acl>> {
        let [access, default] = &**self.acls.get()?;
        if kind == AclKind::Access { access.load_arc() } else { default.load_arc() }
    }
    /// Sets or removes a list in memory: by the file system when it makes the inode, later by [`crate::acl`]. One that says no more than the mode must not
    /// be set.
    pub fn set_acl(&self, kind: AclKind, acl: Option<Arc<Acl>>) {
        if acl.is_none() && self.acls.get().is_none() {
            return;
        }
        let [access, default] = &**self.acls.get_or_init(Box::default);
        if kind == AclKind::Default {
            default.replace(acl);
            return;
        }
        let has = acl.is_some();
        access.replace(acl);
        if has { self.set_state(state::HAS_ACCESS_LIST) } else { self.clear_state(state::HAS_ACCESS_LIST) }
    }
    /// The file locks on it; made at the first use.
    pub(crate) fn lock_context(&self) -> &LockContext {
        self.locks.get_or_init(|| Box::new(LockContext::new()))
    }
    /// The file locks on it, if there ever was one.
    pub(crate) fn lock_context_if_any(&self) -> Option<&LockContext> {
        self.locks.get().map(|locks| &**locks)
    }

    /// Who watches it; made at the first use.
    pub(crate) fn watches(&self) -> &WatchSet {
        self.watches.get()
    }
    /// Who watches it, if anybody ever did.
    pub(crate) fn watches_if_any(&self) -> &LazyWatchSet {
        &self.watches
    }

    /// Whether both are the same file.
    pub fn is_same(&self, other: &Inode) -> bool {
        core::ptr::eq(self, other)
    }

    /// What stat(2) tells; `refresh` is called first where the attributes live elsewhere.
    pub fn status(&self) -> Result<FileStatus> {
        if self.has_state(state::LIVE_ATTRIBUTES) {
            self.operations.refresh(self)?;
        }
        Ok(self.cached_status())
    }

    /// What stat(2) tells, from the attributes as they are. Takes no lock.
    pub fn cached_status(&self) -> FileStatus {
        FileStatus {
            device: self.superblock.device(),
            inode_number: self.number,
            mode: self.mode(),
            link_count: self.link_count(),
            uid: self.uid(),
            gid: self.gid(),
            special_device: self.special_device,
            size: self.size(),
            block_size: self.superblock.block_size(),
            blocks: self.blocks(),
            times: self.times(),
            mount_id: 0,
            mount_root: false,
        }
    }

    /// Counts a writer. `ETXTBSY`: it is a running program.
    pub fn allow_write(&self) -> Result<()> {
        let add = |count: i32| (count >= 0).then_some(count + 1);
        self.writers.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map_err(|_| Errno::ETXTBSY)?;
        Ok(())
    }
    /// Takes one [`allow_write`](Self::allow_write) back.
    pub fn end_write(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }
    /// Forbids writing while it runs. `ETXTBSY`: someone has it open for writing.
    pub fn deny_write(&self) -> Result<()> {
        let take = |count: i32| (count <= 0).then_some(count - 1);
        self.writers.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).map_err(|_| Errno::ETXTBSY)?;
        Ok(())
    }
    /// Takes one [`deny_write`](Self::deny_write) back.
    pub fn end_deny_write(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }

    /// Keeps the contents though the last name may go, until [`release`](Self::release). `ENOENT`: they are gone already.
    pub(crate) fn hold(&self) -> Result<()> {
        let add = |holds: u32| (holds & EVICTED == 0).then_some(holds + 1);
        self.holds.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map_err(|_| Errno::ENOENT)?;
        Ok(())
    }
    /// Ends a [`hold`](Self::hold). The last one of a file without a name has it evicted. Any context.
    pub(crate) fn release(self: &Arc<Self>) {
        if self.holds.fetch_sub(1, Ordering::AcqRel) == 1 && self.link_count() == 0 {
            reaper::consider(self.clone());
        }
    }
    /// Whether neither a name nor anybody who holds it is left.
    pub(crate) fn is_unused(&self) -> bool {
        self.link_count() == 0 && self.holds.load(Ordering::Acquire) == 0
    }
    /// Whether the contents are gone.
    pub(crate) fn is_evicted(&self) -> bool {
        self.holds.load(Ordering::Acquire) & EVICTED != 0
    }
    /// With the lock held: whether it can be changed. `ENOENT`: it was found just before its last name went, and its contents are gone.
    pub(crate) fn check_alive(&self) -> Result<()> {
        if self.is_evicted() { Err(Errno::ENOENT) } else { Ok(()) }
    }
    /// Frees the contents if neither a name nor a holder is left. Thread context, no locks held.
    pub(crate) fn evict_if_unused(&self) {
        if self.is_unused() {
            // Whoever changes it meanwhile has found it by its name, and looks again under the lock.
            let _lock = self.lock.write();
            self.try_evict();
        }
    }
    fn try_evict(&self) {
        if self.holds.compare_exchange(0, EVICTED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        if self.link_count() > 0 {
            // It got a name by somebody who held it meanwhile (linkat(2) of an `O_TMPFILE`).
            self.holds.store(0, Ordering::Release);
            return;
        }
        crate::notify::removed(self);
        self.operations.evict(self);
        self.superblock.note_links(0, 1);
    }
    pub(crate) fn reaping(&self) -> &reaper::Link<Inode> {
        &self.reaping
    }
}

impl Drop for Inode {
    /// Of a file system on a device: where sleeping is allowed (see [`reaper`]).
    fn drop(&mut self) {
        let on_device = self.superblock.is_on_device();
        debug_assert!(!on_device || machine::preempt::may_sleep(), "an inode goes where nothing may sleep");
        if self.superblock.is_shut_down() {
            log::error!(
                "VFS: inode {} of {} outlives its file system",
                self.number,
                self.superblock.type_name()
            );
        } else if self.link_count() == 0 {
            self.try_evict();
        } else {
            self.operations.forget(self);
        }
        self.superblock.note_inode_gone();
    }
}

/// What is to be made in a directory.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    /// Kind and, where it has one, the target or device.
    pub content: NewContent<'a>,
    /// Permission bits, umask or the directory's default list applied.
    pub mode: u32,
    /// Owner.
    pub uid: Kuid,
    /// Group: the creator's or, in a set-group-ID directory, the directory's.
    pub gid: Kgid,
    /// Its access control list, of its directory's default list. To be stored; in memory the caller gives it to the inode.
    pub access_list: Option<&'a Arc<Acl>>,
    /// Its own default list, likewise.
    pub default_list: Option<&'a Arc<Acl>>,
}

impl<'a> NewInode<'a> {
    /// One without lists.
    pub fn new(content: NewContent<'a>, mode: u32, uid: Kuid, gid: Kgid) -> NewInode<'a> {
        NewInode { content, mode, uid, gid, access_list: None, default_list: None }
    }
}

/// The kind of a new inode.
#[derive(Clone, Copy, Debug)]
pub enum NewContent<'a> {
    /// An empty file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(&'a [u8]),
    /// A device node (`CharDevice` or `BlockDevice`).
    Device(FileKind, DeviceId),
    /// A named pipe.
    Fifo,
    /// A named socket.
    Socket,
}

impl NewContent<'_> {
    /// The kind it has.
    pub fn kind(&self) -> FileKind {
        match self {
            NewContent::Regular => FileKind::Regular,
            NewContent::Directory => FileKind::Directory,
            NewContent::Symlink(_) => FileKind::Symlink,
            NewContent::Device(kind, _) => *kind,
            NewContent::Fifo => FileKind::Fifo,
            NewContent::Socket => FileKind::Socket,
        }
    }
}

/// How rename treats what is in its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Swaps both names.
    Exchange,
}

/// A rename, checked by the caller: kinds fit, permissions are there, no directory goes below itself.
pub struct Rename<'a> {
    /// The directory it leaves.
    pub old_directory: &'a Arc<Inode>,
    /// Its name there.
    pub old_name: &'a [u8],
    /// What is renamed.
    pub inode: &'a Arc<Inode>,
    /// The directory it goes to.
    pub new_directory: &'a Arc<Inode>,
    /// Its name there.
    pub new_name: &'a [u8],
    /// What has that name now: replaced (an empty directory if a directory) or exchanged.
    pub target: Option<&'a Arc<Inode>>,
    /// Which of the two.
    pub mode: RenameMode,
}

/// Attributes to change; what is `None` stays. Set-ID bits and times are already worked out by the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<Kuid>,
    /// Group.
    pub gid: Option<Kgid>,
    /// Size of a regular file.
    pub size: Option<u64>,
    /// Access time.
    pub accessed: Option<Timestamp>,
    /// Modification time.
    pub modified: Option<Timestamp>,
    /// Change time.
    pub changed: Option<Timestamp>,
}

impl AttributeChange {
    /// Stores everything but the size in the inode.
    pub fn apply(&self, inode: &Inode) {
        if let Some(mode) = self.mode {
            inode.set_permissions(mode);
        }
        if self.uid.is_some() || self.gid.is_some() {
            inode.set_owner(self.uid.unwrap_or(inode.uid()), self.gid.unwrap_or(inode.gid()));
        }
        if self.accessed.is_some() || self.modified.is_some() || self.changed.is_some() {
            inode.update_times(|times| {
                times.accessed = self.accessed.unwrap_or(times.accessed);
                times.modified = self.modified.unwrap_or(times.modified);
                times.changed = self.changed.unwrap_or(times.changed);
            });
        }
    }
}

/// Where a symbolic link leads.
pub enum LinkTarget {
    /// To a path, resolved like any other.
    Text(Vec<u8>),
    /// Straight to a place (`/proc/PID/fd/N`, `exe`, `cwd`, `root`).
    Place(Path),
}

/// How long names found in a directory may be kept in the dentry cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameCaching {
    /// For ever: every change comes through the VFS. Absent names are kept as well.
    Always,
    /// As long as [`InodeOperations::still_valid`] of the inode found says so, or [`InodeOperations::confirm_name`] of the directory; absent names
    /// are not kept.
    Checked,
}

/// How an xattr is to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrMode {
    /// Made or replaced.
    Any,
    /// `XATTR_CREATE`: `EEXIST` if it is there.
    Create,
    /// `XATTR_REPLACE`: `ENODATA` if it is not.
    Replace,
}

/// A run of a file's bytes, and where it lies (`FIEMAP`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileExtent {
    /// First byte, in the file.
    pub logical: u64,
    /// First byte, on the device; 0 if it has no place.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
}

/// Takes extents, in the order of the file. `Full`: the extent was not taken, no more are wanted.
pub type ExtentSink<'a> = dyn FnMut(&FileExtent) -> Result<SinkState> + 'a;

/// What `chattr` changes (`FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileFlags {
    /// `FS_*_FL`.
    pub flags: u32,
    /// The project, where there are such.
    pub project: u32,
}

/// What a file system implements for its inodes. All defaults are "this kind of inode cannot do that", with Linux's errno.
///
/// The caller has checked permissions and read-only mounts, and holds `directory.lock` for writing in all calls that
/// change a directory (for reading in `lookup`). The implementation keeps link counts and the times of directories.
pub trait InodeOperations: Any + Send + Sync {
    /// The inode of that name. `ENOENT`: there is none.
    fn lookup(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let _ = (directory, name);
        Err(Errno::ENOTDIR)
    }
    /// How long the names of this directory may be cached.
    fn name_caching(&self) -> NameCaching {
        NameCaching::Always
    }
    /// Whether a name that led to this inode still does ([`NameCaching::Checked`]). Called with preemption off.
    fn still_valid(&self) -> bool {
        true
    }
    /// Asks where the names really are whether `name` still leads to `inode` ([`NameCaching::Checked`], and [`still_valid`](Self::still_valid) does not know); its
    /// attributes are then as they are there. May sleep; the directory may be locked for reading or writing. `false`: it is looked up anew.
    fn confirm_name(&self, directory: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> bool {
        let _ = (directory, name, inode);
        false
    }
    /// Makes an inode with a name that does not exist. `ENOSPC`, `ENOMEM`; `EPERM`: cannot be done here.
    fn create(&self, directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let _ = (directory, name);
        Err(if matches!(new.content, NewContent::Regular) { Errno::EACCES } else { Errno::EPERM })
    }
    /// Makes a regular file without a name (`O_TMPFILE`). `EOPNOTSUPP`.
    fn create_unnamed(&self, directory: &Arc<Inode>, new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let _ = (directory, new);
        Err(Errno::EOPNOTSUPP)
    }
    /// Gives `target` another name. `EPERM`: cannot be done here.
    fn link(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        let _ = (directory, name, target);
        Err(Errno::EPERM)
    }
    /// Removes the name of a file that is no directory. `EPERM`: cannot be done here.
    fn unlink(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        let _ = (directory, name, target);
        Err(Errno::EPERM)
    }
    /// Removes an empty directory. `ENOTEMPTY`; `EPERM`: cannot be done here.
    fn rmdir(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        let _ = (directory, name, target);
        Err(Errno::EPERM)
    }
    /// Renames. `ENOTEMPTY`; `EPERM`: cannot be done here.
    fn rename(&self, rename: &Rename<'_>) -> Result<()> {
        let _ = rename;
        Err(Errno::EPERM)
    }
    /// The text of a symbolic link, if it is in memory and never changes: the quick way of path walking.
    fn link_text(&self) -> Option<&[u8]> {
        None
    }
    /// Where a symbolic link leads. `EINVAL`: not a link.
    fn follow_link(&self, inode: &Arc<Inode>) -> Result<LinkTarget> {
        let _ = inode;
        copy_text(self.link_text()).map(LinkTarget::Text)
    }
    /// What readlink(2) tells (for magic links a description of the place). `EINVAL`: not a link.
    fn read_link(&self, inode: &Arc<Inode>) -> Result<Vec<u8>> {
        let _ = inode;
        copy_text(self.link_text())
    }
    /// The mount namespace that the file stands for, if it does (nsfs).
    fn mount_namespace(&self) -> Option<&Arc<crate::mount::MountNamespace>> {
        None
    }
    /// Whether the file stands for a namespace of any kind (nsfs): it may be bound although its own mount is nowhere.
    fn is_namespace_file(&self) -> bool {
        false
    }
    /// Whether it is a directory that will never have an entry: mounting there hides nothing.
    fn is_always_empty(&self) -> bool {
        false
    }
    /// Brings the attributes in the inode up to date ([`state::LIVE_ATTRIBUTES`]).
    fn refresh(&self, inode: &Inode) -> Result<()> {
        let _ = inode;
        Ok(())
    }
    /// Changes attributes; applies them to the inode with [`AttributeChange::apply`]. The lock is held for writing.
    /// The default cannot change sizes (`EINVAL`).
    fn set_attributes(&self, inode: &Arc<Inode>, change: &AttributeChange) -> Result<()> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        change.apply(inode);
        Ok(())
    }
    /// Its own answer to a permission check ([`state::OWN_PERMISSIONS`]); `None`: the ordinary rules. May be called with
    /// preemption off.
    fn permission(&self, inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Option<Result<()>> {
        let _ = (inode, credentials, mask);
        None
    }
    /// Opens the inode for the description `file`. `Ok(None)`: its operations are [`Self::file_operations`], and no
    /// allocation is needed. Device nodes, FIFOs and sockets do not come here.
    fn open(&self, inode: &Arc<Inode>, file: &File) -> Result<Option<Arc<dyn FileOperations>>> {
        let _ = (inode, file);
        Ok(None)
    }
    /// The operations of descriptions for which [`Self::open`] gave none of their own.
    fn file_operations(&self) -> &dyn FileOperations {
        &crate::file::NoOperations
    }
    /// The pages of a regular file. Its size is then the file's.
    fn page_cache(&self) -> Option<&Arc<PageCache>> {
        None
    }
    /// The seals, of files that can have some (`F_ADD_SEALS`).
    fn seals(&self) -> Option<&Seals> {
        None
    }
    /// Neither a name nor anybody who uses the file is left (descriptions, working directories, mounts, mappings): gives the space back, and the
    /// number. Called exactly once for each inode whose link count is zero, in thread context, where it may sleep and do I/O, with the
    /// inode's lock held for writing and no other. Afterwards nothing is called on the inode any more, but that its node is dropped, perhaps later:
    /// somebody may still look at its attributes.
    fn evict(&self, inode: &Inode) {
        let _ = inode;
    }
    /// The memory of a file that has a name goes, because nothing refers to it now and room is needed: the last chance to write what the file
    /// system only has here (late times, [`times_changed`](Self::times_changed)). Called at most once, and never after [`evict`](Self::evict); thread context,
    /// where it may sleep and do I/O, no locks held, if the file system is on a device. The node is dropped right after it; another
    /// inode of the same file may be made meanwhile.
    fn forget(&self, inode: &Inode) {
        let _ = inode;
    }
    /// The kernel changed times of the inode, which has them already: the access time by a read, a listing or a readlink (as the mount's options
    /// say), or the times of modification and change by a store through a shared mapping, once for each page that becomes dirty by it. A file
    /// system with a device notes that they are to be written, now or (`lazytime`, [`SuperBlock::flags`]) with the next change, `sync` or
    /// [`forget`](Self::forget). Thread context; may sleep, but every such read waits for it. The offset's lock of the description may be held, no other.
    fn times_changed(&self, inode: &Inode) {
        let _ = inode;
    }
    /// Gives the extents that have a byte in `range`, whole, holes left out, the file's last one with `FIEMAP_EXTENT_LAST`. May sleep; no locks are held.
    /// `EOPNOTSUPP`.
    fn extents(&self, inode: &Inode, range: Range<u64>, sink: &mut ExtentSink<'_>) -> Result<()> {
        let _ = (inode, range, sink);
        Err(Errno::EOPNOTSUPP)
    }
    /// `FIBMAP`: the block of the device at which block `block` of the file is, in blocks of [`SuperBlock::block_size`]; 0: a hole. `EINVAL`: not here.
    fn block_of(&self, inode: &Inode, block: u64) -> Result<u64> {
        let _ = (inode, block);
        Err(Errno::EINVAL)
    }
    /// The flags of the file. `ENOTTY`: it has none.
    fn flags(&self, inode: &Inode) -> Result<FileFlags> {
        let _ = inode;
        Err(Errno::ENOTTY)
    }
    /// Changes them: stores them with the time of change `now`, sets the inode's state ([`Inode::apply_flags`]). The lock is held for writing, the caller's rights
    /// were checked. `EOPNOTSUPP`: a flag that cannot be changed; `EINVAL`, `ENOSPC`; `ENOTTY`.
    fn set_flags(&self, inode: &Arc<Inode>, flags: FileFlags, now: Timestamp) -> Result<()> {
        let _ = (inode, flags, now);
        Err(Errno::ENOTTY)
    }
    /// Tells the file from others that had its number before. `ENOTTY`.
    fn generation(&self) -> Result<u32> {
        Err(Errno::ENOTTY)
    }
    /// The value of an extended attribute, its full name given. `ENODATA`; `EOPNOTSUPP`.
    fn get_xattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        let _ = (inode, name);
        Err(Errno::EOPNOTSUPP)
    }
    /// Sets an extended attribute. `EEXIST`, `ENODATA` by `mode`; `ENOSPC`; `EOPNOTSUPP`.
    fn set_xattr(&self, inode: &Inode, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let _ = (inode, name, value, mode);
        Err(Errno::EOPNOTSUPP)
    }
    /// Removes an extended attribute. `ENODATA`; `EOPNOTSUPP`.
    fn remove_xattr(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        let _ = (inode, name);
        Err(Errno::EOPNOTSUPP)
    }
    /// Stores an access control list, or removes it, and applies `change` (the mode that follows and the time of change) with
    /// [`AttributeChange::apply`], both or neither. An access list given says more than the mode. The lock is held for writing. Removing one that is
    /// not there is no error. `ENOSPC`; `EOPNOTSUPP`. See [`crate::acl`].
    fn set_acl(
        &self,
        inode: &Arc<Inode>,
        kind: AclKind,
        acl: Option<&Arc<Acl>>,
        change: &AttributeChange,
    ) -> Result<()> {
        let _ = (inode, kind, acl, change);
        Err(Errno::EOPNOTSUPP)
    }
    /// The names of all extended attributes, each ended by NUL; access control lists aside.
    fn list_xattrs(&self, inode: &Inode) -> Result<Vec<u8>> {
        let _ = inode;
        Ok(Vec::new())
    }
}

fn copy_text(text: Option<&[u8]>) -> Result<Vec<u8>> {
    let text = text.ok_or(Errno::EINVAL)?;
    let mut copy = Vec::new();
    copy.try_reserve_exact(text.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(text);
    Ok(copy)
}
