//! Files in no directory: pipes, sockets, and the nameless ones of epoll, eventfd and their like.
//!
//! They live in kernel-internal file systems (`pipefs`, `sockfs`, `anon_inodefs`, `nsfs`) whose mounts are attached nowhere.
//! Locks: none; the mounts are made once.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::fs::{ANON_INODE_FS_MAGIC, NSFS_MAGIC, PIPEFS_MAGIC, SOCKFS_MAGIC};
use abi::mount::MountFlags;
use machine::sync::Once;
use machine::sync::atomic::{AtomicU64, Ordering};
use security::{Credentials, initial_namespace};

use crate::dentry::Dentry;
use crate::file::{File, FileOperations};
use crate::inode::{Inode, InodeAttributes, InodeOperations, NewContent, NewInode, state};
use crate::mount::Mount;
use crate::path::Path;
use crate::superblock::{SuperBlock, SuperBlockAttributes, SuperBlockOperations};
use crate::types::{FileKind, TimeLimits};

struct Plain;
impl SuperBlockOperations for Plain {}
impl InodeOperations for Plain {}

/// One internal file system: its mount, and the inode that all nameless files share.
struct Internal {
    mount: Arc<Mount>,
    inode: Arc<Inode>,
}

static NAMELESS: Once<Internal> = Once::new();
static PIPES: Once<Internal> = Once::new();
static SOCKETS: Once<Internal> = Once::new();
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(2);

fn make_internal(type_name: &'static str, magic: u32) -> Result<Internal> {
    let attributes = SuperBlockAttributes {
        type_name,
        magic,
        block_size: machine::PAGE_SIZE as u32,
        max_file_size: i64::MAX as u64,
        time_limits: TimeLimits::NONE,
        flags: MountFlags::empty(),
        device: None,
    };
    let superblock = SuperBlock::new(attributes, Box::new(Plain), initial_namespace().clone());
    let mut attributes = InodeAttributes::new(1, FileKind::Regular, 0o600);
    attributes.state = state::NO_ACCESS_TIME;
    let inode = Arc::new(Inode::new(&superblock, attributes, Box::new(Plain)));
    let root = superblock.root_dentry(&inode);
    let mount = Mount::new(root, type_name.as_bytes(), MountFlags::empty())?;
    Ok(Internal { mount, inode })
}

fn internal(cell: &'static Once<Internal>, type_name: &'static str, magic: u32) -> Result<&'static Internal> {
    if cell.get().is_none() {
        // Two may make one at the same time; the first counts.
        let _ = cell.set(make_internal(type_name, magic)?);
    }
    loop {
        if let Some(internal) = cell.get() {
            return Ok(internal);
        }
        core::hint::spin_loop();
    }
}

/// A nameless file, shown as `anon_inode:[name]`.
pub fn new_file(
    name: &str,
    operations: Arc<dyn FileOperations>,
    flags: OpenFlags,
    credentials: &Arc<Credentials>,
) -> Result<Arc<File>> {
    crate::file::check_open_files(credentials)?;
    let internal = internal(&NAMELESS, "anon_inodefs", ANON_INODE_FS_MAGIC)?;
    let text = format!("anon_inode:[{name}]");
    let dentry = Dentry::new_anonymous(internal.inode.clone(), text.as_bytes());
    let path = Path { mount: internal.mount.clone(), dentry };
    Ok(File::new(path, operations, flags, credentials))
}

fn new_numbered(internal: &Internal, kind: FileKind, mode: u32, prefix: &str, who: &Credentials) -> Path {
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut attributes = InodeAttributes::new(number, kind, mode);
    attributes.state = state::NO_ACCESS_TIME;
    (attributes.uid, attributes.gid) = (who.fsuid, who.fsgid);
    let inode = Arc::new(Inode::new(internal.mount.superblock(), attributes, Box::new(Plain)));
    let dentry = Dentry::new_anonymous(inode, format!("{prefix}:[{number}]").as_bytes());
    Path { mount: internal.mount.clone(), dentry }
}

/// The place of a new pipe, shown as `pipe:[N]`; both ends share it.
pub fn new_pipe_place(credentials: &Credentials) -> Result<Path> {
    crate::file::check_open_files(credentials)?;
    let internal = internal(&PIPES, "pipefs", PIPEFS_MAGIC)?;
    Ok(new_numbered(internal, FileKind::Fifo, 0o600, "pipe", credentials))
}

/// The place of a new socket, shown as `socket:[N]`.
pub fn new_socket_place(credentials: &Credentials) -> Result<Path> {
    crate::file::check_open_files(credentials)?;
    let internal = internal(&SOCKETS, "sockfs", SOCKFS_MAGIC)?;
    Ok(new_numbered(internal, FileKind::Socket, 0o777, "socket", credentials))
}

static NAMESPACES: Once<Internal> = Once::new();

/// A place in nsfs that stands for the namespace with this number, shown as `text` (namespaces(7)). Each call makes another
/// inode; those of one number are the same file to stat(2).
pub fn new_namespace_place(number: u64, text: &str, operations: Box<dyn InodeOperations>) -> Result<Path> {
    let internal = internal(&NAMESPACES, "nsfs", NSFS_MAGIC)?;
    let mut attributes = InodeAttributes::new(number, FileKind::Regular, 0o444);
    attributes.state = state::NO_ACCESS_TIME;
    let inode = Arc::new(Inode::new(internal.mount.superblock(), attributes, operations));
    let dentry = Dentry::new_anonymous(inode, text.as_bytes());
    Ok(Path { mount: internal.mount.clone(), dentry })
}

/// A nameless regular file (memfd) in the file system whose root is `root`, opened for reading and writing; shown as
/// `/memfd:NAME (deleted)`. `mount` keeps the file system's one internal mount. Errors: `ENOMEM`, `ENOSPC`.
pub fn new_memory_file(
    mount: &'static Once<Arc<Mount>>,
    root: impl FnOnce() -> Result<Arc<Inode>>,
    name: &[u8],
    credentials: &Arc<Credentials>,
) -> Result<Arc<File>> {
    crate::file::check_open_files(credentials)?;
    if mount.get().is_none() {
        let root = root()?;
        let made = Mount::new(root.superblock().root_dentry(&root), b"tmpfs", MountFlags::NOATIME)?;
        // Two may make one at the same time; the first counts.
        let _ = mount.set(made);
    }
    let mount = mount.get().ok_or(Errno::ENOMEM)?.clone();
    let root = mount.root().inode().ok_or(Errno::ENOENT)?.clone();
    let new = NewInode::new(NewContent::Regular, 0o777, credentials.fsuid, credentials.fsgid);
    let inode = root.operations().create_unnamed(&root, &new)?;
    let mut text = alloc::vec::Vec::new();
    text.try_reserve(name.len() + 17).map_err(|_| Errno::ENOMEM)?;
    for part in [b"/memfd:".as_slice(), name, b" (deleted)"] {
        text.extend_from_slice(part);
    }
    let path = Path { mount, dentry: Dentry::new_anonymous(inode, &text) };
    // The description counts as a writer from here on.
    path.mount.begin_write()?;
    path.inode()?.allow_write()?;
    File::open(path, OpenFlags::RDWR | OpenFlags::LARGEFILE, credentials)
}
