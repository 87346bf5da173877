//! What signalfd(2) reads: the calling thread's pending signals, in the layout of that call.
//!
//! Neighbours: `ipc::signalfd` has the descriptor. Locks: those of [`super::deliver`].

use super::SignalSet;
use super::calls::signal_info_for_reading;
use crate::task::with_current;
use abi::signalfd::SignalfdSiginfo;
use alloc::sync::Arc;
use ipc::signalfd::{SignalSource, register_source};
use machine::sync::WaitQueue;

struct CurrentTask;

impl SignalSource for CurrentTask {
    fn take(&self, mask: u64) -> Option<SignalfdSiginfo> {
        with_current(|task| signal_info_for_reading(task, SignalSet::from_bits(mask))).flatten()
    }

    fn is_pending(&self, mask: u64) -> bool {
        let waiting = with_current(|task| {
            let shared = task.process().shared.lock();
            shared.pending.set().union(task.own.lock().pending.set()).bits()
        });
        waiting.is_some_and(|waiting| waiting & mask != 0)
    }

    fn queue(&self) -> Arc<WaitQueue> {
        let queue = with_current(|task| task.process().signal_wait.clone());
        // A kernel thread has no signals: its queue is never woken.
        queue.unwrap_or_else(|| Arc::new(WaitQueue::new()))
    }
}

/// Registers with signalfd; once.
pub(crate) fn register() {
    let _ = register_source(&CurrentTask);
}
