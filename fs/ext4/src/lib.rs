//! ext4, and with it ext3 and ext2: the file system of disks.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod buffer;
pub mod format;
pub mod journal;
pub mod journaled;

pub mod acl;
pub mod allocate;
pub mod body;
pub mod control;
pub mod direct;
pub mod directory;
pub mod extents;
pub mod filesystem;
pub mod flight;
pub mod groups;
pub mod indirect;
pub mod inline;
pub mod inodes;
pub mod mount;
pub mod names;
pub mod node;
pub mod options;
pub mod orphans;
pub mod pager;
pub mod ranges;
pub mod regular;
pub mod statfs;
pub mod swap;
pub mod symlink;
#[cfg(test)]
mod tests;
pub mod torn;
pub mod truncate;
pub mod worker;
pub mod xattrs;
