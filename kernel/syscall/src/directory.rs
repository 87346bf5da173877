//! Directories and names: mkdir(2), unlink(2), rename(2), link(2), symlink(2), readlink(2), mknod(2), getdents(2), chdir(2).
//!
//! Decoding; the rules and locks are in `vfs::directory`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::{AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW};
use abi::stat::{S_IFDIR, S_IFMT};
use mm::user::UserString;
use security::Capability;
use vfs::{
    AccessMask, DeviceId, DirectoryEntry, DirectorySink, LookupFlags, Path, SinkState, directory, permission,
};

/// The working directory as a descriptor argument.
const HERE: Fd = Fd(AT_FDCWD);

/// mkdir(2). Errors: `EACCES`, `EEXIST`, `ENOENT`, `ENOSPC`, `ENOTDIR`, `EROFS`, ….
pub fn mkdir(context: &mut Context<'_>, path: UserString, mode: u32) -> Result<usize> {
    mkdirat(context, HERE, path, mode)
}

/// mkdirat(2). Errors: as [`mkdir`], `EBADF`.
pub fn mkdirat(context: &mut Context<'_>, at: Fd, path: UserString, mode: u32) -> Result<usize> {
    let path = context.path(path)?;
    context
        .with_lookup(at, &path, |lookup, start| directory::create_directory(lookup, start, &path, mode))
        .map(|_| 0)
}

/// mknod(2). Errors: `EPERM`, `EEXIST`, `EINVAL`, ….
pub fn mknod(context: &mut Context<'_>, path: UserString, mode: u32, device: u64) -> Result<usize> {
    mknodat(context, HERE, path, mode, device)
}

/// mknodat(2). Errors: as [`mknod`], `EBADF`.
pub fn mknodat(context: &mut Context<'_>, at: Fd, path: UserString, mode: u32, device: u64) -> Result<usize> {
    if mode & S_IFMT == S_IFDIR {
        return Err(Errno::EPERM);
    }
    let path = context.path(path)?;
    let device = DeviceId::decode(device);
    context
        .with_lookup(at, &path, |lookup, start| directory::make_node(lookup, start, &path, mode, device))
        .map(|_| 0)
}

/// rmdir(2). Errors: `EBUSY`, `EINVAL`, `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EPERM`, ….
pub fn rmdir(context: &mut Context<'_>, path: UserString) -> Result<usize> {
    unlinkat(context, HERE, path, AT_REMOVEDIR)
}

/// unlink(2). Errors: `EISDIR`, `ENOENT`, `EPERM`, `EROFS`, ….
pub fn unlink(context: &mut Context<'_>, path: UserString) -> Result<usize> {
    unlinkat(context, HERE, path, 0)
}

/// unlinkat(2). Errors: as [`unlink`] or [`rmdir`], `EBADF`, `EINVAL`.
pub fn unlinkat(context: &mut Context<'_>, at: Fd, path: UserString, flags: u32) -> Result<usize> {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = context.path(path)?;
    context
        .with_lookup(at, &path, |lookup, start| match flags {
            0 => directory::unlink(lookup, start, &path),
            _ => directory::remove_directory(lookup, start, &path),
        })
        .map(|()| 0)
}

/// link(2). Errors: `EEXIST`, `EMLINK`, `EPERM`, `EXDEV`, ….
pub fn link(context: &mut Context<'_>, old: UserString, new: UserString) -> Result<usize> {
    linkat(context, HERE, old, HERE, new, 0)
}

/// linkat(2). Errors: as [`link`], `EBADF`, `EINVAL`, `ENOENT`.
pub fn linkat(
    context: &mut Context<'_>,
    old_at: Fd,
    old: UserString,
    new_at: Fd,
    new: UserString,
    flags: u32,
) -> Result<usize> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & AT_SYMLINK_FOLLOW != 0);
    if flags & AT_EMPTY_PATH != 0 {
        lookup |= LookupFlags::EMPTY_PATH;
        if context.require_global(Capability::DacReadSearch).is_err() {
            return Err(Errno::ENOENT);
        }
    }
    let old = context.resolve(old_at, old, lookup)?;
    let new = context.path(new)?;
    context.with_lookup(new_at, &new, |lookup, start| directory::link(lookup, &old, start, &new)).map(|()| 0)
}

