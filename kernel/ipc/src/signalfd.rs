//! signalfd(2): pending signals that one reads and waits for as a file.
//!
//! The signals belong to whoever reads, not to who made the descriptor, so the file has only a mask; what is pending
//! for the reader is `task`'s business, which registers a [`SignalSource`].
//!
//! Locks: none of its own; the mask is an atomic.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use abi::signalfd::SignalfdSiginfo;
use machine::sync::{Once, WaitKind, WaitQueue};
use mm::io::IoWriter;
use vfs::{File, FileOperations, PollTable, Positioning};
use zerocopy::IntoBytes;

/// What `task` knows about the current thread's signals. Masks have bit `n - 1` for signal `n`.
pub trait SignalSource: Send + Sync {
    /// Takes one pending signal (the thread's or its process's) that is in `mask`, by the usual priority.
    fn take(&self, mask: u64) -> Option<SignalfdSiginfo>;
    /// Whether one is pending.
    fn is_pending(&self, mask: u64) -> bool;
    /// Woken whenever a signal is queued for the current thread or its process.
    fn queue(&self) -> Arc<WaitQueue>;
}

static SOURCE: Once<&'static dyn SignalSource> = Once::new();

/// Registers the [`SignalSource`]; once.
pub fn register_source(source: &'static dyn SignalSource) -> bool {
    SOURCE.set(source).is_ok()
}

/// `SIGKILL` and `SIGSTOP` cannot be had: their bits are dropped, as Linux does.
const NEVER: u64 = 1 << (9 - 1) | 1 << (19 - 1);

/// The operations of a signalfd.
pub struct SignalFd {
    mask: AtomicU64,
    source: &'static dyn SignalSource,
}

impl SignalFd {
    /// A file for the signals in `mask`.
    ///
    /// # Errors
    /// `ENOSYS`: `task` has not registered.
    pub fn new(mask: u64) -> Result<Arc<Self>> {
        let source = *SOURCE.get().ok_or(Errno::ENOSYS)?;
        Ok(Arc::new(Self { mask: AtomicU64::new(mask & !NEVER), source }))
    }

    /// Other signals from now on.
    pub fn set_mask(&self, mask: u64) {
        self.mask.store(mask & !NEVER, Ordering::Relaxed);
        self.source.queue().wake_all();
    }

    fn take(&self) -> Option<SignalfdSiginfo> {
        self.source.take(self.mask.load(Ordering::Relaxed))
    }

    fn take_or_wait(&self, file: &File) -> Result<SignalfdSiginfo> {
        if let Some(info) = self.take() {
            return Ok(info);
        }
        if file.is_nonblocking() {
            return Err(Errno::EAGAIN);
        }
        let queue = self.source.queue();
        queue.wait_until(WaitKind::Interruptible, None, || self.take()).map_err(|_| Errno::ERESTARTSYS)
    }
}

impl FileOperations for SignalFd {
    /// As many whole structures as are pending and fit; waits for the first.
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        let size = size_of::<SignalfdSiginfo>();
        if to.remaining() < size {
            return Err(Errno::EINVAL);
        }
        let mut next = Some(self.take_or_wait(file)?);
        let mut read = 0;
        while let Some(info) = next {
            let written = to.write_bytes(info.as_bytes());
            match written {
                Ok(bytes) if bytes == size => read += bytes,
                _ if read > 0 => break,
                Ok(_) => return Err(Errno::EFAULT),
                Err(error) => return Err(error),
            }
            next = if to.remaining() >= size { self.take() } else { None };
        }
        Ok(read)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.source.queue());
        let pending = self.source.is_pending(self.mask.load(Ordering::Relaxed));
        if pending { PollEvents::IN } else { PollEvents::empty() }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "sigmask:\t{:016x}", self.mask.load(Ordering::Relaxed))
    }
}
