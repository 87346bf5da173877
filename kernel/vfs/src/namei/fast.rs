//! The quick way: a walk under RCU that takes no lock and no reference.
//!
//! Key types: [`Found`] (valid as long as the RCU section), [`Stop`]. Whatever is not certain from the dentry cache alone
//! ends the walk with [`Stop::Uncertain`], and the slow walker starts over. See the head of `dentry` for why a hit in
//! the cache can be trusted.

use arrayvec::ArrayVec;

use abi::errno::Errno;
use alloc::sync::Arc;
use machine::sync::{RcuGuard, rcu};

use super::{LookupFlags, MAX_LINKS, Start};
use crate::context::{FsState, LookupContext};
use crate::dentry::{self, Dentry, flag};
use crate::inode::{Inode, state};
use crate::mount::Mount;
use crate::path::Path;
use crate::permission;
use crate::types::{AccessMask, FileKind, FileStatus, NAME_MAX};

/// Why the quick way ended.
pub(super) enum Stop {
    /// The slow walker must decide.
    Uncertain,
    /// This is the answer.
    Failed(Errno),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Failed(errno)
    }
}

/// A place, as long as the RCU section lives.
#[derive(Clone, Copy)]
pub(super) struct Found<'g> {
    mount: &'g Mount,
    dentry: &'g Dentry,
    inode: &'g Arc<Inode>,
}

impl Found<'_> {
    /// The same place, counted; `None` if it is just going away.
    pub(super) fn to_path(self) -> Option<Path> {
        self.dentry.mark_referenced();
        let path = Path { mount: self.mount.to_arc()?, dentry: self.dentry.to_arc()? };
        (path.dentry.flags() & flag::EVICTED == 0).then_some(path)
    }

    /// What stat(2) tells; `None` if that needs more than the attributes in memory.
    pub(super) fn status(self) -> Option<FileStatus> {
        if self.inode.has_state(state::LIVE_ATTRIBUTES) {
            return None;
        }
        self.dentry.mark_referenced();
        self.mount.note_use();
        let mut status = self.inode.cached_status();
        status.mount_id = self.mount.id();
        status.mount_root = self.dentry.is_same(self.mount.root());
        Some(status)
    }
}

struct Walk<'g, 'p> {
    guard: &'g RcuGuard,
    context: &'p LookupContext<'p>,
    state: &'g FsState,
    at: Found<'g>,
    /// What is left of the paths around the symbolic link being followed.
    outer: ArrayVec<&'g [u8], { MAX_LINKS as usize }>,
    links: u32,
}