/// symlink(2). Errors: `EEXIST`, `ENOENT`, `ENOSPC`, ….
pub fn symlink(context: &mut Context<'_>, target: UserString, path: UserString) -> Result<usize> {
    symlinkat(context, target, HERE, path)
}

/// symlinkat(2). Errors: as [`symlink`], `EBADF`.
pub fn symlinkat(context: &mut Context<'_>, target: UserString, at: Fd, path: UserString) -> Result<usize> {
    let (target, path) = (context.path(target)?, context.path(path)?);
    context
        .with_lookup(at, &path, |lookup, start| directory::symlink(lookup, &target, start, &path))
        .map(|_| 0)
}

/// readlink(2). Errors: `EACCES`, `EINVAL`, `ENOENT`, ….
pub fn readlink(context: &mut Context<'_>, path: UserString, buffer: usize, size: i32) -> Result<usize> {
    readlinkat(context, HERE, path, buffer, size)
}

/// readlinkat(2). Errors: as [`readlink`], `EBADF`.
pub fn readlinkat(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    buffer: usize,
    size: i32,
) -> Result<usize> {
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::EINVAL)?;
    let path = context.path(path)?;
    let text = context.with_lookup(at, &path, |lookup, start| vfs::open::read_link(lookup, start, &path))?;
    let part = text.get(..text.len().min(size)).unwrap_or_default();
    machine::user::write_bytes(buffer, part)?;
    Ok(part.len())
}

/// rename(2). Errors: `EBUSY`, `EEXIST`, `EINVAL`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EXDEV`, ….
pub fn rename(context: &mut Context<'_>, old: UserString, new: UserString) -> Result<usize> {
    renameat2(context, HERE, old, HERE, new, 0)
}

/// renameat(2). Errors: as [`rename`], `EBADF`.
pub fn renameat(
    context: &mut Context<'_>,
    old_at: Fd,
    old: UserString,
    new_at: Fd,
    new: UserString,
) -> Result<usize> {
    renameat2(context, old_at, old, new_at, new, 0)
}

/// renameat2(2). Errors: as [`renameat`], `EINVAL` for a flag there is not.
pub fn renameat2(
    context: &mut Context<'_>,
    old_at: Fd,
    old: UserString,
    new_at: Fd,
    new: UserString,
    flags: u32,
) -> Result<usize> {
    let (old, new) = (context.path(old)?, context.path(new)?);
    context.with_two_starts((old_at, &old), (new_at, &new), |lookup, old_start, new_start| {
        directory::rename(lookup, old_start, &old, new_start, &new, flags).map(|()| 0)
    })
}

/// Writes entries to user memory in one of the two formats of getdents(2).
struct UserSink {
    place: usize,
    room: usize,
    written: usize,
    format: Format,
    /// Not even one entry had room.
    too_small: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `struct linux_dirent`: the kind is the last byte.
    Old,
    /// `struct linux_dirent64`.
    New,
}

