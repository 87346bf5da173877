//! POSIX access control lists (acl(5)): the list, the form that programs give and see it in, and the calls on it.
//!
//! Key types: [`Acl`], [`AclKind`]. Both lists of an inode are kept with it in memory ([`Inode::acl`]), because permission is asked for with preemption off.
//!
//! What a file system does for them: it sets [`MountFlags::POSIXACL`] in its superblock's flags; when it makes an inode from what is on the device it gives
//! it its lists ([`Inode::set_acl`]); it stores what [`NewInode`](crate::inode::NewInode) has of a directory's default list; and it implements
//! [`InodeOperations::set_acl`](crate::inode::InodeOperations::set_acl). Checking, the mode that follows the list, chmod, inheritance and the
//! attributes `system.posix_acl_access` and `system.posix_acl_default` are done here; the file system's own attributes do not show them.
//!
//! Identifiers in a list are the system's own numbers. Locks: the inode's for writing around changes; readers use RCU.

use crate::attributes;
use crate::inode::{AttributeChange, Inode};
use crate::permission::{self, is_owner_or_capable};
use crate::types::{AccessMask, FileKind, Timestamp};
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use security::{Credentials, Kgid, Kuid, UserNamespace};

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// The identifier of an entry that has none, and of one that the reader's namespace does not map.
pub const NO_ID: u32 = !0;

/// Whom an entry concerns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tag {
    /// The owner.
    Owner = 1,
    /// A user by number.
    User = 2,
    /// The file's group.
    OwnerGroup = 4,
    /// A group by number.
    Group = 8,
    /// What groups and named users can have at most.
    Mask = 16,
    /// Everybody else.
    Other = 32,
}

impl Tag {
    /// The tag of that number.
    pub fn from_number(number: u16) -> Option<Tag> {
        [Tag::Owner, Tag::User, Tag::OwnerGroup, Tag::Group, Tag::Mask, Tag::Other]
            .into_iter()
            .find(|tag| *tag as u16 == number)
    }

    /// Whether its entries have an identifier.
    pub fn has_id(self) -> bool {
        matches!(self, Tag::User | Tag::Group)
    }
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whom it concerns.
    pub tag: Tag,
    /// `rwx` as 4, 2, 1.
    pub permissions: u16,
    /// The user or group, where the tag has one.
    pub id: u32,
}

/// Which of an inode's two lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// What is made in a directory begins with.
    Default,
}

impl AclKind {
    /// The list that an extended attribute of this name is.
    pub fn of_attribute(name: &[u8]) -> Option<AclKind> {
        [AclKind::Access, AclKind::Default].into_iter().find(|kind| kind.attribute() == name)
    }

    /// The attribute's name.
    pub fn attribute(self) -> &'static [u8] {
        match self {
            AclKind::Access => b"system.posix_acl_access",
            AclKind::Default => b"system.posix_acl_default",
        }
    }
}

