//! inotify(7): a descriptor from which one reads what happened to files.
//!
//! Key types: [`Inotify`] (the open file, told by `vfs::notify`), [`Adding`]. Events wait in a queue of at most
//! `max_queued_events`; what finds it full is lost, and one `IN_Q_OVERFLOW` says so. An event equal to the last one in the
//! queue is not added again. How many descriptors and watches a user has is counted per effective user id.
//!
//! Locks: `adding` (sleeping) makes additions one after the other; the queue's spinlock is a leaf.
//! Nothing else is needed to end a watch, so that this may happen under any lock of `vfs`.

use crate::user_limit::{UserLimit, share_of_memory};
use abi::errno::{Errno, Result};
use abi::inotify::{IN_ALL_EVENTS, IN_IGNORED, IN_Q_OVERFLOW, IN_UNMOUNT, InotifyEvent};
use abi::poll::PollEvents;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::memory::try_box;
use machine::sync::{Mutex, SpinLock, WaitKind, WaitQueue};
use mm::io::IoWriter;
use sched::tree::{Item, Node, Tree};
use vfs::notify::{Event, Watch, WatchSet, Watcher};
use vfs::{File, FileOperations, Inode, PollTable, Positioning};
use zerocopy::IntoBytes;

/// `FIONREAD`.
const FIONREAD: u32 = 0x541b;
/// Names are padded with NULs to a multiple of this.
const NAME_UNIT: usize = size_of::<InotifyEvent>();

/// Descriptors of one user.
pub static MAX_USER_INSTANCES: UserLimit = UserLimit::new(|| 128, Errno::EMFILE);
/// Watches of one user: by default what takes a hundredth of the memory with the inodes it keeps, as on Linux.
pub static MAX_USER_WATCHES: UserLimit =
    UserLimit::new(|| share_of_memory(1, 1024).clamp(8_192, 1_048_576), Errno::ENOSPC);

static QUEUE_LIMIT: AtomicUsize = AtomicUsize::new(16_384);

/// Events in one queue (`/proc/sys/fs/inotify/max_queued_events`).
pub fn max_queued_events() -> usize {
    QUEUE_LIMIT.load(Ordering::Relaxed)
}

/// Sets [`max_queued_events`]. Errors: `EINVAL` beyond an `int`, which it is on Linux.
pub fn set_max_queued_events(count: usize) -> Result<()> {
    i32::try_from(count).map_err(|_| Errno::EINVAL)?;
    QUEUE_LIMIT.store(count, Ordering::Relaxed);
    Ok(())
}

/// An event in the queue.
struct Queued {
    turn: u64,
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Queued {
    /// Bytes it takes in a read: the name with a NUL at least, padded.
    fn size(&self) -> usize {
        let name = if self.name.is_empty() { 0 } else { self.name.len() + 1 };
        size_of::<InotifyEvent>() + name.next_multiple_of(NAME_UNIT)
    }

    /// Whether another one would say nothing new.
    fn is_repeated_by(&self, watch: i32, mask: u32, name: &[u8]) -> bool {
        (self.watch, self.mask) == (watch, mask) && self.name == name && mask & IN_IGNORED == 0
    }

    fn write(&self, to: &mut dyn IoWriter) -> Result<usize> {
        let padded = self.size() - size_of::<InotifyEvent>();
        let head = InotifyEvent { wd: self.watch, mask: self.mask, cookie: self.cookie, len: padded as u32 };
        const ZEROS: [u8; NAME_UNIT] = [0; NAME_UNIT];
        let padding = ZEROS.get(..padded - self.name.len()).unwrap_or_default();
        for part in [head.as_bytes(), &self.name, padding] {
            if to.write_bytes(part)? < part.len() {
                return Err(Errno::EFAULT);
            }
        }
        Ok(self.size())
    }
}

impl Item for Queued {
    type Key = u64;
    type Summary = ();

    fn key(&self) -> u64 {
        self.turn
    }

    fn summary(&self) {}

    fn merge((): (), (): ()) {}
}

/// The events that wait, in the order of their turns.
struct Queue {
    events: Tree<Queued>,
    last_turn: u64,
    bytes: usize,
    /// The overflow's own node, when it is not in the queue.
    overflow: Option<Box<Node<Queued>>>,
}

impl Queue {
    fn new() -> Result<Queue> {
        let overflow = Queued { turn: 0, watch: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: Vec::new() };
        let overflow = try_box(Node::new(overflow)).map_err(|_| Errno::ENOMEM)?;
        Ok(Queue { events: Tree::new(), last_turn: 0, bytes: 0, overflow: Some(overflow) })
    }

    fn repeats(&self, watch: i32, mask: u32, name: &[u8]) -> bool {
        self.events.get(&self.last_turn).is_some_and(|last| last.is_repeated_by(watch, mask, name))
    }

