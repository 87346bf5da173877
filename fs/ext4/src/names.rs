//! What changes names: making, linking, removing and renaming.
//!
//! Key functions: those that [`crate::node::Node`] calls, one for each call of the VFS. Each is one handle: all of it survives a cut, or
//! nothing. An inode that cannot be given its name after all, or has lost its last, is an orphan until it is removed.
//!
//! Locks: the VFS holds the directories' locks for writing. A handle is begun first; then maps, orphans, groups, buffers.

use crate::body::Body;
use crate::directory;
use crate::filesystem::FileSystem;
use crate::format::inode::{InodeRef, LINK_MAX, MAP_SIZE, flag};
use crate::format::{Incompatible, ReadOnlyCompatible};
use crate::inodes;
use crate::journal::Handle;
use crate::node::{Node, write_attributes};
use crate::truncate::raw_inode;
use crate::{acl, allocate, extents, orphans, symlink, xattrs};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use allocate::Wish;
use machine::sync::atomic::Ordering;
use vfs::{FileKind, Inode, NewContent, NewInode, Rename, Times};

/// The most blocks that making an inode with its first block changes, without its name.
const MAKE_CREDITS: u32 = allocate::CREDITS + extents::INSERT_CREDITS + orphans::CREDITS + 5;
/// The most blocks that making an inode changes.
fn make_credits(new: &NewInode<'_>) -> u32 {
    let lists = u32::from(new.access_list.is_some()) + u32::from(new.default_list.is_some());
    MAKE_CREDITS + lists * xattrs::CREDITS
}

/// The most blocks that a name that comes or goes changes, with the inodes that it concerns.
const NAME_CREDITS: u32 = directory::ADD_CREDITS + orphans::CREDITS + 4;

/// The node of an inode that the VFS found in this file system. Errors: `EXDEV`.
fn node_of(inode: &Inode) -> Result<&Node> {
    inode.private::<Node>().ok_or(Errno::EXDEV)
}

/// Does an operation once more if there was no room: what was freed comes back when the transaction commits that freed it. An operation takes
/// what room it needs before it changes anything else.
pub fn with_room<R>(fs: &FileSystem, mut operation: impl FnMut() -> Result<R>) -> Result<R> {
    match operation() {
        Err(Errno::ENOSPC) => {
            fs.journal()?.force_commit()?;
            operation()
        }
        // What is wrong on the disk was said where it was found; this may have stopped half-way.
        Err(error @ (Errno::EIO | Errno::ENOMEM)) => {
            Err(fs.complain(error, format_args!("a change of names or attributes failed")))
        }
        other => other,
    }
}

/// An inode that was made, and is not known to anybody yet.
struct Made {
    inode: Arc<Inode>,
    body: Arc<Body>,
}

impl Made {
    /// It is not wanted after all: without a name it is evicted when it is dropped.
    fn give_up(self, mut handle: Handle) {
        let (fs, number) = (&self.body.fs, self.body.number);
        self.inode.set_link_count(0);
        let noted = fs
            .change_inode(&mut handle, number, |raw| raw.set_links(0))
            .and_then(|()| fs.orphans.add(fs, &mut handle, number));
        if let Err(error) = noted {
            log::error!("ext4: inode {number} is lost until fsck: {}", error.name());
        }
        drop(handle);
    }
}

/// Makes an inode. Errors: `ENOSPC`, `ENAMETOOLONG`, `EIO`.
fn make(directory: &Arc<Inode>, handle: &mut Handle, new: &NewInode<'_>, links: u32) -> Result<Made> {
    let parent = node_of(directory)?.body();
    let fs = &parent.fs;
    let kind = new.content.kind();
    let is_directory = kind == FileKind::Directory;
    let at_top = parent.number == crate::format::inode::ROOT || parent.has_flags(flag::TOP_DIR);
    let wish = match is_directory {
        true if at_top => Wish::TopDirectory,
        true => Wish::Directory(parent.number),
        false => Wish::File(parent.number),
    };
    let number = fs.allot_inode(handle, wish)?;
    let filled = fill(fs, handle, parent, number, new, links).and_then(|()| {
        let raw = raw_inode(fs, number)?;
        let body = Body::new(fs, number, InodeRef(&raw))?;
        body.note_change(handle);
        if let NewContent::Symlink(text) = new.content {
            symlink::write(&body, handle, text)?;
        }
        let stored = acl::store_new(&body, handle, new).and_then(|()| {
            let raw = raw_inode(fs, number)?;
            inodes::make(directory.superblock(), &body, kind, InodeRef(&raw))
        });
        match stored {
            Ok(inode) => Ok(Made { inode, body }),
            Err(error) => {
                xattrs::release_block(&body, handle)?;
                Err(error)
            }
        }
    });
    match filled {
        Ok(made) => {
            fs.inodes.put(&made.inode, &made.body);
            Ok(made)
        }
        Err(error) => {
            fs.free_inode(handle, number, is_directory)?;
            Err(error)
        }
    }
}

