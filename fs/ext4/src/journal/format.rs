//! jbd2's format on disk: superblock, descriptor, revoke and commit blocks. Pure; total on any bytes.
//!
//! Key types: [`SuperBlock`], [`Features`], [`Layout`] (how blocks are written, which follows from the features), [`Tag`]. All numbers are
//! big-endian. Source: the kernel's documentation of ext4, "Journal (jbd2)". Neighbours: `recovery` reads with it, `commit` writes with it.

use crate::format::checksum::{START, crc32c};
use abi::errno::{Errno, Result};
use bitflags::bitflags;

/// What every block of the journal's own begins with.
pub const MAGIC: u32 = 0xc03b_3998;
/// Block types.
pub const DESCRIPTOR: u32 = 1;
/// A transaction is complete.
pub const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
/// Blocks that are not to be replayed.
pub const REVOKE: u32 = 5;
/// Bytes of the header of each: magic, type, transaction.
pub const HEADER: usize = 12;
/// Bytes of the superblock, at the beginning of the journal's first block.
pub const SUPERBLOCK_SIZE: usize = 1024;
/// Where a revoke block's records begin.
pub const REVOKE_RECORDS: usize = 16;
/// The fewest blocks of a journal.
const MIN_BLOCKS: u32 = 1024;
/// The fast-commit area if the superblock does not say: `JBD2_DEFAULT_FAST_COMMIT_BLOCKS`.
const DEFAULT_FAST_COMMIT_BLOCKS: u32 = 256;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;
const UUID_SIZE: usize = 16;
const CRC32C: u8 = 4;

bitflags! {
    /// `s_feature_incompat`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// There are revoke blocks.
        const REVOKE = 1;
        /// Block numbers of 64 bits.
        const WIDE = 2;
        /// The commit block may be on the disk before the rest: checksums decide.
        const ASYNC_COMMIT = 4;
        /// Checksums of 16 bits in tags.
        const CHECKSUM_2 = 8;
        /// Checksums of 32 bits in tags.
        const CHECKSUM_3 = 16;
        /// An area at the end has fast commits.
        const FAST_COMMIT = 32;
    }
}

/// The number of four bytes at `at`; 0 beyond the end, which no caller reaches with a block it has checked the size of.
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_be_bytes(*two))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// Puts bytes at `at`, if there is room.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// The checksum of a block with the four bytes at `hole` as zeros.
fn checksum_without(seed: u32, bytes: &[u8], hole: usize) -> u32 {
    let (before, rest) = bytes.split_at(hole.min(bytes.len()));
    let after = rest.get(4..).unwrap_or(&[]);
    crc32c(crc32c(crc32c(seed, before), &[0; 4]), after)
}

/// What the superblock says.
#[derive(Clone, Debug)]
pub struct SuperBlock {
    /// Blocks of the journal.
    pub blocks: u32,
    /// The first block of the log.
    pub first: u32,
    /// The block after the log's last; fast commits follow.
    pub end: u32,
    /// The first transaction in the log.
    pub sequence: u32,
    /// Where it begins; 0: the log is empty.
    pub start: u32,
    /// The error that ended the last use, negative; 0: none.
    pub error: i32,
    /// What must be understood.
    pub features: Features,
    /// Whose journal.
    pub uuid: [u8; 16],
}

impl SuperBlock {
    /// Checks and reads. `block_size` is the file system's.
    ///
    /// Errors: `EUCLEAN`: it is none, or contradicts itself; `EBADMSG`: its checksum; `EOPNOTSUPP`: features not known here.
    pub fn parse(bytes: &[u8], block_size: u32) -> Result<SuperBlock> {
        let bytes = bytes.get(..SUPERBLOCK_SIZE).ok_or(Errno::EUCLEAN)?;
        let version = be32(bytes, 4);
        if be32(bytes, 0) != MAGIC || be32(bytes, 0xc) != block_size {
            return Err(Errno::EUCLEAN);
        }
        let features = match version {
            SUPERBLOCK_V1 => Features::empty(),
            SUPERBLOCK_V2 => Features::from_bits(be32(bytes, 0x28)).ok_or(Errno::EOPNOTSUPP)?,
            _ => return Err(Errno::EUCLEAN),
        };
        // Features that forbid writing: none is known.
        if version == SUPERBLOCK_V2 && be32(bytes, 0x2c) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(bytes.get(0x30..0x40).ok_or(Errno::EUCLEAN)?);
        let checked = Features::CHECKSUM_2 | Features::CHECKSUM_3;
        if features.contains(checked) {
            return Err(Errno::EUCLEAN);
        }
        if features.intersects(checked) {
            if bytes.get(0x50) != Some(&CRC32C) {
                return Err(Errno::EOPNOTSUPP);
            }
            if be32(bytes, 0xfc) != checksum_without(START, bytes, 0xfc) {
                return Err(Errno::EBADMSG);
            }
        }
        let (blocks, first, start) = (be32(bytes, 0x10), be32(bytes, 0x14), be32(bytes, 0x1c));
        let fast = match be32(bytes, 0x54) {
            _ if !features.contains(Features::FAST_COMMIT) => 0,
            0 => DEFAULT_FAST_COMMIT_BLOCKS,
            blocks => blocks,
        };
        let end = blocks.checked_sub(fast).ok_or(Errno::EUCLEAN)?;
        let long_enough = blocks >= MIN_BLOCKS
            && first > 0
            && first.checked_add(MIN_BLOCKS / 2).is_some_and(|at| at <= end);
        if !long_enough || (start != 0 && !(first..end).contains(&start)) {
            return Err(Errno::EUCLEAN);
        }
        let (sequence, error) = (be32(bytes, 0x18), be32(bytes, 0x20) as i32);
        Ok(SuperBlock { blocks, first, end, sequence, start, error, features, uuid })
    }

