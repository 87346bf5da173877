//! Processes: clone(2) and clone3(2) flags, wait family, pidfds, groups and sessions, exec, orphans.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{c, errno, fork, in_child, sleep_ms, wait};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("processes_clone_errors", clone_errors),
    ("processes_clone_shares", clone_shares),
    ("processes_clone3", clone3),
    ("processes_wait", waiting),
    ("processes_waitid", waitid),
    ("processes_pidfd", pidfd),
    ("processes_groups_sessions", groups),
    ("processes_exec_errors", exec),
    ("processes_script", script),
    ("processes_subreaper", subreaper),
    ("processes_kill_errors", kill),
    ("processes_set_tid", numbers),
    ("processes_proc_files", proc_files),
];

const NULL: usize = 0;

fn clone_errors(t: &mut Transcript) -> Outcome {
    for (what, flags) in [
        ("thread without sighand", 0x10000u64),
        ("sighand without vm", 0x800),
        ("fs with new namespace", 0x200 | 0x20000),
        ("pidfd with detached", 0x1000 | 0x0040_0000 | 17),
        ("thread with pidfd and parent tid", 0x1000 | 0x0010_0000 | 17),
    ] {
        let result = sys!(SYS_clone, flags, NULL, NULL, NULL, NULL);
        if result == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        t.works(what, result);
        if result > 0 {
            t.works("waited", sys!(SYS_wait4, result, NULL, 0, NULL));
        }
    }
    Ok(())
}

fn clone_shares(t: &mut Transcript) -> Outcome {
    // SAFETY: calls with valid pointers; children end at once.
    unsafe {
        let (files, fs) = (0x400, 0x200);
        let (parent_set, child_set, child_clear) = (0x0010_0000, 0x0100_0000, 0x0020_0000);
        let run = |flags: i64, body: &dyn Fn()| -> Result<i32, crate::case::Failure> {
            let child = libc::syscall(libc::SYS_clone, flags | 17, NULL, NULL, NULL, NULL) as i32;
            if child == 0 {
                body();
                libc::_exit(7)
            }
            wait(child)
        };
        let fd = libc::open(c"/dev/null".as_ptr(), 0);
        t.note("own files", run(0, &|| _ = libc::close(fd))?);
        t.call("still open", libc::fcntl(fd, libc::F_GETFD));
        t.note("shared files", run(files, &|| _ = libc::close(fd))?);
        t.call("closed", libc::fcntl(fd, libc::F_GETFD));
        libc::chdir(c"/tmp".as_ptr());
        run(0, &|| _ = libc::chdir(c"/proc".as_ptr()))?;
        t.note("own folder", std::env::current_dir().ok());
        run(fs, &|| _ = (libc::chdir(c"/proc".as_ptr()), libc::umask(0o123)))?;
        t.note("shared folder", std::env::current_dir().ok());
        t.call("shared umask", libc::umask(0o22));
        let page = crate::sys::map(4096, libc::PROT_READ | libc::PROT_WRITE)? as *mut i32;
        let (first, second) = (page as usize, page as usize + 4);
        let flags = parent_set | child_set | 17;
        let child = libc::syscall(libc::SYS_clone, flags, NULL, first, second, NULL) as i32;
        if child == 0 {
            let own = libc::syscall(libc::SYS_gettid) as i32;
            libc::_exit(i32::from(*page.add(1) == own) | i32::from(*page == own) << 1)
        }
        t.note("numbers in the child: its own, the parent's copy", libc::WEXITSTATUS(wait(child)?));
        t.note("numbers in the parent", (*page == child, *page.add(1)));
        *page = 5;
        let child = libc::syscall(libc::SYS_clone, child_clear | 17, NULL, NULL, first, NULL) as i32;
        if child == 0 {
            libc::_exit(0)
        }
        wait(child)?;
        t.note("cleared only where memory is shared", *page);
    }
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn clone3_call(arguments: &CloneArguments, size: usize) -> i64 {
    let child = sys!(SYS_clone3, std::ptr::from_ref(arguments), size);
    if child == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(3) };
    }
    child
}

