//! A lock that is waited for like a slow device: a signal ends the wait.
//!
//! A reader or writer of a terminal can wait for ever with its turn held; the others behind it must stay killable, which
//! an ordinary mutex would not let them.

use crate::tty::Blocking;
use abi::{Errno, Result};
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{WaitKind, WaitQueue};

/// One at a time.
pub struct Turn {
    taken: AtomicBool,
    waiters: WaitQueue,
}

/// Held while it is one's turn.
pub struct TurnGuard<'a>(&'a Turn);

impl Turn {
    /// Nobody's turn.
    pub const fn new() -> Turn {
        Turn { taken: AtomicBool::new(false), waiters: WaitQueue::new() }
    }

    /// Waits for the turn. Errors: `EAGAIN` (not blocking), `ERESTARTSYS` (signal).
    pub fn take(&self, blocking: Blocking) -> Result<TurnGuard<'_>> {
        let try_take = || {
            self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| ())
        };
        if try_take().is_some() {
            return Ok(TurnGuard(self));
        }
        if blocking == Blocking::No {
            return Err(Errno::EAGAIN);
        }
        match self.waiters.wait_until(WaitKind::Interruptible, None, try_take) {
            Ok(()) => Ok(TurnGuard(self)),
            Err(_) => Err(Errno::ERESTARTSYS),
        }
    }

    /// Is it somebody's turn now?
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.waiters.wake_one();
    }
}
