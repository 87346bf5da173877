//! Extended attributes (xattr(7)): which name spaces there are and who may use them.
//!
//! The values are the file systems'; access control lists are `acl`'s. Locks: the inode's, for writing, around changes.

use crate::acl::{self, Acl, AclKind};
use crate::inode::{Inode, XattrMode, state};
use crate::path::Path;
use crate::permission::{self, is_owner_or_capable};
use crate::types::{AccessMask, FileKind};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use security::{Capability, Credentials};

/// Whether the caller reads or changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Change,
}

/// Errors: `EINVAL` for a name that is only a prefix; `EPERM`, `EACCES`, `ENODATA` (a trusted attribute, for those who may not know), `EOPNOTSUPP`.
fn check(inode: &Inode, name: &[u8], access: Access, credentials: &Credentials) -> Result<()> {
    if access == Access::Change && inode.has_state(state::IMMUTABLE | state::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    if [&b"trusted."[..], b"security.", b"user."].contains(&name) {
        return Err(Errno::EINVAL);
    }
    if name.starts_with(b"trusted.") {
        let privileged = security::capable_anywhere_above(credentials, Capability::SysAdmin);
        let refusal = if access == Access::Read { Errno::ENODATA } else { Errno::EPERM };
        return if privileged { Ok(()) } else { Err(refusal) };
    }
    if name.starts_with(b"security.") {
        let privileged = security::capable_anywhere_above(credentials, Capability::SysAdmin);
        return if access == Access::Read || privileged { Ok(()) } else { Err(Errno::EPERM) };
    }
    if !name.starts_with(b"user.") {
        return Err(Errno::EOPNOTSUPP);
    }
    let plain = matches!(inode.kind(), FileKind::Regular | FileKind::Directory);
    if !plain {
        return Err(if access == Access::Read { Errno::ENODATA } else { Errno::EPERM });
    }
    const STICKY: u32 = 0o1000;
    let sticky = inode.kind() == FileKind::Directory && inode.permissions() & STICKY != 0;
    if access == Access::Change && sticky && !is_owner_or_capable(inode, credentials) {
        return Err(Errno::EPERM);
    }
    let mask = if access == Access::Read { AccessMask::READ } else { AccessMask::WRITE };
    permission::check(inode, credentials, mask)
}

/// getxattr(2).
pub fn get(place: &Path, name: &[u8], credentials: &Credentials) -> Result<Vec<u8>> {
    let inode = place.inode()?;
    if let Some(kind) = AclKind::of_attribute(name) {
        return acl::get_visible(inode, kind, credentials);
    }
    check(inode, name, Access::Read, credentials)?;
    inode.operations().get_xattr(inode, name)
}

/// Makes a change with the mount held writable and the inode locked.
fn change(place: &Path, make: impl FnOnce(&Arc<Inode>) -> Result<()>) -> Result<()> {
    let inode = place.inode()?;
    {
        let _change = place.mount.begin_change()?;
        let _lock = inode.lock.write();
        inode.check_alive()?;
        make(inode)?;
    }
    crate::notify::at(place, abi::inotify::IN_ATTRIB);
    Ok(())
}

/// setxattr(2).
pub fn set(
    place: &Path,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
    credentials: &Credentials,
) -> Result<()> {
    if let Some(kind) = AclKind::of_attribute(name) {
        // Whether there is one already does not matter, whatever `mode` says; as on Linux.
        let acl =
            if value.is_empty() { None } else { Acl::from_visible(value, &credentials.user_namespace)? };
        return change_list(place, kind, acl, credentials);
    }
    check(place.inode()?, name, Access::Change, credentials)?;
    change(place, |inode| inode.operations().set_xattr(inode, name, value, mode))
}

/// Sets or removes an access control list.
fn change_list(place: &Path, kind: AclKind, acl: Option<Acl>, credentials: &Credentials) -> Result<()> {
    change(place, |inode| {
        if inode.has_state(state::IMMUTABLE | state::APPEND_ONLY) {
            return Err(Errno::EPERM);
        }
        acl::set(inode, kind, acl, credentials)
    })
}

/// removexattr(2).
pub fn remove(place: &Path, name: &[u8], credentials: &Credentials) -> Result<()> {
    if let Some(kind) = AclKind::of_attribute(name) {
        return change_list(place, kind, None, credentials);
    }
    check(place.inode()?, name, Access::Change, credentials)?;
    change(place, |inode| inode.operations().remove_xattr(inode, name))
}

/// listxattr(2): names, each with its NUL; trusted ones only for those who may see them.
pub fn list(place: &Path, credentials: &Credentials) -> Result<Vec<u8>> {
    let inode = place.inode()?;
    let mut all = acl::names(inode);
    all.append(&mut inode.operations().list_xattrs(inode)?);
    if security::capable_anywhere_above(credentials, Capability::SysAdmin) {
        return Ok(all);
    }
    let names = all.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(b"trusted."));
    Ok(names.flatten().copied().collect())
}
