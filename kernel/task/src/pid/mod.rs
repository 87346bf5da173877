//! Process ids: [`PidNamespace`] hands out numbers, [`Pid`] is the thing they name.
//!
//! One [`Pid`] names a thread, and with the same numbers perhaps a process, a process group and a session. It has
//! one number in its namespace and in each of the ancestors. The kernel itself identifies by the number in the root
//! namespace ([`Pid::number`]); programs see [`Pid::number_in`] their own. Numbers go up and round
//! (`/proc/sys/kernel/pid_max`), each costs O(log n).
//!
//! The process with number 1 is a namespace's init: when it ends the namespace is closed, everybody in it is killed, and nobody can
//! come in any more (pid_namespaces(7)).
//!
//! Locks: a namespace's table (leaf, plain spinlock), the holder in a `Pid` (leaf, interrupt-safe). Closing also holds the
//! process tree's, so that no child is published afterwards.

pub mod map;
pub mod reboot;

use crate::process::Process;
use crate::task::Task;
use crate::tree::{Freed, NUMBER_LIMIT, Number};
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::sync::{IrqSpinLock, Lazy, RwSpinLock, WaitQueue};
use map::{AllocateError, IdMap};
use security::{NamespaceHead, NamespaceKind};

/// Numbers that a wrapped-around search starts at: low ones stay with the daemons of early boot.
const RESERVED: u32 = 300;
/// The smallest value `pid_max` may be given.
pub const PID_MAX_MIN: u32 = RESERVED + 1;

/// Nesting beyond this is refused with ENOSPC (`MAX_PID_NS_LEVEL`).
const MAX_LEVEL: usize = crate::fork::MAX_NAMESPACE_LEVELS;

/// A table of process ids.
pub struct PidNamespace {
    head: NamespaceHead,
    level: usize,
    parent: Option<Arc<PidNamespace>>,
    table: RwSpinLock<Table>,
    /// The number in the root namespace of the process with number 1; 0 before there is one.
    init: AtomicU32,
    /// The signal that stands for how reboot(2) in it ended it; 0 for not at all.
    reboot_signal: AtomicU32,
    /// Woken when a number is given back after it was closed.
    emptied: WaitQueue,
}

struct Table {
    pids: IdMap<Arc<Pid>>,
    last: u32,
    max: u32,
    /// Nobody may come in: init has ended, or could not be made.
    closed: bool,
}

static ROOT: Lazy<Arc<PidNamespace>> =
    Lazy::new(|| Arc::new(PidNamespace::new(None, NamespaceHead::initial(NamespaceKind::Pid))));

/// The namespace everything lives in.
pub fn root() -> &'static Arc<PidNamespace> {
    &ROOT
}

impl PidNamespace {
    fn new(parent: Option<Arc<PidNamespace>>, head: NamespaceHead) -> PidNamespace {
        // Linux: 1024 for each possible CPU, at least 32768.
        let max = (machine::cpu::count() as u32).saturating_mul(1024).clamp(32768, NUMBER_LIMIT);
        PidNamespace {
            head,
            level: parent.as_ref().map_or(0, |parent| parent.level + 1),
            parent,
            table: RwSpinLock::new(Table { pids: IdMap::new(NUMBER_LIMIT), last: 0, max, closed: false }),
            init: AtomicU32::new(0),
            reboot_signal: AtomicU32::new(0),
            emptied: WaitQueue::new(),
        }
    }

    /// A namespace below `parent`, without a process.
    ///
    /// # Errors
    /// ENOSPC: nested too deep. ENOMEM.
    pub(crate) fn create(parent: &Arc<PidNamespace>, head: NamespaceHead) -> Result<Arc<PidNamespace>> {
        if parent.level + 1 > MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        Ok(Arc::new(PidNamespace::new(Some(parent.clone()), head)))
    }

    /// Kind, number and owner.
    pub fn head(&self) -> &NamespaceHead {
        &self.head
    }

    /// The namespace it is in.
    pub fn parent(&self) -> Option<&Arc<PidNamespace>> {
        self.parent.as_ref()
    }

    /// Whether it is `ancestor` or below it.
    pub fn is_within(&self, ancestor: &PidNamespace) -> bool {
        let mut at = self;
        while at.level > ancestor.level {
            let Some(parent) = &at.parent else { return false };
            at = parent;
        }
        core::ptr::eq(at, ancestor)
    }

    /// The root namespace's number of its first process; 0 before there is one.
    pub fn init(&self) -> Number {
        self.init.load(Ordering::Acquire)
    }

