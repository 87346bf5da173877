//! File systems: `statfs`, magic numbers, limits, inode flags.

pub use linux_raw_sys::general::{
    AAFS_MAGIC, ADFS_SUPER_MAGIC, AFFS_SUPER_MAGIC, AFS_FS_MAGIC, AFS_SUPER_MAGIC, ANON_INODE_FS_MAGIC,
    ARG_MAX, AUTOFS_SUPER_MAGIC, BCACHEFS_SUPER_MAGIC, BDEVFS_MAGIC, BINDERFS_SUPER_MAGIC, BINFMTFS_MAGIC,
    BPF_FS_MAGIC, BTRFS_SUPER_MAGIC, BTRFS_TEST_MAGIC, CEPH_SUPER_MAGIC, CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC, CIFS_SUPER_MAGIC, CODA_SUPER_MAGIC, CRAMFS_MAGIC, DAXFS_MAGIC, DEBUGFS_MAGIC,
    DEVMEM_MAGIC, DEVPTS_SUPER_MAGIC, DMA_BUF_MAGIC, ECRYPTFS_SUPER_MAGIC, EFIVARFS_MAGIC, EFS_SUPER_MAGIC,
    EXFAT_SUPER_MAGIC, EXT2_SUPER_MAGIC, EXT3_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FS_APPEND_FL,
    FS_BTREE_FL, FS_CASEFOLD_FL, FS_COMPR_FL, FS_COMPRBLK_FL, FS_DAX_FL, FS_DIRSYNC_FL, FS_DIRTY_FL,
    FS_EOFBLOCKS_FL, FS_EXTENT_FL, FS_IMAGIC_FL, FS_IMMUTABLE_FL, FS_INDEX_FL, FS_NOATIME_FL, FS_NOCOMP_FL,
    FS_NOCOW_FL, FS_NODUMP_FL, FS_NOTAIL_FL, FS_PROJINHERIT_FL, FS_RESERVED_FL, FS_SECRM_FL, FS_SYNC_FL,
    FS_TOPDIR_FL, FS_UNRM_FL, FS_VERITY_FL, FUSE_SUPER_MAGIC, FUTEXFS_SUPER_MAGIC, HOSTFS_SUPER_MAGIC,
    HPFS_SUPER_MAGIC, HUGETLBFS_MAGIC, ISOFS_SUPER_MAGIC, JFFS2_SUPER_MAGIC, LINK_MAX, MAX_CANON, MAX_INPUT,
    MINIX_SUPER_MAGIC, MINIX2_SUPER_MAGIC, MINIX3_SUPER_MAGIC, MSDOS_SUPER_MAGIC, MTD_INODE_FS_MAGIC,
    NAME_MAX, NCP_SUPER_MAGIC, NFS_SUPER_MAGIC, NGROUPS_MAX, NILFS_SUPER_MAGIC, NR_OPEN, NSFS_MAGIC,
    OCFS2_SUPER_MAGIC, OPENPROM_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, PATH_MAX, PID_FS_MAGIC, PIPE_BUF,
    PIPEFS_MAGIC, PROC_SUPER_MAGIC, PROCFS_IOCTL_MAGIC, PSTOREFS_MAGIC, QNX4_SUPER_MAGIC, QNX6_SUPER_MAGIC,
    RAMFS_MAGIC, RDTGROUP_SUPER_MAGIC, REISERFS_SUPER_MAGIC, SECRETMEM_MAGIC, SECURITYFS_MAGIC,
    SELINUX_MAGIC, SMACK_MAGIC, SMB_SUPER_MAGIC, SMB2_SUPER_MAGIC, SOCKFS_MAGIC, SQUASHFS_MAGIC,
    STACK_END_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC, TRACEFS_MAGIC, UDF_SUPER_MAGIC, USBDEVICE_SUPER_MAGIC,
    V9FS_MAGIC, XATTR_APPARMOR_SUFFIX, XATTR_BPF_LSM_SUFFIX, XATTR_BTRFS_PREFIX, XATTR_CAPS_SUFFIX,
    XATTR_CREATE, XATTR_EVM_SUFFIX, XATTR_HURD_PREFIX, XATTR_IMA_SUFFIX, XATTR_LIST_MAX,
    XATTR_MAC_OSX_PREFIX, XATTR_NAME_APPARMOR, XATTR_NAME_BPF_LSM, XATTR_NAME_CAPS, XATTR_NAME_EVM,
    XATTR_NAME_IMA, XATTR_NAME_MAX, XATTR_NAME_POSIX_ACL_ACCESS, XATTR_NAME_POSIX_ACL_DEFAULT,
    XATTR_NAME_SELINUX, XATTR_NAME_SMACK, XATTR_NAME_SMACKEXEC, XATTR_NAME_SMACKIPIN, XATTR_NAME_SMACKIPOUT,
    XATTR_NAME_SMACKMMAP, XATTR_NAME_SMACKTRANSMUTE, XATTR_OS2_PREFIX, XATTR_POSIX_ACL_ACCESS,
    XATTR_POSIX_ACL_DEFAULT, XATTR_REPLACE, XATTR_SECURITY_PREFIX, XATTR_SELINUX_SUFFIX, XATTR_SIZE_MAX,
    XATTR_SMACK_EXEC, XATTR_SMACK_IPIN, XATTR_SMACK_IPOUT, XATTR_SMACK_MMAP, XATTR_SMACK_SUFFIX,
    XATTR_SMACK_TRANSMUTE, XATTR_SYSTEM_PREFIX, XATTR_TRUSTED_PREFIX, XATTR_USER_PREFIX, XENFS_SUPER_MAGIC,
    XFS_SUPER_MAGIC, ZONEFS_MAGIC,
};

