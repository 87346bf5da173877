//! The calls that change directories: mkdir, mknod, symlink, link, unlink, rmdir, rename.
//!
//! Every one of them resolves the parent, locks it for writing, looks the name up, checks the rules, calls the file system
//! and keeps the dentry cache in step. Neighbours: `namei`, `dentry`, `permission`.
//!
//! Locks: a directory's [`Inode::lock`] for writing. rename takes the superblock's rename lock if two directories are
//! involved, then both: the ancestor first if one is an ancestor of the other, else by address; then what is renamed or
//! replaced is not locked: its name cannot change while its directories are held.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use abi::fcntl::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
use machine::sync::{MutexGuard, RwLockWriteGuard};
use security::Capability;

use crate::acl::{self, AclKind, Inherited};
use crate::context::LookupContext;
use crate::dentry::{self, Dentry, flag};
use crate::inode::{Inode, NewContent, NewInode, Rename, RenameMode, state};
use crate::namei::{self, LookupFlags, Parent, Start, lookup_locked};
use crate::notify;
use crate::path::Path;
use crate::permission;
use crate::types::{AccessMask, DeviceId, FileKind, PATH_MAX};

const SET_GROUP_ID: u32 = 0o2000;

/// The result of [`make`].
pub(crate) struct Created {
    pub(crate) dentry: Arc<Dentry>,
    /// Made now; else it was there already.
    pub(crate) is_new: bool,
}

/// Writing in a directory and searching it. `ENOENT`: it has been removed.
fn check_change(directory: &Path, inode: &Inode, context: &LookupContext<'_>) -> Result<()> {
    if inode.has_state(state::DEAD) {
        return Err(Errno::ENOENT);
    }
    let mask = AccessMask::WRITE | AccessMask::EXECUTE;
    let answer = permission::check(inode, context.credentials, mask);
    if directory.mount.is_read_only() { Err(Errno::EROFS) } else { answer }
}

/// The same for making something new. `EOVERFLOW`: the file system does not know who is making it.
fn check_create(directory: &Path, inode: &Inode, context: &LookupContext<'_>) -> Result<()> {
    let namespace = inode.superblock().user_namespace();
    let (uid, gid) = (context.credentials.fsuid, context.credentials.fsgid);
    let known = namespace.from_kuid(uid).is_some() && namespace.from_kgid(gid).is_some();
    if !known && !inode.has_state(state::DEAD) {
        return Err(Errno::EOVERFLOW);
    }
    check_change(directory, inode, context)
}

/// Makes something in a directory unless the name exists.
pub(crate) fn make(
    context: &LookupContext<'_>,
    directory: &Path,
    name: &[u8],
    content: NewContent<'_>,
    mode: u32,
) -> Result<Created> {
    match directory.mount.begin_change() {
        Ok(_change) => make_locked(context, directory, name, content, mode),
        Err(errno) => Err(absent_or(directory, name, errno)),
    }
}

/// On a read-only mount an existing name is still `EEXIST`, which callers see by looking first: for the rest `EROFS`.
fn absent_or(directory: &Path, name: &[u8], errno: Errno) -> Errno {
    match namei::lookup_child(&directory.dentry, name) {
        Ok(dentry) if dentry.inode().is_some() => Errno::EEXIST,
        _ => errno,
    }
}

fn make_locked(
    context: &LookupContext<'_>,
    directory: &Path,
    name: &[u8],
    content: NewContent<'_>,
    mode: u32,
) -> Result<Created> {
    let parent = directory.inode()?;
    let _lock = parent.lock.write();
    let dentry = lookup_locked(&directory.dentry, parent, name)?;
    if dentry.inode().is_some() {
        return Ok(Created { dentry, is_new: false });
    }
    check_create(directory, parent, context)?;
    let (inherited, mode) = new_mode(context, parent, content.kind(), mode)?;
    let new = new_inode(context, parent, content, mode, &inherited);
    let inode = parent.operations().create(parent, name, &new)?;
    give_lists(&inode, &inherited);
    dentry.instantiate(inode.clone());
    notify::created(parent, name, &inode);
    Ok(Created { dentry: dentry::insert(dentry), is_new: true })
}

