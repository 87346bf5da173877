//! Interrupts: switching them off on this CPU, knowing whether one is being handled, handlers for devices.
//!
//! Key types: [`IrqGuard`], [`IrqLine`].

use core::marker::PhantomData;

/// While one lives, interrupts and preemption are off on this CPU. Guards may be dropped in any order; interrupts come
/// back as they were when the last one goes.
pub struct IrqGuard {
    _not_send: PhantomData<*mut ()>,
}

/// Switches interrupts (and preemption) off on this CPU until the guard is dropped.
#[inline]
pub fn disable() -> IrqGuard {
    todo!()
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        todo!()
    }
}

/// Whether this code runs in an interrupt handler (or a function called by one).
pub fn in_interrupt() -> bool {
    todo!()
}

/// Whether interrupts are on.
pub fn enabled() -> bool {
    todo!()
}

/// An interrupt line of the platform (a global system interrupt number of ACPI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IrqLine(pub u32);

/// Why [`register`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// There is no such line.
    NoSuchLine,
    /// The line has a handler already, or no vector is free.
    Busy,
}

/// Calls `handler` in interrupt context whenever the line fires, from now on.
pub fn register(
    line: IrqLine,
    handler: alloc::boxed::Box<dyn Fn() + Send + Sync>,
) -> Result<(), RegisterError> {
    let _ = (line, handler);
    todo!()
}

/// Interrupts that this CPU has handled since boot, by kind, for `/proc/interrupts` and `/proc/stat`.
pub fn handled_count(cpu: crate::cpu::CpuId) -> u64 {
    let _ = cpu;
    todo!()
}
