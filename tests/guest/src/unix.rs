//! UNIX sockets in use: many processes, waiting, readiness, descriptors in flight, and programs that mean ill.

use crate::case::{Case, Outcome, case, long_case};
use crate::sys::{self, c, errno, fork, in_child, ok, pipe, sleep_ms, wait};
use crate::unix_help::*;
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("unix_stream_order", stream_order),
    case("unix_stream_both_ways", both_ways),
    case("unix_stream_many_writers", many_writers),
    case("unix_seqpacket_boundaries", packet_boundaries),
    case("unix_datagrams_arrive_whole", datagrams_whole),
    case("unix_large_vectors", large_vectors),
    case("unix_server_many_clients", many_clients),
    case("unix_concurrent_connects", concurrent_connects),
    case("unix_accept_blocks", accept_blocks),
    case("unix_connect_blocks_on_backlog", connect_blocks),
    case("unix_connect_interrupted", connect_interrupted),
    case("unix_accept_woken_by_shutdown", accept_shutdown),
    case("unix_read_interrupted", read_interrupted),
    case("unix_read_restarted", read_restarted),
    case("unix_timeout_interrupted_is_eintr", timeout_interrupted),
    case("unix_write_blocks_until_read", write_blocks),
    case("unix_write_part_before_signal", write_part),
    case("unix_writer_sees_close", writer_sees_close),
    case("unix_datagram_sender_blocks", datagram_blocks),
    case("unix_datagram_sender_sees_close", datagram_close),
    case("unix_peek_does_not_take", peek_keeps),
    case("unix_two_readers", two_readers),
    case("unix_poll_wakes_reader", poll_wakes),
    case("unix_poll_wakes_on_close", poll_close),
    case("unix_select_works", select_works),
    case("unix_epoll_level", epoll_level),
    case("unix_epoll_edge_each_message", epoll_edge),
    case("unix_epoll_write_space", epoll_write_space),
    case("unix_epoll_write_space_edge_is_late", epoll_late),
    case("unix_epoll_datagram_peer_space", epoll_peer_space),
    case("unix_epoll_connection", epoll_connection),
    case("unix_epoll_rdhup", epoll_rdhup),
    case("unix_epoll_exclusive_accept", epoll_exclusive),
    case("unix_sendfile_into", sendfile_into),
    case("unix_splice_through", splice_through),
    case("unix_rights_of_files", rights_of_files),
    case("unix_rights_share_offset", rights_share_offset),
    case("unix_rights_to_another_process", rights_to_process),
    case("unix_rights_253", rights_253),
    case("unix_rights_closed_unreceived", rights_unreceived),
    case("unix_rights_keep_open", rights_keep_open),
    case("unix_rights_of_listener", rights_of_listener),
    case("unix_cycle_of_one", cycle_of_one),
    case("unix_cycle_of_two", cycle_of_two),
    case("unix_cycle_of_many", cycle_of_many),
    case("unix_cycle_through_listener", cycle_listener),
    case("unix_cycle_with_pipe", cycle_with_pipe),
    case("unix_cycle_kept_while_held", cycle_kept),
    case("unix_cycle_passed_on", cycle_passed),
    long_case("unix_chain_of_thousands", 60, long_chain),
    case("unix_inflight_limit", inflight_limit),
    long_case("unix_cycles_many_processes", 60, cycles_many),
    long_case("unix_collector_races_receivers", 60, collector_races),
    case("unix_flood_is_bounded", flood_bounded),
    case("unix_datagram_flood_bounded", datagram_flood),
    case("unix_connect_flood_bounded", connect_flood),
    case("unix_abstract_names_go_with_socket", abstract_gone),
    case("unix_path_survives_socket", path_survives),
    case("unix_path_rename", path_renamed),
    case("unix_bind_races", bind_races),
    case("unix_credentials_of_child", credentials_child),
    case("unix_pidfd_of_sender", pidfd_sender),
    case("unix_peercred_after_setuid", peercred_fixed),
    case("unix_sigpipe_kills", sigpipe),
    case("unix_fork_shares", fork_shares),
    case("unix_exec_closes", exec_closes),
    case("unix_dup_keeps_open", dup_keeps),
    case("unix_shutdown_half", shutdown_half),
    case("unix_socketpair_chain", pair_chain),
    case("unix_garbage_addresses", garbage_addresses),
    case("unix_garbage_headers", garbage_headers),
    case("unix_garbage_control", garbage_control),
    case("unix_garbage_options", garbage_options),
    long_case("unix_random_calls", 60, random_calls),
    case("unix_stress_pairs", stress_pairs),
    case("unix_stress_close_while_used", stress_close),
    case("unix_stress_pass_around", stress_pass),
    case("unix_proc_table_while_changing", proc_table),
    case("unix_recvmmsg_collects", recvmmsg_collects),
    case("unix_rcvlowat_waits", low_water),
    case("unix_waitall_gets_all", wait_all),
    case("unix_timestamps_grow", timestamps),
    case("unix_siocoutq_goes_down", outq),
    case("unix_filter_cuts", filter_cuts),
];

fn files_open() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Waits until no more files are open than before (give or take few of others).
fn files_back(before: u64) -> Outcome {
    for _ in 0..100 {
        // A collection is asked for by closing a socket.
        let (a, b) = pair(libc::SOCK_STREAM)?;
        sys::close(a);
        sys::close(b);
        if files_open() <= before + SLACK {
            return Ok(());
        }
        sleep_ms(50);
    }
    Err(format!("{} files open, {before} before", files_open()).into())
}

/// Linux counts in batches of each processor.
const SLACK: u64 = 100;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn read_all(fd: i32) -> Result<Vec<u8>, crate::case::Failure> {
    let mut all = Vec::new();
    loop {
        let bytes = sys::read(fd, 70_001)?;
        if bytes.is_empty() {
            return Ok(all);
        }
        all.extend(bytes);
    }
}

fn write_all(fd: i32, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = send(fd, rest, libc::MSG_NOSIGNAL);
        if count <= 0 {
            return false;
        }
        rest = &rest[count as usize..];
    }
    true
}

fn stream_order() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let data = pattern(3_000_000);
    let child = fork(|| {
        sys::close(b);
        data.chunks(77_777).all(|chunk| write_all(a, chunk)).into()
    })?;
    sys::close(a);
    ensure!(read_all(b)? == data);
    ensure_eq!(libc::WEXITSTATUS(wait(child)?), 1);
    Ok(())
}

fn both_ways() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sys::close(a);
        loop {
            match recv(b, 4000, 0) {
                Ok(bytes) if bytes.is_empty() => return 0,
                Ok(bytes) if write_all(b, &bytes) => {}
                _ => return 1,
            }
        }
    })?;
    sys::close(b);
    for size in [1, 2, 100, 128, 129, 2048, 2049, 3999] {
        let data = pattern(size);
        ensure!(write_all(a, &data));
        ensure_eq!(recv(a, size, libc::MSG_WAITALL)?, data);
    }
    sys::close(a);
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn many_writers() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let mut children = Vec::new();
    for letter in b'a'..b'i' {
        children.push(fork(|| i32::from(!(0..500).all(|_| send(a, &[letter; 64], 0) == 64)))?);
    }
    sys::close(a);
    let bytes = read_all(b)?;
    ensure_eq!(bytes.len(), 8 * 500 * 64);
    // Small writes are not torn.
    ensure!(bytes.chunks(64).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])));
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn packet_boundaries() -> Outcome {
    let (a, b) = pair(libc::SOCK_SEQPACKET)?;
    let child = fork(|| i32::from(!(1..1500).all(|size| send(a, &pattern(size), 0) == size as i64)))?;
    sys::close(a);
    for size in 1..1500 {
        ensure_eq!(recv(b, 5000, 0)?.len(), size);
    }
    ensure!(recv(b, 10, 0)?.is_empty());
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn datagrams_whole() -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    for size in [0, 1, 127, 128, 129, 2047, 2048, 2049, 4096, 4097, 60_000, 120_000] {
        let data = pattern(size);
        ensure_eq!(send(a, &data, 0), size as i64);
        ensure!(recv(b, 200_000, 0)? == data, "size {size}");
    }
    Ok(())
}

