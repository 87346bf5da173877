//! mount(2), umount2(2), chroot(2), pivot_root(2), /proc/self/mountinfo.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{c, folder};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("mounts_errors", errors),
    ("mounts_tmpfs", tmpfs),
    ("mounts_bind", bind),
    ("mounts_move", moving),
    ("mounts_read_only", read_only),
    ("mounts_options", options),
    ("mounts_chroot", chroot),
    ("mounts_tmpfs_limits", limits),
];

const NULL: usize = 0;

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> i64 {
    let (source, target, kind, data) = (c(source), c(target), c(kind), c(data));
    sys!(SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr())
}

fn umount(target: &str, flags: i32) -> i64 {
    sys!(SYS_umount2, c(target).as_ptr(), flags)
}

/// The part of mountinfo that does not change: root, options, type, source of what is mounted below `root`.
fn table(t: &mut Transcript, root: &str) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in text.lines().filter(|line| line.contains(root)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let dash = words.iter().position(|word| *word == "-").unwrap_or(0);
        let place = words.get(4).map(|place| place.replace(root, "ROOT"));
        let source = words.get(3).map(|place| place.rsplit('/').next().unwrap_or_default().to_owned());
        t.note("mounted", (source, place, words.get(5), words.get(dash + 1), words.get(dash + 2)));
    }
}

fn errors(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-errors")?;
    let file = format!("{root}/f");
    std::fs::write(&file, "").map_err(|e| e.to_string())?;
    t.call("unknown type", mount("none", &root, "nonsense", 0, ""));
    t.call("nothing there", mount("none", "/none", "tmpfs", 0, ""));
    t.call("on a file", mount("none", &file, "tmpfs", 0, ""));
    t.call("null type", sys!(SYS_mount, c"none".as_ptr(), c(&root).as_ptr(), NULL, 0, NULL));
    t.call("bad option", mount("none", &root, "tmpfs", 0, "nonsense=1"));
    t.call("bad size", mount("none", &root, "tmpfs", 0, "size=x"));
    t.call("bad mode", mount("none", &root, "tmpfs", 0, "mode=9"));
    t.call("bind of nothing", mount("/none", &root, "", libc::MS_BIND, ""));
    t.call("bind directory over file", mount("/tmp", &file, "", libc::MS_BIND, ""));
    t.call("umount of no mount", umount(&root, 0));
    t.call("umount of nothing", umount("/none", 0));
    t.call("umount flags", umount(&root, 64));
    t.call("remount of no mount", mount("none", &root, "", libc::MS_REMOUNT, ""));
    Ok(())
}

fn tmpfs(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-tmpfs")?;
    let _ = std::fs::write(format!("{root}/below"), "");
    t.call("mount", mount("source", &root, "tmpfs", 0, "size=64k,mode=711"));
    table(t, &root);
    t.note("hidden", std::fs::metadata(format!("{root}/below")).is_err());
    t.call(
        "over it",
        mount("second", &root, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, ""),
    );
    table(t, &root);
    let open = std::fs::File::create(format!("{root}/open"));
    t.call("busy", umount(&root, 0));
    t.call("lazily", umount(&root, 2));
    drop(open);
    t.call("expire, marked", umount(&root, 4));
    t.call("expire, again", umount(&root, 4));
    t.note("seen again", std::fs::metadata(format!("{root}/below")).is_ok());
    Ok(())
}

