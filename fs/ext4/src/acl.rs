//! Access control lists of inodes: kept in memory with the inode, since permission is asked for with preemption off.
//!
//! Key functions: [`load`], [`permits`], [`inherit`]. Users and groups are stored as the system's own numbers, as for owners; what a program
//! in a user namespace gives and sees is not mapped yet, so lists are only set and shown there as they are.
//!
//! Locks: none; the list in the node is replaced as a whole.

use crate::filesystem::FileSystem;
use crate::format::acl::Acl;
use crate::format::inode::InodeRef;
use crate::format::xattr;
use crate::xattrs;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use security::{Credentials, Kgid, Kuid};
use vfs::{AccessMask, Inode};

/// The access list of an inode, if it has one that says more than the mode. Errors: `EUCLEAN`, `EIO`.
pub fn load(fs: &FileSystem, raw: InodeRef<'_>) -> Result<Option<Arc<Acl>>> {
    find(fs, raw, xattr::ACL_ACCESS)
}

/// One of the two lists.
pub fn find(fs: &FileSystem, raw: InodeRef<'_>, which: u8) -> Result<Option<Arc<Acl>>> {
    let nothing = raw.xattr_block()? == 0
        && raw.xattr_area()?.is_none_or(|area| area.iter().take(4).all(|byte| *byte == 0));
    if nothing || !fs.options.read().acl {
        return Ok(None);
    }
    let (own, block) = xattrs::read_all(fs, 0, raw)?;
    let found = own.into_iter().chain(block).find(|one| one.prefix == which);
    found.map(|one| Acl::from_stored(&one.value).map(Arc::new)).transpose()
}

/// A stored list as programs see it. Errors: `EUCLEAN`.
pub fn to_visible(stored: &[u8]) -> Result<Vec<u8>> {
    Ok(Acl::from_stored(stored)?.to_visible())
}

/// The answer of a list, for those whom it concerns; capabilities override as for modes.
pub fn permits(acl: &Acl, inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Result<()> {
    let wanted = (mask.bits() & 7) as u16;
    let owner = credentials.fsuid == inode.uid();
    let is_user = |id| credentials.fsuid == Kuid(id);
    let in_group = |id| credentials.in_group(Kgid(id));
    if acl.permits(wanted, owner, is_user, credentials.in_group(inode.gid()), in_group) {
        return Ok(());
    }
    if vfs::permission::may_override(inode, credentials, mask) { Ok(()) } else { Err(Errno::EACCES) }
}