    fn append(&mut self, mut node: Box<Node<Queued>>) {
        self.last_turn += 1;
        node.turn = self.last_turn;
        self.bytes += node.size();
        self.events.insert(node);
    }

    /// Adds an event, or the word that one was lost: no room, or no memory (`None`).
    fn add(&mut self, node: Option<Box<Node<Queued>>>) {
        match node.filter(|_| self.events.len() < max_queued_events()) {
            Some(node) => self.append(node),
            None => {
                if let Some(overflow) = self.overflow.take() {
                    self.append(overflow);
                }
            }
        }
    }

    /// Takes the first event out if it has at most `room` bytes. Errors: `EINVAL`: it has more.
    fn take(&mut self, room: usize) -> Result<Option<Box<Node<Queued>>>> {
        match self.events.first() {
            None => return Ok(None),
            Some(first) if first.size() > room => return Err(Errno::EINVAL),
            Some(_) => {}
        }
        let node = self.events.pop_first();
        self.bytes -= node.as_ref().map_or(0, |node| node.size());
        Ok(node)
    }

    /// What is done with a node that was read.
    fn give_back(&mut self, node: Box<Node<Queued>>) -> Option<Box<Node<Queued>>> {
        if node.mask & IN_Q_OVERFLOW == 0 {
            return Some(node);
        }
        self.overflow = Some(node);
        None
    }
}

/// What adding a watch does to one that is there (`IN_MASK_ADD`, `IN_MASK_CREATE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adding {
    /// Its events are replaced.
    Replace,
    /// More events.
    Extend,
    /// `EEXIST`.
    Create,
}

/// The operations of an inotify descriptor.
pub struct Inotify {
    this: Weak<Inotify>,
    user: u32,
    adding: Mutex<()>,
    next_number: AtomicUsize,
    by_number: WatchSet,
    by_inode: WatchSet,
    queue: SpinLock<Queue>,
    changed: Arc<WaitQueue>,
}

fn inode_key(inode: &Arc<Inode>) -> u64 {
    Arc::as_ptr(inode).addr() as u64
}

impl Inotify {
    /// One that watches nothing, of the user with this (kernel's) id. Errors: `EMFILE`, `ENOMEM`.
    pub fn new(user: u32) -> Result<Arc<Inotify>> {
        let queue = Queue::new()?;
        MAX_USER_INSTANCES.charge(user)?;
        Ok(Arc::new_cyclic(|this| Inotify {
            this: this.clone(),
            user,
            adding: Mutex::new(()),
            next_number: AtomicUsize::new(1),
            by_number: WatchSet::new(),
            by_inode: WatchSet::new(),
            queue: SpinLock::new(queue),
            changed: Arc::new(WaitQueue::new()),
        }))
    }

    /// Watches an inode for the events of `mask` (with `IN_ONESHOT`, `IN_EXCL_UNLINK`); gives the watch's number.
    /// Errors: `EEXIST`, `ENOSPC` (too many), `ENOMEM`.
    pub fn watch(&self, inode: &Arc<Inode>, mask: u32, adding: Adding) -> Result<i32> {
        let _adding = self.adding.lock();
        let mask = mask | IN_UNMOUNT;
        if let Some(watch) = self.by_inode.get(inode_key(inode)) {
            match adding {
                Adding::Create => return Err(Errno::EEXIST),
                Adding::Extend => watch.set_mask(watch.mask() | mask),
                Adding::Replace => watch.set_mask(mask),
            }
            return Ok(watch.number());
        }
        MAX_USER_WATCHES.charge(self.user)?;
        self.attach(inode, mask).inspect_err(|_| MAX_USER_WATCHES.give_back(self.user))
    }

