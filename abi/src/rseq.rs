//! Restartable sequences.

/// Registered, but not on any CPU yet.
pub const RSEQ_CPU_ID_UNINITIALIZED: u32 = u32::MAX;
/// Registration failed.
pub const RSEQ_CPU_ID_REGISTRATION_FAILED: u32 = u32::MAX - 1;
/// `rseq(2)`: undo the registration.
pub const RSEQ_FLAG_UNREGISTER: u32 = 1;
/// Size of the structure as first published; what the C library registers at least.
pub const ORIG_RSEQ_SIZE: u32 = 32;

abi_struct! {
    /// `struct rseq`, aligned to 32 in user memory.
    pub struct Rseq: 32 {
        /// A possible CPU number, always.
        pub cpu_id_start: u32,
        /// The CPU, or one of `RSEQ_CPU_ID_*`.
        pub cpu_id: u32,
        /// Address of the active [`RseqCs`], or 0.
        pub rseq_cs: u64,
        /// Obsolete flags.
        pub flags: u32,
        /// NUMA node.
        pub node_id: u32,
        /// Concurrency id in this address space.
        pub mm_cid: u32,
        /// Explicit padding.
        pub pad: u32,
    }
}

abi_struct! {
    /// `struct rseq_cs`: a critical section.
    pub struct RseqCs: 32 {
        /// 0.
        pub version: u32,
        /// Obsolete flags.
        pub flags: u32,
        /// First instruction.
        pub start_ip: u64,
        /// Length, bytes.
        pub post_commit_offset: u64,
        /// Where to go when interrupted; the four bytes before it hold the signature.
        pub abort_ip: u64,
    }
}
