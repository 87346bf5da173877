//! Sockets of AF_INET and AF_INET6: UDP, echo, raw; what calls answer, well used and badly.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::inet_help::*;
use crate::sys::{close, in_child, sleep_ms};
use crate::unix_help::{cmsg, poll_events};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("inet_types_4", |t| types(t, V4)),
    ("inet_types_6", |t| types(t, V6)),
    ("inet_udp_bind_errors_4", |t| bind_errors(t, V4)),
    ("inet_udp_bind_errors_6", |t| bind_errors(t, V6)),
    ("inet_udp_bind_clashes_4", |t| bind_clashes(t, V4, &[])),
    ("inet_udp_bind_clashes_6", |t| bind_clashes(t, V6, &[])),
    ("inet_udp_reuse_address_4", |t| bind_clashes(t, V4, &[libc::SO_REUSEADDR])),
    ("inet_udp_reuse_address_6", |t| bind_clashes(t, V6, &[libc::SO_REUSEADDR])),
    ("inet_udp_reuse_port_4", |t| bind_clashes(t, V4, &[libc::SO_REUSEPORT])),
    ("inet_udp_reuse_port_6", |t| bind_clashes(t, V6, &[libc::SO_REUSEPORT])),
    ("inet_udp_reuse_mixed", reuse_mixed),
    ("inet_udp_reuse_users", reuse_users),
    ("inet_udp_both_families", both_families),
    ("inet_udp_v6only", v6_only),
    ("inet_udp_mapped", mapped),
    ("inet_udp_autobind_4", |t| autobind(t, V4)),
    ("inet_udp_autobind_6", |t| autobind(t, V6)),
    ("inet_udp_port_range", port_range),
    ("inet_udp_names_4", |t| names(t, V4)),
    ("inet_udp_names_6", |t| names(t, V6)),
    ("inet_udp_connect_errors_4", |t| connect_errors(t, V4)),
    ("inet_udp_connect_errors_6", |t| connect_errors(t, V6)),
    ("inet_udp_connected_4", |t| connected(t, V4)),
    ("inet_udp_connected_6", |t| connected(t, V6)),
    ("inet_udp_send_errors_4", |t| send_errors(t, V4)),
    ("inet_udp_send_errors_6", |t| send_errors(t, V6)),
    ("inet_udp_sizes_4", |t| sizes(t, V4)),
    ("inet_udp_sizes_6", |t| sizes(t, V6)),
    ("inet_udp_receive_flags_4", |t| receive_flags(t, V4)),
    ("inet_udp_receive_flags_6", |t| receive_flags(t, V6)),
    ("inet_udp_peek_offset", peek_offset),
    ("inet_udp_empty_4", |t| empty(t, V4)),
    ("inet_udp_empty_6", |t| empty(t, V6)),
    ("inet_udp_shutdown_4", |t| shutdown(t, V4)),
    ("inet_udp_shutdown_6", |t| shutdown(t, V6)),
    ("inet_udp_poll", poll),
    ("inet_udp_refused_4", |t| refused(t, V4)),
    ("inet_udp_refused_6", |t| refused(t, V6)),
    ("inet_udp_error_queue_4", |t| error_queue(t, V4)),
    ("inet_udp_error_queue_6", |t| error_queue(t, V6)),
    ("inet_udp_unreachable_4", |t| unreachable(t, V4)),
    ("inet_udp_unreachable_6", |t| unreachable(t, V6)),
    ("inet_udp_told_4", told_4),
    ("inet_udp_told_6", told_6),
    ("inet_udp_told_mapped", told_mapped),
    ("inet_udp_control_4", control_4),
    ("inet_udp_control_6", control_6),
    ("inet_udp_control_socket", control_socket),
    ("inet_options_4", |t| options(t, V4)),
    ("inet_options_6", |t| options(t, V6)),
    ("inet_options_4_on_6", options_of_both),
    ("inet_option_values_4", option_values_4),
    ("inet_option_values_6", option_values_6),
    ("inet_option_lengths", option_lengths),
    ("inet_options_privileged", privileged),
    ("inet_udp_cork_4", |t| cork(t, V4)),
    ("inet_udp_cork_6", |t| cork(t, V6)),
    ("inet_udp_segments_4", |t| segments(t, V4)),
    ("inet_udp_segments_6", |t| segments(t, V6)),
    ("inet_udp_own_options", udp_options),
    ("inet_udp_path_mtu_4", |t| path_mtu(t, V4)),
    ("inet_udp_path_mtu_6", |t| path_mtu(t, V6)),
    ("inet_udp_foreign_bind_4", |t| foreign_bind(t, V4)),
    ("inet_udp_foreign_bind_6", |t| foreign_bind(t, V6)),
    ("inet_udp_device_4", |t| device(t, V4)),
    ("inet_udp_device_6", |t| device(t, V6)),
    ("inet_udp_choice", choice),
    ("inet_udp_broadcast", broadcast),
    ("inet_multicast_errors_4", multicast_errors_4),
    ("inet_multicast_errors_6", multicast_errors_6),
    ("inet_multicast_4", multicast_4),
    ("inet_multicast_6", multicast_6),
    ("inet_multicast_sources", multicast_sources),
    ("inet_multicast_all", multicast_all),
    ("inet_udp_overflow", overflow),
    ("inet_udp_filters", filters),
    ("inet_udp_ioctls", ioctls),
    ("inet_udp_many_messages", many_messages),
    ("inet_udp_timestamps", timestamps),
    ("inet_raw_4", raw_4),
    ("inet_raw_6", raw_6),
    ("inet_raw_headers", raw_headers),
    ("inet_raw_connected", raw_connected),
    ("inet_raw_filters", raw_filters),
    ("inet_raw_errors", raw_errors),
    ("inet_raw_checksums", raw_checksums),
    ("inet_ping_permission", ping_permission),
    ("inet_ping_4", |t| ping(t, V4)),
    ("inet_ping_6", |t| ping(t, V6)),
    ("inet_ping_latest_4", |t| ping_latest(t, V4)),
    ("inet_ping_latest_6", |t| ping_latest(t, V6)),
    ("inet_ping_errors", ping_errors),
    ("inet_tables", tables),
];

const GROUP_4: &str = "224.1.2.3";
const GROUP_6: &str = "ff05::1:2";

fn types(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    for (kind, protocol) in [
        (2, 0),
        (2, 17),
        (2, 6),
        (2, 255),
        (2, 1),
        (2, 58),
        (3, 0),
        (3, 1),
        (3, 17),
        (3, 58),
        (3, 255),
        (3, 256),
        (3, 263),
        (2, 263),
        (2, -1),
        (4, 0),
        (6, 0),
        (11, 0),
    ] {
        let fd = t.works(&format!("socket {kind} {protocol}"), sys!(SYS_socket, family, kind, protocol));
        if fd >= 0 {
            for name in [libc::SO_TYPE, libc::SO_PROTOCOL, libc::SO_DOMAIN, libc::SO_ACCEPTCONN] {
                t.note("  option", get_number(fd as i32, 1, name));
            }
            close(fd as i32);
        }
    }
    let fd = udp(family)?;
    t.call("listen", sys!(SYS_listen, fd, 1));
    t.call("accept", sys!(SYS_accept, fd, 0, 0));
    let mut fds = [0; 2];
    t.call("socketpair", sys!(SYS_socketpair, family, 2, 0, fds.as_mut_ptr()));
    in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(sys!(SYS_socket, family, 3, 1) != -1 || crate::sys::errno() != libc::EPERM)
    })
    .map(|status| t.note("raw without a capability", status))
}

fn bind_errors(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let good = address(loopback(family), 5000);
    let fd = udp(family)?;
    for length in [0, 1, 2, 4, 15, 16, 23, 24, 27] {
        if length < good.len() {
            let fd = udp(family)?;
            t.call(&format!("bind of {length} bytes"), bind(fd, &good[..length]));
            close(fd);
        }
    }
    for other in [0, 1, 2, 10, 17, 200] {
        let mut bytes = good.clone();
        bytes[0] = other;
        let fd = udp(family)?;
        t.call(&format!("bind to family {other}"), bind(fd, &bytes));
        close(fd);
    }
    let mut nothing = address(any(family), 5001);
    nothing[0] = 0;
    let other = udp(family)?;
    t.call("bind to no family and no address", bind(other, &nothing));
    t.note("name", local(other));
    let (foreign, group) = if family == V4 { ("10.9.9.9", GROUP_4) } else { ("2001:db8::9", GROUP_6) };
    t.call("bind to a foreign address", bind(fd, &address(foreign, 5002)));
    t.call("bind", bind(fd, &good));
    t.call("bind again", bind(fd, &good));
    t.call("bind to another", bind(fd, &address(loopback(family), 5003)));
    let fd = udp(family)?;
    t.call("bind to a group", bind(fd, &address(group, 5004)));
    t.note("name", local(fd));
    if family == V6 {
        let fd = udp(family)?;
        t.call("bind to a link-local address", bind(fd, &address("fe80::1", 5005)));
        t.call("on an interface", bind(fd, &scoped("fe80::1", 5005, 1)));
        t.call("on none", bind(fd, &scoped("fe80::1", 5005, 77)));
        t.call("bind to a link-local group", bind(fd, &scoped("ff02::1", 5005, 1)));
        t.note("name", local(fd));
    } else {
        let fd = udp(family)?;
        t.call("bind to everyone", bind(fd, &address("255.255.255.255", 5005)));
        t.note("name", local(fd));
        let fd = udp(family)?;
        t.call("bind elsewhere in the loopback's network", bind(fd, &address("127.1.2.3", 5006)));
        t.note("name", local(fd));
    }
    Ok(())
}

/// Which binds go together, with options on both.
fn bind_clashes(t: &mut Transcript, family: i32, names: &[i32]) -> Outcome {
    isolated()?;
    let second = if family == V4 { "127.0.0.2" } else { "::1" };
    let places = [any(family), loopback(family), second];
    let mut port = 6000;
    for one in places {
        for other in places {
            port += 1;
            let (a, b) = (udp(family)?, udp(family)?);
            for name in names {
                set_number(a, 1, *name, 1);
                set_number(b, 1, *name, 1);
            }
            t.call(&format!("bind to {one}"), bind(a, &address(one, port)));
            t.call(&format!("  and {other}"), bind(b, &address(other, port)));
            close(a);
            let c = udp(family)?;
            t.call("  again after close", bind(c, &address(one, port)));
            close(b);
            close(c);
        }
    }
    Ok(())
}

fn reuse_mixed(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut port = 6100;
    for first in 0..4 {
        for second in 0..4 {
            port += 1;
            let (a, b) = (udp(V4)?, udp(V4)?);
            for (fd, bits) in [(a, first), (b, second)] {
                set_number(fd, 1, libc::SO_REUSEADDR, bits & 1);
                set_number(fd, 1, libc::SO_REUSEPORT, bits >> 1);
            }
            t.call(&format!("{first}"), bind(a, &address("127.0.0.1", port)));
            t.call(&format!("  {second}"), bind(b, &address("127.0.0.1", port)));
            close(a);
            close(b);
        }
    }
    Ok(())
}

