//! Clocks and timers: clock_gettime(2) and its errors, timer_create(2), setitimer(2), nanosleep(2), times, usage.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::sleep_ms;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("timers_clocks", clocks),
    ("timers_sleep_errors", sleeps),
    ("timers_posix", posix),
    ("timers_overrun", overrun),
    ("timers_interval", interval),
    ("timers_usage", usage),
    ("timers_descriptors", descriptors),
];

const NULL: usize = 0;

fn clocks(t: &mut Transcript) -> Outcome {
    let mut time = [0i64; 2];
    for clock in 0..13 {
        t.call(&format!("get {clock}"), sys!(SYS_clock_gettime, clock, time.as_mut_ptr()));
        t.call(&format!("resolution {clock}"), sys!(SYS_clock_getres, clock, time.as_mut_ptr()));
        if clock != 5 && clock != 6 {
            t.note("resolution", time);
        }
    }
    t.call("get -1", sys!(SYS_clock_gettime, -1, time.as_mut_ptr()));
    t.call("own process", sys!(SYS_clock_gettime, !0i32 << 3 | 2, time.as_mut_ptr()));
    t.call("own thread", sys!(SYS_clock_gettime, !0i32 << 3 | 6, time.as_mut_ptr()));
    t.call(
        "a process that is not there",
        sys!(SYS_clock_gettime, !99_999_999i32 << 3 | 2, time.as_mut_ptr()),
    );
    t.call("set monotonic", sys!(SYS_clock_settime, 1, [1i64, 0].as_ptr()));
    t.call("set realtime, bad", sys!(SYS_clock_settime, 0, [1i64, -1].as_ptr()));
    t.call("set realtime, negative", sys!(SYS_clock_settime, 0, [-1i64, 0].as_ptr()));
    Ok(())
}

fn sleeps(t: &mut Transcript) -> Outcome {
    t.call("nanosleep, bad", sys!(SYS_nanosleep, [0i64, 1_000_000_000].as_ptr(), NULL));
    t.call("nanosleep, negative", sys!(SYS_nanosleep, [-1i64, 0].as_ptr(), NULL));
    t.call("nanosleep 0", sys!(SYS_nanosleep, [0i64, 0].as_ptr(), NULL));
    for clock in [0, 1, 3, 4, 5, 7, 8, 9, 11, 20] {
        let result = sys!(SYS_clock_nanosleep, clock, 0, [0i64, 1000].as_ptr(), NULL);
        t.call(&format!("sleep by {clock}"), result);
        let result = sys!(SYS_clock_nanosleep, clock, 1, [0i64, 1].as_ptr(), NULL);
        t.call(&format!("until long ago by {clock}"), result);
    }
    t.call("bad flag is ignored", sys!(SYS_clock_nanosleep, 1, 4, [0i64, 1].as_ptr(), NULL));
    Ok(())
}

fn event(notify: i32, signal: i32) -> [u64; 8] {
    [7, (notify as u64) << 32 | signal as u64, 0, 0, 0, 0, 0, 0]
}

fn posix(t: &mut Transcript) -> Outcome {
    let mut id = -1i32;
    for (what, clock, event) in [
        ("signal", 1, event(0, 34)),
        ("none", 1, event(1, 0)),
        ("thread by number, none given", 1, event(4, 34)),
        ("unknown kind", 1, event(9, 34)),
        ("signal 99", 1, event(0, 99)),
        ("clock 77", 77, event(0, 34)),
        ("process time", 2, event(0, 34)),
        ("boot time alarm", 9, event(1, 0)),
    ] {
        t.call(what, sys!(SYS_timer_create, clock, event.as_ptr(), &raw mut id));
    }
    let mut first = -1i32;
    t.call("default event", sys!(SYS_timer_create, 1, NULL, &raw mut first));
    sys!(SYS_rt_sigprocmask, 0, [u64::MAX].as_ptr(), NULL, 8usize);
    let bad = [0i64, 0, 0, 2_000_000_000];
    t.call("settime, bad", sys!(SYS_timer_settime, first, 0, bad.as_ptr(), NULL));
    t.call("settime of nothing", sys!(SYS_timer_settime, 999, 0, bad.as_ptr(), NULL));
    let once = [0i64, 0, 0, 20_000_000];
    t.call("settime", sys!(SYS_timer_settime, first, 0, once.as_ptr(), NULL));
    let mut info = [0u32; 32];
    let long = [5i64, 0];
    t.call(
        "signal",
        sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), info.as_mut_ptr(), long.as_ptr(), 8usize),
    );
    t.note("code, overrun, value is the number", (info[2] as i32, info[5], info[6] as i32 == first));
    let mut now = [1i64; 4];
    t.call("gettime", sys!(SYS_timer_gettime, first, now.as_mut_ptr()));
    t.note("disarmed", now);
    let later = [0i64, 0, 100, 0];
    t.call("settime", sys!(SYS_timer_settime, first, 0, later.as_ptr(), now.as_mut_ptr()));
    let past = [0i64, 0, 0, 1];
    t.call("absolute in the past", sys!(SYS_timer_settime, first, 1, past.as_ptr(), now.as_mut_ptr()));
    t.note("was", now[2]);
    t.call("signal", sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), NULL, long.as_ptr(), 8usize));
    t.call("delete", sys!(SYS_timer_delete, first));
    t.call("delete again", sys!(SYS_timer_delete, first));
    t.note("a child has none", crate::sys::in_child(|| sys!(SYS_timer_delete, id) as i32 & 1)?);
    Ok(())
}

