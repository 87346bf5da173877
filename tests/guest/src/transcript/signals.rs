//! Signals: the errors of the calls, dispositions across fork and exec, queues and their limit, sigaltstack(2).

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{in_child, sleep_ms};
use std::sync::atomic::{AtomicU32, Ordering};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("signals_errors", errors),
    ("signals_action_round_trip", round_trip),
    ("signals_queue_limit", queue_limit),
    ("signals_order", order),
    ("signals_alternate_stack_errors", stack),
    ("signals_default_actions", defaults),
    ("signals_wait", waits),
    ("signals_masks_while_handling", masks),
    ("signals_nodefer_and_resethand", flags),
];

const NULL: usize = 0;

fn errors(t: &mut Transcript) -> Outcome {
    let action = [1usize, 0, 0, 0];
    for signal in [0, 9, 19, 65, -1] {
        t.call(&format!("action of {signal}"), sys!(SYS_rt_sigaction, signal, action.as_ptr(), NULL, 8usize));
        t.call(&format!("ask about {signal}"), sys!(SYS_rt_sigaction, signal, NULL, NULL, 8usize));
    }
    t.call("action, size 4", sys!(SYS_rt_sigaction, 10, action.as_ptr(), NULL, 4usize));
    t.call("mask, unknown how", sys!(SYS_rt_sigprocmask, 9, [0u64].as_ptr(), NULL, 8usize));
    t.call("mask, unknown how without set", sys!(SYS_rt_sigprocmask, 9, NULL, NULL, 8usize));
    t.call("mask, size 16", sys!(SYS_rt_sigprocmask, 0, [0u64].as_ptr(), NULL, 16usize));
    t.call("block all", sys!(SYS_rt_sigprocmask, 0, [u64::MAX].as_ptr(), NULL, 8usize));
    let mut mask = [0u64];
    t.call("get", sys!(SYS_rt_sigprocmask, 0, NULL, mask.as_mut_ptr(), 8usize));
    t.note("all but kill and stop", format!("{:x}", mask[0]));
    t.call("pending, size 9", sys!(SYS_rt_sigpending, mask.as_mut_ptr(), 9usize));
    t.call("suspend, size 4", sys!(SYS_rt_sigsuspend, mask.as_ptr(), 4usize));
    let bad = [0i64, 2_000_000_000];
    t.call("timed wait, bad time", sys!(SYS_rt_sigtimedwait, mask.as_ptr(), NULL, bad.as_ptr(), 8usize));
    let zero = [0i64, 0];
    t.call("timed wait, none", sys!(SYS_rt_sigtimedwait, mask.as_ptr(), NULL, zero.as_ptr(), 8usize));
    Ok(())
}

fn round_trip(t: &mut Transcript) -> Outcome {
    let action =
        [0x1234usize, 0x0400_0000 | 0x4 | 0x8 | 0x1000_0000 | 0x4000_0000 | 0x800, 0x5678, usize::MAX];
    let mut old = [0usize; 4];
    t.call("set", sys!(SYS_rt_sigaction, 10, action.as_ptr(), old.as_mut_ptr(), 8usize));
    t.note("before", old);
    t.call("get", sys!(SYS_rt_sigaction, 10, NULL, old.as_mut_ptr(), 8usize));
    t.note("then", old.map(|word| format!("{word:x}")));
    Ok(())
}

fn send(signal: i32, value: usize) -> i64 {
    // SAFETY: one siginfo of the right size.
    let mut info: [usize; 16] = [0; 16];
    info[0] = signal as usize;
    info[1] = (-1i32 as u32) as usize; // SI_QUEUE
    info[2] = std::process::id() as usize;
    info[3] = value;
    sys!(SYS_rt_sigqueueinfo, std::process::id(), signal, info.as_ptr())
}

