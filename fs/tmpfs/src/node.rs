//! The inodes of a tmpfs: what the VFS asks of directories, files, links and device nodes.
//!
//! Key type: [`Node`]. Neighbours: `directory` (entries), `instance` (limits), `mm::PageCache` (contents). Locks: the VFS holds
//! `Inode::lock` of a directory around every change of it; below that, `Node::entries` and `Node::xattrs` are leaves that
//! make the structures safe by themselves.

use crate::directory::Entries;
use crate::instance::{Charge, Usage};
use abi::errno::{Errno, Result};
use abi::fs::{FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NOATIME_FL, FS_NODUMP_FL};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::{Mutex, RwLock};
use mm::PageCache;
use vfs::{
    Acl, AclKind, AttributeChange, DeviceId, FileFlags, FileKind, FileOperations, Inode, InodeAttributes,
    InodeOperations, NewContent, NewInode, Rename, RenameMode, Seals, SuperBlock, Timestamp, XattrMode,
};

/// The most bytes that the extended attributes of one inode may take.
const XATTR_SPACE: usize = 64 * 1024;

/// What is particular to a kind of inode.
enum Content {
    Directory(RwLock<Entries<Arc<Inode>>>),
    Regular(Arc<PageCache>),
    Symlink(Box<[u8]>),
    /// Device nodes, FIFOs, sockets: nothing but the inode.
    Special,
}

/// A tmpfs inode.
pub struct Node {
    usage: Arc<Usage>,
    content: Content,
    xattrs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    seals: Seals,
    /// `FS_*_FL` (chattr).
    flags: AtomicU32,
    /// Whether it counts against the limit on inodes: until nobody can reach it any more, which is before it is freed.
    counted: AtomicBool,
}

