//! inotify: which events come, in which order, with which names; watches and their limits.

use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::sys::{self, c, folder};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("notify_file", file),
    ("notify_directory", directory),
    ("notify_rename", rename),
    ("notify_removal", removal),
    ("notify_watches", watches),
    ("notify_merging_and_reading", merging),
    ("notify_overflow", overflow),
    ("notify_one_shot_and_unlinked", one_shot),
    ("notify_unmount", unmount),
    ("notify_waiting", waiting),
];

fn io<T>(result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Wrong(error.to_string()))
}

fn init(flags: i32) -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::inotify_init1(flags) }
}

fn add(fd: i32, path: &str, mask: u32) -> i32 {
    // SAFETY: a valid string.
    unsafe { libc::inotify_add_watch(fd, c(path).as_ptr(), mask) }
}

fn remove(fd: i32, watch: i32) -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::inotify_rm_watch(fd, watch) }
}

/// The names of a mask's bits.
fn names(mask: u32) -> String {
    const NAMES: [(u32, &str); 16] = [
        (libc::IN_ACCESS, "ACCESS"),
        (libc::IN_MODIFY, "MODIFY"),
        (libc::IN_ATTRIB, "ATTRIB"),
        (libc::IN_CLOSE_WRITE, "CLOSE_WRITE"),
        (libc::IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"),
        (libc::IN_OPEN, "OPEN"),
        (libc::IN_MOVED_FROM, "MOVED_FROM"),
        (libc::IN_MOVED_TO, "MOVED_TO"),
        (libc::IN_CREATE, "CREATE"),
        (libc::IN_DELETE, "DELETE"),
        (libc::IN_DELETE_SELF, "DELETE_SELF"),
        (libc::IN_MOVE_SELF, "MOVE_SELF"),
        (libc::IN_UNMOUNT, "UNMOUNT"),
        (libc::IN_Q_OVERFLOW, "Q_OVERFLOW"),
        (libc::IN_IGNORED, "IGNORED"),
        (libc::IN_ISDIR, "ISDIR"),
    ];
    let known: Vec<&str> = NAMES.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect();
    let rest = mask & !NAMES.iter().fold(0, |all, (bit, _)| all | bit);
    if rest == 0 { known.join("|") } else { format!("{}|{rest:#x}", known.join("|")) }
}

/// Notes the events that are there. Cookies are numbered as they come.
fn events(t: &mut Transcript, what: &str, fd: i32) {
    t.note(what, ());
    let mut cookies: BTreeMap<u32, usize> = BTreeMap::new();
    while let Ok(bytes) = sys::read(fd, 4096) {
        let mut rest = bytes.as_slice();
        while let Some((head, tail)) = rest.split_at_checked(16) {
            let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let (watch, mask, cookie, length) = (word(0) as i32, word(4), word(8), word(12) as usize);
            let Some((name, tail)) = tail.split_at_checked(length) else { break };
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(length);
            let count = cookies.len() + 1;
            let cookie = if cookie == 0 { 0 } else { *cookies.entry(cookie).or_insert(count) };
            let name = String::from_utf8_lossy(&name[..end]).into_owned();
            t.note("  event", (watch, names(mask), cookie, name, length));
            rest = tail;
        }
    }
}

fn file(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-file")?;
    let path = format!("{dir}/f");
    let fd = init(libc::IN_NONBLOCK);
    t.call("watch the folder", add(fd, &dir, libc::IN_ALL_EVENTS));
    let made = io(std::fs::File::create(&path))?;
    events(t, "created", fd);
    t.call("watch the file", add(fd, &path, libc::IN_ALL_EVENTS));
    io(made.write_all_at(b"hello", 0))?;
    io(made.set_len(3))?;
    events(t, "written and cut", fd);
    io(made.set_permissions(std::fs::Permissions::from_mode(0o600)))?;
    events(t, "mode", fd);
    let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    io(made.set_times(times))?;
    io(made.set_times(times.set_accessed(std::time::UNIX_EPOCH)))?;
    io(made.set_times(std::fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH)))?;
    events(t, "times", fd);
    drop(made);
    events(t, "closed", fd);
    t.note("read", io(std::fs::read(&path))?);
    events(t, "read", fd);
    io(std::fs::write(&path, b"again"))?;
    events(t, "written over", fd);
    // SAFETY: valid strings and numbers.
    let set = unsafe { libc::setxattr(c(&path).as_ptr(), c"user.a".as_ptr(), c"b".as_ptr().cast(), 1, 0) };
    t.note("attribute set or refused", set == 0 || sys::errno() == libc::EOPNOTSUPP);
    // SAFETY: a valid string.
    let place = unsafe { libc::open(c(&path).as_ptr(), libc::O_PATH) };
    sys::close(place);
    while sys::read(fd, 4096).is_ok() {}
    // SAFETY: a valid string.
    unsafe {
        libc::truncate(c(&path).as_ptr(), 1);
        libc::chown(c(&path).as_ptr(), 1, 1);
    }
    events(t, "truncate and chown by name", fd);
    Ok(())
}

