//! The life of a thread between kernel and program.
//!
//! [`run`] enters user mode, and on each way out does what the program asked for (a system call, by the dispatcher that the system-call
//! layer registers), what it did (a fault or another exception), or nothing (an interrupt); then pending work is done:
//! signals, rescheduling, rseq. It returns when the thread ends. Nothing is locked here.

use crate::exit::finish_thread;
use crate::signal::deliver::{AfterWork, exit_work};
use crate::task::Task;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use machine::sync::Once;
use machine::user::{UserExit, UserRegisters, run_user};

/// Handles a system call: the number is in `orig_rax`, the result goes to `rax` (errors negative). Calls that change the
/// registers themselves return the value `rax` shall have.
pub type Dispatcher = fn(&Arc<Task>, &mut UserRegisters) -> isize;

static DISPATCHER: Once<Dispatcher> = Once::new();

/// Registers the system-call layer; once, before the first program.
pub fn register_dispatcher(dispatcher: Dispatcher) -> bool {
    DISPATCHER.set(dispatcher).is_ok()
}

fn no_dispatcher(_: &Arc<Task>, _: &mut UserRegisters) -> isize {
    abi::errno::Errno::ENOSYS.as_return()
}

/// Runs a program's thread from these registers until it ends.
pub(crate) fn run(task: Arc<Task>, mut registers: UserRegisters) {
    let dispatcher = *DISPATCHER.get_or_init(|| no_dispatcher);
    let thread = sched::current();
    let mut cpu = machine::cpu::current();
    sched::note_program();
    sched::errand::note_fit();
    loop {
        sched::errand::run_taken_on(&thread);
        sched::schedule_if_needed();
        if machine::cpu::current() != cpu {
            cpu = machine::cpu::current();
            crate::rseq::note_exit(&task);
        }
        if task.rseq_event.load(Ordering::Relaxed) {
            crate::rseq::resume(&task, &mut registers);
        }
        if thread.signal_pending.load(Ordering::Relaxed) {
            // Rescheduling comes after: signal work may take long.
            match exit_work(&task, &mut registers) {
                AfterWork::Resume => {}
                AfterWork::End(status) => {
                    finish_thread(&task, status);
                    return;
                }
            }
        }
        match run_user(&mut registers, &thread.signal_pending, cpu) {
            UserExit::Syscall => {
                let result = dispatcher(&task, &mut registers);
                registers.rax = result as u64;
            }
            UserExit::Interrupt => crate::rseq::note_exit(&task),
            UserExit::PageFault { address, access, present } => {
                crate::fault::page_fault(&task, address, access, present);
            }
            UserExit::Exception { vector, error_code, address } => {
                crate::fault::exception(&task, &registers, vector, error_code, address);
            }
        }
    }
}
