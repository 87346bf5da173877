//! Mount namespaces: copies, propagation, locked mounts, pivot_root(2) (mount_namespaces(7)).

use super::{become_user, child, open, put, unshare};
use crate::case::Outcome;
use crate::sys::{c, folder};
use crate::transcript::{Section, Transcript, sys};
use std::collections::BTreeMap;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("mntns_copy", copy),
    ("mntns_types", types),
    ("mntns_shared", shared),
    ("mntns_slaves", slaves),
    ("mntns_between_namespaces", between),
    ("mntns_below_others", beneath),
    ("mntns_moves", moves),
    ("mntns_locked", locked),
    ("mntns_locked_flags", locked_flags),
    ("mntns_visible_proc", visible),
    ("mntns_pivot_root", pivot),
    ("mntns_mount_max", mount_max),
];

const BIND: u64 = libc::MS_BIND;
const REC: u64 = libc::MS_REC;
const SHARED: u64 = libc::MS_SHARED;
const PRIVATE: u64 = libc::MS_PRIVATE;
const SLAVE: u64 = libc::MS_SLAVE;
const UNBINDABLE: u64 = libc::MS_UNBINDABLE;

fn mount(source: &str, target: &str, kind: &str, flags: u64) -> i64 {
    sys!(SYS_mount, c(source).as_ptr(), c(target).as_ptr(), c(kind).as_ptr(), flags, 0)
}

fn tmpfs(target: &str) -> i64 {
    mount("t", target, "tmpfs", 0)
}

fn change(target: &str, kind: u64) -> i64 {
    mount("", target, "", kind)
}

fn umount(target: &str, flags: i32) -> i64 {
    sys!(SYS_umount2, c(target).as_ptr(), flags)
}

fn mkdir(path: &str) {
    let _ = std::fs::create_dir_all(path);
}

/// What is mounted below `root`: place, root of the mount, propagation. Groups are numbered in the order they appear.
fn table(t: &mut Transcript, what: &str, root: &str) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    // The order in which peers get their copies is nobody's business.
    let mut mounts: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    mounts.sort_by_key(|words| words[4]);
    for words in mounts {
        let dash = words.iter().position(|word| *word == "-").unwrap_or(6);
        let Some(place) = words[4].strip_prefix(root) else { continue };
        let mut tags = Vec::new();
        for tag in &words[6..dash] {
            match tag.split_once(':') {
                Some((name, number)) => {
                    let next = groups.len() + 1;
                    let number = *groups.entry(number.to_owned()).or_insert(next);
                    tags.push(format!("{name}:{number}"));
                }
                None => tags.push((*tag).to_owned()),
            }
        }
        lines.push(format!("{place} {} {}", words[3].replace(root, ""), tags.join(" ")));
    }
    t.note(what, lines);
}

/// A private tmpfs with folders, in a mount namespace of one's own.
fn stage(t: &mut Transcript, name: &str, folders: &[&str]) -> Result<String, crate::case::Failure> {
    let root = folder(name)?;
    t.call("new namespace", unshare(libc::CLONE_NEWNS));
    t.call("private", change("/", PRIVATE | REC));
    t.call("stage", tmpfs(&root));
    folders.iter().for_each(|name| mkdir(&format!("{root}/{name}")));
    Ok(root)
}

fn copy(t: &mut Transcript) -> Outcome {
    let root = folder("mntns-copy")?;
    t.call("mount", tmpfs(&root));
    mkdir(&format!("{root}/in/deep"));
    t.call("inner", tmpfs(&format!("{root}/in")));
    mkdir(&format!("{root}/in/deep"));
    let directory = open(&format!("{root}/in"), libc::O_DIRECTORY);
    child(t, |t| {
        sys!(SYS_chdir, c(&format!("{root}/in/deep")).as_ptr());
        t.call("unshare", unshare(libc::CLONE_NEWNS));
        t.note(
            "where one is",
            std::env::current_dir().map(|p| p.display().to_string().replace(&root, "")).ok(),
        );
        table(t, "copied", &root);
        t.call("busy by oneself", umount(&format!("{root}/in"), 0));
        sys!(SYS_chdir, c"/".as_ptr());
        t.call("umount here", umount(&format!("{root}/in"), 0));
        t.call("of a mount elsewhere", umount(&format!("/proc/self/fd/{directory}"), libc::MNT_DETACH));
        t.call("mount on one elsewhere", tmpfs(&format!("/proc/self/fd/{directory}")));
        t.call("bind from elsewhere", mount(&format!("/proc/self/fd/{directory}"), &root, "", BIND));
        t.call("mount here", tmpfs(&format!("{root}/in")));
        std::fs::write(format!("{root}/in/here"), "").ok();
    });
    table(t, "nothing changed", &root);
    t.note("nothing inside", std::fs::metadata(format!("{root}/in/here")).is_err());
    t.note("the file systems are the same ones", std::fs::metadata(format!("{root}/in/deep")).is_ok());
    t.call("umount", umount(&root, libc::MNT_DETACH));
    Ok(())
}