/// A list, valid: entries in order, the three basic ones there, a mask if there are named ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// From entries. Named ones may be in any order among those of their tag, as on Linux. Errors: `EINVAL`: not valid.
    pub fn new(entries: Vec<Entry>) -> Result<Acl> {
        let sorted = entries.windows(2).all(|pair| match pair {
            [a, b] => a.tag < b.tag || a.tag == b.tag && a.tag.has_id(),
            _ => true,
        });
        let has = |tag| entries.iter().any(|entry: &Entry| entry.tag == tag);
        let named = has(Tag::User) || has(Tag::Group);
        let complete =
            has(Tag::Owner) && has(Tag::OwnerGroup) && has(Tag::Other) && (has(Tag::Mask) || !named);
        let fine = sorted && complete && entries.iter().all(|entry| entry.permissions <= 7);
        if fine { Ok(Acl { entries }) } else { Err(Errno::EINVAL) }
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// From the form that programs give, with the numbers of their namespace. `None`: it has no entries, which removes the list. Errors: `EINVAL`;
    /// `EOPNOTSUPP`: its version.
    pub fn from_visible(bytes: &[u8], namespace: &UserNamespace) -> Result<Option<Acl>> {
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (chunks, left) = rest.as_chunks::<8>();
        if !left.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut entries = Vec::new();
        entries.try_reserve_exact(chunks.len()).map_err(|_| Errno::ENOMEM)?;
        for [t0, t1, p0, p1, i0, i1, i2, i3] in chunks {
            let tag = Tag::from_number(u16::from_le_bytes([*t0, *t1])).ok_or(Errno::EINVAL)?;
            let number = u32::from_le_bytes([*i0, *i1, *i2, *i3]);
            let id = match tag {
                Tag::User => namespace.make_kuid(number).ok_or(Errno::EINVAL)?.0,
                Tag::Group => namespace.make_kgid(number).ok_or(Errno::EINVAL)?.0,
                _ => NO_ID,
            };
            entries.push(Entry { tag, permissions: u16::from_le_bytes([*p0, *p1]), id });
        }
        if entries.is_empty() { Ok(None) } else { Acl::new(entries).map(Some) }
    }

    /// The form that programs of a namespace see. Errors: `ENOMEM`.
    pub fn to_visible(&self, namespace: &UserNamespace) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(4 + self.entries.len() * 8).map_err(|_| Errno::ENOMEM)?;
        bytes.extend(VERSION.to_le_bytes());
        for entry in &self.entries {
            let id = match entry.tag {
                Tag::User => namespace.from_kuid(Kuid(entry.id)),
                Tag::Group => namespace.from_kgid(Kgid(entry.id)),
                _ => None,
            };
            bytes.extend((entry.tag as u16).to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(id.unwrap_or(NO_ID).to_le_bytes());
        }
        Ok(bytes)
    }

    fn get(&self, tag: Tag) -> Option<u16> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions)
    }

    fn set(&mut self, tag: Tag, permissions: u16) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.tag == tag) {
            entry.permissions = permissions;
        }
    }

    /// Who stands for the group in the mode: the mask if there is one.
    fn group_class(&self) -> Tag {
        if self.get(Tag::Mask).is_some() { Tag::Mask } else { Tag::OwnerGroup }
    }

    /// The permission bits of the mode that say the same, and whether they say all of it.
    pub fn mode(&self) -> (u32, bool) {
        let bits = |tag| u32::from(self.get(tag).unwrap_or(0));
        let mode = bits(Tag::Owner) << 6 | bits(self.group_class()) << 3 | bits(Tag::Other);
        (mode, self.entries.len() == 3)
    }

    /// What chmod(2) makes of it.
    pub fn set_mode(&mut self, mode: u32) {
        self.set(Tag::Owner, (mode >> 6 & 7) as u16);
        self.set(self.group_class(), (mode >> 3 & 7) as u16);
        self.set(Tag::Other, (mode & 7) as u16);
    }

    /// What a new file has of its directory's default list: no more than the mode it is made with. Gives the mode that results.
    pub fn restrict(&mut self, mode: u32) -> u32 {
        let classes = [(Tag::Owner, 6), (self.group_class(), 3), (Tag::Other, 0)];
        let mut result = mode & !0o777;
        for (tag, shift) in classes {
            let bits = self.get(tag).unwrap_or(0) & (mode >> shift & 7) as u16;
            self.set(tag, bits);
            result |= u32::from(bits) << shift;
        }
        result
    }

    /// Whether someone may do `wanted` (`rwx` as 4, 2, 1).
    pub fn permits(
        &self,
        wanted: u16,
        is_owner: bool,
        is_user: impl Fn(u32) -> bool,
        in_owner_group: bool,
        in_group: impl Fn(u32) -> bool,
    ) -> bool {
        let mask = self.get(Tag::Mask).unwrap_or(7);
        if is_owner {
            return self.get(Tag::Owner).unwrap_or(0) & wanted == wanted;
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.tag == Tag::User && is_user(entry.id)) {
            return entry.permissions & mask & wanted == wanted;
        }
        let mut member = false;
        for entry in &self.entries {
            let concerns = match entry.tag {
                Tag::OwnerGroup => in_owner_group,
                Tag::Group => in_group(entry.id),
                _ => false,
            };
            if concerns && entry.permissions & mask & wanted == wanted {
                return true;
            }
            member |= concerns;
        }
        !member && self.get(Tag::Other).unwrap_or(0) & wanted == wanted
    }

    /// The answer for a caller, capabilities aside.
    pub(crate) fn permits_caller(&self, inode: &Inode, credentials: &Credentials, wanted: u32) -> bool {
        let owner = credentials.fsuid == inode.uid();
        let is_user = |id| credentials.fsuid == Kuid(id);
        let in_group = |id| credentials.in_group(Kgid(id));
        self.permits(wanted as u16, owner, is_user, credentials.in_group(inode.gid()), in_group)
    }

    /// Whether a namespace has a number for everybody named in it.
    fn is_known_in(&self, namespace: &UserNamespace) -> bool {
        self.entries.iter().all(|entry| match entry.tag {
            Tag::User => namespace.from_kuid(Kuid(entry.id)).is_some(),
            Tag::Group => namespace.from_kgid(Kgid(entry.id)).is_some(),
            _ => true,
        })
    }
}

