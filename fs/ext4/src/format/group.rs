//! Group descriptors: where a group's bitmaps and inodes are, and what is free in it.
//!
//! Key type: [`Descriptor`], the numbers of one; it is read from and written to either form (32 or 64 bytes and more).

use super::checksum::crc32c;
use super::superblock::{Geometry, group_crc16};
use super::{BAD_CHECKSUM, CORRUPTED, at, at_mut, join};
use abi::errno::Result;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The inodes' bitmap and table are not initialised: all free.
pub const INODE_UNINIT: u16 = 1;
/// The blocks' bitmap is not initialised: only the group's own metadata is used.
pub const BLOCK_UNINIT: u16 = 2;
/// The inode table is zeros where it is unused.
pub const TABLE_ZEROED: u16 = 4;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Low {
    block_bitmap: U32,
    inode_bitmap: U32,
    inode_table: U32,
    free_blocks: U16,
    free_inodes: U16,
    used_directories: U16,
    flags: U16,
    exclude_bitmap: U32,
    block_bitmap_checksum: U16,
    inode_bitmap_checksum: U16,
    unused_inodes: U16,
    checksum: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct High {
    block_bitmap: U32,
    inode_bitmap: U32,
    inode_table: U32,
    free_blocks: U16,
    free_inodes: U16,
    used_directories: U16,
    unused_inodes: U16,
    exclude_bitmap: U32,
    block_bitmap_checksum: U16,
    inode_bitmap_checksum: U16,
    reserved: U32,
}

const LOW: usize = size_of::<Low>();
/// Where the checksum is in a descriptor.
const CHECKSUM_OFFSET: usize = 30;

/// What a descriptor says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// The block with the bitmap of blocks.
    pub block_bitmap: u64,
    /// The block with the bitmap of inodes.
    pub inode_bitmap: u64,
    /// The first block of the inodes.
    pub inode_table: u64,
    /// Blocks free.
    pub free_blocks: u32,
    /// Inodes free.
    pub free_inodes: u32,
    /// Inodes that are directories.
    pub used_directories: u32,
    /// `INODE_UNINIT` and its like.
    pub flags: u16,
    /// Inodes at the end of the table that were never used.
    pub unused_inodes: u32,
    /// Checksum of the bitmap of blocks.
    pub block_bitmap_checksum: u32,
    /// Checksum of the bitmap of inodes.
    pub inode_bitmap_checksum: u32,
}

fn wide(low: U16, high: U16) -> u32 {
    u32::from(high.get()) << 16 | u32::from(low.get())
}

fn halves(value: u32) -> (U16, U16) {
    (U16::new(value as u16), U16::new((value >> 16) as u16))
}

impl Descriptor {
    /// Reads the descriptor of `group` from its bytes, checks its checksum, and that what it names is within the device.
    ///
    /// Errors: [`BAD_CHECKSUM`], [`CORRUPTED`].
    pub fn read(geometry: &Geometry, group: u32, bytes: &[u8]) -> Result<Descriptor> {
        let low: &Low = at(bytes, 0)?;
        if geometry.has_group_checksums() && checksum(geometry, group, bytes)? != low.checksum.get() {
            log::error!("ext4: the checksum of group {group}'s descriptor is wrong");
            return Err(BAD_CHECKSUM);
        }
        let none = [0; size_of::<High>()];
        let has_high = geometry.descriptor_size >= 64;
        let high: &High = if has_high { at(bytes, LOW)? } else { at(&none, 0)? };
        let descriptor = Descriptor {
            block_bitmap: join(low.block_bitmap.get(), high.block_bitmap.get()),
            inode_bitmap: join(low.inode_bitmap.get(), high.inode_bitmap.get()),
            inode_table: join(low.inode_table.get(), high.inode_table.get()),
            free_blocks: wide(low.free_blocks, high.free_blocks),
            free_inodes: wide(low.free_inodes, high.free_inodes),
            used_directories: wide(low.used_directories, high.used_directories),
            flags: if geometry.has_group_checksums() { low.flags.get() } else { 0 },
            unused_inodes: wide(low.unused_inodes, high.unused_inodes),
            block_bitmap_checksum: wide(low.block_bitmap_checksum, high.block_bitmap_checksum),
            inode_bitmap_checksum: wide(low.inode_bitmap_checksum, high.inode_bitmap_checksum),
        };
        let table = u64::from(geometry.table_blocks());
        let fine = geometry.contains(descriptor.block_bitmap, 1)
            && geometry.contains(descriptor.inode_bitmap, 1)
            && geometry.contains(descriptor.inode_table, table)
            && descriptor.free_blocks <= geometry.blocks_per_group
            && descriptor.free_inodes <= geometry.inodes_per_group
            && descriptor.unused_inodes <= geometry.inodes_per_group;
        if !fine {
            log::error!("ext4: group {group} has an impossible descriptor");
            return Err(CORRUPTED);
        }
        Ok(descriptor)
    }