fn large_vectors() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let bytes = pattern(1024 * 50);
    let pieces: Vec<libc::iovec> = bytes
        .chunks(50)
        .map(|chunk| libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: 50 })
        .collect();
    // SAFETY: valid pieces.
    ensure_eq!(unsafe { libc::writev(a, pieces.as_ptr(), 1024) }, bytes.len() as isize);
    let mut into = vec![0_u8; bytes.len()];
    let rooms: Vec<libc::iovec> = into
        .chunks_mut(77)
        .map(|chunk| libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() })
        .collect();
    // SAFETY: valid pieces.
    ensure_eq!(unsafe { libc::readv(b, rooms.as_ptr(), rooms.len() as i32) }, bytes.len() as isize);
    ensure!(into == bytes);
    Ok(())
}

fn listener(kind: i32, name: &[u8], backlog: i32) -> Result<i32, crate::case::Failure> {
    let fd = socket(kind)?;
    ok("bind", bind(fd, name))?;
    // SAFETY: numbers only.
    ok("listen", unsafe { libc::listen(fd, backlog) })?;
    Ok(fd)
}

fn accept(fd: i32) -> Result<i32, crate::case::Failure> {
    // SAFETY: null pointers are allowed.
    Ok(ok("accept", unsafe { libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) })? as i32)
}

fn many_clients() -> Outcome {
    let fd = listener(libc::SOCK_STREAM, b"\0many-clients", 4)?;
    let mut children = Vec::new();
    for number in 0..20_u8 {
        children.push(fork(|| {
            let Ok(client) = socket(libc::SOCK_STREAM) else { return 1 };
            if connect(client, b"\0many-clients") != 0 || send(client, &[number; 10], 0) != 10 {
                return 2;
            }
            i32::from(recv(client, 10, libc::MSG_WAITALL).ok() != Some(vec![number; 10]))
        })?);
    }
    for _ in 0..20 {
        let one = accept(fd)?;
        let bytes = recv(one, 10, libc::MSG_WAITALL)?;
        ensure_eq!(send(one, &bytes, 0), 10);
        sys::close(one);
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn concurrent_connects() -> Outcome {
    // Two threads connect the same socket; one of them does.
    for _ in 0..100 {
        let fd =
            listener(libc::SOCK_STREAM, b"", 10).or_else(|_| listener(libc::SOCK_STREAM, b"\0both", 10))?;
        let name = name_of(fd)?;
        let client = socket(libc::SOCK_STREAM)?;
        let results: Vec<i64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| connect(client, &name))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(-2)).collect()
        });
        ensure_eq!(results.iter().filter(|result| **result == 0).count(), 1);
        sys::close(accept(fd)?);
        // SAFETY: numbers only.
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
        ensure!(accept(fd).is_err());
        sys::close(fd);
        sys::close(client);
    }
    Ok(())
}

fn accept_blocks() -> Outcome {
    let fd = listener(libc::SOCK_STREAM, b"\0accept-blocks", 4)?;
    let child = fork(|| {
        sleep_ms(100);
        let client = socket(libc::SOCK_STREAM).unwrap_or(-1);
        connect(client, b"\0accept-blocks") as i32
    })?;
    accept(fd)?;
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn connect_blocks() -> Outcome {
    let fd = listener(libc::SOCK_STREAM, b"\0connect-blocks", 0)?;
    let first = socket(libc::SOCK_STREAM)?;
    ensure_eq!(connect(first, b"\0connect-blocks"), 0);
    let (reader, writer) = pipe(0)?;
    let child = fork(|| {
        let client = socket(libc::SOCK_STREAM).unwrap_or(-1);
        let result = connect(client, b"\0connect-blocks") as i32;
        let _ = sys::write(writer, b"done");
        result
    })?;
    let mut poll = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    ensure_eq!(unsafe { libc::poll(&raw mut poll, 1, 150) }, 0);
    accept(fd)?;
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

extern "C" fn nothing(_: i32) {}

fn handle_alarm(flags: i32) {
    // SAFETY: plain data and a handler that does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
    }
}

fn alarm_ms(ms: i64) {
    let value = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: ms * 1000 },
    };
    // SAFETY: one itimerval.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &value, std::ptr::null_mut()) };
}

fn connect_interrupted() -> Outcome {
    let _fd = listener(libc::SOCK_STREAM, b"\0connect-eintr", 0)?;
    let first = socket(libc::SOCK_STREAM)?;
    ensure_eq!(connect(first, b"\0connect-eintr"), 0);
    handle_alarm(0);
    alarm_ms(100);
    let second = socket(libc::SOCK_STREAM)?;
    ensure_eq!(connect(second, b"\0connect-eintr"), -1);
    ensure_eq!(errno(), libc::EINTR);
    Ok(())
}

