//! Sockets: the calls' errors in Linux's order, options, control messages, and the rules of the UNIX family.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{c, folder, fork, in_child, pipe, sleep_ms, wait};
use crate::unix_help::*;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("sockets_socket_arguments", arguments),
    ("sockets_socketpair_arguments", pair_arguments),
    ("sockets_bad_descriptors", bad_descriptors),
    ("sockets_address_lengths", address_lengths),
    ("sockets_integer_options", integer_options),
    ("sockets_read_only_options", read_only_options),
    ("sockets_buffers", buffers),
    ("sockets_timeouts", timeouts),
    ("sockets_other_options", other_options),
    ("sockets_option_lengths", option_lengths),
    ("sockets_peer_credentials", peer_credentials),
    ("sockets_filters", filters),
    ("sockets_message_headers", message_headers),
    ("sockets_control_messages", control_messages),
    ("sockets_control_truncation", control_truncation),
    ("sockets_many_messages", many_messages),
    ("sockets_names_of_files", file_names),
    ("sockets_fcntl_and_ioctl", fcntl_and_ioctl),
    ("unix_bind", bind_rules),
    ("unix_abstract", abstract_names),
    ("unix_connect_stream", connect_stream),
    ("unix_connect_datagram", connect_datagram),
    ("unix_connect_permission", connect_permission),
    ("unix_listen_and_accept", listen_and_accept),
    ("unix_backlog", backlog),
    ("unix_stream_states", stream_states),
    ("unix_stream_peek", stream_peek),
    ("unix_stream_urgent", stream_urgent),
    ("unix_stream_closed", stream_closed),
    ("unix_stream_buffer", stream_buffer),
    ("unix_stream_senders", stream_senders),
    ("unix_datagram", datagram),
    ("unix_datagram_peers", datagram_peers),
    ("unix_datagram_limits", datagram_limits),
    ("unix_datagram_peek_offset", datagram_peek_offset),
    ("unix_sequenced", sequenced),
    ("unix_shutdown", shutdown),
    ("unix_poll", poll_states),
    ("unix_rights", rights),
    ("unix_credentials", credentials),
    ("unix_queue_sizes", queue_sizes),
    ("unix_sysctl", sysctls),
    ("unix_proc_table", proc_table),
];

fn arguments(t: &mut Transcript) -> Outcome {
    for (family, kind, protocol) in [
        (1, 1, 0),
        (1, 1, 1),
        (1, 1, 2),
        (1, 2, 0),
        (1, 3, 0),
        (1, 4, 0),
        (1, 5, 0),
        (1, 6, 0),
        (1, 10, 0),
        (1, 11, 0),
        (1, 15, 0),
        (1, 0, 0),
        (0, 1, 0),
        (46, 1, 0),
        (1000, 1, 0),
        (-1, 1, 0),
        (1, -1, 0),
        (46, 11, 0),
        (9, 1, 0),
    ] {
        t.works(&format!("socket {family} {kind} {protocol}"), sys!(SYS_socket, family, kind, protocol));
    }
    for flags in [0o4000, 0o2000000, 0o2004000, 0o20, 0x100, 0o1000000] {
        let fd = t.works(&format!("socket stream {flags:o}"), sys!(SYS_socket, 1, 1 | flags, 0));
        if fd >= 0 {
            t.call("  F_GETFD", sys!(SYS_fcntl, fd, 1));
            t.call("  F_GETFL", sys!(SYS_fcntl, fd, 3));
        }
    }
    Ok(())
}

fn pair_arguments(t: &mut Transcript) -> Outcome {
    let mut fds = [-7; 2];
    for (family, kind, protocol) in
        [(1, 1, 0), (1, 2, 0), (1, 5, 0), (1, 3, 1), (1, 4, 0), (1, 1, 5), (45, 1, 0), (1, 12, 0), (-5, 1, 0)]
    {
        t.works(
            &format!("socketpair {family} {kind} {protocol}"),
            sys!(SYS_socketpair, family, kind, protocol, fds.as_mut_ptr()),
        );
    }
    t.call("socketpair null", sys!(SYS_socketpair, 1, 1, 0, 0));
    t.call("socketpair null, bad family", sys!(SYS_socketpair, 77, 1, 0, 0));
    t.call("socketpair flags", sys!(SYS_socketpair, 1, 1 | 0x40, 0, fds.as_mut_ptr()));
    let (a, b) = pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    for fd in [a, b] {
        t.call("F_GETFD", sys!(SYS_fcntl, fd, 1));
        t.call("F_GETFL", sys!(SYS_fcntl, fd, 3));
    }
    let limit = libc::rlimit { rlim_cur: 5, rlim_max: 1024 };
    // SAFETY: one rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    sys!(SYS_close_range, 3, 199, 0);
    t.call("two of two", sys!(SYS_socketpair, 1, 1, 0, fds.as_mut_ptr()));
    t.note("numbers", fds);
    sys!(SYS_close, 3);
    t.call("two of one", sys!(SYS_socketpair, 1, 1, 0, fds.as_mut_ptr()));
    t.call("one of one", sys!(SYS_socket, 1, 1, 0));
    t.call("one of none", sys!(SYS_socket, 1, 1, 0));
    Ok(())
}

fn bad_descriptors(t: &mut Transcript) -> Outcome {
    let (reader, _writer) = pipe(0)?;
    // SAFETY: a valid string.
    let place = unsafe { libc::open(c("/tmp").as_ptr(), libc::O_PATH) };
    let (socket, _other) = pair(libc::SOCK_STREAM)?;
    let buffer = [0_u8; 64];
    let mut length = 16_i32;
    let at = buffer.as_ptr();
    for (name, fd) in [("none", 99), ("a pipe", reader), ("a place", place), ("negative", -1)] {
        t.call(&format!("{name}: bind"), sys!(SYS_bind, fd, at, 10));
        t.call(&format!("{name}: connect"), sys!(SYS_connect, fd, at, 10));
        t.call(&format!("{name}: listen"), sys!(SYS_listen, fd, 1));
        t.call(&format!("{name}: accept"), sys!(SYS_accept, fd, 0, 0));
        t.call(&format!("{name}: accept4 flags"), sys!(SYS_accept4, fd, 0, 0, 1));
        t.call(&format!("{name}: getsockname"), sys!(SYS_getsockname, fd, at, &raw mut length));
        t.call(&format!("{name}: getpeername"), sys!(SYS_getpeername, fd, at, &raw mut length));
        t.call(&format!("{name}: sendto"), sys!(SYS_sendto, fd, at, 1, 0, 0, 0));
        t.call(&format!("{name}: recvfrom"), sys!(SYS_recvfrom, fd, at, 1, 0, 0, 0));
        t.call(&format!("{name}: sendmsg"), sys!(SYS_sendmsg, fd, 0, 0));
        t.call(&format!("{name}: recvmsg"), sys!(SYS_recvmsg, fd, 0, 0));
        t.call(&format!("{name}: sendmmsg"), sys!(SYS_sendmmsg, fd, 0, 1, 0));
        t.call(&format!("{name}: recvmmsg"), sys!(SYS_recvmmsg, fd, 0, 1, 0, 0));
        t.call(&format!("{name}: shutdown"), sys!(SYS_shutdown, fd, 7));
        t.call(&format!("{name}: setsockopt"), sys!(SYS_setsockopt, fd, 1, 2, at, -1));
        t.call(&format!("{name}: getsockopt"), sys!(SYS_getsockopt, fd, 1, 2, at, 0));
    }
    t.call("shutdown 3", sys!(SYS_shutdown, socket, 3));
    t.call("shutdown -1", sys!(SYS_shutdown, socket, -1));
    t.call("lseek", sys!(SYS_lseek, socket, 0, 0));
    t.call("pread", sys!(SYS_pread64, socket, at, 1, 0));
    t.call("pwrite", sys!(SYS_pwrite64, socket, at, 1, 0));
    t.call("fsync", sys!(SYS_fsync, socket));
    t.call("fdatasync", sys!(SYS_fdatasync, socket));
    t.call("ftruncate", sys!(SYS_ftruncate, socket, 0));
    t.call("fallocate", sys!(SYS_fallocate, socket, 0, 0, 1));
    t.call("fadvise", sys!(SYS_fadvise64, socket, 0, 0, 0));
    t.call("fchdir", sys!(SYS_fchdir, socket));
    t.call("getdents64", sys!(SYS_getdents64, socket, at, 64));
    t.works("mmap", sys!(SYS_mmap, 0, 4096, 1, 2, socket, 0));
    t.call("F_SETPIPE_SZ", sys!(SYS_fcntl, socket, 1031, 4096));
    t.call("MSG_CMSG_COMPAT sendmsg", sys!(SYS_sendmsg, 99, 0, 0x8000_0000_u32));
    t.call("MSG_CMSG_COMPAT recvmsg", sys!(SYS_recvmsg, 99, 0, 0x8000_0000_u32));
    Ok(())
}

fn address_lengths(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    let buffer = [1_u8, 0, 0, b'z', b'q', 0, 0, 0].repeat(32);
    for length in [-1_i32, 0, 1, 2, 111, 128, 129, 1000] {
        t.call(
            &format!("bind {length}"),
            sys!(SYS_bind, socket(libc::SOCK_STREAM)?, buffer.as_ptr(), length),
        );
        t.call(&format!("connect {length}"), sys!(SYS_connect, fd, buffer.as_ptr(), length));
        t.call(
            &format!("sendto {length}"),
            sys!(SYS_sendto, fd, buffer.as_ptr(), 1, 0, buffer.as_ptr(), length),
        );
    }
    t.call("bind null", sys!(SYS_bind, fd, 0, 10));
    t.call("bind null 0", sys!(SYS_bind, fd, 0, 0));
    t.call("connect null", sys!(SYS_connect, fd, 0, 10));
    let named = socket(libc::SOCK_STREAM)?;
    t.call("bind", bind(named, b"\0length-test"));
    for room in [-1_i32, 0, 1, 2, 3, 13, 14, 15, 100] {
        let (mut name, mut length) = ([0xee_u8; 32], room);
        t.call(
            &format!("getsockname {room}"),
            sys!(SYS_getsockname, named, name.as_mut_ptr(), &raw mut length),
        );
        t.note("  length and bytes", (length, String::from_utf8_lossy(&name[..16]).into_owned()));
    }
    let mut length = 20_i32;
    t.call("getsockname null", sys!(SYS_getsockname, named, 0, &raw mut length));
    t.call("getsockname null length", sys!(SYS_getsockname, named, buffer.as_ptr(), 0));
    length = 0;
    t.call("getsockname null 0", sys!(SYS_getsockname, named, 0, &raw mut length));
    t.note("length", length);
    length = 20;
    let mut name = [0_u8; 20];
    t.call("getpeername unconnected", sys!(SYS_getpeername, named, name.as_mut_ptr(), &raw mut length));
    t.call("getsockname unbound", sys!(SYS_getsockname, fd, name.as_mut_ptr(), &raw mut length));
    t.note("length and family", (length, name[0]));
    Ok(())
}