    /// Writes it to its bytes, with its checksum.
    pub fn write(&self, geometry: &Geometry, group: u32, bytes: &mut [u8]) -> Result<()> {
        let (free_blocks, free_inodes) = (halves(self.free_blocks), halves(self.free_inodes));
        let (directories, unused) = (halves(self.used_directories), halves(self.unused_inodes));
        let (blocks_sum, inodes_sum) =
            (halves(self.block_bitmap_checksum), halves(self.inode_bitmap_checksum));
        let low: &mut Low = at_mut(bytes, 0)?;
        low.free_blocks = free_blocks.0;
        low.free_inodes = free_inodes.0;
        low.used_directories = directories.0;
        if geometry.has_group_checksums() {
            low.flags = self.flags.into();
            low.unused_inodes = unused.0;
        }
        if geometry.has_checksums() {
            low.block_bitmap_checksum = blocks_sum.0;
            low.inode_bitmap_checksum = inodes_sum.0;
        }
        if geometry.descriptor_size >= 64 {
            let high: &mut High = at_mut(bytes, LOW)?;
            high.free_blocks = free_blocks.1;
            high.free_inodes = free_inodes.1;
            high.used_directories = directories.1;
            high.unused_inodes = unused.1;
            if geometry.has_checksums() {
                high.block_bitmap_checksum = blocks_sum.1;
                high.inode_bitmap_checksum = inodes_sum.1;
            }
        }
        if geometry.has_group_checksums() {
            let sum = checksum(geometry, group, bytes)?;
            at_mut::<Low>(bytes, 0)?.checksum = sum.into();
        }
        Ok(())
    }

    /// Whether all of these flags are set.
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

/// The checksum that the descriptor should have.
fn checksum(geometry: &Geometry, group: u32, bytes: &[u8]) -> Result<u16> {
    let bytes = bytes.get(..usize::from(geometry.descriptor_size)).ok_or(CORRUPTED)?;
    let before = bytes.get(..CHECKSUM_OFFSET).ok_or(CORRUPTED)?;
    let after = bytes.get(CHECKSUM_OFFSET + 2..).ok_or(CORRUPTED)?;
    if geometry.has_checksums() {
        let sum = crc32c(geometry.checksum_seed, &group.to_le_bytes());
        let sum = crc32c(crc32c(crc32c(sum, before), &[0, 0]), after);
        return Ok(sum as u16);
    }
    Ok(group_crc16(&geometry.uuid, group, before, after))
}

/// The checksum of a bitmap of `bits` bits, as it is stored: 16 bits of it in short descriptors.
pub fn bitmap_checksum(geometry: &Geometry, bitmap: &[u8], bits: u32) -> u32 {
    let sum = crc32c(geometry.checksum_seed, bitmap.get(..bits as usize / 8).unwrap_or(bitmap));
    if geometry.descriptor_size >= 64 { sum } else { sum & 0xffff }
}
