//! Starting the scheduler, and what each CPU does when there is nothing to do.
//!
//! Order at boot: [`init`] on the first CPU once the heap works (its boot flow becomes its idle thread, so
//! `current()` works from here on); [`start_cpu`] on every other CPU; then [`run_idle`] on each of them. The
//! first CPU calls [`start_kernel_threads`] before it goes idle.
//!
//! Neighbours: `image` calls these; [`crate::cpu`], [`crate::place`], [`crate::work`]. No locks.

use alloc::format;
use core::sync::atomic::Ordering;

use abi::errno::Result;
use machine::cpu::{self as machine_cpu, CpuId, CpuSet};
use machine::sync::{SpinLock, WaitKind, rcu, register_sleep_hooks};
use machine::{irq, preempt, time};

use crate::account::{LOAD_PERIOD_NS, sample_load};
use crate::policy::Attributes;
use crate::thread::{SpawnOptions, Thread, current, spawn};
use crate::timer::{Timer, TimerAction, TimerCallback};
use crate::{cpu, place, sleep, work};

/// How long the callback thread waits for a grace period before it looks again.
const RCU_POLL_NS: u64 = 5_000_000;

/// Makes the scheduler work on the CPU that calls it (the first).
pub fn init() {
    cpu::init_data();
    work::init();
    register_sleep_hooks(&sleep::Hooks);
    start_cpu(machine_cpu::current());
}

/// Makes the scheduler work on another CPU; called there.
pub fn start_cpu(id: CpuId) {
    // A thread may be queued here already: nothing may switch to it before there is an idle thread to come back to.
    let _irq = irq::disable();
    let idle = Thread::adopt_idle(id);
    let data = cpu::data(id);
    data.times.begin_idle(time::now_ns());
    data.set_idle_thread(idle);
}

/// Starts the kernel's own threads; on the first CPU, after the others were started.
///
/// # Errors
/// `ENOMEM`.
pub fn start_kernel_threads() -> Result<()> {
    start_housekeeping()?;
    start_load_sampling()
}

/// The threads that free what is dead and run deferred work, one of each on each CPU.
pub(crate) fn start_housekeeping() -> Result<()> {
    for id in machine_cpu::online() {
        let options = SpawnOptions { attributes: Attributes::default(), affinity: Some(CpuSet::single(id)) };
        let thread = spawn(&format!("rcu/{}", id.index()), options.clone(), move || run_rcu(id))?;
        *cpu::data(id).rcu_thread.lock() = Some(thread);
        work::start_worker(id, options)?;
    }
    Ok(())
}

/// The housekeeping thread of one CPU: frees dead threads, and runs what a grace period has passed for, in batches.
fn run_rcu(id: CpuId) {
    let data = cpu::data(id);
    loop {
        cpu::reap();
        while rcu::run_callbacks() {
            cpu::reap();
            // Any wake-up ends this: it may be about threads that have died since.
            sleep::park(Some(time::now_ns() + RCU_POLL_NS), WaitKind::Interruptible);
        }
        data.rcu_active.store(false, Ordering::Relaxed);
        if !rcu::has_callbacks() {
            sleep::park(None, WaitKind::Interruptible);
        }
    }
}

struct LoadSampler;

impl TimerCallback for LoadSampler {
    fn expire(&self, now_ns: u64) -> TimerAction {
        sample_load();
        crate::pressure::sample();
        TimerAction::RearmAt(now_ns + LOAD_PERIOD_NS)
    }
}

fn start_load_sampling() -> Result<()> {
    static SAMPLER: SpinLock<Option<Timer>> = SpinLock::new(None);
    let timer = Timer::new(alloc::sync::Arc::new(LoadSampler))?;
    timer.arm(time::now_ns() + LOAD_PERIOD_NS);
    let old = SAMPLER.lock().replace(timer);
    drop(old);
    crate::pressure::start()
}

/// The idle loop of the CPU that calls it: runs what is runnable, steals, else halts. Called by the idle thread,
/// with interrupts on and nothing held.
pub fn run_idle(id: CpuId) -> ! {
    loop {
        idle_once(id);
    }
}

/// One round of [`run_idle`]; returns after an interrupt or after other threads ran. Tests use it directly.
pub fn idle_once(id: CpuId) {
    debug_assert!(current().last_cpu() == id);
    let data = cpu::data(id);
    if preempt::need_resched() || cpu::has_queued(data) || place::steal(id) {
        cpu::preempt();
        return;
    }
    let _irq = irq::disable();
    // An interrupt may have come since the check; from here on one ends the wait.
    if preempt::need_resched() || cpu::has_queued(data) {
        return;
    }
    cpu::wake_rcu(data);
    if preempt::need_resched() {
        return;
    }
    machine_cpu::idle_wait();
}
