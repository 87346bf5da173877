//! What file systems do with files whose names go, with read-only remounts, access control lists, ioctl(2)s and fallocate(2): on tmpfs.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{c, folder};
use std::ffi::CString;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("fs_unlinked", unlinked),
    ("fs_removed_directory", removed_directory),
    ("fs_remount_read_only", remount_read_only),
    ("fs_acl", acl),
    ("fs_acl_inherited", acl_inherited),
    ("fs_acl_permits", acl_permits),
    ("fs_acl_errors", acl_errors),
    ("fs_flags", flags),
    ("fs_ioctl", ioctl),
    ("fs_fallocate", fallocate),
];

const NULL: usize = 0;
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// A tmpfs of 1 MiB of its own.
fn mounted(t: &mut Transcript, name: &str) -> Result<String, crate::case::Failure> {
    let root = folder(name)?;
    let (source, kind, data) = (c("none"), c("tmpfs"), c("size=1m,mode=777"));
    let at = c(&root);
    t.call("mount", sys!(SYS_mount, source.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, data.as_ptr()));
    Ok(root)
}

fn open(path: &str, flags: i32) -> i64 {
    sys!(SYS_openat, libc::AT_FDCWD, c(path).as_ptr(), flags, 0o666)
}

fn close(fd: i64) {
    sys!(SYS_close, fd);
}

/// Pages in use.
fn used(path: &str) -> u64 {
    // SAFETY: statfs writes the structure.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path and a structure.
    unsafe { libc::statfs(c(path).as_ptr(), &raw mut status) };
    status.f_blocks - status.f_bfree
}

fn unlinked(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-unlinked")?;
    let file = format!("{root}/f");
    let make = || std::fs::write(&file, vec![1; 65536]).map_err(|e| e.to_string());
    t.note("used at first", used(&root));
    make()?;
    t.note("with a file", used(&root));
    t.call("unlink", sys!(SYS_unlink, c(&file).as_ptr()));
    t.note("without", used(&root));
    for (what, flags) in [("a description", libc::O_RDONLY), ("a place", libc::O_PATH)] {
        make()?;
        let fd = t.call(what, open(&file, flags));
        let again = t.call("duplicated", sys!(SYS_dup, fd));
        t.call("unlink", sys!(SYS_unlink, c(&file).as_ptr()));
        close(fd);
        t.note("used after one close", used(&root));
        let reopened = t.works("opened again", open(&format!("/proc/self/fd/{again}"), libc::O_RDONLY));
        let mut byte = [0_u8; 1];
        t.call("read", sys!(SYS_read, reopened, byte.as_mut_ptr(), 1));
        close(again);
        t.note("used after the second", used(&root));
        close(reopened);
        t.note("used after all", used(&root));
    }
    make()?;
    let fd = open(&file, libc::O_RDWR);
    let map = sys!(SYS_mmap, NULL, 65536, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
    close(fd);
    t.call("unlink", sys!(SYS_unlink, c(&file).as_ptr()));
    t.note("used by a mapping", used(&root));
    sys!(SYS_munmap, map, 65536);
    for _ in 0..100 {
        // Not at once everywhere: another thread might be using the mapping.
        if used(&root) > 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    t.note("used after munmap", used(&root));
    let fd = t.call("nameless", open(&root, libc::O_TMPFILE | libc::O_RDWR));
    t.call("allocate", sys!(SYS_fallocate, fd, 0, 0, 65536));
    t.note("used", used(&root));
    let from = c(&format!("/proc/self/fd/{fd}"));
    let to = c(&file);
    let follow = libc::AT_SYMLINK_FOLLOW;
    t.call("linkat", sys!(SYS_linkat, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), follow));
    close(fd);
    t.note("used with a name", used(&root));
    t.call("unlink", sys!(SYS_unlink, to.as_ptr()));
    t.note("used at last", used(&root));
    t.call("umount", sys!(SYS_umount2, c(&root).as_ptr(), 0));
    Ok(())
}

fn removed_directory(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-removed")?;
    let directory = format!("{root}/d");
    let links = |fd: i64| {
        std::fs::metadata(format!("/proc/self/fd/{fd}"))
            .map(|status| std::os::unix::fs::MetadataExt::nlink(&status))
    };
    t.call("mkdir", sys!(SYS_mkdir, c(&directory).as_ptr(), 0o777));
    let fd = t.call("open", open(&directory, libc::O_RDONLY | libc::O_DIRECTORY));
    t.note("links", links(fd).map_err(|e| e.kind()));
    t.call("chdir", sys!(SYS_fchdir, fd));
    t.call("rmdir", sys!(SYS_rmdir, c(&directory).as_ptr()));
    t.note("links", links(fd).map_err(|e| e.kind()));
    t.call("make in it", sys!(SYS_mkdirat, fd, c("x").as_ptr(), 0o777));
    t.call("look in it", sys!(SYS_openat, fd, c("x").as_ptr(), 0, 0));
    t.call("make in .", sys!(SYS_mkdir, c("x").as_ptr(), 0o777));
    let mut buffer = [0_u8; 512];
    t.call("list it", sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), 512));
    t.call("getcwd", sys!(SYS_getcwd, buffer.as_mut_ptr(), 512));
    t.call("chmod it", sys!(SYS_fchmod, fd, 0o700));
    close(fd);
    t.works("open .", open(".", libc::O_RDONLY));
    t.call("chdir /", sys!(SYS_chdir, c("/").as_ptr()));
    t.call("two", sys!(SYS_mkdir, c(&directory).as_ptr(), 0o777));
    t.call("directories", sys!(SYS_mkdir, c(&format!("{root}/e")).as_ptr(), 0o777));
    let fd = open(&directory, libc::O_RDONLY | libc::O_DIRECTORY);
    t.call("rename over it", sys!(SYS_rename, c(&format!("{root}/e")).as_ptr(), c(&directory).as_ptr()));
    t.note("links", links(fd).map_err(|e| e.kind()));
    Ok(())
}

