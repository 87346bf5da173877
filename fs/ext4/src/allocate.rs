//! Inodes allotted and freed.
//!
//! Key functions: [`FileSystem::allot_inode`], [`FileSystem::free_inode`]. A file goes to the group of its directory; a directory there too if
//! that has room, but those below the root are spread over the disk, each with room around it for what will come into it (Orlov's rule).
//! In a group the first free number is taken, so that the part of the inode table that was never used stays whole at its end.
//!
//! Locks: a group's `inodes` (sleeping) → the group's index of blocks → a buffer.

use crate::filesystem::FileSystem;
use crate::format::group::{self, Descriptor};
use crate::format::{self, BAD_CHECKSUM, CORRUPTED};
use crate::groups::Group;
use crate::journal::Handle;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use machine::sync::atomic::Ordering;

/// The most blocks that either function changes.
pub const CREDITS: u32 = 5;

/// Where a new inode had best be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A file of the directory with this inode.
    File(u32),
    /// A directory in that one.
    Directory(u32),
    /// A directory in the root (or one that is marked as a top): away from others.
    TopDirectory,
}

impl FileSystem {
    /// The number of a new inode; it is marked as used, what it is like is for the caller to write. Errors: `ENOSPC`, `EUCLEAN`, `EIO`.
    pub fn allot_inode(self: &Arc<Self>, handle: &mut Handle, wish: Wish) -> Result<u32> {
        let (first, directory) = match wish {
            Wish::File(parent) => (self.group_of_inode(parent), false),
            Wish::Directory(parent) => (self.near(self.group_of_inode(parent)), true),
            Wish::TopDirectory => (self.emptiest(), true),
        };
        let order = (first..self.geometry.groups).chain(0..first);
        for number in order {
            let group = self.group(number)?;
            if group.descriptor().free_inodes == 0 || group.is_corrupt() {
                continue;
            }
            match self.allot_in(handle, number, group, directory) {
                Ok(Some(inode)) => return Ok(inode),
                Ok(None) => {}
                Err(error) if error == CORRUPTED || error == BAD_CHECKSUM => group.set_corrupt(),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::ENOSPC)
    }

    fn group_of_inode(&self, number: u32) -> u32 {
        self.geometry.inode_place(number).map_or(0, |(group, _)| group)
    }

    /// The group itself if a directory has room there, else the next that has.
    fn near(&self, group: u32) -> u32 {
        let roomy = |descriptor: &Descriptor| {
            descriptor.free_inodes > self.geometry.inodes_per_group / 16
                && descriptor.free_blocks > self.geometry.blocks_per_group / 16
        };
        let mut order = (group..self.geometry.groups).chain(0..group);
        order
            .find(|number| self.group(*number).is_ok_and(|group| roomy(&group.descriptor())))
            .unwrap_or(group)
    }

    /// The group with the fewest directories among those with more room than most, from another one on each time.
    fn emptiest(&self) -> u32 {
        let groups = i64::from(self.geometry.groups);
        let inodes = self.free_inodes.load(Ordering::Relaxed) / groups;
        let blocks = self.free_blocks.load(Ordering::Relaxed) / groups;
        let from = self.next_directory_group.fetch_add(1, Ordering::Relaxed) % self.geometry.groups;
        let order = (from..self.geometry.groups).chain(0..from);
        let good = order.filter_map(|number| {
            let descriptor = self.group(number).ok()?.descriptor();
            let roomy =
                i64::from(descriptor.free_inodes) >= inodes && i64::from(descriptor.free_blocks) >= blocks;
            roomy.then_some((descriptor.used_directories, number))
        });
        good.min_by_key(|(directories, _)| *directories).map_or(from, |(_, number)| number)
    }

    fn allot_in(
        self: &Arc<Self>,
        handle: &mut Handle,
        number: u32,
        group: &Group,
        directory: bool,
    ) -> Result<Option<u32>> {
        let _one = group.inodes.lock();
        let descriptor = group.descriptor();
        let per_group = self.geometry.inodes_per_group;
        let fresh = descriptor.has(group::INODE_UNINIT);
        let buffer = if fresh {
            handle.create(descriptor.inode_bitmap)?
        } else {
            self.inode_bitmap(number, &descriptor)?
        };
        let from = if number == 0 { self.geometry.first_inode - 1 } else { 0 };
        let from = group.first_free_inode.load(Ordering::Relaxed).max(from);
        let free = if fresh {
            Some(from as usize)
        } else {
            format::find_bit(&buffer.read(), false, from as usize, per_group as usize)
        };
        let Some(index) = free.filter(|index| *index < per_group as usize) else {
            group.first_free_inode.store(per_group, Ordering::Relaxed);
            return Ok(None);
        };
        self.initialise_bitmap(handle, number)?;
        let sum = handle.modify(&buffer, |bitmap| {
            if fresh {
                bitmap.fill(0);
                for bit in per_group as usize..bitmap.len() * 8 {
                    format::set_bit(bitmap, bit, true);
                }
            }
            format::set_bit(bitmap, index, true);
            group::bitmap_checksum(&self.geometry, bitmap, per_group)
        })?;
        let never_used = per_group - (index as u32 + 1);
        self.change_descriptor(handle, number, |descriptor| {
            descriptor.flags &= !group::INODE_UNINIT;
            descriptor.free_inodes = descriptor.free_inodes.saturating_sub(1);
            descriptor.used_directories += u32::from(directory);
            descriptor.inode_bitmap_checksum = sum;
            descriptor.unused_inodes = descriptor.unused_inodes.min(never_used);
        })?;
        group.first_free_inode.store(index as u32 + 1, Ordering::Relaxed);
        self.free_inodes.fetch_sub(1, Ordering::Relaxed);
        Ok(Some(number * per_group + index as u32 + 1))
    }

    fn inode_bitmap(&self, number: u32, descriptor: &Descriptor) -> Result<Arc<crate::buffer::Buffer>> {
        let buffer = self.buffers.read(descriptor.inode_bitmap)?;
        if self.geometry.has_checksums() {
            let sum = group::bitmap_checksum(&self.geometry, &buffer.read(), self.geometry.inodes_per_group);
            if sum != descriptor.inode_bitmap_checksum {
                return Err(
                    self.complain(BAD_CHECKSUM, format_args!("the inode bitmap of group {number} is wrong"))
                );
            }
        }
        Ok(buffer)
    }

    /// The inode is not used any more. Errors: `EUCLEAN`: it was not; `EIO`.
    pub fn free_inode(self: &Arc<Self>, handle: &mut Handle, inode: u32, directory: bool) -> Result<()> {
        let (number, index) = self.geometry.inode_place(inode).ok_or(CORRUPTED)?;
        if inode < self.geometry.first_inode {
            return Err(self.complain(CORRUPTED, format_args!("the reserved inode {inode} is to be freed")));
        }
        let group = self.group(number)?;
        let _one = group.inodes.lock();
        let buffer = self.inode_bitmap(number, &group.descriptor())?;
        let (used, sum) = handle.modify(&buffer, |bitmap| {
            let used = format::bit(bitmap, index as usize);
            format::set_bit(bitmap, index as usize, false);
            (used, group::bitmap_checksum(&self.geometry, bitmap, self.geometry.inodes_per_group))
        })?;
        if !used {
            return Err(self.complain(CORRUPTED, format_args!("inode {inode} was free already")));
        }
        self.change_descriptor(handle, number, |descriptor| {
            descriptor.free_inodes += 1;
            descriptor.used_directories = descriptor.used_directories.saturating_sub(u32::from(directory));
            descriptor.inode_bitmap_checksum = sum;
        })?;
        group.first_free_inode.fetch_min(index, Ordering::Relaxed);
        self.free_inodes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
