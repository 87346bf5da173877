//! Read-copy-update: readers hold nothing but preemption; what they may still see is freed after a grace period.
//!
//! Key types: [`RcuGuard`] (a read-side section), [`RcuArc`] (an `Arc` cell read without a lock). Callbacks are queued per
//! CPU: `next` gathers new ones, `wait` waits for its grace period, `done` may run. Grace periods are in `grace`. A CPU
//! is quiescent when it switches threads, goes idle, enters user mode, or takes a preemption with nothing held.
//!
//! # Invariants
//! A callback runs only after every section that was open when it was queued has ended.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

use super::grace::{Grace, World};
use super::raw::RawSpinLock;
use crate::memory::try_box;
use crate::preempt::{self, IRQ_GUARD_MASK, PreemptGuard};
use crate::{MAX_CPUS, arch, irq, local};

/// A CPU with more callbacks than this hurries the others.
const MANY: usize = 2000;
/// A grace period that is older than this (nanoseconds) asks the CPUs it waits for.
const LATE_NS: u64 = 5_000_000;

type AllCpus = Grace<{ MAX_CPUS / 64 }>;

/// The grace periods that concern the caller.
#[cfg(target_os = "none")]
#[inline(always)]
fn grace() -> &'static AllCpus {
    static GRACE: AllCpus = Grace::new();
    &GRACE
}

/// On a host a simulation and the process around it have each their own.
#[cfg(not(target_os = "none"))]
fn grace() -> &'static AllCpus {
    static GRACE: AllCpus = Grace::new();
    static SIMULATED: AllCpus = Grace::new();
    if arch::is_simulated() { &SIMULATED } else { &GRACE }
}

/// When somebody last asked the late CPUs.
static ASKED_NS: AtomicU64 = AtomicU64::new(0);

struct Machine;

impl World for Machine {
    fn cpus(&self) -> usize {
        arch::possible_cpus()
    }
    fn is_busy(&self, cpu: usize) -> bool {
        let rcu = &local::of(cpu as u32).rcu;
        #[cfg(not(target_os = "none"))]
        if !arch::shares_grace_periods(cpu) {
            return false;
        }
        rcu.online.load(Ordering::SeqCst) && !rcu.idle.load(Ordering::SeqCst)
    }
    fn lock(&self, lock: &RawSpinLock) {
        lock.lock();
    }
}

/// A queued callback: lives in whatever is to be freed.
#[repr(C)]
pub(crate) struct Head {
    next: *mut Head,
    run: unsafe fn(*mut Head),
}

struct List {
    first: *mut Head,
    last: *mut Head,
    count: usize,
}

impl List {
    const fn new() -> List {
        List { first: null_mut(), last: null_mut(), count: 0 }
    }

    fn take(&mut self) -> List {
        core::mem::replace(self, List::new())
    }

    /// Puts a list at the end.
    fn append(&mut self, other: List) {
        if other.first.is_null() {
            return;
        }
        if self.first.is_null() {
            *self = other;
        } else {
            // SAFETY: queued heads are valid until they run, and the lists belong to this CPU (or the caller).
            unsafe { (*self.last).next = other.first };
            self.last = other.last;
            self.count += other.count;
        }
    }
}

struct Lists {
    next: List,
    wait: List,
    /// The grace period that `wait` waits for.
    target: u64,
    done: List,
}

/// What RCU keeps per CPU.
pub(crate) struct CpuRcu {
    online: AtomicBool,
    idle: AtomicBool,
    /// The grace period that this CPU last answered. Own CPU.
    seen: AtomicU64,
    pending: AtomicUsize,
    /// Callbacks ever queued here. Written by its own CPU.
    queued: AtomicU64,
    /// Callbacks queued here that have run.
    finished: AtomicU64,
    lists: UnsafeCell<Lists>,
}

// SAFETY: `lists` is only touched through `with_lists`, by its own CPU with interrupts off.
unsafe impl Sync for CpuRcu {}

impl CpuRcu {
    pub(crate) const fn new() -> CpuRcu {
        CpuRcu {
            online: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            queued: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            lists: UnsafeCell::new(Lists {
                next: List::new(),
                wait: List::new(),
                target: 0,
                done: List::new(),
            }),
        }
    }
}

