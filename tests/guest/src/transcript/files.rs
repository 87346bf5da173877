//! Descriptors and files beyond the everyday: close_range(2), openat2(2), renameat2(2), copy_file_range(2), splice(2),
//! sendfile(2), extended attributes, fallocate(2), preadv2(2), statx(2), access(2), fcntl(2).

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{c, folder, in_child, pipe};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("files_close_range", close_range),
    ("files_dup_and_fcntl", fcntl),
    ("files_openat2", openat2),
    ("files_open_flags", open_flags),
    ("files_renameat2", renameat2),
    ("files_copy", copy),
    ("files_splice", splice),
    ("files_splice_full_pipe", splice_full_pipe),
    ("files_xattr", xattr),
    ("files_fallocate", fallocate),
    ("files_vectors", vectors),
    ("files_statx_and_access", statx),
    ("files_links", links),
    ("files_paths", paths),
    ("files_times", times),
    ("files_modes_and_owners", modes),
    ("files_set_group_id_folder", set_group_id_folder),
    ("files_poll", poll),
    ("files_terminal_after_its_session", terminal_after_its_session),
    ("files_directories", directories),
    ("files_directory_order", directory_order),
];

const NULL: usize = 0;

fn open(path: &str, flags: i32) -> i32 {
    // SAFETY: a valid string.
    unsafe { libc::open(c(path).as_ptr(), flags, 0o644) }
}

fn close_range(t: &mut Transcript) -> Outcome {
    for _ in 3..10 {
        t.call("open", open("/dev/null", libc::O_RDONLY));
    }
    t.call("5 to 6", sys!(SYS_close_range, 5, 6, 0));
    t.call("backwards", sys!(SYS_close_range, 6, 5, 0));
    t.call("bad flag", sys!(SYS_close_range, 3, 4, 64));
    t.call("close-on-exec from 8", sys!(SYS_close_range, 8, u32::MAX, 4));
    // SAFETY: numbers only.
    unsafe {
        for fd in 3..11 {
            t.call(&format!("F_GETFD of {fd}"), libc::fcntl(fd, libc::F_GETFD));
        }
    }
    t.call("lowest free", open("/dev/null", libc::O_RDONLY));
    t.call("unshared", sys!(SYS_close_range, 3, 4, 2));
    Ok(())
}

fn fcntl(t: &mut Transcript) -> Outcome {
    let fd = open("/tmp", libc::O_RDONLY | libc::O_DIRECTORY);
    // SAFETY: numbers only.
    unsafe {
        t.call("F_DUPFD 50", libc::fcntl(fd, libc::F_DUPFD, 50));
        t.call("F_DUPFD_CLOEXEC 50", libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 50));
        t.call("F_GETFD", libc::fcntl(51, libc::F_GETFD));
        t.call("F_DUPFD -1", libc::fcntl(fd, libc::F_DUPFD, -1));
        t.call("F_DUPFD past the limit", libc::fcntl(fd, libc::F_DUPFD, 1 << 30));
        t.call("F_GETFL", libc::fcntl(fd, libc::F_GETFL));
        t.call("F_SETFL nonblock, append", libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK | libc::O_APPEND));
        t.call("F_GETFL", libc::fcntl(fd, libc::F_GETFL));
        t.call("F_SETFL nothing", libc::fcntl(fd, libc::F_SETFL, 0));
        t.call("F_GETOWN", libc::fcntl(fd, libc::F_GETOWN));
        t.call("F_SETSIG 70", libc::fcntl(fd, 10, 70));
        t.call("F_SETSIG 10", libc::fcntl(fd, 10, 10));
        t.call("F_GETSIG", libc::fcntl(fd, 11));
        t.call("F_GETPIPE_SZ of no pipe", libc::fcntl(fd, libc::F_GETPIPE_SZ));
        t.call("unknown", libc::fcntl(fd, 999));
        t.call("bad descriptor", libc::fcntl(99, libc::F_GETFD));
        t.call("dup2 to itself", libc::dup2(fd, fd));
        t.call("dup3 to itself", libc::dup3(fd, fd, 0));
        t.call("dup3 bad flag", libc::dup3(fd, 60, 1));
        t.call("dup2 of nothing to itself", libc::dup2(99, 99));
        t.call("dup2 too far", libc::dup2(fd, 1 << 30));
        let (reading, _) = pipe(0)?;
        t.call("F_GETPIPE_SZ", libc::fcntl(reading, libc::F_GETPIPE_SZ));
        t.call("F_SETPIPE_SZ 5000", libc::fcntl(reading, libc::F_SETPIPE_SZ, 5000));
        t.call("F_SETPIPE_SZ 0", libc::fcntl(reading, libc::F_SETPIPE_SZ, 0));
        let memory = sys!(SYS_memfd_create, c"m".as_ptr(), 2) as i32;
        t.call("F_GET_SEALS", libc::fcntl(memory, libc::F_GET_SEALS));
        t.call("F_ADD_SEALS shrink, write", libc::fcntl(memory, libc::F_ADD_SEALS, 2 | 8));
        t.call("write when sealed", libc::write(memory, c"x".as_ptr().cast(), 1) as i64);
        t.call("grow when allowed", libc::ftruncate(memory, 100));
        t.call("shrink when sealed", libc::ftruncate(memory, 10));
        t.call("F_GET_SEALS", libc::fcntl(memory, libc::F_GET_SEALS));
        t.call("F_ADD_SEALS seal", libc::fcntl(memory, libc::F_ADD_SEALS, 1));
        t.call("F_ADD_SEALS after seal", libc::fcntl(memory, libc::F_ADD_SEALS, 4));
    }
    Ok(())
}

