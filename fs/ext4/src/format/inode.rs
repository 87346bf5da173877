//! Inodes as they are in the inode tables.
//!
//! Key types: [`InodeRef`] and [`InodeMut`] (the bytes of one, with a method for each field), [`flag`]. Fields beyond the first 128 bytes
//! exist as far as `i_extra_isize` says; what does not exist reads as 0 and is not written.

use super::checksum::crc32c;
use super::superblock::{Geometry, OLD_INODE_SIZE, ReadOnlyCompatible};
use super::{BAD_CHECKSUM, CORRUPTED, at, at_mut, join};
use abi::errno::Result;
use vfs::{TimeLimits, Times, Timestamp};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The root directory.
pub const ROOT: u32 = 2;
/// Bytes of `i_block`.
pub const MAP_SIZE: usize = 60;
/// The most names that a file may have.
pub const LINK_MAX: u32 = 65000;

/// Bits of `i_flags`; those up to `PROJECT_INHERIT` are `FS_*_FL` of ioctl_iflags(2) too.
pub mod flag {
    pub const SYNC: u32 = 0x8;
    pub const IMMUTABLE: u32 = 0x10;
    pub const APPEND: u32 = 0x20;
    pub const NO_DUMP: u32 = 0x40;
    pub const NO_ATIME: u32 = 0x80;
    pub const ENCRYPT: u32 = 0x800;
    pub const INDEX: u32 = 0x1000;
    pub const JOURNAL_DATA: u32 = 0x4000;
    pub const NO_TAIL: u32 = 0x8000;
    pub const DIR_SYNC: u32 = 0x1_0000;
    pub const TOP_DIR: u32 = 0x2_0000;
    pub const HUGE_FILE: u32 = 0x4_0000;
    pub const EXTENTS: u32 = 0x8_0000;
    pub const VERITY: u32 = 0x10_0000;
    pub const EA_INODE: u32 = 0x20_0000;
    pub const INLINE_DATA: u32 = 0x1000_0000;
    pub const PROJECT_INHERIT: u32 = 0x2000_0000;
    pub const CASEFOLD: u32 = 0x4000_0000;
    /// What programs see.
    pub const VISIBLE: u32 = 0x705b_dfff;
    /// What programs may change.
    pub const CHANGEABLE: u32 =
        SYNC | IMMUTABLE | APPEND | NO_DUMP | NO_ATIME | NO_TAIL | DIR_SYNC | TOP_DIR | PROJECT_INHERIT;
    /// What a new inode has from its directory.
    pub const INHERITED: u32 =
        SYNC | NO_DUMP | NO_ATIME | NO_TAIL | DIR_SYNC | PROJECT_INHERIT | JOURNAL_DATA;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Head {
    mode: U16,
    uid: U16,
    size: U32,
    accessed: U32,
    changed: U32,
    modified: U32,
    deleted: U32,
    gid: U16,
    links: U16,
    blocks: U32,
    flags: U32,
    version: U32,
    map: [u8; MAP_SIZE],
    generation: U32,
    xattr_block: U32,
    size_high: U32,
    fragment: U32,
    blocks_high: U16,
    xattr_block_high: U16,
    uid_high: U16,
    gid_high: U16,
    checksum: U16,
    reserved: U16,
}

const HEAD: usize = size_of::<Head>();
const _: () = assert!(HEAD == OLD_INODE_SIZE as usize);
/// Places of fields behind the head.
const EXTRA_SIZE: usize = 128;
const CHECKSUM_HIGH: usize = 130;
const CHANGED_EXTRA: usize = 132;
const MODIFIED_EXTRA: usize = 136;
const ACCESSED_EXTRA: usize = 140;
const CREATED: usize = 144;
const CREATED_EXTRA: usize = 148;
const PROJECT: usize = 156;
/// Where the checksum is in the head.
const CHECKSUM: usize = 124;

/// The bytes of an inode.
#[derive(Clone, Copy)]
pub struct InodeRef<'a>(pub &'a [u8]);

