//! Time namespaces (time_namespaces(7)).

use super::{become_user, child, clone, finish, link, put, unshare};
use crate::case::Outcome;
use crate::transcript::{Section, Transcript, sys};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[("timens_offsets", offsets), ("timens_clocks", clocks)];

fn offsets_text() -> Option<String> {
    std::fs::read_to_string("/proc/self/timens_offsets").ok()
}

fn offsets(t: &mut Transcript) -> Outcome {
    t.note("outside", offsets_text());
    t.call("outside", put("/proc/self/timens_offsets", "monotonic 1 0"));
    child(t, |t| {
        t.call("unshare", unshare(0x80));
        t.note("copied", offsets_text());
        for text in [
            "monotonic 100 0",
            "boottime 200 5\n",
            "1 -3 999999999\n7 7 7\n",
            "monotonic 1",
            "monotonic 1 1000000000",
            "monotonic 1 -1",
            "realtime 1 0",
            "0 1 0",
            "monotonic x 0",
            "monotonic -1000000000 0",
            "boottime 9223372036 0",
            "boottime 99999999999 0",
            "",
            "monotonic 86400 0\nboottime 604800 500\n",
        ] {
            t.call(text, put("/proc/self/timens_offsets", text));
            t.note("now", offsets_text());
        }
        match clone(0) {
            0 => {
                t.note("entered", link("time") == link("time_for_children"));
                sys!(SYS_exit, 0);
            }
            pid => finish(t, pid as i32),
        }
        t.call("after a child has entered", put("/proc/self/timens_offsets", "monotonic 1 0"));
    });
    child(t, |t| {
        become_user(1000);
        t.call("a user", unshare(libc::CLONE_NEWUSER | 0x80));
        t.call("sets them", put("/proc/self/timens_offsets", "monotonic 50 0"));
        t.note("set", offsets_text());
    });
    Ok(())
}

/// What a clock shows by the system call, in seconds.
fn seconds(clock: i32) -> i64 {
    let mut time = [0i64; 2];
    sys!(SYS_clock_gettime, clock, time.as_mut_ptr());
    time[0]
}

/// The same through the C library, which asks the vDSO.
fn library_seconds(clock: i32) -> i64 {
    // SAFETY: clock_gettime fills the structure.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(clock, &raw mut time);
        time.tv_sec
    }
}

const DAY: i64 = 86_400;
const WEEK: i64 = 604_800;

fn uptime() -> i64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|word| word.parse().ok()).unwrap_or(-1)
}

fn clocks(t: &mut Transcript) -> Outcome {
    let close = |value: i64, expected: i64| (value - expected).abs() <= 5;
    let (monotonic, boottime, real) = (seconds(1), seconds(7), seconds(0));
    child(t, |t| {
        unshare(0x80);
        put("/proc/self/timens_offsets", "monotonic 86400 0\nboottime 604800 0\n");
        t.note("the caller's stay", (close(seconds(1), monotonic), close(library_seconds(1), monotonic)));
        match clone(0) {
            0 => {
                t.note("monotonic", close(seconds(1), monotonic + DAY));
                t.note("raw", close(seconds(4), monotonic + DAY));
                t.note("coarse", close(seconds(6), monotonic + DAY));
                t.note("boottime", close(seconds(7), boottime + WEEK));
                t.note("real", close(seconds(0), real));
                t.note("monotonic by the library", close(library_seconds(1), monotonic + DAY));
                t.note("boottime by the library", close(library_seconds(7), boottime + WEEK));
                t.note("real by the library", close(library_seconds(0), real));
                t.note("uptime", close(uptime(), boottime + WEEK));
                // SAFETY: plain data that the kernel fills.
                let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
                sys!(SYS_sysinfo, &raw mut info);
                t.note("sysinfo", close(info.uptime, boottime + WEEK));
                let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
                let start: i64 = stat.split_whitespace().nth(21).and_then(|w| w.parse().ok()).unwrap_or(0);
                t.note("start time", close(start / 100, boottime + WEEK));
                sleeps(t, monotonic + DAY);
                sys!(SYS_exit, 0);
            }
            pid => finish(t, pid as i32),
        }
    });
    child(t, |t| {
        unshare(0x80);
        put("/proc/self/timens_offsets", "monotonic 86400 0");
        let fd = super::open("/proc/self/ns/time_for_children", 0);
        t.call("enter", sys!(SYS_setns, fd, 0x80));
        t.note("monotonic", close(seconds(1), monotonic + DAY));
        t.note("monotonic by the library", close(library_seconds(1), monotonic + DAY));
        let outer = super::open("/proc/1/ns/time", 0);
        t.call("back", sys!(SYS_setns, outer, 0));
        t.note("monotonic by the library", close(library_seconds(1), monotonic));
    });
    Ok(())
}

/// Absolute times that have passed, or are near, in the namespace.
fn sleeps(t: &mut Transcript, now: i64) {
    let began = seconds(1);
    t.call("sleep until now", sys!(SYS_clock_nanosleep, 1, 1, [now, 0i64].as_ptr(), 0));
    t.call("sleep until soon", sys!(SYS_clock_nanosleep, 1, 1, [began + 1, 0i64].as_ptr(), 0));
    t.note("in time", seconds(1) - began <= 5);
    let timer = sys!(SYS_timerfd_create, 1, 0);
    t.call("timerfd", sys!(SYS_timerfd_settime, timer, 1, [0i64, 0, seconds(1) + 1, 0].as_ptr(), 0));
    let mut left = [0i64; 4];
    sys!(SYS_timerfd_gettime, timer, left.as_mut_ptr());
    t.note("left", left[2] <= 1);
    t.call("expires", sys!(SYS_read, timer, [0u64; 1].as_mut_ptr(), 8));
    let mut id = 0i32;
    let event = [0u32, 0, libc::SIGALRM as u32, libc::SIGEV_NONE as u32, 0];
    sys!(SYS_timer_create, 1, event.as_ptr(), &raw mut id);
    t.call("timer", sys!(SYS_timer_settime, id, 1, [0i64, 0, seconds(1) + 100, 0].as_ptr(), 0));
    sys!(SYS_timer_gettime, id, left.as_mut_ptr());
    t.note("left", (90..=100).contains(&left[2]));
    t.note("in time", seconds(1) - began <= 10);
}
