//! Scatter and gather vectors, `preadv2` flags, `process_vm` and splice.

pub use linux_raw_sys::general::{
    RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOWAIT, RWF_SYNC, RWF_WRITE_LIFE_NOT_SET, SPLICE_F_GIFT,
    SPLICE_F_MORE, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, UIO_FASTIOV, UIO_MAXIOV,
};

abi_struct! {
    /// `struct iovec`; the base is a user address.
    pub struct IoVec: 16 {
        /// Address.
        pub iov_base: u64,
        /// Length, bytes.
        pub iov_len: u64,
    }
}

/// Largest number of vectors in one call.
pub const IOV_MAX: usize = 1024;

/// The most that one read or write moves: `INT_MAX` rounded down to a page.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;
