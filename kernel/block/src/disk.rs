//! A disk: its driver, its queues, and the way of requests through them.
//!
//! Key type: [`Disk`]. A request comes from [`BlockDevice::submit`](crate::BlockDevice::submit) or a plug, waits in the scheduler
//! (`mq-deadline`: one for the disk; `none`: in the order of coming, in the queue of the CPU that submitted it), and goes to the driver when
//! that has room. Each queue is worked off by one CPU at a time, which also does what others put there meanwhile, so that
//! no lock is held while the driver is called: a driver may complete at once, in an interrupt, or call back.
//!
//! Locks: each queue has one, and the scheduler has one; both leaves, usable in interrupts. Neighbours: `flush` (order), `merge`.

use crate::bio::{BioFlags, Operation};
use crate::deadline::Deadline;
use crate::driver::{Driver, Limits, Request};
use crate::flush::FlushQueue;
use crate::{SECTOR_SIZE, merge};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use machine::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};
use machine::{PAGE_SIZE, cpu, preempt};
use sched::timer::{Timer, TimerAction, TimerCallback};

/// How many requests the driver is given before it is told.
const DISPATCH_BATCH: usize = 32;
/// With how many of the last that wait a new one may be merged.
const MERGE_WITH_LAST: usize = 8;
/// How many requests wait at first before submitters do (Linux's `nr_requests`).
const DEFAULT_MAX_WAITING: usize = 256;
/// After so long a queue that was full is tried again even if its driver has said nothing.
const RETRY_NS: u64 = 50_000_000;
/// So often somebody who waits for the last transfers of a disk looks whether it is still there.
const PRESENCE_NS: u64 = 100_000_000;

/// In which order requests go to the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Scheduler {
    /// In the order of coming.
    None = 0,
    /// By place, within deadlines.
    MqDeadline = 1,
}

impl Scheduler {
    /// Its name in `queue/scheduler`.
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::None => "none",
            Scheduler::MqDeadline => "mq-deadline",
        }
    }
}

/// What goes to one queue of the driver.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    /// A CPU works it off.
    running: bool,
    /// It must look once more.
    again: bool,
    /// The driver had no room, and has not said yet that it has.
    full: bool,
}

/// The number of the next disk.
static NEXT_SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// A device with its driver.
pub struct Disk {
    name: String,
    driver: Arc<dyn Driver>,
    limits: Limits,
    /// The two sizes of its limits, which alone can change: [`Disk::set_block_size`].
    block_size: AtomicU32,
    sectors: AtomicU64,
    read_only: AtomicBool,
    gone: AtomicBool,
    queues: Box<[IrqSpinLock<Queue>]>,
    scheduler: AtomicU8,
    deadline: IrqSpinLock<Deadline>,
    pub(crate) flushes: FlushQueue,
    max_waiting: AtomicUsize,
    /// How many have not gone to the driver yet.
    waiting: AtomicUsize,
    /// How many the driver has.
    dispatched: AtomicUsize,
    /// Woken when one has completed.
    progress: WaitQueue,
    /// Looks again at queues whose driver had no room and has not said since that it has: an idle driver never does. None: no memory for it.
    retry: Option<Timer>,
    merges: AtomicBool,
    sequence: u64,
    pub(crate) claims: crate::claim::Claims,
    pub(crate) registration: crate::registry::Registration,
}

