//! POSIX access control lists (acl(5)): as ext4 stores them, as programs see them, and what they permit.
//!
//! Key type: [`Acl`]. Stored, only entries for named users and groups have an identifier; in the attribute that programs see
//! (`system.posix_acl_access`) all have.

use super::{CORRUPTED, at};
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32};

const STORED_VERSION: u32 = 1;
const VISIBLE_VERSION: u32 = 2;
/// The identifier of an entry that has none, as programs see it.
const NO_ID: u32 = !0;

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
    fn from_number(number: u16) -> Option<Tag> {
        [Tag::Owner, Tag::User, Tag::OwnerGroup, Tag::Group, Tag::Mask, Tag::Other]
            .into_iter()
            .find(|tag| *tag as u16 == number)
    }

    fn has_id(self) -> bool {
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

/// A list, valid: each entry once, in order, the three basic ones there, a mask if there are named ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// From entries. Errors: `EINVAL`: not valid.
    pub fn new(entries: Vec<Entry>) -> Result<Acl> {
        let sorted = entries.windows(2).all(|pair| match pair {
            [a, b] => {
                (a.tag, if a.tag.has_id() { a.id } else { 0 })
                    < (b.tag, if b.tag.has_id() { b.id } else { 0 })
            }
            _ => true,
        });
        let has = |tag| entries.iter().any(|entry: &Entry| entry.tag == tag);
        let named = has(Tag::User) || has(Tag::Group);
        let complete =
            has(Tag::Owner) && has(Tag::OwnerGroup) && has(Tag::Other) && (has(Tag::Mask) || !named);
        let fine = sorted && complete && entries.iter().all(|entry| entry.permissions <= 7);
        if fine { Ok(Acl { entries }) } else { Err(Errno::EINVAL) }
    }

    /// From the stored form. Errors: [`CORRUPTED`].
    pub fn from_stored(bytes: &[u8]) -> Result<Acl> {
        if at::<U32>(bytes, 0)?.get() != STORED_VERSION {
            return Err(CORRUPTED);
        }
        let mut entries = Vec::new();
        let mut offset = 4;
        while offset < bytes.len() {
            let tag = Tag::from_number(at::<U16>(bytes, offset)?.get()).ok_or(CORRUPTED)?;
            let permissions = at::<U16>(bytes, offset + 2)?.get();
            let id = if tag.has_id() { at::<U32>(bytes, offset + 4)?.get() } else { NO_ID };
            entries.push(Entry { tag, permissions, id });
            offset += if tag.has_id() { 8 } else { 4 };
        }
        Acl::new(entries).map_err(|_| CORRUPTED)
    }

    /// The stored form.
    pub fn to_stored(&self) -> Vec<u8> {
        let mut bytes = STORED_VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend((entry.tag as u16).to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            if entry.tag.has_id() {
                bytes.extend(entry.id.to_le_bytes());
            }
        }
        bytes
    }

    /// From the form that programs give. `None`: it has no entries, which removes the list. Errors: `EINVAL`, `EOPNOTSUPP` (its version).
    pub fn from_visible(bytes: &[u8]) -> Result<Option<Acl>> {
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VISIBLE_VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (chunks, left) = rest.as_chunks::<8>();
        if !left.is_empty() {
            return Err(Errno::EINVAL);
        }
        let entries: Result<Vec<Entry>> = chunks
            .iter()
            .map(|[t0, t1, p0, p1, i0, i1, i2, i3]| {
                let tag = Tag::from_number(u16::from_le_bytes([*t0, *t1])).ok_or(Errno::EINVAL)?;
                let id = u32::from_le_bytes([*i0, *i1, *i2, *i3]);
                Ok(Entry {
                    tag,
                    permissions: u16::from_le_bytes([*p0, *p1]),
                    id: if tag.has_id() { id } else { NO_ID },
                })
            })
            .collect();
        let entries = entries?;
        if entries.is_empty() { Ok(None) } else { Acl::new(entries).map(Some) }
    }

    /// The form that programs see.
    pub fn to_visible(&self) -> Vec<u8> {
        let mut bytes = VISIBLE_VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend((entry.tag as u16).to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
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

    /// Whether someone may do `wanted` (`rwx` as 4, 2, 1). `None`: no entry concerns them, which the caller takes as no.
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
    fn both_forms_round_trip() {
        let acl = list();
        assert_eq!(Acl::from_stored(&acl.to_stored()).unwrap(), acl);
        assert_eq!(Acl::from_visible(&acl.to_visible()).unwrap(), Some(acl));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Acl::from_stored(&bytes), Acl::from_visible(&bytes));
        }
    }
}
