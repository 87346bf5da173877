//! File locks: flock(2), and the POSIX and open-file-description locks of fcntl(2). All are advisory.
//!
//! Key types: [`LockContext`] (the locks of one inode), [`Owner`]. A POSIX lock belongs to a process (its descriptor table) and
//! goes when that closes any descriptor of the file; the others belong to the open file description.
//!
//! Locks: one spinlock for each inode's lists; waiters sleep on its queue and look again. Who waits for whom is noted in one
//! table with a spinlock of its own, taken after the former, so that a circle of processes is found (`EDEADLK`).

use crate::file::{File, SeekFrom};
use crate::inode::Inode;
use abi::errno::{Errno, Result};
use abi::fcntl::{F_RDLCK, F_UNLCK, F_WRLCK, Flock, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::{SpinLock, WaitKind, WaitQueue};

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// A process, by its descriptor table; its number is for `F_GETLK`.
    Process {
        /// [`crate::DescriptorTable::id`].
        table: u64,
        /// The process's number.
        process: i32,
    },
    /// An open file description, by its address.
    Description(usize),
}

impl Owner {
    /// The description as owner.
    pub fn description(file: &File) -> Owner {
        Owner::Description(core::ptr::from_ref(file).addr())
    }

    fn is_same(self, other: Owner) -> bool {
        match (self, other) {
            (Owner::Process { table: a, .. }, Owner::Process { table: b, .. }) => a == b,
            (a, b) => a == b,
        }
    }
}

/// Whether a call waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    /// Fails at once.
    No,
    /// Sleeps until it gets the lock or a signal.
    Yes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Shared,
    Exclusive,
}

/// A lock on the bytes `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RangeLock {
    owner: Owner,
    mode: Mode,
    start: u64,
    end: u64,
}

impl RangeLock {
    fn conflicts(&self, other: &RangeLock) -> bool {
        !self.owner.is_same(other.owner)
            && self.start < other.end
            && other.start < self.end
            && (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
    }
}

/// The locks of one inode.
#[derive(Default)]
struct Lists {
    ranges: Vec<RangeLock>,
    whole: Vec<(usize, Mode)>,
}

/// The file locks on an inode.
pub struct LockContext {
    lists: SpinLock<Lists>,
    changed: WaitQueue,
}

/// Who waits for whom.
static WAITING: SpinLock<BTreeMap<Owner, Owner>> = SpinLock::new(BTreeMap::new());

impl LockContext {
    /// No locks.
    pub fn new() -> LockContext {
        LockContext { lists: SpinLock::new(Lists::default()), changed: WaitQueue::new() }
    }
}

impl Default for LockContext {
    fn default() -> Self {
        Self::new()
    }
}

impl Lists {
    fn conflict(&self, wanted: &RangeLock) -> Option<RangeLock> {
        self.ranges.iter().find(|held| held.conflicts(wanted)).copied()
    }