impl Disk {
    /// A disk of `sectors` sectors, not known to anybody yet.
    pub fn new(name: String, driver: Arc<dyn Driver>, sectors: u64, read_only: bool) -> Arc<Disk> {
        let limits = driver.limits();
        let queues = (0..driver.queues().max(1)).map(|_| IrqSpinLock::new(Queue::default())).collect();
        let block_size = AtomicU32::new(limits.logical_block_size);
        Arc::new_cyclic(|own: &Weak<Disk>| Disk {
            name,
            driver,
            limits,
            block_size,
            sectors: AtomicU64::new(sectors),
            read_only: AtomicBool::new(read_only),
            gone: AtomicBool::new(false),
            queues,
            scheduler: AtomicU8::new(Scheduler::None as u8),
            deadline: IrqSpinLock::new(Deadline::default()),
            flushes: FlushQueue::new(),
            max_waiting: AtomicUsize::new(DEFAULT_MAX_WAITING),
            waiting: AtomicUsize::new(0),
            dispatched: AtomicUsize::new(0),
            progress: WaitQueue::new(),
            retry: Timer::new(Arc::new(Retry(own.clone()))).ok(),
            merges: AtomicBool::new(true),
            sequence: NEXT_SEQUENCE.fetch_add(1, Ordering::Relaxed),
            claims: crate::claim::Claims::new(),
            registration: crate::registry::Registration::new(),
        })
    }

    /// Its name, as in `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its driver.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// What it can do.
    pub fn limits(&self) -> Limits {
        let logical = self.block_size.load(Ordering::Relaxed);
        if logical == self.limits.logical_block_size {
            return self.limits;
        }
        Limits { logical_block_size: logical, physical_block_size: logical, ..self.limits }
    }

    /// It has blocks of another size from now on, both logical and physical: what a loop device can be told. Nothing is under way, and
    /// its cache has been written. Errors: `EINVAL`: no power of two from 512 to a page.
    pub fn set_block_size(&self, bytes: u32) -> Result<()> {
        if !bytes.is_power_of_two() || bytes < SECTOR_SIZE as u32 || bytes > PAGE_SIZE as u32 {
            return Err(Errno::EINVAL);
        }
        self.block_size.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A number that no other disk ever has.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many queues its driver has.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// How many sectors it has now.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// Whether the device itself cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Says whether the device itself cannot be written.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    pub(crate) fn store_sectors(&self, sectors: u64) {
        self.sectors.store(sectors, Ordering::Release);
    }

    /// Whether it has been taken away.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Which scheduler it has.
    pub fn scheduler(&self) -> Scheduler {
        if self.scheduler.load(Ordering::Acquire) == Scheduler::None as u8 {
            Scheduler::None
        } else {
            Scheduler::MqDeadline
        }
    }

    /// Gives it another scheduler. What waits goes on under the new one, or before it.
    pub fn set_scheduler(&self, scheduler: Scheduler) {
        let mut deadline = self.deadline.lock();
        self.scheduler.store(scheduler as u8, Ordering::Release);
        if scheduler == Scheduler::MqDeadline {
            return;
        }
        let mut rest = VecDeque::new();
        while let Some(request) = deadline.next(u64::MAX) {
            rest.push_back(request);
        }
        drop(deadline);
        if let Some(queue) = self.queues.first() {
            queue.lock().waiting.append(&mut rest);
        }
        self.run_queue(0);
    }

    /// How many requests may wait before those who submit more do.
    pub fn max_waiting(&self) -> usize {
        self.max_waiting.load(Ordering::Relaxed)
    }

    /// Sets it (`queue/nr_requests`).
    pub fn set_max_waiting(&self, count: usize) {
        self.max_waiting.store(count.max(4), Ordering::Relaxed);
    }

