//! Open files of a tmpfs: directories, and regular files on the page cache.
//!
//! Key types: [`DirectoryFile`], [`RegularFile`]. Locks: a writer holds the inode's lock for writing, so that writes are atomic
//! to each other and `O_APPEND` finds the end; readers take none beyond the page cache's own.

use crate::node::Node;
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use machine::PAGE_SIZE;
use mm::io::{IoReader, IoWriter, Limited};
use vfs::{
    Allocate, DirectoryEntry, DirectorySink, File, FileOperations, Inode, SinkState, SyncKind, attributes,
    emit_dots,
};

/// A directory, listed by cookie.
pub struct DirectoryFile;

impl FileOperations for DirectoryFile {
    fn read(&self, _file: &File, _to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn can_poll(&self) -> bool {
        false
    }

    fn read_directory(&self, file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
        let (mut position, state) = emit_dots(file, sink, position)?;
        if state == SinkState::Full {
            return Ok(position);
        }
        let node = file.inode()?.private::<Node>().ok_or(Errno::ENOTDIR)?;
        loop {
            // The lock is not held while the sink writes to user memory.
            let Some((next, name, inode)) = node.entries()?.read().next_from(position) else {
                return Ok(position);
            };
            let entry =
                DirectoryEntry { name: &name, inode_number: inode.number(), kind: Some(inode.kind()), next };
            if sink.add(&entry)? == SinkState::Full {
                return Ok(position);
            }
            position = next;
        }
    }

    fn sync(&self, _file: &File, _kind: SyncKind) -> Result<()> {
        Ok(())
    }
}

/// How much of a write of `left` bytes at `offset` the seals allow: a sealed size lets through the pages that lie within it.
///
/// Errors: `EPERM`.
fn limit_by_seals(inode: &Inode, size: u64, offset: u64, left: usize) -> Result<usize> {
    let seals = inode.operations().seals().ok_or(Errno::EINVAL)?;
    seals.check_write()?;
    let end = offset.saturating_add(left as u64);
    match seals.check_resize(size, end.max(size)) {
        Ok(()) => Ok(left),
        Err(error) => {
            let whole = size - size % PAGE_SIZE as u64;
            whole.checked_sub(offset).filter(|part| *part > 0).map(|part| part as usize).ok_or(error)
        }
    }
}

/// A regular file.
pub struct RegularFile;

impl FileOperations for RegularFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        file.inode()?.operations().page_cache().ok_or(Errno::EINVAL)?.read(offset, to)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let inode = file.inode()?;
        let cache = inode.operations().page_cache().ok_or(Errno::EINVAL)?;
        if from.remaining() == 0 {
            return Ok(0);
        }
        let _change = inode.lock.write();
        let append = file.flags().contains(OpenFlags::APPEND);
        let offset = if append || offset == vfs::file::AT_END { cache.size() } else { offset };
        let left = attributes::limit_write(inode, offset, from.remaining())?;
        let left = limit_by_seals(inode, cache.size(), offset, left)?;
        attributes::remove_privileges(inode, file.credentials())?;
        let count = cache.write(offset, &mut Limited { from, left })?;
        inode.touch_modified();
        Ok(count)
    }

    fn can_poll(&self) -> bool {
        false
    }

    /// There is no device: everything written is where it will ever be.
    fn sync(&self, _file: &File, _kind: SyncKind) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, file: &File, what: Allocate, offset: u64, length: u64) -> Result<()> {
        let inode = file.inode()?;
        let cache = inode.operations().page_cache().ok_or(Errno::EOPNOTSUPP)?;
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
        if end > inode.superblock().max_file_size() {
            return Err(Errno::EFBIG);
        }
        let _change = inode.lock.write();
        let seals = inode.operations().seals().ok_or(Errno::EOPNOTSUPP)?;
        if !matches!(what, Allocate::PunchHole | Allocate::Extend | Allocate::KeepSize) {
            return Err(Errno::EOPNOTSUPP);
        }
        if what == Allocate::PunchHole {
            seals.check_write()?;
        } else {
            seals.check_resize(cache.size(), end.max(cache.size()))?;
        }
        match what {
            Allocate::PunchHole => cache.punch_hole(offset..end)?,
            _ => {
                cache.allocate_range(offset..end)?;
                if what == Allocate::Extend && end > cache.size() {
                    cache.truncate(end)?;
                }
            }
        }
        inode.touch_modified();
        Ok(())
    }
}