fn with_lists<R>(f: impl FnOnce(&mut Lists) -> R) -> R {
    irq::raw_disable();
    let rcu = &local::local().rcu;
    // SAFETY: this CPU's, with interrupts off; `f` does not come back here.
    let result = f(unsafe { &mut *rcu.lists.get() });
    irq::raw_enable();
    result
}

impl Lists {
    /// Moves callbacks on as far as grace periods allow.
    fn advance(&mut self) {
        if !self.wait.first.is_null() && grace().is_over(self.target) {
            let ready = self.wait.take();
            self.done.append(ready);
        }
        if self.wait.first.is_null() && !self.next.first.is_null() {
            self.target = grace().request(&Machine);
            self.wait = self.next.take();
        }
    }
}

/// A CPU comes up: grace periods wait for it from now on.
pub(crate) fn cpu_online(cpu: u32) {
    local::of(cpu).rcu.online.store(true, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// A simulated CPU, or a thread of the process, goes away. It reads nothing. Runs as that CPU.
#[cfg(not(target_os = "none"))]
pub(crate) fn cpu_offline(cpu: u32) {
    local::of(cpu).rcu.online.store(false, Ordering::SeqCst);
    irq::raw_disable();
    grace().quiescent(&Machine, cpu as usize);
    irq::raw_enable();
}

/// A read-side section: what is loaded through it lives until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct RcuGuard {
    preempt: PreemptGuard,
}

impl RcuGuard {
    /// The preemption guard in it (for [`crate::cpu::PerCpu::get`]).
    pub fn preempt(&self) -> &PreemptGuard {
        &self.preempt
    }
}

/// Begins a read-side section (preemption off: do not sleep).
#[inline(always)]
pub fn read_lock() -> RcuGuard {
    RcuGuard { preempt: preempt::disable() }
}

/// An `Option<Arc<T>>` that is read without a lock and replaced atomically.
pub struct RcuArc<T: Send + Sync + 'static> {
    pointer: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> RcuArc<T> {
    /// A cell with this value.
    pub fn new(value: Option<Arc<T>>) -> RcuArc<T> {
        RcuArc { pointer: AtomicPtr::new(into_raw(value)) }
    }
    /// An empty cell, for statics.
    pub const fn empty() -> RcuArc<T> {
        RcuArc { pointer: AtomicPtr::new(null_mut()) }
    }
    /// The value now; lives as long as the section.
    #[inline(always)]
    pub fn load<'g>(&self, guard: &'g RcuGuard) -> Option<&'g T> {
        let _ = guard;
        // SAFETY: the cell held a counted reference when it was read, within a section; it is dropped only after the
        // section has ended (see `replace`), even if the cell itself goes.
        unsafe { self.pointer.load(Ordering::Acquire).as_ref() }
    }
    /// The value now, counted.
    #[inline]
    pub fn load_arc(&self) -> Option<Arc<T>> {
        let guard = read_lock();
        let value = core::ptr::from_ref(self.load(&guard)?);
        // SAFETY: the pointer came from `Arc::into_raw`, and the section keeps the cell's reference for now.
        Some(unsafe {
            Arc::increment_strong_count(value);
            Arc::from_raw(value)
        })
    }
    /// Whether the cell is empty.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.pointer.load(Ordering::Acquire).is_null()
    }
    /// Puts another value; the old one is dropped after a grace period.
    pub fn replace(&self, value: Option<Arc<T>>) {
        // SAFETY: the swap made the old reference ours.
        if let Some(old) = unsafe { from_raw(self.pointer.swap(into_raw(value), Ordering::AcqRel)) } {
            defer_drop(old);
        }
    }
    /// Puts another value and gives the old one; the cell's own count of it is dropped after a grace period.
    pub fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        // SAFETY: as in `replace`.
        let old = unsafe { from_raw(self.pointer.swap(into_raw(value), Ordering::AcqRel)) }?;
        defer_drop(old.clone());
        Some(old)
    }
}

impl<T: Send + Sync + 'static> Drop for RcuArc<T> {
    fn drop(&mut self) {
        // Readers may have got here through something that is itself RCU-protected.
        self.replace(None);
    }
}

