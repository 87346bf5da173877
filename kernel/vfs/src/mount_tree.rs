//! Trees of mounts: copying, attaching, unmounting and turning them round, with what that does at other places.
//!
//! Key functions: [`attach`], [`unmount`], [`pivot_root`], [`copy_namespace`]. Neighbours: `mount` (the objects), `propagation`
//! (where else), `mount_calls` (mount(2)). Everything is done with the topology locked, so that checks and changes are
//! one step. Privilege is the caller's to check.

use crate::context::LookupContext;
use crate::dentry::Dentry;
use crate::mount::{Mount, MountNamespace, TopologyGuard, Watched, lock, lock_topology, mount_max};
use crate::path::Path;
use crate::propagation::{self, Placement, Relation};
use abi::errno::{Errno, Result};
use abi::mount::{MNT_DETACH, MNT_EXPIRE, MNT_FORCE};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The namespace that a place is in. Errors: `EINVAL` if its mount is in none.
pub(crate) fn namespace_of(place: &Path) -> Result<Arc<MountNamespace>> {
    place.mount.namespace().ok_or(Errno::EINVAL)
}

/// Errors: `EINVAL` unless the place is in the caller's own namespace.
pub(crate) fn check_own(context: &LookupContext<'_>, place: &Path) -> Result<Arc<MountNamespace>> {
    let namespace = namespace_of(place)?;
    let state = context.fs.state().ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(&namespace, &state.namespace) { Ok(namespace) } else { Err(Errno::EINVAL) }
}

/// What lies on top at a place: mounts made there since it was resolved.
pub fn topmost(place: &Path) -> Path {
    let mut top = place.clone();
    while let Some(mount) = top.mount.child_at_arc(&top.dentry) {
        let dentry = mount.root().clone();
        top = Path { mount, dentry };
    }
    top
}

/// A mount and all below it, each before those on it, in the order of their making.
pub(crate) fn all_below(top: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut list = Vec::new();
    let mut stack = Vec::from([top.clone()]);
    while let Some(mount) = stack.pop() {
        stack.extend(mount.children().into_iter().rev());
        list.push(mount);
    }
    list
}

/// What a copy of a tree takes along.
#[derive(Clone, Copy)]
pub(crate) struct CopyRule {
    /// How the copies hang together with the originals.
    pub relation: Relation,
    /// Also what cannot be bound.
    pub unbindable: bool,
    /// Also files that stand for mount namespaces. Not into a namespace, which one of them might then keep alive for ever.
    pub namespace_files: bool,
}

/// Whether a mount shows a file of nsfs that stands for a mount namespace.
fn is_namespace_file(mount: &Mount) -> bool {
    mount.root().inode().is_some_and(|inode| inode.operations().mount_namespace().is_some())
}

/// Copies the mounts below (and at) `root` of `mount`, attached to each other: pairs of original and copy, the top first.
/// `ENOMEM`; `EPERM`: something must neither be bound nor uncovered.
pub(crate) fn copy_tree(
    mount: &Arc<Mount>,
    root: &Arc<Dentry>,
    rule: CopyRule,
    topology: &TopologyGuard,
) -> Result<Vec<(Arc<Mount>, Arc<Mount>)>> {
    let mut copies = Vec::new();
    let outcome = copy_into(&mut copies, mount, root, rule, topology);
    if let Err(error) = outcome {
        let made: Vec<_> = copies.into_iter().map(|(_, copy)| copy).collect();
        discard(&made, topology);
        return Err(error);
    }
    Ok(copies)
}

fn copy_into(
    copies: &mut Vec<(Arc<Mount>, Arc<Mount>)>,
    mount: &Arc<Mount>,
    root: &Arc<Dentry>,
    rule: CopyRule,
    topology: &TopologyGuard,
) -> Result<()> {
    let mut stack = Vec::from([(mount.clone(), None)]);
    while let Some((original, place)) = stack.pop() {
        let copy = original.clone_at(if place.is_none() { root } else { original.root() });
        propagation::relate(&copy, &original, rule.relation);
        copies.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        copies.push((original.clone(), copy.clone()));
        let is_top = place.is_none();
        if let Some(place) = place {
            copy.attach(&place, topology);
            copy.add_locks(original.locks() & lock::PLACE);
        }
        for child in original.children().into_iter().rev() {
            let Some(place) = child.attachment_path() else { continue };
            let outside = is_top && !place.dentry.is_below_or_same(root);
            if outside || !rule.namespace_files && is_namespace_file(&child) {
                continue;
            }
            if child.propagation().unbindable && !rule.unbindable {
                if child.is_locked() {
                    return Err(Errno::EPERM);
                }
                continue;
            }
            stack.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            stack.push((child, Some(Path { mount: copy.clone(), dentry: place.dentry })));
        }
    }
    Ok(())
}

