//! Spin locks.
//!
//! Key types: [`SpinLock`], [`IrqSpinLock`], [`RwSpinLock`]. The queue is in `raw`, the order check in `class`.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use super::LockClass;
use super::class::Tag;
use super::raw::RawSpinLock;
use crate::{arch, irq, preempt};

const WRITER: u32 = 1 << 31;
/// More readers than there can be CPUs and nested contexts; the rest wait.
const MAX_READERS: u32 = 1 << 30;

/// A fair spin lock; preemption is off while it is held. Not for interrupt handlers.
pub struct SpinLock<T: ?Sized> {
    raw: RawSpinLock,
    tag: Tag,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references as its guards' rules allow.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}
// SAFETY: as the value itself.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An unlocked lock; its class is the place of this call.
    #[track_caller]
    pub const fn new(value: T) -> SpinLock<T> {
        SpinLock { raw: RawSpinLock::new(), tag: Tag::here(), value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> SpinLock<T> {
        SpinLock { raw: RawSpinLock::new(), tag: Tag::of(class), value: UnsafeCell::new(value) }
    }
    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// The value, as nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
    /// Takes the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        preempt::raw_disable();
        self.tag.acquire(self.address());
        self.raw.lock();
        self.tag.acquired(self.address());
        SpinLockGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        preempt::raw_disable();
        if self.raw.try_lock() {
            self.tag.acquired(self.address());
            Some(SpinLockGuard { lock: self, _not_send: PhantomData })
        } else {
            preempt::raw_enable();
            None
        }
    }
    /// Whether someone holds it (a hint).
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Its place in memory, for the order check.
    #[inline(always)]
    fn address(&self) -> usize {
        (&raw const self.raw).addr()
    }
}

impl<T: Default> Default for SpinLock<T> {
    #[track_caller]
    fn default() -> Self {
        SpinLock::new(T::default())
    }
}

/// Holds a [`SpinLock`].
#[must_use]
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for SpinLockGuard<'_, T> {}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.raw.unlock();
        preempt::raw_enable();
    }
}

