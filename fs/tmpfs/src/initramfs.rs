//! Unpacking an initramfs into the root: the archives' entries become inodes directly, without path lookup through the dentry
//! cache (nothing else looks at this tree yet).
//!
//! Damage is survived: what was unpacked before it stays, and [`Report`] says what was wrong. Neighbours: `linnet_lib::cpio`
//! (the format), `node` (inodes). Locks: none; it runs before the first program.

use abi::errno::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::cpio::{self, Entry, Kind};
use linnet_lib::decompress::{Error, Source};
use linnet_lib::path;
use mm::io::SliceReader;
use security::{Kgid, Kuid};
use vfs::{AttributeChange, DeviceId, FileKind, Inode, NewContent, NewInode, Timestamp};

/// File contents move in pieces of this many bytes.
const PIECE: usize = 64 * 1024;

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Entries that were made.
    pub entries: usize,
    /// Bytes of file contents.
    pub bytes: u64,
    /// Entries that could not be made and why, for the log; the first few.
    pub problems: Vec<String>,
    /// What ended the unpacking before the archive's end.
    pub failure: Option<Error>,
}

impl Report {
    fn problem(&mut self, text: String) {
        const KEPT: usize = 8;
        if self.problems.len() < KEPT {
            self.problems.push(text);
        }
    }
}

/// Unpacks `archive` (any number of cpio archives, each plain, gzip or zstd) into the tmpfs whose root is `root`.
pub fn unpack(root: &Arc<Inode>, archive: &[u8]) -> Report {
    let mut unpacker = Unpacker { root: root.clone(), report: Report::default(), piece: Vec::new() };
    if unpacker.piece.try_reserve_exact(PIECE).is_err() {
        unpacker.report.failure = Some(Error::OutOfMemory);
        return unpacker.report;
    }
    unpacker.piece.resize(PIECE, 0);
    if let Err(error) = cpio::unpack(archive, &mut unpacker) {
        unpacker.report.failure = Some(error);
    }
    unpacker.report
}

struct Unpacker {
    root: Arc<Inode>,
    report: Report,
    piece: Vec<u8>,
}

impl cpio::Visitor for Unpacker {
    fn entry(&mut self, entry: &Entry, body: &mut dyn Source) -> core::result::Result<(), Error> {
        match self.make(entry) {
            Ok(Some(inode)) => {
                self.report.entries += 1;
                self.fill(&inode, entry, body)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                self.report.problem(format!("{}: {error:?}", entry.name.escape_ascii()));
                Ok(())
            }
        }
    }
}

impl Unpacker {
    /// The directory that `name` is in, and the last component; `None` for the root itself. Errors: `ENOENT`, `ENOTDIR`, `EINVAL`.
    fn parent<'n>(&self, name: &'n [u8]) -> Result<Option<(Arc<Inode>, &'n [u8])>> {
        let mut directory = self.root.clone();
        let mut last: Option<&[u8]> = None;
        for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            if part == b".." {
                return Err(Errno::EINVAL);
            }
            path::check_name(part)?;
            if let Some(previous) = last.replace(part) {
                directory = directory.operations().lookup(&directory, previous)?;
            }
        }
        Ok(last.map(|last| (directory, last)))
    }

    /// Makes the inode of an entry, or finds the file that it is another name of.
    fn make(&self, entry: &Entry) -> Result<Option<Arc<Inode>>> {
        let Some((directory, name)) = self.parent(&entry.name)? else {
            set_attributes(&self.root, entry)?;
            return Ok(None);
        };
        let operations = directory.operations();
        if let Kind::HardLink(earlier) = &entry.kind {
            let (other, other_name) = self.parent(earlier)?.ok_or(Errno::EINVAL)?;
            let target = other.operations().lookup(&other, other_name)?;
            operations.link(&directory, name, &target)?;
            return Ok(Some(target));
        }
        match operations.lookup(&directory, name) {
            Ok(old) if old.is_directory() && entry.kind == Kind::Directory => {
                set_attributes(&old, entry)?;
                return Ok(Some(old));
            }
            // A later entry replaces an earlier one, as Linux unpacks.
            Ok(old) if old.is_directory() => operations.rmdir(&directory, name, &old)?,
            Ok(old) => operations.unlink(&directory, name, &old)?,
            Err(_) => {}
        }
        let device = DeviceId::new(entry.rdev_major, entry.rdev_minor);
        let content = match &entry.kind {
            Kind::Regular | Kind::HardLink(_) => NewContent::Regular,
            Kind::Directory => NewContent::Directory,
            Kind::Symlink(text) => NewContent::Symlink(text),
            Kind::CharacterDevice => NewContent::Device(FileKind::CharDevice, device),
            Kind::BlockDevice => NewContent::Device(FileKind::BlockDevice, device),
            Kind::Fifo => NewContent::Fifo,
            Kind::Socket => NewContent::Socket,
        };
        let new = NewInode::new(content, entry.mode & 0o7777, Kuid(entry.uid), Kgid(entry.gid));
        let inode = operations.create(&directory, name, &new)?;
        Ok(Some(inode))
    }

    /// Writes the contents, then the time of last change.
    fn fill(
        &mut self,
        inode: &Arc<Inode>,
        entry: &Entry,
        body: &mut dyn Source,
    ) -> core::result::Result<(), Error> {
        let mut offset = 0;
        if let Some(cache) = inode.operations().page_cache() {
            if entry.size != 0 && cache.size() != 0 {
                cache.truncate(0).map_err(|_| Error::OutOfMemory)?;
            }
            loop {
                let count = body.read_full(&mut self.piece)?;
                let piece = self.piece.get(..count).unwrap_or_default();
                let written =
                    cache.write(offset, &mut SliceReader::new(piece)).map_err(|_| Error::OutOfMemory)?;
                offset += written as u64;
                if written < count {
                    return Err(Error::OutOfMemory);
                }
                if count < self.piece.len() {
                    break;
                }
            }
        }
        self.report.bytes += offset;
        set_times(inode, entry);
        Ok(())
    }
}

/// Applies an entry's attributes to a directory that was there already.
fn set_attributes(inode: &Arc<Inode>, entry: &Entry) -> Result<()> {
    let change = AttributeChange {
        mode: Some(entry.mode & 0o7777),
        uid: Some(Kuid(entry.uid)),
        gid: Some(Kgid(entry.gid)),
        ..AttributeChange::default()
    };
    inode.operations().set_attributes(inode, &change)?;
    set_times(inode, entry);
    Ok(())
}

fn set_times(inode: &Arc<Inode>, entry: &Entry) {
    let time = Timestamp { seconds: i64::from(entry.mtime), nanoseconds: 0 };
    inode.update_times(|times| (times.modified, times.accessed) = (time, time));
}
