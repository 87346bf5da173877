//! The inodes of a share: each call of the VFS becomes one or two of the protocol.
//!
//! Key types: [`Session`] (one mount), [`Node`] (one file). A file is known by what the server says it is (`qid`, the same for all of its names);
//! its fid is the one of the name that was looked up last, because some servers know files by their names only. Names are asked for each
//! time they are used, attributes each time they are told: what others change on the server is seen at once (Linux's `cache=none`).
//!
//! Locks: `Session::inodes`, `Node::fid` and `Node::created` are leaves; `Node::mapped` (sleeping) is held while a mapping is prepared.

use crate::client::{Client, Fid};
use crate::file::{OpenDirectory, OpenFile};
use crate::protocol::{Attributes, Qid, REMOVE_DIRECTORY};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::sync::{Mutex, SpinLock};
use mm::PageCache;
use security::{Kgid, Kuid};
use vfs::{
    AttributeChange, DeviceId, File, FileKind, FileOperations, Inode, InodeAttributes, InodeOperations,
    LinkTarget, NameCaching, NewContent, NewInode, Rename, RenameMode, SuperBlock, Timestamp, XattrMode,
};

/// Which file: the server's number, and the kind, which no file changes.
type Identity = (u64, u32);

fn identity(attributes: &Attributes) -> Identity {
    (attributes.qid.path, attributes.kind.mode_bits())
}

/// What is common to the files of one mount.
pub struct Session {
    /// The server.
    pub client: Arc<Client>,
    inodes: SpinLock<BTreeMap<Identity, Weak<Inode>>>,
}

impl Session {
    /// No files yet.
    pub fn new(client: Arc<Client>) -> Arc<Session> {
        Arc::new(Session { client, inodes: SpinLock::new(BTreeMap::new()) })
    }

    /// The inode of a file that was just found: the one there is, with these attributes, or a new one.
    pub fn inode(self: &Arc<Self>, superblock: &Arc<SuperBlock>, fid: Fid, found: &Attributes) -> Arc<Inode> {
        let fid = Arc::new(fid);
        if let Some(known) = self.known(found) {
            update(&known, &fid, found);
            return known;
        }
        let attributes = InodeAttributes {
            special_device: DeviceId::decode(found.device),
            // 0 means that there is no file.
            ..InodeAttributes::new(found.qid.path.max(1), found.kind, found.permissions)
        };
        let node = Node {
            session: self.clone(),
            identity: identity(found),
            fid: SpinLock::new(fid),
            created: SpinLock::new(None),
            version: SpinLock::new(found.qid),
            mapped: Mutex::new(None),
        };
        let inode = Arc::new(Inode::new(superblock, attributes, Box::new(node)));
        inode.set_state(vfs::inode::state::LIVE_ATTRIBUTES | vfs::inode::state::NO_ACCESS_TIME);
        apply(&inode, found);
        // Somebody may have been quicker; then there are two for a while, as for two names on Linux.
        self.inodes.lock().insert(identity(found), Arc::downgrade(&inode));
        inode
    }

    /// The inode of a file, if there is one and its last name has not been removed here: its number may be another file's already.
    fn known(&self, found: &Attributes) -> Option<Arc<Inode>> {
        let known = self.inodes.lock().get(&identity(found))?.upgrade()?;
        (known.link_count() > 0).then_some(known)
    }
}

/// One file.
pub struct Node {
    session: Arc<Session>,
    identity: Identity,
    fid: SpinLock<Arc<Fid>>,
    /// The open file that making it has given, until it is opened for the first time.
    created: SpinLock<Option<Fid>>,
    version: SpinLock<Qid>,
    /// What is mapped now.
    mapped: Mutex<Option<Mapped>>,
}

/// The pages of a mapped file, and which version of it they are of.
struct Mapped {
    version: (Qid, u64, Timestamp),
    cache: Weak<PageCache>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut inodes = self.session.inodes.lock();
        if inodes.get(&self.identity).is_some_and(|known| known.strong_count() == 0) {
            inodes.remove(&self.identity);
        }
    }
}

/// The node of an inode that the VFS found in this file system.
pub fn node_of(inode: &Inode) -> Result<&Node> {
    inode.private::<Node>().ok_or(Errno::EXDEV)
}

