//! Interrupts that a function sends as messages (MSI-X).
//!
//! Key type: [`Messages`]. Reference: PCI Local Bus Specification 3.0, 6.8.2. Locks: none.

use super::Function;
use super::function::CAPABILITY_MESSAGES;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::cpu::CpuId;
use machine::irq::{Handler, MessageInterrupt};
use machine::mmio::MmioWindow;

const CONTROL: usize = 2;
const TABLE: usize = 4;
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
const SIZE: u16 = 0x7ff;
/// Bytes of an entry of the table, and its parts.
const ENTRY: usize = 16;
const ADDRESS_LOW: usize = 0;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const ENTRY_CONTROL: usize = 12;
const MASKED: u32 = 1;

/// The messages of a function; it sends none any more when this is dropped.
pub struct Messages {
    function: Arc<Function>,
    capability: usize,
    table: MmioWindow,
    interrupts: Vec<MessageInterrupt>,
}

impl Messages {
    /// How many messages a function can send.
    pub(super) fn count(function: &Function) -> usize {
        let capability = function.capabilities(CAPABILITY_MESSAGES).next();
        capability.map_or(0, |at| usize::from(function.read::<u16>(at + CONTROL) & SIZE) + 1)
    }

    /// Has message N of a function handled by handler N, at its CPU.
    ///
    /// Errors: `ENODEV`: it has not so many; `ENOSPC`: a CPU can take no more; as [`Function::map`].
    pub fn new(function: &Arc<Function>, handlers: Vec<(CpuId, Handler)>) -> Result<Messages> {
        let capability = function.capabilities(CAPABILITY_MESSAGES).next().ok_or(Errno::ENODEV)?;
        if handlers.len() > Messages::count(function) {
            return Err(Errno::ENODEV);
        }
        let place = function.read::<u32>(capability + TABLE);
        let table = function.map((place & 7) as u8, u64::from(place & !7), handlers.len() * ENTRY)?;
        let mut interrupts = Vec::new();
        for (cpu, handler) in handlers {
            interrupts.push(MessageInterrupt::new(cpu, handler).map_err(|_| Errno::ENOSPC)?);
        }
        let messages = Messages { function: function.clone(), capability, table, interrupts };
        messages.start();
        Ok(messages)
    }

    fn set_control(&self, set: u16, clear: u16) {
        let at = self.capability + CONTROL;
        let control = self.function.read::<u16>(at);
        self.function.write(at, control & !clear | set);
    }

    /// Fills the table while all are masked, then lets them go.
    fn start(&self) {
        self.set_control(ENABLE | MASK_ALL, 0);
        for (number, interrupt) in self.interrupts.iter().enumerate() {
            let message = interrupt.message();
            let entry = number * ENTRY;
            self.table.write(entry + ADDRESS_LOW, message.address as u32);
            self.table.write(entry + ADDRESS_HIGH, (message.address >> 32) as u32);
            self.table.write(entry + DATA, message.data);
            self.table.write(entry + ENTRY_CONTROL, 0u32);
        }
        self.set_control(0, MASK_ALL);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for number in 0..self.interrupts.len() {
            self.table.write(number * ENTRY + ENTRY_CONTROL, MASKED);
        }
        self.set_control(0, ENABLE);
    }
}

impl Function {
    /// Has message N handled by handler N. Errors: as [`Messages::new`].
    pub fn send_messages(self: &Arc<Self>, handlers: Vec<(CpuId, Handler)>) -> Result<Messages> {
        Messages::new(self, handlers)
    }
}