impl<T: Send + Sync + 'static> Default for RcuArc<T> {
    fn default() -> Self {
        RcuArc::empty()
    }
}

impl<T: Send + Sync + core::fmt::Debug + 'static> core::fmt::Debug for RcuArc<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("RcuArc").field(&self.load_arc()).finish()
    }
}

fn into_raw<T>(value: Option<Arc<T>>) -> *mut T {
    value.map_or(null_mut(), |arc| Arc::into_raw(arc).cast_mut())
}

/// # Safety
/// The pointer came from [`into_raw`] and the reference in it is the caller's.
unsafe fn from_raw<T>(pointer: *mut T) -> Option<Arc<T>> {
    // SAFETY: the caller's contract.
    (!pointer.is_null()).then(|| unsafe { Arc::from_raw(pointer) })
}

/// Queues a callback.
///
/// # Safety
/// `head` is valid and nobody else's until `run(head)` is called, once, on some thread; `run` may be called then.
pub(crate) unsafe fn defer_raw(head: *mut Head, run: unsafe fn(*mut Head)) {
    // SAFETY: the caller's contract.
    unsafe { head.write(Head { next: null_mut(), run }) };
    let count = with_lists(|lists| {
        lists.next.append(List { first: head, last: head, count: 1 });
        if lists.wait.first.is_null() {
            lists.advance();
        }
        let rcu = &local::local().rcu;
        rcu.pending.store(rcu.pending.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        rcu.queued.store(rcu.queued.load(Ordering::Relaxed) + 1, Ordering::Release);
        lists.next.count
    });
    if count % MANY == MANY - 1 {
        ask_late_cpus(0);
    }
}

#[repr(C)]
struct Deferred<T> {
    head: Head,
    value: T,
}

unsafe fn run_deferred<T: FnOnce()>(head: *mut Head) {
    // SAFETY: `head` is the first field of a box that `defer_call` leaked.
    let deferred = unsafe { Box::from_raw(head.cast::<Deferred<T>>()) };
    (deferred.value)();
}

fn defer_call<F: FnOnce() + Send + 'static>(call: F) {
    match try_box(Deferred { head: Head { next: null_mut(), run: run_deferred::<F> }, value: call }) {
        // SAFETY: the box is the queue's until it runs; `F: Send` may run on another thread.
        Ok(deferred) => unsafe { defer_raw(Box::into_raw(deferred).cast(), run_deferred::<F>) },
        Err(deferred) => call_without_memory(deferred.value),
    }
}

/// There is no memory to queue `call`. What may sleep waits for the grace period itself; elsewhere the call is forgotten:
/// what it would free leaks, which is safe. (What is freed where nothing may sleep and there is much of it, page tables
/// and threads, has its [`Head`] in itself.)
#[cold]
fn call_without_memory<F: FnOnce()>(call: F) {
    if preempt::may_sleep() {
        synchronize();
        call();
        return;
    }
    core::mem::forget(call);
    if FORGOTTEN.fetch_add(1, Ordering::Relaxed) == 0 {
        log::warn!("rcu: no memory for a callback: something is not freed");
    }
}

/// Callbacks that were forgotten for want of memory.
static FORGOTTEN: AtomicUsize = AtomicUsize::new(0);

/// Room for a [`Head`] in something that is freed through [`defer_raw`].
#[repr(transparent)]
pub(crate) struct Room(UnsafeCell<MaybeUninit<Head>>);

// SAFETY: only `defer_raw` and the queues write to it, and its contract is that the room is theirs then.
unsafe impl Send for Room {}
// SAFETY: as above.
unsafe impl Sync for Room {}