    /// Whether neighbours are made one request (`queue/nomerges` says that they are not).
    pub fn merges(&self) -> bool {
        self.merges.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_merges(&self, merges: bool) {
        self.merges.store(merges, Ordering::Relaxed);
    }

    /// Waits, if the caller can, while too much waits already. Errors: `EAGAIN` for what may fail.
    pub(crate) fn throttle(&self, flags: BioFlags) -> Result<()> {
        let has_room = || self.waiting.load(Ordering::Relaxed) < self.max_waiting() || self.is_gone();
        if has_room() {
            return Ok(());
        }
        if flags.contains(BioFlags::READ_AHEAD) {
            return Err(Errno::EAGAIN);
        }
        if preempt::may_sleep() {
            let _ = self.progress.wait_until(WaitKind::Uninterruptible, None, || has_room().then_some(()));
        }
        Ok(())
    }

    /// The driver's queue for requests of this CPU.
    fn local_queue(&self) -> usize {
        cpu::current().index() % self.queues.len()
    }

    /// Puts a request where the scheduler wants it, and says for which queue of the driver: [`Self::work_off_submitted`] must follow for
    /// it, not for that of the CPU that the thread is on by then.
    pub(crate) fn insert(&self, request: Request) -> usize {
        let queue = self.local_queue();
        if self.is_gone() {
            request.complete(Err(Errno::EIO));
            return queue;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let may_merge = merge::is_mergeable(request.operation, request.flags) && self.merges();
        let inserted = match self.insert_sorted(request, may_merge) {
            Err(request) => self.append(queue, request, may_merge),
            Ok(inserted) => inserted,
        };
        if inserted == Inserted::Gone {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        queue
    }

    /// Gives a request to `mq-deadline`. Gives it back if that is not for it.
    fn insert_sorted(&self, request: Request, may_merge: bool) -> core::result::Result<Inserted, Request> {
        if !may_merge || self.scheduler() == Scheduler::None {
            return Err(request);
        }
        let mut deadline = self.deadline.lock();
        // Looked at again: it changes under this lock.
        if self.scheduler() == Scheduler::None {
            return Err(request);
        }
        let before = deadline.len();
        deadline.insert(request)?;
        Ok(if deadline.len() == before { Inserted::Gone } else { Inserted::Waits })
    }

    /// To the end of a queue.
    fn append(&self, queue: usize, mut request: Request, may_merge: bool) -> Inserted {
        let Some(queue) = self.queues.get(queue) else { return Inserted::Gone };
        let mut queue = queue.lock();
        if may_merge {
            let mut last = queue.waiting.iter_mut().rev().take(MERGE_WITH_LAST);
            if let Some(known) = last.find(|known| merge::are_neighbours(known, &request)) {
                match merge::merge(known, request) {
                    Ok(()) => return Inserted::Gone,
                    Err(back) => request = back,
                }
            }
        }
        if queue.waiting.try_reserve(1).is_err() {
            drop(queue);
            request.complete(Err(Errno::ENOMEM));
            return Inserted::Gone;
        }
        queue.waiting.push_back(request);
        Inserted::Waits
    }

    /// The request that is next for a queue.
    fn next(&self, queue: &IrqSpinLock<Queue>) -> Option<Request> {
        let first = queue.lock().waiting.pop_front();
        let request = match first {
            None if self.scheduler() == Scheduler::MqDeadline => {
                self.deadline.lock().next(machine::time::now_ns())
            }
            first => first,
        }?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(request)
    }

    /// Gives the driver what waits for one of its queues, unless it has no room.
    pub(crate) fn work_off_submitted(&self, queue: usize) {
        self.work_off(queue, Caller::Submitter);
    }

    /// The driver has room in a queue again. Any context; the caller holds no lock that [`Driver::queue`] takes.
    pub fn run_queue(&self, queue: usize) {
        self.work_off(queue, Caller::Driver);
    }

    fn work_off(&self, index: usize, caller: Caller) {
        let Some(queue) = self.queues.get(index) else { return };
        {
            let mut state = queue.lock();
            if caller == Caller::Submitter && state.full {
                return;
            }
            if state.running {
                state.again = true;
                return;
            }
            (state.running, state.full) = (true, false);
        }
        loop {
            let outcome = self.dispatch(index, queue);
            let mut state = queue.lock();
            if outcome == Dispatched::More || core::mem::take(&mut state.again) {
                continue;
            }
            (state.running, state.full) = (false, outcome == Dispatched::Full);
            drop(state);
            // Without a scheduler (a test of the host's) there are no timers.
            if outcome == Dispatched::Full
                && sched::thread::try_current().is_some()
                && let Some(retry) = self.retry.as_ref().filter(|retry| retry.deadline_ns().is_none())
            {
                retry.arm(machine::time::now_ns().saturating_add(RETRY_NS));
            }
            return;
        }
    }

    /// Gives the driver a batch.
    fn dispatch(&self, index: usize, queue: &IrqSpinLock<Queue>) -> Dispatched {
        let _guard = preempt::disable();
        let mut outcome = Dispatched::More;
        let mut given = 0;
        while given < DISPATCH_BATCH {
            let Some(mut request) = self.next(queue) else {
                outcome = Dispatched::All;
                break;
            };
            if self.is_gone() {
                request.complete(Err(Errno::EIO));
                continue;
            }
            if let Some(owner) = &mut request.owner {
                owner.dispatched = true;
            }
            self.dispatched.fetch_add(1, Ordering::AcqRel);
            match self.driver.queue(index, request) {
                Ok(()) => given += 1,
                Err(request) => {
                    self.put_back(queue, request);
                    outcome = Dispatched::Full;
                    break;
                }
            }
        }
        if given > 0 {
            self.driver.kick(index);
        }
        outcome
    }

    /// The driver has given a request back that it had.
    pub(crate) fn requeue(&self, request: Request) {
        let index = self.local_queue();
        if let Some(queue) = self.queues.get(index) {
            self.put_back(queue, request);
            self.run_queue(index);
        }
    }

    /// The driver had no room for it after all.
    fn put_back(&self, queue: &IrqSpinLock<Queue>, mut request: Request) {
        if let Some(owner) = &mut request.owner {
            owner.dispatched = false;
        }
        self.dispatched.fetch_sub(1, Ordering::AcqRel);
        let may_merge = merge::is_mergeable(request.operation, request.flags) && self.merges();
        let request = match self.insert_sorted(request, may_merge) {
            Ok(Inserted::Gone) => return,
            Ok(Inserted::Waits) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(request) => request,
        };
        let mut queue = queue.lock();
        if queue.waiting.try_reserve(1).is_ok() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            return queue.waiting.push_front(request);
        }
        drop(queue);
        request.complete(Err(Errno::ENOMEM));
    }

    /// A request has completed. Any context.
    pub(crate) fn note_completed(&self, was_dispatched: bool) {
        if was_dispatched {
            self.dispatched.fetch_sub(1, Ordering::AcqRel);
        }
        if !self.progress.is_empty() {
            self.progress.wake_all();
        }
    }

    /// It has been taken away: what waits fails with `EIO`, and so does what comes; what the driver has is the driver's to complete.
    /// Waits until that has happened, or the device is not there any more. Thread context.
    pub(crate) fn shut_down(&self) {
        self.gone.store(true, Ordering::Release);
        for queue in 0..self.queues.len() {
            self.run_queue(queue);
        }
        let is_idle = || (self.dispatched.load(Ordering::Acquire) == 0).then_some(());
        while self.driver.is_present() {
            let look_again = machine::time::now_ns().saturating_add(PRESENCE_NS);
            if self.progress.wait_until(WaitKind::Uninterruptible, Some(look_again), is_idle).is_ok() {
                return;
            }
        }
    }

    /// How a device without these operations is told apart. `EOPNOTSUPP`: it cannot do that.
    pub(crate) fn check_supported(&self, operation: Operation) -> Result<()> {
        let supported = match operation {
            Operation::Discard => self.limits.max_discard_sectors > 0,
            Operation::WriteZeroes => self.limits.max_write_zeroes_sectors > 0,
            Operation::Read | Operation::Write | Operation::Flush => true,
        };
        if supported { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }
}

/// The callback of a disk's timer.
struct Retry(Weak<Disk>);

impl TimerCallback for Retry {
    fn expire(&self, _now_ns: u64) -> TimerAction {
        if let Some(disk) = self.0.upgrade() {
            for (index, queue) in disk.queues.iter().enumerate() {
                let full = queue.lock().full;
                if full {
                    disk.run_queue(index);
                }
            }
        }
        TimerAction::Done
    }
}

/// Who has a queue worked off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Submitter,
    Driver,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inserted {
    Waits,
    /// It has become part of another, or has failed.
    Gone,
}

/// How far a dispatch came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dispatched {
    /// There may be more.
    More,
    /// Nothing is left.
    All,
    /// The driver has no room.
    Full,
}
