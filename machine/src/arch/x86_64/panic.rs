//! When the kernel is wrong: oopses and panics, exceptions in kernel mode, the report and the end.
//!
//! What a thread can die of alone is reported to the log and ends the thread ([`crate::oops`]). A panic goes to the console by
//! polling, with locks broken open: the other CPUs are stopped by NMI first. Its last line is followed by QEMU's debug
//! exit (status 101) where there is one, or by what `panic=` says.

use super::apic::{self, Ipi};
use super::cpu;
use super::traps::{RFLAGS_INTERRUPTS, TrapFrame};
use super::{clock, console_print, power, serial, symbols};
use crate::{log_buffer, oops};
use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

const NOBODY: u32 = u32::MAX;
static PANICKING_CPU: AtomicU32 = AtomicU32::new(NOBODY);
const MOST_FRAMES: usize = 48;
/// Severity of an oops's lines: "action must be taken immediately" (syslog(3)).
const ALERT: u8 = 1;

/// Whether some CPU is in its panic.
pub(super) fn is_panicking() -> bool {
    PANICKING_CPU.load(Ordering::Relaxed) != NOBODY
}

/// Where a report goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// To the log, and so to the console: the kernel goes on.
    Log,
    /// To the console alone: nothing else can be relied on.
    Console,
}

impl Sink {
    fn line(self, text: Arguments<'_>) {
        match self {
            Sink::Log => log_buffer::write_record(ALERT, text),
            Sink::Console => console_print(format_args!("{text}\n")),
        }
    }
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
            console_print(format_args!("\n"));
        }
        Err(first) if first == me => {
            serial::enter_panic();
            console_print(format_args!("panic within the panic\n"));
            end()
        }
        Err(_) => power::halt(),
    }
}

/// Names the reason, and ends the machine as `panic=` says.
fn end_because(reason: Arguments<'_>) -> ! {
    console_print(format_args!("Kernel panic - not syncing: {reason}\n"));
    end()
}

fn end() -> ! {
    let seconds = oops::panic_timeout_s();
    if seconds > 0 {
        console_print(format_args!("Rebooting in {seconds} seconds..\n"));
        let until = clock::now_ns().saturating_add(seconds as u64 * 1_000_000_000);
        while clock::now_ns() < until {
            cpu::relax();
        }
    }
    if seconds != 0 {
        power::reboot()
    }
    console_print(format_args!("---[ end Kernel panic ]---\n"));
    power::debug_exit(power::DEBUG_EXIT_PANIC);
    power::halt()
}

fn frame_pointer() -> u64 {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    frame
}

/// Ends the machine with this message.
pub(crate) fn fatal(message: Arguments<'_>) -> ! {
    begin();
    print_backtrace(Sink::Console, frame_pointer());
    end_because(message)
}

/// Reports a panic of Rust code; ends the thread if that is enough, else the machine.
fn panic_report(info: &PanicInfo<'_>) -> ! {
    if !is_panicking() && cpu::irq_enabled() && oops::is_survivable() {
        report_panic(Sink::Log, info);
        oops::end_thread("panic");
    }
    begin();
    report_panic(Sink::Console, info);
    end_because(format_args!("{}", info.message()))
}

fn report_panic(sink: Sink, info: &PanicInfo<'_>) {
    let file = info.location().map_or("", |place| place.file());
    let line = info.location().map_or(0, |place| place.line());
    sink.line(format_args!("Oops: panic on CPU {} at {file}:{line}: {}", cpu::cpu_id(), info.message()));
    print_backtrace(sink, frame_pointer());
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

/// An exception in kernel code that nothing expects; the frame is on the running thread's own stack.
pub(super) fn kernel_exception(frame: &TrapFrame, address: usize) -> ! {
    if super::stack::is_guard(address) {
        stack_overflow(frame, address);
    }
    if !is_panicking() && frame.rflags & RFLAGS_INTERRUPTS != 0 && oops::is_survivable() {
        report_exception(Sink::Log, frame, address);
        cpu::irq_enable();
        oops::end_thread(exception_name(frame.vector));
    }
    machine_exception(frame, address)
}

/// An exception that the machine does not outlive.
pub(super) fn machine_exception(frame: &TrapFrame, address: usize) -> ! {
    begin();
    report_exception(Sink::Console, frame, address);
    end_because(format_args!("Fatal exception: {}", exception_name(frame.vector)))
}

/// What a page fault tried, if it was one.
fn page_fault_text(frame: &TrapFrame) -> &'static str {
    match (frame.vector == 14, frame.error_code & 0x11, frame.error_code & 2 != 0) {
        (false, ..) => "",
        (_, 0x11, _) => ", execution of a page that must not be",
        (_, 0x10, _) => ", execution of a page that is not there",
        (_, 1, true) => ", write to a page that must not be",
        (_, 1, false) => ", read of a page that must not be",
        (_, _, true) => ", write to a page that is not there",
        (_, _, false) => ", read of a page that is not there",
    }
}

