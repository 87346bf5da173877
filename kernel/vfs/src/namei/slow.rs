//! The certain way: a walk that holds references and may sleep in file systems.
//!
//! Key types: [`Walker`]. It does everything that `fast` leaves alone: names that are not cached, magic links, and the
//! scopes of openat2(2). Locks: a directory's lock for reading around a lookup in its file system; none between steps.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::errno::{Errno, Result};

use super::{LookupFlags, MAX_LINKS, Start};
use crate::context::LookupContext;
use crate::dentry::{self, Dentry, RENAMES, flag};
use crate::inode::{Inode, LinkTarget, NameCaching, state};
use crate::path::Path;
use crate::permission;
use crate::types::{AccessMask, FileKind, NAME_MAX};

/// A walk in progress.
pub(crate) struct Walker<'a> {
    context: &'a LookupContext<'a>,
    flags: LookupFlags,
    /// Where `/` is and `..` ends: the process's root, or the start in a scope.
    root: Path,
    at: Path,
    links: u32,
    /// [`RENAMES`] at the beginning of a scoped walk.
    renames: Option<u64>,
}

impl<'a> Walker<'a> {
    /// A walk from `start`.
    pub(crate) fn new(
        context: &'a LookupContext<'a>,
        start: Start<'_>,
        flags: LookupFlags,
    ) -> Result<Walker<'a>> {
        let state = context.fs.state().ok_or(Errno::ENOENT)?;
        let at = match start {
            Start::WorkingDirectory => state.working_directory.clone(),
            Start::File(file) => file.path().clone(),
            Start::Path(path) => path.clone(),
        };
        let scoped = flags.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT);
        let root = if scoped { at.clone() } else { state.root.clone() };
        let renames = if scoped { Some(RENAMES.begin().ok_or(Errno::EAGAIN)?) } else { None };
        Ok(Walker { context, flags, root, at, links: 0, renames })
    }

    /// Where it stands.
    pub(crate) fn into_path(self) -> Path {
        self.at
    }

    /// Resolves `path` to its end.
    pub(crate) fn resolve(mut self, path: &[u8]) -> Result<Path> {
        let needs_directory = self.walk(path)?;
        let directory = needs_directory || self.flags.contains(LookupFlags::DIRECTORY);
        if directory && !self.at.inode()?.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.into_path())
    }

    /// Goes back to the root for an absolute path. `EXDEV`: that leaves the scope.
    fn begin_text(&mut self, text: &[u8]) -> Result<()> {
        if text.first() != Some(&b'/') {
            return Ok(());
        }
        if self.flags.contains(LookupFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        if self.flags.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&self.at.mount, &self.root.mount) {
            return Err(Errno::EXDEV);
        }
        self.at = self.root.clone();
        Ok(())
    }

    /// Walks `path`; says whether it demands a directory.
    fn walk(&mut self, path: &[u8]) -> Result<bool> {
        self.begin_text(path)?;
        let mut texts: Vec<(Vec<u8>, usize)> = Vec::from([(path.to_vec(), 0)]);
        let mut needs_directory = false;
        while let Some((name, rest)) = next_component(&mut texts) {
            self.check_search()?;
            let last = texts.is_empty();
            needs_directory |= last && rest == Rest::Slashes;
            match name.as_slice() {
                b"." => {}
                b".." => self.up()?,
                _ => {
                    let parent = self.step(&name)?;
                    let follow = !last || needs_directory || self.flags.contains(LookupFlags::FOLLOW);
                    if self.at.inode()?.kind() == FileKind::Symlink
                        && follow
                        && let Some(text) = self.follow(parent)?
                    {
                        texts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                        texts.push((text, 0));
                    }
                }
            }
        }
        Ok(needs_directory)
    }

    /// The place must be a directory that may be searched.
    fn check_search(&self) -> Result<()> {
        let inode = self.at.inode()?;
        if !inode.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        permission::check(inode, self.context.credentials, AccessMask::EXECUTE)
    }

    /// Goes down to a child that exists, over what is mounted on it. Gives where it was.
    fn step(&mut self, name: &[u8]) -> Result<Path> {
        let child = lookup_child(&self.at.dentry, name)?;
        child.mark_referenced();
        if child.inode().is_none() {
            return Err(Errno::ENOENT);
        }
        let parent = self.at.clone();
        self.at.dentry = child;
        self.cross_mounts()?;
        Ok(parent)
    }

    fn cross_mounts(&mut self) -> Result<()> {
        while self.at.dentry.flags() & flag::MOUNTED != 0 {
            let Some(mount) = self.at.mount.child_at_arc(&self.at.dentry) else { break };
            if self.flags.contains(LookupFlags::NO_XDEV) {
                return Err(Errno::EXDEV);
            }
            let dentry = mount.root().clone();
            self.at = Path { mount, dentry };
        }
        Ok(())
    }

    /// `..`: up one directory, through mounts, not beyond the root.
    fn up(&mut self) -> Result<()> {
        loop {
            if self.at.is_same(&self.root) {
                if self.flags.contains(LookupFlags::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                return self.cross_mounts();
            }
            if !self.at.is_mount_root() {
                break;
            }
            let Some(place) = self.at.mount.attachment_path() else { return self.cross_mounts() };
            if self.flags.contains(LookupFlags::NO_XDEV) {
                return Err(Errno::EXDEV);
            }
            self.at = place;
        }
        self.at.dentry = self.at.dentry.parent().ok_or(Errno::ENOENT)?;
        // In a scope a rename might have carried the walk out of it: look again.
        if self.renames.is_some_and(|since| !RENAMES.is_unchanged(since)) {
            return Err(Errno::EAGAIN);
        }
        self.cross_mounts()
    }

    /// Follows the link that the walk stands on. Gives the text to go on with, having gone back to `parent`; `None` for
    /// a magic link, which has been taken.
    fn follow(&mut self, parent: Path) -> Result<Option<Vec<u8>>> {
        self.links += 1;
        let forbidden = self.flags.contains(LookupFlags::NO_SYMLINKS) || self.at.mount.is_nosymfollow();
        if self.links > MAX_LINKS || forbidden {
            return Err(Errno::ELOOP);
        }
        let inode = self.at.inode()?.clone();
        match inode.operations().follow_link(&inode)? {
            LinkTarget::Text(text) if text.is_empty() => Err(Errno::ENOENT),
            LinkTarget::Text(text) => {
                self.at = parent;
                self.begin_text(&text)?;
                Ok(Some(text))
            }
            LinkTarget::Place(place) => {
                self.check_magic(&place)?;
                self.at = place;
                Ok(None)
            }
        }
    }

    fn check_magic(&self, place: &Path) -> Result<()> {
        if self.flags.contains(LookupFlags::NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        let leaves_mount = !Arc::ptr_eq(&place.mount, &self.at.mount);
        let scoped = self.flags.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT);
        if scoped || self.flags.contains(LookupFlags::NO_XDEV) && leaves_mount {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }
}

/// What follows a component in its text.
#[derive(PartialEq, Eq)]
enum Rest {
    Nothing,
    Slashes,
    More,
}

/// Takes the next component off the innermost text. Texts that are used up are gone afterwards, so that an empty
/// list means "this was the last".
fn next_component(texts: &mut Vec<(Vec<u8>, usize)>) -> Option<(Vec<u8>, Rest)> {
    loop {
        let (text, at) = texts.last_mut()?;
        let rest = text.get(*at..).unwrap_or_default();
        let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
        let rest = rest.get(slashes..).unwrap_or_default();
        if rest.is_empty() {
            texts.pop();
            continue;
        }
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        let name = name.to_vec();
        *at += slashes + length;
        let kind = match after {
            [] => Rest::Nothing,
            _ if after.iter().all(|byte| *byte == b'/') => Rest::Slashes,
            _ => Rest::More,
        };
        if kind != Rest::More {
            texts.pop();
        }
        return Some((name, kind));
    }
}

/// The dentry of a name in a directory, positive or negative. `ENAMETOOLONG`; errors of the file system.
pub(crate) fn lookup_child(parent: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if let Some(dentry) = find_valid(parent, name) {
        return Ok(dentry);
    }
    let directory = parent.inode().ok_or(Errno::ENOENT)?;
    let _lock = directory.lock.read();
    lookup_locked(parent, directory, name)
}

/// The same; the directory's lock is held.
pub(crate) fn lookup_locked(
    parent: &Arc<Dentry>,
    directory: &Arc<Inode>,
    name: &[u8],
) -> Result<Arc<Dentry>> {
    if let Some(dentry) = find_valid(parent, name) {
        return Ok(dentry);
    }
    let dentry = Dentry::new_negative(parent, name);
    if directory.has_state(state::DEAD) {
        return Ok(dentry);
    }
    let caching = directory.operations().name_caching();
    match directory.operations().lookup(directory, name) {
        Ok(inode) => {
            if caching == NameCaching::Checked {
                dentry.set_flags(flag::CHECKED);
            }
            dentry.instantiate(inode);
            Ok(dentry::insert(dentry))
        }
        Err(Errno::ENOENT) if caching == NameCaching::Always => Ok(dentry::insert(dentry)),
        Err(Errno::ENOENT) => Ok(dentry),
        Err(errno) => Err(errno),
    }
}

/// The cached dentry, unless its file system says that the name no longer leads there.
fn find_valid(parent: &Arc<Dentry>, name: &[u8]) -> Option<Arc<Dentry>> {
    let dentry = dentry::find_certain(parent, name)?;
    let checked = dentry.flags() & flag::CHECKED != 0;
    if checked && !dentry.inode().is_some_and(|inode| is_still(parent, name, inode)) {
        dentry::unhash(&dentry);
        return None;
    }
    Some(dentry)
}

/// Whether a name that must be checked leads to this inode.
fn is_still(parent: &Dentry, name: &[u8], inode: &Arc<Inode>) -> bool {
    let confirm = |directory: &Arc<Inode>| directory.operations().confirm_name(directory, name, inode);
    inode.operations().still_valid() || parent.inode().is_some_and(confirm)
}
