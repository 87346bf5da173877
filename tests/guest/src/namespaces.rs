//! Namespaces made, entered and left on all processors at once. What single calls answer is in `transcript::namespaces`.

use crate::case::{Case, Outcome, long_case};
use crate::sys::{c, call, folder, fork, ok, pipe, read, sleep_ms, wait, write};
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    long_case("namespaces_unshare_storm", 60, unshare_storm),
    long_case("namespaces_setns_storm", 60, setns_storm),
    long_case("namespaces_pid_storm", 60, pid_storm),
    long_case("namespaces_fork_against_end", 60, fork_against_end),
    long_case("namespaces_mount_storm", 60, mount_storm),
    long_case("namespaces_counts_come_back", 60, counts_come_back),
    long_case("namespaces_many_mounts", 60, many_mounts),
];

/// Everything but the user namespace.
const ALL: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWCGROUP
    | 0x80;

fn unshare(flags: i32) -> i64 {
    call(libc::SYS_unshare, [flags as u32 as usize, 0, 0, 0, 0, 0])
}

fn clone(flags: i32) -> i64 {
    call(libc::SYS_clone, [(flags | libc::SIGCHLD) as u32 as usize, 0, 0, 0, 0, 0])
}

fn mount(source: &str, target: &str, kind: &str, flags: u64) -> i64 {
    let (source, target, kind) = (c(source), c(target), c(kind));
    let words = [source.as_ptr() as usize, target.as_ptr() as usize, kind.as_ptr() as usize];
    call(libc::SYS_mount, [words[0], words[1], words[2], flags as usize, 0, 0])
}

fn umount(target: &str, flags: i32) -> i64 {
    call(libc::SYS_umount2, [c(target).as_ptr() as usize, flags as usize, 0, 0, 0, 0])
}

/// Ends all children and checks that each ended with 0.
fn all_well(children: &[i32]) -> Outcome {
    for child in children {
        ensure_eq!(wait(*child)?, 0);
    }
    Ok(())
}

fn unshare_storm() -> Outcome {
    let mut children = Vec::new();
    for worker in 0..4 {
        children.push(fork(|| {
            for round in 0..15 {
                let child = fork(|| {
                    let user = if (worker + round) % 2 == 0 { libc::CLONE_NEWUSER } else { 0 };
                    if unshare(ALL | user) != 0 {
                        return 1;
                    }
                    let first = clone(0);
                    if first == 0 {
                        // SAFETY: ends this process.
                        unsafe { libc::_exit(i32::from(libc::getpid() != 1)) };
                    }
                    wait(first as i32).unwrap_or(2)
                });
                let Ok(child) = child else { return 3 };
                if wait(child).unwrap_or(4) != 0 {
                    return 5;
                }
            }
            0
        })?);
    }
    all_well(&children)
}

fn setns_storm() -> Outcome {
    // Two that stay in namespaces of their own, four that go from one to the other.
    let mut homes = Vec::new();
    for _ in 0..2 {
        let (ready, tell) = pipe(0)?;
        let home = fork(|| {
            let fine = unshare(ALL) == 0;
            let _ = write(tell, if fine { b"y" } else { b"n" });
            sleep_ms(50_000);
            0
        })?;
        ensure_eq!(read(ready, 1)?, b"y");
        let pidfd = call(libc::SYS_pidfd_open, [home as usize, 0, 0, 0, 0, 0]);
        homes.push((home, ok("pidfd_open", pidfd)?));
    }
    let flags = (libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET) as usize;
    let mut children = Vec::new();
    for worker in 0..4 {
        let homes = homes.clone();
        children.push(fork(move || {
            for round in 0..60 {
                let (_, pidfd) = homes[(worker + round) % 2];
                if call(libc::SYS_setns, [pidfd as usize, flags, 0, 0, 0, 0]) != 0 {
                    return 1;
                }
                if round % 8 == 7 && unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS) != 0 {
                    return 2;
                }
            }
            0
        })?);
    }
    let outcome = all_well(&children);
    for (home, pidfd) in homes {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(home, libc::SIGKILL) };
        wait(home)?;
        let late = call(libc::SYS_setns, [pidfd as usize, libc::CLONE_NEWUTS as usize, 0, 0, 0, 0]);
        ensure!(late == -1 && crate::sys::errno() == libc::ESRCH);
    }
    outcome
}

