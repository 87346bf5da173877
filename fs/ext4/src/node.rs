//! What the VFS asks of an inode.
//!
//! Key types: [`Node`], [`Content`]. Neighbours: `names` (what changes directories), `regular` (contents), `xattrs`. Locks: those of `body`; for a change the VFS
//! holds the inode's lock.

use crate::body::Body;
use crate::journal::Handle;
use crate::{acl, control, directory, names, truncate, xattrs};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use mm::PageCache;
use mm::io::IoWriter;
use vfs::inode::{ExtentSink, FileFlags};
use vfs::{
    Acl, AclKind, AttributeChange, DirectorySink, File, FileOperations, Inode, InodeOperations, NewInode,
    Rename, RenameMode, SinkState, SyncKind, Timestamp, XattrMode, emit_dots,
};

/// What is particular to a kind of inode.
pub enum Content {
    /// Names.
    Directory,
    /// Pages.
    Regular(Arc<PageCache>),
    /// The text.
    Symlink(Box<[u8]>),
    /// Device nodes, FIFOs, sockets.
    Special,
}

/// An inode.
pub struct Node {
    body: Arc<Body>,
    content: Content,
}

impl Node {
    /// The node of a body.
    pub fn new(body: Arc<Body>, content: Content) -> Node {
        Node { body, content }
    }

    /// Where its blocks are.
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }
}

impl Node {
    fn change_xattr(&self, inode: &Inode, name: &[u8], value: Option<&[u8]>, mode: XattrMode) -> Result<()> {
        names::with_room(&self.body.fs, || {
            let mut handle = self.body.fs.start(xattrs::CREDITS + 1)?;
            xattrs::set(&self.body, &mut handle, name, value, mode)?;
            inode.touch_changed();
            write_attributes(&mut handle, inode)
        })?;
        self.refresh(inode)
    }
}

/// Writes what the VFS may have changed of an inode: mode, owner, links and times. Changes one block.
pub fn write_attributes(handle: &mut Handle, inode: &Inode) -> Result<()> {
    let node = inode.private::<Node>().ok_or(Errno::EXDEV)?;
    let body = node.body();
    // What is written here is not late any more.
    body.late_times.lock().take();
    let times = inode.times();
    body.fs.change_inode(handle, body.number, |raw| {
        raw.set_mode(inode.mode())?;
        raw.set_owner(inode.uid().0, inode.gid().0)?;
        raw.set_links(inode.link_count())?;
        raw.set_times(&times)
    })?;
    body.note_change(handle);
    Ok(())
}

impl InodeOperations for Node {
    fn lookup(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let found = directory::find(&self.body, name)?.ok_or(Errno::ENOENT)?;
        let fs = &self.body.fs;
        fs.inodes.get(fs, directory.superblock(), found.number)
    }

    fn create(&self, directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        names::create(directory, name, new)
    }

    fn create_unnamed(&self, directory: &Arc<Inode>, new: &NewInode<'_>) -> Result<Arc<Inode>> {
        names::create_unnamed(directory, new)
    }

    fn link(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        names::link(directory, name, target)
    }

    fn unlink(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        names::unlink(directory, name, target)
    }

    fn rmdir(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        names::rmdir(directory, name, target)
    }

    fn rename(&self, rename: &Rename<'_>) -> Result<()> {
        match (rename.mode, rename.target) {
            (RenameMode::Exchange, Some(target)) => names::exchange(rename, target),
            (RenameMode::Exchange, None) => Err(Errno::ENOENT),
            (RenameMode::Replace, _) => names::rename(rename),
        }
    }