fn remount_read_only(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-remount")?;
    let file = format!("{root}/f");
    let remount = |flags: u64| {
        sys!(SYS_mount, c("none").as_ptr(), c(&root).as_ptr(), NULL, libc::MS_REMOUNT | flags, NULL)
    };
    let writer = open(&file, libc::O_CREAT | libc::O_RDWR);
    t.call("with a writer", remount(libc::MS_RDONLY));
    close(writer);
    let reader = open(&file, libc::O_RDONLY);
    t.call("with a reader", remount(libc::MS_RDONLY));
    t.call("unlink, read-only", sys!(SYS_unlink, c(&file).as_ptr()));
    t.call("unlink of nothing, read-only", sys!(SYS_unlink, c(&format!("{root}/none")).as_ptr()));
    t.call("rmdir of nothing, read-only", sys!(SYS_rmdir, c(&format!("{root}/none")).as_ptr()));
    t.call("writable again", remount(0));
    t.call("unlink", sys!(SYS_unlink, c(&file).as_ptr()));
    t.call("with a file without a name", remount(libc::MS_RDONLY));
    close(reader);
    t.call("when it is gone", remount(libc::MS_RDONLY));
    t.call("create", open(&file, libc::O_CREAT | libc::O_RDWR));
    t.call("writable", remount(0));
    // Through another mount of it.
    let other = folder("fs-remount-other")?;
    let bind = libc::MS_BIND;
    t.call("bind", sys!(SYS_mount, c(&root).as_ptr(), c(&other).as_ptr(), NULL, bind, NULL));
    let writer = open(&format!("{other}/f"), libc::O_CREAT | libc::O_RDWR);
    t.call("with a writer elsewhere", remount(libc::MS_RDONLY));
    close(writer);
    t.call("without", remount(libc::MS_RDONLY));
    Ok(())
}

/// A list as setxattr(2) takes it: tag, permissions, id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

const NO_ID: u32 = !0;
/// user::rwx user:1000:rw- group::r-x group:20:rwx mask::rwx other::r--
const FULL: [(u16, u16, u32); 6] =
    [(1, 7, NO_ID), (2, 6, 1000), (4, 5, NO_ID), (8, 7, 20), (16, 7, NO_ID), (32, 4, NO_ID)];

fn set(path: &str, name: &str, bytes: &[u8]) -> i64 {
    sys!(SYS_setxattr, c(path).as_ptr(), c(name).as_ptr(), bytes.as_ptr(), bytes.len(), 0)
}

fn remove(path: &str, name: &str) -> i64 {
    sys!(SYS_removexattr, c(path).as_ptr(), c(name).as_ptr())
}