fn reuse_users(t: &mut Transcript) -> Outcome {
    isolated()?;
    let first = udp(V4)?;
    set_number(first, 1, libc::SO_REUSEPORT, 1);
    t.call("bind", bind(first, &address("127.0.0.1", 6200)));
    let result = in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        let Ok(fd) = udp(V4) else { return 99 };
        set_number(fd, 1, libc::SO_REUSEPORT, 1);
        if bind(fd, &address("127.0.0.1", 6200)) == 0 { 0 } else { crate::sys::errno() }
    })?;
    t.note("another user", result);
    Ok(())
}

fn both_families(t: &mut Transcript) -> Outcome {
    isolated()?;
    let cases = [
        ((V4, "0.0.0.0"), (V6, "::")),
        ((V6, "::"), (V4, "0.0.0.0")),
        ((V6, "::"), (V4, "127.0.0.1")),
        ((V4, "127.0.0.1"), (V6, "::")),
        ((V6, "::1"), (V4, "0.0.0.0")),
        ((V6, "::ffff:127.0.0.1"), (V4, "127.0.0.1")),
        ((V6, "::ffff:127.0.0.1"), (V4, "127.0.0.2")),
        ((V6, "::ffff:0.0.0.0"), (V4, "127.0.0.2")),
        ((V6, "::ffff:0.0.0.0"), (V6, "::1")),
        ((V6, "::ffff:127.0.0.1"), (V6, "::1")),
        ((V6, "::"), (V6, "::ffff:127.0.0.1")),
    ];
    let mut port = 6300;
    for ((one_family, one), (other_family, other)) in cases {
        for only in [0, 1] {
            port += 1;
            let (a, b) = (udp(one_family)?, udp(other_family)?);
            for (fd, family) in [(a, one_family), (b, other_family)] {
                if family == V6 {
                    set_number(fd, SOL_IPV6, 26, only);
                }
            }
            t.call(&format!("{one} (only {only})"), bind(a, &address(one, port)));
            t.call(&format!("  {other}"), bind(b, &address(other, port)));
            close(a);
            close(b);
        }
    }
    Ok(())
}

fn v6_only(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V6)?;
    t.note("at first", get_number(fd, SOL_IPV6, 26));
    t.call("on", set_number(fd, SOL_IPV6, 26, 1));
    t.call("bind to a mapped address", bind(fd, &address("::ffff:127.0.0.1", 6400)));
    t.call("connect to a mapped address", connect(fd, &address("::ffff:127.0.0.1", 6400)));
    t.call("send to a mapped address", send_to(fd, b"x", 0, &address("::ffff:127.0.0.1", 6400)));
    t.call("send to an IPv4 address", send_to(fd, b"x", 0, &address("127.0.0.1", 6400)));
    t.call("off after an autobind", set_number(fd, SOL_IPV6, 26, 0));
    let fd = udp(V6)?;
    t.call("bind", bind(fd, &address("::", 6401)));
    t.call("on after bind", set_number(fd, SOL_IPV6, 26, 1));
    let sender = udp(V4)?;
    t.call("send", send_to(sender, b"mapped", 0, &address("127.0.0.1", 6401)));
    t.note("got", receive(fd, 100, 0).map(|got| lossy(&got.bytes)));
    let only = udp(V6)?;
    set_number(only, SOL_IPV6, 26, 1);
    t.call("bind only", bind(only, &address("::", 6402)));
    connect(sender, &address("127.0.0.1", 6402));
    t.call("send", send_to(sender, b"x", 0, &[]));
    t.note("refused", receive(sender, 100, 0).map(|got| got.count));
    Ok(())
}

fn mapped(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V6)?;
    t.call("bind", bind(fd, &address("::ffff:127.0.0.1", 6500)));
    t.note("name", local(fd));
    let other = udp(V6)?;
    t.call("connect", connect(other, &address("::ffff:127.0.0.1", 6500)));
    t.note("peer", peer(other));
    t.call("send", send_to(other, b"one", 0, &[]));
    t.note("got", receive(fd, 100, 0).map(|got| (lossy(&got.bytes), got.from.len())));
    t.call("send to IPv6", send_to(fd, b"x", 0, &address("::1", 6500)));
    t.call("connect to IPv6", connect(fd, &address("::1", 6500)));
    t.call("send to an AF_INET address", send_to(other, b"two", 0, &address("127.0.0.1", 6500)));
    t.note("got", receive(fd, 100, 0).map(|got| lossy(&got.bytes)));
    let wild = udp(V6)?;
    t.call("connect to nothing mapped", connect(wild, &address("::ffff:0.0.0.0", 6500)));
    t.note("peer", peer(wild));
    let wild = udp(V6)?;
    t.call("connect to nothing", connect(wild, &address("::", 6500)));
    t.note("peer", peer(wild));
    Ok(())
}

fn autobind(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003");
    let mut all = Vec::new();
    for _ in 0..4 {
        let fd = udp(family)?;
        bind(fd, &address(loopback(family), 0));
        all.push(local(fd));
    }
    all.sort();
    t.note("names", all);
    let fd = udp(family)?;
    t.call("bind when none is free", bind(fd, &address(loopback(family), 0)));
    t.call("send when none is free", send_to(fd, b"x", 0, &address(loopback(family), 9)));
    t.call("connect when none is free", connect(fd, &address(loopback(family), 9)));
    t.note("name", local(fd));
    set_number(fd, 1, libc::SO_REUSEADDR, 1);
    t.call("bind with reuse", bind(fd, &address(loopback(family), 0)));
    Ok(())
}

fn port_range(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V4)?;
    t.note("at first", get_number(fd, SOL_IP, 51));
    for (low, high) in [(0, 0), (40_010, 40_010), (50_000, 40_000), (0, 40_000), (40_000, 0), (70_000, 1)] {
        let value = low as u32 & 0xffff | (high as u32 & 0xffff) << 16;
        t.call(&format!("{low} to {high}"), set_number(fd, SOL_IP, 51, value as i32));
    }
    t.call("two bytes", set(fd, SOL_IP, 51, &[1, 2]));
    t.call("one port", set_number(fd, SOL_IP, 51, 40_010 | 40_010 << 16));
    t.call("bind", bind(fd, &address("127.0.0.1", 0)));
    t.note("name", local(fd));
    let other = udp(V4)?;
    set_number(other, SOL_IP, 51, 40_010 | 40_010 << 16);
    t.call("another", bind(other, &address("127.0.0.1", 0)));
    let file = "/proc/sys/net/ipv4/ip_local_port_range";
    t.note("range", std::fs::read_to_string(file).ok());
    for text in ["100", "0 10", "10 5", "1 65536", "3 4"] {
        t.note(text, std::fs::write(file, text).map_err(|error| error.kind()));
    }
    Ok(())
}

fn names(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let fd = udp(family)?;
    t.note("fresh", (local(fd), peer(fd)));
    t.call("bind", bind(fd, &address(any(family), 6600)));
    t.note("bound", (local(fd), peer(fd)));
    t.call("connect", connect(fd, &address(loopback(family), 6601)));
    t.note("connected", (local(fd), peer(fd)));
    t.call("connect elsewhere", connect(fd, &address(loopback(family), 6602)));
    t.note("connected", (local(fd), peer(fd)));
    t.call("disconnect", connect(fd, &[0; 16]));
    t.note("disconnected", (local(fd), peer(fd)));
    let fd = udp(family)?;
    t.call("connect unbound", connect(fd, &address(loopback(family), 6601)));
    t.call("disconnect", connect(fd, &[0; 16]));
    t.note("disconnected", (local(fd), peer(fd)));
    t.call("bind after that", bind(fd, &address(loopback(family), 6603)));
    t.note("bound", (local(fd), peer(fd)));
    t.call("connect", connect(fd, &address(loopback(family), 6601)));
    t.call("disconnect", connect(fd, &[0; 16]));
    t.note("disconnected", (local(fd), peer(fd)));
    t.call("disconnect again", connect(fd, &[0; 2]));
    Ok(())
}

fn connect_errors(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let good = address(loopback(family), 6700);
    let fd = udp(family)?;
    for length in [0, 1, 2, 8, 15, 16, 23, 24] {
        if length < good.len() {
            t.call(&format!("connect of {length} bytes"), connect(fd, &good[..length]));
        }
    }
    for other in [1, 2, 10, 17] {
        let mut bytes = good.clone();
        bytes[0] = other;
        let fd = udp(family)?;
        t.call(&format!("connect to family {other}"), connect(fd, &bytes));
        close(fd);
    }
    let foreign = if family == V4 { "10.9.9.9" } else { "2001:db8::9" };
    t.call("connect to where no route goes", connect(fd, &address(foreign, 6700)));
    t.call("connect to port 0", connect(fd, &address(loopback(family), 0)));
    t.note("peer", peer(fd));
    t.call("send", send_to(fd, b"x", 0, &[]));
    if family == V4 {
        let fd = udp(family)?;
        t.call("connect to everyone", connect(fd, &address("255.255.255.255", 6700)));
        set_number(fd, 1, libc::SO_BROADCAST, 1);
        t.call("with SO_BROADCAST", connect(fd, &address("255.255.255.255", 6700)));
        t.call("connect to nothing", connect(fd, &address("0.0.0.0", 6700)));
        t.note("peer", peer(fd));
        t.call("connect to a group", connect(fd, &address(GROUP_4, 6700)));
        let broadcast = udp(family)?;
        t.call("connect to the loopback's broadcast", connect(broadcast, &address("127.255.255.255", 6700)));
    } else {
        let fd = udp(family)?;
        t.call("connect to a link-local address", connect(fd, &address("fe80::1", 6700)));
        t.call("connect to a link-local group", connect(fd, &address("ff02::1", 6700)));
    }
    Ok(())
}