fn openat2(t: &mut Transcript) -> Outcome {
    let root = folder("openat2")?;
    std::fs::create_dir_all(format!("{root}/a/b")).map_err(|e| e.to_string())?;
    std::fs::write(format!("{root}/a/f"), "x").map_err(|e| e.to_string())?;
    for (target, name) in [("f", "a/link"), ("/etc", "a/abs"), ("../..", "a/up"), ("/proc/self/exe", "magic")]
    {
        std::os::unix::fs::symlink(target, format!("{root}/{name}")).map_err(|e| e.to_string())?;
    }
    let at = open(&root, libc::O_RDONLY | libc::O_DIRECTORY);
    let (no_xdev, no_magic, no_symlinks, beneath, in_root, cached) = (1u64, 2u64, 4u64, 8u64, 16u64, 32u64);
    for (path, flags, resolve) in [
        ("a/f", 0, 0),
        ("a/link", 0, no_symlinks),
        ("a/link", 0, beneath),
        ("a/abs", 0, beneath),
        ("a/up", 0, beneath),
        ("a/../a/f", 0, beneath),
        ("..", 0, beneath),
        ("/a/f", 0, beneath),
        ("/a/f", 0, in_root),
        ("../../a/f", 0, in_root),
        ("a/abs", 0, in_root),
        ("magic", 0, no_magic),
        ("magic", 0, 0),
        ("/proc/self/stat", 0, no_xdev),
        ("a/f", 0, beneath | in_root),
        ("a/f", 0, 64),
        ("a/f", 1 << 40, 0),
        ("a/f", 0, cached),
        ("a/new", libc::O_CREAT as u64, cached),
        ("a/f", (libc::O_PATH | libc::O_RDWR) as u64, 0),
    ] {
        let how = [flags, 0u64, resolve];
        let fd = sys!(SYS_openat2, at, c(path).as_ptr(), how.as_ptr(), 24usize);
        t.works(&format!("{path} flags {flags:#x} resolve {resolve}"), fd);
    }
    let how = [0u64, 0, 0, 1];
    t.call("small size", sys!(SYS_openat2, at, c"a/f".as_ptr(), how.as_ptr(), 16usize));
    t.call("unknown part set", sys!(SYS_openat2, at, c"a/f".as_ptr(), how.as_ptr(), 32usize));
    let how = [0u64, 0o777, 0];
    t.call("mode without O_CREAT", sys!(SYS_openat2, at, c"a/f".as_ptr(), how.as_ptr(), 24usize));
    Ok(())
}

fn open_flags(t: &mut Transcript) -> Outcome {
    let root = folder("open")?;
    let file = format!("{root}/f");
    t.works("create", open(&file, libc::O_CREAT | libc::O_RDWR));
    for (what, path, flags) in [
        ("exclusive", file.clone(), libc::O_CREAT | libc::O_EXCL),
        ("directory flag on a file", file.clone(), libc::O_DIRECTORY),
        ("writing a directory", root.clone(), libc::O_WRONLY),
        ("create a directory", root.clone(), libc::O_CREAT),
        ("trailing slash on a file", format!("{file}/"), 0),
        ("trailing slash on nothing", format!("{root}/new/"), libc::O_CREAT),
        ("through a file", format!("{file}/x"), 0),
        ("nothing", format!("{root}/none"), 0),
        ("empty", String::new(), 0),
        ("temporary file", root.clone(), libc::O_TMPFILE | libc::O_RDWR),
        ("temporary file, read-only", root.clone(), libc::O_TMPFILE),
        ("temporary file in a file", file.clone(), libc::O_TMPFILE | libc::O_RDWR),
        ("path", file.clone(), libc::O_PATH),
        ("path and write", file.clone(), libc::O_PATH | libc::O_WRONLY),
        ("noatime", file.clone(), libc::O_NOATIME),
        ("access mode 3", file.clone(), 3),
        ("create with directory", format!("{root}/x"), libc::O_CREAT | libc::O_DIRECTORY),
        ("terminal", "/dev/tty".to_owned(), libc::O_RDWR),
        ("null device", "/dev/null".to_owned(), libc::O_RDWR),
    ] {
        t.works(what, open(&path, flags));
    }
    let fd = open(&file, libc::O_PATH);
    // SAFETY: one byte.
    unsafe {
        let mut byte = 0u8;
        t.call("read from a path", libc::read(fd, (&raw mut byte).cast(), 1) as i64);
        t.call("fchmod of a path", libc::fchmod(fd, 0o600));
        t.call("fstat of a path", libc::fstat(fd, &mut std::mem::zeroed()));
        t.call("fcntl of a path", libc::fcntl(fd, libc::F_GETFL));
        t.call("ioctl of a path", libc::ioctl(fd, libc::FIONREAD, &raw mut byte));
        t.call("ioctl of a file", libc::ioctl(open(&file, 0), libc::TCGETS, NULL));
    }
    Ok(())
}

fn renameat2(t: &mut Transcript) -> Outcome {
    let root = folder("rename")?;
    let at = open(&root, libc::O_RDONLY | libc::O_DIRECTORY);
    let make = |name: &str| std::fs::write(format!("{root}/{name}"), name).is_ok();
    let (no_replace, exchange) = (1, 2);
    t.note("made", (make("a"), make("b"), std::fs::create_dir_all(format!("{root}/d/e")).is_ok()));
    let mut rename = |what: &str, from: &str, to: &str, flags: i32| {
        t.call(what, sys!(SYS_renameat2, at, c(from).as_ptr(), at, c(to).as_ptr(), flags));
    };
    rename("no replace, exists", "a", "b", no_replace);
    rename("no replace", "a", "c", no_replace);
    rename("exchange", "b", "c", exchange);
    rename("exchange with nothing", "b", "z", exchange);
    rename("exchange file and directory", "b", "d", exchange);
    rename("both flags", "b", "c", 3);
    rename("unknown flag", "b", "c", 64);
    rename("into itself", "b", "b/x", 0);
    rename("directory below itself", "d", "d/e", 0);
    rename("file over directory", "c", "b", 0);
    rename("directory over file", "b", "c", 0);
    rename("directory over a full one", "b", "b", 0);
    rename("to dot", "c", ".", 0);
    rename("of dot-dot", "..", "x", 0);
    rename("exchange with its own parent", "b", "b/e", exchange);
    let mut names: Vec<_> = std::fs::read_dir(&root)
        .map_err(|e| e.to_string())?
        .filter_map(|entry| entry.ok())
        .map(|entry| (entry.file_name(), entry.path().is_dir()))
        .collect();
    names.sort();
    t.note("left", names);
    Ok(())
}

