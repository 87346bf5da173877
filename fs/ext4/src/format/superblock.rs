//! The superblock: what the file system is like as a whole.
//!
//! Key types: [`RawSuperBlock`] (the 1024 bytes), the three sets of feature bits, [`Geometry`] (checked, in numbers that are easy to
//! calculate with). The format demands: an unknown bit of [`Incompatible`] means not to touch it, one of [`ReadOnlyCompatible`] not to write it.

use super::checksum::{START, crc16, crc32c};
use super::{BAD_CHECKSUM, CORRUPTED, at, join};
use abi::errno::{Errno, Result};
use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the superblock is on the device, bytes.
pub const OFFSET: u64 = 1024;
/// How long it is, bytes.
pub const SIZE: usize = 1024;
/// `s_magic`.
pub const MAGIC: u16 = 0xef53;
/// Bits of `s_state`.
pub const STATE_VALID: u16 = 1;
/// Errors were found.
pub const STATE_ERROR: u16 = 2;
/// Orphans are being removed.
pub const STATE_ORPHANS: u16 = 4;
/// Bits of `s_flags`: directory hashes take characters as signed, or unsigned.
pub const FLAG_SIGNED_HASH: u32 = 1;
/// See [`FLAG_SIGNED_HASH`].
pub const FLAG_UNSIGNED_HASH: u32 = 2;
/// The first inode that files may have, in the oldest revision.
const OLD_FIRST_INODE: u32 = 11;
/// An inode's size in the oldest revision, and the least at all.
pub const OLD_INODE_SIZE: u16 = 128;

/// The superblock as it is on the disk; names without their `s_`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
pub struct RawSuperBlock {
    pub inodes_count: U32,
    pub blocks_count_lo: U32,
    pub r_blocks_count_lo: U32,
    pub free_blocks_count_lo: U32,
    pub free_inodes_count: U32,
    pub first_data_block: U32,
    pub log_block_size: U32,
    pub log_cluster_size: U32,
    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mtime: U32,
    pub wtime: U32,
    pub mnt_count: U16,
    pub max_mnt_count: U16,
    pub magic: U16,
    pub state: U16,
    pub errors: U16,
    pub minor_rev_level: U16,
    pub lastcheck: U32,
    pub checkinterval: U32,
    pub creator_os: U32,
    pub rev_level: U32,
    pub def_resuid: U16,
    pub def_resgid: U16,
    pub first_ino: U32,
    pub inode_size: U16,
    pub block_group_nr: U16,
    pub feature_compat: U32,
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub last_mounted: [u8; 64],
    pub algorithm_usage_bitmap: U32,
    pub prealloc_blocks: u8,
    pub prealloc_dir_blocks: u8,
    pub reserved_gdt_blocks: U16,
    pub journal_uuid: [u8; 16],
    pub journal_inum: U32,
    pub journal_dev: U32,
    pub last_orphan: U32,
    pub hash_seed: [U32; 4],
    pub def_hash_version: u8,
    pub jnl_backup_type: u8,
    pub desc_size: U16,
    pub default_mount_opts: U32,
    pub first_meta_bg: U32,
    pub mkfs_time: U32,
    pub jnl_blocks: [U32; 17],
    pub blocks_count_hi: U32,
    pub r_blocks_count_hi: U32,
    pub free_blocks_count_hi: U32,
    pub min_extra_isize: U16,
    pub want_extra_isize: U16,
    pub flags: U32,
    pub raid_stride: U16,
    pub mmp_interval: U16,
    pub mmp_block: U64,
    pub raid_stripe_width: U32,
    pub log_groups_per_flex: u8,
    pub checksum_type: u8,
    pub encryption_level: u8,
    pub reserved_pad: u8,
    pub kbytes_written: U64,
    pub snapshot_inum: U32,
    pub snapshot_id: U32,
    pub snapshot_r_blocks_count: U64,
    pub snapshot_list: U32,
    pub error_count: U32,
    pub first_error_time: U32,
    pub first_error_ino: U32,
    pub first_error_block: U64,
    pub first_error_func: [u8; 32],
    pub first_error_line: U32,
    pub last_error_time: U32,
    pub last_error_ino: U32,
    pub last_error_line: U32,
    pub last_error_block: U64,
    pub last_error_func: [u8; 32],
    pub mount_opts: [u8; 64],
    pub usr_quota_inum: U32,
    pub grp_quota_inum: U32,
    pub overhead_clusters: U32,
    pub backup_bgs: [U32; 2],
    pub encrypt_algos: [u8; 4],
    pub encrypt_pw_salt: [u8; 16],
    pub lpf_ino: U32,
    pub prj_quota_inum: U32,
    pub checksum_seed: U32,
    pub wtime_hi: u8,
    pub mtime_hi: u8,
    pub mkfs_time_hi: u8,
    pub lastcheck_hi: u8,
    pub first_error_time_hi: u8,
    pub last_error_time_hi: u8,
    pub first_error_errcode: u8,
    pub last_error_errcode: u8,
    pub encoding: U16,
    pub encoding_flags: U16,
    pub orphan_file_inum: U32,
    pub def_resuid_hi: U16,
    pub def_resgid_hi: U16,
    pub reserved: [U32; 93],
    pub checksum: U32,
}

