//! Interrupt controllers: local APIC (x2APIC, else memory-mapped), I/O APICs, and the interrupts between CPUs.
//!
//! Key types: [`Ipi`]. Lines are global system interrupts (GSI); ISA interrupt numbers are translated by the firmware's
//! overrides. Each registered line gets a vector of its own, routed to the boot CPU. Reference: Intel SDM volume 3,
//! chapter 11; 82093AA datasheet.
//!
//! Locks: [`LINES`] (leaf).

use super::acpi;
use super::cpu::{self, has, out8, read_msr, write_msr};
use super::features::Features;
use super::lock::RawLock;
use super::paging::{Caching, map_device};
use crate::irq::LineTrigger;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const REGISTER_EOI: u32 = 0xb0;
const REGISTER_SPURIOUS: u32 = 0xf0;
const REGISTER_ICR_LOW: u32 = 0x300;
const REGISTER_ICR_HIGH: u32 = 0x310;
const REGISTER_TIMER: u32 = 0x320;
const REGISTER_LINT0: u32 = 0x350;
const REGISTER_LINT1: u32 = 0x360;
const REGISTER_ERROR: u32 = 0x370;
const REGISTER_TASK_PRIORITY: u32 = 0x80;
const REGISTER_TIMER_INITIAL: u32 = 0x380;
const REGISTER_TIMER_CURRENT: u32 = 0x390;
const REGISTER_TIMER_DIVIDE: u32 = 0x3e0;
const MASKED: u32 = 1 << 16;
const DELIVERY_NMI: u32 = 0x400;
const DELIVERY_INIT: u32 = 0x500;
const DELIVERY_STARTUP: u32 = 0x600;
const LEVEL_ASSERT: u32 = 0x4000;

/// First vector for device lines.
pub(super) const VECTOR_DEVICES: u8 = 0x30;
const VECTOR_DEVICES_END: u8 = VECTOR_MESSAGES;
/// First vector for interrupts that devices send as messages; each CPU has its own set.
pub(super) const VECTOR_MESSAGES: u8 = 0x60;
/// The one behind them.
pub(super) const VECTOR_MESSAGES_END: u8 = 0xe0;
/// How many different messages a CPU can be sent.
pub(crate) const MESSAGES_PER_CPU: usize = (VECTOR_MESSAGES_END - VECTOR_MESSAGES) as usize;
/// The local timer.
pub(super) const VECTOR_TIMER: u8 = 0xf0;
/// "Reschedule".
pub(super) const VECTOR_RESCHEDULE: u8 = 0xf1;
/// "Run the queued calls".
pub(super) const VECTOR_CALL: u8 = 0xf2;
/// "Flush your TLB".
pub(super) const VECTOR_TLB: u8 = 0xf3;
/// Local APIC error.
pub(super) const VECTOR_ERROR: u8 = 0xfe;
/// Spurious.
pub(super) const VECTOR_SPURIOUS: u8 = 0xff;

/// Why one CPU interrupts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipi {
    /// Set need-resched.
    Reschedule,
    /// Run queued calls.
    Call,
    /// Look at the TLB flush requests.
    Tlb,
    /// Stop for good (sent as an NMI).
    Panic,
}

static X2APIC: AtomicBool = AtomicBool::new(false);
static REGISTERS: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn read(register: u32) -> u32 {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is on; these registers are readable.
        unsafe { read_msr(cpu::MSR_X2APIC + (register >> 4)) as u32 }
    } else {
        let address = REGISTERS.load(Ordering::Relaxed) + register as usize;
        // SAFETY: the register page is mapped uncached.
        unsafe { (address as *const u32).read_volatile() }
    }
}

#[inline]
fn write(register: u32, value: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is on; the local APIC does not touch memory.
        unsafe { write_msr(cpu::MSR_X2APIC + (register >> 4), u64::from(value)) }
    } else {
        let address = REGISTERS.load(Ordering::Relaxed) + register as usize;
        // SAFETY: the register page is mapped uncached.
        unsafe { (address as *mut u32).write_volatile(value) }
    }
}

