//! eventfd(2): a counter to wait for.
//!
//! Key type: [`EventFd`]. Locks: the counter's spin lock; the queue is woken after it is released.

use alloc::sync::Arc;
use core::fmt;

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use machine::sync::{SpinLock, WaitKind, WaitQueue};
use mm::io::{IoReader, IoWriter};
use vfs::{File, FileOperations, PollTable, Positioning};

/// What a read takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// The whole counter.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// The counter never reaches this.
const LIMIT: u64 = u64::MAX;

/// The operations of an eventfd.
pub struct EventFd {
    count: SpinLock<u64>,
    reading: Reading,
    queue: Arc<WaitQueue>,
}

impl EventFd {
    /// A counter with this value.
    pub fn new(initial: u64, reading: Reading) -> Arc<Self> {
        Arc::new(Self { count: SpinLock::new(initial), reading, queue: Arc::new(WaitQueue::new()) })
    }

    /// Adds to the counter from inside the kernel, as far as it goes. Not from interrupts.
    pub fn signal(&self, amount: u64) {
        let mut count = self.count.lock();
        *count = count.saturating_add(amount).min(LIMIT - 1);
        drop(count);
        self.queue.wake_with(1, PollEvents::READABLE.bits());
    }

    fn take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        let taken = match (*count, self.reading) {
            (0, _) => return None,
            (all, Reading::All) => all,
            (_, Reading::One) => 1,
        };
        *count -= taken;
        Some(taken)
    }

    fn add(&self, amount: u64) -> Option<()> {
        let mut count = self.count.lock();
        if LIMIT - *count <= amount {
            return None;
        }
        *count += amount;
        Some(())
    }
}

/// Waits for `attempt` to succeed, unless the file does not block.
fn wait_for<R>(file: &File, queue: &WaitQueue, mut attempt: impl FnMut() -> Option<R>) -> Result<R> {
    if let Some(result) = attempt() {
        return Ok(result);
    }
    if file.is_nonblocking() {
        return Err(Errno::EAGAIN);
    }
    queue.wait_until(WaitKind::Interruptible, None, attempt).map_err(|_| Errno::ERESTARTSYS)
}

impl FileOperations for EventFd {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = wait_for(file, &self.queue, || self.take())?;
        let _sync = sched::sync_wakes();
        self.queue.wake_with(1, PollEvents::WRITABLE.bits());
        to.write_bytes(&value.to_ne_bytes())
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        if from.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes)?;
        let amount = u64::from_ne_bytes(bytes);
        if amount == u64::MAX {
            return Err(Errno::EINVAL);
        }
        wait_for(file, &self.queue, || self.add(amount))?;
        let _sync = sched::sync_wakes();
        self.queue.wake_with(1, PollEvents::READABLE.bits());
        Ok(8)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.queue);
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN;
        }
        if count < LIMIT - 1 {
            events |= PollEvents::OUT;
        }
        if count == LIMIT {
            events |= PollEvents::ERR;
        }
        events
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let semaphore = u8::from(self.reading == Reading::One);
        writeln!(out, "eventfd-count: {:16x}", *self.count.lock())?;
        writeln!(out, "eventfd-semaphore: {semaphore}")
    }
}
