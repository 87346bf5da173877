//! Opening files: open(2), openat(2), openat2(2), creat(2), memfd_create(2).

use crate::decode::{Context, Fd};
use crate::extensible;
use abi::errno::{Errno, Result};
use abi::fcntl::{AT_FDCWD, O_CREAT, O_TRUNC, O_WRONLY, OpenFlags, OpenHow, ResolveFlags};
use alloc::vec::Vec;
use mm::user::{UserPtr, UserString};
use vfs::descriptor::CloseOnExec;
use vfs::open::{self as files, OpenRequest};

/// Every `O_*` flag there is: openat2(2) refuses others, open(2) ignores them.
const KNOWN: OpenFlags = OpenFlags::all();

/// open(2). Errors: as path_resolution(7) and open(2) say.
pub fn open(context: &mut Context<'_>, path: UserString, flags: u32, mode: u32) -> Result<usize> {
    openat(context, Fd(AT_FDCWD), path, flags, mode)
}

/// creat(2). Errors: as [`open`].
pub fn creat(context: &mut Context<'_>, path: UserString, mode: u32) -> Result<usize> {
    openat(context, Fd(AT_FDCWD), path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

/// openat(2). Errors: as [`open`], `EBADF`, `ENOTDIR`.
pub fn openat(
    context: &mut Context<'_>,
    directory: Fd,
    path: UserString,
    flags: u32,
    mode: u32,
) -> Result<usize> {
    let mut flags = OpenFlags::from_bits_truncate(flags);
    if flags.contains(OpenFlags::PATH) {
        // All others are ignored with O_PATH (open(2)).
        flags &= OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    } else {
        // Shown by F_GETFL: 64-bit programs always mean it.
        flags |= OpenFlags::LARGEFILE;
    }
    let request = OpenRequest { flags, mode: mode & 0o7777, resolve: ResolveFlags::empty() };
    open_descriptor(context, directory, path, &request)
}

/// openat2(2). Errors: as [`openat`], `E2BIG`, `EINVAL`, `EXDEV`, `EAGAIN`.
pub fn openat2(
    context: &mut Context<'_>,
    directory: Fd,
    path: UserString,
    how: usize,
    size: usize,
) -> Result<usize> {
    let how: OpenHow = extensible::read_sized(how, size, size_of::<OpenHow>())?;
    let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
    let flags = OpenFlags::from_bits(flags).filter(|flags| KNOWN.contains(*flags)).ok_or(Errno::EINVAL)?;
    let resolve = ResolveFlags::from_bits(how.resolve).ok_or(Errno::EINVAL)?;
    let makes = flags.contains(OpenFlags::CREAT) || flags.contains(OpenFlags::TMPFILE);
    if how.mode & !0o7777 != 0 || (!makes && how.mode != 0) {
        return Err(Errno::EINVAL);
    }
    if resolve.contains(ResolveFlags::BENEATH | ResolveFlags::IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    let place = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !place.contains(flags) {
        return Err(Errno::EINVAL);
    }
    open_descriptor(context, directory, path, &OpenRequest { flags, mode: how.mode as u32, resolve })
}

fn open_descriptor(
    context: &mut Context<'_>,
    directory: Fd,
    path: UserString,
    request: &OpenRequest,
) -> Result<usize> {
    let close_on_exec =
        if request.flags.contains(OpenFlags::CLOEXEC) { CloseOnExec::Yes } else { CloseOnExec::No };
    let path = context.path(path)?;
    let file = context.with_scope(directory, &path, request.resolve, |lookup, start| {
        files::open(lookup, start, &path, request)
    })?;
    context.install(file, close_on_exec)
}

/// memfd_create(2): a file in memory without a name. Huge pages are not offered.
///
/// Errors: `EINVAL`, `EFAULT`, `EMFILE`, `ENOMEM`.
pub fn memfd_create(context: &mut Context<'_>, name: UserPtr<u8>, flags: u32) -> Result<usize> {
    const CLOEXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 16;
    const NAME_MAX: usize = 249;
    let known = CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC;
    if flags & !known != 0 || flags & (NOEXEC_SEAL | EXEC) == NOEXEC_SEAL | EXEC {
        return Err(Errno::EINVAL);
    }
    let text: Vec<u8> = UserString::new(name.address()).read(NAME_MAX + 1).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let make = crate::MEMORY_FILE.get().ok_or(Errno::ENOSYS)?;
    let file = make(&text, &context.credentials())?;
    let inode = file.inode()?;
    if let Some(seals) = inode.operations().seals() {
        match flags & (ALLOW_SEALING | NOEXEC_SEAL) {
            0 => {}
            ALLOW_SEALING => seals.allow(0),
            _ => {
                inode.set_permissions(0o666);
                seals.allow(abi::fcntl::F_SEAL_EXEC);
            }
        }
    }
    context.install(file, if flags & CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No })
}