const _: () = assert!(size_of::<RawSuperBlock>() == SIZE);

bitflags! {
    /// Features that a kernel which does not know them may ignore.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Compatible: u32 {
        const DIR_PREALLOC = 0x1;
        const IMAGIC_INODES = 0x2;
        const HAS_JOURNAL = 0x4;
        const EXT_ATTR = 0x8;
        const RESIZE_INODE = 0x10;
        const DIR_INDEX = 0x20;
        const SPARSE_SUPER2 = 0x200;
        const FAST_COMMIT = 0x400;
        const STABLE_INODES = 0x800;
        const ORPHAN_FILE = 0x1000;
    }

    /// Features that must be known to read it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Incompatible: u32 {
        const COMPRESSION = 0x1;
        const FILETYPE = 0x2;
        const RECOVER = 0x4;
        const JOURNAL_DEV = 0x8;
        const META_BG = 0x10;
        const EXTENTS = 0x40;
        const BIT64 = 0x80;
        const MMP = 0x100;
        const FLEX_BG = 0x200;
        const EA_INODE = 0x400;
        const DIRDATA = 0x1000;
        const CSUM_SEED = 0x2000;
        const LARGEDIR = 0x4000;
        const INLINE_DATA = 0x8000;
        const ENCRYPT = 0x1_0000;
        const CASEFOLD = 0x2_0000;
    }

    /// Features that must be known to write it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ReadOnlyCompatible: u32 {
        const SPARSE_SUPER = 0x1;
        const LARGE_FILE = 0x2;
        const BTREE_DIR = 0x4;
        const HUGE_FILE = 0x8;
        const GDT_CSUM = 0x10;
        const DIR_NLINK = 0x20;
        const EXTRA_ISIZE = 0x40;
        const QUOTA = 0x100;
        const BIGALLOC = 0x200;
        const METADATA_CSUM = 0x400;
        const READONLY = 0x1000;
        const PROJECT = 0x2000;
        const VERITY = 0x8000;
        const ORPHAN_PRESENT = 0x1_0000;
    }
}

/// What can be read here. (`ENCRYPT` is not among them: it only says that some directory may be encrypted, but such files could not be told
/// from others by those who look.)
const KNOWN_INCOMPATIBLE: Incompatible = Incompatible::FILETYPE
    .union(Incompatible::RECOVER)
    .union(Incompatible::META_BG)
    .union(Incompatible::EXTENTS)
    .union(Incompatible::BIT64)
    .union(Incompatible::FLEX_BG)
    .union(Incompatible::CSUM_SEED)
    .union(Incompatible::LARGEDIR)
    .union(Incompatible::INLINE_DATA);

