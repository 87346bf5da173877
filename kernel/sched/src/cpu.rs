//! The scheduler of each CPU: the run queue under its lock, switching, waking, preemption, the slice timer.
//!
//! The way of a switch: interrupts off; lock the run queue; charge the running thread; move its entity to where
//! it belongs (its slot when it parks, a tree when it is preempted, the *outgoing* place when it exits or must
//! go to another CPU); pick the next; unlock; `machine::thread::switch_to`; whoever runs now deals with the
//! outgoing one. One lock is taken, nothing is allocated.
//!
//! A parked thread may be woken and queued before its CPU has left its stack. That is fine: `switch_to` waits
//! for it. Nobody waits in a circle: a CPU only switches to what was queued before it let go of its own thread.
//! This is why stealing is done by the idle thread, not while switching away from something else.
//!
//! Locks: a run queue's lock is a leaf, taken with interrupts off; never two run queues at once. Before it may
//! be taken: wait queues' locks, a thread's `attributes`, a timer's state.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use machine::cpu::{self as machine_cpu, CpuId, PerCpu};
use machine::hooks::Interrupted;
use machine::sync::{IrqSpinLock, IrqSpinLockGuard, Once, rcu};
use machine::thread::{self as machine_thread, KernelThread};
use machine::{irq, preempt, time};

use crate::account::{CpuClock, add};
use crate::fair::Arrival;
use crate::place;
use crate::pressure::Noted;
use crate::runqueue::{Decision, Entity, Preemption, Release, RunQueue};
use crate::thread::{Owner, Schedulable, State, Thread, WakeHint, current};
use crate::timer_queue::TimerQueue;
use crate::tree::Pile;

type Queue = RunQueue<Owner>;
type QueueGuard<'a> = IrqSpinLockGuard<'a, Scheduled>;

/// What a run queue's lock protects.
#[derive(Default)]
struct Scheduled {
    queue: Queue,
    idle: Option<Arc<KernelThread>>,
}

