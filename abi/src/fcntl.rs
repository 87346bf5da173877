//! File descriptors: `open` and `fcntl` flags, `*at` flags, locks, leases, seals, `openat2`.

pub use linux_raw_sys::general::{
    __O_SYNC, __O_TMPFILE, AT_EACCESS, AT_EMPTY_PATH, AT_EXECVE_CHECK, AT_FDCWD, AT_HANDLE_CONNECTABLE,
    AT_HANDLE_FID, AT_HANDLE_MNT_ID_UNIQUE, AT_NO_AUTOMOUNT, AT_RECURSIVE, AT_REMOVEDIR, AT_RENAME_EXCHANGE,
    AT_RENAME_NOREPLACE, AT_RENAME_WHITEOUT, AT_STATX_DONT_SYNC, AT_STATX_FORCE_SYNC, AT_STATX_SYNC_AS_STAT,
    AT_STATX_SYNC_TYPE, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, DN_ACCESS, DN_ATTRIB, DN_CREATE, DN_DELETE,
    DN_MODIFY, DN_MULTISHOT, DN_RENAME, F_ADD_SEALS, F_CANCELLK, F_CREATED_QUERY, F_DUPFD, F_DUPFD_CLOEXEC,
    F_DUPFD_QUERY, F_EXLCK, F_GET_FILE_RW_HINT, F_GET_RW_HINT, F_GET_SEALS, F_GETFD, F_GETFL, F_GETLEASE,
    F_GETLK, F_GETOWN, F_GETOWN_EX, F_GETOWNER_UIDS, F_GETPIPE_SZ, F_GETSIG, F_LINUX_SPECIFIC_BASE, F_NOTIFY,
    F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_OWNER_PGRP, F_OWNER_PID, F_OWNER_TID, F_RDLCK, F_SEAL_EXEC,
    F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, F_SET_FILE_RW_HINT,
    F_SET_RW_HINT, F_SETFD, F_SETFL, F_SETLEASE, F_SETLK, F_SETLKW, F_SETOWN, F_SETOWN_EX, F_SETPIPE_SZ,
    F_SETSIG, F_SHLCK, F_UNLCK, F_WRLCK, FALLOC_FL_ALLOCATE_RANGE, FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_NO_HIDE_STALE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_WRITE_ZEROES, FALLOC_FL_ZERO_RANGE, FASYNC, FD_CLOEXEC, LOCK_EX,
    LOCK_MAND, LOCK_NB, LOCK_READ, LOCK_RW, LOCK_SH, LOCK_UN, LOCK_WRITE, O_ACCMODE, O_APPEND, O_CLOEXEC,
    O_CREAT, O_DIRECT, O_DIRECTORY, O_DSYNC, O_EXCL, O_LARGEFILE, O_NDELAY, O_NOATIME, O_NOCTTY, O_NOFOLLOW,
    O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_SYNC, O_TMPFILE, O_TRUNC, O_WRONLY, PIDFD_SELF_THREAD,
    PIDFD_SELF_THREAD_GROUP, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE, POSIX_FADV_NORMAL, POSIX_FADV_RANDOM,
    POSIX_FADV_SEQUENTIAL, POSIX_FADV_WILLNEED, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT,
    RESOLVE_BENEATH, RESOLVE_CACHED, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV, RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOWAIT, RWF_SYNC, RWF_WRITE_LIFE_NOT_SET,
    RWH_WRITE_LIFE_EXTREME, RWH_WRITE_LIFE_LONG, RWH_WRITE_LIFE_MEDIUM, RWH_WRITE_LIFE_NONE,
    RWH_WRITE_LIFE_NOT_SET, RWH_WRITE_LIFE_SHORT, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_MAX,
    SEEK_SET, SPLICE_F_GIFT, SPLICE_F_MORE, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SYNC_FILE_RANGE_WAIT_AFTER,
    SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, SYNC_FILE_RANGE_WRITE_AND_WAIT,
};

use bitflags::bitflags;

bitflags! {
    /// The flags of `open(2)` and the status flags of an open file. The two access-mode bits are kept in it
    /// unchanged; ask [`OpenFlags::access_mode`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenFlags: u32 {
        /// Open for writing only (access mode 1).
        const WRONLY = O_WRONLY;
        /// Open for reading and writing (access mode 2).
        const RDWR = O_RDWR;
        /// Create the file if it is not there.
        const CREAT = O_CREAT;
        /// With `CREAT`: fail if it is there.
        const EXCL = O_EXCL;
        /// Do not take a terminal as the controlling one.
        const NOCTTY = O_NOCTTY;
        /// Cut the file to nothing.
        const TRUNC = O_TRUNC;
        /// Every write goes to the end.
        const APPEND = O_APPEND;
        /// Do not block.
        const NONBLOCK = O_NONBLOCK;
        /// Data integrity on every write.
        const DSYNC = O_DSYNC;
        /// Signal-driven I/O.
        const ASYNC = FASYNC;
        /// Go round the page cache.
        const DIRECT = O_DIRECT;
        /// Accepted and reported, without meaning on 64 bits.
        const LARGEFILE = O_LARGEFILE;
        /// Fail unless it is a directory.
        const DIRECTORY = O_DIRECTORY;
        /// Fail if the last component is a symbolic link.
        const NOFOLLOW = O_NOFOLLOW;
        /// Do not change the access time.
        const NOATIME = O_NOATIME;
        /// Close on exec (a property of the descriptor).
        const CLOEXEC = O_CLOEXEC;
        /// File integrity on every write, without `DSYNC`'s bit.
        const SYNC_BIT = __O_SYNC;
        /// A handle on a place in the tree only.
        const PATH = O_PATH;
        /// An unnamed file, without `DIRECTORY`'s bit.
        const TMPFILE_BIT = __O_TMPFILE;
        /// The file is being opened to be executed (kernel-internal, `FMODE_EXEC`'s value).
        const EXEC = 0x20;
    }
}

