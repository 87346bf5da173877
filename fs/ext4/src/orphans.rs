//! Orphans: inodes that are to be removed or cut after a crash: those without a name that are open, and those that are being cut.
//!
//! Key type: [`Orphans`]. On the disk they are a list: the superblock names the last, each has the one before it in the place of its time of
//! deletion. Here it is kept in order, so that one is taken out in O(log n). Linux may have left some in the orphan file too; nothing is added
//! there.
//!
//! Locks: `list` (sleeping), below a handle, above buffers.

use crate::body::Body;
use crate::filesystem::FileSystem;
use crate::format::checksum::crc32c;
use crate::format::inode::{self, InodeRef};
use crate::format::{self, CORRUPTED, ReadOnlyCompatible};
use crate::journal::Handle;
use crate::truncate;
use abi::errno::Result;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::Mutex;
use machine::sync::atomic::{AtomicBool, Ordering};
use vfs::SuperBlock;
use zerocopy::little_endian::U32;

/// Marks the end of each block of the orphan file.
const FILE_MAGIC: u32 = 0x0b10_ca04;
/// The most blocks that adding or removing one changes.
pub const CREDITS: u32 = 3;

#[derive(Default)]
struct List {
    by_order: BTreeMap<u64, u32>,
    by_number: BTreeMap<u32, u64>,
    next: u64,
}

/// See the head of this file.
pub struct Orphans {
    list: Mutex<List>,
    cleaning: AtomicBool,
}

impl Default for Orphans {
    fn default() -> Orphans {
        Orphans::new()
    }
}

impl Orphans {
    /// None.
    pub fn new() -> Orphans {
        Orphans { list: Mutex::new(List::default()), cleaning: AtomicBool::new(false) }
    }

    /// Whether those of the last mount are being removed: inodes without names are looked at then.
    pub fn is_being_cleaned(&self) -> bool {
        self.cleaning.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.lock().by_number.is_empty()
    }

    /// Adds an inode, unless it is there. Changes [`CREDITS`] blocks.
    pub fn add(&self, fs: &FileSystem, handle: &mut Handle, number: u32) -> Result<()> {
        let mut list = self.list.lock();
        if list.by_number.contains_key(&number) {
            return Ok(());
        }
        let before = list.by_order.last_key_value().map_or(0, |(_, before)| *before);
        fs.change_inode(handle, number, |inode| inode.set_deleted(before))?;
        fs.change_super(handle, |raw| raw.last_orphan = number.into())?;
        let order = list.next;
        list.next += 1;
        list.by_order.insert(order, number);
        list.by_number.insert(number, order);
        Ok(())
    }

    /// Takes an inode out, if it is there. What it has in the place of the time of deletion is for the caller to set.
    pub fn remove(&self, fs: &FileSystem, handle: &mut Handle, number: u32) -> Result<()> {
        let mut list = self.list.lock();
        let Some(order) = list.by_number.get(&number).copied() else { return Ok(()) };
        let before = list.by_order.range(..order).next_back().map_or(0, |(_, before)| *before);
        match list.by_order.range(order + 1..).next() {
            Some((_, after)) => fs.change_inode(handle, *after, |inode| inode.set_deleted(before))?,
            None => fs.change_super(handle, |raw| raw.last_orphan = before.into())?,
        }
        list.by_order.remove(&order);
        list.by_number.remove(&number);
        Ok(())
    }

    /// Removes what the last mount left: files without names go, others are cut to their size. Errors: `EUCLEAN`, `EIO`.
    pub fn clean(&self, fs: &Arc<FileSystem>, superblock: &Arc<SuperBlock>) -> Result<()> {
        self.cleaning.store(true, Ordering::Relaxed);
        let result = self.clean_all(fs, superblock);
        self.cleaning.store(false, Ordering::Relaxed);
        result
    }

    fn clean_all(&self, fs: &Arc<FileSystem>, superblock: &Arc<SuperBlock>) -> Result<()> {
        let numbers = self.read_list(fs)?;
        let file = read_file(fs)?;
        let count = numbers.len() + file.iter().map(|(_, numbers)| numbers.len()).sum::<usize>();
        {
            let mut list = self.list.lock();
            // The list begins with the last that was added.
            for number in numbers.iter().rev() {
                let order = list.next;
                list.next += 1;
                list.by_order.insert(order, *number);
                list.by_number.insert(*number, order);
            }
        }
        for number in numbers.iter().chain(file.iter().flat_map(|(_, numbers)| numbers)) {
            truncate::clean_orphan(fs, superblock, *number)?;
        }
        clear_file(fs, &file)?;
        if count > 0 {
            log::info!("ext4: {count} orphans removed or cut");
        }
        Ok(())
    }

