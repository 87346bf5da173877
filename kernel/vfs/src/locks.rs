//! File locks: flock(2), and the POSIX and open-file-description locks of fcntl(2). All are advisory.
//!
//! Key types: [`LockContext`] (the locks of one inode), [`Owner`]; the structure is in `ranges`. A POSIX lock belongs to a
//! process (its descriptor table) and goes when that closes any descriptor of the file; the others belong to the open file
//! description. flock's are locks on all bytes, in a set of their own.
//!
//! Locks: one sleeping lock for each of an inode's two sets (a change may swallow many locks); waiters sleep on the set's queue
//! and look again. Who waits for whom is noted in one table with a spinlock, taken under the former, so that a circle of
//! processes is found (`EDEADLK`).

mod ranges;

use crate::file::{File, SeekFrom};
use crate::inode::Inode;
use abi::errno::{Errno, Result};
use abi::fcntl::{F_RDLCK, F_UNLCK, F_WRLCK, Flock, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::sync::{Mutex, SpinLock, WaitKind, WaitQueue};
pub use ranges::Owner;
use ranges::{Change, Mode, RangeLock, RangeLocks};

impl Owner {
    /// The description as owner.
    pub fn description(file: &File) -> Owner {
        Owner::Description(core::ptr::from_ref(file).addr())
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

/// One set of locks and who waits for any of them.
struct LockSet {
    held: Mutex<RangeLocks>,
    changed: WaitQueue,
}

impl LockSet {
    fn new() -> LockSet {
        LockSet { held: Mutex::new(RangeLocks::default()), changed: WaitQueue::new() }
    }

    /// Takes locks away; wakes if that let anybody in.
    fn release_owner(&self, owner: Owner) {
        let change = self.held.lock().remove_owner(owner);
        self.wake_if(change);
    }

    /// One of those who wait exclusively (for all bytes alone) is enough: whoever gets the lock wakes the next one.
    fn wake_if(&self, change: Change) {
        if change == Change::Freed {
            self.changed.wake_one();
        }
    }
}

/// The file locks on an inode.
pub struct LockContext {
    /// fcntl(2)'s.
    records: LockSet,
    /// flock(2)'s.
    whole: LockSet,
}

impl LockContext {
    /// No locks.
    pub fn new() -> LockContext {
        LockContext { records: LockSet::new(), whole: LockSet::new() }
    }
}

impl Default for LockContext {
    fn default() -> Self {
        Self::new()
    }
}

/// Which tables' owners wait for which: by the waiter's table and the number of its call, because a process may wait in
/// several threads. As many entries as threads that wait.
static WAITING: SpinLock<BTreeMap<(u64, u64), Owner>> = SpinLock::new(BTreeMap::new());
static NEXT_CALL: AtomicU64 = AtomicU64::new(0);

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
    let context = file.inode()?.lock_context_if_any();
    let found = context.and_then(|context| context.records.held.lock().conflict(&wanted));
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
    let records = &file.inode()?.lock_context().records;
    file.note_locked();
    let Some(mode) = mode else {
        let change = records.held.lock().set(owner, start, end, None)?;
        records.wake_if(change);
        return Ok(());
    };
    let wanted = RangeLock { owner, mode, start, end };
    let wait = Wait { owner, call: NEXT_CALL.fetch_add(1, Ordering::Relaxed) };
    let attempt = || {
        let mut held = records.held.lock();
        match held.conflict(&wanted) {
            None => Some(held.set(owner, start, end, Some(mode))),
            Some(other) if blocking == Blocking::Yes => wait.note(other.owner).err().map(Err),
            Some(_) => Some(Err(Errno::EAGAIN)),
        }
    };
    // Not exclusively: others may want other bytes.
    let result = records.changed.wait_until(WaitKind::Interruptible, None, attempt);
    drop(wait);
    // Making a lock weaker may let others in.
    records.wake_if(result.map_err(|_| Errno::ERESTARTSYS)??);
    Ok(())
}

/// A call that may wait; forgotten on drop.
struct Wait {
    owner: Owner,
    call: u64,
}

impl Wait {
    /// Notes for whom it waits. Errors: `EDEADLK` if that closes a circle of processes, of as many as Linux looks at.
    fn note(&self, holder: Owner) -> Result<()> {
        const LONGEST: usize = 10;
        let Owner::Process { table, .. } = self.owner else { return Ok(()) };
        let mut waiting = WAITING.lock();
        let mut at = holder;
        for _ in 0..=LONGEST {
            if at == self.owner {
                return Err(Errno::EDEADLK);
            }
            let Owner::Process { table, .. } = at else { break };
            match waiting.range((table, 0)..=(table, u64::MAX)).next() {
                Some((_, next)) => at = *next,
                None => break,
            }
        }
        waiting.insert((table, self.call), holder);
        Ok(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Owner::Process { table, .. } = self.owner {
            WAITING.lock().remove(&(table, self.call));
        }
    }
}

/// flock(2). Errors: `EAGAIN` (`EWOULDBLOCK`), `EINVAL`, `ENOLCK`, `ERESTARTSYS`.
pub fn flock(file: &File, operation: u32) -> Result<()> {
    let mode = match operation & !LOCK_NB {
        LOCK_SH => Some(Mode::Shared),
        LOCK_EX => Some(Mode::Exclusive),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let whole = &file.inode()?.lock_context().whole;
    let owner = Owner::description(file);
    file.note_locked();
    {
        let mut held = whole.held.lock();
        let own = held.holding(owner, 0, u64::MAX).map(|own| own.mode);
        if own.is_some() && own == mode {
            return Ok(());
        }
        // Changing the kind of a lock gives the old one up first (flock(2)).
        let change = held.remove_owner(owner);
        drop(held);
        whole.wake_if(change);
    }
    let Some(mode) = mode else { return Ok(()) };
    let wanted = RangeLock { owner, mode, start: 0, end: u64::MAX };
    let attempt = || {
        let mut held = whole.held.lock();
        match held.conflict(&wanted) {
            None => Some(held.set(owner, 0, u64::MAX, Some(mode)).map(|_| ())),
            Some(_) if operation & LOCK_NB != 0 => Some(Err(Errno::EAGAIN)),
            Some(_) => None,
        }
    };
    let waited = match mode {
        Mode::Shared => whole.changed.wait_until(WaitKind::Interruptible, None, attempt),
        Mode::Exclusive => whole.changed.wait_until_exclusive(WaitKind::Interruptible, None, attempt),
    };
    waited.map_err(|_| Errno::ERESTARTSYS)?
}

/// A process closed a descriptor of the file: its POSIX locks on it go.
pub(crate) fn release_owner(file: &Arc<File>, table: u64) {
    let Ok(inode) = file.inode() else { return };
    let Some(context) = inode.lock_context_if_any() else { return };
    context.records.release_owner(Owner::Process { table, process: 0 });
}

/// A description is gone: its locks go.
pub(crate) fn release_file(inode: &Inode, file: &File) {
    let Some(context) = inode.lock_context_if_any() else { return };
    context.records.release_owner(Owner::description(file));
    context.whole.release_owner(Owner::description(file));
}