/// What getxattr(2) gives of a list, the attributes there are, and the mode.
fn show(t: &mut Transcript, path: &str) {
    for name in [ACCESS, DEFAULT] {
        let mut bytes = [0_u8; 256];
        let length = sys!(SYS_getxattr, c(path).as_ptr(), c(name).as_ptr(), bytes.as_mut_ptr(), 256);
        if t.call(name, length) > 0 {
            let entries: Vec<_> = bytes[4..length as usize]
                .chunks(8)
                .map(|entry| {
                    let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
                    (entry[0], entry[2], id as i32)
                })
                .collect();
            t.note("entries", entries);
        }
    }
    let mut names = [0_u8; 256];
    let length = sys!(SYS_listxattr, c(path).as_ptr(), names.as_mut_ptr(), 256);
    t.note("names", String::from_utf8_lossy(&names[..length.max(0) as usize]));
    t.note(
        "mode",
        std::fs::symlink_metadata(path).map(|status| std::os::unix::fs::MetadataExt::mode(&status)).ok(),
    );
}

fn acl(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-acl")?;
    let file = format!("{root}/f");
    close(open(&file, libc::O_CREAT | libc::O_RDWR));
    t.call("user attribute", set(&file, "user.x", b"1"));
    show(t, &file);
    t.call("set", set(&file, ACCESS, &list(&FULL)));
    show(t, &file);
    t.call("chmod 705", sys!(SYS_chmod, c(&file).as_ptr(), 0o705));
    show(t, &file);
    t.call("chmod 640", sys!(SYS_chmod, c(&file).as_ptr(), 0o640));
    show(t, &file);
    t.call("as a mode", set(&file, ACCESS, &list(&[(1, 6, NO_ID), (4, 4, NO_ID), (32, 0, NO_ID)])));
    show(t, &file);
    t.call("set again", set(&file, ACCESS, &list(&FULL)));
    t.call("remove", remove(&file, ACCESS));
    show(t, &file);
    t.call("remove nothing", remove(&file, ACCESS));
    t.call("set again", set(&file, ACCESS, &list(&FULL)));
    t.call("empty", set(&file, ACCESS, &list(&[])));
    show(t, &file);
    Ok(())
}

fn acl_inherited(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-acl-inherited")?;
    t.call("default", set(&root, DEFAULT, &list(&FULL)));
    show(t, &root);
    // SAFETY: a number.
    unsafe { libc::umask(0o077) };
    close(open(&format!("{root}/f"), libc::O_CREAT | libc::O_RDWR));
    show(t, &format!("{root}/f"));
    t.call("mkdir", sys!(SYS_mkdir, c(&format!("{root}/d")).as_ptr(), 0o750));
    show(t, &format!("{root}/d"));
    t.call("mkfifo", sys!(SYS_mknod, c(&format!("{root}/p")).as_ptr(), libc::S_IFIFO | 0o622, 0));
    show(t, &format!("{root}/p"));
    t.call("symlink", sys!(SYS_symlink, c("f").as_ptr(), c(&format!("{root}/l")).as_ptr()));
    t.note("link", std::fs::symlink_metadata(format!("{root}/l")).is_ok());
    let basic = [(1, 7, NO_ID), (4, 4, NO_ID), (32, 1, NO_ID)];
    t.call("default of three", set(&root, DEFAULT, &list(&basic)));
    close(open(&format!("{root}/g"), libc::O_CREAT | libc::O_RDWR));
    show(t, &format!("{root}/g"));
    t.call("mkdir", sys!(SYS_mkdir, c(&format!("{root}/e")).as_ptr(), 0o777));
    show(t, &format!("{root}/e"));
    t.call("no default", remove(&root, DEFAULT));
    close(open(&format!("{root}/h"), libc::O_CREAT | libc::O_RDWR));
    show(t, &format!("{root}/h"));
    let fd = open(&format!("{root}/e"), libc::O_TMPFILE | libc::O_RDWR);
    show(t, &format!("/proc/self/fd/{fd}"));
    Ok(())
}

/// What user `uid` with group `gid` may do with a file.
fn may(t: &mut Transcript, what: &str, path: &str, uid: u32, gid: u32) {
    let mut granted = String::new();
    for (letter, flags) in [('r', libc::O_RDONLY), ('w', libc::O_WRONLY)] {
        // SAFETY: numbers.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        let fd = open(path, flags);
        // SAFETY: numbers.
        unsafe {
            libc::setfsuid(0);
            libc::setfsgid(0);
        }
        granted.push(if fd >= 0 { letter } else { '-' });
        if fd >= 0 {
            close(fd);
        }
    }
    t.note(what, granted);
}

