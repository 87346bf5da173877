//! Errands: work that a thread of its own would do, done by the program's thread that caused it, once it holds no lock any more.
//!
//! Dropping the last reference to something large can happen under any lock, so that what follows is left to a thread. Waking that
//! thread costs two switches, often another CPU, and lets programs cause work faster than it is done. So whoever causes it while it runs
//! a program [takes it on](take_on) and does it at the end of its system call, which is where [`run_taken_on`] is called. A thread that goes to sleep
//! or ends before then hands the errand back, so that it waits for nobody.
//!
//! There is one errand in the system: the end of network namespaces. Neighbours: [`crate::sleep`] and
//! [`crate::exit_current`] hand back. Locks: none.

use core::sync::atomic::{AtomicU8, Ordering};
use machine::preempt;
use machine::sync::Once;

use crate::thread::{Thread, try_current};

/// What an errand does.
#[derive(Clone, Copy)]
pub struct Errand {
    /// Does all that there is to do. Called with no lock held; may sleep.
    pub run: fn(),
    /// Wakes the thread whose work it is. Any context.
    pub hand_back: fn(),
}

static ERRAND: Once<Errand> = Once::new();

/// How a thread stands to errands; only the thread itself changes it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stand {
    /// It does not come to the end of a call: a kernel thread.
    Unfit = 0,
    Fit = 1,
    TakenOn = 2,
}

/// A thread's part.
pub(crate) struct Errands(AtomicU8);

impl Errands {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(Stand::Unfit as u8))
    }

    fn stands(&self, stand: Stand) -> bool {
        self.0.load(Ordering::Relaxed) == stand as u8
    }

    fn set(&self, stand: Stand) {
        self.0.store(stand as u8, Ordering::Relaxed);
    }
}

/// Says what the errand is; once, at boot.
pub fn register(errand: Errand) {
    let _ = ERRAND.set(errand);
}

/// The running thread will call [`run_taken_on`] soon after whatever it does from now on.
pub fn note_fit() {
    if let Some(thread) = try_current() {
        thread.errands.set(Stand::Fit);
    }
}

/// There is something to do. False: nobody will do it unless the caller wakes the thread whose work it is. Any context.
pub fn take_on() -> bool {
    // Not in an interrupt, which may have come after the thread decided to sleep, nor under a spin lock.
    if !preempt::may_sleep() {
        return false;
    }
    let Some(thread) = try_current() else { return false };
    let fit = !thread.errands.stands(Stand::Unfit);
    if fit {
        thread.errands.set(Stand::TakenOn);
    }
    fit
}

/// Does what the running thread has taken on. No lock is held.
#[inline]
pub fn run_taken_on(thread: &Thread) {
    if thread.errands.stands(Stand::TakenOn) {
        thread.errands.set(Stand::Fit);
        if let Some(errand) = ERRAND.get() {
            (errand.run)();
        }
    }
}

/// The thread goes to sleep, or ends: what it has taken on is done by the other.
#[inline]
pub(crate) fn hand_back(thread: &Thread) {
    if thread.errands.stands(Stand::TakenOn) {
        thread.errands.set(Stand::Fit);
        if let Some(errand) = ERRAND.get() {
            (errand.hand_back)();
        }
    }
}
