//! The x86_64 backend: boot, traps, the MMU, interrupt controllers, clocks, the context switch.
//!
//! The rest of the crate uses what is re-exported here; `arch/host` gives the same names. Boot order: [`entry`] (first
//! instructions) → [`boot`] (relocation, tables, devices) → the image's main function.

mod acpi;
mod apic;
mod boot;
mod clock;
mod context;
mod cpu;
mod descriptors;
mod devices;
mod entry;
mod features;
mod fpu;
mod hooks;
mod lock;
mod paging;
mod panic;
mod power;
mod provoke;
mod serial;
mod smp;
mod stack;
mod string;
mod symbols;
mod traps;
mod user;

pub(crate) use acpi::{isa_to_gsi, possible_cpus, virtio_mmio_devices};
pub(crate) use apic::{Ipi, MESSAGES_PER_CPU, message_for, register_irq, send_ipi};
pub(crate) use boot::{boot_entropy, command_line, initramfs, initramfs_ram_end};
pub(crate) use clock::{boot_realtime_ns, cancel_timer, clock_parameters, now_ns, set_timer};
pub(crate) use context::{Context, context_switch};
pub(crate) use cpu::{
    clear_need_resched, cpu_count, cpu_id, cpuid_words, current_thread, elf_hwcap, idle_wait, irq_disable,
    irq_enable, irq_enabled, irq_restore, irq_save, need_resched, preempt_add, preempt_count, preempt_sub,
    relax, set_current_thread, set_need_resched,
};
pub(crate) use devices::{map_registers, may_be_device, pci_buses, pci_function};
pub(crate) use fpu::{
    DEFAULT_KEY_RIGHTS, FpuArea, exchange_key_rights, fpu_restore, fpu_save, fpu_size, has_protection_keys,
    key_rights_place, xcr0,
};
pub(crate) use paging::{
    PTE_ACCESSED, PTE_ADDRESS_MASK, PTE_DIRTY, PTE_NO_EXEC, PTE_PRESENT, PTE_USER, PTE_WRITE,
    direct_map_base, flush_all, flush_page, flush_user_all, kernel_root, load_root, max_pcid,
};
pub(crate) use panic::fatal;
pub(crate) use power::{debug_exit, power_off, reboot};
pub(crate) use provoke::provoke;
pub(crate) use serial::{console_write, serial_discard, serial_is_present, serial_queued, serial_write};
pub(crate) use smp::start_secondary_cpus;
pub(crate) use stack::Stack;
pub(crate) use string::{copy_raw, fill_raw};
pub(crate) use user::{
    copy_from_user, copy_to_user, enter_user, user_bases_load, user_bases_save, user_cmpxchg_u32,
    user_load_u32, user_strncpy, zero_user,
};

/// Interrupts that a CPU has handled.
pub(crate) fn interrupt_count(cpu: u32) -> u64 {
    cpu::area_of(cpu).map_or(0, |area| area.interrupts.load(core::sync::atomic::Ordering::Relaxed))
}

/// Prints to the console from any context; in a panic to all of them.
pub(crate) fn console_print(arguments: core::fmt::Arguments<'_>) {
    struct Console;
    impl core::fmt::Write for Console {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            for part in text.split_inclusive('\n') {
                match part.strip_suffix('\n') {
                    Some(line) => {
                        put(line.as_bytes());
                        put(b"\r\n");
                    }
                    None => put(part.as_bytes()),
                }
            }
            Ok(())
        }
    }
    fn put(bytes: &[u8]) {
        console_write(bytes);
        if panic::is_panicking() {
            crate::console::last_words(bytes);
        }
    }
    let _ = core::fmt::write(&mut Console, arguments);
}