/// Sets up the boot CPU's local APIC, the I/O APICs, and silences the old interrupt controllers.
pub(super) fn init_boot_cpu() {
    X2APIC.store(has(Features::X2APIC), Ordering::Relaxed);
    if !has(Features::X2APIC) {
        let base = map_device(acpi::facts().local_apic, 4096, Caching::Uncached);
        REGISTERS.store(base.expect("no memory to map the local APIC"), Ordering::Relaxed);
    }
    // SAFETY: programs the two 8259s (vectors 0x20..0x30, all masked); they do not touch memory.
    unsafe {
        for (port, value) in [
            (0x20, 0x11),
            (0xa0, 0x11),
            (0x21, 0x20),
            (0xa1, 0x28),
            (0x21, 4),
            (0xa1, 2),
            (0x21, 1),
            (0xa1, 1),
        ] {
            out8(port, value);
        }
        out8(0x21, 0xff);
        out8(0xa1, 0xff);
    }
    init_cpu();
    init_io_apics();
}

/// Sets up this CPU's local APIC.
pub(super) fn init_cpu() {
    // SAFETY: the APIC base register exists wherever there is an APIC; the address in it is kept.
    unsafe {
        let base = read_msr(cpu::MSR_APIC_BASE);
        let x2apic = if X2APIC.load(Ordering::Relaxed) { 1 << 10 } else { 0 };
        write_msr(cpu::MSR_APIC_BASE, base | 1 << 11);
        write_msr(cpu::MSR_APIC_BASE, base | 1 << 11 | x2apic);
    }
    write(REGISTER_TASK_PRIORITY, 0);
    write(REGISTER_LINT0, MASKED);
    write(REGISTER_LINT1, DELIVERY_NMI);
    write(REGISTER_ERROR, u32::from(VECTOR_ERROR));
    write(REGISTER_TIMER, MASKED | u32::from(VECTOR_TIMER));
    write(REGISTER_TIMER_DIVIDE, 0xb); // by 1
    write(REGISTER_SPURIOUS, 0x100 | u32::from(VECTOR_SPURIOUS));
}

/// Tells the local APIC that the interrupt has been handled.
#[inline]
pub(super) fn end_of_interrupt() {
    write(REGISTER_EOI, 0);
}

fn command(apic_id: u32, value: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // The write of a system register is not ordered after earlier stores: the receiver must see them.
        core::sync::atomic::fence(Ordering::SeqCst);
        // SAFETY: sends an interrupt; the receivers' handlers are installed.
        unsafe { write_msr(cpu::MSR_X2APIC + 0x30, u64::from(apic_id) << 32 | u64::from(value)) }
        return;
    }
    let flags = cpu::irq_save();
    while read(REGISTER_ICR_LOW) & 1 << 12 != 0 {
        cpu::relax();
    }
    write(REGISTER_ICR_HIGH, apic_id << 24);
    write(REGISTER_ICR_LOW, value);
    cpu::irq_restore(flags);
}

fn ipi_command(kind: Ipi) -> u32 {
    LEVEL_ASSERT
        | match kind {
            Ipi::Reschedule => u32::from(VECTOR_RESCHEDULE),
            Ipi::Call => u32::from(VECTOR_CALL),
            Ipi::Tlb => u32::from(VECTOR_TLB),
            Ipi::Panic => DELIVERY_NMI,
        }
}

/// Interrupts another CPU.
pub(crate) fn send_ipi(target: u32, kind: Ipi) {
    if let Some(area) = cpu::area_of(target) {
        command(area.apic_id, ipi_command(kind));
    }
}

/// Interrupts all other online CPUs.
pub(crate) fn send_ipi_others(kind: Ipi) {
    let me = cpu::cpu_id();
    for target in (0..cpu::cpu_count() as u32).filter(|&target| target != me) {
        send_ipi(target, kind);
    }
}

/// Resets a CPU into waiting for [`send_startup`].
pub(super) fn send_init(apic_id: u32) {
    command(apic_id, DELIVERY_INIT | LEVEL_ASSERT);
}

/// Starts a CPU in real mode at `page` × 4096.
pub(super) fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, DELIVERY_STARTUP | LEVEL_ASSERT | u32::from(page));
}

/// How the local timer fires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TimerMode {
    /// Counts down once.
    OneShot,
    /// At a value of the time-stamp counter.
    Deadline,
}