fn integer_options(t: &mut Transcript) -> Outcome {
    let names = [
        ("DEBUG", 1),
        ("REUSEADDR", 2),
        ("DONTROUTE", 5),
        ("BROADCAST", 6),
        ("KEEPALIVE", 9),
        ("OOBINLINE", 10),
        ("NO_CHECK", 11),
        ("PRIORITY", 12),
        ("REUSEPORT", 15),
        ("PASSCRED", 16),
        ("RCVLOWAT", 18),
        ("SNDLOWAT", 19),
        ("TIMESTAMP", 29),
        ("PASSSEC", 34),
        ("TIMESTAMPNS", 35),
        ("MARK", 36),
        ("RXQ_OVFL", 40),
        ("PEEK_OFF", 42),
        ("LOCK_FILTER", 44),
        ("SELECT_ERR_QUEUE", 45),
        ("BPF_EXTENSIONS", 48),
        ("BINDTOIFINDEX", 62),
        ("TIMESTAMP_NEW", 63),
        ("TIMESTAMPNS_NEW", 64),
        ("BUF_LOCK", 72),
        ("RCVMARK", 75),
        ("PASSPIDFD", 76),
        ("RCVPRIORITY", 82),
        ("PASSRIGHTS", 83),
        ("no such", 1000),
    ];
    for (name, option) in names {
        let fd = socket(libc::SOCK_STREAM)?;
        note_option(t, &format!("{name} at first"), fd, option);
        for value in [1, 0, 5, -1] {
            t.call(&format!("{name} = {value}"), set_option(fd, option, value));
            note_option(t, &format!("  {name}"), fd, option);
        }
    }
    Ok(())
}

fn note_option(t: &mut Transcript, what: &str, fd: i32, option: i32) {
    match option_value(fd, option) {
        Ok((value, length)) => t.note(what, (value, length)),
        Err(error) => t.note(what, error),
    }
}

fn read_only_options(t: &mut Transcript) -> Outcome {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_RAW] {
        let fd = socket(kind)?;
        for (name, option) in
            [("TYPE", 3), ("ERROR", 4), ("ACCEPTCONN", 30), ("PROTOCOL", 38), ("DOMAIN", 39)]
        {
            note_option(t, &format!("kind {kind} {name}"), fd, option);
            t.call(&format!("kind {kind} set {name}"), set_option(fd, option, 1));
        }
    }
    let fd = socket(libc::SOCK_STREAM)?;
    bind(fd, b"\0read-only");
    sys!(SYS_listen, fd, 5);
    note_option(t, "ACCEPTCONN listening", fd, 30);
    let (a, b) = (cookie(fd, 57), cookie(socket(libc::SOCK_STREAM)?, 57));
    t.note("cookies differ, and stay", (a != b, a == cookie(fd, 57), a != 0));
    let other = cookie(socket(libc::SOCK_DGRAM)?, 71);
    t.note("namespace cookies are equal", cookie(fd, 71) == other && other != 0);
    Ok(())
}

fn buffers(t: &mut Transcript) -> Outcome {
    for (name, option) in [("SNDBUF", 7), ("RCVBUF", 8), ("SNDBUFFORCE", 32), ("RCVBUFFORCE", 33)] {
        let read = if option == 7 || option == 32 { 7 } else { 8 };
        for value in [0, 1, 1000, 2304, 5000, 100_000, 212_992, 1_000_000, 4_194_304, 8_000_000, i32::MAX, -1]
        {
            let fd = socket(libc::SOCK_STREAM)?;
            t.call(&format!("{name} = {value}"), set_option(fd, option, value));
            note_option(t, "  is", fd, read);
            note_option(t, "  locked", fd, 72);
        }
    }
    let status = in_child(|| {
        // SAFETY: numbers only.
        unsafe { libc::setuid(1000) };
        let fd = socket(libc::SOCK_STREAM).unwrap_or(-1);
        let refused = [32, 33, 36].iter().all(|option| set_option(fd, *option, 1) == -1);
        i32::from(!refused)
            + 2 * i32::from(set_option(fd, 12, 7) != -1)
            + 4 * i32::from(set_option(fd, 12, 6) != 0)
    })?;
    t.note("unprivileged", status);
    Ok(())
}

fn timeouts(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    for option in [20, 21, 66, 67] {
        for (seconds, microseconds) in
            [(0, 0), (1, 500_000), (0, 1), (5, 1_000_000), (5, -1), (-1, 0), (i64::MAX, 0), (0, 996_000)]
        {
            let value = [seconds, microseconds];
            t.call(
                &format!("{option} = {seconds}.{microseconds}"),
                sys!(SYS_setsockopt, fd, 1, option, value.as_ptr(), 16),
            );
            let (mut got, mut length) = ([-5_i64; 2], 16_i32);
            sys!(SYS_getsockopt, fd, 1, option, got.as_mut_ptr(), &raw mut length);
            t.note("  is", (length, got[0], got[1] / 10_000));
        }
        let value = [1_i64, 0];
        t.call("short", sys!(SYS_setsockopt, fd, 1, option, value.as_ptr(), 8));
    }
    let (a, _b) = pair(libc::SOCK_STREAM)?;
    let value = [0_i64, 50_000];
    sys!(SYS_setsockopt, a, 1, 20, value.as_ptr(), 16);
    sys!(SYS_setsockopt, a, 1, 21, value.as_ptr(), 16);
    let mut buffer = vec![0_u8; 1 << 20];
    t.call("recv times out", sys!(SYS_recvfrom, a, buffer.as_mut_ptr(), 10, 0, 0, 0));
    t.call("read times out", sys!(SYS_read, a, buffer.as_mut_ptr(), 10));
    sys!(SYS_sendto, a, buffer.as_ptr(), buffer.len(), libc::MSG_DONTWAIT, 0, 0);
    t.call("send times out", sys!(SYS_sendto, a, buffer.as_ptr(), 10, 0, 0, 0));
    let listener = socket(libc::SOCK_STREAM)?;
    bind(listener, b"\0timeouts");
    sys!(SYS_listen, listener, 0);
    sys!(SYS_setsockopt, listener, 1, 20, value.as_ptr(), 16);
    t.call("accept times out", sys!(SYS_accept, listener, 0, 0));
    let first = socket(libc::SOCK_STREAM)?;
    t.call("connect", connect(first, b"\0timeouts"));
    let second = socket(libc::SOCK_STREAM)?;
    sys!(SYS_setsockopt, second, 1, 21, value.as_ptr(), 16);
    t.call("connect times out", connect(second, b"\0timeouts"));
    Ok(())
}

fn other_options(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    for (on, seconds) in [(0, 0), (1, 5), (0, 9), (7, 3)] {
        let value = [on, seconds];
        t.call(&format!("LINGER {on} {seconds}"), sys!(SYS_setsockopt, fd, 1, 13, value.as_ptr(), 8));
        let (mut got, mut length) = ([-5_i32; 2], 8_i32);
        sys!(SYS_getsockopt, fd, 1, 13, got.as_mut_ptr(), &raw mut length);
        t.note("  is", (length, got));
    }
    t.call("LINGER short", sys!(SYS_setsockopt, fd, 1, 13, [1, 1].as_ptr(), 4));
    t.call("BINDTODEVICE no such", sys!(SYS_setsockopt, fd, 1, 25, c"nothing0".as_ptr(), 9));
    t.call("BINDTODEVICE none", sys!(SYS_setsockopt, fd, 1, 25, c"".as_ptr(), 1));
    t.call("BINDTODEVICE empty", sys!(SYS_setsockopt, fd, 1, 25, 0, 0));
    for level in [0, 6, 17, 41, 255, 270, -1, 1000] {
        t.call(&format!("set level {level}"), sys!(SYS_setsockopt, fd, level, 1, [1].as_ptr(), 4));
        let mut length = 4_i32;
        t.call(
            &format!("get level {level}"),
            sys!(SYS_getsockopt, fd, level, 1, [0].as_mut_ptr(), &raw mut length),
        );
    }
    let (mut values, mut length) = ([0_u32; 9], 36_i32);
    t.call("MEMINFO", sys!(SYS_getsockopt, fd, 1, 55, values.as_mut_ptr(), &raw mut length));
    t.note("  is", (length, values));
    length = 7;
    t.call("MEMINFO 7", sys!(SYS_getsockopt, fd, 1, 55, values.as_mut_ptr(), &raw mut length));
    t.note("  length", length);
    Ok(())
}

fn option_lengths(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    for length in [-1_i32, 0, 1, 3, 4, 5, 100] {
        let value = [1_u8; 128];
        t.call(&format!("set KEEPALIVE {length}"), sys!(SYS_setsockopt, fd, 1, 9, value.as_ptr(), length));
        let (mut got, mut room) = ([0xee_u8; 128], length);
        t.call(
            &format!("get KEEPALIVE {length}"),
            sys!(SYS_getsockopt, fd, 1, 9, got.as_mut_ptr(), &raw mut room),
        );
        t.note("  length, bytes", (room, &got[..6]));
        room = length;
        t.call(
            &format!("get COOKIE {length}"),
            sys!(SYS_getsockopt, fd, 1, 57, got.as_mut_ptr(), &raw mut room),
        );
        room = length;
        t.call(
            &format!("get PEERCRED {length}"),
            sys!(SYS_getsockopt, fd, 1, 17, got.as_mut_ptr(), &raw mut room),
        );
        t.note("  length", room);
    }
    t.call("set null", sys!(SYS_setsockopt, fd, 1, 9, 0, 4));
    t.call("set null, unknown", sys!(SYS_setsockopt, fd, 1, 1000, 0, 4));
    let mut room = 4_i32;
    t.call("get null", sys!(SYS_getsockopt, fd, 1, 9, 0, &raw mut room));
    t.call("get null length", sys!(SYS_getsockopt, fd, 1, 9, 0, 0));
    Ok(())
}

