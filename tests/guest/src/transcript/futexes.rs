//! futex(2): wait, wake, requeue, bit sets, priority inheritance, robust lists, futex_waitv(2).

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{map, map_shared_counter, sleep_ms};
use std::sync::atomic::{AtomicU32, Ordering};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("futex_errors", errors),
    ("futex_wake_counts", wake_counts),
    ("futex_requeue", requeue),
    ("futex_bitset", bitset),
    ("futex_wake_op", wake_op),
    ("futex_pi", priority_inheritance),
    ("futex_pi_owner_dies", owner_dies),
    ("futex_pi_boost", boost),
    ("futex_pi_circle", circle),
    ("futex_pi_requeue", requeue_to_lock),
    ("futex_pi_requeue_errors", requeue_to_lock_errors),
    ("futex_shared_between_processes", shared),
    ("futex_waitv", waitv),
    ("futex_robust_list", robust),
];

const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;
const NULL: usize = 0;

fn timespec(nanoseconds: i64) -> libc::timespec {
    libc::timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 }
}

fn errors(t: &mut Transcript) -> Outcome {
    let word = AtomicU32::new(5);
    let at = word.as_ptr();
    let short = timespec(1_000_000);
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000_000 };
    t.call("wait, wrong value", sys!(SYS_futex, at, libc::FUTEX_WAIT | PRIVATE, 4, NULL));
    t.call("wait, time out", sys!(SYS_futex, at, libc::FUTEX_WAIT | PRIVATE, 5, &raw const short));
    t.call("wait, bad time", sys!(SYS_futex, at, libc::FUTEX_WAIT | PRIVATE, 5, &raw const bad));
    t.call("wait, odd address", sys!(SYS_futex, at as usize + 1, libc::FUTEX_WAIT | PRIVATE, 5, NULL));
    t.call("wait, null", sys!(SYS_futex, NULL, libc::FUTEX_WAIT | PRIVATE, 5, NULL));
    t.call("wait, kernel's", sys!(SYS_futex, usize::MAX << 47, libc::FUTEX_WAIT | PRIVATE, 5, NULL));
    t.call("wake, nobody", sys!(SYS_futex, at, libc::FUTEX_WAKE | PRIVATE, 1, NULL));
    t.call("wake, null", sys!(SYS_futex, NULL, libc::FUTEX_WAKE | PRIVATE, 1, NULL));
    t.call("wake shared, null", sys!(SYS_futex, NULL, libc::FUTEX_WAKE, 1, NULL));
    t.call("bitset 0", sys!(SYS_futex, at, libc::FUTEX_WAIT_BITSET | PRIVATE, 5, NULL, NULL, 0));
    t.call("wake bitset 0", sys!(SYS_futex, at, libc::FUTEX_WAKE_BITSET | PRIVATE, 5, NULL, NULL, 0));
    t.call("unknown operation", sys!(SYS_futex, at, 77, 5, NULL));
    t.call("FUTEX_FD", sys!(SYS_futex, at, 2, 5, NULL));
    t.call("unlock pi, not owner", sys!(SYS_futex, at, libc::FUTEX_UNLOCK_PI | PRIVATE, 0, NULL));
    t.call("realtime clock with wake", sys!(SYS_futex, at, libc::FUTEX_WAKE | 256, 1, NULL));
    t.call("cmp_requeue, wrong value", sys!(SYS_futex, at, libc::FUTEX_CMP_REQUEUE | PRIVATE, 1, 1, at, 9));
    t.call("requeue, negative", sys!(SYS_futex, at, libc::FUTEX_REQUEUE | PRIVATE, -1, 1, at, 0));
    t.call("get_robust_list of nobody", sys!(SYS_get_robust_list, 99999999, NULL, NULL));
    t.call("set_robust_list, bad size", sys!(SYS_set_robust_list, NULL, 7));
    Ok(())
}

/// Starts `count` threads that wait on the word, lets `body` act, then wakes all and joins.
fn with_waiters(word: &AtomicU32, count: usize, mask: u32, body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                sys!(SYS_futex, word.as_ptr(), libc::FUTEX_WAIT_BITSET | PRIVATE, 0, NULL, NULL, mask);
            });
        }
        sleep_ms(200);
        body();
    });
}

