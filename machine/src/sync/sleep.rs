//! Locks that sleep.
//!
//! Key types: [`Mutex`], [`RwLock`]. A free one is taken with one atomic operation; the rest is a [`WaitQueue`].
//! Thread context only.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use core::sync::atomic::{AtomicU32, Ordering};

use super::class::{self, Tag};
use super::words::{Owner, Share, WAITERS, Wake};
use super::{LockClass, WaitError, WaitKind, WaitQueue};
use crate::{arch, cpu, local, thread};

/// The owner where there are no threads yet.
const BOOT_FLOW: usize = 2;
/// How often a contender looks whether the owner still runs before it sleeps.
const SPINS: u32 = 200;

static MUTEX_QUEUE: LockClass = LockClass::new("the queue of a mutex");
static RWLOCK_QUEUE: LockClass = LockClass::new("a queue of a read-write lock");

fn me() -> usize {
    thread::current_pointer().addr().max(BOOT_FLOW)
}

/// A lock for sections that may sleep. Spins while its holder runs, else sleeps; roughly first come, first served.
pub struct Mutex<T: ?Sized> {
    /// The owner is the address of its thread.
    owner: Owner,
    /// The CPU that the owner was on when it took the lock.
    owner_cpu: AtomicU32,
    queue: WaitQueue,
    tag: Tag,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references as its guards' rules allow.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: as the value itself.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked lock; its class is the place of this call.
    #[track_caller]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            owner: Owner::new(),
            owner_cpu: AtomicU32::new(0),
            queue: WaitQueue::new_class(&MUTEX_QUEUE),
            tag: Tag::here(),
            value: UnsafeCell::new(value),
        }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> Mutex<T> {
        Mutex {
            owner: Owner::new(),
            owner_cpu: AtomicU32::new(0),
            queue: WaitQueue::new_class(&MUTEX_QUEUE),
            tag: Tag::of(class),
            value: UnsafeCell::new(value),
        }
    }
    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// The value, as nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
    /// Takes the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        class::check_may_sleep();
        self.tag.acquire(self.address());
        if !self.try_lock_raw() {
            // Uninterruptible and without a deadline it does not fail.
            let _ = self.lock_slow(WaitKind::Uninterruptible);
        }
        self.tag.acquired(self.address());
        MutexGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock unless a signal of the kind comes first.
    #[track_caller]
    pub fn lock_interruptible(&self, kind: WaitKind) -> Result<MutexGuard<'_, T>, WaitError> {
        class::check_may_sleep();
        self.tag.acquire(self.address());
        if !self.try_lock_raw() {
            self.lock_slow(kind)?;
        }
        self.tag.acquired(self.address());
        Ok(MutexGuard { lock: self, _not_send: PhantomData })
    }
    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.try_lock_raw().then(|| {
            self.tag.acquired(self.address());
            MutexGuard { lock: self, _not_send: PhantomData }
        })
    }
    /// Whether someone holds it (a hint).
    pub fn is_locked(&self) -> bool {
        self.owner.peek() != 0
    }

    #[inline]
    fn try_lock_raw(&self) -> bool {
        let free = self.owner.try_take(me());
        if free {
            self.owner_cpu.store(arch::cpu_id(), Ordering::Relaxed);
        }
        free
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn lock_slow(&self, kind: WaitKind) -> Result<(), WaitError> {
        if cpu::count() > 1 && self.spin() {
            return Ok(());
        }
        self.queue.wait_until_exclusive(kind, None, || {
            self.owner.take_or_mark(me()).then(|| {
                self.owner_cpu.store(arch::cpu_id(), Ordering::Relaxed);
            })
        })
    }

    /// Tries for as long as the owner runs on another CPU and nobody is queued.
    fn spin(&self) -> bool {
        for _ in 0..SPINS {
            let owner = self.owner.peek();
            if owner == 0 {
                if self.try_lock_raw() {
                    return true;
                }
            } else if owner & WAITERS != 0
                || local::of(self.owner_cpu.load(Ordering::Relaxed)).running.load(Ordering::Relaxed) != owner
            {
                return false;
            }
            arch::relax();
        }
        false
    }

    #[inline]
    fn unlock(&self) {
        if self.owner.release() {
            self.queue.wake_one();
        }
    }

    #[inline(always)]
    fn address(&self) -> usize {
        self.owner.address()
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

/// Holds a [`Mutex`].
#[must_use]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.unlock();
    }
}