fn accept_shutdown() -> Outcome {
    let fd = listener(libc::SOCK_STREAM, b"\0accept-shutdown", 0)?;
    let child = fork(|| {
        sleep_ms(100);
        // SAFETY: numbers only.
        unsafe { libc::shutdown(fd, libc::SHUT_RDWR) }
    })?;
    ensure!(accept(fd).is_err());
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn read_interrupted() -> Outcome {
    let (a, _b) = pair(libc::SOCK_STREAM)?;
    handle_alarm(0);
    alarm_ms(100);
    ensure_eq!(recv(a, 1, 0).map_err(|error| error.0), Err(libc::EINTR));
    Ok(())
}

fn read_restarted() -> Outcome {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let (a, b) = pair(kind)?;
        handle_alarm(libc::SA_RESTART);
        alarm_ms(50);
        let child = fork(|| {
            sleep_ms(200);
            i32::from(send(b, b"late", 0) != 4)
        })?;
        ensure_eq!(recv(a, 10, 0)?, b"late");
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn timeout_interrupted() -> Outcome {
    let (a, _b) = pair(libc::SOCK_STREAM)?;
    let timeout = libc::timeval { tv_sec: 10, tv_usec: 0 };
    // SAFETY: one timeval.
    ok("setsockopt", unsafe {
        libc::setsockopt(a, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const timeout).cast(), 16)
    })?;
    handle_alarm(libc::SA_RESTART);
    alarm_ms(100);
    ensure_eq!(recv(a, 1, 0).map_err(|error| error.0), Err(libc::EINTR));
    Ok(())
}

fn write_blocks() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let data = pattern(1_000_000);
    let child = fork(|| i32::from(send(a, &data, 0) != data.len() as i64))?;
    sleep_ms(100);
    let mut got = 0;
    while got < data.len() {
        got += recv(b, 10_000, 0)?.len();
    }
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn write_part() -> Outcome {
    let (a, _b) = pair(libc::SOCK_STREAM)?;
    handle_alarm(0);
    alarm_ms(100);
    let sent = send(a, &pattern(1_000_000), 0);
    ensure!(sent > 100_000 && sent < 1_000_000, "{sent}");
    alarm_ms(100);
    ensure_eq!(send(a, b"x", 0), -1);
    ensure_eq!(errno(), libc::EINTR);
    Ok(())
}

fn writer_sees_close() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sys::close(b);
        let mut last = 0;
        while last >= 0 {
            last = send(a, &[0; 100_000], libc::MSG_NOSIGNAL);
        }
        i32::from(errno() != libc::EPIPE && errno() != libc::ECONNRESET)
    })?;
    sys::close(a);
    sleep_ms(100);
    sys::close(b);
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn datagram_blocks() -> Outcome {
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0dgram-blocks");
    let child = fork(|| {
        let client = socket(libc::SOCK_DGRAM).unwrap_or(-1);
        i32::from(!(0..50_u8).all(|number| send_to(client, &[number], b"\0dgram-blocks") == 1))
    })?;
    sleep_ms(100);
    for number in 0..50_u8 {
        ensure_eq!(recv(server, 10, 0)?, [number]);
    }
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn datagram_close() -> Outcome {
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0dgram-close");
    let child = fork(|| {
        sys::close(server);
        let client = socket(libc::SOCK_DGRAM).unwrap_or(-1);
        connect(client, b"\0dgram-close");
        while send(client, b"x", 0) == 1 {}
        i32::from(errno() != libc::ECONNREFUSED)
    })?;
    sleep_ms(200);
    sys::close(server);
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn peek_keeps() -> Outcome {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        let (a, b) = pair(kind)?;
        let child = fork(|| {
            sleep_ms(50);
            i32::from(send(a, b"peeked", 0) != 6)
        })?;
        for _ in 0..5 {
            ensure_eq!(recv(b, 3, libc::MSG_PEEK)?, b"pee");
        }
        ensure_eq!(recv(b, 10, 0)?, b"peeked");
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn two_readers() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let (reader, writer) = pipe(0)?;
    let mut children = Vec::new();
    for _ in 0..2 {
        children.push(fork(|| {
            sys::close(a);
            let mut sum = 0_u64;
            while let Ok(bytes) = recv(b, 100, 0) {
                if bytes.is_empty() {
                    break;
                }
                sum += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
            i32::from(sys::write(writer, &sum.to_ne_bytes()).is_err())
        })?);
    }
    let data = pattern(300_000);
    ensure!(write_all(a, &data));
    sys::close(a);
    let mut sum = 0;
    for child in children {
        ensure_eq!(wait(child)?, 0);
        let bytes = sys::read(reader, 8)?;
        sum += u64::from_ne_bytes(bytes.try_into().map_err(|_| "short")?);
    }
    ensure_eq!(sum, data.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    Ok(())
}

fn poll_for(fd: i32, events: i16, timeout: i32) -> i16 {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&raw mut poll, 1, timeout) };
    poll.revents
}

fn poll_wakes() -> Outcome {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let (a, b) = pair(kind)?;
        ensure_eq!(poll_for(a, libc::POLLIN, 50), 0);
        let child = fork(|| {
            sleep_ms(100);
            i32::from(send(b, b"x", 0) != 1)
        })?;
        ensure_eq!(poll_for(a, libc::POLLIN, 5000), libc::POLLIN);
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn poll_close() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sleep_ms(100);
        0
    })?;
    sys::close(b);
    // The child still has it.
    ensure_eq!(poll_for(a, libc::POLLIN | libc::POLLRDHUP, 20), 0);
    ensure_eq!(wait(child)?, 0);
    ensure_eq!(
        poll_for(a, libc::POLLIN | libc::POLLRDHUP, 5000),
        libc::POLLIN | libc::POLLHUP | libc::POLLRDHUP
    );
    Ok(())
}

fn select_works() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    // SAFETY: sets that are initialised.
    unsafe {
        let (mut reads, mut writes): (libc::fd_set, libc::fd_set) = std::mem::zeroed();
        libc::FD_SET(a, &raw mut reads);
        libc::FD_SET(a, &raw mut writes);
        let mut time = libc::timeval { tv_sec: 5, tv_usec: 0 };
        ensure_eq!(
            libc::select(a + 1, &raw mut reads, &raw mut writes, std::ptr::null_mut(), &raw mut time),
            1
        );
        ensure!(!libc::FD_ISSET(a, &reads) && libc::FD_ISSET(a, &writes));
        send(b, b"x", 0);
        libc::FD_SET(a, &raw mut reads);
        ensure_eq!(
            libc::select(a + 1, &raw mut reads, &raw mut writes, std::ptr::null_mut(), &raw mut time),
            2
        );
    }
    Ok(())
}

fn epoll_with(fd: i32, events: i32) -> Result<i32, crate::case::Failure> {
    // SAFETY: one event.
    unsafe {
        let epoll = ok("epoll_create1", libc::epoll_create1(0))? as i32;
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        ok("epoll_ctl", libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event))?;
        Ok(epoll)
    }
}

/// The events that come within so many milliseconds; 0 if none.
fn epoll_next(epoll: i32, timeout: i32) -> i32 {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: one event.
    if unsafe { libc::epoll_wait(epoll, &raw mut event, 1, timeout) } == 1 { event.events as i32 } else { 0 }
}

fn epoll_level() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let epoll = epoll_with(a, libc::EPOLLIN)?;
    ensure_eq!(epoll_next(epoll, 50), 0);
    send(b, b"xy", 0);
    ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLIN);
    recv(a, 1, 0)?;
    ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLIN);
    recv(a, 1, 0)?;
    ensure_eq!(epoll_next(epoll, 50), 0);
    Ok(())
}

fn epoll_edge() -> Outcome {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let (a, b) = pair(kind)?;
        let epoll = epoll_with(a, libc::EPOLLIN | libc::EPOLLET)?;
        for _ in 0..3 {
            send(b, b"x", 0);
            ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLIN);
            ensure_eq!(epoll_next(epoll, 50), 0);
        }
    }
    Ok(())
}

fn fill(fd: i32, size: usize) {
    while send(fd, &vec![0; size], libc::MSG_DONTWAIT) > 0 {}
}

fn epoll_write_space() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let epoll = epoll_with(a, libc::EPOLLOUT)?;
    ensure_eq!(epoll_next(epoll, 0), libc::EPOLLOUT);
    fill(a, 10_000);
    ensure_eq!(epoll_next(epoll, 50), 0);
    while recv(b, 100_000, libc::MSG_DONTWAIT).is_ok() {}
    ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLOUT);
    Ok(())
}

fn epoll_late() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let epoll = epoll_with(a, libc::EPOLLOUT | libc::EPOLLET)?;
    ensure_eq!(epoll_next(epoll, 0), libc::EPOLLOUT);
    fill(a, 10_000);
    ensure_eq!(epoll_next(epoll, 50), 0);
    // One message of many does not make it writable.
    recv(b, 10_000, 0)?;
    ensure_eq!(epoll_next(epoll, 50), 0);
    while recv(b, 100_000, libc::MSG_DONTWAIT).is_ok() {}
    ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLOUT);
    Ok(())
}