fn wake(word: &AtomicU32, count: i32) -> i64 {
    sys!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | PRIVATE, count, NULL)
}

fn wake_counts(t: &mut Transcript) -> Outcome {
    let word = AtomicU32::new(0);
    with_waiters(&word, 5, u32::MAX, || {
        t.call("wake 2 of 5", wake(&word, 2));
        t.call("wake 0", wake(&word, 0));
        t.call("wake 100", wake(&word, 100));
        t.call("wake again", wake(&word, 1));
    });
    Ok(())
}

fn requeue(t: &mut Transcript) -> Outcome {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    let (a, b) = (first.as_ptr() as usize, second.as_ptr() as usize);
    with_waiters(&first, 6, u32::MAX, || {
        t.call("wake 1, move 2", sys!(SYS_futex, a, libc::FUTEX_REQUEUE | PRIVATE, 1, 2usize, b, 0));
        t.call("on the second", wake(&second, 100));
        let operation = libc::FUTEX_CMP_REQUEUE | PRIVATE;
        t.call("compare, wake 1, move all", sys!(SYS_futex, a, operation, 1, 100usize, b, 0));
        t.call("on the first", wake(&first, 100));
        t.call("on the second", wake(&second, 100));
    });
    Ok(())
}

fn bitset(t: &mut Transcript) -> Outcome {
    let word = AtomicU32::new(0);
    let by_mask =
        |mask: u32| sys!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE_BITSET | PRIVATE, 100, NULL, NULL, mask);
    with_waiters(&word, 3, 0b0110, || {
        t.call("other bits", by_mask(0b1001));
        t.call("one common bit", by_mask(0b0100));
    });
    let late = timespec(1);
    let operation = libc::FUTEX_WAIT_BITSET | PRIVATE;
    t.call(
        "absolute time that is over",
        sys!(SYS_futex, word.as_ptr(), operation, 0, &raw const late, NULL, 1),
    );
    t.call(
        "by the realtime clock",
        sys!(SYS_futex, word.as_ptr(), operation | 256, 0, &raw const late, NULL, 1),
    );
    Ok(())
}

fn wake_op(t: &mut Transcript) -> Outcome {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(10));
    let (a, b) = (first.as_ptr(), second.as_ptr());
    let code = |operation: u32, compare: u32, argument: u32, against: u32| {
        operation << 28 | compare << 24 | argument << 12 | against
    };
    for (name, operation, compare, argument, against) in [
        ("set 7, was 10", 0, 0, 7, 10),
        ("add 5, was less than 9", 1, 2, 5, 9),
        ("or 3, was greater than 11", 2, 4, 3, 11),
        ("and-not 1, was not 0", 3, 1, 1, 0),
        ("xor 15, was at most 20", 4, 3, 15, 20),
        ("set 1<<4, was at least 1", 8, 5, 4, 1),
        ("unknown operation", 7, 0, 0, 0),
        ("unknown comparison", 0, 9, 0, 0),
    ] {
        let value = code(operation, compare, argument, against);
        t.call(name, sys!(SYS_futex, a, libc::FUTEX_WAKE_OP | PRIVATE, 1, 1usize, b, value));
        t.note("word", second.load(Ordering::Relaxed));
    }
    Ok(())
}

fn priority_inheritance(t: &mut Transcript) -> Outcome {
    let word = AtomicU32::new(0);
    let at = word.as_ptr() as usize;
    let me = sys!(SYS_gettid) as u32;
    t.call("lock", sys!(SYS_futex, at, libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL));
    t.note("the word is my number", word.load(Ordering::SeqCst) == me);
    t.call("lock again", sys!(SYS_futex, at, libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL));
    t.call("trylock again", sys!(SYS_futex, at, libc::FUTEX_TRYLOCK_PI | PRIVATE, 0, NULL));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let trial = sys!(SYS_futex, at, libc::FUTEX_TRYLOCK_PI | PRIVATE, 0, NULL);
            (trial, std::io::Error::last_os_error().to_string())
        });
        t.note("another's trylock", other.join().ok());
        let waiter = scope.spawn(move || {
            let locked = sys!(SYS_futex, at, libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL);
            let unlocked = sys!(SYS_futex, at, libc::FUTEX_UNLOCK_PI | PRIVATE, 0, NULL);
            (locked, unlocked)
        });
        sleep_ms(200);
        let value = word.load(Ordering::SeqCst);
        t.note("with a waiter", (value & libc::FUTEX_TID_MASK == me, value & libc::FUTEX_WAITERS != 0));
        t.call("unlock", sys!(SYS_futex, at, libc::FUTEX_UNLOCK_PI | PRIVATE, 0, NULL));
        t.note("the waiter's lock, unlock", waiter.join().ok());
    });
    t.note("at the end", word.load(Ordering::SeqCst));
    word.store(99_999_999, Ordering::SeqCst);
    t.call("owned by nobody alive", sys!(SYS_futex, at, libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL));
    Ok(())
}

