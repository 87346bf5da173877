//! The virtual file system: inodes, dentries, mounts, descriptors and path lookup.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
