//! The partitions on a disk, read from it. Neighbours: `lib` (what the tables mean), `registry`. No locks.

use crate::device::{BlockDevice, Partition};
use abi::errno::Result;
use alloc::vec::Vec;
use linnet_lib::partition_table::{self, Source};

/// The partitions of a disk, as far as they lie on it. Thread context. Errors: `EIO` and the like; `ENOMEM`.
pub(crate) fn read(whole: &BlockDevice) -> Result<Vec<Partition>> {
    let block_size = whole.disk().limits().logical_block_size;
    let blocks = whole.size() / u64::from(block_size.max(1));
    let mut block = |number: u64, into: &mut [u8]| whole.read_bytes(number * u64::from(block_size), into);
    let entries = partition_table::read(&mut Source { block_size, blocks, read: &mut block })?;
    let end = whole.sectors();
    let kept = entries.into_iter().filter(|entry| entry.first_sector < end).map(|entry| Partition {
        number: entry.number,
        first_sector: entry.first_sector,
        // Cut at the end of the disk, as on Linux.
        sectors: entry.sectors.min(end - entry.first_sector),
        uuid: Some(entry.uuid),
        label: Some(entry.label).filter(|label| !label.is_empty()),
    });
    Ok(kept.collect())
}
