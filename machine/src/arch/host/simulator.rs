//! The simulated machine of `machine::host::run`: CPUs that take turns in one OS thread, as a seed says.
//!
//! A CPU gives the turn away only at *points*: where interrupts or preemption come back on, before a spin lock is taken,
//! while spinning, when idle. At each point the clock advances a little (sometimes a lot), interrupts that are due come
//! in if the CPU lets them, and the generator may pass the turn. An idle machine jumps to its next timer; one without a
//! timer is deadlocked. The allocators' own locks are no points, so that what earlier tests left in their caches does
//! not change the order.
//!
//! Key type: [`Simulator`], on the stack of `run`; the OS thread points to it. Nothing else uses it: cells suffice.

use super::Ipi;
use super::context::{Context, Entry, Stack, swap};
use super::processor::{SIMULATED_CPUS, become_cpu, here, irq_enabled, preempt_count, processor};
use crate::hooks::{self, Interrupted};
use crate::{irq, local};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use std::any::Any;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

/// One interrupt being handled, in the preempt count.
const INTERRUPT: u32 = 0x1_0000;
/// Points after which a run is thought to go on forever.
const MOST_STEPS: u64 = 300_000_000;
/// Fruitless spins after which it is thought to be stuck.
const MOST_SPINS: u64 = 20_000_000;
/// Points that the other CPUs get at the end to let go of what they hold.
const MOST_DRAIN_STEPS: u64 = 2_000_000;
/// Spins of a lone CPU after which the clock jumps to the next timer.
const SPINS_BEFORE_JUMP: u64 = 200;
/// The longest jump of the clock at a point, nanoseconds.
const JUMP_NS: u64 = 3_000_000;

type Payload = Box<dyn Any + Send>;

std::thread_local! {
    static ACTIVE: Cell<*const Simulator> = const { Cell::new(core::ptr::null()) };
}
static RUNS: AtomicU64 = AtomicU64::new(0);
static REPORT: crate::sync::Once<fn() -> String> = crate::sync::Once::new();

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Offline,
    Running,
    Idle,
    /// Stopped for good at the end of the run.
    Stopped,
}

/// What the simulator keeps of a CPU.
struct Slot {
    stack_pointer: Cell<usize>,
    state: Cell<State>,
    timer_ns: Cell<Option<u64>>,
    reschedule: Cell<bool>,
    call: Cell<bool>,
    tlb: Cell<bool>,
    interrupts: Cell<u64>,
    boot_stack: Cell<Option<Stack>>,
}

impl Slot {
    fn new() -> Slot {
        Slot {
            stack_pointer: Cell::new(0),
            state: Cell::new(State::Offline),
            timer_ns: Cell::new(None),
            reschedule: Cell::new(false),
            call: Cell::new(false),
            tlb: Cell::new(false),
            interrupts: Cell::new(0),
            boot_stack: Cell::new(None),
        }
    }
}

enum Due {
    Timer,
    Reschedule,
    Call,
    Tlb,
}

/// See the module.
pub(super) struct Simulator {
    run: u64,
    seed: u64,
    random: Cell<u64>,
    clock_ns: Cell<u64>,
    online: Cell<usize>,
    slots: Vec<Slot>,
    /// The flow of `run` itself.
    root: Cell<usize>,
    ending: Cell<bool>,
    /// No CPU gets the turn any more.
    over: Cell<bool>,
    panic: Cell<Option<Payload>>,
    steps: Cell<u64>,
    /// A hash over all points so far.
    trace: Cell<u64>,
    spins: Cell<u64>,
    /// One point in this many passes the turn.
    pass_odds: u64,
    /// One point in this many moves the clock far.
    jump_odds: u64,
    console: RefCell<Vec<u8>>,
}

/// Runs `f` on the simulator of this OS thread, if it has one. The simulator outlives every flow that can call this.
fn with<R>(f: impl FnOnce(&Simulator) -> R) -> Option<R> {
    // SAFETY: set by `run` for as long as the simulator lives.
    unsafe { ACTIVE.get().as_ref() }.map(f)
}

/// [`with`] as long as CPUs take turns.
fn turn<R>(f: impl FnOnce(&Simulator) -> R) -> Option<R> {
    with(|simulator| (!simulator.over.get()).then(|| f(simulator))).flatten()
}

