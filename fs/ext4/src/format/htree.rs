//! The index of a large directory: blocks that say from which hash on which block of the directory has the names.
//!
//! Key types: [`Root`] (what the first block says), [`NodeRef`], [`NodeMut`] (the entries of the first block or of one below). The first
//! entry of a node has no hash: it stands for everything below the second. Bit 0 of a hash says that names with the same hash go on from
//! the block before.

use super::checksum::crc32c;
use super::{BAD_CHECKSUM, CORRUPTED, at, at_mut};
use abi::errno::Result;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the entries begin in the first block of a directory, and in others.
pub const ROOT_ENTRIES: usize = 32;
/// See [`ROOT_ENTRIES`].
pub const NODE_ENTRIES: usize = 8;
/// Where the first block says what hash it uses: behind `.` and `..`.
const ROOT_INFO: usize = 24;
/// Bytes of an entry, and of the checksum behind them.
const ENTRY: usize = 8;
const TAIL: usize = 8;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawInfo {
    reserved: U32,
    hash_version: u8,
    length: u8,
    levels: u8,
    flags: u8,
}

/// What the first block says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// Of the hash.
    pub hash_version: u8,
    /// How many levels of nodes there are below the first block: 0 if its entries are leaves.
    pub levels: u8,
}

impl Root {
    /// Reads it. Errors: [`CORRUPTED`].
    pub fn read(block: &[u8], max_levels: u8) -> Result<Root> {
        let raw: &RawInfo = at(block, ROOT_INFO)?;
        let fine =
            raw.reserved.get() == 0 && raw.length == 8 && raw.levels < max_levels && raw.flags & 1 == 0;
        if fine { Ok(Root { hash_version: raw.hash_version, levels: raw.levels }) } else { Err(CORRUPTED) }
    }

    /// Writes it.
    pub fn write(&self, block: &mut [u8]) -> Result<()> {
        let raw = RawInfo {
            reserved: 0.into(),
            hash_version: self.hash_version,
            length: 8,
            levels: self.levels,
            flags: 0,
        };
        *at_mut(block, ROOT_INFO)? = raw;
        Ok(())
    }
}

/// An entry: from this hash on, this block of the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The hash, with the bit that says "goes on"; 0 for the first entry.
    pub hash: u32,
    /// The block of the directory.
    pub block: u32,
}

/// A node to be read; `start` is where its entries begin.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    /// The whole block.
    pub bytes: &'a [u8],
    /// [`ROOT_ENTRIES`] or [`NODE_ENTRIES`].
    pub start: usize,
}

impl NodeRef<'_> {
    /// How many entries there are, and for how many there is room. Errors: [`CORRUPTED`].
    pub fn counts(&self) -> Result<(usize, usize)> {
        let limit = usize::from(at::<U16>(self.bytes, self.start)?.get());
        let count = usize::from(at::<U16>(self.bytes, self.start + 2)?.get());
        let room = self.bytes.len().saturating_sub(self.start) / ENTRY;
        let tail = TAIL / ENTRY;
        if count >= 1 && count <= limit && (limit == room || limit + tail == room) {
            Ok((count, limit))
        } else {
            Err(CORRUPTED)
        }
    }

    /// Entry number `index`.
    pub fn entry(&self, index: usize) -> Result<Entry> {
        let place = self.start + index * ENTRY;
        let hash = if index == 0 { 0 } else { at::<U32>(self.bytes, place)?.get() };
        // The upper bits of the block's number are kept for other uses.
        Ok(Entry { hash, block: at::<U32>(self.bytes, place + 4)?.get() & 0x0fff_ffff })
    }

    /// The last entry whose hash is not above `hash`.
    pub fn find(&self, hash: u32) -> Result<usize> {
        let (count, _) = self.counts()?;
        let (mut low, mut high) = (1, count);
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle)?.hash <= hash { low = middle + 1 } else { high = middle }
        }
        Ok(low - 1)
    }

    fn sum(&self, seed: u32) -> Result<(usize, u32)> {
        let (count, limit) = self.counts()?;
        let tail = self.start + limit * ENTRY;
        let covered = self.bytes.get(..self.start + count * ENTRY).ok_or(CORRUPTED)?;
        let reserved = self.bytes.get(tail..tail + 4).ok_or(CORRUPTED)?;
        Ok((tail + 4, crc32c(crc32c(crc32c(seed, covered), reserved), &[0; 4])))
    }

    /// Checks the checksum. Errors: [`BAD_CHECKSUM`], [`CORRUPTED`].
    pub fn check(&self, seed: u32) -> Result<()> {
        let (place, sum) = self.sum(seed)?;
        if at::<U32>(self.bytes, place)?.get() == sum { Ok(()) } else { Err(BAD_CHECKSUM) }
    }
}