fn copy(t: &mut Transcript) -> Outcome {
    let root = folder("copy")?;
    let (from, to) = (format!("{root}/from"), format!("{root}/to"));
    std::fs::write(&from, (0..20_000u32).map(|i| i as u8).collect::<Vec<u8>>()).map_err(|e| e.to_string())?;
    let (source, target) = (open(&from, libc::O_RDONLY), open(&to, libc::O_RDWR | libc::O_CREAT));
    let null = NULL;
    let (mut in_at, mut out_at) = (5000i64, 100i64);
    t.call(
        "1000 bytes",
        sys!(SYS_copy_file_range, source, &raw mut in_at, target, &raw mut out_at, 1000usize, 0),
    );
    t.note("offsets", (in_at, out_at));
    t.call("the rest", sys!(SYS_copy_file_range, source, null, target, null, 1usize << 30, 0));
    t.call("at the end", sys!(SYS_copy_file_range, source, null, target, null, 100usize, 0));
    t.call("bad flags", sys!(SYS_copy_file_range, source, null, target, null, 100usize, 1));
    t.call("to a read-only descriptor", sys!(SYS_copy_file_range, target, null, source, null, 10usize, 0));
    let (mut a, mut b) = (0i64, 500i64);
    t.call("overlapping", sys!(SYS_copy_file_range, target, &raw mut a, target, &raw mut b, 1000usize, 0));
    t.call(
        "same file, apart",
        sys!(SYS_copy_file_range, target, &raw mut a, target, &raw mut b, 100usize, 0),
    );
    let (reading, writing) = pipe(0)?;
    t.call("from a pipe", sys!(SYS_copy_file_range, reading, null, target, null, 10usize, 0));
    let mut at = 10i64;
    t.call("sendfile to a pipe", sys!(SYS_sendfile, writing, source, &raw mut at, 500usize));
    t.note("offset", at);
    t.call("sendfile to a file", sys!(SYS_sendfile, target, source, &raw mut at, 100_000usize));
    t.call("sendfile from a pipe", sys!(SYS_sendfile, target, reading, null, 100usize));
    let append = open(&to, libc::O_WRONLY | libc::O_APPEND);
    t.call("sendfile to an appending one", sys!(SYS_sendfile, append, source, &raw mut at, 10usize));
    t.note("length at the end", std::fs::metadata(&to).map(|m| m.len()).ok());
    Ok(())
}

fn splice(t: &mut Transcript) -> Outcome {
    let root = folder("splice")?;
    let path = format!("{root}/f");
    std::fs::write(&path, vec![7u8; 100_000]).map_err(|e| e.to_string())?;
    let file = open(&path, libc::O_RDWR);
    let (r1, w1) = pipe(libc::O_NONBLOCK)?;
    let (r2, w2) = pipe(libc::O_NONBLOCK)?;
    let null = NULL;
    let mut at = 1000i64;
    t.call("file to pipe", sys!(SYS_splice, file, &raw mut at, w1, null, 10_000usize, 0));
    t.note("offset", at);
    t.call("pipe to pipe", sys!(SYS_splice, r1, null, w2, null, 4_000usize, 0));
    t.call("tee", sys!(SYS_tee, r1, w2, 100_000usize, 0));
    t.call("tee of the same pipe", sys!(SYS_tee, r1, w1, 100usize, 0));
    t.call("file to file", sys!(SYS_splice, file, null, file, null, 10usize, 0));
    t.call("pipe with an offset", sys!(SYS_splice, r1, &raw mut at, w2, null, 10usize, 0));
    t.call("pipe to file", sys!(SYS_splice, r1, null, file, &raw mut at, 2_000usize, 0));
    t.call("bad flags", sys!(SYS_splice, r1, null, w2, null, 10usize, 64));
    t.call("drain 1", crate::sys::read(r1, 100_000)?.len() as i64);
    t.call("drain 2", crate::sys::read(r2, 100_000)?.len() as i64);
    t.call("empty pipe", sys!(SYS_splice, r1, null, w2, null, 10usize, 2));
    let bytes = [1u8; 300];
    let vector = [(bytes.as_ptr() as usize, 100usize), (bytes.as_ptr() as usize + 100, 200)];
    t.call("vmsplice in", sys!(SYS_vmsplice, w1, vector.as_ptr(), 2usize, 0));
    let mut into = [0u8; 300];
    let vector = [(into.as_mut_ptr() as usize, 50usize)];
    t.call("vmsplice out", sys!(SYS_vmsplice, r1, vector.as_ptr(), 1usize, 0));
    t.note("bytes", into[..52].to_vec());
    crate::sys::close(w1);
    t.call("to the end", sys!(SYS_splice, r1, null, w2, null, 1000usize, 0));
    t.call("at the end", sys!(SYS_splice, r1, null, w2, null, 1000usize, 0));
    Ok(())
}

/// Who is not in a folder's group cannot make set-group-ID files of it, whatever the umask takes away afterwards.
fn set_group_id_folder(t: &mut Transcript) -> Outcome {
    let root = folder("set-group-id")?;
    sys!(SYS_chown, c(&root).as_ptr(), 0, 500);
    sys!(SYS_chmod, c(&root).as_ptr(), 0o2777);
    for (who, uid, gid) in [("root", 0, 0), ("a stranger", 1000, 1000), ("a member", 1000, 500)] {
        for mask in [0, 0o10, 0o22] {
            let names = [0, 1, 2].map(|number| format!("{root}/{uid}-{gid}-{mask}-{number}"));
            in_child(|| {
                sys!(SYS_setgroups, 0, NULL);
                sys!(SYS_setresgid, gid, gid, gid);
                sys!(SYS_setresuid, uid, uid, uid);
                sys!(SYS_umask, mask);
                for (name, mode) in names.iter().zip([0o2775, 0o2765, 0o2710]) {
                    sys!(SYS_open, c(name).as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, mode);
                }
                let fd = sys!(SYS_open, c(&root).as_ptr(), libc::O_TMPFILE | libc::O_WRONLY, 0o2775);
                let link = c(&format!("/proc/self/fd/{fd}"));
                let linked = c(&format!("{root}/{uid}-{gid}-{mask}-linked"));
                sys!(
                    SYS_linkat,
                    libc::AT_FDCWD,
                    link.as_ptr(),
                    libc::AT_FDCWD,
                    linked.as_ptr(),
                    libc::AT_SYMLINK_FOLLOW
                );
                sys!(SYS_mknod, c(&format!("{root}/{uid}-{gid}-{mask}-pipe")).as_ptr(), 0o12775, 0);
                sys!(SYS_mkdir, c(&format!("{root}/{uid}-{gid}-{mask}-folder")).as_ptr(), 0o2775);
                0
            })?;
            let modes = ["0", "1", "2", "linked", "pipe", "folder"].map(|name| {
                use std::os::unix::fs::MetadataExt;
                let status = std::fs::symlink_metadata(format!("{root}/{uid}-{gid}-{mask}-{name}"));
                status.map_or_else(
                    |error| error.to_string(),
                    |status| format!("{:o} {}", status.mode(), status.gid()),
                )
            });
            t.note(&format!("{who}, umask {mask:o}"), modes);
        }
    }
    Ok(())
}

