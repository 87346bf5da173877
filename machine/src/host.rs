//! The simulator's front door, on hosted targets only: runs a test kernel whose interleavings a seed chooses.
//!
//! A failed test names its seed; `LINNET_SEED=n cargo test NAME` runs that seed alone. Two things are not as they should be
//! yet: what earlier runs in the process left behind can shift the order, so that a seed does not repeat reliably; and only
//! the first run of a process gets more than one CPU ([`crate::cpu::start_secondary_cpus`] keeps its first entry).

use crate::arch;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

/// One run at a time: the kernel's statics are one kernel's.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `main` as the boot flow of CPU 0 of a machine with `cpus` CPUs, all interleavings chosen by `seed` (by `LINNET_SEED`
/// if that is in the environment); returns when `main` does. The other CPUs start with
/// [`crate::cpu::start_secondary_cpus`]. Panics of any simulated thread propagate; so does a deadlock. Threads that have
/// not ended then never go on, and what is on their stacks is not dropped.
pub fn run(seed: u64, cpus: usize, main: impl FnOnce() + Send) {
    let seed = chosen_seed().unwrap_or(seed);
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let result = catch_unwind(AssertUnwindSafe(|| arch::run(seed, cpus, main)));
    drop(turn);
    if let Err(payload) = result {
        std::eprintln!("failed with seed {seed}: LINNET_SEED={seed} tries it again");
        resume_unwind(payload);
    }
}

/// [`run`] with each of the seeds `0..seeds`, or only with `LINNET_SEED`.
pub fn run_seeds(seeds: u64, cpus: usize, main: impl Fn() + Send + Sync) {
    if chosen_seed().is_some() {
        return run(0, cpus, &main);
    }
    for seed in 0..seeds {
        run(seed, cpus, &main);
    }
}

fn chosen_seed() -> Option<u64> {
    std::env::var("LINNET_SEED").ok()?.parse().ok()
}

/// What was written to the console since the start of the run, and clears it.
pub fn take_console_output() -> alloc::vec::Vec<u8> {
    arch::take_console()
}

/// Sets what says, for a deadlock's message, what every thread is doing; once (a second call is ignored).
pub fn set_thread_report(report: fn() -> alloc::string::String) {
    arch::set_report(report);
}
