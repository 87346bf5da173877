//! Inodes in memory: one [`Inode`] for each number.
//!
//! Key types: [`InodeCache`]. The cache keeps nothing alive: an inode lives as long as a name, a file or a mapping refers to it, which the
//! dentry cache sees to. Nothing is lost with it, since every change is in the inode's block already; only times may be late, and those the
//! body has. A body may live longer, with a page cache that is still to be written: the inode that is made then gets both again.
//!
//! Locks: each shard has a sleeping lock that is held while an inode is read, so that two look-ups make one.

use crate::acl;
use crate::body::Body;
use crate::filesystem::FileSystem;
use crate::format::CORRUPTED;
use crate::format::inode::{self, InodeRef, flag};
use crate::node::{Content, Node};
use crate::pager::FilePager;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::sync::Mutex;
use mm::PageCache;
use security::{Kgid, Kuid};
use vfs::inode::state;
use vfs::{DeviceId, FileKind, Inode, InodeAttributes, SuperBlock};

const SHARDS: usize = 64;

/// What is known of a number.
struct Known {
    inode: Weak<Inode>,
    body: Weak<Body>,
}

#[derive(Default)]
struct Shard {
    known: BTreeMap<u32, Known>,
    /// When there are this many, the dead are looked for.
    sweep_at: usize,
}

/// See the head of this file.
pub struct InodeCache {
    shards: Box<[Mutex<Shard>]>,
}

impl Shard {
    fn insert(&mut self, number: u32, inode: &Arc<Inode>, body: &Arc<Body>) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| known.inode.strong_count() + known.body.strong_count() > 0);
            self.sweep_at = self.known.len() * 2 + 16;
        }
        self.known.insert(number, Known { inode: Arc::downgrade(inode), body: Arc::downgrade(body) });
    }
}

impl Default for InodeCache {
    fn default() -> InodeCache {
        InodeCache::new()
    }
}

impl InodeCache {
    /// An empty one.
    pub fn new() -> InodeCache {
        InodeCache { shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect() }
    }

    fn shard(&self, number: u32) -> &Mutex<Shard> {
        &self.shards[number as usize % SHARDS]
    }

    /// The inode of that number. Errors: `ESTALE`: it is not in use; `EUCLEAN`, `EBADMSG`, `EIO`, `ENOMEM`.
    pub fn get(&self, fs: &Arc<FileSystem>, superblock: &Arc<SuperBlock>, number: u32) -> Result<Arc<Inode>> {
        let mut shard = self.shard(number).lock();
        let known = shard.known.get(&number);
        if let Some(inode) = known.and_then(|known| known.inode.upgrade()) {
            return Ok(inode);
        }
        let body = known.and_then(|known| known.body.upgrade());
        let (inode, body) = load(fs, superblock, number, body)?;
        shard.insert(number, &inode, &body);
        Ok(inode)
    }

    /// Puts an inode in that was just made.
    pub fn put(&self, inode: &Arc<Inode>, body: &Arc<Body>) {
        self.shard(body.number).lock().insert(body.number, inode, body);
    }

    /// Its number is about to be free.
    pub fn forget(&self, number: u32) {
        self.shard(number).lock().known.remove(&number);
    }

    /// All bodies in memory.
    pub fn bodies(&self) -> Vec<Arc<Body>> {
        let mut all = Vec::new();
        for shard in self.shards.iter() {
            all.extend(shard.lock().known.values().filter_map(|known| known.body.upgrade()));
        }
        all
    }
}

/// Reads an inode.
fn load(
    fs: &Arc<FileSystem>,
    superblock: &Arc<SuperBlock>,
    number: u32,
    body: Option<Arc<Body>>,
) -> Result<(Arc<Inode>, Arc<Body>)> {
    let (block, offset) = fs.inode_place(number)?;
    let buffer = fs.read_block(block)?;
    let raw: Vec<u8> = {
        let bytes = buffer.read();
        let end = offset + usize::from(fs.geometry.inode_size);
        bytes.get(offset..end).ok_or(CORRUPTED)?.to_vec()
    };
    let raw = InodeRef(&raw);
    raw.check(&fs.geometry, number)
        .map_err(|error| fs.complain(error, format_args!("inode {number} is wrong")))?;
    if raw.links()? == 0 && body.is_none() && !fs.orphans.is_being_cleaned() {
        return Err(Errno::ESTALE);
    }
    let kind = FileKind::from_mode(raw.mode()?);
    let kind = kind.ok_or_else(|| fs.complain(CORRUPTED, format_args!("inode {number} is of no kind")))?;
    let flags = raw.flags()?;
    if flags & (flag::ENCRYPT | flag::VERITY | flag::EA_INODE | flag::CASEFOLD) != 0 {
        log::error!("ext4: inode {number} uses a feature that is not supported (flags {flags:#x})");
        return Err(Errno::EOPNOTSUPP);
    }
    let body = match body {
        Some(body) => body,
        None => Body::new(fs, number, raw)?,
    };
    let inode = make(superblock, &body, kind, raw)?;
    Ok((inode, body))
}

