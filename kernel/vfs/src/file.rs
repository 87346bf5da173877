//! Open files: what a descriptor refers to, and what can be done with it.
//!
//! Key types: [`File`] (an open file description), [`FileOperations`] (what drivers, pipes, file systems implement).
//! Neighbours: `open` (makes them), `descriptor` (numbers them), `poll`, `readdir`.
//!
//! A regular file needs no allocation beyond the [`File`]: its operations are those of its inode. The offset has a
//! sleeping lock, held over a read or write of a seekable file, as POSIX wants. Order: offset lock → inode lock → page
//! cache.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::ops::Range;

use abi::errno::{Errno, Result};
use abi::fcntl::{F_OWNER_PGRP, F_OWNER_PID, F_OWNER_TID, OpenFlags};
use abi::inotify::{IN_ACCESS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY};
use abi::poll::PollEvents;
use machine::cpu::PerCpu;
use machine::preempt;
use machine::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Lazy, Mutex, Once, SpinLock};
use mm::io::{IoReader, IoWriter};
use mm::page_cache::{MappedFile, ReadAhead, Seen, Sharing};
use mm::{PageCache, Protection};
use security::{Capability, Credentials};

use crate::freeze::Change;
use crate::inode::Inode;
use crate::path::Path;
use crate::poll::PollTable;
use crate::readdir::DirectorySink;
use crate::types::FileKind;

/// Where a seek starts from (`SEEK_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekFrom {
    /// `SEEK_SET`.
    Start(i64),
    /// `SEEK_CUR`.
    Current(i64),
    /// `SEEK_END`.
    End(i64),
    /// `SEEK_DATA`: the next byte that is not in a hole.
    Data(i64),
    /// `SEEK_HOLE`: the next hole.
    Hole(i64),
}

impl SeekFrom {
    /// From the arguments of lseek(2). `EINVAL`.
    pub fn from_linux(offset: i64, whence: u32) -> Result<SeekFrom> {
        Ok(match whence {
            0 => SeekFrom::Start(offset),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            3 => SeekFrom::Data(offset),
            4 => SeekFrom::Hole(offset),
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// The offset of a write that goes to the end, wherever that is when its turn comes (`RWF_APPEND`).
pub const AT_END: u64 = u64::MAX;

/// How an open file treats offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Positioning {
    /// It has an offset that reads and writes advance; pread(2) works.
    Seekable,
    /// No offset at all: `lseek` and `pread` give `ESPIPE` (pipes, sockets, terminals).
    Stream,
    /// No offset either, but `lseek` gives 0 (epoll, eventfd and their like).
    Ignored,
}

/// What happens to the offset at a write that appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// It goes to the new end.
    Follow,
    /// It stays where it is.
    StayBehind,
}

/// What fsync(2) and its like ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncKind {
    /// Data and whatever is needed to read it (`fdatasync`).
    Data,
    /// Everything (`fsync`).
    All,
}

/// What fallocate(2) asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Space within and beyond the size.
    Extend,
    /// Space, but the size stays.
    KeepSize,
    /// A hole.
    PunchHole,
    /// Zeros; the size may grow.
    Zero,
    /// Zeros; the size stays.
    ZeroKeepSize,
    /// What no other file shares, within and beyond the size.
    Unshare,
    /// The same; the size stays.
    UnshareKeepSize,
    /// The range is cut out: what follows moves there.
    Collapse,
    /// A hole, before which what is there moves up.
    Insert,
}