/// A node to be changed.
pub struct NodeMut<'a> {
    /// The whole block.
    pub bytes: &'a mut [u8],
    /// [`ROOT_ENTRIES`] or [`NODE_ENTRIES`].
    pub start: usize,
}

impl NodeMut<'_> {
    /// The same to be read.
    pub fn as_ref(&self) -> NodeRef<'_> {
        NodeRef { bytes: self.bytes, start: self.start }
    }

    /// Makes it a node with one entry, which has no hash.
    pub fn format(&mut self, block: u32, has_checksum: bool) -> Result<()> {
        let room = (self.bytes.len() - self.start) / ENTRY - if has_checksum { TAIL / ENTRY } else { 0 };
        self.bytes.get_mut(self.start..).ok_or(CORRUPTED)?.fill(0);
        *at_mut::<U16>(self.bytes, self.start)? = U16::new(room as u16);
        *at_mut::<U16>(self.bytes, self.start + 2)? = 1.into();
        *at_mut::<U32>(self.bytes, self.start + 4)? = block.into();
        Ok(())
    }

    fn set_count(&mut self, count: usize) -> Result<()> {
        *at_mut::<U16>(self.bytes, self.start + 2)? = U16::new(count as u16);
        Ok(())
    }

    /// Puts an entry behind number `index`. Errors: [`CORRUPTED`] if there is no room.
    pub fn insert_after(&mut self, index: usize, entry: Entry) -> Result<()> {
        let (count, limit) = self.as_ref().counts()?;
        if count >= limit || index >= count {
            return Err(CORRUPTED);
        }
        let place = self.start + (index + 1) * ENTRY;
        self.bytes.copy_within(place..self.start + count * ENTRY, place + ENTRY);
        *at_mut::<U32>(self.bytes, place)? = entry.hash.into();
        *at_mut::<U32>(self.bytes, place + 4)? = entry.block.into();
        self.set_count(count + 1)
    }

    /// Leaves the first `count` entries; gives the others.
    pub fn split_off(&mut self, count: usize) -> Result<alloc::vec::Vec<Entry>> {
        let (all, _) = self.as_ref().counts()?;
        let rest = (count..all).map(|index| self.as_ref().entry(index)).collect();
        self.set_count(count.max(1))?;
        rest
    }

    /// Makes these its entries. Errors: [`CORRUPTED`] if there is no room.
    pub fn fill(&mut self, entries: &[Entry]) -> Result<()> {
        let (first, rest) = entries.split_first().ok_or(CORRUPTED)?;
        *at_mut::<U32>(self.bytes, self.start + 4)? = first.block.into();
        self.set_count(1)?;
        for (index, entry) in rest.iter().enumerate() {
            self.insert_after(index, *entry)?;
        }
        Ok(())
    }

    /// Puts the checksum in.
    pub fn seal(&mut self, seed: u32) -> Result<()> {
        let (place, sum) = self.as_ref().sum(seed)?;
        *at_mut::<U32>(self.bytes, place)? = sum.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_found() {
        let mut bytes = [0; 1024];
        let mut node = NodeMut { bytes: &mut bytes, start: NODE_ENTRIES };
        node.format(1, true).unwrap();
        for (index, hash) in [10, 20, 30].into_iter().enumerate() {
            node.insert_after(index, Entry { hash, block: hash }).unwrap();
        }
        let read = node.as_ref();
        assert_eq!(read.counts().unwrap(), (4, 126));
        assert_eq!([0, 9, 10, 29, 31].map(|hash| read.find(hash).unwrap()), [0, 0, 1, 2, 3]);
        let rest = node.split_off(2).unwrap();
        assert_eq!(rest, [Entry { hash: 20, block: 20 }, Entry { hash: 30, block: 30 }]);
        node.seal(5).unwrap();
        node.as_ref().check(5).unwrap();
        assert!(node.as_ref().check(6).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..200), hash: u32, index in 0_usize..30) {
            let _ = Root::read(&bytes, 2);
            for start in [NODE_ENTRIES, ROOT_ENTRIES] {
                let node = NodeRef { bytes: &bytes, start };
                let _ = (node.counts(), node.find(hash), node.entry(index), node.check(1));
                let mut node = NodeMut { bytes: &mut bytes, start };
                let _ = (node.insert_after(index, Entry { hash, block: 0 }), node.split_off(index), node.seal(2));
            }
        }
    }
}
