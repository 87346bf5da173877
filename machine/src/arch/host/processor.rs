//! The state that a processor has in registers and per-CPU words: preempt count, flags, current thread, page table.
//!
//! A CPU is an OS thread of the process (outside `machine::host::run`: each thread that comes here takes a number), or one
//! of the simulator's. The simulator's have the numbers below [`SIMULATED_CPUS`].
//!
//! Locks: none but those around the free numbers.

use super::simulator;
use crate::MAX_CPUS;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::Mutex;
use std::vec::Vec;

/// How many CPUs a simulation can have.
pub(super) const SIMULATED_CPUS: usize = 64;

/// One CPU. Others only look at `preempt`.
pub(super) struct Processor {
    pub(super) preempt: AtomicU32,
    pub(super) reschedule: AtomicBool,
    pub(super) interrupts: AtomicBool,
    pub(super) thread: AtomicPtr<()>,
    pub(super) root: AtomicU64,
}

impl Processor {
    const fn new() -> Processor {
        Processor {
            preempt: AtomicU32::new(0),
            reschedule: AtomicBool::new(false),
            interrupts: AtomicBool::new(true),
            thread: AtomicPtr::new(core::ptr::null_mut()),
            root: AtomicU64::new(0),
        }
    }

    /// As after a reset, with interrupts on.
    pub(super) fn reset(&self) {
        self.preempt.store(0, Ordering::SeqCst);
        self.reschedule.store(false, Ordering::Relaxed);
        self.interrupts.store(true, Ordering::Relaxed);
        self.thread.store(core::ptr::null_mut(), Ordering::Relaxed);
        self.root.store(0, Ordering::Relaxed);
    }
}

static PROCESSORS: [Processor; MAX_CPUS] = [const { Processor::new() }; MAX_CPUS];

const NONE: u32 = u32::MAX;

std::thread_local! {
    /// The CPU that this OS thread is now.
    static CURRENT: Cell<u32> = const { Cell::new(NONE) };
    static OWN: OwnNumber = OwnNumber::take();
}

/// Numbers that no living thread has, and the next that none ever had.
static FREE: Mutex<(Vec<u32>, u32)> = Mutex::new((Vec::new(), SIMULATED_CPUS as u32));

/// An OS thread's CPU number; goes back when the thread ends.
struct OwnNumber(u32);

impl OwnNumber {
    fn take() -> OwnNumber {
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let number = free.0.pop().unwrap_or_else(|| {
            free.1 += 1;
            free.1 - 1
        });
        drop(free);
        // The last number stands in for threads that are ending.
        assert!((number as usize) < MAX_CPUS - 1, "more threads than CPUs");
        PROCESSORS[number as usize].reset();
        crate::sync::rcu::cpu_online(number);
        OwnNumber(number)
    }
}

impl Drop for OwnNumber {
    fn drop(&mut self) {
        crate::sync::rcu::cpu_offline(self.0);
        CURRENT.set(MAX_CPUS as u32 - 1);
        if let Ok(mut free) = FREE.lock() {
            free.0.push(self.0);
        }
    }
}

/// The CPU that runs this code.
pub(crate) fn cpu_id() -> u32 {
    let number = CURRENT.get();
    if number != NONE { number } else { first_id() }
}

#[cold]
fn first_id() -> u32 {
    let number = OWN.try_with(|own| own.0).unwrap_or(MAX_CPUS as u32 - 1);
    CURRENT.set(number);
    number
}

/// Makes this OS thread another CPU; gives which it was.
pub(super) fn become_cpu(number: u32) -> u32 {
    let before = cpu_id();
    CURRENT.set(number);
    before
}

pub(super) fn processor(number: u32) -> &'static Processor {
    &PROCESSORS[number as usize % MAX_CPUS]
}

pub(super) fn here() -> &'static Processor {
    processor(cpu_id())
}

pub(crate) fn possible_cpus() -> usize {
    MAX_CPUS
}

/// Whether grace periods that begin here wait for `cpu`: a simulation and the process around it do not read each other's.
pub(crate) fn shares_grace_periods(cpu: usize) -> bool {
    (cpu < SIMULATED_CPUS) == simulator::is_active()
}

/// Whether this is in a simulation, which has grace periods of its own.
pub(crate) fn is_simulated() -> bool {
    simulator::is_active()
}

/// Whether a thread of the process is in no read-side section. Simulated CPUs speak for themselves.
pub(crate) fn is_quiescent_remotely(cpu: u32) -> bool {
    // Pairs with the read-modify-write in `preempt_add`: a section that begins later sees what was unlinked before.
    cpu as usize >= SIMULATED_CPUS && processor(cpu).preempt.load(Ordering::SeqCst) == 0
}

pub(crate) fn preempt_count() -> u32 {
    here().preempt.load(Ordering::Relaxed)
}
pub(crate) fn preempt_add(count: u32) {
    here().preempt.fetch_add(count, Ordering::SeqCst);
}
/// Nothing is held any more when the result is 0: an interrupt may come in here.
pub(crate) fn preempt_sub(count: u32) -> u32 {
    let left = here().preempt.fetch_sub(count, Ordering::SeqCst).wrapping_sub(count);
    if left == 0 {
        simulator::point();
    }
    left
}
pub(crate) fn need_resched() -> bool {
    here().reschedule.load(Ordering::Relaxed)
}
pub(crate) fn set_need_resched() {
    here().reschedule.store(true, Ordering::Relaxed);
}
pub(crate) fn clear_need_resched() {
    here().reschedule.store(false, Ordering::Relaxed);
}
pub(crate) fn current_thread() -> *const () {
    here().thread.load(Ordering::Relaxed)
}
/// # Safety
/// As on every backend: `thread` is the running thread's, or null.
pub(crate) unsafe fn set_current_thread(thread: *const ()) {
    here().thread.store(thread.cast_mut(), Ordering::Relaxed);
}

pub(crate) fn irq_save() -> usize {
    usize::from(here().interrupts.swap(false, Ordering::Relaxed))
}
pub(crate) fn irq_restore(state: usize) {
    here().interrupts.store(state != 0, Ordering::Relaxed);
    if state != 0 {
        simulator::point();
    }
}
pub(crate) fn irq_enabled() -> bool {
    here().interrupts.load(Ordering::Relaxed)
}
pub(crate) fn irq_disable() {
    here().interrupts.store(false, Ordering::Relaxed);
}
pub(crate) fn irq_enable() {
    irq_restore(1);
}