fn report_exception(sink: Sink, frame: &TrapFrame, address: usize) {
    sink.line(format_args!(
        "Oops: {} ({}) on CPU {}, error code {:#x}, address {address:#x}{}",
        exception_name(frame.vector),
        frame.vector,
        cpu::cpu_id(),
        frame.error_code,
        page_fault_text(frame),
    ));
    report_registers(sink, frame);
    print_address(sink, frame.rip);
    print_backtrace(sink, frame.rbp);
}

fn report_registers(sink: Sink, f: &TrapFrame) {
    sink.line(format_args!("rip {:016x} rsp {:016x} rflags {:08x} cs {:x}", f.rip, f.rsp, f.rflags, f.cs));
    for [(n0, v0), (n1, v1), (n2, v2), (n3, v3)] in [
        [("rax", f.rax), ("rbx", f.rbx), ("rcx", f.rcx), ("rdx", f.rdx)],
        [("rsi", f.rsi), ("rdi", f.rdi), ("rbp", f.rbp), ("r8 ", f.r8)],
        [("r9 ", f.r9), ("r10", f.r10), ("r11", f.r11), ("r12", f.r12)],
        [("r13", f.r13), ("r14", f.r14), ("r15", f.r15), ("ss ", f.ss)],
    ] {
        sink.line(format_args!("{n0} {v0:016x} {n1} {v1:016x} {n2} {v2:016x} {n3} {v3:016x}"));
    }
}

/// A double fault; nearly always a kernel stack that has run into its guard page.
pub(super) fn double_fault(frame: &TrapFrame, address: usize) -> ! {
    if super::stack::is_guard(address) || super::stack::is_guard(frame.rsp as usize) {
        stack_overflow(frame, address);
    }
    machine_exception(frame, address)
}

fn stack_overflow(frame: &TrapFrame, address: usize) -> ! {
    begin();
    report_exception(Sink::Console, frame, address);
    end_because(format_args!("kernel stack overflow (touched the guard page)"))
}

/// A non-maskable interrupt: another CPU panics, or the hardware complains.
pub(super) fn handle_nmi(frame: &TrapFrame) {
    let panicking = PANICKING_CPU.load(Ordering::Acquire);
    if panicking != NOBODY && panicking != cpu::cpu_id() {
        power::halt()
    }
    // It may have come while this CPU held the console's lock.
    serial::print_from_nmi(format_args!(
        "NMI received for unknown reason on CPU {} at {:#x}\r\n",
        cpu::cpu_id(),
        frame.rip
    ));
}

/// One line for an address: its name if known, and the address as linked, for `addr2line`.
fn print_address(sink: Sink, address: u64) {
    let linked = address.wrapping_sub(super::paging::slide());
    match symbols::find(address) {
        Some((name, offset)) => sink.line(format_args!("  {linked:#x} {name}+{offset:#x}")),
        None => sink.line(format_args!("  {linked:#x}")),
    }
}

/// Follows the frame pointers from `frame`; stops at the first that does not look right.
fn print_backtrace(sink: Sink, mut frame: u64) {
    sink.line(format_args!("Call trace (addresses as linked):"));
    if sink == Sink::Console {
        // Programs can read the log, and must not learn this.
        sink.line(format_args!("  slide {:#x}", super::paging::slide()));
    }
    for _ in 0..MOST_FRAMES {
        if !super::paging::is_readable(frame as usize) || !super::paging::is_readable(frame as usize + 8) {
            break;
        }
        // SAFETY: checked just before; stacks are never unmapped while the machine reports.
        let [next, address] = unsafe { (frame as *const [u64; 2]).read_volatile() };
        if !symbols::is_in_image(address) {
            break;
        }
        print_address(sink, address);
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
