//! Waiting for readiness: what poll(2), select(2) and epoll(7) are made of.
//!
//! Key types: [`PollTable`] (given to a file's `poll`, which registers the queues that will be woken when its readiness
//! changes), [`poll_files`] (the loop). The protocol: a file registers its queues first and looks at its state afterwards,
//! so that a change in between wakes the waiter. Locks: none held here.

use alloc::sync::Arc;

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use machine::sync::{WaitError, WaitKind, WaitQueue, Waiter};

use crate::file::File;

enum Registrar<'a> {
    None,
    Waiter(&'a mut Waiter),
    Each(&'a mut dyn FnMut(&Arc<WaitQueue>)),
}

/// Where a file registers the queues that tell of changes.
pub struct PollTable<'a> {
    registrar: Registrar<'a>,
    failed: bool,
}

impl<'a> PollTable<'a> {
    /// A table for just looking.
    pub fn probe() -> PollTable<'static> {
        PollTable { registrar: Registrar::None, failed: false }
    }

    /// A table that puts a thread on every queue.
    pub fn for_waiter(waiter: &'a mut Waiter) -> PollTable<'a> {
        PollTable { registrar: Registrar::Waiter(waiter), failed: false }
    }

    /// A table that hands over every queue (epoll).
    pub fn for_each(register: &'a mut dyn FnMut(&Arc<WaitQueue>)) -> PollTable<'a> {
        PollTable { registrar: Registrar::Each(register), failed: false }
    }

    /// Called by a file's `poll` for each queue, before it looks at its state.
    pub fn register(&mut self, queue: &Arc<WaitQueue>) {
        match &mut self.registrar {
            Registrar::None => {}
            Registrar::Waiter(waiter) => self.failed |= waiter.add(queue.clone()).is_err(),
            Registrar::Each(register) => register(queue),
        }
    }

    /// Whether a queue could not be registered for want of memory.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

/// Looks at many files and sleeps until one is ready: `look` is called with a table, polls each file with it, notes what
/// it finds and gives the number of ready ones. It is called with queues to register in the first round only.
///
/// `deadline_ns` (monotonic): `None` waits for ever, one in the past does not wait. Gives 0 when the deadline has passed.
/// `EINTR`: a signal came (the caller turns it into what its call needs). `ENOMEM`.
pub fn poll_files(
    deadline_ns: Option<u64>,
    mut look: impl FnMut(&mut PollTable<'_>) -> Result<usize>,
) -> Result<usize> {
    if deadline_ns.is_some_and(|deadline| deadline <= machine::time::now_ns()) {
        return look(&mut PollTable::probe());
    }
    let mut waiter = Waiter::new()?;
    let mut table = PollTable::for_waiter(&mut waiter);
    let ready = look(&mut table)?;
    let failed = table.has_failed();
    if ready > 0 {
        return Ok(ready);
    }
    if failed {
        return Err(Errno::ENOMEM);
    }
    loop {
        let waited = waiter.wait(WaitKind::Interruptible, deadline_ns);
        let ready = look(&mut PollTable::probe())?;
        match waited {
            _ if ready > 0 => return Ok(ready),
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Ok(0),
            Err(WaitError::Interrupted) => return Err(Errno::EINTR),
        }
    }
}

/// Polls one file: what it is ready for, of what was asked for and what is always told.
pub fn poll_file(file: &File, wanted: PollEvents, table: &mut PollTable<'_>) -> PollEvents {
    file.operations().poll(file, table) & (wanted | PollEvents::ALWAYS)
}
