//! Mapping files: what `mm` needs to know of a regular file.
//!
//! Key types: [`FileMapping`]. Neighbours: `mm` keeps one for every mapping; it keeps the description open. No locks.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;

use abi::errno::{Errno, Result};
use mm::page_cache::{FileAccess, MappedFile, Sharing};
use mm::{PageCache, Protection};

use crate::file::{File, SyncKind};
use crate::inode::Inode;

/// A file with a page cache as `mm` sees it.
pub struct FileMapping {
    file: Arc<File>,
    cache: Arc<PageCache>,
}

impl FileMapping {
    /// The description that was mapped (`/proc/PID/map_files`, exec's own file).
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }
}

impl MappedFile for FileMapping {
    fn page_cache(&self) -> Arc<PageCache> {
        self.cache.clone()
    }

    fn access(&self) -> FileAccess {
        let flags = self.file.flags();
        let mut access = FileAccess::empty();
        access.set(FileAccess::READ, flags.reads());
        // A file sealed against writes can be mapped, but the mapping never becomes writable.
        let sealed =
            |inode: &Arc<Inode>| inode.operations().seals().is_some_and(|s| s.check_write().is_err());
        access.set(FileAccess::WRITE, flags.writes());
        access.set(FileAccess::UNSEALED, !self.file.inode().is_ok_and(sealed));
        access.set(FileAccess::EXEC, !self.file.path().mount.is_noexec());
        access
    }

    fn may_map(&self, protection: Protection, sharing: Sharing) -> Result<()> {
        self.file.operations().may_map(&self.file, protection, sharing)?;
        match self.file.inode()?.operations().seals() {
            Some(seals) if sharing == Sharing::Shared && protection.contains(Protection::WRITE) => {
                seals.check_write()
            }
            _ => Ok(()),
        }
    }

    fn begin_store(&self) {
        if let Ok(inode) = self.file.inode() {
            crate::attributes::touch_stored(inode);
        }
    }

    fn sync(&self, range: Range<u64>) -> Result<()> {
        self.file.sync_range(SyncKind::Data, range)
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let text = self.file.path().text_from_top().map_err(|_| fmt::Error)?;
        write_lossy(out, &text.bytes)
    }

    fn device(&self) -> (u32, u32) {
        let device = self.file.inode().map(|inode| inode.superblock().device()).unwrap_or_default();
        (device.major, device.minor)
    }

    fn inode_number(&self) -> u64 {
        self.file.inode().map_or(0, |inode| inode.number())
    }
}

/// Writes bytes as text, newlines as `\012` like the kernel's listings do.
fn write_lossy(out: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for (index, line) in chunk.valid().split('\n').enumerate() {
            if index > 0 {
                out.write_str("\\012")?;
            }
            out.write_str(line)?;
        }
        if !chunk.invalid().is_empty() {
            out.write_char(char::REPLACEMENT_CHARACTER)?;
        }
    }
    Ok(())
}

/// Maps the page cache of the inode of a description. `ENODEV`: it has none; `EACCES`: not open for reading.
pub fn map_page_cache(file: &Arc<File>) -> Result<Arc<dyn MappedFile>> {
    let cache = file.inode()?.operations().page_cache().ok_or(Errno::ENODEV)?.clone();
    Ok(map_cache(file, cache))
}

/// Maps a page cache that is not the inode's: that of the device which a node leads to.
pub fn map_cache(file: &Arc<File>, cache: Arc<PageCache>) -> Arc<dyn MappedFile> {
    crate::attributes::touch_accessed(file.path());
    Arc::new(FileMapping { file: file.clone(), cache })
}
