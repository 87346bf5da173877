//! Reading and writing open files: read(2), write(2) and their vector and offset forms, lseek(2), fsync(2), truncate(2),
//! fallocate(2), sendfile(2), splice(2), copy_file_range(2).

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_ZERO_RANGE, OpenFlags, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE,
    POSIX_FADV_NORMAL, POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL, POSIX_FADV_WILLNEED, RWF_APPEND, RWF_DSYNC,
    RWF_HIPRI, RWF_NOWAIT, RWF_SYNC, SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE,
    SYNC_FILE_RANGE_WRITE,
};
use abi::uio::SPLICE_F_NONBLOCK;
use ipc::pipe::{Framing, PipeEnd};
use mm::WriteBackMode;
use mm::io::{UserReader, UserWriter};
use mm::page_cache::Pattern;
use mm::user::{IoVec, UserBuffer, UserPtr, UserString};
use net::SocketKind;
use task::signal::{Signal, SignalInfo};
use vfs::file::{AT_END, Appended};
use vfs::inode::state;
use vfs::{Allocate, File, FileKind, Positioning, SeekFrom, SyncKind};

/// read(2). Errors: `EBADF`, `EFAULT`, `EINVAL`, `EISDIR`, `EAGAIN`, `EINTR`, `EIO`.
pub fn read(context: &mut Context<'_>, fd: Fd, buffer: usize, count: usize) -> Result<usize> {
    let file = context.file(fd)?;
    count_read(context, file.read(&mut UserWriter(UserBuffer::new(buffer, count)?)))
}

/// write(2). Errors: `EBADF`, `EFAULT`, `EINVAL`, `EAGAIN`, `EINTR`, `EIO`, `ENOSPC`, `EPIPE`, `EFBIG`.
pub fn write(context: &mut Context<'_>, fd: Fd, buffer: usize, count: usize) -> Result<usize> {
    let file = context.file(fd)?;
    signal_broken_pipe(context, &file, file.write(&mut UserReader(UserBuffer::new(buffer, count)?)))
}

/// Notes a call that read, for `/proc/PID/io`.
#[inline]
fn count_read(context: &Context<'_>, result: Result<usize>) -> Result<usize> {
    context.task.counters().count_read(result.unwrap_or(0));
    result
}

/// The same for one that wrote.
#[inline]
fn count_write(context: &Context<'_>, result: Result<usize>) -> Result<usize> {
    context.task.counters().count_write(result.unwrap_or(0));
    result
}

/// A write that finds nobody who could read sends SIGPIPE to the writer, besides its error (pipe(7)); of sockets only
/// those of streams do.
fn signal_broken_pipe(context: &Context<'_>, file: &File, result: Result<usize>) -> Result<usize> {
    let result = count_write(context, result);
    let signals =
        || file.operations_as::<net::Socket>().is_none_or(|socket| socket.kind() == SocketKind::Stream);
    if result == Err(Errno::EPIPE) && signals() {
        task::signal::send::to_task(context.task, SignalInfo::from_kernel(Signal::SIGPIPE))?;
    }
    result
}