pub use linux_raw_sys::general::{
    FS_XFLAG_APPEND, FS_XFLAG_COWEXTSIZE, FS_XFLAG_DAX, FS_XFLAG_EXTSIZE, FS_XFLAG_EXTSZINHERIT,
    FS_XFLAG_HASATTR, FS_XFLAG_IMMUTABLE, FS_XFLAG_NOATIME, FS_XFLAG_NODUMP, FS_XFLAG_PROJINHERIT,
    FS_XFLAG_SYNC, FSLABEL_MAX,
};

/// `FIEMAP_FLAG_SYNC`: what is in memory is written first.
pub const FIEMAP_FLAG_SYNC: u32 = 1;
/// `FIEMAP_EXTENT_*` (fiemap.h): the last extent of the file.
pub const FIEMAP_EXTENT_LAST: u32 = 0x1;
/// It is not known where it lies.
pub const FIEMAP_EXTENT_UNKNOWN: u32 = 0x2;
/// It has no place yet.
pub const FIEMAP_EXTENT_DELALLOC: u32 = 0x4;
/// It cannot be read from the device as it is.
pub const FIEMAP_EXTENT_ENCODED: u32 = 0x8;
/// It does not begin or end at a block's boundary.
pub const FIEMAP_EXTENT_NOT_ALIGNED: u32 = 0x100;
/// It lies among metadata.
pub const FIEMAP_EXTENT_DATA_INLINE: u32 = 0x200;
/// It shares a block with others.
pub const FIEMAP_EXTENT_DATA_TAIL: u32 = 0x400;
/// It has a place, but reads as zeros.
pub const FIEMAP_EXTENT_UNWRITTEN: u32 = 0x800;
/// Neighbouring blocks that were put together although the file system does not keep extents.
pub const FIEMAP_EXTENT_MERGED: u32 = 0x1000;
/// Other files have it too.
pub const FIEMAP_EXTENT_SHARED: u32 = 0x2000;

abi_struct! {
    /// `struct fiemap`, without the extents that follow it.
    pub struct Fiemap: 32 {
        /// First byte asked for.
        pub fm_start: u64,
        /// How many.
        pub fm_length: u64,
        /// `FIEMAP_FLAG_*`; out: those that are not known.
        pub fm_flags: u32,
        /// Out: how many extents there are.
        pub fm_mapped_extents: u32,
        /// Room for so many; 0: only their number is wanted.
        pub fm_extent_count: u32,
        /// 0.
        pub fm_reserved: u32,
    }
}

abi_struct! {
    /// `struct fiemap_extent`.
    pub struct FiemapExtent: 56 {
        /// Where in the file, bytes.
        pub fe_logical: u64,
        /// Where on the device, bytes.
        pub fe_physical: u64,
        /// How long, bytes.
        pub fe_length: u64,
        /// 0.
        pub fe_reserved64: [u64; 2],
        /// `FIEMAP_EXTENT_*`.
        pub fe_flags: u32,
        /// 0.
        pub fe_reserved: [u32; 3],
    }
}

abi_struct! {
    /// `struct fsxattr`.
    pub struct FsXattr: 28 {
        /// `FS_XFLAG_*`.
        pub fsx_xflags: u32,
        /// Hint for the size of extents.
        pub fsx_extsize: u32,
        /// Number of extents.
        pub fsx_nextents: u32,
        /// Project.
        pub fsx_projid: u32,
        /// Hint for the size of extents that are copied.
        pub fsx_cowextsize: u32,
        /// 0.
        pub fsx_pad: [u8; 8],
    }
}

abi_struct! {
    /// `struct fstrim_range`.
    pub struct FstrimRange: 24 {
        /// First byte of the device.
        pub start: u64,
        /// How many; out: how many were told to the device.
        pub len: u64,
        /// Shorter runs are left.
        pub minlen: u64,
    }
}

abi_struct! {
    /// `struct statfs` of x86-64.
    pub struct Statfs: 120 {
        /// `*_MAGIC`.
        pub f_type: i64,
        /// Block size, bytes.
        pub f_bsize: i64,
        /// Blocks.
        pub f_blocks: u64,
        /// Free blocks.
        pub f_bfree: u64,
        /// Blocks free to ordinary users.
        pub f_bavail: u64,
        /// Inodes.
        pub f_files: u64,
        /// Free inodes.
        pub f_ffree: u64,
        /// File system id.
        pub f_fsid: [i32; 2],
        /// Longest name.
        pub f_namelen: i64,
        /// Fragment size, bytes.
        pub f_frsize: i64,
        /// `ST_*`.
        pub f_flags: i64,
        /// Reserved.
        pub f_spare: [i64; 4],
    }
}

/// `f_flags`: read-only.
pub const ST_RDONLY: u32 = 0x1;
/// `f_flags`: no set-user-id.
pub const ST_NOSUID: u32 = 0x2;
/// `f_flags`: no devices.
pub const ST_NODEV: u32 = 0x4;
/// `f_flags`: no execution.
pub const ST_NOEXEC: u32 = 0x8;
/// `f_flags`: synchronous.
pub const ST_SYNCHRONOUS: u32 = 0x10;
/// `f_flags`: the flags are valid.
pub const ST_VALID: u32 = 0x20;
/// `f_flags`: mandatory locks.
pub const ST_MANDLOCK: u32 = 0x40;
/// `f_flags`: no access times.
pub const ST_NOATIME: u32 = 0x400;
/// `f_flags`: no access times of directories.
pub const ST_NODIRATIME: u32 = 0x800;
/// `f_flags`: relative access times.
pub const ST_RELATIME: u32 = 0x1000;
/// `f_flags`: no symbolic links.
pub const ST_NOSYMFOLLOW: u32 = 0x2000;