fn peer_credentials(t: &mut Transcript) -> Outcome {
    let show = |t: &mut Transcript, what: &str, fd: i32| {
        let (mut value, mut length) = ([-9_i32; 3], 12_i32);
        let result = sys!(SYS_getsockopt, fd, 1, 17, value.as_mut_ptr(), &raw mut length);
        let pid = match value[0] {
            0 => "none",
            own if own == std::process::id() as i32 => "own",
            _ => "other",
        };
        t.note(what, (result, length, pid, value[1], value[2]));
    };
    let fd = socket(libc::SOCK_STREAM)?;
    show(t, "unconnected stream", fd);
    show(t, "unconnected datagram", socket(libc::SOCK_DGRAM)?);
    let (a, b) = pair(libc::SOCK_STREAM)?;
    show(t, "pair", a);
    let (d, _e) = pair(libc::SOCK_DGRAM)?;
    show(t, "pair of datagrams", d);
    bind(fd, b"\0peercred");
    show(t, "bound", fd);
    sys!(SYS_listen, fd, 5);
    show(t, "listening", fd);
    let child = fork(|| {
        // SAFETY: numbers only.
        unsafe { libc::setresgid(77, 78, 79) };
        // SAFETY: numbers only.
        unsafe { libc::setresuid(66, 67, 68) };
        let client = socket(libc::SOCK_STREAM).unwrap_or(-1);
        connect(client, b"\0peercred");
        sleep_ms(300);
        0
    })?;
    let accepted = sys!(SYS_accept, fd, 0, 0) as i32;
    show(t, "accepted from a child", accepted);
    wait(child)?;
    show(t, "after the child ended", accepted);
    let (mut groups, mut length) = ([0_u32; 8], 32_i32);
    t.call(
        "PEERGROUPS unconnected",
        sys!(SYS_getsockopt, socket(libc::SOCK_STREAM)?, 1, 59, groups.as_mut_ptr(), &raw mut length),
    );
    // SAFETY: an array of three.
    unsafe { libc::setgroups(3, [10, 20, 30].as_ptr()) };
    let (g, _h) = pair(libc::SOCK_STREAM)?;
    t.call("PEERGROUPS", sys!(SYS_getsockopt, g, 1, 59, groups.as_mut_ptr(), &raw mut length));
    t.note("  are", (length, &groups[..3]));
    length = 8;
    t.call("PEERGROUPS 8", sys!(SYS_getsockopt, g, 1, 59, groups.as_mut_ptr(), &raw mut length));
    t.note("  needs", length);
    let (mut pidfd, mut length) = (-1_i32, 4_i32);
    t.call("PEERPIDFD", sys!(SYS_getsockopt, b, 1, 77, &raw mut pidfd, &raw mut length));
    t.call("  F_GETFD", sys!(SYS_fcntl, pidfd, 1));
    t.call(
        "PEERPIDFD unconnected",
        sys!(SYS_getsockopt, socket(libc::SOCK_STREAM)?, 1, 77, &raw mut pidfd, &raw mut length),
    );
    t.call(
        "PEERNAME unconnected",
        sys!(SYS_getsockopt, socket(libc::SOCK_STREAM)?, 1, 28, groups.as_mut_ptr(), &raw mut length),
    );
    Ok(())
}

fn filters(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let attach = |fd: i32, text: &[(u16, u8, u8, u32)], count: u16| {
        let program: Vec<libc::sock_filter> = text
            .iter()
            .map(|(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
            .collect();
        let head = libc::sock_fprog { len: count, filter: program.as_ptr().cast_mut() };
        sys!(SYS_setsockopt, fd, 1, 26, &raw const head, size_of::<libc::sock_fprog>())
    };
    let end = (6, 0, 0, u32::MAX);
    t.call("detach none", set_option(a, 27, 0));
    t.call("empty", attach(a, &[end], 0));
    t.call("too long", attach(a, &[end], 5000));
    t.call("no return", attach(a, &[(0, 0, 0, 0)], 1));
    t.call("bad code", attach(a, &[(0xffff, 0, 0, 0), end], 2));
    t.call("jump out", attach(a, &[(5, 0, 0, 5), end], 2));
    t.call("divide by 0", attach(a, &[(0x34, 0, 0, 0), end], 2));
    t.call("shift 32", attach(a, &[(0x64, 0, 0, 32), end], 2));
    t.call("memory 16", attach(a, &[(0x60, 0, 0, 16), end], 2));
    t.call("memory not written", attach(a, &[(0x60, 0, 0, 3), end], 2));
    t.call("ancillary 64", attach(a, &[(0x20, 0, 0, -0x1000_i32 as u32 + 64), end], 2));
    // Only messages whose first byte is x, and of those four bytes.
    let filter = [(0x30, 0, 0, 0), (0x15, 0, 1, u32::from(b'x')), (6, 0, 0, 4), (6, 0, 0, 0)];
    t.call("attach", attach(a, &filter, 4));
    for message in [b"x123456".as_slice(), b"y123456", b"x", b""] {
        t.call("send", send(b, message, 0));
        let mut buffer = [0_u8; 16];
        t.call("recv", sys!(SYS_recvfrom, a, buffer.as_mut_ptr(), 16, libc::MSG_DONTWAIT, 0, 0));
    }
    let mut length = 0_i32;
    t.call("GET_FILTER", sys!(SYS_getsockopt, a, 1, 26, 0, &raw mut length));
    t.note("instructions", length);
    t.call("lock", set_option(a, 44, 1));
    t.call("unlock", set_option(a, 44, 0));
    t.call("detach locked", set_option(a, 27, 0));
    t.call("attach locked", attach(a, &[end], 1));
    Ok(())
}

fn message_headers(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let byte = [b'm'; 8];
    let piece = [byte.as_ptr() as u64, 2];
    // msg_name, namelen, iov, iovlen, control, controllen, flags.
    let header = |name: u64, length: u64, iov: u64, pieces: u64, control: u64, room: u64| {
        [name, length, iov, pieces, control, room, 0]
    };
    let iov = piece.as_ptr() as u64;
    let cases = [
        ("plain", header(0, 0, iov, 1, 0, 0)),
        ("no pieces", header(0, 0, 0, 0, 0, 0)),
        ("null pieces", header(0, 0, 0, 1, 0, 0)),
        ("1025 pieces", header(0, 0, iov, 1025, 0, 0)),
        ("name length -1", header(iov, 0xffff_ffff, iov, 1, 0, 0)),
        ("no name, length -1", header(0, 0xffff_ffff, iov, 1, 0, 0)),
        ("name length 4", header(iov, 4, iov, 1, 0, 0)),
        ("control null", header(0, 0, iov, 1, 0, 20)),
        ("control bad", header(0, 0, iov, 1, 8, 20)),
        ("control huge", header(0, 0, iov, 1, iov, 0x8000_0000)),
        ("control large", header(0, 0, iov, 1, 8, 200_000)),
    ];
    for (name, head) in cases {
        t.call(&format!("sendmsg {name}"), sys!(SYS_sendmsg, a, head.as_ptr(), libc::MSG_DONTWAIT));
    }
    let mut into = [0_u8; 64];
    let room = [into.as_mut_ptr() as u64, 64];
    let mut head = header(into.as_ptr() as u64, 64, room.as_ptr() as u64, 1, 0, 0);
    head[6] = 0xdead;
    t.call("recvmsg", sys!(SYS_recvmsg, b, head.as_mut_ptr(), 0));
    t.note("  namelen, controllen, flags", (head[1], head[5], head[6]));
    t.call("recvmsg empty", sys!(SYS_recvmsg, b, head.as_mut_ptr(), libc::MSG_DONTWAIT));
    t.call("recvmsg null", sys!(SYS_recvmsg, b, 0, 0));
    send(a, b"0123456789", 0);
    let mut head = header(0, 77, room.as_ptr() as u64, 1, 0, 0);
    t.call("recvmsg cloexec", sys!(SYS_recvmsg, b, head.as_mut_ptr(), libc::MSG_CMSG_CLOEXEC));
    t.note("  namelen, controllen, flags", (head[1], head[5], head[6]));
    send(a, b"0123456789", 0);
    let bad = [8_u64, 4];
    let mut head = header(0, 0, bad.as_ptr() as u64, 1, 0, 0);
    t.call("recvmsg into nowhere", sys!(SYS_recvmsg, b, head.as_mut_ptr(), 0));
    t.call("recv the same", sys!(SYS_recvfrom, b, into.as_mut_ptr(), 64, 0, 0, 0));
    t.call("sendto from nowhere", sys!(SYS_sendto, a, 8, 10, 0, 0, 0));
    t.call("recvfrom into nowhere, nothing there", sys!(SYS_recvfrom, b, 8, 10, libc::MSG_DONTWAIT, 0, 0));
    t.call("send kernel", sys!(SYS_sendto, a, usize::MAX - 100, 10, 0, 0, 0));
    t.call("send nothing", send(a, b"", 0));
    t.call("recv nothing", sys!(SYS_recvfrom, b, into.as_mut_ptr(), 0, libc::MSG_DONTWAIT, 0, 0));
    t.call("read nothing", sys!(SYS_read, b, into.as_mut_ptr(), 0));
    Ok(())
}

fn control_messages(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let one = 1_i32.to_ne_bytes();
    let pid = (std::process::id() as i32).to_ne_bytes();
    let creds = |pid: [u8; 4], uid: i32, gid: i32| [pid, uid.to_ne_bytes(), gid.to_ne_bytes()].concat();
    let fds: Vec<u8> = (0..254).flat_map(|_| 1_i32.to_ne_bytes()).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("rights", cmsg(1, 1, &one)),
        ("rights, none", cmsg(1, 1, &[])),
        ("rights, three bytes", cmsg(1, 1, &[0, 0, 0])),
        ("rights, seven bytes", cmsg(1, 1, &[1, 0, 0, 0, 0, 0, 0])),
        ("rights, closed", cmsg(1, 1, &99_i32.to_ne_bytes())),
        ("rights, negative", cmsg(1, 1, &(-1_i32).to_ne_bytes())),
        ("rights, 253", cmsg(1, 1, &fds[..253 * 4])),
        ("rights, 254", cmsg(1, 1, &fds)),
        ("rights twice", [cmsg(1, 1, &one), cmsg(1, 1, &one)].concat()),
        ("rights 200 and 100", [cmsg(1, 1, &fds[..800]), cmsg(1, 1, &fds[..400])].concat()),
        ("credentials", cmsg(1, 2, &creds(pid, 0, 0))),
        ("credentials of another", cmsg(1, 2, &creds(1_i32.to_ne_bytes(), 5, 6))),
        ("credentials of nobody", cmsg(1, 2, &creds(4_000_000_i32.to_ne_bytes(), 0, 0))),
        ("credentials, user -1", cmsg(1, 2, &creds(pid, -1, 0))),
        ("credentials, short", cmsg(1, 2, &[0; 8])),
        ("credentials, long", cmsg(1, 2, &[0; 16])),
        ("unknown type", cmsg(1, 77, &one)),
        ("pidfd", cmsg(1, 4, &one)),
        ("other level", cmsg(6, 1, &one)),
        ("level 0", cmsg(0, 8, &one)),
        ("length 0", raw_cmsg(0, 1, 1, &one)),
        ("length 15", raw_cmsg(15, 1, 1, &one)),
        ("length 16", raw_cmsg(16, 1, 1, &one)),
        ("length too long", raw_cmsg(25, 1, 1, &one)),
        ("length huge", raw_cmsg(u64::MAX, 1, 1, &one)),
        ("length wraps", raw_cmsg(u64::MAX - 20, 1, 1, &one)),
        ("too short for a header", vec![1; 12]),
        ("header and a rest", [cmsg(1, 1, &one), vec![9; 10]].concat()),
        ("second is bad", [cmsg(1, 1, &one), raw_cmsg(3, 1, 1, &one)].concat()),
    ];
    for (name, control) in cases {
        let sent = t.call(&format!("{name}: send"), send_control(a, b"x", &control, 0));
        if sent == 1 {
            let got = receive_control(b, 10, 4096, libc::MSG_DONTWAIT);
            t.note("  received", got.map(|got| (got.bytes.len(), got.flags, got.summary())));
        }
    }
    t.call("rights with no bytes", send_control(a, b"", &cmsg(1, 1, &one), 0));
    t.note("  received", receive_control(b, 10, 100, libc::MSG_DONTWAIT).map(|got| got.bytes.len()));
    Ok(())
}

fn control_truncation(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let three: Vec<u8> = [0, 1, 2].iter().flat_map(|fd: &i32| fd.to_ne_bytes()).collect();
    for room in [0, 1, 8, 15, 16, 17, 19, 20, 21, 23, 24, 27, 28, 29, 31, 32, 33, 40] {
        send_control(a, b"abc", &cmsg(1, 1, &three), 0);
        let got = receive_control(b, 10, room, 0);
        t.note(&format!("three files in {room}"), got.map(|got| (got.used, got.flags, got.summary())));
    }
    set_option(b, 16, 1);
    for room in [0, 8, 15, 16, 17, 24, 27, 28, 31, 32, 40, 48, 52, 56, 60, 64] {
        send_control(a, b"abc", &cmsg(1, 1, &three), 0);
        let got = receive_control(b, 10, room, 0);
        t.note(&format!("with credentials in {room}"), got.map(|got| (got.used, got.flags, got.summary())));
    }
    let limit = libc::rlimit { rlim_cur: 8, rlim_max: 1024 };
    // SAFETY: one rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    sys!(SYS_close_range, 5, 199, 0);
    for _ in 0..3 {
        send_control(a, b"abc", &cmsg(1, 1, &three), 0);
        let got = receive_control(b, 10, 100, 0);
        t.note("few numbers left", got.map(|got| (got.used, got.flags, got.summary())));
    }
    send_control(a, b"abc", &cmsg(1, 1, &three), 0);
    t.call("read loses them", sys!(SYS_read, b, [0_u8; 8].as_mut_ptr(), 8));
    Ok(())
}

fn many_messages(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let words = [b"one".as_slice(), b"three", b"", b"seventeen"];
    let pieces: Vec<[u64; 2]> = words.iter().map(|word| [word.as_ptr() as u64, word.len() as u64]).collect();
    let mut heads: Vec<[u64; 8]> =
        pieces.iter().map(|piece| [0, 0, piece.as_ptr() as u64, 1, 0, 0, 0, 0x7777]).collect();
    t.call("sendmmsg", sys!(SYS_sendmmsg, a, heads.as_mut_ptr(), 4, 0));
    t.note("lengths", heads.iter().map(|head| head[7] as u32).collect::<Vec<_>>());
    let mut buffers = [[0_u8; 6]; 6];
    let rooms: Vec<[u64; 2]> = buffers.iter_mut().map(|one| [one.as_mut_ptr() as u64, 6]).collect();
    let mut into: Vec<[u64; 8]> =
        rooms.iter().map(|room| [0, 0, room.as_ptr() as u64, 1, 0, 0, 0, 0x7777]).collect();
    t.call("recvmmsg of 6", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 6, libc::MSG_DONTWAIT, 0));
    t.note("lengths and flags", into.iter().map(|head| (head[7] as u32, head[6] as u32)).collect::<Vec<_>>());
    t.call("recvmmsg of nothing", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 6, libc::MSG_DONTWAIT, 0));
    sys!(SYS_sendmmsg, a, heads.as_mut_ptr(), 2, 0);
    t.call("recvmmsg WAITFORONE", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 6, 0x10000, 0));
    let mut time = [0_i64, 30_000_000];
    sys!(SYS_sendmmsg, a, heads.as_mut_ptr(), 2, 0);
    t.call("recvmmsg 2 with a timeout", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 2, 0, time.as_mut_ptr()));
    t.note("time left", time[0] == 0 && time[1] > 0 && time[1] < 30_000_000);
    time = [0, 1_000_000_000];
    t.call("bad timeout", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 2, 0, time.as_mut_ptr()));
    t.call("timeout nowhere", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 2, 0, 8));
    t.call("sendmmsg 0", sys!(SYS_sendmmsg, a, heads.as_mut_ptr(), 0, 0));
    t.call("recvmmsg 0", sys!(SYS_recvmmsg, b, into.as_mut_ptr(), 0, 0, 0));
    heads[1][2] = 8;
    t.call("sendmmsg, second bad", sys!(SYS_sendmmsg, a, heads.as_mut_ptr(), 4, 0));
    heads[0][2] = 8;
    t.call("sendmmsg, first bad", sys!(SYS_sendmmsg, a, heads.as_mut_ptr(), 4, 0));
    t.call("sendmmsg nowhere", sys!(SYS_sendmmsg, a, 8, 4, 0));
    t.call("recvmmsg nowhere", sys!(SYS_recvmmsg, b, 8, 4, 0, 0));
    Ok(())
}