impl<'a> InodeRef<'a> {
    fn head(&self) -> Result<&'a Head> {
        at(self.0, 0)
    }

    /// How many bytes beyond the head are in use.
    ///
    /// Errors: [`CORRUPTED`]: more than there are.
    pub fn extra_size(&self) -> Result<usize> {
        if self.0.len() <= HEAD {
            return Ok(0);
        }
        let extra = usize::from(at::<U16>(self.0, EXTRA_SIZE)?.get());
        if extra.is_multiple_of(4) && HEAD + extra <= self.0.len() { Ok(extra) } else { Err(CORRUPTED) }
    }

    /// A number behind the head, 0 if it does not exist.
    fn extra(&self, offset: usize) -> u32 {
        let end = HEAD + self.extra_size().unwrap_or(0);
        if offset + 4 > end { 0 } else { at::<U32>(self.0, offset).map_or(0, |value| value.get()) }
    }

    /// Kind and permissions.
    pub fn mode(&self) -> Result<u32> {
        Ok(u32::from(self.head()?.mode.get()))
    }
    /// Owner.
    pub fn uid(&self) -> Result<u32> {
        let head = self.head()?;
        Ok(u32::from(head.uid_high.get()) << 16 | u32::from(head.uid.get()))
    }
    /// Group.
    pub fn gid(&self) -> Result<u32> {
        let head = self.head()?;
        Ok(u32::from(head.gid_high.get()) << 16 | u32::from(head.gid.get()))
    }
    /// Bytes.
    pub fn size(&self) -> Result<u64> {
        let head = self.head()?;
        Ok(join(head.size.get(), head.size_high.get()))
    }
    /// Number of names.
    pub fn links(&self) -> Result<u32> {
        Ok(u32::from(self.head()?.links.get()))
    }
    /// When it was deleted, or the next orphan.
    pub fn deleted(&self) -> Result<u32> {
        Ok(self.head()?.deleted.get())
    }
    /// `flag`s.
    pub fn flags(&self) -> Result<u32> {
        Ok(self.head()?.flags.get())
    }
    /// Tells it from the inodes that had its number before.
    pub fn generation(&self) -> Result<u32> {
        Ok(self.head()?.generation.get())
    }
    /// Where its blocks are, or what it holds.
    pub fn map(&self) -> Result<[u8; MAP_SIZE]> {
        Ok(self.head()?.map)
    }
    /// The block with its extended attributes; 0 for none.
    pub fn xattr_block(&self) -> Result<u64> {
        let head = self.head()?;
        Ok(join(head.xattr_block.get(), u32::from(head.xattr_block_high.get())))
    }
    /// Its project.
    pub fn project(&self) -> u32 {
        self.extra(PROJECT)
    }

    /// Space taken, in units of 512 bytes.
    pub fn blocks(&self, geometry: &Geometry) -> Result<u64> {
        let head = self.head()?;
        if !geometry.read_only_compatible.contains(ReadOnlyCompatible::HUGE_FILE) {
            return Ok(u64::from(head.blocks.get()));
        }
        let count = join(head.blocks.get(), u32::from(head.blocks_high.get()));
        let in_blocks = head.flags.get() & flag::HUGE_FILE != 0;
        Ok(if in_blocks { count << (geometry.block_bits - 9) } else { count })
    }

    /// The times.
    pub fn times(&self) -> Result<Times> {
        let head = self.head()?;
        Ok(Times {
            accessed: decode_time(head.accessed.get(), self.extra(ACCESSED_EXTRA)),
            modified: decode_time(head.modified.get(), self.extra(MODIFIED_EXTRA)),
            changed: decode_time(head.changed.get(), self.extra(CHANGED_EXTRA)),
            created: decode_time(self.extra(CREATED), self.extra(CREATED_EXTRA)),
        })
    }

    /// Where extended attributes are in the inode itself: behind the fields. `None` if there is no room.
    pub fn xattr_area(&self) -> Result<Option<&'a [u8]>> {
        let start = HEAD + self.extra_size()?;
        Ok(self.0.get(start..).filter(|area| self.0.len() > HEAD && area.len() >= 4))
    }

    /// Errors: [`BAD_CHECKSUM`], [`CORRUPTED`].
    pub fn check(&self, geometry: &Geometry, number: u32) -> Result<()> {
        self.extra_size()?;
        if !geometry.has_checksums() {
            return Ok(());
        }
        let has_high = self.has_high_checksum();
        let high = if has_high { at::<U16>(self.0, CHECKSUM_HIGH)?.get() } else { 0 };
        let stored = u32::from(high) << 16 | u32::from(self.head()?.checksum.get());
        let right = self.checksum(geometry, number)?;
        let right = if has_high { right } else { right & 0xffff };
        // What mke2fs left as zeros was never an inode.
        if stored == right || self.0.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        log::error!("ext4: the checksum of inode {number} is wrong");
        Err(BAD_CHECKSUM)
    }

    fn has_high_checksum(&self) -> bool {
        self.extra_size().is_ok_and(|extra| HEAD + extra >= CHECKSUM_HIGH + 2)
    }

    fn checksum(&self, geometry: &Geometry, number: u32) -> Result<u32> {
        let seed = checksum_seed(geometry, number, self.generation()?);
        let mut sum = crc32c(seed, self.0.get(..CHECKSUM).ok_or(CORRUPTED)?);
        sum = crc32c(crc32c(sum, &[0, 0]), self.0.get(CHECKSUM + 2..HEAD).ok_or(CORRUPTED)?);
        if self.0.len() > HEAD {
            sum = crc32c(sum, self.0.get(HEAD..CHECKSUM_HIGH).ok_or(CORRUPTED)?);
            let mut rest = CHECKSUM_HIGH;
            if self.has_high_checksum() {
                sum = crc32c(sum, &[0, 0]);
                rest += 2;
            }
            sum = crc32c(sum, self.0.get(rest..).ok_or(CORRUPTED)?);
        }
        Ok(sum)
    }
}