fn epoll_peer_space() -> Outcome {
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0peer-space");
    let client = socket(libc::SOCK_DGRAM)?;
    // Watched before it is connected: the readiness of the other side must reach it all the same.
    let epoll = epoll_with(client, libc::EPOLLOUT)?;
    connect(client, b"\0peer-space");
    fill(client, 10);
    ensure_eq!(epoll_next(epoll, 50), 0);
    let child = fork(|| {
        sleep_ms(100);
        i32::from(recv(server, 10, 0).is_err())
    })?;
    ensure_eq!(epoll_next(epoll, 5000), libc::EPOLLOUT);
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn epoll_connection() -> Outcome {
    let fd = listener(libc::SOCK_STREAM, b"\0epoll-conn", 5)?;
    let epoll = epoll_with(fd, libc::EPOLLIN | libc::EPOLLET)?;
    for _ in 0..3 {
        let client = socket(libc::SOCK_STREAM)?;
        ensure_eq!(connect(client, b"\0epoll-conn"), 0);
        ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLIN);
    }
    let mut count = 0;
    // SAFETY: numbers only.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    while accept(fd).is_ok() {
        count += 1;
    }
    ensure_eq!(count, 3);
    Ok(())
}

fn epoll_rdhup() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let epoll = epoll_with(a, libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET)?;
    // SAFETY: numbers only.
    unsafe { libc::shutdown(b, libc::SHUT_WR) };
    ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLIN | libc::EPOLLRDHUP);
    sys::close(b);
    ensure_eq!(epoll_next(epoll, 1000), libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP);
    Ok(())
}

fn epoll_exclusive() -> Outcome {
    const EXCLUSIVE: i32 = 1 << 28;
    let fd = listener(libc::SOCK_STREAM, b"\0epoll-excl", 5)?;
    let (first, second) =
        (epoll_with(fd, libc::EPOLLIN | EXCLUSIVE)?, epoll_with(fd, libc::EPOLLIN | EXCLUSIVE)?);
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0epoll-excl");
    let seen = [first, second].iter().filter(|epoll| epoll_next(**epoll, 100) != 0).count();
    ensure!(seen >= 1);
    Ok(())
}

fn sendfile_into() -> Outcome {
    let path = format!("{}/f", sys::folder("sendfile")?);
    let data = pattern(300_000);
    std::fs::write(&path, &data).map_err(|e| e.to_string())?;
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sys::close(b);
        // SAFETY: a valid string and numbers.
        unsafe {
            let file = libc::open(c(&path).as_ptr(), libc::O_RDONLY);
            let mut sent = 0;
            while sent < 300_000 {
                match libc::sendfile(a, file, std::ptr::null_mut(), 300_000) {
                    count if count > 0 => sent += count,
                    _ => return 1,
                }
            }
            0
        }
    })?;
    sys::close(a);
    ensure!(read_all(b)? == data);
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn splice_through() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let (reader, writer) = pipe(0)?;
    sys::write(writer, b"through a pipe")?;
    // SAFETY: null pointers are allowed.
    unsafe {
        let null = std::ptr::null_mut();
        ensure_eq!(libc::splice(reader, null, a, null, 100, 0), 14);
        ensure_eq!(libc::splice(b, null, writer, null, 14, 0), 14);
    }
    ensure_eq!(sys::read(reader, 100)?, b"through a pipe");
    Ok(())
}

/// Sends descriptors with one byte.
fn send_fds(fd: i32, fds: &[i32]) -> i64 {
    let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
    send_control(fd, b"f", &cmsg(1, 1, &data), libc::MSG_NOSIGNAL)
}

fn receive_fds(fd: i32, flags: i32) -> Result<Vec<i32>, crate::case::Failure> {
    Ok(receive_control(fd, 1, 4096, flags)?.fds())
}

fn rights_of_files() -> Outcome {
    let path = format!("{}/f", sys::folder("rights")?);
    std::fs::write(&path, b"contents").map_err(|e| e.to_string())?;
    let (a, b) = pair(libc::SOCK_STREAM)?;
    // SAFETY: a valid string.
    let file = unsafe { libc::open(c(&path).as_ptr(), libc::O_RDONLY) };
    ensure_eq!(send_fds(a, &[file]), 1);
    sys::close(file);
    let fds = receive_fds(b, 0)?;
    ensure_eq!(fds.len(), 1);
    ensure_eq!(sys::read(fds[0], 100)?, b"contents");
    Ok(())
}

fn rights_share_offset() -> Outcome {
    let path = format!("{}/f", sys::folder("offset")?);
    std::fs::write(&path, b"0123456789").map_err(|e| e.to_string())?;
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    // SAFETY: a valid string.
    let file = unsafe { libc::open(c(&path).as_ptr(), libc::O_RDONLY) };
    ensure_eq!(send_fds(a, &[file]), 1);
    let copy = receive_fds(b, 0)?[0];
    ensure_eq!(sys::read(file, 4)?, b"0123");
    ensure_eq!(sys::read(copy, 4)?, b"4567");
    Ok(())
}

fn rights_to_process() -> Outcome {
    let (a, b) = pair(libc::SOCK_SEQPACKET)?;
    let child = fork(|| {
        sys::close(a);
        match receive_fds(b, 0) {
            Ok(fds) if fds.len() == 1 => i32::from(sys::write(fds[0], b"from the child").is_err()),
            _ => 1,
        }
    })?;
    let (reader, writer) = pipe(0)?;
    ensure_eq!(send_fds(a, &[writer]), 1);
    sys::close(writer);
    ensure_eq!(sys::read(reader, 100)?, b"from the child");
    ensure_eq!(wait(child)?, 0);
    ensure!(sys::read(reader, 100)?.is_empty());
    Ok(())
}

fn rights_253() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    ensure_eq!(send_fds(a, &[a; 253]), 1);
    ensure_eq!(send_fds(a, &[a; 254]), -1);
    ensure_eq!(errno(), libc::EINVAL);
    let fds = receive_fds(b, 0)?;
    ensure_eq!(fds.len(), 253);
    ensure_eq!(send(fds[252], b"x", 0), 1);
    Ok(())
}

fn rights_unreceived() -> Outcome {
    let (reader, writer) = pipe(0)?;
    let (a, b) = pair(libc::SOCK_STREAM)?;
    ensure_eq!(send_fds(a, &[writer]), 1);
    sys::close(writer);
    sys::close(a);
    sys::close(b);
    // The pipe's last writer went with the queue.
    ensure!(sys::read(reader, 10)?.is_empty());
    Ok(())
}

fn rights_keep_open() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let (inner, outer) = pair(libc::SOCK_STREAM)?;
    ensure_eq!(send_fds(a, &[inner]), 1);
    sys::close(inner);
    ensure_eq!(send(outer, b"waits", 0), 5);
    let fd = receive_fds(b, 0)?[0];
    ensure_eq!(recv(fd, 10, 0)?, b"waits");
    Ok(())
}

fn rights_of_listener() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let fd = listener(libc::SOCK_STREAM, b"\0flying", 5)?;
    ensure_eq!(send_fds(a, &[fd]), 1);
    sys::close(fd);
    let client = socket(libc::SOCK_STREAM)?;
    ensure_eq!(connect(client, b"\0flying"), 0);
    ensure_eq!(send(client, b"hello", 0), 5);
    let fd = receive_fds(b, 0)?[0];
    ensure_eq!(recv(accept(fd)?, 10, 0)?, b"hello");
    Ok(())
}