    /// Makes the owner's locks on `start..end` be `mode`, or none: cuts, then joins what touches.
    fn set_range(&mut self, owner: Owner, start: u64, end: u64, mode: Option<Mode>) -> Result<()> {
        self.ranges.try_reserve(2).map_err(|_| Errno::ENOLCK)?;
        let mut joined = (start, end);
        let mut pieces: Vec<RangeLock> = Vec::new();
        self.ranges.retain(|lock| {
            if !lock.owner.is_same(owner) || lock.end < start || lock.start > end {
                return true;
            }
            if Some(lock.mode) == mode {
                joined = (joined.0.min(lock.start), joined.1.max(lock.end));
                return false;
            }
            if lock.end == start || lock.start == end {
                return true;
            }
            let left = RangeLock { end: start.max(lock.start), ..*lock };
            let right = RangeLock { start: end.min(lock.end), ..*lock };
            pieces.extend([left, right].into_iter().filter(|piece| piece.start < piece.end));
            false
        });
        self.ranges.extend(pieces);
        if let Some(mode) = mode {
            self.ranges.push(RangeLock { owner, mode, start: joined.0, end: joined.1 });
        }
        Ok(())
    }
}

/// The bytes that a `struct flock` means. Errors: `EINVAL`, `EOVERFLOW`.
fn range_of(file: &File, lock: &Flock) -> Result<(u64, u64)> {
    let base = match SeekFrom::from_linux(0, lock.l_whence as u32)? {
        SeekFrom::Start(_) => 0,
        SeekFrom::Current(_) => file.position() as i64,
        SeekFrom::End(_) => file.inode()?.size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.l_start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match lock.l_len {
        0 => (start, i64::MAX),
        length if length > 0 => (start, start.checked_add(length).ok_or(Errno::EOVERFLOW)?),
        length => (start.checked_add(length).ok_or(Errno::EINVAL)?, start),
    };
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    Ok((start, if lock.l_len == 0 { u64::MAX } else { end as u64 }))
}

fn mode_of(kind: i16) -> Result<Option<Mode>> {
    match kind as u32 {
        F_RDLCK => Ok(Some(Mode::Shared)),
        F_WRLCK => Ok(Some(Mode::Exclusive)),
        F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

/// `F_GETLK`, `F_OFD_GETLK`: the first lock in the way, or the request with `F_UNLCK`. Errors: `EINVAL`, `EOVERFLOW`.
pub fn get_posix(file: &File, owner: Owner, request: Flock) -> Result<Flock> {
    let mode = mode_of(request.l_type)?.ok_or(Errno::EINVAL)?;
    let (start, end) = range_of(file, &request)?;
    let wanted = RangeLock { owner, mode, start, end };
    let found =
        file.inode()?.lock_context_if_any().and_then(|context| context.lists.lock().conflict(&wanted));
    let Some(held) = found else { return Ok(Flock { l_type: F_UNLCK as i16, ..request }) };
    Ok(Flock {
        l_type: if held.mode == Mode::Shared { F_RDLCK as i16 } else { F_WRLCK as i16 },
        l_whence: 0,
        l_start: held.start as i64,
        l_len: if held.end == u64::MAX { 0 } else { (held.end - held.start) as i64 },
        l_pid: match held.owner {
            Owner::Process { process, .. } => process,
            Owner::Description(_) => -1,
        },
        ..request
    })
}

/// `F_SETLK`, `F_SETLKW` and their OFD forms. Errors: `EAGAIN`, `EBADF`, `EDEADLK`, `EINVAL`, `ENOLCK`, `ERESTARTSYS`.
pub fn set_posix(file: &File, owner: Owner, request: Flock, blocking: Blocking) -> Result<()> {
    let mode = mode_of(request.l_type)?;
    match mode {
        Some(Mode::Shared) => file.check_readable()?,
        Some(Mode::Exclusive) => file.check_writable()?,
        None => {}
    }
    let (start, end) = range_of(file, &request)?;
    let context = file.inode()?.lock_context();
    file.note_locked();
    let Some(mode) = mode else {
        context.lists.lock().set_range(owner, start, end, None)?;
        context.changed.wake_all();
        return Ok(());
    };
    let wanted = RangeLock { owner, mode, start, end };
    let attempt = || {
        let mut lists = context.lists.lock();
        match lists.conflict(&wanted) {
            None => Some(lists.set_range(owner, start, end, Some(mode))),
            Some(held) if blocking == Blocking::Yes => note_waiting(owner, held.owner).err().map(Err),
            Some(_) => Some(Err(Errno::EAGAIN)),
        }
    };
    let result = context.changed.wait_until(WaitKind::Interruptible, None, attempt);
    WAITING.lock().remove(&owner);
    let result = result.map_err(|_| Errno::ERESTARTSYS)?;
    // Making a lock weaker may let others in.
    context.changed.wake_all();
    result
}

/// Notes that `owner` waits for `holder`. Errors: `EDEADLK` if that closes a circle of processes.
fn note_waiting(owner: Owner, holder: Owner) -> Result<()> {
    const LONGEST: usize = 64;
    let mut waiting = WAITING.lock();
    if matches!(owner, Owner::Process { .. }) {
        let mut at = holder;
        for _ in 0..LONGEST {
            if at.is_same(owner) {
                return Err(Errno::EDEADLK);
            }
            match waiting.get(&at) {
                Some(next) => at = *next,
                None => break,
            }
        }
    }
    waiting.insert(owner, holder);
    Ok(())
}

/// flock(2). Errors: `EAGAIN` (`EWOULDBLOCK`), `EINVAL`, `ENOLCK`, `ERESTARTSYS`.
pub fn flock(file: &File, operation: u32) -> Result<()> {
    let mode = match operation & !LOCK_NB {
        LOCK_SH => Some(Mode::Shared),
        LOCK_EX => Some(Mode::Exclusive),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let context = file.inode()?.lock_context();
    let own = core::ptr::from_ref(file).addr();
    file.note_locked();
    // Changing the kind of a lock gives the old one up first (flock(2)).
    let unlocked = {
        let mut lists = context.lists.lock();
        let before = lists.whole.len();
        lists.whole.retain(|(owner, held)| *owner != own || Some(*held) == mode);
        before != lists.whole.len()
    };
    if unlocked {
        context.changed.wake_all();
    }
    let Some(mode) = mode else { return Ok(()) };
    let attempt = || {
        let mut lists = context.lists.lock();
        if lists.whole.iter().any(|(owner, _)| *owner == own) {
            return Some(Ok(()));
        }
        let free = lists.whole.iter().all(|(_, held)| mode == Mode::Shared && *held == Mode::Shared);
        if !free {
            return if operation & LOCK_NB != 0 { Some(Err(Errno::EAGAIN)) } else { None };
        }
        if lists.whole.try_reserve(1).is_err() {
            return Some(Err(Errno::ENOLCK));
        }
        lists.whole.push((own, mode));
        Some(Ok(()))
    };
    context.changed.wait_until(WaitKind::Interruptible, None, attempt).map_err(|_| Errno::ERESTARTSYS)?
}

/// A process closed a descriptor of the file: its POSIX locks on it go.
pub(crate) fn release_owner(file: &Arc<File>, table: u64) {
    let Ok(inode) = file.inode() else { return };
    let Some(context) = inode.lock_context_if_any() else { return };
    let removed = {
        let mut lists = context.lists.lock();
        let before = lists.ranges.len();
        lists.ranges.retain(|lock| !lock.owner.is_same(Owner::Process { table, process: 0 }));
        before != lists.ranges.len()
    };
    if removed {
        context.changed.wake_all();
    }
}

/// A description is gone: its locks go.
pub(crate) fn release_file(inode: &Inode, file: &File) {
    let Some(context) = inode.lock_context_if_any() else { return };
    let own = core::ptr::from_ref(file).addr();
    {
        let mut lists = context.lists.lock();
        lists.whole.retain(|(owner, _)| *owner != own);
        lists.ranges.retain(|lock| lock.owner != Owner::Description(own));
    }
    context.changed.wake_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner::Process { table: 1, process: 1 };
    const B: Owner = Owner::Process { table: 2, process: 2 };

    fn spans(lists: &Lists, owner: Owner) -> Vec<(u64, u64, Mode)> {
        let mut all: Vec<_> =
            lists.ranges.iter().filter(|l| l.owner == owner).map(|l| (l.start, l.end, l.mode)).collect();
        all.sort_by_key(|(start, ..)| *start);
        all
    }

    #[test]
    fn ranges_are_cut_and_joined() {
        let mut lists = Lists::default();
        lists.set_range(A, 0, 100, Some(Mode::Exclusive)).unwrap();
        lists.set_range(A, 20, 30, None).unwrap();
        assert_eq!(spans(&lists, A), [(0, 20, Mode::Exclusive), (30, 100, Mode::Exclusive)]);
        lists.set_range(A, 40, 50, Some(Mode::Shared)).unwrap();
        lists.set_range(A, 20, 30, Some(Mode::Exclusive)).unwrap();
        assert_eq!(
            spans(&lists, A),
            [(0, 40, Mode::Exclusive), (40, 50, Mode::Shared), (50, 100, Mode::Exclusive)]
        );
    }

    #[test]
    fn conflicts_are_between_owners_only() {
        let mut lists = Lists::default();
        lists.set_range(A, 0, 10, Some(Mode::Shared)).unwrap();
        let wanted = |owner, mode| RangeLock { owner, mode, start: 5, end: 6 };
        assert!(lists.conflict(&wanted(B, Mode::Shared)).is_none());
        assert!(lists.conflict(&wanted(B, Mode::Exclusive)).is_some());
        assert!(lists.conflict(&wanted(A, Mode::Exclusive)).is_none());
    }
}