fn connected(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (a, b, c) = (udp(family)?, udp(family)?, udp(family)?);
    for (fd, port) in [(a, 6800), (b, 6801), (c, 6802)] {
        t.call("bind", bind(fd, &address(loopback(family), port)));
    }
    t.call("connect", connect(a, &address(loopback(family), 6801)));
    t.call("from the peer", send_to(b, b"peer", 0, &address(loopback(family), 6800)));
    t.call("from another", send_to(c, b"other", 0, &address(loopback(family), 6800)));
    t.note("got", receive(a, 100, 0));
    t.note("and", receive(a, 100, libc::MSG_DONTWAIT));
    t.call("to another", send_to(a, b"elsewhere", 0, &address(loopback(family), 6802)));
    t.note("got", receive(c, 100, 0));
    t.call("write", sys!(SYS_write, a, b"written".as_ptr(), 7));
    t.note("got", receive(b, 100, 0));
    // A second socket at the same port gets what is not for the connected one.
    set_number(a, 1, libc::SO_REUSEADDR, 1);
    let d = udp(family)?;
    set_number(d, 1, libc::SO_REUSEADDR, 1);
    t.call("bind beside it", bind(d, &address(loopback(family), 6800)));
    t.call("from another", send_to(c, b"for the second", 0, &address(loopback(family), 6800)));
    t.call("from the peer", send_to(b, b"for the first", 0, &address(loopback(family), 6800)));
    t.note("first", receive(a, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.note("second", receive(d, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    Ok(())
}

fn send_errors(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let fd = udp(family)?;
    let good = address(loopback(family), 6900);
    t.call("send nowhere", send_to(fd, b"x", 0, &[]));
    t.call("send to port 0", send_to(fd, b"x", 0, &address(loopback(family), 0)));
    for length in [1, 2, 8, 15, 16, 23, 24] {
        if length < good.len() {
            t.call(&format!("address of {length} bytes"), send_to(fd, b"x", 0, &good[..length]));
        }
    }
    for other in [0, 1, 2, 10, 17] {
        let mut bytes = good.clone();
        bytes[0] = other;
        t.call(&format!("address of family {other}"), send_to(fd, b"x", 0, &bytes));
    }
    let foreign = if family == V4 { "10.9.9.9" } else { "2001:db8::9" };
    t.call("no route", send_to(fd, b"x", 0, &address(foreign, 6900)));
    t.call("urgent", send_to(fd, b"x", libc::MSG_OOB, &good));
    t.call("bad memory", sys!(SYS_sendto, fd, 8, 10, 0, good.as_ptr(), good.len()));
    t.call("bad address", sys!(SYS_sendto, fd, good.as_ptr(), 1, 0, 8, good.len()));
    if family == V4 {
        t.call("to everyone", send_to(fd, b"x", 0, &address("255.255.255.255", 6900)));
        t.call("to the loopback's broadcast", send_to(fd, b"x", 0, &address("127.255.255.255", 6900)));
        t.call("to nothing", send_to(fd, b"x", 0, &address("0.0.0.0", 6900)));
    } else {
        t.call("to nothing", send_to(fd, b"x", 0, &address("::", 6900)));
    }
    t.call("not routed", send_to(fd, b"x", libc::MSG_DONTROUTE, &good));
    t.call("confirmed", send_to(fd, b"x", libc::MSG_CONFIRM, &good));
    t.call("as a record", send_to(fd, b"x", libc::MSG_EOR, &good));
    Ok(())
}

fn sizes(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (a, b) = (udp(family)?, udp(family)?);
    t.call("bind", bind(a, &address(loopback(family), 7000)));
    let most = if family == V4 { 65_507 } else { 65_527 };
    for size in [0, 1, 1472, 1473, 16_384, 40_000, most, most + 1, 65_535, 65_536, 100_000] {
        t.call(&format!("{size}"), send_to(b, &vec![b'x'; size], 0, &address(loopback(family), 7000)));
        let got = receive(a, 70_000, libc::MSG_DONTWAIT);
        t.note("  got", got.map(|got| (got.count, got.bytes.iter().all(|byte| *byte == b'x'))));
    }
    Ok(())
}

fn receive_flags(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (a, b) = (udp(family)?, udp(family)?);
    let place = address(loopback(family), 7100);
    t.call("bind", bind(a, &place));
    bind(b, &address(loopback(family), 7101));
    t.note("nothing", receive(a, 10, libc::MSG_DONTWAIT));
    for text in ["first", "second", "third", "fourth"] {
        send_to(b, text.as_bytes(), 0, &place);
    }
    t.note("peek", receive(a, 100, libc::MSG_PEEK));
    t.note("peek short", receive(a, 2, libc::MSG_PEEK));
    t.note("peek long", receive(a, 2, libc::MSG_PEEK | libc::MSG_TRUNC));
    t.note("short", receive(a, 2, 0));
    t.note("long", receive(a, 2, libc::MSG_TRUNC));
    t.note("with all", receive(a, 100, libc::MSG_WAITALL));
    t.note("urgent", receive(a, 100, libc::MSG_OOB));
    t.note("nothing in the error queue", receive(a, 100, libc::MSG_ERRQUEUE));
    send_to(b, b"fifth", 0, &place);
    let mut bytes = [0_u8; 10];
    t.call("no room", sys!(SYS_recvfrom, a, bytes.as_mut_ptr(), 0, 0, 0, 0));
    send_to(b, b"sixth", 0, &place);
    t.call("bad memory", sys!(SYS_recvfrom, a, 8, 10, 0, 0, 0));
    t.note("what is left", receive(a, 10, libc::MSG_DONTWAIT));
    send_to(b, b"seventh", 0, &place);
    t.call("read", sys!(SYS_read, a, bytes.as_mut_ptr(), 4));
    t.note("bytes", lossy(&bytes[..4]));
    set_number(a, 1, libc::SO_RCVTIMEO, 0);
    let short = [0_u64, 20_000];
    sys!(SYS_setsockopt, a, 1, libc::SO_RCVTIMEO, short.as_ptr(), 16);
    t.note("after a while", receive(a, 10, 0));
    Ok(())
}

fn peek_offset(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    t.call("bind", bind(a, &address("127.0.0.1", 7200)));
    t.note("at first", get_number(a, 1, libc::SO_PEEK_OFF));
    t.call("from the start", set_number(a, 1, libc::SO_PEEK_OFF, 0));
    for text in ["abcdef", "ghij"] {
        send_to(b, text.as_bytes(), 0, &address("127.0.0.1", 7200));
    }
    for _ in 0..5 {
        t.note("peek", receive(a, 4, libc::MSG_PEEK | libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
        t.note("  offset", get_number(a, 1, libc::SO_PEEK_OFF));
    }
    t.note("read", receive(a, 4, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.note("offset", get_number(a, 1, libc::SO_PEEK_OFF));
    t.note("peek", receive(a, 4, libc::MSG_PEEK | libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    Ok(())
}

fn empty(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (a, b) = (udp(family)?, udp(family)?);
    let place = address(loopback(family), 7300);
    t.call("bind", bind(a, &place));
    t.call("send nothing", send_to(b, b"", 0, &place));
    t.note("poll", poll_events(a));
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT).map(|got| (got.count, got.flags)));
    connect(b, &place);
    t.call("write nothing", sys!(SYS_write, b, place.as_ptr(), 0));
    t.note("poll", poll_events(a));
    t.call("send nothing", sys!(SYS_sendto, b, 0, 0, 0, 0, 0));
    t.note("peek", receive(a, 100, libc::MSG_DONTWAIT | libc::MSG_PEEK).map(|got| got.count));
    t.note("got", receive(a, 0, libc::MSG_DONTWAIT).map(|got| got.count));
    Ok(())
}

fn shutdown(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let fd = udp(family)?;
    for how in [0, 1, 2, 3] {
        t.call(&format!("unconnected {how}"), sys!(SYS_shutdown, fd, how));
    }
    t.note("poll", poll_events(fd));
    bind(fd, &address(loopback(family), 7400));
    t.call("connect", connect(fd, &address(loopback(family), 7400)));
    t.call("send to itself", send_to(fd, b"before", 0, &[]));
    t.call("end reading", sys!(SYS_shutdown, fd, 0));
    t.note("poll", poll_events(fd));
    t.note("got", receive(fd, 100, 0).map(|got| lossy(&got.bytes)));
    t.note("nothing", receive(fd, 100, 0).map(|got| got.count));
    t.note("nothing at once", receive(fd, 100, libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("send", send_to(fd, b"after", 0, &[]));
    t.note("got", receive(fd, 100, 0).map(|got| lossy(&got.bytes)));
    t.call("end writing", sys!(SYS_shutdown, fd, 1));
    t.note("poll", poll_events(fd));
    t.call("send", send_to(fd, b"x", libc::MSG_NOSIGNAL, &[]));
    t.call("connect again", connect(fd, &address(loopback(family), 7400)));
    t.call("send", send_to(fd, b"x", libc::MSG_NOSIGNAL, &[]));
    Ok(())
}

fn poll(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V4)?;
    t.note("fresh", poll_events(fd));
    bind(fd, &address("127.0.0.1", 7500));
    send_to(fd, b"x", 0, &address("127.0.0.1", 7500));
    t.note("readable", poll_events(fd));
    let _ = receive(fd, 10, 0);
    connect(fd, &address("127.0.0.1", 7599));
    send_to(fd, b"x", 0, &[]);
    t.note("refused", poll_events(fd));
    t.note("error", get_number(fd, 1, libc::SO_ERROR));
    t.note("then", poll_events(fd));
    set_number(fd, SOL_IP, 11, 1);
    send_to(fd, b"x", 0, &[]);
    t.note("refused", poll_events(fd));
    t.note("error", get_number(fd, 1, libc::SO_ERROR));
    t.note("then", poll_events(fd));
    set_number(fd, 1, 45, 1);
    t.note("with SO_SELECT_ERR_QUEUE", poll_events(fd));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE).map(|got| got.count));
    t.note("then", poll_events(fd));
    Ok(())
}

fn refused(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let fd = udp(family)?;
    t.call("unconnected", send_to(fd, b"x", 0, &address(loopback(family), 7699)));
    t.note("nothing", receive(fd, 10, libc::MSG_DONTWAIT));
    t.call("connect", connect(fd, &address(loopback(family), 7699)));
    t.call("send", send_to(fd, b"x", 0, &[]));
    t.note("receive", receive(fd, 10, 0));
    t.note("receive again", receive(fd, 10, libc::MSG_DONTWAIT));
    t.call("send", send_to(fd, b"x", 0, &[]));
    t.call("send again", send_to(fd, b"x", 0, &[]));
    t.call("and again", send_to(fd, b"x", 0, &[]));
    t.note("error", get_number(fd, 1, libc::SO_ERROR));
    t.note("error again", get_number(fd, 1, libc::SO_ERROR));
    Ok(())
}

fn error_queue(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (level, name) = if family == V4 { (SOL_IP, 11) } else { (SOL_IPV6, 25) };
    let fd = udp(family)?;
    bind(fd, &address(loopback(family), 7798));
    t.call("on", set_number(fd, level, name, 1));
    t.call("send unconnected", send_to(fd, b"one", 0, &address(loopback(family), 7799)));
    t.note("receive", receive(fd, 10, libc::MSG_DONTWAIT));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE));
    t.note("no other", receive(fd, 10, libc::MSG_ERRQUEUE));
    send_to(fd, b"two", 0, &address(loopback(family), 7799));
    let error = send_to(fd, b"three", 0, &address(loopback(family), 7799));
    t.call("the second", error);
    t.call("the third", send_to(fd, b"four", 0, &address(loopback(family), 7799)));
    t.note("short report", receive(fd, 1, libc::MSG_ERRQUEUE));
    t.note("error", get_number(fd, 1, libc::SO_ERROR));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE | libc::MSG_PEEK));
    t.note("error", get_number(fd, 1, libc::SO_ERROR));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE));
    t.note("no other", receive(fd, 10, libc::MSG_ERRQUEUE));
    t.call("off", set_number(fd, level, name, 0));
    t.note("off", get_number(fd, level, name));
    Ok(())
}

fn unreachable(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let fd = udp(family)?;
    let (level, name) = if family == V4 { (SOL_IP, 11) } else { (SOL_IPV6, 25) };
    let foreign = if family == V4 { "10.9.9.9" } else { "2001:db8::9" };
    set_number(fd, level, name, 1);
    t.call("send", send_to(fd, b"x", 0, &address(foreign, 7800)));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE));
    t.call("too long", send_to(fd, &vec![0; 65_536], 0, &address(loopback(family), 7800)));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE));
    down("lo")?;
    t.call("the loopback is down", send_to(fd, b"x", 0, &address(loopback(family), 7800)));
    let other = udp(family)?;
    t.call("bind while it is down", bind(other, &address(loopback(family), 7801)));
    t.call("connect while it is down", connect(fd, &address(loopback(family), 7801)));
    Ok(())
}

