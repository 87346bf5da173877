//! Namespaces: clone(2), unshare(2), setns(2), files of nsfs, limits; and the kinds in files of their own.

pub mod mounts;
pub mod pids;
pub mod times;
pub mod users;

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{c, errno};
use std::os::unix::fs::MetadataExt;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("namespaces_files", files),
    ("namespaces_ioctls", ioctls),
    ("namespaces_unshare", unshare_flags),
    ("namespaces_unprivileged", unprivileged),
    ("namespaces_clone_flags", clone_flags),
    ("namespaces_setns", setns),
    ("namespaces_setns_pidfd", setns_pidfd),
    ("namespaces_bound", bound),
    ("namespaces_limits", limits),
    ("namespaces_uts", uts),
];

/// Kinds by name, with their flags.
pub const KINDS: [(&str, i32); 8] = [
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", 0x80),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

const NS_GET_USERNS: i32 = 0xb701;
const NS_GET_PARENT: i32 = 0xb702;
const NS_GET_NSTYPE: i32 = 0xb703;
const NS_GET_OWNER_UID: i32 = 0xb704;

/// Runs `body` in a child, which notes on the same transcript; says if the child did not end well.
pub fn child(t: &mut Transcript, body: impl FnOnce(&mut Transcript)) {
    // SAFETY: one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        body(t);
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    finish(t, pid);
}

/// Waits for a child; notes its status if that is not 0.
pub fn finish(t: &mut Transcript, pid: i32) {
    if pid < 0 {
        t.call("fork", pid);
        return;
    }
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    if status != 0 {
        t.note("child ended with status", status);
    }
}

/// clone(2) with flags, as fork: 0 in the child.
pub fn clone(flags: i32) -> i64 {
    sys!(SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0)
}

pub fn unshare(flags: i32) -> i64 {
    sys!(SYS_unshare, flags)
}

/// Becomes an ordinary user without any capability.
pub fn become_user(id: u32) {
    sys!(SYS_setgroups, 0, 0);
    sys!(SYS_setresgid, id, id, id);
    sys!(SYS_setresuid, id, id, id);
    sys!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/// What a link of the caller's leads to.
pub fn link(name: &str) -> String {
    let path = format!("/proc/self/ns/{name}");
    std::fs::read_link(path).map_or_else(|error| format!("{error}"), |path| path.display().to_string())
}

/// Writes a file of /proc; what came of it.
pub fn put(path: &str, text: &str) -> i64 {
    let fd = sys!(SYS_open, c(path).as_ptr(), libc::O_WRONLY);
    if fd < 0 {
        return fd;
    }
    let count = sys!(SYS_write, fd, text.as_ptr(), text.len());
    let error = errno();
    crate::sys::close(fd as i32);
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = error };
    count
}

pub fn open(path: &str, flags: i32) -> i64 {
    sys!(SYS_open, c(path).as_ptr(), flags)
}

fn files(t: &mut Transcript) -> Outcome {
    let mut names: Vec<_> = std::fs::read_dir("/proc/self/ns")
        .map_err(|e| e.to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    t.note("names", &names);
    for name in &names {
        t.note(name, link(name));
        let path = format!("/proc/self/ns/{name}");
        let meta = std::fs::metadata(&path).map_err(|e| e.to_string())?;
        let number = link(name).contains(&format!("[{}]", meta.ino()));
        let twin = std::fs::metadata(format!("/proc/1/ns/{name}")).map_err(|e| e.to_string())?;
        let same = (meta.dev(), meta.ino()) == (twin.dev(), twin.ino());
        t.note(
            "mode, size, links, number in text, same as init's",
            (format!("{:o}", meta.mode()), meta.size(), meta.nlink(), number, same),
        );
    }
    t.call("no such name", open("/proc/self/ns/nothing", 0));
    t.call("remove there", sys!(SYS_unlink, c("/proc/self/ns/uts").as_ptr()));
    t.note("control group", std::fs::read_to_string("/proc/self/cgroup").ok());
    child(t, |t| {
        become_user(1000);
        t.call(
            "another's link",
            sys!(SYS_readlink, c("/proc/1/ns/uts").as_ptr(), [0u8; 64].as_mut_ptr(), 64),
        );
        t.call("another's file", open("/proc/1/ns/uts", 0));
        t.works("one's own", open("/proc/self/ns/uts", 0));
    });
    Ok(())
}

fn ioctls(t: &mut Transcript) -> Outcome {
    for (name, flag) in KINDS {
        let fd = open(&format!("/proc/self/ns/{name}"), 0);
        t.works(name, fd);
        t.note("kind", sys!(SYS_ioctl, fd, NS_GET_NSTYPE, 0) == i64::from(flag));
        let owner = sys!(SYS_ioctl, fd, NS_GET_USERNS, 0);
        t.works("owner", owner);
        t.works("parent", sys!(SYS_ioctl, fd, NS_GET_PARENT, 0));
        let mut uid = 77u32;
        t.call("owner's user", sys!(SYS_ioctl, fd, NS_GET_OWNER_UID, &raw mut uid));
        t.note("user", uid);
        t.call("read", sys!(SYS_read, fd, [0u8; 8].as_mut_ptr(), 8));
        t.call("lseek", sys!(SYS_lseek, fd, 1, 0));
        t.call("unknown ioctl", sys!(SYS_ioctl, fd, 0xb7ff, 0));
        // SAFETY: plain data that the kernel fills.
        let mut s: libc::statfs = unsafe { std::mem::zeroed() };
        sys!(SYS_fstatfs, fd, &raw mut s);
        t.note("file system", s.f_type);
        crate::sys::close(fd as i32);
        crate::sys::close(owner as i32);
    }
    child(t, |t| {
        let outer = open("/proc/self/ns/user", 0);
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWUTS);
        let user = open("/proc/self/ns/user", 0);
        let parent = sys!(SYS_ioctl, user, NS_GET_PARENT, 0);
        t.call("parent from inside", if parent < 0 { -1 } else { 0 });
        let uts = open("/proc/self/ns/uts", 0);
        let owner = sys!(SYS_ioctl, uts, NS_GET_USERNS, 0);
        t.works("owner of the new one", owner);
        t.call("owner of the outer one", sys!(SYS_ioctl, outer, NS_GET_USERNS, 0));
        let mut uid = 77u32;
        t.call("who made it", sys!(SYS_ioctl, user, NS_GET_OWNER_UID, &raw mut uid));
        t.note("unmapped here", uid);
        let fd = owner as i32;
        t.note("closes on exec", sys!(SYS_fcntl, fd, libc::F_GETFD));
        t.note("access mode", sys!(SYS_fcntl, fd, libc::F_GETFL) & 3);
    });
    Ok(())
}

fn unshare_flags(t: &mut Transcript) -> Outcome {
    for (what, flags) in [
        ("nothing", 0),
        ("unknown", 1),
        ("a signal", libc::SIGCHLD),
        ("pidfd", libc::CLONE_PIDFD),
        ("parent", libc::CLONE_PARENT),
        ("vfork", libc::CLONE_VFORK),
        ("fs", libc::CLONE_FS),
        ("files", libc::CLONE_FILES),
        ("semaphores", libc::CLONE_SYSVSEM),
        ("thread", libc::CLONE_THREAD),
        ("handlers", libc::CLONE_SIGHAND),
        ("memory", libc::CLONE_VM),
    ] {
        child(t, |t| {
            t.call(what, unshare(flags));
        });
    }
    for (name, flag) in KINDS {
        child(t, |t| {
            let before = link(name);
            t.call(name, unshare(flag));
            t.note("the link changes", link(name) != before);
            if name == "pid" || name == "time" {
                let children = format!("{name}_for_children");
                t.note("that of its children changes", link(&children) != before);
            }
            t.call("once more", unshare(flag));
        });
    }
    child(t, |t| {
        let handle = std::thread::spawn(|| crate::sys::sleep_ms(300));
        for (name, flag) in KINDS {
            t.call(&format!("{name} with threads"), unshare(flag));
        }
        t.call("thread with threads", unshare(libc::CLONE_THREAD));
        let _ = handle.join();
    });
    Ok(())
}

fn unprivileged(t: &mut Transcript) -> Outcome {
    for (name, flag) in KINDS {
        child(t, |t| {
            become_user(1000);
            t.call(name, unshare(flag));
        });
        child(t, |t| {
            become_user(1000);
            t.call(&format!("{name} with user"), unshare(flag | libc::CLONE_NEWUSER));
        });
        if flag != 0x80 {
            child(t, |t| {
                become_user(1000);
                match clone(flag) {
                    0 => sys!(SYS_exit, 0),
                    pid => t.works(&format!("clone {name}"), pid),
                };
            });
            child(t, |t| {
                become_user(1000);
                match clone(flag | libc::CLONE_NEWUSER) {
                    0 => sys!(SYS_exit, 0),
                    pid => t.works(&format!("clone {name} with user"), pid),
                };
            });
        }
    }
    child(t, |t| {
        become_user(1000);
        t.call("user", unshare(libc::CLONE_NEWUSER));
        for (name, flag) in KINDS {
            t.call(&format!("{name} after user"), unshare(flag));
        }
        t.call("setting the clock", sys!(SYS_clock_settime, 0, [1i64, 0].as_ptr()));
        t.call("swapping the root", sys!(SYS_chroot, c("/").as_ptr()));
        t.call("user in a changed root", unshare(libc::CLONE_NEWUSER));
        t.call("reading the log", sys!(SYS_syslog, 2, [0u8; 64].as_mut_ptr(), 64));
        t.call("raising a limit", sys!(SYS_setrlimit, libc::RLIMIT_NICE, [40u64, 40].as_ptr()));
        t.call("nice", sys!(SYS_setpriority, 0, 0, -5));
        t.call("real time", sys!(SYS_sched_setscheduler, 0, 1, [1i32].as_ptr()));
        t.call("alarm clock", sys!(SYS_timerfd_create, 9, 0));
        t.call("a device", sys!(SYS_mknod, c("/tmp/ns-dev").as_ptr(), 0o20666, 0x103));
        t.call("reboot", sys!(SYS_reboot, 0xfee1_deadu32, 672_274_793, 0x4321_fedc, 0));
        t.call("the outer host name", sys!(SYS_sethostname, c"x".as_ptr(), 1));
    });
    child(t, |t| {
        let _ = std::fs::create_dir_all("/tmp/ns-root");
        t.call("change the root", sys!(SYS_chroot, c("/tmp/ns-root").as_ptr()));
        t.call("user in a changed root", unshare(libc::CLONE_NEWUSER));
        t.call(
            "clone in a changed root",
            match clone(libc::CLONE_NEWUSER) {
                0 => sys!(SYS_exit, 0),
                pid => pid,
            },
        );
    });
    Ok(())
}

/// clone3(2) with flags; 0 in the child.
fn clone3(flags: u64, exit_signal: u64) -> i64 {
    let arguments = [flags, 0, 0, 0, exit_signal, 0, 0, 0];
    sys!(SYS_clone3, arguments.as_ptr(), 64usize)
}

fn clone_flags(t: &mut Transcript) -> Outcome {
    let thread = libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM;
    for (what, flags) in [
        ("mounts and fs", libc::CLONE_NEWNS | libc::CLONE_FS),
        ("user and fs", libc::CLONE_NEWUSER | libc::CLONE_FS),
        ("ipc and semaphores", libc::CLONE_NEWIPC | libc::CLONE_SYSVSEM),
        ("thread and user", thread | libc::CLONE_NEWUSER),
        ("thread and pid", thread | libc::CLONE_NEWPID),
        ("uts", libc::CLONE_NEWUTS),
        (
            "all",
            libc::CLONE_NEWUTS
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWUSER
                | libc::CLONE_NEWCGROUP,
        ),
    ] {
        match clone3(flags as u32 as u64, if flags & libc::CLONE_THREAD != 0 { 0 } else { 17 }) {
            0 => {
                sys!(SYS_exit, 0);
            }
            pid => {
                if pid > 0 {
                    finish(t, pid as i32);
                }
                t.works(what, pid);
            }
        }
    }
    // A new time namespace: by clone3 only, because clone has its signal there.
    match clone3(0x80, 17) {
        0 => {
            t.note("clocks of the child are new", link("time") != parent_link("time"));
            sys!(SYS_exit, 0);
        }
        pid => {
            finish(t, pid as i32);
            t.works("clone3 time", pid);
        }
    }
    t.call("clone3 with a signal in the flags", clone3(17, 0));
    child(t, |t| {
        t.call("unshare pid", unshare(libc::CLONE_NEWPID));
        t.call("a thread afterwards", sys!(SYS_clone, thread, 0, 0, 0, 0));
        t.call("pid again", unshare(libc::CLONE_NEWPID));
        t.call("clone pid", clone(libc::CLONE_NEWPID));
    });
    child(t, |t| {
        t.call("unshare time", unshare(0x80));
        let clocks = std::thread::spawn(|| thread_link("time")).join();
        t.note("a thread has the old clocks", clocks.ok() == Some(link("time")));
    });
    Ok(())
}

/// What a link of the calling thread's leads to.
fn thread_link(name: &str) -> String {
    let path = format!("/proc/thread-self/ns/{name}");
    std::fs::read_link(path).map_or_else(|error| format!("{error}"), |path| path.display().to_string())
}

fn parent_link(name: &str) -> String {
    // SAFETY: no memory is involved.
    let path = format!("/proc/{}/ns/{name}", unsafe { libc::getppid() });
    std::fs::read_link(path).map_or_else(|error| format!("{error}"), |path| path.display().to_string())
}

fn setns(t: &mut Transcript) -> Outcome {
    t.call("bad descriptor", sys!(SYS_setns, 77, 0));
    let null = open("/dev/null", 0);
    t.call("no namespace", sys!(SYS_setns, null, 0));
    t.call("no namespace, with a kind", sys!(SYS_setns, null, libc::CLONE_NEWUTS));
    for (name, flag) in KINDS {
        child(t, |t| {
            let own = open(&format!("/proc/self/ns/{name}"), 0);
            t.call(&format!("{name}, its own"), sys!(SYS_setns, own, 0));
            t.call("with its kind", sys!(SYS_setns, own, flag));
            t.call(
                "with another kind",
                sys!(SYS_setns, own, if name == "uts" { libc::CLONE_NEWIPC } else { libc::CLONE_NEWUTS }),
            );
            t.call("with two kinds", sys!(SYS_setns, own, libc::CLONE_NEWIPC | libc::CLONE_NEWUTS));
            let before = link(name);
            t.call("unshare", unshare(flag));
            t.call("back", sys!(SYS_setns, own, flag));
            t.note("the same again", link(name) == before);
        });
        child(t, |t| {
            let own = open(&format!("/proc/self/ns/{name}"), 0);
            become_user(1000);
            t.call(&format!("{name} as a user"), sys!(SYS_setns, own, 0));
            t.call("new user namespace", unshare(libc::CLONE_NEWUSER));
            t.call("the outer one from inside", sys!(SYS_setns, own, 0));
        });
    }
    child(t, |t| {
        let user = open("/proc/self/ns/user", 0);
        unshare(libc::CLONE_NEWUSER);
        t.call("up to the parent", sys!(SYS_setns, user, 0));
        let mine = open("/proc/self/ns/user", 0);
        t.call("into one's own", sys!(SYS_setns, mine, 0));
    });
    child(t, |t| {
        let files = ["time", "user", "mnt", "uts"].map(|name| open(&format!("/proc/self/ns/{name}"), 0));
        let handle = std::thread::spawn(|| crate::sys::sleep_ms(300));
        for (file, name) in files.iter().zip(["time", "user", "mnt", "uts"]) {
            t.call(&format!("{name} with threads"), sys!(SYS_setns, *file, 0));
        }
        let _ = handle.join();
    });
    Ok(())
}

fn setns_pidfd(t: &mut Transcript) -> Outcome {
    let (ready, tell) = crate::sys::pipe(0)?;
    let all = libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let pid = clone(libc::CLONE_NEWUSER | all);
    if pid == 0 {
        sys!(SYS_sethostname, c"inside".as_ptr(), 6);
        let _ = crate::sys::write(tell, b"x");
        crate::sys::sleep_ms(10_000);
        sys!(SYS_exit, 0);
    }
    let _ = crate::sys::read(ready, 1);
    let pidfd = sys!(SYS_pidfd_open, pid, 0);
    t.works("pidfd", pidfd);
    t.call("no kind", sys!(SYS_setns, pidfd, 0));
    t.call("unknown kind", sys!(SYS_setns, pidfd, libc::CLONE_VM));
    t.call("unknown with a kind", sys!(SYS_setns, pidfd, libc::CLONE_VM | libc::CLONE_NEWUTS));
    child(t, |t| {
        t.call("one kind", sys!(SYS_setns, pidfd, libc::CLONE_NEWUTS));
        t.note("host", std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    });
    child(t, |t| {
        t.call("with its user", sys!(SYS_setns, pidfd, libc::CLONE_NEWUSER | all));
        t.note("host", std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
        for name in ["uts", "ipc", "mnt", "user", "net"] {
            let theirs =
                std::fs::read_link(format!("/proc/{pid}/ns/{name}")).map(|p| p.display().to_string());
            t.note(name, theirs.ok() == Some(link(name)));
        }
        match clone(0) {
            0 => {
                t.note("child's pid", sys!(SYS_getpid));
                t.note("its parent", sys!(SYS_getppid));
                sys!(SYS_exit, 0);
            }
            pid => finish(t, pid as i32),
        }
    });
    child(t, |t| {
        become_user(1000);
        t.call("as somebody else", sys!(SYS_setns, pidfd, libc::CLONE_NEWUSER));
    });
    sys!(SYS_kill, pid, libc::SIGKILL);
    finish(t, pid as i32);
    t.call("after its end", sys!(SYS_setns, pidfd, libc::CLONE_NEWUTS));
    Ok(())
}

fn bound(t: &mut Transcript) -> Outcome {
    let root = crate::sys::folder("ns-bound")?;
    let place = format!("{root}/uts");
    std::fs::write(&place, "").map_err(|e| e.to_string())?;
    let bind = |source: &str, target: &str| {
        sys!(SYS_mount, c(source).as_ptr(), c(target).as_ptr(), 0, libc::MS_BIND, 0)
    };
    child(t, |t| {
        unshare(libc::CLONE_NEWUTS);
        sys!(SYS_sethostname, c"bound".as_ptr(), 5);
        t.call("bind", bind("/proc/self/ns/uts", &place));
        t.note(
            "same file",
            std::fs::metadata(&place).map(|m| m.ino()).ok()
                == std::fs::metadata("/proc/self/ns/uts").map(|m| m.ino()).ok(),
        );
    });
    let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in info.lines().filter(|line| line.contains(&root)) {
        let words: Vec<_> = line.split_whitespace().collect();
        let kind = words[3].split(':').next().unwrap_or_default().to_owned();
        t.note("mountinfo", (kind, words[4].replace(&root, "ROOT"), words[5], &words[words.len() - 4..]));
    }
    child(t, |t| {
        let fd = open(&place, 0);
        t.call("enter", sys!(SYS_setns, fd, libc::CLONE_NEWUTS));
        t.note("host", std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
        let shown = std::fs::read_link(format!("/proc/self/fd/{fd}")).map(|p| p.display().to_string());
        t.note("the descriptor shows", shown.map(|text| text.replace(&root, "ROOT")).ok());
    });
    t.call("bind over a directory", bind("/proc/self/ns/uts", &root));
    t.call("a mount namespace of one's own", bind("/proc/self/ns/mnt", &place));
    child(t, |t| {
        let outer = open("/proc/self/ns/mnt", 0);
        t.call("new mounts", unshare(libc::CLONE_NEWNS));
        t.call("the older one here", bind(&format!("/proc/self/fd/{outer}"), &place));
        t.call("one's own here", bind("/proc/self/ns/mnt", &place));
    });
    t.call("remove the file", sys!(SYS_unlink, c(&place).as_ptr()));
    t.call("umount", sys!(SYS_umount2, c(&place).as_ptr(), 0));
    t.call("umount again", sys!(SYS_umount2, c(&place).as_ptr(), 0));
    Ok(())
}

fn limits(t: &mut Transcript) -> Outcome {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/user/max_{name}_namespaces")).ok();
    for (name, flag) in KINDS {
        child(t, |t| {
            become_user(1000);
            t.call("user", unshare(libc::CLONE_NEWUSER));
            let path = format!("/proc/sys/user/max_{name}_namespaces");
            t.note(name, read(name));
            t.call("none", put(&path, "0"));
            t.call("refused", unshare(flag));
            t.call("one", put(&path, "1\n"));
            t.call("allowed", unshare(flag));
            if name != "user" {
                t.call(
                    "refused",
                    if name == "pid" {
                        clone(libc::CLONE_NEWUSER | libc::CLONE_NEWPID)
                    } else {
                        unshare(flag)
                    },
                );
            }
        });
    }
    child(t, |t| {
        become_user(1000);
        t.call("a user sets the machine's", put("/proc/sys/user/max_uts_namespaces", "5"));
        unshare(libc::CLONE_NEWUSER);
        t.call("negative", put("/proc/sys/user/max_uts_namespaces", "-1"));
        t.call("too large", put("/proc/sys/user/max_uts_namespaces", "2147483648"));
        t.call("text", put("/proc/sys/user/max_uts_namespaces", "x"));
        t.call("largest", put("/proc/sys/user/max_uts_namespaces", "2147483647"));
    });
    child(t, |t| {
        let mut depth = 0;
        while unshare(libc::CLONE_NEWUSER) == 0 && depth < 100 {
            depth += 1;
            let _ = put("/proc/self/uid_map", "0 0 1");
            let _ = put("/proc/self/setgroups", "deny");
            let _ = put("/proc/self/gid_map", "0 0 1");
        }
        t.note("user namespaces in each other, and the error", (depth, errno()));
    });
    Ok(())
}

fn uts(t: &mut Transcript) -> Outcome {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let outer = host();
    child(t, |t| {
        t.call("unshare", unshare(libc::CLONE_NEWUTS));
        t.note("copied", host() == outer);
        t.call("sethostname", sys!(SYS_sethostname, c"inner".as_ptr(), 5));
        t.call("setdomainname", sys!(SYS_setdomainname, c"inner.net".as_ptr(), 9));
        t.note("names", (host(), std::fs::read_to_string("/proc/sys/kernel/domainname").ok()));
        t.call("by sysctl", put("/proc/sys/kernel/hostname", "other\n"));
        t.note("name", host());
        t.call("too long", sys!(SYS_sethostname, [b'x'; 65].as_ptr(), 65));
        t.call("negative", sys!(SYS_sethostname, [b'x'; 65].as_ptr(), -1));
        become_user(1000);
        t.call("as a user", sys!(SYS_sethostname, c"user".as_ptr(), 4));
        t.call("new user namespace", unshare(libc::CLONE_NEWUSER));
        t.call("not its name", sys!(SYS_sethostname, c"user".as_ptr(), 4));
        t.call("new names", unshare(libc::CLONE_NEWUTS));
        t.call("its name", sys!(SYS_sethostname, c"user".as_ptr(), 4));
        t.note("name", host());
        t.call("by sysctl", put("/proc/sys/kernel/hostname", "other\n"));
    });
    t.note("nothing changed outside", host() == outer);
    Ok(())
}
