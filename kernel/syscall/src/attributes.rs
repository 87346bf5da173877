//! Attributes of files: stat(2), statx(2), chmod(2), chown(2), access(2), utimensat(2), umask(2).
//!
//! Decoding; the rules are in `vfs::attributes` and `vfs::permission`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::{
    AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW, R_OK,
    W_OK, X_OK,
};
use abi::stat::{
    S_IFBLK, S_IFMT, S_IFREG, STATX_ATTR_MOUNT_ROOT, STATX_BASIC_STATS, STATX_BTIME, STATX_DIOALIGN,
    STATX_MNT_ID, Stat, Statx, StatxTimestamp,
};
use abi::time::{Timespec, Timeval, UTIME_NOW, UTIME_OMIT};
use alloc::sync::Arc;
use mm::user::{UserPtr, UserString};
use security::Credentials;
use vfs::attributes::{self, TimeChange};
use vfs::namei::{self, LookupFlags};
use vfs::{AccessMask, FileStatus, Path, Timestamp, permission};
use zerocopy::FromZeros;

/// The working directory as a descriptor argument.
const HERE: Fd = Fd(AT_FDCWD);

/// How the flags of an `*at` call look paths up. Errors: `EINVAL` for one not in `known`.
fn lookup_flags(flags: u32, known: u32) -> Result<LookupFlags> {
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(LookupFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
    Ok(lookup)
}

fn status_at(context: &Context<'_>, at: Fd, path: UserString, lookup: LookupFlags) -> Result<FileStatus> {
    let path = if path.is_null() && lookup.contains(LookupFlags::EMPTY_PATH) {
        alloc::vec::Vec::new()
    } else {
        context.path(path)?
    };
    context.with_lookup(at, &path, |context, start| namei::status(context, start, &path, lookup))
}

/// `struct stat` of a status, identifiers as the caller's user namespace shows them.
fn to_stat(status: &FileStatus, credentials: &Credentials) -> Stat {
    let namespace = &credentials.user_namespace;
    let mut stat = Stat::new_zeroed();
    stat.st_dev = status.device.encode();
    stat.st_ino = status.inode_number;
    stat.st_nlink = u64::from(status.link_count);
    stat.st_mode = status.mode;
    stat.st_uid = namespace.from_kuid_munged(status.uid);
    stat.st_gid = namespace.from_kgid_munged(status.gid);
    stat.st_rdev = status.special_device.encode();
    stat.st_size = status.size as i64;
    stat.st_blksize = i64::from(status.block_size);
    stat.st_blocks = status.blocks as i64;
    let times = &status.times;
    (stat.st_atime, stat.st_atime_nsec) = (times.accessed.seconds, u64::from(times.accessed.nanoseconds));
    (stat.st_mtime, stat.st_mtime_nsec) = (times.modified.seconds, u64::from(times.modified.nanoseconds));
    (stat.st_ctime, stat.st_ctime_nsec) = (times.changed.seconds, u64::from(times.changed.nanoseconds));
    stat
}

/// stat(2). Errors: `EACCES`, `EFAULT`, `ELOOP`, `ENAMETOOLONG`, `ENOENT`, `ENOTDIR`.
pub fn stat(context: &mut Context<'_>, path: UserString, buffer: UserPtr<Stat>) -> Result<usize> {
    newfstatat(context, HERE, path, buffer, 0)
}

/// lstat(2). Errors: as [`stat`].
pub fn lstat(context: &mut Context<'_>, path: UserString, buffer: UserPtr<Stat>) -> Result<usize> {
    newfstatat(context, HERE, path, buffer, AT_SYMLINK_NOFOLLOW)
}

/// fstat(2). Errors: `EBADF`, `EFAULT`.
pub fn fstat(context: &mut Context<'_>, fd: Fd, buffer: UserPtr<Stat>) -> Result<usize> {
    let status = context.file(fd)?.path().status()?;
    buffer.write(&to_stat(&status, &context.credentials()))?;
    Ok(0)
}

/// fstatat(2). Errors: as [`stat`], `EBADF`, `EINVAL`.
pub fn newfstatat(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    buffer: UserPtr<Stat>,
    flags: u32,
) -> Result<usize> {
    let lookup = lookup_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)?;
    let status = status_at(context, at, path, lookup)?;
    buffer.write(&to_stat(&status, &context.credentials()))?;
    Ok(0)
}