fn owner_dies(t: &mut Transcript) -> Outcome {
    let word = AtomicU32::new(0);
    let at = word.as_ptr() as usize;
    let result = std::thread::scope(|scope| {
        let owner = scope.spawn(move || {
            sys!(SYS_futex, at, libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL);
            sleep_ms(300);
        });
        sleep_ms(100);
        let waiter = scope.spawn(move || sys!(SYS_futex, at, libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL));
        let _ = owner.join();
        waiter.join().ok()
    });
    t.note("a waiter whose owner died", result);
    let value = word.load(Ordering::SeqCst);
    t.note("owner-died bit, some owner", (value >> 30 & 1, value & libc::FUTEX_TID_MASK != 0));
    Ok(())
}

fn shared(t: &mut Transcript) -> Outcome {
    let counter = map_shared_counter()?;
    let at = std::ptr::from_ref(counter) as usize;
    let child = crate::sys::fork(|| sys!(SYS_futex, at, libc::FUTEX_WAIT, 0, NULL) as i32)?;
    sleep_ms(200);
    t.call("a private wake", sys!(SYS_futex, at, libc::FUTEX_WAKE | PRIVATE, 1, NULL));
    t.call("a shared wake", sys!(SYS_futex, at, libc::FUTEX_WAKE, 1, NULL));
    t.call("the child's status", crate::sys::wait(child)?);
    Ok(())
}

#[repr(C)]
struct WaitV {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

fn waitv(t: &mut Transcript) -> Outcome {
    let words = [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)];
    let entry =
        |word: &AtomicU32, flags| WaitV { value: 0, address: word.as_ptr() as u64, flags, reserved: 0 };
    let all: Vec<WaitV> = words.iter().map(|word| entry(word, 2 | 128)).collect();
    let number = 449;
    let past = timespec(1);
    // SAFETY: raw calls with valid or refused pointers.
    unsafe {
        let at = all.as_ptr();
        t.call("past time", libc::syscall(number, at, 3, 0, &raw const past, libc::CLOCK_MONOTONIC));
        t.call("none", libc::syscall(number, at, 0, 0, NULL, 0));
        t.call("129", libc::syscall(number, at, 129, 0, NULL, 0));
        t.call("flags", libc::syscall(number, at, 3, 1, NULL, 0));
        t.call("null", libc::syscall(number, NULL, 1, 0, NULL, 0));
        let wrong = [entry(&words[0], 1 | 128)];
        t.call("16 bits", libc::syscall(number, wrong.as_ptr(), 1, 0, NULL, 0));
        words[1].store(1, Ordering::SeqCst);
        t.call("wrong value", libc::syscall(number, at, 3, 0, NULL, 0));
        words[1].store(0, Ordering::SeqCst);
        let result = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| libc::syscall(number, all.as_ptr(), 3, 0, NULL, 0));
            sleep_ms(200);
            let woken = wake(&words[2], 1);
            (woken, waiter.join().ok())
        });
        t.note("woken by the third", result);
    }
    Ok(())
}

