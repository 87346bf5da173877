//! Blocks of directories: names one behind the other, each with the room up to the next.
//!
//! Key types: [`Entry`], [`Entries`] (all of a block). A removed name gives its room to the one before it; the first of a block stays with
//! inode number 0. With `metadata_csum` the last 12 bytes look like such an entry and hold a checksum.

use super::checksum::crc32c;
use super::{BAD_CHECKSUM, CORRUPTED, at, at_mut};
use abi::errno::Result;
use vfs::FileKind;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the checksum at the end of a block.
pub const TAIL: usize = 12;
/// Marks it, where an entry has its kind.
const TAIL_KIND: u8 = 0xde;
/// Bytes of an entry before its name.
const HEAD: usize = 8;
/// The shortest entry.
const SHORTEST: usize = 12;
/// The longest name.
pub const NAME_MAX: usize = 255;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    inode: U32,
    length: U16,
    name_length: u8,
    kind: u8,
}

/// One name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Where it is in the block, bytes.
    pub offset: usize,
    /// Up to the next, bytes.
    pub length: usize,
    /// Its inode; 0 if it is only room.
    pub inode: u32,
    /// The kind, as stored; 0 if it is not known.
    pub kind: u8,
    /// The name.
    pub name: &'a [u8],
}

impl Entry<'_> {
    /// The kind of file, if it is known.
    pub fn file_kind(&self) -> Option<FileKind> {
        Some(match self.kind & 7 {
            1 => FileKind::Regular,
            2 => FileKind::Directory,
            3 => FileKind::CharDevice,
            4 => FileKind::BlockDevice,
            5 => FileKind::Fifo,
            6 => FileKind::Socket,
            7 => FileKind::Symlink,
            _ => return None,
        })
    }

    /// Whether it is `.` or `..`.
    pub fn is_dot(&self) -> bool {
        matches!(self.name, b"." | b"..")
    }
}

/// A kind as it is stored.
pub fn stored_kind(kind: FileKind, has_kinds: bool) -> u8 {
    if !has_kinds {
        return 0;
    }
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::CharDevice => 3,
        FileKind::BlockDevice => 4,
        FileKind::Fifo => 5,
        FileKind::Socket => 6,
        FileKind::Symlink => 7,
    }
}

/// How many bytes an entry with such a name needs.
pub fn needed(name_length: usize) -> usize {
    (HEAD + name_length).next_multiple_of(4)
}

/// All entries of a block, room included. An impossible one is told as [`CORRUPTED`] and ends it.
pub struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Entries<'a> {
    /// Those of a block.
    pub fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries { bytes, offset: 0 }
    }

    fn read(&self) -> Result<Entry<'a>> {
        let raw: &Raw = at(self.bytes, self.offset)?;
        let length = usize::from(raw.length.get());
        let name_length = usize::from(raw.name_length);
        let left = self.bytes.len() - self.offset;
        if length < SHORTEST || !length.is_multiple_of(4) || length > left || HEAD + name_length > length {
            return Err(CORRUPTED);
        }
        let name = self.bytes.get(self.offset + HEAD..self.offset + HEAD + name_length).ok_or(CORRUPTED)?;
        Ok(Entry { offset: self.offset, length, inode: raw.inode.get(), kind: raw.kind, name })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Result<Entry<'a>>> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let entry = self.read();
        self.offset = match &entry {
            Ok(entry) => self.offset + entry.length,
            Err(_) => self.bytes.len(),
        };
        Some(entry)
    }
}