fn overrun(t: &mut Transcript) -> Outcome {
    sys!(SYS_rt_sigprocmask, 0, [u64::MAX].as_ptr(), NULL, 8usize);
    let mut id = -1i32;
    sys!(SYS_timer_create, 1, event(0, 40).as_ptr(), &raw mut id);
    let often = [0i64, 10_000_000, 0, 10_000_000];
    sys!(SYS_timer_settime, id, 0, often.as_ptr(), NULL);
    sleep_ms(300);
    let mut info = [0u32; 32];
    let zero = [0i64, 0];
    t.call(
        "signal",
        sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), info.as_mut_ptr(), zero.as_ptr(), 8usize),
    );
    t.note("overruns told", info[5] >= 10);
    t.note("getoverrun agrees", sys!(SYS_timer_getoverrun, id) == i64::from(info[5]));
    let stop = [0i64; 4];
    t.call("stop", sys!(SYS_timer_settime, id, 0, stop.as_ptr(), NULL));
    sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), NULL, zero.as_ptr(), 8usize);
    sleep_ms(50);
    t.call("quiet", sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), NULL, zero.as_ptr(), 8usize));
    Ok(())
}

fn interval(t: &mut Transcript) -> Outcome {
    sys!(SYS_alarm, 0);
    sys!(SYS_rt_sigprocmask, 0, [u64::MAX].as_ptr(), NULL, 8usize);
    let mut old = [0i64; 4];
    t.call("bad kind", sys!(SYS_setitimer, 5, [0i64; 4].as_ptr(), NULL));
    t.call("bad time", sys!(SYS_setitimer, 0, [0i64, 0, 0, 1_000_000].as_ptr(), NULL));
    t.call("real", sys!(SYS_setitimer, 0, [0i64, 0, 0, 10_000].as_ptr(), old.as_mut_ptr()));
    let long = [5i64, 0];
    t.call("signal", sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), NULL, long.as_ptr(), 8usize));
    t.call("virtual", sys!(SYS_setitimer, 1, [0i64, 0, 0, 20_000].as_ptr(), NULL));
    let mut spins = 0u64;
    let mut pending = [0u64];
    while pending[0] == 0 && spins < 1 << 40 {
        for _ in 0..10_000 {
            spins = std::hint::black_box(spins + 1);
        }
        sys!(SYS_rt_sigpending, pending.as_mut_ptr(), 8usize);
    }
    t.note("virtual signal", format!("{:x}", pending[0]));
    t.call("alarm 100", sys!(SYS_alarm, 100));
    t.call("alarm 0", sys!(SYS_alarm, 0));
    t.call("getitimer", sys!(SYS_getitimer, 0, old.as_mut_ptr()));
    t.note("disarmed", old);
    Ok(())
}

fn usage(t: &mut Transcript) -> Outcome {
    let mut usage = [0i64; 18];
    for who in [0, -1, 1, 5] {
        t.call(&format!("getrusage {who}"), sys!(SYS_getrusage, who, usage.as_mut_ptr()));
    }
    let mut times = [0i64; 4];
    t.works("times", sys!(SYS_times, times.as_mut_ptr()));
    t.works("times null", sys!(SYS_times, NULL));
    let mut value = [0i64; 2];
    t.call("gettimeofday", sys!(SYS_gettimeofday, value.as_mut_ptr(), NULL));
    t.works("time", sys!(SYS_time, NULL));
    t.call("settimeofday, bad", sys!(SYS_settimeofday, [1i64, 1_000_000].as_ptr(), NULL));
    Ok(())
}

