//! Mounting: the types `ext4`, `ext3` and `ext2`, read-only for now.
//!
//! Key types: [`Ext4`], `Instance`. Locks: none.

use crate::buffer::Buffers;
use crate::filesystem::{DataMode, ErrorPolicy, FileSystem, Options, Parts};
use crate::format::inode::ROOT;
use crate::format::superblock::{self, OFFSET, SIZE};
use crate::format::{CORRUPTED, Geometry, Incompatible};
use crate::statfs;
use abi::errno::{Errno, Result};
use abi::fs::Statfs;
use abi::mount::MountFlags;
use alloc::boxed::Box;
use alloc::sync::Arc;
use block::BlockDevice;
use security::Credentials;
use vfs::{FileSystemType, Inode, MountRequest, SuperBlock, SuperBlockAttributes, SuperBlockOperations};

/// `EXT4_SUPER_MAGIC`, which all three have.
const MAGIC: u32 = 0xef53;

/// The file system type.
pub struct Ext4 {
    name: &'static str,
}

/// One mount's operations.
struct Instance {
    fs: Arc<FileSystem>,
    _claim: block::Claim,
}

impl SuperBlockOperations for Instance {
    fn statfs(&self, _superblock: &SuperBlock, status: &mut Statfs) -> Result<()> {
        statfs::fill(&self.fs, status);
        Ok(())
    }

    fn remount(&self, _superblock: &SuperBlock, flags: MountFlags, _data: &[u8]) -> Result<()> {
        if flags.contains(MountFlags::RDONLY) { Ok(()) } else { Err(Errno::EROFS) }
    }
}

const DEFAULTS: Options = Options {
    errors: ErrorPolicy::Continue,
    data: DataMode::Ordered,
    barrier: true,
    discard: false,
    commit_seconds: 5,
    delayed_allocation: true,
    acl: true,
    user_xattr: true,
    directory_group: false,
    no_load: false,
    reserved_uid: 0,
    reserved_gid: 0,
    ignored: false,
};

/// Mounts a device read-only; gives the root. Errors: `EROFS`: writing was asked for; `EINVAL`, `EUCLEAN`, `EBADMSG`, `EBUSY`, `EIO`.
pub fn mount_device(
    type_name: &'static str,
    device: &Arc<BlockDevice>,
    flags: MountFlags,
    credentials: &Credentials,
) -> Result<Arc<Inode>> {
    if !flags.contains(MountFlags::RDONLY) {
        log::error!("ext4: only read-only mounts are supported");
        return Err(Errno::EROFS);
    }
    let claim = device.claim(type_name)?;
    let mut bytes = [0; SIZE];
    device.read_bytes(OFFSET, &mut bytes).map_err(|_| Errno::EINVAL)?;
    let geometry = Geometry::new(superblock::parse(&bytes)?, device.size())?;
    if geometry.incompatible.contains(Incompatible::RECOVER) {
        log::error!("ext4: the journal must be recovered first, which is not supported");
        return Err(Errno::EROFS);
    }
    let buffers = Buffers::new(device.clone(), geometry.block_size)?;
    let attributes = SuperBlockAttributes {
        type_name,
        magic: MAGIC,
        block_size: geometry.block_size,
        max_file_size: geometry.max_extent_file_size(),
        flags,
        device: Some(device.number()),
    };
    let fs = FileSystem::new(Parts {
        geometry,
        device: device.clone(),
        buffers,
        options: DEFAULTS,
        read_only: true,
    })?;
    let instance = Box::new(Instance { fs: fs.clone(), _claim: claim });
    let superblock = SuperBlock::new(attributes, instance, credentials.user_namespace.clone());
    let root = fs.inodes.get(&fs, &superblock, ROOT)?;
    if root.is_directory() { Ok(root) } else { Err(CORRUPTED) }
}

impl FileSystemType for Ext4 {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs_device(&self) -> bool {
        true
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        mount_device(self.name, &block::device_of_mount_source(request)?, request.flags, request.credentials)
    }
}

/// Makes the types known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    for name in ["ext3", "ext2", "ext4"] {
        vfs::register_filesystem(Arc::new(Ext4 { name }))?;
    }
    Ok(())
}