fn queue_limit(t: &mut Transcript) -> Outcome {
    sys!(SYS_rt_sigprocmask, 0, [u64::MAX].as_ptr(), NULL, 8usize);
    sys!(SYS_setresuid, 4321, 4321, 4321);
    sys!(SYS_prlimit64, 0, libc::RLIMIT_SIGPENDING, [10u64, 10].as_ptr(), NULL);
    let sent = (0..30).filter(|value| send(40, *value) == 0).count();
    t.note("queued", sent);
    t.call("one more", send(40, 0));
    t.call("a standard one by kill", sys!(SYS_kill, std::process::id(), 12));
    t.call("a standard one queued", send(10, 0));
    let zero = [0i64, 0];
    let mut got = Vec::new();
    loop {
        let mut info = [0usize; 16];
        let signal = sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), info.as_mut_ptr(), zero.as_ptr(), 8usize);
        if signal < 0 {
            break;
        }
        got.push((signal, info[1] as u32 as i32, if signal == 40 { info[3] } else { 0 }));
    }
    t.note("taken", got);
    t.call("room again", send(40, 0));
    Ok(())
}

fn order(t: &mut Transcript) -> Outcome {
    sys!(SYS_rt_sigprocmask, 0, [u64::MAX].as_ptr(), NULL, 8usize);
    for (signal, value) in [(50, 1), (34, 2), (12, 3), (50, 4), (10, 5), (34, 6), (15, 7), (10, 8)] {
        send(signal, value);
    }
    sys!(SYS_tgkill, std::process::id(), sys!(SYS_gettid), 14);
    let mut pending = [0u64];
    sys!(SYS_rt_sigpending, pending.as_mut_ptr(), 8usize);
    t.note("pending", format!("{:x}", pending[0]));
    let zero = [0i64, 0];
    for _ in 0..10 {
        let mut info = [0usize; 16];
        let signal = sys!(SYS_rt_sigtimedwait, [u64::MAX].as_ptr(), info.as_mut_ptr(), zero.as_ptr(), 8usize);
        t.call("next", signal);
        t.note("value", if signal > 0 && signal != 14 { info[3] } else { 0 });
    }
    Ok(())
}

fn stack(t: &mut Transcript) -> Outcome {
    let mut old = [0usize; 3];
    // The language's runtime has made one.
    t.call("disable", sys!(SYS_sigaltstack, [0usize, 2, 0].as_ptr(), NULL));
    t.call("ask", sys!(SYS_sigaltstack, NULL, old.as_mut_ptr()));
    t.note("none", old);
    t.call("too small", sys!(SYS_sigaltstack, [0x10000usize, 0, 100].as_ptr(), NULL));
    t.call("unknown flag", sys!(SYS_sigaltstack, [0x10000usize, 8, 100_000].as_ptr(), NULL));
    t.call("on-stack flag", sys!(SYS_sigaltstack, [0x10000usize, 1, 100_000].as_ptr(), NULL));
    t.call("autodisarm", sys!(SYS_sigaltstack, [0x10000usize, 1 << 31, 100_000].as_ptr(), NULL));
    t.call("ask", sys!(SYS_sigaltstack, NULL, old.as_mut_ptr()));
    t.note("set", old.map(|word| format!("{word:x}")));
    t.call("disable", sys!(SYS_sigaltstack, [0x10000usize, 2, 5].as_ptr(), NULL));
    t.call("ask", sys!(SYS_sigaltstack, NULL, old.as_mut_ptr()));
    t.note("disabled", old);
    t.call("null", sys!(SYS_sigaltstack, 0x1000usize, NULL));
    Ok(())
}

