//! Internet sockets, continued: options after bind(2), IP options, what datagrams cost, aborting sockets from outside, `/proc/net`.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::inet_help::*;
use crate::netlink::{ACK, Builder, Message, Socket};
use crate::sys::{close, in_child};
use crate::unix_help::{cmsg, poll_events};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("inet_reuse_after_bind", reuse_after_bind),
    ("inet_reuse_by_default", reuse_by_default),
    ("inet_udp_costs_4", |t| costs(t, V4)),
    ("inet_udp_costs_6", |t| costs(t, V6)),
    ("inet_udp_bad_checksum", bad_checksum),
    ("inet_udp_probe_4", |t| probe(t, V4)),
    ("inet_udp_probe_6", |t| probe(t, V6)),
    ("inet_ip_options", ip_options),
    ("inet_ip_options_sent", ip_options_sent),
    ("inet_ip_options_told", ip_options_told),
    ("inet_ip_options_unprivileged", ip_options_unprivileged),
    ("diag_destroy", destroy),
    ("inet_sockstat", sockstat),
    ("inet_netstat", netstat),
];

fn reuse_after_bind(t: &mut Transcript) -> Outcome {
    isolated()?;
    for (port, name) in [(7001, libc::SO_REUSEADDR), (7002, libc::SO_REUSEPORT)] {
        let place = address("127.0.0.1", port);
        let (a, b, c, d) = (udp(V4)?, udp(V4)?, udp(V4)?, udp(V4)?);
        t.call("bind", bind(a, &place));
        for fd in [b, c, d] {
            set_number(fd, 1, name, 1);
        }
        t.call("another", bind(b, &place));
        t.call("on", set_number(a, 1, name, 1));
        t.call("another", bind(b, &place));
        t.call("off", set_number(a, 1, name, 0));
        t.call("a third", bind(c, &place));
        t.call("off for the other too", set_number(b, 1, name, 0));
        t.call("on for the first", set_number(a, 1, name, 1));
        t.call("a third", bind(c, &place));
        close(b);
        t.call("the other is gone", bind(d, &place));
    }
    Ok(())
}

fn reuse_by_default(t: &mut Transcript) -> Outcome {
    isolated()?;
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0");
    for (family, kind, protocol) in
        [(V4, 2, 17), (V4, 2, 1), (V4, 3, 200), (V6, 2, 17), (V6, 2, 58), (V6, 3, 200)]
    {
        let fd = socket(family, kind, protocol)?;
        t.note("reuses addresses", (family, kind, protocol, get_number(fd, 1, libc::SO_REUSEADDR)));
        t.note("  IPV6_V6ONLY, IP_MULTICAST_ALL", (get_number(fd, SOL_IPV6, 26), get_number(fd, SOL_IP, 49)));
        close(fd);
    }
    Ok(())
}

/// What waits for a socket as SO_MEMINFO counts it, for datagrams of many sizes.
fn costs(t: &mut Transcript, family: i32) -> Outcome {
    isolated()?;
    let place = address(loopback(family), 7100);
    for size in [
        0, 1, 100, 200, 250, 300, 350, 400, 500, 600, 700, 1000, 1400, 2000, 3000, 4000, 8000, 16_000,
        20_000, 40_000, 60_000,
    ] {
        let (a, b) = (udp(family)?, udp(family)?);
        bind(a, &place);
        send_to(b, &vec![b'x'; size], 0, &place);
        let memory = get(a, 1, 55, 36).map(|bytes| bytes.first_chunk().map(|word| u32::from_ne_bytes(*word)));
        t.note(&format!("{size}"), memory);
        close(a);
        close(b);
    }
    let raw = socket(V4, 3, 200)?;
    send_to(raw, &[b'x'; 100], 0, &address("127.0.0.1", 0));
    let memory = get(raw, 1, 55, 36).map(|bytes| bytes.first_chunk().map(|word| u32::from_ne_bytes(*word)));
    t.note("raw", memory);
    for limit in [4000, 10_000] {
        for size in [10, 1000, 3000] {
            let (a, b) = (udp(family)?, udp(family)?);
            set_number(a, 1, libc::SO_RCVBUF, limit);
            bind(a, &place);
            (0..100).for_each(|_| _ = send_to(b, &vec![b'x'; size], 0, &place));
            let count = std::iter::from_fn(|| receive(a, 10, libc::MSG_DONTWAIT).ok()).count();
            t.note(&format!("a buffer of {limit} holds of {size}"), count);
            close(a);
            close(b);
        }
    }
    Ok(())
}