fn types(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-types", &["a", "b"])?;
    let (a, b) = (format!("{root}/a"), format!("{root}/b"));
    t.call("a", tmpfs(&a));
    for (what, kind) in
        [("shared", SHARED), ("slave", SLAVE), ("private", PRIVATE), ("unbindable", UNBINDABLE)]
    {
        t.call(what, change(&a, kind));
        table(t, what, &root);
        t.call("slave of it", change(&a, SLAVE));
        table(t, "then slave", &root);
        t.call("shared again", change(&a, SHARED));
        t.call("bound", mount(&a, &b, "", BIND));
        table(t, "two peers", &root);
        t.call("the copy changes", change(&b, kind));
        table(t, "after that", &root);
        t.call("umount", umount(&b, 0));
    }
    t.call("unbindable", change(&a, UNBINDABLE));
    t.call("bind it", mount(&a, &b, "", BIND));
    t.call("bind what is around it", mount(&root, &b, "", BIND | REC));
    table(t, "without it", &root);
    t.call("with a flag", change(&a, SHARED | libc::MS_RDONLY));
    t.call("two", change(&a, SHARED | SLAVE));
    t.call("silently", change(&a, SHARED | libc::MS_SILENT));
    t.call("not a mount", change("/tmp/mntns-nothing", SHARED));
    mkdir(&format!("{a}/x"));
    t.call("inside a mount", change(&format!("{a}/x"), SHARED));
    Ok(())
}

fn shared(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-shared", &["a", "b", "c"])?;
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{root}/{name}"));
    tmpfs(&a);
    ["x/y", "z"].iter().for_each(|name| mkdir(&format!("{a}/{name}")));
    t.call("shared", change(&a, SHARED));
    t.call("peer", mount(&a, &b, "", BIND));
    t.call("part of it", mount(&format!("{a}/x"), &c, "", BIND));
    table(t, "three peers", &root);
    t.call("mount in one", tmpfs(&format!("{a}/x/y")));
    table(t, "in all", &root);
    t.call("mount in another", tmpfs(&format!("{b}/z")));
    table(t, "where it is seen", &root);
    t.call("on that", tmpfs(&format!("{a}/z")));
    table(t, "stacked in both", &root);
    t.call("umount the upper", umount(&format!("{b}/z"), 0));
    t.call("umount the lower", umount(&format!("{b}/z"), 0));
    t.call("umount in the part", umount(&format!("{c}/y"), 0));
    table(t, "gone in all", &root);
    t.call("mount", tmpfs(&format!("{a}/z")));
    let busy = open(&format!("{b}/z"), libc::O_DIRECTORY);
    t.call("busy elsewhere", umount(&format!("{a}/z"), 0));
    t.call("lazily", umount(&format!("{a}/z"), libc::MNT_DETACH));
    crate::sys::close(busy as i32);
    t.call("one leaves", change(&b, PRIVATE));
    t.call("mount", tmpfs(&format!("{a}/x/y")));
    table(t, "not in the private one", &root);
    t.call("bind into a peer", mount(&format!("{a}/z"), &format!("{a}/z"), "", BIND));
    table(t, "bound", &root);
    Ok(())
}

