//! Who waits at which futex word: hashed buckets of sorted waiters.
//!
//! A bucket is a spin lock around a [`Tree`] sorted by key, then urgency, then turn; so colliding keys cost a step of
//! a search, not a walk, and real-time threads are woken first. The node of a waiter is allocated before the lock is
//! taken. A waiter can be moved to another key (requeue): `place` says where it is, and is only changed under the
//! locks of both buckets.
//!
//! No lost wake-ups: the futex word is read under the bucket's lock, after which the waiter is queued; a waker
//! changes the word first and then takes the lock.
//!
//! Locks: buckets in order of their index, then a waiter's `place`. Threads are woken after the locks are released.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::errno::{Errno, Result};
use machine::sync::{Once, SpinLock, SpinLockGuard, WaitKind, WakeReason};
use mm::FutexKey;
use sched::Thread;
use sched::tree::{Item, Node, Pile, Tree};

/// Where a waiter is queued.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) key: FutexKey,
    /// 99 - real-time priority: the most urgent first.
    patience: u8,
    turn: u64,
}

impl Place {
    fn first_of(key: FutexKey) -> Self {
        Self { key, patience: 0, turn: 0 }
    }

    fn after(self) -> Self {
        Self { turn: self.turn + 1, ..self }
    }
}

const WAITING: u32 = 0;

/// One thread that waits, at one word (futex_waitv has one for each).
pub(crate) struct Waiter {
    thread: Arc<Thread>,
    /// [`WAITING`], or what it was woken with.
    state: AtomicU32,
    place: SpinLock<Place>,
    /// The lock it will wait for (`FUTEX_WAIT_REQUEUE_PI`), and the id that stands for it there.
    lock: Option<(FutexKey, u32)>,
}

impl Waiter {
    pub(crate) fn new(key: FutexKey) -> Arc<Self> {
        Self::with_lock(key, None)
    }

    /// One that waits until it is moved to the lock at `lock`, which will know it as `id`.
    pub(crate) fn for_lock(key: FutexKey, lock: FutexKey, id: u32) -> Arc<Self> {
        Self::with_lock(key, Some((lock, id)))
    }

    fn with_lock(key: FutexKey, lock: Option<(FutexKey, u32)>) -> Arc<Self> {
        Arc::new(Self {
            thread: sched::current_arc(),
            state: AtomicU32::new(WAITING),
            place: SpinLock::new(Place::first_of(key)),
            lock,
        })
    }

    /// The id it is known by at its lock.
    pub(crate) fn lock_id(&self) -> u32 {
        self.lock.map_or(0, |(_, id)| id)
    }

    pub(crate) fn thread(&self) -> &Arc<Thread> {
        &self.thread
    }

    /// What it was woken with; `None` while it waits.
    pub(crate) fn woken_with(&self) -> Option<u32> {
        match self.state.load(Ordering::Acquire) {
            WAITING => None,
            value => Some(value),
        }
    }

    /// Ends the wait. Once it is out of every queue.
    pub(crate) fn wake(&self, value: u32) {
        self.state.store(value, Ordering::Release);
        self.thread.wake_with(sched::wake_hint());
    }

    /// Sleeps until woken, the deadline or a signal; what happened first.
    pub(crate) fn sleep(&self, deadline_ns: Option<u64>) -> WakeReason {
        loop {
            if self.woken_with().is_some() {
                return WakeReason::Woken;
            }
            match sched::park(deadline_ns, WaitKind::Interruptible) {
                WakeReason::Woken => {}
                reason => return reason,
            }
        }
    }
}

/// A waiter in a bucket.
pub(crate) struct Queued {
    place: Place,
    bitset: u32,
    waiter: Arc<Waiter>,
}

impl Queued {
    /// Who it is.
    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }
}

impl Item for Queued {
    type Key = Place;
    type Summary = ();

    fn key(&self) -> Place {
        self.place
    }

    fn summary(&self) {}

    fn merge((): (), (): ()) {}
}

pub(crate) type QueuedBox = Box<Node<Queued>>;