fn cycle_of_one() -> Outcome {
    let before = files_open();
    for _ in 0..500 {
        let (a, b) = pair(libc::SOCK_DGRAM)?;
        ensure_eq!(send_fds(a, &[b]), 1);
        sys::close(b);
        sys::close(a);
    }
    files_back(before)
}

fn cycle_of_two() -> Outcome {
    let before = files_open();
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        for _ in 0..200 {
            let (a, b) = pair(kind)?;
            ensure_eq!(send_fds(a, &[a, b]), 1);
            ensure_eq!(send_fds(b, &[a, b]), 1);
            sys::close(a);
            sys::close(b);
        }
    }
    files_back(before)
}

fn cycle_of_many() -> Outcome {
    let before = files_open();
    for _ in 0..10 {
        // Each socket waits in the queue of the next, the last in that of the first.
        let pairs: Vec<(i32, i32)> = (0..50).map(|_| pair(libc::SOCK_DGRAM)).collect::<Result<_, _>>()?;
        for index in 0..50 {
            let next = pairs[(index + 1) % 50];
            ensure_eq!(send_fds(next.0, &[pairs[index].1]), 1);
        }
        for (a, b) in pairs {
            sys::close(a);
            sys::close(b);
        }
    }
    files_back(before)
}

fn cycle_listener() -> Outcome {
    let before = files_open();
    for _ in 0..200 {
        let fd =
            listener(libc::SOCK_STREAM, b"", 5).or_else(|_| listener(libc::SOCK_STREAM, b"\0cycle", 5))?;
        let name = name_of(fd)?;
        let client = socket(libc::SOCK_STREAM)?;
        ensure_eq!(connect(client, &name), 0);
        // The listener waits in the queue of a connection that only itself could accept.
        ensure_eq!(send_fds(client, &[fd]), 1);
        sys::close(fd);
        sys::close(client);
    }
    files_back(before)
}

fn cycle_with_pipe() -> Outcome {
    let (reader, writer) = pipe(0)?;
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    ensure_eq!(send_fds(a, &[b, writer]), 1);
    sys::close(writer);
    sys::close(b);
    sys::close(a);
    for _ in 0..100 {
        let (c, d) = pair(libc::SOCK_STREAM)?;
        sys::close(c);
        sys::close(d);
        if poll_for(reader, libc::POLLIN, 50) & libc::POLLHUP != 0 {
            return Ok(());
        }
    }
    Err("the pipe in the circle was not closed".into())
}

fn cycle_kept() -> Outcome {
    // A circle that can still be had is left alone.
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let (c, d) = pair(libc::SOCK_DGRAM)?;
    ensure_eq!(send_fds(a, &[b, d]), 1);
    ensure_eq!(send_fds(c, &[d, b]), 1);
    sys::close(d);
    for _ in 0..50 {
        let (e, f) = pair(libc::SOCK_STREAM)?;
        ensure_eq!(send_fds(e, &[f]), 1);
        sys::close(f);
        sys::close(e);
    }
    sleep_ms(100);
    let fds = receive_fds(b, 0)?;
    ensure_eq!(fds.len(), 2);
    let inner = receive_fds(fds[1], 0)?;
    ensure_eq!(inner.len(), 2);
    ensure_eq!(send(c, b"alive", 0), 5);
    ensure_eq!(recv(inner[0], 10, 0)?, b"alive");
    Ok(())
}

fn cycle_passed() -> Outcome {
    // The only way to a circle is a message to another process.
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sys::close(a);
        sleep_ms(200);
        let Ok(fds) = receive_fds(b, 0) else { return 1 };
        let Ok(inner) = receive_fds(fds[0], 0) else { return 2 };
        i32::from(send(inner[0], b"x", 0) != 1)
    })?;
    let (c, d) = pair(libc::SOCK_DGRAM)?;
    ensure_eq!(send_fds(c, &[c, d]), 1);
    ensure_eq!(send_fds(a, &[d]), 1);
    sys::close(c);
    sys::close(d);
    sys::close(b);
    for _ in 0..20 {
        let (e, f) = pair(libc::SOCK_STREAM)?;
        sys::close(e);
        sys::close(f);
    }
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn long_chain() -> Outcome {
    let before = files_open();
    let (reader, writer) = pipe(0)?;
    let mut carried = writer;
    for _ in 0..2000 {
        let (a, b) = pair(libc::SOCK_DGRAM)?;
        ensure_eq!(send_fds(a, &[carried]), 1);
        sys::close(carried);
        sys::close(a);
        carried = b;
    }
    ensure!(poll_for(reader, libc::POLLIN, 0) == 0);
    // Closing the last closes all, without a stack as deep as the chain.
    sys::close(carried);
    ensure_eq!(poll_for(reader, libc::POLLIN, 10_000), libc::POLLHUP);
    files_back(before)
}

