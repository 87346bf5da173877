//! Interrupts: switching them off on this CPU, knowing whether one is being handled, handlers for devices.
//!
//! Key types: [`IrqGuard`], [`IrqLine`] (wires), [`MessageInterrupt`] (what a PCI device sends: MSI, MSI-X).
//!
//! Locks: none; a message's handler is read under RCU.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::{CpuId, PerCpu};
use crate::preempt::{INTERRUPT_MASK, IRQ_GUARD, IRQ_GUARD_MASK};
use crate::sync::{Once, RcuArc, rcu};
use crate::{arch, local};

/// While one lives, interrupts and preemption are off on this CPU. Guards may be dropped in any order; interrupts come
/// back as they were when the last one goes.
#[must_use]
#[derive(Debug)]
pub struct IrqGuard {
    _not_send: PhantomData<*mut ()>,
}

/// Switches interrupts (and preemption) off on this CPU until the guard is dropped.
#[inline(always)]
pub fn disable() -> IrqGuard {
    raw_disable();
    IrqGuard { _not_send: PhantomData }
}

impl Drop for IrqGuard {
    #[inline(always)]
    fn drop(&mut self) {
        raw_enable();
    }
}

/// [`disable`] without a guard, for locks; to be paired with [`raw_enable`].
#[inline(always)]
pub(crate) fn raw_disable() {
    if arch::preempt_count() & IRQ_GUARD_MASK == 0 {
        let saved = arch::irq_save();
        local::local().saved_irq.store(saved, Ordering::Relaxed);
    }
    arch::preempt_add(IRQ_GUARD);
}

/// See [`raw_disable`].
#[inline(always)]
pub(crate) fn raw_enable() {
    let saved = local::local().saved_irq.load(Ordering::Relaxed);
    let count = arch::preempt_sub(IRQ_GUARD);
    if count & IRQ_GUARD_MASK == 0 {
        arch::irq_restore(saved);
        if count == 0 && arch::need_resched() {
            crate::preempt::reschedule_if_enabled();
        }
    }
}

/// Whether this code runs in an interrupt handler (or a function called by one).
#[inline]
pub fn in_interrupt() -> bool {
    arch::preempt_count() & INTERRUPT_MASK != 0
}

/// Whether interrupts are on.
#[inline]
pub fn enabled() -> bool {
    arch::irq_enabled()
}

/// An interrupt line of the platform (a global system interrupt number of ACPI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IrqLine(pub u32);

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTrigger {
    /// By a rising edge (ISA).
    Edge,
    /// By a high level, until the device is served.
    LevelHigh,
    /// By a low level (PCI).
    LevelLow,
}

/// Why [`register`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// There is no such line.
    NoSuchLine,
    /// The line has a handler already, or no vector is free.
    Busy,
}

const LINES: usize = 256;
/// What is called in interrupt context.
pub type Handler = Box<dyn Fn() + Send + Sync>;
static HANDLERS: [crate::sync::Once<Handler>; LINES] = [const { crate::sync::Once::new() }; LINES];

fn dispatch(line: u32) {
    let _in_rcu = crate::sync::rcu::enter_interrupt();
    if let Some(handler) = HANDLERS.get(line as usize).and_then(|slot| slot.get()) {
        handler();
    }
}

/// Calls `handler` in interrupt context whenever the line fires, from now on.
pub fn register(line: IrqLine, trigger: LineTrigger, handler: Handler) -> Result<(), RegisterError> {
    let slot = HANDLERS.get(line.0 as usize).ok_or(RegisterError::NoSuchLine)?;
    slot.set(handler).map_err(|_| RegisterError::Busy)?;
    if arch::register_irq(line.0, trigger, dispatch) { Ok(()) } else { Err(RegisterError::NoSuchLine) }
}

/// The line that an ISA interrupt number is wired to, and how it triggers.
pub fn isa_line(irq: u8) -> (IrqLine, LineTrigger) {
    let (line, trigger) = arch::isa_to_gsi(irq);
    (IrqLine(line), trigger)
}