/// What can be written here. Quota files would have to be kept up to date, clusters be counted, verity's files refuse writers: those are
/// read only.
const KNOWN_WRITABLE: ReadOnlyCompatible = ReadOnlyCompatible::SPARSE_SUPER
    .union(ReadOnlyCompatible::LARGE_FILE)
    .union(ReadOnlyCompatible::BTREE_DIR)
    .union(ReadOnlyCompatible::HUGE_FILE)
    .union(ReadOnlyCompatible::GDT_CSUM)
    .union(ReadOnlyCompatible::DIR_NLINK)
    .union(ReadOnlyCompatible::EXTRA_ISIZE)
    .union(ReadOnlyCompatible::METADATA_CSUM)
    .union(ReadOnlyCompatible::ORPHAN_PRESENT);

/// What follows from a superblock: checked numbers.
#[derive(Clone, Debug)]
pub struct Geometry {
    pub compatible: Compatible,
    pub incompatible: Incompatible,
    pub read_only_compatible: ReadOnlyCompatible,
    /// Bytes of a block, 1024 to 4096.
    pub block_size: u32,
    /// Its logarithm.
    pub block_bits: u32,
    pub blocks: u64,
    /// The block with the superblock: 1 with blocks of 1024 bytes, else 0.
    pub first_data_block: u32,
    pub blocks_per_group: u32,
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub inode_size: u16,
    pub groups: u32,
    /// Bytes of a group descriptor.
    pub descriptor_size: u16,
    pub first_meta_group: u32,
    /// How many blocks after the descriptors are kept for more of them, in each group that has copies.
    pub reserved_descriptor_blocks: u16,
    /// Groups that are used together: the logarithm of how many.
    pub flex_bits: u32,
    pub first_inode: u32,
    pub reserved_blocks: u64,
    /// What checksums begin with.
    pub checksum_seed: u32,
    /// What CRC-16 of group descriptors begins with.
    pub uuid: [u8; 16],
    pub hash_seed: [u32; 4],
    pub hash_version: u8,
    /// Hashes take characters as unsigned.
    pub unsigned_hash: bool,
    /// How many bytes new inodes have beyond the first 128.
    pub want_extra_size: u16,
    pub journal_inode: u32,
    pub orphan_file: u32,
    /// The two groups with copies of a file system with `sparse_super2`.
    pub backup_groups: [u32; 2],
}

impl Geometry {
    /// Checks a superblock of a device of `device_size` bytes.
    ///
    /// Errors: `EINVAL`: it is none, or has a feature that is not known; [`BAD_CHECKSUM`], [`CORRUPTED`].
    pub fn new(raw: &RawSuperBlock, device_size: u64) -> Result<Geometry> {
        if raw.magic.get() != MAGIC {
            return Err(Errno::EINVAL);
        }
        let (compatible, incompatible, read_only_compatible) = features(raw);
        let unknown = incompatible.difference(KNOWN_INCOMPATIBLE);
        if !unknown.is_empty() {
            log::error!("ext4: cannot mount: features {unknown:?} are not supported");
            return Err(Errno::EINVAL);
        }
        check_checksum(raw, read_only_compatible)
            .inspect_err(|_| log::error!("ext4: the superblock's checksum is wrong"))?;
        let geometry = Geometry::calculate(raw, (compatible, incompatible, read_only_compatible))?;
        geometry.check(raw, device_size)?;
        Ok(geometry)
    }

    /// The same of a superblock with a wrong checksum, if a journal is to be recovered: the power may have been cut while the device wrote one of its
    /// sectors and not yet the other. What says where the journal is does not change, and the journal has the whole of it.
    ///
    /// Errors: as [`Geometry::new`].
    pub fn of_torn(raw: &RawSuperBlock, device_size: u64) -> Result<Geometry> {
        let all = features(raw);
        let recovers = all.1.contains(Incompatible::RECOVER) && all.0.contains(Compatible::HAS_JOURNAL);
        if raw.magic.get() != MAGIC || !recovers || !all.1.difference(KNOWN_INCOMPATIBLE).is_empty() {
            return Err(BAD_CHECKSUM);
        }
        let geometry = Geometry::calculate(raw, all)?;
        geometry.check(raw, device_size)?;
        Ok(geometry)
    }

