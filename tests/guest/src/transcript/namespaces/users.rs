//! User namespaces: maps, identifiers, capabilities, files (user_namespaces(7)).

use super::{become_user, child, clone, finish, open, put, unshare};
use crate::case::Outcome;
use crate::sys::c;
use crate::transcript::{Section, Transcript, sys};
use std::os::unix::fs::MetadataExt;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("userns_maps_own", own_maps),
    ("userns_maps_parent", parent_maps),
    ("userns_setgroups", setgroups),
    ("userns_identity", identity),
    ("userns_capabilities", capabilities),
    ("userns_files", files),
    ("userns_exec", exec),
    ("userns_signals", signals),
];

fn map(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{name}")).ok()
}

fn own_maps(t: &mut Transcript) -> Outcome {
    t.note("outside", (map("uid_map"), map("gid_map"), map("projid_map"), map("setgroups")));
    t.call("the first one's map", put("/proc/self/uid_map", "0 0 1"));
    let attempts: &[(&str, &str)] = &[
        ("nothing", ""),
        ("white space", "\n"),
        ("two words", "0 1000"),
        ("four words", "0 1000 1 1"),
        ("letters", "0 1000 x"),
        ("negative", "-1 1000 1"),
        ("count 0", "0 1000 0"),
        ("another's", "0 1001 1"),
        ("root's", "0 0 1"),
        ("two", "0 1000 2"),
        ("two lines", "0 1000 1\n1 1001 1\n"),
        ("overlapping inside", "0 1000 5\n4 2000 1"),
        ("overlapping outside", "0 1000 5\n10 1004 1"),
        ("wrapping", "4294967295 1000 1"),
        ("too large", "0 4294967295 1"),
        ("too long", "0 1000 4294967295"),
    ];
    for (what, text) in attempts {
        child(t, |t| {
            become_user(1000);
            unshare(libc::CLONE_NEWUSER);
            t.call(what, put("/proc/self/uid_map", text));
        });
    }
    child(t, |t| {
        become_user(1000);
        unshare(libc::CLONE_NEWUSER);
        t.note("empty", (map("uid_map"), map("gid_map"), map("projid_map"), map("setgroups")));
        t.note("ids", (sys!(SYS_getuid), sys!(SYS_geteuid), sys!(SYS_getgid)));
        t.call("users", put("/proc/self/uid_map", "  7   1000  1  \n"));
        t.note("users", map("uid_map"));
        t.call("users again", put("/proc/self/uid_map", "7 1000 1"));
        t.call("groups while setgroups is allowed", put("/proc/self/gid_map", "8 1000 1"));
        t.call("deny setgroups", put("/proc/self/setgroups", "deny"));
        t.call("groups", put("/proc/self/gid_map", "8 1000 1"));
        t.call("projects", put("/proc/self/projid_map", "0 0 100"));
        t.note("maps", (map("gid_map"), map("projid_map"), map("setgroups")));
        t.note("ids", (sys!(SYS_getuid), sys!(SYS_geteuid), sys!(SYS_getgid)));
    });
    let long: String = (0..341).map(|n| format!("{n} {n} 1\n")).collect();
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER);
        t.call("341 lines", put("/proc/self/uid_map", &long));
        t.call("a page", put("/proc/self/uid_map", &"0 0 1\n".repeat(800)));
        t.call("root maps itself", put("/proc/self/uid_map", "0 0 1"));
    });
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER);
        t.call("root maps more from inside", put("/proc/self/uid_map", "0 0 2"));
        t.call("groups", put("/proc/self/gid_map", "0 0 1"));
    });
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER);
        let fd = open("/proc/self/uid_map", libc::O_WRONLY);
        t.call("elsewhere", sys!(SYS_lseek, fd, 1, 0));
        t.call("not at the beginning", sys!(SYS_write, fd, c"0 0 1".as_ptr(), 5));
        t.call("back", sys!(SYS_lseek, fd, 0, 0));
        t.call("at the beginning", sys!(SYS_write, fd, c"0 0 1".as_ptr(), 5));
        t.call("behind it", sys!(SYS_write, fd, c"0 0 1".as_ptr(), 5));
    });
    Ok(())
}

