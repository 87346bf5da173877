//! The host backend's front door, on hosted targets only: runs a test kernel, one at a time.

use std::sync::{Mutex, PoisonError};

static RUNNING: Mutex<()> = Mutex::new(());

/// Runs `main` as the boot flow of a CPU; one such run at a time in a process, because a machine's state is global.
/// Kernel threads do not exist here yet, so `seed` and `cpus` have nothing to choose. Panics of `main` propagate.
pub fn run(seed: u64, cpus: usize, main: impl FnOnce() + Send) {
    let _ = (seed, cpus);
    let _one = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let whole = || {
            main();
            // What was deferred belongs to this run, and its CPU ends with it.
            crate::sync::rcu::synchronize();
            while crate::sync::rcu::run_callbacks() {}
        };
        if let Err(panic) = scope.spawn(whole).join() {
            std::panic::resume_unwind(panic);
        }
    });
}
