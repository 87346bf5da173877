//! Processes: fork, exec, wait, groups, credentials, limits.

use crate::case::{Case, Failure, Outcome, case};
use crate::sys::{self, c, errno, in_child, ok};
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("process_exit_status", exit_status),
    case("process_fork_copies_memory", fork_copies),
    case("process_exec_arguments", exec_arguments),
    case("process_exec_errors", exec_errors),
    case("process_exec_script", exec_script),
    case("process_vfork_shares", vfork),
    case("process_orphan_goes_to_init", orphan),
    case("process_wait_echild", wait_echild),
    case("process_waitid_leaves_zombie", waitid),
    case("process_pidfd", pidfd),
    case("process_groups_and_sessions", groups),
    case("process_stop_and_continue", stop_continue),
    case("process_set_ids", set_ids),
    case("process_rlimits", rlimits),
    case("process_comm", comm),
    case("process_times", times),
    case("process_many_children", many_children),
];

/// What this program does when it is started as `--helper-NAME`.
pub fn helper(name: &str, arguments: &[String]) -> i32 {
    match name {
        // Which of these descriptors are open, as bits.
        "open" => arguments.iter().enumerate().fold(0, |bits, (index, fd)| {
            // SAFETY: numbers only.
            let is_open = unsafe { libc::fcntl(fd.parse().unwrap_or(-1), libc::F_GETFD) } >= 0;
            bits | i32::from(is_open) << index
        }),
        "count" => arguments.len() as i32,
        // Its effective user, if that fits a status.
        // SAFETY: no memory is involved.
        "ids" => (unsafe { libc::geteuid() } & 0xff) as i32,
        // Is killed meanwhile.
        "sleep" => {
            sys::sleep_ms(10_000);
            97
        }
        "env" => i32::from(std::env::var("GUEST").as_deref() != Ok("tests")),
        _ => 99,
    }
}

/// Executes this program again as a helper and returns its exit status.
pub fn run_helper(words: &[&str]) -> Result<i32, Failure> {
    let status = sys::wait(sys::fork(|| {
        exec_self(words);
        98
    })?)?;
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status))
    } else {
        Err(format!("status {status:#x}").into())
    }
}

/// Becomes this program as a helper; returns if that fails.
pub fn exec_self(words: &[&str]) {
    let mut arguments = vec![c("guest-tests"), c(&format!("--helper-{}", words[0]))];
    arguments.extend(words[1..].iter().map(|word| c(word)));
    let mut pointers: Vec<_> = arguments.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = c("GUEST=tests");
    let environment = [environment.as_ptr(), std::ptr::null()];
    // SAFETY: null-terminated arrays of C strings.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
}

fn exit_status() -> Outcome {
    for code in [0, 1, 42, 255] {
        ensure_eq!(in_child(|| code)?, code);
    }
    ensure_eq!(in_child(|| 256 + 3)?, 3);
    // SAFETY: ends the child.
    let status = sys::wait(sys::fork(|| unsafe { libc::kill(libc::getpid(), libc::SIGTERM) })?)?;
    ensure!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM);
    Ok(())
}

fn fork_copies() -> Outcome {
    let memory = sys::map(1 << 20, libc::PROT_READ | libc::PROT_WRITE)?;
    // SAFETY: within the mapping.
    unsafe {
        memory.write_bytes(1, 1 << 20);
        let code = in_child(|| {
            memory.write_bytes(2, 1 << 20);
            i32::from(memory.add(5000).read() != 2)
        })?;
        ensure_eq!(code, 0);
        ensure!((0..1 << 20).step_by(4096).all(|at| memory.add(at).read() == 1));
    }
    Ok(())
}

fn exec_arguments() -> Outcome {
    ensure_eq!(run_helper(&["count", "a", "", "b c"])?, 3);
    ensure_eq!(run_helper(&["env"])?, 0);
    let many = vec!["x".repeat(1000); 200];
    let mut words = vec!["count"];
    words.extend(many.iter().map(String::as_str));
    ensure_eq!(run_helper(&words)?, 200);
    Ok(())
}

fn exec_error(path: &str, argument_bytes: usize) -> i32 {
    let (path, long) = (c(path), c(&"x".repeat(argument_bytes)));
    let arguments = [path.as_ptr(), long.as_ptr(), std::ptr::null()];
    // SAFETY: null-terminated arrays of C strings; in a child, lest it succeed.
    in_child(|| unsafe {
        libc::execve(path.as_ptr(), arguments.as_ptr(), [std::ptr::null()].as_ptr());
        errno()
    })
    .unwrap_or(-1)
}