impl Node {
    fn stop_counting(&self) {
        if self.counted.swap(false, Ordering::Relaxed) {
            self.usage.drop_inode();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop_counting();
    }
}

/// A new inode. Errors: `ENOSPC`, `ENOMEM`.
pub fn new_inode(superblock: &Arc<SuperBlock>, usage: &Arc<Usage>, new: &NewInode<'_>) -> Result<Arc<Inode>> {
    let number = usage.new_inode()?;
    let content = match new.content {
        NewContent::Directory => Content::Directory(RwLock::new(Entries::new())),
        NewContent::Regular => Content::Regular(PageCache::new(Arc::new(Charge(usage.clone())), 0)),
        NewContent::Symlink(text) => Content::Symlink(Box::from(text)),
        NewContent::Device(..) | NewContent::Fifo | NewContent::Socket => Content::Special,
    };
    let size = match &content {
        Content::Symlink(text) => text.len() as u64,
        Content::Directory(_) => directory_size(0),
        Content::Regular(_) | Content::Special => 0,
    };
    let special_device = match new.content {
        NewContent::Device(_, device) => device,
        _ => DeviceId::default(),
    };
    let attributes = InodeAttributes {
        uid: new.uid,
        gid: new.gid,
        size,
        special_device,
        ..InodeAttributes::new(number, new.content.kind(), new.mode)
    };
    let node = Node {
        usage: usage.clone(),
        content,
        xattrs: Mutex::new(BTreeMap::new()),
        seals: Seals::new(),
        flags: AtomicU32::new(0),
        counted: AtomicBool::new(true),
    };
    Ok(Arc::new(Inode::new(superblock, attributes, Box::new(node))))
}

/// The node of an inode that the VFS found in this file system.
fn node_of(inode: &Inode) -> Result<&Node> {
    inode.private::<Node>().ok_or(Errno::EXDEV)
}

impl Node {
    /// The entries. Errors: `ENOTDIR`.
    pub fn entries(&self) -> Result<&RwLock<Entries<Arc<Inode>>>> {
        match &self.content {
            Content::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Adds a name for `inode`; link counts and times are the caller's. Errors: `EEXIST`, `ENOTDIR`.
    fn add_entry(&self, name: &[u8], inode: Arc<Inode>) -> Result<()> {
        self.entries()?.write().insert(name, inode).map_err(|_| Errno::EEXIST)
    }
}

/// What tmpfs shows as the size of a directory: 20 bytes for each name, also for `.` and `..`.
fn directory_size(entries: usize) -> u64 {
    20 * (entries as u64 + 2)
}

/// The directory lost (or gained) a name: its times and size follow.
fn entry_changed(directory: &Inode, entries: usize) {
    directory.set_size(directory_size(entries));
    directory.touch_modified();
}

impl InodeOperations for Node {
    fn lookup(&self, _directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        self.entries()?.read().get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn create(&self, directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let inode = new_inode(directory.superblock(), &self.usage, new)?;
        self.add_entry(name, inode.clone())?;
        if inode.is_directory() {
            directory.add_link();
        }
        entry_changed(directory, self.entries()?.read().len());
        Ok(inode)
    }

    fn create_unnamed(&self, directory: &Arc<Inode>, new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let inode = new_inode(directory.superblock(), &self.usage, new)?;
        inode.set_link_count(0);
        Ok(inode)
    }

    fn link(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.add_entry(name, target.clone())?;
        target.add_link();
        target.touch_changed();
        entry_changed(directory, self.entries()?.read().len());
        Ok(())
    }

    fn unlink(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        let removed = self.entries()?.write().remove(name).ok_or(Errno::ENOENT)?;
        target.drop_link();
        target.touch_changed();
        entry_changed(directory, self.entries()?.read().len());
        drop(removed);
        Ok(())
    }

    fn rmdir(&self, directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        if !node_of(target)?.entries()?.read().is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        let removed = self.entries()?.write().remove(name).ok_or(Errno::ENOENT)?;
        target.set_link_count(0);
        target.touch_changed();
        directory.drop_link();
        entry_changed(directory, self.entries()?.read().len());
        drop(removed);
        Ok(())
    }

    fn rename(&self, rename: &Rename<'_>) -> Result<()> {
        match (rename.mode, rename.target) {
            (RenameMode::Exchange, Some(target)) => exchange(rename, target),
            (RenameMode::Exchange, None) => Err(Errno::ENOENT),
            (RenameMode::Replace, _) => replace(rename),
        }
    }

    fn link_text(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Symlink(text) => Some(text),
            _ => None,
        }
    }

    fn set_attributes(&self, inode: &Arc<Inode>, change: &AttributeChange) -> Result<()> {
        if let Some(size) = change.size {
            match &self.content {
                Content::Regular(cache) => {
                    self.seals.check_resize(cache.size(), size)?;
                    cache.truncate(size)?;
                }
                Content::Directory(_) => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        if let Some(permissions) = change.mode {
            self.seals.check_mode(inode.permissions(), permissions)?;
        }
        change.apply(inode);
        Ok(())
    }

    fn seals(&self) -> Option<&Seals> {
        matches!(self.content, Content::Regular(_)).then_some(&self.seals)
    }

    fn file_operations(&self) -> &dyn FileOperations {
        match &self.content {
            Content::Directory(_) => &crate::files::DirectoryFile,
            Content::Regular(_) => &crate::files::RegularFile,
            _ => &vfs::file::NoOperations,
        }
    }

    fn page_cache(&self) -> Option<&Arc<PageCache>> {
        match &self.content {
            Content::Regular(cache) => Some(cache),
            _ => None,
        }
    }

    fn evict(&self, _inode: &Inode) {
        if let Content::Regular(cache) = &self.content {
            // The pages would go with the inode; a mapping may still hold that for long. Truncating cannot fail when it
            // shrinks to nothing, and if it did the pages would go later.
            let _ = cache.truncate(0);
        }
        self.stop_counting();
    }

    fn get_xattr(&self, _inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        supported(name)?;
        self.xattrs.lock().get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, inode: &Inode, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        supported(name)?;
        let mut xattrs = self.xattrs.lock();
        match (mode, xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Errno::EEXIST),
            (XattrMode::Replace, false) => return Err(Errno::ENODATA),
            _ => {}
        }
        let others = xattrs.iter().filter(|(key, _)| key.as_slice() != name);
        let used: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if used + name.len() + value.len() > XATTR_SPACE {
            return Err(Errno::ENOSPC);
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        inode.touch_changed();
        Ok(())
    }

    fn remove_xattr(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        supported(name)?;
        self.xattrs.lock().remove(name).ok_or(Errno::ENODATA)?;
        inode.touch_changed();
        Ok(())
    }

    fn flags(&self, _inode: &Inode) -> Result<FileFlags> {
        match self.content {
            Content::Directory(_) | Content::Regular(_) => {
                Ok(FileFlags { flags: self.flags.load(Ordering::Relaxed), project: 0 })
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn set_flags(&self, inode: &Arc<Inode>, flags: FileFlags, _now: Timestamp) -> Result<()> {
        const CHANGEABLE: u32 = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL;
        if flags.flags & !CHANGEABLE != 0 || flags.project != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.flags.store(flags.flags, Ordering::Relaxed);
        inode.apply_flags(flags.flags);
        inode.touch_changed();
        Ok(())
    }

    /// There is nowhere else to store it than the inode, where the caller does.
    fn set_acl(
        &self,
        inode: &Arc<Inode>,
        _kind: AclKind,
        _acl: Option<&Arc<Acl>>,
        change: &AttributeChange,
    ) -> Result<()> {
        change.apply(inode);
        Ok(())
    }

    fn list_xattrs(&self, _inode: &Inode) -> Result<Vec<u8>> {
        let xattrs = self.xattrs.lock();
        Ok(xattrs.keys().flat_map(|name| name.iter().copied().chain([0])).collect())
    }
}

/// The name spaces of xattr(7) that a tmpfs keeps. Errors: `EOPNOTSUPP`.
fn supported(name: &[u8]) -> Result<()> {
    let kept = [&b"user."[..], b"trusted.", b"security."];
    if kept.iter().any(|prefix| name.starts_with(prefix)) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Moves a name, replacing what has the new one.
fn replace(rename: &Rename<'_>) -> Result<()> {
    let (old, new) = (node_of(rename.old_directory)?, node_of(rename.new_directory)?);
    let directory = rename.inode.kind() == FileKind::Directory;
    if let Some(target) = rename.target.filter(|target| target.is_directory())
        && !node_of(target)?.entries()?.read().is_empty()
    {
        return Err(Errno::ENOTEMPTY);
    }
    let moved = old.entries()?.write().remove(rename.old_name).ok_or(Errno::ENOENT)?;
    let replaced = new.entries()?.write().remove(rename.new_name);
    let inserted = new.entries()?.write().insert(rename.new_name, moved);
    debug_assert!(inserted.is_ok(), "the name was removed under the directory's lock");
    if let Some(target) = rename.target {
        if target.is_directory() {
            target.set_link_count(0);
            rename.new_directory.drop_link();
        } else {
            target.drop_link();
        }
        target.touch_changed();
    }
    if directory && !rename.old_directory.is_same(rename.new_directory) {
        rename.old_directory.drop_link();
        rename.new_directory.add_link();
    }
    finish(rename)?;
    drop(replaced);
    Ok(())
}

/// Swaps two names.
fn exchange(rename: &Rename<'_>, target: &Arc<Inode>) -> Result<()> {
    let (old, new) = (node_of(rename.old_directory)?, node_of(rename.new_directory)?);
    old.entries()?.write().replace(rename.old_name, target.clone()).ok_or(Errno::ENOENT)?;
    new.entries()?.write().replace(rename.new_name, rename.inode.clone()).ok_or(Errno::ENOENT)?;
    if !rename.old_directory.is_same(rename.new_directory) {
        match (rename.inode.is_directory(), target.is_directory()) {
            (true, false) => {
                rename.old_directory.drop_link();
                rename.new_directory.add_link();
            }
            (false, true) => {
                rename.new_directory.drop_link();
                rename.old_directory.add_link();
            }
            _ => {}
        }
    }
    target.touch_changed();
    finish(rename)
}

/// The times and sizes of both directories after a rename.
fn finish(rename: &Rename<'_>) -> Result<()> {
    rename.inode.touch_changed();
    for directory in [rename.old_directory, rename.new_directory] {
        entry_changed(directory, node_of(directory)?.entries()?.read().len());
    }
    Ok(())
}
