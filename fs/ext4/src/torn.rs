//! A superblock that was torn: the power was cut while it was written, and its two sectors are of different ages.
//!
//! Its checksum is wrong then, and so the journal that would bring it right is never looked at; Linux and e2fsck give up. But what changes in a
//! superblock is little, and known: if everything else is as the copy in the next group has it, that is what has happened. It is sealed as it is, and
//! the journal's copy of it, which is newer than either part, is written over it by recovery. Only file systems that were in use are looked at.
//!
//! Key function: [`read_super`]. Neighbours: `mount`. No locks.

use crate::format::superblock::{self, OFFSET, RawSuperBlock, SIZE, check_checksum};
use crate::format::{Incompatible, ReadOnlyCompatible, at_mut};
use abi::errno::{Errno, Result};
use block::{BioFlags, BlockDevice, Operation, Segment};
use machine::memory::{AllocFlags, Frame};
use zerocopy::IntoBytes;

/// Brings a superblock that was read, and the device's, in order if it was torn; leaves any other as it is. Thread context. Errors: `EIO`, `ENOMEM`.
fn mend(device: &BlockDevice, bytes: &mut [u8; SIZE]) -> Result<()> {
    let raw = superblock::parse(bytes)?;
    let in_use = raw.magic.get() == superblock::MAGIC
        && raw.feature_incompat.get() & Incompatible::RECOVER.bits() != 0;
    // A device that writes it in one piece does not tear it.
    let can_be = in_use && device.disk().limits().logical_block_size <= SIZE as u32 && !device.is_read_only();
    if !can_be || is_sealed(raw) {
        return Ok(());
    }
    let Some(place) = place_of_copy(raw) else { return Ok(()) };
    let mut copy = [0; SIZE];
    if device.read_bytes(place, &mut copy).is_err() {
        return Ok(());
    }
    let copy = superblock::parse(&copy)?;
    if copy.magic.get() != superblock::MAGIC || !is_sealed(copy) || !is_same(raw, copy) {
        return Ok(());
    }
    log::warn!("ext4 ({}): the superblock was torn; recovering it", device.name());
    superblock::seal(at_mut(bytes, 0)?);
    let frame = Frame::alloc(AllocFlags::ZEROED).map_err(Errno::from)?;
    frame.write(0, bytes);
    let segment = Segment { frame, offset: 0, length: SIZE as u32 };
    let sector = OFFSET / block::SECTOR_SIZE as u64;
    device.transfer(Operation::Write, BioFlags::FUA | BioFlags::SYNC, sector, &[segment])
}

fn is_sealed(raw: &RawSuperBlock) -> bool {
    check_checksum(raw, ReadOnlyCompatible::from_bits_retain(raw.feature_ro_compat.get())).is_ok()
}

/// Where group 1 has the copy, which it always has if there is a group 1; bytes.
fn place_of_copy(raw: &RawSuperBlock) -> Option<u64> {
    let bits = raw.log_block_size.get().checked_add(10).filter(|bits| *bits <= 12)?;
    let block = u64::from(raw.first_data_block.get()) + u64::from(raw.blocks_per_group.get());
    Some(block << bits).filter(|place| *place > OFFSET)
}

/// Whether a superblock is as a copy, but for what changes while it is used.
fn is_same(raw: &RawSuperBlock, copy: &RawSuperBlock) -> bool {
    let mut one = raw.clone();
    let bits = |own: u32, other: u32, changing: u32| (own & !changing) | (other & changing);
    let changing = Incompatible::RECOVER.bits();
    one.feature_incompat = bits(one.feature_incompat.get(), copy.feature_incompat.get(), changing).into();
    let changing = (ReadOnlyCompatible::ORPHAN_PRESENT | ReadOnlyCompatible::LARGE_FILE).bits();
    one.feature_ro_compat = bits(one.feature_ro_compat.get(), copy.feature_ro_compat.get(), changing).into();
    macro_rules! changes {
        ($($field:ident)*) => { $(one.$field = copy.$field;)* };
    }
    changes!(free_blocks_count_lo free_blocks_count_hi free_inodes_count last_orphan state block_group_nr);
    changes!(mtime mtime_hi wtime wtime_hi lastcheck lastcheck_hi mnt_count kbytes_written overhead_clusters);
    changes!(volume_name last_mounted checksum error_count);
    changes!(first_error_time first_error_time_hi first_error_ino first_error_block first_error_func);
    changes!(first_error_line first_error_errcode last_error_time last_error_time_hi last_error_ino);
    changes!(last_error_block last_error_func last_error_line last_error_errcode);
    one.as_bytes() == copy.as_bytes()
}

/// The superblock of a device, in order if it was torn. Errors: `EINVAL`: there is no room for one; `EIO`, `ENOMEM`.
pub fn read_super(device: &BlockDevice) -> Result<[u8; SIZE]> {
    if device.size() < OFFSET + SIZE as u64 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; SIZE];
    device.read_bytes(OFFSET, &mut bytes)?;
    mend(device, &mut bytes)?;
    Ok(bytes)
}