/// Interrupts that a CPU has handled since boot, for `/proc/stat`.
pub fn handled_count(cpu: crate::cpu::CpuId) -> u64 {
    arch::interrupt_count(cpu.index() as u32)
}

/// The backend's call-function interrupt: runs what [`crate::cpu::call_on`] asked of this CPU.
pub(crate) fn on_ipi_call() {
    let _in_rcu = crate::sync::rcu::enter_interrupt();
    crate::cpu::run_pending_call();
}

/// What a device writes where to interrupt a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address.
    pub address: u64,
    /// The value.
    pub data: u32,
}

/// The receiver of one message at one CPU.
#[derive(Default)]
struct Receiver {
    taken: AtomicBool,
    handler: RcuArc<Handler>,
}

type Receivers = [Receiver; arch::MESSAGES_PER_CPU];
static RECEIVERS: Once<PerCpu<Receivers>> = Once::new();

/// No CPU can take another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessages;

/// A message that is this owner's alone. When it is dropped its handler may still be running, but is not called again.
#[must_use]
pub struct MessageInterrupt {
    cpu: CpuId,
    index: usize,
}

impl MessageInterrupt {
    /// Reserves a message to `cpu` and calls `handler` there in interrupt context whenever it comes. Tell the device to
    /// stop before it is dropped.
    pub fn new(cpu: CpuId, handler: Handler) -> Result<MessageInterrupt, NoMessages> {
        let all =
            RECEIVERS.get_or_init(|| PerCpu::new_with(|_| core::array::from_fn(|_| Receiver::default())));
        if cpu.index() >= crate::cpu::possible_count() || arch::message_for(cpu.index() as u32, 0).is_none() {
            return Err(NoMessages);
        }
        let free = |receiver: &Receiver| !receiver.taken.swap(true, Ordering::AcqRel);
        let index = all.get_on(cpu).iter().position(free).ok_or(NoMessages)?;
        all.get_on(cpu)[index].handler.replace(Some(Arc::new(handler)));
        Ok(MessageInterrupt { cpu, index })
    }

    /// What the device has to be told.
    pub fn message(&self) -> Message {
        let (address, data) = arch::message_for(self.cpu.index() as u32, self.index).unwrap_or_default();
        Message { address, data }
    }

    /// Which CPU it goes to.
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }
}

impl Drop for MessageInterrupt {
    fn drop(&mut self) {
        let Some(all) = RECEIVERS.get() else { return };
        let receiver = &all.get_on(self.cpu)[self.index];
        receiver.handler.replace(None);
        receiver.taken.store(false, Ordering::Release);
    }
}

/// Calls the handler of a message.
pub(crate) fn deliver(cpu: usize, index: usize) {
    let Some((all, cpu)) = RECEIVERS.get().zip(CpuId::new(cpu)) else { return };
    let guard = rcu::read_lock();
    if let Some(handler) = all.get_on(cpu).get(index).and_then(|receiver| receiver.handler.load(&guard)) {
        handler();
    }
}

/// A message has come to this CPU.
#[cfg(target_os = "none")]
pub(crate) fn on_message(index: usize) {
    let _in_rcu = rcu::enter_interrupt();
    deliver(arch::cpu_id() as usize, index);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_their_handler_until_it_goes() {
        let count = Arc::new(core::sync::atomic::AtomicU32::new(0));
        let seen = count.clone();
        let handler = Box::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let first = MessageInterrupt::new(CpuId::default(), handler).unwrap();
        let second = MessageInterrupt::new(CpuId::default(), Box::new(|| {})).unwrap();
        assert_ne!(first.message(), second.message());
        let message = first.message();
        crate::host::raise(message);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(first);
        crate::host::raise(message);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn guards_nest_in_any_order() {
        assert!(enabled());
        let first = disable();
        let second = disable();
        drop(first);
        assert!(!enabled());
        drop(second);
        assert!(enabled());
    }
}