    fn calculate(
        raw: &RawSuperBlock,
        features: (Compatible, Incompatible, ReadOnlyCompatible),
    ) -> Result<Geometry> {
        let (compatible, incompatible, read_only_compatible) = features;
        let wide = incompatible.contains(Incompatible::BIT64);
        let high = |value: U32| if wide { value.get() } else { 0 };
        let old = raw.rev_level.get() == 0;
        let log_block_size = raw.log_block_size.get();
        if log_block_size > 2 {
            log::error!("ext4: cannot mount: blocks of 2^{} bytes", log_block_size.saturating_add(10));
            return Err(Errno::EINVAL);
        }
        let blocks = join(raw.blocks_count_lo.get(), high(raw.blocks_count_hi));
        let first_data_block = raw.first_data_block.get();
        let blocks_per_group = raw.blocks_per_group.get();
        let data = blocks.checked_sub(u64::from(first_data_block)).ok_or(CORRUPTED)?;
        let groups = data.div_ceil(u64::from(blocks_per_group.max(1)));
        let seeded = incompatible.contains(Incompatible::CSUM_SEED);
        Ok(Geometry {
            compatible,
            incompatible,
            read_only_compatible,
            block_size: 1024 << log_block_size,
            block_bits: 10 + log_block_size,
            blocks,
            first_data_block,
            blocks_per_group,
            inodes: raw.inodes_count.get(),
            inodes_per_group: raw.inodes_per_group.get(),
            inode_size: if old { OLD_INODE_SIZE } else { raw.inode_size.get() },
            groups: u32::try_from(groups).map_err(|_| CORRUPTED)?,
            descriptor_size: if wide { raw.desc_size.get() } else { 32 },
            first_meta_group: raw.first_meta_bg.get(),
            reserved_descriptor_blocks: raw.reserved_gdt_blocks.get(),
            flex_bits: if incompatible.contains(Incompatible::FLEX_BG) {
                u32::from(raw.log_groups_per_flex)
            } else {
                0
            },
            first_inode: if old { OLD_FIRST_INODE } else { raw.first_ino.get() },
            reserved_blocks: join(raw.r_blocks_count_lo.get(), high(raw.r_blocks_count_hi)),
            checksum_seed: if seeded { raw.checksum_seed.get() } else { crc32c(START, &raw.uuid) },
            uuid: raw.uuid,
            hash_seed: raw.hash_seed.map(|word| word.get()),
            hash_version: raw.def_hash_version,
            unsigned_hash: raw.flags.get() & FLAG_UNSIGNED_HASH != 0,
            want_extra_size: raw.want_extra_isize.get(),
            journal_inode: raw.journal_inum.get(),
            orphan_file: if compatible.contains(Compatible::ORPHAN_FILE) {
                raw.orphan_file_inum.get()
            } else {
                0
            },
            backup_groups: raw.backup_bgs.map(|group| group.get()),
        })
    }

    /// Whether the numbers fit each other and the device.
    fn check(&self, raw: &RawSuperBlock, device_size: u64) -> Result<()> {
        let bits = self.block_size.saturating_mul(8);
        let bigalloc = self.read_only_compatible.contains(ReadOnlyCompatible::BIGALLOC);
        let inodes = u64::from(self.groups) * u64::from(self.inodes_per_group);
        let per_block = self.block_size / u32::from(self.inode_size.max(1));
        let fine = self.inode_size.is_power_of_two()
            && self.inode_size >= OLD_INODE_SIZE
            && u32::from(self.inode_size) <= self.block_size
            && (8..=bits).contains(&self.blocks_per_group)
            && self.blocks_per_group.is_multiple_of(8)
            && (per_block..=bits).contains(&self.inodes_per_group)
            && self.inodes_per_group > 0
            && self.groups > 0
            && u64::from(self.inodes) == inodes
            && self.descriptor_size.is_power_of_two()
            && (32..=1024).contains(&self.descriptor_size)
            && u64::from(self.first_data_block) == u64::from(self.block_size == 1024)
            && self.first_inode >= OLD_FIRST_INODE
            && self.first_inode <= self.inodes_per_group.saturating_mul(self.groups)
            && self.flex_bits < 32
            && self.reserved_blocks <= self.blocks
            && (!self.incompatible.contains(Incompatible::BIT64) || self.descriptor_size >= 64)
            && (bigalloc || raw.log_cluster_size.get() == raw.log_block_size.get());
        if !fine {
            log::error!("ext4: the superblock contradicts itself");
            return Err(CORRUPTED);
        }
        if bigalloc {
            log::error!("ext4: cannot mount: feature BIGALLOC is not supported");
            return Err(Errno::EINVAL);
        }
        if self.blocks.checked_mul(u64::from(self.block_size)).is_none_or(|size| size > device_size) {
            log::error!("ext4: {} blocks of {} bytes do not fit the device", self.blocks, self.block_size);
            return Err(CORRUPTED);
        }
        Ok(())
    }

