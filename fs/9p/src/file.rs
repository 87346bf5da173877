//! Open files of a share: bytes go to the server and come from it without staying here; a mapping's pages are read when they are touched.
//!
//! Key types: [`OpenFile`], [`OpenDirectory`], [`Contents`] (the pager of a mapping). Locks: a writer holds the inode's lock for writing; readers take none. A listing holds
//! `OpenDirectory::listed` (sleeping).

use crate::call::pages;
use crate::client::Fid;
use crate::node::node_of;
use crate::protocol::{Answer, Entry};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::stat::S_IFMT;
use alloc::sync::Arc;
use alloc::vec::Vec;
use channel::Piece;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::Mutex;
use mm::io::{IoReader, IoWriter};
use mm::page_cache::{Fill, MappedFile, Pager, Sharing};
use mm::{PageCache, Protection, Retention};
use vfs::{
    DirectoryEntry, DirectorySink, File, FileKind, FileOperations, InodeOperations, SinkState, SyncKind,
    attributes,
};

/// An open regular file.
pub struct OpenFile {
    fid: Arc<Fid>,
}

impl OpenFile {
    /// Of a file that the server has open.
    pub fn new(fid: Fid) -> OpenFile {
        OpenFile { fid: Arc::new(fid) }
    }

    /// Reads one message's worth; gives the bytes read and whether there may be more.
    fn read_some(&self, to: &mut dyn IoWriter, offset: u64) -> Result<(usize, bool)> {
        let wanted = to.remaining().min(self.fid.client().most_data());
        let pieces = pages(wanted, AllocFlags::empty())?;
        let count = self.fid.read(offset, &pieces)?;
        let (mut left, mut done) = (count, 0);
        for piece in &pieces {
            let length = left.min(piece.length as usize);
            if length == 0 {
                break;
            }
            match to.write_frame(&piece.frame, 0, length) {
                Ok(moved) => done += moved,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok((done, false)),
            }
            left -= length;
        }
        Ok((done, done == wanted))
    }

    /// Writes one message's worth; gives the bytes written and whether all of them were.
    fn write_some(&self, from: &mut dyn IoReader, offset: u64, most: usize) -> Result<(usize, bool)> {
        let wanted = most.min(self.fid.client().most_data());
        let mut pieces = pages(wanted, AllocFlags::empty())?;
        let mut filled = 0;
        for piece in &mut pieces {
            match from.read_frame(&piece.frame, 0, piece.length as usize) {
                Ok(count) => {
                    let whole = count == piece.length as usize;
                    piece.length = count as u32;
                    filled += count;
                    if !whole {
                        break;
                    }
                }
                Err(error) if filled == 0 => return Err(error),
                Err(_) => {
                    piece.length = 0;
                    break;
                }
            }
        }
        pieces.truncate(filled.div_ceil(PAGE_SIZE));
        if filled == 0 {
            return Ok((0, false));
        }
        let count = self.fid.write(offset, &pieces)?;
        Ok((count, count == wanted))
    }
}

