//! Lists of extended attributes: in the inode behind its fields, or in a block of their own.
//!
//! Key types: [`Attribute`], [`Place`]. A list is read as a whole and written anew as a whole: it is never larger than a block. Names are
//! stored as a number for the prefix and the rest.

use super::checksum::crc32c;
use super::{BAD_CHECKSUM, CORRUPTED, at, at_mut};
use abi::errno::Result;
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: u32 = 0xea02_0000;
/// The number of `system.`, where inline data is.
pub const SYSTEM: u8 = 7;
/// The number of `system.posix_acl_access`, which is a whole name.
pub const ACL_ACCESS: u8 = 2;
/// The number of `system.posix_acl_default`.
pub const ACL_DEFAULT: u8 = 3;

/// The prefixes and their numbers. Those of access control lists are whole names.
const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (SYSTEM, b"system."),
];

/// A full name as it is stored: prefix number and rest.
pub fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        let whole = !prefix.ends_with(b".");
        (rest.is_empty() == whole).then_some((*number, rest))
    })
}

/// The prefix that has this number.
pub fn prefix(number: u8) -> Option<&'static [u8]> {
    PREFIXES.iter().find(|(known, _)| *known == number).map(|(_, prefix)| *prefix)
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawEntry {
    name_length: u8,
    prefix: u8,
    value_offset: U16,
    value_inode: U32,
    value_size: U32,
    hash: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    references: U32,
    blocks: U32,
    hash: U32,
    checksum: U32,
    reserved: [U32; 3],
}

const ENTRY: usize = size_of::<RawEntry>();
const BLOCK_HEADER: usize = size_of::<RawHeader>();
/// In an inode there is only the magic number.
const INODE_HEADER: usize = 4;

/// One attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attribute {
    /// Number of the prefix.
    pub prefix: u8,
    /// The rest of the name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Where a list is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Behind the fields of an inode: offsets count from the first entry.
    Inode,
    /// In a block: offsets count from its start, and entries are sorted.
    Block,
}

impl Place {
    fn header(self) -> usize {
        match self {
            Place::Inode => INODE_HEADER,
            Place::Block => BLOCK_HEADER,
        }
    }

    fn base(self) -> usize {
        match self {
            Place::Inode => INODE_HEADER,
            Place::Block => 0,
        }
    }
}

/// Reads a list; an area of an inode without the magic number has none. Errors: [`CORRUPTED`].
pub fn parse(bytes: &[u8], place: Place) -> Result<Vec<Attribute>> {
    let magic: &U32 = at(bytes, 0)?;
    if magic.get() != MAGIC {
        return if place == Place::Inode { Ok(Vec::new()) } else { Err(CORRUPTED) };
    }
    let mut list = Vec::new();
    let mut offset = place.header();
    let mut values = 0_usize;
    loop {
        if at::<U32>(bytes, offset).map_or(0, |word| word.get()) == 0 {
            return Ok(list);
        }
        let raw: &RawEntry = at(bytes, offset)?;
        let name =
            bytes.get(offset + ENTRY..offset + ENTRY + usize::from(raw.name_length)).ok_or(CORRUPTED)?;
        let size = raw.value_size.get() as usize;
        let start = place.base() + usize::from(raw.value_offset.get());
        let end = start.checked_add(size).ok_or(CORRUPTED)?;
        // Values that overlap would make a small block stand for much memory.
        values = values.saturating_add(size);
        if raw.value_inode.get() != 0 || values > bytes.len() {
            return Err(CORRUPTED);
        }
        let value = if size == 0 { &[] } else { bytes.get(start..end).ok_or(CORRUPTED)? };
        list.push(Attribute { prefix: raw.prefix, name: name.to_vec(), value: value.to_vec() });
        offset += (ENTRY + name.len()).next_multiple_of(4);
    }
}

/// How many bytes a list needs.
pub fn size_of_list(list: &[Attribute], place: Place) -> usize {
    let each = |attribute: &Attribute| {
        (ENTRY + attribute.name.len()).next_multiple_of(4) + attribute.value.len().next_multiple_of(4)
    };
    place.header() + list.iter().map(each).sum::<usize>() + 4
}

