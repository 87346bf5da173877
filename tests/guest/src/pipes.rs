//! Pipes, FIFOs, poll and its relatives, eventfd, timerfd, signalfd, sockets of one machine when they exist.

use crate::case::{Case, Outcome, case};
use crate::sys::{self, c, errno, ok};
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("pipe_bytes_in_order", order),
    case("pipe_end_of_file", end),
    case("pipe_epipe_and_sigpipe", broken),
    case("pipe_nonblocking_capacity", capacity),
    case("pipe_atomic_writes", atomic),
    case("fifo_open_blocks_until_peer", fifo),
    case("poll_reports", poll),
    case("epoll_level_and_edge", epoll),
    case("eventfd_counts", eventfd),
    case("timerfd_expires", timerfd),
    case("signalfd_reads_signals", signalfd),
    case("select_timeout", select),
];

fn order() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    let child = sys::fork(|| {
        sys::close(reader);
        let data: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut rest = &data[..];
        while !rest.is_empty() {
            // SAFETY: the pointer and length are of one slice.
            let count = unsafe { libc::write(writer, rest.as_ptr().cast(), rest.len().min(70_000)) };
            if count <= 0 {
                return 1;
            }
            rest = &rest[count as usize..];
        }
        0
    })?;
    sys::close(writer);
    let mut total = 0u32;
    loop {
        let bytes = sys::read(reader, 12_345)?;
        if bytes.is_empty() {
            break;
        }
        for byte in bytes {
            ensure_eq!(u32::from(byte), total % 251);
            total += 1;
        }
    }
    ensure_eq!(total, 1_000_000);
    ensure_eq!(sys::wait(child)?, 0);
    Ok(())
}

fn end() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    sys::write(writer, b"last")?;
    sys::close(writer);
    ensure_eq!(sys::read(reader, 10)?, b"last");
    ensure!(sys::read(reader, 10)?.is_empty());
    Ok(())
}

fn broken() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    sys::close(reader);
    // SAFETY: the default action is what is tested; Rust ignores SIGPIPE.
    let status = sys::wait(sys::fork(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::write(writer, b"x".as_ptr().cast(), 1) as i32
    })?)?;
    ensure!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPIPE, "status {status:#x}");
    // SAFETY: one byte.
    ensure_eq!(unsafe { libc::write(writer, b"x".as_ptr().cast(), 1) }, -1);
    ensure_eq!(errno(), libc::EPIPE);
    Ok(())
}

fn capacity() -> Outcome {
    let (reader, writer) = sys::pipe(libc::O_NONBLOCK)?;
    // SAFETY: a buffer of that length; the rest are numbers.
    unsafe {
        ensure_eq!(libc::read(reader, [0u8; 1].as_mut_ptr().cast(), 1), -1);
        ensure_eq!(errno(), libc::EAGAIN);
        let block = [1u8; 4096];
        let mut total = 0;
        loop {
            let count = libc::write(writer, block.as_ptr().cast(), block.len());
            if count < 0 {
                break;
            }
            total += count;
        }
        ensure_eq!(errno(), libc::EAGAIN);
        ensure_eq!(total, 65536);
        ensure_eq!(libc::fcntl(writer, libc::F_GETPIPE_SZ), 65536);
        let mut waiting = 0;
        ensure_eq!(libc::ioctl(reader, libc::FIONREAD, &raw mut waiting), 0);
        ensure_eq!(waiting, 65536);
    }
    Ok(())
}

fn atomic() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    let mut children = Vec::new();
    for letter in b'a'..b'e' {
        children.push(sys::fork(|| {
            let line = [letter; 4096];
            (0..50).map(|_| i32::from(sys::write(writer, &line).is_err())).sum()
        })?);
    }
    sys::close(writer);
    let mut data = Vec::new();
    loop {
        let bytes = sys::read(reader, 65536)?;
        if bytes.is_empty() {
            break;
        }
        data.extend(bytes);
    }
    ensure_eq!(data.len(), 4 * 50 * 4096);
    for block in data.chunks(4096) {
        ensure!(block.iter().all(|byte| *byte == block[0]), "a write of PIPE_BUF bytes was torn");
    }
    for child in children {
        ensure_eq!(sys::wait(child)?, 0);
    }
    Ok(())
}