fn told_4(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    bind(a, &address("0.0.0.0", 7900));
    bind(b, &address("127.0.0.1", 7901));
    for (what, name) in [
        ("PKTINFO", 8),
        ("RECVTTL", 12),
        ("RECVTOS", 13),
        ("RECVORIGDSTADDR", 20),
        ("RECVOPTS", 6),
        ("PASSSEC", 18),
    ] {
        t.call(what, set_number(a, SOL_IP, name, 1));
        send_to(b, what.as_bytes(), 0, &address("127.0.0.1", 7900));
        t.note("  got", receive(a, 100, 0));
        set_number(a, SOL_IP, name, 0);
    }
    for name in [8, 12, 13, 20] {
        set_number(a, SOL_IP, name, 1);
    }
    set_number(b, SOL_IP, 1, 0x2c);
    set_number(b, SOL_IP, 2, 7);
    send_to(b, b"all", 0, &address("127.0.0.5", 7900));
    t.note("all", receive(a, 100, 0));
    Ok(())
}

fn told_6(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V6)?, udp(V6)?);
    bind(a, &address("::", 7900));
    bind(b, &address("::1", 7901));
    for (what, name) in [
        ("RECVPKTINFO", 49),
        ("2292PKTINFO", 2),
        ("RECVHOPLIMIT", 51),
        ("2292HOPLIMIT", 8),
        ("RECVTCLASS", 66),
        ("RECVORIGDSTADDR", 74),
    ] {
        t.call(what, set_number(a, SOL_IPV6, name, 1));
        send_to(b, what.as_bytes(), 0, &address("::1", 7900));
        t.note("  got", receive(a, 100, 0));
        set_number(a, SOL_IPV6, name, 0);
    }
    // The label is made of who talks to whom, with a secret.
    t.call("FLOWINFO", set_number(a, SOL_IPV6, 11, 1));
    send_to(b, b"FLOWINFO", 0, &address("::1", 7900));
    let got = receive(a, 100, 0);
    t.note(
        "  got",
        got.map(|got| got.control.iter().map(|one| (one.0, one.1, one.2.len())).collect::<Vec<_>>()),
    );
    set_number(a, SOL_IPV6, 11, 0);
    for name in [49, 51, 66, 74] {
        set_number(a, SOL_IPV6, name, 1);
    }
    set_number(b, SOL_IPV6, 67, 0x2c);
    set_number(b, SOL_IPV6, 16, 7);
    send_to(b, b"all", 0, &address("::1", 7900));
    t.note("all", receive(a, 100, 0));
    Ok(())
}

fn told_mapped(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V6)?, udp(V4)?);
    bind(a, &address("::", 7900));
    bind(b, &address("127.0.0.1", 7901));
    for name in [49, 51, 66, 74] {
        set_number(a, SOL_IPV6, name, 1);
    }
    send_to(b, b"of IPv6", 0, &address("127.0.0.1", 7900));
    t.note("got", receive(a, 100, 0));
    for name in [8, 12, 13, 20] {
        t.call(&format!("SOL_IP {name}"), set_number(a, SOL_IP, name, 1));
    }
    send_to(b, b"of both", 0, &address("127.0.0.1", 7900));
    t.note("got", receive(a, 100, 0));
    Ok(())
}

fn control_4(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 8000);
    bind(a, &address("0.0.0.0", 8000));
    bind(b, &address("0.0.0.0", 8001));
    for name in [8, 12, 13] {
        set_number(a, SOL_IP, name, 1);
    }
    let info = |index: i32, from: [u8; 4]| [&index.to_ne_bytes()[..], &from, &[0; 4]].concat();
    let number = |value: i32| value.to_ne_bytes().to_vec();
    for (what, kind, data) in [
        ("source", 8, info(0, [127, 0, 0, 9])),
        ("foreign source", 8, info(0, [10, 9, 9, 9])),
        ("interface", 8, info(1, [0; 4])),
        ("no interface", 8, info(99, [0; 4])),
        ("short info", 8, vec![0; 8]),
        ("long info", 8, vec![0; 16]),
        ("ttl", 2, number(9)),
        ("ttl 0", 2, number(0)),
        ("ttl 256", 2, number(256)),
        ("ttl of a byte", 2, vec![9]),
        ("tos", 1, number(0x10)),
        ("tos of a byte", 1, vec![0x20]),
        ("tos 256", 1, number(256)),
        ("tos -1", 1, number(-1)),
        ("tos of two bytes", 1, vec![0, 0]),
        ("protocol", 52, number(17)),
        ("unknown", 99, number(1)),
    ] {
        let sent = send_control(b, what.as_bytes(), &place, &cmsg(SOL_IP, kind, &data), 0);
        t.call(what, sent);
        if sent >= 0 {
            t.note("  got", receive(a, 100, libc::MSG_DONTWAIT));
        }
    }
    Ok(())
}

fn control_6(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V6)?, udp(V6)?);
    let place = address("::1", 8000);
    bind(a, &address("::", 8000));
    bind(b, &address("::", 8001));
    for name in [49, 51, 66] {
        set_number(a, SOL_IPV6, name, 1);
    }
    let info = |from: &str, index: i32| {
        let from: std::net::Ipv6Addr = from.parse().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED);
        [&from.octets()[..], &index.to_ne_bytes()].concat()
    };
    let number = |value: i32| value.to_ne_bytes().to_vec();
    for (what, kind, data) in [
        ("source", 50, info("::1", 0)),
        ("foreign source", 50, info("2001:db8::9", 0)),
        ("link-local source", 50, info("fe80::9", 0)),
        ("interface", 50, info("::", 1)),
        ("no interface", 50, info("::", 99)),
        ("short info", 50, vec![0; 8]),
        ("hops", 52, number(9)),
        ("hops 0", 52, number(0)),
        ("hops -1", 52, number(-1)),
        ("hops 256", 52, number(256)),
        ("hops of a byte", 52, vec![9]),
        ("class", 67, number(0x10)),
        ("class -1", 67, number(-1)),
        ("class 256", 67, number(256)),
        ("dontfrag", 62, number(1)),
        ("dontfrag 2", 62, number(2)),
        ("unknown", 99, number(1)),
    ] {
        let sent = send_control(b, what.as_bytes(), &place, &cmsg(SOL_IPV6, kind, &data), 0);
        t.call(what, sent);
        if sent >= 0 {
            t.note("  got", receive(a, 100, libc::MSG_DONTWAIT));
        }
    }
    Ok(())
}

fn control_socket(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 8100);
    bind(a, &place);
    bind(b, &address("127.0.0.1", 8101));
    t.call("SO_RCVMARK", set_number(a, 1, 75, 1));
    let number = |value: i32| value.to_ne_bytes().to_vec();
    for (what, level, kind, data) in [
        ("mark", 1, libc::SO_MARK, number(77)),
        ("short mark", 1, libc::SO_MARK, vec![1]),
        ("rights", 1, 1, number(0)),
        ("another of SOL_SOCKET", 1, 99, number(0)),
        ("another level", 99, 1, number(0)),
        ("of IPv6", SOL_IPV6, 52, number(5)),
    ] {
        let sent = send_control(b, what.as_bytes(), &place, &cmsg(level, kind, &data), 0);
        t.call(what, sent);
        if sent >= 0 {
            t.note("  got", receive(a, 100, libc::MSG_DONTWAIT));
        }
    }
    Ok(())
}

/// Every option of a level: its value at first, and what it is after 0, 1, 2, 255, 256 and -1.
fn options(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let level = if family == V4 { SOL_IP } else { SOL_IPV6 };
    let names: Vec<i32> = if family == V4 {
        vec![1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22, 23, 24, 25, 26, 33, 34, 49]
    } else {
        vec![2, 8, 11, 16, 18, 19, 23, 24, 25, 26, 29, 31, 33, 49, 51, 60, 62, 66, 67, 70, 73, 74, 75, 77, 78]
    };
    for name in names {
        let fd = udp(family)?;
        t.note(&format!("{name} at first"), get_number(fd, level, name));
        for value in [0, 1, 2, 255, 256, -1] {
            let done = set_number(fd, level, name, value);
            t.call(&format!("  {value}"), done);
            if done == 0 {
                t.note("    is", get_number(fd, level, name));
            }
        }
        close(fd);
    }
    for name in [0, 30, 99, 255, -1] {
        let fd = udp(family)?;
        t.note(&format!("unknown {name}"), get_number(fd, level, name));
        t.call("  set", set_number(fd, level, name, 1));
        close(fd);
    }
    Ok(())
}

fn options_of_both(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (four, six) = (udp(V4)?, udp(V6)?);
    for (what, fd, level, name) in [
        ("IP_TTL of IPv6", six, SOL_IP, 2),
        ("IP_TOS of IPv6", six, SOL_IP, 1),
        ("IP_PKTINFO of IPv6", six, SOL_IP, 8),
        ("IPV6_V6ONLY of IPv4", four, SOL_IPV6, 26),
        ("IPV6_UNICAST_HOPS of IPv4", four, SOL_IPV6, 16),
        ("a level of nobody", four, 99, 1),
        ("SOL_TCP", four, 6, 1),
        ("SOL_RAW", four, 255, 1),
        ("SOL_UDP of IPv6", six, 17, 1),
    ] {
        t.note(what, get_number(fd, level, name));
        t.call("  set", set_number(fd, level, name, 5));
        t.note("  is", get_number(fd, level, name));
    }
    Ok(())
}

fn option_values_4(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V4)?;
    for (name, values) in [
        (1, &[0x10, 0x03, 0xfc, 0x1ff][..]),
        (2, &[1, 64, 255]),
        (10, &[0, 1, 2, 3, 4, 5, 6]),
        (21, &[0, 1, 255, 256]),
        (33, &[0, 1, 255, 256, -1]),
        (50, &[0, 0x0100_0000, 0x6300_0000]),
    ] {
        for value in values {
            t.call(&format!("{name} {value}"), set_number(fd, SOL_IP, name, *value));
            t.note("  is", get_number(fd, SOL_IP, name));
        }
    }
    for value in [&[127, 0, 0, 1][..], &[0; 4], &[10, 9, 9, 9], &[0; 8], &[0; 12], &[1, 2]] {
        t.call(&format!("IP_MULTICAST_IF {value:?}"), set(fd, SOL_IP, 32, value));
        t.note("  is", get(fd, SOL_IP, 32, 4));
    }
    let by_index = |index: i32| [&[0; 8][..], &index.to_ne_bytes()].concat();
    for index in [1, 0, 99] {
        t.call(&format!("IP_MULTICAST_IF {index}"), set(fd, SOL_IP, 32, &by_index(index)));
    }
    t.note("IP_MTU unconnected", get_number(fd, SOL_IP, 14));
    connect(fd, &address("127.0.0.1", 9));
    t.note("IP_MTU", get_number(fd, SOL_IP, 14));
    t.note("IP_OPTIONS", get(fd, SOL_IP, 4, 40));
    Ok(())
}

fn option_values_6(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V6)?;
    for (name, values) in [
        (16, &[-1, 0, 64, 255, 256, -2][..]),
        (18, &[-1, 0, 64, 255, 256, -2]),
        (67, &[-1, 0, 0x10, 255, 256, -2]),
        (23, &[0, 1, 2, 3, 4, 5, 6]),
        (24, &[0, 1280, 1279, 9000]),
        (17, &[0, 1, 99, -1]),
        (19, &[0, 1, 2]),
        (29, &[0, 1, 2]),
        (76, &[0, 0x0100_0000, 0x6300_0000]),
    ] {
        for value in values {
            t.call(&format!("{name} {value}"), set_number(fd, SOL_IPV6, name, *value));
            t.note("  is", get_number(fd, SOL_IPV6, name));
        }
    }
    t.note("IPV6_MTU unconnected", get_number(fd, SOL_IPV6, 24));
    connect(fd, &address("::1", 9));
    t.note("IPV6_MTU", get_number(fd, SOL_IPV6, 24));
    Ok(())
}