pub(super) fn is_active() -> bool {
    !ACTIVE.get().is_null()
}
/// The number of the run, 0 outside one.
pub(super) fn run_number() -> u64 {
    with(|simulator| simulator.run).unwrap_or(0)
}
pub(super) fn online_cpus() -> Option<usize> {
    with(|simulator| simulator.online.get())
}
pub(super) fn seed() -> Option<u64> {
    with(|simulator| simulator.seed)
}
pub(super) fn interrupt_count(cpu: u32) -> u64 {
    with(|simulator| simulator.slots.get(cpu as usize).map_or(0, |slot| slot.interrupts.get())).unwrap_or(0)
}
pub(super) fn set_report(report: fn() -> String) {
    let _ = REPORT.set(report);
}
/// Keeps console output; gives `false` outside a run.
pub(super) fn console_write(bytes: &[u8]) -> bool {
    with(|simulator| simulator.console.borrow_mut().extend_from_slice(bytes)).is_some()
}
pub(super) fn take_console() -> Vec<u8> {
    with(|simulator| core::mem::take(&mut *simulator.console.borrow_mut())).unwrap_or_default()
}
pub(super) fn set_timer(deadline_ns: Option<u64>) {
    with(|simulator| simulator.slot().timer_ns.set(deadline_ns));
}
pub(super) fn send_ipi(cpu: u32, kind: Ipi) {
    with(|simulator| {
        let Some(slot) = simulator.slots.get(cpu as usize) else { return };
        match kind {
            Ipi::Reschedule => slot.reschedule.set(true),
            Ipi::Call => slot.call.set(true),
            Ipi::Tlb => slot.tlb.set(true),
        }
    });
}
/// The virtual clock, which also advances when it is read.
pub(super) fn now_ns() -> Option<u64> {
    with(|simulator| {
        simulator.advance(10);
        simulator.clock_ns.get()
    })
}

/// A place where interrupts may come in and another CPU may get the turn.
pub(super) fn point() {
    if std::thread::panicking() {
        return;
    }
    turn(|simulator| {
        simulator.spins.set(0);
        simulator.step();
        simulator.deliver();
        if simulator.random() % simulator.pass_odds == 0 {
            simulator.pass();
            simulator.deliver();
        }
        simulator.stop_if_ending();
    });
}

/// A spinning CPU waits for another: the turn goes on. Gives `false` outside a simulation.
pub(super) fn relax() -> bool {
    turn(|simulator| {
        simulator.spins.set(simulator.spins.get() + 1);
        if simulator.spins.get() > MOST_SPINS {
            simulator.give_up("every CPU spins");
        }
        simulator.step();
        simulator.deliver();
        if !simulator.pass() {
            // Who holds what this CPU waits for may be a thread of the process around the simulation.
            std::thread::yield_now();
            if simulator.spins.get() % SPINS_BEFORE_JUMP == 0 {
                simulator.jump_to_timer();
            }
        }
        simulator.deliver();
        simulator.stop_if_ending();
    })
    .is_some()
}

/// Before a spin lock is taken.
pub(super) fn lock_point() {
    if is_active() && !local::local().allocator_busy.load(Ordering::Relaxed) {
        point();
    }
}

/// Waits for an interrupt and handles it; interrupts are off before and after. Gives `false` outside a simulation.
pub(super) fn idle_wait() -> bool {
    turn(|simulator| {
        let slot = simulator.slot();
        slot.state.set(State::Idle);
        simulator.spins.set(0);
        while !simulator.is_due(slot) {
            simulator.step();
            if simulator.ending.get() {
                simulator.leave_idle(slot);
            } else if !simulator.pass() && !simulator.is_due(slot) && !simulator.jump_to_timer() {
                slot.state.set(State::Running);
                simulator.give_up("deadlock: every CPU is idle and no timer is armed");
            }
        }
        slot.state.set(State::Running);
        here().interrupts.store(true, Ordering::Relaxed);
        simulator.deliver();
        here().interrupts.store(false, Ordering::Relaxed);
    })
    .is_some()
}

