//! Mounting: mount(2), umount(2), pivot_root(2), statfs(2).
//!
//! Decoding and privilege; the tree of mounts and its locks are in `vfs::mount`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::AT_FDCWD;
use abi::fs::Statfs;
use abi::mount::{MNT_DETACH, MNT_EXPIRE, MNT_FORCE, MountFlags, UMOUNT_NOFOLLOW};
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use mm::user::{UserPtr, UserString};
use security::Capability;
use vfs::mount_calls::{self as calls, MountArguments};
use vfs::mount_tree;
use vfs::namei::LookupFlags;

/// The working directory as a descriptor argument.
const HERE: Fd = Fd(AT_FDCWD);

/// Errors: `EPERM` unless the caller administers its mount namespace.
fn check_privilege(context: &Context<'_>) -> Result<()> {
    let namespace = context.task.live_namespaces()?.mount.clone();
    if context.credentials().capable(namespace.user_namespace(), Capability::SysAdmin) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// A string of up to a page, or nothing for a null pointer. Errors: `EFAULT`, `EINVAL`.
fn optional_string(string: UserString) -> Result<Vec<u8>> {
    if string.is_null() {
        return Ok(Vec::new());
    }
    string.read(PAGE_SIZE).map_err(|error| if error == Errno::ENAMETOOLONG { Errno::EINVAL } else { error })
}

/// mount(2). Errors: `EPERM`, `EACCES`, `EBUSY`, `EINVAL`, `ENODEV`, `ENOENT`, `ENOTBLK`, `ENOTDIR`, ….
pub fn mount(
    context: &mut Context<'_>,
    source: UserString,
    target: UserString,
    kind: UserString,
    flags: u64,
    data: UserString,
) -> Result<usize> {
    const MAGIC: u64 = 0xc0ed_0000;
    const MAGIC_MASK: u64 = 0xffff_0000;
    let flags = if flags & MAGIC_MASK == MAGIC { flags & !MAGIC_MASK } else { flags };
    let flags = MountFlags::from_bits_truncate(flags as u32);
    let (source, kind) = (optional_string(source)?, optional_string(kind)?);
    let target = context.resolve(HERE, target, LookupFlags::FOLLOW)?;
    check_privilege(context)?;
    // Options are a page at most, and need not end with NUL within it.
    let data = optional_string(data)?;
    let arguments = MountArguments { source: &source, target: &target, kind: &kind, flags, data: &data };
    context.with_context(|lookup| calls::mount(lookup, &arguments)).map(|()| 0)
}

/// umount2(2). Errors: `EPERM`, `EAGAIN`, `EBUSY`, `EINVAL`, `ENOENT`.
pub fn umount2(context: &mut Context<'_>, target: UserString, flags: u32) -> Result<usize> {
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & UMOUNT_NOFOLLOW != 0 { LookupFlags::empty() } else { LookupFlags::FOLLOW };
    // Also `.` means what lies on top there. The place that was found must not be kept: it would keep the mount in use.
    let target = {
        let found = context.resolve(HERE, target, follow | LookupFlags::NO_USE)?;
        mount_tree::topmost(&found)
    };
    check_privilege(context)?;
    context.with_context(|lookup| mount_tree::unmount(lookup, target, flags)).map(|()| 0)
}

/// pivot_root(2). Errors: `EPERM`, `EBUSY`, `EINVAL`, `ENOTDIR`.
pub fn pivot_root(context: &mut Context<'_>, new_root: UserString, put_old: UserString) -> Result<usize> {
    check_privilege(context)?;
    let flags = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let new_root = context.resolve(HERE, new_root, flags)?;
    let put_old = context.resolve(HERE, put_old, flags)?;
    let (old, new) = context.with_context(|lookup| mount_tree::pivot_root(lookup, &new_root, &put_old))?;
    task::process::for_each_task(&mut |task| {
        if let Some(fs) = task.fs() {
            fs.replace_place(&old, &new);
        }
    });
    Ok(0)
}

/// statfs(2). Errors: `EACCES`, `EFAULT`, `ENOENT`, ….
pub fn statfs(context: &mut Context<'_>, path: UserString, buffer: UserPtr<Statfs>) -> Result<usize> {
    let place = context.resolve(HERE, path, LookupFlags::FOLLOW)?;
    buffer.write(&place.mount.statfs()?)?;
    Ok(0)
}

/// fstatfs(2). Errors: `EBADF`, `EFAULT`.
pub fn fstatfs(context: &mut Context<'_>, fd: Fd, buffer: UserPtr<Statfs>) -> Result<usize> {
    let status = context.file(fd)?.path().mount.statfs()?;
    buffer.write(&status)?;
    Ok(0)
}