fn descriptors(t: &mut Transcript) -> Outcome {
    let fd = sys!(SYS_timerfd_create, 1, 0o4000);
    t.call("create", fd);
    t.call("create, bad clock", sys!(SYS_timerfd_create, 2, 0));
    t.call("create, bad flag", sys!(SYS_timerfd_create, 1, 1));
    let mut count = [0u64];
    t.call("read, not set", sys!(SYS_read, fd, count.as_mut_ptr(), 8usize));
    t.call("set", sys!(SYS_timerfd_settime, fd, 0, [0i64, 10_000_000, 0, 1].as_ptr(), NULL));
    sleep_ms(100);
    t.call("read, short", sys!(SYS_read, fd, count.as_mut_ptr(), 4usize));
    t.call("read", sys!(SYS_read, fd, count.as_mut_ptr(), 8usize));
    t.note("several", count[0] > 5);
    t.call("stop", sys!(SYS_timerfd_settime, fd, 0, [0i64; 4].as_ptr(), NULL));
    t.call("read", sys!(SYS_read, fd, count.as_mut_ptr(), 8usize));
    t.call("write", sys!(SYS_write, fd, count.as_ptr(), 8usize));
    t.call("set, bad flag", sys!(SYS_timerfd_settime, fd, 8, [0i64; 4].as_ptr(), NULL));
    t.call("set of no timer", sys!(SYS_timerfd_settime, 1, 0, [0i64; 4].as_ptr(), NULL));
    let event = sys!(SYS_eventfd2, 5, 0o4000);
    t.call("eventfd", event);
    t.call("eventfd, bad flag", sys!(SYS_eventfd2, 5, 64));
    t.call("write all ones", sys!(SYS_write, event, [u64::MAX].as_ptr(), 8usize));
    t.call("write the most", sys!(SYS_write, event, [u64::MAX - 6].as_ptr(), 8usize));
    t.call("write one more", sys!(SYS_write, event, [1u64].as_ptr(), 8usize));
    t.call("write, short", sys!(SYS_write, event, [1u64].as_ptr(), 4usize));
    t.call("read", sys!(SYS_read, event, count.as_mut_ptr(), 8usize));
    t.note("value", count[0]);
    t.call("read", sys!(SYS_read, event, count.as_mut_ptr(), 8usize));
    let poll = sys!(SYS_epoll_create1, 0);
    t.call("epoll", poll);
    t.call("epoll_create 0", sys!(SYS_epoll_create, 0));
    let entry = |events: u32, data: u64| [events, data as u32, (data >> 32) as u32];
    let control = |operation: i32, fd: i64, events: u32| {
        sys!(SYS_epoll_ctl, poll, operation, fd, entry(events, 9).as_ptr())
    };
    t.call("add", control(1, event, 1 | 4));
    t.call("add again", control(1, event, 1));
    t.call("add itself", control(1, poll, 1));
    t.call("add a file", control(1, sys!(SYS_open, c"/etc/passwd".as_ptr(), 0), 1));
    t.call("modify one that is not there", control(3, fd, 1));
    t.call("delete one that is not there", control(2, fd, 1));
    t.call("unknown operation", control(7, event, 1));
    let mut ready = [0u32; 30];
    t.call("wait", sys!(SYS_epoll_wait, poll, ready.as_mut_ptr(), 10, 0));
    t.note("ready", (ready[0], ready[1]));
    t.call("wait for none", sys!(SYS_epoll_wait, poll, ready.as_mut_ptr(), 0, 0));
    t.call("one-shot", control(3, event, 4 | 1 << 30));
    t.call("wait", sys!(SYS_epoll_wait, poll, ready.as_mut_ptr(), 10, 0));
    t.call("wait again", sys!(SYS_epoll_wait, poll, ready.as_mut_ptr(), 10, 0));
    t.call("edge", control(3, event, 4 | 1 << 31));
    t.call("wait", sys!(SYS_epoll_wait, poll, ready.as_mut_ptr(), 10, 0));
    t.call("wait again", sys!(SYS_epoll_wait, poll, ready.as_mut_ptr(), 10, 0));
    t.call("exclusive by modify", control(3, event, 1 << 28 | 1));
    let outer = sys!(SYS_epoll_create1, 0o2000000);
    t.call("nested", sys!(SYS_epoll_ctl, outer, 1, poll, entry(1, 1).as_ptr()));
    t.call("loop", control(1, outer, 1));
    let signals = sys!(SYS_signalfd4, -1, [1u64 << 9].as_ptr(), 8usize, 0o4000);
    t.call("signalfd", signals);
    t.call("signalfd, bad size", sys!(SYS_signalfd4, -1, [0u64].as_ptr(), 4usize, 0));
    t.call("signalfd of another descriptor", sys!(SYS_signalfd4, event, [0u64].as_ptr(), 8usize, 0));
    sys!(SYS_rt_sigprocmask, 0, [1u64 << 9].as_ptr(), NULL, 8usize);
    let mut info = [0u32; 64];
    t.call("read, none", sys!(SYS_read, signals, info.as_mut_ptr(), 256usize));
    sys!(SYS_kill, sys!(SYS_getpid), 10);
    t.call("read, short", sys!(SYS_read, signals, info.as_mut_ptr(), 100usize));
    t.call("read", sys!(SYS_read, signals, info.as_mut_ptr(), 256usize));
    t.note("signal, code", (info[0], info[2] as i32));
    Ok(())
}
