//! What the VFS asks of an inode: looking names up, listing, reading.
//!
//! Key types: [`Node`], [`Content`]. Changes are not offered yet: the file system is mounted read-only. Locks: those of `body`.

use crate::body::Body;
use crate::format::acl::Acl;
use crate::{acl, directory, xattrs};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::PageCache;
use mm::io::IoWriter;
use security::Credentials;
use vfs::{
    AccessMask, DirectorySink, File, FileOperations, Inode, InodeOperations, SinkState, SyncKind, emit_dots,
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
    access: Option<Arc<Acl>>,
}

impl Node {
    /// The node of a body.
    pub fn new(body: Arc<Body>, content: Content, access: Option<Arc<Acl>>) -> Node {
        Node { body, content, access }
    }

    /// Where its blocks are.
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }
}

impl InodeOperations for Node {
    fn lookup(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let found = directory::find(&self.body, name)?.ok_or(Errno::ENOENT)?;
        let fs = &self.body.fs;
        fs.inodes.get(fs, directory.superblock(), found.number)
    }

    fn link_text(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Symlink(text) => Some(text),
            _ => None,
        }
    }

    fn refresh(&self, inode: &Inode) -> Result<()> {
        let sectors = self.body.map.read().sectors;
        inode.set_blocks(sectors + self.body.sectors_of(self.body.reserved.lock().count()));
        Ok(())
    }

    fn permission(&self, inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Option<Result<()>> {
        self.access.as_ref().map(|list| acl::permits(list, inode, credentials, mask))
    }

    fn file_operations(&self) -> &dyn FileOperations {
        match &self.content {
            Content::Directory => &DirectoryFile,
            Content::Regular(_) => &crate::regular::RegularFile,
            _ => &vfs::file::NoOperations,
        }
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

    fn sync(&self, _file: &File, _kind: SyncKind) -> Result<()> {
        Ok(())
    }
}