fn slaves(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-slaves", &["a", "b", "c", "d", "e"])?;
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(|name| format!("{root}/{name}"));
    tmpfs(&a);
    ["x", "y", "z"].iter().for_each(|name| mkdir(&format!("{a}/{name}")));
    change(&a, SHARED);
    mount(&a, &b, "", BIND);
    t.call("slave", change(&b, SLAVE));
    mount(&a, &c, "", BIND);
    t.call("slave", change(&c, SLAVE));
    t.call("and shared", change(&c, SHARED));
    mount(&c, &d, "", BIND);
    mount(&d, &e, "", BIND);
    t.call("slave of a slave", change(&e, SLAVE));
    table(t, "groups", &root);
    t.call("from the top", tmpfs(&format!("{a}/x")));
    table(t, "everywhere", &root);
    t.call("in a slave", tmpfs(&format!("{b}/y")));
    t.call("in the middle", tmpfs(&format!("{d}/z")));
    table(t, "only below", &root);
    t.call("umount in a slave", umount(&format!("{b}/x"), 0));
    t.call("umount in the middle", umount(&format!("{c}/x"), 0));
    table(t, "the top stays", &root);
    t.call("umount at the top", umount(&format!("{a}/x"), 0));
    table(t, "all gone", &root);
    t.call("the middle ends", change(&c, PRIVATE));
    table(t, "after one", &root);
    t.call("and its peer", umount(&d, libc::MNT_DETACH));
    table(t, "the slave's slave is the top's", &root);
    t.call("the top ends", umount(&a, libc::MNT_DETACH));
    table(t, "nobody's slaves", &root);
    t.call("bind a slave", mount(&b, &a, "", BIND));
    table(t, "a private copy", &root);
    Ok(())
}

fn between(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-between", &["a"])?;
    let a = format!("{root}/a");
    tmpfs(&a);
    ["x", "y", "z"].iter().for_each(|name| mkdir(&format!("{a}/{name}")));
    change(&a, SHARED);
    let (go, tell) = crate::sys::pipe(0)?;
    let (done, say) = crate::sys::pipe(0)?;
    // SAFETY: one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        unshare(libc::CLONE_NEWNS);
        let _ = crate::sys::write(say, b"x");
        let _ = crate::sys::read(go, 1);
        table(t, "the other namespace", &root);
        t.call("mounts there", tmpfs(&format!("{a}/y")));
        t.call("umount there", umount(&format!("{a}/x"), 0));
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    let _ = crate::sys::read(done, 1);
    t.call("mount here", tmpfs(&format!("{a}/x")));
    let _ = crate::sys::write(tell, b"x");
    super::finish(t, pid);
    table(t, "this namespace", &root);
    child(t, |t| {
        t.call("with a user namespace", unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS));
        table(t, "slaves there", &root);
        t.call("mounts there", tmpfs(&format!("{a}/z")));
        table(t, "not given back", &root);
    });
    table(t, "this namespace", &root);
    Ok(())
}

fn beneath(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-beneath", &["a", "b"])?;
    let [a, b] = ["a", "b"].map(|name| format!("{root}/{name}"));
    tmpfs(&a);
    mkdir(&format!("{a}/x"));
    change(&a, SHARED);
    mount(&a, &b, "", BIND);
    t.call("slave", change(&b, SLAVE));
    t.call("in the slave", tmpfs(&format!("{b}/x")));
    let _ = std::fs::write(format!("{b}/x/slaves"), "");
    t.call("in the master", tmpfs(&format!("{a}/x")));
    table(t, "the slave's lies above", &root);
    t.note("seen", std::fs::metadata(format!("{b}/x/slaves")).is_ok());
    t.call("umount in the master", umount(&format!("{a}/x"), 0));
    table(t, "the slave's stays", &root);
    t.note("seen", std::fs::metadata(format!("{b}/x/slaves")).is_ok());
    Ok(())
}

fn moves(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-moves", &["a", "b", "c", "m", "n"])?;
    let [a, b, c, m, n] = ["a", "b", "c", "m", "n"].map(|name| format!("{root}/{name}"));
    tmpfs(&a);
    mkdir(&format!("{a}/x"));
    change(&a, SHARED);
    mount(&a, &b, "", BIND);
    tmpfs(&m);
    mkdir(&format!("{m}/in"));
    tmpfs(&format!("{m}/in"));
    t.call("into a shared one", mount(&m, &format!("{a}/x"), "", libc::MS_MOVE));
    table(t, "moved to all peers", &root);
    t.call("out of a shared one", mount(&format!("{a}/x"), &n, "", libc::MS_MOVE));
    t.call("the peer itself", mount(&b, &c, "", libc::MS_MOVE));
    table(t, "moved", &root);
    tmpfs(&n);
    change(&n, UNBINDABLE);
    t.call("unbindable into a shared one", mount(&n, &format!("{a}/x"), "", libc::MS_MOVE));
    t.call("unbindable into a private one", mount(&n, &m, "", libc::MS_MOVE));
    t.call("below itself", mount(&a, &format!("{a}/x"), "", libc::MS_MOVE));
    t.call("the namespace's root", mount("/", &m, "", libc::MS_MOVE));
    Ok(())
}