fn fifo() -> Outcome {
    let path = c(&format!("{}/fifo", sys::folder("ff")?));
    // SAFETY: the path is a C string; the rest are numbers.
    unsafe {
        ok("mkfifo", libc::mkfifo(path.as_ptr(), 0o600))?;
        ensure_eq!(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK), -1);
        ensure_eq!(errno(), libc::ENXIO);
        let child = sys::fork(|| {
            let fd = libc::open(path.as_ptr(), libc::O_WRONLY);
            i32::from(sys::write(fd, b"through").is_err())
        })?;
        sys::sleep_ms(50);
        ensure_eq!(libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG), 0);
        let fd = ok("open", libc::open(path.as_ptr(), libc::O_RDONLY))? as i32;
        ensure_eq!(sys::read(fd, 100)?, b"through");
        ensure_eq!(sys::wait(child)?, 0);
        ensure!(sys::read(fd, 100)?.is_empty());
    }
    Ok(())
}

fn poll() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    let look = |fd, events, timeout| {
        let mut one = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one pollfd.
        let count = unsafe { libc::poll(&raw mut one, 1, timeout) };
        (count, one.revents)
    };
    ensure_eq!(look(reader, libc::POLLIN, 0), (0, 0));
    ensure_eq!(look(writer, libc::POLLOUT, 0), (1, libc::POLLOUT));
    sys::write(writer, b"x")?;
    ensure_eq!(look(reader, libc::POLLIN, -1), (1, libc::POLLIN));
    sys::close(writer);
    ensure_eq!(look(reader, libc::POLLIN, -1), (1, libc::POLLIN | libc::POLLHUP));
    sys::read(reader, 10)?;
    ensure_eq!(look(reader, libc::POLLIN, -1), (1, libc::POLLHUP));
    ensure_eq!(look(999, libc::POLLIN, -1), (1, libc::POLLNVAL));
    ensure_eq!(look(-1, libc::POLLIN, 20), (0, 0));
    let (_reader, writer) = sys::pipe(0)?;
    sys::close(_reader);
    ensure_eq!(look(writer, libc::POLLOUT, -1), (1, libc::POLLOUT | libc::POLLERR));
    Ok(())
}

fn epoll() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    let (level, edge) = (sys::pipe(0)?.0, libc::EPOLLET);
    let _ = level;
    // SAFETY: events are live for each call; the rest are numbers.
    unsafe {
        let ep = ok("epoll_create1", libc::epoll_create1(0))? as i32;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 42 };
        ok("epoll_ctl", libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, reader, &raw mut event))?;
        ensure_eq!(libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, reader, &raw mut event), -1);
        ensure_eq!(errno(), libc::EEXIST);
        let mut out = [libc::epoll_event { events: 0, u64: 0 }; 4];
        ensure_eq!(libc::epoll_wait(ep, out.as_mut_ptr(), 4, 0), 0);
        sys::write(writer, b"x")?;
        for _ in 0..2 {
            ensure_eq!(libc::epoll_wait(ep, out.as_mut_ptr(), 4, -1), 1);
            let (data, events) = (out[0].u64, out[0].events);
            ensure_eq!((data, events), (42, libc::EPOLLIN as u32));
        }
        event.events = (libc::EPOLLIN | edge) as u32;
        ok("epoll_ctl", libc::epoll_ctl(ep, libc::EPOLL_CTL_MOD, reader, &raw mut event))?;
        ensure_eq!(libc::epoll_wait(ep, out.as_mut_ptr(), 4, 0), 1);
        ensure_eq!(libc::epoll_wait(ep, out.as_mut_ptr(), 4, 0), 0);
        sys::write(writer, b"y")?;
        ensure_eq!(libc::epoll_wait(ep, out.as_mut_ptr(), 4, 0), 1);
        ensure_eq!(libc::epoll_wait(ep, out.as_mut_ptr(), 4, 0), 0);
        sys::close(reader);
        ensure_eq!(libc::epoll_ctl(ep, libc::EPOLL_CTL_DEL, reader, &raw mut event), -1);
        ensure_eq!(errno(), libc::EBADF);
    }
    Ok(())
}

