//! The end of files and of file systems, where sleeping is allowed.
//!
//! The last reference to a file goes anywhere: in a callback of RCU, under the locks of an address space, in a shrinker. What follows, giving
//! blocks back, writing late times, shutting a file system down, sleeps and does I/O. So it is queued here. A program's thread works the queue off at
//! the end of its system call ([`sched::errand`]), so that the space is free when close(2) comes back; else the thread `reaper` does.
//!
//! Two things end an inode, each exactly once and in this order:
//! * **Eviction**, when its link count is zero and nobody [holds](crate::inode::Inode::hold) it: descriptions (`O_PATH` too), working and root
//!   directories, mounts of it. [`InodeOperations::evict`](crate::inode::InodeOperations::evict) gives the space back.
//! * **Its memory going**, which is the drop of the file system's node. For one that was not evicted,
//!   [`InodeOperations::forget`](crate::inode::InodeOperations::forget) comes first, or, if it has no name, the eviction.
//!
//! On file systems on a device ([`SuperBlock::is_on_device`]) names hand their inodes over to here, so that both come where sleeping is allowed. Whoever
//! holds counted inodes without a name, a file system for instance, drops them there too.
//!
//! A file system on a device is shut down when its last mount goes: its names leave the cache, what is still in memory is written, its inodes go, then
//! [`shut_down`](crate::superblock::SuperBlockOperations::shut_down) is called. umount(2) waits for it ([`wait_for_end`]).
//!
//! Key types: [`Link`] (room for the queue in what is queued, so that it needs no memory). Locks: the queues', leaves, usable in any context.

use alloc::sync::Arc;
use machine::preempt;
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, Once, WaitKind, WaitQueue, rcu};
use sched::errand::{self, Errand, ErrandId};

use abi::errno::Result;

use crate::inode::Inode;
use crate::superblock::SuperBlock;

/// Something that can be queued.
trait Linked: Sized {
    fn link(&self) -> &Link<Self>;
}

/// An element's part in the queue; changed under the queue's lock only.
pub(crate) struct Link<T>(IrqSpinLock<Place<T>>);

struct Place<T> {
    queued: bool,
    next: Option<Arc<T>>,
}

impl<T> Link<T> {
    pub(crate) const fn new() -> Link<T> {
        Link(IrqSpinLock::new(Place { queued: false, next: None }))
    }
}

impl Linked for Inode {
    fn link(&self) -> &Link<Inode> {
        self.reaping()
    }
}

impl Linked for SuperBlock {
    fn link(&self) -> &Link<SuperBlock> {
        self.retiring()
    }
}

/// First in, first out; each element at most once.
struct Queue<T> {
    first: Option<Arc<T>>,
    last: Option<Arc<T>>,
}

impl<T: Linked> Queue<T> {
    const fn new() -> Queue<T> {
        Queue { first: None, last: None }
    }

    /// Queues it, unless it is in a queue: then it is given back.
    fn push(&mut self, element: Arc<T>) -> core::result::Result<(), Arc<T>> {
        let queued = core::mem::replace(&mut element.link().0.lock().queued, true);
        if queued {
            return Err(element);
        }
        match self.last.take() {
            Some(last) => last.link().0.lock().next = Some(element.clone()),
            None => self.first = Some(element.clone()),
        }
        self.last = Some(element);
        Ok(())
    }

    fn pop(&mut self) -> Option<Arc<T>> {
        let first = self.first.take()?;
        let next = {
            let mut place = first.link().0.lock();
            place.queued = false;
            place.next.take()
        };
        if next.is_none() {
            self.last = None;
        }
        self.first = next;
        Some(first)
    }
}

/// Inodes whose turn comes when their file system is thawed.
pub(crate) struct Parked(IrqSpinLock<Queue<Inode>>);

impl Parked {
    pub(crate) const fn new() -> Parked {
        Parked(IrqSpinLock::new(Queue::new()))
    }

    fn put(&self, inode: Arc<Inode>) {
        let parked = self.0.lock().push(inode);
        // It may have been queued again meanwhile.
        drop(parked);
    }
}

/// A file system was thawed. Sleeps.
pub(crate) fn unpark(parked: &Parked) {
    loop {
        let next = parked.0.lock().pop();
        let Some(inode) = next else { return };
        consider(inode);
    }
}

static INODES: IrqSpinLock<Queue<Inode>> = IrqSpinLock::new(Queue::new());
static SUPERBLOCKS: IrqSpinLock<Queue<SuperBlock>> = IrqSpinLock::new(Queue::new());
/// How many inodes are queued.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// The thread sleeps here.
static QUEUED: WaitQueue = WaitQueue::new();
/// Woken when an inode or a file system is done.
static DONE: WaitQueue = WaitQueue::new();
static ERRAND: Once<ErrandId> = Once::new();

/// With more inodes queued than this, those who fill the cache of names take part in the work.
const CROWD: usize = 4096;
/// How many inodes one system call does at most.
const SHARE: usize = 256;

