//! Threads as the scheduler knows them: identity, parameters, sleep state, times.
//!
//! * [`Thread`]: shared, counted. Everything in it is an atomic, or behind a small lock of its own.
//! * `Owner` in an [`EntityBox`]: the right to be run. It is in exactly one place: in a run queue (runnable or
//!   running), in the thread's `slot` (parked), in `newborn` (not started), or on the dead pile. Whoever takes
//!   it out of the slot is the one waker ([`machine::sync::ParkSlot`]); that is the whole wake-up protocol.
//! * [`Current`]: the running thread, without touching its count.
//!
//! Ownership: `EntityBox → KernelThread → Context → extension` (the task), and `Thread` owns none of them
//! strongly except while it keeps the entity in `slot` or `newborn`. So a dead thread's stack and task go away
//! even while others still hold the `Thread`.
//!
//! Parameters are published in `parameters` and copied into the entity by whoever queues it next. A setter
//! stores them first and then looks at the run queue of `cpu`; a queuer stores `cpu` first and then reads them
//! (both sequentially consistent): one of the two always sees the other.
//!
//! Locks: `attributes` before a run queue's lock. `newborn` and `name` are leaves.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::errno::{Errno, Result};
use machine::cpu::{CpuId, CpuSet};
use machine::memory::PageTable;
use machine::sync::{Once, ParkSlot, SpinLock, WaitKind};
use machine::thread::{CurrentRef, KernelThread, current_local};
use machine::time;

use crate::account::Times;
use crate::cpu;
use crate::errand::Errands;
use crate::fair::Arrival;
use crate::policy::{Attributes, Class, Parameters, Policy, Priority, ROUND_ROBIN_NS, SLICE_DEFAULT_NS};
use crate::runqueue::{Entity, EntityBox, Key, Payload};
use crate::timer::{TimerAction, TimerCore, TimerOwner};
use crate::tree::Node;

/// How many words of affinity a thread has.
const AFFINITY_WORDS: usize = machine::MAX_CPUS / 64;

/// The right to run a thread. See the module's head.
pub(crate) struct Owner {
    pub(crate) thread: Arc<Thread>,
    pub(crate) kernel: Arc<KernelThread>,
}

impl Payload for Owner {
    fn note_key(&self, key: Key) {
        self.thread.key_primary.store(key.primary, Ordering::Relaxed);
        self.thread.key_turn.store(key.turn, Ordering::Relaxed);
    }
}

pub(crate) type Schedulable = EntityBox<Owner>;

/// What the machine's thread carries: the thread, and what the crates above hang on it.
pub(crate) struct Context {
    pub(crate) thread: Arc<Thread>,
    extension: Once<Arc<dyn Any + Send + Sync>>,
}

/// What a new thread starts with.
#[derive(Clone, Default)]
pub struct SpawnOptions {
    /// Policy, nice and so on.
    pub attributes: Attributes,
    /// The CPUs it may use; `None`: all.
    pub affinity: Option<CpuSet>,
}

/// What a thread is doing, as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Runs or could run.
    Running = 0,
    /// Sleeps until woken or signalled.
    Interruptible = 1,
    /// Sleeps until woken or killed.
    Killable = 2,
    /// Sleeps until woken.
    Uninterruptible = 3,
    /// Created, not started.
    New = 4,
    /// Has exited.
    Dead = 5,
}

impl State {
    /// The letter in `/proc/PID/stat`.
    pub fn letter(self) -> char {
        match self {
            Self::Running | Self::New => 'R',
            Self::Interruptible => 'S',
            Self::Killable | Self::Uninterruptible => 'D',
            Self::Dead => 'X',
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Interruptible,
            2 => Self::Killable,
            3 => Self::Uninterruptible,
            4 => Self::New,
            5 => Self::Dead,
            _ => Self::Running,
        }
    }

    fn of_wait(kind: WaitKind) -> Self {
        match kind {
            WaitKind::Interruptible => Self::Interruptible,
            WaitKind::Killable => Self::Killable,
            WaitKind::Uninterruptible => Self::Uninterruptible,
        }
    }
}

/// CPU time a thread has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ThreadTimes {
    /// In user mode, nanoseconds.
    pub user_ns: u64,
    /// In the kernel, nanoseconds.
    pub system_ns: u64,
}

impl ThreadTimes {
    /// Both together.
    pub fn run_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// How close the waker is to sleeping itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WakeHint {
    /// It goes on.
    Normal,
    /// It will sleep soon (it handed over its work): the woken thread may as well run here.
    Sync,
}

