//! epoll in epoll: chains, circles, and what they pass on; seeking on what has no offset.

use super::{Section, Transcript};
use crate::case::Outcome;
use crate::sys;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("epoll_nesting", nesting),
    ("epoll_circles", circles),
    ("epoll_events_through_a_chain", chain),
    ("epoll_and_others_have_no_offset", offsets),
];

fn epolls<const N: usize>() -> [i32; N] {
    // SAFETY: numbers only.
    std::array::from_fn(|_| unsafe { libc::epoll_create1(0) })
}

fn control(epoll: i32, operation: i32, fd: i32) -> i32 {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
    // SAFETY: one event.
    unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) }
}

fn add(epoll: i32, fd: i32) -> i32 {
    control(epoll, libc::EPOLL_CTL_ADD, fd)
}

fn nesting(t: &mut Transcript) -> Outcome {
    let down = epolls::<8>();
    for pair in down.windows(2) {
        t.call("downwards", add(pair[0], pair[1]));
    }
    let up = epolls::<8>();
    for pair in up.windows(2).rev() {
        t.call("upwards", add(pair[0], pair[1]));
    }
    let [a, b, c, d, e, f] = epolls();
    for (watcher, watched) in [(a, b), (b, c), (d, e), (e, f), (c, d), (b, d), (a, e)] {
        t.call("in the middle", add(watcher, watched));
    }
    t.call("a link less", control(a, libc::EPOLL_CTL_DEL, b));
    t.call("in the middle", add(c, d));
    Ok(())
}

fn circles(t: &mut Transcript) -> Outcome {
    let [a, b, c] = epolls();
    t.call("itself", add(a, a));
    t.call("a watches b", add(a, b));
    t.call("b watches c", add(b, c));
    t.call("b watches a", add(b, a));
    t.call("c watches a", add(c, a));
    t.call("again", add(a, b));
    // SAFETY: a number only.
    let copy = unsafe { libc::dup(b) };
    t.call("through a copy", add(a, copy));
    t.call("without the link", control(b, libc::EPOLL_CTL_DEL, c));
    t.call("c watches a", add(c, a));
    sys::close(c);
    t.call("b watches a", add(b, a));
    Ok(())
}

fn chain(t: &mut Transcript) -> Outcome {
    let [a, b, c] = epolls();
    let (reader, writer) = sys::pipe(0)?;
    t.call("a watches b", add(a, b));
    t.call("b watches c", add(b, c));
    t.call("c watches a pipe", add(c, reader));
    let mut out = [libc::epoll_event { events: 0, u64: 0 }; 4];
    let mut wait = |epoll, time| {
        // SAFETY: four events.
        let count = unsafe { libc::epoll_wait(epoll, out.as_mut_ptr(), 4, time) };
        let (events, data) = (out[0].events, out[0].u64);
        (count, if count > 0 { events } else { 0 }, data)
    };
    t.note("nothing yet", wait(a, 0).0);
    let child = sys::fork(|| {
        sys::sleep_ms(100);
        i32::from(sys::write(writer, b"x").is_err())
    })?;
    let found = wait(a, 10_000);
    t.note("woken", (found.0, found.1, found.2 == b as u64));
    t.call("the child", sys::wait(child)?);
    t.note("still", wait(a, 0).0);
    let found = wait(c, 0);
    t.note("the pipe", (found.0, found.1, found.2 == reader as u64));
    t.note("read", sys::read(reader, 10)?);
    t.note("nothing", wait(a, 0).0);
    Ok(())
}

fn offsets(t: &mut Transcript) -> Outcome {
    // SAFETY: numbers, and a set that lives through the call.
    let files = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        [
            ("epoll", libc::epoll_create1(0)),
            ("inotify", libc::inotify_init1(libc::IN_NONBLOCK)),
            ("eventfd", libc::eventfd(7, libc::EFD_NONBLOCK)),
            ("timerfd", libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK)),
            ("signalfd", libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK)),
            ("pidfd", libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32),
        ]
    };
    let mut bytes = [0u8; 256];
    for (name, fd) in files {
        // SAFETY: the buffer is as long as is said.
        unsafe {
            t.note(name, ());
            t.call("to 5", libc::lseek(fd, 5, libc::SEEK_SET));
            t.call("from here", libc::lseek(fd, 0, libc::SEEK_CUR));
            t.call("to the end", libc::lseek(fd, 0, libc::SEEK_END));
            t.call("whence", libc::lseek(fd, 0, 17));
            t.call("pread", libc::pread(fd, bytes.as_mut_ptr().cast(), 256, 9) as i64);
            t.call("pwrite", libc::pwrite(fd, bytes.as_ptr().cast(), 4, 9) as i64);
        }
    }
    Ok(())
}
