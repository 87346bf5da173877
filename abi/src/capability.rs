//! Capabilities: numbers, headers and data of `capget`, the `security.capability` attribute.

pub use linux_raw_sys::general::{
    _LINUX_CAPABILITY_U32S, _LINUX_CAPABILITY_U32S_1, _LINUX_CAPABILITY_U32S_2, _LINUX_CAPABILITY_U32S_3,
    _LINUX_CAPABILITY_VERSION, _LINUX_CAPABILITY_VERSION_1, _LINUX_CAPABILITY_VERSION_2,
    _LINUX_CAPABILITY_VERSION_3, CAP_AUDIT_CONTROL, CAP_AUDIT_READ, CAP_AUDIT_WRITE, CAP_BLOCK_SUSPEND,
    CAP_BPF, CAP_CHECKPOINT_RESTORE, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
    CAP_FSETID, CAP_IPC_LOCK, CAP_IPC_OWNER, CAP_KILL, CAP_LAST_CAP, CAP_LEASE, CAP_LINUX_IMMUTABLE,
    CAP_MAC_ADMIN, CAP_MAC_OVERRIDE, CAP_MKNOD, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST,
    CAP_NET_RAW, CAP_PERFMON, CAP_SETFCAP, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_BOOT,
    CAP_SYS_CHROOT, CAP_SYS_MODULE, CAP_SYS_NICE, CAP_SYS_PACCT, CAP_SYS_PTRACE, CAP_SYS_RAWIO,
    CAP_SYS_RESOURCE, CAP_SYS_TIME, CAP_SYS_TTY_CONFIG, CAP_SYSLOG, CAP_WAKE_ALARM, VFS_CAP_FLAGS_EFFECTIVE,
    VFS_CAP_FLAGS_MASK, VFS_CAP_REVISION, VFS_CAP_REVISION_1, VFS_CAP_REVISION_2, VFS_CAP_REVISION_3,
    VFS_CAP_REVISION_MASK, VFS_CAP_REVISION_SHIFT, VFS_CAP_U32, VFS_CAP_U32_1, VFS_CAP_U32_2, VFS_CAP_U32_3,
};

abi_struct! {
    /// `struct __user_cap_header_struct`.
    pub struct UserCapHeader: 8 {
        /// `_LINUX_CAPABILITY_VERSION_*`.
        pub version: u32,
        /// Thread; 0 is the caller.
        pub pid: i32,
    }
}

abi_struct! {
    /// `struct __user_cap_data_struct`: 32 capabilities of each set.
    pub struct UserCapData: 12 {
        /// Effective.
        pub effective: u32,
        /// Permitted.
        pub permitted: u32,
        /// Inheritable.
        pub inheritable: u32,
    }
}

abi_struct! {
    /// `struct vfs_ns_cap_data`: the `security.capability` attribute, revision 3 (revision 2 lacks the last
    /// field). Little-endian on disk.
    pub struct VfsCapData: 24 {
        /// Revision and effective bit.
        pub magic_etc: u32,
        /// Permitted and inheritable, low half.
        pub low: [u32; 2],
        /// Permitted and inheritable, high half.
        pub high: [u32; 2],
        /// Root of the user namespace it counts in.
        pub rootid: u32,
    }
}