/// See the module's head.
pub struct Thread {
    pub(crate) slot: ParkSlot<Node<Entity<Owner>>>,
    newborn: SpinLock<Option<Schedulable>>,
    kernel: Once<Weak<KernelThread>>,
    /// The run queue it is on, or was on last.
    pub(crate) cpu: AtomicU32,
    key_primary: AtomicI64,
    key_turn: AtomicI64,
    pub(crate) parameters: AtomicU64,
    attributes: SpinLock<(Attributes, Priority)>,
    affinity: [AtomicU64; AFFINITY_WORDS],
    state: AtomicU8,
    pub(crate) in_io_wait: AtomicBool,
    pub(crate) in_memory_stall: AtomicBool,
    /// Any signal is pending: interruptible sleeps end. Set through [`Thread::interrupt`].
    pub signal_pending: AtomicBool,
    /// A fatal signal is pending: killable sleeps end too. Set through [`Thread::kill`].
    pub kill_pending: AtomicBool,
    pub(crate) times: Times,
    pub(crate) voluntary_switches: AtomicU64,
    pub(crate) involuntary_switches: AtomicU64,
    start_time_ns: u64,
    name: SpinLock<[u8; 16]>,
    pub(crate) sleep_timer: TimerCore,
    page_table: SpinLock<Option<Arc<PageTable>>>,
    /// See [`crate::sleep::sync_wakes`].
    pub(crate) wakes_sync: AtomicBool,
    pub(crate) sync_woken: AtomicBool,
    pub(crate) sync_score: AtomicU8,
    pub(crate) errands: Errands,
    pub(crate) plug: crate::plug::Slot,
}

impl Thread {
    /// A thread that will run `entry`, not started. `extension` is what [`Current::extension`] gives in it. When
    /// `entry` returns, the thread exits.
    ///
    /// # Errors
    /// `ENOMEM`: no memory for the stack. `EINVAL`: wrong attributes, or an affinity without an online CPU.
    pub fn create(
        name: &str,
        options: SpawnOptions,
        extension: Option<Arc<dyn Any + Send + Sync>>,
        entry: Box<dyn FnOnce() + Send>,
    ) -> Result<Arc<Self>> {
        let attributes = options.attributes.validated()?;
        let affinity = options.affinity.unwrap_or(CpuSet::all());
        check_affinity(&affinity)?;
        let thread = Arc::new(Self::with(name, attributes, &affinity));
        #[cfg(not(target_os = "none"))]
        crate::host::note_thread(&thread);
        let context = Arc::new(Context { thread: thread.clone(), extension: Once::new() });
        if let Some(extension) = extension {
            let _ = context.extension.set(extension);
        }
        let start: Box<dyn FnOnce() + Send> = Box::new(move || {
            cpu::finish_first_switch();
            entry();
            cpu::exit_current()
        });
        let kernel = KernelThread::new(context, start).map_err(|_| Errno::ENOMEM)?;
        let _ = thread.kernel.set(Arc::downgrade(&kernel));
        thread.prefer_cpu(machine::cpu::current());
        let parameters = attributes.parameters(Priority::FAIR);
        let entity = Entity::new(Owner { thread: thread.clone(), kernel }, parameters);
        *thread.newborn.lock() = Some(Box::new(Node::new(entity)));
        Ok(thread)
    }

    fn with(name: &str, attributes: Attributes, affinity: &CpuSet) -> Self {
        let thread = Self {
            slot: ParkSlot::new(),
            newborn: SpinLock::new(None),
            kernel: Once::new(),
            cpu: AtomicU32::new(0),
            key_primary: AtomicI64::new(0),
            key_turn: AtomicI64::new(0),
            parameters: AtomicU64::new(attributes.parameters(Priority::FAIR).pack()),
            attributes: SpinLock::new((attributes, Priority::FAIR)),
            affinity: [const { AtomicU64::new(0) }; AFFINITY_WORDS],
            state: AtomicU8::new(State::New as u8),
            in_io_wait: AtomicBool::new(false),
            in_memory_stall: AtomicBool::new(false),
            signal_pending: AtomicBool::new(false),
            kill_pending: AtomicBool::new(false),
            times: Times::new(),
            voluntary_switches: AtomicU64::new(0),
            involuntary_switches: AtomicU64::new(0),
            start_time_ns: time::now_ns(),
            name: SpinLock::new([0; 16]),
            sleep_timer: TimerCore::new(),
            page_table: SpinLock::new(None),
            wakes_sync: AtomicBool::new(false),
            sync_woken: AtomicBool::new(false),
            sync_score: AtomicU8::new(0),
            errands: Errands::new(),
            plug: crate::plug::Slot::new(),
        };
        thread.store_affinity(affinity);
        thread.set_name(name.as_bytes());
        thread
    }

