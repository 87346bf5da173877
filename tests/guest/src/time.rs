//! Clocks and sleeps.

use crate::case::{Case, Outcome, case};
use crate::sys::{self, errno, ok};
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("time_monotonic", monotonic),
    case("time_sleep_is_long_enough", sleep),
    case("time_absolute_sleep", absolute),
    case("time_sleep_remainder", remainder),
    case("time_cpu_clock", cpu_clock),
    case("time_errors", errors),
];

fn now(clock: i32) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn monotonic() -> Outcome {
    let mut last = now(libc::CLOCK_MONOTONIC);
    for _ in 0..100_000 {
        let next = now(libc::CLOCK_MONOTONIC);
        ensure!(next >= last, "went back by {} ns", last - next);
        last = next;
    }
    // The system call and the vDSO agree.
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    sys::call(libc::SYS_clock_gettime, [libc::CLOCK_MONOTONIC as usize, &raw mut time as usize, 0, 0, 0, 0]);
    let called = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    let after = now(libc::CLOCK_MONOTONIC);
    ensure!(called >= last && called <= after, "{last} {called} {after}");
    ensure!(now(libc::CLOCK_REALTIME) > 1_700_000_000_000_000_000);
    ensure!(now(libc::CLOCK_BOOTTIME) > 0);
    Ok(())
}

fn sleep() -> Outcome {
    for milliseconds in [1, 5, 20] {
        let start = now(libc::CLOCK_MONOTONIC);
        sys::sleep_ms(milliseconds);
        let took = now(libc::CLOCK_MONOTONIC) - start;
        ensure!(took >= milliseconds as i64 * 1_000_000, "{took} ns for {milliseconds} ms");
    }
    Ok(())
}

fn absolute() -> Outcome {
    let until = now(libc::CLOCK_MONOTONIC) + 20_000_000;
    let time = libc::timespec { tv_sec: until / 1_000_000_000, tv_nsec: until % 1_000_000_000 };
    let sleep = |flags| {
        // SAFETY: one timespec.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, flags, &raw const time, std::ptr::null_mut()) }
    };
    ensure_eq!(sleep(libc::TIMER_ABSTIME), 0);
    ensure!(now(libc::CLOCK_MONOTONIC) >= until);
    ensure_eq!(sleep(libc::TIMER_ABSTIME), 0);
    Ok(())
}

extern "C" fn nothing(_: i32) {}

fn remainder() -> Outcome {
    // SAFETY: a handler of the right type; timespecs and timer settings that live throughout.
    unsafe {
        libc::signal(libc::SIGALRM, nothing as *const () as usize);
        let time = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 50_000 },
        };
        ok("setitimer", libc::setitimer(libc::ITIMER_REAL, &raw const time, std::ptr::null_mut()))?;
        let want = libc::timespec { tv_sec: 10, tv_nsec: 0 };
        let mut left = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        ensure_eq!(libc::nanosleep(&raw const want, &raw mut left), -1);
        ensure_eq!(errno(), libc::EINTR);
        ensure!(left.tv_sec == 9, "{} s left", left.tv_sec);
    }
    Ok(())
}

fn cpu_clock() -> Outcome {
    let before = now(libc::CLOCK_THREAD_CPUTIME_ID);
    sys::sleep_ms(200);
    let slept = now(libc::CLOCK_THREAD_CPUTIME_ID) - before;
    ensure!(slept < 100_000_000, "{slept} ns of processor time while sleeping");
    let start = now(libc::CLOCK_MONOTONIC);
    while now(libc::CLOCK_MONOTONIC) - start < 100_000_000 {}
    let busy = now(libc::CLOCK_THREAD_CPUTIME_ID) - before - slept;
    ensure!(busy > 10_000_000, "{busy} ns of processor time while busy");
    Ok(())
}

fn errors() -> Outcome {
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    // SAFETY: timespecs that live throughout.
    unsafe {
        ensure_eq!(libc::nanosleep(&raw const bad, std::ptr::null_mut()), -1);
        ensure_eq!(errno(), libc::EINVAL);
        let mut time = bad;
        ensure_eq!(libc::clock_gettime(99, &raw mut time), -1);
        ensure_eq!(errno(), libc::EINVAL);
    }
    Ok(())
}
