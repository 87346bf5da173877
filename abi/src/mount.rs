//! Mount flags, mount attributes and the file-descriptor-based mount calls.

pub use linux_raw_sys::general::{
    FSMOUNT_CLOEXEC, FSOPEN_CLOEXEC, FSPICK_CLOEXEC, FSPICK_EMPTY_PATH, FSPICK_NO_AUTOMOUNT,
    FSPICK_SYMLINK_NOFOLLOW, LISTMOUNT_REVERSE, LSMT_ROOT, MNT_ID_REQ_SIZE_VER0, MNT_ID_REQ_SIZE_VER1,
    MOUNT_ATTR__ATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_SIZE_VER0, MOUNT_ATTR_STRICTATIME, MOVE_MOUNT__MASK, MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_AUTOMOUNTS, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_F_SYMLINKS, MOVE_MOUNT_SET_GROUP,
    MOVE_MOUNT_T_AUTOMOUNTS, MOVE_MOUNT_T_EMPTY_PATH, MOVE_MOUNT_T_SYMLINKS, MS_ACTIVE, MS_BIND, MS_BORN,
    MS_DIRSYNC, MS_I_VERSION, MS_KERNMOUNT, MS_LAZYTIME, MS_MANDLOCK, MS_MGC_MSK, MS_MGC_VAL, MS_MOVE,
    MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOREMOTELOCK, MS_NOSEC, MS_NOSUID, MS_NOSYMFOLLOW,
    MS_NOUSER, MS_POSIXACL, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, MS_RMT_MASK, MS_SHARED,
    MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_SUBMOUNT, MS_SYNCHRONOUS, MS_UNBINDABLE, MS_VERBOSE,
    OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE, STATMOUNT_FS_SUBTYPE, STATMOUNT_FS_TYPE, STATMOUNT_MNT_BASIC,
    STATMOUNT_MNT_GIDMAP, STATMOUNT_MNT_NS_ID, STATMOUNT_MNT_OPTS, STATMOUNT_MNT_POINT, STATMOUNT_MNT_ROOT,
    STATMOUNT_MNT_UIDMAP, STATMOUNT_OPT_ARRAY, STATMOUNT_OPT_SEC_ARRAY, STATMOUNT_PROPAGATE_FROM,
    STATMOUNT_SB_BASIC, STATMOUNT_SB_SOURCE, STATMOUNT_SUPPORTED_MASK, UMOUNT_UNUSED,
};

use bitflags::bitflags;

/// `umount2(2)`: even if busy.
pub const MNT_FORCE: u32 = 1;
/// `umount2(2)`: take it out of the tree now, clean up when it is no longer used.
pub const MNT_DETACH: u32 = 2;
/// `umount2(2)`: mark for expiry.
pub const MNT_EXPIRE: u32 = 4;
/// `umount2(2)`: do not follow a symbolic link.
pub const UMOUNT_NOFOLLOW: u32 = 8;

bitflags! {
    /// Flags of `mount(2)` (`MS_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MountFlags: u32 {
        /// Read-only.
        const RDONLY = MS_RDONLY;
        /// Ignore set-user-id bits.
        const NOSUID = MS_NOSUID;
        /// No device nodes.
        const NODEV = MS_NODEV;
        /// No execution.
        const NOEXEC = MS_NOEXEC;
        /// Writes are synchronous.
        const SYNCHRONOUS = MS_SYNCHRONOUS;
        /// Change an existing mount.
        const REMOUNT = MS_REMOUNT;
        /// Mandatory locks (ignored).
        const MANDLOCK = MS_MANDLOCK;
        /// Directory changes are synchronous.
        const DIRSYNC = MS_DIRSYNC;
        /// Do not follow symbolic links.
        const NOSYMFOLLOW = MS_NOSYMFOLLOW;
        /// No access times.
        const NOATIME = MS_NOATIME;
        /// No access times of directories.
        const NODIRATIME = MS_NODIRATIME;
        /// Bind.
        const BIND = MS_BIND;
        /// Move.
        const MOVE = MS_MOVE;
        /// With everything below.
        const REC = MS_REC;
        /// Quiet.
        const SILENT = MS_SILENT;
        /// POSIX ACLs (ignored).
        const POSIXACL = MS_POSIXACL;
        /// Propagation: cannot be bound.
        const UNBINDABLE = MS_UNBINDABLE;
        /// Propagation: private.
        const PRIVATE = MS_PRIVATE;
        /// Propagation: receives only.
        const SLAVE = MS_SLAVE;
        /// Propagation: shared.
        const SHARED = MS_SHARED;
        /// Access times relative to changes.
        const RELATIME = MS_RELATIME;
        /// Inode version.
        const I_VERSION = MS_I_VERSION;
        /// Strict access times.
        const STRICTATIME = MS_STRICTATIME;
        /// Times are written lazily.
        const LAZYTIME = MS_LAZYTIME;
    }
}

impl MountFlags {
    /// The flags that set the propagation type.
    pub const PROPAGATION: Self =
        Self::UNBINDABLE.union(Self::PRIVATE).union(Self::SLAVE).union(Self::SHARED);
}

/// `fsconfig(2)`: a flag.
pub const FSCONFIG_SET_FLAG: u32 = 0;
/// `fsconfig(2)`: a string.
pub const FSCONFIG_SET_STRING: u32 = 1;
/// `fsconfig(2)`: bytes.
pub const FSCONFIG_SET_BINARY: u32 = 2;
/// `fsconfig(2)`: a path.
pub const FSCONFIG_SET_PATH: u32 = 3;
/// `fsconfig(2)`: a path that may be empty.
pub const FSCONFIG_SET_PATH_EMPTY: u32 = 4;
/// `fsconfig(2)`: a descriptor.
pub const FSCONFIG_SET_FD: u32 = 5;
/// `fsconfig(2)`: make or get the file system.
pub const FSCONFIG_CMD_CREATE: u32 = 6;
/// `fsconfig(2)`: change it.
pub const FSCONFIG_CMD_RECONFIGURE: u32 = 7;
/// `fsconfig(2)`: make it, fail if it would be shared.
pub const FSCONFIG_CMD_CREATE_EXCL: u32 = 8;

abi_struct! {
    /// `struct mount_attr` of `mount_setattr(2)`.
    pub struct MountAttr: 32 {
        /// `MOUNT_ATTR_*` to set.
        pub attr_set: u64,
        /// `MOUNT_ATTR_*` to clear.
        pub attr_clr: u64,
        /// Propagation type, a `MS_*`.
        pub propagation: u64,
        /// User namespace of the id mapping.
        pub userns_fd: u64,
    }
}

abi_struct! {
    /// `struct mnt_id_req` of `statmount(2)` and `listmount(2)`.
    pub struct MntIdReq: 32 {
        /// Size the caller knows.
        pub size: u32,
        /// Reserved.
        pub spare: u32,
        /// Mount.
        pub mnt_id: u64,
        /// `STATMOUNT_*`, or the last mount listed.
        pub param: u64,
        /// Mount namespace.
        pub mnt_ns_id: u64,
    }
}
