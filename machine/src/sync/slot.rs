//! A place where a sleeper leaves what its waker needs.
//!
//! Key type: [`ParkSlot`]. It joins the two questions of every sleep, "has a wake-up come already?" and "who may make
//! this thread runnable?", in one atomic word: the parker leaves a box, unless a token is there; the waker takes the box,
//! or else leaves the token. Exactly one waker gets the box, and no wake-up is lost. No locks, no allocation.

use alloc::boxed::Box;
use core::marker::PhantomData;

use super::atomic::{AtomicPtr, Ordering};

/// Empty, or a token, or a parked `Box<T>`.
///
/// # Invariants
/// `state` is null (empty), [`ParkSlot::token`] (no provenance, never dereferenced), or a pointer from `Box::into_raw`
/// that the slot owns; whoever replaces the pointer atomically gets the box.
pub struct ParkSlot<T: Send> {
    state: AtomicPtr<T>,
    _owns: PhantomData<Box<T>>,
}

impl<T: Send> ParkSlot<T> {
    /// An empty slot.
    #[cfg(not(loom))]
    pub const fn new() -> ParkSlot<T> {
        assert!(align_of::<T>() > 1, "the token's address must not be one a box can have");
        ParkSlot { state: AtomicPtr::new(core::ptr::null_mut()), _owns: PhantomData }
    }

    /// An empty slot.
    #[cfg(loom)]
    pub fn new() -> ParkSlot<T> {
        assert!(align_of::<T>() > 1, "the token's address must not be one a box can have");
        ParkSlot { state: AtomicPtr::new(core::ptr::null_mut()), _owns: PhantomData }
    }

    fn token() -> *mut T {
        core::ptr::without_provenance_mut(1)
    }

    /// Leaves `value` for the next [`ParkSlot::wake`]. If a token is there, takes it instead and gives `value` back.
    /// Only one thread may park in a slot (a second value is given back too).
    pub fn park(&self, value: Box<T>) -> Result<(), Box<T>> {
        let pointer = Box::into_raw(value);
        match self.state.compare_exchange(core::ptr::null_mut(), pointer, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(_) => {
                self.take_token();
                // SAFETY: the pointer came from `Box::into_raw` above and was not stored: it is still ours.
                Err(unsafe { Box::from_raw(pointer) })
            }
        }
    }

    /// Takes the token, if it is there. What was written before it was left is visible then.
    #[inline]
    pub fn take_token(&self) -> bool {
        self.state.load(Ordering::Relaxed) == Self::token()
            && self
                .state
                .compare_exchange(Self::token(), core::ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes the parked value; if there is none, leaves a token.
    #[inline]
    pub fn wake(&self) -> Option<Box<T>> {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let parked = !seen.is_null() && seen != Self::token();
            // A token that is there already is written again: the parker must see what *this* waker wrote before.
            let next = if parked { core::ptr::null_mut() } else { Self::token() };
            match self.state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                // SAFETY: the pointer was parked (invariant) and this exchange took it out: it is ours alone.
                Ok(pointer) => return parked.then(|| unsafe { Box::from_raw(pointer) }),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the parked value and leaves no token if there is none.
    pub fn take(&self) -> Option<Box<T>> {
        let seen = self.state.load(Ordering::Relaxed);
        if seen.is_null() || seen == Self::token() {
            return None;
        }
        self.state
            .compare_exchange(seen, core::ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            // SAFETY: as in `wake`.
            .map(|pointer| unsafe { Box::from_raw(pointer) })
    }

    /// Whether a value is parked (a hint).
    pub fn is_parked(&self) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        !seen.is_null() && seen != Self::token()
    }
}

impl<T: Send> Default for ParkSlot<T> {
    fn default() -> Self {
        ParkSlot::new()
    }
}

impl<T: Send> Drop for ParkSlot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_park_is_kept() {
        let slot = ParkSlot::new();
        assert!(slot.wake().is_none());
        assert_eq!(slot.park(Box::new(7u64)), Err(Box::new(7)));
        assert_eq!(slot.park(Box::new(8)), Ok(()));
        assert!(slot.is_parked());
        assert_eq!(slot.wake(), Some(Box::new(8)));
        assert!(!slot.take_token());
    }

    #[test]
    fn exactly_one_of_many_wakers_gets_it() {
        let slot = ParkSlot::new();
        for round in 0..200u64 {
            let _ = slot.take_token();
            slot.park(Box::new(round)).unwrap();
            let got = std::thread::scope(|scope| {
                let wakers: Vec<_> = (0..4).map(|_| scope.spawn(|| slot.wake().is_some())).collect();
                wakers.into_iter().map(|waker| usize::from(waker.join().unwrap())).sum::<usize>()
            });
            assert_eq!(got, 1);
        }
    }

    #[test]
    fn what_is_left_is_dropped() {
        let value = std::sync::Arc::new(1u64);
        let slot = ParkSlot::new();
        slot.park(Box::new(value.clone())).unwrap();
        drop(slot);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }
}