/// What a new file has of a directory's default list.
#[derive(Default)]
pub(crate) struct Inherited {
    pub(crate) access: Option<Arc<Acl>>,
    pub(crate) default: Option<Arc<Acl>>,
}

/// What something made in `directory` with `mode` (umask not applied) inherits, and its mode; `None`: the directory has no default list. Errors: `ENOMEM`.
pub(crate) fn inherit(directory: &Inode, kind: FileKind, mode: u32) -> Result<Option<(Inherited, u32)>> {
    let Some(default) = directory.acl(AclKind::Default).filter(|_| kind != FileKind::Symlink) else {
        return Ok(None);
    };
    let mut own = (*default).clone();
    let mode = own.restrict(mode);
    let access = if own.mode().1 { None } else { Some(shared(own)?) };
    let default = (kind == FileKind::Directory).then_some(default);
    Ok(Some((Inherited { access, default }, mode)))
}

fn shared(acl: Acl) -> Result<Arc<Acl>> {
    machine::memory::try_arc(acl).map_err(Errno::from)
}

/// Whether the file system keeps lists.
pub(crate) fn are_kept(inode: &Inode) -> bool {
    inode.superblock().flags().contains(MountFlags::POSIXACL) && inode.kind() != FileKind::Symlink
}

/// getxattr(2) of a list. Errors: `EOPNOTSUPP`; `ENODATA`: there is none; `ENOMEM`.
pub(crate) fn get_visible(inode: &Inode, kind: AclKind, credentials: &Credentials) -> Result<Vec<u8>> {
    if !are_kept(inode) {
        return Err(Errno::EOPNOTSUPP);
    }
    inode.acl(kind).ok_or(Errno::ENODATA)?.to_visible(&credentials.user_namespace)
}

/// setxattr(2) and, without bytes, removexattr(2) of a list. The inode's lock is held. Errors: `EOPNOTSUPP`; `EACCES`: a default list for what is no directory;
/// `EPERM`, `EINVAL`, `ENOSPC`, `ENOMEM`.
pub(crate) fn set(
    inode: &Arc<Inode>,
    kind: AclKind,
    acl: Option<Acl>,
    credentials: &Credentials,
) -> Result<()> {
    if !are_kept(inode) {
        return Err(Errno::EOPNOTSUPP);
    }
    if kind == AclKind::Default && !inode.is_directory() {
        return if acl.is_some() { Err(Errno::EACCES) } else { Ok(()) };
    }
    if !is_owner_or_capable(inode, credentials) {
        return Err(Errno::EPERM);
    }
    if acl.as_ref().is_some_and(|acl| !acl.is_known_in(inode.superblock().user_namespace())) {
        return Err(Errno::EINVAL);
    }
    let mut change = AttributeChange { changed: Some(Timestamp::now()), ..AttributeChange::default() };
    let mut kept = acl;
    if kind == AclKind::Access
        && let Some(acl) = &kept
    {
        let (bits, is_all) = acl.mode();
        let mode = attributes::mode_for_caller(inode, inode.permissions() & !0o777 | bits, credentials);
        change.mode = Some(mode);
        if is_all {
            kept = None;
        }
    }
    store(inode, kind, kept, &change)
}