fn robust(t: &mut Transcript) -> Outcome {
    let page = map(4096, libc::PROT_READ | libc::PROT_WRITE)? as usize;
    // The head at 0, one lock at 64 whose word is 16 bytes behind its list entry.
    let child = move || {
        let tid = sys!(SYS_gettid) as u32;
        // SAFETY: inside the page, which nobody else touches.
        unsafe {
            *(page as *mut usize) = page + 64;
            *((page + 8) as *mut isize) = 16;
            *((page + 16) as *mut usize) = 0;
            *((page + 64) as *mut usize) = page;
            *((page + 80) as *mut u32) = tid | libc::FUTEX_WAITERS;
        }
        sys!(SYS_set_robust_list, page, 24)
    };
    let set = std::thread::spawn(child).join().ok();
    t.note("set in a thread that ended", set);
    // SAFETY: inside the page.
    t.note("its lock's word", unsafe { *((page + 80) as *const u32) });
    Ok(())
}

const WAIT_REQUEUE_PI: i32 = 11;
const CMP_REQUEUE_PI: i32 = 12;

fn lock_pi(word: &AtomicU32) -> i64 {
    sys!(SYS_futex, word.as_ptr(), libc::FUTEX_LOCK_PI | PRIVATE, 0, NULL)
}

fn unlock_pi(word: &AtomicU32) -> i64 {
    sys!(SYS_futex, word.as_ptr(), libc::FUTEX_UNLOCK_PI | PRIVATE, 0, NULL)
}

/// The priority that a thread runs with, as /proc/PID/stat shows it.
fn priority_of(tid: u32) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(15)?.parse().ok()
}

fn set_fifo(tid: u32, priority: i32) -> i64 {
    sys!(SYS_sched_setscheduler, tid, i32::from(priority > 0), [priority].as_ptr())
}

/// A chain: the first thread has `first`; the second has `second` and waits for `first`; more urgent ones come and go.
fn boost(t: &mut Transcript) -> Outcome {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    let ids = [AtomicU32::new(0), AtomicU32::new(0)];
    let own = sys!(SYS_gettid) as u32;
    t.call("lock the first", lock_pi(&first));
    std::thread::scope(|scope| {
        let middle = scope.spawn(|| {
            ids[0].store(sys!(SYS_gettid) as u32, Ordering::SeqCst);
            let locked = (lock_pi(&second), lock_pi(&first));
            let before = priority_of(sys!(SYS_gettid) as u32);
            let unlocked = (unlock_pi(&first), unlock_pi(&second));
            (locked, before, unlocked, priority_of(sys!(SYS_gettid) as u32))
        });
        sleep_ms(200);
        t.note("alone", priority_of(own));
        let top = scope.spawn(|| {
            ids[1].store(sys!(SYS_gettid) as u32, Ordering::SeqCst);
            set_fifo(0, 20);
            let soon = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let trial = sys!(SYS_futex, second.as_ptr(), libc::FUTEX_LOCK_PI | PRIVATE, 0, &raw const soon);
            let error = std::io::Error::last_os_error().to_string();
            (trial, error, lock_pi(&second), unlock_pi(&second))
        });
        sleep_ms(300);
        let middle_id = ids[0].load(Ordering::SeqCst);
        t.note("with an urgent waiter: the second, the first", (priority_of(middle_id), priority_of(own)));
        t.call("more urgent", set_fifo(ids[1].load(Ordering::SeqCst), 60));
        t.note("then", (priority_of(middle_id), priority_of(own)));
        t.call("less urgent", set_fifo(ids[1].load(Ordering::SeqCst), 5));
        t.note("then", (priority_of(middle_id), priority_of(own)));
        t.call("unlock", unlock_pi(&first));
        t.note("after the unlock", priority_of(own));
        t.note("the second", middle.join().ok());
        t.note("the urgent one", top.join().ok());
    });
    t.note("at the end", (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)));
    Ok(())
}

fn circle(t: &mut Transcript) -> Outcome {
    let words = [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)];
    t.call("lock the first", lock_pi(&words[0]));
    std::thread::scope(|scope| {
        let others = [1, 2].map(|index| {
            let words = &words;
            let other = scope.spawn(move || {
                let own = lock_pi(&words[index]);
                sleep_ms(100);
                let next = lock_pi(&words[index - 1]);
                (own, next, unlock_pi(&words[index - 1]), unlock_pi(&words[index]))
            });
            sleep_ms(20);
            other
        });
        sleep_ms(400);
        t.call("close the circle", lock_pi(&words[2]));
        t.call("a shorter one", lock_pi(&words[1]));
        t.call("unlock", unlock_pi(&words[0]));
        for other in others {
            t.note("another", other.join().ok());
        }
    });
    t.note("at the end", words.map(|word| word.load(Ordering::SeqCst)));
    Ok(())
}

