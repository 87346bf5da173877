//! The point of no return: the process becomes the new program.
//!
//! First all other threads end (the caller takes over the process's own id if it was not the leader); then user memory that
//! belongs to the old program is released and the new space becomes active; then everything that exec resets is reset
//! (execve(2), "Effect on process attributes"). Locks are taken one at a time, in the order of [`crate::process`].

use super::Prepared;
use crate::exit::release_user_memory;
use crate::process::{Process, TREE};
use crate::signal::{AlternateStack, Signal};
use crate::task::Task;
use crate::timers::posix;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use machine::sync::WaitKind;
use machine::user::UserRegisters;
use security::ExecOutcome;

/// Interrupts on, and the bit that is always set.
const INITIAL_FLAGS: u64 = 0x202;
/// PR_SET_DUMPABLE: a privileged program is dumped for root only.
const DUMPABLE_BY_ROOT: u8 = 0;
const DUMPABLE: u8 = 1;

/// Becomes the new program.
///
/// # Errors
/// ERESTARTNOINTR: the process is being killed.
pub(crate) fn commit(task: &Arc<Task>, registers: &mut UserRegisters, prepared: Prepared) -> Result<()> {
    let Prepared { memory, program, outcome, name } = prepared;
    let process = task.process().clone();
    end_other_threads(task, &process)?;
    crate::namespaces::switch::enter_time_for_children(task);
    take_leaders_id(task, &process);
    release_user_memory(task);
    task.set_rseq(None);
    task.set_robust_list(0);
    let thread = sched::current();
    thread.set_page_table(Some(memory.space.page_table().clone()));
    drop(process.replace_space(Some(memory.space)));
    drop(process.replace_executable(Some(program)));
    reset_signals(task, &process);
    posix::delete_all(&process.timers);
    crate::files::close_on_exec(task);
    thread.set_name(&name);
    if let Some(kernel) = thread.kernel() {
        kernel.reset_user_state();
    }
    process.membarrier_state().store(0, Ordering::Relaxed);
    process.exit_signal.store(Signal::SIGCHLD.number() as u32, Ordering::Relaxed);
    TREE.lock().set_executed(process.number());
    apply_credentials(task, &process, outcome);
    *registers = UserRegisters {
        rip: memory.entry,
        rsp: memory.stack_pointer,
        rflags: INITIAL_FLAGS,
        orig_rax: u64::MAX,
        ..UserRegisters::default()
    };
    Ok(())
}

/// Ends every other thread and waits until they are gone.
fn end_other_threads(task: &Task, process: &Process) -> Result<()> {
    {
        let mut shared = process.shared.lock();
        if shared.group_exit.is_some() || shared.exec_owner.is_some() {
            return Err(Errno::ERESTARTNOINTR);
        }
        if shared.threads.len() == 1 {
            return Ok(());
        }
        shared.exec_owner = Some(task.number());
        for other in &shared.threads {
            if other.number() != task.number() {
                other.kill();
            }
        }
    }
    process.stop_wait.wake_all();
    let alone = || (process.thread_count() == 1).then_some(());
    let waited = process.thread_wait.wait_until(WaitKind::Killable, None, alone);
    process.shared.lock().exec_owner = None;
    waited.map_err(|_| Errno::ERESTARTNOINTR)
}

/// A thread that was not the leader becomes it: the process keeps its id (execve(2), "POSIX.1 says").
fn take_leaders_id(task: &Arc<Task>, process: &Process) {
    if task.is_leader() {
        return;
    }
    let old = task.take_pid(process.pid().clone());
    process.pid().set_task(Arc::downgrade(task));
    old.set_task(alloc::sync::Weak::new());
    old.release();
}

fn reset_signals(task: &Task, process: &Process) {
    let handlers = process.handlers();
    // Another process may share the table (CLONE_SIGHAND without CLONE_THREAD): it keeps the old one.
    let own = if Arc::strong_count(&handlers) > 2 { handlers.duplicate() } else { handlers };
    own.update(|table| table.reset_for_exec());
    let old = core::mem::replace(&mut process.shared.lock().handlers, own);
    drop(old);
    task.set_alternate_stack(AlternateStack::NONE);
}

fn apply_credentials(task: &Task, process: &Process, outcome: ExecOutcome) {
    let privileged = outcome.secure || outcome.privileges_changed;
    process.set_dumpable(if privileged { DUMPABLE_BY_ROOT } else { DUMPABLE });
    if outcome.privileges_changed {
        let _ = task.set_parent_death_signal(0);
    }
    task.set_credentials(Arc::new(outcome.credentials));
}
