//! open(2), openat(2), openat2(2), creat(2): from a path to an open file description.
//!
//! Key types: [`OpenRequest`]. Neighbours: `namei`, `directory` (creation), `chardev` and `fifo` (special files).
//! Locks: the directory's lock for writing while a file is made; none while drivers open.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use abi::fcntl::{AccessMode, OpenFlags, ResolveFlags};
use abi::inotify::IN_OPEN;

use crate::attributes;
use crate::context::LookupContext;
use crate::directory;
use crate::file::{File, FileOperations};
use crate::inode::{Inode, LinkTarget, NewContent};
use crate::namei::{self, LookupFlags, MAX_LINKS, Start};
use crate::path::Path;
use crate::permission;
use crate::types::{AccessMask, FileKind};

/// What open(2) asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRequest {
    /// `O_*`.
    pub flags: OpenFlags,
    /// Mode of a new file; the umask is applied here.
    pub mode: u32,
    /// `RESOLVE_*` of openat2(2).
    pub resolve: ResolveFlags,
}

/// Opens what `path` names, making it if asked. Errors: those of [`namei::resolve`], and `EEXIST`, `EISDIR`, `ENXIO`,
/// `EROFS`, `ETXTBSY`, `EPERM`, `EOPNOTSUPP`, `ENOSPC`, `EINVAL`.
pub fn open(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    request: &OpenRequest,
) -> Result<Arc<File>> {
    let flags = request.flags;
    let lookup = LookupFlags::from_resolve(request.resolve);
    if flags.contains(OpenFlags::PATH) {
        return open_place(context, start, path, flags, lookup);
    }
    if flags.contains(OpenFlags::TMPFILE) {
        return open_unnamed(context, start, path, request, lookup);
    }
    if flags.contains(OpenFlags::CREAT) {
        if flags.contains(OpenFlags::DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        return open_or_create(context, start, path, request, lookup);
    }
    let place = namei::resolve(context, start, path, lookup | end_flags(flags))?;
    finish(place, flags, context)
}

/// How `O_NOFOLLOW` and `O_DIRECTORY` treat the last component.
fn end_flags(flags: OpenFlags) -> LookupFlags {
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW));
    lookup.set(LookupFlags::DIRECTORY, flags.contains(OpenFlags::DIRECTORY));
    lookup
}

/// Opens a place that was resolved already: for the kernel's own use (exec with [`OpenFlags::EXEC`], `/proc` links).
/// Permissions are checked.
pub fn open_path(place: &Path, flags: OpenFlags, context: &LookupContext<'_>) -> Result<Arc<File>> {
    finish(place.clone(), flags, context)
}

fn open_place(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    flags: OpenFlags,
    lookup: LookupFlags,
) -> Result<Arc<File>> {
    let kept = flags & (OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC);
    let place = namei::resolve(context, start, path, lookup | end_flags(flags))?;
    crate::file::check_open_files(context.credentials)?;
    File::new_place(place, kept - OpenFlags::NOFOLLOW, context.credentials)
}

/// The rules for opening something that is there, and the opening itself.
fn finish(place: Path, flags: OpenFlags, context: &LookupContext<'_>) -> Result<Arc<File>> {
    let inode = place.inode()?.clone();
    check_kind(&inode, &place, flags)?;
    let credentials = context.credentials;
    permission::check_path(&place, credentials, mask_of(flags))?;
    check_flags(&inode, flags, credentials)?;
    open_checked(place, &inode, flags, context)
}

/// The part after the permission checks, which a file just made does not need.
fn open_checked(
    place: Path,
    inode: &Arc<Inode>,
    flags: OpenFlags,
    context: &LookupContext<'_>,
) -> Result<Arc<File>> {
    crate::file::check_open_files(context.credentials)?;
    let regular = inode.kind() == FileKind::Regular;
    let counted = regular && flags.writes();
    if counted {
        place.mount.begin_write()?;
        if let Err(errno) = inode.allow_write() {
            place.mount.end_write();
            return Err(errno);
        }
    }
    // From here on the description answers for both counts.
    let truncate = regular && flags.contains(OpenFlags::TRUNC);
    let mount = place.mount.clone();
    if truncate && !counted {
        mount.begin_write()?;
    }
    let file = File::open(place, flags, context.credentials);
    let file = file.and_then(|file| {
        crate::notify::at(file.path(), IN_OPEN);
        if truncate {
            attributes::truncate_open(&file, 0)?;
        }
        Ok(file)
    });
    if truncate && !counted {
        mount.end_write();
    }
    file
}

