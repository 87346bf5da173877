//! The lock that this backend uses where the generic ones cannot be: before the heap, in a panic.
//!
//! Spins with interrupts off. Leaf: nothing else is taken while one is held.

use super::cpu;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value behind a spin lock that keeps interrupts off.
pub(super) struct RawLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one CPU at the value at a time.
unsafe impl<T: Send> Sync for RawLock<T> {}

/// Access to the value; unlocks when dropped.
pub(super) struct RawGuard<'l, T> {
    lock: &'l RawLock<T>,
    flags: usize,
}

impl<T> RawLock<T> {
    pub(super) const fn new(value: T) -> RawLock<T> {
        RawLock { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock.
    pub(super) fn lock(&self) -> RawGuard<'_, T> {
        let flags = cpu::irq_save();
        while self.locked.swap(true, Ordering::Acquire) {
            while self.locked.load(Ordering::Relaxed) {
                cpu::relax();
            }
        }
        RawGuard { lock: self, flags }
    }

    /// Takes the lock if it is free.
    pub(super) fn try_lock(&self) -> Option<RawGuard<'_, T>> {
        let flags = cpu::irq_save();
        if self.locked.swap(true, Ordering::Acquire) {
            cpu::irq_restore(flags);
            return None;
        }
        Some(RawGuard { lock: self, flags })
    }

    /// Opens the lock whoever holds it.
    ///
    /// # Safety
    /// Only while the machine panics and all other CPUs are stopped.
    pub(super) unsafe fn break_open(&self) {
        self.locked.store(false, Ordering::Release);
    }
}

impl<T> core::ops::Deref for RawGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> core::ops::DerefMut for RawGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for RawGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
        cpu::irq_restore(self.flags);
    }
}
