//! Small values that everything in the crate talks in: kinds of file, device numbers, times, status.
//!
//! Key types: [`FileKind`], [`DeviceId`], [`Timestamp`], [`FileStatus`], [`AccessMask`]. No locks.

use abi::stat::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK};
use bitflags::bitflags;
use security::{Kgid, Kuid};

/// The longest path, with its NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// The longest name of one component (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// What kind of file an inode is; fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names of other files.
    Directory,
    /// A path to go on with.
    Symlink,
    /// A character device node.
    CharDevice,
    /// A block device node.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A named socket.
    Socket,
}

impl FileKind {
    /// The kind in the `S_IFMT` bits of a mode; `None` for a value that means nothing.
    pub const fn from_mode(mode: u32) -> Option<FileKind> {
        Some(match mode & S_IFMT {
            S_IFREG => FileKind::Regular,
            S_IFDIR => FileKind::Directory,
            S_IFLNK => FileKind::Symlink,
            S_IFCHR => FileKind::CharDevice,
            S_IFBLK => FileKind::BlockDevice,
            S_IFIFO => FileKind::Fifo,
            S_IFSOCK => FileKind::Socket,
            _ => return None,
        })
    }

    /// Its `S_IFMT` bits.
    pub const fn mode_bits(self) -> u32 {
        match self {
            FileKind::Regular => S_IFREG,
            FileKind::Directory => S_IFDIR,
            FileKind::Symlink => S_IFLNK,
            FileKind::CharDevice => S_IFCHR,
            FileKind::BlockDevice => S_IFBLK,
            FileKind::Fifo => S_IFIFO,
            FileKind::Socket => S_IFSOCK,
        }
    }

    /// Its `DT_*` number in a directory listing.
    pub const fn directory_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A device number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct DeviceId {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceId {
    /// The device with these numbers.
    pub const fn new(major: u32, minor: u32) -> DeviceId {
        DeviceId { major, minor }
    }

    /// As `stat` and `mknod` pack it.
    pub const fn encode(self) -> u64 {
        abi::stat::encode_device(self.major, self.minor)
    }

    /// From the packed form.
    pub const fn decode(device: u64) -> DeviceId {
        let (major, minor) = abi::stat::decode_device(device);
        DeviceId { major, minor }
    }
}

/// A point in time since 1970 UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest, below 10^9.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The wall clock.
    pub fn now() -> Timestamp {
        Timestamp::from_ns(sched::clock::realtime_ns())
    }

    /// From nanoseconds since 1970.
    pub const fn from_ns(ns: u64) -> Timestamp {
        Timestamp { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
    }
}

/// Which times a file system can keep. What it is given beyond that is cut at once, so that what stat(2) tells does not change
/// when the inode has left the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeLimits {
    /// It keeps no nanoseconds.
    pub whole_seconds: bool,
    /// The first second.
    pub first: i64,
    /// The last second.
    pub last: i64,
}

impl TimeLimits {
    /// Every time there is.
    pub const NONE: TimeLimits = TimeLimits { whole_seconds: false, first: i64::MIN, last: i64::MAX };

    /// The nearest time that is kept and not later, or the first one; as Linux's, the first and the last second have no nanoseconds.
    #[inline]
    pub fn fit(&self, time: Timestamp) -> Timestamp {
        let seconds = time.seconds.clamp(self.first, self.last);
        let whole = self.whole_seconds || seconds == self.first || seconds == self.last;
        Timestamp { seconds, nanoseconds: if whole { 0 } else { time.nanoseconds } }
    }
}

/// The four times of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Last read.
    pub accessed: Timestamp,
    /// Last change of the contents.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Birth.
    pub created: Timestamp,
}

impl Times {
    /// All of them now.
    pub fn now() -> Times {
        let now = Timestamp::now();
        Times { accessed: now, modified: now, changed: now, created: now }
    }

    /// All of them within limits.
    #[inline]
    pub fn fit(&self, limits: &TimeLimits) -> Times {
        Times {
            accessed: limits.fit(self.accessed),
            modified: limits.fit(self.modified),
            changed: limits.fit(self.changed),
            created: limits.fit(self.created),
        }
    }
}

/// What stat(2) and statx(2) tell, before identifiers are mapped for the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStatus {
    /// Device of the file system.
    pub device: DeviceId,
    /// Inode number.
    pub inode_number: u64,
    /// Kind and permissions, as `st_mode`.
    pub mode: u32,
    /// Number of names.
    pub link_count: u32,
    /// Owner.
    pub uid: Kuid,
    /// Group.
    pub gid: Kgid,
    /// The device that a device node stands for.
    pub special_device: DeviceId,
    /// Bytes.
    pub size: u64,
    /// Preferred size of a transfer, bytes.
    pub block_size: u32,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// The times.
    pub times: Times,
    /// `STATX_MNT_ID`.
    pub mount_id: u64,
    /// It is the root of a mount (`STATX_ATTR_MOUNT_ROOT`).
    pub mount_root: bool,
}

bitflags! {
    /// What one wants to do with a file; the low three bits are those of access(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AccessMask: u32 {
        /// Execute it, or look something up in it.
        const EXECUTE = 1;
        /// Write it.
        const WRITE = 2;
        /// Read it.
        const READ = 4;
        /// Go into it (chdir).
        const CHDIR = 64;
        /// Open it.
        const OPEN = 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip() {
        for kind in [
            FileKind::Regular,
            FileKind::Directory,
            FileKind::Symlink,
            FileKind::CharDevice,
            FileKind::BlockDevice,
            FileKind::Fifo,
            FileKind::Socket,
        ] {
            assert_eq!(FileKind::from_mode(kind.mode_bits() | 0o644), Some(kind));
        }
        assert_eq!(FileKind::Directory.directory_type(), 4);
        assert_eq!(FileKind::Symlink.directory_type(), 10);
        assert_eq!(FileKind::from_mode(0o644), None);
    }

    #[test]
    fn times_split() {
        let time = Timestamp::from_ns(1_500_000_000_123_456_789);
        assert_eq!((time.seconds, time.nanoseconds), (1_500_000_000, 123_456_789));
    }
}