fn acl_permits(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-acl-permits")?;
    let file = format!("{root}/f");
    close(open(&file, libc::O_CREAT | libc::O_RDWR));
    t.call("chown", sys!(SYS_chown, c(&file).as_ptr(), 500, 600));
    let lists: [&[(u16, u16, u32)]; 4] = [
        &FULL,
        &[(1, 6, NO_ID), (2, 0, 1000), (4, 4, NO_ID), (8, 2, 20), (16, 6, NO_ID), (32, 6, NO_ID)],
        &[(1, 0, NO_ID), (2, 6, 1000), (4, 6, NO_ID), (8, 6, 20), (16, 4, NO_ID), (32, 2, NO_ID)],
        &[(1, 6, NO_ID), (2, 6, 1000), (4, 6, NO_ID), (8, 6, 20), (16, 0, NO_ID), (32, 6, NO_ID)],
    ];
    for entries in lists {
        t.call("list", set(&file, ACCESS, &list(entries)));
        may(t, "owner", &file, 500, 7);
        may(t, "named user", &file, 1000, 7);
        may(t, "named user in the group", &file, 1000, 600);
        may(t, "group", &file, 7, 600);
        may(t, "named group", &file, 7, 20);
        may(t, "others", &file, 7, 7);
    }
    // A directory that lets one user through.
    t.call("directory", sys!(SYS_mkdir, c(&format!("{root}/d")).as_ptr(), 0o711));
    close(open(&format!("{root}/d/f"), libc::O_CREAT | libc::O_RDWR));
    may(t, "anybody", &format!("{root}/d/f"), 1000, 7);
    let entries = [(1, 7, NO_ID), (2, 0, 1000), (4, 1, NO_ID), (16, 1, NO_ID), (32, 1, NO_ID)];
    t.call("not for one", set(&format!("{root}/d"), ACCESS, &list(&entries)));
    may(t, "that one", &format!("{root}/d/f"), 1000, 7);
    may(t, "another", &format!("{root}/d/f"), 1001, 7);
    Ok(())
}