impl FileOperations for OpenFile {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            match self.read_some(to, offset.saturating_add(done as u64)) {
                Ok((count, more)) => {
                    done += count;
                    if !more {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let inode = file.inode()?;
        let node = node_of(inode)?;
        if from.remaining() == 0 {
            return Ok(0);
        }
        let _change = inode.lock.write();
        let append = file.flags().contains(OpenFlags::APPEND) || offset == vfs::file::AT_END;
        if append {
            node.refresh(inode)?;
        }
        let offset = if append { inode.size() } else { offset };
        let left = attributes::limit_write(inode, offset, from.remaining())?;
        attributes::remove_privileges(inode, file.credentials())?;
        let mut done = 0;
        while done < left {
            match self.write_some(from, offset + done as u64, left - done) {
                Ok((count, all)) => {
                    done += count;
                    if !all {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        inode.set_size(inode.size().max(offset + done as u64));
        inode.touch_modified();
        node.contents_changed();
        Ok(done)
    }

    fn can_poll(&self) -> bool {
        false
    }

    /// A mapping's pages are of no use to reads and writes.
    fn page_cache<'a>(&'a self, _file: &'a File) -> Option<&'a Arc<PageCache>> {
        None
    }

    /// Errors: the server's.
    fn map(&self, file: &Arc<File>) -> Result<Arc<dyn MappedFile>> {
        let inode = file.inode()?;
        let make = |size| PageCache::new(Arc::new(Contents(self.fid.clone())), size);
        let cache = node_of(inode)?.pages_to_map(inode, make)?;
        Ok(vfs::mapping::map_cache(file, cache))
    }

    /// Errors: `EINVAL`: shared and writable: nobody would write it back. So on Linux without a cache.
    fn may_map(&self, file: &File, _protection: Protection, sharing: Sharing) -> Result<()> {
        if sharing == Sharing::Shared && file.flags().writes() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn sync(&self, _file: &File, kind: SyncKind) -> Result<()> {
        self.fid.sync(kind == SyncKind::Data)
    }
}

/// The pages of a mapping. They are of the file as it was mapped or later, and stay as long as something maps them.
struct Contents(Arc<Fid>);

/// So many bytes of pages from byte `from` on. Errors: `ENOMEM`.
fn pieces_of(frames: &[Frame], from: usize, count: usize) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    pieces.try_reserve_exact(count / PAGE_SIZE + 2).map_err(|_| Errno::ENOMEM)?;
    let mut left = count;
    let mut offset = from % PAGE_SIZE;
    for frame in frames.get(from / PAGE_SIZE..).unwrap_or_default() {
        let length = left.min(PAGE_SIZE - offset);
        if length == 0 {
            break;
        }
        pieces.push(Piece { frame: frame.clone(), offset: offset as u32, length: length as u32 });
        left -= length;
        offset = 0;
    }
    Ok(pieces)
}

impl Contents {
    /// Fills pages, with zeros behind the end. Errors: the server's.
    fn fill(&self, fill: &Fill) -> Result<()> {
        let frames = fill.frames();
        let (start, total) = (fill.first().saturating_mul(PAGE_SIZE as u64), frames.len() * PAGE_SIZE);
        let mut done = 0;
        while done < total {
            let wanted = (total - done).min(self.0.client().most_data());
            match self.0.read(start.saturating_add(done as u64), &pieces_of(frames, done, wanted)?)? {
                0 => break,
                count => done += count,
            }
        }
        for (index, frame) in frames.iter().enumerate() {
            let from = done.saturating_sub(index * PAGE_SIZE).min(PAGE_SIZE);
            frame.zero_range(from, PAGE_SIZE - from);
        }
        Ok(())
    }
}

impl Pager for Contents {
    fn retention(&self) -> Retention {
        Retention::Reloadable
    }

    fn read_pages(&self, fill: Fill) {
        let result = self.fill(&fill).map_err(|_| Errno::EIO);
        fill.complete(result);
    }
}

/// What was listed and not taken yet.
#[derive(Default)]
struct Listed {
    /// Where in the directory `rest` is.
    position: u64,
    bytes: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
}

/// An open directory.
pub struct OpenDirectory {
    fid: Fid,
    listed: Mutex<Listed>,
}

impl OpenDirectory {
    /// Of a directory that the server has open.
    pub fn new(fid: Fid) -> OpenDirectory {
        OpenDirectory { fid, listed: Mutex::new(Listed::default()) }
    }
}

impl FileOperations for OpenDirectory {
    fn read(&self, _file: &File, _to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn can_poll(&self) -> bool {
        false
    }

    /// Positions are the server's; `.` and `..` come from it too.
    fn read_directory(&self, _file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
        let mut listed = self.listed.lock();
        let mut position = position;
        loop {
            if position == 0 || listed.position != position || listed.taken >= listed.bytes.len() {
                *listed = Listed { position, bytes: self.fid.list(position)?, taken: 0 };
                if listed.bytes.is_empty() {
                    return Ok(position);
                }
            }
            let mut rest = Answer::part(listed.bytes.get(listed.taken..).unwrap_or_default());
            let entry = Entry::read(&mut rest)?;
            let left = rest.len();
            let kind = FileKind::from_mode(u32::from(entry.kind) << 12 & S_IFMT);
            let (next, inode_number) = (entry.next, entry.qid.path.max(1));
            if sink.add(&DirectoryEntry { name: entry.name, inode_number, kind, next })? == SinkState::Full {
                return Ok(position);
            }
            position = next;
            (listed.position, listed.taken) = (next, listed.bytes.len() - left);
        }
    }

    fn sync(&self, _file: &File, kind: SyncKind) -> Result<()> {
        self.fid.sync(kind == SyncKind::Data)
    }
}