/// Brings up all CPUs; each begins with `entry`.
pub(super) fn start_secondary_cpus(entry: fn(u32)) -> usize {
    static ENTRY: std::sync::Mutex<Option<fn(u32)>> = std::sync::Mutex::new(None);
    unsafe extern "C-unwind" fn start(cpu: usize) -> ! {
        let entry = *ENTRY.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        super::irq_enable();
        if let Some(entry) = entry {
            entry(cpu as u32);
        }
        panic!("the entry of a CPU returned");
    }
    *ENTRY.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(entry);
    with(|simulator| {
        for (cpu, slot) in simulator.slots.iter().enumerate().skip(1) {
            // Interrupts are off until it starts.
            processor(cpu as u32).interrupts.store(false, Ordering::Relaxed);
            simulator.start_flow(slot, start, cpu);
        }
        simulator.online.set(simulator.slots.len());
        simulator.slots.len()
    })
    .unwrap_or(1)
}

/// A flow ended by a panic: the run is over.
pub(super) fn flow_panicked(payload: Payload) -> ! {
    with(|simulator| {
        simulator.panic.set(Some(payload));
        simulator.end();
    });
    unreachable!("a flow went on after its panic");
}

impl Simulator {
    fn new(seed: u64, cpus: usize) -> Simulator {
        let mut simulator = Simulator {
            run: RUNS.fetch_add(1, Ordering::Relaxed) + 1,
            seed,
            random: Cell::new(seed),
            clock_ns: Cell::new(1_000_000),
            online: Cell::new(1),
            slots: (0..cpus).map(|_| Slot::new()).collect(),
            root: Cell::new(0),
            ending: Cell::new(false),
            over: Cell::new(false),
            panic: Cell::new(None),
            steps: Cell::new(0),
            trace: Cell::new(seed),
            spins: Cell::new(0),
            pass_odds: 0,
            jump_odds: 0,
            console: RefCell::default(),
        };
        simulator.pass_odds = [2, 4, 16, 64][simulator.random() as usize % 4];
        simulator.jump_odds = [50, 500, 5000][simulator.random() as usize % 3];
        simulator
    }

    /// The next number of the generator (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// This CPU's slot.
    fn slot(&self) -> &Slot {
        &self.slots[super::cpu_id() as usize]
    }

    fn advance(&self, nanoseconds: u64) {
        self.clock_ns.set(self.clock_ns.get() + nanoseconds);
    }

    /// Time passes; counts, so that nothing goes on forever.
    fn step(&self) {
        let random = self.random();
        self.advance(20 + random % 256);
        if (random >> 8).is_multiple_of(self.jump_odds) {
            self.advance((random >> 32) % JUMP_NS);
        }
        self.steps.set(self.steps.get() + 1);
        let held = u64::from(preempt_count()) << 1 | u64::from(irq_enabled());
        self.note(random ^ u64::from(super::cpu_id()) << 32 ^ held);
        self.note(self.clock_ns.get());
        if self.steps.get() > MOST_STEPS {
            self.give_up("the run does not end");
        }
    }

    /// Takes something into the trace (Fowler, Noll and Vo's hash, by words).
    fn note(&self, word: u64) {
        self.trace.set((self.trace.get().rotate_left(5) ^ word).wrapping_mul(0x100_0000_01b3));
    }

    fn is_due(&self, slot: &Slot) -> bool {
        let timer = slot.timer_ns.get().is_some_and(|deadline| deadline <= self.clock_ns.get());
        timer || slot.reschedule.get() || slot.call.get() || slot.tlb.get()
    }

    /// Takes one of the interrupts that wait for this CPU.
    fn take_due(&self, slot: &Slot) -> Option<Due> {
        if slot.timer_ns.get().is_some_and(|deadline| deadline <= self.clock_ns.get()) {
            slot.timer_ns.set(None);
            Some(Due::Timer)
        } else if slot.tlb.take() {
            Some(Due::Tlb)
        } else if slot.call.take() {
            Some(Due::Call)
        } else if slot.reschedule.take() {
            Some(Due::Reschedule)
        } else {
            None
        }
    }

