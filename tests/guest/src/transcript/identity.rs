//! Who a process is: user and group numbers, capabilities, prctl(2), personality(2), umask, host name.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{in_child, read, write};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("identity_users", users),
    ("identity_groups", groups),
    ("identity_capabilities", capabilities),
    ("identity_capabilities_across_setuid", setuid),
    ("identity_no_new_privileges", no_new_privileges),
    ("identity_no_new_privileges_exec", no_new_privileges_exec),
    ("identity_prctl", prctl),
    ("identity_prctl_more", prctl_more),
    ("identity_arch_prctl", arch_prctl),
    ("identity_names", names),
];

const NULL: usize = 0;

fn three(t: &mut Transcript, what: &str) {
    let (mut r, mut e, mut s) = (0u32, 0u32, 0u32);
    sys!(SYS_getresuid, &raw mut r, &raw mut e, &raw mut s);
    let filesystem = sys!(SYS_setfsuid, -1);
    t.note(what, (r, e, s, filesystem));
}

/// Runs `body` in a child and appends what it noted.
fn child(t: &mut Transcript, body: impl FnOnce(&mut Transcript)) -> Outcome {
    let (reading, writing) = crate::sys::pipe(0)?;
    in_child(|| {
        let mut inner = Transcript::default();
        body(&mut inner);
        let _ = write(writing, inner.text().as_bytes());
        0
    })?;
    crate::sys::close(writing);
    t.append(&String::from_utf8_lossy(&read(reading, 60_000)?));
    crate::sys::close(reading);
    Ok(())
}

fn users(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        t.call("setresuid 1 2 3", sys!(SYS_setresuid, 1, 2, 3));
        three(t, "then");
        t.call("setresuid 3 1 2", sys!(SYS_setresuid, 3, 1, 2));
        t.call("setresuid 4 -1 -1", sys!(SYS_setresuid, 4, -1, -1));
        t.call("setuid 3", sys!(SYS_setuid, 3));
        three(t, "then");
        t.call("setuid 9", sys!(SYS_setuid, 9));
        t.call("setreuid 2 -1", sys!(SYS_setreuid, 2, -1));
        three(t, "then");
    })?;
    child(t, |t| {
        t.call("root: setreuid 5 6", sys!(SYS_setreuid, 5, 6));
        three(t, "then");
    })?;
    child(t, |t| {
        t.call("root: setreuid -1 6", sys!(SYS_setreuid, -1, 6));
        three(t, "then");
        t.call("back", sys!(SYS_setuid, 0));
        three(t, "then");
        t.call("setfsuid 6", sys!(SYS_setfsuid, 6));
        t.call("setfsuid 77", sys!(SYS_setfsuid, 77));
        three(t, "then");
    })?;
    child(t, |t| {
        t.call("root: setuid 1000", sys!(SYS_setuid, 1000));
        three(t, "then");
        t.call("setuid 0", sys!(SYS_setuid, 0));
        t.call("kill init", sys!(SYS_kill, 1, 0));
        t.call("sethostname", sys!(SYS_sethostname, c"x".as_ptr(), 1usize));
        t.call("chroot", sys!(SYS_chroot, c"/".as_ptr()));
        t.call("mount", sys!(SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, NULL));
        t.call("reboot", sys!(SYS_reboot, 0xfee1dead_u32, 672274793, 0, NULL));
        t.call("settimeofday", sys!(SYS_settimeofday, [1i64, 1].as_ptr(), NULL));
        t.call("chown", sys!(SYS_chown, c"/tmp".as_ptr(), 1000, 1000));
        t.call("mknod", sys!(SYS_mknod, c"/tmp/nod".as_ptr(), 0o20644, 0x103));
        t.call("setpriority up", sys!(SYS_setpriority, 0, 0, -5));
    })
}

fn groups(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        let list = [5u32, 3, 9, 3];
        t.call("setgroups", sys!(SYS_setgroups, 4usize, list.as_ptr()));
        let mut back = [0u32; 8];
        t.call("getgroups, asked how many", sys!(SYS_getgroups, 0, NULL));
        t.call("getgroups", sys!(SYS_getgroups, 8, back.as_mut_ptr()));
        t.note("groups", back);
        t.call("getgroups, too small", sys!(SYS_getgroups, 2, back.as_mut_ptr()));
        t.call("getgroups, negative", sys!(SYS_getgroups, -1, back.as_mut_ptr()));
        t.call("setgroups, too many", sys!(SYS_setgroups, 70_000usize, list.as_ptr()));
        t.call("setresgid 1 2 3", sys!(SYS_setresgid, 1, 2, 3));
        t.call("setregid 3 1", sys!(SYS_setregid, 3, 1));
        t.call("getgid", sys!(SYS_getgid));
        t.call("getegid", sys!(SYS_getegid));
        t.call("setuid 1000", sys!(SYS_setuid, 1000));
        t.call("setgroups", sys!(SYS_setgroups, 0usize, NULL));
        t.call("setgid 77", sys!(SYS_setgid, 77));
    })
}

