//! What a thread has collected to hand over later, at the latest when it goes to sleep.
//!
//! A thread that starts many transfers lets the block layer collect them, so that neighbours become one. Were it to sleep with some
//! of them still in its hands, it might wait for one of them: so whoever collects registers here, and is called before the thread blocks.
//!
//! Key types: [`Plugged`]. Neighbours: [`crate::sleep`] calls, `kernel/block` registers. Locks: a thread's own slot, a leaf that only
//! that thread takes.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use machine::sync::SpinLock;

use crate::thread::{Thread, try_current};

/// What was collected.
pub trait Plugged: Any + Send + Sync {
    /// Hands it over. Thread context, no lock held; must not sleep.
    fn unplug(&self);
}

/// A thread's part.
pub(crate) struct Slot {
    is_set: AtomicBool,
    plug: SpinLock<Option<Arc<dyn Plugged>>>,
}

impl Slot {
    pub(crate) const fn new() -> Slot {
        Slot { is_set: AtomicBool::new(false), plug: SpinLock::new(None) }
    }
}

/// Registers a collection for the running thread until [`clear`]. False: it has one already, or there are no threads yet.
pub fn set(plug: Arc<dyn Plugged>) -> bool {
    let Some(thread) = try_current() else { return false };
    let mut slot = thread.plug.plug.lock();
    if slot.is_some() {
        return false;
    }
    *slot = Some(plug);
    thread.plug.is_set.store(true, Ordering::Relaxed);
    true
}

/// Takes the running thread's collection back.
pub fn clear() {
    let Some(thread) = try_current() else { return };
    let old = thread.plug.plug.lock().take();
    thread.plug.is_set.store(false, Ordering::Relaxed);
    drop(old);
}

/// The running thread's collection. Only where the caller [may sleep](machine::preempt::may_sleep): an interrupt is no thread.
pub fn current() -> Option<Arc<dyn Plugged>> {
    let thread = try_current()?;
    if !thread.plug.is_set.load(Ordering::Relaxed) {
        return None;
    }
    thread.plug.plug.lock().clone()
}

/// The thread is about to block.
#[inline]
pub(crate) fn hand_over(thread: &Thread) {
    if thread.plug.is_set.load(Ordering::Relaxed) {
        let plug = thread.plug.plug.lock().clone();
        if let Some(plug) = plug {
            plug.unplug();
        }
    }
}
