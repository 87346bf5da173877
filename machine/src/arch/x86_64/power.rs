//! Switching the machine off and resetting it.
//!
//! Off: ACPI S5 through the sleep control register or PM1 control. Reset: the FADT's register, the chipset's port
//! 0xcf9, the keyboard controller, a triple fault. Reference: ACPI 6.5, 4.8.3.2 and 4.8.3.6.

use super::acpi::{self, Register};
use super::cpu::{self, in16, out8, out16};
use super::paging::{Caching, map_device};
use super::serial;

const DEBUG_EXIT_PORT: u16 = 0xf4;
/// What a panic writes to the debug-exit port: QEMU's exit status becomes 2 × 0x32 + 1 = 101.
pub(crate) const DEBUG_EXIT_PANIC: u8 = 0x32;
const SLEEP_ENABLE: u16 = 1 << 13;

fn write_register(register: Register, value: u8) {
    match register {
        // SAFETY: the firmware names this port for switching off or resetting.
        Register::Port(port) => unsafe { out8(port, value) },
        Register::Memory(address) => {
            if let Some(address) = map_device(address, 1, Caching::Uncached) {
                // SAFETY: the firmware names this register; it is mapped.
                unsafe { (address as *mut u8).write_volatile(value) }
            }
        }
    }
}

/// Switches the machine off. If nothing works, halts.
pub(crate) fn power_off() -> ! {
    serial::flush();
    let facts = acpi::facts();
    if let Some(register) = facts.sleep_control {
        write_register(register, facts.sleep_types[0] << 2 | 1 << 5);
    }
    for (port, kind) in facts.pm1_control.iter().zip(facts.sleep_types) {
        let Some(port) = *port else { continue };
        // SAFETY: the PM1 control registers.
        unsafe {
            if in16(port) & 1 == 0 {
                enable_acpi();
            }
            out16(port, in16(port) & !0x3c00 | u16::from(kind) << 10 | SLEEP_ENABLE);
        }
    }
    halt()
}

fn enable_acpi() {
    if let Some((port, value)) = acpi::facts().enable {
        // SAFETY: the firmware's SMI command port with the value it gives for this.
        unsafe { out8(port, value) };
        for _ in 0..100_000 {
            cpu::relax();
        }
    }
}

/// Resets the machine.
pub(crate) fn reboot() -> ! {
    serial::flush();
    if let Some((register, value)) = acpi::facts().reset {
        write_register(register, value);
        wait();
    }
    // SAFETY: reset control of PC chipsets, then the keyboard controller's reset line, then a triple fault.
    unsafe {
        out8(0xcf9, 2);
        out8(0xcf9, 6);
        wait();
        out8(0x64, 0xfe);
        wait();
        let no_table = [0u16; 5];
        core::arch::asm!("lidt [{}]", "int3", in(reg) &no_table);
    }
    halt()
}

fn wait() {
    for _ in 0..10_000_000 {
        cpu::relax();
    }
}

/// Ends QEMU with status `2 × code + 1` if it has the `isa-debug-exit` device; else returns.
pub(crate) fn debug_exit(code: u8) {
    serial::flush();
    // SAFETY: the port belongs to that device or to nothing.
    unsafe { out8(DEBUG_EXIT_PORT, code) };
}

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        cpu::irq_disable();
        // SAFETY: waits for nothing.
        unsafe { core::arch::asm!("hlt", options(nostack)) };
    }
}