/// Copies a tree that is being attached, the top first, for another place.
pub(crate) fn copy_attached(
    tree: &[Arc<Mount>],
    relation: Relation,
    topology: &TopologyGuard,
) -> Result<Vec<Arc<Mount>>> {
    let top = tree.first().ok_or(Errno::EINVAL)?;
    let rule = CopyRule { relation, unbindable: false, namespace_files: true };
    Ok(copy_tree(top, top.root(), rule, topology)?.into_iter().map(|(_, copy)| copy).collect())
}

/// The copy of a whole namespace, `foreign` if another user namespace is to own it.
pub(crate) fn copy_namespace(
    root: &Arc<Mount>,
    foreign: bool,
    topology: &TopologyGuard,
) -> Result<Vec<(Arc<Mount>, Arc<Mount>)>> {
    let relation = if foreign { Relation::SharedToSlave } else { Relation::Same };
    let rule = CopyRule { relation, unbindable: true, namespace_files: false };
    let copies = copy_tree(root, root.root(), rule, topology)?;
    if foreign {
        lock_tree(copies.iter().map(|(_, copy)| copy));
    }
    Ok(copies)
}

/// Fixes flags and places of a tree that a less privileged namespace gets; the top may still be taken off.
fn lock_tree<'a>(tree: impl Iterator<Item = &'a Arc<Mount>>) {
    for (index, mount) in tree.enumerate() {
        mount.lock_flags();
        mount.add_locks(if index == 0 { 0 } else { lock::PLACE });
    }
}

/// Takes apart a tree that was never attached.
pub(crate) fn discard(tree: &[Arc<Mount>], topology: &TopologyGuard) {
    for mount in tree {
        propagation::make_private(mount);
        mount.detach(topology);
    }
}

/// Where the tree to attach comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attaching {
    /// It is new.
    New,
    /// It is attached somewhere else in the namespace.
    Moved,
}

/// Attaches a tree of mounts, the top first, on top at a place and wherever that propagates to. Nothing has changed after an
/// error. Errors: `ENOTDIR`, `ENOENT`, `EINVAL`, `ENOSPC`, `ENOMEM`.
pub(crate) fn attach(
    tree: &[Arc<Mount>],
    place: &Path,
    how: Attaching,
    topology: &TopologyGuard,
) -> Result<()> {
    let top = tree.first().ok_or(Errno::EINVAL)?;
    let place = topmost(place);
    let namespace = namespace_of(&place)?;
    let directory = |dentry: &Dentry| dentry.inode().is_some_and(|inode| inode.is_directory());
    if directory(&place.dentry) != directory(top.root()) {
        return Err(Errno::ENOTDIR);
    }
    if place.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let fresh: Vec<_> = tree.iter().filter(|mount| mount.propagation().peer_group == 0).cloned().collect();
    let undo = || fresh.iter().for_each(propagation::make_slave);
    let mut elsewhere = Vec::new();
    if place.mount.propagation().peer_group != 0 {
        fresh.iter().for_each(propagation::make_shared);
        elsewhere = propagation::plan_attach(tree, &place, topology).inspect_err(|_| undo())?;
    }
    let own = if how == Attaching::New { tree.len() } else { 0 };
    if let Err(error) = check_room(&namespace, own, &elsewhere) {
        elsewhere.iter().for_each(|placement| discard(&placement.tree, topology));
        undo();
        return Err(error);
    }
    if how == Attaching::Moved {
        top.detach(topology);
    }
    top.attach(&place, topology);
    if how == Attaching::New {
        tree.iter().for_each(|mount| namespace.add(mount));
    }
    namespace.notify();
    for placement in &elsewhere {
        perform(placement, &namespace, topology);
    }
    Ok(())
}

/// `ENOSPC` if a namespace would have too many mounts.
fn check_room(namespace: &Arc<MountNamespace>, own: usize, elsewhere: &[Placement]) -> Result<()> {
    let mut wanted = Vec::from([(namespace.clone(), own)]);
    for placement in elsewhere {
        let target = namespace_of(&placement.place)?;
        match wanted.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &target)) {
            Some((_, count)) => *count += placement.tree.len(),
            None => wanted.push((target, placement.tree.len())),
        }
    }
    let room = |(namespace, count): &(Arc<MountNamespace>, usize)| {
        *count == 0 || namespace.mount_count() + count <= mount_max() as usize
    };
    if wanted.iter().all(room) { Ok(()) } else { Err(Errno::ENOSPC) }
}

