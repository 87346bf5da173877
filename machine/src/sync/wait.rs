//! Wait queues: how threads sleep until something is so, without losing a wake-up.
//!
//! Key types: [`WaitQueue`], [`Waiter`] (one thread on one or many queues), [`WakeCallback`] (epoll). Sleeping itself is
//! the scheduler's: [`SleepHooks`]. A waiter queues first and looks at the condition then; a waker changes the condition
//! first and looks at the queue then; a fence on each side makes one see the other.
//!
//! Locks: one spin lock per queue, interrupts off; wakers call the scheduler and callbacks under it.
//!
//! # Invariants
//! A node is on at most one queue, and stays where it is in memory while it is: on the stack of a thread that is not
//! freed before it has left (see [`crate::thread`]), or in a box.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use super::class::{self, LockClass};
use super::spin::IrqSpinLock;
use super::words::Handshake;
use crate::arch;
use crate::memory::{OutOfMemory, try_arc, try_box};
use crate::sync::Once;
use crate::thread::{self, KernelThread};

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

/// Parks the current thread; before there is a scheduler (early boot, simple host tests) just lets time pass.
fn park(deadline_ns: Option<u64>, kind: WaitKind) -> WakeReason {
    match SLEEP_HOOKS.get() {
        Some(hooks) if !thread::current_pointer().is_null() => hooks.park(deadline_ns, kind),
        _ => {
            arch::relax();
            match deadline_ns {
                Some(deadline) if crate::time::now_ns() >= deadline => WakeReason::TimedOut,
                _ => WakeReason::Woken,
            }
        }
    }
}

/// Sleeps for about that long.
pub(crate) fn nap(nanoseconds: u64) {
    park(Some(crate::time::now_ns().saturating_add(nanoseconds)), WaitKind::Uninterruptible);
}

/// Wakes a thread, or does nothing for one that only spins in [`park`].
///
/// # Safety
/// The pointer is null or the thread is alive.
unsafe fn wake_thread(thread: *const KernelThread) {
    // SAFETY: the caller's contract.
    if let (Some(hooks), Some(thread)) = (SLEEP_HOOKS.get(), unsafe { thread.as_ref() }) {
        hooks.wake(thread);
    }
}

/// Whether a waiter is woken with others or alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    All,
    Exclusive,
}

enum Target {
    Thread(*const KernelThread, Share),
    Waiter(Arc<WaiterShared>),
    Callback(Arc<dyn WakeCallback>),
}

struct Node {
    next: Cell<*mut Node>,
    previous: Cell<*mut Node>,
    target: Target,
    /// A wake-up has reached it since its thread last looked at the condition.
    woken: AtomicBool,
}

impl Node {
    fn new(target: Target) -> Node {
        Node {
            next: Cell::new(null_mut()),
            previous: Cell::new(null_mut()),
            target,
            woken: AtomicBool::new(false),
        }
    }
}

struct Links {
    first: *mut Node,
    last: *mut Node,
}

// SAFETY: the nodes are shared under the queue's lock only.
unsafe impl Send for Links {}

/// Threads (and callbacks) that wait for something. Usable from interrupts.
pub struct WaitQueue {
    links: IrqSpinLock<Links>,
    waiters: Handshake,
}

impl WaitQueue {
    /// An empty queue.
    #[track_caller]
    pub const fn new() -> WaitQueue {
        WaitQueue {
            links: IrqSpinLock::new(Links { first: null_mut(), last: null_mut() }),
            waiters: Handshake::new(),
        }
    }

    /// An empty queue of a named lock class.
    pub const fn new_class(class: &'static LockClass) -> WaitQueue {
        WaitQueue {
            links: IrqSpinLock::new_class(Links { first: null_mut(), last: null_mut() }, class),
            waiters: Handshake::new(),
        }
    }