/// What the pieces of the kernel implement for what they open. Offsets are bytes. Defaults are Linux's answers of files
/// that cannot do it.
pub trait FileOperations: Any + Send + Sync {
    /// Reads at `offset` (0 for streams). Gives the bytes read, 0 at the end. `EAGAIN` if the file does not block.
    fn read(&self, file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let _ = (file, to, offset);
        Err(Errno::EINVAL)
    }
    /// Whether reading it is an access of the inode, which then notes when. Linux leaves that to each driver.
    fn read_is_access(&self) -> bool {
        true
    }
    /// Writes at `offset` (ignored by streams; with `O_APPEND` or [`AT_END`] the end counts). Gives the bytes written.
    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let _ = (file, from, offset);
        Err(Errno::EINVAL)
    }
    /// Whether it has an offset.
    fn positioning(&self) -> Positioning {
        Positioning::Seekable
    }
    /// Where a seek leads from the offset `current`. `EINVAL`, `ENXIO`, `EOVERFLOW`.
    fn seek(&self, file: &File, from: SeekFrom, current: u64) -> Result<u64> {
        generic_seek(file, from, current)
    }
    /// A device's own call. `ENOTTY`: it has no such.
    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        let _ = (file, command, argument);
        Err(Errno::ENOTTY)
    }
    /// What it is ready for; registers the queues first. The default is always ready.
    fn poll(&self, file: &File, table: &mut PollTable<'_>) -> PollEvents {
        let _ = (file, table);
        PollEvents::READABLE | PollEvents::WRITABLE
    }
    /// Whether poll and epoll can wait for it (epoll_ctl(2) gives `EPERM` for regular files and directories).
    fn can_poll(&self) -> bool {
        true
    }
    /// Gives entries to `sink` from `position` on, until it is full; gives the position to go on from. `ENOTDIR`.
    fn read_directory(&self, file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
        let _ = (file, sink, position);
        Err(Errno::ENOTDIR)
    }
    /// What mmap(2) maps. `ENODEV`: cannot be mapped. The default maps the page cache of the inode, if it has one.
    fn map(&self, file: &Arc<File>) -> Result<Arc<dyn MappedFile>> {
        crate::mapping::map_page_cache(file)
    }
    /// A last word before the file is mapped. Errors: whatever mmap(2) should then return.
    fn may_map(&self, file: &File, protection: Protection, sharing: Sharing) -> Result<()> {
        let _ = (file, protection, sharing);
        Ok(())
    }
    /// The pages that reads and writes go through, for advice, write-back and its errors. The default is the inode's; a block device
    /// has its own.
    fn page_cache<'a>(&'a self, file: &'a File) -> Option<&'a Arc<PageCache>> {
        file.inode().ok()?.operations().page_cache()
    }
    /// Writes to the device. `EINVAL`: nothing there that could be written.
    fn sync(&self, file: &File, kind: SyncKind) -> Result<()> {
        let _ = (file, kind);
        Err(Errno::EINVAL)
    }
    /// The same for `range` of bytes: after a write with `O_DSYNC` or `O_SYNC`, msync(2). The default writes everything.
    fn sync_range(&self, file: &File, kind: SyncKind, range: Range<u64>) -> Result<()> {
        let _ = range;
        self.sync(file, kind)
    }
    /// fallocate(2) on `length` bytes at `offset`; the end is within the largest size. A change of the file system is under way. `EOPNOTSUPP`.
    fn allocate(&self, file: &File, what: Allocate, offset: u64, length: u64) -> Result<()> {
        let _ = (file, what, offset, length);
        Err(Errno::EOPNOTSUPP)
    }
    /// What swap space lies on that is this file (swapon(2)): its device, or its blocks, which stay where they are and are nobody else's until the
    /// store is dropped. `EINVAL`: it cannot be that.
    fn swap_store(&self, file: &File) -> Result<Arc<dyn mm::swap::SwapStore>> {
        let _ = file;
        Err(Errno::EINVAL)
    }
    /// A descriptor of it is closed; its error is close(2)'s.
    fn flush(&self, file: &File) -> Result<()> {
        let _ = file;
        Ok(())
    }
    /// The last reference is gone.
    fn release(&self, file: &File) {
        let _ = file;
    }
    /// `F_SETFL` is about to change the status flags. `EINVAL`, `EPERM`.
    fn check_flags(&self, file: &File, new: OpenFlags) -> Result<()> {
        let _ = (file, new);
        Ok(())
    }
    /// Lines of its own in `/proc/PID/fdinfo/N`.
    fn show_fdinfo(&self, file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let _ = (file, out);
        Ok(())
    }
}

/// The operations of what cannot be read, written or anything else (`O_PATH`, sockets' inodes).
pub struct NoOperations;

impl FileOperations for NoOperations {
    fn can_poll(&self) -> bool {
        false
    }
}

/// What kind of thing a [`SignalOwner`] names (`F_OWNER_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OwnerKind {
    /// A thread.
    Thread,
    /// A process.
    #[default]
    Process,
    /// A process group.
    Group,
}

/// Who is to be told by a signal (`F_SETOWN`), and by which (`F_SETSIG`).
#[derive(Clone, Copy, Default)]
pub struct SignalOwner {
    /// What `id` is.
    pub kind: OwnerKind,
    /// Its number; 0 for nobody.
    pub id: i32,
    /// Signal to send; 0 is `SIGIO`.
    pub signal: u32,
}