/// An offset argument. Errors: `EINVAL` if negative.
fn offset_of(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// pread(2). Errors: as [`read`], `ESPIPE`.
pub fn pread64(context: &mut Context<'_>, fd: Fd, buffer: usize, count: usize, offset: i64) -> Result<usize> {
    let offset = offset_of(offset)?;
    let file = context.file(fd)?;
    count_read(context, file.read_at(&mut UserWriter(UserBuffer::new(buffer, count)?), offset))
}

/// pwrite(2). Errors: as [`write()`], `ESPIPE`.
pub fn pwrite64(
    context: &mut Context<'_>,
    fd: Fd,
    buffer: usize,
    count: usize,
    offset: i64,
) -> Result<usize> {
    let offset = offset_of(offset)?;
    let file = context.file(fd)?;
    count_write(context, file.write_at(&mut UserReader(UserBuffer::new(buffer, count)?), offset))
}

/// readv(2). Errors: as [`read`].
pub fn readv(context: &mut Context<'_>, fd: Fd, vector: UserPtr<IoVec>, count: usize) -> Result<usize> {
    let file = context.file(fd)?;
    file.check_readable()?;
    count_read(context, file.read(&mut UserWriter(UserBuffer::from_iovec(vector, count)?)))
}

/// writev(2). Errors: as [`write()`].
pub fn writev(context: &mut Context<'_>, fd: Fd, vector: UserPtr<IoVec>, count: usize) -> Result<usize> {
    let file = context.file(fd)?;
    file.check_writable()?;
    let result = file.write(&mut UserReader(UserBuffer::from_iovec(vector, count)?));
    signal_broken_pipe(context, &file, result)
}

/// preadv(2). The offset comes in two halves, the high one unused on 64-bit machines. Errors: as [`pread64`].
pub fn preadv(
    context: &mut Context<'_>,
    fd: Fd,
    vector: UserPtr<IoVec>,
    count: usize,
    offset: i64,
) -> Result<usize> {
    let offset = offset_of(offset)?;
    let file = context.file(fd)?;
    count_read(context, file.read_at(&mut UserWriter(UserBuffer::from_iovec(vector, count)?), offset))
}

/// pwritev(2). Errors: as [`pwrite64`].
pub fn pwritev(
    context: &mut Context<'_>,
    fd: Fd,
    vector: UserPtr<IoVec>,
    count: usize,
    offset: i64,
) -> Result<usize> {
    let offset = offset_of(offset)?;
    let file = context.file(fd)?;
    count_write(context, file.write_at(&mut UserReader(UserBuffer::from_iovec(vector, count)?), offset))
}

/// The flags of preadv2(2) and pwritev2(2) that a call knows. Errors: `EOPNOTSUPP` for the others.
fn check_rw_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

/// `RWF_NOWAIT`: reads what is there. Regular files never wait here.
///
/// Errors: `EAGAIN`; `EOPNOTSUPP` for files that cannot say whether they would wait.
fn read_without_waiting(file: &File, buffer: UserBuffer, offset: Option<u64>) -> Result<usize> {
    file.check_readable()?;
    let mut into = UserWriter(buffer);
    match (file.operations_as::<PipeEnd>(), file.inode()?.kind(), offset) {
        (Some(_), _, Some(_)) => Err(Errno::ESPIPE),
        (Some(end), _, None) => end.pipe().read(&mut into, true),
        (None, FileKind::Regular, Some(offset)) => file.read_at(&mut into, offset),
        (None, FileKind::Regular, None) => file.read(&mut into),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// preadv2(2): offset -1 means the file's own. Errors: as [`preadv`], `EOPNOTSUPP`.
pub fn preadv2(
    context: &mut Context<'_>,
    fd: Fd,
    vector: UserPtr<IoVec>,
    count: usize,
    offset: i64,
    _offset_high: u64,
) -> Result<usize> {
    let flags = context.sixth_argument() as u32;
    check_rw_flags(flags, RWF_HIPRI | RWF_NOWAIT)?;
    if flags & RWF_NOWAIT != 0 {
        let offset = if offset == -1 { None } else { Some(offset_of(offset)?) };
        let file = context.file(fd)?;
        return read_without_waiting(&file, UserBuffer::from_iovec(vector, count)?, offset);
    }
    if offset == -1 { readv(context, fd, vector, count) } else { preadv(context, fd, vector, count, offset) }
}

/// pwritev2(2): offset -1 means the file's own. Errors: as [`pwritev`], `EOPNOTSUPP`.
pub fn pwritev2(
    context: &mut Context<'_>,
    fd: Fd,
    vector: UserPtr<IoVec>,
    count: usize,
    offset: i64,
    _offset_high: u64,
) -> Result<usize> {
    let flags = context.sixth_argument() as u32;
    check_rw_flags(flags, RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND)?;
    let written = if flags & RWF_APPEND != 0 {
        if offset != -1 {
            offset_of(offset)?;
        }
        let file = context.file(fd)?;
        let place = if offset == -1 { Appended::Follow } else { Appended::StayBehind };
        let mut from = UserReader(UserBuffer::from_iovec(vector, count)?);
        signal_broken_pipe(context, &file, file.append(&mut from, place))?
    } else if offset == -1 {
        writev(context, fd, vector, count)?
    } else {
        pwritev(context, fd, vector, count, offset)?
    };
    if flags & (RWF_DSYNC | RWF_SYNC) != 0 {
        let kind = if flags & RWF_SYNC != 0 { SyncKind::All } else { SyncKind::Data };
        let known = offset != -1 && flags & RWF_APPEND == 0;
        context.file(fd)?.sync_written(kind, if known { offset as u64 } else { AT_END }, written)?;
    }
    Ok(written)
}

/// lseek(2). Errors: `EBADF`, `EINVAL`, `ENXIO`, `EOVERFLOW`, `ESPIPE`.
pub fn lseek(context: &mut Context<'_>, fd: Fd, offset: i64, whence: u32) -> Result<usize> {
    let file = context.file(fd)?;
    file.seek(SeekFrom::from_linux(offset, whence)?).map(|position| position as usize)
}

fn sync_file(context: &Context<'_>, fd: Fd, kind: SyncKind) -> Result<usize> {
    let file = context.file(fd)?;
    file.sync(kind).map(|()| 0)
}

/// fsync(2). Errors: `EBADF`, `EINVAL`, `EIO`, `ENOSPC`.
pub fn fsync(context: &mut Context<'_>, fd: Fd) -> Result<usize> {
    sync_file(context, fd, SyncKind::All)
}

/// fdatasync(2). Errors: as [`fsync`].
pub fn fdatasync(context: &mut Context<'_>, fd: Fd) -> Result<usize> {
    sync_file(context, fd, SyncKind::Data)
}

/// sync(2).
pub fn sync(_context: &mut Context<'_>) -> Result<usize> {
    vfs::superblock::sync_all();
    Ok(0)
}

/// syncfs(2). Errors: `EBADF`, `EIO`.
pub fn syncfs(context: &mut Context<'_>, fd: Fd) -> Result<usize> {
    context.file(fd)?.sync_file_system().map(|()| 0)
}

/// truncate(2). Errors: `EACCES`, `EINVAL`, `EISDIR`, `ENOENT`, `EPERM`, `EROFS`, `ETXTBSY`, `EFBIG`.
pub fn truncate(context: &mut Context<'_>, path: UserString, length: i64) -> Result<usize> {
    let length = offset_of(length)?;
    let path = context.resolve(Fd(abi::fcntl::AT_FDCWD), path, vfs::LookupFlags::FOLLOW)?;
    vfs::attributes::truncate(&path, length, &context.credentials()).map(|()| 0)
}

/// ftruncate(2). Errors: `EBADF`, `EINVAL`, `EPERM`, `EFBIG`.
pub fn ftruncate(context: &mut Context<'_>, fd: Fd, length: i64) -> Result<usize> {
    let length = offset_of(length)?;
    let file = context.file(fd)?;
    vfs::attributes::truncate_file(&file, length).map(|()| 0)
}

/// What a mode of fallocate(2) asks for. Errors: `EOPNOTSUPP`.
fn allocation_of(mode: u32) -> Result<Allocate> {
    let keeps = mode & FALLOC_FL_KEEP_SIZE != 0;
    Ok(match (mode & !FALLOC_FL_KEEP_SIZE, keeps) {
        (0, false) => Allocate::Extend,
        (0, true) => Allocate::KeepSize,
        (FALLOC_FL_PUNCH_HOLE, true) => Allocate::PunchHole,
        (FALLOC_FL_ZERO_RANGE, false) => Allocate::Zero,
        (FALLOC_FL_ZERO_RANGE, true) => Allocate::ZeroKeepSize,
        (FALLOC_FL_UNSHARE_RANGE, false) => Allocate::Unshare,
        (FALLOC_FL_UNSHARE_RANGE, true) => Allocate::UnshareKeepSize,
        (FALLOC_FL_COLLAPSE_RANGE, false) => Allocate::Collapse,
        (FALLOC_FL_INSERT_RANGE, false) => Allocate::Insert,
        _ => return Err(Errno::EOPNOTSUPP),
    })
}

/// fallocate(2). Errors: `EBADF`, `EFBIG`, `EINVAL`, `ENODEV`, `ENOSPC`, `EOPNOTSUPP`, `EPERM`, `ESPIPE`.
pub fn fallocate(context: &mut Context<'_>, fd: Fd, mode: u32, offset: i64, length: i64) -> Result<usize> {
    let file = context.file(fd)?;
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    let (offset, length) = (offset_of(offset)?, offset_of(length)?);
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let what = allocation_of(mode)?;
    file.check_writable()?;
    let inode = file.inode()?;
    let reserves = matches!(what, Allocate::Extend | Allocate::KeepSize);
    if inode.has_state(state::IMMUTABLE) || !reserves && inode.has_state(state::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    match inode.kind() {
        FileKind::Regular | FileKind::BlockDevice => {}
        FileKind::Fifo => return Err(Errno::ESPIPE),
        FileKind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    if offset.saturating_add(length) > inode.superblock().max_file_size() {
        return Err(Errno::EFBIG);
    }
    file.allocate(what, offset, length).map(|()| 0)
}

/// posix_fadvise(2). Errors: `EBADF`, `EINVAL`, `ESPIPE`.
pub fn fadvise64(context: &mut Context<'_>, fd: Fd, offset: i64, length: i64, advice: u32) -> Result<usize> {
    let file = context.file(fd)?;
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    let inode = file.inode()?;
    if inode.kind() == FileKind::Fifo {
        return Err(Errno::ESPIPE);
    }
    if length < 0 || advice > POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    let Some(cache) = file.page_cache() else { return Ok(0) };
    // A negative offset is one far behind the end, as on Linux; no length means up to the end.
    let start = offset as u64;
    let end = if length == 0 { u64::MAX } else { start.saturating_add(length as u64) };
    match advice {
        POSIX_FADV_NORMAL => file.read_ahead().set_pattern(Pattern::Normal),
        POSIX_FADV_SEQUENTIAL => file.read_ahead().set_pattern(Pattern::Sequential),
        POSIX_FADV_RANDOM => file.read_ahead().set_pattern(Pattern::Random),
        POSIX_FADV_WILLNEED => cache.will_need(start..end),
        POSIX_FADV_DONTNEED => cache.will_not_need(start..end),
        _ => {}
    }
    Ok(0)
}

/// The flags of splice(2) and its like (`SPLICE_F_*`).
const SPLICE_KNOWN: u32 = 0xf;

/// An offset that a call takes from user memory and puts back advanced, or the file's own when the pointer is null.
struct Offset {
    place: UserPtr<i64>,
    value: Option<u64>,
}

impl Offset {
    fn read(place: UserPtr<i64>, file: &File) -> Result<Offset> {
        let value = place.optional().map(|place| offset_of(place.read()?)).transpose()?;
        if value.is_some() && file.operations().positioning() == Positioning::Stream {
            return Err(Errno::ESPIPE);
        }
        Ok(Offset { place, value })
    }

    fn write_back(self) -> Result<()> {
        match self.value {
            Some(value) => self.place.write(&(value as i64)),
            None => Ok(()),
        }
    }
}

/// Copies between two descriptions and puts the offsets back.
fn transfer(source: &File, target: &File, mut from: Offset, mut to: Offset, count: usize) -> Result<usize> {
    let copied = vfs::splice::copy(source, from.value.as_mut(), target, to.value.as_mut(), count)?;
    from.write_back()?;
    to.write_back()?;
    Ok(copied)
}

/// How many of `count` bytes may be moved at once: into a pipe what fits after there is some room, and not all of it, because who is to read it may be the
/// caller. Another writer may take the room away; then the copy waits as write(2) does.
///
/// Errors: `EAGAIN` (`nonblocking`, or the pipe is), `EBADF`, `EPIPE`, `ERESTARTSYS`.
fn limit_to_pipes(source: &File, target: &File, count: usize, nonblocking: bool) -> Result<usize> {
    source.check_readable()?;
    target.check_writable()?;
    if count == 0 {
        return Ok(0);
    }
    if let Some(end) = source.operations_as::<PipeEnd>() {
        end.pipe().wait_for_data(nonblocking || source.is_nonblocking())?;
    }
    match target.operations_as::<PipeEnd>() {
        Some(end) => {
            let room = end.pipe().wait_for_room(nonblocking || target.is_nonblocking())?;
            Ok(count.min(room))
        }
        None => Ok(count),
    }
}

/// What is moved goes to an offset, which a description that appends does not have. Errors: `EINVAL`.
fn refuse_appending(target: &File) -> Result<()> {
    if target.flags().contains(OpenFlags::APPEND) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// sendfile(2). Errors: `EAGAIN`, `EBADF`, `EFAULT`, `EINVAL`, `EIO`, `ESPIPE`.
pub fn sendfile(
    context: &mut Context<'_>,
    target: Fd,
    source: Fd,
    offset: UserPtr<i64>,
    count: usize,
) -> Result<usize> {
    let (source, target) = (context.file(source)?, context.file(target)?);
    let from = Offset::read(offset, &source)?;
    if !source.is_seekable() {
        return Err(Errno::EINVAL);
    }
    refuse_appending(&target)?;
    let to = Offset { place: UserPtr::NULL, value: None };
    let result = limit_to_pipes(&source, &target, count, false)
        .and_then(|count| transfer(&source, &target, from, to, count));
    signal_broken_pipe(context, &target, result)
}

/// splice(2): one side must be a pipe. Errors: `EAGAIN`, `EBADF`, `EINVAL`, `ESPIPE`.
pub fn splice(
    context: &mut Context<'_>,
    source: Fd,
    source_offset: UserPtr<i64>,
    target: Fd,
    target_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !SPLICE_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let (source, target) = (context.file(source)?, context.file(target)?);
    let is_pipe = |file: &File| file.operations_as::<PipeEnd>().is_some();
    if !is_pipe(&source) && !is_pipe(&target) {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (Offset::read(source_offset, &source)?, Offset::read(target_offset, &target)?);
    if !is_pipe(&target) {
        refuse_appending(&target)?;
    }
    let result = limit_to_pipes(&source, &target, count, flags & SPLICE_F_NONBLOCK != 0)
        .and_then(|count| transfer(&source, &target, from, to, count));
    signal_broken_pipe(context, &target, result)
}

/// tee(2): what is in one pipe is put into another as well; the pages are shared. Errors: `EAGAIN`, `EBADF`, `EINVAL`, `ENOMEM`.
pub fn tee(context: &mut Context<'_>, source: Fd, target: Fd, count: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if count == 0 {
        return Ok(0);
    }
    let (source, target) = (context.file(source)?, context.file(target)?);
    source.check_readable()?;
    target.check_writable()?;
    let pipe = |file: &File| file.operations_arc::<PipeEnd>().ok_or(Errno::EINVAL);
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0 || source.is_nonblocking() || target.is_nonblocking();
    let result = pipe(&source)?.pipe().tee(pipe(&target)?.pipe(), count, nonblocking);
    signal_broken_pipe(context, &target, result)
}

/// vmsplice(2): memory into a pipe, or out of one. The bytes are copied, so that `SPLICE_F_GIFT` changes nothing.
///
/// Errors: `EAGAIN`, `EBADF`, `EFAULT`, `EINVAL`, `ENOMEM`, `EPIPE`.
pub fn vmsplice(
    context: &mut Context<'_>,
    fd: Fd,
    vector: UserPtr<IoVec>,
    count: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !SPLICE_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let file = context.file(fd)?;
    let end = file.operations_arc::<PipeEnd>().ok_or(Errno::EBADF)?;
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0 || file.is_nonblocking();
    let buffer = UserBuffer::from_iovec(vector, count)?;
    if file.flags().writes() {
        signal_broken_pipe(
            context,
            &file,
            end.pipe().write(&mut UserReader(buffer), nonblocking, Framing::Stream),
        )
    } else {
        end.pipe().read(&mut UserWriter(buffer), nonblocking)
    }
}

/// readahead(2): starts reading, does not wait. Errors: `EBADF`, `EINVAL`.
pub fn readahead(context: &mut Context<'_>, fd: Fd, offset: i64, count: usize) -> Result<usize> {
    let file = context.file(fd)?;
    file.check_readable()?;
    let inode = file.inode()?;
    if !matches!(inode.kind(), FileKind::Regular | FileKind::BlockDevice) {
        return Err(Errno::EINVAL);
    }
    let start = offset_of(offset)?;
    if let Some(cache) = file.page_cache() {
        cache.will_need(start..start.saturating_add(count as u64));
    }
    Ok(0)
}

/// sync_file_range(2): data only, and not the device's cache. Errors: `EBADF`, `EINVAL`, `EIO`, `ENOSPC`, `ESPIPE`.
pub fn sync_file_range(
    context: &mut Context<'_>,
    fd: Fd,
    offset: i64,
    length: i64,
    flags: u32,
) -> Result<usize> {
    const KNOWN: u32 = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if flags & !KNOWN != 0 || offset < 0 || length < 0 || offset.checked_add(length).is_none() {
        return Err(Errno::EINVAL);
    }
    let file = context.file(fd)?;
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    match file.inode()?.kind() {
        FileKind::Regular | FileKind::BlockDevice | FileKind::Directory | FileKind::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    let Some(cache) = file.page_cache() else { return Ok(0) };
    let start = offset as u64;
    let end = if length == 0 { u64::MAX } else { start + length as u64 };
    if flags & SYNC_FILE_RANGE_WAIT_BEFORE != 0 {
        cache.wait(start..end);
        file.take_write_error()?;
    }
    if flags & SYNC_FILE_RANGE_WRITE != 0 {
        let mode = if flags & SYNC_FILE_RANGE_WAIT_AFTER != 0 {
            WriteBackMode::Sync
        } else {
            WriteBackMode::Background
        };
        cache.start_write_back(start..end, mode)?;
    }
    if flags & SYNC_FILE_RANGE_WAIT_AFTER != 0 {
        cache.wait(start..end);
        file.take_write_error()?;
    }
    Ok(0)
}

/// copy_file_range(2). Errors: `EBADF`, `EFBIG`, `EINVAL`, `EISDIR`, `ENOSPC`, `EXDEV`.
pub fn copy_file_range(
    context: &mut Context<'_>,
    source: Fd,
    source_offset: UserPtr<i64>,
    target: Fd,
    target_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (source, target) = (context.file(source)?, context.file(target)?);
    source.check_readable()?;
    target.check_writable()?;
    for file in [&source, &target] {
        match file.inode()?.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if target.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let (from, to) = (Offset::read(source_offset, &source)?, Offset::read(target_offset, &target)?);
    let start = |offset: &Offset, file: &File| offset.value.unwrap_or_else(|| file.position());
    let (a, b) = (start(&from, &source), start(&to, &target));
    let same = source.inode()?.is_same(target.inode()?);
    if same && a < b.saturating_add(count as u64) && b < a.saturating_add(count as u64) {
        return Err(Errno::EINVAL);
    }
    transfer(&source, &target, from, to, count)
}
