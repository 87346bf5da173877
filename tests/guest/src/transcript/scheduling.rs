//! Scheduling calls: policies, attributes, priorities, affinity.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::in_child;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("scheduling_policies", policies),
    ("scheduling_attributes", attributes),
    ("scheduling_nice", nice),
    ("scheduling_affinity", affinity),
    ("scheduling_io_priority", io_priority),
];

const NULL: usize = 0;

fn policies(t: &mut Transcript) -> Outcome {
    for policy in 0..8 {
        t.call(&format!("greatest of {policy}"), sys!(SYS_sched_get_priority_max, policy));
        t.call(&format!("least of {policy}"), sys!(SYS_sched_get_priority_min, policy));
    }
    for (what, policy, priority) in [
        ("other 0", 0, 0),
        ("other 1", 0, 1),
        ("fifo 0", 1, 0),
        ("fifo 99", 1, 99),
        ("fifo 100", 1, 100),
        ("rr 5", 2, 5),
        ("batch", 3, 0),
        ("idle", 5, 0),
        ("deadline", 6, 0),
        ("unknown", 9, 0),
        ("rr, reset on fork", 2 | 0x4000_0000, 7),
    ] {
        let parameter = [priority];
        t.call(what, sys!(SYS_sched_setscheduler, 0, policy, parameter.as_ptr()));
        let mut now = [0i32];
        t.call("policy", sys!(SYS_sched_getscheduler, 0));
        t.call("getparam", sys!(SYS_sched_getparam, 0, now.as_mut_ptr()));
        t.note("priority", now[0]);
    }
    t.note("policy of a child", in_child(|| sys!(SYS_sched_getscheduler, 0) as i32)?);
    t.call("setparam 3", sys!(SYS_sched_setparam, 0, [3i32].as_ptr()));
    t.call("setparam null", sys!(SYS_sched_setparam, 0, NULL));
    t.call("of nobody", sys!(SYS_sched_getscheduler, 99_999_999));
    t.call("negative", sys!(SYS_sched_getscheduler, -1));
    let mut interval = [0i64; 2];
    t.call("round-robin interval", sys!(SYS_sched_rr_get_interval, 0, interval.as_mut_ptr()));
    t.note("interval", interval);
    sys!(SYS_sched_setscheduler, 0, 0, [0i32].as_ptr());
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("user: fifo", sys!(SYS_sched_setscheduler, 0, 1, [1i32].as_ptr()));
    t.call("user: idle", sys!(SYS_sched_setscheduler, 0, 5, [0i32].as_ptr()));
    t.call("user: other again", sys!(SYS_sched_setscheduler, 0, 0, [0i32].as_ptr()));
    t.call("user: init's", sys!(SYS_sched_setscheduler, 1, 0, [0i32].as_ptr()));
    Ok(())
}

fn attributes(t: &mut Transcript) -> Outcome {
    let mut now = [0u32; 14];
    t.call("get", sys!(SYS_sched_getattr, 0, now.as_mut_ptr(), 56, 0));
    t.note("size, policy, nice", (now[0], now[1], now[4]));
    t.call("get, small", sys!(SYS_sched_getattr, 0, now.as_mut_ptr(), 20, 0));
    t.call("get, flags", sys!(SYS_sched_getattr, 0, now.as_mut_ptr(), 56, 1));
    let set = |size: u32, policy: u32, flags: u32, nice: i32, priority: u32| {
        let mut words = [0u32; 16];
        words[..6].copy_from_slice(&[size, policy, flags, 0, nice as u32, priority]);
        sys!(SYS_sched_setattr, 0, words.as_ptr(), 0)
    };
    t.call("nice 5", set(48, 0, 0, 5, 0));
    t.call("getpriority", sys!(SYS_getpriority, 0, 0));
    t.call("nice 50", set(48, 0, 0, 50, 0));
    t.call("getpriority", sys!(SYS_getpriority, 0, 0));
    t.call("batch", set(48, 3, 0, 0, 0));
    t.call("fifo 9", set(48, 1, 0, 0, 9));
    t.call("size 0", set(0, 0, 0, 0, 0));
    t.call("size 20", set(20, 0, 0, 0, 0));
    t.call("size 5000", set(5000, 0, 0, 0, 0));
    t.call("unknown flag", set(48, 0, 1 << 20, 0, 0));
    t.call("null", sys!(SYS_sched_setattr, 0, NULL, 0));
    Ok(())
}

