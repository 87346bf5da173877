//! Pipes and FIFOs: pipe(7), fifo(7).
//!
//! A [`Pipe`] is a ring of pages ([`crate::pipe_ring`]) behind a sleeping lock (copies to and from user memory may
//! fault under it), the counts of readers and writers, and two wait queues. Each open file has a [`PipeEnd`] of its
//! own. Writes of up to `PIPE_BUF` bytes are atomic: they take one slot, or are appended to one page.
//!
//! Wake-ups follow Linux: readers and writers wait exclusively, one is woken when the pipe stops being empty (or
//! full), and passes the wake-up on if it leaves something behind. Whether one may go on is read from atomics, so a
//! waiter does not take the lock to find out that it must wait on.
//!
//! Neighbours: `vfs` opens FIFOs through [`open_fifo`]; `syscall` calls [`create`], [`PipeEnd::set_size`]. `EPIPE`
//! without a signal: the caller of write(2) sends `SIGPIPE`. Locks: the ring's, then wait queues.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::fs::PIPEFS_MAGIC;
use abi::poll::PollEvents;
use machine::PAGE_SIZE;
use machine::sync::{Mutex, MutexGuard, WaitKind, WaitQueue};
use mm::io::{IoReader, IoWriter};
use security::{Capability, Credentials};
use vfs::{File, FileOperations, Inode, PollTable, Positioning};

pub use crate::pipe_ring::Framing;
use crate::pipe_ring::Ring;

/// Slots of a new pipe: 64 KiB.
const DEFAULT_PAGES: usize = 16;
/// What an unprivileged `F_SETPIPE_SZ` may ask for at most (`/proc/sys/fs/pipe-max-size`).
static MAX_SIZE: AtomicUsize = AtomicUsize::new(1 << 20);
/// What anybody may ask for at most.
const ABSOLUTE_MAX_SIZE: usize = 1 << 31;
/// `FIONREAD`.
const FIONREAD: u32 = 0x541b;

/// `/proc/sys/fs/pipe-max-size`.
pub fn max_size() -> usize {
    MAX_SIZE.load(Ordering::Relaxed)
}

/// Sets `/proc/sys/fs/pipe-max-size`.
///
/// # Errors
/// `EINVAL`: below a page or too great.
pub fn set_max_size(size: usize) -> Result<()> {
    if size < PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    let pages = pages_for(size)?;
    MAX_SIZE.store(pages * PAGE_SIZE, Ordering::Relaxed);
    Ok(())
}

/// Bytes to a number of slots: a power of two of pages.
fn pages_for(size: usize) -> Result<usize> {
    if size > ABSOLUTE_MAX_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(size.div_ceil(PAGE_SIZE).max(1).next_power_of_two())
}

/// What all open ends share.
pub struct Pipe {
    ring: Mutex<Ring>,
    /// Copies of the ring's state, written under its lock, for waiters and poll.
    used: AtomicUsize,
    capacity: AtomicUsize,
    readers: AtomicUsize,
    writers: AtomicUsize,
    /// How often it was opened for reading and for writing: a FIFO's opener waits for the other's to change.
    reader_opens: AtomicU64,
    writer_opens: AtomicU64,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
}

