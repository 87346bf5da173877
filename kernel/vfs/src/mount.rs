//! Mounts: which file system is seen where, in each mount namespace.
//!
//! Key types: [`Mount`] (one place where a tree is seen), [`MountNamespace`] (a tree of mounts), [`Attachment`].
//! Neighbours: `mount_calls` (mount(2)), `mount_tree` (attaching, umount(2), pivot_root(2)), `propagation` (peer groups),
//! `mount_text` (`/proc/mounts`), `namei` (crosses).
//!
//! The shape of all mount trees changes under one sleeping lock, [`TOPOLOGY`]. Path walks read it under RCU: a mount's
//! children are an immutable sorted table that each change replaces, and its own place an immutable [`Attachment`].

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use abi::fs::Statfs;
use abi::mount::MountFlags;
use machine::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use machine::sync::{Mutex, MutexGuard, RcuArc, RcuGuard, SpinLock, WaitQueue, rcu};
use security::{NamespaceHead, NamespaceKind, UserNamespace};

use crate::dentry::{self, Dentry};
use crate::freeze::Change;
use crate::path::Path;
use crate::reaper;
use crate::superblock::SuperBlock;

/// Held by whoever changes any mount tree; outermost of all locks of this crate.
static TOPOLOGY: Mutex<()> = Mutex::new(());

/// Proof that the mount trees stand still.
pub(crate) type TopologyGuard = MutexGuard<'static, ()>;

/// Stops all changes of mount trees.
pub(crate) fn lock_topology() -> TopologyGuard {
    TOPOLOGY.lock()
}

/// How many mounts a namespace may have (`/proc/sys/fs/mount-max`).
static MOUNT_MAX: AtomicU32 = AtomicU32::new(100_000);

/// How many mounts a namespace may have.
pub fn mount_max() -> u32 {
    MOUNT_MAX.load(Ordering::Relaxed)
}

/// Sets how many mounts a namespace may have.
pub fn set_mount_max(count: u32) {
    MOUNT_MAX.store(count, Ordering::Relaxed);
}

/// Flags that each mount has for itself.
const OWN_FLAGS: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME)
    .union(MountFlags::NODIRATIME)
    .union(MountFlags::RELATIME)
    .union(MountFlags::NOSYMFOLLOW);

/// What may not be changed about a mount, because a more privileged user namespace decided it (mount_namespaces(7),
/// "Restrictions on mount namespaces").
pub(crate) mod lock {
    /// It may not be taken off alone: something is hidden below it.
    pub const PLACE: u32 = 1;
    /// It stays read-only.
    pub const READ_ONLY: u32 = 2;
    /// It stays `nosuid`.
    pub const NOSUID: u32 = 4;
    /// It stays `nodev`.
    pub const NODEV: u32 = 8;
    /// It stays `noexec`.
    pub const NOEXEC: u32 = 16;
    /// Its access-time flags stay.
    pub const ACCESS_TIME: u32 = 32;
}

/// Flags about access times.
pub(crate) const ACCESS_TIME_FLAGS: MountFlags =
    MountFlags::NOATIME.union(MountFlags::NODIRATIME).union(MountFlags::RELATIME);

/// How mount events travel (mount_namespaces(7)); changed by `propagation` only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Propagation {
    /// Peer group, 0 if not shared.
    pub peer_group: u32,
    /// Group that it receives from, 0 if no slave.
    pub master_group: u32,
    /// Cannot be bound.
    pub unbindable: bool,
}

/// Where a mount is attached; immutable.
pub struct Attachment {
    parent: Arc<Mount>,
    mountpoint: Arc<Dentry>,
}

impl Attachment {
    /// The mount it is on.
    pub fn parent(&self) -> &Mount {
        &self.parent
    }
    /// The place in that mount that it covers.
    pub fn mountpoint(&self) -> &Dentry {
        &self.mountpoint
    }
    /// Both, counted.
    pub fn path(&self) -> Path {
        Path { mount: self.parent.clone(), dentry: self.mountpoint.clone() }
    }
}

