//! The host backend: the machine's interfaces as an ordinary process, so that the crates above run under `cargo test`.
//!
//! Two modes. By itself every OS thread that comes here is a CPU, with its own preempt count and interrupt flag; there are
//! no interrupts and no kernel threads ([`Stack::new`] fails, so that whoever needs a second thread is told
//! `OutOfMemory`). Within `machine::host::run` there is a machine of several CPUs with kernel threads, timers and
//! interrupts between CPUs, all in one OS thread and in an order that a seed chooses: see `simulator`.
//! Frames are one anonymous mapping; user memory is what the software walk of the active page table finds.
//!
//! Locks: none; what is shared is set once.

mod context;
mod memory;
mod processor;
mod simulator;
mod user;

pub(crate) use context::*;
pub(crate) use memory::*;
pub(crate) use processor::*;
pub(crate) use user::*;

use crate::irq::LineTrigger;
use crate::serial::SerialPort;
use std::boxed::Box;
use std::time::Instant;
use std::vec::Vec;

/// The wall clock at the start of every simulation: 2020-01-01.
const SIMULATED_REALTIME_NS: u64 = 1_577_836_800_000_000_000;

pub(crate) fn cpu_count() -> usize {
    simulator::online_cpus().unwrap_or(1)
}
pub(crate) fn relax() {
    if !simulator::relax() {
        // Who spins does not touch user memory: the moment to answer a TLB shootdown.
        crate::tlb::on_ipi_tlb();
        std::thread::yield_now();
    }
}
pub(crate) fn lock_point() {
    simulator::lock_point();
}
pub(crate) fn idle_wait() {
    if !simulator::idle_wait() {
        std::thread::yield_now();
    }
}

/// What `machine::host` gives to tests.
pub(crate) fn run(seed: u64, cpus: usize, main: impl FnOnce() + Send) -> (u64, u64) {
    simulator::run(seed, cpus, main)
}
/// See `machine::host`.
pub(crate) fn take_console() -> Vec<u8> {
    simulator::take_console()
}
/// See `machine::host`.
pub(crate) fn set_report(report: fn() -> std::string::String) {
    simulator::set_report(report);
}

/// Kinds of interrupts between CPUs.
pub(crate) enum Ipi {
    Reschedule,
    Call,
    Tlb,
}

/// Between threads of the process there are no interrupts: a page table is walked at every access here, so that there is
/// nothing to flush.
pub(crate) fn send_ipi(cpu: u32, kind: Ipi) {
    simulator::send_ipi(cpu, kind);
}
pub(crate) fn register_irq(_line: u32, _trigger: LineTrigger, _handler: fn(u32)) -> bool {
    false
}
/// Messages that a CPU can be sent; tests raise them with `machine::host::raise`.
pub(crate) const MESSAGES_PER_CPU: usize = 128;
pub(crate) fn message_for(cpu: u32, index: usize) -> Option<(u64, u32)> {
    (index < MESSAGES_PER_CPU).then_some((u64::from(cpu) << 12, index as u32))
}
/// The process has no devices but those that tests make.
pub(crate) fn may_be_device(_start: u64, _end: u64) -> bool {
    false
}
pub(crate) fn map_registers(_start: u64, _length: usize) -> Option<usize> {
    None
}
pub(crate) fn pci_buses() -> Option<(u8, u8)> {
    None
}
pub(crate) fn pci_function(_bus: u8, _device: u8, _function: u8) -> Option<crate::mmio::MmioWindow> {
    None
}
pub(crate) fn virtio_mmio_devices() -> impl Iterator<Item = crate::platform::PlatformDevice> {
    core::iter::empty()
}
pub(crate) fn isa_to_gsi(irq: u8) -> (u32, LineTrigger) {
    (u32::from(irq), LineTrigger::Edge)
}
pub(crate) fn interrupt_count(cpu: u32) -> u64 {
    simulator::interrupt_count(cpu)
}
pub(crate) fn start_secondary_cpus(entry: fn(u32)) -> usize {
    simulator::start_secondary_cpus(entry)
}