/// Puts a copy where something else may lie already: it goes below that.
fn perform(placement: &Placement, origin: &MountNamespace, topology: &TopologyGuard) {
    let (Some(top), Some(namespace)) = (placement.tree.first(), placement.place.mount.namespace()) else {
        return;
    };
    if !Arc::ptr_eq(namespace.user_namespace(), origin.user_namespace()) {
        lock_tree(placement.tree.iter());
    }
    let over = placement.place.mount.child_at_arc(&placement.place.dentry);
    if let Some(over) = &over {
        over.detach(topology);
    }
    top.attach(&placement.place, topology);
    if let Some(over) = over {
        over.attach(&Path { mount: top.clone(), dentry: top.root().clone() }, topology);
    }
    placement.tree.iter().for_each(|mount| namespace.add(mount));
    namespace.notify();
}

/// Whether something on `mount` below `root` may not be uncovered.
pub(crate) fn has_locked_children(mount: &Mount, root: &Dentry) -> bool {
    mount.children().iter().any(|child| {
        let below = |place: Path| place.dentry.is_below_or_same(root);
        child.is_locked() && child.attachment_path().is_some_and(below)
    })
}

/// How many counted references an unused mount has: its namespace's, its parent's table's and the looking caller's.
const IDLE_REFERENCES: usize = 3;

/// The mounts that go when `mount` goes, because it came to them from there: those at the same place where it propagates to.
fn counterparts(mount: &Mount, topology: &TopologyGuard) -> Vec<Arc<Mount>> {
    let Some(place) = mount.attachment_path() else { return Vec::new() };
    let receivers = propagation::receivers(&place.mount, topology);
    receivers.iter().filter_map(|receiver| receiver.child_at_arc(&place.dentry)).collect()
}

/// What covers a mount completely.
fn topper(mount: &Mount) -> Option<Arc<Mount>> {
    mount.child_at_arc(mount.root())
}

/// Whether nobody uses a mount, nor those that would go with it.
fn is_idle(mount: &Arc<Mount>, topology: &TopologyGuard) -> bool {
    let unused = Arc::strong_count(mount) <= IDLE_REFERENCES && mount.children().is_empty();
    let counterpart_unused = |other: &Arc<Mount>| {
        // One that is covered is held by what covers it; one with others inside stays anyway.
        let covered = usize::from(topper(other).is_some());
        other.children().len() > covered || Arc::strong_count(other) <= IDLE_REFERENCES + covered
    };
    unused && counterparts(mount, topology).iter().all(counterpart_unused)
}