/// The mounts on a mount, sorted by the address of the dentry they cover.
struct Children(Box<[Child]>);

#[derive(Clone)]
struct Child {
    /// The dentry it covers.
    mountpoint: Arc<Dentry>,
    mount: Arc<Mount>,
}

impl Child {
    fn key(&self) -> usize {
        Arc::as_ptr(&self.mountpoint) as usize
    }
}

/// One place where a tree is seen.
pub struct Mount {
    this: Weak<Mount>,
    id: u64,
    superblock: Arc<SuperBlock>,
    root: Arc<Dentry>,
    /// What it shows has not lost its contents when it was mounted, and does not while it is.
    is_held: bool,
    source: Box<[u8]>,
    flags: AtomicU32,
    /// See [`lock`].
    locks: AtomicU32,
    attachment: RcuArc<Attachment>,
    children: RcuArc<Children>,
    namespace: SpinLock<Weak<MountNamespace>>,
    propagation: SpinLock<Propagation>,
    /// Descriptions open for writing; remounting read-only needs none. Negative: none may come.
    writers: AtomicI32,
    /// `MNT_EXPIRE` was asked for, and nobody has used the mount since.
    expiring: AtomicBool,
    active: Arc<ActiveSuperBlock>,
}

/// Counts the mounts of a superblock: with the last one, its names leave the cache and its watches end.
pub(crate) struct ActiveSuperBlock(Arc<SuperBlock>);

impl SuperBlock {
    /// Its count of mounts, for one mount more. `EBUSY`: it is on a device, and just being shut down.
    fn activate(self: &Arc<Self>) -> Result<Arc<ActiveSuperBlock>> {
        let mut known = self.active().lock();
        if let Some(active) = known.as_ref().and_then(Weak::upgrade) {
            return Ok(active);
        }
        if known.is_some() && self.is_on_device() {
            return Err(Errno::EBUSY);
        }
        let active = Arc::new(ActiveSuperBlock(self.clone()));
        *known = Some(Arc::downgrade(&active));
        Ok(active)
    }
}

impl Drop for ActiveSuperBlock {
    /// Any context on a device; else thread context.
    fn drop(&mut self) {
        if self.0.is_on_device() {
            reaper::retire(self.0.clone());
        } else {
            crate::notify::unmounted(&self.0);
            dentry::drop_superblock(&self.0);
        }
    }
}

/// Nobody writes to a file system through any of its mounts, and nobody begins to while this lives: then they get `EROFS`. The topology is locked.
pub(crate) struct WritersBarred(Vec<Arc<Mount>>);

impl WritersBarred {
    /// Keeps writers away. `EBUSY`: there is one.
    pub(crate) fn new(superblock: &SuperBlock) -> Result<WritersBarred> {
        let mut barred = WritersBarred(Vec::new());
        for mount in superblock.mounts() {
            let free = mount.writers.compare_exchange(0, i32::MIN, Ordering::AcqRel, Ordering::Relaxed);
            free.map_err(|_| Errno::EBUSY)?;
            barred.0.push(mount);
        }
        Ok(barred)
    }
}

impl Drop for WritersBarred {
    fn drop(&mut self) {
        self.0.iter().for_each(|mount| mount.writers.store(0, Ordering::Release));
    }
}

/// A call that changes something through a mount.
pub(crate) struct MountChange<'a> {
    mount: &'a Mount,
    _change: Change<'a>,
}

impl Drop for MountChange<'_> {
    fn drop(&mut self) {
        self.mount.end_write();
    }
}

/// Tells whether a file system is still mounted somewhere.
pub(crate) struct Watched {
    active: Weak<ActiveSuperBlock>,
    superblock: Arc<SuperBlock>,
}

