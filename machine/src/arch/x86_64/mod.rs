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
mod entry;
mod fpu;
mod hooks;
mod lock;
mod paging;
mod panic;
mod power;
mod serial;
mod smp;
mod stack;
mod symbols;
mod traps;
mod user;

pub(crate) use acpi::{LineMode, isa_line, possible_cpus};
pub(crate) use apic::{Ipi, LineError, LineHandler, register_line, send_ipi, send_ipi_others};
pub(crate) use boot::{MemoryRegion, boot_entropy, command_line, initramfs};
pub(crate) use clock::{boot_realtime_ns, cancel_timer, clock_parameters, now_ns, set_timer};
pub(crate) use context::{Context, context_switch};
pub(crate) use cpu::{
    MAX_CPUS, clear_need_resched, cpu_count, cpu_id, current_thread, cycles, elf_hwcap, entropy_u64, idle_wait,
    irq_disable, irq_enable, irq_enabled, irq_restore, irq_save, need_resched, preempt_add, preempt_count,
    preempt_sub, relax, set_current_thread, set_need_resched,
};
pub(crate) use fpu::{FpuArea, fpu_restore, fpu_save, fpu_size, xcr0};
pub(crate) use paging::{
    Caching, PAGE_LEVELS, PTE_ACCESSED, PTE_ADDRESS_MASK, PTE_DIRTY, PTE_GLOBAL, PTE_LARGE, PTE_NO_CACHE,
    PTE_NO_EXEC, PTE_PRESENT, PTE_USER, PTE_WRITE, direct_map_base, flush_all, flush_page, flush_pcid,
    flush_user_all, kernel_root, load_root, map_device, max_pcid, memory_top,
};
pub(crate) use power::{debug_exit, power_off, reboot};
pub(crate) use serial::{SERIAL_RING_BYTES, SerialPort, console_write, console_write_buffered};
pub(crate) use smp::start_secondary_cpus;
pub(crate) use stack::{STACK_BYTES, Stack};
pub(crate) use user::{
    copy_from_user, copy_to_user, enter_user, user_cmpxchg_u32, user_load_u32, user_load_u64, user_store_u64,
    user_strncpy, zero_user,
};

/// Interrupts that a CPU has handled.
pub(crate) fn interrupt_count(cpu: u32) -> u64 {
    cpu::area_of(cpu).map_or(0, |area| area.interrupts.load(core::sync::atomic::Ordering::Relaxed))
}