    /// Whether it has had a first process.
    pub fn has_init(&self) -> bool {
        self.init() != 0
    }

    pub(crate) fn set_init(&self, number: Number) {
        self.init.store(number, Ordering::Release);
    }

    /// How reboot(2) ended it.
    pub(crate) fn reboot_signal(&self) -> u32 {
        self.reboot_signal.load(Ordering::Relaxed)
    }

    /// Notes how reboot(2) ends it.
    pub fn set_reboot_signal(&self, signal: u32) {
        self.reboot_signal.store(signal, Ordering::Relaxed);
    }

    /// Lets nobody in any more. With the process tree locked.
    pub(crate) fn close(&self) {
        self.table.write().closed = true;
    }

    /// Whether nobody may come in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.table.read().closed
    }

    /// Sleeps until no more than `left` numbers are used. After [`PidNamespace::close`].
    pub(crate) fn wait_until_empty(&self, left: usize) {
        let empty = || (self.table.read().pids.len() <= left).then_some(());
        let _ = self.emptied.wait_until(machine::sync::WaitKind::Uninterruptible, None, empty);
    }

    /// Depth below the root namespace.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Whose number it is.
    pub fn find(&self, number: i32) -> Option<Arc<Pid>> {
        let number = u32::try_from(number).ok()?;
        self.table.read().pids.get(number).cloned()
    }

    /// The thread with this id.
    pub fn find_task(&self, number: i32) -> Option<Arc<Task>> {
        self.find(number)?.task()
    }

    /// The process with this id.
    pub fn find_process(&self, number: i32) -> Option<Arc<Process>> {
        self.find(number)?.process()
    }

    /// The first process at or after `from`, with its number here: how `/proc` walks.
    pub fn next_process(&self, from: i32) -> Option<(i32, Arc<Process>)> {
        let table = self.table.read();
        let mut next = u32::try_from(from).ok()?;
        loop {
            let (number, pid) = table.pids.next_used(next)?;
            if let Some(process) = pid.process() {
                return Some((i32::try_from(number).ok()?, process));
            }
            next = number + 1;
        }
    }

    /// The number given out last (`/proc/loadavg`).
    pub fn last_number(&self) -> u32 {
        self.table.read().last
    }

    /// `/proc/sys/kernel/pid_max`.
    pub fn max(&self) -> u32 {
        self.table.read().max
    }

    /// `/proc/sys/kernel/ns_last_pid`: what comes next follows this. The caller has checked its capability.
    ///
    /// # Errors
    /// EINVAL: not below `pid_max`.
    pub fn set_last_number(&self, number: u32) -> Result<()> {
        let mut table = self.table.write();
        if number >= table.max {
            return Err(Errno::EINVAL);
        }
        table.last = number;
        Ok(())
    }

    /// Sets `pid_max`.
    ///
    /// # Errors
    /// EINVAL: outside 301 to 2²².
    pub fn set_max(&self, max: u32) -> Result<()> {
        if !(PID_MAX_MIN..=NUMBER_LIMIT).contains(&max) {
            return Err(Errno::EINVAL);
        }
        self.table.write().max = max;
        Ok(())
    }

    fn allocate(&self, pid: &Arc<Pid>, wanted: Option<i32>) -> Result<u32> {
        let mut table = self.table.write();
        let max = table.max;
        if table.closed {
            return Err(Errno::ENOMEM);
        }
        if let Some(wanted) = wanted {
            let wanted = u32::try_from(wanted).map_err(|_| Errno::EINVAL)?;
            if wanted == 0 || wanted >= max || wanted != 1 && !self.has_init() {
                return Err(Errno::EINVAL);
            }
            return match table.pids.insert(wanted, pid.clone())? {
                None => Ok(wanted),
                Some(_) => Err(Errno::EEXIST),
            };
        }
        let low = if table.last >= RESERVED { RESERVED } else { 1 };
        let start = table.last + 1;
        match table.pids.allocate_cyclic(start, low, max, pid.clone()) {
            Ok(number) => {
                table.last = number;
                Ok(number)
            }
            Err(AllocateError::Full) => Err(Errno::EAGAIN),
            Err(AllocateError::NoMemory) => Err(Errno::ENOMEM),
        }
    }

    fn free(&self, number: u32) {
        let mut table = self.table.write();
        let gone = table.pids.remove(number);
        // The first process could not be made: there will be none.
        table.closed |= !self.has_init() && self.level > 0;
        let closed = table.closed;
        drop(table);
        drop(gone);
        if closed {
            self.emptied.wake_all();
        }
    }
}

