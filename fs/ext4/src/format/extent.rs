//! Nodes of extent trees: which blocks of a file are where.
//!
//! Key types: [`Header`], [`Extent`] (in leaves), [`Index`] (above), [`NodeRef`] and [`NodeMut`] (a whole node: the 60 bytes in the inode,
//! or a block). A node holds entries sorted by the file's block number. The functions here change one node; trees are in `crate::extents`.

use super::checksum::crc32c;
use super::{BAD_CHECKSUM, CORRUPTED, at, at_mut, join};
use abi::errno::Result;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: u16 = 0xf30a;
/// No tree is deeper.
pub const MAX_DEPTH: u16 = 5;
/// The longest extent that is written; longer ones in the length field are not written yet, by the excess.
pub const MAX_WRITTEN: u32 = 0x8000;
/// The longest extent that is allocated but not written.
pub const MAX_UNWRITTEN: u32 = 0x7fff;
/// Bytes of every entry, and of the header.
const ENTRY: usize = 12;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: U16,
    entries: U16,
    max: U16,
    depth: U16,
    generation: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawExtent {
    block: U32,
    length: U16,
    start_high: U16,
    start: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawIndex {
    block: U32,
    leaf: U32,
    leaf_high: U16,
    unused: U16,
}

/// A run of a file's blocks that follow each other on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first, in the file.
    pub block: u32,
    /// How many, at least 1.
    pub length: u32,
    /// The first, on the device.
    pub start: u64,
    /// Allocated, but reads as zeros.
    pub unwritten: bool,
}

impl Extent {
    /// The block of the file after it.
    pub fn end(&self) -> u64 {
        u64::from(self.block) + u64::from(self.length)
    }

    /// The longest that an extent of this kind can be.
    pub fn max_length(&self) -> u32 {
        if self.unwritten { MAX_UNWRITTEN } else { MAX_WRITTEN }
    }

    /// Whether `next` goes on where it ends, in the file and on the device, and both fit one entry.
    pub fn joins(&self, next: &Extent) -> bool {
        self.end() == u64::from(next.block)
            && self.start + u64::from(self.length) == next.start
            && self.unwritten == next.unwritten
            && self.length + next.length <= self.max_length()
    }

    /// The part of it from `block` of the file on, `length` long. The caller keeps within it.
    pub fn part(&self, block: u32, length: u32) -> Extent {
        Extent { block, length, start: self.start + u64::from(block - self.block), ..*self }
    }

    fn from_raw(raw: &RawExtent) -> Extent {
        let length = u32::from(raw.length.get());
        let unwritten = length > MAX_WRITTEN;
        Extent {
            block: raw.block.get(),
            length: if unwritten { length - MAX_WRITTEN } else { length },
            start: join(raw.start.get(), u32::from(raw.start_high.get())),
            unwritten,
        }
    }

    fn to_raw(self) -> RawExtent {
        let length = self.length + if self.unwritten { MAX_WRITTEN } else { 0 };
        RawExtent {
            block: self.block.into(),
            length: U16::new(length as u16),
            start_high: U16::new((self.start >> 32) as u16),
            start: U32::new(self.start as u32),
        }
    }
}

/// A child of an inner node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index {
    /// No block of the file below it is less.
    pub block: u32,
    /// Where the child is.
    pub child: u64,
}

/// A node to be read.
#[derive(Clone, Copy)]
pub struct NodeRef<'a>(pub &'a [u8]);

/// What a node's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Entries in use.
    pub entries: usize,
    /// Entries that have room.
    pub max: usize,
    /// 0 for a leaf.
    pub depth: u16,
}

impl<'a> NodeRef<'a> {
    /// The header, checked: what it says fits into the node, and the depth is `depth` where that is known.
    ///
    /// Errors: [`CORRUPTED`].
    pub fn header(&self, depth: Option<u16>) -> Result<Header> {
        let raw: &RawHeader = at(self.0, 0)?;
        let header = Header {
            entries: usize::from(raw.entries.get()),
            max: usize::from(raw.max.get()),
            depth: raw.depth.get(),
        };
        let fine = raw.magic.get() == MAGIC
            && header.max > 0
            && header.entries <= header.max
            && ENTRY + header.max * ENTRY <= self.0.len()
            && header.depth <= MAX_DEPTH
            && depth.is_none_or(|depth| depth == header.depth);
        if fine { Ok(header) } else { Err(CORRUPTED) }
    }