/// The times that inodes of this many bytes keep: those of 128 have no room for more than 32 bits of seconds.
pub fn time_limits(inode_size: u16) -> TimeLimits {
    let whole_seconds = usize::from(inode_size) <= HEAD;
    let last = if whole_seconds { i64::from(i32::MAX) } else { LAST_SECOND };
    TimeLimits { whole_seconds, first: i64::from(i32::MIN), last }
}

/// What the checksums of an inode and of its metadata blocks begin with.
pub fn checksum_seed(geometry: &Geometry, number: u32, generation: u32) -> u32 {
    crc32c(crc32c(geometry.checksum_seed, &number.to_le_bytes()), &generation.to_le_bytes())
}

/// The last second that the two words of a time can say.
const LAST_SECOND: i64 = (3 << 32) + i32::MAX as i64;

fn decode_time(seconds: u32, extra: u32) -> Timestamp {
    let epoch = i64::from(extra & 3) << 32;
    Timestamp { seconds: i64::from(seconds as i32) + epoch, nanoseconds: (extra >> 2).min(999_999_999) }
}

/// The two words of a time; without the second it is as near as 32 bits of seconds allow.
fn encode_time(time: Timestamp, has_extra: bool) -> (u32, u32) {
    if !has_extra {
        return (time.seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32, 0);
    }
    let seconds = time.seconds.clamp(i64::from(i32::MIN), LAST_SECOND);
    let epoch = ((seconds - i64::from(seconds as i32)) >> 32) as u32 & 3;
    (seconds as u32, epoch | time.nanoseconds << 2)
}

/// The bytes of an inode, to be changed. What was changed must be [sealed](Self::seal).
pub struct InodeMut<'a>(pub &'a mut [u8]);