impl Watched {
    /// The file systems that no other mounts show than these, which are being taken off, if they have something to put down: those on devices, and those
    /// that hold memory.
    pub(crate) fn all(gone: &[Arc<Mount>]) -> Vec<Watched> {
        let has_contents = |mount: &&Arc<Mount>| {
            let of_memory = || mount.superblock.statfs().is_ok_and(|status| status.f_bfree < status.f_blocks);
            mount.superblock.is_on_device() || of_memory()
        };
        let mut by_address: BTreeMap<usize, (usize, &Arc<Mount>)> = BTreeMap::new();
        for mount in gone.iter().filter(has_contents) {
            by_address.entry(Arc::as_ptr(&mount.active).addr()).or_insert((0, mount)).0 += 1;
        }
        let alone = by_address.values().filter(|(count, mount)| Arc::strong_count(&mount.active) == *count);
        alone
            .map(|(_, mount)| Watched {
                active: Arc::downgrade(&mount.active),
                superblock: mount.superblock.clone(),
            })
            .collect()
    }

    /// After its mounts have been taken off: waits until it is shut down, and what it held in memory is free, unless it is mounted or in use elsewhere. The
    /// caller refers to none of them any more.
    pub(crate) fn wait_for_end(self) {
        /// How often to wait for what RCU still holds: the places of mounts, and the mounts that those hold; then names and their inodes.
        const BARRIERS: u32 = 3;
        let is_off = || self.active.strong_count() == 0;
        let is_gone = || is_off() && Arc::strong_count(&self.superblock) == 1;
        if !waits_for(BARRIERS, is_off) {
            return;
        }
        if self.superblock.is_on_device() {
            reaper::wait_for_end(&self.superblock);
        } else {
            waits_for(BARRIERS, is_gone);
        }
    }
}

/// Waits for RCU, so many times at most, until this holds; whether it does.
fn waits_for(barriers: u32, holds: impl Fn() -> bool) -> bool {
    (0..barriers).any(|_| {
        rcu::barrier();
        holds()
    })
}

static NEXT_MOUNT_ID: AtomicU64 = AtomicU64::new(1);

impl Mount {
    /// Somebody has found something on it: it does not expire.
    #[inline]
    pub(crate) fn note_use(&self) {
        if self.expiring.load(Ordering::Relaxed) {
            self.expiring.store(false, Ordering::Relaxed);
        }
    }

    /// Marks it as expiring; says whether it was marked already and has not been used since.
    pub(crate) fn mark_expiring(&self) -> bool {
        self.expiring.swap(true, Ordering::Relaxed)
    }

    /// A mount of the tree below `root`, attached nowhere.
    pub(crate) fn new(root: Arc<Dentry>, source: &[u8], flags: MountFlags) -> Result<Arc<Mount>> {
        let superblock = root.inode().ok_or(Errno::ENOENT)?.superblock().clone();
        let active = superblock.activate()?;
        Ok(Mount::with(root, source, flags, active))
    }

    fn with(
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
        active: Arc<ActiveSuperBlock>,
    ) -> Arc<Mount> {
        let superblock = active.0.clone();
        let is_held = root.inode().is_some_and(|inode| inode.hold().is_ok());
        let mount = Arc::new_cyclic(|this| Mount {
            this: this.clone(),
            id: NEXT_MOUNT_ID.fetch_add(1, Ordering::Relaxed),
            superblock,
            root,
            is_held,
            source: Box::from(source),
            flags: AtomicU32::new((flags & OWN_FLAGS).bits()),
            locks: AtomicU32::new(0),
            attachment: RcuArc::empty(),
            children: RcuArc::empty(),
            namespace: SpinLock::new(Weak::new()),
            propagation: SpinLock::new(Propagation::default()),
            writers: AtomicI32::new(0),
            expiring: AtomicBool::new(false),
            active,
        });
        mount.superblock.add_mount(mount.id, mount.this.clone());
        mount
    }

    /// Another mount of the same file system, of the tree below `root`, attached nowhere and private (bind).
    pub(crate) fn clone_at(&self, root: &Arc<Dentry>) -> Arc<Mount> {
        let mount = Mount::with(root.clone(), &self.source, self.flags(), self.active.clone());
        mount.locks.store(self.locks() & !lock::PLACE, Ordering::Relaxed);
        mount
    }