    /// The features that forbid writing, if there are any.
    pub fn read_only_features(&self) -> Option<ReadOnlyCompatible> {
        Some(self.read_only_compatible.difference(KNOWN_WRITABLE)).filter(|unknown| !unknown.is_empty())
    }

    /// Whether metadata has CRC-32C.
    pub fn has_checksums(&self) -> bool {
        self.read_only_compatible.contains(ReadOnlyCompatible::METADATA_CSUM)
    }

    /// Whether group descriptors have a checksum of either kind, and so may say that a group is not initialised.
    pub fn has_group_checksums(&self) -> bool {
        self.read_only_compatible.intersects(ReadOnlyCompatible::METADATA_CSUM | ReadOnlyCompatible::GDT_CSUM)
    }

    /// Whether directories may have an index.
    pub fn has_index(&self) -> bool {
        self.compatible.contains(Compatible::DIR_INDEX)
    }

    /// The first block of a group.
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(self.first_data_block) + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// How many blocks a group has: the last may have fewer.
    pub fn group_blocks(&self, group: u32) -> u32 {
        let left = self.blocks.saturating_sub(self.group_start(group));
        u32::try_from(left).unwrap_or(u32::MAX).min(self.blocks_per_group)
    }

    /// The group of a block and its place there; `None` beyond the end.
    pub fn group_of(&self, block: u64) -> Option<(u32, u32)> {
        let from_start =
            block.checked_sub(u64::from(self.first_data_block)).filter(|_| block < self.blocks)?;
        let per_group = u64::from(self.blocks_per_group);
        Some(((from_start / per_group) as u32, (from_start % per_group) as u32))
    }

    /// Whether `count` blocks from `block` on are blocks of files: within the device and behind the superblock.
    pub fn contains(&self, block: u64, count: u64) -> bool {
        block > u64::from(self.first_data_block)
            && block.checked_add(count).is_some_and(|end| end <= self.blocks)
    }

    /// Group descriptors in a block.
    pub fn descriptors_per_block(&self) -> u32 {
        self.block_size / u32::from(self.descriptor_size)
    }

    /// Blocks that the inode table of a group takes.
    pub fn table_blocks(&self) -> u32 {
        (self.inodes_per_group * u32::from(self.inode_size)).div_ceil(self.block_size)
    }

    /// Whether the group begins with a copy of the superblock (and of the descriptors).
    pub fn has_super(&self, group: u32) -> bool {
        if self.compatible.contains(Compatible::SPARSE_SUPER2) {
            return group == 0 || self.backup_groups.contains(&group);
        }
        if group <= 1 || !self.read_only_compatible.contains(ReadOnlyCompatible::SPARSE_SUPER) {
            return true;
        }
        [3, 5, 7].iter().any(|base| is_power_of(group, *base))
    }

