//! Changing what is mounted where: mount(2) in all its meanings, and the first namespace.
//!
//! Key types: [`MountArguments`]. Every change is made with the topology locked (`mount`), so that checks and changes are
//! one step; how trees are attached is in `mount_tree`. Errors are those of the manual pages. Whether the caller administers
//! its mount namespace is the caller's to check, what else privilege decides is checked here.

use crate::context::LookupContext;
use crate::mount::{ACCESS_TIME_FLAGS, Mount, MountNamespace, WritersBarred, lock, lock_topology};
use crate::mount_tree::{
    Attaching, CopyRule, all_below, attach, check_own, copy_tree, discard, has_locked_children, namespace_of,
    topmost,
};
use crate::namei::{self, LookupFlags, Start};
use crate::path::Path;
use crate::propagation::{self, Relation};
use crate::reaper;
use crate::superblock::{FileSystemType, MountRequest, SuperBlock, find_filesystem};
use crate::types::{DeviceId, FileKind};
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use security::{Capability, Credentials, capable_anywhere_above};

/// What mount(2) is given, its target resolved.
pub struct MountArguments<'a> {
    /// What to mount, or for a bind or move the path of it.
    pub source: &'a [u8],
    /// Where.
    pub target: &'a Path,
    /// The type's name.
    pub kind: &'a [u8],
    /// `MS_*`.
    pub flags: MountFlags,
    /// Options of the file system.
    pub data: &'a [u8],
}

/// mount(2).
pub fn mount(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    let flags = arguments.flags;
    if flags.contains(MountFlags::REMOUNT | MountFlags::BIND) {
        return change_flags(context, arguments);
    }
    if flags.contains(MountFlags::REMOUNT) {
        return remount(context, arguments);
    }
    if flags.contains(MountFlags::BIND) {
        return bind(context, arguments);
    }
    if flags.intersects(MountFlags::PROPAGATION) {
        return change_propagation(context, arguments);
    }
    if flags.contains(MountFlags::MOVE) {
        return move_mount(context, arguments);
    }
    mount_new(context, arguments)
}

/// The flags of a new mount: relative access times unless something else is asked for.
fn own_flags(flags: MountFlags) -> MountFlags {
    if flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        flags
    } else {
        flags | MountFlags::RELATIME
    }
}

/// Makes an instance of a type and the mount of its root, attached nowhere.
fn make(kind: &dyn FileSystemType, request: &MountRequest<'_>) -> Result<Arc<Mount>> {
    let root = kind.mount(request)?;
    let dentry = root.superblock().root_dentry(&root);
    Mount::new(dentry, request.source, own_flags(request.flags))
}

/// A new mount of a type. A user namespace may mount only what is made for that, and `/proc` and `/sys` only if it sees one
/// already that hides nothing.
fn mount_new(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    if arguments.kind.is_empty() {
        return Err(Errno::EINVAL);
    }
    let kind = find_filesystem(arguments.kind)?;
    check_mountable(&*kind, context.credentials)?;
    let request = MountRequest {
        source: arguments.source,
        flags: arguments.flags,
        data: arguments.data,
        credentials: context.credentials,
        device: if kind.needs_device() { Some(source_device(context, arguments.source)?) } else { None },
    };
    let mount = make(&*kind, &request)?;
    let topology = lock_topology();
    let namespace = check_own(context, arguments.target)?;
    if kind.must_be_visible() && namespace.user_namespace().level() != 0 {
        let locks = visible_elsewhere(&namespace, &mount).ok_or(Errno::EPERM)?;
        mount.add_locks(locks);
    }
    attach(&[mount], arguments.target, Attaching::New, &topology)
}

/// The block device that mount(2)'s source names. Errors: `EINVAL`: there is no source; `ENOTBLK`: it is none; `EACCES`: it lies where nodes do not
/// count; those of the lookup.
fn source_device(context: &LookupContext<'_>, source: &[u8]) -> Result<DeviceId> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let place = namei::resolve(context, Start::WorkingDirectory, source, LookupFlags::FOLLOW)?;
    let inode = place.inode()?;
    if inode.kind() != FileKind::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if place.mount.is_nodev() {
        return Err(Errno::EACCES);
    }
    Ok(inode.special_device())
}