    /// What may not be changed about it ([`lock`]).
    pub(crate) fn locks(&self) -> u32 {
        self.locks.load(Ordering::Relaxed)
    }
    /// Whether it may not be taken off alone.
    pub(crate) fn is_locked(&self) -> bool {
        self.locks() & lock::PLACE != 0
    }
    pub(crate) fn add_locks(&self, locks: u32) {
        self.locks.fetch_or(locks, Ordering::Relaxed);
    }
    pub(crate) fn remove_locks(&self, locks: u32) {
        self.locks.fetch_and(!locks, Ordering::Relaxed);
    }
    /// Fixes the flags it has now.
    pub(crate) fn lock_flags(&self) {
        let pairs = [
            (MountFlags::RDONLY, lock::READ_ONLY),
            (MountFlags::NOSUID, lock::NOSUID),
            (MountFlags::NODEV, lock::NODEV),
            (MountFlags::NOEXEC, lock::NOEXEC),
        ];
        let set = pairs.iter().filter(|(flag, _)| self.has(*flag));
        self.add_locks(set.fold(lock::ACCESS_TIME, |locks, (_, lock)| locks | lock));
    }
    /// Whether its locks allow these flags.
    pub(crate) fn may_have_flags(&self, flags: MountFlags) -> bool {
        let locks = self.locks();
        let kept = |lock: u32, flag| locks & lock == 0 || flags.contains(flag);
        let times = (self.flags() ^ flags) & ACCESS_TIME_FLAGS;
        kept(lock::READ_ONLY, MountFlags::RDONLY)
            && kept(lock::NOSUID, MountFlags::NOSUID)
            && kept(lock::NODEV, MountFlags::NODEV)
            && kept(lock::NOEXEC, MountFlags::NOEXEC)
            && (locks & lock::ACCESS_TIME == 0 || times.is_empty())
    }

    /// Its number in mountinfo and statx.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// What is seen through it.
    #[inline]
    pub fn superblock(&self) -> &Arc<SuperBlock> {
        &self.superblock
    }
    /// The top of what is seen.
    #[inline]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }
    /// What mount(2) named as source.
    pub fn source(&self) -> &[u8] {
        &self.source
    }
    /// A counted handle; `None` if it is just being freed.
    #[inline]
    pub fn to_arc(&self) -> Option<Arc<Mount>> {
        self.this.upgrade()
    }
    /// Its own flags (those of the superblock aside).
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
    fn has(&self, flag: MountFlags) -> bool {
        self.flags().contains(flag)
    }
    /// No writing through it.
    pub fn is_read_only(&self) -> bool {
        self.has(MountFlags::RDONLY) || self.superblock.is_read_only()
    }
    /// Whether set-ID bits and file capabilities count for someone in `namespace` with the user namespace `user`: a mount from
    /// elsewhere, or a file system of a user namespace that is not above, gives nobody privileges.
    pub fn may_set_ids(&self, namespace: &MountNamespace, user: &UserNamespace) -> bool {
        !self.has(MountFlags::NOSUID)
            && core::ptr::eq(self.namespace.lock().as_ptr(), namespace)
            && user.is_within(self.superblock.user_namespace())
    }
    /// Device nodes cannot be opened: by its flag, or because a user namespace made the file system (devpts makes its own nodes).
    pub fn is_nodev(&self) -> bool {
        self.has(MountFlags::NODEV) || !self.superblock.has_trusted_devices()
    }
    /// Programs cannot be run.
    pub fn is_noexec(&self) -> bool {
        self.has(MountFlags::NOEXEC)
    }
    /// Symbolic links are not followed.
    #[inline]
    pub fn is_nosymfollow(&self) -> bool {
        self.has(MountFlags::NOSYMFOLLOW)
    }