fn inflight_limit() -> Outcome {
    let code = in_child(|| {
        // SAFETY: numbers and one rlimit.
        unsafe {
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::setgid(4242);
            libc::setuid(4242);
        }
        let Ok((a, b)) = pair(libc::SOCK_STREAM) else { return 1 };
        let mut sent = 0;
        while send_fds(a, &[0; 10]) == 1 && sent < 100 {
            sent += 1;
        }
        if errno() != libc::ETOOMANYREFS || sent != 7 {
            return 2;
        }
        let Ok(fds) = receive_fds(b, 0) else { return 3 };
        fds.iter().for_each(|fd| sys::close(*fd));
        i32::from(send_fds(a, &[0; 10]) != 1) * 4
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn cycles_many() -> Outcome {
    let before = files_open();
    let mut children = Vec::new();
    for seed in 0..6_usize {
        children.push(fork(|| {
            for round in 0..150 {
                let Ok((a, b)) = pair(libc::SOCK_DGRAM) else { return 1 };
                let Ok((c, d)) = pair(libc::SOCK_STREAM) else { return 1 };
                send_fds(a, &[b, d]);
                send_fds(c, &[b, c]);
                if (round + seed).is_multiple_of(3) {
                    send_fds(d, &[a]);
                }
                [a, b, c, d].into_iter().for_each(sys::close);
            }
            0
        })?);
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    files_back(before)
}

fn collector_races() -> Outcome {
    // A socket goes round between processes while circles are made and collected: it must never be taken for one.
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let noise = fork(|| {
        for _ in 0..1500 {
            let Ok((c, d)) = pair(libc::SOCK_DGRAM) else { return 1 };
            send_fds(c, &[d]);
            sys::close(d);
            sys::close(c);
        }
        0
    })?;
    let (mut held, partner) = pair(libc::SOCK_DGRAM)?;
    for round in 0..1500_u32 {
        // It waits in its own queue, and the queue is only to be had through a message.
        ensure_eq!(send_fds(partner, &[held]), 1);
        ensure_eq!(send_fds(a, &[held]), 1);
        sys::close(held);
        let got = receive_fds(b, 0)?;
        ensure!(got.len() == 1, "round {round}");
        let own = receive_fds(got[0], 0)?;
        ensure!(own.len() == 1, "round {round}");
        sys::close(got[0]);
        held = own[0];
        ensure_eq!(send(partner, b"x", 0), 1);
        ensure_eq!(recv(held, 1, 0)?, b"x");
    }
    ensure_eq!(wait(noise)?, 0);
    Ok(())
}

fn flood_bounded() -> Outcome {
    let mut total = 0_i64;
    for _ in 0..50 {
        let (a, _b) = pair(libc::SOCK_STREAM)?;
        loop {
            let sent = send(a, &[0; 4096], libc::MSG_DONTWAIT);
            if sent < 0 {
                break;
            }
            total += sent;
        }
        ensure_eq!(errno(), libc::EAGAIN);
    }
    ensure!(total < 50 * 300_000, "{total}");
    Ok(())
}

fn datagram_flood() -> Outcome {
    let (a, _b) = pair(libc::SOCK_DGRAM)?;
    let mut count = 0;
    while send(a, b"", libc::MSG_DONTWAIT) == 0 {
        count += 1;
        ensure!(count < 10_000);
    }
    ensure_eq!(errno(), libc::EAGAIN);
    Ok(())
}

fn connect_flood() -> Outcome {
    let _fd = listener(libc::SOCK_STREAM, b"\0connect-flood", 20)?;
    let mut count = 0;
    loop {
        let client = socket(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
        if connect(client, b"\0connect-flood") != 0 {
            break;
        }
        sys::close(client);
        count += 1;
        ensure!(count < 100);
    }
    ensure_eq!(errno(), libc::EAGAIN);
    ensure_eq!(count, 21);
    Ok(())
}

fn abstract_gone() -> Outcome {
    for _ in 0..50 {
        let fd = listener(libc::SOCK_STREAM, b"\0gone", 1)?;
        sys::close(fd);
    }
    let client = socket(libc::SOCK_STREAM)?;
    ensure_eq!(connect(client, b"\0gone"), -1);
    ensure_eq!(errno(), libc::ECONNREFUSED);
    Ok(())
}

fn path_survives() -> Outcome {
    let path = format!("{}/s", sys::folder("survives")?);
    let fd = listener(libc::SOCK_STREAM, path.as_bytes(), 1)?;
    sys::close(fd);
    ensure!(std::path::Path::new(&path).exists());
    let client = socket(libc::SOCK_STREAM)?;
    ensure_eq!(connect(client, path.as_bytes()), -1);
    ensure_eq!(errno(), libc::ECONNREFUSED);
    ensure_eq!(bind(socket(libc::SOCK_STREAM)?, path.as_bytes()), -1);
    ensure_eq!(errno(), libc::EADDRINUSE);
    Ok(())
}

fn path_renamed() -> Outcome {
    let dir = sys::folder("renamed")?;
    let (old, new, link) = (format!("{dir}/old"), format!("{dir}/new"), format!("{dir}/link"));
    let fd = listener(libc::SOCK_STREAM, old.as_bytes(), 5)?;
    std::fs::rename(&old, &new).map_err(|e| e.to_string())?;
    std::fs::hard_link(&new, &link).map_err(|e| e.to_string())?;
    for name in [&new, &link] {
        let client = socket(libc::SOCK_STREAM)?;
        ensure_eq!(connect(client, name.as_bytes()), 0);
        ensure!(peer_of(client)?.starts_with(old.as_bytes()));
        sys::close(accept(fd)?);
    }
    Ok(())
}

fn bind_races() -> Outcome {
    for round in 0..50 {
        let name = format!("\0race-{round}");
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| socket(libc::SOCK_STREAM).is_ok_and(|fd| bind(fd, name.as_bytes()) == 0))
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|won| *won).count()
        });
        ensure_eq!(winners, 1);
    }
    Ok(())
}

fn ucred_of(got: &Received) -> Option<(i32, u32, u32)> {
    let (_, _, data) = got.messages().into_iter().find(|(level, kind, _)| (*level, *kind) == (1, 2))?;
    let number = |at: usize| i32::from_ne_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    Some((number(0), number(4) as u32, number(8) as u32))
}

fn credentials_child() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    set_option(b, libc::SO_PASSCRED, 1);
    let child = fork(|| {
        // SAFETY: numbers only.
        unsafe {
            libc::setgid(77);
            libc::setuid(66);
        }
        i32::from(send(a, b"x", 0) != 1)
    })?;
    ensure_eq!(wait(child)?, 0);
    ensure_eq!(ucred_of(&receive_control(b, 1, 100, 0)?), Some((child, 66, 77)));
    Ok(())
}

fn pidfd_sender() -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    ok("SO_PASSPIDFD", set_option(b, 76, 1))?;
    let child = fork(|| {
        send(a, b"x", 0);
        sleep_ms(300);
        7
    })?;
    let got = receive_control(b, 1, 100, 0)?;
    let messages = got.messages();
    let (_, _, data) =
        messages.iter().find(|(level, kind, _)| (*level, *kind) == (1, 4)).ok_or("no pidfd")?;
    let pidfd = i32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
    ensure!(pidfd >= 0, "{pidfd}");
    // SAFETY: plain data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: one siginfo_t. P_PIDFD is 3.
    ok("waitid", unsafe { libc::waitid(3, pidfd as u32, &raw mut info, libc::WEXITED | libc::WNOWAIT) })?;
    // SAFETY: filled by waitid.
    ensure_eq!(unsafe { (info.si_pid(), info.si_status()) }, (child, 7));
    wait(child)?;
    Ok(())
}

fn peercred_fixed() -> Outcome {
    let fd = listener(libc::SOCK_STREAM, b"\0peercred-fixed", 5)?;
    let child = fork(|| {
        let client = socket(libc::SOCK_STREAM).unwrap_or(-1);
        connect(client, b"\0peercred-fixed");
        // SAFETY: numbers only.
        unsafe { libc::setuid(99) };
        send(client, b"x", 0);
        sleep_ms(200);
        0
    })?;
    let one = accept(fd)?;
    recv(one, 1, 0)?;
    let (mut value, mut length) = ([0_i32; 3], 12);
    // SAFETY: a buffer and its length.
    unsafe { libc::getsockopt(one, 1, libc::SO_PEERCRED, value.as_mut_ptr().cast(), &raw mut length) };
    ensure_eq!(value, [child, 0, 0]);
    wait(child)?;
    Ok(())
}

fn sigpipe() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    sys::close(b);
    // SAFETY: the default action is what is tested.
    let status = wait(fork(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        send(a, b"x", libc::MSG_NOSIGNAL);
        send(a, b"x", 0) as i32
    })?)?;
    ensure!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPIPE, "{status:#x}");
    Ok(())
}

fn fork_shares() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sys::close(a);
        i32::from(recv(b, 3, 0).ok().as_deref() != Some(b"one"))
    })?;
    send(a, b"one", 0);
    ensure_eq!(wait(child)?, 0);
    send(a, b"two", 0);
    ensure_eq!(recv(b, 3, 0)?, b"two");
    Ok(())
}

fn exec_closes() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM | libc::SOCK_CLOEXEC)?;
    let child = fork(|| {
        // SAFETY: valid strings.
        unsafe {
            libc::execl(c"/bin/true".as_ptr(), c"true".as_ptr(), std::ptr::null::<u8>());
            libc::execl(c"/bin/busybox".as_ptr(), c"true".as_ptr(), std::ptr::null::<u8>());
        }
        1
    })?;
    sys::close(b);
    wait(child)?;
    ensure!(recv(a, 1, 0)?.is_empty());
    Ok(())
}