/// Writes what a new inode is like.
fn fill(
    fs: &Arc<FileSystem>,
    handle: &mut Handle,
    parent: &Body,
    number: u32,
    new: &NewInode<'_>,
    links: u32,
) -> Result<()> {
    let kind = new.content.kind();
    let mut generation = [0; 4];
    machine::random::fill(&mut generation);
    let inherited = match kind {
        FileKind::Directory => flag::INHERITED,
        FileKind::Regular => flag::INHERITED & !flag::DIR_SYNC,
        _ => flag::NO_DUMP | flag::NO_ATIME,
    };
    let mut flags = parent.flags.load(Ordering::Relaxed) & inherited;
    let mut map = [0; MAP_SIZE];
    match new.content {
        NewContent::Regular | NewContent::Directory => {
            if fs.geometry.incompatible.contains(Incompatible::EXTENTS) {
                flags |= flag::EXTENTS;
                map = extents::empty_root();
            }
        }
        NewContent::Device(_, device) => inodes::store_device(device, &mut map),
        NewContent::Symlink(_) | NewContent::Fifo | NewContent::Socket => {}
    }
    let extra = if fs.geometry.inode_size > 128 { fs.geometry.want_extra_size.max(32) } else { 0 };
    fs.change_inode(handle, number, |raw| {
        raw.clear(u32::from_le_bytes(generation), extra.min(fs.geometry.inode_size.saturating_sub(128)))?;
        raw.set_mode(kind.mode_bits() | new.mode)?;
        raw.set_owner(new.uid.0, new.gid.0)?;
        raw.set_links(links)?;
        raw.set_flags(flags)?;
        raw.set_map(&map)?;
        raw.set_times(&Times::now())
    })
}

/// One directory more below `directory`. Errors: `EMLINK`.
fn check_links(directory: &Inode) -> Result<()> {
    let fs = &node_of(directory)?.body().fs;
    let many = fs.geometry.read_only_compatible.contains(ReadOnlyCompatible::DIR_NLINK);
    if directory.link_count() >= LINK_MAX && !many { Err(Errno::EMLINK) } else { Ok(()) }
}

/// A directory has a subdirectory more. From 65,000 on they are not counted: 1 says so.
fn add_directory_link(directory: &Inode) {
    match directory.link_count() {
        1 => {}
        count if count >= LINK_MAX => directory.set_link_count(1),
        _ => directory.add_link(),
    }
}

/// A directory has a subdirectory fewer.
fn drop_directory_link(directory: &Inode) {
    if directory.link_count() > 2 {
        directory.drop_link();
    }
}

/// The directory got or lost a name: its times and links are written.
fn directory_changed(handle: &mut Handle, directory: &Inode) -> Result<()> {
    directory.touch_modified();
    write_attributes(handle, directory)
}

/// Makes an inode with a name.
pub fn create(directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
    let fs = &node_of(directory)?.body().fs;
    if matches!(new.content, NewContent::Directory) {
        check_links(directory)?;
    }
    with_room(fs, || create_once(directory, name, new))
}

fn create_once(directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
    let parent = node_of(directory)?.body();
    let kind = new.content.kind();
    let is_directory = kind == FileKind::Directory;
    let mut handle = parent.fs.start(make_credits(new) + NAME_CREDITS)?;
    let made = make(directory, &mut handle, new, if is_directory { 2 } else { 1 })?;
    let number = made.body.number;
    let first = if is_directory {
        directory::create(&made.inode, &made.body, &mut handle, parent.number)
    } else {
        Ok(())
    };
    let named = first.and_then(|()| directory::add(directory, parent, &mut handle, name, number, kind));
    if let Err(error) = named {
        made.give_up(handle);
        return Err(error);
    }
    if is_directory {
        add_directory_link(directory);
    }
    directory_changed(&mut handle, directory)?;
    Ok(made.inode)
}