/// What does not fit into a pipe is not waited for: who reads it may be the caller.
fn splice_full_pipe(t: &mut Transcript) -> Outcome {
    let root = folder("splice-full")?;
    let path = format!("{root}/f");
    std::fs::write(&path, vec![7u8; 200_000]).map_err(|e| e.to_string())?;
    let file = open(&path, libc::O_RDONLY);
    let (reading, writing) = pipe(0)?;
    let (source, filling) = pipe(0)?;
    let null = NULL;
    t.call("more than fits", sys!(SYS_splice, file, null, writing, null, 200_000usize, 0));
    t.call("offset", sys!(SYS_lseek, file, 0, 1));
    t.call(
        "into the full pipe",
        sys!(SYS_splice, file, null, writing, null, 10usize, libc::SPLICE_F_NONBLOCK),
    );
    t.call("offset", sys!(SYS_lseek, file, 0, 1));
    t.call("nothing into the full pipe", sys!(SYS_splice, file, null, writing, null, 0usize, 0));
    t.call(
        "from an empty pipe",
        sys!(SYS_splice, source, null, writing, null, 10usize, libc::SPLICE_F_NONBLOCK),
    );
    crate::sys::write(filling, &[1; 10_000])?;
    t.call(
        "pipe to full pipe",
        sys!(SYS_splice, source, null, writing, null, 10usize, libc::SPLICE_F_NONBLOCK),
    );
    t.call("drain", crate::sys::read(reading, 8192)?.len() as i64);
    t.call("two pages fit", sys!(SYS_splice, file, null, writing, null, 200_000usize, 0));
    t.call("drain", crate::sys::read(reading, 100_000)?.len() as i64);
    t.call("sendfile, more than fits", sys!(SYS_sendfile, writing, file, null, 200_000usize));
    t.call("offset", sys!(SYS_lseek, file, 0, 1));
    crate::sys::close(filling);
    t.call("drain", crate::sys::read(source, 100_000)?.len() as i64);
    t.call("drain", crate::sys::read(reading, 100_000)?.len() as i64);
    t.call(
        "from an ended pipe",
        sys!(SYS_splice, source, null, writing, null, 10usize, libc::SPLICE_F_NONBLOCK),
    );
    Ok(())
}

fn xattr(t: &mut Transcript) -> Outcome {
    let root = folder("xattr")?;
    let path = c(&format!("{root}/f"));
    std::fs::write(format!("{root}/f"), "x").map_err(|e| e.to_string())?;
    let p = path.as_ptr();
    for (name, value, flags) in [
        (c"trusted.a", "one", 0),
        (c"trusted.a", "two", 1),
        (c"trusted.a", "three", 2),
        (c"trusted.none", "x", 2),
        (c"trusted.empty", "", 0),
        (c"security.b", "four", 0),
        (c"nonsense", "x", 0),
        (c"system.nonsense", "x", 0),
        (c"trusted.", "x", 0),
        (c"", "x", 0),
        (c"trusted.flags", "x", 9),
    ] {
        let what = format!("set {name:?} {value} {flags}");
        t.call(&what, sys!(SYS_setxattr, p, name.as_ptr(), value.as_ptr(), value.len(), flags));
    }
    let mut buffer = [0u8; 100];
    for name in [c"trusted.a", c"trusted.empty", c"security.b", c"trusted.zzz", c"nonsense"] {
        let get = sys!(SYS_getxattr, p, name.as_ptr(), buffer.as_mut_ptr(), 100usize);
        t.call(&format!("get {name:?}"), get);
        if get > 0 {
            t.note("value", String::from_utf8_lossy(&buffer[..get as usize]));
        }
    }
    t.call("size asked", sys!(SYS_getxattr, p, c"trusted.a".as_ptr(), NULL, 0usize));
    t.call("too small", sys!(SYS_getxattr, p, c"trusted.a".as_ptr(), buffer.as_mut_ptr(), 2usize));
    let length = sys!(SYS_listxattr, p, buffer.as_mut_ptr(), 100usize);
    t.call("list", length);
    let mut names: Vec<_> = buffer[..length.max(0) as usize]
        .split(|b| *b == 0)
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .collect();
    names.sort();
    t.note("names", names);
    t.call("remove", sys!(SYS_removexattr, p, c"trusted.a".as_ptr()));
    t.call("remove again", sys!(SYS_removexattr, p, c"trusted.a".as_ptr()));
    t.call(
        "too long a name",
        sys!(SYS_setxattr, p, c(&format!("trusted.{}", "n".repeat(300))).as_ptr(), NULL, 0usize, 0),
    );
    t.call("too long a value", sys!(SYS_setxattr, p, c"trusted.v".as_ptr(), NULL, 70_000usize, 0));
    t.call("on nothing", sys!(SYS_getxattr, c"/none".as_ptr(), c"trusted.a".as_ptr(), NULL, 0usize));
    Ok(())
}