/// Locks the topology with `target`'s mount in a state that allows unmounting it. Errors: `EINVAL`, `EBUSY`.
fn lock_unused(context: &LookupContext<'_>, target: &Path, flags: u32) -> Result<TopologyGuard> {
    /// How often to wait for what RCU still holds: a file that was just closed, the attachment of a mount that was just
    /// moved; each may let go of another.
    const BARRIERS: u32 = 3;
    let mount = &target.mount;
    for waited in 0..=BARRIERS {
        let topology = lock_topology();
        check_own(context, target)?;
        let state = context.fs.state().ok_or(Errno::EINVAL)?;
        if mount.attachment_path().is_none() || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        if flags & MNT_DETACH != 0 || is_idle(mount, &topology) {
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

/// umount2(2) of the mount whose root is `target`. If nothing else shows the file system, it is shut down, and its memory free, when this comes back.
pub fn unmount(context: &LookupContext<'_>, target: Path, flags: u32) -> Result<()> {
    if !target.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let expires = flags & MNT_EXPIRE != 0;
    if expires && flags & (MNT_DETACH | MNT_FORCE) != 0 {
        return Err(Errno::EINVAL);
    }
    let topology = lock_unused(context, &target, flags)?;
    if expires && !target.mount.mark_expiring() {
        return Err(Errno::EAGAIN);
    }
    let gone = take_off(&target.mount, &topology);
    drop(topology);
    if flags & MNT_DETACH == 0 {
        // Nobody uses them, so it is over now for who watches, though their memory waits for a grace period.
        for mount in gone.iter().filter(|mount| mount.is_last_of_superblock()) {
            crate::notify::unmounted(mount.superblock());
        }
    }
    let watched = Watched::all(&gone);
    // The last references go without the lock: dropping a mount may take it.
    drop(gone);
    drop(target);
    watched.into_iter().for_each(Watched::wait_for_end);
    Ok(())
}

/// Takes a tree off, and what propagation takes with it. Gives the mounts.
fn take_off(top: &Arc<Mount>, topology: &TopologyGuard) -> Vec<Arc<Mount>> {
    let mut doomed = all_below(top);
    // Not collected: that sorts first, with a page of stack for it.
    let mut numbers = BTreeSet::new();
    numbers.extend(doomed.iter().map(|mount| mount.id()));
    let mut others = Vec::new();
    // Those deepest first: a counterpart goes if all that is on it goes too.
    for mount in doomed.iter().rev() {
        for other in counterparts(mount, topology) {
            let over = topper(&other).map(|over| over.id());
            let empty = |child: &Arc<Mount>| numbers.contains(&child.id()) || Some(child.id()) == over;
            let parent = other.attachment_path().map(|place| place.mount.id());
            let held = other.is_locked() && !parent.is_some_and(|parent| numbers.contains(&parent));
            if !held && other.children().iter().all(empty) && numbers.insert(other.id()) {
                others.push(other);
            }
        }
    }
    for (index, mount) in doomed.iter().enumerate().rev() {
        release(mount, index != 0, topology);
    }
    for other in others {
        // What covers it, and does not go, takes its place.
        let over = topper(&other).filter(|over| !numbers.contains(&over.id()));
        let place = other.attachment_path();
        release(&other, true, topology);
        if let (Some(over), Some(place)) = (over, place) {
            over.detach(topology);
            over.attach(&place, topology);
        }
        doomed.push(other);
    }
    doomed
}

/// Takes one mount out of its groups, its namespace and its place. One that is locked `inside` a tree that goes whole still covers
/// what it hides from those who have the tree open.
fn release(mount: &Arc<Mount>, inside: bool, topology: &TopologyGuard) {
    propagation::make_private(mount);
    if let Some(namespace) = mount.namespace() {
        namespace.remove(mount);
        namespace.notify();
    }
    if inside { mount.release_place(topology) } else { mount.detach(topology) }
}

/// Whether `place` is `root` or below it, through mounts.
fn is_reachable(place: &Path, root: &Path) -> bool {
    let mut at = place.clone();
    while !Arc::ptr_eq(&at.mount, &root.mount) {
        let Some(above) = at.mount.attachment_path() else { return false };
        at = above;
    }
    at.dentry.is_below_or_same(&root.dentry)
}

/// pivot_root(2): `new_root` becomes the root of the namespace, the old root moves to `put_old` below it. Gives the old and the
/// new root, so that the caller can move the processes that have the old one. Errors: `EBUSY`, `EINVAL`, `ENOENT`.
pub fn pivot_root(context: &LookupContext<'_>, new_root: &Path, put_old: &Path) -> Result<(Path, Path)> {
    let topology = lock_topology();
    let state = context.fs.state().ok_or(Errno::EINVAL)?;
    let old_root = state.root.clone();
    let put_old = topmost_except(put_old, new_root);
    let shared = |mount: &Mount| mount.propagation().peer_group != 0;
    let same = |a: &Path, b: &Path| Arc::ptr_eq(&a.mount, &b.mount);
    let new_place = new_root.mount.attachment_path();
    let old_place = old_root.mount.attachment_path();
    if shared(&put_old.mount)
        || new_place.as_ref().is_some_and(|place| shared(&place.mount))
        || old_place.as_ref().is_some_and(|place| shared(&place.mount))
    {
        return Err(Errno::EINVAL);
    }
    let namespace = check_own(context, new_root)?;
    check_own(context, &old_root)?;
    if new_root.mount.is_locked() {
        return Err(Errno::EINVAL);
    }
    if new_root.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    if same(new_root, &old_root) || same(&put_old, &old_root) {
        return Err(Errno::EBUSY);
    }
    let at_top = namespace.root().is_some_and(|top| Arc::ptr_eq(&top, &old_root.mount));
    if !old_root.is_mount_root() || old_place.is_none() && !at_top || !new_root.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if new_place.is_none() || !is_reachable(&put_old, new_root) || !is_reachable(new_root, &old_root) {
        return Err(Errno::EINVAL);
    }
    new_root.mount.detach(&topology);
    old_root.mount.detach(&topology);
    if old_root.mount.is_locked() {
        new_root.mount.add_locks(lock::PLACE);
        old_root.mount.remove_locks(lock::PLACE);
    }
    match old_place {
        Some(place) => new_root.mount.attach(&place, &topology),
        None => namespace.set_root(&new_root.mount),
    }
    old_root.mount.attach(&put_old, &topology);
    namespace.notify();
    Ok((old_root, new_root.clone()))
}

/// What lies on top at `place`, but no more than `limit` itself: the new root may be its own place for the old one.
fn topmost_except(place: &Path, limit: &Path) -> Path {
    if place.is_same(limit) { place.clone() } else { topmost(place) }
}