/// Writes a list; says whether it fitted (if not, nothing was changed). An empty one leaves zeros.
pub fn store(bytes: &mut [u8], list: &[Attribute], place: Place) -> Result<bool> {
    if size_of_list(list, place) > bytes.len() {
        return Ok(false);
    }
    bytes.get_mut(place.header()..).ok_or(CORRUPTED)?.fill(0);
    if list.is_empty() && place == Place::Inode {
        bytes.fill(0);
        return Ok(true);
    }
    *at_mut::<U32>(bytes, 0)? = MAGIC.into();
    let mut sorted: Vec<&Attribute> = list.iter().collect();
    if place == Place::Block {
        sorted.sort_unstable_by(|a, b| {
            (a.prefix, a.name.len(), &a.name).cmp(&(b.prefix, b.name.len(), &b.name))
        });
    }
    let mut offset = place.header();
    // Values fill the area from its end.
    let mut values = bytes.len() & !3;
    let mut hash = 0_u32;
    for attribute in sorted {
        values -= attribute.value.len().next_multiple_of(4);
        let own = if place == Place::Block { hash_of(attribute) } else { 0 };
        hash = hash.rotate_left(16) ^ own;
        let value_offset = if attribute.value.is_empty() { 0 } else { values - place.base() };
        *at_mut(bytes, offset)? = RawEntry {
            name_length: attribute.name.len() as u8,
            prefix: attribute.prefix,
            value_offset: U16::new(value_offset as u16),
            value_inode: 0.into(),
            value_size: U32::new(attribute.value.len() as u32),
            hash: own.into(),
        };
        let name = bytes.get_mut(offset + ENTRY..offset + ENTRY + attribute.name.len()).ok_or(CORRUPTED)?;
        name.copy_from_slice(&attribute.name);
        let value = bytes.get_mut(values..values + attribute.value.len()).ok_or(CORRUPTED)?;
        value.copy_from_slice(&attribute.value);
        offset += (ENTRY + attribute.name.len()).next_multiple_of(4);
    }
    if place == Place::Block {
        let header: &mut RawHeader = at_mut(bytes, 0)?;
        (header.blocks, header.hash) = (1.into(), hash.into());
    }
    Ok(true)
}

/// What is stored beside an entry of a block: from name and value.
fn hash_of(attribute: &Attribute) -> u32 {
    let name = attribute.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    attribute.value.chunks(4).fold(name, |hash, chunk| {
        let mut word = [0; 4];
        for (place, byte) in word.iter_mut().zip(chunk) {
            *place = *byte;
        }
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

/// How many inodes share a block. Errors: [`CORRUPTED`].
pub fn references(bytes: &[u8]) -> Result<u32> {
    let header: &RawHeader = at(bytes, 0)?;
    if header.magic.get() == MAGIC && header.blocks.get() == 1 {
        Ok(header.references.get())
    } else {
        Err(CORRUPTED)
    }
}

/// Sets how many inodes share a block.
pub fn set_references(bytes: &mut [u8], count: u32) -> Result<()> {
    at_mut::<RawHeader>(bytes, 0)?.references = count.into();
    Ok(())
}

fn checksum(bytes: &[u8], seed: u32, block: u64) -> Result<u32> {
    const PLACE: usize = 16;
    let sum = crc32c(seed, &block.to_le_bytes());
    let sum = crc32c(crc32c(sum, bytes.get(..PLACE).ok_or(CORRUPTED)?), &[0; 4]);
    Ok(crc32c(sum, bytes.get(PLACE + 4..).ok_or(CORRUPTED)?))
}

/// Checks a block's checksum. Errors: [`BAD_CHECKSUM`].
pub fn check(bytes: &[u8], seed: u32, block: u64) -> Result<()> {
    let header: &RawHeader = at(bytes, 0)?;
    if header.checksum.get() == checksum(bytes, seed, block)? { Ok(()) } else { Err(BAD_CHECKSUM) }
}

/// Puts a block's checksum in.
pub fn seal(bytes: &mut [u8], seed: u32, block: u64) -> Result<()> {
    let sum = checksum(bytes, seed, block)?;
    at_mut::<RawHeader>(bytes, 0)?.checksum = sum.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_split() {
        assert_eq!(split_name(b"user.x"), Some((1, &b"x"[..])));
        assert_eq!(split_name(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(split_name(b"system.data"), Some((7, &b"data"[..])));
        assert_eq!(split_name(b"user."), None);
        assert_eq!(split_name(b"other.x"), None);
    }

    proptest! {
        #[test]
        fn lists_round_trip(pairs in prop::collection::btree_map(prop::collection::vec(1_u8..255, 1..30), prop::collection::vec(any::<u8>(), 0..90), 0..9)) {
            let mut list: Vec<_> = pairs.into_iter().map(|(name, value)| Attribute { prefix: 1, name, value }).collect();
            list.sort();
            for (place, size) in [(Place::Inode, 96), (Place::Block, 1024), (Place::Inode, 1000)] {
                let mut bytes = std::vec![0; size];
                let fitted = store(&mut bytes, &list, place).unwrap();
                prop_assert_eq!(fitted, size_of_list(&list, place) <= size);
                if fitted {
                    let mut read = parse(&bytes, place).unwrap();
                    read.sort();
                    prop_assert_eq!(&read, &list);
                }
            }
        }

        #[test]
        fn any_bytes_can_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
            if magic && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            }
            let _ = (parse(&bytes, Place::Inode), parse(&bytes, Place::Block), references(&bytes), check(&bytes, 1, 2));
        }
    }
}