fn caps(t: &mut Transcript, what: &str) {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    let result = sys!(SYS_capget, header.as_ptr(), data.as_mut_ptr());
    let ambient = (0..41).filter(|number| sys!(SYS_prctl, 47, 1, *number, 0, 0) == 1).count();
    let set = |part: usize| u64::from(data[part]) | u64::from(data[part + 3]) << 32;
    t.note(
        what,
        (
            result,
            format!("e {:x} p {:x} i {:x} ambient {ambient}", set(0), set(1), set(2)),
            sys!(SYS_prctl, 27, 0, 0, 0, 0),
        ),
    );
}

fn capabilities(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        caps(t, "at first");
        let mut header = [0x1998_0330u32, 0];
        let mut data = [0u32; 6];
        t.call("version 1", sys!(SYS_capget, header.as_ptr(), data.as_mut_ptr()));
        header = [7, 0];
        t.call("unknown version", sys!(SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()));
        t.note("tells the version", header[0]);
        header = [0x2008_0522, 99_999_999];
        t.call("of nobody", sys!(SYS_capget, header.as_ptr(), data.as_mut_ptr()));
        header[1] = 0;
        t.call("prctl CAPBSET_READ 0", sys!(SYS_prctl, 23, 0, 0, 0, 0));
        t.call("prctl CAPBSET_READ 99", sys!(SYS_prctl, 23, 99, 0, 0, 0));
        t.call("prctl CAPBSET_DROP 3", sys!(SYS_prctl, 24, 3, 0, 0, 0));
        t.call("prctl CAPBSET_READ 3", sys!(SYS_prctl, 23, 3, 0, 0, 0));
        // effective: chown and kill; permitted: these and net_admin; inheritable: kill
        data = [0x21, 0x1021, 0x20, 0, 0, 0];
        t.call("capset", sys!(SYS_capset, header.as_ptr(), data.as_ptr()));
        caps(t, "then");
        t.call("ambient raise kill", sys!(SYS_prctl, 47, 2, 5, 0, 0));
        t.call("ambient raise chown", sys!(SYS_prctl, 47, 2, 0, 0, 0));
        caps(t, "then");
        data = [0x21, 0x3021, 0x20, 0, 0, 0];
        t.call("more permitted", sys!(SYS_capset, header.as_ptr(), data.as_ptr()));
        data = [0x1023, 0x1021, 0x20, 0, 0, 0];
        t.call("effective without permitted", sys!(SYS_capset, header.as_ptr(), data.as_ptr()));
        t.call("CAPBSET_DROP without setpcap", sys!(SYS_prctl, 24, 4, 0, 0, 0));
        t.call("sethostname", sys!(SYS_sethostname, c"x".as_ptr(), 1usize));
        header[1] = 1;
        t.call("another's", sys!(SYS_capset, header.as_ptr(), data.as_ptr()));
    })
}

fn setuid(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        t.call("seteuid 1000", sys!(SYS_setresuid, -1, 1000, -1));
        caps(t, "then");
        t.call("seteuid 0", sys!(SYS_setresuid, -1, 0, -1));
        caps(t, "then");
        t.call("setresuid 1000", sys!(SYS_setresuid, 1000, 1000, 1000));
        caps(t, "then");
    })?;
    child(t, |t| {
        t.call("PR_SET_KEEPCAPS", sys!(SYS_prctl, 8, 1, 0, 0, 0));
        t.call("setresuid 1000", sys!(SYS_setresuid, 1000, 1000, 1000));
        caps(t, "then");
    })?;
    child(t, |t| {
        t.call("securebits no_setuid_fixup", sys!(SYS_prctl, 28, 4, 0, 0, 0));
        t.call("setresuid 1000", sys!(SYS_setresuid, 1000, 1000, 1000));
        caps(t, "then");
    })?;
    child(t, |t| {
        t.call("securebits all locked", sys!(SYS_prctl, 28, 0xff, 0, 0, 0));
        t.call("again, fewer", sys!(SYS_prctl, 28, 0, 0, 0, 0));
        t.call("unknown bits", sys!(SYS_prctl, 28, 1 << 20, 0, 0, 0));
        caps(t, "then");
    })
}