fn statx_time(time: Timestamp) -> StatxTimestamp {
    let mut answer = StatxTimestamp::new_zeroed();
    answer.tv_sec = time.seconds;
    answer.tv_nsec = time.nanoseconds;
    answer
}

/// What transfers with `O_DIRECT` to a file must be multiples of: memory, and places in the file. `None`: it knows no such transfers, or does not
/// say. Memory may lie anywhere here (docs/adr/0097-direct-transfers-bounce.md); Linux's sector is told, with which programs are right on both.
fn direct_alignment(status: &FileStatus) -> Option<(u32, u32)> {
    let device = match status.mode & S_IFMT {
        S_IFREG => block::find(status.device)?,
        S_IFBLK => block::find(status.special_device)?,
        _ => return None,
    };
    Some((block::SECTOR_SIZE as u32, device.disk().limits().logical_block_size))
}

/// statx(2). Errors: as [`stat`], `EBADF`, `EINVAL`.
pub fn statx(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    flags: u32,
    mask: u32,
    buffer: UserPtr<Statx>,
) -> Result<usize> {
    const RESERVED: u32 = 0x8000_0000;
    if mask & RESERVED != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    let status = status_at(context, at, path, lookup_flags(flags, known)?)?;
    let namespace = &context.credentials().user_namespace;
    let mut answer = Statx::new_zeroed();
    answer.stx_mask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;
    answer.stx_blksize = status.block_size;
    answer.stx_attributes_mask = u64::from(STATX_ATTR_MOUNT_ROOT);
    answer.stx_attributes = if status.mount_root { u64::from(STATX_ATTR_MOUNT_ROOT) } else { 0 };
    answer.stx_nlink = status.link_count;
    answer.stx_uid = namespace.from_kuid_munged(status.uid);
    answer.stx_gid = namespace.from_kgid_munged(status.gid);
    answer.stx_mode = status.mode as u16;
    answer.stx_ino = status.inode_number;
    answer.stx_size = status.size;
    answer.stx_blocks = status.blocks;
    answer.stx_atime = statx_time(status.times.accessed);
    answer.stx_btime = statx_time(status.times.created);
    answer.stx_ctime = statx_time(status.times.changed);
    answer.stx_mtime = statx_time(status.times.modified);
    (answer.stx_rdev_major, answer.stx_rdev_minor) =
        (status.special_device.major, status.special_device.minor);
    (answer.stx_dev_major, answer.stx_dev_minor) = (status.device.major, status.device.minor);
    answer.stx_mnt_id = status.mount_id;
    if mask & STATX_DIOALIGN != 0
        && let Some(alignment) = direct_alignment(&status)
    {
        answer.stx_mask |= STATX_DIOALIGN;
        (answer.stx_dio_mem_align, answer.stx_dio_offset_align) = alignment;
    }
    buffer.write(&answer)?;
    Ok(0)
}

/// chmod(2). Errors: `EPERM`, `EROFS`, `ENOENT`, ….
pub fn chmod(context: &mut Context<'_>, path: UserString, mode: u32) -> Result<usize> {
    fchmodat(context, HERE, path, mode)
}

/// fchmodat(2) as the kernel has it: without flags. Errors: as [`chmod`], `EBADF`.
pub fn fchmodat(context: &mut Context<'_>, at: Fd, path: UserString, mode: u32) -> Result<usize> {
    fchmodat2(context, at, path, mode, 0)
}

