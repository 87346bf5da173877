//! A simulated machine with a running scheduler, for host tests of this crate and of those above.
//!
//! [`run`] boots as `image` does, runs a test in a thread of its own and ends with it. Neighbours: `machine::host` (the
//! simulator), [`crate::boot`]. Locks: the list of all threads, a leaf of the test process.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;

use machine::cpu::{self as machine_cpu, CpuId};
use machine::hooks::Hooks;
use machine::sync::{WaitKind, WaitQueue};

use crate::boot::{idle_once, init, start_cpu, start_housekeeping};
use crate::thread::{SpawnOptions, Thread, spawn};

static THREADS: Mutex<Vec<Weak<Thread>>> = Mutex::new(Vec::new());

static HOOKS: Hooks = Hooks {
    timer: crate::timer_interrupt,
    preempt: crate::preempt,
    page_fault: |_| Err(machine::user::Fault),
    oops: |message| panic!("oops: {message}"),
    serial_input: |_| {},
};

/// Runs `test` in a kernel thread of a machine of `cpus` CPUs with a scheduler, in the order that `seed` chooses. Other
/// threads need not have ended when it returns. Panics with `test`, and on a deadlock. The caller does not see what `test`
/// changes (see `machine::host::run`).
pub fn run(seed: u64, cpus: usize, test: impl FnOnce() + Send + 'static) {
    run_with_hooks(&HOOKS, seed, cpus, test);
}

/// [`run`] with hooks of the caller's (for a page-fault handler). The first hooks in a process stay.
pub fn run_with_hooks(hooks: &'static Hooks, seed: u64, cpus: usize, test: impl FnOnce() + Send + 'static) {
    prepare(hooks);
    machine::host::run(seed, cpus, move || boot(Box::new(test)));
}

/// [`run`] with each of the seeds `0..default`, or as `LINNET_SEED` and `LINNET_SEEDS` in the environment say.
pub fn run_seeds(default: u64, cpus: usize, test: impl Fn() + Send + Sync + 'static) {
    run_seeds_with_hooks(&HOOKS, default, cpus, test);
}

/// [`run_seeds`] with hooks of the caller's.
pub fn run_seeds_with_hooks(
    hooks: &'static Hooks,
    default: u64,
    cpus: usize,
    test: impl Fn() + Send + Sync + 'static,
) {
    prepare(hooks);
    machine::host::run_seeds(default, cpus, booting(test));
}

/// Checks that `test` repeats by seed: see `machine::host::repeats`.
pub fn repeats(default: u64, cpus: usize, test: impl Fn() + Send + Sync + 'static) {
    prepare(&HOOKS);
    machine::host::repeats(default, cpus, booting(test));
}

fn prepare(hooks: &'static Hooks) {
    machine::hooks::register(hooks);
    machine::host::set_thread_report(report);
}

/// `test` as the main flow of a machine.
fn booting(test: impl Fn() + Send + Sync + 'static) -> impl Fn() + Send + Sync {
    let test = Arc::new(test);
    move || {
        let test = test.clone();
        boot(Box::new(move || test()));
    }
}

/// Threads that a test starts and waits for.
#[derive(Clone, Default)]
pub struct Crew(Arc<CrewState>);

#[derive(Default)]
struct CrewState {
    working: AtomicUsize,
    ended: WaitQueue,
}

impl Crew {
    /// Nobody yet.
    pub fn new() -> Crew {
        Crew::default()
    }
    /// One more thread, which does `work`.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Arc<Thread> {
        let state = self.0.clone();
        state.working.fetch_add(1, Ordering::Relaxed);
        let thread = spawn(name, SpawnOptions::default(), move || {
            work();
            state.working.fetch_sub(1, Ordering::Release);
            state.ended.wake_all();
        });
        let Ok(thread) = thread else { panic!("no memory for a thread of a test") };
        thread
    }
    /// Waits until all have ended.
    pub fn join(&self) {
        let ended = || (self.0.working.load(Ordering::Acquire) == 0).then_some(());
        let result = self.0.ended.wait_until(WaitKind::Uninterruptible, None, ended);
        assert!(result.is_ok(), "nothing ends this wait");
    }
}

/// A place where another CPU may get the turn, also with preemption off.
pub fn point() {
    drop(machine::irq::disable());
}

/// The boot flow of CPU 0.
fn boot(test: Box<dyn FnOnce() + Send>) {
    all_threads().clear();
    init();
    machine_cpu::start_secondary_cpus(|id| {
        start_cpu(id);
        crate::run_idle(id)
    });
    let started = start_housekeeping();
    assert!(started.is_ok(), "no memory for the kernel's threads");
    let done = Arc::new(AtomicBool::new(false));
    let ended = done.clone();
    let main = spawn("main", SpawnOptions::default(), move || {
        test();
        ended.store(true, Ordering::Release);
        loop {
            // The boot flow may have looked just before, and be about to wait: once is not enough.
            machine_cpu::send_reschedule(CpuId::default());
            let _ = crate::sleep_until(machine::time::now_ns() + 1_000_000, WaitKind::Uninterruptible);
        }
    });
    assert!(main.is_ok(), "no memory for the test's thread");
    while !done.load(Ordering::Acquire) {
        idle_once(CpuId::default());
    }
}

fn all_threads() -> std::sync::MutexGuard<'static, Vec<Weak<Thread>>> {
    THREADS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Keeps a thread for [`report`].
pub(crate) fn note_thread(thread: &Arc<Thread>) {
    all_threads().push(Arc::downgrade(thread));
}

/// A line for each thread that has not ended.
fn report() -> String {
    let mut text = String::new();
    for thread in all_threads().iter().filter_map(Weak::upgrade) {
        let name = thread.name();
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..length]);
        let _ = writeln!(text, "  {name}: {:?}, last on CPU {}", thread.state(), thread.last_cpu().index());
    }
    text
}
