//! Errands: work that a thread of its own would do, done by the program's thread that caused it, once it holds no lock any more.
//!
//! Dropping the last reference to something large can happen under any lock, so that what follows is left to a thread. Waking that
//! thread costs two switches, often another CPU, and lets programs cause work faster than it is done. So whoever causes it while it runs
//! a program [takes it on](take_on) and does it at the end of its system call, which is where [`run_taken_on`] is called. A thread that goes to sleep
//! or ends before then hands the errand back, so that it waits for nobody.
//!
//! There are two errands in the system: the end of network namespaces, and the end of files. Neighbours: [`crate::sleep`] and
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

/// Which of the errands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrandId(u8);

/// The most that there may be.
const MOST: usize = 4;

static ERRANDS: [Once<Errand>; MOST] = [const { Once::new() }; MOST];

/// The thread comes to the end of a call: it is no kernel thread.
const FIT: u8 = 1 << MOST;

/// How a thread stands to errands: [`FIT`], and a bit for each that it has taken on. Only the thread itself changes it.
pub(crate) struct Errands(AtomicU8);

impl Errands {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, bits: u8) {
        self.0.store(bits, Ordering::Relaxed);
    }

    /// Those taken on, which it has no longer.
    fn take(&self) -> impl Iterator<Item = &'static Errand> {
        let taken = self.get();
        self.set(taken & FIT);
        ERRANDS
            .iter()
            .enumerate()
            .filter(move |(id, _)| taken & 1 << id != 0)
            .filter_map(|(_, errand)| errand.get())
    }
}

/// Says what an errand is; at boot. `None`: there are too many.
pub fn register(errand: Errand) -> Option<ErrandId> {
    let free = ERRANDS.iter().position(|place| place.set(errand).is_ok());
    free.map(|id| ErrandId(id as u8))
}

/// The running thread will call [`run_taken_on`] soon after whatever it does from now on.
pub fn note_fit() {
    if let Some(thread) = try_current() {
        thread.errands.set(FIT);
    }
}

/// There is something to do. False: nobody will do it unless the caller wakes the thread whose work it is. Any context.
pub fn take_on(errand: ErrandId) -> bool {
    // Not in an interrupt, which may have come after the thread decided to sleep, nor under a spin lock.
    if !preempt::may_sleep() {
        return false;
    }
    let Some(thread) = try_current() else { return false };
    let bits = thread.errands.get();
    let fit = bits & FIT != 0;
    if fit {
        thread.errands.set(bits | 1 << errand.0);
    }
    fit
}

/// Does what the running thread has taken on. No lock is held.
#[inline]
pub fn run_taken_on(thread: &Thread) {
    if thread.errands.get() & !FIT != 0 {
        thread.errands.take().for_each(|errand| (errand.run)());
    }
}

/// The thread goes to sleep, or ends: what it has taken on is done by the others.
#[inline]
pub(crate) fn hand_back(thread: &Thread) {
    if thread.errands.get() & !FIT != 0 {
        thread.errands.take().for_each(|errand| (errand.hand_back)());
    }
}
