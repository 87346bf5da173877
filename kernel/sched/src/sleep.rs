//! Sleeping and waking: what `machine::sync`'s wait queues and mutexes are built on, and plain sleeps.
//!
//! A thread has a token: waking puts it there (or makes the parked thread runnable), parking takes it. So there
//! is no window between "nothing to do" and "asleep". Returns may be spurious; every user loops over its
//! condition.
//!
//! Neighbours: [`crate::cpu::block`] does the switch, [`crate::timer`] the deadlines. No locks.

use core::sync::atomic::Ordering;

use abi::errno::{Errno, Result};
use machine::sync::{SleepHooks, WaitKind, WakeReason};
use machine::thread::KernelThread;
use machine::{irq, time};

use crate::cpu;
use crate::thread::{Context, Current, State, Thread, WakeHint, current};
use crate::timer::TimerOwner;

/// Parks the calling thread until it is woken, `deadline_ns` (of [`time::now_ns`]) passes, or a signal of `kind`
/// is pending. A wake-up since the last park counts. Must be able to sleep: no spin lock, no interrupt.
pub fn park(deadline_ns: Option<u64>, kind: WaitKind) -> WakeReason {
    let thread = current();
    if thread.slot.take_token() {
        return WakeReason::Woken;
    }
    if thread.is_interrupted(kind) {
        return WakeReason::Interrupted;
    }
    let Some(deadline_ns) = deadline_ns else {
        block(&thread, kind);
        return if thread.is_interrupted(kind) { WakeReason::Interrupted } else { WakeReason::Woken };
    };
    if deadline_ns <= time::now_ns() {
        return WakeReason::TimedOut;
    }
    thread.core().arm(thread.arc(), deadline_ns);
    block(&thread, kind);
    let expired = !thread.core().cancel();
    if thread.is_interrupted(kind) {
        WakeReason::Interrupted
    } else if expired && deadline_ns <= time::now_ns() {
        WakeReason::TimedOut
    } else {
        WakeReason::Woken
    }
}

fn block(thread: &Current, kind: WaitKind) {
    thread.note_wait(kind);
    note_sleep(thread);
    crate::errand::hand_back(thread);
    crate::plug::hand_over(thread);
    let counts_as_load = kind == WaitKind::Uninterruptible;
    if counts_as_load {
        cpu::note_uninterruptible(true);
    }
    cpu::block();
    if counts_as_load {
        cpu::note_uninterruptible(false);
    }
    thread.set_state(State::Running);
}

/// Sleeps until a time of [`time::now_ns`].
///
/// # Errors
/// `EINTR`: `kind` allows it and a signal is pending.
pub fn sleep_until(deadline_ns: u64, kind: WaitKind) -> Result<()> {
    loop {
        match park(Some(deadline_ns), kind) {
            WakeReason::TimedOut => return Ok(()),
            WakeReason::Interrupted => return Err(Errno::EINTR),
            WakeReason::Woken if deadline_ns <= time::now_ns() => return Ok(()),
            WakeReason::Woken => {}
        }
    }
}

/// While one lives, sleeps of the calling thread count as waiting for a device.
pub struct IoWaitGuard {
    thread: Current,
    before: bool,
}

/// See [`IoWaitGuard`].
pub fn io_wait() -> IoWaitGuard {
    let thread = current();
    let before = thread.in_io_wait.swap(true, Ordering::Relaxed);
    IoWaitGuard { thread, before }
}

impl Drop for IoWaitGuard {
    fn drop(&mut self) {
        self.thread.in_io_wait.store(self.before, Ordering::Relaxed);
    }
}

/// How sure one must be, of [`SYNC_SURE`], that a thread sleeps after a wake-up it announced so.
const SYNC_LIKELY: u8 = 4;
const SYNC_SURE: u8 = 8;

/// While one lives, wake-ups by the calling thread are *synchronous*: it expects to sleep soon, waiting for an answer
/// from whom it woke. Whether it did so the last times is remembered; only a thread that keeps its word gets its
/// partner placed on its own CPU. Two threads that talk by turns then share a CPU and need no interrupt, while a
/// producer that goes on writing has its consumer run elsewhere.
pub struct SyncWakes {
    thread: Option<Current>,
}

/// See [`SyncWakes`]. Any context; without effect outside threads.
pub fn sync_wakes() -> SyncWakes {
    let thread = if irq::in_interrupt() { None } else { crate::thread::try_current() };
    if let Some(thread) = &thread {
        thread.wakes_sync.store(true, Ordering::Relaxed);
    }
    SyncWakes { thread }
}

impl Drop for SyncWakes {
    fn drop(&mut self) {
        if let Some(thread) = &self.thread {
            thread.wakes_sync.store(false, Ordering::Relaxed);
        }
    }
}

/// What the running thread has said about the wake-up it makes now.
pub fn hint() -> WakeHint {
    if irq::in_interrupt() {
        return WakeHint::Normal;
    }
    let Some(thread) = crate::thread::try_current() else { return WakeHint::Normal };
    if !thread.wakes_sync.load(Ordering::Relaxed) {
        return WakeHint::Normal;
    }
    let mut score = thread.sync_score.load(Ordering::Relaxed);
    if thread.sync_woken.load(Ordering::Relaxed) {
        // It woke somebody before and has not slept since.
        score /= 2;
        thread.sync_score.store(score, Ordering::Relaxed);
    }
    thread.sync_woken.store(true, Ordering::Relaxed);
    if score >= SYNC_LIKELY { WakeHint::Sync } else { WakeHint::Normal }
}

/// The thread sleeps: it has kept its word, if it gave it.
fn note_sleep(thread: &Thread) {
    if thread.sync_woken.load(Ordering::Relaxed) {
        thread.sync_woken.store(false, Ordering::Relaxed);
        let score = thread.sync_score.load(Ordering::Relaxed);
        thread.sync_score.store((score + 1).min(SYNC_SURE), Ordering::Relaxed);
    }
}

/// What [`machine::sync::register_sleep_hooks`] gets.
pub(crate) struct Hooks;

impl SleepHooks for Hooks {
    fn park(&self, deadline_ns: Option<u64>, kind: WaitKind) -> WakeReason {
        park(deadline_ns, kind)
    }

    fn wake(&self, thread: &KernelThread) {
        if let Some(context) = thread.local::<Context>() {
            context.thread.wake_with(hint());
        }
    }
}

impl Thread {
    /// Forgets a pending timeout (the thread exits).
    pub(crate) fn sleep_timer_cancel(&self) {
        self.core().cancel();
    }
}