    /// Where it is attached, as long as the guard lives.
    #[inline]
    pub fn attachment<'g>(&self, guard: &'g RcuGuard) -> Option<&'g Attachment> {
        self.attachment.load(guard)
    }
    /// Where it is attached, counted.
    pub fn attachment_path(&self) -> Option<Path> {
        self.attachment.load_arc().map(|attachment| attachment.path())
    }
    /// The mount that covers `dentry` of this one, as long as the guard lives.
    #[inline]
    pub fn child_at<'g>(&self, guard: &'g RcuGuard, dentry: &Dentry) -> Option<&'g Mount> {
        let children = &self.children.load(guard)?.0;
        let key = core::ptr::from_ref(dentry) as usize;
        let at = children.binary_search_by_key(&key, Child::key).ok()?;
        children.get(at).map(|child| &*child.mount)
    }
    /// The same, counted.
    pub(crate) fn child_at_arc(&self, dentry: &Dentry) -> Option<Arc<Mount>> {
        let guard = rcu::read_lock();
        self.child_at(&guard, dentry)?.to_arc()
    }
    /// The mounts directly on it, in the order of their making.
    pub(crate) fn children(&self) -> Vec<Arc<Mount>> {
        let Some(children) = self.children.load_arc() else { return Vec::new() };
        let mut list: Vec<_> = children.0.iter().map(|child| child.mount.clone()).collect();
        list.sort_unstable_by_key(|mount| mount.id);
        list
    }
    /// The namespace it is in; none if it has been detached.
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.namespace.lock().upgrade()
    }
    /// How mount events travel.
    pub fn propagation(&self) -> Propagation {
        *self.propagation.lock()
    }
    pub(crate) fn set_propagation(&self, propagation: Propagation) {
        *self.propagation.lock() = propagation;
    }

    /// Counts a description that is open to be written. `EROFS`: it is read-only or just becoming so.
    pub(crate) fn begin_write(&self) -> Result<()> {
        let add = |count: i32| (count >= 0).then_some(count + 1);
        let counted = self.writers.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        counted.map_err(|_| Errno::EROFS)?;
        if self.is_read_only() {
            self.end_write();
            return Err(Errno::EROFS);
        }
        Ok(())
    }
    /// Begins a call that changes what it shows: it is writable until the call is over, and not frozen. No lock of the file system is held. `EROFS`.
    pub(crate) fn begin_change(&self) -> Result<MountChange<'_>> {
        let change = self.superblock.begin_change();
        self.begin_write()?;
        Ok(MountChange { mount: self, _change: change })
    }
    /// Takes one [`begin_write`](Self::begin_write) back.
    pub(crate) fn end_write(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }
    /// Sets its own flags, writers being kept away.
    pub(crate) fn store_flags(&self, flags: MountFlags) {
        self.flags.store((flags & OWN_FLAGS).bits(), Ordering::Release);
    }
    /// Sets its own flags. `EBUSY`: read-only is asked for and someone is writing.
    pub(crate) fn set_flags(&self, flags: MountFlags) -> Result<()> {
        let becomes_read_only = flags.contains(MountFlags::RDONLY) && !self.has(MountFlags::RDONLY);
        if becomes_read_only {
            let barrier = self.writers.compare_exchange(0, i32::MIN, Ordering::AcqRel, Ordering::Relaxed);
            barrier.map_err(|_| Errno::EBUSY)?;
        }
        self.store_flags(flags);
        if becomes_read_only {
            self.writers.store(0, Ordering::Release);
        }
        Ok(())
    }

    /// What statfs(2) tells.
    pub fn statfs(&self) -> Result<Statfs> {
        let mut status = self.superblock.statfs()?;
        let pairs = [
            (MountFlags::NOSUID, abi::fs::ST_NOSUID),
            (MountFlags::NODEV, abi::fs::ST_NODEV),
            (MountFlags::NOEXEC, abi::fs::ST_NOEXEC),
            (MountFlags::NOATIME, abi::fs::ST_NOATIME),
            (MountFlags::NODIRATIME, abi::fs::ST_NODIRATIME),
            (MountFlags::RELATIME, abi::fs::ST_RELATIME),
        ];
        let mut flags = abi::fs::ST_VALID;
        for (flag, bit) in pairs {
            flags |= if self.has(flag) { bit } else { 0 };
        }
        if self.is_read_only() {
            flags |= abi::fs::ST_RDONLY;
        }
        status.f_flags = i64::from(flags);
        Ok(status)
    }

    fn change_children(&self, change: impl FnOnce(&mut Vec<Child>)) {
        let old = self.children.load_arc();
        let mut list = old.map(|children| children.0.to_vec()).unwrap_or_default();
        change(&mut list);
        list.sort_unstable_by_key(Child::key);
        let table = (!list.is_empty()).then(|| Arc::new(Children(list.into_boxed_slice())));
        self.children.replace(table);
    }

    /// Attaches it over `place`.
    pub(crate) fn attach(self: &Arc<Self>, place: &Path, _topology: &TopologyGuard) {
        let attachment = Attachment { parent: place.mount.clone(), mountpoint: place.dentry.clone() };
        self.attachment.replace(Some(Arc::new(attachment)));
        let child = Child { mountpoint: place.dentry.clone(), mount: self.clone() };
        place.mount.change_children(|list| list.push(child));
        place.dentry.add_mount();
    }

    /// Whether no other mount shows its superblock.
    pub(crate) fn is_last_of_superblock(&self) -> bool {
        Arc::strong_count(&self.active) == 1
    }

    /// Takes it off the place that it covers.
    pub(crate) fn detach(&self, _topology: &TopologyGuard) {
        let Some(attachment) = self.attachment.load_arc() else { return };
        attachment.parent.change_children(|list| list.retain(|child| child.mount.id != self.id));
        attachment.mountpoint.remove_mount();
        self.attachment.replace(None);
    }

    /// Detaches it because its tree goes away: a locked one only forgets its place.
    pub(crate) fn release_place(&self, topology: &TopologyGuard) {
        if self.is_locked() { self.forget_place(topology) } else { self.detach(topology) }
    }

    /// Makes it forget its place while the place, which goes away with it, stays covered: what a locked mount hides must not be
    /// seen by those who still have the parent open.
    pub(crate) fn forget_place(&self, _topology: &TopologyGuard) {
        self.attachment.replace(None);
    }
}