fn clone3(t: &mut Transcript) -> Outcome {
    let whole = size_of::<CloneArguments>();
    let plain = CloneArguments { exit_signal: 17, ..CloneArguments::default() };
    let mut pidfd = -1i32;
    let with_pidfd = CloneArguments { flags: 0x1000, pidfd: &raw mut pidfd as u64, ..plain };
    let wanted = [1u32];
    for (what, arguments, size) in [
        ("plain", plain, whole),
        ("first version", plain, 64),
        ("too small", plain, 63),
        ("too large", plain, 5000),
        ("exit signal 99", CloneArguments { exit_signal: 99, ..plain }, whole),
        ("no exit signal", CloneArguments { exit_signal: 0, ..plain }, whole),
        ("signal in the flags", CloneArguments { flags: 17, ..plain }, whole),
        ("detached", CloneArguments { flags: 0x0040_0000, ..plain }, whole),
        ("stack without size", CloneArguments { stack: 4096, ..plain }, whole),
        ("size without stack", CloneArguments { stack_size: 4096, ..plain }, whole),
        ("clear handlers and share them", CloneArguments { flags: 1 << 32 | 0x800 | 0x100, ..plain }, whole),
        (
            "number 1 taken",
            CloneArguments { set_tid: wanted.as_ptr() as u64, set_tid_size: 1, ..plain },
            whole,
        ),
        ("numbers without array", CloneArguments { set_tid_size: 1, ..plain }, whole),
        (
            "too many numbers",
            CloneArguments { set_tid: wanted.as_ptr() as u64, set_tid_size: 40, ..plain },
            whole,
        ),
        ("with a pidfd", with_pidfd, whole),
    ] {
        let child = clone3_call(&arguments, size);
        t.works(what, child);
        if child > 0 {
            let mut status = 0;
            t.works("waited", sys!(SYS_wait4, child, &raw mut status, libc::__WALL, NULL));
            t.note("status", status);
        }
    }
    t.note("pidfd", pidfd);
    t.call("null", sys!(SYS_clone3, NULL, whole));
    Ok(())
}

fn waiting(t: &mut Transcript) -> Outcome {
    let mut status = 0i32;
    t.call("no children", sys!(SYS_wait4, -1, &raw mut status, 0, NULL));
    t.call("bad options", sys!(SYS_wait4, -1, &raw mut status, 64, NULL));
    let child = fork(|| {
        sleep_ms(5000);
        0
    })?;
    t.call("none has changed", sys!(SYS_wait4, -1, &raw mut status, libc::WNOHANG, NULL));
    t.call("another's child", sys!(SYS_wait4, 1, &raw mut status, 0, NULL));
    t.call("another group", sys!(SYS_wait4, -99_999_999, &raw mut status, 0, NULL));
    t.call("the smallest group", sys!(SYS_wait4, i32::MIN, &raw mut status, 0, NULL));
    t.call("clone children only", sys!(SYS_wait4, child, &raw mut status, libc::__WCLONE, NULL));
    // SAFETY: numbers only.
    unsafe {
        libc::kill(child, libc::SIGSTOP);
        t.works("stopped", libc::waitpid(child, &raw mut status, libc::WUNTRACED));
        t.note("status", status);
        t.call("told once", libc::waitpid(child, &raw mut status, libc::WUNTRACED | libc::WNOHANG));
        libc::kill(child, libc::SIGCONT);
        t.works("continued", libc::waitpid(child, &raw mut status, libc::WCONTINUED));
        t.note("status", status);
        libc::kill(child, libc::SIGSEGV);
        t.works("killed", libc::waitpid(child, &raw mut status, 0));
        t.note("status", status & 0x7f);
        let child = fork(|| 300)?;
        wait(child).map(|status| t.note("exit(300)", status))?;
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        fork(|| 0)?;
        t.call("ignored children", libc::waitpid(-1, &raw mut status, 0));
    }
    Ok(())
}