    /// Handles the interrupts that are due here, if interrupts are on, and preempts the thread if it must.
    fn deliver(&self) {
        while irq_enabled() && !std::thread::panicking() {
            // Anew each time: a preemption may have moved this flow to another CPU.
            let slot = self.slot();
            let Some(due) = self.take_due(slot) else { return };
            slot.interrupts.set(slot.interrupts.get() + 1);
            let cpu = here();
            cpu.interrupts.store(false, Ordering::Relaxed);
            cpu.preempt.fetch_add(INTERRUPT, Ordering::SeqCst);
            match due {
                Due::Timer => hooks::timer(Interrupted::Kernel),
                Due::Reschedule => super::set_need_resched(),
                Due::Call => irq::on_ipi_call(),
                Due::Tlb => crate::tlb::on_ipi_tlb(),
            }
            cpu.preempt.fetch_sub(INTERRUPT, Ordering::SeqCst);
            cpu.interrupts.store(true, Ordering::Relaxed);
            self.stop_if_ending();
            if preempt_count() == 0 && super::need_resched() {
                hooks::preempt();
            }
        }
    }

    /// Gives the turn to another CPU that can use it; `false` if there is none.
    fn pass(&self) -> bool {
        let me = super::cpu_id() as usize;
        let can_run = |slot: &Slot| match slot.state.get() {
            State::Running => true,
            State::Idle => self.is_due(slot) && (!self.ending.get() || slot.call.get() || slot.tlb.get()),
            State::Offline | State::Stopped => false,
        };
        let others = self.slots.iter().enumerate().filter(|(number, slot)| *number != me && can_run(slot));
        let count = others.clone().count();
        if count == 0 {
            return false;
        }
        let Some((next, slot)) = others.clone().nth(self.random() as usize % count) else { return false };
        become_cpu(next as u32);
        // SAFETY: the other CPU is not running, so its stack pointer was saved by this function or `start_flow`; ours is
        // taken only by who passes the turn back.
        unsafe { swap(self.slots[me].stack_pointer.as_ptr(), slot.stack_pointer.get()) };
        true
    }

    /// Moves the clock to the next timer of any CPU; `false` if there is none.
    fn jump_to_timer(&self) -> bool {
        let next = self.slots.iter().filter_map(|slot| slot.timer_ns.get()).min();
        if let Some(next) = next {
            self.clock_ns.set(self.clock_ns.get().max(next));
        }
        next.is_some()
    }

    /// Makes a CPU begin with `entry` when it first gets the turn.
    fn start_flow(&self, slot: &Slot, entry: Entry, argument: usize) {
        let Some(stack) = Stack::new() else { panic!("the simulator needs an x86-64 host and memory") };
        // SAFETY: the stack is new; it stays in the slot.
        let context = unsafe { Context::new(stack.top(), entry, argument) };
        slot.stack_pointer.set(context.stack_pointer);
        slot.boot_stack.set(Some(stack));
        slot.state.set(State::Running);
    }

    /// Panics with what every thread is doing.
    fn give_up(&self, why: &str) -> ! {
        self.steps.set(0);
        self.spins.set(0);
        if std::thread::panicking() {
            // Cleaning up after a panic needs something that nobody will give.
            std::eprintln!("{why}, during a panic (seed {})", self.seed);
            std::process::abort();
        }
        let report = REPORT.get().map(|report| report()).unwrap_or_default();
        panic!("{why} (seed {}, {} ns)\n{report}", self.seed, self.clock_ns.get());
    }

    /// The end of the run: back to `run`, for good.
    fn end(&self) {
        let slot = self.slot();
        slot.state.set(State::Stopped);
        // SAFETY: `run` saved its stack pointer when it started the first flow (or drained another).
        unsafe { swap(slot.stack_pointer.as_ptr(), self.root.get()) };
    }

    /// An idle CPU goes back to `run` while that waits for others, to whom it can still answer.
    fn leave_idle(&self, slot: &Slot) {
        // SAFETY: as in `end`; who passes the turn back took the stack pointer saved here.
        unsafe { swap(slot.stack_pointer.as_ptr(), self.root.get()) };
    }

    /// A CPU that holds nothing stops here once the run has ended.
    fn stop_if_ending(&self) {
        if self.ending.get() && preempt_count() == 0 {
            self.end();
        }
    }