fn file_names(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let name = std::fs::read_link(format!("/proc/self/fd/{a}")).map_err(|e| e.to_string())?;
    let text = name.to_string_lossy().into_owned();
    let inode = |fd: i32| {
        // SAFETY: plain data, filled by fstat.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            libc::fstat(fd, &mut status);
            (status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_blksize)
        }
    };
    t.note("name", text == format!("socket:[{}]", inode(a).0));
    t.note("numbers differ", inode(a).0 != inode(b).0);
    t.note("mode and so on", (inode(a).1, inode(a).2, inode(a).3, inode(a).4));
    // SAFETY: plain data, filled by fstatfs.
    let kind = unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        libc::fstatfs(a, &mut status);
        status.f_type
    };
    t.note("file system", format!("{kind:x}"));
    // SAFETY: valid strings.
    t.call("open it", unsafe { libc::open(c(&format!("/proc/self/fd/{a}")).as_ptr(), libc::O_RDWR) });
    let path = format!("{}/s", folder("names")?);
    let bound = socket(libc::SOCK_STREAM)?;
    t.call("bind", bind(bound, path.as_bytes()));
    // SAFETY: valid strings.
    unsafe {
        t.call("open a bound name", libc::open(c(&path).as_ptr(), libc::O_RDWR));
        t.works("open a place", libc::open(c(&path).as_ptr(), libc::O_PATH));
        let mut status: libc::stat = std::mem::zeroed();
        libc::stat(c(&path).as_ptr(), &mut status);
        t.note("mode", format!("{:o}", status.st_mode));
        t.call("fchmod", libc::fchmod(a, 0o600));
    }
    Ok(())
}

fn fcntl_and_ioctl(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    t.call("F_GETFL", sys!(SYS_fcntl, a, 3));
    t.call("F_SETFL nonblock", sys!(SYS_fcntl, a, 4, 0o4000));
    t.call("recv", sys!(SYS_recvfrom, a, [0_u8].as_mut_ptr(), 1, 0, 0, 0));
    let (zero, one) = (0_i32, 1_i32);
    t.call("FIONBIO off", sys!(SYS_ioctl, a, 0x5421, &raw const zero));
    t.call("F_GETFL", sys!(SYS_fcntl, a, 3));
    t.call("FIONBIO on", sys!(SYS_ioctl, a, 0x5421, &raw const one));
    t.call("F_GETFL", sys!(SYS_fcntl, a, 3));
    send(b, b"12345", 0);
    send(b, b"678", 0);
    let mut count = -1_i32;
    for (name, command) in [
        ("FIONREAD", 0x541b),
        ("SIOCOUTQ", 0x5411),
        ("FIOGETOWN", 0x8903),
        ("SIOCGPGRP", 0x8904),
        ("SIOCATMARK", 0x8905),
        ("TCGETS", 0x5401),
        ("unknown", 0x1234),
    ] {
        t.call(name, sys!(SYS_ioctl, a, command, &raw mut count));
        t.note("  value", count);
        t.call(&format!("{name} nowhere"), sys!(SYS_ioctl, a, command, 8));
    }
    t.call("SIOCOUTQ of the sender", sys!(SYS_ioctl, b, 0x5411, &raw mut count));
    t.note("  value", count);
    let owner = std::process::id() as i32;
    t.call("FIOSETOWN", sys!(SYS_ioctl, a, 0x8901, &raw const owner));
    sys!(SYS_ioctl, a, 0x8903, &raw mut count);
    t.note("owner", count == owner);
    let listener = socket(libc::SOCK_STREAM)?;
    bind(listener, b"\0ioctl");
    sys!(SYS_listen, listener, 1);
    t.call("FIONREAD of a listener", sys!(SYS_ioctl, listener, 0x541b, &raw mut count));
    let (d, e) = pair(libc::SOCK_DGRAM)?;
    send(d, b"first", 0);
    send(d, b"second one", 0);
    t.call("FIONREAD of datagrams", sys!(SYS_ioctl, e, 0x541b, &raw mut count));
    t.note("  value", count);
    Ok(())
}

fn bind_rules(t: &mut Transcript) -> Outcome {
    let dir = folder("bind")?;
    std::env::set_current_dir(&dir).map_err(|e| e.to_string())?;
    let path = |name: &str| format!("{dir}/{name}").into_bytes();
    let fd = socket(libc::SOCK_STREAM)?;
    t.call("bind", bind(fd, &path("a")));
    t.call("bind again", bind(fd, &path("b")));
    t.call("bind again, taken", bind(fd, &path("a")));
    t.note("b is there", std::path::Path::new("b").exists());
    t.call("another, taken", bind(socket(libc::SOCK_STREAM)?, &path("a")));
    t.call("a file is there", std::fs::write("file", b"").map_or(-1, |()| 0));
    t.call("bind on a file", bind(socket(libc::SOCK_STREAM)?, &path("file")));
    t.call("bind in no folder", bind(socket(libc::SOCK_STREAM)?, &path("no/a")));
    t.call("bind below a file", bind(socket(libc::SOCK_STREAM)?, &path("file/a")));
    t.call("relative", bind(socket(libc::SOCK_STREAM)?, b"rel"));
    t.call("dot", bind(socket(libc::SOCK_STREAM)?, b"."));
    t.call("slash at the end", bind(socket(libc::SOCK_STREAM)?, b"c/"));
    t.call("through a link", std::os::unix::fs::symlink("target", "link").map_or(-1, |()| 0));
    t.call("bind on a dangling link", bind(socket(libc::SOCK_STREAM)?, b"link"));
    let long = vec![b'n'; 108];
    t.call("108 bytes", bind(socket(libc::SOCK_STREAM)?, &long));
    t.call("109 bytes", bind(socket(libc::SOCK_STREAM)?, &[b'n'; 109]));
    t.note("it has 108", std::path::Path::new(std::str::from_utf8(&long).unwrap_or_default()).exists());
    t.note("its name", name_of(fd).map(|name| name.ends_with(b"/a\0")));
    let terminated = socket(libc::SOCK_STREAM)?;
    t.call("with NULs", bind(terminated, b"nul\0garbage"));
    t.note("its name", name_of(terminated));
    t.call("bind after unlink", std::fs::remove_file("a").map_or(-1, |()| 0));
    t.call("bind the name again", bind(socket(libc::SOCK_STREAM)?, &path("a")));
    t.note("the first still has it", name_of(fd).map(|name| name.ends_with(b"/a\0")));
    // SAFETY: numbers only.
    unsafe { libc::umask(0o077) };
    t.call("with a umask", bind(socket(libc::SOCK_DGRAM)?, b"masked"));
    let mode = std::fs::metadata("masked").map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
    t.note("mode", mode.map(|mode| format!("{mode:o}")).ok());
    let wrong = [2_u8, 0, b'x', 0];
    t.call("family 2", sys!(SYS_bind, socket(libc::SOCK_STREAM)?, wrong.as_ptr(), 4));
    Ok(())
}

