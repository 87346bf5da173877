//! Pid namespaces: numbers, the first process, its end, /proc (pid_namespaces(7)).

use super::{become_user, child, clone, finish, put, unshare};
use crate::case::Outcome;
use crate::sys::{c, errno, read, sleep_ms, write};
use crate::transcript::{Section, Transcript, sys};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("pidns_numbers", numbers),
    ("pidns_init_signals", init_signals),
    ("pidns_end", end),
    ("pidns_orphans", orphans),
    ("pidns_proc", proc),
    ("pidns_nested", nested),
    ("pidns_reboot", reboot),
    ("pidns_settings", settings),
    ("pidns_signal_info", signal_info),
];

const NEWPID: i32 = libc::CLONE_NEWPID;

/// Runs `body` as the first process of a new pid namespace.
fn init(t: &mut Transcript, body: impl FnOnce(&mut Transcript)) {
    match clone(NEWPID) {
        0 => {
            body(t);
            sys!(SYS_exit, 0);
        }
        pid => finish(t, pid as i32),
    }
}

fn status_lines(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("NS")).map(str::to_owned).collect()
}

fn numbers(t: &mut Transcript) -> Outcome {
    init(t, |t| {
        let ids = (sys!(SYS_getpid), sys!(SYS_gettid), sys!(SYS_getppid));
        t.note("init: pid, tid, parent", ids);
        t.note("group, session", (sys!(SYS_getpgid, 0), sys!(SYS_getsid, 0)));
        for _ in 0..2 {
            let pid = clone(0);
            if pid == 0 {
                t.note("child: pid, parent", (sys!(SYS_getpid), sys!(SYS_getppid)));
                sys!(SYS_exit, 0);
            }
            finish(t, pid as i32);
            t.note("its number", pid);
        }
        t.call("setsid", sys!(SYS_setsid));
        t.note("group, session", (sys!(SYS_getpgid, 0), sys!(SYS_getsid, 0)));
        t.call("kill what is outside", sys!(SYS_kill, 100, 0));
        t.call("getpgid of 1", sys!(SYS_getpgid, 1));
        t.call("getsid of 99", sys!(SYS_getsid, 99));
        t.call("pidfd_open of 99", sys!(SYS_pidfd_open, 99, 0));
        t.call("everybody else", sys!(SYS_kill, -1, 0));
        t.call("wait", sys!(SYS_wait4, -1, 0, 0, 0));
    });
    child(t, |t| {
        t.call("unshare", unshare(NEWPID));
        t.note("its own number stays", sys!(SYS_getpid) > 1);
        let pid = clone(0);
        if pid == 0 {
            t.note("first child", sys!(SYS_getpid));
            sleep_ms(300);
            sys!(SYS_exit, 0);
        }
        sleep_ms(100);
        let second = clone(0);
        if second == 0 {
            t.note("second child: pid, parent", (sys!(SYS_getpid), sys!(SYS_getppid)));
            sys!(SYS_exit, 0);
        }
        finish(t, second as i32);
        finish(t, pid as i32);
        t.call("after its init", clone(0));
        t.call("vfork", sys!(SYS_vfork));
    });
    let wanted = |t: &mut Transcript, what: &str, flags: i32, ids: &[i32]| {
        let arguments = [flags as u32 as u64, 0, 0, 0, 17, 0, 0, 0, ids.as_ptr() as u64, ids.len() as u64];
        let pid = sys!(SYS_clone3, arguments.as_ptr(), 80usize);
        if pid == 0 {
            t.note("its number", sys!(SYS_getpid));
            sys!(SYS_exit, 0);
        }
        if pid > 0 {
            finish(t, pid as i32);
        }
        t.works(what, pid);
    };
    wanted(t, "the first must be 1", NEWPID, &[2]);
    wanted(t, "1", NEWPID, &[1]);
    wanted(t, "two levels", NEWPID, &[1, 31999]);
    wanted(t, "three levels", NEWPID, &[1, 31998, 5]);
    wanted(t, "taken", 0, &[1]);
    wanted(t, "0", 0, &[0]);
    child(t, |t| {
        become_user(1000);
        wanted(t, "as a user", 0, &[31997]);
        unshare(libc::CLONE_NEWUSER);
        wanted(t, "in a user namespace", 0, &[31996]);
        wanted(t, "in a pid namespace of it", NEWPID, &[1]);
        wanted(t, "and outside", NEWPID, &[1, 31995]);
    });
    Ok(())
}