/// A lock with many readers or one writer for sections that may sleep; waiting writers come first.
pub struct RwLock<T: ?Sized> {
    share: Share,
    readers: WaitQueue,
    writers: WaitQueue,
    tag: Tag,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references as its guards' rules allow.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: as the value itself.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    /// An unlocked lock; its class is the place of this call.
    #[track_caller]
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            share: Share::new(),
            readers: WaitQueue::new_class(&RWLOCK_QUEUE),
            writers: WaitQueue::new_class(&RWLOCK_QUEUE),
            tag: Tag::here(),
            value: UnsafeCell::new(value),
        }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> RwLock<T> {
        RwLock {
            share: Share::new(),
            readers: WaitQueue::new_class(&RWLOCK_QUEUE),
            writers: WaitQueue::new_class(&RWLOCK_QUEUE),
            tag: Tag::of(class),
            value: UnsafeCell::new(value),
        }
    }
    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// The value, as nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
    /// Takes the lock to read, with other readers. Not to be nested: a writer may wait in between.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        class::check_may_sleep();
        self.tag.acquire(self.address());
        if !self.share.try_read() {
            self.read_slow();
        }
        self.tag.acquired(self.address());
        RwLockReadGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock to write.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        class::check_may_sleep();
        self.tag.acquire(self.address());
        if !self.share.try_write() {
            // Uninterruptible and without a deadline it does not fail.
            let _ = self.write_slow(WaitKind::Uninterruptible);
        }
        self.tag.acquired(self.address());
        RwLockWriteGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock to write unless a signal of the kind comes first.
    #[track_caller]
    pub fn write_interruptible(&self, kind: WaitKind) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        class::check_may_sleep();
        self.tag.acquire(self.address());
        if !self.share.try_write() {
            self.write_slow(kind)?;
        }
        self.tag.acquired(self.address());
        Ok(RwLockWriteGuard { lock: self, _not_send: PhantomData })
    }
    /// Takes the lock to read if no writer has it or waits for it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.share.try_read().then(|| {
            self.tag.acquired(self.address());
            RwLockReadGuard { lock: self, _not_send: PhantomData }
        })
    }
    /// Takes the lock to write if nobody has it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.share.try_write().then(|| {
            self.tag.acquired(self.address());
            RwLockWriteGuard { lock: self, _not_send: PhantomData }
        })
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn read_slow(&self) {
        let _ =
            self.readers.wait_until(WaitKind::Uninterruptible, None, || self.share.try_read().then_some(()));
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn write_slow(&self, kind: WaitKind) -> Result<(), WaitError> {
        self.share.begin_write_wait();
        let result = self.writers.wait_until_exclusive(kind, None, || self.share.try_write().then_some(()));
        self.wake(self.share.end_write_wait(result.is_ok()));
        result
    }

    #[inline]
    fn wake(&self, whom: Wake) {
        match whom {
            Wake::Writer => self.writers.wake_one(),
            Wake::Readers => self.readers.wake_all(),
            Wake::Nobody => {}
        }
    }

    #[inline(always)]
    fn address(&self) -> usize {
        self.share.address()
    }
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

/// Holds a [`RwLock`] to read.
#[must_use]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.wake(self.lock.share.release_read());
    }
}

/// Holds a [`RwLock`] to write.
#[must_use]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.wake(self.lock.share.release_write());
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Becomes a read guard without letting a writer in between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let lock = self.lock;
        // The reader's guard frees the lock; the order check goes on with the same entry.
        core::mem::forget(self);
        if lock.share.downgrade() == Wake::Readers {
            lock.readers.wake_all();
        }
        RwLockReadGuard { lock, _not_send: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn mutex_excludes() {
        let mutex = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mutex = mutex.clone();
                std::thread::spawn(move || (0..1000).for_each(|_| *mutex.lock() += 1))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*mutex.lock(), 4000);
        assert!(mutex.try_lock().is_some());
    }

    #[test]
    fn rwlock_shares_and_excludes() {
        let lock = Arc::new(RwLock::new((0, 0)));
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for _ in 0..500 {
                        if index == 0 {
                            let mut pair = lock.write();
                            pair.0 += 1;
                            pair.1 += 1;
                        } else {
                            let pair = lock.read();
                            assert_eq!(pair.0, pair.1);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let guard = lock.write().downgrade();
        assert!(lock.try_read().is_some() && lock.try_write().is_none());
        drop(guard);
        assert!(lock.try_write().is_some());
    }
}
