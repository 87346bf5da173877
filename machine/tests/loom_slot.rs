//! Loom models of sleeping and waking: `RUSTFLAGS="--cfg loom" cargo test -p linnet-machine --test loom_slot --release`.
//!
//! The first explores every interleaving of the real [`slot::ParkSlot`]; the second the protocol that futexes and wait
//! queues build on it: change the condition, then look for waiters; queue oneself, then look at the condition.

#![cfg(loom)]

extern crate alloc;

/// What `slot.rs` finds as its parent module in the crate.
#[path = "../src/sync"]
mod sync {
    pub mod atomic {
        pub use loom::sync::atomic::*;
    }
    #[path = "slot.rs"]
    pub mod slot;
}

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use sync::slot::ParkSlot;

/// A parker loses no wake-up and is made runnable once, whoever of two wakers comes first.
#[test]
fn one_of_two_wakers_runs_it() {
    loom::model(|| {
        let slot = Arc::new(ParkSlot::<u64>::new());
        let runs = Arc::new(AtomicU32::new(0));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let (slot, runs) = (slot.clone(), runs.clone());
                thread::spawn(move || {
                    if slot.wake().is_some() {
                        runs.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let parked = slot.park(Box::new(7)).is_ok();
        for waker in wakers {
            waker.join().unwrap();
        }
        assert_eq!(runs.load(Ordering::SeqCst), u32::from(parked), "woken exactly once if it parked at all");
        assert!(!slot.is_parked());
    });
}

/// What was written before the wake is seen after it, also when a token stood for it.
#[test]
fn a_wake_publishes() {
    loom::model(|| {
        let slot = Arc::new(ParkSlot::<u64>::new());
        let data = Arc::new(AtomicU32::new(0));
        let waker = {
            let (slot, data) = (slot.clone(), data.clone());
            thread::spawn(move || {
                data.store(1, Ordering::Relaxed);
                slot.wake().is_some()
            })
        };
        if slot.take_token() {
            assert_eq!(data.load(Ordering::Relaxed), 1);
        }
        waker.join().unwrap();
    });
}

/// futex(2): a waiter that saw the old value is found by the waker that changed it.
#[test]
fn a_futex_wake_is_not_lost() {
    loom::model(|| {
        let word = Arc::new(AtomicU32::new(0));
        let bucket = Arc::new(Mutex::new(Vec::<Arc<ParkSlot<u64>>>::new()));
        let slot = Arc::new(ParkSlot::<u64>::new());
        let waker = {
            let (word, bucket) = (word.clone(), bucket.clone());
            thread::spawn(move || {
                word.store(1, Ordering::Relaxed);
                let waiters = std::mem::take(&mut *bucket.lock().unwrap());
                waiters.iter().filter(|slot| slot.wake().is_some()).count()
            })
        };
        let queued = {
            let mut waiters = bucket.lock().unwrap();
            let wait = word.load(Ordering::Relaxed) == 0;
            if wait {
                waiters.push(slot.clone());
            }
            wait
        };
        let parked = queued && slot.park(Box::new(7)).is_ok();
        let woken = waker.join().unwrap();
        assert_eq!(woken, usize::from(parked), "a parked waiter was found");
        assert!(!slot.is_parked(), "it would sleep for ever");
    });
}
