//! Access control lists of inodes: read when an inode is, kept in memory by the VFS, stored among the extended attributes.
//!
//! Key functions: [`load`], [`store`]. Neighbours: `vfs::acl` (what they mean), `format::acl` (how they are stored), `xattrs` (where).
//!
//! Locks: those of `xattrs`.

use crate::body::Body;
use crate::filesystem::FileSystem;
use crate::format::acl::{from_stored, to_stored};
use crate::format::inode::InodeRef;
use crate::format::xattr;
use crate::journal::Handle;
use crate::xattrs;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use vfs::{Acl, AclKind, Inode, NewInode};

/// The number that stands for the name.
fn prefix(kind: AclKind) -> u8 {
    match kind {
        AclKind::Access => xattr::ACL_ACCESS,
        AclKind::Default => xattr::ACL_DEFAULT,
    }
}

/// Gives an inode in memory the lists that it has on the disk. Errors: `EUCLEAN`, `EIO`, `ENOMEM`.
pub fn load(fs: &FileSystem, number: u32, raw: InodeRef<'_>, inode: &Inode) -> Result<()> {
    let nothing = raw.xattr_block()? == 0
        && raw.xattr_area()?.is_none_or(|area| area.iter().take(4).all(|byte| *byte == 0));
    if nothing || !fs.options.read().acl {
        return Ok(());
    }
    let (own, block) = xattrs::read_all(fs, number, raw)?;
    for kind in [AclKind::Access, AclKind::Default] {
        let Some(one) = own.iter().chain(&block).find(|one| one.prefix == prefix(kind)) else { continue };
        let acl = from_stored(&one.value)
            .map_err(|error| fs.complain(error, format_args!("inode {number}: a bad access control list")))?;
        // One that says no more than the mode is as good as none.
        if kind == AclKind::Default || !acl.mode().1 {
            inode.set_acl(kind, Some(machine::memory::try_arc(acl).map_err(Errno::from)?));
        }
    }
    Ok(())
}

/// Stores a list or removes it. Changes at most [`xattrs::CREDITS`] blocks. Errors: `ENOSPC`, `EUCLEAN`, `EIO`.
pub fn store(body: &Body, handle: &mut Handle, kind: AclKind, acl: Option<&Arc<Acl>>) -> Result<()> {
    let value = acl.map(|acl| to_stored(acl));
    xattrs::put(body, handle, (prefix(kind), b""), value.as_deref(), vfs::XattrMode::Any)
}

/// Stores what a new inode has of its directory's default list. Errors: as [`store`].
pub fn store_new(body: &Body, handle: &mut Handle, new: &NewInode<'_>) -> Result<()> {
    for (kind, list) in [(AclKind::Access, new.access_list), (AclKind::Default, new.default_list)] {
        if list.is_some() {
            store(body, handle, kind, list)?;
        }
    }
    Ok(())
}