fn option_lengths(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (four, six) = (udp(V4)?, udp(V6)?);
    for length in [0, 1, 2, 3, 4, 8] {
        let value = vec![5; length];
        t.call(&format!("IP_TTL of {length}"), set(four, SOL_IP, 2, &value));
        t.call(&format!("IP_TOS of {length}"), set(four, SOL_IP, 1, &value));
        t.call(&format!("IP_PKTINFO of {length}"), set(four, SOL_IP, 8, &value));
        t.call(&format!("IP_MULTICAST_TTL of {length}"), set(four, SOL_IP, 33, &value));
        t.call(&format!("IP_MULTICAST_LOOP of {length}"), set(four, SOL_IP, 34, &value));
        t.call(&format!("IPV6_UNICAST_HOPS of {length}"), set(six, SOL_IPV6, 16, &value));
        t.call(&format!("IPV6_RECVPKTINFO of {length}"), set(six, SOL_IPV6, 49, &value));
        t.call(&format!("UDP_CORK of {length}"), set(four, 17, 1, &vec![0; length]));
    }
    set_number(four, SOL_IP, 2, 64);
    for room in [0, 1, 2, 3, 4, 8] {
        t.note(&format!("IP_TTL into {room}"), get(four, SOL_IP, 2, room));
        t.note(&format!("IPV6_UNICAST_HOPS into {room}"), get(six, SOL_IPV6, 16, room));
        t.note(&format!("UDP_CORK into {room}"), get(four, 17, 1, room));
    }
    Ok(())
}

fn privileged(t: &mut Transcript) -> Outcome {
    isolated()?;
    let status = in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        let (Ok(four), Ok(six)) = (udp(V4), udp(V6)) else { return 99 };
        let refused = |result: i64, error: i32| result == -1 && crate::sys::errno() == error;
        let all = [
            refused(set_number(four, SOL_IP, 19, 1), libc::EPERM),
            refused(set_number(six, SOL_IPV6, 75, 1), libc::EPERM),
            refused(bind(four, &address("127.0.0.1", 80)), libc::EACCES),
            refused(bind(six, &address("::1", 1023)), libc::EACCES),
            set_number(four, SOL_IP, 15, 1) == 0,
            refused(set_number(four, 1, libc::SO_MARK, 1), libc::EPERM),
            set_number(four, 1, libc::SO_PRIORITY, 6) == 0,
            refused(set_number(four, 1, libc::SO_PRIORITY, 7), libc::EPERM),
            set_number(four, SOL_IP, 19, 0) == 0,
        ];
        all.iter().enumerate().fold(0, |bits, (place, fine)| bits | i32::from(!fine) << place)
    })?;
    t.note("unexpected answers", status);
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "79");
    let status = in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        let (Ok(one), Ok(other)) = (udp(V4), udp(V4)) else { return 99 };
        let bound = bind(one, &address("127.0.0.1", 79)) == 0;
        let below = bind(other, &address("127.0.0.1", 78)) == -1;
        i32::from(!bound) | i32::from(!below) << 1
    })?;
    t.note("with another limit", status);
    Ok(())
}