fn nice(t: &mut Transcript) -> Outcome {
    t.call("get", sys!(SYS_getpriority, 0, 0));
    t.call("unknown kind", sys!(SYS_getpriority, 9, 0));
    t.call("of nobody", sys!(SYS_getpriority, 0, 99_999_999));
    t.call("set -30", sys!(SYS_setpriority, 0, 0, -30));
    t.call("get", sys!(SYS_getpriority, 0, 0));
    t.call("group", sys!(SYS_setpriority, 1, 0, 3));
    t.call("get", sys!(SYS_getpriority, 1, 0));
    t.call("an unknown user's", sys!(SYS_getpriority, 2, 54321));
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("user: up", sys!(SYS_setpriority, 0, 0, 2));
    t.call("user: down", sys!(SYS_setpriority, 0, 0, 10));
    t.call("user: init's", sys!(SYS_setpriority, 0, 1, 10));
    Ok(())
}

fn affinity(t: &mut Transcript) -> Outcome {
    let mut set = [0u64; 16];
    t.call("too small", sys!(SYS_sched_getaffinity, 0, 4usize, set.as_mut_ptr()));
    t.call("odd size", sys!(SYS_sched_getaffinity, 0, 13usize, set.as_mut_ptr()));
    t.works("get", sys!(SYS_sched_getaffinity, 0, 128usize, set.as_mut_ptr()));
    t.call("of nobody", sys!(SYS_sched_getaffinity, 99_999_999, 128usize, set.as_mut_ptr()));
    t.call("to none", sys!(SYS_sched_setaffinity, 0, 8usize, [0u64].as_ptr()));
    t.call("to one that is not there", sys!(SYS_sched_setaffinity, 0, 8usize, [1u64 << 63].as_ptr()));
    t.call(
        "to the first and one that is not there",
        sys!(SYS_sched_setaffinity, 0, 8usize, [1u64 << 63 | 1].as_ptr()),
    );
    sys!(SYS_sched_getaffinity, 0, 128usize, set.as_mut_ptr());
    t.note("then", set[0]);
    t.note(
        "a child's",
        in_child(|| {
            let mut set = [0u64; 16];
            sys!(SYS_sched_getaffinity, 0, 128usize, set.as_mut_ptr());
            set[0] as i32
        })?,
    );
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("user: init's", sys!(SYS_sched_setaffinity, 1, 8usize, [1u64].as_ptr()));
    Ok(())
}

fn io_priority(t: &mut Transcript) -> Outcome {
    let get = |which: i32, who: i32| sys!(SYS_ioprio_get, which, who);
    let set = |which: i32, who: i32, value: i32| sys!(SYS_ioprio_set, which, who, value);
    let own = std::process::id() as i32;
    t.call("none yet", get(1, 0));
    t.call("none yet, the group's", get(2, 0));
    t.call("best effort 3", set(1, 0, 2 << 13 | 3));
    t.call("get", get(1, own));
    t.call("a child's", i64::from(in_child(|| (sys!(SYS_ioprio_get, 1, 0) & 0xff) as i32)?));
    t.call("level 9", set(1, 0, 2 << 13 | 9));
    t.call("get", get(1, 0));
    t.call("none, with a level", set(1, 0, 5));
    t.call("class 5", set(1, 0, 5 << 13));
    t.call("real time 0", set(1, 0, 1 << 13));
    t.call("the group's", get(2, 0));
    t.call("idle", set(2, 0, 3 << 13));
    t.call("get", get(1, 0));
    t.call("none", set(1, 0, 0));
    t.call("get", get(1, 0));
    t.call("unknown kind", get(4, 0));
    t.call("set, unknown kind", set(0, 0, 2 << 13));
    t.call("nobody", get(1, 99_999_999));
    t.call("a user with nothing", get(3, 54_321));
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("user: real time", set(1, 0, 1 << 13));
    t.call("user: best effort", set(1, 0, 2 << 13 | 1));
    t.call("user: init's", set(1, 1, 2 << 13));
    Ok(())
}