/// A child in a user namespace that waits; gives its pid and what ends it.
fn waiting(body: impl FnOnce()) -> Result<(i64, i32), crate::case::Failure> {
    let (reading, writing) = crate::sys::pipe(0)?;
    let (ready, tell) = crate::sys::pipe(0)?;
    let pid = clone(libc::CLONE_NEWUSER);
    if pid == 0 {
        body();
        crate::sys::close(writing);
        let _ = crate::sys::write(tell, b"x");
        let _ = crate::sys::read(reading, 1);
        sys!(SYS_exit, 0);
    }
    let _ = crate::sys::read(ready, 1);
    Ok((pid, writing))
}

fn parent_maps(t: &mut Transcript) -> Outcome {
    for (what, file, text) in [
        ("many users", "uid_map", "0 100000 65536"),
        ("many groups", "gid_map", "0 100000 65536"),
        ("several", "uid_map", "0 1000 1\n1 100000 10\n"),
        ("root among them", "uid_map", "0 0 10"),
        ("nothing mapped above", "uid_map", "0 4294967295 1"),
    ] {
        let (pid, end) = waiting(|| ())?;
        t.call(what, put(&format!("/proc/{pid}/{file}"), text));
        t.note("as the parent sees it", std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok());
        crate::sys::close(end);
        finish(t, pid as i32);
    }
    let (pid, end) = waiting(|| ())?;
    child(t, |t| {
        become_user(1000);
        t.call("a stranger opens", open(&format!("/proc/{pid}/uid_map"), libc::O_WRONLY));
    });
    crate::sys::close(end);
    finish(t, pid as i32);
    child(t, |t| {
        become_user(1000);
        let Ok((pid, end)) = waiting(|| ()) else {
            return;
        };
        t.call("a user maps itself for its child", put(&format!("/proc/{pid}/uid_map"), "0 1000 1"));
        t.call("groups", put(&format!("/proc/{pid}/gid_map"), "0 1000 1"));
        t.call("deny", put(&format!("/proc/{pid}/setgroups"), "deny"));
        t.call("groups", put(&format!("/proc/{pid}/gid_map"), "0 1000 1"));
        t.note("status", ids_of(pid));
        crate::sys::close(end);
        finish(t, pid as i32);
    });
    child(t, |t| {
        become_user(1000);
        let Ok((pid, end)) = waiting(|| ()) else { return };
        t.call("a user maps somebody else", put(&format!("/proc/{pid}/uid_map"), "0 1001 1"));
        crate::sys::close(end);
        finish(t, pid as i32);
    });
    Ok(())
}

fn ids_of(pid: i64) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("Uid") || line.starts_with("Gid"));
    lines.map(str::to_owned).collect()
}

fn setgroups(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        become_user(1000);
        unshare(libc::CLONE_NEWUSER);
        t.call("setgroups without a map", sys!(SYS_setgroups, 0, 0));
        t.call("nonsense", put("/proc/self/setgroups", "maybe"));
        t.call("allow", put("/proc/self/setgroups", "allow"));
        t.call("with a newline", put("/proc/self/setgroups", "allow\n"));
        t.call("too long", put("/proc/self/setgroups", "allow    \n"));
        t.call("deny", put("/proc/self/setgroups", "deny\n"));
        t.call("deny again", put("/proc/self/setgroups", "deny"));
        t.call("allow again", put("/proc/self/setgroups", "allow"));
        t.call("groups", put("/proc/self/gid_map", "0 1000 1"));
        t.call("deny after the map", put("/proc/self/setgroups", "deny"));
        t.call("setgroups", sys!(SYS_setgroups, 0, 0));
        t.call("a child of it", unshare(libc::CLONE_NEWUSER));
        t.note("inherits", std::fs::read_to_string("/proc/self/setgroups").ok());
    });
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER);
        t.call("root maps", put("/proc/self/gid_map", "0 0 1"));
        t.call("allowed", sys!(SYS_setgroups, 1, [0u32].as_ptr()));
        t.call("unmapped", sys!(SYS_setgroups, 1, [5u32].as_ptr()));
        t.call("deny after the map", put("/proc/self/setgroups", "deny"));
    });
    Ok(())
}

