//! Path resolution: from text to a place (path_resolution(7)).
//!
//! Key types: [`Start`], [`LookupFlags`]; functions [`resolve`], [`resolve_parent`], [`status`]. Two walkers: `fast` takes
//! no lock and no reference on the way down (RCU), and gives up wherever it cannot be certain; `slow` holds references
//! and may sleep. Both must give the same answers. Neighbours: `open` and `directory` do what calls do at the end of
//! the way. Locks: `slow` takes a directory's lock for reading around a lookup in its file system.

mod fast;
mod slow;

use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use abi::fcntl::ResolveFlags;
use bitflags::bitflags;

use crate::context::LookupContext;
use crate::file::File;
use crate::path::Path;
use crate::types::{FileStatus, PATH_MAX};

pub(crate) use slow::{Walker, lookup_child, lookup_locked};

/// Symbolic links followed in one resolution before `ELOOP`.
pub const MAX_LINKS: u32 = 40;

/// Where a relative path starts. (An absolute one starts at the root whatever this says: then do not look up the
/// descriptor, it may be bad.)
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// `AT_FDCWD`.
    WorkingDirectory,
    /// An open directory (`dirfd`), or any open file for an empty path.
    File(&'a File),
    /// A place that the kernel knows.
    Path(&'a Path),
}

bitflags! {
    /// How to resolve.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LookupFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// An empty path is the start itself (`AT_EMPTY_PATH`).
        const EMPTY_PATH = 2;
        /// The result must be a directory (`ENOTDIR`).
        const DIRECTORY = 4;
        /// `RESOLVE_NO_XDEV`: crossing a mount is `EXDEV`.
        const NO_XDEV = 16;
        /// `RESOLVE_NO_MAGICLINKS`: a magic link is `ELOOP`.
        const NO_MAGICLINKS = 32;
        /// `RESOLVE_NO_SYMLINKS`: any symbolic link is `ELOOP`.
        const NO_SYMLINKS = 64;
        /// `RESOLVE_BENEATH`: leaving the start is `EXDEV`.
        const BENEATH = 128;
        /// `RESOLVE_IN_ROOT`: the start is the root.
        const IN_ROOT = 256;
        /// `RESOLVE_CACHED`: what needs more than the cache is `EAGAIN`.
        const CACHED = 512;
        /// Finding it is no use of the mount: one that expires goes on doing so (`MNT_EXPIRE`).
        const NO_USE = 1024;
    }
}

impl LookupFlags {
    const SCOPED: LookupFlags = LookupFlags::NO_XDEV
        .union(LookupFlags::NO_MAGICLINKS)
        .union(LookupFlags::NO_SYMLINKS)
        .union(LookupFlags::BENEATH)
        .union(LookupFlags::IN_ROOT);

    /// The flags of openat2(2)'s `resolve` field.
    pub fn from_resolve(resolve: ResolveFlags) -> LookupFlags {
        let pairs = [
            (ResolveFlags::NO_XDEV, LookupFlags::NO_XDEV),
            (ResolveFlags::NO_MAGICLINKS, LookupFlags::NO_MAGICLINKS),
            (ResolveFlags::NO_SYMLINKS, LookupFlags::NO_SYMLINKS),
            (ResolveFlags::BENEATH, LookupFlags::BENEATH),
            (ResolveFlags::IN_ROOT, LookupFlags::IN_ROOT),
            (ResolveFlags::CACHED, LookupFlags::CACHED),
        ];
        let chosen = pairs.iter().filter(|(from, _)| resolve.contains(*from));
        chosen.fold(LookupFlags::empty(), |flags, (_, to)| flags | *to)
    }
}

/// The last component of a path, in its parent directory.
pub struct Parent {
    /// The directory.
    pub directory: Path,
    /// The component; empty if the path was only slashes.
    pub name: Vec<u8>,
    /// Slashes came after it.
    pub trailing_slash: bool,
}

impl Parent {
    /// Whether the component is one that cannot be made or removed: `.`, `..` or the root.
    pub fn is_special(&self) -> bool {
        matches!(self.name.as_slice(), b"" | b"." | b"..")
    }
}

/// The place that `path` names. Errors: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, `EXDEV`, `EAGAIN`, and
/// those of file systems.
pub fn resolve(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    flags: LookupFlags,
) -> Result<Path> {
    check_length(path)?;
    let place = if path.is_empty() {
        resolve_empty(context, start, flags)?
    } else {
        resolve_text(context, start, path, flags)?
    };
    if !flags.contains(LookupFlags::NO_USE) {
        place.mount.note_use();
    }
    Ok(place)
}

fn resolve_text(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    flags: LookupFlags,
) -> Result<Path> {
    if !flags.intersects(LookupFlags::SCOPED) {
        let found = fast::walk(context, start, path, flags, |found| found.to_path());
        match found {
            Ok(Some(path)) => return Ok(path),
            Ok(None) | Err(fast::Stop::Uncertain) => {}
            Err(fast::Stop::Failed(errno)) => return Err(errno),
        }
    }
    if flags.contains(LookupFlags::CACHED) {
        return Err(Errno::EAGAIN);
    }
    Walker::new(context, start, flags)?.resolve(path)
}

fn resolve_empty(context: &LookupContext<'_>, start: Start<'_>, flags: LookupFlags) -> Result<Path> {
    if !flags.contains(LookupFlags::EMPTY_PATH) {
        return Err(Errno::ENOENT);
    }
    let place = match start {
        Start::File(file) => file.path().clone(),
        Start::Path(path) => path.clone(),
        Start::WorkingDirectory => {
            context.fs.state().map(|state| state.working_directory.clone()).ok_or(Errno::ENOENT)?
        }
    };
    if flags.contains(LookupFlags::DIRECTORY) && !place.inode()?.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    Ok(place)
}

/// The directory that the last component of `path` is in, and that component, which is not looked up.
/// Errors as [`resolve`]; `ENOENT` for an empty path.
pub fn resolve_parent(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    flags: LookupFlags,
) -> Result<Parent> {
    check_length(path)?;
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    // Split off the last component: the rest is an ordinary path to a directory.
    let trimmed = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count();
    if flags.contains(LookupFlags::CACHED) {
        // Making or removing a name may sleep.
        return Err(Errno::EAGAIN);
    }
    let Some(body) = path.get(..trimmed).filter(|body| !body.is_empty()) else {
        let directory = resolve(context, start, b"/", flags | LookupFlags::DIRECTORY)?;
        return Ok(Parent { directory, name: Vec::new(), trailing_slash: true });
    };
    let cut = body.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (front, name) = body.split_at(cut);
    let inner = flags | LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let directory = match front {
        b"" => resolve(context, start, b".", inner)?,
        _ => resolve(context, start, front, inner)?,
    };
    crate::permission::check(directory.inode()?, context.credentials, crate::types::AccessMask::EXECUTE)?;
    if name.len() > crate::types::NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(Parent { directory, name: name.to_vec(), trailing_slash: trimmed < path.len() })
}

/// stat(2): as [`resolve`] and [`Path::status`], but without taking a reference on anything where that can be done.
pub fn status(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    flags: LookupFlags,
) -> Result<FileStatus> {
    check_length(path)?;
    if !path.is_empty() && !flags.intersects(LookupFlags::SCOPED) {
        match fast::walk(context, start, path, flags, |found| found.status()) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(fast::Stop::Uncertain) => {}
            Err(fast::Stop::Failed(errno)) => return Err(errno),
        }
    }
    resolve(context, start, path, flags)?.status()
}

fn check_length(path: &[u8]) -> Result<()> {
    if path.len() >= PATH_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}