impl InodeMut<'_> {
    /// The same to be read.
    pub fn as_ref(&self) -> InodeRef<'_> {
        InodeRef(self.0)
    }

    fn head(&mut self) -> Result<&mut Head> {
        at_mut(self.0, 0)
    }

    fn set_extra(&mut self, offset: usize, value: u32) {
        let end = HEAD + self.as_ref().extra_size().unwrap_or(0);
        if offset + 4 <= end
            && let Ok(place) = at_mut::<U32>(self.0, offset)
        {
            *place = value.into();
        }
    }

    fn has_extra(&self, offset: usize) -> bool {
        offset + 4 <= HEAD + self.as_ref().extra_size().unwrap_or(0)
    }

    /// Makes all of it zeros but the generation, and gives it `extra` bytes beyond the head.
    pub fn clear(&mut self, generation: u32, extra: u16) -> Result<()> {
        self.0.fill(0);
        self.head()?.generation = generation.into();
        if self.0.len() > HEAD {
            *at_mut::<U16>(self.0, EXTRA_SIZE)? = extra.into();
        }
        Ok(())
    }
    /// Kind and permissions.
    pub fn set_mode(&mut self, mode: u32) -> Result<()> {
        self.head()?.mode = U16::new(mode as u16);
        Ok(())
    }
    /// Owner and group.
    pub fn set_owner(&mut self, uid: u32, gid: u32) -> Result<()> {
        let head = self.head()?;
        (head.uid, head.uid_high) = (U16::new(uid as u16), U16::new((uid >> 16) as u16));
        (head.gid, head.gid_high) = (U16::new(gid as u16), U16::new((gid >> 16) as u16));
        Ok(())
    }
    /// Bytes.
    pub fn set_size(&mut self, size: u64) -> Result<()> {
        let head = self.head()?;
        (head.size, head.size_high) = (U32::new(size as u32), U32::new((size >> 32) as u32));
        Ok(())
    }
    /// Number of names.
    pub fn set_links(&mut self, links: u32) -> Result<()> {
        self.head()?.links = U16::new(links as u16);
        Ok(())
    }
    /// When it was deleted, or the next orphan.
    pub fn set_deleted(&mut self, value: u32) -> Result<()> {
        self.head()?.deleted = value.into();
        Ok(())
    }
    /// `flag`s.
    pub fn set_flags(&mut self, flags: u32) -> Result<()> {
        self.head()?.flags = flags.into();
        Ok(())
    }
    /// Where its blocks are, or what it holds.
    pub fn set_map(&mut self, map: &[u8; MAP_SIZE]) -> Result<()> {
        self.head()?.map = *map;
        Ok(())
    }
    /// The block with its extended attributes; 0 for none.
    pub fn set_xattr_block(&mut self, block: u64) -> Result<()> {
        let head = self.head()?;
        (head.xattr_block, head.xattr_block_high) = (U32::new(block as u32), U16::new((block >> 32) as u16));
        Ok(())
    }
    /// Its project.
    pub fn set_project(&mut self, project: u32) {
        self.set_extra(PROJECT, project);
    }

    /// Space taken, in units of 512 bytes.
    pub fn set_blocks(&mut self, geometry: &Geometry, blocks: u64) -> Result<()> {
        let huge = geometry.read_only_compatible.contains(ReadOnlyCompatible::HUGE_FILE);
        let in_blocks = huge && blocks >= 1 << 48;
        let count = if in_blocks { blocks >> (geometry.block_bits - 9) } else { blocks };
        let head = self.head()?;
        head.blocks = U32::new(count as u32);
        if huge {
            head.blocks_high = U16::new((count >> 32) as u16);
            let flags = head.flags.get() & !flag::HUGE_FILE;
            head.flags = U32::new(if in_blocks { flags | flag::HUGE_FILE } else { flags });
        }
        Ok(())
    }

    /// The times.
    pub fn set_times(&mut self, times: &Times) -> Result<()> {
        let fields = [
            (ACCESSED_EXTRA, times.accessed),
            (MODIFIED_EXTRA, times.modified),
            (CHANGED_EXTRA, times.changed),
        ];
        let mut words = [0; 3];
        for ((offset, time), word) in fields.into_iter().zip(&mut words) {
            let (seconds, extra) = encode_time(time, self.has_extra(offset));
            *word = seconds;
            self.set_extra(offset, extra);
        }
        let head = self.head()?;
        [head.accessed, head.modified, head.changed] = words.map(U32::new);
        let (seconds, extra) = encode_time(times.created, self.has_extra(CREATED_EXTRA));
        self.set_extra(CREATED, seconds);
        self.set_extra(CREATED_EXTRA, extra);
        Ok(())
    }

    /// Where extended attributes are in the inode itself.
    pub fn xattr_area(&mut self) -> Result<Option<&mut [u8]>> {
        let start = HEAD + self.as_ref().extra_size()?;
        let has_room = self.0.len() > HEAD && start + 4 <= self.0.len();
        Ok(if has_room { self.0.get_mut(start..) } else { None })
    }

    /// Puts the checksum in.
    pub fn seal(&mut self, geometry: &Geometry, number: u32) -> Result<()> {
        if !geometry.has_checksums() {
            return Ok(());
        }
        let sum = self.as_ref().checksum(geometry, number)?;
        let has_high = self.as_ref().has_high_checksum();
        self.head()?.checksum = U16::new(sum as u16);
        if has_high {
            *at_mut::<U16>(self.0, CHECKSUM_HIGH)? = U16::new((sum >> 16) as u16);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_round_trip(seconds in i64::from(i32::MIN)..(3_i64 << 32) + i64::from(i32::MAX), nanoseconds in 0_u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            let (word, extra) = encode_time(time, true);
            prop_assert_eq!(decode_time(word, extra), time);
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let inode = InodeRef(&bytes);
            let _ = (inode.times(), inode.xattr_area(), inode.size(), inode.extra_size(), inode.project());
            let mut bytes = bytes.clone();
            let mut inode = InodeMut(&mut bytes);
            let _ = (inode.set_times(&Times::default()), inode.set_size(5), inode.clear(1, 32));
        }
    }
}