    /// Sleeps until `condition` gives a value. The condition is evaluated before sleeping and after each wake-up, always
    /// with the thread queued, so that a wake-up that follows the change is not lost. A condition that holds wins over a
    /// signal or deadline.
    #[inline]
    #[track_caller]
    pub fn wait_until<R>(
        &self,
        kind: WaitKind,
        deadline_ns: Option<u64>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        match condition() {
            Some(result) => Ok(result),
            None => self.wait_queued(Share::All, kind, deadline_ns, condition),
        }
    }

    /// The same, queued exclusively: [`WaitQueue::wake_one`] wakes one such waiter only (and all the others).
    #[inline]
    #[track_caller]
    pub fn wait_until_exclusive<R>(
        &self,
        kind: WaitKind,
        deadline_ns: Option<u64>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        match condition() {
            Some(result) => Ok(result),
            None => self.wait_queued(Share::Exclusive, kind, deadline_ns, condition),
        }
    }

    #[track_caller]
    fn wait_queued<R>(
        &self,
        share: Share,
        kind: WaitKind,
        deadline_ns: Option<u64>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        class::check_may_sleep();
        let node = Node::new(Target::Thread(thread::current_pointer(), share));
        // Shadowed: the node cannot be moved any more.
        let node = core::pin::pin!(node);
        let node = node.as_ref().get_ref();
        // SAFETY: the node is pinned on this stack; `queued` takes it off before this function ends, and the thread is
        // not freed before it has.
        let queued = unsafe { Queued::new(self, node) };
        loop {
            node.woken.store(false, Ordering::Relaxed);
            Handshake::before_condition();
            if let Some(result) = condition() {
                return Ok(result);
            }
            if node.woken.load(Ordering::Acquire) {
                continue;
            }
            let error = match park(deadline_ns, kind) {
                WakeReason::Woken => continue,
                WakeReason::TimedOut => WaitError::TimedOut,
                WakeReason::Interrupted => WaitError::Interrupted,
            };
            let result = condition().ok_or(error);
            drop(queued);
            return result;
        }
    }

    /// Wakes all non-exclusive waiters and one exclusive one; runs all callbacks.
    #[inline]
    pub fn wake_one(&self) {
        self.wake_with(1, 0);
    }

    /// Wakes everyone.
    #[inline]
    pub fn wake_all(&self) {
        self.wake_with(usize::MAX, 0);
    }

    /// Wakes all non-exclusive waiters and `count` exclusive ones. Cheap when nobody waits.
    #[inline]
    pub fn wake_n(&self, count: usize) {
        self.wake_with(count, 0);
    }

    /// The same with a word for the callbacks (poll's events).
    #[inline]
    pub fn wake_with(&self, count: usize, events: u32) {
        if self.waiters.has_waiters_after_change() {
            self.wake_queued(count, events);
        }
    }

    #[inline(never)]
    fn wake_queued(&self, mut count: usize, events: u32) {
        let links = self.links.lock();
        let mut next = links.first;
        while !next.is_null() {
            // SAFETY: nodes on the queue are valid while its lock is held.
            let node = unsafe { &*next };
            next = node.next.get();
            match &node.target {
                Target::Thread(thread, share) => {
                    if *share == Share::Exclusive {
                        if count == 0 || node.woken.load(Ordering::Relaxed) {
                            continue;
                        }
                        count -= 1;
                    }
                    node.woken.store(true, Ordering::Release);
                    // SAFETY: a thread does not end while its node is queued.
                    unsafe { wake_thread(*thread) };
                }
                Target::Waiter(waiter) => waiter.wake(),
                Target::Callback(callback) => callback.wake(events),
            }
        }
    }