fn bind(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-bind")?;
    for name in ["a/sub", "b", "c"] {
        std::fs::create_dir_all(format!("{root}/{name}")).map_err(|e| e.to_string())?;
    }
    std::fs::write(format!("{root}/a/f"), "text").map_err(|e| e.to_string())?;
    std::fs::write(format!("{root}/g"), "").map_err(|e| e.to_string())?;
    let (a, b, c) = (format!("{root}/a"), format!("{root}/b"), format!("{root}/c"));
    t.call("tmpfs in a/sub", mount("inner", &format!("{a}/sub"), "tmpfs", 0, ""));
    t.call("bind", mount(&a, &b, "", libc::MS_BIND, ""));
    t.call("recursive bind", mount(&a, &c, "", libc::MS_BIND | libc::MS_REC, ""));
    t.note("file through it", std::fs::read_to_string(format!("{b}/f")).ok());
    t.call("bind a file", mount(&format!("{a}/f"), &format!("{root}/g"), "", libc::MS_BIND, ""));
    t.note("the file", std::fs::read_to_string(format!("{root}/g")).ok());
    t.call("remove what is mounted on", sys!(SYS_unlink, crate::sys::c(&format!("{root}/g")).as_ptr()));
    t.call(
        "rename over it",
        sys!(
            SYS_rename,
            crate::sys::c(&format!("{a}/f")).as_ptr(),
            crate::sys::c(&format!("{root}/g")).as_ptr()
        ),
    );
    t.call(
        "rename across mounts",
        sys!(
            SYS_rename,
            crate::sys::c(&format!("{a}/f")).as_ptr(),
            crate::sys::c(&format!("{b}/h")).as_ptr()
        ),
    );
    t.call(
        "link across mounts",
        sys!(SYS_link, crate::sys::c(&format!("{a}/f")).as_ptr(), crate::sys::c(&format!("{b}/h")).as_ptr()),
    );
    t.call(
        "read-only at once is ignored",
        mount(&a, &b, "", libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY, ""),
    );
    t.note("write through the bind", std::fs::write(format!("{b}/x"), "").map_err(|e| e.to_string()));
    t.note("write through the other", std::fs::write(format!("{a}/x"), "").map_err(|e| e.to_string()));
    table(t, &root);
    t.call("umount with one inside", umount(&c, 0));
    t.call("lazily", umount(&c, 2));
    for place in [&b, &format!("{root}/g"), &format!("{a}/sub")] {
        t.call("umount", umount(place, 0));
    }
    Ok(())
}

fn moving(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-move")?;
    for name in ["a", "b"] {
        std::fs::create_dir_all(format!("{root}/{name}")).map_err(|e| e.to_string())?;
    }
    let (a, b) = (format!("{root}/a"), format!("{root}/b"));
    t.call("not a mount", mount(&a, &b, "", libc::MS_MOVE, ""));
    t.call("mount", mount("x", &a, "tmpfs", 0, ""));
    let _ = std::fs::create_dir(format!("{a}/in"));
    t.call("into itself", mount(&a, &format!("{a}/in"), "", libc::MS_MOVE, ""));
    t.call("move", mount(&a, &b, "", libc::MS_MOVE, ""));
    t.note("there", std::fs::metadata(format!("{b}/in")).is_ok());
    table(t, &root);
    t.call("umount", umount(&b, 0));
    Ok(())
}

fn read_only(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-ro")?;
    let file = c(&format!("{root}/f"));
    t.call("mount", mount("x", &root, "tmpfs", 0, ""));
    t.call("create", i64::from(sys!(SYS_open, file.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600) >= 0));
    t.call("remount while written", mount("x", &root, "tmpfs", libc::MS_REMOUNT | libc::MS_RDONLY, ""));
    crate::sys::close(3);
    t.call("remount", mount("x", &root, "tmpfs", libc::MS_REMOUNT | libc::MS_RDONLY, ""));
    t.call("open to write", sys!(SYS_open, file.as_ptr(), libc::O_WRONLY));
    t.call("create", sys!(SYS_open, c(&format!("{root}/g")).as_ptr(), libc::O_CREAT | libc::O_RDONLY, 0o600));
    t.call("unlink", sys!(SYS_unlink, file.as_ptr()));
    t.call("chmod", sys!(SYS_chmod, file.as_ptr(), 0o777));
    t.call("mkdir", sys!(SYS_mkdir, c(&format!("{root}/d")).as_ptr(), 0o777));
    t.call("utimensat", sys!(SYS_utimensat, libc::AT_FDCWD, file.as_ptr(), NULL, 0));
    t.call("access", sys!(SYS_access, file.as_ptr(), libc::W_OK));
    t.call("truncate", sys!(SYS_truncate, file.as_ptr(), 0));
    table(t, &root);
    t.call("umount", umount(&root, 0));
    Ok(())
}

