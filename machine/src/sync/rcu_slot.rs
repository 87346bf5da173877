//! A cell that owns an `Arc` and is read without a lock, where taking the value out gives up ownership at once.
//!
//! [`RcuArc`](super::RcuArc) keeps an old value alive for a grace period, because readers borrow it. Here readers only
//! ever take a count of their own, and only if the value still has an owner; so a value whose last owner goes is dropped
//! then and there (a closed pipe's other end sees it at once), and only its memory waits for the grace period.
//! Key types: [`RcuSlot`]. Used by descriptor tables.

use alloc::sync::{Arc, Weak};
use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::rcu::{self, RcuGuard};

/// An `Option<Arc<T>>` read without a lock.
///
/// # Invariants
/// The pointer is null, or came from `Arc::into_raw` and the cell owns one strong and one weak count of it. A weak count
/// that the cell gives up is dropped only after a grace period.
pub struct RcuSlot<T: Send + Sync + 'static> {
    pointer: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> RcuSlot<T> {
    /// A cell without a value.
    pub const fn empty() -> RcuSlot<T> {
        RcuSlot { pointer: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The value, counted; `None` if there is none or its last owner is just going.
    #[inline]
    pub fn load(&self) -> Option<Arc<T>> {
        self.load_with(&rcu::read_lock())
    }

    /// The same, within a read-side section that there is already.
    #[inline]
    pub fn load_with(&self, _guard: &RcuGuard) -> Option<Arc<T>> {
        let pointer = self.pointer.load(Ordering::Acquire);
        if pointer.is_null() {
            return None;
        }
        // SAFETY: by the invariant a weak count of the cell's keeps the allocation until a grace period after the
        // pointer was replaced, so through this read-side section; ManuallyDrop leaves that count alone.
        let weak = ManuallyDrop::new(unsafe { Weak::from_raw(pointer) });
        weak.upgrade()
    }

    /// Puts another value and gives the old one, which the caller owns: dropping it drops it now.
    pub fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let new = value.map_or(ptr::null_mut(), |arc| {
            // The weak count of the invariant.
            let _ = Arc::downgrade(&arc).into_raw();
            Arc::into_raw(arc).cast_mut()
        });
        let old = self.pointer.swap(new, Ordering::AcqRel);
        if old.is_null() {
            return None;
        }
        // SAFETY: the pointer was the cell's, and the swap took it out: both counts are ours now.
        let (strong, weak) = unsafe { (Arc::from_raw(old), Weak::from_raw(old)) };
        rcu::defer_drop(weak);
        Some(strong)
    }
}

impl<T: Send + Sync + 'static> Drop for RcuSlot<T> {
    fn drop(&mut self) {
        drop(self.swap(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_goes_with_its_last_owner() {
        let slot = RcuSlot::empty();
        assert!(slot.load().is_none());
        let value = Arc::new(7);
        assert!(slot.swap(Some(value.clone())).is_none());
        assert_eq!(slot.load().as_deref(), Some(&7));
        assert_eq!(Arc::strong_count(&value), 2);
        drop(slot.swap(None));
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(slot.load().is_none());
    }
}