    /// The idle thread of the CPU that calls this: its boot flow. Never in a run queue.
    pub(crate) fn adopt_idle(cpu: CpuId) -> Arc<KernelThread> {
        let name = alloc::format!("swapper/{}", cpu.index());
        let thread = Arc::new(Self::with(&name, Attributes::default(), &CpuSet::single(cpu)));
        thread.prefer_cpu(cpu);
        thread.set_state(State::Running);
        let kernel =
            KernelThread::adopt_current(Arc::new(Context { thread: thread.clone(), extension: Once::new() }));
        let _ = thread.kernel.set(Arc::downgrade(&kernel));
        kernel
    }

    /// Makes a created thread runnable; only the first call does something.
    pub fn start(&self) {
        let Some(node) = self.newborn.lock().take() else { return };
        self.set_state(State::Running);
        cpu::note_started();
        cpu::activate(node, Arrival::New, WakeHint::Normal);
    }

    /// Frees what a created thread holds if it is not to be started after all.
    pub fn abandon(&self) {
        let node = self.newborn.lock().take();
        if node.is_some() {
            self.set_state(State::Dead);
        }
    }

    /// Hangs something on a thread that was not started yet; the first one stays. See [`Current::extension`].
    pub fn set_extension(&self, extension: Arc<dyn Any + Send + Sync>) {
        let newborn = self.newborn.lock();
        let context = newborn.as_ref().and_then(|node| node.payload.kernel.local::<Context>());
        if let Some(context) = context {
            let _ = context.extension.set(extension);
        }
    }

