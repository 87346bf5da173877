//! The simulator's front door, on hosted targets only: runs a test kernel whose interleavings a seed chooses.
//!
//! The same seed gives the same order: every run begins from a clean state, in a process of its own (see `isolation`), and
//! nothing in the kernel may depend on where things lie in memory ([`repeats`] checks both).
//!
//! A failed test names its seed; `LINNET_SEED=n cargo test NAME` runs that seed alone, `LINNET_SEEDS=n` that many seeds
//! instead of the few that are tried by default.

pub mod dma;
mod isolation;

use crate::arch;
use isolation::{Place, place};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

/// One run at a time: the kernel's statics are one kernel's.
static TURN: Mutex<()> = Mutex::new(());

/// What a run did, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// How many points it had at which another CPU could have gone on.
    pub points: u64,
    /// A hash over all of them: which CPU was there, when, with what held.
    pub hash: u64,
}

/// Runs `main` as the boot flow of CPU 0 of a machine with `cpus` CPUs, all interleavings chosen by `seed` (by `LINNET_SEED`
/// if that is in the environment); returns when `main` does. The other CPUs start with
/// [`crate::cpu::start_secondary_cpus`]. Panics with any simulated thread, and on a deadlock. Threads that have not ended
/// then never go on, and what is on their stacks is not dropped.
///
/// `main` runs in another process: what it changes is not seen by the caller. (The first call in a test runs the whole test in a program of
/// its own, and if that went well the calls in this process return at once.)
pub fn run(seed: u64, cpus: usize, main: impl FnOnce() + Send) {
    traced(seed, cpus, main);
}

/// [`run`] that gives the run's trace, except where the test has been done elsewhere.
fn traced(seed: u64, cpus: usize, main: impl FnOnce() + Send) -> Option<Trace> {
    match place() {
        Place::Shared(test) => {
            isolation::delegate(&test, false);
            None
        }
        Place::Done => None,
        Place::Alone => Some(run_in_a_fork(seed, cpus, main)),
        Place::Unknown => Some(run_here(seed, cpus, main)),
    }
}

fn run_in_a_fork(seed: u64, cpus: usize, main: impl FnOnce() + Send) -> Trace {
    arch::ensure_memory();
    let result = isolation::in_a_fork(|| {
        let trace = run_here(seed, cpus, main);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&trace.points.to_le_bytes());
        bytes[8..].copy_from_slice(&trace.hash.to_le_bytes());
        bytes
    });
    let Some(bytes) = result else { panic!("a simulated run failed, see above") };
    let number =
        |from: usize| bytes[from..from + 8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    Trace { points: number(0), hash: number(8) }
}

/// [`run`] in the calling process, where `main` can leave results for its caller. What earlier runs left in the kernel's
/// statics is found there; only the first run of a process gets more than one CPU.
pub fn run_here(seed: u64, cpus: usize, main: impl FnOnce() + Send) -> Trace {
    let seed = chosen_seed().unwrap_or(seed);
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let result = catch_unwind(AssertUnwindSafe(|| arch::run(seed, cpus, main)));
    drop(turn);
    match result {
        Ok((points, hash)) => Trace { points, hash },
        Err(payload) => {
            std::eprintln!("failed with seed {seed}: LINNET_SEED={seed} tries it again");
            resume_unwind(payload);
        }
    }
}

/// The seeds to try: `0..default`, or as the environment says.
fn seeds(default: u64) -> core::ops::Range<u64> {
    match chosen_seed() {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("LINNET_SEEDS").unwrap_or(default),
    }
}

/// [`run`] with each of the seeds `0..default`, or as `LINNET_SEED` and `LINNET_SEEDS` say.
pub fn run_seeds(default: u64, cpus: usize, main: impl Fn() + Send + Sync) {
    for seed in seeds(default) {
        run(seed, cpus, &main);
    }
}

/// Checks that a seed repeats: with each of the seeds `0..default`, two runs in one process and two in processes with other
/// addresses have the same trace; and that not all seeds do the same.
pub fn repeats(default: u64, cpus: usize, main: impl Fn() + Send + Sync) {
    match place() {
        Place::Shared(test) => {
            let first = isolation::delegate(&test, true);
            let second = isolation::delegate(&test, true);
            assert!(!first.is_empty(), "the test made no runs");
            for (first, second) in first.iter().zip(&second) {
                assert_eq!(first, second, "two processes, the same seed, and another order");
            }
            assert_eq!(first.len(), second.len());
        }
        Place::Done => {}
        Place::Alone | Place::Unknown => {
            let mut traces = alloc::vec::Vec::new();
            for seed in seeds(default) {
                let trace = traced(seed, cpus, &main);
                assert_eq!(
                    trace,
                    traced(seed, cpus, &main),
                    "seed {seed} gave another order the second time"
                );
                if isolation::prints_traces() {
                    std::println!("trace: seed {seed}, {cpus} CPUs: {trace:x?}");
                }
                traces.push(trace);
            }
            let differ = traces.iter().any(|trace| Some(trace) != traces.first());
            assert!(differ || traces.len() < 2, "all seeds give the same order");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn chosen_seed() -> Option<u64> {
    number("LINNET_SEED")
}

/// What was written to the console since the start of the run, and clears it.
pub fn take_console_output() -> alloc::vec::Vec<u8> {
    arch::take_console()
}

/// Sets what says, for a deadlock's message, what every thread is doing; once (a second call is ignored).
pub fn set_thread_report(report: fn() -> alloc::string::String) {
    arch::set_report(report);
}

/// Raises an interrupt that a device sends as a message, as [`crate::irq::MessageInterrupt::message`] said; the handler runs here, with
/// interrupts off.
pub fn raise(message: crate::irq::Message) {
    let _off = crate::irq::disable();
    crate::irq::deliver((message.address >> 12) as usize, message.data as usize);
}