    /// Writes what can change into the superblock's bytes, and its checksum.
    pub fn write(&self, bytes: &mut [u8]) {
        put(bytes, 4, &SUPERBLOCK_V2.to_be_bytes());
        put(bytes, 0x18, &self.sequence.to_be_bytes());
        put(bytes, 0x1c, &self.start.to_be_bytes());
        put(bytes, 0x20, &self.error.to_be_bytes());
        put(bytes, 0x28, &self.features.bits().to_be_bytes());
        if self.features.intersects(Features::CHECKSUM_2 | Features::CHECKSUM_3) {
            put(bytes, 0x50, &[CRC32C]);
            let sum = bytes.get(..SUPERBLOCK_SIZE).map_or(0, |bytes| checksum_without(START, bytes, 0xfc));
            put(bytes, 0xfc, &sum.to_be_bytes());
        }
    }

    /// How blocks are written.
    pub fn layout(&self, block_size: u32) -> Layout {
        let seed = crc32c(START, &self.uuid);
        Layout { block_size: block_size as usize, features: self.features, seed, uuid: self.uuid }
    }
}

/// How blocks of the log are written.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bytes of a block.
    pub block_size: usize,
    /// The journal's features.
    pub features: Features,
    seed: u32,
    uuid: [u8; 16],
}

/// What a descriptor says of one block that follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// Where the block belongs.
    pub block: u64,
    /// Its checksum, as far as the journal keeps one.
    pub checksum: u32,
    /// Its first four bytes were those of [`MAGIC`] and are zeros in the log.
    pub escaped: bool,
}

impl Layout {
    fn has(&self, feature: Features) -> bool {
        self.features.contains(feature)
    }

    fn has_checksums(&self) -> bool {
        self.features.intersects(Features::CHECKSUM_2 | Features::CHECKSUM_3)
    }

    /// Bytes of a tag without the UUID that may follow it.
    fn tag_size(&self) -> usize {
        if self.has(Features::CHECKSUM_3) {
            return 16;
        }
        8 + if self.has(Features::WIDE) { 4 } else { 0 } + if self.has(Features::CHECKSUM_2) { 2 } else { 0 }
    }

    /// Where the tail with the checksum begins, in descriptor and revoke blocks.
    fn tail(&self) -> usize {
        self.block_size - if self.has_checksums() { 4 } else { 0 }
    }

    /// How many tags a descriptor block has room for.
    pub fn tags(&self) -> usize {
        (self.tail() - HEADER - UUID_SIZE) / self.tag_size()
    }

    fn record_size(&self) -> usize {
        if self.has(Features::WIDE) { 8 } else { 4 }
    }

    /// How many records a revoke block has room for.
    pub fn records(&self) -> usize {
        (self.tail() - REVOKE_RECORDS) / self.record_size()
    }

    /// The checksum of a block of the log, given in two pieces, as its tag has it.
    pub fn data_checksum(&self, sequence: u32, pieces: &[&[u8]; 2]) -> u32 {
        let sum = || {
            pieces.iter().fold(crc32c(self.seed, &sequence.to_be_bytes()), |sum, piece| crc32c(sum, piece))
        };
        match () {
            () if self.has(Features::CHECKSUM_3) => sum(),
            () if self.has(Features::CHECKSUM_2) => sum() & 0xffff,
            () => 0,
        }
    }

    /// Whether a block begins with the header of this type and transaction.
    pub fn header(bytes: &[u8]) -> Option<(u32, u32)> {
        (be32(bytes, 0) == MAGIC).then(|| (be32(bytes, 4), be32(bytes, 8)))
    }

    fn start(&self, bytes: &mut [u8], kind: u32, sequence: u32) {
        bytes.fill(0);
        put(bytes, 0, &MAGIC.to_be_bytes());
        put(bytes, 4, &kind.to_be_bytes());
        put(bytes, 8, &sequence.to_be_bytes());
    }

