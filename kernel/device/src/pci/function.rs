//! One PCI function: identity, capabilities, memory.
//!
//! Key types: [`Function`], [`Ids`], [`Memory`]. Sizes are found out when the function is, as the specification says: by writing ones
//! while it does not decode; what the firmware has given no address is given one then. Locks: the command register's, a leaf.

use super::Messages;
use super::place::{self, Windows};
use abi::errno::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use machine::memory::PhysAddr;
use machine::mmio::{ClaimError, MmioWindow, Register};
use machine::pci;
use machine::sync::SpinLock;

const VENDOR: usize = 0x00;
const DEVICE: usize = 0x02;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const HEADER: usize = 0x0e;
const BARS: usize = 0x10;
const SECONDARY_BUS: usize = 0x19;
const SUBSYSTEM_VENDOR: usize = 0x2c;
const SUBSYSTEM_DEVICE: usize = 0x2e;
const CAPABILITIES: usize = 0x34;

const COMMAND_IO: u16 = 1;
const COMMAND_MEMORY: u16 = 2;
const COMMAND_MASTER: u16 = 4;
const COMMAND_NO_LINE: u16 = 1 << 10;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const HEADER_BRIDGE: u8 = 1;
const HEADER_MULTIFUNCTION: u8 = 0x80;
/// Capabilities are four bytes at least, in the first 256 bytes behind the header.
const MAX_CAPABILITIES: usize = 48;

/// MSI.
pub(super) const CAPABILITY_MESSAGE: u8 = 0x05;
/// "Vendor specific".
pub const CAPABILITY_VENDOR: u8 = 0x09;
/// PCI Express.
pub const CAPABILITY_EXPRESS: u8 = 0x10;
/// MSI-X.
pub const CAPABILITY_MESSAGES: u8 = 0x11;

/// What a function says that it is.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// Who made it.
    pub vendor: u16,
    /// What it is to its maker.
    pub device: u16,
    /// Whose board it is on.
    pub subsystem_vendor: u16,
    /// What that is to its maker.
    pub subsystem_device: u16,
    /// Class, subclass and interface, a byte each.
    pub class: u32,
    /// Its revision.
    pub revision: u8,
}

/// A range of memory or ports that a function answers at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// The first address; 0: the firmware has given it none.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// The low bits of its register: 1 for ports, 4 for 64 bits, 8 for prefetchable.
    pub flags: u32,
}

impl Memory {
    pub(super) fn is_ports(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Its addresses.
    pub(super) fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.length)
    }
}

/// The name of a place: segment, bus, device, function.
pub(super) fn name(bus: u8, device: u8, number: u8) -> String {
    format!("0000:{bus:02x}:{device:02x}.{number}")
}

/// A function.
pub struct Function {
    bus: u8,
    device: u8,
    number: u8,
    config: MmioWindow,
    memory: [Option<Memory>; 6],
    command: SpinLock<()>,
}

impl Function {
    /// The function at a place, if there is one.
    pub(super) fn find(bus: u8, device: u8, number: u8) -> Option<Function> {
        Function::new(bus, device, number, pci::function(bus, device, number)?)
    }

    /// The function with these registers, if there is one.
    pub(super) fn new(bus: u8, device: u8, number: u8, config: MmioWindow) -> Option<Function> {
        if !config.contains(0, 256) || config.read::<u16>(VENDOR) == 0xffff {
            return None;
        }
        let command = SpinLock::new(());
        let mut function = Function { bus, device, number, config, memory: [None; 6], command };
        function.find_memory();
        Some(function)
    }

    /// Its bus's number.
    pub fn bus(&self) -> u8 {
        self.bus
    }

    /// Whether it still answers: one that was pulled out does not.
    pub fn is_present(&self) -> bool {
        self.config.read::<u16>(VENDOR) != 0xffff
    }

    /// The windows of a bridge.
    pub(super) fn windows(&self) -> Option<Windows> {
        self.is_bridge().then(|| Windows::read(|at| self.config.read(at)))
    }