fn directory(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-dir")?;
    let fd = init(libc::IN_NONBLOCK);
    t.call("watch", add(fd, &dir, libc::IN_ALL_EVENTS));
    io(std::fs::create_dir(format!("{dir}/sub")))?;
    io(symlink("nowhere", format!("{dir}/link")))?;
    // SAFETY: a valid string.
    unsafe { libc::mkfifo(c(&format!("{dir}/pipe")).as_ptr(), 0o600) };
    events(t, "made", fd);
    t.note("entries", io(std::fs::read_dir(&dir))?.count());
    events(t, "listed", fd);
    io(std::fs::write(format!("{dir}/sub/deep"), b""))?;
    events(t, "below a folder below", fd);
    io(std::fs::write(format!("{dir}/a"), b""))?;
    while sys::read(fd, 4096).is_ok() {}
    t.call("watch a", add(fd, &format!("{dir}/a"), libc::IN_ALL_EVENTS));
    io(std::fs::hard_link(format!("{dir}/a"), format!("{dir}/b")))?;
    events(t, "linked", fd);
    io(std::fs::remove_file(format!("{dir}/a")))?;
    events(t, "one of two names removed", fd);
    io(std::fs::remove_file(format!("{dir}/link")))?;
    io(std::fs::remove_file(format!("{dir}/sub/deep")))?;
    io(std::fs::remove_dir(format!("{dir}/sub")))?;
    events(t, "removed", fd);
    // SAFETY: valid strings.
    unsafe {
        libc::mkdir(c(&format!("{dir}/b")).as_ptr(), 0o700);
        libc::unlink(c(&format!("{dir}/none")).as_ptr());
    }
    events(t, "what failed", fd);
    Ok(())
}

fn rename(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-rename")?;
    let (from, to) = (format!("{dir}/from"), format!("{dir}/to"));
    io(std::fs::create_dir(&from))?;
    io(std::fs::create_dir(&to))?;
    for name in ["a", "b", "c"] {
        io(std::fs::write(format!("{from}/{name}"), b"x"))?;
    }
    io(std::fs::create_dir(format!("{from}/d")))?;
    let fd = init(libc::IN_NONBLOCK);
    let all = libc::IN_ALL_EVENTS;
    for path in [from.clone(), to.clone(), format!("{from}/a"), format!("{from}/b"), format!("{from}/d")] {
        t.call("watch", add(fd, &path, all));
    }
    io(std::fs::rename(format!("{from}/a"), format!("{from}/a2")))?;
    events(t, "within", fd);
    io(std::fs::rename(format!("{from}/a2"), format!("{to}/a")))?;
    events(t, "across", fd);
    io(std::fs::rename(format!("{from}/b"), format!("{to}/a")))?;
    events(t, "over another", fd);
    io(std::fs::rename(format!("{from}/d"), format!("{to}/d")))?;
    events(t, "a folder", fd);
    io(std::fs::rename(format!("{from}/c"), format!("{dir}/c")))?;
    events(t, "out of sight", fd);
    // SAFETY: valid strings.
    let swapped = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            c(&format!("{to}/a")).as_ptr(),
            libc::AT_FDCWD,
            c(&format!("{to}/d")).as_ptr(),
            2,
        )
    };
    t.call("exchange", swapped);
    events(t, "exchanged", fd);
    io(std::fs::hard_link(format!("{to}/d"), format!("{to}/e")))?;
    while sys::read(fd, 4096).is_ok() {}
    io(std::fs::rename(format!("{to}/d"), format!("{to}/e")))?;
    events(t, "onto another name of the same file", fd);
    Ok(())
}