fn locked(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-locked", &["a", "b", "c"])?;
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{root}/{name}"));
    tmpfs(&a);
    mkdir(&format!("{a}/x"));
    let _ = std::fs::write(format!("{a}/x/secret"), "");
    tmpfs(&format!("{a}/x"));
    sys!(SYS_chmod, crate::sys::c(&root).as_ptr(), 0o777);
    child(t, |t| {
        become_user(1000);
        t.call("namespaces", unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS));
        t.call("uncover", umount(&format!("{a}/x"), 0));
        t.call("uncover lazily", umount(&format!("{a}/x"), libc::MNT_DETACH));
        t.call("the outer", umount(&a, libc::MNT_DETACH));
        t.call("move", mount(&format!("{a}/x"), &b, "", libc::MS_MOVE));
        t.call("bind what is around it", mount(&a, &b, "", BIND));
        t.call("bind with it", mount(&a, &b, "", BIND | REC));
        t.call("uncover the copy", umount(&format!("{b}/x"), 0));
        t.note("hidden", std::fs::metadata(format!("{b}/x/secret")).is_err());
        let inside = open(&b, libc::O_DIRECTORY | libc::O_PATH);
        t.call("the copy goes whole", umount(&b, libc::MNT_DETACH));
        t.note("still hidden", std::fs::metadata(format!("/proc/self/fd/{inside}/x/secret")).is_err());
        t.call("one's own", tmpfs(&c));
        t.call("umount it", umount(&c, 0));
        t.call("the root", umount("/", libc::MNT_DETACH));
        t.call("types of the outer", change(&a, SHARED));
        table(t, "shared", &root);
    });
    child(t, |t| {
        t.call("only mounts", unshare(libc::CLONE_NEWNS));
        t.call("uncover", umount(&format!("{a}/x"), 0));
    });
    Ok(())
}

fn locked_flags(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-flags", &["a"])?;
    let a = format!("{root}/a");
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
    t.call("mount", mount("t", &a, "tmpfs", flags));
    child(t, |t| {
        t.call("namespaces", unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS));
        let remount = |flags: u64| mount("", &a, "", libc::MS_REMOUNT | BIND | flags);
        t.call("the same", remount(flags));
        for (what, flag) in [
            ("writable", libc::MS_RDONLY),
            ("suid", libc::MS_NOSUID),
            ("dev", libc::MS_NODEV),
            ("exec", libc::MS_NOEXEC),
        ] {
            t.call(what, remount(flags & !flag));
        }
        t.call("other access times", remount(flags | libc::MS_NOATIME));
        t.call("the file system", mount("", &a, "", libc::MS_REMOUNT | flags));
        mkdir("/tmp/mntns-flags-copy");
        t.call("a copy", mount(&a, "/tmp/mntns-flags-copy", "", BIND));
        t.call("of the copy", mount("", "/tmp/mntns-flags-copy", "", libc::MS_REMOUNT | BIND));
    });
    t.call("outside", mount("", &a, "", libc::MS_REMOUNT | BIND));
    Ok(())
}