extern "C" fn ignore(_: i32) {}

fn init_signals(t: &mut Transcript) -> Outcome {
    init(t, |t| {
        for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
            t.call("to itself", sys!(SYS_kill, 1, signal));
        }
        let pid = clone(0);
        if pid == 0 {
            for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM] {
                t.call("from a child", sys!(SYS_kill, 1, signal));
            }
            sys!(SYS_exit, 0);
        }
        finish(t, pid as i32);
        // SAFETY: a handler that does nothing.
        unsafe { libc::signal(libc::SIGTERM, ignore as *const () as usize) };
        t.call("with a handler", sys!(SYS_kill, 1, libc::SIGTERM));
        t.note("still there", sys!(SYS_getpid));
    });
    for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGKILL] {
        let (ready, tell) = crate::sys::pipe(0)?;
        let pid = clone(NEWPID);
        if pid == 0 {
            let _ = write(tell, b"x");
            sleep_ms(600);
            sys!(SYS_exit, 7);
        }
        let _ = read(ready, 1);
        t.call("from outside", sys!(SYS_kill, pid, signal));
        finish(t, pid as i32);
    }
    let (ready, tell) = crate::sys::pipe(0)?;
    let pid = clone(NEWPID);
    if pid == 0 {
        let _ = write(tell, b"x");
        sleep_ms(300);
        sys!(SYS_exit, 7);
    }
    let _ = read(ready, 1);
    t.call("stop from outside", sys!(SYS_kill, pid, libc::SIGSTOP));
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WUNTRACED) };
    t.note("stopped", status);
    t.call("go on", sys!(SYS_kill, pid, libc::SIGCONT));
    finish(t, pid as i32);
    init(t, |_| {
        // Its own fault ends also the first process.
        // SAFETY: meant to fault.
        unsafe { core::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1) };
    });
    Ok(())
}

fn end(t: &mut Transcript) -> Outcome {
    let (alive, hold) = crate::sys::pipe(0)?;
    let pid = clone(NEWPID);
    if pid == 0 {
        crate::sys::close(alive);
        for _ in 0..5 {
            let pid = clone(0);
            if pid == 0 {
                if clone(0) == 0 {
                    clone(NEWPID);
                }
                loop {
                    sleep_ms(10_000);
                }
            }
        }
        sleep_ms(100);
        sys!(SYS_exit, 3);
    }
    finish(t, pid as i32);
    crate::sys::close(hold);
    t.note("nobody holds the pipe", read(alive, 1)?.len());
    child(t, |t| {
        unshare(NEWPID);
        let first = clone(0);
        if first == 0 {
            sleep_ms(200);
            sys!(SYS_exit, 0);
        }
        let second = clone(0);
        if second == 0 {
            sleep_ms(10_000);
            sys!(SYS_exit, 0);
        }
        sleep_ms(500);
        let mut status = 0;
        // The first waits for the second, which is ours to reap.
        // SAFETY: waitpid writes one int.
        let early = unsafe { libc::waitpid(first as i32, &raw mut status, libc::WNOHANG) };
        t.note("the first has ended", early == first as i32);
        finish(t, second as i32);
        finish(t, first as i32);
        t.call("fork", clone(0));
    });
    // Who comes from outside is killed, too.
    let (ready, tell) = crate::sys::pipe(0)?;
    let pid = clone(NEWPID);
    if pid == 0 {
        let _ = write(tell, b"x");
        sleep_ms(500);
        sys!(SYS_exit, 0);
    }
    let _ = read(ready, 1);
    child(t, |t| {
        let fd = super::open(&format!("/proc/{pid}/ns/pid"), 0);
        t.call("enter", sys!(SYS_setns, fd, 0));
        let guest = clone(0);
        if guest == 0 {
            t.note("guest: pid, parent", (sys!(SYS_getpid), sys!(SYS_getppid)));
            sleep_ms(10_000);
            sys!(SYS_exit, 0);
        }
        finish(t, guest as i32);
    });
    finish(t, pid as i32);
    Ok(())
}