fn exec_errors() -> Outcome {
    let dir = sys::folder("xe")?;
    let file = |name: &str, text: &[u8], mode| {
        let path = format!("{dir}/{name}");
        std::fs::write(&path, text).map_err(|e| e.to_string())?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .map_err(|e| e.to_string())?;
        Ok::<_, Failure>(path)
    };
    ensure_eq!(exec_error(&format!("{dir}/none"), 1), libc::ENOENT);
    ensure_eq!(exec_error(&dir, 1), libc::EACCES);
    ensure_eq!(exec_error(&file("plain", b"#!/bin/sh\n", 0o644)?, 1), libc::EACCES);
    ensure_eq!(exec_error(&file("garbage", b"no program\n", 0o755)?, 1), libc::ENOEXEC);
    ensure_eq!(exec_error(&file("empty", b"", 0o755)?, 1), libc::ENOEXEC);
    ensure_eq!(exec_error(&file("nointerp", b"#!/none/such\n", 0o755)?, 1), libc::ENOENT);
    ensure_eq!(exec_error("/proc/self/exe", 200_000), libc::E2BIG);
    Ok(())
}

fn exec_script() -> Outcome {
    let dir = sys::folder("xs")?;
    let script = format!("{dir}/script");
    let text = "#!/bin/sh -e\n[ \"$1\" = one ] && [ \"$0\" = \"$3\" ] && [ $# = 3 ] && exit 7\n";
    std::fs::write(&script, text).map_err(|e| e.to_string())?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|e| e.to_string())?;
    let status = std::process::Command::new(&script).args(["one", "two words", &script]).status();
    ensure_eq!(status.map_err(|e| e.to_string())?.code(), Some(7));
    Ok(())
}

fn vfork() -> Outcome {
    // clone with CLONE_VM|CLONE_VFORK on the parent's own stack is what vfork does; glibc's own vfork needs care
    // that Rust cannot give, so the child only exits. The parent must not run before that.
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    let start = std::time::Instant::now();
    let child = sys::call(libc::SYS_clone, [flags as usize, 0, 0, 0, 0, 0]);
    if child == 0 {
        sys::sleep_ms(50);
        // SAFETY: ends the child.
        unsafe { libc::_exit(5) };
    }
    ensure!(child > 0);
    ensure!(start.elapsed().as_millis() >= 50);
    ensure_eq!(libc::WEXITSTATUS(sys::wait(child as i32)?), 5);
    Ok(())
}

fn orphan() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    let middle = sys::fork(|| {
        let _ = sys::fork(|| {
            sys::sleep_ms(50);
            // SAFETY: numbers only.
            let parent = unsafe { libc::getppid() };
            i32::from(sys::write(writer, &parent.to_ne_bytes()).is_err())
        });
        0
    })?;
    ensure_eq!(sys::wait(middle)?, 0);
    ensure_eq!(sys::read(reader, 4)?, 1i32.to_ne_bytes());
    Ok(())
}

fn wait_echild() -> Outcome {
    // SAFETY: null is allowed.
    unsafe {
        ensure_eq!(libc::waitpid(-1, std::ptr::null_mut(), 0), -1);
        ensure_eq!(errno(), libc::ECHILD);
        let child = sys::fork(|| 0)?;
        ensure_eq!(libc::waitpid(child + 1, std::ptr::null_mut(), 0), -1);
        ensure_eq!(errno(), libc::ECHILD);
        sys::wait(child)?;
        // Ignored SIGCHLD: children vanish by themselves.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        sys::fork(|| 0)?;
        ensure_eq!(libc::waitpid(-1, std::ptr::null_mut(), 0), -1);
        ensure_eq!(errno(), libc::ECHILD);
    }
    Ok(())
}

fn waitid() -> Outcome {
    let child = sys::fork(|| 9)?;
    // SAFETY: one siginfo.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        for options in [libc::WEXITED | libc::WNOWAIT, libc::WEXITED] {
            ok("waitid", libc::waitid(libc::P_PID, child as u32, &raw mut info, options))?;
            ensure_eq!(info.si_pid(), child);
            ensure_eq!(info.si_status(), 9);
            ensure_eq!(info.si_code, libc::CLD_EXITED);
        }
        ensure_eq!(libc::waitid(libc::P_PID, child as u32, &raw mut info, libc::WEXITED), -1);
        ensure_eq!(errno(), libc::ECHILD);
    }
    Ok(())
}

