//! Parking, and what futexes build on it: the real [`slot::ParkSlot`](crate::sync::slot), and the protocol around it: change
//! the condition, then look for waiters; queue oneself, then look at the condition.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::sync::slot::ParkSlot;

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

/// A waiter is moved to another futex while it gives up: it is woken or it has left, never both and never neither, and it is
/// in no bucket afterwards. (`unqueue` and `requeue` of `kernel/ipc/src/futex/table.rs`.)
#[test]
fn a_requeued_waiter_can_leave() {
    crate::explore(3, || {
        // Each bucket says whether the waiter is in it.
        let buckets = Arc::new([Mutex::new(true), Mutex::new(false)]);
        let place = Arc::new(Mutex::new(0usize));
        let mover = {
            let (buckets, place) = (buckets.clone(), place.clone());
            thread::spawn(move || {
                let mut from = buckets[0].lock().unwrap();
                let mut to = buckets[1].lock().unwrap();
                if std::mem::take(&mut *from) {
                    *place.lock().unwrap() = 1;
                    *to = true;
                }
            })
        };
        let waker = {
            let buckets = buckets.clone();
            thread::spawn(move || std::mem::take(&mut *buckets[1].lock().unwrap()))
        };
        let left = loop {
            let seen = *place.lock().unwrap();
            let mut bucket = buckets[seen].lock().unwrap();
            if *place.lock().unwrap() == seen {
                break std::mem::take(&mut *bucket);
            }
        };
        mover.join().unwrap();
        let woken = waker.join().unwrap();
        assert!(left != woken, "left: {left}, woken: {woken}");
        assert!(!*buckets[0].lock().unwrap() && !*buckets[1].lock().unwrap());
    });
}