fn waitid(t: &mut Transcript) -> Outcome {
    // SAFETY: plain data that the kernel fills; numbers.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let child = fork(|| 9)?;
        let at = &raw mut info;
        t.call("no kind of change", libc::waitid(libc::P_PID, child as u32, at, 0));
        t.call("unknown id type", sys!(SYS_waitid, 9, child, at, libc::WEXITED, NULL));
        t.call("pid 0 as P_PID", libc::waitid(libc::P_PID, 0, at, libc::WEXITED));
        t.call("leave it", libc::waitid(libc::P_PID, child as u32, at, libc::WEXITED | libc::WNOWAIT));
        t.note(
            "info",
            (info.si_signo, info.si_code, info.si_pid() == child, info.si_uid(), info.si_status()),
        );
        t.call("take it", libc::waitid(libc::P_ALL, 0, at, libc::WEXITED));
        t.call("gone", libc::waitid(libc::P_PID, child as u32, at, libc::WEXITED));
        let child = fork(|| {
            libc::kill(libc::getpid(), libc::SIGTERM);
            0
        })?;
        t.call("killed", libc::waitid(libc::P_PGID, 0, at, libc::WEXITED));
        t.note("info", (info.si_code, info.si_pid() == child, info.si_status()));
        let child = fork(|| {
            sleep_ms(4000);
            0
        })?;
        info = std::mem::zeroed();
        t.call("nothing yet", libc::waitid(libc::P_PID, child as u32, at, libc::WEXITED | libc::WNOHANG));
        t.note("empty info", (info.si_signo, info.si_pid()));
        libc::kill(child, libc::SIGKILL);
        let mut usage: libc::rusage = std::mem::zeroed();
        t.call("with usage", sys!(SYS_waitid, libc::P_PID, child, at, libc::WEXITED, &raw mut usage));
    }
    Ok(())
}

fn pidfd(t: &mut Transcript) -> Outcome {
    let child = fork(|| {
        sleep_ms(6000);
        0
    })?;
    let fd = sys!(SYS_pidfd_open, child, 0);
    t.call("open", fd);
    t.call("open, bad flag", sys!(SYS_pidfd_open, child, 1));
    t.call("open nobody", sys!(SYS_pidfd_open, 99_999_999, 0));
    t.call("open 0", sys!(SYS_pidfd_open, 0, 0));
    // SAFETY: raw calls and one pollfd.
    unsafe {
        let mut entry = libc::pollfd { fd: fd as i32, events: libc::POLLIN, revents: 0 };
        t.call("poll", libc::poll(&raw mut entry, 1, 0));
        t.call("signal 0", sys!(SYS_pidfd_send_signal, fd, 0, NULL, 0));
        t.call("bad signal", sys!(SYS_pidfd_send_signal, fd, 99, NULL, 0));
        t.call("bad flags", sys!(SYS_pidfd_send_signal, fd, 0, NULL, 64));
        t.call("not a pidfd", sys!(SYS_pidfd_send_signal, libc::open(c"/dev/null".as_ptr(), 0), 0, NULL, 0));
        let copy = sys!(SYS_pidfd_getfd, fd, 0, 0);
        t.works("getfd", copy);
        t.call("getfd of a closed one", sys!(SYS_pidfd_getfd, fd, 150, 0));
        t.call("getfd, bad flag", sys!(SYS_pidfd_getfd, fd, 0, 1));
        t.call("read", sys!(SYS_read, fd, [0u8; 8].as_mut_ptr(), 8usize));
        t.call("kill", sys!(SYS_pidfd_send_signal, fd, 9, NULL, 0));
        t.call("poll", libc::poll(&raw mut entry, 1, 5000));
        t.note("events", entry.revents);
        let mut info: libc::siginfo_t = std::mem::zeroed();
        t.call("waitid", sys!(SYS_waitid, libc::P_PIDFD, fd, &raw mut info, libc::WEXITED, NULL));
        t.note("info", (info.si_code, info.si_status()));
        t.call("signal after", sys!(SYS_pidfd_send_signal, fd, 0, NULL, 0));
        t.call("waitid again", sys!(SYS_waitid, libc::P_PIDFD, fd, &raw mut info, libc::WEXITED, NULL));
    }
    Ok(())
}