impl Drop for Mount {
    /// Thread context, unless nothing covers anything in it.
    fn drop(&mut self) {
        self.superblock.remove_mount(self.id);
        if self.is_held
            && let Some(inode) = self.root.inode()
        {
            inode.release();
        }
        // Only mounts whose children forgot their places have any now.
        if let Some(children) = self.children.load_arc() {
            let _topology = lock_topology();
            children.0.iter().for_each(|child| child.mountpoint.remove_mount());
        }
    }
}

/// A tree of mounts, as a set of processes sees it.
pub struct MountNamespace {
    this: Weak<MountNamespace>,
    head: NamespaceHead,
    /// By rising number, which is the order of making.
    mounts: SpinLock<BTreeMap<u64, Arc<Mount>>>,
    root: RcuArc<Mount>,
    /// Counts changes, for poll on `/proc/mounts`.
    events: AtomicU64,
    /// Woken at changes.
    changed: Arc<WaitQueue>,
}

impl MountNamespace {
    /// A namespace whose root is this mount, attached nowhere else.
    pub(crate) fn new(root: Arc<Mount>, head: NamespaceHead) -> Arc<MountNamespace> {
        let namespace = Arc::new_cyclic(|this| MountNamespace {
            this: this.clone(),
            head,
            mounts: SpinLock::new(BTreeMap::new()),
            root: RcuArc::new(Some(root.clone())),
            events: AtomicU64::new(1),
            changed: Arc::new(WaitQueue::new()),
        });
        namespace.add(&root);
        namespace
    }