impl DirectorySink for UserSink {
    fn add(&mut self, entry: &DirectoryEntry<'_>) -> Result<SinkState> {
        const OLD_HEADER: usize = 18;
        const NEW_HEADER: usize = 19;
        let kind = entry.kind.map_or(0, |kind| kind.directory_type());
        let header = if self.format == Format::New { NEW_HEADER } else { OLD_HEADER };
        // Old: name, NUL, padding, kind. New: kind, name, NUL.
        let extra = if self.format == Format::New { 1 } else { 2 };
        let length = (header + entry.name.len() + extra).next_multiple_of(8);
        if length > self.room - self.written {
            self.too_small |= self.written == 0;
            return Ok(SinkState::Full);
        }
        let mut bytes = [0_u8; NEW_HEADER + vfs::NAME_MAX + 10];
        let record = bytes.get_mut(..length).ok_or(Errno::EOVERFLOW)?;
        let mut put = |at: usize, from: &[u8]| {
            if let Some(place) = record.get_mut(at..at + from.len()) {
                place.copy_from_slice(from);
            }
        };
        put(0, &entry.inode_number.to_ne_bytes());
        put(8, &entry.next.to_ne_bytes());
        put(16, &(length as u16).to_ne_bytes());
        put(header, entry.name);
        put(if self.format == Format::New { 18 } else { length - 1 }, &[kind]);
        machine::user::write_bytes(self.place + self.written, record)?;
        self.written += length;
        Ok(SinkState::Taken)
    }
}

fn list(context: &Context<'_>, fd: Fd, buffer: usize, size: u32, format: Format) -> Result<usize> {
    let file = context.file(fd)?;
    let mut sink = UserSink { place: buffer, room: size as usize, written: 0, format, too_small: false };
    match file.read_directory(&mut sink) {
        Err(error) if sink.written == 0 => Err(error),
        _ if sink.too_small => Err(Errno::EINVAL),
        _ => Ok(sink.written),
    }
}

/// getdents64(2). Errors: `EBADF`, `EFAULT`, `EINVAL` (no room for one entry), `ENOENT`, `ENOTDIR`.
pub fn getdents64(context: &mut Context<'_>, fd: Fd, buffer: usize, size: u32) -> Result<usize> {
    list(context, fd, buffer, size, Format::New)
}

/// getdents(2). Errors: as [`getdents64`].
pub fn getdents(context: &mut Context<'_>, fd: Fd, buffer: usize, size: u32) -> Result<usize> {
    list(context, fd, buffer, size, Format::Old)
}

/// getcwd(2): the length with the NUL. Errors: `ENOENT`, `ERANGE`, `EFAULT`.
pub fn getcwd(context: &mut Context<'_>, buffer: usize, size: usize) -> Result<usize> {
    let mut text = context.with_context(directory::current_directory)?;
    text.push(0);
    if text.len() > size {
        return Err(Errno::ERANGE);
    }
    machine::user::write_bytes(buffer, &text)?;
    Ok(text.len())
}

/// Checks that a place is a directory one may go into. Errors: `ENOTDIR`, `EACCES`.
fn check_entry(context: &Context<'_>, place: &Path) -> Result<()> {
    if !place.inode()?.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    permission::check_path(place, &context.credentials(), AccessMask::EXECUTE | AccessMask::CHDIR)
}

/// chdir(2). Errors: `EACCES`, `ENOENT`, `ENOTDIR`, ….
pub fn chdir(context: &mut Context<'_>, path: UserString) -> Result<usize> {
    let place = context.resolve(HERE, path, LookupFlags::FOLLOW | LookupFlags::DIRECTORY)?;
    check_entry(context, &place)?;
    context.task.file_system()?.update(|state| state.working_directory = place);
    Ok(0)
}

/// fchdir(2). Errors: `EBADF`, `EACCES`, `ENOTDIR`.
pub fn fchdir(context: &mut Context<'_>, fd: Fd) -> Result<usize> {
    let place = context.file(fd)?.path().clone();
    check_entry(context, &place)?;
    context.task.file_system()?.update(|state| state.working_directory = place);
    Ok(0)
}

/// chroot(2). Errors: `EACCES`, `EPERM`, `ENOENT`, `ENOTDIR`, ….
pub fn chroot(context: &mut Context<'_>, path: UserString) -> Result<usize> {
    let place = context.resolve(HERE, path, LookupFlags::FOLLOW | LookupFlags::DIRECTORY)?;
    check_entry(context, &place)?;
    context.require(Capability::SysChroot)?;
    context.task.file_system()?.update(|state| state.root = place);
    Ok(0)
}