fn groups(t: &mut Transcript) -> Outcome {
    // SAFETY: numbers only.
    unsafe {
        t.call("leader of a group makes no session", libc::setsid());
        t.call("setpgid negative", libc::setpgid(0, -1));
        t.call("setpgid of nobody", libc::setpgid(99_999_999, 0));
        t.call("setpgid of init", libc::setpgid(1, 0));
        t.call("into a group that is not there", libc::setpgid(0, 99_999_999));
        t.call("getpgid of nobody", libc::getpgid(99_999_999));
        t.call("getsid of nobody", libc::getsid(99_999_999));
        let status = in_child(|| {
            let own = libc::getpid();
            let session = libc::setsid();
            let mut bits = i32::from(session == own);
            bits |= i32::from(libc::getpgrp() == own) << 1;
            bits |= i32::from(libc::getsid(0) == own) << 2;
            bits |= i32::from(libc::setpgid(0, 0) == -1 && errno() == libc::EPERM) << 3;
            bits |= i32::from(libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR) == -1 && errno() == libc::ENXIO)
                << 4;
            bits
        })?;
        t.note("in a new session", status);
        let child = fork(|| {
            sleep_ms(4000);
            0
        })?;
        t.call("a child into its own group", libc::setpgid(child, child));
        t.note("moved", libc::getpgid(child) == child);
        t.call("join it", libc::setpgid(0, child));
        t.call("back", libc::setpgid(0, 0));
        t.call("signal to the group", libc::kill(-child, libc::SIGTERM));
        t.note("status", wait(child)?);
        t.call("signal to the empty group", libc::kill(-child, libc::SIGTERM));
    }
    Ok(())
}

fn exec(t: &mut Transcript) -> Outcome {
    let root = crate::sys::folder("exec")?;
    let file = |name: &str, content: &[u8], mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = format!("{root}/{name}");
        let _ = std::fs::write(&path, content);
        let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        path
    };
    let long = format!("#!/{}\n", "x".repeat(300));
    let cases = [
        ("nothing", "/none".to_owned()),
        ("a directory", root.clone()),
        ("not executable", file("plain", b"#!/bin/sh\n", 0o644)),
        ("empty", file("empty", b"", 0o755)),
        ("text", file("text", b"echo hi\n", 0o755)),
        ("interpreter missing", file("missing", b"#!/none\n", 0o755)),
        ("interpreter not executable", file("weak", b"#!/etc/passwd\n", 0o755)),
        ("interpreter empty", file("none", b"#!  \n", 0o755)),
        ("long first line", file("long", long.as_bytes(), 0o755)),
        ("short ELF", file("elf", b"\x7fELF\x02\x01\x01", 0o755)),
        ("through a file", format!("{root}/plain/x")),
    ];
    for (what, path) in cases {
        let path = c(&path);
        t.call(
            what,
            sys!(SYS_execve, path.as_ptr(), [path.as_ptr() as usize, 0].as_ptr(), [0usize].as_ptr()),
        );
    }
    let looping = file("loop", format!("#!{root}/loop\n").as_bytes(), 0o755);
    let path = c(&looping);
    t.call(
        "interpreter of itself",
        sys!(SYS_execve, path.as_ptr(), [path.as_ptr() as usize, 0].as_ptr(), NULL),
    );
    let huge = c(&"a".repeat(140_000));
    let shell = c("/bin/sh");
    let arguments = [shell.as_ptr() as usize, huge.as_ptr() as usize, 0];
    t.call("one argument of 140000", sys!(SYS_execve, shell.as_ptr(), arguments.as_ptr(), [0usize].as_ptr()));
    let bad = [shell.as_ptr() as usize, 0x1000, 0];
    t.call("bad argument", sys!(SYS_execve, shell.as_ptr(), bad.as_ptr(), [0usize].as_ptr()));
    t.call("bad array", sys!(SYS_execve, shell.as_ptr(), 0x1000usize, [0usize].as_ptr()));
    let fd = sys!(SYS_open, c(&file("plain2", b"x", 0o644)).as_ptr(), libc::O_PATH);
    let empty = c("");
    t.call(
        "execveat by descriptor",
        sys!(SYS_execveat, fd, empty.as_ptr(), arguments.as_ptr(), NULL, 0x1000),
    );
    t.call("execveat, bad flag", sys!(SYS_execveat, fd, empty.as_ptr(), arguments.as_ptr(), NULL, 1));
    let written = file("busy", b"#!/bin/sh\nexit 5\n", 0o755);
    let open = sys!(SYS_open, c(&written).as_ptr(), libc::O_WRONLY);
    let path = c(&written);
    let run = |path: &std::ffi::CStr| {
        in_child(|| {
            sys!(SYS_execve, path.as_ptr(), [path.as_ptr() as usize, 0].as_ptr(), [0usize].as_ptr());
            errno()
        })
    };
    t.note("script that is open to write", run(&path)?);
    crate::sys::close(open as i32);
    t.note("script", run(&path)?);
    t.call("writing a program that runs", sys!(SYS_open, c"/proc/self/exe".as_ptr(), libc::O_WRONLY));
    Ok(())
}