/// Prints to the console from any context.
pub(crate) fn console_print(arguments: core::fmt::Arguments<'_>) {
    struct Console;
    impl core::fmt::Write for Console {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            for part in text.split_inclusive('\n') {
                match part.strip_suffix('\n') {
                    Some(line) => {
                        console_write(line.as_bytes());
                        console_write(b"\r\n");
                    }
                    None => console_write(part.as_bytes()),
                }
            }
            Ok(())
        }
    }
    let _ = core::fmt::write(&mut Console, arguments);
}
pub(crate) fn user_test() {
    use crate::user::{UserExit, UserRegisters};
    unsafe fn map(address: usize, flags: u64) -> usize {
        let base = direct_map_base();
        let mut table = kernel_root();
        for level in [39, 30, 21] {
            let e = (base + table as usize) as *mut u64;
            unsafe {
                let e = e.add(address >> level & 511);
                if *e == 0 { *e = hooks::alloc_raw().unwrap() | 7; }
                table = *e & PTE_ADDRESS_MASK;
            }
        }
        let p = hooks::alloc_raw().unwrap();
        unsafe { *((base + table as usize) as *mut u64).add(address >> 12 & 511) = p | flags; }
        base + p as usize
    }
    let code = unsafe { map(0x400000, 5) };
    let _ = unsafe { map(0x7fff_0000, 7 | PTE_NO_EXEC) };
    let bytes: &[u8] = &[
        0xbb, 0x40, 0x42, 0x0f, 0x00, // mov ebx, 1000000
        0xb8, 0x27, 0, 0, 0, // L: mov eax, 39
        0x0f, 0x05, // syscall
        0xff, 0xcb, // dec ebx
        0x75, 0xf5, // jnz L
        0xf3, 0x48, 0x0f, 0xae, 0xd7, // wrfsbase rdi
        0xcc, // int3
        0x48, 0x8b, 0x06, // mov rax, [rsi]
        0x0f, 0x0b, // ud2
        0xeb, 0xfe, // jmp .
    ];
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), code as *mut u8, bytes.len()) };
    let mut regs = UserRegisters { rip: 0x400000, rsp: 0x7fff_0ff0, rdi: 0x1234_5000, rsi: 0x7fff_0000, ..Default::default() };
    let start = now_ns();
    let mut count = 0u64;
    loop {
        irq_disable();
        match enter_user(&mut regs) {
            UserExit::Syscall => { regs.rax = 1; count += 1; }
            UserExit::Interrupt => console_print(format_args!("user interrupt rip {:#x}\n", regs.rip)),
            exit => {
                console_print(format_args!("exit {:?} rip {:#x} fs {:#x} rax {} after {} syscalls, {} ns each\n", exit, regs.rip, regs.fs_base, regs.rax, count, (now_ns() - start) / count.max(1)));
                match exit { UserExit::Exception { vector: 3, .. } => { set_timer(now_ns() + 100_000_000); } UserExit::Exception { vector: 6, .. } => { if regs.rsi == 0x99 { break } regs.rsi = 0x99; regs.rip = 0x40001b-5; } UserExit::PageFault { .. } => break, _ => break }
            }
        }
    }
    let mut buffer = [7u8; 200];
    let r = unsafe { [copy_from_user(buffer.as_mut_ptr(), 0x400000, 200), copy_to_user(0x7fff_0ff0, buffer.as_ptr(), 100), zero_user(0x7fff_0fe0, 64), copy_from_user(buffer.as_mut_ptr(), 0x7fff_0fc0, 100)] };
    let s = unsafe { [user_load_u32(0x7fff_0000), user_load_u32(0x1000), user_cmpxchg_u32(0x7fff_0000, 0, 9), user_cmpxchg_u32(0x7fff_0000, 0, 9), user_cmpxchg_u32(0x400000, 0, 9)] };
    let t = unsafe { [user_strncpy(buffer.as_mut_ptr(), 0x7fff_0004, 9), user_strncpy(buffer.as_mut_ptr(), 0x7fff_0ffc, 9), user_strncpy(buffer.as_mut_ptr(), 0x7fff_1000, 9)] };
    console_print(format_args!("copies {:?} {:?} {:?} {:?}\n", r, s, t, &buffer[..4]));
}
pub(crate) fn bringup() -> ! {
    console_print(format_args!("hello; cmdline '{}' initramfs {:?} now {} ns, realtime {}\n", command_line(), initramfs(), now_ns(), boot_realtime_ns()));
    static HOOKS: crate::hooks::Hooks = crate::hooks::Hooks {
        timer: || { console_print(format_args!("timer on {} at {}\n", cpu_id(), now_ns())); if now_ns() < 3_000_000_000 { set_timer(now_ns() + 500_000_000);} },
        preempt: || { clear_need_resched(); console_print(format_args!("preempt on {}\n", cpu_id())) },
        page_fault: |_| Err(crate::user::Fault),
        oops: |_| {},
        serial_input: |b| console_print(format_args!("[{}]", b as char)),
    };
    let _ = crate::hooks::register(&HOOKS);
    let n = start_secondary_cpus(|id| {
        if id < 3 { console_print(format_args!("cpu {} up at {}\n", id, now_ns())); }
        loop { irq_disable(); idle_wait(); irq_enable(); if need_resched() { clear_need_resched(); console_print(format_args!("resched on {}\n", cpu_id())); } }
    });
    console_print(format_args!("{} cpus at {} ns\n", n, now_ns()));
    set_timer(now_ns() + 10_000_000);
    if n > 1 { send_ipi(1, Ipi::Reschedule); send_ipi(1, Ipi::Call); }
    user_test();
    let t = now_ns();
    while now_ns() < t + 2_000_000_000 { irq_disable(); idle_wait(); irq_enable(); }
    if command_line().contains("panic") { panic!("as asked"); }
    if command_line().contains("oops") { unsafe { (0xdead_0000_0000usize as *const u8).read_volatile() }; }
    if command_line().contains("overflow") { fn f(n: u64) -> u64 { let a = [n; 64]; core::hint::black_box(&a); f(n + 1) + a[3] } f(0); }
    power_off()
}
