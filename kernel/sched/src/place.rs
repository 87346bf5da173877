//! Which CPU: placement of woken and new threads, stealing by idle CPUs, balancing between busy ones.
//!
//! * A woken thread goes back to its CPU if that is idle, else to an idle one, else to the less loaded of its own
//!   and the waker's. A real-time thread goes where something less urgent runs.
//! * A CPU without work looks for a waiting thread elsewhere before it halts ([`steal`]).
//! * A busy CPU with waiting threads looks now and then for a less loaded one and gives a thread away
//!   ([`balance_if_due`]). It pushes, because a CPU with one thread has no timer and would never come to pull.
//!
//! Neighbours: [`crate::cpu`]. Everything read here are hints; the decision is carried out under the target's
//! lock. No locks of its own: the set of idle CPUs is atomic words.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::cpu::{self as machine_cpu, CpuId};
use machine::{MAX_CPUS, irq, time};

use crate::cpu::{self, Cpu};
use crate::fair::Arrival;
use crate::thread::{Owner, Thread, WakeHint};

const WORDS: usize = MAX_CPUS / 64;
static IDLE: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

/// How often a busy CPU looks for a better place for what waits for it.
const BALANCE_PERIOD_NS: u64 = 20_000_000;
/// How often it gives a thread away although the other is then as loaded as it was itself: with three threads on
/// two CPUs, this is what gives each of them two thirds.
const ROTATE_PERIOD_NS: u64 = 100_000_000;

/// A CPU has something to run, or nothing. Called under its queue's lock, so the bit is never stale for long.
pub(crate) fn set_idle(cpu: CpuId, idle: bool) {
    let Some(word) = IDLE.get(cpu.index() / 64) else { return };
    let bit = 1u64 << (cpu.index() % 64);
    if (word.load(Ordering::Relaxed) & bit != 0) == idle {
        return;
    }
    if idle {
        word.fetch_or(bit, Ordering::Relaxed);
    } else {
        word.fetch_and(!bit, Ordering::Relaxed);
    }
}

fn is_idle(cpu: CpuId) -> bool {
    IDLE.get(cpu.index() / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (cpu.index() % 64) & 1 != 0)
}

/// An idle CPU the thread may use, the next after `near` if there is a choice.
fn idle_for(thread: &Thread, near: CpuId) -> Option<CpuId> {
    let first_word = near.index() / 64;
    for step in 0..=WORDS {
        let index = (first_word + step) % WORDS;
        let mut usable = IDLE.get(index)?.load(Ordering::Relaxed) & thread.affinity_word(index);
        if step == 0 {
            usable &= u64::MAX << (near.index() % 64);
        }
        if usable != 0 {
            return CpuId::new(index * 64 + usable.trailing_zeros() as usize);
        }
    }
    None
}

/// Whether any online CPU is in the thread's affinity.
pub(crate) fn has_usable(thread: &Thread) -> bool {
    machine_cpu::online().any(|cpu| thread.may_use(cpu))
}

/// The best CPU for a thread that becomes runnable. Interrupts off.
pub(crate) fn select(owner: &Owner, arrival: Arrival, hint: WakeHint) -> CpuId {
    let thread = &*owner.thread;
    let previous = thread.last_cpu();
    if machine_cpu::count() == 1 {
        return machine_cpu::current();
    }
    let here = machine_cpu::current();
    let may_use_previous = thread.may_use(previous);
    if arrival == Arrival::Wakeup && may_use_previous && owner.kernel.is_on_cpu() {
        return previous;
    }
    if hint == WakeHint::Sync && thread.may_use(here) && is_alone(here) {
        return here;
    }
    if arrival != Arrival::New && may_use_previous && is_idle(previous) {
        return previous;
    }
    if let Some(idle) = idle_for(thread, previous) {
        return idle;
    }
    let priority = thread.parameters_in_force().priority;
    if priority > 0 {
        return select_realtime(thread, previous, priority);
    }
    match (may_use_previous, thread.may_use(here)) {
        (true, true) if arrival != Arrival::New => less_loaded(previous, here),
        (true, false) if arrival != Arrival::New => previous,
        _ => least_loaded(thread).unwrap_or(here),
    }
}

/// Whether the running thread is the only one there, so that it makes room by going to sleep.
fn is_alone(cpu: CpuId) -> bool {
    cpu::data(cpu).runnable.load(Ordering::Relaxed) <= 1 && !irq::in_interrupt()
}

fn load(cpu: CpuId) -> u64 {
    cpu::data(cpu).load.load(Ordering::Relaxed)
}

fn less_loaded(first: CpuId, second: CpuId) -> CpuId {
    if load(second) < load(first) { second } else { first }
}

fn least_loaded(thread: &Thread) -> Option<CpuId> {
    machine_cpu::online().filter(|cpu| thread.may_use(*cpu)).min_by_key(|cpu| load(*cpu))
}

/// Where the least urgent runs; the previous CPU if that one will do.
fn select_realtime(thread: &Thread, previous: CpuId, priority: u8) -> CpuId {
    let running = |cpu: CpuId| cpu::data(cpu).running_priority.load(Ordering::Relaxed);
    if thread.may_use(previous) && running(previous) < priority {
        return previous;
    }
    let lowest = machine_cpu::online().filter(|cpu| thread.may_use(*cpu)).min_by_key(|cpu| running(*cpu));
    lowest.unwrap_or(previous)
}

/// An idle CPU fetches a waiting thread from another; whether it found one. Called by the idle thread only.
pub(crate) fn steal(here: CpuId) -> bool {
    let count = machine_cpu::count();
    for step in 1..count {
        let Some(from) = CpuId::new((here.index() + step) % count) else { continue };
        if cpu::data(from).runnable.load(Ordering::Relaxed) < 2 {
            continue;
        }
        let _irq = irq::disable();
        if let Some(node) = cpu::take_queued(from, here) {
            match cpu::enqueue_on(here, node, Arrival::Move) {
                Ok(()) => return true,
                Err(node) => cpu::activate(node, Arrival::Move, WakeHint::Normal),
            }
        }
    }
    false
}

/// Gives a waiting thread to a less loaded CPU, if that is due and there is one.
pub(crate) fn balance_if_due(cpu: &Cpu) {
    if cpu.runnable.load(Ordering::Relaxed) < 2 || machine_cpu::count() == 1 {
        return;
    }
    let now_ns = time::now_ns();
    let since_ns = now_ns.saturating_sub(cpu.last_balance_ns.load(Ordering::Relaxed));
    if since_ns < BALANCE_PERIOD_NS {
        return;
    }
    let own = load(cpu.id);
    let average = own / u64::from(cpu.runnable.load(Ordering::Relaxed).max(1));
    let other = machine_cpu::online().filter(|other| *other != cpu.id).min_by_key(|other| load(*other));
    let Some(other) = other else { return };
    let after = load(other) + average;
    if after < own || (after == own && since_ns >= ROTATE_PERIOD_NS) {
        cpu.last_balance_ns.store(now_ns, Ordering::Relaxed);
        push(cpu.id, other);
    }
}

fn push(from: CpuId, to: CpuId) {
    let _irq = irq::disable();
    if let Some(node) = cpu::take_queued(from, to)
        && let Err(node) = cpu::enqueue_on(to, node, Arrival::Move)
    {
        cpu::activate(node, Arrival::Move, WakeHint::Normal);
    }
}
