//! What statfs(2) tells.
//!
//! Key functions: [`overhead`], [`fill`].

use crate::filesystem::FileSystem;
use crate::format::Geometry;
use abi::fs::Statfs;
use machine::sync::atomic::Ordering;

/// Blocks that the file system's own structures take: copies of the superblock and descriptors, bitmaps, inode tables. Linux counts the journal
/// as well, which `mount` adds.
pub fn overhead(geometry: &Geometry) -> u64 {
    let each = u64::from(geometry.table_blocks()) + 2;
    let base: u64 = (0..geometry.groups).map(|group| u64::from(geometry.base_blocks(group))).sum();
    u64::from(geometry.first_data_block) + base + u64::from(geometry.groups) * each
}

/// Fills in sizes and counts.
pub fn fill(fs: &FileSystem, status: &mut Statfs) {
    let geometry = &fs.geometry;
    let free: u64 = fs.groups.iter().map(|group| u64::from(group.descriptor().free_blocks)).sum();
    let delayed = fs.delayed_blocks.load(Ordering::Relaxed).max(0) as u64;
    let kept = geometry.reserved_blocks + fs.metadata_pool as u64;
    status.f_blocks = geometry.blocks.saturating_sub(fs.overhead);
    status.f_bfree = free.saturating_sub(delayed);
    status.f_bavail = status.f_bfree.saturating_sub(kept);
    status.f_files = u64::from(geometry.inodes);
    status.f_ffree = fs.free_inodes.load(Ordering::Relaxed).max(0) as u64;
    let (low, high) = geometry.uuid.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let id = word(low) ^ word(high);
    status.f_fsid = [id as i32, (id >> 32) as i32];
}
