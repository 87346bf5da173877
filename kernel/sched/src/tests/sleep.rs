//! Sleeping and waking.

use crate::host::run_seeds;
use crate::{SpawnOptions, WaitKind, WakeReason, current_arc, park, sleep_until, spawn};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::sync::WaitQueue;
use machine::time::now_ns;

#[test]
fn two_threads_wake_each_other_by_turns() {
    run_seeds(200, 2, || {
        let turn = Arc::new((AtomicU32::new(0), WaitQueue::new()));
        let done = Arc::new((AtomicU32::new(0), WaitQueue::new()));
        for me in 0..2 {
            let (turn, done) = (turn.clone(), done.clone());
            spawn("player", SpawnOptions::default(), move || {
                for round in 0..20 {
                    let mine = || (turn.0.load(Ordering::Acquire) == round * 2 + me).then_some(());
                    turn.1.wait_until(WaitKind::Uninterruptible, None, mine).unwrap();
                    turn.0.fetch_add(1, Ordering::AcqRel);
                    turn.1.wake_all();
                }
                done.0.fetch_add(1, Ordering::Release);
                done.1.wake_all();
            })
            .unwrap();
        }
        let both = || (done.0.load(Ordering::Acquire) == 2).then_some(());
        done.1.wait_until(WaitKind::Uninterruptible, None, both).unwrap();
        assert_eq!(turn.0.load(Ordering::Relaxed), 40);
    });
}

#[test]
fn a_sleep_lasts_until_its_deadline() {
    run_seeds(200, 2, || {
        for length_ns in [1, 1_000, 3_000_000, 2_000_000_000] {
            let deadline = now_ns() + length_ns;
            sleep_until(deadline, WaitKind::Interruptible).unwrap();
            assert!(now_ns() >= deadline);
        }
    });
}

#[test]
fn a_wake_before_the_park_is_not_lost() {
    run_seeds(200, 2, || {
        let sleeper = current_arc();
        spawn("waker", SpawnOptions::default(), move || sleeper.wake()).unwrap();
        assert_eq!(park(None, WaitKind::Uninterruptible), WakeReason::Woken);
    });
}

/// What the scenarios of all crates build on: the same seed is the same order, in this process and in others.
#[test]
fn a_seed_repeats() {
    for cpus in [1, 2, 3, 8] {
        crate::host::repeats(6, cpus, || {
            let done = Arc::new((AtomicU32::new(0), WaitQueue::new()));
            for number in 0..6 {
                let done = done.clone();
                spawn("worker", SpawnOptions::default(), move || {
                    for round in 0..5 {
                        sleep_until(now_ns() + number * 1000 + round, WaitKind::Uninterruptible).unwrap();
                        machine::sync::rcu::defer_drop(Arc::new(number));
                        crate::yield_now();
                    }
                    done.0.fetch_add(1, Ordering::Release);
                    done.1.wake_all();
                })
                .unwrap();
            }
            let all = || (done.0.load(Ordering::Acquire) == 6).then_some(());
            done.1.wait_until(WaitKind::Uninterruptible, None, all).unwrap();
            machine::sync::rcu::synchronize();
        });
    }
}