fn orphans(t: &mut Transcript) -> Outcome {
    init(t, |t| {
        let (ready, tell) = crate::sys::pipe(0).unwrap_or((0, 1));
        let middle = clone(0);
        if middle == 0 {
            if clone(0) == 0 {
                while sys!(SYS_getppid) == 2 {
                    sleep_ms(10);
                }
                t.note("orphan: pid, parent", (sys!(SYS_getpid), sys!(SYS_getppid)));
                let _ = write(tell, b"x");
                sys!(SYS_exit, 5);
            }
            sys!(SYS_exit, 0);
        }
        finish(t, middle as i32);
        let _ = read(ready, 1);
        let mut status = 0i32;
        t.call("init reaps it", sys!(SYS_wait4, -1, &raw mut status, 0, 0));
        t.note("status", status);
    });
    // A subreaper outside does not get what is inside.
    child(t, |t| {
        sys!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        init(t, |t| {
            let middle = clone(0);
            if middle == 0 {
                if clone(0) == 0 {
                    sleep_ms(200);
                    t.note("orphan's parent", sys!(SYS_getppid));
                    sys!(SYS_exit, 0);
                }
                sys!(SYS_exit, 0);
            }
            finish(t, middle as i32);
            t.call("init waits for it", sys!(SYS_wait4, -1, 0, 0, 0));
        });
        t.call("outside", sys!(SYS_wait4, -1, 0, 0, 0));
    });
    Ok(())
}

fn processes(root: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.parse::<i32>().is_ok())
        .collect();
    names.sort();
    names
}

fn proc(t: &mut Transcript) -> Outcome {
    let root = crate::sys::folder("pidns-proc")?;
    let place = c(&root);
    child(t, |t| {
        unshare(libc::CLONE_NEWNS);
        sys!(SYS_mount, 0, c"/".as_ptr(), 0, libc::MS_PRIVATE | libc::MS_REC, 0);
        init(t, |t| {
            t.call("mount", sys!(SYS_mount, c"proc".as_ptr(), place.as_ptr(), c"proc".as_ptr(), 0, 0));
            t.note("processes", processes(&root));
            let own = std::fs::read_link(format!("{root}/self")).map(|p| p.display().to_string());
            t.note("self", own.ok());
            let thread = std::fs::read_link(format!("{root}/thread-self")).map(|p| p.display().to_string());
            t.note("thread-self", thread.ok());
            t.note("outer self is a number", std::fs::read_link("/proc/self").is_ok());
            let inside = status_lines(&format!("{root}/self/status"));
            t.note("numbers inside", inside);
            t.note(
                "lines outside",
                status_lines("/proc/self/status").iter().map(|l| l.split('\t').count()).collect::<Vec<_>>(),
            );
            let pid = clone(0);
            if pid == 0 {
                sleep_ms(300);
                sys!(SYS_exit, 0);
            }
            t.note("processes", processes(&root));
            let stat = std::fs::read_to_string(format!("{root}/{pid}/stat")).unwrap_or_default();
            let words: Vec<_> = stat.split_whitespace().collect();
            t.note("pid and parent in stat", (words.first(), words.get(3)));
            finish(t, pid as i32);
            t.note("gone", std::fs::metadata(format!("{root}/{pid}")).is_err());
            t.note(
                "loadavg's last",
                std::fs::read_to_string(format!("{root}/loadavg"))
                    .unwrap_or_default()
                    .split_whitespace()
                    .last(),
            );
        });
        // Mounted there, it still shows that namespace, which is over.
        t.note("processes after the end", processes(&root));
        t.note("self", std::fs::read_link(format!("{root}/self")).map_err(|e| e.raw_os_error()).err());
    });
    Ok(())
}

fn nested(t: &mut Transcript) -> Outcome {
    init(t, |t| {
        t.note("level 1", sys!(SYS_getpid));
        init(t, |t| {
            t.note("level 2", (sys!(SYS_getpid), sys!(SYS_getppid)));
            init(t, |t| {
                t.note("level 3", (sys!(SYS_getpid), sys!(SYS_getppid)));
                t.note(
                    "numbers",
                    status_lines("/proc/self/status")
                        .iter()
                        .map(|l| l.split('\t').count())
                        .collect::<Vec<_>>(),
                );
            });
        });
    });
    fn deeper(depth: i32) -> i32 {
        let pid = clone(NEWPID);
        if pid == 0 {
            let code = deeper(depth + 1);
            sys!(SYS_exit, code);
        }
        if pid < 0 {
            return if errno() == libc::ENOSPC { depth } else { 100 };
        }
        let mut status = 0;
        // SAFETY: waitpid writes one int.
        unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
        status >> 8
    }
    t.note("levels until ENOSPC", deeper(0));
    // An inner one cannot enter the outer one.
    let outer = super::open("/proc/self/ns/pid", 0);
    init(t, |t| {
        t.call("up", sys!(SYS_setns, outer, 0));
        t.call("parent of one's own", sys!(SYS_ioctl, super::open("/proc/self/ns/pid", 0), 0xb702, 0));
    });
    Ok(())
}

