//! Preemption: the per-CPU count that says whether the running thread may be switched away, and the need-resched flag.
//!
//! Key type: [`PreemptGuard`]. The count is one word per CPU with a field for each reason, ordered so that a field that
//! overflows only makes the CPU look *more* busy:
//!
//! | bits | reason |
//! |---|---|
//! | 0..8 | [`crate::irq::IrqGuard`]s |
//! | 8..16 | [`PreemptGuard`]s, spin locks, RCU sections |
//! | 16..24 | interrupts being handled |
//! | 24..32 | NMIs being handled |

use core::marker::PhantomData;

use crate::arch;

/// One [`crate::irq::IrqGuard`].
pub(crate) const IRQ_GUARD: u32 = 1;
/// Mask of the guards' field.
pub(crate) const IRQ_GUARD_MASK: u32 = 0xff;
/// One [`PreemptGuard`].
pub(crate) const PREEMPT: u32 = 0x100;
/// Mask of interrupts and NMIs.
pub(crate) const INTERRUPT_MASK: u32 = 0xffff_0000;

/// While one lives, the thread stays on its CPU.
#[must_use]
#[derive(Debug)]
pub struct PreemptGuard {
    _not_send: PhantomData<*mut ()>,
}

/// Switches preemption off until the guard is dropped. If a reschedule became due meanwhile, dropping the outermost
/// guard (with interrupts on) runs the preempt hook.
#[inline(always)]
pub fn disable() -> PreemptGuard {
    raw_disable();
    PreemptGuard { _not_send: PhantomData }
}

impl Drop for PreemptGuard {
    #[inline(always)]
    fn drop(&mut self) {
        raw_enable();
    }
}

/// [`disable`] without a guard, for locks; to be paired with [`raw_enable`].
#[inline(always)]
pub(crate) fn raw_disable() {
    arch::preempt_add(PREEMPT);
}

/// See [`raw_disable`].
#[inline(always)]
pub(crate) fn raw_enable() {
    if arch::preempt_sub(PREEMPT) == 0 && arch::need_resched() {
        reschedule_if_enabled();
    }
}

/// Runs the preempt hook if interrupts are on (else whoever switches them on does it).
#[cold]
#[inline(never)]
pub(crate) fn reschedule_if_enabled() {
    if arch::irq_enabled() {
        crate::hooks::preempt();
    }
}

/// How many guards (preempt, spin lock, RCU, interrupt) this CPU holds; 0 = preemptible.
#[inline]
pub fn count() -> u32 {
    let word = arch::preempt_count();
    (word & IRQ_GUARD_MASK) + (word >> 8 & 0xff) + (word >> 16 & 0xff) + (word >> 24)
}

/// Whether the caller may sleep: no guard held, not in an interrupt, interrupts on.
#[inline]
pub fn may_sleep() -> bool {
    arch::preempt_count() == 0 && arch::irq_enabled()
}

/// Asks this CPU to reschedule at the next opportunity.
#[inline]
pub fn set_need_resched() {
    arch::set_need_resched();
}

/// Takes the request back (the scheduler, when it picks the next thread).
#[inline]
pub fn clear_need_resched() {
    arch::clear_need_resched();
}

/// Whether this CPU should reschedule.
#[inline(always)]
pub fn need_resched() -> bool {
    arch::need_resched()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_count() {
        assert!(may_sleep());
        let first = disable();
        let second = disable();
        assert_eq!(count(), 2);
        drop(first);
        assert!(!may_sleep());
        drop(second);
        assert_eq!(count(), 0);
    }
}