fn abstract_names(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    t.call("bind", bind(fd, b"\0name-1"));
    t.note("its name", name_of(fd));
    t.call("the same name", bind(socket(libc::SOCK_STREAM)?, b"\0name-1"));
    t.call("for datagrams", bind(socket(libc::SOCK_DGRAM)?, b"\0name-1"));
    t.call("for packets", bind(socket(libc::SOCK_SEQPACKET)?, b"\0name-1"));
    t.call("longer by a NUL", bind(socket(libc::SOCK_STREAM)?, b"\0name-1\0"));
    t.call("just a NUL", bind(socket(libc::SOCK_STREAM)?, b"\0"));
    t.call("107 bytes", bind(socket(libc::SOCK_STREAM)?, &[0; 108]));
    t.call("108 bytes", bind(socket(libc::SOCK_STREAM)?, &[0; 109]));
    sys!(SYS_close, fd);
    t.call("after it was closed", bind(socket(libc::SOCK_STREAM)?, b"\0name-1"));
    let own = socket(libc::SOCK_STREAM)?;
    t.call("autobind", bind(own, b""));
    let name = name_of(own).unwrap_or_default();
    let hex = name.iter().skip(1).all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    t.note("its form", (name.len(), name.first().copied(), hex));
    t.call("autobind again", bind(own, b""));
    t.note("the same", name_of(own).ok() == Some(name));
    t.call("bind after autobind", bind(own, b"\0other"));
    Ok(())
}

fn connect_stream(t: &mut Transcript) -> Outcome {
    let dir = folder("connect")?;
    let path = format!("{dir}/s");
    let listener = socket(libc::SOCK_STREAM)?;
    let client = socket(libc::SOCK_STREAM)?;
    t.call("nothing there", connect(client, path.as_bytes()));
    t.call("no abstract", connect(client, b"\0nobody-there"));
    bind(listener, path.as_bytes());
    t.call("not listening", connect(client, path.as_bytes()));
    sys!(SYS_listen, listener, 5);
    t.call("datagram to a stream", connect(socket(libc::SOCK_DGRAM)?, path.as_bytes()));
    t.call("packets to a stream", connect(socket(libc::SOCK_SEQPACKET)?, path.as_bytes()));
    t.call("a folder", connect(client, dir.as_bytes()));
    std::fs::write(format!("{dir}/file"), b"").map_err(|e| e.to_string())?;
    t.call("a file", connect(client, format!("{dir}/file").as_bytes()));
    t.call("empty name", connect(client, b""));
    let wrong = [2_u8, 0, b'x', 0];
    t.call("family 2", sys!(SYS_connect, client, wrong.as_ptr(), 4));
    t.call("family 0", sys!(SYS_connect, client, [0_u8; 16].as_ptr(), 16));
    t.call("a listener connects", connect(listener, path.as_bytes()));
    std::os::unix::fs::symlink(&path, format!("{dir}/link")).map_err(|e| e.to_string())?;
    t.call("through a link", connect(client, format!("{dir}/link").as_bytes()));
    t.call("again", connect(client, path.as_bytes()));
    t.call("again, elsewhere", connect(client, b"\0nobody-there"));
    t.note("the client's name", name_of(client));
    t.note("its peer", peer_of(client).map(|name| name.ends_with(b"/s\0")));
    let accepted = sys!(SYS_accept, listener, 0, 0) as i32;
    t.note("accepted's name", name_of(accepted).map(|name| name.ends_with(b"/s\0")));
    t.note("its peer", peer_of(accepted));
    t.call("bind the client", bind(client, b"\0client-late"));
    t.note("its peer now", peer_of(accepted));
    t.call("accepted listens", sys!(SYS_listen, accepted, 1));
    t.call("client listens", sys!(SYS_listen, client, 1));
    sys!(SYS_close, listener);
    t.call("listener closed", connect(socket(libc::SOCK_STREAM)?, path.as_bytes()));
    Ok(())
}

fn connect_datagram(t: &mut Transcript) -> Outcome {
    let (a, b, other) = (socket(libc::SOCK_DGRAM)?, socket(libc::SOCK_DGRAM)?, socket(libc::SOCK_DGRAM)?);
    bind(a, b"\0dgram-a");
    bind(b, b"\0dgram-b");
    t.call("send unconnected", send(a, b"x", 0));
    t.call("connect", connect(a, b"\0dgram-b"));
    t.call("send", send(a, b"from a", 0));
    t.call("connect again", connect(a, b"\0dgram-b"));
    t.call("to itself", connect(a, b"\0dgram-a"));
    t.call("back to b", connect(a, b"\0dgram-b"));
    t.call("b to a", connect(b, b"\0dgram-a"));
    t.call("other to a, which is taken", connect(other, b"\0dgram-a"));
    t.call("other sends to a", send_to(other, b"hi", b"\0dgram-a"));
    t.call("other to nobody", connect(other, b"\0dgram-nobody"));
    t.call("disconnect a", sys!(SYS_connect, a, [0_u8; 16].as_ptr(), 16));
    t.call("disconnect a, short", sys!(SYS_connect, a, [0_u8; 16].as_ptr(), 2));
    t.call("disconnect a, shorter", sys!(SYS_connect, a, [0_u8; 16].as_ptr(), 1));
    t.call("a sends", send(a, b"x", 0));
    t.call("b's error", send(b, b"x", 0));
    t.call("b again", send(b, b"x", 0));
    t.call("other to a now", connect(other, b"\0dgram-a"));
    sys!(SYS_close, a);
    t.call("other sends to closed a", send(other, b"x", 0));
    t.call("other again", send(other, b"x", 0));
    t.note("other's peer", peer_of(other));
    Ok(())
}

fn connect_permission(t: &mut Transcript) -> Outcome {
    let dir = folder("perm")?;
    let path = format!("{dir}/s");
    let listener = socket(libc::SOCK_STREAM)?;
    bind(listener, path.as_bytes());
    sys!(SYS_listen, listener, 50);
    // SAFETY: valid strings and numbers.
    unsafe {
        libc::chmod(c(&dir).as_ptr(), 0o755);
        for mode in [0o777, 0o666, 0o222, 0o555, 0o444, 0o200, 0o020, 0o002, 0o000] {
            libc::chmod(c(&path).as_ptr(), mode);
            let code = in_child(|| {
                libc::setgid(1000);
                libc::setuid(1000);
                let fd = socket(libc::SOCK_STREAM).unwrap_or(-1);
                if connect(fd, path.as_bytes()) == 0 { 0 } else { crate::sys::errno() }
            })?;
            t.note(&format!("another user, mode {mode:o}"), code);
        }
        libc::chmod(c(&path).as_ptr(), 0o777);
        libc::chmod(c(&dir).as_ptr(), 0o600);
        let code = in_child(|| {
            libc::setuid(1000);
            let fd = socket(libc::SOCK_STREAM).unwrap_or(-1);
            if connect(fd, path.as_bytes()) == 0 { 0 } else { crate::sys::errno() }
        })?;
        t.note("a folder that may not be searched", code);
        let code = in_child(|| {
            libc::setuid(1000);
            let fd = socket(libc::SOCK_STREAM).unwrap_or(-1);
            if bind(fd, format!("{dir}/t").as_bytes()) == 0 { 0 } else { crate::sys::errno() }
        })?;
        t.note("bind there", code);
        libc::chmod(c(&path).as_ptr(), 0);
    }
    t.call("root", connect(socket(libc::SOCK_STREAM)?, path.as_bytes()));
    Ok(())
}

fn listen_and_accept(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    t.call("listen unbound", sys!(SYS_listen, fd, 5));
    t.call("accept unbound", sys!(SYS_accept, fd, 0, 0));
    t.call("datagrams listen", sys!(SYS_listen, socket(libc::SOCK_DGRAM)?, 5));
    t.call("datagrams accept", sys!(SYS_accept, socket(libc::SOCK_DGRAM)?, 0, 0));
    let (a, _b) = pair(libc::SOCK_STREAM)?;
    t.call("a pair listens", sys!(SYS_listen, a, 5));
    bind(a, b"\0pair-bound");
    t.call("a bound pair listens", sys!(SYS_listen, a, 5));
    t.call("a pair accepts", sys!(SYS_accept, a, 0, 0));
    bind(fd, b"\0accept");
    t.call("accept before listening", sys!(SYS_accept, fd, 0, 0));
    for backlog in [5, 0, -1, i32::MAX] {
        t.call(&format!("listen {backlog}"), sys!(SYS_listen, fd, backlog));
    }
    sys!(SYS_fcntl, fd, 4, 0o4000);
    t.call("accept nothing", sys!(SYS_accept, fd, 0, 0));
    t.call("accept4 flags", sys!(SYS_accept4, fd, 0, 0, 1));
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0accept");
    let accepted = t.works("accept4 nonblock", sys!(SYS_accept4, fd, 0, 0, 0o2004000));
    t.call("F_GETFL", sys!(SYS_fcntl, accepted, 3));
    t.call("F_GETFD", sys!(SYS_fcntl, accepted, 1));
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0accept");
    let accepted = t.works("accept is blocking", sys!(SYS_accept, fd, 0, 0));
    t.call("F_GETFL", sys!(SYS_fcntl, accepted, 3));
    let client = socket(libc::SOCK_STREAM)?;
    bind(client, b"\0client");
    connect(client, b"\0accept");
    let (mut name, mut length) = ([0_u8; 20], 20_i32);
    t.works("with an address", sys!(SYS_accept, fd, name.as_mut_ptr(), &raw mut length));
    t.note("address", (length, &name[..9]));
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0accept");
    t.call("address without length", sys!(SYS_accept, fd, name.as_mut_ptr(), 0));
    t.call("the connection is gone", sys!(SYS_accept, fd, 0, 0));
    t.call("and closed", send(client, b"x", libc::MSG_NOSIGNAL));
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0accept");
    t.call("send before accept", send(client, b"early", 0));
    sys!(SYS_close, client);
    let accepted = t.works("accept a closed one", sys!(SYS_accept, fd, 0, 0)) as i32;
    t.note("its bytes", recv(accepted, 10, 0));
    t.note("then", recv(accepted, 10, 0));
    t.call("recv on the listener", sys!(SYS_recvfrom, fd, name.as_mut_ptr(), 1, 0, 0, 0));
    t.call("send on the listener", send(fd, b"x", libc::MSG_NOSIGNAL));
    t.call("shutdown the listener", sys!(SYS_shutdown, fd, 0));
    t.call("accept", sys!(SYS_accept, fd, 0, 0));
    t.call("connect to it", connect(socket(libc::SOCK_STREAM)?, b"\0accept"));
    Ok(())
}