impl Room {
    pub(crate) const fn new() -> Room {
        Room(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// The head in it. Takes a pointer, so that the callback can get from the head to what the room is in.
    pub(crate) fn head(room: *const Room) -> *mut Head {
        room.cast_mut().cast()
    }
}

/// Runs `callback` after a grace period, on some CPU, in thread context (it may take sleeping locks but should be short).
/// Without memory see [`defer_drop`].
pub fn defer(callback: Box<dyn FnOnce() + Send>) {
    defer_call(callback);
}

/// Drops a value after a grace period. Without memory to remember it the caller waits for the grace period, or, where it may
/// not sleep, the value leaks.
pub fn defer_drop<T: Send + 'static>(value: T) {
    defer_call(move || drop(value));
}

/// Waits for a grace period: everything that readers could see before is no longer seen. Sleeps.
pub fn synchronize() {
    super::class::check_may_sleep();
    assert!(preempt::may_sleep(), "synchronize() where sleeping is not allowed");
    irq::raw_disable();
    let number = grace().request(&Machine);
    irq::raw_enable();
    let mut asked = false;
    loop {
        preempt::raw_disable();
        answer();
        preempt::raw_enable();
        if grace().is_over(number) {
            return;
        }
        ask_late_cpus(if asked { LATE_NS } else { 0 });
        asked = true;
        super::wait::nap(100_000);
    }
}

/// Answers the current grace period for this CPU, which reads nothing but what the caller's own raw section covers.
#[inline(always)]
fn answer() {
    let rcu = &local::local().rcu;
    let current = grace().current();
    if rcu.seen.load(Ordering::Relaxed) != current {
        answer_slow(current);
    }
}

#[cold]
#[inline(never)]
fn answer_slow(current: u64) {
    irq::raw_disable();
    local::local().rcu.seen.store(current, Ordering::Relaxed);
    grace().quiescent(&Machine, arch::cpu_id() as usize);
    irq::raw_enable();
}

/// Asks the CPUs that hold the current grace period up to reschedule, unless that was done less than `after_ns` ago.
fn ask_late_cpus(after_ns: u64) {
    if !grace().is_running() {
        return;
    }
    let now = crate::time::now_ns();
    let last = ASKED_NS.load(Ordering::Relaxed);
    if now.saturating_sub(last) < after_ns {
        return;
    }
    ASKED_NS.store(now, Ordering::Relaxed);
    let me = crate::cpu::current();
    for cpu in crate::cpu::online().filter(|&cpu| cpu != me && grace().waits_for(cpu.index())) {
        if local::of(cpu.index() as u32).rcu.idle.load(Ordering::SeqCst) {
            // It went idle just as the grace period began, without seeing it: idle now is quiescent since.
            irq::raw_disable();
            grace().quiescent(&Machine, cpu.index());
            irq::raw_enable();
        } else {
            crate::cpu::send_reschedule(cpu);
        }
    }
    #[cfg(not(target_os = "none"))]
    for cpu in 0..arch::possible_cpus() {
        if grace().waits_for(cpu) && arch::is_quiescent_remotely(cpu as u32) {
            irq::raw_disable();
            grace().quiescent(&Machine, cpu);
            irq::raw_enable();
        }
    }
}

/// Runs callbacks of this CPU whose grace period has ended. Thread context, nothing held (does nothing otherwise).
///
/// Says whether callbacks are still waiting: then call again within 10 ms (do not stop the tick), also when going idle.
pub fn run_callbacks() -> bool {
    if !preempt::may_sleep() {
        return has_callbacks();
    }
    preempt::raw_disable();
    answer();
    preempt::raw_enable();
    let (ready, more, rcu) = with_lists(|lists| {
        lists.advance();
        let ready = lists.done.take();
        let rcu = &local::local().rcu;
        rcu.pending.store(rcu.pending.load(Ordering::Relaxed) - ready.count, Ordering::Relaxed);
        (ready, !lists.wait.first.is_null() || !lists.next.first.is_null(), rcu)
    });
    if more {
        ask_late_cpus(LATE_NS);
    }
    let mut head = ready.first;
    while !head.is_null() {
        // SAFETY: queued heads are valid until they run; this list is ours, and each runs once.
        unsafe {
            let Head { next, run } = head.read();
            run(head);
            head = next;
        }
    }
    rcu.finished.fetch_add(ready.count as u64, Ordering::Release);
    more
}

/// Waits until every callback that was queued before, on any CPU, has run. Sleeps, for some milliseconds at most
/// unless a callback takes longer; the caller must hold nothing that a callback could want.
///
/// Where the housekeeping threads run ([`run_callbacks`] is called by one thread per CPU, so that callbacks of a CPU
/// finish in order), this only waits for them.
pub fn barrier() {
    synchronize();
    for cpu in 0..arch::possible_cpus() {
        let rcu = &local::of(cpu as u32).rcu;
        let queued = rcu.queued.load(Ordering::Acquire);
        while rcu.finished.load(Ordering::Acquire) < queued {
            #[cfg(not(target_os = "none"))]
            if cpu == arch::cpu_id() as usize {
                // A test without a scheduler has no housekeeping threads.
                run_callbacks();
                continue;
            } else if !(arch::is_simulated() && arch::shares_grace_periods(cpu)) {
                // The callbacks of another thread of the process are its own business.
                break;
            }
            ask_late_cpus(LATE_NS);
            super::wait::nap(100_000);
        }
    }
}

/// Whether this CPU has callbacks waiting (for a grace period or to be run).
#[inline]
pub fn has_callbacks() -> bool {
    local::local().rcu.pending.load(Ordering::Relaxed) != 0
}

/// Whether [`run_callbacks`] would run something now. Cheap; for the timer tick.
pub fn is_ready() -> bool {
    has_callbacks()
        && with_lists(|lists| {
            lists.advance();
            !lists.done.first.is_null()
        })
}

/// The scheduler switches threads on this CPU. ([`crate::thread::switch_to`] does this by itself.)
#[inline]
pub fn note_context_switch() {
    // In a read-side section or an interrupt this would be a lie: then nothing happens.
    if arch::preempt_count() & !IRQ_GUARD_MASK == 0 {
        note_quiescent();
    }
}

/// This CPU reads nothing right now: no section is open, and it is not in an interrupt.
#[inline(always)]
pub(crate) fn note_quiescent() {
    // Without the raw section the thread could move to another CPU in the middle and answer for the wrong one.
    preempt::raw_disable();
    answer();
    arch::preempt_sub(preempt::PREEMPT);
}

/// This CPU goes idle: grace periods do not wait for it until [`idle_exit`] or its next interrupt. Only for
/// [`crate::cpu::idle_wait`], which calls it.
pub(crate) fn idle_enter() {
    note_quiescent();
    local::local().rcu.idle.store(true, Ordering::SeqCst);
    // A grace period that began in between waits for this CPU.
    note_quiescent();
}

/// This CPU is no longer idle.
pub(crate) fn idle_exit() {
    local::local().rcu.idle.store(false, Ordering::SeqCst);
    // Reads that follow come after this: see `Grace::begin`.
    fence(Ordering::SeqCst);
}

/// Interrupt handlers may read: an idle CPU stops being idle for as long as this lives.
pub(crate) struct InterruptGuard {
    was_idle: bool,
}

/// An interrupt handler of the generic code begins.
#[inline]
pub(crate) fn enter_interrupt() -> InterruptGuard {
    let was_idle = local::local().rcu.idle.load(Ordering::Relaxed);
    if was_idle {
        idle_exit();
    }
    InterruptGuard { was_idle }
}

impl Drop for InterruptGuard {
    #[inline]
    fn drop(&mut self) {
        if self.was_idle {
            local::local().rcu.idle.store(true, Ordering::SeqCst);
            irq::raw_disable();
            grace().quiescent(&Machine, arch::cpu_id() as usize);
            irq::raw_enable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_barrier_waits_for_callbacks() {
        let drops = Arc::new(AtomicUsize::new(0));
        for round in 1..=3 {
            defer_drop(Counted(drops.clone()));
            barrier();
            assert_eq!(drops.load(Ordering::SeqCst), round);
        }
    }

    #[test]
    fn a_section_keeps_what_it_loaded() {
        let drops = Arc::new(AtomicUsize::new(0));
        let cell = RcuArc::new(Some(Arc::new(Counted(drops.clone()))));
        let guard = read_lock();
        assert!(cell.load(&guard).is_some());
        cell.replace(None);
        assert!(run_callbacks());
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(guard);
        synchronize();
        while run_callbacks() {
            std::thread::yield_now();
        }
        run_callbacks();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}
