//! GDT, TSS and IDT.
//!
//! Every CPU has a GDT and TSS of its own inside its [`super::cpu::CpuArea`]; all share one IDT. Selector order is what
//! `syscall`/`sysret` want. Reference: Intel SDM volume 3, chapters 3 and 7; AMD APM volume 2, 4.8.

use super::cpu::{self, CpuArea};
use core::arch::asm;

/// Kernel code selector.
pub(super) const KERNEL_CODE: u16 = 0x08;
/// Kernel data selector.
pub(super) const KERNEL_DATA: u16 = 0x10;
/// User data selector with privilege 3.
pub(super) const USER_DATA: u16 = 0x1b;
/// User 64-bit code selector with privilege 3.
pub(super) const USER_CODE: u16 = 0x23;
const TSS_SELECTOR: u16 = 0x28;
/// Interrupt stack table index of NMI.
pub(super) const IST_NMI: u8 = 1;
/// Interrupt stack table index of the double fault.
pub(super) const IST_DOUBLE_FAULT: u8 = 2;
/// Interrupt stack table index of the machine check.
pub(super) const IST_MACHINE_CHECK: u8 = 3;

/// The task state segment of long mode.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub(super) struct TaskState {
    reserved0: u32,
    stack: [u64; 3],
    reserved1: u64,
    interrupt_stack: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map_base: u16,
}

/// A CPU's GDT and TSS.
#[repr(C, align(16))]
pub(super) struct CpuTables {
    gdt: [u64; 8],
    tss: TaskState,
}

impl CpuTables {
    pub(super) const fn new() -> CpuTables {
        CpuTables {
            // 0x08 kernel code, 0x10 kernel data, 0x18 user data, 0x20 user code, 0x28 TSS (two entries).
            gdt: [
                0,
                0x00af_9b00_0000_ffff,
                0x00cf_9300_0000_ffff,
                0x00cf_f300_0000_ffff,
                0x00af_fb00_0000_ffff,
                0,
                0,
                0,
            ],
            tss: TaskState {
                reserved0: 0,
                stack: [0; 3],
                reserved1: 0,
                interrupt_stack: [0; 7],
                reserved2: 0,
                reserved3: 0,
                io_map_base: size_of::<TaskState>() as u16,
            },
        }
    }
}

/// One gate of the IDT.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    low: u64,
    high: u64,
}

#[repr(C, align(4096))]
struct Idt([Gate; 256]);

static mut IDT: Idt = Idt([Gate { low: 0, high: 0 }; 256]);

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Boot CPU's stacks for NMI, double fault and machine check, until it gets guarded ones.
#[repr(C, align(16))]
struct BootStacks([[u8; 8192]; 3]);
static mut BOOT_STACKS: BootStacks = BootStacks([[0; 8192]; 3]);

/// Fills the IDT and loads everything on the boot CPU.
///
/// # Safety
/// Once, on the boot CPU, after [`cpu::init_boot_cpu`].
pub(super) unsafe fn init_boot_cpu() {
    // SAFETY: nothing uses the IDT and stacks yet.
    unsafe {
        let idt = &raw mut IDT;
        for vector in 0..256usize {
            let ist = match vector {
                2 => IST_NMI,
                8 => IST_DOUBLE_FAULT,
                18 => IST_MACHINE_CHECK,
                _ => 0,
            };
            // Only the breakpoint may be raised by a program's `int` instruction (and INTO does not exist in 64-bit mode).
            let privilege = if vector == 3 { 3 } else { 0 };
            (*idt).0[vector] = gate(super::traps::stub_address(vector), ist, privilege);
        }
        let stacks = &raw mut BOOT_STACKS;
        let tops = core::array::from_fn(|index| (&raw mut (*stacks).0[index]).add(1) as u64);
        set_interrupt_stacks(cpu::area(), tops);
        init_cpu(cpu::area());
    }
}

fn gate(address: u64, ist: u8, privilege: u8) -> Gate {
    let kind = 0x8e00 | u64::from(privilege) << 13 | u64::from(ist);
    Gate {
        low: address & 0xffff | u64::from(KERNEL_CODE) << 16 | kind << 32 | (address >> 16 & 0xffff) << 48,
        high: address >> 32,
    }
}

/// Sets up and loads this CPU's GDT, TSS, the IDT and the system-call registers. The stacks for NMI, double fault
/// and machine check are set already.
///
/// # Safety
/// On each CPU once, with `area` its own block already installed.
pub(super) unsafe fn init_cpu(area: &'static CpuArea) {
    // SAFETY: the tables belong to this CPU and are not yet loaded.
    unsafe {
        let tables = &mut *area.tables.get();
        tables.tss.stack[0] = area.entry_stack_top();
        let base = &raw const tables.tss as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        tables.gdt[5] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        tables.gdt[6] = base >> 32;
        let gdt =
            TablePointer { limit: size_of::<[u64; 8]>() as u16 - 1, base: &raw const tables.gdt as u64 };
        let idt = TablePointer { limit: size_of::<Idt>() as u16 - 1, base: &raw const IDT as u64 };
        asm!(
            "lgdt [{gdt}]",
            "lidt [{idt}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "ltr {tss:x}",
            gdt = in(reg) &gdt,
            idt = in(reg) &idt,
            code = const KERNEL_CODE as i32,
            data = in(reg) u32::from(KERNEL_DATA),
            tss = in(reg) TSS_SELECTOR,
            scratch = out(reg) _,
        );
        super::user::init_cpu();
    }
}

/// Points this CPU's stack table at other stacks.
///
/// # Safety
/// The stacks are this CPU's own and not in use.
pub(super) unsafe fn set_interrupt_stacks(area: &'static CpuArea, stacks: [u64; 3]) {
    // SAFETY: the processor reads the table only on an exception; the caller owns area and stacks.
    unsafe {
        let tss = &raw mut (*area.tables.get()).tss.interrupt_stack;
        let mut copy = tss.read_unaligned();
        copy[..3].copy_from_slice(&stacks);
        tss.write_unaligned(copy);
    }
}