/// `EPERM` unless one may mount this type: administrators of the machine may always.
fn check_mountable(kind: &dyn FileSystemType, credentials: &Credentials) -> Result<()> {
    let allowed = if kind.user_mountable() {
        credentials.capable(&kind.owner(credentials), Capability::SysAdmin)
    } else {
        capable_anywhere_above(credentials, Capability::SysAdmin)
    };
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether the namespace shows all of a file system of this type already, so that one more mount reveals nothing; the locks
/// that the new mount must then have.
fn visible_elsewhere(namespace: &MountNamespace, new: &Mount) -> Option<u32> {
    let bound = lock::READ_ONLY | lock::ACCESS_TIME;
    namespace.mounts().iter().find_map(|mount| {
        let superblock = mount.superblock();
        let whole = mount.root().parent().is_none();
        if superblock.type_name() != new.superblock().type_name() || !whole {
            return None;
        }
        let forced = if superblock.is_read_only() { lock::READ_ONLY } else { 0 };
        let locks = (mount.locks() | forced) & bound;
        let times = (mount.flags() ^ new.flags()) & ACCESS_TIME_FLAGS;
        let writable = locks & lock::READ_ONLY != 0 && !new.flags().contains(MountFlags::RDONLY);
        if writable || locks & lock::ACCESS_TIME != 0 && !times.is_empty() {
            return None;
        }
        let hides = |child: &Arc<Mount>| {
            let inode = child.attachment_path().and_then(|place| place.dentry.inode().cloned());
            child.is_locked() && !inode.is_some_and(|inode| inode.operations().is_always_empty())
        };
        (!mount.children().iter().any(hides)).then_some(locks)
    })
}

fn bind(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    if arguments.source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = namei::resolve(context, Start::WorkingDirectory, arguments.source, LookupFlags::FOLLOW)?;
    let topology = lock_topology();
    let own = check_own(context, arguments.target)?;
    let operations = source.inode()?.operations();
    if let Some(namespace) = operations.mount_namespace()
        && !own.is_older_than(namespace)
    {
        // It would keep itself alive.
        return Err(Errno::EINVAL);
    }
    if source.mount.propagation().unbindable {
        return Err(Errno::EINVAL);
    }
    if !operations.is_namespace_file() {
        check_own(context, &source)?;
    }
    let recursive = arguments.flags.contains(MountFlags::REC);
    if !recursive && has_locked_children(&source.mount, &source.dentry) {
        return Err(Errno::EINVAL);
    }
    let copies: Vec<_> = if recursive {
        let rule = CopyRule { relation: Relation::Same, unbindable: false, namespace_files: true };
        let pairs = copy_tree(&source.mount, &source.dentry, rule, &topology)?;
        pairs.into_iter().map(|(_, copy)| copy).collect()
    } else {
        let copy = source.mount.clone_at(&source.dentry);
        propagation::relate(&copy, &source.mount, Relation::Same);
        alloc::vec![copy]
    };
    let attached = attach(&copies, arguments.target, Attaching::New, &topology);
    attached.inspect_err(|_| discard(&copies, &topology))
}

fn move_mount(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    if arguments.source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = namei::resolve(context, Start::WorkingDirectory, arguments.source, LookupFlags::FOLLOW)?;
    let topology = lock_topology();
    let place = topmost(arguments.target);
    check_own(context, &place)?;
    check_own(context, &source)?;
    if !source.is_mount_root() || source.mount.is_locked() {
        return Err(Errno::EINVAL);
    }
    let from = source.mount.attachment_path();
    let shared = |mount: &Mount| mount.propagation().peer_group != 0;
    let directory = |path: &Path| path.inode().is_ok_and(|inode| inode.is_directory());
    if directory(&source) != directory(&place) || from.as_ref().is_some_and(|from| shared(&from.mount)) {
        return Err(Errno::EINVAL);
    }
    let tree = all_below(&source.mount);
    if shared(&place.mount) && tree.iter().any(|mount| mount.propagation().unbindable) {
        return Err(Errno::EINVAL);
    }
    // It must not go below itself.
    let mut above = Some(place.clone());
    while let Some(path) = above {
        if Arc::ptr_eq(&path.mount, &source.mount) {
            return Err(Errno::ELOOP);
        }
        above = path.mount.attachment_path();
    }
    if from.is_none() {
        return Err(Errno::EINVAL);
    }
    attach(&tree, &place, Attaching::Moved, &topology)
}

fn require_mount_root(place: &Path) -> Result<()> {
    if place.is_mount_root() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What a remount changes of the whole instance, for all its mounts.
const INSTANCE_FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::SYNCHRONOUS).union(MountFlags::LAZYTIME);

/// The flags that a remount asks for: without a word about access times those stay.
fn remount_flags(mount: &Mount, flags: MountFlags) -> MountFlags {
    if flags.intersects(ACCESS_TIME_FLAGS | MountFlags::STRICTATIME) {
        own_flags(flags)
    } else {
        flags | mount.flags() & ACCESS_TIME_FLAGS
    }
}

fn change_flags(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    require_mount_root(arguments.target)?;
    let _topology = lock_topology();
    let namespace = check_own(context, arguments.target)?;
    let mount = &arguments.target.mount;
    let flags = remount_flags(mount, arguments.flags);
    if !mount.may_have_flags(flags) {
        return Err(Errno::EPERM);
    }
    mount.set_flags(flags)?;
    namespace.notify();
    Ok(())
}

fn remount(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    require_mount_root(arguments.target)?;
    let mount = &arguments.target.mount;
    let superblock = mount.superblock();
    if arguments.flags.contains(MountFlags::RDONLY) {
        prepare_to_stop(superblock);
    }
    let _topology = lock_topology();
    let namespace = check_own(context, arguments.target)?;
    let flags = remount_flags(mount, arguments.flags);
    if !mount.may_have_flags(flags)
        || !context.credentials.capable(superblock.user_namespace(), Capability::SysAdmin)
    {
        return Err(Errno::EPERM);
    }
    let becomes_read_only = flags.contains(MountFlags::RDONLY) && !superblock.is_read_only();
    let barred = if becomes_read_only { Some(stop_writing(superblock)?) } else { None };
    superblock.operations().remount(superblock, arguments.flags, arguments.data)?;
    if barred.is_some() {
        mount.store_flags(flags)
    } else {
        mount.set_flags(flags)?
    }
    superblock.set_flags((superblock.flags() - INSTANCE_FLAGS) | (arguments.flags & INSTANCE_FLAGS));
    namespace.notify();
    Ok(())
}

/// Before anything is locked: lets what is about to go go, and writes what there is, so that little is left when others wait.
fn prepare_to_stop(superblock: &SuperBlock) {
    if superblock.has_unnamed() {
        // RCU may still hold a working directory that was just left.
        machine::sync::rcu::barrier();
        reaper::settle(superblock);
    }
    // What fails now fails again.
    let _ = superblock.sync();
}

/// Keeps writers away from an instance and writes all that is in memory. The topology is locked. Errors: `EBUSY`: a file is open to be written, or is still to
/// be removed from the device when it is closed; `EIO` and the like.
fn stop_writing(superblock: &SuperBlock) -> Result<WritersBarred> {
    if superblock.is_frozen() {
        return Err(Errno::EBUSY);
    }
    let barred = WritersBarred::new(superblock)?;
    if superblock.has_unnamed() {
        return Err(Errno::EBUSY);
    }
    superblock.sync()?;
    Ok(barred)
}

fn change_propagation(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    let kind = arguments.flags & MountFlags::PROPAGATION;
    let rest = arguments.flags - MountFlags::PROPAGATION - MountFlags::REC - MountFlags::SILENT;
    if kind.iter().count() != 1 || !rest.is_empty() {
        return Err(Errno::EINVAL);
    }
    require_mount_root(arguments.target)?;
    let _topology = lock_topology();
    let namespace = namespace_of(arguments.target)?;
    if !context.credentials.capable(namespace.user_namespace(), Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let mount = &arguments.target.mount;
    let recursive = arguments.flags.contains(MountFlags::REC);
    let mounts = if recursive { all_below(mount) } else { alloc::vec![mount.clone()] };
    for mount in &mounts {
        match kind {
            MountFlags::SHARED => propagation::make_shared(mount),
            MountFlags::SLAVE => propagation::make_slave(mount),
            MountFlags::UNBINDABLE => propagation::make_unbindable(mount),
            _ => propagation::make_private(mount),
        }
    }
    Ok(())
}

/// A namespace of its own with an instance of `kind` at its root: the first one, and those in which the kernel itself works. Errors: those of
/// the type.
pub fn first_namespace(kind: &dyn FileSystemType, request: &MountRequest<'_>) -> Result<Arc<MountNamespace>> {
    Ok(MountNamespace::first(make(kind, request)?))
}