fn backlog(t: &mut Transcript) -> Outcome {
    for (kind, limit) in [(1, 0), (1, 1), (1, 3), (5, 2), (1, -1)] {
        let fd = socket(kind)?;
        let name = format!("\0backlog-{kind}-{limit}");
        bind(fd, name.as_bytes());
        sys!(SYS_listen, fd, limit);
        let mut count = 0;
        let mut clients = Vec::new();
        while count < 8 {
            let client = socket(kind | libc::SOCK_NONBLOCK)?;
            if connect(client, name.as_bytes()) != 0 {
                t.note("refused with", crate::sys::errno());
                break;
            }
            clients.push(client);
            count += 1;
        }
        t.note(&format!("kind {kind}, backlog {limit} takes"), count);
        clients.into_iter().for_each(crate::sys::close);
        let mut accepted = 0;
        sys!(SYS_fcntl, fd, 4, 0o4000);
        while sys!(SYS_accept, fd, 0, 0) >= 0 {
            accepted += 1;
        }
        t.note("accepted after they closed", accepted);
    }
    let fd = socket(libc::SOCK_STREAM)?;
    bind(fd, b"\0pending");
    sys!(SYS_listen, fd, 5);
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0pending");
    send(client, b"unread", 0);
    sys!(SYS_close, fd);
    t.note("recv after the listener went", recv(client, 10, 0));
    t.note("recv again", recv(client, 10, 0));
    t.call("send", send(client, b"x", libc::MSG_NOSIGNAL));
    Ok(())
}

fn stream_states(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_STREAM)?;
    t.note("recv unconnected", recv(fd, 10, 0));
    t.note("read unconnected", sys!(SYS_read, fd, [0_u8].as_mut_ptr(), 1));
    t.call("send unconnected", send(fd, b"x", libc::MSG_NOSIGNAL));
    t.call("write unconnected", sys!(SYS_write, fd, b"x".as_ptr(), 1));
    t.call("sendto unconnected", send_to(fd, b"x", b"\0nobody"));
    let (a, b) = pair(libc::SOCK_STREAM)?;
    t.call("sendto connected", send_to(a, b"x", b"\0nobody"));
    t.call("MSG_OOB nothing", send(a, b"", libc::MSG_OOB));
    t.call("connect a pair", connect(a, b"\0nobody"));
    t.note("recv nothing", recv(a, 10, libc::MSG_DONTWAIT));
    t.note("MSG_ERRQUEUE", recv(a, 10, libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE));
    t.call("send", send(a, b"hello", 0));
    t.call("send", send(a, b" world", 0));
    t.note("recv glues", recv(b, 20, 0));
    send(a, b"abcdef", 0);
    t.note("recv a part", recv(b, 2, 0));
    t.note("with TRUNC", recv(b, 2, libc::MSG_TRUNC));
    t.note("the rest", recv(b, 20, libc::MSG_DONTWAIT));
    t.note("names", (name_of(a), peer_of(a)));
    let child = fork(|| {
        sleep_ms(50);
        send(a, b"12", 0);
        sleep_ms(50);
        send(a, b"345", 0);
        0
    })?;
    t.note("WAITALL", recv(b, 5, libc::MSG_WAITALL));
    wait(child)?;
    send(a, b"12", 0);
    t.note("WAITALL without waiting", recv(b, 5, libc::MSG_WAITALL | libc::MSG_DONTWAIT));
    set_option(b, 18, 4);
    send(a, b"12", 0);
    t.note("RCVLOWAT without waiting", recv(b, 5, libc::MSG_DONTWAIT));
    Ok(())
}

fn stream_peek(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(a, b"abc", 0);
    send(a, b"defg", 0);
    t.note("peek 2", recv(b, 2, libc::MSG_PEEK));
    t.note("peek all", recv(b, 20, libc::MSG_PEEK));
    t.note(
        "peek all WAITALL nonblocking",
        recv(b, 20, libc::MSG_PEEK | libc::MSG_WAITALL | libc::MSG_DONTWAIT),
    );
    t.call("PEEK_OFF 0", set_option(b, 42, 0));
    for size in [2, 3, 10] {
        t.note(&format!("peek {size}"), recv(b, size, libc::MSG_PEEK | libc::MSG_DONTWAIT));
        note_option(t, "  offset", b, 42);
    }
    t.note("peek at the end", recv(b, 5, libc::MSG_PEEK | libc::MSG_DONTWAIT));
    send(a, b"hij", 0);
    t.note("peek what came", recv(b, 10, libc::MSG_PEEK | libc::MSG_DONTWAIT));
    note_option(t, "offset", b, 42);
    t.note("read 4", recv(b, 4, 0));
    note_option(t, "offset", b, 42);
    t.call("PEEK_OFF 1", set_option(b, 42, 1));
    t.note("peek", recv(b, 2, libc::MSG_PEEK));
    t.note("read 5", recv(b, 5, 0));
    note_option(t, "offset", b, 42);
    t.call("PEEK_OFF -1", set_option(b, 42, -1));
    t.note("peek", recv(b, 20, libc::MSG_PEEK | libc::MSG_DONTWAIT));
    t.note("read", recv(b, 20, 0));
    t.call("PEEK_OFF 100", set_option(b, 42, 100));
    send(a, b"x", 0);
    t.note("peek beyond", recv(b, 20, libc::MSG_PEEK | libc::MSG_DONTWAIT));
    t.note("read", recv(b, 20, libc::MSG_DONTWAIT));
    note_option(t, "offset", b, 42);
    Ok(())
}

fn at_mark(fd: i32) -> (i64, i32) {
    let mut value = -1_i32;
    (sys!(SYS_ioctl, fd, 0x8905, &raw mut value), value)
}

fn stream_urgent(t: &mut Transcript) -> Outcome {
    let (oob, peek, wait) = (libc::MSG_OOB, libc::MSG_PEEK, libc::MSG_DONTWAIT);
    let (a, b) = pair(libc::SOCK_STREAM)?;
    t.note("none there", recv(b, 5, oob));
    t.call("send hello!", send(a, b"hello!", oob));
    t.note("events and mark", (poll_events(b), at_mark(b)));
    t.note("peek it", recv(b, 5, oob | peek));
    t.note("ordinary", recv(b, 20, wait));
    t.note("at the mark", at_mark(b));
    t.note("urgent", recv(b, 5, oob));
    t.note("urgent again", recv(b, 5, oob));
    t.note("at the mark", at_mark(b));
    t.note("ordinary", recv(b, 20, wait));
    t.note("events and mark", (poll_events(b), at_mark(b)));
    send(a, b"one!", oob);
    send(a, b"two", 0);
    t.note("urgent first", recv(b, 5, oob));
    t.note("stops where it was", recv(b, 20, wait));
    t.note("then", recv(b, 20, wait));
    send(a, b"one!", oob);
    send(a, b"two", 0);
    t.note("ordinary stops", recv(b, 20, wait));
    t.note("ordinary leaves it out", recv(b, 20, wait));
    t.note("it is gone", recv(b, 5, oob));
    send(a, b"one!", oob);
    send(a, b"two?", oob);
    t.note("the second takes its place", recv(b, 5, oob));
    t.note("the rest", recv(b, 20, wait));
    t.note("and", recv(b, 20, wait));
    send(a, b"x", oob);
    t.note("peek past it", recv(b, 20, wait | peek));
    send(a, b"yz", 0);
    t.note("peek past it", recv(b, 20, wait | peek));
    t.note("read past it", recv(b, 20, wait));
    set_option(b, 10, 1);
    send(a, b"in!", oob);
    t.note("inline by OOB", recv(b, 5, oob));
    t.note("inline", recv(b, 20, wait));
    t.note("inline mark", at_mark(b));
    t.note("inline then", recv(b, 20, wait));
    send(a, b"!", oob);
    sys!(SYS_close, a);
    t.note("closed", recv(b, 20, wait));
    t.note("closed", recv(b, 20, wait));
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(a, b"!", oob);
    t.note("taken", recv(b, 5, oob));
    sys!(SYS_close, b);
    note_option(t, "error after the urgent byte was read", a, 4);
    Ok(())
}

fn stream_closed(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(b, b"last", 0);
    sys!(SYS_close, b);
    t.call("send", send(a, b"x", libc::MSG_NOSIGNAL));
    t.note("recv what is left", recv(a, 10, 0));
    t.note("recv the end", recv(a, 10, 0));
    t.note("peer", peer_of(a));
    note_option(t, "error", a, 4);
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(a, b"unread", 0);
    sys!(SYS_close, b);
    note_option(t, "error after unread bytes", a, 4);
    note_option(t, "error again", a, 4);
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(a, b"unread", 0);
    send(b, b"data", 0);
    sys!(SYS_close, b);
    t.note("recv after unread bytes", recv(a, 10, 0));
    t.note("recv again", recv(a, 10, 0));
    t.note("and again", recv(a, 10, 0));
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(a, b"unread", 0);
    sys!(SYS_close, b);
    t.call("send after unread bytes", send(a, b"x", libc::MSG_NOSIGNAL));
    t.call("send again", send(a, b"x", libc::MSG_NOSIGNAL));
    // SAFETY: the default action is what is tested.
    let code = wait(fork(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        send(a, b"x", 0) as i32
    })?)?;
    t.note("SIGPIPE", code);
    // SAFETY: the default action is what is tested.
    let code = wait(fork(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::write(a, b"x".as_ptr().cast(), 1) as i32
    })?)?;
    t.note("SIGPIPE by write", code);
    Ok(())
}

fn stream_buffer(t: &mut Transcript) -> Outcome {
    for size in [1, 100, 1000, 4000, 10_000, 65_536, 1_000_000] {
        let (a, b) = pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
        let bytes = vec![b'b'; size];
        let (mut total, mut count) = (0_i64, 0);
        loop {
            let sent = send(a, &bytes, 0);
            if sent < 0 {
                break;
            }
            total += sent;
            count += 1;
        }
        t.note(&format!("writes of {size}: bytes and writes"), (total, count));
        let mut queued = [0_i32; 2];
        sys!(SYS_ioctl, a, 0x5411, &raw mut queued[0]);
        sys!(SYS_ioctl, b, 0x541b, &raw mut queued[1]);
        t.note("SIOCOUTQ, SIOCINQ", queued);
    }
    let (a, _b) = pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    set_option(a, 7, 1);
    t.call("the smallest buffer", send(a, &[0; 100_000], 0));
    t.call("once more", send(a, &[0; 10], 0));
    Ok(())
}

