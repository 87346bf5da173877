//! Errors of write-back, told once to everyone who has the file open: what Linux calls `errseq_t`.
//!
//! A failure counts up; who looks keeps the count it saw. An error that nobody has looked at yet is told also to those who open the file
//! afterwards, so that it is not lost between two programs. Key types: [`ErrorSequence`], [`Seen`]. Locks: none.

use abi::errno::{Errno, Result};
use core::sync::atomic::{AtomicU32, Ordering};

/// The errno, 12 bits.
const ERRNO: u32 = 0xfff;
/// Somebody has seen the error: the next one counts up.
const SEEN: u32 = 0x1000;
/// One in the count.
const ONE: u32 = 0x2000;

/// The last error, and how many there were.
pub struct ErrorSequence {
    value: AtomicU32,
    /// Every one counts here.
    failures: AtomicU32,
}

/// What an open file has seen of an [`ErrorSequence`].
pub struct Seen(AtomicU32);

impl Seen {
    /// Nothing yet.
    pub const fn new() -> Seen {
        Seen(AtomicU32::new(0))
    }
}

impl Default for Seen {
    fn default() -> Self {
        Seen::new()
    }
}

impl Default for ErrorSequence {
    fn default() -> Self {
        ErrorSequence::new()
    }
}

impl ErrorSequence {
    /// No error yet.
    pub const fn new() -> ErrorSequence {
        ErrorSequence { value: AtomicU32::new(0), failures: AtomicU32::new(0) }
    }

    /// Notes an error. Any context.
    pub fn record(&self, error: Errno) {
        let code = error.code().unsigned_abs() & ERRNO;
        let next = |now: u32| {
            let count = now & !(ERRNO | SEEN);
            let count = if now & SEEN != 0 { count.wrapping_add(ONE) } else { count };
            Some(count | code)
        };
        let _ = self.value.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
        self.failures.fetch_add(1, Ordering::Release);
    }

    /// How often something failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Acquire)
    }

    /// The last error, seen or not.
    pub(super) fn last(&self) -> Result<()> {
        outcome(self.value.load(Ordering::Acquire))
    }

    /// Where somebody starts who opens the file now: at an error that nobody has seen he will see it.
    pub fn sample(&self, seen: &Seen) {
        let now = self.value.load(Ordering::Acquire);
        let start = if now & SEEN == 0 { 0 } else { now };
        seen.0.store(start, Ordering::Relaxed);
    }

    /// Whether there is one that `seen` has not seen; it stays unseen.
    pub fn check(&self, seen: &Seen) -> Result<()> {
        let now = self.value.load(Ordering::Acquire);
        if now & !SEEN == seen.0.load(Ordering::Relaxed) & !SEEN { Ok(()) } else { outcome(now) }
    }

    /// The error since `seen` last looked; from now on it has seen it.
    pub fn check_and_advance(&self, seen: &Seen) -> Result<()> {
        let before = seen.0.load(Ordering::Relaxed);
        if self.value.load(Ordering::Acquire) == before {
            return Ok(());
        }
        let now = self.value.fetch_or(SEEN, Ordering::AcqRel) | SEEN;
        seen.0.store(now, Ordering::Relaxed);
        if now & !SEEN == before & !SEEN { Ok(()) } else { outcome(now) }
    }
}

fn outcome(value: u32) -> Result<()> {
    match value & ERRNO {
        0 => Ok(()),
        code => Err(Errno::from_code(code as i32).unwrap_or(Errno::EIO)),
    }
}