fn fallocate(t: &mut Transcript) -> Outcome {
    let root = folder("fallocate")?;
    let path = format!("{root}/f");
    let fd = open(&path, libc::O_RDWR | libc::O_CREAT);
    let length = |t: &mut Transcript| t.note("length", std::fs::metadata(&path).map(|m| m.len()).ok());
    for (what, mode, at, bytes) in [
        ("allocate", 0, 0i64, 10_000i64),
        ("keep size", 1, 10_000, 10_000),
        ("punch a hole", 3, 4096, 4096),
        ("punch without keep size", 2, 0, 10),
        ("negative", 0, -1, 10),
        ("empty", 0, 0, 0),
        ("too far", 0, i64::MAX - 5, 100),
        ("collapse", 8, 0, 4096),
        ("unknown mode", 1 << 20, 0, 10),
    ] {
        t.call(what, sys!(SYS_fallocate, fd, mode, at, bytes));
        length(t);
    }
    let read_only = open(&path, libc::O_RDONLY);
    t.call("read-only", sys!(SYS_fallocate, read_only, 0, 0, 10));
    let (_, writing) = pipe(0)?;
    t.call("pipe", sys!(SYS_fallocate, writing, 0, 0, 10));
    t.call("fadvise", sys!(SYS_fadvise64, fd, 0, 0, 3));
    t.call("fadvise, unknown", sys!(SYS_fadvise64, fd, 0, 0, 77));
    t.call("fadvise of a pipe", sys!(SYS_fadvise64, writing, 0, 0, 3));
    t.call("readahead", sys!(SYS_readahead, fd, 0, 4096usize));
    t.call("sync_file_range", sys!(SYS_sync_file_range, fd, 0, 4096, 7));
    t.call("seek hole", sys!(SYS_lseek, fd, 0, 4));
    t.call("seek data", sys!(SYS_lseek, fd, 0, 3));
    t.call("seek data past the end", sys!(SYS_lseek, fd, 100_000, 3));
    t.call("truncate, negative", sys!(SYS_ftruncate, fd, -1));
    t.call("truncate read-only", sys!(SYS_ftruncate, read_only, 5));
    Ok(())
}

fn vectors(t: &mut Transcript) -> Outcome {
    let root = folder("vectors")?;
    let fd = open(&format!("{root}/f"), libc::O_RDWR | libc::O_CREAT);
    let bytes = *b"0123456789";
    let at = bytes.as_ptr() as usize;
    let vector = [(at, 3usize), (at + 3, 0), (at + 5, 4)];
    t.call("pwritev2 at 0", sys!(SYS_pwritev2, fd, vector.as_ptr(), 3, 0, 0, 0));
    t.call("pwritev2 append", sys!(SYS_pwritev2, fd, vector.as_ptr(), 3, 0, 0, 16));
    t.call("pwritev2 current", sys!(SYS_pwritev2, fd, vector.as_ptr(), 3, -1i64, -1i64, 0));
    t.call("pwritev2 unknown flag", sys!(SYS_pwritev2, fd, vector.as_ptr(), 3, 0, 0, 1 << 20));
    t.call("too many", sys!(SYS_writev, fd, vector.as_ptr(), 1025));
    t.call("negative count", sys!(SYS_writev, fd, vector.as_ptr(), -1));
    let huge = [(at, usize::MAX / 2 + 1)];
    t.call("negative length", sys!(SYS_writev, fd, huge.as_ptr(), 1));
    let huge = [(at, usize::MAX / 2), (at, usize::MAX / 2)];
    t.call("sum too large", sys!(SYS_writev, fd, huge.as_ptr(), 2));
    t.call("none", sys!(SYS_writev, fd, NULL, 0));
    t.call("null", sys!(SYS_writev, fd, NULL, 1));
    t.call("preadv negative", sys!(SYS_preadv, fd, vector.as_ptr(), 1, -5i64, -1i64));
    t.note("content", std::fs::read_to_string(format!("{root}/f")).ok());
    let (reading, writing) = pipe(0)?;
    t.call("pwrite to a pipe", sys!(SYS_pwrite64, writing, at, 1usize, 0));
    t.call(
        "preadv2 of a pipe at the current place",
        sys!(SYS_pwritev2, writing, vector.as_ptr(), 1, -1i64, -1i64, 0),
    );
    let mut into = [0u8; 10];
    let target = [(into.as_mut_ptr() as usize, 10usize)];
    t.call("preadv2 without waiting", sys!(SYS_preadv2, reading, target.as_ptr(), 1, -1i64, -1i64, 8));
    t.call("and when empty", sys!(SYS_preadv2, reading, target.as_ptr(), 1, -1i64, -1i64, 8));
    t.call("lseek of a pipe", sys!(SYS_lseek, reading, 0, 0));
    t.call("lseek before the start", sys!(SYS_lseek, fd, -1, 0));
    t.call("lseek, unknown whence", sys!(SYS_lseek, fd, 0, 9));
    t.call("read of a directory", sys!(SYS_read, open(&root, 0), into.as_mut_ptr(), 10usize));
    t.call("write to a reading end", sys!(SYS_write, reading, at, 1usize));
    Ok(())
}

fn statx(t: &mut Transcript) -> Outcome {
    let root = folder("statx")?;
    let path = format!("{root}/f");
    std::fs::write(&path, "12345").map_err(|e| e.to_string())?;
    // SAFETY: plain data that the kernel fills.
    unsafe {
        let mut x: libc::statx = std::mem::zeroed();
        let p = c(&path);
        t.call("statx", libc::statx(libc::AT_FDCWD, p.as_ptr(), 0, 0x7ff, &raw mut x));
        t.note("size, mode, links", (x.stx_size, x.stx_mode, x.stx_nlink));
        t.call("reserved mask", libc::statx(libc::AT_FDCWD, p.as_ptr(), 0, 1 << 31, &raw mut x));
        t.call("bad flags", libc::statx(libc::AT_FDCWD, p.as_ptr(), 1, 0, &raw mut x));
        t.call("both sync flags", libc::statx(libc::AT_FDCWD, p.as_ptr(), 0x6000, 0, &raw mut x));
        t.call("empty path", libc::statx(0, c"".as_ptr(), libc::AT_EMPTY_PATH, 0x7ff, &raw mut x));
        t.note("device number of /dev/null", (x.stx_rdev_major, x.stx_rdev_minor));
        for (name, mode) in
            [("read", libc::R_OK), ("write", libc::W_OK), ("exec", libc::X_OK), ("exists", 0), ("9", 9)]
        {
            t.call(&format!("access {name}"), libc::access(p.as_ptr(), mode));
        }
        t.call("faccessat2 bad flag", sys!(SYS_faccessat2, libc::AT_FDCWD, p.as_ptr(), 0, 1));
        libc::setresuid(1000, 0, 0);
        libc::chmod(p.as_ptr(), 0o600);
        t.call("access by the real user", libc::access(p.as_ptr(), libc::R_OK));
        t.call(
            "by the effective one",
            sys!(SYS_faccessat2, libc::AT_FDCWD, p.as_ptr(), libc::R_OK, libc::AT_EACCESS),
        );
        let mut s: libc::statfs = std::mem::zeroed();
        for place in [c"/tmp", c"/proc", c"/sys", c"/dev", c"/dev/pts"] {
            libc::statfs(place.as_ptr(), &raw mut s);
            t.note(
                &format!("statfs {place:?}: type, block, name length"),
                (s.f_type, s.f_bsize, s.f_namelen),
            );
        }
    }
    Ok(())
}