fn removal(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-removal")?;
    let (path, sub) = (format!("{dir}/f"), format!("{dir}/sub"));
    let fd = init(libc::IN_NONBLOCK);
    io(std::fs::write(&path, b""))?;
    io(std::fs::create_dir(&sub))?;
    for path in [&dir, &path, &sub] {
        t.call("watch", add(fd, path, libc::IN_ALL_EVENTS));
    }
    io(std::fs::remove_file(&path))?;
    events(t, "a file", fd);
    t.call("its watch is gone", remove(fd, 2));
    io(std::fs::remove_dir(&sub))?;
    events(t, "a folder", fd);
    let open = io(std::fs::File::create(&path))?;
    while sys::read(fd, 4096).is_ok() {}
    t.call("watch it again", add(fd, &path, libc::IN_ALL_EVENTS));
    io(std::fs::remove_file(&path))?;
    events(t, "an open file", fd);
    io(open.write_all_at(b"x", 0))?;
    events(t, "written without a name", fd);
    drop(open);
    events(t, "closed", fd);
    io(std::fs::remove_dir(&dir))?;
    events(t, "the watched folder itself", fd);
    Ok(())
}

fn watches(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-watches")?;
    let path = format!("{dir}/f");
    io(std::fs::write(&path, b""))?;
    t.call("bad flag", init(1));
    let fd = init(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
    // SAFETY: numbers only.
    unsafe {
        t.call("close on exec", libc::fcntl(fd, libc::F_GETFD));
        t.call("status flags", libc::fcntl(fd, libc::F_GETFL) & (libc::O_NONBLOCK | libc::O_ACCMODE));
        t.call("writing", libc::write(fd, [0u8; 4].as_ptr().cast(), 4) as i64);
        t.call("seeking", libc::lseek(fd, 0, libc::SEEK_SET));
    }
    t.call("no events", add(fd, &path, 0));
    t.call("a bit there is not", add(fd, &path, 0x0010_0000));
    t.call("no descriptor", add(99, &path, libc::IN_OPEN));
    t.call("not inotify", add(0, &path, libc::IN_OPEN));
    t.call("no file", add(fd, &format!("{dir}/none"), libc::IN_OPEN));
    t.call("not a folder", add(fd, &path, libc::IN_OPEN | libc::IN_ONLYDIR));
    t.call("add and create", add(fd, &path, libc::IN_OPEN | libc::IN_MASK_ADD | libc::IN_MASK_CREATE));
    t.call("only once", add(fd, &path, libc::IN_ONESHOT));
    t.call("first", add(fd, &path, libc::IN_OPEN));
    t.call("the same", add(fd, &path, libc::IN_CLOSE));
    t.call("create", add(fd, &path, libc::IN_CLOSE | libc::IN_MASK_CREATE));
    t.note("read", io(std::fs::read(&path))?);
    events(t, "replaced mask", fd);
    t.call("add", add(fd, &path, libc::IN_OPEN | libc::IN_MASK_ADD));
    t.note("read", io(std::fs::read(&path))?);
    events(t, "extended mask", fd);
    io(symlink(&path, format!("{dir}/link")))?;
    t.call("through a link", add(fd, &format!("{dir}/link"), libc::IN_OPEN));
    t.call("a link itself", add(fd, &format!("{dir}/link"), libc::IN_ALL_EVENTS | libc::IN_DONT_FOLLOW));
    t.call("no such watch", remove(fd, 77));
    t.call("no such watch", remove(fd, -1));
    t.call("remove", remove(fd, 2));
    t.call("remove again", remove(fd, 2));
    events(t, "ignored", fd);
    t.call("numbers are not used again", add(fd, &dir, libc::IN_OPEN));
    io(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)))?;
    let refused = sys::in_child(|| {
        // SAFETY: numbers only.
        unsafe { libc::setresuid(1000, 1000, 1000) };
        if add(fd, &path, libc::IN_OPEN) == -1 { sys::errno() } else { 0 }
    })?;
    t.note("unreadable", refused == libc::EACCES);
    Ok(())
}