fn defaults(t: &mut Transcript) -> Outcome {
    for signal in (1..=64).filter(|signal| ![32, 33].contains(signal)) {
        let child = crate::sys::fork(|| {
            sys!(SYS_prlimit64, 0, libc::RLIMIT_CORE, [0u64, 0].as_ptr(), NULL);
            sys!(SYS_kill, sys!(SYS_getpid), signal);
            0
        })?;
        let mut status = 0;
        // SAFETY: waitpid writes one int; numbers.
        unsafe {
            libc::waitpid(child, &raw mut status, libc::WUNTRACED);
            libc::kill(child, libc::SIGKILL);
            if libc::WIFSTOPPED(status) {
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
        }
        t.note(&format!("signal {signal}"), format!("{status:#x}"));
    }
    Ok(())
}

static HANDLED: AtomicU32 = AtomicU32::new(0);
static MASK_INSIDE: AtomicU32 = AtomicU32::new(0);

extern "C" fn handler(_: i32) {
    let depth = HANDLED.fetch_add(1, Ordering::SeqCst);
    let mut mask = [0u64];
    sys!(SYS_rt_sigprocmask, 0, NULL, mask.as_mut_ptr(), 8usize);
    MASK_INSIDE.store(mask[0] as u32, Ordering::SeqCst);
    if depth == 0 {
        sys!(SYS_kill, sys!(SYS_getpid), 10);
    }
}

fn set(signal: i32, flags: i32, mask: u64) {
    // SAFETY: a handler that makes two system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(i32) as usize;
        action.sa_flags = flags;
        *(&raw mut action.sa_mask).cast::<u64>() = mask;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

fn waits(t: &mut Transcript) -> Outcome {
    sys!(SYS_rt_sigprocmask, 0, [1u64 << 9].as_ptr(), NULL, 8usize);
    let parent = std::process::id();
    let child = crate::sys::fork(|| {
        sleep_ms(200);
        sys!(SYS_kill, parent, 10);
        0
    })?;
    let mut info = [0u32; 32];
    let long = [5i64, 0];
    t.call("wait", sys!(SYS_rt_sigtimedwait, [1u64 << 9].as_ptr(), info.as_mut_ptr(), long.as_ptr(), 8usize));
    t.note("from the child, by kill", (info[3] == child as u32, info[2]));
    crate::sys::wait(child)?;
    set(12, 0, 0);
    let child = crate::sys::fork(|| {
        sleep_ms(200);
        sys!(SYS_kill, parent, 12);
        0
    })?;
    t.call("another signal", sys!(SYS_rt_sigtimedwait, [1u64 << 9].as_ptr(), NULL, long.as_ptr(), 8usize));
    crate::sys::wait(child)?;
    for (what, flags) in [("read without restart", 0), ("read with restart", libc::SA_RESTART)] {
        set(12, flags, 0);
        let (reading, writing) = crate::sys::pipe(0)?;
        let child = crate::sys::fork(|| {
            sleep_ms(200);
            sys!(SYS_kill, parent, 12);
            sleep_ms(200);
            crate::sys::write(writing, b"x").is_err().into()
        })?;
        t.call(what, sys!(SYS_read, reading, [0u8; 4].as_mut_ptr(), 4usize));
        crate::sys::wait(child)?;
    }
    for (what, flags) in [("nanosleep", 0), ("nanosleep with restart", libc::SA_RESTART)] {
        set(12, flags, 0);
        let child = crate::sys::fork(|| {
            sleep_ms(200);
            sys!(SYS_kill, parent, 12);
            0
        })?;
        let mut rest = [0i64; 2];
        t.call(what, sys!(SYS_nanosleep, long.as_ptr(), rest.as_mut_ptr()));
        t.note("about the rest", rest[0] == 4);
        crate::sys::wait(child)?;
    }
    let child = crate::sys::fork(|| {
        sleep_ms(200);
        sys!(SYS_kill, parent, 12);
        0
    })?;
    t.call("pause", sys!(SYS_pause));
    crate::sys::wait(child)?;
    Ok(())
}

fn masks(t: &mut Transcript) -> Outcome {
    set(10, 0, 1 << 11 | 1 << 8);
    sys!(SYS_kill, sys!(SYS_getpid), 10);
    t.note("handled", HANDLED.load(Ordering::SeqCst));
    t.note("mask inside", format!("{:x}", MASK_INSIDE.load(Ordering::SeqCst)));
    let mut mask = [0u64];
    sys!(SYS_rt_sigprocmask, 0, NULL, mask.as_mut_ptr(), 8usize);
    t.note("mask after", mask[0]);
    Ok(())
}

fn flags(t: &mut Transcript) -> Outcome {
    set(10, libc::SA_NODEFER, 0);
    sys!(SYS_kill, sys!(SYS_getpid), 10);
    t.note("handled", HANDLED.load(Ordering::SeqCst));
    t.note("mask inside", MASK_INSIDE.load(Ordering::SeqCst));
    let status = in_child(|| {
        set(12, libc::SA_RESETHAND, 0);
        sys!(SYS_kill, sys!(SYS_getpid), 12);
        let mut action = [0usize; 4];
        sys!(SYS_rt_sigaction, 12, NULL, action.as_mut_ptr(), 8usize);
        i32::from(action[0] == 0)
    })?;
    t.note("reset after the first", status);
    Ok(())
}
