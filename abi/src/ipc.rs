//! System V IPC: flags, permission structure (messages, semaphores, shared memory come with their calls).

/// Create if there is none.
pub const IPC_CREAT: u32 = 0o1000;
/// Fail if there is one.
pub const IPC_EXCL: u32 = 0o2000;
/// Do not block.
pub const IPC_NOWAIT: u32 = 0o4000;
/// Remove.
pub const IPC_RMID: u32 = 0;
/// Set the permissions.
pub const IPC_SET: u32 = 1;
/// Get the state.
pub const IPC_STAT: u32 = 2;
/// Get the limits.
pub const IPC_INFO: u32 = 3;
/// Always a new object.
pub const IPC_PRIVATE: i32 = 0;

abi_struct! {
    /// `struct ipc64_perm`.
    pub struct Ipc64Perm: 48 {
        /// Key.
        pub key: i32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// Creator.
        pub cuid: u32,
        /// Creator's group.
        pub cgid: u32,
        /// Permissions.
        pub mode: u32,
        /// Sequence number.
        pub seq: u16,
        /// Explicit padding.
        pub pad2: u16,
        /// Explicit padding.
        pub pad3: u32,
        /// Reserved.
        pub unused: [u64; 2],
    }
}
