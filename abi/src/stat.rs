//! File status: `struct stat`, `statx`, mode bits, device numbers.

pub use linux_raw_sys::general::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_IRGRP, S_IROTH, S_IRUSR,
    S_IRWXG, S_IRWXO, S_IRWXU, S_ISGID, S_ISUID, S_ISVTX, S_IWGRP, S_IWOTH, S_IWUSR, S_IXGRP, S_IXOTH,
    S_IXUSR, STATX__RESERVED, STATX_ALL, STATX_ATIME, STATX_ATTR_APPEND, STATX_ATTR_AUTOMOUNT,
    STATX_ATTR_COMPRESSED, STATX_ATTR_DAX, STATX_ATTR_ENCRYPTED, STATX_ATTR_IMMUTABLE, STATX_ATTR_MOUNT_ROOT,
    STATX_ATTR_NODUMP, STATX_ATTR_VERITY, STATX_ATTR_WRITE_ATOMIC, STATX_BASIC_STATS, STATX_BLOCKS,
    STATX_BTIME, STATX_CTIME, STATX_DIO_READ_ALIGN, STATX_DIOALIGN, STATX_GID, STATX_INO, STATX_MNT_ID,
    STATX_MNT_ID_UNIQUE, STATX_MODE, STATX_MTIME, STATX_NLINK, STATX_SIZE, STATX_SUBVOL, STATX_TYPE,
    STATX_UID, STATX_WRITE_ATOMIC,
};

abi_struct! {
    /// `struct stat` of x86-64.
    pub struct Stat: 144 {
        /// Device of the file system, as [`encode_device`] packs it.
        pub st_dev: u64,
        /// Inode number.
        pub st_ino: u64,
        /// Number of hard links.
        pub st_nlink: u64,
        /// Type and permissions.
        pub st_mode: u32,
        /// Owner.
        pub st_uid: u32,
        /// Group.
        pub st_gid: u32,
        /// Explicit padding.
        pub pad0: u32,
        /// Device of a device node.
        pub st_rdev: u64,
        /// Size in bytes.
        pub st_size: i64,
        /// Preferred size of a read or write, bytes.
        pub st_blksize: i64,
        /// Space taken, in 512-byte units.
        pub st_blocks: i64,
        /// Last access, seconds.
        pub st_atime: i64,
        /// Last access, nanoseconds.
        pub st_atime_nsec: u64,
        /// Last change of the data, seconds.
        pub st_mtime: i64,
        /// Last change of the data, nanoseconds.
        pub st_mtime_nsec: u64,
        /// Last change of the inode, seconds.
        pub st_ctime: i64,
        /// Last change of the inode, nanoseconds.
        pub st_ctime_nsec: u64,
        /// Reserved.
        pub reserved: [i64; 3],
    }
}

abi_struct! {
    /// `struct statx_timestamp`.
    pub struct StatxTimestamp: 16 {
        /// Seconds.
        pub tv_sec: i64,
        /// Nanoseconds.
        pub tv_nsec: u32,
        /// Reserved.
        pub reserved: i32,
    }
}

abi_struct! {
    /// `struct statx`.
    pub struct Statx: 256 {
        /// `STATX_*`: which fields are filled.
        pub stx_mask: u32,
        /// Preferred size of a read or write, bytes.
        pub stx_blksize: u32,
        /// `STATX_ATTR_*` that are set.
        pub stx_attributes: u64,
        /// Number of hard links.
        pub stx_nlink: u32,
        /// Owner.
        pub stx_uid: u32,
        /// Group.
        pub stx_gid: u32,
        /// Type and permissions.
        pub stx_mode: u16,
        /// Explicit padding.
        pub spare0: u16,
        /// Inode number.
        pub stx_ino: u64,
        /// Size in bytes.
        pub stx_size: u64,
        /// Space taken, in 512-byte units.
        pub stx_blocks: u64,
        /// `STATX_ATTR_*` that this file system knows.
        pub stx_attributes_mask: u64,
        /// Last access.
        pub stx_atime: StatxTimestamp,
        /// Creation.
        pub stx_btime: StatxTimestamp,
        /// Last change of the inode.
        pub stx_ctime: StatxTimestamp,
        /// Last change of the data.
        pub stx_mtime: StatxTimestamp,
        /// Major number of a device node.
        pub stx_rdev_major: u32,
        /// Minor number of a device node.
        pub stx_rdev_minor: u32,
        /// Major number of the file system's device.
        pub stx_dev_major: u32,
        /// Minor number of the file system's device.
        pub stx_dev_minor: u32,
        /// Mount id.
        pub stx_mnt_id: u64,
        /// Memory alignment of direct I/O.
        pub stx_dio_mem_align: u32,
        /// File offset alignment of direct I/O.
        pub stx_dio_offset_align: u32,
        /// Subvolume.
        pub stx_subvol: u64,
        /// Smallest atomic write.
        pub stx_atomic_write_unit_min: u32,
        /// Largest atomic write.
        pub stx_atomic_write_unit_max: u32,
        /// Largest number of segments of an atomic write.
        pub stx_atomic_write_segments_max: u32,
        /// File offset alignment of direct reads.
        pub stx_dio_read_offset_align: u32,
        /// Largest optimised atomic write.
        pub stx_atomic_write_unit_max_opt: u32,
        /// Reserved.
        pub spare2: u32,
        /// Reserved.
        pub spare3: [u64; 8],
    }
}

/// Packs a device number as `stat` and `mknod` carry it (`new_encode_dev`): 12 bits of major, 20 of minor,
/// the upper 12 bits of the minor above the major.
pub const fn encode_device(major: u32, minor: u32) -> u64 {
    ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)) as u64
}

/// Unpacks what [`encode_device`] packed: `(major, minor)`.
pub const fn decode_device(device: u64) -> (u32, u32) {
    let device = device as u32;
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}