fn visible(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-visible", &["p"])?;
    let p = format!("{root}/p");
    let proc = |t: &mut Transcript, what: &str, flags: i32| {
        let pid = super::clone(flags);
        if pid == 0 {
            t.call(what, mount("proc", &p, "proc", 0));
            t.call("sysfs", mount("sysfs", &p, "sysfs", 0));
            sys!(SYS_exit, 0);
        }
        super::finish(t, pid as i32);
    };
    let spaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    proc(t, "without a pid namespace", libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    proc(t, "with one", spaces);
    proc(t, "and a network namespace", spaces | libc::CLONE_NEWNET);
    t.call("hide something", tmpfs("/proc/sys"));
    proc(t, "not all is seen", spaces | libc::CLONE_NEWNET);
    t.call("show it", umount("/proc/sys", 0));
    t.call("no /proc at all", umount("/proc", libc::MNT_DETACH));
    proc(t, "none is seen", spaces);
    Ok(())
}

fn pivot(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-pivot", &["new", "other"])?;
    let new = format!("{root}/new");
    let pivot = |new: &str, old: &str| sys!(SYS_pivot_root, c(new).as_ptr(), c(old).as_ptr());
    mkdir(&format!("{new}/old"));
    t.call("not a mount", pivot(&new, &format!("{new}/old")));
    t.call("mount", tmpfs(&new));
    mkdir(&format!("{new}/old/deep"));
    mkdir(&format!("{new}/proc"));
    t.call("the old root itself", pivot("/", "/"));
    t.call("to outside", pivot(&new, &format!("{root}/other")));
    t.call("to nothing", pivot(&new, &format!("{new}/none")));
    t.call("to a file", pivot(&new, "/proc/self/status"));
    change(&root, SHARED);
    t.call("on a shared one", pivot(&new, &format!("{new}/old")));
    change(&root, PRIVATE);
    change(&new, SHARED);
    t.call("to a shared one", pivot(&new, &format!("{new}/old")));
    change(&new, PRIVATE);
    child(t, |t| {
        become_user(1000);
        t.call("as a user", pivot(&new, &format!("{new}/old")));
    });
    child(t, |t| {
        t.call("own namespace", unshare(libc::CLONE_NEWNS));
        // SAFETY: one thread.
        let other = unsafe { libc::fork() };
        if other == 0 {
            crate::sys::sleep_ms(500);
            t.note("another process's root", std::fs::metadata("/old/deep").is_ok());
            t.note(
                "and its working directory",
                std::env::current_dir().map(|p| p.display().to_string()).ok(),
            );
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        sys!(SYS_chdir, c"/tmp".as_ptr());
        t.call("pivot_root", pivot(&new, &format!("{new}/old")));
        t.note("root", std::fs::metadata("/old/tmp").is_ok());
        t.note("new root is the root", std::fs::metadata("/proc").is_ok());
        t.note("working directory", std::env::current_dir().map(|p| p.display().to_string()).ok());
        super::finish(t, other);
        t.call("chdir", sys!(SYS_chdir, c"/".as_ptr()));
        t.call("the old root goes", umount("/old", libc::MNT_DETACH));
        t.note("empty", std::fs::read_dir("/old").map(Iterator::count).ok());
    });
    child(t, |t| {
        t.call("own namespace", unshare(libc::CLONE_NEWNS));
        sys!(SYS_chdir, c(&new).as_ptr());
        t.call("onto itself", pivot(".", "."));
        t.call("the old root lies above", umount(".", libc::MNT_DETACH));
        t.call("chdir", sys!(SYS_chdir, c"/".as_ptr()));
        t.note("new root", std::fs::metadata("/old").is_ok());
    });
    child(t, |t| {
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
        put("/proc/self/uid_map", "0 0 1");
        put("/proc/self/setgroups", "deny");
        put("/proc/self/gid_map", "0 0 1");
        t.call("a locked one", pivot(&new, &format!("{new}/old")));
        mkdir("/tmp/mntns-own");
        t.call("one's own", tmpfs("/tmp/mntns-own"));
        mkdir("/tmp/mntns-own/old");
        t.call("to it", pivot("/tmp/mntns-own", "/tmp/mntns-own/old"));
        t.call("the old root goes", umount("/old", libc::MNT_DETACH));
    });
    Ok(())
}

fn mount_max(t: &mut Transcript) -> Outcome {
    let root = stage(t, "mntns-max", &["a", "b"])?;
    let [a, b] = ["a", "b"].map(|name| format!("{root}/{name}"));
    let count = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?.lines().count();
    // Linux counts a root above the root, which cannot be seen: leave room for both ways.
    t.call("limit", put("/proc/sys/fs/mount-max", &format!("{}", count + 3)));
    let mut made = 0;
    while tmpfs(&a) == 0 && made < 10 {
        made += 1;
    }
    t.note("refused after a few", (2..=3).contains(&made));
    t.call("refused", tmpfs(&b));
    t.call("none", put("/proc/sys/fs/mount-max", "0"));
    t.call("back", put("/proc/sys/fs/mount-max", "100000"));
    t.call("allowed", tmpfs(&b));
    Ok(())
}