fn script(t: &mut Transcript) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let root = crate::sys::folder("script")?;
    let make = |name: &str, content: &str| {
        let path = format!("{root}/{name}");
        let _ = std::fs::write(&path, content);
        let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755));
        path
    };
    let show = make("show", "#!/bin/sh\nfor a in \"$@\"; do printf '[%s]' \"$a\"; done\n");
    let outer = make("outer", &format!("#!{show} one two  three \n"));
    let run = |path: &str| {
        std::process::Command::new(path)
            .args(["x", "", "y z"])
            .output()
            .map(|out| String::from_utf8_lossy(&out.stdout).replace(&root, "ROOT"))
    };
    t.note("a script", run(&show).ok());
    t.note("a script as interpreter, with one argument of words", run(&outer).ok());
    let environment = std::process::Command::new("/bin/sh")
        .args(["-c", "echo $A $0 $#; cat /proc/self/comm", "name", "p"])
        .env_clear()
        .env("A", "value")
        .output();
    t.note("environment", environment.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).ok());
    Ok(())
}

fn subreaper(t: &mut Transcript) -> Outcome {
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let own = libc::getpid();
        let child = fork(|| {
            let grandchild = libc::fork();
            if grandchild == 0 {
                sleep_ms(300);
                libc::_exit(if libc::getppid() == own { 21 } else { 22 })
            }
            0
        })?;
        t.note("the child", wait(child)?);
        t.note("the grandchild, now ours", libc::WEXITSTATUS(wait(-1)?));
        t.call("no more", libc::waitpid(-1, std::ptr::null_mut(), 0));
    }
    Ok(())
}

fn kill(t: &mut Transcript) -> Outcome {
    // SAFETY: numbers only.
    unsafe {
        let own = libc::getpid();
        t.call("nobody", libc::kill(99_999_999, 0));
        t.call("signal 65", libc::kill(own, 65));
        t.call("signal -1", libc::kill(own, -1));
        t.call("the smallest group", libc::kill(i32::MIN, 0));
        t.call("tgkill with wrong group", sys!(SYS_tgkill, 1, own, 0));
        t.call("tgkill 0", sys!(SYS_tgkill, 0, own, 0));
        t.call("tkill negative", sys!(SYS_tkill, -5, 0));
        let mut info: libc::siginfo_t = std::mem::zeroed();
        info.si_code = libc::SI_USER;
        t.call("queue to another as if kill", sys!(SYS_rt_sigqueueinfo, libc::getppid(), 0, &raw const info));
        info.si_code = libc::SI_QUEUE;
        t.call("queue", sys!(SYS_rt_sigqueueinfo, own, 0, &raw const info));
        let status = in_child(|| {
            libc::setresuid(1000, 1000, 1000);
            let mut bits = i32::from(libc::kill(1, 0) == -1 && errno() == libc::EPERM);
            bits |= i32::from(libc::kill(libc::getpid(), 0) == 0) << 1;
            bits |= i32::from(libc::kill(own, libc::SIGCONT) == 0) << 2;
            bits | i32::from(libc::kill(own, libc::SIGTERM) == -1) << 3
        })?;
        t.note("as another user", status);
    }
    Ok(())
}

