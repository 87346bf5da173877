//! RCU, wait queues and sleeping locks of `machine`, with the real scheduler on several CPUs.

use crate::host::{Crew, point, run_seeds};
use crate::{WaitKind, yield_now};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Mutex, RcuArc, RwLock, WaitQueue, rcu};

const SEEDS: u64 = 20;

/// Says when it is freed.
struct Watched {
    number: usize,
    freed: Arc<Vec<AtomicBool>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        assert!(!self.freed[self.number].swap(true, Ordering::Relaxed), "freed twice");
    }
}

#[test]
fn rcu_readers_never_see_what_is_freed_and_all_is_freed() {
    const VALUES: usize = 12;
    run_seeds(SEEDS, 4, || {
        let freed: Arc<Vec<AtomicBool>> = Arc::new((0..VALUES).map(|_| AtomicBool::new(false)).collect());
        let value = |number| Some(Arc::new(Watched { number, freed: freed.clone() }));
        let cell = Arc::new(RcuArc::new(value(0)));
        let crew = Crew::new();
        for _ in 0..3 {
            let (cell, freed) = (cell.clone(), freed.clone());
            crew.spawn("reader", move || {
                for _ in 0..40 {
                    let guard = rcu::read_lock();
                    if let Some(number) = cell.load(&guard).map(|value| value.number) {
                        for _ in 0..4 {
                            point();
                            assert!(!freed[number].load(Ordering::Relaxed), "freed while it was read");
                        }
                    }
                    drop(guard);
                    yield_now();
                }
            });
        }
        for number in 1..VALUES {
            cell.replace(value(number));
            if number % 3 == 0 {
                rcu::synchronize();
            }
            yield_now();
        }
        crew.join();
        cell.replace(None);
        while !freed.iter().all(|freed| freed.load(Ordering::Relaxed)) {
            crate::sleep_until(machine::time::now_ns() + 1_000_000, WaitKind::Uninterruptible).unwrap();
        }
    });
}

#[test]
fn a_queue_of_exclusive_waiters_loses_no_wake_up() {
    run_seeds(SEEDS, 3, || {
        let free = Arc::new((AtomicU32::new(0), WaitQueue::new()));
        let crew = Crew::new();
        for _ in 0..4 {
            let free = free.clone();
            crew.spawn("consumer", move || {
                for _ in 0..10 {
                    let take = || {
                        free.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).ok()
                    };
                    free.1.wait_until_exclusive(WaitKind::Uninterruptible, None, take).unwrap();
                }
            });
        }
        for _ in 0..2 {
            let free = free.clone();
            crew.spawn("producer", move || {
                for _ in 0..20 {
                    free.0.fetch_add(1, Ordering::Release);
                    free.1.wake_one();
                    point();
                }
            });
        }
        crew.join();
        assert_eq!(free.0.load(Ordering::Relaxed), 0);
        assert!(free.1.is_empty());
    });
}

#[test]
fn a_waiter_with_a_deadline_passes_its_wake_up_on() {
    run_seeds(SEEDS, 2, || {
        let free = Arc::new((AtomicU32::new(0), WaitQueue::new()));
        let taken = Arc::new(AtomicU32::new(0));
        let crew = Crew::new();
        for patient in [false, false, true] {
            let (free, taken) = (free.clone(), taken.clone());
            crew.spawn("consumer", move || {
                let deadline = (!patient).then(|| machine::time::now_ns() + 3_000);
                let take =
                    || free.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).ok();
                if free.1.wait_until_exclusive(WaitKind::Uninterruptible, deadline, take).is_ok() {
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Three come, whether or not the impatient ones are still there: the patient one gets its own.
        for _ in 0..3 {
            free.0.fetch_add(1, Ordering::Release);
            free.1.wake_one();
        }
        crew.join();
        assert_eq!(free.0.load(Ordering::Relaxed) + taken.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn one_at_a_time_holds_a_mutex() {
    run_seeds(SEEDS, 4, || {
        let shared = Arc::new((Mutex::new(0u64), AtomicBool::new(false)));
        let crew = Crew::new();
        for worker in 0..5 {
            let shared = shared.clone();
            crew.spawn("worker", move || {
                for round in 0..8 {
                    let mut value = shared.0.lock();
                    assert!(!shared.1.swap(true, Ordering::Relaxed), "two hold it");
                    let seen = *value;
                    if (worker + round) % 3 == 0 {
                        yield_now()
                    } else {
                        point()
                    }
                    *value = seen + 1;
                    shared.1.store(false, Ordering::Relaxed);
                }
            });
        }
        crew.join();
        assert_eq!(*shared.0.lock(), 40);
    });
}

#[test]
fn readers_share_and_writers_do_not() {
    run_seeds(SEEDS, 4, || {
        let pair = Arc::new(RwLock::new((0u64, 0u64)));
        let together = Arc::new((AtomicUsize::new(0), AtomicU64::new(0)));
        let crew = Crew::new();
        for _ in 0..2 {
            let pair = pair.clone();
            crew.spawn("writer", move || {
                for _ in 0..8 {
                    let mut pair = pair.write();
                    pair.0 += 1;
                    yield_now();
                    pair.1 += 1;
                }
            });
        }
        for _ in 0..3 {
            let (pair, together) = (pair.clone(), together.clone());
            crew.spawn("reader", move || {
                for _ in 0..10 {
                    let pair = pair.read();
                    together.0.fetch_add(1, Ordering::Relaxed);
                    yield_now();
                    assert_eq!(pair.0, pair.1, "a reader saw a writer's half");
                    together
                        .1
                        .fetch_max(together.0.fetch_sub(1, Ordering::Relaxed) as u64, Ordering::Relaxed);
                }
            });
        }
        crew.join();
        assert_eq!(*pair.read(), (16, 16));
    });
}
