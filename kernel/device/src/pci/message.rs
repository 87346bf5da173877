//! Interrupts that a function sends as messages: MSI-X, or a single one by MSI.
//!
//! Key type: [`Messages`]. Reference: PCI Local Bus Specification 3.0, 6.8. Locks: none.

use super::Function;
use super::function::{CAPABILITY_MESSAGE, CAPABILITY_MESSAGES};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::cpu::CpuId;
use machine::irq::{Handler, Message, MessageInterrupt};
use machine::mmio::MmioWindow;

const CONTROL: usize = 2;
/// What MSI-X has.
mod table {
    pub const PLACE: usize = 4;
    pub const ENABLE: u16 = 1 << 15;
    pub const MASK_ALL: u16 = 1 << 14;
    pub const SIZE: u16 = 0x7ff;
    /// Bytes of an entry of the table, and its parts.
    pub const ENTRY: usize = 16;
    pub const ADDRESS_LOW: usize = 0;
    pub const ADDRESS_HIGH: usize = 4;
    pub const DATA: usize = 8;
    pub const ENTRY_CONTROL: usize = 12;
    pub const MASKED: u32 = 1;
}
/// What MSI has.
mod single {
    pub const ENABLE: u16 = 1;
    /// How many are sent, as a power of two: one.
    pub const COUNT: u16 = 7 << 4;
    pub const WIDE: u16 = 1 << 7;
    pub const ADDRESS_LOW: usize = 4;
    /// Only if it is wide: the data follows then.
    pub const ADDRESS_HIGH: usize = 8;
}

/// How a function is told where its messages go.
enum Registers {
    Table(MmioWindow),
    Single,
}

/// The messages of a function; it sends none any more when this is dropped.
pub struct Messages {
    function: Arc<Function>,
    capability: usize,
    registers: Registers,
    interrupts: Vec<MessageInterrupt>,
}

impl Messages {
    /// How many messages a function can send.
    pub(super) fn count(function: &Function) -> usize {
        match function.capabilities(CAPABILITY_MESSAGES).next() {
            Some(at) => usize::from(function.read::<u16>(at + CONTROL) & table::SIZE) + 1,
            None => function.capabilities(CAPABILITY_MESSAGE).take(1).count(),
        }
    }

    /// Has message N of a function handled by handler N, at its CPU.
    ///
    /// Errors: `ENODEV`: it has not so many; `ENOSPC`: a CPU can take no more; as [`Function::map`].
    pub fn new(function: &Arc<Function>, handlers: Vec<(CpuId, Handler)>) -> Result<Messages> {
        if handlers.len() > Messages::count(function) {
            return Err(Errno::ENODEV);
        }
        let (capability, registers) = match function.capabilities(CAPABILITY_MESSAGES).next() {
            Some(at) => {
                let place = function.read::<u32>(at + table::PLACE);
                let length = handlers.len() * table::ENTRY;
                (at, Registers::Table(function.map((place & 7) as u8, u64::from(place & !7), length)?))
            }
            None => {
                (function.capabilities(CAPABILITY_MESSAGE).next().ok_or(Errno::ENODEV)?, Registers::Single)
            }
        };
        let mut interrupts = Vec::new();
        for (cpu, handler) in handlers {
            interrupts.push(MessageInterrupt::new(cpu, handler).map_err(|_| Errno::ENOSPC)?);
        }
        let messages = Messages { function: function.clone(), capability, registers, interrupts };
        messages.start();
        Ok(messages)
    }

    fn set_control(&self, set: u16, clear: u16) {
        let at = self.capability + CONTROL;
        let control = self.function.read::<u16>(at);
        self.function.write(at, control & !clear | set);
    }

    fn start(&self) {
        match (&self.registers, self.interrupts.first()) {
            (Registers::Table(window), _) => self.start_table(window),
            (Registers::Single, Some(interrupt)) => self.start_single(interrupt.message()),
            (Registers::Single, None) => {}
        }
    }

    /// Fills the table while all are masked, then lets them go.
    fn start_table(&self, window: &MmioWindow) {
        self.set_control(table::ENABLE | table::MASK_ALL, 0);
        for (number, interrupt) in self.interrupts.iter().enumerate() {
            let message = interrupt.message();
            let entry = number * table::ENTRY;
            window.write(entry + table::ADDRESS_LOW, message.address as u32);
            window.write(entry + table::ADDRESS_HIGH, (message.address >> 32) as u32);
            window.write(entry + table::DATA, message.data);
            window.write(entry + table::ENTRY_CONTROL, 0u32);
        }
        self.set_control(0, table::MASK_ALL);
    }

    fn start_single(&self, message: Message) {
        let at = self.capability;
        self.function.write(at + single::ADDRESS_LOW, message.address as u32);
        let mut data = at + single::ADDRESS_HIGH;
        if self.function.read::<u16>(at + CONTROL) & single::WIDE != 0 {
            self.function.write(at + single::ADDRESS_HIGH, (message.address >> 32) as u32);
            data += 4;
        }
        self.function.write(data, message.data as u16);
        self.set_control(single::ENABLE, single::COUNT);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        match &self.registers {
            Registers::Table(window) => {
                for number in 0..self.interrupts.len() {
                    window.write(number * table::ENTRY + table::ENTRY_CONTROL, table::MASKED);
                }
                self.set_control(0, table::ENABLE);
            }
            Registers::Single => self.set_control(0, single::ENABLE),
        }
    }
}

impl Function {
    /// Has message N handled by handler N. Errors: as [`Messages::new`].
    pub fn send_messages(self: &Arc<Self>, handlers: Vec<(CpuId, Handler)>) -> Result<Messages> {
        Messages::new(self, handlers)
    }
}