    /// The addresses that it answers at.
    pub(super) fn taken(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let placed = |memory: &Memory| !memory.is_ports() && memory.address != 0;
        self.memory.iter().flatten().filter(move |memory| placed(memory)).map(Memory::range)
    }

    /// The addresses that a bridge hands on.
    pub(super) fn let_through(&self) -> impl Iterator<Item = Range<u64>> {
        self.windows().into_iter().flat_map(Windows::ranges)
    }

    /// Gives its memory addresses in these windows that are none of `taken`, if it has none yet.
    pub(super) fn place(&mut self, windows: &Windows, taken: &mut Vec<Range<u64>>) {
        let before = self.memory;
        place::place(windows, &mut self.memory, taken);
        for (index, (memory, before)) in self.memory.iter().zip(before).enumerate() {
            let Some(memory) = memory.filter(|memory| Some(*memory) != before) else { continue };
            self.config.write(BARS + 4 * index, memory.address as u32 | memory.flags);
            if memory.flags & 6 == 4 {
                self.config.write(BARS + 4 * index + 4, (memory.address >> 32) as u32);
            }
        }
    }

    /// Its name: segment, bus, device, function.
    pub fn name(&self) -> String {
        name(self.bus, self.device, self.number)
    }

    fn header(&self) -> u8 {
        self.config.read(HEADER)
    }

    pub(super) fn is_multifunction(&self) -> bool {
        self.header() & HEADER_MULTIFUNCTION != 0
    }

    fn is_bridge(&self) -> bool {
        self.header() & !HEADER_MULTIFUNCTION == HEADER_BRIDGE
    }

    /// The bus behind it, if it is a bridge.
    pub(super) fn secondary_bus(&self) -> Option<u8> {
        self.is_bridge().then(|| self.config.read(SECONDARY_BUS))
    }

    /// Reads a register of its configuration space; zero beyond the end or misaligned.
    pub fn read<T: Register>(&self, offset: usize) -> T {
        let fits = offset.is_multiple_of(T::WIDTH) && self.config.contains(offset, T::WIDTH);
        if fits { self.config.read(offset) } else { T::from_u64(0) }
    }

    /// Writes a register of its configuration space; nothing beyond the end or misaligned.
    pub fn write<T: Register>(&self, offset: usize, value: T) {
        if offset.is_multiple_of(T::WIDTH) && self.config.contains(offset, T::WIDTH) {
            self.config.write(offset, value);
        }
    }

    /// What it says that it is.
    pub fn ids(&self) -> Ids {
        let class = self.config.read::<u32>(REVISION);
        let subsystem = |offset| if self.is_bridge() { 0 } else { self.config.read(offset) };
        Ids {
            vendor: self.config.read(VENDOR),
            device: self.config.read(DEVICE),
            subsystem_vendor: subsystem(SUBSYSTEM_VENDOR),
            subsystem_device: subsystem(SUBSYSTEM_DEVICE),
            class: class >> 8,
            revision: class as u8,
        }
    }