fn eventfd() -> Outcome {
    // SAFETY: numbers only.
    let fd = ok("eventfd", unsafe { libc::eventfd(3, libc::EFD_NONBLOCK) })? as i32;
    sys::write(fd, &5u64.to_ne_bytes())?;
    ensure_eq!(sys::read(fd, 8)?, 8u64.to_ne_bytes());
    ensure!(sys::read(fd, 8).is_err());
    ensure_eq!(errno(), libc::EAGAIN);
    ensure!(sys::write(fd, &u64::MAX.to_ne_bytes()).is_err());
    ensure_eq!(errno(), libc::EINVAL);
    ensure!(sys::read(fd, 7).is_err());
    ensure_eq!(errno(), libc::EINVAL);
    Ok(())
}

fn timerfd() -> Outcome {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let setting = libc::itimerspec {
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 },
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 },
    };
    // SAFETY: one itimerspec; the rest are numbers.
    unsafe {
        let fd = ok("timerfd_create", libc::timerfd_create(libc::CLOCK_MONOTONIC, 0))? as i32;
        ok("timerfd_settime", libc::timerfd_settime(fd, 0, &raw const setting, std::ptr::null_mut()))?;
        ensure_eq!(sys::read(fd, 8)?.len(), 8);
        sys::sleep_ms(60);
        let count = u64::from_ne_bytes(sys::read(fd, 8)?.try_into().unwrap_or_default());
        ensure!(count >= 4, "{count} expirations in 60 ms");
        let stop = libc::itimerspec { it_value: zero, it_interval: zero };
        let mut old = setting;
        ok("timerfd_settime", libc::timerfd_settime(fd, 0, &raw const stop, &raw mut old))?;
        ensure_eq!(old.it_interval.tv_nsec, 10_000_000);
    }
    Ok(())
}

fn signalfd() -> Outcome {
    // SAFETY: one signal set, live throughout.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        ok("sigprocmask", libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = ok("signalfd", libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK))? as i32;
        ensure!(sys::read(fd, 128).is_err());
        libc::kill(libc::getpid(), libc::SIGUSR1);
        let info = sys::read(fd, 128)?;
        ensure_eq!(info.len(), 128);
        ensure_eq!(info[0], libc::SIGUSR1 as u8);
        ensure_eq!(info[12..16], std::process::id().to_ne_bytes());
    }
    Ok(())
}

fn select() -> Outcome {
    let (reader, writer) = sys::pipe(0)?;
    // SAFETY: one fd_set and one timeval, live throughout.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::FD_SET(reader, &raw mut set);
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 30_000 };
        let null = std::ptr::null_mut();
        let start = std::time::Instant::now();
        ensure_eq!(libc::select(reader + 1, &raw mut set, null, null, &raw mut time), 0);
        ensure!(start.elapsed().as_millis() >= 30);
        ensure!(!libc::FD_ISSET(reader, &raw const set));
        ensure_eq!((time.tv_sec, time.tv_usec), (0, 0));
        sys::write(writer, b"x")?;
        libc::FD_SET(reader, &raw mut set);
        ensure_eq!(libc::select(reader + 1, &raw mut set, null, null, null.cast()), 1);
        ensure!(libc::FD_ISSET(reader, &raw const set));
    }
    Ok(())
}
