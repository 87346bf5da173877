//! Memory mappings: protections, mapping flags, advice, locking.

pub use linux_raw_sys::general::{
    HUGETLB_FLAG_ENCODE_1GB, HUGETLB_FLAG_ENCODE_1MB, HUGETLB_FLAG_ENCODE_2GB, HUGETLB_FLAG_ENCODE_2MB,
    HUGETLB_FLAG_ENCODE_8MB, HUGETLB_FLAG_ENCODE_16GB, HUGETLB_FLAG_ENCODE_16KB, HUGETLB_FLAG_ENCODE_16MB,
    HUGETLB_FLAG_ENCODE_32MB, HUGETLB_FLAG_ENCODE_64KB, HUGETLB_FLAG_ENCODE_256MB, HUGETLB_FLAG_ENCODE_512KB,
    HUGETLB_FLAG_ENCODE_512MB, HUGETLB_FLAG_ENCODE_MASK, HUGETLB_FLAG_ENCODE_SHIFT, MADV_COLD, MADV_COLLAPSE,
    MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP, MADV_DONTFORK, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE,
    MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_HUGEPAGE, MADV_HWPOISON, MADV_KEEPONFORK, MADV_MERGEABLE,
    MADV_NOHUGEPAGE, MADV_NORMAL, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM,
    MADV_REMOVE, MADV_SEQUENTIAL, MADV_SOFT_OFFLINE, MADV_UNMERGEABLE, MADV_WILLNEED, MADV_WIPEONFORK,
    MAP_32BIT, MAP_ABOVE4G, MAP_ANONYMOUS, MAP_DENYWRITE, MAP_DROPPABLE, MAP_EXECUTABLE, MAP_FILE, MAP_FIXED,
    MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGE_1GB, MAP_HUGE_1MB, MAP_HUGE_2GB, MAP_HUGE_2MB, MAP_HUGE_8MB,
    MAP_HUGE_16GB, MAP_HUGE_16KB, MAP_HUGE_16MB, MAP_HUGE_32MB, MAP_HUGE_64KB, MAP_HUGE_256MB,
    MAP_HUGE_512KB, MAP_HUGE_512MB, MAP_HUGE_MASK, MAP_HUGE_SHIFT, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK,
    MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MAP_SYNC, MAP_TYPE,
    MAP_UNINITIALIZED, MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_LIMIT, MLOCK_ONFAULT, MREMAP_DONTUNMAP,
    MREMAP_FIXED, MREMAP_MAYMOVE, MS_ASYNC, MS_INVALIDATE, MS_SYNC, OVERCOMMIT_ALWAYS, OVERCOMMIT_GUESS,
    OVERCOMMIT_NEVER, PKEY_ACCESS_MASK, PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE, PKEY_UNRESTRICTED,
    PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_NONE, PROT_READ, PROT_SEM, PROT_WRITE,
};

pub use linux_raw_sys::mempolicy::{
    MPOL_F_ADDR, MPOL_F_MEMS_ALLOWED, MPOL_F_MOF, MPOL_F_MORON, MPOL_F_NODE, MPOL_F_NUMA_BALANCING,
    MPOL_F_RELATIVE_NODES, MPOL_F_SHARED, MPOL_F_STATIC_NODES, MPOL_MF_INTERNAL, MPOL_MF_LAZY, MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL, MPOL_MF_STRICT, MPOL_MF_VALID, MPOL_MODE_FLAGS,
};

use bitflags::bitflags;

bitflags! {
    /// Protection of a mapping (`PROT_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ProtFlags: u32 {
        /// May be read.
        const READ = PROT_READ;
        /// May be written.
        const WRITE = PROT_WRITE;
        /// May be executed.
        const EXEC = PROT_EXEC;
        /// Accepted and without meaning on x86-64.
        const SEM = PROT_SEM;
        /// `mprotect`: extend to the start of a mapping that grows down.
        const GROWSDOWN = PROT_GROWSDOWN;
        /// `mprotect`: extend to the end of a mapping that grows up.
        const GROWSUP = PROT_GROWSUP;
    }
}

bitflags! {
    /// Flags of `mmap(2)` (`MAP_*`); the sharing type is in the low four bits, see [`MapFlags::sharing`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MapFlags: u32 {
        /// Changes are seen by all who map it.
        const SHARED = MAP_SHARED;
        /// Changes are private to this address space.
        const PRIVATE = MAP_PRIVATE;
        /// Exactly at the address given.
        const FIXED = MAP_FIXED;
        /// No file.
        const ANONYMOUS = MAP_ANONYMOUS;
        /// Below 2 GiB.
        const BELOW_2GIB = MAP_32BIT;
        /// Above 4 GiB.
        const ABOVE4G = MAP_ABOVE4G;
        /// Grows towards lower addresses.
        const GROWSDOWN = MAP_GROWSDOWN;
        /// Ignored.
        const DENYWRITE = MAP_DENYWRITE;
        /// Ignored.
        const EXECUTABLE = MAP_EXECUTABLE;
        /// Locked in memory.
        const LOCKED = MAP_LOCKED;
        /// Not counted against the commit limit.
        const NORESERVE = MAP_NORESERVE;
        /// Fault everything in now.
        const POPULATE = MAP_POPULATE;
        /// Do not block on I/O (with `POPULATE`).
        const NONBLOCK = MAP_NONBLOCK;
        /// A hint: a stack.
        const STACK = MAP_STACK;
        /// Huge pages.
        const HUGETLB = MAP_HUGETLB;
        /// Synchronous page faults (DAX).
        const SYNC = MAP_SYNC;
        /// Exactly at the address given, or EEXIST.
        const FIXED_NOREPLACE = MAP_FIXED_NOREPLACE;
    }
}

/// The sharing type of a mapping, from the low four bits of the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// `MAP_SHARED`.
    Shared,
    /// `MAP_PRIVATE`.
    Private,
    /// `MAP_SHARED_VALIDATE`: shared, and unknown flags are EOPNOTSUPP.
    SharedValidate,
    /// Any other value: EINVAL.
    Invalid,
}

impl MapFlags {
    /// The sharing type.
    pub const fn sharing(self) -> Sharing {
        match self.bits() & MAP_TYPE {
            MAP_SHARED => Sharing::Shared,
            MAP_PRIVATE => Sharing::Private,
            MAP_SHARED_VALIDATE => Sharing::SharedValidate,
            _ => Sharing::Invalid,
        }
    }
}

bitflags! {
    /// Flags of `mremap(2)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MremapFlags: u32 {
        /// May move.
        const MAYMOVE = MREMAP_MAYMOVE;
        /// To exactly this address.
        const FIXED = MREMAP_FIXED;
        /// Leave an empty mapping behind.
        const DONTUNMAP = MREMAP_DONTUNMAP;
    }
}