/// chmod(2) on a file with a list: its mask follows. `false`: it has none.
pub(crate) fn change_mode(inode: &Arc<Inode>, change: &AttributeChange) -> Result<bool> {
    let (Some(mode), Some(acl)) = (change.mode, inode.acl(AclKind::Access)) else { return Ok(false) };
    let mut acl = (*acl).clone();
    acl.set_mode(mode);
    store(inode, AclKind::Access, Some(acl), change)?;
    Ok(true)
}

fn store(inode: &Arc<Inode>, kind: AclKind, acl: Option<Acl>, change: &AttributeChange) -> Result<()> {
    let acl = acl.map(shared).transpose()?;
    inode.operations().set_acl(inode, kind, acl.as_ref(), change)?;
    inode.set_acl(kind, acl);
    Ok(())
}

/// The names of the lists that an inode has, each with its NUL.
pub(crate) fn names(inode: &Inode) -> Vec<u8> {
    let has = |kind: &AclKind| inode.acl(*kind).is_some();
    let kinds = [AclKind::Access, AclKind::Default].into_iter().filter(has);
    kinds.flat_map(|kind| kind.attribute().iter().copied().chain([0])).collect()
}

/// The answer of the inode's access list, if it counts: with no rights for the group the mode decides, as on Linux.
pub(crate) fn check(inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Option<Result<()>> {
    const GROUP: u32 = 0o070;
    if inode.permissions() & GROUP == 0 || credentials.fsuid == inode.uid() {
        return None;
    }
    let acl = inode.acl(AclKind::Access)?;
    let permitted = acl.permits_caller(inode, credentials, mask.bits() & 0o7)
        || permission::may_override(inode, credentials, mask);
    Some(if permitted { Ok(()) } else { Err(Errno::EACCES) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list() -> Acl {
        let entry = |tag, permissions, id| Entry { tag, permissions, id };
        Acl::new(std::vec![
            entry(Tag::Owner, 7, NO_ID),
            entry(Tag::User, 6, 1000),
            entry(Tag::OwnerGroup, 5, NO_ID),
            entry(Tag::Group, 7, 20),
            entry(Tag::Mask, 5, NO_ID),
            entry(Tag::Other, 0, NO_ID),
        ])
        .unwrap()
    }

    #[test]
    fn permits_as_acl_5_says() {
        let acl = list();
        let none = |_| false;
        assert!(acl.permits(7, true, none, false, none));
        assert!(acl.permits(4, false, |id| id == 1000, false, none));
        assert!(!acl.permits(2, false, |id| id == 1000, true, none));
        assert!(acl.permits(5, false, none, false, |id| id == 20));
        assert!(!acl.permits(4, false, none, false, none));
        assert_eq!(acl.mode(), (0o750, false));
        let mut new = acl.clone();
        assert_eq!(new.restrict(0o640), 0o640);
        assert!(!new.permits(1, false, none, false, |id| id == 20));
    }

    #[test]
    fn what_programs_see_round_trips() {
        let namespace = security::initial_namespace();
        let bytes = list().to_visible(namespace).unwrap();
        assert_eq!(Acl::from_visible(&bytes, namespace), Ok(Some(list())));
        assert_eq!(Acl::from_visible(&bytes[..4], namespace), Ok(None));
        assert_eq!(Acl::from_visible(&bytes[..5], namespace), Err(Errno::EINVAL));
        assert_eq!(Acl::from_visible(&[1, 0, 0, 0], namespace), Err(Errno::EOPNOTSUPP));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Acl::from_visible(&bytes, security::initial_namespace());
        }
    }
}
