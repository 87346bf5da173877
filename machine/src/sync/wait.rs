//! Wait queues: how threads sleep until something is so, without losing a wake-up.
//!
//! Key types: [`WaitQueue`], [`Waiter`] (one thread on one or many queues), [`WakeCallback`] (epoll). Sleeping itself is
//! the scheduler's: [`SleepHooks`].

use alloc::sync::Arc;

use crate::sync::Once;
use crate::thread::KernelThread;

/// What may end a sleep early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// Any signal.
    Interruptible,
    /// Only a fatal signal.
    Killable,
    /// Nothing.
    Uninterruptible,
}

/// Why a park ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// Someone woke the thread (or for no reason).
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal of the kind that may end the sleep is pending.
    Interrupted,
}

/// Why a wait gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// A signal came.
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

/// How threads sleep; the scheduler registers it.
///
/// A thread has one token: [`SleepHooks::wake`] puts it and makes the thread run if it is parked; `park` takes it, waiting
/// for it if it is not there. So a wake between "about to park" and the park is not lost. Spurious returns are allowed.
pub trait SleepHooks: Sync {
    /// Parks the current thread until it is woken, the deadline (of [`crate::time::now_ns`]) passes or a signal of `kind`
    /// is pending. With no deadline passed and a signal pending already, returns at once.
    fn park(&self, deadline_ns: Option<u64>, kind: WaitKind) -> WakeReason;
    /// Wakes a thread. Any context, interrupts off, under a wait queue's lock: must not sleep, nor wake through a queue.
    fn wake(&self, thread: &KernelThread);
}

static SLEEP_HOOKS: Once<&'static dyn SleepHooks> = Once::new();

/// Sets the hooks; once. A second call is ignored and gives `false`.
pub fn register_sleep_hooks(hooks: &'static dyn SleepHooks) -> bool {
    SLEEP_HOOKS.set(hooks).is_ok()
}

/// Threads (and callbacks) that wait for something. Usable from interrupts; the wakers hold no lock of it afterwards.
pub struct WaitQueue {
    _todo: (),
}

impl WaitQueue {
    /// An empty queue.
    #[track_caller]
    pub const fn new() -> WaitQueue {
        WaitQueue { _todo: () }
    }

    /// Sleeps until `condition` gives a value. The condition is evaluated before sleeping and after each wake-up, always
    /// with the thread queued, so that a wake-up that follows the change is not lost. A condition that holds wins over a
    /// signal or deadline.
    pub fn wait_until<R>(
        &self,
        kind: WaitKind,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        let _ = (kind, deadline_ns, condition);
        todo!()
    }

    /// The same, queued exclusively: [`WaitQueue::wake_one`] wakes one such waiter only (and all the others).
    pub fn wait_until_exclusive<R>(
        &self,
        kind: WaitKind,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        let _ = (kind, deadline_ns, condition);
        todo!()
    }

    /// Wakes all non-exclusive waiters and one exclusive one; runs all callbacks.
    pub fn wake_one(&self) {
        self.wake_n(1);
    }

    /// Wakes everyone.
    pub fn wake_all(&self) {
        self.wake_n(usize::MAX);
    }

    /// Wakes all non-exclusive waiters and `count` exclusive ones. Cheap when nobody waits.
    pub fn wake_n(&self, count: usize) {
        self.wake_with(count, 0);
    }

    /// The same with a word for the callbacks (poll's events).
    pub fn wake_with(&self, count: usize, events: u32) {
        let _ = (count, events);
        todo!()
    }

    /// Whether anybody waits (a hint).
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Calls `callback` at each wake-up until the registration is dropped.
    pub fn add_callback(self: &Arc<Self>, callback: Arc<dyn WakeCallback>) -> Registration {
        let _ = callback;
        todo!()
    }
}

impl Default for WaitQueue {
    #[track_caller]
    fn default() -> Self {
        WaitQueue::new()
    }
}

/// Called when a queue is woken: any context, with the queue's lock held: must not use that queue, nor sleep.
pub trait WakeCallback: Send + Sync {
    /// The queue was woken with these events (0 = unknown).
    fn wake(&self, events: u32);
}

/// A callback's place on a queue; dropping it takes it off (afterwards the callback does not run any more).
pub struct Registration {
    queue: Arc<WaitQueue>,
}

impl Registration {
    /// The queue it is on.
    pub fn queue(&self) -> &Arc<WaitQueue> {
        &self.queue
    }
}

/// One thread that waits on any number of queues at once (poll, select).
pub struct Waiter {
    _queues: core::marker::PhantomData<*mut ()>,
}

impl Waiter {
    /// A waiter for the current thread, on no queue.
    pub fn new() -> Waiter {
        Waiter { _queues: core::marker::PhantomData }
    }

    /// Puts it on a queue, until it is dropped.
    pub fn add(&mut self, queue: Arc<WaitQueue>) -> Result<(), crate::memory::OutOfMemory> {
        let _ = queue;
        todo!()
    }

    /// Sleeps until one of the queues is woken (also if that happened since the last wait, or since `add`). `Ok` may be
    /// spurious: check and wait again.
    pub fn wait(&mut self, kind: WaitKind, deadline_ns: Option<u64>) -> Result<(), WaitError> {
        let _ = (kind, deadline_ns);
        todo!()
    }
}