    /// The first one.
    pub(crate) fn first(root: Arc<Mount>) -> Arc<MountNamespace> {
        MountNamespace::new(root, NamespaceHead::initial(NamespaceKind::Mount))
    }

    /// Kind, number and owner.
    pub fn head(&self) -> &NamespaceHead {
        &self.head
    }
    /// The user namespace that owns it.
    pub fn user_namespace(&self) -> &Arc<UserNamespace> {
        self.head.owner()
    }
    /// Whether it was made before `other`.
    pub fn is_older_than(&self, other: &MountNamespace) -> bool {
        self.head.number() < other.head.number()
    }
    /// The top of the tree.
    pub fn root(&self) -> Option<Arc<Mount>> {
        self.root.load_arc()
    }
    /// The top of the tree as a path, with what is mounted over it.
    pub fn root_path(&self) -> Result<Path> {
        let mut mount = self.root().ok_or(Errno::ENOENT)?;
        while let Some(over) = mount.child_at_arc(mount.root()) {
            mount = over;
        }
        let dentry = mount.root().clone();
        Ok(Path { mount, dentry })
    }
    /// Its mounts, in the order of their making.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts.lock().values().cloned().collect()
    }
    /// How many mounts it has.
    pub fn mount_count(&self) -> usize {
        self.mounts.lock().len()
    }
    pub(crate) fn add(&self, mount: &Arc<Mount>) {
        *mount.namespace.lock() = self.this.clone();
        self.mounts.lock().insert(mount.id, mount.clone());
    }
    pub(crate) fn remove(&self, mount: &Mount) {
        let removed = self.mounts.lock().remove(&mount.id);
        *mount.namespace.lock() = Weak::new();
        drop(removed);
    }
    /// Tells those who poll `/proc/mounts`.
    pub(crate) fn notify(&self) {
        self.events.fetch_add(1, Ordering::AcqRel);
        self.changed.wake_all();
    }
    /// Number of changes so far, and the queue that is woken at each (poll on `/proc/mounts` tells `POLLERR|POLLPRI`
    /// after a change).
    pub fn changes(&self) -> (u64, &Arc<WaitQueue>) {
        (self.events.load(Ordering::Acquire), &self.changed)
    }

    /// Replaces the top of the tree (pivot_root(2)).
    pub(crate) fn set_root(&self, root: &Arc<Mount>) {
        self.root.replace(Some(root.clone()));
    }

    /// A copy of the whole tree (`CLONE_NEWNS`), and where `places` are in it. If another user namespace is to own it, what is
    /// shared becomes a slave and nothing can be uncovered (mount_namespaces(7)). `ENOMEM`, `ENOSPC`.
    pub fn copy(&self, head: NamespaceHead, places: &mut [&mut Path]) -> Result<Arc<MountNamespace>> {
        let topology = lock_topology();
        let root = self.root().ok_or(Errno::ENOENT)?;
        let foreign = !Arc::ptr_eq(head.owner(), self.user_namespace());
        let copies = crate::mount_tree::copy_namespace(&root, foreign, &topology)?;
        let (_, top) = copies.first().ok_or(Errno::ENOENT)?;
        let namespace = MountNamespace::new(top.clone(), head);
        for (original, copy) in &copies {
            namespace.add(copy);
            for place in places.iter_mut().filter(|place| Arc::ptr_eq(&place.mount, original)) {
                place.mount = copy.clone();
            }
        }
        Ok(namespace)
    }
}

impl Drop for MountNamespace {
    /// Thread context: it takes the tree of mounts apart, whose attachments and child tables refer to each other.
    fn drop(&mut self) {
        let topology = lock_topology();
        let mounts = core::mem::take(&mut *self.mounts.lock());
        for mount in mounts.values() {
            crate::propagation::make_private(mount);
            *mount.namespace.lock() = Weak::new();
            mount.release_place(&topology);
        }
        self.root.replace(None);
        drop(topology);
        drop(mounts);
    }
}