fn merging(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-merging")?;
    let path = format!("{dir}/a name of some length");
    let made = io(std::fs::File::create(&path))?;
    let fd = init(libc::IN_NONBLOCK);
    add(fd, &dir, libc::IN_MODIFY | libc::IN_ATTRIB);
    for _ in 0..5 {
        io(made.write_all_at(b"x", 0))?;
    }
    io(made.set_permissions(std::fs::Permissions::from_mode(0o600)))?;
    io(made.write_all_at(b"x", 0))?;
    let mut waiting = 0;
    // SAFETY: one int.
    t.call("FIONREAD", unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut waiting) });
    t.note("bytes", waiting);
    // SAFETY: the buffer is larger than what is said.
    let small = |size| unsafe { libc::read(fd, [0u8; 64].as_mut_ptr().cast(), size) as i64 };
    t.call("no room", small(0));
    t.call("room for a head", small(16));
    t.call("room for most of it", small(47));
    t.call("room for one", small(50));
    events(t, "the rest", fd);
    Ok(())
}

fn overflow(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-overflow")?;
    let limits = "/proc/sys/fs/inotify";
    t.note("instances", io(std::fs::read_to_string(format!("{limits}/max_user_instances")))?);
    let before = io(std::fs::read_to_string(format!("{limits}/max_queued_events")))?;
    t.note("events", &before);
    let fd = init(libc::IN_NONBLOCK);
    add(fd, &dir, libc::IN_CREATE);
    let limit: usize = before.trim().parse().unwrap_or(0);
    for index in 0..limit.min(20_000) + 3 {
        // SAFETY: a valid string.
        unsafe { libc::symlink(c"x".as_ptr(), c(&format!("{dir}/{index}")).as_ptr()) };
    }
    let (mut count, mut overflows, mut last) = (0, 0, 0);
    while let Ok(bytes) = sys::read(fd, 65_536) {
        let mut rest = bytes.as_slice();
        while let Some((head, tail)) = rest.split_at_checked(16) {
            last = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
            let length = u32::from_ne_bytes([head[12], head[13], head[14], head[15]]) as usize;
            overflows += usize::from(last & libc::IN_Q_OVERFLOW != 0);
            count += 1;
            rest = tail.get(length..).unwrap_or_default();
        }
    }
    t.note("events read, overflows, the last", (count, overflows, names(last)));
    Ok(())
}

fn one_shot(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-once")?;
    let path = format!("{dir}/f");
    io(std::fs::write(&path, b""))?;
    let fd = init(libc::IN_NONBLOCK);
    t.call("once", add(fd, &path, libc::IN_OPEN | libc::IN_CLOSE | libc::IN_ONESHOT));
    t.note("read", io(std::fs::read(&path))?);
    events(t, "one event", fd);
    t.call("no watch left", remove(fd, 1));
    t.call("folder", add(fd, &dir, libc::IN_ALL_EVENTS | libc::IN_EXCL_UNLINK));
    let open = io(std::fs::File::options().write(true).open(&path))?;
    io(open.write_all_at(b"x", 0))?;
    io(std::fs::remove_file(&path))?;
    events(t, "with a name", fd);
    io(open.write_all_at(b"x", 0))?;
    drop(open);
    events(t, "without", fd);
    Ok(())
}

fn unmount(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-unmount")?;
    // SAFETY: valid strings.
    unsafe {
        let mounted = libc::mount(c"none".as_ptr(), c(&dir).as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null());
        t.call("mount", mounted);
    }
    io(std::fs::write(format!("{dir}/f"), b""))?;
    let fd = init(libc::IN_NONBLOCK);
    t.call("watch", add(fd, &format!("{dir}/f"), libc::IN_OPEN));
    // SAFETY: a valid string.
    t.call("unmount", unsafe { libc::umount2(c(&dir).as_ptr(), 0) });
    events(t, "gone", fd);
    t.call("no watch left", remove(fd, 1));
    Ok(())
}

fn waiting(t: &mut Transcript) -> Outcome {
    let dir = folder("notify-waiting")?;
    let fd = init(0);
    add(fd, &dir, libc::IN_CREATE);
    let mut poll = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd.
    t.call("poll", unsafe { libc::poll(&raw mut poll, 1, 0) });
    let child = sys::fork(|| {
        sys::sleep_ms(200);
        i32::from(std::fs::write(format!("{dir}/f"), b"").is_err())
    })?;
    t.note("a read waits for", sys::read(fd, 4096)?.len());
    t.call("the child", sys::wait(child)?);
    io(std::fs::write(format!("{dir}/g"), b""))?;
    // SAFETY: one pollfd.
    t.call("poll", unsafe { libc::poll(&raw mut poll, 1, 0) });
    t.note("ready for", poll.revents);
    Ok(())
}