    /// The extent number `index` of a leaf.
    pub fn extent(&self, index: usize) -> Result<Extent> {
        at(self.0, ENTRY + index * ENTRY).map(Extent::from_raw)
    }

    /// The child number `index` of an inner node.
    pub fn index(&self, index: usize) -> Result<Index> {
        let raw: &RawIndex = at(self.0, ENTRY + index * ENTRY)?;
        Ok(Index { block: raw.block.get(), child: join(raw.leaf.get(), u32::from(raw.leaf_high.get())) })
    }

    /// The first block of the entry number `index`, of either kind.
    pub fn key(&self, index: usize) -> Result<u32> {
        at::<U32>(self.0, ENTRY + index * ENTRY).map(|key| key.get())
    }

    /// The last of `entries` entries whose key is not above `block`; `None` if there is none.
    pub fn find(&self, entries: usize, block: u32) -> Result<Option<usize>> {
        let (mut low, mut high) = (0, entries);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? <= block { low = middle + 1 } else { high = middle }
        }
        Ok(low.checked_sub(1))
    }

    /// Whether a node's entries are in order and do not overlap, and lie where the file system has blocks for them.
    ///
    /// Errors: [`CORRUPTED`].
    pub fn check(&self, header: Header, contains: impl Fn(u64, u64) -> bool) -> Result<()> {
        let mut next = 0;
        for index in 0..header.entries {
            let (block, end, fine) = if header.depth == 0 {
                let extent = self.extent(index)?;
                let fine = extent.length > 0 && contains(extent.start, u64::from(extent.length));
                (u64::from(extent.block), extent.end(), fine)
            } else {
                let entry = self.index(index)?;
                (u64::from(entry.block), u64::from(entry.block) + 1, contains(entry.child, 1))
            };
            if !fine || (index > 0 && block < next) || end > 1 << 32 {
                return Err(CORRUPTED);
            }
            next = end;
        }
        Ok(())
    }

    /// Checks a block's checksum. Errors: [`BAD_CHECKSUM`].
    pub fn check_checksum(&self, seed: u32) -> Result<()> {
        let tail = tail_place(self.0)?;
        let stored: &U32 = at(self.0, tail)?;
        let sum = crc32c(seed, self.0.get(..tail).ok_or(CORRUPTED)?);
        if stored.get() == sum { Ok(()) } else { Err(BAD_CHECKSUM) }
    }
}

/// Where a block's checksum is: behind the room for entries.
fn tail_place(bytes: &[u8]) -> Result<usize> {
    let header: &RawHeader = at(bytes, 0)?;
    Ok(ENTRY + usize::from(header.max.get()) * ENTRY)
}

/// A node to be changed.
pub struct NodeMut<'a>(pub &'a mut [u8]);