fn links(t: &mut Transcript) -> Outcome {
    let root = folder("links")?;
    let at = open(&root, libc::O_RDONLY);
    std::fs::write(format!("{root}/f"), "x").map_err(|e| e.to_string())?;
    let call = |number: i64, a: usize, b: &str, d: usize, e: &str, f: usize| {
        let (b, e) = (c(b), c(e));
        crate::sys::call(number, [a, b.as_ptr() as usize, d, e.as_ptr() as usize, f, 0])
    };
    let here = at as usize;
    t.call("link", call(libc::SYS_linkat, here, "f", here, "g", 0));
    t.call("link again", call(libc::SYS_linkat, here, "f", here, "g", 0));
    t.call("link a directory", call(libc::SYS_linkat, here, ".", here, "d", 0));
    t.call("link nothing", call(libc::SYS_linkat, here, "none", here, "d", 0));
    t.call("symlink", sys!(SYS_symlinkat, c"f".as_ptr(), at, c"s".as_ptr()));
    t.call("symlink to the empty name", sys!(SYS_symlinkat, c"".as_ptr(), at, c"s2".as_ptr()));
    t.call("link a symlink", call(libc::SYS_linkat, here, "s", here, "s3", 0));
    t.call("link what it points to", call(libc::SYS_linkat, here, "s", here, "s4", 0x400));
    let mut buffer = [0u8; 4];
    t.call("readlink", sys!(SYS_readlinkat, at, c"s".as_ptr(), buffer.as_mut_ptr(), 4usize));
    t.call("readlink of a file", sys!(SYS_readlinkat, at, c"f".as_ptr(), buffer.as_mut_ptr(), 4usize));
    t.call("readlink, no room", sys!(SYS_readlinkat, at, c"s".as_ptr(), buffer.as_mut_ptr(), 0usize));
    t.call("unlink a directory", sys!(SYS_unlink, c(&root).as_ptr()));
    t.call("rmdir a file", sys!(SYS_unlinkat, at, c"f".as_ptr(), 0x200));
    t.call("rmdir of dot", sys!(SYS_rmdir, c(&format!("{root}/.")).as_ptr()));
    t.call("rmdir not empty", sys!(SYS_rmdir, c(&root).as_ptr()));
    t.call("rmdir of the root", sys!(SYS_rmdir, c"/".as_ptr()));
    t.call("unlinkat flag", sys!(SYS_unlinkat, at, c"f".as_ptr(), 7));
    let file = open(&root, libc::O_TMPFILE | libc::O_RDWR);
    let own = format!("/proc/self/fd/{file}");
    t.call(
        "name a temporary file",
        call(libc::SYS_linkat, libc::AT_FDCWD as usize, &own, here, "named", 0x400),
    );
    t.note(
        "links",
        std::fs::metadata(format!("{root}/f")).map(|m| std::os::unix::fs::MetadataExt::nlink(&m)).ok(),
    );
    Ok(())
}

fn paths(t: &mut Transcript) -> Outcome {
    let root = folder("paths")?;
    let here = std::fs::File::open(&root).map_err(|e| e.to_string())?;
    let at = std::os::fd::AsRawFd::as_raw_fd(&here);
    t.call("component of 256", open(&format!("{root}/{}", "n".repeat(256)), libc::O_CREAT));
    t.works("component of 255", open(&format!("{root}/{}", "n".repeat(255)), libc::O_CREAT));
    t.call("path of 5000", open(&"/tmp/".repeat(1000), 0));
    t.works("path of slashes", open(&"/".repeat(4000), 0));
    t.call("chdir to a file", sys!(SYS_chdir, c"/dev/null".as_ptr()));
    t.call("chdir", sys!(SYS_chdir, c(&root).as_ptr()));
    t.call("mkdir", sys!(SYS_mkdir, c"d".as_ptr(), 0o755));
    t.call("mkdir with slash", sys!(SYS_mkdir, c"e/".as_ptr(), 0o755));
    t.call("mkdir again", sys!(SYS_mkdir, c"d".as_ptr(), 0o755));
    t.call("mkdir of dot", sys!(SYS_mkdir, c".".as_ptr(), 0o755));
    t.call("mkdir below nothing", sys!(SYS_mkdir, c"x/y".as_ptr(), 0o755));
    t.call("fchdir", sys!(SYS_fchdir, at));
    t.call("rmdir of the current one", {
        sys!(SYS_chdir, c"d".as_ptr());
        sys!(SYS_rmdir, c(&format!("{root}/d")).as_ptr())
    });
    let mut buffer = [0u8; 300];
    t.call("getcwd there", sys!(SYS_getcwd, buffer.as_mut_ptr(), 300usize));
    t.call("create there", open("f", libc::O_CREAT));
    t.works("its parent", open("..", 0));
    sys!(SYS_chdir, c"/tmp".as_ptr());
    t.call("getcwd", sys!(SYS_getcwd, buffer.as_mut_ptr(), 300usize));
    t.call("getcwd, no room", sys!(SYS_getcwd, buffer.as_mut_ptr(), 4usize));
    let mut last = format!("{root}/file");
    std::fs::write(&last, "x").map_err(|e| e.to_string())?;
    for index in 0..41 {
        let link = format!("{root}/l{index}");
        std::os::unix::fs::symlink(&last, &link).map_err(|e| e.to_string())?;
        last = link;
        if index == 39 {
            t.works("40 links", open(&last, 0));
        }
    }
    t.call("41 links", open(&last, 0));
    t.call("not followed", open(&last, libc::O_NOFOLLOW));
    t.works("not followed, as a path", open(&last, libc::O_NOFOLLOW | libc::O_PATH));
    Ok(())
}