/// Chooses the timer's mode on this CPU.
pub(super) fn set_timer_mode(mode: TimerMode) {
    let bits = if mode == TimerMode::Deadline { 2 << 17 } else { 0 };
    write(REGISTER_TIMER, u32::from(VECTOR_TIMER) | bits);
    // The mode must be set before the first write of the deadline register (SDM 11.5.4.1).
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Starts the one-shot timer (0 stops it).
#[inline]
pub(super) fn start_timer(count: u32) {
    write(REGISTER_TIMER_INITIAL, count);
}

/// What is left of the one-shot timer's count.
pub(super) fn timer_count() -> u32 {
    read(REGISTER_TIMER_CURRENT)
}

/// Masks the timer, for calibration.
pub(super) fn mask_timer() {
    write(REGISTER_TIMER, MASKED | u32::from(VECTOR_TIMER));
}

struct IoApic {
    address: usize,
    first: u32,
    count: u32,
}

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: the two registers of the I/O APIC are mapped uncached; the caller holds the lock.
        unsafe {
            (self.address as *mut u32).write_volatile(register);
            ((self.address + 16) as *const u32).read_volatile()
        }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            (self.address as *mut u32).write_volatile(register);
            ((self.address + 16) as *mut u32).write_volatile(value);
        }
    }
}

/// A function that handles a line; gets the line's number.
pub(crate) type LineHandler = fn(u32);

struct Lines {
    chips: [Option<IoApic>; 8],
    handlers: [Option<(u32, LineHandler)>; (VECTOR_DEVICES_END - VECTOR_DEVICES) as usize],
}

static LINES: RawLock<Lines> = RawLock::new(Lines {
    chips: [const { None }; 8],
    handlers: [None; (VECTOR_DEVICES_END - VECTOR_DEVICES) as usize],
});

fn init_io_apics() {
    let mut lines = LINES.lock();
    for (index, &(physical, first)) in acpi::facts().io_apics.iter().flatten().enumerate() {
        let Some(address) = map_device(physical, 4096, Caching::Uncached) else { continue };
        let mut chip = IoApic { address, first, count: 0 };
        chip.count = (chip.read(1) >> 16 & 0xff) + 1;
        for pin in 0..chip.count {
            chip.write(0x10 + 2 * pin, MASKED);
        }
        if let Some(place) = lines.chips.get_mut(index) {
            *place = Some(chip);
        }
    }
}

/// Calls `handler` in interrupt context whenever the line fires. `false` if there is no such line, it has a handler
/// already, or no vector is left.
pub(crate) fn register_irq(line: u32, trigger: LineTrigger, handler: LineHandler) -> bool {
    let target = cpu::area_of(0).map_or(0, |area| area.apic_id);
    let mut lines = LINES.lock();
    if lines.handlers.iter().flatten().any(|(used, _)| *used == line) {
        return false;
    }
    let Some(slot) = lines.handlers.iter().position(Option::is_none) else { return false };
    let chip = lines.chips.iter().flatten().find(|chip| line >= chip.first && line - chip.first < chip.count);
    let Some(chip) = chip else { return false };
    let pin = line - chip.first;
    let mode = match trigger {
        LineTrigger::Edge => 0,
        LineTrigger::LevelHigh => 1 << 15,
        LineTrigger::LevelLow => 1 << 15 | 1 << 13,
    };
    let vector = u32::from(VECTOR_DEVICES) + slot as u32;
    chip.write(0x11 + 2 * pin, target << 24);
    chip.write(0x10 + 2 * pin, vector | mode);
    lines.handlers[slot] = Some((line, handler));
    true
}

/// Registers a handler for an interrupt of the ISA bus; says whether it worked.
pub(super) fn register_isa(irq: u8, handler: LineHandler) -> bool {
    let (line, trigger) = acpi::isa_to_gsi(irq);
    register_irq(line, trigger, handler)
}

/// Handles a device vector.
pub(super) fn dispatch_device(vector: u8) {
    let handler = LINES.lock().handlers.get(usize::from(vector - VECTOR_DEVICES)).copied().flatten();
    if let Some((line, handler)) = handler {
        handler(line);
    }
    end_of_interrupt();
}

/// What a device writes where to raise message `index` at a CPU; `None` if a message cannot name that CPU (its APIC number has
/// more than 8 bits, which wants an IOMMU).
pub(crate) fn message_for(target: u32, index: usize) -> Option<(u64, u32)> {
    let apic_id = cpu::area_of(target)?.apic_id;
    let vector = u32::from(VECTOR_MESSAGES) + index as u32;
    (apic_id < 255 && index < MESSAGES_PER_CPU).then_some((0xfee0_0000 | u64::from(apic_id) << 12, vector))
}
