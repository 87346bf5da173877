//! Places in the tree of mounts, and their text.
//!
//! Key types: [`Path`]. Neighbours: `dentry`, `mount`. No locks: text is built under RCU and retried on a rename.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use machine::sync::rcu;

use crate::dentry::{Dentry, RENAMES, flag};
use crate::inode::Inode;
use crate::mount::Mount;
use crate::types::FileStatus;

/// A dentry as seen through a mount. Paths that resolution gives out stand for something (the dentry has an inode).
#[derive(Clone)]
pub struct Path {
    /// The mount it was reached through.
    pub mount: Arc<Mount>,
    /// The name.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// What it stands for. `ENOENT`: nothing.
    #[inline]
    pub fn inode(&self) -> Result<&Arc<Inode>> {
        self.dentry.inode().ok_or(Errno::ENOENT)
    }

    /// Whether both are the same place.
    pub fn is_same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mount.root())
    }

    /// What stat(2) and statx(2) tell of it.
    pub fn status(&self) -> Result<FileStatus> {
        let mut status = self.inode()?.status()?;
        status.mount_id = self.mount.id();
        status.mount_root = self.is_mount_root();
        Ok(status)
    }

    /// The text of the path as seen from `root` (d_path): getcwd(2), `/proc/PID/fd`, maps. A removed name ends in
    /// ` (deleted)`; a place that is not below `root` is given from the top of its own tree ([`PathText::reachable`]).
    pub fn text(&self, root: &Path) -> Result<PathText> {
        self.build_text(Some(root))
    }

    /// The text from the top of its mount tree.
    pub fn text_from_top(&self) -> Result<PathText> {
        self.build_text(None)
    }

    fn build_text(&self, root: Option<&Path>) -> Result<PathText> {
        loop {
            let Some(sequence) = RENAMES.begin() else {
                core::hint::spin_loop();
                continue;
            };
            let text = self.try_text(root)?;
            if RENAMES.is_unchanged(sequence) {
                return Ok(text);
            }
        }
    }

    fn try_text(&self, root: Option<&Path>) -> Result<PathText> {
        // Built backwards: the names in reverse order, then turned round as a whole.
        let mut reversed: Vec<u8> = Vec::new();
        let guard = rcu::read_lock();
        let (mut mount, mut dentry) = (&*self.mount, &*self.dentry);
        // A file of nsfs that is bound somewhere has a path; elsewhere such files have only their text.
        let placed = dentry.is_same(mount.root()) && mount.attachment(&guard).is_some();
        if dentry.flags() & flag::ANONYMOUS != 0 && !placed {
            let name = dentry.place(&guard).map(|place| place.name()).unwrap_or_default();
            return Ok(PathText { bytes: try_copy(name)?, reachable: true });
        }
        if dentry.is_deleted() {
            push_reversed(&mut reversed, b" (deleted)")?;
        }
        let reachable = loop {
            if root.is_some_and(|root| root.dentry.is_same(dentry) && core::ptr::eq(&*root.mount, mount)) {
                break true;
            }
            if dentry.is_same(mount.root()) {
                match mount.attachment(&guard) {
                    Some(attachment) => (mount, dentry) = (attachment.parent(), attachment.mountpoint()),
                    None => break root.is_none(),
                }
                continue;
            }
            let Some(place) = dentry.place(&guard) else { break false };
            let Some(parent) = place.parent() else { break false };
            push_reversed(&mut reversed, place.name())?;
            push_reversed(&mut reversed, b"/")?;
            dentry = parent;
        };
        if reversed.is_empty() || reversed.last() != Some(&b'/') {
            push_reversed(&mut reversed, b"/")?;
        }
        reversed.reverse();
        Ok(PathText { bytes: reversed, reachable })
    }
}

/// The text of a path.
pub struct PathText {
    /// Its bytes, beginning with a slash (except for anonymous files).
    pub bytes: Vec<u8>,
    /// Whether it is below the root that was asked for; getcwd(2) puts `(unreachable)` before it if not.
    pub reachable: bool,
}

fn push_reversed(text: &mut Vec<u8>, part: &[u8]) -> Result<()> {
    text.try_reserve(part.len()).map_err(|_| Errno::ENOMEM)?;
    text.extend(part.iter().rev());
    Ok(())
}

fn try_copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
