//! Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their `l` and `f` forms.
//!
//! Decoding; permissions and name spaces are in `vfs::xattr` (xattr(7)).

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::AT_FDCWD;
use alloc::vec::Vec;
use mm::user::{UserPtr, UserSlice, UserString};
use vfs::namei::LookupFlags;
use vfs::{Path, XattrMode, xattr};

/// Longest name, without its NUL (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;
/// Longest value and list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const SIZE_MAX: usize = 65536;
/// How the three forms find the file: following links, not following, by descriptor.
const FOLLOW: LookupFlags = LookupFlags::FOLLOW;
const HERE: Fd = Fd(AT_FDCWD);

/// A name argument. Errors: `ERANGE` if empty or too long, `EFAULT`.
fn name_of(name: UserString) -> Result<Vec<u8>> {
    let name = name.read(NAME_MAX + 1).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

fn by_path(context: &Context<'_>, path: UserString, flags: LookupFlags) -> Result<Path> {
    context.resolve(HERE, path, flags)
}

/// Errors: `EBADF`.
fn by_descriptor(context: &Context<'_>, fd: Fd) -> Result<Path> {
    let file = context.file(fd)?;
    if file.is_place() { Err(Errno::EBADF) } else { Ok(file.path().clone()) }
}

fn set(
    context: &Context<'_>,
    place: &Path,
    name: UserString,
    value: UserPtr<u8>,
    size: usize,
    flags: u32,
) -> Result<usize> {
    let mode = match flags {
        0 => XattrMode::Any,
        1 => XattrMode::Create,
        2 => XattrMode::Replace,
        _ => return Err(Errno::EINVAL),
    };
    let name = name_of(name)?;
    if size > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let value = UserSlice::new(value, size).read_to_vec()?;
    xattr::set(place, &name, &value, mode, &context.credentials()).map(|()| 0)
}

/// Copies out what there is, or only tells its size when none is given. Errors: `ERANGE`, `EFAULT`.
fn give(bytes: &[u8], buffer: UserPtr<u8>, size: usize) -> Result<usize> {
    if size == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() > size {
        return Err(Errno::ERANGE);
    }
    machine::user::write_bytes(buffer.address(), bytes)?;
    Ok(bytes.len())
}

fn get(
    context: &Context<'_>,
    place: &Path,
    name: UserString,
    buffer: UserPtr<u8>,
    size: usize,
) -> Result<usize> {
    let value = xattr::get(place, &name_of(name)?, &context.credentials())?;
    give(&value, buffer, size)
}

fn list(context: &Context<'_>, place: &Path, buffer: UserPtr<u8>, size: usize) -> Result<usize> {
    give(&xattr::list(place, &context.credentials())?, buffer, size)
}

fn remove(context: &Context<'_>, place: &Path, name: UserString) -> Result<usize> {
    xattr::remove(place, &name_of(name)?, &context.credentials()).map(|()| 0)
}

/// setxattr(2). Errors: `E2BIG`, `EEXIST`, `EINVAL`, `ENODATA`, `ENOSPC`, `EOPNOTSUPP`, `EPERM`, `ERANGE`, ….
pub fn setxattr(
    context: &mut Context<'_>,
    path: UserString,
    name: UserString,
    value: UserPtr<u8>,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(context, &by_path(context, path, FOLLOW)?, name, value, size, flags)
}

/// lsetxattr(2). Errors: as [`setxattr`].
pub fn lsetxattr(
    context: &mut Context<'_>,
    path: UserString,
    name: UserString,
    value: UserPtr<u8>,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(context, &by_path(context, path, LookupFlags::empty())?, name, value, size, flags)
}

/// fsetxattr(2). Errors: as [`setxattr`], `EBADF`.
pub fn fsetxattr(
    context: &mut Context<'_>,
    fd: Fd,
    name: UserString,
    value: UserPtr<u8>,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(context, &by_descriptor(context, fd)?, name, value, size, flags)
}

/// getxattr(2). Errors: `ENODATA`, `EOPNOTSUPP`, `ERANGE`, ….
pub fn getxattr(
    context: &mut Context<'_>,
    path: UserString,
    name: UserString,
    buffer: UserPtr<u8>,
    size: usize,
) -> Result<usize> {
    get(context, &by_path(context, path, FOLLOW)?, name, buffer, size)
}

/// lgetxattr(2). Errors: as [`getxattr`].
pub fn lgetxattr(
    context: &mut Context<'_>,
    path: UserString,
    name: UserString,
    buffer: UserPtr<u8>,
    size: usize,
) -> Result<usize> {
    get(context, &by_path(context, path, LookupFlags::empty())?, name, buffer, size)
}

/// fgetxattr(2). Errors: as [`getxattr`], `EBADF`.
pub fn fgetxattr(
    context: &mut Context<'_>,
    fd: Fd,
    name: UserString,
    buffer: UserPtr<u8>,
    size: usize,
) -> Result<usize> {
    get(context, &by_descriptor(context, fd)?, name, buffer, size)
}

/// listxattr(2). Errors: `EOPNOTSUPP`, `ERANGE`, ….
pub fn listxattr(
    context: &mut Context<'_>,
    path: UserString,
    buffer: UserPtr<u8>,
    size: usize,
) -> Result<usize> {
    list(context, &by_path(context, path, FOLLOW)?, buffer, size)
}

/// llistxattr(2). Errors: as [`listxattr`].
pub fn llistxattr(
    context: &mut Context<'_>,
    path: UserString,
    buffer: UserPtr<u8>,
    size: usize,
) -> Result<usize> {
    list(context, &by_path(context, path, LookupFlags::empty())?, buffer, size)
}

/// flistxattr(2). Errors: as [`listxattr`], `EBADF`.
pub fn flistxattr(context: &mut Context<'_>, fd: Fd, buffer: UserPtr<u8>, size: usize) -> Result<usize> {
    list(context, &by_descriptor(context, fd)?, buffer, size)
}

/// removexattr(2). Errors: `ENODATA`, `EOPNOTSUPP`, `EPERM`, ….
pub fn removexattr(context: &mut Context<'_>, path: UserString, name: UserString) -> Result<usize> {
    remove(context, &by_path(context, path, FOLLOW)?, name)
}

/// lremovexattr(2). Errors: as [`removexattr`].
pub fn lremovexattr(context: &mut Context<'_>, path: UserString, name: UserString) -> Result<usize> {
    remove(context, &by_path(context, path, LookupFlags::empty())?, name)
}

/// fremovexattr(2). Errors: as [`removexattr`], `EBADF`.
pub fn fremovexattr(context: &mut Context<'_>, fd: Fd, name: UserString) -> Result<usize> {
    remove(context, &by_descriptor(context, fd)?, name)
}
