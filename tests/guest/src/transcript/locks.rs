//! File locks: flock(2), fcntl(2) record locks and open-file-description locks, leases refused.

use super::{Section, Transcript};
use crate::case::Outcome;
use crate::sys::{c, folder, fork, in_child, sleep_ms, wait};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("locks_flock", flock),
    ("locks_records", records),
    ("locks_records_split_and_join", split),
    ("locks_open_file_description", descriptions),
    ("locks_waiting_and_deadlock", waiting),
];

fn open(path: &str, flags: i32) -> i32 {
    // SAFETY: a valid string.
    unsafe { libc::open(c(path).as_ptr(), flags | libc::O_CREAT, 0o600) }
}

fn flock(t: &mut Transcript) -> Outcome {
    let path = format!("{}/f", folder("flock")?);
    let (a, b) = (open(&path, libc::O_RDWR), open(&path, libc::O_RDONLY));
    // SAFETY: descriptors and numbers only.
    unsafe {
        let nb = libc::LOCK_NB;
        t.call("a exclusive", libc::flock(a, libc::LOCK_EX));
        t.call("b shared", libc::flock(b, libc::LOCK_SH | nb));
        let copy = libc::dup(a);
        t.call("a's copy exclusive", libc::flock(copy, libc::LOCK_EX | nb));
        t.call("a shared", libc::flock(a, libc::LOCK_SH | nb));
        t.call("b shared", libc::flock(b, libc::LOCK_SH | nb));
        t.call("a exclusive again", libc::flock(a, libc::LOCK_EX | nb));
        t.call("b unlocked", libc::flock(b, libc::LOCK_UN));
        t.call("a exclusive at last", libc::flock(a, libc::LOCK_EX | nb));
        t.call("a child's lock on the same description", in_child(|| libc::flock(a, libc::LOCK_EX | nb))?);
        libc::close(a);
        t.call("b after closing one of two", libc::flock(b, libc::LOCK_EX | nb));
        libc::close(copy);
        t.call("b after closing both", libc::flock(b, libc::LOCK_EX | nb));
        t.call("bad operation", libc::flock(b, 0));
        t.call("bad descriptor", libc::flock(99, libc::LOCK_EX));
    }
    Ok(())
}

fn record(kind: i32, start: i64, length: i64) -> libc::flock {
    // SAFETY: plain data.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_start, lock.l_len) =
        (kind as i16, libc::SEEK_SET as i16, start, length);
    lock
}

fn set(fd: i32, command: i32, kind: i32, start: i64, length: i64) -> i32 {
    let lock = record(kind, start, length);
    // SAFETY: one flock structure.
    unsafe { libc::fcntl(fd, command, &raw const lock) }
}

/// What blocks a lock, as another process sees it.
fn seen(t: &mut Transcript, what: &str, fd: i32, command: i32, start: i64, length: i64) {
    let (reading, writing) = match crate::sys::pipe(0) {
        Ok(ends) => ends,
        Err(_) => return,
    };
    let parent = std::process::id() as i32;
    let _ = in_child(|| {
        let mut lock = record(libc::F_WRLCK, start, length);
        // SAFETY: one flock structure.
        let result = unsafe { libc::fcntl(fd, command, &raw mut lock) };
        let pid = match lock.l_pid {
            pid if pid == parent => "parent",
            -1 => "-1",
            0 => "0",
            _ => "other",
        };
        let text = format!("{result} type {} {}+{} by {pid}", lock.l_type, lock.l_start, lock.l_len);
        let _ = crate::sys::write(writing, text.as_bytes());
        0
    });
    t.note(what, crate::sys::read(reading, 200).ok().and_then(|bytes| String::from_utf8(bytes).ok()));
    crate::sys::close(reading);
    crate::sys::close(writing);
}

