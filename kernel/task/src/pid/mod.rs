//! Process ids: [`PidNamespace`] hands out numbers, [`Pid`] is the thing they name.
//!
//! One [`Pid`] names a thread, and with the same numbers perhaps a process, a process group and a session. It has
//! one number in its namespace and in each of the ancestors. The kernel itself identifies by the number in the root
//! namespace ([`Pid::number`]); programs see [`Pid::number_in`] their own. Numbers go up and round
//! (`/proc/sys/kernel/pid_max`), each costs O(log n).
//!
//! Locks: a namespace's table (leaf, plain spinlock), the holder in a `Pid` (leaf, interrupt-safe).

pub mod map;

use crate::process::Process;
use crate::task::Task;
use crate::tree::{Freed, NUMBER_LIMIT, Number};
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::sync::{IrqSpinLock, Lazy, RwSpinLock, WaitQueue};
use map::{AllocateError, IdMap};

/// Numbers that a wrapped-around search starts at: low ones stay with the daemons of early boot.
const RESERVED: u32 = 300;
/// The smallest value `pid_max` may be given.
pub const PID_MAX_MIN: u32 = RESERVED + 1;

/// A table of process ids.
pub struct PidNamespace {
    level: usize,
    parent: Option<Arc<PidNamespace>>,
    table: RwSpinLock<Table>,
}

struct Table {
    pids: IdMap<Arc<Pid>>,
    last: u32,
    max: u32,
}

static ROOT: Lazy<Arc<PidNamespace>> = Lazy::new(|| Arc::new(PidNamespace::new(None)));

/// The namespace everything lives in.
pub fn root() -> &'static Arc<PidNamespace> {
    &ROOT
}

impl PidNamespace {
    fn new(parent: Option<Arc<PidNamespace>>) -> PidNamespace {
        // Linux: 1024 for each possible CPU, at least 32768.
        let max = (machine::cpu::count() as u32).saturating_mul(1024).clamp(32768, NUMBER_LIMIT);
        PidNamespace {
            level: parent.as_ref().map_or(0, |parent| parent.level + 1),
            parent,
            table: RwSpinLock::new(Table { pids: IdMap::new(NUMBER_LIMIT), last: 0, max }),
        }
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
        if let Some(wanted) = wanted {
            let wanted = u32::try_from(wanted).map_err(|_| Errno::EINVAL)?;
            if wanted == 0 || wanted >= max {
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
        let gone = self.table.write().pids.remove(number);
        drop(gone);
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