    fn set_attributes(&self, inode: &Arc<Inode>, change: &AttributeChange) -> Result<()> {
        if let Some(size) = change.size {
            match &self.content {
                Content::Regular(_) => crate::regular::resize(self, inode, size)?,
                Content::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        let mut handle = self.body.fs.start(1)?;
        change.apply(inode);
        write_attributes(&mut handle, inode)
    }

    fn evict(&self, inode: &Inode) {
        if let Content::Regular(cache) = &self.content {
            // Truncating cannot fail when it shrinks to nothing.
            let _ = cache.truncate(0);
        }
        if let Err(error) = truncate::remove(&self.body, inode.kind()) {
            log::error!("ext4: inode {} stays an orphan: {}", self.body.number, error.name());
        }
    }

    fn set_xattr(&self, inode: &Inode, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.change_xattr(inode, name, Some(value), mode)
    }

    fn remove_xattr(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        self.change_xattr(inode, name, None, XattrMode::Replace)
    }

    fn set_acl(
        &self,
        inode: &Arc<Inode>,
        kind: AclKind,
        acl: Option<&Arc<Acl>>,
        change: &AttributeChange,
    ) -> Result<()> {
        names::with_room(&self.body.fs, || {
            let mut handle = self.body.fs.start(xattrs::CREDITS + 1)?;
            acl::store(&self.body, &mut handle, kind, acl)?;
            change.apply(inode);
            write_attributes(&mut handle, inode)
        })?;
        self.refresh(inode)
    }

    fn link_text(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Symlink(text) => Some(text),
            _ => None,
        }
    }

    fn refresh(&self, inode: &Inode) -> Result<()> {
        let sectors = self.body.map.read().sectors;
        let delayed = self.body.sectors_of(self.body.reserved.lock().count());
        // What is in the inode itself counts too, as on Linux.
        let inline = matches!(self.content, Content::Regular(_)) && self.body.is_inline();
        let within = if inline { inode.size().div_ceil(512) } else { 0 };
        inode.set_blocks(sectors + delayed + within);
        Ok(())
    }

    fn file_operations(&self) -> &dyn FileOperations {
        match &self.content {
            Content::Directory => &DirectoryFile,
            Content::Regular(_) => &crate::regular::RegularFile,
            _ => &vfs::file::NoOperations,
        }
    }

    fn extents(&self, inode: &Inode, range: Range<u64>, sink: &mut ExtentSink<'_>) -> Result<()> {
        if let Content::Regular(cache) = &self.content {
            // What has no place yet gets one, so that the map tells everything.
            cache.sync(0..u64::MAX)?;
        }
        control::extents(&self.body, inode.size(), range, sink)
    }

    fn block_of(&self, _inode: &Inode, block: u64) -> Result<u64> {
        if let Content::Regular(cache) = &self.content {
            cache.sync(0..u64::MAX)?;
        }
        control::block_of(&self.body, block)
    }

    fn flags(&self, _inode: &Inode) -> Result<FileFlags> {
        Ok(control::flags(&self.body))
    }

    fn set_flags(&self, inode: &Arc<Inode>, flags: FileFlags, now: Timestamp) -> Result<()> {
        control::set_flags(&self.body, inode, flags, now)
    }

    fn generation(&self) -> Result<u32> {
        Ok(self.body.generation)
    }

    fn times_changed(&self, inode: &Inode) {
        self.body.note_times(inode.times());
    }

    fn page_cache(&self) -> Option<&Arc<PageCache>> {
        match &self.content {
            Content::Regular(cache) => Some(cache),
            _ => None,
        }
    }

    fn get_xattr(&self, _inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        xattrs::get(&self.body, name)
    }

    fn list_xattrs(&self, _inode: &Inode) -> Result<Vec<u8>> {
        xattrs::list(&self.body)
    }
}

/// An open directory.
pub struct DirectoryFile;

impl FileOperations for DirectoryFile {
    fn read(&self, _file: &File, _to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn can_poll(&self) -> bool {
        false
    }

    fn read_directory(&self, file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
        let (position, state) = emit_dots(file, sink, position)?;
        if state == SinkState::Full {
            return Ok(position);
        }
        let inode = file.inode()?;
        let _stands = inode.lock.read();
        directory::list::list(inode.private::<Node>().ok_or(Errno::ENOTDIR)?.body(), sink, position)
    }

    fn sync(&self, file: &File, kind: SyncKind) -> Result<()> {
        file.inode()?.private::<Node>().ok_or(Errno::ENOTDIR)?.body().commit(kind)
    }
}
