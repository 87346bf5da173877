//! Lines: bytes to somebody outside and bytes from there, with a terminal at this end.
//!
//! Key types: [`Line`] (what a driver of the line's hardware implements), [`User`] (the terminal on it), [`Terminals`] (who makes terminals:
//! `drivers/tty` [serves](serve) all lines). A driver [attaches](attach) a line and tells its user what happens; the two hold each other, until the driver
//! has called [`User::gone`] and dropped its side.
//!
//! Locks: none but who serves.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use machine::sync::Once;

/// The hardware of a line.
pub trait Line: Send + Sync {
    /// Takes bytes to be sent: as many as there is room for, 0 if there is none; what it does not take is to be offered again after [`User::room`].
    /// What is sent on a line that is gone is taken and lost. Thread context; does not wait.
    fn send(&self, bytes: &[u8]) -> usize;
    /// Takes a message of the kernel's own, at most 512 bytes of it, all of it or nothing. Any context, whatever locks the caller holds: it neither
    /// waits nor wakes anybody. What it does not take is to be offered again after [`User::room`], which then comes.
    fn send_message(&self, bytes: &[u8]) -> bool;
    /// The last words of a kernel that panics: sends them past everything if it can. Any context; nothing else runs any more.
    fn send_last_words(&self, bytes: &[u8]);
    /// Bytes that were taken and that the other side has not got yet.
    fn unsent(&self) -> usize;
    /// Copies what has come in and was not consumed, the oldest first; gives how much. Thread context.
    fn peek(&self, into: &mut [u8]) -> usize;
    /// Drops the oldest `count` bytes of what has come in. Thread context.
    fn consume(&self, count: usize);
    /// Whether something has come in. Thread context.
    fn has_input(&self) -> bool;
}

/// The terminal on a line, as the line's driver sees it.
pub trait User: Send + Sync {
    /// Something has come in. Any context.
    fn input(&self);
    /// There is room again, or the other side has got something. Any context.
    fn room(&self);
    /// The window at the other side has this size now. Thread context.
    fn resized(&self, rows: u16, columns: u16);
    /// The line is gone: who reads gets the end, who writes an error. Nothing is asked of the line afterwards but what is under way. Thread
    /// context.
    fn gone(&self);
}

/// Who makes terminals.
pub trait Terminals: Send + Sync {
    /// Makes a terminal on a line. Thread context. Errors: `ENOSPC`: there are too many; `ENOMEM`.
    fn attach(&self, line: Arc<dyn Line>) -> Result<Arc<dyn User>>;
}

static TERMINALS: Once<&'static dyn Terminals> = Once::new();

/// Has terminals made by these; once. Gives `false` if others do already.
pub fn serve(terminals: &'static dyn Terminals) -> bool {
    TERMINALS.set(terminals).is_ok()
}

/// Puts a terminal on a line. Thread context. Errors: `ENODEV`: there are no terminals; else those of [`Terminals::attach`].
pub fn attach(line: Arc<dyn Line>) -> Result<Arc<dyn User>> {
    TERMINALS.get().ok_or(Errno::ENODEV)?.attach(line)
}