fn mask_of(flags: OpenFlags) -> AccessMask {
    if flags.contains(OpenFlags::EXEC) {
        return AccessMask::EXECUTE | AccessMask::OPEN;
    }
    let mut mask = match flags.access_mode() {
        AccessMode::Read => AccessMask::READ,
        AccessMode::Write => AccessMask::WRITE,
        AccessMode::ReadWrite | AccessMode::Neither => AccessMask::READ | AccessMask::WRITE,
    };
    mask.set(AccessMask::WRITE, flags.contains(OpenFlags::TRUNC) || mask.contains(AccessMask::WRITE));
    mask | AccessMask::OPEN
}

/// What can never be opened this way: `ELOOP`, `EISDIR`, `EACCES`, `ENXIO`.
fn check_kind(inode: &Inode, place: &Path, flags: OpenFlags) -> Result<()> {
    let writes = flags.access_mode() != AccessMode::Read || flags.contains(OpenFlags::TRUNC);
    match inode.kind() {
        FileKind::Symlink => Err(Errno::ELOOP),
        FileKind::Directory if flags.contains(OpenFlags::EXEC) => Err(Errno::EACCES),
        FileKind::Directory if writes || flags.contains(OpenFlags::CREAT) => Err(Errno::EISDIR),
        FileKind::CharDevice | FileKind::BlockDevice if place.mount.is_nodev() => Err(Errno::EACCES),
        FileKind::Regular if flags.contains(OpenFlags::EXEC) && place.mount.is_noexec() => Err(Errno::EACCES),
        FileKind::Regular | FileKind::Directory => Ok(()),
        _ if flags.contains(OpenFlags::EXEC) => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// `O_NOATIME` is for owners (`EPERM`); an append-only file is opened so or not written (`EPERM`).
fn check_flags(inode: &Inode, flags: OpenFlags, credentials: &security::Credentials) -> Result<()> {
    use crate::inode::state::APPEND_ONLY;
    if flags.contains(OpenFlags::NOATIME) && !permission::is_owner_or_capable(inode, credentials) {
        return Err(Errno::EPERM);
    }
    let overwrites = flags.writes() && !flags.contains(OpenFlags::APPEND) || flags.contains(OpenFlags::TRUNC);
    if overwrites && inode.has_state(APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// The operations of a description on this inode: drivers and FIFOs have their own. `ENXIO`: no driver, or a socket.
pub(crate) fn open_operations(inode: &Arc<Inode>, file: &File) -> Result<Option<Arc<dyn FileOperations>>> {
    match inode.kind() {
        FileKind::CharDevice | FileKind::BlockDevice => {
            let device = inode.special_device();
            crate::chardev::find(inode.kind(), device)?.open(device, file).map(Some)
        }
        FileKind::Fifo => crate::fifo::open(inode, file).map(Some),
        FileKind::Socket => Err(Errno::ENXIO),
        _ => inode.operations().open(inode, file),
    }
}

fn open_unnamed(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    request: &OpenRequest,
    lookup: LookupFlags,
) -> Result<Arc<File>> {
    if !request.flags.writes() {
        return Err(Errno::EINVAL);
    }
    let flags = lookup | LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let place = namei::resolve(context, start, path, flags)?;
    let dentry = directory::create_unnamed(context, &place, request.mode)?;
    let made = Path { mount: place.mount, dentry };
    let inode = made.inode()?.clone();
    let flags = request.flags - OpenFlags::TMPFILE;
    open_checked(made, &inode, flags, context)
}

/// `O_CREAT`: opens the file if it is there, else makes it. Links in the last component are followed by hand, because
/// what they lead to may have to be made.
fn open_or_create(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    request: &OpenRequest,
    lookup: LookupFlags,
) -> Result<Arc<File>> {
    let flags = request.flags;
    let exclusive = flags.contains(OpenFlags::EXCL);
    if path.last() == Some(&b'/') {
        // It would have to be a directory, which this cannot make.
        let found = namei::resolve(context, start, path, lookup | LookupFlags::FOLLOW);
        return Err(found.err().unwrap_or(if exclusive { Errno::EEXIST } else { Errno::EISDIR }))
            .map_err(|errno| if errno == Errno::ENOENT { Errno::EISDIR } else { errno });
    }
    let mut parent = namei::resolve_parent(context, start, path, lookup)?;
    for _ in 0..=MAX_LINKS {
        if parent.is_special() {
            return Err(if exclusive { Errno::EEXIST } else { Errno::EISDIR });
        }
        let place = match look_or_make(context, &parent.directory, &parent.name, request)? {
            Made::New(place) => {
                let inode = place.inode()?.clone();
                return open_checked(place, &inode, flags - OpenFlags::TRUNC, context);
            }
            Made::Old(place) => place,
        };
        let inode = place.inode()?.clone();
        if inode.kind() != FileKind::Symlink || flags.contains(OpenFlags::NOFOLLOW) {
            return finish(place, flags, context);
        }
        if lookup.contains(LookupFlags::NO_SYMLINKS) || place.mount.is_nosymfollow() {
            return Err(Errno::ELOOP);
        }
        match follow_end(context, &parent.directory, &inode, lookup)? {
            Followed::Parent(next) => parent = next,
            Followed::Place(place) => return finish(place, flags, context),
        }
    }
    Err(Errno::ELOOP)
}

enum Followed {
    Parent(namei::Parent),
    Place(Path),
}

fn follow_end(
    context: &LookupContext<'_>,
    directory: &Path,
    link: &Arc<Inode>,
    lookup: LookupFlags,
) -> Result<Followed> {
    let scope = LookupFlags::BENEATH | LookupFlags::IN_ROOT;
    match link.operations().follow_link(link)? {
        // The scope is that of the whole resolution, which this step does not know any more.
        _ if lookup.intersects(scope) => Err(Errno::EXDEV),
        LinkTarget::Place(_) if lookup.contains(LookupFlags::NO_MAGICLINKS) => Err(Errno::ELOOP),
        LinkTarget::Place(place) => Ok(Followed::Place(place)),
        LinkTarget::Text(text) if text.last() == Some(&b'/') => Err(Errno::EISDIR),
        LinkTarget::Text(text) => {
            namei::resolve_parent(context, Start::Path(directory), &text, lookup).map(Followed::Parent)
        }
    }
}

enum Made {
    New(Path),
    Old(Path),
}

/// Finds the name, or makes a regular file of that name; both under the directory's lock if it is not found at once.
fn look_or_make(
    context: &LookupContext<'_>,
    directory: &Path,
    name: &[u8],
    request: &OpenRequest,
) -> Result<Made> {
    let exclusive = request.flags.contains(OpenFlags::EXCL);
    let found = namei::lookup_child(&directory.dentry, name)?;
    let dentry = if found.inode().is_some() {
        found
    } else {
        let made = directory::make(context, directory, name, NewContent::Regular, request.mode)?;
        if made.is_new {
            return Ok(Made::New(Path { mount: directory.mount.clone(), dentry: made.dentry }));
        }
        made.dentry
    };
    if exclusive {
        return Err(Errno::EEXIST);
    }
    let mut place = Path { mount: directory.mount.clone(), dentry };
    while let Some(mount) = place.mount.child_at_arc(&place.dentry) {
        let dentry = mount.root().clone();
        place = Path { mount, dentry };
    }
    Ok(Made::Old(place))
}

/// The text of the symbolic link at `path`: readlink(2). `EINVAL`: not a link. An empty path is the start itself.
pub fn read_link(context: &LookupContext<'_>, start: Start<'_>, path: &[u8]) -> Result<Vec<u8>> {
    let place = namei::resolve(context, start, path, LookupFlags::EMPTY_PATH)?;
    let inode = place.inode()?;
    if inode.kind() != FileKind::Symlink {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    let text = inode.operations().read_link(inode)?;
    attributes::touch_accessed(&place);
    Ok(text)
}