/// What root has after exec if it had little before, with and without `PR_SET_NO_NEW_PRIVS`.
fn no_new_privileges_exec(t: &mut Transcript) -> Outcome {
    let after_exec = |t: &mut Transcript| {
        let script = "grep -E '^(Uid|CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status";
        match std::process::Command::new("/bin/sh").args(["-c", script]).output() {
            Ok(output) => t.append(&String::from_utf8_lossy(&output.stdout)),
            Err(error) => t.note("exec", error),
        }
    };
    for (what, is_set, keeps, real) in [
        ("nothing", false, u32::MAX, 0),
        ("no new privileges", true, u32::MAX, 0),
        ("few capabilities", false, 1 << 5 | 1 << 7, 0),
        ("both", true, 1 << 5 | 1 << 7, 0),
        ("another real user", false, u32::MAX, 1000),
        ("another real user and no new privileges", true, u32::MAX, 1000),
    ] {
        child(t, |t| {
            t.note("before exec", what);
            if is_set {
                t.call("set", sys!(SYS_prctl, 38, 1, 0, 0, 0));
            }
            if keeps != u32::MAX {
                let sets = [keeps, keeps, 0, 0, 0, 0];
                t.call("capset", sys!(SYS_capset, [0x2008_0522u32, 0].as_ptr(), sets.as_ptr()));
            }
            t.call("setresuid", sys!(SYS_setresuid, real, 0, 0));
            after_exec(t);
        })?;
    }
    Ok(())
}

fn no_new_privileges(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        t.call("get", sys!(SYS_prctl, 39, 0, 0, 0, 0));
        t.call("set 0", sys!(SYS_prctl, 38, 0, 0, 0, 0));
        t.call("set with rubbish", sys!(SYS_prctl, 38, 1, 1, 0, 0));
        t.call("set", sys!(SYS_prctl, 38, 1, 0, 0, 0));
        t.call("get", sys!(SYS_prctl, 39, 0, 0, 0, 0));
    })
}

fn prctl(t: &mut Transcript) -> Outcome {
    let mut name = [0u8; 16];
    t.call("set name", sys!(SYS_prctl, 15, c"a-name-of-many-letters".as_ptr(), 0, 0, 0));
    t.call("get name", sys!(SYS_prctl, 16, name.as_mut_ptr(), 0, 0, 0));
    t.note("name", String::from_utf8_lossy(&name));
    t.call("get dumpable", sys!(SYS_prctl, 3, 0, 0, 0, 0));
    t.call("set dumpable 2", sys!(SYS_prctl, 4, 2, 0, 0, 0));
    t.call("set dumpable 0", sys!(SYS_prctl, 4, 0, 0, 0, 0));
    t.call("get dumpable", sys!(SYS_prctl, 3, 0, 0, 0, 0));
    t.call("set death signal 9", sys!(SYS_prctl, 1, 9, 0, 0, 0));
    t.call("set death signal 99", sys!(SYS_prctl, 1, 99, 0, 0, 0));
    let mut number = 0u32;
    t.call("get death signal", sys!(SYS_prctl, 2, &raw mut number, 0, 0, 0));
    t.note("signal", number);
    t.call("child subreaper", sys!(SYS_prctl, 36, 1, 0, 0, 0));
    t.call("get it", sys!(SYS_prctl, 37, &raw mut number, 0, 0, 0));
    t.note("subreaper", number);
    t.call("timer slack", sys!(SYS_prctl, 30, 0, 0, 0, 0));
    t.call("set timer slack", sys!(SYS_prctl, 29, 12_345, 0, 0, 0));
    t.call("timer slack", sys!(SYS_prctl, 30, 0, 0, 0, 0));
    t.call("seccomp", sys!(SYS_prctl, 21, 0, 0, 0, 0));
    t.call("no transparent huge pages", sys!(SYS_prctl, 42, 0, 0, 0, 0));
    t.call("unknown", sys!(SYS_prctl, 9999, 0, 0, 0, 0));
    t.call("personality", sys!(SYS_personality, 0xffff_ffffu32));
    t.call("set personality", sys!(SYS_personality, 0x0040000));
    t.call("personality", sys!(SYS_personality, 0xffff_ffffu32));
    Ok(())
}

