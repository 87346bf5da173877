//! membarrier(2): makes every running thread pass a memory barrier, so that the fast side of an algorithm needs none.
//!
//! The barrier on another CPU is an inter-processor call; commands on one process need registration first.

use crate::task::Task;
use abi::errno::{Errno, Result};
use core::sync::atomic::{Ordering, fence};
use machine::cpu::CpuSet;

/// The commands of the manual page.
mod command {
    pub const QUERY: i32 = 0;
    pub const GLOBAL: i32 = 1;
    pub const GLOBAL_EXPEDITED: i32 = 1 << 1;
    pub const REGISTER_GLOBAL_EXPEDITED: i32 = 1 << 2;
    pub const PRIVATE_EXPEDITED: i32 = 1 << 3;
    pub const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    pub const PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 5;
    pub const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 6;
    pub const GET_REGISTRATIONS: i32 = 1 << 9;
}

const SUPPORTED: i32 = command::GLOBAL
    | command::GLOBAL_EXPEDITED
    | command::REGISTER_GLOBAL_EXPEDITED
    | command::PRIVATE_EXPEDITED
    | command::REGISTER_PRIVATE_EXPEDITED
    | command::PRIVATE_EXPEDITED_SYNC_CORE
    | command::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
    | command::GET_REGISTRATIONS;

/// membarrier(2).
///
/// # Errors
/// EINVAL: unknown command or flags. EPERM: the process is not registered for it.
pub fn membarrier(task: &Task, command: i32, flags: u32) -> Result<i32> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let state = task.process().membarrier_state();
    match command {
        command::QUERY => Ok(SUPPORTED),
        command::GLOBAL | command::GLOBAL_EXPEDITED => {
            barrier_everywhere();
            Ok(0)
        }
        command::REGISTER_GLOBAL_EXPEDITED
        | command::REGISTER_PRIVATE_EXPEDITED
        | command::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            state.fetch_or(command as u32, Ordering::Relaxed);
            Ok(0)
        }
        command::PRIVATE_EXPEDITED | command::PRIVATE_EXPEDITED_SYNC_CORE => {
            // The registration of a command is the next bit.
            if state.load(Ordering::Relaxed) & (command as u32) << 1 == 0 {
                return Err(Errno::EPERM);
            }
            barrier_everywhere();
            Ok(0)
        }
        command::GET_REGISTRATIONS => Ok(state.load(Ordering::Relaxed) as i32),
        _ => Err(Errno::EINVAL),
    }
}

/// An inter-processor interrupt is a full barrier, and its return serialises the instruction stream.
fn barrier_everywhere() {
    fence(Ordering::SeqCst);
    let mut others = CpuSet::all_online();
    others.remove(machine::cpu::current());
    if !others.is_empty() {
        machine::cpu::call_on(&CpuSet::all_online(), &|| fence(Ordering::SeqCst));
    }
    fence(Ordering::SeqCst);
}
