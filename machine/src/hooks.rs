//! Calls from the machine up to the kernel: a table of functions, registered once at boot.
//!
//! Key type: [`Hooks`]. The backend calls the functions here, which do nothing (or fail) before registration.

use crate::sync::{Once, rcu};
use crate::user::{Fault, FaultAccess};

/// A fault that the kernel itself took on a user address (a copy from or to user memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFaultInfo {
    /// The address that was touched.
    pub address: usize,
    /// How it was touched.
    pub access: FaultAccess,
    /// Whether a page was there (then its protection was wrong).
    pub present: bool,
}

/// What an interrupt found this CPU at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// A program.
    User,
    /// The kernel.
    Kernel,
}

/// The functions that the crates above give to the machine.
#[derive(Debug)]
pub struct Hooks {
    /// This CPU's one-shot timer fired. Interrupt context.
    pub timer: fn(Interrupted),
    /// A preemption is due: interrupts on or off, preempt count 0. Called at the end of an interrupt and when the last
    /// preempt guard goes; should clear need-resched and switch threads.
    pub preempt: fn(),
    /// Kernel code touched user memory that is not mapped. Thread context, interrupts on, may sleep. `Ok` retries.
    pub page_fault: fn(&PageFaultInfo) -> core::result::Result<(), Fault>,
    /// The kernel hit a bug in the current thread (an exception in kernel mode); may kill the thread by not returning.
    /// If it returns the machine panics.
    pub oops: fn(&str),
    /// A byte came in on the serial console. Interrupt context.
    pub serial_input: fn(u8),
}

static HOOKS: Once<&'static Hooks> = Once::new();

/// Sets the hooks; once, before [`crate::cpu::start_secondary_cpus`]. A second call is ignored and gives `false`.
pub fn register(hooks: &'static Hooks) -> bool {
    HOOKS.set(hooks).is_ok()
}

/// The timer interrupt.
pub(crate) fn timer(interrupted: Interrupted) {
    let _in_rcu = rcu::enter_interrupt();
    if let Some(hooks) = HOOKS.get() {
        (hooks.timer)(interrupted);
    }
}

/// A preemption point was reached with need-resched set.
pub(crate) fn preempt() {
    rcu::note_quiescent();
    if let Some(hooks) = HOOKS.get() {
        (hooks.preempt)();
    } else {
        crate::arch::clear_need_resched();
    }
}

/// The kernel faulted on a user address with preemption on.
pub(crate) fn page_fault(info: &PageFaultInfo) -> Result<(), Fault> {
    HOOKS.get().map_or(Err(Fault), |hooks| (hooks.page_fault)(info))
}

/// An exception in kernel mode. Comes back if nobody took care.
#[cfg(target_os = "none")]
pub(crate) fn oops(text: &str) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.oops)(text);
    }
}

/// A byte from the serial line.
#[cfg(target_os = "none")]
pub(crate) fn serial_input(byte: u8) {
    let _in_rcu = rcu::enter_interrupt();
    if let Some(hooks) = HOOKS.get() {
        (hooks.serial_input)(byte);
    }
}
