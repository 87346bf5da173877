//! Wait queues, mutexes and read-write locks: the real [`words`](crate::sync::words) under a queue like `wait`'s. A lost wake-up is a
//! deadlock, which loom reports.

use crate::explore;
use crate::sync::words::{Handshake, Owner, Share, Wake};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread::{self, Thread};

/// A queued thread.
struct Entry {
    thread: Thread,
    woken: AtomicBool,
}

/// As `machine::sync::WaitQueue`, step by step; its spin lock is loom's mutex, its sleep loom's park.
struct Queue {
    waiters: Handshake,
    entries: Mutex<Vec<Arc<Entry>>>,
}

impl Queue {
    fn new() -> Queue {
        Queue { waiters: Handshake::new(), entries: Mutex::new(Vec::new()) }
    }

    fn wait_until_exclusive(&self, condition: impl Fn() -> bool) {
        if condition() {
            return;
        }
        let entry = Arc::new(Entry { thread: thread::current(), woken: AtomicBool::new(false) });
        let mut entries = self.entries.lock().unwrap();
        entries.push(entry.clone());
        self.waiters.join();
        drop(entries);
        loop {
            entry.woken.store(false, Ordering::Relaxed);
            Handshake::before_condition();
            if condition() {
                break;
            }
            if !entry.woken.load(Ordering::Acquire) {
                thread::park();
            }
        }
        let mut entries = self.entries.lock().unwrap();
        entries.retain(|other| !Arc::ptr_eq(other, &entry));
        self.waiters.leave();
        drop(entries);
        if entry.woken.load(Ordering::Acquire) {
            self.wake(1);
        }
    }

    fn wake(&self, mut count: usize) {
        if !self.waiters.has_waiters_after_change() {
            return;
        }
        for entry in self.entries.lock().unwrap().iter() {
            if count == 0 || entry.woken.load(Ordering::Relaxed) {
                continue;
            }
            count -= 1;
            entry.woken.store(true, Ordering::Release);
            entry.thread.unpark();
        }
    }
}

/// The condition itself needs no order: the handshake gives it.
#[test]
fn a_wake_up_is_not_lost() {
    explore(3, || {
        let shared = Arc::new((AtomicU32::new(0), Queue::new()));
        let waker = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.0.store(1, Ordering::Relaxed);
                shared.1.wake(1);
            })
        };
        shared.1.wait_until_exclusive(|| shared.0.load(Ordering::Relaxed) == 1);
        waker.join().unwrap();
    });
}

/// Two take what two bring: a wake-up that one did not need reaches the other.
#[test]
fn each_of_two_waiters_gets_its_own() {
    explore(2, || {
        let shared = Arc::new((AtomicU32::new(0), Queue::new()));
        let take = |shared: &(AtomicU32, Queue)| {
            // No failure by chance: whoever was woken and does not take passes nothing on.
            let take_one = |seen: u32| seen.checked_sub(1);
            shared.1.wait_until_exclusive(|| {
                shared.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take_one).is_ok()
            });
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || take(&shared))
        };
        let bringer = {
            let shared = shared.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    shared.0.fetch_add(1, Ordering::Relaxed);
                    shared.1.wake(1);
                }
            })
        };
        take(&shared);
        other.join().unwrap();
        bringer.join().unwrap();
    });
}

struct Locked {
    owner: Owner,
    queue: Queue,
    value: UnsafeCell<u32>,
}

// SAFETY: `value` is only touched with the lock held; loom checks just that.
unsafe impl Sync for Locked {}
// SAFETY: as above.
unsafe impl Send for Locked {}

fn add_one(locked: &Locked, me: usize) {
    if !locked.owner.try_take(me) {
        locked.queue.wait_until_exclusive(|| locked.owner.take_or_mark(me));
    }
    // SAFETY: the lock is held.
    locked.value.with_mut(|value| unsafe { *value += 1 });
    if locked.owner.release() {
        locked.queue.wake(1);
    }
}

fn contend(threads: usize, preemptions: usize) {
    explore(preemptions, move || {
        let locked = Arc::new(Locked { owner: Owner::new(), queue: Queue::new(), value: UnsafeCell::new(0) });
        let others: Vec<_> = (1..threads)
            .map(|number| {
                let locked = locked.clone();
                thread::spawn(move || add_one(&locked, 2 * number + 2))
            })
            .collect();
        add_one(&locked, 2);
        for other in others {
            other.join().unwrap();
        }
        // SAFETY: all threads have ended.
        locked.value.with(|value| assert_eq!(unsafe { *value }, threads as u32));
    });
}

#[test]
fn a_mutex_of_two() {
    contend(2, 3);
}

#[test]
fn a_mutex_of_three() {
    contend(3, 2);
}

struct Shared {
    share: Share,
    readers: Queue,
    writers: Queue,
    value: UnsafeCell<u32>,
}

// SAFETY: as `Locked`.
unsafe impl Sync for Shared {}
// SAFETY: as `Locked`.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            share: Share::new(),
            readers: Queue::new(),
            writers: Queue::new(),
            value: UnsafeCell::new(0),
        })
    }

    fn wake(&self, whom: Wake) {
        match whom {
            Wake::Writer => self.writers.wake(1),
            Wake::Readers => self.readers.wake(usize::MAX),
            Wake::Nobody => {}
        }
    }

    fn read(&self) -> u32 {
        self.readers.wait_until_exclusive(|| self.share.try_read());
        // SAFETY: held to read.
        let value = self.value.with(|value| unsafe { *value });
        self.wake(self.share.release_read());
        value
    }

    fn write(&self) {
        if !self.share.try_write() {
            self.share.begin_write_wait();
            self.writers.wait_until_exclusive(|| self.share.try_write());
            self.wake(self.share.end_write_wait(true));
        }
        // SAFETY: held to write.
        self.value.with_mut(|value| unsafe { *value += 1 });
        self.wake(self.share.release_write());
    }
}

#[test]
fn a_writer_and_readers() {
    explore(2, || {
        let shared = Shared::new();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || shared.write())
        };
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read())
        };
        assert!(shared.read() <= 1 && reader.join().unwrap() <= 1);
        writer.join().unwrap();
    });
}

#[test]
fn two_writers() {
    explore(2, || {
        let shared = Shared::new();
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.write())
        };
        shared.write();
        other.join().unwrap();
        assert_eq!(shared.read(), 2);
    });
}

/// The writer becomes a reader while another writer gives up: a reader that waits for both must come in, although the lock is
/// not let go.
#[test]
fn readers_come_in_after_a_downgrade() {
    explore(3, || {
        let shared = Shared::new();
        assert!(shared.share.try_write());
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read())
        };
        let impatient = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.share.begin_write_wait();
                let has_it = shared.share.try_write();
                assert!(!has_it);
                shared.wake(shared.share.end_write_wait(false));
            })
        };
        if shared.share.downgrade() == Wake::Readers {
            shared.wake(Wake::Readers);
        }
        reader.join().unwrap();
        impatient.join().unwrap();
        shared.wake(shared.share.release_read());
    });
}