    /// The list on the disk, the last first. A list that leads in a circle or nowhere is given up there.
    fn read_list(&self, fs: &FileSystem) -> Result<Vec<u32>> {
        let mut number = fs.with_super(|raw| raw.last_orphan.get())?;
        let mut numbers = Vec::new();
        let mut seen = alloc::collections::BTreeSet::new();
        while number != 0 {
            let known = number >= fs.geometry.first_inode && number <= fs.geometry.inodes;
            if !known || !seen.insert(number) {
                fs.complain(CORRUPTED, format_args!("the list of orphans leads to inode {number}"));
                break;
            }
            numbers.push(number);
            let (block, offset) = fs.inode_place(number)?;
            let buffer = fs.read_block(block)?;
            let bytes = buffer.read();
            number = InodeRef(bytes.get(offset..).ok_or(CORRUPTED)?).deleted()?;
        }
        Ok(numbers)
    }
}

/// The inode of the orphan file, if there is one with something in it.
fn orphan_file(fs: &Arc<FileSystem>) -> Result<Option<Arc<Body>>> {
    let number = fs.geometry.orphan_file;
    if number == 0 {
        return Ok(None);
    }
    let (block, offset) = fs.inode_place(number)?;
    let buffer = fs.read_block(block)?;
    let bytes = buffer.read();
    let end = offset + usize::from(fs.geometry.inode_size);
    let raw = InodeRef(bytes.get(offset..end).ok_or(CORRUPTED)?);
    raw.check(&fs.geometry, number)?;
    Body::new(fs, number, raw).map(Some)
}

/// The blocks of the orphan file that have entries, and those. Errors: `EUCLEAN`, `EBADMSG`, `EIO`.
fn read_file(fs: &Arc<FileSystem>) -> Result<Vec<(u64, Vec<u32>)>> {
    let mut found = Vec::new();
    let present =
        fs.with_super(|raw| raw.feature_ro_compat.get())? & ReadOnlyCompatible::ORPHAN_PRESENT.bits() != 0;
    let Some(body) = orphan_file(fs)?.filter(|_| present) else { return Ok(found) };
    // A file of more blocks than a disk has is not looked at to its end.
    let blocks = crate::directory::block_count(&body).min(1 << 16);
    for block in 0..blocks {
        let place = body.place_of(block)?;
        let buffer = fs.read_block(place)?;
        let bytes = buffer.read();
        let tail = bytes.len() - 8;
        let magic: &U32 = format::at(&bytes, tail)?;
        let stored: &U32 = format::at(&bytes, tail + 4)?;
        let fine = magic.get() == FILE_MAGIC
            && (!fs.geometry.has_checksums() || stored.get() == file_sum(&body, place, &bytes)?);
        if !fine {
            return Err(fs.complain(CORRUPTED, format_args!("block {block} of the orphan file is wrong")));
        }
        let mut numbers = Vec::new();
        for index in 0..tail / 4 {
            let number = format::at::<U32>(&bytes, index * 4)?.get();
            if number >= fs.geometry.first_inode && number <= fs.geometry.inodes {
                numbers.push(number);
            }
        }
        if !numbers.is_empty() {
            found.push((place, numbers));
        }
    }
    Ok(found)
}

fn file_sum(body: &Body, place: u64, bytes: &[u8]) -> Result<u32> {
    let seed = inode::checksum_seed(&body.fs.geometry, body.number, body.generation);
    let sum = crc32c(seed, &place.to_le_bytes());
    Ok(crc32c(sum, bytes.get(..bytes.len() - 8).ok_or(CORRUPTED)?))
}

/// Empties the orphan file, and says in the superblock that it is.
fn clear_file(fs: &Arc<FileSystem>, found: &[(u64, Vec<u32>)]) -> Result<()> {
    let present =
        fs.with_super(|raw| raw.feature_ro_compat.get())? & ReadOnlyCompatible::ORPHAN_PRESENT.bits() != 0;
    let Some(body) = orphan_file(fs)?.filter(|_| present) else { return Ok(()) };
    for (place, _) in found {
        let mut handle = fs.start(2)?;
        let buffer = fs.read_block(*place)?;
        handle.modify(&buffer, |bytes| {
            let tail = bytes.len() - 8;
            bytes.get_mut(..tail).ok_or(CORRUPTED)?.fill(0);
            if fs.geometry.has_checksums() {
                *format::at_mut::<U32>(bytes, tail + 4)? = U32::new(file_sum(&body, *place, bytes)?);
            }
            Result::Ok(())
        })??;
    }
    let mut handle = fs.start(1)?;
    fs.change_super(&mut handle, |raw| {
        let bits = raw.feature_ro_compat.get() & !ReadOnlyCompatible::ORPHAN_PRESENT.bits();
        raw.feature_ro_compat = bits.into();
    })
}