/// Takes over what the server says of a file.
fn apply(inode: &Inode, found: &Attributes) {
    inode.set_permissions(found.permissions);
    inode.set_owner(Kuid(found.uid), Kgid(found.gid));
    if inode.link_count() > 0 && inode.link_count() != found.link_count {
        // That the last name is gone only this side can tell: the inode would be given up.
        inode.set_link_count(found.link_count.max(1));
    }
    inode.set_size(found.size);
    inode.set_blocks(found.blocks);
    inode.update_times(|times| {
        (times.accessed, times.modified, times.changed) = (found.accessed, found.modified, found.changed);
    });
    if let Ok(node) = node_of(inode) {
        *node.version.lock() = found.qid;
    }
}

/// The same when it was found by a name.
fn update(inode: &Inode, fid: &Arc<Fid>, found: &Attributes) {
    if let Ok(node) = node_of(inode) {
        let before = core::mem::replace(&mut *node.fid.lock(), fid.clone());
        drop(before);
    }
    apply(inode, found);
}

impl Node {
    /// What the server knows the file by.
    pub fn fid(&self) -> Arc<Fid> {
        self.fid.lock().clone()
    }

    /// Finds a name in the directory, for `found`. Errors: `ENOENT`, the server's.
    fn find(&self, name: &[u8]) -> Result<(Fid, Attributes)> {
        let fid = self.fid().walk(Some(name))?;
        let attributes = fid.attributes()?;
        Ok((fid, attributes))
    }

    /// What has just been made, with the owner it is to have: to the server its maker is whoever mounted.
    fn made(&self, directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        const SET_ID: u32 = 0o6000;
        let (fid, mut attributes) = self.find(name)?;
        if attributes.uid != new.uid.0 {
            // A server that is not privileged cannot, and says so or not; then it is the server's, as it would be on Linux.
            let change = AttributeChange { uid: Some(new.uid), ..AttributeChange::default() };
            let _ = fid.set_attributes(&change);
            if new.mode & SET_ID != 0 && !matches!(new.content, NewContent::Symlink(_)) {
                let change = AttributeChange { mode: Some(new.mode), ..AttributeChange::default() };
                let _ = fid.set_attributes(&change);
            }
            attributes = fid.attributes()?;
        }
        Ok(self.session.inode(directory.superblock(), fid, &attributes))
    }

    /// What is to be opened: the file by a number of its own.
    fn open_fid(&self, flags: OpenFlags) -> Result<Fid> {
        let created = self.created.lock().take();
        let appends = flags.contains(OpenFlags::APPEND);
        if let Some(fid) = created.filter(|_| !appends) {
            return Ok(fid);
        }
        let fid = self.fid().walk(None)?;
        let passed = OpenFlags::APPEND | OpenFlags::DSYNC | OpenFlags::SYNC | OpenFlags::DIRECTORY;
        let flags = flags.bits() & abi::fcntl::O_ACCMODE | (flags & passed).bits();
        fid.open(flags | abi::fcntl::O_LARGEFILE)?;
        Ok(fid)
    }

    /// The pages to map: those that are mapped already, if the file is as it was then. `make` makes new ones. Sleeps.
    pub fn pages_to_map(
        &self,
        inode: &Inode,
        make: impl FnOnce(u64) -> Arc<PageCache>,
    ) -> Result<Arc<PageCache>> {
        let mut mapped = self.mapped.lock();
        self.refresh(inode)?;
        let version = (*self.version.lock(), inode.size(), inode.times().modified);
        let known = mapped.as_ref().filter(|mapped| mapped.version == version);
        if let Some(cache) = known.and_then(|mapped| mapped.cache.upgrade()) {
            return Ok(cache);
        }
        let cache = make(inode.size());
        *mapped = Some(Mapped { version, cache: Arc::downgrade(&cache) });
        Ok(cache)
    }

    /// The contents were changed from here: what is mapped next is read anew.
    pub fn contents_changed(&self) {
        *self.mapped.lock() = None;
    }
}

impl InodeOperations for Node {
    fn lookup(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let (fid, attributes) = self.find(name)?;
        Ok(self.session.inode(directory.superblock(), fid, &attributes))
    }

    fn name_caching(&self) -> NameCaching {
        NameCaching::Checked
    }

    fn still_valid(&self) -> bool {
        false
    }

