//! Directory entries as `getdents64` lays them out.

pub use linux_raw_sys::general::{DT_BLK, DT_CHR, DT_DIR, DT_FIFO, DT_LNK, DT_REG, DT_SOCK, DT_UNKNOWN};

abi_struct! {
    /// The fixed part of `struct linux_dirent64`; the name follows at once, at offset
    /// [`DIRENT64_NAME_OFFSET`], so the five bytes of padding that C would see here do not exist on the wire.
    pub struct LinuxDirent64Header: 24 {
        /// Inode number.
        pub d_ino: u64,
        /// Where the next `lseek` would go.
        pub d_off: i64,
        /// Length of this record.
        pub d_reclen: u16,
        /// `DT_*`.
        pub d_type: u8,
        /// The first bytes of the name.
        pub name_start: [u8; 5],
    }
}

/// Where the name starts in a record of `getdents64`.
pub const DIRENT64_NAME_OFFSET: usize = 19;
/// Where the name starts in a record of `getdents`; its type is in the record's last byte.
pub const DIRENT_NAME_OFFSET: usize = 18;

/// Length of the `getdents64` record of a name of `name_len` bytes: with its NUL, rounded up to 8.
pub const fn dirent64_record_length(name_len: usize) -> usize {
    (DIRENT64_NAME_OFFSET + name_len + 1).next_multiple_of(8)
}

/// The `DT_*` of a mode's file type.
pub const fn type_of_mode(mode: u32) -> u8 {
    ((mode >> 12) & 15) as u8
}