/// What a process id names.
pub struct Pid {
    /// One number for each namespace, the root's first; filled once by [`Pid::new`].
    numbers: IrqSpinLock<Vec<(Arc<PidNamespace>, u32)>>,
    root_number: core::sync::atomic::AtomicU32,
    holder: IrqSpinLock<Holder>,
    /// Woken when the process ends: what polling a pidfd waits for.
    ended: Arc<WaitQueue>,
}

#[derive(Default)]
struct Holder {
    task: Weak<Task>,
    process: Weak<Process>,
}

impl Pid {
    /// A new id in `namespace` and its ancestors. `wanted` gives the numbers to use, innermost first (clone3's `set_tid`).
    ///
    /// # Errors
    /// EAGAIN: no number is free. EEXIST: a wanted one is used. EINVAL: it is out of range. ENOMEM.
    pub fn new(namespace: &Arc<PidNamespace>, wanted: &[i32]) -> Result<Arc<Pid>> {
        if wanted.len() > namespace.level + 1 {
            return Err(Errno::EINVAL);
        }
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(namespace.level + 1).map_err(|_| Errno::ENOMEM)?;
        let pid = Arc::new(Pid {
            numbers: IrqSpinLock::new(Vec::new()),
            root_number: core::sync::atomic::AtomicU32::new(0),
            holder: IrqSpinLock::new(Holder::default()),
            ended: Arc::new(WaitQueue::new()),
        });
        let mut current = Some(namespace);
        let mut depth = 0;
        while let Some(here) = current {
            match here.allocate(&pid, wanted.get(depth).copied()) {
                Ok(number) => numbers.push((here.clone(), number)),
                Err(error) => {
                    for (space, number) in &numbers {
                        space.free(*number);
                    }
                    return Err(error);
                }
            }
            depth += 1;
            current = here.parent.as_ref();
        }
        numbers.reverse();
        let root = numbers.first().map_or(0, |(_, number)| *number);
        pid.root_number.store(root, core::sync::atomic::Ordering::Release);
        *pid.numbers.lock() = numbers;
        Ok(pid)
    }

    /// The number in the root namespace.
    pub fn number(&self) -> Number {
        self.root_number.load(core::sync::atomic::Ordering::Acquire)
    }

    /// Its numbers from those that `namespace` sees on, inwards (`NSpid` in `/proc/PID/status`).
    pub fn numbers_from(&self, namespace: &PidNamespace) -> Vec<u32> {
        let numbers = self.numbers.lock();
        numbers.iter().skip(namespace.level).map(|(_, number)| *number).collect()
    }

    /// The number that a program in `namespace` sees; 0 when it does not see it.
    pub fn number_in(&self, namespace: &PidNamespace) -> i32 {
        if namespace.level == 0 {
            return self.number() as i32;
        }
        let numbers = self.numbers.lock();
        let found = numbers.get(namespace.level).filter(|(space, _)| core::ptr::eq(&**space, namespace));
        found.map_or(0, |(_, number)| *number as i32)
    }

    /// The thread it names, while that lives.
    pub fn task(&self) -> Option<Arc<Task>> {
        self.holder.lock().task.upgrade()
    }

    /// The process it names, until it is reaped.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.holder.lock().process.upgrade()
    }

    /// Woken when the process ends.
    pub fn ended_queue(&self) -> &Arc<WaitQueue> {
        &self.ended
    }

    pub(crate) fn set_task(&self, task: Weak<Task>) {
        let old = core::mem::replace(&mut self.holder.lock().task, task);
        drop(old);
    }

    pub(crate) fn set_process(&self, process: Weak<Process>) {
        let old = core::mem::replace(&mut self.holder.lock().process, process);
        drop(old);
    }

    /// Gives the numbers back; descriptors may keep the `Pid` itself.
    pub(crate) fn release(&self) {
        let numbers = core::mem::take(&mut *self.numbers.lock());
        for (space, number) in numbers {
            space.free(number);
        }
    }
}

impl core::fmt::Debug for Pid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pid({})", self.number())
    }
}

/// Gives back numbers of the root namespace that the process tree no longer uses.
pub(crate) fn release_numbers(freed: &Freed) {
    for number in freed {
        if let Some(pid) = ROOT.find(*number as i32) {
            pid.release();
        }
    }
}
