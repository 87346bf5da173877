//! System V IPC: flags, permission structure (semaphores come with their calls).

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

/// msgrcv(2): cut a message that is too long.
pub const MSG_NOERROR: u32 = 0o10000;
/// msgrcv(2): any type but this.
pub const MSG_EXCEPT: u32 = 0o20000;
/// msgrcv(2): a copy of the message at this place.
pub const MSG_COPY: u32 = 0o40000;
/// msgctl(2): `IPC_STAT` by place in the table.
pub const MSG_STAT: u32 = 11;
/// msgctl(2): what is used.
pub const MSG_INFO: u32 = 12;
/// msgctl(2): `MSG_STAT` without the right to read.
pub const MSG_STAT_ANY: u32 = 13;

abi_struct! {
    /// `struct msqid64_ds`; the times are seconds of the epoch.
    pub struct Msqid64Ds: 120 {
        /// Key, owner, permissions.
        pub perm: Ipc64Perm,
        /// When the last message was sent.
        pub stime: i64,
        /// When the last message was received.
        pub rtime: i64,
        /// When it was made or changed.
        pub ctime: i64,
        /// Bytes in the queue.
        pub cbytes: u64,
        /// Messages in the queue.
        pub qnum: u64,
        /// Most bytes there may be.
        pub qbytes: u64,
        /// Who sent last.
        pub lspid: i32,
        /// Who received last.
        pub lrpid: i32,
        /// Reserved.
        pub unused: [u64; 2],
    }
}

abi_struct! {
    /// `struct msginfo`.
    pub struct MsgInfo: 32 {
        /// `MSG_INFO`: how many queues there are. `IPC_INFO`: KiB of all queues.
        pub pool: i32,
        /// `MSG_INFO`: how many messages.
        pub map: i32,
        /// Most bytes of a message.
        pub max: i32,
        /// Most bytes of a queue.
        pub mnb: i32,
        /// Most queues.
        pub mni: i32,
        /// Size of a segment (of no meaning any more).
        pub ssz: i32,
        /// `MSG_INFO`: how many bytes.
        pub tql: i32,
        /// Most segments (of no meaning any more).
        pub seg: u16,
        /// Explicit padding.
        pub pad: u16,
    }
}

/// shmat(2): only to read.
pub const SHM_RDONLY: u32 = 0o10000;
/// shmat(2): round the address down.
pub const SHM_RND: u32 = 0o20000;
/// shmat(2): replace what is there.
pub const SHM_REMAP: u32 = 0o40000;
/// shmat(2): to execute, too.
pub const SHM_EXEC: u32 = 0o100000;
/// shmget(2): of huge pages.
pub const SHM_HUGETLB: u32 = 0o4000;
/// shmget(2): promise no memory.
pub const SHM_NORESERVE: u32 = 0o10000;
/// With the mode: removed when nobody has it attached any more.
pub const SHM_DEST: u32 = 0o1000;
/// shmctl(2): `IPC_STAT` by place in the table.
pub const SHM_STAT: u32 = 13;
/// shmctl(2): what is used.
pub const SHM_INFO: u32 = 14;
/// shmctl(2): `SHM_STAT` without the right to read.
pub const SHM_STAT_ANY: u32 = 15;

abi_struct! {
    /// `struct shmid64_ds`; the times are seconds of the epoch.
    pub struct Shmid64Ds: 112 {
        /// Key, owner, permissions.
        pub perm: Ipc64Perm,
        /// Bytes.
        pub segsz: u64,
        /// When it was last attached.
        pub atime: i64,
        /// When it was last detached.
        pub dtime: i64,
        /// When it was made or changed.
        pub ctime: i64,
        /// Who made it.
        pub cpid: i32,
        /// Who attached or detached last.
        pub lpid: i32,
        /// How often it is attached.
        pub nattch: u64,
        /// Reserved.
        pub unused: [u64; 2],
    }
}

abi_struct! {
    /// `struct shminfo64`.
    pub struct ShmInfo64: 72 {
        /// Most bytes of a segment.
        pub max: u64,
        /// Least bytes of one.
        pub min: u64,
        /// Most segments.
        pub mni: u64,
        /// Most segments of a process (of no meaning any more).
        pub seg: u64,
        /// Most pages of all.
        pub all: u64,
        /// Reserved.
        pub unused: [u64; 4],
    }
}

abi_struct! {
    /// `struct shm_info`.
    pub struct ShmInfo: 48 {
        /// Segments there are.
        pub used_ids: i32,
        /// Explicit padding.
        pub pad: i32,
        /// Their pages.
        pub total: u64,
        /// Those in memory.
        pub rss: u64,
        /// Those in swap space.
        pub swp: u64,
        /// Of no meaning any more.
        pub attempts: u64,
        /// Of no meaning any more.
        pub successes: u64,
    }
}