    /// Where its capabilities of one kind begin. A list without an end is cut off.
    pub fn capabilities(&self, kind: u8) -> impl Iterator<Item = usize> + '_ {
        let has_list = self.config.read::<u16>(STATUS) & STATUS_CAPABILITIES != 0;
        let mut next = if has_list { self.config.read::<u8>(CAPABILITIES) } else { 0 };
        let list = core::iter::from_fn(move || {
            let at = usize::from(next & !3);
            if at < 0x40 {
                return None;
            }
            next = self.config.read(at + 1);
            Some(at)
        });
        list.take(MAX_CAPABILITIES).filter(move |at| self.config.read::<u8>(*at) == kind)
    }

    /// Finds out where the function answers, and how large that is.
    fn find_memory(&mut self) {
        let count = match self.header() & !HEADER_MULTIFUNCTION {
            0 => 6,
            HEADER_BRIDGE => 2,
            _ => 0,
        };
        let command = self.config.read::<u16>(COMMAND);
        self.config.write(COMMAND, command & !(COMMAND_IO | COMMAND_MEMORY));
        let mut index = 0;
        while index < count {
            let (memory, registers) = self.size(index, count);
            if let Some(place) = self.memory.get_mut(index) {
                *place = memory;
            }
            index += registers;
        }
        self.config.write(COMMAND, command);
    }

    /// What the base address register `index` (and perhaps the next) says, and how many registers that were.
    fn size(&self, index: usize, count: usize) -> (Option<Memory>, usize) {
        let at = BARS + 4 * index;
        let low = self.config.read::<u32>(at);
        let ask = |at: usize, was: u32| {
            self.config.write(at, u32::MAX);
            let answer = self.config.read::<u32>(at);
            self.config.write(at, was);
            answer
        };
        let mask = ask(at, low);
        if low & 1 != 0 {
            let size = u64::from((!(mask & !3) & 0xffff) + 1);
            let memory = Memory { address: u64::from(low & !3), length: size, flags: low & 3 };
            return ((mask & !3 != 0).then_some(memory), 1);
        }
        let flags = low & 0xf;
        let (mut address, mut mask) = (u64::from(low & !0xf), u64::from(mask & !0xf));
        let wide = low & 6 == 4 && index + 1 < count;
        if wide {
            let high = self.config.read::<u32>(at + 4);
            address |= u64::from(high) << 32;
            mask |= u64::from(ask(at + 4, high)) << 32;
        } else {
            mask |= 0xffff_ffff << 32;
        }
        let length = (!mask).wrapping_add(1);
        let there = mask & 0xffff_ffff != 0 || wide && mask != 0;
        let memory = Memory { address, length, flags };
        ((there && length.is_power_of_two()).then_some(memory), if wide { 2 } else { 1 })
    }

    /// Claims `length` bytes at `offset` of a base address register's memory.
    ///
    /// Errors: `ENODEV`: there is no such memory; `EBUSY`; `ENOMEM`.
    pub fn map(&self, bar: u8, offset: u64, length: usize) -> Result<MmioWindow> {
        let memory = self.memory.get(usize::from(bar)).copied().flatten().ok_or(Errno::ENODEV)?;
        let fits = offset.checked_add(length as u64).is_some_and(|end| end <= memory.length);
        if memory.is_ports() || memory.address == 0 || !fits {
            return Err(Errno::ENODEV);
        }
        let start = memory.address.checked_add(offset).ok_or(Errno::ENODEV)?;
        MmioWindow::claim(PhysAddr(start), length).map_err(|error| match error {
            ClaimError::NotADevice => Errno::ENODEV,
            ClaimError::Busy => Errno::EBUSY,
            ClaimError::OutOfMemory => Errno::ENOMEM,
        })
    }

    /// Bytes of a base address register's memory; 0 without.
    pub fn memory_length(&self, bar: u8) -> u64 {
        self.memory.get(usize::from(bar)).copied().flatten().map_or(0, |memory| memory.length)
    }

    /// Lets it answer at its memory and reach ours; no interrupts by line.
    pub fn enable(&self) {
        self.change_command(|command| command | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_LINE);
    }

    /// Keeps it from reaching memory, and with it from sending messages.
    pub fn disable(&self) {
        self.change_command(|command| command & !COMMAND_MASTER);
    }

    fn change_command(&self, change: impl FnOnce(u16) -> u16) {
        let _guard = self.command.lock();
        let command = self.config.read::<u16>(COMMAND);
        self.config.write(COMMAND, change(command));
    }

    /// `resource` in `/sys`: first and last address and kind of each register.
    pub(super) fn write_resources(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        const IO: u64 = 0x100;
        const MEMORY: u64 = 0x200;
        const PREFETCH: u64 = 0x2000;
        const SIZE_ALIGN: u64 = 0x4_0000;
        const WIDE: u64 = 0x10_0000;
        for memory in &self.memory {
            let Some(memory) = memory.filter(|memory| memory.address != 0) else {
                writeln!(out, "{:#018x} {:#018x} {:#018x}", 0, 0, 0)?;
                continue;
            };
            let bits = u64::from(memory.flags);
            let kind = match memory.is_ports() {
                true => IO | bits,
                false => {
                    let wide = if bits & 6 == 4 { WIDE } else { 0 };
                    MEMORY | bits | wide | if bits & 8 != 0 { PREFETCH } else { 0 }
                }
            };
            let end = memory.address.saturating_add(memory.length - 1);
            writeln!(out, "{:#018x} {end:#018x} {:#018x}", memory.address, kind | SIZE_ALIGN)?;
        }
        Ok(())
    }

    /// How many messages it can send (MSI-X, or one by MSI).
    pub fn message_count(&self) -> usize {
        Messages::count(self)
    }

    /// The function with these registers, if there is one; for tests of drivers.
    #[cfg(not(target_os = "none"))]
    pub fn emulated(config: MmioWindow) -> Option<Function> {
        Function::new(0, 0, 0, config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;
    use machine::mmio::Emulated;

    /// Configuration space as bytes, with one 64-bit register of 16 KiB at 0x10 and ports at 0x18.
    struct Config(SpinLock<Vec<u8>>);

    impl Emulated for Config {
        fn read(&self, offset: usize, width: usize) -> u64 {
            let bytes = self.0.lock();
            bytes[offset..offset + width].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
        }

        fn write(&self, offset: usize, width: usize, value: u64) {
            let value = match offset {
                0x10 => value & !0x3fff | 4,
                0x14 => value,
                0x18 => value & 0xffe0 | 1,
                0x1c..0x28 => 0,
                _ => value,
            };
            self.0.lock()[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }

    fn config(change: impl FnOnce(&mut Vec<u8>)) -> MmioWindow {
        let mut bytes = vec![0; 4096];
        bytes[..2].copy_from_slice(&[0xf4, 0x1a]);
        bytes[0x10..0x18].copy_from_slice(&[4, 0, 0, 0, 1, 0, 0, 0]);
        bytes[0x18..0x1c].copy_from_slice(&[0x41, 0xc0, 0, 0]);
        change(&mut bytes);
        MmioWindow::emulated(Arc::new(Config(SpinLock::new(bytes))), 4096)
    }

    #[test]
    fn sizes_are_found_and_nothing_is_left_changed() {
        let function = Function::new(0, 2, 0, config(|_| {})).unwrap();
        assert_eq!(function.memory[0], Some(Memory { address: 1 << 32, length: 0x4000, flags: 4 }));
        assert_eq!(function.memory[2], Some(Memory { address: 0xc040, length: 0x20, flags: 1 }));
        assert_eq!(function.memory[3..], [None; 3]);
        assert_eq!(function.read::<u32>(0x14), 1);
        assert_eq!(function.map(0, 0x3fff, 2).err(), Some(Errno::ENODEV), "beyond its end");
        assert_eq!(function.map(2, 0, 4).err(), Some(Errno::ENODEV), "ports");
        let mut text = String::new();
        function.write_resources(&mut text).unwrap();
        assert!(text.starts_with("0x0000000100000000 0x0000000100003fff 0x0000000000140204\n"), "{text}");
    }

    #[test]
    fn lists_of_capabilities_end() {
        let circle = |bytes: &mut Vec<u8>| {
            bytes[6] = 0x10;
            bytes[0x34] = 0x40;
            bytes[0x40..0x42].copy_from_slice(&[9, 0x48]);
            bytes[0x48..0x4a].copy_from_slice(&[9, 0x40]);
        };
        let function = Function::new(0, 0, 0, config(circle)).unwrap();
        assert_eq!(function.capabilities(9).count(), MAX_CAPABILITIES);
        let end = |bytes: &mut Vec<u8>| {
            circle(bytes);
            bytes[0x49] = 0xfc;
            bytes[0xfc] = 0x11;
        };
        let function = Function::new(0, 0, 0, config(end)).unwrap();
        assert_eq!(function.capabilities(9).collect::<Vec<_>>(), [0x40, 0x48]);
        assert_eq!(function.capabilities(0x11).collect::<Vec<_>>(), [0xfc]);
    }

    #[test]
    fn nothing_is_at_an_empty_place() {
        assert!(Function::new(0, 1, 0, config(|bytes| bytes[..2].fill(0xff))).is_none());
    }
}
