//! tmpfs: a file system in memory (tmpfs(5)); also the root that the initramfs is unpacked into.
//!
//! Key types: [`TmpFs`] (the type, registered as `tmpfs`, `ramfs` and `rootfs`), `Instance` (one mount's limits), `Node` (an
//! inode), `Entries` (a directory). File contents are pages of the page cache that are nowhere else. Locks: see `node`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod directory;
mod files;
pub mod initramfs;
mod instance;
mod node;

use abi::errno::Result;
use abi::fs::{RAMFS_MAGIC, TMPFS_MAGIC};
use abi::mount::MountFlags;
use alloc::boxed::Box;
use alloc::sync::Arc;
use instance::{Instance, Options, Usage};
use machine::PAGE_SIZE;
use machine::sync::Once;
use security::{Credentials, Kgid, Kuid};
use vfs::{
    File, FileSystemType, Inode, Mount, MountRequest, NewContent, NewInode, SuperBlock, SuperBlockAttributes,
};

/// How it is called and whether it has limits by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// Half of the memory, unless an option says otherwise.
    Tmpfs,
    /// No limits, no options but the mode.
    Ramfs,
    /// The first root: no limits.
    Rootfs,
    /// `devtmpfs`: as tmpfs, for device nodes.
    Devtmpfs,
}

/// The file system type.
pub struct TmpFs {
    flavour: Flavour,
}

impl TmpFs {
    /// The type of this flavour.
    pub fn new(flavour: Flavour) -> Arc<TmpFs> {
        Arc::new(TmpFs { flavour })
    }

    /// Makes an instance; gives its root. Errors: `EINVAL`, `ENOMEM`.
    fn make(&self, flags: MountFlags, data: &[u8], credentials: &Credentials) -> Result<Arc<Inode>> {
        let total = machine::memory::stats().total_pages as u64;
        let unlimited = Options { max_pages: None, max_inodes: None, mode: 0o755, uid: 0, gid: 0 };
        let options = match self.flavour {
            Flavour::Tmpfs | Flavour::Devtmpfs => Options::defaults(total).parse(data, total)?,
            Flavour::Ramfs => Options { max_pages: None, max_inodes: None, ..unlimited.parse(data, total)? },
            Flavour::Rootfs => unlimited,
        };
        let has_lists = matches!(self.flavour, Flavour::Tmpfs | Flavour::Devtmpfs);
        let attributes = SuperBlockAttributes {
            type_name: self.name(),
            magic: if self.flavour == Flavour::Ramfs { RAMFS_MAGIC } else { TMPFS_MAGIC },
            block_size: PAGE_SIZE as u32,
            max_file_size: i64::MAX as u64,
            time_limits: vfs::TimeLimits::NONE,
            flags: if has_lists { flags | MountFlags::POSIXACL } else { flags },
            device: None,
        };
        let usage = Usage::new(&options);
        let instance = Instance { usage: usage.clone(), options };
        let namespace = credentials.user_namespace.clone();
        let uid = namespace.make_kuid(options.uid).unwrap_or(Kuid::ROOT);
        let gid = namespace.make_kgid(options.gid).unwrap_or(Kgid::ROOT);
        let superblock = SuperBlock::new(attributes, Box::new(instance), namespace);
        let root = NewInode::new(NewContent::Directory, options.mode, uid, gid);
        node::new_inode(&superblock, &usage, &root)
    }
}

impl FileSystemType for TmpFs {
    fn name(&self) -> &'static str {
        match self.flavour {
            Flavour::Tmpfs => "tmpfs",
            Flavour::Ramfs => "ramfs",
            Flavour::Rootfs => "rootfs",
            Flavour::Devtmpfs => "devtmpfs",
        }
    }

    fn user_mountable(&self) -> bool {
        matches!(self.flavour, Flavour::Tmpfs | Flavour::Ramfs)
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        self.make(request.flags, request.data, request.credentials)
    }
}

/// Makes the types known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    for flavour in [Flavour::Tmpfs, Flavour::Ramfs, Flavour::Rootfs] {
        vfs::register_filesystem(TmpFs::new(flavour))?;
    }
    Ok(())
}

static MEMORY_FILES: Once<Arc<Mount>> = Once::new();

/// A file without a name, for memfd_create(2). All of them are in one file system that has no limit of its own.
/// Errors: `ENOSPC`, `ENOMEM`.
pub fn memory_file(name: &[u8], credentials: &Arc<Credentials>) -> Result<Arc<File>> {
    let root = || {
        let system = Credentials::initial();
        TmpFs { flavour: Flavour::Rootfs }.make(MountFlags::empty(), b"", &system)
    };
    vfs::anonymous::new_memory_file(&MEMORY_FILES, root, name, credentials)
}