/// fchmodat2(2). Errors: as [`fchmodat`], `EINVAL`, `EOPNOTSUPP`.
pub fn fchmodat2(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    mode: u32,
    flags: u32,
) -> Result<usize> {
    let lookup = lookup_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let place = context.resolve(at, path, lookup)?;
    attributes::change_mode(&place, mode, &context.credentials()).map(|()| 0)
}

/// The place of a descriptor whose file may be changed through it. Errors: `EBADF`.
fn place_of(context: &Context<'_>, fd: Fd) -> Result<Path> {
    let file = context.file(fd)?;
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    Ok(file.path().clone())
}

/// fchmod(2). Errors: `EBADF`, `EPERM`, `EROFS`.
pub fn fchmod(context: &mut Context<'_>, fd: Fd, mode: u32) -> Result<usize> {
    attributes::change_mode(&place_of(context, fd)?, mode, &context.credentials()).map(|()| 0)
}

/// -1 leaves an identifier as it is.
fn optional(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// chown(2). Errors: `EPERM`, `EROFS`, `EINVAL`, ….
pub fn chown(context: &mut Context<'_>, path: UserString, uid: u32, gid: u32) -> Result<usize> {
    fchownat(context, HERE, path, uid, gid, 0)
}

/// lchown(2). Errors: as [`chown`].
pub fn lchown(context: &mut Context<'_>, path: UserString, uid: u32, gid: u32) -> Result<usize> {
    fchownat(context, HERE, path, uid, gid, AT_SYMLINK_NOFOLLOW)
}

/// fchownat(2). Errors: as [`chown`], `EBADF`.
pub fn fchownat(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<usize> {
    let lookup = lookup_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let place = context.resolve(at, path, lookup)?;
    attributes::change_owner(&place, optional(uid), optional(gid), &context.credentials()).map(|()| 0)
}

/// fchown(2). Errors: `EBADF`, `EPERM`, `EROFS`, `EINVAL`.
pub fn fchown(context: &mut Context<'_>, fd: Fd, uid: u32, gid: u32) -> Result<usize> {
    let place = place_of(context, fd)?;
    attributes::change_owner(&place, optional(uid), optional(gid), &context.credentials()).map(|()| 0)
}

/// umask(2): the old one.
pub fn umask(context: &mut Context<'_>, mask: u32) -> Result<usize> {
    Ok(context.task.file_system()?.set_umask(mask) as usize)
}

/// access(2). Errors: `EACCES`, `EINVAL`, `EROFS`, ….
pub fn access(context: &mut Context<'_>, path: UserString, mode: u32) -> Result<usize> {
    faccessat2(context, HERE, path, mode, 0)
}

/// faccessat(2) as the kernel has it: without flags. Errors: as [`access`], `EBADF`.
pub fn faccessat(context: &mut Context<'_>, at: Fd, path: UserString, mode: u32) -> Result<usize> {
    faccessat2(context, at, path, mode, 0)
}

/// faccessat2(2): asks with the real ids unless `AT_EACCESS`. Errors: as [`faccessat`].
pub fn faccessat2(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    mode: u32,
    flags: u32,
) -> Result<usize> {
    let lookup = lookup_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EACCESS)?;
    if mode & !(R_OK | W_OK | X_OK) != 0 {
        return Err(Errno::EINVAL);
    }
    let own = context.credentials();
    let credentials = if flags & AT_EACCESS != 0 { own } else { Arc::new(as_real_user(&own)) };
    let path = context.path(path)?;
    let fs = context.task.file_system()?;
    let file = if at.0 == AT_FDCWD || path.first() == Some(&b'/') { None } else { Some(context.file(at)?) };
    let start = file.as_deref().map_or(namei::Start::WorkingDirectory, namei::Start::File);
    let lookup_context = vfs::LookupContext { fs: &fs, credentials: &credentials };
    let place = namei::resolve(&lookup_context, start, &path, lookup)?;
    permission::check_access(&place, &credentials, AccessMask::from_bits_truncate(mode)).map(|()| 0)
}

/// The credentials that access(2) asks with: real ids, and the capabilities that the real user would have.
fn as_real_user(own: &Credentials) -> Credentials {
    let mut asked = own.clone();
    (asked.fsuid, asked.fsgid) = (own.ruid, own.rgid);
    if !own.secure_bits.contains(security::SecureBits::NO_SETUID_FIXUP) {
        let root = own.user_namespace.make_kuid(0);
        asked.effective = if Some(own.ruid) == root { own.permitted } else { security::CapabilitySet::EMPTY };
    }
    asked
}

/// One time argument of utimensat(2). Errors: `EINVAL`.
fn time_change(time: &Timespec) -> Result<TimeChange> {
    match time.tv_nsec {
        nsec if nsec == i64::from(UTIME_NOW) => Ok(TimeChange::Now),
        nsec if nsec == i64::from(UTIME_OMIT) => Ok(TimeChange::Keep),
        nsec @ 0..1_000_000_000 => {
            Ok(TimeChange::Set(Timestamp { seconds: time.tv_sec, nanoseconds: nsec as u32 }))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Sets both times of what `at` and `path` name; a null path is the descriptor itself.
fn set_times(
    context: &Context<'_>,
    at: Fd,
    path: UserString,
    times: [TimeChange; 2],
    flags: u32,
) -> Result<usize> {
    let [accessed, modified] = times;
    let place = if path.is_null() {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        place_of(context, at)?
    } else {
        context.resolve(at, path, lookup_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?)?
    };
    attributes::set_times(&place, accessed, modified, &context.credentials()).map(|()| 0)
}

/// utimensat(2). Errors: `EACCES`, `EBADF`, `EINVAL`, `EPERM`, `EROFS`, ….
pub fn utimensat(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    times: UserPtr<[Timespec; 2]>,
    flags: u32,
) -> Result<usize> {
    let times = match times.optional().map(UserPtr::read).transpose()? {
        None => [TimeChange::Now; 2],
        Some([accessed, modified]) => [time_change(&accessed)?, time_change(&modified)?],
    };
    set_times(context, at, path, times, flags)
}

/// The two `timeval`s of utimes(2) and futimesat(2). Errors: `EINVAL`, `EFAULT`.
fn from_timevals(times: UserPtr<[Timeval; 2]>) -> Result<[TimeChange; 2]> {
    let Some(times) = times.optional() else { return Ok([TimeChange::Now; 2]) };
    let convert = |time: Timeval| match time.tv_usec {
        usec @ 0..1_000_000 => {
            Ok(TimeChange::Set(Timestamp { seconds: time.tv_sec, nanoseconds: usec as u32 * 1000 }))
        }
        _ => Err(Errno::EINVAL),
    };
    let [accessed, modified] = times.read()?;
    Ok([convert(accessed)?, convert(modified)?])
}

/// utimes(2). Errors: as [`utimensat`].
pub fn utimes(context: &mut Context<'_>, path: UserString, times: UserPtr<[Timeval; 2]>) -> Result<usize> {
    futimesat(context, HERE, path, times)
}

/// futimesat(2). Errors: as [`utimensat`].
pub fn futimesat(
    context: &mut Context<'_>,
    at: Fd,
    path: UserString,
    times: UserPtr<[Timeval; 2]>,
) -> Result<usize> {
    let times = from_timevals(times)?;
    set_times(context, at, path, times, 0)
}

/// utime(2): whole seconds. Errors: as [`utimensat`].
pub fn utime(context: &mut Context<'_>, path: UserString, times: UserPtr<[i64; 2]>) -> Result<usize> {
    let times = match times.optional().map(UserPtr::read).transpose()? {
        None => [TimeChange::Now; 2],
        Some(both) => both.map(|seconds| TimeChange::Set(Timestamp { seconds, nanoseconds: 0 })),
    };
    set_times(context, HERE, path, times, 0)
}
