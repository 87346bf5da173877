//! Clocks that count a process's or thread's processor time (clock_getcpuclockid(3)).
//!
//! A negative clock id holds the complemented id in its upper bits and the kind in the lowest three: 2 is the scheduler's time, 4
//! marks a thread. User time alone (1) and both times (0) are what old profilers ask for.

use crate::task::Task;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;

const PER_THREAD: i32 = 4;
const KIND: i32 = 3;

/// Processor time that a negative clock id names.
///
/// # Errors
/// EINVAL: no such process or thread, or not of a kind that there is.
pub fn cpu_clock_ns(task: &Arc<Task>, clock: i32) -> Result<u64> {
    let id = !(clock >> 3);
    let (user_ns, all_ns) = if clock & PER_THREAD != 0 {
        let target = crate::calls::find_task(task, id).map_err(|_| Errno::EINVAL)?;
        if !Arc::ptr_eq(target.process(), task.process()) {
            return Err(Errno::EINVAL);
        }
        (target.times().user_ns, target.cpu_time_ns())
    } else {
        let target = crate::calls::find_process(task, id).map_err(|_| Errno::EINVAL)?;
        let usage = crate::usage::of_process(&target);
        (usage.user_ns, usage.cpu_time_ns())
    };
    match clock & KIND {
        0 | 2 => Ok(all_ns),
        1 => Ok(user_ns),
        _ => Err(Errno::EINVAL),
    }
}