impl SignalOwner {
    /// `F_SETOWN`'s number: positive a process, negative a group. `EINVAL`.
    pub fn from_number(number: i32) -> Result<SignalOwner> {
        let kind = if number < 0 { OwnerKind::Group } else { OwnerKind::Process };
        Ok(SignalOwner { kind, id: number.checked_abs().ok_or(Errno::EINVAL)?, signal: 0 })
    }

    /// `F_GETOWN`'s number.
    pub fn as_number(&self) -> i32 {
        if self.kind == OwnerKind::Group { -self.id } else { self.id }
    }

    /// The fields of `struct f_owner_ex`. `EINVAL`.
    pub fn from_kind_and_id(kind: i32, id: i32) -> Result<SignalOwner> {
        let kind = match u32::try_from(kind) {
            Ok(F_OWNER_TID) => OwnerKind::Thread,
            Ok(F_OWNER_PID) => OwnerKind::Process,
            Ok(F_OWNER_PGRP) => OwnerKind::Group,
            _ => return Err(Errno::EINVAL),
        };
        if id < 0 { Err(Errno::EINVAL) } else { Ok(SignalOwner { kind, id, signal: 0 }) }
    }

    /// The same, back.
    pub fn as_kind_and_id(&self) -> (i32, i32) {
        let kind = match self.kind {
            OwnerKind::Thread => F_OWNER_TID,
            OwnerKind::Process => F_OWNER_PID,
            OwnerKind::Group => F_OWNER_PGRP,
        };
        (kind as i32, self.id)
    }
}

/// How many descriptions there are, one count for each CPU: what one makes another may drop.
static OPEN_FILES: Lazy<PerCpu<AtomicI64>> = Lazy::new(|| PerCpu::new_with(|_| AtomicI64::new(0)));

fn count_file(change: i64) {
    let guard = preempt::disable();
    OPEN_FILES.get(&guard).fetch_add(change, Ordering::Relaxed);
}

/// How many descriptions are open in the system (`/proc/sys/fs/file-nr`).
pub fn open_files() -> usize {
    let sum: i64 = OPEN_FILES.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum();
    usize::try_from(sum).unwrap_or(0)
}

/// The most there may be; 0 until it is set.
static MAX_OPEN_FILES: AtomicUsize = AtomicUsize::new(0);
/// Linux's `NR_FILE`: the least that `file-max` begins with.
const LEAST_MAX_OPEN_FILES: usize = 8192;

/// `/proc/sys/fs/file-max`: at first a tenth of memory at a KiB for each, as in Linux.
pub fn max_open_files() -> usize {
    match MAX_OPEN_FILES.load(Ordering::Relaxed) {
        0 => {
            (machine::memory::stats().total_pages * machine::PAGE_SIZE / 1024 / 10).max(LEAST_MAX_OPEN_FILES)
        }
        set => set,
    }
}

/// Sets `/proc/sys/fs/file-max`.
pub fn set_max_open_files(max: usize) {
    MAX_OPEN_FILES.store(max.max(1), Ordering::Relaxed);
}

/// Whether one more description may be opened. `ENFILE`: there are `file-max`, and the caller is not privileged.
pub fn check_open_files(credentials: &Credentials) -> Result<()> {
    let full = !credentials.has(Capability::SysAdmin) && open_files() >= max_open_files();
    if full { Err(Errno::ENFILE) } else { Ok(()) }
}

/// An open file description.
pub struct File {
    path: Path,
    operations: Option<Arc<dyn FileOperations>>,
    flags: AtomicU32,
    position: AtomicU64,
    position_lock: Mutex<()>,
    /// A file lock of some kind was taken through it: closing has to look.
    locked: AtomicBool,
    counted: Counted,
    /// It keeps the contents of its inode ([`Inode::hold`]).
    holds: bool,
    credentials: Arc<Credentials>,
    owner: Once<Box<SpinLock<SignalOwner>>>,
    read_ahead: ReadAhead,
    /// The errors of write-back that were told through it, of the file and of the file system.
    seen: Seen,
    seen_of_superblock: Seen,
}

/// What the description counts as in its inode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Not,
    Reader,
    Writer,
}