/// A fair spin lock; interrupts are off while it is held, so that handlers may take it too.
pub struct IrqSpinLock<T: ?Sized> {
    raw: RawSpinLock,
    tag: Tag,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references as its guards' rules allow.
unsafe impl<T: ?Sized + Send> Sync for IrqSpinLock<T> {}
// SAFETY: as the value itself.
unsafe impl<T: ?Sized + Send> Send for IrqSpinLock<T> {}

impl<T> IrqSpinLock<T> {
    /// An unlocked lock; its class is the place of this call.
    #[track_caller]
    pub const fn new(value: T) -> IrqSpinLock<T> {
        IrqSpinLock { raw: RawSpinLock::new(), tag: Tag::here(), value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> IrqSpinLock<T> {
        IrqSpinLock { raw: RawSpinLock::new(), tag: Tag::of(class), value: UnsafeCell::new(value) }
    }
    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> IrqSpinLock<T> {
    /// The value, as nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
    /// Takes the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> IrqSpinLockGuard<'_, T> {
        irq::raw_disable();
        self.tag.acquire(self.address());
        self.raw.lock();
        self.tag.acquired(self.address());
        IrqSpinLockGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<IrqSpinLockGuard<'_, T>> {
        irq::raw_disable();
        if self.raw.try_lock() {
            self.tag.acquired(self.address());
            Some(IrqSpinLockGuard { lock: self, _not_send: PhantomData })
        } else {
            irq::raw_enable();
            None
        }
    }
    /// Whether someone holds it (a hint).
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Its place in memory, for the order check.
    #[inline(always)]
    fn address(&self) -> usize {
        (&raw const self.raw).addr()
    }
}

impl<T: Default> Default for IrqSpinLock<T> {
    #[track_caller]
    fn default() -> Self {
        IrqSpinLock::new(T::default())
    }
}

/// Holds an [`IrqSpinLock`].
#[must_use]
pub struct IrqSpinLockGuard<'a, T: ?Sized> {
    lock: &'a IrqSpinLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for IrqSpinLockGuard<'_, T> {}

impl<T: ?Sized> Deref for IrqSpinLockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for IrqSpinLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for IrqSpinLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.raw.unlock();
        irq::raw_enable();
    }
}

/// A spin lock with many readers or one writer (waiting writers come first); preemption is off.
pub struct RwSpinLock<T: ?Sized> {
    /// Readers, or [`WRITER`].
    state: AtomicU32,
    /// Writers and blocked readers queue here, so that neither starves.
    queue: RawSpinLock,
    tag: Tag,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references as its guards' rules allow.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwSpinLock<T> {}
// SAFETY: as the value itself.
unsafe impl<T: ?Sized + Send> Send for RwSpinLock<T> {}

impl<T> RwSpinLock<T> {
    /// An unlocked lock; its class is the place of this call.
    #[track_caller]
    pub const fn new(value: T) -> RwSpinLock<T> {
        RwSpinLock {
            state: AtomicU32::new(0),
            queue: RawSpinLock::new(),
            tag: Tag::here(),
            value: UnsafeCell::new(value),
        }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> RwSpinLock<T> {
        RwSpinLock {
            state: AtomicU32::new(0),
            queue: RawSpinLock::new(),
            tag: Tag::of(class),
            value: UnsafeCell::new(value),
        }
    }
    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwSpinLock<T> {
    /// The value, as nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
    /// Takes the lock to read, with other readers. Not to be nested: a writer may wait in between.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwSpinLockReadGuard<'_, T> {
        preempt::raw_disable();
        self.tag.acquire(self.address());
        if !self.try_read_raw() {
            self.read_slow();
        }
        self.tag.acquired(self.address());
        RwSpinLockReadGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock to write.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwSpinLockWriteGuard<'_, T> {
        preempt::raw_disable();
        self.tag.acquire(self.address());
        self.queue.lock();
        while self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_err() {
            arch::relax();
        }
        self.queue.unlock();
        self.tag.acquired(self.address());
        RwSpinLockWriteGuard { lock: self, _not_send: PhantomData }
    }
    /// Takes the lock to read if no writer has it or waits for it.
    pub fn try_read(&self) -> Option<RwSpinLockReadGuard<'_, T>> {
        preempt::raw_disable();
        if self.try_read_raw() {
            self.tag.acquired(self.address());
            Some(RwSpinLockReadGuard { lock: self, _not_send: PhantomData })
        } else {
            preempt::raw_enable();
            None
        }
    }
    /// Takes the lock to write if nobody has it.
    pub fn try_write(&self) -> Option<RwSpinLockWriteGuard<'_, T>> {
        preempt::raw_disable();
        if self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            self.tag.acquired(self.address());
            Some(RwSpinLockWriteGuard { lock: self, _not_send: PhantomData })
        } else {
            preempt::raw_enable();
            None
        }
    }

    #[inline]
    fn try_read_raw(&self) -> bool {
        if self.queue.is_locked() {
            return false;
        }
        let state = self.state.load(Ordering::Relaxed);
        state < MAX_READERS
            && self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn read_slow(&self) {
        self.queue.lock();
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state < MAX_READERS
                && self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                break;
            }
            arch::relax();
        }
        self.queue.unlock();
    }

    fn address(&self) -> usize {
        (&raw const self.state).addr()
    }
}

impl<T: Default> Default for RwSpinLock<T> {
    #[track_caller]
    fn default() -> Self {
        RwSpinLock::new(T::default())
    }
}

/// Holds a [`RwSpinLock`] to read.
#[must_use]
pub struct RwSpinLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwSpinLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwSpinLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwSpinLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwSpinLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.state.fetch_sub(1, Ordering::Release);
        preempt::raw_enable();
    }
}

/// Holds a [`RwSpinLock`] to write.
#[must_use]
pub struct RwSpinLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwSpinLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwSpinLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for RwSpinLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwSpinLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwSpinLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tag.release(self.lock.address());
        self.lock.state.store(0, Ordering::Release);
        preempt::raw_enable();
    }
}