impl core::ops::Deref for Scheduled {
    type Target = Queue;
    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl core::ops::DerefMut for Scheduled {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

/// Everything a CPU has for scheduling. The atomics outside the lock are copies for others to read cheaply.
pub(crate) struct Cpu {
    pub(crate) id: CpuId,
    queue: IrqSpinLock<Scheduled>,
    pub(crate) timers: IrqSpinLock<TimerQueue<Arc<dyn crate::timer::TimerOwner>>>,
    pub(crate) clock: SliceClock,
    pub(crate) times: CpuClock,
    pub(crate) pressure: Noted,
    pub(crate) load: AtomicU64,
    pub(crate) runnable: AtomicU32,
    /// The real-time priority that runs; 0 for fair, and for idle.
    pub(crate) running_priority: AtomicU8,
    /// A reschedule interrupt is on its way.
    resched_sent: AtomicBool,
    outgoing: Outgoing,
    pub(crate) last_balance_ns: AtomicU64,
    pub(crate) rcu_thread: IrqSpinLock<Option<Arc<Thread>>>,
    pub(crate) rcu_active: AtomicBool,
}

/// The thread this CPU is switching away from, when somebody must see to it afterwards; and the dead ones.
struct Outgoing {
    pending: AtomicBool,
    moving: IrqSpinLock<Option<Schedulable>>,
    dead: IrqSpinLock<Pile<Entity<Owner>>>,
    dead_count: AtomicU32,
}

static CPUS: Once<PerCpu<Cpu>> = Once::new();

/// What all CPUs count together: in a cache line of its own, away from [`CPUS`], which each of them reads at each switch.
#[repr(align(64))]
struct Totals {
    threads: AtomicU64,
    forks: AtomicU64,
    uninterruptible: AtomicU64,
}

static TOTALS: Totals =
    Totals { threads: AtomicU64::new(0), forks: AtomicU64::new(0), uninterruptible: AtomicU64::new(0) };

/// Makes the data of all CPUs, at boot. The simulator boots many times in one process: then it is all as new.
pub(crate) fn init_data() {
    let fresh = |id| Cpu {
        id,
        queue: IrqSpinLock::new(Scheduled::default()),
        timers: IrqSpinLock::new(TimerQueue::new()),
        clock: SliceClock::new(),
        times: CpuClock::new(),
        pressure: Noted::new(),
        load: AtomicU64::new(0),
        runnable: AtomicU32::new(0),
        running_priority: AtomicU8::new(0),
        resched_sent: AtomicBool::new(false),
        outgoing: Outgoing {
            pending: AtomicBool::new(false),
            moving: IrqSpinLock::new(None),
            dead: IrqSpinLock::new(Pile::new()),
            dead_count: AtomicU32::new(0),
        },
        last_balance_ns: AtomicU64::new(0),
        rcu_thread: IrqSpinLock::new(None),
        rcu_active: AtomicBool::new(false),
    };
    if CPUS.set(PerCpu::new_with(fresh)).is_err() {
        reset_data();
    }
    for counter in [&TOTALS.threads, &TOTALS.forks, &TOTALS.uninterruptible] {
        counter.store(0, Ordering::Relaxed);
    }
}

/// Forgets what an earlier boot left behind.
fn reset_data() {
    let Some(cpus) = CPUS.get() else { return };
    for (id, cpu) in cpus.iter() {
        *cpu.queue.lock() = Scheduled::default();
        *cpu.timers.lock() = TimerQueue::new();
        *cpu.outgoing.moving.lock() = None;
        *cpu.outgoing.dead.lock() = Pile::new();
        cpu.outgoing.dead_count.store(0, Ordering::Relaxed);
        *cpu.rcu_thread.lock() = None;
        cpu.clock.armed_ns.store(NEVER, Ordering::Relaxed);
        cpu.clock.slice_end_ns.store(NEVER, Ordering::Relaxed);
        cpu.clock.tick_ns.store(NEVER, Ordering::Relaxed);
        cpu.times.reset();
        cpu.pressure.reset();
        cpu.load.store(0, Ordering::Relaxed);
        cpu.runnable.store(0, Ordering::Relaxed);
        cpu.running_priority.store(0, Ordering::Relaxed);
        cpu.last_balance_ns.store(0, Ordering::Relaxed);
        for flag in [&cpu.resched_sent, &cpu.outgoing.pending, &cpu.rcu_active] {
            flag.store(false, Ordering::Relaxed);
        }
        place::set_idle(id, false);
    }
}

/// The data of a CPU.
#[inline]
pub(crate) fn data(cpu: CpuId) -> &'static Cpu {
    match CPUS.get() {
        Some(cpus) => cpus.get_on(cpu),
        None => panic!("sched::init has not run"),
    }
}

pub(crate) fn threads() -> u64 {
    TOTALS.threads.load(Ordering::Relaxed)
}

pub(crate) fn forks() -> u64 {
    TOTALS.forks.load(Ordering::Relaxed)
}

pub(crate) fn uninterruptible() -> u64 {
    TOTALS.uninterruptible.load(Ordering::Relaxed)
}

/// A thread sleeps uninterruptibly, for the load average.
pub(crate) fn note_uninterruptible(begins: bool) {
    if begins {
        TOTALS.uninterruptible.fetch_add(1, Ordering::Relaxed);
    } else {
        TOTALS.uninterruptible.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn note_started() {
    TOTALS.threads.fetch_add(1, Ordering::Relaxed);
    TOTALS.forks.fetch_add(1, Ordering::Relaxed);
}

/// What this CPU's one-shot timer is armed for. Only this CPU writes it, with interrupts off, except for the end of the slice.
///
/// Lazy: the hardware is only ever programmed for something *earlier* than what it is armed for. A slice that
/// ends later than expected costs one early interrupt, which is cheaper than programming at every switch.
pub(crate) struct SliceClock {
    armed_ns: AtomicU64,
    /// When the running thread has had its turn; `NEVER` when nobody waits. Written under the queue's lock by whoever changes the queue, also
    /// from another CPU: the timer's next interrupt, whatever it was armed for, has to know of a thread that came meanwhile. The interrupt
    /// takes it away when it is over.
    slice_end_ns: AtomicU64,
    /// The next look at what the running thread is at, for the accounts; `NEVER` when there was none at the last one.
    tick_ns: AtomicU64,
}

const NEVER: u64 = u64::MAX;
/// How often a busy CPU looks whether it is in user mode or in the kernel. An idle CPU does not tick.
const TICK_NS: u64 = 4_000_000;
/// How many dead threads may wait on a busy CPU before the housekeeping thread is woken for them.
const DEAD_LIMIT: u32 = 8;

impl SliceClock {
    const fn new() -> Self {
        Self {
            armed_ns: AtomicU64::new(NEVER),
            slice_end_ns: AtomicU64::new(NEVER),
            tick_ns: AtomicU64::new(NEVER),
        }
    }

    /// A thread runs: it is looked at now and then, at times that have nothing to do with when it began.
    #[inline]
    fn want_tick(&self, now_ns: u64) {
        if self.tick_ns.load(Ordering::Relaxed) == NEVER {
            let tick_ns = (now_ns / TICK_NS + 1) * TICK_NS;
            self.tick_ns.store(tick_ns, Ordering::Relaxed);
            self.want(tick_ns);
        }
    }

    /// The timer must fire at this time at the latest.
    pub(crate) fn want(&self, deadline_ns: u64) {
        if deadline_ns < self.armed_ns.load(Ordering::Relaxed) {
            self.armed_ns.store(deadline_ns, Ordering::Relaxed);
            time::set_timer(deadline_ns);
        }
    }

    /// The running thread's slice ends then, of which its CPU's timer has still to be told. The queue is locked.
    fn note_slice_end(&self, slice_end_ns: u64) {
        self.slice_end_ns.store(slice_end_ns, Ordering::Relaxed);
    }

    /// Whether an interrupt that is still to come looks at the end of the slice in time. For another CPU, after
    /// [`Self::note_slice_end`]; the order is the opposite of the interrupt's, so that one of the two sees the other.
    fn will_see(&self, slice_end_ns: u64) -> bool {
        fence(Ordering::SeqCst);
        self.armed_ns.load(Ordering::Relaxed) <= slice_end_ns
    }
}

impl Cpu {
    /// The queue, charged up to now.
    fn lock_charged(&self) -> (QueueGuard<'_>, u64) {
        let mut queue = self.queue.lock();
        let now_ns = time::now_ns();
        queue.charge(now_ns);
        (queue, now_ns)
    }

    /// Something that counts as pressure has changed, but nothing of the queue.
    pub(crate) fn note_pressure(&self) {
        let _irq = irq::disable();
        let queue = self.queue.lock();
        let io_waiters = self.times.io_waiters.load(Ordering::Relaxed);
        self.pressure.note(time::now_ns(), queue.runnable() as u64, io_waiters);
    }

    /// What is lost here, up to now.
    pub(crate) fn pressure_times(&self) -> [u64; crate::pressure::STATES] {
        let _irq = irq::disable();
        let _queue = self.queue.lock();
        self.pressure.read(time::now_ns())
    }

    /// Copies what others want to know.
    fn publish(&self, queue: &Queue, now_ns: u64) {
        let io_waiters = self.times.io_waiters.load(Ordering::Relaxed);
        self.pressure.note(now_ns, queue.runnable() as u64, io_waiters);
        self.load.store(queue.load(), Ordering::Relaxed);
        self.runnable.store(queue.runnable() as u32, Ordering::Relaxed);
        let priority = queue.current().map_or(0, |entity| entity.parameters().priority);
        self.running_priority.store(priority, Ordering::Relaxed);
        place::set_idle(self.id, queue.runnable() == 0);
    }

    /// The boot flow of this CPU became its idle thread.
    pub(crate) fn set_idle_thread(&self, idle: Arc<KernelThread>) {
        let mut queue = self.queue.lock();
        queue.idle = Some(idle);
        self.publish(&queue, time::now_ns());
    }
}

/// Who runs while [`choose`] decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Thread,
    Idle,
}

/// What [`choose`] decided.
struct Next {
    kernel: Arc<KernelThread>,
    /// `None`: the idle thread.
    thread: Option<Arc<Thread>>,
    from: From,
    now_ns: u64,
}

/// Picks the next thread, publishes, arms the timer and unlocks. `None`: the running one goes on.
fn choose(cpu: &Cpu, mut queue: QueueGuard<'_>, now_ns: u64, from: From, release: Release) -> Option<Next> {
    let decision = queue.reschedule(now_ns, release);
    let next = match (decision, queue.current()) {
        (Decision::Switched, Some(entity)) => {
            Some((entity.payload.kernel.clone(), Some(entity.payload.thread.clone())))
        }
        (_, None) if from == From::Thread => match &queue.idle {
            Some(idle) => Some((idle.clone(), None)),
            None => panic!("sched::start_cpu has not run on this CPU"),
        },
        _ => None,
    };
    cpu.resched_sent.store(false, Ordering::Relaxed);
    cpu.publish(&queue, now_ns);
    let slice_end_ns = queue.slice_end_ns().unwrap_or(NEVER);
    cpu.clock.note_slice_end(slice_end_ns);
    let is_busy = queue.current().is_some();
    drop(queue);
    preempt::clear_need_resched();
    cpu.clock.want(slice_end_ns);
    if is_busy {
        cpu.clock.want_tick(now_ns);
    }
    next.map(|(kernel, thread)| Next { kernel, thread, from, now_ns })
}

/// Bookkeeping between two threads, interrupts off; activates the next one's page table.
fn prepare_switch(cpu: &Cpu, previous: &Thread, next: &Next) {
    let ran_ns = previous.times.end(next.now_ns);
    add(&cpu.times.switches, 1);
    match next.from {
        From::Idle => cpu.times.end_idle(next.now_ns),
        From::Thread => cpu.times.add_busy(ran_ns),
    }
    match &next.thread {
        Some(thread) => {
            thread.times.begin(next.now_ns);
            thread.activate_page_table();
        }
        None => cpu.times.begin_idle(next.now_ns),
    }
}

/// Switches to `next`; returns when the calling thread runs again. Interrupts are off by exactly the caller's guard.
fn switch(cpu: &Cpu, previous: &Thread, next: Next) {
    prepare_switch(cpu, previous, &next);
    let Next { kernel, thread, .. } = next;
    // The counted reference must not outlive the switch on a stack that may sleep for long.
    drop(thread);
    machine_thread::switch_to(&kernel);
    drop(kernel);
    finish_switch();
}

/// The first thing after a switch, interrupts off: sees to the thread that was switched away from.
fn finish_switch() {
    let cpu = data(machine_cpu::current());
    if cpu.outgoing.pending.load(Ordering::Relaxed) {
        cpu.outgoing.pending.store(false, Ordering::Relaxed);
        let moving = cpu.outgoing.moving.lock().take();
        if let Some(node) = moving {
            activate(node, Arrival::Move, WakeHint::Normal);
        }
    }
    let dead = cpu.outgoing.dead_count.load(Ordering::Relaxed);
    let idle = cpu.runnable.load(Ordering::Relaxed) == 0;
    if dead >= DEAD_LIMIT || (dead > 0 && idle) {
        wake_housekeeper(cpu);
    }
    wake_rcu(cpu);
}

/// [`finish_switch`] for a thread that runs for the first time.
pub(crate) fn finish_first_switch() {
    {
        let _irq = irq::disable();
        finish_switch();
    }
    reap();
}

/// Frees the threads that died on this CPU, with what hangs on them. That may sleep and take any lock, so it is only
/// done where the calling thread holds nothing: at the very start of a thread, and in the housekeeping thread.
pub(crate) fn reap() {
    loop {
        let guard = irq::disable();
        let cpu = data(machine_cpu::current());
        let node = cpu.outgoing.dead.lock().pop();
        if node.is_some() {
            cpu.outgoing.dead_count.fetch_sub(1, Ordering::Relaxed);
        }
        drop(guard);
        let Some(node) = node else { return };
        drop(node);
    }
}

/// Wakes this CPU's housekeeping thread. Interrupts off.
fn wake_housekeeper(cpu: &Cpu) {
    let thread = cpu.rcu_thread.lock().clone();
    if let Some(thread) = thread {
        thread.wake();
    }
}

/// Starts this CPU's housekeeping thread if callbacks wait and it does not know yet.
pub(crate) fn wake_rcu(cpu: &Cpu) {
    if rcu::has_callbacks() && !cpu.rcu_active.swap(true, Ordering::Relaxed) {
        wake_housekeeper(cpu);
    }
}

/// Parks the calling thread until its slot is woken. Returns at once if it was already.
pub(crate) fn block() {
    let thread = current();
    let guard = irq::disable();
    let cpu = data(machine_cpu::current());
    let (mut queue, now_ns) = cpu.lock_charged();
    let Some(node) = queue.take_current() else {
        panic!("the idle thread must not sleep");
    };
    if let Err(node) = thread.slot.park(node) {
        queue.put_back(node);
        return;
    }
    // From here on a waker may take the entity; it waits for the queue's lock, or queues elsewhere.
    let waits_for_device = thread.in_io_wait.load(Ordering::Relaxed);
    if waits_for_device {
        cpu.times.io_waiters.fetch_add(1, Ordering::Relaxed);
    }
    let waits_for_memory = thread.in_memory_stall.load(Ordering::Relaxed);
    if waits_for_memory {
        cpu.pressure.count_asleep(true);
    }
    if let Some(next) = choose(cpu, queue, now_ns, From::Thread, Release::Preempted) {
        add(&thread.voluntary_switches, 1);
        switch(cpu, &thread, next);
    }
    if waits_for_device {
        cpu.times.io_waiters.fetch_sub(1, Ordering::Relaxed);
    }
    if waits_for_memory {
        cpu.pressure.count_asleep(false);
    }
    if waits_for_device || waits_for_memory {
        cpu.note_pressure();
    }
    drop(guard);
}

/// Lets another thread run if one should; the caller stays runnable.
fn reschedule(release: Release) {
    let thread = current();
    let guard = irq::disable();
    reschedule_once(&thread, release);
    // What became due meanwhile is seen to here: dropping the guard would come back on a deeper stack.
    while preempt::need_resched() {
        reschedule_once(&thread, Release::Preempted);
    }
    drop(guard);
}

/// One round of [`reschedule`], interrupts off.
fn reschedule_once(thread: &Thread, release: Release) {
    let cpu = data(machine_cpu::current());
    let (mut queue, now_ns) = cpu.lock_charged();
    let from = if queue.current().is_some() { From::Thread } else { From::Idle };
    if from == From::Thread && !thread.may_use(cpu.id) {
        evict_current(cpu, &mut queue);
    }
    if let Some(next) = choose(cpu, queue, now_ns, from, release) {
        let counter = match release {
            Release::Preempted => &thread.involuntary_switches,
            Release::Yielded => &thread.voluntary_switches,
        };
        add(counter, 1);
        switch(cpu, thread, next);
    }
}

/// The running thread may not run here any more: it is queued elsewhere once its stack is free.
fn evict_current(cpu: &Cpu, queue: &mut Queue) {
    if let Some(node) = queue.take_current() {
        *cpu.outgoing.moving.lock() = Some(node);
        cpu.outgoing.pending.store(true, Ordering::Relaxed);
    }
}

/// For [`machine::hooks::Hooks::preempt`]: a reschedule is due.
pub fn preempt() {
    if CPUS.get().is_none() || crate::thread::try_current().is_none() {
        preempt::clear_need_resched();
        return;
    }
    place::balance_if_due(data(machine_cpu::current()));
    reschedule(Release::Preempted);
}

/// Lets others of the same urgency run first (`sched_yield(2)`).
pub fn yield_now() {
    reschedule(Release::Yielded);
}

/// Reschedules if that is due; for the return to user mode and for long loops in the kernel.
#[inline]
pub fn schedule_if_needed() {
    if preempt::need_resched() {
        reschedule(Release::Preempted);
    }
}

/// Ends the calling thread. Its stack, and what hangs on it, is freed by the next thread.
pub fn exit_current() -> ! {
    let thread = current();
    crate::errand::hand_back(&thread);
    thread.set_state(State::Dead);
    thread.set_page_table(None);
    thread.sleep_timer_cancel();
    TOTALS.threads.fetch_sub(1, Ordering::Relaxed);
    let guard = irq::disable();
    let cpu = data(machine_cpu::current());
    let (mut queue, now_ns) = cpu.lock_charged();
    let Some(node) = queue.take_current() else {
        panic!("the idle thread must not exit");
    };
    cpu.outgoing.dead.lock().push(node);
    cpu.outgoing.dead_count.fetch_add(1, Ordering::Relaxed);
    let Some(next) = choose(cpu, queue, now_ns, From::Thread, Release::Preempted) else {
        panic!("no thread to run after an exit");
    };
    prepare_switch(cpu, &thread, &next);
    let Next { kernel, thread, .. } = next;
    drop(thread);
    // The guard is never dropped: interrupts come back on in the next thread.
    core::mem::forget(guard);
    machine_thread::exit_to(kernel)
}

/// Queues a thread that is nowhere else, on the CPU that suits best. Any context.
pub(crate) fn activate(mut node: Schedulable, arrival: Arrival, hint: WakeHint) {
    let _irq = irq::disable();
    loop {
        let target = place::select(&node.payload, arrival, hint);
        match enqueue_on(target, node, arrival) {
            Ok(()) => return,
            Err(back) => node = back,
        }
    }
}

/// Queues on one CPU and tells that CPU, unless the thread's affinity has just been changed against it.
pub(crate) fn enqueue_on(target: CpuId, mut node: Schedulable, arrival: Arrival) -> Result<(), Schedulable> {
    let _irq = irq::disable();
    let cpu = data(target);
    let (mut queue, now_ns) = cpu.lock_charged();
    let thread = &node.payload.thread;
    let number = target.index() as u32;
    if thread.cpu.load(Ordering::Relaxed) != number {
        // Before the parameters and the affinity are read: see the head of `thread`.
        thread.cpu.swap(number, Ordering::SeqCst);
    }
    if !thread.may_use(target) && place::has_usable(thread) {
        return Err(node);
    }
    let parameters = thread.parameters_in_force();
    node.set_parameters(parameters);
    let preemption = queue.enqueue(node, arrival);
    cpu.publish(&queue, now_ns);
    notify(cpu, queue, preemption);
    Ok(())
}

/// Makes a CPU act on a change of its queue: reschedule, or arm the timer for the end of the slice.
fn notify(cpu: &Cpu, queue: QueueGuard<'_>, preemption: Preemption) {
    let here = cpu.id == machine_cpu::current();
    let slice_end_ns = queue.slice_end_ns().unwrap_or(NEVER);
    let now = preemption == Preemption::Now;
    cpu.clock.note_slice_end(slice_end_ns);
    if here {
        drop(queue);
        if now {
            preempt::set_need_resched();
        } else {
            cpu.clock.want(slice_end_ns);
        }
        return;
    }
    let late = !cpu.clock.will_see(slice_end_ns);
    let send = (now || late) && !cpu.resched_sent.load(Ordering::Relaxed);
    if send {
        cpu.resched_sent.store(true, Ordering::Relaxed);
    }
    drop(queue);
    if send {
        machine_cpu::send_reschedule(cpu.id);
    }
}

/// A thread's parameters or affinity were stored: makes them effective where the thread is queued or runs.
pub(crate) fn apply_changes(thread: &Thread) {
    let _irq = irq::disable();
    loop {
        let id = thread.last_cpu();
        let cpu = data(id);
        let (mut queue, now_ns) = cpu.lock_charged();
        // Sequentially consistent with `enqueue_on`.
        if thread.cpu.load(Ordering::SeqCst) as usize != id.index() {
            continue;
        }
        let is_meant = |owner: &Owner| core::ptr::eq(Arc::as_ptr(&owner.thread), thread);
        let parameters = thread.parameters_in_force();
        if queue.current().is_some_and(|entity| is_meant(&entity.payload)) {
            queue.change_current(parameters);
            cpu.publish(&queue, now_ns);
            return notify(cpu, queue, Preemption::Now);
        }
        let Some(node) = queue.remove(thread.key(), is_meant) else { return };
        cpu.publish(&queue, now_ns);
        drop(queue);
        return requeue(id, node);
    }
}

/// Puts a thread whose parameters changed back, where it was if it may.
fn requeue(id: CpuId, node: Schedulable) {
    if node.payload.thread.may_use(id) {
        match enqueue_on(id, node, Arrival::Move) {
            Ok(()) => {}
            Err(node) => activate(node, Arrival::Move, WakeHint::Normal),
        }
    } else {
        activate(node, Arrival::Move, WakeHint::Normal);
    }
}

/// Brings a thread that runs on another CPU into the kernel. Any context.
pub(crate) fn kick_if_running(thread: &Thread) {
    // What the thread shall see was stored before its CPU is read; the thread does it the other way round.
    fence(Ordering::SeqCst);
    let id = thread.last_cpu();
    if id == machine_cpu::current() || thread.slot.is_parked() || CPUS.get().is_none() {
        return;
    }
    let queue = data(id).queue.lock();
    let runs =
        queue.current().is_some_and(|entity| core::ptr::eq(Arc::as_ptr(&entity.payload.thread), thread));
    drop(queue);
    if runs {
        machine_cpu::send_reschedule(id);
    }
}

/// Takes a thread that waits on `from` and may run on `to`.
pub(crate) fn take_queued(from: CpuId, to: CpuId) -> Option<Schedulable> {
    let cpu = data(from);
    let mut queue = cpu.queue.lock();
    if queue.queued() == 0 {
        return None;
    }
    let now_ns = time::now_ns();
    queue.charge(now_ns);
    let node = queue.steal(|owner| owner.thread.may_use(to) && !owner.kernel.is_on_cpu())?;
    cpu.publish(&queue, now_ns);
    Some(node)
}

/// Whether something waits for this CPU.
pub(crate) fn has_queued(cpu: &Cpu) -> bool {
    cpu.queue.lock().queued() > 0
}

/// For [`machine::hooks::Hooks::timer`]: this CPU's timer fired. Interrupt context.
pub fn timer_interrupt(interrupted: Interrupted) {
    let cpu = data(machine_cpu::current());
    cpu.clock.armed_ns.store(NEVER, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let next_timer_ns = crate::timer::run_expired(cpu);
    let now_ns = time::now_ns();
    let tick_ns = cpu.clock.tick_ns.load(Ordering::Relaxed);
    if tick_ns <= now_ns {
        cpu.clock.tick_ns.store(NEVER, Ordering::Relaxed);
        if !cpu.times.is_idle() {
            let thread = current();
            cpu.times.tick(&thread.times, thread.parameters_in_force(), interrupted, now_ns);
            cpu.clock.want_tick(now_ns);
        }
    } else if tick_ns != NEVER {
        cpu.clock.want(tick_ns);
    }
    let slice_end_ns = cpu.clock.slice_end_ns.load(Ordering::Relaxed);
    if slice_end_ns <= now_ns {
        cpu.clock.slice_end_ns.store(NEVER, Ordering::Relaxed);
        preempt::set_need_resched();
    } else if slice_end_ns != NEVER {
        cpu.clock.want(slice_end_ns);
    }
    if let Some(deadline_ns) = next_timer_ns {
        cpu.clock.want(deadline_ns);
    }
    wake_rcu(cpu);
}
