//! Listing directories.
//!
//! Key types: [`DirectorySink`] (takes entries), [`DirectoryEntry`]. Cookies: an entry's `next` is the position to go on
//! from after it; a file system keeps them stable while other entries come and go. 0 and 1 are `.` and `..`.

use abi::errno::{Errno, Result};
use abi::inotify::IN_ACCESS;
use machine::sync::Mutex;
use machine::sync::atomic::{AtomicU64, Ordering};

use crate::file::File;
use crate::inode::state;
use crate::types::FileKind;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Its inode's number.
    pub inode_number: u64,
    /// Its kind; `None` if the file system does not know (`DT_UNKNOWN`).
    pub kind: Option<FileKind>,
    /// The position after it.
    pub next: u64,
}

/// Whether a sink takes more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SinkState {
    /// The entry was taken.
    Taken,
    /// The entry was not taken: there is no room.
    Full,
}

/// Takes entries. Called with sleeping locks held at most; it may write to user memory.
pub trait DirectorySink {
    /// Takes an entry, or is full. An error ends the listing.
    fn add(&mut self, entry: &DirectoryEntry<'_>) -> Result<SinkState>;
}

/// Gives `.` and `..` to the sink if `position` is before them. Gives the position after, and whether there is room.
/// Real entries of directories that use this have positions from 2 on.
pub fn emit_dots(file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<(u64, SinkState)> {
    let mut position = position;
    if position == 0 {
        let own = file.inode()?.number();
        let entry =
            DirectoryEntry { name: b".", inode_number: own, kind: Some(FileKind::Directory), next: 1 };
        if sink.add(&entry)? == SinkState::Full {
            return Ok((0, SinkState::Full));
        }
        position = 1;
    }
    if position == 1 {
        let parent = file.path().dentry.parent();
        let own = file.inode()?.number();
        let number = parent.and_then(|parent| parent.inode().map(|inode| inode.number())).unwrap_or(own);
        let entry =
            DirectoryEntry { name: b"..", inode_number: number, kind: Some(FileKind::Directory), next: 2 };
        if sink.add(&entry)? == SinkState::Full {
            return Ok((1, SinkState::Full));
        }
        position = 2;
    }
    Ok((position, SinkState::Taken))
}

/// What getdents64(2) does on a description. `ENOTDIR`; `ENOENT`: the directory has been removed.
pub(crate) fn read_directory(
    file: &File,
    position_lock: &Mutex<()>,
    position: &AtomicU64,
    sink: &mut dyn DirectorySink,
) -> Result<()> {
    let inode = file.inode()?;
    if !inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let _position = position_lock.lock();
    if inode.has_state(state::DEAD) {
        return Err(Errno::ENOENT);
    }
    let next = file.operations().read_directory(file, sink, position.load(Ordering::Relaxed))?;
    position.store(next, Ordering::Relaxed);
    crate::attributes::touch_accessed(file.path());
    crate::notify::at(file.path(), IN_ACCESS);
    Ok(())
}
