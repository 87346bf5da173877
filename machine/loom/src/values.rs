//! Values that are set once, or read while they change.

use crate::explore;
use crate::sync::once::Once;
use crate::sync::words::Sequence;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

/// Whoever sees the value sees what was written before it was set; one of two setters wins.
#[test]
fn a_value_is_set_once() {
    explore(3, || {
        let shared = Arc::new((Once::<u32>::new(), [AtomicU32::new(0), AtomicU32::new(0)]));
        let setter = |shared: &(Once<u32>, [AtomicU32; 2]), me: usize| {
            shared.1[me].store(1, Ordering::Relaxed);
            shared.0.set(me as u32).is_ok()
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || setter(&shared, 1))
        };
        let mine = setter(&shared, 0);
        if let Some(winner) = shared.0.get() {
            assert_eq!(shared.1[*winner as usize].load(Ordering::Relaxed), 1);
        }
        assert!(mine != other.join().unwrap());
        assert!(shared.0.get().is_some());
    });
}

/// It is made once, and both get the same.
#[test]
fn a_value_is_made_once() {
    explore(3, || {
        let shared = Arc::new((Once::<u32>::new(), AtomicU32::new(0)));
        let get = |shared: &(Once<u32>, AtomicU32)| {
            *shared.0.get_or_init(|| shared.1.fetch_add(1, Ordering::Relaxed) + 7)
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || get(&shared))
        };
        assert_eq!(get(&shared), 7);
        assert_eq!(other.join().unwrap(), 7);
    });
}

/// A copy that is taken for whole is whole.
#[test]
fn a_sequence_lock_shows_no_half() {
    explore(3, || {
        let shared = Arc::new((Sequence::new(), AtomicU32::new(0), AtomicU32::new(0)));
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                for value in 1..3 {
                    shared.0.begin_write();
                    shared.1.store(value, Ordering::Relaxed);
                    shared.2.store(value, Ordering::Relaxed);
                    shared.0.end_write();
                }
            })
        };
        for _ in 0..2 {
            if let Some(before) = shared.0.begin_read() {
                let copy = (shared.1.load(Ordering::Relaxed), shared.2.load(Ordering::Relaxed));
                if shared.0.is_unchanged(before) {
                    assert_eq!(copy.0, copy.1);
                }
            }
        }
        writer.join().unwrap();
    });
}