/// How a file may be used, from the two low bits of the open flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    ReadWrite,
    /// Value 3: neither read nor write, but the permissions of both are asked (`open(2)`, "ioctl-only").
    Neither,
}

impl AccessMode {
    /// May one read through a file opened so?
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// May one write through a file opened so?
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

impl OpenFlags {
    /// Open for reading only: no bit at all.
    pub const RDONLY: Self = Self::empty();
    /// `O_SYNC` is two bits.
    pub const SYNC: Self = Self::from_bits_retain(O_SYNC);
    /// `O_TMPFILE` is two bits.
    pub const TMPFILE: Self = Self::from_bits_retain(O_TMPFILE);
    /// What `open(2)` knows; it ignores any other bit, while `openat2(2)` says EINVAL.
    pub const USER_VALID: Self = Self::all().difference(Self::EXEC);
    /// What `fcntl(F_SETFL)` can change here; `O_ASYNC` is ignored, as on Linux by files that cannot signal.
    pub const SETTABLE: Self = Self::APPEND.union(Self::NONBLOCK).union(Self::DIRECT).union(Self::NOATIME);

    /// The access mode in the two low bits.
    pub const fn access_mode(self) -> AccessMode {
        match self.bits() & O_ACCMODE {
            O_RDONLY => AccessMode::Read,
            O_WRONLY => AccessMode::Write,
            O_RDWR => AccessMode::ReadWrite,
            _ => AccessMode::Neither,
        }
    }

    /// May one read through a file opened with these flags?
    pub const fn reads(self) -> bool {
        self.access_mode().reads()
    }

    /// May one write through a file opened with these flags?
    pub const fn writes(self) -> bool {
        self.access_mode().writes()
    }
}

bitflags! {
    /// The flags of the `*at` calls (`AT_*`). Which are allowed depends on the call.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AtFlags: u32 {
        /// Do not follow a symbolic link in the last component.
        const SYMLINK_NOFOLLOW = AT_SYMLINK_NOFOLLOW;
        /// `unlinkat`: as `rmdir`; `faccessat`: use the effective ids.
        const REMOVEDIR_OR_EACCESS = AT_REMOVEDIR;
        /// Follow a symbolic link in the last component (`linkat`).
        const SYMLINK_FOLLOW = AT_SYMLINK_FOLLOW;
        /// Do not trigger an automount.
        const NO_AUTOMOUNT = AT_NO_AUTOMOUNT;
        /// An empty path means the descriptor itself.
        const EMPTY_PATH = AT_EMPTY_PATH;
        /// `statx`: synchronise always.
        const STATX_FORCE_SYNC = AT_STATX_FORCE_SYNC;
        /// `statx`: do not synchronise.
        const STATX_DONT_SYNC = AT_STATX_DONT_SYNC;
        /// Apply to the whole subtree.
        const RECURSIVE = AT_RECURSIVE;
    }
}

bitflags! {
    /// The `resolve` field of `openat2(2)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ResolveFlags: u64 {
        /// Do not cross mount points.
        const NO_XDEV = RESOLVE_NO_XDEV as u64;
        /// No magic links.
        const NO_MAGICLINKS = RESOLVE_NO_MAGICLINKS as u64;
        /// No symbolic links at all.
        const NO_SYMLINKS = RESOLVE_NO_SYMLINKS as u64;
        /// Stay beneath the starting directory.
        const BENEATH = RESOLVE_BENEATH as u64;
        /// The starting directory is the root.
        const IN_ROOT = RESOLVE_IN_ROOT as u64;
        /// Only if no I/O is needed.
        const CACHED = RESOLVE_CACHED as u64;
    }
}

/// `access(2)`: does it exist?
pub const F_OK: u32 = 0;
/// `access(2)`: may it be executed?
pub const X_OK: u32 = 1;
/// `access(2)`: may it be written?
pub const W_OK: u32 = 2;
/// `access(2)`: may it be read?
pub const R_OK: u32 = 4;

abi_struct! {
    /// `struct open_how` of `openat2(2)`.
    pub struct OpenHow: 24 {
        /// `O_*`.
        pub flags: u64,
        /// Mode of a new file.
        pub mode: u64,
        /// `RESOLVE_*`.
        pub resolve: u64,
    }
}

abi_struct! {
    /// `struct flock` of `fcntl(F_SETLK)`.
    pub struct Flock: 32 {
        /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
        pub l_type: i16,
        /// `SEEK_SET`, `SEEK_CUR` or `SEEK_END`.
        pub l_whence: i16,
        /// Explicit padding.
        pub pad0: u32,
        /// First byte.
        pub l_start: i64,
        /// Length; 0 is to the end of the file.
        pub l_len: i64,
        /// Holder (`F_GETLK`).
        pub l_pid: i32,
        /// Explicit padding.
        pub pad1: u32,
    }
}

abi_struct! {
    /// `struct f_owner_ex` of `fcntl(F_SETOWN_EX)`.
    pub struct FOwnerEx: 8 {
        /// `F_OWNER_TID`, `F_OWNER_PID` or `F_OWNER_PGRP`.
        pub kind: i32,
        /// The id.
        pub pid: i32,
    }
}