fn pidfd() -> Outcome {
    let child = sys::fork(|| {
        sys::sleep_ms(100_000);
        0
    })?;
    let fd = sys::call(libc::SYS_pidfd_open, [child as usize, 0, 0, 0, 0, 0]);
    ensure!(fd >= 0, "pidfd_open: errno {}", errno());
    let mut poll = libc::pollfd { fd: fd as i32, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    unsafe {
        ensure_eq!(libc::poll(&raw mut poll, 1, 10), 0);
        ensure_eq!(
            sys::call(libc::SYS_pidfd_send_signal, [fd as usize, libc::SIGKILL as usize, 0, 0, 0, 0]),
            0
        );
        ensure_eq!(libc::poll(&raw mut poll, 1, 10_000), 1);
    }
    ensure_eq!(libc::WTERMSIG(sys::wait(child)?), libc::SIGKILL);
    ensure_eq!(sys::call(libc::SYS_pidfd_send_signal, [fd as usize, 0, 0, 0, 0, 0]), -1);
    ensure_eq!(errno(), libc::ESRCH);
    Ok(())
}

fn groups() -> Outcome {
    // SAFETY: numbers only.
    let code = in_child(|| unsafe {
        let me = libc::getpid();
        let bad = |holds: bool, bit: i32| if holds { 0 } else { 1 << bit };
        bad(libc::setsid() == me, 0)
            | bad(libc::getsid(0) == me && libc::getpgid(0) == me, 1)
            | bad(libc::setsid() == -1 && errno() == libc::EPERM, 2)
            | bad(libc::setpgid(0, 0) == -1 && errno() == libc::EPERM, 3)
            | bad(libc::setpgid(1, 1) == -1, 4)
            | bad(libc::kill(-me, 0) == 0, 5)
            | bad(libc::getpgid(999_999) == -1 && errno() == libc::ESRCH, 6)
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn stop_continue() -> Outcome {
    let child = sys::fork(|| {
        sys::sleep_ms(100_000);
        0
    })?;
    let mut status = 0;
    // SAFETY: one int.
    unsafe {
        for (signal, options) in [(libc::SIGSTOP, libc::WUNTRACED), (libc::SIGCONT, libc::WCONTINUED)] {
            libc::kill(child, signal);
            ensure_eq!(libc::waitpid(child, &raw mut status, options), child);
            ensure_eq!(libc::WIFSTOPPED(status), signal == libc::SIGSTOP);
            ensure_eq!(libc::WIFCONTINUED(status), signal == libc::SIGCONT);
        }
        libc::kill(child, libc::SIGSTOP);
        libc::kill(child, libc::SIGKILL);
    }
    ensure_eq!(libc::WTERMSIG(sys::wait(child)?), libc::SIGKILL);
    Ok(())
}

fn set_ids() -> Outcome {
    // SAFETY: numbers only.
    let code = in_child(|| unsafe {
        let bad = |holds: bool, bit: i32| if holds { 0 } else { 1 << bit };
        let first = bad(libc::setresuid(1000, 1001, 0) == 0, 0);
        first
            | bad(libc::getuid() == 1000 && libc::geteuid() == 1001, 1)
            | bad(libc::setuid(5) == -1 && errno() == libc::EPERM, 2)
            | bad(libc::seteuid(0) == 0 && libc::geteuid() == 0, 3)
            | bad(libc::setuid(7) == 0 && libc::getuid() == 7, 4)
            | bad(libc::setuid(0) == -1, 5)
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn rlimits() -> Outcome {
    // SAFETY: rlimits that live throughout.
    let code = in_child(|| unsafe {
        let limit = libc::rlimit { rlim_cur: 1000, rlim_max: 2000 };
        let mut read = limit;
        let bad = |holds: bool, bit: i32| if holds { 0 } else { 1 << bit };
        let first = bad(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0, 0);
        libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut read);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let written = std::fs::write("/tmp/guest-limit", [0; 3000]).err().and_then(|e| e.raw_os_error());
        let inverted = libc::rlimit { rlim_cur: 3000, rlim_max: 2000 };
        first
            | bad(read.rlim_cur == 1000 && read.rlim_max == 2000, 1)
            | bad(written == Some(libc::EFBIG), 2)
            | bad(
                libc::setrlimit(libc::RLIMIT_FSIZE, &raw const inverted) == -1 && errno() == libc::EINVAL,
                3,
            )
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn comm() -> Outcome {
    // SAFETY: C strings and a buffer of 16 bytes.
    unsafe {
        ok("prctl", libc::prctl(libc::PR_SET_NAME, c"a name longer than fifteen".as_ptr()))?;
        let mut name = [0u8; 16];
        ok("prctl", libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()))?;
        ensure_eq!(&name, b"a name longer t\0");
    }
    let text = std::fs::read_to_string("/proc/self/comm").map_err(|e| e.to_string())?;
    ensure_eq!(text, "a name longer t\n");
    Ok(())
}

fn times() -> Outcome {
    // SAFETY: rusages that live throughout.
    unsafe {
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 100 {}
        let mut usage: libc::rusage = std::mem::zeroed();
        ok("getrusage", libc::getrusage(libc::RUSAGE_SELF, &raw mut usage))?;
        let used = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec + usage.ru_utime.tv_sec * 1_000_000;
        ensure!(used >= 20_000, "{used} us after a loop of 100 ms");
        ensure!(usage.ru_maxrss > 100);
    }
    Ok(())
}

fn many_children() -> Outcome {
    let mut children = Vec::new();
    for i in 0..200 {
        children.push((sys::fork(move || i % 100)?, i % 100));
    }
    for (child, code) in children.into_iter().rev() {
        ensure_eq!(libc::WEXITSTATUS(sys::wait(child)?), code);
    }
    Ok(())
}