/// The mode of what someone makes in a directory: its default list takes the place of the umask. In a set-group-ID directory the set-group-ID bit is kept
/// only by those in its group; that is asked of the mode as it was wanted, or else a umask or a list without the group's execute bit would let it pass.
/// Errors: `ENOMEM`.
fn new_mode(
    context: &LookupContext<'_>,
    directory: &Inode,
    kind: FileKind,
    mode: u32,
) -> Result<(Inherited, u32)> {
    if kind == FileKind::Symlink {
        return Ok((Inherited::default(), 0o777));
    }
    let mut mode = mode & 0o7777;
    let group_executable = mode & (SET_GROUP_ID | 0o010) == SET_GROUP_ID | 0o010;
    let credentials = context.credentials;
    if group_executable
        && kind != FileKind::Directory
        && directory.permissions() & SET_GROUP_ID != 0
        && !credentials.in_group(directory.gid())
        && !permission::capable_for(directory, credentials, Capability::Fsetid)
    {
        mode &= !SET_GROUP_ID;
    }
    let inherited = acl::inherit(directory, kind, mode)?;
    Ok(inherited.unwrap_or_else(|| (Inherited::default(), mode & !context.fs.umask())))
}

/// What the file system has stored is in memory as well.
fn give_lists(inode: &Inode, inherited: &Inherited) {
    inode.set_acl(AclKind::Access, inherited.access.clone());
    inode.set_acl(AclKind::Default, inherited.default.clone());
}

/// Owner, group and mode of what someone makes in a directory: a set-group-ID directory gives its group, and the bit to
/// directories.
fn new_inode<'a>(
    context: &LookupContext<'_>,
    directory: &Inode,
    content: NewContent<'a>,
    mut mode: u32,
    inherited: &'a Inherited,
) -> NewInode<'a> {
    let credentials = context.credentials;
    let inherits = directory.permissions() & SET_GROUP_ID != 0;
    let gid = if inherits { directory.gid() } else { credentials.fsgid };
    if inherits && content.kind() == FileKind::Directory {
        mode |= SET_GROUP_ID;
    }
    let new = NewInode::new(content, mode, credentials.fsuid, gid);
    NewInode { access_list: inherited.access.as_ref(), default_list: inherited.default.as_ref(), ..new }
}

/// An unnamed regular file in the file system of a directory (`O_TMPFILE`).
pub(crate) fn create_unnamed(
    context: &LookupContext<'_>,
    directory: &Path,
    mode: u32,
) -> Result<Arc<Dentry>> {
    let parent = directory.inode()?;
    let _change = directory.mount.begin_change()?;
    check_create(directory, parent, context)?;
    let (inherited, mode) = new_mode(context, parent, FileKind::Regular, mode)?;
    let new = new_inode(context, parent, NewContent::Regular, mode, &inherited);
    let inode = parent.operations().create_unnamed(parent, &new)?;
    give_lists(&inode, &inherited);
    let name = alloc::format!("#{}", inode.number());
    let dentry = Dentry::new_negative(&directory.dentry, name.as_bytes());
    dentry.set_flags(flag::DELETED);
    dentry.instantiate(inode);
    Ok(dentry)
}

fn make_at(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    content: NewContent<'_>,
    mode: u32,
) -> Result<Path> {
    let parent = namei::resolve_parent(context, start, path, LookupFlags::empty())?;
    if parent.is_special() {
        return Err(Errno::EEXIST);
    }
    if parent.trailing_slash && content.kind() != FileKind::Directory {
        let found = namei::lookup_child(&parent.directory.dentry, &parent.name)?;
        return Err(if found.inode().is_some() { Errno::EEXIST } else { Errno::ENOENT });
    }
    let made = make(context, &parent.directory, &parent.name, content, mode)?;
    if !made.is_new {
        return Err(Errno::EEXIST);
    }
    Ok(Path { mount: parent.directory.mount, dentry: made.dentry })
}

/// mkdir(2).
pub fn create_directory(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    mode: u32,
) -> Result<Path> {
    make_at(context, start, path, NewContent::Directory, mode & 0o1777)
}

/// mknod(2), mkfifo(3), and bind(2) on a path: `mode` includes the kind. `EPERM`: a directory, or a device without
/// `CAP_MKNOD`; `EINVAL`: no kind that can be made.
pub fn make_node(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    mode: u32,
    device: DeviceId,
) -> Result<Path> {
    let kind =
        if mode & abi::stat::S_IFMT == 0 { Some(FileKind::Regular) } else { FileKind::from_mode(mode) };
    let content = match kind.ok_or(Errno::EINVAL)? {
        FileKind::Regular => NewContent::Regular,
        FileKind::Fifo => NewContent::Fifo,
        FileKind::Socket => NewContent::Socket,
        FileKind::Directory => return Err(Errno::EPERM),
        FileKind::Symlink => return Err(Errno::EINVAL),
        kind => {
            if !security::capable_anywhere_above(context.credentials, Capability::Mknod) {
                return Err(Errno::EPERM);
            }
            NewContent::Device(kind, device)
        }
    };
    make_at(context, start, path, content, mode)
}