    /// Whether anybody waits (a hint).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiters.count() == 0
    }

    /// Calls `callback` at each wake-up until the registration is dropped.
    pub fn add_callback(
        self: &Arc<Self>,
        callback: Arc<dyn WakeCallback>,
    ) -> Result<Registration, OutOfMemory> {
        Ok(Registration { place: Place::new(self.clone(), Target::Callback(callback))? })
    }

    /// # Safety
    /// The node is on no queue, and stays valid and in its place until it is taken off.
    unsafe fn link(&self, node: &Node) {
        let pointer = core::ptr::from_ref(node).cast_mut();
        let mut links = self.links.lock();
        node.previous.set(links.last);
        if links.last.is_null() {
            links.first = pointer;
        } else {
            // SAFETY: nodes on the queue are valid while its lock is held.
            unsafe { (*links.last).next.set(pointer) };
        }
        links.last = pointer;
        self.waiters.join();
    }

    /// # Safety
    /// The node is on this queue.
    unsafe fn unlink(&self, node: &Node) {
        let mut links = self.links.lock();
        let (next, previous) = (node.next.get(), node.previous.get());
        // SAFETY: nodes on the queue are valid while its lock is held.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => links.first = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => links.last = previous,
            }
        }
        self.waiters.leave();
    }
}

impl Default for WaitQueue {
    #[track_caller]
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WaitQueue({} waiting)", self.waiters.count())
    }
}

/// A node on a queue; takes it off again.
struct Queued<'a> {
    queue: &'a WaitQueue,
    node: &'a Node,
    _pin: thread::StackPin,
}

impl<'a> Queued<'a> {
    /// # Safety
    /// The node stays valid and in its place until the value is dropped, which happens before the thread ends.
    unsafe fn new(queue: &'a WaitQueue, node: &'a Node) -> Queued<'a> {
        let pin = thread::StackPin::new();
        // SAFETY: the caller's contract; `drop` takes it off.
        unsafe { queue.link(node) };
        Queued { queue, node, _pin: pin }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        // SAFETY: it was put on in `new`.
        unsafe { self.queue.unlink(self.node) };
        // A wake-up that came after the last look at the condition may have been meant for somebody: pass it on.
        if matches!(self.node.target, Target::Thread(_, Share::Exclusive))
            && self.node.woken.load(Ordering::Acquire)
        {
            self.queue.wake_one();
        }
    }
}

/// Called when a queue is woken: any context, with the queue's lock held: must not use that queue, nor sleep.
pub trait WakeCallback: Send + Sync {
    /// The queue was woken with these events (0 = unknown).
    fn wake(&self, events: u32);
}

/// A boxed node on a queue that is kept alive.
struct Place {
    queue: Arc<WaitQueue>,
    node: *mut Node,
}

// SAFETY: the node is only touched under the queue's lock; what it holds is `Send` and `Sync`.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    fn new(queue: Arc<WaitQueue>, target: Target) -> Result<Place, OutOfMemory> {
        let node = Box::into_raw(try_box(Node::new(target)).map_err(|_| OutOfMemory)?);
        // SAFETY: the box stays until `drop`, which takes the node off.
        unsafe { queue.link(&*node) };
        Ok(Place { queue, node })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: the node was made and put on the queue in `new`; nobody has it once it is off.
        unsafe {
            self.queue.unlink(&*self.node);
            drop(Box::from_raw(self.node));
        }
    }
}

/// A callback's place on a queue; dropping it takes it off (afterwards the callback does not run any more).
pub struct Registration {
    place: Place,
}

impl Registration {
    /// The queue it is on.
    pub fn queue(&self) -> &Arc<WaitQueue> {
        &self.place.queue
    }
}

impl core::fmt::Debug for Registration {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Registration")
    }
}

struct WaiterShared {
    thread: Option<Arc<KernelThread>>,
    triggered: AtomicBool,
}

impl WaiterShared {
    fn wake(&self) {
        self.triggered.store(true, Ordering::Release);
        let thread = self.thread.as_ref().map_or(core::ptr::null(), Arc::as_ptr);
        // SAFETY: the thread is counted here.
        unsafe { wake_thread(thread) };
    }
}