/// The VFS's inode of a body, with these attributes.
pub fn make(
    superblock: &Arc<SuperBlock>,
    body: &Arc<Body>,
    kind: FileKind,
    raw: InodeRef<'_>,
) -> Result<Arc<Inode>> {
    let fs = &body.fs;
    let size = raw.size()?;
    let limit = match kind {
        FileKind::Regular => superblock.max_file_size(),
        // It has no holes.
        FileKind::Directory => fs.geometry.blocks << fs.geometry.block_bits,
        _ => i64::MAX as u64,
    };
    if size > limit {
        return Err(fs.complain(CORRUPTED, format_args!("inode {}: a size of {size}", body.number)));
    }
    let content = content_of(superblock, body, kind, size)?;
    let mut state_bits = 0;
    let flags = raw.flags()?;
    for (bit, state) in [
        (flag::IMMUTABLE, state::IMMUTABLE),
        (flag::APPEND, state::APPEND_ONLY),
        (flag::NO_ATIME, state::NO_ACCESS_TIME),
    ] {
        state_bits |= if flags & bit != 0 { state } else { 0 };
    }
    if kind == FileKind::Regular {
        state_bits |= state::LIVE_ATTRIBUTES;
    }
    let attributes = InodeAttributes {
        number: u64::from(body.number),
        kind,
        mode: raw.mode()? & 0o7777,
        uid: Kuid(raw.uid()?),
        gid: Kgid(raw.gid()?),
        link_count: raw.links()?,
        size,
        special_device: special_device(kind, &raw.map()?),
        state: state_bits,
    };
    let node = Node::new(body.clone(), content);
    let inode = Inode::new(superblock, attributes, Box::new(node));
    if kind != FileKind::Symlink {
        acl::load(fs, body.number, raw, &inode)?;
    }
    inode.set_blocks(raw.blocks(&fs.geometry)?);
    let times = body.late_times.lock().map_or_else(|| raw.times(), Ok)?;
    inode.update_times(|all| *all = times);
    machine::memory::try_arc(inode).map_err(Errno::from)
}

fn content_of(superblock: &SuperBlock, body: &Arc<Body>, kind: FileKind, size: u64) -> Result<Content> {
    Ok(match kind {
        FileKind::Directory => Content::Directory,
        FileKind::Symlink => Content::Symlink(crate::symlink::read(body, size)?),
        FileKind::Regular => {
            let mut known = body.cache.lock();
            if let Some(cache) = known.upgrade() {
                return Ok(Content::Regular(cache));
            }
            let cache =
                PageCache::new(Arc::new(FilePager::new(body.clone(), superblock.errors().clone())), size);
            *known = Arc::downgrade(&cache);
            Content::Regular(cache)
        }
        _ => Content::Special,
    })
}

/// The device of a device node: the old form in the first word, else the new in the second.
fn special_device(kind: FileKind, map: &[u8; inode::MAP_SIZE]) -> DeviceId {
    if !matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
        return DeviceId::default();
    }
    let [a0, a1, a2, a3, b0, b1, b2, b3, ..] = *map;
    let (old, new) = (u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([b0, b1, b2, b3]));
    if old != 0 { DeviceId::new(old >> 8 & 0xff, old & 0xff) } else { DeviceId::decode(u64::from(new)) }
}

/// The same, to be stored.
pub fn store_device(device: DeviceId, map: &mut [u8; inode::MAP_SIZE]) {
    let small = device.major < 256 && device.minor < 256;
    let (old, new) = if small { (device.major << 8 | device.minor, 0) } else { (0, device.encode() as u32) };
    let [a0, a1, a2, a3, b0, b1, b2, b3, ..] = map;
    [*a0, *a1, *a2, *a3] = old.to_le_bytes();
    [*b0, *b1, *b2, *b3] = new.to_le_bytes();
}