fn dup_keeps() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    // SAFETY: numbers only.
    let copy = unsafe { libc::dup(b) };
    sys::close(b);
    ensure_eq!(send(a, b"x", 0), 1);
    ensure_eq!(recv(copy, 1, 0)?, b"x");
    sys::close(copy);
    ensure_eq!(send(a, b"x", libc::MSG_NOSIGNAL), -1);
    Ok(())
}

fn shutdown_half() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sys::close(a);
        let mut all = Vec::new();
        while let Ok(bytes) = recv(b, 100, 0) {
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        all.reverse();
        i32::from(!write_all(b, &all))
    })?;
    sys::close(b);
    ensure!(write_all(a, b"question"));
    // SAFETY: numbers only.
    ok("shutdown", unsafe { libc::shutdown(a, libc::SHUT_WR) })?;
    ensure_eq!(read_all(a)?, b"noitseuq");
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn pair_chain() -> Outcome {
    // A token goes through a ring of processes.
    const RING: usize = 10;
    let pairs: Vec<(i32, i32)> = (0..RING).map(|_| pair(libc::SOCK_STREAM)).collect::<Result<_, _>>()?;
    let mut children = Vec::new();
    for index in 1..RING {
        let (from, to) = (pairs[index - 1].1, pairs[index].0);
        children.push(fork(|| {
            for _ in 0..200 {
                match recv(from, 4, libc::MSG_WAITALL) {
                    Ok(bytes) if bytes.len() == 4 && send(to, &bytes, 0) == 4 => {}
                    _ => return 1,
                }
            }
            0
        })?);
    }
    for round in 0..200_u32 {
        send(pairs[0].0, &round.to_ne_bytes(), 0);
        ensure_eq!(recv(pairs[RING - 1].1, 4, libc::MSG_WAITALL)?, round.to_ne_bytes());
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

/// A small generator of numbers that mean nothing.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        (0..self.below(limit)).map(|_| if self.below(3) == 0 { 0 } else { self.next() as u8 }).collect()
    }
}

fn garbage_addresses() -> Outcome {
    std::env::set_current_dir(sys::folder("garbage")?).map_err(|e| e.to_string())?;
    let mut noise = Noise(0x1234_5678_9abc_def1);
    for _ in 0..2000 {
        let fd = socket([1, 2, 5][noise.below(3) as usize] | libc::SOCK_NONBLOCK)?;
        let mut address = noise.bytes(140);
        if noise.below(2) == 0 && address.len() > 2 {
            (address[0], address[1]) = (1, 0);
        }
        if address.contains(&b'/') {
            address.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
        }
        let length = if noise.below(4) == 0 { noise.below(300) as usize } else { address.len() };
        address.resize(300, 0);
        let call = [libc::SYS_bind, libc::SYS_connect][noise.below(2) as usize];
        sys::call(call, [fd as usize, address.as_ptr() as usize, length, 0, 0, 0]);
        sys::call(libc::SYS_sendto, [fd as usize, 0, 0, 0x4040, address.as_ptr() as usize, length]);
        sys::close(fd);
    }
    Ok(())
}

fn garbage_headers() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    let mut noise = Noise(0xfeed_beef_1234_5678);
    let memory = [0_u64; 64];
    for _ in 0..5000 {
        let mut header = [0_u64; 8];
        for word in &mut header {
            *word = match noise.below(5) {
                0 => noise.next(),
                1 => noise.below(200),
                2 => memory.as_ptr() as u64,
                3 => u64::from(noise.next() as u32),
                _ => 0,
            };
        }
        for call in [libc::SYS_sendmsg, libc::SYS_recvmsg] {
            let fd = [a, b][noise.below(2) as usize] as usize;
            // Answers go into a copy: a header may point to itself.
            let mut copy = header;
            copy[0] = 0;
            if call == libc::SYS_recvmsg {
                (copy[2], copy[3], copy[4]) = (0, 0, 0);
            }
            sys::call(call, [fd, copy.as_mut_ptr() as usize, noise.next() as u32 as usize & !2, 0, 0, 0]);
        }
    }
    ensure_eq!(send(a, b"still there", libc::MSG_DONTWAIT), 11);
    Ok(())
}

fn garbage_control() -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
    let mut noise = Noise(0x0dd_b1a5);
    for _ in 0..5000 {
        let mut control = noise.bytes(200);
        for at in (0..control.len().saturating_sub(16)).step_by(24) {
            if noise.below(2) == 0 {
                control[at..at + 8].copy_from_slice(&(16 + noise.below(12)).to_ne_bytes());
                control[at + 8..at + 12].copy_from_slice(&1_i32.to_ne_bytes());
                control[at + 12..at + 16].copy_from_slice(&(noise.below(6) as i32).to_ne_bytes());
            }
        }
        send_control(a, b"x", &control, libc::MSG_DONTWAIT);
        if let Ok(got) = receive_control(b, 10, noise.below(100) as usize, libc::MSG_DONTWAIT) {
            got.summary();
        }
    }
    ensure_eq!(send(a, b"x", libc::MSG_DONTWAIT), 1);
    Ok(())
}

fn garbage_options() -> Outcome {
    let mut noise = Noise(0xabcd_ef01_2345);
    for kind in [1, 2, 5] {
        let (a, b) = pair(kind | libc::SOCK_NONBLOCK)?;
        for _ in 0..3000 {
            let mut value = noise.bytes(64);
            value.resize(64, 0);
            let level = if noise.below(3) > 0 { 1 } else { noise.below(300) as usize };
            let name = noise.below(90) as usize;
            let mut length = noise.below(80) as i32 - 5;
            sys::call(
                libc::SYS_setsockopt,
                [a as usize, level, name, value.as_ptr() as usize, length as usize, 0],
            );
            let mut into = [0_u8; 100];
            sys::call(
                libc::SYS_getsockopt,
                [a as usize, level, name, into.as_mut_ptr() as usize, (&raw mut length) as usize, 0],
            );
        }
        ensure!(send(b, b"x", libc::MSG_DONTWAIT) >= -1);
    }
    Ok(())
}

