//! The host backend: the machine's interfaces as an ordinary process, so that the crates above run under `cargo test`.
//!
//! What it is today: every OS thread that comes here is a CPU of its own, with its own preempt count and interrupt flag;
//! frames are one anonymous mapping; user memory is what the software walk of the active page table finds. There are no
//! devices, no interrupts between CPUs and no kernel threads yet: [`Stack::new`] fails, so that whoever needs a second
//! thread is told `OutOfMemory`.
//!
//! Locks: none; what is shared is set once.

mod memory;
mod user;

pub(crate) use memory::*;
pub(crate) use user::*;

use crate::MAX_CPUS;
use crate::irq::LineTrigger;
use crate::serial::SerialPort;
use core::cell::Cell;
use std::boxed::Box;
use std::sync::Mutex;
use std::time::Instant;
use std::vec::Vec;

std::thread_local! {
    static CPU: CpuNumber = CpuNumber::take();
    static PREEMPT: Cell<u32> = const { Cell::new(0) };
    static RESCHEDULE: Cell<bool> = const { Cell::new(false) };
    static INTERRUPTS: Cell<bool> = const { Cell::new(true) };
    static THREAD: Cell<*const ()> = const { Cell::new(core::ptr::null()) };
}

/// Numbers that no living thread has.
static FREE_CPUS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static NEXT_CPU: Mutex<u32> = Mutex::new(0);

/// A thread's CPU number; goes back when the thread ends.
struct CpuNumber(u32);

impl CpuNumber {
    fn take() -> CpuNumber {
        if let Some(number) = FREE_CPUS.lock().ok().and_then(|mut free| free.pop()) {
            return CpuNumber(number);
        }
        let mut next = NEXT_CPU.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *next += 1;
        assert!((*next as usize) <= MAX_CPUS, "more threads than CPUs");
        CpuNumber(*next - 1)
    }
}

impl Drop for CpuNumber {
    fn drop(&mut self) {
        if let Ok(mut free) = FREE_CPUS.lock() {
            free.push(self.0);
        }
    }
}

/// This thread's CPU.
pub(crate) fn cpu_id() -> u32 {
    // A thread that is ending has given its number back: the last one stands in.
    CPU.try_with(|cpu| cpu.0).unwrap_or(MAX_CPUS as u32 - 1)
}
pub(crate) fn cpu_count() -> usize {
    1
}
pub(crate) fn possible_cpus() -> usize {
    MAX_CPUS
}
pub(crate) fn is_quiescent_remotely(cpu: u32) -> bool {
    // CPUs without a thread cannot read anything; one with a thread passes quiescent states by itself.
    let used = NEXT_CPU.lock().map_or(0, |next| *next);
    let free = FREE_CPUS.lock().is_ok_and(|free| free.contains(&cpu));
    cpu >= used || free
}
pub(crate) fn preempt_count() -> u32 {
    PREEMPT.with(Cell::get)
}
pub(crate) fn preempt_add(count: u32) {
    PREEMPT.with(|cell| cell.set(cell.get() + count));
}
pub(crate) fn preempt_sub(count: u32) -> u32 {
    PREEMPT.with(|cell| {
        cell.set(cell.get() - count);
        cell.get()
    })
}
pub(crate) fn need_resched() -> bool {
    RESCHEDULE.with(Cell::get)
}
pub(crate) fn set_need_resched() {
    RESCHEDULE.with(|cell| cell.set(true));
}
pub(crate) fn clear_need_resched() {
    RESCHEDULE.with(|cell| cell.set(false));
}
pub(crate) fn current_thread() -> *const () {
    THREAD.with(Cell::get)
}
/// # Safety
/// As on every backend: `thread` is the running thread's, or null.
pub(crate) unsafe fn set_current_thread(thread: *const ()) {
    THREAD.with(|cell| cell.set(thread));
}
pub(crate) fn relax() {
    std::thread::yield_now();
}
pub(crate) fn lock_point() {}

pub(crate) fn irq_save() -> usize {
    usize::from(INTERRUPTS.with(|cell| cell.replace(false)))
}
pub(crate) fn irq_restore(state: usize) {
    INTERRUPTS.with(|cell| cell.set(state != 0));
}
pub(crate) fn irq_enabled() -> bool {
    INTERRUPTS.with(Cell::get)
}
pub(crate) fn irq_disable() {
    INTERRUPTS.with(|cell| cell.set(false));
}
pub(crate) fn irq_enable() {
    INTERRUPTS.with(|cell| cell.set(true));
}
pub(crate) fn idle_wait() {
    std::thread::yield_now();
}

/// Kinds of interrupts between CPUs.
pub(crate) enum Ipi {
    Reschedule,
    Call,
    Tlb,
}

/// There are no interrupts between threads: a page table is walked at every access here, so that there is nothing to flush.
pub(crate) fn send_ipi(_cpu: u32, _kind: Ipi) {}
pub(crate) fn register_irq(_line: u32, _trigger: LineTrigger, _handler: fn(u32)) -> bool {
    false
}
pub(crate) fn isa_to_gsi(irq: u8) -> (u32, LineTrigger) {
    (u32::from(irq), LineTrigger::Edge)
}
pub(crate) fn interrupt_count(_cpu: u32) -> u64 {
    0
}
pub(crate) fn start_secondary_cpus(_entry: fn(u32)) -> usize {
    1
}

/// A saved flow of control; there are no others than threads of the process.
pub(crate) struct Context;

impl Context {
    pub(crate) const fn empty() -> Context {
        Context
    }
    /// # Safety
    /// None is needed: nothing is made.
    pub(crate) unsafe fn new(
        _top: usize,
        _entry: unsafe extern "C" fn(usize) -> !,
        _argument: usize,
    ) -> Context {
        Context
    }
}

/// # Safety
/// Cannot be called: no thread can be made ([`Stack::new`]).
pub(crate) unsafe fn context_switch(_previous: *mut Context, _next: *const Context) {
    unreachable!("the host backend makes no kernel threads");
}

/// A kernel stack; there are none yet.
pub(crate) struct Stack;

impl Stack {
    pub(crate) fn new() -> Option<Stack> {
        None
    }
    pub(crate) fn top(&self) -> usize {
        0
    }
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
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut *self.0
    }
    pub(crate) fn reset(&mut self) {
        self.0.fill(0);
    }
    pub(crate) fn sanitize(&mut self) {}
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

/// Nanoseconds since the process first asked.
pub(crate) fn now_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}
pub(crate) fn boot_realtime_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64).saturating_sub(now_ns())
}
pub(crate) fn clock_parameters() -> Option<(u64, u32, u32)> {
    None
}
pub(crate) fn set_timer(_deadline_ns: u64) {}
pub(crate) fn cancel_timer() {}

pub(crate) fn console_write(bytes: &[u8]) {
    use std::io::Write;
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
pub(crate) fn boot_entropy() -> [u8; 32] {
    let mut seed = [0; 32];
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