impl Pipe {
    /// A pipe that nobody has open.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            ring: Mutex::new(Ring::new(DEFAULT_PAGES)?),
            used: AtomicUsize::new(0),
            capacity: AtomicUsize::new(DEFAULT_PAGES),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            reader_opens: AtomicU64::new(0),
            writer_opens: AtomicU64::new(0),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
        }))
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    fn is_empty(&self) -> bool {
        self.used.load(Ordering::Acquire) == 0
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.capacity.load(Ordering::Acquire)
    }

    /// Copies the ring's state for waiters.
    fn publish(&self, ring: &Ring) {
        self.used.store(ring.used(), Ordering::Release);
    }

    /// One reader may go on. The waker is likely to sleep next.
    fn wake_reader(&self) {
        let _sync = sched::sync_wakes();
        self.readable.wake_with(1, PollEvents::READABLE.bits());
    }

    fn wake_writer(&self) {
        let _sync = sched::sync_wakes();
        self.writable.wake_with(1, PollEvents::WRITABLE.bits());
    }

    fn add(&self, flags: OpenFlags) {
        if flags.reads() {
            self.reader_opens.fetch_add(1, Ordering::AcqRel);
            if self.readers.fetch_add(1, Ordering::AcqRel) == 0 {
                self.writable.wake_all();
            }
        }
        if flags.writes() {
            self.writer_opens.fetch_add(1, Ordering::AcqRel);
            if self.writers.fetch_add(1, Ordering::AcqRel) == 0 {
                self.readable.wake_all();
            }
        }
    }

    fn remove(&self, flags: OpenFlags) {
        if flags.reads() {
            self.readers.fetch_sub(1, Ordering::AcqRel);
        }
        if flags.writes() {
            self.writers.fetch_sub(1, Ordering::AcqRel);
        }
        if !self.has_readers() && !self.has_writers() {
            self.forget();
        }
        let hangup = (PollEvents::HUP | PollEvents::ERR | PollEvents::READABLE | PollEvents::WRITABLE).bits();
        self.readable.wake_with(usize::MAX, hangup);
        self.writable.wake_with(usize::MAX, hangup);
    }

    /// Nobody has it open any more: what was not read is gone, also in a FIFO that is opened again.
    fn forget(&self) {
        let mut ring = self.ring.lock();
        if !self.has_readers() && !self.has_writers() {
            ring.clear();
            self.publish(&ring);
        }
    }

    /// Reads what there is, waiting for something unless `nonblocking`; 0 at the end.
    ///
    /// # Errors
    /// `EAGAIN`, `EFAULT`, `ERESTARTSYS`.
    pub fn read(&self, to: &mut dyn IoWriter, nonblocking: bool) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let mut wake_next = false;
        loop {
            let mut ring = self.ring.lock();
            let was_full = ring.is_full();
            let result = drain(&mut ring, to);
            self.publish(&ring);
            let left = !ring.is_empty();
            let freed = was_full && !ring.is_full();
            drop(ring);
            if freed {
                self.wake_writer();
            }
            let got_nothing = matches!(result, Ok(0));
            if !got_nothing || !self.has_writers() {
                if (wake_next || result.is_err()) && left {
                    self.wake_reader();
                }
                return result;
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
            self.readable
                .wait_until_exclusive(WaitKind::Interruptible, None, ready)
                .map_err(|_| Errno::ERESTARTSYS)?;
            wake_next = true;
        }
    }

    /// Writes all of it, waiting for room unless `nonblocking`; gives the bytes written.
    ///
    /// # Errors
    /// `EAGAIN`, `EFAULT`, `ENOMEM`, `EPIPE`, `ERESTARTSYS`.
    pub fn write(&self, from: &mut dyn IoReader, nonblocking: bool, framing: Framing) -> Result<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let mut written = 0;
        let mut wake_next = false;
        let result = loop {
            let mut ring = self.ring.lock();
            let was_empty = ring.is_empty();
            let step = self.fill(&mut ring, from, framing, written == 0);
            self.publish(&ring);
            let full = ring.is_full();
            let woken = was_empty && !ring.is_empty();
            drop(ring);
            if woken {
                self.wake_reader();
            } else if step.is_ok_and(|bytes| bytes > 0) {
                // Nobody sleeps in read(2), but each write is an edge for epoll, and programs count on it.
                self.readable.wake_with(0, PollEvents::READABLE.bits());
            }
            match step {
                Ok(bytes) => written += bytes,
                Err(error) => break Err(error),
            }
            if from.remaining() == 0 {
                wake_next &= !full;
                break Ok(());
            }
            if nonblocking {
                break Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_full() || !self.has_readers()).then_some(());
            if self.writable.wait_until_exclusive(WaitKind::Interruptible, None, ready).is_err() {
                break Err(Errno::ERESTARTSYS);
            }
            wake_next = true;
        };
        if wake_next && !self.is_full() {
            self.wake_writer();
        }
        match result {
            Err(error) if written == 0 => Err(error),
            _ => Ok(written),
        }
    }

    /// Waits until something can be read, or nothing will come any more: splice(2).
    ///
    /// # Errors
    /// `EAGAIN`: `nonblocking`; `ERESTARTSYS`.
    pub fn wait_for_data(&self, nonblocking: bool) -> Result<()> {
        let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
        match ready() {
            None if nonblocking => Err(Errno::EAGAIN),
            None => {
                self.readable.wait_until(WaitKind::Interruptible, None, ready).map_err(|_| Errno::ERESTARTSYS)
            }
            Some(()) => Ok(()),
        }
    }

    /// Waits until something can be written; gives the bytes that fit just now: splice(2).
    ///
    /// # Errors
    /// `EAGAIN`: `nonblocking`; `EPIPE`: nobody reads it; `ERESTARTSYS`.
    pub fn wait_for_room(&self, nonblocking: bool) -> Result<usize> {
        loop {
            if !self.has_readers() {
                return Err(Errno::EPIPE);
            }
            let room = self.ring.lock().room();
            if room > 0 {
                return Ok(room);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_full() || !self.has_readers()).then_some(());
            self.writable.wait_until(WaitKind::Interruptible, None, ready).map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// tee(2): puts up to `count` bytes of what is here into `other` as well, sharing the pages; waits for something to be here
    /// and for room there unless `nonblocking`. Gives the bytes, 0 when nothing will come any more.
    ///
    /// # Errors
    /// `EAGAIN`; `EINVAL`: the same pipe; `EPIPE`: nobody reads the other; `ERESTARTSYS`.
    pub fn tee(&self, other: &Pipe, count: usize, nonblocking: bool) -> Result<usize> {
        if core::ptr::eq(self, other) {
            return Err(Errno::EINVAL);
        }
        loop {
            let (done, source_empty) = {
                // Two rings are locked in the order of their addresses.
                let mut rings = if core::ptr::from_ref(self) < core::ptr::from_ref(other) {
                    let here = self.ring.lock();
                    (here, other.ring.lock())
                } else {
                    let there = other.ring.lock();
                    (self.ring.lock(), there)
                };
                if !other.has_readers() {
                    return Err(Errno::EPIPE);
                }
                let done = rings.0.share(&mut rings.1, count);
                other.publish(&rings.1);
                (done, rings.0.is_empty())
            };
            if done > 0 {
                other.wake_reader();
                return Ok(done);
            }
            if source_empty && !self.has_writers() {
                return Ok(0);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let waited = if source_empty {
                let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
                self.readable.wait_until(WaitKind::Interruptible, None, ready)
            } else {
                let ready = || (!other.is_full() || !other.has_readers()).then_some(());
                other.writable.wait_until(WaitKind::Interruptible, None, ready)
            };
            waited.map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// Puts as much as fits into the ring. `first`: nothing of this write is in it yet.
    fn fill(
        &self,
        ring: &mut MutexGuard<'_, Ring>,
        from: &mut dyn IoReader,
        framing: Framing,
        first: bool,
    ) -> Result<usize> {
        if !self.has_readers() {
            return Err(Errno::EPIPE);
        }
        let mut written = if first && framing == Framing::Stream { ring.merge(from)? } else { 0 };
        while from.remaining() > 0 && !ring.is_full() {
            match ring.push(from, framing) {
                Ok(0) => break,
                Ok(bytes) => written += bytes,
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }
}

/// Takes what there is, up to what `to` has room for, or one packet.
fn drain(ring: &mut Ring, to: &mut dyn IoWriter) -> Result<usize> {
    let mut read = 0;
    while to.remaining() > 0 && !ring.is_empty() {
        match ring.pop(to) {
            Ok((bytes, framing)) => {
                read += bytes;
                if bytes == 0 || framing == Framing::Packets {
                    break;
                }
            }
            Err(error) if read == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(read)
}

/// One open file on a pipe.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    /// A FIFO opened for reading without blocking does not see `POLLHUP` until a writer has come and gone: the value
    /// of `writer_opens` when it was opened; `u64::MAX` when hang-ups are told at once.
    quiet_until: AtomicU64,
}

/// How many opens mean "tell hang-ups at once".
const NOT_QUIET: u64 = u64::MAX;

impl PipeEnd {
    /// An end of `pipe` for a file with these flags; counted until the file is released.
    pub fn new(pipe: &Arc<Pipe>, flags: OpenFlags) -> Arc<Self> {
        pipe.add(flags);
        Arc::new(Self { pipe: pipe.clone(), quiet_until: AtomicU64::new(NOT_QUIET) })
    }

    /// `F_GETPIPE_SZ`: bytes.
    pub fn size(&self) -> usize {
        self.pipe.capacity.load(Ordering::Relaxed) * PAGE_SIZE
    }

    /// `F_SETPIPE_SZ`: at least `size` bytes; gives the size it has then.
    ///
    /// # Errors
    /// `EINVAL`: zero or too great. `EPERM`: above the limit without `CAP_SYS_RESOURCE`. `EBUSY`: more is in it.
    /// `ENOMEM`.
    pub fn set_size(&self, size: usize, credentials: &Credentials) -> Result<usize> {
        let pages = pages_for(size)?;
        let grows = pages > self.pipe.capacity.load(Ordering::Relaxed);
        if grows
            && pages * PAGE_SIZE > max_size()
            && !security::capable_anywhere_above(credentials, Capability::SysResource)
        {
            return Err(Errno::EPERM);
        }
        let mut ring = self.pipe.ring.lock();
        ring.resize(pages)?;
        self.pipe.capacity.store(pages, Ordering::Release);
        drop(ring);
        if grows {
            self.pipe.writable.wake_all();
        }
        Ok(pages * PAGE_SIZE)
    }

    /// What both ends share.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

impl FileOperations for PipeEnd {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        self.pipe.read(to, file.is_nonblocking())
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let flags = file.flags();
        let framing = if flags.contains(OpenFlags::DIRECT) { Framing::Packets } else { Framing::Stream };
        self.pipe.write(from, flags.contains(OpenFlags::NONBLOCK), framing)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes = self.pipe.ring.lock().bytes() as u32;
        machine::user::write_value(argument, &bytes).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }

    fn poll(&self, file: &File, table: &mut PollTable<'_>) -> PollEvents {
        let flags = file.flags();
        let pipe = &self.pipe;
        let mut events = PollEvents::empty();
        if flags.reads() {
            table.register(&pipe.readable);
        }
        if flags.writes() {
            table.register(&pipe.writable);
        }
        if flags.reads() {
            if !pipe.is_empty() {
                events |= PollEvents::READABLE;
            }
            let quiet = pipe.writer_opens.load(Ordering::Acquire) == self.quiet_until.load(Ordering::Relaxed);
            if !pipe.has_writers() && !quiet {
                events |= PollEvents::HUP;
            }
        }
        if flags.writes() {
            if !pipe.is_full() {
                events |= PollEvents::WRITABLE;
            }
            if !pipe.has_readers() {
                events |= PollEvents::ERR;
            }
        }
        events
    }

    fn release(&self, file: &File) {
        self.pipe.remove(file.flags());
    }
}

/// The two ends of a new pipe, for reading and for writing, each counted for a file with these flags (of which
/// `O_NONBLOCK` and `O_DIRECT` matter): pipe2(2).
///
/// # Errors
/// `ENOMEM`.
pub fn create() -> Result<(Arc<PipeEnd>, Arc<PipeEnd>)> {
    let pipe = Pipe::new()?;
    Ok((PipeEnd::new(&pipe, OpenFlags::empty()), PipeEnd::new(&pipe, OpenFlags::WRONLY)))
}

/// Opens a FIFO: fifo(7). Waits for the other side unless `O_NONBLOCK` or opened for both.
///
/// # Errors
/// `ENXIO`: for writing with `O_NONBLOCK`, and nobody reads. `ERESTARTSYS`: a signal came while waiting.
pub fn open_fifo(pipe: &Arc<Pipe>, flags: OpenFlags) -> Result<Arc<PipeEnd>> {
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    if flags.writes() && !flags.reads() && nonblocking && !pipe.has_readers() {
        return Err(Errno::ENXIO);
    }
    let reader_opens = pipe.reader_opens.load(Ordering::Acquire);
    let writer_opens = pipe.writer_opens.load(Ordering::Acquire);
    // Looked at before this end is counted: a partner that waits for it may come and go at once when it is.
    let (has_readers, has_writers) = (pipe.has_readers(), pipe.has_writers());
    let end = PipeEnd::new(pipe, flags);
    let waited = match (flags.reads(), flags.writes()) {
        (true, false) if !has_writers && nonblocking => {
            end.quiet_until.store(writer_opens, Ordering::Relaxed);
            Ok(())
        }
        (true, false) if !has_writers => wait_for_change(&pipe.readable, &pipe.writer_opens, writer_opens),
        (false, true) if !has_readers => wait_for_change(&pipe.writable, &pipe.reader_opens, reader_opens),
        _ => Ok(()),
    };
    match waited {
        Ok(()) => Ok(end),
        Err(error) => {
            pipe.remove(flags);
            Err(error)
        }
    }
}

fn wait_for_change(queue: &WaitQueue, opens: &AtomicU64, before: u64) -> Result<()> {
    let changed = || (opens.load(Ordering::Acquire) != before).then_some(());
    queue.wait_until(WaitKind::Interruptible, None, changed).map_err(|_| Errno::ERESTARTSYS)
}

/// For [`vfs::fifo::register_opener`]: the pipe is kept in the FIFO's inode.
pub(crate) fn open_fifo_file(inode: &Arc<Inode>, file: &File) -> Result<Arc<dyn FileOperations>> {
    if inode.attached_if_any().is_none() {
        let pipe = Pipe::new()?;
        inode.attached(|| pipe);
    }
    let attached = inode.attached_if_any().ok_or(Errno::ENXIO)?.clone();
    let pipe: Arc<Pipe> = attached.downcast().map_err(|_| Errno::ENXIO)?;
    if inode.superblock().magic() == PIPEFS_MAGIC {
        // A pipe without a name, opened through /proc/PID/fd: nobody else is to come, so that there is nobody to wait for.
        return Ok(PipeEnd::new(&pipe, file.flags()));
    }
    let end = open_fifo(&pipe, file.flags())?;
    Ok(end)
}

/// Has FIFOs opened here; once, at boot.
pub fn register_fifos() {
    vfs::fifo::register_opener(open_fifo_file);
}
