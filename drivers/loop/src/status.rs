//! `struct loop_info64` and `struct loop_config` (`linux/loop.h`). No locks.

use abi::errno::{Errno, Result};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes};

bitflags! {
    /// `LO_FLAGS_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct LoopFlags: u32 {
        const READ_ONLY = 1;
        const AUTOCLEAR = 4;
        const PARTSCAN = 8;
        const DIRECT_IO = 16;
    }
}

impl LoopFlags {
    /// What `LOOP_CONFIGURE` may set.
    pub(crate) const CONFIGURABLE: LoopFlags = LoopFlags::all();
    /// What `LOOP_SET_STATUS64` may set.
    pub(crate) const SETTABLE: LoopFlags = LoopFlags::AUTOCLEAR.union(LoopFlags::PARTSCAN);
    /// What it may clear.
    pub(crate) const CLEARABLE: LoopFlags = LoopFlags::AUTOCLEAR;
}

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Info {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) rdevice: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) number: u32,
    pub(crate) encrypt_type: u32,
    pub(crate) encrypt_key_size: u32,
    pub(crate) flags: u32,
    pub(crate) file_name: [u8; 64],
    pub(crate) crypt_name: [u8; 64],
    pub(crate) encrypt_key: [u8; 32],
    pub(crate) init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Config {
    pub(crate) descriptor: u32,
    pub(crate) block_size: u32,
    pub(crate) info: Info,
    pub(crate) reserved: [u64; 8],
}

impl Info {
    /// Errors: `EINVAL`: encryption, which there is none of; `EOVERFLOW`: beyond what a file can be.
    pub(crate) fn check(&self) -> Result<()> {
        if self.encrypt_type != 0 || self.encrypt_key_size as usize > self.encrypt_key.len() {
            return Err(Errno::EINVAL);
        }
        let most = i64::MAX as u64;
        if self.offset > most || self.size_limit > most { Err(Errno::EOVERFLOW) } else { Ok(()) }
    }
}
