//! Telling of what happens to files: the hooks of this crate, and the watches on inodes that hear them (inotify(7)).
//!
//! Key types: [`Watch`] (one watcher on one inode), [`Watcher`] (who is told), [`WatchSet`] (watches by a number), [`Event`].
//! Neighbours: `directory`, `attributes`, `open`, `file` call the hooks; `ipc::inotify` is the watcher.
//!
//! A watch keeps its inode. It ends when its watcher takes it away, when the inode's last name and last open description are
//! gone, when the file system's last mount is gone, or at its first event if it was made for one only; whoever takes it out
//! of the inode's set is the one that ends it. A file system without watches costs its hooks one load.
//!
//! Locks: a spinlock for an inode's set and one for a superblock's, never both; watchers are called with neither. Hooks
//! are called with the locks of what happens (a directory's, an inode's) held, and may sleep.

use crate::inode::Inode;
use crate::path::Path;
use crate::superblock::SuperBlock;
use abi::errno::{Errno, Result};
use abi::inotify::{
    IN_ATTRIB, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_EXCL_UNLINK, IN_ISDIR, IN_MOVE_SELF, IN_MOVED_FROM,
    IN_MOVED_TO, IN_ONESHOT, IN_UNMOUNT,
};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicU32, Ordering};
use machine::sync::{Once, SpinLock};
use sched::tree::{Item, Node, Tree};

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What: one of the `IN_*`, with `IN_ISDIR` if it happened to a directory.
    pub mask: u32,
    /// The name, for the watches of the directory in which it happened.
    pub name: Option<&'a [u8]>,
    /// The same in both halves of a rename, else 0.
    pub cookie: u32,
    /// The name is gone (`IN_EXCL_UNLINK`).
    unlinked: bool,
}

/// Who is told.
pub trait Watcher: Send + Sync {
    /// An event that the watch asked for. May sleep.
    fn notice(&self, watch: &Watch, event: &Event<'_>);
    /// The watch ended without its watcher's doing. May sleep.
    fn ended(&self, watch: &Watch);
}

/// One watcher's watch on one inode.
pub struct Watch {
    inode: Arc<Inode>,
    watcher: Weak<dyn Watcher>,
    number: i32,
    mask: AtomicU32,
}

impl Watch {
    /// Begins to watch. The watcher has no watch on this inode yet. `number` is the watcher's own. Errors: `ENOMEM`.
    pub fn attach(
        inode: &Arc<Inode>,
        watcher: Weak<dyn Watcher>,
        number: i32,
        mask: u32,
    ) -> Result<Arc<Watch>> {
        let watch = try_arc(Watch { inode: inode.clone(), watcher, number, mask: AtomicU32::new(mask) })
            .map_err(|_| Errno::ENOMEM)?;
        inode.superblock().watches().insert(watch.address(), &watch)?;
        if let Err(error) = inode.watches().insert(watch.watcher_address(), &watch) {
            inode.superblock().watches().remove(watch.address());
            return Err(error);
        }
        Ok(watch)
    }

    /// Ends it. Whether it was there still, so that this call is the one that ended it.
    pub fn detach(&self) -> bool {
        let was_there = self.inode.watches().remove(self.watcher_address());
        if was_there {
            self.inode.superblock().watches().remove(self.address());
        }
        was_there
    }

    /// The inode watched.
    pub fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }

    /// The watcher's number for it.
    pub fn number(&self) -> i32 {
        self.number
    }

    /// The events asked for, with `IN_ONESHOT` and `IN_EXCL_UNLINK`.
    pub fn mask(&self) -> u32 {
        self.mask.load(Ordering::Relaxed)
    }