/// A node for a waiter that will be queued.
pub(crate) fn node_for(waiter: &Arc<Waiter>, bitset: u32) -> QueuedBox {
    let place = *waiter.place.lock();
    Box::new(Node::new(Queued { place, bitset, waiter: waiter.clone() }))
}

/// Those with hash values in common.
pub(crate) struct Bucket {
    tree: Tree<Queued>,
    next_turn: u64,
}

impl Bucket {
    /// Queues a waiter under a key.
    pub(crate) fn insert(&mut self, mut node: QueuedBox, key: FutexKey) {
        self.next_turn += 1;
        let patience = 99 - node.waiter.thread.effective_priority().level().min(99);
        node.place = Place { key, patience, turn: self.next_turn };
        *node.waiter.place.lock() = node.place;
        self.tree.insert(node);
    }

    /// Whether the first waiter of a key waits to be moved to a lock: only `FUTEX_CMP_REQUEUE_PI` may touch it.
    pub(crate) fn waits_for_lock(&self, key: FutexKey) -> bool {
        let first = self.tree.first_from(&Place::first_of(key)).filter(|found| found.place.key == key);
        first.is_some_and(|found| found.waiter.lock.is_some())
    }

    /// Takes out up to `count` waiters of a key that wait to be moved to `lock`; the first comes out of the pile first.
    ///
    /// # Errors
    /// `EINVAL`: one waits for something else. Nothing is taken then.
    pub(crate) fn take_for_lock(
        &mut self,
        key: FutexKey,
        lock: FutexKey,
        count: usize,
    ) -> Result<Pile<Queued>> {
        let mut taken = Pile::new();
        for _ in 0..count {
            let found = self.tree.first_from(&Place::first_of(key)).filter(|found| found.place.key == key);
            let Some(found) = found else { break };
            let fits = found.waiter.lock.is_some_and(|(wanted, _)| wanted == lock);
            let place = found.place;
            match self.tree.remove(&place) {
                Some(node) if fits => taken.push(node),
                Some(node) => {
                    self.tree.insert(node);
                    while let Some(node) = taken.pop() {
                        self.tree.insert(node);
                    }
                    return Err(Errno::EINVAL);
                }
                None => break,
            }
        }
        Ok(taken.reversed())
    }

    /// Takes out up to `count` waiters of a key, by urgency and turn, that `bitset` matches and that wait for no lock.
    pub(crate) fn take(
        &mut self,
        key: FutexKey,
        count: usize,
        bitset: u32,
        taken: &mut Pile<Queued>,
    ) -> usize {
        let mut cursor = Place::first_of(key);
        let mut number = 0;
        while number < count {
            let Some(found) = self.tree.first_from(&cursor) else { break };
            if found.place.key != key {
                break;
            }
            cursor = found.place.after();
            if found.bitset & bitset == 0 || found.waiter.lock.is_some() {
                continue;
            }
            let place = found.place;
            if let Some(node) = self.tree.remove(&place) {
                taken.push(node);
                number += 1;
            }
        }
        number
    }
}

type Buckets = Box<[SpinLock<Bucket>]>;

static BUCKETS: Once<Buckets> = Once::new();

/// 256 buckets per CPU, as Linux has.
fn buckets() -> &'static Buckets {
    BUCKETS.get_or_init(|| {
        let count = (machine::cpu::possible_count() * 256).next_power_of_two().min(16384);
        let mut buckets = Vec::with_capacity(count);
        buckets.resize_with(count, || SpinLock::new(Bucket { tree: Tree::new(), next_turn: 0 }));
        buckets.into_boxed_slice()
    })
}

/// A number below `count` (a power of two) for a key.
pub(super) fn index_of(key: &FutexKey, count: usize) -> usize {
    let (object, offset) = match *key {
        FutexKey::Private { space, address } => (space, address as u64 >> 2),
        FutexKey::Shared { object, index, offset } => (!object, index << 10 | u64::from(offset) >> 2),
    };
    let mixed = (object.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 32) as usize & (count - 1)
}

