//! POSIX access control lists as ext4 stores them: only entries for named users and groups have an identifier.
//!
//! Key functions: [`from_stored`], [`to_stored`]. What a list means is in [`vfs::acl`]. Pure.

use super::{CORRUPTED, at};
use abi::errno::Result;
use alloc::vec::Vec;
use vfs::acl::{Acl, Entry, NO_ID, Tag};
use zerocopy::little_endian::{U16, U32};

const VERSION: u32 = 1;

/// A list from the stored form. Errors: [`CORRUPTED`].
pub fn from_stored(bytes: &[u8]) -> Result<Acl> {
    if at::<U32>(bytes, 0)?.get() != VERSION {
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
pub fn to_stored(acl: &Acl) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for entry in acl.entries() {
        bytes.extend((entry.tag as u16).to_le_bytes());
        bytes.extend(entry.permissions.to_le_bytes());
        if entry.tag.has_id() {
            bytes.extend(entry.id.to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stored_form_round_trips() {
        let entry = |tag, permissions, id| Entry { tag, permissions, id };
        let acl = Acl::new(std::vec![
            entry(Tag::Owner, 7, NO_ID),
            entry(Tag::User, 6, 1000),
            entry(Tag::OwnerGroup, 5, NO_ID),
            entry(Tag::Mask, 5, NO_ID),
            entry(Tag::Other, 0, NO_ID),
        ])
        .unwrap();
        let stored = to_stored(&acl);
        assert_eq!(stored.len(), 4 + 4 * 4 + 8);
        assert_eq!(from_stored(&stored), Ok(acl));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = from_stored(&bytes);
        }
    }
}