fn records(t: &mut Transcript) -> Outcome {
    let path = format!("{}/f", folder("records")?);
    let fd = open(&path, libc::O_RDWR);
    let reader = open(&path, libc::O_RDONLY);
    let (get, put) = (libc::F_GETLK, libc::F_SETLK);
    t.call("write lock 10..20", set(fd, put, libc::F_WRLCK, 10, 10));
    seen(t, "at 0..10", fd, get, 0, 10);
    seen(t, "at 15..16", fd, get, 15, 1);
    seen(t, "at 19 to the end", fd, get, 19, 0);
    t.call("a child's lock inside", in_child(|| i32::from(set(fd, put, libc::F_RDLCK, 12, 1) == -1))?);
    t.call("a child's lock outside", in_child(|| i32::from(set(fd, put, libc::F_WRLCK, 30, 1) == -1))?);
    t.call("write lock through a read-only descriptor", set(reader, put, libc::F_WRLCK, 0, 1));
    t.call("bad type", set(fd, put, 7, 0, 1));
    t.call("negative start", set(fd, put, libc::F_RDLCK, -1, 1));
    t.call("negative length", set(fd, put, libc::F_RDLCK, 100, -10));
    seen(t, "what negative length locked", fd, get, 0, 95);
    seen(t, "what negative length locked", fd, get, 90, 5);
    crate::sys::close(reader);
    seen(t, "after closing any descriptor of the file", fd, get, 0, 0);
    Ok(())
}

fn split(t: &mut Transcript) -> Outcome {
    let path = format!("{}/f", folder("split")?);
    let fd = open(&path, libc::O_RDWR);
    let (get, put) = (libc::F_GETLK, libc::F_SETLK);
    set(fd, put, libc::F_WRLCK, 0, 100);
    t.call("unlock the middle", set(fd, put, libc::F_UNLCK, 40, 20));
    seen(t, "before the hole", fd, get, 0, 0);
    seen(t, "in the hole", fd, get, 40, 20);
    seen(t, "behind", fd, get, 50, 0);
    t.call("read lock over all", set(fd, put, libc::F_RDLCK, 20, 60));
    seen(t, "the beginning", fd, get, 0, 10);
    seen(t, "the middle", fd, get, 30, 5);
    seen(t, "the end", fd, get, 85, 5);
    t.call("fill up", set(fd, put, libc::F_WRLCK, 0, 0));
    seen(t, "everything", fd, get, 5000, 1);
    Ok(())
}

fn descriptions(t: &mut Transcript) -> Outcome {
    let path = format!("{}/f", folder("ofd")?);
    let (a, b) = (open(&path, libc::O_RDWR), open(&path, libc::O_RDWR));
    let (get, put) = (libc::F_OFD_GETLK, libc::F_OFD_SETLK);
    t.call("a locks", set(a, put, libc::F_WRLCK, 0, 10));
    t.call("b locks the same", set(b, put, libc::F_WRLCK, 5, 10));
    t.call("b locks beside", set(b, put, libc::F_WRLCK, 10, 10));
    t.call("the process's own lock meets it", set(a, libc::F_SETLK, libc::F_WRLCK, 0, 1));
    seen(t, "seen by another", b, get, 0, 1);
    let mut with_pid = record(libc::F_WRLCK, 0, 1);
    with_pid.l_pid = 1;
    // SAFETY: one flock structure.
    t.call("with a pid", unsafe { libc::fcntl(a, put, &raw const with_pid) });
    crate::sys::close(a);
    t.call("b after a is closed", set(b, put, libc::F_WRLCK, 0, 10));
    Ok(())
}

fn waiting(t: &mut Transcript) -> Outcome {
    let path = format!("{}/f", folder("wait")?);
    let fd = open(&path, libc::O_RDWR);
    set(fd, libc::F_SETLK, libc::F_WRLCK, 0, 10);
    let child = fork(|| {
        set(fd, libc::F_SETLK, libc::F_WRLCK, 20, 10);
        i32::from(set(fd, libc::F_SETLKW, libc::F_WRLCK, 0, 10) == -1)
    })?;
    sleep_ms(300);
    t.call("the other way round", set(fd, libc::F_SETLKW, libc::F_WRLCK, 20, 10));
    t.call("unlock", set(fd, libc::F_SETLK, libc::F_UNLCK, 0, 10));
    t.call("the child got it", wait(child)?);
    set(fd, libc::F_SETLK, libc::F_WRLCK, 50, 1);
    let child = fork(|| {
        extern "C" fn nothing(_: i32) {}
        // SAFETY: a handler that does nothing, and numbers.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
            libc::syscall(libc::SYS_setitimer, 0, [0i64, 0, 0, 200_000].as_ptr(), 0usize);
        }
        match set(fd, libc::F_SETLKW, libc::F_WRLCK, 50, 1) {
            -1 => crate::sys::errno(),
            _ => 0,
        }
    })?;
    t.note("a signal interrupts", libc::WEXITSTATUS(wait(child)?) == libc::EINTR);
    Ok(())
}