    fn confirm_name(&self, _directory: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> bool {
        let (Ok(node), Ok((fid, found))) = (node_of(inode), self.find(name)) else { return false };
        let same = node.identity == identity(&found) && inode.link_count() > 0;
        if same {
            update(inode, &Arc::new(fid), &found);
        }
        same
    }

    fn create(&self, directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let NewContent::Regular = new.content else {
            self.fid().make(name, new)?;
            return self.made(directory, name, new);
        };
        let fid = self.fid().walk(None)?;
        let flags = abi::fcntl::O_RDWR | abi::fcntl::O_CREAT | abi::fcntl::O_EXCL | abi::fcntl::O_LARGEFILE;
        fid.create(name, flags, new.mode, new.gid.0)?;
        let inode = self.made(directory, name, new)?;
        // Its mode may forbid to open it another time.
        *node_of(&inode)?.created.lock() = Some(fid);
        Ok(inode)
    }

    fn link(&self, _directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.fid().link(&*node_of(target)?.fid(), name)?;
        target.add_link();
        Ok(())
    }

    fn unlink(&self, _directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.fid().unlink(name, 0)?;
        target.drop_link();
        Ok(())
    }

    fn rmdir(&self, _directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.fid().unlink(name, REMOVE_DIRECTORY)?;
        target.set_link_count(0);
        Ok(())
    }

    /// Errors: `EINVAL`: two names cannot be exchanged.
    fn rename(&self, rename: &Rename<'_>) -> Result<()> {
        if rename.mode == RenameMode::Exchange {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (node_of(rename.old_directory)?.fid(), node_of(rename.new_directory)?.fid());
        from.rename(rename.old_name, &to, rename.new_name)?;
        match rename.target {
            Some(target) if target.is_directory() => target.set_link_count(0),
            Some(target) => drop(target.drop_link()),
            None => {}
        }
        Ok(())
    }

    fn follow_link(&self, inode: &Arc<Inode>) -> Result<LinkTarget> {
        self.read_link(inode).map(LinkTarget::Text)
    }

    fn read_link(&self, inode: &Arc<Inode>) -> Result<Vec<u8>> {
        if inode.kind() == FileKind::Symlink { self.fid().read_link() } else { Err(Errno::EINVAL) }
    }

    /// Errors: the server's; of a file without a name none: what it was last is told.
    fn refresh(&self, inode: &Inode) -> Result<()> {
        match self.fid().attributes() {
            Ok(found) if identity(&found) == self.identity => apply(inode, &found),
            Err(error) if inode.link_count() > 0 => return Err(error),
            _ => {}
        }
        Ok(())
    }

    fn set_attributes(&self, inode: &Arc<Inode>, change: &AttributeChange) -> Result<()> {
        self.fid().set_attributes(change)?;
        change.apply(inode);
        if let Some(size) = change.size {
            inode.set_size(size);
            self.contents_changed();
        }
        Ok(())
    }

    fn open(&self, inode: &Arc<Inode>, file: &File) -> Result<Option<Arc<dyn FileOperations>>> {
        let fid = self.open_fid(file.flags())?;
        Ok(Some(match inode.kind() {
            FileKind::Directory => Arc::new(OpenDirectory::new(fid)),
            _ => Arc::new(OpenFile::new(fid)),
        }))
    }

    /// The server gives the space back when nobody there has it open any more either.
    fn evict(&self, inode: &Inode) {
        let created = self.created.lock().take();
        drop(created);
        let mut inodes = self.session.inodes.lock();
        if inodes.get(&self.identity).is_some_and(|known| known.as_ptr() == core::ptr::from_ref(inode)) {
            inodes.remove(&self.identity);
        }
    }

    fn get_xattr(&self, _inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        self.fid().xattr(name)
    }

    fn set_xattr(&self, _inode: &Inode, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.fid().set_xattr(name, value, mode)
    }

    /// The protocol has no message for that: an empty value is one.
    fn remove_xattr(&self, _inode: &Inode, name: &[u8]) -> Result<()> {
        self.fid().set_xattr(name, b"", XattrMode::Replace)
    }

    fn list_xattrs(&self, _inode: &Inode) -> Result<Vec<u8>> {
        let mut names = self.fid().xattr(b"")?;
        // The server's access control lists are its own matter.
        let kept = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"system.posix_acl_");
        let wanted: usize = names.split(|byte| *byte == 0).filter(kept).map(|name| name.len() + 1).sum();
        if wanted != names.len() {
            let mut left = Vec::new();
            left.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
            for name in names.split(|byte| *byte == 0).filter(kept) {
                left.extend_from_slice(name);
                left.push(0);
            }
            names = left;
        }
        Ok(names)
    }
}
