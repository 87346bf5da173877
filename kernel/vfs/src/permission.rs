//! May one? The discretionary rules of path_resolution(7): mode bits by fsuid, fsgid and groups, then capabilities.
//!
//! Neighbours: `namei` (asks for every directory on the way), `open`, `directory`. No locks; nothing here sleeps.

use abi::errno::{Errno, Result};
use security::{Capability, Credentials};

use crate::acl;
use crate::inode::{Inode, state};
use crate::path::Path;
use crate::types::{AccessMask, FileKind};

/// Whether the file system's namespace gives them the capability and knows the file's owner and group.
pub fn capable_for(inode: &Inode, credentials: &Credentials, capability: Capability) -> bool {
    let namespace = &credentials.user_namespace;
    credentials.has(capability)
        && namespace.from_kuid(inode.uid()).is_some()
        && namespace.from_kgid(inode.gid()).is_some()
}

/// Whether they own the file or may act as if (`CAP_FOWNER`).
pub fn is_owner_or_capable(inode: &Inode, credentials: &Credentials) -> bool {
    credentials.fsuid == inode.uid() || capable_for(inode, credentials, Capability::Fowner)
}

/// Whether they may look names up in the directory: the quick answer, `false` where the rules must be asked.
#[inline]
pub(crate) fn may_search_quickly(inode: &Inode) -> bool {
    inode.permissions() & 0o111 == 0o111 && !inode.has_state(state::OWN_PERMISSIONS | state::HAS_ACCESS_LIST)
}

/// The rules for an inode, read-only mounts aside. `EACCES`; `EPERM`: it is immutable.
pub fn check(inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Result<()> {
    if mask.contains(AccessMask::WRITE) && inode.has_state(state::IMMUTABLE) {
        return Err(Errno::EPERM);
    }
    if inode.has_state(state::OWN_PERMISSIONS)
        && let Some(answer) = inode.operations().permission(inode, credentials, mask)
    {
        return answer;
    }
    if inode.has_state(state::HAS_ACCESS_LIST)
        && let Some(answer) = acl::check(inode, credentials, mask)
    {
        return answer;
    }
    check_mode(inode, credentials, mask)
}

/// Whether capabilities permit what an access control list does not.
pub fn may_override(inode: &Inode, credentials: &Credentials, mask: AccessMask) -> bool {
    override_allows(inode, credentials, mask.bits() & 0o7, inode.permissions())
}

/// The ordinary rules.
pub fn check_mode(inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Result<()> {
    let mode = inode.permissions();
    let wanted = mask.bits() & 0o7;
    let bits = if credentials.fsuid == inode.uid() {
        mode >> 6
    } else if (mode >> 3 ^ mode) & wanted != 0 && credentials.in_group(inode.gid()) {
        // Membership matters only where the group's bits differ from the others'.
        mode >> 3
    } else {
        mode
    };
    if wanted & !bits == 0 {
        return Ok(());
    }
    if override_allows(inode, credentials, wanted, mode) { Ok(()) } else { Err(Errno::EACCES) }
}

/// `CAP_DAC_READ_SEARCH` reads everything and searches directories; `CAP_DAC_OVERRIDE` does all but run what nobody may.
fn override_allows(inode: &Inode, credentials: &Credentials, wanted: u32, mode: u32) -> bool {
    let (execute, write, read) =
        (AccessMask::EXECUTE.bits(), AccessMask::WRITE.bits(), AccessMask::READ.bits());
    let directory = inode.kind() == FileKind::Directory;
    let reading = wanted == read || (directory && wanted & write == 0);
    if reading && capable_for(inode, credentials, Capability::DacReadSearch) {
        return true;
    }
    let runnable = directory || wanted & execute == 0 || mode & 0o111 != 0;
    runnable && capable_for(inode, credentials, Capability::DacOverride)
}

/// The rules for a place: those of the inode, and writing to files and directories needs a writable mount (`EROFS`).
pub fn check_path(path: &Path, credentials: &Credentials, mask: AccessMask) -> Result<()> {
    let inode = path.inode()?;
    check(inode, credentials, mask)?;
    let on_disk = matches!(inode.kind(), FileKind::Regular | FileKind::Directory | FileKind::Symlink);
    if mask.contains(AccessMask::WRITE) && on_disk && path.mount.is_read_only() {
        return Err(Errno::EROFS);
    }
    Ok(())
}

/// access(2) and faccessat2(2) on a place, with credentials whose fs identifiers are those to ask about.
/// `EACCES`; `EROFS`; running from a noexec mount is `EACCES` too.
pub fn check_access(path: &Path, credentials: &Credentials, mask: AccessMask) -> Result<()> {
    let inode = path.inode()?;
    if mask.contains(AccessMask::EXECUTE) && inode.kind() == FileKind::Regular && path.mount.is_noexec() {
        return Err(Errno::EACCES);
    }
    if mask.is_empty() { Ok(()) } else { check_path(path, credentials, mask) }
}

/// The sticky bit: in such a directory only owners of file or directory remove and rename (`EPERM`).
pub(crate) fn check_sticky(directory: &Inode, victim: &Inode, credentials: &Credentials) -> Result<()> {
    const STICKY: u32 = 0o1000;
    let free = directory.permissions() & STICKY == 0
        || credentials.fsuid == victim.uid()
        || credentials.fsuid == directory.uid()
        || capable_for(victim, credentials, Capability::Fowner);
    if free { Ok(()) } else { Err(Errno::EPERM) }
}
