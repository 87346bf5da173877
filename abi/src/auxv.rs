//! The auxiliary vector a new program finds on its stack.

pub use linux_raw_sys::auxvec::{
    AT_BASE, AT_BASE_PLATFORM, AT_CLKTCK, AT_EGID, AT_ENTRY, AT_EUID, AT_EXECFD, AT_EXECFN, AT_FLAGS, AT_GID,
    AT_HWCAP, AT_HWCAP2, AT_HWCAP3, AT_HWCAP4, AT_IGNORE, AT_MINSIGSTKSZ, AT_NOTELF, AT_NULL, AT_PAGESZ,
    AT_PHDR, AT_PHENT, AT_PHNUM, AT_PLATFORM, AT_RANDOM, AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE, AT_SECURE,
    AT_SYSINFO_EHDR, AT_UID, AT_VECTOR_SIZE_ARCH,
};

abi_struct! {
    /// One entry of the auxiliary vector.
    pub struct AuxEntry: 16 {
        /// `AT_*`.
        pub a_type: u64,
        /// Value.
        pub a_val: u64,
    }
}