fn times(t: &mut Transcript) -> Outcome {
    let root = folder("times")?;
    let path = c(&format!("{root}/f"));
    std::fs::write(format!("{root}/f"), "x").map_err(|e| e.to_string())?;
    let set = |a: (i64, i64), m: (i64, i64)| {
        let both = [a, m];
        sys!(SYS_utimensat, libc::AT_FDCWD, path.as_ptr(), both.as_ptr(), 0)
    };
    let (now, omit) = (libc::UTIME_NOW, libc::UTIME_OMIT);
    let read = |t: &mut Transcript| {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(format!("{root}/f"));
        t.note("times", meta.map(|m| (m.atime(), m.atime_nsec(), m.mtime(), m.mtime_nsec())).ok());
    };
    t.call("set", set((1000, 5), (2000, 999_999_999)));
    read(t);
    t.call("omit one", set((3000, 0), (0, omit)));
    read(t);
    t.call("too many nanoseconds", set((0, 1_000_000_000), (0, 0)));
    t.call("before 1970", set((-5, 0), (-1, 7)));
    read(t);
    t.call("omit both", set((0, omit), (0, omit)));
    t.call("now", set((0, now), (0, now)));
    let child = crate::sys::in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        let denied = |result: i64| if result == 0 { 0 } else { crate::sys::errno() };
        let now_result = denied(set((0, now), (0, now)));
        let set_result = denied(set((1, 0), (1, 0)));
        i32::from(now_result == libc::EACCES) | i32::from(set_result == libc::EPERM) << 1
    })?;
    t.note("another user: EACCES for now, EPERM for others", child);
    t.call("of nothing", sys!(SYS_utimensat, libc::AT_FDCWD, c"/none".as_ptr(), NULL, 0));
    t.call("bad flag", sys!(SYS_utimensat, libc::AT_FDCWD, path.as_ptr(), NULL, 1));
    Ok(())
}

fn modes(t: &mut Transcript) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let root = folder("modes")?;
    let path = c(&format!("{root}/f"));
    std::fs::write(format!("{root}/f"), "x").map_err(|e| e.to_string())?;
    let mode = |t: &mut Transcript| {
        let meta = std::fs::metadata(format!("{root}/f"));
        t.note("mode, uid, gid", meta.map(|m| (format!("{:o}", m.mode()), m.uid(), m.gid())).ok());
    };
    t.call("chmod 7777", sys!(SYS_chmod, path.as_ptr(), 0o7777));
    mode(t);
    t.call("chown 5:6", sys!(SYS_chown, path.as_ptr(), 5, 6));
    mode(t);
    t.call("chmod 6755", sys!(SYS_chmod, path.as_ptr(), 0o6755));
    t.call("chown to nobody", sys!(SYS_chown, path.as_ptr(), -1, -1));
    mode(t);
    t.call("chmod 2644", sys!(SYS_chmod, path.as_ptr(), 0o2644));
    t.call("chown group", sys!(SYS_chown, path.as_ptr(), -1, 7));
    mode(t);
    t.call("chmod 4755", sys!(SYS_chmod, path.as_ptr(), 0o4755));
    let child = crate::sys::in_child(|| {
        sys!(SYS_setresgid, 7, 7, 7);
        sys!(SYS_setresuid, 5, 5, 5);
        // A write by somebody without privilege takes the set-user-id bit away; a chmod of another group's file set-group-id.
        let fd = open(&format!("{root}/f"), libc::O_WRONLY);
        crate::sys::write(fd, b"y").is_err().into()
    })?;
    t.call("written by its owner", child);
    mode(t);
    t.call("set-group-id directory", sys!(SYS_chown, c(&root).as_ptr(), -1, 9));
    sys!(SYS_chmod, c(&root).as_ptr(), 0o2775);
    let _ = std::fs::write(format!("{root}/g"), "");
    let _ = std::fs::create_dir(format!("{root}/h"));
    for name in ["g", "h"] {
        let meta = std::fs::metadata(format!("{root}/{name}"));
        t.note(name, meta.map(|m| (format!("{:o}", m.mode()), m.gid())).ok());
    }
    t.call("fchmodat2 no follow", sys!(SYS_fchmodat2, libc::AT_FDCWD, path.as_ptr(), 0o600, 0x100));
    t.call("fchmodat2 bad flag", sys!(SYS_fchmodat2, libc::AT_FDCWD, path.as_ptr(), 0o600, 1));
    t.call("fchownat bad flag", sys!(SYS_fchownat, libc::AT_FDCWD, path.as_ptr(), 0, 0, 1));
    t.call("mknod of a file", sys!(SYS_mknod, c(&format!("{root}/n")).as_ptr(), 0o100644, 0));
    t.call("mknod of a device", sys!(SYS_mknod, c(&format!("{root}/dev")).as_ptr(), 0o20644, 0x103));
    t.works("open it", open(&format!("{root}/dev"), libc::O_RDWR));
    t.call("mknod of a missing device", sys!(SYS_mknod, c(&format!("{root}/no")).as_ptr(), 0o20644, 0xf0f0));
    t.call("open it", open(&format!("{root}/no"), libc::O_RDWR));
    t.call("mknod of a directory", sys!(SYS_mknod, c(&format!("{root}/x")).as_ptr(), 0o40755, 0));
    t.call("mknod of a socket", sys!(SYS_mknod, c(&format!("{root}/sock")).as_ptr(), 0o140755, 0));
    t.call("open it", open(&format!("{root}/sock"), libc::O_RDWR));
    t.call("mknod of a strange kind", sys!(SYS_mknod, c(&format!("{root}/y")).as_ptr(), 0o30755, 0));
    Ok(())
}