    /// What was hung on the thread, if it is a `T` and the thread still exists.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let kernel = self.kernel()?;
        let extension = kernel.local::<Context>()?.extension.get()?.clone();
        extension.downcast().ok()
    }

    /// Sets the page table that user addresses of this thread go through; `None`: it uses none (a kernel thread).
    /// For the current thread, where it is in force at once, or one that was not started.
    pub fn set_page_table(&self, table: Option<Arc<PageTable>>) {
        let is_current = try_current().is_some_and(|current| core::ptr::eq(&*current, self));
        let mut slot = self.page_table.lock();
        if is_current {
            match &table {
                Some(table) => table.activate(),
                None => PageTable::activate_kernel(),
            }
        }
        let old = core::mem::replace(&mut *slot, table);
        drop(slot);
        drop(old);
    }

    /// Makes this CPU use the thread's page table, if it has one: a kernel thread keeps what is there, so that going
    /// back to the same process costs nothing. Interrupts off.
    pub(crate) fn activate_page_table(&self) {
        if let Some(table) = &*self.page_table.lock() {
            table.activate();
        }
    }

    /// Makes the thread runnable if it is parked, else lets its next park return at once. Any context.
    #[inline]
    pub fn wake(&self) {
        self.wake_with(WakeHint::Normal);
    }

    /// [`Self::wake`] by somebody who will sleep soon.
    #[inline]
    pub fn wake_sync(&self) {
        self.wake_with(WakeHint::Sync);
    }

    /// [`Self::wake`] with a hint for where the thread should run.
    #[inline]
    pub fn wake_with(&self, hint: WakeHint) {
        if let Some(node) = self.slot.wake() {
            cpu::activate(node, Arrival::Wakeup, hint);
        }
    }

    /// A signal is pending: ends an interruptible sleep.
    pub fn interrupt(&self) {
        self.signal_pending.store(true, Ordering::Release);
        self.kick();
    }

    /// A fatal signal is pending: ends an interruptible or killable sleep.
    pub fn kill(&self) {
        self.kill_pending.store(true, Ordering::Release);
        self.interrupt();
    }

    /// Wakes it, and brings it into the kernel if it runs in user mode on another CPU.
    fn kick(&self) {
        self.wake();
        cpu::kick_if_running(self);
    }

    /// No signal is pending any more. For the thread itself.
    pub fn clear_signal_pending(&self) {
        self.signal_pending.store(false, Ordering::Release);
    }

    /// Whether a sleep of this kind should end.
    #[inline]
    pub fn is_interrupted(&self, kind: WaitKind) -> bool {
        match kind {
            WaitKind::Interruptible => {
                self.signal_pending.load(Ordering::Acquire) || self.kill_pending.load(Ordering::Acquire)
            }
            WaitKind::Killable => self.kill_pending.load(Ordering::Acquire),
            WaitKind::Uninterruptible => false,
        }
    }

    /// The name (`comm`), zero-terminated.
    pub fn name(&self) -> [u8; 16] {
        *self.name.lock()
    }

    /// Sets the name; bytes past the fifteenth are dropped, as prctl(2) does.
    pub fn set_name(&self, name: &[u8]) {
        let mut stored = [0; 16];
        for (to, from) in stored.iter_mut().zip(name.iter().take(15).take_while(|byte| **byte != 0)) {
            *to = *from;
        }
        *self.name.lock() = stored;
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        let state = State::from_number(self.state.load(Ordering::Relaxed));
        match state {
            State::New | State::Dead => state,
            _ if self.slot.is_parked() => state,
            _ => State::Running,
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn note_wait(&self, kind: WaitKind) {
        self.set_state(State::of_wait(kind));
    }

    /// The machine's side of it (for its FPU state); `None` once it is dead.
    pub fn kernel(&self) -> Option<Arc<KernelThread>> {
        self.kernel.get()?.upgrade()
    }

    /// When it was created, on the clock of [`machine::time::now_ns`].
    pub fn start_time_ns(&self) -> u64 {
        self.start_time_ns
    }

    /// The CPU it runs on, or ran on last.
    pub fn last_cpu(&self) -> CpuId {
        CpuId::new(self.cpu.load(Ordering::Relaxed) as usize).unwrap_or_default()
    }

    pub(crate) fn prefer_cpu(&self, cpu: CpuId) {
        self.cpu.store(cpu.index() as u32, Ordering::Relaxed);
    }

    pub(crate) fn key(&self) -> Key {
        Key { primary: self.key_primary.load(Ordering::Relaxed), turn: self.key_turn.load(Ordering::Relaxed) }
    }

    /// CPU time used so far, to the moment for a running thread.
    pub fn times(&self) -> ThreadTimes {
        self.times.read(time::now_ns())
    }

    /// Voluntary and involuntary context switches.
    pub fn context_switches(&self) -> (u64, u64) {
        (self.voluntary_switches.load(Ordering::Relaxed), self.involuntary_switches.load(Ordering::Relaxed))
    }
}

/// Policy, priority, affinity.
impl Thread {
    /// What was asked for it.
    pub fn attributes(&self) -> Attributes {
        self.attributes.lock().0
    }

    /// Changes policy, nice and so on; in force when this returns.
    ///
    /// # Errors
    /// `EINVAL`: the priority does not fit the policy.
    pub fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let attributes = attributes.validated()?;
        self.change(|own, _| *own = attributes);
        Ok(())
    }

    /// -20..=19.
    pub fn nice(&self) -> i32 {
        i32::from(self.attributes().nice)
    }

    /// Sets nice, clamped to -20..=19.
    pub fn set_nice(&self, nice: i32) {
        let nice = nice.clamp(-20, 19) as i8;
        self.change(|own, _| own.nice = nice);
    }

    /// Priority inheritance: lets it run with at least this priority, until called with `None`.
    pub fn boost(&self, priority: Option<Priority>) {
        self.change(|_, boost| *boost = priority.unwrap_or(Priority::FAIR));
    }

    fn change(&self, change: impl FnOnce(&mut Attributes, &mut Priority)) {
        let mut attributes = self.attributes.lock();
        let (own, boost) = &mut *attributes;
        change(own, boost);
        let packed = own.parameters(*boost).pack();
        if self.parameters.swap(packed, Ordering::SeqCst) != packed {
            cpu::apply_changes(self);
        }
    }

    /// The priority in force, what is inherited included.
    pub fn effective_priority(&self) -> Priority {
        Priority::realtime(self.parameters_in_force().priority)
    }

    pub(crate) fn parameters_in_force(&self) -> Parameters {
        Parameters::unpack(self.parameters.load(Ordering::SeqCst))
    }

    /// What a child starts with.
    pub fn child_options(&self) -> SpawnOptions {
        SpawnOptions { attributes: self.attributes().inherited(), affinity: Some(self.affinity()) }
    }

    /// `sched_rr_get_interval(2)`.
    pub fn round_robin_interval_ns(&self) -> u64 {
        let attributes = self.attributes();
        match attributes.policy {
            Policy::RoundRobin => ROUND_ROBIN_NS,
            Policy::Fifo => 0,
            _ if attributes.slice_ns == 0 => SLICE_DEFAULT_NS,
            _ => attributes.slice_ns,
        }
    }

    /// Field 18 of `/proc/PID/stat`: 20 + nice, or -1 - real-time priority.
    pub fn proc_priority(&self) -> i32 {
        let parameters = self.parameters_in_force();
        match parameters.class {
            Class::Fifo | Class::RoundRobin => -1 - i32::from(parameters.priority),
            _ => 20 + i32::from(parameters.nice),
        }
    }

    /// The CPUs it may use.
    pub fn affinity(&self) -> CpuSet {
        let mut bytes = [0; AFFINITY_WORDS * 8];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.affinity) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        CpuSet::from_bytes(&bytes)
    }

    /// Restricts it to these CPUs. If it runs or waits elsewhere it is moved; the calling thread is on an allowed
    /// CPU when this returns.
    ///
    /// # Errors
    /// `EINVAL`: no online CPU among them.
    pub fn set_affinity(&self, cpus: &CpuSet) -> Result<()> {
        check_affinity(cpus)?;
        self.store_affinity(cpus);
        cpu::apply_changes(self);
        Ok(())
    }

    fn store_affinity(&self, cpus: &CpuSet) {
        let bytes = cpus.to_bytes();
        for (word, chunk) in self.affinity.iter().zip(bytes.chunks_exact(8)) {
            let value = chunk.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            word.store(value, Ordering::SeqCst);
        }
    }

    /// Whether it may use this CPU.
    #[inline]
    pub fn may_use(&self, cpu: CpuId) -> bool {
        let word = self.affinity.get(cpu.index() / 64).map_or(0, |word| word.load(Ordering::SeqCst));
        word >> (cpu.index() % 64) & 1 != 0
    }

    pub(crate) fn affinity_word(&self, index: usize) -> u64 {
        self.affinity.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

fn check_affinity(cpus: &CpuSet) -> Result<()> {
    if machine::cpu::online().any(|cpu| cpus.contains(cpu)) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The sleep timer: its expiry is a wake-up.
impl TimerOwner for Thread {
    fn core(&self) -> &TimerCore {
        &self.sleep_timer
    }

    fn expire(&self, _now_ns: u64) -> TimerAction {
        self.wake();
        TimerAction::Done
    }
}

/// The running thread. Copied freely, cannot leave the thread.
#[derive(Clone, Copy)]
pub struct Current(CurrentRef<Context>);

impl Current {
    /// A counted reference.
    pub fn arc(&self) -> Arc<Thread> {
        self.0.thread.clone()
    }

    /// What the crates above hung on the thread, if it is a `T`.
    #[inline]
    pub fn extension<T: Any>(&self) -> Option<&T> {
        self.0.extension.get()?.downcast_ref()
    }

    /// Its counted reference.
    pub fn extension_arc<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.extension.get()?.clone().downcast().ok()
    }
}

impl Deref for Current {
    type Target = Thread;
    #[inline]
    fn deref(&self) -> &Thread {
        &self.0.thread
    }
}

/// The running thread, or `None` before its CPU has an idle thread.
#[inline]
pub fn try_current() -> Option<Current> {
    current_local::<Context>().map(Current)
}

/// The running thread. Panics before the scheduler was initialised on this CPU: a bug in the boot order.
#[inline]
pub fn current() -> Current {
    match try_current() {
        Some(current) => current,
        None => panic!("no current thread: sched::init has not run on this CPU"),
    }
}

/// Whether a signal waits for the running thread: loops whose length a program chooses end early then, with what they have done.
pub fn signal_pending() -> bool {
    try_current().is_some_and(|thread| thread.is_interrupted(WaitKind::Interruptible))
}

/// [`current`] as a counted reference.
pub fn current_arc() -> Arc<Thread> {
    current().arc()
}

/// Creates and starts a kernel thread.
///
/// # Errors
/// As [`Thread::create`].
pub fn spawn(
    name: &str,
    options: SpawnOptions,
    entry: impl FnOnce() + Send + 'static,
) -> Result<Arc<Thread>> {
    let thread = Thread::create(name, options, None, Box::new(entry))?;
    thread.start();
    Ok(thread)
}
