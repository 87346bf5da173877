//! Freezing a file system (`FIFREEZE`): its device stays as it is, consistent, until it is thawed; who wants to change something waits.
//!
//! Key types: [`Freezer`] (of a file system on a device), [`Change`] (a call that changes something; lives as long as that call). Calls that change a file system
//! begin a change before they take any lock of it, one at a time: writes and changes of open files here, those by path with
//! [`Mount::begin_change`](crate::mount::Mount::begin_change). Descriptions that are open to be written are none. A store through a
//! mapping waits as well; access times are not noted meanwhile.
//!
//! Freezing stops new changes, waits for those that have begun, writes everything, and calls
//! [`SuperBlockOperations::freeze`](crate::superblock::SuperBlockOperations::freeze), which keeps back what the file system itself would still do.
//!
//! Changes are counted where they begin, for each CPU, so that they meet nowhere. Locks: [`Freezer`]'s (sleeping), outermost, for freezing and thawing.

use crate::reaper;
use crate::superblock::SuperBlock;
use abi::errno::{Errno, Result};
use machine::cpu::PerCpu;
use machine::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use machine::sync::{Mutex, WaitKind, WaitQueue};

/// See the head of this file.
pub(crate) struct Freezer {
    changes: PerCpu<AtomicI64>,
    frozen: AtomicBool,
    /// Those who wait for the last change, and those who wait for the thaw.
    queue: WaitQueue,
    one_at_a_time: Mutex<()>,
    /// Inodes that are to be evicted, or go from memory, when it is thawed.
    parked: reaper::Parked,
}

/// A change of a file system that is under way: it is not frozen meanwhile.
pub(crate) struct Change<'a>(Option<(&'a Freezer, &'a AtomicI64)>);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if let Some((freezer, count)) = self.0 {
            freezer.end(count);
        }
    }
}

impl Freezer {
    pub(crate) fn new() -> Freezer {
        Freezer {
            changes: PerCpu::new_with(|_| AtomicI64::new(0)),
            frozen: AtomicBool::new(false),
            queue: WaitQueue::new(),
            one_at_a_time: Mutex::new(()),
            parked: reaper::Parked::new(),
        }
    }

    fn end(&self, count: &AtomicI64) {
        count.fetch_sub(1, Ordering::SeqCst);
        if self.is_frozen() {
            self.queue.wake_all();
        }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    fn try_begin(&self) -> Option<&AtomicI64> {
        // Any CPU's would do; this one's is near.
        let count = self.changes.get_on(machine::cpu::current());
        count.fetch_add(1, Ordering::SeqCst);
        // Either this sees the flag, or who sets it sees the count.
        if self.is_frozen() {
            self.end(count);
            return None;
        }
        Some(count)
    }

    fn begin(&self) -> &AtomicI64 {
        loop {
            match self.try_begin() {
                Some(count) => return count,
                None => self.wait_for_thaw(),
            }
        }
    }

    fn wait_for_thaw(&self) {
        let _ = self.queue.wait_until(WaitKind::Uninterruptible, None, || (!self.is_frozen()).then_some(()));
    }

    fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
        self.queue.wake_all();
    }

    /// A count is given back where it was taken: those who come too late never hide one who was there before.
    fn has_changes(&self) -> bool {
        self.changes.iter().any(|(_, count)| count.load(Ordering::SeqCst) != 0)
    }
}

impl SuperBlock {
    /// Begins a change; waits while it is frozen. No lock of the file system is held, nor another change.
    pub(crate) fn begin_change(&self) -> Change<'_> {
        Change(self.freezer().map(|freezer| (freezer, freezer.begin())))
    }

    /// Begins a change that nobody waits for. `Err`: it is frozen, and this is where to put what is to be done.
    pub(crate) fn try_begin_change(&self) -> core::result::Result<Change<'_>, &reaper::Parked> {
        match self.freezer() {
            Some(freezer) => {
                freezer.try_begin().map(|count| Change(Some((freezer, count)))).ok_or(&freezer.parked)
            }
            None => Ok(Change(None)),
        }
    }

    /// Waits while it is frozen.
    pub(crate) fn wait_for_thaw(&self) {
        if let Some(freezer) = self.freezer().filter(|freezer| freezer.is_frozen()) {
            freezer.wait_for_thaw();
        }
    }

    /// Whether it is frozen, or just becoming so.
    pub fn is_frozen(&self) -> bool {
        self.freezer().is_some_and(Freezer::is_frozen)
    }

    /// Freezes it. Sleeps until all changes that have begun are done and written. Errors: `EOPNOTSUPP`; `EBUSY`: it is frozen; `EIO` and the like.
    pub fn freeze(&self) -> Result<()> {
        let freezer = self.freezer().filter(|_| self.operations().can_freeze()).ok_or(Errno::EOPNOTSUPP)?;
        let _one = freezer.one_at_a_time.lock();
        if freezer.frozen.swap(true, Ordering::SeqCst) {
            return Err(Errno::EBUSY);
        }
        let done = || (!freezer.has_changes()).then_some(());
        let _ = freezer.queue.wait_until(WaitKind::Uninterruptible, None, done);
        let read_only = self.is_read_only();
        let frozen =
            self.sync().and_then(|()| if read_only { Ok(()) } else { self.operations().freeze(self) });
        frozen.inspect_err(|_| freezer.thaw())
    }

    /// Thaws it. Errors: `EINVAL`: it is not frozen; `EIO` and the like: it stays so.
    pub fn thaw(&self) -> Result<()> {
        let freezer = self.freezer().ok_or(Errno::EINVAL)?;
        let _one = freezer.one_at_a_time.lock();
        if !freezer.is_frozen() {
            return Err(Errno::EINVAL);
        }
        if !self.is_read_only() {
            self.operations().thaw(self)?;
        }
        freezer.thaw();
        reaper::unpark(&freezer.parked);
        Ok(())
    }
}
