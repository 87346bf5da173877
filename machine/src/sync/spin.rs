//! Spin locks.
//!
//! Key types: [`SpinLock`], [`IrqSpinLock`], [`RwSpinLock`].

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::LockClass;

/// A fair spin lock; preemption is off while it is held. Not for interrupt handlers.
pub struct SpinLock<T: ?Sized> {
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
        SpinLock { value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> SpinLock<T> {
        let _ = class;
        SpinLock { value: UnsafeCell::new(value) }
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
        todo!()
    }
    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        todo!()
    }
    /// Whether someone holds it (a hint).
    pub fn is_locked(&self) -> bool {
        todo!()
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
        todo!()
    }
}

/// A fair spin lock; interrupts are off while it is held, so that handlers may take it too.
pub struct IrqSpinLock<T: ?Sized> {
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
        IrqSpinLock { value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> IrqSpinLock<T> {
        let _ = class;
        IrqSpinLock { value: UnsafeCell::new(value) }
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
        todo!()
    }
    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<IrqSpinLockGuard<'_, T>> {
        todo!()
    }
    /// Whether someone holds it (a hint).
    pub fn is_locked(&self) -> bool {
        todo!()
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
        todo!()
    }
}

/// A spin lock with many readers or one writer (waiting writers come first); preemption is off.
pub struct RwSpinLock<T: ?Sized> {
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
        RwSpinLock { value: UnsafeCell::new(value) }
    }
    /// An unlocked lock of a named class.
    pub const fn new_class(value: T, class: &'static LockClass) -> RwSpinLock<T> {
        let _ = class;
        RwSpinLock { value: UnsafeCell::new(value) }
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
    /// Takes the lock to read, with other readers.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwSpinLockReadGuard<'_, T> {
        todo!()
    }
    /// Takes the lock to write.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwSpinLockWriteGuard<'_, T> {
        todo!()
    }
    /// Takes the lock to read if no writer has it.
    pub fn try_read(&self) -> Option<RwSpinLockReadGuard<'_, T>> {
        todo!()
    }
    /// Takes the lock to write if nobody has it.
    pub fn try_write(&self) -> Option<RwSpinLockWriteGuard<'_, T>> {
        todo!()
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
        todo!()
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
        todo!()
    }
}
