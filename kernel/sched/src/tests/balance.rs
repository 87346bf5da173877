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

/// A CPU with one thread has no end of a slice to look for; when another CPU queues a second thread there, its timer has to be told.
#[test]
fn who_is_woken_beside_busy_threads_gets_its_turn() {
    run_seeds(8, 2, || {
        let end_ns = now_ns() + 4_000_000_000;
        let crew = Crew::new();
        for cpu in machine::cpu::online() {
            crew.spawn("worker", move || {
                let own = machine::cpu::CpuSet::single(cpu);
                crate::current().set_affinity(&own).expect("an online CPU");
                work_until(end_ns);
            });
        }
        let mut longest_ns = 0;
        while now_ns() < end_ns {
            let deadline_ns = now_ns() + 1_000_000;
            crate::sleep_until(deadline_ns, machine::sync::WaitKind::Uninterruptible)
                .expect("not interruptible");
            longest_ns = longest_ns.max(now_ns() - deadline_ns);
        }
        crew.join();
        // The simulator lets virtual time pass while it leaves a CPU alone, so a turn comes after tens of milliseconds.
        assert!(longest_ns < 300_000_000, "woken, it waited for {longest_ns} ns");
    });
}