    /// Asks for other events.
    pub fn set_mask(&self, mask: u32) {
        self.mask.store(mask, Ordering::Relaxed);
        self.inode.watches().refresh(self.watcher_address());
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    fn watcher_address(&self) -> u64 {
        self.watcher.as_ptr().cast::<()>().addr() as u64
    }

    fn deliver(&self, event: &Event<'_>) {
        let mask = self.mask();
        let hidden = event.unlinked && event.name.is_some() && mask & IN_EXCL_UNLINK != 0;
        if mask & event.mask & !IN_ISDIR == 0 || hidden {
            return;
        }
        let last = mask & IN_ONESHOT != 0;
        if last && !self.detach() {
            return;
        }
        let Some(watcher) = self.watcher.upgrade() else { return };
        watcher.notice(self, event);
        if last {
            watcher.ended(self);
        }
    }

    /// Ends it for a reason of the file's, which is told first.
    fn end(&self, why: u32) {
        let Some(watcher) = self.watcher.upgrade() else { return };
        if self.detach() {
            if self.mask() & why != 0 {
                watcher.notice(self, &Event { mask: why, name: None, cookie: 0, unlinked: false });
            }
            watcher.ended(self);
        }
    }
}

struct Entry {
    key: u64,
    mask: u32,
    watch: Arc<Watch>,
}

impl Item for Entry {
    type Key = u64;
    /// Everything that anybody asks for.
    type Summary = u32;

    fn key(&self) -> u64 {
        self.key
    }

    fn summary(&self) -> u32 {
        self.mask
    }

    fn merge(left: u32, right: u32) -> u32 {
        left | right
    }
}

/// Watches by a number: O(log n).
pub struct WatchSet {
    entries: SpinLock<Tree<Entry>>,
    /// What any of them asks for, readable without the lock; 0 if there is none.
    mask: AtomicU32,
}

impl WatchSet {
    /// No watches.
    pub const fn new() -> WatchSet {
        WatchSet { entries: SpinLock::new(Tree::new()), mask: AtomicU32::new(0) }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Tree<Entry>) -> R) -> R {
        let mut entries = self.entries.lock();
        let result = change(&mut entries);
        self.mask.store(entries.summary().unwrap_or(0), Ordering::Release);
        result
    }

    /// Adds a watch under a number that is free. Errors: `ENOMEM`.
    pub fn insert(&self, key: u64, watch: &Arc<Watch>) -> Result<()> {
        let entry = Entry { key, mask: watch.mask(), watch: watch.clone() };
        let node = try_box(Node::new(entry)).map_err(|_| Errno::ENOMEM)?;
        self.change(|entries| entries.insert(node));
        Ok(())
    }

    /// Takes the watch of this number out; whether there was one.
    pub fn remove(&self, key: u64) -> bool {
        let removed = self.change(|entries| entries.remove(&key));
        removed.is_some()
    }

    /// The watch of this number.
    pub fn get(&self, key: u64) -> Option<Arc<Watch>> {
        self.entries.lock().get(&key).map(|entry| entry.watch.clone())
    }

    /// The first watch of this number or a higher one, with its number.
    pub fn next(&self, from: u64) -> Option<(u64, Arc<Watch>)> {
        self.entries.lock().first_from(&from).map(|entry| (entry.key, entry.watch.clone()))
    }

    /// The watch's mask has changed.
    fn refresh(&self, key: u64) {
        self.change(|entries| {
            if let Some(mut node) = entries.remove(&key) {
                node.mask = node.watch.mask();
                entries.insert(node);
            }
        });
    }

    /// What any of them asks for.
    #[inline]
    pub(crate) fn mask(&self) -> u32 {
        self.mask.load(Ordering::Acquire)
    }

    /// Every watch, one after the other; those that come or go meanwhile may be missed.
    fn each(&self, mut tell: impl FnMut(&Watch)) {
        let mut from = Some(0);
        while let Some((key, watch)) = from.and_then(|from| self.next(from)) {
            tell(&watch);
            from = key.checked_add(1);
        }
    }
}

impl Default for WatchSet {
    fn default() -> Self {
        Self::new()
    }
}

/// An inode's set, made at the first use.
#[derive(Default)]
pub(crate) struct LazyWatchSet(Once<Box<WatchSet>>);

impl LazyWatchSet {
    pub(crate) const fn new() -> LazyWatchSet {
        LazyWatchSet(Once::new())
    }

    pub(crate) fn get(&self) -> &WatchSet {
        self.0.get_or_init(Box::default)
    }

