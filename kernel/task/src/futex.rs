//! What futexes and threads know of each other: the end of a thread, and ids for priority inheritance.

use crate::task::{Task, with_current};
use alloc::sync::Arc;
use ipc::futex::pi::{self, PiThreads};
use ipc::futex::{MATCH_ANY, Scope, Word, robust, wake};
use sched::Thread;

/// Thread ids for priority-inheriting futexes.
struct Ids;

impl PiThreads for Ids {
    fn current_id(&self) -> u32 {
        with_current(|task| task.thread_id() as u32).unwrap_or(0)
    }

    fn find(&self, id: u32) -> Option<Arc<Thread>> {
        let id = i32::try_from(id).ok()?;
        let task = with_current(|task| task.process().namespace().find_task(id))??;
        (!task.is_ending()).then(|| task.thread().clone())
    }
}

/// Registers with the futex layer; once.
pub(crate) fn register() {
    pi::register_threads(&Ids);
}

/// The running thread leaves its memory: the futexes on its robust list pass on, and those it owns with priority inheritance.
pub(crate) fn release_owned(task: &Task) {
    let head = task.robust_list();
    if head != 0 {
        task.set_robust_list(0);
        if let Some(space) = task.process().space() {
            robust::release(&space, head, task.thread_id() as u32);
        }
    }
    pi::release_owned();
}

/// Wakes one waiter of the word at `address` of the running thread's memory.
pub(crate) fn wake_one(task: &Task, address: usize) {
    let Some(space) = task.process().space() else { return };
    if let Ok(word) = Word::new(&space, address, Scope::Shared) {
        let _ = wake(word, 1, MATCH_ANY);
    }
}