fn requeue_to_lock(t: &mut Transcript) -> Outcome {
    let (word, lock) = (AtomicU32::new(0), AtomicU32::new(0));
    let (a, b) = (word.as_ptr() as usize, lock.as_ptr() as usize);
    let wait = || {
        let result = sys!(SYS_futex, a, WAIT_REQUEUE_PI | PRIVATE, 0, NULL, b, 0);
        let owns = lock.load(Ordering::SeqCst) & libc::FUTEX_TID_MASK == sys!(SYS_gettid) as u32;
        (result, owns, unlock_pi(&lock))
    };
    let more = |count: usize| sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 1, count, b, 0);
    std::thread::scope(|scope| {
        let waiters = [(), (), (), ()].map(|()| scope.spawn(wait));
        sleep_ms(300);
        t.call("a plain wake", sys!(SYS_futex, a, libc::FUTEX_WAKE | PRIVATE, 1, NULL));
        t.call("a plain requeue", sys!(SYS_futex, a, libc::FUTEX_REQUEUE | PRIVATE, 1, 1usize, b, 0));
        t.call("the lock is free: one", more(0));
        sleep_ms(200);
        t.call("lock", lock_pi(&lock));
        t.call("the lock is taken: one and one", more(1));
        let value = lock.load(Ordering::SeqCst);
        t.note("waiters bit", value & libc::FUTEX_WAITERS != 0);
        t.call("the rest", more(100));
        t.call("none left", more(100));
        t.call("unlock", unlock_pi(&lock));
        t.note("waiters", waiters.map(|waiter| waiter.join().ok()));
    });
    t.note("at the end", lock.load(Ordering::SeqCst));
    Ok(())
}

fn requeue_to_lock_errors(t: &mut Transcript) -> Outcome {
    let (word, lock) = (AtomicU32::new(0), AtomicU32::new(0));
    let (a, b) = (word.as_ptr() as usize, lock.as_ptr() as usize);
    let past = timespec(1);
    t.call("wait, wrong value", sys!(SYS_futex, a, WAIT_REQUEUE_PI | PRIVATE, 7, NULL, b, 0));
    t.call("wait, the same word", sys!(SYS_futex, a, WAIT_REQUEUE_PI | PRIVATE, 0, NULL, a, 0));
    t.call("wait, over", sys!(SYS_futex, a, WAIT_REQUEUE_PI | PRIVATE, 0, &raw const past, b, 0));
    t.call("wait, null lock", sys!(SYS_futex, a, WAIT_REQUEUE_PI | PRIVATE, 0, &raw const past, NULL, 0));
    t.call("requeue, two wakes", sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 2, 1usize, b, 0));
    t.call("requeue, wrong value", sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 1, 1usize, b, 9));
    t.call("requeue, the same word", sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 1, 1usize, a, 0));
    t.call("requeue, nobody", sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 1, 1usize, b, 0));
    with_waiters(&word, 1, u32::MAX, || {
        t.call("requeue, a plain waiter", sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 1, 1usize, b, 0));
        t.call("wake it", wake(&word, 1));
    });
    t.call("lock", lock_pi(&lock));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut soon = timespec(0);
            // SAFETY: writes the time.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut soon) };
            soon.tv_sec += 1;
            let result = sys!(SYS_futex, a, WAIT_REQUEUE_PI | PRIVATE, 0, &raw const soon, b, 0);
            (result, std::io::Error::last_os_error().to_string())
        });
        sleep_ms(300);
        t.call("requeue", sys!(SYS_futex, a, CMP_REQUEUE_PI | PRIVATE, 1, 1usize, b, 0));
        t.note("out of time at the lock", waiter.join().ok());
    });
    t.call("unlock", unlock_pi(&lock));
    t.note("at the end", lock.load(Ordering::SeqCst));
    Ok(())
}