fn options(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-options")?;
    t.call("mount", mount("x", &root, "tmpfs", libc::MS_NOEXEC | libc::MS_NODEV | libc::MS_NOSUID, ""));
    let program = format!("{root}/p");
    let _ = std::fs::copy("/proc/self/exe", &program);
    t.call(
        "run",
        crate::sys::in_child(|| {
            sys!(
                SYS_execve,
                c(&program).as_ptr(),
                [c(&program).as_ptr() as usize, 0].as_ptr(),
                [0usize].as_ptr()
            );
            crate::sys::errno()
        })?,
    );
    let device = c(&format!("{root}/null"));
    t.call("mknod", sys!(SYS_mknod, device.as_ptr(), 0o20666, 0x103));
    t.call("open it", sys!(SYS_open, device.as_ptr(), 0));
    let file = sys!(SYS_open, c(&program).as_ptr(), 0);
    t.call("map to execute", if sys!(SYS_mmap, NULL, 4096usize, 5, 2, file, 0) == -1 { -1 } else { 0 });
    crate::sys::close(file as i32);
    t.call(
        "remount with atime options",
        mount("x", &root, "", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOATIME, ""),
    );
    table(t, &root);
    t.call("make private", mount("", &root, "", libc::MS_PRIVATE, ""));
    t.call("two propagations", mount("", &root, "", libc::MS_PRIVATE | libc::MS_SHARED, ""));
    t.call("umount", umount(&root, 0));
    Ok(())
}

fn chroot(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-chroot")?;
    std::fs::create_dir_all(format!("{root}/in/deep")).map_err(|e| e.to_string())?;
    t.call("to a file", sys!(SYS_chroot, c"/etc/passwd".as_ptr()));
    t.call("to nothing", sys!(SYS_chroot, c"/none".as_ptr()));
    let outside = sys!(SYS_open, c"/".as_ptr(), libc::O_DIRECTORY);
    t.call("chroot", sys!(SYS_chroot, c(&root).as_ptr()));
    let mut buffer = [0u8; 100];
    let length = sys!(SYS_getcwd, buffer.as_mut_ptr(), 100usize);
    t.note("where one is", String::from_utf8_lossy(&buffer[..length.max(1) as usize - 1]));
    t.call("chdir", sys!(SYS_chdir, c"/../../in".as_ptr()));
    sys!(SYS_getcwd, buffer.as_mut_ptr(), 100usize);
    t.note("inside", String::from_utf8_lossy(&buffer[..3]));
    t.call("up and up", sys!(SYS_chdir, c"../../../../..".as_ptr()));
    t.note("still inside", sys!(SYS_access, c"/in/deep".as_ptr(), 0));
    t.call("out by a descriptor", sys!(SYS_fchdir, outside));
    t.note("outside", sys!(SYS_access, c"proc/self/stat".as_ptr(), 0));
    Ok(())
}

fn limits(t: &mut Transcript) -> Outcome {
    let root = folder("mnt-limits")?;
    t.call("mount", mount("x", &root, "tmpfs", 0, "size=40k,nr_inodes=5"));
    for index in 0..6 {
        t.note("create", std::fs::write(format!("{root}/{index}"), "").map_err(|e| e.to_string()));
    }
    let _ = std::fs::remove_file(format!("{root}/1"));
    let fd = sys!(SYS_open, c(&format!("{root}/0")).as_ptr(), libc::O_RDWR);
    let data = vec![1u8; 100_000];
    t.call("write 100000", sys!(SYS_write, fd, data.as_ptr(), 100_000usize));
    t.call("write more", sys!(SYS_write, fd, data.as_ptr(), 1usize));
    t.call("allocate more", sys!(SYS_fallocate, fd, 0, 0, 60_000));
    // SAFETY: plain data that the kernel fills.
    let mut s: libc::statfs = unsafe { std::mem::zeroed() };
    sys!(SYS_statfs, c(&root).as_ptr(), &raw mut s);
    t.note("blocks, free, files, free", (s.f_blocks, s.f_bfree, s.f_files, s.f_ffree));
    t.call("truncate", sys!(SYS_ftruncate, fd, 0));
    t.call("hole", sys!(SYS_ftruncate, fd, 1 << 30));
    sys!(SYS_statfs, c(&root).as_ptr(), &raw mut s);
    t.note("blocks, free", (s.f_blocks, s.f_bfree));
    crate::sys::close(fd as i32);
    t.call("remount smaller", mount("x", &root, "", libc::MS_REMOUNT, "size=20k"));
    t.call("umount", umount(&root, 0));
    Ok(())
}
