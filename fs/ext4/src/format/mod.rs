//! The format on disk: structures, their checks and their checksums, apart from any device.
//!
//! | file | what |
//! |---|---|
//! | `superblock` | the superblock, feature bits, and [`Geometry`]: what follows from it |
//! | `group` | group descriptors |
//! | `inode` | inodes, their times and their flags |
//! | `extent` | nodes of extent trees |
//! | `dirent` | blocks of directories |
//! | `hash`, `htree` | the index of large directories |
//! | `xattr` | lists of extended attributes |
//! | `acl` | access control lists as they are stored |
//! | `checksum` | CRC-32C and CRC-16 |
//!
//! Everything here is total: any bytes give an answer or `EUCLEAN`, never a panic, and no loop runs longer than its input. All numbers on
//! the disk are little-endian. Source: "ext4 Data Structures and Algorithms" in Linux's documentation, and what e2fsprogs' tools show.
//! No locks.

pub mod acl;
pub mod checksum;
pub mod dirent;
pub mod extent;
pub mod group;
pub mod hash;
pub mod htree;
pub mod inode;
pub mod superblock;
pub mod xattr;

pub use superblock::{Compatible, Geometry, Incompatible, ReadOnlyCompatible};

use abi::errno::{Errno, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a file system that contradicts itself gives: Linux's `EFSCORRUPTED`.
pub const CORRUPTED: Errno = Errno::EUCLEAN;
/// What a wrong checksum gives: Linux's `EFSBADCRC`.
pub const BAD_CHECKSUM: Errno = Errno::EBADMSG;

/// The structure at `offset`. Errors: [`CORRUPTED`] if it does not fit.
pub fn at<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8], offset: usize) -> Result<&T> {
    let rest = bytes.get(offset..).ok_or(CORRUPTED)?;
    T::ref_from_prefix(rest).map(|(value, _)| value).map_err(|_| CORRUPTED)
}

/// The same, to be changed.
pub fn at_mut<T: FromBytes + IntoBytes + KnownLayout + Unaligned>(
    bytes: &mut [u8],
    offset: usize,
) -> Result<&mut T> {
    let rest = bytes.get_mut(offset..).ok_or(CORRUPTED)?;
    T::mut_from_prefix(rest).map(|(value, _)| value).map_err(|_| CORRUPTED)
}

/// Two halves of a number.
pub fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// A bit of a bitmap.
pub fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0)
}

/// Sets or clears a bit of a bitmap.
pub fn set_bit(bitmap: &mut [u8], index: usize, value: bool) {
    if let Some(byte) = bitmap.get_mut(index / 8) {
        let mask = 1 << (index % 8);
        *byte = if value { *byte | mask } else { *byte & !mask };
    }
}

/// The first bit with this value in `from..end`.
pub fn find_bit(bitmap: &[u8], value: bool, from: usize, end: usize) -> Option<usize> {
    let skip = if value { 0 } else { 0xff };
    let mut at = from;
    while at < end {
        if at.is_multiple_of(8) && at + 8 <= end && bitmap.get(at / 8) == Some(&skip) {
            at += 8;
            continue;
        }
        if bit(bitmap, at) == value {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found() {
        let mut map = [0_u8; 8];
        set_bit(&mut map, 37, true);
        assert_eq!(find_bit(&map, true, 0, 64), Some(37));
        assert_eq!(find_bit(&map, true, 38, 64), None);
        assert_eq!(find_bit(&map, false, 37, 64), Some(38));
        assert_eq!(find_bit(&map, true, 0, 37), None);
        assert!(at::<superblock::RawSuperBlock>(&map, 0).is_err());
    }
}