    fn if_any(&self) -> Option<&WatchSet> {
        self.0.get().map(|set| &**set)
    }
}

fn directory_bit(inode: &Inode) -> u32 {
    if inode.is_directory() { IN_ISDIR } else { 0 }
}

fn deliver(inode: &Inode, event: &Event<'_>) {
    let Some(watches) = inode.watches_if_any().if_any() else { return };
    if watches.mask() & event.mask & !IN_ISDIR != 0 {
        watches.each(|watch| watch.deliver(event));
    }
}

#[inline]
fn is_watched(inode: &Inode) -> bool {
    inode.superblock().watches().mask() != 0
}

/// Something happened to the file at this place: its directory's watches hear it with the name, then its own.
#[inline]
pub fn at(path: &Path, mask: u32) {
    if let Some(inode) = path.dentry.inode()
        && is_watched(inode)
    {
        tell_at(path, inode, mask);
    }
}

#[inline(never)]
fn tell_at(path: &Path, inode: &Inode, mask: u32) {
    let event = Event {
        mask: mask | directory_bit(inode),
        name: None,
        cookie: 0,
        unlinked: path.dentry.is_deleted(),
    };
    if let Some(place) = path.dentry.place_arc()
        && let Some(directory) = place.parent().and_then(|parent| parent.inode())
    {
        deliver(directory, &Event { name: Some(place.name()), ..event });
    }
    deliver(inode, &event);
}

/// Something happened to a file, whatever its name.
fn to(inode: &Inode, mask: u32) {
    if is_watched(inode) {
        // What happens to the file itself does not say that it is a directory (inotify(7) does not either).
        let mask = if mask == IN_MOVE_SELF { mask } else { mask | directory_bit(inode) };
        deliver(inode, &Event { mask, name: None, cookie: 0, unlinked: false });
    }
}

/// A name in a directory came or went.
fn entry(directory: &Inode, name: &[u8], mask: u32, cookie: u32) {
    deliver(directory, &Event { mask, name: Some(name), cookie, unlinked: false });
}

/// A name was made for a new file.
pub(crate) fn created(directory: &Inode, name: &[u8], made: &Inode) {
    if is_watched(directory) {
        entry(directory, name, IN_CREATE | directory_bit(made), 0);
    }
}

/// A file got one name more.
pub(crate) fn linked(directory: &Inode, name: &[u8], inode: &Inode) {
    to(inode, IN_ATTRIB);
    created(directory, name, inode);
}

/// A name was removed, and with it perhaps the file.
pub(crate) fn unlinked(directory: &Inode, name: &[u8], victim: &Inode) {
    if !is_watched(directory) {
        return;
    }
    if !victim.is_directory() {
        to(victim, IN_ATTRIB);
    }
    if victim.is_unused() {
        removed(victim);
    }
    entry(directory, name, IN_DELETE | directory_bit(victim), 0);
}

/// Joins the halves of a rename.
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);

/// A name became another one; `replaced` had that before.
pub(crate) fn moved(
    from: (&Inode, &[u8]),
    to_place: (&Inode, &[u8]),
    inode: &Inode,
    replaced: Option<&Inode>,
) {
    if !is_watched(inode) {
        return;
    }
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
    let directory = directory_bit(inode);
    entry(from.0, from.1, IN_MOVED_FROM | directory, cookie);
    entry(to_place.0, to_place.1, IN_MOVED_TO | directory, cookie);
    if let Some(replaced) = replaced {
        to(replaced, IN_ATTRIB);
    }
    to(inode, IN_MOVE_SELF);
}

/// Neither a name nor an open description of the file is left: its watches end.
pub(crate) fn removed(inode: &Inode) {
    if let Some(watches) = inode.watches_if_any().if_any() {
        watches.each(|watch| watch.end(IN_DELETE_SELF));
    }
}

/// The last mount of a file system is gone: all watches in it end.
pub(crate) fn unmounted(superblock: &SuperBlock) {
    superblock.watches().each(|watch| watch.end(IN_UNMOUNT));
}
