//! A simulated machine with a running scheduler, for host tests of this crate and of those above.
//!
//! [`run`] boots as `image` does, runs a test in a thread of its own and ends with it. Neighbours: `machine::host` (the
//! simulator), [`crate::boot`]. Locks: the list of all threads, a leaf of the test process.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use machine::cpu::{self as machine_cpu, CpuId};
use machine::hooks::Hooks;

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
/// threads need not have ended when it returns. Panics with `test`, and on a deadlock.
pub fn run(seed: u64, cpus: usize, test: impl FnOnce() + Send + 'static) {
    run_with_hooks(&HOOKS, seed, cpus, test);
}

/// [`run`] with hooks of the caller's (for a page-fault handler). The first hooks in a process stay.
pub fn run_with_hooks(hooks: &'static Hooks, seed: u64, cpus: usize, test: impl FnOnce() + Send + 'static) {
    machine::hooks::register(hooks);
    machine::host::set_thread_report(report);
    machine::host::run(seed, cpus, move || boot(Box::new(test)));
}

/// [`run`] with each of the seeds `0..seeds`, or only with `LINNET_SEED` if that is in the environment.
pub fn run_seeds(seeds: u64, cpus: usize, test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    machine::hooks::register(&HOOKS);
    machine::host::set_thread_report(report);
    machine::host::run_seeds(seeds, cpus, || {
        let test = test.clone();
        boot(Box::new(move || test()));
    });
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
        machine_cpu::send_reschedule(CpuId::default());
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