fn bucket_of(key: &FutexKey) -> (usize, &'static SpinLock<Bucket>) {
    let buckets = buckets();
    let index = index_of(key, buckets.len());
    match buckets.get(index) {
        Some(bucket) => (index, bucket),
        None => unreachable!("the index is masked by the count"),
    }
}

/// The bucket of a key, locked.
pub(crate) fn lock(key: &FutexKey) -> SpinLockGuard<'static, Bucket> {
    bucket_of(key).1.lock()
}

/// The buckets of two keys, locked in order.
pub(crate) enum Pair {
    /// Both keys are in one bucket.
    Same(SpinLockGuard<'static, Bucket>),
    /// The first key's and the second's.
    Two(SpinLockGuard<'static, Bucket>, SpinLockGuard<'static, Bucket>),
}

impl Pair {
    pub(crate) fn first(&mut self) -> &mut Bucket {
        match self {
            Self::Same(bucket) | Self::Two(bucket, _) => bucket,
        }
    }

    pub(crate) fn second(&mut self) -> &mut Bucket {
        match self {
            Self::Same(bucket) | Self::Two(_, bucket) => bucket,
        }
    }
}

/// See [`Pair`].
pub(crate) fn lock_pair(first: &FutexKey, second: &FutexKey) -> Pair {
    let (first_index, first_bucket) = bucket_of(first);
    let (second_index, second_bucket) = bucket_of(second);
    match first_index.cmp(&second_index) {
        core::cmp::Ordering::Equal => Pair::Same(first_bucket.lock()),
        core::cmp::Ordering::Less => {
            let first = first_bucket.lock();
            let second = second_bucket.lock();
            Pair::Two(first, second)
        }
        core::cmp::Ordering::Greater => {
            let second = second_bucket.lock();
            let first = first_bucket.lock();
            Pair::Two(first, second)
        }
    }
}

/// Takes a waiter out of wherever it is queued. `false`: a waker has it already.
pub(crate) fn unqueue(waiter: &Waiter) -> bool {
    loop {
        let place = *waiter.place.lock();
        let mut bucket = lock(&place.key);
        if *waiter.place.lock() != place {
            continue;
        }
        let node = bucket.tree.remove(&place);
        drop(bucket);
        return node.is_some();
    }
}

/// Wakes those that were taken out, in order. No lock may be held.
pub(crate) fn wake_all(taken: Pile<Queued>) {
    let mut taken = taken.reversed();
    while let Some(node) = taken.pop() {
        node.waiter.wake(1);
    }
}

/// Wakes up to `count` waiters of a key; how many.
///
/// # Errors
/// `EINVAL`: they wait to be moved to a lock.
pub(crate) fn wake(key: FutexKey, count: usize, bitset: u32) -> Result<usize> {
    let mut taken = Pile::new();
    let mut bucket = lock(&key);
    if bucket.waits_for_lock(key) {
        return Err(Errno::EINVAL);
    }
    let number = bucket.take(key, count, bitset, &mut taken);
    drop(bucket);
    wake_all(taken);
    Ok(number)
}

/// Queues a waiter if `check` (called under the lock) says so.
///
/// `check` gives `Err(None)` when the word is not accessible now: the caller makes it so and tries again.
pub(crate) fn queue_if(
    key: FutexKey,
    node: QueuedBox,
    check: impl FnOnce() -> core::result::Result<(), Option<Errno>>,
) -> core::result::Result<(), (QueuedBox, Option<Errno>)> {
    let mut bucket = lock(&key);
    match check() {
        Ok(()) => {
            bucket.insert(node, key);
            Ok(())
        }
        Err(error) => {
            drop(bucket);
            Err((node, error))
        }
    }
}

/// What became of a wait.
pub(crate) fn conclude(waiter: &Waiter, reason: WakeReason) -> Result<()> {
    match reason {
        WakeReason::Woken => Ok(()),
        // A waker may have been faster than the timer or the signal: then it counted this wake-up.
        _ if !unqueue(waiter) => Ok(()),
        WakeReason::TimedOut => Err(Errno::ETIMEDOUT),
        WakeReason::Interrupted => Err(Errno::ERESTARTSYS),
    }
}
