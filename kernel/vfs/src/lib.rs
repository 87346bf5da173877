//! The virtual file system: inodes, dentries, mounts, descriptors and path lookup.
//!
//! | file | what |
//! |---|---|
//! | `types` | small values: kinds, device numbers, times, status |
//! | `inode`, `superblock` | files and file systems: what a file system implements |
//! | `dentry`, `namei`, `path` | names: the cache, the walk, the text |
//! | `mount`, `mount_calls`, `mount_tree`, `propagation`, `mount_text` | which file system is seen where |
//! | `file`, `open`, `descriptor`, `readdir`, `mapping`, `splice`, `locks` | open files |
//! | `directory`, `attributes`, `xattr`, `acl`, `permission` | changing names and attributes; who may |
//! | `poll` | waiting for readiness |
//! | `control` | ioctl(2)s that file systems have in common |
//! | `freeze` | file systems that stay as they are for a while |
//! | `reaper` | the end of files and file systems |
//! | `notify` | watches: telling of what happens to files |
//! | `chardev`, `fifo`, `anonymous`, `pseudo` | files that are not on a disk |
//!
//! Lock order: mount topology → rename lock of a superblock → directories (ancestors first) → inode → page cache. A file's
//! offset lock comes before its inode. Path walks take none of them when the cache has all names.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acl;
pub mod anonymous;
pub mod attributes;
pub mod chardev;
pub mod context;
pub mod control;
pub mod dentry;
pub mod descriptor;
pub mod directory;
pub mod fifo;
pub mod file;
mod freeze;
pub mod inode;
pub mod locks;
pub mod mapping;
pub mod mount;
pub mod mount_calls;
mod mount_text;
pub mod mount_tree;
pub mod namei;
pub mod notify;
pub mod open;
pub mod path;
pub mod permission;
pub mod poll;
mod propagation;
pub mod pseudo;
pub mod readdir;
pub mod reaper;
pub mod seals;
pub mod splice;
pub mod superblock;
pub mod types;
pub mod xattr;

pub use acl::{Acl, AclKind};
pub use context::{FsContext, FsState, LookupContext};
pub use descriptor::{CloseOnExec, DescriptorTable};
pub use file::{Allocate, File, FileOperations, Positioning, SeekFrom, SyncKind};
pub use inode::{
    AttributeChange, ExtentSink, FileExtent, FileFlags, Inode, InodeAttributes, InodeOperations, LinkTarget,
    NameCaching, NewContent, NewInode, Rename, RenameMode, XattrMode,
};
pub use mount::{Mount, MountNamespace};
pub use namei::LookupFlags;
pub use path::Path;
pub use poll::PollTable;
pub use readdir::{DirectoryEntry, DirectorySink, SinkState, emit_dots};
pub use seals::Seals;
pub use superblock::{
    FileSystemType, MountRequest, SuperBlock, SuperBlockAttributes, SuperBlockOperations, register_filesystem,
};
pub use types::{
    AccessMask, DeviceId, FileKind, FileStatus, NAME_MAX, PATH_MAX, TimeLimits, Times, Timestamp,
};