fn acl_errors(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-acl-errors")?;
    let file = format!("{root}/f");
    close(open(&file, libc::O_CREAT | libc::O_RDWR));
    t.call("default of a file", set(&file, DEFAULT, &list(&FULL)));
    t.call("no default of a file", remove(&file, DEFAULT));
    let mut old = list(&FULL);
    old[0] = 1;
    t.call("version", set(&file, ACCESS, &old));
    t.call("short", set(&file, ACCESS, &[2, 0]));
    t.call("nothing", set(&file, ACCESS, &[]));
    t.call("a part of an entry", set(&file, ACCESS, &list(&FULL)[..9]));
    type List<'a> = &'a [(u16, u16, u32)];
    let wrong: [(&str, List<'_>); 6] = [
        ("no mask", &[(1, 7, NO_ID), (2, 6, 1000), (4, 5, NO_ID), (32, 4, NO_ID)]),
        ("no owner", &[(4, 5, NO_ID), (32, 4, NO_ID)]),
        ("order", &[(4, 5, NO_ID), (1, 7, NO_ID), (32, 4, NO_ID)]),
        ("twice", &[(1, 7, NO_ID), (1, 7, NO_ID), (4, 5, NO_ID), (32, 4, NO_ID)]),
        ("permissions", &[(1, 15, NO_ID), (4, 5, NO_ID), (32, 4, NO_ID)]),
        ("tag", &[(1, 7, NO_ID), (4, 5, NO_ID), (32, 4, NO_ID), (64, 4, NO_ID)]),
    ];
    for (what, entries) in wrong {
        t.call(what, set(&file, ACCESS, &list(entries)));
    }
    let same =
        [(1, 7, NO_ID), (2, 6, 9), (2, 6, 9), (2, 6, 5), (4, 5, NO_ID), (16, 7, NO_ID), (32, 4, NO_ID)];
    t.call("a user twice", set(&file, ACCESS, &list(&same)));
    t.call("symlink", sys!(SYS_symlink, c("f").as_ptr(), c(&format!("{root}/l")).as_ptr()));
    let (link, name, bytes) = (c(&format!("{root}/l")), c(ACCESS), list(&FULL));
    t.call("set", sys!(SYS_lsetxattr, link.as_ptr(), name.as_ptr(), bytes.as_ptr(), bytes.len(), 0));
    t.call("get", sys!(SYS_lgetxattr, link.as_ptr(), name.as_ptr(), NULL, 0));
    t.call("remove", sys!(SYS_lremovexattr, link.as_ptr(), name.as_ptr()));
    // SAFETY: numbers.
    unsafe { libc::setfsuid(1000) };
    t.call("not the owner", set(&file, ACCESS, &list(&FULL)));
    t.call("nor here", remove(&file, ACCESS));
    // SAFETY: numbers.
    unsafe { libc::setfsuid(0) };
    let fd = open(&file, libc::O_RDONLY);
    let name = c(ACCESS);
    t.call("create that is there", sys!(SYS_fsetxattr, fd, name.as_ptr(), bytes.as_ptr(), bytes.len(), 1));
    t.call("too little room", sys!(SYS_fgetxattr, fd, name.as_ptr(), bytes.as_ptr(), 5));
    t.call("size", sys!(SYS_fgetxattr, fd, name.as_ptr(), NULL, 0));
    t.call("proc", set("/proc/self/status", ACCESS, &bytes));
    t.call("proc", sys!(SYS_getxattr, c("/proc/self/status").as_ptr(), name.as_ptr(), NULL, 0));
    Ok(())
}

const GET_FLAGS: u64 = 0x8008_6601;
const SET_FLAGS: u64 = 0x4008_6602;
const GET_XFLAGS: u64 = 0x801c_581f;
const SET_XFLAGS: u64 = 0x401c_5820;

fn get_flags(t: &mut Transcript, fd: i64) {
    let mut value = 0_u32;
    if t.call("get flags", sys!(SYS_ioctl, fd, GET_FLAGS, &raw mut value)) == 0 {
        // Whether directories are indexed and files have extents is the file system's affair.
        t.note("flags", format_args!("{value:#x}"));
    }
}

fn flags(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-flags")?;
    let file = format!("{root}/f");
    let fd = open(&file, libc::O_CREAT | libc::O_RDWR);
    get_flags(t, fd);
    for value in [0x40_u32, 0x80, 0x20, 0x10, 0x0, 0x4, 0x1000_0000, 0x8_0000] {
        t.note("value", format_args!("{value:#x}"));
        t.call("set", sys!(SYS_ioctl, fd, SET_FLAGS, &raw const value));
        get_flags(t, fd);
        t.call("chmod", sys!(SYS_fchmod, fd, 0o600));
        t.call("write", sys!(SYS_pwrite64, fd, c("x").as_ptr(), 1, 0));
        t.works("open to write", open(&file, libc::O_WRONLY));
        t.works("open to append", open(&file, libc::O_WRONLY | libc::O_APPEND));
        t.call("link", sys!(SYS_link, c(&file).as_ptr(), c(&format!("{root}/g")).as_ptr()));
        t.call("unlink", sys!(SYS_unlink, c(&format!("{root}/g")).as_ptr()));
        t.call("punch", sys!(SYS_fallocate, fd, 3, 0, 4096));
        t.call("allocate", sys!(SYS_fallocate, fd, 0, 0, 4096));
        t.call("list", set(&file, ACCESS, &list(&FULL)));
    }
    let mut words = [0_u32; 7];
    t.call("get xflags", sys!(SYS_ioctl, fd, GET_XFLAGS, words.as_mut_ptr()));
    t.note("xflags", words);
    for (what, place, value) in
        [("nodump", 0, 0x80_u32), ("project", 3, 7), ("extent size", 1, 4096), ("unknown", 0, 0x1000)]
    {
        let mut words = [0_u32; 7];
        words[place] = value;
        t.call(what, sys!(SYS_ioctl, fd, SET_XFLAGS, words.as_mut_ptr()));
        t.call("get xflags", sys!(SYS_ioctl, fd, GET_XFLAGS, words.as_mut_ptr()));
        t.note("xflags", words);
    }
    let value = 0x20_u32;
    // SAFETY: numbers.
    unsafe { libc::setfsuid(1000) };
    t.call("another's", sys!(SYS_ioctl, fd, SET_FLAGS, &raw const value));
    // SAFETY: numbers.
    unsafe { libc::setfsuid(0) };
    t.call("bad address", sys!(SYS_ioctl, fd, SET_FLAGS, 8));
    let directory = open(&root, libc::O_RDONLY);
    get_flags(t, directory);
    t.call("of a directory", sys!(SYS_ioctl, directory, SET_FLAGS, &raw const value));
    get_flags(t, directory);
    t.call("make in it", sys!(SYS_mkdir, c(&format!("{root}/x")).as_ptr(), 0o700));
    t.call("remove from it", sys!(SYS_rmdir, c(&format!("{root}/x")).as_ptr()));
    let pipe = open("/proc/self/status", libc::O_RDONLY);
    get_flags(t, pipe);
    let null = open("/dev/null", libc::O_RDONLY);
    get_flags(t, null);
    Ok(())
}

fn ioctl(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-ioctl")?;
    let fd = open(&format!("{root}/f"), libc::O_CREAT | libc::O_RDWR);
    t.call("allocate", sys!(SYS_fallocate, fd, 0, 0, 8192));
    let directory = open(&root, libc::O_RDONLY);
    let proc = open("/proc/self/status", libc::O_RDONLY);
    let null = open("/dev/null", libc::O_RDWR);
    let mut ends = [0_i32; 2];
    sys!(SYS_pipe2, ends.as_mut_ptr(), 0);
    let calls: [(&str, u64); 9] = [
        ("FIBMAP", 1),
        ("FIGETBSZ", 2),
        ("FIOQSIZE", 0x5460),
        ("FIFREEZE", 0xc004_5877),
        ("FITHAW", 0xc004_5878),
        ("FITRIM", 0xc018_5879),
        ("GETVERSION", 0x8008_7601),
        ("GETFSLABEL", 0x8100_9431),
        ("SETFSLABEL", 0x4100_9432),
    ];
    for (what, on) in
        [("file", fd), ("directory", directory), ("proc", proc), ("null", null), ("pipe", i64::from(ends[0]))]
    {
        t.note("on", what);
        // proc has blocks of 1024 bytes on Linux, for no reason that anybody sees.
        for (name, number) in calls.into_iter().filter(|(name, _)| (what, *name) != ("proc", "FIGETBSZ")) {
            let mut room = [0_u64; 32];
            if t.call(name, sys!(SYS_ioctl, on, number, room.as_mut_ptr())) == 0 {
                t.note("gives", room[0]);
            }
        }
        let mut map = [0_u64; 4];
        map[1] = u64::MAX;
        t.call("FIEMAP", sys!(SYS_ioctl, on, 0xc020_660b_u64, map.as_mut_ptr()));
        map[2] = 0x8000;
        t.call("FIEMAP with a flag", sys!(SYS_ioctl, on, 0xc020_660b_u64, map.as_mut_ptr()));
        map = [0; 4];
        t.call("FIEMAP of nothing", sys!(SYS_ioctl, on, 0xc020_660b_u64, map.as_mut_ptr()));
    }
    Ok(())
}

fn fallocate(t: &mut Transcript) -> Outcome {
    let root = mounted(t, "fs-fallocate")?;
    let name: CString = c(&format!("{root}/f"));
    let fd = open(&format!("{root}/f"), libc::O_CREAT | libc::O_RDWR);
    for mode in 0..0x102_u32 {
        let answer = sys!(SYS_fallocate, fd, mode, 4096, 4096);
        if mode < 0x22 || mode.count_ones() < 3 {
            t.call(&format!("mode {mode:#x}"), answer);
        }
    }
    for (offset, length) in [(-1_i64, 1_i64), (0, 0), (0, -1), (i64::MAX, 1), (1, i64::MAX), (0, 1 << 40)] {
        t.call(&format!("{offset} {length}"), sys!(SYS_fallocate, fd, 0, offset, length));
    }
    t.call("closed", sys!(SYS_fallocate, 1000, 0, -1, 0));
    let reader = open(&format!("{root}/f"), libc::O_RDONLY);
    t.call("not to write", sys!(SYS_fallocate, reader, 0, 0, 1));
    t.call("not to write, wrong", sys!(SYS_fallocate, reader, 0x100, 0, 1));
    t.call("not to write, no length", sys!(SYS_fallocate, reader, 0, 0, 0));
    let place = open(&format!("{root}/f"), libc::O_PATH);
    t.call("place", sys!(SYS_fallocate, place, 0, 0, 1));
    let directory = open(&root, libc::O_RDONLY);
    t.call("directory", sys!(SYS_fallocate, directory, 0, 0, 1));
    let null = open("/dev/null", libc::O_RDWR);
    t.call("null", sys!(SYS_fallocate, null, 0, 0, 1));
    let mut ends = [0_i32; 2];
    sys!(SYS_pipe2, ends.as_mut_ptr(), 0);
    t.call("pipe", sys!(SYS_fallocate, ends[1], 0, 0, 1));
    t.call("truncate", sys!(SYS_truncate, name.as_ptr(), 0));
    Ok(())
}