    fn attach(&self, inode: &Arc<Inode>, mask: u32) -> Result<i32> {
        // Numbers go up, so that an old one is not taken for a new watch (inotify(7)); 2^31 of them wrap.
        let number = loop {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed) & i32::MAX as usize;
            if number != 0 && self.by_number.get(number as u64).is_none() {
                break number as i32;
            }
        };
        let watch = Watch::attach(inode, self.this.clone(), number, mask)?;
        let kept = self.by_number.insert(number as u64, &watch);
        let kept = kept.and_then(|()| self.by_inode.insert(inode_key(inode), &watch));
        if let Err(error) = kept {
            watch.detach();
            self.by_number.remove(number as u64);
            return Err(error);
        }
        Ok(number)
    }

    /// Ends the watch of this number. Errors: `EINVAL`: there is none.
    pub fn unwatch(&self, number: i32) -> Result<()> {
        let watch = self.by_number.get(u64::try_from(number).map_err(|_| Errno::EINVAL)?);
        let watch = watch.filter(|watch| watch.detach()).ok_or(Errno::EINVAL)?;
        self.ended(&watch);
        Ok(())
    }

    fn forget(&self, watch: &Watch) {
        if self.by_number.remove(watch.number() as u64) {
            self.by_inode.remove(inode_key(watch.inode()));
            MAX_USER_WATCHES.give_back(self.user);
        }
    }

    fn add(&self, watch: i32, mask: u32, cookie: u32, name: &[u8]) {
        if self.queue.lock().repeats(watch, mask, name) {
            return;
        }
        let mut copy = Vec::new();
        let node = copy.try_reserve_exact(name.len()).ok().and_then(|()| {
            copy.extend_from_slice(name);
            try_box(Node::new(Queued { turn: 0, watch, mask, cookie, name: copy })).ok()
        });
        self.queue.lock().add(node);
        self.changed.wake_with(1, PollEvents::READABLE.bits());
    }

    /// As many events as fit. `None` if there are none. Errors: `EINVAL`: the first one does not fit.
    fn read_events(&self, to: &mut dyn IoWriter) -> Result<Option<usize>> {
        let mut done = 0;
        loop {
            let taken = self.queue.lock().take(to.remaining());
            let node = match taken {
                Ok(Some(node)) => node,
                Err(error) if done == 0 => return Err(error),
                Ok(None) | Err(_) => return Ok((done > 0).then_some(done)),
            };
            let written = node.write(to);
            let rest = self.queue.lock().give_back(node);
            drop(rest);
            match written {
                Ok(count) => done += count,
                Err(error) => return if done > 0 { Ok(Some(done)) } else { Err(error) },
            }
        }
    }
}

impl Watcher for Inotify {
    fn notice(&self, watch: &Watch, event: &Event<'_>) {
        self.add(watch.number(), event.mask, event.cookie, event.name.unwrap_or_default());
    }

    fn ended(&self, watch: &Watch) {
        self.forget(watch);
        self.add(watch.number(), IN_IGNORED, 0, b"");
    }
}

impl FileOperations for Inotify {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        let mut attempt = || self.read_events(to).transpose();
        match attempt() {
            Some(result) => result,
            None if file.is_nonblocking() => Err(Errno::EAGAIN),
            None => self
                .changed
                .wait_until(WaitKind::Interruptible, None, attempt)
                .map_err(|_| Errno::ERESTARTSYS)?,
        }
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes = self.queue.lock().bytes as u32;
        machine::user::write_value(argument, &bytes).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.changed);
        if self.queue.lock().events.is_empty() { PollEvents::empty() } else { PollEvents::READABLE }
    }

    /// The last reference is gone: the watches, which hold their inodes, go.
    fn release(&self, _file: &File) {
        while let Some((_, watch)) = self.by_number.next(0) {
            watch.detach();
            self.forget(&watch);
        }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut from = 0;
        while let Some((number, watch)) = self.by_number.next(from) {
            from = number + 1;
            let inode = watch.inode();
            writeln!(
                out,
                "inotify wd:{number:x} ino:{:x} sdev:{:x} mask:{:x} ignored_mask:0",
                inode.number(),
                inode.superblock().device().encode(),
                watch.mask() & IN_ALL_EVENTS
            )?;
        }
        Ok(())
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        MAX_USER_INSTANCES.give_back(self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(watch: i32) -> Option<Box<Node<Queued>>> {
        Some(Box::new(Node::new(Queued { turn: 0, watch, mask: 2, cookie: 0, name: Vec::new() })))
    }

    #[test]
    fn a_full_queue_says_once_that_events_were_lost() {
        let mut queue = Queue::new().unwrap();
        for watch in 0..max_queued_events() as i32 + 5 {
            queue.add(node(watch));
        }
        assert_eq!(queue.events.len(), max_queued_events() + 1);
        assert_eq!(queue.bytes, 16 * queue.events.len());
        while let Some(taken) = queue.take(16).unwrap() {
            queue.give_back(taken);
        }
        assert_eq!((queue.bytes, queue.overflow.is_some()), (0, true));
        queue.add(None);
        assert_eq!(queue.events.first().map(|first| (first.watch, first.mask)), Some((-1, IN_Q_OVERFLOW)));
    }

    #[test]
    fn names_are_padded_and_have_a_nul() {
        let sizes = [(0, 16), (1, 32), (15, 32), (16, 48), (255, 16 + 256)];
        for (length, size) in sizes {
            let name = alloc::vec![b'x'; length];
            assert_eq!(Queued { turn: 0, watch: 1, mask: 0, cookie: 0, name }.size(), size);
        }
    }

    #[test]
    fn equal_events_are_told_once_unless_they_end_a_watch() {
        let last = Queued { turn: 0, watch: 1, mask: 2, cookie: 0, name: b"a".to_vec() };
        assert!(last.is_repeated_by(1, 2, b"a"));
        assert!(!last.is_repeated_by(1, 2, b"b") && !last.is_repeated_by(2, 2, b"a"));
        let ended = Queued { mask: IN_IGNORED, name: Vec::new(), ..last };
        assert!(!ended.is_repeated_by(1, IN_IGNORED, b""));
    }
}