/// Makes a file without a name.
pub fn create_unnamed(directory: &Arc<Inode>, new: &NewInode<'_>) -> Result<Arc<Inode>> {
    let fs = &node_of(directory)?.body().fs;
    with_room(fs, || {
        let mut handle = fs.start(make_credits(new))?;
        let made = make(directory, &mut handle, new, 0)?;
        fs.orphans.add(fs, &mut handle, made.body.number)?;
        Ok(made.inode)
    })
}

/// Gives a file another name. Errors: `EMLINK`, `ENOSPC`.
pub fn link(directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
    let (parent, body) = (node_of(directory)?.body(), node_of(target)?.body());
    let fs = &parent.fs;
    if target.link_count() >= LINK_MAX {
        return Err(Errno::EMLINK);
    }
    with_room(fs, || {
        let mut handle = fs.start(NAME_CREDITS)?;
        directory::add(directory, parent, &mut handle, name, body.number, target.kind())?;
        if target.link_count() == 0 {
            fs.orphans.remove(fs, &mut handle, body.number)?;
            fs.change_inode(&mut handle, body.number, |raw| raw.set_deleted(0))?;
        }
        target.add_link();
        target.touch_changed();
        write_attributes(&mut handle, target)?;
        directory_changed(&mut handle, directory)
    })
}

/// A name is gone: the inode has a link fewer (a directory none any more), and is an orphan when that was the last.
fn lose_name(handle: &mut Handle, target: &Inode) -> Result<()> {
    let body = node_of(target)?.body();
    if target.is_directory() {
        target.set_link_count(0);
    } else {
        target.drop_link();
    }
    target.touch_changed();
    write_attributes(handle, target)?;
    if target.link_count() == 0 { body.fs.orphans.add(&body.fs, handle, body.number) } else { Ok(()) }
}

/// Removes a name.
pub fn unlink(directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
    let parent = node_of(directory)?.body();
    with_room(&parent.fs, || {
        let mut handle = parent.fs.start(NAME_CREDITS)?;
        directory::remove(directory, parent, &mut handle, name)?;
        lose_name(&mut handle, target)?;
        directory_changed(&mut handle, directory)
    })
}

/// Removes an empty directory. Errors: `ENOTEMPTY`.
pub fn rmdir(directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
    if !directory::is_empty(node_of(target)?.body())? {
        return Err(Errno::ENOTEMPTY);
    }
    let parent = node_of(directory)?.body();
    with_room(&parent.fs, || {
        let mut handle = parent.fs.start(NAME_CREDITS)?;
        directory::remove(directory, parent, &mut handle, name)?;
        drop_directory_link(directory);
        lose_name(&mut handle, target)?;
        directory_changed(&mut handle, directory)
    })
}

/// Moves a name, replacing what has the new one. Errors: `ENOTEMPTY`, `EMLINK`, `ENOSPC`.
pub fn rename(rename: &Rename<'_>) -> Result<()> {
    let fs = &node_of(rename.old_directory)?.body().fs;
    let moves_directory = rename.inode.is_directory() && !rename.old_directory.is_same(rename.new_directory);
    if let Some(target) = rename.target.filter(|target| target.is_directory())
        && !directory::is_empty(node_of(target)?.body())?
    {
        return Err(Errno::ENOTEMPTY);
    }
    if moves_directory && rename.target.is_none() {
        check_links(rename.new_directory)?;
    }
    with_room(fs, || rename_once(rename, moves_directory))?;
    write_soon(rename, fs);
    Ok(())
}