/// Starts the thread. Once, at boot; before that, and in tests without threads, who queues something does it if they may sleep. Errors: `ENOMEM`.
pub fn start() -> Result<()> {
    sched::spawn("reaper", sched::SpawnOptions::default(), || {
        loop {
            let some = || has_work().then_some(());
            let _ = QUEUED.wait_until(WaitKind::Uninterruptible, None, some);
            work(usize::MAX);
            shut_down_queued();
        }
    })?;
    if let Some(id) = errand::register(Errand { run: run_share, hand_back: || QUEUED.wake_all() }) {
        let _ = ERRAND.set(id);
    }
    Ok(())
}

fn has_work() -> bool {
    INODES.lock().first.is_some() || SUPERBLOCKS.lock().first.is_some()
}

fn shut_down_queued() {
    loop {
        // Not in the condition: the lock would be held over the body.
        let next = SUPERBLOCKS.lock().pop();
        let Some(superblock) = next else { return };
        shut_down(&superblock);
    }
}

/// The part of one system call.
fn run_share() {
    if work(SHARE) {
        QUEUED.wake_all();
    }
}

/// Works off at most so many inodes. Whether some are left.
fn work(most: usize) -> bool {
    for _ in 0..most {
        let next = INODES.lock().pop();
        let Some(inode) = next else { return false };
        WAITING.fetch_sub(1, Ordering::Relaxed);
        let superblock = inode.superblock().clone();
        match superblock.try_begin_change() {
            Ok(_change) => {
                inode.evict_if_unused();
                drop(inode);
            }
            Err(parked) => parked.put(inode),
        }
        if superblock.note_reaped() {
            DONE.wake_all();
        }
    }
    true
}

/// An inode may have lost its last user, or a reference goes where sleeping may not be allowed: it is evicted if it is unused, and the reference is
/// dropped. Any context.
pub(crate) fn consider(inode: Arc<Inode>) {
    {
        let mut queue = INODES.lock();
        // Before it can be popped.
        inode.superblock().note_reaping();
        if let Err(inode) = queue.push(inode) {
            if inode.superblock().note_reaped() {
                DONE.wake_all();
            }
            // Not the last reference: whoever takes it out of a queue has one, and locks this one before dropping it.
            drop(inode);
            return;
        }
        WAITING.fetch_add(1, Ordering::Relaxed);
    }
    match ERRAND.get() {
        Some(errand) if errand::take_on(*errand) => {}
        Some(_) => QUEUED.wake_all(),
        None if preempt::may_sleep() => drop(work(usize::MAX)),
        None => {}
    }
}

/// A reference goes that may be the last one. Any context.
pub(crate) fn let_go(inode: Arc<Inode>) {
    if inode.superblock().is_on_device() && !inode.is_evicted() {
        consider(inode);
    }
}

/// Called by those who fill the cache of names: they help if inodes go more slowly than names.
pub(crate) fn help_if_crowded() {
    if WAITING.load(Ordering::Relaxed) > CROWD
        && let Some(errand) = ERRAND.get()
    {
        errand::take_on(*errand);
    }
}

/// The last mount of a file system is gone. Any context.
pub(crate) fn retire(superblock: Arc<SuperBlock>) {
    let queued = SUPERBLOCKS.lock().push(superblock);
    debug_assert!(queued.is_ok(), "the last mount goes once");
    QUEUED.wake_all();
}

/// Shuts a file system down that is mounted nowhere.
fn shut_down(superblock: &Arc<SuperBlock>) {
    /// How often to wait in vain for what RCU still holds before the rest counts as lost.
    const PATIENCE: u32 = 20;
    // Whoever froze it cannot thaw it any more.
    let _ = superblock.thaw();
    crate::notify::unmounted(superblock);
    crate::dentry::drop_superblock(superblock);
    let (mut least, mut vain) = (usize::MAX, 0);
    while vain < PATIENCE {
        rcu::barrier();
        settle(superblock);
        let left = superblock.inodes();
        if left == 0 {
            break;
        }
        vain = if left < least { 0 } else { vain + 1 };
        least = least.min(left);
    }
    if superblock.inodes() > 0 {
        log::error!("VFS: {} inodes of {} busy after unmount", superblock.inodes(), superblock.type_name());
    }
    superblock.shut_down();
    DONE.wake_all();
}

/// Waits until nothing that was queued of a file system is left to be done. Sleeps.
pub(crate) fn settle(superblock: &SuperBlock) {
    work(usize::MAX);
    let _ = DONE.wait_until(WaitKind::Uninterruptible, None, || superblock.is_reaped().then_some(()));
}

/// Shuts a file system down whose last mount is gone, or waits until another has. Sleeps.
pub(crate) fn wait_for_end(superblock: &SuperBlock) {
    shut_down_queued();
    let _ = DONE.wait_until(WaitKind::Uninterruptible, None, || superblock.is_shut_down().then_some(()));
}
