//! What cannot be done in an interrupt: a thread that does it.
//!
//! Key functions: [`later`] (any context), [`run`] (the thread's body). Locks: the list, a leaf.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};

/// Something to be done.
pub type Work = Box<dyn FnOnce() + Send>;

static LIST: IrqSpinLock<VecDeque<Work>> = IrqSpinLock::new(VecDeque::new());
static ARRIVED: WaitQueue = WaitQueue::new();

/// Has `work` done by the thread, soon and in order. Any context.
pub fn later(work: Work) {
    LIST.lock().push_back(work);
    ARRIVED.wake_all();
}

/// Does what there is to do, for ever.
pub fn run() {
    loop {
        let next = ARRIVED.wait_until(WaitKind::Uninterruptible, None, || LIST.lock().pop_front());
        if let Ok(work) = next {
            work();
        }
    }
}