fn reboot(t: &mut Transcript) -> Outcome {
    for (what, command) in [
        ("restart", 0x0123_4567u32),
        ("halt", 0xcdef_0123),
        ("power off", 0x4321_fedc),
        ("restart with a word", 0xa1b2_c3d4),
    ] {
        let pid = clone(NEWPID);
        if pid == 0 {
            let other = clone(0);
            if other == 0 {
                sys!(SYS_reboot, 0xfee1_deadu32, 672_274_793, command, c"x".as_ptr());
                sleep_ms(5000);
                sys!(SYS_exit, 0);
            }
            sleep_ms(5000);
            sys!(SYS_exit, 9);
        }
        let mut status = 0;
        // SAFETY: waitpid writes one int.
        unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
        t.note(what, status);
    }
    init(t, |t| {
        t.call("Ctrl-Alt-Del", sys!(SYS_reboot, 0xfee1_deadu32, 672_274_793, 0, 0));
        t.call("nonsense", sys!(SYS_reboot, 0xfee1_deadu32, 672_274_793, 77, 0));
        t.call("magic", sys!(SYS_reboot, 1, 672_274_793, 0, 0));
        become_user(1000);
        t.call("as a user", sys!(SYS_reboot, 0xfee1_deadu32, 672_274_793, 0x0123_4567, 0));
    });
    Ok(())
}

fn settings(t: &mut Transcript) -> Outcome {
    init(t, |t| {
        let last = "/proc/sys/kernel/ns_last_pid";
        t.call("set the last", put(last, "4999"));
        let pid = clone(0);
        if pid == 0 {
            sys!(SYS_exit, 0);
        }
        t.note("the next", pid);
        finish(t, pid as i32);
        t.note("the last", std::fs::read_to_string(last).ok());
        t.call("negative", put(last, "-1"));
        t.call("too large", put(last, "99999999"));
        become_user(1000);
        t.call("as a user", put(last, "100"));
    });
    Ok(())
}

fn signal_info(t: &mut Transcript) -> Outcome {
    let take = || {
        let set = [1u64 << (libc::SIGUSR1 - 1)];
        let mut info = [0i32; 32];
        let taken = sys!(SYS_rt_sigtimedwait, set.as_ptr(), info.as_mut_ptr(), [5i64, 0].as_ptr(), 8);
        if taken < 0 {
            return (-errno(), 0, 0, 0);
        }
        (info[0], info[2], info[4], info[5])
    };
    let block = || {
        sys!(SYS_rt_sigprocmask, 0, [1u64 << (libc::SIGUSR1 - 1)].as_ptr(), 0, 8);
    };
    block();
    let (ready, tell) = crate::sys::pipe(0)?;
    let pid = clone(NEWPID | libc::CLONE_NEWUSER);
    if pid == 0 {
        let _ = write(tell, b"x");
        t.note("from outside: signal, code, pid, user", take());
        let inner = clone(0);
        if inner == 0 {
            sys!(SYS_kill, 1, libc::SIGUSR1);
            sys!(SYS_exit, 0);
        }
        t.note("from a child", take());
        sys!(SYS_exit, 0);
    }
    let _ = read(ready, 1);
    let sent = sys!(SYS_kill, pid, libc::SIGUSR1);
    finish(t, pid as i32);
    t.call("send", sent);
    // From inside to the outside the sender has its outer number.
    let parent = sys!(SYS_getpid);
    let (_, own) = (0, parent);
    let pid = clone(libc::CLONE_NEWUSER);
    if pid == 0 {
        become_user(0);
        sys!(SYS_kill, own, libc::SIGUSR1);
        sys!(SYS_exit, 0);
    }
    let (signal, code, from, user) = take();
    t.note("from a user namespace", (signal, code, i64::from(from) == pid, user));
    finish(t, pid as i32);
    let mut info = [0i32; 32];
    let pid = clone(NEWPID);
    if pid == 0 {
        let inner = clone(0);
        if inner == 0 {
            sys!(SYS_exit, 4);
        }
        sys!(SYS_waitid, 0, 0, info.as_mut_ptr(), libc::WEXITED, 0);
        t.note("waitid inside: pid, status", (info[4] == 0, info[3], info[6]));
        sys!(SYS_exit, 0);
    }
    finish(t, pid as i32);
    Ok(())
}