fn identity(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        become_user(1000);
        unshare(libc::CLONE_NEWUSER);
        t.call("setuid without a map", sys!(SYS_setuid, 0));
        put("/proc/self/uid_map", "0 1000 1");
        put("/proc/self/setgroups", "deny");
        put("/proc/self/gid_map", "0 1000 1");
        t.call("setuid 0", sys!(SYS_setuid, 0));
        t.call("setuid unmapped", sys!(SYS_setuid, 1));
        t.call("setgid unmapped", sys!(SYS_setgid, 1000));
        t.call("setresuid", sys!(SYS_setresuid, 0, -1, 0));
        t.note("root's file", std::fs::metadata("/").map(|m| (m.uid(), m.gid())).ok());
        let path = format!("/tmp/ns-own-{}", std::process::id());
        t.works("create", open(&path, libc::O_CREAT | libc::O_RDWR));
        t.note("own file", std::fs::metadata(&path).map(|m| (m.uid(), m.gid())).ok());
        t.call("chown to oneself", sys!(SYS_chown, c(&path).as_ptr(), 0, 0));
        t.call("chown to unmapped", sys!(SYS_chown, c(&path).as_ptr(), 1, 1));
        t.call("chown of root's", sys!(SYS_chown, c("/").as_ptr(), 0, 0));
        t.call("chmod of root's", sys!(SYS_chmod, c("/").as_ptr(), 0o777));
        t.call("remove", sys!(SYS_unlink, c(&path).as_ptr()));
        t.note("status", ids_of(i64::from(std::process::id())));
        t.note("init's status", ids_of(1));
    });
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER);
        put("/proc/self/uid_map", "0 0 1");
        t.call("groups are not mapped", sys!(SYS_setgid, 0));
        t.note("ids", (sys!(SYS_getuid), sys!(SYS_getgid)));
        t.call("user in it", unshare(libc::CLONE_NEWUSER));
    });
    Ok(())
}

fn sets() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("Cap")).map(str::to_owned).collect()
}

fn capabilities(t: &mut Transcript) -> Outcome {
    child(t, |t| {
        sys!(SYS_prctl, libc::PR_SET_SECUREBITS, 0x2f, 0, 0, 0);
        become_user(1000);
        t.note("before", sets());
        unshare(libc::CLONE_NEWUSER);
        t.note("inside", sets());
        t.note("secure bits", sys!(SYS_prctl, libc::PR_GET_SECUREBITS, 0, 0, 0, 0));
        put("/proc/self/uid_map", "1000 1000 1");
        t.call("become root", sys!(SYS_setuid, 0));
        t.call("drop all", sys!(SYS_capset, [0x2008_0522u32, 0].as_ptr(), [0u32; 6].as_ptr()));
        t.note("dropped", sets());
        t.call("new uts", unshare(libc::CLONE_NEWUTS));
        t.call("new user", unshare(libc::CLONE_NEWUSER));
        t.note("again", sets());
    });
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER);
        t.note("root inside", sets());
        t.call("hostname outside", sys!(SYS_sethostname, c"no".as_ptr(), 2));
        t.call("mount outside", sys!(SYS_mount, c"x".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, 0));
        t.call("umount outside", sys!(SYS_umount2, c"/tmp".as_ptr(), 0));
        t.call("chroot", sys!(SYS_chroot, c"/".as_ptr()));
        t.call("kill init with nothing", sys!(SYS_kill, 1, 0));
        t.call("limit of init", sys!(SYS_prlimit64, 1, libc::RLIMIT_CORE, 0, [0u64; 2].as_mut_ptr()));
        t.call("pivot_root", sys!(SYS_pivot_root, c"/".as_ptr(), c"/".as_ptr()));
    });
    Ok(())
}