    /// Lets a CPU run until something calls [`Simulator::end`]. Only `run` calls it.
    fn enter(&self, cpu: usize) {
        let before = become_cpu(cpu as u32);
        // SAFETY: the CPU is not running, so its stack pointer is saved.
        unsafe { swap(self.root.as_ptr(), self.slots[cpu].stack_pointer.get()) };
        become_cpu(before);
    }

    /// Lets the CPUs that are left go on until they hold no spin lock.
    fn drain(&self) {
        self.ending.set(true);
        self.steps.set(MOST_STEPS - MOST_DRAIN_STEPS);
        for cpu in 0..self.slots.len() {
            if self.slots[cpu].state.get() == State::Running {
                // It may end sooner, when another CPU that got the turn meanwhile stops.
                while processor(cpu as u32).preempt.load(Ordering::Relaxed) != 0
                    && self.slots[cpu].state.get() == State::Running
                {
                    self.enter(cpu);
                }
                // An idle one can still be asked.
                if self.slots[cpu].state.get() == State::Running {
                    self.slots[cpu].state.set(State::Stopped);
                }
            }
        }
        self.over.set(true);
    }

    /// Leaves the CPUs as if they had never been, and runs what waited for grace periods.
    fn clean_up(&self) {
        for cpu in 0..self.slots.len() as u32 {
            processor(cpu).reset();
            let before = become_cpu(cpu);
            crate::sync::rcu::idle_exit();
            crate::sync::rcu::cpu_offline(cpu);
            crate::memory::PageTable::activate_kernel();
            become_cpu(before);
        }
        if self.panic_is_set() {
            return;
        }
        for cpu in 0..self.slots.len() as u32 {
            let before = become_cpu(cpu);
            for _ in 0..8 {
                crate::sync::rcu::run_callbacks();
            }
            become_cpu(before);
        }
    }

    fn panic_is_set(&self) -> bool {
        let payload = self.panic.take();
        let is_set = payload.is_some();
        self.panic.set(payload);
        is_set
    }
}

/// Runs `main` as the boot flow of CPU 0; see `machine::host::run`. One at a time in a process. Gives how many points there
/// were until `main` returned, and the hash over them.
pub(super) fn run(seed: u64, cpus: usize, main: impl FnOnce() + Send) -> (u64, u64) {
    unsafe extern "C-unwind" fn first<F: FnOnce()>(place: usize) -> ! {
        // SAFETY: `run` below waits with the closure on its stack; only this flow takes it.
        let main = unsafe { (*core::ptr::with_exposed_provenance_mut::<Option<F>>(place)).take() };
        if let Some(main) = main {
            main();
        }
        assert!(preempt_count() == 0, "the run ended with a guard held");
        with(Simulator::end);
        unreachable!("the first flow went on after its end");
    }
    fn entry_of<F: FnOnce()>(_: &F) -> Entry {
        first::<F>
    }
    assert!(!is_active(), "host::run in a run");
    assert!((1..=SIMULATED_CPUS).contains(&cpus), "1 to {SIMULATED_CPUS} CPUs");
    let entry = entry_of(&main);
    let mut place = Some(main);
    super::ensure_memory();
    let own = super::cpu_id();
    let simulator = Simulator::new(seed, cpus);
    ACTIVE.set(&raw const simulator);
    for cpu in 0..cpus as u32 {
        processor(cpu).reset();
    }
    crate::sync::rcu::cpu_online(0);
    simulator.start_flow(&simulator.slots[0], entry, (&raw mut place).expose_provenance());
    simulator.enter(0);
    let trace = (simulator.steps.get(), simulator.trace.get());
    simulator.drain();
    simulator.clean_up();
    ACTIVE.set(core::ptr::null());
    become_cpu(own);
    for (cpu, slot) in simulator.slots.iter().enumerate() {
        let stack = slot.boot_stack.take();
        // The first flow of a run that went well has returned; others may have left pointers to their stacks.
        if cpu != 0 || simulator.panic_is_set() {
            core::mem::forget(stack);
        }
    }
    if let Some(payload) = simulator.panic.take() {
        let console = simulator.console.take();
        if !console.is_empty() {
            std::eprintln!("console:\n{}", String::from_utf8_lossy(&console));
        }
        std::panic::resume_unwind(payload);
    }
    trace
}
