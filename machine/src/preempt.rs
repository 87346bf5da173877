//! Preemption: the per-CPU count that says whether the running thread may be switched away, and the need-resched flag.
//!
//! Key type: [`PreemptGuard`]. The count is one word per CPU; see `Word` for its fields.

use core::marker::PhantomData;

/// While one lives, the thread stays on its CPU.
pub struct PreemptGuard {
    _not_send: PhantomData<*mut ()>,
}

/// Switches preemption off until the guard is dropped. If a reschedule became due meanwhile, dropping the outermost
/// guard (with interrupts on) runs the preempt hook.
#[inline]
pub fn disable() -> PreemptGuard {
    todo!()
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        todo!()
    }
}

/// How many guards (preempt, spin lock, RCU, interrupt) this CPU holds; 0 = preemptible.
pub fn count() -> u32 {
    todo!()
}

/// Whether the caller may sleep: no guard held, not in an interrupt, interrupts on.
pub fn may_sleep() -> bool {
    todo!()
}

/// Asks this CPU to reschedule at the next opportunity.
pub fn set_need_resched() {
    todo!()
}

/// Takes the request back (the scheduler, when it picks the next thread).
pub fn clear_need_resched() {
    todo!()
}

/// Whether this CPU should reschedule.
#[inline]
pub fn need_resched() -> bool {
    todo!()
}
