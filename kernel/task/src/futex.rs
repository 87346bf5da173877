//! What the end of a thread asks of futexes: the robust list and the word of `set_tid_address`.
//!
//! The futex layer registers [`FutexCleanup`]; without it nobody can wait on a futex, so that there is nobody to wake.

use crate::task::Task;
use machine::sync::Once;

/// The part of the futex layer that a thread's end needs.
pub trait FutexCleanup: Sync {
    /// Marks the futexes on the list at `head` as owned by a dead thread `thread_id`, and wakes a waiter of each.
    fn exit_robust_list(&self, task: &Task, head: usize, thread_id: u32);
    /// Wakes one waiter of the word at `address`.
    fn wake_one(&self, task: &Task, address: usize);
}

static CLEANUP: Once<&'static dyn FutexCleanup> = Once::new();

/// Registers the futex layer; once.
pub fn register(cleanup: &'static dyn FutexCleanup) -> bool {
    CLEANUP.set(cleanup).is_ok()
}

pub(crate) fn exit_robust_list(task: &Task, head: usize) {
    if let Some(cleanup) = CLEANUP.get() {
        cleanup.exit_robust_list(task, head, task.thread_id() as u32);
    }
}

pub(crate) fn wake_shared_or_private(task: &Task, address: usize) {
    if let Some(cleanup) = CLEANUP.get() {
        cleanup.wake_one(task, address);
    }
}