fn stream_senders(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_STREAM)?;
    send(a, b"own", 0);
    in_child(|| send(a, b"child", 0) as i32 - 5)?;
    t.note("glued", recv(b, 20, 0));
    set_option(b, 16, 1);
    send(a, b"own", 0);
    send(a, b"again", 0);
    in_child(|| send(a, b"child", 0) as i32 - 5)?;
    send(a, b"last", 0);
    for _ in 0..3 {
        let got = receive_control(b, 100, 100, libc::MSG_DONTWAIT);
        t.note(
            "with credentials",
            got.map(|got| (String::from_utf8_lossy(&got.bytes).into_owned(), got.summary())),
        );
    }
    set_option(b, 16, 0);
    send(a, b"one", 0);
    send_control(a, b"two", &cmsg(1, 1, &a.to_ne_bytes()), 0);
    send(a, b"three", 0);
    for _ in 0..3 {
        let got = receive_control(b, 100, 100, libc::MSG_DONTWAIT);
        t.note(
            "around files",
            got.map(|got| (String::from_utf8_lossy(&got.bytes).into_owned(), got.summary())),
        );
    }
    Ok(())
}

fn datagram(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    t.call("send", send(a, b"hello", 0));
    t.call("send nothing", send(a, b"", 0));
    t.call("send", send(a, b"0123456789", 0));
    t.note("recv", recv(b, 20, 0));
    t.note("recv", recv(b, 20, 0));
    t.note("recv 4 of 10", recv(b, 4, 0));
    send(a, b"0123456789", 0);
    let got = receive_control(b, 4, 0, 0);
    t.note("recvmsg 4 of 10", got.map(|got| (got.bytes.len(), got.flags)));
    send(a, b"0123456789", 0);
    t.note("TRUNC", sys!(SYS_recvfrom, b, [0_u8; 4].as_mut_ptr(), 4, libc::MSG_TRUNC, 0, 0));
    send(a, b"peeked", 0);
    t.note("peek", recv(b, 3, libc::MSG_PEEK));
    t.note(
        "peek TRUNC",
        sys!(SYS_recvfrom, b, [0_u8; 4].as_mut_ptr(), 4, libc::MSG_PEEK | libc::MSG_TRUNC, 0, 0),
    );
    t.note("recv", recv(b, 20, 0));
    t.note("recv nothing", recv(b, 20, libc::MSG_DONTWAIT));
    t.call("OOB send", send(a, b"x", libc::MSG_OOB));
    t.note("OOB recv", recv(b, 20, libc::MSG_OOB));
    send(a, b"zero room", 0);
    t.note("recv with no room", recv(b, 0, 0));
    send(a, b"zero room", 0);
    t.call("read with no room", sys!(SYS_read, b, [0_u8].as_mut_ptr(), 0));
    t.note("it stayed", recv(b, 20, libc::MSG_DONTWAIT));
    send(a, b"lost", 0);
    t.call("recv into nowhere", sys!(SYS_recvfrom, b, 8, 10, 0, 0, 0));
    t.note("then", recv(b, 20, libc::MSG_DONTWAIT));
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0datagram");
    let client = socket(libc::SOCK_DGRAM)?;
    t.call("sendto", send_to(client, b"anonymous", b"\0datagram"));
    bind(client, b"\0client");
    t.call("sendto", send_to(client, b"named", b"\0datagram"));
    for _ in 0..2 {
        let (mut bytes, mut name, mut length) = ([0_u8; 20], [0xee_u8; 20], 20_i32);
        t.call(
            "recvfrom",
            sys!(SYS_recvfrom, server, bytes.as_mut_ptr(), 20, 0, name.as_mut_ptr(), &raw mut length),
        );
        t.note("from", (length, &name[..10]));
    }
    t.call("to nobody", send_to(client, b"x", b"\0nobody"));
    t.call("to a path", send_to(client, b"x", b"/tmp/nobody"));
    t.call("to nothing", send_to(client, b"x", b""));
    t.call("to a stream", send_to(client, b"x", b"\0stream"));
    Ok(())
}

fn datagram_peers(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    sys!(SYS_close, b);
    t.call("send to a closed one", send(a, b"x", 0));
    t.call("send again", send(a, b"x", 0));
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    send(b, b"left behind", 0);
    sys!(SYS_close, b);
    t.note("recv what was left", recv(a, 20, libc::MSG_DONTWAIT));
    t.note("recv then", recv(a, 20, libc::MSG_DONTWAIT));
    note_option(t, "error", a, 4);
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    send(b, b"dropped", 0);
    t.call("disconnect", sys!(SYS_connect, a, [0_u8; 16].as_ptr(), 16));
    t.note("recv", recv(a, 20, libc::MSG_DONTWAIT));
    t.note("the other", recv(b, 20, libc::MSG_DONTWAIT));
    t.note("the other again", recv(b, 20, libc::MSG_DONTWAIT));
    t.call("the other still sends", send(b, b"x", 0));
    // SAFETY: the default action is what is tested.
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    sys!(SYS_shutdown, b, 0);
    // SAFETY: the default action is what is tested.
    let code = wait(fork(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        i32::from(send(a, b"x", 0) == -1 && crate::sys::errno() == libc::EPIPE)
    })?)?;
    t.note("EPIPE without a signal", code);
    Ok(())
}

