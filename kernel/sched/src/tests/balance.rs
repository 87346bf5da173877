//! Who runs where, and how much: run queues on several CPUs.

use crate::host::{Crew, point, run_seeds};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::time::now_ns;

/// Works until the clock says `end_ns`; how often it got to work.
fn work_until(end_ns: u64) {
    while now_ns() < end_ns {
        point();
    }
}

/// What each of `threads` threads ran, nanoseconds, if all want to for `length_ns`.
fn shares(threads: usize, length_ns: u64) -> Vec<u64> {
    let end_ns = now_ns() + length_ns;
    let ran: Arc<Vec<AtomicU64>> = Arc::new((0..threads).map(|_| AtomicU64::new(0)).collect());
    let crew = Crew::new();
    for number in 0..threads {
        let ran = ran.clone();
        crew.spawn("worker", move || {
            work_until(end_ns);
            ran[number].store(crate::current().times().run_ns(), Ordering::Relaxed);
        });
    }
    crew.join();
    ran.iter().map(|ran| ran.load(Ordering::Relaxed)).collect()
}

#[test]
fn equal_threads_of_one_cpu_run_equally() {
    run_seeds(4, 1, || {
        let shares = shares(4, 80_000_000);
        for share in &shares {
            assert!((12_000_000..30_000_000).contains(share), "{shares:?} of 80 ms");
        }
    });
}

#[test]
fn threads_spread_over_the_cpus() {
    run_seeds(4, 4, || {
        let shares = shares(4, 40_000_000);
        for share in &shares {
            assert!(*share > 20_000_000, "four threads, four CPUs, 40 ms, and they ran {shares:?}");
        }
    });
}
