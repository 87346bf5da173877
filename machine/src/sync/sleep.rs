//! Locks that sleep.
//!
//! Key types: [`Mutex`], [`RwLock`].

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::{LockClass, WaitError, WaitKind};

/// A lock for sections that may sleep. Spins while its holder runs, else sleeps; roughly first come, first served.
pub struct Mutex<T: ?Sized> {
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
        Mutex { value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> Mutex<T> {
        let _ = class;
        Mutex { value: UnsafeCell::new(value) }
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
        todo!()
    }
    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        todo!()
    }
    /// Takes the lock unless a signal comes first.
    #[track_caller]
    pub fn lock_interruptible(&self, kind: WaitKind) -> Result<MutexGuard<'_, T>, WaitError> {
        let _ = kind;
        todo!()
    }
    /// Whether someone holds it (a hint).
    pub fn is_locked(&self) -> bool {
        todo!()
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
        todo!()
    }
}

/// A lock with many readers or one writer for sections that may sleep; waiting writers come first.
pub struct RwLock<T: ?Sized> {
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
        RwLock { value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> RwLock<T> {
        let _ = class;
        RwLock { value: UnsafeCell::new(value) }
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
    /// Takes the lock to read, with other readers.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        todo!()
    }
    /// Takes the lock to write.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        todo!()
    }
    /// Takes the lock to read if no writer has it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        todo!()
    }
    /// Takes the lock to write if nobody has it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        todo!()
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
        todo!()
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
        todo!()
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Becomes a read guard without letting a writer in between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        todo!()
    }
}