    /// How many blocks at the beginning of a group the copies of superblock and descriptors take.
    pub fn base_blocks(&self, group: u32) -> u32 {
        let has_super = u32::from(self.has_super(group));
        let meta = self.incompatible.contains(Incompatible::META_BG);
        let per_block = self.descriptors_per_block();
        if !meta || group < self.first_meta_group.saturating_mul(per_block) {
            let all = if meta { self.first_meta_group } else { self.groups.div_ceil(per_block) };
            return has_super * (1 + all + u32::from(self.reserved_descriptor_blocks));
        }
        let within = group % per_block;
        has_super + u32::from(within == 0 || within == 1 || within == per_block - 1)
    }

    /// The block with the descriptor of a group, and the descriptor's place in it, bytes.
    pub fn descriptor_place(&self, group: u32) -> (u64, usize) {
        let per_block = self.descriptors_per_block();
        let index = group / per_block;
        let offset = (group % per_block) as usize * usize::from(self.descriptor_size);
        if !self.incompatible.contains(Incompatible::META_BG) || index < self.first_meta_group {
            return (u64::from(self.first_data_block) + 1 + u64::from(index), offset);
        }
        let first = index * per_block;
        (self.group_start(first) + u64::from(self.has_super(first)), offset)
    }

    /// The group of an inode and its place there; `None` if there is no such inode.
    pub fn inode_place(&self, number: u32) -> Option<(u32, u32)> {
        let index = number.checked_sub(1).filter(|_| number <= self.inodes)?;
        Some((index / self.inodes_per_group, index % self.inodes_per_group))
    }

    /// The most blocks that a file with extents can have.
    pub fn max_extent_file_size(&self) -> u64 {
        (u64::from(u32::MAX)) << self.block_bits
    }
}

fn is_power_of(number: u32, base: u32) -> bool {
    let mut power = base;
    while power < number {
        match power.checked_mul(base) {
            Some(next) => power = next,
            None => return false,
        }
    }
    power == number
}

/// The feature bits; the oldest revision has none.
fn features(raw: &RawSuperBlock) -> (Compatible, Incompatible, ReadOnlyCompatible) {
    let known = |bits: U32| if raw.rev_level.get() == 0 { 0 } else { bits.get() };
    (
        Compatible::from_bits_retain(known(raw.feature_compat)),
        Incompatible::from_bits_retain(known(raw.feature_incompat)),
        ReadOnlyCompatible::from_bits_retain(known(raw.feature_ro_compat)),
    )
}

/// Errors: `EBADMSG`: the checksum is wrong; `EINVAL`: it is of an unknown type.
pub fn check_checksum(raw: &RawSuperBlock, features: ReadOnlyCompatible) -> Result<()> {
    if !features.contains(ReadOnlyCompatible::METADATA_CSUM) {
        return Ok(());
    }
    if raw.checksum_type != 1 {
        log::error!("ext4: checksums of the unknown type {}", raw.checksum_type);
        return Err(Errno::EINVAL);
    }
    if checksum_of(raw) != raw.checksum.get() {
        return Err(BAD_CHECKSUM);
    }
    Ok(())
}

fn checksum_of(raw: &RawSuperBlock) -> u32 {
    crc32c(START, raw.as_bytes().get(..SIZE - 4).unwrap_or_default())
}

/// Puts the checksum in.
pub fn seal(raw: &mut RawSuperBlock) {
    if features(raw).2.contains(ReadOnlyCompatible::METADATA_CSUM) {
        raw.checksum = checksum_of(raw).into();
    }
}

/// The superblock in its 1024 bytes. Errors: [`CORRUPTED`] if there are fewer.
pub fn parse(bytes: &[u8]) -> Result<&RawSuperBlock> {
    at(bytes, 0)
}

/// The checksum of a group descriptor with CRC-16: over the UUID, the group's number and the descriptor without the sum's own two bytes.
pub fn group_crc16(uuid: &[u8; 16], group: u32, before: &[u8], after: &[u8]) -> u16 {
    let sum = crc16(crc16(!0, uuid), &group.to_le_bytes());
    crc16(crc16(sum, before), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers() {
        let powers: alloc::vec::Vec<u32> =
            (2..400).filter(|n| [3, 5, 7].iter().any(|base| is_power_of(*n, *base))).collect();
        assert_eq!(powers, [3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343]);
    }
}