/// One thread that waits on any number of queues at once (poll, select).
pub struct Waiter {
    shared: Arc<WaiterShared>,
    places: Vec<Place>,
    _not_send: PhantomData<*mut ()>,
}

impl Waiter {
    /// A waiter for the current thread, on no queue.
    pub fn new() -> Result<Waiter, OutOfMemory> {
        let shared = try_arc(WaiterShared { thread: thread::current(), triggered: AtomicBool::new(false) })?;
        Ok(Waiter { shared, places: Vec::new(), _not_send: PhantomData })
    }

    /// Puts it on a queue, until it is dropped or cleared.
    pub fn add(&mut self, queue: Arc<WaitQueue>) -> Result<(), OutOfMemory> {
        self.places.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.places.push(Place::new(queue, Target::Waiter(self.shared.clone()))?);
        // The node first, then whatever the caller looks at.
        Handshake::before_condition();
        Ok(())
    }

    /// Takes it off all queues.
    pub fn clear(&mut self) {
        self.places.clear();
    }

    /// On how many queues it is.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it is on no queue.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Sleeps until one of the queues is woken (also if that happened since the last wait, or since `add`). `Ok` may be
    /// spurious: check and wait again.
    #[track_caller]
    pub fn wait(&mut self, kind: WaitKind, deadline_ns: Option<u64>) -> Result<(), WaitError> {
        class::check_may_sleep();
        loop {
            if self.shared.triggered.swap(false, Ordering::SeqCst) {
                return Ok(());
            }
            match park(deadline_ns, kind) {
                WakeReason::Woken => {}
                WakeReason::TimedOut => return Err(WaitError::TimedOut),
                WakeReason::Interrupted => return Err(WaitError::Interrupted),
            }
        }
    }
}

impl core::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Waiter({} queues)", self.places.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    #[test]
    fn wakes_across_threads() {
        let queue = Arc::new(WaitQueue::new());
        let ready = Arc::new(AtomicBool::new(false));
        let waker = {
            let (queue, ready) = (queue.clone(), ready.clone());
            std::thread::spawn(move || {
                ready.store(true, Ordering::Release);
                queue.wake_all();
            })
        };
        let result =
            queue.wait_until(WaitKind::Uninterruptible, None, || ready.load(Ordering::Acquire).then_some(7));
        assert_eq!(result, Ok(7));
        waker.join().unwrap();
        assert!(queue.is_empty());
    }

    #[test]
    fn times_out() {
        let queue = WaitQueue::new();
        let deadline = crate::time::now_ns() + 1000;
        let result = queue.wait_until(WaitKind::Killable, Some(deadline), || None::<()>);
        assert_eq!(result, Err(WaitError::TimedOut));
    }

    #[test]
    fn callbacks_run_until_dropped() {
        struct Count(AtomicUsize);
        impl WakeCallback for Count {
            fn wake(&self, events: u32) {
                self.0.fetch_add(events as usize, Ordering::Relaxed);
            }
        }
        let queue = Arc::new(WaitQueue::new());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let registration = queue.add_callback(count.clone()).unwrap();
        queue.wake_with(1, 5);
        drop(registration);
        queue.wake_with(1, 5);
        assert_eq!(count.0.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn waiter_on_many_queues() {
        let queues: Vec<_> = (0..3).map(|_| Arc::new(WaitQueue::new())).collect();
        let mut waiter = Waiter::new().unwrap();
        for queue in &queues {
            waiter.add(queue.clone()).unwrap();
        }
        queues[1].wake_one();
        assert_eq!(waiter.wait(WaitKind::Interruptible, None), Ok(()));
        let soon = crate::time::now_ns() + 1000;
        assert_eq!(waiter.wait(WaitKind::Interruptible, Some(soon)), Err(WaitError::TimedOut));
        drop(waiter);
        assert!(queues.iter().all(|queue| queue.is_empty()));
    }
}