    fn seal(&self, bytes: &mut [u8]) {
        if self.has_checksums() {
            let sum = checksum_without(self.seed, bytes, self.tail());
            put(bytes, self.tail(), &sum.to_be_bytes());
        }
    }

    /// Whether the checksum at the end of a descriptor or revoke block is right.
    pub fn tail_is_right(&self, bytes: &[u8]) -> bool {
        !self.has_checksums() || be32(bytes, self.tail()) == checksum_without(self.seed, bytes, self.tail())
    }

    /// A descriptor block. At most [`Layout::tags`] tags.
    pub fn write_descriptor(&self, bytes: &mut [u8], sequence: u32, tags: &[Tag]) {
        self.start(bytes, DESCRIPTOR, sequence);
        let mut at = HEADER;
        for (index, tag) in tags.iter().enumerate() {
            let mut flags = if tag.escaped { TAG_ESCAPED } else { 0 };
            flags |= if index > 0 { TAG_SAME_UUID } else { 0 };
            flags |= if index + 1 == tags.len() { TAG_LAST } else { 0 };
            put(bytes, at, &(tag.block as u32).to_be_bytes());
            let high = ((tag.block >> 32) as u32).to_be_bytes();
            if self.has(Features::CHECKSUM_3) {
                put(bytes, at + 4, &flags.to_be_bytes());
                put(bytes, at + 8, &high);
                put(bytes, at + 12, &tag.checksum.to_be_bytes());
            } else {
                put(bytes, at + 4, &(tag.checksum as u16).to_be_bytes());
                put(bytes, at + 6, &(flags as u16).to_be_bytes());
                if self.has(Features::WIDE) {
                    put(bytes, at + 8, &high);
                }
            }
            at += self.tag_size();
            if index == 0 {
                put(bytes, at, &self.uuid);
                at += UUID_SIZE;
            }
        }
        self.seal(bytes);
    }

    /// The tags of a descriptor block.
    pub fn read_tags(&self, bytes: &[u8], mut each: impl FnMut(Tag) -> Result<()>) -> Result<()> {
        let mut at = HEADER;
        while at + self.tag_size() <= self.tail() {
            let wide = self.has(Features::WIDE);
            let high = if wide { u64::from(be32(bytes, at + 8)) << 32 } else { 0 };
            let (flags, checksum) = if self.has(Features::CHECKSUM_3) {
                (be32(bytes, at + 4), be32(bytes, at + 12))
            } else {
                (u32::from(be16(bytes, at + 6)), u32::from(be16(bytes, at + 4)))
            };
            let block = high | u64::from(be32(bytes, at));
            each(Tag { block, checksum, escaped: flags & TAG_ESCAPED != 0 })?;
            at += self.tag_size() + if flags & TAG_SAME_UUID == 0 { UUID_SIZE } else { 0 };
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(())
    }

    /// A revoke block. At most [`Layout::records`] blocks.
    pub fn write_revoke(&self, bytes: &mut [u8], sequence: u32, blocks: &[u64]) {
        self.start(bytes, REVOKE, sequence);
        let used = REVOKE_RECORDS + blocks.len() * self.record_size();
        put(bytes, HEADER, &(used as u32).to_be_bytes());
        for (index, block) in blocks.iter().enumerate() {
            let at = REVOKE_RECORDS + index * self.record_size();
            if self.has(Features::WIDE) {
                put(bytes, at, &block.to_be_bytes());
            } else {
                put(bytes, at, &(*block as u32).to_be_bytes());
            }
        }
        self.seal(bytes);
    }

    /// The blocks that a revoke block names. Errors: `EUCLEAN`: it says that it is longer than a block.
    pub fn read_revoked(&self, bytes: &[u8], mut each: impl FnMut(u64)) -> Result<()> {
        let used = be32(bytes, HEADER) as usize;
        if used > self.tail() {
            return Err(Errno::EUCLEAN);
        }
        let mut at = REVOKE_RECORDS;
        while at + self.record_size() <= used {
            each(if self.has(Features::WIDE) { be64(bytes, at) } else { u64::from(be32(bytes, at)) });
            at += self.record_size();
        }
        Ok(())
    }

    /// A commit block, with the time of day.
    pub fn write_commit(&self, bytes: &mut [u8], sequence: u32, now_ns: u64) {
        const NS: u64 = 1_000_000_000;
        self.start(bytes, COMMIT, sequence);
        put(bytes, 48, &(now_ns / NS).to_be_bytes());
        put(bytes, 56, &((now_ns % NS) as u32).to_be_bytes());
        if self.has_checksums() {
            let sum = checksum_without(self.seed, bytes, 16);
            put(bytes, 16, &sum.to_be_bytes());
        }
    }

    /// Whether a commit block's checksum is right.
    pub fn commit_is_right(&self, bytes: &[u8]) -> bool {
        !self.has_checksums() || be32(bytes, 16) == checksum_without(self.seed, bytes, 16)
    }
}
