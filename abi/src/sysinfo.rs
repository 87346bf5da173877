//! `sysinfo` and load averages.

pub use linux_raw_sys::system::SI_LOAD_SHIFT;

abi_struct! {
    /// `struct sysinfo`.
    pub struct Sysinfo: 112 {
        /// Seconds since boot.
        pub uptime: i64,
        /// Load averages of 1, 5 and 15 minutes, times 1 << [`SI_LOAD_SHIFT`].
        pub loads: [u64; 3],
        /// Usable memory, in units of `mem_unit`.
        pub totalram: u64,
        /// Free memory.
        pub freeram: u64,
        /// Shared memory.
        pub sharedram: u64,
        /// Memory in buffers.
        pub bufferram: u64,
        /// Swap space.
        pub totalswap: u64,
        /// Free swap space.
        pub freeswap: u64,
        /// Number of threads.
        pub procs: u16,
        /// Explicit padding.
        pub pad: u16,
        /// Explicit padding.
        pub pad1: u32,
        /// High memory.
        pub totalhigh: u64,
        /// Free high memory.
        pub freehigh: u64,
        /// Unit of the sizes, bytes.
        pub mem_unit: u32,
        /// Explicit padding.
        pub pad2: u32,
    }
}