/// The entry of a name. Errors: [`CORRUPTED`].
pub fn find<'a>(bytes: &'a [u8], name: &[u8]) -> Result<Option<Entry<'a>>> {
    for entry in Entries::new(bytes) {
        let entry = entry?;
        if entry.inode != 0 && entry.name == name {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Writes an entry. The caller knows that the name fits the length.
fn put(bytes: &mut [u8], offset: usize, length: usize, inode: u32, kind: u8, name: &[u8]) -> Result<()> {
    let raw =
        Raw { inode: inode.into(), length: U16::new(length as u16), name_length: name.len() as u8, kind };
    *at_mut(bytes, offset)? = raw;
    let place = bytes.get_mut(offset + HEAD..offset + HEAD + name.len()).ok_or(CORRUPTED)?;
    place.copy_from_slice(name);
    Ok(())
}

/// Adds a name that is not there; says whether there was room. `bytes` is the block without its checksum. Errors: [`CORRUPTED`].
pub fn insert(bytes: &mut [u8], name: &[u8], inode: u32, kind: u8) -> Result<bool> {
    let wanted = needed(name.len());
    let mut place = None;
    for entry in Entries::new(bytes) {
        let entry = entry?;
        let used = if entry.inode == 0 { 0 } else { needed(entry.name.len()) };
        if entry.length >= used + wanted {
            place = Some((entry.offset, entry.length, used));
            break;
        }
    }
    let Some((offset, length, used)) = place else { return Ok(false) };
    if used > 0 {
        at_mut::<Raw>(bytes, offset)?.length = U16::new(used as u16);
    }
    put(bytes, offset + used, length - used, inode, kind, name)?;
    Ok(true)
}

/// Removes a name; says whether it was there. Errors: [`CORRUPTED`].
pub fn remove(bytes: &mut [u8], name: &[u8]) -> Result<bool> {
    let mut before: Option<(usize, usize)> = None;
    let mut found = None;
    for entry in Entries::new(bytes) {
        let entry = entry?;
        if entry.inode != 0 && entry.name == name {
            found = Some((entry.offset, entry.length));
            break;
        }
        before = Some((entry.offset, entry.length));
    }
    let Some((offset, length)) = found else { return Ok(false) };
    match before {
        Some((first, room)) => at_mut::<Raw>(bytes, first)?.length = U16::new((room + length) as u16),
        None => at_mut::<Raw>(bytes, offset)?.inode = 0.into(),
    }
    // The old name is not left to be read on the disk's blocks later.
    let cleared = if before.is_some() { offset..offset + length } else { offset + HEAD..offset + length };
    bytes.get_mut(cleared).ok_or(CORRUPTED)?.fill(0);
    Ok(true)
}

/// Lets a name stand for another inode; says whether it was there. Errors: [`CORRUPTED`].
pub fn replace(bytes: &mut [u8], name: &[u8], inode: u32, kind: u8) -> Result<bool> {
    let Some(offset) = find(bytes, name)?.map(|entry| entry.offset) else { return Ok(false) };
    let raw: &mut Raw = at_mut(bytes, offset)?;
    (raw.inode, raw.kind) = (inode.into(), kind);
    Ok(true)
}

/// Makes the whole of a block one piece of room. `bytes` is the block without its checksum.
pub fn clear(bytes: &mut [u8]) -> Result<()> {
    bytes.fill(0);
    let length = bytes.len();
    put(bytes, 0, length, 0, 0, b"")
}

/// `.` and `..` at the beginning of a block; what follows is `..`'s.
pub fn put_dots(bytes: &mut [u8], own: u32, parent: u32, kind: u8) -> Result<()> {
    bytes.fill(0);
    let rest = bytes.len() - SHORTEST;
    put(bytes, 0, SHORTEST, own, kind, b".")?;
    put(bytes, SHORTEST, rest, parent, kind, b"..")
}

/// Fills a block with entries, each as short as can be but the last. The caller knows that they fit.
pub fn fill<'a>(bytes: &mut [u8], entries: impl Iterator<Item = &'a OwnedEntry>) -> Result<()> {
    clear(bytes)?;
    let total = bytes.len();
    let mut offset = 0;
    let mut last = None;
    for entry in entries {
        let length = needed(entry.name.len());
        if offset + length > total {
            return Err(CORRUPTED);
        }
        put(bytes, offset, length, entry.inode, entry.kind, &entry.name)?;
        last = Some(offset);
        offset += length;
    }
    if let Some(last) = last {
        at_mut::<Raw>(bytes, last)?.length = U16::new((total - last) as u16);
    }
    Ok(())
}

/// An entry away from its block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedEntry {
    /// Its inode.
    pub inode: u32,
    /// The kind, as stored.
    pub kind: u8,
    /// The name.
    pub name: alloc::vec::Vec<u8>,
}

/// The part of a block that has entries: all but the checksum.
pub fn body(bytes: &[u8], has_checksum: bool) -> &[u8] {
    let end = bytes.len().saturating_sub(if has_checksum { TAIL } else { 0 });
    bytes.get(..end).unwrap_or_default()
}

/// The same, to be changed.
pub fn body_mut(bytes: &mut [u8], has_checksum: bool) -> &mut [u8] {
    let end = bytes.len().saturating_sub(if has_checksum { TAIL } else { 0 });
    bytes.get_mut(..end).unwrap_or_default()
}

/// Checks a block's checksum. Errors: [`BAD_CHECKSUM`]: it is wrong or there is none.
pub fn check(bytes: &[u8], seed: u32) -> Result<()> {
    let tail = bytes.len().checked_sub(TAIL).ok_or(CORRUPTED)?;
    let raw: &Raw = at(bytes, tail)?;
    let marked = raw.inode.get() == 0
        && usize::from(raw.length.get()) == TAIL
        && raw.name_length == 0
        && raw.kind == TAIL_KIND;
    let sum = crc32c(seed, bytes.get(..tail).ok_or(CORRUPTED)?);
    let stored: &U32 = at(bytes, tail + HEAD)?;
    if marked && stored.get() == sum { Ok(()) } else { Err(BAD_CHECKSUM) }
}

/// Puts a block's checksum in.
pub fn seal(bytes: &mut [u8], seed: u32) -> Result<()> {
    let tail = bytes.len().checked_sub(TAIL).ok_or(CORRUPTED)?;
    put(bytes, tail, TAIL, 0, TAIL_KIND, b"")?;
    let sum = crc32c(seed, bytes.get(..tail).ok_or(CORRUPTED)?);
    *at_mut::<U32>(bytes, tail + HEAD)? = sum.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0_u8..20, 1_usize..60), 0..200)) {
            let mut bytes = [0; 512];
            clear(&mut bytes).unwrap();
            let mut model = BTreeMap::new();
            for (number, (add, letter, length)) in steps.into_iter().enumerate() {
                let mut name = std::vec![b'a' + letter; length];
                name.truncate(usize::from(letter) * 3 + 1);
                if add && !model.contains_key(&name) {
                    if insert(&mut bytes, &name, number as u32 + 1, 1).unwrap() {
                        model.insert(name, number as u32 + 1);
                    }
                } else {
                    prop_assert_eq!(remove(&mut bytes, &name).unwrap(), model.remove(&name).is_some());
                }
                let listed: BTreeMap<Vec<u8>, u32> = Entries::new(&bytes)
                    .map(|entry| entry.unwrap())
                    .filter(|entry| entry.inode != 0)
                    .map(|entry| (entry.name.to_vec(), entry.inode))
                    .collect();
                prop_assert_eq!(&listed, &model);
            }
        }

        #[test]
        fn any_bytes_can_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..300), name in prop::collection::vec(any::<u8>(), 1..255)) {
            prop_assert!(Entries::new(&bytes).count() <= 30);
            let _ = (find(&bytes, &name), check(&bytes, 1));
            let _ = insert(&mut bytes, &name, 5, 1);
            let _ = remove(&mut bytes, &name);
        }
    }
}