fn datagram_limits(t: &mut Transcript) -> Outcome {
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0limits");
    let client = socket(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
    let mut count = 0;
    while send_to(client, b"x", b"\0limits") == 1 {
        count += 1;
    }
    t.note("strangers' messages", (count, crate::sys::errno()));
    t.call("one more", send_to(client, b"x", b"\0limits"));
    recv(server, 10, 0)?;
    t.call("after one was taken", send_to(client, b"x", b"\0limits"));
    for size in [1, 100, 1000, 5000, 16_000, 16_100, 50_000, 100_000] {
        let (a, b) = pair(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
        let bytes = vec![0; size];
        let mut count = 0;
        while send(a, &bytes, 0) == size as i64 {
            count += 1;
        }
        let mut queued = [0_i32; 2];
        sys!(SYS_ioctl, a, 0x5411, &raw mut queued[0]);
        sys!(SYS_ioctl, b, 0x541b, &raw mut queued[1]);
        t.note(&format!("a pair's messages of {size}"), (count, queued));
    }
    let (a, _b) = pair(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
    for size in [212_959, 212_960, 212_961, 300_000] {
        t.call(&format!("one of {size}"), send(a, &vec![0; size], 0));
        recv(_b, 10, libc::MSG_DONTWAIT).ok();
    }
    Ok(())
}

fn datagram_peek_offset(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    send(a, b"abcdef", 0);
    send(a, b"ghi", 0);
    t.call("PEEK_OFF 0", set_option(b, 42, 0));
    for size in [2, 3, 5, 5, 5] {
        t.note(&format!("peek {size}"), recv(b, size, libc::MSG_PEEK | libc::MSG_DONTWAIT));
        note_option(t, "  offset", b, 42);
    }
    set_option(b, 42, 7);
    t.note("peek from 7", recv(b, 10, libc::MSG_PEEK | libc::MSG_DONTWAIT));
    t.note("recv", recv(b, 10, 0));
    note_option(t, "offset", b, 42);
    t.note("peek", recv(b, 10, libc::MSG_PEEK | libc::MSG_DONTWAIT));
    Ok(())
}

fn sequenced(t: &mut Transcript) -> Outcome {
    let fd = socket(libc::SOCK_SEQPACKET)?;
    t.call("send unconnected", send(fd, b"x", libc::MSG_NOSIGNAL));
    t.note("recv unconnected", recv(fd, 10, 0));
    let (a, b) = pair(libc::SOCK_SEQPACKET)?;
    t.call("send", send(a, b"first", 0));
    t.call("send EOR", send(a, b"second", libc::MSG_EOR));
    t.call("send nothing", send(a, b"", 0));
    t.call("sendto", send_to(a, b"third", b"\0nobody"));
    for _ in 0..5 {
        let got = receive_control(b, 4, 0, libc::MSG_DONTWAIT);
        t.note("recvmsg", got.map(|got| (got.bytes, got.flags)));
    }
    t.call("OOB", send(a, b"x", libc::MSG_OOB));
    send(a, b"unread", 0);
    sys!(SYS_close, b);
    note_option(t, "error", a, 4);
    t.note("recv", recv(a, 10, 0));
    // SAFETY: the default action is what is tested.
    let code = wait(fork(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        i32::from(send(a, b"x", 0) == -1 && crate::sys::errno() == libc::EPIPE)
    })?)?;
    t.note("EPIPE, and which signal", code);
    let (a, b) = pair(libc::SOCK_SEQPACKET)?;
    send(b, b"data", 0);
    sys!(SYS_close, b);
    t.note("recv", recv(a, 10, libc::MSG_DONTWAIT));
    t.note("recv the end", recv(a, 10, libc::MSG_DONTWAIT));
    t.note("recv the end", recv(a, 10, 0));
    let server = socket(libc::SOCK_SEQPACKET)?;
    bind(server, b"\0sequenced");
    t.call("listen", sys!(SYS_listen, server, 2));
    let client = socket(libc::SOCK_SEQPACKET)?;
    t.call("connect", connect(client, b"\0sequenced"));
    let accepted = sys!(SYS_accept, server, 0, 0) as i32;
    t.call("send", send(client, b"packet", 0));
    t.note("recv", recv(accepted, 3, 0));
    t.note("the rest is lost", recv(accepted, 3, libc::MSG_DONTWAIT));
    Ok(())
}

fn shutdown(t: &mut Transcript) -> Outcome {
    for how in 0..3 {
        t.call(&format!("unconnected {how}"), sys!(SYS_shutdown, socket(libc::SOCK_STREAM)?, how));
        for kind in [1, 2, 5] {
            let (a, b) = pair(kind | libc::SOCK_NONBLOCK)?;
            send(b, b"before", 0);
            t.call(&format!("kind {kind}, how {how}"), sys!(SYS_shutdown, a, how));
            t.call("  a sends", send(a, b"x", libc::MSG_NOSIGNAL));
            t.call("  b sends", send(b, b"y", libc::MSG_NOSIGNAL));
            t.note("  a receives", recv(a, 10, 0));
            t.note("  a receives", recv(a, 10, 0));
            t.note("  b receives", recv(b, 10, 0));
            t.note("  b receives", recv(b, 10, 0));
            t.note("  events", (poll_events(a), poll_events(b)));
            t.call("  twice", sys!(SYS_shutdown, a, how));
        }
    }
    let (a, b) = pair(libc::SOCK_STREAM)?;
    let child = fork(|| {
        sleep_ms(50);
        sys!(SYS_shutdown, b, 1) as i32
    })?;
    t.note("a waiting reader sees the end", recv(a, 10, 0));
    wait(child)?;
    Ok(())
}

fn poll_states(t: &mut Transcript) -> Outcome {
    for kind in [1, 2, 5] {
        let fd = socket(kind)?;
        t.note(&format!("kind {kind} new"), poll_events(fd));
        let name = format!("\0poll-{kind}");
        bind(fd, name.as_bytes());
        t.note("bound", poll_events(fd));
        if kind != 2 {
            sys!(SYS_listen, fd, 1);
            t.note("listening", poll_events(fd));
            let client = socket(kind)?;
            connect(client, name.as_bytes());
            t.note("with a connection", poll_events(fd));
            t.note("the client", poll_events(client));
            let accepted = sys!(SYS_accept, fd, 0, 0) as i32;
            t.note("accepted", (poll_events(fd), poll_events(accepted)));
        }
        let (a, b) = pair(kind | libc::SOCK_NONBLOCK)?;
        t.note("pair", poll_events(a));
        send(b, b"x", 0);
        t.note("with a message", poll_events(a));
        while send(b, &[0; 2000], 0) > 0 {}
        t.note("the other is full", poll_events(b));
        recv(a, 100_000, 0)?;
        t.note("after one read", poll_events(b));
        sys!(SYS_close, b);
        t.note("the other closed", poll_events(a));
        while recv(a, 100_000, 0).is_ok_and(|bytes| !bytes.is_empty()) {}
        t.note("and all was read", poll_events(a));
        let (a, b) = pair(kind)?;
        send(a, b"x", 0);
        sys!(SYS_close, b);
        t.note("closed with unread", poll_events(a));
    }
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0poll-full");
    let client = socket(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
    connect(client, b"\0poll-full");
    while send(client, b"x", 0) > 0 {}
    t.note("connected to a full queue", poll_events(client));
    recv(server, 10, 0)?;
    t.note("after one was taken", poll_events(client));
    Ok(())
}

fn rights(t: &mut Transcript) -> Outcome {
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    let (reader, writer) = pipe(0)?;
    t.call("send", send_control(a, b"x", &cmsg(1, 1, &writer.to_ne_bytes()), 0));
    crate::sys::close(writer);
    let got = receive_control(b, 10, 100, 0)?;
    let fd = got.fds().first().copied().unwrap_or(-1);
    t.call("write to it", sys!(SYS_write, fd, b"through".as_ptr(), 7));
    t.note("read", crate::sys::read(reader, 10)?);
    t.call("F_GETFD", sys!(SYS_fcntl, fd, 1));
    send_control(a, b"x", &cmsg(1, 1, &fd.to_ne_bytes()), 0);
    let got = receive_control(b, 10, 100, libc::MSG_CMSG_CLOEXEC)?;
    t.call("F_GETFD with CLOEXEC", sys!(SYS_fcntl, got.fds().first().copied().unwrap_or(-1), 1));
    t.note("flags", got.flags);
    send_control(a, b"x", &cmsg(1, 1, &fd.to_ne_bytes()), 0);
    let peeked = receive_control(b, 10, 100, libc::MSG_PEEK)?;
    t.note("peeked", (peeked.summary(), peeked.flags));
    let got = receive_control(b, 10, 100, 0)?;
    t.note("received", (got.summary(), got.flags));
    // SAFETY: a valid string.
    let place = unsafe { libc::open(c("/tmp").as_ptr(), libc::O_PATH) };
    t.call("send a place", send_control(a, b"x", &cmsg(1, 1, &place.to_ne_bytes()), 0));
    t.note("received", receive_control(b, 10, 100, 0)?.summary());
    t.call("send itself", send_control(a, b"x", &cmsg(1, 1, &a.to_ne_bytes()), 0));
    t.call("send the other", send_control(a, b"x", &cmsg(1, 1, &b.to_ne_bytes()), 0));
    t.note("received", receive_control(b, 10, 100, 0)?.summary());
    t.note("received", receive_control(b, 10, 100, 0)?.summary());
    set_option(b, 83, 0);
    t.call("to one that takes none", send_control(a, b"x", &cmsg(1, 1, &b.to_ne_bytes()), 0));
    t.note("received", receive_control(b, 10, 100, libc::MSG_DONTWAIT).map(|got| got.summary()));
    // Nested as deep as one likes.
    let mut carried = socket(libc::SOCK_DGRAM)?;
    let mut sent = 0;
    for _ in 0..12 {
        let (c, d) = pair(libc::SOCK_DGRAM)?;
        if send_control(c, b"x", &cmsg(1, 1, &carried.to_ne_bytes()), 0) < 0 {
            break;
        }
        crate::sys::close(carried);
        crate::sys::close(c);
        carried = d;
        sent += 1;
    }
    t.note("levels", sent);
    Ok(())
}

fn credentials(t: &mut Transcript) -> Outcome {
    for kind in [1, 2, 5] {
        let (a, b) = pair(kind)?;
        send(a, b"before", 0);
        set_option(b, 16, 1);
        let got = receive_control(b, 100, 100, 0)?;
        t.note(&format!("kind {kind}, sent before"), (got.summary(), got.flags));
        send(a, b"after", 0);
        let got = receive_control(b, 100, 100, 0)?;
        t.note("sent after", (got.summary(), got.flags));
        set_option(b, 76, 1);
        send(a, b"with pidfd", 0);
        let got = receive_control(b, 100, 100, 0)?;
        t.note("with pidfd", (got.kinds(), got.flags));
        set_option(b, 16, 0);
        send(a, b"pidfd only", 0);
        let got = receive_control(b, 100, 100, 0)?;
        t.note("pidfd only", (got.kinds(), got.flags));
        set_option(b, 76, 0);
        t.note("name of the receiver", name_of(b).map(|name| name.len()));
        t.note("name of the sender", name_of(a).map(|name| name.len()));
    }
    let (a, b) = pair(libc::SOCK_DGRAM)?;
    set_option(a, 16, 1);
    send(a, b"x", 0);
    t.note("a sender that wants them is named", name_of(a).map(|name| name.len()));
    set_option(b, 16, 1);
    t.note("and its messages have them", receive_control(b, 100, 100, 0)?.summary());
    set_option(b, 29, 1);
    send(a, b"x", 0);
    let got = receive_control(b, 100, 200, 0)?;
    t.note("with a time", got.kinds());
    set_option(b, 35, 1);
    send(a, b"x", 0);
    t.note("in nanoseconds", receive_control(b, 100, 200, 0)?.kinds());
    let code = in_child(|| {
        // SAFETY: numbers only.
        unsafe { libc::setresuid(1, 2, 3) };
        let own = std::process::id() as i32;
        let mut code = 0;
        for (index, (pid, uid, gid)) in
            [(own, 1, 0), (own, 2, 0), (own, 3, 0), (own, 4, 0), (own, 0, 0), (1, 1, 0), (own, 1, 9)]
                .iter()
                .enumerate()
        {
            let data = [pid.to_ne_bytes(), i32::to_ne_bytes(*uid), i32::to_ne_bytes(*gid)].concat();
            code |= i32::from(send_control(a, b"x", &cmsg(1, 2, &data), 0) == 1) << index;
        }
        code
    })?;
    t.note("which an ordinary user may claim", format!("{code:b}"));
    Ok(())
}

fn queue_sizes(t: &mut Transcript) -> Outcome {
    for kind in [1, 2, 5] {
        for size in [
            0, 1, 100, 192, 193, 500, 700, 1700, 3000, 3700, 3800, 4096, 8000, 16_000, 16_064, 16_065,
            20_000, 40_000,
        ] {
            let (a, b) = pair(kind)?;
            let sent = send(a, &vec![7; size], 0);
            let mut queued = [0_i32; 2];
            sys!(SYS_ioctl, a, 0x5411, &raw mut queued[0]);
            sys!(SYS_ioctl, b, 0x541b, &raw mut queued[1]);
            t.note(&format!("kind {kind}, {size} bytes"), (sent, queued));
        }
    }
    Ok(())
}

fn sysctls(t: &mut Transcript) -> Outcome {
    for name in [
        "net/core/wmem_default",
        "net/core/rmem_default",
        "net/core/wmem_max",
        "net/core/rmem_max",
        "net/core/somaxconn",
        "net/core/optmem_max",
        "net/unix/max_dgram_qlen",
    ] {
        t.note(name, std::fs::read_to_string(format!("/proc/sys/{name}")).ok());
    }
    let path = "/proc/sys/net/core/wmem_default";
    for text in ["5000", "4608", "4607", "-1", "x", ""] {
        t.note(&format!("wmem_default = {text:?}"), std::fs::write(path, text).is_ok());
        note_option(t, "  a new socket has", socket(libc::SOCK_STREAM)?, 7);
    }
    let _ = std::fs::write(path, "212992");
    let path = "/proc/sys/net/unix/max_dgram_qlen";
    t.note("max_dgram_qlen = 2", std::fs::write(path, "2").is_ok());
    let server = socket(libc::SOCK_DGRAM)?;
    bind(server, b"\0qlen");
    let client = socket(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
    let mut count = 0;
    while send_to(client, b"x", b"\0qlen") == 1 {
        count += 1;
    }
    t.note("messages", count);
    let _ = std::fs::write(path, "10");
    Ok(())
}

fn proc_table(t: &mut Transcript) -> Outcome {
    let line_of = |what: &str| {
        let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        text.lines().find(|line| line.contains(what)).map(|line| {
            // Without the address, the count of references and the inode.
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut kept: Vec<String> = words.iter().skip(2).map(|word| (*word).to_owned()).collect();
            if kept.len() > 4 {
                kept[4] = (kept[4] != "0").to_string();
            }
            kept.join(" ")
        })
    };
    let text = std::fs::read_to_string("/proc/net/unix").map_err(|e| e.to_string())?;
    t.note("head", text.lines().next());
    let fd = socket(libc::SOCK_STREAM)?;
    bind(fd, b"\0proc-stream");
    t.note("bound", line_of("@proc-stream"));
    sys!(SYS_listen, fd, 5);
    t.note("listening", line_of("@proc-stream"));
    let client = socket(libc::SOCK_STREAM)?;
    connect(client, b"\0proc-stream");
    bind(client, b"\0proc-client");
    t.note("client", line_of("@proc-client"));
    let datagrams = socket(libc::SOCK_DGRAM)?;
    bind(datagrams, b"\0proc dgram\0x");
    t.note("datagrams", line_of("@proc dgram"));
    let path = format!("{}/s", folder("proc")?);
    let bound = socket(libc::SOCK_SEQPACKET)?;
    bind(bound, path.as_bytes());
    t.note("a path", line_of("/tmp/guest-proc").map(|line| line.split("/tmp").next().map(str::to_owned)));
    sys!(SYS_close, datagrams);
    t.note("closed", line_of("@proc dgram"));
    t.note("/proc/net", std::fs::read_link("/proc/net").ok());
    Ok(())
}
