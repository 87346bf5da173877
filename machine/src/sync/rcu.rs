//! Read-copy-update: readers hold nothing but preemption; what they may still see is freed after a grace period.
//!
//! Key types: [`RcuGuard`] (a read-side section), [`RcuArc`] (an `Arc` cell read without a lock).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicPtr;

use crate::preempt::PreemptGuard;

/// A read-side section: what is loaded through it lives until it is dropped.
pub struct RcuGuard {
    preempt: PreemptGuard,
}

impl RcuGuard {
    /// The preemption guard in it (for [`crate::cpu::PerCpu::get`]).
    pub fn preempt(&self) -> &PreemptGuard {
        &self.preempt
    }
}

/// Begins a read-side section (preemption off: do not sleep).
#[inline]
pub fn read_lock() -> RcuGuard {
    RcuGuard { preempt: crate::preempt::disable() }
}

/// An `Option<Arc<T>>` that is read without a lock and replaced atomically.
pub struct RcuArc<T: Send + Sync + 'static> {
    pointer: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> RcuArc<T> {
    /// A cell with this value.
    pub fn new(value: Option<Arc<T>>) -> RcuArc<T> {
        RcuArc { pointer: AtomicPtr::new(into_raw(value)) }
    }
    /// An empty cell, for statics.
    pub const fn empty() -> RcuArc<T> {
        RcuArc { pointer: AtomicPtr::new(core::ptr::null_mut()) }
    }
    /// The value now; lives as long as the section.
    #[inline]
    pub fn load<'g>(&self, guard: &'g RcuGuard) -> Option<&'g T> {
        let _ = guard;
        todo!()
    }
    /// The value now, counted.
    pub fn load_arc(&self) -> Option<Arc<T>> {
        todo!()
    }
    /// Puts another value; the old one is dropped after a grace period.
    pub fn replace(&self, value: Option<Arc<T>>) {
        let _ = value;
        todo!()
    }
    /// Puts another value and gives the old one, whose count is only dropped after a grace period.
    pub fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let _ = value;
        todo!()
    }
}

impl<T: Send + Sync + 'static> Drop for RcuArc<T> {
    fn drop(&mut self) {
        todo!()
    }
}

fn into_raw<T>(value: Option<Arc<T>>) -> *mut T {
    value.map_or(core::ptr::null_mut(), |arc| Arc::into_raw(arc).cast_mut())
}

/// Runs `callback` after a grace period, on some CPU, in thread context (it may take sleeping locks but should be short).
pub fn defer(callback: Box<dyn FnOnce() + Send>) {
    let _ = callback;
    todo!()
}

/// Drops a value after a grace period.
pub fn defer_drop<T: Send + 'static>(value: T) {
    let _ = value;
    todo!()
}

/// Waits for a grace period: everything that readers could see before is no longer seen. Sleeps.
pub fn synchronize() {
    todo!()
}

/// Runs callbacks of this CPU whose grace period has ended; says whether there are more to come. Thread context.
pub fn run_callbacks() -> bool {
    todo!()
}

/// Whether this CPU has callbacks waiting (for a grace period or to be run).
pub fn has_callbacks() -> bool {
    todo!()
}

/// The scheduler switches threads on this CPU. ([`crate::thread::switch_to`] does this by itself.)
pub fn note_context_switch() {
    todo!()
}

/// This CPU goes idle: grace periods do not wait for it until [`idle_exit`] or its next interrupt.
pub fn idle_enter() {
    todo!()
}

/// This CPU is no longer idle.
pub fn idle_exit() {
    todo!()
}