fn pid_storm() -> Outcome {
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(fork(|| {
            for _ in 0..8 {
                let first = clone(libc::CLONE_NEWPID);
                if first == 0 {
                    // A family of three generations that only the end of the first ends.
                    for _ in 0..3 {
                        if clone(0) == 0 {
                            clone(0);
                            clone(libc::CLONE_NEWPID);
                            loop {
                                sleep_ms(10_000);
                            }
                        }
                    }
                    // SAFETY: ends this process.
                    unsafe { libc::_exit(0) };
                }
                if first < 0 || wait(first as i32).unwrap_or(1) != 0 {
                    return 1;
                }
            }
            0
        })?);
    }
    all_well(&children)
}

fn fork_against_end() -> Outcome {
    for round in 0..20 {
        let (reading, writing) = pipe(0)?;
        let first = clone(libc::CLONE_NEWPID);
        if first == 0 {
            for _ in 0..2 {
                if clone(0) == 0 {
                    // As fast as it can, until it is killed.
                    loop {
                        if clone(0) == 0 {
                            // SAFETY: ends this process.
                            unsafe { libc::_exit(0) };
                        }
                        // SAFETY: no memory is involved.
                        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
                    }
                }
            }
            sleep_ms(5 + round);
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        crate::sys::close(writing);
        ensure_eq!(wait(first as i32)?, 0);
        // Nobody is left who holds the other end.
        ensure_eq!(read(reading, 1)?.len(), 0);
        crate::sys::close(reading);
    }
    Ok(())
}

fn mounts_below(root: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter(|line| line.contains(root)).count()
}

fn mount_storm() -> Outcome {
    let root = folder("ns-mounts")?;
    ensure_eq!(unshare(libc::CLONE_NEWNS), 0);
    ensure_eq!(mount("", "/", "", libc::MS_PRIVATE | libc::MS_REC), 0);
    ensure_eq!(mount("t", &root, "tmpfs", 0), 0);
    ensure_eq!(mount("", &root, "", libc::MS_SHARED), 0);
    let mut children = Vec::new();
    for worker in 0..4 {
        let place = format!("{root}/{worker}");
        std::fs::create_dir(&place).map_err(|e| e.to_string())?;
        children.push(fork(|| {
            if worker % 2 == 1 && unshare(libc::CLONE_NEWNS) != 0 {
                return 1;
            }
            for _ in 0..40 {
                if mount("t", &place, "tmpfs", 0) != 0 {
                    return 2;
                }
                if umount(&place, libc::MNT_DETACH) != 0 {
                    return 3;
                }
            }
            0
        })?);
    }
    all_well(&children)?;
    ensure_eq!(mounts_below(&root), 1);
    ensure_eq!(umount(&root, 0), 0);
    Ok(())
}

fn counts_come_back() -> Outcome {
    let child = fork(|| {
        // SAFETY: no memory is involved.
        unsafe { libc::setresuid(1000, 1000, 1000) };
        if unshare(libc::CLONE_NEWUSER) != 0 {
            return 1;
        }
        if std::fs::write("/proc/sys/user/max_uts_namespaces", "3").is_err() {
            return 2;
        }
        // Each unshare lets go of the one before; a child holds one more for a while.
        for _ in 0..50 {
            if unshare(libc::CLONE_NEWUTS) != 0 {
                return 3;
            }
            let pid = clone(libc::CLONE_NEWUTS);
            if pid == 0 {
                // SAFETY: ends this process.
                unsafe { libc::_exit(0) };
            }
            if pid < 0 || wait(pid as i32).unwrap_or(1) != 0 {
                return 4;
            }
            // Linux gives a count back a little later than it lets go.
            sleep_ms(20);
        }
        0
    })?;
    all_well(&[child])
}

fn many_mounts() -> Outcome {
    let root = folder("ns-many")?;
    ensure_eq!(unshare(libc::CLONE_NEWNS), 0);
    ensure_eq!(mount("", "/", "", libc::MS_PRIVATE | libc::MS_REC), 0);
    ensure_eq!(mount("t", &root, "tmpfs", 0), 0);
    for index in 0..300 {
        let place = format!("{root}/{index}");
        std::fs::create_dir(&place).map_err(|e| e.to_string())?;
        ensure_eq!(mount(&root, &place, "", libc::MS_BIND), 0);
    }
    ensure_eq!(mounts_below(&root), 301);
    let child = fork(|| {
        let fine = unshare(libc::CLONE_NEWNS) == 0 && mounts_below(&root) == 301;
        i32::from(!fine || umount(&root, libc::MNT_DETACH) != 0 || mounts_below(&root) != 0)
    })?;
    all_well(&[child])?;
    ensure_eq!(mounts_below(&root), 301);
    ensure_eq!(umount(&root, libc::MNT_DETACH), 0);
    ensure_eq!(mounts_below(&root), 0);
    Ok(())
}
