//! When the kernel is wrong: panics, exceptions in kernel mode, the report and the end.
//!
//! The report goes to the console by polling, with locks broken open: the other CPUs are stopped by NMI first. The last
//! line is followed by QEMU's debug exit (status 101) where there is one.

use super::apic::{self, Ipi};
use super::cpu;
use super::traps::TrapFrame;
use super::{console_print, power, serial, symbols};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

const NOBODY: u32 = u32::MAX;
static PANICKING_CPU: AtomicU32 = AtomicU32::new(NOBODY);
const MOST_FRAMES: usize = 48;

/// Whether some CPU is in its panic.
pub(crate) fn is_panicking() -> bool {
    PANICKING_CPU.load(Ordering::Relaxed) != NOBODY
}

/// Makes this CPU the one that reports; other CPUs stop. A panic within the panic ends the machine at once.
fn begin() {
    cpu::irq_disable();
    let me = cpu::cpu_id();
    match PANICKING_CPU.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            apic::send_ipi_others(Ipi::Panic);
            for _ in 0..1_000_000 {
                cpu::relax();
            }
            serial::enter_panic();
        }
        Err(first) if first == me => {
            serial::enter_panic();
            console_print(format_args!("panic within the panic\n"));
            end()
        }
        Err(_) => power::halt(),
    }
}

fn end() -> ! {
    console_print(format_args!("---[ end Kernel panic ]---\n"));
    power::debug_exit(power::DEBUG_EXIT_PANIC);
    power::halt()
}

/// Reports a panic of Rust code and ends the machine.
pub(crate) fn panic_report(info: &PanicInfo<'_>) -> ! {
    begin();
    console_print(format_args!("\nKernel panic on CPU {}: {}\n", cpu::cpu_id(), info));
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    print_backtrace(frame);
    end()
}

fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        3 => "breakpoint",
        6 => "invalid instruction",
        8 => "double fault",
        13 => "protection fault",
        14 => "page fault",
        18 => "machine check",
        _ => "exception",
    }
}

/// An exception in kernel code that nothing expects: oops, then panic unless the hook ends the thread.
pub(super) fn kernel_exception(frame: &TrapFrame, address: usize) -> ! {
    if super::stack::is_guard(address) {
        stack_overflow(frame, address);
    }
    if cpu::preempt_count() == 0 && !is_panicking() {
        print_exception(frame, address);
        super::hooks::oops(exception_name(frame.vector));
        begin();
    } else {
        begin();
        print_exception(frame, address);
    }
    console_print(format_args!("Kernel panic: {} in kernel mode\n", exception_name(frame.vector)));
    end()
}

fn print_exception(frame: &TrapFrame, address: usize) {
    console_print(format_args!(
        "\nOops: {} ({}) on CPU {}, error code {:#x}, address {:#x}\n",
        exception_name(frame.vector),
        frame.vector,
        cpu::cpu_id(),
        frame.error_code,
        address
    ));
    print_registers(frame);
    print_address(frame.rip);
    print_backtrace(frame.rbp);
}

fn print_registers(f: &TrapFrame) {
    console_print(format_args!(
        "rip {:016x} rsp {:016x} rflags {:08x} cs {:x}\n",
        f.rip, f.rsp, f.rflags, f.cs
    ));
    console_print(format_args!(
        "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n",
        f.rax, f.rbx, f.rcx, f.rdx
    ));
    console_print(format_args!(
        "rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\n",
        f.rsi, f.rdi, f.rbp, f.r8
    ));
    console_print(format_args!(
        "r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n",
        f.r9, f.r10, f.r11, f.r12
    ));
    console_print(format_args!("r13 {:016x} r14 {:016x} r15 {:016x}\n", f.r13, f.r14, f.r15));
}

/// A double fault; nearly always a kernel stack that has run into its guard page.
pub(super) fn double_fault(frame: &TrapFrame, address: usize) -> ! {
    if super::stack::is_guard(address) || super::stack::is_guard(frame.rsp as usize) {
        stack_overflow(frame, address);
    }
    begin();
    print_exception(frame, address);
    console_print(format_args!("Kernel panic: double fault\n"));
    end()
}

fn stack_overflow(frame: &TrapFrame, address: usize) -> ! {
    begin();
    print_exception(frame, address);
    console_print(format_args!("Kernel panic: kernel stack overflow (touched the guard page)\n"));
    end()
}

/// A non-maskable interrupt: another CPU panics, or the hardware complains.
pub(super) fn handle_nmi(frame: &TrapFrame) {
    let panicking = PANICKING_CPU.load(Ordering::Acquire);
    if panicking != NOBODY && panicking != cpu::cpu_id() {
        power::halt()
    }
    console_print(format_args!("NMI on CPU {} at {:#x}\n", cpu::cpu_id(), frame.rip));
}

/// One line for an address: its name if known, and the address as linked, for `addr2line`.
fn print_address(address: u64) {
    let linked = address.wrapping_sub(super::paging::slide());
    match symbols::find(address) {
        Some((name, offset)) => {
            console_print(format_args!("  {linked:#x} {:#}+{offset:#x}\n", Demangled(name)));
        }
        None => console_print(format_args!("  {linked:#x}\n")),
    }
}

/// Prints a symbol's name.
struct Demangled(&'static str);

impl core::fmt::Display for Demangled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

/// Follows the frame pointers from `frame`; stops at the first that does not look right.
pub(super) fn print_backtrace(mut frame: u64) {
    console_print(format_args!("Call trace (addresses as linked; slide {:#x}):\n", super::paging::slide()));
    for _ in 0..MOST_FRAMES {
        if !super::paging::is_readable(frame as usize) || !super::paging::is_readable(frame as usize + 8) {
            break;
        }
        // SAFETY: checked just before; stacks are never unmapped while the machine reports.
        let [next, address] = unsafe { (frame as *const [u64; 2]).read_volatile() };
        if !symbols::is_in_image(address) {
            break;
        }
        print_address(address);
        if next <= frame {
            break;
        }
        frame = next;
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    panic_report(info)
}