fn rename_once(rename: &Rename<'_>, moves_directory: bool) -> Result<()> {
    let (old, new) = (node_of(rename.old_directory)?.body(), node_of(rename.new_directory)?.body());
    let body = node_of(rename.inode)?.body();
    let (number, kind) = (body.number, rename.inode.kind());
    let moves = if moves_directory { 3 } else { 2 };
    let mut handle =
        old.fs.start(NAME_CREDITS + 3 * directory::REMOVE_CREDITS + 2 + moves * move_credits(&old.fs))?;
    directory::move_out(rename.old_directory, old, &mut handle)?;
    directory::move_out(rename.new_directory, new, &mut handle)?;
    if moves_directory {
        directory::move_out(rename.inode, body, &mut handle)?;
    }
    match rename.target {
        None => directory::add(rename.new_directory, new, &mut handle, rename.new_name, number, kind)?,
        Some(_) => directory::replace(rename.new_directory, new, &mut handle, rename.new_name, number, kind)?,
    }
    directory::remove(rename.old_directory, old, &mut handle, rename.old_name)?;
    if let Some(target) = rename.target {
        if target.is_directory() {
            drop_directory_link(rename.new_directory);
        }
        lose_name(&mut handle, target)?;
    }
    if moves_directory {
        directory::set_parent(rename.inode, body, &mut handle, new.number)?;
        drop_directory_link(rename.old_directory);
        add_directory_link(rename.new_directory);
    }
    finish(&mut handle, rename)
}

/// What a directory more needs that has its names in its inode and gets them out.
fn move_credits(fs: &FileSystem) -> u32 {
    if fs.geometry.incompatible.contains(Incompatible::INLINE_DATA) { directory::MOVE_CREDITS } else { 0 }
}

/// Swaps two names.
pub fn exchange(rename: &Rename<'_>, target: &Arc<Inode>) -> Result<()> {
    let fs = &node_of(rename.old_directory)?.body().fs;
    with_room(fs, || exchange_once(rename, target))
}

fn exchange_once(rename: &Rename<'_>, target: &Arc<Inode>) -> Result<()> {
    let (old, new) = (node_of(rename.old_directory)?.body(), node_of(rename.new_directory)?.body());
    let (body, other) = (node_of(rename.inode)?.body(), node_of(target)?.body());
    let apart = !rename.old_directory.is_same(rename.new_directory);
    // Two names and two parents, and the inodes of all four. No name is added.
    let mut handle = old.fs.start(4 * directory::REMOVE_CREDITS + 4 + 4 * move_credits(&old.fs))?;
    directory::move_out(rename.old_directory, old, &mut handle)?;
    directory::move_out(rename.new_directory, new, &mut handle)?;
    for inode in [rename.inode, target].into_iter().filter(|inode| apart && inode.is_directory()) {
        directory::move_out(inode, node_of(inode)?.body(), &mut handle)?;
    }
    let (kind, other_kind) = (rename.inode.kind(), target.kind());
    directory::replace(rename.old_directory, old, &mut handle, rename.old_name, other.number, other_kind)?;
    directory::replace(rename.new_directory, new, &mut handle, rename.new_name, body.number, kind)?;
    for (inode, parent) in [(rename.inode, new), (target, old)] {
        if apart && inode.is_directory() {
            directory::set_parent(inode, node_of(inode)?.body(), &mut handle, parent.number)?;
        }
    }
    match (rename.inode.is_directory(), target.is_directory()) {
        (true, false) if apart => {
            drop_directory_link(rename.old_directory);
            add_directory_link(rename.new_directory);
        }
        (false, true) if apart => {
            drop_directory_link(rename.new_directory);
            add_directory_link(rename.old_directory);
        }
        _ => {}
    }
    target.touch_changed();
    write_attributes(&mut handle, target)?;
    finish(&mut handle, rename)
}

/// Times of what was moved, and of both directories.
fn finish(handle: &mut Handle, rename: &Rename<'_>) -> Result<()> {
    rename.inode.touch_changed();
    write_attributes(handle, rename.inode)?;
    directory_changed(handle, rename.old_directory)?;
    if rename.old_directory.is_same(rename.new_directory) {
        return Ok(());
    }
    directory_changed(handle, rename.new_directory)
}

/// A file that replaces another is written without delay (`auto_da_alloc`): many programs do that instead of fsync.
fn write_soon(rename: &Rename<'_>, fs: &FileSystem) {
    let wanted = rename.target.is_some() && fs.options.read().write_replacements;
    if let Some(cache) = rename.inode.operations().page_cache().filter(|_| wanted) {
        // Nobody waits; what fails is told by fsync.
        let _ = cache.start_write_back(0..u64::MAX, mm::WriteBackMode::Background);
    }
}
