//! The simulator's front door, on hosted targets only: runs a test kernel deterministically from a seed.

/// Runs `main` as the boot flow of CPU 0 of a machine with `cpus` CPUs, all interleavings chosen by `seed`; returns when
/// `main` does. Panics of any simulated thread propagate.
pub fn run(seed: u64, cpus: usize, main: impl FnOnce() + Send) {
    let _ = (seed, cpus, main);
    todo!()
}

/// What was written to the console since the start of the run, and clears it.
pub fn take_console_output() -> alloc::vec::Vec<u8> {
    todo!()
}
