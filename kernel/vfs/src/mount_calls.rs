//! Changing what is mounted where: mount(2), umount(2), pivot_root(2), and the first namespace.
//!
//! Key types: [`MountArguments`]. Every change is made with the topology locked (`mount`), so that checks and changes are
//! one step. Errors are those of the manual pages. Privilege is the caller's to check.

use crate::context::LookupContext;
use crate::dentry::Dentry;
use crate::mount::{Mount, MountNamespace, Propagation, TopologyGuard, lock_topology};
use crate::namei::{self, LookupFlags, Start};
use crate::path::Path;
use crate::superblock::{FileSystemType, MountRequest, find_filesystem};
use abi::errno::{Errno, Result};
use abi::mount::{MNT_DETACH, MNT_EXPIRE, MNT_FORCE, MountFlags};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::{AtomicU32, Ordering};
use security::Credentials;

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
        return change_flags(arguments);
    }
    if flags.contains(MountFlags::REMOUNT) {
        return remount(arguments);
    }
    if flags.contains(MountFlags::BIND) {
        return bind(context, arguments);
    }
    if flags.intersects(MountFlags::PROPAGATION) {
        return change_propagation(arguments);
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

/// The namespace that a place is in. Errors: `EINVAL` if its mount is in none.
fn namespace_of(place: &Path) -> Result<Arc<MountNamespace>> {
    place.mount.namespace().ok_or(Errno::EINVAL)
}

/// What lies on top at a place: mounts made there since it was resolved.
fn topmost(place: &Path) -> Path {
    let mut top = place.clone();
    while let Some(mount) = top.mount.child_at_arc(&top.dentry) {
        let dentry = mount.root().clone();
        top = Path { mount, dentry };
    }
    top
}

/// Attaches a tree of mounts at a place and adds it to the namespace. Errors: `ENOTDIR`, `ENOENT`, `EINVAL`, `ENOSPC`.
fn attach(trees: &[Arc<Mount>], place: &Path, topology: &TopologyGuard) -> Result<()> {
    let top = trees.first().ok_or(Errno::EINVAL)?;
    let place = topmost(place);
    let namespace = namespace_of(&place)?;
    let directory = |dentry: &Dentry| dentry.inode().is_some_and(|inode| inode.is_directory());
    if directory(&place.dentry) != directory(top.root()) {
        return Err(Errno::ENOTDIR);
    }
    if place.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    if namespace.mount_count() + trees.len() > crate::mount::MOUNT_MAX {
        return Err(Errno::ENOSPC);
    }
    top.attach(&place, topology);
    trees.iter().for_each(|mount| namespace.add(mount));
    namespace.notify();
    Ok(())
}

fn mount_new(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    if arguments.kind.is_empty() {
        return Err(Errno::EINVAL);
    }
    let kind = find_filesystem(arguments.kind)?;
    let request = MountRequest {
        source: arguments.source,
        flags: arguments.flags,
        data: arguments.data,
        credentials: context.credentials,
    };
    let mount = make(&*kind, &request)?;
    let topology = lock_topology();
    attach(&[mount], arguments.target, &topology)
}

/// Copies the mounts below (and at) `root` of `mount`, attached to each other: pairs of original and copy, the top first.
pub(crate) fn copy_tree(
    mount: &Arc<Mount>,
    root: &Arc<Dentry>,
    topology: &TopologyGuard,
) -> Result<Vec<(Arc<Mount>, Arc<Mount>)>> {
    let mut copies = alloc::vec![(mount.clone(), mount.clone_at(root))];
    let mut next = 0;
    while let Some((original, copy)) = copies.get(next).cloned() {
        for child in original.children() {
            let Some(place) = child.attachment_path() else { continue };
            let outside = next == 0 && !place.dentry.is_below_or_same(root);
            if outside || child.propagation().unbindable {
                continue;
            }
            let twin = child.clone_at(child.root());
            twin.attach(&Path { mount: copy.clone(), dentry: place.dentry }, topology);
            copies.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            copies.push((child, twin));
        }
        next += 1;
    }
    Ok(copies)
}

fn bind(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    if arguments.source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = namei::resolve(context, Start::WorkingDirectory, arguments.source, LookupFlags::FOLLOW)?;
    let topology = lock_topology();
    if source.mount.propagation().unbindable {
        return Err(Errno::EINVAL);
    }
    let copies = if arguments.flags.contains(MountFlags::REC) {
        copy_tree(&source.mount, &source.dentry, &topology)?.into_iter().map(|(_, copy)| copy).collect()
    } else {
        alloc::vec![source.mount.clone_at(&source.dentry)]
    };
    attach(&copies, arguments.target, &topology).inspect_err(|_| take_apart(&copies, &topology))
}

fn take_apart(mounts: &[Arc<Mount>], topology: &TopologyGuard) {
    mounts.iter().for_each(|mount| mount.detach(topology));
}

fn move_mount(context: &LookupContext<'_>, arguments: &MountArguments<'_>) -> Result<()> {
    let source = namei::resolve(context, Start::WorkingDirectory, arguments.source, LookupFlags::FOLLOW)?;
    let topology = lock_topology();
    let place = topmost(arguments.target);
    let attached = source.mount.attachment_path().is_some();
    if !source.is_mount_root() || !attached {
        return Err(Errno::EINVAL);
    }
    let directory = |path: &Path| path.inode().is_ok_and(|inode| inode.is_directory());
    if directory(&source) != directory(&place) {
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
    let namespace = namespace_of(&place)?;
    source.mount.detach(&topology);
    source.mount.attach(&place, &topology);
    namespace.notify();
    Ok(())
}

fn require_mount_root(place: &Path) -> Result<()> {
    if place.is_mount_root() { Ok(()) } else { Err(Errno::EINVAL) }
}

fn change_flags(arguments: &MountArguments<'_>) -> Result<()> {
    require_mount_root(arguments.target)?;
    let _topology = lock_topology();
    arguments.target.mount.set_flags(own_flags(arguments.flags))?;
    namespace_of(arguments.target)?.notify();
    Ok(())
}

fn remount(arguments: &MountArguments<'_>) -> Result<()> {
    require_mount_root(arguments.target)?;
    let mount = &arguments.target.mount;
    let _topology = lock_topology();
    let superblock = mount.superblock();
    superblock.operations().remount(superblock, arguments.flags, arguments.data)?;
    mount.set_flags(own_flags(arguments.flags))?;
    namespace_of(arguments.target)?.notify();
    Ok(())
}

/// What a `MS_SHARED` and its like makes of a mount; groups are numbered as they are made.
fn propagation_of(kind: MountFlags) -> Propagation {
    static NEXT_GROUP: AtomicU32 = AtomicU32::new(1);
    Propagation {
        peer_group: if kind == MountFlags::SHARED { NEXT_GROUP.fetch_add(1, Ordering::Relaxed) } else { 0 },
        master_group: 0,
        unbindable: kind == MountFlags::UNBINDABLE,
    }
}

fn change_propagation(arguments: &MountArguments<'_>) -> Result<()> {
    require_mount_root(arguments.target)?;
    let kind = arguments.flags & MountFlags::PROPAGATION;
    let rest = arguments.flags - MountFlags::PROPAGATION - MountFlags::REC - MountFlags::SILENT;
    if kind.iter().count() != 1 || !rest.is_empty() {
        return Err(Errno::EINVAL);
    }
    let _topology = lock_topology();
    let mut mounts = alloc::vec![arguments.target.mount.clone()];
    let mut next = 0;
    while let Some(mount) = mounts.get(next).cloned() {
        mount.set_propagation(propagation_of(kind));
        if arguments.flags.contains(MountFlags::REC) {
            mounts.extend(mount.children());
        }
        next += 1;
    }
    Ok(())
}

/// Locks the topology with `target`'s mount in a state that allows unmounting it. Errors: `EINVAL`, `EBUSY`.
fn lock_unused(context: &LookupContext<'_>, target: &Path, flags: u32) -> Result<TopologyGuard> {
    /// The namespace holds one reference, the parent's table one, the caller's path one.
    const IDLE_REFERENCES: usize = 3;
    /// How often to wait for what RCU still holds: a file that was just closed, the attachment of a mount that was just
    /// moved; each may let go of another.
    const BARRIERS: u32 = 3;
    let mount = &target.mount;
    for waited in 0..=BARRIERS {
        let topology = lock_topology();
        namespace_of(target)?;
        let state = context.fs.state().ok_or(Errno::EINVAL)?;
        if mount.attachment_path().is_none() {
            return Err(Errno::EINVAL);
        }
        let detach = flags & MNT_DETACH != 0;
        if detach || Arc::strong_count(mount) <= IDLE_REFERENCES && mount.children().is_empty() {
            return Ok(topology);
        }
        let in_use = !mount.children().is_empty()
            || Arc::ptr_eq(mount, &state.root.mount)
            || Arc::ptr_eq(mount, &state.working_directory.mount);
        if in_use || waited == BARRIERS {
            break;
        }
        drop(topology);
        machine::sync::rcu::barrier();
    }
    Err(Errno::EBUSY)
}

/// umount2(2) of the mount whose root is `target`.
pub fn unmount(context: &LookupContext<'_>, target: &Path, flags: u32) -> Result<()> {
    require_mount_root(target)?;
    if flags & MNT_EXPIRE != 0 {
        // Nothing marks mounts as expired here; the first call of two always answers so.
        return Err(if flags & (MNT_DETACH | MNT_FORCE) != 0 { Errno::EINVAL } else { Errno::EAGAIN });
    }
    let topology = lock_unused(context, target, flags)?;
    let mount = &target.mount;
    let namespace = namespace_of(target)?;
    let mut mounts = alloc::vec![mount.clone()];
    let mut next = 0;
    while let Some(mount) = mounts.get(next).cloned() {
        mounts.extend(mount.children());
        next += 1;
    }
    for mount in mounts.iter().rev() {
        mount.detach(&topology);
        namespace.remove(mount);
        // Nobody uses it, so it is over now for who watches, though its memory waits for a grace period.
        if flags & MNT_DETACH == 0 && mount.is_last_of_superblock() {
            crate::notify::unmounted(mount.superblock());
        }
    }
    namespace.notify();
    Ok(())
}

/// pivot_root(2): `new_root` becomes the root of the namespace, the old root moves to `put_old` below it. Processes that
/// have the old root (here: the caller) get the new one.
pub fn pivot_root(context: &LookupContext<'_>, new_root: &Path, put_old: &Path) -> Result<()> {
    let topology = lock_topology();
    let state = context.fs.state().ok_or(Errno::EINVAL)?;
    let old_root = state.root.clone();
    let namespace = namespace_of(new_root)?;
    let same = |a: &Path, b: &Path| Arc::ptr_eq(&a.mount, &b.mount);
    if same(new_root, &old_root) || same(put_old, &old_root) {
        return Err(Errno::EBUSY);
    }
    let new_place = new_root.mount.attachment_path().ok_or(Errno::EINVAL)?;
    let old_place = old_root.mount.attachment_path().ok_or(Errno::EINVAL)?;
    if !new_root.is_mount_root() || !old_root.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if !same(put_old, new_root) || !put_old.dentry.is_below_or_same(&new_root.dentry) {
        return Err(Errno::EINVAL);
    }
    let _ = new_place;
    new_root.mount.detach(&topology);
    old_root.mount.detach(&topology);
    new_root.mount.attach(&old_place, &topology);
    old_root.mount.attach(put_old, &topology);
    namespace.notify();
    let (root, new) = (old_root, new_root.clone());
    context.fs.update(|state| {
        if state.root.is_same(&root) {
            state.root = new.clone();
        }
        if state.working_directory.is_same(&root) {
            state.working_directory = new.clone();
        }
    });
    Ok(())
}

/// The first namespace: an instance of `kind` at its root. Errors: those of the type.
pub fn first_namespace(
    kind: &dyn FileSystemType,
    source: &[u8],
    credentials: &Arc<Credentials>,
) -> Result<Arc<MountNamespace>> {
    let request = MountRequest { source, flags: MountFlags::empty(), data: b"", credentials };
    let root = make(kind, &request)?;
    Ok(MountNamespace::new(root, credentials.user_namespace.clone()))
}

/// sync(2): writes every file system of the namespace. What fails is reported by the next fsync.
pub fn sync_all(namespace: &MountNamespace) {
    for mount in namespace.mounts() {
        let superblock = mount.superblock();
        let _ = superblock.operations().sync(superblock);
    }
}
