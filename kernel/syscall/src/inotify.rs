//! inotify(7): inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2).
//!
//! Decoding; the object is `ipc::inotify`, the hooks are `vfs::notify`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::{AT_FDCWD, OpenFlags};
use abi::inotify::{
    IN_ALL_EVENTS, IN_CLOEXEC, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_IGNORED, IN_ISDIR, IN_MASK_ADD,
    IN_MASK_CREATE, IN_NONBLOCK, IN_ONESHOT, IN_ONLYDIR, IN_Q_OVERFLOW, IN_UNMOUNT,
};
use alloc::sync::Arc;
use ipc::inotify::{Adding, Inotify};
use mm::user::UserString;
use vfs::descriptor::CloseOnExec;
use vfs::{AccessMask, File, LookupFlags, anonymous, permission};

/// Bits that a watch's mask may have.
const MASK_BITS: u32 = IN_ALL_EVENTS
    | IN_UNMOUNT
    | IN_Q_OVERFLOW
    | IN_IGNORED
    | IN_ONLYDIR
    | IN_DONT_FOLLOW
    | IN_EXCL_UNLINK
    | IN_MASK_ADD
    | IN_MASK_CREATE
    | IN_ISDIR
    | IN_ONESHOT;

/// inotify_init(2). Errors: `EMFILE`, `ENOMEM`.
pub fn inotify_init(context: &mut Context<'_>) -> Result<usize> {
    inotify_init1(context, 0)
}

/// inotify_init1(2). Errors: `EINVAL`, `EMFILE`, `ENOMEM`.
pub fn inotify_init1(context: &mut Context<'_>, flags: u32) -> Result<usize> {
    if flags & !(IN_CLOEXEC | IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = context.credentials();
    let inotify = Inotify::new(credentials.euid.0)?;
    let status = OpenFlags::from_bits_truncate(flags & IN_NONBLOCK);
    let file = anonymous::new_file("inotify", inotify, status, &credentials)?;
    context.install(file, if flags & IN_CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No })
}

fn inotify_of(file: &Arc<File>) -> Result<&Inotify> {
    file.operations_as::<Inotify>().ok_or(Errno::EINVAL)
}

/// inotify_add_watch(2). Errors: `EACCES`, `EBADF`, `EEXIST`, `EFAULT`, `EINVAL`, `ENAMETOOLONG`, `ENOENT`, `ENOMEM`, `ENOSPC`,
/// `ENOTDIR`.
pub fn inotify_add_watch(context: &mut Context<'_>, fd: Fd, path: UserString, mask: u32) -> Result<usize> {
    if mask & !MASK_BITS != 0 || mask & MASK_BITS == 0 {
        return Err(Errno::EINVAL);
    }
    let file = context.file(fd)?;
    let adding = match (mask & IN_MASK_ADD != 0, mask & IN_MASK_CREATE != 0) {
        (true, true) => return Err(Errno::EINVAL),
        (true, false) => Adding::Extend,
        (false, true) => Adding::Create,
        (false, false) => Adding::Replace,
    };
    let inotify = inotify_of(&file)?;
    let mut flags = LookupFlags::empty();
    flags.set(LookupFlags::FOLLOW, mask & IN_DONT_FOLLOW == 0);
    flags.set(LookupFlags::DIRECTORY, mask & IN_ONLYDIR != 0);
    let place = context.resolve(Fd(AT_FDCWD), path, flags)?;
    permission::check(place.inode()?, &context.credentials(), AccessMask::READ)?;
    let kept = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
    inotify.watch(place.inode()?, kept, adding).map(|number| number as usize)
}

/// inotify_rm_watch(2). Errors: `EBADF`, `EINVAL`.
pub fn inotify_rm_watch(context: &mut Context<'_>, fd: Fd, number: i32) -> Result<usize> {
    let file = context.file(fd)?;
    inotify_of(&file)?.unwatch(number).map(|()| 0)
}