fn prctl_more(t: &mut Transcript) -> Outcome {
    let call =
        |operation: i32, a: usize, b: usize, c: usize, d: usize| sys!(SYS_prctl, operation, a, b, c, d);
    let mut word = [0u64; 64];
    let at = word.as_mut_ptr() as usize;
    t.call("set no huge pages", call(41, 1, 0, 0, 0));
    t.call("get", call(42, 0, 0, 0, 0));
    t.call("get in a child", i64::from(crate::sys::in_child(|| sys!(SYS_prctl, 42, 0, 0, 0, 0) as i32)?));
    t.call("get, with an argument", call(42, 1, 0, 0, 0));
    t.call("memory failures", call(34, 0, 0, 0, 0));
    t.call("kill early", call(33, 1, 1, 0, 0));
    t.call("memory failures", call(34, 0, 0, 0, 0));
    t.call("kill in another way", call(33, 1, 9, 0, 0));
    t.call("kill, unknown", call(33, 7, 0, 0, 0));
    t.call("kill, by default", call(33, 0, 0, 0, 0));
    t.call("memory failures", call(34, 0, 0, 0, 0));
    t.call("counter", call(25, at, 0, 0, 0));
    t.note("counter", word[0] as u32);
    t.call("counter allowed", call(26, 1, 0, 0, 0));
    t.call("counter, unknown", call(26, 7, 0, 0, 0));
    t.call("address of the thread's id", call(40, at, 0, 0, 0));
    t.note("there is one", word[0] != 0);
    t.works("auxiliary vector", call(0x4155_5856, at, 512, 0, 0));
    t.note("begins with a known kind", word[0] > 0 && word[0] < 64);
    t.call("auxiliary vector, with an argument", call(0x4155_5856, at, 512, 1, 0));
    t.call("timer slack 0", call(29, 0, 0, 0, 0));
    t.call("timer slack", call(30, 0, 0, 0, 0));
    t.call("timing", call(13, 0, 0, 0, 0));
    t.call("set timing", call(14, 1, 0, 0, 0));
    t.call("unaligned accesses", call(5, at, 0, 0, 0));
    t.call("byte order", call(19, at, 0, 0, 0));
    t.call("seccomp, unknown mode", call(22, 9, 0, 0, 0));
    t.call("parts of the program: size of all", call(35, 15, at, 0, 0));
    t.note("size", word[0] as u32);
    t.call("parts: unknown", call(35, 99, at, 0, 0));
    t.call("parts: an address below all", call(35, 8, 100, 0, 0));
    t.call("parts: with an argument", call(35, 8, at, 1, 0));
    t.call("parts: in the kernel", call(35, 8, usize::MAX, 0, 0));
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("user: parts", call(35, 8, at, 0, 0));
    Ok(())
}

fn arch_prctl(t: &mut Transcript) -> Outcome {
    let mut word = 7u64;
    let at = &raw mut word as usize;
    t.call("CPUID is allowed", sys!(SYS_arch_prctl, 0x1011, 0));
    t.call("forbid CPUID", sys!(SYS_arch_prctl, 0x1012, 0));
    t.call("components", sys!(SYS_arch_prctl, 0x1021, at));
    t.note("x87 and SSE", word & 3);
    t.call("shadow stack", sys!(SYS_arch_prctl, 0x5005, at));
    t.note("parts", word);
    t.call("enable it", sys!(SYS_arch_prctl, 0x5001, 1));
    t.call("unknown", sys!(SYS_arch_prctl, 0x9999, 0));
    t.call("base in the kernel", sys!(SYS_arch_prctl, 0x1002, usize::MAX));
    t.call("base to nowhere", sys!(SYS_arch_prctl, 0x1003, 8));
    Ok(())
}

fn names(t: &mut Transcript) -> Outcome {
    let long = [b'x'; 100];
    t.call("host name too long", sys!(SYS_sethostname, long.as_ptr(), 100usize));
    t.call("host name negative", sys!(SYS_sethostname, long.as_ptr(), -1i64));
    t.call("domain name too long", sys!(SYS_setdomainname, long.as_ptr(), 65usize));
    // SAFETY: plain data that the kernel fills.
    let mut uts: libc::utsname = unsafe { std::mem::zeroed() };
    t.call("uname", sys!(SYS_uname, &raw mut uts));
    let text = |field: &[libc::c_char]| {
        field.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect::<String>()
    };
    t.note("system, machine", (text(&uts.sysname), text(&uts.machine)));
    t.call("umask", sys!(SYS_umask, 0o7777));
    t.call("umask", sys!(SYS_umask, 0o22));
    let mut info = [0u64; 16];
    t.call("sysinfo", sys!(SYS_sysinfo, info.as_mut_ptr()));
    t.call("getrandom", sys!(SYS_getrandom, info.as_mut_ptr(), 64usize, 0));
    t.call("getrandom, bad flag", sys!(SYS_getrandom, info.as_mut_ptr(), 64usize, 64));
    t.call("getrandom, two flags", sys!(SYS_getrandom, info.as_mut_ptr(), 64usize, 6));
    Ok(())
}