impl NodeMut<'_> {
    /// The same to be read.
    pub fn as_ref(&self) -> NodeRef<'_> {
        NodeRef(self.0)
    }

    /// Makes it an empty node.
    pub fn format(&mut self, depth: u16) -> Result<()> {
        // A block has room for a checksum behind its entries.
        let max = (self.0.len() - ENTRY) / ENTRY;
        self.0.fill(0);
        let header: &mut RawHeader = at_mut(self.0, 0)?;
        (header.magic, header.max, header.depth) = (MAGIC.into(), U16::new(max as u16), depth.into());
        Ok(())
    }

    /// Changes the depth.
    pub fn set_depth(&mut self, depth: u16) -> Result<()> {
        at_mut::<RawHeader>(self.0, 0)?.depth = depth.into();
        Ok(())
    }

    fn set_entries(&mut self, entries: usize) -> Result<()> {
        at_mut::<RawHeader>(self.0, 0)?.entries = U16::new(entries as u16);
        Ok(())
    }

    /// Replaces the extent number `index`.
    pub fn set_extent(&mut self, index: usize, extent: Extent) -> Result<()> {
        *at_mut(self.0, ENTRY + index * ENTRY)? = extent.to_raw();
        Ok(())
    }

    /// Replaces the child number `index`.
    pub fn set_index(&mut self, index: usize, entry: Index) -> Result<()> {
        *at_mut(self.0, ENTRY + index * ENTRY)? = RawIndex {
            block: entry.block.into(),
            leaf: U32::new(entry.child as u32),
            leaf_high: U16::new((entry.child >> 32) as u16),
            unused: 0.into(),
        };
        Ok(())
    }

    /// Makes room for an entry before the one that is number `index` now. The caller knows that there is room.
    fn open(&mut self, index: usize) -> Result<()> {
        let header = self.as_ref().header(None)?;
        if header.entries >= header.max || index > header.entries {
            return Err(CORRUPTED);
        }
        let (from, end) = (ENTRY + index * ENTRY, ENTRY + header.entries * ENTRY);
        self.0.copy_within(from..end, from + ENTRY);
        self.set_entries(header.entries + 1)
    }

    /// Puts an extent in as number `index`. Errors: [`CORRUPTED`] if there is no room.
    pub fn insert_extent(&mut self, index: usize, extent: Extent) -> Result<()> {
        self.open(index)?;
        self.set_extent(index, extent)
    }

    /// Puts a child in as number `index`. Errors: [`CORRUPTED`] if there is no room.
    pub fn insert_index(&mut self, index: usize, entry: Index) -> Result<()> {
        self.open(index)?;
        self.set_index(index, entry)
    }

    /// Takes the entry number `index` out.
    pub fn remove(&mut self, index: usize) -> Result<()> {
        let header = self.as_ref().header(None)?;
        if index >= header.entries {
            return Err(CORRUPTED);
        }
        let (from, end) = (ENTRY + (index + 1) * ENTRY, ENTRY + header.entries * ENTRY);
        self.0.copy_within(from..end, from - ENTRY);
        self.set_entries(header.entries - 1)
    }

    /// Leaves the first `entries` entries; gives the bytes of the others.
    pub fn split_off(&mut self, entries: usize) -> Result<alloc::vec::Vec<u8>> {
        let header = self.as_ref().header(None)?;
        let rest =
            self.0.get(ENTRY + entries * ENTRY..ENTRY + header.entries * ENTRY).ok_or(CORRUPTED)?.to_vec();
        self.set_entries(entries)?;
        Ok(rest)
    }

    /// Puts entries, as [`split_off`](Self::split_off) gave them, into an empty node.
    pub fn fill(&mut self, entries: &[u8]) -> Result<()> {
        self.0.get_mut(ENTRY..ENTRY + entries.len()).ok_or(CORRUPTED)?.copy_from_slice(entries);
        self.set_entries(entries.len() / ENTRY)
    }

    /// Puts a block's checksum in.
    pub fn seal(&mut self, seed: u32) -> Result<()> {
        let tail = tail_place(self.0)?;
        let sum = crc32c(seed, self.0.get(..tail).ok_or(CORRUPTED)?);
        *at_mut::<U32>(self.0, tail)? = sum.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_come_and_go() {
        let mut bytes = [0; 60];
        let mut node = NodeMut(&mut bytes);
        node.format(0).unwrap();
        let extent =
            |block, length, unwritten| Extent { block, length, start: 1000 + u64::from(block), unwritten };
        node.insert_extent(0, extent(10, 5, false)).unwrap();
        node.insert_extent(0, extent(0, 5, true)).unwrap();
        node.insert_extent(2, extent(20, 0x8000, false)).unwrap();
        let header = node.as_ref().header(Some(0)).unwrap();
        assert_eq!((header.entries, header.max), (3, 4));
        assert_eq!(node.as_ref().find(3, 14).unwrap(), Some(1));
        assert_eq!(node.as_ref().extent(0).unwrap(), extent(0, 5, true));
        assert_eq!(node.as_ref().extent(2).unwrap(), extent(20, 0x8000, false));
        node.remove(1).unwrap();
        assert_eq!(node.as_ref().find(2, 14).unwrap(), Some(0));
        node.as_ref().check(node.as_ref().header(None).unwrap(), |_, _| true).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic: bool, index in 0_usize..20) {
            if magic && bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
            }
            let node = NodeRef(&bytes);
            let header = node.header(None);
            let _ = (node.extent(index), node.index(index), node.find(index, 7), node.check_checksum(0));
            if let Ok(header) = header {
                let _ = node.check(header, |_, _| true);
            }
            let mut node = NodeMut(&mut bytes);
            let _ = (node.remove(index), node.split_off(index), node.seal(3));
        }
    }
}