fn cork(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (a, b) = (udp(family)?, udp(family)?);
    let place = address(loopback(family), 8200);
    bind(a, &place);
    t.call("more", send_to(b, b"one ", libc::MSG_MORE, &place));
    t.note("nothing yet", receive(a, 100, libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("more to another", send_to(b, b"two ", libc::MSG_MORE, &address(loopback(family), 8299)));
    t.call("the last", send_to(b, b"three", 0, &place));
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.call("cork", set_number(b, 17, 1, 1));
    t.note("corked", get_number(b, 17, 1));
    connect(b, &place);
    t.call("send", send_to(b, b"four ", 0, &[]));
    t.call("send", send_to(b, b"five", 0, &[]));
    t.note("nothing yet", receive(a, 100, libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("too long", send_to(b, &vec![0; 65_530], 0, &[]));
    t.call("uncork", set_number(b, 17, 1, 0));
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.call("uncork nothing", set_number(b, 17, 1, 0));
    t.call("more", send_to(b, b"", libc::MSG_MORE, &[]));
    t.call("the last", send_to(b, b"x", 0, &[]));
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    Ok(())
}

fn segments(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let (a, b) = (udp(family)?, udp(family)?);
    let place = address(loopback(family), 8300);
    bind(a, &place);
    t.note("at first", get_number(b, 17, 103));
    for value in [-1, 65_536, 1000] {
        t.call(&format!("UDP_SEGMENT {value}"), set_number(b, 17, 103, value));
    }
    t.note("is", get_number(b, 17, 103));
    t.call("send", send_to(b, &vec![b'x'; 2500], 0, &place));
    for _ in 0..4 {
        t.note("got", receive(a, 70_000, libc::MSG_DONTWAIT).map(|got| got.count));
    }
    t.call("off", set_number(b, 17, 103, 0));
    let sizes = |size: u16| cmsg(17, 103, &size.to_ne_bytes());
    t.call("by a message", send_control(b, &[b'y'; 100], &place, &sizes(60), 0));
    for _ in 0..3 {
        t.note("got", receive(a, 70_000, libc::MSG_DONTWAIT).map(|got| got.count));
    }
    t.call("of a wrong length", send_control(b, b"z", &place, &cmsg(17, 103, &[1, 0, 0, 0]), 0));
    t.call("unknown", send_control(b, b"z", &place, &cmsg(17, 99, &[1, 0]), 0));
    t.call("too many", send_control(b, &[b'y'; 200], &place, &sizes(1), 0));
    Ok(())
}

fn udp_options(t: &mut Transcript) -> Outcome {
    isolated()?;
    for family in [V4, V6] {
        let fd = udp(family)?;
        for name in [1, 100, 101, 102, 103, 104, 0, 99] {
            t.note(&format!("{name}"), get_number(fd, 17, name));
        }
        for (name, value) in [(101, 1), (102, 1), (104, 1), (104, 2), (0, 1), (99, 1)] {
            t.call(&format!("{name} to {value}"), set_number(fd, 17, name, value));
            t.note("  is", get_number(fd, 17, name));
        }
    }
    Ok(())
}

fn path_mtu(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let mut netlink = crate::netlink::Socket::route()?;
    let mtu = crate::netlink::Builder::link(1, 0, 0).number(4, 1500);
    t.note("mtu 1500", netlink.errno(crate::netlink::SETLINK, 0, &mtu));
    let (level, mode, errors) = if family == V4 { (SOL_IP, 10, 11) } else { (SOL_IPV6, 23, 25) };
    let (a, b) = (udp(family)?, udp(family)?);
    let place = address(loopback(family), 8400);
    bind(a, &place);
    set_number(b, level, errors, 1);
    let fits = if family == V4 { 1472 } else { 1452 };
    for value in 0..=5 {
        t.call(&format!("mode {value}"), set_number(b, level, mode, value));
        for size in [fits, fits + 1, 4000] {
            t.call(&format!("  send {size}"), send_to(b, &vec![b'x'; size], 0, &place));
            t.note("    got", receive(a, 70_000, libc::MSG_DONTWAIT).map(|got| got.count));
            t.note("    report", receive(b, 10, libc::MSG_ERRQUEUE));
        }
    }
    if family == V6 {
        t.call("mode 1", set_number(b, level, mode, 1));
        t.call("dontfrag", set_number(b, level, 62, 1));
        t.call("send", send_to(b, &vec![b'x'; fits + 1], 0, &place));
    }
    Ok(())
}

fn foreign_bind(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let foreign = if family == V4 { "10.9.9.9" } else { "2001:db8::9" };
    let (level, free, transparent, file) = if family == V4 {
        (SOL_IP, 15, 19, "/proc/sys/net/ipv4/ip_nonlocal_bind")
    } else {
        (SOL_IPV6, 78, 75, "/proc/sys/net/ipv6/ip_nonlocal_bind")
    };
    for (what, name) in [("freebind", free), ("transparent", transparent)] {
        let fd = udp(family)?;
        t.call("plain", bind(fd, &address(foreign, 8500)));
        t.call(what, set_number(fd, level, name, 1));
        t.call("bind", bind(fd, &address(foreign, 8500)));
        t.note("name", local(fd));
        close(fd);
    }
    let fd = udp(family)?;
    t.note("sysctl", std::fs::write(file, "1").is_ok());
    t.call("bind", bind(fd, &address(foreign, 8500)));
    Ok(())
}

fn device(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let place = address(loopback(family), 8600);
    let (a, b, sender) = (udp(family)?, udp(family)?, udp(family)?);
    t.call("no such interface", set(a, 1, libc::SO_BINDTODEVICE, b"none\0"));
    t.call("to lo", set(a, 1, libc::SO_BINDTODEVICE, b"lo\0"));
    t.note("index", get_number(a, 1, 62));
    t.note("name", get(a, 1, libc::SO_BINDTODEVICE, 16));
    t.note("name into 4", get(a, 1, libc::SO_BINDTODEVICE, 4));
    t.call("bind", bind(a, &place));
    t.call("bind another", bind(b, &place));
    set_number(b, 1, libc::SO_REUSEADDR, 1);
    set_number(a, 1, libc::SO_REUSEADDR, 1);
    t.call("bind it reusing", bind(b, &place));
    send_to(sender, b"x", 0, &place);
    t.note("bound", receive(a, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    t.note("unbound", receive(b, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("to none", set(a, 1, libc::SO_BINDTODEVICE, b"\0"));
    t.note("index", get_number(a, 1, 62));
    t.call("by a bad index", set_number(a, 1, 62, 99));
    t.call("by a negative index", set_number(a, 1, 62, -1));
    Ok(())
}

/// Which of the sockets at one port gets a datagram.
fn choice(t: &mut Transcript) -> Outcome {
    isolated()?;
    let place = address("127.0.0.1", 8700);
    let sender = udp(V4)?;
    bind(sender, &address("127.0.0.1", 8701));
    let mut all = Vec::new();
    let try_it = |t: &mut Transcript, what: &str, all: &[(i32, &str)]| {
        send_to(sender, b"x", 0, &place);
        let who: Vec<&str> = all
            .iter()
            .filter(|(fd, _)| receive(*fd, 10, libc::MSG_DONTWAIT).is_ok())
            .map(|(_, name)| *name)
            .collect();
        t.note(what, who);
    };
    let fresh = |family| {
        udp(family).inspect(|fd| {
            set_number(*fd, 1, libc::SO_REUSEADDR, 1);
        })
    };
    let dual = fresh(V6)?;
    bind(dual, &address("::", 8700));
    all.push((dual, "all of both families"));
    try_it(t, "one", &all);
    let wild = fresh(V4)?;
    bind(wild, &address("0.0.0.0", 8700));
    all.push((wild, "all"));
    try_it(t, "two", &all);
    let second = fresh(V4)?;
    bind(second, &address("0.0.0.0", 8700));
    all.push((second, "all, later"));
    try_it(t, "three", &all);
    let own = fresh(V4)?;
    bind(own, &place);
    all.push((own, "own"));
    try_it(t, "four", &all);
    let bound = fresh(V4)?;
    set(bound, 1, libc::SO_BINDTODEVICE, b"lo\0");
    bind(bound, &place);
    all.push((bound, "own and interface"));
    try_it(t, "five", &all);
    let connected = fresh(V4)?;
    bind(connected, &place);
    connect(connected, &address("127.0.0.1", 8701));
    all.push((connected, "connected"));
    try_it(t, "six", &all);
    close(connected);
    all.pop();
    try_it(t, "without it", &all);
    Ok(())
}

fn broadcast(t: &mut Transcript) -> Outcome {
    isolated()?;
    let everyone = address("127.255.255.255", 8800);
    let (a, b, own, sender) = (udp(V4)?, udp(V4)?, udp(V4)?, udp(V4)?);
    for fd in [a, b, own] {
        set_number(fd, 1, libc::SO_REUSEADDR, 1);
    }
    t.call("bind", bind(a, &address("0.0.0.0", 8800)));
    t.call("bind", bind(b, &everyone));
    t.note("name", local(b));
    t.call("bind", bind(own, &address("127.0.0.1", 8800)));
    t.call("send", send_to(sender, b"x", 0, &everyone));
    t.call("allow", set_number(sender, 1, libc::SO_BROADCAST, 1));
    t.call("send", send_to(sender, b"to all", 0, &everyone));
    set_number(a, SOL_IP, 8, 1);
    t.call("send", send_to(sender, b"again", 0, &everyone));
    for fd in [a, a, b, b, own] {
        let got = receive(fd, 100, libc::MSG_DONTWAIT);
        t.note("got", got.map(|got| (lossy(&got.bytes), got.control)));
    }
    Ok(())
}

fn mreq(group: &str, at: &str, index: Option<i32>) -> Vec<u8> {
    let octets = |text: &str| address(text, 0)[4..8].to_vec();
    let mut bytes = [octets(group), octets(at)].concat();
    bytes.extend(index.map(i32::to_ne_bytes).unwrap_or_default().iter().take(if index.is_some() {
        4
    } else {
        0
    }));
    bytes
}

fn mreq6(group: &str, index: i32) -> Vec<u8> {
    [&address(group, 0)[8..24], &index.to_ne_bytes()].concat()
}

fn multicast_errors_4(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V4)?;
    let join = |request: &[u8]| set(fd, SOL_IP, 35, request);
    let leave = |request: &[u8]| set(fd, SOL_IP, 36, request);
    t.call("no route", join(&mreq(GROUP_4, "0.0.0.0", None)));
    t.call("no group", join(&mreq("10.1.2.3", "0.0.0.0", None)));
    t.call("too short", join(&[224, 1, 2, 3]));
    t.call("a foreign address", join(&mreq(GROUP_4, "10.9.9.9", None)));
    t.call("no interface", join(&mreq(GROUP_4, "0.0.0.0", Some(99))));
    t.call("not in it", leave(&mreq(GROUP_4, "0.0.0.0", Some(1))));
    t.call("join", join(&mreq(GROUP_4, "0.0.0.0", Some(1))));
    t.call("again", join(&mreq(GROUP_4, "127.0.0.1", None)));
    t.call("leave", leave(&mreq(GROUP_4, "127.0.0.1", None)));
    t.call("leave again", leave(&mreq(GROUP_4, "127.0.0.1", None)));
    t.call("join by an address", join(&mreq(GROUP_4, "127.0.0.1", None)));
    t.call("leave anywhere", leave(&mreq(GROUP_4, "0.0.0.0", None)));
    let mut last = 0;
    for number in 0..25 {
        let group = format!("224.2.2.{number}");
        if join(&mreq(&group, "0.0.0.0", Some(1))) != 0 {
            last = crate::sys::errno();
            t.note("how many", number);
            break;
        }
    }
    t.note("then", last);
    Ok(())
}

fn multicast_errors_6(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = udp(V6)?;
    let join = |request: &[u8]| set(fd, SOL_IPV6, 20, request);
    let leave = |request: &[u8]| set(fd, SOL_IPV6, 21, request);
    t.call("no group", join(&mreq6("2001:db8::1", 1)));
    t.call("too short", join(&[0; 16]));
    t.call("no interface", join(&mreq6(GROUP_6, 99)));
    t.call("not in it", leave(&mreq6(GROUP_6, 1)));
    t.call("join", join(&mreq6(GROUP_6, 1)));
    t.call("again", join(&mreq6(GROUP_6, 1)));
    t.call("leave", leave(&mreq6(GROUP_6, 1)));
    t.call("leave again", leave(&mreq6(GROUP_6, 1)));
    t.call("join", join(&mreq6(GROUP_6, 1)));
    t.call("leave anywhere", leave(&mreq6(GROUP_6, 0)));
    Ok(())
}

fn multicast_4(t: &mut Transcript) -> Outcome {
    isolated()?;
    let place = address(GROUP_4, 8900);
    let (member, other, elsewhere, sender) = (udp(V4)?, udp(V4)?, udp(V4)?, udp(V4)?);
    for fd in [member, other, elsewhere] {
        set_number(fd, 1, libc::SO_REUSEADDR, 1);
    }
    bind(member, &address("0.0.0.0", 8900));
    bind(other, &place);
    bind(elsewhere, &address("127.0.0.1", 8900));
    let by_index = [&[0; 8][..], &1_i32.to_ne_bytes()].concat();
    t.call("send through lo", set(sender, SOL_IP, 32, &by_index));
    bind(sender, &address("127.0.0.1", 8901));
    t.call("send", send_to(sender, b"before", 0, &place));
    t.note("member", receive(member, 100, libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("join", set(member, SOL_IP, 35, &mreq(GROUP_4, "0.0.0.0", Some(1))));
    set_number(member, SOL_IP, 8, 1);
    set_number(member, SOL_IP, 12, 1);
    t.call("send", send_to(sender, b"after", 0, &place));
    for fd in [member, other, elsewhere] {
        t.note("got", receive(fd, 100, libc::MSG_DONTWAIT));
    }
    t.call("loop off", set_number(sender, SOL_IP, 34, 0));
    t.call("send", send_to(sender, b"not looped", 0, &place));
    t.note("member", receive(member, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.call("ttl", set_number(sender, SOL_IP, 33, 5));
    set_number(sender, SOL_IP, 34, 1);
    t.call("send", send_to(sender, b"far", 0, &place));
    t.note("member", receive(member, 100, libc::MSG_DONTWAIT).map(|got| got.control));
    t.call("leave", set(member, SOL_IP, 36, &mreq(GROUP_4, "0.0.0.0", Some(1))));
    let _ = receive(other, 100, libc::MSG_DONTWAIT);
    Ok(())
}

fn multicast_6(t: &mut Transcript) -> Outcome {
    isolated()?;
    let place = address(GROUP_6, 8900);
    let (member, other, sender) = (udp(V6)?, udp(V6)?, udp(V6)?);
    for fd in [member, other] {
        set_number(fd, 1, libc::SO_REUSEADDR, 1);
    }
    bind(member, &address("::", 8900));
    bind(other, &address("::1", 8900));
    t.call("send through lo", set_number(sender, SOL_IPV6, 17, 1));
    bind(sender, &address("::1", 8901));
    t.call("join", set(member, SOL_IPV6, 20, &mreq6(GROUP_6, 1)));
    set_number(member, SOL_IPV6, 49, 1);
    set_number(member, SOL_IPV6, 51, 1);
    t.call("send", send_to(sender, b"after", 0, &place));
    for fd in [member, other] {
        t.note("got", receive(fd, 100, libc::MSG_DONTWAIT));
    }
    t.call("hops", set_number(sender, SOL_IPV6, 18, 5));
    t.call("send", send_to(sender, b"far", 0, &place));
    t.note("member", receive(member, 100, libc::MSG_DONTWAIT).map(|got| got.control));
    t.call("leave", set(member, SOL_IPV6, 21, &mreq6(GROUP_6, 1)));
    Ok(())
}

fn multicast_sources(t: &mut Transcript) -> Outcome {
    isolated()?;
    let place = address(GROUP_4, 9000);
    let (member, sender) = (udp(V4)?, udp(V4)?);
    bind(member, &address("0.0.0.0", 9000));
    let by_index = [&[0; 8][..], &1_i32.to_ne_bytes()].concat();
    set(sender, SOL_IP, 32, &by_index);
    bind(sender, &address("127.0.0.1", 9001));
    let octets = |text: &str| address(text, 0)[4..8].to_vec();
    let source = |from: &str| [octets(GROUP_4), octets("127.0.0.1"), octets(from)].concat();
    let hears = |t: &mut Transcript| {
        send_to(sender, b"x", 0, &place);
        t.note("  hears", receive(member, 100, libc::MSG_DONTWAIT).map(|got| got.count));
    };
    for (what, name, from) in [
        ("block before joining", 38, "127.0.0.1"),
        ("add a source", 39, "127.0.0.1"),
        ("add it again", 39, "127.0.0.1"),
        ("add another", 39, "127.0.0.2"),
        ("drop one", 40, "127.0.0.1"),
        ("drop it again", 40, "127.0.0.1"),
        ("block while including", 38, "127.0.0.3"),
        ("drop the last", 40, "127.0.0.2"),
        ("drop after the last", 40, "127.0.0.2"),
    ] {
        t.call(what, set(member, SOL_IP, name, &source(from)));
        hears(t);
    }
    t.call("join", set(member, SOL_IP, 35, &mreq(GROUP_4, "127.0.0.1", None)));
    hears(t);
    for (what, name, from) in [
        ("block", 38, "127.0.0.1"),
        ("block again", 38, "127.0.0.1"),
        ("unblock", 37, "127.0.0.1"),
        ("unblock again", 37, "127.0.0.1"),
        ("add a source while excluding", 39, "127.0.0.1"),
        ("too short", 38, "127.0.0.1"),
    ] {
        let request = source(from);
        let request = if what == "too short" { &request[..8] } else { &request[..] };
        t.call(what, set(member, SOL_IP, name, request));
        hears(t);
    }
    Ok(())
}

fn multicast_all(t: &mut Transcript) -> Outcome {
    isolated()?;
    let place = address(GROUP_4, 9100);
    let (member, stranger, sender) = (udp(V4)?, udp(V4)?, udp(V4)?);
    for fd in [member, stranger] {
        set_number(fd, 1, libc::SO_REUSEADDR, 1);
        bind(fd, &address("0.0.0.0", 9100));
    }
    let by_index = [&[0; 8][..], &1_i32.to_ne_bytes()].concat();
    set(sender, SOL_IP, 32, &by_index);
    t.call("join", set(member, SOL_IP, 35, &mreq(GROUP_4, "127.0.0.1", None)));
    send_to(sender, b"x", 0, &place);
    for fd in [member, stranger] {
        t.note("hears", receive(fd, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    }
    t.call("IP_MULTICAST_ALL off", set_number(stranger, SOL_IP, 49, 0));
    send_to(sender, b"x", 0, &place);
    for fd in [member, stranger] {
        t.note("hears", receive(fd, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    }
    close(member);
    send_to(sender, b"x", 0, &place);
    t.note("hears", receive(stranger, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    Ok(())
}

fn overflow(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 9200);
    bind(a, &place);
    t.call("least buffer", set_number(a, 1, libc::SO_RCVBUF, 1));
    t.note("is", get_number(a, 1, libc::SO_RCVBUF));
    t.call("tell of drops", set_number(a, 1, 40, 1));
    for _ in 0..20 {
        send_to(b, &[b'x'; 100], 0, &place);
    }
    let mut count = 0;
    while receive(a, 200, libc::MSG_DONTWAIT).is_ok() {
        count += 1;
    }
    t.note("of 20 small ones", count);
    send_to(b, b"last", 0, &place);
    t.note("drops", receive(a, 10, libc::MSG_DONTWAIT).map(|got| got.control));
    send_to(b, &[b'x'; 10_000], 0, &place);
    t.note("one larger than the buffer", receive(a, 20_000, libc::MSG_DONTWAIT).map(|got| got.count));
    Ok(())
}

fn attach(fd: i32, program: &[(u16, u8, u8, u32)]) -> i64 {
    let text: Vec<u8> = program
        .iter()
        .flat_map(|(code, yes, no, k)| [&code.to_ne_bytes()[..], &[*yes, *no], &k.to_ne_bytes()].concat())
        .collect();
    let header = [program.len() as u64, text.as_ptr() as u64];
    let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    set(fd, 1, libc::SO_ATTACH_FILTER, &bytes)
}

fn filters(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 9300);
    bind(a, &place);
    bind(b, &address("127.0.0.1", 9301));
    // Only what begins with 'y' behind the header.
    let first = [(0x30, 0, 0, 8), (0x15, 0, 1, u32::from(b'y')), (0x06, 0, 0, u32::MAX), (0x06, 0, 0, 0)];
    t.call("attach", attach(a, &first));
    for text in ["no", "yes"] {
        send_to(b, text.as_bytes(), 0, &place);
    }
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.note("no more", receive(a, 100, libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("cut to 10", attach(a, &[(0x06, 0, 0, 10)]));
    send_to(b, b"abcdef", 0, &place);
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT));
    t.call("cut to 3", attach(a, &[(0x06, 0, 0, 3)]));
    send_to(b, b"abcdef", 0, &place);
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT));
    // The protocol of the IP header, from the network's start.
    let network = [(0x30, 0, 0, 0xfff0_0009), (0x15, 0, 1, 17), (0x06, 0, 0, u32::MAX), (0x06, 0, 0, 0)];
    t.call("by the network header", attach(a, &network));
    send_to(b, b"network", 0, &place);
    t.note("got", receive(a, 100, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    t.call("detach", set_number(a, 1, libc::SO_DETACH_FILTER, 0));
    Ok(())
}

fn ioctls(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 9400);
    bind(a, &place);
    let ask = |fd: i32, command: u64| {
        let mut value = -7_i32;
        let result = sys!(SYS_ioctl, fd, command, &raw mut value);
        if result == -1 { Err(std::io::Error::last_os_error().to_string()) } else { Ok(value) }
    };
    t.note("FIONREAD", ask(a, 0x541b));
    t.note("TIOCOUTQ", ask(a, 0x5411));
    for text in ["first", "second one"] {
        send_to(b, text.as_bytes(), 0, &place);
    }
    t.note("FIONREAD", ask(a, 0x541b));
    let _ = receive(a, 2, 0);
    t.note("FIONREAD", ask(a, 0x541b));
    t.note("TIOCOUTQ", ask(b, 0x5411));
    t.note("SIOCATMARK", ask(a, 0x8905));
    t.note("unknown", ask(a, 0x5499));
    t.call("bad memory", sys!(SYS_ioctl, a, 0x541b, 8));
    Ok(())
}

fn many_messages(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 9500);
    bind(a, &place);
    connect(b, &place);
    let pieces: Vec<[u64; 2]> =
        ["one", "three", "seven"].iter().map(|text| [text.as_ptr() as u64, text.len() as u64]).collect();
    let mut headers: Vec<[u64; 8]> =
        pieces.iter().map(|piece| [0, 0, piece.as_ptr() as u64, 1, 0, 0, 0, 0]).collect();
    t.call("sendmmsg", sys!(SYS_sendmmsg, b, headers.as_mut_ptr(), 3, 0));
    t.note("lengths", headers.iter().map(|header| header[7]).collect::<Vec<_>>());
    let mut room = [[0_u8; 10]; 4];
    let pieces: Vec<[u64; 2]> = room.iter_mut().map(|room| [room.as_mut_ptr() as u64, 10]).collect();
    let mut headers: Vec<[u64; 8]> =
        pieces.iter().map(|piece| [0, 0, piece.as_ptr() as u64, 1, 0, 0, 0, 0]).collect();
    t.call("recvmmsg", sys!(SYS_recvmmsg, a, headers.as_mut_ptr(), 4, libc::MSG_DONTWAIT, 0));
    t.note("lengths", headers.iter().map(|header| header[7]).collect::<Vec<_>>());
    t.note("texts", room.map(|room| lossy(&room).trim_end_matches('\0').to_owned()));
    t.call("nothing", sys!(SYS_recvmmsg, a, headers.as_mut_ptr(), 4, libc::MSG_DONTWAIT, 0));
    Ok(())
}

fn timestamps(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 9600);
    bind(a, &place);
    for name in [29, 35, 63, 64] {
        t.call(&format!("{name}"), set_number(a, 1, name, 1));
        send_to(b, b"x", 0, &place);
        let got = receive(a, 10, 0);
        t.note(
            "  got",
            got.map(|got| got.control.iter().map(|one| (one.0, one.1, one.2.len())).collect::<Vec<_>>()),
        );
        set_number(a, 1, name, 0);
    }
    Ok(())
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An ICMP echo request.
fn echo(kind: u8, identifier: u16, text: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], &identifier.to_be_bytes(), &[0, 1], text].concat();
    let sum = sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A packet of IPv4 in words: what differs from run to run is left out.
fn packet_4(bytes: &[u8]) -> String {
    let Some(header) = bytes.get(..20) else { return format!("{bytes:?}") };
    format!(
        "{:#x} tos {} length {} df {} ttl {} protocol {} {:?} > {:?} | {:?}",
        header[0],
        header[1],
        u16::from_be_bytes([header[2], header[3]]),
        header[6] >> 6,
        header[8],
        header[9],
        &header[12..16],
        &header[16..20],
        &bytes[20..]
    )
}

fn raw(family: i32, protocol: i32) -> Result<i32, crate::case::Failure> {
    let fd = socket(family, libc::SOCK_RAW, protocol)?;
    limit(fd);
    Ok(fd)
}

fn raw_4(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = raw(V4, 200)?;
    let other = raw(V4, 200)?;
    let another = raw(V4, 201)?;
    t.note("names", (local(fd), peer(fd)));
    t.call("send", send_to(fd, b"hello", 0, &address("127.0.0.1", 99)));
    for fd in [fd, other, another] {
        let got = receive(fd, 100, libc::MSG_DONTWAIT);
        t.note("got", got.map(|got| (packet_4(&got.bytes), shown(&got.from))));
    }
    t.call("nowhere", send_to(fd, b"x", 0, &[]));
    t.call("short address", send_to(fd, b"x", 0, &address("127.0.0.1", 0)[..8]));
    t.call("another family", send_to(fd, b"x", 0, &address("::1", 0)));
    t.call("too long", send_to(fd, &vec![0; 65_516], 0, &address("127.0.0.1", 0)));
    t.call("far too long", send_to(fd, &vec![0; 65_536], 0, &address("127.0.0.1", 0)));
    t.call("urgent", send_to(fd, b"x", libc::MSG_OOB, &address("127.0.0.1", 0)));
    t.note("urgent", receive(fd, 10, libc::MSG_OOB | libc::MSG_DONTWAIT).map(|got| got.count));
    t.call("bind to a foreign address", bind(fd, &address("10.9.9.9", 0)));
    t.call("bind", bind(fd, &address("127.0.0.2", 5)));
    t.note("name", local(fd));
    send_to(other, b"to 1", 0, &address("127.0.0.1", 0));
    send_to(other, b"to 2", 0, &address("127.0.0.2", 0));
    while let Ok(got) = receive(fd, 100, libc::MSG_DONTWAIT) {
        t.note("got", lossy(&got.bytes[20..]));
    }
    t.call("bind again", bind(fd, &address("127.0.0.3", 5)));
    t.note("name", local(fd));
    Ok(())
}

fn raw_6(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (fd, other) = (raw(V6, 200)?, raw(V6, 200)?);
    t.note("names", (local(fd), peer(fd)));
    t.call("send", send_to(fd, b"hello", 0, &address("::1", 0)));
    for fd in [fd, other] {
        t.note("got", receive(fd, 100, libc::MSG_DONTWAIT));
    }
    t.call("with the protocol as port", send_to(fd, b"x", 0, &address("::1", 200)));
    t.call("with another port", send_to(fd, b"x", 0, &address("::1", 99)));
    t.call("nowhere", send_to(fd, b"x", 0, &[]));
    t.call("short address", send_to(fd, b"x", 0, &address("::1", 0)[..8]));
    t.call("an IPv4 address", send_to(fd, b"x", 0, &address("127.0.0.1", 0)));
    t.call("a mapped address", send_to(fd, b"x", 0, &address("::ffff:127.0.0.1", 0)));
    t.call("bind to a mapped address", bind(fd, &address("::ffff:127.0.0.1", 0)));
    t.call("bind to a foreign address", bind(fd, &address("2001:db8::9", 0)));
    t.call("bind", bind(fd, &address("::1", 0)));
    t.note("name", local(fd));
    Ok(())
}

fn raw_headers(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (listener, fd) = (raw(V4, 202)?, raw(V4, 255)?);
    t.note("at first", get_number(fd, SOL_IP, 3));
    t.note("of another protocol", get_number(listener, SOL_IP, 3));
    let mut packet = vec![0x45, 0x08, 0, 99, 0, 0, 0, 0, 9, 202, 1, 2, 0, 0, 0, 0, 127, 0, 0, 1];
    packet.extend(b"made by hand");
    t.call("send", send_to(fd, &packet, 0, &address("127.0.0.1", 0)));
    let got = receive(listener, 100, libc::MSG_DONTWAIT);
    t.note("got", got.map(|got| (packet_4(&got.bytes), sum(&got.bytes[..20]))));
    packet[12..16].copy_from_slice(&[127, 0, 0, 7]);
    t.call("with a source", send_to(fd, &packet, 0, &address("127.0.0.1", 0)));
    t.note("got", receive(listener, 100, libc::MSG_DONTWAIT).map(|got| packet_4(&got.bytes)));
    t.call("too short", send_to(fd, &packet[..19], 0, &address("127.0.0.1", 0)));
    packet[0] = 0x4f;
    t.call("a header longer than it", send_to(fd, &packet, 0, &address("127.0.0.1", 0)));
    t.call("too long", send_to(fd, &vec![0x45; 65_536], 0, &address("127.0.0.1", 0)));
    t.note("reading from IPPROTO_RAW", receive(fd, 10, libc::MSG_DONTWAIT));
    t.call("switch on", set_number(listener, SOL_IP, 3, 1));
    t.note("is", get_number(listener, SOL_IP, 3));
    Ok(())
}

fn raw_connected(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (fd, other) = (raw(V4, 203)?, raw(V4, 203)?);
    t.call("connect", connect(fd, &address("127.0.0.2", 7)));
    t.note("names", (local(fd), peer(fd)));
    t.call("send", send_to(fd, b"x", 0, &[]));
    bind(other, &address("127.0.0.2", 0));
    send_to(other, b"from the peer", 0, &address("127.0.0.1", 0));
    let stranger = raw(V4, 203)?;
    send_to(stranger, b"from another", 0, &address("127.0.0.1", 0));
    while let Ok(got) = receive(fd, 100, libc::MSG_DONTWAIT) {
        t.note("got", lossy(&got.bytes[20..]));
    }
    t.call("disconnect", connect(fd, &[0; 16]));
    t.note("names", (local(fd), peer(fd)));
    t.call("connect to no route", connect(fd, &address("10.9.9.9", 0)));
    Ok(())
}

fn raw_filters(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (fd, plain) = (raw(V4, 1)?, raw(V4, 200)?);
    t.note("at first", get_number(fd, 255, 1));
    t.call("only replies", set_number(fd, 255, 1, !1));
    t.note("is", get_number(fd, 255, 1));
    t.call("short", set(fd, 255, 1, &[0, 0]));
    t.note("is", get_number(fd, 255, 1));
    set_number(fd, 255, 1, !1);
    t.call("of another protocol", set_number(plain, 255, 1, 0));
    t.note("of another protocol", get_number(plain, 255, 1));
    t.call("unknown", set_number(fd, 255, 99, 0));
    t.call("ping", send_to(fd, &echo(8, 7, b"data"), 0, &address("127.0.0.1", 0)));
    while let Ok(got) = receive(fd, 100, libc::MSG_DONTWAIT) {
        t.note("got", &got.bytes[20..]);
    }
    let six = raw(V6, 58)?;
    t.note("ICMPv6 at first", get(six, 58, 1, 32));
    let mut all = [0xff_u8; 32];
    all[129 / 8] &= !(1 << (129 % 8));
    t.call("only replies", set(six, 58, 1, &all));
    t.call("ping", send_to(six, &echo(128, 7, b"data"), 0, &address("::1", 0)));
    while let Ok(got) = receive(six, 100, libc::MSG_DONTWAIT) {
        t.note("got", (got.bytes[0], got.bytes.len()));
    }
    t.call("unknown", set_number(six, 58, 99, 0));
    let other = raw(V6, 200)?;
    t.call("of another protocol", set(other, 58, 1, &all));
    Ok(())
}

fn raw_errors(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = raw(V4, 204)?;
    connect(fd, &address("127.0.0.1", 0));
    let mut netlink = crate::netlink::Socket::route()?;
    let mtu = crate::netlink::Builder::link(1, 0, 0).number(4, 1500);
    t.note("mtu 1500", netlink.errno(crate::netlink::SETLINK, 0, &mtu));
    set_number(fd, SOL_IP, 11, 1);
    set_number(fd, SOL_IP, 10, 2);
    t.call("too long for one packet", send_to(fd, &[0; 1500], 0, &[]));
    t.note("report", receive(fd, 10, libc::MSG_ERRQUEUE));
    let udp = raw(V4, 17)?;
    set_number(udp, SOL_IP, 11, 1);
    let datagram = [0x30, 0x39, 0x30, 0x3a, 0, 9, 0, 0, b'x'];
    t.call("a datagram for nobody", send_to(udp, &datagram, 0, &address("127.0.0.1", 0)));
    let report = receive(udp, 100, libc::MSG_ERRQUEUE);
    t.note("report", report.map(|got| (got.bytes.len(), got.control)));
    Ok(())
}

fn raw_checksums(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (fd, listener, icmp) = (raw(V6, 205)?, raw(V6, 205)?, raw(V6, 58)?);
    for fd in [fd, icmp] {
        t.note("at first", (get_number(fd, SOL_IPV6, 7), get_number(fd, 255, 7)));
        for value in [0, 1, 2, -1, -5] {
            t.call(&format!("IPv6 {value}"), set_number(fd, SOL_IPV6, 7, value));
            t.call(&format!("raw {value}"), set_number(fd, 255, 7, value));
            t.note("  is", get_number(fd, SOL_IPV6, 7));
        }
    }
    set_number(fd, SOL_IPV6, 7, 2);
    t.call("send", send_to(fd, b"abcdefgh", 0, &address("::1", 0)));
    t.note("got", receive(listener, 100, libc::MSG_DONTWAIT).map(|got| got.bytes));
    t.call("too short", send_to(fd, b"abc", 0, &address("::1", 0)));
    set_number(fd, SOL_IPV6, 7, -1);
    t.call("off", send_to(fd, b"abcdefgh", 0, &address("::1", 0)));
    t.note("got", receive(listener, 100, libc::MSG_DONTWAIT).map(|got| got.bytes));
    let udp = udp(V6)?;
    t.call("of UDP", set_number(udp, SOL_IPV6, 7, 2));
    Ok(())
}

const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";

fn ping_permission(t: &mut Transcript) -> Outcome {
    isolated()?;
    t.note("range", std::fs::read_to_string(PING_GROUPS).ok());
    for family in [V4, V6] {
        let protocol = if family == V4 { 1 } else { 58 };
        t.works("at first", sys!(SYS_socket, family, 2, protocol));
    }
    for text in ["0 0", "5 10", "10 5", "0 4294967294", "x", "-1 5"] {
        t.note(text, std::fs::write(PING_GROUPS, text).map_err(|error| error.raw_os_error()));
        t.note("  is", std::fs::read_to_string(PING_GROUPS).ok());
        t.works("  socket", sys!(SYS_socket, V4, 2, 1));
    }
    Ok(())
}

fn ping(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let _ = std::fs::write(PING_GROUPS, "0 0");
    let (protocol, request) = if family == V4 { (1, 8) } else { (58, 128) };
    let fd = socket(family, libc::SOCK_DGRAM, protocol)?;
    limit(fd);
    t.note("name", local(fd));
    t.call("bind", bind(fd, &address(any(family), 77)));
    t.note("name", local(fd));
    let other = socket(family, libc::SOCK_DGRAM, protocol)?;
    t.call("the same identifier", bind(other, &address(any(family), 77)));
    t.call("at another address", bind(other, &address(loopback(family), 77)));
    // Of those with one identifier the latest gets what comes: not this one.
    t.call("send", send_to(fd, &echo(request, 5, b"data"), 0, &address(loopback(family), 0)));
    t.note("got", receive(fd, 100, libc::MSG_DONTWAIT).map(|got| (got.bytes, shown(&got.from))));
    t.call("connect", connect(fd, &address(loopback(family), 0)));
    t.call("send connected", send_to(fd, &echo(request, 5, b""), 0, &[]));
    t.note("got", receive(fd, 100, libc::MSG_DONTWAIT).map(|got| (got.bytes, shown(&got.from))));
    let (level, ttl) = if family == V4 { (SOL_IP, 12) } else { (SOL_IPV6, 51) };
    set_number(fd, level, ttl, 1);
    send_to(fd, &echo(request, 5, b""), 0, &[]);
    t.note("told", receive(fd, 100, libc::MSG_DONTWAIT).map(|got| got.control));
    Ok(())
}

/// What the latest of two with one identifier gets, and the other when it is alone.
fn ping_latest(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let _ = std::fs::write(PING_GROUPS, "0 0");
    let (protocol, request) = if family == V4 { (1, 8) } else { (58, 128) };
    let (fd, other) =
        (socket(family, libc::SOCK_DGRAM, protocol)?, socket(family, libc::SOCK_DGRAM, protocol)?);
    for fd in [fd, other] {
        t.call("bind", bind(fd, &address(any(family), 77)));
    }
    t.call("connect", connect(fd, &address(loopback(family), 0)));
    let (level, ttl) = if family == V4 { (SOL_IP, 12) } else { (SOL_IPV6, 51) };
    set_number(fd, level, ttl, 1);
    t.call("send", send_to(fd, &echo(request, 5, b"data"), 0, &[]));
    while let Ok(got) = receive(other, 100, libc::MSG_DONTWAIT) {
        t.note("the other got", (got.bytes, shown(&got.from)));
    }
    close(other);
    send_to(fd, &echo(request, 5, b"alone"), 0, &[]);
    t.note(
        "alone",
        receive(fd, 100, libc::MSG_DONTWAIT).map(|got| (got.bytes, shown(&got.from), got.control)),
    );
    Ok(())
}

fn ping_errors(t: &mut Transcript) -> Outcome {
    isolated()?;
    let _ = std::fs::write(PING_GROUPS, "0 0");
    let fd = socket(V4, libc::SOCK_DGRAM, 1)?;
    let place = address("127.0.0.1", 0);
    t.call("nothing", send_to(fd, b"", 0, &place));
    t.call("seven bytes", send_to(fd, &echo(8, 1, b"")[..7], 0, &place));
    t.call("a reply", send_to(fd, &echo(0, 1, b""), 0, &place));
    t.call("a timestamp", send_to(fd, &echo(13, 1, b""), 0, &place));
    let mut code = echo(8, 1, b"");
    code[1] = 1;
    t.call("with a code", send_to(fd, &code, 0, &place));
    t.call("nowhere", send_to(fd, &echo(8, 1, b""), 0, &[]));
    t.call("another family", send_to(fd, &echo(8, 1, b""), 0, &address("::1", 0)));
    t.call("urgent", send_to(fd, &echo(8, 1, b""), libc::MSG_OOB, &place));
    t.call("too long", send_to(fd, &vec![8; 65_536], 0, &place));
    t.call("no route", send_to(fd, &echo(8, 1, b""), 0, &address("10.9.9.9", 0)));
    t.call("bind to a foreign address", bind(fd, &address("10.9.9.9", 1)));
    let six = socket(V6, libc::SOCK_DGRAM, 58)?;
    t.call("an IPv4 address", send_to(six, &echo(128, 1, b""), 0, &place));
    t.call("a mapped address", send_to(six, &echo(128, 1, b""), 0, &address("::ffff:127.0.0.1", 0)));
    t.call("bind to a mapped address", bind(six, &address("::ffff:127.0.0.1", 0)));
    t.call("a request of IPv4", send_to(six, &echo(8, 1, b""), 0, &address("::1", 0)));
    Ok(())
}

/// The lines of a table without inode, references and addresses of the kernel.
fn table(t: &mut Transcript, name: &str) {
    let text = std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    t.note(name, text.lines().next());
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let shown = fields.get(1..9).unwrap_or_default();
        t.note(name, (shown, fields.last()));
    }
}

fn tables(t: &mut Transcript) -> Outcome {
    isolated()?;
    for name in ["udp", "udp6", "raw", "raw6", "icmp", "icmp6"] {
        table(t, name);
    }
    let (four, six, connected) = (udp(V4)?, udp(V6)?, udp(V4)?);
    bind(four, &address("127.0.0.1", 9700));
    bind(six, &address("::1", 9701));
    connect(connected, &address("127.0.0.1", 9700));
    bind(connected, &address("127.0.0.1", 9702));
    let (_raw, _raw6) = (raw(V4, 200)?, raw(V6, 201)?);
    table(t, "udp6");
    table(t, "raw");
    table(t, "raw6");
    let fresh = udp(V4)?;
    let text = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    t.note("lines", text.lines().count());
    close(fresh);
    close(connected);
    sleep_ms(10);
    table(t, "udp");
    Ok(())
}