impl File {
    /// Opens the inode at `path` for the description to be. Permissions have been checked, and for a writer the mount's
    /// and inode's write counts were taken; this takes them over.
    pub(crate) fn open(path: Path, flags: OpenFlags, credentials: &Arc<Credentials>) -> Result<Arc<File>> {
        let inode = path.inode()?.clone();
        let counted = if flags.writes() && inode.kind() == FileKind::Regular {
            Counted::Writer
        } else {
            Counted::Reader
        };
        let mut file = File::with(path, flags, credentials.clone());
        file.counted = counted;
        file.hold(&inode)?;
        // Only the opening of a terminal looks at the one, and of a disk at the other.
        file.flags.fetch_or((flags & OpenFlags::EXCL).bits(), Ordering::Relaxed);
        file.operations = crate::open::open_operations(&inode, &file)?;
        if let Some(errors) = file.page_cache().and_then(|cache| cache.errors()) {
            errors.sample(&file.seen);
        }
        inode.superblock().errors().sample(&file.seen_of_superblock);
        let seen = OpenFlags::NOCTTY | OpenFlags::EXCL;
        file.flags.fetch_and(!seen.bits(), Ordering::Relaxed);
        Ok(Arc::new(file))
    }

    /// A description of something that is in no directory, with its own operations.
    pub fn new(
        path: Path,
        operations: Arc<dyn FileOperations>,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Arc<File> {
        let mut file = File::with(path, flags, credentials.clone());
        file.operations = Some(operations);
        Arc::new(file)
    }

    /// A handle on a place only (`O_PATH`).
    pub(crate) fn new_place(
        path: Path,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<File>> {
        let inode = path.inode()?.clone();
        let mut file = File::with(path, flags, credentials.clone());
        file.hold(&inode)?;
        Ok(Arc::new(file))
    }

    fn hold(&mut self, inode: &Inode) -> Result<()> {
        inode.hold()?;
        self.holds = true;
        Ok(())
    }

    fn with(path: Path, flags: OpenFlags, credentials: Arc<Credentials>) -> File {
        count_file(1);
        let dropped = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::TRUNC;
        File {
            path,
            operations: None,
            flags: AtomicU32::new((flags - dropped - OpenFlags::CLOEXEC - OpenFlags::EXEC).bits()),
            position: AtomicU64::new(0),
            position_lock: Mutex::new(()),
            locked: AtomicBool::new(false),
            counted: Counted::Not,
            holds: false,
            credentials,
            owner: Once::new(),
            read_ahead: ReadAhead::new(),
            seen: Seen::new(),
            seen_of_superblock: Seen::new(),
        }
    }

    /// Where it was opened.
    #[inline]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// What it is open on. (A description is never on a negative dentry; `ENOENT` would say so.)
    #[inline]
    pub fn inode(&self) -> Result<&Arc<Inode>> {
        self.path.inode()
    }
    /// Who opened it.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }
    /// Status flags and access mode, as `F_GETFL` tells them.
    #[inline]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
    /// Whether calls on it must not block.
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }
    /// Whether it is a handle on a place only.
    #[inline]
    pub fn is_place(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }
    /// Its operations.
    #[inline]
    pub fn operations(&self) -> &dyn FileOperations {
        match &self.operations {
            Some(operations) => &**operations,
            None if self.is_place() => &NoOperations,
            None => match self.path.dentry.inode() {
                Some(inode) => inode.operations().file_operations(),
                None => &NoOperations,
            },
        }
    }
    /// The operations of its own as the given type (how `epoll`, `signalfd` and others find their own files).
    pub fn operations_as<T: FileOperations>(&self) -> Option<&T> {
        let any: &dyn Any = &**self.operations.as_ref()?;
        any.downcast_ref()
    }
    /// The same, counted.
    pub fn operations_arc<T: FileOperations>(&self) -> Option<Arc<T>> {
        let any: Arc<dyn Any + Send + Sync> = self.operations.clone()?;
        any.downcast().ok()
    }

    /// `EBADF` unless open for reading.
    pub fn check_readable(&self) -> Result<()> {
        let flags = self.flags();
        if flags.reads() && !flags.contains(OpenFlags::PATH) { Ok(()) } else { Err(Errno::EBADF) }
    }
    /// `EBADF` unless open for writing.
    pub fn check_writable(&self) -> Result<()> {
        let flags = self.flags();
        if flags.writes() && !flags.contains(OpenFlags::PATH) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// The offset now.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Whether it has an offset.
    pub fn is_seekable(&self) -> bool {
        self.operations().positioning() == Positioning::Seekable
    }

    /// read(2): at the offset, which advances.
    pub fn read(&self, to: &mut dyn IoWriter) -> Result<usize> {
        self.check_readable()?;
        let operations = self.operations();
        if operations.positioning() != Positioning::Seekable {
            return self.finish_read(operations, operations.read(self, to, 0));
        }
        let _position = self.position_lock.lock();
        let position = self.position();
        let count = self.finish_read(operations, operations.read(self, to, position))?;
        self.position.store(position + count as u64, Ordering::Relaxed);
        Ok(count)
    }

    /// pread(2): at `offset`. `ESPIPE`: it has no offset.
    pub fn read_at(&self, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        self.check_seekable()?;
        self.check_readable()?;
        let operations = self.operations();
        self.finish_read(operations, operations.read(self, to, offset))
    }

    fn finish_read(&self, operations: &dyn FileOperations, result: Result<usize>) -> Result<usize> {
        if operations.read_is_access() && !self.flags().contains(OpenFlags::NOATIME) {
            crate::attributes::touch_accessed(&self.path);
        }
        self.notify_moved(result, IN_ACCESS)
    }

    /// Bytes were read or written.
    #[inline]
    fn notify_moved(&self, result: Result<usize>, what: u32) -> Result<usize> {
        if result.is_ok_and(|count| count > 0) {
            crate::notify::at(&self.path, what);
        }
        result
    }

    /// Bytes were written to a seekable file: `O_SYNC` and `O_DSYNC` have them on the device before the call returns.
    fn finish_write(&self, result: Result<usize>, offset: u64) -> Result<usize> {
        let count = self.notify_moved(result, IN_MODIFY)?;
        let flags = self.flags();
        if flags.contains(OpenFlags::DSYNC) && self.operations().positioning() == Positioning::Seekable {
            let kind = if flags.contains(OpenFlags::SYNC) { SyncKind::All } else { SyncKind::Data };
            self.sync_written(kind, offset, count)?;
        }
        Ok(count)
    }

    /// What a write of `count` bytes at `offset` ([`AT_END`] if that is not known) has written is on the device. Errors: as [`sync`](Self::sync).
    pub fn sync_written(&self, kind: SyncKind, offset: u64, count: usize) -> Result<()> {
        if count == 0 || self.page_cache().is_none() {
            return Ok(());
        }
        // Others may have appended since.
        let unknown = offset == AT_END || self.flags().contains(OpenFlags::APPEND);
        let range = if unknown { 0..u64::MAX } else { offset..offset.saturating_add(count as u64) };
        self.sync_range(kind, range)
    }

    /// Of `range` of bytes, what [`sync`](Self::sync) does. Errors: as there.
    pub fn sync_range(&self, kind: SyncKind, range: Range<u64>) -> Result<()> {
        let result = self.operations().sync_range(self, kind, range);
        let seen = self.take_write_error();
        result.and(seen)
    }

    /// Writes at a place, not while the file system is frozen.
    fn write_seekable(&self, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let result = {
            let _change = self.begin_change();
            self.operations().write(self, from, offset)
        };
        self.finish_write(result, offset)
    }

    /// Begins a change of the file's contents, if it is one of a file system.
    fn begin_change(&self) -> Option<Change<'_>> {
        let inode = self.path.dentry.inode().filter(|inode| inode.kind() == FileKind::Regular)?;
        Some(inode.superblock().begin_change())
    }

    /// fallocate(2), on a regular file that is open to be written. Errors: `EOPNOTSUPP`, `EFBIG`, `ENOSPC`, `EPERM`, `EINVAL`, `ETXTBSY`.
    pub fn allocate(&self, what: Allocate, offset: u64, length: u64) -> Result<()> {
        let _change = self.begin_change();
        self.operations().allocate(self, what, offset, length)?;
        crate::notify::at(&self.path, IN_MODIFY);
        Ok(())
    }

    /// write(2): at the offset, which advances; at the end with `O_APPEND`.
    pub fn write(&self, from: &mut dyn IoReader) -> Result<usize> {
        self.check_writable()?;
        let operations = self.operations();
        if operations.positioning() != Positioning::Seekable {
            return self.notify_moved(operations.write(self, from, 0), IN_MODIFY);
        }
        let _position = self.position_lock.lock();
        let position = self.position();
        let count = self.write_seekable(from, position)?;
        let end = match self.inode() {
            Ok(inode) if self.flags().contains(OpenFlags::APPEND) && inode.kind() == FileKind::Regular => {
                inode.size()
            }
            _ => position + count as u64,
        };
        self.position.store(end, Ordering::Relaxed);
        Ok(count)
    }

    /// pwrite(2): at `offset` (at the end with `O_APPEND`, as Linux does). `ESPIPE`: it has no offset.
    pub fn write_at(&self, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        self.check_seekable()?;
        self.check_writable()?;
        self.write_seekable(from, offset)
    }

    /// pwritev2(2) with `RWF_APPEND`: at the end, as if opened with `O_APPEND`; a stream is just written to.
    pub fn append(&self, from: &mut dyn IoReader, offset: Appended) -> Result<usize> {
        self.check_writable()?;
        let operations = self.operations();
        if operations.positioning() != Positioning::Seekable {
            return if offset == Appended::Follow {
                operations.write(self, from, 0)
            } else {
                Err(Errno::ESPIPE)
            };
        }
        let _position = self.position_lock.lock();
        let count = self.write_seekable(from, AT_END)?;
        if offset == Appended::Follow {
            self.position.store(self.inode()?.size(), Ordering::Relaxed);
        }
        Ok(count)
    }

    fn check_seekable(&self) -> Result<()> {
        if self.is_place() {
            return Err(Errno::EBADF);
        }
        if self.is_seekable() { Ok(()) } else { Err(Errno::ESPIPE) }
    }

    /// lseek(2). `ESPIPE`, `EINVAL`, `ENXIO`, `EOVERFLOW`.
    pub fn seek(&self, from: SeekFrom) -> Result<u64> {
        if self.operations().positioning() == Positioning::Ignored {
            return Ok(0);
        }
        self.check_seekable()?;
        let _position = self.position_lock.lock();
        let position = self.operations().seek(self, from, self.position())?;
        self.position.store(position, Ordering::Relaxed);
        Ok(position)
    }

    /// getdents64(2): entries from the offset on, which advances. `ENOTDIR`; `ENOENT` in a removed directory.
    pub fn read_directory(&self, sink: &mut dyn DirectorySink) -> Result<()> {
        if self.is_place() {
            return Err(Errno::EBADF);
        }
        crate::readdir::read_directory(self, &self.position_lock, &self.position, sink)
    }

    /// `F_SETFL`: changes the status flags that can be changed. `EPERM`, `EINVAL`.
    pub fn set_flags(&self, new: OpenFlags) -> Result<()> {
        if self.is_place() {
            return Err(Errno::EBADF);
        }
        let old = self.flags();
        let inode = self.inode()?;
        let gains_noatime = new.contains(OpenFlags::NOATIME) && !old.contains(OpenFlags::NOATIME);
        if gains_noatime && !crate::permission::is_owner_or_capable(inode, &self.credentials) {
            return Err(Errno::EPERM);
        }
        self.operations().check_flags(self, new)?;
        let kept = old - OpenFlags::SETTABLE;
        self.flags.store((kept | new & OpenFlags::SETTABLE).bits(), Ordering::Relaxed);
        Ok(())
    }

    /// `FIONBIO`: sets or clears `O_NONBLOCK` alone.
    pub fn set_nonblocking(&self, on: bool) {
        let bit = OpenFlags::NONBLOCK.bits();
        if on {
            self.flags.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// The pages that reads and writes of it go through, if there are such.
    pub fn page_cache(&self) -> Option<&Arc<PageCache>> {
        self.operations().page_cache(self)
    }

    /// What is read ahead of it: for [`mm::PageCache::read_ahead_of`].
    pub fn read_ahead(&self) -> &ReadAhead {
        &self.read_ahead
    }

    /// The error of write-back that this description has not been told yet; from now on it has.
    ///
    /// Errors: `EIO`, `ENOSPC` and the like.
    pub fn take_write_error(&self) -> Result<()> {
        self.page_cache().map_or(Ok(()), |cache| cache.error_since(&self.seen))
    }

    /// fsync(2): everything written is on the device, or what failed since this description was last told. Errors: `EINVAL`, `EIO`,
    /// `ENOSPC`, `EROFS`.
    pub fn sync(&self, kind: SyncKind) -> Result<()> {
        if self.is_place() {
            return Err(Errno::EBADF);
        }
        let result = self.operations().sync(self, kind);
        let seen = self.take_write_error();
        result.and(seen)
    }

    /// syncfs(2): the same for the whole file system. Errors: `EIO` and the like.
    pub fn sync_file_system(&self) -> Result<()> {
        if self.is_place() {
            return Err(Errno::EBADF);
        }
        let superblock = self.inode()?.superblock();
        let result = superblock.sync();
        let seen = superblock.errors().check_and_advance(&self.seen_of_superblock);
        result.and(seen)
    }

    /// Who gets `SIGIO`.
    pub fn signal_owner(&self) -> SignalOwner {
        self.owner.get().map(|owner| *owner.lock()).unwrap_or_default()
    }
    /// Sets who gets `SIGIO`.
    pub fn set_signal_owner(&self, owner: SignalOwner) {
        *self.owner.get_or_init(|| Box::new(SpinLock::new(SignalOwner::default()))).lock() = owner;
    }

    pub(crate) fn note_locked(&self) {
        self.locked.store(true, Ordering::Release);
    }
    pub(crate) fn may_hold_locks(&self) -> bool {
        self.locked.load(Ordering::Acquire)
    }

    /// Whether the mount forbids running programs from it (`noexec`), or it is no regular file.
    pub fn is_executable_here(&self) -> bool {
        let regular = self.inode().is_ok_and(|inode| inode.kind() == FileKind::Regular);
        regular && !self.path.mount.is_noexec()
    }

    /// Whether its opener has the capability in the file system's user namespace.
    pub fn opener_capable(&self, capability: Capability) -> bool {
        self.inode()
            .is_ok_and(|inode| self.credentials.capable(inode.superblock().user_namespace(), capability))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        count_file(-1);
        if self.counted != Counted::Not {
            let what = if self.flags().writes() { IN_CLOSE_WRITE } else { IN_CLOSE_NOWRITE };
            crate::notify::at(&self.path, what);
        }
        if let Some(operations) = &self.operations {
            operations.release(self);
        } else if self.counted != Counted::Not {
            self.operations().release(self);
        }
        let Some(inode) = self.path.dentry.inode() else { return };
        if self.may_hold_locks() {
            crate::locks::release_file(inode, self);
        }
        if self.counted == Counted::Writer {
            inode.end_write();
            self.path.mount.end_write();
        }
        if self.holds {
            inode.release();
        }
    }
}

/// A description of a program that runs or is about to: while it lives, the file cannot be written.
///
/// It is not the description itself that forbids, because mappings of the program keep that alive after the program's end.
pub struct Program {
    file: Arc<File>,
    inode: Arc<Inode>,
}

impl Program {
    /// Forbids writing. `ETXTBSY`: someone has the file open for writing.
    pub fn new(file: Arc<File>) -> Result<Arc<Program>> {
        let inode = file.inode()?.clone();
        inode.deny_write()?;
        Ok(Arc::new(Program { file, inode }))
    }

    /// The description.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.inode.end_deny_write();
    }
}

/// lseek(2) on something that has a size. `EINVAL`: negative or beyond what files can be; `ENXIO`: no data or hole there.
pub fn generic_seek(file: &File, from: SeekFrom, current: u64) -> Result<u64> {
    let inode = file.inode()?;
    let cache = inode.operations().page_cache();
    let (base, offset) = match from {
        SeekFrom::Start(offset) => (0, offset),
        SeekFrom::Current(offset) => (current as i64, offset),
        SeekFrom::End(offset) => (inode.size() as i64, offset),
        SeekFrom::Data(offset) | SeekFrom::Hole(offset) => {
            let size = inode.size();
            let offset = u64::try_from(offset).ok().filter(|at| *at < size).ok_or(Errno::ENXIO)?;
            return match (from, cache) {
                (SeekFrom::Data(_), Some(cache)) => cache.seek_data(offset).ok_or(Errno::ENXIO),
                (SeekFrom::Data(_), None) => Ok(offset),
                (_, Some(cache)) => Ok(cache.seek_hole(offset).unwrap_or(size)),
                (_, None) => Ok(size),
            };
        }
    };
    let position = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    if position > inode.superblock().max_file_size() {
        return Err(Errno::EINVAL);
    }
    Ok(position)
}