/// Walks `path` and applies `finish` to where it leads, in the RCU section.
pub(super) fn walk<R>(
    context: &LookupContext<'_>,
    start: Start<'_>,
    path: &[u8],
    flags: LookupFlags,
    finish: impl FnOnce(Found<'_>) -> R,
) -> Result<R, Stop> {
    let guard = rcu::read_lock();
    let state = context.fs.load(&guard).ok_or(Stop::Uncertain)?;
    let begin = match start {
        _ if path.first() == Some(&b'/') => &state.root,
        Start::WorkingDirectory => &state.working_directory,
        Start::File(file) => file.path(),
        Start::Path(path) => path,
    };
    let at = place(begin)?;
    let mut walk = Walk { guard: &guard, context, state, at, outer: ArrayVec::new(), links: 0 };
    let needs_directory = walk.run(path, flags)?;
    if (needs_directory || flags.contains(LookupFlags::DIRECTORY)) && !walk.at.inode.is_directory() {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(finish(walk.at))
}

fn place(path: &Path) -> Result<Found<'_>, Stop> {
    let inode = path.dentry.inode().ok_or(Stop::Uncertain)?;
    Ok(Found { mount: &path.mount, dentry: &path.dentry, inode })
}

impl<'g> Walk<'g, '_> {
    /// Walks to the end. Says whether the path demands a directory by a slash at its end.
    fn run<'s>(&mut self, path: &'s [u8], flags: LookupFlags) -> Result<bool, Stop>
    where
        'g: 's,
        's: 'g,
    {
        let mut rest = path;
        let mut needs_directory = false;
        loop {
            while let [b'/', after @ ..] = rest {
                rest = after;
            }
            if rest.is_empty() {
                match self.outer.pop() {
                    Some(outer) => rest = outer,
                    None => return Ok(needs_directory),
                }
                continue;
            }
            self.check_search()?;
            let (length, hash) = dentry::split_component(rest);
            let (name, mut after) = rest.split_at(length);
            rest = after;
            match name {
                b"." => continue,
                b".." => {
                    self.up()?;
                    continue;
                }
                _ if length > NAME_MAX => return Err(Errno::ENAMETOOLONG.into()),
                _ => {}
            }
            while let [b'/', further @ ..] = after {
                after = further;
            }
            let last = after.is_empty() && self.outer.is_empty();
            needs_directory |= last && !rest.is_empty();
            let parent = self.at;
            self.step(name, hash)?;
            if self.at.inode.kind() == FileKind::Symlink
                && (!last || needs_directory || flags.contains(LookupFlags::FOLLOW))
            {
                let text = self.begin_link(parent)?;
                if !after.is_empty() {
                    self.outer.try_push(after).map_err(|_| Errno::ELOOP)?;
                }
                rest = text;
            }
        }
    }

    #[inline]
    fn check_search(&self) -> Result<(), Stop> {
        let inode = self.at.inode;
        if !inode.is_directory() {
            return Err(Errno::ENOTDIR.into());
        }
        if !permission::may_search_quickly(inode) {
            permission::check(inode, self.context.credentials, AccessMask::EXECUTE)?;
        }
        Ok(())
    }

    /// Goes down to a child, over what is mounted on it.
    #[inline]
    fn step(&mut self, name: &[u8], hash: u64) -> Result<(), Stop> {
        let child = dentry::find(self.guard, self.at.dentry, hash, name).ok_or(Stop::Uncertain)?;
        let flags = child.flags();
        if flags & flag::SPECIAL != 0 {
            self.check_special(child, flags)?;
        }
        let Some(inode) = child.inode() else {
            child.mark_referenced();
            return Err(Errno::ENOENT.into());
        };
        self.at = Found { mount: self.at.mount, dentry: child, inode };
        if flags & flag::MOUNTED != 0 {
            self.cross_mounts()?;
        }
        Ok(())
    }

    #[cold]
    fn check_special(&self, child: &Dentry, flags: u32) -> Result<(), Stop> {
        if flags & (flag::CANDIDATE | flag::EVICTED) != 0 && !child.rescue() {
            return Err(Stop::Uncertain);
        }
        let valid = || child.inode().is_some_and(|inode| inode.operations().still_valid());
        if flags & flag::CHECKED != 0 && !valid() {
            return Err(Stop::Uncertain);
        }
        Ok(())
    }

    fn cross_mounts(&mut self) -> Result<(), Stop> {
        while let Some(mount) = self.at.mount.child_at(self.guard, self.at.dentry) {
            let inode = mount.root().inode().ok_or(Stop::Uncertain)?;
            self.at = Found { mount, dentry: mount.root(), inode };
        }
        Ok(())
    }

    /// `..`: up one directory, through mounts, not beyond the root.
    fn up(&mut self) -> Result<(), Stop> {
        let root = &self.state.root;
        loop {
            if self.at.dentry.is_same(&root.dentry) && core::ptr::eq(self.at.mount, &*root.mount) {
                return self.cross_mounts();
            }
            if !self.at.dentry.is_same(self.at.mount.root()) {
                break;
            }
            let Some(attachment) = self.at.mount.attachment(self.guard) else { return self.cross_mounts() };
            let dentry = attachment.mountpoint();
            let inode = dentry.inode().ok_or(Stop::Uncertain)?;
            self.at = Found { mount: attachment.parent(), dentry, inode };
        }
        let parent = self.at.dentry.place(self.guard).and_then(|place| place.parent());
        let dentry = parent.ok_or(Stop::Uncertain)?;
        let inode = dentry.inode().ok_or(Stop::Uncertain)?;
        self.at = Found { mount: self.at.mount, dentry, inode };
        self.cross_mounts()
    }

    /// The text of the link that the walk stands on; the walk goes back to where the text starts.
    fn begin_link(&mut self, parent: Found<'g>) -> Result<&'g [u8], Stop> {
        self.links += 1;
        if self.links > MAX_LINKS || self.at.mount.is_nosymfollow() {
            return Err(Errno::ELOOP.into());
        }
        let inode = self.at.inode;
        let text = inode.operations().link_text().filter(|text| !text.is_empty()).ok_or(Stop::Uncertain)?;
        self.at = if text.first() == Some(&b'/') { place(&self.state.root)? } else { parent };
        Ok(text)
    }
}