/// A floating-point state of 512 bytes that no program uses.
pub(crate) struct FpuArea(Box<[u8; 512]>);

impl FpuArea {
    pub(crate) fn new() -> Option<FpuArea> {
        Some(FpuArea(Box::new([0; 512])))
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        &*self.0
    }
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut *self.0
    }
    pub(crate) fn reset(&mut self) {
        self.0.fill(0);
    }
    pub(crate) fn sanitize(&mut self) {}
    pub(crate) fn reset_key_rights(&mut self) {}
}

pub(crate) const DEFAULT_KEY_RIGHTS: u32 = 0;
pub(crate) fn has_protection_keys() -> bool {
    false
}
pub(crate) fn key_rights_place() -> Option<(usize, u64)> {
    None
}
pub(crate) fn exchange_key_rights(_rights: u32) -> u32 {
    0
}
pub(crate) fn xcr0() -> u64 {
    0
}
pub(crate) fn cpuid_words(_number: u32, _sub_leaf: u32) -> [u32; 4] {
    [0; 4]
}

pub(crate) fn fpu_size() -> usize {
    512
}
/// # Safety
/// None is needed: there is no state.
pub(crate) unsafe fn fpu_save(_area: &mut FpuArea) {}
/// # Safety
/// None is needed: there is no state.
pub(crate) unsafe fn fpu_restore(_area: &FpuArea) {}
/// # Safety
/// None is needed: no program runs, so the saved bases are the true ones.
pub(crate) unsafe fn user_bases_save(_bases: &mut crate::user::UserBases) {}
/// # Safety
/// None is needed, as above.
pub(crate) unsafe fn user_bases_load(_bases: &crate::user::UserBases) {}

/// Nanoseconds since the process first asked; in a simulation its virtual clock.
pub(crate) fn now_ns() -> u64 {
    if let Some(virtual_ns) = simulator::now_ns() {
        return virtual_ns;
    }
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}
pub(crate) fn boot_realtime_ns() -> u64 {
    if simulator::is_active() {
        return SIMULATED_REALTIME_NS;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64).saturating_sub(now_ns())
}
pub(crate) fn clock_parameters() -> Option<(u64, u32, u32)> {
    None
}
pub(crate) fn set_timer(deadline_ns: u64) {
    simulator::set_timer(Some(deadline_ns));
}
pub(crate) fn cancel_timer() {
    simulator::set_timer(None);
}

pub(crate) fn console_write(bytes: &[u8]) {
    use std::io::Write;
    if simulator::console_write(bytes) {
        return;
    }
    let _ = std::io::stderr().write_all(bytes);
}
pub(crate) fn serial_is_present(_port: SerialPort) -> bool {
    false
}
pub(crate) fn serial_write(_port: SerialPort, _bytes: &[u8]) -> usize {
    0
}
pub(crate) fn serial_queued(_port: SerialPort) -> usize {
    0
}
pub(crate) fn serial_discard(_port: SerialPort) {}
pub(crate) fn command_line() -> &'static str {
    ""
}
pub(crate) fn initramfs() -> Option<(u64, u64)> {
    None
}
pub(crate) fn initramfs_ram_end() -> u64 {
    0
}
pub(crate) fn boot_entropy() -> [u8; 32] {
    let mut seed = [0; 32];
    if let Some(number) = simulator::seed() {
        seed[..8].copy_from_slice(&number.to_le_bytes());
        return seed;
    }
    seed[..8].copy_from_slice(&boot_realtime_ns().to_le_bytes());
    seed[8..16].copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
    seed
}
/// A panic of the process: the test that caused it fails.
pub(crate) fn fatal(message: core::fmt::Arguments<'_>) -> ! {
    panic!("{message}")
}
/// The process has no bugs on purpose.
pub(crate) fn provoke(_bug: crate::provoke::Bug) {}
pub(crate) fn power_off() -> ! {
    std::process::exit(0)
}
pub(crate) fn reboot() -> ! {
    std::process::exit(0)
}
pub(crate) fn debug_exit(code: u8) {
    std::process::exit(i32::from(code))
}