/// A datagram made by hand whose checksum is wrong, or is none.
fn bad_checksum(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (listener, raw) = (udp(V4)?, socket(V4, 3, 17)?);
    bind(listener, &address("127.0.0.1", 7200));
    let (mut datagram, to) =
        (vec![0, 9, 0x1c, 0x20, 0, 12, 0, 0, b't', b'e', b'x', b't'], address("127.0.0.1", 0));
    t.call("none", send_to(raw, &datagram, 0, &to));
    t.note("got", receive(listener, 10, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    datagram[7] = 1;
    t.call("wrong", send_to(raw, &datagram, 0, &to));
    t.note("got", receive(listener, 10, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    datagram[5] = 13;
    t.call("longer than it is", send_to(raw, &datagram, 0, &to));
    t.note("got", receive(listener, 10, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).collect();
    let [names, values] = lines[..] else { return Ok(()) };
    for (name, value) in names.split(' ').zip(values.split(' ')) {
        if ["InDatagrams", "NoPorts", "InErrors", "InCsumErrors"].contains(&name) {
            t.note(name, value);
        }
    }
    Ok(())
}

/// MSG_PROBE: whether there is a way; nothing is sent, and what was collected stays.
fn probe(t: &mut Transcript, family: i32) -> Outcome {
    const PROBE: i32 = libc::MSG_CONFIRM | 0x10;
    isolated()?;
    let (a, b) = (udp(family)?, udp(family)?);
    let place = address(loopback(family), 7110);
    bind(a, &place);
    let all = |t: &mut Transcript| {
        while let Ok(got) = receive(a, 100, libc::MSG_DONTWAIT) {
            t.note("  got", lossy(&got.bytes));
        }
    };
    for (what, flags) in [("probe", 0x10), ("confirm and probe", PROBE), ("and more", PROBE | libc::MSG_MORE)]
    {
        for bytes in [&b""[..], b"text"] {
            t.call(what, send_to(b, bytes, flags, &place));
            all(t);
        }
    }
    t.call("more", send_to(b, b"begin ", libc::MSG_MORE, &place));
    t.call("empty probe, more", send_to(b, b"", PROBE | libc::MSG_MORE, &place));
    all(t);
    t.call("text probe, more", send_to(b, b"text", PROBE | libc::MSG_MORE, &place));
    all(t);
    t.call("empty probe", send_to(b, b"", PROBE, &place));
    all(t);
    t.call("cork", set_number(b, 17, 1, 1));
    t.call("part", send_to(b, b"begin ", 0, &place));
    t.call("probe", send_to(b, b"", PROBE, &place));
    t.call("part", send_to(b, b"end", 0, &place));
    t.call("uncork", set_number(b, 17, 1, 0));
    all(t);
    Ok(())
}

const RECORD: &[u8] = &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0];
const STAMPS: &[u8] = &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const LOOSE: &[u8] = &[131, 7, 4, 127, 0, 0, 1];

fn ip_options(t: &mut Transcript) -> Outcome {
    isolated()?;
    for (what, value) in [
        ("none", &[][..]),
        ("an end", &[0]),
        ("fillers", &[1, 1, 1]),
        ("an end and more", &[0, 7, 3, 4]),
        ("a recorded route", RECORD),
        ("with its first filled", &[7, 11, 8, 127, 0, 0, 1, 0, 0, 0, 0]),
        ("with no room left", &[7, 7, 8, 1, 2, 3, 4]),
        ("with a pointer too small", &[7, 7, 3, 0, 0, 0, 0]),
        ("with a pointer too large", &[7, 7, 9, 0, 0, 0, 0]),
        ("too short", &[7, 2]),
        ("twice", &[7, 3, 4, 7, 3, 4]),
        ("longer than there is", &[7, 11, 4, 0]),
        ("no length", &[7]),
        ("timestamps", STAMPS),
        ("with addresses", &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("of those asked", &[68, 12, 5, 3, 127, 0, 0, 1, 0, 0, 0, 0]),
        ("with a pointer too small", &[68, 8, 4, 0, 0, 0, 0, 0]),
        ("with a length that is none", &[68, 3, 5]),
        ("a loose source route", LOOSE),
        ("a strict one", &[137, 7, 4, 127, 0, 0, 1]),
        ("a strict one to elsewhere", &[137, 11, 4, 127, 0, 0, 1, 10, 9, 9, 9]),
        ("both", &[131, 7, 4, 127, 0, 0, 1, 137, 7, 4, 127, 0, 0, 1]),
        ("a route with a pointer beyond", &[131, 7, 8, 127, 0, 0, 1]),
        ("a router alert", &[148, 4, 0, 0]),
        ("a long one", &[148, 5, 0, 0, 0]),
        ("a label", &[134, 6, 0, 0, 0, 1]),
        ("an unknown one", &[99, 4, 1, 2]),
        ("an unknown one of length 1", &[99, 1]),
        ("of 40 bytes", &[1; 40]),
        ("of 41 bytes", &[1; 41]),
    ] {
        let fd = udp(V4)?;
        t.call(what, set(fd, SOL_IP, 4, value));
        t.note("  is", get(fd, SOL_IP, 4, 44));
        t.note("  into 3", get(fd, SOL_IP, 4, 3));
        close(fd);
    }
    let fd = udp(V4)?;
    t.call("set", set(fd, SOL_IP, 4, RECORD));
    t.call("away", set(fd, SOL_IP, 4, &[]));
    t.note("is", get(fd, SOL_IP, 4, 44));
    Ok(())
}

/// The part of a packet's header behind its first 20 bytes; times are left out.
fn options_of(packet: &[u8]) -> Vec<u8> {
    let length = usize::from(packet.first().copied().unwrap_or_default() & 0xf) * 4;
    packet.get(20..length).unwrap_or_default().to_vec()
}

fn ip_options_sent(t: &mut Transcript) -> Outcome {
    isolated()?;
    let listener = socket(V4, 3, 17)?;
    limit(listener);
    let place = address("127.0.0.1", 7300);
    let receiver = udp(V4)?;
    bind(receiver, &place);
    for (what, value) in
        [("record", RECORD), ("loose", LOOSE), ("alert", &[148, 4, 0, 0]), ("fillers", &[1, 1, 1])]
    {
        let fd = udp(V4)?;
        t.call(what, set(fd, SOL_IP, 4, value));
        t.call("  send", send_to(fd, b"text", 0, &place));
        let got = receive(listener, 200, libc::MSG_DONTWAIT);
        t.note(
            "  options",
            got.map(|got| (options_of(&got.bytes), got.bytes[16..20].to_vec(), got.bytes.len())),
        );
        t.note("  got", receive(receiver, 200, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
        close(fd);
    }
    let fd = udp(V4)?;
    for (what, value) in
        [("record", RECORD), ("empty", &[][..]), ("bad", &[7, 2]), ("an unknown one", &[99, 4, 1, 2])]
    {
        t.call(what, send_control(fd, b"text", &place, &cmsg(SOL_IP, 7, value), 0));
        let got = receive(listener, 200, libc::MSG_DONTWAIT);
        t.note("  options", got.map(|got| options_of(&got.bytes)));
        t.note("  got", receive(receiver, 200, libc::MSG_DONTWAIT).map(|got| lossy(&got.bytes)));
    }
    set(fd, SOL_IP, 4, &[1, 1, 1, 1]);
    t.call("another than the socket's", send_control(fd, b"text", &place, &cmsg(SOL_IP, 7, RECORD), 0));
    t.note("  options", receive(listener, 200, libc::MSG_DONTWAIT).map(|got| options_of(&got.bytes)));
    // Of a long datagram each fragment has those that are to be copied.
    set(fd, SOL_IP, 4, &[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0]);
    t.call("long", send_to(fd, &[b'x'; 60_000], 0, &place));
    let got = receive(receiver, 65_000, libc::MSG_DONTWAIT);
    t.note("  got", got.map(|got| got.bytes.len()));
    t.call("the longest", send_to(fd, &vec![b'x'; 65_507], 0, &place));
    t.call("one that fits", send_to(fd, &vec![b'x'; 65_495], 0, &place));
    Ok(())
}

fn ip_options_told(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (a, b) = (udp(V4)?, udp(V4)?);
    let place = address("127.0.0.1", 7400);
    bind(a, &place);
    for (what, value) in
        [("none", &[][..]), ("record", RECORD), ("alert", &[148, 4, 0, 0]), ("fillers", &[1, 1, 1, 1])]
    {
        t.call(what, set(b, SOL_IP, 4, value));
        for name in [6, 7] {
            set_number(a, SOL_IP, name, 1);
            send_to(b, b"text", 0, &place);
            t.note("  told", receive(a, 100, libc::MSG_DONTWAIT).map(|got| got.control));
            set_number(a, SOL_IP, name, 0);
        }
    }
    Ok(())
}

fn ip_options_unprivileged(t: &mut Transcript) -> Outcome {
    isolated()?;
    let status = in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        let Ok(fd) = udp(V4) else { return 99 };
        let all: [&[u8]; 5] = [RECORD, STAMPS, LOOSE, &[148, 4, 0, 0], &[99, 4, 1, 2]];
        all.iter()
            .enumerate()
            .fold(0, |bits, (place, value)| bits | i32::from(set(fd, SOL_IP, 4, value) == 0) << place)
    })?;
    t.note("allowed", status);
    Ok(())
}

/// A request about one Internet socket: protocol, own address and port, whom it is connected to.
fn one(protocol: u8, ports: (u16, u16), to: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![2, protocol, 0, 0];
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(to);
    bytes.resize(48, 0);
    bytes.extend([0xff; 8]);
    bytes
}

/// SOCK_DESTROY.
fn destroy(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut netlink = Socket::new(4)?;
    let mut ask = |t: &mut Transcript, what: &str, kind: u16, request: &[u8]| {
        let answer = netlink.ask(kind, ACK, &Builder::default().raw(request));
        t.note(what, answer.iter().filter_map(Message::error).collect::<Vec<_>>());
    };
    let (bound, connected) = (udp(V4)?, udp(V4)?);
    bind(bound, &address("127.0.0.1", 7500));
    bind(connected, &address("127.0.0.1", 7501));
    connect(connected, &address("127.0.0.1", 7500));
    ask(t, "one that is there", 20, &one(17, (7500, 0), [0; 4]));
    ask(t, "one that is not", 20, &one(17, (7599, 0), [0; 4]));
    ask(t, "of TCP", 21, &one(6, (7500, 0), [0; 4]));
    ask(t, "none", 21, &one(17, (7599, 0), [0; 4]));
    ask(t, "another's", 21, &one(17, (7501, 7599), [127, 0, 0, 1]));
    t.note("poll", (poll_events(bound), poll_events(connected)));
    ask(t, "connected", 21, &one(17, (7501, 7500), [127, 0, 0, 1]));
    t.note("poll", poll_events(connected));
    t.note("names", (local(connected), peer(connected)));
    t.note("error", get_number(connected, 1, libc::SO_ERROR));
    t.note("poll", poll_events(connected));
    t.call("send", send_to(connected, b"x", 0, &[]));
    ask(t, "bound", 21, &one(17, (7500, 0), [0; 4]));
    t.note("names", (local(bound), peer(bound)));
    t.note("receive", receive(bound, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    t.note("receive again", receive(bound, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    let raw = socket(V4, 3, 200)?;
    let mut request = one(255, (200, 0), [0; 4]);
    request[12..16].fill(0);
    request.extend([8, 0, 2, 0, 200, 0, 0, 0]);
    ask(t, "raw", 21, &request);
    t.note("poll", poll_events(raw));
    t.note("error", get_number(raw, 1, libc::SO_ERROR));
    Ok(())
}

/// The lines of a table that has one line for each protocol.
fn lines(t: &mut Transcript, name: &str) {
    let text = std::fs::read_to_string(format!("/proc/net/{name}"));
    match text {
        Ok(text) => text.lines().for_each(|line| t.note(name, line)),
        Err(error) => t.note(name, error.raw_os_error()),
    }
}

fn sockstat(t: &mut Transcript) -> Outcome {
    isolated()?;
    // What is seen through this process is its own namespace.
    let ours = |t: &mut Transcript| {
        lines(t, "sockstat");
        lines(t, "sockstat6");
    };
    ours(t);
    let (four, six, connected) = (udp(V4)?, udp(V6)?, udp(V4)?);
    let (raw, raw6) = (socket(V4, 3, 200)?, socket(V6, 3, 200)?);
    let unix = socket(1, 2, 0)?;
    bind(four, &address("127.0.0.1", 7600));
    bind(six, &address("::1", 7600));
    connect(connected, &address("127.0.0.1", 7600));
    ours(t);
    for fd in [four, six, connected, raw, raw6, unix] {
        close(fd);
    }
    crate::sys::sleep_ms(100);
    ours(t);
    Ok(())
}

/// One table of names and values of `/proc/net/netstat`.
fn extensions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("IpExt: ")).collect();
    let [names, values] = lines[..] else { return Vec::new() };
    names.split(' ').map(str::to_owned).zip(values.split(' ').map(str::to_owned)).collect()
}

fn netstat(t: &mut Transcript) -> Outcome {
    isolated()?;
    for (name, value) in extensions() {
        t.note(&name, value);
    }
    let (a, b) = (udp(V4)?, udp(V4)?);
    bind(a, &address("0.0.0.0", 7700));
    set_number(b, 1, libc::SO_BROADCAST, 1);
    set(b, SOL_IP, 32, &[127, 0, 0, 1]);
    for (what, to, size, tos) in [
        ("one", "127.0.0.1", 100, 0),
        ("with congestion told", "127.0.0.1", 100, 3),
        ("able to", "127.0.0.1", 100, 2),
        ("otherwise", "127.0.0.1", 100, 1),
        ("to all", "127.255.255.255", 100, 0),
        ("a large one", "127.0.0.1", 65_507, 0),
    ] {
        set_number(b, SOL_IP, 1, tos);
        let before = extensions();
        t.call(what, send_to(b, &vec![b'x'; size], 0, &address(to, 7700)));
        for ((name, old), (_, new)) in before.iter().zip(extensions()) {
            if *old != new {
                t.note(&format!("  {name}"), new);
            }
        }
    }
    Ok(())
}