fn poll(t: &mut Transcript) -> Outcome {
    let (reading, writing) = pipe(0)?;
    let all = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDNORM | libc::POLLWRNORM;
    let mut check = |what: &str, fd: i32, events: i16| {
        let mut entry = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one pollfd.
        t.call(what, unsafe { libc::poll(&raw mut entry, 1, 0) });
        t.note("events", entry.revents);
    };
    check("empty pipe, reading", reading, all);
    check("empty pipe, writing", writing, all);
    let _ = crate::sys::write(writing, b"x");
    check("with a byte", reading, all);
    check("asked nothing", reading, 0);
    crate::sys::close(writing);
    check("without writer", reading, all);
    check("closed descriptor", writing, all);
    check("negative descriptor", -1, all);
    let file = open("/etc/passwd", libc::O_RDONLY);
    check("a file", file, all);
    let folder = open("/", libc::O_RDONLY);
    check("a directory", folder, all);
    check("a path", open("/", libc::O_PATH), all);
    let (reading, writing) = pipe(0)?;
    crate::sys::close(reading);
    check("without reader", writing, all);
    let time = [-1i64, 0];
    t.call("ppoll, bad time", sys!(SYS_ppoll, NULL, 0, time.as_ptr(), NULL, 8usize));
    t.call("ppoll, bad mask size", sys!(SYS_ppoll, NULL, 0, NULL, &raw const time, 4usize));
    t.call("poll too many", sys!(SYS_poll, NULL, 1 << 30, 0));
    let mut set = [1u64 << 60 >> 50; 16];
    let zero = [0i64, 0];
    t.call("select of a closed one", sys!(SYS_select, 64, set.as_mut_ptr(), NULL, NULL, zero.as_ptr()));
    t.call("select negative", sys!(SYS_select, -1, NULL, NULL, NULL, zero.as_ptr()));
    Ok(())
}

/// A pair whose session has ended while this process has both ends open.
fn terminal_after_its_session(t: &mut Transcript) -> Outcome {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: two descriptors are written.
    t.call("openpty", unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut slave,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    });
    let look = |t: &mut Transcript, what: &str, fds: [i32; 2]| {
        let events = libc::POLLIN | libc::POLLOUT;
        let mut polled = fds.map(|fd| libc::pollfd { fd, events, revents: 0 });
        // SAFETY: the array has so many entries.
        unsafe { libc::poll(polled.as_mut_ptr(), 2, 0) };
        t.note(what, polled.map(|one| one.revents));
    };
    let status = in_child(|| {
        // SAFETY: numbers only, and four bytes.
        unsafe {
            libc::setsid();
            libc::ioctl(slave, libc::TIOCSCTTY, 0);
            libc::close(master);
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::write(slave, c"bye\n".as_ptr().cast(), 4) as i32
        }
    })?;
    t.note("written by the session", status);
    look(t, "afterwards, master and slave", [master, slave]);
    let mut buffer = [0u8; 64];
    let mut read = |t: &mut Transcript, what: &str, fd: i32| {
        let count = t.call(what, sys!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len())).max(0) as usize;
        t.note("bytes", String::from_utf8_lossy(&buffer[..count]));
    };
    read(t, "master", master);
    look(t, "then", [master, slave]);
    t.call("write to the slave", sys!(SYS_write, slave, c"more\n".as_ptr(), 5));
    read(t, "master", master);
    t.call("write to the master", sys!(SYS_write, master, c"in\n".as_ptr(), 3));
    read(t, "slave", slave);
    read(t, "its echo", master);
    // SAFETY: numbers only.
    t.call("tcgetpgrp of the slave", unsafe { libc::tcgetpgrp(slave) });
    t.call("tcgetsid of the master", unsafe { libc::tcgetsid(master) });
    crate::sys::close(slave);
    look(t, "with the slave closed", [master, -1]);
    read(t, "master", master);
    Ok(())
}

fn directories(t: &mut Transcript) -> Outcome {
    let root = folder("dirs")?;
    for index in 0..300 {
        std::fs::write(format!("{root}/file-{index:03}"), "").map_err(|e| e.to_string())?;
    }
    let fd = open(&root, libc::O_RDONLY | libc::O_DIRECTORY);
    let mut buffer = vec![0u8; 4096];
    let mut names = 0;
    let mut offset_of_100 = 0i64;
    loop {
        let count = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), 4096usize);
        if count <= 0 {
            t.call("the end", count);
            break;
        }
        let mut at = 0;
        while at < count as usize {
            let length = u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]) as usize;
            names += 1;
            if names == 100 {
                offset_of_100 = i64::from_ne_bytes(buffer[at + 8..at + 16].try_into().unwrap_or_default());
            }
            at += length;
        }
    }
    t.note("entries", names);
    t.call(
        "seek to where 100 had been read",
        i64::from(sys!(SYS_lseek, fd, offset_of_100, 0) == offset_of_100),
    );
    let mut rest = 0;
    loop {
        let count = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), 4096usize);
        let mut at = 0;
        while at < count.max(0) as usize {
            at += u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]) as usize;
            rest += 1;
        }
        if count <= 0 {
            break;
        }
    }
    t.note("entries from there", rest);
    sys!(SYS_lseek, fd, 0, 0);
    t.call("buffer too small", sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), 10usize));
    t.call("of a file", sys!(SYS_getdents64, open("/etc/passwd", 0), buffer.as_mut_ptr(), 4096usize));
    let _ = std::fs::remove_dir_all(&root);
    t.call("of one that was removed", sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), 4096usize));
    Ok(())
}

/// One entry by each call: which comes next while entries come and go.
fn directory_order(t: &mut Transcript) -> Outcome {
    let root = folder("order")?;
    let make = |name: &str| std::fs::write(format!("{root}/{name}"), "").map_err(|e| e.to_string());
    for name in ["one", "two", "three", "four", "five", "six", "seven"] {
        make(name)?;
    }
    let fd = open(&root, libc::O_RDONLY | libc::O_DIRECTORY);
    let next = || {
        let mut buffer = [0u8; 40];
        let count = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()).max(0) as usize;
        buffer[..count].get(19..).map(|name| String::from_utf8_lossy(name).trim_matches('\0').to_owned())
    };
    t.note("at first", [next(), next(), next(), next()]);
    make("made meanwhile")?;
    let renamed = std::fs::rename(format!("{root}/three"), format!("{root}/renamed"));
    renamed.map_err(|e| e.to_string())?;
    std::fs::remove_file(format!("{root}/four")).map_err(|e| e.to_string())?;
    t.note("then", [next(), next(), next(), next()]);
    sys!(SYS_lseek, fd, 0, 0);
    t.note("from the start", std::array::from_fn::<_, 9, _>(|_| next()));
    Ok(())
}