fn random_calls() -> Outcome {
    std::env::set_current_dir(sys::folder("random")?).map_err(|e| e.to_string())?;
    let mut children = Vec::new();
    for seed in 1..5_u64 {
        children.push(fork(|| {
            random_child(seed);
            0
        })?);
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn random_child(seed: u64) {
    let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let names: [&[u8]; 5] = [b"\0r1", b"\0r2", b"path1", b"path2", b""];
    let mut fds: Vec<i32> = Vec::new();
    for _ in 0..4000 {
        let pick = |noise: &mut Noise, fds: &[i32]| {
            if fds.is_empty() { 99 } else { fds[noise.below(fds.len() as u64) as usize] }
        };
        let fd = pick(&mut noise, &fds);
        let other = pick(&mut noise, &fds);
        let name = names[noise.below(5) as usize];
        let kind = [1, 2, 5][noise.below(3) as usize] | libc::SOCK_NONBLOCK;
        match noise.below(14) {
            0 | 1 if fds.len() < 40 => fds.extend(socket(kind)),
            2 | 3 if fds.len() < 40 => fds.extend(pair(kind).into_iter().flat_map(|(a, b)| [a, b])),
            4 => drop(bind(fd, name)),
            5 => drop(connect(fd, name)),
            // SAFETY: numbers only.
            6 => drop(unsafe { libc::listen(fd, 3) }),
            7 if fds.len() < 40 => fds.extend(accept(fd)),
            8 => drop(send(fd, &noise.bytes(3000), libc::MSG_NOSIGNAL)),
            9 => drop(recv(fd, 2000, 0)),
            10 => drop(send_fds(fd, &[other, fd])),
            11 => {
                if let Ok(got) = receive_control(fd, 100, 100, 0) {
                    fds.extend(got.fds());
                }
            }
            // SAFETY: numbers only.
            12 => drop(unsafe { libc::shutdown(fd, noise.below(3) as i32) }),
            _ if !fds.is_empty() => {
                let place = noise.below(fds.len() as u64) as usize;
                sys::close(fds.swap_remove(place));
            }
            _ => {}
        }
        if noise.below(100) == 0 {
            let _ = std::fs::remove_file("path1");
            let _ = std::fs::remove_file("path2");
        }
        while fds.len() > 60 {
            sys::close(fds.swap_remove(0));
        }
    }
}

fn stress_pairs() -> Outcome {
    let before = files_open();
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(fork(|| {
            for _ in 0..1000 {
                let Ok((a, b)) = pair(libc::SOCK_STREAM) else { return 1 };
                if send(a, b"x", 0) != 1 || recv(b, 1, 0).is_err() {
                    return 2;
                }
                sys::close(a);
                sys::close(b);
            }
            0
        })?);
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    files_back(before)
}

fn stress_close() -> Outcome {
    for _ in 0..100 {
        let (a, b) = pair(libc::SOCK_STREAM)?;
        let child = fork(|| {
            sys::close(a);
            while send(b, &[1; 500], libc::MSG_NOSIGNAL) > 0 {}
            0
        })?;
        sys::close(b);
        recv(a, 100, 0)?;
        sys::close(a);
        ensure_eq!(wait(child)?, 0);
    }
    Ok(())
}

fn stress_pass() -> Outcome {
    // Processes hand the same descriptors to each other through one socket.
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let before = files_open();
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(fork(|| {
            for _ in 0..300 {
                let Ok((c, d)) = pair(libc::SOCK_STREAM) else { return 1 };
                if send_fds(a, &[c]) != 1 {
                    return 2;
                }
                sys::close(c);
                let Ok(fds) = receive_fds(b, 0) else { return 3 };
                if fds.len() != 1 {
                    return 4;
                }
                sys::close(fds[0]);
                sys::close(d);
            }
            0
        })?);
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    files_back(before)
}

fn proc_table() -> Outcome {
    let child = fork(|| {
        for _ in 0..1000 {
            let Ok((a, b)) = pair(libc::SOCK_STREAM) else { return 1 };
            bind(a, b"");
            sys::close(a);
            sys::close(b);
        }
        0
    })?;
    for _ in 0..20 {
        let text = std::fs::read_to_string("/proc/net/unix").map_err(|e| e.to_string())?;
        ensure!(text.starts_with("Num       RefCount Protocol Flags    Type St Inode Path\n"));
        ensure!(text.lines().skip(1).all(|line| line.split_whitespace().count() >= 7));
    }
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn recvmmsg_collects() -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let child = fork(|| {
        for _ in 0..5 {
            sleep_ms(30);
            send(a, b"one", 0);
        }
        0
    })?;
    let mut buffers = [[0_u8; 10]; 5];
    let rooms: Vec<[u64; 2]> = buffers.iter_mut().map(|one| [one.as_mut_ptr() as u64, 10]).collect();
    let mut heads: Vec<[u64; 8]> =
        rooms.iter().map(|room| [0, 0, room.as_ptr() as u64, 1, 0, 0, 0, 0]).collect();
    let count = sys::call(libc::SYS_recvmmsg, [b as usize, heads.as_mut_ptr() as usize, 5, 0, 0, 0]);
    ensure_eq!(count, 5);
    ensure!(heads.iter().all(|head| head[7] == 3));
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn low_water() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    ok("SO_RCVLOWAT", set_option(b, libc::SO_RCVLOWAT, 6))?;
    let child = fork(|| {
        send(a, b"123", 0);
        sleep_ms(100);
        send(a, b"456", 0);
        0
    })?;
    ensure_eq!(recv(b, 10, 0)?, b"123456");
    ensure_eq!(wait(child)?, 0);
    Ok(())
}

fn wait_all() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let data = pattern(500_000);
    let child = fork(|| i32::from(!data.chunks(999).all(|chunk| write_all(a, chunk))))?;
    ensure!(recv(b, data.len(), libc::MSG_WAITALL)? == data);
    ensure_eq!(wait(child)?, 0);
    send(a, b"part", 0);
    sys::close(a);
    ensure_eq!(recv(b, 100, libc::MSG_WAITALL)?, b"part");
    Ok(())
}

fn timestamps() -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    ok("SO_TIMESTAMPNS", set_option(b, libc::SO_TIMESTAMPNS, 1))?;
    let mut last = 0;
    for _ in 0..5 {
        send(a, b"x", 0);
        sleep_ms(5);
        let messages = receive_control(b, 1, 100, 0)?.messages();
        let (_, _, data) = messages.first().ok_or("no time")?;
        ensure_eq!(data.len(), 16);
        let number = |at: usize| i64::from_ne_bytes(data[at..at + 8].try_into().unwrap_or_default());
        let time = number(0) * 1_000_000_000 + number(8);
        ensure!(time > last);
        last = time;
    }
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|e| e.to_string())?;
    let age = now.as_nanos() as i64 - last;
    ensure!((0..10_000_000_000).contains(&age), "{age}");
    Ok(())
}

fn outq() -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let queued = || {
        let mut value = -1_i32;
        // SAFETY: one integer.
        unsafe { libc::ioctl(a, 0x5411, &raw mut value) };
        value
    };
    ensure_eq!(queued(), 0);
    send(a, &[0; 1000], 0);
    let one = queued();
    ensure!(one >= 1000);
    send(a, &[0; 1000], 0);
    ensure_eq!(queued(), 2 * one);
    recv(b, 1000, 0)?;
    ensure_eq!(queued(), one);
    recv(b, 500, 0)?;
    ensure_eq!(queued(), one);
    recv(b, 500, 0)?;
    ensure_eq!(queued(), 0);
    Ok(())
}

fn filter_cuts() -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    // Keep the messages whose length is even.
    let program = [
        libc::sock_filter { code: 0x80, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: 0x45, jt: 1, jf: 0, k: 1 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 },
    ];
    let head = libc::sock_fprog { len: 4, filter: program.as_ptr().cast_mut() };
    // SAFETY: a program and its head.
    ok("SO_ATTACH_FILTER", unsafe {
        libc::setsockopt(b, 1, 26, (&raw const head).cast(), size_of::<libc::sock_fprog>() as u32)
    })?;
    for size in 0..10 {
        ensure_eq!(send(a, &vec![0; size], 0), size as i64);
    }
    for size in [0, 2, 4, 6, 8] {
        ensure_eq!(recv(b, 100, libc::MSG_DONTWAIT)?.len(), size);
    }
    ensure!(recv(b, 100, libc::MSG_DONTWAIT).is_err());
    Ok(())
}