/// symlink(2). `ENOENT`: the text is empty.
pub fn symlink(context: &LookupContext<'_>, text: &[u8], start: Start<'_>, path: &[u8]) -> Result<Path> {
    if text.is_empty() {
        return Err(Errno::ENOENT);
    }
    if text.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    make_at(context, start, path, NewContent::Symlink(text), 0o777)
}

/// link(2), linkat(2) on an already resolved `old` place. `EXDEV`, `EPERM` (a directory), `EMLINK`, `EEXIST`.
pub fn link(context: &LookupContext<'_>, old: &Path, start: Start<'_>, path: &[u8]) -> Result<()> {
    let inode = old.inode()?;
    let parent = namei::resolve_parent(context, start, path, LookupFlags::empty())?;
    if parent.is_special() {
        return Err(Errno::EEXIST);
    }
    if !Arc::ptr_eq(&old.mount, &parent.directory.mount) {
        return Err(Errno::EXDEV);
    }
    let _change = parent.directory.mount.begin_change()?;
    link_locked(context, inode, &parent, old.dentry.is_deleted())
}

fn link_locked(
    context: &LookupContext<'_>,
    inode: &Arc<Inode>,
    parent: &Parent,
    unnamed: bool,
) -> Result<()> {
    let directory = parent.directory.inode()?;
    let _lock = directory.lock.write();
    let dentry = lookup_locked(&parent.directory.dentry, directory, &parent.name)?;
    if dentry.inode().is_some() {
        return Err(Errno::EEXIST);
    }
    if parent.trailing_slash {
        return Err(Errno::ENOENT);
    }
    check_change(&parent.directory, directory, context)?;
    if inode.is_directory() || inode.has_state(state::IMMUTABLE | state::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    if inode.link_count() == 0 && !unnamed {
        return Err(Errno::ENOENT);
    }
    // One without a name must not lose its contents just now.
    inode.hold()?;
    let linked = directory.operations().link(directory, &parent.name, inode);
    inode.release();
    linked?;
    dentry.instantiate(inode.clone());
    dentry::insert(dentry);
    notify::linked(directory, &parent.name, inode);
    Ok(())
}

/// What removing a name needs: rights in the directory, the sticky bit's rule, nothing mounted on it.
fn check_removal(
    context: &LookupContext<'_>,
    directory: &Path,
    parent: &Inode,
    dentry: &Dentry,
) -> Result<Arc<Inode>> {
    let victim = dentry.inode().ok_or(Errno::ENOENT)?;
    check_change(directory, parent, context)?;
    permission::check_sticky(parent, victim, context.credentials)?;
    let fixed = state::IMMUTABLE | state::APPEND_ONLY | state::SWAP_FILE;
    if victim.has_state(fixed) || parent.has_state(state::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    Ok(victim.clone())
}

/// `EBUSY` if something is mounted on the name in the caller's view.
fn check_not_mountpoint(directory: &Path, dentry: &Dentry) -> Result<()> {
    let mounted = dentry.flags() & flag::MOUNTED != 0 && directory.mount.child_at_arc(dentry).is_some();
    if mounted { Err(Errno::EBUSY) } else { Ok(()) }
}

/// unlink(2). `EISDIR`, `EBUSY`, `EPERM`.
pub fn unlink(context: &LookupContext<'_>, start: Start<'_>, path: &[u8]) -> Result<()> {
    let parent = namei::resolve_parent(context, start, path, LookupFlags::empty())?;
    if parent.is_special() {
        return Err(Errno::EISDIR);
    }
    let _change = parent.directory.mount.begin_change()?;
    let victim = {
        let directory = parent.directory.inode()?;
        let _lock = directory.lock.write();
        let dentry = lookup_locked(&parent.directory.dentry, directory, &parent.name)?;
        let found = dentry.inode().ok_or(Errno::ENOENT)?;
        if parent.trailing_slash {
            return Err(if found.is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        unlink_locked(context, &parent, directory, &dentry)?
    };
    victim.evict_if_unused();
    Ok(())
}

fn unlink_locked(
    context: &LookupContext<'_>,
    parent: &Parent,
    directory: &Arc<Inode>,
    dentry: &Arc<Dentry>,
) -> Result<Arc<Inode>> {
    let victim = check_removal(context, &parent.directory, directory, dentry)?;
    if victim.is_directory() {
        return Err(Errno::EISDIR);
    }
    check_not_mountpoint(&parent.directory, dentry)?;
    directory.operations().unlink(directory, &parent.name, &victim)?;
    dentry::delete(dentry);
    notify::unlinked(directory, &parent.name, &victim);
    Ok(victim)
}

/// rmdir(2). `ENOTDIR`, `ENOTEMPTY`, `EBUSY`, `EINVAL` (`.`).
pub fn remove_directory(context: &LookupContext<'_>, start: Start<'_>, path: &[u8]) -> Result<()> {
    let parent = namei::resolve_parent(context, start, path, LookupFlags::empty())?;
    match parent.name.as_slice() {
        b"" => return Err(Errno::EBUSY),
        b"." => return Err(Errno::EINVAL),
        b".." => return Err(Errno::ENOTEMPTY),
        _ => {}
    }
    let _change = parent.directory.mount.begin_change()?;
    remove_directory_locked(context, &parent)?.evict_if_unused();
    Ok(())
}

fn remove_directory_locked(context: &LookupContext<'_>, parent: &Parent) -> Result<Arc<Inode>> {
    let directory = parent.directory.inode()?;
    let _lock = directory.lock.write();
    let dentry = lookup_locked(&parent.directory.dentry, directory, &parent.name)?;
    let victim = check_removal(context, &parent.directory, directory, &dentry)?;
    if !victim.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    check_not_mountpoint(&parent.directory, &dentry)?;
    {
        let _victim = victim.lock.write();
        directory.operations().rmdir(directory, &parent.name, &victim)?;
        victim.set_state(state::DEAD);
    }
    dentry::delete(&dentry);
    notify::unlinked(directory, &parent.name, &victim);
    Ok(victim)
}

/// The locks of a rename.
struct RenameLocks<'a> {
    _tree: Option<MutexGuard<'a, ()>>,
    _first: RwLockWriteGuard<'a, ()>,
    _second: Option<RwLockWriteGuard<'a, ()>>,
}

/// Locks both directories; gives also the relation of the two: whether the old one is below the new one or the other way
/// round does not matter to the caller, who checks the dentries themselves.
fn lock_both<'a>(old: &'a Path, new: &'a Path) -> Result<RenameLocks<'a>> {
    let (old_inode, new_inode) = (old.inode()?, new.inode()?);
    if Arc::ptr_eq(old_inode, new_inode) {
        return Ok(RenameLocks { _tree: None, _first: old_inode.lock.write(), _second: None });
    }
    let tree = old_inode.superblock().rename_lock.lock();
    // With the tree's shape fixed: the ancestor first, unrelated ones by address.
    let new_first = old.dentry.is_below_or_same(&new.dentry)
        || !new.dentry.is_below_or_same(&old.dentry) && Arc::as_ptr(new_inode) < Arc::as_ptr(old_inode);
    let (first, second) = if new_first { (new_inode, old_inode) } else { (old_inode, new_inode) };
    let first = first.lock.write();
    Ok(RenameLocks { _tree: Some(tree), _first: first, _second: Some(second.lock.write()) })
}

/// rename(2), renameat2(2). `EXDEV`, `EINVAL`, `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EBUSY`.
pub fn rename(
    context: &LookupContext<'_>,
    old_start: Start<'_>,
    old_path: &[u8],
    new_start: Start<'_>,
    new_path: &[u8],
    flags: u32,
) -> Result<()> {
    let known = RENAME_NOREPLACE | RENAME_EXCHANGE;
    if flags & !(known | RENAME_WHITEOUT) != 0 || flags & known == known || flags & RENAME_WHITEOUT != 0 {
        return Err(Errno::EINVAL);
    }
    let old = namei::resolve_parent(context, old_start, old_path, LookupFlags::empty())?;
    let new = namei::resolve_parent(context, new_start, new_path, LookupFlags::empty())?;
    if !Arc::ptr_eq(&old.directory.mount, &new.directory.mount) {
        return Err(Errno::EXDEV);
    }
    if old.is_special() || new.is_special() {
        let exists = flags & RENAME_NOREPLACE != 0 && !old.is_special();
        return Err(if exists { Errno::EEXIST } else { Errno::EBUSY });
    }
    let _change = old.directory.mount.begin_change()?;
    if let Some(replaced) = rename_locked(context, &old, &new, flags)? {
        replaced.evict_if_unused();
    }
    Ok(())
}

fn rename_locked(
    context: &LookupContext<'_>,
    old: &Parent,
    new: &Parent,
    flags: u32,
) -> Result<Option<Arc<Inode>>> {
    let _locks = lock_both(&old.directory, &new.directory)?;
    let (old_dir, new_dir) = (old.directory.inode()?, new.directory.inode()?);
    let source = lookup_locked(&old.directory.dentry, old_dir, &old.name)?;
    let inode = source.inode().ok_or(Errno::ENOENT)?.clone();
    let target = lookup_locked(&new.directory.dentry, new_dir, &new.name)?;
    check_shape(old, new, &source, &target, flags)?;
    let exchange = flags & RENAME_EXCHANGE != 0;
    if target.inode().is_some_and(|other| Arc::ptr_eq(other, &inode)) {
        return Ok(None);
    }
    check_removal(context, &old.directory, old_dir, &source)?;
    match target.inode() {
        Some(_) => drop(check_removal(context, &new.directory, new_dir, &target)?),
        None => check_change(&new.directory, new_dir, context)?,
    }
    let moves_directory = inode.is_directory() && !Arc::ptr_eq(old_dir, new_dir);
    if moves_directory {
        // Its `..` changes.
        permission::check(&inode, context.credentials, AccessMask::WRITE)?;
    }
    check_not_mountpoint(&old.directory, &source)?;
    check_not_mountpoint(&new.directory, &target)?;
    let replaced = target.inode().cloned();
    new_dir.operations().rename(&Rename {
        old_directory: old_dir,
        old_name: &old.name,
        inode: &inode,
        new_directory: new_dir,
        new_name: &new.name,
        target: replaced.as_ref(),
        mode: if exchange { RenameMode::Exchange } else { RenameMode::Replace },
    })?;
    if exchange {
        dentry::exchange(&source, &target);
        notify::moved((old_dir, &old.name), (new_dir, &new.name), &inode, None);
        if let Some(other) = &replaced {
            notify::moved((new_dir, &new.name), (old_dir, &old.name), other, None);
        }
        return Ok(None);
    }
    if let Some(replaced) = replaced.as_ref().filter(|replaced| replaced.is_directory()) {
        replaced.set_state(state::DEAD);
    }
    dentry::delete(&target);
    dentry::move_to(&source, &new.directory.dentry, &new.name);
    notify::moved((old_dir, &old.name), (new_dir, &new.name), &inode, replaced.as_deref());
    Ok(replaced)
}

/// What the two names and their kinds must be like. Linux's order of errors.
fn check_shape(
    old: &Parent,
    new: &Parent,
    source: &Arc<Dentry>,
    target: &Arc<Dentry>,
    flags: u32,
) -> Result<()> {
    let inode = source.inode().ok_or(Errno::ENOENT)?;
    let exchange = flags & RENAME_EXCHANGE != 0;
    if flags & RENAME_NOREPLACE != 0 && target.inode().is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange && target.inode().is_none() {
        return Err(Errno::ENOENT);
    }
    if exchange && new.trailing_slash && !target.inode().is_some_and(|target| target.is_directory()) {
        return Err(Errno::ENOTDIR);
    }
    if !inode.is_directory() && (old.trailing_slash || !exchange && new.trailing_slash) {
        return Err(Errno::ENOTDIR);
    }
    if inode.is_directory() && new.directory.dentry.is_below_or_same(source) {
        return Err(Errno::EINVAL);
    }
    if old.directory.dentry.is_below_or_same(target) {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    match target.inode() {
        Some(target) if !exchange && inode.is_directory() && !target.is_directory() => Err(Errno::ENOTDIR),
        Some(target) if !exchange && !inode.is_directory() && target.is_directory() => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// getcwd(2): the text of a place seen from the root, `(unreachable)` before it if it cannot be seen from there.
/// `ENOENT`: it has been removed.
pub fn current_directory(context: &LookupContext<'_>) -> Result<Vec<u8>> {
    let state = context.fs.state().ok_or(Errno::ENOENT)?;
    if state.working_directory.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let text = state.working_directory.text(&state.root)?;
    if text.reachable {
        return Ok(text.bytes);
    }
    let mut marked = b"(unreachable)".to_vec();
    marked.extend_from_slice(&text.bytes);
    Ok(marked)
}