fn files(t: &mut Transcript) -> Outcome {
    let root = crate::sys::folder("userns-files")?;
    std::fs::write(format!("{root}/secret"), "x").map_err(|e| e.to_string())?;
    sys!(SYS_chmod, c(&format!("{root}/secret")).as_ptr(), 0o600);
    std::fs::write(format!("{root}/theirs"), "x").map_err(|e| e.to_string())?;
    sys!(SYS_chown, c(&format!("{root}/theirs")).as_ptr(), 1000, 1000);
    sys!(SYS_chmod, c(&format!("{root}/theirs")).as_ptr(), 0o000);
    sys!(SYS_chmod, c(&root).as_ptr(), 0o777);
    child(t, |t| {
        become_user(1000);
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
        put("/proc/self/uid_map", "0 1000 1");
        put("/proc/self/setgroups", "deny");
        put("/proc/self/gid_map", "0 1000 1");
        t.call("root's secret", open(&format!("{root}/secret"), 0));
        t.works("one's own without permission", open(&format!("{root}/theirs"), 0));
        let mount = |kind: &str, place: &str, flags: u64| {
            sys!(SYS_mount, c("none").as_ptr(), c(place).as_ptr(), c(kind).as_ptr(), flags, 0)
        };
        for kind in ["tmpfs", "ramfs", "devpts", "proc", "sysfs", "devtmpfs", "nonsense"] {
            t.call(kind, mount(kind, &root, 0));
        }
        t.call("tmpfs", mount("tmpfs", &root, 0));
        t.works("create in it", open(&format!("{root}/f"), libc::O_CREAT | libc::O_RDWR));
        t.note("owner", std::fs::metadata(format!("{root}/f")).map(|m| (m.uid(), m.gid())).ok());
        t.call("a device in it", sys!(SYS_mknod, c(&format!("{root}/null")).as_ptr(), 0o20666, 0x103));
        t.call("a pipe in it", sys!(SYS_mknod, c(&format!("{root}/pipe")).as_ptr(), 0o10666, 0));
        t.call("set user id", sys!(SYS_chmod, c(&format!("{root}/f")).as_ptr(), 0o4755));
        t.note("mode", std::fs::metadata(format!("{root}/f")).map(|m| m.mode()).ok());
        t.call("remount it", mount("tmpfs", &root, libc::MS_REMOUNT | libc::MS_NOSUID));
        t.call("remount the outer", mount("tmpfs", "/tmp", libc::MS_REMOUNT));
    });
    child(t, |t| {
        become_user(1000);
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
        t.call(
            "without a map",
            sys!(SYS_mount, c("none").as_ptr(), c(&root).as_ptr(), c("tmpfs").as_ptr(), 0, 0),
        );
        t.call("create in it", open(&format!("{root}/f"), libc::O_CREAT | libc::O_RDWR));
    });
    Ok(())
}

fn exec(t: &mut Transcript) -> Outcome {
    let root = crate::sys::folder("userns-exec")?;
    sys!(SYS_chmod, c(&root).as_ptr(), 0o777);
    let program = format!("{root}/p");
    let _ = std::fs::copy("/proc/self/exe", &program);
    sys!(SYS_chmod, c(&program).as_ptr(), 0o4755);
    let run = |t: &mut Transcript, what: &str| match clone(0) {
        0 => {
            let arguments = [c(&program), c("--helper-ids")];
            let words = [arguments[0].as_ptr() as usize, arguments[1].as_ptr() as usize, 0];
            sys!(SYS_execve, c(&program).as_ptr(), words.as_ptr(), [0usize].as_ptr());
            sys!(SYS_exit, 99);
        }
        pid => {
            let mut status = 0;
            // SAFETY: waitpid writes one int.
            unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
            t.note(what, status >> 8);
        }
    };
    child(t, |t| {
        become_user(1000);
        run(t, "set-user-ID root, outside: effective user");
        unshare(libc::CLONE_NEWUSER);
        run(t, "unmapped");
        put("/proc/self/uid_map", "5 1000 1");
        run(t, "root is not mapped");
    });
    Ok(())
}

fn signals(t: &mut Transcript) -> Outcome {
    let (pid, end) = waiting(|| ())?;
    child(t, |t| {
        become_user(1000);
        t.call("a stranger outside", sys!(SYS_kill, pid, 0));
        unshare(libc::CLONE_NEWUSER);
        t.call("a stranger in a namespace", sys!(SYS_kill, pid, 0));
    });
    t.call("root outside", sys!(SYS_kill, pid, 0));
    crate::sys::close(end);
    finish(t, pid as i32);
    child(t, |t| {
        become_user(1000);
        // SAFETY: one thread.
        let other = unsafe { libc::fork() };
        if other == 0 {
            crate::sys::sleep_ms(5000);
            sys!(SYS_exit, 0);
        }
        unshare(libc::CLONE_NEWUSER);
        t.call("the same user outside, from inside", sys!(SYS_kill, other, 0));
        sys!(SYS_kill, other, libc::SIGKILL);
        let mut info = [0i32; 32];
        sys!(SYS_waitid, 1, other, info.as_mut_ptr(), libc::WEXITED, 0);
        t.note("its user as seen inside", info[5]);
    });
    Ok(())
}