fn numbers(t: &mut Transcript) -> Outcome {
    let own = std::process::id() as i64;
    t.note("getpid is gettid", sys!(SYS_getpid) == sys!(SYS_gettid) && sys!(SYS_getpid) == own);
    t.note("set_tid_address", sys!(SYS_set_tid_address, NULL) == own);
    let other = std::thread::spawn(|| (sys!(SYS_getpid), sys!(SYS_gettid))).join().ok();
    t.note("in a thread", other.map(|(pid, tid)| (pid == own, tid == own)));
    let status = std::thread::spawn(|| sys!(SYS_setsid)).join().ok();
    t.note("setsid from a thread", status);
    Ok(())
}

fn proc_files(t: &mut Transcript) -> Outcome {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let stable = [
        "Umask",
        "State",
        "NoNewPrivs",
        "Seccomp",
        "CapInh",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Threads",
        "SigIgn",
        "SigBlk",
        "Uid",
        "Gid",
        "Groups",
        "NSpid",
    ];
    for line in status.lines() {
        let name = line.split(':').next().unwrap_or_default();
        if stable.contains(&name) && name != "NSpid" {
            t.note("status", line);
        }
    }
    let names: Vec<&str> = status.lines().filter_map(|line| line.split(':').next()).collect();
    for name in [
        "Name",
        "Pid",
        "Tgid",
        "PPid",
        "FDSize",
        "VmPeak",
        "VmSize",
        "VmRSS",
        "RssAnon",
        "VmData",
        "SigQ",
        "Cpus_allowed_list",
        "voluntary_ctxt_switches",
    ] {
        t.note(name, names.contains(&name));
    }
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|e| e.to_string())?;
    t.note("fields of stat", stat.split_whitespace().count());
    t.note(
        "fields of statm",
        std::fs::read_to_string("/proc/self/statm").map(|s| s.split_whitespace().count()).ok(),
    );
    for name in [
        "cmdline",
        "environ",
        "auxv",
        "limits",
        "oom_score_adj",
        "mounts",
        "mountinfo",
        "comm",
        "io",
        "smaps",
        "wchan",
        "personality",
        "stack",
        "sched",
        "cgroup",
        "loginuid",
        "timerslack_ns",
    ] {
        t.note(name, std::fs::File::open(format!("/proc/self/{name}")).is_ok());
    }
    t.note("exe of nobody", std::fs::read_link("/proc/99999999/exe").map_err(|e| e.to_string()));
    t.note(
        "write to stat",
        std::fs::OpenOptions::new().write(true).open("/proc/self/stat").map(|_| ()).map_err(|e| e.kind()),
    );
    t.note("create", std::fs::File::create("/proc/self/new").map(|_| ()).map_err(|e| e.to_string()));
    t.note("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "2000").map_err(|e| e.to_string()));
    t.note("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "500").map_err(|e| e.to_string()));
    t.note("oom_score_adj", std::fs::read_to_string("/proc/self/oom_score_adj").ok());
    t.note("comm", std::fs::write("/proc/self/comm", "renamed-by-proc").map_err(|e| e.to_string()));
    t.note("comm", std::fs::read_to_string("/proc/self/comm").ok());
    Ok(())
}
